"""How long a training takes, told by one that ran."""

import json

import pytest

from segstudy.follow import times
from segstudy.follow.history import History
from segstudy.follow.record import name_of
from segstudy.follow.times import BEFORE, SCALED, Learned, Times
from segstudy.train import from_images, from_label_maps, memory, resolve

QUICK = {
    "epochs": 4,
    "steps_per_epoch": 50,
    "patch_size": [64, 64, 32],
    "channels": [8, 16, 32, 64],
}
PATCHES_VOXELS = 64 * 64 * 32


def training(model, rule="train_fit", **more):
    settings = {"model": {"network": "unet", "batch_size": 2, **model}, "structures": ["heart"]}
    settings |= {"channels": ["image"], "modality": "CT"}
    job = {"rule": rule, "wildcards": {"model": "flat", "fold": "0"}, "gpus": 0, **more}
    job |= {"output": ["train/history.csv"], "options": {"--settings": json.dumps(settings)}}
    return {**job, "name": name_of(job)}


def told(tmp_path, old, new, learned, seconds=37.0, epochs_s=()):
    (tmp_path / "train").mkdir()
    rows = "".join(f"{n},{epoch_s}\n" for n, epoch_s in enumerate(epochs_s))
    (tmp_path / "train/history.csv").write_text("epoch,seconds\n" + rows)
    past = History(ended=[{**old, "seconds": seconds, "bytes": 1, "restored": False}])
    return Times(past, tmp_path).of(new, 0, learned)


def test_limits_are_those_of_a_training():
    assert times.PATCH_VOXELS == memory.PATCH_VOXELS
    assert times.SLICES_PER_CASE == resolve.SLICES_PER_CASE
    assert from_label_maps.Patches.least_steps == times.SYNTH_STEPS
    assert from_images.Patches.least_steps == 1


def test_the_start_is_not_scaled(tmp_path):
    """Of 37 s, 27 s were before the first of four epochs; ten times the epochs take ten times the rest."""
    new = training({**QUICK, "epochs": 40})
    found = told(tmp_path, training(QUICK), new, Learned(), epochs_s=[2.5] * 4)
    assert found.seconds == pytest.approx(27 + 10 * 10)
    assert found.told_by == BEFORE + SCALED


def test_the_same_training_is_told_as_it_was(tmp_path):
    found = told(tmp_path, training(QUICK), training(QUICK), Learned(), epochs_s=[2.5] * 4)
    assert (found.seconds, found.told_by) == (37, BEFORE)


def test_automatic_settings_follow_the_cases(tmp_path):
    """Four cases of 40x40x32 in batches of two: 2 steps an epoch, and a patch of the whole case."""
    full = training({"epochs": 100, "channels": [32, 64, 128, 256]})
    learned = Learned(4, (40, 40, 32))
    found = told(tmp_path, training(QUICK), full, learned, epochs_s=[2.5] * 4)
    factor = (100 / 4) * (2 / 50) * (40 * 40 * 32 / PATCHES_VOXELS) * (32 / 8)
    assert found.seconds == pytest.approx(27 + 10 * factor)


@pytest.mark.parametrize(("gpus", "voxels"), [(0, 2**17), (1, 2**21)])
def test_a_patch_of_large_cases_is_what_the_device_holds(tmp_path, gpus, voxels):
    auto = {**QUICK, "patch_size": "auto"}
    found = told(
        *(
            tmp_path,
            training(QUICK, gpus=gpus),
            training(auto, gpus=gpus),
            Learned(4, (512, 512, 300)),
        ),
        epochs_s=[2.5] * 4,
    )
    assert found.seconds == pytest.approx(27 + 10 * voxels / PATCHES_VOXELS)


def test_label_maps_are_drawn_from_many_times(tmp_path):
    """At least 250 steps, however few the maps are."""
    model = {**QUICK, "trainer": "synth"}
    auto = training({**model, "steps_per_epoch": "auto"}, "train_synth")
    learned = Learned(4, (40, 40, 32))
    found = told(tmp_path, training(model, "train_synth"), auto, learned, epochs_s=[2.5] * 4)
    assert found.seconds == pytest.approx(27 + 10 * 250 / 50)
