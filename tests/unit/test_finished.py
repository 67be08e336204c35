"""Finished work is given back to the byte or not at all, and takes up no more room than it may."""

import logging
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy import finished
from segstudy.finished import MANIFEST, NOTHING, Finished


@pytest.fixture
def kept(tmp_path) -> Finished:
    return Finished(tmp_path / "kept")


def make(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_kept_comes_back_to_the_byte_and_looks_new(tmp_path, kept, caplog):
    caplog.set_level(logging.INFO)
    output = make(tmp_path / "out", a=b"weights", b=b"", c=b"not kept")
    kept.keep("train-1", output, ["a", "b"])
    assert (output / "a").stat().st_ino == (kept.folder / "train-1" / "a").stat().st_ino
    os.utime(output / "a", (1, 1))
    shutil.rmtree(output)
    assert kept.restore("train-1", output)
    assert contents(output) == {"a": b"weights", "b": b""}
    assert (output / "a").stat().st_mtime > 1
    assert f"2 files taken from {kept.folder / 'train-1'}" in caplog.text


def test_another_key_has_nothing(tmp_path, kept):
    kept.keep("train-1", make(tmp_path / "out", a=b"1"))
    assert not kept.restore("train-2", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_beside_other_files_or_as_the_whole_folder(tmp_path, kept):
    kept.keep("infer-1", make(tmp_path / "first", a=b"1"))
    for whole in (False, True):
        other = make(tmp_path / f"other {whole}", stale=b"old")
        assert kept.restore("infer-1", other, whole=whole)
        assert contents(other) == {"a": b"1"} | ({} if whole else {"stale": b"old"})


def test_two_outputs_of_one_key_do_not_share_a_time(tmp_path, kept):
    first, second = make(tmp_path / "first", a=b"1"), tmp_path / "second"
    kept.keep("train-1", first)
    os.utime(first / "a", (5, 5))
    assert kept.restore("train-1", second)
    assert (first / "a").stat().st_mtime == 5
    assert contents(second) == contents(first)


@pytest.mark.parametrize("damage", ["changed", "shorter", "absent", "manifest", "of another key"])
def test_damage_is_never_given_out(tmp_path, kept, caplog, damage):
    output = make(tmp_path / "out", a=b"weights", b=b"history")
    kept.keep("train-1", output)
    shutil.rmtree(output)
    entry = kept.folder / "train-1"
    if damage == "changed":
        (entry / "b").write_bytes(b"histosy")
    elif damage == "shorter":
        (entry / "b").write_bytes(b"hist")
    elif damage == "absent":
        (entry / "b").unlink()
    elif damage == "manifest":
        (entry / MANIFEST).write_text("{")
    else:
        entry.rename(kept.folder / "train-2")
    key = "train-2" if damage == "of another key" else "train-1"
    assert not kept.restore(key, output)
    assert not output.exists()
    assert "damaged" in caplog.text
    assert not (kept.folder / key).exists()
    kept.keep(key, make(output, a=b"anew"))
    shutil.rmtree(output)
    assert kept.restore(key, output)
    assert contents(output) == {"a": b"anew"}


def test_without_hard_links_it_is_a_copy(tmp_path, kept, monkeypatch):
    def refused(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    output = make(tmp_path / "out", a=b"weights")
    kept.keep("train-1", output)
    (output / "a").write_bytes(b"written into")
    shutil.rmtree(output)
    assert kept.restore("train-1", output)
    assert contents(output) == {"a": b"weights"}


def test_a_full_disk_is_told_and_does_no_harm(tmp_path, kept, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    output = make(tmp_path / "out", a=b"weights")
    kept.keep("train-1", output)
    assert "No space left on device" in caplog.text
    assert contents(output) == {"a": b"weights"}
    assert not list(kept.folder.iterdir())


def test_what_a_kill_left_is_not_taken_for_finished(tmp_path, kept):
    """A job that dies while it keeps leaves a folder under a temporary name; its next attempt removes that."""
    kept.folder.mkdir()
    child = os.fork()
    if not child:
        os.link = lambda *_: os._exit(9)
        kept.keep("train-1", make(tmp_path / "out", a=b"weights"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [path.name[:9] for path in kept.folder.iterdir()] == [".writing-"]
    assert not kept.restore("train-1", tmp_path / "other")
    kept.keep("train-1", tmp_path / "out")
    assert [path.name for path in kept.folder.iterdir()] == ["train-1"]


def test_kept_by_another_at_the_same_moment(tmp_path, kept, monkeypatch, caplog):
    output = make(tmp_path / "out", a=b"weights")
    link = finished._link

    def slow(source, target):
        monkeypatch.setattr(finished, "_link", link)
        kept.keep("train-1", output)
        link(source, target)

    monkeypatch.setattr(finished, "_link", slow)
    kept.keep("train-1", output)
    shutil.rmtree(output)
    assert kept.restore("train-1", output)
    assert [path.name for path in kept.folder.iterdir()] == ["train-1"]
    assert not caplog.records


def test_only_what_has_no_other_name_counts_and_the_longest_unused_goes_first(tmp_path):
    kept = Finished(tmp_path / "kept", most_gb=25e-9)
    for number in (1, 2, 3):
        kept.keep(f"train-{number}", make(tmp_path / f"out-{number}", a=bytes(10)))
    assert len(list(kept.folder.iterdir())) == 3, "linked, they take up nothing"
    for number in (1, 2, 3):
        shutil.rmtree(tmp_path / f"out-{number}")
        os.utime(kept.folder / f"train-{number}" / MANIFEST, (number, number))
    assert kept.restore("train-1", tmp_path / "again")
    shutil.rmtree(tmp_path / "again")
    kept.keep("train-4", make(tmp_path / "out-4", a=bytes(10)))
    assert sorted(path.name for path in kept.folder.iterdir()) == ["train-1", "train-3", "train-4"]


def test_nothing_is_kept_where_the_setting_says_so(tmp_path, kept):
    output = make(tmp_path / "out", a=b"weights")
    kept.keep("train-1", output)
    none = Finished(kept.folder, 0)
    assert not none.restore("train-1", tmp_path / "other")
    assert not kept.folder.exists()
    none.keep("train-1", output)
    NOTHING.keep("train-1", output)
    assert not kept.folder.exists()


PARTS = st.lists(st.one_of(st.integers(), st.text(), st.lists(st.floats(allow_nan=False))))


@given(PARTS, PARTS)
def test_keys_are_equal_where_all_parts_are(first, second):
    same = finished.key("train", *first) == finished.key("train", *second)
    assert same == (repr(first) == repr(second))
    assert finished.key("train", *first) != finished.key("infer", *first)
