"""Trainings with a network, losses and changes of images of the user's own."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fit import QUICK, train
from toy_cohort import SHAPE, SPACING_MM, volume

from segstudy import plugins
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import read_label, write_nifti
from segstudy.images.prepare import IGNORED
from segstudy.study import Loss
from segstudy.train.loss import SegmentationLoss
from segstudy.train.plugin_augment import Changes
from segstudy.train.plugin_loss import load

EXAMPLES = Path(__file__).parents[3] / "resources" / "plugins"
OWN = {
    **{key: QUICK[key] for key in ("patch_size", "epochs", "steps_per_epoch", "optimizer")},
    "network": str(EXAMPLES / "residual_net.py"),
    "options": {"width": 4},
    "loss": {"dice": 0.5, "cross_entropy": 0, "plugins": {str(EXAMPLES / "tversky_loss.py"): 0.5}},
    "augmentation": {"preset": "light", "plugins": [str(EXAMPLES / "cutout.py")]},
}

CROSS_ENTROPY = (
    "from torch.nn import functional\n"
    "def loss(logits, labels, known=None):\n"
    "    each = functional.cross_entropy(logits, labels, reduction='none')\n"
    "    return each.mean() if known is None else (each * known).sum() / known.sum().clamp(min=1)\n"
)

pytestmark = pytest.mark.usefixtures("own_torch")


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


def written(folder, name, text):
    (folder / name).write_text(text)
    plugins.digest.cache_clear()
    return str(folder / name)


def state(folder):
    return torch.load(folder / "weights.pt", weights_only=True)["state"]


def same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_by_plugins_learns_repeats_itself_and_tells_them(cohort, tmp_path):
    first = train(cohort, tmp_path / "first", OWN | {"epochs": 8, "steps_per_epoch": 6})
    again = train(cohort, tmp_path / "again", OWN | {"epochs": 8, "steps_per_epoch": 6})
    assert (first / "weights.pt").read_bytes() == (again / "weights.pt").read_bytes()
    settings = json.loads((first / "settings.json").read_text())
    assert settings["plugins"] == {
        "network": f"residual_net.py {plugins.digest(OWN['network'])}",
        "loss.plugins.tversky_loss.py": f"tversky_loss.py {plugins.digest(str(EXAMPLES / 'tversky_loss.py'))}",
        "augmentation.plugins.0": f"cutout.py {plugins.digest(str(EXAMPLES / 'cutout.py'))}",
    }
    assert str(EXAMPLES) not in (first / "settings.json").read_text()
    losses = [float(line.split(",")[2]) for line in (first / "history.csv").read_text().split()[1:]]
    assert losses[-1] < 0.8 * losses[0]


def test_a_loss_as_plugin_trains_as_the_same_loss_of_segstudy(cohort, tmp_path):
    own = written(tmp_path, "ce.py", CROSS_ENTROPY)
    ours = train(cohort, tmp_path / "ours", QUICK | {"loss": {"dice": 0, "cross_entropy": 2}})
    loss = {"dice": 0, "cross_entropy": 0, "plugins": {own: 2}}
    theirs = train(cohort, tmp_path / "theirs", QUICK | {"loss": loss})
    for name, values in state(ours).items():
        torch.testing.assert_close(state(theirs)[name], values, rtol=1e-4, atol=1e-5)


def test_augmentation_that_changes_nothing_trains_as_without_and_another_does_not(cohort, tmp_path):
    nothing = written(
        tmp_path, "no.py", "def augment(images, labels, generator):\n    return images, labels\n"
    )
    without = train(cohort, tmp_path / "without", QUICK)
    same_as = train(cohort, tmp_path / "with", QUICK | {"augmentation": {"plugins": [nothing]}})
    cut = {"augmentation": {"plugins": [str(EXAMPLES / "cutout.py")]}}
    other = train(cohort, tmp_path / "other", QUICK | cut)
    assert same(state(without), state(same_as))
    assert not same(state(without), state(other))


def test_finished_work_is_found_again_in_another_folder_and_not_after_an_edit(
    cohort, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    text = (EXAMPLES / "residual_net.py").read_text()
    outputs = {}
    for name, content in (
        ("here", text),
        ("moved", text + "\n# a comment\n"),
        ("edited", text.replace("0.01", "0.02")),
    ):
        (tmp_path / name).mkdir()
        file = written(tmp_path / name, "net.py", content)
        words = cohort.words(tmp_path / name / "out", OWN | {"network": file})
        caplog.clear()
        assert main([*words, "--finished", str(tmp_path / "kept")]) == 0
        outputs[name] = "made before" in caplog.text
    assert outputs == {"here": False, "moved": True, "edited": False}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return logits.argmax(1).float().mean()", "does not depend on the logits"),
        ("return (logits / 0 * 0).mean()", "is nan for logits of zeros"),
        ("return logits.mean(0)", "expected a tensor of one number, or of one an image"),
        ("return float(logits.detach().mean())", "gives float; expected a tensor"),
        ("return nothing", r"NameError: .*nothing.*own.py, line 2, in loss"),
        ("raise SystemExit(0)", r"own.py: SystemExit: 0 .*line 2, in loss"),
        ("labels.zero_(); return logits.mean()", r"own.py: changes labels in place.*labels.clone"),
    ],
)
def test_a_loss_that_breaks_its_contract_is_told_before_training(
    cohort, tmp_path, capsys, body, said
):
    own = written(tmp_path, "own.py", f"def loss(logits, labels):\n    {body}\n")
    words = cohort.words(tmp_path / "out", QUICK | {"loss": {"plugins": {own: 1}}})
    assert main(words) != 0
    heard = capsys.readouterr()
    assert re.search(said, heard.err + heard.out)
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_a_loss_that_is_nan_late_is_blamed_in_place_of_the_images(cohort, tmp_path, capsys):
    """The fourth call is in the third step of epochs of two; the first tries the loss before training."""
    text = (
        "CALLS = []\n"
        "def loss(logits, labels):\n"
        "    CALLS.append(1)\n"
        "    return logits.mean() * (float('nan') if len(CALLS) > 3 else 1)\n"
    )
    own = written(tmp_path, "late.py", text)
    words = cohort.words(tmp_path / "out", QUICK | {"loss": {"plugins": {own: 1}}})
    assert main(words) != 0
    said = capsys.readouterr().err
    assert "epoch 2, step 1 of 2" in said
    assert (
        "the loss of plug-in late.py is not finite though the logits are; mend the plug-in" in said
    )
    assert "Look at these images" not in said


def test_validation_that_is_not_finite_is_said(cohort, tmp_path, caplog):
    text = (
        "from torch import nn\n"
        "class Network(nn.Conv3d):\n"
        "    def __init__(self, in_channels, classes, patch_size, spacing_mm):\n"
        "        super().__init__(in_channels, classes, 1)\n"
        "    def forward(self, images):\n"
        "        logits = super().forward(images)\n"
        "        return logits if self.training or not images.any() else logits * float('nan')\n"
    )
    own = {**{key: value for key, value in OWN.items() if key != "options"}, "loss": {}}
    train(cohort, tmp_path / "out", own | {"network": written(tmp_path, "late_net.py", text)})
    assert re.search(
        "validation of toy/case_.*: plug-in late_net.py gives logits that are not finite",
        caplog.text,
    )


def test_a_loss_is_not_blamed_for_logits_that_are_not_finite(tmp_path):
    loss = SegmentationLoss(Loss(plugins={written(tmp_path, "ce.py", CROSS_ENTROPY): 1}), ["a"])
    logits, labels = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)
    loss(logits / 0, labels)
    assert loss.at_fault() == []


def test_a_loss_of_one_number_an_image_is_averaged(tmp_path):
    own = written(
        tmp_path, "own.py", "def loss(logits, labels):\n    return logits.flatten(1).mean(1)\n"
    )
    ((weight, term),) = load({own: 3.0}, ignores=False)
    logits = torch.arange(24.0).view(2, 3, 4)
    assert weight == 3.0
    assert float(term(logits, torch.zeros(2, 4, dtype=torch.int64))) == 11.5


def test_voxels_that_nobody_labelled_are_told_to_a_loss_and_asked_for(tmp_path):
    own = written(tmp_path, "ce.py", CROSS_ENTROPY)
    weights = {"dice": 0, "cross_entropy": 0}
    theirs = SegmentationLoss(Loss(**weights, plugins={own: 1}), ["a"], ignores=True)
    ours = SegmentationLoss(Loss(dice=0, cross_entropy=1), ["a"], ignores=True)
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 5, 4, generator=draw)
    labels = torch.randint(2, (2, 6, 5, 4), generator=draw, dtype=torch.uint8)
    labels[:, :3] = IGNORED
    torch.testing.assert_close(theirs(logits, labels), ours(logits, labels))
    blind = written(tmp_path, "blind.py", "def loss(logits, labels):\n    return logits.mean()\n")
    with pytest.raises(
        InputError, match=r"takes \(logits, labels\); expected \(logits, labels, known\)"
    ):
        SegmentationLoss(Loss(plugins={blind: 1}), ["a"], ignores=True)


def test_the_tversky_example_is_the_dice_loss_at_equal_weights(tmp_path):
    text = (EXAMPLES / "tversky_loss.py").read_text()
    even = written(tmp_path, "even.py", text.replace("0.3, 0.7", "0.5, 0.5"))
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3, 7, 6, 5, generator=draw)
    labels = torch.randint(3, (3, 7, 6, 5), generator=draw, dtype=torch.uint8)
    theirs = SegmentationLoss(Loss(dice=0, cross_entropy=0, plugins={even: 1}), ["a", "b"])
    ours = SegmentationLoss(Loss(dice=1, cross_entropy=0, batch_dice=False), ["a", "b"])
    torch.testing.assert_close(theirs(logits, labels), ours(logits, labels), rtol=1e-4, atol=1e-5)


def test_cutout_sets_a_box_to_the_mean_by_its_generator():
    changes = Changes([str(EXAMPLES / "cutout.py")], classes=2)
    images = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(2, 8, 8, 8, dtype=torch.uint8)
    first, kept = changes(images, labels, [5, 6])
    again, _ = changes(images, labels, [5, 6])
    other, _ = changes(images, labels, [7, 6])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(kept, labels)
    for before, after in zip(images, first, strict=True):
        changed = before != after
        assert changed.sum() == 2**3
        torch.testing.assert_close(after[changed], before.mean().expand(8))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return images", "gives a Tensor; expected .images, labels."),
        (
            "return images.double(), labels",
            "images are float64 of 1x1x4x4 on cpu; expected float32",
        ),
        ("return images[..., :2], labels", "images are float32 of 1x1x4x2"),
        ("return images / 0, labels", "gives images that are not finite"),
        ("return images, labels + 7", "labels of value 7; expected class indices up to 1, and 255"),
        ("return images, None", "labels are a NoneType"),
        ("return imagse, labels", "NameError: .*own.py, line 2, in augment"),
    ],
)
def test_changes_that_break_their_contract_are_told(tmp_path, body, said):
    own = written(tmp_path, "own.py", f"def augment(images, labels, generator):\n    {body}\n")
    with pytest.raises(InputError, match=said):
        Changes([own], 2)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), [1])


@pytest.mark.parametrize(
    ("late", "said"),
    [("images / 0, labels", "not finite"), ("images, labels + 77", "labels of value 77")],
)
def test_changes_that_break_their_contract_late_are_told(tmp_path, late, said):
    text = (
        "CALLS = []\n"
        "def augment(images, labels, generator):\n"
        "    CALLS.append(1)\n"
        f"    return ({late}) if len(CALLS) > 2 else (images, labels)\n"
    )
    changes = Changes([written(tmp_path, "late.py", text)], 2)
    batch = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)
    for _ in range(2):
        changes(*batch, [1])
    with pytest.raises(InputError, match=rf"plug-in late.py: gives .*{said}"):
        changes(*batch, [1])


def test_changes_that_take_other_arguments_are_told(tmp_path):
    own = written(tmp_path, "own.py", "def augment(images): ...\n")
    with pytest.raises(
        InputError, match=r"takes \(images\); expected \(images, labels, generator\)"
    ):
        Changes([own], 2)


def test_weights_are_used_on_any_image_with_their_plugin(cohort, tmp_path, capsys):
    trained = train(cohort, tmp_path / "out", OWN)
    image, _ = volume(0, SHAPE)
    write_nifti(tmp_path / "scan.nii.gz", image[0], np.diag([*SPACING_MM, 1.0]))
    weights = ["infer", "--weights", str(trained / "weights.pt"), "--device", "cpu"]
    scan = ["--output", str(tmp_path / "labels"), str(tmp_path / "scan.nii.gz")]
    assert main([*weights, *scan]) != 0
    assert "made with the plug-in residual_net.py (code " in capsys.readouterr().err
    assert main([*weights, "--plugin", str(EXAMPLES / "cutout.py"), *scan]) != 0
    assert "no Network in it" in capsys.readouterr().err
    assert main([*weights, "--plugin", str(EXAMPLES / "residual_net.py"), *scan]) == 0
    assert read_label(tmp_path / "labels" / "scan.nii.gz").array.shape == SHAPE
    unet = train(cohort, tmp_path / "unet", QUICK)
    weights[2] = str(unet / "weights.pt")
    assert main([*weights, "--plugin", str(EXAMPLES / "residual_net.py"), *scan]) != 0
    assert "holds weights of unet, which needs no plug-in" in capsys.readouterr().err
