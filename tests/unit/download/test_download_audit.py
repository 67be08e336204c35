"""The audit: each fault is planted by itself and must be found by name; real data must pass."""

import csv
import gzip
import hashlib
import json

import nibabel
import numpy as np
import pytest
from download_builders import AFFINE, SHAPE, decathlon, mask, settings, voxels

from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.download.audit import audit, stop_if_unusable
from segstudy.download.layouts import list_cases
from segstudy.download.names import named_safely
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.images.value_checks import REFUSED, WARNING

SHIFTED = AFFINE.copy()
SHIFTED[0, 3] += 3
TURNED = AFFINE.copy()
TURNED[:2, :2] = [[-np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), -np.cos(0.2)]]
COARSER = AFFINE @ np.diag([1, 1, 1.2, 1])
FLIPPED = AFFINE @ np.diag([-1.0, 1, 1, 1])


@pytest.fixture
def folder(tmp_path):
    return decathlon(tmp_path / "set")


def image_of(folder, number=1):
    return folder / "imagesTr" / f"case_{number:03d}.nii.gz"


def label_of(folder, number=1):
    return folder / "labelsTr" / f"case_{number:03d}.nii.gz"


def with_voxel(array, value):
    array = array.astype(np.float32)
    array[0, 0, 0] = value
    return array


def rgb(file):
    pixels = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(nibabel.Nifti1Image(pixels, AFFINE), file)


def cut(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def odd_qform(file):
    image = nibabel.Nifti1Image(voxels(1), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(SHIFTED, 1)
    nibabel.save(image, file)


def unplaced(file):
    image = nibabel.Nifti1Image(voxels(1), None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, file)


def in_microns(file):
    image = nibabel.Nifti1Image(voxels(1), AFFINE)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, file)


def sheared(file):
    affine = AFFINE.copy()
    affine[1, 2] = np.tan(np.deg2rad(20)) * affine[2, 2]
    image = nibabel.Nifti1Image(voxels(1), affine)
    image.set_sform(affine, 1)
    image.set_qform(None, 0)
    nibabel.save(image, file)


def unlike_pixdim(file):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    write_nifti(file, voxels(1), affine)
    image = nibabel.load(file)
    image.header["qform_code"] = 0
    image.header["pixdim"][1:4] = 1, 1, 2.5
    array = np.asarray(image.dataobj)
    file.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + array.tobytes("F")))
    write_label(label_of(file.parents[1]), mask(), affine)


def scaled(folder, factor):
    affine = np.diag([factor, factor, factor, 1]) @ AFFINE
    write_nifti(image_of(folder), voxels(1), affine)
    write_label(label_of(folder), mask(), affine)


FAULTS = {
    "sheared": (lambda f: sheared(image_of(f)), "the axes j and k meet at 110.00 degrees"),
    "metres": (lambda f: scaled(f, 0.001), "2 of 3 cases, e.g. case_000: voxels of 1x1x2.5 mm"),
    "ten times": (lambda f: scaled(f, 10), "voxels of 10x10x25 mm, 60x70x125 mm in all"),
    "a thousand times": (lambda f: scaled(f, 1000), "expected at most 3000 mm"),
    "no image": (lambda f: image_of(f).unlink(), "imagesTr/case_001.nii.gz: no such file"),
    "no label": (lambda f: label_of(f).unlink(), "labelsTr/case_001.nii.gz: no such file"),
    "text": (
        lambda f: image_of(f).write_text("no image"),
        "imagesTr/case_001.nii.gz: not readable",
    ),
    "cut image": (lambda f: cut(image_of(f), 0.6), "imagesTr/case_001.nii.gz"),
    "cut header": (lambda f: cut(image_of(f), 0.05), "imagesTr/case_001.nii.gz"),
    "cut label": (lambda f: cut(label_of(f), 0.6), "labelsTr/case_001.nii.gz"),
    "shape": (
        lambda f: write_label(label_of(f), mask()[:-1], AFFINE),
        "other grid than its image (named first): shape 6x7x5 against 5x7x5",
    ),
    "spacing": (
        lambda f: write_label(label_of(f), mask(), COARSER),
        "spacing 1x1x2.5 against 1x1x3",
    ),
    "origin": (lambda f: write_label(label_of(f), mask(), SHIFTED), "origin"),
    "direction": (lambda f: write_label(label_of(f), mask(), TURNED), "direction"),
    "orientation": (
        lambda f: write_label(label_of(f), mask(), FLIPPED),
        "orientation LPS against RPS",
    ),
    "NaN": (
        lambda f: write_nifti(image_of(f), with_voxel(voxels(), np.nan), AFFINE),
        "1 of 210 voxels are not finite",
    ),
    "infinite": (
        lambda f: write_nifti(image_of(f), with_voxel(voxels(), np.inf), AFFINE),
        "1 of 210 voxels are not finite",
    ),
    "constant": (
        lambda f: write_nifti(image_of(f), np.full(SHAPE, 7, np.int16), AFFINE),
        "constant: every voxel is 7",
    ),
    "channels": (
        lambda f: write_nifti(image_of(f), np.stack([voxels(), voxels()], -1), AFFINE),
        "shape 6x7x5x2",
    ),
    "RGB": (lambda f: rgb(image_of(f)), "RGB"),
    "complex": (
        lambda f: write_nifti(image_of(f), voxels().astype(np.complex64), AFFINE),
        "complex",
    ),
    "unknown value": (
        lambda f: write_label(label_of(f), mask((1, 2, 9)), AFFINE),
        "unknown label values 9 (9 voxels); known: 1 heart, 2 aorta",
    ),
    "4D label": (
        lambda f: write_nifti(label_of(f), np.stack([mask(), mask()], -1), AFFINE),
        "expected a 3D label map",
    ),
    "half label": (
        lambda f: write_nifti(label_of(f), mask().astype(np.float32) / 2, AFFINE),
        "expected whole numbers",
    ),
    "negative label": (
        lambda f: write_nifti(label_of(f), -mask().astype(np.int16), AFFINE),
        "expected 0 to 65535",
    ),
    "singular affine": (
        lambda f: write_singular(image_of(f)),
        "affine",
    ),
}


