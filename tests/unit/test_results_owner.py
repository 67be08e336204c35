"""A results folder belongs to a study file and its data."""

import json
import os
import shutil

import pytest

from segstudy.errors import InputError
from segstudy.results_owner import (
    FILE,
    LOOKED_INTO,
    PIECE_BYTES,
    claim,
    data_checksum,
    hold,
    record,
)
from segstudy.study.study import SCHEMA_VERSION


def write(folder, count=3, fill=b"x", size=10):
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"scan_{number:03d}.nii").write_bytes(fill * size)
    return sorted(folder.iterdir())


def never():
    raise AssertionError("the data are not needed")


@pytest.fixture
def owned(tmp_path):
    """The results of `one/study.yaml`, with one dataset."""
    study = tmp_path / "one" / "study.yaml"
    study.parent.mkdir()
    study.write_text("models: {}\n")
    results = tmp_path / "one" / "results" / "study"
    record(results, study, {"site": "a"})
    return results, study


def test_a_new_folder_is_anyones(tmp_path):
    assert claim(tmp_path / "results", tmp_path / "study.yaml", never) is None


def test_the_same_file_goes_on_whatever_has_changed(owned, monkeypatch):
    results, study = owned
    assert claim(results, study, never) is None
    monkeypatch.chdir(study.parent)
    assert claim("results/study", "study.yaml", never) is None


def test_a_project_that_was_moved_with_its_results_goes_on(owned, tmp_path):
    _, study = owned
    shutil.copytree(study.parent, tmp_path / "two")
    assert claim(tmp_path / "two/results/study", tmp_path / "two/study.yaml", never) is None


@pytest.mark.parametrize("moved", [True, False])
def test_a_study_that_was_moved_or_copied_is_adopted_with_a_note(owned, tmp_path, moved):
    results, study = owned
    shutil.copy(study, tmp_path / "moved.yaml")
    if moved:
        study.unlink()
        (tmp_path / "moved.yaml").write_text("models: {more: {}}\n")
    note = claim(results, tmp_path / "moved.yaml", lambda: {"site": "a"})
    assert f"{results} holds the results of {study}" in note
    assert "moved.yaml" in note


def test_another_study_of_the_same_name_on_the_same_data_is_refused(owned, tmp_path):
    """A colleague's: its weights would take the place of those that the first one's figures are of."""
    results, study = owned
    (tmp_path / "other.yaml").write_text("models: {other: {}}\n")
    with pytest.raises(InputError) as refused:
        claim(results, tmp_path / "other.yaml", lambda: {"site": "a"})
    for words in (str(results), str(study), "other.yaml", "other settings", "`name: ...`"):
        assert words in str(refused.value)
    assert "--config adopt=true" in str(refused.value)


def test_results_that_say_not_whose_they_are_are_taken_with_a_note(owned):
    results, study = owned
    (results / FILE).unlink()
    assert claim(results, study, never) is None
    (results / "train").mkdir()
    assert f"taken for those of {study}" in claim(results, study, never)


@pytest.mark.parametrize(
    "data", [{"site": "b"}, {"other": "a"}, {"site": "a", "more": "c"}], ids=str
)
def test_another_file_with_other_data_is_refused_with_what_to_do(owned, tmp_path, data):
    results, study = owned
    before = (results / FILE).read_bytes()
    with pytest.raises(InputError) as refused:
        claim(results, tmp_path / "other.yaml", lambda: data)
    for words in (str(results), str(study), "other.yaml", "datasets: site", "`name: ...`"):
        assert words in str(refused.value)
    for option in ("--config results=DIR", "--config adopt=true"):
        assert option in str(refused.value)
    assert (results / FILE).read_bytes() == before
    record(results, tmp_path / "other.yaml", data)
    assert claim(results, tmp_path / "other.yaml", never) is None
    with pytest.raises(InputError):
        claim(results, study, lambda: {"site": "a"})


@pytest.mark.parametrize("text", ["{", "", "[]", "3", '{"data": 3}', '{"schema_version": "x"}'])
def test_a_damaged_record_is_named(owned, text):
    results, study = owned
    (results / FILE).write_text(text)
    with pytest.raises(InputError, match=f"{FILE}: damaged record") as refused:
        claim(results, study, never)
    assert "remove that file, and it is written anew" in str(refused.value)
    assert str(study) in str(refused.value)


def test_results_say_of_which_version_they_are(owned):
    """Those of a version before it said so are taken, and say so from then on."""
    results, study = owned
    written = json.loads((results / FILE).read_text())
    assert written.pop("schema_version") == SCHEMA_VERSION
    (results / FILE).write_text(json.dumps(written))
    assert claim(results, study, never) is None
    record(results, study, {"site": "a"})
    assert json.loads((results / FILE).read_text()) == {"schema_version": SCHEMA_VERSION, **written}


def test_results_of_a_newer_version_are_refused_in_a_sentence(owned):
    results, study = owned
    content = json.loads((results / FILE).read_text())
    (results / FILE).write_text(json.dumps(content | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(InputError, match="of a newer segstudy.*Install the newer one") as refused:
        claim(results, study, never)
    assert f"{FILE}: schema_version: {SCHEMA_VERSION + 1}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_data_are_the_same_wherever_they_lie(tmp_path):
    here = write(tmp_path / "here")
    there = write(tmp_path / "far" / "away")
    assert data_checksum("", here) == data_checksum("", there[::-1])


@pytest.mark.parametrize("place", [0, 5 * PIECE_BYTES + 7, 10 * PIECE_BYTES - 1])
def test_other_contents_names_sizes_or_numbers_are_other_data(tmp_path, place):
    size = 10 * PIECE_BYTES
    files = write(tmp_path / "here", size=size)
    found = {data_checksum("", files)}
    content = bytearray(files[1].read_bytes())
    content[place] = 7
    files[1].write_bytes(content)
    found.add(data_checksum("", files))
    files[1].write_bytes(content[:-1])
    found.add(data_checksum("", files))
    found.add(data_checksum("", files[:2]))
    found.add(data_checksum("", [files[0], files[1].rename(tmp_path / "here" / "other.nii")]))
    assert len(found) == 5


def test_of_many_files_names_and_sizes_of_all_count(tmp_path):
    files = write(tmp_path / "here", count=3 * LOOKED_INTO)
    before = data_checksum("", files)
    files[-1].write_bytes(b"x" * 11)
    assert data_checksum("", files) != before


def test_what_is_fetched_is_told_by_its_source():
    assert data_checksum('{"seed": 1}', None) != data_checksum('{"seed": 2}', None)
    assert data_checksum("{}", None) == data_checksum("{}", None) != data_checksum("{}", [])


def test_two_runs_of_a_study_are_not_at_work_at_once(tmp_path):
    first = hold(tmp_path / "results")
    with pytest.raises(
        InputError, match=rf"another run is at work there \(process {os.getpid()} on "
    ):
        hold(tmp_path / "results")
    hold(tmp_path / "others").close()
    first.close()
    hold(tmp_path / "results").close()


def test_results_name_the_plugins_that_they_were_made_with(tmp_path):
    used = {"models.own.network": "my_net.py 4c5fa117d1973731"}
    record(tmp_path / "results", tmp_path / "own.yaml", {"site": "a"}, used)
    assert json.loads((tmp_path / "results" / "study.json").read_text())["plugins"] == used
    record(tmp_path / "results", tmp_path / "own.yaml", {"site": "a"}, {})
    assert "plugins" not in json.loads((tmp_path / "results" / "study.json").read_text())
