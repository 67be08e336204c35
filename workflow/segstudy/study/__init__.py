"""The study file: its settings, its errors, and the slice of it that each stage is given.

Every setting is here, with its unit and default: `study` holds all others; `reading` reads them, and
`validation_errors` words what is wrong. `config/README.md` and `config/study.schema.json` are generated from
these types (`segstudy study --reference`, `--schema`). This package imports neither torch nor snakemake.
"""

from segstudy.study.analysis import Metrics, Statistics
from segstudy.study.datasets import Cohort, Dataset, RepairedCohort
from segstudy.study.ensemble import EnsembleModel
from segstudy.study.external import PLACEHOLDER, ExternalModel
from segstudy.study.lesions import Lesions
from segstudy.study.models import AnyModel
from segstudy.study.networks import (
    AttentionUnetModel,
    EnetModel,
    Model,
    OwnInfer,
    PluginModel,
    SirenHead,
    SwinUnetrModel,
    UnetModel,
    UnetrModel,
)
from segstudy.study.nnunet import NnunetInfer, NnunetModel
from segstudy.study.plugin_trainer import PluginTrainerModel
from segstudy.study.predictions import PredictionsModel
from segstudy.study.preprocessing import Preprocess, Splits
from segstudy.study.ratings import Ratings
from segstudy.study.reading import as_written, check_sources, from_json, read_study
from segstudy.study.repair import Elastix, Repair
from segstudy.study.reporting import Availability, Fingerprint, Reporting
from segstudy.study.settings import Settings
from segstudy.study.sources import (
    BidsSource,
    FilesSource,
    FolderSource,
    LabelMapsSource,
    MsdSource,
    NeuriteSource,
    Origin,
    PhantomSource,
    PluginSource,
    SlicesSource,
    TableSource,
    patterns_of,
    published_words,
    source_kinds,
)
from segstudy.study.stages import (
    ExternalSettings,
    FitSettings,
    GridSettings,
    MeasureSettings,
    PredictionSettings,
    QualitySettings,
    ResampleSettings,
    SplitSettings,
    TissueSettings,
    TrainSettings,
)
from segstudy.study.study import Study
from segstudy.study.study_model import StudyModel, TrainingSubset, UntrainedModel
from segstudy.study.style import Style
from segstudy.study.training import Augmentation, Loss, Optimizer, Schedule, Slices, Synthesis

__all__ = [
    "PLACEHOLDER",
    "AnyModel",
    "AttentionUnetModel",
    "Augmentation",
    "Availability",
    "BidsSource",
    "Cohort",
    "Dataset",
    "Elastix",
    "EnetModel",
    "EnsembleModel",
    "ExternalModel",
    "ExternalSettings",
    "FilesSource",
    "Fingerprint",
    "FitSettings",
    "FolderSource",
    "GridSettings",
    "LabelMapsSource",
    "Lesions",
    "Loss",
    "MeasureSettings",
    "Metrics",
    "Model",
    "MsdSource",
    "NeuriteSource",
    "NnunetInfer",
    "NnunetModel",
    "Optimizer",
    "Origin",
    "OwnInfer",
    "PhantomSource",
    "PluginModel",
    "PluginSource",
    "PluginTrainerModel",
    "PredictionSettings",
    "PredictionsModel",
    "Preprocess",
    "QualitySettings",
    "Ratings",
    "Repair",
    "RepairedCohort",
    "Reporting",
    "ResampleSettings",
    "Schedule",
    "Settings",
    "SirenHead",
    "Slices",
    "SlicesSource",
    "SplitSettings",
    "Splits",
    "Statistics",
    "Study",
    "StudyModel",
    "Style",
    "SwinUnetrModel",
    "Synthesis",
    "TableSource",
    "TissueSettings",
    "TrainSettings",
    "TrainingSubset",
    "UnetModel",
    "UnetrModel",
    "UntrainedModel",
    "as_written",
    "check_sources",
    "from_json",
    "patterns_of",
    "published_words",
    "read_study",
    "source_kinds",
]
