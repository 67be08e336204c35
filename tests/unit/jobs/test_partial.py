"""The part of a study that is done: which models and folds are reported, and what is said to be missing."""

from pathlib import Path

import pytest
import yaml

from builders import tiny_study
from segstudy.errors import InputError
from segstudy.jobs.partial import finished_part
from segstudy.jobs.results import ResultPaths
from segstudy.jobs.targets import trainings
from segstudy.study import read_study


@pytest.fixture
def study(tmp_path):
    """Three models in three folds; `deep` has two seeds, `program` is one of others."""
    content = tiny_study(str(tmp_path / "cohort.tsv"), moved=False)
    content["splits"] = {"folds": 3}
    content["models"]["deep"]["seeds"] = [0, 1]
    content["models"]["program"] = {
        "trainer": "external", "command": "copy {image} {output}", "labels": {"heart": 1, "aorta": 2},
    }  # fmt: skip
    content["statistics"] = {"compare": [["flat", "deep"], ["deep", "program"]]}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(content))
    return read_study(file)


@pytest.fixture
def paths(tmp_path):
    return ResultPaths(tmp_path / "results")


def train(paths, model, fold, seed=0):
    folder = Path(paths.training(model, fold, seed))
    folder.mkdir(parents=True)
    (folder / "weights.pt").touch()


def test_models_that_share_folds_are_compared_in_these(study, paths):
    for fold in (0, 1, 2):
        train(paths, "flat", fold)
    for fold, seed in ((0, 0), (1, 0), (1, 1)):
        train(paths, "deep", fold, seed)
    part = finished_part(study, paths, list(study.models))
    assert list(part.models) == ["deep", "flat"] and part.folds == [1]
    assert part.statistics.compare == (("flat", "deep"),)
    assert part.partial == (
        "deep lacks fold 0, 2",
        "program is done in no fold",
        "results are of fold 1 alone",
    )


def test_a_program_of_others_is_done_where_its_predictions_are(study, paths):
    for fold in (0, 2):
        Path(paths.predictions("program", fold, 0, "chest")).mkdir(parents=True)
    train(paths, "flat", 1)
    part = finished_part(study, paths, list(study.models))
    assert list(part.models) == ["program"] and part.folds == [0, 2]
    assert "flat is done in 1 of 3 folds, none of them one of the others'" in part.partial


def test_models_can_be_chosen(study, paths):
    train(paths, "flat", 0)
    train(paths, "deep", 1, 0)
    train(paths, "deep", 1, 1)
    part = finished_part(study, paths, ["deep"])
    assert list(part.models) == ["deep"] and part.folds == [1]
    assert "flat was left out on request" in part.partial


def test_a_study_that_is_done_is_reported_whole(study, paths):
    for fold in study.folds:
        train(paths, "flat", fold)
        for seed in (0, 1):
            train(paths, "deep", fold, seed)
        Path(paths.predictions("program", fold, 0, "chest")).mkdir(parents=True)
    assert finished_part(study, paths, list(study.models)) is study


def test_where_nothing_is_done_there_is_nothing_to_report(study, paths):
    with pytest.raises(InputError, match="none of deep, flat, program is trained in any fold"):
        finished_part(study, paths, list(study.models))


def test_an_ensemble_is_chosen_with_its_members(study, paths):
    content = study.model_dump(exclude_defaults=True)
    content["ensembles"] = {"both": ["flat", "deep"]}
    study = type(study).model_validate(content)
    for fold in study.folds:
        train(paths, "flat", fold)
        for seed in (0, 1):
            train(paths, "deep", fold, seed)
    for only in (["both"], ["flat", "both"]):
        part = finished_part(study, paths, only)
        assert list(part.models) == [name for name in study.models if name != "program"]
        assert part.partial == ("program was left out on request",)
    assert len(trainings(study, paths, ["both"])) == 3 * (1 + 2)
