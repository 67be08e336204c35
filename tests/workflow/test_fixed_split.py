"""An official split into training and test cases, without folds, from the case table to the report."""

import csv

import pytest
import torch

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

TEST = ("p1", "p4", "p5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("fixed")
    table = write_cohort(folder / "data", 6, moved=False)
    header, *rows = (line.split("\t") for line in table.read_text().splitlines())
    split = ["test" if row[header.index("case")] in TEST else "train" for row in rows]
    lines = [[*header, "split"], *([*row, side] for row, side in zip(rows, split, strict=True))]
    table.write_text("".join("\t".join(line) + "\n" for line in lines))
    study = tiny_study(table, moved=False)
    study["splits"] = {"folds": 1}
    workspace = Workspace(folder, study)
    run = workspace.run()
    assert run.returncode == 0, run.text[-6000:]
    assert run.jobs["train_fit"] == run.jobs["infer_predict"] == 2  # one a model
    return workspace


def test_training_cases_are_trained_on_and_test_cases_measured(finished):
    results = finished.folder / "results" / "tiny"
    for model in ("flat", "deep"):
        weights = results / "train" / model / "fold-0" / "seed-0" / "weights.pt"
        known = torch.load(weights, weights_only=True)["provenance"]
        seen = {*known["training"], *known["validation"]}
        assert seen == {"chest/p0", "chest/p2", "chest/p3"}
        with (results / "metrics" / model / "fold-0" / "seed-0" / "chest.csv").open() as file:
            assert {row["case"] for row in csv.DictReader(file)} == set(TEST)


def test_the_report_says_that_the_split_was_fixed(finished):
    report = (finished.folder / "results" / "tiny" / "report.html").read_text()
    assert "on the test cases of a fixed split" in report
    assert "The split into training and test cases was fixed" in report
    assert "1-fold" not in report and "1 folds" not in report
