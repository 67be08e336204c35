"""Corrected labels: what is accepted, what is refused, what stands on record, and what the audit makes of it."""

import json
import shutil

import numpy as np
import pytest
import yaml

from builders import AFFINE, AORTA, HEART, chest, tiny_study, write_cohort
from segstudy import correction_records as records
from segstudy.cases import read_cases, uncorrected_labels
from segstudy.cli import main
from segstudy.files import file_checksum
from segstudy.images.files import read_label, write_label
from segstudy.review.differences import changed_voxels
from segstudy.study import read_study


class Cohort:
    """A study of three audited cases, without Snakemake."""

    def __init__(self, folder):
        self.folder = folder
        table = write_cohort(folder / "data", 3, moved=False)
        study = tiny_study(table, moved=False)
        study["datasets"]["chest"]["on_bad_case"] = "drop"
        self.file = folder / "tiny.yaml"
        self.file.write_text(yaml.safe_dump(study))
        self.results = folder / "results" / "tiny"
        self.corrections = folder / "tiny.corrections"

    @property
    def cases(self):
        table = self.results / "download/chest/cases.tsv"
        return {case.case: case for case in read_cases(table)}

    def audit(self) -> int:
        settings = read_study(self.file).datasets["chest"].delivered().to_json()
        words = ["--cases", str(self.results / "download/chest/cases.tsv")]
        words += ["--problems", str(self.results / "download/chest/problems.tsv")]
        if self.corrections.is_dir():
            words += ["--corrections", str(self.corrections)]
        return main(["download", "audit", "--dataset", "chest", "--settings", settings, *words])

    def review(self, *words: str) -> int:
        config = ["--config", f"results={self.folder / 'results'}"]
        return main(["review", *words, "--study", str(self.file), *config])

    def drawn(self, index: int = 1, change=None):
        """A label with two voxels of the heart taken for the aorta, and five of background for the heart."""
        label = chest(index)[1]
        label[tuple(np.argwhere(label == HEART)[:2].T)] = AORTA
        label[0, :5, 0] = HEART
        if change is not None:
            label = change(label)
        path = self.folder / f"drawn{index}.nii.gz"
        write_label(path, label, AFFINE)
        return path

    def record(self, case: str = "p1") -> list[dict]:
        return json.loads((self.corrections / f"chest/{case}.json").read_text())["entries"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory) -> Cohort:
    cohort = Cohort(tmp_path_factory.mktemp("review"))
    assert cohort.audit() == 0
    return cohort


@pytest.fixture
def cohort(audited):
    yield audited
    shutil.rmtree(audited.corrections, ignore_errors=True)
    for file in audited.folder.glob("data/*"):
        if file.name.startswith("kept_"):
            shutil.move(file, file.with_name(file.name.removeprefix("kept_")))
    assert audited.audit() == 0


def test_a_correction_takes_the_place_of_the_delivered_label_and_is_taken_back(cohort, capsys):
    delivered = cohort.cases["p1"].label
    old = file_checksum(delivered)
    file = cohort.drawn()
    assert cohort.review("accept", "p1", str(file), "--why", "two slices", "--who", "Ada") == 0
    assert "aorta +2 -0, heart +5 -2 voxels" in capsys.readouterr().out
    (entry,) = cohort.record()
    assert (entry["who"], entry["why"], entry["action"]) == ("Ada", "two slices", "corrected")
    assert entry["old_file"] == old
    assert entry["new_file"] == file_checksum(file)
    assert entry["changed"]["heart"] == {
        "old": (before := int((chest(1)[1] == HEART).sum())),
        "new": before + 3,
        "added": 5,
        "removed": 2,
    }
    assert entry["changed_voxels"] == 7

    assert cohort.audit() == 0
    case = cohort.cases["p1"]
    assert np.array_equal(read_label(case.label).array, read_label(file).array)
    assert case.delivered_label.samefile(delivered)
    assert case.voxels["heart"] == before + 3
    assert uncorrected_labels([case], None)[0].label.samefile(delivered)
    assert cohort.cases["p0"].delivered_label is None
    assert file_checksum(delivered) == old

    assert cohort.review("undo", "p1", "--why", "another scan", "--who", "Bob") == 0
    assert [entry["action"] for entry in cohort.record()] == ["corrected", "taken back"]
    assert cohort.record()[1]["who"] == "Bob"
    aside = cohort.corrections / "chest" / cohort.record()[1]["file"]
    assert file_checksum(aside) == file_checksum(file)
    assert cohort.audit() == 0
    assert cohort.cases["p1"].label.samefile(delivered)
    assert cohort.cases["p1"].delivered_label is None


