"""Every data set of docs/your_data.md, by the very YAML that stands there, on a small folder of its names."""

import re
from pathlib import Path

import public_trees
import pytest
import yaml
from public_trees import CASES, height

from segstudy.download.audit import audit
from segstudy.download.convert import merge_masks
from segstudy.download.layouts import list_cases
from segstudy.images.files import read_label
from segstudy.images.value_checks import REFUSED
from segstudy.study import Dataset

PAGE = Path(__file__).resolve().parents[3] / "docs" / "your_data.md"
BLOCKS = {
    next(iter(entry)): text
    for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    if (entry := yaml.safe_load(text)).keys() != {"datasets"}
}

# First case, its subject, and the ranks of the drawn structures that each structure is made of.
EXPECTED = {
    "acdc": ("patient000_01", "patient000", {"right_ventricle": [0], "left_ventricle": [2]}),
    "amos": ("Tr_amos_0000", None, {"spleen": [0], "right_kidney": [1], "left_kidney": [2]}),
    "brats21": ("BraTS2021_00000", None, {"necrosis": [0], "edema": [1], "enhancing": [2]}),
    "brats23": ("00000_000", "00000", {"necrosis": [0], "edema": [1], "enhancing": [2]}),
    "btcv": ("0000", None, {"spleen": [0], "right_kidney": [1], "left_kidney": [2]}),
    "chaos": ("1", None, {"liver": [0]}),
    "covid20": ("coronacases_000", None, {"infection": [0], "lungs": [1]}),
    "flare22": ("FLARE22_Tr_0000", None, {"liver": [0], "right_kidney": [1], "spleen": [2]}),
    "fmriprep": ("sub-00", None, {"hippocampus": [0, 1]}),
    "isles22": ("sub-strokecase0000_ses-0001", "sub-strokecase0000", {"lesion": [0]}),
    "kits": ("case_00000", None, {"kidney": [0], "tumour": [1], "cyst": [2]}),
    "lits": ("0", None, {"liver": [0], "tumour": [1]}),
    "mmwhs": ("ct_train_1001", None, {"left_ventricle": [0], "left_atrium": [2]}),
    "promise12": ("Case00", None, {"prostate": [0]}),
    "total": ("s0000", None, {"spleen": [0], "kidneys": [1, 2], "gallbladder": [3]}),
    "verse": ("sub-verse000", None, {"vertebrae": [0, 1, 2]}),
    "wmh": ("Singapore_0", None, {"lesion": [0]}),
    "slicer": ("case0", None, {"spleen": [0], "right_kidney": [1], "left_kidney": [2]}),
}


def test_each_data_set_of_the_page_is_tried():
    assert BLOCKS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_data_set_is_read_by_the_lines_of_the_page(name, tmp_path):
    text = BLOCKS[name]
    assert len(text.splitlines()) <= 7
    getattr(public_trees, name)(tmp_path)
    entry = yaml.safe_load(text)[name]
    entry["source"]["path"] = str(tmp_path / entry["source"]["path"])
    dataset = Dataset.model_validate(entry)
    derived = tmp_path / "derived"
    listing = list_cases(dataset, derived=derived)
    if listing.masks:
        listing = merge_masks(listing, dataset.structures)
    cases, problems = audit(listing, dataset, derived=derived)
    assert [str(problem) for problem in problems if problem.verdict == REFUSED] == []
    first, subject, ranks = EXPECTED[name]
    assert len(cases) == CASES * (2 if name == "acdc" else 1)
    assert (cases[0].case, cases[0].subject) == (first, subject or first)
    channels = entry["source"].get("images", {"image": ""})
    assert dataset.channels == tuple(channels)
    for number, case in enumerate(cases):
        drawn = number // 2 if name == "acdc" else number
        merged = read_label(case.label).array
        for structure, own in ranks.items():
            expected = sum(3 * height(drawn, rank) for rank in own)
            assert (merged == dataset.structures[structure]).sum() == expected, (case, structure)


def test_time_points_of_a_subject_stay_together(tmp_path):
    public_trees.brats23(tmp_path)
    entry = yaml.safe_load(BLOCKS["brats23"])["brats23"]
    entry["source"]["path"] = str(tmp_path / "BraTS2023")
    listing = list_cases(Dataset.model_validate(entry))
    assert [(case.case, case.subject) for case in listing.cases] == [
        ("00000_000", "00000"),
        ("00000_001", "00000"),
        ("00001_000", "00001"),
    ]
    kinds = [path.name.split("-")[-1] for path in listing.cases[0].images]
    assert kinds == ["t2f.nii.gz", "t1n.nii.gz", "t1c.nii.gz", "t2w.nii.gz"]


def test_overlapping_voxels_are_counted_for_each_case(tmp_path):
    public_trees.covid20(tmp_path)
    entry = yaml.safe_load(BLOCKS["covid20"])["covid20"]
    entry["source"]["path"] = str(tmp_path / "COVID20")
    dataset = Dataset.model_validate(entry)
    listing = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    said = [problem for problem in listing.problems if "overlap" in problem.problem]
    assert [(problem.case, problem.verdict) for problem in said] == [
        (f"coronacases_{k:03d}", "warning") for k in range(CASES)
    ]
    for k, problem in enumerate(said):
        assert f"the {3 * height(k, 0)} voxels that both have are infection" in problem.problem
        assert problem.file == f"Lung_Mask/coronacases_{k:03d}.nii.gz"
