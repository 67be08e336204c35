"""Training nnU-Net on a fold: its own fingerprint, plans, preprocessing and trainer, in a folder of the job's own.

All of nnU-Net's files lie in `output/nnunet/`, which no rule declares: it survives a killed job, and
is removed once the weights are written.
"""

import hashlib
import importlib
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas
import torch

from segstudy import finished, versions
from segstudy.cases import Labelled
from segstudy.errors import InputError
from segstudy.files import make_folder, read_json, write_json, write_table, write_text
from segstudy.finished import NNUNET_LIBRARIES
from segstudy.images.data_files import content_digest
from segstudy.images.files import read_grid
from segstudy.images.names import times
from segstudy.log import log
from segstudy.mirroring import mirrored_axes
from segstudy.networks.device import (
    compile_failures,
    decides_bits,
    gpu_failures,
    not_again,
)
from segstudy.networks.initial_weights import NNUNET_HEAD, InitialWeights, layers_of
from segstudy.networks.nnunet import FOLDERS, class_of, managers, prepare, trainer_of
from segstudy.networks.weights import Trained, save_weights
from segstudy.nnunet_raw import raw_name, write_raw
from segstudy.study import TrainSettings
from segstudy.train.distributed import heeded, stop_requests
from segstudy.train.fine_tuning import initial_of, start
from segstudy.train.fold import Fold
from segstudy.train.run import Run

DATASET, DATASET_ID = "Dataset001_segstudy", 1
OWN_WORKERS = 12
"""Processes that make batches where nnU-Net decides by itself, on a machine that it doesn't know, for each GPU."""
TOO_SMALL = "gpu_memory.json"
"""That the GPU's memory was too small, for the next attempt."""
PLANNERS = {
    "default": "ExperimentPlanner",
    "resenc_m": "nnUNetPlannerResEncM",
    "resenc_l": "nnUNetPlannerResEncL",
    "resenc_xl": "nnUNetPlannerResEncXL",
}


def fit(fold: Fold, run: Run, tested: Mapping[str, str] = MappingProxyType({})) -> None:
    """Train nnU-Net and leave `weights.pt`, `best.pt`, `history.csv` and `settings.json` in `run.output`.

    A training that was killed goes on after its last whole epoch, as nnU-Net's `--c` does. The seed
    settles the weights at the start, and with one thread the batches too; nnU-Net draws those of
    several processes in the order in which they come.

    Parameters
    ----------
    fold
        Cases and settings of the training; without validation cases it trains on all (its fold `all`).
    run
        Where the training runs and where it writes; of its threads, all preprocess, and all but one
        make batches in training.
    tested
        Each case that the fold tests, as `dataset/case` -> the checksum of its image.

    Raises
    ------
    InputError
        Where nnunetv2 is missing, where its plans lack the configuration, where the loss is not
        finite, and where a GPU's memory is too small.
    """
    settings, output = fold.settings, run.output
    fold.check()
    initial = initial_of(fold.model, tested)
    work = output.resolve() / "nnunet"
    prepare(work, run.threads)
    key = _key(fold, run.code)
    torch.set_num_threads(run.threads)
    name = finished.key(
        "train", key, decides_bits(run.device), finished.versions_of(NNUNET_LIBRARIES)
    )
    if run.kept.restore(name, output):
        shutil.rmtree(work, ignore_errors=True)
        return
    if work.exists() and _read(work / "key") != key:
        log.info("nnU-Net's files of other settings, data or code: removed, training starts anew")
        shutil.rmtree(work)
    make_folder(work)
    write_text(work / "key", key)
    for line in remarks(settings):
        log.warning("%s", line)
    with _stopping():
        plan = _plan(fold, work, run.threads)
        plan["orientations"] = orientations(fold.cases)
        if settings.left_right_pairs:
            refuse_turned(fold.cases)
        _, configuration = managers(plan)
        batch = f"{configuration.batch_size} patches of {times(configuration.patch_size)} voxels"
        smaller = f"a batch is {batch}: lower gpu_memory_gb, or use a GPU with more"
        spared = not_again(work / TOO_SMALL, key, run.attempt)
        with spared, gpu_failures(smaller), compile_failures():
            trainer, tuned = _trainer(fold, plan, work, run, initial)
            described = _described(fold, plan, trainer, run.threads) | tuned
            trainer.run_training()
    # Whoever asks to stop now gets all of what a rule declares, and not a part that has to be made anew.
    with stop_requests(), gpu_failures(smaller):
        _save(fold, plan, trainer, described, output, initial)
        shutil.copyfile(work / "history.csv", output / "history.csv")
        write_json(output / "settings.json", described)
    run.kept.keep(name, output, ["weights.pt", "best.pt", "history.csv", "settings.json"])
    shutil.rmtree(work)


