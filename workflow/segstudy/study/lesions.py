"""How lesions are told apart, matched and counted, where a study measures lesion by lesion."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from segstudy.study.settings import EXPERT, Fraction, NotNegative, Settings

PRESETS: dict[str, dict[str, Any]] = {
    "panoptica": {},
    "brats2023": {
        "merge_voxels": 3,
        "match": "touch",
        "min_volume_mm3": 50.0,
        "average": "all",
    },
}
"""Sets of rules; keys that a set does not name are at their defaults."""


def _with_presets(schema: dict[str, Any]) -> None:
    """Let the schema take a set's word in place of the keys."""
    keys = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"enum": [*PRESETS]}, keys]


class Lesions(Settings):
    """Rules by which a structure is measured lesion by lesion.

    A word stands for a set of them: `lesions: panoptica`, one predicted lesion for one of the reference where their IoU
    is at least 0.5; or `lesions: brats2023`, lesions of the reference that lie close together are one, and all predicted
    ones that touch it are its prediction. With `preset: brats2023`, the keys beside it change that set.
    """

    model_config = ConfigDict(json_schema_extra=_with_presets)

    preset: Literal["panoptica", "brats2023"] = Field("panoptica", description="a set of rules")
    structures: tuple[str, ...] = Field(
        (), description="structures and composite regions that are lesions; left out: all"
    )
    connectivity: Literal[6, 18, 26] = Field(
        26, description="voxels that share a face (6), an edge (18) or a corner (26) are connected"
    )
    merge_voxels: Annotated[int, Field(ge=0)] = Field(
        0,
        description="so many times the reference is dilated, by voxels that share an edge: its lesions that then are "
        "connected count as one",
    )
    match: Literal["iou", "touch"] = Field(
        "iou",
        description="`iou`: a predicted lesion and one of the reference are a pair where their IoU is `min_iou`, the best first, "
        "none twice; `touch`: all predicted lesions that touch the dilated lesion are its prediction",
    )
    min_iou: Fraction = Field(0.5, description="least IoU of a pair, with `match: iou`")
    min_volume_mm3: NotNegative = Field(
        0.0,
        description="lesions of the reference up to this volume, and what predicts them, count neither as found nor as "
        "missed; other predicted lesions of any size count",
    )
    average: Literal["found", "all"] = Field(
        "found",
        description="mean Dice and HD95 of the lesions that were `found`, or of `all`: missed and false ones with Dice 0 and "
        "`missed_mm`",
    )
    missed_mm: NotNegative = Field(
        374.0,
        description="HD95 of a lesion that was missed or is false, with `average: all`, in mm; 374 is the diagonal of "
        "BraTS images",
        json_schema_extra=EXPERT,
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, content: Any) -> Any:
        if isinstance(content, str):
            content = {"preset": content}
        if not isinstance(content, dict):
            return content
        preset = content.get("preset", "panoptica")
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r}; expected one of {', '.join(PRESETS)}")
        return PRESETS[preset] | content

    def measures(self, structure: str) -> bool:
        """Tell whether a structure is one of lesions."""
        return not self.structures or structure in self.structures
