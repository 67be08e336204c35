"""The registry of metrics: names, units, ranges, and which values are better.

One registry serves measurement, comparison and display. Other programs' names of a metric are known
where their meaning is sure; an unknown name has no direction until a person gives it one.
"""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from segstudy.errors import InputError

if TYPE_CHECKING:  # Snakemake reads the study by this module while it parses its rules.
    import numpy as np

Direction = Literal["higher", "lower", "zero"]
Quantity = Literal["number", "length", "volume"]

MEASURED = (
    *("dice", "iou", "precision", "recall", "relative_volume_error"),
    *("hd_mm", "hd95_mm", "assd_mm"),
)
"""Metrics that `segstudy metrics` always measures; NSD, and Dice by slice, follow the settings."""

EXTRA = (
    *("masd_mm", "signed_surface_distance_mm", "boundary_iou", "cldice", "betti_error"),
    *("volume_difference_ml", "absolute_volume_difference_ml", "absolute_relative_volume_error"),
    *("volumetric_similarity", "specificity"),
)
"""Metrics that are measured where `metrics.extra` names them."""

OF_LESIONS = (
    *("lesion_f1", "lesion_precision", "lesion_recall", "lesion_false_positives"),
    *("panoptic_quality", "lesionwise_dice", "lesionwise_hd95_mm"),
)
"""Metrics that are measured where the settings have `metrics.lesions`."""

OF_PROBABILITIES = ("brier", "ece")
"""Metrics that are measured where probabilities are given."""

NSD_BY_STRUCTURE = "nsd_by_structure"
"""The NSD at the tolerance that each structure has of its own."""

PREFERRED = ("dice", "hd95_mm", "assd_mm", "nsd", "precision", "recall")
"""Metrics that are compared where nobody chose; `nsd` stands for all tolerances."""
BESIDE_NNUNETS = re.compile(r"hd95_mm|assd_mm|nsd_[0-9.e+-]+mm")
"""Metrics that stand in a `summary.json` beside nnU-Net's own, by their names here."""

DESCRIPTIVE = ("slices_undefined", "side_swapped")
"""Metrics without a worst value, so that a missing or empty prediction has none."""

UNITS = {
    "number": {},
    "length": {"mm": ("mm", "millimetres", "millimeters"), "cm": ("cm",)},
    "volume": {"ml": ("ml", "cm3", "cc"), "mm3": ("mm3",)},
}
_VOXEL = ("voxels", "voxel", "vox", "pixels", "pixel", "px")
ROUNDING = 1e-6
"""How far outside its range a value may lie: what single precision makes of a 1."""


@dataclass(frozen=True)
class Metric:
    """Describe a metric.

    Parameters
    ----------
    name
        As in our tables, with the unit of a distance.
    title
        As it is printed.
    unit
        `mm`, `ml`, ... or empty.
    direction
        Which of two values is better; `zero` is compared by absolute size.
    low, high
        Range of the values, infinite where open.
    digits
        Decimals as it is printed.
    definition
        In words.
    source
        Key of `publish.citations`.
    quantity
        `number`, `length` or `volume`.
    aliases
        Names that other programs give the metric, as `key` writes them.
    """

    name: str
    title: str
    unit: str
    direction: Direction
    low: float
    high: float
    digits: int
    definition: str
    source: str = ""
    quantity: Quantity = "number"
    aliases: tuple[str, ...] = ()

    @property
    def axis(self) -> str:
        """Return the title with the unit, for an axis or a table's head."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def arrow(self) -> str:
        """Return a sign for the direction."""
        return {"higher": "↑", "lower": "↓", "zero": "→ 0"}[self.direction]

    @property
    def expected(self) -> str:
        """Return the range in words."""
        if math.isinf(self.low):
            return "any number" if self.signed_distance else "a number above -inf"
        return (
            f"{self.low:g} or more" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"
        )

    @property
    def signed_distance(self) -> bool:
        """Tell whether it is a distance with a sign, which is minus infinity where nothing was predicted."""
        return self.direction == "zero" and self.quantity == "length"

    @property
    def worst(self) -> float:
        """Return the value of a prediction that is missing or empty: the worse end of the range."""
        return {
            "higher": self.low,
            "lower": self.high,
            "zero": -math.inf if self.signed_distance else max(abs(self.low), abs(self.high)),
        }[self.direction]

    def compared(self, values):
        """Return what of values (a number, an array or a column) is compared: sizes where those nearest to 0 are best."""
        return abs(values) if self.direction == "zero" else values

    def cost(self, value: float) -> float:
        """Return a number that is lower for better values; infinite for an undefined value."""
        if math.isnan(value):
            return math.inf
        return {"higher": -value, "lower": value, "zero": abs(value)}[self.direction]

    def text(self, value: float) -> str:
        """Write the value with the metric's usual digits; `∞` and `–` for infinite and undefined."""
        return number(value, self.digits)

    def outside(self, values: "np.ndarray") -> "np.ndarray":
        """Mark values outside the metric's range: bool, False where undefined (NaN).

        Infinity is in range where the range is open above; minus infinity as a signed distance alone.
        """
        outside = (values < self.low - ROUNDING) | (values > self.high + ROUNDING)
        return outside if self.signed_distance else outside | (values == -math.inf)


