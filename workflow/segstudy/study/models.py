"""Any model of a study, told apart by its `network` or `trainer`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from segstudy.study.ensemble import EnsembleModel
from segstudy.study.external import ExternalModel
from segstudy.study.networks import (
    AttentionUnetModel,
    EnetModel,
    PluginModel,
    SwinUnetrModel,
    UnetModel,
    UnetrModel,
)
from segstudy.study.nnunet import NnunetModel
from segstudy.study.plugin_trainer import PLUGIN_TRAINER, PluginTrainerModel
from segstudy.study.predictions import PredictionsModel
from segstudy.study.references import with_kinds

TRAINERS = ("images", "synth", "nnunet", "external", "predictions", "ensemble", "plugin")


def _with_network(value: Any) -> Any:
    """Add the `network` that follows from `trainer`: `synth` has a U-Net, others bear their trainer's name."""
    value = with_kinds(value)
    if not isinstance(value, dict) or "trainer" not in value:
        return value
    trainer, network = value["trainer"], value.get("network")
    if trainer not in TRAINERS:
        raise ValueError(
            f"trainer: found {trainer!r}. Allowed: {', '.join(TRAINERS[:-1])}, or a plug-in (./my_trainer.py); or leave "
            "it out and name a network"
        )
    if trainer == "synth":
        return {"network": "unet", **value}
    if trainer == "images":
        return value
    kind = PLUGIN_TRAINER if trainer == "plugin" else trainer
    if network not in (None, kind):
        written = value.get("trainer_plugin", trainer)
        raise ValueError(f"trainer: {written} brings its own network; leave out network: {network}")
    return {**value, "network": kind}


AnyModel = Annotated[
    EnetModel
    | UnetModel
    | AttentionUnetModel
    | UnetrModel
    | SwinUnetrModel
    | PluginModel
    | NnunetModel
    | ExternalModel
    | PredictionsModel
    | EnsembleModel
    | PluginTrainerModel,
    Field(discriminator="network"),
    BeforeValidator(_with_network),
]
