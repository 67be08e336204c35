"""Which cases a folder or table holds, and what is left over."""

import json
import zipfile

import pytest
from download_builders import AFFINE, decathlon, describe, mask, settings, voxels, write_pair

from segstudy.download.layouts import list_cases
from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.tables import read_rows


def found(listing, verdict="refused"):
    return [str(problem) for problem in listing.problems if problem.verdict == verdict]


# --- Decathlon ----------------------------------------------------------------------------------


def test_decathlon_pairs(tmp_path):
    listing = list_cases(settings("msd", decathlon(tmp_path)))
    assert [case.case for case in listing.cases] == ["case_000", "case_001", "case_002"]
    assert listing.cases[0].images == (tmp_path / "imagesTr/case_000.nii.gz",)
    assert listing.cases[0].label == tmp_path / "labelsTr/case_000.nii.gz"
    assert listing.cases[0].subject == "case_000"
    assert listing.problems == []


def test_raw_goes_before_the_path_of_the_source(tmp_path):
    decathlon(tmp_path / "raw", cases=1)
    listing = list_cases(settings("msd", tmp_path / "elsewhere"), tmp_path / "raw")
    assert len(listing.cases) == 1


def test_decathlon_files_left_over_are_reported_each(tmp_path):
    decathlon(tmp_path)
    write_nifti(tmp_path / "imagesTr" / "lonely.nii.gz", voxels(), AFFINE)
    write_label(tmp_path / "labelsTr" / "widow.nii.gz", mask(), AFFINE)
    write_pair(tmp_path / "imagesTr" / "spare.nii.gz", tmp_path / "labelsTr" / "spare.nii.gz")
    (tmp_path / "labelsTr" / "case_001.nii.gz").unlink()
    listing = list_cases(settings("msd", tmp_path))
    assert found(listing) == [
        "lonely: imagesTr/lonely.nii.gz: image without label",
        "widow: labelsTr/widow.nii.gz: label without image",
        "case_001: labelsTr/case_001.nii.gz: no such file",
    ]
    assert found(listing, "warning") == [
        "spare: imagesTr/spare.nii.gz: image and label are there, but dataset.json does not list "
        "them: not used"
    ]
    assert [case.case for case in listing.cases] == ["case_000", "case_002"]


def test_decathlon_hidden_entries_are_no_cases(tmp_path):
    decathlon(tmp_path, cases=1)
    entries = json.loads((tmp_path / "dataset.json").read_text())["training"]
    hidden = {"image": "./imagesTr/._case_000.nii.gz", "label": "./labelsTr/._case_000.nii.gz"}
    describe(tmp_path, training=[*entries, hidden])
    assert len(list_cases(settings("msd", tmp_path)).cases) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": None}, "training: expected a list"),
        ({"training": [{"image": "a.nii.gz"}]}, "training, entry 1: found"),
        ({"training": ["a.nii.gz"]}, "training, entry 1: found"),
        ({"modality": {"0": "T1", "1": "T2"}}, r"modality: 2 channels \(T1, T2\).*1 \(image\)"),
    ],
)
def test_a_wrong_dataset_json_names_file_and_key(tmp_path, changes, words):
    describe(decathlon(tmp_path, cases=1), **changes)
    with pytest.raises(InputError, match=rf"dataset.json: {words}"):
        list_cases(settings("msd", tmp_path))


def test_a_folder_too_high_says_where_the_dataset_is(tmp_path):
    decathlon(tmp_path / "Task04", cases=1)
    with pytest.raises(InputError, match=r"no dataset.json in it; did you mean .*Task04"):
        list_cases(settings("msd", tmp_path))


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_cases(settings("msd", tmp_path / "none"))


def test_swapped_structures_are_warned_of(tmp_path):
    decathlon(tmp_path, cases=1)
    swapped = settings("msd", tmp_path, structures={"Aorta": 1, "heart": 2})
    texts = found(list_cases(swapped), "warning")
    assert "value 1 is called 'heart', the study file calls it Aorta" in texts[0]
    assert len(texts) == 2


def test_a_structure_that_the_dataset_does_not_name_is_warned_of(tmp_path):
    decathlon(tmp_path, cases=1)
    odd = settings("msd", tmp_path, structures={"heart": 1, "aorta": 2, "liver": 9})
    assert "no value 9, which the study file calls liver" in found(list_cases(odd), "warning")[0]


