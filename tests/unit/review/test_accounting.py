"""Results under two labels, side by side, against values worked out by hand."""

import math

import pandas as pd
import pytest

from segstudy import correction_records as records
from segstudy.correction_records import Correction
from segstudy.errors import InputError
from segstudy.review import accounting
from segstudy.review.fault_rate import Stratum, clopper_pearson, fault_rate


def on_record(case: str, action: str, picked_by: str = "queue", **changed) -> Correction:
    return Correction("d", case, ({"action": action, "picked_by": picked_by, "changed": changed},))


# --- the exact interval -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faulty", "n", "low", "high"),
    [
        (0, 20, 0.0, 1 - 0.025 ** (1 / 20)),  # closed form; 0 to 16.8 %
        (20, 20, 0.025 ** (1 / 20), 1.0),
        (1, 1, 0.025, 1.0),
        (4, 20, 0.0573, 0.4366),  # table of Clopper and Pearson
    ],
)
def test_the_interval_of_a_proportion_is_exact(faulty, n, low, high):
    assert clopper_pearson(faulty, n) == pytest.approx((low, high), abs=5e-5)


def test_a_clean_sample_alone_leaves_the_others_up_to_17_percent():
    rate = fault_rate([Stratum("all", 1000, 20, 0)])
    assert (rate.estimate, rate.low) == (0, 0)
    assert rate.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_strata_are_weighted_and_what_was_reviewed_whole_is_known():
    """8 of 10 picked are faulty, 1 of 20 sampled of the other 90: 8 + 90 / 20 faulty of 100."""
    rate = fault_rate([Stratum("picked", 10, 10, 8), Stratum("others", 90, 20, 1)])
    low, high = clopper_pearson(1, 20)
    assert rate.estimate == pytest.approx(0.08 + 0.9 / 20)
    assert rate.high == pytest.approx(0.08 + 0.9 * high)
    assert rate.low == pytest.approx(0.08 + max(0.9 * low, 0.01))  # one is certain


def test_two_samples_share_the_level():
    rate = fault_rate([Stratum("a", 50, 10, 0), Stratum("b", 50, 10, 0)])
    assert rate.high == pytest.approx(1 - 0.0125 ** (1 / 10))


def test_where_nothing_was_sampled_only_bounds_are_known():
    rate = fault_rate([Stratum("picked", 10, 10, 5), Stratum("others", 90, 0, 0)])
    assert (rate.estimate, rate.low, rate.high) == (None, 0.05, pytest.approx(0.95))
    with pytest.raises(InputError, match="6 faulty of 5"):
        Stratum("x", 10, 5, 6)


def test_cases_are_strata_by_how_they_came_to_be_reviewed():
    reviewed = {
        "a": on_record("a", "corrected"),
        "b": on_record("b", "unchanged"),
        "c": on_record("c", "unchanged", "control"),
        "d": on_record("d", "corrected", "control"),
        "e": on_record("e", "taken back"),
    }
    queue = {"a": "queue", "b": "queue", "f": "queue", "c": "control", "d": "control"}
    parts = accounting.strata(list("abcdefghij"), reviewed, queue)
    assert [(one.size, one.reviewed, one.faulty) for one in parts] == [
        (2, 2, 1),
        (1, 0, 0),
        (7, 2, 1),
    ]
    table = accounting.faults({"d": list("abcdefghij")}, {"d": reviewed}, {"d": queue})
    whole = table[table["stratum"] == "all"].iloc[0]
    assert (whole["n_cases"], whole["n_reviewed"], whole["n_faulty"]) == (10, 4, 2)
    assert math.isnan(whole["rate"])  # one that was picked waits
    assert whole["low"] <= 0.2 <= whole["high"]


def test_a_case_of_the_first_queue_that_a_later_sample_draws_counts_as_picked():
    reviewed = {
        "a": on_record("a", "corrected", "control"),
        "b": on_record("b", "unchanged", "control"),
    }
    parts = accounting.strata(list("abcd"), reviewed, {"a": "queue", "b": "control"})
    assert [(one.size, one.reviewed, one.faulty) for one in parts] == [(1, 1, 1), (3, 1, 0)]


# --- which labels count -------------------------------------------------------------------------


def headline(reviewed: list[Correction], queue: dict[str, str], cases="abcd") -> str:
    found = {one.case: one for one in reviewed}
    return records.headline("d", cases, found, queue)[0]


def test_the_old_labels_count_unless_all_or_a_random_sample_was_reviewed():
    right = [on_record(case, "unchanged") for case in "abc"]
    assert headline([on_record("a", "corrected")], {}) == "delivered"
    assert headline([*right, on_record("d", "corrected")], {}) == "corrected"
    assert headline(right, {}) == "delivered"
    assert headline(right, {"b": "control", "c": "control"}) == "delivered"
    assert headline([*right, on_record("d", "taken back")], {}) == "delivered"


