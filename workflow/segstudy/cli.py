"""The command line `segstudy <stage> ...`.

Each stage has a `command.py` with `add_arguments(parser)` and `run(arguments)`. Stages are
imported only when they are called, so that `--help` stays instant.
"""

import argparse
import errno
import importlib
import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from functools import partial

import segstudy
from segstudy import log, versions
from segstudy.errors import InputError

STAGES = {
    "download": "fetch a dataset and audit every image and label",
    "repair": "find how a label was moved, and put it back",
    "preprocess": "split into folds, fit plans, crop and resample",
    "train": "train one network on one fold",
    "infer": "predict labels on the native grid, in a study or outside",
    "metrics": "measure predictions against references, in millimetres",
    "statistics": "summarise and compare models",
    "publish": "draw the figures and write the report",
}
TOOLS = {
    "new": "write a first study file, or a profile, to edit",
    "study": "check a study file; print its schema or reference",
    "preview": "tell what a run would do, why, and what it takes",
    "run": "run a study, from any folder",
    "status": "tell how far a run is, what failed, what is left",
    "export": "write a study's cases and folds as nnU-Net's raw data",
    "review": "rank suspicious labels, open them, put corrections on record",
    "reproduce": "run a published package again, and compare its tables",
    "bundle": "put trained networks into one file to hand on, and ONNX",
    "serve": "a page and a REST service that predict, for research use",
    "power": "plan how many subjects tell a difference, or equivalence",
    "doctor": "tell what this machine has for a run, and what to mend",
}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run the stage, and print an InputError in one line.

    Parameters
    ----------
    arguments
        Words after the program's name; None: those of this process.

    Returns
    -------
    int
        Exit status: 0, or 1 after an error, or 130 after an interrupt.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="segstudy", description=segstudy.__doc__)
    parser.add_argument("--version", action="version", version=segstudy.__version__)
    commands = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for stage, purpose in (STAGES | TOOLS).items():
        command = commands.add_parser(
            stage,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if stage == asked:
            module = f"segstudy.{stage}" + (".command" if stage in STAGES else "_command")
            importlib.import_module(module).add_arguments(command)
    options = parser.parse_args(arguments)
    if options.stage != "doctor" and _guarded(
        _refuse_lost_folder
    ):  # doctor tells of it as of the rest
        return 1
    module = f"segstudy.{options.stage}" + (".command" if options.stage in STAGES else "_command")
    if options.stage in TOOLS:
        return _guarded(lambda: importlib.import_module(module).run(options))
    for name in ("threads", "processes"):
        number = getattr(options, name, None)
        if number is not None and number < 1:
            return _guarded(partial(_refuse_number, name, number))
    _set_threads(getattr(options, "threads", None), getattr(options, "processes", None))
    log.start()
    log.log.info("segstudy %s", shlex.join(arguments))
    began = time.monotonic()
    code = _guarded(lambda: importlib.import_module(module).run(options))
    used = ", ".join(f"{name} {version}" for name, version in versions.imported().items())
    log.log.info(
        "%s after %s; %s", "ended" if code else "done", log.duration(time.monotonic() - began), used
    )
    return code


def _refuse_lost_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the working directory is not there any more ({error.strerror}): it was deleted, or its disk is away; go into a "
            "folder that is there, e.g. by `cd`"
        ) from None


def _refuse_number(name: str, number: int) -> None:
    raise InputError(f"--{name}: {number}; expected 1 or more")


def _guarded(call) -> int:
    try:
        call()
    except InputError as error:
        for line in str(error).splitlines():
            print(f"segstudy: error: {line}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        with suppress(OSError):  # Ctrl-C ends what listens, too
            print("segstudy: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except MemoryError as error:
        more = f" ({error})" if str(error) else ""
        print(
            f"segstudy: error: not enough memory{more}; use a machine with more, or fewer --threads",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"segstudy: error: {place}{error.strerror}; make room where results are written and "
            "run again: what was finished is kept",
            file=sys.stderr,
        )
        return 1
    return 0


def _set_threads(threads: int | None, processes: int | None) -> None:
    """Limit every library's threads, before any of them is imported; processes get equal shares.

    OMP_WAIT_POLICY: threads that spin while they wait slow torch down twentyfold as soon as
    another process wants the core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads:
        threads = max(1, threads // (processes or 1))
        for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "BLOSC"):
            key = "BLOSC_NTHREADS" if name == "BLOSC" else f"{name}_NUM_THREADS"
            os.environ[key] = str(threads)
        os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
