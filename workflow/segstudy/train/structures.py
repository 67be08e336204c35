"""Whether there is anything to learn: which structures the training cases hold."""

from collections.abc import Collection, Sequence

from segstudy.errors import InputError
from segstudy.log import log


def check_structures(
    held: Sequence[Collection[str]], structures: Sequence[str], fold: int | str
) -> None:
    """Say which structures no training case has.

    held: for each training case, the names of the structures in its label.
    Raises InputError where the cases have none at all.
    """
    missing = [name for name in structures if not any(name in names for names in held)]
    if held and len(missing) == len(structures):
        raise InputError(
            f"fold {fold}: none of the {len(held)} training cases has a voxel of {' or '.join(structures)}, "
            "so there is nothing to learn; see whether the values in the study file are those of "
            "the labels, or train on more cases"
        )
    if missing:
        log.warning(
            "fold %s: none of the %d training cases has a voxel of %s: it cannot be learned",
            fold,
            len(held),
            " or ".join(missing),
        )
