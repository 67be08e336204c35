"""Half precision skips steps whose gradient is not finite: some are its way, ten in a row are a fault."""

import csv
import signal

import pytest
import torch

from segstudy.cli import main
from segstudy.train import fit as module
from segstudy.train import trainer

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 3,
    "steps_per_epoch": 8,
}
BUILD, STEP, LOSS = module.Trainer.__init__, module.Trainer.step, trainer.SegmentationLoss.__call__

pytestmark = pytest.mark.usefixtures("own_torch")


@pytest.fixture
def without_slope(monkeypatch):
    """Plant steps whose loss is finite and whose gradient is not, in a training with a scaler."""
    bad: set[int] = set()
    now = []

    def build(self, *arguments):
        BUILD(self, *arguments)
        self.scaler = torch.amp.GradScaler("cpu")

    def step(self, number, batch):
        now.append(number)
        return STEP(self, number, batch)

    def loss(self, logits, labels):
        found = LOSS(self, logits, labels)
        # The square root of 0 has no slope.
        return found + (0 * found).sqrt() if now[-1] in bad else found

    monkeypatch.setattr(module.Trainer, "__init__", build)
    monkeypatch.setattr(module.Trainer, "step", step)
    monkeypatch.setattr(trainer.SegmentationLoss, "__call__", loss)
    return bad


def test_nine_in_a_row_go_on_once_a_gradient_is_finite(cohort, tmp_path, without_slope):
    without_slope.update([*range(0, 9), *range(10, 19)])
    assert main(cohort.words(tmp_path / "out", MODEL | {"validation_fraction": 0.0})) == 0
    with (tmp_path / "out" / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3


def test_ten_in_a_row_stop_the_training_with_the_reason(cohort, tmp_path, without_slope, capsys):
    without_slope.update(range(4, 24))
    assert main(cohort.words(tmp_path / "out", MODEL)) == 1
    said = capsys.readouterr().err
    assert "epoch 2, step 6 of 8: the gradient is not finite for the 10th step in a row" in said
    assert "toy/case_" in said and "amp: false" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "weights.pt").exists()


def test_a_stop_between_does_not_begin_the_count_anew(cohort, tmp_path, without_slope, capsys):
    without_slope.update(range(4, 24))
    stopping = module.Trainer.step

    def stop(self, number, batch):
        if number == 9:
            signal.raise_signal(signal.SIGTERM)
        return stopping(self, number, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Trainer, "step", stop)
        with pytest.raises(SystemExit):
            main(cohort.words(tmp_path / "out", MODEL))
    assert main(cohort.words(tmp_path / "out", MODEL)) == 1
    assert "epoch 2, step 6 of 8" in capsys.readouterr().err


def test_without_a_scaler_one_is_enough(cohort, tmp_path, without_slope, capsys, monkeypatch):
    without_slope.update([2])
    monkeypatch.setattr(module.Trainer, "__init__", BUILD)
    assert main(cohort.words(tmp_path / "out", MODEL)) == 1
    said = capsys.readouterr().err
    assert "epoch 1, step 3 of 8: the gradient is not finite; cases" in said
