"""Every command that README, the pages and the help texts show runs as it is printed, in one workspace.

Its demo is the built-in study made tiny; its files have the names that the commands use. What needs
a network, a cluster, nnU-Net, data under agreement or a person is skipped, with the reason. Pages whose
commands build on each other are walked by `test_walks.py`.
"""

import argparse
import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import documents
from builders import AFFINE, chest
from dicom_series import write_series
from page_files import FOLDERS, write_calibration, write_predictions, write_raw, write_weights
from reader import run_printed
from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.cli import STAGES, TOOLS
from segstudy.images.files import write_label, write_nifti
from test_walks import WALKS
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

READ_TO_THE_END = (
    *("first_report", "from_nnunet", "moved_label", "layouts", "repair_labels", "splits"),
    *("models", "stages", "slurm", "report", "studies", "reruns", "troubleshooting"),
)
SENTENCES = {
    REPOSITORY / "README.md",
    *(REPOSITORY / "docs" / f"{page}.md" for page in READ_TO_THE_END),
}
"""Pages of which the commands within sentences are run, too; those of the others are read, by `tests/unit/test_documentation.py`."""
RUN = [page for page in documents.pages() if page not in WALKS]
FIRST = REPOSITORY / "docs/first_report.md"
PLUGINS = REPOSITORY / "resources" / "plugins"
SKIPPED = {
    r"git clone|make nnunet|study=hippocampus|download fetch --dataset hippocampus|^pip install": "needs a network",
    r"path=DIR": "needs data under agreement",
    r"sinfo|snakemake --profile slurm (?!.*-n$)|pytest -m slurm|slurm/cluster.py": "needs SLURM",
    r"\$EDITOR|tmux|firefox": "needs a person",
    r"^segstudy review (open|accept|undo|preview)": "needs a finished study, which test_walks.py has",
    r"^segstudy serve": "runs until it is ended, which test_walks.py does",
    r"make (test|lint|format|bench|docs)|kills.py|benchmarks/": "is the tests, the benchmarks or the pages themselves",
    r"^segstudy \w+( --\w+)?$|^segstudy \w+ STUDY": "is a command's name alone",
    r"reproduce .*--yes|reproduce demo.zip$": "trains a second time, which tests/workflow/test_rerun_from_zip.py does",
    r"reproduce their.zip": "needs a package of others, which tests/unit/reproduce makes",
    r"^rocrate-validator": "needs rocrate-validator, with which tests/unit/publish validates a package",
    r"^segstudy run my/study.yaml( --partial)?$": "needs more scans than the page lists, which test_walks.py has",
}

if importlib.util.find_spec("onnxscript") is None:
    SKIPPED[r"bundle .*--onnx"] = "needs the extra onnx"

ANSWERS = {"--metrics study.yaml": ["3", *["40", "2", "n", "n", "n"] * 2]}
"""What a person answers to a command's questions, a line an answer."""


def shown_in_help() -> list[str]:
    """Commands of the epilogs: lines that are set in, and what belongs to them."""
    found = []
    for name in STAGES | TOOLS:
        parser = argparse.ArgumentParser()
        module = f"segstudy.{name}" + (".command" if name in STAGES else "_command")
        importlib.import_module(module).add_arguments(parser)
        lines = (parser.epilog or "").removeprefix("example: ").splitlines()
        starts = [n for n, line in enumerate(lines) if re.match(r" *segstudy ", line)]
        for start in starts:
            found += documents.commands(lines[start:])[:1]
    return found


