"""The networks that segstudy itself trains: what they share, and each with its own settings."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from segstudy.study.settings import (
    EXPERT,
    INTERNAL,
    Axes,
    Fraction,
    Name,
    Positive,
    Settings,
    written_as_plugin,
)
from segstudy.study.study_model import (
    AutoMemoryMb,
    Device,
    Freeze,
    Infer,
    InitialWeights,
    RuntimeMin,
    Seeds,
    Tensorboard,
    Threads,
    TrainedModel,
    check_freeze,
)
from segstudy.study.training import Augmentation, Loss, Optimizer, Schedule, Slices, Synthesis


class OwnInfer(Infer):
    """How a network of segstudy predicts."""

    mirror_axes: Axes = Field(
        (),
        description="average over images mirrored along these axes and all their combinations (test-time augmentation); "
        "`right_left` swaps `left_right_pairs` back",
    )
    mc_dropout: Annotated[int, Field(ge=0)] = Field(
        0,
        description="predict as often with dropout at work, and average (MC dropout); 0: once, without. For networks with "
        "`dropout` above 0",
    )
    uncertainty: bool = Field(
        False,
        description="write maps of predictive entropy and mutual information (nats) beside the predictions, "
        "`entropy/<case>.nii.gz` and `mutual_information/<case>.nii.gz`; needs `mc_dropout` or `mirror_axes`",
    )

    @field_validator("mc_dropout")
    @classmethod
    def _several(cls, value: int) -> int:
        if value == 1:
            raise ValueError("1 sample disagrees with nothing; expected 0, or 2 and more")
        return value

    @model_validator(mode="after")
    def _has_members(self) -> "OwnInfer":
        if self.uncertainty and not self.mc_dropout and not self.mirror_axes:
            raise ValueError(
                "uncertainty: one prediction a case disagrees with nothing; set mc_dropout or mirror_axes too"
            )
        return self


class SirenHead(Settings):
    """A head of sine layers that is given a voxel's position beside its features (Sitzmann et al. 2020).

    The position is in mm from the middle of the patch, divided by half its longest side.
    """

    hidden: int = Field(
        32, ge=1, description="width of the sine layers, and features they are given"
    )
    layers: int = Field(2, ge=1, le=8, description="sine layers; a linear one follows")
    omega: Positive = Field(
        10.0,
        description="frequency factor of the sines; the paper's 30 is for coordinates alone, and learns slowly here",
        json_schema_extra=EXPERT,
    )


class Model(TrainedModel):
    """What every trained network shares."""

    old_names = {
        **TrainedModel.old_names,
        "foreground_share": "foreground_fraction",
        "validation_share": "validation_fraction",
    }

    trainer: Literal["images", "synth"] = Field(
        "images",
        description="`images`: learn from the cases' images; `synth`: from images drawn from their label maps alone, "
        "with `loss: {dice: 1, cross_entropy: 0}` where no other is given",
    )
    dims: Literal[2, 3] = Field(3, description="2: slices; 3: volumes")
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(
        ("axial",), description="slice planes of a 2D network"
    )
    slices: Slices = Slices()
    plan: Name = Field("default", description="which entry of `preprocess`")
    patch_size: Literal["auto"] | tuple[int, ...] = Field(
        "auto", description="patch in voxels of the plan's grid (RAS order; in-plane for 2D)"
    )
    batch_size: int = Field(2, ge=1, description="patches a step")
    epochs: int = Field(100, ge=1, description="epochs")
    steps_per_epoch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="steps an epoch; `auto`: as many as show each training case once (2D: at least 8 slices of it), "
        "and with `trainer: synth` at least 250",
    )
    foreground_fraction: Fraction = Field(
        0.5, description="fraction of patches centred on a structure"
    )
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    synthesis: Synthesis = Synthesis()
    deep_supervision: bool = Field(
        True, description="losses on lower resolutions too (3D U-Net)", json_schema_extra=EXPERT
    )
    gradient_clip_norm: Positive = Field(
        12.0, description="largest norm of the gradient", json_schema_extra=EXPERT
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="decay a step of a moving average of the weights, which is then validated and kept "
        "in their place, e.g. 0.999; 0: none",
        json_schema_extra=EXPERT,
    )
    compile: bool = Field(
        False,
        description="train through torch.compile; stops where that cannot be done",
        json_schema_extra=EXPERT,
    )
    amp: bool = Field(
        True,
        description="automatic mixed precision: on CUDA; on CPUs with bfloat16 instructions (AVX512-BF16, AMX) in prediction alone",
        json_schema_extra=EXPERT,
    )
    device: Device = "auto"
    gpus: int = Field(
        1,
        ge=1,
        description="GPUs of one node that share each batch of a training: the same steps, to rounding (dropout draws "
        "anew), in less time; the job asks for so many times `threads` and `memory_mb`",
    )
    threads: Threads = 2
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="processes that cut patches, taken from `threads`, for each GPU; 0: a thread beside the training; "
        "`auto`: on a GPU all threads but the one that trains, on a CPU 0",
        json_schema_extra=EXPERT,
    )
    seeds: Seeds = (0,)
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.1,
        description="fraction of a fold's training subjects held out for validation, from which nothing is learned; the fold's test cases are never seen",
    )
    validate_every_epochs: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="epochs between validations on whole volumes; `auto`: 5, or those of 1,000 steps where that is more, but ten times a training at least",
        json_schema_extra=EXPERT,
    )
    initial_weights: InitialWeights = None
    freeze: Freeze = ()
    stop_when_flat: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="early stopping: a training ends at a validation that is so many epochs or more after the one with the best "
        "mean Dice; the schedule of the learning rate still spans `epochs`. Left out: all `epochs` are trained",
    )
    tensorboard: Tensorboard = False
    head: SirenHead | None = Field(
        None, description="coordinate head in place of the last layer; left out: none"
    )
    infer: OwnInfer = OwnInfer()
    memory_mb: AutoMemoryMb = "auto"
    runtime_min: RuntimeMin = 1440

    @model_validator(mode="after")
    def _patch_fits(self) -> "Model":
        if self.dims == 3 and self.slices != Slices():
            raise ValueError("slices: for 2D networks alone; set dims: 2, or leave slices out")
        if self.patch_size != "auto":
            if len(self.patch_size) != self.dims:
                raise ValueError(
                    f"patch_size: {len(self.patch_size)} numbers, but dims is {self.dims}"
                )
            if min(self.patch_size) < 8:
                raise ValueError("patch_size: expected at least 8 voxels along each axis")
        return self

    @model_validator(mode="after")
    def _frozen_is_known(self) -> "Model":
        check_freeze(self.freeze, self.initial_weights)
        return self

    @model_validator(mode="after")
    def _flat_is_seen(self) -> "Model":
        if self.stop_when_flat and not self.validation_fraction:
            raise ValueError(
                f"stop_when_flat: {self.stop_when_flat}, but validation_fraction is 0, so that there is no validation to stop "
                "by; expected a validation_fraction above 0, or leave stop_when_flat out"
            )
        return self

    @model_validator(mode="after")
    def _gpus_share(self) -> "Model":
        if self.batch_size % self.gpus:
            raise ValueError(
                f"gpus: {self.gpus} do not share a batch of {self.batch_size} equally; expected a "
                "batch_size that is a multiple of gpus"
            )
        if self.gpus > 1 and self.device == "cpu":
            raise ValueError(f"gpus: {self.gpus}, but device is cpu; expected auto or cuda, or 1")
        if self.gpus > 1 and self.trainer == "synth":
            raise ValueError(
                f"gpus: {self.gpus}, but trainer: synth draws images on one; expected 1"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _loss_of_its_trainer(cls, given: Any) -> Any:
        """Give `trainer: synth` SynthSeg's loss, Dice alone: cross-entropy delays small structures by thousands of steps."""
        if isinstance(given, dict) and given.get("trainer") == "synth" and "loss" not in given:
            return {**given, "loss": {"dice": 1.0, "cross_entropy": 0.0}}
        return given

    @model_validator(mode="after")
    def _drops_what_it_samples(self) -> "Model":
        if self.infer.mc_dropout and getattr(self, "dropout", None) == 0:
            raise ValueError(
                "dropout: 0, and infer.mc_dropout draws by it: all samples would be the same; set dropout above 0, or take "
                "several seeds as members"
            )
        return self

    @model_validator(mode="after")
    def _changes_of_its_trainer(self) -> "Model":
        if self.trainer == "synth" and self.augmentation != Augmentation():
            raise ValueError(
                "augmentation: trainer: synth makes its images itself; set `synthesis` instead"
            )
        if self.trainer == "images" and self.synthesis != Synthesis():
            raise ValueError("synthesis: only a model with trainer: synth draws images; add that")
        return self


