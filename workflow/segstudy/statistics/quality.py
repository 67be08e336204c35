"""Estimates of quality of a study's held-out predictions, case by case and structure by structure, and their calibration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segstudy.cases import Case, Split, leaks_on_request, tested
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.files import Image, compare_grids, read_image, read_label
from segstudy.log import log, progress
from segstudy.named_tables import read_named
from segstudy.quality.agreement import dice_with_others, pairwise_dice
from segstudy.quality.calibration import (
    Calibration,
    Described,
    HeldOut,
    Judgement,
    OfStructure,
    calibrate,
    distance,
    judge,
    training_ranges,
)
from segstudy.quality.conformal import FOLDS, subject_folds
from segstudy.quality.risk import aurc, trust_with_flags
from segstudy.quality.shape import describe

AGREEMENT = "agreement.json"
"""What a prediction job writes of networks that predict several times."""
CASES = (
    *("model", "dataset", "fold", "subject", "case", "structure", "agreement", "agreement_of"),
    *("predicted_dice", "dice_low", "dice_high", "dice"),
    *("volume_ml", "volume_low_ml", "volume_high_ml", "reference_volume_ml"),
    *("distance", "flagged", "reason"),
)
"""Columns of `cases.csv`."""
SUMMARY = (
    *("model", "dataset", "structure", "agreement_of", "n_subjects", "n_scans", "n_flagged"),
    *("n_dice_intervals", "dice_in_interval", "n_volume_intervals", "volume_in_interval"),
    *("aurc_agreement", "aurc_with_flags", "aurc_best"),
)
"""Columns of `summary.csv`."""
SEEN = (
    "networks learned from the subjects that they are tested on (`group_by: case_though_it_leaks`)"
)
"""Why a study with such leaks has no intervals."""


@dataclass(frozen=True)
class Predictions:
    """Hold what a study has predicted, and of what.

    Parameters
    ----------
    pattern
        Folder of predictions, with `{model}`, `{fold}`, `{seed}`, `{dataset}`.
    models
        Model -> its seeds.
    structures
        Dataset -> structure -> label value; the names are the same in all.
    cases
        Dataset -> its cases, with repaired labels.
    splits
        The table of splits.
    channels
        Dataset -> number of channels of its images; those that lack have one.
    """

    pattern: str
    models: Mapping[str, Sequence[int]]
    structures: Mapping[str, Mapping[str, int]]
    cases: Mapping[str, Sequence[Case]]
    splits: Sequence[Split]
    channels: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the structures."""
        return list(next(iter(self.structures.values())))

    @property
    def folds(self) -> list[int]:
        """Return the folds whose models have been run."""
        found = {split.fold for split in self.splits if type(split.fold) is int and split.fold >= 0}
        return [fold for fold in sorted(found) if self._there(fold)]

    def folder(self, model: str, fold: int, seed: int, dataset: str) -> Path:
        """Return the folder of a dataset's predictions."""
        return Path(self.pattern.format(model=model, fold=fold, seed=seed, dataset=dataset))

    def kind(self, model: str) -> str:
        """Return what a model's agreement is of: its seeds, samples of one network, the study's other models; or nothing."""
        seeds = self.models[model]
        if len(seeds) > 1:
            return "seeds"
        for dataset in self.structures:
            for fold in self.folds:
                file = self.folder(model, fold, seeds[0], dataset) / AGREEMENT
                if file.is_file():
                    return str(read_json(file)["of"])
        return "models" if len(self.models) > 1 else ""

    def _there(self, fold: int) -> bool:
        return any(
            self.folder(model, fold, seed, dataset).is_dir()
            for model, seeds in self.models.items()
            for seed in seeds
            for dataset in self.structures
        )


