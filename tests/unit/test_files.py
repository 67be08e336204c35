"""A file is whole or absent."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.files import (
    listed,
    make_folder,
    parse_json,
    read_json,
    write_json,
    write_text,
    writing,
    writing_folder,
)


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), writing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with writing(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.name.startswith(".")


def test_a_folder_appears_complete_and_replaces_the_older_one(tmp_path):
    path = tmp_path / "shard"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(RuntimeError), writing_folder(path) as temporary:
        (temporary / "half").touch()
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["old"]
    with writing_folder(path) as temporary:
        (temporary / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from segstudy.files import writing, writing_folder
with writing(sys.argv[1]), writing_folder(sys.argv[2]) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_when_it_is_written_again(tmp_path):
    file, folder, other = tmp_path / "a[1].csv", tmp_path / "b", tmp_path / "c.csv"
    for first in (file, other):
        subprocess.run([sys.executable, "-c", KILLED, first, folder], check=False)
    assert len(list(tmp_path.glob(".writing-*"))) == 3  # the second has removed the first's folder
    with writing(file), writing(file):  # neither removes the other's, both being at work
        pass
    with writing_folder(folder):
        pass
    assert [left.name.rpartition("-")[2] for left in tmp_path.glob(".writing-*")] == ["c.csv"]


def test_what_another_machine_writes_stays(tmp_path):
    elsewhere = tmp_path / ".writing-elsewhere.1-x-a.csv"
    elsewhere.touch()
    write_json(tmp_path / "a.csv", {})
    assert elsewhere.exists()


def test_results_can_be_read_by_the_group(tmp_path):
    write_json(tmp_path / "a.json", {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_has_the_same_bytes_whatever_the_order(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    write_json(tmp_path / "b.json", {"a": [1.5], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": [1.5], "b": 1}


def test_json_has_no_infinity(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("inf")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, "{", "\udcff"])
def test_unreadable_json_names_the_file(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(path)


def test_a_list_stands_for_what_it_lists_and_others_for_themselves(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("# state 0\na/b\nc d\n\n")
    assert listed([tmp_path, file]) == [tmp_path, Path("a/b"), Path("c d")]


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.txt: not readable as a list"):
        listed([tmp_path / "nowhere.txt"])


def test_a_full_disk_is_one_line_and_no_trace(monkeypatch, capsys):
    def run(options):
        raise OSError(errno.ENOSPC, "No space left on device", "results/table.csv")

    monkeypatch.setattr("segstudy.statistics.command.run", run)
    assert main(["statistics", "--metrics", "x.csv", "--output", "y"]) == 1
    told = capsys.readouterr().err
    assert "segstudy: error: results/table.csv: No space left on device; make room" in told
    assert "Traceback" not in told


def test_too_little_memory_is_one_line_and_no_trace(monkeypatch, capsys):
    def run(options):
        raise MemoryError("Unable to allocate 119. GiB for an array with shape (4000, 4000, 2000)")

    monkeypatch.setattr("segstudy.metrics.command.run", run)
    assert main(["metrics", "--reference", "x", "--output", "y"]) == 1
    told = capsys.readouterr().err
    assert (
        "segstudy: error: not enough memory (Unable to allocate 119. GiB for an array with" in told
    )
    assert "Traceback" not in told


def test_places_where_nothing_can_be_written_are_said(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: a folder; expected the name of a file"):
        write_text(tmp_path / "folder", "")
    with pytest.raises(InputError, match="file: a file; exp"), writing_folder(tmp_path / "file"):
        pass
    for way in (writing, writing_folder):
        for path in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
            with pytest.raises(InputError, match="x: cannot be written there"), way(path):
                pass
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(InputError, match=f"{path}: cannot be written there"):
            make_folder(path)
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


BAD_JSON = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deeper than is followed": '{"a":' * 101 + "1" + "}" * 101,
    "long": '{"channels": ' + "9" * 5000 + "}",
    "longer than is meant": "[" + "9" * 31 + "]",
    "none": "{",
    "two values": '{"a": 1, "b": {"c": 1, "c": 2}}',
    "empty": "",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_no_program_means_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    for read in (lambda: read_json(tmp_path / "a.json"), lambda: parse_json(text, "--columns")):
        with pytest.raises(
            InputError, match="(a.json|--columns): not readable as JSON "
        ) as refused:
            read()
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 200 + len(str(tmp_path))


def test_json_within_bounds_is_read(tmp_path):
    for text in ("[" * 100 + "]" * 100, '{"a": [1, -2.5, 1e3, "x", null, true]}', "9" * 30):
        (tmp_path / "a.json").write_text(text)
        assert read_json(tmp_path / "a.json") == json.loads(text)


def test_json_may_say_the_same_twice():
    assert parse_json('{"a": [1], "b": 2, "a": [1]}', "x") == {"a": [1], "b": 2}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_are_read_from_files_alone(tmp_path, number):
    """Programs write them into their files, such as nnU-Net's summary.json; nobody means them as a setting."""
    (tmp_path / "a.json").write_text(f'{{"Dice": {number}}}')
    found = read_json(tmp_path / "a.json")["Dice"]
    assert str(found) == str(float(number.replace("Infinity", "inf")))
    with pytest.raises(
        InputError, match=f"--x: not readable as JSON .{number} is no number of JSON"
    ):
        parse_json(f"[{number}]", "--x")
