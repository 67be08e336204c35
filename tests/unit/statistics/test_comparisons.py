"""Tests against published and hand-computed examples, and the defined outcome of every odd sample."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segstudy.errors import InputError
from segstudy.statistics import comparisons as tested
from segstudy.statistics import paired
from segstudy.statistics.intervals import generator, mean_interval
from segstudy.statistics.values import per_case
from segstudy.statistics.variance import split
from segstudy.study import Statistics

pytestmark = pytest.mark.filterwarnings("error")

INF, NAN = float("inf"), float("nan")
QUICK = Statistics(metrics=("dice",), bootstrap_samples=200)


def table(a, b, metric="dice", dataset="d", structure="heart", names=("a", "b")):
    """Values per case of two models."""
    rows = [
        (dataset, name, structure, metric, f"case{n:03d}", value, 1, "mesh", 500.0)
        for name, sample in zip(names, (a, b), strict=True)
        for n, value in enumerate(sample)
    ]
    columns = [*("dataset", "model", "structure", "metric", "case", "value", "runs", "surface")]
    return pd.DataFrame(rows, columns=[*columns, "diagonal_mm"])


def row(a, b, metric="dice", settings=None):
    settings = settings or QUICK.model_copy(update={"metrics": (metric,)})
    found = tested.compare(table(a, b, metric), settings)
    assert list(found.columns) == list(tested.COLUMNS)
    assert len(found) == 1
    return found.iloc[0]


# --- published examples --------------------------------------------------------------------------

# Student (1908), The probable error of a mean: hours of sleep gained with two drugs.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Hollander and Wolfe (1973), p. 29: depression before and after a tranquilliser.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def test_paired_t_of_students_sleep():
    found = paired.paired_t(paired.differences(np.array(SLEEP_1), np.array(SLEEP_2)))
    assert found.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert found.df == 9
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    # d_z = t / sqrt(n).
    assert found.effect_size == pytest.approx(-4.0621 / np.sqrt(10), abs=5e-5)


def test_wilcoxon_of_hollander_and_wolfe():
    """V = 40 of 45, one-sided p = 0.01953 exactly 10 / 512."""
    found = paired.wilcoxon(paired.differences(np.array(BEFORE), np.array(AFTER)))
    assert found.statistic == 5
    assert found.p == pytest.approx(2 * 10 / 512)
    assert found.effect_size == pytest.approx((40 - 5) / 45)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-4, 6).filter(bool), min_size=3, max_size=8))
def test_wilcoxon_with_ties_is_that_of_scipy(difference):
    found = paired.wilcoxon(np.array(difference, float))
    expected = stats.wilcoxon(difference)
    assert found.statistic == expected.statistic
    assert found.p == pytest.approx(expected.pvalue)


def test_mannwhitneyu_of_hollander_and_wolfe():
    """Page 69: permeability of the chorioamnion; W = 35, one-sided p = 0.1272."""
    term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    weeks = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = paired.mannwhitneyu(np.array(term), np.array(weeks))
    assert found.statistic == 35
    assert found.p == pytest.approx(2 * 0.1272, abs=2e-4)
    assert found.effect_size == pytest.approx(2 * 35 / 50 - 1)


def test_shapiro_of_shapiro_and_wilk():
    """Their example of eleven men's weights: W = 0.79."""
    weights = np.array([148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236.0])
    found = paired.shapiro(weights)
    assert found.statistic == pytest.approx(0.79, abs=0.005)
    assert found.p < 0.01


def test_permutation_of_all_signs():
    """Three differences of one sign: 2 of the 8 choices of signs are as extreme."""
    found = paired.permutation(np.array([1.0, 2.0, 4.0]), np.random.default_rng(0))
    assert found.p == pytest.approx(2 / 8)
    assert found.statistic == pytest.approx(7 / 3)


