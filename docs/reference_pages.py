"""Pages that the build writes from the code, so that they cannot drift: columns of tables, the command line."""

import argparse
import csv
import importlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

from snakemake.benchmark import BenchmarkRecord

from segstudy import cli, correction_records, folds, metric, rating_files
from segstudy.cases import Split
from segstudy.download import problems
from segstudy.infer import outputs
from segstudy.metrics import corrected, slice_dice, table
from segstudy.publish import checklists, cohort, package, package_tables, paper_tables
from segstudy.publish.citations import REFERENCES
from segstudy.repair import estimate
from segstudy.repair.apply import Verdict
from segstudy.repair.findings import LabelFinding
from segstudy.repair.model import Estimate
from segstudy.reproduce import comparison
from segstudy.review import accounting, opening, provenance, ratings, study_queue
from segstudy.statistics import comparisons, quality, ranking, subgroups, summary, verdict
from segstudy.tables import MEASURED

COLUMNS = Path(__file__).with_name("columns.tsv")
"""Column, unit, meaning. `tests.csv:n_cases` holds for one table, `sd_*` and `*_ml` for all that begin or end so."""
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
HISTORY = ("epoch", "lr", "train_loss", "validation_loss", "validation_dice_*", "training_dice_*")
FIGURES = ("spacing_i_mm", "spacing_j_mm", "spacing_k_mm", "size_*_voxels", "*_ml")
FIGURES += (
    "*_median_intensity",
    "*_voxels_share",
    "*_slices_share",
    "share",
    "rank",
    "plane",
    "slice",
    "slices",
)
FIGURES += (
    "label",
    "iou",
    "dice",
    "precision",
    "recall",
    "reference_ml",
    "predicted_ml",
    "mean_ml",
)
FIGURES += ("difference_ml", "p5_mm", "median_mm", "p95_mm", "mean_absolute_mm", "share_place_*")
FIGURES += ("stage", "blocks", "channels", "size", "parameters", "image", "mean", "sd", "subjects")
FIGURES += ("low", "high", "n", "infinite", "kind", "side_swapped", "share_swapped")
FIGURES += ("order", "coverage", "mean_risk", "patches_per_s")
TABLES = {
    "download/<dataset>/cases.tsv": ("The cases that passed the audit.", CASES),
    "download/<dataset>/problems.tsv": (
        "What the audit found in the files.",
        problems.COLUMNS,
    ),
    "download/<dataset>/participants.tsv": (
        "What is known of the subjects, where there are tables of participants ([Subgroups](subgroups.md)).",
        ("case", "subject", "*"),
    ),
    "repair/<dataset>/estimate/seconds.csv": (
        "How long each method looked for the fault.",
        estimate.SECONDS,
    ),
    "preprocess/splits.tsv": (
        "The fold of each case.",
        tuple(field.name for field in fields(Split)),
    ),
    "train/<model>/fold-<k>/seed-<s>/history.csv": (
        "A row an epoch of a training; `train/<model>/all/seed-<s>/history.csv`, of a training on all cases, has the same columns.",
        (*HISTORY, *MEASURED),
    ),
    "metrics/metrics.csv": (
        "Every measurement: a row a case, structure and metric. The same columns have the tables that it joins, "
        "`metrics/<model>/fold-<k>/seed-<s>/<dataset>.csv`, and `review/metrics.csv`, which is measured "
        "under those labels that do not count ([Corrections](review.md#results-under-both-labels)).",
        table.COLUMNS,
    ),
    "metrics/instances.csv": (
        "A row a lesion, where `metrics.lesions` asks for it; it joins the tables "
        "`metrics/<model>/fold-<k>/seed-<s>/instances/<dataset>.csv`.",
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
    "review/measures/<model>/fold-<k>/seed-<s>/<dataset>.csv": (
        "Each corrected case, measured under both labels.",
        corrected.CORRECTED_COLUMNS,
    ),
    "review/corrections/means.csv": (
        "Means under the labels as delivered and as corrected.",
        accounting.SIDE_BY_SIDE,
    ),
    "review/corrections/comparisons.csv": (
        "Comparisons of models under both: A is `model_a`, B `model_b`, as in `tests.csv`.",
        accounting.COMPARISONS,
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
    "review/rating_key.csv": (
        "Whose prediction stands behind each code of the page for raters; neither page nor zip has it.",
        tuple(field.name for field in fields(rating_files.Shown)),
    ),
    "statistics/values.csv": ("The values that are compared.", VALUES),
    "statistics/summary.csv": (
        "Means, medians, their intervals; `statistics/false_positives.csv` has the same columns, of the cases whose reference "
        "lacks the structure, and so has `review/statistics/summary.csv`, under those labels that do not count.",
        summary.COLUMNS,
    ),
    "statistics/tests.csv": (
        "Comparisons of models, and of datasets: A is `model_a` on `dataset`, B `model_b` on `dataset_b`. "
        "`statistics/false_positive_tests.csv` and `review/statistics/tests.csv` have the same columns.",
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
    "statistics/ranking.csv": (
        "Mean ranks; `review/statistics/ranking.csv` has the same columns.",
        ranking.COLUMNS,
    ),
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
    "statistics/grid.csv": (
        "The models of each grid search; behind `model` is a column for each setting that is searched.",
        GRID,
    ),
    "figures/<figure>.csv": (
        "The numbers that a figure was drawn from. Columns of the tables on this page mean what they mean there; these are of "
        "figures alone, or mean something else in them.",
        FIGURES,
    ),
    "reporting/checklists/<checklist>.csv": (
        "A checklist, filled ([What reviewers ask for](reporting.md)).",
        checklists.COLUMNS,
    ),
    "reporting/tables/results.csv": (
        "The exact numbers of the table of results; with several datasets `reporting/tables/results_<dataset>.csv`. Beside it lie "
        "`cohort.csv` ([columns](#tablescohortcsv)), `tests.csv` ([columns](#statisticstestscsv)) and `verdicts.csv` "
        "([columns](#statisticsverdictscsv)).",
        ("dataset", "structure", "model", "metric", "unit", *paper_tables.EXACT),
    ),
    "benchmarks/<stage>/<job>.tsv": (
        "What a job took, as Snakemake measures it.",
        tuple(BenchmarkRecord.get_header()),
    ),
}
"""File below `results/<study>/` -> what it is, and its columns."""
ZIP_TABLES = {
    "tables/cohort.csv": (
        "Table 1: a row a dataset and variable, or a value of it ([Subgroups](subgroups.md#table-1)).",
        cohort.COLUMNS,
    ),
    "tables/cases.csv": (
        "The cases that passed the audit, without paths.",
        ("dataset", "case", "subject", "same_image_as", "shape", "spacing_mm", "voxels_*"),
    ),
    "tables/audit.csv": (
        "`problems.tsv` of all datasets, without paths.",
        ("dataset", *package_tables.AUDIT),
    ),
    "tables/label_faults.csv": (
        "Labels that do not fit their cohort ([Labels in the wrong place](repair_labels.md)); without `dataset` it is "
        "`repair/<dataset>/audit/faults.csv`.",
        LABEL_FAULTS,
    ),
    "tables/repair_transforms.json": (
        "Dataset -> how its labels were moved; of one dataset it is `repair/<dataset>/estimate/transform.json`. No table: its keys.",
        tuple(field.name for field in fields(Estimate)),
    ),
    "tables/repair_attempts.csv": (
        "The methods that looked for the fault; without `dataset` it is `repair/<dataset>/estimate/attempts.csv`.",
        ("dataset", *estimate.ATTEMPTS),
    ),
    "tables/repair_sweep.csv": (
        "Agreement by angle; without `dataset` it is `repair/<dataset>/estimate/sweep.csv`.",
        ("dataset", *estimate.SWEEP),
    ),
    "tables/repair_verdicts.csv": (
        "What became of each case's label; without `dataset` it is `repair/<dataset>/labels/<shard>/verdicts.csv`.",
        REPAIR_VERDICTS,
    ),
    "tables/training.csv": (
        "Every `history.csv`, without times and memory, which differ from run to run.",
        (*package_tables.RUN, *HISTORY),
    ),
    f"tables/{package_tables.DATA}": (
        "Size and checksum of each file as it was delivered; in an anonymous zip one of each dataset, without `case`.",
        ("dataset", *package_tables.CHECKSUMS),
    ),
}
"""File of the zip that no other has the columns of -> what it is, and its columns."""
FURTHER_TABLES = {
    "<study>.splits.tsv": (
        "Beside the study file: the fold of each subject, from run to run ([Folds](splits.md)). In the zip `settings.splits.tsv`.",
        (*folds.COLUMNS, folds.DEALT),
    ),
    "<study>.corrections/<dataset>/picked.tsv": (
        "Beside corrected labels: why each case was up for review ([Labels to look at](review.md)).",
        correction_records.PICKED_COLUMNS,
    ),
    "ratings-<rater>.csv": (
        "What a reader saves on the page for raters ([Ratings by readers](review.md#ratings-by-readers)).",
        rating_files.COLUMNS,
    ),
    "<zip>.names.csv": (
        "Beside an anonymous zip, never in it: the key of its names.",
        package.KEY,
    ),
    "<output>/comparison.csv": (
        "Of `segstudy reproduce`: a row a table, or a column that differs ([Running it again](publishing.md#segstudy-reproduce)).",
        comparison.COLUMNS,
    ),
    "<output>/summary.csv": (
        "Of `segstudy infer`: the volume of each structure in each image ([New images](trained_models.md#new-images)).",
        outputs.SUMMARY_COLUMNS,
    ),
    "<output>/quality.csv": (
        "Of `segstudy infer --quality`: how far to trust each prediction ([Which predictions not to trust](quality.md)). "
        "Without a calibration it has the agreement and the volume alone.",
        outputs.QUALITY_COLUMNS,
    ),
}
"""File that a run or a command leaves elsewhere -> what it is, and its columns."""
ALL_TABLES = TABLES | ZIP_TABLES | FURTHER_TABLES
SAME_IN_ZIP = {
    "metrics.csv": "metrics/metrics.csv",
    package_tables.INSTANCES: "metrics/instances.csv",
    "confusion.csv": "metrics/<model>/fold-<k>/seed-<s>/confusion/<dataset>.csv",
    "splits.csv": "preprocess/splits.tsv",
    "false_positives.csv": "statistics/summary.csv",
    "false_positive_tests.csv": "statistics/tests.csv",
    "quality_cases.csv": "statistics/quality/cases.csv",
    "quality_summary.csv": "statistics/quality/summary.csv",
    "label_chain.csv": "review/<dataset>/labels.csv",
    "ratings.csv": "review/ratings/ratings.csv",
    "ratings_agreement.csv": "review/ratings/agreement.csv",
    "ratings_dice.csv": "review/ratings/dice.csv",
}
"""File in `tables/` of the zip -> the table whose columns it has, under another name."""
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
        if "*" in key and fnmatchcase(column, key):
            return key
    raise KeyError(f"{own}: no meaning in docs/columns.tsv")


def described_at(file: str) -> str:
    """Return the key of `ALL_TABLES` under which the columns of a file in `tables/` of the zip stand."""
    if (own := f"tables/{file}") in ZIP_TABLES:
        return own
    if file.startswith("corrections_"):
        return f"review/corrections/{file.removeprefix('corrections_')}"
    return SAME_IN_ZIP.get(file, f"statistics/{file}")


def tables_page() -> str:
    """Return the page of tables as Markdown."""
    text = io.StringIO()
    text.write(
        "# Tables\n\nThe columns of every table that a study, or a command, leaves. CSV has commas, TSV tabs between its cells; both are UTF-8 with a "
        "header. Numbers have a decimal point, infinite ones are `inf` or `-inf`, an undefined one is empty. *the metric's* is the unit of the "
        "row's metric ([What is measured](metrics.md)): mm where its name ends in `_mm`, mL in `_ml`, none for shares and indices. What words mean: "
        "[Words](glossary.md).\n\n## Below `results/<study>/`\n"
    )
    _write_tables(text, TABLES)
    text.write(
        "\n## In the zip\n\nThe files in `tables/` of what `make publish` writes ([What goes beside "
        "the paper](publishing.md)); each leads to its columns, which may be those of another table.\n\n| file | holds |\n|---|---|\n"
    )
    for file, holds in package_tables.TABLES.items():
        place = described_at(file)
        anchor = re.sub(r"[^\w-]", "", place.lower())
        text.write(f"| [`{file}`](#{anchor}) | {holds} |\n")
    _write_tables(text, ZIP_TABLES)
    text.write("\n## Elsewhere\n")
    _write_tables(text, FURTHER_TABLES)
    return text.getvalue()


def _write_tables(text: io.StringIO, tables: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    known = meanings()
    for path, (about, columns) in tables.items():
        name = path.rpartition("/")[2]
        text.write(f"\n### `{path}`\n\n{about}\n\n| column | unit | meaning |\n|---|---|---|\n")
        for column in columns:
            unit, meaning = known[key_of(name, column, known)]
            text.write(f"| `{column}` | {unit} | {meaning} |\n")


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
    return text.replace("](CHANGELOG.md)", "](changelog.md)").replace(
        "](LICENSE)", "](licences.md)"
    )


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
