"""Copies of an image are recognised, and no two patients are taken for one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.images.duplicates import duplicate_pairs, is_rescaled, signature
from segstudy.images.files import Image, read_image, write_nifti
from segstudy.images.geometry import reorient

AFFINE = np.diag([-1.0, -1.0, 2.5, 1.0])


def patient(seed, shape=(20, 22, 12)):
    """Air, a body and an organ at the same place in all patients, with noise of 10 HU."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    distance = np.linalg.norm(places, axis=0)
    array = np.where(distance < 0.9, np.where(distance < 0.4, 200.0, 0.0), -1000.0)
    return Image(np.rint(array + draw.normal(0, 10, shape))[None].astype(np.float32), AFFINE)


def as_bytes(array):
    low, high = array.min(), array.max()
    return np.rint((array - low) / (high - low) * 255).astype(np.uint8).astype(np.float32)


COPIES = {
    "bytes": as_bytes,
    "whole numbers": lambda array: np.rint(array * 7.3 - 11),
    "float32": lambda array: (array * 3.7e-4 + 12).astype(np.float32),
    "float16": lambda array: array.astype(np.float16).astype(np.float32),
    "standardised": lambda array: (array - array.mean()) / array.std(),
    "inverted": lambda array: 800 - array,
    "background zeroed": lambda array: np.where(array < -500, 0, array),
    "ends cut off": lambda array: np.clip(array, *np.percentile(array, [1, 99])),
}


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIL", "SAR"])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_among_patients_that_look_alike(kind, orientation):
    patients = {f"p{seed}": patient(seed) for seed in range(4)}
    own = patients["p2"]
    copy = reorient(Image(COPIES[kind](own.array).astype(np.float32), own.affine), orientation)
    signatures = {name: signature(one) for name, one in {**patients, "copy": copy}.items()}
    assert list(duplicate_pairs(signatures)) == [("p2", "copy")]


@pytest.mark.parametrize("change", [
    lambda array: array[:, :, ::-1],
    lambda array: array.transpose(0, 3, 1, 2)[:, :, ::-1],
    lambda array: np.pad(array, ((0, 0), (0, 1), (2, 0), (0, 0)), constant_values=-1100),
    lambda array: array[:, 2:, :-1],
])  # fmt: skip
def test_a_copy_without_its_orientation_or_with_other_background_is_found(change):
    def framed(array):
        return np.where(np.pad(np.ones((16, 18, 12)), ((2, 2), (2, 2), (0, 0))), array, -1100)

    patients = {f"p{seed}": patient(seed) for seed in range(4)}
    patients = {name: Image(framed(one.array), AFFINE) for name, one in patients.items()}
    array = np.ascontiguousarray(change(patients["p1"].array))
    signatures = {name: signature(one) for name, one in patients.items()}
    assert list(duplicate_pairs(signatures | {"copy": signature(Image(array, np.eye(4)))})) == [
        ("p1", "copy")
    ]
    array[0, 9, 9, 6] += 1
    assert list(duplicate_pairs(signatures | {"other": signature(Image(array, np.eye(4)))})) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(40, 255))
def test_any_factor_and_offset_and_levels(seed, factor, offset, levels):
    array = np.random.default_rng(seed).normal(0, 1, 3000)
    copy = np.rint((array - array.min()) / np.ptp(array) * levels) * factor + offset
    assert is_rescaled(array, copy)
    assert is_rescaled(copy, array)
    other = np.random.default_rng(seed + 1000).normal(0, 0.2, 3000)
    assert not is_rescaled(array + other, copy)


def test_too_little_to_tell_is_not_the_same():
    few_levels = np.tile([0.0, 1, 2, 3], 500)
    assert not is_rescaled(few_levels, few_levels)
    assert not is_rescaled(np.zeros(2000), np.zeros(2000))


def test_the_format_does_not_matter(tmp_path):
    import SimpleITK

    own = patient(3)
    write_nifti(tmp_path / "a.nii.gz", own.array[0].astype(np.int16), AFFINE)
    SimpleITK.WriteImage(
        SimpleITK.Cast(SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")), SimpleITK.sitkFloat32),
        str(tmp_path / "b.nrrd"),
    )
    signatures = {name: signature(read_image(tmp_path / name)) for name in ("a.nii.gz", "b.nrrd")}
    assert list(duplicate_pairs(signatures)) == [("a.nii.gz", "b.nrrd")]


def test_no_two_real_patients_are_the_same_and_every_copy_is(real_data):
    files = sorted((real_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))[::4]
    images = [read_image(file) for file in files]
    size = tuple(np.min([image.array.shape[1:] for image in images], axis=0))
    crops = []
    for image in images:  # of one shape, so that every pair is compared
        start = [(n - m) // 2 for n, m in zip(image.array.shape[1:], size, strict=True)]
        part = tuple(slice(a, a + m) for a, m in zip(start, size, strict=True))
        crops.append(Image(image.array[(slice(None), *part)], image.affine))
    signatures = [signature(crop).values for crop in crops]
    assert not any(is_rescaled(*pair) for pair in itertools.combinations(signatures, 2))
    for crop, own in zip(crops, signatures, strict=True):
        copy = reorient(Image(as_bytes(crop.array), crop.affine), "PIL")
        assert is_rescaled(own, signature(copy).values)
