"""Options of a run beside the study: its file, models, kept work, and settings of Snakemake that are refused."""

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.paths import expanded, spelt_as_stored
from segstudy.study import Study
from segstudy.yaml_files import read_yaml

ARRAY_TASKS, AT_ONCE = 25, 10_000


RENAMED_RULES = {"train": "train_fit", "infer": "infer_predict"}
"""Rules of version 0.1 that are targets now, with the rules that run in their place."""


def job_environment(package: Path) -> dict[str, str]:
    """Return the variables by which `python -m segstudy` is this Python and the package of this folder.

    It is so where nothing is activated; a conda environment (--sdm conda) is activated later and comes first.
    """
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.getenv("PYTHONPATH")])),
    }


def plain_word(text: str) -> str:
    """Return the word that a profile gives as a resource, without Python's quotes around it; nothing for an expression."""
    found = re.fullmatch(r"(['\"]?)([\w.-]+)\1", text)
    return found[2] if found else ""


def fill_in(config: dict[str, Any], defaults: Path) -> None:
    """Give `config` the defaults of what it does not say, in its blocks too. defaults: a YAML file."""
    values = read_yaml(defaults, "file of settings")
    if not isinstance(values, dict | None):
        raise InputError(f"{defaults}: a list or a word; expected keys and values (`results: DIR`)")
    _fill(config, values or {})


def _fill(config: dict[str, Any], defaults: dict[str, Any]) -> None:
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _fill(config[key], value)
        else:
            config.setdefault(key, value)


def check_keys(config: dict[str, Any], defaults: Path) -> None:
    """Raise InputError for a key that `config` should not have, and for a value of the wrong kind.

    Parameters
    ----------
    config
        What `--config` and files of settings say, defaults filled in.
    defaults
        The file that has every key, beside `study`.
    """
    known = read_yaml(defaults, "file of settings")
    for key, value in config.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"config: {key}: unknown key; {hint}there are {', '.join(known)}")
        if isinstance(known[key], dict) and not isinstance(value, dict):
            raise InputError(f"config: {key}: {value!r}; expected keys and values, as {known[key]}")
    results_root(config)


def results_root(config: Mapping[str, Any]) -> str:
    """Return the folder of all results, as `config` names it; raise InputError where that is no folder's name."""
    chosen = config["results"]
    if not isinstance(chosen, str):
        raise InputError(f"config: results: {chosen!r}; expected a folder")
    return expanded(chosen, "config: results").rstrip("/") or "/"


def study_file(chosen: str, folder: Path) -> Path:
    """Return the file of a study.

    Parameters
    ----------
    chosen
        A name in `folder`, or a path that ends in .yaml.
    folder
        Where the shipped studies are.

    Raises
    ------
    InputError
        Where there is no such file, with the names that there are.
    """
    chosen = spelt_as_stored(expanded(chosen, "--config study"))
    file = Path(chosen) if chosen.endswith((".yaml", ".yml")) else folder / f"{chosen}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise InputError(
            f"{chosen}: no such study file; a study that comes along is one of {known}, and a path to your "
            "own file ends in .yaml"
        )
    return file


def chosen_models(only: Any, study: Study) -> list[str]:
    """Return the models that `--config only=a,b` names, in the study's order; all where it is empty.

    Parameters
    ----------
    only
        Names with commas between them, or a list of names.
    study
        The study.

    Raises
    ------
    InputError
        For a model that the study does not have.
    """
    names = only if isinstance(only, list) else str(only or "").split(",")
    names = [str(name).strip() for name in names if str(name).strip()]
    for name in names:
        if name not in study.models:
            raise InputError(
                f"--config only: {name}: no such model; the study has {', '.join(study.models)}"
            )
    return [name for name in study.models if not names or name in names]


def check_all(chosen: list[str], study: Study) -> None:
    """Refuse to compare models of which some are left out.

    Parameters
    ----------
    chosen
        The models, as `chosen_models` returns them.
    study
        The study.

    Raises
    ------
    InputError
        With the models that are left out.
    """
    left_out = [name for name in study.models if name not in chosen]
    if left_out:
        raise InputError(
            f"--config only: {', '.join(left_out)} left out; statistics and report compare all models of a "
            "study. Name a target before them: snakemake train, infer or metrics"
        )


