"""What the machine has that a study is started on."""

import os
import shutil
import tempfile
from pathlib import Path

from segstudy.errors import InputError

MOST_WRITERS = 4
"""Volumes that a prediction holds beside the one that the network works on, at most."""


def cores() -> int:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


NEEDED_PROGRAMS = ("bash", "which")
"""Programs that Snakemake starts, whatever the study."""


def missing_programs() -> list[str]:
    """Return which of `NEEDED_PROGRAMS` are not on the PATH."""
    return [name for name in NEEDED_PROGRAMS if shutil.which(name) is None]


def refuse_place() -> None:
    """Raise InputError where Snakemake cannot start: it writes to the working directory, and calls `NEEDED_PROGRAMS`."""
    here = Path.cwd()
    records = here / ".snakemake"
    if not os.access(records if records.exists() else here, os.W_OK | os.X_OK):
        raise InputError(
            f"{here}: no file can be written there, and Snakemake keeps its records in .snakemake of the working directory, "
            "for a preview too; go into a folder of your own: the study file may lie elsewhere, and --config results=DIR "
            "names another folder for results"
        )
    missing = missing_programs()
    if missing:
        raise InputError(
            f"{' and '.join(missing)}: not on the PATH ({os.environ.get('PATH', 'not set')}), and Snakemake needs "
            f"{'them' if len(missing) > 1 else 'it'}; install what lacks, or put its folder on the PATH, most often "
            "by `export PATH=$PATH:/usr/bin:/bin`"
        )


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
