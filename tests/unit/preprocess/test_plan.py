"""Plans: fitted on the fold's training cases and on nothing else; nnU-Net's rule for coarse slices."""

import json
from dataclasses import replace

import numpy as np
import pytest

from segstudy.cases import Split
from segstudy.errors import InputError
from segstudy.images.plan import Plan
from segstudy.preprocess.fingerprint import Fingerprint, Intensities
from segstudy.preprocess.plan import fit, fit_intensities, target_spacing, training_cases
from segstudy.study import Preprocess


def intensities(values, limit=10_000):
    values = np.asarray(values, np.float32)
    mean = float(values.mean(dtype=float))
    squares = float(np.square(values - mean, dtype=float).sum())
    return Intensities(len(values), mean, squares, values[:limit])


def planted(case, spacing=(0.9, 0.9, 2.5), shape=(100, 90, 40), values=(10.0, 20.0), dataset="d"):
    box = ((10, 10, 0), (shape[0] - 10, shape[1] - 10, shape[2]))
    boxes = {"body": box, "nonzero": box, "none": ((0, 0, 0), shape)}
    return Fingerprint(dataset, case, spacing, shape, boxes, (intensities(values),))


def test_a_case_that_is_not_trained_on_moves_nothing():
    ordinary = [planted(f"c{n}", (0.9 + n / 100, 0.9, 2.5)) for n in range(6)]
    splits = [Split("d", f"c{n}", f"c{n}", n % 3) for n in range(6)]
    plan = fit(training_cases(ordinary, splits, 0), Preprocess(), "CT")
    crazy = {"spacing": (40.0, 0.01, 7.0), "shape": (2000, 3, 900), "values": (1e6, -1e6)}
    # The fold's own test cases, a case of `split: test`, and one of another site.
    tampered = [planted(f"c{n}", **crazy) if n % 3 == 0 else ordinary[n] for n in range(6)]
    tampered += [planted("held", **crazy), planted("c1", dataset="site2", **crazy)]
    splits += [Split("d", "held", "held", None), Split("site2", "c1", "c1", None)]
    assert fit(training_cases(tampered, splits, 0), Preprocess(), "CT") == plan
    assert fit(training_cases(tampered, splits, 1), Preprocess(), "CT") != plan


def test_a_training_case_without_fingerprint_is_named():
    splits = [Split("d", "a", "a", 0), Split("d", "b", "b", 1), Split("d", "c", "c", 1)]
    with pytest.raises(InputError, match="no fingerprint of case c of d"):
        training_cases([planted("b")], splits, 0)
    with pytest.raises(InputError, match="fold 1: no case to train on"):
        training_cases([], [Split("d", "b", "b", 1)], 1)


def test_the_spacing_is_the_median_with_three_decimals():
    cases = [planted(f"c{n}", (0.97656 + n / 1e4, 0.8, 2 + n)) for n in range(3)]
    assert fit(cases, Preprocess(), "MR").spacing_mm == (0.977, 0.8, 3)
    fixed = Preprocess(spacing_mm=(1.0, 1.0, 2.0))
    assert fit(cases, fixed, "MR").spacing_mm == (1, 1, 2)


def test_microscopes_keep_their_digits():
    assert target_spacing([(0.00345678, 0.00345678, 0.01)], [(100, 100, 90)], 3) == (
        0.00346,
        0.00346,
        0.01,
    )


@pytest.mark.parametrize(
    ("coarse", "slices", "expected"),
    [
        ([5, 6, 7, 8, 9], 20, 5.4),  # ratio 7, few slices: the 10th percentile
        ([5, 6, 7, 8, 9], 200, 7),  # as many slices as rows: the median
        ([2, 2, 2, 2, 2], 20, 2),  # ratio 2: the median
        ([0.5, 4, 7, 8, 9], 20, 1.9),  # 10th percentile 1.9
        ([0.5, 0.6, 7, 8, 9], 20, 1),  # not finer than the other axes
    ],
)
def test_very_coarse_slices(coarse, slices, expected):
    spacings = [(1.0, 1.0, float(size)) for size in coarse]
    shapes = [(200, 200, slices)] * 5
    assert target_spacing(spacings, shapes, 3)[2] == pytest.approx(expected)


