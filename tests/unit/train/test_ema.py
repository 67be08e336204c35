"""The average of the weights: its formula, what is kept of a training, and compilation."""

import pytest
import torch
from torch import nn

from segstudy.cli import main
from segstudy.networks.weights import load_weights
from segstudy.train import fit as module
from segstudy.train.ema import weight_average

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 2,
    "steps_per_epoch": 3,
    "validate_every_epochs": 1,
    "normalisation": "batch",
}


def test_it_is_the_weighted_sum_of_all_weights_so_far():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = weight_average(network, 0.5)
    expected = network[0].weight.detach().double().clone()
    for step in range(20):
        with torch.no_grad():
            network[0].weight.normal_()
        network(torch.randn(8, 3))
        average.update_parameters(network)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach().double()
    found = average.module[0].weight
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert not found.requires_grad
    assert average.module[1].num_batches_tracked == 20
    assert 0 < (average.module[1].running_mean - network[1].running_mean).abs().max() < 1


def test_no_number_is_read_from_the_networks_device():
    """On a GPU the host would wait for it; numbers on the device `meta` can't be read at all."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to("meta")
    average = weight_average(network, 0.5)
    average.update_parameters(network)
    assert average.module[0].weight.device.type == "meta"
    assert (average.n_averaged.device.type, int(average.n_averaged)) == ("cpu", 1)


@pytest.mark.usefixtures("own_torch")
def test_the_average_is_what_is_kept(cohort, tmp_path, monkeypatch):
    """Averaged here by hand from the weights after each step."""
    states = []
    original = module.Trainer.step

    def step(self, number, batch):
        if not states:
            states.append({k: v.clone() for k, v in self.network.state_dict().items()})
        result = original(self, number, batch)
        states.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return result

    monkeypatch.setattr(module.Trainer, "step", step)
    assert main(cohort.words(tmp_path / "out", MODEL | {"ema": 0.2})) == 0
    kept = load_weights(tmp_path / "out" / "weights.pt").network.state_dict()
    name = "decoder.0.0.weight"
    mean = states[0][name].double()
    for number, state in enumerate(states[1:]):
        decay = min(0.2, (1 + number) / (10 + number))
        mean = decay * mean + (1 - decay) * state[name].double()
    torch.testing.assert_close(kept[name].double(), mean, rtol=1e-5, atol=1e-6)
    assert not torch.equal(kept[name], states[-1][name])


@pytest.mark.slow
@pytest.mark.usefixtures("own_torch")
def test_compiled_it_learns_the_same_under_the_same_names(cohort, tmp_path):
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    model = MODEL | {"epochs": 1, "amp": False}
    assert main(cohort.words(plain, model)) == 0
    assert main(cohort.words(compiled, model | {"compile": True})) == 0
    one, other = (
        load_weights(folder / "weights.pt").network.state_dict() for folder in (plain, compiled)
    )
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-2, atol=2e-3)


@pytest.mark.usefixtures("own_torch")
@pytest.mark.parametrize("where", ["forth", "back"])
def test_where_it_cannot_compile_it_says_so(cohort, tmp_path, monkeypatch, capsys, where):
    def fail(*_):
        raise torch._dynamo.exc.InternalTorchDynamoError("no compiler found")

    def broken(network):
        def run(images):
            logits = network(images) if where == "back" else fail()
            first = logits[0] if isinstance(logits, list) else logits
            first.register_hook(fail)
            return logits

        return run

    monkeypatch.setattr(torch, "compile", broken)
    assert main(cohort.words(tmp_path / "out", MODEL | {"compile": True})) != 0
    assert (
        "compile: true, but torch.compile fails here (no compiler found)" in capsys.readouterr().err
    )
    assert not (tmp_path / "out" / "weights.pt").exists()
