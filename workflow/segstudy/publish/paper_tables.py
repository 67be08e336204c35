"""The main tables of a paper, as LaTeX (booktabs), HTML that Word opens, and CSV with the exact numbers."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segstudy.files import write_text
from segstudy.metric import Metric
from segstudy.publish import cohort, tables, verdicts
from segstudy.publish.latex import escaped
from segstudy.publish.methods_files import page
from segstudy.publish.results import Results
from segstudy.publish.tables import Cell
from segstudy.words import confidence

FOLDER = "tables"
INDENT = "\u00a0\u00a0"
ON_ONE_PAGE = 40
"""Rows above which a table runs over pages."""
EXACT = (
    *("n_subjects", "n_cases", "n_absent", "n_undefined", "n_missing", "n_failed", "n_infinite"),
    *("mean", "sd", "ci_low", "ci_high", "median", "q1", "q3"),
)
"""Columns of `summary.csv` that the CSV of the results has."""


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes
    ----------
    name
        Of its files.
    caption, note
        Above and below it; n and units are told there.
    head
        Titles of the columns.
    rows
        Cells as they are printed.
    csv_head, csv_rows
        The same with exact numbers.
    """

    name: str
    caption: str
    note: str
    head: list[str]
    rows: list[list[Cell]]
    csv_head: list[str]
    csv_rows: list[list[str]]


def write_paper_tables(results: Results, folder: Path, anonymous: bool = False) -> None:
    """Write each table as LaTeX and CSV, and all of them as one page of HTML; anonymous: as of `cohort.cohort_rows`."""
    found = paper_tables(results, anonymous)
    for table in found:
        write_text(folder / f"{table.name}.tex", as_latex(table))
        write_text(folder / f"{table.name}.csv", as_csv(table))
    body = "\n".join(map(as_html, found))
    write_text(folder / "tables.html", page("Tables", body))


def paper_tables(results: Results, anonymous: bool = False) -> list[PaperTable]:
    """Return the tables that a study has: results of each dataset, tests, verdicts and the cohort."""
    found = [
        _cohort(results, anonymous),
        *(_results(results, one) for one in tables.main_tables(results)),
    ]
    tested = tables.test_table(results)
    if tested["rows"]:
        found.append(_tests(results, tested))
    shown = verdicts.shown(results)
    if shown["rows"]:
        found.append(_of_cells(
            "verdicts",
            f"Verdicts on the comparisons. {shown['recorded']}",
            f"{shown['about_p']} Differences, intervals and margins are in the metric's unit; subjects are the unit of all tests.",
            shown["head"],
            shown["rows"],
        ))  # fmt: skip
    return found


def _of_cells(
    name: str, caption: str, note: str, head: list[str], rows: list[list[Cell]]
) -> PaperTable:
    """Return a table whose CSV has the exact value of each cell."""
    exact = [[cell.exact.strip() for cell in row] for row in rows]
    return PaperTable(name, caption, note, head, rows, head, exact)


def _cohort(results: Results, anonymous: bool) -> PaperTable:
    """Return Table 1: a column a dataset, a row a property or a value of it, which is indented."""
    shown = cohort.shown(results, anonymous)
    rows = [
        [Cell(f"{INDENT if row['within'] else ''}{row['name']}"), *row["cells"]]
        for row in shown["rows"]
    ]
    note = (
        "IQR: from the first to the third quartile. Numbers of subjects are over subjects, whose scans are averaged; voxel sizes "
        "and volumes over scans, volumes where the structure is there."
    )
    return _of_cells("cohort", "The cohort.", note, ["Property", *shown["heads"]], rows)


def _results(results: Results, main: dict[str, Any]) -> PaperTable:
    """Return the report's main table of a dataset: a row a structure and model, a column a metric.

    A metric with infinite values is shown by median and quartiles, in which these count as worst; others by mean and SD.
    """
    look, dataset = results.look, main["dataset"]
    summary = results.summary[results.summary["dataset"] == dataset]
    known = {
        (row["structure"], row["model"], row["metric"]): row for row in summary.to_dict("records")
    }
    by_median = {
        one.name
        for one in main["metrics"]
        if (summary.loc[summary["metric"] == one.name, "n_infinite"] > 0).any()
    }
    head = [
        "Structure",
        "Model",
        *(_head(one, one.name in by_median) for one in main["metrics"]),
        "n",
    ]
    rows, exact = [], []
    for row in main["rows"]:
        cells = [
            Cell(look.structure(row["structure"]) if row["first"] else ""),
            Cell(look.model(row["model"])),
        ]
        for one, shown in zip(main["metrics"], row["cells"], strict=True):
            values = known.get((row["structure"], row["model"], one.name))
            cells.append(Cell(_value(one, values, one.name in by_median), best=shown.best))
            if values:
                numbers = [str(values[name]) for name in EXACT]
                exact.append(
                    [dataset, row["structure"], row["model"], one.name, one.unit, *numbers]
                )
        rows.append([*cells, Cell(str(row["n"]), float(row["n"]))])
    several = len(results.study.tested_datasets) > 1
    note = (
        "n: subjects, whose cases are averaged; mean ± SD, or, where a value of the metric is infinite, median [quartiles], in "
        "which an infinite value counts as the worst. Arrows: which values are better. Bold: best mean of a structure, by which "
        "nothing is said on significance; an infinite distance counts as the image's diagonal there."
    )
    return PaperTable(
        f"results_{dataset}" if several else "results",
        f"Results on {dataset}." if several else "Results.",
        note,
        head,
        rows,
        ["dataset", "structure", "model", "metric", "unit", *EXACT],
        exact,
    )


