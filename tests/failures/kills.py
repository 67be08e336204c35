"""kill -9 at random moments: the tiny study ends all the same, with the same bytes.

    python tests/failures/kills.py --kills 50 --seed 1

Runs the study once undisturbed. Then over and over from scratch: Snakemake is started, and at a
random moment a victim gets SIGKILL: one stage's process, or Snakemake alone (its jobs live on), or
all of them at once, as when a machine dies. Snakemake is then started again, with `--unlock` first
where its lock was left, until the study ends; every table, network and prediction must have the
bytes of the undisturbed run. Exits 1 where one has not. The seeds that are printed give the same
moments and victims again.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / name) for name in ("", "workflow")]

from builders import tiny_study, write_cohort  # noqa: E402
from segstudy.tables import MEASURED  # noqa: E402
from workspace import Workspace  # noqa: E402

VICTIMS = ("stage", "snakemake", "all")
KEPT = {".csv", ".tsv", ".json", ".pt", ".gz", ".md"}
ROUNDS = 40


def build(folder: Path) -> Workspace:
    """The tiny study with one model, so that a round is short."""
    study = tiny_study(write_cohort(folder / "data", 4))
    study["models"] = {"flat": study["models"]["flat"]}
    return Workspace(folder, study)


def digests(results: Path) -> dict[str, str]:
    """What must not depend on how the study came to its end, by file; logs and figures left out."""
    found = {}
    for path in sorted(results.rglob("*")):
        place = path.relative_to(results)
        if (
            place.parts[0] in ("logs", "benchmarks", "figures", ".finished", "study.json")
            or not path.is_file()
        ):
            continue
        # What a killed job was writing has a temporary name, is never read, and goes with the next writing.
        if any(part.startswith(".writing-") for part in place.parts):
            continue
        if path.suffix in KEPT and path.name != "seconds.csv":
            content = path.read_bytes()
            if path.name == "history.csv":
                same = pd.read_csv(path, dtype=str).drop(columns=[*MEASURED], errors="ignore")
                content = same.to_csv(index=False).encode()
            found[str(place)] = hashlib.sha256(content).hexdigest()
    return found


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]


def half_written(results: Path) -> list[str]:
    """What a killed job left beside the results, which no later one has written again."""
    return [str(path.relative_to(results)) for path in results.rglob(".writing-*")]


def start(workspace: Workspace, *arguments: str) -> subprocess.Popen:
    """Snakemake in a process group of its own, so that all of it can be found and killed."""
    command = [sys.executable, "-m", "snakemake", "--nocolor", "--cores", "2", *arguments]
    command += ["--config", "study=tiny", "--rerun-incomplete", "--latency-wait", "1"]
    with (workspace.folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=workspace.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stages(group: int) -> list[int]:
    """Processes of stages in a process group: `python -m segstudy ...`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[2]) == group and command[1:3] == [b"-m", b"segstudy"]:
            found.append(int(folder.name))
    return found


def kill(run: subprocess.Popen, victim: str, draw: random.Random) -> bool:
    """Send SIGKILL; whether there was somebody to kill."""
    if victim == "stage":
        running = stages(run.pid)
        if not running:
            return False
        os.kill(draw.choice(sorted(running)), signal.SIGKILL)
    elif victim == "snakemake":
        run.kill()
    else:
        os.killpg(run.pid, signal.SIGKILL)
    return True


def disturbed(workspace: Workspace, seed: int, kills: int, longest_s: float) -> Counter:
    """Run the study to its end with up to `kills` kills on the way; the victims that were hit."""
    draw = random.Random(seed)
    hit: Counter = Counter()
    for _ in range(ROUNDS):
        unlock = start(workspace, "--unlock")
        unlock.wait()
        run = start(workspace)
        while sum(hit.values()) < kills and run.poll() is None:
            victim, moment = draw.choice(VICTIMS), draw.uniform(0.5, longest_s)
            try:
                run.wait(moment)
            except subprocess.TimeoutExpired:
                if kill(run, victim, draw):
                    hit[victim] += 1
                    print(f"seed {seed}: after {moment:.1f} s SIGKILL to {victim}", flush=True)
        if run.wait() == 0:
            return hit
    raise AssertionError(
        f"seed {seed}: not ended after {ROUNDS} starts: {workspace.folder}/run.log"
    )


def compare(workspace: Workspace, expected: dict[str, str], seed: int) -> None:
    wrong = differences(expected, digests(workspace.results))
    if wrong:
        raise AssertionError(f"seed {seed}: other bytes than undisturbed: {', '.join(wrong)}")
    nothing = workspace.dry_run()
    if nothing.jobs:
        raise AssertionError(f"seed {seed}: not finished: {dict(nothing.jobs)}")


def again(workspace: Workspace, name: str) -> None:
    """Put the results aside, so that the next run starts from scratch."""
    workspace.results.rename(workspace.folder / name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=10, help="kills until a study may end")
    parser.add_argument("--longest-s", type=float, default=25, help="longest time between kills")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        workspace = build(Path(name))
        began = time.monotonic()
        workspace.run()
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        expected = digests(workspace.results)
        again(workspace, "undisturbed")
        total: Counter = Counter()
        seed = options.seed
        while sum(total.values()) < options.kills:
            left = min(options.each, options.kills - sum(total.values()))
            total += disturbed(workspace, seed, left, options.longest_s)
            compare(workspace, expected, seed)
            print(
                f"seed {seed}: ended, {len(expected)} files byte-identical; left behind: "
                f"{half_written(workspace.results) or 'nothing'}; kills so far {dict(total)}",
                flush=True,
            )
            again(workspace, f"seed-{seed}")
            seed += 1
    print(f"{sum(total.values())} kills survived: {dict(total)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
