"""`segstudy reproduce`: run a published package again, from its zip alone, and say which of its tables are the same."""

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segstudy import shipped
from segstudy.errors import InputError
from segstudy.files import write_table, write_text, writing_folder
from segstudy.jobs import machine
from segstudy.jobs.options import job_environment
from segstudy.log import log
from segstudy.package_files import CHECKSUMS, FOLDS, LOCK, PLUGINS, SETTINGS, TABLES
from segstudy.plugins import label_and_code
from segstudy.reproduce.differences import pinned
from segstudy.reproduce.package import Package, faults, opened
from segstudy.words import count

if TYPE_CHECKING:
    from segstudy.study import Study

DIFFERENT = 3
"""Exit status where a table is not the same."""
PUBLISHED = "published"
"""Folder of the output that holds the package as it came."""
COMPARISON = "comparison.csv"
_SHOWN = 12


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of `segstudy reproduce`."""
    parser.description = (
        "Show what a package of `make publish` would run, check that it is whole and that code, versions and data are "
        "those that made it, run it after a yes, and compare its tables with the new ones."
    )
    parser.add_argument("package", type=Path, metavar="ZIP", help="the package")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="a folder of its own (reproduced-STUDY)"
    )
    parser.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="[DATASET=]PATH",
        help="where a dataset is, that the package only names; for each dataset, or for all that lack one",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what else the package only names: folders of predictions, programs, tables. Without it, the keys are listed",
    )
    parser.add_argument(
        "--cores",
        type=int,
        metavar="N",
        help="those of this machine, by default; where a training got fewer threads than its model asks for, as many as then",
    )
    parser.add_argument("--yes", action="store_true", help="run it without asking")
    parser.add_argument(
        "--trust", action="store_true", help="run the code and the programs that the package names"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would run, no more")
    parser.epilog = (
        "examples: segstudy reproduce results/demo/demo.zip --dry-run\n"
        "  segstudy reproduce results/demo/demo.zip --yes --output again\n\n"
        "Exit status: 0 if every table is the same to the byte, 3 if one is not, 1 if it could not be told."
    )


@dataclass(frozen=True)
class _Rerun:
    """A package, and all that its rerun takes."""

    package: Package
    study: "Study"
    paths: Mapping[str, str]
    given: Mapping[str, str]
    cores: int
    output: Path

    @property
    def results(self) -> Path:
        """Return the folder of the new results, below the output."""
        return Path("results") / self.study.name


def run(options: Namespace) -> None:
    """Show, check, ask, run and compare. Raises SystemExit with `DIFFERENT` where a table is not the same."""
    if options.cores is not None and options.cores < 1:
        raise InputError(f"--cores: {options.cores}; expected 1 or more")
    with tempfile.TemporaryDirectory(prefix="segstudy-") as folder:
        try:
            package = opened(options.package, Path(folder))
            rerun = _planned(package, options)
        except InputError as error:  # tells of the zip, not of a folder that is gone
            text = str(error).replace(f"{folder}{os.sep}", f"{options.package}: ")
            raise InputError("\n".join(map(_on_a_line, text.split("\n")))) from None
        print("\n".join(map(_on_a_line, _shown(rerun))), flush=True)
        _refuse(rerun, options)
        if options.dry_run:
            return
        if not options.yes and not _agreed():
            raise InputError("nothing was run; --yes runs it without asking")
        _prepare(rerun)
    if not _run(replace(rerun, package=Package(rerun.output / PUBLISHED))):
        raise SystemExit(DIFFERENT)


def _planned(package: Package, options: Namespace) -> _Rerun:
    """Read the study of a package, with what is given in place of its roles."""
    from segstudy.reproduce import inputs
    from segstudy.study import read_study

    if package.record.get("partial"):
        raise InputError(
            f"{options.package}: made before all of the study was done ({'; '.join(map(str, package.record['partial']))}); a "
            "rerun would do all of it, and no table would be the same"
        )
    file = package.folder / SETTINGS
    level = log.level
    log.setLevel(logging.ERROR)  # notes on the study are said by the run itself
    try:
        study = read_study(file)
    finally:
        log.setLevel(level)
    return _Rerun(
        package,
        study,
        inputs.data_folders(options.path, study, package.lacking),
        inputs.settings(options.set, package.lacking),
        options.cores or _cores(study, package.record["threads"]),
        (options.output or Path(f"reproduced-{study.name}")).absolute(),
    )


def _cores(study: "Study", threads: int) -> int:
    """Return the cores that give each training the threads that it had then, on which its last bits hang on a CPU."""
    return threads if _asked_threads(study) > threads else max(threads, machine.cores())


def _asked_threads(study: "Study") -> int:
    """Return the most threads that a model asks for."""
    return max((getattr(model, "threads", 1) for model in study.models.values()), default=1)


def _code(rerun: _Rerun) -> list[str]:
    """List what a rerun executes beside segstudy: plug-ins with the digest of their code, and programs."""
    told = dict.fromkeys(rerun.study.plugin_provenance().values())
    code = [f"plug-in {label} (code {digest})" for label, digest in map(label_and_code, told)]
    for name, model in rerun.study.models.items():
        if command := getattr(model, "command", None):
            given = rerun.given.get(f"models.{name}.command")
            code.append(f"program of {name}: {given or shlex.join(command)}")
    return code


def _differences(rerun: _Rerun) -> list[str]:
    """List what is other here than where the package was made."""
    from segstudy.reproduce import differences
    from segstudy.start import running_code

    package, here = rerun.package, running_code()
    found = differences.of_code(package.record["segstudy"], here)
    found += differences.of_versions(package.folder / LOCK)
    found += [
        f"plug-in {label}: code {package.plugins[label]} made it, {digest} is here"
        for label, digest in map(label_and_code, rerun.study.plugin_provenance().values())
        if package.plugins.get(label, digest) != digest
    ]
    threads = package.record["threads"]
    if min(_asked_threads(rerun.study), rerun.cores) != min(_asked_threads(rerun.study), threads):
        found.append(
            f"cores: a training had {threads} threads, and would have others with --cores {rerun.cores}"
        )
    return found


def _shown(rerun: _Rerun) -> list[str]:
    """Say what would run, where, and what it took when the package was made."""
    study, package = rerun.study, rerun.package
    told = package.record["segstudy"]
    commit = f", commit {told['commit']} ({told.get('state', '')})" if told.get("commit") else ""
    models = [f"{name} ({model.network.replace('_', ' ')})" for name, model in study.models.items()]
    parts = {
        "study": f"{study.name}: {study.title or 'no title'}; {count(len(study.folds), 'fold')}",
        "models": ", ".join(models),
        "data": "; ".join(_source(rerun, name) for name in study.datasets),
        "made with": f"segstudy {told.get('version', '')}{commit}",
        "took": package.cost or "not recorded",
        "runs code": "; ".join(_code(rerun)) or "none but segstudy's",
        "cores": str(rerun.cores),
        "goes to": str(rerun.output),
    }
    lines = [f"{name + ':':<11}{text}" for name, text in parts.items()]
    lines += [f"{'notes:':<11}{note}" for note in [study.in_brief, *_limits(package)] if note]
    differences = _differences(rerun)
    if not differences:
        libraries = count(pinned(package.folder / LOCK), "library", "libraries")
        return [*lines, f"{'differs:':<11}nothing: the same code, Python and {libraries}"]
    shown = [f"{'differs:':<11}{line}" for line in differences[:_SHOWN]]
    more = [f"{'':<11}and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    return [*lines, *shown, *more]


def _on_a_line(text: str) -> str:
    """Write what a package says with its control characters as codes, so that no text of it can forge or hide a line."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _limits(package: Package) -> list[str]:
    """Say what cannot be told of a package whose cases have numbers for names."""
    if not package.is_anonymous:
        return []
    return [
        "cases have numbers for names: they are told from your files, and get the same numbers, if these have the names "
        "that they had then",
        "checksums are those of whole datasets: which file is other cannot be told",
        "folds are dealt anew by their seed: the same, unless they were given or cases came later",
        "no commit is told: only whether the code is the same",
    ]


