"""Subgroups: tests against enumeration and scipy, groups of a column, subjects in several groups, correction."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies
from metric_rows import of_models, rows
from scipy import stats
from statsmodels.stats.multitest import multipletests

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.groups import grouped
from segstudy.statistics import relabel as tested
from segstudy.statistics.completion import completed
from segstudy.statistics.omnibus import Between, Within, assignments
from segstudy.statistics.relabel import relabel
from segstudy.statistics.subgroups import GROUPS, TESTS, subgroups
from segstudy.study import Statistics

GROUPED = [np.array([0.91, 0.85, 0.88]), np.array([0.70, 0.79]), np.array([0.9, 0.6])]


def wald(*samples):
    """The Wald-type statistic of samples, written out."""
    weight = np.array([len(sample) / sample.var(ddof=1) for sample in samples])
    mean = np.array([sample.mean() for sample in samples])
    centre = (weight * mean).sum() / weight.sum()
    return (weight * (mean - centre) ** 2).sum()


def between(samples, seed=1):
    sizes = tuple(map(len, samples))
    return Between(np.concatenate(samples), np.arange(sum(sizes)), sizes, seed)


def test_p_of_three_groups_is_that_of_all_permutations():
    pooled = np.concatenate(GROUPED)
    observed = wald(*GROUPED)
    every = [
        wald(*np.split(pooled[list(order)], [3, 5])) for order in permutations(range(len(pooled)))
    ]
    expected = np.mean(np.array(every) >= observed * (1 - 1e-9))
    test = between(GROUPED)
    assert test.p == pytest.approx(expected, abs=1e-12)
    assert len(assignments((3, 2, 2), 1)) == 210
    found = stats.permutation_test(GROUPED, wald, alternative="greater", n_resamples=np.inf)
    assert test.p == pytest.approx(found.pvalue, abs=1e-12)


def test_of_two_groups_it_is_welchs_t_squared():
    first, second = GROUPED[0], np.array([0.7, 0.79, 0.83, 0.65])
    test, other = (
        between([first, second]),
        relabel(np.concatenate([first, second]), np.arange(7), 3, 1),
    )
    assert test.statistic == pytest.approx(
        stats.ttest_ind(first, second, equal_var=False).statistic ** 2
    )
    assert test.p == other.p


def test_ranks_of_infinite_values_are_kruskals():
    samples = [np.array([3.0, np.inf, 5.0]), np.array([1.0, 2.0, 2.5]), np.array([9.0, np.inf])]
    ranked = np.split(stats.rankdata(np.concatenate(samples)), [3, 6])
    found = stats.permutation_test(
        ranked, lambda *groups: stats.kruskal(*groups).statistic, vectorized=False,
        alternative="greater", n_resamples=np.inf,
    )  # fmt: skip
    test = between(samples)
    assert test.name == "relabel_kruskal"
    assert test.p == pytest.approx(found.pvalue, abs=1e-12)


def test_random_choices_agree_with_scipys():
    rng = np.random.default_rng(5)
    samples = [rng.normal(shift, 1, 12) for shift in (0, 0.4, 0.9)]
    expected = stats.permutation_test(
        samples, lambda *groups, axis: _wald_along(groups, axis), vectorized=True,
        alternative="greater", n_resamples=9_999, rng=np.random.default_rng(1),
    )  # fmt: skip
    p = between(samples).p
    assert p == pytest.approx(expected.pvalue, abs=4 * np.sqrt(p / 9_999))


def _wald_along(groups, axis):
    weight = np.stack([group.shape[axis] / group.var(axis=axis, ddof=1) for group in groups])
    mean = np.stack([group.mean(axis=axis) for group in groups])
    centre = (weight * mean).sum(axis=0) / weight.sum(axis=0)
    return (weight * (mean - centre) ** 2).sum(axis=0)


def test_within_subjects_it_is_friedmans_test():
    values = np.random.default_rng(2).normal(size=(9, 3)) + [0, 0.3, 1.2]
    values[4, 2] = np.inf
    test = Within(values, 1)
    expected = stats.permutation_test(
        list(values.T), lambda *groups: stats.friedmanchisquare(*groups).statistic, vectorized=False,
        permutation_type="samples", alternative="greater", n_resamples=799, rng=np.random.default_rng(3),
    )  # fmt: skip
    assert test.name == "shuffle_friedman"
    assert test.p == pytest.approx(expected.pvalue, abs=4 * np.sqrt(max(test.p, 0.001) / 799))


@settings(max_examples=25, deadline=None)
@given(
    strategies.lists(strategies.integers(0, 4), min_size=6, max_size=8),
    strategies.sampled_from([(2, 2), (2, 2, 2)]),
)
def test_any_order_of_the_groups_gives_the_same_p(values, sizes):
    values = np.array(values[: sum(sizes)] + [0] * (sum(sizes) - len(values)), float)
    samples = np.split(values, np.cumsum(sizes)[:-1])
    p = between(samples).p
    assert 0 < p <= 1
    assert between(samples[::-1]).p == pytest.approx(p, abs=1e-12)


# --- tables ------------------------------------------------------------------------------------------


def tables(runs, cells, **settings):
    """Both tables of values; cells: column -> of each case."""
    settings = Statistics(**{"metrics": ["dice"], **settings})
    values = completed(runs, settings)
    cases = sorted(set(values["case"]))
    participants = {
        ("d", case): {column: given[number] for column, given in cells.items()}
        for number, case in enumerate(cases)
    }
    found = subgroups(values, participants, settings)
    assert tuple(found.subgroups.columns) == GROUPS
    assert tuple(found.subgroup_tests.columns) == TESTS
    return found.subgroups, found.subgroup_tests


def sample(number, seed=0, **shifts):
    rng = np.random.default_rng(seed)
    return {
        model: (rng.normal(0.8, 0.05, number) + shift).round(3) for model, shift in shifts.items()
    }


def test_groups_are_summarised_and_compared_over_subjects():
    values = sample(24, a=0.0, b=0.0)
    subjects = [f"s{number // 2:02d}" for number in range(24)]  # two scans each
    sex = ["F" if number // 2 % 2 else "M" for number in range(24)]
    of_groups, tests = tables(of_models(values, subjects=subjects), {"sex": sex}, subgroups=["sex"])
    means = values["a"].reshape(12, 2).mean(axis=1)
    row = of_groups.set_index(["group", "model"]).loc[("F", "a")]
    assert row["mean"] == pytest.approx(means[1::2].mean())
    assert row[["n_subjects", "n_cases"]].tolist() == [6, 12]
    assert row["remark"] == "fewer than 10 subjects"
    test = tests.set_index("model").loc["a"]
    expected = stats.permutation_test(
        [means[1::2], means[::2]], lambda a, b: np.sign(a.mean() - b.mean()) * np.sqrt(wald(a, b)),
        vectorized=False, n_resamples=np.inf,
    )  # fmt: skip
    assert test["p"] == pytest.approx(
        np.mean(np.abs(expected.null_distribution) >= abs(expected.statistic) * (1 - 1e-9)),
        abs=1e-12,
    )
    assert test["estimate"] == pytest.approx(means[1::2].mean() - means[::2].mean())
    assert test[["group_a", "group_b", "n_a", "n_b", "n_cases"]].tolist() == ["F", "M", 6, 6, 24]
    assert (test["p"] <= 0.05) == (not test["ci_low"] <= 0 <= test["ci_high"])


def test_one_family_over_columns_models_structures_and_metrics():
    runs = pd.concat(
        [
            of_models(sample(15, seed, a=0.0, b=0.02), structure=name)
            for seed, name in enumerate(("heart", "aorta"))
        ]
    )
    sex, scanner = (["F", "M"] * 8)[:15], ["p", "q", "r"] * 5
    _, tests = tables(runs, {"sex": sex, "scanner": scanner}, subgroups=["sex", "scanner"])
    groups, pairs = (tests[tests["comparison"] == name] for name in ("groups", "pair"))
    assert len(groups) == 8 and set(groups["n_family"]) == {8}
    assert groups["p_adjusted"].tolist() == pytest.approx(
        multipletests(groups["p"], method="holm")[1]
    )
    assert len(pairs) == 12 and set(pairs["n_family"]) == {12}
    merged = pairs.merge(groups, on=["column", "model", "structure"], suffixes=("", "_groups"))
    assert (merged["p_adjusted"] >= merged["p_adjusted_groups"]).all()


def test_choices_are_drawn_once_for_groups_of_the_same_sizes_and_progress_is_told(caplog):
    """Two models and six columns of unlike sizes, more than are kept: tests are taken by size."""
    caplog.set_level("INFO")
    cells = {
        f"below_{size}": ["low" if place < size else "high" for place in range(20)]
        for size in range(5, 11)
    }
    tested.groups.cache_clear()
    runs = of_models(sample(20, a=0.0, b=0.0))
    _, tests = tables(runs, cells, subgroups=list(cells))
    assert len(tests) == 12 and tests["p_adjusted"].notna().all()
    assert tested.groups.cache_info().misses == 6
    assert "comparisons of all groups of a column: 12 done" in caplog.text


def test_a_subject_in_several_groups_is_left_out_or_compared_with_itself():
    subjects = [f"s{number // 2:02d}" for number in range(24)]
    runs = of_models(sample(24, a=0.0), subjects=subjects)
    few = ["p" if number < 12 else "q" for number in range(24)]
    few[0] = "q"
    _, tests = tables(runs, {"scanner": few}, subgroups=["scanner"])
    assert tests.iloc[0][["design", "n_subjects", "n_left_out"]].tolist() == ["between", 11, 1]
    assert "1 subject with scans in several groups left out" in tests["remark"].iloc[0]
    _, tests = tables(runs, {"scanner": ["p", "q"] * 12}, subgroups=["scanner"])
    row = tests.iloc[0]
    difference = np.subtract(*runs["value"].to_numpy().reshape(12, 2).T)
    assert row[["design", "test", "n_subjects"]].tolist() == ["within", "swap_mean", 12]
    assert row["estimate"] == pytest.approx(difference.mean())
    flips = 1 - 2 * (np.arange(2**12)[:, None] >> np.arange(12) & 1)
    size = np.abs(flips @ difference)
    assert row["p"] == pytest.approx(np.mean(size >= size[0] * (1 - 1e-9)))


def test_small_groups_are_described_and_not_tested():
    runs = of_models(sample(18, a=0.0))
    site = ["p"] * 8 + ["q"] * 7 + ["r"] * 3
    of_groups, tests = tables(runs, {"site": site}, subgroups=["site"])
    assert of_groups["n_subjects"].tolist() == [8, 7, 3]
    assert tests[["comparison", "group_a", "group_b"]].to_numpy().tolist() == [["groups", "p", "q"]]
    assert "fewer than 5 subjects, not tested: r (3)" in tests["remark"].iloc[0]
    assert "fewer than 10 subjects: p, q" in tests["remark"].iloc[0]
    _, tests = tables(runs, {"site": ["p"] * 15 + ["r"] * 3}, subgroups=["site"])
    assert tests["test"].tolist() == [""] and np.isnan(tests["p"].iloc[0])


def test_a_missing_prediction_is_the_worst_value_and_the_other_way_beside_it():
    runs = of_models(sample(16, a=0.0, b=0.0))
    runs = runs[~((runs["model"] == "a") & (runs["case"] == "c003"))]
    of_groups, tests = tables(runs, {"sex": ["F", "M"] * 8}, subgroups=["sex"])
    rows_of_a = of_groups[of_groups["model"] == "a"].set_index("group")
    assert rows_of_a.loc["M", ["n_missing", "n_failed"]].tolist() == [1, 1]
    test = tests.set_index("model")
    assert test.loc["a", "other_p"] != test.loc["a", "p"]
    assert np.isnan(test.loc["b", "other_p"])


def test_infinite_distances_are_ranked_and_undefined_values_left_out():
    hd = np.array([3.0, 4, np.inf, 6, 2, 8, 9, 5] * 2)
    runs = rows(
        model="a", metric="hd95_mm", case=[f"c{n:03d}" for n in range(16)], value=hd, subject=""
    )
    runs.loc[0, ["value", "status"]] = [np.nan, "ref_empty"]
    _, tests = tables(runs, {"sex": ["F"] * 8 + ["M"] * 8}, metrics=["hd95_mm"], subgroups=["sex"])
    row = tests.iloc[0]
    assert row[["test", "unit", "n_subjects", "n_infinite"]].tolist() == [
        "relabel_ranks",
        "mm",
        15,
        2,
    ]
    assert row["p"] == pytest.approx(stats.mannwhitneyu(hd[1:8], hd[8:]).pvalue, abs=0.1)


def test_subjects_without_a_value_are_in_no_group(caplog):
    sex = ["F", "M"] * 8
    sex[3] = ""
    of_groups, tests = tables(of_models(sample(16, a=0.0)), {"sex": sex}, subgroups=["sex"])
    assert of_groups["n_subjects"].tolist() == [8, 7]
    assert tests["n_left_out"].tolist() == [1]
    assert "sex: no value for 1 of 16 subjects (c003), which are in no group" in caplog.text


def test_columns_that_cannot_be_used_are_named():
    runs = of_models(sample(20, a=0.0))
    with pytest.raises(
        InputError, match="no column 'gender' in the tables of participants, which have sex"
    ):
        tables(runs, {"sex": ["F", "M"] * 10}, subgroups=["gender"])
    with pytest.raises(InputError, match="sex has no value for any tested subject"):
        tables(runs, {"sex": [""] * 20}, subgroups=["sex"])
    with pytest.raises(InputError, match="id has 20 different values"):
        tables(runs, {"id": [f"x{n}" for n in range(20)]}, subgroups=["id"])
    with pytest.raises(InputError, match="age of c001 .* is 'old'; expected a number"):
        tables(runs, {"age": ["50", "old"] * 10}, subgroups={"age": [40]})


# --- groups of a column ------------------------------------------------------------------------------


def cut(values, how, subjects=None):
    cells = {("d", f"c{number}"): value for number, value in enumerate(values)}
    names = subjects or [f"s{number}" for number in range(len(values))]
    return grouped("age", how, cells, dict(zip(cells, names, strict=True)))


def test_numbers_are_cut_at_bounds_median_and_tertiles():
    ages = ["30", "40", "64", "65", "89+", ""]
    found = cut(ages, (40, 65))
    assert found.names == ("below 40", "40 to below 65", "65 or above")
    assert list(found.of.values()) == [found.names[place] for place in (0, 1, 1, 2, 2)]
    assert cut([str(n) for n in range(1, 8)], "auto").names == ("below 4", "4 or above")
    assert cut([str(n) for n in range(1, 10)], "tertiles").rule.endswith("(3.667 and 6.333)")
    assert cut(["1", "2", "1", "10"], "auto").names == ("1", "2", "10")


def test_ages_of_a_subjects_scans_are_averaged_before_they_are_cut():
    found = cut(["64", "66", "30", "70"], (64.5,), ["s0", "s0", "s1", "s2"])
    assert list(found.of.values()) == ["64.5 or above"] * 2 + ["below 64.5", "64.5 or above"]


# --- the command -------------------------------------------------------------------------------------


def test_the_command(tmp_path):
    values = of_models(sample(16, a=0.0))[["model", "case", "structure", "metric", "value"]]
    values.to_csv(tmp_path / "metrics.csv", index=False)
    lines = ["subject,sex,age", *(f"c{n:03d},{'FM'[n % 2]},{40 + n}" for n in range(16))]
    (tmp_path / "people.csv").write_text("\n".join(lines))
    command = [
        "statistics",
        "--metrics",
        str(tmp_path / "metrics.csv"),
        "--output",
        str(tmp_path / "out"),
    ]
    chosen = json.dumps({"subgroups": ["sex", {"age": "median"}], "bootstrap_samples": 100})
    assert main([*command, "--settings", chosen]) == 1
    people = ["--participants", str(tmp_path / "people.csv")]
    assert main([*command, *people]) == 1
    assert main([*command, *people, "--settings", chosen]) == 0
    of_groups = pd.read_csv(tmp_path / "out/subgroups.csv")
    assert set(of_groups["group"]) == {"F", "M", "below 47.5", "47.5 or above"}
    report = (tmp_path / "out/report.md").read_text()
    assert "## Subgroups" in report
    assert "age: cut at the median of all subjects (47.5)" in report


@pytest.mark.parametrize(
    ("cut", "cells", "words"),
    [
        ("values", ["M", "m", "F", "F"], "'M' and 'm' are different groups"),
        ("values", ["1", "1.0", "0", "0"], "'1' and '1.0' are different groups"),
        ("values", ["A", "B", "Unknown", "-"], "'Unknown' is a group of its own; write n/a"),
        ("median", ["1,230", "1,231", "1,232", "900"], "1,230 as 1.23; where it separates thousands"),
        ("median", ["1,23", "1,231", "1,232", "900"], ""),
        ("values", ["A", "B", "A", "n"], ""),
    ],
)  # fmt: skip
def test_cells_that_may_mean_something_else_are_told_of(cut, cells, words, caplog):
    keys = {("d", f"c{place}"): cell for place, cell in enumerate(cells)}
    grouped("w", cut, keys, {key: key[1] for key in keys})
    assert words in caplog.text and bool(words) == bool(caplog.text)


def test_a_reserved_name_of_a_column_is_told():
    with pytest.raises(InputError, match="split is a name of tables of cases"):
        tables(of_models(sample(6, a=0.0)), {"sex": ["F", "M"] * 3}, subgroups=["split"])
