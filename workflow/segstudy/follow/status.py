"""How far a run is, from files alone: the record of its jobs, their logs, the histories of its trainings."""

import os
import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segstudy.follow.history import history
from segstudy.follow.record import BEAT_S, name_of, read_events, stage_of
from segstudy.follow.sentences import DONE, reason_in
from segstudy.follow.times import SIZES, Times, about, epochs_of, read_history
from segstudy.jobs.targets import STAGES

SILENT_S = 6 * BEAT_S
"""A run that has not said for so long that it is alive is over."""
WRITING_S = 300
"""A job whose log was written so lately, after its run had ended, is at work: a cluster keeps jobs."""
TARGETS = ("default", "all", *(stage for stage in STAGES if stage != "statistics"))
"""Rules that run nothing; `statistics` is a job."""
WHOLE = {"all", "default"}
GOING, ENDED, STOPPED, DEAD = "going", "ended", "stopped", "dead"


@dataclass(frozen=True)
class Failed:
    """A job that failed, why, and its log."""

    name: str
    why: str
    log: str


@dataclass(frozen=True)
class Running:
    """A job that was started and has not ended.

    Attributes
    ----------
    epoch, epochs
        Of a training; 0 where it has not ended an epoch.
    dice
        Mean held-out Dice, as last measured.
    waits
        Whether it has written nothing yet: a cluster has not begun it.
    works
        Whether it is at work; of a run that is over, whether it has written of late.
    """

    name: str
    since_s: float
    epoch: int = 0
    epochs: int = 0
    dice: float | None = None
    waits: bool = False
    works: bool = True


@dataclass(frozen=True)
class Status:
    """How far the last run of a study is.

    Attributes
    ----------
    state
        `going`, `ended` (all is made), `stopped` (it ended before that), `dead` (it said nothing more).
    done, total
        Jobs of this run; `total` grows when the audit tells of more.
    left_s
        Seconds that the rest takes, as this run goes; None where nothing tells.
    asked
        Stages that the run was asked for, none where it was asked for files; None: for all of the study.
    late
        Jobs of `done` that ended with their run, or after it was over.
    """

    study: str
    state: str
    done: int
    total: int
    failed: tuple[Failed, ...]
    running: tuple[Running, ...]
    left_s: float | None
    began: float
    last: float
    command: str
    asked: tuple[str, ...] | None = None
    late: int = 0


def status(study: str, root: Path | str, record: Path | str, now: float) -> Status | None:
    """Return how far a study is; None where nothing has run.

    root: the folder of its results. record: as `ResultPaths.jobs`. now: seconds since 1970.
    """
    events = read_events(record)
    start = max((n for n, event in enumerate(events) if event["event"] == "run"), default=None)
    if start is None:
        return None
    run = events[start]
    own = [event for event in events[start + 1 :] if event.get("by") == run.get("by")]
    started: dict[int, dict] = {}
    states: dict[int, str] = {}
    asked: Counter = Counter()
    done = total = 0
    for event in own:
        what = event["event"]
        if what == "start":
            started[event["id"]] = {**event, "name": name_of(event)}
            states[event["id"]] = "running"
        elif what in ("end", "fail") and event["id"] in started:
            states[event["id"]] = {"end": "ended", "fail": "failed"}[what]
        elif what == "progress":
            done, total = event["done"], event["total"]
        elif what == "plan":
            asked.update(key for key in event["jobs"] if key in TARGETS)
            total = total or event["jobs"].get("total") or sum(event["jobs"].values())
    # Time of the record: the run sets it as long as it lives, on whatever machine.
    last = os.stat(record).st_mtime
    over = any(event["event"] == "ended" for event in own)
    alive = not over and now - last < SILENT_S and not _is_gone(run)
    # A stage's target falls away where the audit, which it ends with, has told of nothing more.
    only_targets = over and set(states.values()) <= {"ended"} and total - done <= asked.total()
    complete = 0 < total <= done or (total > 0 and only_targets)
    # A run that was killed leaves its jobs at work, and nobody to write down that they ended, or takes what ends with it for failed.
    late = (
        []
        if alive
        else [
            n
            for n, job in started.items()
            if states[n] in ("running", "failed") and _is_made(Path(root), job)
        ]
    )
    states |= dict.fromkeys(late, "ended")
    done += len(late)
    state = GOING if alive else ENDED if complete else STOPPED if over else DEAD
    folder = Path(root)
    failed = tuple(
        _failed(folder, started[key]) for key, state_ in states.items() if state_ == "failed"
    )
    unfinished = [started[key] for key, state_ in states.items() if state_ == "running"]
    running = tuple(
        _running(folder, job, now, works=alive or _outlives(folder, job, last, now))
        for job in unfinished
    )
    return Status(
        study,
        state,
        done,
        total,
        failed,
        running,
        _left_s(events, own, started, states, folder, now) if alive else None,
        run["time"],
        last,
        run["command"],
        None if WHOLE & asked.keys() else tuple(sorted(asked, key=TARGETS.index)),
        len(late),
    )


