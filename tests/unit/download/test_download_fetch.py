"""Fetching over real connections: resumed, checked, whole or not at all."""

import hashlib
import shutil
import socket

import pytest
from download_builders import decathlon, tar_of
from download_server import serve

from segstudy.download.fetch import ATTEMPTS, download, fetch_archive
from segstudy.download.registry import Archive
from segstudy.errors import InputError

SOON = 0.01


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def archive(tmp_path):
    """A Decathlon tar, and the folder that it was made of."""
    folder = decathlon(tmp_path / "made")
    return tar_of(folder), folder


def wanted(server, content=None) -> Archive:
    return Archive(server.url, {"md5": hashlib.md5(content or server.content).hexdigest()})


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_content_of_the_top_folder_arrives_and_nothing_else_is_left(archive, tmp_path):
    content, made = archive
    with serve(content) as server:
        fetch_archive(wanted(server), tmp_path / "out" / "raw", SOON)
    assert names(tmp_path / "out" / "raw") == names(made)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["raw"]


def test_a_broken_transfer_goes_on_where_it_broke(tmp_path):
    content = bytes(range(256)) * 400
    with serve(content, break_after=[30_000, 20_000]) as server:
        download(server.url, tmp_path / "file", SOON)
    assert (tmp_path / "file").read_bytes() == content
    assert server.seen == [None, "bytes=30000-", "bytes=50000-"]


def test_many_breaks_are_no_failure_as_long_as_each_brings_something(tmp_path):
    content = bytes(range(256)) * 100
    with serve(content, break_after=[1000] * (ATTEMPTS + 5)) as server:
        download(server.url, tmp_path / "file", 0.001)
    assert (tmp_path / "file").read_bytes() == content


def test_a_server_without_ranges_is_asked_from_the_start(tmp_path):
    content = bytes(range(256)) * 400
    with serve(content, ranges=False, break_after=[70_000]) as server:
        download(server.url, tmp_path / "file", SOON)
    assert (tmp_path / "file").read_bytes() == content


def test_a_server_that_starts_anew_and_breaks_each_time_is_given_up(tmp_path):
    with (
        serve(b"x" * 50_000, ranges=False, break_after=[20_000] * 99) as server,
        pytest.raises(InputError, match="broke"),
    ):
        download(server.url, tmp_path / "file", 0.001)
    assert len(server.seen) == ATTEMPTS


def test_a_later_call_resumes_what_an_earlier_one_left(archive, tmp_path):
    content, made = archive
    raw = tmp_path / "out" / "raw"
    with serve(content, break_after=[1500] + [0] * 20) as server:
        asked = wanted(server)
        with pytest.raises(InputError, match="run again"):
            fetch_archive(asked, raw, 0.001)
        assert not raw.exists()
        assert (tmp_path / "out" / "raw.partial" / "archive").stat().st_size == 1500
        server.break_after, server.seen = [], []
        fetch_archive(asked, raw, SOON)
        assert server.seen == ["bytes=1500-"]
    assert names(raw) == names(made)
    assert not (tmp_path / "out" / "raw.partial").exists()


def test_another_version_on_the_server_is_not_glued_to_the_old_beginning(tmp_path):
    file = tmp_path / "file"
    with serve(b"old" * 10_000, break_after=[9000] + [0] * 20) as server:
        url = server.url
        with pytest.raises(InputError):
            download(url, file, 0.001)
        assert file.read_bytes() == b"old" * 3000
        server.content, server.etag, server.break_after = b"new!" * 9000, '"two"', []
        download(server.url, tmp_path / "file", SOON)
    assert (tmp_path / "file").read_bytes() == b"new!" * 9000


def test_a_stale_beginning_without_etag_is_found_by_the_checksum_and_dropped(archive, tmp_path):
    content, made = archive
    raw = tmp_path / "raw"
    with serve(b"z" * len(content), etag=None, break_after=[700] + [0] * 20) as server:
        asked = wanted(server, content)
        with pytest.raises(InputError):
            fetch_archive(asked, raw, 0.001)
        server.content, server.break_after = content, []
        fetch_archive(asked, raw, SOON)
    assert names(raw) == names(made)


def test_a_whole_partial_file_is_not_fetched_again(archive, tmp_path):
    content, _made = archive
    with serve(content) as server:
        (tmp_path / "out").mkdir()
        download(server.url, tmp_path / "out" / "file", SOON)
        download(server.url, tmp_path / "out" / "file", SOON)
        assert server.seen == [None, f"bytes={len(content)}-"]
    assert (tmp_path / "out" / "file").read_bytes() == content


def test_a_partial_file_of_another_address_is_not_used(archive, tmp_path):
    content, _made = archive
    with serve(b"y" * 5000, break_after=[900] + [0] * 20) as other, pytest.raises(InputError):
        fetch_archive(wanted(other), tmp_path / "raw", 0.001)
    with serve(content) as server:
        fetch_archive(wanted(server), tmp_path / "raw", SOON)
        assert server.seen == [None]


