"""Where datasets are to be had: addresses, checksums, licences (`resources/datasets.yaml`)."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from segstudy.errors import InputError
from segstudy.study import FolderSource, Settings

REGISTRY = Path(__file__).resolve().parents[3] / "resources" / "datasets.yaml"


class Registered(Settings):
    """An entry of the registry."""

    title: str
    layout: Literal["msd", "nnunet"]
    url: str
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    size_bytes: int | None = Field(None, gt=0)
    licence: str
    reference: str

    @model_validator(mode="after")
    def _has_checksum(self) -> "Registered":
        if not (self.md5 or self.sha256):
            raise ValueError("needs md5 or sha256")
        return self


@dataclass(frozen=True)
class Archive:
    """An archive to fetch. checksums: algorithm (`md5`, `sha256`) -> hexadecimal digest."""

    url: str
    checksums: dict[str, str] = field(default_factory=dict)
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()


def read_registry(path: Path = REGISTRY) -> dict[str, Registered]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Registered]).validate_python(content)
    except OSError as error:
        raise InputError(f"{path}: the registry cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{path}: the registry is damaged: {error}") from None


def archive_of(source: FolderSource, registry: Path = REGISTRY) -> Archive:
    """Where the source's archive is; a `url` of the study goes before a registered one.

    Raises InputError for an unknown name and for a layout that is not the registered one's.
    """
    entry = None
    if source.registered:
        known = read_registry(registry)
        if source.registered not in known:
            near = difflib.get_close_matches(source.registered, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise InputError(
                f"source.registered: unknown name {source.registered!r}{hint} "
                f"Known: {', '.join(known)}"
            )
        entry = known[source.registered]
        if entry.layout != source.layout:
            raise InputError(
                f"source.layout: found {source.layout}; {source.registered} is in layout "
                f"{entry.layout}"
            )
    notes = (
        (entry.title, f"licence: {entry.licence}", f"please cite: {entry.reference}")
        if entry
        else ()
    )
    origin = source if source.url else entry
    if origin is None:
        raise InputError(
            "source: nothing to fetch, it has neither url nor registered; with `path` the "
            "folder is read where it is, and `fetch` is not needed"
        )
    checksums = {name: getattr(origin, name) for name in ("md5", "sha256") if getattr(origin, name)}
    size = None if source.url else entry.size_bytes
    return Archive(origin.url, checksums, size, notes)
