"""The targets of a study: the runs of its models, and the files that gather them."""

from collections.abc import Iterable

from segstudy.jobs.results import ResultPaths
from segstudy.study import Study

STAGES = ("download", "repair", "preprocess", "train", "infer", "metrics", "statistics", "publish")
"""The rules that gather a stage each, and `statistics`, which is made but once."""


def is_nnunet(study: Study, model: str) -> bool:
    """Return whether a model is nnU-Net itself."""
    return study.models[model].network == "nnunet"


def is_synth(study: Study, model: str) -> bool:
    """Return whether a model is trained on images synthesised from label maps."""
    return study.models[model].trainer == "synth"


def models_of(study: Study, *trainers: str) -> list[str]:
    """Return the models with one of these trainers."""
    return [name for name, model in study.models.items() if model.trainer in trainers]


def learns_from_files(study: Study, model: str) -> bool:
    """Return whether a model is trained on the images as they are: by nnU-Net, or a trainer of the user's own."""
    return study.models[model].trainer in ("nnunet", "plugin")


def seen_datasets(study: Study, model: str) -> list[str]:
    """Return the datasets whose cases a training has to know: those it learns from, and those tested that its initial weights may know."""
    tested = study.tested_datasets if getattr(study.models[model], "initial_weights", None) else []
    return list(dict.fromkeys([*study.trained_on(model), *tested]))


def followed_models(study: Study) -> list[str]:
    """Return the models whose training leaves weights and a history."""
    return models_of(study, "images", "synth", "nnunet")


def trained_models(study: Study, among: Iterable[str] | None = None) -> list[str]:
    """Return the models, or those of them `among` others, that are trained here, not programs of others."""
    trained = models_of(study, "images", "synth", "nnunet", "plugin")
    return (
        trained
        if among is None
        else [name for name in with_members(study, among) if name in trained]
    )


def with_members(study: Study, models: Iterable[str]) -> list[str]:
    """Return models, each ensemble followed by its members, none twice."""
    members = {name: getattr(study.models[name], "members", ()) for name in models}
    return list(dict.fromkeys(one for name, own in members.items() for one in (name, *own)))


def members_of(study: Study, model: str) -> list[tuple[str, int]]:
    """Return the models, each with each of its seeds, that predict together as an ensemble."""
    return [
        (member, seed)
        for member in study.models[model].members
        for seed in study.models[member].seeds
    ]


def trained_file(study: Study, model: str) -> str:
    """Return the name of the file that holds what a model has learned."""
    return "trained.tar" if study.models[model].trainer == "plugin" else "weights.pt"


def trainings(study: Study, paths: ResultPaths, among: Iterable[str] | None = None) -> list[str]:
    """Return the files that all trainings, or those of the models `among` others, end with."""
    return [
        f"{folder}/{trained_file(study, model)}"
        for model in trained_models(study, among)
        for folder in runs(study, paths.training(), [model])
    ] + trainings_on_all(study, paths, among)


def trainings_on_all(
    study: Study, paths: ResultPaths, among: Iterable[str] | None = None
) -> list[str]:
    """Return the files that trainings on every case end with, of models with `train_on_all`."""
    return [
        f"{paths.training_on_all(model, seed)}/{trained_file(study, model)}"
        for model in trained_models(study, among)
        if study.models[model].train_on_all
        for seed in study.models[model].seeds
    ]


def any_of(models: list[str]) -> str:
    """Return a wildcard's constraint: one of the models; no model, no match."""
    return "|".join(models) or "(?!)"


def runs(study: Study, pattern: str, models: Iterable[str] | None = None) -> list[str]:
    """Return a pattern filled in for every fold and seed of models, and tested dataset where it names one.

    Parameters
    ----------
    study
        The study.
    pattern
        A path with `{model}`, `{fold}`, `{seed}` and, where it names one, `{dataset}`.
    models
        Names of models; None: all of the study.
    """
    return list(
        dict.fromkeys(
            pattern.format(model=name, fold=fold, seed=seed, dataset=dataset)
            for name in (study.models if models is None else models)
            for fold in study.folds
            for seed in study.models[name].seeds
            for dataset in study.tested_datasets
        )
    )


def plans(study: Study, paths: ResultPaths) -> list[str]:
    """Return every fold's plan of the plans that a model uses."""
    used = dict.fromkeys(model.plan for model in study.models.values() if model.plan)
    return [paths.plan(plan, fold) for plan in used for fold in study.folds]


def grid_trainings(study: Study, paths: ResultPaths) -> list[str]:
    """Return the histories and settings of the trainings of each grid search."""
    return [
        f"{folder}/{file}"
        for grid in study.grids.values()
        for folder in runs(study, paths.training(), grid)
        for file in ("history.csv", "settings.json")
    ]
