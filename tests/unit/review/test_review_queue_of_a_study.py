"""`segstudy review queue | open` on the finished predictions of a study: who votes, what is written, what stays hidden."""

import csv
import html
import re
import shlex
import shutil

import numpy as np
import pytest
import yaml
from planted_faults import AORTA, HEART, seen, too_wide, truth

from segstudy import cli, correction_records
from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.images.checksum import label_checksum
from segstudy.images.files import read_label, write_label, write_nifti
from segstudy.review import study_queue

AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])
FAULTY = "p3"
VALUES = np.array([0, 7, 3], np.uint8)  # of heart and aorta in the files


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of two folds whose two models, one with two seeds, have predicted; the heart of `p3` is drawn too wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    cases, splits, rows = [], [], ["case\tsubject\timage\tlabel"]
    results = tmp_path / "results" / "mine"
    for index in range(10):
        name, right = f"p{index}", truth(index)
        label = too_wide(right) if name == FAULTY else right
        files = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"
        write_nifti(files[0], (100.0 * right).astype(np.float32), AFFINE)
        write_label(files[1], VALUES[label], AFFINE)
        rows.append(f"{name}\ts{index}\t{files[0].name}\t{files[1].name}")
        cases.append(
            Case(name, f"s{index}", (files[0],), files[1], voxels={"heart": 1, "aorta": 1})
        )
        splits.append(Split("chest", name, f"s{index}", index % 2))
        draw = np.random.default_rng(index)
        for model, seed in (("one", 0), ("one", 1), ("two", 0)):
            folder = results / f"infer/{model}/fold-{index % 2}/seed-{seed}/chest"
            write_label(folder / f"{name}.nii.gz", VALUES[seen(right, draw)], AFFINE)
    (tmp_path / "cases.tsv").write_text("\n".join(rows) + "\n")
    content = {
        "datasets": {
            "chest": {
                "source": {"layout": "table", "path": "cases.tsv"},
                "modality": "CT",
                "structures": {"heart": 7, "aorta": 3},
            }
        },
        "splits": {"folds": 2},
        "models": {"one": {"network": "enet", "seeds": [0, 1]}, "two": {"network": "enet"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    write_cases(results / "download/chest/cases.tsv", cases, ["image"])
    write_splits(results / "preprocess/splits.tsv", splits)
    return results


def review(*words: str) -> int:
    return cli.main(["review", *words, "--study", "mine.yaml"])


def table(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_the_faulty_label_comes_first_and_the_page_is_blinded(study, capsys):
    assert review("queue", "--length", "2", "--control", "3", "--seed", "4") == 0
    assert f"chest/{FAULTY}: heart: the boundary lies" in capsys.readouterr().out
    rows = table(study / "review/queue.csv")
    assert tuple(rows[0]) == study_queue.QUEUE_COLUMNS
    assert all(value for column, value in rows[0].items() if column not in ("audit", "reviewed"))
    assert [row["rank"] for row in rows] == [str(number) for number in range(1, 11)]
    assert (rows[0]["case"], rows[0]["finding"], rows[0]["votes"]) == (FAULTY, "too_wide", "3")
    assert [row["picked_by"] for row in rows].count("control") == 3
    assert [row["picked_by"] for row in rows[:2]] == ["queue", "queue"]
    assert sorted(int(row["order"]) for row in rows if row["order"]) == [1, 2, 3, 4, 5]
    voxel = tuple(int(rows[0][f"voxel_{axis}"]) for axis in "ijk")
    stored = read_label(study.parents[1] / f"{FAULTY}_label.nii.gz")
    assert stored.array[voxel] == VALUES[HEART] != VALUES[truth(3)[voxel]]
    point = [float(rows[0][f"{axis}_mm"]) for axis in "xyz"]
    assert np.allclose(AFFINE @ [*voxel, 1], [*point, 1])
    assert rows[0]["slice"] == rows[0]["voxel_k"]
    scores = table(study / "review/scores.csv")
    assert len(scores) == 20 and tuple(scores[0]) == study_queue.SCORE_COLUMNS
    assert all(row["label_ml"] and row["shift_gain"] for row in scores)
    wide = next(row for row in scores if (row["case"], row["structure"]) == (FAULTY, "heart"))
    assert float(wide["boundary_mm"]) > 2 and float(wide["label_ml"]) > float(wide["consensus_ml"])
    page = (study / "review/queue.html").read_text()
    assert "A fault that all labels of a structure share" in page
    assert f"segstudy review open chest/{FAULTY} --study mine.yaml" in page
    assert "Dashed" not in page and "control" not in page.replace("--control N", "")
    assert len(list((study / "review/pictures").glob("*.png"))) == 5
    assert not (study / "review/openings.tsv").exists()


def test_the_same_queue_has_the_same_bytes_and_the_consensus_is_on_record(study):
    def content() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes() for path in (study / "review").rglob("*") if path.is_file()
        }

    assert review("queue", "--length", "1") == 0
    first = content()
    assert review("queue", "--length", "1") == 0
    assert content() == first
    assert review("queue", "--length", "1", "--show-consensus") == 0
    assert content()[f"chest-{FAULTY}.png"] != first[f"chest-{FAULTY}.png"]
    (row,) = table(study / "review/openings.tsv")
    assert (row["case"], row["what"], row["consensus"]) == (FAULTY, "page", "shown")


def test_no_model_votes_on_a_subject_that_it_has_seen(study, capsys):
    """A second scan of a subject of the other fold: its models have learnt from that subject."""
    splits = (study / "preprocess/splits.tsv").read_text()
    (study / "preprocess/splits.tsv").write_text(splits.replace("chest\tp4\ts4", "chest\tp4\ts5"))
    assert review("queue") == 0
    # `p5` shares its subject with `p4`, which the models of its fold have learnt from.
    assert {row["case"] for row in table(study / "review/queue.csv")} == {
        f"p{index}" for index in range(10) if index not in (4, 5)
    }


def test_what_is_not_predicted_yet_and_too_much_that_is_asked_for_is_told(study, capsys):
    assert review("queue", "--length", "11") == 1
    assert "--length 11: expected 1 to 10" in capsys.readouterr().err
    assert review("queue", "--control", "-1") == 1
    assert not (study / "review").exists()
    (study / "infer").rename(study / "gone")
    assert review("queue") == 1
    told = capsys.readouterr().err
    assert "no case has a prediction by a model that has not seen its subject" in told
    assert "segstudy run mine.yaml infer" in told
    (study / "preprocess/splits.tsv").unlink()
    assert review("queue") == 1
    assert "splits.tsv: not there yet" in capsys.readouterr().err


def test_findings_of_the_audits_are_joined(study):
    (study / "repair/chest/audit").mkdir(parents=True)
    (study / "repair/chest/audit/faults.csv").write_text(
        "case,structure,fault,evidence,score\np7,aorta,missing_part,half of it,9\n"
    )
    (study / "download/chest/problems.tsv").write_text(
        "dataset\tcase\tfile\tproblem\tverdict\nchest\tp8\tp8.nii.gz\tsize in another unit\twarning\n"
    )
    assert review("queue") == 0
    rows = {row["case"]: row for row in table(study / "review/queue.csv")}
    assert rows["p7"]["audit"] == "missing part: half of it"
    assert "the audit found: aorta: missing part" in rows["p7"]["reason"]
    assert rows["p8"]["audit"] == "size in another unit"
    assert int(rows["p7"]["rank"]) <= 2


def test_a_case_opens_blinded_with_a_copy_of_its_label(study, tmp_path, capsys):
    assert review("queue") == 0
    delivered = (tmp_path / f"{FAULTY}_label.nii.gz").read_bytes()
    capsys.readouterr()
    assert review("open", FAULTY) == 0
    told = capsys.readouterr().out
    folder = study / "review/editing/chest" / FAULTY
    assert f"Slicer --python-script {folder.resolve() / 'slicer.py'}" in told
    assert "segstudy review accept chest/p3" in told
    assert {path.name for path in folder.iterdir()} == {f"{FAULTY}.nii.gz", "slicer.py"}
    copy = read_label(folder / f"{FAULTY}.nii.gz")
    assert np.array_equal(copy.array, read_label(tmp_path / f"{FAULTY}_label.nii.gz").array)
    (row,) = table(study / "review/openings.tsv")
    assert (row["started"], row["consensus"], row["editor"]) == ("no", "hidden", "slicer")
    # What was edited is kept, until it is asked for anew; the consensus comes and goes with its option.
    write_label(folder / f"{FAULTY}.nii.gz", np.zeros(copy.array.shape, np.uint8), AFFINE)
    assert review("open", f"chest/{FAULTY}", "--show-consensus") == 0
    assert "as it was left" in capsys.readouterr().out
    agreed = read_label(folder / "consensus.nii.gz").array
    assert set(np.unique(agreed)) == {0, *VALUES[[HEART, AORTA]]}
    assert not read_label(folder / f"{FAULTY}.nii.gz").array.any()
    (folder / f"{FAULTY}.seg.nrrd").write_text("what Slicer saved")
    assert review("open", FAULTY, "--fresh") == 0
    assert not (folder / f"{FAULTY}.seg.nrrd").exists()
    assert np.array_equal(read_label(folder / f"{FAULTY}.nii.gz").array, copy.array)
    assert not (folder / "consensus.nii.gz").exists()
    assert [row["consensus"] for row in table(study / "review/openings.tsv")] == [
        *("hidden", "shown", "hidden")
    ]
    assert (tmp_path / f"{FAULTY}_label.nii.gz").read_bytes() == delivered


def test_commands_that_are_shown_can_be_pasted(study, tmp_path, capsys):
    """Of a study in a folder whose name has a blank and a quote."""
    folder = tmp_path / 'it\'s "mine"'
    folder.mkdir()
    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    content["datasets"]["chest"]["source"]["path"] = "../cases.tsv"
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))

    def pasted(text):
        (found,) = {tuple(shlex.split(one)) for one in re.findall("segstudy review .*", text)}
        return found

    queue, open_ = ([step, "--study", str(file)] for step in ("queue", "open"))
    assert cli.main(["review", *queue]) == 0
    page = (study / "review/queue.html").read_text()
    shown = [
        shlex.split(html.unescape(one)) for one in re.findall("<code>(segstudy .*?)</code>", page)
    ]
    assert shown and all(one[-2:] == ["--study", str(file)] for one in shown)
    capsys.readouterr()
    assert cli.main(["review", *open_, FAULTY]) == 0
    copy = (study / f"review/editing/chest/{FAULTY}/{FAULTY}.seg.nrrd").resolve()
    expected = ("segstudy", "review", "accept", f"chest/{FAULTY}", str(copy), "--study", str(file))
    assert pasted(capsys.readouterr().out)[: len(expected)] == expected
    label = tmp_path / f"{FAULTY}_again.nii.gz"
    shutil.copy(tmp_path / f"{FAULTY}_label.nii.gz", label)
    words = ["review", "accept", FAULTY, str(label), "--study", str(file), "--why", "x"]
    assert cli.main(words) == 1
    assert pasted(capsys.readouterr().err)[-4:] == ("--study", str(file), "--why", "TEXT")
    write_label(label, np.roll(read_label(label).array, 1, axis=0), AFFINE)
    assert cli.main(words) == 0
    assert pasted(capsys.readouterr().out)[-2:] == ("--study", str(file))


def test_an_editor_on_the_path_is_started_at_the_place(study, tmp_path, monkeypatch):
    from segstudy.review import opening

    assert review("queue") == 0
    programs = tmp_path / "no programs"
    programs.mkdir()
    (programs / "itksnap").write_text("#!/bin/sh\n")
    (programs / "itksnap").chmod(0o755)
    started = []
    monkeypatch.setattr(opening, "_start", started.append)
    assert review("open", FAULTY) == 0
    ((program, *words),) = started
    assert program == str(programs / "itksnap")
    assert words[:2] == ["-g", str(tmp_path / f"{FAULTY}.nii.gz")]
    assert table(study / "review/openings.tsv")[0]["started"] == "yes"


def test_a_case_that_is_not_there_is_told(study, capsys):
    assert review("open", "p99") == 1
    assert "p99: no case that models have predicted" in capsys.readouterr().err


def test_reviewed_labels_stand_last_and_more_controls_than_there_are_take_all_others(study):
    """`p3`, faulty, and `p0` were reviewed and found right; the record of `p1` is of a label that has changed since."""
    folder = study.parents[1] / "mine.corrections"
    for case, voxels in ((FAULTY, None), ("p0", None), ("p1", "another")):
        label = read_label(study.parents[1] / f"{case}_label.nii.gz")
        known = voxels or label_checksum(label)
        entry = correction_records.entry("unchanged", "Ada", "right as it is", old_voxels=known)
        correction_records.append(folder, "chest", case, entry)
    assert review("queue", "--length", "2", "--control", "20") == 0
    rows = table(study / "review/queue.csv")
    assert {row["case"] for row in rows[-2:]} == {FAULTY, "p0"}
    assert [row["reviewed"] for row in rows] == [""] * 8 + ["unchanged"] * 2
    assert [row["picked_by"] for row in rows] == ["queue"] * 2 + ["control"] * 6 + [""] * 2
    assert float(rows[-2]["suspicion_sd"]) > float(rows[0]["suspicion_sd"])