class EnetModel(Model):
    """ENet (Paszke et al. 2016): bottleneck encoder-decoder on slices."""

    network: Literal["enet"]
    dims: Literal[2] = Field(2, description="ENet works on slices")
    channels: int = Field(16, ge=4, description="channels of the initial block; 16 in the paper")
    dropout: Fraction = Field(0.1, description="spatial dropout of the bottlenecks")


class UnetModel(Model):
    """U-Net (Ronneberger et al. 2015; Çiçek et al. 2016) of free width and depth."""

    network: Literal["unet"]
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128, 256), min_length=2, description="channels of each level"
    )
    convolutions_per_level: int = Field(
        2, ge=1, le=4, description="convolutions of each block", json_schema_extra=EXPERT
    )
    downsampling: Literal["stride", "max_pool"] = Field(
        "stride",
        description="`stride`: of a level's first convolution; `max_pool` before it",
        json_schema_extra=EXPERT,
    )
    upsampling: Literal["transposed", "linear", "nearest"] = Field(
        "transposed",
        description="transposed convolution, or interpolation",
        json_schema_extra=EXPERT,
    )
    normalisation: Literal["instance", "batch", "none"] = Field(
        "instance", description="normalisation layer; `none`: convolutions have a bias in its place"
    )
    activation: Literal["leaky_relu", "relu"] = Field(
        "leaky_relu", description="leaky ReLU has slope 0.01"
    )
    attention: Literal["none", "se", "cbam"] = Field(
        "none",
        description="at the end of each block: `se`: squeeze-and-excitation (Hu et al. 2018); `cbam`: "
        "channels and places (Woo et al. 2018)",
    )
    initialisation: Literal["he", "he_uniform", "default"] = Field(
        "he",
        description="first weights: He et al. 2015, normal or uniform; `default`: torch's",
        json_schema_extra=EXPERT,
    )
    dropout: Fraction = Field(0.0, description="dropout of the blocks")


