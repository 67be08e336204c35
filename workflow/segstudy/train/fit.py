"""The training itself: steps, validation on whole volumes, checkpoints, and what is left behind."""

import csv
import hashlib
import importlib
import io
import json
import math
import shutil
import signal
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from segstudy import finished, networks
from segstudy.errors import InputError
from segstudy.files import make_folder, write_json, write_text, writing
from segstudy.finished import NOTHING, Finished
from segstudy.images.arrays import CaseArrays, TissueMap
from segstudy.images.names import times
from segstudy.images.normalise import normalise
from segstudy.images.overlap import dice
from segstudy.images.plan import Plan
from segstudy.images.prepare import IGNORED
from segstudy.log import duration, log, versions
from segstudy.networks.describe import describe
from segstudy.networks.device import decides_bits, half_precision
from segstudy.networks.weights import save_weights
from segstudy.networks.window import predict_volume
from segstudy.sides import class_pairs
from segstudy.study import AnyModel, Optimizer
from segstudy.train import checkpoint
from segstudy.train.augment import augment
from segstudy.train.checkpoint import Progress
from segstudy.train.ema import WeightAverage
from segstudy.train.loss import SegmentationLoss
from segstudy.train.ranks import ALONE, Rank, stop_requests
from segstudy.train.resolve import Resolved
from segstudy.train.sampling import Batch, Sampler, TrainingCase, with_slices
from segstudy.train.schedule import factor
from segstudy.train.structures import check_structures

FILES = ("weights.pt", "best.pt", "history.csv", "settings.json")
"""What every training leaves."""
CHECKPOINT_EVERY_S = 60.0
MOST_SKIPPED = 10
"""Steps in a row without a finite gradient, which half precision skips, that end a training: the scale
is halved each time, and 2^10 less is no matter of range any more."""
MEMORY_SHARE = 0.5
"""Share of a job's memory that a cohort may take; beyond, patches are read from disk."""
VALIDATION_OVERLAP = 0.25
"""Overlap of windows in validation: half the work of prediction's 0.5, to follow a training by."""


class Interrupted(SystemExit):
    """The training was asked to stop and has saved its state; the exit code says so (128 + signal)."""


def synth_module(model: AnyModel):
    """The module that draws a model's training images; None where it learns from the cases' own."""
    # By name, so that an edit to it is no change of the other models' code.
    return importlib.import_module("segstudy.train.synth") if model.trainer == "synth" else None


# --- device and data ----------------------------------------------------------------------------


