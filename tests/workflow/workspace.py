"""A copy of the workflow whose code, settings and data a test may edit, and what Snakemake runs in it."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

TARGETS = {"default", "all", "download", "download_all", "repair", "preprocess", "train", "infer"}
TARGETS |= {"metrics", "publish"}
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Run:
    returncode: int
    text: str

    @property
    def jobs(self) -> Counter:
        """Rules that ran, or that a dry run would run, and how often; targets do not count."""
        rules = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):$", self.text, re.MULTILINE)
        return Counter(rule for rule in rules if rule not in TARGETS)

    def shards(self, rule: str) -> set[str]:
        """Shards for which a rule ran."""
        pattern = rf"^(?:local)?rule {rule}:$(?:\n    .*)*?\n    wildcards: .*shard=([^,\s]+)"
        return set(re.findall(pattern, self.text, re.MULTILINE))


class Workspace:
    """A copy of the workflow in a folder of its own, with one study, `tiny`."""

    def __init__(self, folder: Path, study: dict):
        self.folder = folder
        self.data = folder / "data"
        for name in ("Snakefile", "workflow", "config", "envs", "profiles", "resources"):
            source = REPOSITORY / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name)
        (folder / "slurm").symlink_to("profiles/slurm")
        # Numba keeps compiled code beside a module: shared by all copies, or each compiles for 10 to 20 s.
        for module in (REPOSITORY / "workflow" / "segstudy").rglob("__init__.py"):
            compiled = module.with_name("__pycache__")
            compiled.mkdir(exist_ok=True)
            (folder / compiled.relative_to(REPOSITORY)).symlink_to(compiled)
        self.write_study(study)

    def write_study(self, study: dict) -> None:
        self.study = study
        file = self.folder / "config" / "studies" / "tiny.yaml"
        file.write_text(yaml.safe_dump(study, sort_keys=False))

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    def edit(self, file: str, line: str) -> None:
        """Append a line of code to a module of the package."""
        path = self.folder / "workflow" / "segstudy" / file
        path.write_text(path.read_text() + f"\n\n{line}\n")

    def run(self, *arguments: str, check: bool = True) -> Run:
        command = ["snakemake", "--nocolor", *arguments]
        if "--cores" not in arguments:
            command += ["--cores", "2"]
        if "--config" not in arguments:
            command += ["--config", "study=tiny"]
        return self._run(command, check=check)

    def segstudy_run(self, *arguments: str, check: bool = True) -> Run:
        """As `run`, by the workspace's own `segstudy run`."""
        return self._run(["segstudy", "run", "tiny", "--cores", "2", *arguments], check=check)

    def _run(self, words: list[str], *, check: bool) -> Run:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PYTHONPATH"] = str(self.folder / "workflow")
        command = [sys.executable, "-m", *words]
        run = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check and run.returncode:
            raise AssertionError(f"{words[0]} failed:\n{run.stdout[-6000:]}")
        return Run(run.returncode, run.stdout)

    def dry_run(self, *arguments: str) -> Run:
        return self.run("--dry-run", *arguments)
