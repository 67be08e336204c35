"""Trained networks that predict together: what they must have in common."""

from collections.abc import Sequence

from segstudy.errors import InputError
from segstudy.networks.weights import Trained


def check_alike(members: Sequence[Trained], names: Sequence[str]) -> None:
    """Raise InputError for members that segment other structures than the first, or see other channels.

    names: where each is from, for the message.
    """
    first = members[0]
    for member, name in zip(members[1:], names[1:], strict=True):
        if set(member.structures) != set(first.structures):
            raise InputError(
                f"{name}: structures {', '.join(member.structures)}; {names[0]} has {', '.join(first.structures)}: expected "
                "the same in all members of an ensemble; leave one of them out"
            )
        if member.channels != first.channels:
            raise InputError(
                f"{name}: sees the channels {', '.join(member.channels)}; {names[0]} {', '.join(first.channels)}: expected "
                "the same, in the same order, in all members of an ensemble; leave one of them out"
            )
