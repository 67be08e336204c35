"""What `auto` settles on, and what is refused before any training."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from segstudy.errors import InputError
from segstudy.images.plan import Plan
from segstudy.networks import build, patch_spacing, strides
from segstudy.planes import NORMAL_AXIS
from segstudy.study import AnyModel, EnetModel, SwinUnetrModel, TrainSettings, UnetModel
from segstudy.train import from_images, from_label_maps
from segstudy.train.memory import PATCH_VOXELS
from segstudy.train.resolve import automatic_patch, resolve


def plan(shape=(35, 51, 35), spacing=(1.0, 1.0, 1.0)):
    return Plan(spacing, "none", 0.0, "zscore", 3.0, (), median_shape=shape)


def resolved(model, training=("a", "b", "c"), device="cpu", **plan_settings):
    stage = TrainSettings(model=model, structures=("x",), channels=("image",), modality="MR")
    patches = {"images": from_images, "synth": from_label_maps}[model.trainer].Patches
    cases = [SimpleNamespace(dataset="toy", case=name) for name in training]
    return resolve(stage, plan(**plan_settings), patches(cases, []), fold=0, seed=0, device=device)


def test_a_small_median_case_is_covered_whole():
    # The patch that nnU-Net plans for the hippocampus, too.
    model = UnetModel(network="unet", channels=(8, 16, 32, 64))
    assert automatic_patch(model, plan(), "cpu") == (40, 56, 40)


def test_a_large_case_gets_equal_millimetres_within_the_budget():
    model = UnetModel(network="unet", channels=(8, 16, 32, 64))
    patch = automatic_patch(model, plan((300, 260, 120), (1.0, 1.0, 2.5)), "cpu")
    assert patch == (72, 72, 28)
    assert [size % step for size, step in zip(patch, (8, 8, 4), strict=True)] == [0, 0, 0]
    wide = automatic_patch(model, plan((300, 260, 120), (1.0, 1.0, 2.5)), "cuda")
    assert math.prod(wide) == pytest.approx(2**21, rel=0.15)


def test_a_thin_case_leaves_its_share_to_the_other_axes():
    model = UnetModel(network="unet", channels=(8, 16, 32))
    patch = automatic_patch(model, plan((400, 400, 10)), "cpu")
    assert patch[2] in (10, 12)
    assert patch[0] == patch[1] > 100


UNET, SMALL = {"network": "unet"}, {"feature_size": 4, "hidden_size": 8, "heads": 2}
NETWORKS = {
    "enet": {"network": "enet", "channels": 4},
    "unet": UNET,
    "unet_2d": UNET | {"dims": 2},
    "attention_unet": {"network": "attention_unet"},
    "attention_unet_2d": {"network": "attention_unet", "dims": 2},
    "unetr": {"network": "unetr"} | SMALL,
    "unetr_2d": {"network": "unetr", "dims": 2} | SMALL,
    "swin_unetr": {"network": "swin_unetr", "feature_size": 12, "depths": [1] * 4},
    "swin_unetr_2d": {"network": "swin_unetr", "feature_size": 12, "depths": [1] * 4, "dims": 2},
}
"""Every network, as narrow as it can be."""
PLANES = [("axial",), ("coronal",), ("sagittal",), ("axial", "coronal", "sagittal")]


def resolved_or_refused(name, levels, shape, spacing, planes, device):
    """What `auto` settles on, its patch checked; None where a median case is rightly refused."""
    given = dict(NETWORKS[name])
    if "unet" in (given["network"], given["network"].removeprefix("attention_")):
        given["channels"] = (4,) * levels
    if given.get("dims") == 2 or given["network"] == "enet":
        given["planes"] = planes
    model = TypeAdapter(AnyModel).validate_python(given)
    try:
        found = resolved(model, device=device, shape=shape, spacing=spacing)
    except InputError as refused:
        # The network would be refused on the whole median case, too.
        axes = [[a for a in range(3) if a != NORMAL_AXIS[p]] for p in model.planes]
        sizes = [max(shape[own[n]] for own in axes) for n in (0, 1)] if model.dims == 2 else shape
        with pytest.raises(InputError, match="can be halved"):
            strides(model, sizes, patch_spacing(spacing, model.dims, model.planes))
        assert "levels" in str(refused)
        return None
    steps = strides(model, found.patch_size, found.spacing_mm)
    assert all(size % step == 0 for size, step in zip(found.patch_size, steps, strict=True))
    assert math.prod(found.patch_size) > math.prod(steps)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.integers(2, 6),
    st.tuples(*[st.integers(4, 300)] * 3),
    st.tuples(*[st.sampled_from([0.5, 1.0, 2.0, 4.0]) | st.floats(0.4, 6)] * 3),
    st.sampled_from(PLANES),
    st.sampled_from(["cpu", "cuda"]),
)
def test_every_automatic_patch_is_one_that_its_network_takes(
    name, levels, shape, spacing, planes, device
):
    """Built for it, and run forward on tensors without data: deep supervision needs whole multiples."""
    found = resolved_or_refused(name, levels, shape, spacing, planes, device)
    if found is None:
        return
    network = build(found.model, 1, 2, found.patch_size, found.spacing_mm).to("meta").train()
    logits = network(torch.empty(2, 1, *found.patch_size, device="meta"))
    full = logits if isinstance(logits, torch.Tensor) else logits[0]
    assert full.shape == (2, 2, *found.patch_size)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [4, 5, 6, 7])
def test_no_automatic_patch_of_hundreds_of_plans_is_refused(levels):
    draw = np.random.default_rng(levels)
    for _ in range(300):
        resolved_or_refused(
            draw.choice(["unet", "unet_2d"]),
            levels,
            tuple(draw.integers(8, 400, 3).tolist()),
            tuple(np.exp(draw.uniform(np.log(0.4), np.log(6), 3)).tolist()),
            PLANES[draw.integers(4)],
            draw.choice(["cpu", "cuda"]),
        )


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.integers(16, 500)] * 3),
    st.tuples(*[st.floats(0.4, 6)] * 3),
    st.integers(2, 3),
    st.sampled_from(["cpu", "cuda"]),
)
def test_an_automatic_patch_suits_the_budget(shape, spacing, levels, device):
    model = UnetModel(network="unet", channels=(8,) * levels)
    patch = automatic_patch(model, plan(shape, spacing), device)
    assert math.prod(patch) <= 2.5 * PATCH_VOXELS[device][3]


def test_what_one_voxel_at_the_bottom_would_be_normalised_by():
    """A SwinUNETR of 32^3 and an ENet of 8 x 8 leave one voxel; the case's longest side gets two."""
    swin = SwinUnetrModel(network="swin_unetr")
    assert automatic_patch(swin, plan((30, 28, 20), (1.0, 1.0, 2.0)), "cpu") == (32, 32, 64)
    assert automatic_patch(swin, plan((30, 33, 20)), "cpu") == (32, 64, 32)
    assert automatic_patch(EnetModel(network="enet"), plan((7, 8, 8)), "cpu") == (8, 16)


