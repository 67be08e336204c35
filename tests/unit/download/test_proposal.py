"""What is proposed for a folder, compared with what docs/your_data.md says of the same data set."""

from pathlib import Path

import public_trees
import pytest
import yaml
from download_builders import AFFINE, decathlon, describe, mask, voxels
from test_public_data import BLOCKS

from segstudy.cli import main
from segstudy.download.layouts import list_cases
from segstudy.download.name_groups import groups_of
from segstudy.download.proposal import propose
from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
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
    assert "1 files do not pair, such as 3: img/3_ct.nii: image without label" in said


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
