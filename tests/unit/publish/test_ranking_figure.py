"""Which models the bars of a critical-difference diagram join."""

from itertools import combinations

import pandas

from segstudy.publish.draw.ranking import alike

ORDER = ["a", "b", "c", "d"]


def table(different=(), untested=(), equal=()):
    rows = [
        {
            "model_a": pair[1],  # the order within a row must not matter
            "model_b": pair[0],
            "test": "" if pair in untested or pair in equal else "wilcoxon",
            "significant": pair in different,
            "share_tied": 1.0 if pair in equal else 0.0,
        }
        for pair in combinations(ORDER, 2)
    ]
    return pandas.DataFrame(rows)


def test_without_a_difference_one_bar_joins_all():
    assert alike(table(), ORDER) == [(0, 3)]


def test_bars_may_overlap():
    assert alike(table(different={("a", "c"), ("a", "d"), ("b", "d")}), ORDER) == [
        (0, 1), (1, 2), (2, 3)
    ]  # fmt: skip


def test_all_different_gives_no_bar():
    assert alike(table(different=set(combinations(ORDER, 2))), ORDER) == []


def test_what_was_not_tested_is_not_joined_but_equal_models_are():
    apart = {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")}
    assert alike(table(apart, untested={("a", "b")}, equal={("c", "d")}), ORDER) == [(2, 3)]
