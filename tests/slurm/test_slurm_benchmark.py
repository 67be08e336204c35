"""The benchmark of cases on SLURM runs, and SLURM was given as many jobs as each way says."""

import re

from benchmark_runs import run_quickly


def test_four_cases_in_three_ways(slurm):
    run = run_quickly("slurm")
    assert run.returncode == 0, run.stdout + run.stderr
    jobs = dict(re.findall(r"^\| 4 \| ([\w ]+) \| (\d+) \|", run.stdout, re.MULTILINE))
    assert jobs == {"a job a case": "4", "job arrays of 25": "1", "25 cases a job": "1"}
