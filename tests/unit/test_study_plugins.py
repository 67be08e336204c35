"""Plug-ins in a study file: found from its folder, checked, listed, and told by label and digest."""

import json

import jsonschema
import pytest
import yaml

from segstudy import plugins
from segstudy.errors import InputError
from segstudy.publish.redaction import settings_yaml
from segstudy.study import Study, TrainSettings, from_json, read_study
from segstudy.study.references import as_written, identified, listed
from segstudy.study_command import schema as schema_text

NET = "class Network: ...\nclass Wide: ...\n"


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


def study_file(folder, models, **further):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_net.py").write_text(NET)
    (folder / "my_loss.py").write_text("def loss(logits, labels): ...\n")
    (folder / "my_aug.py").write_text("def augment(images, labels, generator): ...\n")
    (folder / "my_trainer.py").write_text("class Trainer: ...\n")
    dataset = {"source": {"layout": "phantom"}, "modality": "CT", "structures": {"heart": 1}}
    content = {"datasets": {"chest": dataset}, "models": models, **further}
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


MODELS = {
    "net": {
        "network": "./my_net.py:Wide",
        "options": {"width": 4},
        "loss": {"plugins": {"my_loss.py": 0.5}},
        "augmentation": {"preset": "light", "plugins": ["./my_aug.py"]},
    },
    "other": {"trainer": "./my_trainer.py", "options": {"k": 1}},
}


def test_references_are_taken_from_the_study_files_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = read_study(study_file(tmp_path / "studies", MODELS))
    assert study.plugins() == {
        "models.net.network": "studies/my_net.py:Wide",
        "models.net.loss.plugins.studies/my_loss.py": "studies/my_loss.py",
        "models.net.augmentation.plugins.0": "studies/my_aug.py",
        "models.other.trainer": "studies/my_trainer.py",
    }
    assert study.models["net"].plugins()["network"] == "studies/my_net.py:Wide"
    assert study.models["other"].trainer_plugin == "studies/my_trainer.py"
    assert (study.models["net"].network, study.models["net"].trainer) == ("plugin", "images")
    assert (study.models["other"].network, study.models["other"].trainer) == (
        *("plugin_trainer", "plugin"),
    )


def test_settings_travel_as_json(tmp_path):
    study = read_study(study_file(tmp_path, MODELS))
    assert Study.model_validate_json(study.to_json()) == study
    settings = TrainSettings(
        model=study.models["net"].learning(),
        structures=["heart"],
        channels=["image"],
        modality="CT",
    )
    assert from_json(TrainSettings, settings.to_json()) == settings


def test_a_grid_search_varies_the_options(tmp_path):
    model = {"network": "./my_net.py", "grid_search": {"options.width": [4, 8]}}
    study = read_study(study_file(tmp_path, {"net": model}))
    widths = {name: model.options["width"] for name, model in study.models.items()}
    assert widths == {"net_w4": 4, "net_w8": 8}


def test_old_names_are_read_in_a_plugins_model(tmp_path):
    file = study_file(tmp_path, {"net": {"network": "./my_net.py", "validation_share": 0.2}})
    assert read_study(file).models["net"].validation_fraction == 0.2


def test_the_same_plugin_in_another_folder_is_the_same(tmp_path):
    here = read_study(study_file(tmp_path / "here", MODELS)).models["net"]
    there = read_study(study_file(tmp_path / "there", MODELS)).models["net"]
    assert here != there
    assert here.identified() == there.identified()
    assert str(tmp_path) not in json.dumps(here.identified())
    (tmp_path / "there" / "my_loss.py").write_text("def loss(logits, labels): return 1\n")
    plugins.digest.cache_clear()
    assert here.identified() != there.identified()


def test_quick_shortens_an_own_network(tmp_path):
    study = read_study(study_file(tmp_path, MODELS, quick=True))
    assert study.models["net"].epochs == 4
    assert study.models["other"].options == {"k": 1}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"network": "./none.py"}, r"line \d+, column \d+: models.net.network: .*none.py: no such"),
        ({"network": "./my_net.py:Deep"}, r"models.net.network: .*no Deep in it; .*Network, Wide"),
        (
            {"network": "my_net"},
            r"models.net.network: found 'my_net'.*or a plug-in \(./my_net.py\)",
        ),
        ({"network": "not_installed.nets:A"}, "models.net.network: .*no such module is installed"),
        (
            {"network": "unet", "loss": {"plugins": {"./my_aug.py": 1}}},
            r"line \d+, column \d+: models.net.loss.plugins.*no loss in it",
        ),
        (
            {"network": "unet", "loss": {"plugins": {"boundary": 1}}},
            "models.net.loss.plugins: 'boundary': not written as a plug-in",
        ),
        (
            {"network": "unet", "augmentation": {"plugins": ["./none.py"]}},
            r"models.net.augmentation.plugins.0: .*none.py: no such plug-in file",
        ),
        ({"trainer": "./my_net.py"}, "models.net.trainer: .*no Trainer in it"),
        ({"trainer": "./my_trainer.py", "network": "unet"}, "my_trainer.py brings its own network"),
        ({"trainer": "mine"}, r"trainer: found 'mine'.*or a plug-in \(./my_trainer.py\)"),
        ({"network": "./my_net.py", "widht": 3}, "models.net.widht: unknown key"),
        (
            {"network": "unet", "loss": {"dice": 0, "cross_entropy": 0}},
            "at least one of dice, cross_entropy, focal, tversky, plugins must be above 0",
        ),
        (
            {"network": "unet", "loss": {"plugins": {"./my_loss.py": 1, "./sub/my_loss.py": 1}}},
            "b/my_loss.py: two plug-ins called my_loss.py; rename",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, model, said):
    file = study_file(tmp_path, {"net": model})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "my_loss.py").write_text("def loss(logits, labels): ...\n")
    with pytest.raises(InputError, match=said):
        read_study(file)


