"""Judge what was found on a machine: each check is given facts, and returns one finding.

A finding is `ok`, a `note` (a run works, but something is lost or slow) or a `stop` (a run can't work).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from segstudy.words import count

OK, NOTE, STOP = "ok", "note", "stop"
GB = 1e9
LEAST_DISK_GB, LITTLE_DISK_GB = 1, 20
LEAST_MEMORY_GB, LITTLE_MEMORY_GB = 2, 8
LITTLE_SHARED_GB = 1
OTHERS_GB = 1
"""Memory of a GPU that other programs hold and that is worth a word; the driver itself holds some."""
NO_FOLDER = "no such folder"
"""Why a folder that is named takes no file, where it is not there."""
NAMED = 6
"""How many of a list are named in a line."""
FOR = {
    "dicom": "DICOM files",
    "nnunet": "trainer: nnunet",
    "onnx": "segstudy bundle --onnx",
    "tensorboard": "tensorboard: true",
}
"""What an extra of the package is for; the others are for those who work on segstudy itself."""


@dataclass(frozen=True)
class Finding:
    """What a check says.

    Attributes
    ----------
    name
        Of what was looked at.
    level
        `ok`, `note` or `stop`.
    found
        What there is.
    advice
        What to do; empty where all is well.
    """

    name: str
    level: str
    found: str
    advice: str = ""

    def line(self) -> str:
        """Return the finding as one line."""
        told = "; ".join(filter(None, (self.found, self.advice)))
        return f"{self.level:<5} {self.name:<13} {' '.join(told.split())}"


# --- what is installed --------------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """What is installed, and what is asked for.

    Attributes
    ----------
    segstudy, python
        Versions.
    least_python
        The oldest one that segstudy runs with, such as `3.11`.
    required
        What segstudy needs, as `numpy>=2.2`.
    extras
        Extra -> what it needs.
    locked
        Distribution -> the version that segstudy was tested with.
    versions
        Distribution -> the version that is installed.
    """

    segstudy: str
    python: str
    least_python: str
    required: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]
    locked: Mapping[str, str]
    versions: Mapping[str, str]


def check_python(facts: Installed) -> Finding:
    """Check the version of Python."""
    found = f"{facts.python}, with segstudy {facts.segstudy}"
    # Of a version before its release (3.15.0rc1, a `+` of one built from source) the number alone counts.
    if Version(facts.python.rstrip("+")).release < Version(facts.least_python).release:
        advice = f"install segstudy with Python {facts.least_python} or newer"
        return Finding("python", STOP, found, advice)
    return Finding("python", OK, found)


def check_packages(facts: Installed) -> Finding:
    """Check the distributions that segstudy needs: there, new enough, and those it was tested with."""
    missing, unfit, other = _compared(facts.required, facts)
    install = "pip install -r requirements.lock, in the environment that segstudy runs in"
    if missing or unfit:
        told = [*(f"{name} is missing" for name in missing), *unfit]
        return Finding("packages", STOP, _some(told), install)
    if other:
        advice = f"tables and trainings may differ in the last digits; for the tested versions: {install}"
        return Finding("packages", NOTE, _some(other), advice)
    return Finding("packages", OK, f"all {len(facts.required)} as in requirements.lock")


def check_extra(facts: Installed, extra: str) -> Finding:
    """Check what an optional part needs; none of it is needed otherwise."""
    name, purpose = f"extra {extra}", FOR[extra]
    missing, unfit, other = _compared(facts.extras[extra], facts)
    if missing:
        return Finding(name, OK, f"not installed (only for {purpose})")
    if unfit:
        advice = f"pip install 'segstudy[{extra}]', before a study uses it ({purpose})"
        return Finding(name, NOTE, _some(unfit), advice)
    return Finding(name, OK, _some(other) or f"as tested (for {purpose})")


def _compared(
    requirements: Iterable[str], facts: Installed
) -> tuple[list[str], list[str], list[str]]:
    """Return which distributions are missing, which are of a version that can't be, and which of one that is not locked."""
    missing, unfit, other = [], [], []
    for one in map(Requirement, requirements):
        key = canonicalize_name(one.name)
        installed, locked = facts.versions.get(key), facts.locked.get(key)
        if installed is None:
            missing.append(one.name)
            continue
        # A build's own part, `2.13.0+cpu`, is no other version.
        public = Version(installed).public
        if not one.specifier.contains(public, prereleases=True):
            unfit.append(f"{one.name} {installed} (needed: {one.specifier})")
        elif locked and public != Version(locked).public:
            other.append(f"{one.name} {installed} (tested: {locked})")
    return missing, unfit, other


