"""Files that are broken, on purpose or as they came, through the audit in every role."""

import warnings

import pytest

from faults import break_files, judge, table

GOOD_IMAGES = {"halves.nii.gz", "negative_value.nii.gz"}
LABEL_MAPS = {"unknown_value.nii.gz"}  # sound, and warned of where an image should be
ODD_LABELS = {
    "halves.nii.gz": "expected whole numbers",
    "negative_value.nii.gz": "expected 0 to 65535",
    "unknown_value.nii.gz": "unknown label values 5",
    "empty.nii.gz": "empty: no voxel of any structure",
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return {path.name: path for path in break_files(tmp_path_factory.mktemp("broken"))}


def test_no_fault_is_taken_for_sound_and_none_breaks_the_audit(broken):
    for file, role, outcome in table(broken.values()):
        assert outcome.verdict != "trace", outcome.message
        sound = role == "image" and file.name in GOOD_IMAGES
        expected = "good" if sound else "refused"
        if role == "image" and file.name in LABEL_MAPS:
            expected = "warned"
            assert "label map in the place of an image" in outcome.message
        if role == "label" and file.name == "empty.nii.gz":
            expected = "warned"  # a healthy control
        assert outcome.verdict == expected, (file.name, role, outcome)
        assert sound or outcome.message
        assert "\n" not in outcome.message


@pytest.mark.parametrize(("name", "words"), ODD_LABELS.items())
def test_a_wrong_label_is_refused_for_what_is_wrong(broken, name, words):
    assert words in judge(broken[name], "label").message


@pytest.mark.parametrize("role", ["image", "label"])
def test_a_bomb_is_refused_before_it_fills_the_memory(broken, role):
    assert "more bytes than the header promises" in judge(broken["bomb.nii.gz"], role).message


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_header_that_promises_more_than_the_file_can_hold(broken, suffix):
    told = judge(broken[f"claims_33_terabytes.{suffix}"], "image").message
    assert "32000x32000x32000 voxels are 32,768,000,000,352 bytes" in told


# Real label maps that hold nothing but the values 1 and 2; every other file is refused as a label.
REAL_LABELS = {
    "case000002.nii.gz",
    "case000005.nii.gz",
    "label_without_partner_hippocampus_010.nii.gz",
    "label_without_partner_hippocampus_281.nii.gz",
    "anatomical_label.nii.gz",
    "reoriented_anat_moved_label.nii.gz",
    "draw.nii.gz",
    "mt1_seg.nii.gz",
    "t1w_seg-manual.nii.gz",
    "t2_seg-manual.nii.gz",
    "t2s_gmseg_manual.nii.gz",
    "t2s_seg-deepseg.nii.gz",
    "t2s_seg.nii.gz",
}
# Several channels, RGB, complex and infinite voxels.
NO_REAL_IMAGES = {
    "case000000.nii.gz",
    "case000004.nii.gz",
    "complex_image.nii.gz",
    "ct_perfusion.nii.gz",
    "mtr.nii.gz",
}


def test_every_real_file_in_every_role(real_data):
    files = sorted(path for path in (real_data / "faults").rglob("*") if path.is_file())
    assert len(files) > 30
    with warnings.catch_warnings():
        found = table(files)
    for file, role, outcome in found:
        assert outcome.verdict != "trace", outcome.message
        accepted = outcome.verdict != "refused"
        if role == "image":
            # Label maps of the same name lie beside images that are sound.
            odd = file.name in NO_REAL_IMAGES and file.parent.name != "fixed_images"
            assert accepted != odd, (file, outcome)
        else:
            label = file.name in REAL_LABELS and file.parent.name != "fixed_images"
            assert accepted == label, (file, outcome)
