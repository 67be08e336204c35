"""Early stopping: when the validation of a training has been flat for long enough."""

import math
from collections.abc import Mapping, Sequence


def epochs_without_gain(history: Sequence[Mapping[str, float]]) -> int:
    """Return the epochs from the validation with the best mean Dice to the last one.

    Parameters
    ----------
    history
        A row an epoch, with `epoch` and `validation_dice_mean`, which is NaN where nothing was validated.

    Returns
    -------
    int
        0 where nothing was validated at all; of equal Dice, the first is the best.
    """
    scores = {
        row["epoch"]: row["validation_dice_mean"]
        for row in history
        if not math.isnan(row["validation_dice_mean"])
    }
    if not scores:
        return 0
    return int(max(scores) - max(scores, key=scores.__getitem__))
