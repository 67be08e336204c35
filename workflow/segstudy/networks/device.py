"""Where networks run, and what goes wrong on a GPU in words."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from segstudy import gpus
from segstudy.errors import GpuMemoryError, InputError
from segstudy.files import make_folder, read_json, write_json
from segstudy.log import log

LEAST_DRIVER = {13: 580, 12: 525, 11: 450}
"""NVIDIA's least driver for a major version of CUDA (CUDA Toolkit release notes, minor version compatibility)."""

MUCH_BYTES = 2**30
"""What other programs hold of a GPU's memory that is worth a word; less than it is the driver's own."""


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
            memory, others = _memory()
            raise GpuMemoryError(
                f"{reason}the GPU's memory is too small{memory}; {advice}", others > MUCH_BYTES
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
        # Too little memory while it compiles is told as such.
        if not isinstance(error, torch._dynamo.exc.TorchDynamoException) or gpus.out_of_memory(
            error
        ):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"compile: true, but torch.compile fails here ({reason}); it needs a C++ compiler "
            "(Triton on a GPU); set compile: false, or install one"
        ) from None


@contextmanager
def not_again(note: Path, job: str, attempt: int) -> Iterator[None]:
    """Spare a job its further attempts where a GPU's memory was too small for it.

    Snakemake and SLURM try a failed job again with more memory of the machine, which is no help here. It is tried
    all the same on a larger GPU, and where other programs held much of the memory.

    Parameters
    ----------
    note
        The file that tells the next attempt.
    job
        What decides whether it is the same job.
    attempt
        Number of the attempt, from 1.

    Raises
    ------
    InputError
        The error of the attempt before.
    """
    before = read_json(note) if attempt > 1 and note.is_file() else {}
    if before.get("job") == job and before["bytes"] >= _gpu_bytes():
        raise InputError(f"as in the attempt before: {before['error']}")
    note.unlink(missing_ok=True)
    try:
        yield
    except GpuMemoryError as error:
        if not error.shared:
            make_folder(note.parent)
            write_json(note, {"job": job, "bytes": _gpu_bytes(), "error": str(error)})
        raise


def _gpu_bytes() -> int:
    """Return the memory of the GPU that this process has; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


def _card() -> str:
    try:
        major, minor = torch.cuda.get_device_capability()
        return f" ({torch.cuda.get_device_name()}, compute capability {major}.{minor})"
    except (RuntimeError, AssertionError):
        return ""


def _memory() -> tuple[str, int]:
    """Return in words the memory that a GPU has and what other programs hold of it, and the latter in bytes."""
    try:
        free, total = torch.cuda.mem_get_info()
        own = torch.cuda.memory_reserved()
    except (RuntimeError, AssertionError):
        return "", 0
    others = max(0, total - free - own)
    beside = f", of which other programs hold {others / 2**30:.1f}" if others > MUCH_BYTES else ""
    return f" ({total / 2**30:.1f} GiB{beside})", others


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
