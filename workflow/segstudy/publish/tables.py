"""The tables of the report, as rows that the template writes. Every number keeps its exact value."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pandas

from segstudy import metric
from segstudy.metric import Metric, number
from segstudy.publish import redaction
from segstudy.publish.draw.comparison import significant
from segstudy.publish.results import Results
from segstudy.publish.words import chosen_metrics, p_value
from segstudy.study import Study
from segstudy.words import confidence

TESTS = {
    "swap_mean": "swap per subject",
    "swap_ranks": "swap per subject, ranks",
    "relabel_mean": "permutation, Welch t",
    "relabel_ranks": "permutation, rank sum",
    "paired_t": "paired t",
    "welch_t": "Welch t",
    "wilcoxon": "Wilcoxon signed-rank",
    "mannwhitneyu": "Mann-Whitney U",
    "": "not tested",
}
STATISTICS = {
    "swap_mean": "mean",
    "swap_ranks": "score",
    "relabel_mean": "t",
    "relabel_ranks": "R",
    "paired_t": "t",
    "welch_t": "t",
    "wilcoxon": "W",
    "mannwhitneyu": "U",
}
EFFECTS = {
    "cohens_dz": "dz",
    "cohens_d": "d",
    "matched_rank_biserial": "r (matched)",
    "rank_biserial": "r",
}
COUNTS = {
    "n_subjects": "Subjects",
    "n_cases": "Cases",
    "n_absent": "Without it",
    "n_undefined": "Undefined",
    "n_missing": "Missing",
    "n_infinite": "Infinite",
}
LEAST_DICE = 0.05
"""Mean Dice below which a model has learnt next to nothing, and is named as no winner."""
ALWAYS_COUNTED = ("n_subjects", "n_cases")
VERDICTS = {"a_better": "A better", "b_better": "B better", "cannot_be_told": "cannot be told"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text
        As shown.
    value
        The exact number, for sorting and download.
    note
        Below the text.
    against
        Difference from the best model.
    best
        Whether it is marked.
    flags
        Counts of special cases.
    """

    text: str
    value: float | str | None = None
    note: str = ""
    against: str = ""
    best: bool = False
    flags: list[str] = field(default_factory=list)

    @property
    def exact(self) -> str:
        """Return the exact value as text, for sorting and download."""
        if self.value is None:
            return self.text
        if isinstance(self.value, str):
            return self.value
        value = float(self.value)
        return "" if math.isnan(value) else repr(value)


def grid_tables(results: Results) -> list[dict]:
    """Return a table for each grid search and dataset: a row a model, with its settings, Dice and cost."""
    study = results.study
    tables = []
    for dataset in study.tested_datasets:
        for grid, models in study.grids.items():
            table = results.grid(grid, dataset)
            paths = list(next(iter(models.values())))
            structures = [name for name in results.look.regions if f"dice_{name}" in table]
            rows = []
            for _, row in table.iterrows():
                dice = [
                    Cell(f"{row[f'dice_{n}']:.3f} ± {row[f'sd_{n}']:.3f}", row[f"dice_{n}"])
                    for n in structures
                ]
                validation = row.get("validation_dice", math.nan)
                rows.append(
                    [
                        Cell(results.look.model(row["model"])),
                        *(Cell(str(row[path])) for path in paths),
                        Cell(_three(validation), validation, best=bool(row["best"])),
                        *dice,
                        Cell(f"{row['parameters']:,}", row["parameters"]),
                        Cell(_seconds(row.get("training_seconds")), row.get("training_seconds")),
                    ]
                )
            head = [
                "model",
                *paths,
                "validation Dice",
                *(f"{results.look.structure(n)} Dice" for n in structures),
            ]
            head += ["parameters", "training (s)"]
            name = f"{grid}-{dataset}" if len(study.tested_datasets) > 1 else grid
            tables.append({"name": name, "head": head, "rows": rows})
    return tables


def _three(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}"


def main_tables(results: Results) -> list[dict]:
    """Return a table for each dataset: a row a structure and model, a column a metric of `publish.metrics`."""
    study = results.study
    chosen = chosen_metrics(study.publish.metrics, study)
    tables = []
    for dataset in study.tested_datasets:
        rows = []
        summary = _indexed(results.all_summary, dataset)
        metrics = [
            chosen_metric
            for chosen_metric in chosen
            if any(key[2] == chosen_metric.name for key in summary)
        ]
        shown = [chosen_metric.name for chosen_metric in metrics]
        for structure in results.look.regions:
            best = {name: best_models(results, dataset, structure, name) for name in shown}
            for position, model in enumerate([*results.look.models, *results.raters]):
                cells = {}
                for name in shown:
                    row = summary.get((structure, model, name))
                    leading = best[name]
                    cells[name] = (
                        Cell("–")
                        if row is None
                        else _main_cell(row, metric.find(name), model in leading)
                    )
                    if model in results.raters:
                        continue
                    if row is not None and leading and model not in leading:
                        note = _against(results, dataset, structure, name, model, leading[0])
                        cells[name] = replace(cells[name], against=note)
                counts = [
                    int(summary[structure, model, name]["n_subjects"])
                    for name in shown
                    if (structure, model, name) in summary
                ]
                if not counts:
                    continue
                rows.append(
                    {
                        "structure": structure,
                        "first": position == 0,
                        "model": model,
                        "n": max(counts),
                        "cells": [cells[name] for name in shown],
                    }
                )
        tables.append({"dataset": dataset, "metrics": metrics, "rows": rows})
    return tables


