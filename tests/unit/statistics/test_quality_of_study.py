"""Estimates of quality of made predictions: agreement of seeds and of models, judged by other subjects, on disk."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segstudy import cli
from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.files import write_label, write_nifti
from segstudy.images.overlap import dice
from segstudy.quality.calibration import Described, HeldOut, from_record, training_ranges
from segstudy.quality.risk import aurc
from segstudy.statistics.quality import (
    Predictions,
    Scans,
    _judged_by_others,
    _summary_rows,
    estimate,
)

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
CASES, FOLDS = 24, 2


def cube(size, shift=0):
    label = np.zeros((24, 24, 24), np.uint8)
    label[6 + shift : 6 + shift + size, 6 : 6 + size, 6 : 6 + size] = 1
    return label


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Cubes of 8 to 10 voxels. Seeds miss them by 0 to 2 voxels, the more the less they agree; one case is far off."""
    folder = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(4)
    cases, splits, rows = [], [], []
    for number in range(CASES):
        name, fold = f"c{number}", number % FOLDS
        truth = cube(int(random.integers(8, 11)))
        image = truth * 100.0 + random.normal(0, 5, truth.shape)
        write_nifti(folder / f"{name}.nii.gz", image.astype(np.float32), AFFINE)
        write_label(folder / f"{name}_label.nii.gz", truth, AFFINE)
        cases.append(
            Case(name, name, (folder / f"{name}.nii.gz",), folder / f"{name}_label.nii.gz")
        )
        splits.append(Split("site", name, name, fold))
        size = round(truth.sum() ** (1 / 3))
        off = int(random.integers(0, 3))
        for model, seeds in {"pair": (0, 1), "single": (0,)}.items():
            for seed in seeds:
                predicted = cube(size, -off if seed else off)
                if number == 5 and model == "pair":
                    predicted = cube(3, 4 * seed)
                path = folder / "infer" / model / f"fold-{fold}" / f"seed-{seed}" / "site"
                path.mkdir(parents=True, exist_ok=True)
                write_label(path / f"{name}.nii.gz", predicted, AFFINE)
                rows.append(
                    {
                        "dataset": "site",
                        "model": model,
                        "fold": fold,
                        "seed": seed,
                        "case": name,
                        "structure": "cube",
                        "metric": "dice",
                        "value": dice(truth, predicted, 2)[0],
                        "n_reference_voxels": int(truth.sum()),
                        "n_predicted_voxels": int(predicted.sum()),
                    }
                )
    write_cases(folder / "cases.tsv", cases, ["ct"])
    write_splits(folder / "splits.tsv", splits)
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    pattern = str(folder / "infer/{model}/fold-{fold}/seed-{seed}/{dataset}")
    models = {"pair": (0, 1), "single": (0,)}
    return (
        folder,
        Predictions(pattern, models, {"site": {"cube": 1}}, {"site": cases}, splits),
        rows,
    )


@pytest.fixture(scope="module")
def found(study):
    _, predictions, rows = study
    return estimate(predictions, pd.DataFrame(rows))


def test_each_model_is_scored_by_what_it_has(found):
    kinds = found.cases.groupby("model")["agreement_of"].unique().map(list).to_dict()
    assert kinds == {"pair": ["seeds"], "single": ["models"]}
    assert found.cases.groupby("model")["case"].nunique().to_dict() == {"pair": 24, "single": 24}


def test_agreement_of_seeds_by_hand(found):
    """Cubes of side s that are shifted by -d and d share s^2 (s - 2d) of s^3 voxels."""
    of_pair = found.cases[(found.cases["model"] == "pair") & (found.cases["case"] != "c5")]
    for _, row in of_pair.iterrows():
        side = round((row["volume_ml"] * 1000 / 8) ** (1 / 3))
        off = round((1 - row["agreement"]) * side / 2)
        assert row["agreement"] == pytest.approx(1 - 2 * off / side)
        assert row["dice"] == pytest.approx(1 - off / side)


