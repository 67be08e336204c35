"""Precision against recall, and predicted against reference volumes."""

import numpy as np

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.words import count


def draw_precision_recall(results: Results, figure: Figure) -> parts.Drawing:
    """Draw precision against recall, a panel a structure: each case, each model's median, curves of equal Dice."""
    look = results.look
    models = look.models
    colour, marker = look.model_colours, look.model_markers
    keys = ["case", "structure", "model"]
    table = results.values(figure.dataset, "recall").merge(
        results.values(figure.dataset, "precision"), on=keys, suffixes=("_recall", "_precision")
    )
    table = table.rename(columns={"value_recall": "recall", "value_precision": "precision"})
    panels = [name for name in look.regions if name in set(table["structure"])]
    values = table[["recall", "precision"]].to_numpy(float)
    # A few failed cases must not press all others into a corner: they are drawn at the edge.
    low = float(np.nanpercentile(values, 3)) if np.isfinite(values).any() else 0.0
    low = max(0.0, np.floor((low - 0.02) * 10) / 10)
    outside = int((values < low).any(axis=1).sum())
    layout = _panels([look.structure(name) for name in panels], len(models), square=True)
    markers: list[parts.CaseMarker] = []
    for panel, name in zip(layout.panels, panels, strict=False):
        _dice_curves(panel, low)
        for model in models:
            rows = table[(table["structure"] == name) & (table["model"] == model)]
            rows = rows.dropna(subset=["recall", "precision"])
            places = rows[["recall", "precision"]].to_numpy(float)
            beyond = (places < low).any(axis=1)
            markers += [
                parts.CaseMarker(panel, max(recall, low), max(precision, low), case, name, model,
                           f"precision {precision:.3f}, recall {recall:.3f}")
                for case, (recall, precision) in zip(rows["case"], places, strict=True)
            ]  # fmt: skip
            panel.scatter(
                *places[~beyond].T, s=7, marker=marker[model], color=colour[model],
                alpha=0.5, linewidths=0, zorder=3, clip_on=False,
            )  # fmt: skip
            panel.scatter(
                *np.maximum(places[beyond], low).T, s=10, marker=marker[model],
                facecolors="white", edgecolors=colour[model], linewidths=0.8, zorder=4,
                clip_on=False,
            )  # fmt: skip
            if len(rows):
                panel.scatter(
                    *np.maximum(np.median(places, axis=0), low), s=26,
                    marker=marker[model], color=colour[model], edgecolors=style.INK,
                    linewidths=0.8, zorder=5, clip_on=False,
                )  # fmt: skip
        panel.set_xlim(low, 1.0)
        panel.set_ylim(low, 1.0)
        panel.set_box_aspect(1)
        panel.grid(False)
        parts.set_title(panel, look.structure(name), layout.panel_mm - 3.5)
        ticks = [tick for tick in _ticks(low) if tick >= low - 1e-9]
        panel.set_xticks(ticks)
        panel.set_yticks(ticks)
        panel.set_xlabel("Recall")
    layout.label_left("Precision")
    parts.legend(layout.figure, parts.model_handles(results, models), layout.width_mm)
    n = results.count_cases(figure.dataset, table["case"])
    undefined = int(np.isnan(values).any(axis=1).sum()) if len(values) else 0
    medians = table.groupby(["structure", "model"])[["precision", "recall"]].median()
    texts = [
        f"{look.structure(name)}, {look.model(model)}: precision {row['precision']:.3f}, recall {row['recall']:.3f}."
        for (name, model), row in medians.iterrows()
    ]
    return parts.Drawing(
        layout.figure,
        f"Precision and recall, {figure.dataset}",
        f"Precision against recall on {figure.dataset}, n = {n}. Small: a case; "
        "large: the model's median. Grey curves join places of equal Dice. Above the diagonal a "
        "structure is drawn too small, below it too large."
        + (
            f" {count(outside, 'point')} with a value below {low:.1f} {'is' if outside == 1 else 'are'} drawn open, at the edge."
            if outside
            else ""
        )
        + (f" Undefined and not shown: {count(undefined, 'value')}." if undefined else ""),
        "Scatter plots. Medians: " + " ".join(texts),
        table[[*keys, "precision", "recall"]],
        markers,
    )


