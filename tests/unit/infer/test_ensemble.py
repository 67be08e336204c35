"""Several networks as one: means by hand, names of structures, other grids, what is held in memory."""

import contextlib
import gc
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark_runs import run_quickly
from segstudy.errors import InputError
from segstudy.images.files import read_image, read_label
from segstudy.infer import ensemble as together
from segstudy.infer import image as own
from segstudy.infer.ensemble import Ensemble, ensemble
from segstudy.infer.outside import predict_images
from segstudy.infer.postprocess import Choice
from segstudy.infer.predict import choice_names, refuse_leaks
from segstudy.networks.weights import Trained, load_weights
from segstudy.study import NnunetModel

CPU = torch.device("cpu")
VALUES = {"shell": 1, "core": 2}
NEVER = dict.fromkeys(VALUES, Choice(False))


@pytest.fixture
def member(tmp_path, write_weights):
    """Load a network that compares brightness with two levels, with other settings or another plan where asked."""

    def load(plan=None, **settings):
        trained = load_weights(write_weights(tmp_path / "member.pt", **settings))
        return replace(trained, plan=trained.plan | (plan or {}))

    return load


def constant(trained, probabilities):
    """A network that gives these probabilities (background, shell, core) everywhere."""
    with torch.no_grad():
        head = trained.network.heads[0]
        head.weight.zero_()
        head.bias.copy_(torch.log(torch.tensor(probabilities)))
    return trained


def mean_of(trained, path):
    """Mean probabilities (class, i, j, k) on the image's own grid, and classes."""
    seen, way = together.read(trained, [path])
    predicted = together.probabilities(trained, seen, CPU)
    return together.restore_probabilities(predicted, way), together.restore(predicted, way).array


def test_identical_members_give_the_bytes_of_one(tmp_path, member, write_image, oblique):
    one = member()
    images = {"scan": (write_image(tmp_path / "scan.nii.gz", oblique[0]),)}
    five = ensemble([one] * 5, list("abcde"))
    assert isinstance(five, Ensemble)
    for name, trained in (("one", one), ("five", five)):
        predict_images(trained, images, VALUES, NEVER, CPU, tmp_path / name)
    written = [(tmp_path / name / "scan.nii.gz").read_bytes() for name in ("one", "five")]
    assert written[0] == written[1]
    assert set(np.unique(read_label(tmp_path / "five/scan.nii.gz").array)) == {0, 1, 2}
    assert ensemble([one], ["a"]) is one


@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 1.5), (2.0, 2.0, 2.5)])
def test_the_mean_by_hand(tmp_path, member, write_image, oblique, spacing_mm):
    """On one grid and on two: (0.5, 0.3, 0.2) and (0.1, 0.2, 0.7) are (0.3, 0.25, 0.45) on average."""
    path = write_image(tmp_path / "scan.nii.gz", oblique[0])
    one = constant(member(), [0.5, 0.3, 0.2])
    other = constant(member({"spacing_mm": list(spacing_mm)}), [0.1, 0.2, 0.7])
    mean, classes = mean_of(ensemble([one, other], ["a", "b"]), path)
    assert mean.shape == (3, *read_image([path]).grid.shape)
    for found, expected in zip(mean, (0.3, 0.25, 0.45), strict=True):
        assert found == pytest.approx(np.full(found.shape, expected), abs=2e-6)
    assert (classes == 2).all()


def test_three_members_in_two_groups_count_alike(tmp_path, member, write_image, oblique):
    path = write_image(tmp_path / "scan.nii.gz", oblique[0])
    members = [
        constant(member(), [0.6, 0.3, 0.1]),
        constant(member({"spacing_mm": [2.0, 2.0, 2.0]}), [0.0001, 0.0999, 0.9]),
        constant(member(), [0.9, 0.05, 0.05]),
    ]
    mean, _ = mean_of(ensemble(members, list("abc")), path)
    for found, expected in zip(mean, (0.5000333, 0.1499667, 0.35), strict=True):
        assert found == pytest.approx(np.full(found.shape, expected), abs=2e-6)


def test_on_other_grids_structures_stay_in_place(tmp_path, member, write_image, oblique):
    """Two grids, and outside a crop all is background; the ball is found where it is."""
    image, truth, _ = oblique
    path = write_image(tmp_path / "scan.nii.gz", image)
    cropped = member({"crop": "nonzero", "spacing_mm": [1.2, 1.2, 1.2]})
    mean, classes = mean_of(ensemble([member(), cropped], ["a", "b"]), path)
    assert mean.sum(axis=0) == pytest.approx(np.ones(truth.shape), abs=1e-5)
    assert mean.min() >= 0
    assert (classes != truth).mean() < 0.01
    assert (mean.argmax(axis=0) == classes).all()


