"""The study file: its types, its errors, and the slice of it that each stage is given.

Every setting is here, with its unit and default. `config/README.md` and
`config/study.schema.json` are generated from these types (`segstudy study --reference`,
`--schema`). This module imports neither torch nor snakemake.
"""

import difflib
import hashlib
import json
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from segstudy.errors import InputError

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$", description="letters, digits and underscores"),
]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = tuple[float, float]
SpacingMm = tuple[Positive, Positive, Positive]

# What networks of segstudy and nnU-Net are both asked.
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="where to train and predict")]
Threads = Annotated[int, Field(ge=1, description="CPU threads of a training or prediction job")]
Seeds = Annotated[tuple[int, ...], Field(min_length=1, description="one training a seed and fold")]
MemoryMb = Annotated[
    int, Field(ge=1, description="memory a training or prediction job asks for, in MB")
]
RuntimeMin = Annotated[int, Field(ge=1, description="time a training job asks for, in minutes")]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """One line of JSON without what is at its default: what a rule passes on its command line.

        Keys keep their order, since the order of the structures is the order of the classes.
        """
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True))

    def digest(self) -> str:
        """Digest of all settings, those at their defaults too: a changed default is a change."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


# --- datasets -----------------------------------------------------------------------------------


class PhantomSource(Settings):
    """A thorax phantom in the SegTHOR manner, made from a seed: no download, known truth."""

    layout: Literal["phantom"]
    patients: int = Field(14, ge=2, description="number of patients")
    seed: int = Field(2026, description="seed of anatomy and noise")
    size_voxels: tuple[int, int, int] = Field(
        (96, 96, 44), description="mean grid size (i, j, k) of a patient, in voxels"
    )
    tampered: bool = Field(
        True,
        description="move the heart's label in every patient, as in SegTHOR; one patient keeps the right label too",
    )


class FolderSource(Settings):
    """A dataset in a layout that other programs write.

    `msd`: Decathlon (`dataset.json`, `imagesTr`, `labelsTr`; channels in a fourth axis).
    `nnunet`: nnU-Net raw (`dataset.json`, `imagesTr/<case>_0000.nii.gz`, `labelsTr/<case>.nii.gz`).
    """

    layout: Literal["msd", "nnunet"]
    path: str | None = Field(None, description="folder already on disk; nothing is downloaded then")
    url: str | None = Field(None, description="address of the archive (http or https)")
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="MD5 of the archive")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the archive"
    )
    registered: str | None = Field(
        None, description="name in `resources/datasets.yaml`, in place of `url` and checksum"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "FolderSource":
        if not (self.path or self.url or self.registered):
            raise ValueError("needs one of path, url, registered")
        if self.url and not (self.md5 or self.sha256):
            raise ValueError("a url needs its checksum: add md5 or sha256")
        return self


class TableSource(Settings):
    """Your own files, named in a table (TSV): `case`, `subject`, `image` or `image_<channel>`, `label`.

    Optional columns: `reference_label`, `fold`, `split` (`train` or `test`). Paths are taken
    from the table's own folder.
    """

    layout: Literal["table"]
    path: str = Field(description="the table, a .tsv file")


Source = Annotated[PhantomSource | FolderSource | TableSource, Field(discriminator="layout")]


class Elastix(Settings):
    """Registration of the wrong onto the right label with Elastix (Klein et al. 2010)."""

    transforms: tuple[Literal["rigid", "affine"], ...] = Field(
        ("rigid", "affine"), description="transforms, in order; each starts from the one before"
    )
    images: tuple[Literal["masks", "distances"], ...] = Field(
        ("masks", "distances"),
        description="what is registered: the masks, or the signed distances (mm) to their surfaces",
    )
    resolutions: int = Field(4, ge=1, description="multi-resolution levels")
    iterations: int = Field(500, ge=1, description="iterations a level")


class Repair(Settings):
    """How a label that was moved in every case is put back."""

    structure: str = Field(description="the structure whose label was moved")
    reference_case: str = Field(
        description="the case that has a right label too (`reference_label` in its case table)"
    )
    methods: tuple[Literal["sweep", "elastix"], ...] = Field(
        ("sweep", "elastix"), description="methods tried; the best IoU on the reference case wins"
    )
    frame: Literal["voxel", "physical", "auto"] = Field(
        "voxel",
        description="`voxel`: the fault acted on stored indices, as in SegTHOR; `physical`: on millimetres; "
        "`auto`: both are estimated, and the images of the cohort decide",
    )
    transform: tuple[tuple[float, float, float, float], ...] | None = Field(
        None,
        description="the fault, where it is known: 4 rows of 4, output to input, on voxel indices (i, j, k), "
        "or on RAS mm with `frame: physical`; nothing is estimated then, only checked on the reference case",
    )
    angle_step_deg: Positive = Field(
        1.0, description="first step of the rotation sweep, in degrees"
    )
    angle_tolerance_deg: Positive = Field(0.01, description="last step of the sweep, in degrees")
    sweep_also: tuple[Literal["tilt", "scale"], ...] = Field(
        (),
        description="what else the sweep looks for, from its own optimum on: `tilt`: rotation about the other two "
        "axes, by up to some 15 degrees; `scale`: one factor for all axes; a further attempt, its IoU decides",
    )
    minimum_iou: Share = Field(
        0.9,
        description="IoU, on the reference case, of the right label moved by the fault found with the "
        "delivered one; below it the repair is refused",
    )
    elastix: Elastix = Elastix()
    fill_holes: Literal["no", "nearest"] = Field(
        "no",
        description="what to do with the place the structure leaves: `no`: background; `nearest`: "
        "the nearest structure's, where that is nearer than background",
    )

    @model_validator(mode="after")
    def _transform_is_a_matrix(self) -> "Repair":
        if self.transform is None:
            return self
        if len(self.transform) != 4 or self.transform[3] != (0, 0, 0, 1):
            raise ValueError("transform: expected 4 rows of 4 numbers, the last of them 0 0 0 1")
        if self.frame == "auto":
            raise ValueError("transform: a given transform needs frame voxel or physical, not auto")
        return self


class Cohort(Settings):
    """What the files of a dataset hold, wherever they come from."""

    modality: Literal["CT", "MR", "other"] = Field(
        description="decides cropping and normalisation: CT in Hounsfield units, MR and other by image"
    )
    structures: dict[str, Annotated[int, Field(ge=1, le=65535)]] = Field(
        description="structure: value in the label files (0 is background)", min_length=1
    )
    ignore_labels: tuple[int, ...] = Field(
        (), description="further values that label files may hold, treated as background"
    )
    channels: tuple[Name, ...] = Field(
        ("image",), description="channels of an image, in order", min_length=1
    )
    left_right_pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="structures that are the left and the right one of a pair: [[left, right], ...]; "
        "a flip across the sagittal plane swaps them",
    )

    @model_validator(mode="after")
    def _pairs_exist(self) -> "Cohort":
        members = [name for pair in self.left_right_pairs for name in pair]
        for name in members:
            if name not in self.structures:
                raise ValueError(
                    f"left_right_pairs: {name!r} is none of the structures "
                    f"({', '.join(self.structures)})"
                )
            if members.count(name) > 1:
                raise ValueError(f"left_right_pairs: {name!r} stands twice")
        return self

    @model_validator(mode="after")
    def _one_meaning_a_value(self) -> "Cohort":
        values = list(self.structures.values())
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"structures: value {twice[0]} stands for two structures")
        if "background" in self.structures:
            raise ValueError("structures: background is always 0 and is not listed")
        both = sorted(set(values) & set(self.ignore_labels))
        if both:
            raise ValueError(f"ignore_labels: value {both[0]} is a structure's value")
        return self

    def cohort(self) -> "Cohort":
        """These settings alone: all that a stage needs which only reads the files."""
        return Cohort(**{name: getattr(self, name) for name in Cohort.model_fields})


class RepairedCohort(Cohort):
    """What `segstudy repair` needs of a dataset."""

    repair: Repair | None = Field(
        None, description="label repair; left out: labels are taken as they are"
    )

    @model_validator(mode="after")
    def _repairs_a_structure(self) -> "RepairedCohort":
        if self.repair and self.repair.structure not in self.structures:
            raise ValueError(
                f"repair.structure: {self.repair.structure!r} is none of the structures "
                f"({', '.join(self.structures)})"
            )
        return self

    def repaired_cohort(self) -> "RepairedCohort":
        """These settings alone."""
        fields = RepairedCohort.model_fields
        return RepairedCohort(**{name: getattr(self, name) for name in fields})


class Dataset(RepairedCohort):
    """One cohort of labelled images."""

    source: Source
    role: Literal["train", "test"] = Field(
        "train",
        description="`train`: cross-validated; `test`: another site, predicted by every fold's model, never trained on",
    )
    cases_per_job: int = Field(
        8, ge=1, description="cases a job handles: 1 for large CT, 32 for small crops"
    )
    on_bad_case: Literal["fail", "drop"] = Field(
        "fail", description="what to do with a case that fails the audit: stop, or go on without it"
    )


# --- splits and preprocessing -------------------------------------------------------------------


class Splits(Settings):
    """Cross-validation. Cases of one subject never stand on both sides of a split."""

    folds: int = Field(5, ge=2, le=20, description="number of folds")
    run_folds: tuple[int, ...] | None = Field(
        None, description="folds to run, counted from 0; left out: all"
    )
    seed: int = Field(20, description="seed of the shuffle")
    stratify_by: Literal["foreground_volume", "none"] = Field(
        "foreground_volume", description="what the folds are balanced by"
    )
    group_by: Literal["subject"] = Field(
        "subject", description="cases of one subject stay together; always"
    )

    @model_validator(mode="after")
    def _folds_exist(self) -> "Splits":
        for fold in self.run_folds or ():
            if not 0 <= fold < self.folds:
                raise ValueError(f"run_folds: {fold} is not in 0..{self.folds - 1}")
        return self


class Preprocess(Settings):
    """One way to bring images to a common grid and intensity. What is fitted is fitted on a fold's training cases."""

    spacing_mm: Literal["auto"] | SpacingMm = Field(
        "auto",
        description="voxel size (right-left, back-front, foot-head) in mm; `auto`: the median of the training cases",
    )
    crop: Literal["auto", "body", "nonzero", "none"] = Field(
        "auto",
        description="region kept: `body` above -500 HU, `nonzero`; `auto`: body for CT, else nonzero",
    )
    margin_mm: NotNegative = Field(5.0, description="margin around the cropped region, in mm")
    normalise: Literal["auto", "ct", "zscore"] = Field(
        "auto",
        description="`ct`: clip to percentiles of the training cases' foreground, then z-score with its mean and SD; "
        "`zscore`: each image by itself; `auto`: by modality",
    )
    clip_percentiles: Range = Field(
        (0.5, 99.5), description="foreground percentiles that CT values are clipped to"
    )
    anisotropy_threshold: Positive = Field(
        3.0,
        description="ratio of coarsest to next voxel size above which the coarse axis is resampled apart, by nearest neighbour",
    )

    @field_validator("clip_percentiles")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 <= value[0] < value[1] <= 100:
            raise ValueError("expected two percentiles, 0 <= low < high <= 100")
        return value