@dataclass(frozen=True)
class Probe:
    """What the compiled libraries say when they are imported; see `probe.probed`.

    died: how the process ended that imported them, where it gave no answer. variables: those of the environment, as
    `NAME=value`, without which all can be imported.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    cuda: str | None = None
    least_driver: int | None = None
    reason: str = ""
    died: str = ""
    variables: tuple[str, ...] = ()


def check_imports(facts: Probe) -> Finding:
    """Check that compiled libraries load: on this system, and with each other."""
    advice = "install the versions of requirements.lock into an environment that holds nothing else"
    if facts.variables:
        one = len(facts.variables) == 1
        which = "this variable" if one else "one of these variables"
        advice = f"{which} is why, as they can be imported without: unset {_some(facts.variables)}"
    if facts.died:
        return Finding("libraries", STOP, f"importing them {facts.died}", advice)
    if facts.failed:
        told = [f"{name} can't be imported ({why})" for name, why in facts.failed.items()]
        return Finding("libraries", STOP, _some(told), advice)
    return Finding("libraries", OK, "torch, SimpleITK, itk, numba and the others can be imported")


# --- the machine --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpus:
    """The GPUs of the machine.

    Attributes
    ----------
    visible
        Names of those that torch may use, as `segstudy.gpus.visible` has them.
    described
        A line each, as `nvidia-smi` tells: name, memory in MiB, memory in use in MiB. Empty without nvidia-smi.
    driver
        Version of NVIDIA's driver, empty without one.
    of_no_use
        Whose GPU there is, where none is NVIDIA's.
    hidden
        What `CUDA_VISIBLE_DEVICES` says where it is set, else None.
    """

    visible: tuple[str, ...] = ()
    described: tuple[tuple[str, float, float], ...] = ()
    driver: str = ""
    of_no_use: str = ""
    hidden: str | None = None


def check_gpus(facts: Gpus) -> Finding:
    """Tell the GPUs; none is no fault."""
    if not facts.visible:
        if facts.of_no_use:
            found = f"the GPU here is {facts.of_no_use} and of no use to torch's builds for CUDA"
            return Finding("gpus", NOTE, found, "trainings run on the CPU")
        if facts.described and facts.hidden is not None:
            found = (
                f"{len(facts.described)} here, but CUDA_VISIBLE_DEVICES={facts.hidden!r} shows none"
            )
            return Finding("gpus", NOTE, found, "unset it, or trainings run on the CPU")
        return Finding("gpus", OK, "none; trainings run on the CPU")
    told = [f"{name} ({total / 1024:.0f} GiB)" for name, total, _ in facts.described]
    found = f"{len(facts.visible)} for use{': ' + _some(told) if told else ''}"
    full = [
        f"{name}: {used / 1024:.1f} GiB"
        for name, _, used in facts.described
        if used * 2**20 > OTHERS_GB * GB
    ]
    if full:
        return Finding(
            "gpus",
            NOTE,
            found,
            f"other programs hold memory ({_some(full)}); `nvidia-smi` shows whose",
        )
    return Finding("gpus", OK, found)


def check_cuda(gpus: Gpus, probe: Probe) -> Finding:
    """Check that torch's CUDA fits the driver; a machine without NVIDIA's GPU or driver needs none."""
    if probe.died or "torch" in probe.failed:
        return Finding("cuda", NOTE, "not told, since torch can't be imported")
    build = f"torch carries CUDA {probe.cuda}" if probe.cuda else "torch is built for CPUs alone"
    need = f", which needs driver {probe.least_driver} or newer" if probe.least_driver else ""
    driver = f"driver {gpus.driver}" if gpus.driver else "no driver"
    if not gpus.visible:
        return Finding("cuda", OK, f"{build}{need}; {driver} here, and no GPU for use")
    if probe.reason:
        return Finding(
            "cuda",
            STOP,
            f"there is a GPU, and torch can't use it: {probe.reason}",
            "or set device: cpu",
        )
    return Finding("cuda", OK, f"{build}{need}; {driver}")


@dataclass(frozen=True)
class Cores:
    """CPU cores: of the machine, allowed by affinity (SLURM, taskset), and by the quota of a container; None: no quota."""

    machine: int
    allowed: int
    quota: float | None = None


def check_cores(facts: Cores) -> Finding:
    """Check how many cores a run may use; `segstudy run` counts those of the affinity."""
    found = f"{facts.allowed} of {facts.machine} may be used"
    if facts.quota is not None and facts.quota < facts.allowed - 0.5:
        most = max(1, int(facts.quota))
        advice = f"give the run no more: --cores {most}"
        return Finding(
            "cores", NOTE, f"{found}, and the container's quota is {facts.quota:g}", advice
        )
    return Finding("cores", OK, found)


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: of the machine, free for use now, and the limit of the control group (container, SLURM); None: no limit."""

    machine: int
    available: int
    limit: int | None = None


