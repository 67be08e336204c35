"""A quick study: small and brief whatever its models say, and never silent about it."""

import pytest
import yaml

from builders import tiny_study
from segstudy.errors import InputError
from segstudy.study import read_study
from segstudy.study.quick import shortened


def quick(tmp_path, **models):
    study = {**tiny_study(tmp_path / "cases.tsv", moved=False), "quick": True, "models": models}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return read_study(tmp_path / "study.yaml")


def test_two_folds_are_enough_for_a_first_look(tmp_path):
    study = quick(tmp_path, one={"network": "unet"})
    splits = study.splits.model_copy(update={"folds": 5, "run_folds": None})
    assert study.model_copy(update={"splits": splits}).folds == [0, 1]
    chosen = splits.model_copy(update={"run_folds": (1, 3, 4)})
    assert study.model_copy(update={"splits": chosen}).folds == [1, 3]
    assert study.model_copy(update={"splits": splits, "quick": False}).folds == [0, 1, 2, 3, 4]


LARGE = {"epochs": 1000, "steps_per_epoch": 250, "batch_size": 12}


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ({"network": "unet"}, {"channels": (8, 16, 32, 64), "patch_size": (64, 64, 32)}),
        ({"network": "unet", **LARGE, "patch_size": [128, 96, 16]}, {"patch_size": (64, 64, 16)}),
        (
            {"network": "unet", "channels": [4, 32, 64, 128, 256, 320]},
            {"channels": (4, 16, 32, 64, 64, 64)},
        ),
        ({"network": "unet", "dims": 2, **LARGE}, {"patch_size": (96, 96)}),
        ({"network": "enet", **LARGE}, {"channels": 8, "patch_size": (96, 96)}),
        ({"network": "attention_unet", **LARGE}, {"channels": (8, 16, 32, 64)}),
        ({"network": "unetr"}, {"hidden_size": 96}),
        ({"network": "swin_unetr"}, {"feature_size": 12}),
    ],
)
def test_a_network_is_small_and_trained_briefly(tmp_path, model, size):
    found = quick(tmp_path, one=model).models["one"]
    assert (found.epochs, found.steps_per_epoch) == (4, 50)
    for key, value in size.items():
        assert getattr(found, key) == value, key


def test_what_is_shorter_already_stays_and_the_rest_is_the_users(tmp_path):
    own = {
        "network": "unet",
        "epochs": 2,
        "steps_per_epoch": 7,
        "loss": {"focal": 1.0},
        "seeds": [3],
    }
    found = quick(tmp_path, one=own).models["one"]
    assert (found.epochs, found.steps_per_epoch, found.loss.focal, found.seeds) == (2, 7, 1.0, (3,))


def test_a_network_that_learns_from_label_maps_is_a_small_one_too():
    short = shortened({"trainer": "synth"})
    assert (short["channels"], short["epochs"]) == ([8, 16, 32, 64], 4)


def test_others_than_networks_are_left_alone():
    for model in ({"trainer": "nnunet", "epochs": 1000}, {"trainer": "external", "command": "x"}):
        assert shortened(model) is model


def test_what_a_grid_varies_is_varied_still(tmp_path):
    grid = {"channels": [[4, 8], [8, 12]], "optimizer.lr": [0.1, 0.2]}
    arms = quick(tmp_path, one={"network": "unet", "grid": grid}).models.values()
    assert {(arm.channels, arm.optimizer.lr, arm.epochs) for arm in arms} == {
        (channels, lr, 4) for channels in ((4, 8), (8, 12)) for lr in (0.1, 0.2)
    }


def test_a_mistake_in_a_quick_model_is_named_as_in_any(tmp_path):
    with pytest.raises(InputError, match=r"models\.one\.epochs: found 'many'"):
        quick(tmp_path, one={"network": "unet", "epochs": "many"})
    with pytest.raises(InputError, match=r"models\.one\.channels: found 'wide'"):
        quick(tmp_path, one={"network": "unet", "channels": "wide"})


def test_it_says_so_and_a_full_study_does_not(tmp_path):
    study = quick(tmp_path, one={"network": "unet"})
    assert "for a first look" in study.in_brief and "quick: true" in study.in_brief
    assert "folds" not in study.in_brief, "both run"
    five = study.model_copy(update={"splits": study.splits.model_copy(update={"folds": 5})})
    assert "2 of 5 folds are run, so that about 2/5 of the subjects" in five.in_brief
    assert study.model_copy(update={"quick": False}).in_brief == ""
    again = tmp_path / "settings.yaml"
    again.write_text(study.to_json())
    assert read_study(again) == study, "settings that were written out read back the same"