# --- models -------------------------------------------------------------------------------------


class Loss(Settings):
    """Weighted sum of soft Dice, cross-entropy and focal loss (Lin et al. 2017)."""

    dice: NotNegative = Field(0.5, description="share of the Dice loss")
    cross_entropy: NotNegative = Field(0.5, description="share of the cross-entropy")
    focal: NotNegative = Field(0.0, description="share of the focal loss")
    focal_gamma: NotNegative = Field(2.0, description="focusing exponent of the focal loss")
    batch_dice: bool = Field(True, description="Dice over the whole batch, not image by image")
    dice_background: bool = Field(
        False, description="count the background as a class of the Dice loss"
    )
    class_weights: dict[str, NotNegative] | None = Field(
        None, description="weights inside Dice: `background` and each structure; left out: equal"
    )

    @model_validator(mode="after")
    def _something(self) -> "Loss":
        if self.dice + self.cross_entropy + self.focal <= 0:
            raise ValueError("at least one of dice, cross_entropy, focal must be above 0")
        return self


class Optimizer(Settings):
    name: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="sgd is with Nesterov momentum"
    )
    lr: Positive = Field(1e-3, description="peak learning rate")
    weight_decay: NotNegative = Field(1e-4, description="weight decay")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Adam's betas")
    momentum: Share = Field(0.99, description="momentum of sgd")


