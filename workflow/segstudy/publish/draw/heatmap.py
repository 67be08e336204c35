"""Means of every structure and model as a coloured table, a panel a metric."""

import math

import numpy as np

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.publish.tables import learnt_nothing, penalised
from segstudy.publish.words import chosen_metrics, listing

CELL_MM = 6.0
MAP = "cividis"


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the means as a heat map: rows are structures, columns models; the lighter, the better, within each panel."""
    study, look = results.study, results.look
    table = results.summary[results.summary["dataset"] == figure.dataset]
    metrics = [
        chosen_metric
        for chosen_metric in chosen_metrics(study.publish.metrics, study)
        if chosen_metric.name in set(table["metric"])
    ]
    names = [chosen_metric.name for chosen_metric in metrics]
    structures = [name for name in look.regions if name in set(table["structure"])]
    models = look.models
    nothing = learnt_nothing(results)
    names_shown = [look.model(model) for model in models]
    widest = max(1, min(3, int(150 / (11 * len(models)))))
    labels = [parts.wrap(look.structure(name), 22) for name in structures]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    beside = 4 + style.text_mm() * longest
    layout = parts.panel_layout(len(names), widest, max(13 * len(models), 30), beside + 8)
    slot = (layout.panel_mm + 8 / layout.columns - 6) / len(models)
    below = above = style.line_mm()
    cell = max(CELL_MM, style.line_mm() * lines)
    for index, (panel, shown_metric) in enumerate(zip(layout.panels, metrics, strict=False)):
        of_metric = table[table["metric"] == shown_metric.name].set_index(["structure", "model"])
        costs = np.full((len(structures), len(models)), math.inf)
        words = np.full(costs.shape, "–", dtype=object)
        for place in np.ndindex(costs.shape):
            key = (structures[place[0]], models[place[1]])
            if key not in of_metric.index:
                continue
            row = of_metric.loc[key]
            costs[place] = shown_metric.cost(penalised(row, shown_metric))
            infinite = int(row["n_infinite"])
            words[place] = shown_metric.text(row["mean"]) + (f"\n{infinite} ∞" if infinite else "")
        finite = costs[np.isfinite(costs)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        share = np.where(np.isfinite(costs), 1 - (costs - low) / max(high - low, 1e-12), np.nan)
        parts.heat_map(panel, share, words, MAP, 0, 1)
        rivals = np.where([model in nothing for model in models], math.inf, costs)
        best = np.isfinite(rivals) & (rivals == rivals.min(axis=1, keepdims=True))
        for text in panel.texts:
            column, row = (int(place) for place in text.get_position())
            text.set_fontweight("bold" if best[row, column] else "normal")
        if index % layout.columns == 0:
            panel.set_yticks(np.arange(len(structures)) + 0.5, labels)
        below = max(below, parts.label_models(panel, names_shown, slot, first=0.5))
        above = max(
            above,
            parts.set_title(panel, f"{shown_metric.axis} {shown_metric.arrow}", slot * len(models)),
        )
    if not names:
        layout.panels[0].text(0.5, 0.5, "Nothing was measured", ha="center", va="center")
        layout.panels[0].set_axis_off()
    layout.set_height(max(len(structures), 1) * cell + below + above + 5, 2)
    shown = table[table["metric"].isin(names)]
    n = sorted(set(shown["n_subjects"].astype(int)))
    counted = (
        f"n = {n[0]} subjects"
        if len(n) == 1
        else f"n = {n[0]} to {n[-1]} subjects"
        if n
        else "n = 0"
    )
    return parts.Drawing(
        layout.figure,
        f"Means, {figure.dataset}",
        f"Mean of each structure and model on {figure.dataset}, {counted}, over the finite values"
        " (∞: number of infinite ones). The lighter, the better, within a panel; bold: best of a"
        " structure; for both an infinite distance in mm counts as the image's diagonal"
        + (
            ", and of metrics best near 0 the mean size counts."
            if any(shown_metric.direction == "zero" for shown_metric in metrics)
            else "."
        )
        + (" No model that has learnt next to nothing is marked as best." if nothing else ""),
        f"Table of means of {listing([chosen_metric.title for chosen_metric in metrics]) or 'no metric'} for "
        f"{listing([look.in_text(name) for name in structures])} by {listing(names_shown)}.",
        shown[["structure", "model", "metric", "n_subjects", "n_infinite", "mean", "sd"]],
    )
