# What ran, and what would: each job's command and settings on record, for `segstudy preview` and `status`.
from types import SimpleNamespace

from snakemake.logging import logger

from segstudy.follow.record import Recorder
from segstudy.follow.sentences import speak_plainly

PLUGINS = STUDY.plugin_provenance()


def asked_beside(rule, wildcards) -> dict:
    """What a job is asked for beside its command, for `segstudy preview`."""
    params = dict(workflow.get_rule(rule).params.items())
    values = {name: params[name] for name in ("code", "defaults", "named") if name in params}
    w = SimpleNamespace(**wildcards)
    asked = {name: value(w) if callable(value) else value for name, value in values.items()}
    return {**asked, **({"plugins": PLUGINS} if PLUGINS else {})}


if workflow.is_main_process:
    speak_plainly(logger.handlers)
    logger.addHandler(Recorder(PATHS.jobs, PATHS.root, asked_beside, lambda: workflow.dryrun))
