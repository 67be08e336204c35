"""The package as a Workflow Run RO-Crate: `ro-crate-metadata.json`, which tells programs what each file is and which run made it.

RO-Crate 1.1 (Soiland-Reyes et al. 2022, Data Science 5:97), Workflow RO-Crate 1.0, Workflow Run Crate 0.5 (Leo et al.
2024, PLOS ONE 19:e0309210). What stands there is taken from the package's own files, which hold neither paths nor,
where names are replaced, what leads to people; from the versions and times that the run has recorded; and from nothing else.
"""

import csv
import hashlib
import json
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segstudy import shipped
from segstudy.follow.history import history
from segstudy.follow.record import read_events
from segstudy.package_files import (
    CITATION,
    CRATE,
    DATA,
    FOLDS,
    LOCK,
    PLUGINS,
    RECORD,
    RESOLVED,
    SETTINGS,
    TABLES,
)
from segstudy.publish import provenance, redaction, rerun
from segstudy.publish.citations import REFERENCES
from segstudy.publish.methods import devices
from segstudy.publish.results import Results
from segstudy.yaml_files import read_yaml

WORKFLOW, MAIN = "workflow", "workflow/Snakefile"
"""Folder of the package with the rules that ran, and the file that Snakemake reads first."""

LICENCE, CHECKSUMS = "LICENCE.md", f"{TABLES}/{DATA}"
INPUTS = (SETTINGS, FOLDS, f"{PLUGINS}/")
"""Files and folders of the package that the run took; all others but `ABOUT` are its results."""
ABOUT = (
    "README.md",
    LICENCE,
    CITATION,
    RESOLVED,
    LOCK,
    RECORD,
    f"{WORKFLOW}/",
)

RO_CRATE = "https://w3id.org/ro/crate/1.1"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
MIT = "https://spdx.org/licenses/MIT"
BIOSCHEMAS = "https://bioschemas.org/profiles"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
CONTEXT = [
    f"{RO_CRATE}/context",
    {"sha256": f"{_TERMS}sha256", "resourceUsage": f"{_TERMS}resourceUsage"},
]
"""Terms of the second part are those of the profile, written out so that no second address is needed to read the file."""

_KINDS = mimetypes.MimeTypes(filenames=())  # what a machine adds to them does not count
for _kind, _suffixes in {
    "text/markdown": [".md"], "application/yaml": [".yaml", ".cff"], "text/tab-separated-values": [".tsv"],
    "application/x-bibtex": [".bib"], "text/plain": [".lock", ".smk", ""], "image/webp": [".webp"],
}.items():  # fmt: skip
    for _suffix in _suffixes:
        _KINDS.add_type(_kind, _suffix)

