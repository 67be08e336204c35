"""What `segstudy preview` foretells is what then runs: real Snakemake on a tiny cohort, edit by edit."""

import copy
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from benchmark_runs import run_quickly
from builders import AFFINE, HEART, chest, tiny_study, write_case, write_cohort, write_table
from segstudy.images.files import write_label
from workspace import Workspace

pytestmark = pytest.mark.slow

KNOWN_AFTER_THE_AUDIT = {
    *("preprocess_fingerprint", "preprocess_resample", "preprocess_list_arrays"),
    *("preprocess_list_fingerprints", "preprocess_list_images", "preprocess_list_labels"),
}
DROPS_OUT = {"preprocess_list_images", "preprocess_list_labels"}
"""Lists of the files that the audit's table names: which these are is known after it, and they may be as they were."""
THRESHOLD = """import sys
import nibabel
image = nibabel.load(sys.argv[1])
label = (image.get_fdata() > 50).astype("uint8")
nibabel.save(nibabel.Nifti1Image(label, image.affine), sys.argv[2])
"""


def segstudy(workspace, *words):
    """Run a command of the workspace's own package, in the workspace."""
    package = str(workspace.folder / "workflow")
    environment = {**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "segstudy", *words]
    run = subprocess.run(
        command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def foretold(workspace, target):
    return json.loads(segstudy(workspace, "preview", "tiny", target, "--json"))


def rules(preview):
    return Counter(job["job"].split()[0] for job in preview["jobs"])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A study of one network, measured; the tests run in order and build on each other."""
    folder = tmp_path_factory.mktemp("preview")
    study = tiny_study(write_cohort(folder / "data", moved=False), moved=False)
    del study["models"]["deep"]
    study["metrics"] = {"nsd_tolerance_mm": [2.0]}
    (folder / "threshold.py").write_text(THRESHOLD)
    workspace = Workspace(folder, study)
    assert segstudy(workspace, "status", "tiny") == "tiny: nothing has run yet below results/tiny\n"
    first = foretold(workspace, "metrics")
    assert first["at_least"]
    assert set(first["reasons"]) == {"the first run"}
    ran = workspace.run("metrics").jobs
    assert not rules(first) - ran
    assert set(ran - rules(first)) <= KNOWN_AFTER_THE_AUDIT
    return workspace


def check(workspace, *, at_least=False):
    """Compare what preview says with what then runs; return what it said."""
    said = foretold(workspace, "metrics")
    ran = workspace.run("metrics").jobs
    assert said["at_least"] == at_least
    assert set(rules(said) - ran) <= (DROPS_OUT if at_least else set())
    assert set(ran - rules(said)) <= (KNOWN_AFTER_THE_AUDIT if at_least else set())
    assert foretold(workspace, "metrics")["jobs"] == []
    return said


def test_all_is_made_and_status_says_so(workspace):
    assert foretold(workspace, "metrics")["jobs"] == []
    said = segstudy(workspace, "status", "tiny")
    assert "all that was asked for (metrics) is done" in said
    done, total = said.split()[1], said.split()[3]
    assert done == total


def test_another_tolerance(workspace):
    workspace.study["metrics"]["nsd_tolerance_mm"] = [3.0]
    workspace.write_study(workspace.study)
    said = check(workspace)
    assert said["reasons"] == {"metrics: nsd_tolerance_mm 2 -> 3": {"metrics": 3}}
    assert {job["told_by"] for job in said["jobs"]} == {"earlier runs of them"}


def test_another_model(workspace):
    command = f"{sys.executable} {workspace.folder / 'threshold.py'} {{image}} {{output}}"
    workspace.study["models"]["other"] = {
        "trainer": "external",
        "command": command,
        "labels": {"heart": 1, "aorta": 2},
        "memory_mb": 1000,
        "device": "cpu",
    }
    workspace.write_study(workspace.study)
    said = check(workspace)
    assert said["reasons"] == {"new model other": {"infer": 2, "metrics": 3}}


def test_a_new_case(workspace):
    write_case(workspace.data, 6, moved=False)
    write_table(workspace.data, 7, moved=False)
    said = check(workspace, at_least=True)
    assert set(said["reasons"]) == {"data: new case p6"}


def test_a_removed_case(workspace):
    table = workspace.data / "cohort.tsv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(row for row in rows if not row.startswith("p2\t")))
    said = check(workspace, at_least=True)
    assert set(said["reasons"]) == {"data: removed case p2"}


def test_a_corrected_label(workspace):
    _, label = chest(3)
    corrected = np.where(label == HEART, np.roll(label, 1, axis=0), label)
    write_label(workspace.data / "p3_label.nii.gz", corrected, AFFINE)
    # As `rsync -a` brings it: older than all that was made of the one before.
    os.utime(workspace.data / "p3_label.nii.gz", (10**9, 10**9))
    said = check(workspace, at_least=True)
    assert set(said["reasons"]) == {"data: p3 label changed"}


@pytest.mark.long
def test_other_folds(workspace):
    """Folds dealt afresh are one reason for all that follows."""
    workspace.study["splits"]["seed"] = 5
    workspace.write_study(workspace.study)
    said = check(workspace, at_least=True)
    assert set(said["reasons"]) == {"splits: seed 20 -> 5"}


@pytest.mark.long
def test_settings_that_are_put_back_are_restored(workspace):
    study = copy.deepcopy(workspace.study)
    study["models"]["flat"]["epochs"] = 2
    workspace.write_study(study)
    said = check(workspace)
    assert set(said["reasons"]) == {"models.flat: epochs 1 -> 2"}
    assert not any(job["restored"] for job in said["jobs"])
    study["models"]["flat"]["epochs"] = 1
    workspace.write_study(study)
    said = check(workspace)
    restored = Counter(job["stage"] for job in said["jobs"] if job["restored"] == "certain")
    assert restored == {"train": 2, "infer": 2}
    for stage in restored:
        for log in (workspace.results / "logs" / stage).glob("flat-*.log"):
            assert "made before of the same settings, data and code" in log.read_text()


@pytest.mark.long
def test_its_time_is_measured():
    """On a busy machine the smoke run may miss its target; that is not what is asked here."""
    run = run_quickly("preview")
    assert run.stdout.count("target ") == 3, run.stderr
