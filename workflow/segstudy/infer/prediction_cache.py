"""The cache of finished predictions, until all of a fold are there, and the keys of its files."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from segstudy.images.data_files import content_digest
from segstudy.log import log


def cache_folder(output: Path, key: str) -> Path:
    """Return the folder of finished predictions of this key, beside `output`; remove those of other keys."""
    caches = Path(f"{output}.partial")
    for old in caches.iterdir() if caches.exists() else ():
        if old.name != key:
            shutil.rmtree(old)
    return caches / key


def cached_files(folder: Path, cases: dict[str, Iterable[Path]]) -> dict[str, Path]:
    """Return the file of each case's label in the cache, by case and content of its images.

    The number of labels that are there already is logged.
    """
    files = {case: folder / f"{_digest(case, paths)}.nii.gz" for case, paths in cases.items()}
    there = sum(file.exists() for file in files.values())
    if there:
        log.info("%d of %d cases are there already", there, len(cases))
    return files


def _digest(case: str, paths: Iterable[Path]) -> str:
    """Return a digest of a case's name and the content of its image."""
    digest = hashlib.sha256(case.encode())
    for path in paths:
        digest.update(content_digest(path, f"case {case}").encode())
    return digest.hexdigest()[:24]