class Schedule(Settings):
    name: Literal["cosine", "poly", "linear", "constant"] = Field(
        "cosine", description="decay of the learning rate; poly has exponent 0.9"
    )
    warmup_epochs: NotNegative = Field(0, description="epochs of linear warm-up")


class Augmentation(Settings):
    """Random changes of a training patch, made in batch on the training device. `share` is a probability a patch."""

    affine_share: Share = Field(0.5, description="share of patches rotated and scaled")
    rotation_deg: NotNegative = Field(15.0, description="largest rotation about each axis, degrees")
    scale: Range = Field((0.85, 1.2), description="range of the scale factor")
    translation_voxels: NotNegative = Field(0.0, description="largest shift, voxels")
    flip_axes: tuple[Literal["right_left", "back_front", "foot_head"], ...] = Field(
        (), description="axes that are flipped, each for half of the patches"
    )
    noise_share: Share = Field(0.15, description="share with Gaussian noise")
    noise_sd: NotNegative = Field(0.1, description="largest SD of the noise, in SD of the image")
    blur_share: Share = Field(0.1, description="share blurred")
    blur_sigma_voxels: Range = Field((0.5, 1.0), description="range of the blur's sigma, voxels")
    brightness_share: Share = Field(0.15, description="share with another brightness")
    brightness: Range = Field((0.75, 1.25), description="range of the brightness factor")
    contrast_share: Share = Field(0.15, description="share with another contrast")
    contrast: Range = Field((0.75, 1.25), description="range of the contrast factor")
    gamma_share: Share = Field(0.15, description="share with another gamma")
    gamma: Range = Field((0.7, 1.5), description="range of gamma")

    @field_validator("scale", "blur_sigma_voxels", "brightness", "contrast", "gamma")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two numbers, 0 < low <= high")
        return value


