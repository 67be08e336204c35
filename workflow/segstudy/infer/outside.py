"""Prediction of images outside any study, into a folder that knows what is finished."""

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from segstudy.cases import seen_images
from segstudy.errors import InputError
from segstudy.files import make_folder
from segstudy.images.files import Image, read_image, write_nifti
from segstudy.images.label_formats import LABEL_FORMATS, Colour
from segstudy.infer import outputs, postprocess
from segstudy.infer.batch import Predicted, members_of, predict_each
from segstudy.infer.image import to_label_values
from segstudy.infer.postprocess import Choice
from segstudy.infer.predict import code_of, member_key, values_of
from segstudy.log import log
from segstudy.networks.weights import Trained

if TYPE_CHECKING:
    from segstudy.infer.ensemble import Ensemble
    from segstudy.infer.uncertainty import Sampled, Spread
    from segstudy.quality.calibration import Calibration


@dataclass(frozen=True)
class Files:
    """Hold how the files of images outside any study are read and written.

    Parameters
    ----------
    form
        Of the labels, one of `label_formats.LABEL_FORMATS`.
    spacing_mm
        Voxel size of pictures along columns, rows and slices, which do not tell it.
    probabilities
        Whether class probabilities are written beside each label map.
    colours
        Of structures, in formats that have colours; those that lack get one by their place.
    quality
        Whether predictions are judged, in `quality.csv`; the weights are a `Sampled` then.
    calibration
        Of the model, for `quality`.
    """

    form: str = "nifti"
    spacing_mm: Sequence[float] = ()
    probabilities: bool = False
    colours: Mapping[str, Colour] = field(default_factory=dict)
    quality: bool = False
    calibration: "Calibration | None" = None


NIFTI_FILES = Files()


def predict_images(
    trained: "Trained | Ensemble",
    images: Mapping[str, Sequence[Path]],
    structures: Mapping[str, int],
    choices: Mapping[str, Choice],
    device: torch.device,
    output: Path,
    files: Files = NIFTI_FILES,
) -> None:
    """Predict images outside any study: a file each in `output`, as soon as it is finished, and `summary.csv` with volumes.

    An image whose files are there already, made by the same weights, settings and code of the same content, is not
    predicted again; a record in the folder tells, and not a file's name.

    Parameters
    ----------
    trained
        The weights with their settings, or an ensemble of several.
    images
        Name -> one file for all channels, or one a channel.
    structures
        Structure -> value in the labels that are written.
    choices
        Structure -> post-processing.
    device
        Where the network runs.
    output
        The folder.
    files
        How files are read and written.

    Raises
    ------
    InputError
        At the end, for all images that cannot be predicted, which do not stop the others.
    """
    values = values_of(trained, structures, "--structures")
    written = LABEL_FORMATS[files.form]
    if files.probabilities:
        outputs.check_values(structures)
    make_folder(output)
    record = outputs.Record(output)
    record.refuse_others_tables((outputs.SUMMARY, *([outputs.QUALITY] if files.quality else [])))
    key = _settings_key(trained, structures, choices, files)
    left = {name: paths for name, paths in images.items() if not _there(record, key, name, paths)}
    record.refuse_others_files({name: _names(name, trained, files) for name in left})
    if len(left) < len(images):
        log.info("%d of %d images are predicted already", len(images) - len(left), len(images))

    several = hasattr(trained, "samples")
    members = hashlib.sha256(repr([member_key(one) for one in members_of(trained)]).encode())
    removed: list[str] = []

    def finish(name: str, predicted: Image | Predicted) -> None:
        classes = predicted.classes if files.probabilities or several else predicted
        kept = postprocess.apply(classes.array, choices, trained.structures)
        label = Image(to_label_values(kept, values), classes.affine)
        made = {f"{name}{written.suffix}": output / f"{name}{written.suffix}"}
        [file] = made.values()
        record.begin(name)
        removed.extend(
            record.remove_others(name, members.hexdigest(), _names(name, trained, files))
        )
        written.write(file, label, structures, images[name][0], files.colours)
        if files.probabilities:
            made[f"{name}.npz"] = output / f"{name}.npz"
            outputs.write_probabilities(made[f"{name}.npz"], predicted.probabilities, values)
        judged = []
        if several:
            made |= _write_maps(name, predicted, output)
        if files.quality:
            own = Image(kept, classes.affine)
            judged = _judged(trained, predicted, choices, own, (images[name], files))
        keys = (outputs.image_key(key, name, images[name]), key, members.hexdigest())
        record.add(outputs.entry_of(name, keys, label, structures, made, judged))

    try:
        predict_each(
            trained,
            left,
            device,
            finish,
            spacing_mm=files.spacing_mm,
            probabilities=files.probabilities or several,
        )
    finally:
        record.write_summary()
        if not any(output.iterdir()):
            output.rmdir()
    if removed:
        log.info(
            "%s: %d files that other weights had made of these images are removed, %s the first",
            output,
            len(removed),
            removed[0],
        )
    other = record.of_other_weights(key)
    if other:
        log.warning(
            "%s: %d label files are of other weights or settings, %s the first; %s has their volumes, too",
            output,
            len(other),
            other[0],
            outputs.SUMMARY,
        )
    left_over = record.left_over()
    if left_over:
        log.warning(
            "%s: left of earlier predictions, and not of the present ones: %s (%d in all); remove them",
            output,
            left_over[0],
            len(left_over),
        )


