# The study, and what the rules need to know of it: settings, cases, shards, code.
import json
import math
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import IncompleteCheckpointException, WorkflowError
from snakemake.logging import logger

# The folder `workflow/`, wherever the main Snakefile is.
PACKAGE = Path(str(workflow.current_basedir)).resolve().parent
# Rules say `python -m segstudy`: this Python and this package, also where nothing is activated.
# A conda environment (--sdm conda) is activated later and then comes first.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=os.pathsep.join(filter(None, [str(PACKAGE), os.getenv("PYTHONPATH")])),
)
if str(PACKAGE) not in sys.path:
    sys.path.insert(0, str(PACKAGE))
# SLURM's warning before a time limit goes to every process of a job, to the Snakemake in it too. It
# is for the training, which saves its state; this Snakemake would die of it and take the training along.
if "SLURM_JOB_ID" in os.environ:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

from segstudy import owner
from segstudy.cases import Case, read_cases, shards
from segstudy.code import digest
from segstudy.download.registry import refuse_by_hand
from segstudy.errors import InputError
from segstudy.images.names import grid_name, parse_grid
from segstudy.infer import named
from segstudy import owner
from segstudy.networks import modules
from segstudy.paths import expanded, followed, listed_files, state_of
from segstudy.publish import catalogue
from segstudy.study import (
    ExternalSettings,
    FitSettings,
    GridSettings,
    MeasureSettings,
    PhantomSource,
    ResampleSettings,
    SplitSettings,
    Study,
    TableSource,
    TissueSettings,
    TrainSettings,
    check_sources,
    read_study,
)
from segstudy.train.memory import training_memory_mb


def study_file() -> Path:
    """The file that `--config study=...` names: one of config/studies, or a path."""
    chosen = expanded(str(config["study"]), "--config study")
    folder = PACKAGE.parent / "config" / "studies"
    return Path(chosen) if chosen.endswith((".yaml", ".yml")) else folder / f"{chosen}.yaml"


def read_config() -> Study:
    """The study that `--config study=...` names."""
    folder = PACKAGE.parent / "config" / "studies"
    try:
        chosen, file = str(config["study"]), study_file()
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise InputError(
                f"{file}: no such study file. --config study=NAME takes one of {known}; "
                "a path to your own file ends in .yaml"
            )
        study = read_study(file, config.get("path"))
        sources = {name: dataset.source for name, dataset in study.datasets.items()}
        refuse_by_hand(sources, chosen)
        check_sources(study, file)
        return study
    except InputError as error:
        raise WorkflowError(str(error)) from None


STUDY = read_config()
RESULTS = f"{str(config['results']).rstrip('/')}/{STUDY.name}"


wildcard_constraints:
    dataset="[A-Za-z0-9_]+",
    plan="[A-Za-z0-9_]+",
    model="[A-Za-z0-9_]+",
    fold=r"\d+",
    seed=r"-?\d+",
    shard="[^/]+",
    grid=r"[0-9.x]+",


# --- files of a dataset -------------------------------------------------------------------------


def is_fetched(dataset: str) -> bool:
    """Whether the download stage puts the files there, or the user has."""
    source = STUDY.datasets[dataset].source
    return isinstance(source, PhantomSource) or not source.path


def delivered_files(wildcards) -> list[str]:
    """What an audit looks at: the fetched folder, or every file of the user's."""
    source = STUDY.datasets[wildcards.dataset].source
    if is_fetched(wildcards.dataset):
        return [f"{RESULTS}/download/{wildcards.dataset}/raw"]
    if isinstance(source, TableSource):
        return [source.path, *listed_files(Path(source.path))]
    try:
        return followed(
            path
            for path in Path(source.path).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )
    except InputError as error:
        raise WorkflowError(f"datasets.{wildcards.dataset}: {error}") from None


@cache
def _read_cases(path: str, modified_ns: int) -> dict[str, Case]:
    return {case.case: case for case in read_cases(path)}


@cache
def _shards(path: str, modified_ns: int, cases_per_job: int) -> dict[str, list[str]]:
    return shards(_read_cases(path, modified_ns), cases_per_job)


def audited(dataset: str) -> tuple[str, int]:
    """The table of the cases that passed the audit, which Snakemake runs first where it has to, and its age."""
    path = checkpoints.download_audit.get(dataset=dataset).output.cases
    return path, os.stat(path).st_mtime_ns


def cases_of(dataset: str) -> dict[str, Case]:
    return _read_cases(*audited(dataset))


def shards_of(dataset: str) -> dict[str, list[str]]:
    return _shards(*audited(dataset), STUDY.datasets[dataset].cases_per_job)