def test_labelled_validation_cases_are_named_and_taken_where_asked_for(tmp_path):
    """As in AMOS, whose validation cases have labels."""
    decathlon(tmp_path)
    entries = json.loads((tmp_path / "dataset.json").read_text())["training"]
    describe(tmp_path, training=entries[:1], validation=entries[1:], test=[{"image": "a.nii.gz"}])
    listing = list_cases(settings("msd", tmp_path))
    assert [case.case for case in listing.cases] == ["case_000"]
    said = (
        "dataset.json: validation: 2 cases with a label, which are not used; source.entries: "
        "[training, validation] takes them as further cases"
    )
    assert said in found(listing, "warning")
    both = settings("msd", source={"layout": "msd", "path": str(tmp_path), "entries": ["training", "validation"]})  # fmt: skip
    listing = list_cases(both)
    assert [case.case for case in listing.cases] == ["case_000", "case_001", "case_002"]
    assert listing.problems == []


def test_entries_written_by_windows_monai_and_an_editor_with_byte_order_mark(tmp_path):
    file = decathlon(tmp_path, cases=1) / "dataset.json"
    entry = {"image": ["imagesTr\\case_000.nii.gz"], "label": "labelsTr\\case_000.nii.gz"}
    describe(tmp_path, training=[entry])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    listing = list_cases(settings("msd", tmp_path))
    assert [case.case for case in listing.cases] == ["case_000"]
    assert listing.problems == []


# --- nnU-Net ------------------------------------------------------------------------------------


@pytest.fixture
def nnunet(tmp_path):
    for name in ("a_01", "b_02"):
        write_label(tmp_path / "labelsTr" / f"{name}.nii.gz", mask(), AFFINE)
        for channel in (0, 1):
            file = tmp_path / "imagesTr" / f"{name}_{channel:04d}.nii.gz"
            write_nifti(file, voxels(channel), AFFINE)
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "heart": 1, "aorta": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    return tmp_path


def nnunet_settings(folder, **changes):
    return settings("nnunet", folder, channels=["T1", "T2"], modality="MR", **changes)


def test_nnunet_channels_in_order(nnunet):
    listing = list_cases(nnunet_settings(nnunet))
    assert [case.case for case in listing.cases] == ["a_01", "b_02"]
    assert [path.name for path in listing.cases[1].images] == [
        "b_02_0000.nii.gz",
        "b_02_0001.nii.gz",
    ]
    assert listing.problems == []


def test_nnunet_files_left_over_are_reported_each(nnunet):
    (nnunet / "imagesTr" / "b_02_0001.nii.gz").unlink()
    write_nifti(nnunet / "imagesTr" / "c_0000.nii.gz", voxels(), AFFINE)
    write_nifti(nnunet / "imagesTr" / "plain.nii.gz", voxels(), AFFINE)
    write_label(nnunet / "labelsTr" / "d.nii.gz", mask(), AFFINE)
    listing = list_cases(nnunet_settings(nnunet))
    assert [case.case for case in listing.cases] == ["a_01"]
    texts = "\n".join(found(listing))
    assert "b_02: imagesTr/b_02_*.nii.gz: found channels 0000; expected 0000, 0001" in texts
    assert "c: imagesTr/c_0000.nii.gz: image without label" in texts.replace("c_0000: ", "c: ")
    assert "imagesTr/plain.nii.gz: the name does not end in a channel" in texts
    assert "d: labelsTr/d.nii.gz: label without image" in texts
    assert len(found(listing)) == 4


@pytest.mark.parametrize("ending", [".png", ".tif", ".gipl.gz", None])
def test_nnunet_in_a_format_that_is_not_read(nnunet, ending):
    describe(nnunet, file_ending=ending)
    with pytest.raises(
        InputError, match=rf"file_ending: found {ending!r}; expected \.nii, .*convert"
    ):
        list_cases(nnunet_settings(nnunet))


def test_nnunet_without_a_folder_of_labels(nnunet):
    (nnunet / "labelsTr").rename(nnunet / "labelTr")
    with pytest.raises(
        InputError, match=r"no folder labelsTr in it; did you mean labelTr\? Rename it"
    ):
        list_cases(nnunet_settings(nnunet))