def test_a_case_that_lacks_little_for_its_levels_is_padded():
    """Four levels take 32 voxels, which hold 28 with a margin, as five take 64 and hold 50."""
    for levels, size, expected in ((4, 28, 32), (5, 50, 64), (4, 26, 32)):
        model = UnetModel(network="unet", channels=(8,) * levels)
        assert automatic_patch(model, plan((size, size, 10)), "cpu") == (expected, expected, 10)
    with pytest.raises(InputError, match="24x24x10 voxels can be halved 2 times"):
        automatic_patch(UnetModel(network="unet"), plan((24, 24, 10)), "cpu")


def test_an_automatic_patch_grows_to_what_the_levels_need():
    """Five levels of a large isotropic image: 4 voxels at the last are 64 at the first."""
    model = UnetModel(network="unet", channels=(8,) * 5)
    assert automatic_patch(model, plan((180, 220, 180)), "cpu") == (64, 64, 64)
    with pytest.raises(InputError, match="can be halved 2 times"):
        automatic_patch(model, plan((20, 20, 20)), "cpu")


def test_a_2d_patch_holds_the_slices_of_all_its_planes():
    shape = (35, 51, 43)
    for planes, expected in [
        (("axial",), (40, 56)),
        (("coronal",), (40, 48)),
        (("axial", "coronal", "sagittal"), (56, 56)),
    ]:
        model = UnetModel(network="unet", dims=2, channels=(8,) * 4, planes=planes)
        assert automatic_patch(model, plan(shape), "cpu") == expected
    assert automatic_patch(EnetModel(network="enet"), plan(shape), "cpu") == (40, 56)


