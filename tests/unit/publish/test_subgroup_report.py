"""Subgroups in report, figure, methods and zip, and Table 1 of the cohort."""

from dataclasses import replace
from types import SimpleNamespace

import builder
import numpy as np
import pandas
import pytest
from test_figures import check_texts

from segstudy import analysis_plan, subgroup_words
from segstudy.groups import FEWEST_TESTED
from segstudy.participants import read_participants
from segstudy.publish import cohort, style, subgroups
from segstudy.publish.anonymous import anonymised, numbered
from segstudy.publish.catalogue import figures
from segstudy.publish.checklist_items import items
from segstudy.publish.draw.subgroups import draw
from segstudy.publish.facts import FACTS
from segstudy.publish.leaks import Leaks
from segstudy.publish.methods import methods
from segstudy.publish.results import Results

AGES = [30.0 + 4 * index for index in range(16) if index != 3]


@pytest.fixture(scope="module")
def results(scenario) -> Results:
    return scenario("subgroups")


def test_table_1_counts_subjects_and_says_what_is_missing(results):
    table = cohort.cohort_rows(results).set_index(["variable", "value"])
    assert table.loc[("sex", "F"), ["counted", "n", "percent"]].tolist() == ["subjects", 8, 50.0]
    age = table.loc[("age", "")]
    assert age[["n", "n_missing"]].tolist() == [15, 1]
    assert age[["mean", "sd", "median"]].tolist() == pytest.approx(
        [np.mean(AGES), np.std(AGES, ddof=1), np.median(AGES)]
    )
    volumes = [
        case.voxels["heart"] * np.prod(case.spacing_mm) / 1000 for case in results.cases("thorax")
    ]
    assert table.loc[("volume of heart", ""), "median"] == pytest.approx(np.median(volumes))
    shown = cohort.shown(results)
    rows = {row["name"]: row["cells"][0].text for row in shown["rows"]}
    assert shown["heads"] == ["thorax (cross-validated)"]
    assert rows["Subjects"] == "16"
    assert rows["sex"] == "subjects (%)"
    assert rows["F"] == "8 (50 %)"
    assert rows["age"].endswith("n = 15; 1 missing")


def test_table_1_of_other_columns_and_of_none(results):
    publish = results.study.publish.model_copy(update={"cohort_columns": ("nothing",)})
    statistics = results.study.statistics.model_copy(update={"subgroups": {}})
    study = results.study.model_copy(update={"publish": publish, "statistics": statistics})
    assert cohort.cohort_columns(Results(study, results.root)) == []
    study = study.model_copy(update={"publish": results.study.publish})
    assert cohort.cohort_columns(Results(study, results.root)) == ["sex", "age"]


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("age", ["38", "41", "52", "60"], True),
        ("Age", ["38", "38", "38", ""], True),
        ("weight", ["71.5", "80", "64", "90"], True),
        ("grade", ["1", "2", "3", "2"], False),
        ("age", ["38", "41", "old", "60"], False),
    ],
)
def test_ages_of_a_small_cohort_are_numbers_and_codes_are_none(results, column, cells, expected):
    told = {f"c{place}": {column: cell} for place, cell in enumerate(cells)}
    without = results.study.statistics.model_copy(update={"subgroups": {}})
    study = results.study.model_copy(update={"statistics": without})
    small = SimpleNamespace(study=study, participants=lambda dataset: told)
    assert cohort._is_numeric(small, column) == expected


def test_scans_are_counted_where_a_column_differs_between_them():
    rows = cohort._values("scanner", [("a", "p"), ("a", "q"), ("b", "p"), ("c", "")])
    assert [(row["value"], row["counted"], row["n"]) for row in rows] == [
        ("p", "scans", 2),
        ("q", "scans", 1),
    ]
    assert rows[0]["n_missing"] == 1


def test_the_report_says_when_they_were_named_and_what_is_small(results, tmp_path):
    shown = subgroups.shown(results)
    assert shown["recorded"].startswith("Exploratory")
    assert "site small (2)" in shown["warnings"][0]
    assert len(shown["test_rows"]) == len(results.subgroup_tests)
    assert (
        "of 24 comparisons" in shown["lead"] or "comparisons could not be tested" in shown["lead"]
    )
    analysis_plan.record(tmp_path, results.study.statistics)
    planned = Results(results.study, tmp_path)
    planned.subgroups, planned.subgroup_tests = results.subgroups, results.subgroup_tests
    assert "before any metric existed" in subgroups.shown(planned)["recorded"]
    text = dict(methods(results))["Statistics"]
    assert "age cut at 50, 65" in text
    assert "Exploratory" in text
    assert "Wald-type statistic [[pauly2015]]" in text


