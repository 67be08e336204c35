"""A preview in words, at most 25 lines, and as JSON."""

import math
import shlex
import textwrap
from collections import Counter

from segstudy.follow.preview import CERTAIN, LIKELY, Preview
from segstudy.follow.times import ALIKE, BEFORE, SCALED, SIZES, about
from segstudy.jobs.targets import STAGES

MOST_REASON_LINES = 10
WIDTH = 100


def size(count: float) -> str:
    """Return bytes as a person says them."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{math.ceil(count / 1000)} KB"


def text(found: Preview) -> str:
    """Return a preview in at most 25 lines."""
    if not found.jobs:
        if found.left:
            stages = Counter(name.partition("_")[0] for name in found.left)
            return (
                f"{found.study}: nothing would run, but results of jobs that did not end are missing: {_by_stage(stages)}\n"
                "  What was made of them before may be of other settings; make them first:\n"
                f"  segstudy run STUDY {shlex.join(stage for stage in STAGES if stages[stage])}\n"
            )
        return f"{found.study}: nothing would run: all is made, of these settings, data and code\n"
    least = "at least " if found.at_least else ""
    stages = Counter(job.stage for job in found.jobs)
    lines = [f"{found.study}: {least}{_jobs(len(found.jobs))} would run", "", "why"]
    reasons = sorted(found.reasons.items(), key=lambda item: -item[1].total())
    shown, why = 0, []
    for reason, counts in reasons:
        more = _wrapped(reason, counts)
        if len(why) + len(more) > MOST_REASON_LINES:
            break
        shown, why = shown + 1, why + more
    lines += why
    if len(reasons) > shown:
        lines.append(f"  and {len(reasons) - shown} other reasons (--json has them all)")
    lines += ["", f"jobs       {least}{_by_stage(stages)}"]
    if found.at_least:
        lines.append(
            "           more is known when the audit and the plans have run again; lists of files that"
        )
        lines.append("           then are as they were drop out")
    for word, label, says in RESTORED:
        counts = Counter(job.stage for job in found.jobs if job.restored == word)
        if counts:
            lines.append(f"{label:<11}{_by_stage(counts)}: {says}")
    seconds = sum(job.estimate.seconds for job in found.jobs)
    lines.append(
        f"time       {least}about {about(seconds)} one after another, {about(found.longest_s)} at best in parallel"
    )
    lines.append(f"           told by {_told(found)}")
    hours = gpu_hours(found)
    lines.append(f"GPU hours  {least}about {hours:.2g}" if hours else "GPU hours  none")
    lines.append(
        f"disk       {least}about {size(sum(job.estimate.bytes for job in found.jobs))} written, "
        "old results of these jobs included"
    )
    lines.append(f"untouched  {untouched(stages, at_least=found.at_least)}")
    return "\n".join(lines) + "\n"


RESTORED = (
    (CERTAIN, "restored", "taken from finished work, not made again"),
    (LIKELY, "perhaps", "taken from finished work, where what they read comes out as it was"),
)


def gpu_hours(found: Preview) -> float:
    """Return the GPU hours of jobs that ask for a GPU, and are not taken from finished work for certain."""
    jobs = [job for job in found.jobs if job.restored != CERTAIN]
    return sum(job.estimate.seconds * job.gpus for job in jobs) / 3600


def untouched(stages: Counter, *, at_least: bool) -> str:
    """Return the stages of which nothing would run; before the audit, that nothing is known to."""
    still = [stage for stage in STAGES if not stages[stage]]
    if not still:
        return "nothing"
    said = ", ".join(WORDS.get(stage, stage) for stage in still)
    return f"no {said}" + (" (so far as is known)" if at_least else "")


WORDS = {
    "preprocess": "preprocessing",
    "train": "training",
    "infer": "prediction",
    "publish": "figures or report",
}


def as_json(found: Preview) -> dict:
    """Return a preview as plain values."""
    return {
        "study": found.study,
        "at_least": found.at_least,
        "jobs": [
            {
                "job": job.name,
                "stage": job.stage,
                "why": list(job.why),
                "seconds": round(job.estimate.seconds, 1),
                "bytes": round(job.estimate.bytes),
                "told_by": job.estimate.told_by,
                "gpus": job.gpus,
                "restored": job.restored,
            }
            for job in found.jobs
        ],
        "left": list(found.left),
        "reasons": {reason: dict(counts) for reason, counts in found.reasons.items()},
        "seconds": round(sum(job.estimate.seconds for job in found.jobs), 1),
        "longest_chain_s": round(found.longest_s, 1),
        "gpu_hours": round(gpu_hours(found), 3),
        "bytes": round(sum(job.estimate.bytes for job in found.jobs)),
    }


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _by_stage(counts: Counter) -> str:
    return ", ".join(f"{stage} {counts[stage]}" for stage in STAGES if counts[stage])


def _told(found: Preview) -> str:
    counts = Counter(job.estimate.told_by for job in found.jobs)
    names = (BEFORE, BEFORE + SCALED, ALIKE, ALIKE + SCALED, SIZES)
    parts = [f"{what} ({counts[what]})" for what in names if counts[what]]
    rough = "; those by sizes may be wrong by a factor of ten" if counts[SIZES] else ""
    return ", ".join(parts) + rough


def _wrapped(reason: str, counts: Counter) -> list[str]:
    """Return a reason and its counts as lines, of which none ends between a stage and its number."""
    whole = f"  {reason}: {_by_stage(counts).replace(' ', UNBROKEN).replace(f',{UNBROKEN}', ', ')}"
    lines = textwrap.wrap(whole, WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
    return [line.replace(UNBROKEN, " ") for line in lines]


UNBROKEN = "\N{NO-BREAK SPACE}"
