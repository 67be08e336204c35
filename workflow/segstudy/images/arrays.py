"""Prepared cases on disk, in a form that patches are read from.

A case is four files: `<case>.image.b2nd` float32 (channel, x, y, z), `<case>.label.b2nd` uint8
(x, y, z), `<case>.foreground.b2nd` int32 (n, 4) rows of class, x, y, z (class 0: a sample of all
labelled voxels, where some are ignored), and `<case>.json` with the grid, the way back, the
moments of the intensities and checksums. b2nd is the n-dimensional format of Blosc2: compressed
chunks of 64^3 voxels in blocks of 16^3, one channel a chunk, so that a patch or a slice in any
plane costs only the blocks that it touches. Images are stored as full float32, so that training
and prediction see the same values. The same case gives the same bytes.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from segstudy.errors import InputError
from segstudy.files import read_json, write_json, writing
from segstudy.images.names import seed_of
from segstudy.images.normalise import moments
from segstudy.images.plan import Restore
from segstudy.images.prepare import IGNORED

FOREGROUND_SAMPLE = 5000
_CHUNK, _BLOCK = 64, 16
_PARTS = {"image": np.float32, "label": np.uint8, "foreground": np.int32}


_UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""Exceptions of a description with a missing or unusable entry."""


class CompressedArray:
    """Read an array in a file by slices, as in numpy: `image[:, x0:x1, y0:y1, z0:z1]`.

    Only the blocks that a slice touches are decompressed.

    Parameters
    ----------
    path
        A `.b2nd` file.
    shape
        The shape that the array was written with.
    dtype
        The type that the array was written with.
    checksum
        CRC-32 of the file, compared once, before the first slice is read.

    Raises
    ------
    InputError
        From slicing, where the file is absent, damaged, or of another shape or type.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: Any, checksum: int):
        """Store where the array lies; the file is opened by the first slice."""
        self.path = path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.checksum = checksum

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a slice."""
        try:
            return self._stored[key]
        except (RuntimeError, OSError) as error:
            raise self._damaged(error) from None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the whole array."""
        return np.asarray(self[...], dtype)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file: a worker process opens its own."""
        return {key: value for key, value in self.__dict__.items() if key != "_stored"}

    @cached_property
    def _stored(self) -> blosc2.NDArray:
        try:
            # Blosc2 would unpack a changed byte into other voxels without a word.
            if _crc32(self.path) != self.checksum:
                raise self._damaged("its checksum is not the one it was written with")
            # One thread, or BLOSC_NTHREADS, which `--threads` sets and Blosc2 reads by itself.
            stored = blosc2.open(str(self.path), mode="r", dparams=blosc2.DParams(nthreads=1))
        except FileNotFoundError:
            raise InputError(
                f"{self.path}: no such file; run `segstudy preprocess resample` again"
            ) from None
        except (RuntimeError, OSError, ValueError) as error:
            raise self._damaged(error) from None
        if stored.shape != self.shape or stored.dtype != self.dtype:
            raise self._damaged(
                f"{stored.shape} of {stored.dtype}, expected {self.shape} of {self.dtype}"
            )
        return stored

    def _damaged(self, reason: object) -> InputError:
        return InputError(
            f"{self.path}: damaged array ({' '.join(str(reason).split())}); remove its folder and "
            "run `segstudy preprocess resample` again"
        )


class CaseArrays:
    """Open a prepared case; arrays are read only when they are used.

    Parameters
    ----------
    path
        The case's JSON file, with its arrays beside it.

    Attributes
    ----------
    image : CompressedArray
        float32 (channel, x, y, z) in RAS, cropped and resampled, not normalised.
    label : CompressedArray
        uint8 (x, y, z), class indices, IGNORED where nobody has labelled.

    Raises
    ------
    InputError
        For a JSON file with a missing or unusable entry.
    """

    def __init__(self, path: Path):
        """Read the JSON file."""
        content = read_json(path)
        try:
            self.dataset: str = content["dataset"]
            self.case: str = content["case"]
            self.spacing_mm: tuple[float, ...] = tuple(content["spacing_mm"])
            self.restore = Restore.from_dict(content["restore"])
            self.moments: list[dict[str, Any]] = content["moments"]
            self._present: list[int] = content["classes"]
            channels, count = int(content["channels"]), int(content["foreground"])
            checksums = {part: int(content["checksums"][part]) for part in _PARTS}
            _check_name(path, self.case, self.dataset)
        except _UNUSABLE as error:
            raise InputError(
                f"{path}: damaged description of a case ({type(error).__name__}: {error}); remove "
                "its folder and run `segstudy preprocess resample` again"
            ) from None
        self.shape: tuple[int, int, int] = self.restore.shape
        shapes = {
            "image": (channels, *self.shape),
            "label": self.shape,
            "foreground": (count, 4),
        }
        self.image, self.label, self._foreground = (
            CompressedArray(
                path.with_name(f"{self.case}.{part}.b2nd"), shapes[part], kind, checksums[part]
            )
            for part, kind in _PARTS.items()
        )

    @cached_property
    def foreground(self) -> dict[int, np.ndarray]:
        """Read at most 5000 voxels (n, 3) of each class that the case holds, for oversampling."""
        rows = self._sampled
        return {index: rows[rows[:, 0] == index, 1:] for index in self._present}

    @cached_property
    def labelled(self) -> np.ndarray | None:
        """Read at most 5000 voxels (n, 3) that are not ignored; None where no voxel is ignored."""
        voxels = self._sampled[self._sampled[:, 0] == 0, 1:]
        return voxels if len(voxels) else None

    @cached_property
    def _sampled(self) -> np.ndarray:
        return self._foreground[...]


