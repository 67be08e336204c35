"""The wheel in an environment and a folder that know nothing of the repository."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from builders import tiny_study, write_cohort
from workspace import REPOSITORY

pytestmark = pytest.mark.slow


def run(words, folder, check=True) -> subprocess.CompletedProcess:
    """A command without anything that leads to the repository, its output together."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=check,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An empty environment with the wheel; libraries are those of the tests, whose own segstudy it does not see."""
    folder = tmp_path_factory.mktemp("wheel")
    python = folder / "venv/bin/python"
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    built = run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
         "--quiet", "--wheel-dir", folder, REPOSITORY], folder, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout
    [wheel] = folder.glob("segstudy-*.whl")
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
         "--quiet", wheel], folder,
    )  # fmt: skip
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    # Folders that a .pth file names are put on the path; .pth files in them, as of an editable segstudy, do not count.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


@pytest.fixture
def folder(installed, tmp_path) -> Path:
    """A folder with a study of two cases, and nothing else."""
    write_cohort(tmp_path / "my scans", 2, moved=False)
    study = tiny_study("cohort.tsv", moved=False)
    (tmp_path / "my scans/study.yaml").write_text(yaml.safe_dump(study))
    return tmp_path


def test_the_wheel_holds_all_that_lies_around_the_package(installed):
    shipped = next(installed.glob("lib/python*/site-packages/segstudy/_shipped"))
    files = [
        path.relative_to(REPOSITORY)
        for name in ("config", "envs", "profiles", "workflow")
        for path in (REPOSITORY / name).rglob("*")
        if path.is_file() and not {"__pycache__", "segstudy.egg-info"} & set(path.parts)
    ]
    assert len(files) > 150
    for name in files:
        inside = name.is_relative_to("workflow/segstudy")
        place = shipped.parent / name.relative_to("workflow/segstudy") if inside else shipped / name
        assert place.read_bytes() == (REPOSITORY / name).read_bytes(), name
    for rules in shipped.glob("workflow/rules/*.smk"):
        for name in re.findall(r'"(\.\./\.\./envs/\w+\.yaml)"', rules.read_text()):
            assert (rules.parent / name).is_file(), f"{rules.name}: {name}"


def test_a_study_runs_without_a_clone(installed, folder):
    segstudy = installed / "bin/segstudy"
    where = run(
        [installed / "bin/python", "-c", "import segstudy; print(segstudy.__file__)"], folder
    )
    assert str(installed) in where.stdout
    planned = run([segstudy, "run", "my scans/study.yaml", "-n"], folder, check=False)
    assert planned.returncode == 0, planned.stdout
    assert re.search(r"^train_fit +4$", planned.stdout, re.MULTILINE)
    assert str(REPOSITORY / "workflow") not in planned.stdout
    # The command that it prints does the same by itself; this one audits.
    command = next(one for one in planned.stdout.splitlines() if one.startswith("snakemake "))
    audit = command.replace(" -n ", " download ")
    done = run(
        ["bash", "-c", f'PATH="{installed}/bin:$PATH" python -m {audit}'], folder, check=False
    )
    assert done.returncode == 0, done.stdout
    cases = (folder / "results/study/download/chest/cases.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in cases] == ["case", "p0", "p1"]
    log = (folder / "results/study/logs/download/chest-audit.log").read_text()
    assert "2 cases can be used" in log
    # What jobs see on PYTHONPATH holds the package alone, for environments with another Python.
    assert [path.name for path in (folder / ".snakemake/segstudy").iterdir()] == ["segstudy"]


def test_the_profile_and_a_mistake_without_a_clone(installed, folder):
    segstudy = installed / "bin/segstudy"
    planned = run([segstudy, "run", "my scans/study.yaml", "-n", "--profile", "slurm"], folder)
    assert "_shipped/profiles/slurm" in planned.stdout and "mem_mb=1500" in planned.stdout
    (folder / "my scans/p1.nii.gz").unlink()
    wrong = run([segstudy, "run", "my scans/study.yaml"], folder, check=False)
    assert wrong.returncode == 1
    assert wrong.stdout == (
        "segstudy: error: datasets.chest.source.path: my scans/cohort.tsv: p1: p1.nii.gz: no such file\n"
    )
    assert not (folder / "results/study/download").exists()
