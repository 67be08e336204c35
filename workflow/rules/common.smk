# The study, and those whom the rules ask about it: paths, inputs, resources.
import json
import os
import signal
import sys
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path

from snakemake.exceptions import IncompleteCheckpointException, WorkflowError
from snakemake.logging import logger

# The folder `workflow/`, wherever the main Snakefile is.
PACKAGE = Path(str(workflow.current_basedir)).resolve().parent
if str(PACKAGE) not in sys.path:
    sys.path.insert(0, str(PACKAGE))
# SLURM's warning before a time limit goes to every process of a job, to the Snakemake in it too. It
# is for the training, which saves its state; this Snakemake would die of it and take the training along.
if "SLURM_JOB_ID" in os.environ:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

from segstudy import results_owner
from segstudy.download.registry import refuse_by_hand
from segstudy.errors import InputError
from segstudy.images.names import parse_grid
from segstudy.jobs import options, slices, targets
from segstudy.jobs.code import digest, prediction_code, training_code
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.resources import JobResources, grown
from segstudy.jobs.results import ResultPaths
from segstudy.paths import state_of
from segstudy.study import PhantomSource, check_sources, read_study
from segstudy.train.memory import training_memory_mb

os.environ.update(options.job_environment(PACKAGE))


def in_a_sentence(function):
    """The function, whose InputError becomes Snakemake's own error, which shows no trace."""

    @wraps(function)
    def told(*arguments):
        try:
            return function(*arguments)
        except InputError as error:
            raise WorkflowError(str(error)) from None

    return told


@in_a_sentence
def read_config():
    """The study that `--config study=...` names, and its file."""
    file = options.study_file(str(config["study"]), PACKAGE.parent / "config" / "studies")
    study = read_study(file, config.get("path"))
    refuse_by_hand({name: own.source for name, own in study.datasets.items()}, str(config["study"]))
    check_sources(study, file)
    return study, file


STUDY, STUDY_FILE = read_config()
PATHS = ResultPaths(f"{str(config['results']).rstrip('/')}/{STUDY.name}")
FINISHED_GB = in_a_sentence(options.finished_gb)(config["keep_finished_gb"])
ONLY = in_a_sentence(options.chosen_models)(config["only"], STUDY)


wildcard_constraints:
    dataset="[A-Za-z0-9_]+",
    plan="[A-Za-z0-9_]+",
    model="[A-Za-z0-9_]+",
    fold=r"\d+",
    seed=r"-?\d+",
    shard="[^/]+",
    grid=r"[0-9.x]+",


# The tables that jobs before tell by; Snakemake makes them first where it has to.
INPUTS = Inputs(
    STUDY,
    PATHS,
    audited=lambda dataset: checkpoints.download_audit.get(dataset=dataset).output.cases,
    fitted=lambda plan, fold: checkpoints.preprocess_plan.get(plan=plan, fold=fold).output[0],
)
RESOURCES = JobResources(INPUTS, training_memory_mb)
runs = partial(targets.runs, STUDY)


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


# --- whose results ------------------------------------------------------------------------------


def record_owner() -> None:
    # Where data are not there yet (`make fetch`), a later run writes it down.
    with suppress(InputError):
        results_owner.record(PATHS.root, STUDY_FILE, INPUTS.checksums())


# Another study file with other data does not write there, unless it is to adopt the results.
if workflow.is_main_process and not config["adopt"]:
    note = in_a_sentence(results_owner.claim)(PATHS.root, STUDY_FILE, INPUTS.checksums)
    if note:
        logger.warning(note)


# --- what Snakemake is not to be told -----------------------------------------------------------


# The rules that gather a stage, and what is made but once.
TARGETS = ["download", "repair", "preprocess", "train", "infer", "metrics", "statistics", "publish"]


def check_until() -> None:
    """Not `--until` with a rule whose jobs are not known before the audit."""
    options.check_until(workflow.dag_settings.until, TARGETS)


in_a_sentence(options.check_profile)(workflow.resource_settings.overwrite_resources)


@in_a_sentence
def check_executor() -> None:
    """Not settings of the executor under which jobs would be lost."""
    options.check_groups(workflow.group_settings.group_components)
    settings = workflow.executor_settings
    if getattr(settings, "array_jobs", None):
        rate = workflow.scheduling_settings.max_jobs_per_timespan
        options.check_arrays(
            settings.array_limit,
            settings.pass_command_as_script,
            workflow.resource_settings.nodes,
            rate.max_jobs if rate else None,
            f"{rate.max_jobs}/{rate.timespan}s" if rate else None,
        )
