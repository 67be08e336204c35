"""The results of one metric: every case of every model, and which differences are significant."""

import math
from dataclasses import dataclass

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segstudy.metric import Metric
from segstudy.publish import human_agreement, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.look import Look
from segstudy.publish.results import Results
from segstudy.words import count

DATA_MM, LANE_MM, BRACKET_MM = 40.0, 5.5, 4.0
MOST_BRACKETS = 6
CLOUD_FROM = 10

CORRECTIONS = {
    "max_t": "max-T-adjusted p",
    "holm": "Holm-adjusted p",
    "benjamini_hochberg": "Benjamini-Hochberg-adjusted p",
    "none": "unadjusted p",
}


@dataclass(frozen=True)
class Bracket:
    """A significant difference between the models at positions left and right."""

    left: int
    right: int
    p: float
    level: int


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a panel a structure: models side by side with their cases joined by lines."""
    look, shown_metric = results.look, figure.metric
    values = results.values(figure.dataset, figure.metric.name)
    models = look.models
    panels = [name for name in look.regions if name in set(values["structure"])]
    tables = {
        name: values[values["structure"] == name]
        .pivot(index="case", columns="model", values="value")
        .reindex(columns=models)
        for name in panels
    }
    subject_of = {case.case: case.subject for case in results.cases(figure.dataset)}
    brackets, dropped = {}, False
    for name in panels:
        brackets[name], fewer = _brackets(results, figure, name, tables[name], shown_metric)
        dropped |= fewer
    levels = max(
        (bracket.level + 1 for of_panel in brackets.values() for bracket in of_panel),
        default=0,
    )
    people = human_agreement.of_figure(results, figure.dataset, figure.metric.name)
    bands = [one for name in panels for one in people.get(name, ())]
    arrays = [table.to_numpy(float) for table in tables.values()]
    infinite = any(np.isinf(array).any() for array in arrays)
    arrays += [np.array([[one.q1, one.median, one.q3]]) for one in bands]
    lane = any(np.isinf(array).any() for array in arrays)
    scale = _Scale.of(arrays, shown_metric, lane, levels)

    widest = 4 if len(models) <= 3 else 3 if len(models) == 4 else 2 if len(models) <= 8 else 1
    layout = parts.panel_layout(len(panels), widest, float(np.clip(14 * len(models), 36, 76)), 12)
    slot = layout.panel_mm * 0.92 / len(models)
    above = below = style.line_mm()
    markers: list[parts.CaseMarker] = []
    for index, (place, name) in enumerate(zip(layout.panels, panels, strict=False)):
        names_mm, markers_of_panel = _panel(
            place, _Shown(look, name, tables[name], brackets[name]), scale, shown_metric, slot
        )
        parts.human_band(place, people.get(name, ()), scale.infinity if lane else None)
        below = max(below, names_mm)
        markers += markers_of_panel
        n_subjects = tables[name].notna().groupby(subject_of).any().sum()
        n = f"n\u00a0=\u00a0{n_subjects.max()}" if n_subjects.nunique() == 1 else "n differs"
        above = max(above, parts.set_title(place, f"{look.structure(name)} ({n})", layout.panel_mm))
        place.tick_params(labelleft=index % layout.columns == 0)
    layout.label_left(f"{shown_metric.axis}{' (asinh scale)' if scale.name == 'asinh' else ''}")
    handles = parts.band_handles(bands)
    parts.legend(layout.figure, handles, layout.width_mm)
    room = (style.line_mm() + 2) * len(handles)
    layout.set_height(scale.height_mm + below + above + 4.5, 2 + room)

    starred = any(
        not _roomy(bracket, slot) for of_panel in brackets.values() for bracket in of_panel
    )
    longest = max((len(table) for table in tables.values()), default=0)
    return parts.Drawing(
        layout.figure,
        f"{shown_metric.title}, {figure.dataset}",
        _caption(results, figure, tables, infinite, bool(levels), dropped, starred)
        + human_agreement.caption(bands),
        f"Distribution of {shown_metric.title} per structure and model over {count(longest, 'case')}. "
        + " ".join(_medians(look, name, tables[name], shown_metric) for name in panels)
        + "".join(
            f" {look.structure(name)}, median of {one.rater} (human agreement): {shown_metric.text(one.median)}."
            for name in panels
            for one in people.get(name, ())
        ),
        values[["case", "structure", "model", "value"]],
        markers,
    )


@dataclass(frozen=True)
class _Scale:
    """The vertical axis: data from `low` to `high`, above it a lane for infinity, then brackets."""

    name: str
    width: float
    low: float
    high: float
    lane: bool
    levels: int

    @classmethod
    def of(
        cls, arrays: list[np.ndarray], shown_metric: Metric, lane: bool, levels: int
    ) -> "_Scale":
        finite = np.concatenate([array[np.isfinite(array)] for array in arrays] or [np.zeros(0)])
        if not len(finite):
            return cls("none", 1.0, 0.0, 1.0, lane, levels)
        low, high = float(finite.min()), float(finite.max())
        middle = float(np.median(finite))
        # A few far cases would press all others to the ground: asinh is linear below the median.
        if shown_metric.unit == "mm" and middle > 0 and high > 7 * middle:
            return cls("asinh", middle, 0.0, high * 1.05, lane, levels)
        room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
        low, high = low - room, high + room
        if shown_metric.unit == "mm":
            low = 0.0
        if math.isfinite(shown_metric.high) and high > shown_metric.high - 0.35 * (
            shown_metric.high - low
        ):
            high = shown_metric.high
        low = max(low, shown_metric.low)
        return cls("linear", 1.0, low, high, lane, levels)

    @property
    def height_mm(self) -> float:
        return DATA_MM + LANE_MM * self.lane + BRACKET_MM * self.levels + 1.5

    def at(self, height_mm: float) -> float:
        """Return the value that lies `height_mm` above the axis's foot."""
        low, high = self._forward(self.low), self._forward(self.high)
        return float(self._backward(low + (high - low) * height_mm / DATA_MM))

    @property
    def infinity(self) -> float:
        return self.at(DATA_MM + 0.6 * LANE_MM)

    def bracket(self, level: int) -> float:
        return self.at(DATA_MM + LANE_MM * self.lane + BRACKET_MM * level + 1.2)

    def apply(self, axes) -> None:
        if self.name == "asinh":
            axes.set_yscale("asinh", linear_width=self.width)
        axes.set_ylim(self.low, self.at(self.height_mm))
        ticks = [] if self.name == "none" else self._ticks()
        axes.set_yticks([*ticks, self.infinity] if self.lane else ticks)
        axes.yaxis.set_major_formatter(
            FuncFormatter(
                lambda value, _: "∞" if value > self.high * 1.0001 else f"{value:.6g}".replace("-", "−")
            )
        )  # fmt: skip
        axes.yaxis.set_minor_locator(MaxNLocator(1))
        axes.minorticks_off()
        axes.spines["left"].set_bounds(self.low, self.high)

    def _ticks(self) -> list[float]:
        if self.name == "linear":
            ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        else:
            top = math.ceil(math.log10(self.high))
            ticks = [0, *(lead * 10.0**power for power in range(-2, top) for lead in (1, 2, 5))]
        kept: list[float] = []
        low, high = self._forward(self.low), self._forward(self.high)
        for tick in sorted(ticks):
            if not self.low - 1e-9 <= tick <= self.high * (1 + 1e-9):
                continue
            distance = (self._forward(tick) - self._forward(kept[-1])) / (high - low) if kept else 1
            if distance * DATA_MM >= 4.5:
                kept.append(float(tick))
        return kept

    def _forward(self, value: float) -> float:
        return self.width * math.asinh(value / self.width) if self.name == "asinh" else value

    def _backward(self, value: float) -> float:
        return self.width * math.sinh(value / self.width) if self.name == "asinh" else value


