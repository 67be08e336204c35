"""Names and numbers of the tables, written for a reader."""

import math
import re
from collections.abc import Sequence

from segstudy.metric import METRICS, NSD_BY_STRUCTURE, PREFERRED, Metric, find, nsd
from segstudy.study import Study


def chosen_metrics(names: Sequence[str], study: Study) -> list[Metric]:
    """Return the metrics that a setting names; `nsd` stands for all tolerances of the study.

    Parameters
    ----------
    names
        A setting, such as `publish.metrics`; `auto` stands for the metrics that are compared where
        nobody chose.
    study
        The study, which has the tolerances.
    """
    chosen: list[Metric] = []
    for name in PREFERRED if names == "auto" else names:
        if name == "nsd":
            chosen += map(nsd, study.metrics.nsd_tolerance_mm)
            if study.metrics.nsd_tolerance_of:
                chosen.append(METRICS[NSD_BY_STRUCTURE])
        else:
            chosen.append(find(name, study.statistics.directions))
    return list({chosen_metric.name: chosen_metric for chosen_metric in chosen}.values())


def regions(study: Study) -> list[str]:
    """List the measured structures, then the composite regions."""
    return [*study.structures, *study.metrics.composite_regions]


def plain(name: str) -> str:
    """Write a name of the study file as words: `left_hippocampus` gives `Left hippocampus`."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


_MARKUP = re.compile(
    r"""[\\`*$~^@\[&]
    | <(?=[^\s\d])              # a tag or an address; no `p < 0.001`
    | (?<![^\W_])_ | _(?![^\W_])  # emphasis; no `left_lung`""",
    re.VERBOSE,
)


def markdown(text: str) -> str:
    """Escape what Markdown, pandoc's too, would take for markup, a formula, a tag or a citation."""
    return _MARKUP.sub(r"\\\g<0>", text)


def p_value(value: float) -> str:
    """Write a p value as journals print it: three digits, and `< 0.001` below."""
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """Write a share in percent, to three digits: `33.3 %`."""
    return f"{share * 100:.3g} %"


def listing(words: Sequence[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
