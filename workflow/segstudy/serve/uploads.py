"""Reading of uploads: what a file is, by its content; checked by its header, and unpacked within bounds.

The name that a client gives a file, which may be a patient's, decides nothing and is kept nowhere. What is written has names
of our own, so that no name in an archive can lead anywhere.
"""

import errno
import math
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isal import isal_zlib

from segstudy.images.signatures import (
    AFTER_VOXELS,
    DICOM_PLACE,
    GZIP,
    NIFTI_SIZES,
    is_dicom,
    is_nifti,
)
from segstudy.serve.limits import Limits
from segstudy.serve.problems import ProblemError
from segstudy.unpack import MAXIMUM_RATIO, most_unpacked

PACKED = "stored, or deflate"
"""How a zip may be packed, in words."""
EXPECTED = "NIfTI (.nii, .nii.gz), NRRD (.nrrd), or a zip of one DICOM series"
"""What a service takes, in words."""
DIRECTORY_BYTES = 400
"""Of an entry in the directory of a zip, its name among them, on average."""
HEADER_BYTES = 65_536
"""Of a header of NRRD."""
BLOCK = 1 << 20
PACKED_BLOCK = 1 << 16
"""Packed bytes that are read at a time; what lies behind the end of a member of gzip is copied, so that larger ones make many short members slow."""
ZIP, NRRD = b"PK\x03\x04", b"NRRD000"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways in which a zip may be packed: those whose least unpacked bytes a byte are bounded, as DICOM's own writers use them."""
ENCRYPTED = 0x1 | 0x40 | 0x2000
"""Flags of a zip's entry: encrypted, strongly so, and with a hidden directory."""
PATCHED = 0x20
"""Flag of a zip's entry that holds changes to another file."""
FOREIGN = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"ObjectType", "a MetaImage"),
    (b"PK\x05\x06", "a zip archive without a file"),
)
"""First bytes of what is no scan, or none that is taken."""
TYPES = {
    **dict.fromkeys((2, 256), 1),
    **dict.fromkeys((4, 512), 2),
    **dict.fromkeys((8, 16, 768), 4),
    **dict.fromkeys((64, 1024, 1280), 8),
    1: 1,
}
"""Bytes of a voxel by the `datatype` of NIfTI: one real number a voxel."""
NRRD_TYPES = (
    (r"u?int8|u?char|(un)?signed char|u?int8_t", 1),
    (r"u?short( int)?|(un)?signed short( int)?|u?int16(_t)?", 2),
    (r"u?int|(un)?signed int|u?int32(_t)?|float", 4),
    (r"u?longlong|(un)?signed long long( int)?|long long( int)?|u?int64(_t)?|double", 8),
)


@dataclass(frozen=True)
class Upload:
    """Hold a file that was looked through and lies in the folder of its prediction.

    Parameters
    ----------
    path
        The file, or the folder of a series.
    kind
        `nifti`, `nrrd` or `dicom`.
    voxels
        By the header; 0 for a series, whose slices add up when they are read.
    notes
        What its sender should know, e.g. of files that were left out.
    """

    path: Path
    kind: str
    voxels: int
    notes: tuple[str, ...] = ()


def take(source: IO[bytes], folder: Path, name: str, limits: Limits) -> Upload:
    """Look through an upload and write what it holds.

    Parameters
    ----------
    source
        The upload, which can be read from any place.
    folder
        Is there; what is written lies in it.
    name
        Of what is written, without an ending.
    limits
        What is taken.

    Raises
    ------
    ProblemError
        413 for what is larger than the limits, 415 for what is no scan, 422 for one that is damaged or not to be trusted.
    """
    source.seek(0)
    head = source.read(512)
    source.seek(0)
    if not head:
        raise ProblemError(422, "The file is empty.", "0 bytes", EXPECTED)
    if head.startswith(ZIP):
        return _take_zip(source, folder / name, limits)
    if head.startswith(GZIP):
        return _take_nifti(_Unzipped(source), folder / f"{name}.nii", limits)
    if is_nifti(head):
        return _take_nifti(source, folder / f"{name}.nii", limits)
    if head.startswith(NRRD):
        return _take_nrrd(source, folder / f"{name}.nrrd", limits)
    if is_dicom(head):
        target = folder / name
        target.mkdir()
        _copy(source, target / "00001.dcm", limits.unpacked_bytes)
        return Upload(target, "dicom", 0)
    raise ProblemError(415, "This is no scan that can be read here.", _named(head), EXPECTED)


