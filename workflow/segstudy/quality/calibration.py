"""What a model's held-out predictions tell of a new one: its Dice and volume with intervals, and whether it is a case apart.

A calibration is fitted on predictions by networks that never saw the subject, and is plain values: it travels as JSON.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from segstudy.errors import InputError
from segstudy.quality import shape
from segstudy.quality.conformal import (
    ALPHA,
    FOLDS,
    Monotone,
    Regression,
    fewest_subjects,
    fit_regression,
    subject_folds,
    subject_weights,
    upper_quantile,
)
from segstudy.quality.shape import Range

FORMAT = "segstudy quality 1"
FALSE_ALARMS = 0.05
"""Share of scans like those of the calibration that may be flagged."""
UNCALIBRATED_LIMIT = 5.0
"""Robust SD from the training labels beyond which a scan is flagged where no calibration tells."""
LEAST_LIMIT = 1.0
"""No limit lies closer to the training labels than a robust SD."""
AGREEMENT = "agreement"
ABSENT = "absent"
LEAST_SCALE = 0.02
"""Least robust SD of the agreement."""
KINDS = {
    "seeds": "mean pairwise Dice of networks that differ by their seed",
    "models": "mean Dice with the predictions of the study's other models",
    "members": "mean pairwise Dice of the members",
    "mc_dropout": "mean pairwise Dice of samples by MC dropout",
    "mirrored": "mean pairwise Dice of mirrored predictions",
    "perturbed": "mean Dice with predictions of the image perturbed by noise, gamma and a shift",
}
"""What an agreement is of."""


@dataclass(frozen=True)
class Described:
    """Hold what is known of a predicted structure without its reference.

    Parameters
    ----------
    agreement
        From 0 to 1; NaN where there is none, or all predictions lack the structure.
    features
        Of `shape.describe`.
    """

    agreement: float
    features: Mapping[str, float]


@dataclass(frozen=True)
class HeldOut:
    """Hold a scan that was predicted by networks that never saw its subject.

    Parameters
    ----------
    case, subject
        Names.
    structures
        Structure -> what was predicted.
    dice
        Structure -> its Dice; NaN where it is undefined.
    volume_ratio
        Structure -> volume of the reference by that of the prediction; NaN where both are 0.
    """

    case: str
    subject: str
    structures: Mapping[str, Described]
    dice: Mapping[str, float]
    volume_ratio: Mapping[str, float]


@dataclass(frozen=True)
class OfStructure:
    """Hold the calibration of a structure.

    Parameters
    ----------
    always
        Whether all training labels have it.
    ranges
        Feature -> its range in the training labels; agreement -> its range in the calibration.
    limits
        Feature, or agreement -> how many scales 95 % of the calibration's subjects stay within.
    dice
        The regression of Dice on the agreement; None where there is no calibration.
    log_volume
        Half the 90 % interval of the logarithm of the volume; None where there is no calibration.
    """

    always: bool
    ranges: Mapping[str, Range]
    limits: Mapping[str, float] = field(default_factory=dict)
    dice: Regression | None = None
    log_volume: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Hold a model's calibration.

    Parameters
    ----------
    model
        Its name.
    kind
        What the agreement is of, of `KINDS`; empty where there is none.
    subjects
        How many subjects calibrate it.
    structures
        Structure -> its calibration.
    limit
        Distance beyond which a scan is flagged, in limits of its features; None where subjects are too few for 5 % of
        false alarms: limits are five robust SD then.
    reason
        Why there are no intervals; empty where there are.
    """

    model: str
    kind: str
    subjects: int
    structures: Mapping[str, OfStructure]
    limit: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """Hold what is told of a predicted structure.

    Parameters
    ----------
    structure
        Its name.
    agreement
        NaN where there is none.
    volume_ml
        Of the prediction.
    dice, dice_low, dice_high
        Predicted Dice with its 90 % interval; NaN where there is none, and for a flagged scan.
    volume_low_ml, volume_high_ml
        90 % interval of the real volume, likewise.
    flagged
        Whether the scan is.
    reason
        Of the flag: the structure and feature that lie furthest out.
    """

    structure: str
    agreement: float
    volume_ml: float
    dice: float
    dice_low: float
    dice_high: float
    volume_low_ml: float
    volume_high_ml: float
    flagged: bool
    reason: str


# --- fitting ------------------------------------------------------------------------------------


