"""An ensemble in a study: predicted fold by fold, measured and reported as any other model."""

import csv

import numpy as np
import pytest
import torch

from builders import tiny_study, write_cohort
from segstudy.images.files import read_label
from segstudy.infer import image as steps
from segstudy.networks.weights import load_weights
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("ensembles")
    study = tiny_study(write_cohort(folder / "data", 4, moved=False), moved=False)
    deep = study["models"]["deep"] | {"infer": {"keep_largest_component": "never"}}
    study["models"] = {"deep": deep | {"seeds": [0, 3]}, "wide": deep | {"channels": [6, 8]}}
    study["ensembles"] = {"both": ["deep", "wide"]}
    workspace = Workspace(folder, study)
    run = workspace.run()
    assert run.returncode == 0, run.text[-6000:]
    assert run.jobs["infer_ensemble"] == 2
    return workspace


def test_its_labels_are_those_of_the_mean_probability_of_the_folds_networks(finished):
    results = finished.folder / "results" / "tiny"
    for fold in (0, 1):
        folders = [("deep", 0), ("deep", 3), ("wide", 0)]
        members = [
            load_weights(results / "train" / name / f"fold-{fold}" / f"seed-{seed}" / "weights.pt")
            for name, seed in folders
        ]
        predicted = sorted((results / f"infer/both/fold-{fold}/seed-0/chest").glob("*.nii.gz"))
        assert predicted
        for file in predicted:
            image = finished.data / f"{file.name}"
            given = [steps.read(member, [image]) for member in members]
            mean = sum(
                np.asarray(steps.probabilities(member, array, torch.device("cpu")), np.float32)
                for member, (array, _) in zip(members, given, strict=True)
            ) / len(members)
            expected = steps.restore(mean, given[0][1]).array
            found = read_label(file).array
            values = {0: 0, 1: finished.study["datasets"]["chest"]["structures"]["heart"]}
            values[2] = finished.study["datasets"]["chest"]["structures"]["aorta"]
            agree = np.mean(np.vectorize(values.get)(expected) == found)
            assert agree > 0.999, (fold, file.name, agree)


def test_it_is_measured_and_reported_like_its_members(finished):
    results = finished.folder / "results" / "tiny"
    with (results / "metrics" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    cases = {
        model: {row["case"] for row in rows if row["model"] == model} for model in ("both", "deep")
    }
    assert cases["both"] == cases["deep"] and len(cases["both"]) == 4
    report = (results / "report.html").read_text()
    assert "is the ensemble of deep and wide" in report
    assert "3 networks, all seeds among them, were averaged" in report
