"""The content of an image counts wherever its voxels lie."""

import numpy as np
import pytest
import SimpleITK as sitk

from segstudy.errors import InputError
from segstudy.images.parts import content_digest, voxel_files


@pytest.fixture
def image() -> sitk.Image:
    return sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "voxels"), [("a.mhd", ["a.raw"]), ("a.nhdr", ["a.raw"]), ("a.mha", []), ("a.nrrd", [])]
)
def test_the_voxels_of_a_header_are_found_and_count(tmp_path, image, name, voxels):
    path = tmp_path / name
    sitk.WriteImage(image, str(path))
    assert [file.name for file in voxel_files(path)] == voxels
    before = content_digest(path, "case a")
    for file in [tmp_path / one for one in voxels] or [path]:
        file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    assert content_digest(path, "case a") != before


def test_a_file_a_slice(tmp_path):
    for number in range(3):
        (tmp_path / f"slice{number}.raw").write_bytes(bytes([number]))
    header = "NDims = 3\nElementDataFile = {}\n"
    names = [f"slice{number}.raw" for number in range(3)]
    for value in ("LIST\n" + "\n".join(names), "slice%d.raw 0 2 1"):
        (tmp_path / "a.mhd").write_text(header.format(value))
        assert [file.name for file in voxel_files(tmp_path / "a.mhd")] == names


def test_the_same_content_elsewhere_is_the_same(tmp_path, image):
    digests = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(image, str(tmp_path / folder / "a.mhd"))
        digests.add(content_digest(tmp_path / folder / "a.mhd", "case a"))
    assert len(digests) == 1


def test_voxels_that_are_not_there_are_named(tmp_path, image):
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"a\.raw: case a: cannot be read: No such file"):
        content_digest(tmp_path / "a.mhd", "case a")
