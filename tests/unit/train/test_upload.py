"""Copies of batches to a GPU: in order, ahead, on a stream of their own that is waited for before use."""

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import pretended_gpu
from pretended_gpu import GPU, OnGpu
from segstudy.errors import InputError
from segstudy.train.sampling import Batch, Sampler, TrainingCase, worker_failures
from segstudy.train.upload import on_device

TESTS = Path(__file__).parents[2]


def batches(count, fault_at=None):
    for number in range(count):
        if number == fault_at:
            raise InputError("planted")
        images = torch.full((2, 1, 4, 4), float(number))
        labels = torch.full((2, 4, 4), number, dtype=torch.uint8)
        yield Batch(images, labels, torch.ones(2, 2), torch.zeros(2, 2), ("a", "b"))


def test_a_cpu_is_given_the_batches_themselves():
    given = list(batches(3))
    assert list(map(id, on_device((batch for batch in given), torch.device("cpu")))) == list(
        map(id, given)
    )


def test_a_gpu_is_given_them_in_order_and_no_host_waits():
    with pretended_gpu.pretended_gpu() as seen:
        found = []
        for batch in on_device(batches(4), torch.device("cuda")):
            assert isinstance(batch.images, OnGpu)
            found.append((batch.images + batch.labels[:, None], batch.cases))
        assert seen.waits.total() == 0, seen.waits
    assert [int(summed.inner.max()) for summed, _ in found] == [0, 2, 4, 6]
    assert all(cases == ("a", "b") for _, cases in found)


def test_a_copy_that_is_not_waited_for_is_seen(monkeypatch):
    """That the pretended GPU would tell a race."""
    monkeypatch.setattr(pretended_gpu.Stream, "wait_event", lambda stream, event: None)
    with pretended_gpu.pretended_gpu():
        batch = next(on_device(batches(2), torch.device("cuda")))
        with pytest.raises(RuntimeError, match="copy has not been waited for"):
            batch.images + 1


def test_memory_of_a_batch_is_kept_until_the_step_is_through_with_it(monkeypatch):
    """Else torch gives it to the next copy, which another stream writes while the step still reads."""
    kept = []
    monkeypatch.setattr(OnGpu, "record_stream", lambda tensor, on: kept.append((id(tensor), on)))
    with pretended_gpu.pretended_gpu():
        for batch in on_device(batches(3), torch.device("cuda")):
            expected = [
                (id(patches), pretended_gpu.TRAINING) for patches in (batch.images, batch.labels)
            ]
            assert kept == expected
            kept.clear()


def test_what_cannot_be_cut_is_told_at_its_step():
    with pretended_gpu.pretended_gpu():
        copied = on_device(batches(4, fault_at=2), torch.device("cuda"))
        assert [int(next(copied).images.inner.max()) for _ in range(2)] == [0, 1]
        with pytest.raises(InputError, match="planted"):
            next(copied)


# --- processes that cut patches -------------------------------------------------------------------


def cut_by_processes():
    """Batches that two processes cut, of one case."""
    image, label = np.ones((1, 9, 9, 9), np.float32), np.zeros((9, 9, 9), np.uint8)
    cases = [TrainingCase("toy", "case", image, label, {}, (1.0, 1.0, 1.0))]
    return Sampler(cases, (4, 4, 4), (6, 6, 6), (), 2, 0.0, 0).batches(0, 6, workers=2)


@pytest.mark.parametrize("taken", [1, 6])
def test_processes_end_in_order_with_the_batches_however_many_are_taken(taken):
    with pretended_gpu.pretended_gpu(), closing(on_device(cut_by_processes(), GPU)) as copied:
        for _ in range(taken):
            next(copied)
        started = multiprocessing.active_children()
    assert len(started) == 2
    # A machine that is too busy has them killed; forked by another thread they end with 1.
    assert {process.exitcode for process in started} <= {0, -signal.SIGKILL}


def test_an_error_of_the_training_ends_the_processes_though_it_is_kept():
    """It refers to all that was alive when it was raised, and so to torch's loader."""
    with (
        pytest.raises(ZeroDivisionError) as kept,
        pretended_gpu.pretended_gpu(),
        closing(on_device(cut_by_processes(), GPU)) as copied,
    ):
        for _ in copied:
            raise ZeroDivisionError
    assert kept.value.__traceback__
    assert not multiprocessing.active_children()


KILLED = """
import os, signal, sys
from pretended_gpu import pretended_gpu
from segstudy.cli import main
from segstudy.train import sampling

cut = sampling.Sampler.batch

def batch(sampler, step):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return cut(sampler, step)

sampling.Sampler.batch = batch
with pretended_gpu():
    sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_process_ends_a_training_on_a_gpu_in_a_line(cohort, tmp_path):
    model = {"network": "unet", "channels": [4, 8], "patch_size": [16, 16, 8], "epochs": 1}
    words = cohort.words(tmp_path / "out", model | {"steps_per_epoch": 10, "device": "cuda"})
    words[words.index("--threads") + 1] = "3"  # workers: auto, so two of them
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *words],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,  # it once waited for ever for the process that was left
    )
    assert ended.returncode == 1
    assert "segstudy: error: one of 2 processes that cut patches has ended" in ended.stderr
    assert "memory_mb" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        ConnectionResetError(104, "Connection reset by peer"),
        ConnectionRefusedError(111, "Connection refused"),
        BrokenPipeError(32, "Broken pipe"),
        EOFError(),
    ],
)
def test_however_a_killed_process_shows_it_is_told(error):
    told = "one of 3 processes that cut patches has ended .[^)]"
    with pytest.raises(InputError, match=told), worker_failures(3):
        raise error
    with pytest.raises(type(error)), worker_failures(0):
        raise error


def test_other_errors_stay_what_they_are():
    for error in (RuntimeError("size mismatch"), FileNotFoundError(2, "No such file")):
        with pytest.raises(type(error)), worker_failures(3):
            raise error
