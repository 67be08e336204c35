"""Where finished predictions wait until all are there, and what names them."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from segstudy.images.data_files import content_digest
from segstudy.log import log


def cache_folder(output: Path, key: str) -> Path:
    """Return the folder of unfinished work of this key, beside `output`; that of other keys is removed."""
    caches = Path(f"{output}.partial")
    for old in caches.iterdir() if caches.exists() else ():
        if old.name != key:
            shutil.rmtree(old)
    return caches / key


def cached_files(folder: Path, cases: dict[str, Iterable[Path]]) -> dict[str, Path]:
    """Return where the label of each case waits, by the case and the content of its images; says how many do."""
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
