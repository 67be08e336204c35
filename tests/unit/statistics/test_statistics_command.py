"""`segstudy statistics` from a table to its files."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmark_runs import run_quickly
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.statistics.importers import read_tables


@pytest.fixture
def metrics(tmp_path):
    """Three models on twenty cases: good and steady, worse, and one that fails twice."""
    rng = np.random.default_rng(4)
    rows = []
    for n in range(20):
        hard = rng.normal(0, 0.05)
        dice = {"good": 0.85 + hard, "worse": 0.80 + hard, "fails": 0.84 + hard}
        for model, value in dice.items():
            value = value + rng.normal(0, 0.01)
            distance = 30 * (1 - value)
            if model == "fails" and n in (3, 11):
                value, distance = 0.0, np.inf
            rows.append(["s", "chest", model, 0, 0, f"c{n:02d}", "heart", "dice", value, 400.0])
            rows.append(
                ["s", "chest", model, 0, 0, f"c{n:02d}", "heart", "hd95_mm", distance, 400.0]
            )
    names = ["study", "dataset", "model", "fold", "seed", "case", "structure", "metric", "value"]
    pd.DataFrame(rows, columns=[*names, "diagonal_mm"]).to_csv(
        tmp_path / "metrics.csv", index=False
    )
    return tmp_path / "metrics.csv"


def run(metrics, folder, **settings):
    settings = {"metrics": ["dice", "hd95_mm"], "bootstrap_samples": 200, **settings}
    code = main(
        [
            "statistics",
            "--metrics",
            str(metrics),
            "--output",
            str(folder),
            "--settings",
            json.dumps(settings),
        ]
    )
    assert code == 0
    return folder


def test_the_files(metrics, tmp_path):
    folder = run(metrics, tmp_path / "statistics")
    summary = pd.read_csv(folder / "summary.csv").set_index(["model", "metric"])
    assert summary.loc[("fails", "hd95_mm"), ["n_subjects", "n_infinite", "n_finite"]].tolist() == [
        20,
        2,
        18,
    ]
    assert summary.loc[("good", "dice"), "mean"] == pytest.approx(0.85, abs=0.03)
    tests = pd.read_csv(folder / "tests.csv").set_index(["metric", "model_a", "model_b"])
    assert len(tests) == 6
    planted = tests.loc[("dice", "good", "worse")]
    assert planted["significant"]
    assert planted["mean_difference"] == pytest.approx(0.05, abs=0.01)
    assert planted["share_a_better"] > 0.9
    failing = tests.loc[("hd95_mm", "good", "fails")]
    assert (failing["test"], failing["n_infinite"]) == ("swap_ranks", 2)
    report = (folder / "report.md").read_text()
    assert (
        "good against worse: good is better in dice, by a test that swaps the models' labels per subject, mean = 0.05"
        in report
    )
    assert "each case was taken as a subject of its own" in report
    assert "2 infinite differences" in report
    assert report.count("\n- heart: mean ranks") == 2
    assert report.count("\n- ") == 8
    ranking = pd.read_csv(folder / "ranking.csv").set_index(["metric", "model"])
    assert ranking.loc[("dice", "good"), "mean_rank"] < ranking.loc[("dice", "worse"), "mean_rank"]


def test_the_same_input_gives_the_same_bytes(metrics, tmp_path):
    one, other = run(metrics, tmp_path / "one"), run(metrics, tmp_path / "other")
    for name in sorted(path.name for path in one.iterdir()):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_single_model(metrics, tmp_path):
    table = pd.read_csv(metrics)
    table[table["model"] == "good"].to_csv(metrics, index=False)
    folder = run(metrics, tmp_path / "statistics")
    assert (folder / "tests.csv").read_text().count("\n") == 1
    assert "only one model" in (folder / "report.md").read_text()
    assert len(pd.read_csv(folder / "summary.csv")) == 2


def test_an_error_is_one_line(metrics, tmp_path, capsys):
    code = main(
        [
            "statistics",
            "--metrics",
            str(metrics),
            "--output",
            str(tmp_path / "s"),
            "--settings",
            '{"metrics": ["dice", "nsd"]}',
        ]
    )
    assert code == 1
    assert "statistics.metrics: 'nsd' was not measured" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def summary_json(path, dice):
    """As nnU-Net writes it; 100 voxels in each reference and prediction, or none at all."""
    cases = [
        {
            "metrics": {
                "1": {
                    "Dice": value,
                    "IoU": value / (2 - value),
                    "TP": 0 if value != value else round(100 * value),
                    "n_pred": 0 if value != value else 100,
                    "n_ref": 0 if value != value else 100,
                }
            },
            "prediction_file": f"/somewhere/case_{number}.nii.gz",
            "reference_file": f"/labels/case_{number}.nii.gz",
        }
        for number, value in enumerate(dice)
    ]
    path.write_text(json.dumps({"metric_per_case": cases}))
    return path


def test_summaries_of_nnunet(tmp_path):
    one = summary_json(tmp_path / "a.json", [0.9, 0.8, 0.85, 0.95, float("nan")])
    other = summary_json(tmp_path / "b.json", [0.8, 0.75, 0.77, 0.81, float("nan")])
    table = read_tables([f"big={one}", f"small={other}"])
    wide = table.pivot(index=["model", "case"], columns="metric", values="value")
    assert wide.loc[("big", "case_1")].to_dict() == pytest.approx(
        {"dice": 0.8, "iou": 2 / 3, "precision": 0.8, "recall": 0.8, "relative_volume_error": 0}
    )
    assert wide.loc[("small", "case_4")].isna().all()
    settings = {"metrics": ["dice", "iou"], "bootstrap_samples": 100}
    arguments = ["--output", str(tmp_path / "s"), "--settings", json.dumps(settings)]
    assert main(["statistics", "--metrics", f"big={one}", f"small={other}", *arguments]) == 0
    tests = pd.read_csv(tmp_path / "s" / "tests.csv").set_index("metric")
    assert tests.loc["dice", ["n_subjects", "n_left_out"]].tolist() == [4, 1]
    assert tests.loc["dice", "mean_difference"] == pytest.approx(0.0925)


def test_a_table_of_monai(tmp_path):
    path = tmp_path / "val_mean_dice_raw.csv"
    path.write_text(
        "filename,heart,aorta,mean\n/x/p1.nii.gz,0.9000,nan,0.9\n/x/p2.nii.gz,0.8,0.7,0.75\n"
    )
    found = read_tables([f"unet={path}"]).set_index(["case", "structure"])
    assert set(found["metric"]) == {"dice"}
    np.testing.assert_equal(
        found["value"].to_dict(),
        {("p1", "heart"): 0.9, ("p2", "heart"): 0.8, ("p1", "aorta"): np.nan, ("p2", "aorta"): 0.7},
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("m=bad.json", "not a summary.json of nnU-Net"),
        ("m=nowhere.json", "no such file"),
        ("m=bad.csv", "begins with 'filename'"),
    ],
)
def test_tables_that_are_something_else(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"mean": {}}')
    (tmp_path / "bad.csv").write_text("case,value\na,1\n")
    with pytest.raises(InputError, match=message):
        read_tables([source])


@pytest.mark.long
def test_the_benchmark_of_error_rates_runs():
    run = run_quickly("error_rates")
    assert run.returncode == 0, run.stdout + run.stderr
    levels = [line for line in run.stdout.splitlines() if line.startswith("target type I error")]
    # Three shapes: at three sizes with seven kinds of scans, of two sites, and as subgroups of three kinds.
    assert len(levels) == 3 * 3 * 7 + 3 + 3 * 3
    assert all(0 <= float(line.split(": ")[1].split()[0]) <= 1 for line in levels)
    assert any("of 24 tests" in line or "24 tests of" in line for line in run.stdout.splitlines())


@pytest.mark.long
def test_the_benchmark_of_decisions_runs():
    run = run_quickly("decisions")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "| left out | 0" in run.stdout and "| voxel | " in run.stdout


def _with_rater(metrics, folder, drew):
    """The table with a reader who drew some cases better than any model, and, as of a missing file, not the others."""
    table = pd.read_csv(metrics, dtype=str)
    rows = table[table["model"] == "good"].assign(model="reader", status="ok")
    rows["value"] = rows["metric"].map({"dice": "0.99", "hd95_mm": "0.5"})
    lacking = ~rows["case"].isin(drew)
    rows.loc[lacking, ["value", "status"]] = ["", "missing_file"]
    path = folder / "with_rater.csv"
    # Before the models, so that its place tells if the order of rows counts.
    pd.concat([rows, table.assign(status="ok")]).to_csv(path, index=False)
    return path


def test_a_rater_changes_no_byte_of_the_comparison(metrics, tmp_path):
    pd.read_csv(metrics, dtype=str).assign(status="ok").to_csv(metrics, index=False)
    drew = [f"c{n:02d}" for n in range(0, 20, 5)]
    table = _with_rater(metrics, tmp_path, drew)
    without = run(metrics, tmp_path / "without")
    settings = json.dumps({"metrics": ["dice", "hd95_mm"], "bootstrap_samples": 200})
    asked = ["--metrics", table, "--output", tmp_path / "with", "--settings", settings]
    assert main(["statistics", *map(str, asked), "--raters", "reader"]) == 0
    names = sorted(path.name for path in without.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "with").iterdir())
    for name in names:
        old, new = ((folder / name).read_text() for folder in (without, tmp_path / "with"))
        if name == "summary.csv":
            assert new.startswith(old) and new.count("\n") == old.count("\n") + 2
        else:
            assert new == old, name
    summary = pd.read_csv(tmp_path / "with/summary.csv").set_index(["model", "metric"])
    row = summary.loc[("reader", "dice")]
    assert row[["n_subjects", "n_missing", "n_failed"]].tolist() == [len(drew), 0, 0]
    assert row[["median", "q1", "q3"]].tolist() == [0.99] * 3


def test_a_rater_of_no_case_is_refused(metrics, tmp_path, capsys):
    table = _with_rater(metrics, tmp_path, [])
    asked = ["--metrics", table, "--output", tmp_path / "o", "--raters", "reader"]
    assert main(["statistics", *map(str, asked)]) != 0
    assert (
        "rater reader: none of the measured cases has labels of this rater"
        in capsys.readouterr().err
    )
