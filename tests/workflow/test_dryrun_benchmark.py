"""The benchmark of planning large studies runs, and where nothing changed nothing is planned."""

import pytest

from benchmark_runs import run_quickly


@pytest.mark.long
def test_it_runs():
    run = run_quickly("dryrun")
    assert "| 20 | 2 | 2 | 0 | nothing to do |" in run.stdout, run.stdout + run.stderr
