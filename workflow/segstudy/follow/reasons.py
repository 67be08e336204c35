"""Why a job would run, in the study's words: what it was asked for when it last ran, against what it is asked for now."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from segstudy.errors import InputError
from segstudy.files import parse_json
from segstudy.follow.record import stage_of
from segstudy.plugins import label_and_code
from segstudy.study import (
    ExternalSettings,
    FitSettings,
    MeasureSettings,
    PredictionSettings,
    ResampleSettings,
    SplitSettings,
    Statistics,
    Study,
    TissueSettings,
    TrainSettings,
    from_json,
)
from segstudy.study.quick import shortened

Path = tuple[str, ...]
LEFT_OUT = object()
MOST_NAMED = 3
"""Cases that a reason names; of more it says how many."""
NOT_DEALT = "not dealt"
"""In place of the fold of a case that none was dealt to."""

TYPES: dict[str, type] = {
    "preprocess_split": SplitSettings,
    "preprocess_plan": FitSettings,
    "preprocess_resample": ResampleSettings,
    "preprocess_tissues": TissueSettings,
    "train_fit": TrainSettings,
    "train_synth": TrainSettings,
    "train_plugin": TrainSettings,
    "infer_external": ExternalSettings,
    "infer_predictions": PredictionSettings,
    "metrics_measure": MeasureSettings,
    "statistics": Statistics,
    "publish_figures": Study,
    "publish_viewer": Study,
    "publish_rating": Study,
    "publish_report": Study,
}
"""What the settings of a rule are, to name a default where a key was left out."""

KEYS = {"--cases-per-job": "cases_per_job"}
"""Options beside the settings that are keys of a dataset."""


# --- settings -----------------------------------------------------------------------------------


def changed(old: Any, new: Any, at: Path = ()) -> list[tuple[Path, Any, Any]]:
    """Return what differs between two JSON values: where, what it was and what it is; `LEFT_OUT` where it is not."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        pairs = ((key, old.get(key, LEFT_OUT), new.get(key, LEFT_OUT)) for key in keys)
        return [found for key, was, now in pairs for found in changed(was, now, (*at, key))]
    return [] if old == new else [(at, old, new)]


def place_in_study(job: Mapping, path: Path) -> Path:
    """Return where a setting of a job stands in the study file. path: where it stands in the job's settings."""
    rule, w = job["rule"], job["wildcards"]
    head, rest = path[0], path[1:]
    if stage_of(job) == "publish":
        return path
    if stage_of(job) == "statistics":
        return ("statistics", *path)
    if rule == "infer_predict":
        return ("models", w["model"], "infer", *path)
    if head == "model":
        return ("models", w["model"], *rest)
    if head == "plan":
        return ("preprocess", w["plan"], *rest)
    if head == "dataset":
        return ("datasets", w["dataset"], *rest)
    if rule == "metrics_measure" and head == "metrics":
        return path
    if rule == "download_list" or rule == "download_fetch":
        return ("datasets", w["dataset"], "source", *path)
    if rule == "preprocess_split" and head == "roles":
        return ("datasets", rest[0], "role") if rest else ("datasets", "role")
    if rule == "preprocess_split" or "dataset" not in w:
        return path
    return ("datasets", w["dataset"], *path)


