"""Mistakes in the study file end Snakemake with the line a person needs."""

import importlib.util
import re

import pytest

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("errors")
    return Workspace(folder, tiny_study(write_cohort(folder / "data", 2, moved=False), moved=False))


def test_an_unknown_study_lists_the_known_ones(workspace):
    run = workspace.run("--dry-run", "--config", "study=hippocampos", check=False)
    assert run.returncode == 1
    assert "no such study file" in run.text
    assert "demo, hippocampus, " in run.text and ", tiny" in run.text


def test_a_misspelt_key_is_named(workspace):
    study = tiny_study(workspace.data / "cohort.tsv", moved=False)
    study["models"]["deep"]["epocs"] = 3
    workspace.write_study(study)
    run = workspace.run("--dry-run", check=False)
    assert run.returncode == 1
    assert re.search(
        r"tiny\.yaml, line \d+, column \d+: models\.deep\.epocs: unknown key; did you mean epochs\?",
        run.text,
    )
    assert "Traceback" not in run.text


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed"
)
def test_an_optional_package_that_lacks_is_told_before_any_job(workspace):
    study = tiny_study(workspace.data / "cohort.tsv", moved=False)
    study["models"]["deep"]["tensorboard"] = True
    workspace.write_study(study)
    run = workspace.run(check=False)
    assert run.returncode == 1
    assert "tiny.yaml: models.deep: tensorboard: true needs the package tensorboard" in run.text
    assert "Traceback" not in run.text
    assert not (workspace.results / "logs").exists()


def test_a_bad_case_stops_the_study_by_name(workspace):
    workspace.write_study(tiny_study(workspace.data / "cohort.tsv", moved=False))
    (workspace.data / "p1_label.nii.gz").write_bytes(b"no image")
    # The plain command says in its own way where the job stands; segstudy run says what is wrong, and what to read.
    for run in (workspace.run(check=False), workspace.segstudy_run(check=False)):
        assert run.returncode == 1
        assert "segstudy: error: p1: p1_label.nii.gz: not readable as an image" in run.text
        assert "Traceback" not in run.text
    for words in ("RuleException", "CalledProcessError", "Error in rule", ".smk"):
        assert words not in run.text
    log = "results/tiny/logs/download/chest-audit.log"
    assert f"segstudy: error: download_audit failed; its log: {log}\n" in run.text
    assert not (workspace.results / "download/chest/cases.tsv").exists()
    assert "p1_label.nii.gz" in (workspace.results / "download/chest/problems.tsv").read_text()
