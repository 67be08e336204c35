"""What several predictions of an image tell of its quality: maps, agreement, and the judgement of a new scan."""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.files import read_json, write_json
from segstudy.images.files import Image, write_nifti
from segstudy.infer import postprocess
from segstudy.infer.postprocess import Choice
from segstudy.infer.uncertainty import Spread
from segstudy.networks.weights import Trained
from segstudy.quality.agreement import dice_with_others, pairwise_dice
from segstudy.quality.calibration import (
    Calibration,
    Described,
    Judgement,
    check_structures,
    from_record,
    gaps,
    judge,
)
from segstudy.quality.shape import describe
from segstudy.seen_cases import of_several_folds

AGREEMENT = "agreement.json"
MAPS = ("entropy", "mutual_information")
"""Folders of maps, in nats."""
KIND = {"members": "seeds"}
"""What an agreement is of, where it has another name than the way of predicting."""


def agreement(
    spread: Spread, kind: str, choices: Mapping[str, Choice], structures: Sequence[str]
) -> dict[str, float]:
    """Compute how far the predictions of an image agree, each after post-processing.

    Parameters
    ----------
    spread
        The predictions.
    kind
        What differs between them: all pairs are compared, or of `perturbed` images the first with the others.
    choices
        Structure -> post-processing.
    structures
        Names of the classes 1, 2, ...

    Returns
    -------
    dict
        Structure -> Dice; NaN where no prediction has it.
    """
    kept = [postprocess.apply(one, choices, structures) for one in spread.members]
    classes = len(structures) + 1
    if kind == "perturbed":
        found = dice_with_others(kept[0], kept[1:], classes)
    else:
        found = pairwise_dice(kept, classes)
    return dict(zip(structures, map(float, found), strict=True))


def maps_of(spread: Spread) -> dict[str, np.ndarray]:
    """Return the maps of an image by the names of their folders; none where none were asked for."""
    if spread.entropy is None:
        return {}
    return dict(zip(MAPS, (spread.entropy, spread.mutual_information), strict=True))


# --- the cases of a fold --------------------------------------------------------------------------


def write_spread(
    file: Path,
    spread: Spread,
    kind: str,
    choices: Mapping[str, Choice],
    structures: Sequence[str],
) -> None:
    """Write maps and agreement of a case beside its label `file`, which comes last and says that all is there."""
    for name, values in maps_of(spread).items():
        (file.parent / name).mkdir(parents=True, exist_ok=True)
        write_nifti(file.parent / name / file.name, values, spread.classes.affine)
    found = agreement(spread, kind, choices, structures)
    write_json(_agreement_file(file), _without_nan(found))


def gather_spread(files: Mapping[str, Path], kind: str, folder: Path) -> None:
    """Put what `write_spread` wrote of all cases into a folder: maps, and `agreement.json`.

    Parameters
    ----------
    files
        Case -> its label, as given to `write_spread`.
    kind
        What differs between predictions.
    folder
        Has `entropy/<case>.nii.gz` then, and so on.
    """
    for case, file in files.items():
        for name in MAPS:
            written = file.parent / name / file.name
            if written.exists():
                (folder / name).mkdir(exist_ok=True)
                # Not moved: a job that is killed here goes on from them.
                shutil.copyfile(written, folder / name / f"{case}.nii.gz")
    cases = {case: read_json(_agreement_file(file)) for case, file in files.items()}
    write_json(folder / AGREEMENT, {"of": KIND.get(kind, kind), "cases": cases})


def _agreement_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _without_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


# --- new scans ------------------------------------------------------------------------------------


def calibration_of(record: Mapping[str, Any], structures: Sequence[str], where: str) -> Calibration:
    """Return the calibration of a record, `MODEL.json` of a study or that of a bundle.

    Raises
    ------
    InputError
        Where it is none, or of other structures; `where` tells its file.
    """
    calibration = from_record(record, where)
    check_structures(calibration, structures, where)
    return calibration


def doubts(calibration: Calibration, members: Iterable[Trained]) -> list[str]:
    """Say what a calibration cannot tell of these networks' predictions, or approximately."""
    if calibration.reason:
        return []
    told = gaps(calibration)
    if of_several_folds(one.provenance for one in members):
        told.append(
            "intervals are approximate: these networks have seen more cases than each of the calibration's"
        )
    return told


def rows(
    agreed: Mapping[str, float],
    kind: str,
    label: Image,
    image: Image,
    calibration: Calibration | None,
) -> list[dict[str, Any]]:
    """Judge a prediction: a row of `quality.csv` a structure.

    Parameters
    ----------
    agreed
        Of `agreement`.
    kind
        What it is of.
    label
        Class indices (i, j, k), after post-processing.
    image
        (channel, i, j, k).
    calibration
        Of the model; None: neither intervals nor flags.
    """
    kind = KIND.get(kind, kind)
    features = describe(label, image, len(agreed) + 1)
    described = {
        name: Described(value, found)
        for (name, value), found in zip(agreed.items(), features, strict=True)
    }
    if calibration is None:
        nothing = (math.nan,) * 5
        judged = [
            Judgement(name, one.agreement, one.features["volume_ml"], *nothing, False, "")
            for name, one in described.items()
        ]
    else:
        judged = judge(described, calibration, kind)
    return [_row(one, kind, calibration is not None) for one in judged]


def _row(one: Judgement, kind: str, is_calibrated: bool) -> dict[str, Any]:
    def number(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.6g}"

    return {
        "structure": one.structure,
        "agreement": number(one.agreement),
        "agreement_of": kind,
        "dice": number(one.dice),
        "dice_low": number(one.dice_low),
        "dice_high": number(one.dice_high),
        "volume_ml": number(one.volume_ml),
        "volume_low_ml": number(one.volume_low_ml),
        "volume_high_ml": number(one.volume_high_ml),
        "flagged": ("yes" if one.flagged else "no") if is_calibrated else "",
        "reason": one.reason,
    }