class Infer(Settings):
    """How a trained network predicts. A change predicts anew and trains nothing."""

    weights: Literal["last", "best"] = Field(
        "last", description="weights used to predict; `best` by validation Dice"
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="overlap of prediction windows"
    )
    keep_largest_component: Literal["auto", "never", "always"] = Field(
        "auto",
        description="keep only a structure's largest component; `auto`: where that raises Dice on training cases",
    )


class NnunetInfer(Infer):
    """How nnU-Net's predictor is run. Its own choice of post-processing is left out: ours is made for all models."""

    mirroring: bool = Field(
        True, description="average over mirrored images (test-time augmentation)"
    )


class Arm(Settings):
    """What a study trains and compares: one of its models."""

    def learning(self) -> "Arm":
        """The settings that shape the weights, with all others at their defaults.

        Where and how long a job runs, and how its weights are used, is no reason to train again.
        """
        free = {"seeds", "threads", "device", "infer", "memory_mb", "runtime_min"}
        return self.model_copy(
            update={name: type(self).model_fields[name].get_default() for name in free}
        )


class Model(Arm):
    """What every trained network shares."""

    dims: Literal[2, 3] = Field(3, description="2: slices; 3: volumes")
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(
        ("axial",), description="slice planes of a 2D network"
    )
    plan: Name = Field("default", description="which entry of `preprocess`")
    patch_size: Literal["auto"] | tuple[int, ...] = Field(
        "auto", description="patch in voxels of the plan's grid (RAS order; in-plane for 2D)"
    )
    batch_size: int = Field(2, ge=1, description="patches a step")
    epochs: int = Field(100, ge=1, description="epochs")
    steps_per_epoch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="steps an epoch; `auto`: as many as show each training case once (2D: at least 8 slices of it)",
    )
    foreground_share: Share = Field(0.5, description="share of patches centred on a structure")
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    deep_supervision: bool = Field(True, description="losses on lower resolutions too (3D U-Net)")
    gradient_clip_norm: Positive = Field(12.0, description="largest norm of the gradient")
    amp: bool = Field(
        True,
        description="automatic mixed precision: on CUDA, and on CPUs with bfloat16 instructions (AVX512-BF16, AMX)",
    )
    device: Device = "auto"
    threads: Threads = 2
    seeds: Seeds = (0,)
    validation_share: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.1,
        description="share of a fold's training cases kept apart to follow the training; the fold's test cases are never seen",
    )
    validate_every_epochs: int = Field(
        5, ge=1, description="epochs between validations on whole volumes"
    )
    infer: Infer = Infer()
    memory_mb: MemoryMb = 8000
    runtime_min: RuntimeMin = 1440

    @model_validator(mode="after")
    def _patch_fits(self) -> "Model":
        if self.patch_size != "auto":
            if len(self.patch_size) != self.dims:
                raise ValueError(
                    f"patch_size: {len(self.patch_size)} numbers, but dims is {self.dims}"
                )
            if min(self.patch_size) < 8:
                raise ValueError("patch_size: expected at least 8 voxels along each axis")
        return self


