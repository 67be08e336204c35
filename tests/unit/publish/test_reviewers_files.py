"""Model cards, tables and methods text: their numbers are those of the tables, and their formats are what they say."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_checklists import everything_stated, with_reporting

from segstudy import analysis_plan
from segstudy.files import write_table
from segstudy.publish import methods_files, model_cards, paper_tables
from segstudy.publish.citations import REFERENCES
from segstudy.publish.facts import FACTS
from segstudy.publish.latex import escaped
from segstudy.publish.methods import methods
from segstudy.publish.reporting import write_reporting
from segstudy.publish.rerun import Code
from segstudy.publish.results import Results
from segstudy.statistics.analysis import analyse
from segstudy.statistics.values import read_values

CODE = Code("0.2.0", "d" * 64)


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory):
    path = tmp_path_factory.mktemp("reviewers") / "reporting"
    write_reporting(plain, path)
    return path


def front(text: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


def summary(results: Results) -> list[dict]:
    with (results.root / "statistics/summary.csv").open() as file:
        return list(csv.DictReader(file))


# --- model cards --------------------------------------------------------------------------------


def test_a_card_has_the_values_of_the_summary_and_hides_no_infinite_one(plain, folder):
    """A mean of the finite values alone would hide the cases that failed: there the median stands, which ranks them."""
    seen = 0
    for name in plain.study.models:
        head = front((folder / "model_cards" / name / "README.md").read_text())
        index = head["model-index"][0]["results"][0]["metrics"]
        shown = {
            (one["type"], one["name"].split(", ")[1].split(" (")[0]): (one["name"], one["value"])
            for one in index
        }
        rows = [row for row in summary(plain) if row["model"] == name]
        rows = [row for row in rows if row["metric"] in ("dice", "hd95_mm", "nsd_2mm")]
        told = {}
        for row in rows:
            infinite = int(row["n_infinite"])
            of = "median" if infinite else "mean"
            value, key = float(row[of]), f"thorax_{row['metric']}_{row['structure']}"
            assert (f"{infinite} infinite" in shown[row["metric"], row["structure"]][0]) == bool(
                infinite
            )
            assert f"({of} of 5 subjects" in shown[row["metric"], row["structure"]][0]
            assert shown[row["metric"], row["structure"]][1] == pytest.approx(value, abs=1e-6)
            told[f"{key}_{of}"] = pytest.approx(value, abs=1e-6)
            if infinite:
                told[f"{key}_n_infinite"] = infinite
                seen += 1
        assert len(shown) == len(rows)
        bundle = json.loads((folder / "model_cards" / name / "metadata.json").read_text())
        assert bundle["eval_metrics"] == told
    assert seen


def test_front_matter_has_what_hugging_face_asks_for(plain):
    head = model_cards.front_matter(plain, "enet")
    assert "license" not in head  # none was stated
    assert set(head) == {"library_name", "pipeline_tag", "tags", "metrics", "model-index"}
    (index,) = head["model-index"]
    for result in index["results"]:
        assert {"type", "name"} == set(result["task"]) == set(result["dataset"])
        assert all({"type", "name", "value"} == set(one) for one in result["metrics"])
    stated = with_reporting(plain, licence="cc-by-4.0")
    assert model_cards.front_matter(stated, "enet")["license"] == "cc-by-4.0"


MANDATORY = {
    *("version", "monai_version", "pytorch_version", "numpy_version", "optional_packages_version"),
    *("task", "description", "authors", "copyright", "network_data_format"),
}
OF_TENSORS = {
    *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
    "channel_def",
}
"""Keys that MONAI's bundle specification asks for."""


