"""Voxels that nobody has labelled: whatever stands in them is nothing to a training."""

import numpy as np
import pandas as pd
import pytest
from toy_cohort import SHAPE, write_case, write_cohort

from segstudy.boxes import Box
from segstudy.cli import main
from segstudy.files import read_json
from segstudy.images.arrays import open_arrays
from segstudy.images.files import Grid, Image
from segstudy.images.normalise import normalise
from segstudy.images.plan import Restore
from segstudy.images.prepare import IGNORED, prepare_label
from segstudy.networks.weights import load_weights
from segstudy.networks.window import SlidingWindow, predict_volume
from segstudy.tables import MEASURED
from segstudy.train.trainer import VALIDATION_OVERLAP

pytestmark = pytest.mark.usefixtures("own_torch")

SMALL = {
    "network": "unet", "channels": [4, 8], "epochs": 2, "steps_per_epoch": 3, "batch_size": 2, "validate_every_epochs": 1,
    "validation_fraction": 0.4, "foreground_fraction": 0.5, "optimizer": {"lr": 0.02},
}  # fmt: skip


def trained(folder, values, ignore, **model):
    """Train on the toy cohort, a third of each label at random one of `values`; where that is left.

    ignore: the values of them that are ignored.
    """
    cohort = write_cohort(folder)
    draw = np.random.default_rng(len(values))

    def changed(label):
        found = label.astype(np.uint16)
        found[:, :, 11:] = draw.choice(values, found[:, :, 11:].shape)
        way = Restore(Grid(SHAPE, np.eye(4)), Box((0, 0, 0), SHAPE), SHAPE, None)
        return prepare_label(Image(found, np.eye(4)), way, (1, 2), ignore)

    for number in range(6):
        write_case(folder, number, SHAPE, number, changed)
    assert main(cohort.words(folder / "trained", SMALL | model, ignores=bool(ignore))) == 0
    history = pd.read_csv(folder / "trained" / "history.csv").drop(columns=[*MEASURED])
    assert np.isfinite(history[["train_loss", "validation_loss"]]).all(axis=None)
    return cohort, folder / "trained", history


@pytest.mark.parametrize(
    "model",
    [
        {
            "patch_size": [8, 8],
            "dims": 2,
            "loss": {"dice": 1.0, "cross_entropy": 1.0, "focal": 0.5},
        },
        {"patch_size": [8, 8, 8], "deep_supervision": True, "loss": {"batch_dice": False}},
    ],
    ids=["2D", "3D"],
)
def test_other_garbage_trains_the_same_bytes(tmp_path, model):
    """Weights, losses and validation Dice; the control shows that what is not ignored does matter."""
    (_, one, first), (_, other, second), (_, control, _) = (
        trained(tmp_path / name, values, ignore, **model)
        for name, values, ignore in (
            ("one", [255], [255, 7, 7000]),
            ("other", [7, 255, 7000], [7, 255, 7000]),
            ("control", [0, 1, 2], []),
        )
    )
    for name in ("weights.pt", "best.pt"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    pd.testing.assert_frame_equal(first, second)
    assert (one / "weights.pt").read_bytes() != (control / "weights.pt").read_bytes()


def test_validation_dice_is_that_of_labelled_voxels(tmp_path):
    cohort, output, history = trained(tmp_path, [255], [255], patch_size=[8, 8, 8], amp=False)
    network = load_weights(output / "weights.pt")
    scores = []
    for name in read_json(output / "settings.json")["validation"]:
        case = open_arrays(cohort.shards)[tuple(name.split("/"))]
        predicted = predict_volume(
            network.network,
            normalise(case.image[...], cohort.plan),
            3,
            SlidingWindow((8, 8, 8), dims=3, overlap=VALIDATION_OVERLAP),
        ).argmax(0)
        known = case.label[...] != IGNORED
        label, predicted = case.label[...][known], predicted[known]
        scores.append(
            [
                2
                * ((label == n) & (predicted == n)).sum()
                / ((label == n).sum() + (predicted == n).sum())
                for n in (1, 2)
            ]
        )
    found = history[["validation_dice_ball", "validation_dice_rod"]].iloc[-1]
    assert found.to_numpy() == pytest.approx(np.nanmean(scores, axis=0), abs=1e-5)
