"""Comparisons of models and of datasets: who is compared, what stands in a row, and every odd sample."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_rows import of_models, rows
from scipy import stats

from segstudy.errors import InputError
from segstudy.statistics import comparisons as tested
from segstudy.statistics.analysis import analyse
from segstudy.statistics.completion import completed
from segstudy.statistics.variance import variance_components
from segstudy.study import Statistics

pytestmark = pytest.mark.filterwarnings("error")

INF, NAN = float("inf"), float("nan")
QUICK = Statistics(metrics=("dice",), bootstrap_samples=200)
RULE = {"rule": "shapiro_then_wilcoxon", "correction": "holm"}

# Student (1908), The probable error of a mean: hours of sleep gained with two drugs.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def compared(table, settings=QUICK, **further):
    settings = settings.model_copy(update=further)
    found = tested.compare(completed(table, settings), settings)
    assert list(found.columns) == list(tested.COLUMNS)
    return found


def row(a, b, metric="dice", subjects=None, **further):
    table = of_models({"a": a, "b": b}, subjects, metric=metric, n_reference_voxels=9)
    found = compared(table, metrics=(metric,), **further)
    assert len(found) == 1
    return found.iloc[0]


# --- a row ------------------------------------------------------------------------------------------


def test_a_row_says_all_of_its_test():
    a = np.array([0.83, 0.50, 0.62, 0.98, 0.68, 0.88, 0.55, 0.96, 0.30])
    b = a - np.array([0.05, -0.01, 0.1, 0.04, 0.06, 0.06, 0.05, -0.01, 0.001])
    found = row(a, b)
    difference = a - b
    assert (found["design"], found["test"]) == ("paired", "swap_mean")
    assert (found["n_subjects"], found["n_cases"], found["n_left_out"]) == (9, 9, 0)
    assert found["estimate"] == found["mean_difference"] == pytest.approx(difference.mean())
    every = stats.permutation_test((difference,), np.mean, permutation_type="samples")
    assert found["p"] == found["p_adjusted"] == pytest.approx(every.pvalue)
    assert found["p_paired_t"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found["p_wilcoxon"] == pytest.approx(stats.wilcoxon(np.round(difference, 9)).pvalue)
    assert 0 < found["p_mannwhitneyu"] < 1
    assert found["share_a_better"] == pytest.approx(7 / 9)
    assert 0 < found["ci_low"] < found["estimate"] < found["ci_high"]
    assert (found["verdict"], bool(found["significant"])) == ("a_better", True)
    assert found["effect_size"] == pytest.approx(difference.mean() / difference.std(ddof=1))


@pytest.mark.parametrize(("metric", "verdict"), [("dice", "b_better"), ("hd95_mm", "a_better")])
def test_which_is_better(metric, verdict):
    """Lower for every subject is worse for Dice and better for a distance."""
    found = row(np.arange(1, 9) / 20, np.arange(1, 9) / 16, metric)
    assert (found["verdict"], found["share_a_better"]) == (verdict, verdict == "a_better")


def test_relative_volume_errors_are_compared_by_size():
    found = row([-0.3, -0.2, 0.1, 0.3] * 2, [0.1, 0.0, 0.0, 0.1] * 2, "relative_volume_error")
    assert (found["share_a_better"], found["verdict"]) == (0, "b_better")
    assert found["mean_difference"] == pytest.approx(0.175)


def test_a_metric_of_another_program_goes_by_its_direction():
    a, b = np.arange(1, 9) / 20, np.arange(1, 9) / 16
    with pytest.raises(InputError, match="statistics.directions"):
        row(a, b, "wobble")
    assert row(a, b, "wobble", directions={"wobble": "lower"})["verdict"] == "a_better"


def test_the_rule_of_other_studies_is_there_too():
    rng = np.random.default_rng(4)
    a, b = rng.normal(9, 1, (2, 12))
    found = row(a, b, "hd95_mm", **RULE)
    expected = stats.ttest_rel(a, b)
    assert (found["test"], found["df"]) == ("paired_t", 11)
    assert found["statistic"] == pytest.approx(expected.statistic)
    assert found["p"] == found["p_paired_t"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((interval.low, interval.high))


def test_max_t_needs_swaps():
    with pytest.raises(ValueError, match="correction max_t needs rule: swap"):
        Statistics(rule="shapiro_then_wilcoxon")


def test_a_choice_of_test_that_matters_is_said():
    """Small, steady differences between cases that differ much: only pairing shows them."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.2, 0.9, 25)
    found = row(a, a - rng.normal(0.01, 0.004, 25), **RULE)
    assert found["p_paired_t"] < 0.05 < found["p_mannwhitneyu"]
    assert (
        "the choice of the test matters: p <= alpha by paired_t and wilcoxon only"
        in found["remark"]
    )