def write_singular(file):
    write_nifti(file, voxels(), AFFINE)
    image = nibabel.load(file)
    header = image.header.copy()
    header["srow_x"] = header["srow_y"]
    array = np.asarray(image.dataobj)
    broken = nibabel.Nifti1Image(array, None, header)
    broken.header["srow_x"] = broken.header["srow_y"]
    broken.header["sform_code"] = 1
    file.unlink()
    raw = broken.header.binaryblock + b"\0" * 4 + array.tobytes("F")
    file.write_bytes(gzip.compress(raw))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_in_its_case_and_in_no_other(folder, fault):
    plant, words = FAULTS[fault]
    plant(folder)
    dataset = settings("msd", folder)
    cases, problems = audit(list_cases(dataset), dataset, threads=2)
    refused = [problem for problem in problems if problem.verdict == REFUSED]
    assert {problem.case for problem in refused} == {"case_001"}
    assert any(words in str(problem) for problem in refused), [str(one) for one in refused]
    assert [case.case for case in cases] == ["case_000", "case_002"]
    assert not any(str(folder) in str(problem) for problem in problems)


WARNINGS = {
    "healthy control": (
        lambda f: write_label(label_of(f), mask(()), AFFINE),
        "empty: no voxel of any structure; taken for a case without it, and trained on as such",
    ),
    "nearly whole": (
        lambda f: write_nifti(label_of(f), (mask() * 0.9999999).astype(np.float32), AFFINE),
        "labelsTr/case_001.nii.gz: numbers up to 2.38e-07 off whole ones, to which they are rounded",
    ),
    "structure missing": (
        lambda f: write_label(label_of(f), mask((1,)), AFFINE),
        "labelsTr/case_001.nii.gz: no voxel of aorta",
    ),
    "no HU": (
        lambda f: write_nifti(image_of(f), np.abs(voxels()), AFFINE),
        "none below 0; a CT in Hounsfield units",
    ),
    "qform": (lambda f: odd_qform(image_of(f)), "qform and sform disagree: origin"),
    "microns": (lambda f: in_microns(image_of(f)), "lengths in micron"),
    "pixdim": (lambda f: unlike_pixdim(image_of(f)), "1x1x2.5 mm by pixdim; the sform is used"),
    "same image": (
        lambda f: image_of(f).write_bytes(image_of(f, 0).read_bytes()),
        "the same image as case case_000",
    ),
}


@pytest.mark.parametrize("fault", WARNINGS)
def test_a_doubtful_case_is_kept_with_a_warning(folder, fault):
    plant, words = WARNINGS[fault]
    plant(folder)
    dataset = settings("msd", folder)
    cases, problems = audit(list_cases(dataset), dataset)
    assert len(cases) == 3
    (problem,) = problems
    assert (problem.case, problem.verdict) == ("case_001", "warning")
    assert words in str(problem)


