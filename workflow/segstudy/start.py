"""What is looked at before a study runs: by the workflow, by `segstudy run`, `segstudy study` and `segstudy new`.

Nothing is written, and no image is opened. As the command line, it may ask any stage.
"""

import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from segstudy import folds, rating_files, results_owner, shipped
from segstudy.cases import Case
from segstudy.download.registry import refuse_by_hand
from segstudy.errors import InputError
from segstudy.jobs import options
from segstudy.jobs.extras import missing_extras
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.partial import finished_part
from segstudy.jobs.results import ResultPaths
from segstudy.log import log
from segstudy.study import Dataset, FilesSource, Study, TableSource, check_sources, read_study


def chosen_study(config: Mapping[str, Any]) -> tuple[Study, Path]:
    """Return the study that `--config study=...` names, checked, and its file.

    config: what `config/config.yaml` has, with the user's changes. Raises InputError for a study that
    can't be read or has a twin, whose data a person has to ask for, or whose table or folder is not there.
    """
    file = options.study_file(str(config["study"]), shipped.STUDIES)
    folds.refuse_twin(file)
    study = read_study(file, config.get("path"))
    refuse_by_hand({name: own.source for name, own in study.datasets.items()}, str(config["study"]))
    check_sources(study, file)
    if study.corrections is not None and not Path(study.corrections).is_dir():
        raise InputError(
            f"{file}: corrections: {study.corrections}: no such folder; expected that of the corrected labels. Make it, or leave the "
            "key out"
        )
    if study.ratings is not None:
        rating_files.read_ratings(study.ratings.files)
    if study.corrections is None:
        beside = corrections_beside(study, file, config)
        if beside.is_dir():
            study = study.model_copy(update={"corrections": str(beside)})
    return study, file


def corrections_beside(study: Study, file: Path, config: Mapping[str, Any]) -> Path:
    """Return where corrected labels of a study are kept that names no folder: beside the file of its folds."""
    kept = folds.folds_file(file, shipped.STUDIES, f"{options.results_root(config)}/{study.name}")
    return kept.with_name(f"{file.stem}.corrections")


def audited_label(case: Case, dataset: Dataset, derived: Path) -> tuple[Path, list[str]]:
    """Examine a case's label as the audit does.

    Parameters
    ----------
    case
        With the label to be examined; where `delivered_label` is given, it is never resampled.
    dataset
        The dataset's settings.
    derived
        Folder for a label whose values or grid had to be converted.

    Returns
    -------
    label : Path
        The label in values of the study, on its image's grid.
    notes : list of str
        What was found and is no reason to refuse it.

    Raises
    ------
    InputError
        With every reason to refuse it.
    """
    from segstudy.download.audit import examine
    from segstudy.images.value_checks import REFUSED

    found = examine(case, dataset, derived)
    of_label = [one for one in found.problems if one.file == str(case.label)]
    refused = [one.problem for one in of_label if one.verdict == REFUSED]
    if refused or found.used is None:
        refused = refused or [one.problem for one in found.problems if one.verdict == REFUSED]
        raise InputError("\n".join(f"{case.label}: {text}" for text in refused))
    return found.used.label, [one.problem for one in of_label]


def check_tables(study: Study) -> None:
    """Raise InputError with all that is wrong with the case tables and patterns of a study, files' names included.

    Where bad cases are dropped (`on_bad_case: drop`), the audit says which, and a file that is missing
    stops nothing.
    """
    from segstudy.download.audit import refused_in_words
    from segstudy.download.layouts import list_cases

    lines = []
    listed: dict[str, list[Case]] = {}
    for name, dataset in study.datasets.items():
        by_name = isinstance(dataset.source, TableSource | FilesSource)
        if not by_name or not dataset.source.path:
            listed[name] = _cases_on_disk(dataset)
            continue
        where = f"datasets.{name}.source.path: {dataset.source.path}"
        try:
            listing = list_cases(dataset)
        except InputError as error:
            lines += [f"datasets.{name}: {line}" for line in str(error).splitlines()]
            continue
        if dataset.on_bad_case == "fail":
            lines += [f"{where}: {line}" for line in refused_in_words(listing)]
        if not listing.cases and not listing.problems:
            lines.append(f"{where}: no row below the header; expected a row a case")
        listed[name] = listing.cases
    if lines:
        raise InputError("\n".join(lines))
    _refuse_few_subjects(study, listed)


