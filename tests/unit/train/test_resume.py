"""A training that is stopped at any moment ends with the weights of one that was not."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from toy_cohort import SHAPE, write_case

from segstudy.cli import main
from segstudy.train import fit as module
from segstudy.train.checkpoint import Checkpoint
from segstudy.train.distributed import STOPPING, stop_requests

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 6,
    "steps_per_epoch": 4,
    "validate_every_epochs": 2,
    "dropout": 0.2,
}
# A child that writes its checkpoint after every step.
CHILD = (
    "import sys; from segstudy.train import fit; fit.CHECKPOINT_EVERY_S = 0; "
    "from segstudy.cli import main; sys.exit(main(sys.argv[1:]))"
)


pytestmark = pytest.mark.usefixtures("own_torch")


def outputs(folder):
    return [(folder / name).read_bytes() for name in ("weights.pt", "best.pt")]


def losses(folder):
    return [line.split(",")[:7] for line in (folder / "history.csv").read_text().splitlines()]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bits(cohort, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(cohort.words(whole, MODEL)) == 0
    command = [sys.executable, "-c", CHILD, *cohort.words(killed, MODEL)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while child.poll() is None and not (killed / "checkpoint" / "checkpoint.pt").exists():
        time.sleep(0.005)
    time.sleep(0.05)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert [path.name for path in killed.iterdir()] == ["checkpoint"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "going on from the checkpoint after step" in done.stderr
    assert outputs(killed) == outputs(whole)
    assert losses(killed) == losses(whole)
    assert not (killed / "checkpoint").exists()


@pytest.mark.parametrize("number", list(STOPPING))
@pytest.mark.parametrize("stop_after", [1, 4, 10])
@pytest.mark.parametrize("further", [{}, {"ema": 0.9, "normalisation": "batch"}], ids=str)
def test_asked_to_stop_it_saves_its_state_and_says_so(
    cohort, tmp_path, monkeypatch, caplog, number, stop_after, further
):
    caplog.set_level(logging.INFO)
    model = MODEL | further
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(cohort.words(whole, model)) == 0
    original = module.Trainer.step

    def step(self, index, batch):
        if index + 1 == stop_after:
            os.kill(os.getpid(), number)
        return original(self, index, batch)

    monkeypatch.setattr(module.Trainer, "step", step)
    with pytest.raises(SystemExit) as left:
        main(cohort.words(stopped, model))
    assert left.value.code == 128 + number
    assert f"stopped by {number.name} after step {stop_after} of 24" in caplog.text
    # Nothing that a rule declares: Snakemake would call it incomplete.
    assert [path.name for path in stopped.iterdir()] == ["checkpoint"]
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    assert signal.getsignal(number) == usual
    monkeypatch.setattr(module.Trainer, "step", original)
    assert main(cohort.words(stopped, model)) == 0
    assert f"going on from the checkpoint after step {stop_after}" in caplog.text
    assert outputs(stopped) == outputs(whole)


@pytest.mark.parametrize("number", STOPPING)
def test_asked_to_stop_while_it_writes_its_last_it_ends_with_all(
    cohort, tmp_path, monkeypatch, number
):
    original = module.save_weights

    def asked(*arguments):
        os.kill(os.getpid(), number)
        original(*arguments)

    monkeypatch.setattr(module, "save_weights", asked)
    assert main(cohort.words(tmp_path / "out", MODEL)) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(module.FILES)
    assert len(losses(tmp_path / "out")) == 1 + MODEL["epochs"]


def test_under_nohup_a_closed_terminal_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def stopped_half_way(cohort, output, monkeypatch):
    original = module.Trainer.step

    def step(self, index, batch):
        if index == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, index, batch)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(module.Trainer, "step", step)
        main(cohort.words(output, MODEL))


@pytest.mark.parametrize("change", ["settings", "data", "code"])
def test_a_checkpoint_of_something_else_is_not_used(cohort, tmp_path, monkeypatch, caplog, change):
    output = tmp_path / "out"
    stopped_half_way(cohort, output, monkeypatch)
    model = MODEL
    if change == "settings":
        model = MODEL | {"batch_size": 3}
    elif change == "data":
        write_case(cohort.folder, 3, SHAPE, look=99)
    else:
        monkeypatch.setattr("segstudy.jobs.code.digest", lambda *modules: "another")
    with caplog.at_level(logging.INFO):
        assert main(cohort.words(output, model)) == 0
    assert "training starts anew" in caplog.text
    assert "going on" not in caplog.text
    fresh = tmp_path / "fresh"
    assert main(cohort.words(fresh, model)) == 0
    assert outputs(output) == outputs(fresh)


@pytest.mark.parametrize("keep", [0, 5000])
def test_a_damaged_checkpoint_is_not_used(cohort, tmp_path, monkeypatch, caplog, keep):
    output = tmp_path / "out"
    stopped_half_way(cohort, output, monkeypatch)
    checkpoint = output / "checkpoint" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with caplog.at_level(logging.INFO):
        assert main(cohort.words(output, MODEL)) == 0
    assert "checkpoint is damaged" in caplog.text


def test_a_checkpoint_of_an_earlier_segstudy_is_said_to_be_of_other_code(tmp_path, caplog):
    """As 0.1.0 wrote it: each part by its own name, the moving average without its count."""
    network = torch.nn.Linear(2, 1)
    state = {"digest": "that of other code", "progress": {"step": 7}, "average": {}}
    state |= {"network": network.state_dict(), "optimizer": {}, "scaler": {}}
    torch.save(state, tmp_path / "checkpoint.pt")
    before = network.weight.clone()
    with caplog.at_level(logging.INFO):
        progress = Checkpoint(tmp_path, "ours").read({"network": network}, torch.device("cpu"))
    assert "checkpoint of other settings, data or code: not used" in caplog.text
    assert progress.step == 0 and torch.equal(network.weight, before)