def sentence(path: Path, old: Any, new: Any) -> str:
    """Return a change of the study in words, e.g. `metrics: nsd_tolerance_mm 2 -> 3`."""
    whole = {"models": "model", "datasets": "dataset", "preprocess": "plan"}
    if len(path) == 2 and path[0] in whole and LEFT_OUT in (old, new):
        kind = whole[path[0]]
        return f"new {kind} {path[1]}" if old is LEFT_OUT else f"{kind} {path[1]} removed"
    depth = min(len(path) - 1, 2 if path[0] in whole else 1)
    place, key = ".".join(path[:depth]) or "study", ".".join(path[depth:])
    return f"{place}: {key} {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    if value is LEFT_OUT:
        return "(left out)"
    if isinstance(value, list) and len(value) == 1:
        return _shown(value[0])
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def settings_changed(
    old: Mapping, new: Mapping, is_quick: bool | None = None, *, follows_quick: bool = False
) -> list[str]:
    """Return what differs between the settings of a job then and now.

    Parameters
    ----------
    old, new
        The job, as the record has it.
    is_quick
        Whether the study is `quick` now; None does not look for what that changes.
    follows_quick
        Whether a job before this one is changed by that.
    """
    found = []
    for option in ("--settings", "--external", "--predictions"):
        was, now = (job["options"].get(option, "{}") for job in (old, new))
        if was != now:
            pair = [_settings(new["rule"], text) for text in (was, now)]
            if None in pair:
                pair = [_plain(was), _plain(now)]
            by_quick = _by_quick(new["rule"], was, now, is_quick)
            # One setting alone may be the user's own.
            if len(by_quick) > (0 if follows_quick else 1):
                found.append(QUICK[is_quick])
            else:
                by_quick = set()
            for path, before, after in changed(*pair):
                if path in by_quick:
                    continue
                found.append(sentence(place_in_study(new, path), before, after) if path else "")
    for option, key in KEYS.items():
        was, now = (job["options"].get(option) for job in (old, new))
        if was != now:
            where = ("datasets", new["wildcards"].get("dataset", ""), key)
            found.append(sentence(where, _plain(was), _plain(now)))
    return [text for text in found if text]


QUICK = {True: "study: quick false -> true", False: "study: quick true -> false"}


def _by_quick(rule: str, was: str, now: str, is_quick: bool | None) -> set[Path]:
    """Return the settings that differ as `quick: true` has them differ. was, now: settings as JSON."""
    if is_quick is None:
        return set()
    short, whole = (now, was) if is_quick else (was, now)
    brief = json.dumps(_shortened(rule, _plain(whole)))
    if rule == "infer_predict":
        forms = [_plain(text) for text in (short, whole, brief)]
    else:
        forms = [_settings(rule, text) for text in (short, whole, brief)]
    if None in forms:
        return set()
    differ, still = ({path for path, _, _ in changed(forms[0], form)} for form in forms[1:])
    return differ - still


def _shortened(rule: str, settings: Any) -> Any:
    """Return the settings of a job as they would be in a quick study."""
    if not isinstance(settings, dict):
        return settings
    if rule == "infer_predict":
        return shortened({"network": "unet", "infer": settings})["infer"]
    if "model" in settings:
        return {**settings, "model": shortened(settings["model"])}
    models = {name: shortened(model) for name, model in settings.get("models", {}).items()}
    return {**settings, "models": models} if models else settings


@cache
def _settings(rule: str, text: str) -> Any:
    """Return settings with their defaults; None for what is not read by this version."""
    kind = TYPES.get(rule)
    if kind is None:
        return None
    try:
        return from_json(kind, text).model_dump(mode="json")
    except InputError:
        return None


def _plain(text: str | None) -> Any:
    if text is None:
        return LEFT_OUT
    try:
        return parse_json(text, "record")
    except InputError:
        return text


