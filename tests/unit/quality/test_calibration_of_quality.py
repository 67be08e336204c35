"""A calibration of made scans: intervals, flags with their reasons, the record, and where there is none."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from segstudy.errors import InputError
from segstudy.quality.calibration import (
    Calibration,
    Described,
    HeldOut,
    calibrate,
    from_record,
    judge,
    to_record,
    training_ranges,
)

NAMES = ("liver", "spleen")


def scans(number, seed=0, per_subject=1):
    """Dice is the agreement with an error of 0.02 or so, volumes lie about 10 mL and are 5 % off."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(number):
        agreement = {name: random.uniform(0.7, 0.95) for name in NAMES}
        volume = {name: 10 * math.exp(random.normal(0, 0.1)) for name in NAMES}
        found.append(
            HeldOut(
                f"case_{index}",
                f"s{index // per_subject}",
                {name: Described(agreement[name], features(volume[name])) for name in NAMES},
                {name: agreement[name] + random.normal(0, 0.02) for name in NAMES},
                {name: math.exp(random.normal(0, 0.05)) for name in NAMES},
            )
        )
    return found


def features(volume_ml, components=1.0):
    return {"volume_ml": volume_ml, "components": components}


def fitted(number=60, **settings) -> Calibration:
    random = np.random.default_rng(9)
    volumes = 10 * np.exp(random.normal(0, 0.1, 80))
    ranges = training_ranges({name: [features(v) for v in volumes] for name in NAMES})
    return calibrate("unet", "seeds", ranges, scans(number, **settings))


def predicted(agreement=0.85, volume_ml=10.0, components=1.0):
    usual = Described(0.85, features(10.0))
    return {"liver": usual, "spleen": Described(agreement, features(volume_ml, components))}


def test_a_usual_scan_has_intervals_and_no_flag():
    liver, spleen = judge(predicted(), fitted(), "seeds")
    assert (liver.structure, spleen.structure) == NAMES
    for one in (liver, spleen):
        assert not one.flagged
        assert one.reason == ""
        assert one.dice == pytest.approx(0.85, abs=0.03)
        assert 0 <= one.dice_low < one.dice < one.dice_high <= 1
        # 1.64 SD of 0.05 on either side
        assert one.volume_low_ml == pytest.approx(10 * math.exp(-0.082), rel=0.04)
        assert one.volume_low_ml * one.volume_high_ml == pytest.approx(100)


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (predicted(agreement=0.2), "spleen: agreement 0.20"),
        (predicted(volume_ml=50.0), "spleen: volume 50 mL; expected "),
        (predicted(components=30.0), "spleen: number of connected parts 30"),
        (predicted(agreement=math.nan, volume_ml=0.0), "spleen: no voxel was predicted"),
    ],
)
def test_a_scan_apart_is_flagged_with_its_reason_and_has_no_interval(scan, words):
    for one in judge(scan, fitted(), "seeds"):
        assert one.flagged
        assert one.reason.startswith(words)
        assert all(map(math.isnan, (one.dice, one.dice_low, one.volume_low_ml)))


def test_flags_of_scans_like_the_calibration_are_one_in_twenty():
    calibration = fitted(200)
    new = scans(2000, seed=5)
    flagged = sum(judge(scan.structures, calibration, "seeds")[0].flagged for scan in new)
    assert 0.02 < flagged / 2000 < 0.09


def test_few_subjects_do_not_make_for_more_flags():
    """Limits of many features that a scan took part in would hold for it alone, and new scans be flagged for nothing."""
    flagged = []
    for seed in range(12):
        calibration = fitted(25, seed=seed)
        flagged += [
            judge(scan.structures, calibration, "seeds")[0].flagged
            for scan in scans(60, seed=100 + seed)
        ]
    assert np.mean(flagged) < 0.08


@pytest.mark.parametrize("number", [19, 20])
def test_flags_just_above_nineteen_subjects(number):
    """A part of them is below nineteen, and its limits are measured in the same unit."""
    flagged, ranges = [], fitted(9).structures
    for seed in range(6):
        calibration = calibrate("unet", "", ranges, scans(number, seed=seed))
        assert calibration.limit is not None
        flagged += [
            judge(scan.structures, calibration, "")[0].flagged
            for scan in scans(60, seed=100 + seed)
        ]
    assert np.mean(flagged) < 0.1


