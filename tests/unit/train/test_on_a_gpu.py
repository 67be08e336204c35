"""Training and prediction on a pretended GPU: no mixing of devices, few waits, and the CPU's numbers."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from benchmark_runs import run_quickly
from pretended_gpu import CudaAutocast, OnGpu, pretended_gpu
from segstudy.cli import main
from segstudy.networks import build
from segstudy.networks.unet import InstanceNorm
from segstudy.networks.weights import load_weights
from segstudy.networks.window import SlidingWindow, predict_volume
from segstudy.study import AnyModel, Augmentation, Synthesis
from segstudy.study.training import Loss
from segstudy.train import fit as module
from segstudy.train.augment import augment
from segstudy.train.checkpoint import Checkpoint, Progress
from segstudy.train.draw import Draw
from segstudy.train.loss import SegmentationLoss
from segstudy.train.spatial import PatchGeometry
from segstudy.train.synth import synthesise
from segstudy.train.trainer import LossScaler, confusion

pytestmark = pytest.mark.usefixtures("own_torch")


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: there + here,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: torch.where(there > 0, there, here),
        lambda here, there: there.numpy(),
        lambda here, there: torch.nn.functional.linear(there[None], here[None]),
    ],
)
def test_what_a_gpu_refuses_is_refused(mixed):
    with pretended_gpu():
        here = torch.ones(3)
        with pytest.raises((RuntimeError, TypeError), match="device"):
            mixed(here, here.to("cuda"))


def test_waits_are_counted():
    with pretended_gpu() as seen:
        there = torch.arange(4.0).to("cuda", non_blocking=True)
        assert isinstance(there, OnGpu)
        assert there.device.type == "cuda"
        assert seen.waits.total() == 0
        there.sum().item()
        there[there > 1]
        there.cpu()
        torch.ones(2).to("cuda")
        torch.tensor([1.0], device="cuda")
        assert seen.waits.total() == 5
        assert (there * 2).tolist() == [0, 2, 4, 6]


# Steps by the gradient itself: Adam makes much of the rounding of small ones.
SGD = {"optimizer": {"name": "sgd", "lr": 0.01}, "epochs": 1, "steps_per_epoch": 3}
UNET = {"network": "unet", "channels": [4, 8], "patch_size": [16, 16, 8], **SGD}
ENET = {"network": "enet", "channels": 4, "patch_size": [16, 16], **SGD}
EVERYTHING = {f"{name}_probability": 1.0 for name in ("affine", "elastic", "noise", "blur", "bias")}
EVERYTHING |= {
    f"{name}_probability": 1.0
    for name in ("brightness", "contrast", "low_resolution", "gamma", "inverted_gamma")
}
EVERYTHING |= {"flip_axes": ["right_left"]}


def trained_there(cohort, output, model, bfloat16=True):
    """Train on the pretended GPU; return what was seen of it, and how often the host waited in each step."""
    counts, step = [], module.Trainer.step
    with pretended_gpu(bfloat16) as seen, pytest.MonkeyPatch.context() as patch:

        def counted(trainer, number, batch):
            before = seen.waits.total()
            results = step(trainer, number, batch)
            counts.append(seen.waits.total() - before)
            return results

        patch.setattr(module.Trainer, "step", counted)
        assert main(cohort.words(output, model | {"device": "cuda"})) == 0
    assert len(counts) == model["steps_per_epoch"]
    return seen, counts


@pytest.mark.parametrize(
    "model",
    [
        UNET | {"augmentation": EVERYTHING},
        UNET | {"loss": {"focal": 1.0}, "ema": 0.9, "head": {"hidden": 4}},
        ENET | {"planes": ["axial", "coronal"]},
    ],
    ids=["augmented", "focal", "slices"],
)
def test_a_training_learns_what_the_cpu_learns_and_waits_twice_a_step_at_most(
    cohort, tmp_path, model
):
    model = model | {"amp": False}
    seen, waits = trained_there(cohort, tmp_path / "gpu", model)
    assert max(waits) <= 2, seen.waits
    assert main(cohort.words(tmp_path / "cpu", model | {"device": "cpu"})) == 0
    cpu, gpu = (load_weights(tmp_path / where / "weights.pt") for where in ("cpu", "gpu"))
    for name, weights in cpu.network.state_dict().items():
        found = gpu.network.state_dict()[name]
        torch.testing.assert_close(found, weights, rtol=1e-3, atol=1e-5)


def test_a_validation_that_a_gpu_has_no_room_for_is_scored_on_the_cpu(
    cohort, tmp_path, monkeypatch
):
    places = []

    def full(function):
        def filled(*tensors):
            if torch.is_inference_mode_enabled():
                places.append(tensors[-2].device.type)
                if places[-1] == "cuda":
                    raise torch.OutOfMemoryError("planted")
            return function(*tensors)

        return filled

    def last(output):
        row = (output / "history.csv").read_text().splitlines()[-1].split(",")
        return [float(value) for value in row[2:7]]  # losses and Dice

    model = UNET | {"amp": False, "steps_per_epoch": 1}
    trained_there(cohort, tmp_path / "roomy", model)
    monkeypatch.setattr("segstudy.train.trainer.confusion", full(confusion))
    monkeypatch.setattr(SegmentationLoss, "__call__", full(SegmentationLoss.__call__))
    trained_there(cohort, tmp_path / "full", model)
    assert set(zip(places[::2], places[1::2], strict=True)) == {("cuda", "cpu")}
    np.testing.assert_allclose(last(tmp_path / "full"), last(tmp_path / "roomy"), rtol=1e-4)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_that_of_the_card(cohort, tmp_path, monkeypatch, half):
    scaled = []
    monkeypatch.setattr(
        LossScaler, "scale", lambda scaler, loss: scaled.append(scaler.is_enabled()) or loss
    )
    monkeypatch.setattr(LossScaler, "unscale_", lambda scaler, optimizer: None)
    monkeypatch.setattr(LossScaler, "step", lambda scaler, optimizer: optimizer.step())
    monkeypatch.setattr(LossScaler, "update", lambda scaler: None)
    seen, waits = trained_there(cohort, tmp_path / "gpu", UNET, half == torch.bfloat16)
    assert max(waits) <= 2, seen.waits
    assert scaled == [half == torch.float16] * 3
    assert half in seen.dtypes["aten.convolution.default"]
    # Weights, normalisation's numbers and the loss stay in full precision.
    for name in ("aten._log_softmax.default", "aten._fused_sgd_.default"):
        assert seen.dtypes[name] == {torch.float32}, name


def test_a_training_in_bfloat16_goes_on_in_float16(tmp_path):
    """The node after a restart may have an older GPU, whose training scales its loss."""
    scaler = LossScaler("cpu", enabled=False)
    checkpoint = Checkpoint(tmp_path, "digest")
    checkpoint.write(Progress(step=7), {"scaler": scaler})
    scales = LossScaler("cpu", enabled=True)
    progress = checkpoint.read({"scaler": scales}, torch.device("cpu"))
    assert progress.step == 7
    assert scales.get_scale() == 2.0**16
    checkpoint.write(Progress(step=8), {"scaler": scales})
    assert checkpoint.read({"scaler": scaler}, torch.device("cpu")).step == 8


def test_a_3d_unet_keeps_channels_last_forth_and_back():
    """A layout that changes costs a copy of the features at each normalisation."""
    model = TypeAdapter(AnyModel).validate_python(
        {"network": "unet", "channels": [4, 8, 8], "deep_supervision": False}
    )
    network = build(model, 2, 3, (16, 16, 16), (1.0, 1.0, 1.0))
    images = torch.rand(2, 2, 16, 16, 16).to(memory_format=torch.channels_last_3d)
    with pretended_gpu() as seen:
        logits = network.to("cuda")(images.to("cuda"))
        logits.square().mean().backward()
    convolutions = seen.layouts["channels last"]
    assert convolutions == 5 * 2 + 2 + 1  # blocks of two, transposed, head
    assert seen.layouts == {
        "channels last": convolutions,
        "channels last in the backward pass": convolutions,
    }


def test_a_batch_of_large_images_keeps_channels_last_in_normalisation_too():
    norm = InstanceNorm(4)
    features = torch.rand(5, 4, 64, 64, 64).to(memory_format=torch.channels_last_3d)
    with pretended_gpu():
        there = features.to("cuda").requires_grad_()
        normalised = norm.to("cuda")(there)
        (slope,) = torch.autograd.grad(normalised, there, there.detach())
    for part in (normalised, slope):
        assert part.inner.is_contiguous(memory_format=torch.channels_last_3d)
    means, spreads = normalised.inner.mean((2, 3, 4)), normalised.inner.std((2, 3, 4))
    torch.testing.assert_close(means, torch.zeros(5, 4), rtol=0, atol=1e-4)
    torch.testing.assert_close(spreads, torch.ones(5, 4), rtol=1e-3, atol=0)


SMALL = {
    "enet": (ENET | {"dropout": 0.0}, (16, 16)),
    "unet 2D": (UNET | {"dims": 2, "attention": "cbam"}, (16, 16)),
    "unet 3D": (UNET, (16, 16, 8)),
    "head": (UNET | {"head": {"hidden": 4}}, (16, 16, 8)),
    "attention U-Net": ({"network": "attention_unet", "channels": [4, 8]}, (16, 16, 8)),
    "UNETR": ({"network": "unetr", "feature_size": 4, "hidden_size": 8, "heads": 2}, (16, 16, 16)),
    "SwinUNETR": ({"network": "swin_unetr", "dims": 2, "feature_size": 12}, (64, 32)),
}
IN_HALF = ("convolution", "addmm", "mm", "bmm", "baddbmm")
IN_FULL = ("_log_softmax", "exp", "log", "pow", "_softmax", "prod", "cumsum", "nll_loss_forward")
"""Operations that autocast runs in half and in full precision on CUDA (torch's "Autocast Op Reference")."""


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SMALL)
def test_each_network_takes_the_cpus_step_in_each_precision(name, half):
    settings, patch = SMALL[name]
    model = TypeAdapter(AnyModel).validate_python(
        {key: value for key, value in settings.items() if key != "patch_size"}
    )
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, *patch, generator=random)
    labels = torch.randint(3, (2, *patch), generator=random).byte()

    def slopes(device):
        torch.manual_seed(0)
        network = build(model, 1, 3, patch, (1.0,) * len(patch)).to(device)
        loss = SegmentationLoss(Loss(), ["one", "two"], device)
        moved = [part.to(device, non_blocking=True) for part in (images, labels)]
        with torch.autocast(device, half, enabled=half is not None):
            logits = network(moved[0])
        value = loss(logits, moved[1])
        value.backward()
        return [value.detach(), *(parameter.grad for parameter in network.parameters())]

    # Not by oneDNN, whose weight gradients of small 3D convolutions are garbage in bfloat16 (torch 2.13).
    with torch.backends.mkldnn.flags(enabled=False):
        with CudaAutocast():
            expected = slopes("cpu")
        with pretended_gpu() as seen:
            found = slopes("cuda")
    for gradient, right in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.inner, right, rtol=2e-2, atol=2e-3)
    dtypes = {name: kinds - INTEGERS for name, kinds in seen.dtypes.items()}
    for operation in IN_FULL:
        kinds = set().union(*(k for name, k in dtypes.items() if _is(name, operation)))
        assert not kinds & {torch.bfloat16, torch.float16}, operation
    # A coordinate head is in full precision, so that the phase of its sines is right.
    for operation in IN_HALF if half and name != "head" else ():
        kinds = set().union(*(k for name, k in dtypes.items() if _is(name, operation)))
        assert kinds <= {half}, operation


