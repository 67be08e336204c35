"""The rules that ran, how many jobs each had, and which had to wait for which; drawn as SVG."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas

from segstudy.log import duration
from segstudy.words import count

RULES: dict[str, tuple[str, tuple[str, ...]]] = {
    # rule: its jobs' benchmarks (the first that matches), rules that it waits for
    "download_fetch": (r".*-fetch", ()),
    "download_list": (r".*-list", ()),
    "download_participants": (r".*-participants", ("download_audit",)),
    "download_audit": (r".*", ("download_fetch", "download_list")),
    "repair_estimate": (r".*-estimate", ("download_audit",)),
    "repair_audit": (r".*-audit", ("preprocess_list_images", "preprocess_list_labels")),
    "repair_apply": (r".*", ("repair_estimate",)),
    "preprocess_folds": (r"folds", ()),
    "preprocess_split": (r"split", ("download_audit", "preprocess_folds")),
    "preprocess_plan": (r"plan-.*", ("preprocess_split", "preprocess_list_fingerprints")),
    "preprocess_fingerprint": (r".*-fingerprint-.*", ("repair_apply",)),
    "preprocess_list_fingerprints": (r".*-list-fingerprints", ("preprocess_fingerprint",)),
    "preprocess_list_images": (r".*-list-images", ("download_audit",)),
    "preprocess_list_labels": (r".*-list-labels", ("repair_apply",)),
    "preprocess_list_tissues": (r".*-tissues-.*-list", ("preprocess_tissues",)),
    "preprocess_tissues": (r".*-tissues-.*", ("repair_apply",)),
    "preprocess_list_arrays": (r".*-list", ("preprocess_resample",)),
    "preprocess_resample": (r".*", ("repair_apply",)),
    "train_all_fit": (
        r".*-all-seed-[^-]*",
        ("preprocess_plan", "preprocess_list_arrays", "preprocess_list_tissues"),
    ),
    "train_fit": (r".*", ("preprocess_plan", "preprocess_list_arrays", "preprocess_list_tissues")),
    "infer_predict": (r".*", ("train_fit", "preprocess_list_images")),
    "metrics_collect": (r"collect", ("metrics_measure",)),
    "metrics_measure": (r".*", ("infer_predict", "preprocess_list_labels")),
    "statistics_quality": (r"quality", ("metrics_collect",)),
    "statistics": (r".*", ("metrics_collect", "download_participants")),
    "review_labels": (r".*-labels", ("preprocess_list_labels",)),
    "review_metrics": (r"metrics", ("metrics_collect",)),
    "review_statistics": (r"statistics", ("review_metrics",)),
    "review_corrections": (r"corrections", ("review_statistics", "statistics", "review_labels")),
    "review_ratings": (r"ratings", ("publish_rating",)),
    "publish_figures": (
        r"figures",
        ("statistics", "statistics_quality", "review_ratings", "review_corrections"),
    ),
    "publish_rating": (r"rating", ("metrics_collect",)),
    "publish_viewer": (r"viewer", ("statistics",)),
    "publish_package": (r"package", ("publish_report",)),
    "publish_report": (
        r".*",
        ("publish_figures", "publish_viewer", "repair_audit", "review_corrections"),
    ),
}
"""Tested against Snakemake's own graph. Other programs' rules count as
`infer_predict` and `train_fit`."""

BOX = (136, 36)  # width and height of a box, px of the SVG
GAP, STEP = 22, 54  # between columns; from row to row


@dataclass(frozen=True)
class Node:
    """A rule that ran.

    Attributes
    ----------
    rule, name
        Its name, and the name without its stage.
    note
        Jobs and time.
    x, y
        Upper left corner of its box, in px of the SVG.
    """

    rule: str
    name: str
    note: str
    x: int
    y: int


@dataclass(frozen=True)
class Graph:
    """The graph of the rules that ran, laid out in px of the SVG."""

    nodes: list[Node]
    edges: list[str]  # `d` of SVG paths
    stages: list[tuple[str, int]]  # name and x of each column
    width: int
    height: int
    box: tuple[int, int] = BOX


def graph(benchmarks: pandas.DataFrame) -> Graph:
    """Lay out the graph of the jobs in `Results.benchmarks`: a column a stage, later rules lower."""
    jobs = benchmarks.assign(
        rule=[rule_of(*row) for row in benchmarks[["stage", "job"]].itertuples(index=False)]
    )
    jobs = jobs.dropna(subset="rule")
    seconds = jobs.groupby("rule")["s"].agg(["count", "sum"])
    ran = [rule for rule in RULES if rule in seconds.index]
    before = waits(ran)
    ordered = _ordered(before)
    stages = list(dict.fromkeys(stage_of(rule) for rule in RULES if rule in before))
    nodes: dict[str, Node] = {}
    rows = dict.fromkeys(stages, 0)
    for rule in ordered:
        stage = stage_of(rule)
        x, y = stages.index(stage) * (BOX[0] + GAP), 20 + rows[stage] * STEP
        rows[stage] += 1
        name = rule.removeprefix(f"{stage}_").replace("_", " ")
        note = f"{count(int(seconds.loc[rule, 'count']), 'job')} · {duration(float(seconds.loc[rule, 'sum']))}"
        nodes[rule] = Node(rule, name, note, x, y)
    edges = [_edge(nodes[first], nodes[rule]) for rule in ordered for first in before[rule]]
    return Graph(
        list(nodes.values()),
        edges,
        [(stage, place * (BOX[0] + GAP)) for place, stage in enumerate(stages)],
        max(1, len(stages) * (BOX[0] + GAP) - GAP),
        20 + max(rows.values(), default=0) * STEP,
    )


def stage_of(rule: str) -> str:
    """Return the stage of a rule, its first word."""
    return rule.partition("_")[0]


def rule_of(stage: str, job: str) -> str | None:
    """Return the rule that a benchmark belongs to; None for a stage that no rule has."""
    for rule, (pattern, _) in RULES.items():
        if stage_of(rule) == stage and re.fullmatch(pattern, job):
            return rule
    return None


def waits(ran: Collection[str]) -> dict[str, list[str]]:
    """Return for each rule that ran the rules that it waited for last.

    Rules that did not run are looked through, and a rule that another of them waited for anyway is
    left out.
    """
    waited_for = {rule: _nearest(RULES[rule][1], ran) for rule in ran}
    return {
        rule: [
            before
            for before in first
            if not any(
                before in _all_before(other, waited_for) for other in first if other != before
            )
        ]
        for rule, first in waited_for.items()
    }


def _nearest(rules: Iterable[str], ran: Collection[str]) -> list[str]:
    parts = [[rule] if rule in ran else _nearest(RULES[rule][1], ran) for rule in rules]
    return list(dict.fromkeys(rule for part in parts for rule in part))


def _all_before(rule: str, before: dict[str, list[str]]) -> set[str]:
    return set(before[rule]).union(*(_all_before(earlier, before) for earlier in before[rule]))


def _ordered(before: dict[str, list[str]]) -> list[str]:
    """Order the rules, each after those that it waits for."""
    done: dict[str, None] = {}

    def visit(rule: str) -> None:
        for earlier in before[rule]:
            visit(earlier)
        done[rule] = None

    for rule in before:
        visit(rule)
    return list(done)


def _edge(first: Node, then: Node) -> str:
    """Draw from the right side of a box to the left of one in a later column, or straight down."""
    width, height = BOX
    if first.x == then.x:
        if then.y - first.y == STEP:
            return f"M{first.x + width // 2} {first.y + height}V{then.y}"
        right = first.x + width
        return f"M{right} {first.y + height // 2}h8V{then.y + height // 2}h-8"  # past what lies between
    left, middle = first.x + width, then.y + height // 2
    return f"M{left} {first.y + height // 2}C{then.x - GAP // 2} {first.y + height // 2} {then.x - GAP // 2} {middle} {then.x} {middle}"