# --- subjects -----------------------------------------------------------------------------------------


def test_scans_of_a_subject_are_one():
    """Five subjects of six scans tell nothing, however alike their scans are."""
    rng = np.random.default_rng(2)
    of_subject = [0.012, 0.020, -0.005, 0.015, 0.003]
    subjects = [f"s{k}" for k in range(5) for _ in range(6)]
    difference = np.repeat(of_subject, 6) + rng.normal(0, 0.004, 30)
    b = 0.8 + rng.normal(0, 0.02, 30)
    found = row(b + difference, b, subjects=subjects)
    assert (found["n_subjects"], found["n_cases"]) == (5, 30)
    assert found["verdict"] == "cannot_be_told"
    assert "fewer than 6 subjects: cannot be told" in found["remark"]
    means = difference.reshape(5, 6).mean(axis=1)
    assert found["p_paired_t"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert found["estimate"] == pytest.approx(means.mean())


def test_the_rule_of_other_studies_is_on_subjects_too():
    rng = np.random.default_rng(2)
    subjects = [f"s{k}" for k in range(8) for _ in range(3)]
    a, b = rng.uniform(0.7, 0.9, (2, 24))
    found = row(a, b, subjects=subjects, **RULE)
    means = (a - b).reshape(8, 3).mean(axis=1)
    assert found["p"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)


def test_unequal_numbers_of_scans_weigh_alike():
    subjects = ["s"] * 6 + list("tuvwxyz")
    difference = [0.5] * 6 + [-0.01, 0.02, 0.0, 0.01, -0.02, 0.01, 0.0]
    found = row(np.array(difference), np.zeros(13), "nsd_2mm", subjects=subjects)
    assert found["estimate"] == pytest.approx((0.5 + 0.01) / 8)


# --- who is compared ------------------------------------------------------------------------------


def test_one_model_is_not_compared():
    assert len(compared(of_models({"a": [1.0, 0.5]}))) == 0


def test_every_pair_or_the_chosen_ones():
    table = of_models({"a": [0.5, 0.6, 0.8], "b": [0.3, 0.2, 0.1], "c": [0.7, 0.75, 0.9]})
    every = compared(table)
    assert list(zip(every["model_a"], every["model_b"], strict=True)) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    chosen = compared(table, compare=(("c", "a"),))
    assert list(zip(chosen["model_a"], chosen["model_b"], strict=True)) == [("c", "a")]
    assert chosen["estimate"][0] == pytest.approx(-every["estimate"][1])
    with pytest.raises(InputError, match="'z' was not measured; the table has a, b, c"):
        compared(table, compare=(("a", "z"),))


def test_an_unknown_metric():
    with pytest.raises(InputError, match="'hd_mm' was not measured; the table has dice"):
        compared(of_models({"a": [0.5], "b": [0.4]}), metrics=("hd_mm",))


def test_each_dataset_is_a_family():
    samples = {"a": np.linspace(0.5, 0.7, 10), "b": np.linspace(0.45, 0.75, 10)}
    found = compared(pd.concat([of_models(samples, dataset=name) for name in ("here", "there")]))
    assert found["n_family"].tolist() == [1, 1]
    assert found["p_adjusted"].tolist() == found["p"].tolist()


def test_a_family_is_adjusted_together():
    """Answers worked out beforehand, for four structures of eight subjects."""
    samples = [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [2, 1, 4, 3, 6, 5, 8, 7],
        [1, -2, 3, 4, 5, -6, 7, 8],
        [1, -1, 2, -2, 3, -3, 4, -3],
    ]
    table = pd.concat(
        [
            of_models(
                {"a": 10.0 + np.array(one), "b": [10.0] * 8}, metric="hd95_mm", structure=name
            )
            for one, name in zip(samples, "stuv", strict=True)
        ]
    )
    found = compared(table, metrics=("hd95_mm",))
    assert found["p"].tolist() == pytest.approx([0.0078125, 0.0078125, 0.1953125, 1])
    assert found["p_adjusted"].tolist() == pytest.approx([0.0234375, 0.0234375, 0.34375, 1])
    assert found["verdict"].tolist() == ["b_better", "b_better"] + ["cannot_be_told"] * 2
    holm = compared(table, metrics=("hd95_mm",), correction="holm")
    assert holm["p_adjusted"].tolist() == pytest.approx([0.03125, 0.03125, 0.390625, 1])


def test_a_row_does_not_depend_on_what_else_is_compared():
    samples = {"a": np.linspace(0.5, 0.7, 20), "b": np.linspace(0.45, 0.75, 20) ** 1.1}
    alone = compared(of_models(samples)).iloc[0]
    other = of_models({"a": samples["b"], "b": samples["a"]}, structure="aorta")
    both = compared(pd.concat([other, of_models(samples)])).iloc[1]
    for name in ("p", "ci_low", "ci_high"):
        assert alone[name] == both[name]


def test_pairs_are_chosen_where_no_reference_lacks_the_structure():
    settings = QUICK.model_copy(update={"compare": (("a", "b"),)})
    found = analyse(of_models({"a": [0.5] * 7, "b": [0.4] * 7, "c": [0.3] * 7}), settings)
    assert len(found.tests) == 1


def test_a_structure_of_few_subjects_is_no_member_of_the_family():
    rng = np.random.default_rng(1)
    samples = {"a": rng.normal(0.8, 0.02, 20), "b": rng.normal(0.75, 0.02, 20)}
    few = {name: sample[:3] for name, sample in samples.items()}
    alone = compared(of_models(samples)).iloc[0]
    both = compared(pd.concat([of_models(samples), of_models(few, structure="rare")]))
    assert both["n_family"].tolist() == [1, 1]
    for name in ("p", "p_adjusted", "ci_low_adjusted", "ci_high_adjusted", "verdict"):
        assert both[name].iloc[0] == alone[name]
    assert np.isnan(both["p_adjusted"].iloc[1])
    assert "fewer than 6 subjects" in both["remark"].iloc[1]


@pytest.mark.parametrize(("alpha", "fewest"), [(0.1, 5), (0.05, 6), (0.01, 8)])
def test_how_many_subjects_can_tell_depends_on_alpha(alpha, fewest):
    a = np.arange(1.0, fewest + 1) / 100
    assert row(0.5 + a, [0.5] * fewest, alpha=alpha)["verdict"] == "a_better"
    found = row(0.5 + a[1:], [0.5] * (fewest - 1), alpha=alpha)
    assert found["verdict"] == "cannot_be_told"
    assert f"fewer than {fewest} subjects: cannot be told" in found["remark"]


def test_what_a_model_was_not_measured_in_is_said(caplog):
    tumour = of_models({"a": [0.5] * 7}, structure="tumour")
    found = compared(pd.concat([of_models({"a": [0.6] * 7, "b": [0.5] * 7}), tumour]))
    assert found["structure"].tolist() == ["heart", "tumour"]
    assert found["remark"].iloc[1] == "b has no dice of tumour on d in any case: not compared"
    assert "b has no dice of tumour" in caplog.text


def test_visits_of_the_same_subjects_are_paired():
    subjects = [f"s{n}" for n in range(8)]
    first = of_models({"a": np.arange(1, 9) / 10}, subjects)
    second = of_models({"b": np.arange(1, 9) / 10 - 0.05}, subjects)
    second["case"] += "-visit-2"
    found = compared(pd.concat([first, second])).iloc[0]
    assert (found["design"], found["n_subjects"]) == ("paired", 8)
    assert found["estimate"] == pytest.approx(0.05)
    assert "no common case: paired by subject" in found["remark"]


def test_subjects_of_one_name_on_two_sites_are_said():
    assert (
        "9 subjects with the same name on both sides"
        in (two_sites([0.5, 0.6, 0.7] * 3, [0.4, 0.5, 0.9] * 3)["remark"].iloc[0])
    )


# --- odd samples: no exception, no warning, no bogus p ---------------------------------------------


def test_infinite_distances_rank_worst_and_two_are_a_tie():
    a = np.array([INF, INF, 3.0, 4.0, 6.0, 9.0, INF, 7.5])
    b = np.array([INF, 2.0, 2.5, 2.0, 3.0, 4.0, 5.0, 1.0])
    found = row(a, b, "hd95_mm")
    assert (found["test"], found["n_infinite"]) == ("swap_ranks", 2)
    assert found["mean_difference"] == pytest.approx(np.mean([0, 0.5, 2, 3, 5, 6.5]))
    assert (found["share_a_better"], found["share_tied"]) == (0, 1 / 8)
    assert found["median_difference"] == 4
    assert np.isnan(found["p_paired_t"]) and np.isnan(found["shapiro_p"])
    # Seven differences of one sign and a tie: 4 of 2^8 choices.
    assert found["p"] == pytest.approx(4 / 2**8)
    assert (found["effect_size"], found["verdict"]) == (1, "b_better")
    assert found["estimate_name"] == "hodges_lehmann"
    assert found["ci_low"] > 0
    assert "2 infinite differences" in found["remark"]


@pytest.mark.parametrize("further", [{}, RULE])
@pytest.mark.parametrize(
    ("a", "b", "remark"),
    [
        ([0.5, 0.6], [0.4, 0.3], "fewer than 6 subjects"),
        ([0.5], [0.4], "fewer than 2 subjects"),
        ([NAN] * 5, [NAN] * 5, "fewer than 2 subjects"),
        ([INF] * 7, [INF] * 7, ""),
        ([INF] * 7, [1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0], "7 infinite differences"),
        ([INF, 1.0, INF, 2.0] * 2, [1.0, INF, 2.0, INF] * 2, "8 infinite differences"),
        ([0.3, 0.5, 0.8, 0.9, 0.2, 0.7, 0.6], [0.2, 0.4, 0.7, 0.8, 0.1, 0.6, 0.5], ""),
    ],
)
def test_odd_samples(a, b, remark, further):
    found = row(a, b, "hd_mm", **further)
    assert remark in found["remark"]
    assert np.isnan(found["p"]) or 0 < found["p"] <= 1
    assert found["verdict"] == ("cannot_be_told" if not found["significant"] else found["verdict"])


samples = st.lists(
    st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, INF, NAN]) | st.floats(0, 1)] * 2),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=30)