def _share(name, title, definition, source="", aliases="", direction="higher", low=0.0) -> Metric:
    return Metric(
        name, title, "", direction, low, 1.0, 3, definition, source, "number", _words(aliases)
    )  # fmt: skip


def _distance(stem, title, definition, source="", aliases="") -> Metric:
    return Metric(
        f"{stem}_mm", title, "mm", "lower", 0.0, math.inf, 2, definition, source, "length",
        (stem.replace("_", ""), *_words(aliases)),
    )  # fmt: skip


def _open(name, title, definition, source="", aliases="", direction="lower", **others) -> Metric:
    """Return a metric without an upper bound; others: fields of `Metric` with unusual values."""
    usual = {"low": 0.0, "unit": "", "digits": 3, "quantity": "number"}
    fields = {**usual, **others, "definition": definition, "source": source}
    return Metric(
        name, title, direction=direction, high=math.inf, aliases=_words(aliases), **fields
    )  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Left out since programs disagree on what they mean: counts (TP, FP, FN), bare volumes, and the name
# "volume similarity", which is 2 (a - b) / (a + b) in SimpleITK and no volumetric similarity.
METRICS = {
    metric.name: metric
    for metric in (
        # Overlap
        _share("dice", "Dice", "twice the overlap over the sum of both volumes", "dice1945",
               "dsc dc dicescore dicecoefficient dicecoef dicesimilaritycoefficient dicesimilarity "
               "dicesorensen sorensendice dicemetric meandice dicemean volumetricdice volumedice "
               "globalbindsc"),
        _share("iou", "IoU", "the overlap over the union of both volumes (Jaccard index)",
               "jaccard1912",
               "jaccard jaccardindex jaccardcoefficient jaccardscore jacrd jc jac meaniou miou "
               "ioumean intersectionoverunion threatscore criticalsuccessindex csi"),
        _share("precision", "Precision", "share of the predicted volume that lies in the reference",
               "taha2015", "ppv positivepredictivevalue prec prcison"),
        _share("recall", "Recall", "share of the reference volume that was predicted", "taha2015",
               "sensitivity tpr truepositiverate hitrate sens rec snsvty"),
        _share("specificity", "Specificity",
               "share of the voxels outside the reference that were not predicted", "taha2015",
               "tnr truenegativerate selectivity spec spcfty"),
        _share("negative_predictive_value", "Negative predictive value",
               "share of the voxels not predicted that lie outside the reference", "maierhein2024",
               "npv"),
        _share("false_positive_rate", "False-positive rate",
               "share of what is outside the reference that was predicted", "taha2015",
               "fpr fallout falsealarmrate", "lower"),
        _share("false_negative_rate", "False-negative rate",
               "share of the reference that was not predicted", "taha2015", "fnr missrate", "lower"),
        _share("false_discovery_rate", "False-discovery rate",
               "share of the prediction that lies outside the reference", "maierhein2024", "fdr",
               "lower"),
        _share("false_omission_rate", "False-omission rate",
               "share of the voxels not predicted that lie in the reference", "maierhein2024", "",
               "lower"),
        _share("volume_overlap_error", "Volumetric overlap error",
               "1 minus the overlap over the union", "heimann2009",
               "voe volumetricoverlaperror overlaperror jaccarddistance", "lower"),
        _share("f1", "F1", "harmonic mean of precision and recall", "maierhein2024",
               "f1score fmeasure fmeasr"),
        _share("accuracy", "Accuracy", "share of all voxels with the right label", "taha2015",
               "acc acurcy pixelaccuracy voxelaccuracy"),
        _share("balanced_accuracy", "Balanced accuracy", "mean of sensitivity and specificity",
               "maierhein2024"),
        _share("matthews", "Matthews correlation",
               "correlation of prediction and reference, voxel by voxel", "maierhein2024",
               "mcc matthewscorrelationcoefficient matthewscorrcoef", low=-1.0),
        _share("kappa", "Cohen's kappa", "agreement beyond that by chance", "taha2015",
               "cohenkappa cohenskappa", low=-1.0),
        _share("auroc", "Area under the ROC curve",
               "share of pairs of a voxel inside and one outside in which the former scores higher",
               "maierhein2024", "auc rocauc aucroc"),
        _share("average_precision", "Average precision",
               "area under the curve of precision over recall", "maierhein2024", "ap auprc prauc"),
        _share("cldice", "clDice",
               "harmonic mean of the shares of each mask's centre line that lie in the other mask",
               "shit2021", "cldsc centerlinedice centrelinedice"),
        _open("betti_error", "Betti-number error",
              "the differences of the numbers of components, tunnels and cavities between prediction "
              "and reference, added up", "shit2021", "bettinumbererror bettierror", digits=1),
        _share("boundary_iou", "Boundary IoU",
               "IoU of the bands that lie inside both masks along their surfaces", "cheng2021",
               "biou"),
        _share("volumetric_similarity", "Volumetric similarity",
               "1 minus the difference of the volumes over their sum, whatever the overlap",
               "taha2015"),
        _share("panoptic_quality", "Panoptic quality",
               "recognition quality times segmentation quality of instances", "kirillov2019", "pq"),
        _share("recognition_quality", "Recognition quality", "F1 of detected instances",
               "kirillov2019", "rq"),
        _share("segmentation_quality", "Segmentation quality",
               "mean overlap of the detected instances", "kirillov2019", "sq"),
        _share("lesionwise_dice", "Dice by lesion", "mean Dice of a case's lesions", "",
               "lesionwisescoredice"),
        _share("lesion_f1", "Lesion F1", "F1 of detected lesions", "maierhein2024",
               "lesionf1score lesionwisef1 lesionwisef1score"),
        _share("lesion_precision", "Lesion precision",
               "share of the predicted lesions that are lesions of the reference", "maierhein2024",
               "lesionppv lesionwiseprecision"),
        _share("lesion_recall", "Lesion recall", "share of the reference's lesions that were detected",
               "maierhein2024", "lesionsensitivity lesionwiserecall lesionwisesensitivity"),
        _open("lesion_false_positives", "False-positive lesions",
              "predicted lesions of a scan that are none of the reference", "maierhein2024",
              "falsepositivesperscan fpperscan", digits=1),
        # Distances
        _distance("hd", "Hausdorff distance",
                  "the largest distance from one surface to the other, in both directions",
                  "huttenlocher1993",
                  "hausdorff hausdorffdistance hausdorffdist hdrfdst maxhausdorff hd100 "
                  "symmetrichausdorffdistance haus"),
        _distance("hd95", "HD95",
                  "the 95th percentile of the distances from one surface to the other, the larger of "
                  "the two directions", "huttenlocher1993",
                  "hdrfdst95 95hd"),
        _distance("assd", "ASSD", "the average symmetric surface distance", "heimann2009",
                  "averagesymmetricsurfacedistance avgsymmetricsurfacedistance "
                  "avgsurfacedistancesymmetric meansymmetricsurfacedistance"),
        _distance("asd", "Average surface distance",
                  "the average distance between the surfaces, in one direction unless a program says "
                  "otherwise", "heimann2009",
                  "averagesurfacedistance avgsurfacedistance surfacedistance meansurfacedistance msd"),
        _distance("masd", "MASD", "the mean of the two directed average surface distances",
                  "maierhein2024", "meanaveragesurfacedistance"),
        _open("signed_surface_distance_mm", "Signed surface distance",
              "the mean distance of the predicted surface from the reference surface, positive where it "
              "lies outside the reference: the bias of the surface", "", "signedsurfacedistance", "zero",
              unit="mm", low=-math.inf, digits=2, quantity="length"),
        _distance("average_hausdorff_distance", "Average Hausdorff distance",
                  "the larger of the two directed average distances", "taha2015",
                  "ahd avgdist averagehausdorff avghausdorff avghausdorffdistance"),
        _distance("rms_surface_distance", "RMS surface distance",
                  "the root of the mean squared distance between the surfaces", "heimann2009",
                  "rmsd rmssd rmssurface"),
        _distance("centre_distance", "Distance of centres",
                  "the distance between the centres of mass", "",
                  "centerdistance centredistance cedi centroiddistance"),
        _distance("lesionwise_hd95", "HD95 by lesion", "mean HD95 of a case's lesions", "",
                  "lesionwisescorehd95"),
        _share("nsd", "NSD",
               "normalised surface distance: the share of both surfaces that lies within a tolerance "
               "of the other", "nikolov2021"),
        _share(NSD_BY_STRUCTURE, "NSD at each structure's tolerance",
               "normalised surface distance: the share of both surfaces that lies within the structure's "
               "own tolerance of the other", "nikolov2021"),
        # Volumes
        _open("relative_volume_error", "Relative volume error",
              "predicted minus reference volume, over the reference volume", "heimann2009",
              "rve rvd relativevolumedifference signedrelativevolumeerror "
              "signedrelativevolumedifference", "zero", low=-1.0),
        _open("ravd", "RAVD",
              "difference of the volumes over the reference volume, with its sign or without as the "
              "program has it", "heimann2009", "", "zero", low=-1.0),
        _open("absolute_relative_volume_error", "Absolute relative volume error",
              "the size of predicted minus reference volume, over the reference volume",
              "heimann2009",
              "rvae arve arvd relativeabsolutevolumeerror relativeabsolutevolumedifference "
              "absoluterelativevolumedifference absolutevolumedifferenceratio"),
        _open("volume_difference", "Volume difference", "predicted minus reference volume", "",
              "vd volumeerror signedvolumedifference volumediff", "zero", low=-math.inf,
              quantity="volume", digits=2),
        _open("absolute_volume_difference", "Absolute volume difference",
              "the size of predicted minus reference volume", "",
              "avd absolutevolumeerror absvolumedifference", digits=2,
              quantity="volume"),
        _open("false_positive_volume", "False-positive volume",
              "the predicted volume that touches no reference", "",
              "fpvolume fpvol fpv falseposvol falsepositivevol", digits=2, quantity="volume"),
        _open("false_negative_volume", "False-negative volume",
              "the reference volume that no prediction touches", "",
              "fnvolume fnvol fnv falsenegvol falsenegativevol", digits=2, quantity="volume"),
        # Probabilities and intensities
        _share("ece", "Expected calibration error",
               "the mean difference of a structure's probability and its frequency, over bins of "
               "probability weighted by their voxels", "guo2017",
               "expectedcalibrationerror calibrationerror", "lower"),
        _open("brier", "Brier score", "the mean squared difference of probability and reference",
              "brier1950", "brierscore"),
        _open("nll", "Negative log likelihood",
              "the mean negative logarithm of the reference's probability", "maierhein2024",
              "negativeloglikelihood logloss crossentropy"),
        _open("mae", "Mean absolute error", "the mean size of the differences", "",
              "meanabsoluteerror"),
        _open("mse", "Mean squared error", "the mean of the squared differences", "",
              "meansquarederror"),
        _open("rmse", "Root mean squared error", "the root of the mean of the squared differences",
              "", "rootmeansquarederror rootmeansquareerror"),
        # Ours
        _share("slice_dice", "Dice by slice",
               "mean over a case's slices in which the structure is in the reference or the "
               "prediction"),
        _open("slices_undefined", "Slices without Dice",
              "slices of a case with neither reference nor prediction, left out of the Dice by slice",
              unit="slices", digits=0),
        _share("side_swapped", "Side swapped",
               "share of a structure's predicted volume that lies in the reference's structure of the "
               "other side", direction="lower"),
        _share("false_positive_cases", "False positives",
               "share of a subject's cases without the structure in which it was predicted",
               direction="lower"),
        _open("predicted_volume_where_absent_ml", "Predicted volume where absent",
              "the predicted volume in a case whose reference lacks the structure", digits=2,
              unit="ml", quantity="volume"),
    )
}  # fmt: skip

