"""Comparisons of two models on the same subjects, and of a model on two datasets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError
from segstudy.level import fewest_subjects
from segstudy.log import log
from segstudy.statistics import hypothesis_tests, multiple_testing, rule
from segstudy.statistics.folds import corrected_t
from segstudy.statistics.intervals import NAN, significant
from segstudy.statistics.relabel import MeanRelabel, RankRelabel, groups, relabel
from segstudy.statistics.swap import (
    MeanSwap,
    RankSwap,
    signs,
    subject_means,
    swap,
)
from segstudy.statistics.values import chosen_metrics
from segstudy.statistics.variance import GROUP
from segstudy.study import Statistics
from segstudy.words import count

Test = MeanSwap | RankSwap | MeanRelabel | RankRelabel | rule.Classical


@dataclass(frozen=True)
class Labels:
    """The two sides of a comparison: two models on a dataset, or a model on two datasets."""

    dataset: str
    dataset_b: str
    structure: str
    metric: str
    model_a: str
    model_b: str

    @property
    def sides(self) -> tuple[tuple[str, str, str, str], tuple[str, str, str, str]]:
        """Return (dataset, model, structure, metric) of A and of B."""
        structure_and_metric = (self.structure, self.metric)
        return (self.dataset, self.model_a, *structure_and_metric), (
            self.dataset_b,
            self.model_b,
            *structure_and_metric,
        )


COLUMNS = (
    *(field.name for field in fields(Labels)),
    *("design", "n_subjects", "n_cases", "n_a", "n_b", "n_left_out", "n_infinite"),
    *("n_missing_a", "n_missing_b", "missing"),
    *("test", "estimate", "estimate_name", "ci_low", "ci_high", "statistic", "df", "p"),
    *("p_adjusted", "ci_low_adjusted", "ci_high_adjusted", "n_family", "significant", "verdict"),
    *("other_estimate", "other_ci_low", "other_ci_high", "other_p", "other_p_adjusted"),
    "other_verdict",
    *("mean_difference", "median_difference", "effect_size", "effect_name"),
    *("share_a_better", "share_tied", "shapiro_w", "shapiro_p"),
    *("t_statistic", "t_df", "p_paired_t", "wilcoxon_statistic", "p_wilcoxon"),
    *("mannwhitneyu_statistic", "p_mannwhitneyu", "welch_statistic", "welch_df", "p_welch"),
    *("folds", "folds_t", "folds_df", "p_folds", "seed_spread", "surface", "remark"),
)
"""Columns of `tests.csv`. Differences are A - B, in the unit of the metric; all tests are two-sided.

A is model_a on dataset, B is model_b on dataset_b; one of the two is the same for both. The unit is
the subject: scans of a subject are averaged. design: `paired`, or `unpaired` for two datasets, and
for models that share no scan.
n_subjects, n_cases: those in which both have a value; where unpaired, of both together. n_a, n_b:
subjects with a value. n_left_out: scans without such a pair, since the reference lacks the structure
or the metric is undefined. n_infinite: scans with an infinite difference, or value where unpaired.
n_missing_a, n_missing_b: scans without a prediction, taken as `missing` says.
estimate: what the test is of, and [ci_low, ci_high] is the interval of that test: 0 lies outside
where p <= alpha. p_adjusted is over the n_family tests of the dataset, or of the two datasets (those
in which p can be as small as alpha), and
[ci_low_adjusted, ci_high_adjusted] is the interval that belongs to it; an end at 0 is part of it where
p_adjusted > alpha. verdict: `a_better` or `b_better` where p_adjusted <= alpha, else `cannot_be_told`.
other_*: the same if missing predictions were taken the other way; empty where none is.
mean_difference leaves out infinite ones; shares are of subjects, or of all pairs of one of A and one of B.
folds_t: t of the folds' mean differences, corrected for shared training data (Nadeau and Bengio 2003).
seed_spread: the larger of both (see `variance`).
"""


@dataclass
class Comparison:
    """A comparison under way.

    Attributes
    ----------
    labels
        Its two sides.
    row
        Of `tests.csv`.
    test
        None where nothing can be tested.
    subjects
        Names of the subjects that the test counts, in its order; those of A first where
        unpaired.
    remarks
        On the test and its data.
    """

    labels: Labels
    row: dict
    test: Test | None
    subjects: tuple
    remarks: list[str]

    @property
    def lacking(self) -> int:
        """Count the missing predictions of either side."""
        return self.row["n_missing_a"] + self.row["n_missing_b"]


def compare(
    values: pd.DataFrame, settings: Statistics, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compare the models pair by pair, and datasets where the settings ask for it.

    p is adjusted over the family of all tests of a dataset: metric x structure x pair of models; or
    of a pair of datasets: metric x structure x model.

    Parameters
    ----------
    values
        Table of `completion.completed`.
    settings
        Settings of the statistics.
    spread
        Of `variance.variance_components`, for a remark where a difference is smaller than the
        seeds' spread.
    """
    return table(judged_families(values, settings, spread))


