"""Left and right: the axes of a RAS array, and names of structures such as `kidney_left` or `Right-Hippocampus`."""

import re
from collections.abc import Iterable, Sequence

RAS_AXES = {"right_left": 0, "back_front": 1, "foot_head": 2}
"""The axis of a RAS array along which a flip or a mirror image runs."""

OPPOSITE = {
    "left": "right", "lt": "rt", "lh": "rh", "l": "r", "sin": "dex", "sinister": "dexter"
}  # fmt: skip
OPPOSITE |= {right: left for left, right in OPPOSITE.items()}

# Words of a name: `LeftLung`, `left lung`, `LUNG_L`; digits stay with the letters before them.
_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")


def other_side(name: str) -> str | None:
    """Exchange left and right in a name; None for a name without a side.

    A single letter counts as first or last word among several (`kidney_l`), not alone (`L`).
    """
    words = list(_WORD.finditer(name))
    for number, match in enumerate(words):
        word = match.group()
        at_an_end = len(words) > 1 and number in (0, len(words) - 1)
        if word.lower() in OPPOSITE and (len(word) > 1 or at_an_end):
            opposite = OPPOSITE[word.lower()]
            opposite = opposite.upper() if word.isupper() else opposite
            opposite = opposite.capitalize() if word.istitle() and len(word) > 1 else opposite
            return name[: match.start()] + opposite + name[match.end() :]
    return None


def likely_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pair names that differ by their side alone, in the order of the first of each."""
    names = list(names)
    pairs: list[tuple[str, str]] = []
    for name in names:
        other = other_side(name)
        if other in names and all(name not in pair for pair in pairs):
            pairs.append((name, other))
    return pairs


def class_pairs(
    structures: Sequence[str], pairs: Iterable[tuple[str, str]]
) -> list[tuple[int, int]]:
    """Return pairs of structures as classes of the network, class 0 being the background."""
    number = {name: index for index, name in enumerate(structures, 1)}
    return [(number[left], number[right]) for left, right in pairs]
