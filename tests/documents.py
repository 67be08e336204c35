"""The pages of the documentation, and what can be tested of them: blocks, commands, links and headings.

    python tests/documents.py    # prints how many there are of each

How a YAML block is read as a study file (`study_text`): a block that is no whole study file is completed. What lacks is
taken from `HOST`, a study of one dataset and two networks, whose dataset a comment above the block may change:
`<!-- dataset: {structures: {liver: 1}} -->`. A block of a dataset's own keys (`repair: ...`) is put into the host's dataset, one of a
model's own keys (`loss: ...`) into the host's U-Net, one of a dataset under its name into `datasets`. A dataset without modality
or structures takes the host's. Lines that give one key several times are alternatives, each read by itself. `[[...], ...]` stands for
a matrix. A block of settings for Snakemake (`set-resources`) is a profile.
"""

import copy
import re
import shlex
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segstudy.yaml_files import parse_yaml

REPOSITORY = Path(__file__).resolve().parents[1]
HOST = {
    "datasets": {
        "host": {
            "source": {"layout": "table", "path": "cases.tsv"},
            "modality": "CT",
            "structures": {"heart": 1, "aorta": 2},
        }
    },
    "models": {"enet": {"network": "enet"}, "unet3d": {"network": "unet"}},
}
BUILT = {
    "licences.md",
    "tables.md",
    "command_line.md",
    "formulas.md",
    "contributing.md",
    "gallery.md",
    "figures",
}
"""Pages that each build writes from the code, and the folder of their pictures (`docs/conf.py`)."""
PROFILE_KEYS = {"default-resources", "set-resources", "set-threads"}
MATRIX = "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    page
        Path from the repository's root.
    line
        Of the fence, from 1.
    language
        As the fence has it.
    text
        Its lines, set back where the block is set in.
    above
        The lines above that are not empty, to the next empty one.
    """

    page: str
    line: int
    language: str
    text: str
    above: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the pages in Markdown that people wrote or that come of the types, in a fixed order."""
    folders = ("", "docs", "config", "benchmarks", "results")
    found = [path for folder in folders for path in sorted((REPOSITORY / folder).glob("*.md"))]
    return [path for path in found if path.name not in BUILT]


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, those of a language where one is named."""
    found, lines = [], path.read_text(encoding="utf-8").splitlines()
    page = str(path.relative_to(REPOSITORY))
    start = None
    for number, line in enumerate(lines):
        fence = re.match(r"( *)```(\S*)(?: .*)?$", line)
        if not fence:
            continue
        if start is None:
            start, indent, kind = number, len(fence[1]), fence[2]
            continue
        text = "\n".join(
            one[indent:] if not one[:indent].strip() else one for one in lines[start + 1 : number]
        )
        above = "\n".join(lines[:start]).rstrip().rpartition("\n\n")[2]
        found.append(Block(page, start + 1, kind, text + "\n", above))
        start = None
    assert start is None, f"{page}: the block of line {start + 1} has no end"
    return [one for one in found if language in (None, one.language)]


def prose(path: Path) -> str:
    """Return a page without its fenced blocks, each line where it was."""
    text = path.read_text(encoding="utf-8")
    fenced = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
    return fenced.sub(lambda found: "\n" * found[0].count("\n"), text)


# --- commands -----------------------------------------------------------------------------------


def commands(lines: list[str]) -> list[str]:
    """Commands of a text, one a line or going on while a backslash or an open quote asks for it."""
    found, open_lines = [], ""
    for line in lines:
        open_lines += line
        try:
            whole = not line.endswith("\\") and bool(shlex.split(open_lines, comments=True) or 1)
        except ValueError:
            whole = False
        if whole:
            found.append(open_lines.strip())
        open_lines = "" if whole else f"{open_lines}\n"
    return [command for command in found if command]


INLINE = re.compile(r"`((?:segstudy|snakemake|make|pytest|python) [^`]+)`")
"""Commands within sentences."""


def shown_commands(path: Path, *, sentences: bool = True) -> list[str]:
    """Return the commands of a page: of its blocks of the shell, then those within its sentences."""
    lines = [line for block in blocks(path, "sh") for line in block.text.splitlines()]
    inline = [" ".join(one.split()) for one in INLINE.findall(prose(path)) if sentences]
    return [re.sub(r"\s+#.*", "", command) for command in [*commands(lines), *inline]]


# --- YAML ---------------------------------------------------------------------------------------


def alternatives(text: str) -> list[str]:
    """Return the lines of a block that gives one key several times, a line each; of any other, the block."""
    keys = re.findall(r"^(\w[\w-]*):", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line.strip()]
    return lines if len(set(keys)) < len(keys) == len(lines) else [text]


def study_of(block: Block, text: str, keys: Mapping[str, Set[str]]) -> dict[str, Any]:
    """Return what a study file holds that is completed from a fragment.

    text: of the block, or of one of its alternatives. keys: those that a `study`, a `dataset` and a `model` may have.
    """
    content = parse_yaml(text.replace("[[...], ...]", MATRIX), str(block))
    study = copy.deepcopy(HOST)
    dataset = study["datasets"]["host"]
    if said := re.search(r"<!-- dataset: (.+) -->\s*$", block.above):
        dataset |= parse_yaml(said[1], str(block))
    if content.keys() <= keys["study"]:
        study |= content
        for own in content.get("datasets", {}).values():
            for key in ("modality", "structures"):
                own.setdefault(key, dataset[key])
    elif content.keys() <= keys["dataset"]:
        dataset |= content
    elif content.keys() <= keys["model"]:
        study["models"]["unet3d"] |= content
    else:
        study["datasets"] = content
    return study


# --- links --------------------------------------------------------------------------------------


def links(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and target of each link and picture of a page, those within its blocks left out."""
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    for number, line in enumerate(text.splitlines(), 1):
        for target in re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", line):
            yield number, target
        for target in re.findall(r"^\[[^\]]+\]:\s*(\S+)", line):
            yield number, target


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site that hosts the repository makes them, and the build of the pages."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *#*$", prose(path), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        plain = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        times = sum(re.fullmatch(rf"{re.escape(plain)}(-\d+)?", one) is not None for one in found)
        found.append(f"{plain}-{times}" if times else plain)
    return set(found)


def main() -> None:
    """Print how many pages, blocks, commands and links there are."""
    every = pages()
    counts = {
        "YAML blocks, read as study files": sum(len(blocks(path, "yaml")) for path in every),
        "shell blocks": sum(len(blocks(path, "sh")) for path in every),
        "commands, in blocks and sentences": sum(len(shown_commands(path)) for path in every),
        "links": sum(1 for path in every for _ in links(path)),
    }
    print(
        f"{len(every)} pages: " + ", ".join(f"{number} {what}" for what, number in counts.items())
    )


if __name__ == "__main__":
    main()
