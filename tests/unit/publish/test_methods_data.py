"""What the methods text says of splits that leak, of subsets and of channels that are left out."""

import re
import shutil
from pathlib import Path

import pytest

from segstudy import metric, metric_plugins, plugins
from segstudy.files import write_json
from segstudy.publish.methods import _epochs, methods
from segstudy.publish.report import _sentence
from segstudy.publish.results import Results
from segstudy.study import PredictionsModel, TrainingSubset, UnetModel


def changed(results: Results, **update) -> Results:
    """The same results of a study with other settings."""
    return Results(results.study.model_copy(update=update), results.root)


def test_a_split_that_leaks_is_shouted_about(plain):
    splits = plain.study.splits.model_copy(update={"group_by": "case_though_it_leaks"})
    leaky = changed(plain, splits=splits)
    assert "WARNING: this split leaks" in dict(methods(leaky))["Data"]
    assert "stayed in one fold" not in dict(methods(leaky))["Data"]
    assert "THE SPLIT LEAKS" in _sentence(leaky)
    assert "leaks" not in dict(methods(plain))["Data"] + _sentence(plain)


def with_origins(results, tmp_path, origins):
    """The same results, whose first subjects got their folds otherwise than by the seed."""
    found = Results(results.study, results.root)
    found.splits = results.splits.copy()
    found.splits.loc[: len(origins) - 1, "origin"] = origins
    return found


def test_how_subjects_came_into_their_folds_is_told_from_the_record(plain, tmp_path):
    every = len(plain.splits)
    balanced = "(balanced by foreground volume)"
    seed = f"dealt into folds by seed {plain.study.splits.seed} {balanced}"
    text = dict(methods(plain))["Data"]
    assert f"stayed in one fold. Of {every} cases, all were {seed}." in text
    mixed = with_origins(plain, tmp_path, ["file", "file", "joined"])
    assert (
        f"Of {every} cases, {every - 3} were {seed}, 1 was added later, each to the fold with the fewest then "
        "and 2 were kept in the fold that the file of folds had for them."
    ) in dict(methods(mixed))["Data"]
    by_table = dict(methods(with_origins(plain, tmp_path, ["table"] * every)))["Data"]
    assert f"Of {every} cases, all were put into the fold that the case table gives." in by_table
    assert "seed" not in by_table and "balanced" not in by_table
    older = dict(methods(with_origins(plain, tmp_path, [""] * every)))["Data"]
    assert "all were in a fold of which it is not on record how it was dealt." in older


def test_a_subset_of_the_subjects_is_named(plain):
    model = plain.study.models["enet"].model_copy(
        update={"training_subset": TrainingSubset(subjects=5), "seeds": (0,)}
    )
    text = dict(methods(changed(plain, models=plain.study.models | {"enet": model})))["Data"]
    assert "enet was trained on 5 subjects of a fold's, drawn anew for each of its 1 seed" in text


def test_channels_that_a_plan_keeps_are_named(plain):
    (name, plan), *_ = plain.study.preprocess.items()
    kept = plan.model_copy(update={"channels": ("flair", "t1gd")})
    text = " ".join(dict(methods(changed(plain, preprocess={name: kept}))).values())
    assert "Of the channels, flair and t1gd were kept." in text


def test_a_plan_with_given_spacing_and_no_margin(plain):
    (name, plan), *_ = plain.study.preprocess.items()
    given = plan.model_copy(update={"spacing_mm": (2.0, 2.0, 2.0), "margin_mm": 0.0})
    text = dict(methods(changed(plain, preprocess={name: given})))["Preprocessing"]
    assert "above −500 HU and resampled to 1.5 × 1.5 × 3 mm by cubic splines" in text
    fitted = dict(methods(plain))["Preprocessing"]
    assert "above −500 HU with a margin of 5 mm and resampled to" in fitted
    assert "3 mm (chosen from the training cases) by cubic splines" in fitted


@pytest.mark.parametrize("name", ["images", "two_sites", "nnunet"])
def test_the_methods_text_is_spaced_as_a_sentence_is(scenario, name):
    for heading, text in methods(scenario(name)):
        assert re.search(r"\s\s|\s[.,;:)]|\(\s|[.;,][A-Za-z]", text) is None, (heading, text)
        assert text.endswith(".") or text.endswith("]]."), heading


def test_a_metric_of_a_plugin_is_told_with_its_code(plain, monkeypatch):
    monkeypatch.setattr(metric, "_OWN", {})
    file = str(Path(__file__).resolve().parents[3] / "resources" / "plugins" / "surface_bias.py")
    settings = plain.study.metrics.model_copy(update={"plugins": (file,)})
    results = changed(plain, metrics=settings)
    metric_plugins.register([file])
    results.metrics = plain.metrics.assign(metric="surface_bias_mm")
    text = dict(methods(results))["Evaluation"]
    told = (
        rf"Surface bias, the mean signed distance .*surface_bias\.py, code {plugins.digest(file)}\)"
    )
    assert re.search(told, text)


@pytest.mark.parametrize(
    ("of_folds", "told"),
    [
        ([(4, 4, 4, 4)] * 2, "By the file of the splits that it was trained by, no subject is predicted by a fold that was trained on it."),
        ([(4, 4, 4, 4), (4, 1, 4, 3)], "names (5 of 8, over all folds) is predicted by a fold that was trained on it, or on another case"),
        ([(4, 4, 4, 4), (4, 4, 5, 4)], "as far as subjects of training cases are known (8 of 9); of the others nothing can be told."),
        ([(4, 0, 4, 0)] * 2, "names none of the tested cases, so whether it was trained on their subjects is not known here."),
        ([], "names none of the tested cases"),
    ],
)  # fmt: skip
def test_of_leaks_the_methods_say_what_was_checked(scenario, tmp_path, of_folds, told):
    built = scenario("one_model")
    shutil.copytree(built.root, tmp_path / "results")
    splits = PredictionsModel(
        network="predictions", files="p/{case}.nii.gz", training_splits="s.json"
    )
    results = Results(
        built.study.model_copy(update={"models": {"unet": splits}}), tmp_path / "results"
    )
    for fold, numbers in enumerate(of_folds):
        what = dict(zip(("tested", "named", "trained_on", "known"), numbers, strict=True))
        write_json(
            Path(results.paths.predictions("unet", fold, 0, "thorax")) / "leak_check.json", what
        )
    assert results.study.folds == [0, 1]
    text = dict(methods(results))["Models"]
    assert told in text
    assert ("no subject is predicted by a fold" in text) == told.startswith("By the file")


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ([None, None], "as none did"),
        ([31, None, 55], "as 2 of 3 did, after 31 to 55 epochs"),
        ([31], "as 1 of 1 did, after 31 epochs"),
    ],
)
def test_early_stopping_is_told_with_the_epochs_at_which_trainings_stopped(ended, told):
    model = UnetModel(network="unet", epochs=90, stop_when_flat=20)
    runs = [{"stopped_at_epoch": epoch} if epoch else {} for epoch in ended]
    assert _epochs(model, runs) == (
        "at most 90 epochs (early stopping: a training ended at the first validation 20 epochs or more after the one with "
        f"the best mean Dice, {told})"
    )
