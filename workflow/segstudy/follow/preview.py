"""What a run would do, and why, before it is started."""

import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from segstudy import correction_records, shipped
from segstudy.cases import read_splits
from segstudy.errors import InputError
from segstudy.follow.history import History, history, signature
from segstudy.follow.reasons import NOT_DEALT, QUICK, Files, own_reasons
from segstudy.follow.record import PREVIEW, name_of, owners, read_events, stage_of
from segstudy.follow.sentences import error_in
from segstudy.follow.times import UNKNOWN, Estimate, Learned, Times
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.machine import cache_variables, refuse_place
from segstudy.jobs.options import job_environment
from segstudy.jobs.resources import JobResources
from segstudy.jobs.results import ResultPaths
from segstudy.paths import cell_path
from segstudy.study import Study, TableSource
from segstudy.tables import FILE_COLUMNS, read_rows

CHECKPOINTS = ("download_audit", "preprocess_plan")
"""Jobs after which Snakemake plans anew: while they wait, what follows is not all known."""
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
    left
        Jobs that did not end when they last ran, whose results are not there, and that would not run either:
        Snakemake passes over them where what is made of them is there from before.
    """

    study: str
    jobs: tuple[Job, ...]
    at_least: bool
    longest_s: float
    is_first: bool
    reasons: dict[str, Counter] = field(default_factory=dict)
    left: tuple[str, ...] = ()


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
        Where Snakemake cannot start here, and in its words where it cannot plan.
    """
    refuse_place()
    alone = shipped.alone(Path(".snakemake"))
    caches = cache_variables(Path(".snakemake", "cache"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.jsonl"
        command = [
            *(sys.executable, "-m", "snakemake", *arguments),
            *("--dry-run", "--quiet", "all", "--nolock"),
            *("--nocolor", "--snakefile", str(shipped.SNAKEFILE), "--config", *config),
        ]
        run = subprocess.run(
            command,
            env={**os.environ, **caches, **job_environment(alone), PREVIEW: str(file)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if run.returncode:
            raise InputError(error_in(run.stdout))
        return [event for event in read_events(file) if event["event"] == "start"]


# --- why, how long, what is kept ----------------------------------------------------------------


def preview(study: Study, root: Path | str, jobs: Sequence[Mapping]) -> Preview:
    """Return what would run of a study, why, and what it takes.

    root: the folder of its results. jobs: as `planned` gives them.
    """
    paths = ResultPaths(root)
    past = history(read_events(paths.jobs))
    inputs = Inputs(study, paths, paths.cases, paths.plan)
    files, sizes = files_of(inputs, past), JobResources(inputs, lambda *_: 0)
    times = Times(past, root)
    jobs = [{**job, "name": name_of(job), "stage": stage_of(job)} for job in jobs]
    makers = {path: job["name"] for job in jobs for path in job["output"]}
    signatures, kept = dict(past.signatures), past.kept(_kept_names(paths))
    why: dict[str, tuple[str, ...]] = {}
    touched: dict[str, set[str]] = {}
    restores: dict[str, str | None] = {}
    ends_s: dict[str, float] = {}
    found, by_name = [], {job["name"]: job for job in jobs}
    for job in _in_order(jobs, makers):
        name = job["name"]
        before = dict.fromkeys(makers[path] for path in job["inputs"] if path in makers)
        if any(by_name[other]["rule"] in CHECKPOINTS for other in before):
            # Which files it reads is known when the audit has run.
            job["files"] = _as_last(past, name, job)["files"]
        following = [reason for other in before for reason in why.get(other, ())]
        own = _why(study, past, job, files, paths, following if before else None)
        why[name] = tuple(dict.fromkeys([*own, *_passed_on(following, bool(own))]))
        old_files = _as_last(past, name, job)["files"]
        touched[name] = files.touched(old_files, job["files"]).union(
            *(touched[other] for other in before if other in touched)
        )
        sign = signature(job, signatures)
        signatures |= dict.fromkeys(job["output"], sign)
        restored = CERTAIN if sign in kept else None
        anew = any(by_name[o]["stage"] == "train" and not restores.get(o) for o in before)
        if restored is None and not own and not anew and _is_kept(past, job, kept):
            restored = LIKELY if _may_be_as_it_was(study, job, touched[name], files) else None
        restores[name] = restored
        estimate = times.of(job, _images_mb(sizes, job), _learned(inputs, job))
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
        tuple(name for name in _unmade(study, past, paths) if name not in by_name),
    )


def _unmade(study: Study, past: History, paths: ResultPaths) -> Iterable[str]:
    """Yield the jobs of the study's models that did not end when they last ran, and whose results are not there."""
    for name, job in past.jobs.items():
        ours = job["state"] in UNMADE and job["wildcards"].get("model") in study.models
        if ours and not all(os.path.exists(f"{paths.root}/{path}") for path in job["output"]):
            yield name


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
    study: Study,
    past: History,
    job: Mapping,
    files: Files,
    paths: ResultPaths,
    following: Sequence[str] | None,
) -> list[str]:
    """Return a job's own reasons; none where it only follows others.

    following: the reasons of those before it; None where there are none.
    """

    def compared(last: Mapping) -> list[str]:
        follows_quick = QUICK[study.quick] in (following or ())
        return own_reasons(last, job, files, study.quick, follows_quick=follows_quick)

    old = past.jobs.get(job["name"])
    made = all(os.path.exists(f"{paths.root}/{path}") for path in job["output"])
    if old is None and made:
        return ["made by a version that kept no record of it"]
    if old is None:
        return [_new(past, job)]
    if old["state"] in UNMADE:
        return [UNMADE[old["state"]], *compared(_as_last(past, job["name"], job))]
    found = compared(old)
    if not found and not made:
        return [f"what {job['rule']} had made is gone"]
    if not found and following is None:
        gone = sorted(set(old["inputs"]) ^ set(job["inputs"]))
        return [f"{stage_of(job)} reads other files" if gone else "what it reads was made anew"]
    return found


UNMADE = {"failed": "failed in the last run", "started": "not finished in the last run"}
FOLLOWS = {reason: f"follows what {reason}" for reason in UNMADE.values()}


def _as_last(past: History, name: str, job: Mapping) -> Mapping:
    """Return a job as it last ended, which is what those after it were made of; else as it was last started."""
    return past.made.get(name) or past.jobs.get(name, job)


def _passed_on(reasons: Iterable[str], has_own: bool) -> list[str]:
    """Return the reasons that a job has from those before it; that one of them failed only where nothing else tells."""
    reasons = list(reasons)
    unmade = {*FOLLOWS, *FOLLOWS.values()}
    found = [reason for reason in reasons if reason not in unmade]
    return found if found or has_own else [FOLLOWS.get(reason, reason) for reason in reasons]


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
        return [
            *beside,
            *(one["options"].get(key) for key in ("--settings", "--external", "--predictions")),
        ]

    return any(
        old["name"] == job["name"] and old["kept"] in kept.values() and asked(old) == asked(job)
        for old in past.ended
        if old["kept"]
    )


def _may_be_as_it_was(study: Study, job: Mapping, touched: Iterable[str], files: Files) -> bool:
    """Return whether files of cases that have changed, by their folds, may leave a job's results as they were.

    touched: absolute paths. A fold trains on the cases of all others, and predicts its own from their images.
    """
    w = job["wildcards"]
    for path in touched:
        dataset, fold = files.places.get(path, ("", NOT_DEALT))
        own, of_all = str(fold) == w.get("fold"), fold in (None, NOT_DEALT)
        if job["stage"] == "train":
            reads = dataset in study.trained_on(w["model"]) and not own and not of_all
        else:
            is_image = dataset == w.get("dataset") and files.owner(path)[1] == "image"
            reads = is_image and (own or of_all)
        if reads:
            return False
    return True


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


def _learned(inputs: Inputs, job: Mapping) -> Learned:
    """Return what a training learns from, by the audited tables that there are."""
    study, model = inputs.study, job["wildcards"].get("model")
    if job["stage"] != "train" or model not in study.models:
        return UNKNOWN
    plan = study.models[model].plan
    spacing_mm = study.preprocess[plan].spacing_mm if plan else "auto"
    cases, shapes = 0.0, []
    for dataset in study.trained_on(model):
        known = inputs.known_cases(dataset).values()
        tested = dataset in study.cross_validated_datasets and study.splits.folds > 1
        cases += len(known) * (1 - 1 / study.splits.folds if tested else 1)
        for case in known:
            to_mm = case.spacing_mm if spacing_mm == "auto" else spacing_mm
            sides = zip(case.shape, case.spacing_mm, to_mm, strict=True)
            shapes.append([voxels * size_mm / mm for voxels, size_mm, mm in sides])
    medians = tuple(statistics.median(sides) for sides in zip(*shapes, strict=True))
    return Learned(math.ceil(cases), medians)


def files_of(inputs: Inputs, past: History) -> Files:
    """Return whose the user's files are: by the audits that have ended, and by the user's own tables."""
    folds: dict[tuple[str, str], int | None] = {}
    with suppress(InputError, KeyError, ValueError):
        folds = {(row.dataset, row.case): row.fold for row in read_splits(inputs.paths.splits)}
    then = dict(past.owners)
    now: dict[str, tuple[str, str, str]] = {}
    for name, dataset in inputs.study.datasets.items():
        known = owners(inputs.known_cases(name).values())
        then |= {path: (name, *own) for path, own in known.items()}
        with suppress(InputError):
            for path, case in correction_records.owners(inputs.study.corrections, name).items():
                now[path] = (name, case, "correction")
        if isinstance(dataset.source, TableSource):
            with suppress(InputError):
                table = _table(Path(dataset.source.path))
                now |= {path: (name, *own) for path, own in table.items()}
    places = {
        path: (dataset, folds.get((dataset, case), NOT_DEALT))
        for path, (dataset, case, _) in {**then, **now}.items()
    }
    return Files(*({path: own[1:] for path, own in of.items()} for of in (then, now)), places)


def _table(table: Path) -> dict[str, tuple[str, str]]:
    (_, header), *rows = read_rows(table)
    found = {}
    for _, row in rows:
        cells = dict(zip(header, row, strict=False))
        for column, text in cells.items():
            if column.startswith(FILE_COLUMNS) and text and cells.get("case"):
                path = os.path.abspath(cell_path(table, text, str(table)))
                found[path] = (cells["case"], "label" if "label" in column else "image")
    return found
