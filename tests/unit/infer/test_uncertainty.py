"""Maps of uncertainty against closed forms: constant members, dropout of two outcomes, mirrored and perturbed images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segstudy.errors import InputError
from segstudy.images.files import read_image
from segstudy.infer import uncertainty
from segstudy.infer.batch import predict_each
from segstudy.infer.ensemble import ensemble
from segstudy.infer.predict import several
from segstudy.infer.uncertainty import Sampled, Sums, entropy, sampled
from segstudy.networks.weights import load_weights

CPU = torch.device("cpu")
ONE, OTHER = (0.5, 0.3, 0.2), (0.1, 0.2, 0.7)


def nats(*probabilities):
    return -sum(p * math.log(p) for p in probabilities if p)


class Constant(nn.Module):
    """Gives the same probabilities everywhere."""

    def __init__(self, probabilities):
        super().__init__()
        self.logits = torch.log(torch.tensor(probabilities))

    def forward(self, windows):
        return self.logits.reshape(1, -1, 1, 1, 1).expand(len(windows), -1, *windows.shape[2:])


class Dropped(nn.Module):
    """Gives `ONE` where its dropout drops, which is in half of the draws, and `OTHER` elsewhere."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, windows):
        kept = bool(self.dropout(torch.ones(1)).item())
        return Constant(OTHER if kept else ONE)(windows)


class Brightest(nn.Module):
    """Gives `shell` where the image brightens from left to right, which a mirrored image turns."""

    def forward(self, windows):
        step = torch.diff(windows[:, 0], dim=1, append=windows[:, 0, -1:])
        return torch.stack([torch.full_like(step, 10), 200 * step, torch.full_like(step, -50)], 1)


@pytest.fixture
def member(tmp_path, write_weights):
    def load(network=None, plan=None, **settings):
        trained = load_weights(write_weights(tmp_path / "member.pt", **settings))
        return replace(
            trained, network=network or trained.network, plan=trained.plan | (plan or {})
        )

    return load


@pytest.fixture
def scan(tmp_path, write_image, oblique):
    return write_image(tmp_path / "scan.nii.gz", oblique[0])


def spread_of(trained, path):
    image, _ = uncertainty.read(trained, [path])
    return uncertainty.probabilities(trained, image, CPU)


def everywhere(found, expected):
    assert found.min() == pytest.approx(expected, abs=3e-6)
    assert found.max() == pytest.approx(expected, abs=3e-6)


def test_entropy_by_hand():
    found = entropy(np.array([[1.0, 0.5], [0.0, 0.5]], np.float32).reshape(2, 2, 1, 1))
    assert found.ravel() == pytest.approx([0, math.log(2)])
    assert found.dtype == np.float32


@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 1.5), (2.0, 2.0, 2.5)])
def test_constant_members(member, scan, spacing_mm):
    """On one grid and on two: the closed form of the mean (0.3, 0.25, 0.45)."""
    one = member(Constant(ONE))
    other = member(Constant(OTHER), {"spacing_mm": list(spacing_mm)})
    both = sampled(ensemble([one, other], ["a", "b"]), maps=True)
    spread = spread_of(both, scan)
    assert both.kind == "members"
    assert spread.entropy.shape == read_image([scan]).grid.shape
    everywhere(spread.entropy, nats(0.3, 0.25, 0.45))
    everywhere(spread.mutual_information, nats(0.3, 0.25, 0.45) - (nats(*ONE) + nats(*OTHER)) / 2)
    assert (spread.classes.array == 2).all()
    assert [int(one.max()) for one in spread.members] == [0, 2]


def test_members_that_agree_contradict_each_other_nowhere(member, scan):
    three = ensemble([member(Constant(ONE))] * 3, list("abc"))
    spread = spread_of(sampled(three, maps=True), scan)
    everywhere(spread.mutual_information, 0)
    everywhere(spread.entropy, nats(*ONE))


def test_structures_go_by_their_names(member, scan):
    one = member(Constant(ONE))
    other = replace(member(Constant(OTHER)), structures=("core", "shell"))
    spread = spread_of(sampled(ensemble([one, other], ["a", "b"]), maps=True), scan)
    for found, expected in zip(spread.probabilities, (0.3, 0.5, 0.2), strict=True):
        everywhere(found, expected)


def test_labels_are_those_of_the_ensemble(member, scan):
    """The mean is taken after the way back to the image's own grid, where the ensemble takes it before."""
    members = [member(), member()]
    with torch.no_grad():
        members[1].network.heads[0].bias[1] += 4
    both = ensemble(members, ["a", "b"])
    averaged = predict_each(both, {"scan": [scan]}, CPU, lambda _, classes: classes.array)["scan"]
    found = spread_of(sampled(both, maps=True), scan).classes.array
    assert np.mean(averaged != found) < 1e-3
    assert set(np.unique(found)) == {0, 1, 2}