_NSD = re.compile(
    r"(?:nsd|nsdice|ndsc|surfacedice|surfacedsc|surfacedicecoefficient|normali[sz]edsurfacedice|"
    r"normali[sz]edsurfacedistance|surfaceoverlap)"
    r"(?:at|tau|tol|tolerance|attolerance|threshold)*(\d+(?:\.\d+)?)?(mm)?"
)
_PERCENTILE = re.compile(
    r"(?:hd|hausdorff|hausdorffdistance|hausdorffdist)(\d\d)(?:th)?(?:percentile)?"
)


def nsd_name(tolerance_mm: float) -> str:
    """Name the NSD at a tolerance: `nsd_2mm` for 2 mm."""
    return f"nsd_{tolerance_mm:g}mm"


def nsd(tolerance_mm: float) -> Metric:
    """Return the normalised surface distance at a tolerance in mm."""
    return replace(
        METRICS["nsd"],
        name=nsd_name(tolerance_mm),
        title=f"NSD at {tolerance_mm:g} mm",
        definition=METRICS["nsd"].definition.replace("a tolerance", f"{tolerance_mm:g} mm"),
    )


def key(name: str) -> str:
    """Remove from a name the signs that programs write differently: case, spaces, underscores, brackets."""
    written = name.lower().replace("%", "percent")
    return re.sub(r"(?<!\d)\.|\.(?!\d)|[^a-z0-9.]", "", written)


