"""Optional packages that lack are told for the models whose training is to come."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from builders import tiny_study, write_cohort
from segstudy.cli import main
from segstudy.jobs import targets
from segstudy.jobs.extras import missing_extras
from segstudy.jobs.results import ResultPaths
from segstudy.study import Study


@pytest.fixture
def lacking(monkeypatch):
    """Python finds neither nnU-Net nor TensorBoard."""
    found = importlib.util.find_spec
    absent = {"nnunetv2", "tensorboard"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in absent else found(name)
    )


def asking(table) -> dict:
    content = tiny_study(table, moved=False)
    content["models"]["deep"]["tensorboard"] = True
    content["models"]["nnunet"] = {"trainer": "nnunet", "epochs": 1}
    return content


def test_each_model_whose_training_is_to_come_is_told_of(lacking, tmp_path):
    study = Study.model_validate({"name": "tiny", **asking("table.tsv")})
    paths = ResultPaths(str(tmp_path))
    told = missing_extras(study, study.models, paths)
    assert len(told) == 2
    assert told[0].startswith("models.deep: tensorboard: true needs the package tensorboard")
    assert told[1].startswith("models.nnunet: trainer: nnunet needs nnU-Net")
    assert missing_extras(study, ["flat"], paths) == []
    *first, last = map(Path, targets.trainings(study, paths, ["deep"]))
    for file in first:
        file.parent.mkdir(parents=True)
        file.touch()
    assert missing_extras(study, ["deep"], paths) == told[:1]
    last.parent.mkdir(parents=True)
    last.touch()
    assert missing_extras(study, study.models, paths) == told[1:]


def test_what_is_installed_is_not_told_of(monkeypatch):
    study = Study.model_validate({"name": "tiny", **asking("table.tsv")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: object())
    assert missing_extras(study, study.models, None) == []


def test_the_check_of_a_study_file_tells_it(lacking, tmp_path, caplog):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(asking(write_cohort(tmp_path / "data", 2, moved=False))))
    assert main(["study", str(file)]) == 0
    assert f"{file}: models.deep: tensorboard: true needs" in caplog.text
    assert f"{file}: models.nnunet: trainer: nnunet needs" in caplog.text