def _source(rerun: _Rerun, dataset: str) -> str:
    source = rerun.study.datasets[dataset].source
    if dataset in rerun.paths:
        return f"{dataset}: {rerun.paths[dataset]}"
    if source.layout == "phantom":
        return f"{dataset}: made anew from seed {source.seed}"
    if getattr(source, "registered", None) or "://" in (getattr(source, "url", None) or ""):
        return f"{dataset}: fetched from {source.registered or source.url}"
    return f"{dataset}: not given"


def _refuse(rerun: _Rerun, options: Namespace) -> None:
    """Refuse what cannot run, or should not without a word."""
    from segstudy.reproduce import inputs

    lines = inputs.still_lacking(rerun.package.lacking, rerun.paths, rerun.given)
    code = _code(rerun)
    if code and not options.trust:
        lines.append(
            f"{'; '.join(code)}: of the package's authors, and run with your rights; read it, then add --trust"
        )
    there = rerun.output / PUBLISHED / CHECKSUMS
    if rerun.output.exists() and not rerun.output.is_dir():
        lines.append(f"--output {rerun.output}: a file; expected a new folder")
    elif rerun.output.is_dir() and any(rerun.output.iterdir()):
        mine = rerun.package.folder / CHECKSUMS
        if not there.is_file() or there.read_bytes() != mine.read_bytes():
            lines.append(
                f"--output {rerun.output}: has other files in it; name a new folder, or that of a rerun of this package, "
                "which then goes on"
            )
    if lines and options.dry_run:
        print("\n".join(_on_a_line(f"{'to do:':<11}{line}") for line in lines))
    elif lines:
        raise InputError("\n".join(map(_on_a_line, lines)))


