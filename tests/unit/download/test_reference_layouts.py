"""The layouts of the reference studies, from the folders as they are given out to the case table."""

import argparse
import json
import os
import shutil

import numpy as np
import pytest
from download_builders import (
    AFFINE,
    GRAYS,
    bids,
    label_maps,
    mask,
    neurite,
    oasis_slices,
    segthor,
    slice_pair,
    voxels,
)

from builders import count_reads
from segstudy.cases import read_cases
from segstudy.download import command
from segstudy.download.audit import label_problems
from segstudy.download.convert import read_slice
from segstudy.download.layouts import list_cases
from segstudy.errors import InputError
from segstudy.images.files import read_image, read_label, write_label, write_nifti
from segstudy.study import Dataset

TISSUES = dict(zip(("csf", "grey", "white"), GRAYS[1:], strict=True))


def dataset(layout, path, structures, modality="MR", source=(), **more):
    content = {"source": {"layout": layout, "path": str(path), **dict(source)}}
    return Dataset.model_validate(content | {"modality": modality, "structures": structures} | more)


def audit(dataset, folder, threads=2):
    """The audit as the rule runs it; cases and the text of the problems."""
    options = argparse.Namespace(
        step="audit",
        dataset="set",
        settings=dataset.to_json(),
        raw=None,
        cases=folder / "download" / "cases.tsv",
        problems=folder / "download" / "problems.tsv",
        corrections=None,
        threads=threads,
    )
    command.run(options)
    return read_cases(options.cases), options.problems.read_text()


# --- SegTHOR ------------------------------------------------------------------------------------


def test_segthor_patients_with_the_right_label_of_one(tmp_path):
    chosen = dataset("segthor", segthor(tmp_path / "d"), {"heart": 1, "aorta": 2}, "CT")
    cases, _ = audit(chosen, tmp_path)
    assert [case.case for case in cases] == ["Patient_01", "Patient_02", "Patient_03"]
    assert [bool(case.reference_label) for case in cases] == [False, False, True]
    assert cases[0].images == (tmp_path / "d/train/Patient_01/Patient_01.nii.gz",)


def test_segthor_without_its_folder_says_what_is_expected(tmp_path):
    with pytest.raises(
        InputError, match="no folder train in it; expected train/<patient>/GT.nii.gz"
    ):
        list_cases(dataset("segthor", tmp_path, {"heart": 1}))


# --- OASIS slices -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "nifti"])
def test_slices_become_a_volume_a_subject(tmp_path, kind):
    folder = oasis_slices(tmp_path / "d", kind=kind)
    chosen = dataset("oasis_slices", folder, TISSUES, source={"slice_mm": 4.0})
    cases, problems = audit(chosen, tmp_path)
    assert [case.case for case in cases] == ["case_001", "case_002", "case_402", "case_441"]
    assert [case.subject for case in cases] == ["001", "002", "402", "441"]
    assert cases[0].shape == (256, 256, 4) and cases[0].spacing_mm == (1, 1, 4)
    image, label = read_image(cases[2].images), read_label(cases[2].label)
    for number in range(4):
        picture, gray = slice_pair(402, number)
        np.testing.assert_array_equal(image.array[0, :, :, number], picture.T)
        np.testing.assert_array_equal(label.array[:, :, number], gray.T)
    counts = {name: int((label.array == value).sum()) for name, value in TISSUES.items()}
    assert cases[2].voxels == counts
    assert problems.count("\n") == 1


def test_ten_slices_lie_in_the_order_of_their_numbers(tmp_path):
    folder = oasis_slices(tmp_path / "d", {"train": (7,)}, slices=11, size=16)
    chosen = dataset("oasis_slices", folder, TISSUES, source={"parts": ["train"]})
    (case,), _ = audit(chosen, tmp_path)
    np.testing.assert_array_equal(
        read_label(case.label).array[:, :, 10], slice_pair(7, 10, 16)[1].T
    )