def table(families: Sequence[list[Comparison]]) -> pd.DataFrame:
    """Return `tests.csv` of judged families."""
    rows = [
        comparison.row | {"remark": "; ".join(comparison.remarks)}
        for family in families
        for comparison in family
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def judged_families(
    values: pd.DataFrame, settings: Statistics, spread: pd.DataFrame | None = None
) -> list[list[Comparison]]:
    """Compare as `compare` does; return the families of comparisons with their tests."""
    spreads = {} if spread is None else spread.set_index(GROUP)["seed_spread"].to_dict()
    metrics = chosen_metrics(values, settings.metrics) if len(values) else []
    of_metrics = values[values["metric"].isin(metrics)]
    cells = {
        key: group.set_index("case")
        for key, group in of_metrics.groupby(["dataset", "model", "structure", "metric"])
    }
    families = []
    for labels in _families(of_metrics, values, settings):
        family = [_compared(_sides(label, cells), label, "value", settings) for label in labels]
        for comparison in family:
            if not comparison.row["design"]:
                log.warning("%s", comparison.remarks[0])
            _add_spread(comparison, [spreads.get(side, NAN) for side in comparison.labels.sides])
        judged(family, settings)
        if any(comparison.lacking for comparison in family):
            with_other_values = [
                _compared(_sides(label, cells), label, "other_value", settings) for label in labels
            ]
            judged(with_other_values, settings)
            for comparison, other in zip(family, with_other_values, strict=True):
                _add_other(comparison, other, settings)
        families.append(family)
    return families


def _families(
    measured: pd.DataFrame, values: pd.DataFrame, settings: Statistics
) -> list[list[Labels]]:
    """List the families of comparisons; those of the primary endpoint are one apart."""
    families = list(_of_datasets(measured, values, settings))
    if not settings.primary:
        return families
    found = [labels for family in families for labels in family]
    if found and not any(is_primary(labels, settings) for labels in found):
        cells = dict.fromkeys(f"{labels.metric} of {labels.structure}" for labels in found)
        raise InputError(
            f"statistics.primary: {settings.primary.metric} of {settings.primary.structure} is not compared; "
            f"compared are {', '.join(cells)}"
        )
    return [
        [labels for labels in family if is_primary(labels, settings) == primary]
        for family in families
        for primary in (True, False)
    ]


def is_primary(labels: Labels, settings: Statistics) -> bool:
    """Tell whether a comparison is of the primary endpoint."""
    primary = settings.primary
    return bool(primary) and (labels.structure, labels.metric) == (
        primary.structure,
        primary.metric,
    )


def _of_datasets(
    measured: pd.DataFrame, values: pd.DataFrame, settings: Statistics
) -> Iterator[list[Labels]]:
    """Yield the comparisons of each dataset, and of each pair of datasets: metric x structure x pair of models."""
    models = list(dict.fromkeys(values["model"]))
    datasets = list(dict.fromkeys(values["dataset"]))
    sites = [_known("compare_datasets", pair, datasets) for pair in settings.compare_datasets]
    pairs = _pairs(models, settings)
    measured = measured[["dataset", "model", "structure", "metric"]].drop_duplicates()
    measured_cells = set(measured.itertuples(index=False, name=None))
    for dataset in datasets:
        keys = _keys(measured, dataset, dataset)
        yield [
            labels
            for key in keys
            for labels in (Labels(*key, model_a=a, model_b=b) for a, b in pairs)
            if measured_cells & set(labels.sides)
        ]
    for pair in sites:
        keys = _keys(measured, *pair)
        labels_of_pair = [Labels(*key, model, model) for key in keys for model in models]
        yield [labels for labels in labels_of_pair if measured_cells & set(labels.sides)]


def _sides(labels: Labels, cells: dict) -> list[pd.DataFrame | None]:
    return [cells.get(side) for side in labels.sides]


def _keys(measured: pd.DataFrame, dataset: str, other: str) -> list[tuple[str, str, str, str]]:
    """(dataset, other, structure, metric) of all that one of the datasets was measured in."""
    cells = measured[measured["dataset"].isin([dataset, other])]
    names = dict.fromkeys(zip(cells["structure"], cells["metric"], strict=True))
    return [(dataset, other, *name) for name in names]


def _pairs(models: Sequence[str], settings: Statistics) -> list[tuple[str, str]]:
    if settings.compare == "all":
        return list(combinations(models, 2))
    return [_known("compare", pair, models) for pair in settings.compare]


def _known(setting: str, pair: tuple[str, str], names: Sequence[str]) -> tuple[str, str]:
    for name in pair:
        if name not in names:
            raise InputError(
                f"statistics.{setting}: {name!r} was not measured; the table has {', '.join(names)}"
            )
    return pair


# --- one comparison -----------------------------------------------------------------------------


def _compared(
    sides: Sequence[pd.DataFrame | None], labels: Labels, column: str, settings: Statistics
) -> Comparison:
    """Compare two sides by themselves, p not yet adjusted.

    Parameters
    ----------
    sides
        The rows of A and of B by case.
    labels
        Of the comparison.
    column
        Of the values to compare.
    """
    side_a, side_b = sides
    if side_a is None or side_b is None:
        return _not_compared(sides, labels, settings)
    known_metric = metric.find(labels.metric, settings.directions)
    direction = known_metric.direction
    side_a, side_b = (
        side.assign(**{column: known_metric.compared(side[column])}) for side in (side_a, side_b)
    )
    within = labels.dataset == labels.dataset_b
    remarks: list[str] = []
    same = set(side_a["subject"]) & set(side_b["subject"])
    if not within or not len(side_a.index.intersection(side_b.index)):
        if within and len(same) >= fewest_subjects(settings.alpha):
            # Other scans of the same people, such as visits, are no independent samples.
            side_a, side_b = _by_subject(side_a), _by_subject(side_b)
            remarks.append("no common case: paired by subject")
        elif same:
            remarks.append(
                f"{count(len(same), 'subject')} with the same name on both sides, taken as different people"
            )
    build = _paired if within and len(side_a.index.intersection(side_b.index)) else _unpaired
    comparison = build(side_a, side_b, column, direction, labels, settings)
    comparison.remarks[:0] = remarks
    comparison.row |= asdict(labels) | {
        "n_missing_a": int((side_a["missing"] & ~side_a["absent"]).sum()),
        "n_missing_b": int((side_b["missing"] & ~side_b["absent"]).sum()),
        "missing": settings.missing,
        "surface": side_a["surface"].iloc[0],
    }
    return comparison


def _not_compared(
    sides: Sequence[pd.DataFrame | None], labels: Labels, settings: Statistics
) -> Comparison:
    """Return a comparison without a test, since one side was not measured there at all."""
    dataset, model, structure, name = labels.sides[0 if sides[0] is None else 1]
    where = f" on {dataset}" if dataset else ""
    remark = f"{model} has no {name} of {structure}{where} in any case: not compared"
    row = asdict(labels) | dict.fromkeys(("n_subjects", "n_cases", "n_a", "n_b", "n_left_out"), 0)
    row |= {"n_infinite": 0, "n_missing_a": 0, "n_missing_b": 0, "missing": settings.missing}
    row |= {"design": "", "test": "", "estimate_name": "", "effect_name": "", "p": NAN}
    row |= {"mean_difference": NAN, "share_a_better": NAN, "share_tied": NAN}
    return Comparison(labels, row, None, (), [remark])


def _by_subject(side: pd.DataFrame) -> pd.DataFrame:
    """Average the cases of each subject, a row a subject; infinite as soon as one case is."""
    means = side.groupby("subject").agg(
        value=("value", "mean"), other_value=("other_value", "mean"), missing=("missing", "any"),
        absent=("absent", "all"), surface=("surface", "first"),
    )  # fmt: skip
    return means.assign(subject=means.index, fold="")


def _paired(
    side_a: pd.DataFrame, side_b: pd.DataFrame, column: str, direction: str, labels: Labels,
    settings: Statistics,
) -> Comparison:  # fmt: skip
    """Compare two models on the same scans."""
    a, b = side_a[column].align(side_b[column])
    paired = a.notna() & b.notna()
    scans = a.index[paired]
    named = side_a["subject"].reindex(scans).fillna(side_b["subject"].reindex(scans))
    number, subjects = pd.factorize(named, sort=True)
    a, b = a[paired].to_numpy(), b[paired].to_numpy()
    difference = hypothesis_tests.differences(a, b)
    finite = np.isfinite(difference)
    # A subject's value is the mean of its scans; infinite as soon as one is.
    of_a, of_b = (subject_means(side, number) for side in (a, b)) if len(a) else (a, b)
    subject_differences = hypothesis_tests.differences(of_a, of_b)
    carried = {
        "paired_t": hypothesis_tests.paired_t(subject_differences),
        "wilcoxon": hypothesis_tests.wilcoxon(subject_differences),
        "mannwhitneyu": hypothesis_tests.mannwhitneyu(of_a, of_b),
    }
    remarks: list[str] = []
    test: Test | None = None
    # The other rules keep to the fewest of 0.05, below which normality cannot be judged.
    fewest = fewest_subjects(settings.alpha if settings.rule == "swap" else 0.05)
    if len(subjects) < 2:
        remarks.append("fewer than 2 subjects with a value of both: not tested")
    elif settings.rule == "swap":
        test = swap(difference, number, settings.seed)
    elif len(subjects) >= fewest:
        test, remarks = rule.of_pairs(of_a, of_b, settings)
    if len(subjects) < fewest:
        remarks.append(f"fewer than {fewest} subjects: cannot be told")
    if not finite.all():
        number_infinite = count(int((~finite).sum()), "infinite difference")
        remarks.append(f"{number_infinite}: ranked as largest, left out of the mean")
    remarks += _choice_matters(test, carried, settings)
    better = _shares(
        test.scores if isinstance(test, MeanSwap | RankSwap) else subject_differences, direction
    )
    means = (
        subject_means(difference[finite], pd.factorize(number[finite])[0]) if finite.any() else []
    )
    row = _row(test, hypothesis_tests.shapiro(subject_differences), carried, better) | {
        "design": "paired",
        "n_subjects": len(subjects),
        "n_cases": len(scans),
        "n_a": len(subjects),
        "n_b": len(subjects),
        "n_left_out": int((~paired).sum()),
        "n_infinite": int((~finite).sum()),
        "mean_difference": float(np.mean(means)) if len(means) else NAN,
        "median_difference": hypothesis_tests.median(subject_differences),
    }
    fold = side_a["fold"].reindex(scans).fillna("").to_numpy()
    fold_test = corrected_t(difference, number, fold)
    row |= {
        "folds": float(fold_test.folds),
        "folds_t": fold_test.t,
        "folds_df": fold_test.df,
        "p_folds": fold_test.p,
    }
    return Comparison(labels, row, test, tuple(subjects), remarks)


def _unpaired(
    side_a: pd.DataFrame, side_b: pd.DataFrame, column: str, direction: str, labels: Labels,
    settings: Statistics,
) -> Comparison:  # fmt: skip
    """Compare two samples of different subjects."""
    sides = [side[column] for side in (side_a, side_b)]
    defined = [side.dropna() for side in sides]
    coded = [
        pd.factorize(frame["subject"].reindex(side.index), sort=True)
        for frame, side in zip((side_a, side_b), defined, strict=True)
    ]
    n_a, n_b = (len(names) for _, names in coded)
    values = [side.to_numpy() for side in defined]
    of_a, of_b = (
        subject_means(side, number) if len(side) else side
        for side, (number, _) in zip(values, coded, strict=True)
    )
    carried = {
        "welch_t": hypothesis_tests.welch(of_a, of_b),
        "mannwhitneyu": hypothesis_tests.mannwhitneyu(of_a, of_b),
    }
    where = "different datasets" if labels.dataset != labels.dataset_b else "no common scan"
    remarks = [f"{where}: not paired"]
    test: Test | None = None
    if min(n_a, n_b) < 3:
        remarks.append("fewer than 3 subjects on a side: not tested")
    elif len(set(np.concatenate(values))) == 1:
        remarks.append("all values are equal: not tested")
    elif settings.rule == "swap":
        number = np.concatenate([coded[0][0], coded[1][0] + n_a])
        test = relabel(np.concatenate(values), number, n_a, settings.seed)
        if test.smallest_p > settings.alpha:
            remarks.append("too few subjects for any p as small as alpha: cannot be told")
    else:
        test, reasons = rule.of_groups(of_a, of_b, settings)
        remarks += reasons
    infinite = sum(int(np.isinf(side).sum()) for side in values)
    if infinite:
        remarks.append(
            f"{count(infinite, 'infinite value')}: ranked as worst, left out of the means"
        )
    remarks += _choice_matters(test, carried, settings)
    pair_differences = hypothesis_tests.differences(
        *(side.ravel() for side in np.meshgrid(of_a, of_b))
    )
    finite = [side[np.isfinite(side)] for side in (of_a, of_b)]
    medians = [np.atleast_1d(hypothesis_tests.median(side)) for side in (of_a, of_b)]
    normality = min(
        hypothesis_tests.shapiro(of_a), hypothesis_tests.shapiro(of_b), key=lambda found: found.p
    )
    row = _row(test, normality, carried, _shares(pair_differences, direction)) | {
        "design": "unpaired",
        "n_subjects": n_a + n_b,
        "n_cases": sum(map(len, values)),
        "n_a": n_a,
        "n_b": n_b,
        "n_left_out": sum(int(side.isna().sum()) for side in sides),
        "n_infinite": infinite,
        "mean_difference": float(finite[0].mean() - finite[1].mean())
        if all(map(len, finite))
        else NAN,
        "median_difference": float(hypothesis_tests.differences(*medians)[0]),
    }
    names = [*(("a", name) for name in coded[0][1]), *(("b", name) for name in coded[1][1])]
    return Comparison(labels, row, test, tuple(names), remarks)


def _shares(differences: np.ndarray, direction: str) -> tuple[float, float]:
    """Return the share in which A is better, and the share in which both are equal."""
    if not len(differences):
        return NAN, NAN
    better = differences > 0 if direction == "higher" else differences < 0
    return float(better.mean()), float((differences == 0).mean())


def _row(
    test: Test | None,
    normality: hypothesis_tests.Test,
    carried: dict[str, hypothesis_tests.Test],
    shares: tuple[float, float],
) -> dict:
    """Return the columns that the rows of both designs have in common."""
    none = hypothesis_tests.Test()
    t, w, u, welch = (
        carried.get(name, none) for name in ("paired_t", "wilcoxon", "mannwhitneyu", "welch_t")
    )
    return {
        "test": test.name if test else "",
        "estimate": test.estimate if test else NAN,
        "estimate_name": test.estimate_name if test else "",
        "statistic": test.statistic if test else NAN,
        "df": test.result.df if isinstance(test, rule.Classical) else NAN,
        "p": float(test.p) if test else NAN,
        "effect_size": test.effect_size if test else NAN,
        "effect_name": test.effect_name if test else "",
        "share_a_better": shares[0],
        "share_tied": shares[1],
        "shapiro_w": normality.statistic,
        "shapiro_p": normality.p,
        "t_statistic": t.statistic,
        "t_df": t.df,
        "p_paired_t": t.p,
        "wilcoxon_statistic": w.statistic,
        "p_wilcoxon": w.p,
        "mannwhitneyu_statistic": u.statistic,
        "p_mannwhitneyu": u.p,
        "welch_statistic": welch.statistic,
        "welch_df": welch.df,
        "p_welch": welch.p,
    }


def _choice_matters(
    test: Test | None, carried: dict[str, hypothesis_tests.Test], settings: Statistics
) -> list[str]:
    """Remark on tests of the rule that disagree; a test by swaps was chosen beforehand."""
    if not isinstance(test, rule.Classical):
        return []
    below = {
        name: significant(test_result.p, settings.alpha)
        for name, test_result in carried.items()
        if test_result.p == test_result.p
    }
    if len(set(below.values())) < 2:
        return []
    only = " and ".join(name for name, yes in below.items() if yes)
    return [f"the choice of the test matters: p <= alpha by {only} only"]


def _add_other(comparison: Comparison, with_other_values: Comparison, settings: Statistics) -> None:
    """Add the outcome of a comparison for missing predictions taken the other way."""
    if not comparison.lacking:
        return
    remark = {
        "worst": f"{count(comparison.lacking, 'missing prediction')} taken as worst",
        "exclude": f"{count(comparison.lacking, 'case')} left out for want of a prediction",
    }[settings.missing]
    names = ("estimate", "ci_low", "ci_high", "p", "p_adjusted", "verdict")
    comparison.row |= {f"other_{name}": with_other_values.row[name] for name in names}
    if with_other_values.row["verdict"] != comparison.row["verdict"]:
        other_way = {"worst": "left out, they give", "exclude": "taken as worst, they give"}
        remark += f"; {other_way[settings.missing]} another verdict ({verdict_words(with_other_values.row)})"
    comparison.remarks.append(remark)


def verdict_words(row: Mapping) -> str:
    """Say which model is better, by a row's verdict."""
    a, b = row["model_a"], row["model_b"]
    if row["dataset"] != row["dataset_b"]:
        a, b = f"{a} on {row['dataset']}", f"{b} on {row['dataset_b']}"
    better = {"a_better": f"{a} is better", "b_better": f"{b} is better"}
    return better.get(row["verdict"], "it cannot be told which is better")


def _leaning(test: Test) -> float:
    """Return a number with the sign of A - B, also where the estimate is undefined."""
    if test.estimate == test.estimate and test.estimate != 0:
        return test.estimate
    return getattr(test, "t", test.effect_size)


def _add_spread(comparison: Comparison, of_seeds: Sequence[float]) -> None:
    """Add the spread of the models' seeds, and a remark where it exceeds the difference."""
    finite_spreads = [spread for spread in of_seeds if np.isfinite(spread)]
    comparison.row["seed_spread"] = max(finite_spreads) if finite_spreads else NAN
    if finite_spreads and abs(comparison.row["mean_difference"]) < max(finite_spreads):
        comparison.remarks.append(
            f"the difference is smaller than the spread of the seeds ({max(finite_spreads):.3g})"
        )


# --- a family of comparisons --------------------------------------------------------------------


def judged(family: list[Comparison], settings: Statistics) -> None:
    """Give a family's rows adjusted p, intervals and verdicts.

    Rows without a test, and those in which no p can be as small as alpha, are no members of the
    family.
    """
    tested = [
        comparison
        for comparison in family
        if comparison.test is not None and comparison.test.p == comparison.test.p
    ]
    members = [comparison for comparison in tested if _can_tell(comparison.test, settings)]
    adjusted = _adjusted(members, settings) if members else multiple_testing.Adjusted([], [])
    for comparison in family:
        comparison.row |= {
            "n_family": len(members),
            **dict.fromkeys(("p_adjusted", "ci_low", "ci_high"), NAN),
            **dict.fromkeys(("ci_low_adjusted", "ci_high_adjusted"), NAN),
            "significant": "",
            "verdict": "cannot_be_told",
        }
    for comparison in tested:
        interval = comparison.test.interval(settings.alpha)
        comparison.row["ci_low"], comparison.row["ci_high"] = _agreeing(
            comparison.test, interval, float(comparison.test.p), settings
        )
        comparison.row["significant"] = False
    for comparison, p, interval in zip(members, adjusted.p, adjusted.intervals, strict=True):
        # Other random swaps than those of the test by itself may make it smaller by chance.
        p = max(float(p), float(comparison.test.p))
        low, high = _agreeing(comparison.test, interval, p, settings)
        yes = bool(significant(p, settings.alpha))
        comparison.row |= {
            "p_adjusted": p,
            "ci_low_adjusted": low,
            "ci_high_adjusted": high,
            "significant": yes,
        }
        if yes:
            known_metric = metric.find(comparison.labels.metric, settings.directions)
            a_better = (_leaning(comparison.test) > 0) == (known_metric.direction == "higher")
            comparison.row["verdict"] = "a_better" if a_better else "b_better"


def _can_tell(test: Test, settings: Statistics) -> bool:
    """Tell whether p can be as small as alpha at all."""
    if isinstance(test, MeanSwap | RankSwap):
        return test.subjects >= fewest_subjects(settings.alpha)
    if isinstance(test, MeanRelabel | RankRelabel):
        return test.smallest_p <= settings.alpha
    return True


def _agreeing(
    test: Test, interval: tuple[float, float], p: float, settings: Statistics
) -> tuple[float, float]:
    return multiple_testing.agreeing(interval, p, settings.alpha, _leaning(test))


def _adjusted(tested: list[Comparison], settings: Statistics) -> multiple_testing.Adjusted:
    tests = [comparison.test for comparison in tested]
    correction = correction_of(tested, settings)
    if correction == "max_t":
        return multiple_testing.max_t(tests, shared_choices(tested, settings), settings.alpha)
    if correction != settings.correction:
        for comparison in tested:
            comparison.remarks.append("paired and unpaired tests in a family: adjusted by Holm")
    return multiple_testing.by_p(
        [test.p for test in tests],
        lambda number, level: tests[number].interval(level),
        correction,
        settings.alpha,
    )


def correction_of(tested: list[Comparison], settings: Statistics) -> str:
    """Return how p of a family is adjusted: paired and unpaired tests have no swaps in common."""
    mixed = len({comparison.row["design"] for comparison in tested}) > 1
    return "holm" if mixed and settings.correction == "max_t" else settings.correction


def shared_choices(tested: list[Comparison], settings: Statistics) -> list[np.ndarray]:
    """Return for each test of a family of one design the swaps that all share, of its own subjects."""
    names = list(
        dict.fromkeys(name for comparison in tested for name in sorted(comparison.subjects))
    )
    names.sort()
    place = {name: number for number, name in enumerate(names)}
    if tested[0].row["design"] == "paired":
        choices = signs(len(names), settings.seed)
    else:
        first = sum(side == "a" for side, _ in names)
        choices = groups(first, len(names) - first, settings.seed)
    places_of = [[place[name] for name in comparison.subjects] for comparison in tested]
    all_places = list(range(len(names)))
    return [choices if places == all_places else choices[:, places] for places in places_of]