def test_steps_show_each_case_once_or_eight_slices_of_it():
    small = {"channels": (8, 16)}
    assert resolved(UnetModel(network="unet", **small)).steps_per_epoch == 2
    assert resolved(EnetModel(network="enet", batch_size=5)).steps_per_epoch == 5
    given = resolved(UnetModel(network="unet", steps_per_epoch=7, epochs=3, **small))
    assert (given.steps_per_epoch, given.steps) == (7, 21)


def test_few_label_maps_give_as_many_steps_as_many():
    """A generator's images are new in each step, so that ten maps must not mean ten steps an epoch."""
    drawn = UnetModel(network="unet", channels=(8, 16), trainer="synth")
    assert resolved(drawn).steps_per_epoch == 250
    many = tuple(str(number) for number in range(700))
    assert resolved(drawn, many).steps_per_epoch == 350
    given = drawn.model_copy(update={"steps_per_epoch": 7})
    assert resolved(given).steps_per_epoch == 7


@pytest.mark.parametrize(
    ("settings", "every"),
    [
        ({"epochs": 1000, "steps_per_epoch": 250}, 5),
        ({"epochs": 1000, "steps_per_epoch": 20}, 50),
        ({"epochs": 100, "steps_per_epoch": 20}, 10),
        ({"epochs": 20, "steps_per_epoch": 20}, 2),
        ({"epochs": 20, "steps_per_epoch": 2000}, 2),
        ({"epochs": 19, "steps_per_epoch": 20}, 1),
        ({"epochs": 8, "steps_per_epoch": 20}, 1),
        ({"epochs": 100, "steps_per_epoch": 20, "validate_every_epochs": 3}, 3),
    ],
)
def test_validations_are_five_epochs_apart_or_a_thousand_short_steps_and_ten_at_least(
    settings, every
):
    found = resolved(UnetModel(network="unet", channels=(8, 16), **settings))
    assert found.validate_every_epochs == found.to_dict()["validate_every_epochs"] == every


def test_a_patch_that_does_not_divide_is_refused_with_one_that_does():
    model = UnetModel(network="unet", channels=(8, 16, 32), patch_size=(30, 32, 32))
    with pytest.raises(InputError, match=r"patch_size: 30x32x32.*multiples of 4x4x4.*32x32x32"):
        resolved(model)


def test_a_fold_without_cases_is_refused():
    with pytest.raises(InputError, match="fold 0: no case to train on"):
        resolved(EnetModel(network="enet"), training=())


def test_the_digest_sees_what_shapes_the_weights_and_nothing_else():
    def digest(*further, **changes):
        return resolved(UnetModel(network="unet", channels=(8, 16), **changes)).digest(*further)

    assert digest() == digest(threads=7, device="cpu", memory_mb=5, infer={"weights": "best"})
    assert digest() != digest(batch_size=3)
    assert digest() != digest(augmentation={"noise_sd": 0.2})
    assert digest("data") != digest("other data")


def test_the_source_of_many_planes_is_large_enough_for_each():
    settings = {"dims": 2, "channels": (8, 16), "patch_size": (16, 16)}
    shape, spacing = (64, 64, 64), (1.0, 1.0, 2.0)
    sizes = {
        planes: resolved(
            UnetModel(network="unet", planes=planes, **settings), shape=shape, spacing=spacing
        ).source_size
        for planes in [("axial",), ("coronal",), ("axial", "coronal")]
    }
    assert sizes["axial", "coronal"] == tuple(
        max(pair) for pair in zip(sizes[("axial",)], sizes[("coronal",)], strict=True)
    )
