"""What is told of a network is what it is."""

import pytest
import torch

from segstudy import networks
from segstudy.networks.describe import describe
from segstudy.study import EnetModel, UnetModel

MODELS = {
    "enet": (EnetModel(network="enet", dims=2), (64, 48)),
    "unet2d": (UnetModel(network="unet", dims=2, channels=(8, 16, 32)), (32, 32)),
    "unet3d": (UnetModel(network="unet", dims=3, channels=(4, 8, 16, 32)), (32, 32, 16)),
    "plain": (
        UnetModel(network="unet", dims=2, channels=(8, 16), deep_supervision=False,
                  normalisation="batch"),
        (16, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_parameters_add_up_and_sizes_are_those_of_the_output(name):
    model, size = MODELS[name]
    network = networks.build(model, 2, 5, size, (1.0,) * len(size))
    rows = describe(network, 2, size)
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in network.parameters())
    passed = [row for row in rows if row["size"]]
    assert passed[-1]["channels"] == 5
    assert passed[-1]["size"] == list(size)
    assert len({row["name"] for row in rows}) == len(rows)


def test_a_unet_has_its_levels():
    model, size = MODELS["unet3d"]
    rows = {r["name"]: r for r in describe(networks.build(model, 1, 3, size, (1.0,) * 3), 1, size)}
    assert [rows[f"encoder.{level}"]["channels"] for level in range(4)] == [4, 8, 16, 32]
    assert rows["encoder.1"]["size"] == [16, 16, 8]
    assert rows["heads.1"]["size"] is None


def test_nothing_of_the_network_or_of_chance_changes():
    model, size = MODELS["plain"]
    network = networks.build(model, 1, 3, size, (1.0, 1.0)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    describe(network, 1, size)
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
