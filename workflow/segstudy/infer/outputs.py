"""The files of images that are predicted outside a study: probabilities, the record of what is finished, volumes."""

import hashlib
import json
import threading
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segstudy.errors import InputError
from segstudy.files import make_folder, parse_json, write_table, writing
from segstudy.images.data_files import content_digest
from segstudy.images.files import Image

RECORD = ".predicted.jsonl"
SUMMARY = "summary.csv"
QUALITY = "quality.csv"
SUMMARY_COLUMNS = ("case", "structure", "label", "n_voxels", "volume_ml")
QUALITY_COLUMNS = (
    *("case", "structure", "agreement", "agreement_of", "dice", "dice_low", "dice_high"),
    *("volume_ml", "volume_low_ml", "volume_high_ml", "flagged", "reason"),
)
PROBABILITIES = "probabilities"
"""The array in a file of probabilities, as nnU-Net calls it."""
MOST_VALUE = 255
"""Highest label value beside which probabilities are written: they have a volume a value."""


@dataclass(frozen=True)
class Entry:
    """Record what was predicted of an image.

    Parameters
    ----------
    case
        Name of the image.
    key
        Digest of all that decides the files: weights, settings, code, and the image's content.
    weights
        Digest of all that but the image.
    sha256
        File in the folder -> its SHA-256.
    voxels
        Structure -> how many voxels of it were predicted.
    labels
        Structure -> its label value.
    voxel_ml
        Volume of a voxel, in mL.
    quality
        Rows of `quality.csv`, a structure each, where they were asked for.
    members
        Digest of the networks alone; empty where an earlier version did not record it.
    """

    case: str
    key: str
    weights: str
    sha256: Mapping[str, str]
    voxels: Mapping[str, int]
    labels: Mapping[str, int]
    voxel_ml: float
    quality: Sequence[Mapping[str, Any]] = ()
    members: str = ""


class Record:
    """Keep in a folder what has been predicted there, a line an image, so that nothing finished is made again."""

    def __init__(self, folder: Path) -> None:
        """Read the record of a folder, where there is one; a line that a kill cut off counts for nothing."""
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        self._begun: set[str] = set()
        self._written: dict[str, dict[str, Entry]] = {}
        self._has_judged = False
        self._lock = threading.Lock()
        self._cut_off = False
        self._read()

    def _read(self) -> None:
        """Add the entries of the file, to which other processes may have added some."""
        text = self._file.read_bytes().decode(errors="replace") if self._file.is_file() else ""
        self._cut_off = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):  # and not at U+2028, which a name may hold
            found = _of_line(line, str(self._file))
            if isinstance(found, Entry):
                self._take(found)
            elif found is not None:
                self._begun.add(found)

    def _take(self, entry: Entry) -> None:
        self.entries[entry.case] = entry
        self._begun.discard(entry.case)
        self._written.setdefault(entry.case, {}).update(dict.fromkeys(entry.sha256, entry))
        self._has_judged |= bool(entry.quality)

    @property
    def _file(self) -> Path:
        return self.folder / RECORD

    def refuse_others_files(self, files: Mapping[str, Sequence[str]]) -> None:
        """Raise InputError where a file that will be written is there, and no record tells that it is of a prediction.

        files: image -> names of its files in the folder.
        """
        found = [
            self.folder / name
            for case, names in files.items()
            if case not in self._begun
            for name in names
            if name not in self._written.get(case, ()) and (self.folder / name).exists()
        ]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise InputError(
                f"{found[0]}: is there{more}, and not of segstudy's, as far as is recorded; it would be overwritten: choose "
                "another --output, or move it"
            )

    def begin(self, case: str) -> None:
        """Note that files of an image are about to be written, so that those that a kill leaves are known."""
        self._append(json.dumps({"begun": case}, ensure_ascii=False))

    def remove_others(self, case: str, members: str, kept: Collection[str]) -> list[str]:
        """Remove the files of an image that other networks made, and that nobody has changed since.

        Else maps and probabilities would lie beside a label that they are not of.

        Parameters
        ----------
        case
            Name of the image, which is to be predicted anew.
        members
            Digest of the networks that predict it.
        kept
            Names of files in the folder that are left alone, as they will be overwritten.
        """
        removed = []
        for name, entry in self._written.get(case, {}).items():
            path = self.folder / name
            is_others = name not in kept and entry.members and entry.members != members
            if is_others and path.is_file() and _sha256(path) == entry.sha256[name]:
                path.unlink()
                removed.append(name)
                if path.parent != self.folder and not any(path.parent.iterdir()):
                    path.parent.rmdir()
        return removed

    def refuse_others_tables(self, names: Iterable[str]) -> None:
        """Raise InputError where a table that will be written is there, and no record tells that it is of a prediction."""
        for name in names:
            ours = self._has_judged if name == QUALITY else bool(self.entries)
            if not ours and (self.folder / name).exists():
                raise InputError(
                    f"{self.folder / name}: is there, and not of segstudy's, as far as is recorded; it would be overwritten: choose "
                    "another --output, or move it"
                )

    def finished(self, case: str, key: str) -> bool:
        """Tell whether the files of an image are there, made by this key and unchanged since."""
        entry = self.entries.get(case)
        return entry is not None and entry.key == key and self._unchanged(entry)

    def add(self, entry: Entry) -> None:
        """Note that an image is finished; several writers may do so at a time."""
        self._append(json.dumps(asdict(entry), sort_keys=True, ensure_ascii=False))
        with self._lock:
            self._take(entry)

    def _append(self, line: str) -> None:
        with self._lock:
            make_folder(self.folder)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n" if self._cut_off else f"{line}\n")
            self._cut_off = False

    def of_other_weights(self, weights: str) -> list[str]:
        """List the images that are in the folder, predicted by other weights or settings than these."""
        return sorted(
            entry.case
            for entry in self.entries.values()
            if entry.weights != weights
            and all((self.folder / name).is_file() for name in entry.sha256)
        )

    def left_over(self) -> list[str]:
        """List the files that earlier runs wrote of images whose prediction is another one now."""
        return sorted(
            name
            for case, names in self._written.items()
            for name in names.keys() - self.entries[case].sha256.keys()
            if (self.folder / name).is_file()
        )

    def write_summary(self) -> None:
        """Write the volumes of all images whose files are there, `summary.csv`: a row a structure of an image; likewise `quality.csv`."""
        with self._lock:
            self._read()
        rows = [
            {
                "case": entry.case,
                "structure": structure,
                "label": entry.labels[structure],
                "n_voxels": number,
                "volume_ml": f"{number * entry.voxel_ml:.6g}",
            }
            for _, entry in sorted(self.entries.items())
            if all((self.folder / name).is_file() for name in entry.sha256)
            for structure, number in entry.voxels.items()
        ]
        if rows:
            write_table(self.folder / SUMMARY, pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)))
        judged = [
            {"case": entry.case, **row}
            for _, entry in sorted(self.entries.items())
            if all((self.folder / name).is_file() for name in entry.sha256)
            for row in entry.quality
        ]
        if judged:
            table = pd.DataFrame(judged, columns=list(QUALITY_COLUMNS))
            write_table(self.folder / QUALITY, table)
        elif self._has_judged:  # earlier predictions, which are replaced
            (self.folder / QUALITY).unlink(missing_ok=True)

    def _unchanged(self, entry: Entry) -> bool:
        try:
            return all(_sha256(self.folder / name) == one for name, one in entry.sha256.items())
        except OSError:
            return False


