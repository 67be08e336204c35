"""The plain `snakemake` command that runs a study, from the study and what a user adds to it."""

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
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
    # Snakemake takes the last --config alone.
    place, glued = _config_place(own)
    if place is None:
        return [*command, *own, *added, "--config", *settings, *targets]
    if glued is not None:  # what follows it is a target, and no further value
        flags = own[place].partition("C")[0] if not own[place].startswith("--") else "-"
        rest = [*own[:place], *([flags] if flags != "-" else []), *own[place + 1 :]]
        return [*command, *rest, *added, "--config", *settings, glued, *targets]
    return [*command, *own[: place + 1], *settings, *own[place + 1 :], *added, *targets]


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
    """Return the values of an option, in any way that Snakemake takes them.

    These are `--name VALUE`, `--name=VALUE`, `-nVALUE`, `-n=VALUE`, also behind letters that take no value
    (`-pnVALUE`), and `--nam VALUE`, shortened. Of several, the last one counts.
    """
    found, inside = [], False
    for option, word in _parts(words):
        if option and _is_one_of(option, names):
            found, inside = ([], True) if word is None else ([word], False)
        elif option:
            inside = False
        elif inside and word is not None:
            found.append(word)
    return found


def has_option(words: Sequence[str], *names: str) -> bool:
    """Return whether an option is among words, in any way that Snakemake takes it."""
    return any(option and _is_one_of(option, names) for option, _ in _parts(words))


FLAGS = "nhtkfFlSDvpa"
"""Letters of Snakemake's options that take no value: others may follow in the same word."""


def _parts(words: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    """Yield each option with the value in its own word, or None; and each other word, with an empty option."""
    for word in words:
        if word == "--":
            return
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield name, value if equals else None
        elif found := re.fullmatch(rf"-([{FLAGS}]*)(?:([A-Za-z])(.*))?", word, re.DOTALL):
            flags, letter, value = found.groups()
            yield from ((f"-{flag}", None) for flag in flags)
            if letter:
                yield f"-{letter}", value.removeprefix("=") if value else None
        else:
            yield "", word


def _is_one_of(option: str, names: Iterable[str]) -> bool:
    """Return whether an option is one of these, or is short for one; Snakemake refuses what is short for two."""
    shortened = option.startswith("--") and option not in ("--", "--config")
    return any(option == name or (shortened and name.startswith(option)) for name in names)


def _config_place(words: Sequence[str]) -> tuple[int | None, str | None]:
    """Return where the user's last own `--config` is, and the value in its word; None where there is none."""
    place, glued = None, None
    for number, word in enumerate(words):
        for option, value in _parts([word]):
            if option and _is_one_of(option, ("--config", "-C")):
                place, glued = number, value
    return place, glued


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
        if name.startswith("--") and _is_one_of(name, ("--profile",)):
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


def profile_file(name: str) -> Path | None:
    """Return the file of a profile, of the user's or of segstudy's own; None where there is none of that name."""
    for place in (*_theirs(name), shipped.PROFILES / name):
        if place.is_file():
            return place
        for pattern in PROFILE_FILES:
            for file in sorted(place.glob(pattern)):
                return file
    return None


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
