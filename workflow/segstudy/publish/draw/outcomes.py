"""Best, median and worst case of a model for each structure, with the outlines of every model."""

import pandas
from matplotlib.lines import Line2D

from segstudy.publish import slices, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.views import REFERENCE, ViewCache
from segstudy.publish.words import plain
from segstudy.words import count

MOST_OTHERS = 4  # outlines of more models would hide one another
OTHER_DASHES = ((), (1.0, 1.2), (6.0, 1.5), (6.0, 1.2, 1.0, 1.2))
"""Patterns of the other models' outlines; the first is solid."""
FEW_STRUCTURES = 4  # more of them stand in two blocks side by side


def draw(results: Results, figure: Figure, viewer: ViewCache) -> parts.Drawing:
    """Draw the best, median and worst case of `figure.model` by each structure's Dice, a row a structure.

    All models are outlined on the same slice, that with most of the structure's reference.
    """
    look, dataset, model = results.look, figure.dataset, figure.model
    values, models = results.study.datasets[dataset].structures, look.models
    shown_name = look.model(model)
    colours = parts.colours(results)
    # On dark pictures the darker ones would hardly be seen.
    model_colours = {
        name_of_model: style.lighter(c, 0.75) for name_of_model, c in look.model_colours.items()
    }
    others = (
        [name_of_model for name_of_model in models if name_of_model != model]
        if len(models) <= MOST_OTHERS + 1
        else []
    )
    patterns = dict(zip(others, OTHER_DASHES, strict=False))
    dice = results.values(dataset, "dice").set_index(["structure", "case", "model"])["value"]
    dice_of_model = dice.xs(model, level="model").dropna()
    rows = [
        (name, ranked(dice_of_model.loc[name]))
        for name in look.structures
        if name in dice_of_model.index.get_level_values("structure")
    ]
    ranks = max((len(chosen) for _, chosen in rows), default=1)
    blocks = 1 if len(rows) <= FEW_STRUCTURES else 2
    lines = max(1, -(-len(rows) // blocks))
    side = min(46.0, (style.page_mm() - 6 * blocks) / (blocks * ranks))
    width = max(style.column_mm(), blocks * (ranks * side + 6))
    drawn = style.canvas(width, lines * (side + 1) + 12)
    axes = drawn.subplots(lines, blocks * ranks, squeeze=False)
    for panel in axes.ravel():
        panel.set_axis_off()
    shown = []
    for place, (name, chosen) in enumerate(rows):
        block, line = divmod(place, lines)
        for column, (rank, case) in enumerate(chosen):
            panel = axes[line, block * ranks + column]
            view = viewer.view(dataset, case, predictions=True, structure=name)
            masks = {
                name_of_model: view.layers[name_of_model] == values[name]
                for name_of_model in [*others, model]
            }
            reference = view.layers[REFERENCE] == values[name]
            anywhere = reference.copy()
            for mask in masks.values():
                anywhere |= mask
            box = slices.around(anywhere, view.pixel_mm, margin=0.25)
            overlay.show(panel, box.of(view.image), view.pixel_mm)
            overlay.fill(panel, box.of(reference), view.pixel_mm, colours[name], 0.25)
            overlay.contour(panel, box.of(reference), view.pixel_mm, colours[name])
            for name_of_model, mask in masks.items():
                own = name_of_model == model
                overlay.contour(
                    panel, box.of(mask), view.pixel_mm, model_colours[name_of_model],
                    overlay.DASHES if own else patterns[name_of_model], 1.0 if own else 0.5,
                )  # fmt: skip
            label = parts.wrap(case, max(8, int(side / style.text_mm())))
            overlay.note(panel, f"{rank}: {label}\nDice {dice[name, case, model]:.3f}")
            overlay.letters(panel, view.plane)
            overlay.scale_bar(panel, box.size_mm(view.pixel_mm)[1])
            if column == 0:
                panel.text(
                    -0.03, 0.5, parts.wrap(look.structure(name), max(10, int(side / style.text_mm()))), rotation=90,
                    transform=panel.transAxes, ha="right", va="center", multialignment="center",
                    fontweight="bold",
                )  # fmt: skip
            shown += [
                (
                    name,
                    rank,
                    case,
                    view.plane,
                    view.position,
                    name_of_model,
                    dice.get((name, case, name_of_model)),
                )
                for name_of_model in models
            ]
    if not rows:
        axes[0, 0].text(0.5, 0.5, "No case has a defined Dice", ha="center", va="center")
    handles = [
        Line2D([], [], color=style.INK, linewidth=2.2, label="reference, in the structure's colour"),
        Line2D([], [], color=model_colours[model], linewidth=1.2, linestyle=(0, (2.6, 1.4)), label=shown_name),
        *(Line2D([], [], color=model_colours[name_of_model], linewidth=0.7, linestyle=(0, patterns[name_of_model]) if patterns[name_of_model] else "solid", label=look.model(name_of_model)) for name_of_model in others),
    ]  # fmt: skip
    parts.legend(drawn, handles, width)
    cases = count(dice_of_model.index.get_level_values("case").nunique(), "case")
    return parts.Drawing(
        drawn,
        f"Best, median and worst cases of {shown_name}, {dataset}",
        f"Cases of {dataset} (n = {cases}) in which {shown_name} did best, as in the median, and worst by "
        "the Dice of a structure, each on the slice with most of the structure's reference. Filled: "
        f"reference; dashed: {shown_name}"
        + ("; thin: the other models on the same slice" if others else "")
        + f". The Dice is that of {shown_name} in the whole case. Pictures in {overlay.RADIOLOGICAL}.",
        "Outlines on image slices. "
        + " ".join(
            f"{look.structure(name)}: "
            + ", ".join(
                f"{rank.lower()} {case} {dice[name, case, model]:.3f}" for rank, case in chosen
            )
            + "."
            for name, chosen in rows
        ),
        pandas.DataFrame(
            shown, columns=["structure", "rank", "case", "plane", "slice", "model", "dice"]
        ),
    )


def mean_dice(results: Results, dataset: str) -> pandas.DataFrame:
    """Average the Dice of a case (rows) and model (columns) over the structures where it is defined."""
    values = results.values(dataset, "dice")
    values = values[values["structure"].isin(results.study.structures)]
    return values.groupby(["case", "model"])["value"].mean().unstack("model")


def ranked(dice: pandas.Series) -> list[tuple[str, str]]:
    """Name the best, median and worst case; fewer where there are fewer cases."""
    order = dice.dropna().sort_values(ascending=False, kind="stable").index.tolist()
    if not order:
        return []
    if len(order) == 1:
        return [("Only", order[0])]
    ranks = ("best", "worst") if len(order) == 2 else ("best", "median", "worst")
    return [(plain(rank), ranked_at(dice, rank)) for rank in ranks]


def ranked_at(dice: pandas.Series, rank: str) -> str:
    """Name the `best`, `median` or `worst` case; with few cases one may be several of them."""
    order = dice.dropna().sort_values(ascending=False, kind="stable").index.tolist()
    return order[{"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}[rank]]
