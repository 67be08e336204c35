"""The graph of the report knows every rule of the workflow, and shows those that ran."""

import re
from itertools import combinations
from pathlib import Path

import pandas
import pytest

from segstudy.publish.rulegraph import BOX, RULES, graph, rule_of, waits

FILES = Path(__file__).resolve().parents[3] / "workflow/rules"
WILDCARDS = {
    **{"dataset": "site_a", "model": "unet", "fold": "0", "seed": "1", "plan": "default"},
    **{"grid": "3.5x3.5x5", "shard": "000-of-004"},
}


OF_OTHERS = dict.fromkeys(("infer_external", "infer_plugin", "infer_predictions"), "infer_predict")
"""Rules that make the same with other programs, by the same benchmark."""


AS_FIT = ("train_synth", "train_plugin", "train_all_synth", "train_all_plugin")
"""Rules whose benchmark is that of `train_fit` or `train_all_fit`."""


def benchmarked() -> list[tuple[str, str, str]]:
    """(rule, stage, job) of an example of each rule's benchmark, as the rule files name it."""
    found = []
    for file in sorted(FILES.glob("*.smk")):
        parts = re.split(
            r"^ *(?:(?:use rule \w+ as|rule|checkpoint) (\w+)(?: with)?:)",
            file.read_text(),
            flags=re.MULTILINE,
        )
        for rule, body in zip(parts[1::2], parts[2::2], strict=True):
            if rule in AS_FIT:
                continue
            path = re.search(r'PATHS\.benchmark\(\s*"(\w+)", "(.+)"', body)
            if path is None:  # a target
                continue
            job = re.sub(r"\{(\w+)\}", lambda one: WILDCARDS[one[1]], path[2])
            found.append((rule, path[1], job))
    return found


@pytest.mark.parametrize(("rule", "stage", "job"), benchmarked())
def test_each_rule_is_known_by_its_benchmark(rule, stage, job):
    assert rule_of(stage, job) == OF_OTHERS.get(rule, rule)


def test_no_other_rule_is_known():
    assert set(RULES) == {rule for rule, _, _ in benchmarked()} - set(OF_OTHERS)
    assert rule_of("cooking", "soup") is None


def test_a_rule_that_did_not_run_is_passed_over():
    ran = ["download_audit", "preprocess_resample", "train_fit", "infer_predict"]
    assert waits(ran) == {
        "download_audit": [],
        "preprocess_resample": ["download_audit"],
        "train_fit": ["preprocess_resample"],
        "infer_predict": ["train_fit"],
    }


def test_every_job_is_counted_and_no_box_lies_on_another():
    rows = [(stage, job, 2.0, 1.0) for _, stage, job in benchmarked()]
    rows += [("train", f"unet-fold-{fold}-seed-0", 60.0, 1.0) for fold in range(3)]
    found = graph(pandas.DataFrame(rows, columns=["stage", "job", "s", "max_rss"]))
    notes = {node.rule: node.note for node in found.nodes}
    assert set(notes) == set(RULES)
    assert notes["train_fit"] == "4 jobs · 3 min 02 s"
    assert notes["statistics"] == "1 job · 2.0 s"
    for one, other in combinations(found.nodes, 2):
        assert abs(one.x - other.x) >= BOX[0] or abs(one.y - other.y) >= BOX[1]
    assert all(0 <= node.x <= found.width - BOX[0] for node in found.nodes)
    assert all(node.y + BOX[1] <= found.height for node in found.nodes)
    assert len(found.edges) == sum(map(len, waits(list(RULES)).values()))


def test_without_benchmarks_there_is_no_graph():
    assert graph(pandas.DataFrame(columns=["stage", "job", "s", "max_rss"])).nodes == []
