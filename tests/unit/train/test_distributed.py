"""A training in two processes is that of one, and ends as one, whatever happens to either of them."""

import csv
import json
import signal
import subprocess
import sys
import time

import distributed_faults
import numpy as np
import pytest
import torch
from toy_cohort import Cohort, write_cohort

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.networks.weights import load_weights
from segstudy.study import UnetModel
from segstudy.tables import MEASURED
from segstudy.train import distributed
from segstudy.train.distributed import Rank

# An epoch a step, so that the history holds each step's loss.
MODEL = {
    "network": "unet",
    "channels": [4, 8, 8],
    "patch_size": [16, 16, 8],
    "batch_size": 4,
    "epochs": 12,
    "steps_per_epoch": 1,
    "validate_every_epochs": 4,
    "validation_fraction": 0.45,
    "loss": {"batch_dice": True},
    "ema": 0.9,
    "amp": False,
}
FLAT = {
    "network": "unet",
    "dims": 2,
    "channels": [4, 8],
    "planes": ["axial", "sagittal"],
    "patch_size": [16, 16],
    "batch_size": 6,
    "epochs": 12,
    "steps_per_epoch": 1,
    "loss": {"batch_dice": False, "cross_entropy": 0.5, "focal": 0.5},
    "optimizer": {"name": "sgd", "lr": 0.05},
    "workers": 1,
    "amp": False,
}

pytestmark = pytest.mark.usefixtures("own_torch")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("ranks") / "cohort", count=8)


@pytest.fixture(scope="module")
def whole(cohort):
    """A training in two processes that nothing happens to."""
    output = cohort.folder / "whole"
    assert main([*cohort.words(output, MODEL), "--processes", "2"]) == 0
    return output


def history(folder) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]


def numbers(folder) -> np.ndarray:
    return np.array(
        [[float(value) if value else -1.0 for value in row.values()] for row in history(folder)]
    )


def assert_alike(one, two):
    assert numbers(one).shape == (12, 7)
    np.testing.assert_allclose(numbers(two)[:, :4], numbers(one)[:, :4], rtol=1e-4)
    # Of Dice, a voxel or two, in which two classes are as likely.
    np.testing.assert_allclose(numbers(two)[:, 4:], numbers(one)[:, 4:], rtol=0, atol=1e-4)
    for name in ("weights.pt", "best.pt"):
        first, second = (load_weights(folder / name).network.state_dict() for folder in (one, two))
        for key, values in first.items():
            torch.testing.assert_close(second[key], values, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(cohort, whole, tmp_path):
    assert main(cohort.words(tmp_path, MODEL)) == 0
    assert_alike(tmp_path, whole)


@pytest.mark.slow
def test_slices_cut_by_processes_of_their_own_too(cohort, tmp_path):
    for count in ("1", "2"):
        assert main([*cohort.words(tmp_path / count, FLAT), "--processes", count]) == 0
    assert_alike(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    [("asked_alone", 128 + signal.SIGTERM), ("asked_by_the_launcher", 128 + signal.SIGUSR1)],
)
def test_asked_to_stop_all_do_and_go_on_to_the_same_bits(cohort, whole, tmp_path, fault, code):
    words = cohort.words(tmp_path, MODEL)
    with pytest.raises(SystemExit) as left:
        distributed.launch(2, distributed_faults.train, words, fault)
    assert left.value.code == code
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    done = torch.load(tmp_path / "checkpoint" / "checkpoint.pt")["progress"]["step"]
    assert distributed_faults.STEP < done < MODEL["epochs"]
    assert not (tmp_path / "weights.pt").exists()
    assert main([*words, "--processes", "2"]) == 0
    assert history(tmp_path) == history(whole)
    for name in ("weights.pt", "best.pt"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("killed", InputError, r"process 2 of 2 of the training was killed by SIGKILL.*memory_mb"),
        (
            "nan",
            InputError,
            r"epoch 6, step 1 of 1: the loss is nan; cases in the batch: (toy/.*){4}",
        ),
        (
            "broken",
            RuntimeError,
            r"(?s)in one of .*distributed_faults.py.*ZeroDivisionError: a fault of ours",
        ),
        ("no_room", OSError, r"No space left on device: 'history.csv'"),
    ],
)
def test_what_one_of_them_ends_of_ends_all(cohort, tmp_path, fault, error, message):
    with pytest.raises(error, match=message):
        distributed.launch(2, distributed_faults.train, cohort.words(tmp_path, MODEL), fault)
    assert not (tmp_path / "weights.pt").exists()
    assert len(history(tmp_path / "checkpoint")) == distributed_faults.STEP


@pytest.mark.slow
def test_they_do_not_outlive_the_command(cohort, tmp_path):
    words = [*cohort.words(tmp_path, MODEL | {"epochs": 100_000}), "--processes", "2"]
    command = subprocess.Popen(
        [sys.executable, "-m", "segstudy", *words], stderr=subprocess.DEVNULL
    )
    while command.poll() is None and not (tmp_path / "checkpoint" / "history.csv").exists():
        time.sleep(0.1)
    with open(f"/proc/{command.pid}/task/{command.pid}/children") as file:
        children = [int(number) for number in file.read().split()]
    command.kill()
    command.wait()
    assert len(children) >= 2
    while any(map(_runs, children)):  # one that outlives it would keep this test from ending
        time.sleep(0.1)


