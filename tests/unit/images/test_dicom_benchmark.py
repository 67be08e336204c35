"""The benchmark of reading a DICOM series runs, and both ways give the same voxels."""

import pytest

from benchmark_runs import run_quickly


@pytest.mark.long
def test_it_runs():
    run = run_quickly("dicom")
    assert run.returncode == 0, run.stderr
    assert "| segstudy |" in run.stdout and "sums of the voxels are the same" in run.stdout
