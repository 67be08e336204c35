"""How a network of segstudy learns: its slices, loss, optimizer, and the changes or synthesis of its images."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from segstudy.plugins import is_reference, reference
from segstudy.study.settings import EXPERT, Axes, Fraction, NotNegative, Positive, Range, Settings


def check_labels(references: Iterable[str]) -> None:
    """Raise ValueError for what is no reference to a plug-in, and for two that people would not tell apart."""
    labels: dict[str, str] = {}
    for text in references:
        if not is_reference(text):
            raise ValueError(
                f"{text!r}: not written as a plug-in; expected a file (./my_code.py, ./my_code.py:NAME) or a name in an "
                "installed package (my_package.code:NAME)"
            )
        label = reference(text).label
        if label in labels:
            if labels[label] == text:
                raise ValueError(f"{text}: stands twice; name it once")
            raise ValueError(
                f"{labels[label]} and {text}: two plug-ins called {label}; rename one of the files"
            )
        labels[label] = text


class Slices(Settings):
    """Which slices a 2D network is trained on. All slices are predicted, always."""

    keep: Literal["all", "foreground"] = Field(
        "all", description="`foreground`: slices that hold a structure; others are dropped"
    )
    most_per_plane: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="at most so many slices of each plane of a case, drawn once by the seed; left out: all",
    )


class Loss(Settings):
    """Weighted sum of soft Dice, cross-entropy, focal loss (Lin et al. 2017), Tversky loss (Salehi et al. 2017) and plug-ins."""

    dice: NotNegative = Field(0.5, description="weight of the Dice loss")
    cross_entropy: NotNegative = Field(0.5, description="weight of the cross-entropy")
    focal: NotNegative = Field(0.0, description="weight of the focal loss")
    focal_gamma: NotNegative = Field(
        2.0, description="focusing exponent of the focal loss", json_schema_extra=EXPERT
    )
    tversky: NotNegative = Field(
        0.0,
        description="weight of the Tversky loss, a Dice loss that weighs false and missed voxels apart; `batch_dice`, "
        "`dice_background` and `class_weights` hold for it too",
    )
    tversky_false: NotNegative = Field(
        0.3,
        description="weight of false voxels in the Tversky loss, above that of missed ones against over-segmentation",
    )
    tversky_missed: NotNegative = Field(
        0.7, description="weight of missed voxels in the Tversky loss; 0.5 each is the Dice loss"
    )
    batch_dice: bool = Field(
        True, description="Dice over the whole batch, not image by image", json_schema_extra=EXPERT
    )
    dice_background: bool = Field(
        False,
        description="count the background as a class of the Dice loss",
        json_schema_extra=EXPERT,
    )
    class_weights: dict[str, NotNegative] | None = Field(
        None, description="weights inside Dice: `background` and each structure; left out: equal"
    )

    plugins: dict[str, NotNegative] = Field(
        {},
        description="weights of losses of your own, by reference: `{./my_loss.py: 0.5}` ([plug-ins](../docs/plugins.md))",
    )

    @model_validator(mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        losses = ("dice", "cross_entropy", "focal", "tversky")
        near = difflib.get_close_matches(value.lower().replace(" ", "_"), losses, n=1)
        written = f"{{{near[0] if near else 'dice'}: 1}}"
        if is_reference(value):
            written = f"{{plugins: {{{value}: 1}}}}"
        raise ValueError(
            f"found {value!r}; expected the weights of losses, such as {written}. There are {', '.join(losses)} and "
            "plugins; dice and cross_entropy have 0.5 each unless they are given: 0 leaves one out"
        )

    @field_validator("plugins")
    @classmethod
    def _told_apart(cls, value: dict[str, float]) -> dict[str, float]:
        check_labels(value)
        return value

    @model_validator(mode="after")
    def _something(self) -> "Loss":
        own = (self.dice, self.cross_entropy, self.focal, self.tversky)
        if sum(own) + sum(self.plugins.values()) <= 0:
            raise ValueError(
                "at least one of dice, cross_entropy, focal, tversky, plugins must be above 0"
            )
        if self.tversky and self.tversky_false + self.tversky_missed <= 0:
            raise ValueError("tversky_false, tversky_missed: expected one of them above 0")
        return self


class Optimizer(Settings):
    """The optimizer and its peak learning rate."""

    name: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="sgd is with Nesterov momentum"
    )
    lr: Positive = Field(1e-3, description="peak learning rate")
    weight_decay: NotNegative = Field(
        1e-4,
        description="weight decay, of all parameters, those of normalisations and biases too, as nnU-Net has it; adamw "
        "decouples it from the gradient, adam and sgd add it there",
    )
    lr_factors: dict[str, Positive] = Field(
        {},
        description="layer-wise learning rates (discriminative fine-tuning, Howard & Ruder 2018): factors of `lr` for layers by their "
        "names or the beginnings of these, the longest of which counts, e.g. `{encoder: 0.1}`",
    )
    betas: tuple[Fraction, Fraction] = Field(
        (0.9, 0.999), description="Adam's betas", json_schema_extra=EXPERT
    )
    momentum: Fraction = Field(0.99, description="momentum of sgd", json_schema_extra=EXPERT)


class Schedule(Settings):
    """How the learning rate rises and decays."""

    name: Literal["cosine", "poly", "linear", "constant"] = Field(
        "cosine", description="decay of the learning rate; poly has exponent 0.9"
    )
    warmup_epochs: NotNegative = Field(0, description="epochs of linear warm-up")


RANDOM_CHANGES = (
    *("affine", "elastic", "noise", "blur", "bias", "brightness", "contrast"),
    *("low_resolution", "gamma", "inverted_gamma"),
)
PRESETS: dict[str, dict[str, Any]] = {
    "none": {f"{name}_probability": 0.0 for name in RANDOM_CHANGES},
    "light": {
        **{"affine_probability": 0.3, "rotation_deg": 10.0, "scale": (0.9, 1.1)},
        **{
            "noise_probability": 0.1,
            "brightness_probability": 0.1,
            "contrast_probability": 0.1,
            "gamma_probability": 0.1,
        },
        **{"blur_probability": 0.0, "low_resolution_probability": 0.0},
    },
    "default": {},
    "strong": {
        **{
            "affine_probability": 0.8,
            "rotation_deg": 30.0,
            "scale": (0.7, 1.4),
            "elastic_probability": 0.3,
        },
        **{
            "noise_probability": 0.2,
            "blur_probability": 0.2,
            "brightness_probability": 0.25,
            "contrast_probability": 0.25,
        },
        **{
            "low_resolution_probability": 0.25,
            "gamma_probability": 0.3,
            "inverted_gamma_probability": 0.1,
        },
    },
}
"""Sets of random changes; keys that a set does not name are at their defaults."""


def _shares(*names: str) -> dict[str, str]:
    """Return the old names of probabilities, such as `noise_share` of `noise_probability`."""
    return {f"{name}_share": f"{name}_probability" for name in names}


def _with_presets(schema: dict[str, Any]) -> None:
    """Let the schema take a set's word in place of the keys, or beside them."""
    word = {"enum": list(PRESETS), "description": "a set of changes"}
    keys = {**schema, "properties": {"preset": word, **schema["properties"]}}
    schema.clear()
    schema["anyOf"] = [word, keys]


