"""All that is looked at on a machine, and what is said of it."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from segstudy.doctor import checks, facts
from segstudy.doctor.checks import NOTE, Finding


def findings(results: Path, profile: str | None = None) -> Iterator[Finding]:
    """Yield what each check says, in the order in which it is best read.

    Parameters
    ----------
    results
        The folder of all results, which need not exist.
    profile
        The SLURM profile that runs are to use, where one was asked for.
    """
    # Several checks judge the same facts.
    installed, probe, gpus = cache(facts.installed), cache(facts.probe), cache(facts.visible_gpus)
    disk = cache(lambda: facts.place(results))
    yield from (
        _found("python", lambda: checks.check_python(installed())),
        _found("packages", lambda: checks.check_packages(installed())),
    )
    for extra in checks.FOR:
        yield _found(f"extra {extra}", lambda extra=extra: checks.check_extra(installed(), extra))
    for name, check in {
        "libraries": lambda: checks.check_imports(probe()),
        "gpus": lambda: checks.check_gpus(gpus()),
        "cuda": lambda: checks.check_cuda(gpus(), probe()),
        "cores": lambda: checks.check_cores(facts.cores()),
        "memory": lambda: checks.check_memory(facts.memory()),
        "programs": lambda: checks.check_programs(facts.programs()),
        "shared memory": lambda: checks.check_shared(facts.shared_memory()),
        "encoding": lambda: checks.check_encoding(facts.encoding()),
        "results": lambda: checks.check_disk(disk()),
        "file locks": lambda: checks.check_locks(disk()),
        "working dir": lambda: checks.check_workplace(facts.workplace(Path())),
        "caches": lambda: checks.check_caches(facts.caches()),
        "own caches": lambda: checks.check_own_caches(facts.own_caches(os.environ)),
        "temporary": lambda: checks.check_temporary(facts.temporary()),
        "slurm": lambda: checks.check_slurm(facts.slurm(profile)),
    }.items():
        yield _found(name, check)


def _found(name: str, check: Callable[[], Finding]) -> Finding:
    """Return what a check says; of facts that can't be had on an odd machine, that this is so."""
    try:
        return check()
    except Exception as error:  # whatever an odd system answers, the other checks go on
        words = " ".join(str(error).split())
        return Finding(name, NOTE, f"can't be told here ({type(error).__name__}: {words})")
