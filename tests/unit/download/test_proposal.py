"""What is proposed for a folder, compared with what docs/your_data.md says of the same data set."""

import unicodedata
from pathlib import Path

import numpy as np
import public_trees
import pytest
import yaml
from download_builders import AFFINE, SHAPE, decathlon, describe, mask, voxels
from PIL import Image as Picture
from test_public_data import BLOCKS

from dicom_series import write_series
from segstudy.cli import main
from segstudy.download.audit import audit
from segstudy.download.layouts import list_cases
from segstudy.download.name_groups import groups_of
from segstudy.download.proposal import propose
from segstudy.errors import InputError
from segstudy.images.files import Image, write_label, write_nifti
from segstudy.images.label_formats import LABEL_FORMATS
from segstudy.study import Dataset, read_study


def files_of(listing):
    """Subject, images and labels of each case."""
    return [
        (
            case.subject,
            set(case.images),
            {file for own in masks.structures.values() for file in own}
            if (masks := listing.masks.get(case.label))
            else {case.label},
        )
        for case in sorted(listing.cases, key=lambda case: case.label)
    ]


def group_by_subject(cases):
    subjects = {}
    for subject, images, _ in cases:
        subjects.setdefault(subject, []).append(min(images))
    return sorted(map(sorted, subjects.values()))


def compared(name, root):
    """Return what is proposed for a data set, and what of it is as the page has it."""
    getattr(public_trees, name)(root)
    entry = yaml.safe_load(BLOCKS[name])[name]
    top = root / Path(entry["source"]["path"]).parts[0]
    entry["source"]["path"] = str(root / entry["source"]["path"])
    page = Dataset.model_validate(entry)
    proposal = propose(top)
    proposed = Dataset.model_validate(proposal.entry)
    theirs, own = (files_of(list_cases(dataset)) for dataset in (page, proposed))
    by_images = {min(images): labels for _, images, labels in own}
    return proposal, {
        "images": [images for _, images, _ in theirs] == [images for _, images, _ in own],
        "labels": all(labels <= by_images.get(min(images), set()) for _, images, labels in theirs),
        "subjects": group_by_subject(theirs) == group_by_subject(own),
        "modality": page.modality == proposed.modality,
    }


WRONG = {"acdc": {"modality"}, "promise12": {"modality"}}
"""What is not proposed as on the page: these names say no modality, and all images here are in Hounsfield units."""


@pytest.mark.parametrize("name", BLOCKS)
def test_the_data_sets_of_the_page_are_proposed(name, tmp_path):
    proposal, right = compared(name, tmp_path)
    assert {what for what, is_right in right.items() if not is_right} == WRONG.get(name, set())
    assert len(proposal.text(name).split("    modality")[0].splitlines()) <= 9


def pair(root, image, label, values=(1, 2)):
    write_nifti(root / image, voxels(1), AFFINE)
    write_label(root / label, mask(values), AFFINE)


def test_folders_of_people_without_a_number_are_cases(tmp_path):
    for name in ("anna", "bert"):
        pair(tmp_path, f"{name}/ct.nii.gz", f"{name}/seg.nii.gz")
    proposal = propose(tmp_path)
    assert proposal.entry["source"]["image"] == "{case}/ct.nii.gz"
    assert proposal.entry["source"]["label"] == "{case}/seg.nii.gz"
    assert proposal.entry["modality"] == "CT"
    assert proposal.entry["structures"] == {"structure_1": 1, "structure_2": 2}
    assert proposal.unsure == ["structures: no file names the values (1, 2); write their names"]


def test_a_person_of_several_scans_is_the_subject(tmp_path):
    for name in ("a1/b1", "a1/b2", "a2/b1", "a3/b1"):
        pair(tmp_path, f"{name}_t1.nii", f"{name}_t1_mask.nii", [1])
    proposal = propose(tmp_path)
    assert proposal.entry["source"]["label"] == "a{subject}/b{b}_t1_mask.nii"
    assert (proposal.cases, proposal.subjects) == (4, 3)
    assert "source: {subject} is the person in a1/b1_t1.nii" in proposal.unsure


def test_nothing_is_taken_for_a_person_where_numbers_tell_cases_apart(tmp_path):
    paths = [f"batch {1 + k // 3}/volume-{k}.nii" for k in range(6)]
    (group,) = groups_of(paths)
    assert group.pattern(["{batch}", "{case}"]) == "batch {batch}/volume-{case}.nii"
    for path in paths:
        pair(tmp_path, path, path.replace("volume", "seg"))
    assert propose(tmp_path).entry["source"]["label"] == "batch {batch}/seg-{case}.nii"


