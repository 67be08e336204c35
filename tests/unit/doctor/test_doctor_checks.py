"""What is said of a machine, for facts with one planted fault each."""

from dataclasses import replace

import pytest

from segstudy.doctor import checks
from segstudy.doctor.checks import NOTE, OK, STOP

GB = 10**9
INSTALLED = checks.Installed(
    segstudy="0.2.0",
    python="3.12.4",
    least_python="3.11",
    required=("numpy>=2.2", "scikit-image>=0.25", "torch==2.13.0"),
    extras={"nnunet": ("nnunetv2>=2.8.1",), "dicom": ("highdicom>=0.28", "pydicom>=3.0")},
    locked={"numpy": "2.4.6", "scikit-image": "0.26.0", "torch": "2.13.0", "pydicom": "3.0.2"},
    versions={"numpy": "2.4.6", "scikit-image": "0.26.0", "torch": "2.13.0+cpu"},
)
PLACE = checks.Place("results", "results", free=500 * GB, files_left=10**7)
A100 = checks.Gpus(("0",), (("NVIDIA A100", 81920.0, 4.0),), "580.65.06")
CUDA13 = checks.Probe(cuda="13.0", least_driver=580)
SLURM = checks.Slurm(
    ("sbatch", "squeue", "sinfo"), "", {"cpu": (True, False), "gpu": (True, True)}, "my.yaml"
)


def with_versions(**versions):
    named = {name.replace("_", "-"): version for name, version in versions.items()}
    kept = {**INSTALLED.versions, **named}
    return replace(INSTALLED, versions={name: one for name, one in kept.items() if one})


