"""The guard against leaks: nothing is tested on a case that it was trained on."""

from collections.abc import Iterable, Mapping
from typing import Any

from segstudy.cases import anonymous_name
from segstudy.errors import InputError


def refuse(
    seen: Mapping[str, Any], fold: int, dataset: str, tested: Iterable[str], option: str
) -> None:
    """Refuse what was trained for another fold, or saw a case that it is tested on.

    Parameters
    ----------
    seen
        `fold`, and `training` and `validation`: cases as `dataset/case`, or `anonymous` ones' digests.
    fold
        The fold that is tested.
    dataset
        Its dataset.
    tested
        Names of its cases.
    option
        The option that names what was trained, for the message.

    Raises
    ------
    InputError
        With the fold or the case.
    """
    if seen["fold"] != fold:
        raise InputError(
            f"{option}: trained for fold {seen['fold']}, but --fold is {fold}: cases that the "
            "network was trained on would be tested; give the weights of that fold"
        )
    known = {*seen["training"], *seen["validation"]}
    called = anonymous_name if seen.get("anonymous") else str
    leaked = sorted(
        name for name in {f"{dataset}/{case}" for case in tested} if called(name) in known
    )
    if leaked:
        raise InputError(
            f"--splits: fold {fold} tests {leaked[0]}, which the weights were trained on "
            f"({len(leaked)} such cases); train again with these splits"
        )
