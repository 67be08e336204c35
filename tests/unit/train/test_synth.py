"""The generator of training images, against closed forms, planted maps and a peer's interpolation."""

import csv
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark_runs import run_quickly
from segstudy.cli import main
from segstudy.files import write_json
from segstudy.images.arrays import open_arrays, write_tissues
from segstudy.networks.weights import load_weights
from segstudy.study import Loss, Synthesis, UnetModel
from segstudy.train import fit, synth
from segstudy.train.draw import Draw
from segstudy.train.spatial import PatchGeometry

STILL = Synthesis(
    rotation_deg=0,
    shear=0,
    scale=(1, 1),
    elastic_sd_mm=0,
    left_right_probability=0,
    zero_background_probability=0,
    bias_field_sd=0,
    gamma_sd=0,
    low_resolution_probability=0,
    shift_sd=0,
    gain=(1, 1),
)
"""Nothing but grey values."""


def still(**changes) -> Synthesis:
    return STILL.model_copy(update=changes)


def blocks(shape=(24, 20, 16), count=2) -> torch.Tensor:
    """Maps of four blocks along the first two axes, and a background frame."""
    label = np.zeros(shape, np.uint8)
    middle = [size // 2 for size in shape]
    label[2:-2, 2:-2, 2:-2] = 1
    label[middle[0] : -2, 2:-2, 2:-2] += 1
    label[2:-2, middle[1] : -2, 2:-2] += 2
    return torch.from_numpy(label)[None].repeat(count, 1, 1, 1)


def drawn(tissues, of: Synthesis, *, labels=None, seed=0, patch=None, pairs=(), channels=1,
          spacing_mm=(1.0, 1.0, 1.0)):  # fmt: skip
    count, *source = tissues.shape
    return synth.synthesise(
        tissues,
        tissues if labels is None else labels,
        of,
        channels,
        PatchGeometry(
            patch or source,
            torch.tensor([spacing_mm] * count),
            torch.tensor([[0, 1, 2]] * count),
            3.0,
        ),
        pairs,
        Draw(torch.Generator().manual_seed(seed), count),
    )


def test_a_map_that_is_not_moved_stays_as_it_is():
    tissues = blocks()
    _, labels = drawn(tissues, STILL)
    assert torch.equal(labels, tissues)
    _, inner = drawn(tissues, STILL, patch=(16, 12, 8))
    assert torch.equal(inner, tissues[:, 4:-4, 4:-4, 4:-4])


def test_each_tissue_has_a_mean_and_sd_of_its_own_in_each_image_and_channel():
    tissues = blocks((40, 40, 40))
    images, _ = drawn(tissues, still(sd=(0.05, 0.05)), channels=2)
    assert images.shape == (2, 2, 40, 40, 40)
    means = torch.stack(
        [images[:, :, tissues[0] == tissue].mean(-1) for tissue in range(5)], dim=-1
    )
    sds = torch.stack([images[:, :, tissues[0] == tissue].std(-1) for tissue in range(5)], dim=-1)
    apart = means.flatten(0, 1)
    assert ((apart[:, None] - apart[None]).abs().amax(-1) + torch.eye(4) > 0.2).all()
    # One scale for all of an image, so the tissues' equal SDs stay equal.
    assert torch.allclose(sds, sds.mean(-1, keepdim=True).expand_as(sds), rtol=0.05)


def test_grey_values_are_gaussian():
    tissues = torch.ones(1, 40, 40, 40, dtype=torch.uint8)
    images, _ = drawn(tissues, still(sd=(0.1, 0.1)))
    assert stats.kstest(images.flatten().numpy(), "norm").pvalue > 0.01


def test_an_image_has_mean_0_and_sd_1():
    images, _ = drawn(blocks(), Synthesis(shift_sd=0, gain=(1, 1), zero_background_probability=0))
    assert torch.allclose(images.mean((2, 3, 4)), torch.zeros(2, 1), atol=1e-4)
    assert torch.allclose(images.std((2, 3, 4)), torch.ones(2, 1), atol=1e-3)


def test_a_background_of_zeros_stays_0_and_is_left_out_of_mean_and_sd():
    tissues = blocks()
    images, _ = drawn(tissues, still(zero_background_probability=1))
    assert (images[:, 0][tissues == 0] == 0).all()
    for image, tissue in zip(images[:, 0], tissues, strict=True):
        inside = image[tissue > 0]
        assert abs(float(inside.mean())) < 1e-4
        assert float(inside.std()) == pytest.approx(1, abs=1e-3)


def test_sides_are_swapped_in_image_and_label():
    """A mirrored map whose classes are swapped back is the map itself, where it is symmetric."""
    tissues = torch.zeros(8, 20, 12, 12, dtype=torch.uint8)
    tissues[:, 2:9, 2:8, 2:8] = 1  # left
    tissues[:, 11:18, 2:8, 2:8] = 1  # right: looks the same
    labels = tissues.clone()
    labels[:, 11:18] *= 2
    pairs = [(1, 2)]
    images, found = drawn(
        tissues, still(left_right_probability=1, sd=(0, 0)), labels=labels, pairs=pairs
    )
    assert torch.equal(found, labels)
    assert torch.equal(images, images.flip(2))
    # Without pairs nothing is mirrored: which side is which would be lost.
    lop = labels.clone()
    lop[:, 11:18] = 0
    _, same = drawn(lop, still(left_right_probability=1), pairs=())
    assert torch.equal(same, lop)
    _, other = drawn(lop, still(left_right_probability=1), pairs=pairs)
    assert torch.equal(other, labels * (labels == 2))


def test_the_same_seed_gives_the_same_images_and_another_seed_others():
    tissues = blocks()
    one, again, other = (drawn(tissues, Synthesis(), seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_slices_work_like_volumes():
    images, labels = synth.synthesise(
        blocks()[:, :, :, 8],
        blocks()[:, :, :, 8],
        Synthesis(),
        1,
        PatchGeometry((16, 16), torch.ones(2, 2), torch.tensor([[0, 1]] * 2), 3.0),
        (),
        Draw(torch.Generator().manual_seed(0), 2),
    )
    assert images.shape == (2, 1, 16, 16) and labels.shape == (2, 16, 16)


# --- deformation ---------------------------------------------------------------------------------


def test_the_elastic_deformation_never_folds(monkeypatch):
    """However wild the shifts, the Jacobian of the map is above 0 everywhere."""
    seen = []
    monkeypatch.setattr(synth, "nearest", lambda both, places: seen.append(places) or both)
    tissues = torch.zeros(4, 40, 40, 40, dtype=torch.uint8)
    drawn(tissues, still(elastic_sd_mm=1000, elastic_spacing_mm=10))
    places = seen[0].flip(1)  # along the first axis first
    gradients = torch.stack(
        [torch.stack(torch.gradient(places[:, axis], dim=(1, 2, 3)), -1) for axis in range(3)],
        dim=-2,
    )
    assert float((places[0] - places[1]).abs().max()) > 3  # it moved
    assert float(torch.linalg.det(gradients).min()) > 0


@pytest.mark.parametrize("own", [(1.0, 1.0), (1.0, 3.0), (3.0, 1.0)])
def test_a_slices_deformation_is_that_of_its_own_pixels(own, monkeypatch):
    """However large the others' of its batch are: SD of 2 mm, as a spline whose points are bounded has it."""
    seen = []
    monkeypatch.setattr(synth, "nearest", lambda both, places: seen.append(places) or both)
    spacing_mm = torch.tensor([own, (1.0, 1.0), (1.0, 3.0), (3.0, 1.0)]).repeat(300, 1)
    count, size = len(spacing_mm), (24, 24)
    tissues = torch.zeros(count, *size, dtype=torch.uint8)
    of = still(elastic_sd_mm=2, elastic_spacing_mm=25)
    synth.deform(
        *(tissues, tissues, of),
        PatchGeometry(size, spacing_mm, torch.tensor([[0, 1]] * count), 3.0),
        (),
        Draw(torch.Generator().manual_seed(0), count),
    )
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 2, indexing="ij"))
    moved = (seen[0].flip(1) - grid)[::4] * torch.tensor(own).view(2, 1, 1)
    # Coefficients of SD 2 mm, cut off at 0.4 control spacings times the spline's own SD.
    edge = 0.4 * 25 * (151 / 315) / 2
    inside = stats.norm.cdf(edge) - stats.norm.cdf(-edge)
    variance = inside - 2 * edge * stats.norm.pdf(edge) + edge**2 * (1 - inside)
    for axis in range(2):
        assert moved[:, axis].std().item() == pytest.approx(2 * variance**0.5, rel=0.06)
        # Of slopes, by mm: those of a spline whose points are 25 mm apart.
        for along, pixel_mm in enumerate(own):
            slope = moved[:, axis].diff(dim=along + 1).div(pixel_mm).square().mean().item()
            expected = 4 * variance * 2 / 3 / (151 / 315) / 25**2
            assert slope == pytest.approx(expected, rel=0.12)


def test_what_moves_into_a_patch_is_read():
    """A map without background, read as large as asked, leaves none in the patch."""
    of = still(rotation_deg=20, scale=(0.8, 1.2), elastic_sd_mm=2, elastic_spacing_mm=12)
    for spacing_mm in ((1.0, 1.0, 1.0), (1.0, 1.0, 2.5), (4.0, 4.0, 4.0)):
        source = synth.source_size((24, 20, 16), of, spacing_mm, 3.0)
        full = torch.ones(16, *source, dtype=torch.uint8)
        _, labels = drawn(full, of, patch=(24, 20, 16), spacing_mm=spacing_mm)
        assert float((labels == 0).float().mean()) < 1e-3
    assert synth.source_size((24, 20, 16), STILL, (1.0, 1.0, 1.0), 3.0) == (24, 20, 16)


# --- resolution ---------------------------------------------------------------------------------


@given(st.integers(10, 80), st.floats(1, 8), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_slices_keep_what_is_equal_and_between_extremes(size, distance, share):
    matrix = synth.slices(size, distance, 1 + share * (distance - 1))
    assert torch.allclose(matrix.sum(1), torch.ones(size), atol=1e-5)
    assert float(matrix.min()) >= 0


def test_slices_hold_no_more_than_their_number():
    """Each value between slices is a mix of those two, so the matrix has their number as rank."""
    matrix = synth.slices(60, 5.0, 5.0)
    assert torch.linalg.matrix_rank(matrix) == 12
    wave = torch.cos(torch.arange(60.0) * torch.pi)  # as fine as voxels can hold
    assert float((matrix @ wave)[15:-15].abs().max()) < 0.001  # borders see half a slice


def test_resolution_is_lost_along_the_axes_that_are_chosen():
    of = still(low_resolution_probability=1)
    found = synth.resolution(
        (32, 32, 32), torch.ones(64, 3), of, Draw(torch.Generator().manual_seed(1), 64)
    )
    same = torch.stack([(axis == torch.eye(32)).all(1).all(1) for axis in found], dim=1)
    along = (~same).sum(1).tolist()
    assert set(along) == {1, 3}
    assert 16 < along.count(3) < 48
    none = synth.resolution((32, 32, 32), torch.ones(4, 3), STILL, Draw(torch.Generator(), 4))
    assert none == [None, None, None]


@pytest.mark.parametrize(("isotropic", "between_slices"), [(4.0, 8.0), (2.0, 5.0)])
def test_resolution_is_lost_down_to_the_spacing_asked_for(monkeypatch, isotropic, between_slices):
    """From voxels of 1 mm, uniformly to either limit: along all axes alike, or along one of them."""
    distances = []
    monkeypatch.setattr(
        synth, "slices", lambda size, distance, _: distances.append(distance) or torch.eye(size)
    )
    of = still(
        low_resolution_probability=1,
        max_isotropic_spacing_mm=isotropic,
        max_slice_spacing_mm=between_slices,
    )
    synth.resolution((4, 4, 4), torch.ones(800, 3), of, Draw(torch.Generator().manual_seed(0), 800))
    along = np.reshape(distances, (3, 800))
    alike = (along > 1).all(0)
    np.testing.assert_array_equal(along[:, alike], along[:1, alike].repeat(3, 0))
    for found, limit in ((along[0, alike], isotropic), (along.max(0)[~alike], between_slices)):
        assert stats.kstest(found, stats.uniform(1, limit - 1).cdf).pvalue > 0.01
    assert ((along[:, ~alike] > 1).sum(0) == 1).all()


def test_the_bias_field_is_smooth_and_as_strong_as_asked():
    tissues = torch.ones(6, 48, 48, 48, dtype=torch.uint8)
    of = still(mean=(1, 1), sd=(0, 0), bias_field_sd=0.5, bias_field_spacing_mm=40)
    images, _ = drawn(tissues, of)
    step = max(float(part.abs().max()) for part in torch.gradient(images[:, 0], dim=(1, 2, 3)))
    assert step < 0.5 and float(images.std()) == pytest.approx(1, abs=1e-3)


# --- a training ---------------------------------------------------------------------------------

TRAINED = {
    "trainer": "synth",
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 16],
    "epochs": 2,
    "steps_per_epoch": 3,
    "validate_every_epochs": 1,
    "device": "cpu",
}


@pytest.fixture
def words(cohort, tmp_path):
    """The command line of a training on the label maps of the toy cohort, whose arrays are gone."""
    folder = tmp_path / "tissues"
    folder.mkdir()
    for case in open_arrays(cohort.shards).values():
        write_tissues(folder, case.dataset, case.case, case.spacing_mm, case.label[...], 2, [1, 2])
    plan = replace(cohort.plan, normalise="zscore", intensities=())
    write_json(cohort.folder / "plan.json", plan.to_dict())

    def words(output, **changes):
        found = cohort.words(output, {**TRAINED, **changes})
        first, last = found.index("--arrays"), found.index("--splits")
        return [*found[:first], "--tissues", str(folder), *found[last:]]

    return words


def test_a_training_leaves_the_same_bytes_again_and_needs_no_image(
    words, cohort, tmp_path, own_torch
):
    for path in (cohort.folder / "arrays").rglob("*.*"):
        path.unlink()
    for name in ("one", "again"):
        assert main(words(tmp_path / name)) == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(files) == {"weights.pt", "best.pt", "history.csv", "settings.json", "samples.npz"}
    for name in ("weights.pt", "best.pt", "samples.npz"):
        assert files[name] == (tmp_path / "again" / name).read_bytes()
    with (tmp_path / "one" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["validation_dice_mean"]) <= 1 for row in rows)
    assert load_weights(tmp_path / "one" / "weights.pt").model.trainer == "synth"


