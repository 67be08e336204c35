"""Checklists for reviewers, filled from what ran: each item, its answer or who has to give one, and where it stands."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segstudy.files import write_text
from segstudy.publish import redaction
from segstudy.publish.checklist_items import CHECKLISTS, Checklist, Item, items
from segstudy.publish.facts import FACTS, there
from segstudy.publish.results import Results
from segstudy.publish.words import markdown
from segstudy.study import Reporting

FOLDER = "checklists"
AUTHOR, RECORDED, STATED = "author", "recorded", "stated by the authors"
_YES = {True: "Yes.", False: "No."}


@dataclass(frozen=True)
class Answered:
    """An item with its answer.

    Attributes
    ----------
    item
        The item.
    answer
        What is on record, or stated; empty where neither is.
    by
        Who answers: `recorded`, `stated by the authors`, both, or `author`: to be filled in.
    to_fill
        What is left to the authors: fields of the study file, and what is not on record.
    places
        Where it stands: anchors of the report, and files of the zip.
    """

    item: Item
    answer: str
    by: str
    to_fill: tuple[str, ...]
    places: tuple[str, ...]

    @property
    def told_by(self) -> str:
        """Return who answers, and whether in part."""
        return f"{self.by}, in part" if self.answer and self.to_fill else self.by

    @property
    def shown(self) -> str:
        """Return the answer, with what is left to the authors."""
        fields = ", ".join(self.to_fill)
        if not self.answer:
            return f"author: {fields}" if fields else "author: in the paper; nothing is on record"
        return f"{self.answer} (author: {fields})" if fields else self.answer


def answered(results: Results, checklist: Checklist) -> list[Answered]:
    """Answer each item of a checklist from the results and the `reporting` block of the study file."""
    told: dict[str, str] = {}
    sections, reporting = there(results), public_reporting(results)
    answers = [_answer(results, item, told, reporting) for item in items(checklist.name)]
    return [
        replace(one, places=tuple(p for p in one.places if not p.startswith("#") or p in sections))
        for one in answers
    ]


def _answer(results: Results, item: Item, told: dict[str, str], reporting: Reporting) -> Answered:
    """Answer an item; `told` keeps facts that were told before."""
    texts, kinds, to_fill, optional, places, lacking = [], [], [], [], [], []
    for name in item.names:
        field = name.removesuffix("?")
        if field.startswith("reporting."):
            text = stated(reporting, field)
            if text:
                kinds.append(STATED)
                places.append("#settings")
                # What the authors may say in place of a record stands for what it lacks.
                lacking = lacking if field == name else []
            else:
                (to_fill if field == name else optional).append(field)
        else:
            if name not in told:
                told[name] = FACTS[name].tell(results)
            text = told[name]
            lacking += filter(None, [FACTS[name].lacks(results)])
            if text:
                kinds.append(RECORDED)
                places += FACTS[name].places
        if text:
            texts.append(text)
    if not texts:
        to_fill += optional
    to_fill += dict.fromkeys(lacking)
    by = " and ".join(dict.fromkeys(kinds)) or AUTHOR
    return Answered(item, " ".join(texts), by, tuple(to_fill), tuple(dict.fromkeys(places)))


def public_reporting(results: Results) -> Reporting:
    """Return what the authors state as others may read it, with roles for paths."""
    return redaction.redacted(results.study).reporting


def stated(reporting: Reporting, name: str) -> str:
    """Return what the authors state in a field such as `reporting.availability.code`, as a sentence; empty where they state nothing."""
    value: Any = reporting
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    if isinstance(value, bool):
        return _YES[value]
    text = " ".join(map(_sentence, value)) if isinstance(value, tuple) else _sentence(value or "")
    return text


def _sentence(text: str) -> str:
    """End a text with a full stop."""
    text = " ".join(text.split())
    return f"{text}." if re.search(r"[\w)\]]$", text) else text


def write_checklists(results: Results, folder: Path) -> None:
    """Write each checklist as HTML, Markdown and CSV."""
    for checklist in CHECKLISTS:
        answers = answered(results, checklist)
        path = folder / checklist.name
        write_text(path.with_suffix(".csv"), as_csv(answers))
        write_text(path.with_suffix(".md"), as_markdown(checklist, answers))
        write_text(path.with_suffix(".html"), as_html(checklist, answers))


HEAD = ("number", "section", "item", "answer", "answered by", "left to the authors", "where")
COLUMNS = tuple(name.replace(" ", "_") for name in HEAD)


def as_csv(answers: Sequence[Answered]) -> str:
    """Write the answers as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in answers:
        where = "; ".join(
            f"report.html{place}" if place.startswith("#") else place for place in one.places
        )
        row = [one.item.number, one.item.section, one.item.text, one.answer, one.told_by]
        writer.writerow([*row, "; ".join(one.to_fill), where])
    return text.getvalue()