INTEGERS = {torch.bool, torch.uint8, torch.int32, torch.int64}


def _is(name, operation):
    return name.split(".")[1] == operation


def geometry(count, size):
    spacing_mm, axes = torch.ones(count, len(size)), torch.arange(len(size)).repeat(count, 1)
    return PatchGeometry(size, spacing_mm, axes, 3.0)


@pytest.mark.parametrize("size", [(12, 12), (12, 12, 8)], ids=["2D", "3D"])
def test_augmentation_is_the_cpus_and_waits_for_nothing(size):
    settings = Augmentation(**EVERYTHING)
    random = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, *[side + 8 for side in size], generator=random)
    labels = (images[:, 0] > 0.5).byte()

    def augmented(images, labels):
        draw = Draw(torch.Generator().manual_seed(1), 3)
        return augment(images, labels, settings, geometry(3, size), draw, [(1, 2)])

    expected = augmented(images.clone(), labels.clone())
    with pretended_gpu() as seen:
        found = augmented(*(part.to("cuda", non_blocking=True) for part in (images, labels)))
    assert seen.waits.total() == 0, seen.waits
    for part, right in zip(found, expected, strict=True):
        torch.testing.assert_close(part.inner, right, rtol=1e-4, atol=1e-4)


def test_synthesis_is_the_cpus_and_waits_for_nothing():
    size = (12, 12, 10)
    tissues = torch.randint(5, (2, 20, 20, 18), generator=torch.Generator().manual_seed(0)).byte()

    def synthesised(tissues, labels):
        draw = Draw(torch.Generator().manual_seed(1), 2)
        return synthesise(tissues, labels, Synthesis(), 2, geometry(2, size), [(1, 2)], draw)

    expected = synthesised(tissues, tissues.clone())
    with pretended_gpu() as seen:
        there = tissues.to("cuda", non_blocking=True)
        found = synthesised(there, there.clone())
    assert seen.waits.total() == 0, seen.waits
    for part, right in zip(found, expected, strict=True):
        torch.testing.assert_close(part.inner, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "window",
    [
        SlidingWindow((8, 8, 8), 3, mirror_axes=("right_left", "back_front"), pairs=[(1, 2)]),
        SlidingWindow((8, 8), 2, planes=("axial", "sagittal")),
    ],
    ids=["3D", "2D"],
)
def test_a_prediction_is_the_cpus(window):
    torch.manual_seed(0)
    layer = (torch.nn.Conv3d if window.dims == 3 else torch.nn.Conv2d)(1, 3, 3, padding=1)
    image = np.random.default_rng(0).normal(size=(1, 14, 12, 10)).astype(np.float32)
    expected = predict_volume(layer, image, 3, window, "cpu")
    with pretended_gpu() as seen:
        found = predict_volume(layer.to("cuda"), image, 3, window, "cuda")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The network, the image, and the probabilities at the end.
    assert seen.waits.total() <= 4, seen.waits


