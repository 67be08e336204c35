"""What is no image is called what it is, wherever an image is read."""

import gzip
import os

import nibabel
import numpy as np
import pytest
import SimpleITK

from segstudy.errors import InputError
from segstudy.images.files import read_image, read_label
from segstudy.images.unreadable import why_unreadable

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
DICOM = b"\0" * 128 + b"DICM"


def refusal(path) -> str:
    """What reading says of a path, the same for images and labels, without the path."""
    texts = []
    for read in (read_image, read_label):
        with pytest.raises(InputError) as error:
            read(path)
        texts.append(str(error.value))
    assert texts[0] == texts[1] and texts[0].startswith(f"{path}: ")
    return texts[0].removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.nii.gz", POINTER, "only Git LFS's pointer to it: get it by `git lfs pull`"),
        ("a.mha", POINTER, "only Git LFS's pointer"),
        ("a.nii.gz", b"/annex/objects/SHA256E-s1--0.nii.gz\n", "only git-annex's (DataLad's) link"),
        ("a.nii.gz", b"", "an empty file (0 bytes)"),
        ("a.nrrd", b"\n<!DOCTYPE html><html>login</html>", "a web page"),
        ("a.nii.gz", DICOM, "a DICOM file, although its name ends in .nii.gz; rename it to a.dcm"),
        ("a.dcm", b"x", "no DICOM file, although its name ends so"),
        ("a.mgz", b"x", "not compressed, although its name ends in .mgz; rename it to a.mgh"),
        ("a.mnc", b"x", "convert it to .nii.gz, such as by mnc2nii"),
        ("a.png", b"x", "not readable as a PNG or TIFF picture"),
        ("a.jpg", b"x", "expected an image file (.nii, .nii.gz, .hdr, .mgz, .mgh, .nrrd, .nhdr"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


def test_links_without_content(tmp_path):
    os.symlink(".git/annex/objects/aa/bb/x.nii.gz", tmp_path / "annexed.nii.gz")
    os.symlink("gone.nii.gz", tmp_path / "dangling.nii.gz")
    assert "get it by `datalad get` or `git annex get`" in refusal(tmp_path / "annexed.nii.gz")
    assert refusal(tmp_path / "dangling.nii.gz") == "a link to gone.nii.gz, which is not there"


def test_folders(tmp_path):
    (tmp_path / "p1/series").mkdir(parents=True)
    (tmp_path / "p1/series/IM0001").write_bytes(DICOM)
    assert refusal(tmp_path / "p1").startswith("no DICOM image in it; ")
    (tmp_path / "p2").mkdir()
    (tmp_path / "p2/b.nii").touch()
    assert refusal(tmp_path / "p2").endswith(f"did you mean {tmp_path / 'p2/b.nii'}?")


def test_a_missing_file_names_the_one_of_another_ending(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"x")
    assert refusal(tmp_path / "a.nii.gz") == "no such file; there is a.nii"
    assert refusal(tmp_path / "b.nii.gz") == "no such file"
    assert (
        refusal(tmp_path / "imgs" / "b.nii.gz")
        == f"no such file; its folder {tmp_path / 'imgs'} is not there either"
    )


def test_endings_that_disagree_with_the_content(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(image)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(image))
    assert "rename it to plain.nii" in refusal(tmp_path / "plain.nii.gz")
    assert "rename it to packed.nii.gz" in refusal(tmp_path / "packed.nii")


def test_nothing_is_said_against_an_image(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"):
        image = SimpleITK.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
        SimpleITK.WriteImage(image, str(tmp_path / name))
        assert why_unreadable(tmp_path / name) == ""


def damaged(folder) -> list:
    """Files in which something is wrong that only a reader finds."""
    image = SimpleITK.GetImageFromArray(np.zeros((6, 7, 8), np.int16))
    found = []
    for name, old, new in (
        ("spacing.mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 0 0 0"),
        ("axes.mha", b"TransformMatrix = 1 0 0", b"TransformMatrix = 0 0 0"),
        ("field.mha", b"NDims = 3\n", b""),
        ("field.nrrd", b"dimension: 3", b"dimensionn: 3"),
        ("axes.nrrd", b"(1,0,0)", b"(0,0,0)"),
    ):
        SimpleITK.WriteImage(image, str(folder / name))
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new))
        found.append(folder / name)
    for name, left in (("short.mha", -300), ("short.nrrd", 60), ("short.nii", 200)):
        SimpleITK.WriteImage(image, str(folder / name))
        (folder / name).write_bytes((folder / name).read_bytes()[:left])
        found.append(folder / name)
    SimpleITK.WriteImage(image, str(folder / "alone.mhd"))
    (folder / "alone.raw").unlink()
    return [*found, folder / "alone.mhd"]


def test_no_message_names_a_place_in_memory_or_in_the_sources_of_a_library(tmp_path):
    for path in damaged(tmp_path):
        text = refusal(path)
        for leak in (
            "0x",
            "/tmp/SimpleITK",
            ".cxx",
            ".hxx",
            "Exception thrown",
            "No such file or d",
        ):
            assert leak not in text, f"{path.name}: {text}"
    assert refusal(tmp_path / "alone.mhd") == (
        "its voxels are expected in alone.raw beside it: no such file"
    )


def test_a_fourth_axis_of_length_one_is_no_axis(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
    image = SimpleITK.GetImageFromArray(array, isVector=False)
    image.SetSpacing((1.5, 2, 3, 1))
    image.SetOrigin((10, 20, 30, 0))
    for name in ("a.mha", "a.nrrd", "a.mhd"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        found = read_label(tmp_path / name)
        assert np.array_equal(found.array, np.moveaxis(array[0], [0, 1, 2], [2, 1, 0]))
        assert found.spacing_mm == (1.5, 2, 3)
        assert np.allclose(found.affine[:3, 3], (-10, -20, 30))
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False),
        str(tmp_path / "times.mha"),
    )
    assert refusal(tmp_path / "times.mha") == "4 axes (5x4x3x2); expected a 3D image"
