"""The queue: order, states, what a restart leaves, and what is removed."""

import errno
import threading
from pathlib import Path

import pytest

from segstudy.errors import InputError
from segstudy.serve.access import Access
from segstudy.serve.folder import Folder
from segstudy.serve.job_queue import JobQueue
from segstudy.serve.limits import Limits
from segstudy.serve.run import running


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def jobs(tmp_path, clock):
    return JobQueue(tmp_path / "queue.sqlite", clock)


def test_first_in_first_out(jobs):
    for name in "abc":
        assert jobs.add(name, "m", {"files": [name]}, 10)
    assert [jobs.find(name).before for name in "abc"] == [0, 1, 2]
    taken = jobs.take()
    assert (taken.id, taken.state, taken.request, taken.attempts) == (
        "a",
        "running",
        {"files": ["a"]},
        1,
    )
    assert jobs.find("b").before == 1
    assert jobs.find("a").before is None  # it runs
    jobs.finish("a", {"structures": []})
    assert jobs.find("a").result == {"structures": []}
    assert jobs.find("b").before == 0
    assert jobs.take().id == "b"
    jobs.fail("b", "why")
    assert (jobs.find("b").state, jobs.find("b").problem) == ("failed", "why")
    assert jobs.take().id == "c"
    assert jobs.take() is None
    assert jobs.counts() == {"waiting": 0, "running": 1, "done": 1, "failed": 1}


def test_no_more_than_so_many_wait(jobs):
    assert jobs.add("a", "m", {}, 2)
    assert jobs.add("b", "m", {}, 2)
    assert not jobs.add("c", "m", {}, 2)
    jobs.take()
    assert not jobs.add("c", "m", {}, 2)
    jobs.finish("a", {})
    assert jobs.add("c", "m", {}, 2)


def test_a_restart_loses_nothing(jobs, tmp_path, clock):
    for name in "abc":
        jobs.add(name, "m", {}, 10)
    jobs.take()
    again = JobQueue(tmp_path / "queue.sqlite", clock)
    assert again.resume(3) == (["a"], [])
    assert again.take().id == "a"  # at its old place
    again.resume(3)
    assert again.take().attempts == 3
    assert again.resume(3) == ([], ["a"])
    assert "3 times" in again.find("a").problem
    assert again.take().id == "b"
    again.put_back("b")
    assert again.take().attempts == 1


def test_time_to_live_counts_from_the_end(jobs, clock):
    for name in "abc":
        jobs.add(name, "m", {}, 10)
    clock.now += 10_000
    jobs.take()
    jobs.finish("a", {})
    clock.now += 50
    jobs.take()
    jobs.fail("b", "why")
    clock.now += 49
    assert jobs.remove_older(100) == []
    clock.now += 1
    assert jobs.remove_older(100) == ["a"]
    clock.now += 50
    assert jobs.remove_older(100) == ["b"]
    assert jobs.names() == ["c"]  # what waits is kept, however long


def test_what_was_removed_does_not_come_back(jobs):
    jobs.add("a", "m", {}, 10)
    jobs.take()
    assert jobs.remove("a") == "running"
    jobs.finish("a", {})
    assert jobs.find("a") is None
    assert jobs.remove("a") is None


def test_a_removal_tells_the_state_that_it_found(jobs):
    for name in "abc":
        jobs.add(name, "m", {}, 10)
        jobs.take()
    jobs.finish("a", {})
    jobs.fail("b", "why")
    jobs.add("d", "m", {}, 10)
    assert [jobs.remove(name) for name in "abcd"] == ["done", "failed", "running", "waiting"]


def test_two_take_no_one_twice(jobs):
    for number in range(40):
        jobs.add(f"{number:02d}", "m", {}, 100)
    taken = []

    def work():
        while job := jobs.take():
            taken.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(taken) == [f"{number:02d}" for number in range(40)]


def test_a_folder_is_of_one_service(tmp_path):
    folder = Folder(tmp_path / "served")
    with pytest.raises(InputError, match="another service"):
        Folder(tmp_path / "served")
    JobQueue(folder.queue_file())
    folder.close()
    Folder(tmp_path / "served").close()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="not of a service"):
        Folder(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "dear"


def test_a_folder_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("dear")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InputError, match="name another folder|give another place"):
            Folder(path)

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "chmod", read_only)
    with pytest.raises(InputError, match=r"cannot be read and written \(Read-only file system\)"):
        Folder(tmp_path / "served")


def test_a_queue_that_is_none_is_told_at_the_start(tmp_path):
    for needed in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(needed, reason="needs the extra serve")
    folder = Folder(tmp_path / "served")
    folder.queue_file().write_bytes(b"no table of predictions" * 50)
    folder.close()
    started = running(folder.path, lambda: None, Limits(), Access())
    with pytest.raises(InputError, match=r"queue .* cannot be read or written .*another folder"):
        started.__enter__()


def test_a_restart_tidies(tmp_path):
    folder = Folder(tmp_path / "served")
    jobs = JobQueue(folder.queue_file())
    for accepted in (True, True, False):
        name, place = folder.new()
        (place / "image.nii").write_bytes(b"x")
        if accepted:
            folder.accept(name)
            jobs.add(name, "m", {}, 10)
    lost, _ = folder.new()
    folder.accept(lost)  # killed before it stood in the queue
    first = jobs.take()
    jobs.finish(first.id, {})
    folder.tidy(jobs)
    assert list(folder.incoming.iterdir()) == []
    kept = {path.name for path in (folder.path / "predictions").iterdir()}
    assert kept == set(jobs.names())
    # The upload of what is finished goes, that of what waits stays.
    assert not (folder.prediction(first.id) / "input").exists()
    assert (folder.prediction(jobs.take().id) / "input" / "image.nii").read_bytes() == b"x"