def check_memory(facts: Memory) -> Finding:
    """Check that memory is enough for the smallest of studies."""
    total = min(facts.machine, facts.limit or facts.machine)
    found = f"{total / GB:.1f} GB, {min(total, facts.available) / GB:.1f} GB of it free"
    if total < facts.machine:
        found += (
            f" (limit of the container or the job; the machine has {facts.machine / GB:.1f} GB)"
        )
    free = min(total, facts.available) / GB
    if free < LEAST_MEMORY_GB:
        return Finding("memory", STOP, found, f"a job needs {LEAST_MEMORY_GB} GB at least")
    if free < LITTLE_MEMORY_GB:
        advice = "enough for small images; jobs at a time: --resources mem_mb=N limits what they ask for together"
        return Finding("memory", NOTE, found, advice)
    return Finding("memory", OK, found)


@dataclass(frozen=True)
class Programs:
    """Programs that are not on the PATH, of those that a run needs and of those that help; and the PATH."""

    missing: tuple[str, ...] = ()
    helpful: tuple[str, ...] = ()
    path: str = ""


def check_programs(facts: Programs) -> Finding:
    """Check that the programs are there that Snakemake starts, and git, by which the commit of a clone is told."""
    found = f"{', '.join((*facts.missing, *facts.helpful))}: not on the PATH ({facts.path})"
    if facts.missing:
        advice = "Snakemake needs them: install them, or put their folder on the PATH, most often /usr/bin or /bin"
        return Finding("programs", STOP, found, advice)
    if facts.helpful:
        advice = "only to clone segstudy, and for a package to name the commit of a clone"
        return Finding("programs", NOTE, found, advice)
    return Finding("programs", OK, "bash, which and git are on the PATH")


@dataclass(frozen=True)
class Shared:
    """The file system of shared memory: its size in bytes; None where there is none to look at."""

    size: int | None


def check_shared(facts: Shared) -> Finding:
    """Check the room by which processes of a training hand on their batches."""
    if facts.size is None:
        return Finding("shared memory", OK, "no /dev/shm here")
    found = f"{facts.size / GB:.2g} GB in /dev/shm"
    if facts.size < LITTLE_SHARED_GB * GB:
        advice = "trainings with several processes may end with a bus error; docker: --shm-size=8g, or --ipc=host"
        return Finding("shared memory", NOTE, found, advice)
    return Finding("shared memory", OK, found)


@dataclass(frozen=True)
class Encoding:
    """Encodings of file names and of texts, as Python took them from the locale, whose name goes along."""

    names: str
    texts: str
    locale: str


def check_encoding(facts: Encoding) -> Finding:
    """Check that names and texts of all scripts can be read and written."""
    found = f"{facts.names} for names, {facts.texts} for texts (locale {facts.locale})"
    if {facts.names.lower().replace("-", ""), facts.texts.lower().replace("-", "")} != {"utf8"}:
        return Finding(
            "encoding",
            NOTE,
            found,
            "names with umlauts may fail: export LANG=C.UTF-8, or PYTHONUTF8=1",
        )
    return Finding("encoding", OK, found)