def is_on(asked: Any, key: str) -> bool:
    """Return whether a switch of `--config` is on; Snakemake gives `true` and `false` as text.

    Raises InputError for anything else.
    """
    words = {"true": True, "false": False}
    if str(asked).lower() not in words:
        raise InputError(f"config: {key}: {asked!r}; expected true or false")
    return words[str(asked).lower()]


def finished_gb(asked: Any) -> str:
    """Return how much finished work may be kept beyond the results themselves, in GB, as the text of an option.

    Raises
    ------
    InputError
        Where that is no number, or below 0.
    """
    if isinstance(asked, bool) or not isinstance(asked, (int, float)) or not asked >= 0:
        raise InputError(f"config: keep_finished_gb: {asked!r}; expected a number, 0 or more")
    return f"{asked:g}"


def check_profile(resources: Iterable[str]) -> None:
    """Refuse a profile that sets resources of a rule by its old name, which Snakemake would pass over.

    Parameters
    ----------
    resources
        Names of the rules under `set-resources`.

    Raises
    ------
    InputError
        With the name that the rule has now.
    """
    for rule in resources:
        if rule in RENAMED_RULES:
            raise InputError(
                f"set-resources: {rule}: this rule is called {RENAMED_RULES[rule]} now; rename it in your profile, "
                "or its jobs would run without these resources"
            )


def check_until(until: Iterable[str], targets: Iterable[str]) -> None:
    """Refuse `--until RULE` for a rule with wildcards.

    Behind a checkpoint Snakemake (9.27) finds none of its jobs, does nothing and ends well.

    Parameters
    ----------
    until
        Rules that `--until` names.
    targets
        Rules that gather a stage, after which a run may stop.

    Raises
    ------
    InputError
        With the target to name instead.
    """
    targets = list(targets)
    for rule in until:
        if rule not in targets and "/" not in rule:
            stage = rule.split("_")[0]
            instead = f"snakemake {stage}" if stage in targets else "snakemake TARGET"
            raise InputError(
                f"--until {rule}: Snakemake would do nothing, as which of its jobs there are is known only "
                f"after the audit. Name the target: {instead} (targets: {', '.join(targets)}); for some models "
                "alone, add --config only=MODEL"
            )


def check_groups(components: Any) -> None:
    """Refuse groups of several components.

    Snakemake (9.27) submits them again and again where a workflow has checkpoints (its issues 1217 and
    1628); ours has.

    Parameters
    ----------
    components
        Group -> number of its components, as Snakemake has them.

    Raises
    ------
    InputError
        Where there are any.
    """
    if components:
        raise InputError(
            "group-components: Snakemake would submit the same shards again and again, as this "
            "workflow has checkpoints. More cases in a job: cases_per_job of the dataset, in the study file"
        )


def check_arrays(
    array_limit: int, as_script: bool, jobs: int, rate: int | None, rate_text: str | None = None
) -> None:
    """Refuse job arrays under which Snakemake's SLURM executor (2.8) would lose shards.

    Jobs that are ready for an array but held back by --jobs or by the rate of submission are never
    submitted, and the run never ends. Where the command is passed as a script, as the executor does by
    itself above 128 KiB of command line (66 tasks of a small study), each task of an array runs the
    first one's shard.

    Parameters
    ----------
    array_limit
        Largest number of tasks of an array.
    as_script
        Whether the command is passed as a script.
    jobs
        Largest number of jobs at once.
    rate
        Largest number of jobs that are submitted in a timespan; None: no limit.
    rate_text
        The rate as it was given, for the message.

    Raises
    ------
    InputError
        With the options that an array needs.
    """
    requirements = {
        "slurm-array-limit": (array_limit, array_limit <= ARRAY_TASKS),
        "slurm-pass-command-as-script": (as_script, not as_script),
        "jobs": (jobs, jobs >= AT_ONCE),
        "max-jobs-per-timespan": (rate_text, rate is None or rate >= AT_ONCE),
    }
    wrong = ", ".join(
        f"{name}: {value}" for name, (value, right) in requirements.items() if not right
    )
    if wrong:
        raise InputError(
            f"slurm-array-jobs with {wrong}: shards would be lost or the run would never end. Job arrays "
            f"need --slurm-array-limit {ARRAY_TASKS} --jobs {AT_ONCE} --max-jobs-per-timespan {AT_ONCE}/1s; "
            "more cases in a job (cases_per_job of the dataset, in the study file) need none of it"
        )
