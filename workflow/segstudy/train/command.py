"""`segstudy train`: one network on one fold, from prepared cases to weights."""

import argparse
import importlib.util
from pathlib import Path

from segstudy import finished
from segstudy.cases import fold_number
from segstudy.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `segstudy train`."""
    parser.description = (
        "Train one network on one fold. A run that was stopped goes on where it was. "
        "Writes weights.pt (last), best.pt (best validation Dice), history.csv, settings.json; a trainer of your own: "
        "trained.tar, settings.json."
    )
    parser.add_argument("--splits", required=True, type=Path, metavar="TSV", help="table of splits")
    parser.add_argument(
        "--fold",
        required=True,
        type=fold_number,
        help="fold that is left out, from 0; all: none is, to train on every case but those that are only for testing",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    parser.add_argument(
        "--settings", required=True, metavar="JSON", help="TrainSettings as JSON, or @FILE"
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="processes that share each batch, one a GPU (or all on the CPU); left out: the model's gpus",
    )
    parser.add_argument(
        "--threads", type=int, help="CPU threads of all processes; left out: the model's"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="left out: the model's")
    parser.add_argument(
        "--memory-mb",
        type=int,
        metavar="MB",
        help="memory of the job; left out: the model's, or what is free",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="of the threads, processes that cut patches, for each that trains, or auto; left out: the model's",
    )
    parser.add_argument(
        "--tensorboard",
        choices=["yes", "no"],
        help="write TensorBoard's event files too, into OUTPUT/tensorboard; left out: the model's",
    )
    parser.add_argument(
        "--attempt",
        type=int,
        default=1,
        metavar="N",
        help="of a further attempt its number: a GPU whose memory was too small is not tried again",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    finished.add_arguments(parser)
    prepared_group = parser.add_argument_group("networks of segstudy learn from prepared cases")
    prepared_group.add_argument(
        "--arrays",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of prepared cases, or .txt files that list such folders",
    )
    prepared_group.add_argument(
        "--tissues",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of label maps, in place of --arrays, for trainer: synth",
    )
    prepared_group.add_argument(
        "--plan", type=Path, metavar="JSON", help="the fold's preprocessing plan"
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="DATASET=TABLE",
        help="case tables of the training datasets, and of others that are tested: by the checksums in them, weights know which "
        "images they have seen",
    )
    nnunet = parser.add_argument_group(
        "nnU-Net, or a trainer of your own, prepares the images itself (and needs --cases)"
    )
    nnunet.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="DATASET=DIR",
        help="folders of repaired labels, of datasets that have some",
    )
    nnunet.add_argument(
        "--structures",
        metavar="JSON",
        help="values in the label files, {dataset: {structure: value}}",
    )
    nnunet.add_argument(
        "--ignore",
        metavar="JSON",
        default="{}",
        help="values of voxels that nobody has labelled, {dataset: [value, ...]}",
    )


def _workers(text: str) -> int | str:
    """Read a number of processes from 0, or `auto`."""
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text}: expected auto, or a whole number from 0")


def run(options: argparse.Namespace) -> None:
    """Train as the options say."""
    from segstudy import study

    settings = study.from_json(study.TrainSettings, options.settings)
    trainer = settings.model.trainer
    if trainer == "ensemble":
        raise InputError("trainer: ensemble trains nothing; its members are trained")
    if trainer in ("external", "predictions"):
        raise InputError(
            f"trainer: {trainer} trains nothing; `segstudy infer --{trainer}` reads or runs it"
        )
    from_files = ("cases", "structures")
    needed = {"nnunet": from_files, "plugin": from_files, "synth": ("tissues", "plan")}
    for name in needed.get(trainer, ("arrays", "plan")):
        if getattr(options, name) is None:
            what = "trainer: synth" if trainer == "synth" else settings.model.network
            raise InputError(f"--{name} is missing; {what} needs it")
    processes = _processes(settings.model, options)
    if trainer in ("nnunet", "plugin"):
        _train_from_files(settings, options)
    elif processes == 1:
        _train(settings, options)
    else:
        from segstudy import gpus
        from segstudy.train.distributed import launch

        if (options.device or settings.model.device) != "cpu":
            gpus.claim(processes)
        launch(processes, _train, settings, options)


def _processes(model, options: argparse.Namespace) -> int:
    count = options.processes or getattr(model, "gpus", 1)
    if count > 1 and model.trainer != "images":
        raise InputError(f"--processes {count}: trainer: {model.trainer} trains in one; expected 1")
    if count > 1 and model.batch_size % count:
        raise InputError(
            f"--processes {count}: they do not share a batch of {model.batch_size} equally; expected "
            "a batch_size that is a multiple of them"
        )
    return count


def _train(settings, options: argparse.Namespace, rank=None) -> None:
    """Train, as one of several processes where `rank` says so."""
    from segstudy.cases import read_splits, trained
    from segstudy.files import listed, read_json
    from segstudy.images.plan import Plan
    from segstudy.jobs import code
    from segstudy.networks.device import choose_device
    from segstudy.train.distributed import ALONE
    from segstudy.train.fine_tuning import initial_of
    from segstudy.train.fit import fit
    from segstudy.train.resolve import resolve
    from segstudy.train.run import Run
    from segstudy.train.trainer import prepare_torch

    model = settings.model
    rank = rank or ALONE
    threads = options.threads or model.threads * rank.size
    # Of several processes, the one that started them has claimed the GPUs.
    asked = options.device or model.device
    device = rank.device(choose_device(asked, claimed=rank.size > 1))
    workers = model.workers if options.workers is None else options.workers
    if workers == "auto":
        # A CPU trains by all its threads.
        workers = max(0, threads // rank.size - 1) if device.type == "cuda" else 0
    prepare_torch(device, max(1, threads // rank.size - workers))
    splits = trained(
        read_splits(options.splits),
        options.fold,
        _held_out(model, options.fold),
        options.seed,
        model.training_subset and model.training_subset.draw,
        model.train_on,
    )
    # By name, so that an edit to one source of patches is no change of the other's models.
    patches = importlib.import_module(f"segstudy.{code.PATCH_SOURCES[model.trainer]}")
    folders = getattr(options, patches.OPTION.removeprefix("--"))
    opened = patches.open_cases(listed(folders))
    training, validation = (
        [_prepared(opened, split, patches.OPTION) for split in part] for part in splits
    )
    source = patches.Patches(training, validation)
    resolved = resolve(
        settings,
        Plan.from_dict(read_json(options.plan)),
        source,
        fold=options.fold,
        seed=options.seed,
        device=device.type,
    )
    known = _checksums(options)
    initial = initial_of(model, _tested(options, known))
    run = Run(
        options.output,
        device,
        threads,
        code.digest("train.command", *code.training_modules(model)),
        memory_mb=_memory_mb(model, options),
        workers=workers,
        rank=rank,
        images=_of_cases(known, [*resolved.training, *resolved.validation]),
        kept=finished.Finished.of(options),
        tensorboard=_writes_events(model, options),
        attempt=options.attempt,
    )
    fit(resolved, source, run, initial)


def _held_out(model, fold: int | str) -> float:
    """Return the fraction of the subjects held out: of a training on every case none, but for what ends it early."""
    from segstudy.cases import ALL

    early = getattr(model, "stop_when_flat", None)
    return 0.0 if fold == ALL and not early else model.validation_fraction


def _checksums(options: argparse.Namespace) -> dict[str, str]:
    """Return the checksum of each image, by `dataset/case`, of the case tables that are given."""
    from segstudy.cases import read_cases
    from segstudy.seen_cases import checksums

    known = {}
    for dataset, table in _named(options.cases or [], "--cases").items():
        known |= checksums(dataset, read_cases(table))
    return known


def _of_cases(known: dict[str, str], names: list[str]) -> dict[str, str]:
    """Return what is known of some cases, in their order."""
    return {name: known[name] for name in names if name in known}


def _tested(options: argparse.Namespace, known: dict[str, str]) -> dict[str, str]:
    """Return the checksums of the images that the fold tests."""
    from segstudy.cases import read_splits

    tested = [
        f"{split.dataset}/{split.case}"
        for split in read_splits(options.splits)
        if split.fold in (options.fold, None)
    ]
    return _of_cases(known, tested)


def _memory_mb(model, options: argparse.Namespace) -> int:
    """Return the memory of the whole job in MB; without a word on it, what is free."""
    import psutil

    if options.memory_mb:
        return options.memory_mb
    if model.memory_mb == "auto":
        return psutil.virtual_memory().available // 10**6
    return model.memory_mb * _processes(model, options)


def _writes_events(model, options: argparse.Namespace) -> bool:
    """Return whether TensorBoard's event files are written; InputError where they cannot be."""
    from segstudy.jobs.extras import NO_TENSORBOARD

    asked = getattr(model, "tensorboard", False)
    asked = asked if options.tensorboard is None else options.tensorboard == "yes"
    if asked and importlib.util.find_spec("tensorboard") is None:
        raise InputError(NO_TENSORBOARD)
    return asked


