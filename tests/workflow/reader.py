"""Somebody who reads a page and types what it shows."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_printed(
    command: str,
    folder: Path,
    variables: Mapping[str, str],
    answers: Sequence[str] = (),
    after: str = "",
) -> str:
    """Run a command by bash, which must not fail; return what it prints.

    answers: lines that its questions get. after: what bash does then, for itself.
    """
    run = subprocess.run(
        ["bash", "-c", f"{command}\nstatus=$?\n{after}\nexit $status"],
        cwd=folder,
        env=dict(variables),
        input="\n".join(answers),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{command}\n{run.stdout[-5000:]}"
    assert "Traceback" not in run.stdout
    return run.stdout


class Reader:
    """Somebody who types commands one after the other, at home in a folder of their own."""

    def __init__(self, folder: Path):
        self.home = self.place = folder
        self.variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        programs = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
        self.variables |= {"HOME": str(folder), "PATH": programs, "OMP_NUM_THREADS": "1"}
        self.variables |= {"SCRATCH": str(folder / "scratch"), "XDG_CONFIG_HOME": str(folder)}
        # pip fetches nothing: what a package needs is there.
        self.variables |= dict.fromkeys(["PIP_NO_DEPS", "PIP_NO_INDEX"], "1")
        self.services: list[subprocess.Popen] = []

    def types(self, command: str) -> str:
        """Run a command, which must not fail; return what it prints."""
        if command.startswith("segstudy serve"):
            return self.starts(command)
        left = self.home / ".left"
        after = f"pwd > {left}\nenv -0 >> {left}"
        printed = run_printed(command, self.place, self.variables, after=after)
        place, _, variables = left.read_text().partition("\n")
        self.place = Path(place)
        self.variables = dict(one.split("=", 1) for one in variables.split("\0") if one)
        return printed

    def starts(self, command: str) -> str:
        """Start a service, and wait until it says where it is."""
        self.services.append(
            subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.place,
                env=self.variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        while line := self.services[-1].stdout.readline():
            if "http://" in line:
                return line
        raise AssertionError(f"{command} has ended")

    def leaves(self) -> None:
        for service in self.services:
            service.terminate()
            service.communicate(timeout=60)
