"""`segstudy run`: check a study, then run it by Snakemake, from any folder."""

import argparse
import contextlib
import logging
import os
import shlex
import sys
from pathlib import Path

from segstudy import gpus
from segstudy.errors import InputError
from segstudy.follow.sentences import ASKED
from segstudy.jobs import machine
from segstudy.jobs.command import config_of, option_values, snakemake_command
from segstudy.log import log
from segstudy.start import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the study, and all that follows it to the parser."""
    parser.add_argument("study", help="study file, or the name of a study that comes along")
    parser.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="options and targets of snakemake: -n (what would run), --cores 8, --profile slurm, train, ...; "
        "and --partial: report the models and folds that are done",
    )
    parser.epilog = (
        "example: segstudy run demo -n\n\n"
        "Results go to results/<study>/ in the working directory. The command of snakemake is printed before\n"
        "it runs, and its exit code is that of segstudy run. Without --cores, all of this machine are used."
    )


def run(options: argparse.Namespace) -> None:
    """Check the study that is asked for, print the command of Snakemake, and become it.

    Raises InputError for whatever Snakemake would stumble over in the study, its table or `--config`.
    """
    study, words = options.study, options.options
    folder = option_values(words, "--directory", "-d")
    if folder:
        if study.endswith((".yaml", ".yml")):
            study = str(Path(study).absolute())
        if not Path(folder[0]).is_dir():
            raise InputError(f"--directory {folder[0]}: no such folder; make it first")
    level = log.level
    log.setLevel(logging.ERROR)  # notes on the study are said by the run itself, a moment later
    try:
        with contextlib.chdir(folder[0]) if folder else contextlib.nullcontext():
            machine.refuse_place()
            check(config_of(study, words))
    finally:
        log.setLevel(level)
    command = snakemake_command(study, words, machine.cores(), len(gpus.visible()))
    variables = machine.cache_variables(Path(folder[0] if folder else "", ".snakemake", "cache"))
    os.environ.update({**variables, ASKED: "1"})
    before = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    print(" ".join([*before, shlex.join(command)]), file=sys.stderr, flush=True)
    # Not a child: signals, exit code and terminal are Snakemake's own.
    os.execv(sys.executable, [sys.executable, "-m", *command])
