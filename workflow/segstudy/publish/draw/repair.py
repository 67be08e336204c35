"""Label repair: how well each angle explains the fault, and the reference case before and after."""

import numpy as np
import pandas
from matplotlib.lines import Line2D

from segstudy.publish import slices, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.views import moved
from segstudy.publish.words import plain


def draw_sweep(results: Results, figure: Figure) -> parts.Drawing:
    """IoU over the rotation: the whole circle, and the peak with its width."""
    dataset = figure.dataset
    curve, found = results.sweep(dataset), results.transform(dataset)
    curve = curve.sort_values("angle_deg", ignore_index=True)
    structure = found["structure"]
    colour = parts.colours(results).get(structure, style.SOFT)
    drawn = style.canvas(style.PAGE_MM, 58)
    circle, peak = drawn.subplots(1, 2, width_ratios=[1.2, 1])
    if curve.empty:
        for axes in (circle, peak):
            axes.set_axis_off()
        circle.text(0, 0.5, "The sweep was not among the methods of this repair.", va="center")
        text = f"No rotation sweep ran on {dataset}; the chosen method is {found['method']}."
        return parts.Drawing(drawn, f"Rotation sweep, {dataset}", text, text, curve)

    best = int(curve["iou"].idxmax())
    angle, iou = float(curve.loc[best, "angle_deg"]), float(curve.loc[best, "iou"])
    low, high = found.get("peak_deg") or (angle, angle)
    for axes in (circle, peak):
        axes.plot(curve["angle_deg"], curve["iou"], color=style.darker(colour, 0.8))
        axes.set_xlabel("Rotation (°)")
        axes.axvspan(low, high, color=style.lighter(colour, 0.4), linewidth=0, zorder=0)
        axes.plot([angle], [iou], marker="o", color=style.INK, markersize=4, zorder=5)
    circle.set_ylabel("IoU with the delivered label")
    circle.set_title("a  Whole circle")
    circle.set_xlim(-180, 180)
    circle.set_xticks(range(-180, 181, 60))
    circle.set_ylim(0, 1.02)
    circle.axhline(found["iou_before"], color=style.SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
    left = angle > 0
    circle.annotate(
        f"as delivered: {found['iou_before']:.3f}", (-176 if left else 176, found["iou_before"]),
        xytext=(0, 2), textcoords="offset points", ha="left" if left else "right", va="bottom",
        fontsize=6, color=style.SOFT,
    )  # fmt: skip
    rival = found.get("rival_deg")
    if rival is not None:
        circle.axvline(rival, color="#B2182B", linewidth=0.8, linestyle=(0, (1, 1.5)))
        circle.annotate(
            "rival", (rival, 0.02), xytext=(2, 0), textcoords="offset points", fontsize=6,
            color="#B2182B",
        )  # fmt: skip

    half = float(np.clip(4 * max(high - angle, angle - low), 0.2, 180))
    near = curve[(curve["angle_deg"] - angle).abs() <= half]
    floor = float(near["iou"].min())
    peak.set_title("b  Around the optimum")
    peak.set_xlim(angle - half, angle + half)
    room = max(iou - floor, 1e-3)
    peak.set_ylim(floor - 0.05 * room, iou + 0.22 * room)
    peak.annotate(
        f"{angle:.2f}° (IoU {iou:.4f})".replace("-", "−"), (angle, iou), xytext=(0, 4),
        textcoords="offset points", ha="center", va="bottom", fontsize=6.5, fontweight="bold",
    )  # fmt: skip
    if high > low:
        y = floor + 0.06 * room
        peak.annotate(
            "", (low, y), (high, y),
            arrowprops={"arrowstyle": "<->", "color": style.INK, "linewidth": 0.6,
                        "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        peak.annotate(
            f"{high - low:.2f}°", ((low + high) / 2, y), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=6,
        )  # fmt: skip
    text = (
        f"Rotation sweep for {structure} on {dataset}, reference case {found['reference_case']}: "
        "IoU of the right label, moved by the candidate fault, with the delivered one, (a) over "
        f"the whole circle and (b) around the optimum at {angle:.2f}°. Shaded: angles whose IoU is "
        f"within 0.01 of the optimum, {low:.2f}° to {high:.2f}°. The rotation is "
        f"{found.get('rotation', 'swept')}"
        + (f"; {rival:.2f}° explains the labels about as well" if rival is not None else "")
        + "."
    ).replace(" -", " −")
    return parts.Drawing(
        drawn,
        f"Rotation sweep, {dataset}",
        text,
        f"Curve of IoU over rotation with one marked optimum at {angle:.2f} degrees, IoU {iou:.4f}.",
        curve,
    )


def draw_overlay(results: Results, figure: Figure) -> parts.Drawing:
    """The moved structure of the reference case as delivered and as repaired, in three planes."""
    dataset = figure.dataset
    found = results.transform(dataset)
    structure = results.study.datasets[dataset].repair.structure
    colour = parts.colours(results)[structure]
    views = moved(results, dataset)
    boxes = [
        slices.around(view.right | view.delivered | view.repaired, view.pixel_mm, margin=0.25)
        for view in views
    ]
    shapes = [
        box.height_mm(view.pixel_mm) / box.width_mm(view.pixel_mm)
        for view, box in zip(views, boxes, strict=True)
    ]
    side = (style.PAGE_MM - 12) / 3
    drawn = style.canvas(style.PAGE_MM, 2 * side * min(max(shapes), 1.2) + 16)
    axes = drawn.subplots(2, 3)
    for column, (view, box) in enumerate(zip(views, boxes, strict=True)):
        for row, mask in enumerate((view.delivered, view.repaired)):
            panel = axes[row, column]
            image = box.of(view.image)
            overlay.show(panel, image, view.pixel_mm)
            overlay.fill(panel, box.of(view.right), view.pixel_mm, colour, 0.28)
            overlay.contour(panel, box.of(view.right), view.pixel_mm, colour, width_pt=0.9)
            overlay.contour(
                panel, box.of(mask), view.pixel_mm, "#FFFFFF", dashed=True, width_pt=0.9
            )
            overlay.letters(panel, view.plane, all_sides=True)
            if row == 0:
                panel.set_title(plain(view.plane), loc="center")
                overlay.scale_bar(panel, image.shape[1] * view.pixel_mm[1])
            if column == 0:
                name = ("As delivered", "Repaired")[row]
                iou = (found["iou_before"], found["iou_after"])[row]
                panel.text(
                    -0.03, 0.5, f"{name}, IoU {iou:.3f}", transform=panel.transAxes, rotation=90,
                    ha="right", va="center", fontsize=7, fontweight="bold",
                )  # fmt: skip
    handles = [
        Line2D([], [], color=colour, linewidth=2.2, label=f"right label of the {structure}"),
        Line2D([], [], color=style.SOFT, linewidth=1.0, linestyle=(0, (2.6, 1.4)),
               label="label as delivered (above), as repaired (below)"),
    ]  # fmt: skip
    parts.legend(drawn, handles, style.PAGE_MM)
    return parts.Drawing(
        drawn,
        f"Label repair, {dataset}",
        f"{plain(structure)} of the reference case {found['reference_case']} of {dataset}, as "
        f"delivered (IoU {found['iou_before']:.3f} with the right label) and as repaired by "
        f"{found['method']} (IoU {found['iou_after']:.3f}), in three planes through the middle of "
        f"the right label. Filled: right label; dashed: label as delivered or repaired. Pictures in "
        f"{overlay.RADIOLOGICAL}.",
        f"Six pictures. Before repair the outline of the {structure} lies beside its right place, "
        f"IoU {found['iou_before']:.3f}; after repair IoU {found['iou_after']:.3f}.",
        pandas.DataFrame(
            [("as delivered", found["iou_before"]), ("repaired", found["iou_after"])],
            columns=["label", "iou"],
        ),
    )
