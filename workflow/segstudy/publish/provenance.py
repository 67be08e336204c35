"""Origin of the results: code, libraries, machine, settings, run times."""

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path

import pandas

import segstudy
from segstudy import shipped, versions
from segstudy.log import duration
from segstudy.publish.look import Look
from segstudy.study import ExternalModel, Study

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


def lock_digest() -> str:
    """Return the SHA-256 of `requirements.lock` beside the workflow; empty where there is none."""
    path = shipped.LOCK
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def library_versions() -> list[tuple[str, str]]:
    """Return the installed versions of the libraries that the stages use, segstudy and Python first."""
    found = versions.installed(LIBRARIES)
    first = [("segstudy", found.pop("segstudy")), ("Python", found.pop("python"))]
    return [*first, *found.items()]


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


def seeds(study: Study, look: Look) -> list[tuple[str, str]]:
    """List the seed of everything that is drawn at random."""
    drawn = [
        ("folds", str(study.splits.seed)),
        ("swaps and resamples", str(study.statistics.seed)),
    ]
    for name, settings in study.datasets.items():
        if settings.source.layout == "phantom":
            drawn.append((f"phantom {name}", str(settings.source.seed)))
    of_models = {
        look.model(name): ", ".join(map(str, study.models[name].seeds))
        for name in look.models
        if not isinstance(study.models[name], ExternalModel)
    }
    if len(of_models) > 1 and len(set(of_models.values())) == 1:
        return [*drawn, ("all trainings", *set(of_models.values()))]
    return drawn + [(f"trainings of {name}", of_model) for name, of_model in of_models.items()]
