"""The cases that weights have seen, known by the checksums of their images: none of them may be tested."""

from collections.abc import Iterable, Mapping
from typing import Any

from segstudy.cases import ALL, Case
from segstudy.errors import InputError


def checksums(dataset: str, cases: Iterable[Case]) -> dict[str, str]:
    """Return `dataset/case` -> the checksum of its image, as far as that is known."""
    return {f"{dataset}/{case.case}": case.checksum for case in cases if case.checksum}


def of_several_folds(provenances: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether networks together have seen more cases than those of one fold: of several folds, or trained on all cases."""
    folds = {str(one.get("fold")) for one in provenances}
    return len(folds) > 1 or str(ALL) in folds


def refuse_seen(seen: Mapping[str, str], tested: Mapping[str, str], where: str) -> None:
    """Refuse weights that were trained on an image that is tested, whatever it was called then.

    Parameters
    ----------
    seen
        Checksum of an image -> the case's name where the weights were trained.
    tested
        Each tested case -> the checksum of its image.
    where
        The weights, for the message.

    Raises
    ------
    InputError
        With the first such case.
    """
    leaked = sorted(name for name, checksum in tested.items() if checksum in seen)
    if leaked:
        known = seen[tested[leaked[0]]]
        raise InputError(
            f"{where}: was trained on the image of {leaked[0]} (there {known}), which is tested ({len(leaked)} such "
            "cases): what a model has seen is no test of it; name other weights, or take these cases out of the tests"
        )
