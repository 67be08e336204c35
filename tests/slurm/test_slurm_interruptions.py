"""A training that SLURM disturbs goes on from its checkpoint and ends with an undisturbed one's bytes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders import tiny_study, write_cohort
from user_profile import edit_profile
from workspace import Workspace

# Trainings long enough to be met in their midst, on a machine of any speed.
SLOW = """
def _slowly(step):
    def slow(self, number, batch):
        time.sleep(0.25)
        return step(self, number, batch)

    return slow


Trainer.step = _slowly(Trainer.step)
"""
EPOCHS, STEPS = 10, 30
DISTURBED = ("asked_by_term", "asked_by_usr1", "requeued", "out_of_time")


def weights(workspace: Workspace, model: str) -> Path:
    return workspace.results / "train" / model / "fold-0" / "seed-0" / "weights.pt"


def jobs_of(slurm_jobs, model: str) -> list[dict[str, str]]:
    return [
        job for job in slurm_jobs() if job.get("Comment") == f"rule_train_fit_wildcards_{model}_0_0"
    ]


def disturb(job: dict[str, str], how: str) -> None:
    number = job["JobId"]
    commands = {
        "asked_by_term": ["scancel", "--signal=TERM", number],
        "asked_by_usr1": ["scancel", "--signal=USR1", number],
        "requeued": ["scontrol", "requeue", number],
        "out_of_time": ["scontrol", "update", f"jobid={number}", "timelimit=1"],
    }
    subprocess.run(commands[how], check=True)


@pytest.fixture(scope="module")
def disturbed(slurm, slurm_jobs, tmp_path_factory):
    """Equal models, all but one disturbed in the midst of their training; the workspace and the log."""
    folder = tmp_path_factory.mktemp("interruptions")
    study = tiny_study(write_cohort(folder / "data", 4, moved=False), moved=False)
    study["splits"]["run_folds"] = [0]
    model = {**study["models"]["flat"], "epochs": EPOCHS, "steps_per_epoch": STEPS}
    study["models"] = dict.fromkeys(("undisturbed", *DISTURBED), model)
    workspace = Workspace(folder, study)
    workspace.edit("train/fit.py", SLOW)
    edit_profile(workspace)
    profile = workspace.folder / "profiles" / "slurm" / "config.yaml"
    profile.write_text(profile.read_text().replace("jobs: 4", "jobs: 8"))
    targets = [
        str(weights(workspace, name).relative_to(workspace.folder)) for name in study["models"]
    ]
    log = workspace.folder / "run.log"
    with log.open("wb") as file:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", *targets, "--profile", "slurm"),
                # Equal models would take each other's finished work.
                *("--cores", "8", "--nocolor", "--config", "study=tiny", "keep_finished_gb=0"),
            ],
            cwd=workspace.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    waiting = set(DISTURBED)
    while run.poll() is None:
        for name in sorted(waiting):
            # Its first epoch is over, so that it is at work.
            if weights(workspace, name).with_name("checkpoint").joinpath("history.csv").exists():
                disturb(jobs_of(slurm_jobs, name)[0], name)
                waiting.remove(name)
        time.sleep(0.5)
    text = log.read_text()
    assert run.returncode == 0, text[-6000:]
    assert not waiting
    return workspace, text


@pytest.mark.parametrize("how", DISTURBED)
def test_the_weights_are_those_of_an_undisturbed_training(disturbed, how):
    workspace, _ = disturbed
    expected = weights(workspace, "undisturbed").read_bytes()
    assert weights(workspace, how).read_bytes() == expected


@pytest.mark.parametrize("how", DISTURBED)
def test_it_went_on_from_its_checkpoint(disturbed, how):
    workspace, _ = disturbed
    log = workspace.results / "logs" / "train" / f"{how}-fold-0-seed-0.log"
    assert "going on from the checkpoint after step" in log.read_text()


def test_an_undisturbed_training_started_at_its_beginning(disturbed):
    workspace, _ = disturbed
    log = workspace.results / "logs" / "train" / "undisturbed-fold-0-seed-0.log"
    assert "going on from" not in log.read_text()


def test_slurm_ended_them_as_it_was_told_to(disturbed, slurm_jobs):
    states = {how: [job["JobState"] for job in jobs_of(slurm_jobs, how)] for how in DISTURBED}
    # The profile's warning comes two minutes before the limit, thus at once where one minute is
    # left: a training fails that heeds it before the minute is over, one later is out of time.
    first, *later = states.pop("out_of_time")
    assert first in ("FAILED", "TIMEOUT")
    assert later == ["COMPLETED"]
    assert states == {
        "asked_by_term": ["FAILED", "COMPLETED"],
        "asked_by_usr1": ["FAILED", "COMPLETED"],
        "requeued": ["COMPLETED"],
    }
    (requeued,) = jobs_of(slurm_jobs, "requeued")
    assert int(requeued["Restarts"]) == 1


def test_the_next_attempt_asks_for_more(disturbed, slurm_jobs):
    first, second = jobs_of(slurm_jobs, "asked_by_term")
    assert "mem=1500M" in first["TRES"]
    assert "mem=3000M" in second["TRES"]
    assert (first["TimeLimit"], second["TimeLimit"]) == ("00:30:00", "01:00:00")
