"""What a run writes down of its jobs."""

import json
import logging
from types import SimpleNamespace

import pytest

from segstudy.cases import Case, write_cases
from segstudy.follow import record
from segstudy.follow.history import history
from segstudy.follow.record import PREVIEW, Recorder, kept_as, options_of, read_events

COMMAND = (
    "trap : INT; python -m segstudy metrics --cases results/s/download/a/cases.tsv"
    """ --settings '{"metrics": {"nsd_tolerance_mm": [3.0]}}' --labels 'a b' c --threads 2"""
    " --finished results/s/.finished 2>&1 | tee results/s/logs/x.log"
)


def event(name, **fields):
    values = logging.LogRecord("snakemake", logging.INFO, "", 0, "", (), None)
    values.__dict__.update(event=name, **fields)
    return values


def job_info(**fields):
    told = {
        "jobid": 3,
        "rule_name": "metrics_measure",
        "wildcards": {"dataset": "a", "fold": "0"},
        "input": ["results/s/download/a/cases.tsv"],
        "output": ["results/s/metrics/a.csv"],
        "log": ["results/s/logs/x.log"],
        "benchmark": "results/s/benchmarks/x.tsv",
        "resources": {"gpu": 1},
        "shellcmd": COMMAND,
    }
    return event("job_info", **{**told, **fields})


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PREVIEW, raising=False)
    return tmp_path / "results/s"


def recorder(place, dry=False):
    asked = lambda rule, wildcards: {"code": f"{rule} {wildcards['fold']}"}  # noqa: E731
    return Recorder(place / ".jobs.jsonl", "results/s", asked, lambda: dry)


def test_options_are_those_that_decide_a_result():
    options = options_of(COMMAND)
    assert json.loads(options["--settings"]) == {"metrics": {"nsd_tolerance_mm": [3.0]}}
    assert options["--labels"] == "a b c"
    assert options[""] == "metrics"
    assert "--threads" not in options
    assert options["--finished"] == ""


def test_a_job_that_ran_stands_in_the_record(place, tmp_path):
    image = tmp_path / "image.nii.gz"
    image.write_bytes(b"12345")
    handler = recorder(place)
    handler.emit(event("run_info", stats={"metrics_measure": 1, "total": 1}))
    handler.emit(job_info(input=["results/s/download/a/cases.tsv", str(image)]))
    (place / "metrics").mkdir()
    (place / "metrics/a.csv").write_bytes(b"x" * 70)
    (place / "benchmarks").mkdir()
    (place / "benchmarks/x.tsv").write_text("s\th:m:s\n12.5\t0:00:12\n")
    handler.emit(event("job_finished", job_id=3))
    handler.emit(event("progress", done=1, total=1))
    handler.close()
    handler.close()
    events = read_events(place / ".jobs.jsonl")
    assert [one["event"] for one in events] == ["run", "plan", "start", "end", "progress", "ended"]
    start, end = events[2], events[3]
    assert start["code"] == "metrics_measure 0"
    assert start["inputs"] == ["download/a/cases.tsv"]
    assert start["files"] == {str(image): [5, int(image.stat().st_mtime)]}
    assert start["gpus"] == 1
    assert "results/s" not in json.dumps(start["options"])
    assert (end["seconds"], end["bytes"]) == (12.5, 70)
    [job] = history(events).ended
    assert (job["state"], job["seconds"]) == ("ended", 12.5)


def test_a_dry_run_writes_only_where_it_is_asked_to(place, tmp_path, monkeypatch):
    recorder(place, dry=True).emit(job_info())
    assert not (place / ".jobs.jsonl").exists()
    monkeypatch.setenv(PREVIEW, str(tmp_path / "asked.jsonl"))
    recorder(place, dry=True).emit(job_info())
    assert [one["event"] for one in read_events(tmp_path / "asked.jsonl")] == ["start"]
    assert not (place / ".jobs.jsonl").exists()


def test_what_cannot_be_written_stops_no_run(place):
    place.parent.mkdir()
    place.write_text("a file in the place of the folder")
    recorder(place).emit(job_info())
    recorder(place).emit(event("job_finished", job_id=77))