def _names(name: str, trained: "Trained | Ensemble | Sampled", files: Files) -> list[str]:
    """List the files of an image that are written into the folder."""
    mapped = getattr(trained, "maps", False)
    maps = importlib.import_module("segstudy.infer.quality").MAPS if mapped else ()
    return [
        f"{name}{LABEL_FORMATS[files.form].suffix}",
        *([f"{name}.npz"] if files.probabilities else []),
        *(f"{kind}/{name}.nii.gz" for kind in maps),
    ]


def _write_maps(name: str, spread: "Spread", output: Path) -> dict[str, Path]:
    """Write an image's maps of uncertainty, `entropy/NAME.nii.gz` and so on; return the files by their names in the folder."""
    made = {}
    for kind, values in importlib.import_module("segstudy.infer.quality").maps_of(spread).items():
        made[f"{kind}/{name}.nii.gz"] = output / kind / f"{name}.nii.gz"
        make_folder(output / kind)
        write_nifti(output / kind / f"{name}.nii.gz", values, spread.classes.affine)
    return made


def _judged(
    trained: "Sampled",
    spread: "Spread",
    choices: Mapping[str, Choice],
    classes: Image,
    read: tuple[Sequence[Path], Files],
) -> list[dict[str, Any]]:
    """Judge an image's prediction. classes: after post-processing; read: the image's files, and how they are read."""
    # By name, so that an edit to it is no change of what is predicted once.
    quality = importlib.import_module("segstudy.infer.quality")
    paths, files = read
    image = read_image(paths, channels=len(trained.channels))
    if files.spacing_mm:
        image = image.with_spacing(files.spacing_mm)
    agreed = quality.agreement(spread, trained.kind, choices, trained.structures)
    return quality.rows(agreed, trained.kind, classes, image, files.calibration)


def _there(record: outputs.Record, key: str, name: str, paths: Sequence[Path]) -> bool:
    """Tell whether an image is predicted already; one that cannot be read is not, which its prediction will tell."""
    if name not in record.entries:
        return False
    try:
        return record.finished(name, outputs.image_key(key, name, paths))
    except InputError:
        return False


def _settings_key(
    trained: "Trained | Ensemble",
    structures: Mapping[str, int],
    choices: Mapping[str, Choice],
    files: Files,
) -> str:
    """Compute the key of all that decides an image's files but the image: weights, settings, code."""
    settings = (
        [member_key(member) for member in members_of(trained)],
        # Images that are refused: one that was let through is not finished where it no longer is.
        [sorted(seen_images(member.provenance)) for member in members_of(trained)],
        list(structures.items()),
        sorted(name for name, choice in choices.items() if choice.keep_largest),
        (files.form, tuple(files.spacing_mm), files.probabilities, sorted(files.colours.items())),
        code_of(trained),
    )
    if hasattr(trained, "samples"):
        how = (trained.kind, trained.samples, trained.maps, files.quality, files.calibration)
        settings = (*settings, how)
    return hashlib.sha256(repr(settings).encode()).hexdigest()