def training_ranges(
    labels: Mapping[str, Sequence[Mapping[str, float]]],
) -> dict[str, OfStructure]:
    """Take the ranges of features over the training labels.

    Parameters
    ----------
    labels
        Structure -> the features of each training label.
    """
    return {
        name: OfStructure(
            bool(described) and all(one["volume_ml"] > 0 for one in described),
            shape.fit_ranges(described),
        )
        for name, described in labels.items()
    }


def calibrate(
    model: str,
    kind: str,
    ranges: Mapping[str, OfStructure],
    scans: Sequence[HeldOut],
    withheld: str = "",
) -> Calibration:
    """Fit a model's calibration on its held-out scans.

    Parameters
    ----------
    model
        Its name.
    kind
        What the agreement is of; empty where there is none, and then there are no intervals.
    ranges
        Of `training_ranges`.
    scans
        The scans, in any order.
    withheld
        Why there are to be no intervals; empty where nothing speaks against them.
    """
    scans = sorted(scans, key=lambda scan: (scan.subject, scan.case))
    subjects = len({scan.subject for scan in scans})
    needed = fewest_subjects(ALPHA)
    reason = withheld
    if not reason and not kind:
        reason = "no agreement: one prediction a case"
    elif not reason and subjects < needed:
        reason = f"{subjects} subjects; an interval of {1 - ALPHA:.0%} needs {needed}"
    structures = {
        name: _of_structure(name, one, scans, with_intervals=not reason)
        for name, one in ranges.items()
    }
    limit = _limit(ranges, scans)
    if limit is None:
        structures = {
            name: replace(one, limits=dict.fromkeys(one.ranges, UNCALIBRATED_LIMIT))
            for name, one in structures.items()
        }
    return Calibration(model, kind, subjects, structures, limit, reason)


def _limit(ranges: Mapping[str, OfStructure], scans: Sequence[HeldOut]) -> float | None:
    """Return the distance that 95 % of new scans stay within, of those that have all they should; None for too few subjects.

    A scan that lacks a structure is flagged whatever the limit: among many such ones, no limit would hold.
    """
    distances = _cross_fitted_distances(ranges, scans)
    pairs = zip(scans, distances, strict=True)
    whole = [(scan, one) for scan, one in pairs if math.isfinite(one)]
    if not whole:
        return None
    kept, within = zip(*whole, strict=True)
    limit = upper_quantile(within, _weights(kept), FALSE_ALARMS)
    return limit if math.isfinite(limit) else None


def _cross_fitted_distances(
    ranges: Mapping[str, OfStructure], scans: Sequence[HeldOut]
) -> list[float]:
    """Return each scan's distance in limits of other subjects: in limits that it took part in, no scan lies far out."""
    subjects = [scan.subject for scan in scans]
    if len(set(subjects)) < 2:
        return [math.inf] * len(scans)
    fold = subject_folds(subjects, FOLDS, 0)
    fitted = []
    for number in range(fold.max() + 1):
        others = [scan for scan, own in zip(scans, fold, strict=True) if own != number]
        fitted.append(
            {name: _of_structure(name, one, others, False) for name, one in ranges.items()}
        )
    return [
        _furthest(scan.structures, fitted[own])[0] for scan, own in zip(scans, fold, strict=True)
    ]


def _of_structure(
    name: str, one: OfStructure, scans: Sequence[HeldOut], with_intervals: bool
) -> OfStructure:
    ranges = dict(one.ranges)
    agreements = np.array([scan.structures[name].agreement for scan in scans])
    agreements = agreements[np.isfinite(agreements)]
    if len(agreements):
        centre = float(np.median(agreements))
        mad = float(np.median(np.abs(agreements - centre)))
        ranges[AGREEMENT] = Range(centre, max(shape.MAD_TO_SD * mad, LEAST_SCALE))
    found = [_deviations(scan.structures[name], ranges) for scan in scans]
    weights = _weights(scans)
    limits = {}
    for feature in ranges:
        values = [deviations.get(feature, 0.0) for deviations in found]
        # Of few subjects the largest: a unit of distance alone, which is to be the same in each part of them.
        quantile = upper_quantile(values, weights, FALSE_ALARMS) if values else math.inf
        if not math.isfinite(quantile):
            quantile = max(values, default=UNCALIBRATED_LIMIT)
        limits[feature] = max(quantile, LEAST_LIMIT)
    dice = log_volume = None
    if with_intervals:
        dice, log_volume = _dice(name, scans), _log_volume(name, scans)
    return OfStructure(one.always, ranges, limits, dice, log_volume)


