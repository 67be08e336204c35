"""The record of a study's jobs: what ran, when, and what it was asked for, in `results/<study>/.jobs.jsonl`.

Snakemake hands each event of a run to every handler of its log as fields (those that its logger plugins
are given). `Recorder` is such a handler: it writes a line an event, so that a later look needs
neither Snakemake's own bookkeeping nor its printout. In a dry run it writes what would run.
"""

import hashlib
import json
import logging
import os
import platform
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from segstudy.cases import Case, read_cases
from segstudy.errors import InputError
from segstudy.files import parse_json, read_json
from segstudy.finished import MANIFEST

PREVIEW = "SEGSTUDY_PREVIEW"
"""Variable that names the file which a dry run writes its jobs to."""
BEAT_S = 20
"""How often a run says that it is alive: it sets the time of the record."""
HOW_JOBS_RUN = (
    *("--device", "--processes", "--threads", "--workers", "--memory-mb"),
    *("--finished", "--finished-gb"),
)
"""Options that are no reason to run again."""


class Recorder(logging.Handler):
    """Writes down what the jobs of a run do."""

    def __init__(
        self,
        file: Path | str,
        root: str,
        asked: Callable[[str, Mapping[str, str]], dict[str, str]],
        is_dry: Callable[[], bool],
    ):
        """Take where to write, and two questions that only Snakemake answers.

        Parameters
        ----------
        file
            The record of the study.
        root
            The folder of its results; paths below it are written relative to it.
        asked
            Rule, wildcards -> what a job is asked for beside its command, such as the digest of its code.
        is_dry
            Whether nothing runs.
        """
        super().__init__(logging.INFO)
        self._file, self._root, self._asked, self._is_dry = Path(file), root, asked, is_dry
        self._jobs: dict[int, dict] = {}
        self._plan: list[dict] = []
        self._begun, self._ended = False, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event down; whatever stops that does no harm to the run."""
        with suppress(Exception):
            event = str(getattr(record, "event", None) or "")
            if self._is_dry() and not os.environ.get(PREVIEW):
                return
            if event and (line := self._line(event, record)):
                # A run that is refused before its first job leaves nothing.
                if not self._begun and line["event"] != "start":
                    self._plan.append(line)
                else:
                    self._write(line)

    def _line(self, event: str, record: Any) -> dict | None:
        if event == "job_info":
            if not record.shellcmd:  # a target
                return None
            job = self._job(record)
            self._jobs[job["id"]] = job
            return {"event": "start", **job}
        if event == "run_info":
            return {"event": "plan", "jobs": dict(record.stats)}
        if event == "job_finished":
            job = self._jobs.pop(record.job_id, None)
            return job and {"event": "end", "id": record.job_id, **self._left(job)}
        if event == "job_error":
            return {"event": "fail", "id": record.jobid}
        if event == "progress":
            return {"event": "progress", "done": record.done, "total": record.total}
        return None

    def _job(self, record: Any) -> dict:
        wildcards = {key: str(value) for key, value in record.wildcards.items()}
        inside, outside = [], []
        for path in map(str, record.input):
            (inside if path.startswith(f"{self._root}/") else outside).append(path)
        command = record.shellcmd.replace(f"{self._root}/", "")
        return {
            "id": record.jobid,
            "rule": record.rule_name,
            "wildcards": wildcards,
            "output": self._below(record.output),
            "log": self._below(record.log),
            "benchmark": "".join(self._below([record.benchmark] if record.benchmark else [])),
            "gpus": _number(record.resources.get("gpu", 0)),
            "inputs": sorted(self._below(inside)),
            "files": _states(outside),
            "options": options_of(command),
            **self._asked(record.rule_name, wildcards),
        }

    def _below(self, paths: Iterable[Any]) -> list[str]:
        return [str(path).removeprefix(f"{self._root}/") for path in paths]

    def _left(self, job: dict) -> dict:
        """Seconds of a job, bytes of its results, where they are kept, and what it says of the user's files."""
        root = Path(self._root)
        seconds = _benchmarked_s(root / job["benchmark"]) if job["benchmark"] else None
        left: dict[str, Any] = {
            "seconds": seconds,
            "bytes": sum(_bytes(root / path) for path in job["output"]),
        }
        kept = "--finished" in job["options"] and kept_as(root, job["output"])
        if job["rule"] == "preprocess_split":
            # It deals new subjects into the file of folds, which it reads too.
            left["files"] = _states(job["files"])
        if job["rule"] == "download_audit":
            left["owners"] = _audited(root, job["output"])
        return {**left, **({"kept": kept} if kept else {})}

    def _write(self, line: dict) -> None:
        file, lines = self._file, [line]
        if self._is_dry():
            file = Path(os.environ[PREVIEW])
        elif not self._begun:
            self._begun = True
            lines = [self._run(), *self._plan, line]
            threading.Thread(target=self._beat, daemon=True).start()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            for one in lines:
                mark = {"time": round(time.time(), 1), "by": os.getpid()}
                out.write(json.dumps({**mark, **one}) + "\n")

    def _run(self) -> dict:
        command = shlex.join(["snakemake", *sys.argv[1:]])
        me = {"host": platform.node(), "process": os.getpid(), "command": command}
        return {"event": "run", **me, "folder": os.getcwd()}

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self._file)

    def close(self) -> None:
        """Write down that the run has ended, by whatever way."""
        if self._begun and not self._ended.is_set():
            self._ended.set()
            with suppress(OSError):
                self._write({"event": "ended"})
        super().close()


