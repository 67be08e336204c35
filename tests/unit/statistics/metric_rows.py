"""Rows of metrics as `importers.read_tables` gives them, for tests of the statistics."""

import numpy as np
import pandas as pd

COLUMNS = [
    *("dataset", "model", "structure", "metric", "case", "subject", "fold", "seed", "value"),
    *("status", "n_reference_voxels", "n_predicted_voxels", "surface", "diagonal_mm", "voxel_mm3"),
]
DEFAULTS = {
    **{"dataset": "d", "structure": "heart", "metric": "dice", "subject": "", "fold": "0"},
    **{"seed": "0", "status": "", "n_reference_voxels": np.nan, "n_predicted_voxels": np.nan},
    **{"surface": "mesh", "diagonal_mm": 500.0, "voxel_mm3": np.nan},
}


def rows(**columns) -> pd.DataFrame:
    """A table of some columns, of which those given once stand in every row; the others are at their defaults."""
    return pd.DataFrame({**DEFAULTS, **columns})[COLUMNS]


def of_models(samples: dict[str, list[float]], subjects=None, **columns) -> pd.DataFrame:
    """Values of models on the same cases c000, c001, ...; subjects: of each case."""
    parts = []
    for model, values in samples.items():
        cases = [f"c{number:03d}" for number in range(len(values))]
        names = subjects if subjects is not None else ""
        parts.append(
            rows(model=model, case=cases, value=np.asarray(values, float), subject=names, **columns)
        )
    return pd.concat(parts, ignore_index=True)
