"""Best, median and worst case of a model, with the contours of every model on the same slice."""

import math

import pandas

from segstudy.publish import slices, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.views import Viewer
from segstudy.publish.words import count, plain


def draw(results: Results, figure: Figure, viewer: Viewer) -> parts.Drawing:
    """A row a case (best, median, worst by mean Dice of `figure.model`), a column a model."""
    study, dataset, model = results.study, figure.dataset, figure.model
    settings, colours = study.datasets[dataset], parts.colours(results)
    models, model_colour = list(study.models), style.model_colours(list(study.models))
    dice = mean_dice(results, dataset)
    chosen = ranked(dice[model]) if model in dice else []
    most = 4 if len(models) != 5 else 5
    lines, columns = style.grid(len(models), most)
    width = float(min(style.PAGE_MM, max(style.COLUMN_MM, 8 + 58 * columns)))
    side = (width - 8) / columns
    views = [viewer.view(dataset, case, predictions=True) for _, case in chosen]
    boxes = [slices.around(view.shown, view.pixel_mm) for view in views]
    heights = [
        side * box.height_mm(view.pixel_mm) / box.width_mm(view.pixel_mm)
        for view, box in zip(views, boxes, strict=True)
    ] or [20.0]
    titles = (lines > 1) * len(heights) * lines or 1
    drawn = style.canvas(width, sum(heights) * lines + 5 * titles + len(heights) * lines + 8)
    axes = drawn.subplots(
        len(heights) * lines, columns, squeeze=False,
        height_ratios=[height for height in heights for _ in range(lines)],
    )  # fmt: skip
    shown = []
    for place, ((rank, case), view, box) in enumerate(zip(chosen, views, boxes, strict=True)):
        image, reference = box.of(view.image), box.of(view.reference)
        for index, other in enumerate(models):
            line, column = divmod(index, columns)
            panel = axes[place * lines + line, column]
            overlay.show(panel, image, view.pixel_mm)
            overlay.labels(panel, reference, settings.structures, colours, view.pixel_mm)
            prediction = box.of(view.predictions[other])
            overlay.labels(
                panel, prediction, settings.structures, colours, view.pixel_mm, dashed=True
            )
            value = dice.loc[case, other] if other in dice else math.nan
            note = f"Dice {value:.3f}" if math.isfinite(value) else "Dice undefined"
            overlay.note(panel, note)
            if place == 0 or lines > 1:
                own = other == model
                panel.set_title(
                    parts.wrap(other, max(8, int(side / 1.5))), fontsize=7, loc="center",
                    color=style.darker(model_colour[other], 0.85) if own else style.INK,
                    fontweight="bold" if own else "normal",
                )  # fmt: skip
            if index == 0:
                overlay.letters(panel, view.plane)
                overlay.scale_bar(panel, image.shape[1] * view.pixel_mm[1])
            if column == 0 and line == 0:
                panel.text(
                    -0.03, 0.5, f"{rank}: {parts.wrap(case, 26)}", transform=panel.transAxes,
                    rotation=90, ha="right", va="center", fontsize=6.5,
                )  # fmt: skip
            shown.append((rank, case, view.plane, view.position, other, value))
        for index in range(len(models), lines * columns):
            line, column = divmod(index, columns)
            style.hide(axes[place * lines + line, column])
    if not chosen:
        axes[0, 0].text(0.5, 0.5, "No case has a defined Dice", ha="center", va="center")
        for panel in axes.ravel():
            panel.set_axis_off()
    structures = parts.structure_handles(results, study.structures)
    for handle in structures:
        handle.set_label(plain(handle.get_label()))
    parts.legend(drawn, [*structures, *overlay.line_handles()], width)
    total = int(dice[model].notna().sum()) if model in dice else 0
    places = "; ".join(
        f"{rank.lower()} {case}, {view.place}"
        for (rank, case), view in zip(chosen, views, strict=True)
    )
    return parts.Drawing(
        drawn,
        f"{plain('best, median and worst case of')} {model}",
        f"{_ranks(chosen)} of {model} by Dice averaged over structures, of n = "
        f"{count(total, 'case')} of {dataset}, each with all models on the same slice: the one "
        f"with the most reference area ({places or 'no case'}). Solid: reference, dashed: "
        f"prediction; the Dice shown is that of the whole case. Pictures in {overlay.RADIOLOGICAL}.",
        "Contours of reference and prediction on image slices. "
        + " ".join(
            f"{rank} case {case}: Dice of {model} {dice.loc[case, model]:.3f}."
            for rank, case in chosen
        ),
        pandas.DataFrame(shown, columns=["rank", "case", "plane", "slice", "model", "mean_dice"]),
    )


def mean_dice(results: Results, dataset: str) -> pandas.DataFrame:
    """Dice of a case (rows) and model (columns), averaged over the structures where it is defined."""
    values = results.values(dataset, "dice")
    values = values[values["structure"].isin(results.study.structures)]
    return values.groupby(["case", "model"])["value"].mean().unstack("model")


def ranked(dice: pandas.Series) -> list[tuple[str, str]]:
    """Best, median and worst case; fewer where there are fewer cases."""
    order = dice.dropna().sort_values(ascending=False, kind="stable").index.tolist()
    if not order:
        return []
    places = {"Best": 0, "Median": (len(order) - 1) // 2, "Worst": len(order) - 1}
    if len(order) == 2:
        places.pop("Median")
    if len(order) == 1:
        return [("Only", order[0])]
    return [(rank, order[place]) for rank, place in places.items()]


def _ranks(chosen: list[tuple[str, str]]) -> str:
    names = [rank.lower() for rank, _ in chosen] or ["no"]
    return plain(", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]) + (
        " cases" if len(names) > 1 else " case"
    )