class Augmentation(Settings):
    """Random changes of a training patch, made in batch on the training device. `..._probability` is that of a patch.

    A word stands for a set of them: `augmentation: none`, `light`, `default` or `strong`; with `preset: strong`, the
    keys beside it change that set.
    """

    model_config = ConfigDict(json_schema_extra=_with_presets)

    old_names = _shares(*RANDOM_CHANGES)

    affine_probability: Fraction = Field(
        0.5, description="probability of rotation, scaling, shear and shift, together"
    )
    rotation_deg: NotNegative = Field(15.0, description="largest rotation about each axis, degrees")
    scale: Range = Field((0.85, 1.2), description="range of the scale factor")
    shear: NotNegative = Field(
        0.0,
        description="largest shear of an axis along another, as a tangent",
        json_schema_extra=EXPERT,
    )
    translation_voxels: NotNegative = Field(
        0.0, description="largest shift along each axis but coarse ones, voxels"
    )
    elastic_probability: Fraction = Field(
        0.0, description="probability of elastic deformation, by a smooth random displacement field"
    )
    elastic_voxels: NotNegative = Field(
        2.0,
        description="largest SD of the field's displacement along each axis, voxels",
        json_schema_extra=EXPERT,
    )
    elastic_spacing_voxels: Annotated[float, Field(ge=4)] = Field(
        16.0, description="distance of the field's control points, voxels", json_schema_extra=EXPERT
    )
    flip_axes: Axes = Field(
        (),
        description="axes that are flipped, each for half of the patches; `right_left` swaps `left_right_pairs`",
    )
    noise_probability: Fraction = Field(0.15, description="probability of Gaussian noise")
    noise_sd: NotNegative = Field(0.1, description="largest SD of the noise, in SD of the image")
    blur_probability: Fraction = Field(0.1, description="probability of Gaussian blur")
    blur_sigma_voxels: Range = Field(
        (0.5, 1.0), description="range of the blur's sigma, voxels", json_schema_extra=EXPERT
    )
    bias_probability: Fraction = Field(
        0.0, description="probability of a smooth bias field, as in MR"
    )
    bias_sd: NotNegative = Field(
        0.2, description="largest SD of the field's logarithm", json_schema_extra=EXPERT
    )
    brightness_probability: Fraction = Field(0.15, description="probability of another brightness")
    brightness: Range = Field(
        (0.75, 1.25),
        description="range of the brightness factor; half of the draws lie below 1",
        json_schema_extra=EXPERT,
    )
    contrast_probability: Fraction = Field(0.15, description="probability of another contrast")
    contrast: Range = Field(
        (0.75, 1.25),
        description="range of the contrast factor; half of the draws lie below 1",
        json_schema_extra=EXPERT,
    )
    low_resolution_probability: Fraction = Field(
        0.1, description="probability of a lower resolution"
    )
    low_resolution_scale: Range = Field(
        (0.5, 1.0),
        description="range of the lower resolution, as a fraction of the patch's",
        json_schema_extra=EXPERT,
    )
    gamma_probability: Fraction = Field(0.15, description="probability of another gamma")
    inverted_gamma_probability: Fraction = Field(
        0.0,
        description="probability of another gamma of the inverted patch",
        json_schema_extra=EXPERT,
    )
    gamma: Range = Field(
        (0.7, 1.5),
        description="range of gamma; half of the draws lie below 1, as in nnU-Net",
        json_schema_extra=EXPERT,
    )
    plugins: tuple[str, ...] = Field(
        (),
        description="changes of your own, made after all others in this order: `[./my_aug.py]` ([plug-ins](../docs/plugins.md))",
    )

    @field_validator("plugins")
    @classmethod
    def _told_apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_labels(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, content: Any) -> Any:
        if isinstance(content, str):
            content = {"preset": content}
        if not isinstance(content, dict) or "preset" not in content:
            return content
        preset, changes = content["preset"], {k: v for k, v in content.items() if k != "preset"}
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r}; expected one of {', '.join(PRESETS)}")
        return PRESETS[preset] | changes

    @field_validator(
        *("scale", "blur_sigma_voxels", "brightness", "contrast", "gamma", "low_resolution_scale")
    )
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two numbers, 0 < low <= high")
        return value

    @model_validator(mode="after")
    def _possible(self) -> "Augmentation":
        if self.low_resolution_scale[1] > 1:
            raise ValueError("low_resolution_scale: expected at most 1, the patch's own")
        if self.elastic_voxels > self.elastic_spacing_voxels / 6:
            raise ValueError(
                f"elastic_voxels: {self.elastic_voxels:g} voxels would fold an image whose control points are "
                f"{self.elastic_spacing_voxels:g} voxels apart; expected at most a sixth of that"
            )
        return self


