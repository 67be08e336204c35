"""`segstudy status`: how far a run is, what failed and why, what is running, how long it takes."""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of `segstudy status`."""
    parser.description = (
        "How far the last run of a study is, from its files alone, on whatever machine it runs."
    )
    parser.add_argument("study", metavar="STUDY", help="a name in config/studies, or a study file")
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="as for snakemake: results=DIR"
    )
    parser.add_argument("--json", action="store_true", help="as plain values")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="show it anew every so many seconds (5), until the run is over or Ctrl-C",
    )
    parser.epilog = "example: segstudy status my/study.yaml --watch"


def run(options: Namespace) -> None:
    """Print how far a study is."""
    from segstudy.errors import InputError
    from segstudy.follow import status
    from segstudy.jobs.results import ResultPaths
    from segstudy.preview_command import config_of, results_folder

    if options.watch is not None and not options.watch > 0:
        raise InputError(f"--watch {options.watch:g}: expected seconds, more than 0")
    name = chosen_name(options.study)
    root = results_folder(config_of(options), name)
    while True:
        now = time.time()
        found = status.status(name, root, ResultPaths(root).jobs, now)
        if options.json:
            print(json.dumps(found and status.as_json(found), indent=1))
        elif found is None:
            print(_nothing(name, root), end="")
        else:
            clear = "\x1b[H\x1b[2J" if options.watch and sys.stdout.isatty() else ""
            print(clear + status.text(found, now), end="", flush=True)
        if options.watch is None or found is None or found.state != status.GOING:
            return
        time.sleep(options.watch)


def chosen_name(chosen: str) -> str:
    """Return a study's name, whatever has become of its data; raise InputError where there is no such file."""
    from segstudy import shipped
    from segstudy.jobs.options import study_file
    from segstudy.study.reading import name_of
    from segstudy.yaml_files import read_yaml

    file = study_file(chosen, shipped.STUDIES)
    content = read_yaml(file, "study file")
    return str(content.get("name", name_of(file)) if isinstance(content, dict) else name_of(file))


def _nothing(name: str, root: Path) -> str:
    """Say that nothing has run, or that nothing says so."""
    if any((root / stage).is_dir() for stage in ("preprocess", "train", "infer")):
        return (
            f"{name}: {root} has results, but no record of a run: a version before it made them\n"
        )
    return f"{name}: nothing has run yet below {root}\n"
