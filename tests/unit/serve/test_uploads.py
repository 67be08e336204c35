"""What a service makes of uploads: scans are written as they are, anything else is refused with a sentence."""

import gzip
import io
from dataclasses import replace

import numpy as np
import pytest

from segstudy.serve import uploads
from segstudy.serve.limits import Limits
from segstudy.serve.problems import ProblemError
from upload_faults import SHAPE, Fault, dicom, faults, misplaced, nifti, nrrd, zipped

LIMITS = Limits(voxels=10_000_000)
FAULTS = faults()


def take(content: bytes, folder, limits=LIMITS):
    return uploads.take(io.BytesIO(content), folder, "image", limits)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_faults_are_told(fault: Fault, tmp_path):
    with pytest.raises(ProblemError) as refused:
        take(fault.content, tmp_path)
    assert refused.value.status == fault.status
    assert fault.told in refused.value.detail
    assert refused.value.content()["title"]
    # What was written until then stays within bounds, under names of our own.
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.relative_to(tmp_path).parts[0].startswith("image") for path in left)
    assert sum(path.stat().st_size for path in left) < 4_000_000
    assert "passwd" not in str(refused.value.content())


def test_a_way_of_packing_is_refused_by_the_directory(tmp_path, monkeypatch):
    """In a sentence that names it, before any member is opened."""

    def opened(*_):
        raise AssertionError("a member was opened")

    monkeypatch.setattr(uploads.zipfile.ZipFile, "open", opened)
    told = {}
    for fault in FAULTS:
        if "packed" in fault.told:
            with pytest.raises(ProblemError) as refused:
                take(fault.content, tmp_path)
            (tmp_path / "image").rmdir()
            told[fault.name] = refused.value.found
            assert refused.value.expected == "stored, or deflate"
    assert told["zip packed by bzip2"] == told["zip packed by bzip2, whole"] == "file 1 by bzip2"
    assert told["zip packed by lzma"] == "file 1 by lzma"
    assert told["zip packed by method 77"] == "file 1 by method 77"


def test_a_place_before_the_beginning_of_a_file_on_the_disk(tmp_path):
    """Large uploads lie on the disk, where such a place is an error of the system's."""
    (tmp_path / "upload").write_bytes(misplaced())
    with (tmp_path / "upload").open("rb") as file, pytest.raises(ProblemError, match="damaged"):
        uploads.take(file, tmp_path, "image", LIMITS)


@pytest.mark.parametrize("pack", [bytes, lambda content: gzip.compress(content, mtime=0)])
def test_nifti_is_written_unpacked(pack, tmp_path):
    content = nifti()
    taken = take(pack(content), tmp_path)
    assert (taken.kind, taken.voxels) == ("nifti", np.prod(SHAPE))
    assert taken.path.read_bytes() == content


def test_gzip_in_several_members_and_with_padding(tmp_path):
    content = nifti()
    parts = [gzip.compress(content[:500]), gzip.compress(content[500:]), bytes(512)]
    assert take(b"".join(parts), tmp_path).path.read_bytes() == content


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_the_mark_of_a_gzip_member_across_two_reads(before, tmp_path, monkeypatch):
    """The first block that is read ends `before` bytes behind the first member's end."""
    content = nifti()
    first = gzip.compress(content[:500])
    monkeypatch.setattr(uploads, "PACKED_BLOCK", len(first) + before)
    taken = take(first + gzip.compress(content[500:]), tmp_path)
    assert taken.path.read_bytes() == content


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_nrrd_is_written_as_it_is(encoding, tmp_path):
    from segstudy.images.files import read_image

    values = np.arange(np.prod(SHAPE), dtype="<i2").reshape(SHAPE[::-1])
    data = values.tobytes() if encoding == "raw" else gzip.compress(values.tobytes())
    content = nrrd(encoding=encoding, content=data)
    taken = take(content, tmp_path)
    assert taken.path.read_bytes() == content
    np.testing.assert_array_equal(read_image(taken.path).array[0], values.transpose(2, 1, 0))


def test_a_zip_keeps_dicom_under_numbers(tmp_path):
    files = {
        "Mustermann^Erika/1.2.3": dicom(),
        "DICOMDIR.txt": b"text",
        "b/../b.dcm".replace("../", ""): dicom(7),
    }
    taken = take(zipped(files), tmp_path)
    assert sorted(path.name for path in taken.path.iterdir()) == ["00001.dcm", "00003.dcm"]
    assert (taken.path / "00003.dcm").read_bytes() == dicom(7)
    assert taken.notes == ("1 of 3 files in the zip are no DICOM and were left out",)


def test_limits_are_limits(tmp_path):
    voxels = int(np.prod(SHAPE))
    (tmp_path / "a").mkdir()
    take(nifti(), tmp_path / "a", replace(LIMITS, voxels=voxels))
    for change in ({"voxels": voxels - 1}, {"unpacked_bytes": 1000}):
        with pytest.raises(ProblemError) as refused:
            take(nifti(), tmp_path, replace(LIMITS, **change))
        assert refused.value.status == 413


def test_as_many_files_as_channels(tmp_path):
    one = take(nifti(), tmp_path)
    uploads.check_channels([one], ["t1", "t2"], LIMITS)
    uploads.check_channels([one, one], ["t1", "t2"], LIMITS)
    with pytest.raises(ProblemError, match="channels") as refused:
        uploads.check_channels([one, one, one], ["t1", "t2"], LIMITS)
    assert "t1, t2" in refused.value.expected
    with pytest.raises(ProblemError, match="too many voxels"):
        uploads.check_channels([one, one], ["t1", "t2"], replace(LIMITS, voxels=2 * one.voxels - 1))
