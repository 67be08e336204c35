"""Look at a machine: what `checks` judges. Nothing is left behind, and no program is waited for longer than `PATIENCE_S`.

What can't be looked at raises whatever the system says, for the caller to tell.
"""

import locale
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import segstudy
from segstudy import gpus, shipped
from segstudy.doctor import checks
from segstudy.errors import InputError
from segstudy.files import parse_json
from segstudy.jobs import machine
from segstudy.jobs.command import profile_file
from segstudy.jobs.options import plain_word
from segstudy.yaml_files import read_yaml

try:
    import fcntl
except ImportError:  # Windows, which has no flock
    fcntl = None

PATIENCE_S = 30
IMPORTS_S = 300
"""Compiled libraries may take minutes to load from a shared disk."""
NO_LIMIT_BYTES = 1 << 60
"""What the kernel says where a control group has no limit is about 2^63, rounded down to a page."""
OWN_CACHES = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "TORCH_HOME")


def installed() -> checks.Installed:
    """Look at the distributions that are installed, and at those that `requirements.lock` names."""
    lines = shipped.LOCK.read_text(encoding="utf-8").split()
    locked = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines)
        if version
    }
    required, extras, least = declared()
    # Of a name that is there twice the first one is imported.
    versions: dict[str, str] = {}
    for one in metadata.distributions():
        if one.metadata is not None and one.metadata["Name"]:
            versions.setdefault(canonicalize_name(one.metadata["Name"]), one.version)
    return checks.Installed(
        segstudy=segstudy.__version__,
        python=platform.python_version(),
        least_python=least,
        required=required,
        extras=extras,
        locked=locked,
        versions=versions,
    )


def declared() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]], str]:
    """Return what segstudy needs, what each of its extras needs, and the oldest Python, by `pyproject.toml` or by its metadata."""
    project = shipped.ROOT / "pyproject.toml"
    if project.is_file():
        import tomllib

        told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras = {name: tuple(own) for name, own in told["optional-dependencies"].items()}
        return tuple(told["dependencies"]), extras, _number(told["requires-python"])
    own = metadata.metadata("segstudy")
    needs = [Requirement(line) for line in metadata.requires("segstudy") or ()]
    extras = {}
    for name in own.get_all("Provides-Extra", []):
        of_extra = [one for one in needs if one.marker and one.marker.evaluate({"extra": name})]
        extras[name] = tuple(f"{one.name}{one.specifier}" for one in of_extra)
    required = tuple(f"{one.name}{one.specifier}" for one in needs if one.marker is None)
    return required, extras, _number(own["Requires-Python"])


def _number(requirement: str) -> str:
    return re.sub(r"[^0-9.]", "", requirement)


OF_LIBRARIES = ("KMP_", "LD_", "MKL_", "MPL", "NUMBA_", "PYTHONHOME", "PYTHONPATH", "TORCH")
"""How variables begin that compiled libraries, or the system that loads them, read when they are imported."""


def probe() -> checks.Probe:
    """Import the compiled libraries in a process of its own; where that fails, again without the variables that they read."""
    found = _probed({})
    set_here = sorted(name for name in os.environ if name.startswith(OF_LIBRARIES))
    if not (found.died or found.failed) or not set_here:
        return found
    without = _probed(dict.fromkeys(set_here))
    if without.died or without.failed:
        return found
    return replace(found, variables=tuple(f"{name}={os.environ[name]}" for name in set_here))


def _probed(variables: Mapping[str, str | None]) -> checks.Probe:
    """Import the compiled libraries; variables: set, or taken away (None)."""
    words = [sys.executable, "-m", "segstudy.doctor.probe"]
    package = str(shipped.PACKAGE.parent)
    known = () if "PYTHONPATH" in variables else (os.environ.get("PYTHONPATH"),)
    path = os.pathsep.join(filter(None, [package, *known]))
    given = {**variables, "PYTHONPATH": path, "OMP_WAIT_POLICY": "passive"}
    try:
        asked = _answer(words, IMPORTS_S, given)
        return checks.Probe(**parse_json(asked.stdout, "libraries"))
    except subprocess.TimeoutExpired:
        return checks.Probe(died=f"took more than {IMPORTS_S} s")
    except InputError:
        said = (asked.stderr.strip().splitlines() or ["without a word"])[-1]
        return checks.Probe(died=f"ended with code {asked.returncode} ({said[:200]})")


def programs() -> checks.Programs:
    """Look for the programs that a run needs, and for git."""
    helpful = tuple(name for name in ("git",) if shutil.which(name) is None)
    path = os.environ.get("PATH", "not set")
    return checks.Programs(tuple(machine.missing_programs()), helpful, path)


