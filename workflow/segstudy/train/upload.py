"""Batches on the device that trains: a GPU copies the next one while it works on this one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import torch

from segstudy.train.sampling import Batch


def on_device(
    batches: Generator[Batch, None, None], device: torch.device
) -> Generator[Batch, None, None]:
    """Yield batches, on a GPU with their patches there; they are closed at the end, however it comes.

    A thread takes the next batch and starts its copy on a stream of its own, from page-locked memory. The stream that
    trains waits for the copy, and no host does.
    """
    with closing(batches):
        yield from batches if device.type != "cuda" else _copied(batches, device)


def _copied(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    copying = torch.cuda.Stream(device)

    def fetch() -> tuple[Batch, torch.cuda.Event] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(copying):
            images, labels = (
                patches.to(device, non_blocking=True) for patches in (batch.images, batch.labels)
            )
            return replace(batch, images=images, labels=labels), copying.record_event()

    # Not by the thread: processes that cut patches begin here, and where another thread forks them they can't end in order.
    fetched = fetch()
    with ThreadPoolExecutor(1) as ahead:
        while fetched is not None:
            coming = ahead.submit(fetch)
            batch, copied = fetched
            training = torch.cuda.current_stream(device)
            training.wait_event(copied)
            for patches in (batch.images, batch.labels):
                # Their memory is not given to the next copy before the step is through with them.
                patches.record_stream(training)
            yield batch
            fetched = coming.result()
