"""Predictions of many images: the tested cases of a fold, or images outside any study."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segstudy import code
from segstudy.cases import Case, Split
from segstudy.cases import trained as training_cases
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, writing_folder
from segstudy.images.files import Image, compare_grids, read_label, write_label
from segstudy.infer import postprocess
from segstudy.infer.image import Seconds, peak_memory, predict_image, with_values
from segstudy.infer.postprocess import Choice
from segstudy.log import log, progress
from segstudy.networks.weights import Trained

POSTPROCESSING = "postprocessing.json"

CHOICE_CASES = 5
"""How many training cases choose the post-processing where no validation cases were kept apart."""


@dataclass(frozen=True)
class Labelled:
    """A case of the training side, and the value of each structure in its dataset's labels."""

    dataset: str
    case: Case
    structures: Mapping[str, int]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.case.case}"


def predict_fold(
    trained: Trained,
    tested: Mapping[str, Sequence[Path]],
    structures: Mapping[str, int],
    choosing: Sequence[Labelled],
    device: torch.device,
    output: Path,
) -> None:
    """Predict the tested cases of a fold: `output/<case>.nii.gz` and `output/postprocessing.json`.

    tested: case -> its image files. structures: the values that the labels are written with.
    choosing: cases of the training side that choose the post-processing; `choice_cases` finds them.

    Finished predictions wait in `<output>.partial/` until all are there, so a job that was killed
    goes on where it stopped; predictions of other weights, images or code are not reused.
    """
    values = values_of(trained, structures, "--structures")
    waiting = Path(f"{output}.partial")
    unfinished = waiting / _key(trained, structures, choosing)
    if waiting.exists():
        for old in waiting.iterdir():
            if old != unfinished:
                shutil.rmtree(old)
    record = unfinished / POSTPROCESSING
    if record.exists():
        choices = postprocess.from_record(read_json(record), trained.structures, str(record))
    else:
        choices = choose_postprocessing(trained, choosing, device)
        write_json(record, postprocess.to_record(choices))
    files = {case: unfinished / f"{_digest(case, paths)}.nii.gz" for case, paths in tested.items()}
    left = {case: paths for case, paths in tested.items() if not files[case].exists()}
    if len(left) < len(tested):
        log.info("%d of %d cases are there already", len(tested) - len(left), len(tested))

    def finish(case: str, classes: Image) -> None:
        kept = postprocess.apply(classes.array, choices, trained.structures)
        write_label(files[case], with_values(kept, values), classes.affine)

    predict_each(trained, left, device, finish)
    with writing_folder(output) as folder:
        for case, file in files.items():
            shutil.copyfile(file, folder / f"{case}.nii.gz")
        shutil.copyfile(record, folder / POSTPROCESSING)
    shutil.rmtree(waiting)


def predict_images(
    trained: Trained,
    images: Mapping[str, Sequence[Path]],
    values: Sequence[int],
    choices: Mapping[str, Choice],
    device: torch.device,
    output: Path,
) -> None:
    """Predict images outside any study: `output/<name>.nii.gz` each, as soon as it is there."""

    def finish(name: str, classes: Image) -> None:
        kept = postprocess.apply(classes.array, choices, trained.structures)
        write_label(output / f"{name}.nii.gz", with_values(kept, values), classes.affine)

    predict_each(trained, images, device, finish)


def predict_each(
    trained: Trained,
    images: Mapping[str, Sequence[Path]],
    device: torch.device,
    finish: Callable[[str, Image], None],
) -> None:
    """Predict image by image and hand each class map to `finish`.

    One that cannot be predicted does not stop the others; InputError names all such at the end.
    """
    errors = []
    for name in progress(list(images), "predicted"):
        seconds = Seconds()
        try:
            classes = predict_image(trained, images[name], device, seconds)
            finish(name, classes)
        except InputError as error:
            log.info("%s: not predicted", name)
            errors.append(str(error))
            continue
        seconds.lap("write")
        log.info("%s: %s", name, seconds)
    if images:
        log.info("peak memory %s", peak_memory(device))
    if errors:
        count = f"{len(errors)} of {len(images)} images could not be predicted"
        raise InputError("\n".join([*errors, *([count] if len(images) > 1 else [])]))


