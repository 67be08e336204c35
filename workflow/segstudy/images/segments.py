"""Names of label values that an image file's own header gives.

3D Slicer writes a segment's name and value into the header of a `.seg.nrrd`, in the order in which
they were drawn: the values of two patients often differ. TotalSegmentator and others write a table
of labels into the header extension of NIfTI (the XML of GIFTI and CIFTI).
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from segstudy.errors import InputError
from segstudy.images.headers import open_nifti, text_header
from segstudy.images.names import NIFTI


def slicer_segments(path: Path | str) -> list[tuple[str, int]]:
    """Name and value of each segment of a file of 3D Slicer, in their order; empty for other files.

    Segments of older versions, which had no values, are left out.
    """
    if not str(path).endswith(".nrrd"):
        return []
    fields = text_header(path)
    numbers = sorted(
        int(found[1]) for key in fields if (found := re.fullmatch(r"segment(\d{1,9})_name", key))
    )
    values = {n: fields.get(f"segment{n}_labelvalue", "") for n in numbers}
    named = [(fields[f"segment{n}_name"], label_value(values[n])) for n in numbers]
    return [(name, value) for name, value in named if value is not None]


def nifti_names(path: Path | str) -> dict[int, str]:
    """Value -> name of the label table in a NIfTI file's header; empty without one."""
    if not str(path).endswith(NIFTI):
        return {}
    try:
        extensions = open_nifti(path).header.extensions
    except InputError:
        return {}  # what reads the file says why
    for extension in extensions:
        content = extension.get_content()
        if not isinstance(content, bytes) or b"<LabelTable>" not in content:
            continue
        try:
            table = ElementTree.fromstring(content.rstrip(b"\0 \n").decode("utf-8"))
        except (ElementTree.ParseError, UnicodeDecodeError):
            continue
        labels = [(label.get("Key", ""), label.text or "") for label in table.iter("Label")]
        values = [(label_value(key), name.strip()) for key, name in labels]
        return {value: name for value, name in values if value is not None}
    return {}


def label_value(text: str) -> int | None:
    """A label's value as it stands in a header or table; None where it is no whole number of a voxel's."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None
