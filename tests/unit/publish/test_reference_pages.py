"""Pages that are built from the code: each column has a meaning, each subcommand its help."""

import inspect
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from described_tables import header_of, named, reference_pages, undescribed

from segstudy.cases import Case, write_cases
from segstudy.cli import STAGES, TOOLS
from segstudy.download.problems import Problem, write_problems
from segstudy.jobs.results import ResultPaths
from segstudy.metric import EXTRA, MEASURED, OF_LESIONS, OF_PROBABILITIES, find
from segstudy.metrics.measure import measure
from segstudy.publish import package_tables
from segstudy.publish.citations import REFERENCES
from segstudy.study import Metrics

ALL_TABLES = reference_pages.ALL_TABLES
METRICS = Path(__file__).resolve().parents[3] / "docs/metrics.md"


@pytest.mark.parametrize("path", ALL_TABLES)
def test_every_column_has_a_meaning(path):
    known = reference_pages.meanings()
    for column in ALL_TABLES[path][1]:
        key = reference_pages.key_of(path.rpartition("/")[2], column, known)
        unit, meaning = known[key]
        assert meaning and meaning == meaning.strip(), key
        for ending, wanted in {"_mm": "mm", "_mm3": "mm³", "_mb": "MB", "seconds": "s"}.items():
            assert not column.endswith(ending) or unit == wanted, key
        assert not column.startswith("n_") or unit, key


def test_a_column_without_a_meaning_fails():
    with pytest.raises(KeyError, match=r"tests\.csv:n_cats"):
        reference_pages.key_of("tests.csv", "n_cats", reference_pages.meanings())


def test_no_meaning_is_of_a_column_that_is_gone():
    known = reference_pages.meanings()
    used = {
        reference_pages.key_of(path.rpartition("/")[2], column, known)
        for path, (_, columns) in ALL_TABLES.items()
        for column in columns
    }
    assert known.keys() == used


def test_no_name_stands_twice():
    lines = reference_pages.COLUMNS.read_text(encoding="utf-8").splitlines()[1:]
    assert len({line.partition("\t")[0] for line in lines}) == len(lines)


def test_every_table_that_the_workflow_knows_is_named():
    paths = ResultPaths("x")
    filled = dict.fromkeys(("dataset", "model", "stage", "job"), "x") | {"fold": "0", "seed": "0"}
    told, tables = [], ("summary", "tests", "ranking")
    for name, member in vars(ResultPaths).items():
        if name.startswith("_") or name == "root":
            continue
        found = getattr(paths, name)
        if callable(found):
            needed = [one for one in inspect.signature(member).parameters if one != "self"]
            choices = tables if "table" in needed else ("",)
            found = [found(*(filled.get(one) or table for one in needed)) for table in choices]
        told += [found] if isinstance(found, str) else found
    told = [path.removeprefix(f"{paths.root}/") for path in told if path.endswith((".csv", ".tsv"))]
    assert len(told) > 15
    assert [path for path in told if named(path) is None] == []


def test_every_table_of_the_zip_is_named_and_its_columns_stand_somewhere():
    page = reference_pages.tables_page()
    for file in package_tables.TABLES:
        assert f"| [`{file}`](#" in page
        assert reference_pages.described_at(file) in reference_pages.ALL_TABLES, file


def test_tables_of_a_study_are_named_with_all_their_columns(plain):
    root = Path(plain.paths.root)
    found = {
        path.relative_to(root).as_posix(): header_of(path)
        for path in [*root.rglob("*.csv"), *root.rglob("*.tsv")]
    }
    assert {"metrics/metrics.csv", "statistics/tests.csv", "preprocess/splits.tsv"} <= found.keys()
    assert [told for one in found.items() for told in undescribed(*one)] == []


