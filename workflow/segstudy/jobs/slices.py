"""The settings that a job is given: its own slice of the study, so that no other setting reruns it."""

import json
from pathlib import Path
from typing import Any

from segstudy import correction_records, prediction_files
from segstudy.files import file_checksum
from segstudy.jobs.results import ResultPaths
from segstudy.jobs.targets import is_synth, learns_from_files, members_of, seen_datasets
from segstudy.paths import state_of
from segstudy.study import (
    ExternalSettings,
    FitSettings,
    GridSettings,
    MeasureSettings,
    PredictionSettings,
    QualitySettings,
    Ratings,
    ResampleSettings,
    Settings,
    SplitSettings,
    Statistics,
    Study,
    TissueSettings,
    TrainSettings,
)


def split_settings(study: Study) -> SplitSettings:
    """Return the settings of the split, without `run_folds`, which changes no fold's content."""
    return SplitSettings(
        splits=study.splits.model_copy(update={"run_folds": None}),
        roles={name: dataset.role for name, dataset in study.datasets.items()},
        label_maps_are_tested=not study.needs_images,
    )


def plan_settings(study: Study, plan: str) -> FitSettings:
    """Return the settings of a plan's fit."""
    return FitSettings(
        plan=study.preprocess[plan],
        modality=study.modality,
        channels=study.channels,
        datasets=study.fitted_on(plan),
    )


def resample_settings(study: Study, dataset: str, plan: str) -> ResampleSettings:
    """Return the settings of a resampling, without the spacing, which is in the name of the folder."""
    return ResampleSettings(
        plan=study.preprocess[plan].model_copy(update={"spacing_mm": "auto"}),
        # Label maps have no channels of their own; the images drawn of them have the study's.
        dataset=study.datasets[dataset].cohort().model_copy(update={"channels": study.channels}),
        structures=study.structures,
    )


def tissue_settings(study: Study, dataset: str, plan: str) -> TissueSettings:
    """Return the settings that prepare label maps to draw images from."""
    return TissueSettings(
        **dict(resample_settings(study, dataset, plan)),
        left_right_pairs=study.left_right_pairs,
        tissues=study.datasets[dataset].tissues,
    )


def train_settings(study: Study, model: str) -> TrainSettings:
    """Return the settings of a training."""
    return TrainSettings(
        model=study.models[model].learning(),
        structures=study.structures,
        channels=study.channels,
        modality=study.modality,
        left_right_pairs=study.left_right_pairs,
        ignores=study.ignores(model),
    )


def external_settings(study: Study, model: str) -> ExternalSettings:
    """Return the settings of a program that predicts without being trained here."""
    return ExternalSettings(model=study.models[model].learning(), channels=study.channels)


def prediction_settings(study: Study, model: str, dataset: str) -> PredictionSettings:
    """Return the settings by which predictions that are there are read."""
    cohort = study.datasets[dataset]
    own = study.models[model]
    if not own.labels and not own.has_structure_files and cohort.merged_labels:
        # What is merged in the references is merged in predictions of the same values.
        labels = {
            name: (value, *(part for part, whole in cohort.merged_labels.items() if whole == value))
            for name, value in cohort.structures.items()
        }
        background = own.background_labels
        if background != "all":
            background = (*background, *cohort.background_labels)
        own = own.model_copy(update={"labels": labels, "background_labels": background})
    return PredictionSettings(
        name=model,
        model=own.learning(),
        structures=cohort.structures,
        background=cohort.background_labels,
    )


def prediction_state(study: Study, model: str, dataset: str, fold: str, seed: str) -> str:
    """Return a text that changes where a file of predictions, or what tells of their training, is replaced."""
    own = study.models[model]
    files = prediction_files.listed(own, study.datasets[dataset].structures, int(fold), int(seed))
    return state_of(files, [own.training_splits] if own.training_splits else [])


def measure_settings(study: Study, dataset: str) -> MeasureSettings:
    """Return the settings of the measurements on a dataset, without the reasons, which the report repeats."""
    cohort = study.datasets[dataset]
    return MeasureSettings(
        metrics=study.metrics.at_default(("reasons",)),
        structures=cohort.structures,
        left_right_pairs=study.left_right_pairs,
        ignore=cohort.ignore,
    )


