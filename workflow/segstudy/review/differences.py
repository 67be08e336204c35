"""How much a corrected label differs from the one that it takes the place of."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def changed_voxels(
    old: np.ndarray, new: np.ndarray, structures: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Count the voxels that a correction gave to each structure and took from it.

    Parameters
    ----------
    old, new
        Label maps of one grid (i, j, k).
    structures
        Structure -> value.

    Returns
    -------
    dict
        Structure -> `old`, `new`: its voxels before and after; `added`, `removed`: those that it has
        only after, only before. Structures that did not change are left out.
    """
    found = {}
    for name, value in structures.items():
        before, after = old == value, new == value
        added, removed = np.count_nonzero(after & ~before), np.count_nonzero(before & ~after)
        if added or removed:
            counts = {"old": before.sum(), "new": after.sum(), "added": added, "removed": removed}
            found[name] = {key: int(number) for key, number in counts.items()}
    return found


def in_words(changed: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `heart +12 -340 voxels, aorta ...`; `no structure` where none changed."""
    told = [f"{name} +{one['added']} -{one['removed']}" for name, one in changed.items()]
    return f"{', '.join(told)} voxels" if told else "no structure"