@pytest.mark.parametrize(("drawn", "labels"), [(1, "delivered"), (19, "delivered"), (20, "corrected")])  # fmt: skip
def test_a_random_sample_counts_from_twenty_cases_on(drawn, labels):
    """0 faulty of 20 leaves up to 17 % (Clopper and Pearson), as docs/review.md says."""
    cases = [f"case{number}" for number in range(60)]
    sample = dict.fromkeys(cases[:drawn], "control")
    reviewed = [on_record(case, "unchanged") for case in sample]
    assert headline(reviewed, sample, cases) == labels
    assert headline(reviewed[:-1], sample, cases) == "delivered"
    # A case of the queue waits: its label would stand among corrected ones as it was delivered.
    assert headline(reviewed, {**sample, "z": "queue"}, [*cases, "z"]) == "delivered"
    assert (
        headline([*reviewed, on_record("z", "corrected")], {**sample, "z": "queue"}, [*cases, "z"])
        == labels
    )
    reason = records.headline("d", cases, {one.case: one for one in reviewed}, sample)[1]
    assert ("at least 20 are asked for" in reason) == (drawn < 20)
    assert pytest.approx(0.168, abs=5e-4) == 1 - 0.025 ** (1 / 20)
    assert pytest.approx(0.522, abs=5e-4) == 1 - 0.025 ** (1 / 5)


# --- tables -------------------------------------------------------------------------------------


def measures(values: dict[tuple[str, str], float], **more: str) -> pd.DataFrame:
    """Dice of a structure by model and case."""
    fixed = {"dataset": "d", "fold": "0", "seed": "0", "structure": "s", "metric": "dice"}
    rows = [
        {**fixed, "model": model, "case": case, "value": value, **more}
        for (model, case), value in values.items()
    ]
    return pd.DataFrame(rows)


def test_corrected_cases_are_measured_under_the_label_asked_for_and_others_stay():
    metrics = measures({("m", "a"): 0.5, ("m", "b"): 0.7, ("n", "a"): 0.6})
    corrected = pd.concat(
        [
            measures({("m", "a"): 0.5, ("n", "a"): 0.6}, labels="delivered"),
            measures({("m", "a"): 0.9, ("n", "a"): 0.4}, labels="corrected"),
        ]
    )
    assert accounting.with_labels(metrics, corrected, {"d": "corrected"})["value"].tolist() == [
        0.9,
        0.7,
        0.4,
    ]
    back = accounting.with_labels(
        accounting.with_labels(metrics, corrected, {"d": "corrected"}),
        corrected,
        {"d": "delivered"},
    )
    assert back["value"].tolist() == metrics["value"].tolist()


def test_datasets_whose_headline_differs_are_sorted_by_labels():
    own = pd.DataFrame({"dataset": ["a", "b"], "value": [1, 2]})
    other = pd.DataFrame({"dataset": ["a", "b"], "value": [3, 4]})
    found = accounting.by_labels(own, other, {"a": "delivered", "b": "corrected"})
    assert dict(found["delivered"].values) == {"a": 1, "b": 4}
    assert dict(found["corrected"].values) == {"a": 3, "b": 2}


def test_test_labels_and_training_labels_are_told_apart():
    old, new = "delivered", "corrected"
    before = {
        old: measures({("m", "a"): 0.5, ("m", "b"): 0.7}),
        new: measures({("m", "a"): 0.6, ("m", "b"): 0.7}),
    }
    now = {
        old: measures({("m", "a"): 0.4, ("m", "b"): 0.9}),
        new: measures({("m", "a"): 0.8, ("m", "b"): 0.9}),
    }
    row = accounting.effects(before, now).iloc[0]
    assert row["n_cases"] == 2
    assert row["by_test_labels"] == pytest.approx(0.05)
    assert row["by_training_labels"] == pytest.approx(0.2)
    assert accounting.effects(None, now).empty


def test_places_won_and_lost_are_told():
    def ranking(first: float, second: float) -> pd.DataFrame:
        keys = {"dataset": "d", "structure": "s", "metric": "dice"}
        return pd.DataFrame(
            [{**keys, "model": m, "mean_rank": r} for m, r in (("m", first), ("n", second))]
        )

    found = accounting.rank_changes(
        {"delivered": ranking(1.4, 1.6), "corrected": ranking(1.8, 1.2)}
    )
    assert found["moved"].tolist() == [-1, 1]
    assert found["place_delivered"].tolist() == [1, 2]


def test_changed_cases_and_voxels_are_shares_of_the_old_labels():
    reviewed = {
        "a": on_record("a", "corrected", s={"added": 30, "removed": 10, "old": 100, "new": 120}),
        "b": on_record("b", "unchanged"),
        "c": on_record("c", "taken back", s={"added": 9, "removed": 9, "old": 9, "new": 9}),
    }
    table = accounting.changes({"d": {"": 4, "s": 400, "t": 50}}, {"d": reviewed})
    s, t = table.to_dict("records")
    assert (s["n_reviewed"], s["n_corrected"], s["n_changed"]) == (2, 1, 1)
    assert (s["share_of_cases"], s["share_of_voxels"]) == (0.25, 0.1)
    assert (t["n_changed"], t["share_of_voxels"]) == (0, 0)


def test_the_methods_text_says_what_was_reviewed_and_which_labels_count():
    changed = accounting.changes(
        {"d": {"": 10, "s": 400}},
        {
            "d": {
                "a": on_record(
                    "a", "corrected", s={"added": 30, "removed": 10, "old": 100, "new": 120}
                )
            }
        },
    )
    found = accounting.faults(
        {"d": list("abcdefghij")}, {"d": {"a": on_record("a", "corrected")}}, {"d": {}}
    )
    ranks = pd.DataFrame({"moved": [0, 0]})
    counted = {"d": ("delivered", "few were reviewed")}
    told = " ".join(accounting.sentences(changed, found, ranks, counted, 0.05))
    assert (
        "Of 10 labels of d, 1 was reviewed by hand and 1 corrected: s in 1 case (10.0% of its voxels)."
        in told
    )
    assert "under the labels as delivered, since few were reviewed" in told
    assert "between 10.0% and 100.0%" in told
