"""What a finished or running study tells of the differences of its models: their SD, ICC, and the hours it took."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from segstudy.cases import read_cases
from segstudy.errors import InputError
from segstudy.follow.history import history
from segstudy.follow.record import read_events
from segstudy.jobs.results import ResultPaths

CELL = ["dataset", "structure", "metric"]


@dataclass(frozen=True)
class Pilot:
    """The differences of two models in one structure and metric.

    Attributes
    ----------
    dataset, structure, metric, model_a, model_b
        What was compared.
    subjects
        Subjects that both models were measured on.
    scans
        Scans of a subject, the harmonic mean.
    left_out
        Scans without a finite value of both.
    scan_sd
        SD of scans' differences.
    icc
        Share of their variance that scans of a subject have in common; 0 with a scan each.
    """

    dataset: str
    structure: str
    metric: str
    model_a: str
    model_b: str
    subjects: int
    scans: float
    left_out: int
    scan_sd: float
    icc: float


def components(difference: np.ndarray, subject: np.ndarray) -> tuple[float, float]:
    """Return SD of scans and ICC by a one-way analysis of variance (Shrout and Fleiss 1979), groups of any size.

    Parameters
    ----------
    difference
        Of each scan (scan,).
    subject
        Of each scan, int (scan,), numbered from 0.
    """
    counts = np.bincount(subject)
    groups, scans = len(counts), len(difference)
    if scans == groups:
        return float(difference.std(ddof=1)), 0.0
    means = np.bincount(subject, difference) / counts
    between = float((counts * (means - difference.mean()) ** 2).sum() / (groups - 1))
    within = float(((difference - means[subject]) ** 2).sum() / (scans - groups))
    size = (scans - (counts**2).sum() / scans) / (groups - 1)
    shared = max((between - within) / size, 0.0)
    total = shared + within
    return math.sqrt(total), shared / total if total else 0.0


def pilots(root: Path | str, metric: str) -> list[Pilot]:
    """Return the differences of each two models in each structure.

    A study that still runs tells them by the cases that were measured so far.

    Parameters
    ----------
    root
        `results/<study>`.
    metric
        As in the tables.
    """
    values = _values(ResultPaths(root))
    measured = list(dict.fromkeys(values["metric"]))
    values = values[values["metric"] == metric]
    if values.empty:
        raise InputError(
            f"{root}: {metric} was not measured there; expected one of {', '.join(measured) or 'none yet'}"
        )
    found = []
    for key, cell in values.groupby(CELL, sort=False):
        wide = cell.pivot_table(index=["case", "subject"], columns="model", values="value")
        for a, b in combinations(dict.fromkeys(cell["model"]), 2):
            if a not in wide or b not in wide:
                continue
            both = wide[a].notna() & wide[b].notna()
            difference = (wide[a] - wide[b])[both]
            finite = difference[np.isfinite(difference)]
            number, names = pd.factorize(finite.index.get_level_values("subject"))
            if len(names) < 3:
                continue
            sd, icc = components(finite.to_numpy(), number)
            scans = len(names) / float((1 / np.bincount(number)).sum())
            found.append(Pilot(*key, a, b, len(names), scans, len(wide) - len(finite), sd, icc))
    if not found:
        raise InputError(
            f"{root}: no two models were measured in {metric} on three subjects or more; wait for more of the "
            "study, or give --sd"
        )
    return found


def _values(paths: ResultPaths) -> pd.DataFrame:
    """Return a value a model and case: the compared ones of a finished study, else the mean of its runs so far."""
    finished = Path(paths.statistic("values"))
    text = dict.fromkeys((*CELL, "model", "case", "subject"), str)
    if finished.is_file():
        return pd.read_csv(finished, dtype=text, keep_default_na=False, na_values={"value": [""]})
    tables = sorted(Path(paths.metrics).parent.glob("*/fold-*/seed-*/*.csv"))
    if not tables:
        raise InputError(
            f"{paths.root}: nothing was measured there yet; wait for the first folds, or give --sd"
        )
    runs = pd.concat(
        pd.read_csv(table, dtype=text, keep_default_na=False, na_values={"value": [""]})
        for table in tables
    )
    subjects = {
        (dataset, case.case): case.subject
        for dataset in runs["dataset"].unique()
        for case in read_cases(paths.cases(dataset))
    }
    runs["subject"] = [subjects[key] for key in zip(runs["dataset"], runs["case"], strict=True)]
    keys = [*CELL, "model", "case", "subject"]
    return runs.groupby(keys, sort=False)["value"].mean().reset_index()


@dataclass(frozen=True)
class Cost:
    """What a model took in a study, by its record of jobs.

    Attributes
    ----------
    model
        Name.
    runs
        Trainings, or programs, that are done: folds times seeds.
    minutes
        Of the median one.
    cases
        Of the study.
    device
        `GPU` or `CPU`.
    """

    model: str
    runs: int
    minutes: float
    cases: int
    device: str

    def hours(self, cases: float) -> float:
        """Return the hours for so many cases: minutes measured a case and run, times cases, folds and seeds."""
        return self.minutes / 60 * self.runs * cases / self.cases


def costs(root: Path | str) -> list[Cost]:
    """Return what training and prediction of each model took; nothing of those without a record."""
    paths = ResultPaths(root)
    jobs: dict[str, list[Mapping]] = {}
    for job in history(read_events(Path(paths.jobs))).made.values():
        model = job["wildcards"].get("model")
        if model and job["seconds"] is not None and not job["restored"]:
            jobs.setdefault(model, []).append(job)
    cases = sum(len(read_cases(table)) for table in Path(root).glob("download/*/cases.tsv"))
    return [_cost(model, of_model, cases) for model, of_model in jobs.items() if cases]


def _cost(model: str, jobs: Iterable[Mapping], cases: int) -> Cost:
    seconds: dict[tuple, float] = {}
    on_gpu = False
    for job in jobs:
        if job["rule"].startswith(("train", "infer")):
            run = (job["wildcards"].get("fold"), job["wildcards"].get("seed"))
            gpus = job.get("gpus") or 0
            on_gpu |= bool(gpus)
            seconds[run] = seconds.get(run, 0.0) + job["seconds"] * max(gpus, 1)
    median = float(np.median(list(seconds.values()))) if seconds else 0.0
    return Cost(model, len(seconds), median / 60, cases, "GPU" if on_gpu else "CPU")
