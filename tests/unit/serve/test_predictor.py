"""The thread that hands out predictions: queues and disks that fail, models that are gone, processes that are killed."""

import os
import signal
import sqlite3
import time
from functools import partial

import numpy as np
import pytest

from known_network import write_weights
from segstudy.errors import InputError
from segstudy.images.files import write_nifti
from segstudy.serve import predictor
from segstudy.serve.folder import Folder
from segstudy.serve.job_queue import JobQueue
from segstudy.serve.limits import Limits
from segstudy.serve.predictor import Predictor, Worker, worker_settings
from segstudy.serve.prometheus import Counts
from serve_answers import MODEL, Pretended, predict

QUEUE = "The queue of the service cannot be read or written (SQLITE_IOERR)."


def until(is_so):
    for _ in range(60_000):
        if is_so():
            return
        time.sleep(0.01)
    assert is_so()


class Place:
    """A folder and a queue, with predictions put into it by hand."""

    def __init__(self, path):
        self.folder = Folder(path)
        self.jobs = JobQueue(self.folder.queue_file())
        self.counts = Counts()

    def add(self, model="balls", quality=False, checksum=MODEL["checksum"], write=None):
        name, place = self.folder.new()
        if write:
            write(place / "image_0000.nii")
        self.folder.accept(name)
        request = {"files": ["image_0000.nii"], "kinds": ["nifti"], "notes": [],
                   "quality": quality, "checksum": checksum}  # fmt: skip
        assert self.jobs.add(name, model, request, 10)
        return name

    def start(self, start_worker):
        self.predictor = Predictor(start_worker, self.jobs, self.folder, Limits(), self.counts)
        self.predictor.start()
        return self.predictor

    def end_of(self, name):
        until(lambda: self.jobs.find(name).finished is not None)
        return self.jobs.find(name)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "RETRY_S", 0.02)
    place = Place(tmp_path / "served")
    yield place
    if hasattr(place, "predictor"):
        place.predictor.stop()
    place.folder.close()


def failing(monkeypatch, method, error, is_broken):
    """Have a method of the queue fail as long as `is_broken` holds something."""
    real = getattr(JobQueue, method)

    def call(*arguments, **more):
        if is_broken:
            raise error
        return real(*arguments, **more)

    monkeypatch.setattr(JobQueue, method, call)


def io_error():
    error = sqlite3.OperationalError("disk I/O error: /secret/queue of Mustermann")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
    return error


@pytest.mark.parametrize("method", ["take", "remove_older", "finish", "find"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (io_error(), QUEUE),
        (OSError(28, "No space left on device"), "The disk of the service is full."),
    ],
    ids=["queue", "disk"],
)
def test_a_fault_of_the_machine_is_told_and_survived(
    place, monkeypatch, caplog, method, error, told
):
    """Whatever fails, wherever: the thread goes on, and the prediction is done once it can be."""
    broken = ["yes"]
    failing(monkeypatch, method, error, broken)
    thread = place.start(lambda: Pretended(predict))
    name = place.add()
    until(lambda: thread.fault)
    assert thread.fault == told
    assert thread.is_alive()
    broken.clear()
    assert place.end_of(name).state == "done"
    until(lambda: not thread.fault)
    until(lambda: not (place.folder.prediction(name) / "input").exists())
    assert told in caplog.text
    assert "Mustermann" not in caplog.text


def test_what_is_cut_off_again_and_again_is_given_up(place, monkeypatch):
    """A result that can't be written, though all else can: never a prediction that runs for ever."""
    failing(monkeypatch, "finish", io_error(), ["always"])
    place.start(lambda: Pretended(predict))
    job = place.end_of(place.add())
    assert (job.state, job.attempts) == ("failed", 3)
    assert "cut off 3 times" in job.problem


def test_a_fault_in_the_middle_ends_no_prediction(place, monkeypatch):
    """Whether it was removed meanwhile is looked for again and again; where that fails, it goes on."""
    broken = []
    failing(monkeypatch, "find", io_error(), broken)

    def long(request, check):
        broken.append("yes")
        check()
        broken.clear()
        yield from predict(request, check)

    thread = place.start(lambda: Pretended(long))
    job = place.end_of(place.add())
    assert (job.state, job.attempts, thread.fault) == ("done", 1, "")