def _indexed(summary: pandas.DataFrame, dataset: str) -> dict[tuple[str, str, str], pandas.Series]:
    table = summary[summary["dataset"] == dataset]
    return {(row["structure"], row["model"], row["metric"]): row for _, row in table.iterrows()}


def _main_cell(row: pandas.Series, shown_metric: Metric, best: bool) -> Cell:
    flags = []
    if int(row["n_infinite"]):
        flags.append(f"{int(row['n_infinite'])} ∞")
    if int(row["n_missing"]):
        flags.append(f"{int(row['n_missing'])} missing")
    if int(row["n_absent"]):
        flags.append(f"{int(row['n_absent'])} without it")
    if int(row["n_undefined"]):
        flags.append(f"{int(row['n_undefined'])} undefined")
    size = penalised(row, shown_metric)
    sized = shown_metric.direction == "zero" and math.isfinite(size)
    notes = [f"mean size {shown_metric.text(size)}"] if sized else []
    interval = f"{shown_metric.text(row['ci_low'])}–{shown_metric.text(row['ci_high'])}"
    return Cell(
        f"{shown_metric.text(row['mean'])} ± {shown_metric.text(row['sd'])}",
        float(row["mean"]),
        "; ".join([*notes, *([] if math.isnan(row["ci_low"]) else [f"CI {interval}"])]),
        best=best,
        flags=flags,
    )


def best_models(results: Results, dataset: str, structure: str, name: str) -> list[str]:
    """Return the models with the best mean, of sizes where values nearest to 0 are best; several where they tie.

    An infinite distance in mm counts as the image's diagonal. A model that learnt nothing is none of them, whatever
    its mean: one that predicts next to nothing has a high precision.

    Without a penalised mean, as of counts and ratios, a model with infinite cases is worse than any without.
    """
    shown_metric, nothing = metric.find(name), learnt_nothing(results)
    costs = {}
    for (region, model, other), row in _indexed(results.summary, dataset).items():
        if region != structure or other != name or model in nothing:
            continue
        costs[model] = shown_metric.cost(penalised(row, shown_metric))
    if not costs or min(costs.values()) == math.inf:
        return []
    return [
        model
        for model in results.look.models
        if model in costs and math.isclose(costs[model], min(costs.values()), rel_tol=1e-12)
    ]


def learnt_nothing(results: Results) -> dict[str, float]:
    """Return the mean Dice of each model that is below `LEAST_DICE` on every dataset."""
    dice = results.summary[results.summary["metric"] == "dice"]
    dice = dice[dice["structure"].isin(results.study.structures)]
    means = dice.groupby(["model", "dataset"], sort=False)["mean"].mean().groupby("model").max()
    return {
        model: float(means[model])
        for model in results.look.models
        if model in means and means[model] < LEAST_DICE
    }


def penalised(row: pandas.Series, shown_metric: Metric) -> float:
    """Return the mean of a row of the summary by which models are ordered, as `summary.COLUMNS` defines it.

    Infinite where the metric has none and a value is infinite; NaN where sizes are compared and the summary has none.
    """
    mean = float(row.get("mean_penalised", math.nan))
    if math.isnan(mean) and (shown_metric.direction != "zero" or int(row["n_infinite"])):
        mean = math.inf if int(row["n_infinite"]) else float(row["mean"])
    return mean


def ordering_title(shown_metric: Metric, infinite: bool) -> str:
    """Return the head of the column of `mean_penalised`; empty where it is the mean, or undefined.

    Parameters
    ----------
    shown_metric
        The metric.
    infinite
        Whether some value of the table is infinite.
    """
    as_diagonal = infinite and shown_metric.unit == "mm"
    if shown_metric.direction == "zero":
        return "Mean size, ∞ as diagonal" if as_diagonal else "Mean size"
    return "Mean, ∞ as diagonal" if as_diagonal else ""


