"""Resources that a job asks of a machine: memory, time, GPUs, processes.

How memory and time grow with the images was measured by Snakemake's benchmarks, on thoracic CT of 1
and of 65 million voxels. A job asks for about twice the memory and ten times the time.
"""

import math
from collections.abc import Callable, Iterable

from segstudy.jobs.inputs import Inputs
from segstudy.jobs.machine import writers
from segstudy.study import PhantomSource

Spacing = tuple[float, float, float]


def grown(first: float, most: float, attempt: int) -> int:
    """Return the resource that an attempt asks for: twice that of the attempt before, up to a limit.

    Parameters
    ----------
    first
        The resource of the first attempt, in any unit.
    most
        The limit, in the same unit.
    attempt
        Number of the attempt, from 1.
    """
    return round(max(first, min(first * 2 ** (attempt - 1), most)))


class JobResources:
    """Compute the resources of a study's jobs. Sizes of images are known from the audit on; before it they count as 0."""

    def __init__(
        self,
        inputs: Inputs,
        training_memory_mb: Callable[..., float],
        gpus_there: Callable[[], bool] = lambda: True,
    ):
        """Take the study's inputs, and the functions that estimate a training's memory and look for GPUs.

        Parameters
        ----------
        inputs
            The inputs of the study's jobs.
        training_memory_mb
            Model, voxels of the cases, number of channels and of classes -> MB of all processes, such as
            `train.memory.training_memory_mb`.
        gpus_there
            Tells whether there may be GPUs where jobs run; without one, only a model with `device: cuda`
            asks for it.
        """
        self._gpus_there = gpus_there
        self.inputs, self.study = inputs, inputs.study
        self._training_memory_mb = training_memory_mb
        self._voxels: dict[tuple, tuple[dict, dict[str, float]]] = {}

    def fetch_mb(self, dataset: str) -> float:
        """Return the memory of a download, in MB; a phantom is made much finer than it is delivered."""
        source = self.study.datasets[dataset].source
        delivered_voxels = math.prod(source.size_voxels) if isinstance(source, PhantomSource) else 0
        return 1000 + 1.2e-3 * delivered_voxels

    # --- sizes of images ------------------------------------------------------------------------

    def voxels(self, dataset: str, spacing_mm: Spacing | None = None) -> dict[str, float]:
        """Return the number of voxels of each case: as stored, or on a grid of this spacing (mm) where one is given."""
        cases, key = self.inputs.known_cases(dataset), (dataset, spacing_mm)
        # The same table is the same object; every job of a plan asks for it.
        if key not in self._voxels or self._voxels[key][0] is not cases:
            voxels = {
                name: math.prod(case.shape)
                * (math.prod(case.spacing_mm) / math.prod(spacing_mm) if spacing_mm else 1)
                for name, case in cases.items()
            }
            self._voxels[key] = cases, voxels
        return self._voxels[key][1]

    def image_mb(self, dataset: str, spacing_mm: Spacing | None = None) -> float:
        """Return the size of the largest image of a dataset, all its channels, in MB of float32."""
        largest = max(self.voxels(dataset, spacing_mm).values(), default=0)
        return 4e-6 * largest * len(self.study.datasets[dataset].channels)

    def largest_mb(self) -> float:
        """Return the size of the largest image of the study, as `image_mb`."""
        return max(map(self.image_mb, self.study.tested_datasets))

    def all_mb(self, dataset: str, cases: Iterable[str] | None = None) -> float:
        """Return the size of all images of a dataset, or of some cases of it, as `image_mb`."""
        voxels = self.voxels(dataset)
        total = sum(voxels.get(name, 0) for name in (voxels if cases is None else cases))
        return 4e-6 * total * len(self.study.datasets[dataset].channels)

    def shard_mb(self, dataset: str, shard: str) -> float:
        """Return the size of all images of a shard, as `image_mb`."""
        return self.all_mb(dataset, self.inputs.selected(dataset, shard))

    # --- jobs of a model ------------------------------------------------------------------------

    def gpus(self, model: str) -> int:
        """Return the GPUs of a training."""
        return self.gpu(model) * self.processes(model)

    def gpu(self, model: str) -> int:
        """Return the GPUs of a prediction: one, or none on a CPU."""
        device = self.study.models[model].device
        return int(device == "cuda" or (device == "auto" and self._gpus_there()))

    def device(self, model: str) -> str:
        """Return the device that a job is told: `cuda` where it asks for a GPU, so that it never holds one and uses none."""
        return "cuda" if self.gpu(model) else self.study.models[model].device

    def processes(self, model: str) -> int:
        """Return how many processes share a training, one a GPU; nnU-Net's is one."""
        return getattr(self.study.models[model], "gpus", 1)

    def training_mb(self, model: str) -> float:
        """Return the memory of a training, all its processes, in MB."""
        settings = self.study.models[model]
        if settings.memory_mb != "auto":
            return settings.memory_mb * self.processes(model)
        spacing_mm = self._plan_spacing_mm(settings.plan)
        voxels = [
            voxels
            for dataset in self.study.trained_on(model)
            for voxels in self.voxels(dataset, spacing_mm).values()
        ]
        channels, classes = len(self.study.channels), 1 + len(self.study.structures)
        # Where `device: auto` will train.
        settings = settings.model_copy(update={"device": "cuda" if self.gpu(model) else "cpu"})
        return self._training_memory_mb(settings, voxels, channels, classes)

    def prediction_mb(self, model: str, dataset: str) -> float:
        """Return the memory of a prediction, in MB: the image, and a value a class on the plan's grid.

        With a GPU, others are written meanwhile.
        """
        settings = self.study.models[model]
        if settings.memory_mb != "auto":
            return settings.memory_mb
        spacing_mm = self._plan_spacing_mm(settings.plan)
        on_grid_mb = self.image_mb(dataset, spacing_mm) / len(self.study.channels)
        classes = 1 + len(self.study.structures)
        base, written = (4000, writers(settings.threads)) if self.gpu(model) else (1500, 1)
        # Where a case is predicted several times: the sums, a prediction, and what is handed on, on the image's own grid.
        infer = settings.infer
        several = any(getattr(infer, key, 0) for key in ("mc_dropout", "uncertainty", "agreement"))
        native_mb = self.image_mb(dataset) / len(self.study.channels)
        sums = (2 + written) * (classes + 2) * native_mb if several else 0.0
        return base + 2 * self.image_mb(dataset) + (1 + written) * classes * on_grid_mb + sums

    def ensemble_mb(self, model: str, dataset: str) -> float:
        """Return the memory of a prediction with an ensemble, in MB: that of the largest member, one more sum of values, and all weights."""
        settings = self.study.models[model]
        if settings.memory_mb != "auto":
            return settings.memory_mb
        members = settings.members
        classes = (
            (1 + len(self.study.structures)) * self.image_mb(dataset) / len(self.study.channels)
        )
        weights = 200 * sum(len(self.study.models[member].seeds) for member in members)
        return (
            max(self.prediction_mb(member, dataset) for member in members) + 2 * classes + weights
        )

    def _plan_spacing_mm(self, plan: str) -> Spacing | None:
        """Return the spacing of a plan's grid; None where it is fitted, near that of the images."""
        spacing_mm = self.study.preprocess[plan].spacing_mm
        return None if spacing_mm == "auto" else spacing_mm
