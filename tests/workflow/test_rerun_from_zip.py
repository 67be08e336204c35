"""A published zip, carried to a fresh clone with the data in another folder, gives the same tables again."""

import csv
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from builders import tiny_study, write_cohort
from segstudy.study import read_study
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]


def packed(workspace: Workspace, study: str, *config: str, again: bool = False) -> Path:
    """The zip of a study, as `make publish` writes it."""
    words = ["--cores", "2", "--config", f"study={study}", *config, "package="]
    words += ["--forcerun", "publish_package"] if again else []
    workspace.run(*words, "--", "publish_package")
    [path] = workspace.folder.glob("results/tiny/tiny.zip")
    return path


def unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Workspace:
    """A study of one network, its file with remarks, beside data that it names by a relative path."""
    folder = tmp_path_factory.mktemp("first") / "home"
    write_cohort(folder / "data", 4)
    study = tiny_study("scans/cohort.tsv")
    study["models"] = {"flat": study["models"]["flat"]}
    study["datasets"]["chest"]["audit_labels"] = True
    workspace = Workspace(folder, study)
    (folder / "data").rename(folder / "config/studies/scans")
    file = folder / "config/studies/tiny.yaml"
    file.write_text("# why these settings\n" + file.read_text())
    return workspace


@pytest.fixture(scope="module")
def archive(first) -> Path:
    return packed(first, "config/studies/tiny.yaml")


def test_a_second_packing_gives_the_same_bytes(first, archive, tmp_path):
    before = unpacked(archive, tmp_path / "before")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    again = packed(first, "config/studies/tiny.yaml", again=True)
    after = unpacked(again, tmp_path / "after")
    for path in before.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (after / path.relative_to(before)).read_bytes(), path.name
    assert hashlib.sha256(again.read_bytes()).hexdigest() == digest


def segstudy(folder: Path, clone: Path, *words: str) -> subprocess.CompletedProcess:
    """A command of segstudy, of the clone's own package."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(clone / "workflow"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "segstudy", *words],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def test_the_zip_alone_gives_the_same_tables(first, archive, tmp_path):
    zipped = unpacked(archive, tmp_path)
    text = (zipped / "settings.yaml").read_text()
    assert text.startswith("# why these settings\n") and "scans" not in text
    (tmp_path / "clone").mkdir()
    clone = Workspace(tmp_path / "clone", first.study)
    (clone.folder / "config/studies/tiny.yaml").unlink()
    data = shutil.copytree(first.folder / "config/studies/scans", tmp_path / "elsewhere")
    said = segstudy(zipped, clone.folder, "study", "settings.yaml")
    assert (
        "datasets.chest.source.path: the case table of dataset chest: no such table" in said.stdout
    )
    readme = (zipped / "README.md").read_text()
    assert "segstudy run settings.yaml --cores 1 --config path='{chest: PATH}'" in readme

    output = tmp_path / "out"
    words = [
        str(archive),
        "--yes",
        "--output",
        str(output),
        "--path",
        f"chest={data / 'cohort.tsv'}",
    ]
    image = min(path for path in data.iterdir() if path.name.endswith(".nii.gz"))
    whole = image.read_bytes()
    image.write_bytes(gzip.compress(gzip.decompress(whole), 1))
    other = segstudy(tmp_path, clone.folder, "reproduce", *words)
    assert other.returncode == 1 and "the data are not those of the package: " in other.stdout
    assert not (output / "results/tiny/train").exists()
    image.write_bytes(whole)

    done = segstudy(tmp_path, clone.folder, "reproduce", *words)
    assert done.returncode == 0, done.stdout[-6000:]
    tables = sorted(path.name for path in (zipped / "tables").iterdir())
    expected = {"metrics.csv", "cases.csv", "repair_verdicts.csv", "training.csv", "data.csv"}
    assert expected <= set(tables) and len(tables) > 12
    assert f"{len(tables)} of {len(tables)} tables are the same to the byte" in done.stdout
    again = unpacked(output / "results/tiny/tiny.zip", tmp_path / "again")
    assert tables == sorted(path.name for path in (again / "tables").iterdir())
    for name in tables:
        assert (zipped / "tables" / name).read_bytes() == (again / "tables" / name).read_bytes(), (
            name
        )
    for name in ("settings.yaml", "settings.splits.tsv", "requirements.lock", "CITATION.cff"):
        assert (zipped / name).read_bytes() == (again / name).read_bytes(), name

    # What was published otherwise is told by table and column: here by one who made its checksums fit.
    table = output / "published/tables/metrics.csv"
    lines = table.read_text().splitlines()
    place = lines[0].split(",").index("value")
    row = next(n for n, line in enumerate(lines) if ",dice," in line)
    cells = lines[row].split(",")
    cells[place] = str(float(cells[place]) + 0.25)
    table.write_text("\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n")
    sums = output / "published/SHA256SUMS"
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    sums.write_text(re.sub(r".{64}(?=  tables/metrics.csv)", digest, sums.read_text()))
    forged = shutil.make_archive(str(tmp_path / "forged"), "zip", output / "published")
    told = segstudy(tmp_path, clone.folder, "reproduce", forged, *words[1:])
    assert told.returncode == 3, told.stdout[-3000:]
    assert "metrics.csv: value: differs by at most 0.25, in 1 row" in told.stdout
    assert f"{len(tables) - 1} of {len(tables)} tables are the same" in told.stdout


def test_checksums_of_the_data_are_those_of_the_files(first, archive, tmp_path):
    zipped = unpacked(archive, tmp_path)
    with (zipped / "tables/data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scans = first.folder / "config/studies/scans"
    files = [path for path in scans.iterdir() if path.suffix != ".tsv"]
    told = {row["sha256"]: int(row["n_bytes"]) for row in rows}
    assert told == {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_size for path in files
    }


def test_the_demos_settings_run_from_a_fresh_folder(tmp_path):
    """As they come out of the zip: no gap to fill, and a plan of the whole study."""
    from segstudy.publish.settings_file import write_settings

    demo = REPOSITORY / "config/studies/demo.yaml"
    assert not write_settings(
        tmp_path / "settings.yaml", read_study(demo), demo, lambda text: False
    )
    told = segstudy(tmp_path, REPOSITORY, "study", "settings.yaml")
    assert "settings.yaml: demo: 1 dataset, 3 models, 2 folds" in told.stdout
    planned = segstudy(tmp_path, REPOSITORY, "run", "settings.yaml", "-n")
    assert re.search(r"^train_fit +6$", planned.stdout, re.MULTILINE), planned.stdout
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["name"] == "demo"
