# What a run must not do: overwrite another study's results, or be told what would lose jobs.
from snakemake.logging import logger

# --- whose results ------------------------------------------------------------------------------


HELD = []


def record_owner() -> None:
    """Write down whose results these are and what is to be tested, and hold them until this run ends."""
    if not HELD:
        HELD.append(in_a_sentence(results_owner.hold)(PATHS.root))
    in_a_sentence(analysis_plan.record)(PATHS.root, STUDY.statistics)
    # Where data are not there yet (`make fetch`), a later run writes it down.
    with suppress(InputError):
        results_owner.record(PATHS.root, STUDY_FILE, INPUTS.checksums(), STUDY.plugin_provenance())


# Another study file with other data does not write there, unless it is to adopt the results.
if workflow.is_main_process and not in_a_sentence(options.is_on)(config["adopt"], "adopt"):
    note = in_a_sentence(results_owner.claim)(PATHS.root, STUDY_FILE, INPUTS.checksums)
    if note:
        logger.warning(note)


# --- what Snakemake is not to be told -----------------------------------------------------------


def check_until() -> None:
    """Not `--until` with a rule whose jobs are not known before the audit."""
    options.check_until(workflow.dag_settings.until, targets.STAGES)


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


@in_a_sentence
def check_extras() -> None:
    """Not a training to come without its optional package; where jobs have conda or a container, only they can tell."""
    asked = {*workflow.dag_settings.targets, *workflow.dag_settings.until}
    trains = not asked or not asked.isdisjoint(targets.STAGES[targets.STAGES.index("train") :])
    told = missing_extras(STUDY, ONLY, PATHS)
    if told and trains and not workflow.deployment_settings.deployment_method:
        raise InputError("\n".join(f"{STUDY_FILE}: {one}" for one in told))


# Snakemake runs `onstart` of the main Snakefile alone. Every study needs the audit, which asks this in its place.
IN_MODULE = not workflow.modifier.is_main_snakefile()
# A misspelt key would leave another study, or another folder, in its place. A module's config may be its user's.
if workflow.is_main_process and not IN_MODULE:
    in_a_sentence(options.check_keys)(config, shipped.CONFIG)


def start_of_module() -> None:
    """What `onstart` does, where this workflow is a module of another."""
    if IN_MODULE and workflow.is_main_process:
        check_executor()
        if not workflow.dryrun:
            check_extras()
            record_owner()
