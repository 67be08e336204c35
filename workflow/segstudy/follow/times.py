"""How long jobs take: as they took before, as jobs like them took, or by the sizes of what they work on."""

import csv
import math
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segstudy.errors import InputError
from segstudy.follow.history import History
from segstudy.follow.record import stage_of
from segstudy.study import TrainSettings, from_json

SECONDS = {
    "download_audit": (10, 0.05),
    "repair_estimate": (60, 1.0),
    "repair_apply": (5, 0.12),
    "repair_audit": (20, 0.1),
    "preprocess_fingerprint": (5, 0.12),
    "preprocess_resample": (5, 0.24),
    "preprocess_tissues": (5, 0.24),
    "infer_predict": (15, 0.5),
    "infer_external": (15, 5.0),
    "infer_predictions": (3, 0.02),
    "infer_plugin": (15, 5.0),
    "metrics_measure": (10, 0.24),
    "statistics": (15, 0),
    "publish_figures": (90, 0),
    "publish_viewer": (30, 0),
    "publish_rating": (60, 0),
    "publish_report": (15, 0),
}
"""Seconds of a job, and for each MB (float32) of the images that it works on: a tenth of what the rules ask for."""
VOXEL_S = 2.7e-7
"""Seconds of training for a voxel of a batch and each channel of the first level, on two cores of a laptop."""
GPU_FASTER = 40
"""How much faster a GPU trains than those."""
STARTS_S = 15
"""Seconds of a training before its first epoch, where its history does not tell them."""
PATCH_VOXELS = {"cpu": {2: 192**2, 3: 2**17}, "cuda": {2: 512**2, 3: 2**21}}
"""Most voxels of an `auto` patch, by device and dimensions; those of `segstudy.train.memory`, as a test holds."""
UNKNOWN_SHAPE, UNKNOWN_STEPS = (128, 128, 96), 250
"""Voxels of a case and steps of an epoch before the audit has told of any case."""
SLICES_PER_CASE, SYNTH_STEPS = 8, 250
"""Of each case in an `auto` epoch of a 2D network, and the least of one that learns from label maps."""

BEFORE, ALIKE, SIZES = "earlier runs of them", "runs of jobs like them", "sizes"
SCALED = ", scaled"
"""Behind the name of a run whose time was scaled by epochs, steps or voxels."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of a job, bytes of what it leaves, and what both were told by."""

    seconds: float
    bytes: float
    told_by: str


@dataclass(frozen=True)
class Learned:
    """What a training learns from, so far as the audit has told: what `auto` settings follow from.

    Attributes
    ----------
    cases
        Number of training cases; 0 where it is not known.
    shape
        Median voxels of a case along each axis, on the grid of the plan; empty where it is not known.
    """

    cases: int = 0
    shape: tuple[float, ...] = ()


UNKNOWN = Learned()


class Times:
    """What the jobs of a study take, told by those that have ended."""

    def __init__(self, history: History, root: Path | str):
        """Take what has run. root: the folder of the results."""
        self._root = Path(root)
        self._by_name: dict[str, dict] = {}
        self._by_kind: dict[tuple, list[dict]] = {}
        for job in history.ended:
            if job["seconds"] is not None and not job["restored"]:
                self._by_name[job["name"]] = job
                for kind in _kinds(job):
                    self._by_kind.setdefault(kind, []).append(job)

    def of(self, job: Mapping, images_mb: float, learned: Learned = UNKNOWN) -> Estimate:
        """Return what a job would take.

        Parameters
        ----------
        job
            The job, with its `name`.
        images_mb
            Size of the images that it works on, as float32.
        learned
            What a training learns from.
        """
        if job["name"] in self._by_name:
            return self._as([self._by_name[job["name"]]], job, BEFORE, learned)
        for kind in _kinds(job):
            if kind in self._by_kind:
                return self._as(self._by_kind[kind], job, ALIKE, learned)
        if stage_of(job) == "train":
            return Estimate(training_s(job, learned), 5e7, SIZES)
        first, each = SECONDS.get(job["rule"], (5, 0))
        left = {"preprocess_resample": 0.5}
        left |= dict.fromkeys(
            ("infer_predict", "infer_external", "infer_predictions", "infer_plugin"), 0.01
        )
        return Estimate(first + each * images_mb, 1e6 * images_mb * left.get(job["rule"], 0), SIZES)

    def _as(self, jobs: Iterable[dict], job: Mapping, told_by: str, learned: Learned) -> Estimate:
        jobs, work = list(jobs), _work(job, learned)
        factors = [work / _work(one, learned) for one in jobs]
        parts = [self._start_and_work_s(one) for one in jobs]
        seconds = statistics.median(
            start_s + work_s * factor
            for (start_s, work_s), factor in zip(parts, factors, strict=True)
        )
        if any(factor != 1 for factor in factors):
            told_by += SCALED
        return Estimate(seconds, statistics.median(one["bytes"] for one in jobs), told_by)

    def _start_and_work_s(self, job: Mapping) -> tuple[float, float]:
        """Return the seconds of a job before its work, and of the work, which grows with what there is to do.

        Those of a training are its epochs, also where it was stopped and went on.
        """
        if stage_of(job) != "train":
            return 0.0, job["seconds"]
        path = next((name for name in job["output"] if name.endswith("history.csv")), None)
        rows = read_history(self._root / path) if path else []
        epochs_s = sum(float(row.get("seconds") or 0) for row in rows)
        if epochs_s:
            start_s = job["seconds"] - epochs_s
            return (start_s if start_s > 0 else STARTS_S), epochs_s
        start_s = min(STARTS_S, job["seconds"] / 2)
        return start_s, job["seconds"] - start_s


