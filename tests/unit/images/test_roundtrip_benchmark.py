"""The benchmark of the way there and back runs, and measures what it says."""

import pytest

from benchmark_runs import run_quickly


@pytest.mark.long
def test_it_runs():
    run = run_quickly("roundtrip")
    assert run.returncode == 0, run.stderr
    assert "| all | segstudy | 240 |" in run.stdout
