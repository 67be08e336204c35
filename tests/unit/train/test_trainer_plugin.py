"""A trainer of the user's own: what it is given, what it leaves, what it may not see, and every way it can go wrong."""

import json
import logging
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segstudy import gpus, plugins
from segstudy.cases import Case, Split, read_splits, write_cases, write_splits
from segstudy.cli import main
from segstudy.images.files import read_label, write_nifti
from segstudy.images.overlap import dice
from segstudy.own_trainers import pack

EXAMPLE = Path(__file__).parents[3] / "resources" / "plugins" / "grey_values.py"
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
STRUCTURES = {"ball": 3, "rod": 9}

# A trainer that writes down what it is given.
WITNESS = """
import json
from pathlib import Path

import numpy, nibabel


class Trainer:
    def __init__(self, stop=False):
        self.stop = stop

    def fit(self, cases, validation_cases, folder, settings):
        seen = json.loads((folder / "seen.json").read_text()) if (folder / "seen.json").exists() else []
        seen.append([
            [[case.name, case.subject, [str(p) for p in case.images], str(case.label), dict(case.structures),
              list(case.ignore)] for case in cases],
            [case.name for case in validation_cases],
            settings,
        ])
        (folder / "seen.json").write_text(json.dumps(seen))
        if self.stop and len(seen) == 1:
            raise KeyboardInterrupt

    def predict(self, case, folder):
        {body}
"""


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Six cases whose structures are told by their grey values; even ones are tested in fold 0."""
    folder, cases = tmp_path / "cohort", []
    for number in range(6):
        draw = np.random.default_rng(number)
        label = np.zeros((12, 10, 8), np.uint16)
        label[2:6, 2:6, 2:6], label[8:10, 7:9, :] = 3, 9
        grey = {0: 0, 3: 100, 9: 200}
        image = np.vectorize(grey.get)(label) + draw.normal(0, 10, label.shape)
        files = folder / f"case_{number}.nii.gz", folder / f"case_{number}_seg.nii.gz"
        write_nifti(files[0], image.astype(np.float32), AFFINE)
        write_nifti(files[1], label, AFFINE)
        cases.append(Case(f"case_{number}", f"subject_{number}", (files[0],), files[1]))
    write_cases(folder / "cases.tsv", cases, ["image"])
    splits = [Split("toy", case.case, case.subject, n % 2) for n, case in enumerate(cases)]
    write_splits(folder / "splits.tsv", splits)
    return folder


def learn(cohort, output, plugin, fold=0, further=(), **model) -> int:
    plugins.digest.cache_clear()
    settings = {
        "model": {"trainer": str(plugin), **model},
        "structures": list(STRUCTURES), "channels": ["image"], "modality": "CT",
    }  # fmt: skip
    return main(
        [
            *("train", "--cases", f"toy={cohort}/cases.tsv", "--splits", f"{cohort}/splits.tsv"),
            *("--structures", json.dumps({"toy": STRUCTURES}), "--fold", str(fold)),
            *("--settings", json.dumps(settings), "--output", str(output), "--threads", "1"),
            *further,
        ]
    )


def predict(cohort, trained, output, plugin, fold=0, further=()) -> int:
    plugins.digest.cache_clear()
    named = ["--plugin", str(plugin)] if plugin else []
    return main(
        [
            *("infer", "--trained", str(trained), *named, "--cases", f"{cohort}/cases.tsv"),
            *("--dataset", "toy", "--splits", f"{cohort}/splits.tsv", "--fold", str(fold)),
            *("--structures", json.dumps(STRUCTURES), "--output", str(output), *further),
        ]
    )


def witness(folder, body="return numpy.zeros((12, 10, 8), int)", name="own.py"):
    file = folder / name
    file.write_text(WITNESS.replace("{body}", body))
    return file


@pytest.mark.parametrize(("device", "claimed"), [("cuda", [1]), ("auto", [1]), ("cpu", [])])
def test_a_prediction_claims_a_gpu_unless_it_runs_on_the_cpu(
    cohort, tmp_path, monkeypatch, device, claimed
):
    assert learn(cohort, tmp_path / "out", EXAMPLE) == 0
    asked = []
    monkeypatch.setattr(gpus, "claim", asked.append)
    assert predict(
        *(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", EXAMPLE),
        further=("--device", device),
    ) == 0  # fmt: skip
    assert asked == claimed


def test_the_example_learns_and_predicts(cohort, tmp_path):
    assert learn(cohort, tmp_path / "out", EXAMPLE, options={"bin_width": 5.0}) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("settings.json", "trained.tar"),
    ]
    assert predict(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", EXAMPLE) == 0
    for number in (0, 2, 4):
        predicted = read_label(tmp_path / "labels" / f"case_{number}.nii.gz").array
        truth = read_label(cohort / f"case_{number}_seg.nii.gz").array
        assert set(np.unique(predicted)) == {0, 3, 9}
        classes = [np.searchsorted([0, 3, 9], label) for label in (truth, predicted)]
        assert min(dice(*classes, 3)) > 0.99
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["plugins"] == {"trainer": f"grey_values.py {plugins.digest(str(EXAMPLE))}"}
    assert str(EXAMPLE.parent) not in (tmp_path / "out/settings.json").read_text()


def test_it_is_given_the_folds_training_cases_alone(cohort, tmp_path):
    own = witness(tmp_path)
    assert learn(cohort, tmp_path / "out", own, validation_fraction=0.34, seeds=[0]) == 0
    with tarfile.open(tmp_path / "out/trained.tar") as archive:
        ((cases, validation, settings),) = json.load(archive.extractfile("files/seen.json"))
        record = json.load(archive.extractfile("segstudy.json"))
    assert sorted([case[0] for case in cases] + validation) == [f"toy/case_{n}" for n in (1, 3, 5)]
    assert len(validation) == 1
    assert sorted(record["training"]) == sorted(case[0] for case in cases)
    assert record["validation"] == validation
    name, subject, images, label, structures, ignore = cases[0]
    number = name[-1]
    assert (subject, structures, ignore) == (f"subject_{number}", STRUCTURES, [])
    assert images == [str(cohort / f"case_{number}.nii.gz")]
    assert label == str(cohort / f"case_{number}_seg.nii.gz")
    assert settings.pop("device") in ("cpu", "cuda")
    assert settings == {
        **{"structures": ["ball", "rod"], "channels": ["image"], "modality": "CT"},
        **{"left_right_pairs": [], "fold": 0, "seed": 0, "threads": 1},
    }


def test_a_gpu_too_small_for_a_plugin_is_told_and_not_tried_again(cohort, tmp_path, capsys):
    full = "import torch; raise torch.OutOfMemoryError('CUDA out of memory')"
    learns = witness(tmp_path, name="learns.py")
    fails = tmp_path / "fails.py"
    fails.write_text(
        learns.read_text().replace("        seen = json", f"        {full}\n        seen = json", 1)
    )
    told = "the GPU's memory is too small; have the plug-in hold less of it"
    for number, before in ((1, ""), (2, "as in the attempt before: ")):
        further = ("--attempt", str(number))
        assert learn(cohort, tmp_path / "none", fails, further=further) == 1
        assert f"error: {before}{told}" in capsys.readouterr().err
    cannot = witness(tmp_path, body=full)
    assert learn(cohort, tmp_path / "out", cannot) == 0
    capsys.readouterr()
    for number, before in ((1, ""), (2, "as in the attempt before: ")):
        words = (cohort, tmp_path / "out/trained.tar", tmp_path / "labels", cannot)
        assert predict(*words, further=("--attempt", str(number))) == 1
        # The first case ends the job: the others would not fit either.
        error = capsys.readouterr().err
        assert f"error: {before}case case_0: {told}" in error
        assert "case_2" not in error


def test_prediction_is_not_given_the_label(cohort, tmp_path, capsys):
    own = witness(tmp_path, "raise ValueError(repr((case.label, case.name, case.structures)))")
    assert learn(cohort, tmp_path / "out", own) == 0
    assert predict(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", own) != 0
    said = capsys.readouterr().err
    assert "(None, 'toy/case_0', {'ball': 3, 'rod': 9})" in said
    assert "own.py" in said and "3 of 3 images could not be predicted" in said
    assert not (tmp_path / "labels").exists()


def test_leaks_are_refused(cohort, tmp_path, capsys):
    assert learn(cohort, tmp_path / "out", EXAMPLE) == 0
    assert predict(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", EXAMPLE, fold=1) != 0
    assert "--trained: trained for fold 0, but --fold is 1" in capsys.readouterr().err
    swapped = [replace(split, fold=1 - split.fold) for split in read_splits(cohort / "splits.tsv")]
    write_splits(cohort / "splits.tsv", swapped)
    assert predict(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", EXAMPLE) != 0
    assert "fold 0 tests toy/case_1, which the weights were trained on" in capsys.readouterr().err


def test_a_stopped_training_goes_on_and_another_one_begins_anew(cohort, tmp_path):
    own = witness(tmp_path)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        raise SystemExit(learn(cohort, tmp_path / "out", own, options={"stop": True}))
    assert not (tmp_path / "out/trained.tar").exists()
    kept = tmp_path / "out/unfinished/files/seen.json"
    assert len(json.loads(kept.read_text())) == 1
    assert learn(cohort, tmp_path / "out", own, options={"stop": True}) == 0
    with tarfile.open(tmp_path / "out/trained.tar") as archive:
        assert len(json.load(archive.extractfile("files/seen.json"))) == 2
    assert not kept.exists()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        raise SystemExit(learn(cohort, tmp_path / "more", own, options={"stop": True}))
    assert learn(cohort, tmp_path / "more", own) == 0
    with tarfile.open(tmp_path / "more/trained.tar") as archive:
        assert len(json.load(archive.extractfile("files/seen.json"))) == 1


def test_finished_work_is_found_again_and_not_after_an_edit(cohort, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    text, taken = EXAMPLE.read_text(), {}
    for name, content in (
        ("here", text),
        ("moved", f"{text}\n# a comment\n"),
        ("edited", text.replace("= bin_width", "= 2 * bin_width")),
    ):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "own.py"
        file.write_text(content)
        kept = ("--finished", str(tmp_path / "kept"))
        trained = tmp_path / name / "out/trained.tar"
        caplog.clear()
        assert learn(cohort, trained.parent, file, further=kept) == 0
        first = "made before" in caplog.text
        caplog.clear()
        assert predict(cohort, trained, tmp_path / name / "labels", file, further=kept) == 0
        taken[name] = first, "made before" in caplog.text
    assert taken == {"here": (False, False), "moved": (True, True), "edited": (False, False)}


def test_the_plugin_is_asked_for_and_known_again(cohort, tmp_path, capsys):
    own = witness(tmp_path)
    assert learn(cohort, tmp_path / "out", own) == 0
    trained = tmp_path / "out/trained.tar"
    assert predict(cohort, trained, tmp_path / "labels", None) != 0
    assert "made with the plug-in own.py (code " in capsys.readouterr().err
    witness(tmp_path, "return 3")
    assert predict(cohort, trained, tmp_path / "labels", own) != 0
    assert "other code (own.py " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 3", "predict gives a int; expected an array (i, j, k)"),
        ("return numpy.zeros((12, 10, 9), int)", "predict gives int64 of 12x10x9; expected whole"),
        ("return numpy.zeros((12, 10, 8))", "predict gives float64 of 12x10x8; expected whole"),
        ("return numpy.ones((12, 10, 8), int)", "the value 1; expected 0 for the background and"),
        ("return folder / 'none.nii.gz'", "where there is no file"),
        (
            "nibabel.save(nibabel.Nifti1Image(numpy.zeros((12, 10, 8), 'uint8'), numpy.eye(4)), "
            "folder / 'a.nii.gz'); return folder / 'a.nii.gz'",
            "predict wrote a label on another grid",
        ),
    ],
)
def test_what_is_no_label_is_told(cohort, tmp_path, capsys, body, said):
    own = witness(tmp_path, body)
    assert learn(cohort, tmp_path / "out", own) == 0
    assert predict(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", own) != 0
    assert said in capsys.readouterr().err


def test_a_label_file_is_taken(cohort, tmp_path):
    body = (
        "path = folder / 'label.nii.gz'; image = nibabel.load(case.images[0]); "
        "nibabel.save(nibabel.Nifti1Image(9 * (numpy.asarray(image.dataobj) > 150).astype('uint8'), image.affine), path); "
        "return str(path)"
    )
    own = witness(tmp_path, body)
    assert learn(cohort, tmp_path / "out", own) == 0
    assert predict(cohort, tmp_path / "out/trained.tar", tmp_path / "labels", own) == 0
    truth = read_label(cohort / "case_0_seg.nii.gz").array == 9
    assert ((read_label(tmp_path / "labels/case_0.nii.gz").array == 9) == truth).mean() > 0.99


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (
            "class Trainer: ...",
            {},
            "no fit(cases, validation_cases, folder, settings) in its class",
        ),
        (
            "class Trainer:\n    def fit(self, cases): ...\n    def predict(self, case, folder): ...",
            {},
            "fit takes (cases), and is called with (cases, validation_cases, folder, settings)",
        ),
        ("class Trainer: ...", {"depth": 3}, "is called with (depth=...)"),
        (
            "class Trainer:\n    def fit(self, *a): ...\n    def predict(self, *a): ...",
            {},
            "fit left no file in its folder",
        ),
        (
            "class Trainer:\n    def fit(self, *a): nothing\n    def predict(self, *a): ...",
            {},
            "NameError: name 'nothing' is not defined",
        ),
    ],
)
def test_a_broken_contract_is_told(cohort, tmp_path, capsys, text, options, said):
    (tmp_path / "own.py").write_text(text + "\n")
    assert learn(cohort, tmp_path / "out", tmp_path / "own.py", options=options) != 0
    assert said in capsys.readouterr().err


def test_equal_contents_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        inner = tmp_path / name / "deep" / "er"
        inner.mkdir(parents=True)
        (inner / "model.bin").write_bytes(b"123")
        (tmp_path / name / "first").write_text("x")
        (tmp_path / name / "first").chmod(0o600 if name == "a" else 0o644)
        pack(tmp_path / name, {"fold": 0}, tmp_path / f"{name}.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"not an archive", "neither a tar nor a zip archive"),
        (b"half", "damaged or ends early"),
        (b"other", "holds no segstudy.json"),
        (b"short", "fold is missing or damaged; train again"),
    ],
)
def test_what_is_no_file_of_a_training_is_told(cohort, tmp_path, capsys, content, said):
    trained = tmp_path / "trained.tar"
    if content in (b"half", b"other", b"short"):
        (tmp_path / "left").mkdir()
        (tmp_path / "left" / "a").write_bytes(b"1" * 2000)
        pack(tmp_path / "left", {}, trained)
        if content == b"half":
            trained.write_bytes(trained.read_bytes()[:1500])
        if content == b"other":
            with tarfile.open(trained, "w") as archive:
                archive.add(tmp_path / "left" / "a", "a")
    elif content:
        trained.write_bytes(content)
    assert predict(cohort, trained, tmp_path / "labels", EXAMPLE) != 0
    assert said in capsys.readouterr().err