def test_what_does_not_pair_and_what_is_left_out_is_told(tmp_path):
    for number in (1, 2):
        pair(tmp_path, f"img/{number}_ct.nii", f"gt/{number}.nii")
        pair(tmp_path, f"raw/{number}_ct.nii", f"old/{number}_gt.nii", [1])
    write_nifti(tmp_path / "img/3_ct.nii", voxels(3), AFFINE)
    proposal = propose(tmp_path)
    assert proposal.entry["source"]["image"] == "img/{case}_ct.nii"
    assert proposal.entry["source"]["label"] == "gt/{case}.nii"
    said = " | ".join(proposal.unsure)
    assert "source.image: raw/1_ct.nii is left out" in said
    assert "source.label: old/1_gt.nii may be labels too" in said
    assert "1 file does not pair, such as 3: img/3_ct.nii: image without label" in said


def test_a_description_is_taken_before_names(tmp_path):
    folder = decathlon(tmp_path / "set", cases=2)
    describe(
        folder, labels={"0": "background", "1": "the heart", "2": "aorta"}, modality={"0": "CT"}
    )
    entry = propose(folder).entry
    assert entry["source"] == {"layout": "msd", "path": str(folder)}
    assert entry["structures"] == {"the_heart": 1, "aorta": 2}
    describe(folder, labels={"background": 0, "heart": 1, "ignore": 2}, modality={"0": "X"})
    proposal = propose(folder)
    assert (proposal.entry["structures"], proposal.entry["ignore"]) == ({"heart": 1}, 2)
    assert "modality: dataset.json does not say CT or MR" in proposal.unsure


def test_segthors_names_are_known(tmp_path):
    for number in (1, 2):
        folder = f"train/Patient_{number:02d}"
        pair(tmp_path, f"{folder}/Patient_{number:02d}.nii.gz", f"{folder}/GT.nii.gz")
    assert propose(tmp_path).entry["source"]["layout"] == "segthor"


def test_a_folder_without_pairs_is_refused(tmp_path):
    write_nifti(tmp_path / "a/1.nii", voxels(1), AFFINE)
    with pytest.raises(InputError, match="no images found whose names go with those of labels"):
        propose(tmp_path)
    with pytest.raises(InputError, match="not a folder; expected one with images and labels"):
        propose(tmp_path / "none")


def test_a_study_file_is_written_for_a_folder(tmp_path, capsys, monkeypatch):
    for number in (1, 2):
        pair(tmp_path, f"my scans/{number}_ct.nii", f"my scans/{number}_seg.nii", [1])
    monkeypatch.chdir(tmp_path)
    arguments = ["new", "studies/own.yaml", "--from", "my scans"]
    assert not main(arguments)
    out = capsys.readouterr().out
    assert "studies/own.yaml: files, 2 cases of 2 subjects\nunsure: structures: no file" in out
    study = read_study(tmp_path / "studies/own.yaml")
    (name,) = study.datasets
    assert name == "my_scans"
    assert Path(study.datasets[name].source.path).resolve() == tmp_path / "my scans"
    assert "# Unsure: structures: no file names" in (tmp_path / "studies/own.yaml").read_text()
    assert main(arguments) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["new", "--profile", "slurm", "--from", "my scans"]) == 1
    assert "is for a study file; leave out --profile (slurm)" in capsys.readouterr().err


# --- what stands for an image -------------------------------------------------------------------


def listed(root):
    """Propose, and list the cases of what is proposed: the proposal, and image and label of each case."""
    proposal = propose(root)
    listing = list_cases(Dataset.model_validate(proposal.entry))
    return proposal, {
        case.case: tuple(
            path.relative_to(root).as_posix() if path.is_relative_to(root) else "masks"
            for path in (*case.images, case.label)
        )
        for case in listing.cases
    }


@pytest.mark.parametrize("ending", [".dcm", ".IMA", ""])
def test_folders_of_dicom_files_beside_label_maps_are_proposed(tmp_path, ending):
    for k in range(3):
        series = write_series(tmp_path / f"PAT{k}/CT_THORAX", voxels(k), AFFINE)
        for file in sorted(series.iterdir()):
            file.rename(file.with_suffix(ending))
        write_label(tmp_path / f"PAT{k}/liver_seg.nii.gz", mask([1]), AFFINE)
    proposal, cases = listed(tmp_path)
    assert sorted(cases.values()) == [
        (f"PAT{k}/CT_THORAX", f"PAT{k}/liver_seg.nii.gz") for k in range(3)
    ]
    assert (proposal.entry["modality"], proposal.subjects) == ("CT", 3)


