"""Sample cases: a few from the smallest to the largest labelled volume."""

import numpy as np
import pandas

from segstudy.publish import slices, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.views import REFERENCE, ViewCache
from segstudy.publish.words import plain
from segstudy.words import count

MOST = 6


def draw(results: Results, figure: Figure, viewer: ViewCache) -> parts.Drawing:
    """Draw image beside image with reference labels, for at most six cases spread over the cohort."""
    study, dataset = results.study, figure.dataset
    settings, colours = study.datasets[dataset], parts.colours(results)
    chosen = spread_over(results, dataset)
    views = [viewer.view(dataset, case, predictions=False) for case in chosen]
    rows, across = style.rows_and_columns(len(views), 3 if len(views) > 2 else 2)
    boxes = [slices.around(np.ones_like(view.layers[REFERENCE]), view.pixel_mm) for view in views]
    shapes = [
        np.divide(*box.size_mm(view.pixel_mm)) for view, box in zip(views, boxes, strict=True)
    ]
    panel = (style.page_mm() - 6) / (2 * across)
    heights = [panel * max(shapes[row * across : (row + 1) * across]) for row in range(rows)]
    names = {view.case: parts.wrap(view.case, 24) for view in views}
    lines = max((name.count("\n") + 1 for name in names.values()), default=1)
    drawn = style.canvas(style.page_mm(), sum(heights) + (3 + 3 * lines) * rows + 7)
    axes = drawn.subplots(rows, 2 * across, squeeze=False, height_ratios=heights)
    for index, (view, box) in enumerate(zip(views, boxes, strict=True)):
        row, column = divmod(index, across)
        plainly, labelled = axes[row, 2 * column], axes[row, 2 * column + 1]
        image, reference = box.of(view.image), box.of(view.layers[REFERENCE])
        for place in (plainly, labelled):
            overlay.show(place, image, view.pixel_mm)
            place.set_anchor("N")
        for name, value in settings.structures.items():
            overlay.fill(labelled, reference == value, view.pixel_mm, colours[name])
            overlay.contour(
                labelled, reference == value, view.pixel_mm, colours[name], width_pt=0.7
            )
        overlay.letters(plainly, view.plane)
        overlay.scale_bar(plainly, image.shape[1] * view.pixel_mm[1])
        plainly.set_title(names[view.case], fontsize="medium")
        labelled.set_title(
            f"{view.position}/{view.positions}", fontsize="medium", fontweight="normal", loc="right",
            color=style.SOFT,
        )  # fmt: skip
    for index in range(len(views), rows * across):
        row, column = divmod(index, across)
        style.hide(axes[row, 2 * column])
        style.hide(axes[row, 2 * column + 1])
    handles = parts.structure_handles(results, results.look.structures)
    parts.legend(drawn, handles, style.page_mm())
    total = len(results.cases(dataset))
    channel = f", channel {study.channels[0]}" if len(study.channels) > 1 else ""
    repaired = " (after label repair)" if settings.repair else ""
    planes = sorted({view.plane for view in views})
    return parts.Drawing(
        drawn,
        f"Sample cases, {dataset}",
        f"{count(len(views), 'case')} of {total} of {dataset}, from the smallest to the largest "
        f"labelled volume: image{channel} and the same with its reference labels{repaired}. "
        f"{plain(' and '.join(planes))} slices, those that show the most structures; numbers are slice/slices; "
        f"{overlay.RADIOLOGICAL}.",
        f"{count(len(views), 'pair')} of pictures, image and labelled image, of the cases "
        f"{', '.join(chosen)}.",
        pandas.DataFrame(
            [(view.case, view.plane, view.position, view.positions) for view in views],
            columns=["case", "plane", "slice", "slices"],
        ),
    )


def spread_over(results: Results, dataset: str, most: int = MOST) -> list[str]:
    """Choose cases evenly spaced in the order of their labelled volume, the smallest and largest among them."""
    structures = results.study.structures
    cases = sorted(
        results.cases(dataset),
        key=lambda case: (
            sum(case.voxels[name] for name in structures) * float(np.prod(case.spacing_mm)),
            case.case,
        ),
    )
    places = np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)
    return [cases[place].case for place in places]
