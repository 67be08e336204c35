"""Weights files: whole, the same bytes for the same content, and refused where they are not ours."""

import math
import pickle

import pytest
import torch

from segstudy.errors import InputError
from segstudy.images.plan import Plan
from segstudy.networks import build
from segstudy.networks.weights import Trained, load_weights, save_weights
from segstudy.study import EnetModel, UnetModel

INTENSITIES = {"low": -5.0, "high": 90.0, "mean": 40.0, "sd": 20.0}
PLAN = Plan((1.0, 1.0, 3.0), "none", 0.0, "ct", 3.0, None, (INTENSITIES,) * 2).to_dict()
MODELS = [
    (UnetModel(network="unet", channels=(4, 6, 8)), (16, 16, 8)),
    (UnetModel(network="unet", dims=2, channels=(4, 8), planes=("coronal",)), (16, 16)),
    (EnetModel(network="enet", channels=4), (16, 24)),
]


def save(path, model, patch, seed=0):
    torch.manual_seed(seed)
    spacing = (1.0, 1.0, 3.0) if model.dims == 3 else (1.0, 3.0)
    network = build(model, 2, 3, patch, spacing)
    save_weights(
        path, Trained(network, model, ("left", "right"), ("t1", "t2"), PLAN, patch, {"fold": 1})
    )
    return network


@pytest.mark.parametrize(("model", "patch"), MODELS)
def test_what_is_read_predicts_what_was_written(tmp_path, model, patch):
    network = save(tmp_path / "weights.pt", model, patch).eval()
    trained = load_weights(tmp_path / "weights.pt", "cpu")
    image = torch.randn(1, 2, *patch)
    with torch.no_grad():
        assert torch.equal(trained.network(image), network(image))
    assert not trained.network.training
    assert trained.model == model
    assert trained.structures == ("left", "right")
    assert trained.channels == ("t1", "t2")
    assert trained.plan == PLAN
    assert trained.patch_size == patch
    assert trained.provenance == {"fold": 1}


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("one.pt", "another_name.pt"):
        save(tmp_path / name, *MODELS[0])
    save(tmp_path / "other.pt", *MODELS[0], seed=1)
    one, same, other = (
        (tmp_path / name).read_bytes() for name in ("one.pt", "another_name.pt", "other.pt")
    )
    assert one == same
    assert one != other


def changed(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_weights_of_the_version_before_are_read(tmp_path):
    """Their settings have the keys of that version, all written out."""
    settings = UnetModel(
        network="unet",
        channels=(4, 6, 8),
        validation_fraction=0.2,
        augmentation={"noise_probability": 0.7},
    )
    path = tmp_path / "weights.pt"
    network = save(path, settings, (16, 16, 8)).eval()

    def by_old_names(content):
        model = content["model"]
        model["grid"] = model.pop("grid_search")
        for name in ("foreground", "validation"):
            model[f"{name}_share"] = model.pop(f"{name}_fraction")
        for part in ("augmentation", "synthesis"):
            model[part] = {
                name.replace("_probability", "_share"): value for name, value in model[part].items()
            }
        synthesis = model["synthesis"]
        synthesis["isotropic_mm"] = synthesis.pop("max_isotropic_spacing_mm")
        synthesis["slice_spacing_mm"] = synthesis.pop("max_slice_spacing_mm")

    changed(path, by_old_names)
    trained = load_weights(path)
    assert trained.model == settings
    image = torch.randn(1, 2, 16, 16, 8)
    with torch.no_grad():
        assert torch.equal(trained.network(image), network(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(network="vnet"), "model: .*vnet"),
        (lambda c: c["model"].update(chanels=3), "model.unet.chanels"),
        (lambda c: c.update(format="segstudy weights 9"), "a later one wrote it"),
        (lambda c: c.pop("plan"), "plan is missing"),
        (lambda c: c["plan"].pop("spacing_mm"), "plan is missing or damaged"),
        (lambda c: c.update(structures="left"), "structures is missing or damaged"),
        (lambda c: c.update(structures=["left", "left"]), "structures: left stands there twice"),
        (lambda c: c.update(structures=["left", "\x1b[2J"]), "structures is missing or damaged"),
        (lambda c: c.update(left_right_pairs=[["left", "left"]]), "left_right_pairs is .* damaged"),
        (lambda c: c["provenance"].update(images={"d/a": ["x"]}), "provenance is .* damaged"),
        (
            lambda c: c["provenance"].update(initial_weights={"images": {"x": 3}}),
            "provenance is missing or damaged",
        ),
        (lambda c: c.update(left_right_pairs=[["left", "top"]]), "top is none of the structures"),
        (lambda c: c["plan"].update(crop="head"), "plan.crop: head; expected one of body"),
        (
            lambda c: c["plan"].update(channels=[0, 2]),
            r"plan.channels: \[0, 2\]; expected places in",
        ),
        (
            lambda c: c["plan"].update(intensities=[{"low": 1}]),
            "low, high, mean and sd of each of 2",
        ),
        (lambda c: c["plan"].pop("margin_mm"), "plan: a plan with a missing or unusable entry"),
        (
            lambda c: c["plan"].update(margin_mm=math.nan),
            r"plan\.margin_mm: nan; expected a number",
        ),
        (lambda c: c["plan"].update(margin_mm=-40), r"plan\.margin_mm: -40; expected a number"),
        (lambda c: c["state"].pop("heads.0.bias"), "weights do not fit.*heads.0.bias"),
        (lambda c: c["structures"].append("third"), "weights do not fit"),
        (lambda c: c.update(patch_size=[4, 4, 4]), "halved"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "weights.pt"
    save(path, *MODELS[0])
    changed(path, change)
    with pytest.raises(InputError, match=message) as refused:
        load_weights(path)
    assert str(path) in str(refused.value)


def test_weights_of_an_earlier_enet_are_refused_in_a_sentence(tmp_path):
    """Until its decoder was the authors', ENet doubled the resolution by 2x2 kernels."""
    path = tmp_path / "weights.pt"
    save(path, *MODELS[2])
    key = "up4.branch.3.weight"
    changed(path, lambda c: c["state"].update({key: c["state"][key][:, :, :2, :2].clone()}))
    with pytest.raises(InputError) as refused:
        load_weights(path)
    said = str(refused.value)
    assert f"size mismatch for {key}" in said and "or train again" in said and "\n" not in said


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "weights.pt"
    save(path, *MODELS[0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="weights.pt: not readable as weights"):
        load_weights(path)


def test_a_missing_file_a_folder_and_something_else_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such weights file"):
        load_weights(tmp_path / "none.pt")
    with pytest.raises(InputError, match="a folder"):
        load_weights(tmp_path)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="list found; expected"):
        load_weights(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(InputError, match="not readable as weights"):
        load_weights(tmp_path / "text.pt")


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_file_from_a_stranger_runs_no_code(tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({"format": Trap(str(sprung))}, tmp_path / "trap.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Trap(str(sprung)), protocol=2))
    for name in ("trap.pt", "pickle.pt"):
        with pytest.raises(InputError, match="not readable as weights"):
            load_weights(tmp_path / name)
    assert not sprung.exists()
