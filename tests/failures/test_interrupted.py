"""Ctrl-C in the middle of a training, then the same command once more."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

WEIGHTS = "results/tiny/train/flat/fold-0/seed-0/weights.pt"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("interrupted")
    study = tiny_study(write_cohort(folder / "data", 4, moved=False), moved=False)
    study["models"] = {"flat": study["models"]["flat"] | {"epochs": 120}}
    return Workspace(folder, study)


def interrupt(workspace: Workspace, words: list[str], when: str) -> tuple[int, str]:
    """Run Snakemake, send Ctrl-C to all of it, as a terminal does, once its log shows a line.

    Returns the exit code and the log.
    """
    log = workspace.folder / "interrupted.log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--nocolor", "--cores", "1", *words],
            cwd=workspace.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A job in the background is born deaf to Ctrl-C, one of a terminal is not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    while run.poll() is None and not re.search(when, log.read_text()):
        time.sleep(0.02)
    assert run.poll() is None, log.read_text()
    os.killpg(run.pid, signal.SIGINT)
    return run.wait(), log.read_text()


def test_ctrl_c_saves_a_training_and_the_same_command_goes_on(workspace):
    command = [WEIGHTS, "--config", "study=tiny"]
    code, text = interrupt(workspace, command, r"epoch 3/120")
    assert code != 0
    assert re.search(r"stopped by SIGINT after step \d+ of 240; state saved", text)
    assert "Traceback" not in text
    assert left(workspace) == ["checkpoint"]
    # Also with a profile that does not say `rerun-incomplete`.
    again = workspace.run("--workflow-profile", "none", *command)
    assert re.search(r"going on from the checkpoint after step \d+", again.text)
    assert (workspace.folder / WEIGHTS).exists()


def left(workspace: Workspace) -> list[str]:
    return [path.name for path in (workspace.folder / WEIGHTS).parent.iterdir()]


def test_a_killed_training_leaves_nothing_that_snakemake_calls_incomplete(workspace):
    shutil.rmtree((workspace.folder / WEIGHTS).parent, ignore_errors=True)
    command = [WEIGHTS, "--config", "study=tiny", "keep_finished_gb=0"]
    log = workspace.folder / "killed.log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--nocolor", "--cores", "1", *command],
            cwd=workspace.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while run.poll() is None and "epoch 3/120" not in log.read_text():
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert left(workspace) == ["checkpoint"]
    workspace.run("--unlock", *command[1:])
    workspace.run("--workflow-profile", "none", *command)
    assert (workspace.folder / WEIGHTS).exists()
