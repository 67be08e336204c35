"""`segstudy doctor`: what this machine has for a run, one line each, and what to do where something is wrong."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of `segstudy doctor`."""
    parser.description = (
        "What this machine has for a run, a line each: `ok`; `note`, where a run works and something is lost or slow; "
        "`stop`, where none can work. Notes and stops say what to do. Nothing is changed."
    )
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="as for snakemake: results=DIR"
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="runs are to go to SLURM by this profile: then a SLURM that gives no answer is a `stop`",
    )
    parser.add_argument("--json", action="store_true", help="as plain values")
    parser.epilog = (
        "example: segstudy doctor --config results=scratch --json\n\n"
        "exit code: 0 where a run can work, with or without notes; 1 where a line says `stop`"
    )


def run(options: Namespace) -> None:
    """Print a line a check, or all as JSON. Raises InputError where something prevents a run."""
    from segstudy.doctor.checks import STOP
    from segstudy.doctor.findings import findings
    from segstudy.errors import InputError

    found = []
    for finding in findings(results_root(options.config), options.profile):
        found.append(finding)
        if not options.json:
            print(finding.line(), flush=True)
    if options.json:
        print(json.dumps([vars(finding) for finding in found], indent=1, ensure_ascii=False))
    stops = [finding.name for finding in found if finding.level == STOP]
    if stops:
        raise InputError(f"no run can work before this is mended: {', '.join(stops)}")


def results_root(words: list[str]) -> Path:
    """Return the folder of all results, as a run given these words of `--config` has it."""
    from segstudy.jobs.options import results_root as named
    from segstudy.preview_command import config_of

    return Path(named(config_of(Namespace(study="demo", config=words))))
