"""Only the stages whose inputs changed run again: real Snakemake on a tiny cohort."""

import copy
import csv
import json
import os
import re

import numpy as np
import pandas as pd
import pytest

from builders import HEART, tiny_study, write_case, write_cohort, write_table
from segstudy.cases import read_splits
from segstudy.images.files import read_label, write_label
from segstudy.metrics.table import read_measures
from segstudy.publish.rulegraph import RULES, waits
from workspace import Workspace

pytestmark = pytest.mark.slow

DOWNSTREAM = {
    "infer_predict",
    "metrics_measure",
    "metrics_collect",
    "statistics",
    "publish_figures",
}
DOWNSTREAM |= {"publish_report", "publish_viewer"}


def folds_of(workspace) -> dict[str, int]:
    """The fold of each case."""
    splits = read_splits(workspace.results / "preprocess" / "splits.tsv")
    return {split.case: split.fold for split in splits}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """The tiny study, run to its end once; the tests run in order and build on each other."""
    folder = tmp_path_factory.mktemp("rerun")
    table = write_cohort(folder / "data")
    workspace = Workspace(folder, tiny_study(table))
    first = workspace.run()
    assert first.jobs["train_fit"] == 4
    assert first.jobs["repair_apply"] == len(first.shards("repair_apply"))
    return workspace


@pytest.fixture
def restored(workspace):
    """The workspace, with study and code put back after the test."""
    study = copy.deepcopy(workspace.study)
    package = workspace.folder / "workflow" / "segstudy"
    code = {path: path.read_bytes() for path in package.rglob("*.py")}
    yield workspace
    workspace.write_study(study)
    for path, content in code.items():
        path.write_bytes(content)