@pytest.mark.parametrize(
    ("regions", "structures", "told"),
    [
        (
            {"core": [3]},
            {"heart": 1, "aorta": 2},
            "{core: [NAME OF 3]}, or learns it as one, structures: {core: [3]}",
        ),
        ({"heart": [1, 2]}, {"heart": 1, "aorta": 2}, "{heart: [aorta, NAME OF 1]}, or learns"),
        ({"organ": [1, 2, 3]}, {"heart": [1, 2]}, "{organ: [heart, NAME OF 3]}, or learns it"),
        ({"organ": [1, 2]}, {"organ": [1, 2]}, None),
        ({"organ": [1, 2]}, {"organ": [2, 1], "other": 3}, None),
    ],
)
def test_a_region_is_said_with_names_that_a_study_takes(nnunet, regions, structures, told):
    describe(nnunet, labels={"background": 0, **regions}, regions_class_order=[1])
    found = list_cases(nnunet_settings(nnunet, structures=structures)).problems
    said = [one.problem for one in found if "is a region of" in one.problem]
    assert len(said) == (told is not None)
    assert not told or f"metrics.composite_regions: {told}" in said[0]


def test_nnunet_regions_are_groups_of_a_study(nnunet):
    describe(
        nnunet, labels={"background": 0, "organ": [1, 2], "aorta": 2}, regions_class_order=[1, 2]
    )
    listing = list_cases(nnunet_settings(nnunet))
    assert len(listing.cases) == 2
    assert found(listing, "warning") == [
        "dataset.json: labels: organ is a region of the values 1, 2; a study learns the values' structures, "
        "and measures the region by metrics.composite_regions: {organ: [heart, aorta]}"
    ]


def test_nnunet_other_number_of_channels(nnunet):
    with pytest.raises(InputError, match=r"channel_names: 2 channels \(T1, T2\)"):
        list_cases(settings("nnunet", nnunet))


@pytest.mark.parametrize(
    ("changes", "instead"),
    [({}, ""), ({"background_labels": [3]}, ", and not background (background_labels), as the study file calls it"),
     ({"structures": {"heart": 1, "aorta": 2, "rest": 3}}, ", and not rest, as the study file calls it")],
)  # fmt: skip
def test_nnunets_ignore_is_named_and_what_to_set(nnunet, changes, instead):
    describe(nnunet, labels={"background": 0, "heart": 1, "aorta": 2, "ignore": 3})
    own = {"channels": ["T1", "T2"], "modality": "MR"}
    (text,) = found(list_cases(settings("nnunet", nnunet, **own, **changes)), "warning")
    assert text.endswith(
        f"labels: value 3 is ignore, voxels that nobody has labelled{instead}: set ignore: 3 in the "
        "study file's dataset"
    )
    assert list_cases(settings("nnunet", nnunet, **own, ignore=3)).problems == []


def test_nnunet_with_files_listed(nnunet):
    entry = {
        "images": ["imagesTr/a_01_0000.nii.gz", "imagesTr/a_01_0001.nii.gz"],
        "label": "labelsTr/a_01.nii.gz",
    }
    describe(nnunet, dataset={"first": entry, "second": entry | {"label": "labelsTr/none.nii.gz"}})
    listing = list_cases(nnunet_settings(nnunet))
    assert [case.case for case in listing.cases] == ["first"]
    assert found(listing) == ["second: labelsTr/none.nii.gz: no such file"]
    describe(nnunet, dataset={"first": {"images": ["a"]}})
    with pytest.raises(InputError, match=r"dataset.first"):
        list_cases(nnunet_settings(nnunet))


# --- accented letters, of one sign or of two ----------------------------------------------------

NFC, NFD = "M\u00fcller", "Mu\u0308ller"


def test_images_and_labels_are_paired_whichever_way_their_letters_are_written(nnunet):
    (nnunet / "labelsTr/a_01.nii.gz").rename(nnunet / f"labelsTr/{NFD}.nii.gz")
    for channel in (0, 1):
        old = nnunet / f"imagesTr/a_01_{channel:04d}.nii.gz"
        old.rename(nnunet / f"imagesTr/{(NFC, NFD)[channel]}_{channel:04d}.nii.gz")
    listing = list_cases(nnunet_settings(nnunet))
    assert [case.case for case in listing.cases] == [NFC, "b_02"]
    assert listing.problems == []


