"""A digest of the code behind a job, so that an edit reruns exactly the jobs that it can change.

Snakemake notices an edited rule, not an edited module. Each rule therefore carries the digest of
the module that it enters and of every project module imported from there, found by reading
import statements. It is taken over the parsed code: comments, docstrings and formatting do not count.
"""

import atexit
import hashlib
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segstudy import metric_plugins, source_code
from segstudy.errors import InputError
from segstudy.files import read_json, write_json
from segstudy.jobs.machine import cache_home
from segstudy.source_code import parse
from segstudy.study import references

if TYPE_CHECKING:
    from segstudy.study import AnyModel, Study

PACKAGE = Path(__file__).resolve().parents[1]
MOST_KEPT = 5000
"""Parsed sources in the cache, beyond which it begins anew."""

# Modules, or packages with all that is in them. Settings reach a job as values on its command line,
# which Snakemake compares by itself; finished work is taken with the checksums it was kept with.
WITHOUT_EFFECT = frozenset({"errors", "finished", "log", "study", "versions"})
# The one type of settings that computes, with its module; the others hold fields and validators alone.
COMPUTES = {"study.Study": "study.study"}


@cache
def digest(*modules: str) -> str:
    """Compute the digest of modules and of all project modules that they import.

    Parameters
    ----------
    modules
        Names relative to the package, e.g. `train.fit`. A module that is imported by a computed name,
        such as a network, is named here too; an import inside a function is seen.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    ValueError
        Where there is no such module.
    """
    modules_reached = sorted(reached(*modules))
    content = "".join(f"{module} {_fingerprint(module)}\n" for module in modules_reached)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def reached(*modules: str) -> set[str]:
    """Return the modules themselves and all project modules that they import, directly or not."""
    visited: set[str] = set()
    waiting = [_existing(module) for module in modules]
    while waiting:
        module = waiting.pop()
        if module not in visited:
            visited.add(module)
            waiting.extend(
                other
                for other in imports(module) - visited
                if other in COMPUTES.values() or other.split(".")[0] not in WITHOUT_EFFECT
            )
    return visited


def imports(module: str) -> frozenset[str]:
    """Return the project modules that a module imports, by its import statements."""
    return _read(module)[0]


def _fingerprint(module: str) -> str:
    return _read(module)[1]


@cache
def _read(module: str) -> tuple[frozenset[str], str]:
    """Return the project modules that a module imports, and its fingerprint."""
    names, fingerprint = _parsed(_file(module).read_bytes())
    inside = {name.removeprefix("segstudy.") for name in names if name.startswith("segstudy.")}
    inside = {COMPUTES.get(name, name) for name in inside}
    return frozenset(name for name in inside if _file(name) is not None), fingerprint


def _parsed(source: bytes) -> tuple[list[str], str]:
    """Return the names that a module's source imports, and its fingerprint; of a source seen before, from the cache."""
    key, known = hashlib.sha256(source).hexdigest(), _cache()
    if key not in known:
        known[key] = parse(source)
        atexit.unregister(_keep)
        atexit.register(_keep, known)
    names, fingerprint = known[key]
    return names, fingerprint


@cache
def _cache_file() -> Path:
    """Return the file of parsed sources: parsing takes a second of each start. Another Python or parser has its own."""
    parser = hashlib.sha256(
        sys.version.encode() + Path(source_code.__file__).read_bytes()
    ).hexdigest()
    return cache_home() / "segstudy" / f"parsed-{parser[:12]}.json"


@cache
def _cache() -> dict[str, tuple[list[str], str]]:
    with suppress(InputError, ValueError, TypeError, AttributeError):
        known = read_json(_cache_file())
        if len(known) <= MOST_KEPT:
            return {key: (list(names), str(digest)) for key, (names, digest) in known.items()}
    return {}


def _keep(known: dict[str, tuple[list[str], str]]) -> None:
    with suppress(OSError, InputError):
        write_json(_cache_file(), known)


def _file(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _existing(module: str) -> str:
    if _file(module) is None:
        raise ValueError(f"no module {module!r} in {PACKAGE}")
    return module


PATCH_SOURCES = {"images": "train.from_images", "synth": "train.from_label_maps"}
"""The modules that a training's patches come from, by the model's `trainer`."""


def training_modules(model: "AnyModel") -> list[str]:
    """Return the modules that a training of a model imports by name."""
    from segstudy.networks import modules

    if model.trainer == "plugin":
        return ["train.plugin_trainer"]
    source = PATCH_SOURCES.get(model.trainer)
    if source is None:
        return ["train.nnunet", *modules(model)]
    loss = ["train.plugin_loss"] if model.loss.plugins else []
    changes = ["train.plugin_augment"] if model.augmentation.plugins else []
    return [source, *modules(model), *loss, *changes]


def training_code(model: "AnyModel") -> str:
    """Return the digest of a training of a model: its trainer's modules and its own network's."""
    trainer = ["train.fit"] if model.trainer in PATCH_SOURCES else []
    return _with_plugins(digest(*trainer, *training_modules(model)), model.plugin_provenance())


def prediction_code(model: "AnyModel") -> str:
    """Return the digest of a prediction with a model."""
    from segstudy.networks import modules

    if model.trainer == "plugin":
        return _with_plugins(digest("infer.plugin_trainer"), model.plugin_provenance())
    nnunet = ["infer.nnunet"] if model.network == "nnunet" else []
    if any(getattr(model.infer, key, 0) for key in ("mc_dropout", "uncertainty", "agreement")):
        nnunet += ["infer.uncertainty", "infer.quality"]
    # Losses and changes of images act on the weights, which are an input of a prediction.
    network = {key: told for key, told in model.plugin_provenance().items() if key == "network"}
    return _with_plugins(digest("infer.predict", *nnunet, *modules(model)), network)


def ensemble_code(study: "Study", model: str) -> str:
    """Return the digest of a prediction with an ensemble: its own modules, and those of its members."""
    members = [prediction_code(study.models[member]) for member in study.models[model].members]
    code = digest("infer.predict", "infer.ensemble")
    return hashlib.sha256(repr((code, members)).encode()).hexdigest()[:16]


def _with_plugins(code: str, used: Mapping[Any, str]) -> str:
    """Return a digest of segstudy's code together with that of plug-ins, given by key as label and digest."""
    if not used:
        return code
    return hashlib.sha256(repr((code, sorted(used.items()))).encode()).hexdigest()[:16]


def with_plugins(code: str, texts: Iterable[str]) -> str:
    """Return a digest of code and of the plug-ins that it calls; without any, the code's own."""
    return _with_plugins(code, dict(enumerate(map(references.described, texts))))


def audit_code(study: "Study", dataset: str) -> str:
    """Return the digest of a dataset's audit: the stage's modules, and the plug-in of its layout."""
    layout = getattr(study.datasets[dataset].source, "layout_plugin", None)
    return with_plugins(digest("download.audit"), [layout] if layout else [])


def measuring_code(study: "Study") -> str:
    """Return the digest of the measurements: the stage's modules, and the metrics of plug-ins."""
    return with_plugins(digest("metrics.pairs", "metrics.corrected"), study.metrics.plugins)


def code_of_measured(study: "Study", module: str) -> str:
    """Return the digest of a job that reads measurements: its modules, and what plug-ins say of their metrics.

    What they compute comes in the table of measurements.
    """
    said = metric_plugins.description(study.metrics.plugins)
    return _with_plugins(digest(module), dict(enumerate(said)))