class Synthesis(Settings):
    """Training images drawn from label maps (Billot et al. 2023, SynthSeg). Grey values run from 0 to 1."""

    old_names = {
        **_shares("left_right", "zero_background", "low_resolution"),
        "isotropic_mm": "max_isotropic_spacing_mm",
        "slice_spacing_mm": "max_slice_spacing_mm",
    }

    rotation_deg: NotNegative = Field(15.0, description="largest rotation about each axis, degrees")
    scale: Range = Field((0.8, 1.2), description="range of the scale factor")
    shear: NotNegative = Field(
        0.02, description="largest shear of each two axes, as a tangent", json_schema_extra=EXPERT
    )
    elastic_sd_mm: NotNegative = Field(
        2.0,
        description="SD of the elastic shift along each axis, mm; it never folds",
        json_schema_extra=EXPERT,
    )
    elastic_spacing_mm: Positive = Field(
        25.0,
        description="distance of the control points of the elastic deformation, mm",
        json_schema_extra=EXPERT,
    )
    left_right_probability: Fraction = Field(
        0.5,
        description="probability that a patch is mirrored, image and labels; 0 without `left_right_pairs`",
    )
    mean: Range = Field(
        (0.0, 1.0), description="range of a tissue's mean grey value", json_schema_extra=EXPERT
    )
    sd: Range = Field(
        (0.0, 0.12),
        description="range of the SD of a tissue's grey values",
        json_schema_extra=EXPERT,
    )
    zero_background_probability: Fraction = Field(
        0.3,
        description="probability that an image's background is 0, as without skull; else it is a tissue",
        json_schema_extra=EXPERT,
    )
    bias_field_sd: NotNegative = Field(
        0.3, description="largest SD of the logarithm of the bias field", json_schema_extra=EXPERT
    )
    bias_field_spacing_mm: Positive = Field(
        60.0,
        description="distance of the control points of the bias field, mm",
        json_schema_extra=EXPERT,
    )
    gamma_sd: NotNegative = Field(
        0.4, description="SD of the logarithm of gamma", json_schema_extra=EXPERT
    )
    low_resolution_probability: Fraction = Field(
        0.8,
        description="probability that an image loses resolution, in half of the cases along all axes",
    )
    max_isotropic_spacing_mm: Positive = Field(
        4.0,
        description="largest voxel size of an image that is coarse along all axes, mm",
        json_schema_extra=EXPERT,
    )
    max_slice_spacing_mm: Positive = Field(
        8.0,
        description="largest distance of slices, mm; their thickness lies between a voxel and that",
        json_schema_extra=EXPERT,
    )
    shift_sd: NotNegative = Field(
        0.2,
        description="SD of a shift of all grey values, in SD of the patch: mean and SD are taken of a patch "
        "in training, and of the whole image in prediction",
        json_schema_extra=EXPERT,
    )
    gain: Range = Field(
        (0.8, 1.25),
        description="range of a factor of all grey values, likewise",
        json_schema_extra=EXPERT,
    )

    @field_validator("scale", "mean", "sd", "gain")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("expected two numbers, 0 <= low <= high")
        return value

    @field_validator("scale", "gain")
    @classmethod
    def _above_zero(cls, value: Range) -> Range:
        if value[0] <= 0:
            raise ValueError("expected two numbers above 0")
        return value
