"""Subgroups: each model's mean, or median, in each group of subjects, with its interval."""

from collections.abc import Mapping

import numpy as np
import pandas

from segstudy.groups import FEW, FEWEST_TESTED
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.words import confidence

MODEL_MM = 2.6
HEAD_MM = 4.4
WIDEST_NAME = 24
"""Signs of a group's name on one line."""


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a panel a structure: a row a group, with a marker a model; a head a column."""
    study, look, shown_metric = results.study, results.look, figure.metric
    table = results.subgroups
    table = table[(table["dataset"] == figure.dataset) & (table["metric"] == shown_metric.name)]
    title = f"Subgroups by {shown_metric.title}, {figure.dataset}"
    panels = [name for name in look.regions if name in set(table["structure"])]
    if not panels:
        return parts.empty_drawing(title, "No group of subjects has a value.", table)
    # A mean leaves out what is infinite, which a median ranks.
    ranked = bool((table["n_infinite"] > 0).any())
    names = ("median", "median_low", "median_high") if ranked else ("mean", "ci_low", "ci_high")
    table = table.assign(value=table[names[0]], low=table[names[1]], high=table[names[2]])
    few = table["n_subjects"] < FEWEST_TESTED  # such intervals would squeeze all others
    table[["low", "high"]] = table[["low", "high"]].mask(few)
    differ = _differing(results, figure)
    rows = list(dict.fromkeys(table[["column", "group"]].itertuples(index=False, name=None)))
    models = [name for name in look.models if name in set(table["model"])]
    layout = parts.panel_layout(len(panels), 2, 85.0)
    heads = len({column for column, _ in rows})
    group_mm = max(style.line_mm() * 1.25, MODEL_MM * len(models) + 1.2)
    lines = max(parts.wrap(f"{name} (n = 999)", WIDEST_NAME).count("\n") + 1 for _, name in rows)
    group_mm = max(group_mm, style.line_mm() * lines + 0.8)
    limits = _limits(table)
    for axes, structure in zip(layout.panels, panels, strict=True):
        of_structure = table[table["structure"] == structure]
        _panel(axes, of_structure, rows, (group_mm, models, limits), differ, look)
        parts.set_title(axes, look.structure(structure), layout.panel_mm)
        axes.set_xlabel(f"{'Median' if ranked else 'Mean'} {shown_metric.axis}")
    layout.set_height(group_mm * len(rows) + HEAD_MM * heads + 16, 10)
    parts.legend(layout.figure, parts.model_handles(results, models), layout.width_mm)
    level = confidence(study.statistics.alpha)
    interval = f"{level} interval of the {'median by order statistics' if ranked else 'mean'}"
    caption = (
        f"Each model's {'median' if ranked else 'mean'} {shown_metric.title} on {figure.dataset} by groups of subjects, with the "
        f"{interval}; n: subjects of a group with a value. {_told_of_tests(results, figure)}"
    )
    if ranked:
        caption += (
            " Medians, since distances are infinite; one that is infinite itself stands as ∞, and an interval that "
            "reaches the edge has no end there."
        )
    if (table["n_subjects"] < FEW).any():
        caption += f" Of groups with fewer than {FEW} subjects little can be told"
        caption += f"; below {FEWEST_TESTED} no interval is drawn." if few.any() else "."
    kept = [
        "column",
        "group",
        "structure",
        "model",
        "n_subjects",
        "n_cases",
        "n_infinite",
        *names,
        "remark",
    ]
    alt = f"{title}. " + " ".join(
        f"{row['column']} {row['group']}, {look.structure(row['structure'])}, {look.model(row['model'])}: "
        f"{shown_metric.text(row['value'])}, n = {row['n_subjects']}."
        for row in table.to_dict("records")
    )
    return parts.Drawing(layout.figure, title, caption, alt, table[kept])


def _told_of_tests(results: Results, figure: Figure) -> str:
    """Say what filled and open markers stand for, and what was not tested."""
    of_groups = _of_groups(results, figure)
    tested = of_groups["test"].fillna("").ne("")
    if not tested.any():
        return f"No difference between groups in {figure.metric.title} was tested; all markers are open."
    untested = "" if tested.all() else ", or nothing was tested, as the table of the tests says"
    return (
        "Filled: the groups of that column differ for the model and structure (p adjusted by Holm's method over all subgroup tests "
        f"≤ {results.study.statistics.alpha:g}); open: no difference can be told{untested}."
    )


def _of_groups(results: Results, figure: Figure) -> pandas.DataFrame:
    """Return the comparisons of all groups of a column in the figure's metric."""
    tests = results.subgroup_tests
    return tests[
        (tests["dataset"] == figure.dataset)
        & (tests["metric"] == figure.metric.name)
        & (tests["comparison"] == "groups")
    ]


