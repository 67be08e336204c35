"""What the machine has that a study is started on."""

import os
import tempfile
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


def cache_home() -> Path:
    """Return the folder of the user's caches: `$XDG_CACHE_HOME`, else `.cache` in the home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def cache_variables(folder: Path) -> dict[str, str]:
    """Return the environment that gives caches a place where the user's home takes none; else nothing.

    Snakemake, numba and segstudy keep what they have compiled or parsed in `$XDG_CACHE_HOME`, or in the home's
    `.cache`, which on some clusters is not writable, and Snakemake then ends in a trace.

    Parameters
    ----------
    folder : Path
        The folder to take in its place.
    """
    home = cache_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return {}
    except OSError:
        return {"XDG_CACHE_HOME": str(folder.absolute())}
