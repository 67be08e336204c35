"""How files are paired by patterns, and what is said of those that are left."""

from pathlib import Path
from tempfile import TemporaryDirectory

import download_builders
import hypothesis
import numpy as np
import pytest
import yaml
from download_builders import AFFINE, mask, voxels
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.download.audit import refused_in_words
from segstudy.download.convert import merge_masks
from segstudy.download.layouts import list_cases
from segstudy.download.names import named_safely
from segstudy.download.overview import overview
from segstudy.errors import InputError
from segstudy.images.files import read_label, write_label, write_nifti
from segstudy.study import Dataset, from_json

PAIR = {"image": "{case}.nii.gz", "label": "{case}_seg.nii.gz"}


def touch(root, *paths):
    """Make files that nobody opens."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"none")


def settings(root, structures=None, **source):
    source = {"layout": "files", "path": str(root), **(source or PAIR)}
    structures = structures or {"heart": 1, "aorta": 2}
    return Dataset.model_validate({"source": source, "modality": "CT", "structures": structures})


def refused(listing):
    return [str(problem) for problem in listing.problems if problem.verdict == "refused"]


# --- pairing ------------------------------------------------------------------------------------


def test_what_matches_the_label_is_no_image(tmp_path):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz")
    listing = list_cases(settings(tmp_path))
    assert [(case.case, case.label.name) for case in listing.cases] == [
        ("a", "a_seg.nii.gz"),
        ("b", "b_seg.nii.gz"),
    ]
    assert listing.problems == []


def test_a_short_pattern_of_labels_leaves_the_images_alone(tmp_path):
    """`{case}.nii.gz` matches every file, and the images' pattern says more of them."""
    touch(tmp_path, "a_ct.nii.gz", "a.nii.gz")
    listing = list_cases(settings(tmp_path, image="{case}_ct.nii.gz", label="{case}.nii.gz"))
    assert [(case.images[0].name, case.label.name) for case in listing.cases] == [
        ("a_ct.nii.gz", "a.nii.gz")
    ]
    assert listing.problems == []


def test_the_name_of_the_file_says_more_than_those_of_its_folders(tmp_path):
    touch(tmp_path, "scans_of_all/a.nii", "scans_of_all/a_seg.nii")
    patterns = {"image": "scans_of_all/{case}.nii", "label": "*/{case}_seg.nii"}
    listing = list_cases(settings(tmp_path, **patterns))
    assert [case.case for case in listing.cases] == ["a"]
    assert listing.problems == []


def test_names_are_joined_and_the_subject_keeps_its_cases(tmp_path):
    touch(tmp_path, "P1/early/ct.nii", "P1/late/ct.nii", "P1/early/seg.nii", "P1/late/seg.nii")
    patterns = {"image": "{subject}/{time}/ct.nii", "label": "{subject}/{time}/seg.nii"}
    cases = list_cases(settings(tmp_path, **patterns)).cases
    assert [(case.case, case.subject) for case in cases] == [("P1_early", "P1"), ("P1_late", "P1")]


@pytest.mark.parametrize("person", ["patient", "participant", "person", "sub"])
def test_other_words_for_the_subject_are_known(person, tmp_path):
    touch(tmp_path, "P1_a.nii", "P1_b.nii", "P1_a_seg.nii", "P1_b_seg.nii")
    name = f"{{{person}}}_{{time}}"
    listing = list_cases(settings(tmp_path, image=f"{name}.nii", label=f"{name}_seg.nii"))
    assert [(case.case, case.subject) for case in listing.cases] == [("P1_a", "P1"), ("P1_b", "P1")]
    assert listing.problems == []


@pytest.mark.parametrize(
    ("names", "doubted"),
    [
        (["P01_early", "P01_late", "P02_early"], True),
        (["GLI-00000-000", "GLI-00000-001", "GLI-00001-000"], True),
        (["FLARE22_Tr_0001", "FLARE22_Tr_0002"], False),
        (["Utrecht_1", "Utrecht_2", "Singapore_1"], False),
        (["sub-01_ses-1", "sub-02_ses-1"], False),
    ],
)
def test_cases_that_may_be_of_one_person_are_warned_of(names, doubted, tmp_path):
    for name in names:
        touch(tmp_path, f"{name}.nii.gz", f"{name}_seg.nii.gz")
    told = [str(problem) for problem in list_cases(settings(tmp_path)).problems]
    assert len(told) == doubted
    assert all(f"such as {names[0]} and {names[1]}," in text for text in told)