def _differing(results: Results, figure: Figure) -> set[tuple[str, str, str]]:
    """Return the (column, structure, model) whose groups differ by the adjusted p."""
    tests = _of_groups(results, figure)
    tests = tests[tests["significant"].astype(str).eq("True")]
    return set(tests[["column", "structure", "model"]].itertuples(index=False, name=None))


def _panel(axes, table: pandas.DataFrame, rows, size, differ, look) -> None:
    """Draw the groups of one structure from the top.

    Parameters
    ----------
    axes
        Of the panel.
    table
        Of the structure, with `value`, `low` and `high`.
    rows
        (column, group) in order.
    size
        Height of a group, the models, and the ends of the axis.
    differ
        Of `_differing`.
    look
        How models are shown.
    """
    group_mm, models, limits = size
    found = {(row["column"], row["group"], row["model"]): row for row in table.to_dict("records")}
    place, ticks, last = 0.0, [], None
    for column, group in rows:
        if column != last:
            last, place = column, place + HEAD_MM
            axes.annotate(
                parts.wrap(column, 40), (0.0, place - 1.2), xycoords=("axes fraction", "data"),
                xytext=(2, 0), textcoords="offset points", fontweight="bold", va="center",
            )  # fmt: skip
            axes.axhline(place - HEAD_MM, color=style.FAINT, lw=0.6)
        present = [
            found[column, group, model] for model in models if (column, group, model) in found
        ]
        n = max((int(row["n_subjects"]) for row in present), default=0)
        ticks.append(
            (place + group_mm / 2, parts.wrap(f"{group} (n\u00a0=\u00a0{n})", WIDEST_NAME))
        )
        offset = (group_mm - MODEL_MM * len(models)) / 2
        for number, model in enumerate(models):
            row = found.get((column, group, model))
            if row is not None:
                height = place + offset + MODEL_MM * (number + 0.5)
                _draw_row(
                    axes, row, height, limits, (column, row["structure"], model) in differ, look
                )
        place += group_mm
    axes.set_xlim(*limits)
    axes.set_ylim(place + 0.6, 0)
    axes.set_yticks([height for height, _ in ticks], [name for _, name in ticks])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.xaxis.set_major_locator(style.ticks(5))


def _draw_row(axes, row: Mapping, height: float, limits, filled: bool, look) -> None:
    """Draw a model's value in a group, with its interval."""
    colour, marker = look.model_colours[row["model"]], look.model_markers[row["model"]]
    if row["low"] == row["low"]:
        ends = np.clip([row["low"], row["high"]], *limits)
        axes.plot(ends, [height, height], color=colour, lw=1.0, solid_capstyle="butt", zorder=3)
    if np.isinf(row["value"]):
        end = limits[1 if row["value"] > 0 else 0]
        axes.text(end, height, "∞ ", color=style.darker(colour), ha="right", va="center", zorder=4)
    elif row["value"] == row["value"]:
        axes.plot(
            [row["value"]], [height], marker=marker, markersize=3.8, color=colour, lw=0,
            markerfacecolor=colour if filled else "white", markeredgewidth=0.9, zorder=4,
        )  # fmt: skip


def _limits(table: pandas.DataFrame) -> tuple[float, float]:
    """Return the axis's ends: all that is finite, with some room."""
    ends = table[["value", "low", "high"]].to_numpy(float)
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return 0.0, 1.0
    room = 0.06 * (np.ptp(ends) or max(abs(ends).max(), 1e-3))
    return float(ends.min() - room), float(ends.max() + room)