def _against(results, dataset, structure, name, model, best) -> str:
    """Write adjusted p and effect size of a model against the best one."""
    row = _test(results, dataset, structure, name, model, best)
    if row is None or math.isnan(_number(row["p_adjusted"])):
        return ""
    effect = _number(row.get("effect_size", math.nan))
    p = p_value(_number(row["p_adjusted"]))
    words = f"p {p}" if p.startswith("<") else f"p = {p}"
    if not math.isnan(effect):
        words += (
            f", {EFFECTS.get(row['effect_name'], row['effect_name'])} = {number(abs(effect), 2)}"
        )
    return words


def _test(results, dataset, structure, name, model, best) -> pandas.Series | None:
    table = results.tests
    table = table[
        (table["dataset"] == dataset)
        & (table["structure"] == structure)
        & (table["metric"] == name)
        & table["model_a"].isin((model, best))
        & table["model_b"].isin((model, best))
    ]
    return None if table.empty else table.iloc[0]


def metric_tables(results: Results) -> list[dict]:
    """Return a table for each dataset and metric, with the columns of the summary."""
    study, look, tables = results.study, results.look, []
    summary = results.all_summary
    order = {name: place for place, name in enumerate(look.regions)}
    models = {name: place for place, name in enumerate([*look.models, *results.raters])}
    for dataset in study.tested_datasets:
        names = list(dict.fromkeys(summary.loc[summary["dataset"] == dataset, "metric"]))
        chosen = [
            chosen_metric.name for chosen_metric in chosen_metrics(study.publish.metrics, study)
        ]
        first = [name for name in chosen if name in names]
        for name in [*first, *(name for name in names if name not in first)]:
            shown_metric = metric.find(name)
            table = summary[(summary["dataset"] == dataset) & (summary["metric"] == name)]
            table = table.sort_values(
                ["structure", "model"], key=lambda column: column.map({**order, **models})
            )
            counts = {
                key: title
                for key, title in COUNTS.items()
                if key in ALWAYS_COUNTED or (table[key] != 0).any()
            }
            ordered_by = ordering_title(shown_metric, "n_infinite" in counts)
            ordered_by = ordered_by if "mean_penalised" in summary else ""
            # The mean of sizes is marked where it is what is compared, not the mean beside it.
            marked = "mean_penalised" if ordered_by.startswith("Mean size") else "mean"
            rows = []
            for _, row in table.iterrows():
                best = row["model"] in best_models(results, dataset, row["structure"], name)
                cells = [Cell(look.structure(row["structure"])), Cell(look.model(row["model"]))]
                cells += [Cell(str(int(row[key])), float(row[key])) for key in counts]
                cells += [
                    Cell(shown_metric.text(row[key]), float(row[key]), best=best and key == marked)
                    for key in ("mean", "sd", "median", "q1", "q3", "ci_low", "ci_high")
                ]
                rate = float(row["failure_rate"])
                ends = (float(row[end]) for end in ("failure_low", "failure_high"))
                interval = "–".join(f"{100 * end:.0f}" for end in ends)
                cells.append(Cell("–" if rate != rate else f"{100 * rate:.0f} ({interval})", rate))
                if ordered_by:
                    mean = float(row["mean_penalised"])
                    cells.append(
                        Cell(shown_metric.text(mean), mean, best=best and marked != "mean")
                    )
                rows.append(cells)
            head = ["Structure", "Model", *counts.values(), "Mean", "SD", "Median"]
            head += ["Q1", "Q3", "CI low", "CI high", "Failed, % (CI)"]
            head += [ordered_by] if ordered_by else []
            tables.append(
                {"dataset": dataset, "metric": shown_metric, "head": head, "rows": rows,
                 "name": f"{dataset}-{name}"}
            )  # fmt: skip
    return tables


