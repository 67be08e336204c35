"""Places of the models under delivered and under corrected labels, as a slope chart."""

import pandas

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results

ROW_MM = 5.0
SIDES = ("delivered", "corrected")


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a panel a structure: a line a model from its place under the old labels to that under the new ones."""
    look = results.look
    table = results.corrections["tables"]["ranks"]
    table = table[(table["dataset"] == figure.dataset) & (table["metric"] == figure.metric.name)]
    panels = [name for name in look.regions if name in set(table["structure"])]
    title = f"Places under both labels by {figure.metric.title}, {figure.dataset}"
    if not panels:
        return parts.empty_drawing(title, "No ranking by this metric.", table)
    layout = parts.panel_layout(len(panels), 3, panel_mm=58.0)
    most = int(table.groupby("structure").size().max())
    layout.set_height(ROW_MM * most + 16)
    texts = []
    for axes, structure in zip(layout.panels, panels, strict=True):
        own = table[table["structure"] == structure]
        heights = {side: _heights(own, f"place_{side}") for side in SIDES}
        for row in own.to_dict("records"):
            model = row["model"]
            ends = [heights[side][model] for side in SIDES]
            moves = bool(row["moved"])
            colour = style.on_paper(look.model_colours[model])
            axes.plot(
                [0, 1], ends, color=colour, linestyle=look.model_lines[model], linewidth=1.8 if moves else 0.8,
                marker=look.model_markers[model], markersize=4.2, zorder=4 if moves else 3,
            )  # fmt: skip
            for x, y, side, align, shift in ((0, ends[0], SIDES[0], "right", -5), (1, ends[1], SIDES[1], "left", 5)):  # fmt: skip
                text = f"{row[f'place_{side}']:.0f} {look.model(model)}"
                axes.annotate(
                    parts.wrap(text, 16), (x, y), xytext=(shift, 0), textcoords="offset points",
                    ha=align, va="center", fontweight="bold" if moves else "normal",
                )  # fmt: skip
            if moves:
                texts.append(
                    f"{look.structure(structure)}: {look.model(model)} from {row['place_delivered']:.0f} to {row['place_corrected']:.0f}."
                )
        axes.set_xlim(-1.15, 2.15)
        axes.set_ylim(most - 0.4, -0.6)
        axes.set_xticks([0, 1], [f"{side}\nlabels" for side in SIDES])
        # Side by side, the two would meet between the lines' ends.
        for label, side in zip(axes.get_xticklabels(), ("right", "left"), strict=True):
            label.set_horizontalalignment(side)
        axes.set_yticks([])
        axes.grid(False)
        for spine in ("left", "bottom"):
            axes.spines[spine].set_visible(False)
        axes.tick_params(axis="x", length=0)
        number = _subjects(results, figure, structure)
        parts.set_title(
            axes, f"{look.structure(structure)} (n\u00a0=\u00a0{number})", layout.panel_mm
        )
    told = " ".join(texts) or "No place changes."
    return parts.Drawing(
        layout.figure,
        title,
        f"Places of the models by their mean rank in {figure.metric.title} on {figure.dataset}, under the labels as delivered (repaired "
        "where the study repairs) and as corrected; 1 is best, models of one place stand below one another; n: subjects. Bold: places "
        "that change.",
        f"Slope chart. {told}",
        table.reset_index(drop=True),
    )


def _heights(own: pandas.DataFrame, column: str) -> dict[str, int]:
    """Return a row of its own for each model, in the order of the places; those that tie keep the order of the table."""
    ordered = own.sort_values(column, kind="stable")["model"]
    return {model: row for row, model in enumerate(ordered)}


def _subjects(results: Results, figure: Figure, structure: str) -> int:
    """Return how many subjects the ranking is of."""
    table = results.ranking
    same = (table["dataset"] == figure.dataset) & (table["metric"] == figure.metric.name)
    return int(table.loc[same & (table["structure"] == structure), "n_subjects"].max())
