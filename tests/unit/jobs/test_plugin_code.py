"""The digests of jobs that plug-ins take part in: what an edit reruns, and that a moved folder reruns nothing."""

import shutil
from pathlib import Path

import pytest
import yaml

from segstudy import plugins
from segstudy.jobs import slices
from segstudy.jobs.code import (
    audit_code,
    code_of_measured,
    measuring_code,
    training_code,
    with_plugins,
)
from segstudy.study import read_study

EXAMPLES = Path(__file__).resolve().parents[3] / "resources" / "plugins"
PARTS = ("by_site.py", "surface_bias.py", "size_and_dice.py")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in PARTS:
        shutil.copy(EXAMPLES / name, folder / name)
    source = {"layout": "./by_site.py", "path": "data", "options": {"channels": ["image"]}}
    content = {
        "datasets": {"chest": {"source": source, "modality": "CT", "structures": {"heart": 1}}},
        "models": {"net": {"network": "unet"}},
        "metrics": {"plugins": ["./surface_bias.py"]},
        "statistics": {"metrics": ["surface_bias_mm"]},
        "publish": {"figures": ["./size_and_dice.py"]},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    plugins.digest.cache_clear()
    yield folder
    plugins.digest.cache_clear()


def codes(folder: Path) -> dict[str, str]:
    plugins.digest.cache_clear()
    study = read_study(folder / "own.yaml")
    published = code_of_measured(study, "publish.command")
    return {
        "audit": audit_code(study, "chest"),
        "train": training_code(study.models["net"]),
        "measure": measuring_code(study),
        "statistics": code_of_measured(study, "statistics.command"),
        "figures": with_plugins(published, study.publish.figures),
        "viewer": published,
    }


def changed(folder: Path, file: str, edit) -> set[str]:
    before = codes(folder)
    path = folder / file
    path.write_text(edit(path.read_text()))
    after = codes(folder)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("by_site.py", {"audit"}),
        ("surface_bias.py", {"measure"}),
        ("size_and_dice.py", {"figures"}),
    ],
)
def test_an_edit_reruns_the_jobs_that_call_it(folder, file, jobs):
    assert changed(folder, file, lambda text: text + "\nEDITED = 1\n") == jobs
    assert not changed(folder, file, lambda text: text + "\n# a remark\n")


def test_another_title_or_direction_reruns_what_reads_the_measurements(folder):
    def edit(text):
        return text.replace('"Surface bias"', '"Bias of the surface"')

    assert changed(folder, "surface_bias.py", edit) == {
        "measure",
        "statistics",
        "figures",
        "viewer",
    }


def test_a_moved_folder_reruns_nothing_by_its_code(folder):
    before = codes(folder)
    assert codes(folder.rename(folder.with_name("moved"))) == before


def test_a_figure_of_a_plugin_is_none_of_the_viewers_settings(folder):
    study = read_study(folder / "own.yaml")
    publish = study.publish.model_copy(update={"figures": ()})
    without = study.model_copy(update={"publish": publish})
    assert slices.viewer_settings(study) == slices.viewer_settings(without)
    assert slices.figure_settings(study) != slices.figure_settings(without)


def test_statistics_are_told_of_the_metrics(folder):
    study = read_study(folder / "own.yaml")
    assert slices.metric_options(study) == ["--plugin", str(folder / "surface_bias.py")]