@given(samples, st.sampled_from([{}, RULE]))
def test_swapping_the_models_turns_the_signs(pairs, further):
    a, b = np.array(pairs).T
    one, other = row(a, b, "hd_mm", **further), row(b, a, "hd_mm", **further)
    for name in ("n_subjects", "n_infinite", "p", "p_paired_t", "p_wilcoxon", "p_mannwhitneyu"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
    for name, mirrored in (
        *[(name, name) for name in ("estimate", "mean_difference", "median_difference")],
        ("ci_low", "ci_high"),
        ("ci_low_adjusted", "ci_high_adjusted"),
    ):
        np.testing.assert_allclose(one[name], -other[mirrored], rtol=1e-9, atol=1e-10)
    assert one["test"] == other["test"]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(samples.filter(lambda pairs: len(pairs) >= 6), min_size=1, max_size=3),
    st.sampled_from([{}, {"correction": "holm"}, {"correction": "benjamini_hochberg"}, RULE]),
)
def test_every_p_agrees_with_its_interval(families, further):
    table = pd.concat(
        [
            of_models(
                dict(zip("ab", np.array(pairs).T, strict=True)),
                metric="hd_mm",
                structure=f"s{n}",
                n_reference_voxels=9,
            )
            for n, pairs in enumerate(families)
        ]
    )
    for _, found in compared(table, metrics=("hd_mm",), **further).iterrows():
        for p, low, high in (
            ("p", "ci_low", "ci_high"),
            ("p_adjusted", "ci_low_adjusted", "ci_high_adjusted"),
        ):
            if np.isnan(found[[p, low, high]].astype(float)).any():
                continue
            assert found[low] <= found[high]
            if found[p] <= 0.05:
                assert not found[low] < 0 < found[high]
            else:
                assert found[low] <= 0 <= found[high]