@pytest.mark.parametrize(
    "full",
    [
        torch.OutOfMemoryError("planted"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
    ],
    ids=["torch's", "cuDNN's", "no workspace"],
)
def test_a_volume_that_leaves_no_room_for_a_window_moves_to_the_cpu(full):
    """Out of memory in the softmax, as long as the volume is on the GPU too, whoever says so."""
    image = np.zeros((1, 12, 12, 12), np.float32)
    homes, softmax = [], torch.Tensor.softmax

    class Network(torch.nn.Module):
        def forward(self, windows):
            return torch.cat([windows, windows], 1)

    with pretended_gpu(), pytest.MonkeyPatch.context() as planted:
        from segstudy.networks import window as places

        zeros = places.zeros

        def noted(classes, shape, window, home):
            homes.append(home.type)
            return zeros(classes, shape, window, home)

        def filled(logits, *axes):
            if homes == ["cuda"]:
                raise full
            return softmax(logits, *axes)

        planted.setattr(places, "zeros", noted)
        planted.setattr(torch.Tensor, "softmax", filled)
        found = predict_volume(Network(), image, 2, SlidingWindow((8, 8, 8), 3), "cuda")
    assert homes == ["cuda", "cpu"]
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.long
def test_the_benchmark_runs_on_a_cpu_too():
    run = run_quickly("gpu", "--device", "cpu")
    assert run.returncode == 0, run.stderr
    assert "CPU: a smoke run, no measurement" in run.stdout
    assert "| segstudy | " in run.stdout
    assert "| sliding window | MONAI | " in run.stdout
