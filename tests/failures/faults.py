"""Every file of a folder, and files broken on purpose, through the audit as an image and as a label.

    python tests/failures/faults.py FOLDER ...

Prints a table: file, role, verdict, what the audit says. As an image a file is audited with a sound
label on its own grid, as a label with a sound image, so that only the file itself is judged. Labels
may hold the values 1 and 2.
"""

import argparse
import gzip
import struct
import tempfile
import traceback
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from segstudy.download.audit import audit
from segstudy.download.layouts import list_cases
from segstudy.errors import InputError
from segstudy.study import Dataset

SHAPE = (12, 10, 8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


@dataclass(frozen=True)
class Outcome:
    """verdict: good, warned, refused, or trace where the audit itself broke down."""

    verdict: str
    message: str


def dataset(table: Path) -> Dataset:
    return Dataset.model_validate(
        {
            "source": {"layout": "table", "path": str(table)},
            "modality": "MR",
            "structures": {"one": 1, "two": 2},
        }
    )


def partner(file: Path, role: str, folder: Path) -> Path:
    """What the file is audited with: a sound label for an image, a sound image for a label."""
    shape, affine = SHAPE, AFFINE
    with suppress(Exception):  # Nothing to read, or no grid: any will do.
        found = nibabel.load(file)
        if len(found.shape) >= 3 and np.prod(found.shape[:3], dtype=float) < 1e8:
            nibabel.Nifti1Image(np.zeros(found.shape[:3], np.uint8), found.affine)
            shape, affine = found.shape[:3], found.affine
    array = np.zeros(shape, np.uint8)
    if role == "image":
        array[tuple(slice(size // 3, size // 3 + 2) for size in shape)] = 1
        array[-1, -1, -1] = 2
    else:
        array = np.random.default_rng(0).integers(0, 200, shape).astype(np.int16)
    written = folder / f"partner_{role}.nii"
    nibabel.save(nibabel.Nifti1Image(array, affine), written)
    return written


def judge(file: Path, role: str) -> Outcome:
    """Audit a file by itself, in the role of an image or of a label."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = partner(file, role, folder)
        image, label = (file, other) if role == "image" else (other, file)
        table = folder / "cases.tsv"
        table.write_text(f"case\timage\tlabel\nx\t{image}\t{label}\n")
        try:
            settings = dataset(table)
            cases, problems = audit(list_cases(settings), settings)
        except InputError as error:
            return Outcome("refused", str(error))
        except Exception:
            return Outcome("trace", traceback.format_exc())
    told = "; ".join(problem.problem for problem in problems)
    return Outcome(("warned" if told else "good") if cases else "refused", told)


def break_files(folder: Path) -> list[Path]:
    """Files with one fault each, named after it."""
    whole = np.random.default_rng(1).integers(0, 3, SHAPE)

    def image(array) -> bytes:
        return nibabel.Nifti1Image(array, AFFINE).to_bytes()

    sound = image(whole.astype(np.uint8))
    floats = whole.astype(np.float32)
    infinite, missing = floats.copy(), floats.copy()
    infinite[0, 0, 0], missing[0, 0, 0] = np.inf, np.nan
    huge = bytearray(sound)
    huge[40:56] = struct.pack("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1)
    flat = bytearray(image(floats))
    flat[312:328] = bytes(16)  # the affine's third row
    contents = {
        "zero_bytes.nii": b"",
        "zero_bytes.nii.gz": b"",
        "text.nii": b"this is no image",
        "text.nii.gz": gzip.compress(b"this is no image"),
        "not_gzip.nii.gz": sound,
        "header_alone.nii": sound[:352],
        "half.nii": sound[: len(sound) // 2],
        "half.nii.gz": gzip.compress(sound)[:200],
        "flipped_byte.nii.gz": _flipped(gzip.compress(sound)),
        "claims_33_terabytes.nii": bytes(huge),
        "claims_33_terabytes.nii.gz": gzip.compress(bytes(huge)),
        "infinite.nii.gz": gzip.compress(image(infinite)),
        "not_a_number.nii.gz": gzip.compress(image(missing)),
        "halves.nii.gz": gzip.compress(image(floats / 2)),
        "two_dimensions.nii.gz": gzip.compress(image(floats[..., 0])),
        "four_dimensions.nii.gz": gzip.compress(image(np.stack([floats] * 3, axis=-1))),
        "complex.nii.gz": gzip.compress(image(floats.astype(np.complex64))),
        "flat_affine.nii.gz": gzip.compress(bytes(flat)),
        "empty.nii.gz": gzip.compress(image(np.zeros(SHAPE, np.uint8))),
        "unknown_value.nii.gz": gzip.compress(image((whole + 5).astype(np.uint8))),
        "negative_value.nii.gz": gzip.compress(image((whole - 1).astype(np.int16))),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    bomb = folder / "bomb.nii.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(sound)
        for _ in range(2000):
            file.write(bytes(1_000_000))
    loop = folder / "loop.nii.gz"
    loop.symlink_to(loop)
    (folder / "folder.nii.gz").mkdir()
    return sorted([*(folder / name for name in contents), bomb, loop, folder / "folder.nii.gz"])


def _flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


def table(files: Iterable[Path]) -> list[tuple[Path, str, Outcome]]:
    warnings.simplefilter("ignore")  # nibabel's, of the files that are to be broken
    return [(file, role, judge(file, role)) for file in files for role in ("image", "label")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = break_files(Path(name))
        for folder in options.folders:
            files += sorted(path for path in folder.rglob("*") if path.is_file())
        print("| file | role | verdict | message |")
        print("|---|---|---|---|")
        broken = 0
        for file, role, outcome in table(files):
            message = outcome.message.replace(str(name), "").replace("\n", " ").replace("|", "/")
            print(f"| {file.name} | {role} | {outcome.verdict} | {message[:160]} |", flush=True)
            broken += outcome.verdict == "trace"
    print(f"{broken} stack traces")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
