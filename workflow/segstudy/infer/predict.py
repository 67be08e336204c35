"""Prediction of the tested cases of a fold."""

import hashlib
import importlib
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from segstudy import finished, networks
from segstudy.cases import Labelled, seen_images
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, writing_folder
from segstudy.finished import LIBRARIES, NNUNET_LIBRARIES, NOTHING, Finished
from segstudy.images.data_files import content_digest
from segstudy.images.files import Image, compare_grids, read_label, write_label
from segstudy.infer import leaks, postprocess
from segstudy.infer.batch import members_of, predict_each
from segstudy.infer.image import to_class_indices, to_label_values
from segstudy.infer.postprocess import Choice
from segstudy.infer.prediction_cache import cache_folder, cached_files
from segstudy.jobs import code
from segstudy.log import log
from segstudy.networks.device import decides_bits
from segstudy.networks.weights import Trained
from segstudy.seen_cases import refuse_seen

if TYPE_CHECKING:
    from segstudy.infer.ensemble import Ensemble
    from segstudy.infer.uncertainty import Spread

POSTPROCESSING = "postprocessing.json"

CHOICE_CASES = 5
"""How many training cases choose the post-processing where no validation cases were held out."""


def predict_fold(
    trained: "Trained | Ensemble",
    tested: Mapping[str, Sequence[Path]],
    structures: Mapping[str, int],
    choosing: Sequence[Labelled],
    device: torch.device,
    output: Path,
    kept: Finished = NOTHING,
) -> None:
    """Predict the tested cases of a fold: `output/<case>.nii.gz` and `output/postprocessing.json`.

    Where the settings have each case predicted several times, also `agreement.json`, and maps of uncertainty where asked for.

    Finished predictions wait in `<output>.partial/` until all are there, so that an interrupted job
    goes on where it stopped; predictions of other weights, images or code are not reused.

    Parameters
    ----------
    trained
        The weights with their settings, or an ensemble of several.
    tested
        Case -> its image files.
    structures
        Structure -> value in the labels that are written.
    choosing
        Cases of the training side that choose the post-processing, of `choice_names`.
    device
        Where the network runs.
    output
        The folder.
    kept
        Where finished folds are kept; one of the same weights, images and code is taken from there.
    """
    trained = several(trained)
    values = values_of(trained, structures, "--structures")
    key = _key(trained, structures, choosing)
    unfinished = cache_folder(output, key)
    files = cached_files(unfinished, tested)
    whole = _whole_key(trained, key, files, device)
    if not getattr(trained, "maps", False) and kept.restore(whole, output, whole=True):
        shutil.rmtree(unfinished.parent, ignore_errors=True)
        return
    record = unfinished / POSTPROCESSING
    if record.exists():
        choices = postprocess.from_record(read_json(record), trained.structures, str(record))
    else:
        choices = choose_postprocessing(trained, choosing, device)
        write_json(record, postprocess.to_record(choices))
    left = {case: paths for case, paths in tested.items() if not files[case].exists()}

    spread = hasattr(trained, "samples")

    def finish(case: str, predicted: "Image | Spread") -> None:
        classes = predicted.classes if spread else predicted
        kept = postprocess.apply(classes.array, choices, trained.structures)
        if spread:
            _quality().write_spread(
                files[case], predicted, trained.kind, choices, trained.structures
            )
        write_label(
            files[case], to_label_values(kept, values), classes.affine, like=tested[case][0]
        )

    # Of a study's cases names tell what was trained on, and the audit which images are the same.
    predict_each(unguarded(trained), left, device, finish, probabilities=spread)
    with writing_folder(output) as folder:
        for case, file in files.items():
            shutil.copyfile(file, folder / f"{case}.nii.gz")
        shutil.copyfile(record, folder / POSTPROCESSING)
        if spread:
            _quality().gather_spread(files, trained.kind, folder)
    if not getattr(trained, "maps", False):  # which take more than all else
        kept.keep(whole, output)
    shutil.rmtree(unfinished.parent)


