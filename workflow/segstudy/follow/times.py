"""How long jobs take: as they took before, as jobs like them took, or by the sizes of what they work on."""

import csv
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
    "metrics_measure": (10, 0.24),
    "statistics": (15, 0),
    "publish_figures": (90, 0),
    "publish_viewer": (30, 0),
    "publish_report": (15, 0),
}
"""Seconds of a job, and for each MB (float32) of the images that it works on: a tenth of what the rules ask for."""
VOXEL_S = 2.7e-7
"""Seconds of training for a voxel of a batch and each channel of the first level, on two cores of a laptop."""
GPU_FASTER = 40
"""How much faster a GPU trains than those."""

BEFORE, ALIKE, SIZES = "earlier runs of them", "runs of jobs like them", "sizes"


@dataclass(frozen=True)
class Estimate:
    """Seconds of a job, bytes of what it leaves, and what both were told by."""

    seconds: float
    bytes: float
    told_by: str


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

    def of(self, job: Mapping, images_mb: float) -> Estimate:
        """Return what a job would take. images_mb: size of the images that it works on, as float32."""
        if job["name"] in self._by_name:
            return self._as([self._by_name[job["name"]]], job, BEFORE)
        for kind in _kinds(job):
            if kind in self._by_kind:
                return self._as(self._by_kind[kind], job, ALIKE)
        if stage_of(job) == "train":
            return Estimate(training_s(job), 5e7, SIZES)
        first, each = SECONDS.get(job["rule"], (5, 0))
        left = {"preprocess_resample": 0.5, "infer_predict": 0.01, "infer_external": 0.01}
        return Estimate(first + each * images_mb, 1e6 * images_mb * left.get(job["rule"], 0), SIZES)

    def _as(self, jobs: Iterable[dict], job: Mapping, told_by: str) -> Estimate:
        jobs = list(jobs)
        seconds = statistics.median(self._seconds(one) * _work(job) / _work(one) for one in jobs)
        return Estimate(seconds, statistics.median(one["bytes"] for one in jobs), told_by)

    def _seconds(self, job: Mapping) -> float:
        """Return the seconds of a job; of a training that was stopped and went on, those of all its epochs."""
        if stage_of(job) == "train":
            path = next((name for name in job["output"] if name.endswith("history.csv")), None)
            rows = read_history(self._root / path) if path else []
            return max(job["seconds"], sum(float(row.get("seconds") or 0) for row in rows))
        return job["seconds"]


def _kinds(job: Mapping) -> list[tuple]:
    """Return what jobs are alike by, the nearest first."""
    w = job["wildcards"]
    return [
        (job["rule"], w.get("model"), w.get("dataset")),
        (job["rule"], None, w.get("dataset")),
        (job["rule"],),
    ]


def _work(job: Mapping) -> float:
    """Return how much a training works, in voxels of all its batches and channels; 1 for other jobs."""
    return _trained_voxels(job) if stage_of(job) == "train" else 1.0


def _trained_voxels(job: Mapping) -> float:
    """Return the voxels of all batches times the channels of the first level; a guess where they are fitted."""
    try:
        model = from_json(TrainSettings, job["options"].get("--settings", "")).model
    except InputError:
        return 1.0
    patch = getattr(model, "patch_size", "auto")
    dims = getattr(model, "dims", 3)
    size = patch if isinstance(patch, tuple | list) else (128, 128, 96)[:dims]
    voxels = 1.0
    for side in size:
        voxels *= side
    channels = getattr(model, "channels", 32)
    first = channels[0] if isinstance(channels, tuple | list) else channels
    steps = getattr(model, "steps_per_epoch", "auto")
    steps = steps if isinstance(steps, int) else 250
    taps = 1 / 3 if dims == 2 else 1.0
    return epochs_of(job) * steps * getattr(model, "batch_size", 2) * voxels * first * taps


def epochs_of(job: Mapping) -> int:
    """Return the epochs of a training; 1 where its settings are not read by this version."""
    try:
        model = from_json(TrainSettings, job["options"].get("--settings", "")).model
    except InputError:
        return 1
    return getattr(model, "epochs", 1)


def training_s(job: Mapping) -> float:
    """Return the seconds of a training by the size of its patches and batches."""
    return 20 + VOXEL_S * _trained_voxels(job) / (GPU_FASTER if job["gpus"] else 1)


def read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of a training's history; none where there is none yet."""
    with suppress(OSError, UnicodeDecodeError, csv.Error), path.open(newline="") as file:
        return list(csv.DictReader(file))
    return []