_BY_KEY = {
    alias: metric for metric in METRICS.values() for alias in (*metric.aliases, key(metric.name))
}


_OWN: dict[str, Metric] = {}
"""Metrics of the study's plug-ins, by the key of their names."""


def add(metrics: Iterable[Metric]) -> None:
    """Make metrics of plug-ins known, in place of those of the same names that were added before.

    Raises
    ------
    InputError
        For a name that a metric of the registry has, or that programs give one.
    """
    metrics = list(metrics)
    for own in metrics:
        known = _registered(own.name)
        if known is not None:
            called = "" if known.name == own.name else f"as {known.name} "
            raise InputError(
                f"metric {own.name!r}: known {called}already ({known.definition}); give the metric of the plug-in "
                "another name"
            )
    _OWN.update({key(own.name): own for own in metrics})


def added() -> list[str]:
    """Return the names of the metrics of plug-ins."""
    return [own.name for own in _OWN.values()]


def find(name: str, directions: Mapping[str, str] = {}) -> Metric:
    """Find the metric of a name in a table, ours or another program's.

    Parameters
    ----------
    name
        A column of a table.
    directions
        `statistics.directions`, the direction of each unknown metric.

    Raises
    ------
    InputError
        For an unknown name, and for a direction that contradicts the registry.
    """
    return find_all([name], directions)[name]


