"""Training and prediction by code of the user's own, as a model of a study."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from segstudy.study.settings import INTERNAL, written_as_plugin
from segstudy.study.study_model import Device, MemoryMb, RuntimeMin, Seeds, Threads, TrainedModel

PLUGIN_TRAINER = "plugin_trainer"


class PluginTrainerModel(TrainedModel):
    """A class of your own that learns and predicts ([plug-ins](../docs/plugins.md)), on the same folds as the other models.

    `trainer: ./my_trainer.py` is written in place of `network`.
    """

    model_config = ConfigDict(json_schema_extra=written_as_plugin("trainer"))

    network: Literal["plugin_trainer"] = Field(
        description="not written: follows from `trainer`", json_schema_extra=INTERNAL
    )
    trainer: Literal["plugin"] = Field(
        "plugin",
        description="`./my_trainer.py` (its `Trainer`), `./my_trainers.py:Other` or `my_package.trainers:Other`",
    )
    trainer_plugin: str = Field(
        description="not written: the reference that stands as `trainer`",
        json_schema_extra=INTERNAL,
    )
    options: dict[str, Any] = Field({}, description="keyword arguments of the class")
    device: Device = "auto"
    threads: Threads = 2
    seeds: Seeds = (0,)
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0, description="fraction of a fold's training subjects held out for validation"
    )
    memory_mb: MemoryMb = 16000
    runtime_min: RuntimeMin = 1440

    @property
    def plan(self) -> None:
        """Return None: the class is given images as they are, by no plan."""
        return None
