"""What happens to one of the processes of a training; each of them imports this module by name."""

import argparse
import ctypes
import hashlib
import json
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from pretended_gpu import pretended_gpu
from segstudy import study
from segstudy.files import read_json
from segstudy.images.arrays import open_arrays
from segstudy.images.plan import Plan
from segstudy.train import command, distributed, fit
from segstudy.train.distributed import ALONE, Rank
from segstudy.train.from_images import Patches

STEP = 5
"""The step, from 0, in which it happens; on rank 1."""


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def asked_alone() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def asked_by_the_launcher() -> None:
    os.kill(os.getppid(), signal.SIGUSR1)
    time.sleep(3)  # until it is passed on, on a busy machine too


def broken() -> None:
    raise ZeroDivisionError("a fault of ours")


def no_room() -> None:
    raise OSError(28, "No space left on device", "history.csv")


def load_each(self, function, items) -> list:
    """In place of `Rank.shared`: each rank holds all."""
    return [function(item) for item in items]


def train(words: list[str], fault: str, rank: Rank) -> None:
    """The command of a training, as one of its ranks."""
    if fault == "each_holds_all":
        Rank.shared, fault = load_each, ""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = parser.parse_args(words[1:])
    step = fit.Trainer.step

    def planted(self, number, batch):
        if (rank.number, number) == (1, STEP):
            if fault == "nan":
                batch.images[:] = np.nan
            elif fault:
                globals()[fault]()
        return step(self, number, batch)

    fit.Trainer.step = planted
    command._train(study.from_json(study.TrainSettings, options.settings), options, rank)


def train_on_a_pretended_gpu(words: list[str], rank: Rank) -> None:
    """The command of a training, as one of its ranks, each on a GPU that is none."""
    distributed.DistributedDataParallel = Averaged
    with pretended_gpu(ranks=rank.size):
        train(words, "", rank)


class Averaged(torch.nn.Module):
    """In place of torch's DistributedDataParallel, whose C++ knows no pretended GPU: average each gradient over the ranks."""

    def __init__(self, network, **_):
        super().__init__()
        self.network = network
        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(self.average)

    def forward(self, images):
        return self.network(images)

    @staticmethod
    def average(parameter):
        torch.distributed.all_reduce(parameter.grad)
        parameter.grad /= torch.distributed.get_world_size()


def hold(folder: Path, shares: bool, rank: Rank) -> None:
    """Load a cohort; write what this rank's own memory grew by, in bytes, and what it holds, into `rank-<n>.json`."""
    cases = list(open_arrays(sorted((folder / "arrays").iterdir())).values())
    resolved = SimpleNamespace(plan=Plan.from_dict(read_json(folder / "plan.json")))
    before = own_memory()
    held, _ = Patches(cases, []).load(resolved, 10**6, rank if shares else ALONE)
    digests = [hashlib.sha256(case.image.tobytes() + case.label.tobytes()).hexdigest() for case in held]  # fmt: skip
    told = {
        "grown": own_memory() - before,
        "bytes": sum(case.image.nbytes + case.label.nbytes for case in held),
        "digests": digests,
        "files": sorted(set(re.findall(r"(\d+)\s+/memfd:segstudy", Path("/proc/self/maps").read_text()))),
    }  # fmt: skip
    (folder / f"rank-{rank.number}.json").write_text(json.dumps(told))


def own_memory() -> int:
    """Bytes that this process holds, without what it shares through a file, or has given back and C keeps."""
    ctypes.CDLL(None).malloc_trim(0)
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