def selected(wildcards) -> list[str]:
    """Names of a shard's cases."""
    return shards_of(wildcards.dataset)[wildcards.shard]


def shard_files(wildcards, kind: str) -> list[str]:
    """Files of a shard's cases: `images`, or all `files` (labels too)."""
    cases = cases_of(wildcards.dataset)
    return followed(file for name in selected(wildcards) for file in getattr(cases[name], kind))


def training_tables(model: str) -> list[str]:
    """The case tables of what a model learns from."""
    return [f"{RESULTS}/download/{dataset}/cases.tsv" for dataset in STUDY.trained_on(model)]


def dataset_images(dataset: str) -> list[str]:
    return followed(file for case in cases_of(dataset).values() for file in case.images)


def is_repaired(dataset: str) -> bool:
    return STUDY.datasets[dataset].repair is not None


def shard_labels(wildcards) -> list[str]:
    """The labels of a shard as later stages see them: repaired, or as delivered."""
    if is_repaired(wildcards.dataset):
        return [f"{RESULTS}/repair/{wildcards.dataset}/labels/{wildcards.shard}"]
    cases = cases_of(wildcards.dataset)
    return followed(cases[name].label for name in selected(wildcards))


def dataset_labels(dataset: str) -> list[str]:
    """The labels of a whole dataset as later stages see them."""
    if is_repaired(dataset):
        return [f"{RESULTS}/repair/{dataset}/labels/{shard}" for shard in shards_of(dataset)]
    return followed(case.label for case in cases_of(dataset).values())


def labels_option(dataset: str) -> list[str]:
    return ["--labels", f"{RESULTS}/repair/{dataset}/labels"] if is_repaired(dataset) else []


def estimate_files(wildcards) -> list[str]:
    """The files that tell how the structure was moved: the reference case's; where the images are
    asked, every case's; where the transform is given and there is no reference case, the first's.
    """
    repair, cases = STUDY.datasets[wildcards.dataset].repair, cases_of(wildcards.dataset)
    if repair.frame == "auto" or repair.estimate_from == "images":
        asked = cases.values()
    else:
        asked = [cases[repair.reference_case or min(cases)]]
    return followed(file for case in asked for file in case.files)


# --- whose results ------------------------------------------------------------------------------


def data_checksums() -> dict[str, str]:
    """Of each dataset, what tells its data from others, wherever they lie."""
    found = {}
    for name, dataset in STUDY.datasets.items():
        files = None if is_fetched(name) else delivered_files(SimpleNamespace(dataset=name))
        if files and isinstance(dataset.source, TableSource):
            files = files[1:]  # A table of other paths may name the same files.
        found[name] = owner.data_checksum(dataset.source.to_json(), files)
    return found


def refuse_anothers_results() -> None:
    """Not where the results are those of another study file with other data, unless it is to adopt them."""
    if not workflow.is_main_process or config["adopt"]:
        return
    try:
        note = owner.claim(RESULTS, study_file(), data_checksums)
    except InputError as error:
        raise WorkflowError(str(error)) from None
    if note:
        logger.warning(note)


def record_owner() -> None:
    # Where data are not there yet (`make fetch`), a later run writes it down.
    with suppress(WorkflowError):
        owner.record(RESULTS, study_file(), data_checksums())


def finished_gb() -> str:
    """How much finished work may be kept beyond the results themselves."""
    asked = config["keep_finished_gb"]
    if isinstance(asked, bool) or not isinstance(asked, (int, float)) or not asked >= 0:
        raise WorkflowError(f"config: keep_finished_gb: {asked!r}; expected a number, 0 or more")
    return f"{asked:g}"


refuse_anothers_results()
# Of trainings and predictions; no rule declares it, so that Snakemake leaves it alone.
FINISHED, FINISHED_GB = f"{RESULTS}/.finished", finished_gb()


# --- plans and arrays ---------------------------------------------------------------------------


def shards_in(folder: str, suffix: str = ""):
    """What a dataset's shards leave in a folder, as an input function."""

    def files(wildcards) -> list[str]:
        names = shards_of(wildcards.dataset)
        return [f"{folder.format(**wildcards)}/{shard}{suffix}" for shard in names]

    return files


def grid_of(plan: str, fold: str) -> str:
    """The grid that arrays lie on; where the spacing is fitted, the fold's plan tells it.

    Folds that were fitted the same spacing share their arrays.
    """
    spacing_mm = STUDY.preprocess[plan].spacing_mm
    if spacing_mm == "auto":
        path = checkpoints.preprocess_plan.get(plan=plan, fold=fold).output[0]
        spacing_mm = json.loads(Path(path).read_text())["spacing_mm"]
    return grid_name(spacing_mm)


