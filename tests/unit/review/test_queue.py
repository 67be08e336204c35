"""Faults planted in one case of a cohort: they come first, with the right reason and place; what is unsure sinks."""

import dataclasses
import math

import numpy as np
import pytest
from planted_faults import PLANTED, seen, truth

from segstudy.images.files import Image
from segstudy.review.queue import FINDINGS, draw_controls, rank, review_order, scale
from segstudy.review.scores import score_case

NAMES = ["heart", "aorta"]
CASES = 12


def judged(index: int, label: np.ndarray, roughness: float = 0.12):
    draw = np.random.default_rng([index, 1])
    votes = [seen(truth(index), draw, roughness) for _ in range(3)]
    return score_case(Image(label, np.diag([1.5, 1.5, 1.5, 1.0])), votes, NAMES)


@pytest.fixture(scope="module")
def cohort():
    return {f"p{index:02d}": judged(index, truth(index)) for index in range(CASES)}


@pytest.mark.parametrize("finding", PLANTED)
def test_a_planted_fault_comes_first_with_its_reason(cohort, finding):
    label = PLANTED[finding](truth(5))
    found = rank({**cohort, "p05": judged(5, label)})
    first, second = list(found)[:2]
    assert first == "p05"
    assert found[first].score > 1.5 * found[second].score
    assert found[first].finding == finding, found[first].reason
    i, j, k = found[first].voxel
    assert label[i, j, k] != truth(5)[i, j, k] or finding in ("swapped", "shifted")


@pytest.mark.parametrize(
    ("finding", "structure", "said"),
    [
        ("too_wide", "heart", "further out than models have it"),
        ("missing_part", "heart", "% of what models see in one piece"),
        ("extra_part", "aorta", "a part of its own"),
        ("swapped", "heart+aorta", "heart fits aorta, aorta fits heart"),
        ("shifted", None, "all of the label lies 7.5 mm off, most of it along j"),
        ("other_scan", None, "no structure fits what models see"),
    ],
)
def test_reasons_name_structure_and_amount(cohort, finding, structure, said):
    one = rank({**cohort, "p05": judged(5, PLANTED[finding](truth(5)))})["p05"]
    assert said in one.reason
    assert structure in (None, one.structure)


def test_nothing_stands_out_in_a_sound_cohort(cohort):
    found = rank(cohort)
    assert sum(one.finding == "nothing" for one in found.values()) >= CASES - 2
    assert max(one.score for one in found.values()) < 6
    assert {one.finding for one in found.values()} <= FINDINGS.keys()


def test_the_same_difference_counts_less_where_models_disagree(cohort):
    label = PLANTED["missing_part"](truth(5))
    sure = judged(5, label)
    unsure = dataclasses.replace(
        sure,
        structures={
            name: dataclasses.replace(one, models_dice=0.5) for name, one in sure.structures.items()
        },
    )
    assert (
        rank({**cohort, "p05": unsure})["p05"].score
        < 0.6 * rank({**cohort, "p05": sure})["p05"].score
    )


def test_a_structure_that_models_do_not_know_does_not_drown_one_that_they_do(cohort):
    """Where no model finds the aorta, a label that touches what they take for it by chance is no fault."""
    unknown = {
        name: dataclasses.replace(
            one,
            structures={
                **one.structures,
                "aorta": dataclasses.replace(
                    one.structures["aorta"],
                    dice=0.0,
                    boundary_mm=math.nan,
                    p95_mm=math.nan,
                    models_dice=math.nan,
                    missing_share=0.0,
                    extra_share=1.0,
                    # In each third case a few voxels are there.
                    apart_share=1.0 if int(name[1:]) % 3 == 0 else 0.0,
                ),
            },
        )
        for name, one in {**cohort, "p05": judged(5, PLANTED["missing_part"](truth(5)))}.items()
    }
    found = rank(unknown)
    first, second = list(found)[:2]
    assert (first, found[first].finding) == ("p05", "missing_part"), found[first].reason
    assert found[first].score > 1.5 * found[second].score


def test_an_easy_structure_does_not_drown_a_hard_one(cohort):
    """A loss of 0.05 counts in a structure whose Dice varies by 0.005, and one of 0.05 in a rough one does not."""

    def with_dice(name: str, heart: float, aorta: float):
        structures = {
            "heart": dataclasses.replace(cohort[name].structures["heart"], dice=heart),
            "aorta": dataclasses.replace(cohort[name].structures["aorta"], dice=aorta),
        }
        return dataclasses.replace(cohort[name], structures=structures)

    steps = np.linspace(-1, 1, CASES)
    cases = {
        name: with_dice(name, 0.95 + 0.005 * step, 0.7 + 0.1 * step)
        for name, step in zip(cohort, steps, strict=True)
    }
    cases["p05"] = with_dice("p05", 0.80, 0.7)
    cases["p06"] = with_dice("p06", 0.95, 0.59)
    found = rank(cases)
    assert found["p05"].by_structure["heart"] > found["p06"].by_structure["aorta"]


def test_a_finding_of_the_audit_raises_a_case_and_is_told(cohort):
    before = rank(cohort)
    last = list(before)[-1]
    after = rank(cohort, {last: [("aorta", "stray: 2 parts")]})
    assert after[last].score == pytest.approx(before[last].score + 3)
    assert "the audit found: aorta: stray: 2 parts" in after[last].reason
    assert list(after).index(last) < CASES - 1


def test_a_score_that_some_sound_cases_have_is_usual():
    """Of 20 labels, 16 have no part of their own and 4 have one of a size: the tail tells the spread, where the median deviation is 0."""
    spread = scale([0.0] * 16 + [0.1] * 4, 0.004)
    assert spread.centre == 0
    assert spread.above(0.1) == pytest.approx(1.036)


def test_scales_are_robust_and_never_narrower_than_their_floor():
    assert scale([1.0, 1.0, 1.0, 50.0], 0.1).spread == 0.1
    spread = scale([0.0, 1.0, 2.0, 3.0, math.nan], 0.1)
    assert (spread.centre, spread.spread) == (1.5, pytest.approx(1.4826))
    assert spread.above(-5) == 0 and spread.above(math.nan) == 0
    assert scale([], 0.5).apart(0.25) == 0.5


def test_controls_are_drawn_once_and_the_same():
    names = [f"p{index}" for index in range(50)]
    drawn = draw_controls(names, 10, 3)
    assert drawn == draw_controls(reversed(names), 10, 3)
    assert len(set(drawn)) == 10 and set(drawn) <= set(names)
    assert drawn != draw_controls(names, 10, 4)
    assert draw_controls(names[:3], 10, 0) == sorted(names[:3])
    assert draw_controls([], 5, 0) == []
    counts = dict.fromkeys(names, 0)
    for seed in range(400):
        for name in draw_controls(names, 10, seed):
            counts[name] += 1
    assert min(counts.values()) > 40 and max(counts.values()) < 125  # 80 expected of each


def test_controls_stand_at_random_places_and_the_queue_keeps_its_rank():
    ranked, controls = [f"q{index:02d}" for index in range(20)], ["c0", "c1", "c2"]
    order = review_order(ranked, controls, 7)
    assert [name for name in order if name in ranked] == ranked
    assert sorted(order) == sorted(ranked + controls)
    assert order != review_order(ranked, controls, 8)
    assert review_order([], [], 0) == []


def test_an_empty_cohort_has_no_queue():
    assert rank({}) == {}
