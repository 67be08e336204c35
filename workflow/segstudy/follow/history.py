"""What the record says of jobs that have run: what each was asked for, how long it took, what is kept."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segstudy.follow.record import name_of

TABLE = "cases.tsv"


@dataclass
class History:
    """What is known of the jobs of a study.

    Attributes
    ----------
    jobs
        Name -> the job as it was last started, with `state` (`started`, `ended`, `failed`).
    ended
        All jobs that have ended, oldest first, with `seconds`, `bytes`, `kept`, and `restored` where a job took
        its results from finished work.
    signatures
        Output -> the signature of the job that made it.
    made
        Name -> the job as it last ended.
    owners
        Absolute path of a file of the user's -> (dataset, case, `image` or `label`), by all audits that ended.
    """

    jobs: dict[str, dict] = field(default_factory=dict)
    ended: list[dict] = field(default_factory=list)
    signatures: dict[str, str] = field(default_factory=dict)
    made: dict[str, dict] = field(default_factory=dict)
    owners: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def kept(self, existing: Iterable[str]) -> dict[str, str]:
        """Return the signatures of jobs whose results are kept -> under which name. existing: names there are."""
        existing = set(existing)
        return {job["signature"]: job["kept"] for job in self.ended if job.get("kept") in existing}


def history(events: Iterable[Mapping[str, Any]]) -> History:
    """Return what a record tells. events: as `record.read_events` gives them."""
    found, kept = History(), set()
    running: dict[tuple, dict] = {}
    for event in events:
        # Numbers of jobs are those of one process.
        what, key = event["event"], (event.get("by"), event.get("id"))
        if what == "run":
            running = {other: job for other, job in running.items() if other[0] != key[0]}
        elif what == "start":
            job = {**event, "state": "started", "name": name_of(event)}
            running[key] = found.jobs[job["name"]] = job
            # Snakemake deletes what a job is to make before it starts.
            for path in job["output"]:
                found.signatures.pop(path, None)
        elif what == "fail" and key in running:
            running[key]["state"] = "failed"
        elif what == "end" and key in running:
            job = running[key]
            job |= {key: event.get(key) for key in ("seconds", "bytes", "kept")}
            job |= {"state": "ended", "ended": event["time"], "restored": job["kept"] in kept}
            job["files"] = {**job["files"], **event.get("files", {})}
            dataset = job["wildcards"].get("dataset", "")
            found.owners |= {path: (dataset, *own) for path, own in event.get("owners", {}).items()}
            job["signature"] = signature(job, found.signatures)
            found.signatures |= dict.fromkeys(job["output"], job["signature"])
            found.ended.append(dict(job))
            found.made[job["name"]] = found.ended[-1]
            if job["kept"]:
                kept.add(job["kept"])
    return found


def signature(job: Mapping, signatures: Mapping[str, str]) -> str:
    """Return a digest of all that decides what a job makes: its settings, code and files, and of what it reads, the same.

    signatures: output -> the signature of the job that made it. Case tables are left out but for the
    split, as other jobs read their own cases' rows alone, which their other inputs tell of.
    """
    whole = job["rule"] == "preprocess_split"
    read = [path for path in job["inputs"] if whole or not path.endswith(f"/{TABLE}")]
    parts = (
        {key: value for key, value in job["options"].items() if key != "--finished"},
        *(job.get(name, "") for name in ("code", "defaults", "named")),
        job["files"],
        [(path, signatures.get(path, "")) for path in read],
    )
    text = json.dumps([job["name"], *parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
