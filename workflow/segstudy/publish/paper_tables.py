"""The main tables of a paper, as LaTeX (booktabs), HTML that Word opens, and CSV with the exact numbers."""

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from segstudy.files import write_text
from segstudy.metric import Metric
from segstudy.publish import cohort, tables, verdicts
from segstudy.publish.latex import escaped
from segstudy.publish.methods_files import page
from segstudy.publish.results import Results
from segstudy.publish.subjects import without_subjects
from segstudy.publish.tables import Cell
from segstudy.publish.words import listing
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


_WORDS = re.compile(r" |(?<=_)|(?<=-)(?=\w)")
"""Where a cell can be broken into lines."""


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
        The numbers behind it with all digits: columns of the tables of the statistics and of the cohort.
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
    if verdicts.shown(results)["rows"]:
        found.append(_verdicts(results))
    return found


def _verdicts(results: Results) -> PaperTable:
    """Return the verdicts, with what each rests on: the interval, p and the margin; all else is in the CSV."""
    shown = verdicts.shown(results)
    level, narrow = (f"{confidence(share * results.study.statistics.alpha)} CI" for share in (1, 2))
    kept = [
        "Structure",
        "Metric",
        "A − B",
        "Subjects",
        "Verdict",
        "Difference",
        level,
        "p adjusted",
    ]
    kept += ["Margin", narrow]
    over_folds = bool(results.comparison_verdicts["p_folds"].notna().any())
    kept += ["p over folds"] if over_folds else []
    note = "Differences, intervals and margins are in the metric's unit; subjects are the unit of all tests."
    note = f"{shown['about_p']} {note}" if over_folds else note
    caption = f"Verdicts on the comparisons. {shown['recorded']}"
    return PaperTable(
        "verdicts", caption, note, *_kept(shown, kept), *_exact(results.comparison_verdicts)
    )


def _kept(shown: Mapping[str, Any], names: Sequence[str]) -> tuple[list[str], list[list[Cell]]]:
    """Return head and rows of the columns of a report's table that are named."""
    places = [shown["head"].index(name) for name in names if name in shown["head"]]
    head = [shown["head"][place] for place in places]
    return head, [[row[place] for place in places] for row in shown["rows"]]


def _exact(table: pandas.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of the statistics with all digits; what is not there is empty."""
    rows = table.astype(object).where(table.notna(), "").to_numpy()
    return list(map(str, table.columns)), [list(map(str, row)) for row in rows]


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
    if unnamed := without_subjects(results):
        note += f" In {listing(unnamed)}, no subject is named apart from the case: each case is taken for a subject."
    exact = _exact(cohort.cohort_rows(results, anonymous))
    return PaperTable("cohort", "The cohort.", note, ["Property", *shown["heads"]], rows, *exact)


def _results(results: Results, main: dict[str, Any]) -> PaperTable:
    """Return the report's main table of a dataset: a row a structure and model, a column a metric.

    A metric with infinite values is shown by median and quartiles, in which these count as worst; others by mean and SD.
    """
    look, dataset = results.look, main["dataset"]
    summary = results.all_summary[results.all_summary["dataset"] == dataset]
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
        "By the test",
    ]
    note = (
        "Differences and intervals are in the metric's unit; the subject is the unit of all tests. p is adjusted over all tests of "
        "its family, and the interval is that of the test by itself. Bold: significant after correction."
    )
    head, rows = _kept(tested, kept)
    caption = "Comparisons of the models."
    return PaperTable("tests", caption, note, head, rows, *_exact(results.all_tests))


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
    """Write the table as LaTeX, for a preamble with array, booktabs and longtable.

    Where it is wider than a page, all columns get a width, in which cells are broken into lines.
    """
    columns, size = _columns(table)
    head = f"{_latex_row([Cell(name) for name in table.head])}\n\\midrule"
    body = "\n".join(map(_latex_row, table.rows))
    caption = f"\\caption{{{escaped(table.caption)}}}\n\\label{{tab:{table.name}}}"
    note = escaped(table.note)
    packages = ["array"] * (">" in columns) + ["booktabs"]
    packages += ["longtable"] * (len(table.rows) > ON_ONE_PAGE)
    lead = f"% \\usepackage{{{','.join(packages)}}} in the preamble\n"
    if len(table.rows) > ON_ONE_PAGE:
        return (
            f"{lead}{{{size}\n\\begin{{longtable}}{{@{{}}{columns}@{{}}}}\n{caption}\\\\\n\\toprule\n{head}\n\\endfirsthead\n"
            f"\\toprule\n{head}\n\\endhead\n{body}\n\\bottomrule\n\\end{{longtable}}\n\\noindent {note}\\par}}\n"
        )
    return (
        f"{lead}\\begin{{table}}\n\\centering\n{caption}\n{size}\n\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{head}\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\n\\smallskip\n\\raggedright\\footnotesize {note}\n\\end{{table}}\n"
    )


PAGE_PT, GAP_PT, NARROW_PT, SIGN_PT = 340.0, 12.0, 5.0, 4.3
"""Width of the text of a page, of the gap between columns as it is and as it is made for a wide table, and of a sign at 8 pt."""


def _columns(table: PaperTable) -> tuple[str, str]:
    """Return the columns of a table as LaTeX names them, and its size of type with the gaps between columns."""
    numbers = _numbers(table)
    columns = list(
        zip(table.head, *([cell.text for cell in row] for row in table.rows), strict=True)
    )
    whole = [max(map(len, cells)) for cells in columns]
    if sum(whole) * SIGN_PT + (len(columns) - 1) * GAP_PT <= PAGE_PT:
        return "".join("r" if number else "l" for number in numbers), "\\footnotesize"
    # A column is never narrower than its longest word; the rest of the page goes to those with more to say.
    least = [
        1 + max(len(word) for cell in cells for word in _WORDS.split(cell)) for cells in columns
    ]
    more = [max(full - word, 0) ** 0.5 for full, word in zip(whole, least, strict=True)]
    room = (PAGE_PT - (len(columns) - 1) * NARROW_PT) / SIGN_PT - sum(least)
    share = max(room, 0.0) / (sum(more) or 1.0)
    widths = [word + share * part for word, part in zip(least, more, strict=True)]
    gaps = (len(columns) - 1) * NARROW_PT / PAGE_PT / len(columns)
    parts = [
        f">{{\\ragged{'left' if number else 'right'}\\arraybackslash}}p{{{width / sum(widths) * 0.99 - gaps:.3f}\\textwidth}}"
        for width, number in zip(widths, numbers, strict=True)
    ]
    size = "\\footnotesize" if room >= 0 else "\\scriptsize"
    return "".join(parts), f"{size}\\setlength{{\\tabcolsep}}{{{NARROW_PT / 2:g}pt}}"


def _latex_row(cells: Sequence[Cell]) -> str:
    # A long name may be broken after an underscore, which LaTeX would not do.
    written = [escaped(cell.text).replace(r"\_", r"\_\allowbreak{}") for cell in cells]
    texts = [
        f"\\textbf{{{text}}}" if cell.best else text
        for cell, text in zip(cells, written, strict=True)
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
