"""Models that see no real image, or are not trained at all: same rules, same files, measured like any other."""

import csv
import sys

import numpy as np
import pytest

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

PROGRAM = """
import sys, nibabel, numpy
image, output = sys.argv[1:]
image = nibabel.load(image)
grey = numpy.asarray(image.dataobj)
label = numpy.where(grey > 130, 20, numpy.where(grey > 60, 10, 0)).astype("uint8")
nibabel.save(nibabel.Nifti1Image(label, image.affine), output)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("models")
    study = tiny_study(write_cohort(folder / "data", 4, moved=False), moved=False)
    study["datasets"]["chest"]["modality"] = "MR"
    study["splits"]["run_folds"] = [0]
    program = folder / "thresholds.py"
    program.write_text(PROGRAM)
    study["models"] = {
        "deep": study["models"]["deep"],
        "drawn": {**study["models"]["deep"], "trainer": "synth"},
        "thresholds": {
            "trainer": "external",
            "command": [sys.executable, str(program), "{image}", "{output}"],
            "labels": {"heart": 10, "aorta": 20},
        },
    }
    workspace = Workspace(folder, study)
    workspace.ran = workspace.run()
    return workspace


def test_each_runs_what_it_needs_and_no_more(finished):
    jobs = finished.ran.jobs
    assert (
        jobs["train_fit"],
        jobs["train_synth"],
        jobs["infer_predict"],
        jobs["infer_external"],
    ) == (
        1,
        1,
        2,
        1,
    )
    assert jobs["preprocess_tissues"] == jobs["preprocess_resample"]
    assert not finished.dry_run().jobs


def test_all_are_measured_on_the_same_cases(finished):
    with (finished.results / "metrics" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    cases = {model: {r["case"] for r in rows if r["model"] == model} for model in ("deep", "drawn")}
    assert len(cases["deep"]) == 2 and cases["drawn"] == cases["deep"]
    found = [
        float(r["value"])
        for r in rows
        if (r["model"], r["metric"], r["structure"]) == ("thresholds", "dice", "aorta")
    ]
    assert len(found) == 2 and min(found) > 0.8  # thresholds are the phantom's own grey values


def test_the_report_shows_what_was_drawn_and_tells_of_both(finished):
    folder = finished.results / "train" / "drawn" / "fold-0" / "seed-0"
    with np.load(folder / "samples.npz") as drawn:
        assert drawn["images"].shape == drawn["labels"].shape == (5, 32, 32)
    assert (finished.results / "figures" / "synthesis-drawn.png").is_file()
    report = (finished.results / "report.html").read_text()
    assert "images drawn from the label maps alone" in report
    assert "was not trained here" in report


def test_the_same_data_elsewhere_are_taken_from_what_was_kept(finished):
    """Of each kind of model: drawn images, a program of others, and for comparison an own network."""

    def made():
        files = [
            *finished.results.glob("train/**/*.[pn][tp]*"),
            *finished.results.glob("infer/**/*.gz"),
        ]
        return {str(path): path.read_bytes() for path in files}

    before = made()
    finished.data.rename(finished.folder / "scans")
    finished.study["datasets"]["chest"]["source"]["path"] = str(
        finished.folder / "scans/cohort.tsv"
    )
    finished.write_study(finished.study)
    jobs = finished.run("infer").jobs
    names = ("train_fit", "train_synth", "infer_predict", "infer_external")
    assert [jobs[name] for name in names] == [1, 1, 2, 1]
    logs = [*finished.results.glob("logs/train/*.log"), *finished.results.glob("logs/infer/*.log")]
    assert len(logs) == 5
    for log in logs:
        assert "made before of the same settings, data and code" in log.read_text(), log.name
    assert len(before) == 2 * 2 + 1 + 3 * 2
    assert made() == before


def test_an_edit_reruns_its_own_arm(finished):
    """The generator's and the program runner's; each by itself: tests/unit/jobs/test_code.py."""
    finished.edit("train/synth.py", "EDITED = 1")
    finished.edit("infer/external.py", "EDITED = 1")
    jobs = finished.dry_run().jobs
    assert (jobs["train_fit"], jobs["train_synth"], jobs["infer_external"]) == (0, 1, 1)
