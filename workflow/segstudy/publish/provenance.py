"""Origin of the results: code, libraries, machine, settings, run times."""

import hashlib
import os
import platform
import re
import subprocess
import tomllib
import urllib.parse
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pandas
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import segstudy
from segstudy import shipped, versions
from segstudy.files import parse_json
from segstudy.log import duration
from segstudy.plugins import label_and_code
from segstudy.publish.look import Look
from segstudy.study import Study, UntrainedModel

LIBRARIES = (
    *(
        "snakemake",
        "torch",
        "monai",
        "itk-elastix",
        "SimpleITK",
        "nibabel",
        "numpy",
        "scipy",
        "nnunetv2",
    ),
    *("scikit-image", "numba", "blosc2", "pandas", "statsmodels", "matplotlib", "pydantic"),
)
STAGES = ("download", "repair", "preprocess", "train", "infer", "metrics", "statistics", "publish")


def commit() -> dict[str, str]:
    """Return the git commit of this code, and whether the files it tracks were changed since.

    Empty outside a checkout, and where the checkout around the package does not track it.
    """
    folder = Path(segstudy.__file__).parent
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    revision = _git(folder, "rev-parse", "HEAD")
    if not revision:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ":/")
    files = len(changed.splitlines()) if changed else 0
    state = "clean" if not files else f"{files} tracked file{'s' * (files > 1)} changed since"
    return {"commit": revision, "state": state}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def address() -> str:
    """Return where this code is from, as others can reach it: of the checkout, else of the package; empty where neither says."""
    folder = Path(segstudy.__file__).parent
    if commit():
        return public_address(_git(folder, "remote", "get-url", "origin") or "")
    with suppress(metadata.PackageNotFoundError):
        for line in metadata.metadata("segstudy").get_all("Project-URL") or ():
            label, _, url = line.partition(", ")
            if label.lower() in ("repository", "source", "homepage"):
                return public_address(url)
    return ""


def public_address(remote: str) -> str:
    """Return the address of a repository without login; empty for a folder of this machine."""
    short = re.fullmatch(r"(?:[^@/\s]+@)?([\w.-]+\.[\w-]+):(?!//)/?([^\s]+)", remote)
    if short:  # git@host:owner/name
        return f"https://{short[1]}/{short[2]}"
    parts = urllib.parse.urlsplit(remote)
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    port = f":{parts.port}" if parts.port and parts.scheme.startswith("http") else ""
    return f"https://{parts.hostname}{port}{parts.path}"


def package_digest() -> str:
    """Compute the SHA-256 of the package's code: of names and contents of its files, wherever it lies."""
    folder, digest = Path(segstudy.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] != "_shipped" and "__pycache__" not in inside.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{content}  {inside.as_posix()}\n".encode())
    return digest.hexdigest()


def wheel_digest() -> str:
    """Return the SHA-256 of the archive that segstudy was installed from, where pip has recorded it."""
    with suppress(metadata.PackageNotFoundError):
        text = metadata.distribution("segstudy").read_text("direct_url.json") or "{}"
        archive = parse_json(text, "direct_url.json").get("archive_info", {})
        return archive.get("hashes", {}).get("sha256", "")
    return ""


def lock(extras: Collection[str], ran: Mapping[str, Collection[str]]) -> str:
    """Write the versions of segstudy's requirements, and of all that these require, as pip reads them.

    Parameters
    ----------
    extras
        Names of segstudy's own extras that count too, such as `nnunet`.
    ran
        Library -> the versions that trainings recorded. One alone counts; of several, and of all else,
        that which is installed here.

    Returns
    -------
    A line a distribution; what a local build adds to a version (`+cpu`) is left out.
    """
    found: dict[str, str] = {}
    asked = [("segstudy", frozenset(extras))]
    for name, wanted in asked:
        for required in map(Requirement, _requirements(name)):
            if not _counts(required, wanted):
                continue
            key = canonicalize_name(required.name)
            with suppress(metadata.PackageNotFoundError):
                found[key] = metadata.version(key)
            following = (key, frozenset(required.extras))
            if following not in asked:
                asked.append(following)
    lines = [f"# Python {platform.python_version()}"]
    for library, versions_ran in sorted(ran.items()):
        if library in ("python", "segstudy"):
            continue
        if len(versions_ran) == 1:
            found[canonicalize_name(library)] = next(iter(versions_ran))
        else:
            lines.append(f"# {library}: trainings ran with {', '.join(sorted(versions_ran))}")
    lines += [f"{name}=={version.partition('+')[0]}" for name, version in sorted(found.items())]
    return "\n".join(lines) + "\n"


