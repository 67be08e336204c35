"""How far a run is, from files alone."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from segstudy.cli import main
from segstudy.follow.sentences import reason_in
from segstudy.follow.status import DEAD, ENDED, GOING, STOPPED, status, text

NOW = 1_000_000.0
TRAIN = {
    "model": {"network": "unet", "epochs": 100},
    "structures": ["heart"],
    "channels": ["image"],
}
TRAIN |= {"modality": "CT"}


def start(number, rule="metrics_measure", **more):
    told = {
        "event": "start",
        "time": NOW - 60,
        "id": number,
        "rule": rule,
        "output": [f"o{number}"],
    }
    told |= {"log": [f"logs/{number}.log"], "benchmark": "", "gpus": 0, "inputs": [], "files": {}}
    return {**told, "wildcards": {"fold": str(number)}, "options": {"": ""}, **more}


def end(number, seconds=10):
    return {"event": "end", "time": NOW - 30, "id": number, "seconds": seconds, "bytes": 1}


def run(host="elsewhere", process=1):
    told = {"event": "run", "time": NOW - 100, "host": host, "process": process}
    return {**told, "command": "snakemake --cores 2"}


@pytest.fixture
def look(tmp_path):
    """Write a record, last touched so many seconds ago; return the status that it tells."""

    def write(*events, ago=1.0):
        record = tmp_path / ".jobs.jsonl"
        plan = {"event": "plan", "time": NOW - 100, "jobs": {"metrics_measure": 4, "total": 4}}
        progress = sum(event["event"] == "end" for event in events)
        lines = [
            plan,
            *events,
            {"event": "progress", "time": NOW - 100, "done": progress, "total": 4},
        ]
        lines = (
            lines if events and events[0]["event"] != "run" else [events[0], *lines[:1], *lines[2:]]
        )
        if lines[0]["event"] != "run":
            lines.insert(0, run())
        record.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(record, (NOW - ago, NOW - ago))
        (tmp_path / "logs").mkdir(exist_ok=True)
        return status("tiny", tmp_path, record, NOW)

    return write


def test_nothing_has_run(tmp_path):
    assert status("tiny", tmp_path, tmp_path / "none", NOW) is None


def test_a_run_under_way(look, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/2.log").write_text("10:00 segstudy metrics\n")
    found = look(start(1), end(1), start(2), start(3))
    assert (found.state, found.done, found.total) == (GOING, 1, 4)
    assert [(job.name, job.waits) for job in found.running] == [
        ("metrics_measure fold=2", False),
        ("metrics_measure fold=3", True),
    ]
    said = text(found, NOW)
    assert said.startswith("tiny: 1 of 4 jobs, 1 running, 1 waiting to begin, about ")


def test_what_nothing_tells_is_not_said(look):
    found = look(start(1, "train_fit"))
    assert found.left_s is None
    assert "left" not in text(found, NOW)


def test_a_training_says_its_epoch_and_dice(look, tmp_path):
    folder = tmp_path / "train/flat/checkpoint"
    folder.mkdir(parents=True)
    rows = [f"{n},{0.5 if n == 40 else ''},3600\n" for n in range(1, 42)]
    (folder / "history.csv").write_text("epoch,validation_dice_mean,seconds\n" + "".join(rows))
    options = {"": "train", "--settings": json.dumps(TRAIN)}
    training = start(2, "train_fit", output=["train/flat/weights.pt"], options=options)
    found = look(start(1), end(1), training)
    [job] = found.running
    assert (job.epoch, job.epochs, job.dice) == (41, 100, 0.5)
    # 59 epochs of an hour are left, of which one after another at least so many.
    assert found.left_s >= 59 * 3600
    assert "epoch 41 of 100, Dice 0.50" in text(found, NOW)


def test_what_failed_says_why_and_where(look, tmp_path):
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/2.log"
    log.write_text("10:00 segstudy metrics\nsegstudy: error: p3: no such case\n10:01 ended\n")
    found = look(
        start(2), {"event": "fail", "time": NOW - 9, "id": 2}, {"event": "ended", "time": NOW}
    )
    assert found.state == STOPPED
    [job] = found.failed
    assert (job.why, job.log) == ("p3: no such case", str(log))
    assert "go on with: snakemake --cores 2" in text(found, NOW)


def test_a_job_that_failed_and_was_tried_again_did_not_fail(look):
    found = look(start(2), {"event": "fail", "time": NOW - 9, "id": 2}, start(2), end(2))
    assert (found.failed, found.running) == ((), ())


def test_a_run_whose_machine_went_silent_is_dead(look):
    found = look(start(2), ago=10_000.0)
    assert found.state == DEAD
    assert found.left_s is None
    assert not found.running[0].works
    assert "the run is dead" in text(found, NOW)
    assert "cut off" in text(found, NOW)


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_process_of_this_machine_is_dead_at_once(look, reaped):
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and waits to be reaped
    if reaped:
        process.wait()
    # A run that began later than any process: its number was not given to another one since.
    found = look({**run(platform.node(), process.pid), "time": 1e11}, start(2))
    assert found.state == DEAD
    process.wait()


def test_a_number_that_another_process_has_got_is_not_the_run(look):
    # This process began long after the run that the record tells of.
    assert look(run(platform.node(), os.getpid()), start(2)).state == DEAD


def test_a_cluster_keeps_jobs_whose_run_is_dead(look, tmp_path):
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/2.log"
    log.write_text("at work\n")
    os.utime(log, (NOW - 5, NOW - 5))
    found = look(start(2), ago=10_000.0)
    assert "still at work without its run" in text(found, NOW)
    # What was written last before the run ended tells of no work after it.
    os.utime(log, (NOW - 200, NOW - 200))
    assert "cut off" in text(look(start(2), ago=210.0), NOW)


def test_all_is_done(look):
    events = [event for n in range(4) for event in (start(n), end(n))]
    found = look(*events, {"event": "ended", "time": NOW})
    assert found.state == ENDED
    assert "all that was asked for is done" in text(found, NOW)


@pytest.mark.parametrize(
    ("target", "said"),
    [("all", "all is done, "), ("train", "all that was asked for (train) is done, ")],
)
def test_what_was_asked_for_is_done_and_no_more(look, target, said):
    plan = {
        "event": "plan",
        "time": NOW - 99,
        "jobs": {target: 1, "metrics_measure": 3, "total": 4},
    }
    events = [event for n in range(4) for event in (start(n), end(n))]
    found = look(plan, *events, {"event": "ended", "time": NOW})
    assert f"\n  {said}" in text(found, NOW)


def test_a_target_that_fell_away_after_the_audit_is_done(look):
    """`segstudy run STUDY download` ends with the audit, and its own rule has nothing left to do."""
    plan = {
        "event": "plan",
        "time": NOW - 99,
        "jobs": {"download": 1, "download_audit": 3, "total": 4},
    }
    events = [event for n in range(3) for event in (start(n), end(n))]
    found = look(plan, *events, {"event": "ended", "time": NOW})
    assert found.state == ENDED
    stopped = look(plan, *events[:-1], {"event": "ended", "time": NOW})
    assert stopped.state != ENDED


@pytest.mark.parametrize("left", [True, False])
def test_a_job_that_was_done_when_its_run_was_stopped_did_not_fail(look, tmp_path, left):
    """Unless its files are gone, as of a job that Snakemake takes for failed; then its log does not stand for a reason."""
    (tmp_path / "train").mkdir()
    if left:
        (tmp_path / "train/weights.pt").touch()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/2.log").write_text("10:00:00 segstudy train\n10:09:00 done after 37 s\n")
    stopped = [{"event": "fail", "time": NOW - 9, "id": 2}, {"event": "ended", "time": NOW}]
    found = look(start(1), end(1), start(2, output=["train/weights.pt"]), *stopped)
    said = text(found, NOW)
    if left:
        assert (found.done, found.failed, found.late) == (2, (), 1)
        assert "failed" not in said and "done, which the run took no note of: 1" in said
    else:
        assert (found.done, found.late, len(found.failed)) == (1, 0, 1)
        assert "it was done by its log, but what ran it was stopped before it took note" in said


@pytest.mark.parametrize("code", [0, 1])
def test_a_process_that_is_done_ends_well_whatever_stops_the_run(code):
    """As at the end of Python, when a large library is taken down; one that has failed ends as it is told."""
    words = ["study", "--schema"] if code == 0 else ["study", "none.yaml"]
    told = (
        "import atexit, os, runpy, signal, sys\n"
        "for one in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):\n"
        "    atexit.register(os.kill, os.getpid(), one)\n"
        f"sys.argv = ['segstudy', *{words}]\n"
        "runpy.run_module('segstudy', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True)
    assert done.returncode == (-signal.SIGTERM if code else 0)


@pytest.mark.parametrize(
    "log_ends", ["10:09:00 done after 37 s; python 3.11\n", "10:09:00 epoch 4\n"]
)
def test_a_training_that_ended_after_its_run_was_killed_is_done(look, tmp_path, log_ends):
    folder = tmp_path / "train/flat"
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("epoch,seconds\n" + "".join(f"{n},9\n" for n in range(4)))
    (folder / "weights.pt").touch()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/2.log").write_text("10:00:00 segstudy train\n" + log_ends)
    output = ["train/flat/weights.pt", "train/flat/history.csv"]
    options = {"": "train", "--settings": json.dumps(TRAIN)}
    found = look(start(1), end(1), start(2, "train_fit", output=output, options=options), ago=9e3)
    said = text(found, NOW)
    assert found.state == DEAD
    if "done" in log_ends:
        assert (found.done, found.running, found.late) == (2, (), 1)
        assert "done, which the run took no note of: 1" in said
    else:
        assert (found.done, found.late) == (1, 0)
        # Its checkpoint is gone, but its history tells.
        assert "train_fit fold=2, epoch 4 of 100" in said


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (None, "it left no log"),
        ("10:00 segstudy train\n", "killed from outside"),
        (
            "10:00 segstudy train\nTraceback\nValueError: seven\n",
            "its last words: ValueError: seven",
        ),
    ],
)
def test_why_a_job_failed_is_read_from_its_log(tmp_path, log, said):
    if log is not None:
        (tmp_path / "x.log").write_text(log)
    assert said in reason_in(tmp_path / "x.log")


def test_a_job_whose_log_had_no_room_says_so(tmp_path, monkeypatch):
    full = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    (tmp_path / "x.log").write_text("10:00 segstudy train\n")
    for name in ("x.log", "none/y.log"):
        assert "no room is left on the disk" in reason_in(tmp_path / name)


def test_the_command_says_what_it_does_not_know(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text("datasets: {}\n")
    assert main(["status", "tiny.yaml"]) == 0
    assert capsys.readouterr().out == "tiny: nothing has run yet below results/tiny\n"
    assert main(["status", "tiny.yaml", "--watch"]) == 0
    assert "nothing has run yet" in capsys.readouterr().out
    (tmp_path / "results/tiny/train").mkdir(parents=True)
    assert main(["status", "tiny.yaml", "--watch"]) == 0
    assert "no record of a run" in capsys.readouterr().out
    assert main(["status", "none.yaml"]) == 1
    assert "no such study file" in capsys.readouterr().err
    assert main(["status", "tiny.yaml", "--watch", "0"]) == 1
