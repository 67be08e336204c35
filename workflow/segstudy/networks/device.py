"""Where networks run."""

import platform

import torch

from segstudy.errors import InputError


def choose_device(asked: str) -> torch.device:
    """Choose a device: `auto` is a CUDA GPU where there is one. Raises InputError for `cuda` where there is none."""
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise InputError(
            "device: cuda is asked for, but torch finds no CUDA GPU here; give the job a GPU, or "
            "set device: auto or cpu"
        )
    return torch.device("cuda" if asked != "cpu" and available else "cpu")


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
