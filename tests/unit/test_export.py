"""`segstudy export nnunet`: cases, labels and folds of a study as nnU-Net's raw data."""

import json

import numpy as np
import pytest
import yaml

from segstudy import cli
from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.images.files import read_label, write_label, write_nifti

LABEL = np.zeros((4, 3, 2), np.uint8)
LABEL[1], LABEL[2] = 7, 3


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of two folds, and a case that is for testing only; its audit and its folds are done."""
    monkeypatch.chdir(tmp_path)
    cases, splits, rows = [], [], ["case\timage\tlabel\tsplit"]
    for name, fold in {"a": 0, "b": 1, "c": 1, "t": None}.items():
        image, label = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"
        write_nifti(image, LABEL.astype(np.int16), np.eye(4))
        write_label(label, LABEL, np.eye(4))
        split = "" if fold is not None else "test"
        rows.append(f"{name}\t{image.name}\t{label.name}\t{split}")
        cases.append(Case(name, name, (image,), label, split=split or None))
        splits.append(Split("chest", name, name, fold))
    (tmp_path / "cases.tsv").write_text("\n".join(rows) + "\n")
    content = {
        "datasets": {
            "chest": {
                "source": {"layout": "table", "path": "cases.tsv"},
                "modality": "CT",
                "structures": {"heart": 7, "aorta": 3},
            }
        },
        "splits": {"folds": 2},
        "models": {"enet": {"network": "enet"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    results = tmp_path / "results" / "mine"
    (results / "download" / "chest").mkdir(parents=True)
    (results / "preprocess").mkdir()
    write_cases(results / "download" / "chest" / "cases.tsv", cases, ["image"])
    write_splits(results / "preprocess" / "splits.tsv", splits)
    return results


def export(*words) -> int:
    return cli.main(["export", "nnunet", "mine.yaml", "--output", "raw", *words])


def test_cases_and_folds_are_those_of_the_study(study, tmp_path, capsys):
    assert export("--name", "Dataset101_Mine") == 0
    assert "3 cases in imagesTr, 1 in imagesTs, 2 folds" in capsys.readouterr().out
    folder = tmp_path / "raw" / "Dataset101_Mine"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")}
    assert names == {
        *(f"imagesTr/chest-{name}_0000.nii.gz" for name in "abc"),
        *(f"labelsTr/chest-{name}.nii.gz" for name in "abc"),
        *("imagesTs/chest-t_0000.nii.gz", "labelsTs/chest-t.nii.gz"),
    }
    label = read_label(folder / "labelsTr" / "chest-a.nii.gz").array
    assert np.array_equal(label, np.select([LABEL == 7, LABEL == 3], [1, 2]))
    described = json.loads((folder / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "heart": 1, "aorta": 2}
    assert described["numTraining"] == 3
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": ["chest-b", "chest-c"], "val": ["chest-a"]},
        {"train": ["chest-a"], "val": ["chest-b", "chest-c"]},
    ]


def test_what_is_not_made_yet_or_is_there_is_told(study, tmp_path, capsys):
    assert export("--name", "Heart") == 1
    assert "--name Heart: expected Dataset, three digits" in capsys.readouterr().err
    (study / "preprocess" / "splits.tsv").unlink()
    assert export() == 1
    assert "splits.tsv: not made yet; first: segstudy run mine.yaml" in capsys.readouterr().err
    (tmp_path / "raw" / "Dataset001_mine").mkdir(parents=True)
    assert export() == 1
    assert "Dataset001_mine: is there already" in capsys.readouterr().err
