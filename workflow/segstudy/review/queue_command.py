"""`segstudy review queue | open`: which labels to look at, and a case of them in an editor."""

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from segstudy.correction_records import QUEUE
from segstudy.review.editor import EDITORS

STEPS = ("queue", "open")


def add_queue_parsers(steps: Any) -> None:
    """Add `queue` and `open` to the steps of `segstudy review`."""
    step = steps.add_parser(
        "queue",
        help="rank the cases of a study by how suspicious their labels are",
        description="Rank cases by how far their labels lie from what models say that have not seen them, and write "
        "review/queue.csv, scores.csv and queue.html into the study's results. Nothing is trained or predicted.",
    )
    add_study(step)
    step.add_argument(
        "--length", type=int, metavar="N", help="cases to review (default: a fifth of those judged)"
    )
    step.add_argument(
        "--control",
        type=int,
        default=0,
        metavar="N",
        help="mix in N of the other cases, drawn at random: without them nobody can tell how many faults the cohort has",
    )
    step.add_argument("--seed", type=int, default=0, help="of that draw (0)")
    step.add_argument(
        "--show-consensus",
        action="store_true",
        help="draw what models see into the pictures; this unblinds the review, and is put on record",
    )
    step = steps.add_parser(
        "open",
        help="open a case in 3D Slicer, ITK-SNAP or napari, at the place to look at",
        description="Open image and label of a case, with the cursor at the place that the queue names, in the first of 3D Slicer, "
        "ITK-SNAP and napari that is on the PATH; without any, print the command. The label is a copy: delivered files stay "
        "as they are. No prediction is shown, since correcting a tested label towards a model favours that model.",
    )
    step.add_argument("case", metavar="CASE", help="its name in the results, or DATASET/CASE")
    add_study(step)
    step.add_argument("--with", dest="editor", choices=EDITORS, help="this editor, and no other")
    step.add_argument(
        "--show-consensus",
        action="store_true",
        help="what models see as another layer; this unblinds the review, and is put on record",
    )
    step.add_argument(
        "--fresh", action="store_true", help="copy the label anew, over what was edited before"
    )


def add_study(step: ArgumentParser) -> None:
    """Add the options that name a study to a step."""
    step.add_argument(
        "--study", required=True, metavar="STUDY", help="a name in config/studies, or a study file"
    )
    step.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="as for snakemake, e.g. results=DIR, path=DIR",
    )


def run(options: Namespace) -> None:
    """Run the step that the options name."""
    {"queue": _queue, "open": _open}[options.step](options)


def held_out(options: Namespace):
    """Return the predictions of the study that the options name."""
    from segstudy.jobs.results import ResultPaths
    from segstudy.preview_command import config_of, results_folder
    from segstudy.review.held_out import HeldOut
    from segstudy.start import chosen_study

    config = config_of(options)
    study, _ = chosen_study(config)
    return HeldOut(study, ResultPaths(results_folder(config, study.name)), options.study)


def _queue(options: Namespace) -> None:
    from segstudy.errors import InputError
    from segstudy.files import make_folder
    from segstudy.review.opening import put_on_record
    from segstudy.review.page import write_page
    from segstudy.review.study_queue import Asked, build, write_tables
    from segstudy.words import count

    if options.control < 0 or options.seed < 0:
        raise InputError(
            f"--control {options.control} --seed {options.seed}: expected 0 or more of each"
        )
    shown = options.show_consensus
    predicted = held_out(options)
    entries = build(predicted, Asked(options.length, options.control, options.seed))
    folder = Path(predicted.paths.review)
    make_folder(folder)
    write_tables(folder, entries)
    if shown:
        picked = [one.judged for one in entries if one.order]
        put_on_record(
            folder, [(one.dataset, one.case.case, "page", "", "", "shown") for one in picked]
        )
    write_page(folder, predicted, entries, shown)
    print(f"{count(len(entries), 'case')} judged; up for review, most suspicious first:")
    for one in [entry for entry in entries if entry.picked_by == QUEUE][:10]:
        print(f"  {one.judged.name}: {one.suspicion.reason}")
    print(f"{folder / 'queue.html'} has {sum(bool(one.order) for one in entries)}, with pictures")


def _open(options: Namespace) -> None:
    from segstudy.review.editor import ITKSNAP, SLICER
    from segstudy.review.opening import find, open_case

    predicted = held_out(options)
    opened = open_case(
        predicted,
        find(predicted, options.case),
        options.editor,
        options.show_consensus,
        options.fresh,
    )
    task = opened.task
    if opened.goes_on:
        in_slicer = opened.editor == SLICER and task.was_saved_by_slicer
        kept = task.slicer_file if in_slicer else task.label
        print(f"goes on with {kept}, as it was left; --fresh starts from the study's label")
        if task.was_saved_by_slicer and not in_slicer:
            print(f"what Slicer saved later is not in it: {task.slicer_file}")
    print(("started: " if opened.started else "no editor is installed; the command is: ")
          + shlex.join(opened.words))  # fmt: skip
    if opened.editor == ITKSNAP:
        print(f"go to voxel {', '.join(str(one + 1) for one in task.voxel)}, as ITK-SNAP counts")
    saved = task.slicer_file if opened.editor == SLICER else task.label
    how = "save() in its Python console writes" if opened.editor == SLICER else "save to"
    print(f"{how} {saved}; then: segstudy review accept {shlex.quote(task.name)} {shlex.quote(str(saved))} "
          f"--study {shlex.quote(options.study)} --why \"...\"")  # fmt: skip
