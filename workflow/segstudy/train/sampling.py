"""Batches of patches from prepared cases.

Which patches a step sees follows from (seed, step) alone, so a training that was interrupted
goes on with exactly the batches that it would have seen.
"""

import hashlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from segstudy.errors import InputError
from segstudy.images.prepare import IGNORED
from segstudy.log import log
from segstudy.planes import NORMAL_AXIS
from segstudy.study import Slices
from segstudy.train.distributed import STOPPING

ALL_SLICES = Slices()


@dataclass(frozen=True)
class TrainingCase:
    """Hold a case that patches are cut from.

    image: (channel, x, y, z) and label: class indices or IGNORED (x, y, z); arrays, or anything sliced alike.
    foreground: for each class that occurs, voxels (n, 3) of it.
    labelled: voxels (n, 3) that are not ignored; None where none is.
    normalise: applied to what is cut from `image`; None where it is normalised already.
    """

    dataset: str
    case: str
    image: Any
    label: Any
    foreground: dict[int, np.ndarray]
    spacing_mm: tuple[float, float, float]
    normalise: Callable[[np.ndarray], np.ndarray] | None = None
    labelled: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the voxels along x, y and z."""
        return tuple(self.label.shape)

    @property
    def name(self) -> str:
        """Return `dataset/case`."""
        return f"{self.dataset}/{self.case}"

    @cached_property
    def slices_with_structure(self) -> tuple[np.ndarray, ...]:
        """Return for each axis the slices across it that hold a structure; the label is read once for it."""
        label = np.asarray(self.label[...])
        held = (label > 0) & (label < IGNORED)
        others = ((1, 2), (0, 2), (0, 1))
        return tuple(np.flatnonzero(held.any(axis=axes)) for axes in others)

    def cut(self, starts: Sequence[int], size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Cut the box of `size` voxels that begins at `starts`; 0 where it leaves the case.

        Returns image (channel, *size) float32, normalised, and label (*size) uint8.
        """
        image = np.zeros((self.image.shape[0], *size), np.float32)
        label = np.zeros(size, np.uint8)
        self.fill(image, label, starts, [slice(0, length) for length in size])
        return image, label

    def fill(
        self,
        image: np.ndarray,
        label: np.ndarray,
        starts: Sequence[int],
        needed: Sequence[slice],
    ) -> None:
        """Write what lies at `starts` into arrays of zeros, image (channel, *size) and label (*size).

        needed: the box of them that is filled; no more of the case is read.
        """
        bounds = list(zip(starts, needed, label.shape, self.shape, strict=True))
        inside = tuple(
            slice(
                min(max(start + box.start, 0), have),
                max(min(start + min(box.stop, length), have), 0),
            )
            for start, box, length, have in bounds
        )
        if any(chosen.stop <= chosen.start for chosen in inside):
            return
        place = tuple(
            slice(chosen.start - start, chosen.stop - start)
            for chosen, start in zip(inside, starts, strict=True)
        )
        content = np.asarray(self.image[(slice(None), *inside)], np.float32)
        if self.normalise is not None:
            content = self.normalise(content)
        image[(slice(None), *place)] = content
        label[place] = self.label[inside]


@dataclass(frozen=True)
class Batch:
    """Hold the patches of one step.

    images: float32 (batch, channel, *source); labels: uint8 (batch, *source).
    spacing_mm, axes: (batch, dims), voxel size in mm and RAS axis of each axis of a patch.
    cases: which case each patch comes from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    spacing_mm: torch.Tensor
    axes: torch.Tensor
    cases: tuple[str, ...]

    def pin_memory(self) -> "Batch":
        """Return the batch with its patches in page-locked memory; torch's loader calls this by its name."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