def test_a_line_left_half_is_passed_over(tmp_path):
    file = tmp_path / "jobs.jsonl"
    file.write_text('{"event": "run", "time": 1}\n{"event": "sta\n[1]\n{"event": "ended"}\n')
    assert [one["event"] for one in read_events(file)] == ["run", "ended"]
    assert read_events(tmp_path / "none") == []


def test_a_job_failed_until_it_ended(place):
    handler = recorder(place)
    handler.emit(job_info())
    handler.emit(event("job_error", jobid=3))
    assert [job["state"] for job in history(read_events(place / ".jobs.jsonl")).jobs.values()] == [
        "failed"
    ]
    handler.emit(job_info())
    handler.emit(event("job_finished", job_id=3))
    past = history(read_events(place / ".jobs.jsonl"))
    assert [job["state"] for job in past.jobs.values()] == ["ended"]
    handler.close()


def test_kept_work_is_found_by_the_checksum_of_what_it_holds(tmp_path):
    import hashlib

    (tmp_path / "train").mkdir()
    (tmp_path / "train/history.csv").write_text("epoch\n1\n")
    checksum = hashlib.sha256(b"epoch\n1\n").hexdigest()
    for name, sha256 in (("train-other", "0" * 64), ("train-this", checksum)):
        (tmp_path / ".finished" / name).mkdir(parents=True)
        manifest = {"key": name, "sha256": {"history.csv": sha256}}
        (tmp_path / ".finished" / name / record.MANIFEST).write_text(json.dumps(manifest))
    output = ["train/weights.pt", "train/history.csv"]
    assert kept_as(tmp_path, output) == "train-this"
    (tmp_path / "train/history.csv").write_text("epoch\n2\n")
    assert kept_as(tmp_path, output) is None


def test_kept_predictions_are_known_by_the_first(tmp_path):
    import hashlib

    (tmp_path / "infer").mkdir()
    (tmp_path / "infer/.snakemake_timestamp").touch()
    (tmp_path / "infer/p1.nii.gz").write_bytes(b"label")
    (tmp_path / ".finished/infer-a").mkdir(parents=True)
    sha256 = {"p1.nii.gz": hashlib.sha256(b"label").hexdigest()}
    manifest = tmp_path / ".finished/infer-a" / record.MANIFEST
    manifest.write_text(json.dumps({"key": "infer-a", "sha256": sha256}))
    assert kept_as(tmp_path, ["infer"]) == "infer-a"


def test_a_target_is_no_job(place):
    recorder(place).emit(job_info(shellcmd=None))
    assert read_events(place / ".jobs.jsonl") == []


def test_wildcards_of_any_type_are_text(place):
    handler = recorder(place)
    handler.emit(job_info(wildcards={"fold": SimpleNamespace(), "dataset": 1}))
    assert read_events(place / ".jobs.jsonl")[1]["wildcards"]["dataset"] == "1"
    handler.close()


def test_a_split_is_on_record_with_the_folds_that_it_left(place, tmp_path):
    """It deals new subjects into the file that it reads: what it had read is no longer there."""
    folds = tmp_path / "s.splits.tsv"
    folds.write_text("subject\tfold\n")
    handler = recorder(place)
    handler.emit(job_info(rule_name="preprocess_split", input=[str(folds)]))
    folds.write_text("subject\tfold\np1\t0\n")
    handler.emit(event("job_finished", job_id=3))
    handler.close()
    [job] = history(read_events(place / ".jobs.jsonl")).ended
    assert job["files"] == {str(folds): [folds.stat().st_size, int(folds.stat().st_mtime)]}


def test_an_audit_leaves_word_whose_the_files_are(place, tmp_path):
    case = Case("p1", "s1", (tmp_path / "p1.nii",), tmp_path / "p1_l.nii")
    table = place / "download/a/cases.tsv"
    table.parent.mkdir(parents=True)
    write_cases(table, [case], ("image",))
    handler = recorder(place)
    handler.emit(
        job_info(rule_name="download_audit", output=["results/s/download/a/cases.tsv"], input=[])
    )
    handler.emit(event("job_finished", job_id=3))
    handler.close()
    table.unlink()
    assert history(read_events(place / ".jobs.jsonl")).owners == {
        str(tmp_path / "p1.nii"): ("a", "p1", "image"),
        str(tmp_path / "p1_l.nii"): ("a", "p1", "label"),
    }
