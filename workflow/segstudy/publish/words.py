"""How names of the tables are written for a reader: metrics with unit, direction and definition."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from segstudy.study import Study


@dataclass(frozen=True)
class Metric:
    """A metric as a reader meets it.

    name: as in the tables. better: `higher`, `lower`, or `zero` (nearest to 0).
    low, high: where values can lie; None is open. source: key of `citations.REFERENCES`.
    """

    name: str
    title: str
    unit: str
    better: str
    low: float | None
    high: float | None
    digits: int
    definition: str
    source: str = ""

    @property
    def axis(self) -> str:
        """Title with the unit, for an axis or a table's head."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "zero": "→ 0"}[self.better]

    def cost(self, value: float) -> float:
        """The lower, the better; undefined is worst of all."""
        if math.isnan(value):
            return math.inf
        return {"higher": -value, "lower": value, "zero": abs(value)}[self.better]

    def text(self, value: float) -> str:
        """The value with the metric's usual digits; `∞` and `–` for infinite and undefined."""
        return number(value, self.digits)


_METRICS = {
    metric.name: metric
    for metric in (
        Metric("dice", "Dice", "", "higher", 0, 1, 3,
               "twice the overlap over the sum of both volumes", "dice1945"),
        Metric("iou", "IoU", "", "higher", 0, 1, 3,
               "the overlap over the union of both volumes (Jaccard index)", "jaccard1912"),
        Metric("precision", "Precision", "", "higher", 0, 1, 3,
               "share of the predicted volume that lies in the reference"),
        Metric("recall", "Recall", "", "higher", 0, 1, 3,
               "share of the reference volume that was predicted"),
        Metric("slice_dice", "Dice by slice", "", "higher", 0, 1, 3,
               "mean over a case's slices in which the structure is in the reference or the prediction"),
        Metric("slices_undefined", "Slices without Dice", "slices", "lower", 0, None, 0,
               "slices of a case with neither reference nor prediction, left out of the Dice by slice"),
        Metric("relative_volume_error", "Relative volume error", "", "zero", -1, None, 3,
               "predicted minus reference volume, over the reference volume"),
        Metric("hd_mm", "Hausdorff distance", "mm", "lower", 0, None, 2,
               "the largest distance from one surface to the other, in both directions",
               "huttenlocher1993"),
        Metric("hd95_mm", "HD95", "mm", "lower", 0, None, 2,
               "the 95th percentile of the distances from one surface to the other, the larger of "
               "the two directions", "huttenlocher1993"),
        Metric("assd_mm", "ASSD", "mm", "lower", 0, None, 2,
               "the average symmetric surface distance", "heimann2009"),
        Metric("side_swapped", "Side swapped", "", "lower", 0, 1, 3,
               "share of a structure's predicted volume that lies in the reference's structure of the "
               "other side"),
    )
}  # fmt: skip


def metric(name: str) -> Metric:
    """What a metric of the tables means; a name not known here stands for itself."""
    if name in _METRICS:
        return _METRICS[name]
    tolerance = re.fullmatch(r"nsd_([0-9.e+-]+)mm", name)
    if tolerance:
        return Metric(
            name, f"NSD at {tolerance[1]} mm", "", "higher", 0, 1, 3,
            f"normalised surface distance: the share of both surfaces that lies within "
            f"{tolerance[1]} mm of the other", "nikolov2021",
        )  # fmt: skip
    unit = "mm" if name.endswith("_mm") else ""
    title = plain(name.removesuffix("_mm"))
    better = "lower" if unit else "higher"
    return Metric(name, title, unit, better, None, None, 3, "")


def expand(names: Sequence[str], study: Study) -> list[str]:
    """Metric names as in the tables: `nsd` becomes one name a tolerance of the study."""
    found = []
    for name in names:
        if name == "nsd":
            found += [f"nsd_{tolerance:g}mm" for tolerance in study.metrics.nsd_tolerance_mm]
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def regions(study: Study) -> list[str]:
    """What is measured: the structures, then the merged groups."""
    return [*study.structures, *study.metrics.groups]


def plain(name: str) -> str:
    """A name of the study file as words: `left_hippocampus` gives `Left hippocampus`."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def number(value: float, digits: int = 3) -> str:
    """A number with fixed digits, a true minus sign, `∞` for infinite and `–` for undefined."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}".replace("-", "−")


def p_value(value: float) -> str:
    """A p value as journals print it: three digits, and `< 0.001` below."""
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 case`, `2 cases`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def listing(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
