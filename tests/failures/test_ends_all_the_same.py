"""The tiny study, killed at random moments and on a full disk, ends with the bytes of an undisturbed run.

A full disk is told in one clear line, and leaves nothing half-written. tests/failures/kills.py kills
as often as it is asked to. All in one file, so that one process makes the undisturbed run.
"""

import shutil
import subprocess

import pytest

from kills import compare, differences, digests, disturbed

pytestmark = [pytest.mark.slow, pytest.mark.long]

# What each stage is asked for, and what of it is taken away before.
RUN = "flat/fold-0/seed-0"
STAGES = {
    "download": ("download/chest/cases.tsv", "download/chest"),
    "repair": ("repair/chest/estimate", "repair/chest/estimate"),
    "preprocess": ("preprocess/splits.tsv", "preprocess/splits.tsv"),
    "train": (f"train/{RUN}/weights.pt", f"train/{RUN}"),
    "infer": (f"infer/{RUN}/chest", f"infer/{RUN}/chest"),
    "metrics": (f"metrics/{RUN}/chest.csv", f"metrics/{RUN}/chest.csv"),
    "statistics": ("statistics/summary.csv", "statistics"),
    "publish": ("report.html", "report.html"),
}


@pytest.fixture
def small_disk(undisturbed, tmp_path):
    """The results on a file system of their own that has little room left over."""
    workspace, _ = undisturbed
    kept = tmp_path / "kept"
    workspace.results.rename(kept)
    workspace.results.mkdir()
    size_kb = 4000 + sum(-(-path.stat().st_size // 4096) * 4 + 4 for path in kept.rglob("*"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(workspace.results)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    try:
        if mounted.returncode:
            pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
        shutil.copytree(kept, workspace.results, dirs_exist_ok=True, copy_function=shutil.copy2)
        yield workspace
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", str(workspace.results)], check=True)
        workspace.results.rmdir()
        kept.rename(workspace.results)


def fill(folder):
    """A file that takes all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_told_and_survived(small_disk, undisturbed, stage):
    target, taken = STAGES[stage]
    path = small_disk.results / taken
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    # What was kept of it would be taken again without a byte of room.
    shutil.rmtree(small_disk.results / ".finished", ignore_errors=True)
    filler = fill(small_disk.results)
    asked = [f"results/tiny/{target}", "--rerun-triggers", "mtime", "--rerun-incomplete"]
    failed = small_disk.run(*asked, check=False)
    assert failed.returncode == 1
    assert "No space left on device" in failed.text
    assert "Traceback" not in failed.text
    filler.unlink()
    small_disk.run(*asked)
    assert (small_disk.results / target).exists()
    expected = {name: value for name, value in undisturbed[1].items() if name.startswith(taken)}
    found = digests(small_disk.results)
    assert not differences(expected, {name: found.get(name) for name in expected})


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
