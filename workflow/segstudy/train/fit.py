"""A whole training: its steps, checkpoints, history and weights."""

import csv
import importlib
import io
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstudy import finished, versions
from segstudy.errors import InputError
from segstudy.files import make_folder, write_json, write_text
from segstudy.images.names import times
from segstudy.log import duration, log
from segstudy.networks.describe import describe
from segstudy.networks.device import decides_bits, gpu_failures, not_again
from segstudy.networks.initial_weights import InitialWeights
from segstudy.networks.weights import Trained, save_weights
from segstudy.train.checkpoint import Checkpoint, Progress
from segstudy.train.distributed import stop_requests
from segstudy.train.early_stopping import epochs_without_gain
from segstudy.train.resolved import Resolved
from segstudy.train.run import Run
from segstudy.train.sampling import Sampler, TrainingCase, with_slices, worker_failures
from segstudy.train.source import PatchSource
from segstudy.train.structures import check_structures
from segstudy.train.trainer import Trainer
from segstudy.train.upload import on_device

FILES = ("weights.pt", "best.pt", "history.csv", "settings.json")
"""What every training leaves."""
CHECKPOINT_EVERY_S = 60.0
TOO_SMALL = "gpu_memory.json"
"""Beside the checkpoint: that the GPU's memory was too small, and how much it was."""
MOST_SKIPPED = 10
"""Steps in a row without a finite gradient, which half precision skips, that end a training: the scale
is halved each time, and 2^10 less is no matter of range any more."""


class Interrupted(SystemExit):
    """End a training that was asked to stop and has saved its state; the exit code is 128 + signal."""


def fit(
    resolved: Resolved, source: PatchSource, run: Run, initial: InitialWeights | None = None
) -> None:
    """Train a network and leave `weights.pt`, `best.pt`, `history.csv` and `settings.json` in `run.output`.

    A training that was killed goes on from `output/checkpoint`, on CPU to the same bits as if it
    had not been. SIGINT, SIGTERM, SIGHUP and SIGUSR1 save the state at the next step and raise
    Interrupted. Until it has ended, all that it leaves is in `output/checkpoint`, its history so far too.

    Parameters
    ----------
    resolved
        Settings of the training.
    source
        Where patches come from, with the cases that `resolved` names, in its order.
    run
        Where the training runs and where it writes.
    initial
        Weights that the training starts from, of the model's `initial_weights`; None: fresh ones.

    Raises
    ------
    InputError
        Where the loss or the gradient is not finite (in float16: ten gradients in a row), and where
        a GPU's memory is too small.
    """
    output, rank = run.output, run.rank
    make_folder(output)
    if resolved.model.stop_when_flat and not resolved.validation:
        raise InputError(
            f"stop_when_flat: {resolved.model.stop_when_flat}, but fold {resolved.fold} has no subject to spare for "
            "validation, by which it would stop; give more subjects, or leave stop_when_flat out"
        )
    digest = resolved.digest(source.digest(), run.code)
    checkpoint = Checkpoint(output / "checkpoint", digest)
    key = finished.key("train", digest, decides_bits(run.device), rank.size, finished.versions_of())
    if rank.gathered(rank.writes and run.kept.restore(key, output))[0]:
        if rank.writes:
            checkpoint.remove()
            with _events(run, read_history(output / "history.csv")):
                pass
        return
    smaller = (
        f"lower batch_size ({resolved.model.batch_size}), patch_size ({times(resolved.patch_size)} voxels) or the network's "
        "width, or use a GPU with more"
    )
    with not_again(checkpoint.folder / TOO_SMALL, digest, run.attempt), gpu_failures(smaller):
        trainer = Trainer(resolved, source, run.device, run.rank, initial)
        _train(trainer, run, checkpoint, key, initial.told if initial else None)