@dataclass
class Scans:
    """Hold a model's held-out scans, and where each is from.

    Parameters
    ----------
    kind
        What their agreement is of.
    scans
        The scans.
    places
        Of each: dataset and fold.
    """

    kind: str
    scans: list[HeldOut] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Estimates:
    """Hold the tables of a study's estimates of quality.

    Parameters
    ----------
    cases
        A row a model, case and structure.
    summary
        A row a model, dataset and structure.
    calibrations
        Model -> its calibration, of all its scans.
    """

    cases: pd.DataFrame
    summary: pd.DataFrame
    calibrations: Mapping[str, Calibration]


def read_measured(files: Sequence[Path]) -> pd.DataFrame:
    """Read tables of metrics."""
    return pd.concat([read_named(file) for file in files])


def estimate(predictions: Predictions, measured: pd.DataFrame) -> Estimates:
    """Estimate the quality of each held-out prediction by what other subjects' tell, and compare with the real one.

    Parameters
    ----------
    predictions
        What was predicted. Each case counts that some fold leaves out, which that fold's networks have not seen.
    measured
        `metrics.csv`: Dice and voxels.
    """
    ranges = training_ranges(_label_features(predictions))
    found = held_out(predictions, measured)
    withheld = SEEN if leaks_on_request(predictions.splits) else ""
    rows: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    calibrations = {}
    for model, of_model in found.items():
        calibrations[model] = calibrate(model, of_model.kind, ranges, of_model.scans, withheld)
        judged = _judged_by_others(model, of_model, ranges, withheld)
        rows += _case_rows(model, of_model, judged)
        datasets = dict.fromkeys(dataset for dataset, _ in of_model.places)
        for dataset in datasets or list(predictions.structures)[:1]:
            summary += _summary_rows(model, dataset, of_model, judged, predictions.names)
    return Estimates(
        pd.DataFrame(rows, columns=list(CASES)),
        pd.DataFrame(summary, columns=list(SUMMARY)),
        calibrations,
    )


# --- what is measured ---------------------------------------------------------------------------------