def choice_cases(
    splits: Sequence[Split],
    fold: int,
    seed: int,
    validation_share: float,
    cases: Mapping[str, Sequence[Case]],
    structures: Mapping[str, Mapping[str, int]],
) -> list[Labelled]:
    """The cases on which post-processing is chosen: never one that this fold's model is tested on.

    These are the cases that training kept apart to follow itself by, whose predictions are as
    good as those of unseen cases; where there are none, the first five that it was trained on.

    cases, structures: by dataset: its case table, and its label values.
    """
    learnt, apart = training_cases(splits, fold, validation_share, seed)
    found = []
    for split in (
        apart or sorted(learnt, key=lambda split: (split.dataset, split.case))[:CHOICE_CASES]
    ):
        named = [case for case in cases.get(split.dataset, ()) if case.case == split.case]
        if not named:
            raise InputError(
                f"--training-cases: no case {split.case!r} of dataset {split.dataset}, on which "
                "post-processing is chosen; give the case table of each training dataset"
            )
        if split.dataset not in structures:
            raise InputError(
                f"--training-structures: no label values of dataset {split.dataset}, on whose cases "
                'post-processing is chosen; give {"' + split.dataset + '": {structure: value}}'
            )
        found.append(Labelled(split.dataset, named[0], structures[split.dataset]))
    return found


def choose_postprocessing(
    trained: Trained, choosing: Sequence[Labelled], device: torch.device
) -> dict[str, Choice]:
    """For each structure, whether to keep its largest component only.

    As the model's `keep_largest_component` says; for `auto`, where that raises the mean Dice over
    the cases given, on their native grids.
    """
    setting = trained.model.keep_largest_component
    if setting != "auto":
        return {name: Choice(setting == "always") for name in trained.structures}
    log.info("choosing post-processing on %d cases of the training side", len(choosing))
    choices = postprocess.choose(_compared(trained, choosing, device), trained.structures)
    for name, choice in choices.items():
        if choice.cases:
            log.info(
                "%s: Dice %.4f as predicted, %.4f with its largest component: %s",
                name,
                choice.dice_all,
                choice.dice_largest,
                "largest kept" if choice.keep_largest else "left as predicted",
            )
    return choices


def _compared(
    trained: Trained, choosing: Iterable[Labelled], device: torch.device
) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    for labelled in choosing:
        label = read_label(labelled.case.label)
        classes = predict_image(trained, labelled.case.images, device)
        difference = compare_grids(classes.grid, label.grid)
        if difference:
            raise InputError(
                f"{labelled.case.label}: case {labelled.name}: other grid than its image: {difference}"
            )
        values = values_of(trained, labelled.structures, f"dataset {labelled.dataset}")
        indices = np.zeros(max(int(label.array.max(initial=0)), *values) + 1, np.uint8)
        indices[values] = np.arange(1, len(values) + 1)
        yield labelled.name, indices[label.array], classes.array


def values_of(trained: Trained, structures: Mapping[str, int], where: str) -> list[int]:
    """The label values of the network's classes 1, 2, ..., in their order."""
    if set(structures) != set(trained.structures):
        raise InputError(
            f"{where}: structures {', '.join(structures)}; expected those of the weights: "
            f"{', '.join(trained.structures)}"
        )
    values = [structures[name] for name in trained.structures]
    if len(set(values)) < len(values) or min(values) < 1 or max(values) > 65535:
        raise InputError(
            f"{where}: values {', '.join(str(value) for value in values)}; expected different "
            "whole numbers from 1 to 65535"
        )
    return values


def _key(trained: Trained, structures: Mapping[str, int], choosing: Sequence[Labelled]) -> str:
    """Names all that decides a prediction but the image: weights, settings, code."""
    found = hashlib.sha256()
    for name, tensor in sorted(trained.network.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    found.update(
        repr(
            (
                trained.model.to_json(),
                trained.plan,
                trained.patch_size,
                list(structures.items()),
                [labelled.name for labelled in choosing],
                code.digest("infer.predict", f"networks.{trained.model.network}"),
            )
        ).encode()
    )
    return found.hexdigest()[:16]


def _digest(case: str, paths: Iterable[Path]) -> str:
    """Names a case and the content of its image."""
    found = hashlib.sha256(case.encode())
    for path in paths:
        try:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{path}: case {case}: cannot be read: {error.strerror}") from None
    return found.hexdigest()[:24]
