"""A grid search: Dice of each model, on validation and on tested cases, and against its parameters."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, NullLocator

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.words import count

ROW_MM = 4.6


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the Dice of each model of a grid by structure, a row a model; beside it mean Dice over the number of parameters."""
    look = results.look
    table = results.grid(figure.model, figure.dataset)
    structures = [name for name in look.structures if f"dice_{name}" in table]
    colour = look.structure_inks
    rows = np.arange(len(table))
    chosen = table["best"].to_numpy(bool)
    tested = table[[f"dice_{name}" for name in structures]].mean(axis=1)

    height = max(62, 26 + ROW_MM * len(table))
    drawn = style.canvas(style.page_mm(), height)
    by_model, by_size = drawn.subplots(1, 2, width_ratios=[1, 1.15])
    for name in structures:
        by_model.errorbar(
            table[f"dice_{name}"], rows, xerr=table[f"sd_{name}"], fmt=look.structure_markers[name], markersize=3,
            color=colour[name], elinewidth=0.5, zorder=3,
        )  # fmt: skip
    by_model.plot(table["validation_dice"], rows, "d", mfc="none", color=style.INK, ms=4, mew=0.7)
    by_model.set_yticks(
        rows, [look.model(name).removeprefix(f"{figure.model}_") for name in table["model"]]
    )
    by_model.set_ylim(len(table) - 0.5, -0.5)
    for row in rows[chosen]:
        by_model.axhspan(row - 0.45, row + 0.45, color=style.FAINT, alpha=0.6, zorder=0, lw=0)
    by_model.set_xlabel("Dice")
    by_model.set_title("a  Each model")

    by_size.plot(table["parameters"], tested, "h", color=style.SOFT, ms=4, mec="white", mew=0.3)
    by_size.plot(
        table["parameters"], table["validation_dice"], "d", mfc="none", color=style.INK,
        ms=4, mew=0.7,
    )  # fmt: skip
    by_size.plot(
        table["parameters"][chosen], tested[chosen], "o", ms=9, mfc="none", color=style.INK
    )
    by_size.set_xscale("log")
    by_size.set_xticks(_apart(sorted(set(table["parameters"]))))
    by_size.xaxis.set_major_formatter(EngFormatter(places=1, sep=" "))
    by_size.xaxis.set_minor_locator(NullLocator())
    by_size.set_xlim(table["parameters"].min() / 1.3, table["parameters"].max() * 1.3)
    by_size.set_xlabel("Parameters")
    by_size.set_ylabel("Dice, mean of the structures")
    by_size.set_title("b  Dice and size")
    handles = [
        *parts.charted_handles(results, structures, lines=False),
        Line2D([], [], color=style.SOFT, marker="h", ls="none", ms=4, label="Mean, tested cases"),
        Line2D(
            [], [], color=style.INK, marker="d", mfc="none", ls="none", ms=4, label="Validation"
        ),
    ]
    parts.legend(drawn, handles, style.page_mm())

    tested = count(int(table["n_subjects"].max()), "tested subject")
    best = table[chosen]
    choice = (
        f"{look.model(best['model'].iloc[0])} has the highest validation Dice ({best['validation_dice'].iloc[0]:.3f})"
        if len(best)
        else "no model is marked, since not all have a validation Dice"
    )
    return parts.Drawing(
        drawn,
        f"Grid search {figure.model}",
        f"{count(len(table), 'model')}; Dice on {tested} (points: mean; bars: SD over subjects) and on the "
        "held-out validation cases (diamonds), by which the model is chosen. "
        f"The tested cases have no part in the choice: {choice} (shaded; circled).",
        f"Grid search {figure.model}: {choice}.",
        table,
    )


def _apart(values: list[int]) -> list[int]:
    """Choose those of the rising values that are far enough apart on a log axis for a label each."""
    room = np.log(values[-1] / values[0] * 1.7) / 6
    kept = values[:1]
    for value in values[1:]:
        if np.log(value / kept[-1]) >= room:
            kept.append(value)
    return kept