def test_a_table_and_a_column_that_are_not_described_are_found():
    assert undescribed("statistics/tests.csv", "dataset,p,q") == ["statistics/tests.csv: q"]
    assert undescribed("tables/confusion.csv", "case,n_voxel") == ["tables/confusion.csv: n_voxel"]
    assert undescribed("tables/new.csv", "case") == ["tables/new.csv"]
    assert undescribed("statistics/new.csv", "case") == ["statistics/new.csv"]
    assert undescribed("download/chest/cases.tsv", "case\tnew") == ["download/chest/cases.tsv: new"]


def test_tables_of_the_audit_have_the_columns_that_the_page_lists(tmp_path):
    case = Case(
        "a", "a", (tmp_path / "a.nii", tmp_path / "b.nii"), tmp_path / "l.nii", voxels={"heart": 1}
    )
    write_cases(tmp_path / "cases.tsv", [case], ["t1", "t2"])
    write_problems(tmp_path / "problems.tsv", "scans", [Problem("a", "a.nii", "odd", "refused")])
    for name in ("cases.tsv", "problems.tsv"):
        assert not undescribed(f"download/scans/{name}", header_of(tmp_path / name))
        assert len(pandas.read_csv(tmp_path / name, sep="\t")) == 1


def test_the_page_of_the_command_line_has_each_subcommand_once():
    page = reference_pages.command_page()
    for name in STAGES | TOOLS:
        assert page.count(f"\n## segstudy {name}\n") == 1
    assert page.count("\n### segstudy repair simulate\n") == 1
    for code in ("| 0 |", "| 1 |", "| 2 |", "| 128 + N |"):
        assert code in page


def test_pages_do_not_hang_on_the_terminal(monkeypatch):
    page = reference_pages.command_page()
    monkeypatch.setenv("COLUMNS", "40")
    assert reference_pages.command_page() == page


def test_every_metric_that_is_measured_has_its_formula():
    assert list(reference_pages.formulas()) == list(reference_pages.MEASURED_METRICS)
    page = reference_pages.formulas_page()
    for name in (*MEASURED, *EXTRA, *OF_LESIONS, *OF_PROBABILITIES):
        assert f"| `{name}` |" in page


def test_formulas_of_counts_give_what_is_measured():
    """The formula as it is printed, calculated with the counts of two masks."""
    reference, prediction = np.zeros((2, 6, 7, 8), np.uint8)
    reference[1:4, 1:5, 2:6], prediction[2:5, 1:6, 2:5] = 1, 1
    both, either = reference & prediction, reference | prediction
    counts = {"TP": both.sum(), "FP": (prediction - both).sum(), "FN": (reference - both).sum()}
    counts = {name: float(number) for name, number in counts.items()}
    counts |= {"TN": float((either == 0).sum()), "voxel": 0.006}
    extra = [name for name in EXTRA if "_mm" not in name and name != "cldice"]
    settings = Metrics(extra=extra)
    measured = measure(reference, prediction, (1, 2, 3), {"one": (1,)}, settings)[0].values
    tried = 0
    for name, formula in reference_pages.formulas().items():
        text = formula.replace("2 TP", "2 * TP").replace("· volume of a voxel", "* voxel")
        if name in measured and not re.sub(r"TP|FP|FN|TN|voxel|abs|[\d\s()*/+-]", "", text):
            assert eval(text, {"abs": abs}, counts) == pytest.approx(measured[name]), name
            tried += 1
    assert tried >= 10


def test_the_page_of_what_is_measured_has_each_metric_that_is_asked_for():
    """A row each, with the unit, range, direction of the registry, and a source where that has one."""
    page = METRICS.read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): [cell.strip() for cell in cells] for name, *cells in rows}
    best = {"higher": "highest", "lower": "lowest", "zero": "nearest to 0"}
    for name in EXTRA:
        one = find(name)
        assert name in told, f"docs/metrics.md: no row of {name}"
        span = "any" if np.isinf(one.low) else one.expected
        assert told[name][1:4] == [one.unit, span, best[one.direction]], name
        assert bool(told[name][4]) == bool(one.source), f"docs/metrics.md: source of {name}"
        assert not one.source or one.source in REFERENCES, f"{one.source}: not in citations.py"