def test_the_case_that_is_far_off_is_flagged_and_promised_nothing(found):
    flagged = found.cases[(found.cases["flagged"] == "yes") & (found.cases["model"] == "pair")]
    assert "c5" in set(flagged["case"])
    assert len(flagged) <= 3
    assert flagged["predicted_dice"].isna().all()
    assert flagged.set_index("case")["reason"]["c5"].startswith("cube: ")


def test_predicted_dice_follows_the_real_one(found):
    told = found.cases.dropna(subset=["predicted_dice"])
    told = told[told["model"] == "pair"]
    assert len(told) >= 20
    assert (told["predicted_dice"] - told["dice"]).abs().max() < 0.05
    assert (told["dice_low"] <= told["dice_high"]).all()


def test_the_summary_counts_what_held(found):
    row = found.summary.set_index("model").loc["pair"]
    assert row["n_subjects"] == row["n_scans"] == 24
    told = found.cases[found.cases["model"] == "pair"].dropna(subset=["dice_low"])
    inside = (told["dice"] >= told["dice_low"]) & (told["dice"] <= told["dice_high"])
    assert row["dice_in_interval"] == pytest.approx(inside.mean())
    assert row["aurc_best"] <= row["aurc_agreement"]
    assert row["aurc_best"] <= row["aurc_with_flags"]


def test_no_scan_is_judged_by_its_own_subject(study, found):
    """Its real Dice may be anything: its own row stays as it is, all but the column that says so."""
    _, predictions, rows = study
    spoiled = pd.DataFrame(rows)
    spoiled.loc[spoiled["case"] == "c3", "value"] = 0.0
    told = estimate(predictions, spoiled).cases
    changed = [
        column
        for column in told
        if not told[told["case"] == "c3"][column].equals(
            found.cases[found.cases["case"] == "c3"][column]
        )
    ]
    assert changed == ["dice"]


