"""Several models of a study that predict together, as one more model."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from segstudy.study.settings import Name
from segstudy.study.study_model import AutoMemoryMb, Device, RuntimeMin, Threads, UntrainedModel

Members = Annotated[tuple[Name, ...], Field(min_length=1)]


class EnsembleModel(UntrainedModel):
    """Models of the study that predict together: the probabilities of all members and their seeds are averaged, fold by fold.

    `ensembles: {NAME: [MODEL, ...]}` at the top of the study file is the short form.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(required=["trainer", "members"])
    )

    network: Literal["ensemble"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["ensemble"] = Field("ensemble", description="written in place of `network`")
    members: Members = Field(
        description="names of models that are trained here, whose probabilities are known; one alone where it has several `seeds`"
    )
    device: Device = "auto"
    threads: Threads = 2
    memory_mb: AutoMemoryMb = "auto"
    runtime_min: RuntimeMin = 1440

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the one seed of a model in which those of its members are together."""
        return (0,)
