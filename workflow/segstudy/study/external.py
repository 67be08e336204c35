"""A program of others as a model of a study."""

import re
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from segstudy.study.settings import (
    Background,
    LabelScheme,
    Positive,
    check_scheme,
)
from segstudy.study.study_model import Device, MemoryMb, RuntimeMin, Threads, UntrainedModel

PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""What is filled into the command of an external model."""


class ExternalModel(UntrainedModel):
    """A program of others that maps an image to a label file, such as FreeSurfer's `mri_synthseg`.

    It is not trained here: it predicts each tested case, and is measured like the other models.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(required=["trainer", "command", "labels"])
    )

    old_names = {"ignore_labels": "background_labels"}

    network: Literal["external"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["external"] = Field("external", description="written in place of `network`")
    command: Annotated[
        tuple[str, ...],
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = Field(
        min_length=1,
        description="the command, e.g. `mri_synthseg --i {image} --o {output} --keepgeom`, run without a shell; "
        "`{image}` (of several channels: `{image_CHANNEL}` each) and `{output}` are files, `{threads}` a number",
    )
    labels: LabelScheme = Field(
        min_length=1,
        description="structure: its value in the files that the command writes, or a list of values, which are merged",
    )
    background_labels: Background = Field(
        (), description="further values of these files, treated as background; `all`: any other"
    )
    timeout_min: Positive = Field(120.0, description="longest time for a case, in minutes")
    device: Device = Field("cpu", description="`cpu`: the job asks for no GPU")
    threads: Threads = 2
    memory_mb: MemoryMb = 16000
    runtime_min: RuntimeMin = 1440

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """Split a command that is given in one line as a shell would."""
        try:
            return tuple(shlex.split(value)) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"command: {error}: {value}") from None

    @model_validator(mode="after")
    def _one_meaning_a_value(self) -> "ExternalModel":
        check_scheme("labels", self.labels, self.background_labels)
        return self

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the one seed of a model that draws no random numbers."""
        return (0,)

    def check(self, channels: Sequence[str]) -> None:
        """Refuse a command that does not suit images of these channels.

        Parameters
        ----------
        channels
            Names of the channels of an image.

        Raises
        ------
        ValueError
            With the placeholder that is unknown or missing.
        """
        images = ["image"] if len(channels) == 1 else [f"image_{channel}" for channel in channels]
        allowed = [*images, "output", "threads"]
        named = [key for word in self.command for key in PLACEHOLDER.findall(word)]
        for key in named:
            if key not in allowed:
                raise ValueError(
                    f"command: unknown placeholder {{{key}}}. Allowed: "
                    + ", ".join(f"{{{key}}}" for key in allowed)
                )
        for key in (*images, "output"):
            if key not in named:
                raise ValueError(f"command: {{{key}}} is missing")