Entity = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What is known of the run beside the files of the package.

    Attributes
    ----------
    title, description
        Of the study, as they are published.
    version, address
        Of segstudy: its version, and where it is from; empty where that is not told.
    identifiers
        What tells which code ran: name -> commit or checksum.
    versions
        Library -> version, Python among them.
    seeds
        What is drawn at random -> its seed.
    times
        Of `recorded_times`.
    plugins
        Label of each part of the study's own -> digest of its code.
    machine
        What ran it, in words: what it is -> kind of machine.
    stages
        Of `provenance.run_times`.
    data
        Dataset -> its entry in the registry; empty where it has none.
    partial
        What is not done.
    tables
        Dataset -> what each table of its cases and subjects is, with `n_bytes` and `sha256`.
    """

    title: str
    description: str
    version: str
    address: str
    identifiers: Mapping[str, str]
    versions: Mapping[str, str]
    seeds: Mapping[str, str]
    times: tuple[str, ...]
    plugins: Mapping[str, str]
    machine: Mapping[str, str]
    stages: Sequence[Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    partial: Sequence[str] = ()
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def copy_workflow(top: Path) -> None:
    """Copy the rules that ran into the package: its main entity as a Workflow RO-Crate."""
    for source in workflow_files():
        target = top / WORKFLOW / source.relative_to(shipped.ROOT / "workflow")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def workflow_files() -> list[Path]:
    """List the files that Snakemake reads."""
    folder = shipped.ROOT / "workflow"
    return [folder / "Snakefile", *sorted(folder.glob("rules/*.smk"))]


def recorded_times(results: Results, to_the_day: bool) -> tuple[str, ...]:
    """Return when the first of the jobs that made the results started and when the last one ended, as ISO 8601 in UTC.

    Of results without a record of jobs, the day of their table of metrics alone, as its end.

    Parameters
    ----------
    results
        Where they lie, under their own names.
    to_the_day
        Whether hours are left out.
    """
    jobs = history(read_events(results.paths.jobs)).made.values()
    timed = [job for job in jobs if job["rule"] != "publish_package"]  # it would tell of itself
    if not timed:
        return (_iso(Path(results.paths.metrics).stat().st_mtime)[:10],)
    ends = min(job["time"] for job in timed), max(job["ended"] for job in timed)
    return tuple(_iso(end)[: 10 if to_the_day else None] for end in ends)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


def run_of(
    results: Results,
    origin: rerun.Code,
    times: tuple[str, ...],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Run:
    """Return what is known of the run that made results.

    Parameters
    ----------
    results
        The results of the study, under new names where there are such.
    origin
        The segstudy that runs.
    times
        Of `recorded_times`.
    tables
        Of `package_tables.input_tables`, as far as they may be told of.
    """
    study, known = redaction.redacted(results.study), redaction.registry()
    names = {
        name: redaction.registered_name(dataset.source, known)
        for name, dataset in results.study.datasets.items()
    }
    told = {"commit": origin.commit, "state of the clone": origin.state if origin.commit else ""}
    told |= {
        "SHA-256 of the package": origin.package_sha256,
        "SHA-256 of the wheel": origin.wheel_sha256,
    }
    machine = {"packed on": provenance.machine(), "trainings ran on": devices(results)}
    return Run(
        title=study.title or study.name,
        description=study.description or f"Results of the study {study.name}, made with segstudy {origin.version}.",
        version=origin.version,
        address=origin.address,
        identifiers={name: value for name, value in told.items() if value},
        versions=dict(provenance.library_versions()),
        seeds=dict(provenance.seeds(results.study)),
        times=times,
        plugins={label.removeprefix("plug-in "): code for label, code in provenance.plugins(results.study)},
        machine={name: words for name, words in machine.items() if words},
        stages=provenance.run_times(results.benchmarks()),
        data={name: known.get(entry, {}) for name, entry in names.items()},
        partial=study.partial,
        tables=tables,
    )  # fmt: skip


def crate(top: Path, run: Run, holds: Mapping[str, str]) -> dict[str, Any]:
    """Describe a package.

    Parameters
    ----------
    top
        The folder of the package, complete but for this description and the checksums.
    run
        The run that made it.
    holds
        File or folder -> what it holds, where that is known.

    Returns
    -------
    The JSON-LD: `@context`, and `@graph` with an entity a file, folder, dataset, setting, library and stage.
    """
    parts = list(_parts(top, holds))
    tops = [part["@id"] for part in parts if "/" not in part["@id"].rstrip("/")]
    data = list(_data(top / CHECKSUMS, run))
    settings = list(_settings(top / SETTINGS, run))
    taken = [name for name in tops if _is_one_of(name, INPUTS)]
    made = [name for name in tops if not _is_one_of(name, (*INPUTS, *ABOUT))]
    ends = [*taken, *(one["@id"] for one in data if one["@type"] == "Collection")]
    parameters = [_parameter(name, _by_id(parts, data)[name]) for name in (*ends, *made)]
    parameters += [_parameter(one["@id"], one) for one in settings]
    outputs = {_parameter_id(name) for name in made}
    for one in (*parts, *data, *settings):
        if _parameter_id(one["@id"]) in {parameter["@id"] for parameter in parameters}:
            one["exampleOfWork"] = _reference(_parameter_id(one["@id"]))
    software, usage = list(_software(run)), list(_usage(run))
    workflow = _by_id(parts)[MAIN]
    workflow |= {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "segstudy",
        "description": "The rules of segstudy, as Snakemake reads them; what they call is in the package `segstudy`.",
        "conformsTo": _reference(f"{BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"),
        "programmingLanguage": _reference("#snakemake"),
        "version": run.version,
        "license": _reference(MIT),
        "creator": _reference("#authors-of-segstudy"),
        "softwareRequirements": [
            *_references(one["@id"] for one in software if one["@id"] != "#snakemake"),
            _reference(LOCK),
        ],
        "hasPart": _references(
            one["@id"] for one in parts if one["@id"].startswith(f"{WORKFLOW}/rules/") and one["@type"] != "Dataset"
        ),
        "input": _references(one["@id"] for one in parameters if one["@id"] not in outputs),
        "output": _references(one["@id"] for one in parameters if one["@id"] in outputs),
        **({"codeRepository": run.address} if run.address else {}),
    }  # fmt: skip
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run of {run.title}",
        "description": _of_run(run),
        "instrument": _reference(MAIN),
        "object": [*_references(ends), *_references(one["@id"] for one in settings)],
        "result": _references(made),
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "resourceUsage": _references(one["@id"] for one in usage),
        **dict(zip(("endTime", "startTime"), run.times[::-1], strict=False)),
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": run.title,
        "description": run.description,
        "datePublished": run.times[-1][:10],
        "license": _reference(LICENCE),
        "conformsTo": _references(PROFILES),
        "mainEntity": _reference(MAIN),
        "mentions": _references(
            ["#run", *(one["@id"] for one in data if one["@type"] == "Collection")]
        ),
        "hasPart": _references([*tops, *(one["@id"] for one in data if one["@type"] == "File")]),
    }
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": _reference("./"),
        "conformsTo": _references([RO_CRATE, WORKFLOW_CRATE]),
    }
    graph = [descriptor, root, action, *parts, *data, *settings, *parameters, *software, *usage]
    return {"@context": CONTEXT, "@graph": [*graph, *_context(run)]}


def _reference(name: str) -> Entity:
    return {"@id": name}


def _references(names: Iterable[str]) -> list[Entity]:
    return [_reference(name) for name in names]


def _by_id(*lists: Iterable[Entity]) -> dict[str, Entity]:
    return {one["@id"]: one for entities in lists for one in entities}


def _is_one_of(name: str, listed: Iterable[str]) -> bool:
    """Return whether the package's file or folder is listed; `plugins_2/` is as `plugins/`."""
    return any(
        name == one
        or (one.endswith("/") and name.startswith(f"{one[:-1]}_") and name.endswith("/"))
        for one in map(quote, listed)
    )