def test_an_empty_label_is_refused_where_the_study_says_so(folder):
    write_label(label_of(folder), mask(()), AFFINE)
    dataset = settings("msd", folder, empty_labels="refuse")
    cases, problems = audit(list_cases(dataset), dataset)
    assert [case.case for case in cases] == ["case_000", "case_002"]
    assert [(one.case, one.verdict) for one in problems] == [("case_001", REFUSED)]
    assert "empty_labels is refuse" in problems[0].problem
    dataset = settings("msd", folder, role="test")
    cases, problems = audit(list_cases(dataset), dataset)
    assert cases[1].voxels == {"heart": 0, "aorta": 0}
    assert problems[0].problem.endswith("and tested on as such")
    dataset = settings("msd", folder, role="train_only")
    assert audit(list_cases(dataset), dataset)[1][0].problem.endswith("and trained on as such")


@pytest.mark.parametrize(
    ("values", "role", "words"),
    [
        (
            (1,),
            "train",
            "none of the 3 cases has a voxel of aorta (aorta 2): nothing can be learned",
        ),
        (
            (1,),
            "train_only",
            "none of the 3 cases has a voxel of aorta (aorta 2): nothing can be learned",
        ),
        (
            (1,),
            "test",
            "none of the 3 cases has a voxel of aorta (aorta 2): nothing can be measured",
        ),
        ((), "train", "none of the 3 cases has a voxel of any structure (heart 1, aorta 2)"),
    ],
)
def test_a_structure_that_no_case_has_is_said_once(folder, values, role, words):
    for number in range(3):
        write_label(label_of(folder, number), mask(values), AFFINE)
    dataset = settings("msd", folder, role=role)
    cases, problems = audit(list_cases(dataset), dataset)
    assert len(cases) == 3
    (whole,) = [one for one in problems if not one.case]
    assert words in whole.problem
    assert not any("no voxel of aorta" in one.problem for one in problems)


def test_an_image_that_no_header_places_is_warned_of(folder):
    for number in range(3):
        unplaced(image_of(folder, number))
        image = nibabel.load(image_of(folder, number))
        write_label(label_of(folder, number), mask(), image.affine)
    dataset = settings("msd", folder)
    _, problems = audit(list_cases(dataset), dataset)
    assert sum("neither qform nor sform" in problem.problem for problem in problems) == 3


