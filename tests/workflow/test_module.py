"""segstudy as a Snakemake module of somebody's own workflow, from a local path."""

import os
import subprocess
import sys

import pytest
import yaml

from builders import tiny_study, write_cohort
from workspace import REPOSITORY

pytestmark = pytest.mark.slow

SNAKEFILE = f"""
module segstudy:
    snakefile: "{REPOSITORY}/workflow/Snakefile"
    config: {{"study": "my/study.yaml"}}

use rule * from segstudy as ours_*

rule mine:
    default_target: True
    input: rules.ours_all.input

rule audited:
    input: rules.ours_download.input
"""


@pytest.fixture
def folder(tmp_path):
    """A workflow of one's own that takes segstudy's rules in, and a study."""
    write_cohort(tmp_path / "my", 2, moved=False)
    (tmp_path / "my/study.yaml").write_text(yaml.safe_dump(tiny_study("cohort.tsv", moved=False)))
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def snakemake(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_module_runs_and_writes_down_whose_results_they_are(folder):
    planned = snakemake(folder, "-n", "--quiet", "rules")
    assert planned.returncode == 0, planned.stdout
    assert "ours_train_fit" in planned.stdout and not (folder / "results").exists()
    done = snakemake(folder, "audited")
    assert done.returncode == 0, done.stdout
    assert (folder / "results/study/download/chest/cases.tsv").is_file()
    assert (folder / "results/study/study.json").is_file()


def test_a_module_keeps_the_guard_against_lost_jobs(folder):
    profile = str(REPOSITORY / "profiles/slurm")
    run = snakemake(folder, "--profile", profile, "--slurm-array-jobs", "ours_repair_apply")
    assert run.returncode == 1
    assert "shards would be lost" in run.stdout
    assert not (folder / "results/study/download").exists()