def _cases_on_disk(dataset: Dataset) -> list[Case] | None:
    """Return the cases of a folder, by its names; None where it is still to be fetched or, as the audit will say, is none of its layout."""
    from segstudy.download.layouts import list_cases

    with suppress(InputError):
        return list_cases(dataset).cases if getattr(dataset.source, "path", None) else None
    return None


def _refuse_few_subjects(study: Study, listed: Mapping[str, list[Case] | None]) -> None:
    """Raise InputError where folds are more than subjects, by names alone; the audit can only find fewer.

    listed: dataset -> its cases, None where they are not known yet.
    """
    names = study.cross_validated_datasets
    if study.splits.folds == 1 or not names or any(listed.get(name) is None for name in names):
        return
    by_case = study.splits.group_by == "case_though_it_leaks"
    found = {
        f"{name}/{case.case}" if by_case else case.subject
        for name in names
        if study.datasets[name].role == "train"
        for case in listed[name]
        if case.split != "test" and (case.images or not study.needs_images)
    }
    if found:
        try:
            folds.refuse_too_few(len(found), study.splits)
        except InputError as error:
            raise InputError(f"datasets {', '.join(names)}: {error}") from None


def check_initial_weights(study: Study, paths: ResultPaths) -> None:
    """Refuse initial weights that can't be read, that lack a layer to freeze, or that were trained on a tested case.

    Of the latter as far as audit and splits have run; else the training does. Raises InputError with the case, or the layer, and
    the file.
    """
    tuned = {
        name: model
        for name, model in study.models.items()
        if getattr(model, "initial_weights", None)
    }
    # Where torch lacks, jobs have environments of their own, and the training tells.
    if not tuned or importlib.util.find_spec("torch") is None:
        return
    from segstudy.networks.initial_weights import read_initial
    from segstudy.seen_cases import refuse_seen
    from segstudy.train.fine_tuning import begins

    known = _tested_checksums(study, paths)
    files = dict.fromkeys(one.initial_weights for one in tuned.values())
    read = {path: read_initial(path) for path in files}
    for name, model in tuned.items():
        initial = read[model.initial_weights]
        refuse_seen(initial.cases, known, f"models.{name}.initial_weights: {model.initial_weights}")
        for layer in model.freeze:
            if not any(begins(one, layer) for one in initial.state):
                tops = dict.fromkeys(one.partition(".")[0] for one in initial.state)
                example = next(iter(initial.state), "").rpartition(".")[0]
                raise InputError(
                    f"models.{name}.freeze: {layer}: no layer in {initial.file} has that name, or begins by it, so it would keep "
                    f"random weights; expected one of {', '.join(tops)}, or more of a name, e.g. {example}"
                )


def check_layer_names(study: Study) -> None:
    """Refuse names of layers, to be frozen or to learn at rates of their own, that a model's network has none of.

    Networks of plug-ins and nnU-Net's depend on the data; of them the training tells. Raises InputError with the model and the
    names there are.
    """
    asked = {}
    for name, model in study.models.items():
        factors = getattr(getattr(model, "optimizer", None), "lr_factors", {})
        keys = {"freeze": getattr(model, "freeze", ()), "optimizer.lr_factors": tuple(factors)}
        if any(keys.values()) and getattr(model, "network", "plugin") not in ("plugin", "nnunet"):
            asked[name] = keys
    if not asked or importlib.util.find_spec("torch") is None:
        return
    from segstudy.networks.layer_names import layer_names
    from segstudy.train.fine_tuning import check_name

    for name, keys in asked.items():
        layers = layer_names(study.models[name])
        for key, names in keys.items():
            for layer in names:
                check_name(layer, layers, f"models.{name}.{key}")