def _runs(number: int) -> bool:
    """Whether a process is there, and not only its entry in the table."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's files in memory")
def test_the_cohort_is_held_once_for_all(tmp_path):
    folder = write_cohort(tmp_path, count=6, shape=(128, 128, 96)).folder
    told = {}
    for shares in (True, False):
        distributed.launch(2, distributed_faults.hold, folder, shares)
        told[shares] = [json.loads((folder / f"rank-{n}.json").read_text()) for n in range(2)]
    shared, apart = told[True], told[False]
    for one, other in zip(shared, apart, strict=True):
        assert one["digests"] == other["digests"] == shared[0]["digests"]
        assert other["grown"] > 0.9 * other["bytes"]
        assert one["grown"] < 0.2 * one["bytes"]
    assert len(shared[0]["files"]) == 2  # each rank has read a part
    assert shared[0]["files"] == shared[1]["files"]


@pytest.mark.slow
def test_to_the_bits_of_ranks_that_hold_a_cohort_each(cohort, whole, tmp_path):
    distributed.launch(2, distributed_faults.train, cohort.words(tmp_path, MODEL), "each_holds_all")
    for name in ("weights.pt", "best.pt"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_on_pretended_gpus_too(cohort, whole, tmp_path):
    """No device is mixed, and each step has the loss that it has on the CPU."""
    words = [*cohort.words(tmp_path, MODEL), "--device", "cuda"]
    distributed.launch(2, distributed_faults.train_on_a_pretended_gpu, words)
    assert json.loads((tmp_path / "settings.json").read_text())["device"] == "pretended"
    np.testing.assert_allclose(numbers(tmp_path)[:, :4], numbers(whole)[:, :4], rtol=1e-3)


# --- in this process ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("further", "words", "message"),
    [
        ({}, ["--processes", "3"], "they do not share a batch of 4 equally"),
        ({}, ["--processes", "-1"], "--processes: -1; expected 1 or more"),
        ({"gpus": 3}, [], "gpus: 3 do not share a batch of 4 equally"),
        ({"gpus": 2, "device": "cpu"}, [], "gpus: 2, but device is cpu"),
        ({"gpus": 2, "trainer": "synth"}, [], "gpus: 2, but trainer: synth draws images on one"),
    ],
)
def test_what_cannot_be_shared_is_refused(cohort, tmp_path, capsys, further, words, message):
    assert main([*cohort.words(tmp_path, MODEL | further), *words]) == 1
    assert message in capsys.readouterr().err


def test_how_many_gpus_is_no_reason_to_train_again():
    one, two = (UnetModel(**MODEL, gpus=gpus) for gpus in (1, 2))
    assert one != two
    assert one.learning() == two.learning()


def test_a_gpu_for_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="2 processes, but torch finds 1 CUDA GPUs"):
        Rank(0, 2).device(torch.device("cuda"))
    assert Rank(1, 2).device(torch.device("cpu")) == torch.device("cpu")
    assert Rank().device(torch.device("cuda")) == torch.device("cuda")


def test_batch_normalisation_is_over_the_whole_batch_on_gpus_and_refused_on_the_cpu():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    with pytest.raises(InputError, match="batch normalisation over several processes needs GPUs"):
        Rank(0, 2).normalised(network, torch.device("cpu"))
    assert Rank().normalised(network, torch.device("cpu")) is network
    synchronised = Rank(0, 2).normalised(network, torch.device("cuda"))
    assert isinstance(synchronised[1], torch.nn.SyncBatchNorm)
    assert list(synchronised.state_dict()) == list(network.state_dict())


def test_one_process_asks_nobody():
    alone, values = Rank(), torch.ones(2)
    assert alone.total(values) is values
    assert alone.gathered("a") == ["a"]
    assert alone.spread(len, ["a", "bc", ""]) == [1, 2, 0]
    assert [alone.asked([]), alone.asked([15, 10])] == [0, 15]


def failure(time_s: float, error: Exception | None = None) -> distributed._Failure:
    return distributed._Failure(time_s, f"trace {time_s}", error)


@pytest.mark.parametrize(
    ("codes", "failures", "asked", "ends"),
    [
        ([0, 0], [], [], None),
        ([0, 0], [], [15], None),  # asked in the last step: it was done with
        ([143, 143], [], [15], SystemExit(143)),
        ([138, 138], [], [], SystemExit(138)),  # a rank alone was asked
        ([None, -15], [], [15], SystemExit(143)),  # before it listened
        ([1, -15], [failure(2)], [15], SystemExit(143)),
        ([None, -15], [], [], InputError("process 2 of 2 of the training was killed by SIGTERM")),
        (
            [1, -9],
            [failure(1)],
            [],
            InputError("process 2 of 2 of the training was killed by SIGKILL"),
        ),
        ([1, 1], [failure(2, InputError("b")), failure(1, InputError("a"))], [], InputError("a")),
        ([1, 1], [failure(1), failure(2, InputError("b"))], [], InputError("b")),
        ([1, 1], [failure(2), failure(1)], [], RuntimeError("trace 1")),
        ([1, 143], [failure(2, OSError("full"))], [15], OSError("full")),  # its state is not saved
        ([3, None], [], [], SystemExit(3)),
    ],
)
def test_how_a_training_of_several_ended(codes, failures, asked, ends):
    if ends is None:
        distributed._judge(codes, failures, asked)
        return
    with pytest.raises(type(ends)) as left:
        distributed._judge(codes, failures, asked)
    assert str(ends) in str(left.value)
