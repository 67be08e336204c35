"""`segstudy export nnunet`: a study's dataset, folds and repaired labels as nnU-Net's raw data, for any trainer of others."""

import re
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from segstudy.errors import InputError

NAME = re.compile(r"Dataset\d{3}_\w+")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the form, the study and the folder."""
    parser.description = (
        "Write the cases of a study, with the labels that its models see and the folds that it tests, as DatasetNNN_NAME of "
        "nnUNet_raw, with splits_final.json in it."
    )
    parser.add_argument("form", choices=["nnunet"], help="what is written")
    parser.add_argument("study", metavar="STUDY", help="a name in config/studies, or a study file")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="nnUNet_raw, or any other folder"
    )
    parser.add_argument(
        "--name", metavar="DatasetNNN_NAME", help="of the dataset (default: Dataset001_<study>)"
    )
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="as for a run: results=DIR"
    )
    parser.epilog = (
        "example: segstudy export nnunet my/study.yaml --output nnUNet_raw --name Dataset101_Heart"
    )


def run(options: Namespace) -> None:
    """Write the dataset, and say what to do with it."""
    from segstudy.jobs.results import ResultPaths
    from segstudy.preview_command import config_of, results_folder
    from segstudy.start import chosen_study

    config = config_of(options)
    study, _ = chosen_study(config)
    name = options.name or f"Dataset001_{study.name}"
    if not NAME.fullmatch(name):
        raise InputError(
            f"--name {name}: expected Dataset, three digits, `_` and a name, as Dataset101_Heart"
        )
    paths = ResultPaths(results_folder(config, study.name))
    print(export(study, paths, options.output / name, options.study))


def export(study, paths, target: Path, called: str) -> str:
    """Write a study as nnU-Net's raw data; return what to do next.

    Parameters
    ----------
    study : Study
        The study.
    paths : ResultPaths
        Where its audit, its repaired labels and its folds are.
    target
        The folder to write, which is not there yet.
    called
        The study as the user names it, for the messages.

    Raises
    ------
    InputError
        Where the folder is there, the study has no images, or its folds or repaired labels are not made yet.
    """
    from segstudy.cases import LEFT_OUT, read_splits, tested, training_side
    from segstudy.files import make_folder, write_json, writing_folder
    from segstudy.nnunet_raw import raw_name, write_raw
    from segstudy.words import count

    if target.exists():
        raise InputError(
            f"{target}: is there already, and is not written over; give another --name"
        )
    datasets = [name for name in study.tested_datasets if study.datasets[name].has_images]
    if not datasets:
        raise InputError(
            f"{called}: has label maps alone, and nnU-Net's raw data are images and labels"
        )
    made = [paths.splits, *map(paths.cases, datasets)]
    made += [paths.repaired(name) for name in datasets if study.datasets[name].repair]
    missing = [path for path in made if not Path(path).exists()]
    if missing:
        raise InputError(
            f"{missing[0]}: not made yet; first: segstudy run {shlex.quote(called)} {shlex.join(dict.fromkeys(_targets(study, paths)))}"
        )
    splits = read_splits(paths.splits)
    cases = {case.name: case for name in datasets for case in _cases(study, paths, name)}
    known = {(case.dataset, case.case.case): case for case in cases.values()}
    crossed = [
        known[one.dataset, one.case]
        for one in splits
        if one.fold not in (None, LEFT_OUT) and (one.dataset, one.case) in known
    ]
    apart = [
        known[one.dataset, one.case]
        for one in splits
        if one.fold is None and (one.dataset, one.case) in known
    ]
    about = (study.structures, study.channels, study.modality)
    ignores = any(study.datasets[name].ignore for name in datasets)
    make_folder(target.parent)
    with writing_folder(target) as folder:
        write_raw(folder, crossed, *about, ignores)
        if apart:
            write_raw(folder, apart, *about, ignores, "Ts")
        folds = [
            {
                "train": [
                    raw_name(known[one.dataset, one.case])
                    for one in training_side(splits, fold)
                    if (one.dataset, one.case) in known
                ],
                "val": [
                    raw_name(known[name, case])
                    for name in datasets
                    for case in tested(splits, fold, name)
                    if known[name, case] in crossed
                ],
            }
            for fold in range(study.splits.folds)
        ]
        if crossed:
            write_json(folder / "splits_final.json", folds)
    return "\n".join(
        [
            f"{target}: {count(len(crossed), 'case')} in imagesTr"
            + (f", {len(apart)} in imagesTs" if apart else "")
            + f", {count(study.splits.folds, 'fold')}",
            f"then: nnUNetv2_plan_and_preprocess -d {target.name[7:10]}, and copy splits_final.json into "
            f"nnUNet_preprocessed/{target.name}/ before nnUNetv2_train, so that its folds are these",
        ]
    )


def _targets(study, paths) -> list[str]:
    return [
        *(["repair"] if any(own.repair for own in study.datasets.values()) else []),
        paths.splits,
    ]


def _cases(study, paths, dataset: str) -> list:
    """Return the cases of a dataset, with the labels that models see."""
    from segstudy.cases import Labelled, read_cases, repaired_labels

    own = study.datasets[dataset]
    folder = paths.repaired(dataset) if own.repair else None
    return [
        Labelled(dataset, case, own.structures, own.ignore)
        for case in repaired_labels(read_cases(paths.cases(dataset)), folder)
    ]
