"""The benchmark of quality runs on the phantom, and prints coverage and targets."""

import pytest

from benchmark_runs import run_quickly


@pytest.mark.long
def test_it_runs():
    run = run_quickly("quality", "--cohorts", "phantom")
    assert run.returncode == 0, run.stderr
    assert "| trachea | " in run.stdout
    assert "target phantom: real Dice in its 90 % interval" in run.stdout
