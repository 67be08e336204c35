"""What can be reported before every run is done: the models and folds that are finished, and what is missing."""

from pathlib import Path

from segstudy.errors import InputError
from segstudy.jobs.results import ResultPaths
from segstudy.jobs.targets import trained_file, trained_models, with_members
from segstudy.study import Study


def finished_part(study: Study, paths: ResultPaths, models: list[str]) -> Study:
    """Return the study as far as its runs are done, with what is missing in `partial`.

    Every model of the part has run in every fold of the part, so that all are compared on the same
    subjects: as many models as have a fold in common, the furthest first, and all folds that these share.
    A training is done where its weights are there, a program's run where its predictions are.

    Parameters
    ----------
    study : Study
        The whole study.
    paths : ResultPaths
        Where its results lie.
    models : list of str
        The models that are asked for.

    Raises
    ------
    InputError
        Where no run is done.
    """
    models = with_members(study, models)
    done = {name: _folds_done(study, paths, name) for name in models}
    folds, part = set(study.folds), []
    first = sorted(models, key=lambda name: (-len(done[name]), models.index(name)))
    for name in sorted(first, key=study.raters.count):  # a rater decides on no fold
        if folds & done[name]:
            folds, part = folds & done[name], [*part, name]
    part = [name for name in part if set(getattr(study.models[name], "members", ())) <= {*part}]
    if set(part) <= set(study.raters):
        compared = [name for name in models if name not in study.raters]
        raise InputError(
            f"partial: none of {', '.join(compared)} is trained in any fold below {paths.root}; a report needs "
            "one run that is done"
        )
    missing = _missing(study, done, part, folds)
    if not missing:
        return study
    kept = [name for name in study.models if name in part]
    whole = study.splits.run_folds if folds == set(study.folds) else tuple(sorted(folds))
    compare = study.statistics.compare
    if compare != "all":
        compare = tuple(pair for pair in compare if set(pair) <= set(kept)) or "all"
    grids = {
        grid: {name: varied for name, varied in members.items() if name in kept}
        for grid, members in study.grids.items()
    }
    return study.model_copy(
        update={
            "models": {name: study.models[name] for name in kept},
            "splits": study.splits.model_copy(update={"run_folds": whole}),
            "statistics": study.statistics.model_copy(update={"compare": compare}),
            "grids": {grid: members for grid, members in grids.items() if members},
            "partial": missing,
        }
    )


def _folds_done(study: Study, paths: ResultPaths, model: str) -> set[int]:
    """Return the folds in which every seed of a model is done; of an ensemble, of each of its members."""
    members = getattr(study.models[model], "members", ())
    if members:
        return set.intersection(*(_folds_done(study, paths, member) for member in members))
    trained = model in trained_models(study)
    return {
        fold
        for fold in study.folds
        if all(
            Path(paths.training(model, fold, seed), trained_file(study, model)).is_file()
            if trained
            else all(
                Path(paths.predictions(model, fold, seed, dataset)).is_dir()
                for dataset in study.tested_datasets
            )
            for seed in study.models[model].seeds
        )
    }


def _missing(
    study: Study, done: dict[str, set[int]], part: list[str], folds: set[int]
) -> tuple[str, ...]:
    """Return what the part lacks, a sentence each."""
    sentences = []
    for name in study.models:
        if name not in done:
            sentences.append(f"{name} was left out on request")
        elif name not in part:
            n_done = len(done[name])
            sentences.append(
                f"{name} is done in {n_done} of {len(study.folds)} folds, none of them one of the others'"
                if n_done
                else f"{name} is done in no fold"
            )
        elif done[name] != set(study.folds):
            lacking = sorted(set(study.folds) - done[name])
            sentences.append(f"{name} lacks fold {', '.join(map(str, lacking))}")
    if folds != set(study.folds):
        word = "fold" if len(folds) == 1 else "folds"
        sentences.append(f"results are of {word} {', '.join(map(str, sorted(folds)))} alone")
    return tuple(sentences)