def entry_of(
    case: str,
    keys: tuple[str, str, str],
    label: Image,
    structures: Mapping[str, int],
    files: Mapping[str, Path],
    quality: Sequence[Mapping[str, Any]] = (),
) -> Entry:
    """Return the entry of an image that is finished; keys: its `key`, `weights` and `members`; files: by their names in the folder."""
    counts = np.bincount(label.array.ravel(), minlength=max(structures.values()) + 1)
    voxel_ml = float(abs(np.linalg.det(label.affine[:3, :3]))) / 1000
    key, weights, members = keys
    return Entry(
        case,
        key,
        weights,
        sha256={name: _sha256(path) for name, path in files.items()},
        voxels={name: int(counts[value]) for name, value in structures.items()},
        labels=dict(structures),
        voxel_ml=voxel_ml,
        quality=tuple(quality),
        members=members,
    )


def image_key(weights: str, case: str, paths: Sequence[Path]) -> str:
    """Compute the key of an image's prediction, of that of weights and settings and of the content of its files."""
    contents = [
        content_digest(part, f"case {case}")
        for path in paths
        for part in (sorted(path.iterdir()) if path.is_dir() else [path])
        if not part.is_dir()
    ]
    return hashlib.sha256(repr((weights, case, contents)).encode()).hexdigest()


def check_values(structures: Mapping[str, int]) -> None:
    """Raise InputError for label values beside which no probabilities are written."""
    name = max(structures, key=structures.__getitem__)
    if structures[name] > MOST_VALUE:
        raise InputError(
            f"--probabilities: structure {name} has the label value {structures[name]}; expected at most {MOST_VALUE}, since "
            "the file has a volume a label value. Give smaller values by --structures"
        )


def write_probabilities(path: Path, probabilities: np.ndarray, values: Sequence[int]) -> None:
    """Write class probabilities as nnU-Net does, `.npz` with (class, k, j, i), which `segstudy metrics` reads.

    The same numbers give the same bytes. Memory is that of a class.

    Parameters
    ----------
    path
        Ends in `.npz`.
    probabilities
        (class, i, j, k); class 0 is the background. Written in half precision.
    values
        Label values of the classes 1, 2, ...: each goes to the place of its value, and what has none is 0.
    """
    places = {0: 0} | {value: index for index, value in enumerate(values, 1)}
    shape = (max(places) + 1, *probabilities.shape[:0:-1])
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    # Without a time in it.
    member = zipfile.ZipInfo(f"{PROBABILITIES}.npy")
    member.compress_type = zipfile.ZIP_DEFLATED
    with (
        writing(path) as temporary,
        zipfile.ZipFile(temporary, "w", compresslevel=1) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        nothing = np.zeros(shape[1:], "<f2")
        for place in range(shape[0]):
            index = places.get(place)
            volume = nothing if index is None else probabilities[index].T.astype("<f2")
            file.write(np.ascontiguousarray(volume))


def _of_line(line: str, where: str) -> Entry | str | None:
    """Return the entry of a line, or the image that it says was begun; None of a line that says neither."""
    try:
        content: Any = parse_json(line, where)
        if isinstance(content, dict) and content.keys() == {"begun"}:
            return str(content["begun"])
        return Entry(**content)
    except (InputError, TypeError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