def test_scans_that_lack_a_structure_make_no_flags_of_others():
    """One in ten lacks one, and is flagged for that; of the others still one in twenty is."""
    usual = scans(100)
    lacking = {**usual[0].structures, "spleen": Described(math.nan, {"volume_ml": 0.0})}
    some = [replace(one, structures=lacking) if n % 10 == 0 else one for n, one in enumerate(usual)]
    calibration = calibrate("unet", "", fitted(9).structures, some)
    assert judge(lacking, calibration, "")[0].reason.startswith("spleen: no voxel")
    new = scans(400, seed=5)
    flagged = np.mean([judge(one.structures, calibration, "")[0].flagged for one in new])
    assert flagged < 0.1


def test_of_no_label_nothing_is_known():
    """Neither what all labels have, so that nothing is missing."""
    calibration = calibrate("unet", "seeds", training_ranges(dict.fromkeys(NAMES, ())), [])
    none = {name: Described(math.nan, {"volume_ml": 0.0}) for name in NAMES}
    assert not judge(none, calibration, "seeds")[0].flagged


def test_real_dice_and_volume_lie_in_nine_of_ten_intervals():
    """Of the scans that are not flagged, averaged over several calibrations."""
    inside = {"dice": [], "volume": []}
    for seed in range(10):
        calibration = fitted(100, seed=seed)
        for scan in scans(100, seed=100 + seed):
            for one in judge(scan.structures, calibration, "seeds"):
                if not one.flagged:
                    real, ratio = scan.dice[one.structure], scan.volume_ratio[one.structure]
                    inside["dice"].append(one.dice_low <= real <= one.dice_high)
                    volume = ratio * one.volume_ml
                    inside["volume"].append(one.volume_low_ml <= volume <= one.volume_high_ml)
    assert np.mean(inside["dice"]) == pytest.approx(0.9, abs=0.025)
    assert np.mean(inside["volume"]) == pytest.approx(0.9, abs=0.025)


def test_below_nine_subjects_there_is_no_interval():
    calibration = fitted(16, per_subject=2)
    assert calibration.subjects == 8
    assert "8 subjects" in calibration.reason
    assert math.isnan(judge(predicted(), calibration, "seeds")[0].dice)
    assert fitted(9).reason == ""
    assert math.isfinite(judge(predicted(), fitted(9), "seeds")[0].dice_low)


def test_below_nineteen_subjects_limits_are_those_without_calibration():
    """A flag with 5 % of false alarms needs 19 subjects; five robust SD flag before."""
    calibration = fitted(12)
    assert calibration.limit is None
    assert judge(predicted(volume_ml=50.0), calibration, "seeds")[0].flagged
    assert not judge(predicted(volume_ml=12.0), calibration, "seeds")[0].flagged


def test_another_agreement_tells_no_dice():
    one = judge(predicted(agreement=0.2), fitted(), "perturbed")[1]
    assert math.isnan(one.dice)
    assert not one.flagged
    assert one.volume_low_ml < 10 < one.volume_high_ml


def test_the_record_holds_all(tmp_path):
    calibration = fitted()
    record = json.loads(json.dumps(to_record(calibration), allow_nan=False))
    assert from_record(record, "quality.json") == calibration
    again = judge(predicted(), from_record(record, "quality.json"), "seeds")
    assert again == judge(predicted(), calibration, "seeds")


@pytest.mark.parametrize("key", ["fold", "residuals", "weights", "folds", "fit"])
def test_a_damaged_calibration_is_refused(key):
    record = json.loads(json.dumps(to_record(fitted())))
    dice = record["structures"]["liver"]["dice"]
    if key == "fit":
        dice[key]["scores"] = dice[key]["scores"][1:]
    else:
        dice[key] = dice[key][1:]
    with pytest.raises(InputError, match=r"unet\.json: damaged"):
        from_record(record, "unet.json")


@pytest.mark.parametrize("spoiled", [{}, {"format": "segstudy quality 1"}, {"format": "other"}])
def test_what_is_no_calibration_is_refused(spoiled):
    with pytest.raises(InputError, match=r"quality\.json: "):
        from_record(spoiled, "quality.json")


def test_order_of_scans_is_no_matter():
    ranges = dict(fitted().structures)
    some = scans(30)
    assert calibrate("m", "seeds", ranges, some) == calibrate("m", "seeds", ranges, some[::-1])
