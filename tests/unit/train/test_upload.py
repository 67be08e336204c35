"""Copies of batches to a GPU: in order, ahead, on a stream of their own that is waited for before use."""

import pytest
import torch

import pretended_gpu
from pretended_gpu import OnGpu
from segstudy.errors import InputError
from segstudy.train.sampling import Batch
from segstudy.train.upload import on_device


def batches(count, fault_at=None):
    for number in range(count):
        if number == fault_at:
            raise InputError("planted")
        images = torch.full((2, 1, 4, 4), float(number))
        labels = torch.full((2, 4, 4), number, dtype=torch.uint8)
        yield Batch(images, labels, torch.ones(2, 2), torch.zeros(2, 2), ("a", "b"))


def test_a_cpu_is_given_the_batches_themselves():
    given = list(batches(3))
    assert list(map(id, on_device(iter(given), torch.device("cpu")))) == list(map(id, given))


def test_a_gpu_is_given_them_in_order_and_no_host_waits():
    with pretended_gpu.pretended_gpu() as seen:
        found = []
        for batch in on_device(batches(4), torch.device("cuda")):
            assert isinstance(batch.images, OnGpu)
            found.append((batch.images + batch.labels[:, None], batch.cases))
        assert seen.waits.total() == 0, seen.waits
    assert [int(summed.inner.max()) for summed, _ in found] == [0, 2, 4, 6]
    assert all(cases == ("a", "b") for _, cases in found)


def test_a_copy_that_is_not_waited_for_is_seen(monkeypatch):
    """That the pretended GPU would tell a race."""
    monkeypatch.setattr(pretended_gpu.Stream, "wait_event", lambda stream, event: None)
    with pretended_gpu.pretended_gpu():
        batch = next(on_device(batches(2), torch.device("cuda")))
        with pytest.raises(RuntimeError, match="copy has not been waited for"):
            batch.images + 1


def test_what_cannot_be_cut_is_told_at_its_step():
    with pretended_gpu.pretended_gpu():
        copied = on_device(batches(4, fault_at=2), torch.device("cuda"))
        assert [int(next(copied).images.inner.max()) for _ in range(2)] == [0, 1]
        with pytest.raises(InputError, match="planted"):
            next(copied)
