"""A package of `segstudy publish`, unpacked and checked: nothing in it is run or believed before."""

import csv
import hashlib
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.files import read_mapping
from segstudy.log import duration
from segstudy.package_files import CHECKSUMS, CRATE, DATA, FOLDS, LOCK, RECORD, SETTINGS, TABLES
from segstudy.unpack import unpack

NEEDED = (SETTINGS, RECORD, LOCK, CRATE, f"{TABLES}/{DATA}", CHECKSUMS)
_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>[^\n]+)")
_SHOWN = 5


@dataclass(frozen=True)
class Package:
    """A package, unpacked.

    Attributes
    ----------
    folder
        Where it lies.
    """

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what `provenance.json` says: code, versions, seeds, threads, options and what is to be filled in."""
        return read_mapping(self.folder / RECORD)

    @cached_property
    def _entities(self) -> list[dict[str, Any]]:
        graph = read_mapping(self.folder / CRATE).get("@graph")
        return [one for one in graph if isinstance(one, dict)] if isinstance(graph, list) else []

    @property
    def plugins(self) -> dict[str, str]:
        """Return the label of each part of the study's own -> the digest of its code then."""
        found = [one for one in self._entities if str(one.get("@id")).startswith("#plugin/")]
        return {str(one.get("name")): str(one.get("version")) for one in found}

    @property
    def cost(self) -> str:
        """Say when it ran, how long its jobs took, how much memory, and on what; empty where none of it is recorded."""
        values = {str(one.get("@id")): one.get("value") for one in self._entities}
        usage = {
            name: value
            for name, value in values.items()
            if name.startswith("#usage/")
            and isinstance(value, int | float)
            and math.isfinite(value)
        }
        seconds = sum(value for name, value in usage.items() if name.endswith("/seconds"))
        memory = max(
            (value for name, value in usage.items() if name.endswith("/memory_mb")), default=0
        )
        [day, *_] = [str(one["endTime"])[:10] for one in self._entities if "endTime" in one] or [""]
        machine = [
            f"{one.get('name')} {one.get('value')}"
            for one in self._entities
            if str(one.get("@id")).startswith("#machine/")
        ]
        parts = [
            day,
            f"{duration(seconds)} of jobs in all" if seconds else "",
            f"at most {memory:,.0f} MB" if memory else "",
        ]
        return "; ".join(filter(None, [*parts, *machine]))

    @property
    def lacking(self) -> dict[str, str]:
        """Return what is to be said before it runs: key of the study file -> what belongs there."""
        return dict(self.record.get("to_fill_in") or {})

    @property
    def is_anonymous(self) -> bool:
        """Return whether cases have numbers for names."""
        return "--anonymous" in (self.record.get("options") or ())

    @property
    def has_folds(self) -> bool:
        """Return whether it says which fold each subject is in."""
        return (self.folder / FOLDS).is_file()

    @cached_property
    def data(self) -> list[dict[str, str]]:
        """Return the checksums of the data, a row a file, or a dataset where names are replaced."""
        place = self.folder / TABLES / DATA
        try:
            with place.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{place}: not readable as a table ({error})") from None
        if not all(
            isinstance(row.get(key), str) for row in rows for key in ("dataset", "file", "sha256")
        ):
            raise InputError(f"{place}: expected columns dataset, file and sha256")
        return rows


def opened(archive: Path, folder: Path) -> Package:
    """Unpack a package into an empty folder and check that it is whole.

    Parameters
    ----------
    archive
        The zip.
    folder
        An empty folder.

    Raises
    ------
    InputError
        For what is no zip, is not safe to unpack, is damaged, is no package of `segstudy publish`, or has files
        that are not those of its `SHA256SUMS`.
    """
    if not archive.is_file():
        raise InputError(f"{archive}: no such file; expected the zip that `make publish` writes")
    try:
        unpack(archive, folder)
    except InputError as error:
        raise InputError(f"{archive}: {error}") from None
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{archive}: not a package of segstudy that can be run again: it has no {', '.join(missing)}; expected "
            "the zip that `make publish` writes, of version 0.2.0 or newer"
        )
    wrong = faults(folder)
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"{archive}: changed since it was written: {', '.join(wrong[:_SHOWN])}{more}; get it again from where it "
            "was published"
        )
    package = Package(folder)
    kinds = {
        "segstudy": dict,
        "versions": dict,
        "to_fill_in": dict,
        "options": list,
        "threads": int,
    }
    odd = [key for key, kind in kinds.items() if not isinstance(package.record.get(key), kind)]
    if not odd and package.record["threads"] < 1:
        odd = ["threads"]
    if odd:
        raise InputError(
            f"{archive}: {RECORD}: {', '.join(odd)}: missing or of the wrong kind; it cannot be run again"
        )
    return package


def faults(folder: Path) -> list[str]:
    """List the files that are missing, other than, or not in the checksums of a package."""
    told = {}
    for number, line in enumerate(
        (folder / CHECKSUMS).read_text("utf-8", "replace").splitlines(), 1
    ):
        found = _LINE.fullmatch(line)
        if not found:
            return [f"{CHECKSUMS}, line {number}: no checksum and name of a file"]
        told[found["name"]] = found["sha256"]
    there = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    del there[CHECKSUMS]
    wrong = [f"{name} is missing" for name in told if name not in there]
    wrong += [f"{name} is not in {CHECKSUMS}" for name in sorted(there) if name not in told]
    return wrong + [
        f"{name} has another checksum"
        for name, path in sorted(there.items())
        if name in told and hashlib.sha256(path.read_bytes()).hexdigest() != told[name]
    ]
