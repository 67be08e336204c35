"""GPUs of a machine: which there are, and that each job claims its own."""

import os
import subprocess
import sys

import pytest

from segstudy import gpus

HOLD = """
import sys
from pathlib import Path
from segstudy import gpus
print(*gpus.claim(int(sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with three GPUs, by their device files."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpus, "_claimed", {})
    for number in range(3):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / f"nvidia{number}").touch()
    yield tmp_path
    for lock in gpus._claimed.values():
        if lock >= 0:
            os.close(lock)


def other_job(machine, count=1):
    """Start a process that claims GPUs and holds them; return it and their names."""
    words = [sys.executable, "-c", HOLD, str(machine), str(machine / "dev"), str(count)]
    job = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return job, job.stdout.readline().split()


def test_jobs_take_a_gpu_each_and_a_killed_one_gives_its_own_back(machine, caplog):
    first, names = other_job(machine)
    assert names == ["0"]
    second, names = other_job(machine)
    assert names == ["1"]
    first.kill()
    first.wait()
    third, names = other_job(machine)
    assert names == ["0"]
    assert gpus.claim(1, machine, machine / "dev") == ["2"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    for job in (second, third):
        job.kill()
        job.wait()
    assert not caplog.records


def test_a_claim_is_for_the_whole_process(machine):
    assert gpus.claim(2, machine, machine / "dev") == ["0", "1"]
    assert gpus.claim(1, machine, machine / "dev") == ["0", "1"]
    job, names = other_job(machine)  # which inherits the variable
    assert names in (["0"], ["1"])
    job.kill()
    job.wait()


def test_more_jobs_than_gpus_share_them_with_a_note(machine, caplog):
    job, names = other_job(machine, 3)
    assert names == ["0", "1", "2"]
    assert len(gpus.claim(1, machine, machine / "dev")) == 1
    assert "is shared with another job" in caplog.text
    assert "--resources gpu=3" in caplog.text
    job.kill()
    job.wait()


def test_those_that_come_too_many_are_spread(machine, monkeypatch):
    job, _ = other_job(machine, 3)
    shared = []
    for number in range(6):
        gpus._claimed.clear()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(os, "getpid", lambda number=number: 100 + number)
        shared += gpus.claim(1, machine, machine / "dev")
    assert sorted(shared) == ["0", "0", "1", "1", "2", "2"]
    job.kill()
    job.wait()


def test_a_lock_that_cannot_be_opened_is_taken_for_held(machine, monkeypatch, caplog):
    opened = os.open

    def refuse(file, *arguments):
        if "gpu-0" in str(file):
            raise PermissionError(13, "Permission denied")
        return opened(file, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    assert gpus.claim(2, machine, machine / "dev") == ["1", "2"]
    assert not caplog.records


def test_others_may_lock_a_file_whatever_the_umask(machine):
    before = os.umask(0o077)
    try:
        gpus.claim(1, machine, machine / "dev")
    finally:
        os.umask(before)
    assert (machine / "segstudy-gpu-0.lock").stat().st_mode & 0o777 == 0o666


def test_jobs_of_slurm_with_gpus_of_their_own_do_not_meet(machine, monkeypatch, caplog):
    """In cgroups each has a card of its own, which it sees as number 0."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    job, names = other_job(machine)
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert names == gpus.claim(1, machine, machine / "dev") == ["0"]
    assert not caplog.records
    job.kill()
    job.wait()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("NoDevFiles", []),
        ("none", []),
        ("0,0", []),
        ("²", []),
        ("1,,0", ["1"]),
        ("2,0", ["2", "0"]),
        ("GPU-5e2c", ["GPU-5e2c"]),
    ],
)
def test_what_cuda_makes_of_the_variable(machine, monkeypatch, value, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus.visible(machine / "dev") == names


def test_only_what_the_job_was_given_is_claimed(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5e2c,MIG-7f,2")
    assert gpus.claim(2, machine, machine / "dev") == ["GPU-5e2c", "MIG-7f"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-5e2c,MIG-7f"


def test_fewer_gpus_than_asked_for_are_all_claimed(machine):
    assert gpus.claim(5, machine, machine / "dev") == ["0", "1", "2"]


def test_without_a_gpu_nothing_is_claimed_or_changed(machine):
    assert gpus.claim(1, machine, machine / "none") == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_folder_that_takes_no_locks_is_no_hindrance(machine):
    assert len(gpus.claim(1, machine / "no such folder", machine / "dev")) == 1


def test_the_drivers_version(tmp_path):
    assert gpus.driver(tmp_path / "none") == ""
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
    )
    assert gpus.driver(file) == "535.104.05"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
    )
    assert gpus.driver(file) == "580.65.06"


def test_under_windows_the_gpus_are_those_that_nvidia_smi_lists(tmp_path, monkeypatch):
    """The same device file is there for an AMD or Intel GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "dxg").touch()
    for folder, line in (
        ("two", "echo 'GPU 0: A (UUID: GPU-1)'; echo 'GPU 1: B (UUID: GPU-2)'"),
        ("broken", "echo 'NVIDIA-SMI has failed'; exit 9"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nvidia-smi").write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "two"))
    assert gpus.visible(tmp_path) == ["0", "1"]
    assert gpus.of_no_use(tmp_path) == ""
    for folder in ("broken", "none"):
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        assert gpus.visible(tmp_path) == []
        assert "nvidia-smi finds none" in gpus.of_no_use(tmp_path)


def test_a_gpu_of_amd_is_of_no_use_beside_none_of_nvidia(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.of_no_use(tmp_path) == ""
    (tmp_path / "kfd").touch()
    assert gpus.visible(tmp_path) == gpus.claim(1, tmp_path, tmp_path) == []
    assert gpus.of_no_use(tmp_path) == "AMD's"
    (tmp_path / "nvidia0").touch()
    assert gpus.of_no_use(tmp_path) == ""