def visible_gpus() -> checks.Gpus:
    """Look for GPUs, as a run does, and ask `nvidia-smi` about them where it is there."""
    described = []
    program = shutil.which("nvidia-smi")
    if program:
        query = ["--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"]
        try:
            lines = _answer([program, *query]).stdout.splitlines()
        except (OSError, subprocess.TimeoutExpired):
            lines = []
        for line in lines:
            cells = [cell.strip() for cell in line.rsplit(",", 2)]
            # Parts of a card (MIG), and machines that share memory with the CPU, tell no numbers.
            if len(cells) == 3 and all(re.fullmatch(r"\d+", cell) for cell in cells[1:]):
                described.append((cells[0], float(cells[1]), float(cells[2])))
    return checks.Gpus(
        visible=tuple(gpus.visible()),
        described=tuple(described),
        driver=gpus.driver(),
        of_no_use=gpus.of_no_use(),
        hidden=os.environ.get(gpus.VARIABLE),
    )


def cores(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> checks.Cores:
    """Count cores: of the machine, by affinity, and by the quota of this process's control groups."""
    quotas = []
    for folder in control_groups("cpu", groups, own):
        if (folder / "cpu.max").is_file():
            most, period = (folder / "cpu.max").read_text().split()
        elif (folder / "cpu.cfs_quota_us").is_file():
            most = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text()
        else:
            continue
        if most not in ("max", "-1"):
            quotas.append(int(most) / int(period))
    return checks.Cores(os.cpu_count() or 1, machine.cores(), min(quotas, default=None))


def memory(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> checks.Memory:
    """Measure memory: of the machine, what is free, and the limit of this process's control groups."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = []
    for folder in control_groups("memory", groups, own):
        for file in (folder / name for name in names):
            if file.is_file() and file.read_text().strip() != "max":
                limits.append(int(file.read_text()))
    limits = [limit for limit in limits if limit < NO_LIMIT_BYTES]
    found = psutil.virtual_memory()
    return checks.Memory(found.total, found.available, min(limits, default=None))


def control_groups(controller: str, groups: Path, own: Path) -> list[Path]:
    """Return the folders of the control groups that hold this process, its own and those above, of version 1 or 2.

    Parameters
    ----------
    controller
        `cpu` or `memory`, which has a tree of its own in version 1.
    groups
        Where control groups are mounted.
    own
        The file that names the groups of this process.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = groups
        elif controller in controllers.split(","):
            top = groups / controller
        else:
            continue
        # In a container the path may be the host's, of which only the top is seen.
        inside = Path(path.lstrip("/"))
        found += [top / inside, *(top / above for above in inside.parents)]
    return list(dict.fromkeys(found))


def shared_memory(folder: Path = Path("/dev/shm")) -> checks.Shared:
    """Measure the file system of shared memory."""
    return checks.Shared(shutil.disk_usage(folder).total if folder.is_dir() else None)


def encoding() -> checks.Encoding:
    """Tell the encodings that Python took from the locale."""
    variables = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    name = next(filter(None, variables), "not set")
    return checks.Encoding(
        sys.getfilesystemencoding(),
        locale.getencoding() if not sys.flags.utf8_mode else "utf-8",
        name,
    )


GONE = "the working directory was deleted, or its disk is away"


def place(folder: Path) -> checks.Place:
    """Try to write into a folder, or the nearest one above that exists, and measure what is free there."""
    try:
        near = folder.absolute()
    except FileNotFoundError:
        return checks.Place(str(folder), str(folder), failed=GONE)
    while not near.exists() and near != near.parent:
        near = near.parent
    found: dict[str, Any] = {"folder": str(folder), "looked_at": str(near)}
    try:
        left = os.statvfs(near)
        found["free"] = left.f_bavail * left.f_frsize
        # Some file systems make inodes as they need them, and say 0 of 0.
        found["files_left"] = left.f_favail if left.f_files else None
        with tempfile.TemporaryDirectory(prefix=".segstudy-doctor-", dir=near) as own:
            file = Path(own) / "lock"
            # A full quota is told when bytes are written, and not before.
            file.write_bytes(bytes(1 << 20))
            found["locks"] = locks(file)
    except OSError as error:
        found["failed"] = error.strerror or str(error)
    return checks.Place(**found)


def locks(file: Path) -> str:
    """Return whether a lock of a file keeps a second one out: `held`, `none` or `open`, as `checks.Place` has them."""
    if fcntl is None:
        return "none"
    with file.open("rb+") as first, file.open("rb+") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return "none"
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return "held"
    return "open"


def workplace(folder: Path) -> checks.Place:
    """Try to write into the working directory, and look for locks of Snakemake."""
    found = place(folder)
    held = folder / ".snakemake" / "locks"
    locked = tuple(sorted(os.listdir(held))) if held.is_dir() else ()
    return checks.Place(**{**vars(found), "locked_by": locked})


def caches() -> checks.Place:
    """Try to write into the user's caches."""
    try:
        return place(machine.cache_home())
    except RuntimeError:  # a user that the system does not know, without HOME
        return checks.Place("~/.cache", "~", failed="this user has no home; HOME is not set")


def own_caches(variables: Mapping[str, str]) -> checks.OwnCaches:
    """Try to write into the folders that libraries were told to use."""
    named = {name: variables[name] for name in OWN_CACHES if variables.get(name)}
    return checks.OwnCaches({name: place(Path(folder)).failed for name, folder in named.items()})


def temporary() -> checks.Temporary:
    """Try to write into the folder of temporary files, and tell whether it is the one that was asked for."""
    named = os.environ.get("TMPDIR", "")
    try:
        used = tempfile.gettempdir()
    except FileNotFoundError:  # none of those that Python tries takes a file
        where = named or "/tmp"
        failed = "nor in any other folder that Python tries"
        return checks.Temporary(checks.Place(where, where, failed=failed), named)
    why = ""
    if named:
        why = place(Path(named)).failed if Path(named).is_dir() else checks.NO_FOLDER
    return checks.Temporary(place(Path(used)), named, why)


def slurm(profile: str | None) -> checks.Slurm:
    """Ask SLURM about its partitions, and read which of them a profile names.

    Parameters
    ----------
    profile
        Name or folder of the profile that was asked for; None: the one called `slurm`, where there is one.
    """
    programs = tuple(name for name in ("sbatch", "squeue", "sinfo") if shutil.which(name))
    found: dict[str, Any] = {"programs": programs, "wanted": profile is not None}
    file = profile_file(profile or "slurm")
    if file is None:
        if profile is not None:
            found["unreadable"] = f"--profile {profile}: no such profile"
    else:
        found["profile"] = str(file)
        try:
            found["asked"] = profile_partitions(read_yaml(file, "profile"))
        except InputError as error:
            found["unreadable"] = str(error)
    if len(programs) == 3:
        try:
            asked = _answer(["sinfo", "--noheader", "--format=%R|%a|%G"])
        except subprocess.TimeoutExpired:
            found["failed"] = f"within {PATIENCE_S} s"
        except OSError as error:
            found["failed"] = error.strerror or str(error)
        else:
            found["partitions"] = partitions(asked.stdout)
            if asked.returncode or not found["partitions"]:
                lines = asked.stderr.strip().splitlines()
                found["failed"] = lines[-1] if lines else "no partition is listed"
    return checks.Slurm(**found)


def partitions(text: str) -> dict[str, tuple[bool, bool]]:
    """Read what `sinfo --format=%R|%a|%G` prints: partition -> (whether it is up, whether a node of it names a GPU)."""
    found: dict[str, tuple[bool, bool]] = {}
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) == 3:
            name, state, generic = (cell.strip() for cell in cells)
            up, gpu = found.get(name, (False, False))
            found[name] = up or state == "up", gpu or "gpu" in generic
    return found


def profile_partitions(content: Any) -> tuple[str, ...]:
    """Return the partitions that a profile names by plain words, in its order; expressions are Snakemake's to read."""
    profile = content if isinstance(content, dict) else {}
    blocks = [profile.get("default-resources")]
    of_rules = profile.get("set-resources")
    blocks += of_rules.values() if isinstance(of_rules, dict) else [of_rules]
    words = []
    for block in blocks:
        if isinstance(block, dict):
            words += [str(value) for key, value in block.items() if key == "slurm_partition"]
        else:  # `default-resources: [slurm_partition=cpu]`, `set-resources: [train_fit:slurm_partition=gpu]`
            named = (str(one).partition("=") for one in (block if isinstance(block, list) else []))
            words += [value for key, _, value in named if key.endswith("slurm_partition")]
    # One that a job may run in is a plain word, several have commas between them.
    named = [word.strip("'\"") for word in words]
    plain = [one for word in named if plain_word(word.replace(",", "")) for one in word.split(",")]
    return tuple(dict.fromkeys(filter(None, plain)))


def _answer(
    words: list[str],
    patience_s: float | None = None,
    variables: Mapping[str, str | None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it printed, whatever the encoding; variables: set, or taken away (None).

    It starts in the root of the file system where the working directory is gone, of which another line tells.
    """
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience_s or PATIENCE_S,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in environment.items() if value is not None},
        cwd=None if _is_here() else "/",
        check=False,
    )


def _is_here() -> bool:
    """Tell whether the working directory is there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
