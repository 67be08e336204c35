"""Prediction for a service: a process that holds models and predicts one image after the other, as it is asked.

`python -m segstudy.infer.worker SETTINGS` reads requests from standard input and writes events to standard output, a line of JSON
each. So the service holds no network, and survives an image that ends the process. It ends with the service.
"""

import contextlib
import ctypes
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstudy.errors import InputError
from segstudy.files import file_checksum, make_folder, parse_json, read_json
from segstudy.images import headers
from segstudy.images.files import Image, read_image, within_memory, write_nifti
from segstudy.images.label_formats import LABEL_FORMATS, colours_of
from segstudy.images.plan import Plan
from segstudy.images.value_checks import image_problems
from segstudy.infer import postprocess
from segstudy.infer.batch import members_of, steps_of
from segstudy.infer.checks import is_ct
from segstudy.infer.ensemble import ensemble
from segstudy.infer.image import to_label_values, window_of
from segstudy.infer.predict import keeping, samples_of, unguarded
from segstudy.infer.quality import agreement, calibration_of, rows
from segstudy.infer.uncertainty import perturbed, sampled
from segstudy.log import log, start
from segstudy.networks.bundle import load_members, member_name, written_card
from segstudy.networks.device import choose_device, gpu_failures
from segstudy.networks.weights import Trained, content_of
from segstudy.networks.window import window_starts
from segstudy.sides import RAS_AXES

SHOWN_VOXELS = 64_000_000
"""Of an image as a page shows it; larger ones are thinned out."""
EVERY_S = 0.2
"""Least time between two events of progress."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Model:
    """Hold what predicts.

    Parameters
    ----------
    trained
        The weights, or an ensemble.
    judging
        The same, predicting several times so that quality can be judged; None where that cannot be.
    calibration
        Of the model; None without one.
    colours
        Structure -> red, green, blue.
    told
        What clients are told of it.
    """

    trained: Any
    judging: Any
    calibration: Any
    colours: Mapping[str, Sequence[int]]
    told: Mapping[str, Any]


def main(words: Sequence[str]) -> int:
    """Load models as the settings say, then answer requests until standard input ends."""
    settings = parse_json(words[0], "the settings")
    # What libraries print must not come between the events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    start()
    log.setLevel("WARNING")
    _end_with(os.getppid())
    with contextlib.suppress(OSError):  # where memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("500")

    def tell(event: Mapping[str, Any]) -> None:
        try:
            events.write(json.dumps(event) + "\n")
            events.flush()
        except OSError:  # the service was ended, and nobody listens
            os._exit(1)

    try:
        device = choose_device(settings["device"])
        models = {name: load(**one, device=device) for name, one in settings["models"].items()}
    except InputError as error:
        tell({"refused": str(error)})
        return 1
    tell({"models": {name: model.told for name, model in models.items()}})
    log.setLevel("ERROR")  # doubts about an image name its place; clients have them as notes
    for line in sys.stdin:
        request = parse_json(line, "a request")
        answer(models[request["model"]], request, device, tell)
        with contextlib.suppress(OSError, AttributeError):  # glibc's alone
            ctypes.CDLL(None).malloc_trim(0)
    return 0


def _end_with(parent: int) -> None:
    """End this process soon after its parent ends, in the middle of a prediction, too."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- models -----------------------------------------------------------------------------------------


def load(
    file: str,
    plugins: Sequence[str],
    calibration: str | None,
    trained_on_too: bool,
    device: torch.device,
) -> Model:
    """Load a bundle, or a weights file, onto the device.

    Parameters
    ----------
    file
        The file.
    plugins
        References of the plug-ins that its networks need.
    calibration
        The model's `quality.json` of a study; None: that of the bundle, if it has one.
    trained_on_too
        Whether images are predicted that the weights were trained on.
    device
        Where it predicts.
    """
    loaded = load_members([file], plugins)
    trained = ensemble(loaded.members, loaded.names)
    if trained_on_too:
        trained = unguarded(trained)
    with gpu_failures("serve fewer or smaller models at a time, or with --device cpu"):
        for member in members_of(trained):
            member.network.to(device)
    record = read_json(Path(calibration)) if calibration else loaded.calibration
    where = calibration or f"{file}: its calibration"
    read = calibration_of(record, trained.structures, where) if record else None
    colours = colours_of(trained.structures, loaded.colours)
    first = members_of(trained)[0]
    told = {
        "structures": list(trained.structures),
        "channels": list(trained.channels),
        "colours": {name: list(colour) for name, colour in colours.items()},
        "networks": len(loaded.members),
        "ct": is_ct(first),
        "checksum": loaded.checksum or file_checksum(file),
        "card": loaded.card or _card(first),
        "calibrated": read is not None,
    }
    judging = sampled(trained, samples_of(trained), quality=True)
    return Model(trained, judging, read, colours, told)


