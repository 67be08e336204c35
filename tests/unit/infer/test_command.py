"""`segstudy infer` as a user runs it."""

import subprocess
import sys

import numpy as np
import pytest

from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.errors import InputError
from segstudy.files import read_json, write_json
from segstudy.images.files import read_label, write_label
from segstudy.infer.command import _settings_of


def infer(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "segstudy", "infer", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_images_outside_any_study(tmp_path, write_weights, write_image, oblique):
    image, truth, affine = oblique
    weights = write_weights(tmp_path / "weights.pt")
    one = write_image(tmp_path / "one.nii.gz", image)
    two = write_image(tmp_path / "two.nii", image)
    write_json(
        tmp_path / "postprocessing.json",
        {"shell": {"keep_largest": True}, "core": {"keep_largest": False}},
    )
    done = infer(
        *("--weights", weights, "--output", tmp_path / "out", "--threads", 1),
        *("--structures", '{"shell": 5, "core": 300}', "--postprocessing"),
        *(tmp_path / "postprocessing.json", one, two),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "value  structure",
        "    5  shell  largest component",
        "  300  core",
    ]
    assert "peak memory" in done.stderr
    found = read_label(tmp_path / "out" / "one.nii.gz")
    assert np.array_equal(found.affine, np.float32(affine))
    assert set(np.unique(found.array)) == {0, 5, 300}
    assert ((found.array > 0) == (truth > 0)).mean() > 0.9985
    other = tmp_path / "out" / "two.nii.gz"
    assert (tmp_path / "out" / "one.nii.gz").read_bytes() == other.read_bytes()


def test_values_are_1_to_n_unless_they_are_given(tmp_path, write_weights, write_image, oblique):
    weights = write_weights(tmp_path / "weights.pt", infer={"keep_largest_component": "auto"})
    image = write_image(tmp_path / "one.nii.gz", oblique[0])
    done = infer("--weights", weights, "--output", tmp_path / "out", image)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["    1  shell", "    2  core"]
    assert "all components are kept" in done.stderr
    assert set(np.unique(read_label(tmp_path / "out" / "one.nii.gz").array)) == {0, 1, 2}


@pytest.fixture
def folder(tmp_path, write_weights, write_image, oblique):
    write_weights(tmp_path / "weights.pt")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_image(tmp_path / "a" / "scan.nii.gz", oblique[0])
    write_image(tmp_path / "b" / "scan.nii.gz", oblique[0])
    (tmp_path / "table.csv").write_text("case\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a/scan.nii.gz", "b/scan.nii.gz"], "both would be written to scan.nii.gz"),
        (["none.nii.gz"], "none.nii.gz: no such file"),
        (["table.csv"], "table.csv: no column 'image'; expected `case` and `image` with commas"),
        (["a/scan.nii.gz", "--output", "a"], "would overwrite it"),
        (["a/scan.nii.gz,b/scan.nii.gz"], "2 files, expected 1 channel"),
        (["a/scan.nii.gz", "--structures", '{"lung": 1}'], "expected those of the weights"),
        (["a/scan.nii.gz", "--structures", '{"shell": 1, "core": 1}'], "expected different"),
        (["a/scan.nii.gz", "--structures", "shell=1"], "not readable as JSON"),
        (["a/scan.nii.gz", "--weights", "table.csv"], "not readable as weights"),
        (["a/scan.nii.gz", "--fold", "0"], "--fold is for the cases of a study"),
        (["--cases", "cases.tsv"], "--dataset is missing"),
        ([], "nothing to predict"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_a_line(folder, monkeypatch, capsys, arguments, said):
    from segstudy.cli import main

    monkeypatch.chdir(folder)
    assert main(["infer", "--weights", "weights.pt", "--output", "out", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (folder / "out").exists()


@pytest.fixture
def study(tmp_path, write_weights, write_image, oblique):
    """Two datasets with repaired labels, in the files that the stages before write.

    Fold 0 tests site/p0 and site/p2, whose labels are no images; other/x was kept apart in training.
    """
    image, truth, affine = oblique
    seen = (["site/p1", "site/p3"], ["other/x"])
    write_weights(tmp_path / "weights.pt", infer={"keep_largest_component": "auto"}, seen=seen)
    splits = []
    for dataset, names in {"site": ["p0", "p1", "p2", "p3"], "other": ["x"]}.items():
        folder = tmp_path / dataset
        folder.mkdir()
        cases = []
        for number, name in enumerate(names):
            fold = 1 if dataset == "other" else number % 2
            splits.append(Split(dataset, name, name, fold))
            delivered = folder / f"{name}-wrong.nii.gz"
            delivered.write_text("the delivered label, which repair replaced")
            file = write_image(folder / f"{name}.nii.gz", image)
            cases.append(Case(name, name, (file,), delivered, voxels={"core": 1, "shell": 1}))
            repaired = folder / "labels" / "shard" / f"{name}.nii.gz"
            if fold == 1:
                write_label(repaired, np.array([0, 30, 40], np.uint8)[truth], affine)
            else:
                repaired.parent.mkdir(parents=True, exist_ok=True)
                repaired.write_text("a tested case's label: not to be opened")
        write_cases(folder / "cases.tsv", cases, ["c0"])
    write_splits(tmp_path / "splits.tsv", splits)
    return tmp_path


def of_study(folder, *more):
    """Arguments as the workflow gives them."""
    tables = [
        f"{name}={folder / name / 'cases.tsv'}:{folder / name / 'labels'}"
        for name in ("site", "other")
    ]
    return [
        *("--weights", folder / "weights.pt", "--cases", folder / "site" / "cases.tsv"),
        *("--labels", folder / "site" / "labels", "--dataset", "site"),
        *("--splits", folder / "splits.tsv", "--structures", '{"core": 4, "shell": 3}'),
        *("--training-cases", *tables, "--threads", 1, "--output", folder / "predictions", *more),
    ]


OTHER = ("--training-structures", '{"other": {"core": 40, "shell": 30}}')


def test_the_cases_of_a_fold(study):
    done = infer(*of_study(study, "--fold", 0, *OTHER))
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (study / "predictions").iterdir())
    assert names == ["p0.nii.gz", "p2.nii.gz", "postprocessing.json"]
    assert set(np.unique(read_label(study / "predictions" / "p0.nii.gz").array)) == {0, 3, 4}
    assert "predicted: 2 done" in done.stderr
    record = read_json(study / "predictions" / "postprocessing.json")
    for name in ("core", "shell"):
        assert record[name]["cases"] == ["other/x"]
        assert record[name]["dice_all"] > 0.9, "the other dataset's label values were understood"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--fold", "1", *OTHER], "trained for fold 0, but --fold is 1"),
        (["--fold", "7", *OTHER], "fold 7 tests no case of dataset site"),
        (["--fold", "0"], "no label values of dataset other"),
        (["--fold", "0", *OTHER, "--training-cases", "site=x"], "expected DATASET=TABLE.tsv"),
        (["--fold", "0", *OTHER, "--training-cases", "site=x.tsv"], "no table of dataset other"),
    ],
)
def test_what_is_wrong_in_a_fold_is_said(study, capsys, more, said):
    from segstudy.cli import main

    assert main(["infer", *map(str, of_study(study, *more))]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert not (study / "predictions").exists()


def test_a_gpu_that_is_too_small_is_not_tried_again(study, monkeypatch, capsys):
    import torch

    from segstudy.cli import main

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    told = "the GPU's memory is too small; one window of"
    words = list(map(str, of_study(study, "--fold", 0, *OTHER)))
    with monkeypatch.context() as planted:
        planted.setattr("segstudy.infer.image.probabilities", full)
        assert main(["infer", *words, "--attempt", "1"]) == 1
        assert told in capsys.readouterr().err
    assert main(["infer", *words, "--attempt", "2"]) == 1
    error = capsys.readouterr().err
    assert "as in the attempt before: case other/x: " in error
    assert told in error
    assert main(["infer", *words, "--attempt", "1"]) == 0
    # What told the next attempt is gone with the rest of what was unfinished.
    assert not (study / "predictions.partial").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"overlap": 0.25}', ['{"overlap": 0.25}'] * 2),
        ('[{"overlap": 0.25}, {}]', ['{"overlap": 0.25}', "{}"]),
    ],
)
def test_the_settings_of_an_ensembles_members_are_one_for_all_or_one_each(text, expected):
    assert _settings_of(text, 2) == expected


def test_settings_of_too_few_members_are_refused():
    with pytest.raises(
        InputError, match="--settings: 1 in the list; expected one for each of 2 weights"
    ):
        _settings_of("[{}]", 2)
