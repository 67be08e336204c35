"""Settings that all models of a study have, whoever trains them."""

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from segstudy.files import file_checksum
from segstudy.study import references
from segstudy.study.settings import Name, Settings

# What several kinds of models are asked, each with defaults of its own.
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="where to train and predict")]
Threads = Annotated[int, Field(ge=1, description="CPU threads of a training or prediction job")]
Seeds = Annotated[tuple[int, ...], Field(min_length=1, description="one training a seed and fold")]
MemoryMb = Annotated[
    int, Field(ge=1, description="memory a training or prediction job asks for, in MB")
]
AutoMemoryMb = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1)],
    Field(
        description="memory a training or prediction job asks for, in MB; `auto`: by the voxels of the data, the "
        "patches and the network"
    ),
]
Tensorboard = Annotated[
    bool,
    Field(
        description="write the history as TensorBoard's event files too, epoch by epoch, into `tensorboard/` beside the weights "
        "(extra `tensorboard`); trainings that are done have none"
    ),
]
InitialWeights = Annotated[
    str | None,
    Field(
        description="fine-tuning: weights that the training starts from, a `weights.pt` of segstudy (or, for nnU-Net, a checkpoint "
        "of nnU-Net's), from the study file's folder. Layers that fit in name and shape are taken; others, and the last layer, start "
        "anew. A case that these weights were trained on is refused where it is tested"
    ),
]
Freeze = Annotated[
    tuple[str, ...],
    Field(
        description="layers that keep their `initial_weights`, by their names or the beginnings of these, e.g. `[encoder]`"
    ),
]
RuntimeMin = Annotated[int, Field(ge=1, description="time a training job asks for, in minutes")]


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
    agreement: bool = Field(
        False,
        description="tell how far predictions of an image agree, `agreement.json`, which `statistics.quality` calibrates: of the mirrored "
        "image where `mirror_axes` are set, else of the image with noise, other gamma and a shift, five predictions a case. On by itself "
        "where `statistics.quality` has one model with one seed",
    )


class TrainingSubset(Settings):
    """Some of a fold's training subjects, for the question how much data a model needs.

    Each of the model's `seeds` makes its own draw. Models with the same `seed` here draw alike:
    with 5 and with 30 subjects, the 5 are among the 30 of the same fold and training seed. Plans
    of `preprocess` are still fitted on all training cases of the fold; nnU-Net's on the subset.
    """

    subjects: int = Field(
        ge=1,
        description="how many, those of `validation_fraction` (at least one, above 0) included",
    )
    seed: int = Field(1, ge=0, description="seed of the draw")

    @property
    def draw(self) -> tuple[int, int]:
        """Return the number of subjects and the seed of their draw."""
        return self.subjects, self.seed


NOT_LEARNED = (
    *("seeds", "device", "gpus", "threads", "workers", "memory_mb", "runtime_min", "infer"),
    *("tensorboard", "train_on_all"),
)
"""Settings of a model that do not shape its weights."""


ABOVE = ("models", "*")
"""Where a model stands in a study file."""


def _inside(found: dict[str, str]) -> dict[str, str]:
    """Return what was found in a model by the keys inside it."""
    above = ".".join(ABOVE) + "."
    return {key.removeprefix(above): text for key, text in found.items()}


class StudyModel(Settings):
    """One of the models that a study trains, or runs, and compares."""

    def plugins(self) -> dict[str, str]:
        """Return the references to plug-ins, by key, e.g. `network` or `loss.plugins../my_loss.py`."""
        return _inside(references.listed(self.model_dump(mode="json"), ABOVE))

    def plugin_provenance(self) -> dict[str, str]:
        """Return the label and digest of each plug-in, by key, e.g. `network`: `my_net.py 4c5fa117d1973731`."""
        return _inside(references.provenance(self.model_dump(mode="json"), ABOVE))

    def identified(self) -> dict[str, Any]:
        """Return plain values, with the label and digest of each plug-in, and that of initial weights, in place of its path."""
        values = references.identified(self.model_dump(mode="json"), ABOVE)
        path = values.get("initial_weights")
        return {**values, "initial_weights": file_checksum(path)} if path else values

    def labelled(self) -> dict[str, Any]:
        """Return plain values, with the label of each plug-in, which people are shown, and the name of a file, in place of its path."""
        values = references.labelled(self.model_dump(mode="json"), ABOVE)
        path = values.get("initial_weights")
        return {**values, "initial_weights": PurePath(path).name} if path else values

    def learning(self) -> "StudyModel":
        """Return the settings that shape the weights, with all others at their defaults.

        Where and how long a job runs, and how its weights are used, is no reason to train again.
        """
        return self.at_default(NOT_LEARNED)


class TrainedModel(StudyModel):
    """One of the models that a study trains."""

    old_names = {"grid": "grid_search"}

    training_subset: TrainingSubset | None = Field(
        None, description="train on some of the subjects only; left out: on all of the fold's"
    )

    train_on: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="datasets that the model learns from, of those with `role: train`; left out: all of them. It is "
        "tested on all that have images, a fold's cases each",
    )

    train_on_all: bool = Field(
        False,
        description="after the cross-validation train once more a seed on every case but those that are only for testing, for use "
        "outside the study: `train/MODEL/all/`. No validation is held out, but for `stop_when_flat`. Nothing in the study is predicted by "
        "these weights",
    )

    grid_search: dict[str, tuple[Any, ...]] = Field(
        {},
        description="settings, e.g. `channels` or `optimizer.lr`, with lists of values; the model is replaced by one for "
        "each combination, at most 64, e.g. `unet3d_c32_lr0p001`",
    )

    @model_validator(mode="after")
    def _trains_on_all(self) -> Self:
        """Refuse a training on every case that may see some of them only."""
        if self.train_on_all and self.training_subset:
            raise ValueError(
                f"train_on_all: training_subset has it trained on {self.training_subset.subjects} subjects, and not on every case; "
                "leave one of the two out"
            )
        return self

    @field_validator("grid_search")
    @classmethod
    def _is_expanded(cls, value: dict) -> dict:
        if value:
            raise ValueError(
                "a grid search is expanded where a study file is read; give one model here"
            )
        return value


def check_freeze(freeze: tuple[str, ...], initial_weights: str | None) -> None:
    """Raise ValueError for layers that are frozen without weights to start from."""
    if freeze and not initial_weights:
        raise ValueError(
            f"freeze: {', '.join(freeze)}: without initial_weights these layers would keep random weights; name a file there, "
            "or leave freeze out"
        )


class UntrainedModel(StudyModel):
    """One of the models that a study compares without training it."""

    @model_validator(mode="before")
    @classmethod
    def _trains_nothing(cls, content: Any) -> Any:
        """Refuse keys of models that are trained, with the reason."""
        for key in ("training_subset", "train_on", "train_on_all", "grid_search", "grid"):
            if isinstance(content, dict) and content.get(key):
                trainer = content.get("trainer", content.get("network"))
                raise ValueError(f"{key}: trainer: {trainer} trains nothing; leave it out")
        return content

    @property
    def training_subset(self) -> None:
        """Return None: nothing is trained here."""
        return None

    @property
    def train_on(self) -> None:
        """Return None: nothing is trained here."""
        return None

    @property
    def plan(self) -> None:
        """Return None: images are taken as they are, by no plan."""
        return None
