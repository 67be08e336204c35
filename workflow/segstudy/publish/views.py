"""What is shown of a case: one slice of the image, of the reference and of each model's prediction."""

from dataclasses import dataclass, field

import numpy as np

from segstudy.errors import InputError
from segstudy.images.files import Image, read_label
from segstudy.publish import slices
from segstudy.publish.results import Results


@dataclass(frozen=True)
class View:
    """A slice of a case, the right way up; labels hold the dataset's own values.

    image: brightness in [0, 1]. position: number of the slice along its axis, counted from 1.
    """

    case: str
    plane: str
    position: int
    positions: int
    pixel_mm: tuple[float, float]
    image: np.ndarray
    reference: np.ndarray
    predictions: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.plane} slice {self.position} of {self.positions}"

    @property
    def shown(self) -> np.ndarray:
        """Where any structure lies, in the reference or in a prediction."""
        found = self.reference > 0
        for prediction in self.predictions.values():
            found = found | (prediction > 0)
        return found


@dataclass
class Viewer:
    """Cuts slices and keeps them, so that a case shown in several figures is read once."""

    results: Results
    _views: dict[tuple[str, str, bool], View] = field(default_factory=dict)

    def view(self, dataset: str, case: str, predictions: bool) -> View:
        """A slice in the plane of the finest pixels.

        predictions: with those of all models (of the first fold and seed that predicted the
        case), on the slice with the most reference area. Without: the slice that shows the most
        structures.
        """
        key = (dataset, case, predictions)
        if key not in self._views:
            self._views[key] = self._cut(dataset, case, predictions)
        return self._views[key]

    def _cut(self, dataset: str, case: str, predictions: bool) -> View:
        study = self.results.study
        settings = study.datasets[dataset]
        found = self.results.references(dataset).get(case)
        if found is None:
            raise InputError(
                f"case {case} of {dataset}: measured, but not in the case table; "
                "run the workflow again from the download stage"
            )
        label = read_label(found.label)
        values = list(settings.structures.values())
        grid = label.grid
        plane = slices.best_plane(grid)
        index = slices.fullest(label, plane, values, most=not predictions)
        where = slices.cut(grid, plane, index)
        window = study.publish.window
        image = slices.grey(slices.read_slice(found.images, where, grid), window, study.modality)
        shown = {}
        for model in study.models if predictions else ():
            path = self.results.first_prediction(dataset, model, case)
            shown[model] = _known(slices.read_label_slice(path, where, grid), values)
        return View(
            case=case,
            plane=plane,
            position=index + 1,
            positions=grid.shape[where.axis],
            pixel_mm=where.pixel_mm,
            image=image,
            reference=_known(where.take(label.array), values),
            predictions=shown,
        )


def _known(label: np.ndarray, values: list[int]) -> np.ndarray:
    return np.where(np.isin(label, values), label, 0)


@dataclass(frozen=True)
class Moved:
    """A moved structure in one plane: where it lay as delivered, where after repair, where it should."""

    plane: str
    pixel_mm: tuple[float, float]
    image: np.ndarray
    right: np.ndarray
    delivered: np.ndarray
    repaired: np.ndarray


def moved(results: Results, dataset: str) -> list[Moved]:
    """The reference case of a label repair in three planes through the middle of the right structure."""
    study = results.study
    settings = study.datasets[dataset]
    repair = settings.repair
    value = settings.structures[repair.structure]
    delivered = {case.case: case for case in results.cases(dataset)}
    name = repair.reference_case
    if name not in delivered or delivered[name].reference_label is None:
        raise InputError(
            f"case {name} of {dataset}: no reference_label in the case table; the repair stage "
            "needs one, so run the workflow again from the download stage"
        )
    paths = (delivered[name].reference_label, delivered[name].label, results.moved_back(dataset))
    labels = [read_label(path) for path in paths]
    # The cohort's own label of this case is its right one; the file shows what repair made of it.
    masks = [label.array == of for label, of in zip(labels, (value, value, 1), strict=True)]
    middle = _middle(masks[0], labels[0])
    found = []
    for plane in ("axial", "coronal", "sagittal"):
        axis = slices.cut(labels[0].grid, plane, 0).axis
        where = slices.cut(labels[0].grid, plane, middle[axis])
        image = slices.read_slice(delivered[name].images, where, labels[0].grid)
        image = slices.grey(image, study.publish.window, study.modality)
        found.append(Moved(plane, where.pixel_mm, image, *[where.take(mask) for mask in masks]))
    return found


def _middle(mask: np.ndarray, label: Image) -> list[int]:
    if not mask.any():
        return [size // 2 for size in label.array.shape]
    return [round(float(np.flatnonzero(mask.any(axis=others)).mean()))
            for others in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