def test_a_training_that_was_stopped_ends_with_the_same_bits(
    words, tmp_path, own_torch, monkeypatch
):
    assert main(words(tmp_path / "whole")) == 0
    step = fit.Trainer.step

    def stopping(self, number, batch):
        if number == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Trainer, "step", stopping)
        with pytest.raises(SystemExit):
            main(words(tmp_path / "halves"))
    assert (tmp_path / "halves" / "checkpoint").is_dir()
    main(words(tmp_path / "halves"))
    one, other = (tmp_path / name / "weights.pt" for name in ("whole", "halves"))
    assert one.read_bytes() == other.read_bytes()


def test_slices_and_several_networks_train(words, tmp_path, own_torch):
    main(words(tmp_path / "flat", network="enet", dims=2, patch_size=[16, 16], channels=8,
               planes=["axial", "coronal"]))  # fmt: skip
    with np.load(tmp_path / "flat" / "samples.npz") as drawn:
        assert drawn["images"].shape == (5, 16, 16)


def test_the_loss_is_dice_alone_unless_another_is_given():
    of = {"network": "unet", "trainer": "synth"}
    assert UnetModel.model_validate(of).loss == Loss(dice=1, cross_entropy=0)
    given = UnetModel.model_validate({**of, "loss": {"focal": 1}}).loss
    assert given == Loss(focal=1)
    assert UnetModel(network="unet").loss == Loss()


def test_what_is_missing_is_named(words, cohort, tmp_path, capsys):
    found = words(tmp_path / "out")
    at = found.index("--tissues")
    assert main(found[:at] + found[at + 2 :]) == 1
    assert "--tissues is missing; trainer: synth needs it" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("synthesis", "| 32^3 | 45 | segstudy |"),
        ("contrast", "| PD | synthetic |"),
        ("mirroring", "| painted T1 | side-aware flips |"),
    ],
)
def test_the_benchmarks_run(name, row):
    run = run_quickly(name)
    assert run.returncode == 0, run.stdout + run.stderr
    assert row in run.stdout