def test_a_label_of_another_format_saved_among_the_corrections_is_accepted_there(cohort):
    import SimpleITK

    image = SimpleITK.ReadImage(str(cohort.drawn()))
    place = cohort.corrections / "chest" / "p1.nrrd"
    place.parent.mkdir(parents=True)
    SimpleITK.WriteImage(image, str(place))
    assert cohort.review("accept", "p1", "--why", "as saved") == 0
    assert cohort.record()[0]["file"] == "p1.nrrd"
    assert cohort.audit() == 0
    assert cohort.cases["p1"].voxels["heart"] == cohort.record()[0]["changed"]["heart"]["new"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda label: label[:-1], "Export the label on its image's grid\n"),
        (lambda label: np.where(label == HEART, 7, label), "unknown label values 7"),
        (lambda label: chest(1)[1], "--unchanged"),
    ],
    ids=["grid", "values", "same"],
)
def test_what_does_not_fit_is_refused(cohort, capsys, change, told):
    assert cohort.review("accept", "p1", str(cohort.drawn(change=change)), "--why", "x") == 1
    assert told in capsys.readouterr().err
    assert not cohort.corrections.exists()


def test_an_emptied_label_is_accepted_where_that_is_meant_alone(cohort, capsys):
    """What an editor writes whose segmentation was empty; the image may also show none of the structures."""
    file = str(cohort.drawn(change=np.zeros_like))
    assert cohort.review("accept", "p1", file, "--why", "x") == 1
    told = capsys.readouterr().err
    assert "no voxel of any structure is left" in told and "--empty" in told
    assert not cohort.corrections.exists()
    assert cohort.review("accept", "p1", "--unchanged", "--empty", "--why", "x") == 1
    assert cohort.review("accept", "p1", file, "--empty", "--why", "a scan of the legs") == 0
    assert "no voxel is left of aorta, heart" in capsys.readouterr().out
    assert cohort.record()[0]["changed"]["heart"]["new"] == 0
    no_aorta = cohort.drawn(change=lambda label: np.where(label == AORTA, 0, label))
    assert cohort.review("accept", "p1", str(no_aorta), "--why", "x") == 0
    assert "no voxel is left of aorta\n" in capsys.readouterr().out


def test_the_delivered_file_itself_is_no_correction(cohort, capsys):
    file = cohort.cases["p1"].label
    assert cohort.review("accept", "p1", str(file), "--why", "x") == 1
    assert "the label that is to be corrected" in capsys.readouterr().err


def test_a_correction_without_record_is_refused(cohort, capsys):
    place = cohort.corrections / "chest" / "p1.nii.gz"
    place.parent.mkdir(parents=True)
    shutil.copy(cohort.drawn(), place)
    assert cohort.audit() == 1
    assert "no record of who changed what" in capsys.readouterr().err


def test_a_label_saved_anew_after_it_was_accepted_is_refused_until_it_is_accepted_again(
    cohort, capsys
):
    file = cohort.drawn()
    cohort.review("accept", "p1", str(file), "--why", "x")
    place = cohort.corrections / "chest" / "p1.nii.gz"
    shutil.copy(cohort.drawn(change=lambda label: np.where(label == AORTA, 0, label)), place)
    assert cohort.audit() == 1
    assert "changed after it was accepted" in capsys.readouterr().err
    assert cohort.review("accept", "p1", "--why", "and the aorta") == 0
    assert cohort.audit() == 0
    assert cohort.cases["p1"].voxels["aorta"] == 0


def test_a_correction_of_a_label_that_was_delivered_anew_is_refused(cohort, capsys):
    cohort.review("accept", "p1", str(cohort.drawn()), "--why", "x")
    delivered = cohort.cases["p1"].label
    shutil.move(delivered, delivered.with_name(f"kept_{delivered.name}"))
    write_label(delivered, chest(2)[1], AFFINE)
    assert cohort.audit() == 1
    assert "it corrects another label than case p1 has now" in capsys.readouterr().err


