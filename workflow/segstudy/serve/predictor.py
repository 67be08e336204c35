"""The process that predicts, and the thread that hands it one prediction after the other.

Networks, readers of images and their memory live in a process of their own: one that crashes on an image, grows beyond its
limit or takes too long is ended, the prediction fails with the reason, and the next has a new process.
"""

import json
import math
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from segstudy.errors import InputError
from segstudy.files import parse_json
from segstudy.log import log
from segstudy.serve.folder import Folder
from segstudy.serve.job_queue import Job, JobQueue
from segstudy.serve.limits import Limits
from segstudy.serve.problems import fault_words
from segstudy.serve.prometheus import Counts

LOOK_S = 0.1
"""Time between two looks at the process."""
RETRY_S = 5.0
"""Time until a queue or a disk that failed is tried again."""
SWEEP_S = 30.0
"""Time between two looks for what was kept for its time."""


class StoppedError(Exception):
    """Tell that a prediction was ended; its words say why, empty where nobody asks any more."""


class Worker:
    """Hold a process of `segstudy.infer.worker`."""

    def __init__(self, settings: Mapping[str, Any], threads: int | None = None) -> None:
        """Start the process, and wait until its models are loaded; InputError where they cannot be."""
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
        if threads:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
            environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "segstudy.infer.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C is the service's, which ends this process itself
        )
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        first = self._events.get()
        if first is None:
            raise InputError(f"the process that predicts did not start ({self.end()})")
        if "refused" in first:
            self.end()
            raise InputError(first["refused"])
        self.models: dict[str, dict[str, Any]] = first["models"]

    def _listen(self) -> None:
        try:
            for line in self._process.stdout:
                self._events.put(parse_json(line, "the process that predicts"))
        except (
            InputError,
            ValueError,
            OSError,
        ) as error:  # no line of ours, or the pipe was closed
            log.error("the process that predicts is not understood: %s", type(error).__name__)
        finally:
            self._events.put(None)

    def ask(
        self, request: Mapping[str, Any], check: Callable[[], None]
    ) -> Iterator[dict[str, Any]]:
        """Send a request, and yield its events; `check` is called again and again, and may raise.

        Raises
        ------
        StoppedError
            Where the process ends before its result.
        """
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        while True:
            check()
            try:
                event = self._events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if event is None:
                raise StoppedError(
                    f"The process that predicts ended on this image ({self.end()}); the image is not tried again."
                )
            yield event
            if "result" in event or "problem" in event:
                return

    @property
    def memory_bytes(self) -> int:
        """Return the resident memory of the process; 0 once it has ended."""
        try:
            return psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return 0

    @property
    def lives(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def end(self) -> str:
        """End the process, and return how it ended, in words."""
        if self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


class Predictor(threading.Thread):
    """Predict what waits in the queue, until `stop` is called.

    Parameters
    ----------
    start_worker
        Returns a new `Worker`.
    jobs
        The queue, in which nothing runs but what this thread took.
    folder
        Of the predictions.
    limits
        Of time and memory.
    counts
        Are told of what was done.
    """

    def __init__(
        self,
        start_worker: Callable[[], Worker],
        jobs: JobQueue,
        folder: Folder,
        limits: Limits,
        counts: Counts,
    ) -> None:
        """Start the first process; InputError where a model cannot be loaded."""
        super().__init__(name="predictor", daemon=True)
        self._start_worker, self._jobs, self._folder = start_worker, jobs, folder
        self._limits, self._counts = limits, counts
        self._worker: Worker | None = start_worker()
        self.models = self._worker.models
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._progress: tuple[str, str, float | None] = ("", "", None)
        self._fault = self._unloaded = self._taken = ""
        self._swept = -math.inf

    def progress(self, name: str) -> tuple[str, float | None]:
        """Return the step of a running prediction, and the share that is done where that is known."""
        about, step, fraction = self._progress
        return (step, fraction) if about == name else ("starting", None)

    @property
    def memory_bytes(self) -> int:
        """Return the memory of the process that predicts."""
        worker = self._worker
        return worker.memory_bytes if worker else 0

    @property
    def fault(self) -> str:
        """Return why nothing is predicted at present; empty where nothing is amiss."""
        return self._fault or self._unloaded

    def wake(self) -> None:
        """Look at the queue at once."""
        self._wake.set()

    def stop(self) -> None:
        """End the process; what it was predicting waits again, for the next start of the service."""
        self._stopping.set()
        self._wake.set()
        if self.is_alive():
            self.join(20)
        if self._worker:
            self._worker.end()

    def run(self) -> None:
        """Take predictions until `stop`; where queue or disk fail, say so, and go on once they work again."""
        while not self._stopping.is_set():
            try:
                if self._fault:
                    self._recover()
                self._turn()
            except Exception as error:  # of the machine, not of an image
                words = fault_words(error)
                if words != self._fault:
                    log.error("%s It is tried again every %g s.", words, RETRY_S)
                self._fault = words
                self._stopping.wait(RETRY_S)

    def _recover(self) -> None:
        """Let what a fault cut off wait again; an error where the fault is still there."""
        self._jobs.resume(self._limits.attempts)
        if self._taken:
            self._folder.clear(self._taken, self._jobs)
        self._fault = ""
        log.info("queue and disk work again")

    def _turn(self) -> None:
        """Predict what waits first, or wait for it."""
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()
            self.sweep()
        job = self._jobs.take()
        if job is None:
            self._wake.wait(1)
            self._wake.clear()
            return
        self._taken = job.id
        self._predict(job)
        self._taken = ""

    def sweep(self) -> None:
        """Remove what was finished longer ago than it is kept."""
        for name in self._jobs.remove_older(self._limits.keep_seconds):
            self._folder.remove(name)
            log.info("prediction %s removed: kept for its time", name)

    def _predict(self, job: Job) -> None:
        """Predict, and note how it ended; an error where the machine fails: the prediction then stays as running."""
        began = time.monotonic()
        self._progress = (job.id, "starting", None)
        try:
            event = self._outcome(job, began)
        except (sqlite3.Error, OSError):
            self._end_worker()
            raise
        except StoppedError as why:
            self._end_worker()
            event = {"problem": str(why)}
        except Exception as error:  # the thread goes on with the next
            log.error("prediction %s: %s", job.id, type(error).__name__)
            self._end_worker()
            event = {"problem": "The service failed on this image, which its log tells of."}
        if "result" in event:
            seconds = time.monotonic() - began
            self._jobs.finish(job.id, event["result"])
            self._counts.predicted(job.model, "done", seconds)
            log.info("prediction %s done in %.1f s", job.id, seconds)
        elif self._stopping.is_set() and self._worker is None:
            self._jobs.put_back(job.id)
        elif event["problem"]:  # else nobody asks any more
            self._jobs.fail(job.id, event["problem"])
            self._counts.predicted(job.model, "failed", None)
            log.info("prediction %s failed", job.id)
        self._folder.clear(job.id, self._jobs)
        if self.memory_bytes > self._limits.memory_bytes / 2:  # what libraries keep
            self._end_worker()

    def _outcome(self, job: Job, began: float) -> dict[str, Any]:
        """Return the last event of a prediction, its result or problem."""
        if self._worker is None or not self._worker.lives:
            self._end_worker()
            self._counts.restarted()
            try:
                self._worker = self._start_worker()
            except InputError as error:
                log.error("the process that predicts cannot be started: %s", error)
                self._unloaded = "The model cannot be loaded, which the service's log tells of."
                raise StoppedError(self._unloaded) from None
            self._unloaded = ""
            self.models = self._worker.models
        if unfit := self._no_longer_served(job):
            return {"problem": unfit}
        place = self._folder.prediction(job.id)
        request = {
            "id": job.id,
            "model": job.model,
            "images": [str(place / "input" / name) for name in job.request["files"]],
            "output": str(place / "output"),
            "quality": job.request["quality"],
            "dicom": job.request["kinds"][0] == "dicom",
        }
        worker, looked = self._worker, 0.0

        def check() -> None:
            nonlocal looked
            if self._stopping.is_set():
                raise StoppedError("The service stops.")
            if time.monotonic() - began > self._limits.seconds:
                raise StoppedError(
                    f"The prediction took longer than {self._limits.seconds:g} s, for which one may run here."
                )
            if worker.memory_bytes > self._limits.memory_bytes:
                raise StoppedError(
                    "The prediction needs more memory than the "
                    f"{self._limits.memory_bytes / 2**30:.3g} GiB that one may take here; send a smaller part of the image."
                )
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                with suppress(sqlite3.Error):  # which ends no prediction that goes well
                    if self._jobs.find(job.id) is None:
                        raise StoppedError("")

        event: dict[str, Any] = {}
        for event in worker.ask(request, check):
            if "step" in event:
                self._progress = (job.id, event["step"], event.get("fraction"))
        return event

    def _no_longer_served(self, job: Job) -> str:
        """Say why a prediction that waited is not made: its model is gone, or another one has its name; empty where it is there."""
        names = ", ".join(self.models)
        if job.model not in self.models:
            return f"The model {job.model} is no longer served here: send the image again, for one of {names}."
        if job.request.get("checksum") != self.models[job.model]["checksum"]:
            return f"Another model is now called {job.model} here: send the image again, if it is the one that you want."
        return ""

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


def worker_settings(models: Mapping[str, Mapping[str, Any]], device: str) -> dict[str, Any]:
    """Return the settings of a process that predicts. models: name -> arguments of `infer.worker.load`."""
    return {"models": {name: dict(one) for name, one in models.items()}, "device": device}


def model_name(file: Path) -> str:
    """Return what a model is called, by its file: `liver.bundle` is `liver`."""
    name = file.name.partition(".")[0]
    return "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "-" for one in name)