def _train(
    trainer: Trainer, run: Run, checkpoint: Checkpoint, key: str, initial: dict[str, Any] | None
) -> None:
    """Train, from the checkpoint where there is one, and write what `fit` promises."""
    output, rank, resolved, source = run.output, run.rank, trainer.resolved, trainer.source
    described = _described(trainer, run.threads) if rank.writes else {}
    progress = checkpoint.read(trainer.parts, run.device)
    learned, validation = source.load(resolved, run.memory_mb, rank)
    names = resolved.settings.structures
    check_structures(
        [[names[n - 1] for n in case.foreground] for case in learned], names, resolved.fold
    )
    sampler = Sampler(
        cases=with_slices(learned, resolved.model.slices),
        patch_size=resolved.patch_size,
        source_size=resolved.source_size,
        planes=resolved.model.planes,
        batch_size=resolved.model.batch_size,
        foreground_fraction=resolved.model.foreground_fraction,
        seed=resolved.seed,
        slices=resolved.model.slices,
        part=rank.part,
        reach=source.reach(resolved, rank.part),
    )
    _log_start(trainer, run.threads)
    try:
        with stop_requests() as requests:
            _take_steps(trainer, progress, sampler, validation, run, checkpoint, requests)
    except ValueError as error:
        if "Expected more than 1" not in str(error):  # torch's words
            raise
        raise InputError(
            f"patch_size: a patch of {times(resolved.patch_size)} voxels shrinks to one voxel in this "
            f"{resolved.model.network}, and {sampler.own_size} of them cannot be normalised; give a larger "
            "patch_size, or a larger batch_size with batch normalisation"
        ) from None
    if not rank.writes:
        return
    # Whoever asks to stop now gets all of what a rule declares, and not a part that has to be made anew.
    with stop_requests():
        _save(trainer, progress, run, initial)
        source.write_samples(sampler, resolved, output)
        write_text(output / "history.csv", history_text(progress.history))
        write_json(output / "settings.json", described | _ended_early(resolved, progress))
        run.kept.keep(key, output, [*FILES, *source.files])
        checkpoint.remove()


def _take_steps(
    trainer: Trainer,
    progress: Progress,
    sampler: Sampler,
    validation: Sequence[TrainingCase],
    run: Run,
    checkpoint: Checkpoint,
    requests: list[int],
) -> None:
    """Take all steps that are left; `requests` are the signals that ask to stop."""
    resolved, rank = trainer.resolved, trainer.rank
    saved = began = time.monotonic()

    def save() -> None:
        if rank.writes:
            checkpoint.write(progress, trainer.parts)

    def write_history() -> None:
        if rank.writes:
            write_text(checkpoint.folder / "history.csv", history_text(progress.history))

    pin = trainer.device.type == "cuda"
    batches = sampler.batches(progress.step, resolved.steps, pin, run.workers)
    # Closed here: an error that is on its way would keep them, and the processes that cut them.
    with (
        worker_failures(run.workers),
        closing(on_device(batches, trainer.device)) as uploaded,
        _events(run, progress.history) as write_events,
    ):
        if _has_ended(resolved, progress):
            return
        for batch, waited_s in _timed(uploaded):
            progress.waited_s += waited_s
            loss, norm = trainer.step(progress.step, batch)
            progress.skipped = 0 if math.isfinite(norm) else progress.skipped + 1
            # The scaler skips a step whose gradient is not finite, and tries a smaller scale.
            most = MOST_SKIPPED if trainer.scaler.is_enabled() else 1
            if not math.isfinite(loss) or progress.skipped >= most:
                _refuse(trainer, progress, sampler.cases_of(progress.step), loss)
            progress.losses.append(loss)
            progress.step += 1
            if progress.step % resolved.steps_per_epoch == 0:
                row = _end_epoch(trainer, progress, validation)
                now = time.monotonic()
                row |= _speed(trainer, progress, progress.seconds + now - began)
                progress.history.append(row)
                progress.losses, progress.seconds, progress.waited_s, began = [], 0.0, 0.0, now
                write_history()
                write_events(row)
                _log_epoch(resolved, progress.history)
                if _has_ended(resolved, progress):
                    _log_end(resolved, progress)
                    return
            now = time.monotonic()
            asked = rank.asked(requests)
            if asked:
                progress.seconds += now - began
                save()
                log.info(
                    "stopped by %s after step %d of %d; state saved, start the job again to go on",
                    signal.Signals(asked).name,
                    progress.step,
                    resolved.steps,
                )
                raise Interrupted(128 + asked)
            if now - saved >= CHECKPOINT_EVERY_S:
                progress.seconds, began = progress.seconds + now - began, now
                save()
                saved = time.monotonic()