def _card(trained: Trained) -> str:
    """Return the card of a weights file, which brings none: what it records."""
    content = content_of(trained)
    return written_card({member_name(content): content})


# --- a request ----------------------------------------------------------------------------------------


def answer(model: Model, request: Mapping[str, Any], device: torch.device, tell: Tell) -> None:
    """Predict as a request says, and tell the result or why there is none."""
    try:
        with within_memory("the image", request["images"][0]):
            result = predict(model, request, device, tell)
        tell({"result": result})
    except InputError as error:
        tell({"problem": without_paths(str(error), request)})
    except Exception as error:  # a fault of ours, or of a library
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        # Its words may hold fields of a header.
        log.error("prediction %s: %s at %s", request["id"], type(error).__name__, where)
        tell(
            {
                "problem": f"The service failed on this image ({type(error).__name__}): a fault of segstudy's, which its log tells of."
            }
        )


def predict(
    model: Model, request: Mapping[str, Any], device: torch.device, tell: Tell
) -> dict[str, Any]:
    """Predict an image, and write label maps, tables' values and a copy to be shown.

    Parameters
    ----------
    model
        What predicts.
    request
        `images`: the files, or folders of series, a channel each or one with all; `output`: the folder; `quality`: whether the
        prediction is judged; `dicom`: whether the first is a DICOM series, to which a DICOM-SEG refers.
    device
        Where it predicts.
    tell
        Is given the steps, and how many windows are predicted.

    Returns
    -------
    dict
        `structures`, a dict each with volume and quality; `files`; `notes`; `shape`; `spacing_mm`.
    """
    paths, output = [Path(one) for one in request["images"]], Path(request["output"])
    trained = model.judging if request["quality"] else model.trained
    steps = steps_of(trained)
    tell({"step": "reading"})
    array, way = steps.read(trained, paths)
    tell({"step": "predicting"})
    with (
        gpu_failures("a window does not fit in"),
        _counted(trained, array, device, tell),
    ):
        predicted = steps.probabilities(trained, array, device)
    del array
    tell({"step": "writing"})
    own = steps.restore(predicted, way)
    always = keeping(model.trained) == "always"
    choices = {name: postprocess.Choice(always) for name in trained.structures}
    kept = postprocess.apply(own.array, choices, trained.structures)
    values = {name: number for number, name in enumerate(trained.structures, 1)}
    label = Image(to_label_values(kept, list(values.values())), own.affine)
    image = read_image(paths, channels=len(trained.channels))
    judged: Sequence[Mapping[str, Any]] = ()
    if request["quality"]:
        agreed = agreement(predicted, trained.kind, choices, trained.structures)
        judged = rows(agreed, trained.kind, Image(kept, own.affine), image, model.calibration)
    files, notes = _written(model, label, values, (paths[0], request["dicom"]), output)
    write_nifti(output / "image.nii.gz", *_shown(image))
    notes = [*_doubts(model, paths, image), *notes]
    counts = np.bincount(label.array.ravel(), minlength=len(values) + 1)
    voxel_ml = float(abs(np.linalg.det(label.affine[:3, :3]))) / 1000
    return {
        "structures": [
            {
                "structure": name,
                "label": value,
                "n_voxels": int(counts[value]),
                "volume_ml": float(f"{counts[value] * voxel_ml:.6g}"),
                "quality": _quality(judged, name),
            }
            for name, value in values.items()
        ],
        "files": [*files, "image.nii.gz"],
        "notes": [without_paths(one, request) for one in notes],
        "shape": list(label.array.shape),
        "spacing_mm": [float(f"{size:.6g}") for size in label.spacing_mm],
    }


def _written(
    model: Model,
    label: Image,
    values: Mapping[str, int],
    source: tuple[Path, bool],
    output: Path,
) -> tuple[list[str], list[str]]:
    """Write a label map in all formats that it can have; return the names of the files, and why one is missing."""
    image, is_dicom = source
    make_folder(output)
    files, notes = [], []
    for name in ("nifti", "seg.nrrd", *(["dicom-seg"] if is_dicom else [])):
        form = LABEL_FORMATS[name]
        file = output / f"segmentation{form.suffix}"
        try:
            form.check(image)
            form.check_names(values)
            form.write(file, label, values, image, model.colours)
        except InputError as error:
            notes.append(f"No {name}: {error}")
            continue
        files.append(file.name)
    return files, notes


