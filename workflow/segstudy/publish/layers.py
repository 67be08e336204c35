"""The shown slices as layers that the report can switch: the picture as PNG, outlines as SVG paths."""

import base64
import io

import numpy as np

from segstudy.publish import slices
from segstudy.publish.results import Results
from segstudy.publish.stacks import stacks
from segstudy.publish.views import moved


def layers(results: Results, workers: int = 1) -> dict:
    """What the report shows of cases and of label repair, as plain JSON values."""
    study = results.study
    return {
        "cases": {dataset: stacks(results, dataset, workers) for dataset in study.datasets},
        "repair": {
            dataset: _repair(results, dataset)
            for dataset, settings in study.datasets.items()
            if settings.repair
        },
    }


def _repair(results: Results, dataset: str) -> list[dict]:
    planes = []
    for view in moved(results, dataset):
        box = slices.around(view.right | view.delivered | view.repaired, view.pixel_mm, margin=0.25)
        layer = {
            name: outline(box.of(getattr(view, name)), view.pixel_mm)
            for name in ("right", "delivered", "repaired")
        }
        planes.append(
            {
                **_picture(box.of(view.image), view.pixel_mm),
                "plane": view.plane,
                "edges": slices.EDGES[view.plane],
                **layer,
            }
        )
    return planes


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


def outline(mask: np.ndarray, pixel_mm: tuple[float, float]) -> str:
    """The outline of a mask as the `d` of an SVG path, in mm from the upper left corner."""
    from skimage.measure import find_contours

    parts = []
    for line in find_contours(np.pad(mask.astype(float), 1), 0.5):
        places = (line - 0.5) * pixel_mm
        text = " ".join(f"{column:.2f},{row:.2f}" for row, column in places[:-1])
        parts.append(f"M{text}Z")
    return "".join(parts)
