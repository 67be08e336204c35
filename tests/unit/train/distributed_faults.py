"""What happens to one of the processes of a training; each of them imports this module by name."""

import argparse
import os
import signal
import time

import numpy as np

from segstudy import study
from segstudy.train import command, fit
from segstudy.train.distributed import Rank

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


def train(words: list[str], fault: str, rank: Rank) -> None:
    """The command of a training, as one of its ranks."""
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
