"""Pages that the build writes from the code, so that they cannot drift: columns of tables, the command line."""

import argparse
import csv
import importlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

from segstudy import cli, metric
from segstudy.cases import Split
from segstudy.metrics import slice_dice, table
from segstudy.publish.citations import REFERENCES
from segstudy.repair.apply import Verdict
from segstudy.repair.findings import LabelFinding
from segstudy.review import accounting, opening, provenance, ratings, study_queue
from segstudy.statistics import comparisons, quality, ranking, subgroups, summary, verdict
from segstudy.tables import MEASURED

REPOSITORY = "https://github.com/segstudy/segstudy"
COLUMNS = Path(__file__).with_name("columns.tsv")
"""Column, unit, meaning. `tests.csv:n_cases` holds for one table, `sd_*` for all that begin so."""
FORMULAS = Path(__file__).with_name("formulas.tsv")
"""Metric, formula."""
MEASURED_METRICS = (
    *(*metric.MEASURED, "nsd", metric.NSD_BY_STRUCTURE, *metric.EXTRA, *metric.OF_LESIONS),
    *(*metric.OF_PROBABILITIES, *slice_dice.NAMES, "side_swapped"),
)
"""What segstudy itself measures, in the order of the page."""
VALUES = ("dataset", "structure", "metric", "model", "case", "subject", "missing", "absent", "runs")
VALUES += ("surface", "diagonal_mm", "fold", "value", "other_value", "failed")
CASES = ("case", "subject", "image", "image_*", "label", "reference_label", "fold", "split")
CASES += ("same_image_as", "shape", "spacing_mm", "checksum", "voxels_*")
CASES += ("delivered_label", "corrected_from")
GRID = ("grid", "model", "validation_dice", "best", "parameters", "training_seconds", "dataset")
GRID += ("n_subjects", "dice_*", "sd_*")
REPAIR_VERDICTS = ("dataset", *(field.name for field in fields(Verdict)))
LABEL_FAULTS = ("dataset", *(field.name for field in fields(LabelFinding)))
ATTEMPTS = ("dataset", "method", "frame", "iou_before", "iou_after", "iou_replayed", "angle_deg")
ATTEMPTS += ("chosen", "reason")
SWEEP = ("dataset", "angle_deg", "iou", "evidence")
HISTORY = ("epoch", "lr", "train_loss", "validation_loss", "validation_dice_*", *MEASURED)
TABLES = {
    "download/<dataset>/cases.tsv": ("The cases that passed the audit.", CASES),
    "download/<dataset>/problems.tsv": (
        "What the audit found in the files.",
        ("dataset", "case", "file", "problem", "verdict"),
    ),
    "label_faults.csv": (
        "Of the zip; without `dataset` it is `repair/<dataset>/audit/faults.csv`: labels that do not fit their cohort "
        "([Labels in the wrong place](repair_labels.md)).",
        LABEL_FAULTS,
    ),
    "repair_verdicts.csv": (
        "Of the zip; without `dataset` it is `verdicts.csv` in a folder below `repair/<dataset>/labels/`: what became of "
        "each case's label.",
        REPAIR_VERDICTS,
    ),
    "repair_attempts.csv": (
        "Of the zip; without `dataset` it is `repair/<dataset>/estimate/attempts.csv`: the methods that looked for the fault.",
        ATTEMPTS,
    ),
    "repair_sweep.csv": (
        "Of the zip; without `dataset` it is `repair/<dataset>/estimate/sweep.csv`: agreement by angle.",
        SWEEP,
    ),
    "preprocess/splits.tsv": (
        "The fold of each case.",
        tuple(field.name for field in fields(Split)),
    ),
    "train/<model>/fold-<k>/seed-<s>/history.csv": ("An epoch of a training.", HISTORY),
    "metrics/metrics.csv": (
        "Every measurement: a row a case, structure and metric.",
        table.COLUMNS,
    ),
    "metrics/instances.csv": (
        "A row a lesion, where `metrics.lesions` asks for it.",
        table.INSTANCES,
    ),
    "metrics/<model>/fold-<k>/seed-<s>/confusion/<dataset>.csv": (
        "Voxels of each structure by the structure predicted.",
        table.CONFUSION,
    ),
    "review/<dataset>/labels.csv": (
        "What became of each reviewed label: as delivered, as repaired, and an entry each of its record.",
        provenance.COLUMNS,
    ),
    "review/corrections/means.csv": (
        "Means under the labels as delivered and as corrected.",
        accounting.SIDE_BY_SIDE,
    ),
    "review/corrections/ranks.csv": ("Ranks under both.", accounting.RANKS),
    "review/corrections/effects.csv": (
        "What corrected test labels did, and what corrected training labels did.",
        accounting.EFFECTS,
    ),
    "review/corrections/changes.csv": (
        "Cases and voxels that corrections changed.",
        accounting.CHANGES,
    ),
    "review/corrections/faults.csv": (
        "The share of faulty labels, by strata; `all` is the whole dataset.",
        accounting.FAULTS,
    ),
    "review/ratings/ratings.csv": (
        "Grades that readers gave predictions, a row a rater, and one of all; in the zip `ratings.csv`.",
        ratings.COUNTS,
    ),
    "review/ratings/agreement.csv": (
        "How far each two raters agree; in the zip `ratings_agreement.csv`.",
        ratings.AGREEMENT,
    ),
    "review/ratings/dice.csv": (
        "Dice of the predictions of each grade; in the zip `ratings_dice.csv`.",
        ratings.DICE,
    ),
    "review/ratings/given.csv": (
        "Each rating with its model, which the zip has not, since it names raters.",
        ratings.GIVEN,
    ),
    "statistics/values.csv": ("The values that are compared.", VALUES),
    "statistics/summary.csv": (
        "Means, medians, their intervals; `false_positives.csv` has the same columns, of the cases whose reference lacks "
        "the structure.",
        summary.COLUMNS,
    ),
    "statistics/tests.csv": (
        "Comparisons of models, and of datasets: A is `model_a` on `dataset`, B `model_b` on `dataset_b`. "
        "`false_positive_tests.csv` has the same columns.",
        comparisons.COLUMNS,
    ),
    "statistics/verdicts.csv": ("The verdict on each comparison.", verdict.COLUMNS),
    "statistics/subgroups.csv": ("Each model in each group of subjects.", subgroups.GROUPS),
    "statistics/subgroup_tests.csv": (
        "Comparisons of the groups of a column, of one model: A is `group_a`, B `group_b`.",
        subgroups.TESTS,
    ),
    "statistics/quality/cases.csv": (
        "The estimate of quality of each held-out prediction, where `statistics.quality` asks for it; in the zip `quality_cases.csv`.",
        quality.CASES,
    ),
    "statistics/quality/summary.csv": (
        "How often these estimates held; in the zip `quality_summary.csv`.",
        quality.SUMMARY,
    ),
    "statistics/ranking.csv": ("Mean ranks.", ranking.COLUMNS),
    "statistics/places.csv": ("Places when subjects are resampled.", ranking.PLACES),
    "review/queue.csv": (
        "The judged cases, the most suspicious label first ([Labels to look at](review.md)).",
        study_queue.QUEUE_COLUMNS,
    ),
    "review/scores.csv": (
        "How far each structure lies off the consensus.",
        study_queue.SCORE_COLUMNS,
    ),
    "review/openings.tsv": ("Each case that was opened for review.", opening.COLUMNS),
    "statistics/grid.csv": ("The models of each grid search, beside their settings.", GRID),
}
"""File below `results/<study>/` -> what it is, and its columns."""
EXIT_CODES = {
    "0": "all went well; of `segstudy doctor`, no line says `stop`",
    "1": "an error, told in one line a mistake: input that can't be used, no memory, no room; of `segstudy doctor`, a line says "
    "`stop`; of `segstudy run` and a job of it, as Snakemake ends",
    "2": "words that the command line does not know, with its usage",
    "3": "of `segstudy reproduce` alone: it ran, and a table differs",
    "128 + N": "ended by signal N: 130 by Ctrl-C (SIGINT), 143 by SIGTERM, as SLURM sends before a time limit, 129 by a closed "
    "terminal (SIGHUP). A training has saved its state by then and goes on from there",
}