def test_each_slice_can_be_a_case_of_its_subject(tmp_path):
    folder = oasis_slices(tmp_path / "d", {"train": (1, 2)}, size=16)
    source = {"parts": ["train"], "case_unit": "slices"}
    kept = dataset("oasis_slices", folder, TISSUES, source=source)
    assert len(audit(kept, tmp_path)[0]) == 8, "a slice without a structure is one to learn from"
    wishes = {"on_bad_case": "drop", "empty_labels": "refuse"}
    chosen = dataset("oasis_slices", folder, TISSUES, source=source, **wishes)
    cases, problems = audit(chosen, tmp_path)
    # The first slice of each holds no structure.
    assert [case.case for case in cases] == [
        f"case_00{s}_slice_0{n}" for s in (1, 2) for n in (1, 2, 3)
    ]
    assert {case.subject for case in cases} == {"001", "002"}
    assert cases[0].shape == (16, 16, 1)
    assert "case_001_slice_00" in problems and "empty: no voxel" in problems


def test_slices_that_do_not_fit_refuse_their_subject_by_name(tmp_path):
    folder = oasis_slices(tmp_path / "d", {"train": (1, 2, 3, 4, 5)}, size=16)
    images, labels = folder / "keras_png_slices_train", folder / "keras_png_slices_seg_train"
    (labels / "seg_001_slice_2.nii.png").unlink()
    for place, name in ((images, "case"), (labels, "seg")):
        (place / f"{name}_002_slice_1.nii.png").unlink()
    (images / "case_003_slice_0.nii.png").write_bytes(b"no picture")
    oasis_slices(tmp_path / "other", {"train": (4,)}, size=24)
    shutil.copy(tmp_path / "other/keras_png_slices_train/case_004_slice_3.nii.png", images)
    (images / "notes.txt").write_text("")
    source = {"parts": ["train"]}
    chosen = dataset("oasis_slices", folder, TISSUES, source=source, on_bad_case="drop")
    cases, problems = audit(chosen, tmp_path)
    assert [case.case for case in cases] == ["case_005"]
    for words in (
        "case_001\tkeras_png_slices_train/case_001_slice_2.nii.png\tslice 2: image without label",
        "case_002\tkeras_png_slices_train\tno slice 1; expected 0 to 3",
        "case_003\tkeras_png_slices_train/case_003_slice_0.nii.png\tnot readable as a PNG",
        "case_004\tkeras_png_slices_train/case_004_slice_3.nii.png\t24x24 pixels; expected 16x16",
        "notes.txt\tnot named as a slice",
    ):
        assert words in problems
    assert str(tmp_path) not in problems


