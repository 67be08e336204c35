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
from segstudy.publish.methods import methods
from segstudy.publish.model_cards import tested_as
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


def made_elsewhere(results: Results, *names: str, **further) -> Results:
    """The same results, of models that are label maps of others."""
    content = results.study.model_dump(exclude_defaults=True)
    for name in names:
        content["models"][name] = {
            "network": "predictions",
            "trainer": "predictions",
            "files": "there/{case}.nii.gz",
        }
    return Results(Study.model_validate({**content, **further}), results.root)


def by_number(results: Results, checklist) -> dict:
    return {one.item.number: one for one in answered(results, checklist)}


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
            assert not [name for name in one.to_fill if name.startswith("reporting.")], one
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
    assert all(row["subject"] == row["case"] for row in rows)
    assert FACTS["included"].tell(plain) == (
        f"thorax (cross-validated): {len(rows)} cases, each taken for a subject of its own, since no subject is "
        f"named apart from the case; {len(refused)} refused by the audit of files."
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


OF_MODELS = {
    "claim": ("1", "9", "20", "22", "25", "26", "27", "32"),
    "ridge": ("M-12", "M-13", "M-15", "M-17", "M-18", "M-19", "M-20", "M-23", "R-7"),
}
"""Items on how models came about."""


@pytest.mark.parametrize("elsewhere", [("enet", "unet_3d"), ("unet_3d",)])
def test_how_models_of_others_came_about_is_left_to_the_authors(plain, elsewhere):
    """Nothing is on record of it, so that no such item is answered in full."""
    results = made_elsewhere(plain, *elsewhere)
    for checklist in (CLAIM, RIDGE):
        found = by_number(results, checklist)
        for number in OF_MODELS[checklist.name]:
            told = " ".join(found[number].to_fill)
            assert all(name in told for name in elsewhere), found[number]
            assert "enet" in elsewhere or "enet" not in told
            assert "not known here" not in found["20" if checklist is CLAIM else "M-12"].answer
            trained = by_number(plain, checklist)[number]
            assert not any(name in told for told in trained.to_fill for name in plain.study.models)


def test_what_is_said_of_models_trained_here_is_not_said_of_others(scenario):
    two = scenario("two_sites")
    results = made_elsewhere(two, "unet", statistics={"metrics": ["dice"]})
    for name in ("internal_test", "separate_test", "disjointness", "ensembling"):
        told = FACTS[name].tell(results)
        assert "enet" in told and " unet" not in told, told
    assert "no model was trained" not in FACTS["separate_test"].tell(results)
    assert FACTS["separate_test"].lacks(results) == "what unet was trained on"
    assert "What unet was trained on" not in FACTS["disjointness"].tell(two)
    assert FACTS["separate_test"].tell(made_elsewhere(two, "unet", "enet", statistics={})) == ""


def test_metrics_without_a_reason_are_named(plain):
    assert by_number(plain, METRICS_RELOADED)["MR-16"].to_fill == (
        "why Dice, HD95 (mm) and NSD at 2 mm",
    )
    content = plain.study.model_dump(exclude_defaults=True)
    reasons = {"dice": "overlap", "hd95_mm": "outliers", "nsd": "borders"}
    for given, left in ((("dice",), 1), (tuple(reasons), 0)):
        content["metrics"] = {"reasons": {name: reasons[name] for name in given}}
        told = Results(Study.model_validate(content), plain.root)
        for checklist, number in ((METRICS_RELOADED, "MR-16"), (CLAIM, "28"), (RIDGE, "M-21")):
            open_to = by_number(told, checklist)[number].to_fill
            assert len(open_to) == left and "Dice" not in " ".join(open_to)


def test_cases_without_subjects_are_not_called_subjects(plain, tmp_path):
    """Two cases of one person may stand on both sides of a split where the table names no persons."""
    whether = "whether cases of thorax share a subject"
    items_on_it = (
        (CLAIM, "8"), (CLAIM, "20"), (CLAIM, "32"), (CLAIM, "35"),
        (RIDGE, "M-12"), (RIDGE, "R-1"), (METRICS_RELOADED, "MR-11"),
    )  # fmt: skip
    named = builder.with_subjects(plain, tmp_path / "named", 2)
    for checklist, number in items_on_it:
        one = by_number(plain, checklist)[number]
        assert any(whether in text for text in one.to_fill), one
        assert "By subject" not in one.answer and "its subject" not in one.answer
        assert not re.search(r"\d subjects?\b", one.answer), one
        other = by_number(named, checklist)[number]
        assert not any(whether in text for text in other.to_fill), other
    assert "5 cases of 3 subjects" in FACTS["included"].tell(named)
    assert FACTS["dependence"].tell(named).startswith("2 subjects have several cases.")
    assert "By subject" in FACTS["disjointness"].tell(named)
    sentence = "each case was taken for a subject of its own"
    assert sentence in methods(plain)[0][1] and sentence not in methods(named)[0][1]


def test_missing_predictions_are_no_empty_ones(plain):
    """A prediction that is not there has an infinite distance too."""
    results = Results(plain.study, plain.root)
    table = plain.metrics.copy()
    empty = int(((table["metric"] == "hd95_mm") & (table["status"] == "pred_empty")).sum())
    told = FACTS["empty_predictions"].tell(results)
    lost = table["metric"].eq("hd95_mm") & table["case"].eq("case_003")
    table.loc[lost, ["status", "value"]] = ["missing_file", float("inf")]
    results.metrics = table
    assert empty == 1 and "(1 such value of HD95)" in told
    assert FACTS["empty_predictions"].tell(results) == told


def test_a_split_that_leaks_is_not_called_disjoint(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["splits"] = {**content.get("splits", {}), "group_by": "case_though_it_leaks"}
    leaky = Results(Study.model_validate(content), plain.root)
    assert "leak" in FACTS["disjointness"].tell(leaky)
    assert "By subject" not in FACTS["disjointness"].tell(leaky)
    assert "leaks" in FACTS["caveats"].tell(leaky)
    assert "not trained on its subject" not in FACTS["internal_test"].tell(leaky)


def with_settings(results: Results, **changed) -> Results:
    content = results.study.model_dump(exclude_defaults=True)
    return Results(Study.model_validate({**content, **changed}), results.root)


def test_a_fixed_split_is_not_called_a_cross_validation(plain):
    fixed = with_settings(plain, splits={"folds": 1})
    for name in ("partitions", "disjointness", "internal_test"):
        told = FACTS[name].tell(fixed)
        assert told and not re.search("cross|fold", told, re.IGNORECASE), told
    assert "fixed split" in FACTS["partitions"].tell(fixed)
    assert tested_as(fixed, "thorax", "enet") == "test cases of a fixed split"
    assert tested_as(plain, "thorax", "enet") == "cross-validation"


def test_what_is_trained_on_alone_is_told(scenario):
    two = scenario("two_sites")
    sites = two.study.model_dump(exclude_defaults=True)["datasets"]
    datasets = {**sites, "thorax": {**sites["thorax"], "role": "train_only"}}
    told = FACTS["partitions"].tell(
        with_settings(two, datasets=datasets, statistics={"metrics": ["dice"]})
    )
    assert "thorax was used for training only. other was used for testing only." in told


def test_an_ensemble_averages_probabilities(plain):
    models = plain.study.model_dump(exclude_defaults=True)["models"]
    models["enet"]["seeds"] = [0, 1]
    both = with_settings(plain, models=models, ensembles={"both": ["enet", "unet_3d"]})
    told = FACTS["ensembling"].tell(both)
    assert "both is an ensemble of" in told
    assert "class probabilities of its 3 networks are averaged." in told
    assert tested_as(both, "thorax", "both") == "cross-validation"


def test_weights_to_start_from_are_not_called_random(plain, tmp_path):
    models = plain.study.model_dump(exclude_defaults=True)["models"]
    models["enet"]["initial_weights"] = str(tmp_path / "before.pt")
    told = FACTS["initialisation"].tell(with_settings(plain, models=models))
    assert told.startswith("unet_3d: at random, by the seeds given. enet was fine-tuned from")


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
