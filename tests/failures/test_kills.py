"""Three kills at random moments; tests/failures/kills.py does it with as many as asked for."""

import shutil

import pytest

from kills import compare, disturbed

pytestmark = pytest.mark.slow


def test_killed_three_times_from_scratch_the_study_has_the_same_bytes(undisturbed):
    """Also that two runs from scratch give the same bytes, since this is the second."""
    workspace, expected = undisturbed
    assert {"metrics/metrics.csv", "statistics/tests.csv", "statistics/ranking.csv"} <= set(
        expected
    )
    kept = workspace.folder / "undisturbed"
    shutil.copytree(workspace.results, kept, copy_function=shutil.copy2)
    shutil.rmtree(workspace.results)
    try:
        hit = disturbed(workspace, seed=7, kills=3, longest_s=15)
        assert sum(hit.values()) == 3
        compare(workspace, expected, seed=7)
    finally:
        shutil.rmtree(workspace.results, ignore_errors=True)
        kept.rename(workspace.results)
