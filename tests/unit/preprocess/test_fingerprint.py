"""Fingerprints against values worked out from the planted image."""

from pathlib import Path

import numpy as np
import pytest

from orientations import TURNS, affine_of
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.preprocess.fingerprint import fingerprint, read_fingerprints, write_fingerprints
from segstudy.study import Cohort

SHAPE = (30, 28, 26)
CT, MR = (
    Cohort(modality=kind, structures={"one": 1, "three": 3}, background_labels=[7])
    for kind in ("CT", "MR")
)
TWO = MR.model_copy(update={"channels": ("t1", "t2")})


def plant(folder: Path, name="p", image=None, label=None, affine=None) -> Case:
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    image = draw.normal(100, 10, SHAPE) if image is None else image
    label = np.ones(image.shape[:3], np.uint8) if label is None else label
    affine = np.eye(4) if affine is None else affine
    write_nifti(folder / f"{name}.nii.gz", image.astype(np.float32), affine)
    write_label(folder / f"{name}-label.nii.gz", label, affine)
    return Case(name, name, (folder / f"{name}.nii.gz",), folder / f"{name}-label.nii.gz")


@pytest.mark.parametrize("turn", TURNS[::9])
def test_spacing_and_boxes_are_in_ras(tmp_path, turn):
    affine = affine_of(turn, (0.5, 1.5, 4.0))
    image = np.zeros(SHAPE)
    image[3:8, 10:20, 1:25] = 5
    found = fingerprint("d", plant(tmp_path, image=image, affine=affine), MR)
    order = [int(np.flatnonzero(row)[0]) for row in turn]
    assert found.spacing_mm == pytest.approx([(0.5, 1.5, 4.0)[axis] for axis in order])
    assert found.shape == tuple(SHAPE[axis] for axis in order)
    start, stop = found.boxes["nonzero"]
    assert tuple(np.subtract(stop, start)) == tuple((5, 10, 24)[axis] for axis in order)
    assert found.boxes["none"] == ((0, 0, 0), found.shape)


def test_moments_are_exact_and_the_sample_is_of_the_foreground(tmp_path):
    draw = np.random.default_rng(1)
    image = np.stack([draw.normal(100, 10, SHAPE), draw.normal(-5, 1, SHAPE)], axis=3).astype(
        np.float32
    )
    label = (draw.random(SHAPE) < 0.7).astype(np.uint8) * 3
    label[:, :, 20:] = 7  # a value that the study ignores is background
    image[(label == 0) | (label == 7)] = 9999
    found = fingerprint("d", plant(tmp_path, image=image, label=label), TWO)
    for index, channel in enumerate(found.channels):
        values = image[..., index][label == 3].astype(float)
        assert channel.voxels == len(values) > 10_000
        assert channel.mean == pytest.approx(values.mean(), rel=1e-9)
        assert channel.sum_of_squares == pytest.approx(values.var() * len(values), rel=1e-6)
        assert len(channel.sample) == 10_000
        assert set(channel.sample.tolist()) <= set(image[..., index][label == 3].tolist())
        assert np.mean(channel.sample) == pytest.approx(values.mean(), abs=4 * values.std() / 100)


def test_the_sample_depends_on_names_only(tmp_path):
    one, again = (fingerprint("d", plant(tmp_path / n), MR).channels[0].sample for n in "ab")
    other = fingerprint("d", plant(tmp_path, "q"), MR).channels[0].sample
    elsewhere = fingerprint("e", plant(tmp_path), MR).channels[0].sample
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one != elsewhere).any()


def test_ct_is_clipped_as_it_will_be_prepared(tmp_path):
    image = np.full(SHAPE, 40.0)
    image[0, 0, :10] = 31743
    image[0, 1, :10] = -30000
    case = plant(tmp_path, image=image)
    ct = fingerprint("d", case, CT).channels[0]
    count = image.size
    assert ct.mean == pytest.approx((40 * (count - 20) + 10 * 3071 - 10 * 1024) / count)
    assert fingerprint("d", case, MR).channels[0].mean != pytest.approx(ct.mean)


def test_the_file_is_read_as_it_was_written_and_has_the_same_bytes(tmp_path):
    found = [fingerprint("d", plant(tmp_path, name), MR) for name in ("p", "q")]
    for name in ("a.json", "b.json"):
        write_fingerprints(tmp_path / name, found)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for before, after in zip(found, read_fingerprints(tmp_path / "a.json"), strict=True):
        assert (after.case, after.spacing_mm, after.boxes) == (
            before.case,
            before.spacing_mm,
            before.boxes,
        )
        np.testing.assert_allclose(after.channels[0].sample, before.channels[0].sample, rtol=1e-5)
        assert after.channels[0].sum_of_squares == before.channels[0].sum_of_squares


@pytest.mark.parametrize("content", ["", "{}", "[{}]", "[1]", '[{"dataset": "d", "case": "c"}]'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(InputError, match=r"f\.json"):
        read_fingerprints(tmp_path / "f.json")


def test_unusable_cases_are_named(tmp_path):
    case = plant(tmp_path)
    write_label(case.label, np.ones((3, 3, 3), np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"p-label\.nii\.gz: shape \(3, 3, 3\).*case p"):
        fingerprint("d", case, MR)
    image = np.ones(SHAPE)
    image[1, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"p\.nii\.gz: voxels that are not finite \(case p\)"):
        fingerprint("d", plant(tmp_path, image=image), MR)


def test_an_empty_label_gives_no_intensities(tmp_path):
    found = fingerprint("d", plant(tmp_path, label=np.zeros(SHAPE, np.uint8)), CT)
    assert found.channels[0].voxels == 0
    write_fingerprints(tmp_path / "f.json", [found])
    assert len(read_fingerprints(tmp_path / "f.json")[0].channels[0].sample) == 0


def test_of_a_label_map_alone_what_is_labelled_is_the_box(tmp_path):
    label = np.zeros(SHAPE, np.uint8)
    label[3:8, 10:20, 1:25], label[4, 12, 3] = 7, 1
    planted = plant(tmp_path, label=label, affine=np.diag([-0.5, 1.5, 4.0, 1.0]))
    alone = Case(planted.case, planted.subject, (), planted.label)
    for cohort in (CT, MR, TWO):
        found = fingerprint("maps", alone, cohort)
        assert (found.spacing_mm, found.shape, found.channels) == ((0.5, 1.5, 4.0), SHAPE, ())
        assert found.boxes["body"] == found.boxes["nonzero"] == ((22, 10, 1), (27, 20, 25))
        assert found.boxes["none"] == ((0, 0, 0), SHAPE)
    write_fingerprints(tmp_path / "f.json", [found])
    assert read_fingerprints(tmp_path / "f.json") == [found]
