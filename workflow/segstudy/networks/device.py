"""Where networks run, and what goes wrong on a GPU in words."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segstudy import gpus
from segstudy.errors import InputError
from segstudy.log import log

LEAST_DRIVER = {13: 580, 12: 525, 11: 450}
"""NVIDIA's least driver for a major version of CUDA (CUDA Toolkit release notes, minor version compatibility)."""


def choose_device(asked: str, claimed: bool = False) -> torch.device:
    """Choose a device; of several GPUs of a machine one that no other job has.

    Parameters
    ----------
    asked
        `cpu`, `cuda`, or `auto`: a CUDA GPU where torch can use one.
    claimed
        Whether the process that started this one has claimed its GPUs already.

    Raises
    ------
    InputError
        For `cuda` where torch can use no GPU: with the reason, and what to do.
    """
    if asked == "cpu":
        return torch.device("cpu")
    # Before torch looks at the machine, which it does once.
    taken = [] if claimed else gpus.claim(1)
    if torch.cuda.is_available():
        return torch.device("cuda")
    reason = missing_gpu()
    if asked == "cuda":
        raise InputError(
            f"device: cuda is asked for, but torch can use no GPU here: {reason}; or set the model's device: cpu"
        )
    if taken:
        log.warning("on the CPU, though there is a GPU: %s", reason)
    elif other := gpus.of_no_use():
        log.info("on the CPU: the GPU here is %s and of no use to torch's builds for CUDA", other)
    return torch.device("cpu")


def missing_gpu() -> str:
    """Return why torch can use no GPU here, and what to do."""
    installed, cuda, driver = torch.__version__, torch.version.cuda, gpus.driver()
    if not cuda and not torch.version.hip:
        return f"torch {installed} is built for CPUs alone; install a build for CUDA (docs/running.md, GPUs)"
    visible = os.environ.get(gpus.VARIABLE)
    if visible is not None and not gpus.visible():
        return f"{gpus.VARIABLE} is {visible!r}, so that this job was given none; ask for one (SLURM: --gpus), or unset it"
    if cuda and driver:
        least = LEAST_DRIVER.get(int(cuda.split(".")[0]), 0)
        if int(driver.split(".")[0]) < least:
            return (
                f"its driver is {driver}, and torch {installed} carries CUDA {cuda}, which needs {least} or newer; "
                "update the driver, or install torch for an older CUDA (docs/running.md, GPUs)"
            )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        words = " ".join(str(error).split())[:200]
    else:
        words = "none was found"
    return f"{words} (driver {driver or 'not found'}, torch {installed} with CUDA {cuda}); `nvidia-smi` shows what there is"


@contextmanager
def gpu_failures(advice: str) -> Iterator[None]:
    """Turn what a GPU's libraries raise into a sentence: too little memory, a card too old, ranks that lost each other.

    Parameters
    ----------
    advice
        What to do where the GPU's memory is too small, e.g. `lower batch_size`.

    Raises
    ------
    GpuMemoryError
        Where the memory is too small.
    InputError
        For the other failures; what is none of a GPU is raised as it is.
    """
    try:
        yield
    except RuntimeError as error:  # torch's own for memory and devices are kinds of it
        words = " ".join(str(error).split())
        if gpus.out_of_memory(error):
            unsure = any(sign in words for sign in gpus.NO_CONVOLUTION)
            reason = "cuDNN can't compute a convolution, most often since " if unsure else ""
            raise GpuMemoryError(
                f"{reason}the GPU's memory is too small{_memory()}; {advice}"
            ) from None
        if "no kernel image" in words:
            raise InputError(
                f"this GPU{_card()} is older or newer than those that torch {torch.__version__} was built for "
                f"({', '.join(torch.cuda.get_arch_list()) or 'none'}); install another build of torch (docs/running.md, GPUs), or "
                "set device: cpu"
            ) from None
        if "busy or unavailable" in words:
            raise InputError(
                f"this GPU{_card()} is another program's alone (exclusive mode, or a job that was not ended): "
                "`nvidia-smi` shows whose; end it, or set CUDA_VISIBLE_DEVICES to another GPU"
            ) from None
        if "NCCL" in words:
            raise InputError(
                f"the GPUs of this training lost each other: {words[:300]}; NCCL_DEBUG=INFO in the job's environment "
                "says more, and gpus: 1 does without"
            ) from None
        raise


@contextmanager
def compile_failures() -> Iterator[None]:
    """Turn what torch.compile raises into a sentence.

    Raises
    ------
    InputError
        Where the network can't be compiled here.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"compile: true, but torch.compile fails here ({reason}); it needs a C++ compiler "
            "(Triton on a GPU); set compile: false, or install one"
        ) from None


class GpuMemoryError(InputError):
    """Tell that a GPU's memory is too small for what was asked of it; more memory of the machine is no help."""


def _card() -> str:
    try:
        major, minor = torch.cuda.get_device_capability()
        return f" ({torch.cuda.get_device_name()}, compute capability {major}.{minor})"
    except (RuntimeError, AssertionError):
        return ""


def _memory() -> str:
    """Return the memory that a GPU has, and what others than this process hold of it."""
    try:
        free, total = torch.cuda.mem_get_info()
        own = torch.cuda.memory_reserved()
    except (RuntimeError, AssertionError):
        return ""
    others = max(0, total - free - own)
    beside = f", of which other programs hold {others / 2**30:.1f}" if others > 2**30 else ""
    return f" ({total / 2**30:.1f} GiB{beside})"


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU's memory that are free for this process; what torch holds for later use is free too."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the type of mixed precision: bfloat16 where the device has instructions for it.

    On CPU these are AVX512-BF16 or AMX; without them half precision is slower than single, and
    the answer is None. GPUs older than Ampere take float16.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None


def decides_bits(device: torch.device) -> list[str]:
    """Return what of the machine decides the last bits of what a network computes, as far as they are settled.

    On a CPU these are its kind, its vector instructions and torch's threads. On a GPU no two trainings
    are the same to the bit, so that which one it is makes no difference of kind.
    """
    half = str(half_precision(device))
    if device.type == "cuda":
        return ["cuda", half]
    capability = torch.backends.cpu.get_cpu_capability()
    return ["cpu", half, platform.machine(), capability, f"{torch.get_num_threads()} threads"]
