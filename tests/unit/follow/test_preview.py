"""What would run, told by the record and by what Snakemake plans."""

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from segstudy.cases import Case, write_cases
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.follow import words
from segstudy.follow.preview import CERTAIN, LIKELY, planned, preview
from segstudy.follow.times import ALIKE, BEFORE, SCALED, SIZES, VOXEL_S
from segstudy.jobs.targets import STAGES
from segstudy.study import read_study

STUDY = """
datasets:
  chest: {source: {layout: table, path: cohort.tsv}, modality: CT, structures: {heart: 1}}
models:
  flat: {network: unet, patch_size: [32, 32, 32], epochs: 4, steps_per_epoch: 2, batch_size: 2}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A study `tiny` and the folder of its results."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY)
    Path("cohort.tsv").write_text("case\tsubject\timage\tlabel\np1\tp1\tp1.nii\tp1_l.nii\n")
    for name in ("p1.nii", "p1_l.nii"):
        Path(name).write_bytes(b"1")
    root = tmp_path / "results/tiny"
    root.mkdir(parents=True)
    return root


def training(epochs=4, **more):
    model = {"network": "unet", "patch_size": [32, 32, 32], "epochs": epochs, "steps_per_epoch": 2}
    settings = {"model": model, "structures": ["heart"], "channels": ["image"], "modality": "CT"}
    told = {
        "id": 1,
        "rule": "train_fit",
        "wildcards": {"model": "flat", "fold": "0", "seed": "0"},
        "output": ["train/flat/weights.pt", "train/flat/history.csv"],
        "log": ["logs/train.log"],
        "benchmark": "",
        "gpus": 1,
        "inputs": ["preprocess/shards.txt"],
        "files": {},
        "options": {"": "train", "--settings": json.dumps(settings), "--finished": ""},
        "code": "c",
    }
    return {**told, **more}


def prediction(**more):
    told = {
        "id": 2,
        "rule": "infer_predict",
        "wildcards": {"model": "flat", "fold": "0", "seed": "0", "dataset": "chest"},
        "output": ["infer/flat"],
        "log": [],
        "benchmark": "",
        "gpus": 1,
        "inputs": ["train/flat/weights.pt"],
        "files": {},
        "options": {"": "infer", "--settings": "{}", "--finished": ""},
        "code": "c",
    }
    return {**told, **more}


def shards(**more):
    told = {
        "id": 3,
        "rule": "preprocess_list_arrays",
        "wildcards": {"dataset": "chest"},
        "output": ["preprocess/shards.txt"],
        "log": [],
        "benchmark": "",
        "gpus": 0,
        "inputs": ["preprocess/a"],
        "files": {},
        "options": {"": "preprocess", "--cases-per-job": "2"},
    }
    return {**told, **more}


def ran(root, *jobs, seconds=100, kept=()):
    """Write the record of jobs that ran one after another, and what they leave."""
    lines = [{"event": "run", "time": 0, "host": "h", "process": 1, "command": "snakemake"}]
    for number, job in enumerate(jobs):
        name = dict(enumerate(kept)).get(number)
        left = {"seconds": seconds, "bytes": 1000, **({"kept": name} if name else {})}
        lines += [{"event": "start", "time": 1, **job}]
        lines += [{"event": "end", "time": 2, "id": job["id"], **left}]
        for path in job["output"]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        if name:
            (root / ".finished" / name).mkdir(parents=True, exist_ok=True)
    with (root / ".jobs.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def look(root, *jobs):
    return preview(read_study("tiny.yaml"), root, jobs)


def test_the_first_run_is_told_by_sizes(place):
    found = look(place, training(), prediction())
    assert found.is_first
    assert found.reasons == {"the first run": {"train": 1, "infer": 1}}
    assert {job.estimate.told_by for job in found.jobs} == {SIZES}
    assert "may be wrong by a factor of ten" in words.text(found)


def test_a_job_that_follows_another_has_its_reason(place):
    ran(place, training(), prediction())
    found = look(place, prediction(), training(epochs=8))
    assert [job.stage for job in found.jobs] == ["train", "infer"]
    assert found.reasons == {"models.flat: epochs 4 -> 8": {"train": 1, "infer": 1}}
    # Twice the epochs, at the speed of before, but one start of 15 s; the prediction as before, after it.
    assert [job.estimate.seconds for job in found.jobs] == pytest.approx([185, 100])
    assert found.longest_s == pytest.approx(285)
    assert words.gpu_hours(found) == pytest.approx(285 / 3600)
    assert [job.estimate.told_by for job in found.jobs] == [BEFORE + SCALED, BEFORE]
    assert "told by earlier runs of them (1), earlier runs of them, scaled (1)" in words.text(found)


def test_automatic_settings_are_told_by_the_audited_cases(place):
    """Ten cases of two folds: five to train on, in three batches; 40x40x10 voxels of 2 mm are 80x80x20 of 1 mm."""
    auto = "network: unet, plan: fine, epochs: 4, batch_size: 2, device: cpu"
    Path("tiny.yaml").write_text(
        STUDY.split("models:")[0]
        + "preprocess: {fine: {spacing_mm: [1, 1, 1]}}\nsplits: {folds: 2}\n"
        + f"models:\n  flat: {{{auto}}}\n"
    )
    files = Path("p1.nii").absolute(), Path("p1_l.nii").absolute()
    cases = [
        Case(f"p{n}", f"p{n}", files[:1], files[1], shape=(40, 40, 10), spacing_mm=(2.0, 2.0, 2.0))
        for n in range(10)
    ]
    (place / "download/chest").mkdir(parents=True)
    write_cases(place / "download/chest/cases.tsv", cases, ("image",))
    settings = {"model": {"network": "unet", "epochs": 4, "batch_size": 2, "channels": [16, 32]}}
    settings |= {"structures": ["heart"], "channels": ["image"], "modality": "CT"}
    options = {"": "train", "--settings": json.dumps(settings)}
    [job] = look(place, training(options=options, gpus=0)).jobs
    voxels = 80 * 80 * 20
    assert job.estimate.seconds == pytest.approx(15 + VOXEL_S * 4 * 3 * 2 * voxels * 16)


def test_another_fold_takes_as_long_as_one_alike(place):
    ran(place, training(), seconds=40)
    other = {"model": "flat", "fold": "1", "seed": "0"}
    [job] = look(place, training(wildcards=other, output=["train/1/weights.pt"])).jobs
    assert job.why == ("new fold 1",)
    assert (job.estimate.told_by, job.estimate.seconds) == (ALIKE, 40)


def test_settings_that_are_put_back_restore_what_is_kept(place):
    ran(place, training(4), training(8), kept=("train-4", "train-8"))
    [job] = look(place, training(4)).jobs
    assert (job.restored, job.estimate.seconds) == (CERTAIN, 10)
    assert words.gpu_hours(look(place, training(4))) == 0
    assert look(place, training(5)).jobs[0].restored is None
    (place / ".finished/train-4").rmdir()
    assert look(place, training(4)).jobs[0].restored is None


def test_what_reads_the_same_divided_anew_is_likely_restored(place):
    ran(place, shards(), training(), kept=(None, "train-4"))
    anew = shards(options={"": "preprocess", "--cases-per-job": "3"})
    # Before a plan is known, Snakemake has no paths to put into the command.
    unknown = training(
        options={**training()["options"], "--arrays": "n o t"},
        inputs=["preprocess/plan.json", "preprocess/shards.txt"],
    )
    assert "perhaps    train 1: " in words.text(look(place, anew, unknown))
    jobs = look(place, anew, training()).jobs
    assert jobs[0].why == ("datasets.chest: cases_per_job 2 -> 3",)
    assert [job.restored for job in jobs] == [None, LIKELY]


def test_what_was_restored_tells_no_time(place):
    ran(place, training(), seconds=500, kept=("train-4",))
    ran(place, training(), seconds=3, kept=("train-4",))
    [job] = look(place, training(code="d")).jobs
    assert job.why == ("code: train changed",)
    assert job.estimate.seconds == 500


@pytest.mark.parametrize(("event", "said"), [("fail", "failed"), (None, "not finished")])
def test_what_did_not_end_says_so(place, event, said):
    lines = [{"event": "run", "time": 0}, {"event": "start", "time": 1, **training()}]
    lines += [{"event": event, "time": 2, "id": 1}] if event else []
    (place / ".jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [job] = look(place, training()).jobs
    assert job.why == (f"{said} in the last run",)


def test_results_that_are_gone_or_without_record_say_so(place):
    ran(place, training())
    (place / "train/flat/history.csv").unlink()
    assert look(place, training()).jobs[0].why == ("what train_fit had made is gone",)
    (place / "infer").mkdir()
    (place / "infer/flat").touch()
    [job] = look(place, prediction()).jobs
    assert job.why == ("made by a version that kept no record of it",)


def test_before_the_audit_counts_are_at_least(place):
    ran(place, training())
    audit = shards(rule="download_audit", output=["download/chest/cases.tsv"], inputs=[])
    text = words.text(look(place, audit, training()))
    assert text.startswith("tiny: at least 2 jobs would run")
    assert "(so far as is known)" in text


def test_files_that_are_not_known_before_the_audit_are_not_taken_for_removed(place):
    audit = shards(rule="download_audit", output=["download/chest/cases.tsv"], inputs=[], id=9)
    images = {"rule": "preprocess_list_images", "output": ["images.txt"], "options": {"": ""}}
    images = shards(**images, inputs=["download/chest/cases.tsv"])
    ran(place, audit, {**images, "files": {"p1.nii": [1, 1]}})
    found = look(place, {**audit, "code": "new"}, images)
    assert found.reasons == {"code: download changed": {"download": 1, "preprocess": 1}}


def test_a_preview_is_never_longer_than_25_lines(place):
    ran(place, training())
    jobs = [
        training(wildcards={"model": f"m{n}", "fold": "0", "seed": "0"}, output=[f"train/m{n}"])
        for n in range(40)
    ]
    audit = shards(rule="download_audit", output=["download/chest/cases.tsv"], inputs=[])
    text = words.text(look(place, audit, *jobs))
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 110
    assert "and 31 other reasons" in text


def test_a_long_reason_is_wrapped_between_stages_and_no_count_is_lost(place):
    counts = dict.fromkeys(STAGES, 123)
    found = replace(
        look(place, training()), reasons={f"why {n}": Counter(counts) for n in range(20)}
    )
    lines = words.text(found).splitlines()
    assert len(lines) <= 25
    first = lines[3:5]
    assert " ".join(line.strip() for line in first) == "why 0: " + ", ".join(
        f"{stage} 123" for stage in STAGES
    )
    assert max(map(len, first)) <= 100 and first[0].endswith(",")


def ended(*jobs):
    """Return the lines of a record: jobs that were started and ended; told apart by their numbers."""
    lines = [{"event": "run", "time": 0}]
    for job, left in jobs:
        lines += [{"event": "start", "time": 1, **job}]
        lines += [{"event": "end", "time": 2, "id": job["id"], "seconds": 1, "bytes": 1, **left}]
    return lines


def record(root, lines):
    """Write a record, and what the lists of arrays leave; the audit's table is gone."""
    (root / "preprocess").mkdir()
    (root / "preprocess/shards.txt").touch()
    (root / ".jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def audit(**more):
    files = {"p1.nii": [1, 1], "p1_l.nii": [1, 1]}
    told = {"rule": "download_audit", "output": ["download/chest/cases.tsv"], "inputs": [], "id": 9}
    return shards(**{**told, "files": files, **more})


def test_what_follows_a_job_that_failed_did_not_fail(place):
    record(place, [*ended((audit(), {}), (shards(), {})), {"event": "start", "time": 3, **audit()}])
    with (place / ".jobs.jsonl").open("a") as file:
        file.write(json.dumps({"event": "fail", "time": 4, "id": 9}) + "\n")
    found = look(place, audit(), shards(inputs=["download/chest/cases.tsv"]))
    assert found.reasons == {
        "failed in the last run": {"download": 1},
        "follows what failed in the last run": {"preprocess": 1},
    }


def test_results_that_are_missing_are_said_where_nothing_would_run(place):
    """Snakemake passes over a failed prediction where its metrics are there from the weights before."""
    lines = [*ended((training(), {})), {"event": "start", "time": 3, **prediction()}]
    record(place, [*lines, {"event": "fail", "time": 4, "id": 2}])
    found = look(place)
    assert found.left == ("infer_predict dataset=chest fold=0 model=flat seed=0",)
    assert "results of jobs that did not end are missing: infer 1" in words.text(found)
    assert "segstudy run STUDY infer\n" in words.text(found)
    assert look(place, prediction()).left == ()
    (place / "infer").mkdir()
    (place / "infer/flat").touch()
    assert words.text(look(place)).startswith("tiny: nothing would run: all is made")


def test_a_case_that_was_removed_before_a_failed_audit_is_named(place):
    """The audit's table is deleted when it starts again; the record knows whose the files were."""
    gone = {"p9.nii": [1, 1], "p9_l.nii": [1, 1]}
    kinds = {str(Path("p9.nii").absolute()): ["p9", "image"]}
    kinds |= {str(Path("p9_l.nii").absolute()): ["p9", "label"]}
    before = audit(files={**audit()["files"], **gone})
    record(
        place,
        [
            *ended((before, {"owners": kinds}), (shards(), {})),
            {"event": "start", "time": 3, **audit()},
            {"event": "fail", "time": 4, "id": 9},
        ],
    )
    found = look(place, audit(), shards(inputs=["download/chest/cases.tsv"]))
    assert found.reasons == {
        "failed in the last run": {"download": 1},
        "data: removed case p9": {"download": 1, "preprocess": 1},
    }


@pytest.mark.parametrize(
    ("fold", "changed", "said"),
    [
        # Fold 0 tests p1, and so does not train on it.
        ("0", "p1_l.nii", LIKELY),
        ("1", "p1_l.nii", None),
        ("0", "p1.nii", LIKELY),
        ("1", "p1.nii", None),
    ],
)
def test_a_fold_that_trains_on_what_changed_is_not_taken_from_finished_work(
    place, fold, changed, said
):
    (place / "preprocess").mkdir()
    (place / "preprocess/splits.tsv").write_text("dataset\tcase\tsubject\tfold\nchest\tp1\tp1\t0\n")
    wildcards = {"model": "flat", "fold": fold, "seed": "0"}
    fit = training(wildcards=wildcards, inputs=["download/chest/list.txt"])
    predict = prediction(wildcards={**wildcards, "dataset": "chest"})
    before = audit(output=["download/chest/list.txt"])
    ran(place, before, fit, predict, kept=(None, "train-4", "infer-4"))
    now = {**before, "files": {**before["files"], changed: [1, 7]}}
    _, trained, predicted = look(place, now, fit, predict).jobs
    assert trained.restored == said
    # Its own case is predicted anew from another image.
    assert predicted.restored == (None if changed == "p1.nii" else said)


def test_nothing_to_run_is_said(place):
    assert words.text(look(place)).startswith("tiny: nothing would run")
    assert words.as_json(look(place))["jobs"] == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59, "59 s"), (120, "2.0 min"), (3600 * 5, "5 h"), (86400 * 2, "2.0 days")],
)
def test_times_are_said_as_a_person_does(seconds, said):
    assert words.about(seconds) == said


