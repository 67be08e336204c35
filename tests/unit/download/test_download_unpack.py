"""Archives that are wrong, on purpose or by accident."""

import io
import tarfile
import zipfile

import pytest

from segstudy.download import unpack as module
from segstudy.download.unpack import unpack
from segstudy.errors import InputError


def tar(tmp_path, members, mode="w"):
    file = tmp_path / "archive"
    with tarfile.open(file, mode) as archive:
        for member, content in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def zipped(tmp_path, members):
    file = tmp_path / "archive"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "inside" / "raw"
    place.mkdir(parents=True)
    return place


def outside(tmp_path):
    """All files but the archive and what lies in the folder."""
    return [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "archive" and "raw" not in path.parts
    ]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar(tmp_path, folder, mode):
    unpack(tar(tmp_path, [("top/a.txt", b"a"), ("top/b/c.txt", b"c")], mode), folder)
    assert (folder / "a.txt").read_bytes() == b"a"
    assert (folder / "b" / "c.txt").read_bytes() == b"c"


def test_zip(tmp_path, folder):
    unpack(zipped(tmp_path, [("top/a.txt", b"a"), ("top/b/c.txt", b"c")]), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b"]


def test_several_top_entries_stay_as_they_are(tmp_path, folder):
    unpack(tar(tmp_path, [("dataset.json", b"{}"), ("imagesTr/a", b"a")]), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "imagesTr"]


def test_files_of_macos_beside_the_top_folder_do_not_hide_it(tmp_path, folder):
    members = [("._Task", b"m"), ("__MACOSX/x", b"m"), ("Task/dataset.json", b"{}")]
    unpack(tar(tmp_path, members), folder)
    assert [path.name for path in folder.iterdir()] == ["dataset.json"]


def test_a_top_folder_that_holds_its_own_name(tmp_path, folder):
    unpack(tar(tmp_path, [("Task/Task/a", b"a"), ("Task/.top/b", b"b")]), folder)
    assert (folder / "Task" / "a").exists()
    assert (folder / ".top" / "b").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "top/../../evil.txt"])
def test_nothing_leaves_the_folder(tmp_path, folder, name):
    for make in (tar, zipped):
        with pytest.raises(InputError, match="not safe"):
            unpack(make(tmp_path, [(name, b"evil")]), folder)
    assert outside(tmp_path) == []


def test_a_link_out_of_the_folder_is_refused(tmp_path, folder):
    link = tarfile.TarInfo("top/link")
    link.type, link.linkname = tarfile.SYMTYPE, "../../.."
    with pytest.raises(InputError, match="not safe"):
        unpack(tar(tmp_path, [(link, b""), ("top/link/evil.txt", b"evil")]), folder)
    assert outside(tmp_path) == []


def test_a_device_is_refused(tmp_path, folder):
    device = tarfile.TarInfo("top/null")
    device.type = tarfile.CHRTYPE
    with pytest.raises(InputError, match="not safe"):
        unpack(tar(tmp_path, [(device, b"")]), folder)


def test_a_link_in_a_zip_is_refused(tmp_path, folder):
    link = zipfile.ZipInfo("top/link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(InputError, match="link"):
        unpack(zipped(tmp_path, [(link, b"/etc")]), folder)


@pytest.mark.parametrize("make", [lambda p, m: tar(p, m, "w:gz"), zipped])
def test_an_archive_that_blows_up_is_stopped(tmp_path, folder, monkeypatch, make):
    monkeypatch.setattr(module, "SMALL_BYTES", 1000)
    monkeypatch.setattr(module, "MAXIMUM_RATIO", 50)
    with pytest.raises(InputError, match="grows"):
        unpack(make(tmp_path, [("zeros", bytes(5_000_000))]), folder)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"<html>", bytes(5000)])
def test_what_is_no_archive(tmp_path, folder, content):
    file = tmp_path / "archive"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"archive"):
        unpack(file, folder)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_every_truncation_of_a_tar_is_found(tmp_path, folder, mode):
    members = [(f"top/{number}", bytes([number]) * 700) for number in range(6)]
    whole = tar(tmp_path, members, mode).read_bytes()
    file = tmp_path / "archive"
    # Up to the end mark: what follows it in a plain tar is padding.
    end = 6 * (512 + 1024) if mode == "w" else len(whole) - 1
    for size in range(1, end, max(end // 60, 1)):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError):
            unpack(file, folder)


def test_a_damaged_header_in_a_tar_is_found(tmp_path, folder):
    file = tar(tmp_path, [("top/a", b"a" * 600), ("top/b", b"b")])
    content = bytearray(file.read_bytes())
    content[512 + 1024 + 150] ^= 0xFF  # the checksum of the second header
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        unpack(file, folder)


def test_a_flipped_byte_in_a_zip_is_found(tmp_path, folder):
    file = zipped(tmp_path, [("a", bytes(range(256)) * 20)])
    content = bytearray(file.read_bytes())
    content[60] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        unpack(file, folder)