@dataclass(frozen=True)
class Sampler:
    """Draw the batch of any step.

    Cases come in turn, in an order shuffled anew each time all have been seen. Of the patches,
    exactly `foreground_fraction` hold a voxel of a structure: first a class of the case is drawn,
    then one of its voxels, so that small structures are seen as often as large ones. The others
    lie anywhere, as do all of a case without any structure (nnU-Net's way); in a case with ignored
    voxels about any that is not.

    patch_size: what is drawn. source_size: what is cut, about the same middle; at least as large,
    room for augmentation. In 2D both have two numbers, and each patch is a slice of one of `planes`
    that `slices` lets through. part: (number, parts): of each batch, only this one of its equal
    parts is cut. reach: step, spacing (batch, dims) and axes (batch, dims) of its patches -> the box of each
    source that is needed, the rest of which stays 0; None: all of it.
    """

    cases: Sequence[TrainingCase]
    patch_size: tuple[int, ...]
    source_size: tuple[int, ...]
    planes: tuple[str, ...]
    batch_size: int
    foreground_fraction: float
    seed: int
    slices: Slices = ALL_SLICES
    part: tuple[int, int] = (0, 1)
    reach: Callable[[int, torch.Tensor, torch.Tensor], list[tuple[slice, ...]]] | None = None

    @property
    def own_size(self) -> int:
        """Return the number of patches in this part of a batch."""
        return self.batch_size // self.part[1]

    def batch(self, step: int) -> Batch:
        """Cut the patches of a step, counted from 0 over the whole training."""
        first = step * self.batch_size + self.part[0] * self.own_size
        drawn = [self._patch(number) for number in range(first, first + self.own_size)]
        cases, _, normals = zip(*drawn, strict=True)
        axes = [[axis for axis in range(3) if axis != normal] for normal in normals]
        spacing_mm = torch.tensor(
            [[case.spacing_mm[a] for a in along] for case, along in zip(cases, axes, strict=True)]
        )
        whole = [tuple(slice(0, size) for size in self.source_size)] * len(cases)
        boxes = self.reach(step, spacing_mm, torch.tensor(axes)) if self.reach else whole
        images = np.zeros((len(cases), cases[0].image.shape[0], *self.source_size), np.float32)
        labels = np.zeros((len(cases), *self.source_size), np.uint8)
        for place, (case, starts, normal) in enumerate(drawn):
            image, label, box = images[place], labels[place], boxes[place]
            if normal is not None:  # a slice, as a volume of one
                image, label = np.expand_dims(image, normal + 1), np.expand_dims(label, normal)
                box = (*box[:normal], slice(0, 1), *box[normal:])
            case.fill(image, label, starts, box)
        return Batch(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            spacing_mm,
            torch.tensor(axes),
            tuple(case.name for case in cases),
        )

    def cases_of(self, step: int) -> list[str]:
        """Return the names of the cases of a step's whole batch."""
        numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self.case_of(number).name for number in numbers]

    def case_of(self, number: int) -> TrainingCase:
        """Return the case of the patch with this number, counted over the whole training."""
        turn, place = divmod(number, len(self.cases))
        order = np.random.default_rng((self.seed, 0, turn)).permutation(len(self.cases))
        return self.cases[order[place]]

    def slices_of(self, case: TrainingCase, normal: int) -> np.ndarray | None:
        """Return the slices across an axis that are trained on; None where all of them are."""
        if self.slices == ALL_SLICES:
            return None
        kept = np.arange(case.shape[normal])
        if case.labelled is not None:
            kept = np.unique(case.labelled[:, normal])
        if self.slices.keep == "foreground":
            kept = case.slices_with_structure[normal]
        most = self.slices.most_per_plane
        if most is not None and most < len(kept):
            name = int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:8], "big")
            draw = np.random.default_rng((self.seed, 2, name, normal))
            kept = np.sort(draw.choice(kept, most, replace=False))
        return kept

    def _patch(self, number: int) -> tuple[TrainingCase, list[int], int | None]:
        """Draw a patch: its case, where its source begins, and of a slice the axis across it."""
        case = self.case_of(number)
        generator = np.random.default_rng((self.seed, 1, number))
        patch, source = self.patch_size, self.source_size
        kept = normal = None
        if len(patch) == 2:
            normal = NORMAL_AXIS[self.planes[generator.integers(len(self.planes))]]
            patch = tuple(np.insert(patch, normal, 1).tolist())
            source = tuple(np.insert(source, normal, 1).tolist())
            kept = self.slices_of(case, normal)
        # Whole numbers of patches on either side of the share: an exact share, evenly spread.
        before, after = (int(self.foreground_fraction * (number + n) + 1e-9) for n in (0, 1))
        centre = None
        if after > before:
            centre = _foreground_voxel(_within(case.foreground, kept, normal), generator)
        if centre is None and case.labelled is not None:
            centre = _foreground_voxel(_within({0: case.labelled}, kept, normal), generator)
        starts = [
            _start(have, want, None if centre is None else centre[axis], generator)
            for axis, (have, want) in enumerate(zip(case.shape, patch, strict=True))
        ]
        if kept is not None and centre is None:
            starts[normal] = int(kept[generator.integers(len(kept))])
        wider = [
            start - (full - want) // 2
            for start, full, want in zip(starts, source, patch, strict=True)
        ]
        return case, wider, normal

    def batches(
        self, first: int, stop: int, pin: bool = False, workers: int = 0
    ) -> Generator[Batch, None, None]:
        """Yield the batches of the steps first .. stop-1, cut while others are being used.

        pin: in page-locked memory, from which a GPU copies on its own.
        workers: processes that cut them, two steps ahead each; 0: a thread of this process, one ahead.
        Whoever cuts them, they are the same. Raises InputError where a process was killed.
        """
        steps = range(first, stop)
        if workers:
            yield from _by_processes(self, steps, pin, workers)
            return

        def prepare(step: int) -> Batch:
            batch = self.batch(step)
            return batch.pin_memory() if pin else batch

        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting = ahead.submit(prepare, first) if steps else None
            for step in steps:
                batch = waiting.result()
                waiting = ahead.submit(prepare, step + 1) if step + 1 < stop else None
                yield batch


