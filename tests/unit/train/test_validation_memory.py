"""Validation where a GPU's memory holds a volume's probabilities, and not what Dice and loss take beside them."""

import csv
import logging
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pretended_gpu import OnGpu, pretended_gpu
from segstudy.cli import main
from segstudy.study import Loss
from segstudy.train import trainer
from segstudy.train.loss import SegmentationLoss

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 2,
    "steps_per_epoch": 1,
    "amp": False,
}

pytestmark = pytest.mark.usefixtures("own_torch")


def validated(cohort, output, device):
    """The rows of a training's history, without what tells of time and memory."""
    assert main(cohort.words(output, MODEL | {"device": device})) == 0
    with (output / "history.csv").open() as file:
        return [
            {key: float(row[key]) for key in row if key.startswith("validation")}
            for row in csv.DictReader(file)
        ]


def fails(monkeypatch, where, only):
    """Have what validation computes on the GPU find its memory full."""
    owner, name = where
    whole = getattr(owner, name)

    def full(*arguments, **options):
        there = any(isinstance(value, OnGpu) for value in arguments)
        if there and torch.is_inference_mode_enabled():
            only.append(name)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, name, full)


@pytest.mark.parametrize(
    "where",
    [(SegmentationLoss, "at_one_resolution"), (trainer, "confusion")],
    ids=["loss", "dice"],
)
def test_without_room_on_the_gpu_the_cpu_computes_the_same(
    cohort, tmp_path, monkeypatch, caplog, where
):
    caplog.set_level(logging.INFO)
    expected = validated(cohort, tmp_path / "cpu", "cpu")
    tried = []
    fails(monkeypatch, where, tried)
    caplog.clear()
    with pretended_gpu():
        found = validated(cohort, tmp_path / "gpu", "cuda")
    assert len(tried) == 2  # an epoch each, of one case
    assert (
        caplog.text.count("too little free memory for Dice and loss, which the CPU computes") == 1
    )
    for row, of_cpu in zip(found, expected, strict=True):
        assert row == pytest.approx(of_cpu, rel=1e-2, abs=1e-3, nan_ok=True)


def test_a_loss_that_does_not_fit_is_not_tried(cohort, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    tried = []
    fails(monkeypatch, (SegmentationLoss, "at_one_resolution"), tried)
    with pretended_gpu(), monkeypatch.context() as planted:
        # Half of it holds the image and the probabilities of 3 classes, 16 bytes a voxel; the loss takes 88.
        planted.setattr(torch.cuda, "mem_get_info", lambda *_: (36 * 24 * 20 * 16, 2**40))
        validated(cohort, tmp_path / "gpu", "cuda")
    assert tried == []
    assert "which the CPU computes" in caplog.text


class Held(TorchDispatchMode):
    """Count the bytes of tensors that are alive, and the most there were at a time."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.most = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if not isinstance(value, torch.Tensor):
                continue
            storage = value.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
            if place not in self.alive:
                self.alive.add(place)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.freed, place, size)
        return result

    def freed(self, place, size):
        self.alive.discard(place)
        self.now -= size


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("further", [{}, {"focal": 1.0, "tversky": 1.0}], ids=["default", "all"])
@pytest.mark.parametrize("classes", [2, 11])
def test_the_memory_that_a_loss_takes_is_reckoned_with(classes, further, ignores):
    logits = torch.rand(1, classes, 32, 32, 32).softmax(1).log_()
    labels = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    names = [f"s{number}" for number in range(classes - 1)]
    with torch.inference_mode(), Held() as held:
        SegmentationLoss(Loss(**further), names, "cpu", ignores=ignores)(logits, labels)
    reckoned = trainer.loss_bytes(logits[0])
    assert 0.75 * reckoned < held.most <= reckoned


def test_dice_is_counted_slab_by_slab(monkeypatch):
    monkeypatch.setattr(trainer, "SLAB_VOXELS", 100)
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(4, 7, 6, 5, generator=generator)
    labels = torch.randint(0, 4, (7, 6, 5), generator=generator, dtype=torch.uint8)
    slabs, whole = [], trainer.confusion

    def counted(labels, predicted, classes):
        slabs.append(len(labels))
        return whole(labels, predicted, classes)

    expected = whole(labels, probabilities.argmax(0), 4)
    monkeypatch.setattr(trainer, "confusion", counted)
    found = trainer.scores_of(probabilities, labels)
    assert slabs == [3, 3, 1]
    assert found.tolist() == trainer.dice_of(expected).tolist()
