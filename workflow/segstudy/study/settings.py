"""What all settings are made of: their base, and the types that many of them share."""

import hashlib
import json
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    WithJsonSchema,
    model_validator,
)

from segstudy.plugins import REFERENCE

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$", description="letters, digits and underscores"),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = tuple[float, float]
SpacingMm = tuple[Positive, Positive, Positive]
Axes = tuple[Literal["right_left", "back_front", "foot_head"], ...]
Pairs = tuple[tuple[str, str], ...]
LabelValue = Annotated[int, Field(ge=1, le=65535)]


PluginReference = Annotated[str, Field(pattern=REFERENCE)]
"""A plug-in: `./my_file.py`, `./my_file.py:NAME` of several, or `MODULE:NAME` of an installed package."""


def _lists(value: Any) -> Any:
    """Turn single values into lists of one."""
    if not isinstance(value, dict):
        return value
    return {
        name: (values,) if isinstance(values, int) else values for name, values in value.items()
    }


LabelScheme = Annotated[
    dict[str, tuple[LabelValue, ...]],
    BeforeValidator(_lists),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]
            },
        }
    ),
]
"""Structure: its value in the files of a program, or its values there, which are merged."""
Background = Literal["all"] | tuple[int, ...]
"""Values of label files that are treated as background; `all`: any that has no other meaning."""


def _one_or_several(value: Any) -> Any:
    """Turn a single value into a list of one. Raises ValueError for what is no whole number or list of such."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(item, bool) or not isinstance(item, int) for item in values):
        raise ValueError(f"found {value!r}; expected a whole number from 1 to 65535, or several")
    return tuple(values)


IgnoreValues = Annotated[
    tuple[LabelValue, ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}
    ),
]
"""Values of reference labels that mark voxels which nobody has labelled."""


def check_scheme(key: str, scheme: Mapping[str, Sequence[int]], background: Background) -> None:
    """Refuse a structure without a value, and a value that stands for two things.

    Parameters
    ----------
    key
        Name of the setting, for the message.
    scheme
        Structure -> its label values.
    background
        Label values that are background; `all`: any other.

    Raises
    ------
    ValueError
        With the first such structure or value.
    """
    values = [value for of_structure in scheme.values() for value in of_structure]
    others = () if background == "all" else background
    for value in [*values, *others]:
        if (values + list(others)).count(value) > 1:
            raise ValueError(f"{key}: value {value} stands for two things")
    for name, of_structure in scheme.items():
        if not of_structure:
            raise ValueError(f"{key}: no value for {name}")


EXPERT, INTERNAL = {"tier": "expert"}, {"tier": "internal"}
"""`json_schema_extra` of keys that most studies leave alone, and of those that nobody writes."""


def written_as_plugin(key: str) -> Callable[[dict[str, Any]], None]:
    """Return the change of a schema by which `key` is written as a reference to a plug-in, and alone is required."""

    def change(schema: dict[str, Any]) -> None:
        described = schema["properties"][key].get("description", "")
        written = {"type": "string", "pattern": REFERENCE, "description": described}
        schema["properties"] = {**schema["properties"], key: written}
        schema["required"] = [key]

    return change


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values never change after reading."""

    # Deferred: a command builds the checks of the settings that it uses, not those of all.
    # No setting means anything as NaN, and JSON, by which settings reach a job, has no infinity.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    old_names: ClassVar[Mapping[str, str]] = {}
    """Keys of the version before that are still read: old name -> today's."""

    @model_validator(mode="wrap")
    @classmethod
    def _read_old_names(cls, content: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Rename keys before any other validator sees them."""
        if not isinstance(content, dict) or cls.old_names.keys().isdisjoint(content):
            return validate(content)
        for old, new in cls.old_names.items():
            if old in content and new in content:
                raise ValueError(
                    f"{old}: is the old name of {new}, which stands here too; leave it out"
                )
        return validate({cls.old_names.get(key, key): value for key, value in content.items()})

    def to_json(self) -> str:
        """Write the settings that are not at their defaults as one line of JSON, as rules pass them.

        Keys keep their order, since the order of the structures is the order of the classes.
        """
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True))

    def at_default(self, names: Collection[str]) -> Self:
        """Return a copy with the settings of these names, as far as there are such, at their defaults."""
        fields = type(self).model_fields.items()
        return self.model_copy(
            update={name: field.get_default() for name, field in fields if name in names}
        )

    def digest(self) -> str:
        """Compute a digest of all settings, those at their defaults too: a changed default is a change."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def kinds_of(union: Any) -> dict[str, type[Settings]]:
    """Return the settings class for each value of the key, such as `layout`, that tells a union's classes apart."""
    kinds, field, *_ = typing.get_args(union)
    return {
        tag: kind
        for kind in typing.get_args(kinds)
        for tag in typing.get_args(kind.model_fields[field.discriminator].annotation)
    }
