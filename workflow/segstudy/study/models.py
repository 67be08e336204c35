"""Any model of a study, told apart by its `network` or `trainer`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from segstudy.study.external import ExternalModel
from segstudy.study.networks import (
    AttentionUnetModel,
    EnetModel,
    SwinUnetrModel,
    UnetModel,
    UnetrModel,
)
from segstudy.study.nnunet import NnunetModel

TRAINERS = ("images", "synth", "nnunet", "external")


def _with_network(value: Any) -> Any:
    """Add the `network` that follows from `trainer`: nnU-Net and programs have that name, `synth` a U-Net."""
    if not isinstance(value, dict) or "trainer" not in value:
        return value
    trainer, network = value["trainer"], value.get("network")
    if trainer not in TRAINERS:
        raise ValueError(
            f"trainer: found {trainer!r}. Allowed: {', '.join(TRAINERS)}; or leave it out and name a network"
        )
    if trainer == "synth":
        return {"network": "unet", **value}
    if trainer == "images":
        return value
    if network not in (None, trainer):
        raise ValueError(f"trainer: {trainer} brings its own network; leave out network: {network}")
    return {**value, "network": trainer}


AnyModel = Annotated[
    EnetModel
    | UnetModel
    | AttentionUnetModel
    | UnetrModel
    | SwinUnetrModel
    | NnunetModel
    | ExternalModel,
    Field(discriminator="network"),
    BeforeValidator(_with_network),
]
