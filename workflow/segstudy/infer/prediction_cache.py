"""The cache of finished predictions, until all of a fold are there, and the keys of its files."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from segstudy.errors import GpuMemoryError, InputError
from segstudy.files import writing_folder
from segstudy.images.data_files import content_digest
from segstudy.images.headers import say_warnings
from segstudy.log import log, progress


def cache_folder(output: Path, key: str) -> Path:
    """Return the folder of finished predictions of this key, beside `output`; remove those of other keys."""
    caches = Path(f"{output}.partial")
    for old in caches.iterdir() if caches.exists() else ():
        if old.is_dir() and old.name != key:
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


def predict_missing(
    cases: Mapping[str, Sequence[Path]],
    files: Mapping[str, Path],
    predict: Callable[[str, Sequence[Path]], None],
) -> None:
    """Predict, one after the other, the cases whose label is not in the cache yet.

    Parameters
    ----------
    cases
        Case -> its image files.
    files
        Case -> the file of its label in the cache.
    predict
        Given a case and its image files, writes that file.

    Raises
    ------
    InputError
        At the end, for all cases that failed: one does not stop the others; at once where the GPU's memory is too small.
    """
    errors = []
    for case, images in progress(cases.items(), "predicted"):
        if files[case].exists():
            continue
        try:
            say_warnings(images, case)
            predict(case, images)
        except GpuMemoryError as error:
            raise GpuMemoryError(f"case {case}: {error}", error.shared) from None
        except InputError as error:
            errors.append(str(error))
    if errors:
        if len(cases) > 1:
            errors.append(f"{len(errors)} of {len(cases)} images could not be predicted")
        raise InputError("\n".join(errors))


def hand_over(files: Mapping[str, Path], output: Path) -> None:
    """Copy the labels of all cases from the cache to where they belong: `output/<case>.nii.gz`."""
    with writing_folder(output) as done:
        for case, file in files.items():
            shutil.copyfile(file, done / f"{case}.nii.gz")


def _digest(case: str, paths: Iterable[Path]) -> str:
    """Return a digest of a case's name and the content of its image."""
    digest = hashlib.sha256(case.encode())
    for path in paths:
        digest.update(content_digest(path, f"case {case}").encode())
    return digest.hexdigest()[:24]
