"""Logging of a job: steps, progress and duration."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

log = logging.getLogger("segstudy")

Item = TypeVar("Item")


def start() -> None:
    """Send log lines to standard error, with the time of day; warnings are marked as such."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Format(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.WARNING:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)


def duration(seconds: float) -> str:
    """Write seconds as people read them: `48 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def progress(items: Iterable[Item], what: str, every_s: float = 5.0) -> Iterator[Item]:
    """Yield the items, and log how many are done and how long the rest will take.

    One line at most every `every_s` seconds, and one at the end: lines stay readable in a job's
    log file, where a bar that redraws itself would not.

    Parameters
    ----------
    items
        Anything to iterate over.
    what
        Begins each line.
    every_s
        Least seconds between two lines.
    """
    total = len(items) if isinstance(items, Sized) else None
    began = said = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - said >= every_s and done != total:
            said = now
            rest = (
                f", about {duration((now - began) / done * (total - done))} left" if total else ""
            )
            log.info("%s: %d%s%s", what, done, f" of {total}" if total else "", rest)
    log.info("%s: %d done in %s", what, done, duration(time.monotonic() - began))
