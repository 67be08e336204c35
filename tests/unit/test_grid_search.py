"""Grid searches in a study file: models with readable names, each a model as if it had been written out."""

import itertools
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from segstudy.errors import InputError
from segstudy.grid_search import expand
from segstudy.study import Study, read_study

UNET = {"network": "unet", "optimizer": {"weight_decay": 0.5}}


def read(tmp_path, models):
    study = {
        "datasets": {"d": {"source": {"layout": "phantom"}, "modality": "CT", "structures": {"a": 1}}},
        "models": models,
    }  # fmt: skip
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return read_study(file)


def test_each_combination_is_an_arm_in_place_of_the_model(tmp_path):
    grid = {"channels": [[32, 64], [48, 96]], "head.hidden": [32, 48], "optimizer.lr": [0.001]}
    study = read(
        tmp_path,
        {"first": UNET, "u": UNET | {"grid_search": grid}, "last": {"network": "enet", "dims": 2}},
    )
    assert list(study.models) == [
        *("first", "u_c32_h32_lr0p001", "u_c32_h48_lr0p001"),
        *("u_c48_h32_lr0p001", "u_c48_h48_lr0p001", "last"),
    ]
    model = study.models["u_c48_h32_lr0p001"]
    assert (model.channels, model.head.hidden, model.optimizer.lr) == ((48, 96), 32, 0.001)
    assert model.optimizer.weight_decay == 0.5
    assert list(study.grids) == ["u"]
    assert study.grids["u"]["u_c48_h32_lr0p001"] == {
        "channels": [48, 96],
        "head.hidden": 32,
        "optimizer.lr": 0.001,
    }
    written = Study.model_validate_json(study.to_json())
    assert written == study


def test_without_a_grid_nothing_is_said_of_any(tmp_path):
    assert "grid_search" not in read(tmp_path, {"u": UNET}).to_json()


def test_an_arm_is_trained_as_the_same_model_written_out_would_be(tmp_path):
    models = read(tmp_path, {"u": UNET | {"grid_search": {"optimizer.lr": [0.01, 0.1]}}}).models
    one = read(tmp_path, {"u": UNET | {"optimizer": {"weight_decay": 0.5, "lr": 0.1}}}).models["u"]
    assert models["u_lr0p1"].learning() == one.learning()


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ({"channels": [[32, 64], [32, 48]]}, ["u_c32_64", "u_c32_48"]),
        ({"deep_supervision": [True, False]}, ["u_dson", "u_dsoff"]),
        ({"attention": ["none", "se"], "augmentation.noise_sd": [0.5]},
         ["u_anone_ns0p5", "u_ase_ns0p5"]),
        ({"schedule.name": ["poly"], "optimizer.name": ["sgd"]},
         ["u_schedule_namepoly_optimizer_namesgd"]),
        ({"attention": ["se"], "activation": ["relu"]}, ["u_attentionse_activationrelu"]),
        ({"loss": [{"dice": 1, "cross_entropy": 0}, {"dice": 0.5, "focal": 0.5}]},
         ["u_ldice1_cross_entropy0", "u_ldice0p5_focal0p5"]),
        ({"optimizer": [{"name": "sgd", "lr": 0.01}, {"name": "adam"}]}, ["u_osgd", "u_oadam"]),
        ({"optimizer.lr": [1e-05]}, ["u_lr1em05"]),
    ],
)  # fmt: skip
def test_names_are_short_and_tell_arms_apart(tmp_path, grid, names):
    assert list(read(tmp_path, {"u": UNET | {"grid_search": grid}}).models) == names


@given(
    st.dictionaries(
        st.sampled_from(["channels", "head.hidden", "optimizer.lr", "batch_size", "loss.dice"]),
        st.lists(st.floats(1e-9, 1e9) | st.integers(-99, 99), min_size=1, max_size=4, unique=True),
        min_size=1,
        max_size=3,
    )
)
def test_names_are_distinct_and_well_formed(grid):
    try:
        models, grids = expand({"u": {"network": "unet", "grid_search": grid}})
    except ValueError as error:
        assert "one name" in str(error)
        return
    sizes = [len(values) for values in grid.values()]
    assert len(models) == len(list(itertools.product(*map(range, sizes))))
    assert list(models) == list(grids["u"])
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name) for name in models)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"u": UNET | {"grid_search": {"chanels": [1]}}},
         r"models.u.grid_search.chanels: unknown key chanels; did you mean channels\? Allowed here: "),
        ({"u": UNET | {"grid_search": {"head.omga": [1]}}}, "unknown key omga; did you mean omega"),
        ({"u": UNET | {"grid_search": {"channels": []}}}, "u.grid_search.channels: expected a list of values"),
        ({"u": UNET | {"grid_search": {"epochs": 3}}}, "u.grid_search.epochs: expected a list of values"),
        ({"u": UNET | {"grid_search": {}}}, "u.grid_search: expected settings with lists of values"),
        ({"u": UNET | {"grid_search": {"epochs": [3, 3]}}}, "a value stands twice"),
        ({"u": UNET | {"grid_search": {"epochs": list(range(1, 66))}}}, "65 combinations; .* at most 64"),
        ({"u": UNET | {"grid_search": {"network": ["enet"]}}}, "give each network a model of its own"),
        ({"u": UNET | {"grid_search": {"head": [{}], "head.hidden": [2]}}}, "head.hidden: is part of head"),
        ({"u": UNET | {"grid_search": {"epochs": [3]}}, "u_e3": UNET}, "would be named u_e3"),
        ({"u": {"trainer": "external", "command": "a {image} {output}", "labels": {"heart": 1},
                "grid_search": {"timeout_min": [1, 2]}}},
         "models.u.grid_search: trainer: external trains nothing, so there is nothing to search"),
        ({"u": UNET | {"grid_search": {"infer.overlap": [0.2, 0.5]}}},
         "models.u.grid_search.infer.overlap: infer does not change what is learned"),
        ({"u": UNET | {"grid_search": {"threads": [1, 2]}}}, "u.grid_search.threads: threads does not change what"),
        ({"u": UNET | {"grid_search": {"validation_fraction": [0.1, 0.2]}}},
         "u.grid_search.validation_fraction: .*give each value a model of its own"),
        ({"u": UNET | {"grid_search": {"batch_size": [0]}}}, "models.u_bs0.batch_size: found 0"),
        ({"u": UNET | {"epochs": 2, "grid_search": {"epochs.x": [0]}}}, "unknown key x|has no settings"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, models, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, models)


def test_what_is_filled_in_is_not_to_be_written(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text("grids: {}\nmodels: {}\ndatasets: {}\n")
    with pytest.raises(InputError, match="grids: is filled in by segstudy"):
        read_study(file)


def test_a_model_may_take_up_another_by_a_yaml_merge(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(
        "datasets: {d: {source: {layout: phantom}, modality: CT, structures: {a: 1}}}\n"
        "models:\n"
        "  one: &one {network: unet, epochs: 7, batch_size: 3}\n"
        "  two: &two {<<: *one, epochs: 8}\n"
        "  three: {<<: *two, epochs: 9, grid_search: {batch_size: [4, 5]}}\n"
    )
    found = read_study(file).models
    assert {name: (model.epochs, model.batch_size) for name, model in found.items()} == {
        "one": (7, 3),
        "two": (8, 3),
        "three_bs4": (9, 4),
        "three_bs5": (9, 5),
    }
