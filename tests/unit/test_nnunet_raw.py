"""A fold's cases as an nnU-Net raw dataset."""

import gzip
from dataclasses import replace
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest

from segstudy import nnunet_raw
from segstudy.cases import Case, Labelled
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.files import read_image, read_label, write_label, write_nifti
from segstudy.nnunet_raw import write_raw

DATASET = "Dataset001_segstudy"
AFFINE = np.array([[0, -1.2, 0, 5], [0.9, 0, 0, -7], [0, 0, 2.5, 11], [0, 0, 0, 1.0]])
SHAPE = (7, 6, 5)


@pytest.fixture
def case(tmp_path):
    """Makes a case `name` on disk, its image in one file a channel or all in one, and its label."""

    def make(name="p1", channels=1, together=False, values=(1, 2), suffix=".nii.gz") -> Labelled:
        draw = np.random.default_rng(len(name))
        image = draw.normal(0, 1, (*SHAPE, channels)).astype(np.float32)
        if together:
            paths = [tmp_path / f"{name}{suffix}"]
            write_nifti(paths[0], image, AFFINE)
        else:
            paths = [tmp_path / f"{name}_{number}{suffix}" for number in range(channels)]
            for number, path in enumerate(paths):
                write_nifti(path, image[..., number], AFFINE)
        label = np.array([0, *values])[draw.integers(0, 3, SHAPE)]
        write_label(tmp_path / f"{name}_label.nii.gz", label, AFFINE)
        found = Case(name, name, tuple(paths), tmp_path / f"{name}_label.nii.gz")
        return Labelled("chest", found, dict(zip(("heart", "aorta"), values, strict=True)))

    return make


def write(tmp_path, *cases, channels=("t1",), modality="MR"):
    count = write_raw(tmp_path / "raw" / DATASET, cases, ["heart", "aorta"], channels, modality)
    return tmp_path / "raw" / DATASET, count


def test_files_that_suit_are_hard_links_and_no_other_case_is_there(tmp_path, case):
    one, two = case("p1"), case("p22")
    case("p333")
    folder, count = write(tmp_path, one, two)
    assert count == {"linked": 4, "written": 0}
    assert {path.name for path in folder.rglob("*.nii.gz")} == {
        *("chest-p1_0000.nii.gz", "chest-p22_0000.nii.gz"),
        *("chest-p1.nii.gz", "chest-p22.nii.gz"),
    }
    image = folder / "imagesTr" / "chest-p1_0000.nii.gz"
    assert image.samefile(one.case.images[0])
    assert (folder / "labelsTr" / "chest-p22.nii.gz").samefile(two.case.label)
    assert read_json(folder / "dataset.json")["numTraining"] == 2


def test_a_link_to_an_image_leads_to_the_image(tmp_path, case):
    raw = case()
    link = tmp_path / "link.nii.gz"
    link.symlink_to(raw.case.images[0])
    linked = Labelled("chest", Case("p1", "p1", (link,), raw.case.label), raw.structures)
    folder, _ = write(tmp_path, linked)
    image = folder / "imagesTr" / "chest-p1_0000.nii.gz"
    assert not image.is_symlink()
    assert image.samefile(raw.case.images[0])


def test_label_values_become_classes_in_the_studys_order(tmp_path, case):
    raw = case(values=(300, 7))
    before = raw.case.label.read_bytes()
    folder, count = write(tmp_path, raw)
    assert count == {"linked": 1, "written": 1}
    found = read_label(folder / "labelsTr" / "chest-p1.nii.gz")
    truth = read_label(raw.case.label)
    assert np.array_equal(found.array == 1, truth.array == 300)
    assert np.array_equal(found.array == 2, truth.array == 7)
    assert np.allclose(found.affine, truth.affine)
    assert raw.case.label.read_bytes() == before


def test_labels_that_are_only_nearly_whole_are_written_anew(tmp_path, case):
    raw = case()
    truth = read_label(raw.case.label).array
    write_nifti(raw.case.label, (truth * 0.9999999).astype(np.float32), AFFINE)
    folder, count = write(tmp_path, raw)
    assert count["written"] == 1
    stored = np.asarray(nibabel.load(folder / "labelsTr" / "chest-p1.nii.gz").dataobj)
    assert np.array_equal(stored, truth), "whole numbers, whatever the reader cuts off"