def shown_in_pages() -> list[str]:
    """Commands of the blocks of each page, then those within its sentences."""
    return [
        command
        for page in RUN
        for command in documents.shown_commands(page, sentences=page in SENTENCES)
    ]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A checkout with the demo made tiny, and the study of the first tutorial in `my/`."""
    folder = tmp_path_factory.mktemp("commands")
    demo = yaml.safe_load((REPOSITORY / "config/studies/demo.yaml").read_text())
    thorax = demo["datasets"]["thorax"]
    thorax["source"] |= {"patients": 4, "size_voxels": [40, 40, 16]}
    thorax["repair"] |= {"reference_case": "Patient_02", "methods": ["sweep"]}
    demo["splits"]["run_folds"] = [0]
    demo["models"] = {"unet3d": demo["models"]["unet3d"]}
    demo["models"]["unet3d"] |= {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1}
    demo["metrics"] = {}
    demo["publish"] = {"metrics": ["dice"]}
    found = Workspace(folder, demo)
    (folder / "config/studies/demo.yaml").write_text(yaml.safe_dump(demo, sort_keys=False))
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (folder / ".venv/installed").touch()
    table, study = (documents.blocks(FIRST, language)[0] for language in ("", "yaml"))
    rows = table.text.splitlines()
    # Five folds need five subjects.
    for number in range(2, 6):
        name = f"more_{number}"
        files = [f"{kind}/{name}.nii.gz" for kind in ("images", "labels")]
        rows.append("\t".join([name, f"subject_{number}", *files]))
    (folder / "my").mkdir()
    (folder / "my/cases.tsv").write_text("\n".join(rows) + "\n")
    (folder / "my/study.yaml").write_text(study.text)
    for number, row in enumerate(rows[1:]):
        image, label = chest(number)
        *_, image_name, label_name = row.split("\t")
        for name in (image_name, label_name):
            (folder / "my" / name).parent.mkdir(exist_ok=True)
        write_nifti(folder / "my" / image_name, image, AFFINE)
        write_label(folder / "my" / label_name, label, AFFINE)
    return found


def prepare(folder: Path, command: str) -> None:
    """Write the files that a command names and no command before it made."""
    if command.startswith("segstudy new trained.yaml"):
        for path in (*folder.glob("trained.*"), *(folder / one for one in (*FOLDERS, "images"))):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(folder / "nnUNet_raw", ignore_errors=True)
        shutil.rmtree(folder / "nnUNet_results", ignore_errors=True)
        shutil.rmtree(folder / "nnUNet_preprocessed", ignore_errors=True)
        write_predictions(folder)
    if "--from nnUNet_raw/Dataset101_Liver" in command:
        write_raw(folder / "nnUNet_raw/Dataset101_Liver")
    if "reproduce demo.zip" in command or "unzip demo.zip" in command:
        shutil.copy(folder / "results/demo/demo.zip", folder)
    if "--metrics study.yaml" in command:
        (folder / "study.yaml").write_text((folder / "my/study.yaml").read_text())
    if command.startswith("segstudy power --from"):
        rows = [
            f"scans,{model},s{number},s{number},heart,dice,{0.8 + 0.01 * number * place}"
            for place, model in enumerate(("one", "other"))
            for number in range(5)
        ]
        table = folder / "results/study/statistics/values.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        head = "dataset,model,case,subject,structure,metric,value"
        table.write_text("\n".join([head, *rows]) + "\n")
    image, label = chest(0)
    for name in ("scan", "scan_1", "scan_2", "t1", "t2", "scans/one", "a", "b"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_nifti(folder / f"{name}.nii.gz", image, AFFINE)
    if "surface_bias.py" in command:
        shutil.copy(PLUGINS / "surface_bias.py", folder)
    if command.startswith("segstudy export nnunet"):
        # What has to run first it says itself.
        first = "run my/study.yaml results/study/preprocess/splits.tsv"
        whole = [sys.executable, "-m", "segstudy", *first.split(), "--cores", "2"]
        subprocess.run(whole, cwd=folder, check=True)
    if "patient_1/series_3" in command:
        volume = image[..., 0] if image.ndim == 4 else image
        write_series(folder / "patient_1/series_3", volume.astype(np.int16), AFFINE)
    if command.startswith("segstudy metrics --reference"):
        shutil.rmtree(folder / "labels", ignore_errors=True)  # of other commands
        # The values that a command says its files hold.
        of = {
            "putamen": ((12, 51), (12, 51)),
            '"liver": 5': ((1,), (5,)),
            '"liver": [5': ((1,), (5, 6)),
        }
        of |= {'"heart": 2': ((2, 4), (2, 4))}
        values = next((own for word, own in of.items() if word in command), ((1, 2), (1, 2)))
        for where, own in zip(
            (("labels/scan", "a"), ("predictions/scan", "b")), values, strict=True
        ):
            for name in where:
                (folder / name).parent.mkdir(exist_ok=True)
                array = np.array([0, own[0], own[-1]], np.uint8)[label]
                write_label(folder / f"{name}.nii.gz", array, AFFINE)
    if "--collect" in command:
        table = (folder / "metrics.csv").read_text()
        for name, model in (("a.csv", "predictions"), ("b.csv", "other")):
            (folder / name).write_text(table.replace("predictions", model))
    if "--participants" in command:
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            cases = dict.fromkeys(row["case"] for row in csv.DictReader(file))
        lines = ["case\tsex\tage", *(f"{case}\tF\t50" for case in cases)]
        (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    if "summary.json" in command and "statistics" in command:
        for name in ("fold_0", "other"):
            (folder / name).mkdir(exist_ok=True)
            shutil.copy(folder / "predictions/summary.json", folder / name)
    own = (folder / "predictions/.predicted.jsonl").exists()
    if "infer" in command and "--output predictions" in command and not own:
        shutil.rmtree(folder / "predictions", ignore_errors=True)  # of other commands
    if "seed-0/weights.pt seed-1" in command:
        for seed in (0, 1):
            weights = folder / f"seed-{seed}/weights.pt"
            weights.parent.mkdir(exist_ok=True)
            write_weights(weights, ["heart"], ["ct"], seed=seed)
        write_calibration(folder / "results/study/statistics/quality/unet.json")
    if command.startswith("segstudy infer --weights weights.pt"):
        of_study = "--cases" in command
        channels = ["t1", "t2"] if "t1.nii.gz" in command else ["ct"]
        named = re.search(r"--plugin (\S+)", command)
        plugin = folder / named[1] if named else None
        if plugin:
            shutil.copy(PLUGINS / "residual_net.py", plugin)
        write_weights(folder / "weights.pt", ["heart"], channels, plugin)
        if of_study:
            write_label(folder / "l.nii.gz", (label == 1).astype(np.uint8) * 2, AFFINE)
            cases = [
                Case(name, name, (folder / "a.nii.gz",), folder / "l.nii.gz", voxels={"heart": 9})
                for name in "ab"
            ]
            write_cases(folder / "cases.tsv", cases, ["ct"])
            write_splits(
                folder / "splits.tsv", [Split("NAME", name, name, n) for n, name in enumerate("ab")]
            )
    if "fold-*/seed-*/weights.pt" in command or "model.bundle" in command:
        for fold in (0, 1):
            weights = folder / f"fold-{fold}/seed-0/weights.pt"
            weights.parent.mkdir(parents=True, exist_ok=True)
            write_weights(weights, ["heart"], ["ct"])
        (folder / "card.md").write_text("# Hearts\n")
        (folder / "scans.csv").write_text("case,image\none,scans/one.nii.gz\n")
        bundle = ["bundle", "--weights", "fold-*/seed-*/weights.pt", "--output", "model.bundle"]
        subprocess.run([sys.executable, "-m", "segstudy", *bundle], cwd=folder, check=True)
    if command.startswith("segstudy download audit"):
        raw = folder / "raw"
        for name in ("imagesTr", "labelsTr"):
            (raw / name).mkdir(parents=True, exist_ok=True)
        write_nifti(raw / "imagesTr/one.nii.gz", image, AFFINE)
        write_label(raw / "labelsTr/one.nii.gz", label, AFFINE)
        entry = {"image": "imagesTr/one.nii.gz", "label": "labelsTr/one.nii.gz"}
        (raw / "dataset.json").write_text(json.dumps({"training": [entry]}))


def test_commands_are_found():
    shown = [*shown_in_pages(), *shown_in_help()]
    for part in ("make publish STUDY=demo", "--anonymous", "segstudy study", "--confusion", "{"):
        assert any(part in command for command in shown)
    assert len(shown) > 30


@pytest.mark.parametrize("command", list(dict.fromkeys([*shown_in_pages(), *shown_in_help()])))
def test_a_command_runs_as_printed(workspace, command):
    reason = next((why for what, why in SKIPPED.items() if re.search(what, command)), "")
    if reason:
        pytest.skip(reason)
    prepare(workspace.folder, command)
    path = os.pathsep.join([str(workspace.folder / ".venv/bin"), os.environ["PATH"]])
    answers = next((said for what, said in ANSWERS.items() if what in command), [])
    variables = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(workspace.folder / "workflow"),
        "OMP_NUM_THREADS": "1",
        "CORES": "2",
    }
    run_printed(command, workspace.folder, variables, answers)


def test_what_make_publish_wrote_is_there(workspace):
    assert (workspace.folder / "results/demo/demo.zip").is_file()