def is_nnunet(model: str) -> bool:
    return STUDY.models[model].network == "nnunet"


def is_synth(model: str) -> bool:
    return STUDY.models[model].trainer == "synth"


def models_of(*trainers: str) -> list[str]:
    return [name for name, model in STUDY.models.items() if model.trainer in trainers]


def any_of(models: list[str]) -> str:
    """A wildcard's constraint; no model, no match."""
    return "|".join(models) or "(?!)"


# Programs of others are not trained.
TRAINED = models_of("images", "synth", "nnunet")


def training_arrays(wildcards) -> list[str]:
    """Lists of prepared cases, or of label maps to draw images from; nnU-Net prepares the images itself."""
    if is_nnunet(wildcards.model):
        return []
    plan = STUDY.models[wildcards.model].plan
    grid = grid_of(plan, wildcards.fold)
    kind = "tissues/" if is_synth(wildcards.model) else ""
    return [
        f"{RESULTS}/preprocess/{dataset}/{kind}{plan}/shards-{grid}.txt"
        for dataset in STUDY.trained_on(wildcards.model)
    ]


def training_plan(wildcards) -> list[str]:
    """The fold's plan; nnU-Net makes its own."""
    plan = STUDY.models[wildcards.model].plan
    return [f"{RESULTS}/preprocess/plans/{plan}/fold-{wildcards.fold}.json"] if plan else []


def training_images(wildcards) -> list[str]:
    """The images and labels that nnU-Net is trained on."""
    if not is_nnunet(wildcards.model):
        return []
    return [
        file
        for dataset in STUDY.trained_on(wildcards.model)
        for file in [*dataset_images(dataset), *dataset_labels(dataset)]
    ]


def training_data(wildcards, input) -> list[str]:
    """The options that name what a model is trained on."""
    if not is_nnunet(wildcards.model):
        option = "--tissues" if is_synth(wildcards.model) else "--arrays"
        return [option, *input.arrays, "--plan", *input.plan]
    datasets = STUDY.trained_on(wildcards.model)
    structures = {name: STUDY.datasets[name].structures for name in datasets}
    cases = zip(datasets, input.cases, strict=True)
    labels = [f"{name}={RESULTS}/repair/{name}/labels" for name in datasets if is_repaired(name)]
    return [
        *("--cases", *(f"{name}={table}" for name, table in cases)),
        *(["--labels", *labels] if labels else []),
        *("--structures", json.dumps(structures)),
        *ignore_option(datasets),
    ]


def ignore_option(datasets: list[str]) -> list[str]:
    """The values of voxels that nobody has labelled, in the datasets that have some."""
    values = {name: STUDY.datasets[name].ignore for name in datasets if STUDY.datasets[name].ignore}
    return ["--ignore", json.dumps(values)] if values else []


def training_code(model: str) -> str:
    steps = ["train.nnunet"] if is_nnunet(model) else ["train.fit"]
    return digest(*steps, *(["train.synth"] if is_synth(model) else []), *network_code(model))


def prediction_code(model: str) -> str:
    steps = ["infer.nnunet"] if is_nnunet(model) else []
    return digest("infer.predict", *steps, *network_code(model))


def network_code(model: str) -> list[str]:
    return modules(STUDY.models[model])


# --- what Snakemake is not to be told ----------------------------------------------------------


MOST_TASKS, AT_ONCE = 25, 10_000


def refuse_groups() -> None:
    """Snakemake (9.27) submits groups of several components again and again where a workflow has
    checkpoints (its issues 1217 and 1628); ours has."""
    if workflow.group_settings.group_components:
        raise WorkflowError(
            "group-components: Snakemake would submit the same shards again and again, as this "
            "workflow has checkpoints. More cases in a job: cases_per_job of the dataset, in the study file"
        )


def refuse_lossy_arrays() -> None:
    """Job arrays only where Snakemake's SLURM executor (2.8) submits every shard, and the right one.

    What is ready for an array but held back by --jobs or the rate of submission it never submits, and
    the run never ends. Passed as a script, which it does by itself above 128 KiB of command line (66
    tasks of a small study), each task of an array runs the first one's shard.
    """
    settings = workflow.executor_settings
    if not getattr(settings, "array_jobs", None):
        return
    rate = workflow.scheduling_settings.max_jobs_per_timespan
    told = {
        "slurm-array-limit": (settings.array_limit, settings.array_limit <= MOST_TASKS),
        "slurm-pass-command-as-script": (
            settings.pass_command_as_script,
            not settings.pass_command_as_script,
        ),
        "jobs": (workflow.resource_settings.nodes, workflow.resource_settings.nodes >= AT_ONCE),
        "max-jobs-per-timespan": (
            f"{rate.max_jobs}/{rate.timespan}s" if rate else None,
            not rate or rate.max_jobs >= AT_ONCE,
        ),
    }
    wrong = ", ".join(f"{name}: {value}" for name, (value, right) in told.items() if not right)
    if wrong:
        raise WorkflowError(
            f"slurm-array-jobs with {wrong}: shards would be lost or the run would never end. Job arrays "
            f"need --slurm-array-limit {MOST_TASKS} --jobs {AT_ONCE} --max-jobs-per-timespan {AT_ONCE}/1s; "
            "more cases in a job (cases_per_job of the dataset, in the study file) need none of it"
        )


