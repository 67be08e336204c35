"""Two runs in one folder at once: the second is refused, the first unharmed."""

import os
import signal
import time

import pytest

from kills import build, start

pytestmark = pytest.mark.slow


def test_a_second_run_is_refused_and_the_first_ends(tmp_path):
    workspace = build(tmp_path)
    target = "results/tiny/preprocess/splits.tsv"
    first = start(workspace, target)
    locks = workspace.folder / ".snakemake" / "locks"
    # Written, not only there: Snakemake takes an empty lock for none.
    while not any(lock.stat().st_size for lock in locks.glob("*.output.lock")):
        assert first.poll() is None
        time.sleep(0.02)
    # Held still, so that it is surely not over when the second comes.
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        second = workspace.run(target, check=False)
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.text
    assert "--unlock" in second.text
    assert first.wait() == 0
    assert (workspace.folder / target).read_text().startswith("dataset\t")
