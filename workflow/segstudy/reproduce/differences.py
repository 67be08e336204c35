"""What is other here than where a package was made: the code, the versions, the data."""

import platform
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PINNED = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


def of_code(told: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Say how the segstudy that runs differs from the one that made a package; nothing where its files are the same.

    Parameters
    ----------
    told
        Version, digest of the package's files, and where known commit and state of the clone, as published.
    here
        The same of this segstudy.
    """
    if told.get("package_sha256") == here.get("package_sha256"):
        return []
    names = [
        f"{one.get('version', 'of no known version')}"
        + (
            f", commit {str(one['commit'])[:12]} ({one.get('state', '')})"
            if one.get("commit")
            else ""
        )
        for one in (told, here)
    ]
    return [f"segstudy: {names[0]} made it, {names[1]} is here, and their code differs"]


def of_versions(lock: Path) -> list[str]:
    """List the libraries, and Python, whose versions here are not those of a `requirements.lock`."""
    first, *_ = lines = lock.read_text("utf-8", "replace").splitlines() or [""]
    python = first.removeprefix("# Python ").strip()
    found = []
    if first.startswith("# Python ") and python != platform.python_version():
        found.append(f"Python: {python} made it, {platform.python_version()} is here")
    if not pinned(lock):
        found.append(
            f"libraries: {lock.name} of the package names none, so their versions cannot be compared"
        )
    if not first.startswith("# Python "):
        found.append(
            f"Python: {lock.name} of the package names no version of it, so it cannot be compared"
        )
    for line in lines:
        if one := _PINNED.fullmatch(line.strip()):
            name, version = one.groups()
            try:
                here = metadata.version(name).partition("+")[0]
            except metadata.PackageNotFoundError:
                here = ""
            if here != version:
                found.append(f"{name}: {version} made it, {here or 'none'} is here")
    return found


def pinned(lock: Path) -> int:
    """Count the libraries of a `requirements.lock`."""
    return sum(
        bool(_PINNED.fullmatch(line.strip()))
        for line in lock.read_text("utf-8", "replace").splitlines()
    )


def of_data(published: Iterable[Mapping[str, str]], here: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the files of the data that are missing or other here, and those that the package does not know.

    Parameters
    ----------
    published
        Rows of the package's `data.csv`: dataset, case, file, sha256.
    here
        The same of the data that were found. Predictions may be there of more cases than are tested.
    """
    then = {_of(row): row["sha256"] for row in published}
    now = {_of(row): row["sha256"] for row in here}
    wrong = [f"{_words(key)} is missing" for key in then if key not in now]
    wrong += [
        f"{_words(key)} is another file" for key, one in then.items() if now.get(key, one) != one
    ]
    return wrong + [
        f"{_words(key)} is not in the package"
        for key in now
        if key not in then and not key[2].startswith("prediction of ")
    ]


def _of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(row["dataset"]), str(row.get("case") or ""), str(row["file"])


def _words(key: tuple[str, str, str]) -> str:
    dataset, case, file = key
    return f"{file} of {case} ({dataset})" if case else f"{dataset}: {file}"