def _train_from_files(settings, options: argparse.Namespace) -> None:
    """Train by nnU-Net or by a trainer of the user's own, which read the files themselves."""
    from segstudy.cases import read_splits, trained
    from segstudy.jobs import code
    from segstudy.networks.device import choose_device
    from segstudy.train.fold import Fold
    from segstudy.train.run import Run

    model = settings.model
    name = "train.nnunet" if model.trainer == "nnunet" else "train.plugin_trainer"
    # By name, so that an edit to it is no change of the other networks' code.
    module = importlib.import_module(f"segstudy.{name}")
    splits = trained(
        read_splits(options.splits),
        options.fold,
        _held_out(model, options.fold),
        options.seed,
        model.training_subset and model.training_subset.draw,
        model.train_on,
    )
    training, validation = (_labelled(part, options) for part in splits)
    run = Run(
        options.output,
        choose_device(options.device or model.device),
        options.threads or model.threads,
        code.digest("train.command", name),
        kept=finished.Finished.of(options),
        tensorboard=_writes_events(model, options),
        attempt=options.attempt,
    )
    fold = Fold(settings, training, validation, options.fold, options.seed)
    if model.trainer == "nnunet":
        module.fit(fold, run, _tested(options, _checksums(options)))
    else:
        module.fit(fold, run)


