"""Which fold tests which case."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from segstudy.cases import Case, Split
from segstudy.errors import InputError
from segstudy.study import Splits


def split(
    cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str], settings: Splits
) -> list[Split]:
    """Give each case the fold that tests it, or None where every fold's model does.

    cohorts: the cases of each dataset. roles: `train` or `test` of each dataset.

    Cases of a `test` dataset, and those whose `split` is `test`, get None: no fold trains on
    them. Folds that the user wrote into the case table are kept. Otherwise subjects are dealt
    into folds: sorted by foreground volume (mm³), in groups of as many as there are folds, one
    of each group to every fold, by a seeded shuffle. Folds so differ by at most one subject and
    hold large and small structures alike. The result depends on names, volumes and seed alone.

    A subject is never in two folds. The same subject's name in two training datasets is taken
    for the same person: that can only keep apart what might leak.

    Raises InputError where this cannot be kept, or a fold would have no case.
    """
    training = {
        (dataset, case.case): case
        for dataset, cases in cohorts.items()
        for case in cases
        if roles[dataset] == "train" and case.split != "test"
    }
    _refuse_leaks(cohorts, roles)
    given = [key for key, case in training.items() if case.fold is not None]
    if not given:
        subjects = _volumes(training.values())
        folds = _deal(subjects, settings)
        chosen = {key: folds[case.subject] for key, case in training.items()}
    elif len(given) < len(training):
        dataset, case = next(key for key in training if key not in set(given))
        raise InputError(
            f"dataset {dataset}: case {case} has no fold, but {len(given)} of {len(training)} "
            "training cases have one; give a fold to all of them or to none"
        )
    else:
        chosen = {key: case.fold for key, case in training.items()}
        _check_given(training, settings.folds)
    return [
        Split(dataset, case.case, case.subject, chosen.get((dataset, case.case)))
        for dataset, cases in cohorts.items()
        for case in sorted(cases, key=lambda case: case.case)
    ]


def _refuse_leaks(cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str]) -> None:
    """Refuse a subject with a case to train on and another that is only for testing."""
    for dataset, cases in cohorts.items():
        if roles[dataset] != "train":
            continue
        tested = {case.subject: case for case in cases if case.split == "test"}
        for case in cases:
            if case.split == "test":
                if case.fold is not None:
                    raise InputError(
                        f"dataset {dataset}: case {case.case} has split test and fold {case.fold}; "
                        "a test case is predicted by every fold's model: leave its fold empty"
                    )
            elif case.subject in tested:
                raise InputError(
                    f"dataset {dataset}: subject {case.subject} is trained on (case {case.case}) "
                    f"and kept for testing (case {tested[case.subject].case}); expected one or the "
                    "other: give all cases of a subject the same split"
                )


def _check_given(training: Mapping[tuple[str, str], Case], folds: int) -> None:
    """Refuse folds of the user that do not exist, that are empty or that share a subject."""
    owner: dict[str, Case] = {}
    for (dataset, name), case in training.items():
        if not 0 <= case.fold < folds:
            raise InputError(
                f"dataset {dataset}: case {name} has fold {case.fold}; expected 0 to {folds - 1} "
                f"(splits.folds is {folds})"
            )
        first = owner.setdefault(case.subject, case)
        if first.fold != case.fold:
            raise InputError(
                f"dataset {dataset}: subject {case.subject} is in fold {first.fold} (case "
                f"{first.case}) and in fold {case.fold} (case {name}); expected one fold a subject, "
                "else what a model has seen is tested"
            )
    empty = sorted(set(range(folds)) - {case.fold for case in training.values()})
    if empty:
        raise InputError(
            f"fold {empty[0]} has no case, but splits.folds is {folds}; give it cases or lower "
            "splits.folds"
        )


def _volumes(cases: Iterable[Case]) -> dict[str, float]:
    """Foreground volume of each subject in mm³, the mean of its cases."""
    found: dict[str, list[float]] = {}
    for case in cases:
        voxel = float(np.prod(case.spacing_mm)) if case.spacing_mm else 1.0
        found.setdefault(case.subject, []).append(sum(case.voxels.values()) * voxel)
    return {subject: float(np.mean(volumes)) for subject, volumes in found.items()}


def _deal(subjects: Mapping[str, float], settings: Splits) -> dict[str, int]:
    """A fold for each subject."""
    if len(subjects) < settings.folds:
        raise InputError(
            f"{settings.folds} folds for {len(subjects)} subjects to train on; expected at least one "
            "subject a fold: lower splits.folds or add cases"
        )
    generator = np.random.default_rng(settings.seed)
    names = sorted(subjects)
    if settings.stratify_by == "foreground_volume":
        names.sort(key=lambda name: (subjects[name], name))
    else:
        generator.shuffle(names)
    folds: dict[str, int] = {}
    for start in range(0, len(names), settings.folds):
        block = names[start : start + settings.folds]
        folds.update(zip(block, generator.permutation(settings.folds).tolist(), strict=False))
    return folds