def check_channels(uploads: Sequence[Upload], channels: Sequence[str], limits: Limits) -> None:
    """Raise ProblemError for another number of files than a model has channels, and for too many voxels in all.

    One file may hold all channels; whether it does is told when it is read.
    """
    if len(uploads) not in (1, len(channels)):
        raise ProblemError(
            422,
            "The number of files is not that of the model's channels.",
            f"{len(uploads)} files",
            f"a file for each of {', '.join(channels)}, in this order, or one with all"
            if len(channels) > 1
            else "one file",
        )
    _check_voxels(sum(one.voxels for one in uploads), limits)


# --- NIfTI ----------------------------------------------------------------------------------------


def _take_nifti(source: "IO[bytes] | _Unzipped", target: Path, limits: Limits) -> Upload:
    """Write a NIfTI file unpacked, no more of it than its header promises."""
    head = source.read(544)
    if not is_nifti(head):
        raise ProblemError(
            415,
            "The gzip file holds no NIfTI image.",
            _named(head) if head else "nothing",
            EXPECTED,
        )
    voxels, promised = _promised(head)
    _check_voxels(voxels, limits)
    _check_bytes(promised, limits)
    most = promised + AFTER_VOXELS
    with target.open("xb") as file:
        file.write(head)
        written = len(head)
        while block := source.read(BLOCK):
            written += len(block)
            if written > most:
                raise ProblemError(
                    413,
                    "The file unpacks to more than its header promises.",
                    f"more than {most:,} bytes",
                    f"{promised:,} bytes by the header",
                )
            file.write(block)
    if written < promised:
        raise ProblemError(
            422,
            "The file ends early: send it again.",
            f"{written:,} bytes",
            f"{promised:,} bytes by the header",
        )
    return Upload(target, "nifti", voxels)


def _promised(head: bytes) -> tuple[int, int]:
    """Read how many voxels a NIfTI header promises, and how many bytes with all before them."""
    order = "<" if int.from_bytes(head[:4], "little") in NIFTI_SIZES else ">"
    second = int.from_bytes(head[:4], "little" if order == "<" else "big") == 540
    if len(head) < (540 if second else 348):
        raise ProblemError(422, "The file ends within its header.", f"{len(head)} bytes", EXPECTED)
    magic = head[4:8] if second else head[344:348]
    if magic not in ((b"n+2\0",) if second else (b"n+1\0",)):
        raise ProblemError(
            415,
            "A NIfTI header without the voxels in the same file, or an older format.",
            f"magic {_words(magic)}",
            EXPECTED,
        )
    if second:
        (datatype,) = struct.unpack_from(f"{order}h", head, 12)
        dim = struct.unpack_from(f"{order}8q", head, 16)
        (offset,) = struct.unpack_from(f"{order}q", head, 168)
    else:
        dim = struct.unpack_from(f"{order}8h", head, 40)
        (datatype,) = struct.unpack_from(f"{order}h", head, 70)
        (offset,) = struct.unpack_from(f"{order}f", head, 108)
    if not 2 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise ProblemError(
            422,
            "The header has no usable shape.",
            f"dim {list(dim)}",
            "three axes, of 1 voxel or more",
        )
    if datatype not in TYPES:
        raise ProblemError(
            422,
            "The voxels are of a type that is no scan's.",
            f"datatype {datatype}",
            "a real number a voxel",
        )
    if not (math.isfinite(offset) and 0 <= offset <= 1 << 30):
        raise ProblemError(
            422,
            "The header places the voxels nowhere.",
            f"vox_offset {offset}",
            "352 or a little more",
        )
    voxels = math.prod(dim[1 : dim[0] + 1])
    return voxels, max(int(offset), 540 if second else 348) + voxels * TYPES[datatype]


