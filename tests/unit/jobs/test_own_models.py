"""What the jobs of models by plug-ins are asked for: which code counts, which files they end with, what they are told."""

import shutil
from pathlib import Path

import pytest
import yaml

from segstudy import plugins
from segstudy.jobs import slices, targets
from segstudy.jobs.code import prediction_code, training_code
from segstudy.jobs.results import ResultPaths
from segstudy.study import read_study

EXAMPLES = Path(__file__).resolve().parents[3] / "resources" / "plugins"
PARTS = ("residual_net.py", "tversky_loss.py", "cutout.py", "grey_values.py")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in PARTS:
        shutil.copy(EXAMPLES / name, folder / name)
    source = {"layout": "phantom"}
    content = {
        "datasets": {"chest": {"source": source, "modality": "CT", "structures": {"heart": 1}}},
        "splits": {"folds": 2},
        "models": {
            "unet": {"network": "unet"},
            "own": {
                "network": "./residual_net.py",
                "loss": {"plugins": {"./tversky_loss.py": 1}},
                "augmentation": {"plugins": ["./cutout.py"]},
            },
            "grey": {"trainer": "./grey_values.py"},
        },
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    plugins.digest.cache_clear()
    yield folder
    plugins.digest.cache_clear()


def codes(folder: Path) -> dict[str, str]:
    plugins.digest.cache_clear()
    models = read_study(folder / "own.yaml").models
    return {
        f"{what} {name}": code(model)
        for name, model in models.items()
        for what, code in (("train", training_code), ("infer", prediction_code))
    }


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("residual_net.py", "0.01", "0.02", {"train own", "infer own"}),
        ("tversky_loss.py", "0.3, 0.7", "0.2, 0.8", {"train own"}),
        ("cutout.py", "SIDE = 0.25", "SIDE = 0.5", {"train own"}),
        ("grey_values.py", "= bin_width", "= 2 * bin_width", {"train grey", "infer grey"}),
    ],
)
def test_an_edit_is_one_of_the_jobs_that_it_can_change(folder, name, old, new, changed):
    before = codes(folder)
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace(old, new, 1))
    after = codes(folder)
    assert {job for job in before if before[job] != after[job]} == changed
    (folder / name).write_text(f"# A remark.\n{text}")
    assert codes(folder) == before


def test_another_folder_is_no_other_code(folder, tmp_path):
    before = codes(folder)
    assert codes(Path(shutil.move(folder, tmp_path / "elsewhere"))) == before


def test_a_file_beside_a_plugin_counts(folder):
    net = folder / "residual_net.py"
    net.write_text(f"import helpers\n{net.read_text()}")
    (folder / "helpers.py").write_text("A = 1\n")
    before = codes(folder)
    (folder / "helpers.py").write_text("A = 2\n")
    after = codes(folder)
    assert {job for job in before if before[job] != after[job]} == {"train own", "infer own"}


def test_what_trainings_end_with(folder, tmp_path):
    study = read_study(folder / "own.yaml")
    paths = ResultPaths("results/own")
    ends = targets.trainings(study, paths, ["own", "grey"])
    assert [Path(file).name for file in ends] == ["weights.pt"] * 2 + ["trained.tar"] * 2
    assert targets.trained_models(study) == ["unet", "own", "grey"]
    assert targets.followed_models(study) == ["unet", "own"]
    assert [targets.learns_from_files(study, name) for name in study.models] == [False, False, True]


def test_a_prediction_is_told_the_plugin_that_predicts(folder):
    study = read_study(folder / "own.yaml")
    assert slices.plugin_option(study, "unet") == []
    assert slices.plugin_option(study, "own") == ["--plugin", str(folder / "residual_net.py")]
    assert slices.plugin_option(study, "grey") == ["--plugin", str(folder / "grey_values.py")]
