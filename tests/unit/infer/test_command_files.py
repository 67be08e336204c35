"""Which files a command names, and when they are others than before."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from segstudy.infer import command_files


@pytest.fixture
def model(tmp_path) -> Path:
    """A script, weights beside it, and a folder of models of two levels."""
    (tmp_path / "model" / "fold_0").mkdir(parents=True)
    for name in ("tool.py", "w.pt", "v.pt", "model/plans.json", "model/fold_0/best.pt"):
        (tmp_path / name).write_text(f"content of {name}")
    return tmp_path


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, *(word.replace("@", f"{folder}/") for word in words), "{image}"]


def files(command, apart=()) -> set[str]:
    return {path.name for found in command_files.stamps(command, apart) for path in found}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["@tool.py"], {"tool.py"}),
        (["--weights=@w.pt"], {"w.pt"}),
        (["-w", "@w.pt,@v.pt"], {"w.pt", "v.pt"}),
        (["--weights=@w.pt,@v.pt"], {"w.pt", "v.pt"}),
        (["--model_dir=@model"], {"plans.json", "best.pt"}),
        (["-v", "@model:/model:ro"], {"plans.json", "best.pt"}),
        (["--threads={threads}", "--fast", "", "=", ":"], set()),
        (["-c", "echo a; " * 100], set()),
    ],
)
def test_files_and_folders_are_found_wherever_a_word_names_them(model, words, expected):
    program = Path(sys.executable).name
    assert files(command(model, *words)) == {program, *expected}


@pytest.mark.parametrize(
    "words", [["--weights=@w.pt"], ["--model_dir=@model"], ["@tool.py", "@model"]]
)
def test_contents_decide_and_neither_place_nor_time(model, tmp_path, words):
    def digests(folder):
        return command_files.contents(command_files.stamps(command(folder, *words)))

    first = digests(model)
    copy = tmp_path / "elsewhere"
    shutil.copytree(model, copy)
    (copy / "model" / "__pycache__").mkdir()
    (copy / "model" / "__pycache__" / "tool.pyc").write_text("made by Python")
    assert digests(copy) == first
    for name in ("w.pt", "model/fold_0/best.pt"):
        path = copy / name
        status = path.stat()
        path.write_text(path.read_text().swapcase())
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests(copy) != first


def test_names_in_a_folder_count(model):
    words = command(model, "@model")
    first = command_files.contents(command_files.stamps(words))
    (model / "model" / "fold_0").rename(model / "model" / "fold_1")
    assert command_files.contents(command_files.stamps(words)) != first


def test_a_folder_of_images_or_output_is_no_model(model):
    words = command(model, "-v", "@:/data", "@model")
    for apart in (model / "case.nii.gz", model / "out" / "deep"):
        assert files(words, [apart]) == {Path(sys.executable).name, "plans.json", "best.pt"}
    assert "w.pt" in files(words)


def test_of_a_large_folder_times_stand_for_contents(model, monkeypatch):
    monkeypatch.setattr(command_files, "MOST_BYTES", 10)
    words = command(model, "@model")
    first = command_files.contents(command_files.stamps(words))
    assert command_files.contents(command_files.stamps(words)) == first
    os.utime(model / "model" / "plans.json", ns=(1, 1))
    assert command_files.contents(command_files.stamps(words)) != first


def test_a_folder_of_too_many_files_is_never_the_same(model, monkeypatch, caplog):
    monkeypatch.setattr(command_files, "MOST_FILES", 1)
    words = command(model, "@model")
    assert command_files.contents(command_files.stamps(words)) != command_files.contents(
        command_files.stamps(words)
    )
    assert "a folder of more than 1 files" in caplog.text
    assert command_files.state(words) == command_files.state(words), (
        "no reason to run again at each start"
    )


def test_the_state_of_a_command_changes_with_size_or_time_of_a_file(model):
    words = command(model, "--model_dir=@model", "--weights=@w.pt")
    seen = [command_files.state(words), command_files.state(words)]
    os.utime(model / "w.pt", ns=(1, 1))
    seen.append(command_files.state(words))
    (model / "model" / "plans.json").write_text("longer than it was before")
    seen.append(command_files.state(words))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