class _Unzipped:
    """Read a gzip stream as what it unpacks to, a block at a time; ProblemError where it is damaged or ends early."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._member = isal_zlib.decompressobj(wbits=31)
        self._rest = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes, fewer at the end alone."""
        parts, left = [], size
        while left and not self._ended:
            data = self._rest or self._source.read(PACKED_BLOCK)
            try:
                part = self._member.decompress(data, left)
            except isal_zlib.error:
                raise ProblemError(
                    422,
                    "The compressed file is damaged: send it again.",
                    "a broken stream",
                    "a whole gzip file",
                ) from None
            if not data and not part and not self._member.eof:
                raise ProblemError(
                    422,
                    "The compressed file ends early: send it again.",
                    "no end mark",
                    "a whole gzip file",
                )
            self._rest = self._member.unconsumed_tail
            parts.append(part)
            left -= len(part)
            if self._member.eof:
                self._next_member()
        return b"".join(parts)

    def _next_member(self) -> None:
        """Go on with what follows an end mark: another member, or nothing that counts."""
        following = self._member.unused_data + self._rest
        if len(following) < len(GZIP):  # the mark of a member may lie across two blocks
            following += self._source.read(PACKED_BLOCK)
        self._ended = not following.startswith(GZIP)
        self._rest = following
        self._member = isal_zlib.decompressobj(wbits=31)


# --- NRRD -----------------------------------------------------------------------------------------


def _take_nrrd(source: IO[bytes], target: Path, limits: Limits) -> Upload:
    """Copy an NRRD file whose header promises what the limits allow, and names no other file."""
    fields = _nrrd_fields(source.read(HEADER_BYTES))
    for key in fields:
        if key.replace(" ", "") == "datafile":
            raise ProblemError(
                422,
                "The header names other files for the voxels, which are not read here.",
                "a field `data file`",
                "an NRRD file with header and voxels in one",
            )
    sizes = _whole_numbers(fields.get("sizes", ""))
    if not 2 <= len(sizes) <= 5 or min(sizes) < 1:
        raise ProblemError(
            422,
            "The header has no usable shape.",
            f"sizes {len(sizes)} axes",
            "three axes, of 1 voxel or more",
        )
    kind = " ".join(fields.get("type", "").lower().split())
    width = next((size for form, size in NRRD_TYPES if re.fullmatch(form, kind)), 0)
    if not width:
        raise ProblemError(
            422,
            "The voxels are of a type that is no scan's.",
            f"type {_words(kind.encode())}",
            "a real number a voxel",
        )
    if fields.get("encoding", "").lower() not in ("raw", "gzip", "gz"):
        raise ProblemError(
            422,
            "The voxels are encoded in a way that is not read here.",
            f"encoding {_words(fields.get('encoding', '').encode())}",
            "raw or gzip",
        )
    if any(key.replace(" ", "") in ("lineskip", "byteskip") for key in fields):
        raise ProblemError(
            422, "The header skips bytes.", "`line skip` or `byte skip`", "voxels after the header"
        )
    voxels = math.prod(sizes)
    _check_voxels(voxels, limits)
    _check_bytes(voxels * width, limits)
    source.seek(0)
    _copy(source, target, limits.unpacked_bytes)
    _check_nrrd_voxels(target, fields, voxels * width)
    return Upload(target, "nrrd", voxels)


