"""The state of a training on disk, so that it goes on where it was stopped.

There is no state of random numbers in it: all of them follow from the seed and the step.
"""

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segstudy.files import writing
from segstudy.log import log
from segstudy.train.ema import WeightAverage


@dataclass
class Progress:
    """How far a training is.

    step: steps done, the last `skipped` of them without a finite gradient, and so without effect.
    losses, seconds: of the epoch under way. history: a row an epoch that ended.
    best_dice, best: the highest mean Dice in validation, and the weights that reached it.
    """

    step: int = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_dice: float = -1.0
    best: dict[str, Tensor] | None = None


def write(
    folder: Path,
    digest: str,
    progress: Progress,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: WeightAverage | None,
) -> None:
    """Write the checkpoint, atomically."""
    content = {
        "digest": digest,
        "progress": vars(progress),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "average": average.network.state_dict() if average else {},
    }
    memory = io.BytesIO()
    torch.save(content, memory)
    with writing(folder / "checkpoint.pt") as temporary:
        temporary.write_bytes(memory.getvalue())


def read(
    folder: Path,
    digest: str,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: WeightAverage | None,
    device: torch.device,
) -> Progress:
    """Take up the state of a checkpoint; where there is none to use, that of a new training."""
    path = folder / "checkpoint.pt"
    content = _load(path, device)
    if content is None:
        return Progress()
    if content["digest"] != digest:
        log.info("checkpoint of other settings, data or code: not used, training starts anew")
        return Progress()
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    scaler.load_state_dict(content["scaler"])
    if average:
        average.network.load_state_dict(content["average"])
    progress = Progress(**content["progress"])
    log.info("going on from the checkpoint after step %d", progress.step)
    return progress


def _load(path: Path, device: torch.device) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if set(content) >= {"digest", "progress", "network", "optimizer", "scaler", "average"}:
            return content
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError):
        pass
    log.info("checkpoint is damaged: not used, training starts anew")
    return None