def _has_ended(resolved: Resolved, progress: Progress) -> bool:
    """Return whether all steps are taken, or validation has been flat for as long as the study allows."""
    if progress.step % resolved.steps_per_epoch:
        return False
    most = resolved.model.stop_when_flat
    flat = most is not None and epochs_without_gain(progress.history) >= most
    return flat or progress.step == resolved.steps


def _ended_early(resolved: Resolved, progress: Progress) -> dict[str, int]:
    """Return what `settings.json` says of a training that ended before its last epoch; nothing of others."""
    if progress.step == resolved.steps:
        return {}
    return {"steps": progress.step, "stopped_at_epoch": len(progress.history)}


def _log_end(resolved: Resolved, progress: Progress) -> None:
    if progress.step < resolved.steps:
        epoch = len(progress.history)
        log.info(
            "stopped at epoch %d of %d: no validation Dice above that of epoch %d, %.3f (stop_when_flat: %d)",
            epoch,
            resolved.model.epochs,
            epoch - epochs_without_gain(progress.history),
            progress.best_dice,
            resolved.model.stop_when_flat,
        )


@contextmanager
def _events(
    run: Run, rows: Sequence[dict[str, float]]
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Begin TensorBoard's event files with the rows there are, where they are asked for; yield what adds a row."""
    if not (run.tensorboard and run.rank.writes):
        yield lambda row: None
        return
    # By name, so that an edit to it trains nothing again.
    events = importlib.import_module("segstudy.train.tensorboard").Events(run.output, rows)
    with closing(events):
        yield events.add


def _timed(batches: Iterator) -> Iterator[tuple[Any, float]]:
    """Yield each batch with the seconds that it was waited for."""
    while True:
        began = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.monotonic() - began


def _speed(trainer: Trainer, progress: Progress, seconds: float) -> dict[str, float]:
    """Return how long an epoch took, how much of it was waiting for batches, its patches a second, and the GPU's memory."""
    patches = len(progress.losses) * trainer.resolved.model.batch_size
    row = {
        "seconds": round(seconds, 3),
        "waited_seconds": round(progress.waited_s, 3),
        "patches_per_second": patches / max(seconds, 1e-3),
        "gpu_memory_mb": math.nan,
    }
    if trainer.device.type == "cuda":
        row["gpu_memory_mb"] = torch.cuda.max_memory_allocated(trainer.device) / 1e6
        torch.cuda.reset_peak_memory_stats(trainer.device)
    return row


def _end_epoch(
    trainer: Trainer, progress: Progress, validation: Sequence[TrainingCase]
) -> dict[str, float]:
    """Return the epoch's row of the history; keep the weights if they are the best so far."""
    resolved = trainer.resolved
    epoch = progress.step // resolved.steps_per_epoch
    structures = resolved.settings.structures
    row = {
        "epoch": epoch,
        "lr": trainer.learning_rate(progress.step - 1),
        "train_loss": float(np.mean(progress.losses)),
        "validation_loss": math.nan,
        **{f"validation_dice_{name}": math.nan for name in structures},
        "validation_dice_mean": math.nan,
    }
    due = epoch % resolved.validate_every_epochs == 0 or epoch == resolved.model.epochs
    if validation and due:
        row |= trainer.validate(validation)
        if row["validation_dice_mean"] > progress.best_dice:
            progress.best_dice = row["validation_dice_mean"]
            progress.best = {
                name: tensor.detach().clone()
                for name, tensor in trainer.evaluated.state_dict().items()
            }
    return row


def _save(trainer: Trainer, progress: Progress, run: Run, initial: dict[str, Any] | None) -> None:
    """Write the last and the best weights; without validation the last are the best."""
    resolved = trainer.resolved
    provenance = {
        "fold": resolved.fold,
        "seed": resolved.seed,
        "steps": progress.step,
        "training": list(resolved.training),
        "validation": list(resolved.validation),
        "images": dict(run.images),
        **({"initial_weights": initial} if initial else {}),
        # Not of all that this process has imported: the weights are the same without.
        "versions": {key: versions.imported()[key] for key in ("python", "segstudy", "torch")},
    }

    def write(name: str) -> None:
        trained = Trained(
            network=trainer.evaluated,
            model=resolved.model,
            structures=resolved.settings.structures,
            channels=resolved.settings.channels,
            plan=resolved.plan.to_dict(),
            patch_size=resolved.patch_size,
            provenance=provenance,
            left_right_pairs=resolved.settings.left_right_pairs,
        )
        save_weights(run.output / name, trained)

    write("weights.pt")
    if progress.best is not None:
        trainer.evaluated.load_state_dict(progress.best)
    write("best.pt")


def history_text(rows: Sequence[dict[str, float]]) -> str:
    """Return the history as CSV; values that were not measured are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: "" if math.isnan(value) else f"{value:.6g}" for key, value in row.items()}
        )
    return text.getvalue()


def read_history(path: Path) -> list[dict[str, float]]:
    """Return the rows of a history as CSV; values that were not measured are NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: float(value) if value else math.nan for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def _refuse(trainer: Trainer, progress: Progress, cases: Sequence[str], loss: float) -> None:
    resolved = trainer.resolved
    epoch, place = divmod(progress.step, resolved.steps_per_epoch)
    what, further = "the gradient is not finite", ""
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif trainer.scaler.is_enabled():
        what = (
            f"the gradient is not finite for the {progress.skipped}th step in a row, so that no "
            "weight moves"
        )
        further = ", or set amp: false"
    where = f"epoch {epoch + 1}, step {place + 1} of {resolved.steps_per_epoch}: {what}; "
    at_fault = trainer.loss.at_fault()
    if at_fault:
        raise InputError(
            f"{where}the loss of plug-in {', '.join(at_fault)} is not finite though the logits are; mend the plug-in "
            f"(cases in the batch: {', '.join(cases)})"
        )
    own = [term.label for _, term in trainer.loss.plugins]
    further += f". Or it is the slope of a loss: plug-in {', '.join(own)}" if own else ""
    raise InputError(
        f"{where}cases in the "
        f"batch: {', '.join(cases)}. Look at these images, or lower optimizer.lr "
        f"({resolved.model.optimizer.lr:g}){further}"
    )


def _described(trainer: Trainer, threads: int) -> dict:
    device = trainer.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        **trainer.resolved.to_dict(),
        **({"initial_weights": trainer.fine_tuning} if trainer.fine_tuning else {}),
        "parameters": trainer.parameters,
        "architecture": describe(
            trainer.network, trainer.resolved.in_channels, trainer.resolved.patch_size
        ),
        "device": name,
        "precision": _precision(trainer),
        "threads": threads,
        "processes": trainer.rank.size,
        "versions": versions.imported(),
    }


