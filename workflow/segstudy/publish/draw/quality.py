"""Which predictions not to trust: what is left wrong where the least trusted are set aside, and predicted against real Dice."""

import math

import numpy as np
import pandas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.quality.calibration import KINDS
from segstudy.quality.conformal import ALPHA
from segstudy.quality.risk import aurc, risk_coverage, trust_with_flags
from segstudy.words import confidence, count

ORDERS = ("agreement", "flagged scans last", "real Dice")
"""Orders in which predictions are trusted: the baseline, ours, and the best that any could be."""
BAND = "#dfe4e9"
"""Of intervals."""
LANE = "#f3f4f6"
LEVEL = confidence(ALPHA)


def draw_risk_coverage(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a panel a structure: the mean of 1 - Dice of the predictions kept, over their share, in three orders of trust."""
    look = results.look
    table = _of(results, figure).dropna(subset=["dice"])
    name = look.model(figure.model)
    title = f"Risk and coverage, {name}, {figure.dataset}"
    kinds = [kind for kind in table["agreement_of"].unique() if kind]
    panels = [one for one in look.structures if one in set(table["structure"])]
    if not kinds or not panels:
        text = "No order of trust: there is one prediction a case, or none with a reference."
        return parts.empty_drawing(title, text, table)
    colour = style.on_paper(look.model_colours[figure.model])
    looks = dict(
        zip(
            ORDERS,
            (
                (style.INK, style.LINES[1], 1.0),
                (colour, style.LINES[0], 2.2),
                (style.SOFT, style.LINES[2], 1.0),
            ),
            strict=True,
        )
    )
    layout = _layout(len(panels), 44)
    rows, texts = [], []
    for axes, structure in zip(layout.panels, panels, strict=True):
        scans = table[table["structure"] == structure]
        risk = 1 - scans["dice"].to_numpy(float)
        agreement = scans["agreement"].to_numpy(float)
        trusts = (agreement, trust_with_flags(agreement, scans["distance"]), -risk)
        share = np.arange(1, len(risk) + 1) / len(risk)
        axes.axhline(risk.mean(), color=style.FAINT, linewidth=0.8, zorder=1)
        lines = ["AURC"]
        for order, trust in zip(ORDERS, trusts, strict=True):
            colour, dashes, width = looks[order]
            left = risk_coverage(risk, trust)
            # The baseline on top, which ours often covers.
            axes.plot(
                share, left, color=colour, linestyle=dashes, linewidth=width, zorder=5 - width
            )
            area = aurc(risk, trust)
            lines.append(f"{area:.4f} {order}")
            texts.append(f"{look.structure(structure)}, {order}: AURC {area:.4f}.")
            rows += [
                (structure, order, kept, wrong) for kept, wrong in zip(share, left, strict=True)
            ]
        axes.grid(False)
        axes.set_xlim(0, 1)
        top = max(float(risk.mean()), *(row[3] for row in rows if row[0] == structure))
        # The curves rise to the right; the areas stand above them.
        axes.set_ylim(0, 1.55 * top or 1)
        axes.text(
            0.03, 0.99, "\n".join(lines), transform=axes.transAxes, va="top", linespacing=1.15
        )
        parts.set_title(
            axes, f"{look.structure(structure)} (n\u00a0=\u00a0{len(risk)})", layout.panel_mm
        )
        axes.yaxis.set_major_locator(style.ticks(4))
        axes.set_xlabel("Share of predictions kept")
    layout.label_left("Mean 1 − Dice of these")
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=width, label=f"by {order}" if order == "agreement" else order)
        for order, (colour, dashes, width) in looks.items()
    ]  # fmt: skip
    handles.append(Line2D([], [], color=style.FAINT, linewidth=0.8, label="in no order"))
    parts.legend(layout.figure, handles, layout.width_mm)
    return parts.Drawing(
        layout.figure,
        title,
        f"What is left wrong where the least trusted predictions of {name} on {figure.dataset} are set aside: mean 1 − Dice of those "
        f"kept; n: scans, of {count(table['subject'].nunique(), 'subject')}. Orders: the agreement alone ({KINDS[kinds[0]]}), the "
        "baseline; the same, with flagged scans last; and real Dice, which no estimate can beat. AURC: area under the curve, lower is "
        "better. Each scan is judged by what other subjects tell.",
        f"{title}. " + " ".join(texts),
        pandas.DataFrame(rows, columns=["structure", "order", "coverage", "mean_risk"]),
    )  # fmt: skip


def draw_predicted_dice(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a panel a structure: real over predicted Dice with each scan's interval; flagged scans, which have none, apart."""
    look = results.look
    table = _of(results, figure)
    name = look.model(figure.model)
    title = f"Predicted and real Dice, {name}, {figure.dataset}"
    told = table["predicted_dice"].notna()
    if not told.any():
        why = results.calibrations[figure.model].reason or "all scans are flagged"
        return parts.empty_drawing(title, f"No Dice is predicted: {why}.", table)
    flagged = table["flagged"].eq("yes")
    # A prediction of nothing can be unflagged and without Dice; it has no place here.
    table = table[(told | flagged) & table["dice"].notna()]
    panels = [one for one in look.structures if one in set(table["structure"])]
    colour, marker = (
        style.on_paper(look.model_colours[figure.model]),
        look.model_markers[figure.model],
    )
    layout = _layout(len(panels), 50)
    markers, texts = [], []
    for axes, structure in zip(layout.panels, panels, strict=True):
        scans = table[table["structure"] == structure].sort_values("predicted_dice", kind="stable")
        apart = scans[scans["flagged"].eq("yes")]
        scans = scans[scans["flagged"].ne("yes")]
        predicted, dice, low, high = (
            scans[["predicted_dice", "dice", "dice_low", "dice_high"]].to_numpy(float).T
        )
        inside = (dice >= low) & (dice <= high)
        ends = [*low, *high, *predicted, *apart["dice"], *dice]
        bottom = max(0.0, math.floor(20 * min(ends, default=0)) / 20 - 0.02)
        first, last = (min(predicted), max(predicted)) if len(predicted) else (0.0, 1.0)
        extent = max(last - first, 0.05)
        axes.vlines(predicted, low, high, color=BAND, linewidth=2.4, zorder=1)
        axes.plot(
            [0, 1], [0, 1], color=style.SOFT, linewidth=0.7, linestyle=style.LINES[1], zorder=2
        )
        axes.scatter(
            predicted[inside],
            dice[inside],
            s=9,
            marker=marker,
            color=colour,
            linewidths=0,
            zorder=4,
        )
        axes.scatter(
            predicted[~inside], dice[~inside], s=12, marker=marker, facecolors="white", edgecolors=style.INK,
            linewidths=0.8, zorder=5,
        )  # fmt: skip
        lane = first - 0.19 * extent
        axes.axvspan(lane - 0.09 * extent, lane + 0.09 * extent, color=LANE, linewidth=0, zorder=0)
        places = lane + parts.jitter(apart["dice"].to_numpy(float), 0.06 * extent)
        axes.scatter(
            places, apart["dice"], s=13, marker="x", color=style.INK, linewidths=0.9, zorder=5
        )
        markers += [
            parts.CaseMarker(axes, x, row["dice"], row["case"], structure, figure.model, _tip(row))
            for x, row in zip([*predicted, *places], [*scans.to_dict("records"), *apart.to_dict("records")], strict=True)
        ]  # fmt: skip
        axes.set_xlim(lane - 0.11 * extent, last + 0.06 * extent)
        axes.set_ylim(bottom, min(1.0, max(ends, default=1)) + 0.02)
        axes.xaxis.set_major_locator(style.ticks(4))
        axes.yaxis.set_major_locator(style.ticks(5))
        # In the lane there is no scale.
        axes.set_xticks(
            [
                tick
                for tick in axes.get_xticks()
                if first - 0.05 * extent <= tick <= last + 0.06 * extent
            ]
        )
        number = len(scans) + len(apart)
        parts.set_title(
            axes, f"{look.structure(structure)} (n\u00a0=\u00a0{number})", layout.panel_mm
        )
        axes.set_xlabel("Predicted Dice")
        held = f"{inside.sum()} of {len(inside)} in their interval, {len(apart)} flagged"
        texts.append(f"{look.structure(structure)}: {held}.")
    layout.label_left("Real Dice")
    handles = [
        Patch(color=BAND, label=f"{LEVEL} interval of a scan"),
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=3.4, label="within it"),
        Line2D([], [], color=style.INK, marker=marker, markerfacecolor="white", linestyle="none", markersize=3.8, label="outside"),
        Line2D([], [], color=style.INK, marker="x", linestyle="none", markersize=4, label="flagged: nothing is promised"),
        Line2D([], [], color=style.SOFT, linestyle=style.LINES[1], linewidth=0.7, label="predicted = real"),
    ]  # fmt: skip
    parts.legend(layout.figure, handles, layout.width_mm)
    return parts.Drawing(
        layout.figure,
        title,
        f"Real Dice of the held-out predictions of {name} on {figure.dataset} over what was predicted without the reference, each "
        f"by the calibration of other subjects; n: scans, of {count(table['subject'].nunique(), 'subject')}. {' '.join(texts)} "
        f"The intervals hold for {LEVEL} of new subjects of the same population, not for {LEVEL} of hard ones.",
        f"Scatter plots. {title}. {' '.join(texts)}",
        table[["case", "structure", "agreement", "predicted_dice", "dice_low", "dice_high", "dice", "flagged", "reason"]],
        markers,
    )  # fmt: skip


def _of(results: Results, figure: Figure) -> pandas.DataFrame:
    """Return the estimates of the figure's model on its dataset."""
    table = results.quality_cases
    return table[(table["dataset"] == figure.dataset) & (table["model"] == figure.model)]


def _layout(panels: int, height_mm: float) -> parts.PanelLayout:
    layout = parts.panel_layout(panels, 3, panel_mm=58.0, beside_mm=4)
    layout.set_height(height_mm + 8, 10)
    return layout


def _tip(row: dict) -> str:
    if row["flagged"] == "yes":
        return f"Dice {row['dice']:.3f}; flagged: {row['reason']}"
    return f"Dice {row['dice']:.3f}, predicted {row['predicted_dice']:.3f} ({row['dice_low']:.3f} to {row['dice_high']:.3f})"
