"""A file is whole or absent."""

import pytest

from segstudy.errors import InputError
from segstudy.files import read_json, write_json, writing, writing_folder


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
