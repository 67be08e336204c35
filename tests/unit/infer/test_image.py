"""Where a prediction lies: a known network must find a known body at its place, on the native grid."""

import nibabel
import numpy as np
import pytest
import torch

from segstudy.errors import InputError
from segstudy.images.files import write_label
from segstudy.images.overlap import dice
from segstudy.infer.image import predict_image, to_class_indices, to_label_values
from segstudy.networks.weights import load_weights

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {"dims": 3},
        {"dims": 3, "patch_size": (64, 64, 64)},  # larger than the image
        {"dims": 3, "infer": {"overlap": 0.0}},
        {"dims": 2, "planes": ("axial",)},
        {"dims": 2, "planes": ("coronal",)},
        {"dims": 2, "planes": ("sagittal",)},
        {"dims": 2, "planes": ("axial", "coronal", "sagittal")},
        {"dims": 2, "planes": ("axial",), "patch_size": (96, 96)},
    ],
    ids=str,
)
def test_a_body_is_found_where_it_is(tmp_path, write_weights, write_image, oblique, settings):
    image, truth, _ = oblique
    trained = load_weights(write_weights(tmp_path / "weights.pt", **settings))
    found = predict_image(trained, [write_image(tmp_path / "case.nii.gz", image)], CPU)
    assert found.array.shape == truth.shape
    shell, core = dice(truth, found.array, 3)
    assert dice(truth > 0, found.array > 0, 2)[0] > 0.98
    assert shell > 0.94  # 8 mm thick between two surfaces, sampled at 1.5 mm
    assert core > 0.97
    write_label(tmp_path / "label.nii.gz", found.array, found.affine)
    one, other = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("case", "label"))
    assert np.array_equal(one.affine, other.affine)
    np.testing.assert_allclose(one.header.get_zooms(), other.header.get_zooms(), rtol=1e-6)


def test_channels_keep_their_order(tmp_path, write_weights, write_image, oblique):
    image, truth, _ = oblique
    dark = np.where(image > 500, 1, -1)  # nearly nothing, but no constant
    trained = load_weights(write_weights(tmp_path / "weights.pt", channels=3, channel=1))
    paths = [
        write_image(tmp_path / f"{number}.nii.gz", array)
        for number, array in enumerate([dark, image, dark])
    ]
    together = write_image(tmp_path / "all.nii.gz", np.stack([dark, image, dark], -1))
    apart = predict_image(trained, paths, CPU).array
    assert dice(truth > 0, apart > 0, 2)[0] > 0.98
    assert np.array_equal(apart, predict_image(trained, [together], CPU).array)
    assert not predict_image(trained, [paths[1], paths[0], paths[2]], CPU).array.any()


def test_wrong_channels_are_named(tmp_path, write_weights, write_image, oblique):
    image, _, _ = oblique
    trained = load_weights(write_weights(tmp_path / "weights.pt", channels=2))
    path = write_image(tmp_path / "case.nii.gz", image)
    with pytest.raises(InputError, match=r"case\.nii\.gz.*expected 2 channels"):
        predict_image(trained, [path], CPU)


def test_values_that_are_not_finite_are_refused(tmp_path, write_weights, write_image, oblique):
    image = oblique[0].copy()
    image[3, 4, 5] = np.nan
    trained = load_weights(write_weights(tmp_path / "weights.pt"))
    path = write_image(tmp_path / "case.nii.gz", image)
    with pytest.raises(InputError, match=r"case\.nii\.gz.*not finite"):
        predict_image(trained, [path], CPU)


def test_label_values_follow_the_classes():
    classes = np.array([[[0, 1, 2]]], np.uint8)
    assert to_label_values(classes, [4, 1]).tolist() == [[[0, 4, 1]]]
    assert to_class_indices(to_label_values(classes, [4, 1]), [4, 1]).tolist() == classes.tolist()
    assert to_class_indices(np.array([0, 9, 4], np.uint8), [4, 1]).tolist() == [0, 0, 1]
    large = to_label_values(classes, [1000, 7])
    assert large.tolist() == [[[0, 1000, 7]]]
    assert large.dtype == np.uint16
