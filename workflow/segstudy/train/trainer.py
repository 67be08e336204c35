"""A network in training: one step of it, and its validation on whole volumes."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from segstudy import gpus, networks
from segstudy.images.overlap import dice_of
from segstudy.images.prepare import IGNORED
from segstudy.log import log
from segstudy.networks.device import compile_failures, free_memory, half_precision
from segstudy.networks.initial_weights import InitialWeights, head_of
from segstudy.networks.window import SlidingWindow, finite, predict_tensor
from segstudy.study import Optimizer
from segstudy.train import fine_tuning
from segstudy.train.checkpoint import Stateful
from segstudy.train.distributed import ALONE, Rank
from segstudy.train.draw import draw_of_step
from segstudy.train.ema import weight_average
from segstudy.train.fine_tuning import learning_groups
from segstudy.train.loss import SegmentationLoss
from segstudy.train.resolved import Resolved
from segstudy.train.sampling import Batch, TrainingCase
from segstudy.train.schedule import factor
from segstudy.train.seeds import seed_of
from segstudy.train.source import PatchSource

VALIDATION_OVERLAP = 0.25
"""Overlap of windows in validation: half the work of prediction's 0.5, to follow a training by."""


def prepare_torch(device: torch.device, threads: int) -> None:
    """Set the threads, and on CPU only algorithms that give the same bits each time."""
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


LOSS_VOLUMES, LOSS_BYTES = 6, 16
"""Memory that a volume's loss takes beside the logits, as counted: so many more such volumes, and bytes a voxel."""
SLAB_VOXELS = 2**22
"""Voxels whose classes are counted at a time."""

Result = TypeVar("Result")


class LossScaler(torch.amp.GradScaler):
    """Scale the loss of float16; taken up from a training in bfloat16, which has no scale, it starts with its first one."""

    def load_state_dict(self, state_dict: dict) -> None:
        """Take up the state of another scaler, as far as both scale."""
        if state_dict and self.is_enabled():
            super().load_state_dict(state_dict)


class Trainer:
    """Hold a network in training, and take its steps.

    source: turns cut patches into the images and labels of a step.
    rank: which of the processes that share the training this is; all of them hold the same.
    initial: weights to start from; None: fresh ones.
    """

    def __init__(
        self,
        resolved: Resolved,
        source: PatchSource,
        device: torch.device,
        rank: Rank = ALONE,
        initial: InitialWeights | None = None,
    ) -> None:
        model = resolved.model
        self.resolved = resolved
        self.source = source
        self.device = device
        self.rank = rank
        torch.manual_seed(seed_of(resolved.seed, "weights"))
        network = self._built(resolved.classes)
        self.fine_tuning: dict[str, Any] = {}
        if initial is not None:
            with torch.random.fork_rng(devices=[]):
                head = head_of(network, self._built(resolved.classes + 1))
            self.fine_tuning = fine_tuning.start(network, initial, head, model.freeze)
        self.network = rank.normalised(network, device).to(device)
        networks.check(
            model, self.network, resolved.in_channels, resolved.classes, resolved.patch_size
        )
        self.average = weight_average(self.network, model.ema) if model.ema else None
        # What is wrapped and compiled shares its weights with `network`, under whose names they are saved.
        self.forward = rank.wrapped(self.network, device)
        if model.compile:
            self.forward = torch.compile(self.forward)
        settings = resolved.settings
        self.loss = SegmentationLoss(
            model.loss, settings.structures, device, rank.total, settings.ignores
        )
        self.loss.check(resolved.classes, resolved.patch_size, min(2, model.batch_size), device)
        self.optimizer = build_optimizer(model.optimizer, self.network)
        # On a CPU, weight gradients of 3D convolutions of few voxels are wrong in bfloat16 (torch 2.13, oneDNN).
        self.half = half_precision(device) if model.amp and device.type == "cuda" else None
        # Only half precision with a narrow exponent range needs its loss scaled.
        self.scaler = LossScaler(device.type, enabled=self.half == torch.float16)
        self._validates_on_cpu = False

    def _built(self, classes: int) -> torch.nn.Module:
        resolved = self.resolved
        return networks.build(
            resolved.model,
            resolved.in_channels,
            classes,
            resolved.patch_size,
            resolved.spacing_mm,
        )

    @property
    def evaluated(self) -> torch.nn.Module:
        """Return the network that is validated and kept: the average of the weights, if there is one."""
        return self.average.module if self.average else self.network

    @property
    def parts(self) -> dict[str, Stateful]:
        """Return all that has a state which a checkpoint keeps."""
        parts = {"network": self.network, "optimizer": self.optimizer, "scaler": self.scaler}
        return parts | ({"average": self.average} if self.average else {})

    @property
    def parameters(self) -> int:
        """Return the number of the network's parameters."""
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
        draw = draw_of_step(resolved.seed, number, len(batch.labels), rank.part)
        images, labels = self.source.patches(batch, resolved, self.device, draw)
        rate = self.learning_rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_factor", 1.0)
        self.network.train()
        if model.freeze:
            fine_tuning.keep_statistics(self.network)
        self.optimizer.zero_grad(set_to_none=True)
        half = torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)
        with half, networks.telling(model):
            logits = self._forward(images)
        loss = self.loss(logits, labels)
        # What is compiled may be compiled for the way back only now.
        with compile_failures():
            self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), model.gradient_clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.network)
        # Gradients were averaged, so that their norm is every rank's; the loss was its own.
        whole = rank.total(loss.detach()) / rank.size
        loss_value, norm_value = torch.stack([whole, norm.detach()]).tolist()
        return loss_value, norm_value

    def _forward(self, images: torch.Tensor):
        with compile_failures():
            return self.forward(images)

    def learning_rate(self, number: int) -> float:
        """Return the learning rate of a step."""
        model, resolved = self.resolved.model, self.resolved
        return model.optimizer.lr * factor(
            model.schedule, number, resolved.steps, resolved.steps_per_epoch
        )

    def validate(self, cases: Sequence[TrainingCase]) -> dict[str, float]:
        """Return loss and Dice of each structure, averaged over whole volumes on the prepared grid.

        A structure that is in no reference is NaN, and left out of the mean.
        """
        losses, scores = zip(*self.rank.spread(self._validate_case, cases), strict=True)
        by_structure = mean_known(np.array(scores))
        names = [f"validation_dice_{name}" for name in self.resolved.settings.structures]
        return {
            "validation_loss": float(np.mean(losses)),
            **dict(zip(names, by_structure.tolist(), strict=True)),
            "validation_dice_mean": float(mean_known(by_structure)),
        }

    @torch.inference_mode()
    def _validate_case(self, case: TrainingCase) -> tuple[float, np.ndarray]:
        """Return the loss, and Dice of each structure."""
        resolved, model = self.resolved, self.resolved.model
        image, label = case.cut((0, 0, 0), case.shape)
        window = SlidingWindow(
            resolved.patch_size, model.dims, model.planes, overlap=VALIDATION_OVERLAP
        )
        with networks.telling(model):
            probabilities = predict_tensor(
                self.evaluated, image, resolved.classes, window, self.device, model.amp
            )
        if not finite(probabilities):
            # No error: half precision may overflow once, and prediction will refuse weights that stay so.
            log.warning(
                "validation of %s: %s gives logits that are not finite",
                case.name,
                networks.label(model),
            )
        labels = torch.from_numpy(label)
        # Where the probabilities are: a GPU takes a hundredth of the CPU's time for what follows.
        scores = self._with_room(case.name, scores_of, probabilities, labels)
        # The loss takes logits; logarithms of probabilities are such.
        logits = probabilities.clamp_(min=1e-7).log_()
        needed = loss_bytes(logits)
        loss = self._with_room(case.name, self._loss_of_volume, logits, labels, needed)
        return loss, scores

    def _with_room(
        self,
        name: str,
        function: Callable[[Tensor, Tensor], Result],
        volume: Tensor,
        labels: Tensor,
        needed: int = 0,
    ) -> Result:
        """Compute from a volume of all classes and its labels where the volume is; without room for it there, on the CPU.

        needed: bytes that it takes beside them, where that is known to be much.
        """
        gpu = volume.device if volume.device.type == "cuda" else None
        if gpu and needed <= free_memory(gpu):
            try:
                return function(volume, labels.to(gpu, non_blocking=True))
            except RuntimeError as error:
                if not gpus.out_of_memory(error):
                    raise
            # past the except block, so that the exception no longer holds the failed attempt's memory
            torch.cuda.empty_cache()
        if gpu and not self._validates_on_cpu:
            self._validates_on_cpu = True
            log.info(
                "validation of %s: the GPU has too little free memory for Dice and loss, which the CPU computes; it takes longer",
                name,
            )
        return function(volume.cpu(), labels)

    def _loss_of_volume(self, logits: Tensor, labels: Tensor) -> float:
        settings = self.resolved.settings
        loss = SegmentationLoss(
            self.resolved.model.loss,
            settings.structures,
            logits.device,
            ignores=settings.ignores,
        )
        return float(loss(logits[None], labels[None]))


