"""Labels from a trainer of the user's own, a case at a time."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segstudy import finished, own_trainers, plugins
from segstudy.errors import InputError
from segstudy.files import make_folder
from segstudy.finished import NOTHING, Finished
from segstudy.images.files import compare_grids, read_grid, read_label, write_label
from segstudy.images.names import times
from segstudy.infer import leaks
from segstudy.infer.prediction_cache import (
    cache_folder,
    cached_files,
    hand_over,
    predict_missing,
)
from segstudy.jobs import code
from segstudy.networks.device import gpu_failures
from segstudy.own_trainers import Case


@dataclass(frozen=True)
class Tested:
    """Hold the cases that a fold tests.

    Parameters
    ----------
    fold, dataset
        Which they are.
    images
        Case -> its image files.
    """

    fold: int
    dataset: str
    images: Mapping[str, Sequence[Path]]


def predict_fold(
    trained: Path,
    plugin: str | None,
    tested: Tested,
    structures: Mapping[str, int],
    output: Path,
    kept: Finished = NOTHING,
) -> None:
    """Predict the tested cases of a fold: `output/<case>.nii.gz`.

    A case whose label cannot be made does not stop the others. Finished labels wait in
    `<output>.partial/`, so that an interrupted job goes on where it stopped.

    Parameters
    ----------
    trained
        `trained.tar` of the training.
    plugin
        Reference of the plug-in, of the code that it was trained with.
    tested
        The cases.
    structures
        Structure -> value in the labels that are written.
    output
        The folder.
    kept
        Where finished folds are kept.

    Raises
    ------
    InputError
        For weights of another fold, or that saw a tested case; for a plug-in of other code; at the end, for all cases
        that failed.
    """
    with own_trainers.unpacked(trained) as (files, record):
        leaks.refuse(record, tested.fold, tested.dataset, tested.images, "--trained")
        text = plugins.recognised(
            plugin, record["plugins"]["trainer"], own_trainers.DEFAULT, str(trained)
        )
        if set(structures) != set(record["structures"]):
            raise InputError(
                f"--structures: {', '.join(structures)}; expected those of {trained}: "
                f"{', '.join(record['structures'])}"
            )
        key = _key(trained, structures, record)
        folder = cache_folder(output, key)
        make_folder(folder)
        cached = cached_files(folder, tested.images)
        contents = {case: file.name for case, file in cached.items()}
        whole = finished.key("infer", key, contents, finished.versions_of())
        if kept.restore(whole, output, whole=True):
            shutil.rmtree(folder.parent, ignore_errors=True)
            return
        trainer = own_trainers.built(text, record["model"]["options"])

        def predict(name: str, paths: Sequence[Path]) -> None:
            images = tuple(path.resolve() for path in paths)
            case = Case(f"{tested.dataset}/{name}", "", images, None, dict(structures))
            array, affine = _predicted(trainer, text, case, files)
            write_label(cached[name], array, affine, like=paths[0])

        predict_missing(tested.images, cached, predict)
    hand_over(cached, output)
    kept.keep(whole, output)
    shutil.rmtree(folder.parent)


def _predicted(trainer: Any, text: str, case: Case, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the label (i, j, k) that the plug-in gives for a case, and the affine of its image.

    Raises InputError where its code fails, or where it gives no label on the image's grid with the values of the
    structures.
    """
    label = plugins.reference(text).label
    where = f"case {case.name}: plug-in {label}"
    own_trainers.seed_all(0)
    smaller = "have the plug-in hold less of it, or use a GPU with more"
    with gpu_failures(smaller), plugins.telling(text):
        given = trainer.predict(case, folder)
    grid = read_grid(case.images[0])
    if isinstance(given, (str, Path)):
        if not Path(given).is_file():
            raise InputError(f"{where}: predict names {given}, where there is no file")
        read = read_label(given)
        difference = compare_grids(grid, read.grid)
        if difference:
            raise InputError(f"{where}: predict wrote a label on another grid: {difference}")
        array = read.array
    elif isinstance(given, np.ndarray):
        array = given
    else:
        raise InputError(
            f"{where}: predict gives a {type(given).__name__}; expected an array (i, j, k) of whole numbers, or the "
            "path of a label file"
        )
    if array.shape != tuple(grid.shape) or array.dtype.kind not in "iub":
        raise InputError(
            f"{where}: predict gives {array.dtype} of {times(array.shape)}; expected whole numbers of "
            f"{times(grid.shape)}, the image's own grid"
        )
    found = np.unique(array)
    odd = sorted(set(found.tolist()) - {0, *case.structures.values()})
    if odd:
        named = ", ".join(f"{name} {value}" for name, value in case.structures.items())
        raise InputError(
            f"{where}: predict gives the value {odd[0]}; expected 0 for the background and those of case.structures "
            f"({named})"
        )
    return array.astype(np.uint16), grid.affine


def _key(trained: Path, structures: Mapping[str, int], record: Mapping[str, Any]) -> str:
    """Compute the key of all that decides a prediction but its image."""
    with trained.open("rb") as file:
        learned = hashlib.file_digest(file, "sha256").hexdigest()
    parts = (
        learned,
        list(structures.items()),
        record["plugins"],
        code.digest("infer.plugin_trainer"),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