def test_a_label_map_in_the_place_of_an_image_is_warned_of(folder):
    write_nifti(image_of(folder), voxels(1) // 400 % 2 * 7, AFFINE)
    dataset = settings("msd", folder, modality="MR")
    cases, problems = audit(list_cases(dataset), dataset)
    assert len(cases) == 3
    (problem,) = problems
    assert (problem.case, problem.verdict) == ("case_001", "warning")
    assert "only 2 different values, all whole numbers" in problem.problem


def test_of_two_cases_out_of_proportion_both_are_refused(tmp_path):
    folder = decathlon(tmp_path / "set", cases=2)
    scaled(folder, 100)
    dataset = settings("msd", folder)
    cases, problems = audit(list_cases(dataset), dataset)
    assert cases == []
    assert ["the cases fall into two sizes" in problem.problem for problem in problems] == [
        True,
        True,
    ]


def test_measurements_of_a_good_case(folder):
    dataset = settings("msd", folder)
    cases, problems = audit(list_cases(dataset), dataset)
    assert problems == []
    assert cases[0].shape == SHAPE
    assert cases[0].spacing_mm == (1, 1, 2.5)
    assert cases[0].voxels == {"heart": 9, "aorta": 9}


@pytest.mark.parametrize("key", ["background_labels", "ignore"])
def test_further_values_that_the_study_knows_are_no_fault(folder, key):
    write_label(label_of(folder), mask((1, 2, 9)), AFFINE)
    dataset = settings("msd", folder, **{key: [9]})
    cases, problems = audit(list_cases(dataset), dataset)
    assert len(cases) == 3 and problems == []
    assert cases[0].voxels == {"heart": 9, "aorta": 9}


def test_a_label_of_which_all_is_ignored_is_refused(folder):
    write_label(label_of(folder), np.full(SHAPE, 9, np.uint8), AFFINE)
    dataset = settings("msd", folder, ignore=9)
    cases, problems = audit(list_cases(dataset), dataset)
    assert len(cases) == 2
    assert "every voxel is ignored: nothing is left to learn or to measure" in str(problems[0])


def test_a_value_that_nothing_knows_says_what_it_may_be(folder):
    write_label(label_of(folder), mask((1, 2, 9)), AFFINE)
    dataset = settings("msd", folder)
    (problem,) = audit(list_cases(dataset), dataset)[1]
    assert "unknown label values 9 (" in str(problem)
    assert (
        "background goes in background_labels; voxels that nobody has labelled are marked by `ignore`"
        in str(problem)
    )


def test_the_order_of_threads_does_not_show(folder):
    for fault in ("NaN", "unknown value"):
        FAULTS[fault][0](folder)
    dataset = settings("msd", folder)
    one, four = (audit(list_cases(dataset), dataset, threads) for threads in (1, 4))
    assert one == four


def test_subjects_with_the_same_image_saved_anew_are_one(folder, tmp_path):
    draw = np.random.default_rng(5)
    images = [draw.normal(0, 300, (16, 17, 9)).astype(np.int16) for _ in range(4)]
    label = np.zeros(images[0].shape, np.uint8)
    label[2:5, 2:5, 2:5], label[8:11, 2:5, 2:5] = 1, 2
    rows = ["case\tsubject\timage\tlabel"]
    copies = [*images, images[1][::-1] * np.float32(0.013) + 7, images[3]]
    for number, image in enumerate(copies):
        affine = FLIPPED if number == 4 else AFFINE
        if number == 4:
            affine = affine.copy()
            affine[0, 3] -= 15
        write_nifti(tmp_path / f"i{number}.nii.gz", image, affine)
        write_label(tmp_path / f"l{number}.nii.gz", label[::-1] if number == 4 else label, affine)
        rows.append(f"c{number}\ts{number}\ti{number}.nii.gz\tl{number}.nii.gz")
    rows[4] = rows[4].replace("s3", "s1")  # a second case of subject s1
    (tmp_path / "cases.tsv").write_text("\n".join(rows) + "\n")
    dataset = settings("table", tmp_path / "cases.tsv")
    cases, problems = audit(list_cases(dataset), dataset)
    assert [case.subject for case in cases] == ["s0", "s1", "s2", "s1", "s1", "s1"]
    assert [case.same_image_as for case in cases] == [None] * 4 + ["c1", "c3"]
    assert [(one.case, one.file, one.verdict) for one in problems] == [
        ("c4", "i4.nii.gz", "warning"),
        ("c5", "i5.nii.gz", "warning"),
    ]
    assert "the same image as case c1, though of another subject: the two are taken for one" in str(
        problems[0]
    )


def test_empty_label_maps_alone_are_not_the_same(tmp_path):
    for number in range(2):
        write_label(tmp_path / "maps" / f"sub-{number}_a.nii.gz", mask(()), AFFINE)
    write_label(tmp_path / "maps" / "sub-3_a.nii.gz", mask(), AFFINE)
    dataset = settings("label_maps", tmp_path / "maps")
    cases, problems = audit(list_cases(dataset), dataset)
    assert len({case.subject for case in cases}) == 3
    assert not any("the same label map" in str(one) for one in problems)


def test_a_label_file_of_two_subjects_is_told(tmp_path):
    """As where a row of a table names the file of the row above."""
    rows = ["case\tsubject\timage\tlabel"]
    for number in range(3):
        write_nifti(tmp_path / f"i{number}.nii.gz", voxels(number), AFFINE)
        write_label(tmp_path / f"l{number}.nii.gz", mask(), AFFINE)
        rows.append(f"c{number}\ts{number}\ti{number}.nii.gz\tl{min(number, 1)}.nii.gz")
    (tmp_path / "cases.tsv").write_text("\n".join(rows) + "\n")
    dataset = settings("table", tmp_path / "cases.tsv")
    told = [str(one) for one in audit(list_cases(dataset), dataset)[1] if "too, of" in str(one)]
    assert len(told) == 1
    assert "c2: l1.nii.gz: the label of case c1 too, of another subject" in told[0]
    rows[3] = rows[3].replace("s2", "s1")  # two contrasts of one subject may share it
    (tmp_path / "cases.tsv").write_text("\n".join(rows) + "\n")
    found = audit(list_cases(dataset), dataset)[1]
    assert not [one for one in found if "the label of case" in str(one)]


def test_the_same_image_twice_of_one_subject_is_no_leak(tmp_path):
    pairs = decathlon(tmp_path, cases=1)
    row = "\ts1\timagesTr/case_000.nii.gz\tlabelsTr/case_000.nii.gz\n"
    (pairs / "cases.tsv").write_text("case\tsubject\timage\tlabel\n" + f"a{row}" + f"b{row}")
    dataset = settings("table", pairs / "cases.tsv")
    cases, problems = audit(list_cases(dataset), dataset)
    assert len(cases) == 2
    assert problems == []


# --- names --------------------------------------------------------------------------------------


def table_of(tmp_path, *names):
    pairs = decathlon(tmp_path, cases=1)
    row = "\timagesTr/case_000.nii.gz\tlabelsTr/case_000.nii.gz\n"
    text = "case\timage\tlabel\n" + "".join(name + row for name in names)
    (pairs / "cases.tsv").write_text(text)
    return settings("table", pairs / "cases.tsv")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        *(("a/b", "a_b"), ("../a", "a"), (".a", "a"), ("-a", "a"), ("a b", "a_b"), ("a'b", "a_b")),
        *(('a"b"c', "a_b_c"), ("$HOME", "HOME"), ("a;b", "a_b"), ("a\\b", "a_b"), ("é", "e")),
        *(
            ("a*", "a"),
            ("{a}", "a"),
            ("Müller^Jörg (2)", "Mueller_Joerg_2"),
            ("Ærøskøbing", "Aeroskobing"),
        ),
        ("王", "case_" + hashlib.sha256("王".encode()).hexdigest()[:8]),
    ],
)
def test_a_name_that_a_file_or_a_shell_would_trip_over_has_a_safe_one(tmp_path, name, safe):
    dataset = table_of(tmp_path, name, "good")
    cases, problems = audit(list_cases(dataset), dataset)
    assert {(case.case, case.subject) for case in cases} >= {(safe, name)}
    (renamed,) = [one for one in problems if "not every file system" in one.problem]
    assert renamed.verdict == WARNING
    assert (
        f"1 case with characters in the name that not every file system and shell takes, called {safe} in"
        in renamed.problem
    )


