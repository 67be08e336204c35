"""nnU-Net as one more model of the workflow: same rules, same files, measured like any other."""

import copy
import csv
import importlib.util
import json
import os

import pytest

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

TINY = {
    "trainer": "nnunet",
    "epochs": 1,
    "steps_per_epoch": 1,
    "validation_steps_per_epoch": 1,
    "device": "cpu",
    "threads": 1,
    "memory_mb": 2000,
    "runtime_min": 30,
    "infer": {"mirroring": False, "keep_largest_component": "never"},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("nnunet")
    study = tiny_study(write_cohort(folder / "data", 4))
    study["splits"]["run_folds"] = [0]
    study["models"] = {"flat": study["models"]["flat"], "nnunet": TINY}
    return Workspace(folder, study)


# What Snakemake asks of conda before it lists environments.
CONDA = """#!/bin/sh
echo '{"conda_version": "24.7.1", "conda_prefix": "/nowhere", "platform": "linux-64", "get": {}}'
"""


def test_a_dry_run_needs_no_nnunet(workspace):
    run = workspace.dry_run()
    assert run.jobs["train_fit"] == run.jobs["infer_predict"] == 2


def test_its_jobs_have_an_environment_of_their_own(workspace, monkeypatch, tmp_path):
    conda = tmp_path / "conda"
    conda.write_text(CONDA)
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    listed = workspace.run("--list-conda-envs", "--sdm", "conda").text
    assert "envs/nnunet.yaml" in listed
    assert "envs/gpu.yaml" in listed


@pytest.fixture(scope="module")
def finished(workspace) -> Workspace:
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("nnunetv2 is not installed (pip install 'segstudy[nnunet]')")
    workspace.run("--until", "statistics")
    return workspace


def test_it_is_measured_and_tested_like_any_other(finished):
    results = finished.results
    with (results / "metrics" / "metrics.csv").open() as file:
        measured = {(row["model"], row["case"]) for row in csv.DictReader(file)}
    cases = {case for model, case in measured if model == "flat"}
    assert len(cases) == 2
    assert {case for model, case in measured if model == "nnunet"} == cases
    with (results / "statistics" / "tests.csv").open() as file:
        assert {(row["model_a"], row["model_b"]) for row in csv.DictReader(file)} == {
            ("flat", "nnunet")
        }
    folder = results / "train" / "nnunet" / "fold-0" / "seed-0"
    assert not (folder / "nnunet").exists()
    told = json.loads((folder / "settings.json").read_text())
    assert set(told["training"]) == {f"chest/p{n}" for n in range(4)} - {
        f"chest/{case}" for case in cases
    }
    assert not finished.dry_run("--until", "statistics").jobs


def test_how_it_predicts_trains_nothing_anew(finished):
    study = copy.deepcopy(finished.study)
    study["models"]["nnunet"]["infer"]["mirroring"] = True
    finished.write_study(study)
    jobs = finished.dry_run().jobs
    assert (jobs["train_fit"], jobs["infer_predict"]) == (0, 1)
