"""What the student's day prints is what its commands print, line by line, but for times, sizes and how they were told."""

import re
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml

import documents
from reader import Reader
from segstudy.download.anatomy import STRUCTURES
from segstudy.download.phantom import patient
from segstudy.images.files import write_label, write_nifti
from workspace import REPOSITORY, Run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(7200)]

PAGE = REPOSITORY / "docs/student_day.md"
NAMES = ["Müller^Anna", "Weiß, Bert (1)", "Fox [post]", "Hu", "Hu again", "Jung", "Kim", "Diaz"]
NAMES += ["Roy", "Sato", "Abe", "Ek"]
JOINED = ["Lee", "Mo"]
SIZE = (48, 48, 20)
MOVED_MM = 46
PRINTED_FOLDS = re.compile(r"^\w+\t\d\t\d(?: joined)?$", re.MULTILINE)
VOLATILE = ("time", "told by", "disk")
"""Lines of a preview that hang on the machine, by how they begin."""


def write_scans(folder: Path) -> None:
    """Write phantoms by the page's names: Jung's label lies elsewhere, Fox's heart is too large, and Hu is there twice."""
    for place in ("scans", "labels"):
        (folder / place).mkdir()
    for index, name in enumerate([*NAMES, *JOINED]):
        of = NAMES.index("Hu") if name == "Hu again" else index
        image, label, affine = patient(5, of, SIZE)
        if name == "Jung":
            voxels = round(MOVED_MM / np.linalg.norm(affine[:3, 0]))
            label = np.roll(label, voxels, axis=0)
        if name == "Fox [post]":
            grown = np.argwhere(label == STRUCTURES["heart"])
            for step in np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
                near = np.clip(grown + step, 0, np.array(label.shape) - 1)
                label[tuple(near.T)] = STRUCTURES["heart"]
        write_nifti(folder / "scans" / f"{name}.nii.gz", image, affine)
        write_label(folder / "labels" / f"{name}.nii.gz", label, affine)


def write_cases(folder: Path, names: list[str]) -> None:
    rows = [f"{name}\tscans/{name}.nii.gz\tlabels/{name}.nii.gz" for name in names]
    (folder / "cases.tsv").write_text("\n".join(["case\timage\tlabel", *rows]) + "\n")


def edit(folder: Path, change) -> None:
    path = folder / "study.yaml"
    study = yaml.safe_load(path.read_text())
    change(study)
    path.write_text(yaml.safe_dump(study, sort_keys=False))


def fill_in(reader: Reader) -> None:
    """The table, the structures, the audit of labels; each network trained in a moment."""
    write_scans(reader.place)
    write_cases(reader.place, NAMES)

    def change(study):
        study["datasets"]["mine"] |= {"structures": dict(STRUCTURES), "audit_labels": True}
        for model in study["models"].values():
            model |= {"epochs": 1, "steps_per_epoch": 10}

    edit(reader.place, change)


def widen(reader: Reader) -> None:
    edit(reader.place, lambda study: study["metrics"].update(nsd_tolerance_mm=[3.0]))


def add_enet(reader: Reader) -> None:
    enet = {"network": "enet", "epochs": 1, "steps_per_epoch": 10}
    edit(reader.place, lambda study: study["models"].update(enet=enet))


def exchange_cases(reader: Reader) -> None:
    write_cases(reader.place, [name for name in NAMES if name != "Jung"] + JOINED)


EDITS = {
    "The first report": fill_in,
    "Another tolerance": widen,
    "A third model": add_enet,
    "Two cases come, one goes": exchange_cases,
}
"""What the reader does before the section's commands; of the first, once the files are there."""
UNTOLD = {"Another tolerance", "A third model"}
"""Sections whose run stands in a sentence."""


def transcripts() -> dict[str, list[tuple[str, list[str]]]]:
    """Commands and the lines that the page has them print, by section."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for block in documents.blocks(PAGE, "text"):
        if not block.text.startswith("$ "):
            continue
        head = heading_above(block.line)
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, *lines = part.rstrip("\n").split("\n")
            found.setdefault(head, []).append((command, lines))
    return found


def heading_above(line: int) -> str:
    above = PAGE.read_text().splitlines()[:line]
    return next(one[3:] for one in reversed(above) if one.startswith("## "))


def lasting(lines: list[str]) -> list[str]:
    """Lines without those that hang on the machine."""
    return [line.rstrip() for line in lines if not line.strip().startswith(VOLATILE)]


def test_the_day_is_as_it_stands_on_the_page(tmp_path):
    reader = Reader(tmp_path)
    reader.variables["PYTHONPATH"] = str(REPOSITORY / "workflow")
    text = PAGE.read_text()
    shown = transcripts()
    assert list(shown) == list(EDITS)
    other: dict[str, list[str]] = {}  # what the page ought to have, by command
    for head, commands in shown.items():
        if head != "The first report":
            EDITS[head](reader)
        ran = []
        for command, lines in commands:
            printed = reader.types(command)
            if command.startswith("segstudy run"):
                ran.append(Run(0, printed))
            elif lasting(printed.splitlines()) != lasting(lines):
                other[f"{head}: {command}"] = printed.splitlines()
            if command == "segstudy new":
                EDITS[head](reader)
        if head in UNTOLD:
            ran.append(Run(0, reader.types("segstudy run study.yaml")))
        for run in ran:
            for number in re.findall(r"^(\d+) jobs ran", section(text, head), re.MULTILINE):
                if sum(run.jobs.values()) != int(number):
                    other[f"{head}: jobs"] = [str(run.jobs)]
            told = re.search(r"What ran: ([\w ,]+?)[.,] [Aa]s foretold", section(text, head))
            if told and by_stage(run) != told[1]:
                other[f"{head}: what ran"] = [by_stage(run)]
    results = reader.place / "results/study"
    log = (results / "logs/download/mine-audit.log").read_text()
    [warning] = [line for line in text.splitlines() if line.startswith("warning: Hu_again")]
    if warning not in log:
        other["warning"] = [line for line in log.splitlines() if "Hu_again" in line]
    faults = pandas.read_csv(results / "repair/mine/audit/faults.csv")
    found = [
        f"| {row.case} | {row.structure} | {row.fault} | {row.evidence} | {row.score:.1f} |"
        for row in faults.sort_values("score", ascending=False).itertuples()
    ]
    if found != [line for line in text.splitlines() if re.search(r"\| [\d.]+ \|$", line)]:
        other["faults"] = found
    folds = (reader.place / "study.splits.tsv").read_text().splitlines()
    if missing := [line for line in PRINTED_FOLDS.findall(text) if line not in folds]:
        other["folds"] = [*missing, "", *folds]
    assert not other, "\n".join(
        [PAGE.name, *(line for command, lines in other.items() for line in ["", command, *lines])]
    )


def section(text: str, head: str) -> str:
    return text.split(f"\n## {head}\n")[1].split("\n## ")[0]


def by_stage(run: Run) -> str:
    """`train 2, infer 2`: how many jobs of each stage ran, in the order of the chain."""
    stages = ("download", "repair", "preprocess", "train", "infer", "metrics", "statistics")
    counts = {
        stage: sum(number for rule, number in run.jobs.items() if rule.split("_")[0] == stage)
        for stage in (*stages, "publish")
    }
    return ", ".join(f"{stage} {number}" for stage, number in counts.items() if number)
