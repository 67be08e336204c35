"""Arrays on disk: what was written is read, in part or whole; damage is noticed; bytes are the same."""

import itertools
import json
import math
import multiprocessing
import pickle

import numpy as np
import pytest

from segstudy.errors import InputError
from segstudy.images.arrays import (
    FOREGROUND_SAMPLE,
    open_arrays,
    open_tissues,
    write_arrays,
    write_tissues,
)
from segstudy.images.files import Image
from segstudy.images.normalise import moments
from segstudy.images.plan import Geometry
from segstudy.images.prepare import IGNORED, prepare, prepare_label

GEOMETRY = Geometry((1.0, 1.0, 2.0), "none", 0.0, "zscore", 3.0)
AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


def make(shape=(70, 50, 40), channels=2, seed=0):
    """A prepared case: image, label with classes 1 and 3, and the way back."""
    draw = np.random.default_rng(seed)
    array, way = prepare(
        Image(draw.normal(100, 20, (channels, *shape)).astype(np.float32), AFFINE), GEOMETRY
    )
    stored = np.zeros(shape, np.uint8)
    stored[10:40, 10:40, 10:30] = 1
    stored[45:50, 5:9, 3:8] = 3
    return array, prepare_label(Image(stored, AFFINE), way, (1, 2, 3)), way


@pytest.fixture
def written(tmp_path):
    array, label, way = make()
    write_arrays(tmp_path / "s", "thorax", "p1", array, label, way)
    return tmp_path / "s", array, label, way


def test_everything_comes_back(written):
    folder, array, label, way = written
    found = open_arrays([folder])
    assert list(found) == [("thorax", "p1")]
    case = found["thorax", "p1"]
    assert (case.dataset, case.case, case.shape) == ("thorax", "p1", (70, 50, 40))
    assert case.spacing_mm == pytest.approx((1, 1, 2))
    assert case.image.shape == array.shape
    assert case.image.dtype == np.float32
    assert case.label.dtype == np.uint8
    np.testing.assert_array_equal(case.image[...], array)
    np.testing.assert_array_equal(np.asarray(case.label), label)
    assert case.moments == moments(array)
    assert case.restore.box == way.box
    np.testing.assert_array_equal(case.restore.grid.affine, way.grid.affine)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[:, 60:70, 0:50, 3:4],
        np.s_[0, 5:65, 20, :],
        np.s_[1, 63:65, 15:17, 15:17],
        np.s_[:, :, :, 39],
        np.s_[0:1, 2:3],
    ],
)
def test_parts_equal_numpys(written, key):
    folder, array, _, _ = written
    np.testing.assert_array_equal(open_arrays([folder])["thorax", "p1"].image[key], array[key])


def test_the_foreground_sample_is_of_each_class_and_capped(written):
    folder, _, label, _ = written
    sample = open_arrays([folder])["thorax", "p1"].foreground
    assert list(sample) == [1, 3]
    assert len(sample[1]) == FOREGROUND_SAMPLE < (label == 1).sum()
    assert len(sample[3]) == (label == 3).sum()
    for index, voxels in sample.items():
        assert (label[tuple(voxels.T)] == index).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels)
    # All over the structure, not its first voxels.
    np.testing.assert_allclose(
        sample[1].mean(axis=0), np.argwhere(label == 1).mean(axis=0), atol=0.5
    )


def test_a_case_without_foreground(tmp_path):
    array, label, way = make((5, 6, 7), 1)
    write_arrays(tmp_path, "d", "empty", array, np.zeros_like(label), way)
    assert open_arrays([tmp_path])["d", "empty"].foreground == {}


def test_the_same_case_gives_the_same_bytes(tmp_path, monkeypatch):
    array, label, way = make()
    for name, threads in (("a", "1"), ("b", "2")):
        monkeypatch.setenv("BLOSC_NTHREADS", threads)
        write_arrays(tmp_path / name, "d", "p", array, label, way)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_sample_depends_on_the_cases_name(tmp_path):
    array, label, way = make()
    for case in ("p", "q"):
        write_arrays(tmp_path, "d", case, array, label, way)
    found = open_arrays([tmp_path])
    assert (found["d", "p"].foreground[1] != found["d", "q"].foreground[1]).any()


