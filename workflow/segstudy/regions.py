"""Composite regions, structures that are measured merged: the study's own, both sides of a pair, all foreground."""

import re
from collections.abc import Mapping, Sequence

Pairs = Sequence[tuple[str, str]]

FOREGROUND = "foreground"
"""The region of all structures, measured where a study has left and right ones."""


def measured_regions(
    regions: Mapping[str, tuple[str, ...]], pairs: Pairs, structures: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the regions that are measured: the study's own, then those of left and right.

    own: `metrics.composite_regions`, region -> its structures. pairs: the left and the right one of structures.
    """
    return {**regions, **merged_sides(pairs, list(structures), regions)}


def merged_sides(
    pairs: Pairs, structures: Sequence[str], groups: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return the regions that left and right structures bring along: each pair merged, and all foreground.

    A pair has the name that its structures have in common: left_hippocampus and right_hippocampus
    give hippocampus. Regions of the same members, or names that are taken, are left as they are.
    """
    if not pairs:
        return {}
    merged = {_common_name(*pair): pair for pair in pairs} | {FOREGROUND: tuple(structures)}
    there = [frozenset(members) for members in groups.values()]
    return {
        name if name not in (*structures, *groups) else f"{name}_merged": members
        for name, members in merged.items()
        if frozenset(members) not in there
    }


def _common_name(left: str, right: str) -> str:
    def without_side(name: str) -> str:
        words = re.split(r"[_\W]+", name)
        sides = ("left", "right", "l", "r", "lh", "rh")
        return "_".join(word for word in words if word and word.lower() not in sides)

    common = without_side(left)
    return common if common and common == without_side(right) else f"{left}_and_{right}"
