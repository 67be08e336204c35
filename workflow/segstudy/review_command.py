"""`segstudy review`: labels to look at, corrected by hand, and on record."""

from argparse import ArgumentParser, Namespace

from segstudy.review import queue_command

_EXAMPLES = """examples:
  segstudy review queue --study demo --control 1
  segstudy review open Patient_02 --study demo
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the steps and their options."""
    parser.epilog = _EXAMPLES
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    queue_command.add_queue_parsers(steps)


def run(options: Namespace) -> None:
    """Run the step that the options name."""
    queue_command.run(options)