def loss_bytes(logits: Tensor) -> int:
    """Return the bytes that the loss of logits (class, x, y, z) takes beside them, without plug-ins'."""
    return LOSS_VOLUMES * logits.nbytes + LOSS_BYTES * logits[0].numel()


def scores_of(probabilities: Tensor, labels: Tensor) -> np.ndarray:
    """Return Dice of each structure from probabilities (class, x, y, z), counted slab by slab, which takes little memory."""
    slab = max(1, SLAB_VOXELS // labels[0].numel())
    parts = zip(probabilities.split(slab, 1), labels.split(slab), strict=True)
    return dice_of(sum(confusion(part, some.argmax(0), len(some)) for some, part in parts))


def confusion(labels: torch.Tensor, predicted: torch.Tensor, classes: int) -> np.ndarray:
    """Count the voxels of each pair of reference and predicted class, on the device of the two.

    Parameters
    ----------
    labels
        Reference classes, of any shape; voxels that are IGNORED do not count.
    predicted
        Predicted classes, of the same shape.
    classes
        The number of classes, the background among them.

    Returns
    -------
    numpy.ndarray
        int64 (reference class, predicted class).
    """
    pairs = labels.long() * classes + predicted
    pairs = torch.where(labels == IGNORED, classes**2, pairs).flatten()
    counts = torch.bincount(pairs, minlength=classes**2 + 1)[: classes**2]
    return counts.cpu().numpy().reshape(classes, classes)


def build_optimizer(settings: Optimizer, network: torch.nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser that a study asks for, for all of a network's parameters that are not frozen."""
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    parameters = [
        {"params": learning, "lr": settings.lr * factor, "lr_factor": factor}
        for factor, learning in learning_groups(network, settings.lr_factors).items()
    ]
    if settings.name == "sgd":
        # Nesterov's momentum is undefined for momentum 0.
        nesterov = settings.momentum > 0
        return torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=nesterov, **common)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(parameters, betas=settings.betas, **common)


def mean_known(values: np.ndarray) -> np.ndarray:
    """Average over the first axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
