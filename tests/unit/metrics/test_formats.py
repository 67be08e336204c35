"""The same masks in files of other formats, stored along other axes, rotated: the same metrics."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nibabel.orientations import apply_orientation, inv_ornt_aff

from orientations import affine_of
from segstudy.images.files import write_nifti
from segstudy.metrics.measure import measure
from segstudy.metrics.pairs import Pair, measure_pairs
from segstudy.study import MeasureSettings, Metrics

SURFACES = ["mesh", "surfel", "voxel"]
SUFFIXES = [".nii", ".nii.gz", ".mha", ".nrrd"]


def write(path, label, affine):
    """A label map (i, j, k) with its affine to RAS mm, in the format of the suffix."""
    if ".nii" in path.name:
        write_nifti(path, label, affine)
        return
    to_lps = np.diag([-1.0, -1.0, 1.0])
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(label.T))
    # What a person gives a writer has few digits; the direction has what is left of the rest.
    image.SetSpacing([float(f"{size:.6g}") for size in spacing_mm])
    image.SetDirection((to_lps @ affine[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin((to_lps @ affine[:3, 3]).tolist())
    sitk.WriteImage(image, path)


def of_files(reference, prediction, affine, suffix, wanted):
    """The metrics of one structure by the files: name -> value."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}{suffix}" for name in ("reference", "prediction")]
        for path, label in zip(paths, (reference, prediction), strict=True):
            write(path, label, affine)
        asked = MeasureSettings(metrics=wanted, structures={"organ": 1})
        rows, *_ = measure_pairs([Pair("case", "case", *paths)], asked, {})
    return {row["metric"]: row["value"] for row in rows}


decimals = st.integers(3, 50).map(lambda tenths: tenths / 10)
masks = hnp.arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 1)).filter(np.any)


@settings(deadline=None, max_examples=100)
@given(
    masks,
    masks,
    st.tuples(decimals, decimals, decimals),
    st.tuples(*[st.floats(-20, 20)] * 3),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.sampled_from(SUFFIXES),
    st.sampled_from(SURFACES),
    st.tuples(st.integers(0, 2), st.integers(1, 3)),
)
def test_format_orientation_and_rotation_change_nothing(
    reference, prediction, spacing_mm, tilt_deg, axes, signs, suffix, surface, voxels
):
    """Though the tolerance is a whole number of voxels, where many distances are equal to it."""
    tolerance_mm = round(spacing_mm[voxels[0]] * voxels[1], 1)
    wanted = Metrics(surface=surface, nsd_tolerance_mm=(tolerance_mm,))
    (expected,) = measure(reference, prediction, spacing_mm, {"organ": (1,)}, wanted)
    turn = np.array(list(zip(axes, signs, strict=True)), float)
    affine = affine_of(np.eye(3), spacing_mm, tilt_deg) @ inv_ornt_aff(turn, reference.shape)
    stored = [apply_orientation(label, turn) for label in (reference, prediction)]
    found = of_files(*stored, affine, suffix, wanted)
    assert list(found) == list(expected.values)
    for name, value in expected.values.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name


def ball(shift):
    places = np.indices((26, 26, 26)) - 12
    places[2] -= shift
    return ((places**2).sum(axis=0) <= 100).astype(np.uint8)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("voxels", [1, 2])
def test_a_ball_shifted_by_whole_voxels_is_within_them(surface, voxels):
    """No point of it is further from the other than the shift, in headers of all kinds."""
    for spacing_mm, tilt_deg, suffix in [
        (1.0, (5.0, 2.5, 5 / 3), ".nii.gz"),
        *((spacing_mm, (0, 0, 0), ".nii.gz") for spacing_mm in (1.2, 0.8, 0.6, 0.4, 1.1)),
        (1.2, (3.0, -8.0, 11.0), ".mha"),
    ]:
        affine = affine_of(np.eye(3), (spacing_mm,) * 3, tilt_deg)
        tolerance_mm = round(voxels * spacing_mm, 1)
        wanted = Metrics(surface=surface, nsd_tolerance_mm=(tolerance_mm,))
        found = of_files(ball(0), ball(voxels), affine, suffix, wanted)
        assert found[f"nsd_{tolerance_mm:g}mm"] == 1
        assert found["hd_mm"] == pytest.approx(tolerance_mm, rel=1e-6)