def test_a_correction_that_the_audit_refuses_stops_the_study_whatever_bad_cases_do(cohort, capsys):
    """`on_bad_case: drop` would leave out the case in silence."""
    cohort.review("accept", "p1", str(cohort.drawn()), "--why", "x")
    place = cohort.corrections / "chest" / "p1.nii.gz"
    write_label(place, np.where(chest(1)[1] == HEART, 9, 0), AFFINE)
    record = json.loads(records.record_of(cohort.corrections, "chest", "p1").read_text())
    record["entries"][-1]["new_file"] = file_checksum(place)
    records.record_of(cohort.corrections, "chest", "p1").write_text(json.dumps(record))
    assert cohort.audit() == 1
    assert "a corrected case is refused" in (told := capsys.readouterr().err)
    assert "unknown label values 9" in told


def test_an_unchanged_case_is_on_record_and_changes_no_input(cohort, capsys):
    assert (
        cohort.review("accept", "p2", "--unchanged", "--why", "right", "--picked-by", "control")
        == 0
    )
    (entry,) = cohort.record("p2")
    assert (entry["action"], entry["picked_by"]) == ("unchanged", "control")
    assert records.input_files(cohort.corrections, "chest") == []
    assert records.find(cohort.corrections, "chest")["p2"].is_reviewed


def test_a_label_that_nobody_accepted_is_no_dead_end_for_a_case_that_is_right(cohort, capsys):
    place = cohort.corrections / "chest" / "p1.nii.gz"
    place.parent.mkdir(parents=True)
    shutil.copy(cohort.drawn(), place)
    assert cohort.review("accept", "p1", "--unchanged", "--why", "right") == 1
    assert "that nobody accepted; move the file away" in capsys.readouterr().err
    assert cohort.review("accept", "p1", "--why", "drawn anew") == 0
    assert cohort.review("accept", "p1", "--unchanged", "--why", "right") == 1
    assert "segstudy review undo p1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:40], "put a sound copy there, or move it away"),
        (lambda text: text.replace('"changed"', '"altered"'), "lacks 'changed'"),
        (lambda text: text.replace('"removed"', '"gone"'), "lacks 'changed'"),
    ],
    ids=["cut", "no counts", "no count"],
)
def test_a_damaged_record_is_told_with_what_to_do(cohort, capsys, change, told):
    cohort.review("accept", "p1", str(cohort.drawn()), "--why", "x")
    record = records.record_of(cohort.corrections, "chest", "p1")
    record.write_text(change(record.read_text()))
    assert cohort.review("undo", "p1") == 1
    assert told in capsys.readouterr().err


def test_the_queue_says_why_a_case_was_picked_and_the_sample_is_kept(cohort):
    queue = cohort.results / "review" / "queue.csv"
    queue.parent.mkdir(parents=True)
    queue.write_text("dataset,case,picked_by\nchest,p1,queue\nchest,p2,control\nchest,p0,control\n")
    cohort.review("accept", "p2", "--unchanged", "--why", "right")
    cohort.review("accept", "p1", "--unchanged", "--why", "right")
    assert cohort.record("p2")[0]["picked_by"] == "control"
    assert cohort.record("p1")[0]["picked_by"] == "queue"
    assert records.picked(cohort.corrections, "chest") == {
        "p1": "queue",
        "p2": "control",
        "p0": "control",
    }
    shutil.rmtree(queue.parent)


def test_unknown_cases_are_named(cohort, capsys):
    assert cohort.review("accept", "p9", "--unchanged", "--why", "x") == 1
    assert "no such case" in capsys.readouterr().err
    assert cohort.review("undo", "p1") == 1
    assert "nothing is on record" in capsys.readouterr().err


def test_changed_voxels_are_counted_per_structure():
    old = np.array([0, 1, 1, 2, 0]).reshape(5, 1, 1)
    new = np.array([1, 1, 2, 2, 0]).reshape(5, 1, 1)
    assert changed_voxels(old, new, {"a": 1, "b": 2, "c": 3}) == {
        "a": {"old": 2, "new": 2, "added": 1, "removed": 1},
        "b": {"old": 1, "new": 2, "added": 1, "removed": 0},
    }
