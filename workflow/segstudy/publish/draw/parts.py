"""Parts that several figures are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from segstudy.metric import Metric
from segstudy.publish import style
from segstudy.publish.human_agreement import Agreement, label
from segstudy.publish.results import Results

FURTHEST_MM = 20.0
"""How far a slanted name reaches to the left at most."""


@dataclass(frozen=True)
class CaseMarker:
    """A point of a figure that stands for a case.

    Attributes
    ----------
    axes
        That it lies on.
    x, y
        As on the axes.
    case, structure, model
        That it opens in the report.
    text
        Of its tip.
    """

    axes: Axes
    x: float
    y: float
    case: str
    structure: str
    model: str
    text: str


@dataclass(frozen=True)
class Drawing:
    """A figure with its words and numbers.

    Attributes
    ----------
    figure
        As drawn.
    title
        Of the figure.
    caption
        Plain text with n.
    alt
        For a reader who cannot see the figure.
    table
        The numbers it was drawn from.
    markers
        Its points that open a case in the report.
    """

    figure: Figure
    title: str
    caption: str
    alt: str
    table: pandas.DataFrame
    markers: Sequence[CaseMarker] = ()


def marker_positions(drawing: Drawing) -> list[list]:
    """Return the markers of a settled figure as (x, y, case, structure, model, text).

    Parameters
    ----------
    drawing
        Whose figure has its final layout.
    """
    width, height = drawing.figure.get_size_inches() * drawing.figure.dpi
    positions = []
    for marker in drawing.markers:
        x, y = marker.axes.transData.transform((marker.x, marker.y))
        place = [round(float(x / width), 4), round(float(1 - y / height), 4)]
        positions.append([*place, marker.case, marker.structure, marker.model, marker.text])
    return positions


@dataclass(frozen=True)
class PanelLayout:
    """A figure of like panels.

    Attributes
    ----------
    figure
        That holds them.
    panels
        In rows.
    rows, columns
        Of the layout.
    width_mm
        Of the figure.
    panel_mm
        Width of a panel.
    """

    figure: Figure
    panels: list[Axes]
    rows: int
    columns: int
    width_mm: float
    panel_mm: float

    def set_height(self, panel_mm: float, further_mm: float = 0.0) -> None:
        """Give every panel this height, and the figure some more for labels around them."""
        height_mm = self.rows * panel_mm + further_mm
        style.set_size(self.figure, self.width_mm, height_mm)

    def label_left(self, text: str) -> None:
        """Name the vertical axis of the panels that stand on the left."""
        for panel in self.panels[:: self.columns]:
            panel.set_ylabel(text)


def panel_layout(
    count: int, widest: int, panel_mm: float, beside_mm: float = 0.0, **options
) -> PanelLayout:
    """Lay out panels in rows that are evenly filled, at least one; the height is set later.

    Parameters
    ----------
    count
        Number of panels.
    widest
        The most panels of a row, on a page of 170 mm.
    panel_mm
        The width that a panel asks for; it gets the width that a figure between a column and a page wide leaves for it.
    beside_mm
        Width that no panel takes.
    options
        As `subplots` takes them.
    """
    count = max(count, 1)
    rows, columns = style.rows_and_columns(count, style.abreast(widest))
    width = min(max(columns * panel_mm + beside_mm, style.column_mm()), style.page_mm())
    figure = style.canvas(width, 10)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for spare in axes[count:]:
        style.hide(spare)
    return PanelLayout(figure, axes[:count], rows, columns, width, (width - beside_mm) / columns)


def empty_drawing(title: str, text: str, table: pandas.DataFrame) -> Drawing:
    """Draw a sentence in place of a figure that has nothing to show."""
    figure = style.canvas(style.page_mm(), 20)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0, 0.5, text, va="center")
    return Drawing(figure, title, text, text, table)


def better_side(shown_metric: Metric) -> str:
    """Say at which side of a difference A - B model A is better."""
    return {
        "higher": "to the right A is better",
        "lower": "to the left A is better",
        "zero": "by absolute size, to the left A is better",
    }[shown_metric.direction]


def colours(results: Results) -> dict[str, str]:
    """Return a colour for each structure and composite region of the study."""
    return results.look.structure_colours


def density(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Estimate a Gaussian kernel density with Silverman's rule, scaled to a maximum of 1; 1 where all values agree.

    Parameters
    ----------
    values
        (n,).
    at
        Where to evaluate it (m,).
    """
    from scipy.stats import gaussian_kde

    if np.ptp(values) < 1e-9 * max(1.0, np.abs(values).max()):
        return np.ones(len(at))
    estimate = gaussian_kde(values, bw_method="silverman")(at)
    return estimate / estimate.max()