def test_mc_dropout_by_the_number_of_samples_that_dropped(member, scan):
    # A patch that covers the image: one window, one draw a sample.
    dropping = member(Dropped(), patch_size=(64, 64, 96))
    ten = sampled(dropping, mc_dropout=10, maps=True)
    spread, again = spread_of(ten, scan), spread_of(ten, scan)
    share = np.mean([one.max() == 0 for one in spread.members])
    assert len(spread.members) == 10
    assert 0 < share < 1
    mean = [share * p + (1 - share) * q for p, q in zip(ONE, OTHER, strict=True)]
    everywhere(spread.entropy, nats(*mean))
    expected = nats(*mean) - share * nats(*ONE) - (1 - share) * nats(*OTHER)
    everywhere(spread.mutual_information, expected)
    assert (spread.probabilities == again.probabilities).all()
    assert (spread.entropy == again.entropy).all()


def test_mc_dropout_leaves_generator_and_network_as_they_were(member, scan):
    dropping = member(Dropped().eval())
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    spread_of(sampled(dropping, mc_dropout=2), scan)
    assert (torch.random.get_rng_state() == state).all()
    assert not any(layer.training for layer in dropping.network.modules())


def test_a_network_without_dropout_is_refused(member):
    with pytest.raises(
        InputError, match="mc_dropout: network unet has no dropout.*`dropout` above 0"
    ):
        sampled(member(), mc_dropout=10)


def test_members_that_differ_in_mc_dropout_are_refused_in_any_order(member):
    members = []
    for samples in (0, 5):
        one = member()
        infer = one.model.infer.model_copy(update={"mc_dropout": samples})
        members.append(replace(one, model=one.model.model_copy(update={"infer": infer})))
    for order, told in ((members, "0, 5"), (members[::-1], "5, 0")):
        with pytest.raises(InputError, match=f"mc_dropout: {told} in the settings"):
            several(ensemble(order, ["a", "b"]))


def test_one_prediction_has_no_map(member):
    with pytest.raises(InputError, match="one prediction an image disagrees with nothing"):
        sampled(member(), maps=True)


def test_what_nobody_asks_for_is_as_it_was(member):
    one = member()
    assert sampled(one) is one
    both = ensemble([one, one], ["a", "b"])
    assert sampled(both) is both


def test_mirrored_images_are_members(member, scan):
    """Of each pair of mirror images one finds the slope and the other nothing, so nowhere do both agree on it."""
    turning = member(Brightest(), infer={"mirror_axes": ["right_left"]})
    found = sampled(turning, maps=True)
    spread = spread_of(found, scan)
    assert found.kind == "mirrored"
    one, other = (member == 1 for member in spread.members)
    assert one.any()
    assert other.any()
    assert (one & other).sum() < 0.1 * one.sum()
    assert spread.mutual_information.max() == pytest.approx(math.log(2), abs=0.05)


def test_perturbed_images_leave_the_label_as_it_is(member, scan):
    one = member()
    found = sampled(one, quality=True)
    assert found.kind == "perturbed"
    spread = spread_of(found, scan)
    alone = predict_each(one, {"scan": [scan]}, CPU, lambda _, classes: classes.array)["scan"]
    assert (spread.classes.array == spread.members[0]).all()
    assert np.mean(spread.classes.array != alone) < 1e-3
    assert len(spread.members) == 5
    changed = [np.mean(one != alone) for one in spread.members[1:]]
    assert max(changed) < 0.05
    assert min(changed[:3]) > 0  # a shift changes nothing for a network that sees single voxels


def test_shift_and_its_undoing_cancel():
    array = np.random.default_rng(0).random((2, 7, 8, 9)).astype(np.float32)
    shift = uncertainty.perturbed()[-1]
    moved = shift.apply(array)
    assert (moved[:, 2:, 2:, 2:] == array[:, :-2, :-2, :-2]).all()
    assert (shift.undo(moved)[:, :-2, :-2, :-2] == array[:, :-2, :-2, :-2]).all()


def test_memory_does_not_grow_with_members():
    """Beside a byte a voxel and member: no prediction is held once it is added."""
    sums = Sums(3, (4, 4, 4), maps=True)
    before = sums.total.nbytes + sums.entropies.nbytes
    for _ in range(6):
        sums.add(np.full((3, 4, 4, 4), 1 / 3, np.float32))
    held = sum(one.nbytes for one in vars(sums).values() if isinstance(one, np.ndarray))
    assert held == before
    assert sum(one.nbytes for one in sums.members) == 6 * 64


def test_steps_take_part_in_predicting_each(member, scan):
    both = sampled(ensemble([member(), member()], ["a", "b"]), maps=True)
    assert isinstance(both, Sampled)
    found = predict_each(both, {"scan": [scan]}, CPU, lambda _, spread: spread, probabilities=True)
    assert found["scan"].mutual_information.max() < 1e-6
    classes = predict_each(both, {"scan": [scan]}, CPU, lambda _, classes: classes)["scan"]
    assert (classes.array == found["scan"].classes.array).all()
