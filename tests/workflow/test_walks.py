"""Pages whose commands build on each other run as printed, from top to bottom, in the shell of one reader.

The folder that a command goes to and the variables that it sets hold for those that follow. What a page leaves to the
reader, such as filling in a table, `BEFORE` does. The other pages are run by `test_commands.py`.
"""

import importlib.util
import re
import shutil
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import documents
from builders import AFFINE, HEART, chest, write_cohort
from page_files import write_raw, write_weights
from reader import Reader
from segstudy.images.files import write_label, write_nifti
from workspace import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.long]

DOCS = REPOSITORY / "docs"
START, FIRST, RUNNING, REVIEW, SERVING = (
    DOCS / f"{page}.md" for page in ("start", "first_report", "running", "review", "serving")
)
WALKS = {START, RUNNING, REVIEW, SERVING}
"""Pages that no other test runs."""
EDITORS = ("Slicer", "itksnap", "ITK-SNAP", "napari")


@pytest.fixture
def reader(tmp_path):
    """Of the code of this checkout, wherever the environment's own segstudy comes from."""
    reader = Reader(tmp_path)
    reader.variables["PYTHONPATH"] = str(REPOSITORY / "workflow")
    yield reader
    reader.leaves()


def walk(reader: Reader, page: Path, before: dict[str, Callable[[Reader], None]]) -> dict[str, str]:
    """Type a page's blocks; before a command that begins so, do what is named. Return what each has printed."""
    commands = documents.shown_commands(page, sentences=False)
    unknown = [start for start in before if not any(one.startswith(start) for one in commands)]
    assert not unknown, f"{page.name} has no command {unknown}"
    printed = {}
    for command in commands:
        for start, prepare in before.items():
            if command.startswith(start):
                prepare(reader)
        printed[command] = reader.types(command)
    return printed