def test_a_decathlon_copied_from_a_mac_has_the_files_that_its_json_lists(tmp_path):
    decathlon(tmp_path, cases=1)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder / "case_000.nii.gz").rename(tmp_path / folder / f"{NFD}.nii.gz")
    entry = {"image": f"./imagesTr/{NFC}.nii.gz", "label": f"./labelsTr/{NFC}.nii.gz"}
    describe(tmp_path, training=[entry])
    listing = list_cases(settings("msd", tmp_path))
    assert [(case.case, case.label.name) for case in listing.cases] == [(NFC, f"{NFD}.nii.gz")]
    assert listing.problems == []


def test_a_subject_of_a_table_written_in_both_ways_is_one(table, tmp_path):
    (tmp_path / "scans/b.nii.gz").rename(tmp_path / f"scans/{NFD}.nii.gz")
    one, two = table(
        "case|subject|image|label",
        f"one|{NFC}|scans/a.nii.gz|masks/a.nii.gz",
        f"two|{NFD}|scans/{NFC}.nii.gz|masks/b.nii.gz",
    ).cases
    assert one.subject == two.subject == NFC
    assert two.images == (tmp_path / f"scans/{NFD}.nii.gz",)


# --- SegTHOR ------------------------------------------------------------------------------------


@pytest.fixture
def segthor(tmp_path):
    for name in ("Patient_01", "Patient_02"):
        folder = tmp_path / "train" / name
        write_pair(folder / f"{name}.nii.gz", folder / "GT.nii.gz")
    write_label(tmp_path / "train" / "Patient_02" / "GT2.nii.gz", mask(), AFFINE)
    return tmp_path


def test_segthor_patients(segthor):
    listing = list_cases(settings("phantom"), segthor)
    assert [case.case for case in listing.cases] == ["Patient_01", "Patient_02"]
    assert listing.cases[0].reference_label is None
    assert listing.cases[1].reference_label.name == "GT2.nii.gz"
    assert listing.problems == []


def test_segthor_files_left_over_are_reported_each(segthor):
    (segthor / "train" / "Patient_01" / "GT.nii.gz").unlink()
    write_nifti(segthor / "train" / "Patient_02" / "other.nii.gz", voxels(), AFFINE)
    (segthor / "train" / "notes.txt").write_text("x")
    (segthor / "train" / ".DS_Store").write_text("x")
    listing = list_cases(settings("phantom"), segthor)
    assert found(listing) == ["Patient_01: train/Patient_01/GT.nii.gz: no such file"]
    warnings = found(listing, "warning")
    assert len(warnings) == 2
    assert any("other.nii.gz: unexpected image" in text for text in warnings)
    assert any("notes.txt: not a patient's folder" in text for text in warnings)


def test_a_phantom_needs_its_fetched_folder(tmp_path):
    with pytest.raises(InputError, match="--raw is missing"):
        list_cases(settings("phantom"))
    with pytest.raises(InputError, match="no folder train"):
        list_cases(settings("phantom"), tmp_path)


# --- table --------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Write a table of text lines beside two pairs and read it."""
    for name in ("a", "b"):
        write_pair(tmp_path / "scans" / f"{name}.nii.gz", tmp_path / "masks" / f"{name}.nii.gz")

    def read(*lines, encoding="utf-8", **changes):
        file = tmp_path / "cases.tsv"
        file.write_bytes("\n".join(lines).replace("|", "\t").encode(encoding))
        return list_cases(settings("table", file, **changes))

    return read


def test_table_paths_are_relative_to_the_table(table, tmp_path):
    listing = table(
        "case|subject|image|label|reference_label|fold|split|age",
        "one|s1|scans/a.nii.gz|masks/a.nii.gz|masks/b.nii.gz|1||70",
        "",
        "two||scans/b.nii.gz|masks/b.nii.gz|||test|",
    )
    one, two = listing.cases
    assert (one.case, one.subject, one.fold, one.split) == ("one", "s1", 1, None)
    assert one.images == (tmp_path / "scans/a.nii.gz",)
    assert one.reference_label == tmp_path / "masks/b.nii.gz"
    assert (two.subject, two.fold, two.split, two.reference_label) == ("two", None, "test", None)


def test_table_channels_follow_the_study_and_not_the_columns(table):
    listing = table(
        "label|image_t2|case|image_t1",
        "masks/a.nii.gz|scans/b.nii.gz|one|scans/a.nii.gz",
        channels=["t1", "t2"],
    )
    assert [path.name for path in listing.cases[0].images] == ["a.nii.gz", "b.nii.gz"]