def structures_option(study: Study, datasets: list[str]) -> str:
    """Return the value of each structure in the labels of datasets, as JSON."""
    return json.dumps({name: study.datasets[name].structures for name in datasets})


def ignore_option(study: Study, datasets: list[str]) -> list[str]:
    """Return the option with the label values of voxels that nobody has labelled, where there are such values."""
    values = {name: study.datasets[name].ignore for name in datasets if study.datasets[name].ignore}
    return ["--ignore", json.dumps(values)] if values else []


def training_options(
    study: Study, paths: ResultPaths, model: str, arrays: list[str], plan: list[str]
) -> list[str]:
    """Return the options of a training that name its data and its plan."""
    if not learns_from_files(study, model):
        option = "--tissues" if is_synth(study, model) else "--arrays"
        return [option, *arrays, "--plan", *plan, *_tables(study, paths, model)]
    datasets = study.trained_on(model)
    labels = [f"{name}={paths.repaired(name)}" for name in datasets if study.datasets[name].repair]
    return [
        *_tables(study, paths, model),
        *(["--labels", *labels] if labels else []),
        *("--structures", structures_option(study, datasets)),
        *ignore_option(study, datasets),
    ]


def _tables(study: Study, paths: ResultPaths, model: str) -> list[str]:
    """Return the option that names the case tables of a training."""
    return ["--cases", *(f"{name}={paths.cases(name)}" for name in seen_datasets(study, model))]


def initial_weights(study: Study, model: str) -> str:
    """Return the checksum of the weights that a model starts from; empty for one that starts from fresh ones."""
    path = getattr(study.models[model], "initial_weights", None)
    return file_checksum(path) if path else ""


def member_settings(study: Study, model: str) -> list[Settings]:
    """Return how each of an ensemble's networks predicts, in the order of its weights."""
    return [study.models[member].infer for member, _ in members_of(study, model)]


def member_plugins(study: Study, model: str) -> list[str]:
    """Return the options that name the plug-ins of an ensemble's members."""
    options = [plugin_option(study, member) for member in study.models[model].members]
    return [word for option in dict.fromkeys(map(tuple, options)) for word in option]


def plugin_option(study: Study, model: str) -> list[str]:
    """Return the option of a prediction that names the plug-in that predicts, where it is one."""
    used = study.models[model].plugins()
    text = used.get("network") or used.get("trainer") or used.get("trainer_class")
    return ["--plugin", text] if text else []


def training_cases(study: Study, paths: ResultPaths, model: str) -> list[str]:
    """Return `DATASET=TABLE`, with `:LABELS` where labels are repaired, of each dataset that a model learns from."""
    return [
        f"{name}={paths.cases(name)}"
        + (f":{paths.repaired(name)}" if study.datasets[name].repair else "")
        for name in study.trained_on(model)
    ]


def before_option(paths: ResultPaths, wildcards: Any) -> list[str]:
    """Return the option that names a folder of predictions from before the first correction, where they were kept."""
    w = wildcards
    now = paths.predictions(w.model, w.fold, w.seed, w.dataset)
    before = Path(paths.before, Path(now).relative_to(paths.root))
    return ["--before", str(before)] if before.is_dir() else []


def before_metrics_option(paths: ResultPaths) -> list[str]:
    """Return the option that names the measurements from before the first correction, where they were kept."""
    before = Path(paths.before, Path(paths.metrics).relative_to(paths.root))
    return ["--before", str(before)] if before.is_file() else []


def accounting_settings(study: Study, paths: ResultPaths) -> str:
    """Return what the accounting of corrections is given, as JSON."""
    return json.dumps(
        {
            "corrections": study.corrections,
            "alpha": study.statistics.alpha,
            "datasets": {name: {"cases": paths.cases(name)} for name in study.tested_datasets},
        }
    )


