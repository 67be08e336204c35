"""Arrays that several processes of a machine hold once: one writes them into a file in memory, and all map it."""

import mmap
import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

ALIGNMENT = 64
"""Bytes at whose multiples an array begins, as vector instructions like it."""


@dataclass(frozen=True)
class Stored:
    """Hold an item whose arrays lie in a file: the rest of it, and the bytes of the file that are each array's."""

    rest: bytes
    places: tuple[tuple[int, int], ...]


def store(items: Iterable[Any], file: BinaryIO) -> list[Stored]:
    """Write the arrays inside some items into a file, one item after the other, so that only one of them is held twice."""
    stored = []
    for item in items:
        arrays: list[pickle.PickleBuffer] = []
        rest = pickle.dumps(item, protocol=5, buffer_callback=arrays.append)
        places = []
        for array in arrays:
            file.write(bytes(-file.tell() % ALIGNMENT))
            first = file.tell()
            file.write(array.raw())
            places.append((first, file.tell()))
        stored.append(Stored(rest, tuple(places)))
    file.flush()
    return stored


def restore(stored: Iterable[Stored], file: BinaryIO) -> list[Any]:
    """Return the items; their arrays are the file's own memory, and cannot be written to."""
    size = os.fstat(file.fileno()).st_size
    content = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    return [
        pickle.loads(item.rest, buffers=[content[first:end] for first, end in item.places])
        for item in stored
    ]