def _check_nrrd_voxels(path: Path, fields: dict[str, str], promised: int) -> None:
    """Refuse voxels that are fewer than the header promises, or unpack to many more, before ITK asks for memory."""
    with path.open("rb") as file:
        while line := file.readline(HEADER_BYTES):
            if not line.strip():
                break
        source = file if fields["encoding"].lower() == "raw" else _Unzipped(file)
        held = 0
        while block := source.read(BLOCK):
            held += len(block)
            if held > promised + AFTER_VOXELS:
                raise ProblemError(
                    413,
                    "The file holds more than its header promises.",
                    f"more than {held:,} bytes",
                    f"{promised:,} bytes",
                )
    if held < promised:
        raise ProblemError(
            422,
            "The file ends early: send it again.",
            f"{held:,} bytes",
            f"{promised:,} bytes by the header",
        )


def _nrrd_fields(content: bytes) -> dict[str, str]:
    """Read the fields of an NRRD header, by their names in lower case."""
    header, ended, _ = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not ended:
        raise ProblemError(
            422,
            "The header of the NRRD file has no end.",
            f"no blank line within {len(content):,} bytes",
            EXPECTED,
        )
    fields: dict[str, str] = {}
    for line in header.decode("utf-8", "replace").split("\n")[1:]:
        key, separated, value = line.partition(":")
        if separated and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    return fields


def _whole_numbers(text: str) -> list[int]:
    return [int(word) for word in text.split() if re.fullmatch(r"\d{1,12}", word)]


# --- zip ------------------------------------------------------------------------------------------


def _take_zip(source: IO[bytes], folder: Path, limits: Limits) -> Upload:
    """Unpack the DICOM files of a zip, under numbers for names; other files are left out."""
    _check_directory(source, limits)
    folder.mkdir()
    try:
        with zipfile.ZipFile(source) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            _check_members(members, limits)
            kept = total = 0
            for number, member in enumerate(members, 1):
                with archive.open(member) as file:
                    head = file.read(DICOM_PLACE + 4)
                    if not is_dicom(head):
                        continue
                    kept += 1
                    total += _written(
                        head, file, folder / f"{number:05d}.dcm", limits.unpacked_bytes - total
                    )
    except NotImplementedError:  # of a later version; a RuntimeError, too
        raise ProblemError(
            422,
            "The zip archive is packed in a way that is not read here.",
            "a later version of zip",
            PACKED,
        ) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        ValueError,
        OverflowError,
        RuntimeError,
        OSError,
    ) as error:
        # A place before the file's beginning is no fault of the disk.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ProblemError(
            422,
            "The zip archive is damaged or ends early: send it again.",
            type(error).__name__,
            EXPECTED,
        ) from None
    if not kept:
        raise ProblemError(
            422,
            "The zip archive holds no DICOM file.",
            f"{len(members)} files, none of them DICOM",
            EXPECTED,
        )
    left_out = len(members) - kept
    notes = (
        (f"{left_out} of {len(members)} files in the zip are no DICOM and were left out",)
        if left_out
        else ()
    )
    return Upload(folder, "dicom", 0, notes)


def _check_directory(source: IO[bytes], limits: Limits) -> None:
    """Refuse an archive whose directory is long, which is read as a whole: forged ones would fill the memory."""
    source.seek(0, 2)
    size = source.tell()
    source.seek(max(0, size - 66_000))
    tail = source.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + 22:
        raise ProblemError(
            422, "The zip archive ends early: send it again.", "no directory at its end", EXPECTED
        )
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    locator = tail[max(0, place - 20) : place]
    if locator.startswith(b"PK\x06\x07"):  # Zip64
        source.seek(min(int.from_bytes(locator[8:16], "little"), size))
        records = (source.read(56), tail[max(0, place - 76) : place - 20])
        length = max([length, *(int.from_bytes(one[40:48], "little") for one in records)])
    if length > limits.files * DIRECTORY_BYTES:
        raise ProblemError(
            413,
            "The directory of the zip archive is too long.",
            f"{length:,} bytes",
            f"at most {limits.files * DIRECTORY_BYTES:,}, {DIRECTORY_BYTES} for each of {limits.files:,} files",
        )
    source.seek(0)