def test_the_figure_shows_every_group_with_n_and_marks_those_that_differ(results):
    (figure, *_) = (one for one in figures(results.study) if one.kind == "subgroups")
    tests = results.subgroup_tests.copy()
    own = (tests["metric"] == figure.metric.name) & (tests["model"] == "enet")
    own &= (
        (tests["column"] == "sex")
        & (tests["structure"] == "heart")
        & (tests["comparison"] == "groups")
    )
    assert own.sum() == 1
    tests["significant"] = own
    marked = replace(results)
    marked.subgroup_tests = tests
    with style.paper(results.study.publish.style):
        drawing = draw(marked, figure)
    labels = " ".join(text.get_text() for text in drawing.figure.axes[0].get_yticklabels())
    assert "F (n\u00a0=\u00a08)" in labels.replace("\n", " ")
    filled = [
        line for line in drawing.figure.axes[0].lines
        if line.get_marker() not in ("None", "") and line.get_markerfacecolor() != "white"
    ]  # fmt: skip
    assert len(filled) == 2  # F and M
    expected = results.subgroups[results.subgroups["metric"] == figure.metric.name]
    assert drawing.table["n_subjects"].tolist() == expected["n_subjects"].tolist()
    check_texts(results, {"subgroups"})


def test_the_figure_of_a_metric_that_was_not_tested_says_so(results):
    """Open markers would else stand for differences that were looked for and not found."""
    told = {}
    for figure in figures(results.study):
        if figure.kind == "subgroups":
            with style.paper(results.study.publish.style):
                told[figure.metric.name] = draw(results, figure).caption
    tested = set(results.study.statistics.metrics)
    assert set(told) > tested
    for name, caption in told.items():
        assert ("Filled" in caption) == (name in tested), name
        assert ("was tested; all markers are open" in caption) == (name not in tested)


def test_sentences_write_numbers_as_the_report_does(results):
    row = results.subgroup_tests[results.subgroup_tests["group_a"].ne("")].iloc[0].to_dict()
    row |= {
        "estimate": -0.25,
        "ci_low": -0.5,
        "ci_high": -0.01,
        "p": 2e-5,
        "p_adjusted": 4.8e-4,
        "estimate_name": "mean_difference",
        "unit": "",
        "test": "relabel_mean",
        "n_family": 24,
    }
    text = subgroup_words.sentence(row, 0.05, "Dice")
    assert "mean difference −0.25 (95 % CI [−0.5, −0.01])" in text
    assert "p < 0.001, adjusted < 0.001 (24 tests)" in text


def test_the_characteristics_of_the_cohort_are_those_of_table_1(results, plain):
    told = FACTS["characteristics"].tell(results)
    assert told == "Table 1 describes the subjects of each dataset by sex, age, scanner and site."
    assert FACTS["characteristics"].tell(plain) == ""
    for checklist, number in (("claim", "36"), ("ridge", "R-2")):
        (names,) = (item.names for item in items(checklist) if item.number == number)
        assert "characteristics" in names and "subgroups" not in names


def test_without_subgroups_nothing_is_shown():
    study = builder.study()
    assert not any(figure.kind == "subgroups" for figure in figures(study))
    assert subgroups.shown(Results(study, "nowhere"))["lead"] == ""


def test_no_small_group_is_published_without_names(results, tmp_path):
    names = numbered(results)
    told = anonymised(results, names, Leaks([], [], [], [], [], []), tmp_path)
    assert set(results.subgroups["column"]) == {"sex", "age", "scanner", "site"}
    small = results.subgroups.groupby("column")["n_subjects"].agg(lambda sizes: sizes.min())
    kept = set(small[small >= FEWEST_TESTED].index)
    assert "site" not in kept
    for table in (told.subgroups, told.subgroup_tests):
        assert set(table["column"]) == kept
    rows = cohort.cohort_rows(told, anonymous=True)
    assert rows[rows["variable"] == "site"]["remark"].tolist() == [cohort.WITHHELD]
    assert pandas.isna(rows[rows["variable"] == "site"]["n"]).all()
    new = read_participants(tmp_path / "download/thorax/participants.tsv")
    assert {row["case"] for _, row in new.rows} == {
        names["cases"][case.case] for case in results.cases("thorax")
    }
    assert any("site of thorax" in text for text in subgroups.shown(told, True)["warnings"])


def test_a_study_needs_a_table_for_its_subgroups():
    with pytest.raises(
        ValueError, match=r"no tested dataset has a table of subjects.*datasets\.d\.participants"
    ):
        _study({"layout": "msd", "path": "nowhere"})
    assert _study({"layout": "msd", "path": "nowhere"}, participants="people.csv")
    assert _study({"layout": "bids", "path": "nowhere"})


def _study(source, **further):
    dataset = {"source": source, "modality": "MR", "structures": {"heart": 1}, **further}
    study = builder.study().model_dump()
    return type(builder.study()).model_validate(
        {
            "name": "s",
            "datasets": {"d": dataset},
            "models": study["models"],
            "statistics": {"subgroups": ["sex"]},
        }
    )
