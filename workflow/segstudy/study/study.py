"""The settings of a whole study, and the checks between its parts."""

import itertools
from typing import Any

from pydantic import Field, field_validator, model_validator

from segstudy import __version__
from segstudy.metric import PREFERRED
from segstudy.mirroring import mirrored_axes, side_blind_settings
from segstudy.regions import measured_regions
from segstudy.sides import likely_pairs, other_side
from segstudy.study import references
from segstudy.study.analysis import (
    Metrics,
    Publish,
    Statistics,
    check_composite_regions,
    check_measured,
)
from segstudy.study.datasets import Dataset, pairs_of
from segstudy.study.ensemble import EnsembleModel, Members
from segstudy.study.external import ExternalModel
from segstudy.study.models import AnyModel
from segstudy.study.networks import Model
from segstudy.study.nnunet import NnunetModel
from segstudy.study.predictions import PredictionsModel
from segstudy.study.preprocessing import Preprocess, Splits
from segstudy.study.quick import FOLDS, IN_BRIEF
from segstudy.study.ratings import Ratings
from segstudy.study.reporting import Reporting
from segstudy.study.settings import INTERNAL, Name, Pairs, Settings
from segstudy.study.study_model import Infer, StudyModel, UntrainedModel

SCHEMA_VERSION = 2
"""The version of the keys of a study file; docs/versions.md lists what each version changed."""


