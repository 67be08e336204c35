"""Scores of quality against values by hand: agreement, risk and coverage, conformal quantiles, shape."""

import math

import numpy as np
import pytest

from segstudy.images.files import Image
from segstudy.quality import shape
from segstudy.quality.agreement import dice_with_others, pairwise_dice, symmetric_dice
from segstudy.quality.conformal import (
    fewest_subjects,
    fit_monotone,
    fit_regression,
    subject_folds,
    subject_weights,
    upper_quantile,
)
from segstudy.quality.risk import aurc, risk_coverage


def line(*classes):
    return np.array(classes, np.uint8).reshape(-1, 1, 1)


def test_pairwise_dice_by_hand():
    one, two, three = line(1, 1, 1, 0), line(0, 1, 1, 1), line(1, 1, 0, 0)
    # |A & B| / sizes: 2*2/6, 2*2/5, 2*1/5
    assert pairwise_dice([one, two, three], 2) == pytest.approx([(4 / 6 + 4 / 5 + 2 / 5) / 3])
    assert dice_with_others(one, [two, three], 2) == pytest.approx([(4 / 6 + 4 / 5) / 2])


def test_a_class_that_members_lack():
    none, some = line(0, 0), line(0, 2)
    assert np.isnan(symmetric_dice(none, none, 3)).all()
    assert symmetric_dice(none, some, 3)[1] == 0
    # The pair of two empty ones tells nothing: mean of 0 and 0, not of 0, 0 and NaN.
    assert pairwise_dice([none, none, some], 3)[1] == 0
    assert np.isnan(pairwise_dice([none, none], 3)).all()


def test_risk_and_coverage_by_hand():
    risk, trust = [0.5, 0.1, 0.3], [0.2, 0.9, 0.4]
    assert risk_coverage(risk, trust) == pytest.approx([0.1, 0.2, 0.3])
    assert aurc(risk, trust) == pytest.approx(0.2)
    assert aurc(risk, [-one for one in trust]) == pytest.approx((0.5 + 0.4 + 0.3) / 3)


def test_equal_trust_has_no_order():
    """The mean over both orders of the tied: (0, 0.2) and (0.4, 0.2), then 1 at the end."""
    assert risk_coverage([0.0, 0.4, 1.0], [1, 1, 0]) == pytest.approx([0.2, 0.2, 1.4 / 3])
    assert aurc([0.0, 0.4], [math.nan, math.nan]) == pytest.approx(0.2)
    assert math.isnan(aurc([], []))


def test_the_conformal_quantile_has_the_correction_for_few_subjects():
    """Of n values, the ceil(0.9 (n + 1))-th smallest; none below 9."""
    for number in (9, 10, 19, 50, 99):
        values = np.random.default_rng(1).permutation(number) + 1
        expected = math.ceil(0.9 * (number + 1) - 1e-9)
        assert upper_quantile(values, np.ones(number), 0.1) == expected
    assert upper_quantile(range(8), np.ones(8), 0.1) == math.inf
    assert fewest_subjects(0.1) == 9
    assert fewest_subjects(0.05) == 19


def test_scans_of_a_subject_share_its_weight():
    subjects = ["a", "a", "b"] + [f"s{number}" for number in range(8)]
    weights = subject_weights(subjects)
    assert weights.tolist() == [0.5, 0.5] + [1.0] * 9
    # 10 subjects want 0.9 * 11 = 9.9 of them: the largest value, though it is a half.
    assert upper_quantile([9.0, 10.0, *range(9)], weights, 0.1) == 10.0
    assert upper_quantile([9.0, 10.0], [0.5, 0.5], 0.1) == math.inf


def test_monotone_regression_pools_what_falls():
    fit = fit_monotone([0, 1, 2, 3], [0.1, 0.5, 0.3, 0.9], [1, 1, 1, 1])
    assert fit.at(np.array([0, 1, 2, 3])) == pytest.approx([0.1, 0.4, 0.4, 0.9])
    assert fit.at(np.array([-5, 1.5, 2.5, 7])) == pytest.approx([0.1, 0.4, 0.65, 0.9])
    tied = fit_monotone([1, 1, 2], [0.0, 1.0, 2.0], [3, 1, 1])
    assert tied.at(1) == pytest.approx(0.25)