def test_a_fault_leaves_nothing_running_for_the_next_start(place, monkeypatch):
    broken = ["yes"]
    failing(monkeypatch, "finish", io_error(), broken)
    thread = place.start(lambda: Pretended(predict))
    monkeypatch.setattr(predictor, "RETRY_S", 60)
    name = place.add()
    until(lambda: thread.fault)
    thread.stop()
    assert not thread.is_alive()
    broken.clear()
    assert place.jobs.resume(3)[0] in ([name], [])  # stopped before or after it was let wait
    place.start(lambda: Pretended(predict))
    assert place.end_of(name).state == "done"


def test_models_that_are_gone_or_replaced_are_told(place):
    """After a restart with other bundles; the process lives on for what waits behind."""
    workers = []

    def start_worker():
        workers.append(Pretended(predict))
        return workers[-1]

    names = [place.add("liver"), place.add(checksum="another"), place.add()]
    place.start(start_worker)
    gone, replaced, done = map(place.end_of, names)
    assert gone.problem == (
        "The model liver is no longer served here: send the image again, for one of balls."
    )
    assert replaced.problem.startswith("Another model is now called balls here: send")
    assert done.state == "done"
    assert len(workers) == 1
    until(lambda: not (place.folder.prediction(names[2]) / "input").exists())
    assert not (place.folder.prediction(names[0]) / "input").exists()


def test_a_process_that_cannot_be_started_again_is_told(place):
    workers = [Pretended(predict)]

    def start_worker():
        if not workers:
            raise InputError("/models/balls.pt: damaged")
        return workers.pop()

    thread = place.start(start_worker)
    thread._worker.lives = False
    assert "cannot be loaded" in place.end_of(place.add()).problem
    assert "cannot be loaded" in thread.fault
    workers.append(Pretended(predict))
    assert place.end_of(place.add()).state == "done"
    assert thread.fault == ""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("says", ["no JSON", '{"models": {}}\nno JSON'])
def test_a_process_that_is_not_understood_is_ended(tmp_path, monkeypatch, says):
    """Nobody waits for ever for what it says next."""
    script = tmp_path / "process"
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\nexec sleep 300\n")
    script.chmod(0o755)
    monkeypatch.setattr(predictor.sys, "executable", str(script))
    if says == "no JSON":
        with pytest.raises(InputError, match="did not start"):
            Worker({})
        return
    worker = Worker({})
    with pytest.raises(predictor.StoppedError, match="ended on this image"):
        list(worker.ask({}, lambda: None))
    assert not worker.lives


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_real_prediction(place, tmp_path, capfd):
    """SIGKILL, as the system does where memory runs out: the image tells why, the next one is done by a new process."""
    file = write_weights(
        tmp_path / "balls.pt", patch_size=(16, 16, 16), infer={"overlap": 0.75, "mirror_axes": ()}
    )
    one = {"file": str(file), "plugins": [], "calibration": None, "trained_on_too": False}
    settings = worker_settings({"balls": one}, "cpu")
    thread = place.start(partial(Worker, settings, 1))
    random = np.random.default_rng(0)

    def image(size, path):
        values = random.uniform(0, 1000, (size,) * 3).astype(np.float32)
        write_nifti(path, values, np.diag([1.5, 1.5, 1.5, 1.0]))

    checksum = thread.models["balls"]["checksum"]
    long = place.add(checksum=checksum, write=partial(image, 64))
    short = place.add(checksum=checksum, write=partial(image, 20))
    thread.wake()
    until(lambda: thread.progress(long)[1])
    first = thread._worker._process.pid
    os.kill(first, signal.SIGKILL)
    killed, done = place.end_of(long), place.end_of(short)
    assert killed.problem == (
        "The process that predicts ended on this image (signal SIGKILL); the image is not tried again."
    )
    assert done.state == "done", done.problem
    assert sum(one["n_voxels"] for one in done.result["structures"]) > 1000
    assert thread._worker._process.pid != first
    until(lambda: not (place.folder.prediction(long) / "input").exists())
    assert thread.fault == ""
    assert "Traceback" not in capfd.readouterr().err
