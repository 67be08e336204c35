"""What a level of significance asks of the number of subjects."""

import math


def fewest_subjects(alpha: float) -> int:
    """Return the fewest subjects at which a choice of signs can be rare enough: 6 for 0.05, where p is 0.03125 at best."""
    return math.ceil(1 - math.log2(alpha) - 1e-9)
