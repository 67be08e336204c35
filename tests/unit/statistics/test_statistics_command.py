"""`segstudy statistics` from a table to its four files."""

import json

import numpy as np
import pandas as pd
import pytest

from segstudy.cli import main


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
    assert summary.loc[("fails", "hd95_mm"), ["n", "n_infinite", "n_finite"]].tolist() == [
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
    assert (failing["test"], failing["n_infinite"]) == ("wilcoxon", 2)
    report = (folder / "report.md").read_text()
    assert "good against worse: dice differed significantly by a paired t test, t(19) = " in report
    assert "2 infinite differences" in report
    assert report.count("\n- heart: mean ranks") == 2
    assert report.count("\n- ") == 8
    ranking = pd.read_csv(folder / "ranking.csv").set_index(["metric", "model"])
    assert ranking.loc[("dice", "good"), "mean_rank"] < ranking.loc[("dice", "worse"), "mean_rank"]


def test_the_same_input_gives_the_same_bytes(metrics, tmp_path):
    one, other = run(metrics, tmp_path / "one"), run(metrics, tmp_path / "other")
    for name in ("summary.csv", "tests.csv", "ranking.csv", "report.md"):
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