# --- models that share no case, and a model on two datasets ------------------------------------------


def unpaired(a, b, metric="dice", **further):
    table = of_models({"a": a, "b": b}, metric=metric)
    table = table[table["value"].notna()]
    table.loc[table["model"] == "b", "case"] += "-elsewhere"
    return compared(table, metrics=(metric,), **further).iloc[0]


def test_samples_without_a_common_case_are_not_paired():
    found = unpaired(np.array(SLEEP_1) + 9, np.array(SLEEP_2) + 9, "hd95_mm")
    assert (found["design"], found["test"]) == ("unpaired", "relabel_mean")
    assert found["statistic"] == pytest.approx(-1.8608, abs=5e-5)
    assert found["p_welch"] == pytest.approx(0.07939, abs=5e-6)
    assert (found["n_subjects"], found["n_a"], found["n_b"]) == (20, 10, 10)
    # The interval that excluded 0 beside this p was the fault.
    assert found["ci_low"] < 0 < found["ci_high"]
    assert "no common scan: not paired" in found["remark"]


def test_infinite_values_are_ranked():
    found = unpaired([INF, 8.0, 9.0, 7.0], [1.0, 2.0, 3.0, 4.0], "hd_mm")
    assert (found["test"], found["n_infinite"]) == ("relabel_ranks", 1)
    assert found["p"] == pytest.approx(2 / 70)  # one of 8 over 4 orders, to either side
    assert (found["share_a_better"], found["effect_size"]) == (0, 1)
    assert found["mean_difference"] == pytest.approx(8 - 2.5)


