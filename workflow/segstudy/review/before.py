"""What the study had before its first correction: kept, to tell later what corrected training labels do."""

import os
import shutil
from pathlib import Path

from segstudy.cases import read_cases
from segstudy.jobs.results import ResultPaths
from segstudy.study import Study


def keep(study: Study, paths: ResultPaths) -> bool:
    """Keep metrics and predictions of a finished study without corrections; tell whether that was done.

    Predictions are kept by hard link where the file system has such, so that they take no room before the
    next run replaces them. What was kept earlier stays.
    """
    folder = Path(paths.before)
    if folder.exists() or not Path(paths.metrics).is_file():
        return False
    tables = [Path(paths.cases(dataset)) for dataset in study.datasets]
    if not all(table.is_file() for table in tables):
        return False
    if any(case.delivered_label for table in tables for case in read_cases(table)):
        return False
    predictions = sorted(Path(paths.root).glob("infer/*/fold-*/seed-*/*/*.nii.gz"))
    fresh = folder.with_name(f".{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    for file in [Path(paths.metrics), *predictions]:
        link(file, fresh / file.relative_to(paths.root))
    os.replace(fresh, folder)
    return True


def link(file: Path, place: Path) -> None:
    """Link a file to another place, or copy it where that cannot be."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, place)
    except OSError:
        shutil.copy2(file, place)
