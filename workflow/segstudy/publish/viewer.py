"""A page that shows chosen cases in three planes and in 3D, with NiiVue, from files beside it alone.

A browser lets no page that was opened from a disk read other files, but it runs scripts: so each
case is a script that holds its volumes.
"""

import base64
import gzip
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import nibabel
import numpy as np

from segstudy.boxes import bounding_box, whole
from segstudy.errors import InputError
from segstudy.files import write_text, writing_folder
from segstudy.images.files import Image, compare_grids, read_image
from segstudy.log import log, progress
from segstudy.publish import pages, redaction
from segstudy.publish.draw.outcomes import mean_dice, ranked
from segstudy.publish.explorer import json_in_page
from segstudy.publish.look import Look
from segstudy.publish.results import Results
from segstudy.publish.views import OpenCase, open_case
from segstudy.publish.words import plain
from segstudy.study import EnsembleModel, Study

NIIVUE = "0.69.0"  # of the npm package @niivue/niivue, whose dist/niivue.umd.js lies in niivue/
MOST_VOXELS = 3_000_000
MARGIN_MM = 15.0
MAPS = {"entropy": "entropy", "mutual_information": "mutual information"}
"""Maps of uncertainty, and what they are called."""


def write_viewer(results: Results, folder: Path) -> None:
    """Write `index.html`, NiiVue with its licence, and a script a case into `folder`."""
    study = results.study
    cases = [
        (dataset, rank, case)
        for dataset in study.tested_datasets
        for rank, case in chosen(results, dataset)
    ]
    look = results.look
    with writing_folder(folder) as temporary:
        for dataset, _, case in progress(cases, "cases of the viewer"):
            write_case(temporary, dataset, case, volumes(results, dataset, case))
        write_page(
            results,
            temporary,
            "viewer.html",
            cases=cases,
            models=[(name, look.model(name)) for name in look.models],
            maps=[
                (f"{kind}:{name}", f"{words} of {look.model(name)}")
                for name in with_maps(study)
                for kind, words in MAPS.items()
            ],
        )
    log.info("%s: %d cases", folder, len(cases))


def write_case(folder: Path, dataset: str, case: str, shown: Mapping[str, object]) -> None:
    """Write the script of a case; shown: as `volumes` returns it."""
    name = json.dumps(f"{dataset}/{case}")
    write_text(folder / f"{dataset}-{case}.js", f"cases[{name}] = {json.dumps(shown)};\n")


def write_page(results: Results, folder: Path, template: str, **values: object) -> None:
    """Write `index.html` by a template and its values, and NiiVue with its licence beside it."""
    study, look = results.study, results.look
    for name in ("niivue.umd.js", "LICENSE"):
        content = resources.files("segstudy.publish").joinpath("niivue", name).read_bytes()
        (folder / name).write_bytes(content)
    colours = {name: look.structure_colours[name] for name in look.structures}
    page = (
        pages.environment()
        .get_template(template)
        .render(
            title=redaction.redacted(study).title or plain(study.name),
            version=NIIVUE,
            keys=[(look.structure(name), colour) for name, colour in colours.items()],
            labels={
                dataset: json_in_page(_colours(study.datasets[dataset].structures, colours))
                for dataset in study.tested_datasets
            },
            **values,
        )
    )
    write_text(folder / "index.html", page)


def chosen(results: Results, dataset: str) -> list[tuple[str, str]]:
    """Choose best, median and worst case by Dice averaged over structures and models."""
    return ranked(mean_dice(results, dataset).mean(axis=1))


def volumes(results: Results, dataset: str, case: str) -> dict:
    """Encode image, reference and predictions of a case as base64 of NIfTI files that hold nothing else.

    The volumes are cut to the labelled part with a margin, and thinned out to three million voxels.
    """
    opened = open_case(results, dataset, case)
    labels = {"reference": opened.known(opened.label.array)}
    labels |= {model: opened.known(opened.prediction(model)) for model in results.look.models}
    part, shown = encoded(opened, labels, labels.values())
    if with_maps(results.study):
        shown["maps"] = _maps(opened, part)
    return shown