@pytest.mark.parametrize(
    ("a", "b", "remark"),
    [
        ([0.5, 0.6], [0.1, 0.2, 0.3], "fewer than 3 subjects"),
        ([0.5] * 4, [0.5] * 5, "all values are equal"),
        ([INF] * 4, [INF] * 3, "all values are equal"),
        ([1.0, 2.0, 3.0], [7.0, 8.0, 9.0], "too few subjects"),
    ],
)
def test_odd_unpaired_samples(a, b, remark):
    found = unpaired(a, b, "hd_mm")
    assert found["verdict"] == "cannot_be_told"
    assert remark in found["remark"]


def two_sites(a, b, metric="dice", **further):
    """One model on two sites whose cases and subjects happen to have the same names."""
    table = pd.concat(
        [
            of_models(
                {"a": sample}, [f"s{n}" for n in range(len(sample))], metric=metric, dataset=site
            )
            for site, sample in (("here", a), ("there", b))
        ]
    )
    further = {"compare_datasets": (("here", "there"),), **further}
    return compared(table, metrics=(metric,), **further)


@pytest.mark.parametrize(("further", "test"), [({}, "relabel_mean"), (RULE, "welch_t")])
def test_a_model_on_two_sites_is_never_paired(further, test):
    sites = [np.array(one) + 9 for one in (SLEEP_1, SLEEP_2)]
    (found,) = two_sites(*sites, "hd_mm", **further).to_dict("records")
    assert (found["dataset"], found["dataset_b"]) == ("here", "there")
    assert (found["design"], found["test"], found["n_a"]) == ("unpaired", test, 10)
    assert found["statistic"] == pytest.approx(-1.8608, abs=5e-5)
    assert found["p_welch"] == pytest.approx(0.07939, abs=5e-6)
    assert np.isnan(found["p_paired_t"]) and np.isnan(found["p_wilcoxon"])
    assert "different datasets: not paired" in found["remark"]


def test_two_sites_are_a_family_of_their_own():
    random = np.random.default_rng(5)
    table = pd.concat(
        [
            of_models(
                {"a": random.normal(0.7, 0.05, 12), "b": random.normal(0.6, 0.05, 12)},
                dataset=site,
                structure=one,
            )
            for site in ("here", "there")
            for one in ("heart", "aorta")
        ]
    )
    found = compared(table, compare_datasets=(("here", "there"),))
    sizes = found.groupby(["dataset", "dataset_b"])["n_family"].first().to_dict()
    # Two structures by one pair of models on each site; two structures by two models across.
    assert sizes == {("here", "here"): 2, ("there", "there"): 2, ("here", "there"): 4}
    across = found[found["dataset"] != found["dataset_b"]]
    assert (across["model_a"] == across["model_b"]).all()
    assert (across["p_adjusted"] >= across["p"]).all()
    within = found[found["dataset"] == found["dataset_b"]]
    pd.testing.assert_frame_equal(within.reset_index(drop=True), compared(table))