def test_bundle_metadata_has_the_mandatory_keys_and_the_classes(plain):
    bundle = model_cards.bundle(plain, "unet_3d")
    assert set(bundle) >= MANDATORY
    assert all(bundle[key] for key in MANDATORY)
    formats = bundle["network_data_format"]
    (image,), (pred,) = formats["inputs"].values(), formats["outputs"].values()
    for tensor in (image, pred):
        assert set(tensor) >= OF_TENSORS
        assert tensor["num_channels"] == len(tensor["channel_def"])
        assert tensor["spatial_shape"] == [32, 32, 12]
    assert pred["channel_def"] == {"0": "background", "1": "heart", "2": "aorta"}
    assert bundle["pytorch_version"] == "2.13.0"  # as the trainings recorded it
    assert bundle["authors"] == "(author: reporting.authors)"


def test_what_the_authors_state_is_in_the_card_and_nothing_stands_for_what_they_do_not(
    plain, folder
):
    told = model_cards.card(with_reporting(plain, **everything_stated()), "enet")
    for field in ("intendeduse", "outofscope", "ethics", "authors", "contact", "limitations"):
        assert f"word{field}" in told
    assert "(author:" not in told
    bare = (folder / "model_cards/enet/README.md").read_text()
    for field in ("intended_use", "out_of_scope", "ethics", "authors", "licence", "limitations"):
        assert f"(author: `reporting.{field}`)" in bare
    assert "By subgroup" not in bare


def test_a_card_tells_subgroups_where_there_are_such(scenario):
    results = scenario("subgroups")
    text = model_cards.card(results, "enet")
    told = results.subgroups
    told = told[(told["model"] == "enet") & (told["metric"] == "dice")]
    for row in told.to_dict("records"):
        value = f"{row['mean']:.3f} ± {row['sd']:.3f}"
        assert (
            f": {row['group']} | {results.look.structure(row['structure'])} | {value} | {row['n_subjects']} |"
            in text
        )
    assert (
        text.count("fewer than 10 subjects")
        == (told["remark"].str.contains("fewer than 10")).sum()
        > 0
    )
    assert FACTS["subgroups"].tell(results) == "Results by Sex, Age, Scanner and Site."


def test_the_cohort_of_a_paper_is_table_1(scenario):
    table = paper_tables.paper_tables(scenario("subgroups"))[0]
    text = paper_tables.as_latex(table)
    assert "Subjects & 16 \\\\" in text
    female = [line for line in text.splitlines() if line.startswith("~~F ")]
    assert female == ["~~F & 8 (50 \\%) \\\\"]