def meanings(file: Path = COLUMNS) -> dict[str, tuple[str, str]]:
    """Return column -> (unit, meaning), as the file has them."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {column: (unit, meaning) for column, unit, meaning in rows[1:]}


def key_of(name: str, column: str, known: Iterable[str]) -> str:
    """Return under which name the meaning of a table's column stands.

    Raises KeyError where it has none.
    """
    own = f"{name}:{column}"
    for key in (own, column):
        if key in known:
            return key
    for key in known:
        if key.endswith("*") and fnmatchcase(column, key):
            return key
    raise KeyError(f"{own}: no meaning in docs/columns.tsv")


def tables_page() -> str:
    """Return the page of tables as Markdown."""
    known = meanings()
    text = io.StringIO()
    text.write(
        "# Tables\n\nThe columns of the tables below `results/<study>/`, and of those of the zip that have the same names. CSV has commas, TSV "
        "tabs between its cells; both are UTF-8 with a header. Numbers have a decimal point, infinite ones are `inf` or `-inf`, an undefined "
        "one is empty. *the metric's* is the unit of the row's metric ([What is measured](metrics.md)): mm where its name "
        "ends in `_mm`, ml in `_ml`, none for shares and indices.\n"
    )
    for path, (about, columns) in TABLES.items():
        name = path.rpartition("/")[2]
        text.write(f"\n## `{path}`\n\n{about}\n\n| column | unit | meaning |\n|---|---|---|\n")
        for column in columns:
            unit, meaning = known[key_of(name, column, known)]
            text.write(f"| `{column}` | {unit} | {meaning} |\n")
    return text.getvalue()


def formulas() -> dict[str, str]:
    """Return metric -> formula, as the file has them."""
    with FORMULAS.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))
    return dict(rows[1:])


def formulas_page() -> str:
    """Return the page of metrics as Markdown: formula, unit, range, which values are better, source."""
    written = formulas()
    text = io.StringIO()
    text.write(
        "# Metrics and their formulas\n\nOf each metric that segstudy measures. R is the reference, P the prediction; TP, FP, FN and TN are numbers of "
        "voxels in both, in P alone, in R alone, in neither; d(R→P) is the distance in mm from a point of R's surface to the surface of P "
        "([Surfaces](surfaces.md)); τ is the tolerance in mm, p a predicted probability. What is measured when, and what is undefined: "
        "[What is measured](metrics.md).\n\n| metric | | formula | unit | range | best | source |\n|---|---|---|---|---|---|---|\n"
    )
    cited = []
    for name in MEASURED_METRICS:
        one = metric.find("nsd_2mm" if name == "nsd" else name)
        best = {"higher": "highest", "lower": "lowest", "zero": "nearest to 0"}[one.direction]
        title = "NSD" if name == "nsd" else one.title
        source = REFERENCES.get(one.source)
        cited += [source] if source and source not in cited else []
        number = f"[{cited.index(source) + 1}]" if source else ""
        text.write(
            f"| `{name}` | {title} | {written[name]} | {one.unit} | {one.expected} | {best} | {number} |\n"
        )
    text.write("\n## Sources\n\n")
    text.writelines(
        f"{place}. {one.text} <{one.link}>\n" if one.link else f"{place}. {one.text}\n"
        for place, one in enumerate(cited, 1)
    )
    return text.getvalue()


def contributing_page() -> str:
    """Return `CONTRIBUTING.md` as a page: links from the repository's root lead from here."""
    text = COLUMNS.parents[1].joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.replace("](docs/", "](")
    return re.sub(r"\]\(([A-Z]+(?:\.md)?)\)", rf"]({REPOSITORY}/blob/main/\1)", text)


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each subcommand, and each one below it, with its parser."""
    for name, purpose in (cli.STAGES | cli.TOOLS).items():
        parser = argparse.ArgumentParser(
            prog=f"segstudy {name}",
            description=purpose[0].upper() + purpose[1:] + ".",
            formatter_class=_Fixed,
        )
        module = f"segstudy.{name}" + (".command" if name in cli.STAGES else "_command")
        importlib.import_module(module).add_arguments(parser)
        yield from _with_those_below(parser)


def _with_those_below(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    parser.formatter_class = _Fixed
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):  # once, whatever its other names
                yield from _with_those_below(below)


class _Fixed(argparse.RawDescriptionHelpFormatter):
    """Lay out help for a page, whatever the width of the terminal."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28, width=100)


def command_page() -> str:
    """Return the page of the command line as Markdown: exit codes, then the help of each subcommand."""
    text = io.StringIO()
    text.write(
        "# Command line\n\nEach subcommand prints its help with `--help`. The stages are what rules call; a printed command can be pasted.\n\n"
        "## Exit codes\n\n| code | |\n|---|---|\n"
    )
    text.writelines(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    for name, parser in parsers():
        depth = "#" * min(len(name.split()), 3)
        text.write(f"\n{depth} {name}\n\n```text\n{parser.format_help()}```\n")
    return text.getvalue()
