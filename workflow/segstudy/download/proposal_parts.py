"""Parts of a proposal of a dataset's settings: names of label values, of structures, and of the modality."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segstudy.images import segments
from segstudy.images.files import read_label

LOOKED_INTO = 8
"""Label files that are opened for their values; what others hold is told as unsure."""
MOST_STRUCTURES = 60
"""Values without names that are each proposed as a structure; more are numbers of objects."""
_WORDS_CT = re.compile(r"(?i)(?<![a-z])(ct|hu)(?![a-z])")


@dataclass
class Proposal:
    """Hold a dataset's entry of a study file, and what nobody but its owner can tell.

    Attributes
    ----------
    entry
        Its keys and values.
    unsure
        What to look at, in words.
    cases
        How many cases the entry makes.
    subjects
        Of how many subjects.
    """

    entry: dict[str, Any]
    unsure: list[str] = field(default_factory=list)
    cases: int = 0
    subjects: int = 0

    def text(self, name: str) -> str:
        """Write the entry as lines of a study file, with what is unsure as remarks.

        name: of the dataset.
        """
        dumped = yaml.safe_dump(
            {name: self.entry},
            sort_keys=False,
            default_flow_style=None,
            width=110,
            allow_unicode=True,
        )
        remarks = [f"    # Unsure: {one}\n" for one in self.unsure]
        return "".join(f"  {line}\n" for line in dumped.splitlines()) + "".join(remarks)


def values_of(files: Sequence[Path]) -> tuple[dict[str, int | list[int]], list[str]]:
    """Name the values of label files as their headers do, and say what is unsure."""
    values: dict[int, str] = {}
    held: set[int] = set()
    in_files: Counter[str] = Counter()
    for file in files[:LOOKED_INTO]:
        if file.is_dir():
            continue
        own = segments.named_segments(file)
        in_files.update({name for name, _ in own})
        for name, value in own:
            if name not in values.values():
                values.setdefault(value, name)
        if own:
            continue  # the names are all that counts, and contours have no voxels without an image
        values |= {v: name for v, name in segments.nifti_names(file).items() if v}
        held |= set(np.unique(read_label(file).array).tolist()) - {0}
    if values:
        looked = min(len(files), LOOKED_INTO)
        some = [
            f"structures: {name} is in {count} of {looked} files"
            for name, count in sorted(in_files.items())
            if count < looked
        ]
        return {name_from(name): value for value, name in sorted(values.items())}, some
    if not held:
        return {"structure": 1}, ["structures: no label file that was opened holds any"]
    if len(held) > MOST_STRUCTURES:
        text = (
            f"structures: {len(held)} values and no names, as where each object has a number of its own: taken for one "
            "structure; write which values are which"
        )
        return {"structure": sorted(held)}, [text]
    names = {
        f"structure_{value}" if len(held) > 1 else "structure": value for value in sorted(held)
    }
    text = f"structures: no file names the values ({', '.join(map(str, sorted(held)))}); write their names"
    more = len(files) - LOOKED_INTO
    looked = f"structures: by {LOOKED_INTO} of {len(files)} label files; others may hold more"
    return names, [text, looked] if more > 0 else [text]


def modality_of(text: str) -> str | None:
    """Tell the modality that words say."""
    if _WORDS_CT.search(text):
        return "CT"
    words = (
        r"(?i)(?<![a-z])(mri?|t1|t2|flair|adc|dwi|pd)(?![a-z])|(?<![a-z])t[12][a-z]{0,3}(?![a-z])"
    )
    return "MR" if re.search(words, text) else None


def name_from(text: str) -> str:
    """Return a name as a study file has it."""
    return re.sub(r"\W+", "_", text.strip(), flags=re.ASCII).strip("_").lower()
