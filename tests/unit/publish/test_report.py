"""The report: one offline file whose numbers are those of the tables."""

import html
import itertools
import json
import re
from dataclasses import fields
from html.parser import HTMLParser

import builder
import jinja2
import numpy as np
import pandas
import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.files import write_table
from segstudy.publish import methods, provenance, style, tables
from segstudy.publish.catalogue import figures
from segstudy.publish.citations import REFERENCES
from segstudy.publish.draw import comparison, heatmap
from segstudy.publish.drawing import draw_all, restructured
from segstudy.publish.explorer import json_in_page
from segstudy.publish.report import (
    FILES,
    _facts,
    _findings,
    _missed,
    _sentence,
    breakable,
    render,
    write_report,
)
from segstudy.publish.reporting import write_reporting
from segstudy.publish.results import Results
from segstudy.statistics.analysis import analyse
from segstudy.statistics.values import read_values
from segstudy.study import ExternalModel, Reporting
from segstudy.study.style import Shown


@pytest.fixture(scope="module")
def page(plain, figures_folder) -> str:
    return render(plain, figures_folder, figures_folder.parent / "report.html")


class _Page(HTMLParser):
    """Collects tags, and text by element."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_nothing_is_loaded_from_anywhere(page):
    parsed = _Page(page)
    for tag, attributes in parsed.tags:
        for key in ("src", "srcset", "poster", "data", "background"):
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
        if tag in ("image", "use"):
            assert attributes["href"].startswith(("data:", "#"))
        assert tag not in ("link", "iframe", "object", "embed") or attributes.get("rel") == "icon"
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page


def test_a_report_too_large_for_one_file_has_a_folder_beside_it(plain, figures_folder):
    output = figures_folder.parent / "large" / "report.html"
    write_report(plain, figures_folder, output, most_bytes=1000)
    parsed = _Page(output.read_text())
    images = [one["src"] for one in parsed.all("img")]
    assert len(images) == len(list(figures_folder.glob("*.png")))
    assert all((output.parent / source).is_file() for source in images)
    cases = json.loads((figures_folder / "layers.json").read_text())["cases"]["thorax"]
    files = sorted((output.parent / FILES).iterdir())
    assert len(files) == len(cases) == 5
    told = [re.fullmatch(r"slicesArrived\((.*)\);\n", one.read_text())[1] for one in files]
    assert {case: stack for _, case, stack in (json.loads(f"[{one}]") for one in told)} == cases
    assert all(picture not in output.read_text() for picture in cases["case_000"]["images"])

    write_report(plain, figures_folder, output, images=False, most_bytes=1000)
    assert not (output.parent / FILES).exists()  # slices of patients
    assert "slicesArrived(" not in output.read_text()

    write_report(plain, figures_folder, output, most_bytes=1000)
    write_report(plain, figures_folder, output)
    assert "data:image/svg" in output.read_text()
    assert not (output.parent / FILES).exists()


def test_every_inner_link_resolves_and_ids_are_unique(page, figures_folder):
    parsed = _Page(page)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in [*parsed.all("a"), *parsed.all("use")]:
        href = attributes["href"]
        if href.startswith("#"):
            assert href[1:] in ids, href
        elif not href.startswith(("https://", "data:")):
            assert (figures_folder.parent / href).is_file(), href


def test_the_main_table_says_what_the_summary_says(page, plain):
    summary = plain.summary.set_index(["structure", "model", "metric"])
    cells = re.findall(
        r'data-value="([^"]*)" data-structure="(\w+)" data-model="(\w+)" data-metric="(\w+)"'
        r'.*?class="value">([^<]*)<.*?<small>([^<]*)</small>',
        page,
        re.DOTALL,
    )
    assert len(cells) == 2 * 2 * 3
    for value, structure, model, name, text, note in cells:
        row = summary.loc[structure, model, name]
        assert float(value) == row["mean"]
        digits = 2 if name.endswith("_mm") else 3
        assert text == f"{row['mean']:.{digits}f} ± {row['sd']:.{digits}f}"
        assert f"CI {row['ci_low']:.{digits}f}–{row['ci_high']:.{digits}f}" in note
    assert '<span class="flag">1 ∞</span>' in page


def test_the_best_model_is_marked_and_a_missed_structure_counts_against_it(plain):
    table = tables.main_tables(plain)[0]
    names = [what.name for what in table["metrics"]]
    for row in table["rows"]:
        for name, cell in zip(names, row["cells"], strict=True):
            best = tables.best_models(plain, "thorax", row["structure"], name)
            assert cell.best == (row["model"] in best)
    # unet_3d missed the aorta once; by the finite cases alone its distance would be the best.
    rows = plain.summary.query("structure == 'aorta' and metric == 'hd95_mm'").set_index("model")
    assert rows.loc["unet_3d", "mean"] < rows.loc["enet", "mean"]
    assert tables.best_models(plain, "thorax", "aorta", "hd95_mm") == ["enet"]


def test_every_row_of_tests_is_there_with_its_number_and_verdict(page, plain):
    table = tables.test_table(plain)
    assert len(table["rows"]) == len(plain.tests)
    number, verdict = (table["head"].index(name) for name in ("Subjects", "By the test"))
    for cells, (_, row) in zip(table["rows"], plain.tests.iterrows(), strict=True):
        assert cells[number].value == row["n_subjects"] == 5
        # Of five subjects nothing can be told.
        assert cells[verdict].text == "cannot be told"
        assert cells[table["head"].index("p")].exact == (
            "" if np.isnan(row["p"]) else repr(float(row["p"]))
        )


def test_every_metric_has_its_table(plain):
    found = {(one["dataset"], one["metric"].name) for one in tables.metric_tables(plain)}
    assert found == {("thorax", name) for name in plain.summary["metric"].unique()}


def test_no_folder_of_the_machine_and_no_user(page, plain, figures_folder):
    for secret in ("/home/somebody", "/data/private", str(plain.root), str(figures_folder)):
        assert secret not in page
    assert "path: the case table of dataset thorax" in page
    assert "<td>empty label</td><td>image file</td>" in page


def test_it_is_accessible(page):
    parsed = _Page(page)
    assert 'lang="en"' in page
    assert all(attributes.get("alt") is not None for attributes in parsed.all("img"))
    figures = parsed.all("img")
    assert figures
    assert all(len(attributes["alt"]) > 20 for attributes in figures)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    regions = [a for a in parsed.all("div") if a.get("role") == "region"]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)
    assert all(a.get("aria-label") for a in parsed.all("svg") if a.get("role") == "img")


def test_review_cases_come_first(page):
    table = page[page.index('id="verdicts-thorax"') :]
    assert table.index("case_003") < table.index("case_000")


def test_the_same_inputs_give_the_same_report(page, plain, figures_folder):
    again = render(
        Results(plain.study, plain.root), figures_folder, figures_folder.parent / "report.html"
    )
    # Others may be editing the checkout, which provenance rightly tells.
    code = re.compile(r"<dt>Code</dt><dd>.*?</dd>")
    assert code.search(page)
    assert code.sub("", again) == code.sub("", page)


def test_the_methods_text_has_the_settings_numbers(plain):
    text = dict(methods.methods(plain))
    model = plain.study.models["enet"]
    training = text["Networks and training"]
    assert f"{model.epochs} epochs" in training
    assert f"learning rate {model.optimizer.lr:g}" in training
    assert "1,962,532 parameters" in training
    assert "32×32×12 voxels" in training
    assert "All networks were trained" in training
    assert "0.27" in text["Label repair"]
    assert "−26.60°" in text["Label repair"]
    assert "4 cases repaired and 1 case for review" in text["Label repair"]
    assert "1.5 × 1.5 × 3 mm" in text["Preprocessing"]
    assert "5 CT images" in text["Data"]
    assert "on the same 5 subjects" in text["Statistics"]
    assert "max-T" in text["Statistics"]
    assert "NSD at 2 mm" in text["Evaluation"]


def test_the_methods_text_tells_of_nnunet_apart(scenario):
    training = dict(methods.methods(scenario("nnunet")))["Networks and training"]
    assert "unet was trained for 12 epochs on CPU" in training
    own, nnunet = training.split("nnunet is nnU-Net [[isensee2021]]")
    assert "nnunet" not in own
    assert "version 2.8.1; configuration 3d_fullres; 1,962,532 parameters" in nnunet
    assert "12 epochs of 250 steps on CPU, with 2 patches of 32×32×12 voxels" in nnunet
    assert "no training case was held out" in nnunet
    alone = dict(methods.methods(scenario("nnunet_alone")))
    assert alone["Networks and training"].startswith("nnunet is nnU-Net")
    assert "averaged over mirrored images" in alone["Prediction"]


def test_mirroring_that_mixes_up_sides_is_said_loudly(scenario):
    """nnU-Net knows no sides: by default it mirrors none, and what was asked for on purpose is told."""
    found = scenario("nnunet_alone")
    pairs = (("heart", "aorta"),)  # any two will do

    def told(mirror):
        dataset = found.study.datasets["thorax"].model_copy(update={"left_right_pairs": pairs})
        model = found.study.models["nnunet"].model_copy(update={"mirror": mirror})
        changes = {"datasets": {"thorax": dataset}, "models": {"nnunet": model}}
        results = Results(found.study.model_copy(update=changes), found.root)
        return dict(methods.methods(results))["Networks and training"], _sentence(results)

    text, sentence = told("auto")
    assert "Images were not mirrored from right to left, in training and prediction" in text
    assert "MIX" not in sentence
    text, sentence = told("all")
    assert "WARNING: images were mirrored along all axes, from right to left too" in text
    assert "heart and aorta stayed as they were" in text
    assert "nnunet WAS TAUGHT TO MIX UP LEFT AND RIGHT" in sentence


def test_a_first_look_is_said_to_be_one(scenario):
    found = scenario("nnunet_alone")
    for quick in (False, True):
        results = Results(found.study.model_copy(update={"quick": quick}), found.root)
        assert ("FOR A FIRST LOOK ONLY" in _sentence(results)) == quick
        text = " ".join(dict(methods.methods(results)).values())
        assert ("WARNING: this is a first look (quick: true)" in text) == quick


def test_a_model_that_learnt_nothing_is_no_winner(scenario):
    found = scenario("nnunet")
    results = Results(found.study, found.root)
    summary = results.summary.copy()
    assert not any("learnt next to nothing" in text for text in _findings(results))
    worst = (summary["model"] == "nnunet") & (summary["metric"] == "dice")
    summary.loc[worst, "mean"] = 0.01
    results.__dict__["summary"] = summary
    first, *others = _findings(results)
    assert first.startswith("WARNING: nnunet has learnt next to nothing") and "0.010" in first
    assert not any("nnunet in " in text for text in others if text.startswith("Best mean Dice"))

    # Best by distance, and still no winner: neither in tables nor in the figure of means.
    distances = (summary["model"] == "nnunet") & (summary["metric"] == "hd95_mm")
    summary.loc[distances, ["mean", "mean_penalised"]] = 0.001
    summary.loc[distances, "n_infinite"] = 0
    for row in tables.main_tables(results)[0]["rows"]:
        assert [cell.best for cell in row["cells"]] == [row["model"] == "unet"] * len(row["cells"])
    marked = [cells for one in tables.metric_tables(results) for cells in one["rows"]]
    assert {cells[1].text for cells in marked if any(cell.best for cell in cells)} == {"unet"}
    shown = next(one for one in figures(results.study) if one.kind == "heatmap")
    with style.paper():
        drawing = heatmap.draw(results, shown)
    assert "No model that has learnt next to nothing is marked" in drawing.caption
    order = results.look.models
    bold = {
        order[int(text.get_position()[0])]
        for panel in drawing.figure.axes
        for text in panel.texts
        if text.get_fontweight() == "bold"
    }
    assert bold == {"unet"}
    summary.loc[summary["metric"] == "dice", "mean"] = 0.01
    told = _findings(results)
    assert sum("learnt next to nothing" in text for text in told) == 2
    assert not any(text.startswith("Best mean Dice") for text in told)


def test_programs_of_others_are_not_cross_validated(scenario):
    found = scenario("one_model")
    labels = {"heart": 1, "aorta": 2}
    command = {"trainer": "external", "network": "external", "command": "x {image} {output}"}
    program = ExternalModel(**command, labels=labels)
    study = found.study.model_copy(update={"models": {"unet": program}})
    told = _sentence(Results(study, found.root))
    assert told.endswith("as programs or predictions of others, not trained here.")


def test_cases_that_no_fold_tested_are_told_from_those_that_one_did(scenario):
    found = scenario("one_model")
    results = Results(found.study, found.root)
    assert _facts(results)[:2] == [("4", "cases"), ("2", "structures")]
    some = results.metrics[results.metrics["case"].isin(sorted(set(results.metrics["case"]))[:3])]
    results.__dict__["metrics"] = some
    assert _facts(results)[:2] == [("4", "cases"), ("3", "of them tested")]
    assert " CT images of thorax (3 of them tested)" in _sentence(results)
    assert "tested)" not in _sentence(Results(found.study, found.root))


def test_one_model_is_compared_with_none(scenario, tmp_path):
    found = scenario("one_model")
    draw_all(found, tmp_path / "figures")
    write_report(found, tmp_path / "figures", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "against the best model" not in page and "nothing is compared" in page


def test_a_report_before_all_is_done_says_what_is_missing(scenario):
    found = scenario("nnunet_alone")
    missing = ("enet is done in no fold", "results are of fold 1 alone")
    results = Results(found.study.model_copy(update={"partial": missing}), found.root)
    told = "enet is done in no fold; results are of fold 1 alone."
    assert f"NOT ALL IS DONE: {told}" in _sentence(results)
    text = " ".join(dict(methods.methods(results)).values())
    assert f"WARNING: this was written before the study was done: {told}" in text


def test_every_citation_is_known_and_listed(page, plain):
    cited = {
        key for _, text in methods.methods(plain) for key in re.findall(r"\[\[(\w+)\]\]", text)
    }
    assert cited <= set(REFERENCES)
    for key in cited:
        assert f'id="ref-{key}"' in page
    assert not re.search(r"\[\[\w+\]\]", page)


def test_bibtex_names_each_reference_once():
    entries = [found.bibtex for found in REFERENCES.values()]
    assert all(entry.count("{") == entry.count("}") for entry in entries)
    assert len({entry.split("{")[1].split(",")[0] for entry in entries}) == len(REFERENCES)


def test_time_and_memory_add_up_the_benchmarks(plain):
    rows = {row["stage"]: row for row in provenance.run_times(plain.benchmarks())}
    assert list(rows) == ["train", "metrics"]
    assert rows["train"]["seconds"] == 120.5
    assert rows["train"]["longest"] == "1 min 30 s"
    assert rows["train"]["jobs"] == "2"
    assert rows["train"]["memory_mb"] == 512.25


def test_another_site_has_its_own_tables_and_counts_a_case_once(scenario):
    results = scenario("two_sites")
    table = {one["dataset"]: one["rows"] for one in tables.main_tables(results)}
    assert list(table) == ["thorax", "other"]
    # Both folds' models predicted each case of the other site.
    assert len(results.metrics.query("dataset == 'other' and metric == 'dice'")) == 3 * 2 * 2 * 2
    assert {row["n"] for row in table["other"]} == {3}
    assert len(results.values("other", "dice")) == 3 * 2 * 2
    assert "used for testing only" in dict(methods.methods(results))["Data"]


def test_two_sites_are_compared_unpaired_and_said_so(scenario):
    results = scenario("two_sites")
    across = [row for row in tables.test_table(results)["rows"] if "−" in row[0].text]
    assert {row[0].text for row in across} == {"thorax − other"}
    assert {row[4].text for row in across} == {"3 and 3, unpaired"}
    text = dict(methods.methods(results))["Statistics"]
    assert "The results of a model on thorax and other were compared as independent samples" in text
    assert "(3 subjects each)" in text and "Welch's t [[welch1947]]" in text
    assert "within each of 3 families" in text
    # What concerns one dataset never meets a row of two.
    assert (results.tests["dataset"] == results.tests["dataset_b"]).all()


def test_what_is_not_compared_is_no_independent_sample(plain):
    results = Results(plain.study, plain.root)
    tests = plain.all_tests.copy()
    tests.loc[tests.index[0], ["design", "test", "p"]] = ["", "", np.nan]
    results.all_tests = tests
    assert "independent samples" not in dict(methods.methods(results))["Statistics"]
    assert len(tables.test_table(results)["rows"]) == len(tests)


HOSTILE = """</script><x-bad a='1' onload="alert(1)">&amp; "two" <!-- [[no_such_work]] {% endraw %}{{ 7*7 }}"""


class _Told(_Page):
    """What a page shows as text, as browsers read it, and what stands in its scripts."""

    def __init__(self, text: str):
        self.text, self.scripts, self.comments = [], [], []
        super().__init__(text)

    def handle_data(self, data):
        inside = self.tags[-1][0] if self.tags else ""
        (self.scripts if inside == "script" and self.cdata_elem else self.text).append(data)

    def handle_comment(self, data):
        self.comments.append(data)


def test_texts_of_users_are_text_wherever_they_are_shown(plain, figures_folder, page, tmp_path):
    """In title, names, reporting and captions, in report, methods, checklists and cards; no element and no comment comes of them."""
    names = {name: f"{name} {HOSTILE[:60]}" for name in ("heart", "enet")}
    shown = {
        "structures": Shown(names={"heart": names["heart"]}),
        "models": Shown(names={"enet": names["enet"]}),
    }
    told = HOSTILE + "\u2028next"
    publish = plain.study.publish
    study = plain.study.model_copy(
        update={
            "title": told,
            "description": told,
            "reporting": Reporting(eligibility=HOSTILE, intended_use=HOSTILE, contact=HOSTILE),
            "publish": publish.model_copy(update={"style": publish.style.model_copy(update=shown)}),
        }
    )
    results = Results(study, plain.root)
    folder = tmp_path / "figures"
    folder.mkdir()
    for path in figures_folder.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "captions.json").unlink()
    captions = json.loads((figures_folder / "captions.json").read_text())
    captions = {name: one | {"caption": HOSTILE, "alt": HOSTILE} for name, one in captions.items()}
    (folder / "captions.json").write_text(json.dumps(captions))
    rendered, usual = _Told(render(results, folder, tmp_path / "report.html")), _Told(page)
    write_reporting(results, tmp_path / "reporting")
    files = {
        path: _Told(path.read_text()) for path in sorted((tmp_path / "reporting").rglob("*.html"))
    }
    assert len(files) > 3
    for parsed in (rendered, *files.values()):
        assert not parsed.all("x-bad") and parsed.comments == []
        assert not [one for _, attributes in parsed.tags for one in attributes if one == "onload"]
    assert [tag for tag, _ in rendered.tags].count("script") == len(usual.all("script"))
    text = "".join(rendered.text)
    assert text.count(HOSTILE) >= 3 + len(captions) and all(name in text for name in names.values())
    [data] = [json.loads(one) for one in rendered.scripts if one.startswith("{")]
    assert data["structures"]["heart"] == names["heart"]
    assert data["modelNames"]["enet"] == names["enet"]
    [claim] = [parsed for path, parsed in files.items() if path.name == "claim.html"]
    assert HOSTILE in "".join(claim.text)
    # Snakemake takes captions for templates of Jinja.
    assert jinja2.Template(restructured(HOSTILE)).render().replace("\\", "") == HOSTILE


def test_json_in_a_script_neither_ends_it_nor_a_line_of_it():
    told = {HOSTILE: ["\u2028", "\u2029", "<!--", "]]>"]}
    text = json_in_page(told)
    assert json.loads(text) == told
    assert not {"<", "\u2028", "\u2029"} & set(text)


def test_the_commands_with_one_model(scenario, tmp_path, capsys):
    results = scenario("one_model")
    settings = tmp_path / "study.json"
    settings.write_text(results.study.to_json())
    known = ["--settings", f"@{settings}", "--results", str(results.root)]
    report = ["publish", "report", *known, "--figures", str(tmp_path / "figures")]
    report += ["--output", str(tmp_path / "report.html")]
    assert main(report) == 1
    assert "captions.json: no such file" in capsys.readouterr().err
    assert main(["publish", "figures", *known, "--output", str(tmp_path / "figures")]) == 0
    assert main(report) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "There is only one model, so nothing was compared." in text
    assert "Both" in text  # the merged group
    (tmp_path / "figures/training.svg").unlink()
    assert main(report) == 1
    assert "training.svg: no such file" in capsys.readouterr().err


def test_a_repair_from_images_is_told_without_a_right_label(scenario, tmp_path):
    results = scenario("images")
    draw_all(results, tmp_path / "figures")
    text = render(results, tmp_path / "figures", tmp_path / "report.html")
    section = text[text.index('id="repair"') : text.index('id="training"')]
    assert "No right label tells how well the repair went" in section
    assert "IoU of the" not in section.split("<table")[0]
    # Pictures: the case for review, then a repaired one; in three planes each.
    assert section.index("case_003 <span") < section.index("case_000 <span")
    assert section.count('class="shot"') == 6
    methods_text = dict(methods.methods(results))["Label repair"]
    assert "estimated from 5 images together" in methods_text
    assert "best IoU" not in methods_text
    assert "raised the IoU" not in methods_text
    data = text[text.index('id="data"') : text.index('id="repair"')]
    assert "9 voxels in pieces apart" in data
    assert "missing part" in data
    assert "missing_part" not in data


def test_a_missing_table_is_named(plain, figures_folder, tmp_path):
    import shutil

    shutil.copytree(plain.root, tmp_path / "results")
    (tmp_path / "results/statistics/summary.csv").unlink()
    results = Results(plain.study, tmp_path / "results")
    with pytest.raises(InputError, match=r"summary\.csv.*statistics stage"):
        render(results, figures_folder, tmp_path / "report.html")


def test_findings_where_nothing_could_be_tested(scenario):
    results = scenario("one_case")
    assert set(results.tests["test"]) <= {""}
    assert _findings(results)


def test_the_findings_count_what_the_tables_say(plain):
    text = " ".join(_findings(plain))
    for name, title in (("dice", "Dice"), ("hd95_mm", "HD95")):
        best = [
            tables.best_models(plain, "thorax", structure, name) for structure in ("heart", "aorta")
        ]
        for model in ("enet", "unet_3d"):
            leads = sum(model in models for models in best)
            sentence = re.search(rf"Best mean {title}: (.*?) of 2 structures", text)[1]
            assert (f"{model} in {leads}" in sentence) == (leads > 0)
    assert "1 subject has an infinite distance" in text
    assert "(unet_3d 1)" in text


def test_a_subject_with_several_missed_structures_is_counted_once(plain):
    every = [(subject, name) for subject in ("s1", "s2", "s3") for name in ("heart", "aorta")]
    rows = [("enet", *pair) for pair in every] + [("unet_3d", "s2", "aorta")]
    rows += [
        ("unet_3d", "s4", "thorax_as_a_whole")
    ]  # a composite region misses what its parts miss
    rows.append(("enet", "s5", "heart"))  # without a prediction, which another sentence tells
    found = Results(plain.study, plain.root)
    table = pandas.DataFrame(rows, columns=["model", "subject", "structure"])
    found.all_values = table.assign(
        dataset="thorax", metric="hd95_mm", value=np.inf, missing=table["subject"] == "s5"
    )
    assert _missed(found) == [
        "3 subjects have an infinite distance, since a structure was missed altogether (enet 3, unet_3d 1)."
    ]


def test_a_displayed_name_stays_as_it_is_in_the_first_sentence(plain):
    names = {"enet": "A_b", "unet_3d": "eNet"}
    content = plain.study.model_dump(exclude_defaults=True)
    content.setdefault("publish", {})["style"] = {"models": {"names": names}}
    styled = Results(plain.study.model_validate(content), plain.root)
    assert _sentence(styled).startswith("2 models (A_b and eNet) were compared")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a" * 24, "a" * 24),
        ("a" * 49, f"{'a' * 24}<wbr>{'a' * 24}<wbr>a"),
        ("several words of the usual length", "several words of the usual length"),
        ("<b>&" * 7, f"{'&lt;b&gt;&amp;' * 6}<wbr>&lt;b&gt;&amp;"),
    ],
)
def test_a_long_name_can_be_broken_and_is_escaped(text, written):
    assert str(breakable(text)) == written


def test_no_cell_of_the_report_holds_an_unbreakable_name(plain, figures_folder):
    content = plain.study.model_dump(exclude_defaults=True)
    names = {"enet": "e" * 64, "unet_3d": "u" * 64}
    content.setdefault("publish", {})["style"] = {"models": {"names": names}}
    results = Results(plain.study.model_validate(content), plain.root)
    page = render(results, figures_folder, figures_folder.parent / "report.html")
    cells = re.findall(r"<t[dh][ >].*?</t[dh]>", page, re.DOTALL)
    runs = [run for cell in cells for run in re.sub(r"<(?!wbr)[^>]*>", " ", cell).split()]
    assert any("<wbr>" in run for run in runs)
    assert max(len(html.unescape(part)) for run in runs for part in run.split("<wbr>")) <= 24


def test_a_heading_is_printed_only_with_what_stands_below_it(page):
    # Print hides settings and the viewer.
    block = re.search(r'<div class="settings"[^>]*>\s*<h3>Settings</h3>.*?</pre>', page, re.DOTALL)
    assert block and page.count("<h3>Settings</h3>") == 1
    assert "The same as" not in page
    assert "Labels before and after the repair, as figures for print" in page


def test_warnings_of_the_logs_have_a_section(plain, figures_folder, tmp_path):
    import shutil

    shutil.copytree(plain.root, tmp_path / "results")
    log = tmp_path / "results/logs/infer/enet.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "12:00:01 warning: case /home/me/x.nii is small\n12:00:02 all is well, no warning\n"
        "segstudy: error: no such file\n/usr/lib/x.py:3: UserWarning: odd\n"
    )
    results = Results(plain.study, tmp_path / "results")
    assert len(results.warnings()) == 3
    text = render(results, figures_folder, tmp_path / "report.html")
    table = text[text.index('id="warnings-table"') :]
    assert "segstudy: error: no such file" in table
    assert table.count("(it names files: see enet.log)") == 2
    assert "all is well" not in table and "/home/me" not in text
    text = render(results, figures_folder, tmp_path / "report.html", published=True)
    assert '<td>enet</td><td class="long">3 lines, in the log</td>' in text
    assert "no such file" not in text[text.index('id="warnings-table"') :]
    assert "no stage warned" in render(plain, figures_folder, tmp_path / "report.html")


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Results:
    """Two models of the same cases: `alt` errs by 2 and -1.9 mm in turn, `const` by 0.7 mm."""
    name = "signed_surface_distance_mm"
    settings = builder.study(
        models=("alt", "const"),
        metrics={"extra": [name, "betti_error"]},
        statistics={"metrics": [name, "betti_error"], "bootstrap_samples": 100},
        publish={"metrics": [name, "betti_error"]},
    )
    measured = builder.study(models=("alt", "const"))
    root = builder.build(tmp_path_factory.mktemp("signed"), measured, infinite="none")
    table = pandas.read_csv(root / "metrics/metrics.csv").query("metric == 'dice'")
    turn = table["case"].str[-1].astype(int) % 2
    bias = np.where(table["model"] == "const", 0.7, np.where(turn, -1.9, 2.0))
    worst = (table["model"] == "alt") & (table["case"] == "case_000")
    holes = table.assign(metric="betti_error", value=np.where(worst, np.inf, 40.0 + turn))
    table = pandas.concat([table, table.assign(metric=name, value=bias), holes])
    write_table(root / "metrics/metrics.csv", table)
    found = analyse(read_values(root / "metrics/metrics.csv"), settings.statistics)
    for one in fields(found):
        write_table(root / f"statistics/{one.name}.csv", getattr(found, one.name))
    return Results(settings, root)


def test_the_best_of_a_signed_metric_is_that_of_the_tests(signed):
    """Headline, shading, p, heat map and the column beside the mean go by the mean size, as the tests do."""
    name = "signed_surface_distance_mm"
    assert set(signed.tests.query("metric == @name")["verdict"]) == {"b_better"}
    (sentence,) = [text for text in _findings(signed) if "Signed" in text]
    assert sentence.startswith(
        "Smallest mean size of Signed surface distance: const in 2 of 2 structures; 2 of 2"
    )
    for row in tables.main_tables(signed)[0]["rows"]:
        cell = row["cells"][0]
        assert cell.best == (row["model"] == "const")
        size = {"alt": "1.95", "const": "0.70"}[row["model"]]
        assert cell.note.startswith(f"mean size {size}; CI ")
        assert cell.against.startswith("p ") == (row["model"] == "alt")
    shown = {one["metric"].name: one for one in tables.metric_tables(signed)}
    place = shown[name]["head"].index("Mean size")
    for cells in shown[name]["rows"]:
        assert cells[place].value == pytest.approx(1.95 if cells[1].text == "alt" else 0.7)
        assert [cell.best for cell in cells].count(True) == (cells[1].text == "const")
        assert cells[place].best == (cells[1].text == "const")
    with style.paper():
        panel = heatmap.draw(signed, _heatmap(signed)).figure.axes[0]
    bold = {int(t.get_position()[0]) for t in panel.texts if t.get_fontweight() == "bold"}
    assert [signed.look.models[column] for column in bold] == ["const"]


def test_brackets_keep_the_model_with_the_smallest_median_size(signed, monkeypatch):
    """Medians are 0.05 and 0.7 with their signs, and 1.95 and 0.7 in size; of three models, that of 0.7 is kept."""
    name = "signed_surface_distance_mm"
    models = signed.study.models | {"wide": signed.study.models["const"]}
    results = Results(signed.study.model_copy(update={"models": models}), signed.root)
    table = pandas.DataFrame({"alt": [2, -1.9] * 4, "const": [0.7] * 8, "wide": [3, -3] * 4})
    pairs = [("alt", "const"), ("alt", "wide"), ("const", "wide")]
    tests = pandas.DataFrame(pairs, columns=["model_a", "model_b"]).assign(
        dataset="thorax", metric=name, structure="heart", significant=True, p_adjusted=0.01
    )
    monkeypatch.setattr(Results, "tests", tests)
    monkeypatch.setattr(comparison, "MOST_BRACKETS", 2)
    figure = next(one for one in figures(signed.study) if one.kind == "results")
    assert figure.metric.name == name
    found, fewer = comparison._brackets(results, figure, "heart", table, figure.metric)
    assert fewer and {(one.left, one.right) for one in found} == {(0, 1), (1, 2)}


def test_no_diagonal_stands_for_an_infinite_count(signed):
    """A model with an infinite Betti error has no penalised mean (88.6 mm were no count), and is not best."""
    rows = signed.summary.query("metric == 'betti_error'").set_index("model")
    assert rows.loc["alt", "mean_penalised"].isna().all()
    assert tables.best_models(signed, "thorax", "heart", "betti_error") == ["const"]
    shown = next(one for one in tables.metric_tables(signed) if one["metric"].name == "betti_error")
    assert "Infinite" in shown["head"] and not any("diagonal" in head for head in shown["head"])


def _heatmap(results):
    return next(one for one in figures(results.study) if one.kind == "heatmap")