def jitter(values: np.ndarray, width: float) -> np.ndarray:
    """Return sideways offsets in [-width, width] that keep points apart: wide where values are dense, never random.

    Parameters
    ----------
    values
        (n,).
    width
        On the axis.
    """
    if len(values) < 2:
        return np.zeros(len(values))
    order = np.argsort(values, kind="stable")
    sequence = np.empty(len(values))
    sequence[order] = [_van_der_corput(index + 1) for index in range(len(values))]
    room = density(values, values) if len(values) > 4 else np.ones(len(values))
    return (2 * sequence - 1) * width * room


def _van_der_corput(index: int) -> float:
    value, step = 0.0, 0.5
    while index:
        value += step * (index % 2)
        index //= 2
        step /= 2
    return value


def box_plot(axes: Axes, x: float, values: np.ndarray, width: float, colour: str) -> None:
    """Draw a narrow box: median, quartiles, whiskers to the last value within 1.5 quartile ranges."""
    line = {"color": style.darker(colour), "linewidth": 0.8}
    axes.boxplot(
        [values],
        positions=[x],
        widths=[width],
        showfliers=False,
        showcaps=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": style.lighter(colour), "edgecolor": line["color"], "linewidth": 0.8},
        whiskerprops=line,
        medianprops={"color": style.INK, "linewidth": 1.4, "solid_capstyle": "butt"},
        zorder=4,
    )


def half_violin(
    axes: Axes,
    x: float,
    values: np.ndarray,
    width: float,
    colour: str,
    low: float | None = None,
    high: float | None = None,
) -> None:
    """Draw half a violin to the right of `x`, cut where values cannot lie.

    Parameters
    ----------
    axes
        To draw on.
    x
        On the axis.
    values
        (n,), finite.
    width
        On the axis.
    colour
        Of the area.
    low, high
        Where values can lie.
    """
    extent = 0.15 * np.ptp(values)
    ends = [values.min() - extent, values.max() + extent]
    if low is not None:
        ends[0] = max(ends[0], low)
    if high is not None:
        ends[1] = min(ends[1], high)
    at = np.linspace(*ends, 128)
    axes.fill_betweenx(
        at, x, x + width * density(values, at), color=colour, alpha=0.35, linewidth=0, zorder=2
    )


def points(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, marker: str = "o") -> None:
    """Draw cases as points; smaller the more there are."""
    size = 9 if len(y) <= 40 else 5 if len(y) <= 120 else 3
    axes.scatter(
        x, y, s=size, marker=marker, color=colour, alpha=0.9 if len(y) <= 60 else 0.6,
        edgecolors="white" if len(y) <= 60 else "none", linewidths=0.3, zorder=5,
    )  # fmt: skip


def strip_plot(axes: Axes, x: float, values: np.ndarray, colour: str, marker: str = "o") -> None:
    """Draw values at x: a point each on the left and, of more than three, a box on the right."""
    if len(values):
        points(axes, x - 0.14 + jitter(values, 0.14), values, colour, marker)
    if len(values) > 3:
        box_plot(axes, x + 0.17, values, 0.16, colour)