def _check_name(path: Path, case: Any, dataset: Any) -> None:
    """Raise ValueError where a JSON file describes another case than its name says."""
    if case != path.stem or not isinstance(dataset, str):
        raise ValueError(f"it is of case {str(case)[:80]!r} of {str(dataset)[:80]!r}")


def write_arrays(
    folder: Path | str,
    dataset: str,
    case: str,
    image: np.ndarray,
    label: np.ndarray,
    restore: Restore,
) -> None:
    """Write a prepared case into a folder.

    Samples of voxels are drawn with a seed from the names of dataset and case.

    Parameters
    ----------
    folder
        The folder of the case's shard.
    dataset, case
        Names.
    image
        float32 (channel, x, y, z).
    label
        Class indices or IGNORED, uint8 (x, y, z).
    restore
        The way back from this grid to the stored one.

    Raises
    ------
    ValueError
        Where image, label and `restore` differ in shape.
    """
    folder = Path(folder)
    if image.shape[1:] != label.shape or label.shape != tuple(restore.shape):
        raise ValueError(f"image {image.shape}, label {label.shape}, grid {restore.shape}")
    sample = sample_foreground(label, dataset, case)
    labelled = sample_labelled(label, dataset, case)
    rows = [
        np.column_stack([np.full(len(voxels), index), voxels])
        for index, voxels in [*sample.items(), *([] if labelled is None else [(0, labelled)])]
    ]
    arrays = {
        "image": image,
        "label": label,
        "foreground": np.concatenate(rows or [np.zeros((0, 4))]),
    }
    checksums = {
        part: _write(folder / f"{case}.{part}.b2nd", np.asarray(arrays[part], kind))
        for part, kind in _PARTS.items()
    }
    write_json(
        folder / f"{case}.json",
        {
            "dataset": dataset,
            "case": case,
            "channels": len(image),
            "classes": list(sample),
            "foreground": len(arrays["foreground"]),
            "checksums": checksums,
            "moments": moments(image),
            "spacing_mm": list(restore.grid.spacing_mm),
            "restore": restore.to_dict(),
        },
    )


def open_arrays(folders: Iterable[Path | str]) -> dict[tuple[str, str], CaseArrays]:
    """Open the prepared cases of some folders.

    Returns
    -------
    dict
        (dataset, case) -> `CaseArrays`, sorted by these names.

    Raises
    ------
    InputError
        For a folder without a prepared case, and for a case that is prepared twice.
    """
    prepared: dict[tuple[str, str], CaseArrays] = {}
    for path in _descriptions(folders, "prepared case", "resample"):
        arrays = CaseArrays(path)
        key = (arrays.dataset, arrays.case)
        if key in prepared:
            raise InputError(f"{path}: case {arrays.case} of {arrays.dataset} is prepared twice")
        prepared[key] = arrays
    return dict(sorted(prepared.items()))


def _descriptions(folders: Iterable[Path | str], what: str, step: str) -> Iterator[Path]:
    """Yield the JSON files of folders that `segstudy preprocess <step>` wrote.

    Raises InputError for a folder without one; `what` names its expected content.
    """
    for folder in folders:
        paths = sorted(Path(folder).glob("*.json"))
        if not paths:
            raise InputError(
                f"{folder}: no {what}; expected a folder of `segstudy preprocess {step}`"
            )
        yield from paths