def _tested_checksums(study: Study, paths: ResultPaths) -> dict[str, str]:
    """Return the checksum of the image of each tested case, as far as audit and splits have run."""
    from segstudy.cases import read_cases, read_splits
    from segstudy.seen_cases import checksums

    audited = [name for name in study.tested_datasets if Path(paths.cases(name)).is_file()]
    if not Path(paths.splits).is_file():
        return {}
    folds = {*study.folds, None}
    tested = {
        f"{split.dataset}/{split.case}"
        for split in read_splits(paths.splits)
        if split.fold in folds
    }
    known = {}
    for dataset in audited:
        known |= checksums(dataset, read_cases(paths.cases(dataset)))
    return {case: checksum for case, checksum in known.items() if case in tested}


def proposed_dataset(folder: Path, name: str, path: Path) -> tuple[str, list[str]]:
    """Propose a dataset for the files in a folder.

    Parameters
    ----------
    folder
        The folder.
    name
        Of the dataset.
    path
        The folder as it stands in the study file.

    Returns
    -------
    text : str
        Lines of the study file.
    told : list of str
        What was found, and what is unsure.

    Raises
    ------
    InputError
        Where nothing in the folder is an image with a label.
    """
    from segstudy.download.proposal import propose

    proposal = propose(folder)
    source = proposal.entry["source"]
    source["path"] = path.as_posix()
    found = f"{source['layout']}, {proposal.cases} cases of {proposal.subjects} subjects"
    return proposal.text(name), [found, *(f"unsure: {one}" for one in proposal.unsure)]


def tell_cases(study: Study) -> None:
    """Print what the files of a study's datasets are taken for.

    Raises InputError where a dataset whose bad cases stop the study (`on_bad_case: fail`) has any.
    """
    from segstudy.download.overview import overview

    stopped = []
    for name, dataset in study.datasets.items():
        found = overview(name, dataset)
        print("\n".join(found.lines))
        if found.refused and dataset.on_bad_case == "fail":
            stopped.append(f"datasets.{name}")
    if stopped:
        raise InputError(
            f"{', '.join(stopped)}: not every file fits, as listed above; a run would stop. Correct the files "
            f"or the patterns, or set {stopped[0]}.on_bad_case: drop in the study file to go on without these cases"
        )


def check(config: Mapping[str, Any]) -> Study:
    """Return the study that `config` names, once nothing speaks against its run.

    Raises InputError as `chosen_study` and `check_tables` do, for a wrong value of `config`, and where
    the results' folder is another study's.
    """
    options.check_keys(config, shipped.CONFIG)
    study, file = chosen_study(config)
    options.finished_gb(config["keep_finished_gb"])
    models = options.chosen_models(config["only"], study)
    check_tables(study)
    paths = ResultPaths(f"{options.results_root(config)}/{study.name}")
    kept = folds.folds_file(file, shipped.STUDIES, paths.root)
    if kept.exists():
        folds.read_folds(kept, study.splits)
    if options.is_on(config["partial"], "partial"):
        finished_part(study, paths, models)
    check_initial_weights(study, paths)
    check_layer_names(study)
    for told in missing_extras(study, models, paths):
        log.warning("%s: %s", file, told)
    if not options.is_on(config["adopt"], "adopt"):
        results_owner.claim(paths.root, file, Inputs(study, paths, str, str).checksums)
    return study


def running_code() -> dict[str, str]:
    """Return version, digest of the files, and where known commit and state of the segstudy that runs, as packages tell them."""
    from segstudy.publish import rerun

    return {key: value for key, value in vars(rerun.code(anonymous=False)).items() if value}


def data_checksums(study: Study, results: Path, anonymous: bool) -> list[dict[str, Any]]:
    """Return the checksums of a study's data, as its package will have them, once their audit is done.

    Parameters
    ----------
    study
        The study.
    results
        The folder of its results.
    anonymous
        Whether those of a dataset are summed up.
    """
    from segstudy.publish.package_tables import data_checksums
    from segstudy.publish.results import Results

    return data_checksums(Results(study, results), anonymous)
