"""Finished work, kept so that a job takes from here what it would only make once more.

Snakemake deletes the declared outputs of a job before it starts, also where the job would only make
the same bytes again: the data lie in another folder, cases are divided into other jobs, a copy has
lost the files' times. So each output gets a second name (a hard link, which takes no room) in a
folder that no rule declares: `<folder>/<key>/<file>`, and `manifest.json` with the SHA-256 of each.
The key is a digest of all that decides the result, without paths.
"""

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segstudy import versions
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, writing, writing_folder
from segstudy.log import log

MANIFEST = "manifest.json"

LIBRARIES = ("monai", "nibabel", "numpy", "scipy", "SimpleITK", "torch")
NNUNET_LIBRARIES = (
    *LIBRARIES,
    *("acvl-utils", "batchgenerators", "batchgeneratorsv2", "dynamic-network-architectures"),
    *("nnunetv2", "scikit-image"),
)
"""What computes weights and predictions; another version may compute others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where finished work is kept."""
    kept = parser.add_argument_group("finished work that is kept")
    kept.add_argument(
        "--finished",
        type=Path,
        metavar="DIR",
        help="folder where finished work is kept: what was made before of the same settings, data and "
        "code is taken from there",
    )
    kept.add_argument(
        "--finished-gb",
        type=float,
        default=20,
        metavar="GB",
        help="most that it may take up beyond the results themselves; what was used longest ago goes "
        "first; 0: keep nothing (default: %(default)s)",
    )


@dataclass(frozen=True)
class Finished:
    """Keep finished work in a folder, and restore it.

    Parameters
    ----------
    folder
        Where the work is kept; None keeps nothing.
    most_gb
        Most that the folder may take up beyond the results themselves, in GB.
    """

    folder: Path | None = None
    most_gb: float = 20

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Finished":
        """Return the store that a command's options name."""
        if not options.finished_gb >= 0:
            raise InputError(f"--finished-gb {options.finished_gb:g}: expected 0 or more")
        return cls(options.finished, options.finished_gb)

    def restore(self, key: str, output: Path, *, whole: bool = False) -> bool:
        """Put the files that are kept under a key into `output`.

        Parameters
        ----------
        key
            Of `finished.key`.
        output
            The folder.
        whole
            Whether `output` is to hold these files and no others.

        Returns
        -------
        bool
            False where nothing is kept under the key, or where a checksum differs.
        """
        if self.folder is None:
            return False
        if not self.most_gb:
            shutil.rmtree(self.folder, ignore_errors=True)
            return False
        kept = self.folder / key
        if not kept.is_dir():
            return False
        try:
            names = _verified(kept)
        except (InputError, OSError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: damaged, so it is not used but removed: %s", kept, error)
            shutil.rmtree(kept, ignore_errors=True)
            return False
        try:
            if whole:
                with writing_folder(output) as folder:
                    _place(kept, names, folder)
            else:
                _place(kept, names, output)
            os.utime(kept / MANIFEST)
        except OSError as error:
            log.warning("%s: cannot be taken, so it is made anew: %s", kept, error)
            return False
        log.info(
            "made before of the same settings, data and code: %d files taken from %s, with the checksums "
            "they were kept with; remove that folder to have them made anew",
            len(names),
            kept,
        )
        return True

    def keep(self, key: str, output: Path, names: Iterable[str] | None = None) -> None:
        """Keep files of `output` under a key; failure to do so is logged and does no harm.

        Parameters
        ----------
        key
            Of `finished.key`.
        output
            The folder.
        names
            Files to keep; None: all.
        """
        if self.folder is None or not self.most_gb or (self.folder / key).is_dir():
            return
        names = sorted(names or (path.name for path in output.iterdir()))
        try:
            with writing_folder(self.folder / key) as folder:
                for name in names:
                    _link(output / name, folder / name)
                checksums = {name: _sha256(folder / name) for name in names}
                write_json(folder / MANIFEST, {"key": key, "sha256": checksums})
            self._tidy()
        except OSError as error:
            # Another job may have kept the same at this moment.
            if not (self.folder / key).is_dir():
                log.warning("%s: cannot be kept for later runs: %s", output, error)

    def _tidy(self) -> None:
        """Remove the work used longest ago, until the rest takes up no more than allowed."""
        entries = sorted((path for path in self.folder.iterdir() if path.is_dir()), key=_used)
        taken = {entry: _taken(entry) for entry in entries}
        total = sum(taken.values())
        for entry in entries:
            if total <= self.most_gb * 1e9:
                return
            if taken[entry]:
                (entry / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(entry, ignore_errors=True)
                total -= taken[entry]


NOTHING = Finished()
"""Keeps nothing and has nothing."""


# --- what decides a result ----------------------------------------------------------------------


def key(what: str, *parts: Any) -> str:
    """Name a result: its kind, and a digest of all that decides it, as plain JSON values."""
    content = json.dumps([what, *parts], sort_keys=True)
    return f"{what}-{hashlib.sha256(content.encode()).hexdigest()[:40]}"


def versions_of(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python, of segstudy, and of those of the libraries that are installed."""
    return versions.installed(libraries)


# --- files --------------------------------------------------------------------------------------


def _verified(kept: Path) -> list[str]:
    """List the files kept, once each has the checksum it was kept with; InputError for any other."""
    manifest = read_json(kept / MANIFEST)
    checksums = manifest["sha256"] if manifest.get("key") == kept.name else {}
    if not checksums:
        raise InputError(f"{MANIFEST} is that of something else")
    for name, checksum in checksums.items():
        if Path(name).name != name:
            raise InputError(f"{name!r} is not the name of a file in it")
        if _sha256(kept / name) != checksum:
            raise InputError(f"{name} has another checksum than it was kept with")
    return list(checksums)


def _place(kept: Path, names: Iterable[str], folder: Path) -> None:
    for name in names:
        with writing(folder / name) as temporary:
            temporary.unlink()
            # Linked twice, a file would have its time changed in both places.
            if (kept / name).stat().st_nlink == 1:
                _link(kept / name, temporary)
            else:
                shutil.copyfile(kept / name, temporary)
            # Snakemake takes a file that is older than its inputs for outdated.
            os.utime(temporary)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has none, or is another one."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _used(entry: Path) -> int:
    """Return when an entry was last kept or taken; for an incomplete one, when it was begun."""
    for path in (entry / MANIFEST, entry):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime_ns
    return 0


def _taken(entry: Path) -> int:
    """Count the bytes that removing an entry would free: those of files that have no other name."""
    taken = 0
    for path in entry.iterdir() if entry.is_dir() else ():
        with suppress(FileNotFoundError):
            status = path.stat()
            if path.name != MANIFEST and status.st_nlink == 1:
                taken += status.st_size
    return taken
