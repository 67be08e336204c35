"""Which slices a 2D network is trained on; prediction sees all of them either way."""

import numpy as np
import pytest
from pydantic import ValidationError
from toy_cohort import SHAPE

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.arrays import open_arrays
from segstudy.networks.weights import load_weights
from segstudy.networks.window import SlidingWindow, predict_volume
from segstudy.planes import NORMAL_AXIS
from segstudy.study import Slices, UnetModel
from segstudy.train.sampling import Sampler, TrainingCase, with_slices
from segstudy.train.structures import check_structures


def case(name="one", empty=False):
    """Each voxel's value is its index from 1, so that a patch tells where it comes from."""
    shape = (12, 10, 14)
    label = np.zeros(shape, np.uint8)
    if not empty:
        label[3:6, 2:4, 5:11] = 1
        label[8, 7, 12] = 2
    image = np.arange(1, label.size + 1, dtype=np.float32).reshape(1, *shape)
    foreground = {n: np.argwhere(label == n) for n in (1, 2) if (label == n).any()}
    return TrainingCase("toy", name, image, label, foreground, (1.0, 1.0, 1.0))


def seen(slices, plane="axial", share=0.5, steps=150, seed=0, cases=None, **further):
    """Slices that patches came from, by case."""
    cases = cases or [case()]
    sampler = Sampler(cases, (8, 8), (8, 8), (plane,), 2, share, seed, slices, **further)
    shape, normal = cases[0].shape, NORMAL_AXIS[plane]
    found = {one.name: set() for one in cases}
    for step in range(steps):
        batch = sampler.batch(step)
        for name, image in zip(batch.cases, batch.images[:, 0].numpy(), strict=True):
            places = np.unravel_index(image[image > 0].astype(int) - 1, shape)[normal]
            assert len(set(places.tolist())) == 1
            found[name].add(int(places[0]))
    return found


WITH_STRUCTURE = {"sagittal": {3, 4, 5, 8}, "coronal": {2, 3, 7}, "axial": {*range(5, 11), 12}}


@pytest.mark.parametrize("plane", NORMAL_AXIS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_background_slices_are_dropped_or_kept(plane, share):
    every = set(range(case().shape[NORMAL_AXIS[plane]]))
    (kept,) = seen(Slices(keep="all"), plane, share).values()
    assert kept == (every if share < 1 else WITH_STRUCTURE[plane])
    (dropped,) = seen(Slices(keep="foreground"), plane, share).values()
    assert dropped == WITH_STRUCTURE[plane]


@pytest.mark.parametrize("keep", ["all", "foreground"])
def test_at_most_so_many_slices_of_a_case(keep):
    cases = [case("one"), case("two")]
    slices = Slices(keep=keep, most_per_plane=3)
    found = seen(slices, steps=300, share=0.3, cases=cases)
    assert [len(slices_) for slices_ in found.values()] == [3, 3]
    if keep == "foreground":
        assert all(slices_ <= WITH_STRUCTURE["axial"] for slices_ in found.values())
    assert found == seen(slices, steps=300, share=0.3, cases=cases)
    draws = [seen(slices, steps=100, seed=seed, cases=cases) for seed in range(4)]
    assert any(draw != draws[0] for draw in draws)


def test_more_than_there_are_is_all_of_them():
    (found,) = seen(Slices(most_per_plane=99)).values()
    assert found == set(range(14))


def test_a_case_without_structures_has_no_slice_to_keep_and_is_named(caplog):
    cases = [case("blank", empty=True), case("one")]
    assert with_slices(cases, Slices(most_per_plane=2)) == cases
    assert not caplog.records
    assert with_slices(cases, Slices(keep="foreground")) == cases[1:]
    assert "1 of 2 training cases hold no structure and are left out (toy/blank)" in caplog.text
    with pytest.raises(InputError, match="none of the 1 training cases holds a structure"):
        with_slices(cases[:1], Slices(keep="foreground"))


@pytest.mark.parametrize("share", [0.0, 0.33, 1.0])
def test_a_case_without_structures_is_sampled_anywhere(share):
    found = seen(Slices(), share=share, steps=400, cases=[case("one"), case("blank", empty=True)])
    assert found["toy/blank"] == set(range(14)), "whatever the share of the foreground"
    assert found["toy/one"] == (set(range(14)) if share < 1 else WITH_STRUCTURE["axial"])


def test_structures_that_no_training_case_has_are_named(caplog):
    check_structures([["heart"], [], ["heart", "aorta"]], ["heart", "aorta"], 0)
    assert not caplog.records
    check_structures([["heart"], []], ["heart", "aorta"], 1)
    assert "fold 1: none of the 2 training cases has a voxel of aorta" in caplog.text
    with pytest.raises(
        InputError, match="fold 2: none of the 2 training cases has a voxel of heart"
    ):
        check_structures([[], []], ["heart", "aorta"], 2)


def test_a_3d_network_has_no_slices_to_choose():
    with pytest.raises(ValidationError, match="slices: for 2D networks alone"):
        UnetModel(network="unet", dims=3, slices={"keep": "foreground"})


@pytest.mark.usefixtures("own_torch")
@pytest.mark.parametrize("slices", [{}, {"keep": "foreground", "most_per_plane": 5}])
def test_all_slices_are_predicted_either_way(cohort, tmp_path, slices):
    model = {"network": "unet", "dims": 2, "channels": [4, 8], "patch_size": [16, 16]}
    model |= {"epochs": 1, "steps_per_epoch": 2, "slices": slices}
    assert main(cohort.words(tmp_path / "out", model)) == 0
    trained = load_weights(tmp_path / "out" / "weights.pt")
    assert trained.model.slices == Slices(**slices)
    found = open_arrays(cohort.shards)["toy", "case_0"]
    probabilities = predict_volume(
        trained.network, found.image[...], 3, SlidingWindow((16, 16), dims=2)
    )
    assert probabilities.shape == (3, *SHAPE)
    assert np.allclose(probabilities.sum(0), 1, atol=1e-5)