class EnetModel(Model):
    """ENet (Paszke et al. 2016): bottleneck encoder-decoder on slices."""

    network: Literal["enet"]
    dims: Literal[2] = Field(2, description="ENet works on slices")
    channels: int = Field(16, ge=4, description="channels of the initial block; 16 in the paper")
    dropout: Share = Field(0.1, description="spatial dropout of the bottlenecks")


class UnetModel(Model):
    """U-Net (Ronneberger et al. 2015; Çiçek et al. 2016) of free width and depth."""

    network: Literal["unet"]
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128, 256), min_length=2, description="channels of each level"
    )
    normalisation: Literal["instance", "batch"] = Field(
        "instance", description="normalisation layer"
    )
    activation: Literal["leaky_relu", "relu"] = Field(
        "leaky_relu", description="leaky ReLU has slope 0.01"
    )
    dropout: Share = Field(0.0, description="dropout of the blocks")


class NnunetModel(Arm):
    """nnU-Net itself (Isensee et al. 2021; extra `nnunet`): it plans, preprocesses, trains and predicts by its own
    rules, on the same folds as the other models. What it fits, it fits on a fold's training cases.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["trainer"]))

    network: Literal["nnunet"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["nnunet"] = Field("nnunet", description="written in place of `network`")
    configuration: Literal["2d", "3d_fullres", "3d_lowres"] = Field(
        "3d_fullres",
        description="nnU-Net's configuration; `3d_lowres` is there for large images only",
    )
    planner: Literal["default", "resenc_m", "resenc_l", "resenc_xl"] = Field(
        "default",
        description="`default`: the U-Net of the paper; `resenc_...`: residual encoder of that size (Isensee et al. 2024)",
    )
    gpu_memory_gb: Literal["auto"] | Positive = Field(
        "auto",
        description="GPU memory that patch and batch are planned for, in GB; `auto`: the planner's",
    )
    epochs: int = Field(1000, ge=1, description="epochs")
    steps_per_epoch: int = Field(250, ge=1, description="steps an epoch")
    validation_steps_per_epoch: int = Field(
        50, ge=1, description="batches an epoch on which pseudo Dice is measured"
    )
    device: Device = "auto"
    threads: Threads = 8
    seeds: Seeds = (0,)
    validation_share: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="share of a fold's training cases kept apart to follow the training; 0: all are trained on "
        "(nnU-Net's fold `all`), and pseudo Dice is that of training cases",
    )
    infer: NnunetInfer = NnunetInfer()
    memory_mb: MemoryMb = 32000
    runtime_min: RuntimeMin = 2880

    @property
    def plan(self) -> None:
        """None of the study's plans: nnU-Net makes its own."""
        return None

    @property
    def dims(self) -> int:
        return 2 if self.configuration == "2d" else 3


def _with_network(value: Any) -> Any:
    """`trainer: nnunet` stands for `network: nnunet`."""
    if not isinstance(value, dict) or "trainer" not in value:
        return value
    trainer, network = value["trainer"], value.get("network", "nnunet")
    if trainer != "nnunet":
        raise ValueError(
            f"trainer: found {trainer!r}. Allowed: nnunet; or leave it out and name a network"
        )
    if network != "nnunet":
        raise ValueError(f"trainer: nnunet brings its own network; leave out network: {network}")
    return {**value, "network": "nnunet"}