@pytest.mark.parametrize("in_a_folder", [True, False])
def test_dicom_seg_beside_dicom_folders_is_proposed_with_its_names(tmp_path, in_a_folder):
    for k in range(3):
        series = write_series(tmp_path / f"P{k}/ct", voxels(k), AFFINE)
        segmentation = tmp_path / (f"P{k}/seg/1.dcm" if in_a_folder else f"segs/P{k}.dcm")
        write_segmentation(segmentation, series, {"liver": 1, "tumour": 2})
    proposal, cases = listed(tmp_path)
    assert [images for images, _ in sorted(cases.values())] == [f"P{k}/ct" for k in range(3)]
    assert proposal.entry["structures"] == {"liver": 1, "tumour": 2}


def write_segmentation(path, series, structures):
    """Write what highdicom writes for two slabs."""
    label = np.zeros(SHAPE, np.uint8)
    label[1:3], label[3:5] = 1, 2
    LABEL_FORMATS["dicom-seg"].write(path, Image(label, AFFINE), structures, series)


@pytest.mark.parametrize("levels", [255, 20])
@pytest.mark.parametrize("folders", [("images", "masks"), ("train/images", "train/masks")])
def test_pictures_of_two_folders_are_cases_of_one_slice(tmp_path, folders, levels):
    draw = np.random.default_rng(0)
    for k in range(3):
        gray = draw.integers(0, levels, (30, 40)).astype(np.uint8)
        for folder, array in zip(folders, (gray, (gray > levels / 2) * np.uint8(255)), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True, parents=True)
            Picture.fromarray(array).save(tmp_path / folder / f"{k}.png")
    proposal, cases = listed(tmp_path)
    assert sorted(cases.values()) == [
        (f"{folders[0]}/{k}.png", f"{folders[1]}/{k}.png") for k in range(3)
    ]
    assert proposal.entry["structures"] == {"structure": 255}
    assert (proposal.entry["modality"], proposal.entry["spacing_mm"]) == ("other", [1, 1, 1])
    assert any(one.startswith("spacing_mm: pictures do not tell") for one in proposal.unsure)
    audited, problems = audit(
        list_cases(Dataset.model_validate(proposal.entry)),
        Dataset.model_validate(proposal.entry),
        derived=tmp_path / "derived",
    )
    assert len(audited) == 3, problems


def test_a_case_with_other_names_and_a_segment_of_few_files_are_said(tmp_path):
    for k in range(3):
        series = write_series(tmp_path / f"P{k}/ct", voxels(k), AFFINE)
        names = {"liver": 1, "tumour" if k else "Tumor left": 2}
        write_segmentation(tmp_path / f"P{k}/seg.dcm", series, names)
    pair(tmp_path, "P4/scan.nii", "P4/truth.nii")
    said = propose(tmp_path).unsure
    assert "structures: Tumor left is in 1 of 3 files" in said
    assert "source.image: P4/scan.nii is left out" in said
    assert "source.label: P4/truth.nii is left out" in said


# --- files that some cases lack -----------------------------------------------------------------


def test_a_mask_that_one_case_lacks_is_proposed_and_said(tmp_path):
    for k in range(4):
        write_nifti(tmp_path / f"s{k}/ct.nii.gz", voxels(k), AFFINE)
        for name in ("liver", "tumor"):
            if (k, name) != (1, "tumor"):
                write_label(tmp_path / f"s{k}/segmentations/{name}.nii.gz", mask([1]), AFFINE)
    proposal, cases = listed(tmp_path)
    assert len(cases) == 4
    assert set(proposal.entry["source"]["masks"]) == {"liver", "tumor"}
    assert proposal.entry["source"]["missing_masks"] == "empty"
    assert any("1 of 4 cases have no mask of tumor" in one for one in proposal.unsure)


def test_a_channel_that_one_case_lacks_is_kept_and_its_file_named(tmp_path):
    for k in range(4):
        stem = f"BraTS-{k:03d}/BraTS-{k:03d}"
        for channel in ("t1c", "t1n"):
            if (k, channel) != (3, "t1n"):
                write_nifti(tmp_path / f"{stem}-{channel}.nii.gz", voxels(k), AFFINE)
        write_label(tmp_path / f"{stem}-seg.nii.gz", mask(), AFFINE)
    proposal, cases = listed(tmp_path)
    assert set(proposal.entry["source"]["images"]) == {"t1c", "t1n"} and len(cases) == 3
    said = " | ".join(proposal.unsure)
    assert "source.images.t1n: 1 of 4 cases lack it" in said
    assert "expected BraTS-003/BraTS-003-t1n.nii.gz" in said


# --- several labels a case ----------------------------------------------------------------------


