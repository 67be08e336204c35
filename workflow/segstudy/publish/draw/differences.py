"""Differences of two models, with confidence interval, beside the noise from seed to seed."""

import math

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.draw.comparison import CORRECTIONS, significant
from segstudy.publish.results import Results
from segstudy.publish.tables import best_models
from segstudy.words import confidence, count

MOST_PAIRS = 6
NOISE = "#dfe3e8"


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a forest plot: a row a structure and pair of models, the difference with its two intervals."""
    study, look, shown_metric = results.study, results.look, figure.metric
    tests = results.tests
    tests = tests[(tests["dataset"] == figure.dataset) & (tests["metric"] == figure.metric.name)]
    tests = tests[np.isfinite(tests["estimate"].astype(float))].copy()
    tests["marked"] = significant(tests).to_numpy(bool)
    rows, fewer = [], False
    for structure in look.regions:
        of_structure = tests[tests["structure"] == structure]
        if len(of_structure) > MOST_PAIRS:
            fewer = True
            best = _best(results, figure, structure)
            of_structure = of_structure[
                (of_structure["model_a"] == best) | (of_structure["model_b"] == best)
            ]
        rows += [(structure, row) for _, row in of_structure.iterrows()]
    pairs = [f"{look.model(row['model_a'])}\u00a0− {look.model(row['model_b'])}" for _, row in rows]
    names = [parts.wrap(pair, 44) for pair in pairs]
    heights = [style.line_mm() * (name.count("\n") + 1) + 0.6 for name in names]
    longest = max((len(line) for name in names for line in name.split("\n")), default=10)
    width = float(np.clip(style.text_mm() * (40 + longest), style.column_mm(), style.page_mm()))
    titled = [place == 0 or rows[place - 1][0] != row[0] for place, row in enumerate(rows)]
    drawn = style.canvas(width, sum(heights) + 5.2 * sum(titled) + 24)
    axes = drawn.subplots()
    place, ticks, noise = 0.0, [], False
    limits = _limits([row for _, row in rows])
    axes.set_xlim(*limits)
    for (structure, row), new, name, height in zip(rows, titled, names, heights, strict=True):
        if new:
            place += 5.2
            axes.annotate(
                parts.wrap(look.structure(structure), 60), (0.0, place - 1.2),
                xycoords=("axes fraction", "data"), xytext=(2, 0), textcoords="offset points",
                fontweight="bold", va="center",
            )  # fmt: skip
        middle = place + height / 2
        spread = row.get("seed_spread", math.nan)
        if spread == spread:
            noise = True
            axes.barh(middle, 4 * spread, height * 0.86, left=-2 * spread, color=NOISE, zorder=1)
        colour = style.INK if row["marked"] else style.SOFT
        for low, high, weight in (
            (row["ci_low_adjusted"], row["ci_high_adjusted"], 0.5),
            (row["ci_low"], row["ci_high"], 1.5),
        ):
            if low == low:
                ends = np.clip([low, high], *limits)
                axes.plot(ends, [middle, middle], color=colour, lw=weight)
        axes.plot(
            [row["estimate"]], [middle], marker="o", markersize=3.6, color=colour,
            markerfacecolor=colour if row["marked"] else "white", zorder=4,
        )  # fmt: skip
        ticks.append((middle, name))
        place += height
    parts.label_differences(axes, ticks, place + 1.5, shown_metric)
    if not rows:
        axes.text(0.5, 0.5, "Nothing was compared", transform=axes.transAxes, ha="center")
        axes.set_axis_off()
    corrected = CORRECTIONS[study.statistics.correction]
    handles: list = [
        Line2D([], [], color=style.INK, marker="o", markersize=3.6, lw=1.1, label="A or B is better"),
        Line2D([], [], color=style.SOFT, marker="o", markersize=3.6, lw=1.1,
               markerfacecolor="white", label="cannot be told"),
    ]  # fmt: skip
    if noise:
        handles.append(Patch(color=NOISE, label="± 2 SD from seed to seed"))
    if rows:
        parts.legend(drawn, handles, width)
    counts = sorted({int(row["n_subjects"]) for _, row in rows})
    n = "n = " + (
        f"{counts[0]} to {counts[-1]} subjects"
        if len(counts) > 1
        else count(counts[0] if counts else 0, "subject")
    )
    level = confidence(study.statistics.alpha)
    ranked = any(row["estimate_name"] == "hodges_lehmann" for _, row in rows)
    columns = ["structure", "model_a", "model_b", "n_subjects", "estimate", "estimate_name"]
    columns += ["ci_low", "ci_high", "ci_low_adjusted", "ci_high_adjusted"]
    columns += ["p_adjusted", "significant"] + ["seed_spread"] * ("seed_spread" in tests)
    return parts.Drawing(
        drawn,
        f"Differences in {shown_metric.title}, {figure.dataset}",
        f"Mean difference in {shown_metric.title} on {figure.dataset}, {n} a pair, {parts.better_side(shown_metric)}. Thick: {level} "
        f"interval of the test by itself; thin: of all tests at once. Filled: {corrected} ≤ {study.statistics.alpha:g}."
        + (
            " Where distances are infinite, the Hodges-Lehmann shift in place of the mean."
            if ranked
            else ""
        )
        + (
            " Grey: ± 2 SD of a model's mean from seed to seed, the larger of the two models'; a "
            "difference inside it could come from the seed alone."
            if noise
            else " One seed was trained, so the noise from seed to seed is not known."
            if study.trains
            else ""
        )
        + (" Where there are many pairs, those with the best mean are shown." if fewer else ""),
        "Forest plot. "
        + " ".join(
            f"{look.structure(structure)}, {look.model(row['model_a'])} minus {look.model(row['model_b'])}: "
            f"{shown_metric.text(row['estimate'])}."
            for structure, row in rows
        ),
        tests[columns],
    )


def _limits(rows: list) -> tuple[float, float]:
    """Return the axis's ends: all that is finite, with 0 and some room; intervals without an end reach them."""
    names = ("estimate", "ci_low", "ci_high", "ci_low_adjusted", "ci_high_adjusted")
    ends = np.array([0.0, *(row[name] for row in rows for name in names)], float)
    ends = ends[np.isfinite(ends)]
    room = 0.06 * np.ptp(ends) or 1.0
    return float(ends.min() - room), float(ends.max() + room)


def _best(results: Results, figure: Figure, structure: str) -> str:
    best = best_models(results, figure.dataset, structure, figure.metric.name)
    return best[0] if best else ""
