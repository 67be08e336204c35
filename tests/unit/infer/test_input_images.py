"""Images named on the command line."""

from pathlib import Path

import pytest

from segstudy.errors import InputError
from segstudy.infer.input_images import named_images


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "scans/a.nii.gz",
        "scans/b.mha",
        "nn/p_0000.nii.gz",
        "nn/p_0001.nii.gz",
        "x,y.nii",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "scans/._a.nii.gz").touch()
    (tmp_path / "scans/notes.txt").touch()
    return tmp_path


def names(*texts, output="out"):
    found = named_images(texts, Path(output))
    return {name: [path.as_posix() for path in paths] for name, paths in found.items()}


def test_a_folder_stands_for_its_image_files(here):
    assert names("scans") == {"a": ["scans/a.nii.gz"], "b": ["scans/b.mha"]}


def test_nnunets_channels_are_one_image(here):
    assert names("nn") == {"p": ["nn/p_0000.nii.gz", "nn/p_0001.nii.gz"]}
    (here / "nn/q_0001.nii.gz").write_bytes(b"content")
    with pytest.raises(InputError, match="nn: case q: found channels 0001; expected 0000 to 0000"):
        names("nn")


def test_commas_part_channels_unless_they_are_in_a_files_name(here):
    assert names("scans/a.nii.gz,scans/b.mha") == {"a": ["scans/a.nii.gz", "scans/b.mha"]}
    assert names("x,y.nii") == {"x,y": ["x,y.nii"]}


def test_a_folder_of_dicom_files_is_one_image(here):
    for name in ("ct/p.1/IM1", "ct/p.2/IM1", "ct/p.2/IM2"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(b"\0" * 128 + b"DICM")
    assert names("ct") == {"p.1": ["ct/p.1"], "p.2": ["ct/p.2"]}
    assert names("ct/p.2") == {"p.2": ["ct/p.2"]}


def test_what_is_none_is_said(here):
    (here / "empty").mkdir()
    for text, words in (("empty", "no image file in it"),):
        with pytest.raises(InputError, match=f"^{text}: {words}"):
            names(text)
    with pytest.raises(InputError, match="its label would overwrite it"):
        names("scans", output="scans")
