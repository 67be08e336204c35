"""Do the tests keep their level, and do their intervals cover, when subjects have several scans?

Null studies: two models that are equally good measure the scans of n subjects. Errors are drawn alike
for both, with a part that all scans of a subject share (`ICC`: its share of the differences' variance).
The functions of the statistics stage decide, as in a study. Beside them stand the t test that takes
each scan as a subject of its own, and that of subjects' means. Then what a family of 24 tests does,
adjusted by max-T and by Holm's method, without and with a difference; and two sites of unequal size
and spread; and subgroups of subjects: the level of their test, the coverage of the intervals between two, and any false one of all
columns, models, structures and metrics by Holm's method. Every figure has its Monte-Carlo interval (95 %, Clopper and Pearson), by which it is judged:
of a hundred exact figures some lie outside any limit by chance.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np

from segstudy.level import fewest_subjects
from segstudy.statistics import hypothesis_tests, multiple_testing
from segstudy.statistics.intervals import share_interval, significant
from segstudy.statistics.omnibus import Between, Within
from segstudy.statistics.relabel import relabel
from segstudy.statistics.swap import signs, swap

ALPHA, SEED = 0.05, 1
MOST, LEAST, LEAST_FROM = 0.06, 0.04, 7
COVERAGE, COVERAGE_FROM = (0.93, 0.97), 10
SUBJECTS = (5, 6, 7, 10, 20, 40)
SCANS = {"1": (1,), "2": (2,), "4": (4,), "1-6": (1, 2, 6, 1, 3)}
"""Scans of a subject, in turn."""
CORRELATIONS = (0.3, 0.8)
TESTS, OF_EACH_OTHER = 24, 0.6
MARGIN_SD, VERDICTS_FROM = 0.5, 20
"""Margin of equivalence in SD of the differences; subjects from which verdicts are asked to keep their level."""

Draw = Callable[[np.random.Generator, np.ndarray, float], np.ndarray]


def normal(random: np.random.Generator, subject: np.ndarray, icc: float) -> np.ndarray:
    """Errors of a model (scan,), of which scans of a subject share a part."""
    shared = random.normal(size=subject.max() + 1)[subject]
    return np.sqrt(icc) * shared + np.sqrt(1 - icc) * random.normal(size=len(subject))


def bounded(random: np.random.Generator, subject: np.ndarray, icc: float) -> np.ndarray:
    """As Dice: between 0 and 1, near 1, with a tail."""
    return 1 / (1 + np.exp(-(2 + 0.8 * normal(random, subject, icc))))


def infinite(random: np.random.Generator, subject: np.ndarray, icc: float) -> np.ndarray:
    """As HD95: positive, and infinite in one scan of twelve."""
    found = np.exp(normal(random, subject, icc))
    return np.where(random.random(len(subject)) < 1 / 12, np.inf, found)


def skewed(random: np.random.Generator, subject: np.ndarray, icc: float) -> np.ndarray:
    """Of mean 0, but not exchangeable with its opposite: outside what the test is exact for."""
    shared = random.exponential(size=subject.max() + 1)[subject] - 1
    return np.sqrt(icc) * shared + np.sqrt(1 - icc) * (random.exponential(size=len(subject)) - 1)


SHAPES: dict[str, Draw] = {draw.__name__: draw for draw in (normal, bounded, infinite, skewed)}


def subjects_of(number: int, scans: str) -> np.ndarray:
    """The subject of every scan, int (scan,)."""
    return np.repeat(np.arange(number), np.resize(SCANS[scans], number))


def differences(
    shape: str, random: np.random.Generator, subject: np.ndarray, icc: float
) -> np.ndarray:
    """A - B of two models that are equally good (scan,)."""
    draw = SHAPES[shape]
    a = draw(random, subject, icc)
    if shape == "skewed":
        return a
    return hypothesis_tests.differences(a, draw(random, subject, icc))


def one_setting(setting: tuple) -> dict[str, tuple[int, int]]:
    """Rejected, and of how many, by each test; `covered`, of the intervals."""
    shape, number, scans, icc, studies, intervals = setting
    key = [list(SHAPES).index(shape), number, list(SCANS).index(scans), int(100 * icc)]
    random = np.random.default_rng([2026, *key])
    subject = subjects_of(number, scans)
    found = dict.fromkeys(("swap", "t_of_subjects", "t_of_scans"), 0)
    covered = 0
    for study in range(studies):
        difference = differences(shape, random, subject, icc)
        test = swap(difference, subject, SEED)
        rejected = bool(significant(test.p, ALPHA))
        found["swap"] += rejected
        finite = np.where(np.isfinite(difference), difference, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            means = np.array([np.nanmean(finite[subject == one]) for one in range(number)])
        for name, sample in (("t_of_subjects", means), ("t_of_scans", finite)):
            p = hypothesis_tests.paired_t(sample[np.isfinite(sample)]).p
            found[name] += bool(significant(p, ALPHA))
        if study < intervals:
            low, high = test.interval(ALPHA)
            covered += low <= 0 <= high
    return {name: (hits, studies) for name, hits in found.items()} | {
        "covered": (covered, min(intervals, studies))
    }


def two_sites(setting: tuple) -> tuple[int, int]:
    """Rejected, of how many studies of two sites that are alike but for their size and spread."""
    shape, sizes, spread, studies = setting
    random = np.random.default_rng([2027, list(SHAPES).index(shape), *sizes, int(10 * spread)])
    hits = 0
    for _ in range(studies):
        a, b = (SHAPES[shape](random, np.arange(size), 0.5) for size in sizes)
        if shape == "normal":
            a = a * spread
        test = relabel(np.concatenate([a, b]), np.arange(sum(sizes)), sizes[0], SEED)
        hits += bool(significant(test.p, ALPHA))
    return hits, studies


def one_family(setting: tuple) -> dict[str, np.ndarray]:
    """Which tests of a family are rejected by each correction, (test,), in one study of n subjects.

    Half of the tests have a difference of `effect` SD.
    """
    number, effect, study = setting
    random = np.random.default_rng([2028, number, int(100 * effect), study])
    shared = random.normal(size=number)
    own = random.normal(size=(TESTS, number))
    samples = np.sqrt(OF_EACH_OTHER) * shared + np.sqrt(1 - OF_EACH_OTHER) * own
    samples[: TESTS // 2] += effect
    tests = [swap(sample, np.arange(number), SEED) for sample in samples]
    choices = signs(number, SEED)
    by_max_t = multiple_testing.max_t(tests, [choices] * TESTS, ALPHA)
    p = [test.p for test in tests]
    holm = multiple_testing.by_p(p, lambda at, level: (0, 0), "holm", ALPHA)
    return {
        "max_t": np.array(by_max_t.p) <= ALPHA,
        "holm": np.array(holm.p) <= ALPHA,
        "none": np.array(p) <= ALPHA,
        "held": np.array(
            [
                low <= (effect if at < TESTS // 2 else 0) <= high
                for at, (low, high) in enumerate(by_max_t.intervals)
            ]
        ),
    }


def one_verdict(setting: tuple) -> tuple[int, int, int]:
    """False "better" of equal models, false "equivalent" of models as far apart as the margin, and of how many."""
    shape, number, studies = setting
    random = np.random.default_rng([2029, list(SHAPES).index(shape), number])
    many = differences(shape, random, np.arange(100_000), 0.5)
    margin = MARGIN_SD * float(many.std())
    subject = np.arange(number)
    better = equivalent = 0
    for _ in range(studies):
        test = swap(differences(shape, random, subject, 0.5), subject, SEED)
        better += bool(significant(test.p, ALPHA))
        low, high = test.shifted(-margin).interval(2 * ALPHA)
        equivalent += -margin < low and high < margin
    return better, equivalent, studies


def one_grouping(setting: tuple) -> tuple[tuple[int, int], tuple[int, int]]:
    """Groups that are alike: rejected, of how many studies; and covered by the interval of the first two, of how many."""
    shape, sizes, scans, spread, studies, intervals = setting
    key = [list(SHAPES).index(shape), *sizes, list(SCANS).index(scans), int(10 * spread)]
    random = np.random.default_rng([2030, *key])
    number = sum(sizes)
    # Dealt, so that no group has all subjects with many scans.
    counts = np.resize(SCANS[scans], number)
    rejected = covered = 0
    for study in range(studies):
        subject = np.repeat(np.arange(number), random.permutation(counts))
        values = SHAPES[shape](random, subject, 0.5)
        values = np.where(subject < sizes[0], spread * values, values)
        rejected += bool(significant(Between(values, subject, sizes, SEED).p, ALPHA))
        of_two = subject < sizes[0] + sizes[1]
        if study >= intervals:
            continue
        low, high = relabel(values[of_two], subject[of_two], sizes[0], SEED).interval(ALPHA)
        covered += low <= 0 <= high
    return (rejected, studies), (covered, min(intervals, studies))


def one_within(setting: tuple) -> tuple[int, int]:
    """Rejected, of how many studies whose subjects have a scan in each of three groups that are alike."""
    shape, number, studies = setting
    random = np.random.default_rng([2031, list(SHAPES).index(shape), number])
    subject, hits = np.repeat(np.arange(number), 3), 0
    for _ in range(studies):
        values = SHAPES[shape](random, subject, 0.5).reshape(number, 3)
        hits += bool(significant(Within(values, SEED).p, ALPHA))
    return hits, studies


def one_study_of_subgroups(study: int) -> dict[str, int]:
    """Whether any test of a study without differences is a false one, by Holm's method and by none."""
    random = np.random.default_rng([2032, study])
    number = 30
    shared = random.normal(size=number)
    # Two models in two structures, whose subjects have a part in common; three columns.
    values = [bounded(random, np.arange(number), 0.5) + 0.1 * shared for _ in range(4)]
    p = []
    for sizes in ((15, 15), (10, 10, 10), (8, 22)):
        order = random.permutation(number)
        p += [Between(sample[order], np.arange(number), sizes, SEED).p for sample in values]
    holm = multiple_testing.by_p(p, lambda at, level: (0, 0), "holm", ALPHA)
    return {"holm": int(min(holm.p) <= ALPHA), "none": int(min(p) <= ALPHA)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few studies of few sizes: a smoke run"
    )
    parser.add_argument("--studies", type=int, default=2000, help="studies a setting")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["paired", "family", "sites", "verdicts", "subgroups"],
        help="which tables",
    )
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    studies, sizes = (20, (5, 7, 10)) if options.quick else (options.studies, SUBJECTS)
    started = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        parts = {
            "paired": lambda: paired_tables(pool, studies, sizes),
            "family": lambda: family_tables(
                pool, 8 if options.quick else max(studies // 5, 1), 10 if options.quick else 12
            ),
            "sites": lambda: site_tables(pool, studies, options.quick),
            "verdicts": lambda: verdict_tables(pool, studies, options.quick),
            "subgroups": lambda: subgroup_tables(pool, studies, options.quick),
        }
        reached = [one for name in options.parts for one in parts[name]()]
    print(f"\n{time.perf_counter() - started:.0f} s")
    return 0 if options.quick or all(reached) else 1


def paired_tables(pool, studies: int, sizes: tuple[int, ...]) -> Iterator[bool]:
    """Print level and coverage on paired samples; whether each target was reached."""
    print(
        f"{studies} studies a setting, alpha = {ALPHA:g}. Rejected though the models are equal:\n"
    )
    print(
        "| errors | subjects | scans | ICC | swap | t of subjects | scans as subjects | covered |"
    )
    print("|---|---|---|---|---|---|---|---|")
    # An interval of ranks at 20 subjects and more takes 0.2 s.
    settings = [
        (shape, number, scans, icc, studies, studies if number <= 13 else max(studies // 10, 1))
        for shape, number, scans, icc in product(SHAPES, sizes, SCANS, CORRELATIONS)
        if scans != "1" or icc == CORRELATIONS[0]
    ]
    lines = []
    for setting, found in zip(settings, pool.map(one_setting, settings), strict=True):
        shape, number, scans, icc, *_ = setting
        icc_text = "" if scans == "1" else f"{icc:g}"
        print(
            f"| {shape} | {number} | {scans} | {icc_text} | "
            + " | ".join(
                _share(*found[name]) for name in ("swap", "t_of_subjects", "t_of_scans", "covered")
            )
            + " |",
            flush=True,
        )
        if shape != "skewed":
            lines.append(
                (
                    f"{shape}, {number} subjects, {scans} scans, ICC {icc_text or 'none'}",
                    number,
                    found,
                )
            )
    print(
        "\nskewed: outside what the swaps are exact for (labels that can be exchanged); printed, not asked for.\n"
        f"Below {fewest_subjects(ALPHA)} subjects no p is as small as 0.05: cannot be told.\n"
    )
    for what, number, found in lines:
        least = LEAST if number >= LEAST_FROM else 0.0
        yield _target(f"type I error, {what}", *found["swap"], least, MOST)
    for what, number, found in lines:
        if number >= COVERAGE_FROM:
            yield _target(f"coverage, {what}", *found["covered"], *COVERAGE)


def family_tables(pool, studies: int, number: int) -> Iterator[bool]:
    """Print what corrections do to a family of correlated tests."""
    print(
        f"\n{TESTS} tests of {number} subjects, correlation {OF_EACH_OTHER:g}, {studies} studies:\n"
    )
    print("| half of them differ by | correction | any false one | power | all intervals hold |")
    print("|---|---|---|---|---|")
    false = {}
    for effect in (0.0, 0.8):
        settings = [(number, effect, study) for study in range(studies)]
        found = list(pool.map(one_family, settings, chunksize=4))
        nulls = slice(TESTS // 2 if effect else 0, None)
        for name in ("max_t", "holm", "none"):
            any_false = sum(bool(one[name][nulls].any()) for one in found)
            power = np.mean([one[name][: TESTS // 2].mean() for one in found]) if effect else np.nan
            held = sum(bool(one["held"].all()) for one in found)
            false[name, effect] = (any_false, studies), power
            print(
                f"| {effect:g} SD | {name} | {_share(any_false, studies)} | "
                f"{'' if np.isnan(power) else f'{power:.3f}'} | "
                f"{_share(held, studies) if name == 'max_t' else ''} |"
            )
    print()
    for effect in (0.0, 0.8):
        yield _target(
            f"any false one of a family, max-T, {effect:g} SD", *false["max_t", effect][0], 0, MOST
        )
    power, other = false["max_t", 0.8][1], false["holm", 0.8][1]
    reached = power >= other
    print(
        f"target power of max-T: {power:.3f} (asked at least Holm's, {other:.3f}) "
        f"{'ok' if reached else 'short'}"
    )
    yield bool(reached)


def site_tables(pool, studies: int, quick: bool) -> Iterator[bool]:
    """Print the level on two sites."""
    print(f"\nTwo sites, {studies} studies. Rejected though the model does equally well:\n")
    print("| values | subjects | spread of the first | relabel |")
    print("|---|---|---|---|")
    sizes = ((8, 8),) if quick else ((8, 8), (10, 20), (40, 15))
    settings = [
        (shape, size, spread, studies)
        for shape, size, spread in product(("normal", "bounded", "infinite"), sizes, (1.0, 2.0))
        if spread == 1.0 or shape == "normal"
    ]
    found = list(pool.map(two_sites, settings))
    for (shape, size, spread, _), counts in zip(settings, found, strict=True):
        print(f"| {shape} | {size[0]}, {size[1]} | {spread:g} | {_share(*counts)} |")
    print()
    for (shape, size, spread, _), counts in zip(settings, found, strict=True):
        # With unequal spreads the labels can't be exchanged; Welch's t keeps the level near.
        what = (
            f"type I error, two sites, {shape}, {size[0]} and {size[1]} subjects, spread {spread:g}"
        )
        if spread == 1.0:
            yield _target(what, *counts, LEAST, MOST)
        else:
            print(
                f"{what}: {_share(*counts)} (printed: outside what the permutations are exact for)"
            )


def verdict_tables(pool, studies: int, quick: bool) -> Iterator[bool]:
    """Print how often verdicts are false."""
    print(f"\nVerdicts, margin {MARGIN_SD:g} SD, {studies} studies. False ones:\n")
    print("| differences | subjects | better, of equal models | equivalent, at the margin |")
    print("|---|---|---|---|")
    sizes = (10, 20) if quick else (10, 20, 40, 80)
    settings = [
        (shape, number, studies)
        for shape, number in product(("normal", "bounded", "skewed"), sizes)
    ]
    found = list(pool.map(one_verdict, settings))
    for (shape, number, _), (better, equivalent, of) in zip(settings, found, strict=True):
        print(f"| {shape} | {number} | {_share(better, of)} | {_share(equivalent, of)} |")
    print("\nskewed: outside what the swaps are exact for; printed, not asked for.\n")
    for (shape, number, _), (better, equivalent, of) in zip(settings, found, strict=True):
        if shape != "skewed" and number >= VERDICTS_FROM:
            yield _target(f"false better, {shape}, {number} subjects", better, of, 0, ALPHA)
            yield _target(f"false equivalent, {shape}, {number} subjects", equivalent, of, 0, ALPHA)


def subgroup_tables(pool, studies: int, quick: bool) -> Iterator[bool]:
    """Print level and coverage of the tests of subgroups, and what Holm's method does to all of a study."""
    studies = studies if quick else max(studies // 4, 1)
    print(f"\nSubgroups, {studies} studies. Rejected though the groups are alike:\n")
    print("| values | subjects | scans | spread of the first | groups | interval of two covers |")
    print("|---|---|---|---|---|---|")
    sizes = ((5, 6),) if quick else ((8, 8), (6, 20), (10, 10, 10), (6, 12, 22))
    # An interval over random choices takes a second.
    intervals = studies if quick else max(studies // 8, 1)
    settings = [
        (shape, size, scans, 1.0, studies, intervals)
        for shape, size, scans in product(("normal", "bounded", "infinite"), sizes, ("1", "1-6"))
    ]
    settings += [("normal", size, "1", 2.0, studies, intervals) for size in sizes]
    found = list(pool.map(one_grouping, settings))
    for (shape, size, scans, spread, *_), (rejected, covered) in zip(settings, found, strict=True):
        print(
            f"| {shape} | {', '.join(map(str, size))} | {scans} | {spread:g} | {_share(*rejected)} | {_share(*covered)} |"
        )
    within = [
        (shape, 8 if quick else 12, 3 if quick else studies)
        for shape in ("normal", "bounded", "infinite")
    ]
    of_within = list(pool.map(one_within, within))
    for (shape, number, _), counts in zip(within, of_within, strict=True):
        print(f"| {shape} | {number}, each in 3 groups | 3 |  | {_share(*counts)} |  |")
    of_studies = list(pool.map(one_study_of_subgroups, range(2 if quick else max(studies // 2, 1))))
    any_false = {name: sum(one[name] for one in of_studies) for name in ("holm", "none")}
    print(
        "\nAny false one of 12 tests (3 columns x 2 models x 2 structures): "
        + ", ".join(f"{name} {_share(hits, len(of_studies))}" for name, hits in any_false.items())
        + "\n"
    )
    for (shape, size, scans, spread, *_), (rejected, covered) in zip(settings, found, strict=True):
        what = f"{shape}, {' and '.join(map(str, size))} subjects, {scans} scans"
        if spread == 1.0:
            yield _target(f"type I error, subgroups, {what}", *rejected, 0, MOST)
            yield _target(f"coverage, subgroups, {what}", *covered, COVERAGE[0], 1)
    for (shape, number, _), counts in zip(within, of_within, strict=True):
        yield _target(
            f"type I error, subgroups within, {shape}, {number} subjects", *counts, 0, MOST
        )
    yield _target(
        "any false one of the subgroups, Holm", any_false["holm"], len(of_studies), 0, MOST
    )


def _share(hits: int, number: int) -> str:
    low, high = share_interval(hits, number, 0.05)
    return f"{hits / number:.3f} [{low:.3f}, {high:.3f}]"


def _target(what: str, hits: int, number: int, least: float, most: float) -> bool:
    """Print a target; it is missed where the Monte-Carlo interval lies outside what was asked."""
    low, high = share_interval(hits, number, 0.05)
    reached = high >= least and low <= most
    print(
        f"target {what}: {_share(hits, number)} (asked {least:g} to {most:g}) "
        f"{'ok' if reached else 'short'}"
    )
    return reached


if __name__ == "__main__":
    sys.exit(main())
