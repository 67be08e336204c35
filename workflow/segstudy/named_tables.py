"""Reading tables of results whose cases, models or structures may be called `001` or `NA`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("dataset", "dataset_b", "model", "model_a", "model_b", "structure", "metric", "case")
"""Columns of names."""


def read_named(
    path: Path | str, text: Iterable[str] = NAMES, separator: str = ","
) -> "pd.DataFrame":
    """Read a table whose columns of names are text whatever they look like; only an empty field is undefined.

    Parameters
    ----------
    path
        The table.
    text
        Columns that are text, as far as they are there.
    separator
        Between its columns.
    """
    import pandas as pd

    return pd.read_csv(
        path, sep=separator, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""]
    )