def test_all_names_that_are_written_otherwise_are_told_in_one_line(tmp_path):
    names = ["Müller", "José", "Anna Maier", "Weiß", "Ek"]
    (tmp_path / "cases.tsv").write_text(
        "case\timage\tlabel\n"
        + "".join(f"{name}\ta{n}.nii\tb{n}.nii\n" for n, name in enumerate(names))
    )
    for n in range(len(names)):
        (tmp_path / f"a{n}.nii").touch()
        (tmp_path / f"b{n}.nii").touch()
    listing = list_cases(settings("table", tmp_path / "cases.tsv"))
    cases, (told,) = named_safely(listing.cases)
    assert [case.case for case in cases] == ["Mueller", "Jose", "Anna_Maier", "Weiss", "Ek"]
    assert (
        told.problem.startswith("4 cases with")
        and "called Mueller, Jose, Anna_Maier and 1 more in" in told.problem
    )


def test_a_study_names_its_reference_case_as_the_table_does():
    repair = {"structure": "heart", "reference_case": "Müller^Jörg (2)"}
    dataset = settings("msd", "x", repair=repair)
    assert dataset.repair.reference_case == "Mueller_Joerg_2"


def test_two_names_that_become_the_same_are_refused_with_both(tmp_path):
    dataset = table_of(tmp_path, "Müller", "Mueller", "two")
    cases, problems = audit(list_cases(dataset), dataset)
    assert [case.case for case in cases] == ["two"]
    assert "2 times: as Mueller, like Mueller, Müller" in problems[0].problem


@pytest.mark.parametrize("name", ["a", "7", "Patient_01", "sub-01_ses-2.run"])
def test_common_names_pass(tmp_path, name):
    dataset = table_of(tmp_path, name)
    assert [case.case for case in audit(list_cases(dataset), dataset)[0]] == [name]


def test_a_name_that_stands_twice_is_refused_both_times(tmp_path):
    dataset = table_of(tmp_path, "one", "two", "One")
    cases, problems = audit(list_cases(dataset), dataset)
    assert [case.case for case in cases] == ["two"]
    assert [problem.case for problem in problems] == ["One", "one"]
    assert "stands 2 times" in problems[0].problem


# --- several channels ---------------------------------------------------------------------------


def test_a_channel_on_another_grid_is_refused(tmp_path):
    write_nifti(tmp_path / "t1.nii.gz", voxels(1), AFFINE)
    write_nifti(tmp_path / "t2.nii.gz", voxels(2), SHIFTED)
    write_label(tmp_path / "l.nii.gz", mask(), AFFINE)
    (tmp_path / "cases.tsv").write_text(
        "case\timage_t1\timage_t2\tlabel\na\tt1.nii.gz\tt2.nii.gz\tl.nii.gz\n"
    )
    dataset = settings("table", tmp_path / "cases.tsv", channels=["t1", "t2"])
    cases, problems = audit(list_cases(dataset), dataset)
    assert cases == []
    assert (problems[0].file, problems[0].verdict) == ("t2.nii.gz", REFUSED)
    assert "other grid than t1.nii.gz: origin" in problems[0].problem


