"""Which metrics suit a study: the questions of Metrics Reloaded (Maier-Hein et al. 2024), and what follows from the answers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segstudy.errors import InputError
from segstudy.metric import NSD_BY_STRUCTURE

SMALL_VOXELS = 5
"""Voxels across, below which a voxel more or less along the border changes Dice by much."""

_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
"""What a person writes for a length; Python's `1_0`, which is 10, is more likely 1.0 mistyped."""

Ask = Callable[[str], str]


@dataclass(frozen=True)
class Traits:
    """What the questions ask of a structure.

    Attributes
    ----------
    diameter_mm
        Across, where it is thinnest.
    voxel_mm
        The largest side of a voxel.
    border_mm
        How far apart two annotators draw its border.
    tubular
        Whether it is a tube or a tree of tubes.
    instances
        Whether a scan holds several that are to be found one by one.
    empties
        Whether there are cases without it.
    """

    diameter_mm: float
    voxel_mm: float
    border_mm: float
    tubular: bool = False
    instances: bool = False
    empties: bool = False

    @property
    def small(self) -> bool:
        """Tell whether it is small against the voxels."""
        return self.diameter_mm < SMALL_VOXELS * self.voxel_mm


@dataclass(frozen=True)
class Recommendation:
    """Settings that suit a study, by section, and what to be warned of."""

    sections: dict[str, dict[str, Any]]
    warnings: list[str]


def ask_all(structures: Sequence[str], ask: Ask) -> dict[str, Traits]:
    """Ask the questions, structure by structure; an answer that is none is asked for again.

    Parameters
    ----------
    structures
        Their names.
    ask
        Question -> answer, such as `input`.
    """
    voxel_mm = _number("Largest side of a voxel, in mm: ", ask)
    return {
        name: Traits(
            diameter_mm=_number(f"{name}: how many mm across, where it is thinnest? ", ask),
            voxel_mm=voxel_mm,
            border_mm=_number(f"{name}: how far apart do two annotators draw it, in mm? ", ask),
            tubular=_yes(f"{name}: is it a tube, or a tree of tubes? (y/n) ", ask),
            instances=_yes(f"{name}: several in a scan, to be found one by one? (y/n) ", ask),
            empties=_yes(f"{name}: are there cases without it? (y/n) ", ask),
        )
        for name in structures
    }


def recommend(traits: Mapping[str, Traits]) -> Recommendation:
    """Return the settings that suit structures, each metric with its reason, and the warnings."""
    small, tubes, lesions, empties = (
        [name for name, one in traits.items() if getattr(one, trait)]
        for trait in ("small", "tubular", "instances", "empties")
    )
    tolerances = {name: max(one.border_mm, one.voxel_mm) for name, one in traits.items()}
    reasons = {
        "dice": f"comparable with other work{f', but not to be read alone for {_listed(small)}' if small else ''}",
        NSD_BY_STRUCTURE: "the share of the border within what annotators differ by: "
        + ", ".join(f"{name} {tolerance:g} mm" for name, tolerance in tolerances.items()),
        "hd95_mm": "errors far from the border, which overlap hardly shows",
    }
    if small:
        reasons["masd_mm"] = (
            f"{_listed(small)}: less than {SMALL_VOXELS} voxels across, where a voxel along the border changes Dice by much"
        )
    if tubes:
        reasons["cldice"] = f"{_listed(tubes)}: tubes, of which a lost branch hardly changes Dice"
        reasons["betti_error"] = f"{_listed(tubes)}: tubes, whose connections matter"
    if lesions:
        reasons["lesion_f1"] = f"{_listed(lesions)}: several in a scan, large ones hide small ones"
        reasons["panoptic_quality"] = f"{_listed(lesions)}: finding and outlining in one"
    metrics: dict[str, Any] = {"nsd_tolerance_of": tolerances}
    extra = [name for name in ("masd_mm", "cldice", "betti_error") if name in reasons]
    if extra:
        metrics["extra"] = extra
    if lesions:
        metrics["lesions"] = {"preset": "panoptica", "structures": lesions}
    if empties:
        reasons["false_positive_cases"] = (
            f"{_listed(empties)}: not in all cases, so that false positives are told apart"
        )
    compared = [name for name in reasons if name != "false_positive_cases"]
    sections = {
        "metrics": metrics | {"reasons": reasons},
        "statistics": {"metrics": compared},
        "publish": {"metrics": compared},
    }
    return Recommendation(sections, warnings(traits, compared))


def with_answers(there: Mapping[str, Any], answered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `metrics` of a study file with what the answers ask for.

    What earlier answers asked for, as `reasons` tells, goes; a person's own metrics and lesions stay.

    Parameters
    ----------
    there
        The section as it stands.
    answered
        That of `recommend`.
    """
    earlier = there.get("reasons") or {}
    section = {**there, **answered}
    own = [name for name in there.get("extra") or () if name not in earlier]
    section["extra"] = list(dict.fromkeys([*own, *answered.get("extra", ())]))
    if not section["extra"]:
        del section["extra"]
    if "lesions" not in answered and "lesion_f1" in earlier:
        section.pop("lesions", None)
    return section


def warnings(traits: Mapping[str, Traits], compared: Sequence[str]) -> list[str]:
    """Return what to be warned of: Dice alone for a small structure, and a tolerance below the voxel size."""
    said = []
    for name, one in traits.items():
        if one.small and not set(compared) - OVERLAP:
            said.append(
                f"{name}: {one.diameter_mm:g} mm are {one.diameter_mm / one.voxel_mm:.2g} voxels: overlap alone "
                "says little of it; compare a distance or an NSD too"
            )
        if one.border_mm < one.voxel_mm:
            said.append(
                f"{name}: annotators differ by {one.border_mm:g} mm, less than a voxel ({one.voxel_mm:g} mm): the "
                "tolerance is the voxel's side, since no prediction on this grid is nearer"
            )
    return said


OVERLAP = {"dice", "iou", "precision", "recall", "volumetric_similarity", "slice_dice"}
"""Metrics that a voxel along the border of a small structure changes by much."""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _number(question: str, ask: Ask) -> float:
    while True:
        answer = ask(question).strip().replace(",", ".")
        value = float(answer) if _NUMBER.fullmatch(answer) else 0.0
        if 0 < value < float("inf"):
            return value
        question = f"found {answer!r}; expected a number above 0, in mm: "


def _yes(question: str, ask: Ask) -> bool:
    while True:
        answer = ask(question).strip().lower()
        if answer in ("y", "yes", "n", "no", ""):
            return answer.startswith("y")
        question = f"found {answer!r}; expected y or n: "


def from_terminal(question: str) -> str:
    """Ask a person; raise InputError where nobody answers."""
    try:
        return input(question)
    except EOFError:
        raise InputError(
            f"--metrics: no answer to {question.strip()!r}; answer at the terminal, or by a file: < answers.txt, a line "
            "an answer"
        ) from None
