"""Structures of a left and a right side: apart, merged, and predicted under the other side's label."""

from dataclasses import dataclass

import numpy as np
import pandas
from matplotlib.patches import Patch
from scipy import stats

from segstudy import metric
from segstudy.metric import Metric, number
from segstudy.publish import slices, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.views import View, open_case
from segstudy.publish.words import chosen_metrics, listing
from segstudy.study import Study
from segstudy.words import confidence, count

KINDS = {"apart": "#0072B2", "merged": "#56B4E9", "foreground": "#DCE0E5"}
WORDS = {
    "apart": "left and right apart",
    "merged": "left and right merged",
    "foreground": "all foreground",
}


def kinds(study: Study) -> dict[str, list[str]]:
    """List the structures averaged in each bar: those of the pairs, the merged pairs, all foreground."""
    by_members = {frozenset(members): name for name, members in study.composite_regions.items()}
    pairs = study.left_right_pairs
    return {
        "apart": [name for pair in pairs for name in pair],
        "merged": [by_members[frozenset(pair)] for pair in pairs],
        "foreground": [by_members[frozenset(study.structures)]],
    }


def draw_merged(results: Results, figure: Figure) -> parts.Drawing:
    """Draw for each model the mean over cases of three ways to score the same labels, a panel a metric."""
    study, look = results.study, results.look
    metrics = chosen_metrics(study.publish.metrics, study)
    names, models = [chosen_metric.name for chosen_metric in metrics], look.models
    layout = parts.panel_layout(len(names), 3, float(np.clip(17 * len(models), 42, 75)), 8)
    slot = layout.panel_mm * 0.8 / len(models)
    table, below = [], style.line_mm()
    for place, shown_metric in zip(layout.panels, metrics, strict=True):
        name = shown_metric.name
        values = results.values(figure.dataset, name)
        for x, model in enumerate(models):
            for step, (kind, members) in enumerate(kinds(study).items()):
                scores = subject_means(values[values["model"] == model], members)
                row = Bar.of(scores, study.statistics.alpha)
                table.append({"metric": name, "model": model, "kind": kind, **vars(row)})
                _bar(place, x + 0.27 * (step - 1), row, KINDS[kind])
        top = (
            np.nanmax(
                [
                    np.nan,
                    *(
                        row[end]
                        for row in table
                        if row["metric"] == name
                        for end in ("mean", "high")
                    ),
                ]
            )
            if any(row["metric"] == name and row["n"] for row in table)
            else np.nan
        )
        top = top if np.isfinite(top) and top > 0 else 1.0
        place.set_ylim(0, min(1.18 * top, 1.08 if shown_metric.high == 1 else np.inf))
        place.set_xlim(-0.55, len(models) - 0.45)
        place.set_ylabel(f"{shown_metric.axis} {shown_metric.arrow}")
        below = max(below, parts.label_models(place, [look.model(model) for model in models], slot))
    layout.set_height(44 + below, 8)
    handles = [
        Patch(facecolor=KINDS[kind], edgecolor=style.SOFT, label=WORDS[kind]) for kind in KINDS
    ]
    parts.legend(layout.figure, handles, layout.width_mm)
    bars = pandas.DataFrame(table)
    infinite = int(bars["infinite"].sum())
    n = results.values(figure.dataset, names[0])["subject"].nunique()
    level = confidence(study.statistics.alpha)
    return parts.Drawing(
        layout.figure,
        f"Sides apart and merged, {figure.dataset}",
        f"{count(len(study.left_right_pairs), 'pair')} of left and right structures on {figure.dataset}, n = "
        f"{count(n, 'subject')}: each metric for the structures apart, for each pair merged, and for all foreground "
        f"as one (a subject's mean over structures, then the mean over subjects, with its {level} interval by t). "
        "Scores that jump when sides are merged tell of right shapes under the wrong side's label."
        + (f" {count(infinite, 'infinite value')} left out (∞ and number above the bar)." if infinite else ""),
        "Bars. " + " ".join(_said(look.model(row["model"]), row) for row in table),
        bars,
    )  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """A mean over the finite of n subjects with its confidence interval by Student's t."""

    mean: float
    low: float
    high: float
    n: int
    infinite: int

    @classmethod
    def of(cls, scores: np.ndarray, alpha: float) -> "Bar":
        """Average the finite scores (subject,), with an interval at level 1 - alpha."""
        finite = scores[np.isfinite(scores)]
        infinite = int(np.isinf(scores).sum())
        if len(finite) < 2:
            mean = float(finite.mean()) if len(finite) else np.nan
            return cls(mean, np.nan, np.nan, len(finite), infinite)
        mean = float(finite.mean())
        reach = float(stats.t.ppf(1 - alpha / 2, len(finite) - 1) * stats.sem(finite))
        return cls(mean, mean - reach, mean + reach, len(finite), infinite)