# --- data and plans -----------------------------------------------------------------------------


def _plan(fold: Fold, work: Path, threads: int) -> dict[str, Any]:
    """Make fingerprint, plans and preprocessed cases, once; return the plan that a weights file holds."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    settings, model = fold.settings, fold.model
    raw, preprocessed, _ = (work / name for name in FOLDERS)
    done = work / "planned.json"
    if not done.exists():
        for folder in (raw, preprocessed):
            shutil.rmtree(folder, ignore_errors=True)
        count = write_raw(
            raw / DATASET,
            fold.cases,
            settings.structures,
            settings.channels,
            settings.modality,
            settings.ignores,
        )
        log.info(
            "%d cases for nnU-Net: %d files linked, %d written", len(fold.cases), *count.values()
        )
        api.extract_fingerprint_dataset(
            DATASET_ID, num_processes=threads, verbose=False, show_progress_bar=False
        )
        memory = None if model.gpu_memory_gb == "auto" else model.gpu_memory_gb
        plans, identifier = api.plan_experiment_dataset(
            DATASET_ID, planner_class(model.planner), gpu_memory_target_in_gb=memory
        )
        if model.configuration not in plans["configurations"]:
            raise InputError(
                f"configuration: {model.configuration} is not in the plans that nnU-Net made for these "
                f"images; expected one of {', '.join(plans['configurations'])}"
            )
        api.preprocess_dataset(
            DATASET_ID, identifier, (model.configuration,), [threads], show_progress_bar=False
        )
        if fold.validation:
            split = {
                "train": [raw_name(case) for case in fold.training],
                "val": [raw_name(case) for case in fold.validation],
            }
            write_json(preprocessed / DATASET / "splits_final.json", [split])
        write_json(done, {"plans": identifier})
    folder = preprocessed / DATASET
    plan = {
        "plans": read_json(folder / f"{read_json(done)['plans']}.json"),
        "dataset": read_json(folder / "dataset.json"),
        "configuration": model.configuration,
    }
    _, configuration = managers(plan)
    return {**plan, "spacing_mm": [float(size) for size in configuration.spacing]}


def planner_class(planner: str) -> type:
    """Return the class of a planner: a key of `PLANNERS`, another name of nnU-Net's, or a plug-in's reference."""
    return class_of(PLANNERS.get(planner, planner), "experiment_planning", "ExperimentPlanner")


def _key(fold: Fold, code: str) -> str:
    """Return the digest of all that shapes the weights, the content of the files too."""
    settings = fold.settings
    text = [
        {**settings.model_dump(mode="json"), "model": settings.model.learning().identified()},
        [fold.number, fold.seed, code, metadata.version("nnunetv2")],
        [[case.name, dict(case.structures), case.ignore] for case in fold.cases],
        len(fold.training),
    ]
    digest = hashlib.sha256(json.dumps(text).encode())
    for case in fold.cases:
        for path in (*case.case.images, case.case.label):
            digest.update(content_digest(path, f"case {case.name}").encode())
    return digest.hexdigest()


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


# --- left and right -----------------------------------------------------------------------------


def remarks(settings: TrainSettings) -> list[str]:
    """Return remarks that a reader of the results needs on how nnU-Net was trained."""
    pairs = settings.left_right_pairs
    notes = []
    if settings.ignores and settings.modality == "CT":
        notes.append(
            "ignore: nnU-Net leaves these voxels out of its loss, but takes them for foreground in the intensities by "
            "which it normalises CT (nnUNet#3055)"
        )
    if not pairs or mirrored_axes(settings.model, pairs) != "all":
        return notes
    named = ", ".join(" and ".join(pair) for pair in pairs)
    return [
        *notes,
        f"mirror: all, as the study asks for: nnU-Net mirrors images from right to left and leaves the labels as they "
        f"are, so it is taught that {named} may be on either side; `mirror: auto` keeps them apart",
    ]


def orientations(cases: Sequence[Labelled]) -> list[str]:
    """Return the orientations of the images, e.g. `LPS`, the most frequent one first."""
    counted = Counter(read_grid(case.case.images[0]).orientation for case in cases)
    return [orientation for orientation, _ in counted.most_common()]


def refuse_turned(cases: Sequence[Labelled]) -> None:
    """Raise InputError where the right-left axis runs to the right in some files and to the left in others.

    nnU-Net, which never looks at directions, would see left structures on the right in these.
    """
    sides: dict[str, str] = {}
    for case in cases:
        points_to = read_grid(case.case.images[0]).orientation
        sides.setdefault("right" if "R" in points_to else "left", case.name)
    if len(sides) > 1:
        raise InputError(
            f"the right-left axis runs to the right in the file of {sides['right']} and to the left in that of "
            f"{sides['left']}; nnU-Net does not look at directions and would mix up the study's left_right_pairs: "
            "store all images in one orientation"
        )


def right_left_axis(plan: Mapping[str, Any], cases: Sequence[Labelled]) -> int | None:
    """Return the axis of nnU-Net's patches that runs from right to left; None where slices lie across it.

    nnU-Net never looks at directions: its axes are those of the files, in reverse, then in the
    order of its plans. Raises InputError where the files' axes differ from case to case.
    """
    stored: dict[int, str] = {}
    for case in cases:
        points_to = read_grid(case.case.images[0]).orientation
        stored.setdefault(next(n for n in range(3) if points_to[n] in "RL"), case.name)
    if len(stored) > 1:
        (first, first_image), (second, second_image), *_ = stored.items()
        raise InputError(
            "mirror: all but the right-left axis, since the study has left_right_pairs or says so; but the "
            f"right-left axis is axis {'ijk'[first]} in the files of {first_image} and {'ijk'[second]} in those of "
            f"{second_image}, which nnU-Net cannot tell; store all images in the same order of axes, or say mirror: none"
        )
    array_axis = 2 - next(iter(stored))
    axis = list(plan["plans"]["transpose_forward"]).index(array_axis)
    if plan["configuration"] != "2d":
        return axis
    return axis - 1 if axis else None


# --- training -----------------------------------------------------------------------------------


def _trainer(
    fold: Fold,
    plan: Mapping[str, Any],
    work: Path,
    run: Run,
    initial: InitialWeights | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Make the trainer, with fresh or initial weights or with the state it was stopped in; return what is told of fine-tuning too.

    work: for its history so far.
    """
    from segstudy.train.nnunet_trainer import following

    settings, model, validated = fold.settings, fold.model, bool(fold.validation)
    mirror = mirrored_axes(model, settings.left_right_pairs)
    not_mirrored = right_left_axis(plan, fold.cases) if mirror == "not_right_left" else None
    random.seed(fold.seed)
    np.random.seed(fold.seed % 2**32)
    torch.manual_seed(fold.seed)
    plans = {**plan["plans"], "continue_training": True}
    trainer = following(trainer_of(model.trainer_class))(
        plans, model.configuration, 0 if validated else "all", dict(plan["dataset"]), run.device
    )
    trainer.follow(model, partial(_write_history, fold, work, run), mirror, not_mirrored)
    os.environ.update({"nnUNet_compile": str(model.compile)})  # which it does on GPUs alone
    trainer.initialize()
    tuned = {}
    if initial is not None:
        network = getattr(trainer.network, "_orig_mod", trainer.network)
        # As nnU-Net's own fine-tuning leaves them out.
        head = {layer for layer in layers_of(network) if NNUNET_HEAD in layer.split(".")}
        tuned = {"initial_weights": start(network, initial, head, model.freeze)}
    # Only now, since plans are made with as many threads.
    os.environ.update({"nnUNet_n_proc_DA": str(workers(run.threads, run.device))})
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth"):
        checkpoint = Path(trainer.output_folder) / name
        if checkpoint.is_file():
            trainer.load_checkpoint(str(checkpoint))
            log.info("going on after epoch %d of %d", trainer.current_epoch, trainer.num_epochs)
            break
    return trainer, tuned


