"""`segstudy preview`: what a run would do, why, and what it takes, before it is started."""

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.log import log


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of `segstudy preview`."""
    parser.description = "What a run would do: which jobs and why, how long they take, what they cost, what is not touched."
    parser.add_argument("study", metavar="STUDY", help="a name in config/studies, or a study file")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="a stage; left out: all")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="as for snakemake, e.g. results=DIR, path=DIR, only=MODEL",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="as of segstudy run: report the models and folds that are done",
    )
    parser.add_argument("--json", action="store_true", help="every job, with reasons and estimates")
    parser.epilog = "example: segstudy preview my/study.yaml"


def run(options: Namespace) -> None:
    """Print what would run."""
    from segstudy.follow import preview, words
    from segstudy.jobs.options import chosen_models, is_on
    from segstudy.jobs.partial import finished_part
    from segstudy.jobs.results import ResultPaths
    from segstudy.start import check

    if options.partial:
        options.config = [*options.config, "partial=true"]
    config = config_of(options)
    study = check(config)
    root = results_folder(config, study.name)
    if is_on(config["partial"], "partial"):
        models = chosen_models(config["only"], study)
        study = finished_part(study, ResultPaths(root), models)
    jobs = preview.planned([f"study={options.study}", *options.config], options.targets)
    found = preview.preview(study, root, jobs)
    if said := study.in_brief or study.folds_run:
        log.warning("%s: %s", study.name, said)
    print(json.dumps(words.as_json(found), indent=1) if options.json else words.text(found), end="")
    if options.json:
        print()


def config_of(options: Namespace) -> dict[str, Any]:
    """Return `config` as the workflow will see it.

    Raises InputError for what is no `KEY=VALUE`, and for a second `study`.
    """
    from segstudy.jobs import command

    for pair in options.config:
        if not re.match(r"\w+=", pair):
            raise InputError(f"--config {pair}: expected KEY=VALUE")
    return command.config_of(options.study, ["--config", *options.config])


def results_folder(config: Mapping[str, Any], name: str) -> Path:
    """Return the folder of the results of the study called `name`."""
    from segstudy.jobs.options import results_root

    return Path(results_root(config)) / name