def encoded(
    opened: OpenCase, labels: Mapping[str, np.ndarray], around: Iterable[np.ndarray]
) -> tuple[tuple[slice, ...], dict]:
    """Encode the image of a case and labels on its grid.

    Parameters
    ----------
    opened
        The case.
    labels
        Label maps (i, j, k) by name.
    around
        Label maps that lie in the part that is shown.

    Returns
    -------
    part : tuple of slice
        Of the grid, that is shown.
    shown : dict
        `image`, and `labels` by name, in base64.
    """
    image = opened.grey(opened.volume())
    part = _part(np.any([label > 0 for label in around], axis=0), opened.label)
    affine = _affine(opened.label, part)
    return part, {
        "image": _nifti(np.rint(255 * image[part]), affine),
        "labels": {name: _nifti(label[part], affine) for name, label in labels.items()},
    }


def with_maps(study: Study) -> list[str]:
    """Return the models of which maps of uncertainty were asked for, ensembles of such among them, in the order shown."""
    asked = {
        name
        for name, model in study.models.items()
        if getattr(getattr(model, "infer", None), "uncertainty", False)
    }
    of_members = {
        name
        for name, model in study.models.items()
        if isinstance(model, EnsembleModel) and asked & set(model.members)
    }
    return [name for name in Look(study).models if name in asked | of_members]


def _maps(opened: OpenCase, part: tuple[slice, ...]) -> dict[str, dict[str, object]]:
    """Encode the maps of uncertainty of a case, in nats: all of them together have as many voxels as a label at most.

    opened: the case; part: of its grid, with the steps of the labels. A model without a prediction of the case has none.
    """
    names = with_maps(opened.results.study)
    found = {}
    for name, (kind, words) in itertools.product(names, MAPS.items()):
        file = opened.results.uncertainty_map(opened.dataset, name, opened.case.case, kind)
        if file is None:
            continue
        image = read_image([file])
        difference = compare_grids(opened.label.grid, image.grid)
        if difference:
            raise InputError(
                f"{file}: {words} lies on another grid than the reference label: {difference}"
            )
        thinned = _thinned(part, MOST_VOXELS / (len(names) * len(MAPS)), opened.label.spacing_mm)
        values = image.array[0][thinned]
        highest = max(float(values.max()), 1e-6)
        affine = _affine(opened.label, thinned)
        volume = _nifti(np.rint(255 / highest * values), affine, highest / 255)
        found[f"{kind}:{name}"] = {"volume": volume, "highest_nats": highest}
    return found


def _part(is_labelled: np.ndarray, label: Image) -> tuple[slice, ...]:
    """Return the part of the grid that is shown, with its step in voxels along each axis."""
    margin = np.ceil(MARGIN_MM / np.array(label.spacing_mm)).astype(int)
    box = (bounding_box(is_labelled) or whole(is_labelled.shape)).widened(margin, is_labelled.shape)
    part = tuple(slice(low, high, 1) for low, high in box.ranges)
    return _thinned(part, MOST_VOXELS, label.spacing_mm)


def _thinned(
    part: tuple[slice, ...], most: float, spacing_mm: Sequence[float]
) -> tuple[slice, ...]:
    """Widen the steps of a part of a grid, the finest axis first, until it has at most so many voxels."""
    steps = np.array([one.step for one in part])
    sizes = np.array([one.stop - one.start for one in part])
    while np.prod(-(-sizes // steps)) > most:
        steps[int(np.argmin(steps * spacing_mm))] += 1
    return tuple(
        slice(one.start, one.stop, int(step)) for one, step in zip(part, steps, strict=True)
    )


def _affine(label: Image, part: tuple[slice, ...]) -> np.ndarray:
    """Return the matrix from voxels of a part of a label's grid to mm."""
    affine = label.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [one.start for one in part]
    affine[:3, :3] = affine[:3, :3] * [one.step for one in part]
    return affine


def _nifti(array: np.ndarray, affine: np.ndarray, unit: float | None = None) -> str:
    """Encode values from 0 to 255; unit: what 1 stands for, where it is no label or brightness."""
    image = nibabel.Nifti1Image(array.astype(np.uint8), affine)
    if unit is not None:
        image.header.set_slope_inter(unit, 0)
    image.header.set_xyzt_units("mm")
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(image.to_bytes())
    return base64.b64encode(file.getvalue()).decode()


def _colours(structures: dict[str, int], colours: dict[str, str]) -> dict:
    """Return a colour map of labels as NiiVue takes it."""
    rows = [(0, "", (0, 0, 0), 0)]
    rows += [
        (value, name, tuple(bytes.fromhex(colours[name][1:])), 255)
        for name, value in structures.items()
    ]
    return {
        "I": [value for value, *_ in rows],
        "labels": [name for _, name, *_ in rows],
        **{key: [row[2][place] for row in rows] for place, key in enumerate("RGB")},
        "A": [row[3] for row in rows],
    }