def _write_history(fold: Fold, work: Path, run: Run, logged: Mapping[str, Sequence]) -> None:
    """Write what nnU-Net has logged so far, for TensorBoard too where it is asked for."""
    table = history(logged, fold.settings.structures, bool(fold.validation))
    write_table(work / "history.csv", table)
    if run.tensorboard:
        # By name, so that an edit to it trains nothing again.
        tensorboard = importlib.import_module("segstudy.train.tensorboard")
        with closing(tensorboard.Events(run.output, table.to_dict("records"))):
            pass


def workers(threads: int, device: torch.device) -> int:
    """Return how many processes make batches: as many as threads but the one that trains; with none, that one does.

    Tells where a GPU may have to wait for them.
    """
    count = threads - 1
    if device.type == "cuda" and count < OWN_WORKERS:
        log.warning(
            "threads: %d, so that %d processes make batches for the GPU, where nnU-Net by itself starts %d; it may wait "
            "for them: raise threads to %d, if the machine has as many cores",
            threads,
            count,
            OWN_WORKERS,
            OWN_WORKERS + 1,
        )
    return count


def history(
    logged: Mapping[str, Sequence], structures: Sequence[str], validated: bool
) -> pandas.DataFrame:
    """Return a row for each epoch, from what nnU-Net logged.

    Its pseudo Dice is that of all patches of an epoch taken together. Columns are called
    `validation_...` where these were cut from held-out validation cases, and `training_...` where not.
    """
    where = "validation" if validated else "training"
    epochs = len(logged["epoch_end_timestamps"])
    dice = np.array(logged["dice_per_class_or_region"], float).reshape(epochs, len(structures))
    seconds = np.subtract(logged["epoch_end_timestamps"], logged["epoch_start_timestamps"])
    columns = {
        "lr": logged["lrs"],
        "train_loss": logged["train_losses"],
        **({"validation_loss": logged["val_losses"]} if validated else {}),
        **{f"{where}_dice_{name}": dice[:, n] for n, name in enumerate(structures)},
        f"{where}_dice_mean": logged["mean_fg_dice"],
        "seconds": np.round(seconds, 3),
    }
    rounded = {
        name: [float(f"{float(value):.6g}") for value in values] for name, values in columns.items()
    }
    return pandas.DataFrame({"epoch": range(1, epochs + 1), **rounded})


