"""A case as it is shown: slices of its image, with labels on them."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from segstudy.boxes import Box
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import Image, compare_grids, read_label
from segstudy.planes import NORMAL_AXIS
from segstudy.publish import slices
from segstudy.publish.results import Results
from segstudy.publish.slices import Cut

REFERENCE = ""
"""Name of the layer that is compared with; no model can have it."""


@dataclass(frozen=True)
class View:
    """A slice of a case, the right way up.

    Attributes
    ----------
    case
        Its name.
    plane
        Of the slice.
    position, positions
        Number of the slice along its axis, counted from 1, and of all slices.
    pixel_mm
        (height, width) of a pixel.
    image
        Brightness in [0, 1].
    layers
        Labels with the dataset's own values, or masks, by name.
    """

    case: str
    plane: str
    position: int
    positions: int
    pixel_mm: tuple[float, float]
    image: np.ndarray
    layers: dict[str, np.ndarray]

    def around(self, margin: float = 0.18) -> Box:
        """Return the part of the slice that holds all layers, with a margin."""
        anywhere = np.any([layer > 0 for layer in self.layers.values()], axis=0)
        return slices.around(anywhere, self.pixel_mm, margin=margin)


@dataclass(frozen=True)
class OpenCase:
    """A case whose slices are cut.

    Attributes
    ----------
    results
        The results of the study.
    dataset
        Its name.
    case
        Of the case table.
    label
        The one that models are measured against, read.
    """

    results: Results
    dataset: str
    case: Case
    label: Image

    @cached_property
    def plane(self) -> str:
        """Return the plane of the finest pixels."""
        return slices.best_plane(self.label.grid)

    def cut(self, index: int, plane: str = "") -> Cut:
        """Return the slice of this number along the native axis, in the plane of the finest pixels or another."""
        return slices.cut(self.label.grid, plane or self.plane, index)

    def known(self, label: np.ndarray) -> np.ndarray:
        """Return a label without the values that are no structure of the dataset."""
        values = list(self.results.study.datasets[self.dataset].structures.values())
        return np.where(np.isin(label, values), label, 0)

    def volume(self) -> np.ndarray:
        """Read the image's first channel (i, j, k), of the type in the file."""
        return slices.read_volume(self.case.images, self.label.grid)

    def grey(self, image: np.ndarray) -> np.ndarray:
        """Map intensities to brightness in [0, 1], in the study's window; a case without image is black."""
        study = self.results.study
        if not self.case.images:
            return np.zeros(np.shape(image), np.float32)
        return slices.grey(image, study.publish.window, study.modality)

    def prediction(self, model: str) -> np.ndarray:
        """Read the prediction of a model (i, j, k), of the first fold and seed that predicted the case; none is empty.

        Raises
        ------
        InputError
            Where it lies on another grid than the label.
        """
        path = self.results.first_prediction(self.dataset, model, self.case.case)
        if path is None:
            return np.zeros_like(self.label.array)
        image = read_label(path)
        difference = compare_grids(self.label.grid, image.grid)
        if difference:
            raise InputError(f"{path}: lies on another grid than the reference label: {difference}")
        return image.array

    def predicted_slice(self, model: str, where: Cut) -> np.ndarray:
        """Read one slice of the prediction of a model; only that slice is decoded."""
        path = self.results.first_prediction(self.dataset, model, self.case.case)
        if path is None:
            return np.zeros_like(where.take(self.label.array))
        return slices.read_label_slice(path, where, self.label.grid)

    def view(self, where: Cut, layers: dict[str, np.ndarray]) -> View:
        """Return the slice with these layers, given as displayed; of the image only the slice is decoded."""
        image = slices.read_slice(self.case.images, where, self.label.grid)
        return View(
            case=self.case.case,
            plane=where.plane,
            position=where.index + 1,
            positions=self.label.grid.shape[where.axis],
            pixel_mm=where.pixel_mm,
            image=self.grey(image),
            layers=layers,
        )