def several(trained: "Trained | Ensemble") -> "Trained | Ensemble":
    """Return weights whose settings have an image predicted several times as what does so; others as they are."""
    settings = [member.model.infer for member in members_of(trained)]
    samples, maps = samples_of(trained), any(getattr(one, "uncertainty", False) for one in settings)
    agreement = any(one.agreement for one in settings)
    if not samples and not maps and not agreement:
        return trained
    # By name, so that an edit to it is no change of what networks predict once.
    uncertainty = importlib.import_module("segstudy.infer.uncertainty")
    return uncertainty.sampled(trained, samples, maps, agreement)


def samples_of(trained: "Trained | Ensemble") -> int:
    """Return the `mc_dropout` of the settings; InputError where the members of an ensemble differ in it."""
    asked = [getattr(member.model.infer, "mc_dropout", 0) for member in members_of(trained)]
    if len(set(asked)) > 1:
        raise InputError(
            f"mc_dropout: {', '.join(map(str, asked))} in the settings of the members; expected the same in all members of an "
            "ensemble: give --mc-dropout, 0 for none"
        )
    return asked[0]


def _quality():
    return importlib.import_module("segstudy.infer.quality")


# --- post-processing, chosen on the training side -----------------------------------------------


def choice_names(trained: "Trained | Ensemble", label_maps: Collection[str] = ()) -> list[str]:
    """List the cases (`dataset/case`) on which post-processing is chosen.

    These are the cases of held-out validation, whose predictions are as good as an unseen case's;
    where there are none, the first five training cases. Both are recorded in the weights, so that
    no tested case can be among them (`refuse_leaks`). Of an ensemble, they are those of all members.

    Parameters
    ----------
    trained
        The weights, with the cases they have seen, or an ensemble of several.
    label_maps
        Datasets without images, of which nothing can be predicted.
    """
    if keeping(trained) != "auto":
        return []
    known = [member.provenance for member in members_of(trained)]
    if any(one.get("anonymous") for one in known):
        return []
    validation = set.intersection(*(set(one["validation"]) for one in known))
    seen = set.intersection(*({*one["training"], *one["validation"]} for one in known))
    validation, seen = (
        sorted(name for name in names if name.partition("/")[0] not in label_maps)
        for names in (validation, seen)
    )
    return validation or seen[:CHOICE_CASES]


def keeping(trained: "Trained | Ensemble") -> str:
    """Return `keep_largest_component` of the settings; `auto` for members of an ensemble that differ in it."""
    settings = {member.model.infer.keep_largest_component for member in members_of(trained)}
    return settings.pop() if len(settings) == 1 else "auto"


def refuse_leaks(
    trained: "Trained | Ensemble",
    fold: int,
    dataset: str,
    tested: Iterable[str],
    checksums: Mapping[str, str] = MappingProxyType({}),
    training: Collection[str] = (),
) -> None:
    """Raise InputError where weights, of any member, are of another fold or saw a case that they are tested on.

    Parameters
    ----------
    trained
        The weights, with the cases they have seen, those of the weights that they started from among them.
    fold, dataset, tested
        As `leaks.refuse` has them.
    checksums
        Each tested case, as `dataset/case` -> the checksum of its image.
    training
        Cases that may have the image of a tested case: those that the splits have the fold learn from, where a study asks for
        leaks (`group_by: case_though_it_leaks`), which split and report have told; none in any other study.
    """
    tested, names = list(tested), getattr(trained, "names", ())
    options = [f"--weights {name}" for name in names] or ["--weights"]
    for member, option in zip(members_of(trained), options, strict=True):
        leaks.refuse(member.provenance, fold, dataset, tested, option)
        images = (member.provenance.get("images") or {}).items()
        # By name first: two cases with one image are one checksum.
        others = {name: checksum for name, checksum in images if name not in training}
        refuse_seen(seen_images({**member.provenance, "images": others}), checksums, option)


def unguarded(trained: "Trained | Ensemble") -> "Trained | Ensemble":
    """Return weights that predict images that they were trained on, too."""
    if hasattr(trained, "samples"):
        return replace(trained, trained=unguarded(trained.trained))
    free = [
        replace(member, provenance=member.provenance | {"images": {}, "initial_weights": {}})
        for member in members_of(trained)
    ]
    return replace(trained, members=tuple(free)) if hasattr(trained, "members") else free[0]


