"""Archives that are wrong, on purpose or by accident."""

import io
import tarfile
import zipfile

import pytest

from segstudy import unpack as module
from segstudy.errors import InputError
from segstudy.unpack import unpack


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


def chain_of_links(depth=16, step=247):
    """Members that lead Python's own filter astray (CVE-2025-4517): a path of links so long that it is not resolved."""
    members, path = [], ""
    for letter in "abcdefghijklmnop"[:depth]:
        folder = tarfile.TarInfo(path + "d" * step)
        folder.type = tarfile.DIRTYPE
        link = tarfile.TarInfo(path + letter)
        link.type, link.linkname = tarfile.SYMTYPE, "d" * step
        members += [(folder, b""), (link, b"")]
        path += "d" * step + "/"
    short = "/".join("abcdefghijklmnop"[:depth])
    up = tarfile.TarInfo(f"{short}/{'l' * 254}")
    up.type, up.linkname = tarfile.SYMTYPE, "../" * depth
    out = tarfile.TarInfo("escape")
    out.type, out.linkname = tarfile.SYMTYPE, f"{short}/{'l' * 254}/../../evil"
    hard = tarfile.TarInfo("file")
    hard.type, hard.linkname = tarfile.LNKTYPE, "escape/evil.txt"
    return [*members, (up, b""), (out, b""), (hard, b""), ("file", b"evil")]


def test_a_chain_of_links_writes_nothing_outside(tmp_path, folder):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.txt").write_text("untouched")
    with pytest.raises(InputError, match=r"not safe.*is a link.*source\.path"):
        unpack(tar(tmp_path, chain_of_links()), folder)
    assert (tmp_path / "evil" / "evil.txt").read_text() == "untouched"
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_within_the_folder_is_none_of_what_comes_out(tmp_path, folder, kind):
    link = tarfile.TarInfo("top/link")
    link.type, link.linkname = kind, "top/a"
    with pytest.raises(InputError, match="'top/link' is a link"):
        unpack(tar(tmp_path, [("top/a", b"a"), (link, b"")]), folder)


@pytest.mark.parametrize("name", ["/evil.txt", "a/../../evil.txt", "..", "top/.."])
def test_names_that_lead_out_are_refused_before_anything_is_written(tmp_path, folder, name):
    with pytest.raises(InputError, match="not safe"):
        unpack(tar(tmp_path, [(name, b"evil")]), folder)
    assert not list(folder.iterdir()) and not outside(tmp_path)


def test_a_name_with_a_zero_in_it_is_refused(tmp_path, folder):
    with pytest.raises(InputError, match="not safe"):
        module._place(folder, "a\0b")


def test_what_comes_out_has_the_rights_of_this_machine(tmp_path, folder):
    member = tarfile.TarInfo("run")
    member.mode, member.uid, member.mtime = 0o6777, 12345, 1
    unpack(tar(tmp_path, [(member, b"#!/bin/sh"), ("b", b"")]), folder)
    found, usual = (folder / "run").stat(), (folder / "b").stat()
    assert (found.st_mode, found.st_uid) == (usual.st_mode, usual.st_uid)
    assert not found.st_mode & 0o7111


def test_a_later_member_of_the_same_name_counts(tmp_path, folder):
    unpack(tar(tmp_path, [("a", b"first"), ("a", b"second"), ("b", b"")]), folder)
    assert (folder / "a").read_bytes() == b"second"


@pytest.mark.parametrize("make", [lambda p, m: tar(p, m, "w:gz"), zipped])
def test_very_many_empty_files_are_stopped(tmp_path, folder, monkeypatch, make):
    monkeypatch.setattr(module, "SMALL_BYTES", 100_000)
    monkeypatch.setattr(module, "MAXIMUM_RATIO", 1)
    with pytest.raises(InputError, match="grows"):
        unpack(make(tmp_path, [(f"x/{number}", b"") for number in range(1000)]), folder)


@pytest.mark.parametrize(
    "pax",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 5000},
        {"GNU.sparse.map": "a,b,c", "GNU.sparse.size": "5"},
        {"size": "-5"},
    ],
)
def test_numbers_that_no_program_writes_are_damage(tmp_path, folder, pax):
    file = tmp_path / "archive"
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers, member.size = pax, 5
        archive.addfile(member, io.BytesIO(b"99999"))
    with pytest.raises(InputError, match="damaged|does not fit"):
        unpack(file, folder)
    assert not outside(tmp_path)


def test_a_long_chain_of_headers_is_damage(tmp_path, folder):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 5
    file = tmp_path / "archive"
    file.write_bytes((long.tobuf(tarfile.GNU_FORMAT) + b"name\0".ljust(512, b"\0")) * 3000)
    with pytest.raises(InputError, match="damaged"):
        unpack(file, folder)
