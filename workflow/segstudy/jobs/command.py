"""The plain `snakemake` command that runs a study, from the study and what a user adds to it."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segstudy import shipped
from segstudy.errors import InputError
from segstudy.jobs.options import fill_in
from segstudy.yaml_files import parse_yaml

PROFILE_FILES = ("profile*.yaml", "config*.yaml")
"""What Snakemake looks for in a profile's folder."""


PARTIAL = "--partial"
"""An option of `segstudy run` alone: report what is done."""


def snakemake_command(study: str, words: Sequence[str], cores: int, gpus: int) -> list[str]:
    """Return the words of the command, `snakemake` first.

    study: as `--config study=` has it. words: what the user adds, as Snakemake knows it: options and targets.
    cores, gpus: of this machine; left to the user's own words, or a profile's, where these speak of them.
    """
    words = _with_profiles(words)
    end = words.index("--") if "--" in words else len(words)
    own, targets = words[:end], words[end:]
    command = ["snakemake"]
    if Path("Snakefile").resolve() != shipped.SNAKEFILE:
        command += ["--snakefile", str(shipped.SNAKEFILE)]
    # Cores would be those of all jobs of a cluster together.
    elsewhere = "SNAKEMAKE_PROFILE" in os.environ or has_option(
        own, "--profile", "--workflow-profile", "--executor", "-e"
    )
    added = []
    if not elsewhere and not has_option(own, "--cores", "-c", "--jobs", "-j"):
        added += ["--cores", str(cores)]
    # One training a GPU at a time.
    if not elsewhere and gpus and not has_option(own, "--resources", "--res"):
        added += ["--resources", f"gpu={gpus}"]
    settings = [f"study={_readable(study)}", *(["partial=true"] if PARTIAL in own else [])]
    own = [word for word in own if word != PARTIAL]
    place = _config_place(own)
    if place is None:
        return [*command, *own, *added, "--config", *settings, *targets]
    return [*command, *own[:place], *settings, *own[place:], *added, *targets]


def config_of(study: str, words: Sequence[str]) -> dict[str, Any]:
    """Return `config` as the workflow will see it.

    Raises InputError where the words name a study too, or a file of settings that can't be read.
    """
    values = option_values(words, "--config", "-C")
    found: dict[str, Any] = {}
    for value in values:
        key, _, text = value.partition("=")
        found[key] = parse_yaml(text, f"--config {key}")
    if "study" in found:
        raise InputError(
            f"--config study={found['study']}: the study is named already, {study}; leave one out"
        )
    found["study"] = study
    for file in reversed(option_values(words, "--configfile", "--configfiles")):
        fill_in(found, Path(file))
    if Path("config/config.yaml").is_file():
        fill_in(found, Path("config/config.yaml"))
    fill_in(found, shipped.CONFIG)
    return found


def option_values(words: Sequence[str], *names: str) -> list[str]:
    """Return the words that follow an option, up to the next one; `--name=VALUE` counts, too."""
    found, inside = [], False
    for word in words:
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name in names:
            inside, found = (
                not equals,
                [value] if equals else [],
            )  # the last one counts, as in Snakemake
        elif word.startswith("-"):
            inside = False
        elif inside:
            found.append(word)
    return found


def has_option(words: Sequence[str], *names: str) -> bool:
    """Return whether an option is among words, also as `--name=VALUE` and `-nVALUE`."""
    return any(
        word.split("=")[0] == name or (len(name) == 2 and word.startswith(name))
        for word in words
        for name in names
    )


def _config_place(words: Sequence[str]) -> int | None:
    """Return where a value can be added to the user's own `--config`; None where there is none."""
    places = [place for place, word in enumerate(words) if word in ("--config", "-C")]
    return places[-1] + 1 if places else None


def _readable(study: str) -> str:
    """Return the study's path, which Snakemake takes for YAML, and for text where it is none.

    Raises InputError where the path would be read as something else; quotes do not help, as Snakemake
    takes them away.
    """
    try:
        found = parse_yaml(study, "study")
    except InputError:
        return study
    if found != study:
        raise InputError(
            f"{study}: Snakemake would read this path as {found!r}; rename what has ' #', ': ' or braces in "
            "its name, or go into that folder"
        )
    return study


def _with_profiles(words: Sequence[str]) -> list[str]:
    """Return the words; a profile that comes along with segstudy by its path, where no other of the name is found."""
    found, inside = [], False
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--profile":
            inside = not equals
            found.append(f"{name}={_profile(value)}" if equals else word)
        else:
            inside = inside and not word.startswith("-")
            found.append(_profile(word) if inside else word)
    return found


def _profile(name: str) -> str:
    """Return a profile's name, or its path where only segstudy has it."""
    ours = shipped.PROFILES / name
    if Path(name).name != name or not ours.is_dir() or any(map(_is_profile, _theirs(name))):
        return name
    return str(ours)


def _theirs(name: str) -> list[Path]:
    """Return where Snakemake looks for a profile: here, and in the folders of user and system."""
    homes = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    system = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    folders = [Path(), *(Path(home) / "snakemake" for home in (homes, *system.split(os.pathsep)))]
    return [folder / name for folder in folders]


def _is_profile(place: Path) -> bool:
    with contextlib.suppress(OSError):
        return place.is_file() or any(any(place.glob(pattern)) for pattern in PROFILE_FILES)
    return False
