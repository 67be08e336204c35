"""Which device a setting stands for."""

import pytest
import torch

from segstudy import gpus
from segstudy.errors import InputError
from segstudy.networks.device import (
    GpuMemoryError,
    choose_device,
    gpu_failures,
    half_precision,
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