def _described(fold: Fold, plan: Mapping[str, Any], trainer, threads: int) -> dict[str, Any]:
    """Return the content of `settings.json`: the study's settings, and what nnU-Net made of them."""
    settings = fold.settings
    configuration, device = trainer.configuration_manager, trainer.device
    cuda = device.type == "cuda"
    return {
        **settings.model_dump(mode="json"),
        **plan,
        "fold": fold.number,
        "seed": fold.seed,
        "training": [case.name for case in fold.training],
        "validation": [case.name for case in fold.validation],
        "patch_size": [int(size) for size in configuration.patch_size],
        "batch_size": int(trainer.batch_size),
        "steps_per_epoch": settings.model.steps_per_epoch,
        "steps": settings.model.steps_per_epoch * settings.model.epochs,
        "parameters": sum(values.numel() for values in trainer.network.parameters()),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "precision": "float16" if cuda else "float32",
        "threads": threads,
        "versions": versions.imported(),
        "remark": "; ".join(remarks(settings)),
    }


def _save(
    fold: Fold,
    plan: Mapping[str, Any],
    trainer,
    described: Mapping[str, Any],
    output: Path,
    initial: InitialWeights | None,
) -> None:
    """Write the last and the best weights; best is by nnU-Net's moving average of its pseudo Dice."""
    settings = fold.settings
    known = ("fold", "seed", "steps", "training", "validation")
    provenance = {
        **{key: described[key] for key in known},
        "images": {case.name: case.case.checksum for case in fold.cases if case.case.checksum},
        **({"initial_weights": initial.told} if initial else {}),
        "versions": {
            key: described["versions"][key] for key in ("python", "segstudy", "torch", "nnunetv2")
        },
    }
    axes = trainer.inference_allowed_mirroring_axes
    plan = {**plan, "mirroring_axes": None if axes is None else [int(axis) for axis in axes]}
    network = getattr(trainer.network, "_orig_mod", trainer.network)  # torch.compile wraps it
    for checkpoint, file in (("checkpoint_final", "weights.pt"), ("checkpoint_best", "best.pt")):
        # Written by this job, so trusted; only tensors and plain values go into the weights file.
        content = torch.load(
            Path(trainer.output_folder) / f"{checkpoint}.pth",
            map_location=trainer.device,
            weights_only=False,
        )
        network.load_state_dict(content["network_weights"])
        if not all(bool(values.isfinite().all()) for values in network.parameters()):
            raise InputError(f"{file}: weights are not finite; look at the images of the cohort")
        trained = Trained(
            network=network,
            model=settings.model,
            structures=settings.structures,
            channels=settings.channels,
            plan=plan,
            patch_size=described["patch_size"],
            provenance=provenance,
            left_right_pairs=settings.left_right_pairs,
        )
        save_weights(output / file, trained)


@contextmanager
def _stopping() -> Iterator[None]:
    """End the job in order on Ctrl-C, SIGTERM, SIGHUP and SLURM's warning SIGUSR1; its last whole epoch is on disk.

    This process alone answers them. nnU-Net ends its own by SIGTERM, and one that kept the handler
    would hang if it got that before it waits for work: so they are forked with these signals held
    back, and die of them as any process does.
    """

    def stop(number: int, _) -> None:
        log.info("stopped by %s; start the job again to go on", signal.Signals(number).name)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in heeded()}
    inside = True

    def hold() -> None:
        if inside:
            signal.pthread_sigmask(signal.SIG_BLOCK, before)

    def go_on() -> None:
        if inside:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, before)

    def forked() -> None:
        if inside:
            for number in before:
                signal.signal(number, signal.SIG_DFL)
            go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=forked)
    try:
        yield
    finally:
        inside = False
        for number, handler in before.items():
            signal.signal(number, handler)