def subject_means(values: pandas.DataFrame, members: list[str]) -> np.ndarray:
    """Average some structures of each subject; infinite as soon as one is, NaN only where all are."""
    of_members = values[values["structure"].isin(members)]
    return of_members.groupby("subject")["value"].mean().to_numpy(float)


def _bar(axes, x: float, bar: Bar, colour: str) -> None:
    if np.isfinite(bar.mean):
        axes.bar(x, bar.mean, 0.24, color=colour, edgecolor=style.SOFT, linewidth=0.4, zorder=2)
        axes.plot([x, x], [bar.low, bar.high], color=style.INK, linewidth=0.9, zorder=3)
    if bar.infinite:
        top = next((end for end in (bar.high, bar.mean) if np.isfinite(end)), 0.0)
        axes.annotate(f"{bar.infinite}∞", (x, top), xytext=(0, 1.5), textcoords="offset points",
                      ha="center", va="bottom")  # fmt: skip


def _said(model: str, row: dict) -> str:
    shown_metric: Metric = metric.find(row["metric"])
    return f"{shown_metric.title}, {model}, {WORDS[row['kind']]}: {shown_metric.text(row['mean'])}."


def draw_shares(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the mean share under the wrong side's label, and the worst: a row a structure, a column a model."""
    study, look = results.study, results.look
    models, names = look.models, [name for name in look.structures if name in kinds(study)["apart"]]
    values = results.values(figure.dataset, "side_swapped")
    grouped = values.groupby(["structure", "model"])["value"]
    mean, worst = (
        grouped.agg(how).unstack("model").reindex(index=names, columns=models)
        for how in ("mean", "max")
    )
    names_mm = style.text_mm() * min(max(len(look.structure(name)) for name in names), 30) + 2
    width = float(np.clip(names_mm + 22 * len(models), style.column_mm(), style.page_mm()))
    slot = (width - names_mm) / len(models)
    drawn = style.canvas(width, 10)
    axes = drawn.subplots()
    highest = float(np.nanmax(mean.to_numpy(), initial=0.0))
    words = np.full(mean.shape, "–", dtype=object)
    for place in np.argwhere(mean.notna().to_numpy()):
        mean_percent, most_percent = (100 * table.iloc[tuple(place)] for table in (mean, worst))
        words[tuple(place)] = f"{number(mean_percent, 1)}\n(max {number(most_percent, 1)})"
    parts.heat_map(axes, mean.to_numpy(float), words, "Oranges", 0, max(1.8 * highest, 0.01))
    names_shown = [parts.wrap(look.structure(name), 30) for name in names]
    axes.set_yticks(np.arange(len(names)) + 0.5, names_shown)
    above = parts.set_title(axes, "Predicted voxels of the other side (%)", width - names_mm)
    below = parts.label_models(axes, [look.model(model) for model in models], slot, first=0.5)
    style.set_size(drawn, width, 7.5 * len(names) + below + above + 7)
    n = results.count_cases(figure.dataset, values["case"])
    return parts.Drawing(
        drawn,
        f"Swapped sides, {figure.dataset}",
        f"Of each structure's predicted voxels on {figure.dataset}, n = {n}, the percentage that lies "
        "in the reference's structure of the other side: mean over the cases, in brackets the worst case. –: the "
        "structure was predicted in no case.",
        "Matrix. "
        + " ".join(
            f"{look.structure(name)}, {look.model(model)}: {number(100 * mean.loc[name, model], 1)} %."
            for name in names
            for model in models
        ),
        values.rename(columns={"value": "side_swapped"}),
    )


def draw_cases(results: Results, figure: Figure) -> parts.Drawing:
    """Draw each model's case with the most voxels on the wrong side, on the slice that shows most of them."""
    study, look, models = results.study, results.look, results.look.models
    colours, dataset = parts.colours(results), figure.dataset
    candidates = {model: _most_swapped(results, dataset, model) for model in models}
    chosen = {model: candidate for model, candidate in candidates.items() if candidate is not None}
    layout = parts.panel_layout(len(chosen), 3, panel_mm=57)
    side = layout.panel_mm - 2 if chosen else 12
    layout.set_height(side + 9, 12)
    values = study.datasets[dataset].structures
    shown = []
    for panel, (model, (view, share)) in zip(layout.panels, chosen.items(), strict=False):
        box = view.around()
        overlay.show(panel, box.of(view.image), view.pixel_mm)
        for name, label in view.layers.items():
            overlay.labels(
                panel, box.of(label), values, colours, view.pixel_mm, dashed=name == "prediction"
            )
        overlay.letters(panel, view.plane)
        overlay.note(panel, f"{100 * share:.1f} % swapped")
        lines = [
            parts.wrap(look.model(model), max(8, int(side / (1.1 * style.text_mm())))),
            parts.wrap(view.case, int(side / style.text_mm())),
        ]
        panel.set_title("\n".join(lines), fontsize="medium", loc="center", fontweight="normal")
        shown.append((model, view.case, view.plane, view.position, share))
    if not chosen:
        layout.panels[0].text(
            0.5, 0.5, "No voxel has the wrong side's label", ha="center", va="center"
        )
        layout.panels[0].set_axis_off()
    others = [look.model(model) for model in models if model not in chosen]
    handles = parts.structure_handles(results, kinds(study)["apart"])
    parts.legend(layout.figure, [*handles, *overlay.line_handles()], layout.width_mm)
    texts = [
        f"{look.model(model)}: {case}, {100 * share:.1f} %." for model, case, _, _, share in shown
    ]
    return parts.Drawing(
        layout.figure,
        f"Most swapped cases, {dataset}",
        f"For each model the case of {dataset} with the most voxels under the wrong side's label, as a percentage of "
        "the predicted voxels of all pairs, on the slice that shows the most of them. Solid: reference, dashed: "
        f"prediction; where sides are swapped, dashes have the colour of the other side. Pictures in "
        f"{overlay.RADIOLOGICAL}."
        + (f" Without any swapped voxel: {listing(others)}." if others else ""),
        "Contours on image slices. " + (" ".join(texts) or "No side is swapped in any case."),
        pandas.DataFrame(shown, columns=["model", "case", "plane", "slice", "share_swapped"]),
    )


def _most_swapped(results: Results, dataset: str, model: str) -> tuple[View, float] | None:
    """Return the case with the most voxels on the wrong side, and their share of the predicted voxels of all pairs.

    Layers are `reference` and `prediction`. None where no voxel is swapped.
    """
    table = results.metrics
    table = table[
        (table["dataset"] == dataset)
        & (table["model"] == model)
        & (table["metric"] == "side_swapped")
    ]
    # Of the run that is shown, so that picture and number are of one prediction.
    table = table.sort_values(["fold", "seed"], kind="stable")
    table = table.drop_duplicates(["case", "structure"])
    table = table[table["value"].astype(float) > 0]
    if table.empty:
        return None
    swapped = table["value"].astype(float) * table["n_predicted_voxels"].astype(float)
    case = swapped.groupby(table["case"]).sum().idxmax()
    opened = open_case(results, dataset, case)
    reference, prediction = opened.label.array, opened.prediction(model)
    values = results.study.datasets[dataset].structures
    pairs = [[values[name] for name in pair] for pair in results.study.left_right_pairs]
    wrong = np.zeros(reference.shape, bool)
    for left, right in pairs:
        wrong |= (reference == left) & (prediction == right)
        wrong |= (reference == right) & (prediction == left)
    # A sagittal slice would show one side only.
    plane = "axial" if opened.plane == "sagittal" else opened.plane
    where = opened.cut(int(slices.per_slice(wrong, opened.label.grid, plane).argmax()), plane)
    sided = [value for pair in pairs for value in pair]
    layers = {"reference": where.take(reference), "prediction": where.take(prediction)}
    layers = {name: np.where(np.isin(label, sided), label, 0) for name, label in layers.items()}
    return opened.view(where, layers), float(wrong.sum() / np.isin(prediction, sided).sum())
