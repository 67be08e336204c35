"""`segstudy review labels | metrics | account | ratings`: what the workflow asks of the review, from files to files."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segstudy.errors import InputError
from segstudy.named_tables import read_named

if TYPE_CHECKING:
    import pandas as pd

STEPS = ("labels", "metrics", "account", "ratings")


def add_steps_parsers(subparsers: Any) -> None:
    """Add the steps that the workflow's rules call."""
    step = subparsers.add_parser(
        "labels", help="list what became of each label: delivered, repaired, corrected"
    )
    step.add_argument("--dataset", required=True, help="its name in the study file")
    step.add_argument("--cases", type=Path, required=True, help="its case table")
    step.add_argument("--labels", type=Path, metavar="FOLDER", help="of repaired labels")
    step.add_argument("--corrections", type=Path, metavar="FOLDER", help="of the study's records")
    step.add_argument("--output", type=Path, required=True, metavar="FILE.csv")

    step = subparsers.add_parser(
        "metrics", help="put the measurements of corrected cases under other labels into a table"
    )
    step.add_argument("--metrics", type=Path, required=True, help="all measurements")
    step.add_argument(
        "--corrected", type=Path, nargs="*", default=[], help="those of corrected cases"
    )
    _add_settings(step)
    step.add_argument("--output", type=Path, required=True, metavar="FILE.csv")

    step = subparsers.add_parser(
        "account", help="put results under delivered and under corrected labels side by side"
    )
    for name, about in (
        ("metrics", "all measurements: of the study's results, then under the other labels"),
        ("summary", "summaries, in the same order"),
        ("tests", "comparisons, in the same order"),
        ("ranking", "rankings, in the same order"),
    ):
        step.add_argument(f"--{name}", type=Path, nargs=2, required=True, help=about)
    step.add_argument("--corrected", type=Path, nargs="*", default=[], help="of corrected cases")
    step.add_argument(
        "--before", type=Path, help="all measurements from before the first correction"
    )
    _add_settings(step)
    step.add_argument("--output", type=Path, required=True, metavar="FOLDER")

    step = subparsers.add_parser("ratings", help="count what readers think of predictions")
    step.add_argument("--ratings", type=Path, nargs="+", required=True, help="that readers saved")
    step.add_argument("--key", type=Path, required=True, help="whose predictions they were")
    step.add_argument("--metrics", type=Path, required=True, help="all measurements")
    step.add_argument("--settings", required=True, help="JSON: study, its structures, seed")
    step.add_argument("--output", type=Path, required=True, metavar="FOLDER")


def _add_settings(step: ArgumentParser) -> None:
    step.add_argument(
        "--settings",
        required=True,
        help="JSON: folder of corrections, level alpha, and the case table of each dataset",
    )


def run(options: Namespace) -> None:
    """Run the step that the options name."""
    steps = {"labels": _labels, "metrics": _metrics, "account": _account, "ratings": _ratings}
    steps[options.step](options)


def _labels(options: Namespace) -> None:
    from segstudy import correction_records
    from segstudy.cases import read_cases
    from segstudy.files import write_table
    from segstudy.review.provenance import chain

    reviewed = correction_records.find(options.corrections, options.dataset)
    verdicts = {}
    for table in sorted(options.labels.glob("*/verdicts.csv")) if options.labels else ():
        verdicts |= dict(_read(table, text=True)[["case", "verdict"]].itertuples(index=False))
    table = chain(options.dataset, read_cases(options.cases), options.labels, reviewed, verdicts)
    write_table(options.output, table)


def _metrics(options: Namespace) -> None:
    from segstudy import correction_records as records
    from segstudy.cases import read_cases
    from segstudy.files import parse_json, write_table
    from segstudy.review.accounting import with_labels

    settings = parse_json(options.settings, "--settings")
    turned = {records.DELIVERED: records.CORRECTED, records.CORRECTED: records.DELIVERED}
    others = {
        name: turned[
            records.headline_of(settings["corrections"], name, read_cases(one["cases"]))[0]
        ]
        for name, one in settings["datasets"].items()
    }
    measured = _of_corrected(options.corrected)
    own = measured[measured["models"] == "now"]
    write_table(options.output, with_labels(_measures(options.metrics), own, others))


