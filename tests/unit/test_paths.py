"""Paths of a study file: put in full, from where they are meant, and checked before anything runs."""

import logging
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.files import listed
from segstudy.folds import folds_file
from segstudy.jobs.command import config_of
from segstudy.paths import followed, listed_files, state_of, write_list
from segstudy.start import chosen_study
from segstudy.study import check_sources, read_study


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a study file in `my/`, whose table is wherever a test puts it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", str(tmp_path / "home"))
    (tmp_path / "my").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path


def study(path: str, layout: str = "table") -> Path:
    content = {
        "datasets": {
            "chest": {
                "source": {"layout": layout, "path": path},
                "modality": "CT",
                "structures": {"heart": 1},
            }
        },
        "models": {"flat": {"network": "enet"}},
    }
    file = Path("my/study.yaml")
    file.write_text(yaml.safe_dump(content))
    return file


def source(path: str, layout: str = "table", **options) -> str:
    file = study(path, layout)
    found = read_study(file, **options)
    check_sources(found, file)
    return found.datasets["chest"].source.path


@pytest.mark.parametrize("text", ["~/c.tsv", "$DATA/c.tsv", "${DATA}/c.tsv", "{place}/home/c.tsv"])
def test_home_and_variables_are_put_in(place, text):
    (place / "home/c.tsv").touch()
    assert source(text.replace("{place}", str(place))) == str(place / "home/c.tsv")


def test_a_relative_path_is_one_from_the_study_files_folder(place, caplog):
    (place / "my/c.tsv").touch()
    assert source("c.tsv") == "my/c.tsv"
    assert not caplog.records
    (place / "outside").mkdir()
    assert source("../outside", "msd") == "outside"


def test_one_from_the_working_directory_is_taken_with_a_note(place, caplog):
    (place / "my/c.tsv").touch()
    with caplog.at_level(logging.WARNING):
        assert source("my/c.tsv") == "my/c.tsv"
    assert "is taken from the working directory" in caplog.text and "write c.tsv" in caplog.text


def test_the_study_file_itself_may_lie_at_home_or_where_a_variable_says(place, capsys):
    rows = [f"c{number}\tc.tsv\tc.tsv\n" for number in range(5)]
    (place / "my/c.tsv").write_text("case\timage\tlabel\n" + "".join(rows))
    (place / "home/study.yaml").write_text(study("../my/c.tsv").read_text())
    for text in ("~/study.yaml", "$DATA/study.yaml"):
        assert read_study(text).datasets["chest"].source.path == "my/c.tsv"
        assert main(["study", text]) == 0
        assert capsys.readouterr().out.startswith(f"{place}/home/study.yaml: study: 1 dataset")
    assert main(["study", "$NOWHERE/study.yaml"]) == 1
    assert (
        "study file: $NOWHERE/study.yaml: the variable $NOWHERE is not set"
        in capsys.readouterr().err
    )


def test_of_two_the_one_beside_the_study_file_is_taken(place, caplog):
    for folder in (place, place / "my"):
        (folder / "c.tsv").touch()
    assert source("c.tsv") == "my/c.tsv"
    assert "c.tsv is taken from the study file's folder" in caplog.text
    (place / "c.tsv").unlink()
    (place / "c.tsv").symlink_to(place / "my/c.tsv")
    assert source("c.tsv") == "my/c.tsv"


@pytest.mark.parametrize(
    ("path", "layout", "words"),
    [
        ("none.tsv", "table", r"no such table \(.*/my/none\.tsv\)"),
        ("/none", "nnunet", "/none: no such folder"),
        ("folder", "table", "a folder; expected the table"),
        ("file.zip", "msd", "a file; expected the dataset's folder; unpack the archive"),
        ("${NOWHERE}/c.tsv", "table", r"the variable \$\{NOWHERE\} is not set"),
        ("$NOWHERE/c.tsv", "table", r"the variable \$NOWHERE is not set"),
        ("~nobody_of_that_name/c.tsv", "table", "no such user"),
        ("{site}/c.tsv", "table", "braces stand for wildcards"),
        ("", "table", "'': empty; expected a path"),
        (" ", "msd", "' ': empty; expected a path"),
        ("$EMPTY", "nnunet", r"'\$EMPTY': empty; expected a path"),
    ],
)
def test_what_is_not_there_is_said_when_the_study_is_read(
    place, capsys, monkeypatch, path, layout, words
):
    monkeypatch.setenv("EMPTY", "")
    (place / "my/folder").mkdir()
    (place / "my/file.zip").touch()
    with pytest.raises(
        InputError,
        match=rf"my/study\.yaml, line \d+, column \d+: datasets\.chest\.source\.path: .*{words}",
    ):
        source(path, layout)
    assert main(["study", "my/study.yaml"]) == 1
    assert re.search(
        r"segstudy: error: my/study\.yaml, line \d+, column \d+: datasets\.chest\.source\.path",
        capsys.readouterr().err,
    )


