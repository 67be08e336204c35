"""TensorBoard's event files of a training: its history, epoch by epoch."""

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
"""Folder of the event files, beside the weights."""
GROUPS = ("validation_dice_", "training_dice_")
"""Beginnings of columns whose curves TensorBoard shows side by side."""


class Events:
    """Write the rows of a history, from its first on: a training that goes on writes those before anew."""

    def __init__(self, output: Path, rows: Iterable[Mapping[str, float]] = ()) -> None:
        """Begin the files of a training in `output`, with the rows that are there already."""
        folder = output / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, float]) -> None:
        """Write a row, each figure under its column's name by `epoch`; what was not measured is left out."""
        for name, value in row.items():
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(tag(name), value, int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        """End the files."""
        self._writer.close()


def tag(column: str) -> str:
    """Return the name of a column's curve: `validation_dice/heart` for `validation_dice_heart`."""
    group = next((group for group in GROUPS if column.startswith(group)), "")
    return f"{group[:-1]}/{column.removeprefix(group)}" if group else column