# --- places that are written to -----------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder that is written to.

    Attributes
    ----------
    folder
        As it is named.
    looked_at
        The nearest folder that exists, in which a file was tried.
    free
        Bytes for this user; None where that can't be told.
    files_left
        How many more files fit; None where the file system has no such limit.
    failed
        Why no file could be written; empty where one could.
    locks
        `held` where a lock keeps a second one out, `none` where the file system has none, `open` where it lets both in.
    locked_by
        Names of locks of Snakemake that lie there.
    """

    folder: str
    looked_at: str
    free: int | None = None
    files_left: int | None = None
    failed: str = ""
    locks: str = "held"
    locked_by: tuple[str, ...] = ()


def check_disk(facts: Place) -> Finding:
    """Check that results can be written, and that there is room for some."""
    where = facts.folder
    other = "--config results=DIR names another folder"
    if facts.failed:
        return Finding("results", STOP, f"{where}: no file can be written ({facts.failed})", other)
    if facts.files_left is not None and facts.files_left < 1000:
        return Finding(
            "results", STOP, f"{where}: room for {facts.files_left} more files (inodes)", other
        )
    if facts.free is None:
        return Finding("results", OK, f"{where}: can be written")
    found = f"{where}: {facts.free / GB:.1f} GB free"
    if facts.free < LEAST_DISK_GB * GB:
        return Finding("results", STOP, found, f"make room, or {other}")
    if facts.free < LITTLE_DISK_GB * GB:
        advice = f"prepared arrays are about as large as the images; {other}"
        return Finding("results", NOTE, found, advice)
    return Finding("results", OK, found)


def check_locks(facts: Place) -> Finding:
    """Check that a lock of a file in the results keeps others out, on shared file systems too."""
    if facts.failed:
        return Finding("file locks", NOTE, "not tried, since no file can be written")
    if facts.locks == "held":
        return Finding("file locks", OK, f"{facts.folder}: a second lock is refused")
    what = "has no file locks" if facts.locks == "none" else "lets two hold the same lock"
    return Finding(
        "file locks",
        NOTE,
        f"{facts.folder}: the file system {what}",
        "two runs of one study would not notice each other there: start one at a time",
    )


def check_workplace(facts: Place) -> Finding:
    """Check the working directory, in which Snakemake keeps its records and its own lock."""
    name = "working dir"
    if facts.failed:
        advice = "start the run in a folder of your own; a study file may lie elsewhere"
        return Finding(name, STOP, f"no file can be written ({facts.failed})", advice)
    if facts.locked_by:
        found = f"{count(len(facts.locked_by), 'lock')} of Snakemake in .snakemake/locks"
        advice = "a run is at work here, or was killed: where none is, segstudy run STUDY --unlock"
        return Finding(name, NOTE, found, advice)
    return Finding(name, OK, "can be written, and no run has locked it")


def check_caches(facts: Place) -> Finding:
    """Check the user's caches: of Snakemake, numba, matplotlib, torch and segstudy."""
    if facts.failed:
        advice = (
            "segstudy run takes .snakemake/cache for it; for the plain command and for jobs: "
            "export XDG_CACHE_HOME=DIR"
        )
        return Finding(
            "caches", NOTE, f"{facts.folder}: no file can be written ({facts.failed})", advice
        )
    return _roomy("caches", facts, "XDG_CACHE_HOME")


@dataclass(frozen=True)
class Temporary:
    """The folder of temporary files that Python uses, and the one that `TMPDIR` names, if any, and why that takes no file."""

    used: Place
    named: str = ""
    why: str = ""


def check_temporary(facts: Temporary) -> Finding:
    """Check the folder of temporary files."""
    used = facts.used
    if used.failed:
        found = f"{used.folder}: no file can be written ({used.failed})"
        return Finding("temporary", STOP, found, "export TMPDIR=DIR")
    if facts.named and Path(facts.named).absolute() != Path(used.folder).absolute():
        why = f" ({facts.why})" if facts.why else ""
        found = f"TMPDIR={facts.named} takes no file{why}, and {used.folder} is used"
        make = (
            "make that folder" if facts.why == NO_FOLDER else "let it take files, as by making room"
        )
        return Finding("temporary", NOTE, found, f"{make}, or unset TMPDIR")
    return _roomy("temporary", used, "TMPDIR")


