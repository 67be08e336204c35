"""Label repair: fit of each angle to the fault, cases before and after, and the images' evidence."""

from dataclasses import dataclass

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.views import View, repair_views, repaired_cases
from segstudy.publish.words import plain

#: Colours of verdicts: dark for what needs a look.
VERDICTS = {"review": "#B2182B", "left": "#7A828C", "repaired": "#0072B2"}
RIVAL = VERDICTS["review"]
#: Measures of evidence: column, title of the axis, whether more is better.
EVIDENCE = (
    ("gradient", "Gradient across the\nsurface (intensity/mm)", True),
    ("spread", "Spread of the intensity\ninside (mean abs. dev.)", False),
    ("smoothness", "Smoothness through\nslices (Dice)", True),
)


def draw_sweep(results: Results, figure: Figure) -> parts.Drawing:
    """Draw IoU, or the evidence of all images, over the rotation: the whole circle, and the peak."""
    dataset = figure.dataset
    if results.study.datasets[dataset].repair.estimate_from == "images":
        return _draw_evidence_curve(results, dataset)
    curve, transform = results.sweep(dataset), results.transform(dataset)
    look, structure = results.look, transform["structure"]
    if curve.empty:
        text = f"No rotation sweep ran on {dataset}; the chosen method is {transform['method']}."
        return parts.empty_drawing(f"Rotation sweep, {dataset}", text, curve)

    best = curve.loc[curve["iou"].idxmax()]
    angle, iou = float(best["angle_deg"]), float(best["iou"])
    low, high = transform.get("peak_deg") or (angle, angle)
    colour = parts.colours(results).get(structure, style.SOFT)
    drawn, circle, peak = _over_rotation(
        curve["angle_deg"],
        curve["iou"],
        (angle, iou),
        colour,
        label=f"{angle:.2f}° (IoU {iou:.4f})",
        near_deg=float(np.clip(4 * max(high - angle, angle - low), 0.2, 180)),
        rival_deg=transform.get("rival_deg"),
    )
    circle.set_ylabel("IoU with the delivered label")
    circle.set_ylim(0, 1.02)
    circle.axhline(transform["iou_before"], color=style.SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
    left = angle > 0
    circle.annotate(
        f"as delivered: {transform['iou_before']:.3f}", (-176 if left else 176, transform["iou_before"]),
        xytext=(0, 2), textcoords="offset points", ha="left" if left else "right", va="bottom",
        color=style.SOFT,
    )  # fmt: skip
    for axes in (circle, peak):
        axes.axvspan(low, high, color=style.lighter(colour, 0.4), linewidth=0, zorder=0)
    if high > low:
        bottom, top = peak.get_ylim()
        y = bottom + 0.09 * (top - bottom)
        peak.annotate(
            "", (low, y), (high, y),
            arrowprops={"arrowstyle": "<->", "color": style.INK, "linewidth": 0.6,
                        "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        peak.annotate(
            f"{high - low:.2f}°", ((low + high) / 2, y), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom",
        )  # fmt: skip
    text = (
        f"Rotation sweep for {look.in_text(structure)} on {dataset}, reference case {transform['reference_case']}: "
        "IoU of the right label, moved by the candidate fault, with the delivered one, (a) over "
        f"the whole circle and (b) around the optimum at {angle:.2f}°. Shaded: angles whose IoU is "
        f"within 0.01 of the optimum, {low:.2f}° to {high:.2f}°. The rotation is "
        f"{transform.get('rotation', 'swept')}{_rivalled(transform, 'explains the labels')}."
    ).replace(" -", " −")
    return parts.Drawing(
        drawn,
        f"Rotation sweep, {dataset}",
        text,
        f"Curve of IoU over rotation with one marked optimum at {angle:.2f} degrees, IoU {iou:.4f}.",
        curve.sort_values("angle_deg", ignore_index=True),
    )


def _draw_evidence_curve(results: Results, dataset: str) -> parts.Drawing:
    """Draw how well the structure lies in all images with a candidate rotation undone."""
    curve, transform = results.sweep(dataset), results.transform(dataset)
    curve = curve.sort_values("angle_deg", ignore_index=True)[["angle_deg", "evidence"]]
    structure, angle = transform["structure"], transform["angle_deg"]
    drawn, circle, _ = _over_rotation(
        curve["angle_deg"],
        curve["evidence"],
        (angle, float(np.interp(angle, curve["angle_deg"], curve["evidence"]))),
        colour=parts.colours(results).get(structure, style.SOFT),
        label=f"{angle:.2f}°",
        near_deg=30.0,
        rival_deg=transform.get("rival_deg"),
    )
    circle.set_ylabel("Evidence of the images\n(log gradient over spread, less overlap)")
    evidence = transform["image_evidence"]
    text = (
        f"How well the {results.look.in_text(structure)} lies in the images of {dataset} with a candidate fault undone, "
        f"mean over n = {evidence['cases']:.0f} cases, (a) over the whole circle and (b) around the optimum at "
        f"{angle:.2f}°, at the shift found. No right label was asked. Gain over the labels as delivered: "
        f"{evidence['gain']:.2f} (t = {evidence['t']:.1f}). The rotation is {transform['rotation']}"
        f"{_rivalled(transform, 'suits the images')}."
    ).replace(" -", " −")
    return parts.Drawing(
        drawn,
        f"Evidence over rotation, {dataset}",
        text,
        f"Curve of image evidence over rotation with one marked optimum at {angle:.2f} degrees.",
        curve,
    )


def _over_rotation(
    angles: pandas.Series,
    values: pandas.Series,
    best: tuple[float, float],
    colour: str,
    label: str,
    near_deg: float,
    rival_deg: float | None,
) -> tuple[MatplotlibFigure, Axes, Axes]:
    """Draw a curve over the rotation in degrees, (a) the whole circle and (b) `near_deg` around the best.

    Parameters
    ----------
    angles, values
        Of the curve.
    best
        Its angle and value, marked with `label`.
    colour
        Of the curve.
    label
        Beside the best.
    near_deg
        Half the width of (b).
    rival_deg
        Another angle that does about as well.
    """
    order = np.argsort(angles.to_numpy(), kind="stable")
    angles, values = angles.to_numpy()[order], values.to_numpy()[order]
    drawn = style.canvas(style.page_mm(), 58)
    circle, peak = drawn.subplots(1, 2, width_ratios=[1.2, 1])
    for axes in (circle, peak):
        axes.plot(angles, values, color=style.darker(colour, 0.8))
        axes.plot(*best, marker="o", color=style.INK, markersize=4, zorder=5)
        axes.set_xlabel("Rotation (°)")
    circle.set_title("a  Whole circle")
    circle.set_xlim(-180, 180)
    circle.set_xticks(range(-180, 181, 60))
    if rival_deg is not None:
        circle.axvline(rival_deg, color=RIVAL, linewidth=0.8, linestyle=(0, (1, 1.5)))
        circle.annotate(
            "rival", (rival_deg, 0.04), xytext=(2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=RIVAL,
        )  # fmt: skip
    floor = float(values[np.abs(angles - best[0]) <= near_deg].min())
    room = max(best[1] - floor, 1e-3)
    peak.set_title("b  Around the optimum")
    peak.set_xlim(best[0] - near_deg, best[0] + near_deg)
    peak.set_ylim(floor - 0.05 * room, best[1] + 0.22 * room)
    peak.annotate(
        label.replace("-", "−"), best, xytext=(0, 4), textcoords="offset points", ha="center",
        va="bottom", fontweight="bold",
    )  # fmt: skip
    return drawn, circle, peak


def _rivalled(transform: dict, does: str) -> str:
    """Say of another angle that does about as well; nothing where there is none."""
    rival = transform.get("rival_deg")
    return "" if rival is None else f"; {rival:.2f}° {does} about as well"


@dataclass(frozen=True)
class _Row:
    """A case in three planes. outlines: layer -> (colour, dashed). filled: colour of the layer `right`."""

    title: str
    colour: str
    views: list[View]
    outlines: dict[str, tuple[str, bool]]
    filled: str = ""


def _in_three_planes(rows: list[_Row]) -> MatplotlibFigure:
    """Draw cases below one another, each around its structure."""
    side = (style.page_mm() - 12) / 3
    boxes = [[view.around(margin=0.25) for view in row.views] for row in rows]
    heights = [
        side * min(1.2, max(np.divide(*box.size_mm(view.pixel_mm))
                            for view, box in zip(row.views, row_boxes, strict=True)))
        for row, row_boxes in zip(rows, boxes, strict=True)
    ]  # fmt: skip
    drawn = style.canvas(style.page_mm(), sum(heights) + 16)
    axes = drawn.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    for row, panels, row_boxes in zip(rows, axes, boxes, strict=True):
        for panel, view, box in zip(panels, row.views, row_boxes, strict=True):
            overlay.show(panel, box.of(view.image), view.pixel_mm)
            if row.filled:
                right = box.of(view.layers["right"])
                overlay.fill(panel, right, view.pixel_mm, row.filled, 0.28)
                overlay.contour(panel, right, view.pixel_mm, row.filled)
            for layer, (colour, dashed) in row.outlines.items():
                overlay.contour(panel, box.of(view.layers[layer]), view.pixel_mm, colour, dashed)
            overlay.letters(panel, view.plane, all_sides=True)
            if row is rows[0]:
                panel.set_title(plain(view.plane), loc="center")
                overlay.scale_bar(panel, box.size_mm(view.pixel_mm)[1])
        panels[0].text(
            -0.03, 0.5, row.title, transform=panels[0].transAxes, rotation=90, ha="right",
            va="center", fontweight="bold", color=row.colour,
        )  # fmt: skip
    return drawn


def draw_overlay(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the moved structure of the reference case as delivered and as repaired, in three planes."""
    dataset = figure.dataset
    transform = results.transform(dataset)
    structure = results.study.datasets[dataset].repair.structure
    look, colour = results.look, parts.colours(results)[structure]
    views = repair_views(results, dataset, transform["reference_case"])
    drawn = _in_three_planes(
        [
            _Row(f"{title}, IoU {iou:.3f}", style.INK, views, {layer: ("#FFFFFF", True)}, colour)
            for layer, title, iou in (
                ("delivered", "As delivered", transform["iou_before"]),
                ("repaired", "Repaired", transform["iou_after"]),
            )
        ]
    )
    handles = [
        Line2D([], [], color=colour, linewidth=2.2, label=f"right label of the {look.in_text(structure)}"),
        Line2D([], [], color=style.SOFT, linewidth=1.0, linestyle=(0, (2.6, 1.4)),
               label="label as delivered (above), as repaired (below)"),
    ]  # fmt: skip
    parts.legend(drawn, handles, style.page_mm())
    return parts.Drawing(
        drawn,
        f"Label repair, {dataset}",
        f"{look.structure(structure)} of the reference case {transform['reference_case']} of {dataset}, as "
        f"delivered (IoU {transform['iou_before']:.3f} with the right label) and as repaired by "
        f"{transform['method']} (IoU {transform['iou_after']:.3f}), in three planes through the middle of "
        f"the right label. Filled: right label; dashed: label as delivered or repaired. Pictures in "
        f"{overlay.RADIOLOGICAL}.",
        f"Six pictures. Before repair the outline of the {look.in_text(structure)} lies beside its right place, "
        f"IoU {transform['iou_before']:.3f}; after repair IoU {transform['iou_after']:.3f}.",
        pandas.DataFrame(
            [("as delivered", transform["iou_before"]), ("repaired", transform["iou_after"])],
            columns=["label", "iou"],
        ),
    )


def draw_cases(results: Results, figure: Figure) -> parts.Drawing:
    """Draw some cases in three planes, those for review first: as delivered, and as the study goes on."""
    dataset = figure.dataset
    transform = results.transform(dataset)
    structure = results.study.datasets[dataset].repair.structure
    shown = [
        (case, verdict)
        for case, verdict in repaired_cases(results, dataset)
        if case != transform["reference_case"]
    ]
    if not shown:
        text = f"{dataset} has no case but the reference case."
        table = pandas.DataFrame(columns=["case", "verdict"])
        return parts.empty_drawing(f"Repaired cases, {dataset}", text, table)
    outlines = {"delivered": ("#FF8F8F", True), "repaired": ("#FFFFFF", False)}
    drawn = _in_three_planes(
        [
            _Row(
                f"{case}: {verdict}",
                style.darker(VERDICTS.get(verdict, style.INK), 0.9),
                repair_views(results, dataset, case),
                outlines,
            )
            for case, verdict in shown
        ]
    )
    handles = [
        Line2D([], [], color="#FF8F8F", linewidth=1.2, linestyle=(0, (2.6, 1.4)), label="as delivered"),
        Line2D([], [], color=style.FAINT, linewidth=1.2, label="as the study goes on"),
    ]  # fmt: skip
    parts.legend(drawn, handles, style.page_mm())
    listed = ", ".join(f"{case} ({verdict})" for case, verdict in shown)
    return parts.Drawing(
        drawn,
        f"Repaired cases, {dataset}",
        f"{results.look.structure(structure)} of cases of {dataset}, in three planes through its middle: {listed}. Red dashes: "
        "label as delivered; white: label that the study goes on with, the same where the verdict left it. "
        f"Pictures in {overlay.RADIOLOGICAL}.",
        f"Pictures of {len(shown)} cases with the outline of the {results.look.in_text(structure)} before and after repair.",
        pandas.DataFrame(shown, columns=["case", "verdict"]),
    )


def draw_evidence(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the evidence of the images of each case before and after, as pairs."""
    dataset = figure.dataset
    structure = results.study.datasets[dataset].repair.structure
    columns = [f"{name}_{when}" for name, _, _ in EVIDENCE for when in ("before", "after")]
    table = results.verdicts(dataset)
    table = table.reindex(columns=["case", "verdict", *columns])
    table = table[table[columns].notna().any(axis=1)].reset_index(drop=True)
    drawn = style.canvas(style.page_mm(), 62)
    panels = drawn.subplots(1, len(EVIDENCE))
    summaries = []
    for letter, axes, (name, title, more) in zip("abc", panels, EVIDENCE, strict=True):
        pairs = table[[f"{name}_before", f"{name}_after"]].to_numpy(float)
        # Those for review last, so that none hides behind the crowd.
        for verdict in ("repaired", "left", "review"):
            for before, after in pairs[(table["verdict"] == verdict).to_numpy()]:
                axes.plot(
                    [0, 1], [before, after], color=VERDICTS[verdict], linewidth=0.9, alpha=0.75,
                    marker={"repaired": "o", "left": "s", "review": "^"}[verdict], markersize=3,
                )  # fmt: skip
        known = pairs[np.isfinite(pairs).all(axis=1)]
        better = int(((known[:, 1] > known[:, 0]) == more).sum()) if len(known) else 0
        axes.set_title(f"{letter}  better in {better} of {len(known)}")
        axes.set_xlim(-0.25, 1.25)
        slot = 0.3 * style.page_mm() / len(EVIDENCE)
        below = parts.label_models(axes, ["as delivered", "fault undone"], slot)
        axes.set_ylabel(f"{title}, {'more' if more else 'less'} is better")
        if name == "smoothness":
            axes.set_ylim(min([0.5, *known.ravel()]), 1.02)
        elif len(known):
            axes.set_ylim(0, 1.08 * max(float(known.max()), 1e-6))
        summaries.append(f"{name} better in {better} of {len(known)}")
    style.set_size(drawn, style.page_mm(), 58 + below)
    counts = table["verdict"].value_counts()
    handles = [
        Line2D([], [], color=colour, marker={"repaired": "o", "left": "s", "review": "^"}[verdict],
               markersize=3, linewidth=0.9, label=f"{verdict} (n = {counts.get(verdict, 0)})")
        for verdict, colour in VERDICTS.items()
        if counts.get(verdict, 0)
    ]  # fmt: skip
    parts.legend(drawn, handles, style.page_mm())
    return parts.Drawing(
        drawn,
        f"Evidence before and after, {dataset}",
        f"What the image says of the {results.look.in_text(structure)} of each case of {dataset} (n = {len(table)}) as "
        "delivered and with the fault undone: (a) mean absolute derivative of the image across the "
        "structure's surface, (b) mean absolute deviation of the intensity from its median inside, (c) "
        "mean Dice of neighbouring slices. A line is a case, in the colour of its verdict; where it was "
        "left, the study goes on with the label as delivered.",
        f"Paired lines before and after repair: {', '.join(summaries)} cases.",
        table,
    )


def draw_methods(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the methods tried on the reference case: IoU against seconds."""
    dataset = figure.dataset
    transform = results.transform(dataset)
    table = results.attempts(dataset).merge(results.attempt_seconds(dataset), how="left")
    table = table[["method", "frame", "iou_replayed", "seconds", "chosen", "reason"]]
    number = [
        pandas.to_numeric(table[name], errors="coerce") for name in ("iou_replayed", "seconds")
    ]
    names = [
        f"{row.method}" + (f" ({row.frame})" if table["frame"].nunique() > 1 else "")
        for row in table.itertuples()
    ]
    rows = np.arange(len(table))[::-1]
    drawn = style.canvas(style.page_mm(), 24 + 6 * len(table))
    panels = drawn.subplots(1, 2, sharey=True)
    chosen = table["chosen"].astype(str).str.lower() == "true"
    colours = [style.INK if is_chosen else style.SOFT for is_chosen in chosen]
    for axes, values in zip(panels, number, strict=True):
        for row, value, colour, name in zip(rows, values, colours, names, strict=True):
            swept = name.startswith("sweep")
            axes.plot([value], [row], "o" if swept else "s", color=colour, markersize=4.5)
            axes.axhline(row, color=style.FAINT, linewidth=0.5, zorder=0)
            if not np.isfinite(value):
                axes.annotate("failed", (0.02, row), xycoords=("axes fraction", "data"),
                              va="center", color=style.SOFT)  # fmt: skip
    panels[0].set_yticks(rows, names)
    for label, is_chosen in zip(panels[0].get_yticklabels(), chosen, strict=True):
        label.set_fontweight("bold" if is_chosen else "normal")
    panels[0].set_ylim(-0.6, len(table) - 0.4)
    for axes in panels:
        axes.margins(x=0.1)
    panels[0].set_xlabel("IoU of the replayed fault")
    panels[0].set_title("a  How exact")
    panels[1].set_xlabel("Seconds (log scale)")
    panels[1].set_title("b  How long")
    if (number[1] > 0).any():
        panels[1].set_xscale("log")
        panels[1].xaxis.set_major_formatter(ScalarFormatter())
        panels[1].xaxis.set_minor_formatter(NullFormatter())
    for row, value in zip(rows, number[0], strict=True):
        if np.isfinite(value):
            panels[0].annotate(f"{value:.4f}", (value, row), xytext=(0, 4), ha="center",
                               textcoords="offset points")  # fmt: skip
    for row, value in zip(rows, number[1], strict=True):
        if np.isfinite(value):
            panels[1].annotate(f"{value:.1f}", (value, row), xytext=(0, 4), ha="center",
                               textcoords="offset points")  # fmt: skip
    return parts.Drawing(
        drawn,
        f"Methods of repair, {dataset}",
        f"Methods tried on the reference case {transform['reference_case']} of {dataset} (n = 1): (a) IoU of the right "
        "label of the "
        f"{results.look.in_text(transform['structure'])}, moved by the fault found, with the delivered one; (b) seconds to "
        "reach it, with the steps that a method starts from. Bold: the method chosen.",
        "Dot chart of "
        + "; ".join(
            f"{name}: IoU {value:.4f}" for name, value in zip(names, number[0], strict=True)
        )
        + ".",
        table.drop(columns="reason"),
    )
