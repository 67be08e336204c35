"""The registry of metrics: what other programs' names mean, which values can be, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy import metric
from segstudy.errors import InputError
from segstudy.metric import EXTRA, METRICS, assumed, find, find_all, key
from segstudy.metrics.measure import LATERALITY_ERROR, metric_names
from segstudy.publish.citations import REFERENCES
from segstudy.study import Metrics

# Names as the programs write them: MONAI, nnU-Net (1 and 2), medpy, surface-distance, panoptica,
# MetricsReloaded, seg-metrics, EvaluateSegmentation, TorchMetrics, evalutils, BraTS, autoPET.
NAMES = {
    "dice": "Dice dice DSC dsc dc DICE dice_score DiceCoefficient mean_dice global_bin_dsc",
    "iou": "IoU iou jaccard Jaccard jc JACRD MeanIoU JaccardCoefficient 'threat score'",
    "precision": "Precision PPV prec 'positive predictive value' PRCISON",
    "recall": "Recall sensitivity Sensitivity TPR true_positive_rate rec SNSVTY 'hit rate'",
    "specificity": "Specificity TNR 'True Negative Rate' true_negative_rate SPCFTY",
    "false_positive_rate": "'False Positive Rate' FPR fpr FALLOUT 'fall out'",
    "false_discovery_rate": "'False Discovery Rate' FDR",
    "hd_mm": "hd HD hausdorff Hausdorff hausdorff_distance 'Hausdorff Distance' HDRFDST 'HD (mm)'",
    "hd95_mm": "hd95 HD95 Hausdorff95 'Hausdorff Distance 95' hausdorff_distance_95 HDRFDST95 "
    "'HD95 (mm)' hd_95 'HD95[mm]' hausdorff_95th_percentile",
    "hd99_mm": "HD99 hausdorff_99",
    "hd95_voxel": "hd95_voxels 'HD95 [px]' hd95_vox",
    "hd95_cm": "'HD95 (cm)'",
    "assd_mm": "assd ASSD 'Avg. Symmetric Surface Distance' average_symmetric_surface_distance",
    "asd_mm": "asd ASD 'Avg. Surface Distance' average_surface_distance surface_distance msd",
    "masd_mm": "masd MASD",
    "nsd_2mm": "nsd_2mm NSD_2.0mm 'NSD @ 2 mm' surface_dice_2mm surface_dice_at_tolerance_2mm nsd_2",
    "nsd_2.5mm": "nsd_2.5mm 'NSD 2.5 mm'",
    "nsd": "NSD nsd surface_dice SurfaceDice",
    "relative_volume_error": "rvd RVD relative_volume_difference",
    "absolute_relative_volume_error": "rvae",
    "false_positive_volume": "fp_volume false_pos_vol",
    "false_positive_volume_ml": "'fp_volume (ml)'",
    "ece": "ECE 'expected calibration error'",
}


def split(text):
    """Words, and sentences in quotes."""
    import shlex

    return shlex.split(text)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(ours, name) for ours, names in NAMES.items() for name in split(names)]
)
def test_names_of_other_programs(ours, theirs):
    found = find(theirs)
    assert found.name == ours
    assert find(ours) == found


@pytest.mark.parametrize(
    "name", ["hd95", "HD95", "hausdorff", "assd", "asd", "masd", "rmse", "ece", "fp_volume", "mae"]
)
def test_less_is_better(name):
    assert find(name).direction == "lower"


def test_what_is_measured_is_known_by_its_own_name():
    names = metric_names(Metrics(nsd_tolerance_mm=(1.0, 2.5, 1e-5), slice_axis="axial"))
    assert [find(name).name for name in [*names, LATERALITY_ERROR]] == [*names, LATERALITY_ERROR]
    assert find("nsd_1e-05mm").title == "NSD at 1e-05 mm"


@pytest.mark.parametrize("known", METRICS.values(), ids=lambda known: known.name)
def test_every_entry_is_whole(known):
    assert known.title
    assert known.definition
    assert known.low < known.high
    assert not known.source or known.source in REFERENCES
    assert known.direction != "zero" or known.low < 0
    assert find(known.name) is known
    for alias in known.aliases:
        assert key(alias) == alias
        assert find(alias) is known
    assert known.quantity != "length" or known.name == f"{known.name.removesuffix('_mm')}_mm"


def test_no_name_has_two_meanings():
    names = [name for known in METRICS.values() for name in {key(known.name), *known.aliases}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["volume_similarity", "vs", "TP", "n_pred", "Dice (%)", "foo"])
def test_what_is_not_sure_is_not_known(name):
    with pytest.raises(InputError, match="not known"):
        find(name)


def test_all_unknown_names_are_named_with_the_setting():
    with pytest.raises(InputError) as error:
        find_all(["dice", "foo", "Dice (%)", "haussdorff"])
    text = str(error.value)
    assert "metrics 'foo', 'Dice (%)', 'haussdorff': not known" in text
    assert (
        '{"directions": {"foo": "higher | lower | zero", "Dice (%)": "higher | lower | zero"'
        in text
    )
    assert "divide Dice (%) by 100" in text
    assert "For 'haussdorff', did you mean hd_mm?" in text


@pytest.mark.parametrize("direction", ["higher", "lower", "zero"])
def test_a_direction_makes_a_name_known(direction):
    found = find(" My score", {"my_score": direction})
    assert (found.name, found.direction) == ("my_score", direction)
    assert found.outside(np.array([-1e9, 0.0, np.inf, np.nan, -np.inf])).tolist() == [False] * 4 + [
        True
    ]


def test_directions_that_cannot_be():
    assert find("dice", {"Dice": "higher"}).name == "dice"
    with pytest.raises(InputError, match=r"'HD95': found 'higher', but it is known as hd95_mm"):
        find("dice", {"HD95": "higher"})
    with pytest.raises(InputError, match="'foo': found 'up'; expected higher, lower, or zero"):
        find("foo", {"foo": "up"})


@pytest.mark.parametrize(
    ("name", "outside", "expected"),
    [
        ("dice", [-0.01, 1.01, 88.97, np.inf, -np.inf], "0 to 1"),
        ("hd95_mm", [-0.1, -np.inf], "0 or more"),
        ("relative_volume_error", [-1.1, -np.inf], "-1 or more"),
        ("matthews", [-1.1, 1.1], "-1 to 1"),
        ("volume_difference", [-np.inf], "a number above -inf"),
    ],
)
def test_ranges(name, outside, expected):
    known = find(name)
    assert known.outside(np.array(outside)).all()
    ends = [end for end in (known.low, known.high) if end > -math.inf]
    assert not known.outside(np.array([*ends, 0.5, np.nan])).any()
    assert known.expected == expected


def test_a_one_in_single_precision_is_in_range():
    assert not find("dice").outside(np.array([1 + 2**-23])).any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hd95", "taken to be in mm"),
        ("hausdorff_distance", "taken to be in mm"),
        ("hd95_mm", ""),
        ("HD95 (mm)", ""),
        ("hd95_voxels", ""),
        ("nsd_2", "tolerance is taken to be in mm"),
        ("nsd_2mm", ""),
        ("Dice", ""),
        ("fp_volume", "unit is not said"),
        ("fp_volume_ml", ""),
        ("foo", ""),
    ],
)
def test_what_is_taken_for_granted_is_said(name, said):
    assert (said in assumed(name)) if said else assumed(name) == ""


@given(st.text(max_size=30))
def test_any_name_is_found_or_refused(name):
    try:
        found = find(name)
    except InputError:
        return
    # Its own name is known too, and means the same.
    assert find(found.name) == found
    assert metric.assumed(found.name) in ("", metric.assumed(name))


def test_a_signed_distance_is_minus_infinity_where_nothing_was_predicted():
    known = find("signed_surface_distance_mm")
    assert known.worst == -np.inf
    assert not known.outside(np.array([-np.inf, np.inf, -3.0])).any()
    assert known.compared(-3.0) == 3 and find("dice").compared(-3.0) == -3


def test_nothing_is_assumed_of_what_segstudy_itself_measures():
    """Its own tables say tolerance and unit, so that reading one warns of nothing."""
    settings = Metrics(
        extra=EXTRA, lesions="panoptica", nsd_tolerance_of={"a": 2}, nsd_tolerance_mm=[0.5, 3]
    )
    names = [*metric_names(settings, "a"), *metric.OF_PROBABILITIES, *metric.DESCRIPTIVE]
    assert metric.NSD_BY_STRUCTURE in names
    assert {name: assumed(name) for name in names} == dict.fromkeys(names, "")