def _labelled(splits: list, options: argparse.Namespace) -> list:
    """Read the cases that the splits name, in their order."""
    from segstudy.cases import Labelled, ignored_values, read_cases, repaired_labels
    from segstudy.files import parse_json

    ignore = ignored_values(options.ignore)
    tables, labels = _named(options.cases, "--cases"), _named(options.labels, "--labels")
    values = parse_json(options.structures, "--structures")
    labelled = {}
    for dataset in dict.fromkeys(split.dataset for split in splits):
        if dataset not in tables:
            raise InputError(f"--cases: no table of dataset {dataset}; add {dataset}=cases.tsv")
        if not isinstance(values, dict) or dataset not in values:
            raise InputError(
                f'--structures: no values of dataset {dataset}; add {{"{dataset}": ...}}'
            )
        select = [split.case for split in splits if split.dataset == dataset]
        cases = repaired_labels(read_cases(tables[dataset], select), labels.get(dataset))
        ignored = ignore.get(dataset, ())
        labelled |= {
            (dataset, case.case): Labelled(dataset, case, values[dataset], ignored)
            for case in cases
        }
    return [labelled[split.dataset, split.case] for split in splits]


def _named(texts: list[str], option: str) -> dict[str, Path]:
    """Split DATASET=PATH into name and path."""
    parts = [text.partition("=") for text in texts]
    for name, _, path in parts:
        if not (name and path):
            raise InputError(f"{option} {name}: expected DATASET=PATH")
    return {name: Path(path) for name, _, path in parts}


def _prepared(opened: dict, split, option: str):
    try:
        return opened[split.dataset, split.case]
    except KeyError:
        raise InputError(
            f"{option}: no prepared case {split.case} of {split.dataset}, which the splits name; "
            "give the folders of all its dataset's shards"
        ) from None