def predicted_study(reader: Reader) -> None:
    """Write `my/study.yaml`: six cases, and two folders of predictions, which miss some of the heart of `p3`."""
    folder = reader.place / "my"
    names = ["scan_01", *(f"p{index}" for index in range(1, 6))]
    rows = ["case\tsubject\timage\tlabel"]
    for index, name in enumerate(names):
        image, label = chest(index)
        files = [f"{kind}/{name}.nii.gz" for kind in ("images", "labels")]
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_nifti(folder / files[0], image, AFFINE)
        write_label(folder / files[1], label, AFFINE)
        rows.append("\t".join([name, f"subject_{index}", *files]))
        less = label.copy()
        if name == "p3":
            less[..., :6] = np.where(label[..., :6] == HEART, 0, label[..., :6])
            write_label(reader.place / "p3_corrected.nii.gz", less, AFFINE)
        for shift, model in enumerate(("one", "other")):
            (folder / model).mkdir(exist_ok=True)
            moved = np.roll(less, shift, axis=0)
            write_label(folder / model / f"{name}.nii.gz", moved, AFFINE)
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    source = {"layout": "table", "path": "cases.tsv"}
    structures = {"heart": HEART, "aorta": 2}
    model = {"trainer": "predictions"}
    study = {
        "datasets": {"chest": {"source": source, "modality": "CT", "structures": structures}},
        "splits": {"folds": 2},
        "models": {name: model | {"files": f"{name}/{{case}}.nii.gz"} for name in ("one", "other")},
        "publish": {"metrics": ["dice"]},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def bring_results(reader: Reader) -> None:
    """Move the results to where the review's commands look for them."""
    (reader.place / "results").mkdir()
    shutil.move(reader.place / "scratch/me/study", reader.place / "results/study")


def test_a_study_is_run_on_another_disk_and_its_labels_are_reviewed(reader):
    editors = [name for name in EDITORS if shutil.which(name)]
    if editors:
        pytest.skip(f"would open {editors[0]}, which is on this machine's path")
    printed = walk(reader, RUNNING, {"segstudy run": predicted_study})
    assert "stop" not in re.findall(r"^\w+", printed["segstudy doctor"], re.MULTILINE)
    assert (reader.place / "scratch/me/study/report.html").is_file()
    bring_results(reader)
    printed = walk(reader, REVIEW, {})
    queue = (reader.place / "results/study/review/queue.csv").read_text().splitlines()
    assert queue[1].split(",")[queue[0].split(",").index("case")] == "p3"
    [preview] = [text for command, text in printed.items() if "review preview" in command]
    assert "p3" in preview
    assert not list((reader.place / "my/study.corrections").glob("chest/p3.nii*"))


def fill_in(reader: Reader) -> None:
    """Fill in the table of `segstudy new`, whose study file has the structures of these scans."""
    table = write_cohort(reader.place, 6, moved=False)
    (reader.place / "cases.tsv").write_text(table.read_text())


def write_tutorial(reader: Reader) -> None:
    """Write the tutorial's study file, and six scans into its table, which lists the first two."""
    folder = reader.place / "my"
    text = documents.blocks(FIRST, "")[0].text
    head, row, *_ = text.splitlines()
    rows = [head]
    for index in range(6):
        image, label = chest(index)
        name = f"scan_{index + 1:02d}"
        rows.append(row.replace("scan_01", name).replace("anna", f"person_{index}"))
        *_, image_file, label_file = rows[-1].split("\t")
        for file in (image_file, label_file):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_nifti(folder / image_file, image, AFFINE)
        write_label(folder / label_file, label, AFFINE)
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    (folder / "study.yaml").write_text(documents.blocks(FIRST, "yaml")[0].text)


def shorten(reader: Reader) -> None:
    """Have one of the tutorial's networks trained, for a moment."""
    path = reader.place / "my/study.yaml"
    study = yaml.safe_load(path.read_text())
    study["models"] = {"enet": study["models"]["enet"] | {"epochs": 1, "steps_per_epoch": 1}}
    study["splits"] = {"run_folds": [0]}
    study["publish"] = {"metrics": ["dice"]}
    path.write_text(yaml.safe_dump(study, sort_keys=False))


def lend_libraries(reader: Reader) -> None:
    """Have pip install `FOLDER` alone: its libraries are those of the tests, whose own segstudy is not seen."""
    (reader.place / "FOLDER").symlink_to(REPOSITORY)
    site = next((reader.home / "segstudy").glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    reader.variables |= {
        "PIP_NO_BUILD_ISOLATION": "0"
    }  # which is pip's word for: without isolation


def test_from_an_empty_folder_to_a_report(tmp_path):
    reader = Reader(tmp_path)
    printed = walk(reader, START, {"pip install": lend_libraries, "segstudy new --pro": fill_in})
    assert shutil.which("segstudy", path=reader.variables["PATH"]).startswith(str(tmp_path))
    assert reader.place == tmp_path / "my-study"
    assert "train_fit" in printed["segstudy run study.yaml --profile slurm -n"]
    write_raw(reader.place / "nnUNet_raw/Dataset101_Liver")
    before = {"segstudy study my/study.yaml": write_tutorial, "segstudy run": shorten}
    walk(reader, FIRST, before)
    assert (reader.place / "results/study/report.html").is_file()
    assert "all is done" in reader.types("segstudy status my/study.yaml")


def test_a_bundle_is_served(reader):
    for name in ("fastapi", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"no {name}: install segstudy[serve]")
    write_weights(reader.place / "weights.pt", ["heart"], ["ct"])
    reader.types("segstudy bundle --weights weights.pt --output model.bundle")
    write_nifti(reader.place / "scan.nii.gz", chest(0)[0], AFFINE)
    printed = walk(reader, SERVING, {})
    [answer] = [text for command, text in printed.items() if command.startswith("curl")]
    name = re.search(r'"id": ?"(\w+)"', answer)[1]
    ask = f"curl -s http://127.0.0.1:8000/predictions/{name}"
    while '"done"' not in (told := reader.types(ask)):
        assert '"failed"' not in told
        time.sleep(0.2)
    assert '"heart"' in told