@dataclass(frozen=True)
class _Shown:
    """What a panel shows of a structure: values (case x model) and brackets."""

    look: Look
    structure: str
    table: pandas.DataFrame
    brackets: list[Bracket]


def _panel(
    axes: Axes, shown: _Shown, scale: _Scale, shown_metric: Metric, slot_mm: float
) -> tuple[float, list[parts.CaseMarker]]:
    """Draw one structure; gives the height of the model names in mm, and the cases' places."""
    look, structure, table = shown.look, shown.structure, shown.table
    models = list(table.columns)
    colour, marker = look.model_colours, look.model_markers
    scale.apply(axes)
    positions = pandas.DataFrame(index=table.index, columns=models, dtype=float)
    heights = positions.copy()
    for x, model in enumerate(models):
        column = table[model].to_numpy(float)
        finite, infinite = np.isfinite(column), np.isinf(column)
        positions.loc[finite, model] = x - 0.17 + parts.jitter(column[finite], 0.09)
        heights.loc[finite, model] = column[finite]
        many = infinite.sum()
        positions.loc[infinite, model] = x - 0.17 + np.linspace(-0.1, 0.1, many) * (many > 1)
        heights.loc[infinite, model] = scale.infinity
        if finite.sum() >= CLOUD_FROM:
            parts.half_violin(
                axes, x + 0.21, column[finite], 0.24, colour[model], scale.low, scale.high
            )
        if finite.sum() > 3:
            parts.box_plot(axes, x + 0.1, column[finite], 0.15, colour[model])
        x_of_cases = positions[model].to_numpy(float)
        parts.points(axes, x_of_cases[finite], column[finite], colour[model], marker[model])
        axes.scatter(
            x_of_cases[infinite], np.full(many, scale.infinity), s=13, marker="^", facecolors="white",
            edgecolors=colour[model], linewidths=0.8, zorder=6, clip_on=False,
        )  # fmt: skip
        if many:
            axes.annotate(
                str(many), (x + 0.03, scale.infinity), ha="left", va="center",
                color=style.darker(colour[model], 0.8), fontweight="bold",
            )  # fmt: skip
    alpha = float(np.clip(9 / max(len(table), 1), 0.06, 0.45))
    for case in table.index:
        axes.plot(
            positions.loc[case], heights.loc[case], color=style.SOFT, alpha=alpha, linewidth=0.5,
            zorder=1, clip_on=False,
        )  # fmt: skip
    if scale.lane:
        axes.axhspan(
            scale.at(DATA_MM + 0.12 * LANE_MM), scale.at(DATA_MM + 1.08 * LANE_MM),
            color="#f3ece4", zorder=0.9, linewidth=0,
        )  # fmt: skip
    for bracket in shown.brackets:
        y, foot = scale.bracket(bracket.level), scale.at(
            DATA_MM + LANE_MM * scale.lane + BRACKET_MM * bracket.level + 0.5
        )  # fmt: skip
        axes.plot(
            [bracket.left + 0.06, bracket.left + 0.06, bracket.right - 0.06, bracket.right - 0.06],
            [foot, y, y, foot], color=style.INK, linewidth=0.6, clip_on=False,
        )  # fmt: skip
        roomy = _roomy(bracket, slot_mm)
        text = (
            ("p<0.001" if bracket.p < 0.001 else f"p={bracket.p:.3f}")
            if roomy
            else stars(bracket.p)
        )
        axes.annotate(
            text, ((bracket.left + bracket.right) / 2, y), xytext=(0, 1 if roomy else -1),
            textcoords="offset points", ha="center", va="bottom",
        )  # fmt: skip
    if not np.isfinite(table.to_numpy(float)).any():
        axes.text(
            (len(models) - 1) / 2, (scale.low + scale.high) / 2, "no finite value", ha="center",
            va="center", color=style.SOFT,
        )  # fmt: skip
    axes.set_xlim(-0.55, len(models) - 0.45)
    n_cases = table.notna().sum()
    names = [
        look.model(model) + (f" (n={n_cases[model]})" if n_cases.nunique() > 1 else "")
        for model in models
    ]
    markers = [
        parts.CaseMarker(
            axes, float(positions.loc[case, model]), float(heights.loc[case, model]),
            case, structure, model, shown_metric.text(table.loc[case, model]),
        )
        for case in table.index
        for model in models
        if not math.isnan(heights.loc[case, model])
    ]  # fmt: skip
    return parts.label_models(axes, names, slot_mm), markers


