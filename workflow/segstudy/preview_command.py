"""`segstudy preview`: what a run would do, why, and what it takes, before it is started."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from segstudy.errors import InputError


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
    parser.add_argument("--json", action="store_true", help="every job, with reasons and estimates")
    parser.epilog = "example: segstudy preview my/study.yaml"


def run(options: Namespace) -> None:
    """Print what would run."""
    from segstudy.follow import preview, words

    config = config_of(options.config)
    study, root = found_study(options.study, config)
    values = [f"study={options.study}", *options.config]
    jobs = preview.planned(values, options.targets)
    found = preview.preview(study, root, jobs)
    print(json.dumps(words.as_json(found), indent=1) if options.json else words.text(found), end="")
    if options.json:
        print()


def config_of(pairs: list[str]) -> dict[str, str]:
    """Return `KEY=VALUE` as a dictionary. Raises InputError for anything else."""
    parts = [pair.partition("=") for pair in pairs]
    for key, equals, _ in parts:
        if not (key and equals) or key == "study":
            raise InputError(
                f"--config {key}{equals}: expected KEY=VALUE, and no `study` among them"
            )
    return {key: value for key, _, value in parts}


def found_name(chosen: str, config: dict[str, str]) -> tuple[str, Path]:
    """Return a study's name, and the folder of its results, whatever has become of its data.

    Raises InputError where there is no such study file.
    """
    from segstudy.follow.preview import STUDIES
    from segstudy.jobs.options import study_file
    from segstudy.yaml_files import read_yaml

    file = study_file(chosen, STUDIES)
    content = read_yaml(file, "study file")
    name = content.get("name", file.stem) if isinstance(content, dict) else file.stem
    return str(name), Path(config.get("results", "results")) / str(name)


def found_study(chosen: str, config: dict[str, str]):
    """Return a study, and the folder of its results.

    chosen: a name in `config/studies`, or a study file. Raises InputError where there is none.
    """
    from segstudy.follow.preview import STUDIES
    from segstudy.jobs.options import study_file
    from segstudy.study import check_sources, read_study

    file = study_file(chosen, STUDIES)
    study = read_study(file, _places(config.get("path")))
    check_sources(study, file)
    return study, Path(config.get("results", "results")) / study.name


def _places(text: str | None) -> str | dict[str, str] | None:
    """Return `--config path` as Snakemake reads it: a folder, or `{dataset: folder, ...}`."""
    if not text or not text.startswith("{"):
        return text or None
    parts = [part.partition(":") for part in text.strip("{} ").split(",")]
    return {name.strip(): place.strip() for name, _, place in parts}
