"""The page of licences: of every package that `requirements.lock` installs, by its own metadata."""

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

LONGEST = 60
"""Characters up to which a licence field is a name and not the licence's text."""


def page(lock: Path) -> str:
    """Return the page as Markdown. lock: lines `name==version`."""
    names = [line.split("==") for line in lock.read_text().split() if "==" in line]
    rows = [f"| {name} | {version} | {licence(name)} |" for name, version in sorted(names)]
    return "\n".join(
        [
            "# Licences",
            "",
            "segstudy is under the MIT licence, whose text stands below. NiiVue (`workflow/segstudy/publish/niivue`), which the viewer ships, is "
            "BSD-2-Clause. What `make demo` installs:",
            "",
            "| package | version | licence |",
            "|---|---|---|",
            *rows,
            "",
            "## The licence of segstudy",
            "",
            "```text",
            lock.with_name("LICENSE").read_text(encoding="utf-8").rstrip(),
            "```",
            "",
        ]
    )


def licence(name: str) -> str:
    """Return a package's licence: its expression, its classifiers or the first line of its field."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return "(not installed here)"
    if found.get("License-Expression"):
        return found["License-Expression"]
    kinds = [
        line.rsplit(" :: ", 1)[1]
        for line in found.get_all("Classifier", [])
        if line.startswith("License :: ") and not line.endswith(":: OSI Approved")
    ]
    text = (found.get("License") or "").strip().splitlines()
    named = text[0] if text and len(text[0]) <= LONGEST else ""
    return ", ".join(kinds) or named or "(see the package)"