def _head(one: Metric, by_median: bool) -> str:
    return f"{one.axis} {one.arrow}{', median [Q1, Q3]' if by_median else ''}"


def _value(one: Metric, row: dict[str, Any] | None, by_median: bool) -> str:
    if row is None:
        return "–"
    if by_median:
        return f"{one.text(row['median'])} [{one.text(row['q1'])}, {one.text(row['q3'])}]"
    return f"{one.text(row['mean'])} ± {one.text(row['sd'])}"


def _tests(results: Results, tested: dict[str, Any]) -> PaperTable:
    """Return the comparisons, without the columns that a paper leaves to its supplement."""
    level = confidence(results.study.statistics.alpha)
    kept = [
        "Dataset",
        "Structure",
        "Metric",
        "A − B",
        "Subjects",
        "Difference",
        f"{level} CI",
        "p adjusted",
        "Verdict",
    ]
    places = [tested["head"].index(name) for name in kept if name in tested["head"]]
    rows = [[row[place] for place in places] for row in tested["rows"]]
    note = (
        "Differences and intervals are in the metric's unit; the subject is the unit of all tests. p is adjusted over all tests of "
        "its family, and the interval is that of the test by itself. Bold: significant after correction."
    )
    table = _of_cells(
        "tests",
        "Comparisons of the models.",
        note,
        [tested["head"][place] for place in places],
        rows,
    )
    exact = [[cell.exact for cell in row] for row in tested["rows"]]
    return PaperTable(**{**vars(table), "csv_head": tested["head"], "csv_rows": exact})


# --- formats ------------------------------------------------------------------------------------


def as_csv(table: PaperTable) -> str:
    """Write the exact numbers as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table.csv_head, *table.csv_rows])
    return text.getvalue()


def _numbers(table: PaperTable) -> list[bool]:
    """Return of each column whether all its cells are single numbers."""
    columns = zip(*table.rows, strict=True) if table.rows else ([] for _ in table.head)
    return [
        bool(cells) and all(isinstance(cell.value, float) for cell in cells)
        for cells in map(list, columns)
    ]


def as_latex(table: PaperTable) -> str:
    """Write the table as LaTeX, for a preamble with booktabs and longtable."""
    columns = "".join("r" if number else "l" for number in _numbers(table))
    head = f"{_latex_row([Cell(name) for name in table.head])}\n\\midrule"
    body = "\n".join(map(_latex_row, table.rows))
    caption = f"\\caption{{{escaped(table.caption)}}}\n\\label{{tab:{table.name}}}"
    note = escaped(table.note)
    lead = f"% \\usepackage{{booktabs{',longtable' if len(table.rows) > ON_ONE_PAGE else ''}}} in the preamble\n"
    if len(table.rows) > ON_ONE_PAGE:
        return (
            f"{lead}{{\\footnotesize\n\\begin{{longtable}}{{@{{}}{columns}@{{}}}}\n{caption}\\\\\n\\toprule\n{head}\n\\endfirsthead\n"
            f"\\toprule\n{head}\n\\endhead\n{body}\n\\bottomrule\n\\end{{longtable}}\n\\noindent {note}\\par}}\n"
        )
    return (
        f"{lead}\\begin{{table}}\n\\centering\n{caption}\n\\footnotesize\n\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{head}\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\n\\smallskip\n\\raggedright\\footnotesize {note}\n\\end{{table}}\n"
    )


def _latex_row(cells: Sequence[Cell]) -> str:
    texts = [
        f"\\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text) for cell in cells
    ]
    # A row that begins with a bracket would be read as an option of the one before.
    row = " & ".join(texts)
    return f"{{{row[:1]}}}{row[1:]} \\\\" if row.startswith(("[", "*")) else f"{row} \\\\"


def as_html(table: PaperTable) -> str:
    """Write the table as plain HTML."""
    head = "".join(f'<th scope="col">{html.escape(name, quote=False)}</th>' for name in table.head)
    rows = "\n".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in table.rows)
    caption, note = html.escape(table.caption, quote=False), html.escape(table.note, quote=False)
    return (
        f'<table border="1" cellspacing="0" cellpadding="4" id="{table.name}">\n<caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n<p>{note}</p>"
    )


def _html_cell(cell: Cell) -> str:
    text = html.escape(cell.text, quote=False)
    return f"<td><b>{text}</b></td>" if cell.best else f"<td>{text}</td>"