def prepare_torch(device: torch.device, threads: int) -> None:
    """Threads, and on CPU only algorithms that give the same bits each time."""
    torch.set_num_threads(threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Unpooling depends on the order of writing only where places repeat; maxima never do.
        warnings.filterwarnings("ignore", message="max_unpooling2d")
        # Deterministic mode would fill every new tensor with NaN first, to no use here.
        torch.utils.deterministic.fill_uninitialized_memory = False
    else:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True


def load_cases(cases: Sequence[CaseArrays], plan: Plan, memory_mb: int) -> list[TrainingCase]:
    """Cases to cut patches from: normalised once and held in memory, if half of `memory_mb` holds them.

    Otherwise they stay on disk, and what is cut is read, decompressed and normalised each time.
    """
    megabytes = sum((4 * len(case.image) + 1) * math.prod(case.shape) for case in cases) / 1e6
    held = megabytes <= MEMORY_SHARE * memory_mb
    log.info(
        "%d cases, %.0f MB: %s",
        len(cases),
        megabytes,
        "held in memory" if held else f"read patch by patch (memory_mb is {memory_mb})",
    )
    return [_load_case(case, plan, held) for case in cases]


def _load_case(case: CaseArrays, plan: Plan, held: bool) -> TrainingCase:
    change = partial(normalise, plan=plan, image_moments=case.moments)
    return TrainingCase(
        dataset=case.dataset,
        case=case.case,
        image=change(case.image[...]) if held else case.image,
        label=case.label[...] if held else case.label,
        foreground=case.foreground,
        spacing_mm=case.spacing_mm,
        normalise=None if held else change,
        labelled=case.labelled,
    )


def data_digest(cases: Sequence[CaseArrays] | Sequence[TissueMap]) -> str:
    """Digest of prepared cases, by the checksums of their images and labels, or of their label maps."""
    described = [
        [case.dataset, case.case, *case.spacing_mm]
        + (
            [case.parts.checksum, case.structures, case.tissues]
            if isinstance(case, TissueMap)
            else [case.image.checksum, case.label.checksum, case.moments]
        )
        for case in cases
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


# --- training -----------------------------------------------------------------------------------


class Trainer:
    """A network in training: its state and one step of it.

    rank: which of the processes that share the training this is; all of them hold the same.
    """

    def __init__(self, resolved: Resolved, device: torch.device, rank: Rank = ALONE):
        model = resolved.model
        self.resolved = resolved
        self.device = device
        self.rank = rank
        self.synth = synth_module(model)
        torch.manual_seed(seed_of(resolved.seed, "weights"))
        network = networks.build(
            model,
            resolved.in_channels,
            resolved.classes,
            resolved.patch_size,
            resolved.spacing_mm,
        )
        self.network = rank.normalised(network, device).to(device)
        self.average = WeightAverage(self.network, model.ema) if model.ema else None
        # What is wrapped and compiled shares its weights with `network`, under whose names they are saved.
        self.forward = rank.wrapped(self.network, device)
        if model.compile:
            self.forward = torch.compile(self.forward)
        settings = resolved.settings
        self.loss = SegmentationLoss(
            model.loss, settings.structures, device, rank.total, settings.ignores
        )
        self.optimizer = build_optimizer(model.optimizer, self.network)
        self.half = half_precision(device) if model.amp else None
        # Only half precision with a narrow exponent range needs its loss scaled.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half == torch.float16)

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that is validated and kept: the average of the weights, if there is one."""
        return self.average.network if self.average else self.network

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def step(self, number: int, batch: Batch) -> tuple[float, float]:
        """Train on the rank's part of a batch.

        Returns the loss of the whole batch, and the gradient's norm before it was clipped.
        """
        resolved, model, rank = self.resolved, self.resolved.model, self.rank
        seed = seed_of(resolved.seed, f"step {number}")
        # Dropout draws from here, on each rank for other patches.
        torch.manual_seed(
            seed_of(resolved.seed, f"step {number} rank {rank.number}") if rank.number else seed
        )
        generator = torch.Generator().manual_seed(seed)
        if self.synth is None:
            images, labels = augment(
                batch.images.to(self.device, non_blocking=True),
                batch.labels.to(self.device, non_blocking=True),
                model.augmentation,
                resolved.patch_size,
                batch.spacing_mm,
                batch.axes,
                resolved.plan.anisotropy_threshold,
                generator,
                class_pairs(resolved.settings.structures, resolved.settings.left_right_pairs),
                rank.part,
            )
        else:
            images, labels = self.synth.change(batch, resolved, self.device, generator)
        rate = self.learning_rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
            logits = self._forward(images)
        loss = self.loss(logits, labels)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), model.gradient_clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.network, number)
        # Gradients were averaged, so that their norm is every rank's; the loss was its own.
        whole = rank.total(loss.detach()) / rank.size
        loss_value, norm_value = torch.stack([whole, norm.detach()]).tolist()
        return loss_value, norm_value

    def _forward(self, images: torch.Tensor):
        try:
            return self.forward(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"compile: true, but torch.compile fails here ({reason}); it needs a C++ compiler "
                "(Triton on a GPU); set compile: false, or install one"
            ) from None

    def learning_rate(self, number: int) -> float:
        model, resolved = self.resolved.model, self.resolved
        return model.optimizer.lr * factor(
            model.schedule, number, resolved.steps, resolved.steps_per_epoch
        )

    def validate(self, cases: Sequence[TrainingCase]) -> dict[str, float]:
        """Loss and Dice of each structure, averaged over whole volumes on the prepared grid.

        A structure that is in no reference is NaN, and left out of the mean.
        """
        losses, scores = zip(*self.rank.spread(self._validate_case, cases), strict=True)
        by_structure = _mean_known(np.array(scores))
        names = [f"validation_dice_{name}" for name in self.resolved.settings.structures]
        return {
            "validation_loss": float(np.mean(losses)),
            **dict(zip(names, by_structure.tolist(), strict=True)),
            "validation_dice_mean": float(_mean_known(by_structure)),
        }

    def _validate_case(self, case: TrainingCase) -> tuple[float, np.ndarray]:
        """Loss, and Dice of each structure."""
        resolved, model = self.resolved, self.resolved.model
        image, label = case.cut((0, 0, 0), case.shape)
        probabilities = predict_volume(
            self.evaluated,
            image,
            patch_size=resolved.patch_size,
            dims=model.dims,
            planes=model.planes,
            classes=resolved.classes,
            overlap=VALIDATION_OVERLAP,
            device=self.device,
            amp=model.amp,
        )
        known = label != IGNORED
        predicted = probabilities.argmax(0).astype(np.uint8)
        scores = dice(label[known], predicted[known], resolved.classes)
        # The loss takes logits; logarithms of probabilities are such.
        logits = torch.from_numpy(probabilities).clamp_(min=1e-7).log_()[None]
        return float(self.validation_loss(logits, torch.from_numpy(label)[None])), scores

    @property
    def validation_loss(self) -> SegmentationLoss:
        settings = self.resolved.settings
        return SegmentationLoss(settings.model.loss, settings.structures, ignores=settings.ignores)


def build_optimizer(settings: Optimizer, network: torch.nn.Module) -> torch.optim.Optimizer:
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    parameters = network.parameters()
    if settings.name == "sgd":
        # Nesterov's momentum is undefined for momentum 0.
        nesterov = settings.momentum > 0
        return torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=nesterov, **common)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(parameters, betas=settings.betas, **common)


def fit(
    resolved: Resolved,
    training: Sequence[CaseArrays] | Sequence[TissueMap],
    validation: Sequence[CaseArrays] | Sequence[TissueMap],
    output: Path,
    *,
    device: torch.device,
    threads: int,
    memory_mb: int,
    code: str,
    workers: int = 0,
    rank: Rank = ALONE,
    kept: Finished = NOTHING,
) -> None:
    """Train a network and leave `weights.pt`, `best.pt`, `history.csv` and `settings.json` in `output`.

    training, validation: the prepared cases that `resolved` names, in its order; label maps for a
        model with `trainer: synth`, which leaves `samples.npz` as well.
    memory_mb: memory of this process; cases that fit into half of it are held.
    code: digest of the code; a checkpoint of other code is not used.
    workers: processes that cut patches; 0: a thread of this one.
    rank: of the processes that share the training, and all call this alike; the first one writes.
    kept: where finished trainings are kept; one that would end with the same weights is taken from there.

    A training that was killed goes on from `output/checkpoint`, on CPU to the same bits as if it
    had not been. SIGINT, SIGTERM, SIGHUP and SIGUSR1 save the state at the next step and raise Interrupted.
    Until it has ended, all that it leaves is in `output/checkpoint`, its history so far too.
    Raises InputError where the loss or the gradient is not finite (in float16: ten gradients
    in a row), and where a GPU's memory is too small.
    """
    make_folder(output)
    folder = output / "checkpoint"
    digest = resolved.digest(data_digest([*training, *validation]), code)
    key = finished.key("train", digest, decides_bits(device), rank.size, finished.versions_of())
    if rank.gathered(rank.writes and kept.restore(key, output))[0]:
        if rank.writes:
            shutil.rmtree(folder, ignore_errors=True)
        return
    trainer = Trainer(resolved, device, rank)
    described = _described(trainer, threads) if rank.writes else {}
    progress = checkpoint.read(
        folder,
        digest,
        trainer.network,
        trainer.optimizer,
        trainer.scaler,
        trainer.average,
        device,
    )
    if trainer.synth is None:
        cases = load_cases([*training, *validation], resolved.plan, memory_mb)
        apart = cases[len(training) :]
    else:
        cases = [trainer.synth.load_case(found) for found in [*training, *validation]]
        apart = [
            trainer.synth.painted(case, resolved, _generator(resolved, f"validation {case.name}"))
            for case in cases[len(training) :]
        ]
    names = resolved.settings.structures
    learned = cases[: len(training)]
    check_structures(
        [[names[n - 1] for n in case.foreground] for case in learned], names, resolved.fold
    )
    sampler = Sampler(
        cases=with_slices(learned, resolved.model.slices),
        patch_size=resolved.patch_size,
        source_size=resolved.source_size,
        planes=resolved.model.planes,
        batch_size=resolved.model.batch_size,
        foreground_share=resolved.model.foreground_share,
        seed=resolved.seed,
        slices=resolved.model.slices,
        part=rank.part,
    )
    _log_start(trainer, threads)
    try:
        with stop_requests() as requests:
            _run(trainer, progress, sampler, apart, folder, digest, requests, workers)
    except ValueError as error:
        if "Expected more than 1" not in str(error):  # torch's words
            raise
        raise InputError(
            f"patch_size: a patch of {times(resolved.patch_size)} voxels shrinks to one voxel in this "
            f"{resolved.model.network}, and {sampler.own_size} of them cannot be normalised; give a larger "
            "patch_size, or a larger batch_size with batch normalisation"
        ) from None
    except torch.cuda.OutOfMemoryError:
        raise InputError(
            f"the GPU's memory is too small for a batch of {sampler.own_size} patches of "
            f"{times(resolved.patch_size)} voxels; lower batch_size, patch_size or channels"
        ) from None
    if not rank.writes:
        return
    drawn = trainer.synth and trainer.synth.samples(
        sampler, resolved, _generator(resolved, "samples")
    )
    # Whoever asks to stop now gets all of what a rule declares, and not a part that has to be made anew.
    with stop_requests():
        _save(trainer, progress, output)
        if drawn:
            with writing(output / "samples.npz") as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **drawn)
        write_text(output / "history.csv", history_text(progress.history))
        write_json(output / "settings.json", described)
    kept.keep(key, output, [*FILES, *(["samples.npz"] if trainer.synth else [])])
    shutil.rmtree(folder, ignore_errors=True)


def _run(
    trainer: Trainer,
    progress: Progress,
    sampler: Sampler,
    validation: Sequence[TrainingCase],
    folder: Path,
    digest: str,
    requests: list[int],
    workers: int,
) -> None:
    """The loop over all steps that are left."""
    resolved, rank = trainer.resolved, trainer.rank
    saved = began = time.monotonic()

    def save() -> None:
        if rank.writes:
            checkpoint.write(
                folder,
                digest,
                progress,
                trainer.network,
                trainer.optimizer,
                trainer.scaler,
                trainer.average,
            )

    def write_history() -> None:
        if rank.writes:
            write_text(folder / "history.csv", history_text(progress.history))

    pin = trainer.device.type == "cuda"
    for batch in sampler.batches(progress.step, resolved.steps, pin, workers):
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
            row["seconds"] = round(progress.seconds + now - began, 3)
            progress.history.append(row)
            progress.losses, progress.seconds, began = [], 0.0, now
            write_history()
            _log_epoch(resolved, progress.history)
        now = time.monotonic()
        asked = rank.asked(requests)
        if asked and progress.step < resolved.steps:
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


def _end_epoch(
    trainer: Trainer, progress: Progress, validation: Sequence[TrainingCase]
) -> dict[str, float]:
    """The epoch's row of the history; keeps the weights if they are the best so far."""
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
    due = epoch % resolved.model.validate_every_epochs == 0 or epoch == resolved.model.epochs
    if validation and due:
        row |= trainer.validate(validation)
        if row["validation_dice_mean"] > progress.best_dice:
            progress.best_dice = row["validation_dice_mean"]
            progress.best = {
                name: tensor.detach().clone()
                for name, tensor in trainer.evaluated.state_dict().items()
            }
    return row


def _save(trainer: Trainer, progress: Progress, output: Path) -> None:
    """Write the last and the best weights; without validation the last are the best."""
    resolved = trainer.resolved
    provenance = {
        "fold": resolved.fold,
        "seed": resolved.seed,
        "steps": resolved.steps,
        "training": list(resolved.training),
        "validation": list(resolved.validation),
        # Not of all that this process has imported: the weights are the same without.
        "versions": {key: versions()[key] for key in ("python", "segstudy", "torch")},
    }

    def write(name: str) -> None:
        save_weights(
            output / name,
            trainer.evaluated,
            resolved.model,
            resolved.settings.structures,
            resolved.settings.channels,
            resolved.plan.to_dict(),
            resolved.patch_size,
            provenance,
            resolved.settings.left_right_pairs,
        )

    write("weights.pt")
    if progress.best is not None:
        trainer.evaluated.load_state_dict(progress.best)
    write("best.pt")


def seed_of(seed: int, purpose: str) -> int:
    """A seed for one purpose, such as `step 12`; it has nothing in common with those of others."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big") >> 1


def _generator(resolved: Resolved, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(resolved.seed, purpose))


def history_text(rows: Sequence[dict[str, float]]) -> str:
    """The history as CSV; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: "" if math.isnan(value) else f"{value:.6g}" for key, value in row.items()}
        )
    return text.getvalue()


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
    raise InputError(
        f"epoch {epoch + 1}, step {place + 1} of {resolved.steps_per_epoch}: {what}; cases in the "
        f"batch: {', '.join(cases)}. Look at these images, or lower optimizer.lr "
        f"({resolved.model.optimizer.lr:g}){further}"
    )


