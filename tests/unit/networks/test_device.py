"""Which device a setting stands for."""

from contextlib import ExitStack
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from segstudy import gpus
from segstudy.errors import GpuMemoryError, InputError
from segstudy.networks.device import (
    choose_device,
    compile_failures,
    gpu_failures,
    half_precision,
    not_again,
)


@pytest.mark.parametrize("there", [False, True])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device("auto").type == ("cuda" if there else "cpu")
    assert choose_device("cpu").type == "cpu"


@pytest.fixture
def no_gpu(monkeypatch):
    """A torch for CUDA 13 that can use no GPU, though the machine has one."""
    monkeypatch.setattr(gpus, "claim", lambda count: ["0"])
    monkeypatch.setattr(gpus, "driver", lambda: "580.65.06")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv(gpus.VARIABLE, raising=False)


def test_a_torch_for_cpus_alone_is_told(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError, match="cuda is asked for.*is built for CPUs alone.*device: cpu"):
        choose_device("cuda")


def test_a_driver_that_is_too_old_is_told(no_gpu, monkeypatch):
    monkeypatch.setattr(gpus, "driver", lambda: "535.104.05")
    with pytest.raises(
        InputError, match="driver is 535.104.05, and torch .* carries CUDA 13.0, which needs 580"
    ):
        choose_device("cuda")


def test_a_job_that_was_given_no_gpu_is_told(no_gpu, monkeypatch):
    monkeypatch.setenv(gpus.VARIABLE, "")
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES is ''"):
        choose_device("cuda")


def test_other_reasons_are_in_torchs_words(no_gpu, monkeypatch):
    def init():
        raise RuntimeError("CUDA unknown\n error")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(
        InputError, match="CUDA unknown error .driver 580.65.06, torch .* with CUDA 13.0"
    ):
        choose_device("cuda")


def test_auto_falls_back_to_the_cpu_aloud(no_gpu, monkeypatch, caplog):
    monkeypatch.setattr(gpus, "driver", lambda: "535.104.05")
    assert choose_device("auto").type == "cpu"
    assert "on the CPU, though there is a GPU: its driver is 535.104.05" in caplog.text


def test_auto_says_that_another_makers_gpu_is_not_used(no_gpu, monkeypatch, caplog):
    monkeypatch.setattr(gpus, "claim", lambda count: [])
    monkeypatch.setattr(gpus, "of_no_use", lambda: "AMD's")
    caplog.set_level("INFO", logger="segstudy")
    assert choose_device("auto").type == "cpu"
    assert "on the CPU: the GPU here is AMD's" in caplog.text


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            GpuMemoryError,
            "too small.*lower it",
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            GpuMemoryError,
            "too small.*lower it",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), GpuMemoryError, "lower it"),
        (RuntimeError("CUDA error: out of memory"), GpuMemoryError, "lower it"),
        (
            RuntimeError("GET was unable to find an engine to execute this computation"),
            GpuMemoryError,
            "can't compute a convolution, most often since the GPU's memory is too small.*lower it",
        ),
        (RuntimeError("CUDA error: devices are busy or unavailable"), InputError, "alone"),
        (
            RuntimeError("CUDA error: no kernel image is available"),
            InputError,
            "another build of torch",
        ),
        (
            RuntimeError("NCCL error in: x.cpp:1, unhandled cuda error"),
            InputError,
            "NCCL_DEBUG=INFO",
        ),
        (RuntimeError("size mismatch"), RuntimeError, "size mismatch"),
        (ValueError("other"), ValueError, "other"),
    ],
)
def test_failures_of_a_gpu_in_words(error, kind, words):
    with pytest.raises(kind, match=words) as told, gpu_failures("lower it"):
        raise error
    assert type(told.value) is kind


@pytest.mark.parametrize(
    ("found", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({}, None)],
)
def test_half_precision_only_where_the_processor_computes_in_it(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert half_precision(torch.device("cpu")) == expected


def test_too_little_memory_while_compiling_is_no_fault_of_the_compiler():
    kind = torch._dynamo.exc.InternalTorchDynamoError
    told = pytest.raises(GpuMemoryError, match="too small.*lower it")
    with told, gpu_failures("lower it"), compile_failures():
        raise kind("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    told = pytest.raises(InputError, match="set compile: false")
    with told, gpu_failures("lower it"), compile_failures():
        raise kind("no compiler")


# --- further attempts -----------------------------------------------------------------------------


def attempt(note, number, job="job", error="CUDA out of memory", memory=None, others=0):
    """Let an attempt of a job end by an error (None: in order), on a GPU of which others hold bytes; return what it says."""
    total = memory or 24 * 2**30
    stand_ins = {
        "is_available": True,
        "current_device": 0,
        "get_device_properties": SimpleNamespace(total_memory=total),
        "mem_get_info": (total - others, total),
        "memory_reserved": 0,
    }
    with ExitStack() as stack:
        for name, value in stand_ins.items():
            stand_in = mock.patch.object(torch.cuda, name, lambda *_, value=value: value)
            stack.enter_context(stand_in)
        try:
            with not_again(note, job, number), gpu_failures("lower it"):
                if error:
                    raise torch.OutOfMemoryError(error)
        except InputError as told:
            return str(told)
    return ""


def test_too_little_memory_is_not_tried_again(tmp_path):
    note = tmp_path / "folder" / "note.json"
    first = attempt(note, 1)
    assert "the GPU's memory is too small (24.0 GiB); lower it" in first
    assert attempt(note, 2, error=None) == f"as in the attempt before: {first}"
    assert attempt(note, 3, error=None) == f"as in the attempt before: {first}"


def test_another_job_a_larger_gpu_and_a_new_start_are_tried(tmp_path):
    note = tmp_path / "note.json"
    for further in ({"job": "another"}, {"memory": 80 * 2**30}):
        attempt(note, 1)
        assert attempt(note, 2, error=None, **further) == ""
        assert not note.exists()
    attempt(note, 1)
    assert attempt(note, 1, error=None) == ""


def test_what_other_programs_held_may_be_free_at_the_next_attempt(tmp_path):
    note = tmp_path / "note.json"
    assert "of which other programs hold 10.0" in attempt(note, 1, others=10 * 2**30)
    assert attempt(note, 2, error=None) == ""


def test_other_errors_leave_no_note(tmp_path):
    with pytest.raises(InputError), not_again(tmp_path / "note.json", "job", 1):
        raise InputError("other")
    assert list(tmp_path.iterdir()) == []