def with_slices(cases: Sequence[TrainingCase], slices: Slices) -> list[TrainingCase]:
    """Keep the cases that have a slice to train on: of `keep: foreground`, those with a structure.

    The others are named. Raises InputError where none is left.
    """
    if slices.keep != "foreground":
        return list(cases)
    kept = [case for case in cases if case.foreground]
    empty = [case.name for case in cases if not case.foreground]
    if not kept:
        raise InputError(
            f"slices.keep: foreground, but none of the {len(cases)} training cases holds a structure; "
            "give others, or keep: all"
        )
    if empty:
        log.warning(
            "slices.keep is foreground: %d of %d training cases hold no structure and are left out (%s%s)",
            len(empty),
            len(cases),
            ", ".join(empty[:5]),
            ", ..." if len(empty) > 5 else "",
        )
    return kept


def _within(
    foreground: dict[int, np.ndarray], kept: np.ndarray | None, normal: int | None
) -> dict[int, np.ndarray]:
    """Return the voxels that lie in slices that are kept (None: all), of the classes that have some."""
    if kept is None:
        return foreground
    inside = {n: voxels[np.isin(voxels[:, normal], kept)] for n, voxels in foreground.items()}
    return {n: voxels for n, voxels in inside.items() if len(voxels)}


class _Steps(Dataset):
    """Offer the batches of a sampler by step, as torch's loader asks for them in another process."""

    def __init__(self, sampler: Sampler):
        self.sampler = sampler

    def __getitem__(self, step: int) -> Batch | InputError:
        try:
            return self.sampler.batch(step)
        except InputError as error:
            # Raised in the training's process: torch's loader would add its own stack trace.
            return error


def _by_processes(sampler: Sampler, steps: range, pin: bool, workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        _Steps(sampler),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_ignore_requests,
        generator=torch.Generator(),  # and not the one that dropout draws from
        # A forked process shares the memory of cases that are held.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    started = set(multiprocessing.active_children()) - others
    try:
        with worker_failures(workers):
            for batch in iterator:
                if isinstance(batch, InputError):
                    raise batch
                yield batch
    finally:
        # Here, and not once nothing refers to it any more: an error does, until after Python has begun to wait for them.
        try:
            iterator._shutdown_workers()
        finally:
            for process in started:
                process.kill()  # ended by now, as a rule


@contextmanager
def worker_failures(workers: int) -> Iterator[None]:
    """Turn what torch's loader raises where a process that cuts patches was killed into a sentence.

    It raises at the next patch, or out of whatever the main thread does when that process ends. workers: how many there are.
    Raises InputError.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # A patch that a process had not handed over ends with it: its connection is refused, reset or at its end.
        if not workers or (
            isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)
        ):
            raise
        reason = " ".join(str(error).split("Original Traceback")[0].split())
        raise InputError(
            f"one of {workers} processes that cut patches has ended ({reason or type(error).__name__}); a killed one "
            "most often means too little memory: raise memory_mb, or lower workers"
        ) from None


def _ignore_requests(_: int) -> None:
    """Ignore requests to stop: they reach all processes of a job, and its first one ends the others."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _foreground_voxel(
    foreground: dict[int, np.ndarray], generator: np.random.Generator
) -> np.ndarray | None:
    """Draw a voxel of a structure; None where there is none."""
    if not foreground:
        return None
    classes = sorted(foreground)
    voxels = foreground[classes[generator.integers(len(classes))]]
    return voxels[generator.integers(len(voxels))]


def _start(have: int, want: int, centre: int | None, generator: np.random.Generator) -> int:
    """Return the first voxel of a patch along an axis: about `centre`, or anywhere; inside where it fits.

    An axis shorter than the patch lies in its middle, as in prediction.
    """
    drawn = int(generator.integers(max(have - want, 0) + 1))
    if have <= want:
        return -((want - have) // 2)
    if centre is None:
        return drawn
    return min(max(int(centre) - want // 2, 0), have - want)
