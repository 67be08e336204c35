"""The queue of predictions: a table in SQLite, so that a restart loses nothing.

A connection is opened for each question, which takes a tenth of a millisecond and lets any thread ask. What is told to a
client is on the disk before the answer goes out (`synchronous=FULL`).
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from segstudy.files import parse_json

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
STATES = (WAITING, RUNNING, DONE, FAILED)
_TABLE = """
CREATE TABLE IF NOT EXISTS predictions (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  state TEXT NOT NULL,
  model TEXT NOT NULL,
  request TEXT NOT NULL,
  created REAL NOT NULL,
  started REAL,
  finished REAL,
  attempts INTEGER NOT NULL DEFAULT 0,
  result TEXT,
  problem TEXT
)
"""
_COLUMNS = "id, state, model, request, created, started, finished, attempts, result, problem"
_BEFORE = """
CASE WHEN state = ? THEN
  (SELECT count(*) FROM predictions AS other WHERE other.state IN (?, ?) AND other.place < predictions.place)
END
"""


@dataclass(frozen=True)
class Job:
    """Hold a prediction that was asked for.

    Parameters
    ----------
    id
        32 hexadecimal digits, which nobody can guess.
    state
        One of `STATES`.
    model
        Name of the model.
    request
        What was asked for: files, kinds, notes, whether quality is judged.
    created, started, finished
        Seconds since 1970; None where it is not so far.
    attempts
        How often it was begun.
    result
        Volumes, quality and files, once it is done.
    problem
        A sentence, where it failed.
    before
        How many are predicted first, where it waits and was looked up by `JobQueue.find`.
    """

    id: str
    state: str
    model: str
    request: Mapping[str, Any]
    created: float
    started: float | None
    finished: float | None
    attempts: int
    result: Mapping[str, Any] | None
    problem: str | None
    before: int | None = None


class JobQueue:
    """Keep predictions in order, each in one state; several threads may ask at a time."""

    def __init__(self, file: Path, clock: Callable[[], float] = time) -> None:
        """Open the queue of a file, or begin one; clock: seconds since 1970."""
        self._file = file
        self._clock = clock
        with self._connected() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_TABLE)

    def add(self, name: str, model: str, request: Mapping[str, Any], most: int) -> bool:
        """Add a prediction at the end; return False where `most` are waiting or running already."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            states = (WAITING, RUNNING)
            (number,) = connection.execute(
                "SELECT count(*) FROM predictions WHERE state IN (?, ?)", states
            ).fetchone()
            if number >= most:
                return False
            connection.execute(
                "INSERT INTO predictions (id, place, state, model, request, created) VALUES (?, "
                "(SELECT coalesce(max(place), 0) + 1 FROM predictions), ?, ?, ?, ?)",
                (name, WAITING, model, json.dumps(request), self._clock()),
            )
        return True

    def take(self) -> Job | None:
        """Return the first that waits, which is running then; None where none waits."""
        with self._connected() as connection:
            row = connection.execute(
                "UPDATE predictions SET state = ?, started = ?, attempts = attempts + 1 WHERE id = (SELECT id FROM "
                f"predictions WHERE state = ? ORDER BY place LIMIT 1) RETURNING {_COLUMNS}",
                (RUNNING, self._clock(), WAITING),
            ).fetchone()
        return _job(row) if row else None

    def finish(self, name: str, result: Mapping[str, Any]) -> None:
        """Note that a running prediction is done."""
        self._end(name, DONE, json.dumps(result), None)

    def fail(self, name: str, problem: str) -> None:
        """Note that a running prediction failed, and why."""
        self._end(name, FAILED, None, problem)

    def _end(self, name: str, state: str, result: str | None, problem: str | None) -> None:
        with self._connected() as connection:
            connection.execute(
                "UPDATE predictions SET state = ?, finished = ?, result = ?, problem = ? WHERE id = ? AND state = ?",
                (state, self._clock(), result, problem, name, RUNNING),
            )

    def put_back(self, name: str) -> None:
        """Let a running prediction wait again at its old place, as if it had not been begun."""
        with self._connected() as connection:
            connection.execute(
                "UPDATE predictions SET state = ?, started = NULL, attempts = attempts - 1 WHERE id = ? AND state = ?",
                (WAITING, name, RUNNING),
            )

    def resume(self, most_attempts: int) -> tuple[list[str], list[str]]:
        """Let what was cut off while it ran wait again, at its old place.

        Returns
        -------
        waiting : list of str
            Those that are predicted anew.
        failed : list of str
            Those that were begun `most_attempts` times: they may be what cuts predictions off.
        """
        with self._connected() as connection:
            failed = connection.execute(
                "UPDATE predictions SET state = ?, finished = ?, problem = ? WHERE state = ? AND attempts >= ? RETURNING id",
                (
                    *(FAILED, self._clock()),
                    f"The service was cut off {most_attempts} times while it predicted this image, which is not tried again.",
                    *(RUNNING, most_attempts),
                ),
            ).fetchall()
            waiting = connection.execute(
                "UPDATE predictions SET state = ?, started = NULL WHERE state = ? RETURNING id",
                (WAITING, RUNNING),
            ).fetchall()
        return [name for (name,) in waiting], [name for (name,) in failed]

    def find(self, name: str) -> Job | None:
        """Return a prediction; None where there is none of this name."""
        with self._connected() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS}, {_BEFORE} FROM predictions WHERE id = ?",
                (WAITING, WAITING, RUNNING, name),
            ).fetchone()
        return _job(row) if row else None

    def remove(self, name: str) -> str | None:
        """Remove a prediction, and return the state that it was removed in; None where there was none."""
        with self._connected() as connection:
            row = connection.execute(
                "DELETE FROM predictions WHERE id = ? RETURNING state", (name,)
            ).fetchone()
        return row[0] if row else None

    def remove_older(self, seconds: float) -> list[str]:
        """Remove what was finished that long ago, and return the names."""
        with self._connected() as connection:
            rows = connection.execute(
                "DELETE FROM predictions WHERE finished IS NOT NULL AND finished <= ? RETURNING id",
                (self._clock() - seconds,),
            ).fetchall()
        return [name for (name,) in rows]

    def names(self) -> list[str]:
        """List all predictions."""
        with self._connected() as connection:
            return [name for (name,) in connection.execute("SELECT id FROM predictions")]

    def counts(self) -> dict[str, int]:
        """Count the predictions in each state."""
        with self._connected() as connection:
            found: Sequence[tuple[str, int]] = connection.execute(
                "SELECT state, count(*) FROM predictions GROUP BY state"
            ).fetchall()
        return dict.fromkeys(STATES, 0) | dict(found)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Connect, and commit where the block ends well."""
        connection = sqlite3.connect(self._file, timeout=30)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            with connection:
                yield connection
        finally:
            connection.close()


def _job(row: Sequence[Any]) -> Job:
    name, state, model, request, created, started, finished, attempts, result, problem, *before = (
        row
    )
    return Job(
        name,
        state,
        model,
        parse_json(request, "the queue"),
        *(created, started, finished, attempts),
        parse_json(result, "the queue") if result else None,
        problem,
        *before,
    )
