"""The zip of predictions that were there already, and of lesions: all that was read is on record, and no name is told."""

import csv
import hashlib
import shutil
from pathlib import Path

import builder
import pandas
import pytest

from segstudy.files import write_json, write_table
from segstudy.publish.anonymous import anonymised, numbered
from segstudy.publish.methods import methods
from segstudy.publish.package import sought
from segstudy.publish.package_tables import data_checksums, write_tables
from segstudy.publish.results import Results
from segstudy.reproduce.differences import of_data
from segstudy.study import PredictionsModel

NAMES = ["DOE_JANE_1957", "smith-john-0042", "mueller_1933_02"]
CHECKED = {"tested": 2, "named": 2, "trained_on": 1, "known": 1}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory) -> Results:
    """Of two folds: a file a case in a folder a fold, and a mask a structure; one case has no prediction of the second."""
    home = tmp_path_factory.mktemp("delivered")
    settings = builder.study(
        models=("whole", "masks"), repair=False, metrics={"lesions": "panoptica"}
    )
    root = builder.build(home / "results", settings, names=NAMES)
    (root / "infer/masks/fold-0/seed-0/thorax" / f"{NAMES[0]}.nii.gz").unlink()
    for path in sorted(root.glob("infer/*/*/*/*/*.nii.gz")):
        model, fold = path.parts[-5], path.parts[-4][-1]
        for name in ["whole.nii.gz"] if model == "whole" else ["heart.nii.gz", "aorta.nii.gz"]:
            file = home / model / fold / path.name.removesuffix(".nii.gz") / name
            file.parent.mkdir(parents=True) if not file.parent.is_dir() else None
            file.write_bytes(f"{model} {fold} {path.name} {name}".encode())
    (home / "whole/0/nobody").mkdir()
    (home / "whole/0/nobody/whole.nii.gz").write_bytes(b"no case of the study")
    for model in settings.models:
        for fold in settings.folds:
            write_json(root / f"infer/{model}/fold-{fold}/seed-0/thorax/leak_check.json", CHECKED)
    lesions = [("whole", case, case, "found", 1) for case in NAMES] + [
        ("masks", NAMES[1], NAMES[1], "false", "")
    ]
    columns = ["model", "case", "subject", "outcome", "lesion"]
    write_table(
        root / "metrics/instances.csv", pandas.DataFrame(lesions, columns=columns, dtype=object)
    )
    shutil.rmtree(root / "train")
    splits = str(home / "splits_final.json")
    models = {
        "whole": {
            "files": f"{home}/whole/{{fold}}/{{case}}/whole.nii.gz",
            "training_splits": splits,
        },
        "masks": {"files": f"{home}/masks/{{fold}}/{{case}}/{{structure}}.nii.gz"},
    }
    models = {
        name: PredictionsModel(network="predictions", **keys) for name, keys in models.items()
    }
    return Results(settings.model_copy(update={"models": models}), root)


@pytest.fixture(scope="module")
def renamed(delivered, tmp_path_factory) -> Results:
    names = numbered(delivered)
    folder = tmp_path_factory.mktemp("renamed")
    return anonymised(delivered, names, sought(delivered, names), folder)


def _files(results: Results) -> dict[str, tuple[str, Path]]:
    """The files that were read: by role and case the file itself."""
    home = results.root.parent
    files = {}
    for path in sorted((home / "results").glob("infer/*/*/*/*/*.nii.gz")):
        model, fold, case = path.parts[-5], path.parts[-4][-1], path.name.removesuffix(".nii.gz")
        for file in (home / model / fold / case).iterdir():
            structure = "" if model == "whole" else f" {file.name.removesuffix('.nii.gz')},"
            files[f"prediction of {model},{structure} fold {fold}", case] = file
    return files


