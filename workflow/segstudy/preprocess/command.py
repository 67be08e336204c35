"""`segstudy preprocess folds | split | fingerprint | plan | resample | tissues | list`."""

import argparse
import errno
from pathlib import Path

from segstudy.cases import fold_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the steps and their options."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)

    split = steps.add_parser("split", help="give each case the fold that tests it")
    split.add_argument("--cases", nargs="+", required=True, metavar="DATASET=cases.tsv")
    split.add_argument("--settings", required=True, help='JSON: {"splits": ..., "roles": ...}')
    split.add_argument(
        "--folds",
        metavar="FILE.splits.tsv",
        help="each subject's fold of the run before; kept up to date",
    )
    split.add_argument("--output", required=True, metavar="splits.tsv")

    folds = steps.add_parser("folds", help="begin the file of a study's folds")
    folds.add_argument("--splits", required=True, metavar="splits.tsv", help="of earlier results")
    folds.add_argument("--folds", type=int, required=True, help="how many")
    folds.add_argument("--group-by", default="subject", help="as in the study: what stays together")
    folds.add_argument("--output", required=True, metavar="FILE.splits.tsv")

    fingerprint = steps.add_parser("fingerprint", help="describe the cases of a shard")
    _add_cases(fingerprint)
    fingerprint.add_argument("--settings", required=True, help="JSON: the dataset")
    fingerprint.add_argument("--output", required=True, metavar="FILE.json")

    plan = steps.add_parser("plan", help="fit spacing and intensities on a fold's training cases")
    plan.add_argument("--splits", required=True, metavar="splits.tsv")
    plan.add_argument(
        "--fingerprints",
        nargs="+",
        required=True,
        metavar="FILE.json",
        help="fingerprints, or .txt files that list some",
    )
    plan.add_argument(
        "--fold",
        type=fold_number,
        required=True,
        help="counted from 0, or all: of every case but those that are only for testing",
    )
    plan.add_argument("--settings", required=True, help="JSON: plan, modality, channels")
    plan.add_argument("--output", required=True, metavar="fold-K.json")

    resample = steps.add_parser("resample", help="write the arrays of a shard")
    _add_cases(resample)
    resample.add_argument("--grid", required=True, help="voxel size in mm, as in 1x1x2.5")
    resample.add_argument("--settings", required=True, help="JSON: plan, dataset, structures")
    resample.add_argument("--output", required=True, metavar="FOLDER")

    tissues = steps.add_parser(
        "tissues", help="write whole label maps of a shard, to draw training images from"
    )
    _add_cases(tissues)
    tissues.add_argument("--grid", required=True, help="voxel size in mm, as in 1x1x2.5")
    tissues.add_argument(
        "--settings", required=True, help="JSON: plan, dataset, structures, tissues"
    )
    tissues.add_argument("--output", required=True, metavar="FOLDER")

    listing = steps.add_parser(
        "list", help="list a dataset's files, or what its shards left in a folder"
    )
    listing.add_argument("--cases", required=True, metavar="cases.tsv")
    what = listing.add_mutually_exclusive_group(required=True)
    what.add_argument("--files", choices=["images", "labels"], help="files of the cases themselves")
    what.add_argument("--shards", metavar="FOLDER", help="what each shard left in this folder")
    listing.add_argument("--cases-per-job", type=int, default=1, metavar="N", help="with --shards")
    listing.add_argument("--suffix", default="", help="with --shards: of each one's file, as .json")
    listing.add_argument("--output", required=True, metavar="FILE.txt")

    for step in (split, folds, fingerprint, plan, resample, tissues, listing):
        step.add_argument("--threads", type=int, default=1)


def _add_cases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--cases", required=True, metavar="cases.tsv")
    parser.add_argument("--labels", metavar="FOLDER", help="repaired labels, where there are any")
    parser.add_argument("--select", nargs="+", metavar="CASE", help="left out: all cases")


def run(options: argparse.Namespace) -> None:
    """Run the step that the options name."""
    steps = {
        "split": _split,
        "folds": _folds,
        "fingerprint": _fingerprint,
        "plan": _plan,
        "resample": _resample,
        "tissues": _tissues,
        "list": _list,
    }
    steps[options.step](options)