def _roomy(name: str, facts: Place, variable: str) -> Finding:
    """Tell of a folder that can be written whether it is all but full."""
    if facts.free is not None and facts.free < LEAST_DISK_GB * GB:
        found = f"{facts.folder}: {facts.free / GB:.1f} GB free"
        return Finding(name, NOTE, found, f"make room, or export {variable}=DIR")
    return Finding(name, OK, f"{facts.folder}: can be written")


@dataclass(frozen=True)
class OwnCaches:
    """Folders that libraries were told to use by variables of their own: variable -> why no file can be written, or nothing."""

    failed: Mapping[str, str] = field(default_factory=dict)


def check_own_caches(facts: OwnCaches) -> Finding:
    """Check the folders that `NUMBA_CACHE_DIR`, `MPLCONFIGDIR` and `TORCH_HOME` name."""
    name = "own caches"
    wrong = [f"{variable} ({why})" for variable, why in facts.failed.items() if why]
    if wrong:
        advice = (
            "unset it, or name a folder of your own, or each job compiles and looks for fonts anew"
        )
        return Finding(
            name, NOTE, f"no file can be written where these point: {_some(wrong)}", advice
        )
    named = ", ".join(facts.failed)
    return Finding(
        name, OK, f"{named}: can be written" if named else "no library has one of its own"
    )


# --- the cluster --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slurm:
    """SLURM, as the machine and the profile tell of it.

    Attributes
    ----------
    programs
        Which of `sbatch`, `squeue` and `sinfo` are on the PATH.
    failed
        Why `sinfo` gave no answer; empty where it did.
    partitions
        Partition -> (whether it is up, whether a node of it names a GPU).
    profile
        The profile that was read; empty where there is none.
    asked
        Partitions that the profile names; expressions are left out.
    unreadable
        Why the profile can't be read.
    wanted
        Whether the user asked for the profile by name.
    """

    programs: tuple[str, ...] = ()
    failed: str = ""
    partitions: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    profile: str = ""
    asked: tuple[str, ...] = ()
    unreadable: str = ""
    wanted: bool = False


def check_slurm(facts: Slurm) -> Finding:
    """Check that SLURM answers, and that the profile's partitions exist; it is needed only for a profile that asks for it."""
    worst = STOP if facts.wanted else NOTE
    if facts.unreadable:
        return Finding("slurm", worst, facts.unreadable, "segstudy new --profile slurm writes one")
    missing = [name for name in ("sbatch", "squeue", "sinfo") if name not in facts.programs]
    if len(missing) == 3:
        level = STOP if facts.wanted else OK
        advice = "start it on a login node of the cluster" if facts.wanted else ""
        return Finding("slurm", level, "not found (only for --profile slurm)", advice)
    if missing:
        found = f"{', '.join(facts.programs)} found, but not {', '.join(missing)}"
        return Finding("slurm", worst, found, "put all of SLURM's programs on the PATH")
    if facts.failed:
        advice = "the controller can't be reached from here, or SLURM_CONF is missing: ask who runs the cluster"
        return Finding("slurm", worst, f"sinfo gives no answer ({facts.failed})", advice)
    names = ", ".join(facts.partitions)
    found = f"{count(len(facts.partitions), 'partition')}: {names}"
    unknown = [name for name in facts.asked if name not in facts.partitions]
    if unknown:
        found = f"{facts.profile} names {_some(unknown)}, and there {'is' if len(facts.partitions) == 1 else 'are'} {names}"
        return Finding("slurm", worst, found, "correct slurm_partition in the profile")
    down = [name for name in facts.asked or facts.partitions if not facts.partitions[name][0]]
    if down:
        return Finding("slurm", NOTE, f"{found}; down: {_some(down)}", "jobs there would wait")
    if not any(gpu for _, gpu in facts.partitions.values()):
        advice = "trainings there need device: cpu in the study file"
        return Finding("slurm", NOTE, f"{found}; no node names a GPU", advice)
    return Finding("slurm", OK, found)


def _some(told: Sequence[str]) -> str:
    """Join the first of a list, and count the others."""
    more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return ", ".join(told[:NAMED]) + more
