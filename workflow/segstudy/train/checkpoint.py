"""The state of a training on disk, so that it goes on where it was stopped.

There is no state of random numbers in it: all of them follow from the seed and the step.
"""

import io
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from segstudy.files import writing
from segstudy.log import log


class Stateful(Protocol):
    """Hold a state that torch can save: a network, an optimiser, ..."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as values that torch saves."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up a state."""


@dataclass
class Progress:
    """Tell how far a training is.

    step: steps done, the last `skipped` of them without a finite gradient, and so without effect.
    losses, seconds, waited_s: of the epoch under way; waited for batches. history: a row an epoch that ended.
    best_dice, best: the highest mean Dice in validation, and the weights that reached it.
    """

    step: int = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    waited_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_dice: float = -1.0
    best: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Write and read the state of one training in a folder.

    digest: of all that shapes the weights; a checkpoint of another digest is not used.
    """

    folder: Path
    digest: str

    @property
    def file(self) -> Path:
        """Return the path of the checkpoint, which need not exist."""
        return self.folder / "checkpoint.pt"

    def write(self, progress: Progress, parts: Mapping[str, Stateful]) -> None:
        """Write how far the training is and the state of its parts, atomically."""
        content = {
            "digest": self.digest,
            "progress": vars(progress),
            "parts": {name: part.state_dict() for name, part in parts.items()},
        }
        memory = io.BytesIO()
        torch.save(content, memory)
        with writing(self.file) as temporary:
            temporary.write_bytes(memory.getvalue())

    def read(self, parts: Mapping[str, Stateful], device: torch.device) -> Progress:
        """Load the state of the parts, where there is a checkpoint to use; else start anew."""
        content = self._load(device)
        if content is None:
            return Progress()
        if content["digest"] != self.digest:
            log.info("checkpoint of other settings, data or code: not used, training starts anew")
            return Progress()
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        progress = Progress(**content["progress"])
        log.info("going on from the checkpoint after step %d", progress.step)
        return progress

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _load(self, device: torch.device) -> dict[str, Any] | None:
        if not self.file.is_file():
            return None
        try:
            content = torch.load(self.file, map_location=device, weights_only=True)
            if set(content) >= {"digest", "progress"}:
                return content
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError):
            pass
        log.info("checkpoint is damaged: not used, training starts anew")
        return None
