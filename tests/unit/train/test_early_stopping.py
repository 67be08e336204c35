"""A training ends where its validation has been flat for long, at the same epoch however often it is interrupted."""

import csv
import json
import math
import os
import signal

import pytest
import torch

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.study import TrainSettings, from_json
from segstudy.train import fit as module
from segstudy.train.early_stopping import epochs_without_gain

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 12,
    "steps_per_epoch": 2,
    "validate_every_epochs": 2,
    "stop_when_flat": 3,
}
SCORES = [0.2, 0.5, 0.4, 0.5, 0.3, 0.9]
"""Of the validations after epochs 2, 4, ...: the best of those before epoch 8 is that of epoch 4."""


class Killed(BaseException):
    """What no command answers."""


pytestmark = pytest.mark.usefixtures("own_torch")


@pytest.fixture
def planted(monkeypatch):
    """Give the validations planted scores."""

    def validate(self, cases):
        validations = round(self.steps_seen / 4)
        return {"validation_loss": 1.0, "validation_dice_mean": SCORES[validations - 1]}

    original = module.Trainer.step

    def step(self, number, batch):
        self.steps_seen = number + 1
        return original(self, number, batch)

    monkeypatch.setattr(module.Trainer, "step", step)
    monkeypatch.setattr(module.Trainer, "validate", validate)


def epochs(folder) -> int:
    return len(rows(folder))


def rows(folder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").open()))


@pytest.mark.parametrize(
    ("scores", "flat"),
    [
        ([], 0),
        ([math.nan, math.nan], 0),
        ([math.nan, 0.5, math.nan, 0.4, math.nan], 2),
        ([0.5, 0.5, 0.5], 2),
        ([0.1, 0.2, 0.3], 0),
        ([0.3, 0.2, 0.1, 0.4, 0.4], 1),
    ],
    ids=str,
)
def test_epochs_without_gain_are_those_since_the_first_best_validation(scores, flat):
    history = [{"epoch": n, "validation_dice_mean": score} for n, score in enumerate(scores, 1)]
    assert epochs_without_gain(history) == flat


def test_it_stops_where_the_planted_validation_has_been_flat(cohort, tmp_path, planted, caplog):
    caplog.set_level("INFO")
    output = tmp_path / "out"
    assert main(cohort.words(output, MODEL)) == 0
    assert epochs(output) == 8
    settings = json.loads((output / "settings.json").read_text())
    assert settings["stopped_at_epoch"] == 8 and settings["steps"] == 16
    weights = torch.load(output / "weights.pt", weights_only=True)
    assert weights["provenance"]["steps"] == 16
    assert (
        "stopped at epoch 8 of 12: no validation Dice above that of epoch 4, 0.500" in caplog.text
    )


def test_the_schedule_is_that_of_all_epochs(cohort, tmp_path, planted):
    without = {key: value for key, value in MODEL.items() if key != "stop_when_flat"}
    assert main(cohort.words(tmp_path / "stopped", MODEL)) == 0
    assert main(cohort.words(tmp_path / "whole", without)) == 0
    rates = [[row["lr"] for row in rows(tmp_path / name)] for name in ("stopped", "whole")]
    assert len(rates[1]) == 12 and rates[0] == rates[1][:8]
    settings = json.loads((tmp_path / "whole" / "settings.json").read_text())
    assert "stopped_at_epoch" not in settings and settings["steps"] == 24


@pytest.mark.parametrize("after", [3, 15, 16])
def test_interrupted_it_stops_at_the_same_epoch_with_the_same_bits(
    cohort, tmp_path, planted, monkeypatch, after
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(cohort.words(whole, MODEL)) == 0
    original = module.Trainer.step

    def step(self, number, batch):
        if number + 1 == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(module.Trainer, "step", step)
        if after < 16:
            with pytest.raises(SystemExit):
                main(cohort.words(stopped, MODEL))
        else:  # the step after which it ends by itself
            assert main(cohort.words(stopped, MODEL)) == 0
    assert main(cohort.words(stopped, MODEL)) == 0
    for name in ("weights.pt", "best.pt"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert epochs(stopped) == 8


def test_a_checkpoint_of_the_epoch_that_ends_it_takes_no_further_step(
    cohort, tmp_path, planted, monkeypatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(cohort.words(whole, MODEL)) == 0
    monkeypatch.setattr(module, "CHECKPOINT_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        # The state of a training that ends is saved only by one that was killed before it could write its weights.
        patch.setattr(module, "_has_ended", lambda resolved, progress: False)
        original = module.Checkpoint.write

        def write(self, progress, parts):
            original(self, progress, parts)
            if progress.step == 16:
                raise Killed

        patch.setattr(module.Checkpoint, "write", write)
        with pytest.raises(Killed):
            main(cohort.words(killed, MODEL))
    monkeypatch.setattr(module.Trainer, "step", None)
    assert main(cohort.words(killed, MODEL)) == 0
    assert (killed / "weights.pt").read_bytes() == (whole / "weights.pt").read_bytes()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (MODEL | {"validation_fraction": 0}, "stop_when_flat: 3, but validation_fraction is 0"),
        (MODEL | {"stop_when_flat": 0}, "stop_when_flat"),
        ({"trainer": "nnunet", "stop_when_flat": 3}, "nnU-Net trains all its epochs"),
    ],
)
def test_refused_without_validation_and_for_nnunet(model, told):
    content = {"model": model, "structures": ["ball"], "channels": ["image"], "modality": "CT"}
    with pytest.raises(InputError, match=told):
        from_json(TrainSettings, json.dumps(content))


def test_refused_where_a_fold_has_no_subject_to_spare(cohort, tmp_path, capsys):
    lines = (cohort.folder / "splits.tsv").read_text().splitlines()
    kept = [lines[0], *(line for line in lines[1:] if line.split("\t")[3] == "0"), lines[2]]
    (cohort.folder / "splits.tsv").write_text("\n".join(kept) + "\n")
    assert main(cohort.words(tmp_path / "out", MODEL)) == 1
    assert "fold 0 has no subject to spare for validation" in capsys.readouterr().err


def test_a_training_on_every_case_holds_out_what_ends_it_and_nothing_else(cohort, tmp_path):
    def known(model):
        words = cohort.words(tmp_path / "out", model | {"epochs": 1})
        words[words.index("--fold") + 1] = "all"
        assert main(words) == 0
        return torch.load(tmp_path / "out" / "weights.pt", weights_only=True)["provenance"]

    without = {key: value for key, value in MODEL.items() if key != "stop_when_flat"}
    every, early = known(without), known(MODEL)
    assert every["validation"] == [] and early["validation"]
    assert sorted(every["training"]) == sorted([*early["training"], *early["validation"]])