def test_probabilities_of_one_network_agree_with_its_labels(tmp_path, member, write_image, oblique):
    path = write_image(tmp_path / "scan.nii.gz", oblique[0])
    trained = member()
    array, way = own.read(trained, [path])
    predicted = own.probabilities(trained, array, CPU)
    native = own.restore_probabilities(predicted, way)
    labels = own.restore(predicted, way).array
    assert native.sum(axis=0) == pytest.approx(np.ones(labels.shape), abs=1e-5)
    assert (native.argmax(axis=0) != labels).mean() < 1e-3


def test_structures_go_by_their_names(tmp_path, member, write_image, oblique):
    """A member whose classes stand in the other order, mirrored at test time with a pair, too."""
    path = write_image(tmp_path / "scan.nii.gz", oblique[0])
    one = constant(member(), [0.2, 0.7, 0.1])
    turned = constant(member(), [0.2, 0.1, 0.7])
    turned = replace(turned, structures=("core", "shell"))
    mean, classes = mean_of(ensemble([one, turned], ["a", "b"]), path)
    for found, expected in zip(mean, (0.2, 0.7, 0.1), strict=True):
        assert found == pytest.approx(np.full(found.shape, expected), abs=2e-6)
    assert (classes == 1).all()
    # Mirrored from right to left, a network that knows sides gives 0.7 and 0.1 to each of a pair in turn.
    sided = replace(
        constant(member(infer={"mirror_axes": ["right_left"]}), [0.2, 0.1, 0.7]),
        structures=("core", "shell"),
        left_right_pairs=(("core", "shell"),),
    )
    single, _ = mean_of(ensemble([sided, sided], ["a", "b"]), path)
    array, way = own.read(sided, [path])
    alone = own.restore_probabilities(own.probabilities(sided, array, CPU), way)
    assert single == pytest.approx(alone, abs=2e-6)


def test_members_that_do_not_fit_are_refused(member):
    one = member()
    with pytest.raises(
        InputError, match=r"^b: structures shell, lung; a has shell, core: expected"
    ):
        ensemble([one, replace(one, structures=("shell", "lung"))], ["a", "b"])
    with pytest.raises(InputError, match=r"^b: sees the channels t2; a c0: expected the same"):
        ensemble([one, replace(one, channels=("t2",))], ["a", "b"])


def test_a_member_that_gives_no_numbers_is_named(tmp_path, member, write_image, oblique):
    path = write_image(tmp_path / "scan.nii.gz", oblique[0])
    broken = constant(member(), [float("nan")] * 3)
    with pytest.raises(InputError, match="logits that are not finite"):
        mean_of(ensemble([member(), broken], ["a", "b"]), path)