NFC, NFD = "M\u00fcller", "Mu\u0308ller"  # both are shown as Müller


@pytest.mark.parametrize(("written", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_a_letter_of_two_signs_is_found_as_one_and_the_other_way_round(place, written, stored):
    folder = place / "my" / stored
    folder.mkdir()
    (folder / f"{stored}.tsv").write_text(f"case\timage\n{stored}\t{written}.mha\n")
    (folder / f"{stored}.mha").touch()
    found = source(f"{written}/{written}.tsv")
    assert found == f"my/{stored}/{stored}.tsv"
    assert listed_files(Path(found)) == [f"my/{stored}/{stored}.mha"]
    assert source("x", source_path=f"my/{written}/{written}.tsv") == found
    # What is not there in any spelling is said as it was written.
    with pytest.raises(InputError, match=f"{written}2.tsv: no such table"):
        source(f"{written}2.tsv")


def test_where_both_spellings_are_there_each_is_itself(place):
    for name in (NFC, NFD):
        (place / "my" / f"{name}.tsv").touch()
    assert source(f"{NFD}.tsv") == f"my/{NFD}.tsv" and source(f"{NFC}.tsv") == f"my/{NFC}.tsv"


def test_a_study_is_the_same_in_either_spelling_of_its_name(place):
    (place / "my/c.tsv").touch()
    study("c.tsv").rename(place / "my" / f"{NFD}.yaml")
    (place / "my" / f"{NFC}.splits.tsv").touch()
    for name in (NFC, NFD):
        config = config_of(f"my/{name}.yaml", [])
        found, file = chosen_study(config)
        assert (found.name, file) == ("M_ller", Path(f"my/{NFD}.yaml"))
        assert folds_file(file, place, "results").name == f"{NFC}.splits.tsv"


@pytest.fixture
def link(place):
    """`mine/study.yaml`, a link to `my/study.yaml`, the file of a laboratory."""
    (place / "mine").mkdir()
    return place / "mine/study.yaml"


def linked(link, path):
    study(path)
    link.unlink(missing_ok=True)
    link.symlink_to("../my/study.yaml")
    return read_study(Path("mine/study.yaml")).datasets["chest"].source.path


def test_of_a_linked_study_paths_are_from_the_links_folder_else_from_the_files_own(
    place, link, caplog
):
    (place / "my/c.tsv").touch()
    (place / "data").mkdir()
    assert linked(link, "c.tsv") == "my/c.tsv"
    assert linked(link, "../data") == "data"
    assert not caplog.records
    (place / "mine/c.tsv").touch()
    assert linked(link, "c.tsv") == "mine/c.tsv"
    assert "c.tsv is taken from the folder of the link to the study file" in caplog.text
    linked(link, "none.tsv")
    with pytest.raises(InputError, match=r"no such table \(.*/mine/none\.tsv\), nor from .*/my\)"):
        check_sources(read_study(link), Path("mine/study.yaml"))


def test_files_of_a_linked_table_are_found_beside_the_table_itself(place, link):
    (place / "my/c.tsv").write_text("case\timage\na\ta.mha\nb\tb.mha\n")
    for name in ("my/a.mha", "my/b.mha", "mine/b.mha"):
        (place / name).touch()
    (place / "mine/c.tsv").symlink_to("../my/c.tsv")
    assert listed_files(Path("mine/c.tsv")) == [str(place / "my/a.mha"), "mine/b.mha"]


def test_folds_of_a_linked_study_are_those_that_its_file_has(place, link):
    linked(link, "c.tsv")
    assert folds_file(link, place, "results") == place / "mine/study.splits.tsv"
    (place / "my/study.splits.tsv").touch()
    assert folds_file(link, place, "results") == place / "my/study.splits.tsv"
    (place / "mine/study.splits.tsv").touch()
    assert folds_file(link, place, "results") == place / "mine/study.splits.tsv"


def test_in_a_linked_folder_a_path_upwards_is_where_the_system_finds_it(place):
    (place / "far/real").mkdir(parents=True)
    (place / "far/c.tsv").touch()
    (place / "my").rmdir()
    (place / "my").symlink_to("far/real")
    assert source("../c.tsv") == "far/c.tsv"


def test_a_path_of_the_command_line_is_one_from_the_working_directory(place):
    (place / "d").mkdir()
    assert source("none", "msd", source_path="d") == "d"
    assert source("none", "msd", source_path="~") == str(place / "home")
    with pytest.raises(InputError, match="--config path: '': empty; expected a path"):
        source("none", "msd", source_path="")


@pytest.mark.parametrize("path", ["${NOWHERE}/c.tsv", "~nobody_of_that_name", "{site}", "both", ""])
@pytest.mark.parametrize("option", ["d", {"chest": "d"}])
def test_a_path_that_the_command_line_replaces_is_not_looked_at(place, caplog, path, option):
    for folder in ("d", "both", "my/both"):
        (place / folder).mkdir()
    with caplog.at_level(logging.WARNING):
        assert source(path, "msd", source_path=option) == "d"
    assert not caplog.records


def test_files_of_a_table_are_followed_whatever_the_table_looks_like(tmp_path):
    """A byte-order mark before the first column, cells padded with blanks, voxels beside a header."""
    for name in ("i.mhd", "i.raw", "l.nii.gz", "other.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "i.mhd").write_text("ObjectType = Image\nElementDataFile = i.raw\n")
    table = tmp_path / "t.tsv"
    table.write_text("\ufeffimage\tcase\t label\ni.mhd \tc0\tl.nii.gz \n", encoding="utf-8")
    names = [Path(file).name for file in listed_files(table)]
    assert names == ["i.mhd", "i.raw", "l.nii.gz"]


def test_a_file_that_a_header_names_elsewhere_is_not_followed(tmp_path):
    """The audit refuses the image by its case; the workflow takes no stranger for an input."""
    (tmp_path / "secret.raw").touch()
    (tmp_path / "data").mkdir()
    header = tmp_path / "data/i.mhd"
    header.write_text("NDims = 3\nElementDataFile = ../secret.raw\n")
    assert followed([header]) == [str(header)]


def test_a_file_with_braces_in_its_name_is_refused():
    with pytest.raises(InputError, match="braces stand for wildcards"):
        followed(["a/{site}.nii.gz"])


def test_a_table_is_followed_as_the_audit_reads_it(tmp_path):
    """A byte-order mark, spaces around names and cells, the voxels of a header, tables of labels beside."""
    labels = tmp_path / "labels"
    labels.mkdir()
    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw\n")
    for name in ("a.raw", "labels/a.nii.gz", "labels/sub_dseg.tsv", "labels/notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "dataset.json").touch()
    table = tmp_path / "cases.tsv"
    table.write_text("\ufeffimage \tcase\t label\n a.mhd \ta\tlabels/a.nii.gz \n", encoding="utf-8")
    found = [str(Path(path).relative_to(tmp_path)) for path in listed_files(table)]
    assert found == ["a.mhd", "a.raw", "dataset.json", "labels/a.nii.gz", "labels/sub_dseg.tsv"]


@pytest.fixture
def cohort(tmp_path) -> list[Path]:
    files = [tmp_path / "data" / name for name in ("a/i.nii", "a/l.nii", "b/i.nii", "b/l.nii")]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (10 + number))
        os.utime(file, (10**9, 10**9))
    return files


@pytest.mark.parametrize("seconds", [-9, 9])
def test_a_file_of_the_same_size_with_another_time_is_another_state(cohort, seconds):
    """A corrected label that arrives by `rsync -a` is older than what was made of the one before."""
    before = state_of(cohort)
    os.utime(cohort[1], (10**9 + seconds, 10**9 + seconds))
    assert state_of(cohort) != before
    assert state_of(cohort[:1]) == state_of([cohort[0]]), "others do not count"


def test_another_size_or_name_or_number_of_files_is_another_state(cohort):
    found = [state_of(cohort), state_of(cohort[:3])]
    cohort[0].write_bytes(b"x" * 11)
    os.utime(cohort[0], (10**9, 10**9))
    found.append(state_of(cohort))
    cohort[3] = cohort[3].rename(cohort[3].with_name("m.nii"))
    found.append(state_of(cohort))
    assert len(set(found)) == 4


def test_data_moved_or_copied_with_their_times_are_in_the_same_state(cohort, tmp_path):
    shutil.copytree(tmp_path / "data", tmp_path / "far" / "away")
    moved = [tmp_path / "far" / "away" / file.relative_to(tmp_path / "data") for file in cohort]
    assert state_of(moved[::-1]) == state_of(cohort[:2], cohort[2:])


def test_folders_and_what_is_not_there_yet_have_no_state(cohort, tmp_path):
    assert state_of(cohort, [tmp_path, tmp_path / "repaired"]) == state_of(cohort)
    assert state_of([]) == state_of([tmp_path])


@pytest.mark.parametrize("folders", [True, False])
def test_a_list_has_other_bytes_where_something_in_it_was_replaced(cohort, tmp_path, folders):
    """With checksums, Snakemake asks for the bytes of a small file, not for its time, once a run is over."""
    named = [file.parent for file in cohort[::2]] if folders else cohort
    write_list(tmp_path / "list.txt", named)
    before = (tmp_path / "list.txt").read_bytes()
    assert listed([tmp_path / "list.txt"]) == named
    write_list(tmp_path / "list.txt", named)
    assert (tmp_path / "list.txt").read_bytes() == before
    os.utime(cohort[2], (10**9 - 9, 10**9 - 9))
    write_list(tmp_path / "list.txt", named)
    assert (tmp_path / "list.txt").read_bytes() != before
    assert listed([tmp_path / "list.txt"]) == named


def test_a_folder_of_predictions_that_is_not_there_is_refused_before_a_run(place):
    file = study("c.tsv")
    Path("my/c.tsv").touch()
    Path("my/predicted").mkdir()
    content = yaml.safe_load(file.read_text())

    def check(files: str) -> None:
        model = {"trainer": "predictions", "files": files}
        file.write_text(yaml.safe_dump(content | {"models": {"there": model}}))
        check_sources(read_study(file), file)

    for files in (
        "predicted/{case}.nii.gz",
        "predicted/fold_{fold}/{case}.nii.gz",
        "{case}.nii.gz",
    ):
        check(files)
    where = (
        r"my/study\.yaml, line \d+, column \d+: models\.there\.files: .*predictd: no such folder"
    )
    with pytest.raises(InputError, match=rf"{where}; did you mean .*my/predicted\?"):
        check("predictd/fold_{fold}/{case}.nii.gz")


def test_the_study_files_own_folder_is_taken_without_a_word(place, caplog):
    """Every working directory has a folder `.`, which is no other folder of that name."""
    file = study("c.tsv")
    content = yaml.safe_load(file.read_text())
    models = {"there": {"trainer": "predictions", "files": "{case}.nii.gz"}}
    file.write_text(yaml.safe_dump(content | {"models": models}))
    assert Path(read_study(file).models["there"].files).parent.samefile("my")
    assert "which has one too" not in caplog.text


def test_a_mistyped_file_of_training_splits_is_refused_with_the_near_name(place):
    file = study("c.tsv")
    Path("my/c.tsv").touch()
    Path("my/pre").mkdir()
    Path("my/p").mkdir()
    right = Path("my/pre/splits_final.json")
    content = yaml.safe_load(file.read_text())

    def check(named: str) -> None:
        model = {"trainer": "predictions", "files": "p/{case}.nii.gz", "training_splits": named}
        file.write_text(yaml.safe_dump(content | {"models": {"there": model}}))
        check_sources(read_study(file), file)

    right.write_text('[{"train": ["a"], "val": ["b"]}]')
    check("pre/splits_final.json")
    where = r"my/study\.yaml, line \d+, column \d+: models\.there\.training_splits"
    with pytest.raises(
        InputError, match=rf"{where}: .*no such file; .*; did you mean .*pre/splits_final\.json\?"
    ):
        check("pre/split_final.json")
    with pytest.raises(InputError, match=r"no such file; .*; did you mean .*my/pre\?"):
        check("prep/splits_final.json")
    with pytest.raises(InputError, match=r"no such file; .*; my/elsewhere is not there"):
        check("elsewhere/deep/splits_final.json")
    right.write_text('[{"train": ["a"], "val": 3}]')
    with pytest.raises(InputError, match=rf"{where}: .*fold 0: val: found 3; expected a list"):
        check("pre/splits_final.json")