def options_of(command: str) -> dict[str, str]:
    """Return the options of the segstudy command in a job's shell command, but for how it runs.

    An option with several values has them with blanks between; words before the first option are under `""`.
    """
    found = re.search(r"python -m segstudy (.*?) 2>&1", command, re.DOTALL)
    words = shlex.split(found[1]) if found else []
    options: dict[str, list[str]] = {"": []}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word
            options[name] = []
        else:
            options[name].append(word)
    return {key: " ".join(own) for key, own in options.items() if key not in HOW_JOBS_RUN} | (
        {"--finished": ""} if "--finished" in options else {}
    )


def kept_as(root: Path, output: Iterable[str]) -> str | None:
    """Return the name under which finished work holds what a job has left; None where it does not.

    A training is known by its history, which no other has, and predictions by the first.
    """
    path = next((root / name for name in output if not name.endswith((".pt", ".npz"))), None)
    if path is not None and path.is_dir():
        # Snakemake puts a hidden file of its own into a folder that a rule declares.
        path = next((file for file in sorted(path.glob("[!.]*")) if file.is_file()), None)
    if path is None or not path.is_file():
        return None
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    for manifest in (root / ".finished").glob(f"*/{MANIFEST}"):
        with suppress(InputError, KeyError, TypeError, AttributeError):
            if read_json(manifest)["sha256"].get(path.name) == checksum:
                return manifest.parent.name
    return None


def owners(cases: Iterable[Case]) -> dict[str, tuple[str, str]]:
    """Return whose the user's files are: absolute path -> (case, `image` or `label`)."""
    found = {}
    for case in cases:
        found |= {os.path.abspath(path): (case.case, "image") for path in case.images}
        labels = [case.label, *([case.delivered_label] if case.delivered_label else [])]
        found |= {os.path.abspath(path): (case.case, "label") for path in labels}
    return found


def _audited(root: Path, output: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return whose files an audit has found: its table is deleted when it starts again."""
    path = next((root / name for name in output if name.endswith("/cases.tsv")), None)
    with suppress(InputError):
        return owners(read_cases(path)) if path and path.is_file() else {}
    return {}


def read_events(file: Path | str, since: int = 0) -> list[dict]:
    """Return the events of a record, oldest first; a line that a killed run left half is passed over."""
    with suppress(FileNotFoundError), Path(file).open("rb") as lines:
        lines.seek(since)
        found = []
        for line in lines:
            with suppress(InputError, UnicodeDecodeError):
                event = parse_json(line.decode(), str(file))
                if isinstance(event, dict) and "event" in event:
                    found.append(event)
        return found
    return []


def name_of(job: Mapping) -> str:
    """Return what names a job over all runs: its rule and its wildcards."""
    return " ".join([job["rule"], *(f"{k}={v}" for k, v in sorted(job["wildcards"].items()))])


def stage_of(job: Mapping) -> str:
    """Return the stage of a job."""
    return job["rule"].partition("_")[0]


def _states(paths: Iterable[str]) -> dict[str, list[int]]:
    """Return size and time, in whole seconds, of files; folders and what is not there do not count."""
    found = {}
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)
            found[path] = [status.st_size, int(status.st_mtime)]
    return found


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0


def _benchmarked_s(path: Path) -> float | None:
    """Return the seconds of Snakemake's benchmark of a job; None where there is none."""
    with suppress(OSError, ValueError, IndexError):
        header, *rows = path.read_text().splitlines()
        return float(dict(zip(header.split("\t"), rows[-1].split("\t"), strict=True))["s"])
    return None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