def rating_page_settings(study: Study) -> Study:
    """Return the settings of the page for raters: those of the viewer, and which cases it shows."""
    ratings = study.ratings and study.ratings.at_default(("files",))
    return viewer_settings(study).model_copy(update={"ratings": ratings})


def rating_settings(study: Study) -> str:
    """Return what the count of ratings is given, as JSON."""
    return json.dumps(
        {"study": study.name, "structures": study.structures, "seed": study.ratings.seed}
    )


def measured_columns(study: Study, model: str, fold: str, seed: str, dataset: str) -> str:
    """Return the columns that every row of a table of measurements has, as JSON."""
    return json.dumps(
        {
            "study": study.name,
            "dataset": dataset,
            "model": model,
            "fold": int(fold),
            "seed": int(seed),
        }
    )


def statistics_settings(study: Study) -> Statistics:
    """Return the settings of the comparison, without the estimates of quality, which another job makes."""
    return study.statistics.at_default(("quality",))


def quality_settings(study: Study, paths: ResultPaths) -> QualitySettings:
    """Return the settings of the estimates of quality."""
    datasets = {
        name: {
            "cases": paths.cases(name),
            "labels": paths.repaired(name) if dataset.repair else None,
            "structures": dataset.structures,
            "channels": len(dataset.channels) or 1,
        }
        for name, dataset in study.datasets.items()
        if name in study.tested_datasets
    }
    return QualitySettings.model_validate(
        {
            "predictions": paths.predictions(),
            "splits": paths.splits,
            "models": {name: model.seeds for name, model in study.compared().models.items()},
            "datasets": datasets,
        }
    )


WHERE_JOBS_RUN = (
    *("device", "gpus", "threads", "workers", "memory_mb", "runtime_min"),
    "tensorboard",
)
COMPARED_BY = (
    *("alpha", "margin", "primary", "rule", "compare", "compare_datasets"),
    *("correction", "subgroups", "bootstrap_samples", "seed", "quality"),
)


def figure_settings(study: Study) -> Study:
    """Return the settings of the figures: all but where jobs run, how cases are divided into them and what authors state."""
    models = {name: model.at_default(WHERE_JOBS_RUN) for name, model in study.models.items()}
    datasets = {
        name: dataset.at_default(("cases_per_job",)) for name, dataset in study.datasets.items()
    }
    update = {"models": models, "datasets": datasets}
    # Records that correct nothing change no figure.
    is_corrected = any(
        correction_records.has_corrected(study.corrections, name) for name in study.tested_datasets
    )
    update["corrections"] = study.corrections if is_corrected else None
    # Of ratings, a figure shows what was counted; without files there is none.
    ratings = Ratings(files=("ratings",)) if study.ratings and study.ratings.files else None
    return study.at_default(("reporting",)).model_copy(update={**update, "ratings": ratings})


def viewer_settings(study: Study) -> Study:
    """Return the settings of the viewer: those of the figures but for how models are compared and figures printed or added."""
    statistics = study.statistics.at_default(COMPARED_BY)
    publish = study.publish.at_default(("figures", "cohort_columns"))
    publish = publish.model_copy(update={"style": study.publish.style.for_pages()})
    update = {"statistics": statistics, "publish": publish, "ratings": None, "corrections": None}
    return figure_settings(study).model_copy(update=update)


def grid_options(study: Study, paths: ResultPaths) -> list[str]:
    """Return the options of `segstudy statistics` for a study with a grid search."""
    if not study.grids:
        return []
    models = [model for grid in study.grids.values() for model in grid]
    settings = GridSettings(
        grids=study.grids, weights={model: study.models[model].infer.weights for model in models}
    )
    return ["--grid", settings.to_json(), "--train", paths.trainings]


def metric_options(study: Study) -> list[str]:
    """Return the options of `segstudy statistics` for a study with metrics of plug-ins."""
    return ["--plugin", *study.metrics.plugins] if study.metrics.plugins else []


def rater_options(study: Study) -> list[str]:
    """Return the options of `segstudy statistics` for a study with a second reader's labels."""
    return ["--raters", *study.raters] if study.raters else []
