"""Slices through a case for the report's slider: pictures as WebP, outlines as SVG paths."""

import base64
import io
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from segstudy.boxes import bounding_box
from segstudy.log import progress
from segstudy.publish import slices
from segstudy.publish.results import Results
from segstudy.publish.views import open_case

MOST_SLICES, FEWEST_SLICES = 24, 12  # a report that these make too large has a folder beside it
MOST_BYTES = 18_000_000
PICTURE_BYTES, OUTLINE_BYTES = 10_000, 1_200  # of a slice, about
PICTURE_PIXELS = 320


def case_slices(results: Results, dataset: str, workers: int = 1) -> dict[str, dict]:
    """Cut slices through every measured case of a dataset, as plain JSON values, by the case's name."""
    study = results.study
    rows = results.metrics[results.metrics["dataset"] == dataset]
    cases = sorted(rows["case"].unique())
    number = len(results.metrics[["dataset", "case"]].drop_duplicates())
    cut = partial(
        slices_through, results, dataset, slices_shown=affordable(number, len(study.models))
    )
    if workers < 2 or len(cases) < 2:
        return {case: cut(case) for case in progress(cases, f"cases of {dataset}")}
    with ProcessPoolExecutor(workers) as pool:
        return dict(zip(progress(cases, f"cases of {dataset}"), pool.map(cut, cases), strict=True))


def affordable(cases: int, models: int) -> int:
    """Return the number of slices of a case that the report has room for."""
    case_bytes = PICTURE_BYTES + OUTLINE_BYTES * (models + 1)
    return int(np.clip(MOST_BYTES // (max(cases, 1) * case_bytes), FEWEST_SLICES, MOST_SLICES))


def slices_through(
    results: Results, dataset: str, case: str, slices_shown: int = MOST_SLICES
) -> dict:
    """Cut slices of one case in the plane of its finest pixels, with the outlines of every model.

    The slices are evenly spaced over the part that the reference or a prediction labels. Outlines
    are SVG paths in half pixels. `fullest` gives, for each structure and for `all`, the place among
    these slices of the one with the most reference area.
    """
    study = results.study
    values = study.datasets[dataset].structures
    opened = open_case(results, dataset, case)
    labels = {"": opened.label.array} | {model: opened.prediction(model) for model in study.models}
    is_structure = np.zeros(max(256, *(int(array.max()) + 1 for array in labels.values())), bool)
    is_structure[list(values.values())] = True
    masks = {name: is_structure[array] for name, array in labels.items()}
    grid, where = opened.label.grid, opened.cut(0)
    is_labelled = np.any(
        [slices.per_slice(mask, grid, opened.plane) > 0 for mask in masks.values()], axis=0
    )
    labelled_area = np.any([mask.any(axis=where.axis) for mask in masks.values()], axis=0)
    box = slices.around(where.turn(labelled_area), where.pixel_mm, margin=0.12)
    places = chosen(is_labelled, slices_shown)
    image = opened.volume()
    shown: dict = {"images": [], "reference": [], "predictions": {m: [] for m in study.models}}
    areas = []
    for index in places:
        where_of_slice = opened.cut(int(index))
        flat = np.asarray(where_of_slice.take(image), np.float32)
        shown["images"].append(picture(box.of(opened.grey(flat))))
        for name, array in labels.items():
            outlines = _outlines(box.of(where_of_slice.take(array)), values)
            (shown["predictions"][name] if name else shown["reference"]).append(outlines)
        reference = where_of_slice.take(opened.label.array)
        areas.append([int((reference == value).sum()) for value in values.values()])
    area = np.array(areas)
    return {
        "plane": opened.plane,
        "edges": slices.EDGES[opened.plane],
        "slices": [int(index) + 1 for index in places],
        "total": int(grid.shape[where.axis]),
        "width": box.shape[1],
        "height": box.shape[0],
        "pixel_mm": [round(float(size), 4) for size in where.pixel_mm],
        "fullest": {"all": int(area.sum(axis=1).argmax())}
        | {name: int(area[:, place].argmax()) for place, name in enumerate(values)},
        **shown,
    }


def chosen(is_labelled: np.ndarray, most: int) -> np.ndarray:
    """Choose evenly spaced slices from the first that is labelled to the last.

    Parameters
    ----------
    is_labelled
        Whether a slice is labelled, bool (slice,).
    most
        Number of slices at most.
    """
    labelled = np.flatnonzero(is_labelled)
    if not labelled.size:
        return np.array([len(is_labelled) // 2])
    first, last = max(labelled[0] - 1, 0), min(labelled[-1] + 1, len(is_labelled) - 1)
    number = min(most, last - first + 1)
    return np.unique(np.linspace(first, last, number).round().astype(int))


def picture(image: np.ndarray) -> str:
    """Encode a grey picture as a data address, at most 320 pixels wide or high.

    Parameters
    ----------
    image
        Brightness in [0, 1], (row, column).
    """
    from PIL import Image

    grey = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    if max(grey.size) > PICTURE_PIXELS:
        grey.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    grey.convert("RGB").save(file, "WEBP", quality=72, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _outlines(label: np.ndarray, values: dict[str, int]) -> dict[str, str]:
    paths = {name: outline(label == value) for name, value in values.items()}
    return {name: path for name, path in paths.items() if path}


def outline(mask: np.ndarray) -> str:
    """Write the outline of a mask (row, column) as the `d` of an SVG path, in half pixels from the upper left corner.

    Steps are relative and straight runs are one step, which makes the text short.
    """
    from skimage.measure import find_contours

    box = bounding_box(mask)
    if box is None:
        return ""
    parts = []
    for line in find_contours(np.pad(box.of(mask).astype(float), 1), 0.5):
        # The padded pixel's centre lies half a pixel outside: 2 * (line - 1 + 0.5).
        places = np.rint(2 * line - 1).astype(int) + 2 * np.array(box.start)
        steps = np.diff(places, axis=0)
        turns = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
        runs = np.diff(places[np.r_[0, turns, len(places) - 1]], axis=0)
        text = " ".join(f"{column} {row}" for row, column in runs[:-1])
        parts.append(f"M{places[0, 1]} {places[0, 0]}l{text}z")
    return "".join(parts).replace(" -", "-")