def test_no_more_volumes_are_alive_than_with_one_member(
    tmp_path, member, write_image, oblique, monkeypatch
):
    """Counted in each window: arrays and tensors of the size of the probabilities, or of a normalised image."""
    path = write_image(tmp_path / "scan.nii.gz", np.pad(oblique[0], ((0, 0), (0, 30), (0, 30))))
    members = [member() for _ in range(5)]
    for number, one in enumerate(members):
        # As folds have it: one grid, each with intensities of its own.
        one.plan["intensities"] = [{"low": 0, "high": 1000, "mean": number, "sd": 1000}]
    seen, before = [], set()

    def storages() -> dict[int, int]:
        gc.collect()
        sizes = {}
        for one in gc.get_objects():
            # Sparse and symbolic tensors, which other tests may have left alive, have no storage.
            with contextlib.suppress(RuntimeError):
                if issubclass(type(one), torch.Tensor):
                    sizes[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        return sizes

    def alive(voxels: int) -> tuple[int, int]:
        """Volumes of torch's, each storage once, and of numpy's that are held; each of the image's size or more."""
        new = {place: size for place, size in storages().items() if place not in before}
        sizes = {place: size for place, size in new.items() if size >= 4 * voxels}
        arrays = [one.size for one in tracemalloc.take_snapshot().traces if one.size >= 4 * voxels]
        return sum(sizes.values()) // (4 * voxels), sum(arrays) // (4 * voxels)

    real = together.add_prediction

    def counted(network, source, total, *more):
        real(network, source, total, *more)
        seen.append((alive(total[0].numel()), weakref.ref(source)))

    monkeypatch.setattr(together, "add_prediction", counted)
    trained = ensemble(members, list("abcde"))
    before |= set(storages())  # of other tests
    tracemalloc.start()
    try:
        shown, _ = together.read(trained, [path])
        together.probabilities(trained, shown, CPU)
    finally:
        tracemalloc.stop()
    assert len(seen) == 5
    # Torch: an image of one channel, which is numpy's, and the sums of three classes. Numpy: the image, prepared and normalised.
    assert {number for number, _ in seen} == {(1 + 3, 2)}
    assert all(source() is None for _, source in seen)


def test_a_leak_of_any_member_is_refused(tmp_path, write_weights):
    seen = ((["s/a", "s/b"], ["s/c"]), (["s/a"], ["s/d"]))
    members = [
        load_weights(
            write_weights(tmp_path / f"{n}.pt", seen=one, infer={"keep_largest_component": "auto"})
        )
        for n, one in enumerate(seen)
    ]
    trained = ensemble(members, ["one.pt", "two.pt"])
    refuse_leaks(trained, 0, "s", ["e"])
    with pytest.raises(InputError, match="tests s/d, which the weights were trained on"):
        refuse_leaks(trained, 0, "s", ["e", "d"])
    with pytest.raises(InputError, match=r"--weights one\.pt: trained for fold 0, but --fold is 1"):
        refuse_leaks(trained, 1, "s", ["e"])
    # Post-processing is chosen on cases that all of them had on the training side.
    assert choice_names(trained) == ["s/a"]


NNUNET_PLAN = {
    "dataset_name": "Dataset001_Balls",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [2.5, 1.3, 0.9],
    "original_median_shape_after_transp": [26, 55, 70],
    "image_reader_writer": "NibabelIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "experiment_planner_used": "ExperimentPlanner",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {"0": {}},
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [16, 32, 32],
            "median_image_size_in_voxels": [26, 40, 40],
            "spacing": [2.5, 1.8, 1.8],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [4, 8],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
            "batch_dice": False,
        }
    },
}  # fmt: skip


def of_nnunet(structures):
    """A small network of nnU-Net's with fresh weights, as `trainer: nnunet` leaves one."""
    from segstudy.networks.nnunet import build_from_plan

    torch.manual_seed(7)
    plan = {
        "plans": NNUNET_PLAN,
        "dataset": {
            "channel_names": {"0": "MR"},
            "labels": {"background": 0} | {name: n for n, name in enumerate(structures, 1)},
            "file_ending": ".nii.gz",
        },
        "configuration": "3d_fullres",
        "mirroring_axes": None,
        "spacing_mm": [2.5, 1.8, 1.8],
    }
    network = build_from_plan(plan, 1, 3).eval()
    model = NnunetModel(network="nnunet", device="cpu", infer={"mirroring": False})
    return Trained(network, model, structures, ("c0",), plan, (16, 32, 32), {"fold": 0})


def test_networks_of_nnunets_are_members(tmp_path, member, write_image, oblique):
    """Averaged on the image's own grid, as nnU-Net exports them; alone twice, its own labels."""
    pytest.importorskip("nnunetv2")
    from segstudy.infer import nnunet

    path = write_image(tmp_path / "scan.nii.gz", oblique[0])
    theirs = of_nnunet(("core", "shell"))
    array, way = nnunet.read(theirs, [path])
    logits = nnunet.probabilities(theirs, array, CPU)
    alone = nnunet.restore_probabilities(logits, way)
    assert alone.sum(axis=0) == pytest.approx(np.ones(oblique[1].shape), abs=1e-5)
    mean, classes = mean_of(ensemble([theirs, theirs], ["a", "b"]), path)
    assert mean == pytest.approx(alone, abs=1e-6)
    assert (classes != nnunet.restore(logits, way).array).mean() < 1e-4
    mixed, _ = mean_of(ensemble([constant(member(), [0.5, 0.3, 0.2]), theirs], ["a", "b"]), path)
    # The other way round: classes are in the first member's order, shell and core.
    assert mixed[0] == pytest.approx((0.5 + alone[0]) / 2, abs=1e-5)
    assert mixed[1] == pytest.approx((0.3 + alone[2]) / 2, abs=1e-5)
    assert mixed[2] == pytest.approx((0.2 + alone[1]) / 2, abs=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_the_benchmark_runs():
    run = run_quickly("ensemble")
    assert run.returncode == 0, run.stderr
    assert "target memory of five beside one: " in run.stdout