def test_coloured_pictures_and_labels_that_are_none_are_refused(tmp_path):
    import SimpleITK

    colour = SimpleITK.GetImageFromArray(np.zeros((16, 16, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colour, str(tmp_path / "colour.nii.png"))
    with pytest.raises(InputError, match=r"colour.nii.png: a coloured picture"):
        read_slice(tmp_path / "colour.nii.png")
    write_nifti(tmp_path / "deep.nii.gz", np.zeros((16, 16, 3), np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"deep.nii.gz: 16x16x3 float32; expected a gray slice"):
        read_slice(tmp_path / "deep.nii.gz")
    folder = oasis_slices(tmp_path / "d", {"train": (1, 2)}, kind="nifti", size=16)
    odd = folder / "keras_slices_seg_train" / "seg_001_slice_1.nii.gz"
    write_nifti(odd, np.full((16, 16), -1, np.int16), np.eye(4))
    source = {"parts": ["train"]}
    chosen = dataset("oasis_slices", folder, TISSUES, source=source, on_bad_case="drop")
    cases, problems = audit(chosen, tmp_path)
    assert [case.case for case in cases] == ["case_002"]
    assert "seg_001_slice_1.nii.gz\tvalues from -1 to -1; expected whole numbers" in problems


def test_a_subject_in_two_parts_is_refused(tmp_path):
    folder = oasis_slices(tmp_path / "d", {"train": (1, 2), "test": (2,)}, size=16)
    listing = list_cases(
        dataset("oasis_slices", folder, TISSUES, source={"parts": ["train", "test"]})
    )
    assert [case.case for case in listing.cases] == ["case_001"]
    assert any(
        "case_002" in str(problem) and "train" in str(problem) for problem in listing.problems
    )


def test_absent_slice_folders_are_named(tmp_path):
    oasis_slices(tmp_path, {"train": (1,)}, size=16)
    with pytest.raises(InputError, match=r"no folder keras_png_slices_validate in it"):
        list_cases(dataset("oasis_slices", tmp_path, TISSUES))


def test_a_second_audit_leaves_unchanged_volumes_alone(tmp_path):
    folder = oasis_slices(tmp_path / "d", {"train": (1, 2)}, size=16)
    chosen = dataset("oasis_slices", folder, TISSUES, source={"parts": ["train"]})
    cases, _ = audit(chosen, tmp_path)
    files = [file for case in cases for file in case.files]
    for file in files:
        os.utime(file, (1, 1))
    for path in folder.glob("*/*_002_*"):
        path.unlink()
    oasis_slices(tmp_path / "new", {"train": (1, 3)}, size=16)
    for path in (tmp_path / "new").glob("*/*_003_*"):
        shutil.copy(path, folder / path.parent.name)
    cases, _ = audit(chosen, tmp_path)
    assert [case.case for case in cases] == ["case_001", "case_003"]
    assert [file.exists() for file in files] == [True, True, False, False]
    assert {file.stat().st_mtime for file in cases[0].files} == {1}


def test_a_subject_with_fewer_slices_than_most_is_named(tmp_path):
    folder = oasis_slices(tmp_path / "d", {"train": (1, 2, 3)}, slices=32, size=16)
    for path in [*folder.glob("*/*_002_slice_31.*"), *folder.glob("*/*_002_slice_30.*")]:
        path.unlink()
    listing = list_cases(dataset("oasis_slices", folder, TISSUES, source={"parts": ["train"]}))
    assert [case.case for case in listing.cases] == ["case_001", "case_002", "case_003"]
    assert [str(problem) for problem in listing.problems] == [
        "case_002: 30 slices, where most subjects have 32"
    ]


# --- neurite-OASIS ------------------------------------------------------------------------------


def test_neurite_scans_of_one_person_share_the_subject(tmp_path):
    chosen = dataset(
        "neurite_oasis",
        neurite(tmp_path / "d"),
        ["left_hippocampus", "right_hippocampus"],
        label_table="neurite_seg35",
    )
    assert chosen.structures == {"left_hippocampus": 14, "right_hippocampus": 30}
    assert chosen.left_right_pairs == (("left_hippocampus", "right_hippocampus"),)
    cases, problems = audit(chosen, tmp_path)
    assert [(case.case, case.subject) for case in cases] == [
        ("OAS1_0001_MR1", "OAS1_0001"),
        ("OAS1_0002_MR1", "OAS1_0002"),
        ("OAS1_0002_MR2", "OAS1_0002"),
    ]
    assert cases[0].label.name == "aligned_seg35.nii.gz"
    assert problems.count("\n") == 1  # value 20 is in the table, and so is background


def test_neurite_tissues_and_names_that_contradict_the_colour_table(tmp_path):
    neurite(tmp_path)
    tissues = {"cortex": 1, "subcortical": 2, "white": 3}
    listing = list_cases(
        dataset("neurite_oasis", tmp_path, tissues, source={"segmentation": "seg4"})
    )
    assert listing.cases[0].label.name == "aligned_seg4.nii.gz"
    swapped = {"left_hippocampus": 30, "right_hippocampus": 14}
    problems = list_cases(dataset("neurite_oasis", tmp_path, swapped)).problems
    assert (
        "value 30 is called 'Right-Hippocampus', the study file calls it left_hippocampus"
        in str(problems[0])
    )


# --- BIDS ---------------------------------------------------------------------------------------


def test_bids_sessions_are_cases_of_their_subject(tmp_path):
    chosen = dataset("bids", bids(tmp_path / "d"), ["hippocampus"], label_table="freesurfer")
    cases, problems = audit(chosen, tmp_path)
    assert [(case.case, case.subject) for case in cases] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
        ("sub-02_ses-a", "sub-02"),
    ]
    # Left and right are merged into one value, in a file of our own; theirs is as it was.
    label = read_label(cases[0].label).array
    theirs = (
        tmp_path / "d/derivatives/freesurfer/sub-01/ses-a/anat/sub-01_ses-a_desc-aseg_dseg.nii.gz"
    )
    np.testing.assert_array_equal(label == 17, np.isin(mask((17, 53, 41)), (17, 53)))
    np.testing.assert_array_equal(read_label(theirs).array, mask((17, 53, 41)))
    assert cases[0].voxels == {"hippocampus": int((label == 17).sum())}
    assert cases[0].label.is_relative_to(tmp_path / "download")
    assert problems.count("\n") == 1


def test_bids_without_sessions(tmp_path):
    chosen = dataset("bids", bids(tmp_path, sessions=False), {"left": 17, "right": 53})
    assert [case.case for case in list_cases(chosen).cases] == ["sub-01", "sub-02"]


def test_bids_takes_images_of_the_pipeline_by_their_description(tmp_path):
    bids(tmp_path)
    for number, key in enumerate(("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a")):
        folder = tmp_path / "derivatives/freesurfer" / key / "anat"
        name = key.replace("/", "_")
        for description in ("preproc", "brain"):
            write_nifti(folder / f"{name}_desc-{description}_T1w.nii.gz", voxels(number), AFFINE)
    both = {"left": 17, "right": 53}
    raw = list_cases(dataset("bids", tmp_path, both)).cases
    chosen = list_cases(dataset("bids", tmp_path, both, source={"image": "brain"})).cases
    assert [case.images[0].name for case in raw] == [f"{case.case}_T1w.nii.gz" for case in raw]
    assert [case.case for case in chosen] == [case.case for case in raw]
    for case, plain in zip(chosen, raw, strict=True):
        assert case.images[0].name == f"{case.case}_desc-brain_T1w.nii.gz"
        assert case.images[0].parent == case.label.parent == plain.label.parent


def test_bids_says_what_is_missing_and_what_is_ambiguous(tmp_path):
    bids(tmp_path)
    labels = tmp_path / "derivatives/freesurfer"
    shutil.copy(
        labels / "sub-01/ses-a/anat/sub-01_ses-a_desc-aseg_dseg.nii.gz",
        labels / "sub-01/ses-a/anat/sub-01_ses-a_desc-manual_dseg.nii.gz",
    )
    (tmp_path / "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz").unlink()
    both = {"left": 17, "right": 53}
    listing = list_cases(dataset("bids", tmp_path, both))
    assert [case.case for case in listing.cases] == ["sub-01_ses-b"]
    said = " | ".join(map(str, listing.problems))
    assert "2 files *_dseg (sub-01_ses-a_desc-aseg_dseg.nii.gz, " in said
    assert "expected one: set source.label: {desc: aseg or manual}" in said
    assert "0 files *_T1w; expected one, in " in said
    chosen = dataset("bids", tmp_path, both, source={"label": "aseg"})
    assert len(list_cases(chosen).cases) == 2
    (tmp_path / "derivatives/other/sub-01").mkdir(parents=True)
    shutil.copytree(labels / "sub-01", tmp_path / "derivatives/other/sub-01", dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"found 2 \(freesurfer, other\); set source.pipeline"):
        list_cases(dataset("bids", tmp_path, both))
    with pytest.raises(
        InputError, match="source.suffixes: 1 .T1w.; expected one for each of the 2"
    ):
        list_cases(dataset("bids", tmp_path, both, channels=["t1", "flair"]))


# --- label maps alone ---------------------------------------------------------------------------


def test_label_maps_are_cases_without_images(tmp_path):
    folder = label_maps(tmp_path / "d")
    (folder / "labels.txt").write_text("17 Left-Hippocampus")
    names = ["left_hippocampus", "right_hippocampus"]
    chosen = dataset("label_maps", folder, names, label_table="freesurfer")
    assert chosen.left_right_pairs == (("left_hippocampus", "right_hippocampus"),)
    cases, problems = audit(chosen, tmp_path)
    assert [(case.case, case.subject, case.images) for case in cases] == [
        ("sub-01_ses-a_seg", "sub-01", ()),
        ("sub-01_ses-b_seg", "sub-01", ()),
        ("training_07", "training_07", ()),
    ]
    assert cases[0].label == folder / "sub-01_ses-a_seg.nii.gz"
    assert (cases[0].shape, cases[0].spacing_mm) == ((6, 7, 5), (1, 1, 2.5))
    assert cases[0].voxels == {"left_hippocampus": 9, "right_hippocampus": 9}
    header = (tmp_path / "download/cases.tsv").read_text().splitlines()[0].split("\t")
    assert header[:3] == ["case", "subject", "label"]
    assert problems.count("\n") == 1


def test_values_of_label_maps_are_merged_by_the_table(tmp_path, monkeypatch):
    folder = label_maps(tmp_path / "d", ["one"])
    reads = count_reads(monkeypatch)
    (case,), _ = audit(
        dataset("label_maps", folder, ["hippocampus"], label_table="freesurfer"), tmp_path
    )
    assert reads == {folder / "one.nii.gz": 1}  # checked and merged in one go
    label = read_label(case.label).array
    assert (label == 17).sum() == 18 and (label == 41).sum() == 9 and 53 not in label
    assert case.voxels == {"hippocampus": 18}


def test_faulty_label_maps_are_refused_by_name(tmp_path):
    folder = label_maps(tmp_path / "d", ["good", "unknown", "empty", "broken", "twin"])
    write_label(folder / "unknown.nii.gz", mask((17, 53, 241)), AFFINE)
    write_label(folder / "empty.nii.gz", mask((41,)), AFFINE)
    (folder / "broken.nii.gz").write_bytes(b"no label")
    shutil.copy(folder / "good.nii.gz", folder / "twin.nii.gz")
    both = ["left_hippocampus", "right_hippocampus"]
    chosen = dataset("label_maps", folder, both, label_table="freesurfer", on_bad_case="drop")
    chosen = chosen.model_copy(update={"empty_labels": "refuse"})
    cases, problems = audit(chosen, tmp_path)
    assert [(case.case, case.subject) for case in cases] == [("good", "good"), ("twin", "good")]
    for words in (
        "unknown\tunknown.nii.gz\tunknown label values 241",
        "empty\tempty.nii.gz\tempty: no voxel of any structure",
        "broken\tbroken.nii.gz\t",
        "twin\ttwin.nii.gz\tthe same label map as case good",
    ):
        assert words in problems


def test_a_folder_without_label_maps_says_where_some_are(tmp_path):
    label_maps(tmp_path / "training_label_maps")
    with pytest.raises(
        InputError, match=r"no label map in it.*did you mean .*/training_label_maps"
    ):
        list_cases(dataset("label_maps", tmp_path, {"a": 17}))
    with pytest.raises(InputError, match="not a folder"):
        file = tmp_path / "training_label_maps/training_07.nii.gz"
        list_cases(dataset("label_maps", file, {"a": 17}))


# --- another folder than the one that was meant ---------------------------------------------------


def test_a_folder_too_deep_or_too_high_is_answered_with_the_right_one(tmp_path):
    folders = {
        "segthor": (segthor(tmp_path / "segthor/data"), "train"),
        "neurite_oasis": (neurite(tmp_path / "neurite/data"), "OASIS_OAS1_0001_MR1"),
        "bids": (bids(tmp_path / "bids/data"), "derivatives/freesurfer"),
        "oasis_slices": (
            oasis_slices(tmp_path / "slices/data", size=16),
            "keras_png_slices_train",
        ),
    }
    for layout, (folder, inner) in folders.items():
        places = [folder / inner]
        if layout != "oasis_slices":  # whose folders are found wherever they lie below
            places.append(folder.parent)
        for place in places:
            with pytest.raises(InputError, match=f"did you mean {folder}\\?"):
                list_cases(dataset(layout, place, {"a": 1}))


# --- four channels ------------------------------------------------------------------------------


def test_four_channels_in_the_fourth_axis(tmp_path):
    for number in range(2):
        image = np.stack([voxels(10 * number + channel) for channel in range(4)], axis=-1)
        write_nifti(tmp_path / f"d/imagesTr/b{number}.nii.gz", image, AFFINE)
        write_label(tmp_path / f"d/labelsTr/b{number}.nii.gz", mask((1, 2, 3)), AFFINE)
    files = [
        {"image": f"./imagesTr/b{n}.nii.gz", "label": f"./labelsTr/b{n}.nii.gz"} for n in (0, 1)
    ]
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    description = {"modality": modality, "training": files}
    (tmp_path / "d/dataset.json").write_text(json.dumps(description))
    four = {"edema": 1, "non_enhancing": 2, "enhancing": 3}
    chosen = dataset("msd", tmp_path / "d", four, channels=["flair", "t1", "t1gd", "t2"])
    cases, _ = audit(chosen, tmp_path)
    image = read_image(cases[1].images, 4)
    np.testing.assert_array_equal(image.array[2], voxels(12))


# --- real data in these layouts -----------------------------------------------------------------


def test_a_real_brain_in_freesurfer_numbers_as_bids(real_data, tmp_path):
    with np.load(real_data / "brain_freesurfer" / "test_scan.npz") as found:
        image, label = found["vol"].astype(np.float32), found["seg"].astype(np.uint8)
    name = tmp_path / "d/sub-1/anat/sub-1_T1w.nii.gz"
    labels = tmp_path / "d/derivatives/freesurfer/sub-1/anat/sub-1_dseg.nii.gz"
    write_nifti(name, image, np.eye(4))
    write_label(labels, label, np.eye(4))
    chosen = dataset(
        "bids",
        tmp_path / "d",
        ["hippocampus", "left_thalamus", "right_thalamus", "brain_stem"],
        label_table="freesurfer",
    )
    (case,), problems = audit(chosen, tmp_path)
    # All 46 values of this brain are in the table: none is refused as unknown.
    assert "unknown" not in problems
    assert case.voxels == {
        "hippocampus": int(np.isin(label, (17, 53)).sum()),
        "left_thalamus": int((label == 10).sum()),
        "right_thalamus": int((label == 49).sum()),
        "brain_stem": int((label == 16).sum()),
    }
    assert chosen.left_right_pairs == (("left_thalamus", "right_thalamus"),)


def test_a_real_label_map_names_the_values_outside_the_table(real_data):
    label = read_label(real_data / "brain_label_maps" / "training_seg_01.nii.gz")
    names = ["left_hippocampus", "right_hippocampus", "ventral_dc"]
    more = {"label_table": "freesurfer"}
    (problem,) = label_problems(label, dataset("bids", ".", names, **more))
    # SynthSeg's own values: inside the brain from 136 on, outside of it 5xx.
    own = [136, 137, 163, 164, 502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530]
    assert problem[0].startswith("unknown label values 136 (") and "and 10 more" in problem[0]
    assert label_problems(label, dataset("bids", ".", names, background_labels=own, **more)) == []


SYNTHSEG_OWN = (136, 137, 163, 164, 502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)


def test_the_real_label_maps_pass_the_audit(real_data, tmp_path):
    chosen = dataset(
        "label_maps",
        real_data / "brain_label_maps",
        ["hippocampus", "left_thalamus", "right_thalamus"],
        label_table="freesurfer",
        background_labels=SYNTHSEG_OWN,
    )
    cases, problems = audit(chosen, tmp_path)
    assert [case.case for case in cases] == [f"training_seg_{n:02d}" for n in range(1, 11)]
    assert {case.shape for case in cases} == {(256, 256, 256)}
    assert {case.spacing_mm for case in cases} == {(1, 1, 1)}
    assert all(not case.images and 2000 < case.voxels["left_thalamus"] < 20000 for case in cases)
    assert chosen.left_right_pairs == (("left_thalamus", "right_thalamus"),)
    assert "refused" not in problems


def test_a_real_four_channel_glioma(real_data, tmp_path):
    folder = real_data / "glioma_4ch"
    table = tmp_path / "cohort.tsv"
    images = [
        next((folder / "raw_bet").glob(f"*_{name}_bet.nii.gz"))
        for name in ("fla", "t1", "t1c", "t2")
    ]
    row = ["glioma", *map(str, images), str(folder / "fusion" / "mav.nii.gz")]
    head = ["case", "image_flair", "image_t1", "image_t1gd", "image_t2", "label"]
    table.write_text("\t".join(head) + "\n" + "\t".join(row) + "\n")
    chosen = dataset(
        "table",
        table,
        {"non_enhancing": 1, "edema": 2, "enhancing": 4},
        channels=["flair", "t1", "t1gd", "t2"],
    )
    (case,), _ = audit(chosen, tmp_path)
    assert case.shape == (240, 240, 155)
    assert min(case.voxels.values()) > 0
