"""The segments that the header of a `.seg.nrrd` of 3D Slicer describes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SlicerSegment:
    """Hold a segment as a file stores it.

    Parameters
    ----------
    name
        As the person called it.
    layer
        Where its voxels are, counted from 0; segments that overlap lie in different layers.
    stored_value
        Its value in that layer.
    value
        Its value once all layers are one label map.
    """

    name: str
    layer: int
    stored_value: int
    value: int


def segments_of(fields: Mapping[str, str]) -> list[SlicerSegment]:
    """List the segments of an NRRD header, by its fields in small letters; empty for other files.

    Values that several layers share are replaced by the segments' numbers, from 1. Versions before
    4.11 wrote no values: each segment is a layer of ones.
    """
    numbers = sorted(
        int(match[1]) for key in fields if (match := re.fullmatch(r"segment(\d{1,9})_name", key))
    )
    found = []
    for place, number in enumerate(numbers):
        value = _whole(fields.get(f"segment{number}_labelvalue", ""))
        layer = _whole(fields.get(f"segment{number}_layer", ""))
        old = value is None
        found.append(
            (
                fields[f"segment{number}_name"],
                layer if layer is not None else place if old else 0,
                1 if old else value,
            )
        )
    values = [value for *_, value in found]
    several_layers = len({layer for _, layer, _ in found}) > 1
    clash = several_layers and len(set(values)) < len(values)
    return [
        SlicerSegment(name, layer, value, place if clash else value)
        for place, (name, layer, value) in enumerate(found, start=1)
    ]


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None
