"""Splits: the fold that tests each case."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from segstudy.cases import (
    FROM_TABLE,
    JOINED,
    LEFT_OUT,
    SEED,
    UNTESTED,
    Case,
    Split,
    leaks_on_request,
    training_side,
)
from segstudy.errors import InputError
from segstudy.folds import refuse_too_few
from segstudy.log import log
from segstudy.study import Splits
from segstudy.words import count

Key = tuple[str, str]
"""A case: dataset and name."""


def split(
    cohorts: Mapping[str, Sequence[Case]],
    roles: Mapping[str, str],
    settings: Splits,
    known: Mapping[str, int] = MappingProxyType({}),
    label_maps_are_tested: bool = False,
) -> list[Split]:
    """Assign each case the fold that tests it, or None where every fold's model does.

    Cases of a `test` dataset, and those whose `split` is `test`, get None: no fold trains on
    them. Folds that the user wrote into the case table are kept. Otherwise subjects are dealt
    into folds: sorted by foreground volume (mm³), in blocks of as many as there are folds, one
    of each block to every fold, by a seeded shuffle. Folds so differ by at most one subject and
    hold large and small structures alike; by `volume_and_presence` they hold as many subjects that
    lack a structure, too. The result depends on names, volumes and seed alone. A subject whose fold
    is known stays there; new ones go to the fold with the fewest subjects, and among these to the one
    that lacks such subjects most.

    A label map without image, a case of a `train_only` dataset, and where `folds` is 1, a fixed split, every case to train on, is
    tested by no fold and trained on by all of them (`UNTESTED`), unless images of its subject are tested: the folds that test these leave it out, and where all folds do, it is `LEFT_OUT`.
    So is a case whose subject is in a `test` dataset, but for label maps of a study with folds, which are warned of; and a label
    map whose `split` is `test`, which has no image to predict.

    A subject is never in two folds, and never in one where another training dataset keeps it for testing (`split: test`); subjects with the same image are one since the audit. The same
    name of a subject in two training datasets is taken for the same person, which can only separate
    cases that might leak. The one exception is `group_by: case_though_it_leaks`, where every case
    is dealt out by itself; a warning tells how many subjects are then trained on and tested.

    Parameters
    ----------
    cohorts
        Dataset -> its cases.
    roles
        Dataset -> `train` or `test`.
    settings
        Number of folds, seed and stratification.
    known
        Subject -> its fold in an earlier run (case, as `dataset/case`, where cases are dealt one by
        one).
    label_maps_are_tested
        Whether cases without images are dealt and tested as others are.

    Raises
    ------
    InputError
        Where these rules cannot be kept, or a fold would have no case.
    """
    training = {
        (dataset, case.case): case
        for dataset, cases in cohorts.items()
        for case in cases
        if roles[dataset] == "train"
        and case.split != "test"
        and (case.images or label_maps_are_tested)
        and settings.folds > 1
    }
    maps = {
        (dataset, case.case): case
        for dataset, cases in cohorts.items()
        for case in cases
        if (case.split != "test" and not (case.images or label_maps_are_tested))
        or roles[dataset] == "train_only"
        or (settings.folds == 1 and roles[dataset] == "train" and case.split != "test")
    }
    if settings.folds == 1:
        _check_fixed(cohorts, roles)
    _say_same_images(cohorts)
    leaky = settings.group_by == "case_though_it_leaks"
    if not leaky:
        _refuse_leaks(cohorts, roles)
        _refuse_tested_elsewhere(training, cohorts, roles)
    given = [key for key, case in training.items() if case.fold is not None]
    if not training and (maps or "train" not in roles.values()):
        chosen = {}
    elif not given:
        unit = {
            key: f"{key[0]}/{key[1]}" if leaky else case.subject for key, case in training.items()
        }
        folds = _deal(_volumes(training, unit), settings, known)
        chosen = {key: folds[unit[key]] for key in training}
        if leaky:
            _warn_of_leaks(training, chosen)
    elif len(given) < len(training):
        dataset, case = next(key for key in training if key not in set(given))
        raise InputError(
            f"dataset {dataset}: case {case} has no fold, but {len(given)} of {len(training)} "
            "training cases have one; give a fold to all of them or to none"
        )
    else:
        chosen = {key: case.fold for key, case in training.items()}
        _check_given(training, settings.folds)
    chosen |= _untested(maps, training, chosen, cohorts, roles, settings.folds)
    chosen |= {} if label_maps_are_tested else _without_images(cohorts, roles)
    if maps and not (training or label_maps_are_tested) and set(chosen.values()) == {LEFT_OUT}:
        raise InputError(
            f"nothing is left to train on: the subject of each of the {len(maps)} training cases is tested, too; where these are "
            "other people of the same name, give each a name of its own in the column subject"
        )
    splits = [
        Split(dataset, case.case, case.subject, chosen.get((dataset, case.case)))
        for dataset, cases in cohorts.items()
        for case in sorted(cases, key=lambda case: case.case)
    ]
    if not (label_maps_are_tested or leaks_on_request(splits)):
        _refuse_same_images(cohorts, roles, splits)
    _say_what_cannot_be_learned(training | maps, splits, settings.folds)
    return splits


def origins(
    folds: Mapping[str, int], before: Mapping[str, str], *, by_table: bool
) -> dict[str, str]:
    """Return how each subject got its fold, one of `cases.ORIGINS`.

    Parameters
    ----------
    folds
        Subject -> the fold that `split` gave it.
    before
        Subject -> how it had got the fold that was known.
    by_table
        Whether the case table gives the folds.
    """
    if by_table:
        return dict.fromkeys(folds, FROM_TABLE)
    new = JOINED if before.keys() & folds.keys() else SEED
    return {subject: before.get(subject, new) for subject in folds}


def _say_same_images(cohorts: Mapping[str, Sequence[Case]]) -> None:
    for dataset, cases in cohorts.items():
        same = [case for case in cases if case.same_image_as]
        if same:
            log.warning(
                "dataset %s: %d cases have the same image as a case of another subject, e.g. %s and %s: "
                "taken for one subject",
                dataset,
                len(same),
                same[0].case,
                same[0].same_image_as,
            )


def _say_what_cannot_be_learned(
    cases: Mapping[Key, Case], splits: Sequence[Split], folds: int
) -> None:
    """Warn of structures that no training case of a fold has; refuse a fold without any structure."""
    lacking: dict[str, list[int]] = {}
    for fold in range(folds):
        side = [cases[split.dataset, split.case] for split in training_side(splits, fold)]
        names = sorted({name for case in side for name in case.voxels})
        absent = [name for name in names if not any(case.voxels.get(name) for case in side)]
        if names and len(absent) == len(names):
            raise InputError(
                f"fold {fold}: none of the {len(side)} cases to train on has a voxel of {' or '.join(names)}, "
                "so there is nothing to learn; see whether the values in the study file are those of "
                "the labels, give more cases, or set splits.stratify_by: volume_and_presence"
            )
        for name in absent:
            lacking.setdefault(name, []).append(fold)
    for name, lacking_folds in lacking.items():
        which = (
            "any fold"
            if len(lacking_folds) == folds
            else f"fold {', '.join(map(str, lacking_folds))}"
        )
        log.warning(
            "%s: no case that %s trains on has a voxel of it, so it cannot be learned there",
            name,
            which,
        )


def _untested(
    cases: Mapping[Key, Case],
    training: Mapping[Key, Case],
    chosen: Mapping[Key, int],
    cohorts: Mapping[str, Sequence[Case]],
    roles: Mapping[str, str],
    folds_in_all: int,
) -> dict[Key, int]:
    """Find the fold that leaves out each case that none tests: that of its subject's images, else none does.

    A subject that every fold tests, or whose images are in several folds (of a study that asks for leaks), is left out by all.
    """
    folds: dict[str, set[int | None]] = {}
    elsewhere: set[str] = set()
    for dataset, members in cohorts.items():
        for case in members:
            if roles[dataset] == "test":
                elsewhere.add(case.subject)
            elif (dataset, case.case) in cases:
                continue
            else:
                fold = chosen[dataset, case.case] if (dataset, case.case) in training else None
                folds.setdefault(case.subject, set()).add(fold)
    # In a cross-validation, the same name in a dataset for testing is taken for another person's; so for label maps there.
    strict = {key for key in cases if roles[key[0]] == "train_only" or folds_in_all == 1}
    left_out_by: dict[Key, int] = {}
    for key, case in cases.items():
        testing = folds.get(case.subject, {UNTESTED})
        one = next(iter(testing)) if len(testing) == 1 else None
        by_all = one is None or (key in strict and case.subject in elsewhere)
        left_out_by[key] = LEFT_OUT if by_all else one
    held = sum(fold != UNTESTED for fold in left_out_by.values())
    if held:
        log.info(
            "%d of %d cases that no fold tests are of subjects that folds do test: left out there",
            held,
            len(left_out_by),
        )
    alike = {cases[key].subject for key in strict} & elsewhere
    if alike:
        log.warning(
            "%s to train on, e.g. %s, by the name of one that is kept for testing in another dataset: taken for the same "
            "people, and their cases left out of all trainings; if they are others, give them names of their own",
            count(len(alike), "subject"),
            min(alike),
        )
    alike = {case.subject for key, case in cases.items() if key not in strict} & elsewhere
    if alike:
        log.warning(
            "%s of label maps, e.g. %s, by the name of one that is kept for testing in another "
            "dataset: if they are the same people, leave these maps out",
            count(len(alike), "subject"),
            min(alike),
        )
    return left_out_by


def _without_images(
    cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str]
) -> dict[Key, int]:
    """Leave out label maps that are kept for testing: they have no image to predict."""
    found = {
        (dataset, case.case): LEFT_OUT
        for dataset, cases in cohorts.items()
        for case in cases
        if roles[dataset] == "train" and case.split == "test" and not case.images
    }
    if found:
        log.warning(
            "%s with split test, e.g. %s, and no image to predict: neither trained on nor tested",
            count(len(found), "label map"),
            "/".join(min(found)),
        )
    return found


def _refuse_tested_elsewhere(
    training: Mapping[Key, Case], cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str]
) -> None:
    """Refuse a case that is dealt into folds where another dataset keeps its subject for testing, by `split`.

    A whole dataset for testing (`role: test`) is another site's, so that the same name is another person's; a warning tells of it.
    """
    kept: dict[str, Key] = {}
    elsewhere: dict[str, str] = {}
    for dataset, cases in cohorts.items():
        for case in cases:
            if roles[dataset] == "test":
                elsewhere.setdefault(case.subject, dataset)
            elif case.split == "test":
                kept.setdefault(case.subject, (dataset, case.case))
    for (dataset, name), case in training.items():
        if case.subject in kept:
            other, tested_case = kept[case.subject]
            raise InputError(
                f"datasets {dataset} and {other}: subject {case.subject} is trained on (case {dataset}/{name}) and kept for testing "
                f"(case {other}/{tested_case}, split test); expected one or the other: give all cases of a subject the same split, "
                "or, where these are two people, give each a name of its own in the column subject"
            )
    alike = sorted({case.subject for case in training.values()} & elsewhere.keys())
    if alike:
        log.warning(
            "%s that folds train on and test, e.g. %s, by the name of one of dataset %s, which is only for testing: taken "
            "for other people; if they are the same, leave their cases out of one of the two, or give them split test",
            count(len(alike), "subject"),
            alike[0],
            elsewhere[alike[0]],
        )


def _refuse_same_images(
    cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str], splits: Sequence[Split]
) -> None:
    """Refuse an image of one dataset that is trained on where its copy in another is tested.

    Within a dataset, the audit has made one subject of the two.
    """
    checksums = {
        (dataset, case.case): case.checksum for dataset, cases in cohorts.items() for case in cases
    }
    copies: dict[str, list[Split]] = {}
    for row in splits:
        if checksum := checksums[row.dataset, row.case]:
            copies.setdefault(checksum, []).append(row)
    for rows in copies.values():
        for tested in rows:
            if roles[tested.dataset] == "train_only" or tested.fold in (UNTESTED, LEFT_OUT):
                continue
            for other in rows:
                if other.dataset != tested.dataset and other.fold not in (
                    None,
                    LEFT_OUT,
                    tested.fold,
                ):
                    raise InputError(
                        f"datasets {tested.dataset} and {other.dataset}: cases {tested.case} and {other.case} have the same image, "
                        f"which would be tested as {tested.dataset}/{tested.case} and trained on as {other.dataset}/{other.case}; leave "
                        "one of them out, or, where folds test both datasets, give both the same subject"
                    )


def _refuse_leaks(cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str]) -> None:
    """Refuse a subject with a case to train on and another that is only for testing."""
    for dataset, cases in cohorts.items():
        if roles[dataset] == "test":
            continue
        tested = {case.subject: case for case in cases if case.split == "test"}
        for case in cases:
            if case.split == "test":
                if roles[dataset] == "train_only":
                    raise InputError(
                        f"dataset {dataset}: case {case.case} has split test, but role: train_only is never tested; set role: "
                        "train, or leave the case out"
                    )
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
                    f"{_why_one(case, tested[case.subject])}"
                )


def _check_fixed(cohorts: Mapping[str, Sequence[Case]], roles: Mapping[str, str]) -> None:
    """Refuse a split without folds in which a dataset has no tested case, or a case has a fold."""
    for dataset, cases in cohorts.items():
        if roles[dataset] != "train":
            continue
        given = next((case for case in cases if case.fold is not None), None)
        if given:
            raise InputError(
                f"dataset {dataset}: case {given.case} has fold {given.fold}, but splits.folds is 1, a fixed split without folds; "
                "write split (train or test) in place of fold, or set splits.folds"
            )
        images = any(case.images for case in cases)
        if images and not any(case.split == "test" for case in cases):
            raise InputError(
                f"dataset {dataset}: none of its {len(cases)} cases has split test, and splits.folds is 1, so that nothing of it is "
                "tested; mark its test cases in the case table, set role: train_only where another dataset is tested, or "
                "set splits.folds for a cross-validation"
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
                f"else what a model has seen is tested{_why_one(first, case)}"
            )
    empty = sorted(set(range(folds)) - {case.fold for case in training.values()})
    if empty:
        raise InputError(
            f"fold {empty[0]} has no case, but splits.folds is {folds}; give it cases or lower "
            "splits.folds"
        )


def _why_one(*cases: Case) -> str:
    same = next((case for case in cases if case.same_image_as), None)
    return f"; {same.case} has the same image as {same.same_image_as}" if same else ""


def _warn_of_leaks(training: Mapping[Key, Case], chosen: Mapping[Key, int]) -> None:
    """Say how many subjects stand in several folds."""
    folds: dict[str, set[int]] = {}
    for key, case in training.items():
        folds.setdefault(case.subject, set()).add(chosen[key])
    log.warning(
        "LEAK, as splits.group_by asks for: %d of %d subjects have cases in several folds, so models are "
        "tested on subjects that they were trained on; do not publish these figures as those of new patients",
        sum(len(subject_folds) > 1 for subject_folds in folds.values()),
        len(folds),
    )


def _volumes(
    cases: Mapping[Key, Case], unit: Mapping[Key, str]
) -> dict[str, tuple[tuple[bool, ...], float]]:
    """Group cases by subject, or by another unit: structures that are present, and foreground volume.

    The volume is in mm³, the mean over the cases; a structure counts that any of them has.
    """
    grouped: dict[str, list[Case]] = {}
    for key, case in cases.items():
        grouped.setdefault(unit[key], []).append(case)
    return {
        name: (
            tuple(any(case.voxels[part] for case in members) for part in sorted(members[0].voxels)),
            float(np.mean([_volume_mm3(case) for case in members])),
        )
        for name, members in grouped.items()
    }


def _volume_mm3(case: Case) -> float:
    voxel = float(np.prod(case.spacing_mm)) if case.spacing_mm else 1.0
    return sum(case.voxels.values()) * voxel


def _deal(
    subjects: Mapping[str, tuple[tuple[bool, ...], float]],
    settings: Splits,
    known: Mapping[str, int],
) -> dict[str, int]:
    """Deal the subjects into folds: each into its known one, else into a new one."""
    refuse_too_few(len(subjects), settings)
    generator = np.random.default_rng(settings.seed)
    names = sorted(subjects)
    if settings.stratify_by == "foreground_volume":
        names.sort(key=lambda name: (subjects[name][1], name))
    elif settings.stratify_by == "volume_and_presence":
        names.sort(key=lambda name: (*subjects[name], name))
    else:
        generator.shuffle(names)
    folds = {name: known[name] for name in names if name in known}
    if folds:
        return _join(folds, names, subjects, settings)
    for start in range(0, len(names), settings.folds):
        block = names[start : start + settings.folds]
        folds.update(zip(block, generator.permutation(settings.folds).tolist(), strict=False))
    return folds


def _join(
    folds: dict[str, int],
    names: Sequence[str],
    subjects: Mapping[str, tuple[tuple[bool, ...], float]],
    settings: Splits,
) -> dict[str, int]:
    """Return the folds with new subjects in them, the largest first, each where it is missed most.

    Raises InputError where a fold is left without a subject.
    """
    folds = dict(folds)
    for name in reversed([name for name in names if name not in folds]):
        kind, _ = subjects[name]
        need = []
        for fold in range(settings.folds):
            others = [subjects[other] for other in folds if folds[other] == fold]
            alike = sum(presence == kind for presence, _ in others)
            volume = sum(volume for _, volume in others)
            need.append(
                (
                    len(others),
                    alike if settings.stratify_by == "volume_and_presence" else 0,
                    volume if settings.stratify_by != "none" else 0,
                    fold,
                )
            )
        folds[name] = min(need)[-1]
    empty = sorted(set(range(settings.folds)) - set(folds.values()))
    if empty:
        raise InputError(
            f"fold {empty[0]} has no subject: of the file of folds, none that is in it is left; edit the file, add "
            "cases, or deal afresh: `segstudy new --splits STUDY`"
        )
    return folds