def _dice(name: str, scans: Sequence[HeldOut]) -> Regression | None:
    """Fit Dice on agreement over the scans that have both; None for fewer subjects than an interval needs."""
    known = [
        scan
        for scan in scans
        if math.isfinite(scan.structures[name].agreement) and math.isfinite(scan.dice[name])
    ]
    subjects = [scan.subject for scan in known]
    if len(set(subjects)) < fewest_subjects(ALPHA):
        return None
    agreements = [scan.structures[name].agreement for scan in known]
    return fit_regression(agreements, [scan.dice[name] for scan in known], subjects)


def _log_volume(name: str, scans: Sequence[HeldOut]) -> float | None:
    """Return the conformal quantile of the volume's error, as a logarithm; None for too few subjects, or errors without end."""
    known = [scan for scan in scans if not math.isnan(scan.volume_ratio[name])]
    with np.errstate(divide="ignore"):
        errors = [abs(float(np.log(scan.volume_ratio[name]))) for scan in known]
    quantile = upper_quantile(errors, _weights(known), ALPHA) if known else math.inf
    return quantile if math.isfinite(quantile) else None


def _weights(scans: Sequence[HeldOut]) -> np.ndarray:
    return subject_weights([scan.subject for scan in scans])


# --- judging ------------------------------------------------------------------------------------


def judge(
    described: Mapping[str, Described], calibration: Calibration, kind: str
) -> list[Judgement]:
    """Tell how far a prediction is to be trusted.

    Parameters
    ----------
    described
        Structure -> what was predicted.
    calibration
        Of the model.
    kind
        What the agreement is of; another one than the calibration's tells nothing of Dice, and is left out.
    """
    agreements = {name: one.agreement for name, one in described.items()}
    if kind != calibration.kind:
        described = {name: Described(math.nan, one.features) for name, one in described.items()}
    distance, structure, feature = _furthest(described, calibration.structures)
    limit = 1.0 if calibration.limit is None else calibration.limit
    flagged = distance > limit
    reason = ""
    if flagged:
        reason = _reason(structure, feature, described[structure], calibration)
    judged = [
        _judged(name, one, calibration.structures[name], flagged, reason)
        for name, one in described.items()
    ]
    return [replace(one, agreement=agreements[one.structure]) for one in judged]


def _judged(
    name: str, one: Described, calibrated: OfStructure, flagged: bool, reason: str
) -> Judgement:
    nothing = (math.nan, math.nan, math.nan)
    dice, volume = nothing, nothing[:2]
    size = one.features["volume_ml"]
    if calibrated.dice and not flagged and math.isfinite(one.agreement):
        low, high = calibrated.dice.interval(one.agreement)
        dice = (float(calibrated.dice.fit.at(one.agreement)), max(low, 0.0), min(high, 1.0))
    if calibrated.log_volume is not None and not flagged and size > 0:
        factor = math.exp(calibrated.log_volume)
        volume = (size / factor, size * factor)
    return Judgement(name, one.agreement, size, *dice, *volume, flagged, reason)


def distance(described: Mapping[str, Described], calibration: Calibration) -> float:
    """Return how far out a scan lies, in limits of the structure and feature that lies furthest."""
    return _furthest(described, calibration.structures)[0]


def _deviations(one: Described, ranges: Mapping[str, Range]) -> dict[str, float]:
    """Return the robust z of each feature, and of an agreement below its centre."""
    found = shape.deviations(one.features, ranges)
    if AGREEMENT in ranges and math.isfinite(one.agreement):
        below = one.agreement < ranges[AGREEMENT].centre
        found[AGREEMENT] = ranges[AGREEMENT].deviation(one.agreement) if below else 0.0
    return found


def _furthest(
    described: Mapping[str, Described], structures: Mapping[str, OfStructure]
) -> tuple[float, str, str]:
    """Return the largest deviation of a scan in limits, its structure and its feature."""
    found = [(0.0, "", "")]
    for name, one in described.items():
        known = structures[name]
        if known.always and one.features["volume_ml"] == 0:
            found.append((math.inf, name, ABSENT))
        for feature, deviation in _deviations(one, known.ranges).items():
            found.append((deviation / known.limits.get(feature, UNCALIBRATED_LIMIT), name, feature))
    return max(found)


