"""The shown slices as layers that the report can switch: the picture as PNG, outlines as SVG paths."""

import base64
import io

import numpy as np

from segstudy.publish import slices
from segstudy.publish.results import Results
from segstudy.publish.stacks import outline, stacks
from segstudy.publish.views import moved, repaired_cases


def layers(results: Results, workers: int = 1) -> dict:
    """What the report shows of cases and of label repair, as plain JSON values."""
    study = results.study
    return {
        "cases": {dataset: stacks(results, dataset, workers) for dataset in study.tested_datasets},
        "repair": {
            dataset: _repair(results, dataset)
            for dataset, settings in study.datasets.items()
            if settings.repair
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
                    "half_pixels": f"scale({view.pixel_mm[1] / 2:g} {view.pixel_mm[0] / 2:g})",
                    **{
                        name: "" if mask is None else outline(box.of(mask))
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
