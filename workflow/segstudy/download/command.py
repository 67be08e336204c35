"""`segstudy download`: fetch a dataset, or list its files, then audit it."""

import argparse
import json
from pathlib import Path

from segstudy.errors import InputError
from segstudy.files import parse_json

_EXAMPLES = """examples:
  segstudy download fetch --dataset hippocampus --output raw \\
    --settings '{"layout": "msd", "registered": "Task04_Hippocampus"}'
  segstudy download audit --dataset hippocampus --raw raw --threads 4 \\
    --cases cases.tsv --problems problems.tsv \\
    --settings '{"source": {"layout": "msd", "path": "raw"}, "modality": "MR",
                 "structures": {"anterior": 1, "posterior": 2}}'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the steps and their options."""
    parser.epilog = _EXAMPLES
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)

    fetch = steps.add_parser("fetch", help="download and unpack a dataset, or make the phantom")
    fetch.add_argument("--dataset", required=True, help="its name in the study file")
    fetch.add_argument("--settings", required=True, help="its `source`, as JSON")
    fetch.add_argument("--modality", default="CT", help="its `modality`; the phantom is CT")
    fetch.add_argument(
        "--structures", default="{}", help="its `structures`, as JSON; the phantom's label values"
    )
    fetch.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder to fill; an unfinished transfer waits in OUTPUT.partial",
    )

    listing = steps.add_parser("list", help="list the files of a dataset that is on disk")
    listing.add_argument("--settings", required=True, help="its `source`, as JSON")
    listing.add_argument("--output", type=Path, required=True, metavar="FILE.txt")

    people = steps.add_parser(
        "participants", help="bring tables of subjects (age, sex, scanner, ...) to a row a case"
    )
    people.add_argument("--dataset", required=True, help="its name in the study file")
    people.add_argument("--cases", type=Path, required=True, help="the table that `audit` wrote")
    people.add_argument(
        "--tables",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="tables with a row a subject, session or case",
    )
    people.add_argument(
        "--found",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="such tables, or a BIDS dataset for its participants.tsv and *_sessions.tsv, which are left out with a warning where "
        "they cannot be used",
    )
    people.add_argument("--output", type=Path, required=True, metavar="FILE.tsv")

    audit = steps.add_parser("audit", help="check every image and label, and list the good cases")
    audit.add_argument("--dataset", required=True, help="its name in the study file")
    audit.add_argument("--settings", required=True, help="its entry in the study file, as JSON")
    audit.add_argument(
        "--corrections",
        type=Path,
        metavar="FOLDER",
        help="corrected labels of the study, which take the place of those delivered",
    )
    audit.add_argument("--raw", type=Path, help="the fetched folder; left out: source.path")
    audit.add_argument(
        "--cases",
        type=Path,
        required=True,
        help="table of good cases to write; files made of the dataset's own go to derived/ beside it",
    )
    audit.add_argument("--problems", type=Path, required=True, help="table of problems to write")
    audit.add_argument("--threads", type=int, default=1, help="cases that are read at a time")


def run(options: argparse.Namespace) -> None:
    """Run the step that the options name."""
    steps = {"fetch": _fetch, "list": _list, "participants": _participants, "audit": _audit}
    steps[options.step](options)


def _fetch(options: argparse.Namespace) -> None:
    source = _source(options.settings)
    if source.layout == "phantom":
        _make_phantom(options, source)
    elif source.layout == "table" or source.path:
        raise InputError(
            f"{options.dataset}: source.path is {source.path}: it is read where it is, there is "
            "nothing to fetch"
        )
    else:
        from segstudy.download.fetch import fetch_archive
        from segstudy.download.registry import archive_of

        fetch_archive(archive_of(source), options.output)