def test_the_chain_leaves_what_it_promises(workspace):
    results = workspace.results
    with (results / "metrics" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    measured = {(row["model"], row["case"]) for row in rows}
    assert measured == {(model, f"p{i}") for model in ("flat", "deep") for i in range(6)}
    assert (results / "report.html").stat().st_size > 10_000
    transform = json.loads((results / "repair/chest/estimate/transform.json").read_text())
    assert transform["iou_before"] < 0.5 < 0.95 <= transform["iou_after"]


def test_the_reports_rule_graph_is_snakemakes(workspace):
    told = workspace.run("--rulegraph").text
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', told))
    direct = {name: set() for name in names.values()}
    for first, then in re.findall(r"(\d+) -> (\d+)", told):
        direct[names[then]].add(names[first])
    direct = {name: first for name, first in direct.items() if name in RULES}

    def before(rule):
        return direct[rule].union(*map(before, direct[rule]))

    least = {
        rule: {one for one in first if not any(one in before(other) for other in first)}
        for rule, first in direct.items()
    }
    assert len(least) > 15
    assert {rule: set(first) for rule, first in waits(list(direct)).items()} == least


def test_nothing_changed_nothing_runs(workspace):
    assert not workspace.dry_run().jobs


def test_how_models_are_compared_and_where_jobs_run_redraw_what_tells_of_it(restored):
    """The other slices of a study are told apart in tests/unit/jobs."""
    study = copy.deepcopy(restored.study)
    study["models"]["flat"].update(memory_mb=3000, threads=2)
    restored.write_study(study)
    assert set(restored.dry_run().jobs) == {"publish_report"}
    study["statistics"] = {"alpha": 0.01}
    restored.write_study(study)
    again = {"statistics", "publish_figures", "publish_viewer", "publish_report"}
    assert set(restored.dry_run().jobs) == again


def test_an_edit_to_the_loss_retrains(restored):
    restored.edit("train/loss.py", "EDITED = 1")
    jobs = restored.dry_run().jobs
    assert jobs["train_fit"] == 4
    assert set(jobs) == DOWNSTREAM | {"train_fit"}


def test_how_cases_are_divided_into_jobs_audits_and_estimates_nothing_anew(restored):
    study = copy.deepcopy(restored.study)
    study["datasets"]["chest"]["cases_per_job"] = 3
    restored.write_study(study)
    jobs = restored.dry_run().jobs
    assert not {"download_audit", "repair_estimate"} & set(jobs)
    assert "repair_apply" in jobs


def test_a_shard_is_planned_where_the_audit_has_to_run_again(restored):
    study = copy.deepcopy(restored.study)
    study["datasets"]["chest"]["on_bad_case"] = "drop"
    restored.write_study(study)
    shard = next((restored.results / "repair/chest/labels").iterdir())
    jobs = restored.dry_run(str(shard.relative_to(restored.folder))).jobs
    assert {"download_audit", "repair_apply"} <= set(jobs)


def test_what_is_done_is_reported_without_training_the_rest(workspace):
    weights = workspace.results / "train/deep/fold-1/seed-0/weights.pt"
    weights.rename(weights.with_suffix(".aside"))
    jobs = workspace.dry_run("--config", "study=tiny", "partial=true").jobs
    weights.with_suffix(".aside").rename(weights)
    assert set(jobs) == {"metrics_collect", "statistics"} | {
        rule for rule in DOWNSTREAM if rule.startswith("publish")
    }


@pytest.mark.long
def test_a_corrected_label_reruns_what_learns_from_it_and_results_stand_under_both(workspace):
    """Of p3, which the tests after this one replace anyway."""
    results = workspace.results
    old = read_measures(results / "metrics/metrics.csv")
    repaired = next(results.glob("repair/chest/labels/*/p3.nii.gz"))
    label = read_label(repaired)
    array = label.array.copy()
    voxels = np.argwhere(array == HEART)
    cut = voxels[voxels[:, 2] <= np.median(voxels[:, 2])]
    array[tuple(cut.T)] = 0
    write_label(workspace.folder / "drawn.nii.gz", array, label.affine)
    review = ("segstudy", "review")
    told = ("--study", "tiny", "--who", "Ada", "--why", "the lower half is no heart")
    workspace._run([*review, "accept", "p3", "drawn.nii.gz", *told], check=True)
    # A study that comes with the workflow keeps them with its results.
    assert (results / "tiny.corrections/chest/p3.json").is_file()
    run = workspace.run("results/tiny/review/corrections", "results/tiny/review/chest/labels.csv")
    shard = {repaired.parent.name}
    assert run.jobs["download_audit"] == 1
    assert not run.jobs["repair_estimate"]
    for rule in ("repair_apply", "preprocess_fingerprint", "preprocess_resample"):
        assert run.shards(rule) == shard, rule
    tested_by = folds_of(workspace)["p3"]
    for log in results.glob("logs/train/*.log"):
        assert ("made before" in log.read_text()) == (f"fold-{tested_by}" in log.name), log

    # Under the delivered label, the same models say the same of p3; under the corrected one they don't.
    now, other = (read_measures(results / f"{name}/metrics.csv") for name in ("metrics", "review"))
    assert read_measures(results / "review/before/metrics/metrics.csv").equals(old)
    keys = ["model", "case", "structure", "metric"]
    old, now, other = (
        one[one["case"] == "p3"].set_index(keys)[["value", "n_reference_voxels"]].sort_index()
        for one in (old, now, other)
    )
    assert now.equals(old)
    changed = other.compare(now).index.get_level_values("structure")
    assert set(changed) == {"heart"}
    counts = pd.read_csv(results / "review/corrections/changes.csv").set_index("structure")
    assert counts.loc["heart", "voxels_removed"] == len(cut)
    assert counts.loc["aorta", "n_changed"] == 0
    means = pd.read_csv(results / "review/corrections/means.csv")
    moved = means[means["metric"] == "dice"].set_index(["model", "structure"])["difference"]
    share = (other["value"] - now["value"]).xs("dice", level="metric").droplevel("case") / 6
    assert moved.to_dict() == pytest.approx(share.to_dict())
    chains = pd.read_csv(results / "review/chest/labels.csv")
    assert set(chains["case"]) == {f"p{number}" for number in range(6)}
    chain = chains[chains["case"] == "p3"]
    assert chain["step"].tolist() == ["delivered", "repaired", "corrected"]
    assert chain["holds"].tolist() == [False, False, True]
    assert chain["who"].tolist()[2] == "Ada"
    assert len(set(chain["voxels"])) == 3

    workspace._run([*review, "undo", "p3", "--study", "tiny"], check=True)
    assert "download_audit" in workspace.dry_run("preprocess").jobs


def test_one_replaced_label_reruns_its_shard_and_what_follows(workspace):
    verdicts = {
        path.parent.name: path
        for path in workspace.results.glob("repair/chest/labels/*/verdicts.csv")
    }
    shard = next(name for name, path in verdicts.items() if "p3," in path.read_text())
    write_case(workspace.data, 3, moved=False)
    # As `rsync -a` brings it: older than all that was made of the one before.
    for file in workspace.data.glob("p3*"):
        os.utime(file, (10**9, 10**9))
    run = workspace.run("preprocess")
    assert run.shards("repair_apply") == {shard}
    assert run.shards("preprocess_fingerprint") == {shard}
    assert run.shards("preprocess_resample") == {shard}
    assert run.jobs["download_audit"] == 1
    assert not run.jobs["repair_estimate"]
    left = workspace.dry_run().jobs
    assert left["train_fit"] == 4
    assert not {"download_audit", "repair_apply", "preprocess_resample"} & set(left)


def test_one_new_case_runs_one_shard_and_moves_no_other(workspace):
    train = ("train", "--config", "study=tiny", "only=flat")
    workspace.run(*train)
    write_case(workspace.data, 6, moved=True)
    write_table(workspace.data, 7, moved=True)
    before = folds_of(workspace)
    run = workspace.run(*train)
    after = folds_of(workspace)
    new = set(after) - set(before)
    assert len(new) == 1
    assert after.items() >= before.items()
    # The fold that tests the new case learns from the same as before, and so is not trained again.
    tested_by = after[new.pop()]
    for log in workspace.results.glob("logs/train/flat*.log"):
        assert ("made before" in log.read_text()) == (f"fold-{tested_by}" in log.name), log
    assert run.jobs["repair_apply"] == 1
    assert run.jobs["preprocess_fingerprint"] == 1
    assert run.jobs["preprocess_resample"] == 1
    assert not run.jobs["repair_estimate"]
    assert not workspace.dry_run("preprocess").jobs
