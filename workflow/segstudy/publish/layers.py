"""The shown slices as layers that the report can switch: the picture as PNG, outlines as SVG paths."""

import base64
import io

import numpy as np

from segstudy.publish import slices
from segstudy.publish.draw.outcomes import mean_dice, ranked
from segstudy.publish.results import Results
from segstudy.publish.slices import Box
from segstudy.publish.views import Viewer, moved, repaired_cases


def layers(results: Results, viewer: Viewer) -> dict:
    """What the report shows of cases and of label repair, as plain JSON values."""
    study = results.study
    found: dict = {"cases": {}, "repair": {}}
    for dataset, settings in study.datasets.items():
        dice = mean_dice(results, dataset)
        rows = {model: ranked(dice[model]) if model in dice else [] for model in study.models}
        shown = sorted({case for chosen in rows.values() for _, case in chosen})
        found["cases"][dataset] = {
            "ranked": rows,
            "shown": {case: _case(results, viewer, dataset, case) for case in shown},
        }
        if settings.repair:
            found["repair"][dataset] = _repair(results, dataset)
    return found


def _case(results: Results, viewer: Viewer, dataset: str, case: str) -> dict:
    view = viewer.view(dataset, case, predictions=True)
    box = slices.around(view.shown, view.pixel_mm)
    values = results.study.datasets[dataset].structures
    return {
        **_picture(box.of(view.image), view.pixel_mm),
        "place": view.place,
        "edges": slices.EDGES[view.plane],
        "reference": _outlines(view.reference, values, box, view.pixel_mm),
        "predictions": {
            model: _outlines(prediction, values, box, view.pixel_mm)
            for model, prediction in view.predictions.items()
        },
    }


def _repair(results: Results, dataset: str) -> list[dict]:
    found = []
    for case, verdict in repaired_cases(results, dataset):
        planes = []
        for view in moved(results, dataset, case):
            box = slices.around(view.anywhere, view.pixel_mm, margin=0.25)
            masks = {"right": view.right, "delivered": view.delivered, "repaired": view.repaired}
            planes.append(
                {
                    **_picture(box.of(view.image), view.pixel_mm),
                    "plane": view.plane,
                    "edges": slices.EDGES[view.plane],
                    **{
                        name: "" if mask is None else outline(box.of(mask), view.pixel_mm)
                        for name, mask in masks.items()
                    },
                }
            )
        found.append({"case": case, "verdict": verdict, "planes": planes})
    return found


def _picture(image: np.ndarray, pixel_mm: tuple[float, float]) -> dict:
    return {
        "width_mm": round(image.shape[1] * pixel_mm[1], 3),
        "height_mm": round(image.shape[0] * pixel_mm[0], 3),
        "image": png(image),
    }


def png(image: np.ndarray) -> str:
    """A grey picture with brightness in [0, 1] as a data address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _outlines(label: np.ndarray, values: dict[str, int], box: Box, pixel_mm) -> dict[str, str]:
    flat = box.of(label)
    paths = {name: outline(flat == value, pixel_mm) for name, value in values.items()}
    return {name: path for name, path in paths.items() if path}


def outline(mask: np.ndarray, pixel_mm: tuple[float, float]) -> str:
    """The outline of a mask as the `d` of an SVG path, in mm from the upper left corner."""
    from skimage.measure import find_contours

    parts = []
    for line in find_contours(np.pad(mask.astype(float), 1), 0.5):
        places = (line - 0.5) * pixel_mm
        text = " ".join(f"{column:.2f},{row:.2f}" for row, column in places[:-1])
        parts.append(f"M{text}Z")
    return "".join(parts)