def _parts(top: Path, holds: Mapping[str, str]) -> Iterator[Entity]:
    """Yield an entity for each file and folder, in the order of their names."""
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top).as_posix()
        if path.is_dir():
            inside = (one for one in sorted(path.iterdir()))
            ids = [quote(f"{name}/{one.name}{'/' * one.is_dir()}") for one in inside]
            entity = {"@id": quote(f"{name}/"), "@type": "Dataset", "name": path.name}
            entity["hasPart"] = _references(ids)
        else:
            content = path.read_bytes()
            entity = {
                "@id": quote(name),
                "@type": "File",
                "name": path.name,
                "contentSize": str(len(content)),
                "sha256": hashlib.sha256(content).hexdigest(),
                "encodingFormat": _KINDS.guess_type(path.name)[0]
                or _KINDS.types_map[True].get(path.suffix, "application/octet-stream"),
            }
            if name == "README.md":
                entity["about"] = _reference("./")
            if name == LICENCE:
                entity["@type"] = ["File", "CreativeWork"]
            elif path.suffix == ".py" or name.startswith(f"{WORKFLOW}/"):
                entity["@type"] = ["File", "SoftwareSourceCode"]
        described = holds.get(f"{name}/" if path.is_dir() else name)
        yield {**entity, **({"description": described} if described else {})}


def _data(table: Path, run: Run) -> Iterator[Entity]:
    """Yield the datasets, and each file of theirs by its checksum, tables too; where that is summed up, the datasets alone."""
    rows = []
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    files: dict[str, Entity] = {}
    for dataset in dict.fromkeys([*run.data, *(row["dataset"] for row in rows)]):
        collection = {"@id": f"#data/{quote(dataset)}", "@type": "Collection", "name": dataset}
        collection["subjectOf"] = _reference(CHECKSUMS)
        own = [row for row in rows if row["dataset"] == dataset]
        parts = []
        for row in [*own, *({"case": dataset, **one} for one in run.tables.get(dataset, ()))]:
            if not row.get("case"):  # of all files together
                collection |= {"description": row["file"], "contentSize": row["n_bytes"]}
                collection["sha256"] = row["sha256"]
            elif row["sha256"]:
                # RFC 6920: a name by content. What lies twice in the data is one file.
                name, words = f"nih:sha-256;{row['sha256']}", f"{row['case']}: {row['file']}"
                if name not in files:
                    files[name] = {"@id": name, "@type": "File", "name": words}
                    files[name] |= {"contentSize": str(row["n_bytes"]), "sha256": row["sha256"]}
                else:
                    files[name]["name"] += f"; {words}"
                parts.append(name)
        if parts:
            collection["hasPart"] = _references(dict.fromkeys(parts))
        told = run.data.get(dataset, {})
        for key, own in (
            ("license", "licence"),
            ("citation", "reference"),
            ("url", "url"),
            ("alternateName", "title"),
        ):
            collection |= {key: told[own]} if own in told else {}
        yield collection
    yield from files.values()


