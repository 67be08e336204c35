"""Structures that are measured merged: groups of the study, both sides of a pair, all foreground."""

import re

from segstudy.study.settings import Pairs

FOREGROUND = "foreground"
"""Group of all structures, measured where a study has left and right ones."""


def merged_sides(
    pairs: Pairs, structures: list[str], groups: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The groups that left and right structures bring along: each pair merged, and all foreground.

    A pair has the name that its structures have in common: left_hippocampus and right_hippocampus
    give hippocampus. Groups of the same members, or names that are taken, are left as they are.
    """
    if not pairs:
        return {}
    found = {_common_name(*pair): pair for pair in pairs} | {FOREGROUND: tuple(structures)}
    there = [frozenset(members) for members in groups.values()]
    return {
        name if name not in (*structures, *groups) else f"{name}_merged": members
        for name, members in found.items()
        if frozenset(members) not in there
    }


def _common_name(left: str, right: str) -> str:
    def without_side(name: str) -> str:
        words = re.split(r"[_\W]+", name)
        sides = ("left", "right", "l", "r", "lh", "rh")
        return "_".join(word for word in words if word and word.lower() not in sides)

    common = without_side(left)
    return common if common and common == without_side(right) else f"{left}_and_{right}"


def check_groups(groups: dict[str, tuple[str, ...]], structures: list[str]) -> None:
    """Raises ValueError for a group of unknown structures, or one named like a structure."""
    for name, members in groups.items():
        if name in structures:
            raise ValueError(f"metrics.groups.{name}: this is the name of a structure too")
        for member in members:
            if member not in structures:
                raise ValueError(
                    f"metrics.groups.{name}: {member!r} is none of the structures "
                    f"({', '.join(structures)})"
                )
