"""What the machine has that a study is started on."""

import os
import tempfile
from pathlib import Path

MOST_WRITERS = 4
"""Volumes that a prediction holds beside the one that the network works on, at most."""


def cores() -> int:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def writers(threads: int) -> int:
    """Return how many predictions are resampled and written at a time beside a network on a GPU, each in memory."""
    return min(threads, MOST_WRITERS)


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
    try:
        home = cache_home()
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return {}
    except (OSError, RuntimeError):  # a user without a home, as in a container
        return {"XDG_CACHE_HOME": str(folder.absolute())}