def find_all(names: Iterable[str], directions: Mapping[str, str] = {}) -> dict[str, Metric]:
    """Find the metrics of many names, as `find` does; the error lists all unknown names."""
    check_directions(directions)
    given = {key(name): (name, direction) for name, direction in directions.items()}
    metrics: dict[str, Metric] = {}
    unknown = []
    for name in dict.fromkeys(names):
        metric = _known(name)
        if metric is None and key(name) in given:
            written, direction = given[key(name)]
            metric = _given(written, direction)
        if metric is None:
            unknown.append(name)
        else:
            metrics[name] = metric
    if unknown:
        raise InputError(_not_known(unknown))
    return metrics


def check_directions(directions: Mapping[str, str]) -> None:
    """Refuse a direction that is none, or that contradicts the registry, by InputError."""
    for name, direction in directions.items():
        if direction not in get_args(Direction):
            raise InputError(
                f"statistics.directions: {name!r}: found {direction!r}; expected higher, lower, or "
                "zero (nearest to 0 is best)"
            )
        metric = _known(name)
        if metric is not None and metric.direction != direction:
            raise InputError(
                f"statistics.directions: {name!r}: found {direction!r}, but it is known as "
                f"{metric.name} ({metric.definition}), of which {_BEST[metric.direction]}; leave it "
                "out, or give the metric another name where it is something else"
            )


