"""The learning rate as a function of the step alone, so that resuming needs no state of it."""

import math

from segstudy.study import Schedule


def factor(schedule: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the factor of the peak learning rate at a step (from 0) of `steps` in all.

    Linear warm-up over the first `warmup_epochs`, the last of whose steps reaches 1; then decay
    towards 0, which is never quite reached: each of the steps teaches something.
    """
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule.name == "poly":
        return (1 - done) ** 0.9
    if schedule.name == "linear":
        return 1 - done
    return 1.0