def test_values_that_are_no_structure_become_background(tmp_path, case):
    raw = case()
    label = read_label(raw.case.label).array
    label[0, 0, 0] = 9
    write_label(raw.case.label, label, AFFINE)
    folder, count = write(tmp_path, raw)
    assert count["written"] == 1
    found = read_label(folder / "labelsTr" / "chest-p1.nii.gz").array
    assert found[0, 0, 0] == 0
    assert np.array_equal(found[label != 9], label[label != 9])


@pytest.mark.parametrize(
    "given", [{"together": True}, {"suffix": ".nii"}], ids=["one file", "not compressed"]
)
def test_other_forms_are_written_a_file_a_channel(tmp_path, case, given):
    raw = case(channels=2, **given)
    folder, count = write(tmp_path, raw, channels=("t1", "t2"))
    assert count == {"linked": 1, "written": 2}
    paths = [folder / "imagesTr" / f"chest-p1_000{number}.nii.gz" for number in (0, 1)]
    truth = read_image(raw.case.images, 2)
    assert np.array_equal(read_image(paths, 2).array, truth.array)
    assert all(np.allclose(nibabel.load(path).affine, AFFINE) for path in paths)


def test_a_header_with_two_spacings_is_written_with_the_one_we_read(tmp_path, case):
    raw = case()
    image = nibabel.load(raw.case.images[0])
    image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
    image.header["pixdim"][1:4] = 1
    raw.case.images[0].write_bytes(gzip.compress(image.to_bytes()))
    assert nibabel.load(raw.case.images[0]).header.get_zooms() == (1, 1, 1)
    folder, count = write(tmp_path, raw)
    assert count == {"linked": 1, "written": 1}
    zooms = nibabel.load(folder / "imagesTr" / "chest-p1_0000.nii.gz").header.get_zooms()
    assert np.allclose(zooms, (0.9, 1.2, 2.5))


def test_where_no_links_can_be_made_files_are_copied(tmp_path, case, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(nnunet_raw.os, "link", refuse)
    raw = case()
    folder, count = write(tmp_path, raw)
    assert count == {"linked": 0, "written": 2}
    image = folder / "imagesTr" / "chest-p1_0000.nii.gz"
    assert image.read_bytes() == raw.case.images[0].read_bytes()
    assert not image.samefile(raw.case.images[0])


def test_a_label_on_another_grid_is_refused(tmp_path, case):
    raw = case()
    write_label(raw.case.label, np.zeros((7, 6, 4), np.uint8), AFFINE)
    with pytest.raises(InputError, match=r"p1_label.*chest/p1: other grid.*7x6x5 against 7x6x4"):
        write(tmp_path, raw)


@pytest.mark.parametrize(("modality", "scheme"), [("CT", "CT"), ("MR", "zscore")])
def test_the_modality_decides_how_nnunet_normalises(tmp_path, case, modality, scheme):
    folder, _ = write(tmp_path, case(channels=2), channels=("CT", "noNorm"), modality=modality)
    told = read_json(folder / "dataset.json")
    assert told["channel_names"] == {"0": scheme, "1": scheme}
    assert told["labels"] == {"background": 0, "heart": 1, "aorta": 2}


def test_what_nobody_has_labelled_is_nnunets_ignore(tmp_path, case):
    """One above the last class, as nnU-Net wants it, whichever values the files have."""
    one = case("p1", values=(2, 9))
    label = read_label(one.case.label)
    garbage = label.array.astype(np.uint16)
    garbage[2:4], garbage[5] = 77, 300
    write_label(one.case.label, garbage, label.affine)
    write_raw(
        tmp_path / "raw" / DATASET,
        [replace(one, ignore=(77, 300))],
        ["aorta", "heart"],
        ["t1"],
        "MR",
        True,
    )
    folder = tmp_path / "raw" / DATASET
    assert read_json(folder / "dataset.json")["labels"] == {
        "background": 0, "aorta": 1, "heart": 2, "ignore": 3,
    }  # fmt: skip
    found = read_label(folder / "labelsTr" / "chest-p1.nii.gz").array
    expected = np.select([garbage == 9, garbage == 2, garbage >= 77], [1, 2, 3])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not find_spec("nnunetv2"), reason="nnunetv2 is not installed")
def test_nnunet_takes_the_ignore_label():
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    labels = nnunet_raw.description(3, ["heart", "aorta"], ["t1"], "MR", True)["labels"]
    manager = LabelManager(labels, None)
    assert (manager.ignore_label, manager.foreground_labels) == (3, [1, 2])
    assert manager.num_segmentation_heads == 3
