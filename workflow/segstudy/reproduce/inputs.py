"""What a package lacks and a user gives: folders of data, and settings in place of which a role stands."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from segstudy.errors import InputError
from segstudy.paths import expanded
from segstudy.study import Study
from segstudy.yaml_files import read_yaml

SOURCE = ("path", "url")
NO_PATHS = ("command", "reference_case")
"""Settings that a package may lack and that are no path."""


def data_folders(given: Iterable[str], study: Study, lacking: Iterable[str]) -> dict[str, str]:
    """Return the path of each dataset that is given one, absolute.

    Parameters
    ----------
    given
        `DATASET=PATH`, or a path alone for each dataset that lacks one.
    study
        The study.
    lacking
        Keys of the study file that the package has a role for.

    Raises
    ------
    InputError
        For a path that is not there, one for no dataset, and a dataset that is still without one.
    """
    sources = {key: key.split(".") for key in lacking}
    without = [keys[1] for keys in sources.values() if keys[0] == "datasets" and keys[-1] in SOURCE]
    found: dict[str, str] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        of_one = bool(equals) and name in study.datasets
        path = Path(expanded(rest if of_one else text, "--path")).absolute()
        if not path.exists():
            known = ", ".join(study.datasets)
            raise InputError(
                f"--path {text}: no such file or folder; expected a path, or DATASET=PATH (datasets are {known})"
            )
        if not of_one and not without:
            raise InputError(f"--path {text}: no dataset of this package lacks a path; leave it out, or name the dataset: DATASET=PATH")  # fmt: skip
        found |= dict.fromkeys([name] if of_one else without, str(path))
    return found


def settings(given: Iterable[str], lacking: Mapping[str, str]) -> dict[str, str]:
    """Return what is given in place of a role: key of the study file -> value; paths are absolute.

    Parameters
    ----------
    given
        `KEY=VALUE`.
    lacking
        Key -> what belongs there.

    Raises
    ------
    InputError
        For a key that the package does not lack: to set it would make another study.
    """
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise InputError(f"--set {text}: expected KEY=VALUE")
        if key not in lacking:
            raise InputError(
                f"--set {text}: {key} is not lacking in the package, and another value would make another study; "
                f"lacking are: {', '.join(lacking) or 'none'}"
            )
        if key.rpartition(".")[2] not in NO_PATHS:
            value = str(Path(value).expanduser().absolute())
            # Of a pattern, the folder above its first name that is filled in.
            fixed, brace, _ = value.partition("{")
            if not Path(fixed.rpartition("/")[0] or "/" if brace else fixed).exists():
                raise InputError(
                    f"--set {text}: no such file or folder; expected one that is there"
                )
        found[key] = value
    return found


def still_lacking(
    lacking: Mapping[str, str], paths: Iterable[str], given: Iterable[str]
) -> list[str]:
    """Say what is to be given before a package can run, a line each with the option that gives it."""
    lines = []
    for key, words in lacking.items():
        keys = key.split(".")
        if keys[0] == "datasets" and keys[-1] in SOURCE:
            if keys[1] not in paths:
                lines.append(f"{key} {words}: give it by --path {keys[1]}=PATH")
        elif key not in given:
            value = (
                "'PROGRAM WORDS'"
                if keys[-1] == "command"
                else "VALUE"
                if keys[-1] in NO_PATHS
                else "PATH"
            )
            lines.append(f"{key} {words}: give it by --set {key}={value}")
    return lines


def filled_in(file: Path, given: Mapping[str, str], study: Study) -> str:
    """Return a study file with the given values in place of the roles; without any, as it is.

    Parameters
    ----------
    file
        The study file.
    given
        Of `settings`.
    study
        What the file says.
    """
    if not given:
        return file.read_text(encoding="utf-8")
    content = read_yaml(file)
    for key, value in given.items():
        *above, last = key.split(".")
        try:
            inside = content
            for name in above:
                inside = inside[name]
            inside[last]
        except (KeyError, TypeError):
            raise InputError(
                f"{file.name} of the package: no {key} in it, which it should lack"
            ) from None
        if last == "files" and "{" not in value:
            # A folder in place of the role, below which the pattern stays.
            value += study.models[above[-1]].files.partition(")")[2]
        inside[last] = value
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def config(paths: Mapping[str, str], is_anonymous: bool) -> list[str]:
    """Return the words of `--config` that name the data, and whether the new package has numbers for names, too.

    A rule puts the options of the package into a command as they are, so that no text of the package may be one.
    """
    words = [f"path={json.dumps(dict(paths), ensure_ascii=False)}"] if paths else []
    return ["--config", *words, f"package={'--anonymous' if is_anonymous else ''}"]
