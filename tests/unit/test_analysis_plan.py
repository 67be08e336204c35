"""The plan of an analysis on record: before results, after them, changed, and changed back."""

from datetime import UTC, datetime

import pytest

from segstudy import analysis_plan
from segstudy.errors import InputError
from segstudy.study import Statistics

FIRST, SECOND = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
NARROW, WIDE = (Statistics(margin={"dice": margin}) for margin in (0.01, 0.02))


def test_a_plan_that_was_set_before_any_metric_existed(tmp_path):
    analysis_plan.record(tmp_path, NARROW, FIRST)
    content = (tmp_path / "analysis_plan.json").read_bytes()
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/metrics.csv").touch()
    analysis_plan.record(tmp_path, NARROW, SECOND)
    assert (tmp_path / "analysis_plan.json").read_bytes() == content
    assert "on 2026-01-01, before any metric" in analysis_plan.standing(tmp_path, NARROW).sentence


def test_a_plan_that_changed_after_results(tmp_path):
    analysis_plan.record(tmp_path, NARROW, FIRST)
    (tmp_path / "metrics/enet").mkdir(parents=True)
    (tmp_path / "metrics/enet/thorax.csv").touch()
    assert analysis_plan.standing(tmp_path, WIDE).sentence.startswith("Set after results")
    analysis_plan.record(tmp_path, WIDE, SECOND)
    assert "Set after results" in analysis_plan.standing(tmp_path, WIDE).sentence
    assert "another plan stood in between" in analysis_plan.standing(tmp_path, NARROW).sentence


def test_without_a_plan_nothing_is_recorded(tmp_path):
    analysis_plan.record(tmp_path, Statistics())
    assert not list(tmp_path.iterdir())


def test_subgroups_that_are_named_later_are_exploratory_and_leave_the_margin_planned(tmp_path):
    analysis_plan.record(tmp_path, NARROW, FIRST)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/metrics.csv").touch()
    later = Statistics(margin={"dice": 0.01}, subgroups=["sex"])
    assert analysis_plan.about_subgroups(tmp_path, later).startswith("Exploratory: that")
    analysis_plan.record(tmp_path, later, SECOND)
    assert "Exploratory (set after results)" in analysis_plan.about_subgroups(tmp_path, later)
    assert "before any metric existed." in analysis_plan.standing(tmp_path, later).sentence


def test_subgroups_that_are_named_before_any_metric_existed(tmp_path):
    planned = Statistics(subgroups={"age": [40, 65]})
    analysis_plan.record(tmp_path, planned, FIRST)
    content = (tmp_path / "analysis_plan.json").read_bytes()
    analysis_plan.record(tmp_path, planned, SECOND)
    assert (tmp_path / "analysis_plan.json").read_bytes() == content
    assert "2026-01-01, before any metric" in analysis_plan.about_subgroups(tmp_path, planned)
    other = Statistics(subgroups={"age": [40, 70]})
    assert analysis_plan.about_subgroups(tmp_path, other).startswith("Exploratory")


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "analysis_plan.json").write_text("{}")
    with pytest.raises(InputError, match="damaged record"):
        analysis_plan.standing(tmp_path, NARROW)
