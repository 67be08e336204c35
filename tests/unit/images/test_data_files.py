"""The content of an image counts wherever its voxels lie."""

import numpy as np
import pytest
import SimpleITK as sitk

from segstudy.errors import InputError
from segstudy.images.data_files import content_digest, voxel_files
from segstudy.images.files import read_label


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


# --- headers that name files elsewhere ----------------------------------------------------------


META = "ObjectType = Image\nNDims = 3\nDimSize = 2 3 4\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nspacings: 1 1 1\nencoding: raw\n"
VOXELS = np.arange(24, dtype=np.uint8)


@pytest.fixture
def dataset(tmp_path):
    """A folder beside another one with a secret, of the very size of the image."""
    for name in ("private", "data", "data/inside"):
        (tmp_path / name).mkdir()
    for place in ("private/secret", "private/1", "data/inside/raw"):
        (tmp_path / place).write_bytes(bytes(range(100, 124)))
    (tmp_path / "data/link.raw").symlink_to(tmp_path / "private/secret")
    (tmp_path / "data/1.raw").symlink_to(tmp_path / "private/secret")
    (tmp_path / "data/own.raw").write_bytes(VOXELS.tobytes())
    for number in range(4):
        (tmp_path / f"data/s{number + 1:03d}").write_bytes(VOXELS.tobytes()[6 * number :][:6])
    return tmp_path / "data"


def values(path) -> list[int]:
    return read_label(path).array.ravel(order="F").tolist()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mhd", META + "ElementDataFile = own.raw\n"),
        ("a.mhd", META + "ElementDataFile = ./own.raw\n"),
        ("a.mhd", META + "ElementDataFile = LIST\ns001\ns002\ns003\ns004\n"),
        ("a.mhd", META + "ElementDataFile = s%03d 1 4 1\n"),
        ("a.mha", META + "ElementDataFile = LOCAL\n" + VOXELS.tobytes().decode()),
        ("a.nrrd", NRRD + "data file: own.raw\n"),
        ("a.nrrd", NRRD + "Data File: ./own.raw\n"),
        ("a.nrrd", NRRD + "datafile: s%03d 1 4 1\n"),
        ("a.nrrd", NRRD + "data file: LIST\ns001\ns002\ns003\ns004\n"),
        ("a.nrrd", NRRD + "note:=data file: elsewhere\n\n" + VOXELS.tobytes().decode()),
        ("a.nrrd", NRRD.replace("\n", "\r\n") + "data file: own.raw\r\n"),
    ],
)
def test_voxels_beside_the_header_are_read(dataset, name, header):
    (dataset / name).write_bytes(header.encode())
    assert values(dataset / name) == VOXELS.tolist()


NAMES = [
    *("{private}/secret", "../private/secret", "./../private/secret", "inside/raw", "link.raw"),
    *("LIST\n../private/1\n", "LIST 3\n{private}/secret\n", "../private/%d 1 1 1", "%d.raw 1 1 1"),
    *(
        "{private}/%d 1 1 1",
        "%s%d.raw 1 1 1",
        "..",
        ".",
        "",
        "~/secret",
        "C:\\secret",
        "inside\\raw",
    ),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("a.mhd", META + "ElementDataFile = {}\n"),
        ("a.mha", META + "ElementDataFile = {}\n"),
        ("a.mhd", META + "ElementDataFile : {}\n"),
        ("a.nrrd", NRRD + "data file: {}\n"),
        ("a.nrrd", NRRD + "DATAFILE: {}\n"),
        ("a.nrrd", NRRD + "# a remark\nData File: {}\n"),
    ],
)
def test_no_file_elsewhere_is_read(dataset, name, file, line):
    header = line.format(name.format(private=dataset.parent / "private"))
    (dataset / file).write_text(header)
    with pytest.raises(InputError, match=f"{file}: its voxels are expected in ") as refused:
        read_label(dataset / file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("file", "header"),
    [
        # One reader ends the header here, another goes on to the next line of this name.
        ("a.mhd", META + "elementdatafile = LOCAL\nElementDataFile = {}\n"),
        ("a.mhd", META + "Comment = \nElementDataFile = LOCAL\nElementDataFile = {}\n"),
        ("a.nrrd", NRRD + "data file: own.raw\ndata file: {}\n"),
        ("a.nrrd", NRRD + "#" + "x" * (1 << 20) + "\ndata file: {}\n"),
        ("a.mhd", "Comment = " + "x" * (1 << 20) + "\n" + META + "ElementDataFile = {}\n"),
    ],
)
def test_a_header_that_hides_where_its_voxels_are_is_refused(dataset, file, header):
    (dataset / file).write_text(header.format(dataset.parent / "private/secret"))
    with pytest.raises(InputError, match=f"{file}: (its header|no `ElementDataFile)"):
        read_label(dataset / file)