def test_a_model_of_others_has_a_card_and_no_network(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["models"]["unet_3d"] = {
        "network": "predictions",
        "trainer": "predictions",
        "files": "there/{case}.nii.gz",
    }
    results = Results(type(plain.study).model_validate(content), plain.root)
    text = model_cards.card(results, "unet_3d")
    assert "It was not trained in this study." in text
    assert "What unet_3d was trained on: not known here." in text.replace("\\", "")
    assert "Parameters" not in text
    assert "By case" not in text and "By subject" not in text  # what is so of models trained here
    assert "cross-validation" not in text
    other = model_cards.card(results, "enet")
    assert "What" not in other.split("## Training")[1].split("## Evaluation")[0]
    assert "thorax, cross-validation" in other


def test_a_card_of_one_training_speaks_of_its_weights(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["splits"]["run_folds"] = [0]
    one = Results(type(plain.study).model_validate(content), plain.root)
    assert "no single set of weights" not in model_cards.card(one, "enet")
    assert "no single set of weights" in model_cards.card(plain, "enet")


def test_a_card_of_an_ensemble_tells_of_its_members(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["models"]["both"] = {"trainer": "ensemble", "members": ["enet", "unet_3d"]}
    results = Results(type(plain.study).model_validate(content), plain.root)
    text = model_cards.card(results, "both").replace("\\", "")
    assert "It is the ensemble of enet and unet_3d" in text
    assert "not trained in this study" not in text and "not known" not in text
    assert "the class probabilities of 2 networks are averaged with equal weights" in text
    assert "Nothing was trained for it beyond enet and unet_3d, whose cards tell" in text
    assert "both is an ensemble of enet and unet_3d" in FACTS["ensembling"].tell(results)
    assert "ensemble of enet and unet_3d" in FACTS["technology"].tell(results)
    assert FACTS["architectures"].lacks(results) == ""


def test_a_card_tells_what_was_fine_tuned_from_what_and_which_weights_have_no_result(plain):
    content = plain.study.model_dump(exclude_defaults=True)
    content["models"]["enet"] |= {
        "initial_weights": "before/weights.pt",
        "freeze": ["initial"],
        "train_on_all": True,
        "optimizer": {"lr_factors": {"initial": 0.1}},
    }
    tuned = Results(type(plain.study).model_validate(content), plain.root)
    record = {
        **{"file": "weights.pt", "sha256": "ab" * 32, "network": "enet", "known_cases": 7},
        **{
            "knows_all": True,
            "taken": ["initial", "up"],
            "anew": {"final": ""},
            "frozen": ["initial"],
        },
    }
    before = tuned.trained
    tuned.__dict__["trained"] = lambda *run: before(*run) | {"initial_weights": record}
    text = model_cards.card(tuned, "enet").replace("\\", "")
    assert "It was fine-tuned from weights that were trained before (see Training)." in text
    training = text.split("## Training")[1].split("## Evaluation")[0]
    assert (
        f"started from weights.pt (sha256 {'ab' * 8}; network enet, trained on 7 cases" in training
    )
    assert "1 layer (initial) kept their weights" in training
    assert "| Layer-wise learning rates | initial × 0.1 |" in training
    assert "These weights have no held-out result of their own" in text
    assert "held out to tell when to stop" not in text
    content["models"]["enet"] |= {"stop_when_flat": 5, "validation_fraction": 0.2}
    early = Results(type(plain.study).model_validate(content), plain.root)
    assert "held out to tell when to stop (20 % of the subjects for" in model_cards.card(
        early, "enet"
    )
    assert "fine-tuned" in front(text)["tags"]
    assert "fine-tuned from weights" in model_cards.bundle(tuned, "enet")["description"]
    other = model_cards.card(plain, "enet")
    assert "fine-tuned" not in other and "held-out result" not in other


# --- tables -------------------------------------------------------------------------------------


def test_the_results_table_is_the_summary(plain, folder):
    with (folder / "tables/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    held = {(r["structure"], r["model"], r["metric"]): r for r in summary(plain)}
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        other = held[row["structure"], row["model"], row["metric"]]
        for name in paper_tables.EXACT:
            assert float(row[name]) == pytest.approx(float(other[name]), nan_ok=True), name
    assert {row["unit"] for row in rows if row["metric"] == "hd95_mm"} == {"mm"}


def test_infinite_values_are_shown_by_medians(plain, folder):
    """A mean of the finite ones alone would hide the case that failed."""
    infinite = {r["metric"] for r in summary(plain) if int(r["n_infinite"]) > 0}
    assert "hd95_mm" in infinite and "dice" not in infinite
    text = (folder / "tables/results.tex").read_text()
    head = next(line for line in text.splitlines() if line.startswith("Structure"))
    assert [", median [Q1, Q3]" in cell for cell in head.split(" & ")[2:5]] == [False, True, False]
    medians = [float(r["median"]) for r in summary(plain)
               if (r["metric"], r["model"], r["structure"]) == ("hd95_mm", "enet", "heart")]  # fmt: skip
    assert f"{medians[0]:.2f} [" in text


@pytest.mark.parametrize("name", ["plain", "one_model", "two_sites", "all_infinite", "long names"])
def test_latex_tables_have_as_many_cells_as_columns(name, plain, scenario):
    results = plain if name == "plain" else scenario(name)
    for table in paper_tables.paper_tables(results):
        text = paper_tables.as_latex(table)
        columns = re.search(r"\{@\{\}(.+)@\{\}\}", text)[1]
        columns = re.sub(r">\{[^}]*\}p\{[\d.]+\\textwidth\}", "p", columns)
        assert set(columns) <= set("lr") or set(columns) == {"p"}
        lines = [
            line for line in text.splitlines() if line.endswith(r"\\") and "caption" not in line
        ]
        assert len(lines) >= 1 + len(table.rows)
        for line in lines:
            assert len(re.findall(r"(?<!\\)&", line)) + 1 == len(columns) == len(table.head)
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert text.isascii() or name == "long names"
        assert "n" in table.note and table.caption
        page = paper_tables.as_html(table)
        assert page.count("<tr>") == 1 + len(table.rows)


def test_the_csv_of_a_table_has_the_digits_of_the_statistics(plain, scenario, folder, tmp_path):
    """What is printed has three digits; whoever computes on wants all."""
    planned = with_plan(plain, tmp_path / "planned")
    write_reporting(planned, tmp_path / "out")
    for name in ("tests", "verdicts"):
        with (planned.root / f"statistics/{name}.csv").open() as file:
            held = list(csv.DictReader(file))
        with (tmp_path / f"out/tables/{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(held) > 0
        for row, other in zip(rows, held, strict=True):
            for key in ("ci_low", "ci_high", "estimate", "p", "p_adjusted"):
                assert row[key] == other[key] or float(row[key]) == float(other[key]), (name, key)
            assert row["n_subjects"] == other["n_subjects"] == "5"
    table = paper_tables.as_csv(paper_tables.paper_tables(scenario("subgroups"))[0])
    rows = {(row["variable"], row["value"]): row for row in csv.DictReader(table.splitlines())}
    ages = np.array([30.0 + 4 * index for index in range(16) if index != 3])
    age = rows["age", ""]
    assert (age["n"], age["n_missing"]) == ("15", "1")
    for key, value in {
        "mean": ages.mean(),
        "sd": ages.std(ddof=1),
        "median": np.median(ages),
    }.items():
        assert float(age[key]) == pytest.approx(value)
    assert (rows["sex", "F"]["n"], rows["sex", "F"]["percent"]) == ("8", "50.0")
    assert rows["subjects", ""]["n"] == "16"


def with_plan(results: Results, root) -> Results:
    """The same results under margins and a primary endpoint, with the statistics of these."""
    shutil.copytree(results.root, root)
    content = results.study.model_dump(exclude_defaults=True)
    content["statistics"] |= {
        "margin": {"dice": 0.5, "hd95_mm": 2.0},
        "primary": {"structure": "heart", "metric": "dice"},
    }
    study = type(results.study).model_validate(content)
    analysis_plan.record(root, study.statistics)
    found = analyse(read_values(root / "metrics/metrics.csv"), study.statistics)
    for table in fields(found):
        write_table(root / f"statistics/{table.name}.csv", getattr(found, table.name))
    return Results(study, root)


def test_tests_and_verdicts_have_no_column_of_one_name_that_says_two_things(plain, tmp_path):
    planned = with_plan(plain, tmp_path / "planned")
    found = {table.name: table for table in paper_tables.paper_tables(planned)}
    assert "Verdict" in found["verdicts"].head and "Verdict" not in found["tests"].head
    assert "p over folds" in found["verdicts"].head  # there are two folds
    planned.comparison_verdicts = planned.comparison_verdicts.assign(p_folds=np.nan)
    (alone,) = (t for t in paper_tables.paper_tables(planned) if t.name == "verdicts")
    assert "p over folds" not in alone.head and "cross-validation" not in alone.note
    intervals = [cell.text for row in alone.rows for cell in row if cell.text.startswith("[")]
    assert intervals and not any("-" in text for text in intervals)


def test_a_long_table_runs_over_pages(plain):
    table = next(one for one in paper_tables.paper_tables(plain) if one.name == "tests")
    longer = paper_tables.PaperTable(**{**vars(table), "rows": table.rows * 20})
    text = paper_tables.as_latex(longer)
    assert r"\begin{longtable}" in text and r"\endhead" in text and r"\begin{table}" not in text


# --- methods ------------------------------------------------------------------------------------

PRINTED = {
    "left_lung & 50 % of #1 {x} ~ ^ $5": r"left\_lung \& 50 \% of \#1 \{x\} \textasciitilde{} \textasciicircum{} \$5",
    "−3 ± 2 × 4 ≤ ∞°": r"$-$3 $\pm$ 2 $\times$ 4 $\leq$ $\infty$$^{\circ}$",
    r"a\b <c>": r"a\textbackslash{}b \textless{}c\textgreater{}",
}


@pytest.mark.parametrize("text", PRINTED)
def test_signs_of_latex_are_printed_as_they_are(text):
    assert escaped(text) == PRINTED[text]


def test_methods_of_all_formats_cite_the_same(plain, folder):
    keys = methods_files.cited(methods(plain))
    tex = (folder / "methods.tex").read_text()
    cites = [key for group in re.findall(r"\\cite\{([^}]*)\}", tex) for key in group.split(",")]
    assert list(dict.fromkeys(cites)) == keys
    known = re.findall(r"@\w+\{(\w+),", (folder / "references.bib").read_text())
    assert set(keys) <= set(known)
    page = (folder / "methods.html").read_text()
    assert page.count("<li>") == len(keys)
    numbers = list(dict.fromkeys(re.findall(r"\[(\d+)\]", page)))
    assert numbers == [str(place) for place in range(1, len(keys) + 1)]
    assert tex.isascii()
    words = re.sub(r"\[\[\w+\]\]", "", methods(plain)[0][1])
    assert words in re.sub(r"\[\d+\]", "", page)


def test_neighbouring_citations_share_a_bracket():
    told = "As in [[woo2018]] [[zenk2025]], and [[wilcoxon1945]]; [[ours]]."
    text = methods_files.as_latex([("Data", told)])
    assert r"As in~\cite{woo2018,zenk2025}, and~\cite{wilcoxon1945}; [[ours]]." in text


def test_what_our_texts_cite_is_in_the_list():
    """Other words in double brackets are taken for a user's own, and stand as they are."""
    folder = Path(methods_files.__file__).parent
    sources = [*folder.rglob("*.py"), *folder.glob("*.j2")]
    keys = {key for path in sources for key in re.findall(r"\[\[([a-z]\w+)\]\]", path.read_text())}
    assert len(keys) > 40
    assert keys - {"key", "column"} <= REFERENCES.keys()


def test_the_same_results_give_the_same_files(plain, folder, tmp_path):
    write_reporting(plain, tmp_path / "again")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX engine")
def test_latex_can_be_set(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tex")
    tables = "".join(
        f"\\input{{{path.relative_to(folder)}}}\n" for path in sorted(folder.glob("tables/*.tex"))
    )
    (tmp_path / "tex/all.tex").write_text(
        f"{PREAMBLE}\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    for name in ("methods", "all"):
        set_by_latex(tmp_path / "tex", name)
    assert np.all(
        [(tmp_path / f"tex/{name}.pdf").stat().st_size > 5000 for name in ("methods", "all")]
    )


PREAMBLE = (
    "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage[T1]{fontenc}"
    "\\usepackage{textcomp,array,booktabs,longtable}\n"
)


def set_by_latex(folder, name) -> str:
    """Set a document; return what TeX wrote."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX engine")
@pytest.mark.parametrize("name", ["planned", "subgroups", "two_sites", "long names"])
def test_no_table_is_wider_than_a_page(name, plain, scenario, tmp_path):
    results = with_plan(plain, tmp_path / "planned") if name == "planned" else scenario(name)
    paper_tables.write_paper_tables(results, tmp_path / "tex")
    tables = "".join(
        f"\\input{{{path.name}}}\n" for path in sorted((tmp_path / "tex").glob("*.tex"))
    )
    (tmp_path / "tex/all.tex").write_text(
        f"{PREAMBLE}\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    wide = re.findall(r"Overfull \\hbox \(([\d.]+)pt", set_by_latex(tmp_path / "tex", "all"))
    assert all(float(size) < 6 for size in wide), wide