def test_code_that_is_no_python_is_told_with_its_line(tmp_path):
    file = study_file(tmp_path, {"net": {"network": "./my_net.py"}})
    (tmp_path / "my_net.py").write_text("class Network: ...\nimport helpers\n")
    (tmp_path / "helpers.py").write_text("a b\n")
    with pytest.raises(InputError, match=r"models.net.network: .*helpers.py, line 1: not Python"):
        read_study(file)


def test_every_place_of_a_reference_is_known():
    content = {
        "datasets": {
            "chest": {"source": {"layout": "plugin", "layout_plugin": "./layout.py", "path": "x"}}
        },
        "metrics": {"plugins": ["./bias.py"]},
        "publish": {"figures": ["./figure.py:draw"]},
        "models": {"net": {"network": "unet"}},
    }
    assert listed(content) == {
        "datasets.chest.source.layout": "./layout.py",
        "metrics.plugins.0": "./bias.py",
        "publish.figures.0": "./figure.py:draw",
    }
    assert identified({"datasets": {"chest": {"source": {"layout": "phantom"}}}}) == {
        "datasets": {"chest": {"source": {"layout": "phantom"}}}
    }


def test_the_schema_takes_references(tmp_path):
    schema = jsonschema.Draft202012Validator(json.loads(schema_text()))
    content = yaml.safe_load(study_file(tmp_path, MODELS).read_text())
    assert not list(schema.iter_errors(content))
    content["models"]["net"]["network"] = "my_net"
    assert list(schema.iter_errors(content))


def test_settings_are_written_as_a_person_writes_them(tmp_path):
    """Read back they are the same; in the report a label stands for each path."""
    (tmp_path / "my_layout.py").write_text("def list_cases(folder, my_plugin): ...\n")
    (tmp_path / "my_figure.py").write_text("def draw(results): ...\n")
    file = study_file(tmp_path, MODELS, publish={"figures": ["./my_figure.py"]})
    content = yaml.safe_load(file.read_text())
    source = {"layout": "./my_layout.py", "path": "chest", "options": {"my_plugin": "plugin"}}
    content["datasets"]["chest"]["source"] = source
    file.write_text(yaml.safe_dump(content))
    study = read_study(file)
    written = as_written(study.model_dump(mode="json"))
    assert written["models"]["other"]["trainer"] == str(tmp_path / "my_trainer.py")
    assert written["datasets"]["chest"]["source"]["options"] == {"my_plugin": "plugin"}
    assert Study.model_validate(written) == study
    text = settings_yaml(study)
    assert str(tmp_path) not in text
    told = yaml.safe_load(text)
    assert told["datasets"]["chest"]["source"]["layout"] == "my_layout.py"
    assert told["models"]["net"]["network"] == "my_net.py:Wide"
    assert told["publish"]["figures"] == ["my_figure.py"]


def test_the_schema_takes_a_layout(tmp_path):
    content = yaml.safe_load(study_file(tmp_path, MODELS).read_text())
    content["datasets"]["chest"]["source"] = {"layout": "./my_layout.py", "path": "chest"}
    schema = jsonschema.Draft202012Validator(json.loads(schema_text()))
    assert not list(schema.iter_errors(content))
    content["datasets"]["chest"]["source"]["layout"] = "my_layout"
    assert list(schema.iter_errors(content))


@pytest.mark.parametrize(
    "model", [{"options": {"widht": 4}}, {"grid_search": {"options.widht": [4, 8]}}]
)
def test_an_option_that_a_plugin_does_not_take_is_told_with_its_key(tmp_path, model):
    file = study_file(tmp_path, {"net": {"network": "./sized.py", **model}})
    (tmp_path / "sized.py").write_text("def Network(i, c, p, s, width): ...\n")
    with pytest.raises(InputError, match=r"models.net(_w4)?.network: .*no option 'widht'.*: width"):
        read_study(file)


def test_a_loss_that_is_written_in_two_ways_is_not_lost(tmp_path):
    losses = {"./my_loss.py": 0.5, "my_loss.py": 1.0}
    file = study_file(tmp_path, {"net": {"network": "unet", "loss": {"plugins": losses}}})
    with pytest.raises(
        InputError, match=r"models.net.loss.plugins: ./my_loss.py, my_loss.py: two .*name it once"
    ):
        read_study(file)