def _is_gone(run: Mapping) -> bool:
    """Return whether the process of a run is known to be over: only its own machine can tell."""
    if run["host"] != platform.node():
        return False
    try:
        os.kill(run["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with suppress(OSError):
        if Path(f"/proc/{run['process']}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        # A number that another process has got since belongs to a process that began later.
        return os.stat(f"/proc/{run['process']}").st_ctime > run["time"] + 5
    return False


def _failed(folder: Path, job: Mapping) -> Failed:
    log = folder / job["log"][0] if job["log"] else folder
    return Failed(job["name"], reason_in(log), str(log))


def _running(folder: Path, job: Mapping, now: float, *, works: bool) -> Running:
    since_s = now - job["time"]
    waits = works and not any((folder / log).exists() for log in job["log"])
    if stage_of(job) != "train":
        return Running(job["name"], since_s, waits=waits, works=works)
    rows = _history(folder, job)
    dice = [row["validation_dice_mean"] for row in rows if row.get("validation_dice_mean")]
    last = float(dice[-1]) if dice else None
    return Running(job["name"], since_s, len(rows), epochs_of(job), last, waits, works)


def _history(folder: Path, job: Mapping) -> list[dict[str, str]]:
    """Return the history of a training: it lies with its checkpoint, and beside its weights once it has ended."""
    training = folder / Path(job["output"][0]).parent
    return read_history(training / "checkpoint" / "history.csv") or read_history(
        training / "history.csv"
    )


def _is_made(folder: Path, job: Mapping) -> bool:
    """Return whether a job has left all that it makes, and its log says that it is done."""
    if not job["log"] or not all((folder / path).exists() for path in job["output"]):
        return False
    with suppress(OSError):
        lines = (folder / job["log"][0]).read_text(errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        return bool(said) and DONE.match(said[-1]) is not None
    return False


def _outlives(folder: Path, job: Mapping, last: float, now: float) -> bool:
    """Return whether a job is at work after its run, as on a cluster: it has written since, and of late."""
    for path in job["log"]:
        with suppress(OSError):
            written = os.stat(folder / path).st_mtime
            if written > last + 2 * BEAT_S and now - written < WRITING_S:
                return True
    return False


def _left_s(
    events: Sequence[Mapping],
    own: Sequence[Mapping],
    started: Mapping[int, Mapping],
    states: Mapping[int, str],
    folder: Path,
    now: float,
) -> float | None:
    """Return the seconds that are left, if as many jobs run at a time as did until now.

    Jobs that have not begun take as long as those of their rule, of this run or one before; None where
    there were none of a rule.
    """
    past = history(events)
    times = Times(past, folder)
    counts: Counter = Counter()
    for event in own:
        if event["event"] == "plan":
            counts = Counter({k: v for k, v in event["jobs"].items() if k != "total"})
    by_rule: dict[str, list[float]] = {}
    for job in past.ended:
        if job["seconds"] is not None and not job["restored"]:
            by_rule.setdefault(job["rule"], []).append(job["seconds"])
    left: list[float] = []
    for key, job in started.items():
        counts[job["rule"]] -= 1
        if states[key] == "running":
            seconds = _job_left_s(folder, job, times, now)
            if seconds is None:
                return None
            left.append(seconds)
            by_rule.setdefault(job["rule"], []).append(seconds + now - job["time"])
    for rule, count in (+counts).items():
        if rule in TARGETS:
            continue
        if rule not in by_rule:
            return None
        left += [statistics.median(by_rule[rule])] * count
    if not left:
        return None
    busy_s = sum(job["seconds"] or 0 for job in past.ended if job["time"] >= own[0]["time"])
    busy_s += sum(now - started[key]["time"] for key, state in states.items() if state == "running")
    at_a_time = max(1.0, busy_s / max(1.0, now - own[0]["time"]))
    return max(
        max(left[: list(states.values()).count("running")], default=0), sum(left) / at_a_time
    )


def _job_left_s(folder: Path, job: Mapping, times: Times, now: float) -> float | None:
    """Return the seconds that a job has left; None where neither its epochs nor a job like it tell."""
    rows = _history(folder, job) if stage_of(job) == "train" else []
    if rows:
        each_s = statistics.mean(float(row.get("seconds") or 0) for row in rows)
        return each_s * max(0, epochs_of(job) - len(rows))
    estimate, since_s = times.of({**job, "name": name_of(job)}, 0), now - job["time"]
    # A job that takes longer than the one before has a tenth of its time left, for want of better.
    return None if estimate.told_by == SIZES else max(0.1 * since_s, estimate.seconds - since_s)


# --- in words -----------------------------------------------------------------------------------

MOST_SHOWN = 8


def text(found: Status, now: float) -> str:
    """Return a status in words."""
    parts = [f"{found.done} of {found.total} jobs"]
    if found.failed:
        parts.append(f"{len(found.failed)} failed")
    working = [job for job in found.running if job.works and not job.waits]
    waiting = [job for job in found.running if job.waits]
    if working:
        parts.append(f"{len(working)} running")
    if waiting:
        parts.append(f"{len(waiting)} waiting to begin")
    if found.left_s is not None:
        parts.append(f"about {about(found.left_s)} left")
    ago = about(max(1, now - found.last))
    words = {
        ENDED: f"all {_asked(found)}is done, {ago} ago",
        STOPPED: f"the run has ended, {ago} ago, before all was done",
        DEAD: f"the run is dead: its process gave no sign of life for {ago} (killed, or its machine was)",
    }
    lines = [f"{found.study}: {', '.join(parts)}"]
    if found.state in words:
        lines.append(f"  {words[found.state]}")
    if found.late:
        lines.append(f"  done, which the run took no note of: {found.late}")
    lines += _some(
        [f"  failed   {job.name}: {job.why}\n           see {job.log}" for job in found.failed]
    )
    lines += _some([_shown(job, found.state, about(max(1, job.since_s))) for job in found.running])
    if found.state in (STOPPED, DEAD):
        lines.append(f"  go on with: {found.command}")
    return "\n".join(lines) + "\n"


def _asked(found: Status) -> str:
    if found.asked is None:
        return ""
    return "that was asked for " + (f"({', '.join(found.asked)}) " if found.asked else "")


def _shown(job: Running, state: str, since: str) -> str:
    word = "waiting" if job.waits else "running" if job.works else "cut off"
    epoch = f", epoch {job.epoch} of {job.epochs}" if job.epochs else ""
    dice = f", Dice {job.dice:.2f}" if job.dice is not None else ""
    still = ", still at work without its run" if state != GOING and job.works else ""
    return f"  {word}  {job.name}{epoch}{dice}, for {since}{still}"


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_SHOWN
    return [*lines[:MOST_SHOWN], *([f"           and {more} more"] if more > 0 else [])]


def as_json(found: Status) -> dict:
    """Return a status as plain values."""
    values = {key: value for key, value in vars(found).items() if key not in ("failed", "running")}
    return {
        **values,
        "failed": [vars(job) for job in found.failed],
        "running": [vars(job) for job in found.running],
    }
