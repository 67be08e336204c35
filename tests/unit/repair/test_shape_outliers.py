"""Forms and what is learnt from planted faults: measures of known bodies, and cohorts with known truth."""

import numpy as np
import pytest
from repair_shapes import ellipsoid
from scipy import ndimage

from segstudy.images.files import Image
from segstudy.repair.audit import audit
from segstudy.repair.case_features import extract_features
from segstudy.repair.discriminants import log_odds, median
from segstudy.repair.morphology import (
    DIRECTIONAL,
    DIRECTIONS,
    GLOBAL,
    StructureCrop,
    crop_structure,
    measure_morphology,
    remove_part,
    simulate_corruptions,
)
from segstudy.repair.points import scene
from segstudy.repair.shape_outliers import find_shape_outliers

SHAPE = (40, 44, 40)
LEFT, RIGHT = 1, 2
KIDNEYS = {"left": LEFT, "right": RIGHT}


def directional(found, what, direction) -> float:
    at = int(np.argmax(DIRECTIONS @ np.array(direction, float)))
    return float(found.directional[DIRECTIONAL.index(what), at])


def box_of(mask, intensity=None, spacing=(1.0, 1.0, 1.0)) -> StructureCrop:
    intensity = mask.astype(np.float32) if intensity is None else intensity
    spacing = np.array(spacing)
    return StructureCrop(mask, ~mask, intensity[None], spacing, np.zeros(3), mask.shape * spacing)


def test_form_of_a_brick_and_of_half_of_it():
    mask = np.zeros((30, 40, 30), bool)
    mask[8:20, 8:32, 10:18] = True  # 12 x 24 x 8 voxels of 1 x 1 x 2 mm
    half = mask.copy()
    half[:, 20:] = False
    image = np.where(mask, 1, 0).astype(np.float32)
    box = box_of(mask, image, (1.0, 1.0, 2.0))
    whole, cut = measure_morphology(box, mask), measure_morphology(box, half)
    assert np.exp(whole.overall[GLOBAL.index("volume")]) == pytest.approx(12 * 24 * 8 * 2 / 1000)
    surface = 2 * (12 * 24 + 12 * 16 + 24 * 16) / (12 * 24 * 16)
    assert np.exp(whole.overall[GLOBAL.index("surface")]) == pytest.approx(surface, rel=0.15)
    extents = [np.exp(directional(whole, "width", way)) for way in np.eye(3)]
    assert extents == pytest.approx([12, 24, 16])
    assert np.exp(directional(cut, "width", (0, 1, 0))) == pytest.approx(12)
    # The image goes on beyond the cut, and ends at the other faces.
    assert (
        directional(cut, "contrast", (0, 1, 0)) < -2 < -1 < directional(cut, "contrast", (0, -1, 0))
    )
    assert directional(whole, "contrast", (0, 1, 0)) > -1
    assert directional(cut, "cap", (0, 1, 0)) > directional(whole, "cap", (0, 1, 0))


def test_where_the_grid_ends_nothing_is_known():
    label = np.zeros((20, 20, 20), np.uint8)
    label[5:15, 5:15, 12:] = 1
    box = crop_structure(label, 1, scene(Image(label[None].astype(np.float32), np.eye(4))))
    found = measure_morphology(box, box.mask)
    assert found.open.tolist() == [[False, False], [False, False], [False, True]]
    assert box.room_mm(box.mask).tolist() == [[5, 5], [5, 5], [12, 0]]
    assert box.in_grid.sum() == 20 * 20 * (
        8 + 10
    )  # twice five voxels of room, and none off the grid
    assert np.isnan(directional(found, "cap", (0, 0, 1)))
    assert np.isnan(directional(found, "width", (0, 0, 1)))
    assert np.isnan(directional(found, "width", (0, 0, -1)))
    assert np.isfinite(directional(found, "cap", (0, 0, -1)))
    assert directional(found, "room", (0, 0, -1)) == 12
    assert (
        directional(found, "reach", (0, 0, -1)) == -2.5
    )  # from the grid's middle to the last voxel's
    assert directional(found, "reach", (1, 0, 0)) == 4.5


@pytest.mark.parametrize(
    ("start", "size", "kept"),
    [(13, 3, True), (17, 3, False), (17, 6, True), (13, 1, False)],
    ids=["beside", "apart", "apart and large", "a speck"],
)
def test_what_has_a_part_in_a_form(start, size, kept):
    """A cube of 6 voxels and a smaller one: pieces of an eighth, all, or a two hundredth of its voxels."""
    label = np.zeros((30, 16, 16), np.uint8)
    label[5:11, 5:11, 5:11] = label[start : start + size, 5 : 5 + size, 5 : 5 + size] = 1
    box = crop_structure(label, 1, scene(Image(label[None].astype(np.float32), np.eye(4))))
    assert box.mask.sum() == 6**3 + (size**3 if kept else 0)


