"""`segstudy train`: one network on one fold, from prepared cases to weights."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train one network on one fold. A run that was stopped goes on where it was. "
        "Writes weights.pt (last), best.pt (best validation Dice), history.csv, settings.json."
    )
    parser.add_argument(
        "--arrays",
        nargs="+",
        required=True,
        type=Path,
        metavar="DIR",
        help="folders of prepared cases",
    )
    parser.add_argument("--splits", required=True, type=Path, metavar="TSV", help="table of splits")
    parser.add_argument(
        "--plan", required=True, type=Path, metavar="JSON", help="the fold's preprocessing plan"
    )
    parser.add_argument("--fold", required=True, type=int, help="fold that is left out, from 0")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    parser.add_argument(
        "--settings", required=True, metavar="JSON", help="TrainSettings as JSON, or @FILE"
    )
    parser.add_argument("--threads", type=int, help="CPU threads; left out: the model's")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="left out: the model's")
    parser.add_argument(
        "--memory-mb", type=int, metavar="MB", help="memory of the job; left out: the model's"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")


def run(options: argparse.Namespace) -> None:
    from segstudy import code, study
    from segstudy.cases import read_splits, trained
    from segstudy.files import read_json
    from segstudy.images.arrays import open_arrays
    from segstudy.images.prepare import Plan
    from segstudy.networks.device import choose_device
    from segstudy.train.fit import fit, prepare_torch
    from segstudy.train.resolve import resolve

    settings = study.from_json(study.TrainSettings, options.settings)
    model = settings.model
    threads = options.threads or model.threads
    device = choose_device(options.device or model.device)
    prepare_torch(device, threads)
    splits = trained(
        read_splits(options.splits), options.fold, model.validation_share, options.seed
    )
    found = open_arrays(options.arrays)
    training, validation = ([_arrays(found, split) for split in part] for part in splits)
    resolved = resolve(
        settings,
        Plan.from_dict(read_json(options.plan)),
        fold=options.fold,
        seed=options.seed,
        training=[f"{case.dataset}/{case.case}" for case in training],
        validation=[f"{case.dataset}/{case.case}" for case in validation],
        device=device.type,
    )
    fit(
        resolved,
        training,
        validation,
        options.output,
        device=device,
        threads=threads,
        memory_mb=options.memory_mb or model.memory_mb,
        code=code.digest("train.command", f"networks.{model.network}"),
    )


def _arrays(found: dict, split):
    from segstudy.errors import InputError

    try:
        return found[split.dataset, split.case]
    except KeyError:
        raise InputError(
            f"--arrays: no prepared case {split.case} of {split.dataset}, which the splits name; "
            "give the folders of all its dataset's shards"
        ) from None
