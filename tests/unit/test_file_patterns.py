"""What a pattern of file names matches, and what its names stand for there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy.file_patterns import Folder, Pattern, check_pattern, matching_files, nearest
from segstudy.paths import delivered_files

WORDS = st.text("abcXYZ019-.", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("{case}.nii.gz", "a.nii.gz", {"case": "a"}),
        ("{case}.nii.gz", "in/a.nii.gz", None),
        ("*/{case}.nii.gz", "in/a.nii.gz", {"case": "a"}),
        ("{subject}/{subject}_{frame}.nii", "p_1/p_1_ed.nii", {"subject": "p_1", "frame": "ed"}),
        ("{subject}/{subject}_{frame}.nii", "p_1/p_2_ed.nii", None),
        ("{case}_seg*.nii", "a_seg-final.nii", {"case": "a"}),
        ("{case}_seg*.nii", "a_seg.nii", {"case": "a"}),
        ("img(1)+.{case}.nii", "img(1)+.x.nii", {"case": "x"}),
        ("img(1)+.{case}.nii", "img11+.x.nii", None),
        # One accented letter as one sign in the pattern, and as two on the disk.
        ("M\u00fcller/{case}.nii", "Mu\u0308ller/a.nii", {"case": "a"}),
    ],
)
def test_a_pattern_matches_whole_paths(text, path, values):
    assert Pattern(text).match(path) == values


@given(subject=WORDS, time=WORDS, case=WORDS)
def test_what_a_pattern_is_filled_with_is_found_again(subject, time, case):
    values = {"subject": subject, "time": time, "case": case}
    pattern = Pattern("{subject}/{time}_ct/{subject}_{case}.nii.gz")
    assert pattern.match(pattern.filled(values)) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a path below source.path"),
        ("/data/{case}.nii", "expected a path below source.path"),
        ("../labels/{case}.nii", "let source.path be the folder above both"),
        ("~/{case}.nii", "expected a path below source.path"),
        ("a//{case}.nii", "an empty part"),
        ("**/{case}.nii", r"\*\* is not known"),
        ("{case}*.nii", "nothing between {case} and"),
        ("{subject}{time}.nii", "nothing between {subject} and {time}"),
        ("{case.nii", "found {"),
        ("case}.nii", "found }"),
        ("{the case}.nii", "found {the case}"),
        ("{}.nii", "found {}"),
        ("{1}.nii", "found {1}"),
    ],
)
def test_what_is_no_pattern_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        check_pattern(text)


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_hidden_files_and_deeper_ones_are_not_found(tmp_path):
    touch(tmp_path, "a/ct.nii", "b/ct.nii", "b/._ct.nii", ".c/ct.nii", "d/e/ct.nii", "ct.nii")
    found = Folder(tmp_path).found(Pattern("{case}/ct.nii"))
    assert found == {"a/ct.nii": {"case": "a"}, "b/ct.nii": {"case": "b"}}


def test_a_linked_folder_is_looked_into(tmp_path):
    touch(tmp_path, "elsewhere/ct.nii")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    assert list(Folder(tmp_path / "data").found(Pattern("{case}/ct.nii"))) == ["a/ct.nii"]


def test_only_what_patterns_match_is_delivered(tmp_path):
    """A job depends on no file that the study does not read: braces in its name are none of its business."""
    touch(tmp_path, "a/ct.nii", "a/seg.nii", "a/{other}.nii", "a/seg_2.nii", "dataset.json")
    patterns = ["{case}/ct.nii", "{case}/seg.nii"]
    assert [file.name for file in matching_files(tmp_path, patterns)] == ["ct.nii", "seg.nii"]
    names = [f"{tmp_path}/{name}" for name in ("a/ct.nii", "a/seg.nii", "dataset.json")]
    assert delivered_files(str(tmp_path), False, patterns) == names


def test_the_voxels_of_a_detached_header_are_delivered_too(tmp_path):
    (tmp_path / "a.mhd").write_text("NDims = 3\nElementDataFile = a.raw\n")
    touch(tmp_path, "a.raw")
    names = [f"{tmp_path}/a.mhd", f"{tmp_path}/a.raw"]
    assert delivered_files(str(tmp_path), False, ["{case}.mhd"]) == names


ROLES = {"image": Pattern("images/{case}_0000.nii.gz"), "label": Pattern("labels/{case}.nii.gz")}


@pytest.mark.parametrize(
    ("path", "role", "why"),
    [
        ("images/a.nii.gz", "image", "a.nii.gz is not {case}_0000.nii.gz"),
        ("label/a.nii.gz", "label", "label is not labels"),
        ("labels/sub/a.nii.gz", "label", "this lies 1 folder deeper"),
        ("a_0000.nii.gz", "image", "this lies 1 folder higher"),
    ],
)
def test_the_nearest_pattern_is_named_with_the_difference(path, role, why):
    assert nearest(path, ROLES) == f"nearest is {role}: {ROLES[role].text}, but {why}"


def test_a_name_that_disagrees_within_a_path_is_told():
    roles = {"image": Pattern("{case}/{case}.nii")}
    assert nearest("a/b.nii", roles).endswith("but a name in braces stands for two different texts")
