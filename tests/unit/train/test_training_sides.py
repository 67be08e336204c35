"""Left and right in training: a mirrored body shows each structure on the other side."""

import importlib.util

import numpy as np
import pytest
import torch

from segstudy.cases import Case, Labelled
from segstudy.errors import InputError
from segstudy.images.files import write_nifti
from segstudy.study import Augmentation, NnunetModel, TrainSettings
from segstudy.train.augment import augment
from segstudy.train.draw import Draw
from segstudy.train.nnunet import orientations, refuse_turned, remarks, right_left_axis
from segstudy.train.spatial import PatchGeometry

LEFT, RIGHT, MIDDLE = 1, 2, 3
NOTHING = {name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")}


def bodies(count, dims=3):
    """Images (count, 1, x, y, z) of which a network can tell the side: the left half is dark.

    In RAS the first axis runs to the right. Each has a left, a right and a middle structure.
    """
    labels = torch.zeros(count, 8, 6, 4, dtype=torch.uint8)
    labels[:, 1:3, 2:4] = LEFT
    labels[:, 5:7, 2:4] = RIGHT
    labels[:, 3:5, 0] = MIDDLE
    images = (labels > 0).float()[:, None]
    return images, labels


def of_one_side(labels):
    """For each patch the classes found in its lower and in its upper half along the first axis."""
    return [(set(p[:4].unique().tolist()), set(p[4:].unique().tolist())) for p in labels]


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_a_flip_across_the_sagittal_plane_swaps_the_pair(turned):
    images, labels = bodies(32)
    settings = Augmentation(
        **NOTHING | {"affine_probability": turned},
        rotation_deg=0,
        scale=(1, 1),
        flip_axes=("right_left", "foot_head"),
    )
    images[:, :, 0, 5] = 7.0  # a mark that tells a flipped patch
    out, found = augment(
        *(images, labels, settings),
        PatchGeometry((8, 6, 4), torch.ones(32, 3), torch.arange(3).repeat(32, 1), 3.0),
        Draw(torch.Generator().manual_seed(0), 32),
        pairs=[(LEFT, RIGHT)],
    )
    flipped = out[:, 0, 7, 5, 0] > 3
    assert 5 < flipped.sum() < 27
    # In every patch, flipped or not, the left structure lies on the left.
    assert of_one_side(found) == [({0, LEFT, MIDDLE}, {0, RIGHT, MIDDLE})] * 32
    assert torch.equal(found, labels), "the body is symmetric: a flip with its swap changes nothing"


def test_without_pairs_the_label_goes_along_as_it_is():
    images, labels = bodies(32)
    settings = Augmentation(**NOTHING, flip_axes=("right_left",))
    _, found = augment(
        *(images, labels, settings),
        PatchGeometry((8, 6, 4), torch.ones(32, 3), torch.arange(3).repeat(32, 1), 3.0),
        Draw(torch.Generator().manual_seed(0), 32),
    )
    assert ({0, RIGHT, MIDDLE}, {0, LEFT, MIDDLE}) in of_one_side(found)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)], ids=["axial", "coronal", "sagittal"])
def test_slices_swap_where_their_plane_shows_the_right_left_axis(axes):
    labels = torch.randint(0, 4, (64, 6, 6), dtype=torch.uint8)
    images = labels[:, None].float()
    settings = Augmentation(**NOTHING, flip_axes=("right_left", "back_front", "foot_head"))
    out, found = augment(
        *(images, labels, settings),
        PatchGeometry((6, 6), torch.ones(64, 2), torch.tensor([axes] * 64), 3.0),
        Draw(torch.Generator().manual_seed(0), 64),
        pairs=[(LEFT, RIGHT)],
    )
    shown = out[:, 0].round().to(torch.uint8)
    swapped = torch.tensor([0, RIGHT, LEFT, MIDDLE], dtype=torch.uint8)[shown.long()]
    kept = (found == shown).flatten(1).all(1)
    exchanged = (found == swapped).flatten(1).all(1)
    assert (kept ^ exchanged).all()
    mirrored = (shown == labels.flip(1)).flatten(1).all(1) | (shown == labels.flip(1, 2)).flatten(
        1
    ).all(1)
    assert torch.equal(exchanged, mirrored if 0 in axes else torch.zeros(64, dtype=torch.bool))


