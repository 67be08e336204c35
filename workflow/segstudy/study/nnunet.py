"""nnU-Net as a model of a study."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from segstudy.study.settings import EXPERT, Positive
from segstudy.study.study_model import (
    Device,
    Freeze,
    Infer,
    InitialWeights,
    MemoryMb,
    RuntimeMin,
    Seeds,
    Tensorboard,
    Threads,
    TrainedModel,
    check_freeze,
)


class NnunetInfer(Infer):
    """How nnU-Net's predictor is run. Its own choice of post-processing is left out: ours is made for all models."""

    mirroring: bool = Field(
        True, description="average over mirrored images (test-time augmentation)"
    )


class NnunetModel(TrainedModel):
    """nnU-Net itself (Isensee et al. 2021; extra `nnunet`), on the same folds as the other models.

    It plans, preprocesses, trains and predicts by its own rules; each of its plans is fitted on a fold's training cases.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["trainer"]))

    old_names = {**TrainedModel.old_names, "validation_share": "validation_fraction"}

    network: Literal["nnunet"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["nnunet"] = Field("nnunet", description="written in place of `network`")
    configuration: Literal["2d", "3d_fullres", "3d_lowres"] = Field(
        "3d_fullres",
        description="nnU-Net's configuration; `3d_lowres` is there for large images only",
    )
    planner: Literal["default", "resenc_m", "resenc_l", "resenc_xl"] | str = Field(
        "default",
        description="`default`: the U-Net of the paper; `resenc_...`: residual encoder of that size (Isensee et al. 2024); "
        "or the name of any other planner class of nnU-Net's, or one of your own as of `trainer_class`",
    )
    trainer_class: str = Field(
        "nnUNetTrainer",
        description="a class of nnU-Net's that trains, by its name, e.g. `nnUNetTrainerDA5`, or one of your own that is derived "
        "from it: `./my_trainer.py:NAME` or `my_package.trainers:NAME`. Epochs, steps and mirroring are those that stand here",
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
    mirror: Literal["auto", "all", "not_right_left", "none"] = Field(
        "auto",
        description="axes that training mirrors, and prediction with it; `not_right_left`: all but that axis of the "
        "images; `all`: as nnU-Net does, which knows no sides, so that `left_right_pairs` get mixed up: only to show "
        "that, and the report says so; `auto`: `not_right_left` where the study has pairs, else `all`",
    )
    compile: bool = Field(
        True,
        description="train through torch.compile on a GPU, as nnU-Net does; stops where that cannot be done",
        json_schema_extra=EXPERT,
    )
    device: Device = "auto"
    # One trains, the others make batches: as many as nnU-Net starts for a GPU by itself.
    threads: Threads = 13
    seeds: Seeds = (0,)
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="fraction of a fold's training subjects held out for validation; 0: all are trained on "
        "(nnU-Net's fold `all`), and pseudo Dice is that of training cases",
    )
    initial_weights: InitialWeights = None
    freeze: Freeze = ()
    tensorboard: Tensorboard = False
    infer: NnunetInfer = NnunetInfer()
    memory_mb: MemoryMb = 32000
    runtime_min: RuntimeMin = 2880

    @model_validator(mode="before")
    @classmethod
    def _trains_all_epochs(cls, content: Any) -> Any:
        """Refuse early stopping, with the reason."""
        if isinstance(content, dict) and content.get("stop_when_flat"):
            raise ValueError(
                "stop_when_flat: nnU-Net trains all its epochs, over which its learning rate decays to 0; leave it out, or "
                "lower epochs"
            )
        return content

    @model_validator(mode="after")
    def _frozen_is_known(self) -> "NnunetModel":
        check_freeze(self.freeze, self.initial_weights)
        return self

    @property
    def plan(self) -> None:
        """Return None: nnU-Net makes plans of its own."""
        return None

    @property
    def dims(self) -> int:
        """Return 2 for slices and 3 for volumes."""
        return 2 if self.configuration == "2d" else 3