@pytest.mark.parametrize("way", ["x", "y", "z", "oblique", "ball"])
def test_a_part_is_lost_by_its_share(way):
    mask = ellipsoid(SHAPE, (20, 22, 20), (9, 12, 8))
    kept = remove_part(mask, way, 0.5, np.random.default_rng(3))
    assert not (kept & ~mask).any()
    assert kept.sum() / mask.sum() == pytest.approx(0.5, abs=0.06)


def test_the_same_label_gets_the_same_faults():
    mask = ellipsoid(SHAPE, (20, 22, 20), (6, 8, 5))
    first, second = simulate_corruptions(box_of(mask)), simulate_corruptions(box_of(mask))
    assert {kind: len(morphologies) for kind, morphologies in first.items()} == {
        "part": 5,
        "wide": 3,
        "narrow": 3,
        "extra": 2,
    }
    for kind, morphologies in first.items():
        for one, other in zip(morphologies, second[kind], strict=True):
            assert np.array_equal(one.directional, other.directional, equal_nan=True)
            assert np.array_equal(one.overall, other.overall)


def test_log_odds_of_two_normals():
    """Against the closed form: for equal unit covariances, (x - (a + b) / 2) . (b - a)."""
    draw = np.random.default_rng(0)
    right, wrong = draw.normal(size=(4000, 2)), draw.normal(size=(4000, 2)) + (3, 0)
    found = log_odds(np.array([[0.0, 0], [1.5, 5], [3, 0]]), right, wrong)
    assert found == pytest.approx([-4.5, 0, 4.5], abs=0.6)


@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_medians_leave_out_what_is_not_known(number):
    draw = np.random.default_rng(number)
    table = draw.normal(size=(number, 40))
    table[1:][draw.random((number - 1, 40)) < 0.3] = np.nan
    assert np.array_equal(median(table), np.nanmedian(table, axis=0))


# --- cohorts ------------------------------------------------------------------------------------------


