"""Cases on SLURM in three ways: a job each, job arrays, many in a job.

Starts a SLURM of one node (tests/slurm/cluster.py), repairs the labels of a tiny cohort, and asks
SLURM how many jobs there were and how long submitting them took. The work on a case is a fraction of
a second, so the table shows the overhead of each way, on one machine with few cores; on a cluster
jobs also wait for nodes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / name) for name in ("", "workflow", "slurm")]

import cluster  # noqa: E402
from builders import tiny_study, write_cohort  # noqa: E402
from segstudy.cases import read_cases, shards  # noqa: E402
from user_profile import edit_profile  # noqa: E402
from workspace import Workspace  # noqa: E402

TOGETHER = 25
CPUS = 4
"""Of the node: more jobs at once would only wait for this machine's cores."""
WAYS = {
    "a job a case": (1, []),
    f"job arrays of {TOGETHER}": (
        1,
        [
            *("--slurm-array-jobs", "repair_apply", "--slurm-array-limit", str(TOGETHER)),
            *("--jobs", "10000", "--max-jobs-per-timespan", "10000/1s"),
        ],
    ),
    f"{TOGETHER} cases a job": (TOGETHER, []),
}
"""Cases a job, and what Snakemake is told. Its own groups of jobs go wrong in workflows with checkpoints."""


def build(folder: Path, cases: int) -> Workspace:
    workspace = Workspace(folder, tiny_study(write_cohort(folder / "data", cases)))
    edit_profile(workspace)
    return workspace


def submitted() -> dict[str, datetime]:
    """When SLURM was given each job; the tasks of an array are one job."""
    command = ["scontrol", "show", "job", "--oneliner"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobId" in fields:
            job = fields.get("ArrayJobId", fields["JobId"])
            found[job] = datetime.fromisoformat(fields["SubmitTime"])
    return found


def measure(
    workspace: Workspace, cases_per_job: int, arguments: list[str]
) -> tuple[int, float, float]:
    """Jobs, seconds from the first to the last submission, and wall seconds of all cases."""
    workspace.study["datasets"]["chest"]["cases_per_job"] = cases_per_job
    workspace.write_study(workspace.study)
    cases = [case.case for case in read_cases(workspace.results / "download/chest/cases.tsv")]
    labels = workspace.results / "repair" / "chest" / "labels"
    shutil.rmtree(labels, ignore_errors=True)
    names = shards(cases, cases_per_job)
    targets = [str((labels / name).relative_to(workspace.folder)) for name in names]
    known = set(submitted())
    began = time.perf_counter()
    jobs = ("--jobs", str(len(cases)))  # a way's own come later and count
    workspace.run(*targets, "--profile", "slurm", *jobs, "--cores", "2", *arguments)
    wall_s = time.perf_counter() - began
    repaired = {file.name for file in labels.glob("*/*.nii.gz")}
    if repaired != {f"{case}.nii.gz" for case in cases}:
        raise RuntimeError(f"of {len(cases)} cases {len(repaired)} were repaired")
    times = sorted(moment for job, moment in submitted().items() if job not in known)
    return len(times), (times[-1] - times[0]).total_seconds(), wall_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of 4 cases")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    cases = 4 if options.quick else options.cases
    if cluster.missing():
        print(f"not measured: {cluster.missing()}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = build(folder / "work", cases)
        os.environ.update(cluster.start(folder / "slurm", cpus=CPUS))
        try:
            workspace.run("results/tiny/repair/chest/estimate")
            print("| cases | way | SLURM jobs | submitting (s) | wall (s) |")
            print("|---|---|---|---|---|")
            for way in options.ways:
                jobs, submitting_s, wall_s = measure(workspace, *WAYS[way])
                print(
                    f"| {cases} | {way} | {jobs} | {submitting_s:.0f} | {wall_s:.0f} |", flush=True
                )
        finally:
            cluster.stop(folder / "slurm")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
