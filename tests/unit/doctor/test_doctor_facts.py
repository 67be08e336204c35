"""What is found on a machine with planted faults: no home, full disks, programs that hang or talk nonsense."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segstudy import doctor_command, shipped
from segstudy.doctor import checks, facts, findings
from segstudy.errors import InputError
from segstudy.jobs import machine


def program(folder: Path, name: str, script: str) -> None:
    """Write a program of the shell."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder of programs, the only one on the PATH, with those that a run needs."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("bash", "which", "git"):
        program(folder, name, "exit 1")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def doctor(folder: Path, *words: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run `segstudy doctor` as a process, with variables set, or taken away (None)."""
    environment = {**os.environ, "PYTHONPATH": str(shipped.PACKAGE.parent), **variables}
    return subprocess.run(
        [sys.executable, "-m", "segstudy", "doctor", *words],
        cwd=folder,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )


# --- what is installed --------------------------------------------------------------------------


def test_what_is_needed_is_what_pyproject_says():
    found = facts.installed()
    assert "torch==2.13.0" in found.required
    assert found.least_python == "3.11"
    assert set(checks.FOR) <= set(found.extras)
    assert found.locked["torch"] == "2.13.0"
    assert found.versions["scikit-image"].startswith("0.")


def test_an_installed_package_tells_the_same_by_its_metadata(monkeypatch, tmp_path):
    required, extras, least = facts.declared()
    metadata = tmp_path / "segstudy-9.dist-info"
    metadata.mkdir()
    lines = ["Metadata-Version: 2.4", "Name: segstudy", "Version: 9", f"Requires-Python: >={least}"]
    lines += [f"Requires-Dist: {one}" for one in required]
    for name, own in extras.items():
        lines += [f"Provides-Extra: {name}"]
        lines += [f"Requires-Dist: {one}; extra == '{name}'" for one in own]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    again, extras_again, least_again = facts.declared()
    assert {one.lower() for one in again} == {one.lower() for one in required}
    assert least_again == least

    def plain(extras):
        return {name: {one.lower() for one in own} for name, own in extras.items()}

    assert plain(extras_again) == plain(extras)


def test_a_library_that_cannot_be_imported_is_named_and_the_others_are_tried(monkeypatch, tmp_path):
    (tmp_path / "skimage").mkdir()
    (tmp_path / "skimage" / "__init__.py").write_text(
        "raise OSError('libGL.so.1: no such\\nfile')\n"
    )
    (tmp_path / "torch.py").write_text("1 / 0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = facts.probe()
    assert found.failed.pop("torch") == "ZeroDivisionError: division by zero"
    assert found.failed.pop("skimage") == "OSError: libGL.so.1: no such file"
    assert found.failed == {}
    assert found.died == ""


def test_a_library_that_ends_the_process_is_told(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("import os, sys\nsys.stderr.write('boom\\n')\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert facts.probe().died == "ended with code -6 (boom)"


# --- the machine --------------------------------------------------------------------------------


def test_limits_of_control_groups_of_version_2_are_the_tightest_of_all_above(tmp_path):
    inner = tmp_path / "groups" / "slurm" / "job_7"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "memory.max").write_text("4000000000\n")
    (inner.parent / "memory.high").write_text("3000000000\n")
    (inner.parent / "cpu.max").write_text("250000 100000\n")
    own = tmp_path / "own"
    own.write_text("0::/slurm/job_7\n")
    assert facts.memory(tmp_path / "groups", own).limit == 3_000_000_000
    assert facts.cores(tmp_path / "groups", own).quota == 2.5


def test_limits_of_control_groups_of_version_1_seen_from_inside_a_container(tmp_path):
    for controller, files in {
        "memory": {"memory.limit_in_bytes": "2000000000"},
        "cpu,cpuacct": {},
        "cpu": {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"},
    }.items():
        (tmp_path / "groups" / controller).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "groups" / controller / name).write_text(f"{text}\n")
    own = tmp_path / "own"
    own.write_text("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n")
    assert facts.memory(tmp_path / "groups", own).limit == 2_000_000_000
    assert facts.cores(tmp_path / "groups", own).quota == 1.5


@pytest.mark.parametrize("text", ["9223372036854771712", "max"])
def test_no_limit_is_none(tmp_path, text):
    (tmp_path / "memory.max").write_text(f"{text}\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "own").write_text("0::/\n")
    assert facts.memory(tmp_path, tmp_path / "own").limit is None
    assert facts.cores(tmp_path, tmp_path / "own").quota is None


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert facts.memory(tmp_path, tmp_path / "none").limit is None
    assert facts.cores(tmp_path, tmp_path / "none").allowed == machine.cores()


def test_gpus_are_described_by_nvidia_smi(programs):
    lines = [
        "NVIDIA A100, 80GB PCIe, 81920, 3",
        "NVIDIA GB10, [N/A], [N/A]",
        "No devices were found",
    ]
    program(programs, "nvidia-smi", "\n".join(f"echo '{line}'" for line in lines))
    assert facts.visible_gpus().described == (("NVIDIA A100, 80GB PCIe", 81920.0, 3.0),)


@pytest.mark.parametrize("script", [None, "exit 9", "echo '\\377\\376'", "kill -9 $$"])
def test_without_an_answer_of_nvidia_smi_nothing_is_described(programs, script):
    if script:
        program(programs, "nvidia-smi", script)
    assert facts.visible_gpus().described == ()


# --- places -------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_tried_above_and_nothing_stays(tmp_path):
    found = facts.place(tmp_path / "a" / "b")
    assert found.looked_at == str(tmp_path)
    assert found.failed == ""
    assert found.free > 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "results").write_text("no folder")
    assert facts.place(tmp_path / "results").failed == "Not a directory"


def test_locks_keep_a_second_one_out(tmp_path):
    (tmp_path / "lock").touch()
    assert facts.locks(tmp_path / "lock") == "held"


@pytest.mark.parametrize(
    ("answers", "told"), [([OSError(37, "no locks")], "none"), ([0, 0], "open")]
)
def test_file_systems_without_locks_are_told(tmp_path, monkeypatch, answers, told):
    def flock(*_):
        answer = answers.pop(0)
        if answer:
            raise answer

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "lock").touch()
    assert facts.locks(tmp_path / "lock") == told


def test_locks_of_snakemake_are_found(tmp_path):
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    (tmp_path / ".snakemake" / "locks" / "0.input.lock").touch()
    assert facts.workplace(tmp_path).locked_by == ("0.input.lock",)


def test_a_user_without_a_home_is_told(monkeypatch):
    def nobody(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", nobody)
    assert "no home" in facts.caches().failed
    assert machine.cache_variables(Path("/x")) == {"XDG_CACHE_HOME": "/x"}


def test_caches_of_libraries_are_tried_where_variables_name_them(tmp_path):
    (tmp_path / "file").touch()
    variables = {"NUMBA_CACHE_DIR": str(tmp_path / "file"), "MPLCONFIGDIR": str(tmp_path), "X": "y"}
    found = facts.own_caches(variables).failed
    assert found == {"NUMBA_CACHE_DIR": "Not a directory", "MPLCONFIGDIR": ""}


# --- the cluster --------------------------------------------------------------------------------


def test_partitions_are_up_where_one_of_their_lines_is():
    text = "cpu|up|(null)\ngpu|down|gpu:a100:4(S:0-1)\ngpu|up|(null)\nslow|inact|(null)\nnonsense\n"
    assert facts.partitions(text) == {
        "cpu": (True, False),
        "gpu": (True, True),
        "slow": (False, False),
    }


def test_partitions_of_a_profile_are_its_plain_words():
    profile = {
        "default-resources": ["slurm_partition='cpu'", "mem_mb=4000"],
        "set-resources": {
            "train_fit": {"slurm_partition": "gpu,big"},
            "infer_predict": {"slurm_partition": "'cpu' if wildcards.model == 'enet' else 'gpu'"},
        },
    }
    assert facts.profile_partitions(profile) == ("cpu", "gpu", "big")
    assert facts.profile_partitions({"set-resources": ["train_fit:slurm_partition=a"]}) == ("a",)
    assert facts.profile_partitions("text") == facts.profile_partitions({"set-resources": 3}) == ()


def test_a_cluster_that_answers(programs, tmp_path):
    for name in ("sbatch", "squeue"):
        program(programs, name, "exit 0")
    program(programs, "sinfo", "echo 'long|up|gpu:2'")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("default-resources: {slurm_partition: short}\n")
    found = facts.slurm("mine")
    assert found.partitions == {"long": (True, True)}
    assert found.asked == ("short",)
    assert checks.check_slurm(found).level == checks.STOP


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo 'sinfo: error: x' >&2; echo 'slurm_load_partitions: no contact' >&2; exit 1",
            "no contact",
        ),
        ("exit 0", "no partition is listed"),
        ("sleep 60", "within 1 s"),
    ],
)
def test_a_cluster_that_does_not(programs, monkeypatch, script, told):
    monkeypatch.setattr(facts, "PATIENCE_S", 1)
    for name in ("sbatch", "squeue"):
        program(programs, name, "exit 0")
    program(programs, "sinfo", f"PATH=/usr/bin:/bin\n{script.replace('sleep', 'exec sleep')}")
    found = facts.slurm(None)
    assert told in found.failed
    assert checks.check_slurm(found).level == checks.NOTE


def test_a_profile_that_is_not_there_or_is_no_yaml(programs, tmp_path):
    assert facts.slurm("nowhere").unreadable == "--profile nowhere: no such profile"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("a: [\n")
    assert "config.yaml" in facts.slurm("mine").unreadable


# --- all of it ----------------------------------------------------------------------------------


def test_a_check_that_breaks_is_told_and_the_others_go_on(monkeypatch, tmp_path):
    def broken(*_):
        raise ZeroDivisionError("odd\nmachine")

    for name in vars(facts):
        if (
            callable(vars(facts)[name])
            and getattr(vars(facts)[name], "__module__", "") == facts.__name__
        ):
            monkeypatch.setattr(facts, name, broken)
    found = list(findings.findings(tmp_path))
    assert len(found) == 21
    assert {one.level for one in found} == {checks.NOTE}
    assert {one.found for one in found} == {"can't be told here (ZeroDivisionError: odd machine)"}
    assert len({one.name for one in found}) == len(found)


def test_the_command_in_an_odd_environment_leaves_no_trace(tmp_path, programs):
    """No HOME, a cache that is a file, a torch that aborts, a broken sinfo, a results folder below a file."""
    (tmp_path / "file").touch()
    (tmp_path / "torch.py").write_text("import os\nos.abort()\n")
    for name in ("sbatch", "squeue", "sinfo"):
        program(programs, name, "exit 3")
    before = sorted(tmp_path.rglob("*"))
    run = doctor(
        tmp_path,
        *("--json", "--config", f"results={tmp_path / 'file' / 'below'}"),
        HOME=None,
        XDG_CACHE_HOME=str(tmp_path / "file"),
        TMPDIR=str(tmp_path / "gone"),
        LANG="xx_YY",
        PATH=str(programs),
        PYTHONPATH=os.pathsep.join([str(shipped.PACKAGE.parent), str(tmp_path)]),
    )
    found = {one["name"]: one["level"] for one in json.loads(run.stdout)}
    assert "Traceback" not in run.stderr
    assert run.returncode == 1
    told = "segstudy: error: no run can work before this is mended: libraries, results"
    assert run.stderr.strip() == told
    assert [name for name, level in found.items() if level == "stop"] == ["libraries", "results"]
    assert {"caches", "temporary", "slurm"} <= {
        name for name, own in found.items() if own == "note"
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_prints_a_line_a_check(tmp_path, programs):
    run = doctor(tmp_path, PATH=str(programs))
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr + run.stdout
    assert len(lines) == 21
    assert lines[0].startswith("ok    python        3.")
    assert "ok    libraries     torch, SimpleITK, " in run.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["results"], "--config results: expected KEY=VALUE"),
        (["results=3"], "config: results: 3; expected a folder"),
    ],
)
def test_what_is_no_setting_is_refused(words, told):
    with pytest.raises(InputError, match=f"^{told}$"):
        doctor_command.results_root(words)


def test_a_variable_that_libraries_stumble_over_is_named(tmp_path, monkeypatch):
    """Not the libraries: all can be imported without it."""
    monkeypatch.setattr(facts, "OF_LIBRARIES", ("MPL",))
    monkeypatch.setenv("MPLBACKEND", "nope")
    found = checks.check_imports(facts.probe())
    assert found.level == checks.STOP and "matplotlib can't be imported" in found.found
    assert "unset MPLBACKEND=nope" in found.advice and "requirements.lock" not in found.advice


def test_a_working_directory_that_is_gone_is_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = checks.check_workplace(facts.workplace(Path()))
    assert found.level == checks.STOP and "the working directory was deleted" in found.found
    assert checks.check_disk(facts.place(Path("results"))).level == checks.STOP
    assert facts._answer([sys.executable, "-c", "print(1)"]).stdout == "1\n"


def test_programs_that_lack_are_told(programs):
    assert checks.check_programs(facts.programs()).level == checks.OK
    (programs / "git").unlink()
    assert checks.check_programs(facts.programs()).level == checks.NOTE
    (programs / "bash").unlink()
    found = checks.check_programs(facts.programs())
    assert found.level == checks.STOP and found.found.startswith("bash, git: not on the PATH")


def test_a_folder_of_temporary_files_that_is_full_is_no_missing_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(facts.tempfile, "gettempdir", lambda: "/")
    full = checks.Place(str(tmp_path), str(tmp_path), failed="No space left on device")
    monkeypatch.setattr(
        facts, "place", lambda folder: full if folder == tmp_path else checks.Place("/", "/")
    )
    found = checks.check_temporary(facts.temporary())
    assert "No space left on device" in found.found and "making room" in found.advice
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert "make that folder" in checks.check_temporary(facts.temporary()).advice