def _reason(structure: str, feature: str, one: Described, calibration: Calibration) -> str:
    """Say in words what lies furthest out."""
    if feature == ABSENT:
        return f"{structure}: no voxel was predicted, and all training labels have some"
    known = calibration.structures[structure].ranges[feature]
    if feature == AGREEMENT:
        return f"{structure}: agreement {one.agreement:.2f}; held-out scans had {known.centre:.2f} (median)"
    described = shape.feature_of(feature)
    limit = calibration.structures[structure].limits.get(feature, UNCALIBRATED_LIMIT)
    if calibration.limit is not None:
        limit *= calibration.limit
    ends = [known.centre - limit * known.scale, known.centre + limit * known.scale]
    low, high = (math.exp(min(end, 700)) if described.ratio else end for end in ends)
    unit = f" {described.unit}" if described.unit else ""
    return (
        f"{structure}: {described.words} {one.features[feature]:.3g}{unit}; "
        f"expected {low:.3g} to {high:.3g}{unit}"
    )


def gaps(calibration: Calibration) -> list[str]:
    """Say of which structures there are no intervals though of others there are, and why; nothing where `reason` tells."""
    if calibration.reason:
        return []
    needed = fewest_subjects(ALPHA)
    dice = [name for name, one in calibration.structures.items() if one.dice is None]
    volume = [name for name, one in calibration.structures.items() if one.log_volume is None]
    told = []
    if dice:
        told.append(
            f"no Dice is predicted of {', '.join(dice)}: fewer than {needed} subjects had both an agreement and a Dice"
        )
    if volume:
        told.append(
            f"no interval of the volume of {', '.join(volume)}: fewer than {needed} subjects had it, or of {100 * ALPHA:.0f} % or more it "
            "was missed, or predicted where it is not"
        )
    return told


# --- as plain values ----------------------------------------------------------------------------


def to_record(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as values that JSON holds."""
    return {"format": FORMAT, **asdict(calibration)}


def from_record(record: Mapping[str, Any], where: str) -> Calibration:
    """Return the calibration of a record; where: its file, for the error.

    Raises
    ------
    InputError
        For a record that is none.
    """
    found = record.get("format") if isinstance(record, Mapping) else None
    if found != FORMAT:
        raise InputError(
            f"{where}: {found or 'no format'} found; expected a {FORMAT!r} file, as statistics writes it"
        )
    try:
        structures = {name: _structure(one) for name, one in record["structures"].items()}
        limit, kind = record["limit"], str(record["kind"])
        if kind and kind not in KINDS:
            raise ValueError(f"kind {kind!r}")
        return Calibration(
            str(record["model"]),
            kind,
            int(record["subjects"]),
            structures,
            None if limit is None else _finite(limit),
            str(record["reason"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{where}: damaged, {type(error).__name__} {error}; write it again with `segstudy statistics`"
        ) from None


def check_structures(calibration: Calibration, structures: Sequence[str], where: str) -> None:
    """Raise InputError where a calibration is of other structures than the weights; where: its file, for the error."""
    if set(calibration.structures) != set(structures):
        raise InputError(
            f"{where}: of the structures {', '.join(calibration.structures)}; the weights have {', '.join(structures)}: give "
            "the calibration of the study that trained them"
        )


def _structure(record: Mapping[str, Any]) -> OfStructure:
    ranges = {
        name: Range(_finite(one["centre"]), _above_0(one["scale"]))
        for name, one in record["ranges"].items()
    }
    limits = {name: _above_0(limit) for name, limit in record["limits"].items()}
    for name in {*ranges, *limits} - {AGREEMENT}:
        shape.feature_of(name)
    dice, log_volume = record["dice"], record["log_volume"]
    return OfStructure(
        bool(record["always"]),
        ranges,
        limits,
        None if dice is None else _regression(dice),
        None if log_volume is None else _logarithm(log_volume),
    )


def _regression(record: Mapping[str, Any]) -> Regression:
    fit, folds = _monotone(record["fit"]), tuple(map(_monotone, record["folds"]))
    fold = tuple(map(int, record["fold"]))
    residuals, weights = (tuple(map(_finite, record[key])) for key in ("residuals", "weights"))
    if not len(fold) == len(residuals) == len(weights) or not {*fold} <= {*range(len(folds))}:
        raise ValueError("fold, residuals and weights that do not fit together")
    return Regression(fit, folds, fold, residuals, weights)


def _monotone(record: Mapping[str, Any]) -> Monotone:
    scores, values = (tuple(map(_finite, record[key])) for key in ("scores", "values"))
    if not scores or len(scores) != len(values) or list(scores) != sorted(scores):
        raise ValueError("scores and values that are no curve")
    return Monotone(scores, values)


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} for a number")
    return number


def _logarithm(value: Any) -> float:
    number = _finite(value)
    math.exp(number)  # OverflowError
    return number


def _above_0(value: Any) -> float:
    if (number := _finite(value)) <= 0:
        raise ValueError(f"{value} for a number above 0")
    return number