def _agreed() -> bool:
    print("Run it? [y/N] ", end="", flush=True)
    if sys.stdin is None:  # closed: nobody can answer
        return False
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _prepare(rerun: _Rerun) -> None:
    """Put the package as it came, and the study file with its folds and code, into the output."""
    from segstudy.reproduce.inputs import filled_in

    source, output = rerun.package.folder, rerun.output
    output.mkdir(parents=True, exist_ok=True)
    if not (output / PUBLISHED).exists():
        with writing_folder(output / PUBLISHED) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    if wrong := faults(output / PUBLISHED):
        raise InputError(
            f"{output / PUBLISHED}: changed since it was unpacked: {wrong[0]}; name a new --output"
        )
    for folder in source.glob(f"{PLUGINS}*/"):
        shutil.copytree(folder, output / folder.name, dirs_exist_ok=True)
    if rerun.package.has_folds and not (output / FOLDS).exists():
        shutil.copyfile(source / FOLDS, output / FOLDS)
    text = filled_in(source / SETTINGS, rerun.given, rerun.study)
    if not (output / SETTINGS).is_file() or (output / SETTINGS).read_text("utf-8") != text:
        write_text(output / SETTINGS, text)


def _run(rerun: _Rerun) -> bool:
    """Audit the data, compare their checksums, run all that follows, and return whether every table is the same."""
    _segstudy(rerun, "download")
    _check_data(rerun)
    _segstudy(rerun, "publish_package")
    return _compare(rerun)


def _segstudy(rerun: _Rerun, target: str) -> None:
    from segstudy.reproduce.inputs import config

    words = ["run", SETTINGS, "--cores", str(rerun.cores)]
    words += [*config(rerun.paths, rerun.package.is_anonymous), "--", target]
    print(f"In {rerun.output}: segstudy {shlex.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "segstudy", *words],
        cwd=rerun.output,
        env={**os.environ, **job_environment(shipped.PACKAGE.parent)},
        check=False,
    )
    if done.returncode:
        raise InputError(
            f"{rerun.output}: the run stopped (status {done.returncode}), as said above; once that is mended, the same "
            "command goes on"
        )


def _check_data(rerun: _Rerun) -> None:
    """Refuse data whose checksums are not those of the package."""
    from segstudy.reproduce.differences import of_data
    from segstudy.start import data_checksums
    from segstudy.study import PredictionsModel, read_study

    package = rerun.package
    predicted = any(isinstance(model, PredictionsModel) for model in rerun.study.models.values())
    if package.is_anonymous and predicted:
        # Summed up with predictions that are read later: the table of checksums tells.
        print(
            "Checksums of data and predictions are compared with the tables at the end.", flush=True
        )
        return
    with contextlib.chdir(rerun.output):
        study = read_study(SETTINGS, dict(rerun.paths) or None)
        here = data_checksums(study, rerun.results, package.is_anonymous)
    wrong = of_data(package.data, here)
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"the data are not those of the package: {', '.join(wrong[:_SHOWN])}{more}; tables would differ, and nothing "
            "more was run. Give the files that were used then (--path, --set)"
        )
    print(f"The data are those of the package: {count(len(here), 'checksum')}.", flush=True)


def _compare(rerun: _Rerun) -> bool:
    """Print which tables are the same, write `comparison.csv`, and return whether all are."""
    from segstudy.reproduce.comparison import SAME, compared, table
    from segstudy.unpack import unpack

    name = f"{rerun.study.name}.zip"
    with tempfile.TemporaryDirectory(prefix="segstudy-") as folder:
        unpack(rerun.output / rerun.results / name, Path(folder))
        found = compared(rerun.package.folder / TABLES, Path(folder) / TABLES)
    write_table(rerun.output / COMPARISON, table(found))
    same = [one for one in found if one.verdict == SAME]
    for one in found:
        if one.verdict != SAME:
            print(_on_a_line(one.sentence))
    tables = len({one.table for one in found})
    print(
        f"{len(same)} of {count(tables, 'table')} are the same to the byte ({rerun.output / COMPARISON})."
    )
    return len(same) == tables
