"""The learning rate against its closed forms."""

import math

import pytest
import torch

from segstudy.study import Schedule
from segstudy.train.schedule import factor


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", lambda done: 1.0),
        ("linear", lambda done: 1 - done),
        ("poly", lambda done: (1 - done) ** 0.9),
        ("cosine", lambda done: (1 + math.cos(math.pi * done)) / 2),
    ],
)
def test_decay(name, expected):
    for step in range(200):
        found = factor(Schedule(name=name), step, 200, 10)
        assert found == pytest.approx(expected(step / 200))
        assert found > 0


def test_warm_up_rises_in_a_line_and_the_decay_begins_after_it():
    schedule = Schedule(name="linear", warmup_epochs=2)
    factors = [factor(schedule, step, 120, 10) for step in range(120)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20:] == pytest.approx([1 - step / 100 for step in range(100)])


def test_poly_is_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=50, power=0.9)
    for step in range(50):
        assert factor(Schedule(name="poly"), step, 50, 5) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()


def test_a_warm_up_longer_than_the_training_ends_at_its_peak():
    schedule = Schedule(name="cosine", warmup_epochs=100)
    assert factor(schedule, 9, 10, 5) == 1.0
