"""TensorBoard's event files hold the history."""

import csv
import importlib.util
import os
import signal

import pytest

from segstudy.cli import main
from segstudy.train import fit as module

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 4,
    "steps_per_epoch": 2,
    "validate_every_epochs": 2,
}
INSTALLED = importlib.util.find_spec("tensorboard") is not None

pytestmark = pytest.mark.usefixtures("own_torch")
needed = pytest.mark.skipif(
    not INSTALLED, reason="tensorboard is not installed (pip install 'segstudy[tensorboard]')"
)


def scalars(folder) -> dict[str, dict[int, float]]:
    """The curves of a training's event files, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {
        tag: {event.step: event.value for event in found.Scalars(tag)}
        for tag in found.Tags()["scalars"]
    }


def of_history(folder) -> dict[str, dict[int, float]]:
    curves: dict[str, dict[int, float]] = {}
    for row in csv.DictReader((folder / "history.csv").open()):
        for name, value in row.items():
            if name != "epoch" and value:
                tag = name.replace("validation_dice_", "validation_dice/")
                curves.setdefault(tag, {})[int(row["epoch"])] = float(value)
    return curves


@needed
def test_event_files_hold_the_history(cohort, tmp_path):
    output = tmp_path / "out"
    assert main([*cohort.words(output, MODEL), "--tensorboard", "yes"]) == 0
    curves = scalars(output)
    assert {"train_loss", "validation_dice/mean", "validation_dice/ball", "lr"} <= set(curves)
    expected = of_history(output)
    assert curves.keys() == expected.keys()
    for tag, values in expected.items():
        assert curves[tag] == pytest.approx(values, rel=1e-5), tag


@needed
def test_after_an_interruption_each_epoch_is_there_once(cohort, tmp_path, monkeypatch):
    output = tmp_path / "out"
    original = module.Trainer.step

    def step(self, number, batch):
        if number == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, number, batch)

    words = [*cohort.words(output, MODEL), "--tensorboard", "yes"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(module.Trainer, "step", step)
        main(words)
    assert list(scalars(output)["train_loss"]) == [1, 2]
    assert main(words) == 0
    assert len(list((output / "tensorboard").iterdir())) == 1
    assert scalars(output)["train_loss"] == pytest.approx(
        of_history(output)["train_loss"], rel=1e-5
    )


@needed
def test_a_training_taken_from_finished_work_has_event_files_too(cohort, tmp_path):
    kept = ["--finished", str(tmp_path / "kept")]
    assert main([*cohort.words(tmp_path / "first", MODEL), *kept]) == 0
    assert not (tmp_path / "first" / "tensorboard").exists()
    assert main([*cohort.words(tmp_path / "again", MODEL), *kept, "--tensorboard", "yes"]) == 0
    assert scalars(tmp_path / "again").keys() == of_history(tmp_path / "again").keys()


def test_without_the_package_the_reason_is_told_before_training(
    cohort, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(cohort.words(tmp_path / "out", MODEL | {"tensorboard": True})) == 1
    assert "pip install 'segstudy[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
