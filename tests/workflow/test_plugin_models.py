"""Models by plug-ins in a whole study: what ran, and what an edit of each runs again."""

import csv
import json
import shutil

import pytest

from builders import tiny_study, write_cohort
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

EXAMPLES = REPOSITORY / "resources" / "plugins"
USED = {
    "own": ["residual_net.py", "tversky_loss.py", "cutout.py"],
    "grey": ["grey_values.py"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    """An own network with an own loss and augmentation, an own trainer, and for comparison a U-Net; tests build on each other."""
    folder = tmp_path_factory.mktemp("plugins")
    study = tiny_study(write_cohort(folder / "data", moved=False), moved=False)
    deep = study["models"]["deep"]
    shared = {key: value for key, value in deep.items() if key not in ("network", "channels")}
    own = {
        **{"network": "./residual_net.py", "options": {"width": 4}},
        **shared,
        "loss": {"dice": 0.5, "cross_entropy": 0.0, "plugins": {"./tversky_loss.py": 0.5}},
        "augmentation": {"preset": "light", "plugins": ["./cutout.py"]},
    }
    grey = {
        **{"trainer": "./grey_values.py", "options": {"bin_width": 5.0}},
        **{"device": "cpu", "threads": 1, "memory_mb": 1500, "runtime_min": 30},
    }
    study["models"] = {"deep": deep, "own": own, "grey": grey}
    workspace = Workspace(folder, study)
    for names in USED.values():
        for name in names:
            shutil.copy(EXAMPLES / name, workspace.folder / "config" / "studies" / name)
    workspace.run()
    return workspace


def edited(workspace, name, old, new):
    path = workspace.folder / "config" / "studies" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_all_were_trained_and_measured_on_the_same_cases(finished):
    with (finished.results / "metrics" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    cases = {model: {r["case"] for r in rows if r["model"] == model} for model in ("deep", *USED)}
    assert len(cases["deep"]) == 6
    assert cases["own"] == cases["grey"] == cases["deep"]
    # The phantom's structures have grey values of their own.
    aorta = [float(r["value"]) for r in rows if (r["model"], r["structure"]) == ("grey", "aorta")]
    assert min(aorta) > 0.8


def test_the_report_and_the_records_name_each_plugin_by_its_code(finished):
    report = (finished.results / "report.html").read_text()
    for model, names in USED.items():
        folder = finished.results / "train" / model / "fold-0" / "seed-0"
        told = json.loads((folder / "settings.json").read_text())["plugins"].values()
        assert sorted(text.split()[0] for text in told) == sorted(names)
        for text in told:
            label, code = text.split()
            assert f"{label}, code {code}" in report
    assert str(finished.folder) not in report
    known = json.loads((finished.results / "study.json").read_text())["plugins"]
    assert known["models.own.network"].startswith("residual_net.py ")


def test_nothing_is_left_to_do_and_a_comment_changes_nothing(finished):
    assert not finished.dry_run().jobs
    for names in USED.values():
        for name in names:
            path = finished.folder / "config" / "studies" / name
            path.write_text(f"# A remark.\n{path.read_text()}")
    assert not finished.dry_run().jobs


@pytest.mark.parametrize(
    ("name", "old", "new", "trained", "predicted"),
    [
        ("residual_net.py", "0.01", "0.02", {"train_fit": 2}, {"infer_predict": 2}),
        ("tversky_loss.py", "0.3, 0.7", "0.2, 0.8", {"train_fit": 2}, {"infer_predict": 2}),
        ("cutout.py", "SIDE = 0.25", "SIDE = 0.5", {"train_fit": 2}, {"infer_predict": 2}),
        (
            "grey_values.py",
            "= bin_width",
            "= 2 * bin_width",
            {"train_plugin": 2},
            {"infer_plugin": 2},
        ),
    ],
)
def test_an_edit_runs_again_what_it_can_change(finished, name, old, new, trained, predicted):
    edited(finished, name, old, new)
    jobs = finished.dry_run().jobs
    stages = ("train_fit", "train_plugin", "infer_predict", "infer_plugin")
    assert {rule: jobs[rule] for rule in stages if jobs[rule]} == trained | predicted
    assert jobs["metrics_measure"] == 2
    assert not [rule for rule in jobs if rule.startswith(("download", "preprocess"))]
    edited(finished, name, new, old)
    assert not finished.dry_run().jobs


def test_a_study_in_another_folder_takes_what_is_finished(finished):
    """The study file moves with its plug-ins: paths are other, and nothing is computed anew."""
    studies = finished.folder / "config" / "studies"
    (finished.folder / "mine").mkdir()
    for name in ("tiny.yaml", *USED["own"], *USED["grey"]):
        shutil.move(studies / name, finished.folder / "mine" / name)
    finished.run("infer", "--config", "study=mine/tiny.yaml")
    logs = [
        *finished.results.glob("logs/train/*.log"),
        *(path for model in USED for path in finished.results.glob(f"logs/infer/{model}-*.log")),
    ]
    assert len(logs) == 6 + 4
    again = [path.name for path in logs if "made before of the same" in path.read_text()]
    assert len([name for name in again if name.startswith(("own", "grey"))]) == 8


def test_a_mistake_in_a_plugin_is_said_before_anything_runs(finished):
    (finished.folder / "mine" / "residual_net.py").write_text("class Net: ...\n")
    run = finished.run("-n", "--config", "study=mine/tiny.yaml", check=False)
    assert run.returncode
    assert "models.own.network: mine/residual_net.py: no Network in it" in run.text
