"""Optional packages that the trainings of a study need: told before a job starts, not by the training hours later."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from segstudy.jobs import targets
from segstudy.jobs.results import ResultPaths
from segstudy.study import AnyModel, Study

NO_TENSORBOARD = (
    "tensorboard: true needs the package tensorboard, which is not installed; pip install 'segstudy[tensorboard]', or "
    "leave tensorboard out: history.csv has the same figures"
)
NO_NNUNET = "trainer: nnunet needs nnU-Net, which is not installed; pip install 'segstudy[nnunet]'"


def missing_extra(model: AnyModel) -> str:
    """Say which optional package the training of a model needs and Python does not find; nothing where all are there."""
    if model.trainer == "nnunet" and importlib.util.find_spec("nnunetv2") is None:
        return NO_NNUNET
    if getattr(model, "tensorboard", False) and importlib.util.find_spec("tensorboard") is None:
        return NO_TENSORBOARD
    return ""


def missing_extras(study: Study, models: Iterable[str], paths: ResultPaths | None) -> list[str]:
    """Say for each model with a training to come which optional package it needs and Python does not find.

    Parameters
    ----------
    study
        The study.
    models
        Names of those that are to run.
    paths
        Of the results, where trainings that are done stand; None: none is done.
    """
    return [
        f"models.{name}: {told}"
        for name in targets.trained_models(study, models)
        if (told := missing_extra(study.models[name]))
        and not (
            paths and all(Path(file).is_file() for file in targets.trainings(study, paths, [name]))
        )
    ]