# --- settings -----------------------------------------------------------------------------------


def train_settings(model: str) -> TrainSettings:
    return TrainSettings(
        model=STUDY.models[model].learning(),
        structures=STUDY.structures,
        channels=STUDY.channels,
        modality=STUDY.modality,
        left_right_pairs=STUDY.left_right_pairs,
        ignores=STUDY.ignores(model),
    )


def external_settings(model: str) -> ExternalSettings:
    return ExternalSettings(model=STUDY.models[model].learning(), channels=STUDY.channels)


def split_settings() -> SplitSettings:
    """Which folds are run does not change what is in them."""
    return SplitSettings(
        splits=STUDY.splits.model_copy(update={"run_folds": None}),
        roles={name: dataset.role for name, dataset in STUDY.datasets.items()},
    )


def plan_settings(plan: str) -> FitSettings:
    return FitSettings(
        plan=STUDY.preprocess[plan],
        modality=STUDY.modality,
        channels=STUDY.channels,
        datasets=STUDY.fitted_on(plan),
    )


def resample_settings(dataset: str, plan: str) -> ResampleSettings:
    """The spacing is the grid's, in the name of the folder; where it comes from is the plan's."""
    return ResampleSettings(
        plan=STUDY.preprocess[plan].model_copy(update={"spacing_mm": "auto"}),
        # Label maps have no channels of their own; the images drawn of them have the study's.
        dataset=STUDY.datasets[dataset].cohort().model_copy(update={"channels": STUDY.channels}),
        structures=STUDY.structures,
    )


def tissue_settings(dataset: str, plan: str) -> TissueSettings:
    return TissueSettings(
        **dict(resample_settings(dataset, plan)),
        left_right_pairs=STUDY.left_right_pairs,
        tissues=STUDY.datasets[dataset].tissues,
    )


def measure_settings(dataset: str) -> MeasureSettings:
    cohort = STUDY.datasets[dataset]
    return MeasureSettings(
        metrics=STUDY.metrics,
        structures=cohort.structures,
        left_right_pairs=STUDY.left_right_pairs,
        ignore=cohort.ignore,
    )


def grid_trainings() -> list[str]:
    """What training left of each arm of a grid search."""
    arms = [arm for grid in STUDY.grids.values() for arm in grid]
    return [
        f"{RESULTS}/train/{arm}/fold-{fold}/seed-{seed}/{file}"
        for arm in arms
        for fold in STUDY.folds
        for seed in STUDY.models[arm].seeds
        for file in ("history.csv", "settings.json")
    ]


def grid_options() -> list[str]:
    """The options of `segstudy statistics` for a study with a grid search."""
    if not STUDY.grids:
        return []
    arms = [arm for grid in STUDY.grids.values() for arm in grid]
    settings = GridSettings(
        grids=STUDY.grids, weights={arm: STUDY.models[arm].infer.weights for arm in arms}
    )
    return ["--grid", settings.to_json(), "--train", f"{RESULTS}/train"]


def needs_gpu(model: str) -> int:
    return 0 if STUDY.models[model].device == "cpu" else 1


def processes(model: str) -> int:
    """How many share a training, one a GPU; nnU-Net's is one."""
    return getattr(STUDY.models[model], "gpus", 1)


def grown(first: float, most: float, attempt: int) -> int:
    """What an attempt asks for: twice what the one before did, up to a limit."""
    return round(max(first, min(first * 2 ** (attempt - 1), most)))


def memory_mb(asked):
    """Memory as a resource that grows with `attempt`; `asked` is a number or tells it from wildcards."""
    most = config["limits"]["memory_mb"]
    return lambda wildcards, attempt: grown(
        asked(wildcards) if callable(asked) else asked, most, attempt
    )


def runtime_min(asked):
    """Time as a resource that grows with `attempt`."""
    most = config["limits"]["runtime_min"]
    return lambda wildcards, attempt: grown(
        asked(wildcards) if callable(asked) else asked, most, attempt
    )