def _precision(trainer: Trainer) -> str:
    return str(trainer.half or torch.float32).removeprefix("torch.")


def _log_start(trainer: Trainer, threads: int) -> None:
    resolved = trainer.resolved
    log.info(
        "%s: %s parameters, patch %s, batch %d, %d epochs of %d steps, on %s in %s with %d threads%s",
        resolved.model.network,
        f"{trainer.parameters:,}",
        times(resolved.patch_size),
        resolved.model.batch_size,
        resolved.model.epochs,
        resolved.steps_per_epoch,
        trainer.device.type,
        _precision(trainer),
        threads,
        f", in {trainer.rank.size} processes" if trainer.rank.size > 1 else "",
    )
    log.info(
        "%d cases to train on, %d held out for validation",
        len(resolved.training),
        len(resolved.validation),
    )


def _log_epoch(resolved: Resolved, history: Sequence[dict[str, float]]) -> None:
    row = history[-1]
    line = f"epoch {row['epoch']}/{resolved.model.epochs}  lr {row['lr']:.2g}  loss {row['train_loss']:.4f}"
    if not math.isnan(row["validation_dice_mean"]):
        each = ", ".join(
            f"{name} {row[f'validation_dice_{name}']:.3f}" for name in resolved.settings.structures
        )
        line += f"  validation Dice {row['validation_dice_mean']:.3f} ({each})"
    line += f"  {duration(row['seconds'])}, {row['patches_per_second']:.3g} patches/s"
    if row["waited_seconds"] > 0.05 * row["seconds"]:
        line += f", {row['waited_seconds'] / row['seconds']:.0%} waiting for patches"
    if not math.isnan(row["gpu_memory_mb"]):
        line += f", GPU memory {row['gpu_memory_mb'] / 1e3:.1f} GB"
    left = resolved.model.epochs - len(history)
    if left:
        each_s = sum(past["seconds"] for past in history) / len(history)
        line += f", about {duration(each_s * left)} left"
    log.info("%s", line)
