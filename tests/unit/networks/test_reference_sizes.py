"""The networks of the reference studies have the parameters that were published."""

from pathlib import Path

import pytest

from segstudy import networks
from segstudy.study import read_study

STUDIES = Path(__file__).resolve().parents[3] / "config" / "studies"


@pytest.mark.parametrize(
    ("model", "published", "tolerance"), [("unet2d", 1_962_532, 0), ("unet3d", 5_649_652, 4e-4)]
)
def test_brain_tumour(model, published, tolerance):
    study = read_study(STUDIES / "brain_tumour.yaml")
    chosen = study.models[model]
    plan = study.preprocess[chosen.plan]
    network = networks.build(
        chosen,
        len(plan.channels or study.channels),
        1 + len(study.structures),
        chosen.patch_size,
        plan.spacing_mm[: chosen.dims],
    )
    found = sum(weights.numel() for weights in network.parameters())
    assert found == pytest.approx(published, rel=tolerance, abs=0)