def test_every_prediction_that_was_read_has_its_checksum(delivered, tmp_path):
    write_tables(delivered, tmp_path, anonymous=False)
    data = pandas.read_csv(tmp_path / "data.csv").set_index(["file", "case"])
    expected = _files(delivered)
    assert len(expected) == 3 + 2 * 2
    found = {key: row for key, row in data.iterrows() if key[0].startswith("prediction")}
    assert set(found) == set(expected)
    for key, row in found.items():
        assert row["sha256"] == hashlib.sha256(expected[key].read_bytes()).hexdigest()
        assert row["n_bytes"] == expected[key].stat().st_size
    assert len(data) == len(expected) + 2 * len(NAMES)  # image and label of each case


def test_predictions_that_were_exchanged_are_told_before_any_is_read(delivered, tmp_path):
    """Before a rerun nothing was predicted; what the package says of predictions is compared with the files all the same."""
    write_tables(delivered, tmp_path / "then", anonymous=False)
    with (tmp_path / "then/data.csv").open(newline="") as file:
        then = list(csv.DictReader(file))
    audited = shutil.copytree(delivered.root, tmp_path / "now", symlinks=True)
    shutil.rmtree(audited / "infer")
    assert of_data(then, data_checksums(Results(delivered.study, audited), False)) == []
    models = delivered.study.models
    swapped = {
        "whole": models["whole"].model_copy(
            update={"files": models["whole"].files.replace("{fold}", "1")}
        )
    }
    study = delivered.study.model_copy(update={"models": {**models, **swapped}})
    wrong = of_data(then, data_checksums(Results(study, audited), False))
    assert wrong and all("prediction of whole" in one for one in wrong)


def test_lesions_are_in_the_zip_as_they_were_measured(delivered, tmp_path):
    write_tables(delivered, tmp_path, anonymous=False)
    written = (tmp_path / "instances.csv").read_bytes()
    assert written == (delivered.root / "metrics/instances.csv").read_bytes()
    without = delivered.study.model_copy(
        update={"metrics": delivered.study.metrics.model_copy(update={"lesions": None})}
    )
    write_tables(Results(without, delivered.root), tmp_path / "none", anonymous=False)
    assert not (tmp_path / "none/instances.csv").exists()


def test_under_numbers_for_names_the_same_files_are_counted(delivered, renamed, tmp_path):
    write_tables(delivered, tmp_path / "own", anonymous=False)
    write_tables(renamed, tmp_path / "new", anonymous=True)
    own, whole = (pandas.read_csv(tmp_path / folder / "data.csv") for folder in ("own", "new"))
    assert whole["file"].item() == f"all {len(own)} files"
    assert whole["n_bytes"].item() == own["n_bytes"].sum()
    lines = "".join(f"{digest}\n" for digest in sorted(own["sha256"]))
    assert whole["sha256"].item() == hashlib.sha256(lines.encode()).hexdigest()


def test_no_name_is_in_tables_of_predictions_lesions_and_leak_checks(delivered, renamed, tmp_path):
    write_tables(renamed, tmp_path, anonymous=True)
    new = numbered(delivered)
    lesions = pandas.read_csv(tmp_path / "instances.csv")
    assert list(lesions["case"]) == [new["cases"][name] for name in (*NAMES, NAMES[1])]
    assert list(lesions["subject"]) == [new["subjects"][name] for name in (*NAMES, NAMES[1])]
    assert list(lesions["outcome"]) == ["found"] * 3 + ["false"]
    texts = [path.read_text() for path in sorted(tmp_path.glob("*.*"))]
    texts += [part for _, part in methods(renamed)]
    checks = sorted(renamed.root.glob("infer/*/*/*/*/leak_check.json"))
    assert len(checks) == 4
    texts += [path.read_text() for path in checks]
    texts += [str(path.relative_to(renamed.root)) for path in renamed.root.rglob("*")]
    assert not [name for name in NAMES for text in texts if name.lower() in text.lower()]
    assert (
        "no subject is predicted by a fold that was trained on it"
        in dict(methods(renamed))["Models"]
    )
