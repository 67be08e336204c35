"""The GPUs of this machine, and which of them is free; light, since the workflow imports it.

Jobs on one machine share its GPUs without a scheduler that deals them out: Snakemake counts
`--resources gpu=4`, and tells no job which one is its own. So each job claims its GPUs by locks,
which the system takes back when the process ends, however it ends.
"""

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from segstudy.log import log

try:
    import fcntl
except ImportError:  # Windows, where jobs take turns by themselves
    fcntl = None

WINDOWS, AMD = "dxg", "kfd"
"""Device files that stand for all GPUs under Windows (WSL), and for those of AMD, integrated ones among them."""
VARIABLE = "CUDA_VISIBLE_DEVICES"
NO_CONVOLUTION = ("unable to find an engine to execute", "find a valid cuDNN algorithm")
"""What torch says where none of cuDNN's ways to convolve works, since none gets its workspace (pytorch issue 108645)."""
OUT_OF_MEMORY = (
    *("CUDA out of memory", "CUDA error: out of memory", "ALLOCATION_FAILED"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
    # What these say where no memory is left for their own workspace.
    *("CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED"),
    *NO_CONVOLUTION,
)
"""What libraries say of memory that they don't get, without torch's own exception."""
_claimed: dict[str, int] = {}
"""The GPUs that this process has claimed, and the open files that hold the locks."""


def visible(devices: Path = Path("/dev")) -> list[str]:
    """Return the names of the GPUs that torch may use, as `CUDA_VISIBLE_DEVICES` has them.

    Those that the variable names (numbers, or the names of GPUs and of their MIG parts), else the numbers of all of
    NVIDIA's that have a device file, or that `nvidia-smi` lists under Windows (WSL), where one file stands for all makers' GPUs.
    """
    found = len(list(devices.glob("nvidia[0-9]*")))
    if not found and (devices / WINDOWS).exists():
        found = _listed(shutil.which("nvidia-smi"))
    named = os.environ.get(VARIABLE)
    if named is None or not found:
        return [str(number) for number in range(found)]
    names = [name.strip() for name in named.split(",")]
    # CUDA stops at the first entry that names no GPU.
    ends = (place for place, name in enumerate(names) if not _is_one(name, found))
    names = names[: next(ends, len(names))]
    return names if len(set(names)) == len(names) else []  # which CUDA refuses whole


@cache
def _listed(program: str | None) -> int:
    """Return how many GPUs `nvidia-smi` lists; 0 without it, or where it fails."""
    if program is None:
        return 0
    try:
        asked = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in asked.stdout.splitlines())


def of_no_use(devices: Path = Path("/dev")) -> str:
    """Return whose GPU there is where none is NVIDIA's, which torch's builds for CUDA can't use; nothing where there is no GPU."""
    if visible(devices):
        return ""
    if (devices / AMD).exists():
        return "AMD's"
    return "not NVIDIA's, since nvidia-smi finds none," if (devices / WINDOWS).exists() else ""


def _is_one(name: str, found: int) -> bool:
    """Return whether an entry of the variable names a GPU: by the number of one there is, or by its own name or a part's."""
    if name.isascii() and name.isdecimal():
        return int(name) < found
    return name.startswith(("GPU-", "MIG-"))


def claim(count: int, folder: Path | None = None, devices: Path = Path("/dev")) -> list[str]:
    """Claim free GPUs for this process and those that it starts, until it ends.

    `CUDA_VISIBLE_DEVICES` then names them, so that it comes before CUDA is used. Where fewer are free than asked
    for, the others are shared, with a note; where there are no more than asked for, all are taken.

    Parameters
    ----------
    count
        How many.
    folder
        Where the locks are; the system's folder of temporary files.
    devices
        Where the device files are.

    Returns
    -------
    list of str
        Their names; fewer than `count` where the machine has fewer.
    """
    names = visible(devices)
    if _claimed or not names:
        return [name for name in names if name in _claimed]
    folder = folder or Path(tempfile.gettempdir())
    # SLURM deals out GPUs itself, and may number each job's own from 0.
    job = f"{os.environ['SLURM_JOB_ID']}-" if "SLURM_JOB_ID" in os.environ else ""
    for name in names:
        if len(_claimed) < count:
            safe = re.sub(r"[^A-Za-z0-9-]", "_", f"{job}{name}")
            lock = _lock(folder / f"segstudy-gpu-{safe}.lock")
            if lock is not None:
                _claimed[name] = lock
    others = [name for name in names if name not in _claimed]
    # Those that come too many are spread over the GPUs.
    first = os.getpid() % max(1, len(others))
    for name in (others[first:] + others[:first])[: count - len(_claimed)]:
        log.warning(
            "no GPU is free, or its lock in %s can't be told: GPU %s is shared with another job; as many jobs at a "
            "time as GPUs is what `--resources gpu=%d` asks Snakemake for",
            folder,
            name,
            len(names),
        )
        _claimed[name] = -1
    os.environ[VARIABLE] = ",".join(_claimed)
    return list(_claimed)


def _lock(file: Path) -> int | None:
    """Lock a file and return its open descriptor; None where another process has locked it, or that can't be told."""
    if fcntl is None:
        return -1
    try:
        # Another user's file may be locked, though not written.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            os.fchmod(descriptor, 0o666)  # whatever this user's umask is, others lock it too
        except OSError:
            return None
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with suppress(OSError):
            os.close(descriptor)
        return None
    return descriptor


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU's memory is too small: torch's own, or a library's by its words."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and any(sign in words for sign in OUT_OF_MEMORY)


def driver(version: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Return the version of NVIDIA's driver, e.g. `535.104.05`; nothing where there is none."""
    try:
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", version.read_text())
    except OSError:
        return ""
    return found[1] if found else ""
