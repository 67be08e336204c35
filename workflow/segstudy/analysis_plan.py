"""The plan of an analysis, on record with its date: margin, level, primary endpoint, subgroups, and whether results were there.

`results/<study>/analysis_plan.json` gets an entry whenever a run starts under another plan than the last one.
No rule declares it, so that a rerun leaves it alone. It is a record and no proof: who runs a study can
remove it; what has to convince others is registered with others.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.files import read_json, write_json
from segstudy.jobs.results import ResultPaths
from segstudy.study import Statistics


@dataclass(frozen=True)
class Standing:
    """When the plan of a study was set.

    Attributes
    ----------
    recorded
        Date and time (UTC) at which it was first on record; empty where it is not.
    before_results
        Whether no metric existed then.
    later_plans
        Other plans that were on record since.
    """

    recorded: str = ""
    before_results: bool = False
    later_plans: int = 0

    @property
    def sentence(self) -> str:
        """Say when margin, level and primary endpoint were set."""
        if not self.recorded:
            return "Set after results: margin, level and primary endpoint are not on record."
        if not self.before_results:
            return (
                f"Set after results: margin, level and primary endpoint were recorded on {self.recorded[:10]}, "
                "when metrics existed."
            )
        since = "; another plan stood in between" if self.later_plans else ""
        return (
            f"Margin, level and primary endpoint were recorded on {self.recorded[:10]}, before any metric "
            f"existed{since}."
        )


def record(results: Path | str, settings: Statistics, now: datetime | None = None) -> None:
    """Add the plan of a study to its record, unless it is the last one there.

    Parameters
    ----------
    results
        `results/<study>`.
    settings
        Settings of the statistics; without margin, primary endpoint and subgroups nothing is recorded.
    now
        Date and time; None: the clock's.
    """
    if not (settings.is_planned or settings.subgroups):
        return
    path = Path(ResultPaths(results).analysis_plan)
    entries = _entries(path)
    digest, subgroups = _digest(settings), _subgroups(settings)
    if entries and (entries[-1]["digest"], entries[-1].get("subgroups", {})) == (digest, subgroups):
        return
    entry = {
        "recorded": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "digest": digest,
        "before_results": not any(Path(results, "metrics").rglob("*.csv")),
        **_plan(settings),
        **({"subgroups": subgroups} if subgroups else {}),
    }
    write_json(path, [*entries, entry])


def standing(results: Path | str, settings: Statistics) -> Standing:
    """Tell when the plan of a study was set, by its record."""
    entries, digest = _entries(Path(ResultPaths(results).analysis_plan)), _digest(settings)
    for place, entry in enumerate(entries):
        if entry["digest"] == digest:
            others = sum(later["digest"] != digest for later in entries[place:])
            return Standing(entry["recorded"], entry["before_results"], others)
    return Standing()


def about_subgroups(results: Path | str, settings: Statistics) -> str:
    """Say when the subgroups of a study were named: before any metric existed, or afterwards, which makes them exploratory."""
    entries = _entries(Path(ResultPaths(results).analysis_plan))
    named = [entry for entry in entries if entry.get("subgroups", {}) == _subgroups(settings)]
    if not named:
        return "Exploratory: that these subgroups were named before there were results is not on record."
    day = named[0]["recorded"][:10]
    if not named[0]["before_results"]:
        return f"Exploratory (set after results): the subgroups were recorded on {day}, when metrics existed."
    return f"The subgroups were recorded on {day}, before any metric existed."


def _subgroups(settings: Statistics) -> dict[str, Any]:
    return settings.model_dump(mode="json", include={"subgroups"})["subgroups"]


def _plan(settings: Statistics) -> dict[str, Any]:
    return settings.model_dump(mode="json", include={"alpha", "margin", "primary"})


def _digest(settings: Statistics) -> str:
    text = json.dumps(_plan(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entries(path: Path) -> list[dict]:
    """Return the entries of a record, oldest first."""
    if not path.is_file():
        return []
    entries = read_json(path)
    needed = {"recorded", "digest", "before_results"}
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and needed <= entry.keys() for entry in entries
    ):
        raise InputError(
            f"{path}: damaged record of margin, level and primary endpoint; expected a list of entries with "
            f"{', '.join(sorted(needed))}. Remove it, and the plan is recorded anew, as set after results"
        )
    return entries