def test_a_wrong_checksum_says_found_and_expected_and_leaves_nothing(archive, tmp_path):
    content, _ = archive
    out = tmp_path / "out"
    with serve(content) as server, pytest.raises(InputError) as error:
        fetch_archive(Archive(server.url, {"sha256": "0" * 64}), out / "raw", SOON)
    assert hashlib.sha256(content).hexdigest() in str(error.value)
    assert "0" * 64 in str(error.value)
    assert list(out.iterdir()) == []


def test_both_checksums_are_checked_where_both_are_given(archive, tmp_path):
    content, _ = archive
    right = hashlib.md5(content).hexdigest()
    with serve(content) as server, pytest.raises(InputError, match="SHA256"):
        fetch_archive(
            Archive(server.url, {"md5": right, "sha256": "1" * 64}), tmp_path / "raw", SOON
        )


def test_a_web_page_in_place_of_the_archive_is_called_so(tmp_path):
    with (
        serve(b"<!DOCTYPE html><p>Please log in") as server,
        pytest.raises(InputError, match="web page"),
    ):
        fetch_archive(wanted(server, b"other"), tmp_path / "raw", SOON)


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_with_its_own_checksum_is_refused(archive, tmp_path, mode, share):
    content = tar_of(archive[1], mode=mode)
    out = tmp_path / "out"
    with (
        serve(content[: int(len(content) * share)]) as server,
        pytest.raises(InputError, match="damaged or ends early"),
    ):
        fetch_archive(wanted(server), out / "raw", SOON)
    assert list(out.iterdir()) == []


def test_a_transfer_cut_short_never_passes_for_whole(archive, tmp_path):
    content, _ = archive
    out = tmp_path / "out"
    with (
        serve(content, length=False, break_after=[len(content) // 2]) as server,
        pytest.raises(InputError, match="wrong MD5"),
    ):
        fetch_archive(wanted(server), out / "raw", SOON)
    assert list(out.iterdir()) == []


def test_an_older_dataset_survives_a_failed_fetch(archive, tmp_path):
    content, _ = archive
    raw = decathlon(tmp_path / "raw", cases=1)
    before = names(raw)
    with serve(content) as server, pytest.raises(InputError):
        fetch_archive(Archive(server.url, {"md5": "0" * 32}), raw, SOON)
    assert names(raw) == before


def test_a_dead_server_is_named_and_leaves_nothing(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "out"
    with pytest.raises(InputError, match=rf"127.0.0.1:{port}.*refused.*{ATTEMPTS} times"):
        fetch_archive(
            Archive(f"http://127.0.0.1:{port}/a.tar", {"md5": "0" * 32}), out / "raw", 0.001
        )
    assert list(out.iterdir()) == []


def test_an_unknown_host_is_called_so(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(InputError, match="no server of this name"):
        download("http://nowhere.invalid/a.tar", tmp_path / "file", 0.001)


@pytest.mark.parametrize(
    ("code", "words"), [(404, "check the address"), (403, "login"), (410, "HTTP 410")]
)
def test_an_http_error_that_waiting_cannot_mend_is_said_at_once(tmp_path, code, words):
    with serve(b"", errors=[code] * 9) as server, pytest.raises(InputError, match=words):
        fetch_archive(wanted(server), tmp_path / "out" / "raw", SOON)
    assert len(server.seen) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_busy_server_is_asked_again(tmp_path):
    with serve(b"content", errors=[503, 429]) as server:
        download(server.url, tmp_path / "file", 0.001)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_server_that_calls_the_archive_compressed_does_not_get_it_unpacked_on_the_way(
    archive, tmp_path
):
    content = tar_of(archive[1], mode="w:gz")
    with serve(content, encoding="gzip") as server:
        download(server.url, tmp_path / "file", SOON)
    assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize("url", ["data.tar", "ftp://host/data.tar", "http://"])
def test_an_address_that_is_none_names_its_key(tmp_path, url):
    with pytest.raises(InputError, match="source.url"):
        download(url, tmp_path / "file", 0.001)


def test_a_full_disk_is_an_error_in_words(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    with serve(archive[0]) as server, pytest.raises(InputError, match="are free"):
        download(server.url, tmp_path / "file", SOON)


def test_the_real_hippocampus_cases_come_over_http(real_data, tmp_path):
    source = real_data / "Task04_Hippocampus"
    content = tar_of(source, top="Task04_Hippocampus")
    with serve(content, break_after=[len(content) // 3]) as server:
        fetch_archive(wanted(server), tmp_path / "raw", SOON)
    assert names(tmp_path / "raw") == names(source)
    for part in ("dataset.json", "imagesTr/hippocampus_001.nii.gz"):
        assert (tmp_path / "raw" / part).read_bytes() == (source / part).read_bytes()
