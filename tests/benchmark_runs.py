"""The benchmarks as their tests run them."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def run_quickly(name: str, *further: str) -> subprocess.CompletedProcess:
    """A smoke run of `benchmarks/<name>.py` in a process of its own, as a person starts it."""
    return subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", "--quick", *further],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