def test_a_constant_channel_is_named(tmp_path):
    write_nifti(tmp_path / "i.nii.gz", np.stack([voxels(), 0 * voxels()], -1), AFFINE)
    write_label(tmp_path / "l.nii.gz", mask(), AFFINE)
    (tmp_path / "cases.tsv").write_text("case\timage\tlabel\na\ti.nii.gz\tl.nii.gz\n")
    dataset = settings("table", tmp_path / "cases.tsv", channels=["t1", "t2"])
    _, problems = audit(list_cases(dataset), dataset)
    assert problems[0].problem == "channel t2: constant: every voxel is 0"


# --- the reference case of a repair ----------------------------------------------------------------

REPAIR = {"structure": "heart", "reference_case": "a"}


def with_reference(tmp_path, reference, **changes):
    pairs = decathlon(tmp_path, cases=2)
    write_label(pairs / "right.nii.gz", reference, AFFINE)
    rows = "".join(
        f"{name}\timagesTr/case_00{number}.nii.gz\tlabelsTr/case_00{number}.nii.gz\t{right}\n"
        for number, (name, right) in enumerate(
            (("a", changes.pop("right", "right.nii.gz")), ("b", ""))
        )
    )
    (pairs / "cases.tsv").write_text("case\timage\tlabel\treference_label\n" + rows)
    return settings("table", pairs / "cases.tsv", repair=REPAIR | changes)


def judged(dataset):
    cases, problems = audit(list_cases(dataset), dataset)
    stop_if_unusable(cases, problems, dataset, "problems.tsv")
    return cases


def test_a_reference_label_is_audited_as_the_label_is(tmp_path):
    assert judged(with_reference(tmp_path, mask()))[0].reference_label.name == "right.nii.gz"


@pytest.mark.parametrize(
    ("reference", "changes", "words"),
    [
        (mask((1, 9)), {}, "right.nii.gz: unknown label values 9"),
        (mask((2,)), {}, "right.nii.gz: no voxel of heart, which is to be repaired"),
        (mask()[:-1], {}, "right.nii.gz: other grid than its image"),
        (mask(), {"right": ""}, r"repair.reference_case: a has no reference_label"),
        (mask(), {"reference_case": "b"}, r"b has no reference_label.*it is there for a"),
        (mask(), {"reference_case": "z"}, r"repair.reference_case: 'z' is none of the 2"),
    ],
)
def test_a_repair_without_its_reference_stops(tmp_path, reference, changes, words):
    with pytest.raises(InputError, match=words):
        judged(with_reference(tmp_path, reference, **changes))


# --- the command --------------------------------------------------------------------------------


def run_audit(folder, place, *, raw=None, **changes):
    dataset = settings("msd", folder, **changes)
    arguments = ["download", "audit", "--dataset", "thorax", "--settings", dataset.to_json()]
    arguments += ["--cases", str(place / "cases.tsv"), "--problems", str(place / "problems.tsv")]
    return main(arguments + (["--raw", str(raw)] if raw else []) + ["--threads", "2"])


