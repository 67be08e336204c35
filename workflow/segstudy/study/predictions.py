"""Label maps that are there already, as a model of a study."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from segstudy.study.settings import Background, LabelValue, check_scheme
from segstudy.study.study_model import Seeds, UntrainedModel

IN_PATTERN = re.compile(r"\{(\w*)\}")
"""What is filled into the pattern of files."""
FILLED_IN = ("case", "fold", "seed", "structure")


def _lists(value: Any) -> Any:
    """Turn single values and names into lists of one."""
    if not isinstance(value, dict):
        return value
    return {name: (held,) if isinstance(held, int | str) else held for name, held in value.items()}


FileScheme = Annotated[
    dict[str, tuple[LabelValue | str, ...]],
    BeforeValidator(_lists),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": ["integer", "string"]},
                    {"type": "array", "items": {"type": ["integer", "string"]}},
                ]
            },
        }
    ),
]
"""Structure: its value in the files, or the name of its own file, or several of either, which are merged."""


class PredictionsModel(UntrainedModel):
    """Label maps that any program has written already. Nothing is trained or run: they are measured and compared.

    A case without a file is a missing prediction. What is predicted on another grid than the reference, or holds a value
    without a meaning, is refused by name.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(required=["trainer", "files"])
    )

    network: Literal["predictions"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["predictions"] = Field(
        "predictions", description="written in place of `network`"
    )
    files: str = Field(
        description="pattern of the files, from the study file's folder, with `{case}` in it, and `{fold}` or `{seed}` where "
        "each has a folder of its own; `{structure}` where each structure has a file of its own (a mask)"
    )
    labels: FileScheme = Field(
        {},
        description="structure: its value in the files, or a list of values, which are merged; with `{structure}` in `files`, "
        "the name of its file, or a list of names. Left out: the values, or the names, of the dataset",
    )
    background_labels: Background = Field(
        (), description="further values of these files, treated as background; `all`: any other"
    )
    training_splits: str | None = Field(
        None,
        description="nnU-Net's `splits_final.json` that these were trained by, or a file like it (a list of `{train: [case, ...], "
        "val: [...]}`, a fold each): a case is refused whose subject the fold that predicted it was trained on",
    )
    chosen_on_tested: bool = Field(
        False,
        description="whether something about it, such as nnU-Net's post-processing, was chosen on the very cases that it is "
        "tested on: its name says so in figures, tables and report",
    )
    rater: bool = Field(
        False,
        description="whether these are a second reader's labels of the same cases: measured like a model against the reference labels, "
        "and shown as human agreement in figures, report and `summary.csv`, but no competitor: in no test, ranking or verdict. Cases "
        "that the reader did not draw are left out",
    )
    seeds: Seeds = Field(
        (0,), min_length=1, description="what `{seed}` in `files` stands for, one training each"
    )

    @property
    def has_structure_files(self) -> bool:
        """Return whether each structure of a case has a file of its own."""
        return "{structure}" in self.files

    @model_validator(mode="after")
    def _is_a_pattern(self) -> "PredictionsModel":
        named = IN_PATTERN.findall(self.files)
        for key in named:
            if key not in FILLED_IN:
                raise ValueError(
                    f"files: unknown placeholder {{{key}}}. Allowed: "
                    + ", ".join(f"{{{key}}}" for key in FILLED_IN)
                )
        if "case" not in named:
            raise ValueError(
                "files: {case} is missing; expected a pattern such as DIR/{case}.nii.gz"
            )
        if len(self.seeds) > 1 and "seed" not in named:
            raise ValueError(
                "seeds: several, but files has no {seed}, so that all would be the same"
            )
        return self

    @model_validator(mode="after")
    def _drew_once(self) -> "PredictionsModel":
        """Refuse what only a model has, which learnt from some cases, where a reader drew the labels."""
        if not self.rater:
            return self
        for key in ("training_splits", "chosen_on_tested"):
            if getattr(self, key):
                raise ValueError(
                    f"{key}: with rater: true, a reader drew these labels and was trained on no fold; leave it out"
                )
        for key in ("fold", "seed"):
            if f"{{{key}}}" in self.files:
                raise ValueError(
                    f"files: {{{key}}} in {self.files}, but with rater: true a reader drew each case once; leave it out, and give "
                    "each reader an entry of models"
                )
        return self

    @model_validator(mode="after")
    def _one_meaning_a_value(self) -> "PredictionsModel":
        wanted = str if self.has_structure_files else int
        for name, held in self.labels.items():
            odd = [one for one in held if not isinstance(one, wanted)]
            if odd:
                expected = (
                    "the name of a file, since files has {structure}"
                    if self.has_structure_files
                    else "a whole number, the value in the files"
                )
                raise ValueError(f"labels.{name}: found {odd[0]!r}; expected {expected}")
        check_scheme("labels", self.labels, self.background_labels)
        return self