def _doubts(model: Model, paths: Sequence[Path], image: Image) -> list[str]:
    """Return what a person should know of an image: doubts about its header, its values, and how it was read."""
    trained = model.trained
    told = [text for path in paths for text in headers.warnings(path)]
    problems = image_problems(image.array, paths, trained.channels, is_ct(members_of(trained)[0]))
    return [*told, *image.notes, *(text for _, text, _ in problems)]


def _shown(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the first channel of an image to be shown, and its affine: whole numbers where it has no others, thinned where it is large."""
    array, affine, steps = image.array[0], image.affine.copy(), np.ones(3, int)
    while math.prod(-(-size // step) for size, step in zip(array.shape, steps, strict=True)) > (
        SHOWN_VOXELS
    ):
        steps[int(np.argmin(steps * image.spacing_mm))] += 1
    array = array[tuple(slice(None, None, int(step)) for step in steps)]
    affine[:3, :3] = affine[:3, :3] * steps
    low, high = float(array.min()), float(array.max())
    if low >= -32768 and high <= 32767 and np.array_equal(array, np.rint(array)):
        array = array.astype(np.int16)
    return np.ascontiguousarray(array), affine


def _quality(judged: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """Return the judgement of a structure as numbers and truth values; None where there is none."""
    row = next((one for one in judged if one["structure"] == name), None)
    if row is None:
        return None
    words = {"structure", "agreement_of", "flagged", "reason", "volume_ml"}
    numbers = {
        key: float(value) if value != "" else None for key, value in row.items() if key not in words
    }
    return {
        **numbers,
        "agreement_of": row["agreement_of"],
        "flagged": {"yes": True, "no": False}.get(row["flagged"]),
        "reason": row["reason"],
    }


def without_paths(text: str, request: Mapping[str, Any]) -> str:
    """Return a sentence without the places of the service's files, which tell clients nothing."""
    for number, path in enumerate(request["images"], 1):
        what = "the image" if len(request["images"]) == 1 else f"image {number}"
        text = text.replace(path, what)
    return re.sub(r"(?<![\w.])(?:/[\w.+@=~-]+){2,}/?", "a file", text)


# --- progress -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _counted(trained: Any, array: Any, device: torch.device, tell: Tell):
    """Tell how many of the passes through networks are done, while the block runs."""
    total = passes(trained, array, device)
    done, told_at = 0, 0.0

    def count(*_: Any) -> None:
        nonlocal done, told_at
        done += 1
        if total and time.monotonic() - told_at >= EVERY_S:
            told_at = time.monotonic()
            tell({"step": "predicting", "fraction": min(done / total, 0.99)})

    hooks = [member.network.register_forward_hook(count) for member in members_of(trained)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def passes(trained: Any, array: Any, device: torch.device) -> int:
    """Compute how many forward passes an image will take; 0 where that is not known, as for networks of nnU-Net's.

    Exact for one network that predicts once; else crops are not counted.
    """
    members = members_of(trained)
    if any(member.model.network == "nnunet" for member in members):
        return 0
    kind = getattr(trained, "kind", "")
    times = {"mc_dropout": getattr(trained, "samples", 0), "perturbed": len(perturbed())}
    return times.get(kind, 1) * sum(_passes(one, _shape(one, array), device) for one in members)


def _shape(member: Trained, array: Any) -> Sequence[int]:
    """Return the shape (x, y, z) of an image as a network sees it; of one that is not prepared yet, an estimate."""
    prepared = getattr(array, "array", array)
    if not isinstance(array, Image):
        return prepared.shape[1:]
    along = np.abs(array.affine[:3, :3]).argmax(axis=0)  # world axis of each voxel axis
    sizes = np.zeros(3)
    sizes[along] = np.multiply(array.grid.shape, array.spacing_mm)
    return (
        np.maximum(1, np.rint(sizes / Plan.from_dict(member.plan).spacing_mm)).astype(int).tolist()
    )


def _passes(member: Trained, shape: Sequence[int], device: torch.device) -> int:
    window, total = window_of(member), 0
    for normal in window.normal_axes:
        shown = [axis for axis in range(3) if axis != normal]
        items = 1 if normal is None else shape[normal]
        starts = [
            len(window_starts(max(shape[axis], size), size, window.overlap))
            for axis, size in zip(shown, window.patch_size, strict=True)
        ]
        batches = math.ceil(items * math.prod(starts) / window.windows_per_batch(device))
        along = [name for name in window.mirror_axes if RAS_AXES[name] in shown]
        total += batches * 2 ** len(along)
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
