"""The `voxel` definition against MONAI; a module of its own, since importing MONAI takes long."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mask_surfaces import surface_distances
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy"),
]


@st.composite
def pairs(draw):
    shape = tuple(draw(st.tuples(*[st.integers(2, 7)] * 3)))
    masks = hnp.arrays(bool, shape).filter(np.any)
    return draw(masks), draw(masks), list(draw(st.tuples(*[st.floats(0.3, 5.0)] * 3)))


@settings(deadline=None, max_examples=60)
@given(pairs(), st.floats(0.1, 6))
def test_voxel_equals_monai(pair, tolerance_mm):
    reference, prediction, spacing_mm = pair
    tolerance_mm += 0.00137  # MONAI has distances in single precision: keep away from equality
    found = surface_distances(reference, prediction, spacing_mm, "voxel")
    tensors = {
        "y_pred": torch.from_numpy(prediction)[None, None].float(),
        "y": torch.from_numpy(reference)[None, None].float(),
        "include_background": True,
        "spacing": spacing_mm,
    }
    expected = [
        compute_hausdorff_distance(**tensors),
        compute_hausdorff_distance(**tensors, percentile=95),
        compute_average_surface_distance(**tensors, symmetric=True),
        compute_surface_dice(**tensors, class_thresholds=[tolerance_mm]),
    ]
    assert np.allclose(
        [
            found.hausdorff_mm(),
            found.quantile_mm(),
            found.mean_mm(),
            found.share_within(tolerance_mm),
        ],
        [float(value) for value in expected],
        # In single precision 95 % of n - 1 falls beside the place between two distances.
        atol=[1e-6, 1e-6 * max(len(found.forth), len(found.back)), 1e-6, 1e-6],
        rtol=1e-6,
    )
