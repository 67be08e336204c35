"""What a run would do, and why, before it is started."""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from segstudy.errors import InputError
from segstudy.follow.history import History, history, signature
from segstudy.follow.reasons import Files, own_reasons
from segstudy.follow.record import PREVIEW, name_of, read_events, stage_of
from segstudy.follow.times import Estimate, Times
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.options import job_environment
from segstudy.jobs.resources import JobResources
from segstudy.jobs.results import ResultPaths
from segstudy.paths import cell_path
from segstudy.study import Study, TableSource
from segstudy.tables import FILE_COLUMNS, read_rows

STAGES = ("download", "repair", "preprocess", "train", "infer", "metrics", "statistics", "publish")
CHECKPOINTS = ("download_audit", "preprocess_plan")
"""Jobs after which Snakemake plans anew: while they wait, what follows is not all known."""
WORKFLOW = Path(__file__).resolve().parents[2]
SNAKEFILE = WORKFLOW.parent / "Snakefile"
CONFIG = WORKFLOW.parent / "config" / "config.yaml"
STUDIES = WORKFLOW.parent / "config" / "studies"
CERTAIN, LIKELY = "certain", "likely"


@dataclass(frozen=True)
class Job:
    """A job that would run.

    Attributes
    ----------
    why
        In the study's words; of a job that follows others, theirs.
    restored
        `certain` where the same was made before and is kept, `likely` where that is so if what the job reads
        comes out as it was; else None.
    """

    name: str
    stage: str
    why: tuple[str, ...]
    estimate: Estimate
    gpus: int = 0
    restored: str | None = None


@dataclass(frozen=True)
class Preview:
    """What would run.

    Attributes
    ----------
    at_least
        Whether more follows from what has to run first.
    longest_s
        Seconds that the longest chain of jobs takes, however many run at a time.
    """

    study: str
    jobs: tuple[Job, ...]
    at_least: bool
    longest_s: float
    is_first: bool
    reasons: dict[str, Counter] = field(default_factory=dict)


# --- what Snakemake would run -------------------------------------------------------------------


def planned(config: Sequence[str], arguments: Sequence[str] = ()) -> list[dict]:
    """Return the jobs that Snakemake would run, in order, as `record.Recorder` writes them.

    Parameters
    ----------
    config
        Values for `--config`: `study=...` and others.
    arguments
        Targets, files or options of Snakemake; none: all of the study.

    Raises
    ------
    InputError
        In Snakemake's words, where it cannot plan.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.jsonl"
        command = [
            *(sys.executable, "-m", "snakemake", *arguments),
            *("--dry-run", "--quiet", "all", "--nolock"),
            *("--nocolor", "--snakefile", str(SNAKEFILE)),
            *("--configfile", str(CONFIG)),
            *("--config", *config),
        ]
        run = subprocess.run(
            command,
            env={**os.environ, **job_environment(WORKFLOW), PREVIEW: str(file)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if run.returncode:
            raise InputError(error_in(run.stdout))
        return [event for event in read_events(file) if event["event"] == "start"]


def error_in(text: str) -> str:
    """Return the error that Snakemake ends with, without its type and where in the rules it was met."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    heads = [n for n, line in enumerate(lines) if re.match(r"\w+(Error|Exception)\b.*:$", line)]
    told = [
        line for line in lines[heads[-1] + 1 if heads else -3 :] if not line.startswith("File ")
    ]
    return "\n".join(told) or "Snakemake cannot plan this study; snakemake --dry-run says more"


# --- why, how long, what is kept ----------------------------------------------------------------


def preview(study: Study, root: Path | str, jobs: Sequence[Mapping]) -> Preview:
    """Return what would run of a study, why, and what it takes.

    root: the folder of its results. jobs: as `planned` gives them.
    """
    paths = ResultPaths(root)
    past = history(read_events(paths.jobs))
    inputs = Inputs(study, paths, paths.cases, paths.plan)
    files, sizes = files_of(inputs), JobResources(inputs, lambda *_: 0)
    times = Times(past, root)
    jobs = [{**job, "name": name_of(job)} for job in jobs]
    makers = {path: job["name"] for job in jobs for path in job["output"]}
    signatures, kept = dict(past.signatures), past.kept(_kept_names(paths))
    why: dict[str, tuple[str, ...]] = {}
    ends_s: dict[str, float] = {}
    found, by_name = [], {job["name"]: job for job in jobs}
    for job in _in_order(jobs, makers):
        name = job["name"]
        before = dict.fromkeys(makers[path] for path in job["inputs"] if path in makers)
        if any(by_name[other]["rule"] in CHECKPOINTS for other in before):
            # Which files it reads is known when the audit has run.
            job["files"] = past.jobs.get(name, job)["files"]
        own = _why(past, job, files, paths, follows=bool(before))
        following = [reason for other in before for reason in why.get(other, ())]
        why[name] = tuple(dict.fromkeys([*own, *following]))
        sign = signature(job, signatures)
        signatures |= dict.fromkeys(job["output"], sign)
        restored = CERTAIN if sign in kept else None
        if restored is None and not own and _is_kept(past, job, kept):
            restored = LIKELY
        estimate = times.of(job, _images_mb(sizes, job))
        if restored == CERTAIN:
            estimate = Estimate(10, 0, estimate.told_by)
        ends_s[name] = estimate.seconds + max((ends_s.get(other, 0) for other in before), default=0)
        found.append(Job(name, stage_of(job), why[name], estimate, job["gpus"], restored))
    reasons: dict[str, Counter] = {}
    for job in found:
        for reason in job.why:
            reasons.setdefault(reason, Counter())[job.stage] += 1
    return Preview(
        study.name,
        tuple(found),
        any(job["rule"] in CHECKPOINTS for job in by_name.values()),
        max(ends_s.values(), default=0),
        not past.jobs,
        reasons,
    )


