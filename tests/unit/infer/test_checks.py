"""What infer says of an image before it predicts: the audit's sentences, and the training data's sizes."""

import logging
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from segstudy.errors import InputError
from segstudy.images.files import read_label, write_nifti
from segstudy.images.headers import warnings
from segstudy.images.size_outliers import Size
from segstudy.infer import checks
from segstudy.infer.outside import predict_images
from segstudy.infer.postprocess import Choice
from segstudy.infer.predict import predict_fold
from segstudy.networks.weights import load_weights

CPU = torch.device("cpu")
KEPT = {"shell": Choice(False), "core": Choice(False)}


@pytest.fixture
def trained(tmp_path, write_weights):
    return load_weights(write_weights(tmp_path / "weights.pt"))


def predict(trained, output, *paths):
    images = {path.name.partition(".")[0]: (path,) for path in paths}
    predict_images(trained, images, {"shell": 1, "core": 2}, KEPT, CPU, output)


def unplaced(path, array, affine):
    """An image whose header gives voxel sizes alone."""
    image = nibabel.Nifti1Image(array, None)
    image.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    image.header["qform_code"] = image.header["sform_code"] = 0
    nibabel.save(image, path)
    return path


def test_the_audits_warnings_are_said(tmp_path, trained, oblique, caplog):
    array, truth, affine = oblique
    path = unplaced(tmp_path / "a.nii.gz", array, affine)
    labels = unplaced(tmp_path / "labels.nii.gz", truth * 500.0, affine)
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        predict(trained, tmp_path / "out", path, labels)
    said = [record.getMessage() for record in caplog.records]
    (about_place,) = warnings(path)
    assert f"{path}: {about_place}" in said
    assert sum("none below 0; a CT in Hounsfield units" in text for text in said) == 2
    assert f"{labels}: only 3 different values" in "\n".join(said)


def test_every_reader_sees_the_prediction_where_the_image_is(tmp_path, trained, oblique):
    array, _, affine = oblique
    paths = [unplaced(tmp_path / "unplaced.nii.gz", array, affine), tmp_path / "oblique.mha"]
    write_nifti(tmp_path / "oblique.nii.gz", array, affine)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "oblique.nii.gz")), str(paths[1]))
    predict(trained, tmp_path / "out", *paths)
    predict_fold(
        trained,
        {path.stem.partition(".")[0]: (path,) for path in paths},
        {"shell": 1, "core": 2},
        (),
        CPU,
        tmp_path / "fold",
    )
    for path in paths:
        for folder in ("out", "fold"):
            label = tmp_path / folder / f"{path.name.partition('.')[0]}.nii.gz"
            one, other = (SimpleITK.ReadImage(str(file)) for file in (path, label))
            assert one.GetSize() == other.GetSize()
            for found in ("GetOrigin", "GetSpacing", "GetDirection"):
                np.testing.assert_allclose(
                    getattr(one, found)(), getattr(other, found)(), atol=1e-4
                )
    label = tmp_path / "out" / "unplaced.nii.gz"
    np.testing.assert_array_equal(nibabel.load(label).affine, nibabel.load(paths[0]).affine)
    assert read_label(label).array.any()


@pytest.mark.parametrize("factor", [0.001, 0.01, 10])
def test_voxels_out_of_proportion_to_the_training_data_are_refused(
    tmp_path, trained, oblique, factor
):
    array, _, affine = oblique
    write_nifti(tmp_path / "a.nii.gz", array, np.diag([*[factor] * 3, 1]) @ affine)
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: voxels of .* the images trained on: voxels of 1\.5x1"
    ):
        predict(trained, tmp_path / "out", tmp_path / "a.nii.gz")
    assert not list((tmp_path / "out").glob("*"))


def test_what_the_audit_refuses_is_refused(tmp_path, trained, oblique):
    array, _, affine = oblique
    for name, odd in {
        "constant": array * 0 + 5,
        "infinite": np.where(array > 900, np.nan, array),
    }.items():
        write_nifti(tmp_path / f"{name}.nii.gz", odd.astype(np.float32), affine)
        with pytest.raises(
            InputError, match=rf"{name}\.nii\.gz: (constant: every voxel is 5|\d+ of 100100)"
        ):
            predict(trained, tmp_path / "out", tmp_path / f"{name}.nii.gz")


def test_too_little_memory_for_one_image_is_said_and_the_others_are_predicted(
    tmp_path, trained, oblique, monkeypatch
):
    from segstudy.infer import image

    def short(trained, array, device):
        if array.max() > 0.95:  # the brighter one
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return np.zeros((3, *array.shape[1:]), np.float32)

    monkeypatch.setattr(image, "probabilities", short)
    array, _, affine = oblique
    write_nifti(tmp_path / "bright.nii.gz", array, affine)
    write_nifti(tmp_path / "dim.nii.gz", array * np.float32(0.5), affine)
    with pytest.raises(InputError, match="case bright: not enough memory for 26x70x55 voxels"):
        predict(trained, tmp_path / "out", tmp_path / "bright.nii.gz", tmp_path / "dim.nii.gz")
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["dim.nii.gz"]


def test_sizes_of_nnunets_training_data_are_those_of_its_plans():
    plans = {
        "original_median_spacing_after_transp": [0.5, 4.0, 1.0],
        "original_median_shape_after_transp": [300, 50, 200],
        "transpose_backward": [1, 0, 2],
    }
    trained = SimpleNamespace(model=SimpleNamespace(network="nnunet"), plan={"plans": plans})
    # (z, y, x) is (4, 0.5, 1)
    assert checks.trained_on(trained) == Size((1.0, 0.5, 4.0), (200.0, 150.0, 200.0))
    trained.plan["plans"] = {}
    assert checks.trained_on(trained) is None
