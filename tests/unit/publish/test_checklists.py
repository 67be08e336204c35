"""Checklists: every item is there, its answer is what the tables say, and nothing is claimed that is not on record."""

import csv
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import builder
import pytest

from segstudy.jobs import slices
from segstudy.publish.checklist_items import CHECKLISTS, items
from segstudy.publish.checklists import (
    AUTHOR,
    RECORDED,
    answered,
    as_csv,
    as_html,
    as_markdown,
    stated,
)
from segstudy.publish.facts import FACTS, there
from segstudy.publish.report import render
from segstudy.publish.results import Results
from segstudy.study import Availability, Fingerprint, Reporting, Study
from segstudy.study.reporting import IDENTIFYING, WITHHELD

CLAIM, RIDGE, METRICS_RELOADED = CHECKLISTS
OF_CARDS = {"authors", "contact", "copyright", "licence", "out_of_scope", "conflicts"}
"""Fields that model cards alone repeat."""


def everything_stated() -> dict:
    """A `reporting` block in which every text is a word of its own."""
    texts = {name: f"word{name.replace('_', '')}" for name in Reporting.model_fields}
    texts |= {"authors": ["wordauthors"], "limitations": ["wordlimitations", "wordlimits"]}
    texts["design"] = "prospective"
    texts["availability"] = {name: f"wordof{name}" for name in Availability.model_fields}
    flags = {name: True for name in Fingerprint.model_fields if name != "error_costs"}
    return {**texts, "fingerprint": {**flags, "error_costs": "wordcosts"}}


def with_reporting(results: Results, **stated_there) -> Results:
    content = results.study.model_dump(exclude_defaults=True)
    return Results(Study.model_validate({**content, "reporting": stated_there}), results.root)


def fields() -> Iterator[str]:
    for checklist in CHECKLISTS:
        for item in items(checklist.name):
            yield from (name.removesuffix("?") for name in item.names if "." in name)


def test_claim_has_its_44_items_in_order():
    assert [item.number for item in items("claim")] == [str(number) for number in range(1, 45)]
    for checklist in CHECKLISTS:
        numbers = [item.number for item in items(checklist.name)]
        assert len(set(numbers)) == len(numbers)
        assert all(item.names and item.text and item.section for item in items(checklist.name))


def test_what_answers_an_item_is_known():
    for checklist in CHECKLISTS:
        for item in items(checklist.name):
            for name in item.names:
                if "." not in name:
                    assert name in FACTS, item
    for field in fields():
        assert stated(Reporting(), field) == ""
    used = {field.split(".")[1] for field in fields()}
    assert used | OF_CARDS == set(Reporting.model_fields)
    assert set(IDENTIFYING) <= set(Reporting.model_fields)


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda one: one.name)
def test_without_a_word_of_the_authors_nothing_is_stated(plain, checklist):
    for one in answered(plain, checklist):
        assert one.by in (RECORDED, AUTHOR)
        required = [name for name in one.item.names if name.startswith("reporting.")]
        if all(name.startswith("reporting.") for name in one.item.names):
            assert one.by == AUTHOR and one.answer == "", one
        assert {name for name in required if "?" not in name} <= set(one.to_fill)


def test_words_of_the_authors_stand_where_they_belong(plain):
    results = with_reporting(plain, **everything_stated())
    for checklist in CHECKLISTS:
        for one in answered(results, checklist):
            assert not one.to_fill, one
            for name in one.item.names:
                if name.startswith("reporting."):
                    text = stated(results.study.reporting, name.removesuffix("?"))
                    assert text and text in one.answer
    assert (
        stated(results.study.reporting, "reporting.limitations") == "wordlimitations. wordlimits."
    )
    assert stated(results.study.reporting, "reporting.fingerprint.tubular") == "Yes."


