"""The shown slices as layers that the report can switch: the picture as WebP, outlines as SVG paths."""

from segstudy.publish import slices
from segstudy.publish.case_slices import case_slices, outline, picture
from segstudy.publish.results import Results
from segstudy.publish.views import repair_views, repaired_cases


def layers(results: Results, workers: int = 1) -> dict:
    """Return the slices that the report shows of cases and of label repair, as plain JSON values."""
    study = results.study
    return {
        "cases": {
            dataset: case_slices(results, dataset, workers) for dataset in study.tested_datasets
        },
        "repair": {
            dataset: _repair(results, dataset)
            for dataset, settings in study.datasets.items()
            if settings.repair
        },
    }


def _repair(results: Results, dataset: str) -> list[dict]:
    shown = []
    for case, verdict in repaired_cases(results, dataset):
        planes = []
        for view in repair_views(results, dataset, case):
            box = view.around(margin=0.25)
            height_mm, width_mm = box.size_mm(view.pixel_mm)
            planes.append(
                {
                    "width_mm": round(width_mm, 3),
                    "height_mm": round(height_mm, 3),
                    "image": picture(box.of(view.image)),
                    "plane": view.plane,
                    "edges": slices.EDGES[view.plane],
                    "half_pixels": f"scale({view.pixel_mm[1] / 2:g} {view.pixel_mm[0] / 2:g})",
                    "right": "",
                    **{name: outline(box.of(mask)) for name, mask in view.layers.items()},
                }
            )
        shown.append({"case": case, "verdict": verdict, "planes": planes})
    return shown