def draw_volumes(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the difference of volumes over their mean, with limits of agreement (Bland and Altman 1986)."""
    look = results.look
    models = look.models
    colour, marker = look.model_colours, look.model_markers
    voxel_ml = {
        case.case: float(np.prod(case.spacing_mm)) / 1000 for case in results.cases(figure.dataset)
    }
    table = results.metrics
    table = table[(table["dataset"] == figure.dataset) & (table["metric"] == "dice")]
    table = table[table["status"] != "missing_file"]
    keys = ["case", "structure", "model"]
    voxels = ["n_reference_voxels", "n_predicted_voxels"]
    table = table.groupby(keys, as_index=False)[voxels].mean()
    size = table["case"].map(voxel_ml)
    table["reference_ml"] = table["n_reference_voxels"] * size
    table["predicted_ml"] = table["n_predicted_voxels"] * size
    table["mean_ml"] = (table["reference_ml"] + table["predicted_ml"]) / 2
    table["difference_ml"] = table["predicted_ml"] - table["reference_ml"]
    panels = [name for name in look.regions if name in set(table["structure"])]
    layout = _panels([look.structure(name) for name in panels], len(models))
    texts, markers = [], []
    for panel, name in zip(layout.panels, panels, strict=False):
        of_structure = table[table["structure"] == name]
        panel.axhline(0, color=style.SOFT, linewidth=0.7, zorder=1)
        low, high = float(of_structure["mean_ml"].min()), float(of_structure["mean_ml"].max())
        extent = (high - low) or max(abs(high), 1.0) * 0.2
        step = 0.055 * extent
        for place, model in enumerate(models):
            rows = of_structure[of_structure["model"] == model]
            panel.scatter(
                rows["mean_ml"], rows["difference_ml"], s=8, marker=marker[model],
                color=colour[model], alpha=0.75, linewidths=0, zorder=3,
            )  # fmt: skip
            markers += [
                parts.CaseMarker(panel, row.mean_ml, row.difference_ml, row.case, name, model,
                           f"{row.predicted_ml:.3g} of {row.reference_ml:.3g} mL")
                for row in rows.itertuples()
            ]  # fmt: skip
            bias, sd = rows["difference_ml"].mean(), rows["difference_ml"].std()
            x = high + 0.1 * extent + place * step
            if len(rows) > 1:
                panel.plot([x, x], [bias - 1.96 * sd, bias + 1.96 * sd], color=colour[model],
                           linewidth=1.4, solid_capstyle="butt", zorder=4)  # fmt: skip
            panel.scatter([x], [bias], s=16, marker=marker[model], color=colour[model],
                          edgecolors=style.INK, linewidths=0.6, zorder=5)  # fmt: skip
            texts.append(f"{look.structure(name)}, {look.model(model)}: bias {bias:.3g} mL.")
        panel.axvspan(high + 0.05 * extent, high + 0.15 * extent + len(models) * step,
                      color="#f3f4f6", zorder=0, linewidth=0)  # fmt: skip
        panel.set_xlim(low - 0.06 * extent, high + 0.15 * extent + len(models) * step)
        parts.set_title(panel, look.structure(name), layout.panel_mm - 3.5)
        panel.set_xlabel("Mean of both (mL)")
    layout.label_left("Predicted − reference (mL)")
    parts.legend(layout.figure, parts.model_handles(results, models), layout.width_mm)
    return parts.Drawing(
        layout.figure,
        f"Volume agreement, {figure.dataset}",
        f"Predicted against reference volumes on {figure.dataset}, n = "
        f"{results.count_cases(figure.dataset, table['case'])} (Bland-Altman plot). Each point is a case; on the shaded right, each "
        "model's mean difference and its limits of agreement (mean ± 1.96 SD). Above 0 the "
        "structure is predicted too large.",
        "Bland-Altman plots. " + " ".join(texts),
        table[[*keys, "reference_ml", "predicted_ml", "mean_ml", "difference_ml"]],
        markers,
    )


def _panels(panels: list[str], models: int, square: bool = False) -> parts.PanelLayout:
    """Lay out a panel a structure, with room for a legend of the models."""
    layout = parts.panel_layout(len(panels), 4, panel_mm=58.0, beside_mm=4)
    side = layout.panel_mm - 8.5
    lines = -(-models // max(1, int(layout.width_mm / 25)))
    longest = max((len(name) for name in panels), default=0)
    above = style.line_mm() * -(-longest // int((side + 5) / (1.2 * style.text_mm())))
    layout.set_height((side if square else min(side, 36)) + above + 11, 5 * lines)
    return layout


def _ticks(low: float) -> list[float]:
    step = 0.2 if low < 0.5 else 0.1 if low < 0.85 else 0.05
    return [round(1 - index * step, 2) for index in range(round((1 - low) / step) + 1)][::-1]


def _dice_curves(axes, low: float) -> None:
    """Draw curves of equal Dice, which is the harmonic mean of precision and recall."""
    axes.plot([low, 1], [low, 1], color=style.FAINT, linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    step = 0.2 if low < 0.5 else 0.1 if low < 0.85 else 0.05
    dice = 1 - step
    while dice > low + step / 4:
        recall = np.linspace(max(dice / (2 - dice), low), 1, 100)
        precision = dice * recall / (2 * recall - dice + 1e-12)
        axes.plot(recall, precision, color=style.FAINT, linewidth=0.7, zorder=1)
        edge = dice / (2 - dice)
        if edge >= low:
            axes.annotate(
                f"{dice:.2g}", (1.0, edge), xytext=(-1, 1), textcoords="offset points", ha="right",
                va="bottom", color=style.SOFT, zorder=2,
            )  # fmt: skip
        dice -= step