def _requirements(name: str) -> list[str]:
    """Return what a distribution requires; segstudy as its clone says, since what is installed may be older."""
    project = shipped.ROOT / "pyproject.toml"
    if name == "segstudy" and project.is_file():
        told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras = told["optional-dependencies"].items()
        further = [f'{line}; extra == "{extra}"' for extra, lines in extras for line in lines]
        return [*told["dependencies"], *further]
    with suppress(metadata.PackageNotFoundError):
        return metadata.requires(name) or []
    return []


def _counts(required: Requirement, extras: Collection[str]) -> bool:
    """Return whether a requirement holds on this machine, for one of these extras or without any."""
    marker = required.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def lock_digest() -> str:
    """Return the SHA-256 of `requirements.lock` beside the workflow; empty where there is none."""
    path = shipped.LOCK
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def library_versions() -> list[tuple[str, str]]:
    """Return the installed versions of the libraries that the stages use, segstudy and Python first."""
    found = versions.installed(LIBRARIES)
    first = [("segstudy", found.pop("segstudy")), ("Python", found.pop("python"))]
    return [*first, *found.items()]


def plugins(study: Study) -> list[tuple[str, str]]:
    """Return the plug-ins of a study, each once: its file or module, and the digest of its code."""
    told = dict.fromkeys(study.plugin_provenance().values())
    return [(f"plug-in {label}", f"code {code}") for label, code in map(label_and_code, told)]


def machine() -> str:
    """Describe the kind of machine that wrote the report; no name of it."""
    processor = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = re.search(r"model name\s*:\s*(.+)", text)
        processor = model[1] if model else processor
    except OSError:
        pass
    return f"{platform.system()}, {processor}, {os.cpu_count()} cores"


def run_times(benchmarks: pandas.DataFrame) -> list[dict[str, str]]:
    """Sum up benchmarks, a row a stage: jobs, time of all of them, the longest, and the largest memory."""
    rows = []
    known = [stage for stage in STAGES if stage in set(benchmarks["stage"])]
    other = sorted(set(benchmarks["stage"]) - set(STAGES))
    for stage in [*known, *other]:
        jobs = benchmarks[benchmarks["stage"] == stage]
        longest = jobs.loc[jobs["s"].idxmax()]
        memory = jobs["max_rss"].max()
        rows.append(
            {
                "stage": stage,
                "jobs": str(len(jobs)),
                "seconds": float(jobs["s"].sum()),
                "total": duration(float(jobs["s"].sum())),
                "longest_seconds": float(longest["s"]),
                "longest": duration(float(longest["s"])),
                "longest_job": str(longest["job"]),
                "memory_mb": float(memory),
                "memory": "–" if pandas.isna(memory) else f"{memory:,.0f} MB",
            }
        )
    return rows


def seeds(study: Study, look: Look | None = None) -> list[tuple[str, str]]:
    """List the seed of everything that is drawn at random, by the study's own names or, with a look, as it is shown."""
    drawn = [("folds", str(study.splits.seed))] if study.cross_validated_datasets else []
    drawn.append(("swaps and resamples", str(study.statistics.seed)))
    for name, settings in study.datasets.items():
        if settings.source.layout == "phantom":
            drawn.append((f"phantom {name}", str(settings.source.seed)))
    shown = {name: look.model(name) if look else name for name in (look or study).models}
    of_models = {
        shown[name]: ", ".join(map(str, study.models[name].seeds))
        for name in shown
        if not isinstance(study.models[name], UntrainedModel)
    }
    if len(of_models) > 1 and len(set(of_models.values())) == 1:
        return [*drawn, ("all trainings", *set(of_models.values()))]
    return drawn + [(f"trainings of {name}", of_model) for name, of_model in of_models.items()]