_BEST = {
    "higher": "higher values are better",
    "lower": "lower values are better",
    "zero": "values nearest to 0 are best",
}


def assumed(name: str) -> str:
    """Describe the assumption about a name that leaves tolerance or unit open; empty without one."""
    metric, in_mm = _known(name), key(name).endswith(UNITS["length"]["mm"])
    if metric is None:
        return ""
    if metric.name == NSD_BY_STRUCTURE:  # ours alone, whose tolerances stand in the settings
        return ""
    if metric.name.startswith("nsd_") and not in_mm:
        return "its tolerance is taken to be in mm"
    if metric.quantity == "length" and metric.unit == "mm" and not in_mm:
        return "its values are taken to be in mm"
    if metric.quantity == "volume" and not metric.unit:
        return "its unit is not said, so that of all models is taken to be the same"
    return ""


def _known(name: str) -> Metric | None:
    return _registered(name) or _OWN.get(key(name))


def _registered(name: str) -> Metric | None:
    if name in METRICS:
        return METRICS[name]
    ours = re.fullmatch(r"nsd_([0-9.e+-]+)mm", name.strip().lower())
    tolerance = ours or _NSD.fullmatch(key(name))
    if tolerance:
        return _named_nsd(tolerance[1])
    written = key(name)
    if written in _BY_KEY:
        return _BY_KEY[written]
    for quantity, units in UNITS.items():
        known = {**units, "voxel": _VOXEL} if units else {}
        for unit, spellings in known.items():
            for spelling in spellings:
                metric = _of_stem(written.removesuffix(spelling))
                if written.endswith(spelling) and metric and metric.quantity == quantity:
                    return _in_unit(metric, unit)
    return _of_stem(written)


def _of_stem(stem: str) -> Metric | None:
    """Find the metric of a name without its unit; any percentile of the Hausdorff distance is one."""
    percentile = _PERCENTILE.fullmatch(stem)
    if stem in _BY_KEY or not percentile:
        return _BY_KEY.get(stem)
    if percentile[1] == "95":
        return METRICS["hd95_mm"]
    return replace(
        METRICS["hd95_mm"],
        name=f"hd{percentile[1]}_mm",
        title=f"HD{percentile[1]}",
        definition=METRICS["hd95_mm"].definition.replace("95th", f"{percentile[1]}th"),
        aliases=(),
    )


def _in_unit(metric: Metric, unit: str) -> Metric:
    if unit == metric.unit:
        return metric
    stem = metric.name.removesuffix(f"_{metric.unit}")
    return replace(metric, name=f"{stem}_{unit}", unit=unit, aliases=())


def _named_nsd(tolerance: str | None) -> Metric | None:
    """Return the NSD of a name in a table, whose tolerance is text; None where it is no size."""
    if tolerance is None:
        return METRICS["nsd"]
    try:
        size = float(tolerance)
    except ValueError:
        return None
    return nsd(size) if 0 < size < math.inf else None


def _given(name: str, direction: str) -> Metric:
    """Make a metric of which only the direction is known."""
    return Metric(name.strip(), name.strip(), "", direction, -math.inf, math.inf, 3, "")


def _not_known(names: list[str]) -> str:
    """Describe the remedy for unknown metrics."""
    shown = ", ".join(map(repr, names))
    setting = json.dumps({"directions": dict.fromkeys(names, "higher | lower | zero")})
    text = (
        f"{'metric' if len(names) == 1 else 'metrics'} {shown}: not known, so it cannot be told "
        "whether higher or lower values are better. Say which it is in statistics.directions, or "
        f"with --settings '{setting}' (zero: nearest to 0 is best); where a plug-in measures it, name that: "
        "metrics.plugins of a study, --plugin FILE of a command"
    )
    percent = [name for name in names if "%" in name or "percent" in name.lower()]
    if percent:
        text += (
            f". Shares are expected from 0 to 1: divide {', '.join(percent)} by 100 and name it so"
        )
    for name in names:
        near = difflib.get_close_matches(key(name), _BY_KEY, n=1, cutoff=0.8)
        if near and name not in percent:
            text += f". For {name!r}, did you mean {_BY_KEY[near[0]].name}?"
    return text


def number(value: float, digits: int = 3) -> str:
    """Write a number with fixed digits, a true minus sign, `∞` for infinite and `–` for undefined."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}".replace("-", "−")