def test_an_unknown_or_twice_named_dataset():
    with pytest.raises(InputError, match=r"compare_datasets: 'elsewhere' was not measured.*here"):
        two_sites([0.5] * 6, [0.4] * 6, compare_datasets=(("here", "elsewhere"),))
    with pytest.raises(ValueError, match="'here' stands against itself"):
        Statistics(compare_datasets=(("here", "here"),))


def test_folds_stand_beside_the_test():
    """Fold means .012 .004 .009 -.002 .007: Nadeau and Bengio's t is 1.67542."""
    means = [0.012, 0.004, 0.009, -0.002, 0.007]
    folds = [str(k) for k in range(5) for _ in range(2)]
    difference = np.repeat(means, 2) + np.tile([0.001, -0.001], 5)
    found = compared(of_models({"a": 0.8 + difference, "b": [0.8] * 10}, fold=folds)).iloc[0]
    assert (found["folds"], found["folds_df"]) == (5, 4)
    assert found["folds_t"] == pytest.approx(1.67542, abs=5e-5)
    assert found["p_folds"] == pytest.approx(0.169162, abs=5e-6)


# --- seeds ----------------------------------------------------------------------------------------


def runs_of(model, rng, shift, case_sd, fold_sd, seed_sd, cases=150, folds=4, seeds=5):
    """Values of every fold's and seed's model on the same cases, with known spreads."""
    case = rng.normal(0, case_sd, cases)
    parts = []
    for n in range(cases):
        for fold in range(folds):
            of_fold = rng.normal(0, fold_sd)
            parts += [
                (f"c{n}", str(fold), str(seed), shift + case[n] + of_fold + rng.normal(0, seed_sd))
                for seed in range(seeds)
            ]
    case, fold, seed, value = zip(*parts, strict=True)
    return rows(model=model, case=case, fold=fold, seed=seed, value=value)


def test_the_variance_is_split():
    found = variance_components(runs_of("a", np.random.default_rng(2), 0.7, 0.06, 0.03, 0.02)).iloc[
        0
    ]
    assert (found["n_folds"], found["n_seeds"]) == (4, 5)
    assert found["sd_case"] == pytest.approx(0.06, rel=0.15)
    assert found["sd_fold"] == pytest.approx(0.03, rel=0.1)
    assert found["sd_seed"] == pytest.approx(0.02, rel=0.1)
    # Of the mean over 150 cases and 4 folds.
    assert found["seed_spread"] == pytest.approx(0.02 / np.sqrt(600), rel=0.8)


def test_one_run_has_no_spread_of_seeds():
    found = variance_components(
        runs_of("a", np.random.default_rng(2), 0.7, 0.06, 0, 0, 30, 1, 1)
    ).iloc[0]
    assert found["sd_case"] == pytest.approx(0.06, rel=0.3)
    assert found[["sd_fold", "sd_seed", "seed_spread"]].isna().all()


@pytest.mark.parametrize(("difference", "warned"), [(0.001, True), (0.1, False)])
def test_a_difference_within_the_spread_of_the_seeds_is_said(difference, warned):
    """Seeds that move all cases of a model together."""
    rng = np.random.default_rng(5)
    table = pd.concat(
        [
            runs_of(model, rng, 0.6 + shift, 0.05, 0, 0.001, 12, 1, 3)
            for model, shift in (("a", difference), ("b", 0.0))
        ],
        ignore_index=True,
    )
    table["value"] += table["seed"].map({"0": -0.02, "1": 0.0, "2": 0.02})
    spread = variance_components(table)
    assert spread["seed_spread"].tolist() == pytest.approx([0.02, 0.02], abs=0.002)
    table.loc[table["model"] == "b", "value"] = (
        table.loc[table["model"] == "a", "value"].to_numpy() - difference + rng.normal(0, 1e-4, 36)
    )
    found = tested.compare(completed(table, QUICK), QUICK, spread).iloc[0]
    assert ("smaller than the spread of the seeds" in found["remark"]) == warned
    assert found["seed_spread"] == spread["seed_spread"].max()