def _settings(file: Path, run: Run) -> Iterator[Entity]:
    """Yield each value that the study file sets, by its keys, and each seed."""
    for keys, value in _values(read_yaml(file)):
        if keys[0] not in ("title", "description", "name", "schema_version"):
            name = ".".join(keys)
            yield _value(f"#setting/{quote(name)}", name, value)
    for name, seed in run.seeds.items():
        yield _value(f"#seed/{quote(name)}", f"seed of {name}", seed)


def _values(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(content, dict) and content:
        for key, inside in content.items():
            yield from _values(inside, (*keys, str(key)))
    elif isinstance(content, str | int | float):
        yield keys, content
    else:
        yield keys, json.dumps(content, default=str, ensure_ascii=False)


def _value(name: str, called: str, value: Any) -> Entity:
    return {"@id": name, "@type": "PropertyValue", "name": called, "value": value}


def _parameter_id(name: str) -> str:
    return f"#parameter/{name.strip('#/')}"


def _parameter(name: str, of: Entity) -> Entity:
    """Describe what a file, dataset or value stands for in any run."""
    if of["@type"] == "PropertyValue":
        value = of["value"]
        kind = {bool: "Boolean", int: "Integer", float: "Float"}.get(type(value), "Text")
    else:
        kind = of["@type"] if isinstance(of["@type"], str) else of["@type"][0]
    return {
        "@id": _parameter_id(name),
        "@type": "FormalParameter",
        "name": of["name"],
        "additionalType": kind,
        "conformsTo": _reference(f"{BIOSCHEMAS}/FormalParameter/1.0-RELEASE"),
        "workExample": _reference(name),
    }


def _software(run: Run) -> Iterator[Entity]:
    identifiers = [f"#{name.replace(' ', '-')}" for name in run.identifiers]
    yield {
        "@id": "#segstudy",
        "@type": "SoftwareApplication",
        "name": "segstudy",
        "softwareVersion": run.version,
        "identifier": _references(identifiers),
        "author": _reference("#authors-of-segstudy"),
        "license": _reference(MIT),
        **({"url": run.address} if run.address else {}),
    }
    yield {
        "@id": "#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
        "url": "https://snakemake.readthedocs.io",
        **({"version": run.versions["snakemake"]} if "snakemake" in run.versions else {}),
    }
    for name, version in run.versions.items():
        if name != "segstudy":
            kind = "generic" if name == "Python" else "pypi"
            purl = f"pkg:{kind}/{quote(name.lower())}@{quote(version)}"
            yield {"@id": purl, "@type": "SoftwareApplication", "name": name, "softwareVersion": version}  # fmt: skip
    for label, digest in run.plugins.items():
        entity = {"@id": f"#plugin/{quote(label)}", "@type": "SoftwareSourceCode", "name": label}
        yield {**entity, "version": digest}


def _usage(run: Run) -> Iterator[Entity]:
    """Yield the machine, and what each stage took."""
    for name, words in run.machine.items():
        yield _value(f"#machine/{quote(name)}", name, words)
    for row in run.stages:
        for key, what, unit in (
            ("seconds", "time of all jobs", "SEC"),
            ("memory_mb", "largest memory of a job", "4L"),
        ):
            if row[key] == row[key]:  # a short job's memory is not measured
                name = f"#usage/{quote(row['stage'])}/{key}"
                yield _value(name, f"{row['stage']}: {what}", row[key]) | {"unitCode": unit}  # fmt: skip


def _of_run(run: Run) -> str:
    parts = ["The jobs whose results these are"]
    if len(run.times) > 1:
        parts.append("from the start of the first to the end of the last")
    text = ", ".join(parts) + "."
    return (
        f"{text} Not all of the study is done: {'; '.join(run.partial)}." if run.partial else text
    )


def _context(run: Run) -> Iterator[Entity]:
    """Yield what other entities refer to: profiles, authors, checksums."""
    for name, (words, version) in PROFILES.items():
        yield {"@id": name, "@type": "CreativeWork", "name": words, "version": version}
    yield {"@id": RO_CRATE, "@type": "CreativeWork", "name": "RO-Crate", "version": "1.1"}
    for kind in ("ComputationalWorkflow", "FormalParameter"):
        name = f"{BIOSCHEMAS}/{kind}/1.0-RELEASE"
        yield {"@id": name, "@type": "CreativeWork", "name": f"Bioschemas {kind}", "version": "1.0"}
    yield {"@id": MIT, "@type": "CreativeWork", "name": "MIT licence", "identifier": "MIT"}
    yield {
        "@id": "#authors-of-segstudy",
        "@type": "Organization",
        "name": REFERENCES["segstudy"].authors,
    }
    for name, value in run.identifiers.items():
        yield _value(f"#{name.replace(' ', '-')}", name, value)
