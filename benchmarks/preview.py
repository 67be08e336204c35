"""How long `segstudy preview` takes for a large study: with all to do, after a change, and with nothing to do.

Builds the study of `dryrun.py` with its audited case table and empty files, takes every job for
made (`snakemake --touch`, which leaves Snakemake's notes and the record of the jobs), then changes a
tolerance. Targets are of CPU seconds, Snakemake's own planning in a child process included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from dryrun import build, pretend, snakemake

from segstudy.follow.preview import planned

REPOSITORY = Path(__file__).resolve().parents[1]
ASKED_S = 10.0


def preview(folder: Path, study: Path) -> tuple[float, float, dict]:
    """Return seconds of the CPU, seconds on the wall, and what `segstudy preview --json` says."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-m", "segstudy", "preview", str(study), "--json", "--config"]
        + [f"results={folder / 'results'}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu_s, time.perf_counter() - began, json.loads(run.stdout)


def record(folder: Path, study: Path) -> None:
    """Write the record of a run of all jobs, which `--touch` leaves no lines in."""
    os.chdir(folder)
    jobs = planned([f"study={study}", f"results={folder / 'results'}"], ["--forceall"])
    lines = [{"event": "run", "time": 0, "host": "", "process": 0, "command": "", "folder": ""}]
    for job in jobs:
        lines += [job, {"event": "end", "time": 1, "id": job["id"], "seconds": 9, "bytes": 1}]
    file = folder / "results" / "large" / ".jobs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of 20 cases")
    cases, models, folds = (20, 2, 2) if parser.parse_args().quick else (400, 4, 5)
    size = f"{cases} cases x {models} models x {folds} folds"
    print("| what | jobs | CPU (s) | wall (s) |\n|---|---|---|---|")
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        study = build(folder, cases, models, folds)

        def measure(what: str) -> dict:
            cpu_s, wall_s, found = preview(folder, study)
            figures[what] = cpu_s
            print(f"| {what} | {len(found['jobs'])} | {cpu_s:.1f} | {wall_s:.1f} |", flush=True)
            return found

        measure("all to do")
        pretend(folder, study, snakemake(folder, study, "--dry-run").text, record=False)
        snakemake(folder, study, "--touch", "--forceall", "--cores", "1", "--quiet", "all")
        record(folder, study)
        content = yaml.safe_load(study.read_text())
        study.write_text(yaml.safe_dump({**content, "metrics": {"nsd_tolerance_mm": [3.0]}}))
        changed = measure("another tolerance")
        study.write_text(yaml.safe_dump(content))
        idle = measure("nothing to do")
    if idle["jobs"] or not any("nsd_tolerance_mm" in reason for reason in changed["reasons"]):
        raise SystemExit(f"preview is wrong: {idle['reasons']}, {changed['reasons']}")
    for what, cpu_s in figures.items():
        word = "ok" if cpu_s <= ASKED_S else "short"
        print(f"target {what}, {size}: {cpu_s:.1f} s of CPU (asked at most {ASKED_S:g}) {word}")
    return 0 if max(figures.values()) <= ASKED_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