def kidneys(seed: int, top: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two bodies left and right of the same size in a case, of different sizes from case to case.

    top: the field of view ends below this slice.
    """
    draw = np.random.default_rng(seed)
    size = draw.uniform(0.85, 1.15)
    label = np.zeros(SHAPE, np.uint8)
    for value, x in ((LEFT, 10), (RIGHT, 29)):
        radii = np.array([6, 8, 10]) * size * draw.uniform(0.97, 1.03, 3)
        label[ellipsoid(SHAPE, (x, 22, 20) + draw.uniform(-1, 1, 3), radii)] = value
    image = ndimage.gaussian_filter(np.where(label > 0, 100.0, 0.0), 0.7)
    image += draw.normal(0, 8, SHAPE)
    return image[..., :top], label[..., :top]


def described(case: str, image: np.ndarray, label: np.ndarray):
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    return extract_features(
        case, Image(image[None].astype(np.float32), affine), Image(label, affine), KIDNEYS
    )


@pytest.fixture(scope="module")
def sound():
    return [described(f"k{seed:02d}", *kidneys(seed)) for seed in range(14)]


def with_faults(sound, faults):
    """The cohort with the labels of some cases (an index) changed by a function."""
    cases = list(sound)
    for index, change in faults.items():
        image, label = kidneys(index)
        cases[index] = described(f"k{index:02d}", image, change(label))
    return cases


def cut_at(value, axis, share):
    def change(label):
        kept = label.copy()
        at = int(np.quantile(np.nonzero(label == value)[axis], share))
        part = np.moveaxis(kept, axis, 0)[:at]
        part[part == value] = 0
        return kept

    return change


def narrowed(value, voxels):
    def change(label):
        rim = (label == value) & (ndimage.distance_transform_edt(label == value) <= voxels)
        return np.where(rim, 0, label).astype(np.uint8)

    return change


def told(cases):
    return {(one.case, one.structure, one.fault) for one in audit(cases)}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_missing_part_is_told_with_its_side(sound, axis):
    [found] = audit(with_faults(sound, {5: cut_at(RIGHT, axis, 0.45)}))
    assert (found.case, found.structure, found.fault) == ("k05", "right", "missing_part")
    assert ("left", "back", "feet")[axis] in found.evidence.split("towards ")[1].split(",")[0]
    assert "image goes on" in found.evidence


def test_an_outline_is_told_with_its_amount(sound):
    [found] = audit(with_faults(sound, {2: narrowed(LEFT, 2)}))
    assert (found.case, found.structure, found.fault) == ("k02", "left", "outline")
    amount = float(found.evidence.split("about ")[1].split(" mm")[0])
    assert amount == pytest.approx(2 * 1.65, abs=1.0)  # two voxels of 1.5 x 1.5 x 2 mm
    assert "further out" in found.evidence


def test_a_quarter_of_the_cohort_at_fault(sound):
    faults = {1: cut_at(LEFT, 2, 0.5), 6: narrowed(RIGHT, 2), 11: cut_at(RIGHT, 1, 0.5)}
    assert told(with_faults(sound, faults)) == {
        ("k01", "left", "missing_part"),
        ("k06", "right", "outline"),
        ("k11", "right", "missing_part"),
    }


def test_a_small_pair_is_no_fault(sound):
    """Both sides of one case a fifth smaller along each axis: a small patient."""
    draw = np.random.default_rng(99)
    label = np.zeros(SHAPE, np.uint8)
    for value, x in ((LEFT, 11), (RIGHT, 29)):
        label[ellipsoid(SHAPE, (x, 22, 20), np.array([6, 8, 10]) * 0.83)] = value
    image = ndimage.gaussian_filter(np.where(label > 0, 100.0, 0.0), 0.7)
    small = described("small", image + draw.normal(0, 8, SHAPE), label)
    assert told([*sound, small]) == set()


def test_what_the_field_of_view_takes_away_is_no_missing_part(sound):
    cropped = [described(f"c{seed}", *kidneys(seed + 50, top=22)) for seed in range(2)]
    assert not {one for one in told([*sound, *cropped]) if one[2] != "cut"}


def test_nothing_is_said_of_form_in_a_small_cohort(sound):
    cases = with_faults(sound, {5: narrowed(RIGHT, 2)})[:11]
    assert not find_shape_outliers(cases, {}, {}, {})


def test_a_speck_that_is_left_is_a_size(sound):
    def speck(label):
        kept = np.where(label == LEFT, 0, label).astype(np.uint8)
        kept[10, 22, 20] = LEFT
        return kept

    assert told(with_faults(sound, {7: speck})) == {("k07", "left", "size")}


# --- tubes that the field of view cuts in every case -------------------------------------------------


def tubes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two tubes from the lowest slice to the highest, that differ in calibre and course."""
    draw = np.random.default_rng([7, seed])
    x, y, z = np.indices(SHAPE)
    label = np.zeros(SHAPE, np.uint8)
    for value, middle in ((LEFT, 11), (RIGHT, 28)):
        bend = draw.uniform(-2, 2, 2)[:, None] * np.sin(np.arange(SHAPE[2]) / draw.uniform(7, 13))
        across = np.hypot(x - middle - bend[0][z], y - 22 - bend[1][z])
        label[across < draw.uniform(3.4, 5.0)] = value
    image = ndimage.gaussian_filter(np.where(label > 0, 100.0, 0.0), 0.7)
    return image + draw.normal(0, 8, SHAPE), label


@pytest.fixture(scope="module")
def vessels():
    return [described(f"v{seed:02d}", *tubes(seed)) for seed in range(16)]


@pytest.mark.parametrize("top", [False, True])
def test_a_tube_that_ends_within_the_field_of_view_misses_a_part(vessels, top):
    image, label = tubes(3)
    part = label[..., -18:] if top else label[..., :18]
    part[part == RIGHT] = 0
    cases = [*vessels[:3], described("v03", image, label), *vessels[4:]]
    assert told(vessels) == set()
    assert told(cases) == {("v03", "right", "missing_part")}


def test_a_shorter_scan_is_no_missing_part(vessels):
    """The grid begins 18 of 40 slices higher, where all tubes always end with it."""
    image, label = tubes(3)
    assert not told(
        [*vessels[:3], described("v03", image[..., 18:], label[..., 18:]), *vessels[4:]]
    )


def test_planted_outlines_stay_at_the_end_of_the_grid():
    image, label = tubes(0)
    box = crop_structure(label, LEFT, scene(Image(image[None].astype(np.float32), np.eye(4))))
    for kind, morphologies in simulate_corruptions(box).items():
        if kind != "part":
            assert all(one.open[2].all() for one in morphologies)
    assert not all(one.open[2].all() for one in simulate_corruptions(box)["part"])