def _split(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from segstudy.cases import LEFT_OUT, NO_FOLD, UNTESTED, read_cases, write_splits
    from segstudy.folds import (
        check_known,
        is_dealt_by,
        of_subjects,
        read_folds,
        read_origins,
        unit,
        write_folds,
    )
    from segstudy.log import log
    from segstudy.preprocess.split import origins, split
    from segstudy.study import SplitSettings, from_json

    settings = from_json(SplitSettings, options.settings)
    kept = Path(options.folds) if options.folds else None
    known = read_folds(kept, settings.splits) if kept and kept.is_file() else {}
    # What the file says of how it was dealt stays true: of folds by hand, or handed on, nobody knows.
    dealt_by = settings.splits if not known or is_dealt_by(kept, settings.splits) else None
    cohorts = _tables(options.cases, settings.roles, read_cases)
    splits = split(cohorts, settings.roles, settings.splits, known, settings.label_maps_are_tested)
    folds = of_subjects(splits, settings.splits)
    by_table = any(case.fold is not None for cases in cohorts.values() for case in cases)
    if by_table:
        dealt_by = None
    before = read_origins(kept, settings.splits) if known else {}
    came_by = origins(folds, before, by_table=by_table)
    splits = [
        row if row.fold in NO_FOLD else replace(row, origin=came_by[unit(row, settings.splits)])
        for row in splits
    ]
    check_known(known, folds, kept)
    new = [subject for subject in folds if subject not in known]
    if known and new:
        log.info("%d subjects are new: %s", len(new), ", ".join(new[:10]))
    moved = [subject for subject in folds if known.get(subject, folds[subject]) != folds[subject]]
    if moved:
        log.warning("the case table moves %d subjects, e.g. %s", len(moved), moved[0])
    for fold in sorted({row.fold for row in splits} - {*NO_FOLD}):
        tested_rows = [row for row in splits if row.fold == fold]
        log.info(
            "fold %d: %d cases, %d subjects",
            fold,
            len(tested_rows),
            len({s.subject for s in tested_rows}),
        )
    maps = sum(row.fold == UNTESTED for row in splits)
    if maps:
        log.info("%d cases, trained on by every fold and tested by none", maps)
    out = sum(row.fold == LEFT_OUT for row in splits)
    if out:
        log.info("%d cases, left out by every fold", out)
    # In this order, so that the table of splits is newer than the file of folds that it depends on.
    if kept:
        try:
            write_folds(kept, {**known, **folds}, dealt_by, {**before, **came_by})
        except OSError as error:
            _refuse_read_only(error, kept, new + moved)
        how = "" if dealt_by else "; not dealt by splits.seed, which decides on new subjects alone"
        log.info("folds are kept in %s%s", kept, how)
    write_splits(options.output, splits)


def _refuse_read_only(error: OSError, kept: Path, changed: list[str]) -> None:
    """Raise InputError where a file of folds that is read-only has to be changed; without changes go on."""
    from segstudy.errors import InputError
    from segstudy.words import count

    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise error
    if changed:
        raise InputError(
            f"{kept}: cannot be written ({error.strerror}), and other folds of {count(len(changed), 'subject')} "
            f"belong into it: {', '.join(changed[:5])}. Copy it beside a study file of your own, or beside your link to this one"
        ) from None


def _folds(options: argparse.Namespace) -> None:
    from segstudy.folds import begin
    from segstudy.study import Splits

    settings = Splits(folds=options.folds, group_by=options.group_by)
    begin(Path(options.output), Path(options.splits), settings)


def _tables(arguments, roles, read):
    from segstudy.errors import InputError

    cohorts = {}
    for argument in arguments:
        dataset, _, path = argument.partition("=")
        if not path or dataset not in roles:
            raise InputError(
                f"--cases {argument}: expected DATASET=cases.tsv, with DATASET one of "
                f"{', '.join(roles)}"
            )
        cohorts[dataset] = read(path)
    return cohorts


def _fingerprint(options: argparse.Namespace) -> None:
    from segstudy.images.files import within_memory
    from segstudy.log import progress
    from segstudy.preprocess.fingerprint import fingerprint, write_fingerprints
    from segstudy.study import Cohort, from_json

    settings = from_json(Cohort, options.settings)
    fingerprints = []
    for case in progress(_cases(options), f"fingerprint {options.dataset}"):
        with within_memory(case.case, case.files[0]):
            fingerprints.append(fingerprint(options.dataset, case, settings))
    write_fingerprints(options.output, fingerprints)


def _plan(options: argparse.Namespace) -> None:
    from segstudy.cases import read_splits
    from segstudy.files import listed, write_json
    from segstudy.log import log
    from segstudy.preprocess.fingerprint import read_fingerprints
    from segstudy.preprocess.plan import fit, training_cases
    from segstudy.study import FitSettings, from_json

    settings = from_json(FitSettings, options.settings)
    paths = listed(options.fingerprints)
    fingerprints = [
        one_fingerprint for path in paths for one_fingerprint in read_fingerprints(path)
    ]
    splits = read_splits(options.splits)
    cases = training_cases(fingerprints, splits, options.fold, settings.datasets or None)
    plan = fit(cases, settings.plan, settings.modality, settings.channels)
    log.info("fold %s: %s, fitted on %d cases", options.fold, plan, len(cases))
    write_json(options.output, plan.to_dict())


def _resample(options: argparse.Namespace) -> None:
    from segstudy.images.names import parse_grid
    from segstudy.preprocess.resample import resample_shard
    from segstudy.study import ResampleSettings, from_json

    settings = from_json(ResampleSettings, options.settings)
    resample_shard(
        options.dataset, _cases(options), parse_grid(options.grid), settings, options.output
    )


def _tissues(options: argparse.Namespace) -> None:
    from segstudy.images.names import parse_grid
    from segstudy.preprocess.tissues import tissues_shard
    from segstudy.study import TissueSettings, from_json

    settings = from_json(TissueSettings, options.settings)
    tissues_shard(
        options.dataset, _cases(options), parse_grid(options.grid), settings, options.output
    )


def _list(options: argparse.Namespace) -> None:
    from segstudy.cases import read_cases, shards
    from segstudy.errors import InputError
    from segstudy.paths import write_list

    cases = read_cases(options.cases)
    if options.files == "images":
        paths = [image for case in cases for image in case.images]
    elif options.files == "labels":
        paths = [case.label for case in cases]
    else:
        by_shard = shards((case.case for case in cases), options.cases_per_job)
        paths = [Path(options.shards) / f"{shard}{options.suffix}" for shard in by_shard]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InputError(
            f"{missing[0]}: not there, and {len(missing) - 1} more of {len(paths)}; "
            "run the step that makes them"
        )
    write_list(options.output, paths)


def _cases(options: argparse.Namespace):
    from segstudy.cases import read_cases, repaired_labels

    return repaired_labels(
        read_cases(options.cases, options.select),
        Path(options.labels) if options.labels else None,
    )