def _roomy(bracket: Bracket, slot_mm: float) -> bool:
    """Tell whether a bracket has room for its p; otherwise it has stars."""
    return (bracket.right - bracket.left) * slot_mm >= 9.5


def stars(p: float) -> str:
    """Write a p value as stars: *** below 0.001, ** below 0.01, else *."""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*"


def significant(tests: pandas.DataFrame) -> pandas.Series:
    """Tell which rows of a table of tests are significant after adjustment."""
    return tests["significant"].astype(str).str.lower().isin(("true", "1", "1.0"))


def _brackets(results, figure, structure, table, shown_metric) -> tuple[list[Bracket], bool]:
    """Return the brackets of significant pairs, and whether some were left out.

    Where there are many, those with the best model by median are kept.
    """
    models = results.look.models
    tests = results.tests
    tests = tests[
        (tests["dataset"] == figure.dataset)
        & (tests["metric"] == figure.metric.name)
        & (tests["structure"] == structure)
        & tests["model_a"].isin(models)
        & tests["model_b"].isin(models)
    ]
    tests = tests[significant(tests)]
    pairs = [
        (*sorted((models.index(a), models.index(b))), float(p))
        for a, b, p in zip(tests["model_a"], tests["model_b"], tests["p_adjusted"], strict=True)
    ]
    fewer = len(pairs) > MOST_BRACKETS
    if fewer:
        medians = shown_metric.compared(table).median().map(shown_metric.cost)
        best = models.index(medians.idxmin())
        pairs = [pair for pair in pairs if best in pair[:2]]
    placed: list[Bracket] = []
    for left, right, p in sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair[0])):
        level = 0
        while any(
            other.level == level and left < other.right and other.left < right for other in placed
        ):  # fmt: skip
            level += 1
        placed.append(Bracket(left, right, p, level))
    return placed, fewer


