"""A network of the user's own: built by its contract, tried before it is trained, bound to its code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segstudy import plugins
from segstudy.errors import InputError
from segstudy.images.plan import Plan
from segstudy.networks import build, check, label, modules, strides, telling
from segstudy.networks.describe import describe
from segstudy.networks.weights import Trained, load_weights, save_weights
from segstudy.study import PluginModel
from segstudy.train.memory import training_memory_mb

EXAMPLE = Path(__file__).parents[3] / "resources" / "plugins" / "residual_net.py"
PLAN = Plan((1.0, 1.0, 2.0), "none", 0.0, "zscore", 3.0).to_dict()


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


def model(file, **further) -> PluginModel:
    return PluginModel(network="plugin", network_plugin=str(file), **further)


def own(folder, body: str, name: str = "own.py"):
    """A file with a network whose forward pass is `body`."""
    file = folder / name
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    file.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Network(nn.Module):\n"
        "    def __init__(self, in_channels, classes, patch_size, spacing_mm, width=4):\n"
        "        super().__init__()\n        self.classes = classes\n"
        "        self.out = nn.Conv3d(in_channels, classes, 1)\n"
        "        self.norm = nn.BatchNorm3d(classes)\n\n"
        f"    def forward(self, images):\n{lines}\n"
    )
    plugins.digest.cache_clear()
    return file


def tried(file, **further):
    settings = model(file, **further)
    network = build(settings, 1, 3, (8, 8, 4), (1.0, 1.0, 2.0))
    check(settings, network, 1, 3, (8, 8, 4))
    return network


@pytest.mark.parametrize("patch", [(16, 12), (16, 12, 8)])
def test_the_example_keeps_its_contract(patch):
    settings = model(EXAMPLE, options={"width": 4}, dims=len(patch))
    network = build(settings, 2, 3, patch, (1.0,) * len(patch))
    check(settings, network, 2, 3, patch)
    assert strides(settings, patch, (1.0,) * len(patch)) == (2,) * len(patch)
    assert network.eval()(torch.zeros(1, 2, *patch)).shape == (1, 3, *patch)
    first, second = network.train()(torch.zeros(1, 2, *patch))
    assert first.shape == (1, 3, *patch)
    assert second.shape == (1, 3, *(size // 2 for size in patch))
    rows = describe(network, 2, patch)
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in network.parameters())
    assert modules(settings) == ["networks.plugin"]


def test_a_head_of_segstudy_follows_an_own_network(tmp_path):
    file = own(tmp_path, "return self.out(images)")
    settings = model(file, head={"hidden": 6})
    network = build(settings, 1, 3, (8, 8, 4), (1.0, 1.0, 2.0))
    assert network.network.classes == 6
    assert network(torch.zeros(1, 1, 8, 8, 4)).shape == (1, 3, 8, 8, 4)


def test_trying_a_network_changes_nothing(tmp_path):
    file = own(tmp_path, "return self.norm(self.out(images)) + 0 * torch.rand(1)")
    settings = model(file)
    network = build(settings, 1, 3, (8, 8, 4), (1.0, 1.0, 2.0))
    before = {name: values.clone() for name, values in network.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    check(settings, network, 1, 3, (8, 8, 4))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "return self.out(images)[:, :2]",
            r"in prediction it gives a tensor of 2x2x8x8x4.*2x3x8x8x4",
        ),
        ("return self.out(images)[..., ::2]", "a tensor of 2x3x8x8x2"),
        ("return self.out(images) / images.sum()", "logits that are not finite"),
        ("return {'logits': self.out(images)}", "gives a dict"),
        ("return [self.out(images)]", "in prediction it gives a list"),
        ("return [] if self.training else self.out(images)", "in training it gives an empty list"),
        (
            "out = self.out(images)\nreturn [out, out[..., :3]] if self.training else out",
            "in training, number 2 of its list is a tensor of 2x3x8x8x3",
        ),
        ("return self.outt(images)", r"AttributeError: .*outt.*own.py, line 13, in forward"),
    ],
)
def test_a_broken_contract_is_told_before_training(tmp_path, body, said):
    with pytest.raises(InputError, match=said):
        tried(own(tmp_path, body))


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("class Network: ...\n", {}, r"plug-in own.py: takes \(\), and is called with 4 values"),
        ("def Network(*a, **k): return 3\n", {}, "gives a int; expected a torch.nn.Module"),
        ("Network = 3\n", {}, "Network is 3; expected a class or a function"),
        (
            "from torch import nn\ndef Network(*a, **k): return nn.ReLU()\n",
            {},
            "no weights to learn",
        ),
        ("def Network(*a, width): ...\n", {"widht": 3}, "called with 4 values, widht: .*`options`"),
        ("def Network(*a): raise ValueError('too deep')\n", {}, r"ValueError: too deep .*line 1"),
        ("import nothing_of_the_kind\ndef Network(): ...\n", {}, "ModuleNotFoundError"),
    ],
)
def test_what_is_no_network_is_told(tmp_path, text, options, said):
    file = tmp_path / "own.py"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        build(model(file, options=options), 1, 3, (8, 8, 4), (1.0, 1.0, 2.0))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("strides = (4, 4, 2)", (4, 4, 2)),
        ("strides = 8", (8, 8, 8)),
        (
            "strides = staticmethod(lambda patch, mm, width=1: tuple(width for _ in patch))",
            (3, 3, 3),
        ),
        ("pass", (1, 1, 1)),
        ("strides = (4, 4)", None),
        ("strides = 0", None),
        ("strides = 'two'", None),
    ],
)
def test_strides(tmp_path, line, expected):
    file = tmp_path / "own.py"
    file.write_text(f"class Network:\n    {line}\n")
    settings = model(file, options={"width": 3})
    if expected is None:
        with pytest.raises(
            InputError, match="strides are .*; expected a whole number from 1, or 3"
        ):
            strides(settings, (8, 8, 4), (1.0, 1.0, 2.0))
    else:
        assert strides(settings, (8, 8, 4), (1.0, 1.0, 2.0)) == expected


def test_an_error_as_it_runs_is_a_sentence_but_a_small_memory_is_told_elsewhere(tmp_path):
    settings = model(own(tmp_path, "return self.out(images)"))
    with pytest.raises(InputError, match="ZeroDivisionError"), telling(settings):
        _ = 1 / 0
    with pytest.raises(torch.OutOfMemoryError), telling(settings):
        raise torch.OutOfMemoryError


def test_what_a_network_is_called_in_a_message(tmp_path):
    assert label(model(tmp_path / "own.py")) == "plug-in own.py"


def test_memory_is_estimated_for_an_own_network():
    settings = model(EXAMPLE, device="cpu", patch_size=(16, 16, 16))
    assert training_memory_mb(settings, [1e6], 1, 2) > 1500


# --- weights ------------------------------------------------------------------------------------


def written_weights(folder, file):
    settings = model(
        file, options={"width": 4}, loss={"plugins": {str(folder / "my_loss.py"): 1.0}}
    )
    (folder / "my_loss.py").write_text("def loss(logits, labels): ...\n")
    network = build(settings, 1, 3, (8, 8, 4), (1.0, 1.0, 2.0))
    path = folder / "weights.pt"
    save_weights(
        path, Trained(network, settings, ("a", "b"), ("ct",), PLAN, (8, 8, 4), {"fold": 0})
    )
    return path, network


def test_weights_name_the_plugin_and_hold_no_code(tmp_path):
    file = own(tmp_path, "return self.out(images)")
    path, network = written_weights(tmp_path, file)
    content = torch.load(path, weights_only=True)
    assert content["model"]["network_plugin"] == "own.py"
    assert content["plugins"] == {
        "network": f"own.py {plugins.digest(str(file))}",
        "loss.plugins.my_loss.py": f"my_loss.py {plugins.digest(str(tmp_path / 'my_loss.py'))}",
    }
    assert str(tmp_path).encode() not in path.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "own.py")
    trained = load_weights(path, plugin=str(moved))
    assert trained.plugins == content["plugins"]
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 8, 8, 4))).float()
    assert torch.equal(trained.network(image), network.eval()(image))
    # Written again, they name the same plug-ins, though the loss is nowhere here.
    save_weights(tmp_path / "again.pt", trained)
    assert torch.load(tmp_path / "again.pt", weights_only=True)["plugins"] == content["plugins"]


def test_weights_are_refused_without_their_plugin_or_with_other_code(tmp_path):
    file = own(tmp_path, "return self.out(images)")
    path, _ = written_weights(tmp_path, file)
    with pytest.raises(InputError, match=r"made with the plug-in own.py \(code \w{16}\).*--plugin"):
        load_weights(path)
    own(tmp_path, "# A comment is no other code.\nreturn self.out(images)")
    load_weights(path, plugin=str(file))
    own(tmp_path, "return 2 * self.out(images)")
    with pytest.raises(InputError, match=r"--plugin .*own.py: other code \(own.py \w{16}\) than"):
        load_weights(path, plugin=str(file))
    with pytest.raises(InputError, match="no such plug-in file"):
        load_weights(path, plugin=str(tmp_path / "none.py"))


def test_the_name_of_one_of_several_networks_is_known_to_the_weights(tmp_path):
    text = EXAMPLE.read_text().replace("class Network", "class Wide")
    (tmp_path / "nets.py").write_text(text)
    path, _ = written_weights(tmp_path, f"{tmp_path}/nets.py:Wide")
    assert load_weights(path, plugin=str(tmp_path / "nets.py")).model.network_plugin.endswith(
        ":Wide"
    )