def open_case(results: Results, dataset: str, name: str, delivered: bool = False) -> OpenCase:
    """Read a case with the label that models are measured against, or with the label as delivered.

    Parameters
    ----------
    results
        The results of the study.
    dataset
        Its name.
    name
        Of the case.
    delivered
        Whether the label as delivered is read.

    Raises
    ------
    InputError
        Where the case table has no such case.
    """
    if delivered:
        cases = {case.case: case for case in results.cases(dataset)}
    else:
        cases = results.references(dataset)
    if name not in cases:
        raise InputError(
            f"case {name} of {dataset}: there are results of it, but it is not in the case table; "
            "run the workflow again from the download stage"
        )
    return OpenCase(results, dataset, cases[name], read_label(cases[name].label))


@dataclass
class ViewCache:
    """Cuts slices and keeps them, so that a case shown in several figures is read once."""

    results: Results
    _views: dict[tuple[str, str, bool, str], View] = field(default_factory=dict)

    def view(self, dataset: str, case: str, predictions: bool, structure: str = "") -> View:
        """Return a slice in the plane of the finest pixels; layers are REFERENCE and each model shown.

        Parameters
        ----------
        dataset, case
            Their names.
        predictions
            True adds those of all models, of the first fold and seed that predicted the case,
            on the slice with the most reference area; False takes the slice that shows the most
            structures.
        structure
            Whose area counts, all if empty.
        """
        key = (dataset, case, predictions, structure)
        if key not in self._views:
            self._views[key] = self._cut(*key)
        return self._views[key]

    def _cut(self, dataset: str, case: str, predictions: bool, structure: str) -> View:
        values = self.results.study.datasets[dataset].structures
        sought = [values[structure]] if structure else list(values.values())
        opened = open_case(self.results, dataset, case)
        where = opened.cut(slices.fullest(opened.label, opened.plane, sought, most=not predictions))
        layers = {REFERENCE: opened.known(where.take(opened.label.array))}
        for model in self.results.look.models if predictions else ():
            layers[model] = opened.known(opened.predicted_slice(model, where))
        return opened.view(where, layers)


def repair_views(results: Results, dataset: str, name: str) -> list[View]:
    """Show a case of a label repair in three planes through the middle of the structure.

    Layers are masks of the structure: `delivered`, `repaired`, and of the reference case `right`.
    The cohort goes on with that case's right label; the layer `repaired` shows the delivered one after its repair.
    """
    settings = results.study.datasets[dataset]
    value = settings.structures[settings.repair.structure]
    opened = open_case(results, dataset, name, delivered=True)
    masks = {"delivered": opened.label.array == value}
    if name == results.transform(dataset)["reference_case"]:
        if opened.case.reference_label is None:
            raise InputError(
                f"case {name} of {dataset}: no reference_label in the case table; the repair stage "
                "needs one, so run the workflow again from the download stage"
            )
        masks["repaired"] = read_label(results.moved_back(dataset)).array == 1
        masks["right"] = read_label(opened.case.reference_label).array == value
    else:
        masks["repaired"] = read_label(results.references(dataset)[name].label).array == value
    middle = _middle(masks.get("right", masks["repaired"]))
    cuts = [opened.cut(middle[opened.cut(0, plane).axis], plane) for plane in reversed(NORMAL_AXIS)]
    return [
        opened.view(where, {key: where.take(mask) for key, mask in masks.items()}) for where in cuts
    ]


#: Cases for review that are shown in pictures, at most; all are in the table.
SHOWN_FOR_REVIEW = 3


def repaired_cases(results: Results, dataset: str) -> list[tuple[str, str]]:
    """List (case, verdict) of the repaired cases that are shown.

    Cases for review come first, then the reference case (`reference`), then one repaired and one
    left.
    """
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


def _middle(mask: np.ndarray) -> list[int]:
    if not mask.any():
        return [size // 2 for size in mask.shape]
    return [round(float(np.flatnonzero(mask.any(axis=others)).mean()))
            for others in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