def _caption(results, figure, tables, infinite, brackets, dropped, starred) -> str:
    study, shown_metric = results.study, figure.metric
    longest = max((len(table) for table in tables.values()), default=0)
    values = results.values(figure.dataset, figure.metric.name)
    shown = set().union(*(table.index for table in tables.values()))
    text = [
        f"{shown_metric.title} on {figure.dataset}, n = {results.count_cases(figure.dataset, shown)}"
    ]
    text.append(
        f" ({shown_metric.definition}; {_better(shown_metric)})."
        if shown_metric.definition
        else "."
    )
    text.append(
        " Each point is a case, and a line joins the same case across models; box: median and "
        "quartiles, whiskers to the last value within 1.5 quartile ranges"
    )
    text.append(f"; half violin: density, from {CLOUD_FROM} cases on." if longest >= 10 else ".")
    undefined = sum(int(table.isna().sum().sum()) for table in tables.values())
    if infinite:
        text.append(
            " Triangles in the lane marked ∞, with their number: infinite "
            + ("distance" if shown_metric.quantity == "length" else "value")
            + ", since the prediction is empty or missing."
        )
    missing = len(values[values["missing"].astype(bool)].drop_duplicates(["case", "model"]))
    if missing:
        taken = {"worst": "shown as the worst value", "exclude": "not shown"}
        text.append(f" {count(missing, 'missing prediction')}, {taken[study.statistics.missing]}.")
    if undefined:
        text.append(f" Undefined and not shown: {count(undefined, 'value')}.")
    tested = (results.tests["metric"] == figure.metric.name) & (
        results.tests["dataset"] == figure.dataset
    )
    if brackets:
        text.append(
            f" Brackets: {CORRECTIONS[study.statistics.correction]} ≤ {study.statistics.alpha:g}"
            + (" (* < 0.05, ** < 0.01, *** < 0.001)." if starred else ".")
        )
        if dropped:
            text.append(
                " Where many pairs differ, only those with the best median"
                + (" size" if shown_metric.direction == "zero" else "")
                + " are bracketed; "
                "the table of tests has all."
            )
    elif tested.any():
        text.append(
            f" No difference is significant ({CORRECTIONS[study.statistics.correction]} > "
            f"{study.statistics.alpha:g})."
        )
    else:
        text.append(" This metric was not tested.")
    return "".join(text)


def _better(shown_metric: Metric) -> str:
    return {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best"}[
        shown_metric.direction
    ]


def _medians(look: Look, name: str, table: pandas.DataFrame, shown_metric: Metric) -> str:
    medians = [
        f"{look.model(model)} {shown_metric.text(table[model].median())}" for model in table.columns
    ]
    return f"{look.structure(name)}, median: {', '.join(medians)}."
