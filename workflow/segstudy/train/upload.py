"""Batches on the device that trains: a GPU copies the next one while it works on this one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from segstudy.train.sampling import Batch


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches, on a GPU with their patches there.

    A thread takes the next batch and starts its copy on a stream of its own, from page-locked memory. The stream that
    trains waits for the copy, and no host does.
    """
    if device.type != "cuda":
        yield from batches
        return
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

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(fetch)
        while (fetched := coming.result()) is not None:
            coming = ahead.submit(fetch)
            batch, copied = fetched
            training = torch.cuda.current_stream(device)
            training.wait_event(copied)
            for patches in (batch.images, batch.labels):
                # Their memory is not given to the next copy before the step is through with them.
                patches.record_stream(training)
            yield batch