AnyModel = Annotated[
    EnetModel | UnetModel | NnunetModel,
    Field(discriminator="network"),
    BeforeValidator(_with_network),
]


# --- metrics, statistics, publish ---------------------------------------------------------------


class Metrics(Settings):
    """Measured on the native grid, in millimetres."""

    surface: Literal["mesh", "surfel", "voxel"] = Field(
        "mesh",
        description="what distances are taken between: `mesh`, marching-cubes surfaces, weighted by area (the most "
        "accurate); `surfel`, weighted corners, as surface-distance; `voxel`, boundary voxels, as MONAI",
    )
    nsd_tolerance_mm: tuple[Positive, ...] | Positive = Field(
        (2.0,), description="tolerances of the normalised surface distance, in mm"
    )
    groups: dict[Name, tuple[str, ...]] = Field(
        {}, description="merged structures that are measured too: name: [structures]"
    )

    @field_validator("nsd_tolerance_mm")
    @classmethod
    def _list(cls, value: Any) -> tuple[float, ...]:
        return value if isinstance(value, tuple) else (value,)


class Statistics(Settings):
    """Comparison of the models on the same cases."""

    compare: Literal["all"] | tuple[tuple[str, str], ...] = Field(
        "all", description="pairs of models; `all`: every pair"
    )
    metrics: tuple[str, ...] = Field(
        ("dice", "hd95_mm", "assd_mm", "precision", "recall"),
        description="metrics that are tested (`nsd` stands for all tolerances)",
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="significance level")
    when_not_normal: Literal["wilcoxon", "mannwhitneyu", "permutation"] = Field(
        "wilcoxon",
        description="test where the paired differences are not normal (Shapiro-Wilk): `wilcoxon` signed ranks; "
        "`permutation` of the differences' signs; `mannwhitneyu`, which discards the pairing",
    )
    correction: Literal["holm", "benjamini_hochberg", "none"] = Field(
        "holm", description="correction for multiple tests"
    )
    bootstrap: Literal["percentile", "bca"] = Field(
        "bca",
        description="confidence intervals (95 %) of means: `percentile`, or bias-corrected and accelerated",
    )
    bootstrap_samples: int = Field(
        2000, ge=100, description="resamples of the confidence intervals"
    )
    seed: int = Field(1, description="seed of the bootstrap")


class Publish(Settings):
    """Figures and report."""

    metrics: tuple[str, ...] = Field(
        ("dice", "hd95_mm", "nsd"), description="metrics that get a figure"
    )
    window: tuple[float, float] | None = Field(
        None, description="intensities shown as black and white; left out: by modality"
    )


