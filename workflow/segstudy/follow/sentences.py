"""What Snakemake says of an error, as a sentence."""

import itertools
import logging
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from segstudy.jobs.targets import STAGES

ASKED = "SEGSTUDY_RUN"
"""Variable by which `segstudy run` asks the workflow for its sentences."""
SAID = r"^\s*(Error: )?(WorkflowError|InputError|MissingInputException|MissingRuleException)\b"
"""Errors that are a mistake of the user's."""


def speak_plainly(handlers: Iterable[logging.Handler]) -> None:
    """Have Snakemake's terminal show errors as sentences, where `segstudy run` has asked; log files keep the whole."""
    for handler in handlers:
        if os.environ.get(ASKED) and handler.name == "DefaultStreamHandler" and handler.formatter:
            handler.setFormatter(InSentences(handler.formatter))


class InSentences(logging.Formatter):
    """Formats Snakemake's log as it does itself, but for errors that a sentence tells whole."""

    def __init__(self, whole: logging.Formatter):
        """Take Snakemake's own formatter."""
        super().__init__()
        self._whole = whole

    def format(self, record: logging.LogRecord) -> str:
        """Return what the terminal is to show of a record; nothing of one that another tells."""
        event = str(getattr(record, "event", None) or "")
        if event == "error":
            text = record.getMessage()
            if re.match(r"RuleException:\nCalledProcessError ", text):
                return ""  # the job's own error follows
            # Anything else is a fault of ours, whose place in the rules is wanted.
            if re.search(SAID, text, re.MULTILINE):
                return _told(error_in(text))
        if event == "job_error" and record.log:
            reason, where = reason_in(Path(record.log[0])), ", ".join(record.log)
            return _told(f"{reason}\n{record.rule_name} failed; its log: {where}")
        return self._whole.format(record)


DONE = re.compile(r"[\d:]+ done after ")
"""Begins the last line in the log of a job that has made all that it makes."""
LEAST_FREE_BYTES = 4096
"""Room on a disk below which no line of a log is written."""


def _told(text: str) -> str:
    return "\n".join(f"segstudy: error: {line}" for line in text.splitlines())


def _no_room(log: Path) -> str:
    """Return that a log's disk is full, where it is: then the job could not say so itself."""
    with suppress(OSError):
        folder = next(folder for folder in log.absolute().parents if folder.is_dir())
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            return f"its log could not be written, since no room is left on the disk of {folder}"
    return ""


def reason_in(log: Path) -> str:
    """Return why a job failed, by its log: its own error, or else its last words."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    except OSError:
        return _no_room(log) or "it left no log: it was killed before it began, or its machine was"
    errors = [line for line in lines if line.startswith("segstudy: error: ")]
    if errors:
        return errors[0].removeprefix("segstudy: error: ")
    said = [line for line in lines if line]
    if len(said) <= 1:
        return (
            _no_room(log)
            or "it says nothing of it: killed from outside (memory, time limit, or by hand)"
        )
    if DONE.match(said[-1]):
        return "it was done by its log, but what ran it was stopped before it took note, or missed a file of it; it is made again"
    return f"its last words: {said[-1]}"


def error_in(text: str) -> str:
    """Return the error that Snakemake ends with, as a sentence: without its type, and where in the rules it was met."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and ": error: " in lines[-1]:
        return f"snakemake: {lines[-1].partition(': error: ')[2]}"
    heads = [n for n, line in enumerate(lines) if re.match(r"\w+(Error|Exception)\b.*:$", line)]
    told = lines[heads[-1] + 1 :] if heads else lines[-1:]
    # What follows is for the makers of the rules.
    told = list(itertools.takewhile(lambda line: line not in ("Wildcards:", "Traceback:"), told))
    told = [line for line in told if line != "Error:" and not line.startswith("File ")]
    told = [re.sub(r"^\w+(Error|Exception): ", "", line) for line in told]
    if told and (found := re.match(r"No rule to produce (.+?)( \(if you use|\.?$)", told[0])):
        return f"{found[1]}: neither a stage nor a file that this study makes; stages are {', '.join(STAGES)}"
    if told and (found := re.match(r"Missing input files.* for rule (\w+):$", told[0])):
        files = told[told.index("affected files:") + 1 :] if "affected files:" in told else []
        return f"no such file, which {found[1]} reads: {', '.join(files)}"
    return "\n".join(told) or "Snakemake cannot plan this study; snakemake --dry-run says more"