def _label_features(predictions: Predictions) -> dict[str, list[dict[str, float]]]:
    """Measure the labels of all cases that some fold trains on, structure by structure."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in predictions.names}
    trained = {(s.dataset, s.case) for s in predictions.splits if s.fold is not None}
    for dataset, cases in predictions.cases.items():
        for case in progress([c for c in cases if (dataset, c.case) in trained], "labels measured"):
            label = _classes(case.label, predictions.structures[dataset])
            image = _image(case, label, predictions.channels.get(dataset, 1))
            described = describe(label, image, len(found) + 1)
            for name, features in zip(predictions.structures[dataset], described, strict=True):
                found[name].append(features)
    return found


def held_out(predictions: Predictions, measured: pd.DataFrame) -> dict[str, Scans]:
    """Describe each held-out prediction, model by model; a case without a file of a model is left out for that model.

    Of a model with several seeds the agreement is that of all, Dice their mean, volume and shape those of the first.
    """
    found = {model: Scans(predictions.kind(model)) for model in predictions.models}
    dice = measured[measured["metric"] == "dice"]
    keys = ["model", "fold", "dataset", "case", "structure"]
    real = dice.groupby(keys)["value"].mean()
    first = (
        dice.sort_values("seed").groupby(keys)[["n_reference_voxels", "n_predicted_voxels"]].first()
    )
    for dataset, cases in predictions.cases.items():
        known = {case.case: case for case in cases}
        own = [split for split in predictions.splits if split.fold is not None]
        for fold in predictions.folds:
            for name in progress(tested(own, fold, dataset), f"fold {fold}, {dataset}: estimated"):
                described = _describe(predictions, known[name], dataset, fold)
                for model, structures in described.items():
                    place = [(model, fold, dataset, name, one) for one in structures]
                    if not all(key in real.index for key in place):
                        continue
                    found[model].scans.append(
                        HeldOut(
                            name,
                            known[name].subject,
                            structures,
                            {key[-1]: float(real[key]) for key in place},
                            {key[-1]: _ratio(*first.loc[key]) for key in place},
                        )
                    )
                    found[model].places.append((dataset, fold))
    due = sum(
        len(
            tested([split for split in predictions.splits if split.fold is not None], fold, dataset)
        )
        for fold in predictions.folds
        for dataset in predictions.cases
    )
    for model, one in found.items():
        if len(one.scans) < due:
            log.warning(
                "%s: of %d scans the prediction or its Dice is missing, so that nothing is told of their quality",
                model,
                due - len(one.scans),
            )
    return found


def _describe(
    predictions: Predictions, case: Case, dataset: str, fold: int
) -> dict[str, dict[str, Described]]:
    """Describe a case's predictions: model -> structure -> what was predicted."""
    values = predictions.structures[dataset]
    maps = {}
    for model, seeds in predictions.models.items():
        files = [predictions.folder(model, fold, s, dataset) / f"{case.case}.nii.gz" for s in seeds]
        if all(file.is_file() for file in files):
            maps[model] = [_classes(file, values) for file in files]
    found: dict[str, dict[str, Described]] = {}
    channels = predictions.channels.get(dataset, 1)
    image = _image(case, next(iter(maps.values()))[0], channels) if maps else None
    for model, labels in maps.items():
        others = [other[0] for name, other in maps.items() if name != model]
        kind = predictions.kind(model)
        agreed = np.full(len(values), math.nan)
        if kind == "seeds":
            agreed = pairwise_dice([label.array for label in labels], len(values) + 1)
        elif kind == "models" and others:
            arrays = [_same_grid(labels[0], other, case.case).array for other in others]
            agreed = dice_with_others(labels[0].array, arrays, len(values) + 1)
        elif kind:
            folder = predictions.folder(model, fold, predictions.models[model][0], dataset)
            told = read_json(folder / AGREEMENT)["cases"][case.case]
            agreed = np.array([math.nan if told[n] is None else told[n] for n in values])
        features = describe(labels[0], image, len(values) + 1)
        found[model] = {
            name: Described(float(agreed[number]), features[number])
            for number, name in enumerate(values)
        }
    return found


def _classes(path: Path, structures: Mapping[str, int]) -> Image:
    """Read a label map as class indices, in the order of the structures."""
    label = read_label(path)
    indices = np.zeros(max(int(label.array.max(initial=0)), *structures.values()) + 1, np.uint8)
    indices[list(structures.values())] = np.arange(1, len(structures) + 1)
    return Image(indices[label.array], label.affine)


def _image(case: Case, label: Image, channels: int) -> Image | None:
    """Read a case's image; None where there is none, as of label maps alone."""
    if not case.images:
        return None
    image = read_image(case.images, channels=channels)
    return Image(image.array, image.affine) if image.grid.shape == label.grid.shape else None


def _same_grid(one: Image, other: Image, case: str) -> Image:
    difference = compare_grids(one.grid, other.grid)
    if difference:
        raise InputError(f"case {case}: two models' predictions have other grids: {difference}")
    return other


def _ratio(reference: float, predicted: float) -> float:
    """Return the volume of the reference by that of the prediction; NaN where both are 0, or a number is not known."""
    if not predicted > 0:
        return math.inf if reference > 0 else math.nan
    return float(reference) / float(predicted)


# --- judged by other subjects ---------------------------------------------------------------------------


def _judged_by_others(
    model: str, found: Scans, ranges: Mapping[str, OfStructure], withheld: str
) -> list[tuple[list[Judgement], float]]:
    """Judge each scan by the calibration of subjects of other folds of them; its distance beside it."""
    scans = found.scans
    if len({scan.subject for scan in scans}) < 2:
        return [
            (judge(s.structures, calibrate(model, "", ranges, []), ""), math.nan) for s in scans
        ]
    fold = subject_folds([scan.subject for scan in scans], FOLDS, 1)
    judged = []
    calibrations = [
        calibrate(
            model,
            found.kind,
            ranges,
            [s for s, f in zip(scans, fold, strict=True) if f != one],
            withheld,
        )
        for one in range(fold.max() + 1)
    ]
    for scan, own in zip(scans, fold, strict=True):
        others = calibrations[own]
        apart = distance(scan.structures, others) / (others.limit or 1.0)
        judged.append((judge(scan.structures, others, found.kind), apart))
    return judged


