"""How long Snakemake takes to plan a large study: with every job still to do, and with none.

Builds the case table of a cohort (empty files, since a dry run opens none) and a study file, then
runs `snakemake --dry-run` after the audit in a process of its own and reads its time and peak
memory. Then makes every output that it named and measures again how long it takes to find that there
is nothing to do; in the smaller study with Snakemake's notes on each job, which it compares too.

Targets are of CPU seconds: planning is one thread's work, and a busy machine changes wall time alone.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from segstudy.cases import Case, write_cases

REPOSITORY = Path(__file__).resolve().parents[1]
SIZES = ((400, 4, 5), (2000, 6, 5))
ASKED_S = {400: 5.0, 2000: 15.0}
ASKED_MB = 2048.0
RECORDED = 400
"""Cases up to which Snakemake's notes on each job are made too, which takes longer than all the rest."""


def build(folder: Path, cases: int, models: int, folds: int) -> Path:
    """A study of CT-sized jobs: its files, its audited case table; returns the study file."""
    data = folder / "data"
    data.mkdir()
    names = [f"case_{index:04d}" for index in range(cases)]
    rows = ["case\tsubject\timage\tlabel"]
    for name in names:
        for kind in ("image", "label"):
            (data / f"{name}_{kind}.nii.gz").touch()
        rows.append(f"{name}\t{name}\t{name}_image.nii.gz\t{name}_label.nii.gz")
    table = data / "cases.tsv"
    table.write_text("\n".join(rows) + "\n")
    study = {
        "datasets": {
            "cohort": {
                "source": {"layout": "table", "path": str(table)},
                "modality": "CT",
                "structures": {"liver": 1, "spleen": 2},
                "cases_per_job": 1,
            }
        },
        "splits": {"folds": folds},
        "preprocess": {"default": {"spacing_mm": [1.0, 1.0, 2.5]}},
        "models": {f"unet{index}": {"network": "unet"} for index in range(models)},
    }
    file = folder / "large.yaml"
    file.write_text(yaml.safe_dump(study))
    audited = folder / "results" / "large" / "download" / "cohort"
    audited.mkdir(parents=True)
    write_cases(
        audited / "cases.tsv",
        [
            Case(
                case=name,
                subject=name,
                images=(data / f"{name}_image.nii.gz",),
                label=data / f"{name}_label.nii.gz",
                shape=(512, 512, 180),
                spacing_mm=(1.0, 1.0, 2.5),
                voxels={"liver": 1000, "spleen": 1000},
            )
            for name in names
        ],
        ["image"],
    )
    (audited / "problems.tsv").write_text("dataset\tcase\tfile\tproblem\tverdict\n")
    return file


@dataclass(frozen=True)
class Planned:
    """What planning took: seconds on the wall and of the CPU, peak memory, jobs, and what was said."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    jobs: int
    text: str


def snakemake(folder: Path, study: Path, *arguments: str) -> Planned:
    """Run Snakemake in the folder, in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "import resource, subprocess, sys;"
        "run = subprocess.run([sys.executable, '-m', 'snakemake', *sys.argv[1:]]);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print('used', used.ru_utime + used.ru_stime, used.ru_maxrss);"
        "sys.exit(run.returncode)",
        *arguments,
        "--nocolor",
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--directory",
        str(folder),
        "--configfile",
        str(REPOSITORY / "config" / "config.yaml"),
        "--config",
        f"study={study}",
        f"results={folder / 'results'}",
    ]
    began = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    wall_s = time.perf_counter() - began
    text = run.stdout + run.stderr
    if run.returncode:
        raise SystemExit(text[-5000:])
    jobs = re.search(r"^total\s+(\d+)", text, re.MULTILINE)
    cpu_s, peak_kb = re.search(r"^used (\S+) (\d+)", text, re.MULTILINE).groups()
    return Planned(wall_s, float(cpu_s), int(peak_kb) / 1024, int(jobs[1]) if jobs else 0, text)


def pretend(folder: Path, study: Path, plan: str, record: bool) -> None:
    """Make every output that a dry run named, all of one age; with `record`, have Snakemake note each.

    Notes (settings, code, inputs of each job) are made by `snakemake --touch`.
    """
    lines = re.findall(r"^ {4}output: (.*)$", plan, re.MULTILINE)
    outputs = [folder / name for line in lines for name in line.split(", ")]
    for path in outputs:
        # Folders are named after shards, that is cases, or datasets; what has a suffix is a file.
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    now = time.time()
    for path in outputs:
        os.utime(path, (now, now))
    if record:
        snakemake(folder, study, "--touch", "--cores", "1", "--quiet", "all")


def show(cases: int, models: int, folds: int, what: str, run: Planned) -> None:
    print(
        f"| {cases} | {models} | {folds} | {run.jobs} | {what} | {run.cpu_s:.1f} | {run.wall_s:.1f} | "
        f"{run.memory_mb:.0f} |",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of 20 cases")
    options = parser.parse_args()
    print("| cases | models | folds | jobs | | CPU (s) | wall (s) | peak memory (MB) |")
    print("|---|---|---|---|---|---|---|---|")
    targets = []
    for cases, models, folds in ((20, 2, 2),) if options.quick else SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            study = build(folder, cases, models, folds)
            full = snakemake(folder, study, "--dry-run")
            show(cases, models, folds, "all to do", full)
            pretend(folder, study, full.text, record=cases <= RECORDED)
            idle = snakemake(folder, study, "--dry-run")
        if "Nothing to be done" not in idle.text:
            raise SystemExit(f"jobs are left after all were done:\n{idle.text[-3000:]}")
        size = f"{cases} cases x {models} models x {folds} folds"
        show(cases, models, folds, "nothing to do", idle)
        for what, run in (("all to do", full), ("nothing to do", idle)):
            asked_s = ASKED_S.get(cases, 5.0)
            targets.append((f"{what}, {size}", run.cpu_s, asked_s, "s of CPU"))
            targets.append((f"{what}, {size}", run.memory_mb, ASKED_MB, "MB"))
    for what, figure, asked, unit in targets:
        word = "ok" if figure <= asked else "short"
        print(f"target {what}: {figure:.1f} {unit} (asked at most {asked:g}) {word}")
    return 0 if all(figure <= asked for _, figure, asked, _ in targets) else 1


if __name__ == "__main__":
    raise SystemExit(main())
