"""What the machine has that a study is started on."""

import os
from pathlib import Path


def cores() -> int:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def gpus(devices: Path = Path("/dev")) -> int:
    """Return how many GPUs there are that torch may use.

    They are told by their device files, since the workflow is read without torch: NVIDIA's, or under
    Windows (WSL) and with AMD the one that stands for all. `CUDA_VISIBLE_DEVICES` hides some.
    """
    found = len(list(devices.glob("nvidia[0-9]*")))
    if not found:
        found = int(any((devices / name).exists() for name in ("dxg", "kfd")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return min(found, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