def test_counts_are_those_of_the_files(plain):
    with (plain.root / "download/thorax/cases.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with (plain.root / "download/thorax/problems.tsv").open() as file:
        refused = {
            r["case"] for r in csv.DictReader(file, delimiter="\t") if r["verdict"] == "refused"
        }
    subjects = len({row["subject"] for row in rows})
    assert FACTS["included"].tell(plain) == (
        f"thorax (cross-validated): {len(rows)} cases of {subjects} subjects; {len(refused)} refused by the audit of files."
    )
    with (plain.root / "metrics/metrics.csv").open() as file:
        measured = list(csv.DictReader(file))
    dice = [r for r in measured if r["metric"] == "dice" and r["model"] == "unet_3d"]
    lost = sum(float(row["value"]) == 0 for row in dice)
    assert f"unet_3d {lost} of {len(dice)}" in FACTS["failures"].tell(plain)
    assert lost == 1
    hearts = [float(r["value"]) for r in measured
              if (r["metric"], r["model"], r["structure"]) == ("dice", "enet", "heart")]  # fmt: skip
    assert f"Heart: enet {sum(hearts) / len(hearts):.3f} ± " in FACTS["performance"].tell(plain)


def test_a_distance_that_is_infinite_is_not_left_out_of_the_performance(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["publish"] = {**content.get("publish", {}), "metrics": ["hd95_mm"]}
    told = FACTS["performance"].tell(Results(Study.model_validate(content), plain.root))
    with (plain.root / "statistics/summary.csv").open() as file:
        row = next(
            r for r in csv.DictReader(file)
            if (r["metric"], r["model"], r["structure"]) == ("hd95_mm", "unet_3d", "aorta")
        )  # fmt: skip
    assert row["n_infinite"] == "1" and "median [quartiles]" in told and "mean" not in told
    assert f"unet_3d {float(row['median']):.2f} [{float(row['q1']):.2f}, " in told
    assert "(n = 5, 1 infinite" in told


def test_a_split_that_leaks_is_not_called_disjoint(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["splits"] = {**content.get("splits", {}), "group_by": "case_though_it_leaks"}
    leaky = Results(Study.model_validate(content), plain.root)
    assert "leak" in FACTS["disjointness"].tell(leaky)
    assert "By subject" not in FACTS["disjointness"].tell(leaky)
    assert "leaks" in FACTS["caveats"].tell(leaky)
    assert "not trained on its subject" not in FACTS["internal_test"].tell(leaky)


def test_an_external_test_is_told_only_where_there_is_one(plain, scenario):
    assert FACTS["separate_test"].tell(plain) == ""
    assert "No dataset apart" in FACTS["caveats"].tell(plain)
    two = scenario("two_sites")
    assert FACTS["separate_test"].tell(two).startswith("other: ")
    assert "No dataset apart" not in FACTS["caveats"].tell(two)


class _Links(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.links, self.ids, self.cells, self.open = [], set(), [], []
        self.feed(text)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag not in ("meta", "br", "link", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["plain", "one_model", "two_sites"])
def test_links_lead_to_sections_that_the_report_has(name, plain, scenario, figures_folder):
    results = plain if name == "plain" else scenario(name)
    if name == "plain":
        text = render(plain, figures_folder, figures_folder.parent / "report.html")
        assert {f"#{one}" for one in re.findall(r' id="([\w-]+)"', text)} >= there(plain)
    for checklist in CHECKLISTS:
        page = _Links(as_html(checklist, answered(results, checklist)))
        inside = [link for link in page.links if not link.startswith("https://doi.org/")]
        assert inside
        assert all(link.removeprefix("../../report.html") in there(results) for link in inside)


def test_all_formats_say_the_same_whatever_the_words(plain):
    words = 'Adults | <script>alert("x")</script> & "quotes"'
    results = with_reporting(plain, eligibility=words)
    answers = answered(results, CLAIM)
    rows = list(csv.DictReader(as_csv(answers).splitlines()))
    assert [row["number"] for row in rows] == [str(number) for number in range(1, 45)]
    assert words in rows[7]["answer"]
    page = as_html(CLAIM, answers)
    assert "<script>" not in page and "&lt;script&gt;" in page
    lines = [line for line in as_markdown(CLAIM, answers).splitlines() if re.match(r"\| \d", line)]
    assert len(lines) == 44
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in lines)
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(f"| {row['number']} |")
        for field in filter(None, row["left_to_the_authors"].split("; ")):
            assert field in line.replace("\\", "")


def test_the_block_is_no_setting_of_what_comes_before_the_report(plain):
    """So that a word in it draws no figure and trains nothing anew."""
    told = with_reporting(plain, **everything_stated()).study
    for of_job in (slices.figure_settings, slices.viewer_settings, slices.split_settings):
        assert of_job(told).to_json() == of_job(plain.study).to_json()
    assert slices.train_settings(told, "enet") == slices.train_settings(plain.study, "enet")
    assert told.to_json() != plain.study.to_json()


def test_what_leads_to_people_is_withheld_and_the_rest_stays():
    told = Reporting.model_validate(everything_stated())
    hidden = told.withheld()
    for name in IDENTIFYING:
        value = getattr(hidden, name)
        texts = [value] if isinstance(value, str) else value
        texts = [text for _, text in value] if isinstance(value, Availability) else texts
        assert set(texts) == {WITHHELD}, name
    for name in set(Reporting.model_fields) - set(IDENTIFYING):
        assert getattr(hidden, name) == getattr(told, name)
    assert Reporting().withheld() == Reporting()


def test_an_unknown_key_is_refused_by_its_name():
    with pytest.raises(ValueError, match="ethic"):
        builder.study(reporting={"ethic": "none"})
