"""Names of label values: those of 3D Slicer decide, others are compared with the study's."""

import nibabel
import numpy as np
import pytest
from download_builders import AFFINE, SHAPE, bids, decathlon, describe, mask, settings, voxels

from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.download.audit import audit
from segstudy.download.layouts import list_cases
from segstudy.errors import InputError
from segstudy.images.files import read_label, write_nifti
from segstudy.images.segments import is_name, named_segments, nifti_names, value_map

STRUCTURES = {"heart": 1, "aorta": 2}


def segmentation(file, array, segments):
    """A label (i, j, k) as 3D Slicer saves it. segments: (name, value in the file)."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing((1, 1, 2.5))
    for number, (name, value) in enumerate(segments):
        image.SetMetaData(f"Segment{number}_ID", f"Segment_{number + 1}")
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Layer", "0")
    SimpleITK.WriteImage(image, str(file), True)


def cohort(tmp_path, *patients):
    """A table of label files, each a list of segments (name, value); structures lie where `mask` says."""
    rows = ["case\timage\tlabel"]
    for number, segments in enumerate(patients):
        array = np.zeros(SHAPE, np.uint8)
        for place, (_, value) in zip((1, 2), segments, strict=False):
            array[mask() == place] = value
        write_nifti(tmp_path / f"i{number}.nii.gz", voxels(number), AFFINE)
        segmentation(tmp_path / f"l{number}.seg.nrrd", array, segments)
        rows.append(f"c{number}\ti{number}.nii.gz\tl{number}.seg.nrrd")
    (tmp_path / "cases.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path / "cases.tsv"


def run(tmp_path, table, **changes):
    dataset = settings("table", table, structures=STRUCTURES, **changes)
    code = main(
        [
            *("download", "audit", "--dataset", "d", "--settings", dataset.to_json()),
            *("--cases", str(tmp_path / "out" / "cases.tsv")),
            *("--problems", str(tmp_path / "out" / "problems.tsv")),
        ]
    )
    return code, (tmp_path / "out" / "problems.tsv").read_text()


@pytest.mark.parametrize(
    "segments",
    [
        [("heart", 1), ("aorta", 2)],
        [("Heart", 2), ("AORTA", 1)],
        [("heart", 7), ("aorta", 300)],
        [("heart", 2), ("aorta", 3)],
    ],
)
def test_in_files_of_slicer_the_name_decides(tmp_path, segments):
    array = [(name, min(value, 255)) for name, value in segments]
    table = cohort(tmp_path, [("heart", 1), ("aorta", 2)], array)
    code, problems = run(tmp_path, table)
    assert code == 0
    cases = read_cases(tmp_path / "out" / "cases.tsv")
    assert [case.voxels for case in cases] == [{"heart": 9, "aorta": 9}] * 2
    for case in cases:
        # ITK's axes run left and back, as AFFINE's do: the arrays are those that were written.
        np.testing.assert_array_equal(read_label(case.label).array, mask())
    moved = array != [("heart", 1), ("aorta", 2)]
    assert ("values in the file by the names in its header" in problems) == moved
    assert cases[0].label.name == "l0.seg.nrrd", "what is right stays as it is"


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ([("heart", 1), ("liver", 2)], "value 2 is 'liver', expected aorta"),
        ([("heart", 2), ("Segment_1", 1)], "value 1 is 'Segment_1', expected heart"),
        ([("heart", 1), ("aorta", 1)], "value 1 has two names"),
    ],
)
def test_names_that_contradict_the_study_are_refused(tmp_path, segments, words):
    code, problems = run(tmp_path, cohort(tmp_path, [("heart", 1), ("aorta", 2)], segments))
    assert code != 0
    (line,) = [line for line in problems.splitlines() if "\tc1\t" in line]
    assert words in line
    assert line.endswith("refused")


def test_a_value_without_a_name_is_not_taken_for_a_structure_that_has_one(tmp_path):
    table = cohort(tmp_path, [("heart", 2), ("aorta", 1)])
    array = mask() % 2 * 2  # the heart as 2
    array[5, 0, 0] = 1  # by its value heart too, but the header names no 1
    segmentation(tmp_path / "l0.seg.nrrd", array.astype(np.uint8), [("heart", 2)])
    code, problems = run(tmp_path, table)
    assert code != 0
    assert "value 1 has no name in the header" in problems


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ([("Herz", 1), ("Aortenbogen", 2)], "none is called as a structure (heart, aorta)"),
        ([("heart", 1), ("Segment_2", 2)], "'Segment_2' of the header has no structure's name"),
        ([("heart", 1), ("aorta1", 2)], "taken for aorta by its value 2"),
    ],
)
def test_names_that_say_little_leave_the_values_with_a_warning(tmp_path, segments, words):
    code, problems = run(tmp_path, cohort(tmp_path, segments))
    assert code == 0
    assert words in problems
    assert read_cases(tmp_path / "out" / "cases.tsv")[0].voxels == {"heart": 9, "aorta": 9}


def test_a_label_map_of_slicer_alone_and_merged_values(tmp_path):
    (tmp_path / "maps").mkdir()
    array = np.zeros(SHAPE, np.uint8)
    array[1], array[2], array[3] = 3, 1, 2
    segments = [("Left Lung", 3), ("heart", 1), ("right lung", 2)]
    segmentation(tmp_path / "maps" / "sub-1.seg.nrrd", array, segments)
    structures = {"heart": [4, 5], "lung_left": 1, "lung_right": 2}
    dataset = settings("label_maps", tmp_path / "maps", structures=structures)
    cases, problems = audit(list_cases(dataset), dataset)
    assert cases[0].voxels == {"heart": 35, "lung_left": 35, "lung_right": 35}
    assert "'Left Lung' 3 -> 1, 'heart' 1 -> 4" in str(problems[-1])


def test_words_in_another_order_are_the_same_name():
    assert is_name("right kidney", "kidney_right")
    assert is_name("RightKidney", "right_kidney")
    assert not is_name("left kidney", "kidney_right")
    assert not is_name("kidney", "kidney_right")
    assert is_name("LeftLung", "lung_left")
    assert is_name("Leber", "leber") and not is_name("心脏", "肝脏")


@pytest.mark.parametrize(
    ("said", "structure", "taken"),
    [
        ("Segment_1", "heart", True),
        ("anteriour", "anterior", True),
        ("Oesophagus", "esophagus", True),
        ("Vertebra L5", "vertebrae_L5", True),
        ("aorta1", "aorta", True),
        ("right kidny", "kidney_right", True),
        ("vertebrae_L4", "vertebrae_L5", False),
        ("vertebrae_T4", "vertebrae_L4", False),
        ("vertebrae_T1", "vertebrae_T11", False),
        ("nerve12", "nerve13", False),
        ("cranial nerve XII", "cranial_nerve_XIII", False),
        ("lung_upper_lobe_left", "lung_upper_lobe_right", False),
        ("lung_upper_lobe_left", "lung_lower_lobe_left", False),
        ("kidney_l", "kidney_r", False),
        ("kidney_l", "kidney", False),
        ("ascending_aorta", "descending_aorta", False),
        ("internal_carotid", "external_carotid", False),
        ("superior_colliculus", "inferior_colliculus", False),
        ("hypothalamus", "thalamus", False),
        ("ileum", "ilium", False),
    ],
)
def test_another_spelling_is_taken_and_another_number_or_side_is_not(
    tmp_path, said, structure, taken
):
    """A cohort where another segment has its right name, so that names decide."""
    segments = [("trachea", 1), (said, 2)]
    segmentation(tmp_path / "a.seg.nrrd", mask(), segments)
    named = {"trachea": (1,), structure: (2,)}
    if taken:
        moved, (doubt,) = value_map(tmp_path / "a.seg.nrrd", named)
        assert moved == {}
        assert f"taken for {structure} by its value 2" in doubt
    else:
        with pytest.raises(InputError, match=f"value 2 is '{said}', expected {structure}"):
            value_map(tmp_path / "a.seg.nrrd", named)
        moved, _ = value_map(tmp_path / "a.seg.nrrd", named, rest_is_background=True)
        assert moved == {2: 0}


# --- names that are compared --------------------------------------------------------------------


def contradictions(dataset):
    return [str(one) for one in list_cases(dataset).problems]


SWAPPED = "index\tname\n1\taorta\n2\theart\n"


def test_a_table_beside_the_files_or_above_is_compared(tmp_path):
    root = bids(tmp_path, values=(1, 2), sessions=False)
    labels = root / "derivatives" / "freesurfer"
    (labels / "dseg.tsv").unlink()
    dataset = settings("bids", root, source={"layout": "bids", "path": str(root), "label": "aseg"})
    assert contradictions(dataset) == []
    beside = labels / "sub-02" / "anat" / "sub-02_desc-aseg_dseg.tsv"
    beside.write_text(SWAPPED)
    (found, _) = contradictions(dataset)
    assert found.startswith("derivatives/freesurfer/sub-02/anat/sub-02_desc-aseg_dseg.tsv: ")
    assert "value 1 is called 'aorta', the study file calls it heart" in found
    beside.rename(labels / "sub-02" / "anat" / "sub-01_dseg.tsv")
    assert contradictions(dataset) == [], "a table of another subject"
    (labels / "desc-aparc_dseg.tsv").write_text(SWAPPED)
    assert contradictions(dataset) == [], "a table of another segmentation"
    (labels / "dseg.tsv").write_text("index\tname\n1\theart\n2\taorta\n")
    (root / "dseg.tsv").write_text(SWAPPED)
    assert contradictions(dataset) == [], "the nearest of several is right"
    (labels / "desc-aseg_dseg.tsv").write_text(SWAPPED)
    assert len(contradictions(dataset)) == 2, "and of two in one folder the one that says more"


def test_a_description_above_the_files_of_a_table_is_compared(tmp_path):
    folder = decathlon(tmp_path / "set", cases=1)
    table = tmp_path / "cases.tsv"
    row = "set/imagesTr/case_000.nii.gz\tset/labelsTr/case_000.nii.gz"
    table.write_text(f"case\timage\tlabel\na\t{row}\n")
    dataset = settings("table", table)
    assert contradictions(dataset) == []
    describe(folder, labels={"background": 0, "aorta": 1, "heart": 2})
    assert len(contradictions(dataset)) == 2
    assert contradictions(dataset)[0].startswith(
        "set/dataset.json: labels: value 1 is called 'aorta'"
    )
    (folder / "dataset.json").write_text("{no json")
    assert contradictions(dataset) == []


def with_table(file, names):
    image = nibabel.load(file)
    rows = "".join(f'<Label Key="{v}"><![CDATA[{name}]]></Label>' for v, name in names.items())
    text = f"<CaretExtension><VolumeInformation><LabelTable>{rows}</LabelTable></VolumeInformation></CaretExtension>"
    image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, text.encode()))
    nibabel.save(image, file)


def test_a_label_table_in_a_header_is_compared(tmp_path):
    folder = decathlon(tmp_path)
    dataset = settings("msd", folder)
    for number, names in enumerate(({1: "heart", 2: "aorta"}, {1: "aorta", 2: "heart"})):
        with_table(folder / "labelsTr" / f"case_00{number}.nii.gz", names)
    _, problems = audit(list_cases(dataset), dataset)
    assert {one.case for one in problems} == {"case_001"}
    assert "value 1 is called 'aorta', the study file calls it heart" in str(problems[0])


def test_names_of_a_real_totalsegmentator_file(real_data):
    names = nifti_names(real_data / "totalsegmentator" / "example_seg_mr.nii.gz")
    assert (names[1], names[5]) == ("spleen", "liver")


def test_real_slicer_files_with_exchanged_values(real_data):
    folder = real_data.parent / "cases" / "files"
    if not folder.is_dir():
        pytest.skip(f"no files of Slicer: {folder} is no folder")
    assert named_segments(folder / "names_a.seg.nrrd")[:2] == [("spleen", 1), ("right kidney", 2)]
    assert named_segments(folder / "names_b.seg.nrrd")[:2] == [("right kidney", 1), ("spleen", 2)]
