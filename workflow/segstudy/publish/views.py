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
    _views: dict[tuple[str, str, bool, str], View] = field(default_factory=dict)

    def view(self, dataset: str, case: str, predictions: bool, structure: str = "") -> View:
        """A slice in the plane of the finest pixels.

        predictions: with those of all models (of the first fold and seed that predicted the
        case), on the slice with the most reference area, of the structure if one is named. Without:
        the slice that shows the most structures.
        """
        key = (dataset, case, predictions, structure)
        if key not in self._views:
            self._views[key] = self._cut(*key)
        return self._views[key]

    def _cut(self, dataset: str, case: str, predictions: bool, structure: str) -> View:
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
        sought = [settings.structures[structure]] if structure else values
        index = slices.fullest(label, plane, sought, most=not predictions)
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
    """A moved structure in one plane: where it lay as delivered, where after repair, where it should.

    right: None where nobody knows.
    """

    plane: str
    pixel_mm: tuple[float, float]
    image: np.ndarray
    right: np.ndarray | None
    delivered: np.ndarray
    repaired: np.ndarray

    @property
    def anywhere(self) -> np.ndarray:
        """Where any of the masks lies."""
        both = self.delivered | self.repaired
        return both if self.right is None else both | self.right


def moved(results: Results, dataset: str, name: str) -> list[Moved]:
    """A case of a label repair in three planes through the middle of the structure.

    Of the reference case the label that the cohort goes on with is its right one; shown as repaired
    is what the repair made of the delivered one.
    """
    study = results.study
    settings = study.datasets[dataset]
    value = settings.structures[settings.repair.structure]
    delivered = {case.case: case for case in results.cases(dataset)}
    if name not in delivered:
        raise InputError(
            f"case {name} of {dataset}: repaired, but not in the case table; run the workflow again "
            "from the download stage"
        )
    case = delivered[name]
    label = read_label(case.label)
    before, right = label.array == value, None
    if name == results.transform(dataset)["reference_case"]:
        if case.reference_label is None:
            raise InputError(
                f"case {name} of {dataset}: no reference_label in the case table; the repair stage "
                "needs one, so run the workflow again from the download stage"
            )
        right = read_label(case.reference_label).array == value
        after = read_label(results.moved_back(dataset)).array == 1
    else:
        after = read_label(results.references(dataset)[name].label).array == value
    middle = _middle(after if right is None else right, label)
    found = []
    for plane in ("axial", "coronal", "sagittal"):
        axis = slices.cut(label.grid, plane, 0).axis
        where = slices.cut(label.grid, plane, middle[axis])
        image = slices.read_slice(case.images, where, label.grid)
        image = slices.grey(image, study.publish.window, study.modality)
        known = None if right is None else where.take(right)
        found.append(
            Moved(plane, where.pixel_mm, image, known, where.take(before), where.take(after))
        )
    return found


#: Cases for review that are shown in pictures, at most; all are in the table.
SHOWN_FOR_REVIEW = 3


def repaired_cases(results: Results, dataset: str) -> list[tuple[str, str]]:
    """(case, verdict) of the cases of a repair that are shown: for review first, then the reference
    case (`reference`), then one repaired and one left."""
    verdicts = results.verdicts(dataset)
    reference = results.transform(dataset)["reference_case"]
    verdicts = verdicts[verdicts["case"] != reference]
    names = {
        verdict: verdicts.loc[verdicts["verdict"] == verdict, "case"].tolist()
        for verdict in ("review", "repaired", "left")
    }
    return [
        *((case, "review") for case in names["review"][:SHOWN_FOR_REVIEW]),
        *([(reference, "reference")] if reference else []),
        *((case, "repaired") for case in names["repaired"][:1]),
        *((case, "left") for case in names["left"][:1]),
    ]


def _middle(mask: np.ndarray, label: Image) -> list[int]:
    if not mask.any():
        return [size // 2 for size in label.array.shape]
    return [round(float(np.flatnonzero(mask.any(axis=others)).mean()))
            for others in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