def _check_members(members: Sequence[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse an archive by what its directory says, before anything is unpacked."""
    if len(members) > limits.files:
        raise ProblemError(
            413,
            "The zip archive holds too many files.",
            f"{len(members):,}",
            f"at most {limits.files:,}",
        )
    for number, one in enumerate(members, 1):
        name = one.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
            raise ProblemError(
                422,
                "A name in the zip archive leads out of it.",
                f"file {number} has an absolute path, or `..` in it",
                "names of files below one folder",
            )
        kind = stat.S_IFMT(one.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ProblemError(
                422,
                "The zip archive holds a link or a device.",
                f"file {number} is {'a link' if kind == stat.S_IFLNK else 'a device or a pipe'}",
                "files alone",
            )
        if one.flag_bits & ENCRYPTED:
            raise ProblemError(
                422,
                "The zip archive is encrypted.",
                f"file {number} needs a password",
                "no password",
            )
        if one.compress_type not in METHODS or one.flag_bits & PATCHED:
            method = "patch" if one.flag_bits & PATCHED else _method(one.compress_type)
            raise ProblemError(
                422,
                "The zip archive is packed in a way that is not read here.",
                f"file {number} by {method}",
                PACKED,
            )
    unpacked = sum(one.file_size for one in members)
    packed = sum(one.compress_size for one in members)
    _check_bytes(unpacked, limits)
    if unpacked > most_unpacked(packed):
        raise ProblemError(
            413,
            "The zip archive unpacks to far more than scans do.",
            f"{unpacked:,} bytes of {packed:,}",
            f"at most {MAXIMUM_RATIO} times as many",
        )


def _method(number: int) -> str:
    """Return what a way of packing is called, by its number in the directory of a zip."""
    return zipfile.compressor_names.get(number, f"method {number}")


def _written(head: bytes, file: IO[bytes], target: Path, most: int) -> int:
    """Write a member of a zip, and return its bytes; what its directory says of them may be a lie."""
    with target.open("xb") as written:
        written.write(head)
        size = len(head)
        while block := file.read(BLOCK):
            size += len(block)
            if size > most:
                raise ProblemError(
                    413,
                    "The zip archive unpacks to more than is taken.",
                    f"more than {most:,} bytes",
                    "fewer",
                )
            written.write(block)
    return size


# --- shared ---------------------------------------------------------------------------------------


def _copy(source: IO[bytes], target: Path, most: int) -> None:
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, BLOCK)
        if file.tell() > most:
            raise ProblemError(
                413, "The file is too large.", f"{file.tell():,} bytes", f"at most {most:,} bytes"
            )


def _check_voxels(voxels: int, limits: Limits) -> None:
    if voxels > limits.voxels:
        raise ProblemError(
            413,
            "The image has too many voxels.",
            f"{voxels:,} by its header",
            f"at most {limits.voxels:,}",
        )


def _check_bytes(size: int, limits: Limits) -> None:
    if size > limits.unpacked_bytes:
        raise ProblemError(
            413,
            "The image is too large once it is unpacked.",
            f"{size:,} bytes",
            f"at most {limits.unpacked_bytes:,} bytes",
        )


def _named(head: bytes) -> str:
    """Return what a file is, as far as its first bytes tell."""
    known = next((what for start, what in FOREIGN if head.startswith(start)), None)
    if known:
        return known
    if head.lstrip()[:1] in (b"<", b"{"):
        return "a web page or a text"
    return f"a file that begins with {_words(head[:8])}"


def _words(content: bytes) -> str:
    """Return bytes as printable characters, with dots for others."""
    return repr("".join(chr(one) if 32 <= one < 127 else "." for one in content[:40]))
