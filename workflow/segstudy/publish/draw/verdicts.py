"""Verdicts: each difference with its two intervals against the margin, and what they tell."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from segstudy import verdict_words
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.words import confidence, count

MARKERS = {"a_better": "^", "equivalent": "s", "b_better": "v", "cannot_be_told": "o"}
"""Shapes that tell verdicts apart without colour."""
BAND = "#dfe3e8"
ENDS = ("ci_low", "ci_high", "equivalence_low", "equivalence_high")


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a forest plot of one metric: a row a structure and pair of models."""
    look, alpha = results.look, results.study.statistics.alpha
    table = shown_rows(results, figure)
    rows = table.to_dict("records")
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    if not rows:
        text = "No comparison has a margin and a test."
        return parts.empty_drawing(_title(figure), text, table)
    names = [
        parts.wrap(f"{look.model(row['model_a'])}\u00a0− {look.model(row['model_b'])}", 34)
        for row in rows
    ]
    words = [parts.wrap(verdict_words.short(row), 22) for row in rows]
    lines = [max(name.count("\n"), word.count("\n")) + 1 for name, word in zip(names, words, strict=True)]  # fmt: skip
    heights = [style.line_mm() * number + 1.4 for number in lines]
    width = style.page_mm()
    drawn = style.canvas(width, sum(heights) + 5.2 * len(structures) + 26)
    axes = drawn.subplots()
    limits = _limits(rows)
    axes.set_xlim(*limits)
    place, ticks, last = 0.0, [], ""
    for row, name, word, height in zip(rows, names, words, heights, strict=True):
        if row["structure"] != last:
            last, place = row["structure"], place + 5.2
            title = look.structure(last) + (", primary endpoint" if row["primary"] else "")
            axes.annotate(
                parts.wrap(title, 60), (0.0, place - 1.6), xycoords=("axes fraction", "data"),
                xytext=(2, 0), textcoords="offset points", fontweight="bold", va="center",
            )  # fmt: skip
        _draw_row(axes, row, (place, height), limits)
        axes.annotate(
            word, (1.0, place + height / 2), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", annotation_clip=False,
        )  # fmt: skip
        ticks.append((place + height / 2, name))
        place += height
    parts.label_differences(axes, ticks, place + 1.0, figure.metric)
    wide, narrow = confidence(alpha), confidence(2 * alpha)
    handles: list = [
        Line2D([], [], color=style.INK, lw=0.7, label=f"{wide} CI"),
        Line2D([], [], color=style.INK, lw=2.4, label=f"{narrow} CI"),
        Patch(facecolor=BAND, edgecolor=style.SOFT, linestyle=":", label="within the margin"),
    ]
    for verdict, marker in MARKERS.items():
        if any(row["verdict"] == verdict for row in rows):
            handles.append(
                Line2D([], [], color=style.INK, lw=0, label=verdict_words.SHORT[verdict],
                       **_look(verdict, marker))
            )  # fmt: skip
    parts.legend(drawn, handles, width)
    counts = sorted({int(row["n_subjects"]) for row in rows})
    n = count(counts[0], "subject")
    if len(counts) > 1:
        n = f"{counts[0]} to {counts[-1]} subjects"
    caption = (
        f"Verdicts by {figure.metric.title} on {figure.dataset}, n = {n} a pair, "
        f"{parts.better_side(figure.metric)}. Thin: {wide} interval of the test by itself; thick: its {narrow} interval. "
        f"Grey: the margin. Equivalent where the thick interval lies inside it, better where 0 lies outside the thin one, both at a "
        f"level of {alpha:g} adjusted for all tests of the family."
    )
    if any(row["estimate_name"] == "hodges_lehmann" for row in rows):
        caption += " Where distances are infinite, the Hodges-Lehmann shift in place of the mean."
    alt = "Forest plot. " + " ".join(
        f"{look.structure(row['structure'])}, {look.model(row['model_a'])} minus {look.model(row['model_b'])}: "
        f"{figure.metric.text(row['estimate'])}, {verdict_words.short(row)}."
        for row in rows
    )
    return parts.Drawing(drawn, _title(figure), caption, alt, table)


def shown_rows(results: Results, figure: Figure):
    """Return the verdicts of a figure: those with a margin and an estimate, in the order of the structures."""
    table = results.comparison_verdicts
    table = table[
        (table["dataset"] == figure.dataset)
        & (table["dataset_b"] == figure.dataset)
        & (table["metric"] == figure.metric.name)
        & table["margin"].notna()
        & np.isfinite(table["estimate"].astype(float))
    ]
    order = {name: place for place, name in enumerate(results.look.regions)}
    return table.sort_values("structure", key=lambda names: names.map(order), kind="stable")


def _draw_row(axes, row: dict, span: tuple[float, float], limits: tuple[float, float]) -> None:
    """Draw the margin, the intervals and the estimate of a comparison. span: top and height of its row."""
    top, height = span
    middle, margin = top + height / 2, row["margin"]
    axes.add_patch(
        Rectangle(
            (-margin, top), 2 * margin, height, facecolor=BAND, edgecolor=style.SOFT, linestyle=":",
            linewidth=0.6, zorder=1,
        )
    )  # fmt: skip
    for low, high, weight in ((*ENDS[:2], 0.7), (*ENDS[2:], 2.4)):
        if row[low] == row[low]:
            ends = np.clip([row[low], row[high]], *limits)
            axes.plot(
                ends, [middle, middle], color=style.INK, lw=weight, solid_capstyle="butt", zorder=3
            )
    axes.plot(
        [row["estimate"]], [middle], color=style.INK, zorder=4,
        **_look(row["verdict"], MARKERS[row["verdict"]]),
    )  # fmt: skip


def _look(verdict: str, marker: str) -> dict:
    told = verdict != "cannot_be_told"
    face = style.INK if told else "white"
    return {"marker": marker, "markersize": 4.6, "markerfacecolor": face}


def _limits(rows: list[dict]) -> tuple[float, float]:
    """Return the axis's ends: margins, and all that is finite, with some room."""
    margins = [side * row["margin"] for row in rows for side in (-1, 1)]
    ends = np.array([*margins, *(row[name] for row in rows for name in ("estimate", *ENDS))], float)
    ends = ends[np.isfinite(ends)]
    room = 0.06 * np.ptp(ends)
    return float(ends.min() - room), float(ends.max() + room)


def _title(figure: Figure) -> str:
    return f"Verdicts by {figure.metric.title}, {figure.dataset}"