def test_the_median_shape_is_of_the_cropped_cases_on_the_new_grid():
    cases = [planted(f"c{n}", (1, 1, 2), (60 + 10 * n, 50, 30)) for n in range(3)]
    plan = fit(cases, Preprocess(spacing_mm=(2, 1, 1), margin_mm=5), "MR")
    # (70 - 20 + 2 * 5) / 2, 50 - 20 + 2 * 5, 30 * 2; the head-foot margin ends at the image's.
    assert plan.median_shape == (30, 40, 60)


def test_the_modality_decides_what_auto_means():
    ct, mr = (fit([planted("a")], Preprocess(), kind) for kind in ("CT", "MR"))
    assert (ct.crop, ct.normalise, len(ct.intensities)) == ("body", "ct", 1)
    assert (mr.crop, mr.normalise, mr.intensities) == ("nonzero", "zscore", ())
    other = fit([planted("a")], Preprocess(crop="none", normalise="ct"), "MR")
    assert (other.crop, other.normalise, len(other.intensities)) == ("none", "ct", 1)


def test_intensities_are_those_of_the_pooled_foreground():
    draw = np.random.default_rng(0)
    parts = [draw.normal(50, 10, 4000), draw.normal(-100, 30, 800), draw.normal(300, 5, 12_000)]
    pooled = np.concatenate(parts).astype(np.float32).astype(float)
    found = fit_intensities(
        [*map(intensities, parts), Intensities(0, 0.0, 0.0, np.zeros(0))], (0.5, 99.5)
    )
    assert found["mean"] == pytest.approx(pooled.mean(), rel=1e-6)
    assert found["sd"] == pytest.approx(pooled.std(), rel=1e-6)
    # The last part is known by 10,000 of its 12,000 voxels; each stands for 1.2.
    assert found["low"] == pytest.approx(np.percentile(pooled, 0.5), abs=2)
    assert found["high"] == pytest.approx(np.percentile(pooled, 99.5), abs=0.5)


def test_a_small_sample_weighs_as_much_as_the_voxels_it_stands_for():
    few = Intensities(1_000_000, 0.0, 0.0, np.zeros(10, np.float32))
    many = intensities(np.full(1000, 100.0))
    found = fit_intensities([few, many], (0.5, 99.5))
    assert (found["low"], found["high"]) == (0, 0)
    assert found["mean"] == pytest.approx(1e5 / 1_001_000)


def test_no_foreground_at_all_is_refused():
    empty = Fingerprint(
        "d",
        "a",
        (1, 1, 1),
        (9, 9, 9),
        dict.fromkeys(("body", "nonzero", "none"), ((0, 0, 0), (9, 9, 9))),
        (Intensities(0, 0.0, 0.0, np.zeros(0)),),
    )
    with pytest.raises(InputError, match="no foreground in any training case"):
        fit([empty], Preprocess(), "CT")


def test_a_plan_of_some_channels_fits_theirs_in_its_own_order():
    cases = [
        replace(
            planted(f"c{n}"),
            channels=tuple(intensities([value, value + n]) for value in (0.0, 100.0, 200.0)),
        )
        for n in range(3)
    ]
    names = ("t1", "t2", "flair")
    some = fit(cases, Preprocess(channels=("flair", "t1")), "CT", names)
    whole = fit(cases, Preprocess(), "CT", names)
    assert some.channels == (2, 0) and whole.channels is None
    assert some.intensities == (whole.intensities[2], whole.intensities[0])
    assert Plan.from_dict(json.loads(json.dumps(some.to_dict()))) == some
    assert some.median_shape == whole.median_shape


@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (10, 75), (0, 100)])
def test_values_are_clipped_to_the_percentiles_asked_for(percentiles):
    """Of 1,000 values 0 to 999, two cases pooled, a percentile is ten times itself."""
    cases = [planted("even", values=range(0, 1000, 2)), planted("odd", values=range(1, 1000, 2))]
    (fitted,) = fit(cases, Preprocess(clip_percentiles=percentiles), "CT").intensities
    assert (fitted["low"], fitted["high"]) == pytest.approx(np.multiply(10, percentiles), abs=1)
