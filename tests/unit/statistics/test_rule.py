"""The classical tests against published examples, and the rule that chooses among them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segstudy.statistics import hypothesis_tests
from segstudy.statistics import rule as tested
from segstudy.statistics.intervals import significant
from segstudy.statistics.multiple_testing import agreeing
from segstudy.study import Statistics

INF = float("inf")
WILCOXON = Statistics(rule="shapiro_then_wilcoxon", correction="holm")
MANN_WHITNEY = Statistics(rule="shapiro_then_mannwhitneyu", correction="holm")
pytestmark = pytest.mark.filterwarnings("error")


# Student (1908), The probable error of a mean: hours of sleep gained with two drugs.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Hollander and Wolfe (1973), p. 29: depression before and after a tranquilliser.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def test_paired_t_of_students_sleep():
    found = hypothesis_tests.paired_t(
        hypothesis_tests.differences(np.array(SLEEP_1), np.array(SLEEP_2))
    )
    assert found.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert found.df == 9
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    # d_z = t / sqrt(n).
    assert found.effect_size == pytest.approx(-4.0621 / np.sqrt(10), abs=5e-5)


def test_wilcoxon_of_hollander_and_wolfe():
    """V = 40 of 45, one-sided p = 0.01953 exactly 10 / 512."""
    found = hypothesis_tests.wilcoxon(
        hypothesis_tests.differences(np.array(BEFORE), np.array(AFTER))
    )
    assert found.statistic == 5
    assert found.p == pytest.approx(2 * 10 / 512)
    assert found.effect_size == pytest.approx((40 - 5) / 45)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-4, 6).filter(bool), min_size=3, max_size=8))
def test_wilcoxon_with_ties_is_that_of_scipy(difference):
    found = hypothesis_tests.wilcoxon(np.array(difference, float))
    expected = stats.wilcoxon(difference)
    assert found.statistic == expected.statistic
    assert found.p == pytest.approx(expected.pvalue)


def test_mannwhitneyu_of_hollander_and_wolfe():
    """Page 69: permeability of the chorioamnion; W = 35, one-sided p = 0.1272."""
    term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    weeks = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = hypothesis_tests.mannwhitneyu(np.array(term), np.array(weeks))
    assert found.statistic == 35
    assert found.p == pytest.approx(2 * 0.1272, abs=2e-4)
    assert found.effect_size == pytest.approx(2 * 35 / 50 - 1)


def test_shapiro_of_shapiro_and_wilk():
    """Their example of eleven men's weights: W = 0.79."""
    weights = np.array([148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236.0])
    found = hypothesis_tests.shapiro(weights)
    assert found.statistic == pytest.approx(0.79, abs=0.005)
    assert found.p < 0.01


# --- the rule ---------------------------------------------------------------------------------------


def chosen(a, b, settings=WILCOXON):
    found, remarks = tested.of_pairs(np.array(a, float), np.array(b, float), settings)
    return found, "; ".join(remarks)


def test_normal_differences_get_the_t_test():
    found, _ = chosen(BEFORE, AFTER)
    assert (found.name, found.p) == ("paired_t", stats.ttest_rel(BEFORE, AFTER).pvalue)
    difference = np.subtract(BEFORE, AFTER)
    expected = stats.t.interval(0.95, 8, difference.mean(), stats.sem(difference))
    assert found.interval(0.05) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "name"), [(WILCOXON, "wilcoxon"), (MANN_WHITNEY, "mannwhitneyu")]
)
def test_skewed_differences_get_the_rule_of_the_study(settings, name):
    rng = np.random.default_rng(1)
    a = rng.uniform(0.5, 0.6, 30)
    found, remark = chosen(a, a - rng.exponential(0.02, 30) ** 2, settings)
    assert found.name == name
    assert ("discards the pairing" in remark) == (name == "mannwhitneyu")


def test_intervals_of_ranks_are_those_of_r():
    """R: wilcox.test(conf.int = TRUE): paired 0.46, [0.01, 0.786]; two samples -0.305 [-0.76, 0.15]."""
    found = tested.of_wilcoxon(np.subtract(BEFORE, AFTER))
    assert found.estimate == pytest.approx(0.46)
    assert found.interval(0.05) == pytest.approx((0.01, 0.786))
    term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    weeks = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = tested.of_u(np.array(weeks), np.array(term))
    assert found.estimate == pytest.approx(-0.305)
    assert found.interval(0.05) == pytest.approx((-0.76, 0.15))


def test_two_normal_groups_get_welchs_test():
    """R: t.test(extra ~ group): t = -1.8608, df = 17.776, p = 0.07939, [-3.3655, 0.2055]."""
    found, _ = tested.of_groups(np.array(SLEEP_1), np.array(SLEEP_2), WILCOXON)
    assert found.name == "welch_t"
    assert (found.statistic, found.result.df) == pytest.approx((-1.8608, 17.776), abs=5e-4)
    assert found.interval(0.05) == pytest.approx((-3.3655, 0.2055), abs=5e-5)


def test_groups_with_infinite_values_get_mannwhitneyu():
    found, _ = tested.of_groups(np.array([INF, 8.0, 9.0, 7.0]), np.arange(1.0, 5.0), WILCOXON)
    assert found.name == "mannwhitneyu"
    assert found.p == pytest.approx(2 / 70)  # one of 8 over 4 orders, to either side


@pytest.mark.parametrize(
    ("a", "b", "remark"),
    [
        ([0.5] * 6, [0.5] * 6, "equal for every subject"),
        ([INF] * 5, [INF] * 5, "equal for every subject"),
        ([0.3, 0.5, 0.8, 0.9], [0.2, 0.4, 0.7, 0.8], "same for every subject"),
    ],
)
def test_odd_samples(a, b, remark):
    found, said = chosen(a, b)
    assert remark in said
    assert (found is None) == ("equal" in remark)


def test_a_constant_difference_has_the_p_of_its_signs():
    """Rounding makes 0.3 - 0.2, 0.8 - 0.7 differ in the last bit; they are one difference."""
    found, _ = chosen([0.3, 0.5, 0.8, 0.9], [0.2, 0.4, 0.7, 0.8])
    assert found.p == pytest.approx(2 / 2**4)
    assert found.estimate == pytest.approx(0.1)


values = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, INF]) | st.floats(0, 1)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(values, values), min_size=6, max_size=12),
    st.sampled_from([WILCOXON, MANN_WHITNEY]),
)
def test_p_and_interval_agree(pairs, rule):
    a, b = np.array(pairs).T
    found, _ = tested.of_pairs(a, b, rule)
    if found is None or np.isnan(found.p):
        return
    low, high = agreeing(found.interval(0.05), found.p, 0.05, found.estimate)
    if np.isnan(low):
        return
    assert low <= high
    if significant(found.p, 0.05):
        assert not low < 0 < high
    else:
        assert low <= 0 <= high


def test_no_warning_escapes_for_thousands_of_subjects():
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = hypothesis_tests.shapiro(rng.normal(size=6000))
    assert found.p > 0.01