def _account(options: Namespace) -> None:
    from segstudy import correction_records as records
    from segstudy.cases import read_cases
    from segstudy.files import parse_json, write_json, write_table, writing_folder
    from segstudy.review import accounting
    from segstudy.review.fault_rate import SOURCE

    settings = parse_json(options.settings, "--settings")
    cases = {name: read_cases(one["cases"]) for name, one in settings["datasets"].items()}
    names = {name: [case.case for case in own] for name, own in cases.items()}
    reviewed = {name: records.find(settings["corrections"], name) for name in cases}
    queue = {name: records.picked(settings["corrections"], name) for name in cases}
    headlines = {
        name: records.headline(name, own, reviewed[name], queue[name])
        for name, own in names.items()
    }
    count_as = {name: labels for name, (labels, _) in headlines.items()}

    def both(paths: list[Path], read: Callable[[Path], "pd.DataFrame"] = _read) -> dict[str, Any]:
        return accounting.by_labels(*map(read, paths), count_as)

    now, old = both(options.metrics, _measures), None
    if options.before:
        before, measured = _measures(options.before), _of_corrected(options.corrected)
        own = measured[measured["models"] == "before"]
        old = {
            labels: accounting.with_labels(before, own, dict.fromkeys(count_as, labels))
            for labels in accounting.LABELS
        }
    sizes = {name: _sizes(cases[name], reviewed[name]) for name in cases}
    changed = accounting.changes(sizes, reviewed)
    ranks = accounting.rank_changes(both(options.ranking))
    found = accounting.faults(names, reviewed, queue, settings["alpha"])
    told = accounting.sentences(changed, found, ranks, headlines, settings["alpha"])
    tables = {
        "means": accounting.side_by_side(both(options.summary)),
        "comparisons": accounting.tests_side_by_side(both(options.tests)),
        "ranks": ranks,
        "effects": accounting.effects(old, now),
        "changes": changed,
        "faults": found,
    }
    with writing_folder(options.output) as folder:
        for name, table in tables.items():
            write_table(folder / f"{name}.csv", table)
        write_json(folder / "accounting.json", accounting.as_json(told, headlines, SOURCE))
    print("\n".join(told))


def _ratings(options: Namespace) -> None:
    from segstudy import rating_files
    from segstudy.files import parse_json, write_table, writing_folder
    from segstudy.review import ratings

    settings = parse_json(options.settings, "--settings")
    key = rating_files.read_key(options.key)
    known = rating_files.resolved(
        rating_files.read_ratings(options.ratings), key, settings["study"]
    )
    dice = ratings.mean_dice(_measures(options.metrics), settings["structures"])
    given = ratings.given(known, dice)
    table = ratings.numbered(given)
    tables = {
        "given": given,
        "ratings": ratings.counts(table),
        "agreement": ratings.agreement(table, settings["seed"]),
        "dice": ratings.by_dice(table),
    }
    with writing_folder(options.output) as folder:
        for name, one in tables.items():
            write_table(folder / f"{name}.csv", one)


def _sizes(cases: list, reviewed: Mapping[str, Any]) -> dict[str, int]:
    """Return the voxels of each structure in the old labels of all cases, and the number of cases under an empty name."""
    sizes: dict[str, int] = {"": len(cases)}
    for case in cases:
        one = reviewed.get(case.case)
        changed = one.last["changed"] if one is not None and one.is_corrected else {}
        for structure, voxels in case.voxels.items():
            old = changed[structure]["old"] if structure in changed else voxels
            sizes[structure] = sizes.get(structure, 0) + old
    return sizes


def _of_corrected(paths: list[Path]) -> "pd.DataFrame":
    import pandas as pd

    tables = [_measures(path) for path in paths]
    if not tables:
        raise InputError("--corrected: no tables; expected those of corrected cases")
    return pd.concat(tables, ignore_index=True)


def _measures(path: Path) -> "pd.DataFrame":
    """Read a table of measurements; text but for `value`."""
    table = _read(path, text=True)
    return table.assign(value=table["value"].astype(float))


def _read(path: Path, *, text: bool = False) -> "pd.DataFrame":
    import pandas as pd

    try:
        if not text:
            return read_named(path)
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table.replace({"value": {"": "nan"}}) if "value" in table else table
    except FileNotFoundError:
        raise InputError(f"{path}: no such table") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
