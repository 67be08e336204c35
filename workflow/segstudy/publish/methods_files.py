"""The methods text as files: Markdown, LaTeX and HTML that Word opens, with what they cite as BibTeX."""

import html
import re
from pathlib import Path

from segstudy.files import write_text
from segstudy.publish import rerun
from segstudy.publish.citations import CITED, REFERENCES
from segstudy.publish.latex import escaped
from segstudy.publish.methods import methods
from segstudy.publish.results import Results
from segstudy.publish.words import markdown

FREE = "This text is free to use (CC0 1.0)."

Parts = list[tuple[str, str]]
"""Headings and texts of `methods`, with citations as `[[key]]`."""


def write_methods(results: Results, folder: Path, origin: rerun.Code) -> None:
    """Write the methods text in each format, and `references.bib` beside them.

    Parameters
    ----------
    results
        Of the study.
    folder
        To write to.
    origin
        The segstudy that runs.
    """
    parts = methods(results)
    write_text(folder / "methods.md", as_markdown(parts))
    write_text(folder / "methods.tex", as_latex(parts))
    write_text(folder / "methods.html", as_html(parts))
    write_text(folder / "references.bib", rerun.bibliography(cited(parts), results.study, origin))


def cited(parts: Parts) -> list[str]:
    """Return the keys of what is cited, each once, in their order."""
    return list(dict.fromkeys(key for _, text in parts for key in CITED.findall(text)))


def _by_turns(text: str) -> tuple[list[str], list[str]]:
    """Split a text into words and the keys between them."""
    pieces = CITED.split(text)
    return pieces[::2], pieces[1::2]


def as_markdown(parts: Parts) -> str:
    """Write the methods as Markdown: names as they are, citations as pandoc reads them."""
    text = "\n\n".join(f"## {heading}\n\n{part}" for heading, part in parts)
    pieces = CITED.split(text)
    pieces[::2] = map(markdown, pieces[::2])
    pieces[1::2] = [f"[@{key}]" for key in pieces[1::2]]
    return f"# Methods\n\n{''.join(pieces)}\n\n{FREE}\n"


def as_latex(parts: Parts) -> str:
    """Write the methods as a LaTeX document that cites by the keys of `references.bib`; neighbours share one citation."""
    body = []
    for heading, text in parts:
        words, keys = _by_turns(text)
        pieces = [escaped(words[0])]
        for key, following in zip(keys, words[1:], strict=True):
            pieces += [f"\\cite{{{key}}}", escaped(following)]
        joined = "".join(pieces).replace(" \\cite", "~\\cite")
        joined = re.sub(r"\}~\\cite\{", ",", joined)
        body.append(f"\\section*{{{escaped(heading)}}}\n\n{joined}")
    return "\n".join(
        [
            "% The methods text; copy its sections into your paper, or set it as it is: pdflatex, bibtex, pdflatex twice.",
            f"% {FREE}",
            r"\documentclass{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{textcomp}",
            r"\begin{document}",
            "",
            "\n\n".join(body),
            "",
            r"\bibliographystyle{unsrt}",
            r"\bibliography{references}",
            r"\end{document}",
            "",
        ]
    )


def as_html(parts: Parts) -> str:
    """Write the methods as plain HTML, which Word and LibreOffice open: headings, paragraphs and a numbered list of references."""
    numbers = {key: place for place, key in enumerate(cited(parts), start=1)}
    lines = ["<h1>Methods</h1>"]
    for heading, text in parts:
        words, keys = _by_turns(text)
        pieces = [html.escape(words[0], quote=False)]
        for key, following in zip(keys, words[1:], strict=True):
            pieces += [f"[{numbers[key]}]", html.escape(following, quote=False)]
        lines += [f"<h2>{html.escape(heading, quote=False)}</h2>", f"<p>{''.join(pieces)}</p>"]
    lines += ["<h2>References</h2>", "<ol>"]
    for key in numbers:
        one = REFERENCES[key]
        link = (
            f' <a href="{html.escape(one.link)}">{html.escape(one.doi or one.link)}</a>'
            if one.link
            else ""
        )
        lines.append(f"<li>{html.escape(one.text, quote=False)}{link}</li>")
    lines += ["</ol>", f"<p>{FREE}</p>"]
    return page("Methods", "\n".join(lines))


def page(title: str, body: str) -> str:
    """Return a page of plain HTML, without a style of its own."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