def test_a_table_from_a_spreadsheet_with_byte_order_mark_and_windows_lines(table):
    listing = table(
        "case|image|label\r", "one|scans/a.nii.gz|masks/a.nii.gz\r", encoding="utf-8-sig"
    )
    assert [case.case for case in listing.cases] == ["one"]


def test_a_missing_file_is_a_problem_of_its_case(table):
    listing = table(
        "case|image|label",
        "one|scans/none.nii.gz|masks/a.nii.gz",
        "two|scans/b.nii.gz|masks/b.nii.gz",
    )
    assert found(listing) == ["one: scans/none.nii.gz: no such file"]
    assert [case.case for case in listing.cases] == ["two"]


ROW = "one|scans/a.nii.gz|masks/a.nii.gz"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["case|image|label", "one|scans/a.nii.gz"], r"row 2: 2 cells; expected 3"),
        (["case|image|label", ROW, "|scans/a.nii.gz|masks/a.nii.gz"], r"row 3, column case: empty"),
        (["case|image|label", "one|scans/a.nii.gz|"], r"row 2, column label: empty"),
        (["case|image|label|fold", ROW + "|x"], r"row 2, column fold: found 'x'"),
        (["case|image|label|fold", ROW + "|-1"], r"row 2, column fold: found '-1'"),
        (["case|image|label|fold", ROW + "|0", ROW + "|"], r"row 3, column fold: empty.*row 2"),
        (["case|image|label|split", ROW + "|valid"], r"row 2, column split: found 'valid'"),
        (["case|label", "one|masks/a.nii.gz"], r"row 1: image columns none; expected image"),
        (["case|image", "one|scans/a.nii.gz"], r"row 1: the column 'label' is missing"),
        (["image|label", "scans/a.nii.gz|masks/a.nii.gz"], r"the column 'case' is missing"),
        (["Case|Image|Label", ROW], r"image columns none; .*; write image in place of Image"),
        (["CASE|image|label", ROW], r"the column 'case' is missing; write case in place of CASE"),
        (["case|image|image_t1|label", ROW + "|x"], r"image columns image, image_t1"),
        (["case|image|label|image", ROW + "|x"], r"the column 'image' stands twice"),
        (["case|image|label|Subject", ROW + "|x"], r"'Subject'; did you mean subject"),
        (["case|image|label|refernce_label", ROW + "|x"], r"did you mean reference_label"),
        (["case,image,label", "one,a,b"], r"separated by ','; expected tabs"),
        ([""], r"empty; expected a header"),
        (["case|image|label", 'one|"a|b'], r"not readable as a table"),
    ],
)
def test_a_bad_table_names_file_row_and_column(table, lines, words):
    with pytest.raises(InputError, match=rf"cases\.tsv: .*{words}"):
        table(*lines)


def test_all_mistakes_of_a_table_are_said_at_once_and_those_of_a_kind_in_one_line(table):
    with pytest.raises(InputError) as error:
        table(
            "case|image|label|fold|split",
            *[f"c{number}|scans/a.nii.gz|||" for number in range(5)],
            "a|scans/a.nii.gz",
            "b|scans/b.nii.gz|masks/b.nii.gz|x|",
            "c|$NOWHERE/b.nii.gz|masks/b.nii.gz||valid",
        )
    file, *told = (line.split("cases.tsv: ") for line in str(error.value).splitlines())
    assert [file[1], *(one[1] for one in told)] == [
        "5 rows, column label: empty: rows 2, 3, 4 and 2 more",
        "row 7: 2 cells; expected 5, as in the header, with a tab between them",
        "row 8, column fold: found 'x'; expected a whole number from 0",
        "row 9, column split: found 'valid'; expected train or test",
        "row 9, column image: $NOWHERE/b.nii.gz: the variable $NOWHERE is not set; set it (export), or "
        "write the path out",
    ]


def test_a_table_in_another_encoding(table):
    with pytest.raises(InputError, match="not UTF-8"):
        table("case|image|label", "Jörg|scans/a.nii.gz|masks/a.nii.gz", encoding="latin-1")


def test_a_spreadsheet_that_was_renamed_is_told_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "cases.tsv", "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InputError, match=r"cases\.tsv: a spreadsheet .*; save it from there as"):
        read_rows(tmp_path / "cases.tsv")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(InputError, match="a folder; expected the table"):
        list_cases(settings("table", tmp_path))
