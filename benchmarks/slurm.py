"""Shards on SLURM in three ways: a job each, a job array, groups of shards in a job.

Starts a SLURM of one node (tests/slurm/cluster.py), repairs the labels of a tiny cohort with one
case a shard, and asks SLURM how many jobs there were and how long submitting them took. The work of
a shard is a second or two, so the table shows the overhead of each way, on one machine with few
cores; on a cluster shards also wait for nodes.
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
from user_profile import edit_profile  # noqa: E402
from workspace import Workspace  # noqa: E402

SHARDS_A_GROUP = 25
CPUS = 4
"""Of the node: more jobs at once would only wait for this machine's cores."""
WAYS = {
    "a job a shard": [],
    "job arrays of 25": [
        *("--slurm-array-jobs", "repair_apply", "--slurm-array-limit", "25"),
        *("--jobs", "10000", "--max-jobs-per-timespan", "10000/1s"),
    ],
    f"groups of {SHARDS_A_GROUP}": [
        *("--groups", "repair_apply=shards"),
        *("--group-components", f"shards={SHARDS_A_GROUP}"),
    ],
}


def build(folder: Path, shards: int) -> Workspace:
    study = tiny_study(write_cohort(folder / "data", shards))
    study["datasets"]["chest"]["cases_per_job"] = 1
    workspace = Workspace(folder, study)
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


def measure(workspace: Workspace, shards: int, arguments: list[str]) -> tuple[int, float, float]:
    """Jobs, seconds from the first to the last submission, and wall seconds of all shards."""
    labels = workspace.results / "repair" / "chest" / "labels"
    shutil.rmtree(labels, ignore_errors=True)
    targets = [str((labels / f"p{n}").relative_to(workspace.folder)) for n in range(shards)]
    known = set(submitted())
    began = time.perf_counter()
    jobs = ("--jobs", str(shards))  # a way's own come later and count
    workspace.run(*targets, "--profile", "slurm", *jobs, "--cores", "2", *arguments)
    wall_s = time.perf_counter() - began
    times = sorted(moment for job, moment in submitted().items() if job not in known)
    return len(times), (times[-1] - times[0]).total_seconds(), wall_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of 4 shards")
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    shards = 4 if options.quick else options.shards
    if cluster.missing():
        print(f"not measured: {cluster.missing()}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = build(folder / "work", shards)
        os.environ.update(cluster.start(folder / "slurm", cpus=CPUS))
        try:
            workspace.run("results/tiny/repair/chest/estimate")
            print("| shards | way | SLURM jobs | submitting (s) | wall (s) |")
            print("|---|---|---|---|---|")
            for way in options.ways:
                jobs, submitting_s, wall_s = measure(workspace, shards, WAYS[way])
                print(
                    f"| {shards} | {way} | {jobs} | {submitting_s:.0f} | {wall_s:.0f} |", flush=True
                )
        finally:
            cluster.stop(folder / "slurm")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