def _described(trainer: Trainer, threads: int) -> dict:
    device = trainer.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        **trainer.resolved.to_dict(),
        "parameters": trainer.parameters,
        "architecture": describe(
            trainer.network, trainer.resolved.in_channels, trainer.resolved.patch_size
        ),
        "device": name,
        "precision": str(trainer.half or torch.float32).removeprefix("torch."),
        "threads": threads,
        "processes": trainer.rank.size,
        "versions": versions(),
    }


def _log_start(trainer: Trainer, threads: int) -> None:
    resolved = trainer.resolved
    log.info(
        "%s: %s parameters, patch %s, batch %d, %d epochs of %d steps, on %s with %d threads%s",
        resolved.model.network,
        f"{trainer.parameters:,}",
        times(resolved.patch_size),
        resolved.model.batch_size,
        resolved.model.epochs,
        resolved.steps_per_epoch,
        trainer.device.type,
        threads,
        f", in {trainer.rank.size} processes" if trainer.rank.size > 1 else "",
    )
    log.info(
        "%d cases to train on, %d kept apart to follow the training",
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
    line += f"  {duration(row['seconds'])}"
    left = resolved.model.epochs - len(history)
    if left:
        each_s = sum(past["seconds"] for past in history) / len(history)
        line += f", about {duration(each_s * left)} left"
    log.info("%s", line)


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