class Study(Settings):
    """A study: which data, which models, how they are measured and compared."""

    name: Name = Field(description="name of the results folder; left out: the file's name")
    title: str = Field("", description="title of the report")
    description: str = Field("", description="a paragraph for the report")
    datasets: dict[Name, Dataset] = Field(min_length=1)
    splits: Splits = Splits()
    preprocess: dict[Name, Preprocess] = Field(
        {"default": Preprocess()}, description="named plans", min_length=1
    )
    models: dict[Name, AnyModel] = Field(min_length=1)
    metrics: Metrics = Metrics()
    statistics: Statistics = Statistics()
    publish: Publish = Publish()

    @model_validator(mode="after")
    def _references(self) -> "Study":
        first_name, first = next(iter(self.datasets.items()))
        for name, dataset in self.datasets.items():
            if set(dataset.structures) != set(first.structures):
                raise ValueError(
                    f"datasets.{name}.structures: {', '.join(dataset.structures)}; "
                    f"expected those of {first_name}: {', '.join(first.structures)}"
                )
            if dataset.channels != first.channels or dataset.modality != first.modality:
                raise ValueError(
                    f"datasets.{name}: channels and modality must be those of {first_name}"
                )
            if dataset.left_right_pairs != first.left_right_pairs:
                raise ValueError(f"datasets.{name}.left_right_pairs: must be those of {first_name}")
        if not self.training_datasets:
            raise ValueError("datasets: at least one needs `role: train`")
        for name, model in self.models.items():
            if isinstance(model, NnunetModel):
                continue
            if model.plan not in self.preprocess:
                raise ValueError(
                    f"models.{name}.plan: {model.plan!r} is none of the plans "
                    f"({', '.join(self.preprocess)})"
                )
            weights = model.loss.class_weights
            known = ["background", *first.structures]
            if weights is not None and set(weights) - set(known):
                raise ValueError(
                    f"models.{name}.loss.class_weights: "
                    f"{sorted(set(weights) - set(known))[0]!r} is none of {', '.join(known)}"
                )
            missing = sorted(set(first.structures) - set(known if weights is None else weights))
            if missing:
                raise ValueError(
                    f"models.{name}.loss.class_weights: no weight for {missing[0]}; "
                    "give one to each structure"
                )
        check_groups(self.metrics.groups, list(first.structures))
        if self.statistics.compare != "all":
            for pair in self.statistics.compare:
                for model in pair:
                    if model not in self.models:
                        raise ValueError(
                            f"statistics.compare: {model!r} is none of the models "
                            f"({', '.join(self.models)})"
                        )
        return self

    @property
    def training_datasets(self) -> list[str]:
        return [name for name, dataset in self.datasets.items() if dataset.role == "train"]

    @property
    def structures(self) -> list[str]:
        """Names in the order of the network's classes 1, 2, ..., the same for all datasets."""
        return list(self.datasets[self.training_datasets[0]].structures)

    @property
    def left_right_pairs(self) -> tuple[tuple[str, str], ...]:
        return self.datasets[self.training_datasets[0]].left_right_pairs

    @property
    def channels(self) -> tuple[str, ...]:
        return self.datasets[self.training_datasets[0]].channels

    @property
    def modality(self) -> str:
        return self.datasets[self.training_datasets[0]].modality

    @property
    def folds(self) -> list[int]:
        return list(self.splits.run_folds or range(self.splits.folds))


def check_groups(groups: dict[str, tuple[str, ...]], structures: list[str]) -> None:
    """Raises ValueError for a group of unknown structures, or one named like a structure."""
    for name, members in groups.items():
        if name in structures:
            raise ValueError(f"metrics.groups.{name}: this is the name of a structure too")
        for member in members:
            if member not in structures:
                raise ValueError(
                    f"metrics.groups.{name}: {member!r} is none of the structures "
                    f"({', '.join(structures)})"
                )


# --- what the stages are given ------------------------------------------------------------------


class SplitSettings(Settings):
    """What `segstudy preprocess split` needs of a study."""

    splits: Splits
    roles: dict[Name, Literal["train", "test"]] = Field(description="role of each dataset")


class FitSettings(Settings):
    """What `segstudy preprocess plan` needs of a study."""

    plan: Preprocess
    modality: Literal["CT", "MR", "other"]
    channels: tuple[str, ...]


class ResampleSettings(Settings):
    """What `segstudy preprocess resample` needs of a study."""

    plan: Preprocess
    dataset: Cohort
    structures: tuple[str, ...] = Field(description="structures in the order of the classes")


class TrainSettings(Settings):
    """What `segstudy train` needs of a study."""

    model: AnyModel
    structures: tuple[str, ...]
    channels: tuple[str, ...]
    modality: Literal["CT", "MR", "other"]


class MeasureSettings(Settings):
    """What `segstudy metrics` needs of a study."""

    metrics: Metrics = Metrics()
    structures: dict[str, Annotated[int, Field(ge=1, le=65535)]] = Field(
        {}, description="structure: value in the label files; left out: every value found"
    )

    @model_validator(mode="after")
    def _groups_exist(self) -> "MeasureSettings":
        check_groups(self.metrics.groups, list(self.structures))
        return self