def _kinds(job: Mapping) -> list[tuple]:
    """Return what jobs are alike by, the nearest first."""
    w = job["wildcards"]
    return [
        (job["rule"], w.get("model"), w.get("dataset")),
        (job["rule"], None, w.get("dataset")),
        (job["rule"],),
    ]


def _work(job: Mapping, learned: Learned) -> float:
    """Return how much a training works, in voxels of all its batches and channels; 1 for other jobs."""
    return _trained_voxels(job, learned) if stage_of(job) == "train" else 1.0


def _trained_voxels(job: Mapping, learned: Learned) -> float:
    """Return the voxels of all batches times the channels of the first level."""
    try:
        model = from_json(TrainSettings, job["options"].get("--settings", "")).model
    except InputError:
        return 1.0
    dims, batch = getattr(model, "dims", 3), getattr(model, "batch_size", 2)
    patch = getattr(model, "patch_size", "auto")
    if isinstance(patch, tuple | list):
        voxels = math.prod(patch)
    else:
        # The largest plane, of a 2D network.
        sides = sorted(learned.shape or UNKNOWN_SHAPE)[-dims:]
        most = PATCH_VOXELS["cuda" if job["gpus"] else "cpu"][dims]
        voxels = min(math.prod(sides), most)
    channels = getattr(model, "channels", 32)
    first = channels[0] if isinstance(channels, tuple | list) else channels
    steps = getattr(model, "steps_per_epoch", UNKNOWN_STEPS)
    if not isinstance(steps, int):
        steps = _automatic_steps(job, learned.cases * (SLICES_PER_CASE if dims == 2 else 1), batch)
    taps = 1 / 3 if dims == 2 else 1.0
    return epochs_of(job) * steps * batch * voxels * first * taps


def _automatic_steps(job: Mapping, shown: int, batch: int) -> int:
    """Return the steps of an `auto` epoch, which shows each case, or 8 slices of it, once."""
    if not shown:
        return UNKNOWN_STEPS
    return max(math.ceil(shown / batch), SYNTH_STEPS if job["rule"] == "train_synth" else 1)


def epochs_of(job: Mapping) -> int:
    """Return the epochs of a training; 1 where its settings are not read by this version."""
    try:
        model = from_json(TrainSettings, job["options"].get("--settings", "")).model
    except InputError:
        return 1
    return getattr(model, "epochs", 1)


def training_s(job: Mapping, learned: Learned = UNKNOWN) -> float:
    """Return the seconds of a training by the size of its patches and batches."""
    return STARTS_S + VOXEL_S * _trained_voxels(job, learned) / (GPU_FASTER if job["gpus"] else 1)


def read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of a training's history; none where there is none yet."""
    with suppress(OSError, UnicodeDecodeError, csv.Error), path.open(newline="") as file:
        return list(csv.DictReader(file))
    return []


def about(seconds: float) -> str:
    """Return a time as a person says it: `40 s`, `12 min`, `3 h`, `2 days`."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 3 else f"{value:.0f} {unit}"
    return f"{max(1, math.ceil(seconds))} s"
