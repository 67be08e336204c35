"""A SLURM cluster for the tests of this folder, each of which bears the mark `slurm`."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import cluster


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A running cluster, to which the environment's SLURM commands speak."""
    reason = cluster.missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in cluster.start(folder).items():
            environment.setenv(name, value)
        yield folder
        cluster.stop(folder)


@pytest.fixture(scope="session")
def slurm_jobs(slurm) -> Callable[[], list[dict[str, str]]]:
    """What SLURM knows of each job, in order: the fields of `scontrol show job`."""

    def ask() -> list[dict[str, str]]:
        run = subprocess.run(
            ["scontrol", "show", "job", "--oneliner"],
            capture_output=True,
            text=True,
            check=True,
        )
        found = [
            dict(re.findall(r"(\w+)=(\S*)", line))
            for line in run.stdout.splitlines()
            if line.startswith("JobId=")
        ]
        return sorted(found, key=lambda job: int(job["JobId"]))

    return ask
