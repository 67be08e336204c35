"""`make evaluate`: predictions that are there already, to a report, and nothing trained."""

import copy
import subprocess
import sys

import pandas
import pytest
import yaml

from segstudy.images.files import read_label, write_label
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("evaluate")
    script = REPOSITORY / "resources" / "evaluate" / "make_predictions.py"
    subprocess.run([sys.executable, script, folder / "made"], check=True)
    study = yaml.safe_load((folder / "made" / "evaluate.yaml").read_text())
    study["datasets"]["abdomen"]["source"]["path"] = str(folder / "made" / "cases.tsv")
    for name, model in study["models"].items():
        model["files"] = str(folder / "made" / name / "{case}.nii.gz")
    workspace = Workspace(folder, study)
    workspace.ran = workspace.run()
    return workspace


def test_nothing_is_trained_or_resampled(finished):
    stages = {rule: number for rule, number in finished.ran.jobs.items() if number}
    assert not [rule for rule in stages if rule.startswith("train")]
    assert {rule for rule in stages if rule.startswith("preprocess")} == {
        *("preprocess_folds", "preprocess_split"),
        *("preprocess_list_images", "preprocess_list_labels"),
    }
    assert {rule: number for rule, number in stages.items() if rule.startswith("infer")} == {
        "infer_predictions": 3
    }


def test_what_is_wrong_with_each_folder_is_measured(finished):
    table = pandas.read_csv(finished.results / "metrics" / "metrics.csv")
    missing = table[table["status"] == "missing_file"]
    assert set(zip(missing["model"], missing["case"], strict=True)) == {("fine", "case_04")}
    dice = table[table["metric"] == "dice"].groupby(["model", "structure"])["value"].mean()
    assert dice["values", "liver"] > 0.8  # its value is 5 in the files
    assert dice["sides", "left_kidney"] < dice["values", "left_kidney"] - 0.15
    summary = pandas.read_csv(finished.results / "statistics" / "summary.csv")
    assert summary.query("model == 'fine'")["n_missing"].max() == 1


def test_the_report_says_what_it_is_and_nothing_of_training(finished):
    page = (finished.results / "report.html").read_text()
    assert "by predictions that were there before" in page
    assert "Missing predictions count as the worst value: fine 1 on abdomen" in page
    assert 'id="training"' not in page
    assert "Networks and training" not in page


def test_a_replaced_prediction_is_measured_again_and_no_other(finished):
    assert not finished.dry_run().jobs
    file = finished.folder / "made" / "sides" / "case_00.nii.gz"
    label = read_label(file)
    write_label(file, label.array[::-1], label.affine)
    jobs = finished.dry_run().jobs
    assert (jobs["infer_predictions"], jobs["metrics_measure"]) == (1, 1)


def test_a_table_of_subjects_and_their_groups_rerun_statistics_and_report_alone(finished):
    finished.run()  # what a test before has replaced
    people = finished.folder / "made" / "people.csv"
    lines = [f"case_{number:02d},{'FM'[number % 2]},{40 + number}" for number in range(12)]
    people.write_text("\n".join(["subject,sex,age", *lines]))
    study = copy.deepcopy(finished.study)
    study["datasets"]["abdomen"]["participants"] = str(people)
    study["statistics"] = {"metrics": ["dice"], "subgroups": ["sex"]}
    finished.write_study(study)
    publishing = {"publish_figures", "publish_viewer", "publish_report"}
    ran = set(finished.run("statistics").jobs)
    assert {"download_participants", "statistics"} <= ran
    assert not [
        rule for rule in ran if rule.startswith(("download_audit", "preprocess", "metrics"))
    ]
    table = pandas.read_csv(finished.results / "statistics" / "subgroups.csv")
    assert set(table["group"]) == {"F", "M"}
    study["statistics"]["subgroups"] = ["sex", "age"]
    finished.write_study(study)
    assert set(finished.dry_run("statistics").jobs) == {"statistics"}
    people.write_text(people.read_text().replace(",F,", ",M,"))
    jobs = set(finished.dry_run().jobs)
    assert jobs == {"statistics", "download_participants", *publishing}