def fetch_mb(wildcards) -> float:
    """Memory of a download; a phantom is painted much finer than it is given out."""
    source = STUDY.datasets[wildcards.dataset].source
    painted = math.prod(source.size_voxels) if isinstance(source, PhantomSource) else 0
    return 1000 + 1.2e-3 * painted


# How memory and time grow with the images was measured by Snakemake's benchmarks, on thoracic CT of
# 1 and of 65 million voxels. What rules ask for is about twice the memory and ten times the time.


@cache
def _sizes(path: str, modified_ns: int, spacing_mm: tuple | None) -> dict[str, float]:
    """Voxels of each case of a table, as stored or on a grid of that spacing."""
    found = {}
    for name, case in _read_cases(path, modified_ns).items():
        found[name] = math.prod(case.shape)
        if spacing_mm:
            found[name] *= math.prod(case.spacing_mm) / math.prod(spacing_mm)
    return found


def voxels_of(dataset: str, spacing_mm: tuple | None = None) -> dict[str, float]:
    """Empty before the audit, when a dry run asks; Snakemake asks again before a job starts."""
    path = f"{RESULTS}/download/{dataset}/cases.tsv"
    if not os.path.exists(path):
        return {}
    return _sizes(path, os.stat(path).st_mtime_ns, spacing_mm)


def image_mb(dataset: str, spacing_mm: tuple | None = None) -> float:
    """The largest image of a dataset, all its channels, in MB of float32; also on another grid."""
    largest = max(voxels_of(dataset, spacing_mm).values(), default=0)
    return 4e-6 * largest * len(STUDY.datasets[dataset].channels)


def largest_mb() -> float:
    """The largest image of the study, as `image_mb`."""
    return max(map(image_mb, STUDY.tested_datasets))


def all_mb(dataset: str, cases: Iterable[str] | None = None) -> float:
    """As `image_mb`, all images of a dataset, or of some cases of it."""
    voxels = voxels_of(dataset)
    total = sum(voxels.get(name, 0) for name in (voxels if cases is None else cases))
    return 4e-6 * total * len(STUDY.datasets[dataset].channels)


def shard_mb(wildcards) -> float:
    """As `image_mb`, all images of a shard."""
    # Where the audit has to run again, Snakemake 9.27 breaks off on a resource that can't be told yet.
    with suppress(IncompleteCheckpointException):
        return all_mb(wildcards.dataset, selected(wildcards))
    return 0


def plan_spacing_mm(plan: str) -> tuple | None:
    """The spacing of a plan's grid; None where it is fitted, near that of the images."""
    spacing_mm = STUDY.preprocess[plan].spacing_mm
    return None if spacing_mm == "auto" else spacing_mm


def training_mb(wildcards) -> float:
    """Memory of a training, all its processes."""
    model = STUDY.models[wildcards.model]
    if model.memory_mb != "auto":
        return model.memory_mb * processes(wildcards.model)
    spacing_mm = plan_spacing_mm(model.plan)
    voxels = [
        voxels
        for name in STUDY.trained_on(wildcards.model)
        for voxels in voxels_of(name, spacing_mm).values()
    ]
    needed = training_memory_mb(model, voxels, len(STUDY.channels), 1 + len(STUDY.structures))
    return needed * processes(wildcards.model)


def prediction_mb(wildcards) -> float:
    """Memory of a prediction: the image, and a value of each class in each voxel of the plan's grid."""
    model = STUDY.models[wildcards.model]
    if model.memory_mb != "auto":
        return model.memory_mb
    on_grid_mb = image_mb(wildcards.dataset, plan_spacing_mm(model.plan)) / len(STUDY.channels)
    classes = 1 + len(STUDY.structures)
    base = 1500 if model.device == "cpu" else 4000
    return base + 2 * image_mb(wildcards.dataset) + 2 * classes * on_grid_mb


def environment(wildcards) -> str:
    """The conda file of a training or prediction job, as the rules see it."""
    return "../../envs/nnunet.yaml" if is_nnunet(wildcards.model) else "../../envs/gpu.yaml"


def runs(pattern: str, models: Iterable[str] = tuple(STUDY.models)) -> list[str]:
    """A pattern filled in for each of the models, every fold and seed, and tested dataset where it names one."""
    return list(
        dict.fromkeys(
            pattern.format(model=name, fold=fold, seed=seed, dataset=dataset)
            for name in models
            for fold in STUDY.folds
            for seed in STUDY.models[name].seeds
            for dataset in STUDY.tested_datasets
        )
    )
