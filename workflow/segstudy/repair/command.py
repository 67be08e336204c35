"""`segstudy repair estimate | apply | audit | simulate`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the steps and their options."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    step = steps.add_parser(
        "estimate",
        help="find how a structure was moved, from the reference case or from the images",
    )
    _add_dataset(step)

    step = steps.add_parser("apply", help="move the structure of each case back, with a verdict")
    _add_dataset(step)
    step.add_argument("--select", nargs="+", metavar="CASE", help="these cases only")
    step.add_argument("--transform", type=Path, required=True, help="transform.json of `estimate`")

    step = steps.add_parser(
        "audit",
        help="flag labels that do not fit the rest of their cohort",
        description="Flag labels that are shifted, flipped, rotated, in another orientation, with "
        "swapped numbers, stray pieces or holes, empty, cut off at the border, or of another form than "
        "in the other cases: a part missing, an outline too wide or too narrow, or a size out of range "
        "(from 12 cases of a structure on). No reference is needed; a fault that most of the cohort "
        "shares is not seen. Writes faults.csv.",
    )
    step.add_argument("--cases", type=Path, help="case table of the dataset")
    step.add_argument("--images", type=Path, help="or a folder of images, one file a case")
    step.add_argument(
        "--labels",
        type=Path,
        help="with --cases: folder of repaired labels, in place of those delivered; with --images: "
        "folder of labels, named like the images",
    )
    step.add_argument("--settings", help="with --cases: the cohort's settings, as JSON")
    step.add_argument("--structures", help="with --images: JSON {name: value in the label files}")
    step.add_argument("--output", type=Path, required=True, help="folder to write")
    step.add_argument("--threads", type=int, default=1)

    step = steps.add_parser(
        "simulate",
        aliases=["tamper"],  # its name before 0.2.0
        help="corrupt label files, to test a repair against a known answer",
        description="Move one structure of each label file as SegTHOR's was moved: output to input "
        "on stored voxel indices, nearest neighbour, overwriting others.",
    )
    step.add_argument(
        "labels", nargs="+", type=Path, metavar="LABEL", help="label files or folders"
    )
    step.add_argument("--value", type=int, required=True, help="the structure's value in the files")
    step.add_argument(
        "--matrix",
        help="4x4 matrix as JSON; left out: SegTHOR's, scaled to the mean grid of the files",
    )
    step.add_argument("--output", type=Path, required=True, help="folder to write")
    step.add_argument("--threads", type=int, default=1)


def _add_dataset(step: argparse.ArgumentParser) -> None:
    step.add_argument("--cases", type=Path, required=True, help="case table of the dataset")
    step.add_argument("--settings", required=True, help="the dataset's settings, as JSON")
    step.add_argument("--output", type=Path, required=True, help="folder to write")
    step.add_argument("--threads", type=int, default=1)


def run(options: argparse.Namespace) -> None:
    """Run the step that the options name."""
    if options.step == "tamper":
        from segstudy.log import log

        log.warning(
            "segstudy repair tamper is called segstudy repair simulate now; the next version refuses it"
        )
    steps = {"estimate": _estimate, "apply": _apply, "audit": _audit}
    steps |= dict.fromkeys(("simulate", "tamper"), _simulate)
    steps[options.step](options)


def _estimate(options: argparse.Namespace) -> None:
    from segstudy.cases import read_cases, uncorrected_labels
    from segstudy.files import writing_folder
    from segstudy.log import log
    from segstudy.repair.cohort import estimate_cohort
    from segstudy.repair.estimate import write_estimate
    from segstudy.study import RepairedCohort, from_json

    settings = from_json(RepairedCohort, options.settings)
    report = estimate_cohort(uncorrected_labels(read_cases(options.cases), None), settings)
    with writing_folder(options.output) as folder:
        write_estimate(folder, report)
    best = report.estimate
    if best.reference_case is None:
        log.info("%s: rotation %.2f deg, %s", best.structure, best.angle_deg, best.method)
    else:
        log.info(
            "%s of %s: IoU %.4f before, %.4f after, by %s",
            best.structure,
            best.reference_case,
            best.iou_before,
            best.iou_after,
            best.method,
        )


def _apply(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from segstudy.cases import UNCORRECTED, read_cases
    from segstudy.correction_records import refuse_other
    from segstudy.files import write_table, writing_folder
    from segstudy.images.checksum import label_checksum
    from segstudy.images.files import read_label, within_memory, write_label
    from segstudy.log import log, progress
    from segstudy.repair.apply import repair_case, verdict_table
    from segstudy.repair.estimate import read_estimate
    from segstudy.repair.pair import needs_repair
    from segstudy.study import RepairedCohort, from_json

    settings = from_json(RepairedCohort, options.settings)
    needs_repair(settings)
    cases = read_cases(options.cases, options.select)
    estimate = read_estimate(options.transform)
    with writing_folder(options.output) as folder:
        verdicts = []
        for case in progress(cases, "cases repaired"):
            delivered, file = case.delivered_label or case.label, f"{case.case}.nii.gz"
            with within_memory(case.case, case.files[0]):
                label, verdict = repair_case(replace(case, label=delivered), estimate, settings)
            if case.delivered_label:  # The label as repaired was corrected by hand.
                refuse_other(case, label_checksum(label), "as repaired")
                corrected = read_label(case.label)
                write_label(folder / file, corrected.array, corrected.affine, like=case.label)
                file = f"{UNCORRECTED}/{file}"
            write_label(folder / file, label.array, label.affine, like=delivered)
            verdicts.append(verdict)
            log.info("%s: %s: %s", case.case, verdict.verdict, verdict.remark)
        write_table(folder / "verdicts.csv", verdict_table(verdicts))


def _audit(options: argparse.Namespace) -> None:
    from segstudy.errors import InputError
    from segstudy.files import write_table, writing_folder
    from segstudy.repair.audit import audit_files, folder_pairs, table_pairs
    from segstudy.repair.findings import fault_table
    from segstudy.study import Cohort, from_json

    ignore: tuple[int, ...] = ()
    of_study = bool(options.cases and options.settings)
    if of_study and not options.images and not options.structures:
        pairs, structures, channels = table_pairs(options.cases, options.labels, options.settings)
        ignore = from_json(Cohort, options.settings).ignore
    elif options.images and options.labels and options.structures and not options.cases:
        pairs, structures, channels = folder_pairs(
            options.images, options.labels, options.structures
        )
    else:
        raise InputError(
            "repair audit: expected --cases with --settings, or --images with --labels and --structures"
        )
    # A study's own audit refuses labels without any structure where `empty_labels` asks for it.
    findings = audit_files(pairs, structures, channels, ignore, controls=of_study)
    with writing_folder(options.output) as folder:
        write_table(folder / "faults.csv", fault_table(findings))


def _simulate(options: argparse.Namespace) -> None:
    from segstudy.log import progress
    from segstudy.repair.simulate import corrupt_file, label_files, read_matrix

    files = label_files(options.labels)
    matrix = read_matrix(options.matrix, files)
    for file, name in progress(list(files.items()), "labels corrupted"):
        corrupt_file(file, options.value, matrix, options.output / name)