class AttentionUnetModel(Model):
    """U-Net with attention gates on its skip connections (Oktay et al. 2018), MONAI's."""

    network: Literal["attention_unet"]
    channels: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (32, 64, 128, 256), min_length=2, description="channels of each level"
    )
    dropout: Fraction = Field(0.0, description="dropout of the convolutions")


class UnetrModel(Model):
    """UNETR (Hatamizadeh et al. 2022): a vision transformer as encoder, MONAI's. Patches are multiples of 16 voxels."""

    network: Literal["unetr"]
    feature_size: int = Field(16, ge=1, description="channels of the decoder's last level")
    hidden_size: int = Field(768, ge=1, description="width of the transformer")
    heads: int = Field(12, ge=1, description="attention heads; they divide `hidden_size`")
    dropout: Fraction = Field(0.0, description="dropout of the transformer")

    @model_validator(mode="after")
    def _heads_divide(self) -> "UnetrModel":
        if self.hidden_size % self.heads:
            raise ValueError(
                f"heads: {self.heads} do not divide hidden_size ({self.hidden_size}); "
                "expected a divisor"
            )
        return self


class SwinUnetrModel(Model):
    """SwinUNETR (Hatamizadeh et al. 2022): attention in shifted windows, MONAI's. Patches are multiples of 32 voxels."""

    network: Literal["swin_unetr"]
    feature_size: int = Field(
        24, ge=12, multiple_of=12, description="channels of the first level; a multiple of 12"
    )
    depths: tuple[int, int, int, int] = Field(
        (2, 2, 2, 2), description="transformer layers of each stage"
    )
    heads: tuple[int, int, int, int] = Field(
        (3, 6, 12, 24), description="attention heads of each stage"
    )
    window_size: int = Field(7, ge=2, description="side of an attention window, in tokens")
    version: Literal[1, 2] = Field(
        1, description="2: a residual convolution before each stage (SwinUNETR-V2)"
    )
    dropout: Fraction = Field(0.0, description="dropout of the transformer")

    @model_validator(mode="after")
    def _heads_divide(self) -> "SwinUnetrModel":
        widths = [self.feature_size * 2**stage for stage in range(4)]
        for width, heads, depth in zip(widths, self.heads, self.depths, strict=True):
            if heads < 1 or width % heads:
                raise ValueError(f"heads: {heads} do not divide a stage's {width} channels")
            if depth < 1:
                raise ValueError(f"depths: {depth}; expected at least 1 layer in each stage")
        return self


class PluginModel(Model):
    """A network of your own, in a file or an installed package ([plug-ins](../docs/plugins.md)).

    `network: ./my_net.py` is written, from the study file's folder, or `./my_nets.py:Wide`, or `my_package.nets:Wide`.
    """

    model_config = ConfigDict(json_schema_extra=written_as_plugin("network"))

    network: Literal["plugin"] = Field(
        description="`./my_net.py` (its `Network`), `./my_nets.py:Wide` or `my_package.nets:Wide`"
    )
    network_plugin: str = Field(
        description="not written: the reference that stands as `network`",
        json_schema_extra=INTERNAL,
    )
    options: dict[str, Any] = Field(
        {},
        description="keyword arguments of the network, e.g. `{width: 16}`; `grid_search` varies `options.width`",
    )