def spoil_all_but(case, touched):
    """Overwrite in the image's file each block of 16^3 voxels of which none is touched; how many blocks remain.

    touched: bool (channel, x, y, z).
    """
    stored = case.image._stored
    content = bytearray(case.image.path.read_bytes())
    counts = [-(-size // chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True)]
    inner = [chunk // block for chunk, block in zip(stored.chunks, stored.blocks, strict=True)]
    kept = 0
    for number, chunk in enumerate(np.ndindex(*counts)):
        packed = stored.schunk.get_chunk(number)
        place = content.index(packed)
        # Blosc2's chunk: 32 bytes of header, then the place of each block, then the blocks.
        starts = np.frombuffer(packed, "<i4", math.prod(inner), 32)
        ends = dict(itertools.pairwise([*sorted(starts), len(packed)]))
        for start, block in zip(starts, np.ndindex(*inner), strict=True):
            low = np.multiply(chunk, stored.chunks) + np.multiply(block, stored.blocks)
            box = tuple(slice(a, a + size) for a, size in zip(low, stored.blocks, strict=True))
            if touched[box].any():
                kept += 1
            else:
                content[place + start : place + ends[start]] = b"\x7f" * (ends[start] - start)
    with case.image.path.open("r+b") as file:
        file.write(content)
    return kept


@pytest.mark.parametrize(
    ("key", "blocks"),
    [
        (np.s_[:, 40:72, 80:112, 8:40], 3 * 2 * 3),
        (np.s_[:, :, :, 60:61], 8 * 8),
        (np.s_[:, 60:61, :, :], 8 * 4),
    ],
)
def test_a_patch_costs_the_blocks_that_it_touches_alone(tmp_path, key, blocks):
    """All other blocks of the file are no longer readable, and it is read all the same."""
    array, label, way = make((128, 128, 64), 1)
    write_arrays(tmp_path, "d", "p", array, label, way)
    case = open_arrays([tmp_path])["d", "p"]
    touched = np.zeros(array.shape, bool)
    touched[key] = True
    assert spoil_all_but(case, touched) == blocks
    np.testing.assert_array_equal(case.image[key], array[key])
    for further in np.s_[:, :17, :17, :17], np.s_[:]:
        with pytest.raises(InputError, match="damaged array"):
            case.image[further]


def _read_in_worker(case):
    return case.image[:, :2, :2, :2].sum()


def test_cases_are_sent_to_workers_by_name(written):
    folder, array, _, _ = written
    case = open_arrays([folder])["thorax", "p1"]
    case.image[:, :2, :2, :2]
    assert len(pickle.dumps(case)) < 3000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_read_in_worker, [case]) == [array[:, :2, :2, :2].sum()]


@pytest.mark.parametrize("part", ["image", "label", "foreground"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "garbled", "one bit", "another"])
def test_damaged_arrays_are_named(written, part, damage):
    folder, _, _, _ = written
    path = folder / f"p1.{part}.b2nd"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "garbled":
        path.write_bytes(bytes(255 - byte for byte in content))
    elif damage == "one bit":
        path.write_bytes(content[:-60] + bytes([content[-60] ^ 1]) + content[-59:])
    else:
        array, label, way = make((8, 9, 10), 1)
        write_arrays(folder.parent / "other", "thorax", "p1", array, label, way)
        path.write_bytes((folder.parent / "other" / path.name).read_bytes())
    case = open_arrays([folder])["thorax", "p1"]
    with pytest.raises(InputError, match=rf"p1\.{part}\.b2nd: .*(damaged|no such file)"):
        _ = case.foreground if part == "foreground" else getattr(case, part)[...]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"case": 3}'])
def test_damaged_descriptions_are_named(written, content):
    folder, _, _, _ = written
    (folder / "p1.json").write_text(content)
    with pytest.raises(InputError, match=r"p1\.json"):
        open_arrays([folder])


def test_a_description_with_a_missing_part_is_named(written):
    folder, _, _, _ = written
    content = json.loads((folder / "p1.json").read_text())
    for key in content:
        (folder / "p1.json").write_text(json.dumps({k: v for k, v in content.items() if k != key}))
        with pytest.raises(InputError, match=key):
            open_arrays([folder])
    del content["restore"]["start"]
    (folder / "p1.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="start"):
        open_arrays([folder])


def test_folders_without_or_with_double_cases_are_refused(written, tmp_path):
    folder, array, label, way = written
    with pytest.raises(InputError, match="no prepared case"):
        open_arrays([tmp_path / "nothing"])
    write_arrays(tmp_path / "t", "thorax", "p1", array, label, way)
    with pytest.raises(InputError, match="prepared twice"):
        open_arrays([folder, tmp_path / "t"])


def test_an_image_that_does_not_fit_its_label_is_not_written(tmp_path):
    array, label, way = make((8, 9, 10), 1)
    with pytest.raises(ValueError, match="grid"):
        write_arrays(tmp_path, "d", "p", array[:, :-1], label, way)
    with pytest.raises(ValueError, match="grid"):
        write_arrays(tmp_path, "d", "p", array[:, :-1], label[:-1], way)
    assert not list(tmp_path.iterdir())


def test_voxels_that_nobody_has_labelled_are_no_class(tmp_path):
    array, label, way = make()
    label[:, 20:] = IGNORED
    write_arrays(tmp_path, "d", "p", array, label, way)
    found = open_arrays([tmp_path])["d", "p"]
    assert set(found.foreground) == {1, 3}
    assert len(found.labelled) == FOREGROUND_SAMPLE and found.labelled[:, 1].max() == 19
    plain = {index: label == index for index in (1, 3)}
    for index, voxels in found.foreground.items():
        assert plain[index][tuple(voxels.T)].all()
    write_arrays(tmp_path / "all", "d", "p", array, np.minimum(label, 3), way)
    assert open_arrays([tmp_path / "all"])["d", "p"].labelled is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("case", "../arr/c"),
        ("case", "/etc/passwd"),
        ("case", "p2"),
        ("case", ["p1"]),
        ("case", None),
        ("dataset", ["thorax"]),
        ("channels", float("inf")),
        ("foreground", "9" * 5000),
        ("checksums", {"image": 1e999}),
        ("restore", [[]]),
        ("spacing_mm", 1),
    ],
)
def test_a_description_of_other_files_is_damage(written, key, value):
    """Also one whose names lead to files elsewhere, which are there."""
    folder, array, label, way = written
    write_arrays(folder.parent / "arr", "thorax", "c", array, label, way)
    content = json.loads((folder / "p1.json").read_text())
    (folder / "p1.json").write_text(json.dumps({**content, key: value}))
    with pytest.raises(InputError, match="p1.json: .*damaged description of a case") as refused:
        open_arrays([folder])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[" * 9999, '{"case": ' + "9" * 5000 + "}", "[]", "null", '"x"'])
def test_a_description_that_is_none_is_one_line(written, text):
    folder, *_ = written
    (folder / "p1.json").write_text(text)
    with pytest.raises(InputError, match="p1.json: ") as refused:
        open_arrays([folder])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("case", "../arr/c"), ("case", 5), ("dataset", {}), ("checksum", 1e999), ("tissues", 1)],
)
def test_a_label_map_of_other_files_is_damage(tmp_path, key, value):
    parts = np.ones((4, 4, 4), np.uint8)
    for folder, case in (("maps", "m"), ("arr", "c")):
        write_tissues(tmp_path / folder, "d", case, (1, 1, 1), parts, 1, [1])
    path = tmp_path / "maps/m.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(InputError, match="m.json: damaged description of a label map"):
        open_tissues([tmp_path / "maps"])