def test_what_speaks_against_a_preview_is_said(place, capsys):
    assert main(["preview", "none.yaml"]) == 1
    assert "none.yaml: no such study file" in capsys.readouterr().err
    for pair, told in (
        ("results", "expected KEY=VALUE"),
        ("study=x", "the study is named already"),
    ):
        assert main(["preview", "tiny.yaml", "--config", pair]) == 1
        assert told in capsys.readouterr().err


def test_status_finds_results_by_the_studys_name(place, capsys):
    """Also where its data are gone."""
    Path("my study-2.yaml").write_text("datasets: {}\n")
    assert main(["status", "my study-2.yaml", "--config", "results=/nowhere"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("my_study_2:") and "/nowhere/my_study_2" in told


def test_a_home_that_takes_no_cache_is_replaced(place, monkeypatch):
    """As `segstudy run` does it: else Snakemake ends in a trace."""
    given = {}

    def run(command, env, **_):
        given.update(env)
        return subprocess.CompletedProcess(command, 1, "usage\nx: error: seen\n")

    monkeypatch.setattr("segstudy.follow.preview.subprocess.run", run)
    monkeypatch.setenv("HOME", "/proc/nobody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(InputError, match="seen"):
        planned(["study=tiny.yaml"])
    assert given["XDG_CACHE_HOME"] == str(Path(".snakemake/cache").absolute())


def test_partial_is_a_value_of_config(place, monkeypatch, capsys):
    """Nothing is trained yet: what `partial=true` says of it is said."""
    rows = [f"p{number}\tp{number}\tp1.nii\tp1_l.nii\n" for number in range(5)]
    Path("cohort.tsv").write_text("case\tsubject\timage\tlabel\n" + "".join(rows))
    assert main(["preview", "tiny.yaml", "--partial"]) == 1
    assert "partial: none of flat is trained in any fold" in capsys.readouterr().err