@pytest.mark.parametrize(
    ("finding", "level", "words"),
    [
        (checks.check_python(INSTALLED), OK, "3.12.4, with segstudy 0.2.0"),
        (checks.check_python(replace(INSTALLED, python="3.10.12")), STOP, "3.11 or newer"),
        (checks.check_python(replace(INSTALLED, python="3.13.0rc1+")), OK, "3.13.0rc1+"),
        (checks.check_packages(INSTALLED), OK, "all 3 as in requirements.lock"),
        (checks.check_packages(with_versions(numpy="")), STOP, "numpy is missing; pip install"),
        (checks.check_packages(with_versions(torch="2.12.0")), STOP, "2.12.0 (needed: ==2.13.0)"),
        (
            checks.check_packages(with_versions(scikit_image="0.25.2")),
            NOTE,
            "0.25.2 (tested: 0.26.0)",
        ),
        (checks.check_packages(with_versions(numpy="3.0.0rc1")), NOTE, "3.0.0rc1 (tested: 2.4.6)"),
        (checks.check_extra(INSTALLED, "nnunet"), OK, "not installed (only for trainer: nnunet)"),
        (checks.check_extra(with_versions(nnunetv2="2.5"), "nnunet"), NOTE, "segstudy[nnunet]"),
        (checks.check_extra(with_versions(pydicom="3.0.2"), "dicom"), OK, "not installed"),
        (
            checks.check_extra(with_versions(pydicom="3.0.2", highdicom="0.28.2"), "dicom"),
            OK,
            "as tested (for DICOM files)",
        ),
        (checks.check_imports(CUDA13), OK, "can be imported"),
        (
            checks.check_imports(checks.Probe({"numba": "ImportError: needs NumPy 2.4 or less"})),
            STOP,
            "numba can't be imported (ImportError: needs NumPy 2.4 or less)",
        ),
        (checks.check_imports(checks.Probe(died="ended with code -11 (x)")), STOP, "code -11"),
        (checks.check_gpus(checks.Gpus()), OK, "none"),
        (checks.check_gpus(checks.Gpus(of_no_use="AMD's")), NOTE, "AMD's and of no use"),
        (
            checks.check_gpus(replace(A100, visible=(), hidden="")),
            NOTE,
            "CUDA_VISIBLE_DEVICES='' shows none",
        ),
        (checks.check_gpus(A100), OK, "1 for use: NVIDIA A100 (80 GiB)"),
        (checks.check_gpus(checks.Gpus(("0", "1"))), OK, "2 for use"),
        (
            checks.check_gpus(replace(A100, described=(("NVIDIA A100", 81920.0, 30720.0),))),
            NOTE,
            "other programs hold memory (NVIDIA A100: 30.0 GiB)",
        ),
        (checks.check_cuda(checks.Gpus(), CUDA13), OK, "needs driver 580 or newer; no driver here"),
        (checks.check_cuda(checks.Gpus(), checks.Probe()), OK, "built for CPUs alone"),
        (
            checks.check_cuda(A100, CUDA13),
            OK,
            "CUDA 13.0, which needs driver 580 or newer; driver 580",
        ),
        (
            checks.check_cuda(
                A100, replace(CUDA13, reason="its driver is 535, and torch needs 580")
            ),
            STOP,
            "torch can't use it: its driver is 535",
        ),
        (checks.check_cuda(A100, checks.Probe({"torch": "OSError"})), NOTE, "not told"),
        (checks.check_cores(checks.Cores(64, 8)), OK, "8 of 64"),
        (checks.check_cores(checks.Cores(64, 64, 4.0)), NOTE, "--cores 4"),
        (checks.check_cores(checks.Cores(64, 64, 0.5)), NOTE, "--cores 1"),
        (checks.check_cores(checks.Cores(8, 8, 8.0)), OK, "8 of 8"),
        (checks.check_memory(checks.Memory(64 * GB, 60 * GB)), OK, "64.0 GB, 60.0 GB of it free"),
        (checks.check_memory(checks.Memory(64 * GB, 5 * GB)), NOTE, "mem_mb"),
        (checks.check_memory(checks.Memory(64 * GB, GB)), STOP, "a job needs 2 GB"),
        (
            checks.check_memory(checks.Memory(64 * GB, 60 * GB, limit=GB)),
            STOP,
            "1.0 GB, 1.0 GB of it free (limit of the container or the job; the machine has 64.0 GB)",
        ),
        (checks.check_shared(checks.Shared(32 * GB)), OK, "32 GB"),
        (checks.check_shared(checks.Shared(64 * 2**20)), NOTE, "--shm-size=8g"),
        (checks.check_shared(checks.Shared(None)), OK, "no /dev/shm"),
        (checks.check_encoding(checks.Encoding("utf-8", "UTF-8", "C.UTF-8")), OK, "C.UTF-8"),
        (
            checks.check_encoding(checks.Encoding("utf-8", "ISO-8859-1", "de_DE")),
            NOTE,
            "LANG=C.UTF-8",
        ),
        (checks.check_encoding(checks.Encoding("ascii", "utf8", "C")), NOTE, "PYTHONUTF8=1"),
        (checks.check_disk(PLACE), OK, "results: 500.0 GB free"),
        (checks.check_disk(replace(PLACE, free=GB // 2)), STOP, "0.5 GB free; make room"),
        (checks.check_disk(replace(PLACE, free=5 * GB)), NOTE, "as large as the images"),
        (checks.check_disk(replace(PLACE, files_left=3)), STOP, "room for 3 more files (inodes)"),
        (checks.check_disk(replace(PLACE, files_left=None)), OK, "500.0 GB"),
        (checks.check_disk(replace(PLACE, failed="Read-only file system")), STOP, "results=DIR"),
        (checks.check_locks(PLACE), OK, "a second lock is refused"),
        (checks.check_locks(replace(PLACE, locks="none")), NOTE, "has no file locks"),
        (checks.check_locks(replace(PLACE, locks="open")), NOTE, "lets two hold the same lock"),
        (checks.check_locks(replace(PLACE, failed="no")), NOTE, "not tried"),
        (checks.check_workplace(PLACE), OK, "can be written"),
        (
            checks.check_workplace(replace(PLACE, failed="Permission denied")),
            STOP,
            "Permission denied",
        ),
        (checks.check_workplace(replace(PLACE, locked_by=("0.input.lock",))), NOTE, "--unlock"),
        (checks.check_caches(PLACE), OK, "can be written"),
        (checks.check_caches(replace(PLACE, failed="no home")), NOTE, "export XDG_CACHE_HOME=DIR"),
        (checks.check_caches(replace(PLACE, free=10**8)), NOTE, "0.1 GB free"),
        (checks.check_own_caches(checks.OwnCaches()), OK, "no library"),
        (
            checks.check_own_caches(checks.OwnCaches({"MPLCONFIGDIR": ""})),
            OK,
            "MPLCONFIGDIR: can be",
        ),
        (
            checks.check_own_caches(checks.OwnCaches({"MPLCONFIGDIR": "", "TORCH_HOME": "full"})),
            NOTE,
            "where these point: TORCH_HOME (full)",
        ),
        (checks.check_temporary(checks.Temporary(PLACE)), OK, "can be written"),
        (
            checks.check_temporary(checks.Temporary(PLACE, "gone")),
            NOTE,
            "TMPDIR=gone takes no file",
        ),
        (checks.check_temporary(checks.Temporary(PLACE, "./results/")), OK, "can be written"),
        (
            checks.check_temporary(checks.Temporary(replace(PLACE, failed="full"))),
            STOP,
            "TMPDIR=DIR",
        ),
        (checks.check_slurm(checks.Slurm()), OK, "not found (only for --profile slurm)"),
        (checks.check_slurm(checks.Slurm(wanted=True)), STOP, "login node"),
        (checks.check_slurm(SLURM), OK, "2 partitions: cpu, gpu"),
        (checks.check_slurm(replace(SLURM, programs=("sbatch",))), NOTE, "not squeue, sinfo"),
        (checks.check_slurm(replace(SLURM, failed="timed out")), NOTE, "no answer (timed out)"),
        (checks.check_slurm(replace(SLURM, failed="timed out", wanted=True)), STOP, "no answer"),
        (
            checks.check_slurm(replace(SLURM, asked=("cpu", "gpus"), wanted=True)),
            STOP,
            "my.yaml names gpus, and there are cpu, gpu; correct slurm_partition",
        ),
        (checks.check_slurm(replace(SLURM, asked=("gpu",))), OK, "2 partitions"),
        (checks.check_slurm(replace(SLURM, partitions={"a": (False, True)})), NOTE, "down: a"),
        (checks.check_slurm(replace(SLURM, partitions={"a": (True, False)})), NOTE, "device: cpu"),
        (
            checks.check_slurm(replace(SLURM, unreadable="my.yaml: line 3", wanted=True)),
            STOP,
            "line 3",
        ),
    ],
)
def test_a_finding_says_how_bad_it_is_and_what_to_do(finding, level, words):
    assert words in finding.line()
    assert finding.level == level
    # Where nothing is wrong nothing is to be done, and the other way round, but for what could not be tried.
    assert bool(finding.advice) == (level != OK) or "not t" in finding.found or "missing" in words


def test_a_finding_is_one_line():
    finding = checks.Finding("slurm", NOTE, "an answer\nof two lines", "do\tthis")
    assert finding.line() == "note  slurm         an answer of two lines; do this"


def test_of_a_long_list_the_first_are_named():
    missing = replace(INSTALLED, required=tuple(f"p{n}" for n in range(9)), versions={})
    assert "p5 is missing and 3 more; pip install" in checks.check_packages(missing).line()