@pytest.mark.skipif(
    importlib.util.find_spec("batchgeneratorsv2") is None,
    reason="batchgeneratorsv2 is not installed (pip install 'segstudy[nnunet]')",
)
def test_nnunets_mirroring_mixes_sides():
    """Its mirrored body wears the left structure's label on the right; ours never does."""
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform

    np.random.seed(0)
    images, labels = bodies(1)
    mirror = MirrorTransform(allowed_axes=(0, 1, 2))
    found = [
        mirror(image=images[0].clone(), segmentation=labels.clone())["segmentation"][0]
        for _ in range(32)
    ]
    wrong = sum(RIGHT in low or LEFT in high for low, high in of_one_side(found))
    assert 5 < wrong < 27


def settings_of(mirror="all", pairs=(("kidney_l", "kidney_r"),)):
    return TrainSettings(
        model=NnunetModel(network="nnunet", mirror=mirror),
        structures=("kidney_l", "kidney_r"),
        channels=("image",),
        modality="CT",
        left_right_pairs=pairs,
    )


def test_nnunet_that_mixes_sides_leaves_a_remark():
    assert "kidney_l and kidney_r may be on either side" in remarks(settings_of())[0]
    assert not remarks(settings_of("auto"))
    assert not remarks(settings_of("not_right_left"))
    assert not remarks(settings_of("none"))
    assert not remarks(settings_of(pairs=()))


def case(folder, name, orientation):
    """An image whose axes point where `orientation` says, e.g. LPS."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        world = ["RL", "AP", "SI"].index(next(p for p in ("RL", "AP", "SI") if letter in p))
        affine[world, axis] = 1 if letter in "RAS" else -1
    path = folder / f"{name}.nii.gz"
    write_nifti(path, np.zeros((3, 4, 5), np.float32), affine)
    return Labelled("site", Case(name, name, (path,), path), {})


def plan_of(transpose, configuration="3d_fullres"):
    return {"plans": {"transpose_forward": transpose}, "configuration": configuration}


@pytest.mark.parametrize(
    ("orientation", "transpose", "configuration", "axis"),
    [
        ("RAS", [0, 1, 2], "3d_fullres", 2),  # arrays are (z, y, x)
        ("LPS", [0, 1, 2], "3d_fullres", 2),
        ("PIR", [0, 1, 2], "3d_fullres", 0),
        ("RAS", [2, 0, 1], "3d_fullres", 0),
        ("RAS", [0, 1, 2], "2d", 1),
        ("RAS", [2, 0, 1], "2d", None),  # sagittal slices
        ("ALS", [1, 0, 2], "2d", None),
    ],
)
def test_the_right_left_axis_of_nnunets_patches(
    tmp_path, orientation, transpose, configuration, axis
):
    cases = [case(tmp_path, f"p{n}", orientation) for n in range(2)]
    assert right_left_axis(plan_of(transpose, configuration), cases) == axis


def test_files_of_different_axes_are_refused(tmp_path):
    cases = [case(tmp_path, "one", "RAS"), case(tmp_path, "other", "PIR")]
    with pytest.raises(
        InputError, match="axis i in the files of site/one and k in those of site/o"
    ):
        right_left_axis(plan_of([0, 1, 2]), cases)


def test_files_that_run_to_different_sides_are_refused(tmp_path):
    """nnU-Net would see the left structure on the right in some of them."""
    cases = [case(tmp_path, name, way) for name, way in (("a", "LPS"), ("b", "LAS"), ("c", "RAS"))]
    refuse_turned(cases[:2])
    with pytest.raises(
        InputError, match="to the right in the file of site/c and to the left in that of site/a"
    ):
        refuse_turned(cases)
    assert orientations([*cases, cases[2]])[0] == "RAS"
    assert sorted(orientations(cases)) == ["LAS", "LPS", "RAS"]