class Study(Settings):
    """A study: which data, which models, how they are measured and compared."""

    schema_version: int = Field(
        SCHEMA_VERSION, ge=1, description="version of the keys of this file; left out: today's"
    )
    name: Name = Field(
        description="name of the results folder; left out: the file's name, `_` for spaces and the like"
    )
    title: str = Field("", description="title of the report")
    description: str = Field("", description="a paragraph for the report")
    quick: bool = Field(
        False,
        description="train every network small and briefly (at most 4 epochs of 50 steps), and run two of the N folds of `splits.folds`, "
        "so that about 2/N of the subjects are tested, whatever other keys say: for a first look at data and report, in minutes on a "
        "laptop; the report says so. Folds are dealt as without it, so that they stay when it is taken out, as it is for results",
    )
    datasets: dict[Name, Dataset] = Field(min_length=1)
    corrections: str | None = Field(
        None,
        description="folder of corrected labels, `<dataset>/<case>.<any format>` with a record each, which take the place of those "
        "delivered; left out: `STUDY.corrections` beside the study file, where there is one",
    )
    splits: Splits = Splits()
    preprocess: dict[Name, Preprocess] = Field(
        {"default": Preprocess()}, description="named plans", min_length=1
    )
    models: dict[Name, AnyModel] = Field(min_length=1)
    ensembles: dict[Name, Members] = Field(
        {},
        description="further models, each of several of `models` that predict together: `{all3d: [unet3d, nnunet]}` averages the "
        "probabilities of these, with all their seeds, fold by fold",
    )
    metrics: Metrics = Metrics()
    statistics: Statistics = Statistics()
    publish: Publish = Publish()
    ratings: Ratings | None = Field(
        None,
        description="what readers think of predictions, blinded to the model: `{}` makes the page `rating/index.html` for them, `files` "
        "reads back what they saved",
    )
    reporting: Reporting = Reporting()
    grids: dict[Name, dict[Name, dict[str, Any]]] = Field(
        {},
        description="not written: what each `grid_search` of a model became, model by model",
        json_schema_extra=INTERNAL,
    )

    partial: tuple[str, ...] = Field(
        (),
        description="not written: what is missing, where a report is made before all runs are done",
        json_schema_extra=INTERNAL,
    )

    @model_validator(mode="before")
    @classmethod
    def _ensembles_are_models(cls, content: Any) -> Any:
        """Make each of `ensembles` one of `models`."""
        ensembles = content.get("ensembles") if isinstance(content, dict) else None
        models = content.get("models") if ensembles else None
        if not (isinstance(ensembles, dict) and isinstance(models, dict)):
            return content
        for name in ensembles:
            if name in models:
                raise ValueError(
                    f"ensembles.{name}: a model has this name, too; rename one of them"
                )
        added = {
            name: {"trainer": "ensemble", "members": members} for name, members in ensembles.items()
        }
        return {**content, "ensembles": {}, "models": {**models, **added}}

    @field_validator("schema_version")
    @classmethod
    def _is_known(cls, value: int) -> int:
        if value > SCHEMA_VERSION:
            raise ValueError(
                f"{value}: the file was written for a newer segstudy; this one, {__version__}, reads "
                f"versions up to {SCHEMA_VERSION}. Install the newer one"
            )
        return value

    @model_validator(mode="after")
    def _parts_agree(self) -> "Study":
        """Check the parts against each other, the datasets first, since the other checks rely on them."""
        _check_datasets(self)
        for name, model in self.models.items():
            _check_model(self, name, model)
        _check_raters(self)
        _check_channels(self)
        _check_plans(self)
        _check_sides(self)
        check_composite_regions(self.metrics.composite_regions, list(_first(self).structures))
        check_measured(self.metrics, [*self.structures, *self.composite_regions])
        _check_comparisons(self)
        _check_plan(self)
        _check_subgroups(self)
        _check_style(self)
        self.models.update(_with_agreement(self))
        return self

    @property
    def in_brief(self) -> str:
        """What is to be said of the study wherever its results are met; empty for one that is no first look."""
        if not self.quick:
            return ""
        folds = f"; {self.folds_run}" if self.folds_run else ""
        return f"for a first look only (quick: true): {IN_BRIEF}{folds}; take out quick: true for results"

    @property
    def folds_run(self) -> str:
        """Say how many of the folds run, and so how many subjects are tested; empty where all do."""
        run, dealt = len(self.folds), self.splits.folds
        if run == dealt or not self.cross_validated_datasets:
            return ""
        verb, which = ("is", "it") if run == 1 else ("are", "them")
        return f"{run} of {dealt} folds {verb} run, so that about {run}/{dealt} of the subjects dealt into {which} are tested"

    def plugins(self) -> dict[str, str]:
        """Return every plug-in of the study: its key in the study file, e.g. `models.own.network` -> its reference."""
        return references.listed(self.model_dump(mode="json"))

    def plugin_provenance(self) -> dict[str, str]:
        """Return the label and digest of every plug-in, by its key in the study file."""
        return references.provenance(self.model_dump(mode="json"))

    @property
    def training_datasets(self) -> list[str]:
        """Return the datasets that may be trained on, with `role: train` or `train_only`."""
        return [name for name, dataset in self.datasets.items() if dataset.role != "test"]

    @property
    def needs_images(self) -> bool:
        """Return whether a model predicts, for which it is given images; predictions that are there need none."""
        return not all(isinstance(model, PredictionsModel) for model in self.models.values())

    @property
    def trains(self) -> bool:
        """Return whether a model is trained here."""
        return not all(isinstance(model, UntrainedModel) for model in self.models.values())

    @property
    def tested_datasets(self) -> list[str]:
        """Return the datasets with tested cases: those with images, or all where no model needs these, but no `train_only`."""
        return [
            name
            for name, dataset in self.datasets.items()
            if (dataset.has_images or not self.needs_images) and dataset.role != "train_only"
        ]

    @property
    def cross_validated_datasets(self) -> list[str]:
        """Return the training datasets that are tested, whose cases each fold but one trains on and that one tests."""
        return [name for name in self.training_datasets if name in self.tested_datasets]

    @property
    def raters(self) -> list[str]:
        """Return the models that are a second reader's labels (`rater: true`), which are measured and not compared."""
        return [name for name, model in self.models.items() if getattr(model, "rater", False)]

    def compared(self) -> "Study":
        """Return the study of the models that are compared: all but the raters'."""
        models = {name: model for name, model in self.models.items() if name not in self.raters}
        return self.model_copy(update={"models": models}) if self.raters else self

    def trained_on(self, model: str) -> list[str]:
        """Return the datasets that a model learns from, in the order of the study file."""
        settings = self.models[model]
        if isinstance(settings, EnsembleModel):
            learned = {name for member in settings.members for name in self.trained_on(member)}
            return [name for name in self.training_datasets if name in learned]
        if isinstance(settings, UntrainedModel):
            return []
        return [name for name in self.training_datasets if name in (settings.train_on or [name])]

    def fitted_on(self, plan: str) -> list[str]:
        """Return the datasets whose training cases a plan is fitted on: those that its models learn from."""
        users = [name for name, model in self.models.items() if model.plan == plan]
        return self.trained_on(users[0]) if users else self.training_datasets

    def ignores(self, model: str) -> bool:
        """Return whether the labels that a model learns from may hold voxels that nobody has labelled."""
        return any(self.datasets[name].ignore for name in self.trained_on(model))

    @property
    def _leading(self) -> Dataset:
        """Return the first dataset to train on; of a study that trains nothing, the first."""
        return self.datasets[next(iter(self.training_datasets or self.datasets))]

    @property
    def structures(self) -> list[str]:
        """Return the structures in the order of the network's classes 1, 2, ..., the same for all datasets."""
        return list(self._leading.structures)

    @property
    def left_right_pairs(self) -> Pairs:
        """Return the pairs of left and right structures."""
        return pairs_of(self._leading)

    @property
    def side_blind_models(self) -> list[str]:
        """Return the models that mirror left to right and keep the labels, as the study asks for by `mirror: all`."""
        pairs = self.left_right_pairs
        return [
            name
            for name, model in self.models.items()
            if pairs and isinstance(model, NnunetModel) and mirrored_axes(model, pairs) == "all"
        ]

    @property
    def composite_regions(self) -> dict[str, tuple[str, ...]]:
        """Return the regions of several structures that are measured: the study's, then those of left and right."""
        return measured_regions(
            self.metrics.composite_regions, self.left_right_pairs, self.structures
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels of an image, in order."""
        return self.datasets[self.tested_datasets[0]].channels

    @property
    def modality(self) -> str:
        """Return the modality of all images."""
        return self._leading.modality

    @property
    def folds(self) -> list[int]:
        """Return the folds to run; one where all training data are label maps, since folds would be alike."""
        if not self.cross_validated_datasets:
            return [0]
        folds = list(self.splits.run_folds or range(self.splits.folds))
        return folds[:FOLDS] if self.quick else folds


def _with_agreement(study: Study) -> dict[str, StudyModel]:
    """Return the only model of a study of estimates of quality, so that predictions of an image are there to agree; else none."""
    compared = study.compared().models
    if not study.statistics.quality or len(compared) > 1:
        return {}
    [(name, model)] = compared.items()
    infer = getattr(model, "infer", None)
    sampled = any(getattr(infer, key, 0) for key in ("mc_dropout", "uncertainty"))
    if not isinstance(infer, Infer) or len(model.seeds) > 1 or sampled:
        return {}
    infer = infer.model_copy(update={"agreement": True})
    return {name: model.model_copy(update={"infer": infer})}


def _first(study: Study) -> Dataset:
    """Return the dataset that the others are compared with."""
    return study.datasets[study.tested_datasets[0]]


def _check_datasets(study: Study) -> None:
    """Check that datasets have the same structures and like images, and that some are trained on, some tested."""
    if not study.tested_datasets:
        only = any(dataset.role == "train_only" for dataset in study.datasets.values())
        what = (
            "role: train_only, so nothing is tested"
            if only
            else "label maps, so nothing can be predicted"
        )
        raise ValueError(
            f"datasets: all are {what}; add one with images, with role: test if it is not to be trained on"
        )
    first_name, first = study.tested_datasets[0], _first(study)
    for name, dataset in study.datasets.items():
        if set(dataset.structures) != set(first.structures):
            raise ValueError(
                f"datasets.{name}.structures: {', '.join(dataset.structures)}; "
                f"expected those of {first_name}: {', '.join(first.structures)}"
            )
        same_channels = dataset.channels == first.channels or not dataset.has_images
        if not same_channels or dataset.modality != first.modality:
            raise ValueError(
                f"datasets.{name}: channels and modality must be those of {first_name}"
            )
        if dataset.left_right_pairs != first.left_right_pairs:
            raise ValueError(f"datasets.{name}.left_right_pairs: must be those of {first_name}")
    for name, dataset in study.datasets.items():
        if study.needs_images and not dataset.has_images and dataset.role == "test":
            raise ValueError(
                f"datasets.{name}.role: test, but label maps have no images to predict; leave role out: they are "
                "trained on"
            )
    if study.trains and not study.training_datasets:
        raise ValueError("datasets: at least one needs `role: train`")
    if study.splits.run_folds and not study.cross_validated_datasets:
        raise ValueError(
            "splits.run_folds: label maps or role: train_only are all that is trained on, by one training a model and seed; nothing "
            "is cross-validated: leave it out"
        )


def _check_model(study: Study, name: str, model: StudyModel) -> None:
    if isinstance(model, ExternalModel):
        _check_external(study, name, model)
    elif isinstance(model, PredictionsModel):
        _check_labels(study, name, model)
    elif isinstance(model, EnsembleModel):
        _check_ensemble(study, name, model)
    else:
        _check_data(study, name, model)
    if not isinstance(model, Model):
        return
    if model.plan not in study.preprocess:
        raise ValueError(
            f"models.{name}.plan: {model.plan!r} is none of the plans "
            f"({', '.join(study.preprocess)})"
        )
    if model.trainer == "synth":
        _check_synth(study, name, model)
    _check_class_weights(study, name, model)


def _check_external(study: Study, name: str, model: ExternalModel) -> None:
    """Check that a program predicts the study's structures from the study's channels."""
    _check_labels(study, name, model)
    try:
        model.check(study.channels)
    except ValueError as error:
        raise ValueError(f"models.{name}.{error}") from None


def _check_ensemble(study: Study, name: str, model: EnsembleModel) -> None:
    """Check that an ensemble's members are models that are trained here and give probabilities, and that it has several networks."""
    for place, member in enumerate(model.members):
        where = f"ensembles.{name}: {member}"
        if member in model.members[:place]:
            raise ValueError(f"{where}: stands twice; name each model once")
        if member == name or member not in study.models:
            known = [
                one for one, own in study.models.items() if not isinstance(own, UntrainedModel)
            ]
            raise ValueError(f"{where}: no such model; expected some of {', '.join(known)}")
        trainer = study.models[member].trainer
        if member in study.raters:
            raise ValueError(
                f"{where}: is a rater (rater: true), which predicts nothing; leave it out"
            )
        if trainer not in ("images", "synth", "nnunet"):
            raise ValueError(
                f"{where}: trainer: {trainer} gives labels, and no probabilities that could be averaged; leave it out"
            )
    if sum(len(study.models[member].seeds) for member in model.members) < 2:
        raise ValueError(
            f"ensembles.{name}: {', '.join(model.members)}: one network is no ensemble; name several models, or one with several seeds"
        )
    asked = {
        member: getattr(study.models[member].infer, "mc_dropout", 0) for member in model.members
    }
    if len(set(asked.values())) > 1:
        told = ", ".join(f"{member} {samples}" for member, samples in asked.items())
        raise ValueError(
            f"ensembles.{name}: infer.mc_dropout is {told}; expected the same in all members, whose samples count alike"
        )


def _check_labels(study: Study, name: str, model: ExternalModel | PredictionsModel) -> None:
    """Check that labels, where they are given, are those of the study's structures."""
    if model.labels and set(model.labels) != set(study.structures):
        raise ValueError(
            f"models.{name}.labels: {', '.join(model.labels)}; expected the structures of the "
            f"datasets: {', '.join(study.structures)}"
        )


def _check_data(study: Study, name: str, model: StudyModel) -> None:
    """Check that a model learns from training datasets, and from label maps only by synthesised images."""
    for dataset in model.train_on or ():
        if dataset not in study.training_datasets:
            raise ValueError(
                f"models.{name}.train_on: {dataset!r} is none of the datasets to train on "
                f"({', '.join(study.training_datasets)})"
            )
    maps = [dataset for dataset in study.trained_on(name) if not study.datasets[dataset].has_images]
    if maps and model.trainer != "synth":
        others = [dataset for dataset in study.cross_validated_datasets if dataset not in maps]
        instead = f"train_on: [{', '.join(others)}], or " if others else ""
        raise ValueError(
            f"models.{name}: learns from images, and {maps[0]} has label maps alone; say {instead}"
            "trainer: synth, which draws images from them"
        )


def _check_synth(study: Study, name: str, model: Model) -> None:
    """Check that synthesised images, of any contrast, are normalised each by itself."""
    chosen = study.preprocess[model.plan].normalise
    if chosen == "ct" or (chosen == "auto" and study.modality == "CT"):
        raise ValueError(
            f"models.{name}: trainer: synth needs a plan with normalise: zscore, found "
            f"{chosen!r} for {study.modality}; name one by `plan`"
        )


def _check_class_weights(study: Study, name: str, model: Model) -> None:
    """Check that each structure has a weight, or none has."""
    weights = model.loss.class_weights
    if weights is None:
        return
    structures = list(_first(study).structures)
    known = ["background", *structures]
    unknown, missing = sorted(set(weights) - set(known)), sorted(set(structures) - set(weights))
    if unknown:
        raise ValueError(
            f"models.{name}.loss.class_weights: {unknown[0]!r} is none of {', '.join(known)}"
        )
    if missing:
        raise ValueError(
            f"models.{name}.loss.class_weights: no weight for {missing[0]}; "
            "give one to each structure"
        )


def _check_raters(study: Study) -> None:
    """Check that raters are no competitors: there is another model, and no comparison or style of models names a rater."""
    if not study.compared().models:
        raise ValueError(
            f"models: {', '.join(study.raters)}: rater: true says that these are labels to compare models with, and there is no other "
            "model; add one, or leave rater out to have these measured as a model"
        )
    compared = () if study.statistics.compare == "all" else study.statistics.compare
    shown = study.publish.style.models
    for key, names in (
        ("statistics.compare", itertools.chain.from_iterable(compared)),
        *(
            (f"publish.style.models.{part}", getattr(shown, part))
            for part in ("order", "names", "colours")
        ),
    ):
        for name in names:
            if name in study.raters:
                raise ValueError(
                    f"{key}: {name} is a rater (rater: true), which is shown as human agreement and compared with no model; leave "
                    "it out"
                )


def _check_channels(study: Study) -> None:
    """Check that a plan's channels are among those of the images."""
    for name, plan in study.preprocess.items():
        odd = [channel for channel in plan.channels or () if channel not in study.channels]
        if odd:
            raise ValueError(
                f"preprocess.{name}.channels: {odd[0]!r} is none of the datasets' channels "
                f"({', '.join(study.channels)})"
            )


def _check_plans(study: Study) -> None:
    """Check that the models of a plan learn from the same datasets, on which it is fitted."""
    users: dict[str, str] = {}
    for name, model in study.models.items():
        other = users.setdefault(model.plan, name) if model.plan else name
        if set(study.trained_on(name)) != set(study.trained_on(other)):
            raise ValueError(
                f"models.{name}.train_on: {', '.join(study.trained_on(name))}, while {other} of the same plan "
                f"({model.plan}) learns from {', '.join(study.trained_on(other))}; what is trained on decides "
                "spacing and intensities: give one of them a plan of its own under preprocess"
            )


def _check_sides(study: Study) -> None:
    """Check that structures swap sides where a model mirrors images across the sagittal plane."""
    cohort = _first(study)
    lateral = [name for name in cohort.structures if other_side(name)]
    if cohort.left_right_pairs or not lateral:
        return
    pairs = ", ".join(f"[{left}, {right}]" for left, right in likely_pairs(cohort.structures))
    for name, model in study.models.items():
        for setting in side_blind_settings(model):
            without = (
                "mirror: not_right_left"
                if isinstance(model, NnunetModel)
                else "leave right_left out"
            )
            raise ValueError(
                f"models.{name}.{setting}: a mirrored image shows {lateral[0]} on the other side, under the "
                f"wrong name; declare left_right_pairs: [{pairs or '[left, right], ...'}] in each dataset, or "
                f"{without}, or say left_right_pairs: none if these names are not sides"
            )


def _check_comparisons(study: Study) -> None:
    """Check that comparisons name models of the study, or datasets that are tested."""
    compared = () if study.statistics.compare == "all" else study.statistics.compare
    for model in itertools.chain.from_iterable(compared):
        if model not in study.models:
            raise ValueError(
                f"statistics.compare: {model!r} is none of the models ({', '.join(study.models)})"
            )
    for name in itertools.chain.from_iterable(study.statistics.compare_datasets):
        if name not in study.tested_datasets:
            raise ValueError(
                f"statistics.compare_datasets: {name!r} is none of the datasets with images "
                f"({', '.join(study.tested_datasets)})"
            )


def _check_plan(study: Study) -> None:
    """Check that margins and primary endpoint are of metrics that are tested, and of structures that are measured."""
    settings = study.statistics
    tested = PREFERRED if settings.metrics == "auto" else settings.metrics
    measured = [*study.structures, *study.composite_regions]
    named = [
        (f"margin.{name}", name, list(margin) if isinstance(margin, dict) else [])
        for name, margin in settings.margin.items()
    ]
    if settings.primary:
        named.append(("primary", settings.primary.metric, [settings.primary.structure]))
    for key, name, structures in named:
        kin = {"nsd"} if name.startswith("nsd_") else set()
        if name == "nsd":
            kin = {other for other in tested if other.startswith("nsd_")}
        if not {name, *kin} & set(tested):
            raise ValueError(
                f"statistics.{key}: {name} is not tested; expected one of statistics.metrics "
                f"({', '.join(tested)})"
            )
        for structure in structures:
            if structure not in measured:
                raise ValueError(
                    f"statistics.{key}: {structure!r} is none of the structures ({', '.join(measured)})"
                )


def _check_subgroups(study: Study) -> None:
    """Check that a table may have the columns that make subgroups."""
    tested = {name: study.datasets[name] for name in study.tested_datasets}
    if study.statistics.subgroups and not any(one.has_participants for one in tested.values()):
        raise ValueError(
            f"statistics.subgroups: {', '.join(study.statistics.subgroups)}: no tested dataset has a table of subjects; name "
            f"one: datasets.{next(iter(tested))}.participants"
        )


def _check_style(study: Study) -> None:
    """Check that the style names models and structures of the study, and shows no two alike."""
    style = study.publish.style
    style.models.check("publish.style.models", list(study.models))
    style.structures.check(
        "publish.style.structures", [*study.structures, *study.composite_regions]
    )
