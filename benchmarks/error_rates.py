"""Does the rule that picks the tests keep its level, and what does it find?

Null studies: two models that are equally good measure n cases; case difficulty is shared, errors are
drawn alike, so paired differences are symmetric about 0 and every rejection is false. The functions
of the statistics stage decide, as in a study. Power: the same with one model better by a given
number of SDs of the differences. Last, what the rule of the reference study (Mann-Whitney U on
paired cases) does on the same studies.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable

import numpy as np

from segstudy.statistics import paired
from segstudy.statistics.comparisons import rule
from segstudy.study import Statistics

SETTINGS = Statistics()
LOW, HIGH = 0.04, 0.06
SIZES = (10, 20, 40, 79)
POWER_AT = 79
EFFECT = 0.32
"""Better by this many SDs of the paired differences: what a paired t test finds in 4 of 5 studies of 79."""

Errors = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

SHAPES: dict[str, Errors] = {
    "normal": lambda random, size: random.normal(size=size),
    "heavy-tailed (t, 3 df)": lambda random, size: random.standard_t(3, size),
    "skewed (log-normal)": lambda random, size: random.lognormal(0, 1, size),
    "failures (1 in 10 far off)": lambda random, size: (
        random.normal(size=size) + 8 * (random.random(size) < 0.1)
    ),
    "bounded (beta, as Dice)": lambda random, size: -random.beta(2, 12, size),
}
"""Errors of a model on a case (study, case)."""


def studies(
    shape: str, count: int, cases: int, effect: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Values of the models A and B, (study, case). effect: of A, in SDs of the differences."""
    random = np.random.default_rng([2026, list(SHAPES).index(shape), cases, int(1000 * effect)])
    draw = SHAPES[shape]
    difficulty = random.normal(0, 2, (count, cases))
    a, b = (difficulty + draw(random, (count, cases)) for _ in range(2))
    spread = (draw(random, (1, 200_000)) - draw(random, (1, 200_000))).std()
    return a + effect * spread, b


def rejected(
    values: tuple[np.ndarray, np.ndarray], settings: Statistics = SETTINGS
) -> dict[str, float]:
    """Share of the studies in which each test, and the rule that picks one, has p < alpha."""
    found = {name: [] for name in ("rule", "paired_t", "wilcoxon", "mannwhitneyu")}
    for a, b in zip(*values, strict=True):
        difference = paired.differences(a, b)
        tests = {
            "paired_t": paired.paired_t(difference),
            "wilcoxon": paired.wilcoxon(difference),
            "mannwhitneyu": paired.mannwhitneyu(a, b),
        }
        chosen, _ = rule(difference, paired.shapiro(difference), settings)
        for name, test in tests.items() | {("rule", tests[chosen])}:
            found[name].append(test.p < settings.alpha)
    return {name: float(np.mean(hits)) for name, hits in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 studies of two sizes: a smoke run")
    parser.add_argument("--studies", type=int, default=2000, help="studies a setting")
    options = parser.parse_args()
    count, sizes = (40, (10, 20)) if options.quick else (options.studies, SIZES)
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    alpha = SETTINGS.alpha
    print(
        f"{count} studies a setting, alpha = {alpha:g}. Share rejected though the models are equal:"
    )
    print("\n| errors | n | rule (default) | paired t | Wilcoxon | Mann-Whitney U |")
    print("|---|---|---|---|---|---|")
    levels: dict[str, list[float]] = {}
    for shape in SHAPES:
        for cases in sizes:
            share = rejected(studies(shape, count, cases))
            levels.setdefault(shape, []).append(share["rule"])
            print(f"| {shape} | {cases} | {_row(share)} |")
    at = 20 if options.quick else POWER_AT
    print(f"\nShare rejected where A is better by {EFFECT:g} SD of the differences, n = {at}:")
    print("\n| errors | n | rule (default) | paired t | Wilcoxon | Mann-Whitney U |")
    print("|---|---|---|---|---|---|")
    power = {}
    for shape in SHAPES:
        power[shape] = rejected(studies(shape, count, at, EFFECT))
        print(f"| {shape} | {at} | {_row(power[shape])} |")
    print(f"\n{time.perf_counter() - started:.0f} s\n")
    return 0 if options.quick or all([*targets(levels, sizes, power)]) else 1


def _row(share: dict[str, float]) -> str:
    return " | ".join(
        f"{share[name]:.3f}" for name in ("rule", "paired_t", "wilcoxon", "mannwhitneyu")
    )


def targets(
    levels: dict[str, list[float]], sizes: Iterable[int], power: dict[str, dict[str, float]]
) -> Iterable[bool]:
    """Prints a line a target and says whether it was reached."""
    for shape, shares in levels.items():
        for cases, share in zip(sizes, shares, strict=True):
            reached = LOW <= share <= HIGH
            print(
                f"target type I error, {shape}, n = {cases}: {share:.4f} "
                f"(asked {LOW:g} to {HIGH:g}) {'ok' if reached else 'short'}"
            )
            yield reached
    for shape, share in power.items():
        reached = share["rule"] >= share["mannwhitneyu"]
        print(
            f"target power of the rule, {shape}: {share['rule']:.3f} (asked at least that of "
            f"Mann-Whitney U, {share['mannwhitneyu']:.3f}) {'ok' if reached else 'short'}"
        )
        yield reached


if __name__ == "__main__":
    sys.exit(main())
