"""Which voxel sizes stand out of a cohort: wrong units do, the differences of real scanners don't."""

import numpy as np
import pytest

from segstudy.images.grids import Grid
from segstudy.images.size_outliers import (
    Size,
    find_size_outliers,
    image_size,
    is_size_outlier,
    outlier_text,
)

CT = ((512, 512, 120), (0.8, 0.8, 3.0))


def size(shape, spacing_mm) -> Size:
    return image_size(Grid(shape, np.diag([*spacing_mm, 1.0])))


SOUND = {
    "thin slices": ((512, 512, 800), (0.6, 0.6, 0.45)),
    "thick slices": ((512, 512, 40), (0.98, 0.98, 10)),
    "a small field of view": ((512, 512, 60), (0.2, 0.2, 0.6)),
    "the whole body": ((512, 512, 1300), (1.52, 1.52, 1.5)),
    "PET": ((144, 144, 300), (5.3, 5.3, 3.3)),
    "a crop": ((40, 40, 12), (0.8, 0.8, 3)),
    "a preview": ((32, 32, 20), (12.8, 12.8, 18)),
    "one slice": ((512, 512, 1), (0.8, 0.8, 3)),
    "micro-MR of the same organ": ((1600, 1600, 800), (0.08, 0.08, 0.08)),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_real_scanners_make_is_in_proportion(name):
    assert outlier_text(size(*SOUND[name]), size(*CT), "the others") == ""
    assert outlier_text(size(*CT), size(*SOUND[name]), "the others") == ""


@pytest.mark.parametrize("factor", [10, 25.4, 100, 1000, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("other", [CT, SOUND["thin slices"], ((320, 320, 60), (0.6, 0.6, 4))])
def test_a_wrong_unit_stands_out(factor, other):
    shape, spacing_mm = other
    wrong = size(shape, np.multiply(spacing_mm, factor))
    told = outlier_text(wrong, size(*other), "the median of 6 cases")
    assert "the median of 6 cases: voxels of" in told
    assert "wrong unit" in told


def test_one_axis_alone_can_stand_out():
    assert is_size_outlier(size((512, 512, 120), (0.8, 0.8, 300)), size(*CT))
    assert is_size_outlier(size((512, 512, 120), (0.8, 0.8, 0.03)), size(*CT))


def test_axes_are_compared_by_where_they_point():
    turned = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) @ np.diag(
        [30.0, 1, 1, 1]
    )
    found = image_size(Grid((10, 200, 300), turned))
    assert found == Size((1, 1, 30), (200.0, 300.0, 300.0)) or found.spacing_mm.count(30) == 1
    assert found.extent_mm[found.spacing_mm.index(30)] == 300


def cohort(*groups):
    """Sizes by name of groups (number of cases, shape, spacing in mm)."""
    names = iter("abcdefghijklmnop")
    return {next(names): size(*one) for number, *one in groups for _ in range(number)}


SHAPE = (90, 90, 40)


@pytest.mark.parametrize("fine", [(0.1, 0.1, 0.1), (0.1, 0.1, 0.3)])
@pytest.mark.parametrize("numbers", [(2, 2), (1, 1), (3, 2), (2, 3), (10, 6)])
def test_a_cohort_of_two_sizes_is_refused_whole(fine, numbers):
    """The mean of both is a size that no case has: it would spare the wrong ones."""
    coarse = (100.0, 100, 100) if fine[2] == 0.1 else (1.0, 1, 3)
    sizes = cohort((numbers[0], SHAPE, fine), (numbers[1], SHAPE, coarse))
    told = find_size_outliers(sizes)
    assert set(told) == set(sizes)
    (text,) = set(told.values())
    assert f"voxels of {'x'.join(f'{one:g}' for one in fine)} mm" in text
    assert f"voxels of {'x'.join(f'{one:g}' for one in coarse)} mm" in text
    assert "50.05" not in text
    assert "a" in text.partition("unit: ")[2].partition(" and ")[0]


@pytest.mark.parametrize("factor", [10, 25.4, 1000, 0.1, 0.001])
@pytest.mark.parametrize("numbers", [(2, 1), (5, 2), (10, 5), (15, 1)])
def test_a_minority_stands_out_alone(factor, numbers):
    wrong = tuple(np.multiply((0.8, 0.8, 3), factor))
    sizes = cohort((numbers[0], *CT), (numbers[1], CT[0], wrong))
    told = find_size_outliers(sizes)
    assert list(told) == list(sizes)[numbers[0] :]
    assert all("cases, e.g. a: voxels of 0.8x0.8x3 mm" in text for text in told.values())


def test_a_mixed_but_sound_cohort_passes():
    assert find_size_outliers(cohort(*((1, *one) for one in SOUND.values()), (2, *CT))) == {}
    assert find_size_outliers(cohort((1, *CT))) == {}
    assert find_size_outliers({}) == {}