def choose_postprocessing(
    trained: "Trained | Ensemble", choosing: Sequence[Labelled], device: torch.device
) -> dict[str, Choice]:
    """Choose for each structure whether to keep its largest component only.

    The model's `keep_largest_component` decides; for `auto`, the mean Dice over the cases given, on
    their native grids.

    Parameters
    ----------
    trained
        The weights with their settings, or an ensemble of several.
    choosing
        Cases of the training side.
    device
        Where the network runs.
    """
    setting = keeping(trained)
    if setting != "auto":
        return {name: Choice(setting == "always") for name in trained.structures}
    cases = {labelled.name: labelled for labelled in choosing}

    def compare(name: str, classes: Image):
        path, structures = cases[name].case.label, cases[name].structures
        label = read_label(path)
        difference = compare_grids(classes.grid, label.grid)
        if difference:
            raise InputError(f"{path}: case {name}: other grid than its image: {difference}")
        values = values_of(trained, structures, f"dataset {cases[name].dataset}")
        reference, ignore = to_class_indices(label.array, values), cases[name].ignore
        ignored = np.isin(label.array, ignore) if ignore else None
        return postprocess.compare(reference, classes.array, len(values) + 1, ignored)

    compared = {}
    if cases:
        log.info("post-processing is chosen on %d cases of the training side", len(cases))
        images = {name: labelled.case.images for name, labelled in cases.items()}
        compared = predict_each(unguarded(trained), images, device, compare, "compared")
    else:
        log.info(
            "no training case has an image to choose post-processing on: all components are kept"
        )
    choices = postprocess.choose(compared, trained.structures)
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


# --- label values, and names of unfinished work -------------------------------------------------


def values_of(
    trained: "Trained | Ensemble", structures: Mapping[str, int], where: str
) -> list[int]:
    """Return the label values of the network's classes 1, 2, ..., in their order."""
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


def _key(
    trained: "Trained | Ensemble", structures: Mapping[str, int], choosing: Sequence[Labelled]
) -> str:
    """Compute the key of all that decides a prediction but its image: weights, settings, code."""
    chosen_on = [
        (labelled.name, *_contents(labelled), dict(labelled.structures), labelled.ignore)
        for labelled in choosing
    ]
    members = [member_key(member) for member in members_of(trained)]
    settings = (members, list(structures.items()), chosen_on, code_of(trained))
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def member_key(trained: Trained) -> str:
    """Compute the key of a network with its settings: of all that decides its probabilities but image and code."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trained.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    settings = (
        # Where a plug-in lies is no matter of what it predicts.
        trained.model.labelled(),
        sorted(trained.plugins.items()),
        trained.structures,
        trained.channels,
        trained.plan,
        trained.patch_size,
        trained.left_right_pairs,
    )
    digest.update(repr(settings).encode())
    return digest.hexdigest()


def _contents(labelled: Labelled) -> list[str]:
    files = (*labelled.case.images, labelled.case.label)
    return [content_digest(path, f"case {labelled.name}") for path in files]


def _whole_key(
    trained: "Trained | Ensemble", key: str, files: Mapping[str, Path], device: torch.device
) -> str:
    """Compute the key of all that decides a fold's predictions; file names tell of the images' contents."""
    contents = {case: file.name for case, file in files.items()}
    return finished.key("infer", key, contents, decides_bits(device), libraries_of(trained))


def libraries_of(trained: "Trained | Ensemble") -> dict[str, str]:
    """Return the versions of what computes a prediction."""
    nnunet = any(member.model.network == "nnunet" for member in members_of(trained))
    return finished.versions_of(NNUNET_LIBRARIES if nnunet else LIBRARIES)


def code_of(trained: "Trained | Ensemble") -> str:
    """Return the digest of the code that predicts: this module's, and what is imported by name for the networks."""
    members = members_of(trained)
    found = ["infer.ensemble"] if len(members) > 1 else []
    found += ["infer.uncertainty", "infer.quality"] if hasattr(trained, "samples") else []
    for member in members:
        found += networks.modules(member.model)
        found += ["infer.nnunet"] if member.model.network == "nnunet" else []
    return code.digest("infer.predict", *dict.fromkeys(found))