def test_the_command_writes_tables_and_a_calibration_a_model(study, tmp_path):
    folder, predictions, _ = study
    settings = {
        "predictions": predictions.pattern,
        "splits": str(folder / "splits.tsv"),
        "models": {"pair": [0, 1], "single": [0]},
        "datasets": {"site": {"cases": str(folder / "cases.tsv"), "structures": {"cube": 1}}},
    }
    arguments = ["--metrics", str(folder / "metrics.csv"), "--quality", json.dumps(settings)]
    assert cli.main(["statistics", *arguments, "--output", str(tmp_path / "one")]) == 0
    assert cli.main(["statistics", *arguments, "--output", str(tmp_path / "two")]) == 0
    names = ["cases.csv", "pair.json", "single.json", "summary.csv"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    calibration = from_record(read_json(tmp_path / "one" / "pair.json"), "pair.json")
    assert (calibration.kind, calibration.subjects, calibration.reason) == ("seeds", 24, "")
    with (tmp_path / "one" / "summary.csv").open(encoding="utf-8") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["pair", "single"]


def test_a_single_prediction_has_no_agreement_and_that_is_said(study):
    _, predictions, rows = study
    alone = Predictions(
        predictions.pattern,
        {"single": (0,)},
        predictions.structures,
        predictions.cases,
        predictions.splits,
    )
    told = estimate(alone, pd.DataFrame(rows))
    assert told.calibrations["single"].reason == "no agreement: one prediction a case"
    assert told.cases["predicted_dice"].isna().all()
    assert math.isnan(told.summary["aurc_agreement"][0])


def test_a_model_without_predictions_is_told(study, caplog):
    _, predictions, rows = study
    models = {"pair": (0, 1), "gone": (0,)}
    some = replace(predictions, models=models)
    told = estimate(some, pd.DataFrame(rows))
    assert "gone: of 24 scans the prediction or its Dice is missing" in caplog.text
    assert told.summary.set_index("model")["n_scans"].to_dict() == {"pair": 24, "gone": 0}
    assert told.calibrations["gone"].reason.startswith("0 subjects")


def test_cases_are_called_as_they_are_called(study, tmp_path):
    """001 is no number, and NA is no gap: all 24 scans count."""
    folder, predictions, rows = study
    names = {f"c{number}": f"{number:03d}" for number in range(CASES)} | {"c3": "NA"}
    for case in predictions.cases["site"]:
        for file in folder.rglob(f"infer/**/{case.case}.nii.gz"):
            copy = tmp_path / file.relative_to(folder).with_name(f"{names[case.case]}.nii.gz")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(file)
    cases = [replace(one, case=names[one.case]) for one in predictions.cases["site"]]
    write_cases(tmp_path / "cases.tsv", cases, ["ct"])
    splits = [replace(one, case=names[one.case]) for one in predictions.splits]
    write_splits(tmp_path / "splits.tsv", splits)
    table = pd.DataFrame(rows)
    table.assign(case=table["case"].map(names)).to_csv(tmp_path / "metrics.csv", index=False)
    settings = {
        "predictions": str(tmp_path / "infer/{model}/fold-{fold}/seed-{seed}/{dataset}"),
        "splits": str(tmp_path / "splits.tsv"),
        "models": {"pair": [0, 1]},
        "datasets": {"site": {"cases": str(tmp_path / "cases.tsv"), "structures": {"cube": 1}}},
    }
    arguments = ["--metrics", str(tmp_path / "metrics.csv"), "--quality", json.dumps(settings)]
    assert cli.main(["statistics", *arguments, "--output", str(tmp_path / "quality")]) == 0
    with (tmp_path / "quality" / "cases.csv").open(encoding="utf-8") as file:
        assert {row["case"] for row in csv.DictReader(file)} == set(names.values())


def test_datasets_may_list_their_structures_in_another_order(study):
    """The summary of each has the order of trust of its own structure."""
    _, predictions, _ = study
    made = []
    for number, case in enumerate(predictions.cases["site"]):
        fold = number % FOLDS
        agreement = {"cube": 0.9 - 0.01 * number, "ball": 0.5 + 0.01 * number}
        told = {name: Described(agreement[name], {"volume_ml": 1.0}) for name in ("ball", "cube")}
        dice = {name: value - 0.1 for name, value in agreement.items()}
        made.append((HeldOut(case.case, case.case, told, dice, dict.fromkeys(told, 1.0)), fold))
    found = Scans("seeds", [one for one, _ in made], [("other", fold) for _, fold in made])
    ranges = training_ranges({name: [{"volume_ml": 1.0}] * 20 for name in ("cube", "ball")})
    judged = _judged_by_others("pair", found, ranges, "")
    for row in _summary_rows("pair", "other", found, judged, ["cube", "ball"]):
        risk = [1 - one.dice[row["structure"]] for one, _ in made]
        # Agreement orders as Dice does: no order is better.
        assert row["aurc_agreement"] == pytest.approx(row["aurc_best"])
        assert row["aurc_best"] == pytest.approx(aurc(risk, [-one for one in risk]))


def test_a_study_that_asks_for_leaks_has_no_intervals(study):
    """Its networks saw the subjects; flags stay."""
    _, predictions, rows = study
    split = [
        replace(one, subject=f"s{number // 2}") for number, one in enumerate(predictions.splits)
    ]
    told = estimate(replace(predictions, splits=split), pd.DataFrame(rows))
    assert "case_though_it_leaks" in told.calibrations["pair"].reason
    assert told.cases["predicted_dice"].isna().all()
    assert told.cases["volume_low_ml"].isna().all()
    assert "yes" in set(told.cases["flagged"])


def test_channels_are_read_as_the_study_has_them(study):
    """An image of one channel in place of two is refused, not taken for another."""
    _, predictions, rows = study
    with pytest.raises(InputError, match="channel"):
        estimate(replace(predictions, channels={"site": 2}), pd.DataFrame(rows))
