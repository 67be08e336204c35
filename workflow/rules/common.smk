# The study, and those whom the rules ask about it: paths, inputs, resources.
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path

from snakemake.exceptions import IncompleteCheckpointException, WorkflowError
from snakemake.resources import Resource

# The folder `workflow/`, wherever the main Snakefile is. A clone has the package in it; else it is installed.
CODE = Path(str(workflow.current_basedir)).resolve().parent
if (CODE / "segstudy").is_dir() and str(CODE) not in sys.path:
    sys.path.insert(0, str(CODE))
# SLURM's warning before a time limit goes to every process of a job, to the Snakemake in it too. It
# is for the training, which saves its state; this Snakemake would die of it and take the training along.
if "SLURM_JOB_ID" in os.environ:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

from segstudy import analysis_plan, cases, folds, gpus, results_owner, shipped
from segstudy.errors import InputError
from segstudy.images.names import parse_grid
from segstudy.jobs import machine, options, slices, targets
from segstudy.jobs.code import (
    audit_code,
    code_of_measured,
    digest,
    ensemble_code,
    measuring_code,
    prediction_code,
    training_code,
    with_plugins,
)
from segstudy.jobs.extras import missing_extras
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.partial import finished_part
from segstudy.jobs.resources import JobResources, grown
from segstudy.jobs.results import ResultPaths
from segstudy.log import log
from segstudy.paths import state_of
from segstudy.start import chosen_study
from segstudy.study import PhantomSource
from segstudy.train.memory import training_memory_mb

os.environ.update(options.job_environment(shipped.alone(Path(".snakemake"))))
options.fill_in(config, shipped.CONFIG)
# Notes on the study file are for the user who starts a run, not for the log of each of its jobs.
if not workflow.is_main_process:
    log.setLevel(logging.ERROR)


def in_a_sentence(function):
    """The function, whose InputError becomes Snakemake's own error, which shows no trace."""

    @wraps(function)
    def told(*arguments):
        try:
            return function(*arguments)
        except InputError as error:
            raise WorkflowError(str(error)) from None

    return told


STUDY, STUDY_FILE = in_a_sentence(chosen_study)(config)
if workflow.is_main_process and STUDY.quick:
    log.warning("%s: %s", STUDY.name, STUDY.in_brief)
PATHS = ResultPaths(f"{in_a_sentence(options.results_root)(config)}/{STUDY.name}")
FINISHED_GB = in_a_sentence(options.finished_gb)(config["keep_finished_gb"])
ONLY = in_a_sentence(options.chosen_models)(config["only"], STUDY)
if in_a_sentence(options.is_on)(config["partial"], "partial"):
    STUDY = in_a_sentence(finished_part)(STUDY, PATHS, ONLY)
    ONLY = list(STUDY.models)
    if workflow.is_main_process and STUDY.partial:
        log.warning("not all is done: %s", "; ".join(STUDY.partial))


wildcard_constraints:
    dataset="[A-Za-z0-9_]+",
    plan="[A-Za-z0-9_]+",
    model="[A-Za-z0-9_]+",
    fold=rf"\d+|{cases.ALL}",
    seed=r"-?\d+",
    shard="[^/]+",
    grid=r"[0-9.x]+",


def fold_of(wildcards) -> str:
    """The fold that a training leaves out; `all` for one that leaves out none."""
    return getattr(wildcards, "fold", cases.ALL)


def audited(dataset) -> str:
    """A dataset's case table; Snakemake makes it first where it has to."""
    # What a plan asks ten thousand times is not to be expanded from wildcards each time.
    if PATHS.cases(dataset) not in checkpoints.created_output:
        checkpoints.download_audit.get(dataset=dataset)
    return PATHS.cases(dataset)


INPUTS = Inputs(
    STUDY,
    PATHS,
    audited=audited,
    fitted=lambda plan, fold: checkpoints.preprocess_plan.get(plan=plan, fold=fold).output[0],
)
# Labels that were corrected after they were delivered; a record that does not fit stops the run.
CORRECTED = in_a_sentence(INPUTS.has_corrections)()
# Datasets in which labels were reviewed.
REVIEWED = list(filter(in_a_sentence(INPUTS.has_label_chain), STUDY.datasets))
# Readers have rated predictions.
RATED = bool(STUDY.ratings and STUDY.ratings.files)
# Of a cluster's nodes nothing is known here; without one, jobs run on this machine.
RESOURCES = JobResources(
    INPUTS,
    training_memory_mb,
    gpus_there=lambda: workflow.resource_settings.nodes is not None or bool(gpus.visible()),
)
runs = partial(targets.runs, STUDY)


def type_of_gpu(named: str) -> Resource:
    """The type of GPU that a profile names for a rule, for those jobs of it that ask for a GPU."""

    def chosen(wildcards):
        model = wildcards.get("model")
        return named if model not in STUDY.models or RESOURCES.gpu(model) else ""

    return Resource("gpu_model", chosen, raw=named)


# SLURM would be asked for none of that type by jobs on the CPU.
for asked in workflow.resource_settings._parsed_overwrite_resources.values():
    # An expression decides by itself, and `gres` has the type in it.
    if "gpu_model" in asked and (named := options.plain_word(str(asked["gpu_model"].raw))):
        asked._data.pop("gpu_model")
        if "gres" not in asked:
            asked._data["gpu_model"] = type_of_gpu(named)


def conda_file(wildcards) -> str:
    """The conda file of a training or prediction, as the rules see it."""
    nnunet = targets.is_nnunet(STUDY, wildcards.model)
    return "../../envs/nnunet.yaml" if nnunet else "../../envs/gpu.yaml"


def growing(asked, limit: str):
    """A resource that doubles with each attempt up to a limit; `asked` is a number or tells it from wildcards."""

    def resource(wildcards, attempt):
        # Where the audit has to run again, Snakemake 9.27 breaks off on a resource that can't be told yet.
        with suppress(IncompleteCheckpointException):
            first = asked(wildcards) if callable(asked) else asked
            return grown(first, config["limits"][limit], attempt)
        return 0

    return resource


memory_mb = partial(growing, limit="memory_mb")
runtime_min = partial(growing, limit="runtime_min")