def _in_order(jobs: Sequence[dict], makers: Mapping[str, str]) -> Iterable[dict]:
    """Yield jobs, each after those that make what it reads."""
    waiting, done = list(jobs), set()
    while waiting:
        ready = [
            job
            for job in waiting
            if all(makers.get(path) in done or path not in makers for path in job["inputs"])
        ]
        for job in ready or waiting[:1]:
            yield job
            done.add(job["name"])
        waiting = [job for job in waiting if job["name"] not in done]


def _why(
    past: History, job: Mapping, files: Files, paths: ResultPaths, *, follows: bool
) -> list[str]:
    """Return a job's own reasons; none where it only follows others."""
    old = past.jobs.get(job["name"])
    made = all(os.path.exists(f"{paths.root}/{path}") for path in job["output"])
    if old is None and made:
        return ["made by a version that kept no record of it"]
    if old is None:
        return [_new(past, job)]
    if old["state"] == "failed":
        return ["failed in the last run", *own_reasons(old, job, files)]
    if old["state"] == "started":
        return ["not finished in the last run", *own_reasons(old, job, files)]
    found = own_reasons(old, job, files)
    if not found and not made:
        return [f"what {job['rule']} had made is gone"]
    if not found and not follows:
        gone = sorted(set(old["inputs"]) ^ set(job["inputs"]))
        return [f"{stage_of(job)} reads other files" if gone else "what it reads was made anew"]
    return found


def _new(past: History, job: Mapping) -> str:
    """Return what is new about a job that was never started."""
    if not past.jobs:
        return "the first run"
    for kind in ("dataset", "plan", "model", "fold", "seed", "grid"):
        value = job["wildcards"].get(kind)
        known = {old["wildcards"].get(kind) for old in past.jobs.values()} - {None}
        if value is not None and known and value not in known:
            return f"new {kind} {value}"
    if "shard" in job["wildcards"]:
        return f"datasets.{job['wildcards']['dataset']}: new or other cases in a job"
    return f"not made before: {stage_of(job)}"


def _is_kept(past: History, job: Mapping, kept: Mapping[str, str]) -> bool:
    """Return whether a job was asked for the same when its results were kept, whatever it read.

    Paths among its options do not count: some are not known before the plan is.
    """

    def asked(one: Mapping) -> list:
        beside = [one.get(key) for key in ("code", "defaults", "named")]
        return [*beside, *(one["options"].get(key) for key in ("--settings", "--external"))]

    return any(
        old["name"] == job["name"] and old["kept"] in kept.values() and asked(old) == asked(job)
        for old in past.ended
        if old["kept"]
    )


def _kept_names(paths: ResultPaths) -> list[str]:
    with suppress(OSError):
        return os.listdir(paths.finished)
    return []


def _images_mb(sizes: JobResources, job: Mapping) -> float:
    """Return the size of the images that a job works on; by its files where the audit has not run."""
    dataset = job["wildcards"].get("dataset")
    if dataset is None:
        return 0.0
    select = job["options"].get("--select")
    whole_mb = sizes.all_mb(dataset, select.split() if select else None)
    if "fold" in job["wildcards"]:
        whole_mb /= max(1, len(sizes.study.folds))
    # Compressed images hold about a third of their bytes.
    return whole_mb or 3e-6 * sum(size for size, _ in job["files"].values())


def files_of(inputs: Inputs) -> Files:
    """Return whose the user's files are: by the audited tables that there are, and by the user's own."""
    then: dict[str, tuple[str, str]] = {}
    now: dict[str, tuple[str, str]] = {}
    for name, dataset in inputs.study.datasets.items():
        for case in inputs.known_cases(name).values():
            then |= {os.path.abspath(path): (case.case, "image") for path in case.images}
            then |= {os.path.abspath(case.label): (case.case, "label")}
        if isinstance(dataset.source, TableSource):
            with suppress(InputError):
                now |= _table(Path(dataset.source.path))
    return Files(then, now)


def _table(table: Path) -> dict[str, tuple[str, str]]:
    (_, header), *rows = read_rows(table)
    found = {}
    for _, row in rows:
        cells = dict(zip(header, row, strict=False))
        for column, text in cells.items():
            if column.startswith(FILE_COLUMNS) and text and cells.get("case"):
                path = os.path.abspath(cell_path(table.parent, text, str(table)))
                found[path] = (cells["case"], "label" if "label" in column else "image")
    return found