def _case_rows(
    model: str, found: Scans, judged: Sequence[tuple[list[Judgement], float]]
) -> list[dict[str, Any]]:
    rows = []
    for scan, (dataset, fold), (judgements, apart) in zip(
        found.scans, found.places, judged, strict=True
    ):
        for one in judgements:
            real = scan.volume_ratio[one.structure] * one.volume_ml
            rows.append(
                {
                    "model": model,
                    "dataset": dataset,
                    "fold": fold,
                    "subject": scan.subject,
                    "case": scan.case,
                    "structure": one.structure,
                    "agreement": one.agreement,
                    "agreement_of": found.kind,
                    "predicted_dice": one.dice,
                    "dice_low": one.dice_low,
                    "dice_high": one.dice_high,
                    "dice": scan.dice[one.structure],
                    "volume_ml": one.volume_ml,
                    "volume_low_ml": one.volume_low_ml,
                    "volume_high_ml": one.volume_high_ml,
                    "reference_volume_ml": real,
                    "distance": apart,
                    "flagged": "yes" if one.flagged else "no",
                    "reason": one.reason,
                }
            )
    return rows


def _summary_rows(
    model: str,
    dataset: str,
    found: Scans,
    judged: Sequence[tuple[list[Judgement], float]],
    structures: Sequence[str],
) -> list[dict[str, Any]]:
    """Summarise a model on a dataset: how often intervals hold, and the area under the risk-coverage curve of two orders of trust."""
    own = [number for number, (of, _) in enumerate(found.places) if of == dataset]
    scans, judged = [found.scans[number] for number in own], [judged[number] for number in own]
    rows = []
    for name in structures:
        # By name: datasets may list their structures in other orders.
        ones = [one for judgements, _ in judged for one in judgements if one.structure == name]
        dice = np.array([scan.dice[name] for scan in scans])
        volume = np.array([scan.volume_ratio[name] for scan in scans])
        with np.errstate(invalid="ignore"):  # of nothing predicted there is no interval either
            volume = volume * [one.volume_ml for one in ones]
        defined = np.isfinite(dice)
        risk = 1 - dice[defined]
        agreement = np.array([one.agreement for one in ones])[defined]
        apart = np.array([distance for _, distance in judged])[defined]
        trust = trust_with_flags(agreement, apart)
        dice_held = _held(dice, [(one.dice_low, one.dice_high) for one in ones])
        volume_held = _held(volume, [(one.volume_low_ml, one.volume_high_ml) for one in ones])
        rows.append(
            {
                "model": model,
                "dataset": dataset,
                "structure": name,
                "agreement_of": found.kind,
                "n_subjects": len({scan.subject for scan in scans}),
                "n_scans": len(scans),
                "n_flagged": sum(one.flagged for one in ones),
                "n_dice_intervals": len(dice_held),
                "dice_in_interval": dice_held.mean() if len(dice_held) else math.nan,
                "n_volume_intervals": len(volume_held),
                "volume_in_interval": volume_held.mean() if len(volume_held) else math.nan,
                "aurc_agreement": aurc(risk, agreement) if found.kind else math.nan,
                "aurc_with_flags": aurc(risk, trust) if found.kind else math.nan,
                "aurc_best": aurc(risk, -risk),
            }
        )
    return rows


def _held(values: np.ndarray, ends: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return of each value that has an interval whether it lies within."""
    low, high = np.array(ends, float).reshape(-1, 2).T
    has = np.isfinite(low) & np.isfinite(values)
    return ((values >= low) & (values <= high))[has]
