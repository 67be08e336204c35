"""Uploads that a service must refuse, each with the status and a word of the sentence that tells why."""

import gzip
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import nibabel
import numpy as np

SHAPE = (12, 10, 8)


def nifti(shape=SHAPE, dtype=np.int16) -> bytes:
    """A NIfTI file as bytes, voxels of 1 mm."""
    return nibabel.Nifti1Image(np.zeros(shape, dtype), np.eye(4)).to_bytes()


def forged(place: int, form: str, *values) -> bytes:
    """A NIfTI file with other numbers at a place of its header."""
    content = bytearray(nifti())
    struct.pack_into(form, content, place, *values)
    return bytes(content)


def nrrd(
    fields: str = "", sizes="12 10 8", kind="short", encoding="raw", content: bytes | None = None
) -> bytes:
    """An NRRD file as bytes; fields: further lines of the header."""
    header = (
        f"NRRD0005\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: {encoding}\n{fields}\n"
    )
    return header.encode() + (bytes(12 * 10 * 8 * 2) if content is None else content)


def dicom(size: int = 200) -> bytes:
    """Bytes that begin as a DICOM file does."""
    return bytes(128) + b"DICM" + bytes(size)


def zipped(
    files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda one: None
) -> bytes:
    """A zip as bytes; change: of each entry."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            change(entry)
            archive.writestr(entry, data)
    return content.getvalue()


def _link(entry: zipfile.ZipInfo) -> None:
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16


def _by_bzip2(entry: zipfile.ZipInfo) -> None:
    entry.compress_type = zipfile.ZIP_BZIP2


def _encrypted() -> bytes:
    content = bytearray(zipped({"a.dcm": dicom()}))
    content[6] |= 1  # the flag of its file, and that in the directory
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def _broken() -> bytes:
    content = bytearray(zipped({"a.dcm": dicom(5000)}))
    content[60] ^= 0xFF
    return bytes(content)


def _packed(method: int) -> bytes:
    """A zip that is packed in another way than its directory says, by `method`, so that reading it would be an error of its own."""
    content = bytearray(zipped({"a.dcm": dicom(5000)}))
    struct.pack_into("<H", content, 8, method)
    struct.pack_into("<H", content, content.rfind(b"PK\x01\x02") + 10, method)
    return bytes(content)


def _flagged(flag: int) -> bytes:
    """A zip with a flag in the directory."""
    content = bytearray(zipped({"a.dcm": dicom()}))
    place = content.rfind(b"PK\x01\x02") + 8
    struct.pack_into("<H", content, place, flag)
    return bytes(content)


def _later() -> bytes:
    """A zip that asks for a version of zip that there is not."""
    content = bytearray(zipped({"a.dcm": dicom()}))
    content[content.rfind(b"PK\x01\x02") + 6] = 99
    return bytes(content)


def misplaced(size: int = 200) -> bytes:
    """A zip whose directory places its file before the beginning."""
    content = bytearray(zipped({"a.dcm": dicom(size)}))
    place = content.rfind(b"PK\x05\x06") + 16
    (offset,) = struct.unpack_from("<I", content, place)
    struct.pack_into("<I", content, place, offset + 1000)
    return bytes(content)


def _lying() -> bytes:
    """A zip whose directory tells of fewer bytes than it unpacks to."""
    content = bytearray(zipped({"a.dcm": dicom(3_000_000)}))
    for place in (22, content.rfind(b"PK\x01\x02") + 24):
        struct.pack_into("<I", content, place, 1000)
    return bytes(content)


def _long_directory() -> bytes:
    content = bytearray(zipped({"a.dcm": dicom()}))
    struct.pack_into("<I", content, content.rfind(b"PK\x05\x06") + 12, 4_000_000_000)
    return bytes(content)


def _gzip_of_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(nifti())]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


@dataclass(frozen=True)
class Fault:
    """An upload that is refused. told: a part of the sentence."""

    name: str
    content: bytes
    status: int
    told: str


def faults() -> list[Fault]:
    """All uploads that are refused."""
    whole = gzip.compress(nifti(dtype=np.float32) + bytes(range(256)) * 20, mtime=0)
    return [
        Fault("no byte", b"", 422, "empty"),
        Fault("a PNG picture", b"\x89PNG\r\n\x1a\n" + bytes(100), 415, "no scan"),
        Fault("a PDF document", b"%PDF-1.7\n" + bytes(100), 415, "no scan"),
        Fault("a web page", b"<!DOCTYPE html><html>", 415, "no scan"),
        Fault("a program", b"\x7fELF" + bytes(300), 415, "no scan"),
        Fault("a gzip file of a text", gzip.compress(b"hello"), 415, "no NIfTI"),
        Fault("gzip, cut off", whole[:-40], 422, "ends early"),
        Fault("gzip, damaged", whole[:40] + bytes(8) + whole[48:], 422, "damaged"),
        Fault("gzip bomb: 64 MB after the voxels", _gzip_of_zeros(64 << 20), 413, "promises"),
        Fault("NIfTI, cut off", nifti()[:-100], 422, "ends early"),
        Fault("NIfTI, cut off within its header", nifti()[:200], 422, "within its header"),
        Fault("NIfTI header of a pair", forged(344, "4s", b"ni1\0"), 415, "without the voxels"),
        Fault(
            "NIfTI of 30,000 x 30,000 x 30,000 voxels",
            forged(42, "<3h", *[30_000] * 3),
            413,
            "too many voxels",
        ),
        Fault("NIfTI with an axis of -5", forged(42, "<h", -5), 422, "no usable shape"),
        Fault("NIfTI of colours", forged(70, "<h", 128), 422, "type"),
        Fault("NIfTI whose voxels begin at NaN", forged(108, "<f", float("nan")), 422, "nowhere"),
        Fault("NRRD that names a file", nrrd("data file: /etc/passwd\n"), 422, "other files"),
        Fault("NRRD that names a list of files", nrrd("datafile: LIST\n"), 422, "other files"),
        Fault("NRRD of 10^12 voxels", nrrd(sizes="10000 10000 10000"), 413, "too many voxels"),
        Fault("NRRD, cut off", nrrd()[:-50], 422, "ends early"),
        Fault("NRRD without an end of the header", b"NRRD0005\ntype: short\n", 422, "no end"),
        Fault("NRRD of blocks", nrrd(kind="block"), 422, "type"),
        Fault("NRRD in text", nrrd(encoding="ascii"), 422, "encoded"),
        Fault("NRRD that skips bytes", nrrd("byte skip: -1\n"), 422, "skips"),
        Fault(
            "NRRD bomb", nrrd(encoding="gzip", content=_gzip_of_zeros(64 << 20)), 413, "promises"
        ),
        Fault("zip with ../", zipped({"../../etc/cron.d/x.dcm": dicom()}), 422, "leads out"),
        Fault("zip with an absolute path", zipped({"/etc/x.dcm": dicom()}), 422, "leads out"),
        Fault("zip with ..\\", zipped({"..\\x.dcm": dicom()}), 422, "leads out"),
        Fault("zip with a link", zipped({"a.dcm": b"/etc/passwd"}, _link), 422, "link"),
        Fault("zip bomb: 200 MB of zeros", zipped({"a.dcm": bytes(200_000_000)}), 413, "far more"),
        Fault(
            "zip of 5,001 files",
            zipped({f"{n}.dcm": b"" for n in range(5_001)}),
            413,
            "too many files",
        ),
        Fault("zip with a forged, long directory", _long_directory(), 413, "directory"),
        Fault("zip that tells fewer bytes than it has", _lying(), 422, "damaged"),
        Fault(
            "zip without DICOM",
            zipped({"notes.txt": b"hello", "scan.jpg": b"\xff\xd8\xff"}),
            422,
            "no DICOM",
        ),
        Fault("zip within a zip", zipped({"a.zip": zipped({"a.dcm": dicom()})}), 422, "no DICOM"),
        Fault("zip, encrypted", _encrypted(), 422, "encrypted"),
        Fault("zip, strongly encrypted", _flagged(0x40), 422, "encrypted"),
        *(
            Fault(f"zip packed by {name}", _packed(method), 422, "packed in a way")
            for name, method in {
                "deflate64": 9,
                "bzip2": 12,
                "lzma": 14,
                "zstd": 93,
                "method 77": 77,
            }.items()
        ),
        Fault(
            "zip packed by bzip2, whole",
            zipped({"a.dcm": dicom()}, _by_bzip2),
            422,
            "packed in a way",
        ),
        Fault("zip of changes to files", _flagged(0x20), 422, "packed in a way"),
        Fault("zip of a later version", _later(), 422, "packed in a way"),
        Fault("zip that places its file nowhere", misplaced(), 422, "damaged"),
        Fault("zip, damaged", _broken(), 422, "damaged"),
        Fault("zip, cut off", zipped({"a.dcm": dicom()})[:-30], 422, "ends early"),
    ]