def test_two_raters_are_no_two_structures(tmp_path):
    for k in range(3):
        write_nifti(tmp_path / f"{k}/image.nii.gz", voxels(k), AFFINE)
        for rater in (1, 2):
            write_label(tmp_path / f"{k}/seg_rater{rater}.nii.gz", mask([1]), AFFINE)
    proposal, cases = listed(tmp_path)
    assert [files[1] for files in sorted(cases.values())] == [
        f"{k}/seg_rater1.nii.gz" for k in range(3)
    ]
    assert (
        "source.label: 0/seg_rater2.nii.gz may be labels of another rater: one is taken"
        in proposal.unsure
    )


def test_channels_that_numbers_tell_apart_are_proposed(tmp_path):
    for k in range(3):
        for channel in range(2):
            write_nifti(
                tmp_path / f"img/case_{k:03d}_{channel:04d}.nii", voxels(9 * k + channel), AFFINE
            )
        write_label(tmp_path / f"lab/case_{k:03d}.nii", mask(), AFFINE)
    proposal, cases = listed(tmp_path)
    assert any(
        one.startswith("source.images: a number tells part_0000, part_0001 apart")
        for one in proposal.unsure
    )
    assert sorted(cases.values()) == [
        (f"img/case_{k:03d}_0000.nii", f"img/case_{k:03d}_0001.nii", f"lab/case_{k:03d}.nii")
        for k in range(3)
    ]


def test_numbers_of_objects_are_one_structure_and_said(tmp_path):
    for k in range(3):
        objects = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)
        write_nifti(tmp_path / f"{k}/ct.nii.gz", voxels(k), AFFINE)
        write_label(tmp_path / f"{k}/seg.nii.gz", objects, AFFINE)
    proposal, cases = listed(tmp_path)
    assert len(cases) == 3
    assert proposal.entry["structures"] == {"structure": list(range(1, int(np.prod(SHAPE))))}
    assert any("as where each object has a number of its own" in one for one in proposal.unsure)


def test_soft_labels_alone_are_refused_with_what_they_are(tmp_path):
    for k in range(3):
        write_nifti(tmp_path / f"img/{k}.nii", voxels(k), AFFINE)
        write_nifti(tmp_path / f"lab/{k}.nii", mask() * np.float32(0.4), AFFINE)
    with pytest.raises(InputError, match=r"named as one, but not readable .*lab/0.nii: .*0\.4"):
        propose(tmp_path)
    for k in range(3):
        write_label(tmp_path / f"hard/{k}_seg.nii", mask(), AFFINE)
    proposal, cases = listed(tmp_path)
    assert proposal.entry["source"]["image"] == "img/{case}.nii" and len(cases) == 3


# --- time points --------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [("base", "fu"), ("base", "fu1", "fu2")])
@pytest.mark.parametrize(
    "name", ["pat{}_{}_{}.nii.gz", "{1}/{2}_{0:03d}.nii.gz", "p{}/{}/{}.nii.gz"]
)
def test_words_of_time_points_are_cases_of_a_person(tmp_path, name, times):
    for k in range(3):
        for time in times:
            pair(tmp_path, name.format(k, time, "image"), name.format(k, time, "mask"))
    proposal, cases = listed(tmp_path)
    expected = {
        (name.format(k, time, "image"), name.format(k, time, "mask"))
        for k in range(3)
        for time in times
    }
    assert set(cases.values()) == expected
    assert proposal.subjects == 3 or "write {subject}" in " ".join(proposal.unsure)
    assert "images" not in proposal.entry["source"] and "masks" not in proposal.entry["source"]


NAMES = ["Anna Maier (2)", "Fox [post]", "MÜLLER, José", "Anna"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{case}.nii.gz", "{case}_seg.nii.gz"),
        ("{case}_T1.nii.gz", "seg {case}.nii.gz"),
        ("images/{case}.nii.gz", "labels/{case}.nii.gz"),
        ("{case}/image.nii.gz", "{case}/label.nii.gz"),
    ],
)
def test_names_of_people_are_found_whatever_they_are_written_with(tmp_path, form, image, label):
    """A label's name is composed, also where the image's is not: the letter is the same."""
    for name in NAMES:
        composed = unicodedata.normalize("NFC", name)
        own = unicodedata.normalize(form, name)
        same = own if image.startswith("{case}/") else composed
        pair(tmp_path, image.format(case=own), label.format(case=same))
    proposal = propose(tmp_path)
    source = proposal.entry["source"]
    assert (source["image"], source["label"]) == (image, label)
    assert {case.case for case in list_cases(Dataset.model_validate(proposal.entry)).cases} == {
        unicodedata.normalize("NFC", name) for name in NAMES
    }
    assert not [said for said in proposal.unsure if "left out" in said or "time points" in said]
