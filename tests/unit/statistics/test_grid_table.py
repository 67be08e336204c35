"""The table of a grid search: chosen on validation, measured on tested cases."""

import json

import numpy as np
import pandas as pd
import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.statistics.grid_search import grid_table, read_trainings
from segstudy.study import GridSettings

GRIDS = {"u": {"u_c8": {"channels": [8, 16]}, "u_c9": {"channels": [9, 18]}}}
SETTINGS = GridSettings(grids=GRIDS, weights={"u_c8": "last", "u_c9": "best"})
# The arm that validation prefers is not the one that does best on tested cases.
DICE = {"u_c8": [0.9, 0.8, 1.0], "u_c9": [0.5, 0.7, 0.6], "other": [1.0, 1.0, 1.0]}


def train(folder, arm, fold, dice, parameters):
    place = folder / arm / f"fold-{fold}" / "seed-0"
    place.mkdir(parents=True)
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "validation_dice_mean": dice, "seconds": [1.0, 2.0, 3.0 + fold]}
    )
    history.to_csv(place / "history.csv", index=False)
    (place / "settings.json").write_text(json.dumps({"parameters": parameters}))


@pytest.fixture
def folder(tmp_path):
    for fold in (0, 1):
        train(tmp_path / "train", "u_c8", fold, [0.9, 0.7 + fold / 10, np.nan], 100)
        train(tmp_path / "train", "u_c9", fold, [0.6, 0.9, 0.8], 200)
    rows = [
        {"study": "s", "dataset": "d", "model": model, "fold": 0, "seed": 0, "case": f"case_{n}",
         "structure": structure, "metric": "dice", "value": value - shift, "status": "ok",
         "n_reference_voxels": 9, "n_predicted_voxels": 9}
        for model, values in DICE.items()
        for n, value in enumerate(values)
        for structure, shift in (("a", 0.0), ("b", 0.1))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "metrics.csv", index=False)
    return tmp_path


def test_the_weights_that_are_used_are_what_counts(folder):
    found = read_trainings(folder / "train", SETTINGS)
    assert found["validation_dice"].tolist() == pytest.approx([0.7, 0.8, 0.9, 0.9])
    assert found["seconds"].tolist() == [6.0, 7.0, 6.0, 7.0]


def test_the_table_by_hand(folder, tmp_path):
    words = [
        "statistics",
        "--metrics",
        str(folder / "metrics.csv"),
        "--output",
        str(tmp_path / "s"),
    ]
    words += ["--settings", '{"metrics": ["dice"]}', "--train", str(folder / "train")]
    words += ["--grid", SETTINGS.to_json()]
    assert main(words) == 0
    table = pd.read_csv(tmp_path / "s" / "grid.csv")
    assert table["model"].tolist() == ["u_c8", "u_c9"]
    assert table["channels"].tolist() == ["8-16", "9-18"]
    assert table["validation_dice"].tolist() == pytest.approx([0.75, 0.9])
    assert table["best"].tolist() == [False, True]
    assert table["parameters"].tolist() == [100, 200]
    assert table["training_seconds"].tolist() == pytest.approx([6.5, 6.5])
    assert table["n_subjects"].tolist() == [3, 3]
    assert table["dice_a"].tolist() == pytest.approx([0.9, 0.6])
    assert table["dice_b"].tolist() == pytest.approx([0.8, 0.5])
    assert table["sd_a"].tolist() == pytest.approx([0.1, 0.1])


def test_without_validation_none_is_best(folder):
    trainings = read_trainings(folder / "train", SETTINGS)
    trainings.loc[trainings["model"] == "u_c8", "validation_dice"] = np.nan
    values = pd.read_csv(folder / "metrics.csv").assign(subject=lambda table: table["case"])
    table = grid_table(SETTINGS, values, trainings)
    assert not table["best"].any()
    assert np.isnan(table["validation_dice"][0])


def test_a_training_that_is_not_there_is_named(folder):
    settings = GridSettings(grids={"u": {"u_c7": {}}}, weights={"u_c7": "last"})
    with pytest.raises(InputError, match="no training of u_c7"):
        read_trainings(folder / "train", settings)
    words = ["statistics", "--metrics", str(folder / "metrics.csv"), "--output", str(folder / "s")]
    assert main([*words, "--grid", SETTINGS.to_json()]) != 0
