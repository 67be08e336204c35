"""How long Snakemake takes to plan a large study: a dry run after the audit, every job still to do.

Builds the case table of a cohort (empty files, since a dry run opens none) and a study file, then
runs `snakemake --dry-run` in a process of its own and reads its time and peak memory.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from segstudy.cases import Case, write_cases

REPOSITORY = Path(__file__).resolve().parents[1]
ASKED_S = 10.0


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


def dry_run(folder: Path, study: Path) -> tuple[float, float, int]:
    """Seconds, peak memory in MB and number of jobs of a dry run."""
    command = [
        sys.executable,
        "-c",
        "import resource, subprocess, sys;"
        "run = subprocess.run([sys.executable, '-m', 'snakemake', *sys.argv[1:]]);"
        "print('peak_kb', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);"
        "sys.exit(run.returncode)",
        "--dry-run",
        "--quiet",
        "rules",
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
    seconds = time.perf_counter() - began
    if run.returncode:
        raise SystemExit(run.stdout + run.stderr)
    text = run.stdout + run.stderr
    jobs = int(re.search(r"^total\s+(\d+)", text, re.MULTILINE)[1])
    return seconds, int(re.search(r"peak_kb (\d+)", text)[1]) / 1024, jobs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of 20 cases")
    options = parser.parse_args()
    cases, models, folds = (20, 2, 2) if options.quick else (400, 4, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = build(folder, cases, models, folds)
        seconds, memory_mb, jobs = dry_run(folder, study)
    print("| cases | models | folds | jobs | dry run (s) | peak memory (MB) |")
    print("|---|---|---|---|---|---|")
    print(f"| {cases} | {models} | {folds} | {jobs} | {seconds:.1f} | {memory_mb:.0f} |")
    met = seconds <= ASKED_S
    print(
        f"target dry run of {cases} cases x {models} models x {folds} folds: {seconds:.1f} s "
        f"(asked {ASKED_S:g} s) {'ok' if met else 'short'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
