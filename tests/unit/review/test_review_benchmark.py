"""The benchmark of planted faults, as a smoke run."""

import pytest

from benchmark_runs import run_quickly

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_the_benchmark_runs(real_data):
    run = run_quickly("review", "--cohorts", "hippocampus")
    assert run.returncode == 0, run.stderr
    assert "| all | 4 |" in run.stdout
    assert "target hippocampus: recall in the first 20 %" in run.stdout