def test_channels_are_in_the_order_of_the_images(tmp_path):
    touch(tmp_path, "a_t2.nii", "a_t1.nii", "a_seg.nii")
    dataset = settings(
        tmp_path, images={"t2": "{case}_t2.nii", "t1": "{case}_t1.nii"}, label="{case}_seg.nii"
    )
    assert dataset.channels == ("t2", "t1")
    assert from_json(Dataset, dataset.to_json()) == dataset
    names = [path.name for path in list_cases(dataset).cases[0].images]
    assert names == ["a_t2.nii", "a_t1.nii"]


def test_a_case_without_its_label_is_refused_with_what_was_expected(tmp_path):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "c_seg.nii.gz")
    listing = list_cases(settings(tmp_path))
    assert [case.case for case in listing.cases] == ["a"]
    assert refused(listing) == [
        "b: b.nii.gz: image without label; expected b_seg.nii.gz",
        "c: c_seg.nii.gz: label without image; expected c.nii.gz",
    ]


def test_a_name_with_another_capital_is_told(tmp_path):
    touch(tmp_path, "img/a1.nii", "img/b1.nii", "seg/a1_label.nii", "seg/B1_Label.nii")
    patterns = {"image": "img/{case}.nii", "label": "seg/{case}_label.nii"}
    assert refused(list_cases(settings(tmp_path, **patterns))) == [
        "b1: img/b1.nii: image without label; expected seg/b1_label.nii; did you mean seg/B1_Label.nii?"
    ]


@pytest.mark.parametrize(
    ("there", "near"),
    [
        ("case_0002_Seg.nii.gz", "case_0002_Seg.nii.gz"),
        ("case_0002_segm.nii.gz", "case_0002_segm.nii.gz"),
        ("case_0012_seg.nii", ""),
        ("case_00021_seg.nii", ""),
    ],
)
def test_no_other_case_is_taken_for_the_one_that_lacks_a_file(tmp_path, there, near):
    touch(tmp_path, "case_0001.nii.gz", "case_0001_seg.nii.gz", "case_0002.nii.gz", there)
    text = next(text for text in refused(list_cases(settings(tmp_path))) if "case_0002:" in text)
    assert text.partition("; did you mean ")[2].rstrip("?") == near


def test_a_file_that_another_role_has_is_told(tmp_path):
    """A scan called `b_seg` has the name of the label of a scan `b`."""
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b_seg.nii.gz", "b_seg_seg.nii.gz")
    assert refused(list_cases(settings(tmp_path))) == [
        "b: b_seg.nii.gz: label without image; expected b.nii.gz",
        "b_seg: b_seg_seg.nii.gz: label without image; expected b_seg.nii.gz; it is there, and taken for label, whose "
        "pattern has more written out",
    ]


def test_several_files_of_a_role_are_named(tmp_path):
    touch(tmp_path, "a/ct_1.nii", "a/ct_2.nii", "a/seg.nii")
    listing = list_cases(settings(tmp_path, image="{case}/ct_*.nii", label="{case}/seg.nii"))
    (problem,) = refused(listing)
    assert problem.startswith(
        "a: a/ct_1.nii: 2 files of image for one case (a/ct_1.nii, a/ct_2.nii)"
    )
    assert listing.cases == []


def test_a_pattern_that_matches_nothing_says_where_it_ends(tmp_path):
    touch(tmp_path, "imagesTr/a.nii", "labelsTr/a.nii")
    patterns = {"image": "imagesTr/{case}.nii", "label": "labelTr/{case}.nii"}
    with pytest.raises(
        InputError,
        match=r"no file matches label: labelTr/{case}.nii; nothing is labelTr; found imagesTr, labelsTr; did you mean labelsTr\?",
    ):
        list_cases(settings(tmp_path, **patterns))


