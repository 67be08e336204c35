"""Voxel sizes without the rounding of headers, and grids on which no distance can be measured."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images.files import Image, read_grid, read_image, read_label, write_nifti
from segstudy.images.geometry import reorient
from segstudy.images.grids import Grid, cleaned, compare_grids, unusable
from segstudy.metrics.measure import measure
from segstudy.study import MeasureSettings

SHAPE = (9, 8, 10)
decimals = st.integers(100, 9999).map(lambda number: number / 1000)  # 0.1 to 9.999 mm
angles = st.tuples(*[st.floats(-180, 180)] * 3)
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(size=decimals, angles_deg=angles)
def test_a_voxel_size_survives_float32_in_any_direction(size, angles_deg):
    axes = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() * size
    affine = np.eye(4)
    affine[:3, :3] = np.float32(axes)
    assert Grid(SHAPE, affine).spacing_mm == (size, size, size)


@given(size=st.floats(1e-4, 1e3))
def test_a_voxel_size_is_changed_by_no_more_than_float32_loses(size):
    assert cleaned(size) == pytest.approx(size, rel=2.0**-22)


@pytest.mark.parametrize("size", [0.9765625, 0.7421875, 1.171875, 0.43456789012, 1 / 3])
def test_what_is_no_short_decimal_number_stays_what_it_is(size):
    assert cleaned(size) == pytest.approx(size, rel=1.5e-7)
    assert cleaned(float(np.float32(size))) == pytest.approx(cleaned(size), rel=3e-7)


def test_sizes_of_no_grid_are_left_alone():
    assert [cleaned(size) for size in (0.0, np.inf)] == [0.0, np.inf]


def save(path, array, affine):
    """As each format's own library writes it: NIfTI in float32, ITK's formats in double precision."""
    if path.name.endswith(".nii.gz"):
        write_nifti(path, array, affine)
        return
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1, 1]) @ affine[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps / spacing).ravel().tolist())
    image.SetOrigin((affine[:3, 3] * (-1, -1, 1)).tolist())
    SimpleITK.WriteImage(image, str(path))


def distances(reference, prediction, spacing_mm, surface):
    chosen = {"surface": surface, "nsd_tolerance_mm": sorted({2.0, *spacing_mm})}
    metrics = MeasureSettings.model_validate({"metrics": chosen}).metrics
    (found,) = measure(
        reference.array, prediction.array, reference.spacing_mm, {"a": (1,)}, metrics
    )
    return found.values


@few
@given(
    spacing_mm=st.tuples(decimals, decimals, decimals),
    angles_deg=angles,
    orientation=st.sampled_from(["RAS", "LPS", "PIR", "SAL", "IRP"]),
    seed=st.integers(0, 9),
    surface=st.sampled_from(["mesh", "surfel", "voxel"]),
)
def test_format_orientation_and_rotation_of_the_same_masks_change_no_metric(
    tmp_path, spacing_mm, angles_deg, orientation, seed, surface
):
    draw = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 2:6, 2:6] = draw.random((4, 4, 4)) < 0.8
    pair = [mask, np.roll(mask, 1, axis=int(draw.integers(3)))]
    plain = [Image(array, affine_of(np.eye(3), spacing_mm)) for array in pair]
    expected = distances(*plain, spacing_mm, surface)
    for tilt in ((0, 0, 0), angles_deg):
        affine = affine_of(np.eye(3), spacing_mm, tilt)
        for ending in (".nii.gz", ".mha", ".nrrd"):
            stored = []
            for number, array in enumerate(pair):
                turned = reorient(Image(array, affine), orientation)
                path = tmp_path / f"{number}{ending}"
                save(path, turned.array, turned.affine)
                stored.append(read_label(path))
                assert sorted(stored[-1].spacing_mm) == sorted(spacing_mm)
            found = distances(*stored, spacing_mm, surface)
            for name, value in expected.items():
                assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), (
                    name,
                    ending,
                )


# --- grids that cannot be used ------------------------------------------------------------------


def sheared(angle_deg):
    """Slices of 5 mm that are shifted along j, as by a gantry tilted by this angle."""
    tilt = np.deg2rad(angle_deg)
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    affine[1, 2], affine[2, 2] = 5 * np.sin(tilt), 5 * np.cos(tilt)
    return affine


@pytest.mark.parametrize(("angle_deg", "refused"), [(0.09, False), (0.11, True), (-20, True)])
@pytest.mark.parametrize("turn", TURNS[::9])
def test_a_shear_above_a_tenth_of_a_degree_is_refused(tmp_path, turn, angle_deg, refused):
    affine = np.eye(4)
    affine[:3, :3] = turn @ sheared(angle_deg)[:3, :3]
    image = nibabel.Nifti1Image(np.zeros((20, 20, 8), np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    for read in (read_image, read_label, read_grid):
        if refused:
            with pytest.raises(InputError) as error:
                read(tmp_path / "a.nii.gz")
            angle = f"{90 - angle_deg:.2f} degrees"
            assert f"a.nii.gz: the axes j and k meet at {angle}" in str(error.value)
            assert "dcm2niix" in str(error.value) and "SimpleITK" in str(error.value)
        else:
            read(tmp_path / "a.nii.gz")


@given(angles_deg=angles, spacing_mm=st.tuples(decimals, decimals, decimals))
def test_no_rotation_is_taken_for_a_shear(angles_deg, spacing_mm):
    affine = affine_of(np.eye(3), spacing_mm, angles_deg)
    assert unusable(SHAPE, np.float32(affine).astype(float)) == ""


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "refused"),
    [
        ((512, 512, 1200), (1.4, 1.4, 1.5), False),  # head to foot
        ((40, 40, 20), (300, 300, 500), True),
        ((512, 512, 100), (0.7, 0.7, 50), True),
        ((512, 512, 1), (0.7, 0.7, 9999), False),  # the thickness of one slice is often made up
    ],
)
def test_an_image_longer_than_any_scanner_is_refused(shape, spacing_mm, refused):
    problem = unusable(shape, np.diag([*spacing_mm, 1]))
    assert ("mm long; expected at most 3000 mm" in problem) is refused


@pytest.mark.parametrize("angle_deg", [45, np.rad2deg(np.arcsin(1 / np.sqrt(3)))])
def test_axes_that_tie_are_compared_by_their_corners(angle_deg):
    """At 45 degrees rounding decides which letter an axis has; the voxels are where they were."""
    grids = [
        Grid((20, 30, 10), affine_of(np.eye(3), (1, 1, 2.5), (0, 0, angle_deg + more)))
        for more in (-1e-6, 1e-6)
    ]
    assert compare_grids(*grids) == ""
    if angle_deg == 45:
        assert grids[0].orientation != grids[1].orientation


def test_a_flip_in_place_is_told_by_its_letters():
    one = Grid((5, 6, 7), np.eye(4))
    other = Grid((5, 6, 7), np.diag([-1.0, 1, 1, 1]))
    assert "orientation RAS against LAS" in compare_grids(one, other)