def _make_phantom(options: argparse.Namespace, source) -> None:
    from segstudy.download.phantom import write_cohort
    from segstudy.files import writing_folder

    if options.modality != "CT":
        raise InputError(
            f"{options.dataset}: modality: found {options.modality}; the phantom is CT"
        )
    structures = parse_json(options.structures, "--structures")
    if not isinstance(structures, dict) or not structures:
        raise InputError('--structures: expected JSON such as {"heart": 2, "aorta": 4}')
    with writing_folder(options.output) as folder:
        write_cohort(folder, source, structures)


def _list(options: argparse.Namespace) -> None:
    from segstudy.log import log
    from segstudy.participants import is_of_bids
    from segstudy.paths import delivered_files, write_list
    from segstudy.study import patterns_of

    source = _source(options.settings)
    files = delivered_files(source.path, source.layout == "table", patterns_of(source))
    if source.layout == "bids":
        files = [file for file in files if not is_of_bids(file)]
    write_list(options.output, files)
    log.info("%s: %d files", source.path, len(files))


def _participants(options: argparse.Namespace) -> None:
    from segstudy import participants
    from segstudy.cases import read_cases
    from segstudy.log import log

    cases = {case.case: case.subject for case in read_cases(options.cases)}
    files = []
    for path in options.found:
        files += participants.bids_tables(path) if path.is_dir() else [path]
    tables = []
    try:
        found = participants.read_all(files)
        participants.of_cases(cases, found)
        tables = found
    except InputError as error:
        log.warning("%s; what is known of the subjects is read without it", error)
    tables = [*tables, *participants.read_all(options.tables)]
    values = participants.of_cases(cases, tables)
    participants.write_participants(options.output, cases, values)
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    log.info("%s: %d columns: %s", options.dataset, len(columns), ", ".join(columns) or "none")


def _audit(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from segstudy import correction_records, study
    from segstudy.cases import write_cases
    from segstudy.download import convert
    from segstudy.download.audit import audit, stop_if_unusable
    from segstudy.download.layouts import list_cases
    from segstudy.download.problems import write_problems
    from segstudy.images.names import safe_name
    from segstudy.images.value_checks import REFUSED
    from segstudy.log import log

    dataset = study.from_json(study.Dataset, options.settings)
    derived = options.cases.parent / "derived"
    listing = list_cases(dataset, options.raw, derived)
    if listing.stacks:
        listing = convert.stack_slices(listing, dataset.source.pixel_mm, dataset.source.slice_mm)
    if listing.masks:
        resample = dataset.on_other_grid == "resample_label"
        listing = convert.merge_masks(
            listing, dataset.structures, options.threads, resample, dataset.spacing_mm or ()
        )
    names = {case.case: safe_name(case.case) for case in listing.cases}
    renamed = [f"{given!r}: {safe}" for given, safe in names.items() if given != safe]
    if renamed:
        log.info("names in all results: %s", ", ".join(renamed))
    corrections = correction_records.corrected(options.corrections, options.dataset)
    listing = replace(listing, cases=correction_records.applied(listing.cases, corrections))
    cases, problems = audit(listing, dataset, options.threads, derived)
    for problem in problems:
        log.warning("%s%s", "refused: " if problem.verdict == REFUSED else "", problem)
    write_problems(options.problems, options.dataset, problems)
    options.cases.unlink(missing_ok=True)
    correction_records.refuse_lost(corrections, cases, problems)
    stop_if_unusable(cases, problems, dataset, options.problems, listing.root, options.dataset)
    convert.remove_others(derived, cases)
    write_cases(options.cases, cases, dataset.channels)
    log.info("%s: %d cases can be used", options.dataset, len(cases))


def _source(text: str):
    """Read the source settings, by their layout."""
    from segstudy import study
    from segstudy.study import references

    kinds = study.source_kinds()
    content = references.source_with_kind(parse_json(text, "--settings"))
    layout = content.get("layout") if isinstance(content, dict) else None
    return study.from_json(kinds.get(layout, study.FolderSource), json.dumps(content))