@pytest.mark.parametrize("path", ["", "set/training/img"])
def test_a_folder_too_high_or_too_deep_says_which_is_meant(tmp_path, path):
    touch(tmp_path, "set/training/img/a.nii", "set/training/seg/a.nii")
    patterns = {"image": "img/{case}.nii", "label": "seg/{case}.nii"}
    with pytest.raises(InputError, match=r"did you mean source.path: \S*set/training\?"):
        list_cases(settings(tmp_path / (path or "set"), **patterns))


def test_a_folder_of_dicom_files_is_an_image(tmp_path):
    touch(tmp_path, "a_seg.nii", "b_seg.nii", "b/notes.txt")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    dataset = settings(tmp_path, image="{case}", label="{case}_seg.nii")
    listing = list_cases(dataset)
    assert [case.images for case in listing.cases] == [(tmp_path / "a",)]
    (text,) = refused(listing)
    assert text.startswith("b: b: a folder")
    assert not [line for line in overview("mine", dataset).lines if "1.dcm" in line]


SUBJECTS = st.sampled_from(["P1", "P10", "a_b", "a", "b_c", "c"])
KINDS = st.sets(st.sampled_from(["t1", "t2", "seg"]))


@given(st.dictionaries(st.tuples(SUBJECTS, st.sampled_from(["1", "11"])), KINDS, max_size=8))
@example({("P1", "1"): {"t1", "t2", "seg"}, ("P1", "11"): {"t1", "t2"}, ("P10", "1"): set()})
@hypothesis.settings(max_examples=30, deadline=None)
def test_every_file_is_in_a_case_or_is_told_of(there):
    """No file that a pattern matches is passed over in silence, and none is paired with another case's."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, "P0/0_t1.nii", "P0/0_t2.nii", "P0/0_seg.nii")
        for (subject, time), kinds in there.items():
            touch(root, *(f"{subject}/{time}_{kind}.nii" for kind in kinds))
        images = {kind: f"{{subject}}/{{time}}_{kind}.nii" for kind in ("t1", "t2")}
        listing = list_cases(settings(root, images=images, label="{subject}/{time}_seg.nii"))
    whole = {key for key, kinds in there.items() if len(kinds) == 3} | {("P0", "0")}
    assert sorted((case.case, case.subject) for case in listing.cases) == sorted(
        ("_".join(key), key[0]) for key in whole
    )
    for case in listing.cases:
        assert {f"{file.parent.name}_{file.name.split('_')[0]}" for file in case.files} == {
            case.case
        }
        assert [file.stem.split("_")[1] for file in case.files] == ["t1", "t2", "seg"]
    part = {"_".join(key) for key, kinds in there.items() if 0 < len(kinds) < 3}
    assert sorted(problem.case for problem in listing.problems) == sorted(part)


# --- split and fold -----------------------------------------------------------------------------


def test_split_and_fold_come_from_folders(tmp_path):
    touch(tmp_path, "Tr/a.nii", "Tr/a_seg.nii", "testing/b.nii", "testing/b_seg.nii")
    patterns = {"image": "{split}/{case}.nii", "label": "*/{case}_seg.nii"}
    cases = list_cases(settings(tmp_path, **patterns)).cases
    assert [(case.case, case.split) for case in cases] == [("a", "train"), ("b", "test")]
    patterns = {"image": "fold{fold}/{case}.nii", "label": "fold{fold}/{case}_seg.nii"}
    touch(tmp_path / "2", "fold0/a.nii", "fold0/a_seg.nii", "fold1/b.nii", "fold1/b_seg.nii")
    cases = list_cases(settings(tmp_path / "2", **patterns)).cases
    assert [(case.case, case.fold) for case in cases] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("val/a.nii", "val/a_seg.nii"), "case a: {split} stands for val; expected train"),
        (("train/a.nii", "test/a_seg.nii"), "case a: {split} stands for test, train; expected"),
    ],
)
def test_a_folder_that_is_no_split_is_refused(tmp_path, files, words):
    touch(tmp_path, *files)
    patterns = {"image": "{split}/{case}.nii", "label": "{split}/{case}_seg.nii"}
    with pytest.raises(InputError, match=words):
        list_cases(settings(tmp_path, **patterns))


def test_a_folder_that_is_no_fold_is_refused(tmp_path):
    touch(tmp_path, "fold0/a.nii", "fold0/a_seg.nii")
    patterns = {"image": "{fold}/{case}.nii", "label": "{fold}/{case}_seg.nii"}
    with pytest.raises(InputError, match="{fold} stands for fold0; expected one whole number"):
        list_cases(settings(tmp_path, **patterns))


def test_a_subject_on_two_sides_is_told_before_a_run(tmp_path):
    files = ("train/P1_a", "test/P1_b", "train/P2_a", "train/P2_b")
    touch(tmp_path, *(f"{file}{end}.nii" for file in files for end in ("", "_seg")))
    patterns = {
        "image": "{split}/{subject}_{t}.nii",
        "label": "{split}/{subject}_{t}_seg.nii",
    }
    said = "\n".join(overview("mine", settings(tmp_path, **patterns)).lines)
    assert "P1_a: subject P1 is in test (case P1_b), train (case P1_a); expected one" in said
    assert "subject P2" not in said
    touch(tmp_path / "2", *(f"f{k}/P1_{k}{end}.nii" for k in (0, 1) for end in ("", "_seg")))
    patterns = {"image": "f{fold}/{subject}_{t}.nii", "label": "f{fold}/{subject}_{t}_seg.nii"}
    said = "\n".join(overview("mine", settings(tmp_path / "2", **patterns)).lines)
    assert "subject P1 is in fold 0 (case P1_0), fold 1 (case P1_1); expected one" in said


def test_no_brace_is_left_open_where_a_split_is_known(tmp_path):
    touch(tmp_path, "imagesTr/a.nii", "labelsTr/a.nii", "imagesTr/b.nii")
    patterns = {"image": "images{split}/{case}.nii", "label": "labels{split}/{case}.nii"}
    (said,) = refused(list_cases(settings(tmp_path, **patterns)))
    assert said == "b: imagesTr/b.nii: image without label; expected labelsTr/b.nii"
    touch(tmp_path, "imagesTs/a.nii", "labelsTs/a.nii", "labelsTr/b.nii")
    said = refused(list_cases(settings(tmp_path, **patterns)))
    assert "{split} in images{split}/{case}.nii is no part of a case's name" in said[0]
    assert not any("name it in braces" in line for line in said)


def test_a_cohort_in_chinese_letters_has_distinct_safe_names(tmp_path):
    touch(tmp_path, *(f"{name}{end}.nii.gz" for name in "李王张" for end in ("", "_seg")))
    listing = list_cases(settings(tmp_path))
    cases, problems = named_safely(listing.cases)
    assert [case.subject for case in cases] == sorted("李王张")
    assert len({case.case for case in cases}) == 3 and all(case.case.isascii() for case in cases)
    assert [problem.verdict for problem in problems] == ["warning"]


# --- masks --------------------------------------------------------------------------------------

MASKS = {
    "image": "{case}/ct.nii.gz",
    "masks": {
        "aorta": "{case}/aorta.nii.gz",
        "heart": ["{case}/left.nii.gz", "{case}/right.nii.gz"],
    },
}


def box(*ranges, value=1):
    array = np.zeros(voxels().shape, np.uint8)
    array[tuple(slice(*one) for one in ranges)] = value
    return array


def masked_case(root, case="a", **without):
    """An aorta of 2 x 2 x 2 voxels, a heart of 2 x 3 x 3 in two halves, that share 1 x 2 x 2."""
    write_nifti(root / case / "ct.nii.gz", voxels(len(case)), AFFINE)
    halves = {"left": box((1, 2), (1, 4), (1, 4)), "right": box((2, 3), (1, 4), (1, 4), value=255)}
    for name, array in {"aorta": box((2, 4), (2, 4), (2, 4)), **halves}.items():
        if name not in without:
            write_label(root / case / f"{name}.nii.gz", array, AFFINE)


def test_masks_become_one_label_map_by_precedence(tmp_path):
    masked_case(tmp_path)
    dataset = settings(tmp_path, **MASKS)
    listing = list_cases(dataset, derived=tmp_path / "derived")
    merged = merge_masks(listing, dataset.structures)
    label = read_label(merged.cases[0].label)
    assert np.allclose(label.affine, AFFINE)
    assert ((label.array == 2).sum(), (label.array == 1).sum()) == (8, 18 - 4)
    (problem,) = merged.problems
    assert str(problem) == (
        "a: a/left.nii.gz: the masks of aorta and heart overlap; the 4 voxels that both have are aorta, which stands first "
        "in source.masks"
    )
    assert problem.verdict == "warning"


def test_the_other_order_gives_the_other_structure_the_voxels(tmp_path):
    masked_case(tmp_path)
    dataset = settings(tmp_path, image=MASKS["image"], masks=dict(reversed(MASKS["masks"].items())))
    merged = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    label = read_label(merged.cases[0].label).array
    assert ((label == 2).sum(), (label == 1).sum()) == (4, 18)


def test_a_missing_mask_refuses_the_case_unless_it_means_an_absent_structure(tmp_path):
    masked_case(tmp_path)
    masked_case(tmp_path, "bb", aorta=True, left=True)
    masked_case(tmp_path, "ccc", aorta=True, left=True, right=True)
    listing = list_cases(settings(tmp_path, **MASKS))
    assert [case.case for case in listing.cases] == ["a"]
    assert refused(listing) == [
        "bb: bb/ct.nii.gz: image without mask of aorta, heart; expected bb/aorta.nii.gz, bb/left.nii.gz; where the structure "
        "is not in the image, set source.missing_masks: empty",
        "ccc: ccc/ct.nii.gz: image without mask of aorta, heart; expected ccc/aorta.nii.gz, ccc/left.nii.gz, ccc/right.nii.gz; "
        "where the structure is not in the image, set source.missing_masks: empty",
    ]
    dataset = settings(tmp_path, **MASKS, missing_masks="empty")
    merged = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    labels = {case.case: read_label(case.label).array for case in merged.cases}
    assert {name: np.bincount(label.ravel()).tolist()[1:] for name, label in labels.items()} == {
        "a": [14, 8],
        "bb": [9],
        "ccc": [],
    }


def test_a_mask_pattern_without_any_file_is_no_absent_structure_unheard(tmp_path):
    masked_case(tmp_path, aorta=True)
    (problem,) = list_cases(settings(tmp_path, **MASKS, missing_masks="empty")).problems
    assert str(problem) == (
        "no file matches masks.aorta: {case}/aorta.nii.gz; the structure is in no image"
    )
    with pytest.raises(InputError, match="no file matches masks.aorta"):
        list_cases(settings(tmp_path, **MASKS))


def test_a_mask_on_another_grid_refuses_the_case(tmp_path):
    masked_case(tmp_path)
    masked_case(tmp_path, "bb")
    write_label(tmp_path / "bb/right.nii.gz", box((2, 3), (1, 4), (1, 4)), AFFINE * [1, 1, 2, 1])
    dataset = settings(tmp_path, **MASKS)
    merged = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    assert [case.case for case in merged.cases] == ["a"]
    (text,) = refused(merged)
    assert text.startswith("bb: bb/right.nii.gz: other grid than its image (named first)")


def test_masks_of_an_image_of_several_channels_lie_on_its_grid(tmp_path):
    masked_case(tmp_path)
    both = np.stack([voxels(1), voxels(2)], -1)
    write_nifti(tmp_path / "a/ct.nii.gz", both, AFFINE)
    dataset = settings(tmp_path, **MASKS)
    merged = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    label = read_label(merged.cases[0].label)
    assert label.array.shape == voxels().shape
    assert np.allclose(label.affine, AFFINE)


@pytest.mark.parametrize("name", ["aorta", "ct"])
def test_a_damaged_file_refuses_the_case_by_name(tmp_path, name):
    masked_case(tmp_path)
    masked_case(tmp_path, "bb")
    (tmp_path / f"bb/{name}.nii.gz").write_bytes(b"no image at all")
    dataset = settings(tmp_path, **MASKS)
    merged = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    assert [case.case for case in merged.cases] == ["a"]
    (text,) = refused(merged)
    assert text.startswith(f"bb: bb/{name}.nii.gz: ")
    assert not (tmp_path / "derived/masks/bb.nii.gz").exists()


def test_a_mask_with_several_values_is_warned_of(tmp_path):
    masked_case(tmp_path)
    write_label(tmp_path / "a/aorta.nii.gz", mask((1, 3)), AFFINE)
    dataset = settings(tmp_path, **MASKS)
    merged = merge_masks(list_cases(dataset, derived=tmp_path / "derived"), dataset.structures)
    assert "a: a/aorta.nii.gz: a mask with several values (1, 3): all are taken for aorta" in [
        str(problem) for problem in merged.problems
    ]


def test_the_audit_of_masks_writes_a_table_that_names_the_label_maps(tmp_path):
    masked_case(tmp_path / "data")
    masked_case(tmp_path / "data", "bb", aorta=True)
    dataset = settings(tmp_path / "data", **MASKS, missing_masks="empty")
    table, problems = tmp_path / "out" / "cases.tsv", tmp_path / "out" / "problems.tsv"
    words = ["download", "audit", "--dataset", "mine", "--settings", dataset.to_json()]
    assert main([*words, "--cases", str(table), "--problems", str(problems)]) in (0, None)
    cases = {case.case: case for case in read_cases(table)}
    assert cases["a"].voxels == {"heart": 14, "aorta": 8}
    assert cases["bb"].voxels == {"heart": 18, "aorta": 0}
    assert cases["bb"].label == tmp_path / "out/derived/masks/bb.nii.gz"
    assert "overlap; the 4 voxels" in problems.read_text()


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"label": "{case}.nii"}, "needs one of image, images"),
        ({"image": "{case}.nii"}, "needs one of label, masks"),
        ({**PAIR, "masks": {"heart": "{case}_h.nii"}}, "needs one of label, masks"),
        ({"image": "{case}.nii", "label": "{case}.nii"}, "stands twice"),
        ({"image": "{a}/{b}.nii", "label": "{b}_seg.nii"}, "label: {b}_seg.nii: {a} is not in it"),
        ({"image": "ct.nii", "label": "seg.nii"}, "no name in the patterns"),
        ({"image": "{split}/ct.nii", "label": "{split}/seg.nii"}, "no name in the patterns"),
        ({"image": "{case}.nii", "masks": {"heart": []}}, "found .*expected a pattern, or a list"),
        ({"image": "{case}.nii", "masks": {"heart": 3}}, "found 3; expected a pattern, or a list"),
        ({**PAIR, "missing_masks": "empty"}, "missing_masks: is for masks"),
        ({"image": "/data/{case}.nii", "label": "{case}_seg.nii"}, "expected a path below"),
        (
            {"image": "{case}.nii", "masks": {"heart": "{case}_h.nii"}},
            r"source.masks: heart; expected one for each of the structures \(heart, aorta\)",
        ),
    ],
)
def test_patterns_that_cannot_pair_are_refused(tmp_path, source, words):
    with pytest.raises(ValidationError, match=words):
        settings(tmp_path, **source)


def test_images_of_other_channels_are_refused(tmp_path):
    source = {
        "layout": "files",
        "path": "x",
        "label": "{case}_seg.nii",
        "images": {"t1": "{case}.nii"},
    }
    entry = {"source": source, "modality": "MR", "structures": {"a": 1}, "channels": ["t2"]}
    with pytest.raises(
        ValidationError,
        match=r"source.images: t1; expected one for each of the channels \(t2\)",
    ):
        Dataset.model_validate(entry)


# --- what is told before a run ------------------------------------------------------------------


def test_the_overview_lists_cases_and_what_is_left_over(tmp_path):
    touch(tmp_path, "train/a.nii", "train/a_seg.nii", "test/b.nii", "test/c_seg.nii", "notes.txt")
    touch(tmp_path, *(f"old/scan_{number}.nii" for number in range(5)), "a.mgz")
    patterns = {"image": "{split}/{case}.nii", "label": "*/{case}_seg.nii"}
    touch(tmp_path, "extra/deep/x_seg.nii")
    found = overview("mine", settings(tmp_path, **{**patterns, "image": "t{split}/{case}.nii"}))
    assert found.refused == 1
    found = overview("mine", settings(tmp_path, image="tr*/{case}.nii", label="tr*/{case}_seg.nii"))
    assert found.refused == 0
    assert found.lines[:3] == [
        "datasets.mine: 1 case of 1 subject",
        "case\tsubject\timage\tlabel",
        "a\ta\ttrain/a.nii\ttrain/a_seg.nii",
    ]
    assert found.lines[3] == "datasets.mine: 9 image files left over:"
    assert (
        "  extra/deep/x_seg.nii: nearest is label: tr*/{case}_seg.nii, but this lies 1 folder deeper"
        in found.lines
    )
    assert "  and 4 more whose names differ in numbers alone" in found.lines
    assert found.lines[-1] == "datasets.mine: files that are read as no image: 1 .txt"


@pytest.mark.parametrize(
    ("layout", "build", "header", "rows"),
    [
        ("msd", download_builders.decathlon, ["case", "subject", "image", "label"], 3),
        ("bids", download_builders.bids, ["case", "subject", "image", "label"], 3),
        ("label_maps", download_builders.label_maps, ["case", "subject", "label"], 3),
    ],
)
def test_the_cases_of_other_layouts_are_told_too(tmp_path, layout, build, header, rows):
    dataset = download_builders.settings(layout, build(tmp_path))
    lines = overview("mine", dataset).lines
    assert lines[0].startswith(f"datasets.mine: {rows} cases of ")
    table = [line.split("\t") for line in lines[1 : 2 + rows]]
    assert table[0] == header
    assert all(len(row) == len(header) and all(row) for row in table)


def test_refusals_before_a_run_name_the_files(tmp_path):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz")
    words = refused_in_words(list_cases(settings(tmp_path)))
    assert words == ["b: b.nii.gz: image without label; expected b_seg.nii.gz"]


# --- the command line ---------------------------------------------------------------------------


def study_file(tmp_path, on_bad_case="fail"):
    """Write a study of the files in `data`, which has two whole cases and an image alone."""
    touch(tmp_path / "data", "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz", "c.nii.gz")
    file = tmp_path / "mine.yaml"
    content = {
        "datasets": {
            "chest": {
                "source": {"layout": "files", "path": "data", **PAIR},
                "modality": "CT",
                "structures": {"heart": 1},
                "on_bad_case": on_bad_case,
            }
        },
        "models": {"small": {"network": "enet"}},
    }
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_command_lists_the_cases_and_fails_where_a_run_would(tmp_path, capsys):
    file = study_file(tmp_path)
    assert main(["study", str(file), "--cases"]) == 1
    told = capsys.readouterr()
    assert "datasets.chest: 2 cases of 2 subjects" in told.out
    assert "b\tb\tb.nii.gz\tb_seg.nii.gz" in told.out
    assert "  c: c.nii.gz: image without label; expected c_seg.nii.gz" in told.out
    assert "datasets.chest: not every file fits" in told.err


def test_the_command_lists_the_cases_where_bad_ones_are_dropped(tmp_path, capsys):
    assert not main(["study", str(study_file(tmp_path, "drop")), "--cases"])
    assert "datasets.chest: 2 cases of 2 subjects" in capsys.readouterr().out


def test_a_study_whose_files_do_not_pair_is_refused_before_it_runs(tmp_path, capsys):
    assert main(["study", str(study_file(tmp_path))]) == 1
    assert "c: c.nii.gz: image without label; expected c_seg.nii.gz" in capsys.readouterr().err


def test_a_study_that_is_not_on_disk_yet_has_no_cases_to_tell(capsys):
    study = Path(__file__).resolve().parents[3] / "config" / "studies" / "demo.yaml"
    assert not main(["study", str(study), "--cases"])
    assert "is not on disk yet" in capsys.readouterr().out
