"""One training shared by several processes of a node, each with a GPU of its own where there are some.

Every process ("rank") holds the whole network, cuts and sees its own part of every batch, and takes
the same step: gradients are averaged over all (Li et al. 2020). `launch` starts them, and Rank is
what one of them knows of the others. A training of one process is rank 0 of 1, and asks nobody.
"""

import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from segstudy import log
from segstudy.errors import InputError
from segstudy.train import shared_arrays

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that ask a training to stop: Ctrl-C, SIGTERM, a closed terminal, and SLURM's warning SIGUSR1."""
GRACE_S = 5.0
"""How long the other ranks have to end by themselves once one has failed."""
PATIENCE = timedelta(hours=1)
"""How long a rank waits for another that stands still, e.g. for a file system that hangs. That one has died is seen by
`launch` at once; cases of a validation are spread, so that no rank is an hour behind the others."""

KILLED = {
    signal.SIGKILL: "most often that means too little memory: raise memory_mb",
    signal.SIGABRT: "so NCCL or CUDA end a process whose GPU failed, or that waited an hour for another one: the lines above "
    "may say why, and NCCL_DEBUG=INFO says more",
}
"""What a signal that ended a rank most often means."""

Item = TypeVar("Item")
Result = TypeVar("Result")


# --- a rank's view ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rank:
    """Identify one of the processes that share a training: `number`, from 0, of `size`."""

    number: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Tell whether this process writes the training's results."""
        return self.number == 0

    @property
    def part(self) -> tuple[int, int]:
        """Return the number of the process and how many there are."""
        return self.number, self.size

    def device(self, device: torch.device) -> torch.device:
        """Choose the rank's own one of the GPUs. Raises InputError where there are not enough."""
        if self.size == 1 or device.type != "cuda":
            return device
        if torch.cuda.device_count() < self.size:
            raise InputError(
                f"{self.size} processes, but torch finds {torch.cuda.device_count()} CUDA GPUs "
                "here; give the job a GPU for each, or lower gpus (--processes)"
            )
        torch.cuda.set_device(self.number)
        return torch.device("cuda", self.number)

    def normalised(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Make batch normalisation act over the whole batch and not over the rank's part.

        torch's works on GPUs alone. Raises InputError for batch normalisation on CPU.
        """
        if self.size == 1:
            return network
        batch = nn.modules.batchnorm._BatchNorm
        if device.type == "cpu" and any(isinstance(module, batch) for module in network.modules()):
            raise InputError(
                "batch normalisation over several processes needs GPUs; on the CPU, train this "
                "network in one process (gpus: 1, --processes 1), or set normalisation: instance"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)

    def wrapped(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Wrap the network so that its gradients are averaged over all ranks."""
        if self.size == 1:
            return network
        # Of a convolution of one voxel, whose strides are as good as the others.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        device_ids = [device] if device.type == "cuda" else None
        # Statistics of batch normalisation agree by themselves.
        return DistributedDataParallel(network, device_ids=device_ids, forward_sync_buffers=False)

    def total(self, values: Tensor) -> Tensor:
        """Sum over all ranks; gradients pass through."""
        return values if self.size == 1 else _Total.apply(values)

    def gathered(self, item: Item) -> list[Item]:
        """Gather the items of all ranks, in their order."""
        if self.size == 1:
            return [item]
        of_ranks: list[Any] = [None] * self.size
        distributed.all_gather_object(of_ranks, item)
        return of_ranks

    def spread(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply a function to each item, each on one rank, and return all results in the items' order."""
        of_ranks = self.gathered([function(item) for item in items[self.number :: self.size]])
        return self._in_order(of_ranks)

    def shared(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply a function as `spread` does; arrays in the results are held once, and only to be read, for all ranks.

        They lie in a file in memory, which ends with the last rank, however that ends. Only Linux has such files.
        """
        if self.size == 1 or sys.platform != "linux":
            return [function(item) for item in items]
        with open(os.memfd_create("segstudy"), "w+b") as own:
            stored = shared_arrays.store(map(function, items[self.number :: self.size]), own)
            of_ranks = []
            for path, of_rank in self.gathered((f"/proc/{os.getpid()}/fd/{own.fileno()}", stored)):
                with open(path, "rb") as file:
                    of_ranks.append(shared_arrays.restore(of_rank, file))
            self.gathered(None)  # all have opened this rank's
        return self._in_order(of_ranks)

    def _in_order(self, of_ranks: Sequence[Sequence[Result]]) -> list[Result]:
        """Return what the ranks have made of every so many-th item in the order of the items."""
        count = sum(map(len, of_ranks))
        return [of_ranks[place % self.size][place // self.size] for place in range(count)]

    def asked(self, requests: Sequence[int]) -> int:
        """Return the signal that asked any of the ranks to stop, the same for all; 0: none did."""
        return max(self.gathered(requests[0] if requests else 0))


ALONE = Rank()
"""The only process of its training."""


class _Total(torch.autograd.Function):
    """Sum over ranks. What one of them adds to the sum acts on every rank's loss, so gradients add up too."""

    @staticmethod
    def forward(_, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        return _Total.apply(gradient)


def heeded() -> list[int]:
    """Return the signals of `STOPPING`, but for SIGHUP where `nohup` has it ignored."""
    return [
        number
        for number in STOPPING
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect the signals that ask this process to stop, in order of arrival."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in heeded()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- starting and ending them -------------------------------------------------------------------


def launch(size: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(*arguments, Rank)` in `size` new processes of this machine, and wait for all.

    function: one that its module knows by name. After a request to stop, which is passed on to
    every rank, it may end by SystemExit(128 + signal); then so does this.
    Raises the first InputError or OSError of a rank, and InputError where one was killed: the
    others are then ended, whatever they wait for.
    """
    # Spawned: a forked process would take over signal handlers and threads.
    spawn = multiprocessing.get_context("spawn")
    ranks, pipes = [], []
    with tempfile.TemporaryDirectory(prefix="segstudy-ranks-") as folder, stop_requests() as asked:
        try:
            for number in range(size):
                receive, send = spawn.Pipe(duplex=False)
                pipes.append(receive)
                rank_arguments = (
                    Rank(number, size),
                    f"file://{folder}/store",
                    send,
                    function,
                    arguments,
                )
                ranks.append(spawn.Process(target=_run, args=rank_arguments))
                ranks[-1].start()
                send.close()
            codes = _wait(ranks, asked)
            failures = _received(pipes)
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
    _judge(codes, failures, asked)


@dataclass(frozen=True)
class _Failure:
    """Hold the error that ended a rank: one that is told to people, or else a stack trace."""

    time_s: float
    trace: str
    error: Exception | None


def _run(
    rank: Rank,
    store: str,
    failures: Connection,
    function: Callable[..., None],
    arguments: Sequence[Any],
) -> None:
    """Run one rank: a process of its own."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if rank.writes:
        log.start()
    if sys.platform == "linux":
        # All of them are on this machine: no need of a name or a network.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            init_method=store,
            rank=rank.number,
            world_size=rank.size,
            timeout=PATIENCE,
        )
        function(*arguments, rank)
    except KeyboardInterrupt:  # before it listened, and so with nothing new to save
        os._exit(128 + signal.SIGINT)
    except Exception as error:
        expected = error if isinstance(error, InputError | OSError) else None
        failures.send(_Failure(time.time(), traceback.format_exc()[-20_000:], expected))
        os._exit(1)  # at once: an orderly end may wait for the others
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _end_with_parent() -> None:
    """End this rank once its parent has ended: nobody else would, where it waits for another rank."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _wait(ranks: Sequence[BaseProcess], asked: Sequence[int]) -> list[int | None]:
    """Return exit codes once all ranks have ended, or a while after one has failed: None, that one is left.

    Requests to stop are passed on.
    """
    in_order = (None, 0, *(128 + number for number in STOPPING))
    passed_on, deadline = 0, math.inf
    while running := [rank for rank in ranks if rank.exitcode is None]:
        for number in asked[passed_on:]:
            passed_on += 1
            for rank in running:
                os.kill(rank.pid, number)
        if any(rank.exitcode not in in_order for rank in ranks):
            deadline = min(deadline, time.monotonic() + GRACE_S)
        if time.monotonic() > deadline:
            break
        wait([rank.sentinel for rank in running], timeout=0.2)  # which no signal ends
    return [rank.exitcode for rank in ranks]


def _received(pipes: Sequence[Connection]) -> list[_Failure]:
    received = []
    for pipe in pipes:
        with suppress(EOFError):  # nothing was sent
            if pipe.poll():
                received.append(pipe.recv())
    return received


def _judge(codes: Sequence[int | None], failures: Sequence[_Failure], asked: Sequence[int]) -> None:
    """Raise the error that the ranks have ended of; errors that followed from it are left out."""
    failures = sorted(failures, key=lambda failure: failure.time_s)
    for failure in failures:
        if isinstance(failure.error, InputError):
            raise failure.error
    for number, code in enumerate(codes, 1):
        if code is None or code >= 0:
            continue
        if -code in asked:  # before it listened, and so with nothing new to save
            raise SystemExit(128 - code)
        raise InputError(
            f"process {number} of {len(codes)} of the training was killed by "
            f"{signal.Signals(-code).name}; {KILLED.get(-code, 'the lines above may say why')}. Started again, "
            "the training goes on from its last checkpoint"
        )
    for failure in failures:
        raise failure.error or RuntimeError(f"in one of the training's processes:\n{failure.trace}")
    for code in codes:
        if code:
            raise SystemExit(code)