def heat_map(
    axes: Axes, values: np.ndarray, words: np.ndarray, palette: str, low: float, high: float
) -> None:
    """Draw a matrix as cells, coloured from `low` to `high`, with words in them; NaN has no colour.

    Cells are one unit wide and high, the first from 0 to 1, rows from top to bottom.
    """
    seaborn.heatmap(
        values, vmin=low, vmax=high, cmap=palette, annot=words, fmt="", cbar=False,
        annot_kws={"linespacing": 0.95}, xticklabels=False, yticklabels=False,
        ax=axes,
    )  # fmt: skip
    for row, column in np.argwhere(np.isnan(values)):  # seaborn leaves them without words
        axes.text(column + 0.5, row + 0.5, words[row, column], ha="center", va="center")
    colours = axes.collections[0].get_facecolors().reshape(*values.shape, 4)
    for text in axes.texts:  # seaborn writes white where black would have more contrast (WCAG 2)
        column, row = (int(place) for place in text.get_position())
        light = np.isnan(values[row, column]) or style.luminance(colours[row, column]) > 0.18
        text.set_color(style.INK if light else "white")
    axes.set_facecolor("#eef0f2")
    axes.grid(False)
    axes.tick_params(length=0)


def model_handles(results: Results, models: Sequence[str]) -> list[Line2D]:
    """Return legend entries of the models."""
    look = results.look
    return [
        Line2D([], [], color=look.model_colours[model], marker=look.model_markers[model],
               linestyle="none", markersize=4, label=look.model(model))
        for model in models
    ]  # fmt: skip


def structure_handles(results: Results, names: Sequence[str] | None = None) -> list[Line2D]:
    """Return legend entries of structures whose outlines lie on images, where solid and dashed have a meaning of their own."""
    look = results.look
    return [
        Line2D(
            [], [], color=look.structure_colours[name], linewidth=2.2, label=look.structure(name)
        )
        for name in (names or look.regions)
    ]


def charted_handles(
    results: Results, names: Sequence[str], lines: bool = True, points: bool = True
) -> list[Line2D]:
    """Return legend entries of structures in a chart, each with its style of line, its marker, or both."""
    look = results.look
    return [
        Line2D(
            [], [], color=look.structure_inks[name], linewidth=1.1, markersize=3.2, label=look.structure(name),
            linestyle=look.structure_lines[name] if lines else "none",
            marker=look.structure_markers[name] if points else "none",
        )
        for name in names
    ]  # fmt: skip


def human_band(axes: Axes, agreements: Sequence[Agreement], infinity: float | None = None) -> None:
    """Draw each rater's agreement behind the values of models: a band between the quartiles, a dashed line at the median.

    Parameters
    ----------
    axes
        To draw on, with its limits set.
    agreements
        Of the structure, a rater each.
    infinity
        Where infinite values lie; without such a place they lie at the end of the axis.
    """
    ends = axes.get_ylim()
    for one in agreements:
        low, median, high = (
            value if math.isfinite(value) else infinity if infinity is not None else max(ends)
            for value in (one.q1, one.median, one.q3)
        )
        axes.axhspan(low, high, facecolor=style.BAND, alpha=0.7, linewidth=0, zorder=0.3)
        axes.axhline(median, zorder=0.8, **_band_line(one.place))


def band_handles(agreements: Sequence[Agreement]) -> list[tuple[Patch, Line2D]]:
    """Return a legend entry of each rater's band."""
    raters = dict.fromkeys((one.rater, one.place) for one in agreements)
    return [
        (
            Patch(facecolor=style.BAND, linewidth=0),
            Line2D([], [], label=label(rater, agreements, len(raters) > 1), **_band_line(place)),
        )
        for rater, place in raters
    ]


def _band_line(place: int) -> dict:
    """Return the style of the median of the rater at this place among the raters."""
    return {
        "color": style.INK,
        "linewidth": 0.8,
        "linestyle": ("--", ":", "-.")[place % 3],
    }


