"""`segstudy review`: labels to look at, corrected by hand, and on record."""

from argparse import ArgumentParser, Namespace

from segstudy.review import corrections, queue_command, steps

_EXAMPLES = """examples:
  segstudy review queue --study demo --control 20
  segstudy review open Patient_02 --study demo
  segstudy review accept p3 p3_corrected.nii.gz --study my/study.yaml --why "the heart ended at the valves"
  segstudy review accept p4 --unchanged --study my/study.yaml --why "right as it is"
  segstudy review preview --study my/study.yaml
  segstudy review undo p3 --study my/study.yaml --why "it was the neighbour's scan"
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the steps and their options."""
    parser.epilog = _EXAMPLES
    subparsers = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    queue_command.add_queue_parsers(subparsers)
    corrections.add_corrections_parsers(subparsers)
    steps.add_steps_parsers(subparsers)


def run(options: Namespace) -> None:
    """Run the step that the options name."""
    for part in (queue_command, steps):
        if options.step in part.STEPS:
            part.run(options)
            return
    corrections.run(options)