def _summary(answers: Sequence[Answered]) -> str:
    """Count the items by who answers them."""
    whole = sum(not one.to_fill and bool(one.answer) for one in answers)
    parts = sum(bool(one.to_fill) and bool(one.answer) for one in answers)
    return (
        f"Of {len(answers)} items, {whole} are answered from what ran and from what the authors state, {parts} in part, and "
        f"{len(answers) - whole - parts} are left to the authors. An answer says what is on record; whether it is enough, a "
        "person judges. Places are sections of the report and files of the zip."
    )


def as_markdown(checklist: Checklist, answers: Sequence[Answered]) -> str:
    """Write the answers as Markdown."""
    lines = [
        f"# {checklist.title}",
        "",
        f"{checklist.source}.",
        "",
        checklist.note,
        "",
        _summary(answers),
        "",
    ]
    section = None
    for one in answers:
        if one.item.section != section:
            section = one.item.section
            lines += ["", f"## {section}", "", "| | item | answer | where |", "|---|---|---|---|"]
        where = "; ".join(
            f"report{place}" if place.startswith("#") else f"`{place}`" for place in one.places
        )
        cells = (one.item.number, markdown(one.item.text), markdown(one.shown), where)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #d5dae0; overflow-wrap: break-word; }
thead th { border-bottom: 2px solid #5b6570; }
tr.section th { padding-top: 1.2rem; font-size: 1.05rem; }
td:first-child { white-space: nowrap; }
td.item { width: 16rem; }
td.by { width: 8rem; font-size: .9rem; }
td.where { width: 10rem; font-size: .85rem; }
.author { font-weight: 650; border-left: 4px solid #8a5a00; padding-left: .4rem; display: block; margin-top: .2rem; }
@page { size: A4; margin: 15mm; }
@media print { body { font-size: 8.5pt; margin: 0; max-width: none; } tr { break-inside: avoid; } thead { display: table-header-group; } }
"""
SECTIONS = {
    "#overview": "Overview", "#data": "Data", "#repair": "Label repair", "#training": "Training", "#results": "Results",
    "#results-verdicts": "Verdicts", "#results-metrics": "All metrics", "#tests": "Tests", "#cases": "Cases",
    "#methods": "Methods", "#provenance": "Provenance", "#settings": "Settings", "#warnings": "Warnings",
}  # fmt: skip
"""Anchor of the report -> how the section is called."""


def as_html(checklist: Checklist, answers: Sequence[Answered]) -> str:
    """Write the answers as a page that needs no network; its links lead to the report two folders up."""
    rows, section = [], None
    for one in answers:
        if one.item.section != section:
            section = one.item.section
            rows.append(
                f'<tr class="section"><th colspan="5" scope="rowgroup">{html.escape(section)}</th></tr>'
            )
        fields = ", ".join(one.to_fill) or (
            "" if one.answer else "in the paper; nothing is on record"
        )
        answer = html.escape(one.answer, quote=False)
        if fields:
            answer += f'<span class="author">author: {html.escape(fields)}</span>'
        where = "<br>".join(map(_place, one.places))
        rows.append(
            f"<tr><td>{html.escape(one.item.number)}</td><td class='item'>{html.escape(one.item.text, quote=False)}</td><td>{answer}</td>"
            f'<td class="by">{one.told_by}</td><td class="where">{where}</td></tr>'
        )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("No.", "Item", "Answer", "Answered by", "Where")
    )
    source = re.sub(
        r"(https://\S+)", r'<a href="\1">\1</a>', html.escape(checklist.source, quote=False)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, '
        f'initial-scale=1">\n<title>{checklist.title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{checklist.title}</h1>\n'
        f"<p>{source}.</p>\n<p>{checklist.note}</p>\n<p>{_summary(answers)}</p>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody>\n</table>\n</body>\n</html>\n"
    )


def _place(place: str) -> str:
    """Write a place as HTML: a link into the report, or a file of the zip."""
    if place.startswith("#"):
        return f'<a href="../../report.html{place}">{SECTIONS[place]}</a>'
    return f"<code>{html.escape(place)}</code>"