def legend(figure: Figure, handles: Sequence[Any], width_mm: float) -> None:
    """Draw a legend below the figure, in as many columns as fit its width; artists in a tuple lie on each other."""
    if not handles:
        return
    labels = [
        (handle[-1] if isinstance(handle, tuple) else handle).get_label() for handle in handles
    ]
    widths = [8 + style.text_mm() * len(label) for label in labels]
    columns = len(handles) if sum(widths) <= width_mm else int(width_mm / max(widths))
    columns = max(1, columns)
    columns = -(-len(handles) // -(-len(handles) // columns))
    figure.legend(
        handles=handles, labels=labels, loc="outside lower center", ncols=columns, columnspacing=1.2,
        handletextpad=0.5,
    )  # fmt: skip


def wrap(name: str, width: int) -> str:
    """Break a long name into several lines, after underscores where there are any, and never cut it short."""
    lines, line = [], ""
    for part in name.replace("_", "_\0").replace(" ", " \0").split("\0"):
        while len(part) > width:
            room = width - len(line)
            lines.append(line + part[:room])
            line, part = "", part[room:]
        if len(line) + len(part) > width:
            lines.append(line)
            line = ""
        line += part
    return "\n".join(text.strip() for text in [*lines, line] if text)


def set_title(axes: Axes, text: str, width_mm: float) -> float:
    """Title a panel of this width, in several lines where it is long, and return its height in mm."""
    wrapped = wrap(text, max(10, int(width_mm / (1.2 * style.text_mm()))))
    axes.set_title(wrapped)
    return style.line_mm() * (wrapped.count("\n") + 1)


def label_models(axes: Axes, names: Sequence[str], slot_mm: float, first: float = 0.0) -> float:
    """Name the models below an axis, level where they fit, else slanted, else upright, and return the height in mm.

    Parameters
    ----------
    axes
        To label.
    names
        Of the models.
    slot_mm
        Room of a model along the axis.
    first
        Where the first model stands; the others follow one unit apart.
    """
    character = style.text_mm()
    level = max(4, int(slot_mm / character))
    wrapped = [wrap(name, level) for name in names]
    lines = max(text.count("\n") + 1 for text in wrapped)
    whole = all(
        len(part) <= level for name in names for part in name.replace("_", "_ ").split()
    )  # no word is broken
    axes.set_xticks(np.arange(len(names)) + first)
    axes.tick_params(axis="x", length=0)
    if whole and lines <= (1 if slot_mm < 10 else 2 if slot_mm < 15 else 4):
        axes.set_xticklabels(wrapped)
        return style.line_mm() * lines
    wrapped = [wrap(name, 22) for name in names]
    lines, longest = _extent(wrapped)
    # Slanted lines reach far to the left of the axis, and lie 1.55 times as far apart along it as upright ones.
    if 0.77 * character * longest > FURTHEST_MM or 1.55 * style.line_mm() * lines > slot_mm:
        fitting = max(1, int(slot_mm / style.line_mm()))
        width = next(
            w for w in range(22, 200) if _extent([wrap(n, w) for n in names])[0] <= fitting
        )
        upright = [wrap(name, width) for name in names]
        axes.set_xticklabels(upright, rotation=90, linespacing=1.05)
        return character * _extent(upright)[1] + 2
    axes.set_xticklabels(
        wrapped, rotation=40, ha="right", va="top", rotation_mode="anchor", linespacing=1.05
    )
    return 0.65 * (character * longest + 4) + 2


def label_differences(
    axes: Axes, rows: Sequence[tuple[float, str]], bottom: float, metric: Metric
) -> None:
    """Label a plot of differences between models, a row a comparison from the top, with a line at no difference.

    rows: height and name of each; bottom: height of the lower end.
    """
    axes.axvline(0, color=style.SOFT, lw=0.7, zorder=2)
    axes.set_ylim(bottom, 0)
    axes.set_yticks([height for height, _ in rows], [name for _, name in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.xaxis.set_major_locator(style.ticks(5))
    axes.set_xlabel(f"Difference in {metric.axis}, A − B")


def _extent(wrapped: Sequence[str]) -> tuple[int, int]:
    """Return the most lines of some texts, and the most signs of a line."""
    lines = [text.split("\n") for text in wrapped]
    return max(map(len, lines)), max(len(line) for text in lines for line in text)