def test_folds_keep_subjects_together():
    subjects = [f"s{number // 2}" for number in range(46)]
    fold = subject_folds(subjects, 10, 0)
    assert (fold[::2] == fold[1::2]).all()
    assert sorted(np.bincount(fold[::2])) == [2] * 7 + [3] * 3


def test_intervals_cover_what_they_say():
    """Over 400 draws of 60 subjects and a new one, 90 % within 3 standard errors; half of it were found by a 50 % interval."""
    random = np.random.default_rng(3)
    inside = {0.1: 0, 0.5: 0}
    for _ in range(400):
        score = random.uniform(0.3, 1, 61)
        value = score**2 + random.normal(0, 0.05 + 0.1 * (1 - score))
        fitted = fit_regression(score[:60], value[:60], [f"s{n}" for n in range(60)])
        for alpha in inside:
            low, high = fitted.interval(score[60], alpha)
            inside[alpha] += low <= value[60] <= high
    for alpha, number in inside.items():
        error = math.sqrt(alpha * (1 - alpha) / 400)
        assert abs(number / 400 - (1 - alpha)) < 3 * error + 0.01


def test_too_few_subjects_have_no_interval():
    score = np.linspace(0.5, 1, 16)
    eight = fit_regression(score, score, [f"s{number // 2}" for number in range(16)])
    assert eight.interval(0.7) == (-math.inf, math.inf)
    nine = fit_regression(score[:9], score[:9], [f"s{number}" for number in range(9)])
    assert all(math.isfinite(end) for end in nine.interval(0.7))


def box_image():
    """A box of 4 x 3 x 2 voxels of 2 x 1 x 5 mm, of which one face lies at the image's border, axes to the left, front, head."""
    label = np.zeros((10, 8, 6), np.uint8)
    label[3:7, 0:3, 2:4] = 1
    brightness = np.arange(label.size, dtype=np.float32).reshape(label.shape)
    brightness[label == 1] = -1
    return Image(label, np.diag([-2.0, 1, 5, 1])), Image(brightness[None], np.diag([-2.0, 1, 5, 1]))


def test_shape_of_a_box_by_hand():
    label, image = box_image()
    found, absent = shape.describe(label, image, 3)
    volume, surface = 8 * 3 * 10, 2 * (8 * 3 + 8 * 10 + 3 * 10)
    assert absent == {"volume_ml": 0.0}
    assert found == pytest.approx(
        {
            "volume_ml": volume / 1000,
            "components": 1,
            "surface_to_volume_per_mm": surface / volume,
            "extent_x_mm": 8,
            "extent_y_mm": 3,
            "extent_z_mm": 10,
            "position_x": 0.5,
            "position_y": 1.5 / 8,
            "position_z": 0.5,
            "at_border": 1 / 3,
            "brightness": 24 / 480 / 2,
        }
    )
    assert set(found) == set(shape.FEATURES)


def test_brightness_ignores_a_change_of_contrast_that_keeps_order():
    label, image = box_image()
    changed = Image(np.exp(image.array / 100), image.affine)
    inverted = Image(-image.array, image.affine)
    (one, _), (same, _), (other, _) = (
        shape.describe(label, shown, 3) for shown in (image, changed, inverted)
    )
    assert same["brightness"] == one["brightness"]
    assert other["brightness"] == pytest.approx(1 - one["brightness"])


def test_deviation_from_the_training_range_by_hand():
    described = [{"volume_ml": v, "at_border": 0.0} for v in (1.0, 2.0, 4.0, 0.0)]
    ranges = shape.fit_ranges(described)
    assert ranges["volume_ml"].centre == pytest.approx(math.log(2))
    assert ranges["volume_ml"].scale == pytest.approx(1.4826 * math.log(2))
    assert ranges["at_border"] == shape.Range(0.0, 0.02)
    far = shape.deviations({"volume_ml": 8.0, "at_border": 0.1}, ranges)
    assert far == pytest.approx({"volume_ml": 2 / 1.4826, "at_border": 5.0})
    assert shape.deviations({"volume_ml": 0.0}, ranges) == {}
    assert shape.fit_ranges([{"volume_ml": 0.0}]) == {}
