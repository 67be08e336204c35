"""A service from start to end: folder, queue, predictor, HTTP."""

import contextlib
import importlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from segstudy.errors import InputError
from segstudy.log import log
from segstudy.serve.access import Access
from segstudy.serve.folder import Folder
from segstudy.serve.job_queue import JobQueue
from segstudy.serve.limits import Limits
from segstudy.serve.predictor import Predictor, Worker
from segstudy.serve.problems import fault_words
from segstudy.serve.prometheus import Counts

NEEDED = {"fastapi": "FastAPI", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
"""Module -> what it is called."""


def check_installed() -> None:
    """Raise InputError where something of the extra `serve` is missing."""
    for module, name in NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError:
            raise InputError(
                f"segstudy serve needs {name}, which is not installed: pip install 'segstudy[serve]'"
            ) from None


@contextlib.contextmanager
def running(
    folder: Path, start_worker: Callable[[], Worker], limits: Limits, access: Access
) -> Iterator["Service"]:  # noqa: F821
    """Start what answers requests, with what a stopped service left waiting, and end it with the block.

    Parameters
    ----------
    folder
        Of the service.
    start_worker
        Returns a new process that predicts.
    limits
        What is taken.
    access
        Who may ask.

    Raises
    ------
    InputError
        For a folder that is another's or cannot be used, and for models that cannot be loaded.
    """
    check_installed()
    # By name, since it needs FastAPI.
    service_of = importlib.import_module("segstudy.serve.app").Service
    held = Folder(folder)
    spool = tempfile.tempdir
    try:
        counts = Counts()
        try:
            jobs = JobQueue(held.queue_file())
            waiting, failed = jobs.resume(limits.attempts)
        except sqlite3.Error as error:
            raise InputError(
                f"--folder {folder}: {fault_words(error)} Mend it, or name another folder"
            ) from None
        held.tidy(jobs)  # after it, since what is given up needs its upload no more
        for name in waiting:
            log.info("prediction %s was cut off, and is done again", name)
        for name in failed:
            log.warning(
                "prediction %s was cut off %d times, and is given up", name, limits.attempts
            )
        # Uploads are spooled here, by whoever reads forms, and not where the memory's own files may lie.
        tempfile.tempdir = str(held.incoming)
        predictor = Predictor(start_worker, jobs, held, limits, counts)
        predictor.start()
        try:
            yield service_of(held, jobs, predictor, limits, access, counts)
        finally:
            predictor.stop()
    finally:
        tempfile.tempdir = spool
        held.close()
