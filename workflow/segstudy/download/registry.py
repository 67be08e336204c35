"""The registry of datasets: addresses, checksums, licences (`resources/datasets.yaml`)."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from segstudy import shipped
from segstudy.errors import InputError
from segstudy.study import Origin, Settings
from segstudy.yaml_files import read_yaml

REGISTRY = shipped.RESOURCES / "datasets.yaml"


class Registered(Settings):
    """Hold an entry of the registry: an archive that can be fetched, or where to ask for one.

    `obtain` tells where and how to get a dataset that no program may fetch, `files` its folders, as
    they are expected.
    """

    title: str
    layout: Literal[
        "msd", "nnunet", "segthor", "oasis_slices", "neurite_oasis", "bids", "label_maps"
    ]
    url: str | None = None
    obtain: str | None = None
    files: str | None = None
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    size_bytes: int | None = Field(None, gt=0)
    licence: str
    reference: str

    @model_validator(mode="after")
    def _can_be_had(self) -> "Registered":
        if self.url and not (self.md5 or self.sha256):
            raise ValueError("needs md5 or sha256")
        if bool(self.url) == bool(self.obtain and self.files):
            raise ValueError("needs url, or obtain and files")
        return self


@dataclass(frozen=True)
class Archive:
    """Hold the address of an archive.

    Parameters
    ----------
    url
        http or https.
    checksums
        Algorithm (`md5`, `sha256`) -> hexadecimal digest.
    size_bytes
        Of the archive, where known.
    notes
        Title, licence and reference, for the log.
    """

    url: str
    checksums: dict[str, str] = field(default_factory=dict)
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()


def read_registry(path: Path = REGISTRY) -> dict[str, Registered]:
    """Read the registry; InputError for a damaged one."""
    try:
        return TypeAdapter(dict[str, Registered]).validate_python(read_yaml(path, "registry"))
    except ValidationError as error:
        raise InputError(f"{path}: the registry is damaged: {error}") from None


def entry_of(source: Origin, registry: Path = REGISTRY) -> Registered | None:
    """Return the source's entry in the registry, or None where it names none.

    Raises
    ------
    InputError
        For an unknown name and for a layout that is not the registered one's.
    """
    if not source.registered:
        return None
    known = read_registry(registry)
    if source.registered not in known:
        near = difflib.get_close_matches(source.registered, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InputError(
            f"source.registered: unknown name {source.registered!r}{hint} Known: {', '.join(known)}"
        )
    entry = known[source.registered]
    if entry.layout != source.layout:
        raise InputError(
            f"source.layout: found {source.layout}; {source.registered} is in layout {entry.layout}"
        )
    return entry


def refuse_by_hand(
    sources: Mapping[str, Settings], study: str = "NAME", registry: Path = REGISTRY
) -> None:
    """Raise InputError, with the remedy, for datasets that a person has to ask for.

    Parameters
    ----------
    sources
        Dataset of a study -> its source.
    study
        The study's name, as `--config study=` has it.
    registry
        The registry's file.
    """
    missing: dict[str, list[str]] = {}
    entries: dict[str, Registered] = {}
    for dataset, source in sources.items():
        if not isinstance(source, Origin) or source.path or source.url:
            continue
        entry = entry_of(source, registry)
        if entry is not None and not entry.url:
            entries[source.registered] = entry
            missing.setdefault(source.registered, []).append(dataset)
    if not missing:
        return
    several = len({getattr(source, "registered", None) for source in sources.values()}) > 1
    folders = ", ".join(f"{name}: DIR" for names in missing.values() for name in names)
    path = f"'{{{folders}}}'" if several else "DIR"
    raise InputError(
        "\n".join(_how_to_get(name, missing[name], entries[name]) for name in missing)
        + f"\n  Then run with --config study={study} path={path}, or set source.path in the study file."
    )


def _how_to_get(name: str, datasets: Sequence[str], entry: Registered) -> str:
    keys = ", ".join(f"datasets.{dataset}.source.path" for dataset in datasets)
    folders = "\n".join(f"    {line}" for line in entry.files.strip().splitlines())
    return (
        f"{keys} {'is' if len(datasets) == 1 else 'are'} missing: {name} is not for a program to fetch.\n"
        f"  {entry.title}\n  {' '.join(entry.obtain.split())}\n"
        f"  Unpack it so that a folder DIR holds\n{folders}\n"
        f"  Licence: {entry.licence}. Please cite: {entry.reference}"
    )


def archive_of(source: Origin, registry: Path = REGISTRY) -> Archive:
    """Return the archive of a source; a `url` of the study goes before a registered one.

    Raises
    ------
    InputError
        For an unknown name, for a layout that is not the registered one's, and for a dataset that
        cannot be fetched.
    """
    entry = entry_of(source, registry)
    notes = (
        (entry.title, f"licence: {entry.licence}", f"please cite: {entry.reference}")
        if entry
        else ()
    )
    origin = source if source.url else entry
    if entry is not None and origin is entry and not entry.url:
        refuse_by_hand({"DATASET": source}, registry=registry)
    if origin is None:
        raise InputError(
            "source: nothing to fetch, it has neither url nor registered; with `path` the "
            "folder is read where it is, and `fetch` is not needed"
        )
    checksums = {name: getattr(origin, name) for name in ("md5", "sha256") if getattr(origin, name)}
    size = None if source.url else entry.size_bytes
    return Archive(origin.url, checksums, size, notes)