def test_holm_by_hand():
    """p = .01 .04 .03 .005: sorted times 4, 3, 2, 1, never below the one before."""
    family = [{"p": p} for p in (0.01, 0.04, 0.03, 0.005)]
    found = tested.adjusted(family, QUICK)
    assert [row["p_adjusted"] for row in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [row["significant"] for row in found] == [True, False, False, True]
    assert {row["n_family"] for row in found} == {4}


def test_benjamini_hochberg_by_hand():
    family = [{"p": p} for p in (0.01, 0.04, 0.03, 0.005)]
    found = tested.adjusted(family, QUICK.model_copy(update={"correction": "benjamini_hochberg"}))
    assert [row["p_adjusted"] for row in found] == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_rows_without_p_are_no_members_of_the_family():
    family = [
        {"p": 0.02, "p_adjusted": NAN, "significant": ""},
        {"p": NAN, "p_adjusted": NAN, "significant": ""},
    ]
    found = tested.adjusted(family, QUICK)
    assert found[0]["p_adjusted"] == 0.02
    assert np.isnan(found[1]["p_adjusted"])
    assert found[1]["significant"] == ""


# --- the rule --------------------------------------------------------------------------------------


def test_normal_differences_get_the_t_test_and_carry_all_three():
    found = row(np.array(BEFORE) / 4, np.array(AFTER) / 4)
    assert found["shapiro_p"] > 0.05
    assert found["test"] == "paired_t"
    assert (found["p"], found["df"]) == (found["p_paired_t"], 8)
    assert found["effect_name"] == "cohens_dz"
    assert found["p_wilcoxon"] == pytest.approx(2 * 10 / 512)
    assert 0 < found["p_mannwhitneyu"] < 1
    assert found["mean_difference"] == pytest.approx(np.mean(np.subtract(BEFORE, AFTER)) / 4)
    assert found["share_a_better"] == pytest.approx(7 / 9)
    assert found["ci_low"] < found["mean_difference"] < found["ci_high"]


@pytest.mark.parametrize("rule", ["wilcoxon", "mannwhitneyu", "permutation"])
def test_skewed_differences_get_the_rule_of_the_study(rule):
    rng = np.random.default_rng(1)
    a = rng.uniform(0.5, 0.6, 30)
    b = a - rng.exponential(0.02, 30) ** 2
    found = row(a, b, settings=QUICK.model_copy(update={"when_not_normal": rule}))
    assert found["shapiro_p"] < 0.05
    assert found["test"] == rule
    assert np.isnan(found["df"])
    if rule != "permutation":
        assert found["p"] == found[f"p_{rule}"]
    assert ("discards the pairing" in found["remark"]) == (rule == "mannwhitneyu")


def test_a_choice_of_test_that_matters_is_said():
    """Small, steady differences between cases that differ much: only pairing shows them."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.2, 0.9, 25)
    found = row(a, a - rng.normal(0.01, 0.004, 25))
    assert found["p_paired_t"] < 0.05 < found["p_mannwhitneyu"]
    assert (
        "the choice of the test matters: p < alpha by paired_t and wilcoxon only" in found["remark"]
    )


@pytest.mark.parametrize(("metric", "share"), [("dice", 0.0), ("hd95_mm", 1.0)])
def test_which_is_better(metric, share):
    """Lower by every case is worse for Dice and better for a distance."""
    a, b = np.arange(1, 9) / 20, np.arange(1, 9) / 16
    assert row(a, b, metric)["share_a_better"] == share


def test_relative_volume_errors_are_compared_by_size():
    found = row([-0.3, -0.2, 0.1, 0.3], [0.1, 0.0, 0.0, 0.1], "relative_volume_error")
    assert found["share_a_better"] == 0
    assert found["mean_difference"] == pytest.approx(0.175)


def test_pairs_are_the_cases_that_both_models_have():
    values = table([0.9, 0.8, NAN, 0.7, 0.6], [0.5, 0.7, 0.6, 0.5, 0.2])
    values = values[~((values["model"] == "b") & (values["case"] == "case000"))]
    found = tested.compare(values, QUICK).iloc[0]
    assert (found["n_pairs"], found["n_left_out"]) == (3, 2)


def test_one_model_is_not_compared():
    found = tested.compare(table([1.0], [1.0], names=("a", "a")), QUICK)
    assert len(found) == 0
    assert list(found.columns) == list(tested.COLUMNS)


def test_every_pair_or_the_chosen_ones():
    values = pd.concat(
        [table([0.5, 0.6, 0.8], [0.3, 0.2, 0.1]), table([0.7, 0.75, 0.9], [], names=("c", "x"))]
    )
    every = tested.compare(values, QUICK)
    assert list(zip(every["model_a"], every["model_b"], strict=True)) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    chosen = tested.compare(values, QUICK.model_copy(update={"compare": (("c", "a"),)}))
    assert list(zip(chosen["model_a"], chosen["model_b"], strict=True)) == [("c", "a")]
    assert chosen["mean_difference"][0] == pytest.approx(-every["mean_difference"][1])
    with pytest.raises(InputError, match="'z' was not measured; the table has a, b, c"):
        tested.compare(values, QUICK.model_copy(update={"compare": (("a", "z"),)}))


def test_an_unknown_metric():
    with pytest.raises(InputError, match="'hd_mm' was not measured; the table has dice"):
        tested.compare(table([0.5], [0.4]), QUICK.model_copy(update={"metrics": ("hd_mm",)}))


def test_each_dataset_is_a_family():
    values = pd.concat([table(SLEEP_1, SLEEP_2, dataset=name) for name in ("here", "there")])
    found = tested.compare(values, QUICK)
    assert found["n_family"].tolist() == [1, 1]
    assert found["p_adjusted"].tolist() == found["p"].tolist()


# --- odd samples: no exception, no warning, no bogus p -------------------------------------------------


def test_infinite_distances_rank_worst_and_two_are_a_tie():
    a = np.array([INF, INF, 3.0, 4.0, 6.0, 9.0, INF, 7.5])
    b = np.array([INF, 2.0, 2.5, 2.0, 3.0, 4.0, 5.0, 1.0])
    found = row(a, b, "hd95_mm")
    assert found["n_infinite"] == 2
    assert found["mean_difference"] == pytest.approx(np.mean([0, 0.5, 2, 3, 5, 6.5]))
    assert found["share_a_better"] == 0
    assert found["share_tied"] == 1 / 8
    assert found["median_difference"] == 4
    assert found["test"] == "wilcoxon"
    assert np.isnan(found["p_paired_t"])
    assert np.isnan(found["shapiro_p"])
    # Seven differences of one sign: 2 of 2^7 choices; ties of the two infinite ones change nothing.
    assert found["p"] == pytest.approx(2 / 2**7)
    assert found["effect_size"] == 1
    assert "2 infinite differences" in found["remark"]


@pytest.mark.parametrize("rule", ["wilcoxon", "mannwhitneyu", "permutation"])
@pytest.mark.parametrize(
    ("a", "b", "test", "remark"),
    [
        ([0.5] * 6, [0.5] * 6, "", "equal in every case"),
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9], "", "equal in every case"),
        ([0.5, 0.6], [0.4, 0.3], "", "fewer than 3 pairs"),
        ([], [], "", "fewer than 3 pairs"),
        ([NAN] * 5, [0.5] * 5, "", "fewer than 3 pairs"),
        ([INF] * 5, [INF] * 5, "", "equal in every case"),
        ([0.3, 0.5, 0.8, 0.9], [0.2, 0.4, 0.7, 0.8], None, "same in every case"),
        ([INF] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], None, "5 infinite differences"),
        ([INF, 1.0, INF, 2.0], [1.0, INF, 2.0, INF], None, "4 infinite differences"),
    ],
)
def test_odd_samples(a, b, test, remark, rule):
    values = table(a, b, "hd_mm")
    if not len(values):
        values = table([NAN], [NAN], "hd_mm")
    found = tested.compare(
        values, QUICK.model_copy(update={"metrics": ("hd_mm",), "when_not_normal": rule})
    ).iloc[0]
    assert found["test"] == (rule if test is None else test)
    assert remark in found["remark"]
    assert np.isnan(found["p_paired_t"])
    if test is None:
        assert 0 < found["p"] <= 1
    else:
        assert np.isnan(found["p"])
        assert found["significant"] == ""


def test_a_constant_difference_has_the_p_of_its_signs():
    """Rounding makes 0.3 - 0.2, 0.8 - 0.7 differ in the last bit; they are one difference."""
    found = row([0.3, 0.5, 0.8, 0.9], [0.2, 0.4, 0.7, 0.8])
    assert found["p"] == pytest.approx(2 / 2**4)
    assert found["ci_low"] == found["ci_high"] == pytest.approx(0.1)


samples = st.lists(
    st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, INF, NAN]) | st.floats(0, 1)] * 2),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=30)
@given(samples)
def test_swapping_the_models_turns_the_signs(pairs):
    a, b = np.array(pairs).T
    one, other = row(a, b, "hd_mm"), row(b, a, "hd_mm")
    for name in (
        "n_pairs",
        "n_infinite",
        "p_paired_t",
        "p_wilcoxon",
        "p_mannwhitneyu",
        "shapiro_p",
    ):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
    for name in ("mean_difference", "median_difference", "effect_size"):
        np.testing.assert_allclose(one[name], -other[name], rtol=1e-9, atol=1e-12)
    assert one["test"] == other["test"]
    assert one["share_a_better"] + other["share_a_better"] + one["share_tied"] == (
        pytest.approx(1) if one["n_pairs"] else pytest.approx(NAN, nan_ok=True)
    )
    for name in ("p", "p_adjusted", "p_paired_t", "p_wilcoxon", "p_mannwhitneyu"):
        assert np.isnan(one[name]) or 0 < one[name] <= 1


# --- models that share no case --------------------------------------------------------------------


def unpaired(a, b, metric="dice"):
    values = table(a, b, metric)
    values.loc[values["model"] == "b", "case"] += "-elsewhere"
    found = tested.compare(values, QUICK.model_copy(update={"metrics": (metric,)}))
    assert list(found.columns) == list(tested.COLUMNS)
    return found.iloc[0]


def test_unpaired_normal_samples_get_welchs_test():
    """R: t.test(extra ~ group, data = sleep): t = -1.8608, df = 17.776, p = 0.07939."""
    found = unpaired(SLEEP_1, SLEEP_2)
    assert (found["design"], found["test"]) == ("unpaired", "welch_t")
    assert found["statistic"] == pytest.approx(-1.8608, abs=5e-5)
    assert found["df"] == pytest.approx(17.776, abs=5e-4)
    assert found["p"] == found["p_welch"] == pytest.approx(0.07939, abs=5e-6)
    assert (found["n_pairs"], found["n_a"], found["n_b"]) == (0, 10, 10)
    assert found["mean_difference"] == pytest.approx(-1.58)
    assert found["ci_low"] < -1.58 < found["ci_high"]
    assert np.isnan(found["p_wilcoxon"]) and np.isnan(found["p_paired_t"])
    assert "not paired" in found["remark"]


def test_unpaired_samples_with_infinite_values_get_mannwhitneyu():
    found = unpaired([INF, 8.0, 9.0, 7.0, NAN], [1.0, 2.0, 3.0, 4.0], "hd_mm")
    assert found["test"] == "mannwhitneyu"
    assert found["p"] == pytest.approx(2 / 70)  # one of 8 over 4 orders, to either side
    assert (found["n_a"], found["n_b"], found["n_infinite"]) == (4, 4, 1)
    assert (found["share_a_better"], found["effect_size"]) == (0, 1)
    assert found["mean_difference"] == pytest.approx(8 - 2.5)


@pytest.mark.parametrize(
    ("a", "b", "remark"),
    [
        ([0.5, 0.6], [0.1, 0.2, 0.3], "fewer than 3"),
        ([NAN] * 4, [0.1, 0.2, 0.3], "fewer than 3"),
        ([0.5] * 4, [0.5] * 5, "all values are equal"),
        ([INF] * 4, [INF] * 3, "all values are equal"),
    ],
)
def test_odd_unpaired_samples(a, b, remark):
    found = unpaired(a, b, "hd_mm")
    assert (found["test"], found["significant"]) == ("", "")
    assert np.isnan(found["p"])
    assert remark in found["remark"]


# --- seeds ----------------------------------------------------------------------------------------


def runs_of(model, rng, shift, case_sd, fold_sd, seed_sd, cases=150, folds=4, seeds=5):
    """Values of every fold's and seed's model on the same cases, with known spreads."""
    case = rng.normal(0, case_sd, cases)
    rows = []
    for n in range(cases):
        for fold in range(folds):
            of_fold = rng.normal(0, fold_sd)
            rows += [
                ("d", model, "heart", "dice", f"c{n}", str(fold), str(seed))
                + (shift + case[n] + of_fold + rng.normal(0, seed_sd), "mesh", 100.0)
                for seed in range(seeds)
            ]
    names = [*("dataset", "model", "structure", "metric", "case", "fold", "seed", "value")]
    return pd.DataFrame(rows, columns=[*names, "surface", "diagonal_mm"])


def test_the_variance_is_split():
    found = split(runs_of("a", np.random.default_rng(2), 0.7, 0.06, 0.03, 0.02)).iloc[0]
    assert (found["n_folds"], found["n_seeds"]) == (4, 5)
    assert found["sd_case"] == pytest.approx(0.06, rel=0.15)
    assert found["sd_fold"] == pytest.approx(0.03, rel=0.1)
    assert found["sd_seed"] == pytest.approx(0.02, rel=0.1)
    # Of the mean over 150 cases and 4 folds.
    assert found["seed_spread"] == pytest.approx(0.02 / np.sqrt(600), rel=0.8)


def test_one_run_has_no_spread_of_seeds():
    found = split(runs_of("a", np.random.default_rng(2), 0.7, 0.06, 0, 0, 30, 1, 1)).iloc[0]
    assert found["sd_case"] == pytest.approx(0.06, rel=0.3)
    assert found[["sd_fold", "sd_seed", "seed_spread"]].isna().all()


@pytest.mark.parametrize(("difference", "warned"), [(0.001, True), (0.1, False)])
def test_a_difference_within_the_spread_of_the_seeds_is_said(difference, warned):
    """Seeds that move all cases of a model together."""
    rng = np.random.default_rng(5)
    runs = pd.concat(
        [
            runs_of(model, rng, 0.6 + shift, 0.05, 0, 0.001, 12, 1, 3)
            for model, shift in (("a", difference), ("b", 0.0))
        ]
    )
    runs["value"] += runs["seed"].map({"0": -0.02, "1": 0.0, "2": 0.02})
    spread = split(runs)
    assert spread["seed_spread"].tolist() == pytest.approx([0.02, 0.02], abs=0.002)
    runs.loc[runs["model"] == "b", "value"] = (
        runs.loc[runs["model"] == "a", "value"] - difference + rng.normal(0, 1e-4, 36)
    )
    found = tested.compare(per_case(runs), QUICK, spread).iloc[0]
    assert ("smaller than the spread of the seeds" in found["remark"]) == warned
    assert found["seed_spread"] == spread["seed_spread"].max()


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_interval_of_a_normal_sample_is_near_that_of_t(method):
    rng = np.random.default_rng(3)
    sample = rng.normal(5, 2, 60)
    expected = stats.t.interval(0.95, 59, sample.mean(), stats.sem(sample))
    settings = Statistics(bootstrap=method, bootstrap_samples=4000)
    found = mean_interval(sample, settings, generator(settings, "x"))
    np.testing.assert_allclose(found, expected, atol=0.12)


def test_interval_of_a_skewed_sample_leans_with_it():
    """BCa moves both ends towards the long tail; percentile does less, the basic one the opposite."""
    sample = np.random.default_rng(0).exponential(1, 25) ** 2
    ends = {
        method: mean_interval(sample, Statistics(bootstrap=method), np.random.default_rng(1))
        for method in ("percentile", "bca")
    }
    assert ends["bca"][1] > ends["percentile"][1]
    low, high = ends["bca"]
    assert high - sample.mean() > sample.mean() - low


def test_intervals_do_not_depend_on_what_else_is_compared():
    alone = row(SLEEP_1, SLEEP_2)
    both = tested.compare(
        pd.concat([table(SLEEP_2, SLEEP_1, structure="aorta"), table(SLEEP_1, SLEEP_2)]), QUICK
    ).iloc[1]
    assert (alone["ci_low"], alone["ci_high"]) == (both["ci_low"], both["ci_high"])
    other = row(SLEEP_1, SLEEP_2, settings=QUICK.model_copy(update={"seed": 2}))
    assert other["ci_low"] != alone["ci_low"]


def test_type_one_error_of_the_rule():
    """400 studies without a difference: about alpha of them are significant, by either rule."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        difference = rng.normal(0, 1, 20) if rng.random() < 0.5 else rng.laplace(0, 1, 20)
        normal = paired.shapiro(difference).p >= 0.05
        p = (paired.paired_t if normal else paired.wilcoxon)(difference).p
        hits += p < 0.05
    assert 0.025 <= hits / 400 <= 0.08


def test_no_warning_escapes_for_thousands_of_cases():
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired.shapiro(rng.normal(size=6000))
    assert found.p > 0.01


# --- a model on two datasets ----------------------------------------------------------------------


def two_sites(a, b, metric="dice", **settings):
    """One model on two sites whose cases happen to have the same names."""
    values = pd.concat(
        [
            table(sample, sample, metric, dataset=site)
            for site, sample in (("here", a), ("there", b))
        ]
    )
    values = values[values["model"] == "a"]
    chosen = {"metrics": (metric,), "compare_datasets": (("here", "there"),), **settings}
    return tested.compare(values, QUICK.model_copy(update=chosen))


def test_a_model_on_two_sites_is_never_paired():
    """Welch's t of Student's data, as R's t.test(extra ~ group) prints it."""
    (found,) = two_sites(SLEEP_1, SLEEP_2, "hd_mm").to_dict("records")
    assert (found["dataset"], found["dataset_b"]) == ("here", "there")
    assert (found["model_a"], found["model_b"]) == ("a", "a")
    assert (found["design"], found["test"], found["n_pairs"]) == ("unpaired", "welch_t", 0)
    assert found["statistic"] == pytest.approx(-1.8608, abs=5e-5)
    assert found["df"] == pytest.approx(17.776, abs=5e-4)
    assert found["p"] == pytest.approx(0.07939, abs=5e-6)
    assert np.isnan(found["p_paired_t"]) and np.isnan(found["p_wilcoxon"])
    assert "different datasets: not paired" in found["remark"]


def test_two_sites_are_a_family_of_their_own():
    random = np.random.default_rng(5)
    values = pd.concat(
        [
            table(
                random.normal(0.8, 0.1, 12),
                random.normal(0.7, 0.1, 12),
                dataset=site,
                structure=one,
            )
            for site in ("here", "there")
            for one in ("heart", "aorta")
        ]
    )
    found = tested.compare(
        values, QUICK.model_copy(update={"compare_datasets": (("here", "there"),)})
    )
    sizes = found.groupby(["dataset", "dataset_b"])["n_family"].first().to_dict()
    # Two structures by one pair of models on each site; two structures by two models across.
    assert sizes == {("here", "here"): 2, ("there", "there"): 2, ("here", "there"): 4}
    across = found[found["dataset"] != found["dataset_b"]]
    assert (across["model_a"] == across["model_b"]).all()
    alone = tested.compare(values, QUICK)
    within = found[found["dataset"] == found["dataset_b"]]
    pd.testing.assert_frame_equal(within.reset_index(drop=True), alone)


def test_an_unknown_or_twice_named_dataset():
    with pytest.raises(InputError, match=r"compare_datasets: 'elsewhere' was not measured.*here"):
        two_sites(SLEEP_1, SLEEP_2, compare_datasets=(("here", "elsewhere"),))
    with pytest.raises(ValueError, match="'here' stands against itself"):
        Statistics(compare_datasets=(("here", "here"),))
