"""Where a training runs and where it writes: nothing that shapes its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from segstudy.finished import NOTHING, Finished
from segstudy.train.distributed import ALONE, Rank


@dataclass(frozen=True)
class Run:
    """Describe one run of a training.

    Parameters
    ----------
    output
        Folder for `weights.pt` and the other results.
    device
        Device that trains.
    threads
        CPU threads of all processes of the training.
    code
        Digest of the code; what other code left unfinished is not used.
    memory_mb
        Memory of all processes of the training in MB; 0 where the trainer does not ask for it.
    workers
        Processes that cut patches; 0: a thread of this process.
    rank
        Which of the processes that share the training this is. All of them make the same calls, and
        the first one writes.
    kept
        Where finished trainings are kept; one that would end with the same weights is taken from there.
    images
        Each training and validation case, as `dataset/case` -> the checksum of its image, which the weights remember.
    tensorboard
        Whether TensorBoard's event files are written too.
    attempt
        Number of the attempt, from 1.
    """

    output: Path
    device: torch.device
    threads: int
    code: str
    memory_mb: int = 0
    workers: int = 0
    rank: Rank = ALONE
    kept: Finished = NOTHING
    images: Mapping[str, str] = field(default_factory=dict)
    tensorboard: bool = False
    attempt: int = 1