@dataclass(frozen=True)
class TissueMap:
    """Hold a prepared label map, from which training images are synthesised.

    Parameters
    ----------
    dataset, case
        Names.
    spacing_mm
        Voxel size along x, y, z.
    parts
        uint8 (x, y, z), a number for each label value: first the structures, 1 .. n in the order of
        the classes, then all other values. 0 is the background; IGNORED marks unlabelled voxels.
    structures
        n, the number of structures.
    tissues
        The tissue of part 1, 2, ...; parts that look alike share one.
    """

    dataset: str
    case: str
    spacing_mm: tuple[float, float, float]
    parts: CompressedArray
    structures: int
    tissues: tuple[int, ...]

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the whole map as tissues and as classes.

        Returns
        -------
        tissues, classes : numpy.ndarray
            uint8 (x, y, z) each. Ignored voxels are a tissue of their own, and IGNORED in the
            classes.
        """
        parts = self.parts[...]
        numbers, classes = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
        numbers[1 : len(self.tissues) + 1] = self.tissues
        classes[: self.structures + 1] = np.arange(self.structures + 1)
        numbers[IGNORED], classes[IGNORED] = max(self.tissues, default=0) + 1, IGNORED
        return numbers[parts], classes[parts]


def write_tissues(
    folder: Path | str,
    dataset: str,
    case: str,
    spacing_mm: Sequence[float],
    parts: np.ndarray,
    structures: int,
    tissues: Sequence[int],
) -> None:
    """Write the fields of a `TissueMap`: `<case>.parts.b2nd` and `<case>.json`."""
    folder = Path(folder)
    checksum = _write(folder / f"{case}.parts.b2nd", np.asarray(parts, np.uint8))
    write_json(
        folder / f"{case}.json",
        {
            "dataset": dataset,
            "case": case,
            "spacing_mm": list(spacing_mm),
            "shape": list(parts.shape),
            "structures": structures,
            "tissues": list(tissues),
            "checksum": checksum,
        },
    )


def open_tissues(folders: Iterable[Path | str]) -> dict[tuple[str, str], TissueMap]:
    """Open the label maps of some folders of `segstudy preprocess tissues`.

    Returns
    -------
    dict
        (dataset, case) -> `TissueMap`.

    Raises
    ------
    InputError
        For a folder without a label map, and for a damaged description.
    """
    maps = {}
    for path in _descriptions(folders, "label map", "tissues"):
        content = read_json(path)
        try:
            _check_name(path, content["case"], content["dataset"])
            parts = CompressedArray(
                path.with_name(f"{content['case']}.parts.b2nd"),
                content["shape"],
                np.uint8,
                int(content["checksum"]),
            )
            tissue_map = TissueMap(
                content["dataset"],
                content["case"],
                tuple(content["spacing_mm"]),
                parts,
                int(content["structures"]),
                tuple(content["tissues"]),
            )
        except _UNUSABLE as error:
            raise InputError(
                f"{path}: damaged description of a label map ({type(error).__name__}: {error}); "
                "remove its folder and run `segstudy preprocess tissues` again"
            ) from None
        maps[tissue_map.dataset, tissue_map.case] = tissue_map
    return maps


def sample_foreground(label: np.ndarray, dataset: str, case: str) -> dict[int, np.ndarray]:
    """Draw at most 5000 voxels (n, 3) of each class above 0 of a label (x, y, z), in ascending order.

    Ignored voxels belong to no class. The seed comes from the names of dataset and case.
    """
    generator = np.random.default_rng(seed_of(dataset, case))
    flat = label.ravel()
    positions = np.flatnonzero(flat)
    classes = flat[positions]
    present = np.flatnonzero(np.bincount(classes)[:IGNORED])
    return {
        int(index): _some(positions[classes == index], label.shape, generator) for index in present
    }


def sample_labelled(label: np.ndarray, dataset: str, case: str) -> np.ndarray | None:
    """Draw at most 5000 voxels (n, 3) of a label (x, y, z) that are not ignored; None if all count."""
    known = label.ravel() != IGNORED
    if known.all():
        return None
    generator = np.random.default_rng(seed_of(dataset, case))
    return _some(np.flatnonzero(known), label.shape, generator)


def _some(
    positions: np.ndarray, shape: Sequence[int], generator: np.random.Generator
) -> np.ndarray:
    """Draw at most 5000 of some positions in a flat array of this shape, as voxels (n, 3) in order."""
    if len(positions) > FOREGROUND_SAMPLE:
        positions = np.sort(generator.choice(positions, FOREGROUND_SAMPLE, replace=False))
    return np.column_stack(np.unravel_index(positions, shape)).astype(np.int32)


def _write(path: Path, array: np.ndarray) -> int:
    """Write an array; return the CRC-32 of its file."""
    # An image is 64^3 a chunk, and one channel; the list of voxels is one chunk.
    sizes = [1] * (array.ndim - 3) + [_CHUNK] * 3 if array.ndim > 2 else array.shape
    chunks = tuple(max(1, min(pair)) for pair in zip(sizes, array.shape, strict=True))
    blocks = tuple(min(chunk, _BLOCK) for chunk in chunks) if array.ndim > 2 else chunks
    with writing(path) as temporary, _one_thread():
        blosc2.asarray(
            np.ascontiguousarray(array),
            chunks=chunks,
            blocks=blocks,
            urlpath=str(temporary),
            mode="w",
            cparams=blosc2.CParams(
                codec=blosc2.Codec.ZSTD,
                clevel=3,
                filters=[blosc2.Filter.SHUFFLE],
                nthreads=1,
            ),
        )
        return _crc32(temporary)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hide BLOSC_NTHREADS: the number of threads is stored in the file, and Blosc2 takes it from there."""
    number = os.environ.pop("BLOSC_NTHREADS", None)
    try:
        yield
    finally:
        if number is not None:
            os.environ["BLOSC_NTHREADS"] = number


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            checksum = zlib.crc32(part, checksum)
    return checksum