# --- data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """Which case a file of the user's belongs to, and as what.

    then, now: absolute path -> (case, `image` or `label`), by the audited tables and by the user's own.
    places: absolute path -> its dataset, and the fold that tests its case: of `cases.Split`, or `NOT_DEALT`.
    """

    then: Mapping[str, tuple[str, str]]
    now: Mapping[str, tuple[str, str]]
    places: Mapping[str, tuple[str, Any]] = field(default_factory=dict)

    def owner(self, path: str) -> tuple[str, str]:
        """Return the case of a file, and as what it has it; both empty where it is of no case."""
        return self.now.get(path) or self.then.get(path) or ("", "")

    def touched(self, old: Mapping[str, list], new: Mapping[str, list]) -> set[str]:
        """Return the absolute paths of files of cases that differ, came or went."""
        if old == new:
            return set()
        old, new = _absolute(old), _absolute(new)
        paths = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        return {path for path in paths if self.owner(path)[0]}

    def changed(self, old: Mapping[str, list], new: Mapping[str, list]) -> list[str]:
        """Return what became of files. old, new: path -> its size and time."""
        old, new = _absolute(old), _absolute(new)
        before, after = self._cases(old), self._cases(new)
        found = [
            *_named("new case", sorted(after - before)),
            *_named("removed case", sorted(before - after)),
        ]
        told, groups = (after ^ before), {}
        for path in sorted(old.keys() | new.keys()):
            if old.get(path) == new.get(path):
                continue
            case, kind = self.owner(path)
            if case in told and case:
                continue
            if not case and told and path in old and path in new:
                continue  # the table itself, which names the cases that came or went
            what = (
                "changed" if path in old and path in new else "added" if path in new else "removed"
            )
            groups.setdefault((kind, what), []).append(case or os.path.basename(path))
        for (kind, what), cases in groups.items():
            found += _each(kind, what, list(dict.fromkeys(cases)))
        return [f"data: {text}" for text in found]

    def _cases(self, paths: Iterable[str]) -> set[str]:
        return {self.owner(path)[0] for path in paths} - {""}


def _named(what: str, cases: list[str]) -> list[str]:
    if len(cases) <= MOST_NAMED:
        return [f"{what} {case}" for case in cases]
    return [f"{len(cases)} {what}s ({', '.join(cases[:MOST_NAMED])}, ...)"]


def _each(kind: str, what: str, cases: list[str]) -> list[str]:
    kind = f" {kind}" if kind else ""
    if len(cases) <= MOST_NAMED:
        return [f"{case}{kind} {what}" for case in cases]
    return [f"{len(cases)}{kind or ' file'}s {what} ({', '.join(cases[:MOST_NAMED])}, ...)"]


def _absolute(files: Mapping[str, list]) -> dict[str, list]:
    return {os.path.abspath(path): state for path, state in files.items()}


# --- plug-ins -----------------------------------------------------------------------------------


def plugins_edited(old: Mapping, new: Mapping) -> list[str]:
    """Return the labels of the plug-ins of a job whose code is another than when it last ran."""
    was, now = (_plugins(job) for job in (old, new))
    return [label for label, code in now.items() if was.get(label, code) != code]


def _plugins(job: Mapping) -> dict[str, str]:
    """Return the label of each plug-in that a job may call -> the digest of its code."""
    w, stage = job["wildcards"], stage_of(job)
    called = {
        "download": (f"datasets.{w.get('dataset')}.",),
        "train": (f"models.{w.get('model')}.",),
        "infer": (f"models.{w.get('model')}.",),
        "metrics": ("metrics.",),
        "statistics": ("metrics.",),
    }.get(stage, ("",))
    if job["rule"] == "publish_figures":
        called = ("metrics.", "publish.")
    told = (text for key, text in job.get("plugins", {}).items() if key.startswith(called))
    return dict(map(label_and_code, told))


# --- a job --------------------------------------------------------------------------------------


def own_reasons(
    old: Mapping,
    new: Mapping,
    files: Files,
    is_quick: bool | None = None,
    *,
    follows_quick: bool = False,
) -> list[str]:
    """Return why a job is not what it was when it last ran; none where only what it reads was made anew.

    Parameters
    ----------
    old, new
        The job as it was last started, and as it would be.
    files
        Whose the user's files are.
    is_quick, follows_quick
        As of `settings_changed`.
    """
    stage = stage_of(new)
    found = settings_changed(old, new, is_quick, follows_quick=follows_quick)
    # The files beside their inputs that figures and report read are pages of this package.
    pages = stage == "publish" and old["files"] != new["files"]
    if old["files"] != new["files"] and not pages:
        found += files.changed(old["files"], new["files"])
    other_code = old.get("code") != new.get("code")
    if pages or other_code:
        edited = plugins_edited(old, new) if other_code else []
        found += [f"code: plug-in {label} changed" for label in edited] or [
            f"code: {stage} changed"
        ]
    elif not found and old.get("defaults") != new.get("defaults"):
        found.append(f"code: defaults of {stage} changed")
    if old.get("named") != new.get("named"):
        found.append(f"models.{new['wildcards']['model']}: a file that its command names changed")
    if not found and old["options"] != new["options"] and old["inputs"] == new["inputs"]:
        names = sorted(
            name
            for name in old["options"].keys() | new["options"].keys()
            if name.startswith("--") and old["options"].get(name) != new["options"].get(name)
        )
        found.append(f"{stage}: other {', '.join(names)}")
    return list(dict.fromkeys(found))