def test_table(results: Results) -> dict:
    """Return every comparison with its own test, statistic, degrees of freedom and number of subjects."""
    look, table = results.look, results.all_tests
    several = len(results.study.tested_datasets) > 1
    level = f"{confidence(results.study.statistics.alpha)} CI"
    head = ["Structure", "Metric", "A − B", "Subjects", "Difference", level, "Test", "p"]
    head += ["p adjusted", "CI, all tests", "By the test", "Effect", "A better for", "Remark"]
    rows = []
    marked = significant(table) if len(table) else pandas.Series(dtype=bool)
    for index, row in table.iterrows():
        shown_metric = metric.find(row["metric"])
        test = row["test"]
        statistic, df = _number(row["statistic"]), _number(row["df"])
        share = _number(row.get("share_a_better", math.nan))
        effect = _number(row.get("effect_size", math.nan))
        interval, all_tests = (
            _between(shown_metric, row[f"ci_low{which}"], row[f"ci_high{which}"])
            for which in ("", "_adjusted")
        )
        words = TESTS.get(test, test)
        if test in STATISTICS and not math.isnan(statistic):
            of = "" if math.isnan(df) else f"({df:g})"
            shown = f"{statistic:.4g}".replace("-", "−")
            words += f", {STATISTICS[test]}{of}\u00a0= {shown}"
        within = row["dataset"] == row["dataset_b"]
        where = row["dataset"] if within else f"{row['dataset']} − {row['dataset_b']}"
        first, second = look.model(row["model_a"]), look.model(row["model_b"])
        cells = [Cell(where)] if several else []
        cells += [
            Cell(look.structure(row["structure"])),
            Cell(shown_metric.axis),
            Cell(f"{first}\u00a0− {second}" if within else first),
            Cell(
                f"{int(row['n_a'])} and {int(row['n_b'])}, unpaired"
                if row["design"] == "unpaired"
                else _subjects(row),
                float(row["n_subjects"]),
            ),
            Cell(shown_metric.text(_number(row["estimate"])), _number(row["estimate"])),
            Cell(interval),
            Cell(words),
            Cell(p_value(_number(row["p"])), _number(row["p"])),
            Cell(
                p_value(_number(row["p_adjusted"])),
                _number(row["p_adjusted"]),
                best=bool(marked.loc[index]),
            ),
            Cell(all_tests),
            Cell(VERDICTS[row["verdict"]]),
            Cell(
                "–"
                if math.isnan(effect)
                else f"{EFFECTS.get(row['effect_name'], row['effect_name'])} {number(effect, 2)}",
                effect,
            ),
            Cell("–" if math.isnan(share) else f"{share:.0%}", share),
            Cell(str(row.get("remark", "") or "")),
        ]
        rows.append(cells)
    return {"head": ["Dataset", *head] if several else head, "rows": rows}


def _between(shown_metric: Metric, low: object, high: object) -> str:
    ends = _number(low), _number(high)
    return "–" if math.isnan(ends[0]) else " to\u00a0".join(shown_metric.text(end) for end in ends)


def _subjects(row: pandas.Series) -> str:
    """Write the number of subjects, and of their cases where these are more."""
    subjects, cases = int(row["n_subjects"]), int(row["n_cases"])
    return str(subjects) if subjects == cases else f"{subjects} ({cases} cases)"


def cohort_tables(results: Results) -> list[dict]:
    """Describe the cohort in a table for each dataset, one line a property."""
    tables = []
    for dataset, settings in results.study.datasets.items():
        cases = results.cases(dataset)
        problems = results.problems(dataset)
        spacing = np.array([case.spacing_mm for case in cases], float)
        shape = np.array([case.shape for case in cases], float)
        volumes = np.array([float(np.prod(case.spacing_mm)) / 1000 for case in cases])
        rows = [
            ("Cases", str(len(cases))),
            ("Subjects", str(len({case.subject for case in cases}))),
            ("Modality", settings.modality if settings.has_images else "label map only"),
            ("Channels", ", ".join(settings.channels) if settings.has_images else "none"),
            ("Role", role(results.study, dataset)),
            ("Grid i × j × k (voxels)", _ranges(shape, "{:.0f}")),
            ("Voxel size i × j × k (mm)", _ranges(spacing, "{:.3g}")),
        ]
        for name in results.look.structures:
            ml = np.array([case.voxels[name] for case in cases]) * volumes
            volumes_present = ml[ml > 0]
            text = "in no case"
            if len(volumes_present):
                low, middle, high = np.percentile(volumes_present, [0, 50, 100])
                text = f"median {middle:.3g} mL ({low:.3g} to {high:.3g})"
                if len(volumes_present) < len(cases):
                    text += f", in {len(volumes_present)} of {len(cases)} cases"
            rows.append((f"{results.look.structure(name)}, as delivered", text))
        same = sum(case.same_image_as is not None for case in cases)
        if same:
            text = f"{same} of the cases, each one subject with the case whose image it has"
            rows.append(("The same image under two subjects", text))
        refused = problems[problems["verdict"] == "refused"]["case"].nunique()
        rows.append(("Refused by the audit", str(refused)))
        faults = results.faults(dataset) if settings.audit_labels else None
        problems_shown = redaction.problems(results, dataset)
        tables.append(
            {"dataset": dataset, "rows": rows, "problems": problems_shown, "faults": faults}
        )
    return tables


def role(study: Study, dataset: str) -> str:
    """Describe in words the role of a dataset's cases."""
    if dataset not in study.tested_datasets:
        return "training only"
    if study.splits.folds == 1 and study.datasets[dataset].role == "train":
        return "fixed split"
    return {"train": "cross-validated", "test": "test only"}[study.datasets[dataset].role]


def _ranges(values: np.ndarray, form: str) -> str:
    if not len(values):
        return "–"
    parts = []
    for low, high in zip(values.min(axis=0), values.max(axis=0), strict=True):
        ends = list(dict.fromkeys((form.format(low), form.format(high))))
        parts.append("–".join(ends))
    return " × ".join(parts)


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
