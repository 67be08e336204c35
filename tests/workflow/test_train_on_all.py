"""A training on every case after the cross-validation, for use outside the study; nothing in the study is predicted by it."""

import json

import pytest
import torch

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("on_all")
    table = write_cohort(folder / "data", 4, moved=False)
    rows = table.read_text().splitlines()
    columns = rows[0].split("\t")
    if "split" not in columns:
        rows = [
            f"{rows[0]}\tsplit",
            *(f"{row}\t{'test' if n == 3 else ''}" for n, row in enumerate(rows[1:])),
        ]
    table.write_text("\n".join(rows) + "\n")
    study = tiny_study(table, moved=False)
    study["splits"] |= {"folds": 3, "run_folds": [0]}
    study["models"] = {"deep": study["models"]["deep"] | {"train_on_all": True, "seeds": [0, 4]}}
    return Workspace(folder, study)


def test_it_is_trained_once_a_seed_on_every_case_that_is_not_for_testing(workspace):
    run = workspace.run("train")
    assert run.returncode == 0, run.text
    assert run.jobs["train_all_fit"] == run.jobs["train_fit"] == 2
    results = workspace.folder / "results" / "tiny"
    for seed in (0, 4):
        folder = results / "train" / "deep" / "all" / f"seed-{seed}"
        known = torch.load(folder / "weights.pt", weights_only=True)["provenance"]
        assert known["fold"] == "all" and known["seed"] == seed
        seen = set(known["training"])
        assert seen == {"chest/p0", "chest/p1", "chest/p2"}
        assert known["validation"] == []
        assert set(known["images"]) == seen
        of_fold = torch.load(
            results / "train" / "deep" / "fold-0" / f"seed-{seed}" / "weights.pt", weights_only=True
        )["provenance"]
        assert {*of_fold["training"], *of_fold["validation"]} < seen
    assert json.loads((results / "preprocess" / "plans" / "default" / "fold-all.json").read_text())


def test_it_is_made_with_the_study_and_predicts_nothing_there(workspace):
    run = workspace.dry_run()
    assert run.jobs["infer_predict"] == 2  # a seed each of fold 0
    assert not any(rule.startswith("train") for rule in run.jobs)
    assert "all/seed" not in "".join(line for line in run.text.splitlines() if "infer" in line)


def test_taken_out_again_nothing_is_trained(workspace):
    study = json.loads(json.dumps(workspace.study))
    study["models"]["deep"]["train_on_all"] = False
    workspace.write_study(study)
    assert not any(rule.startswith("train") for rule in workspace.dry_run().jobs)