def problems_in(place):
    with (place / "problems.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_good_cases_make_a_table_that_reads_back(folder, tmp_path):
    assert run_audit(folder, tmp_path, raw=folder) == 0
    cases = read_cases(tmp_path / "cases.tsv")
    assert [case.case for case in cases] == ["case_000", "case_001", "case_002"]
    assert cases[0].images == (tmp_path / "set/imagesTr/case_000.nii.gz",)
    assert cases[0].spacing_mm == (1, 1, 2.5)
    assert str(tmp_path) not in (tmp_path / "cases.tsv").read_text()
    assert problems_in(tmp_path) == []


def test_fail_writes_the_problems_and_no_cases(folder, tmp_path, capsys):
    FAULTS["NaN"][0](folder)
    (tmp_path / "cases.tsv").write_text("of an earlier run")
    assert run_audit(folder, tmp_path) == 1
    assert not (tmp_path / "cases.tsv").exists()
    (row,) = problems_in(tmp_path)
    assert row == {
        "dataset": "thorax",
        "case": "case_001",
        "file": "imagesTr/case_001.nii.gz",
        "problem": "1 of 210 voxels are not finite (NaN or infinite)",
        "verdict": "refused",
    }
    said = capsys.readouterr().err
    assert "case_001: imagesTr/case_001.nii.gz: 1 of 210" in said
    assert "1 case refused, 2 good" in said
    assert ".on_bad_case: drop in the study file" in said


def test_drop_goes_on_without_the_bad_case(folder, tmp_path, capsys):
    FAULTS["NaN"][0](folder)
    assert run_audit(folder, tmp_path, on_bad_case="drop") == 0
    cases = read_cases(tmp_path / "cases.tsv")
    assert [case.case for case in cases] == ["case_000", "case_002"]
    assert [row["verdict"] for row in problems_in(tmp_path)] == ["refused"]


def test_drop_does_not_go_on_with_nothing(folder, tmp_path, capsys):
    for number in range(3):
        label_of(folder, number).unlink()
    assert run_audit(folder, tmp_path, on_bad_case="drop") == 1
    assert "no case is left" in capsys.readouterr().err


def test_an_empty_dataset_is_an_error(folder, tmp_path, capsys):
    (folder / "dataset.json").write_text(json.dumps({"training": []}))
    for file in folder.rglob("case_*"):
        file.unlink()
    assert run_audit(folder, tmp_path) == 1
    assert "holds no case" in capsys.readouterr().err


def test_many_refused_cases_are_shown_in_part_and_counted():
    problems = [Problem(f"case_{number:03d}", "", f"bad in way {number}") for number in range(50)]
    dataset = settings("msd", "x")
    with pytest.raises(InputError) as error:
        stop_if_unusable([], problems, dataset, "problems.tsv")
    lines = str(error.value).splitlines()
    assert len(lines) == 22
    assert lines[20] == "... and 30 more"
    assert "50 cases refused, 0 good" in lines[21]


def test_too_little_memory_for_a_case_is_said_in_a_line(folder, monkeypatch):
    from segstudy.download import audit as module

    def fail(*_):
        raise MemoryError("Unable to allocate 119. GiB")

    monkeypatch.setattr(module, "label_problems", fail)
    with pytest.raises(
        InputError, match=r"case case_00\d: not enough memory for 6x7x5 voxels \(Unable"
    ):
        audit(list_cases(settings("msd", folder)), settings("msd", folder))


# --- real data ----------------------------------------------------------------------------------


def audit_table(tmp_path, pairs, **changes):
    """Audit pairs of real files: case -> (images, label); what each case was refused for."""
    channels = changes.get("channels", ["image"])
    columns = ["image"] if len(channels) == 1 else [f"image_{name}" for name in channels]
    lines = ["\t".join(["case", *columns, "label"])]
    lines += [
        "\t".join([name, *map(str, images), str(label)]) for name, (images, label) in pairs.items()
    ]
    (tmp_path / "cases.tsv").write_text("\n".join(lines) + "\n")
    dataset = settings("table", tmp_path / "cases.tsv", **{"modality": "MR"} | changes)
    cases, problems = audit(list_cases(dataset), dataset, threads=2)
    refused = {}
    for problem in problems:
        if problem.verdict == REFUSED:
            refused.setdefault(problem.case, []).append(problem.problem)
    return {case.case: case for case in cases}, {
        name: " / ".join(found) for name, found in refused.items()
    }


def test_the_208_real_hippocampus_cases_pass(real_data):
    dataset = settings(
        "msd",
        real_data / "Task04_Hippocampus",
        modality="MR",
        structures={"anterior": 1, "posterior": 2},
    )
    cases, problems = audit(list_cases(dataset), dataset, threads=2)
    assert len(cases) == 208
    assert problems == []


def test_real_pairs_without_partners(real_data, tmp_path):
    faults = real_data / "faults" / "hippocampus"
    for part, pattern in (("imagesTr", "image_*"), ("labelsTr", "label_*")):
        (tmp_path / part).mkdir()
        for file in faults.glob(pattern):
            name = "hippocampus_" + file.name.rpartition("_")[2]
            (tmp_path / part / name).symlink_to(file)
    (tmp_path / "dataset.json").write_text(json.dumps({"training": []}))
    dataset = settings("msd", tmp_path, modality="MR")
    cases, problems = audit(list_cases(dataset), dataset)
    assert cases == []
    assert [(problem.case, problem.problem) for problem in problems] == [
        ("hippocampus_010", "label without image"),
        ("hippocampus_118", "image without label"),
        ("hippocampus_281", "label without image"),
    ]


def test_real_4d_labels_are_refused_and_3d_ones_pass(real_data, tmp_path):
    faults = real_data / "faults" / "deepreg"
    pairs = {
        f"d{number}": (
            [faults / "fixed_images" / f"case00000{number}.nii.gz"],
            faults / "fixed_labels" / f"case00000{number}.nii.gz",
        )
        for number in (0, 2, 4, 5)
    }
    good, refused = audit_table(tmp_path, pairs, structures={"prostate": 1})
    assert set(good) == {"d2", "d5"}
    assert all("expected a 3D label map" in refused[name] for name in ("d0", "d4"))


def test_real_spinal_cords(real_data, tmp_path):
    cord = real_data / "faults" / "spinalcord"
    pairs = {
        "mt1": ([cord / "mt/mt1.nii.gz"], cord / "mt/mt1_seg.nii.gz"),
        "soft": ([cord / "mt/mt1.nii.gz"], cord / "mt/mt1_gmseg.nii.gz"),
        "infinite": ([cord / "mt/mtr.nii.gz"], cord / "mt/mt1_seg.nii.gz"),
        "t1": ([cord / "t1/t1w.nii.gz"], cord / "t1/t1w_seg-manual.nii.gz"),
        "t2": ([cord / "t2/t2.nii.gz"], cord / "t2/t2_seg-manual.nii.gz"),
        "vertebrae": ([cord / "t2/t2.nii.gz"], cord / "t2/t2_seg-manual_labeled.nii.gz"),
        "crossed": ([cord / "t1/t1w.nii.gz"], cord / "t2/t2_seg-manual.nii.gz"),
    }
    good, refused = audit_table(tmp_path, pairs, structures={"cord": 1})
    assert set(good) == {"mt1", "t1", "t2"}
    assert "633 of 8000 voxels are not finite" in refused["infinite"]
    assert "expected whole numbers" in refused["soft"]
    assert "unknown label values 2 (1318 voxels)" in refused["vertebrae"]
    assert "other grid" in refused["crossed"]


def test_real_oddities_are_refused_for_what_they_are(real_data, tmp_path):
    odd = real_data / "faults" / "oddities"
    drawn = odd / "draw.nii.gz"
    pairs = {name: ([odd / f"{name}.nii.gz"], drawn) for name in ("AIL", "LPS", "PIR")}
    pairs |= {
        "complex": ([odd / "complex_image.nii.gz"], drawn),
        "rgb": ([odd / "ct_perfusion.nii.gz"], drawn),
        "scaled": ([odd / "AIL.nii.gz"], odd / "AIL.nii.gz"),
    }
    good, refused = audit_table(tmp_path, pairs, structures={"one": 1, "two": 2})
    assert set(good) == {"AIL", "LPS", "PIR"}  # the same voxels, in other orders of the axes
    assert "complex" in refused["complex"]
    assert "RGB" in refused["rgb"]
    assert "expected whole numbers" in refused["scaled"]


def test_real_pairs_of_spm_headers_pass(real_data, tmp_path):
    faults = real_data / "faults" / "monai"
    pairs = {
        name: ([faults / f"{name}.nii"], faults / f"{name}_label.nii.gz")
        for name in ("anatomical", "reoriented_anat_moved")
    }
    good, refused = audit_table(tmp_path, pairs, structures={"one": 1})
    assert set(good) == set(pairs)
    assert refused == {}


def test_a_real_thoracic_ct(real_data, tmp_path):
    folder = real_data / "thorax_ct"
    (label,) = folder.glob("label_*.nii.gz")
    heart = folder / "masks" / "heart.nii.gz"
    image = folder / "ct_cropped.nii.gz"
    structures = {"heart": 1, "aorta": 3}
    pairs = {"all": ([image], label), "larger": ([image], heart)}
    good, _ = audit_table(
        tmp_path, pairs, structures=structures, background_labels=[2, 4, 5, 6, 7], modality="CT"
    )
    # The mask's larger grid holds the image's, and nothing of the heart lies outside of that.
    assert set(good) == ({"all", "larger"} if heart.exists() else {"all"})
    assert good["all"].shape == (120, 126, 164)
    assert good["all"].voxels["heart"] > 10_000


def test_four_real_channels(real_data, tmp_path):
    folder = real_data / "ms_lesion_4ch"
    files = {
        name: next(folder.glob(f"{name}_*.nii.gz")) for name in ("FLAIR", "T1", "T1POST", "T2")
    }
    (label,) = folder.glob("GOLD_*.nii.gz")
    good, refused = audit_table(
        tmp_path,
        {"ms": (list(files.values()), label)},
        structures={"lesion": 1},
        channels=list(files),
    )
    assert refused == {}
    assert good["ms"].shape == (182, 218, 182)