# --- reading ------------------------------------------------------------------------------------


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, typing.Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_study(path: Path | str, source_path: str | None = None) -> Study:
    """Read and check a study file.

    `source_path` replaces the `source.path` of the study's only dataset that is on disk or
    downloaded (`--config path=DIR`).

    Raises InputError that names the file, the key, what was found and what was expected.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"{path}: no such study file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not readable as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values (datasets, models, ...) at the top")
    content.setdefault("name", path.stem)
    if source_path is not None:
        _replace_path(content, source_path, path)
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise InputError(describe(error, path, Study, content)) from None


def _replace_path(content: dict, source_path: str, file: Path) -> None:
    datasets = content.get("datasets")
    sources = [
        dataset["source"]
        for dataset in (datasets.values() if isinstance(datasets, dict) else ())
        if isinstance(dataset, dict)
        and isinstance(dataset.get("source"), dict)
        and dataset["source"].get("layout") != "phantom"
    ]
    if len(sources) != 1:
        raise InputError(
            f"{file}: --config path=... needs a study with one dataset on disk, this one has "
            f"{len(sources)}; write source.path into a copy of the study file"
        )
    sources[0]["path"] = source_path


def describe(
    error: ValidationError, file: Path | str, kind: type[BaseModel], content: Any = None
) -> str:
    """A validation error in lines a person can act on: file, key, what was found, what is allowed."""
    lines = []
    for problem in error.errors():
        loc = problem["loc"]
        place = [part for position, part in enumerate(loc) if not _is_tag(loc, position)]
        key = ".".join(str(part) for part in place) or "(top level)"
        found = problem["input"]
        if problem["type"] == "extra_forbidden":
            allowed = _keys_at(kind, problem["loc"][:-1])
            near = difflib.get_close_matches(str(place[-1]), allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"unknown key{hint} Allowed here: {', '.join(allowed)}".replace(
                "key Allowed", "key. Allowed"
            )
        elif problem["type"] == "missing":
            message = "this key is missing"
        elif problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            key = f"{key}.{context['discriminator'].strip(chr(39))}"
            allowed = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            near = difflib.get_close_matches(str(context["tag"]), allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"found {context['tag']!r}{hint} Allowed: {', '.join(allowed)}".replace(
                "' Allowed", "'. Allowed"
            )
        elif problem["type"] == "union_tag_not_found":
            key = f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}"
            message = "this key is missing"
        elif problem["type"] == "value_error":
            message = str(problem["ctx"]["error"])
        else:
            shown = repr(found) if len(repr(found)) <= 60 else repr(found)[:57] + "..."
            meaning = _description_at(kind, problem["loc"])
            message = f"found {shown}. {problem['msg']}" + (f" ({meaning})" if meaning else "")
        lines.append(f"{file}: {key}: {message}")
    return "\n".join(dict.fromkeys(lines))


_TAGS = {"phantom", "msd", "nnunet", "table", "enet", "unet"}
_UNION_BRANCHES = ("literal[", "tuple[", "constrained-", "function-", "lax-or-strict", "nullable")


def _is_tag(loc: tuple, position: int) -> bool:
    """Whether a step of pydantic's location names a union's branch and not a key of the file."""
    part = loc[position]
    if not isinstance(part, str):
        return False
    if part.startswith(_UNION_BRANCHES) or part in ("float", "int", "str", "bool"):
        return True
    above = loc[:position]
    return part in _TAGS and (
        (len(above) == 3 and above[0] == "datasets" and above[2] == "source")
        or (len(above) == 2 and above[0] == "models")
        or (len(above) == 1 and above[0] == "model")
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _step(kinds: list[type[BaseModel]], loc: tuple) -> tuple[list[type[BaseModel]], Any]:
    """Follow a location through the types; the settings classes there, and the last field."""
    field = None
    for part in loc:
        tagged = [
            kind
            for kind in kinds
            for name in ("layout", "network")
            if name in kind.model_fields
            and part in typing.get_args(kind.model_fields[name].annotation)
        ]
        if tagged:
            kinds = tagged
            continue
        for kind in kinds:
            if part in kind.model_fields:
                field = kind.model_fields[part]
                kinds = _models_in(field.annotation)
                break
    return kinds, field


def _keys_at(kind: type[BaseModel], loc: tuple) -> list[str]:
    kinds, _ = _step([kind], loc)
    return list(dict.fromkeys(name for found in kinds for name in found.model_fields))


def _description_at(kind: type[BaseModel], loc: tuple) -> str:
    _, field = _step([kind], loc)
    return (field.description or "") if field is not None else ""


def from_json(kind: type[Settings], text: str) -> Any:
    """Settings from the JSON value of a command line; `@FILE` reads it from a file."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{text[1:]}: cannot be read: {error.strerror}") from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(describe(error, "--settings", kind)) from None
