"""Patterns of file names such as `{subject}/{subject}_T1w.nii.gz`; light, since the workflow imports it.

A name in braces stands for any text within one part of a path, and for the same text wherever it stands
again; `*` stands for any text within a part, and need not be the same twice.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segstudy.images.names import composed

SUBJECTS = ("subject", "patient", "participant", "person", "sub")
"""Names of the person in a pattern; the first that stands in it is taken."""
SPLIT, FOLD = "split", "fold"
_TOKEN = re.compile(r"\{[^{}/]*\}|\*|[^{}*]+|.")
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


@dataclass(frozen=True)
class Pattern:
    """Hold a pattern of a path below a dataset's folder.

    Parameters
    ----------
    text
        As a person writes it, with `/` between its parts.
    """

    text: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names in braces, each once, in their order."""
        return tuple(dict.fromkeys(re.findall(r"\{(\w+)\}", self.text)))

    @cached_property
    def written_out(self) -> tuple[int, int]:
        """Count the characters that are written out, of the file's name and of the whole: more of them say more."""
        literal = re.sub(r"\{\w+\}|\*", "", self.text)
        return len(literal.rpartition("/")[2]), len(literal)

    @cached_property
    def parts(self) -> tuple[re.Pattern, ...]:
        """Return the expression of each part of the path; a name is any text in each of them anew."""
        return tuple(re.compile(_expression(part)) for part in composed(self.text).split("/"))

    @cached_property
    def _whole(self) -> re.Pattern:
        return re.compile(_expression(composed(self.text)))

    def match(self, path: str) -> dict[str, str] | None:
        """Return what each name stands for in a path; None where the pattern does not match it."""
        found = self._whole.fullmatch(composed(path))
        return found.groupdict() if found else None

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the pattern with values in place of the names that have one."""
        return re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], name[0]), self.text)


def _expression(text: str) -> str:
    """Return the regular expression of a pattern, or of a part of one."""
    seen, found = set(), ""
    for token in _TOKEN.findall(text):
        name = token[1:-1]
        if token == "*":
            found += "[^/]*"
        elif not token.startswith("{"):
            found += re.escape(token)
        elif name in seen:
            found += f"(?P={name})"
        else:
            seen.add(name)
            found += f"(?P<{name}>[^/]+?)"
    return found


def check_pattern(text: str) -> str:
    """Return a pattern as it is.

    Raises
    ------
    ValueError
        For one that is no path below a folder, and for braces that hold no name.
    """
    parts = text.split("/")
    if not text or text.startswith(("/", "~", "$")) or ".." in parts:
        raise ValueError(
            f"{text!r}: expected a path below source.path; for files of two folders, let source.path be "
            "the folder above both"
        )
    if "" in parts or "." in parts:
        raise ValueError(f"{text}: an empty part of a path; expected one / between two parts")
    if "**" in text:
        raise ValueError(
            f"{text}: ** is not known; * stands for any text within one part of a path: write */* for two parts"
        )
    free = re.search(r"(\{\w+\}|\*)(\{\w+\}|\*)", text)
    if free:
        raise ValueError(
            f"{text}: nothing between {free[1]} and {free[2]} says where the one ends and the other begins"
        )
    for token in _TOKEN.findall(text):
        if ("{" in token or "}" in token) and not _NAME.fullmatch(token[1:-1]):
            raise ValueError(
                f"{text}: found {token}; expected a name of letters, digits and _ between braces, such as {{case}}"
            )
    return text


class Folder:
    """A folder whose entries are looked up part by part; each folder on the way is listed once."""

    def __init__(self, root: Path | str):
        self.root = Path(root)
        self._listed: dict[str, list[str]] = {}

    def found(self, pattern: Pattern) -> dict[str, dict[str, str]]:
        """Return the paths that a pattern matches, sorted, below the root, with what its names stand for there.

        A path may be a folder's. Entries whose names begin with a point count where the pattern's do.
        """
        paths = [""]
        for text, expression in zip(pattern.text.split("/"), pattern.parts, strict=True):
            paths = [
                f"{path}/{name}" if path else name
                for path in paths
                for name in self._matching(path, text, expression)
            ]
        matches = {path: pattern.match(path) for path in sorted(paths)}
        return {path: values for path, values in matches.items() if values is not None}

    def _matching(self, path: str, text: str, expression: re.Pattern) -> list[str]:
        """Return the entries of a folder that a part of a pattern matches."""
        names = self.entries(path)
        if text.isascii() and not re.search(r"[{*]", text):  # most parts are a plain name
            return [text] if text in names else []
        return [
            name
            for name in names
            if expression.fullmatch(composed(name)) and (text[0] == "." or name[0] != ".")
        ]

    def entries(self, path: str) -> list[str]:
        """Return the names of what is in a folder; none where it is no folder."""
        if path not in self._listed:
            try:
                self._listed[path] = os.listdir(self.root / path)
            except OSError:  # a file, or a folder that nobody may read
                self._listed[path] = []
        return self._listed[path]


def matching_files(root: Path | str, patterns: Iterable[str]) -> list[Path]:
    """Return the files below a folder that any of the patterns matches, and those in folders that one matches."""
    folder, files = Folder(root), set()
    for text in patterns:
        for path in map(folder.root.joinpath, folder.found(Pattern(text))):
            inside = path.rglob("*") if path.is_dir() else [path]
            files |= {file for file in inside if file.is_file() and not file.name.startswith(".")}
    return sorted(files)


def nearest(path: str, patterns: Mapping[str, Pattern]) -> str:
    """Say which pattern comes nearest to a path that none matches, and where the two part.

    Parameters
    ----------
    path
        Below the dataset's folder, with `/` between its parts.
    patterns
        Role, such as `label`, -> its pattern.
    """

    def likeness(role: str) -> tuple[int, bool, float]:
        pattern = patterns[role]
        same = [one for one in pattern.parts if any(map(one.fullmatch, parts))]
        alike = difflib.SequenceMatcher(None, pattern.text, path, autojunk=False).ratio()
        return len(same), len(pattern.parts) == len(parts), alike

    parts = composed(path).split("/")
    role = max(patterns, key=likeness)
    return f"nearest is {role}: {patterns[role].text}, but {_difference(parts, patterns[role])}"


def _difference(parts: list[str], pattern: Pattern) -> str:
    written = pattern.text.split("/")
    if len(parts) != len(written):
        deep = len(parts) - len(written)
        folders = f"{abs(deep)} folder{'s' if abs(deep) > 1 else ''}"
        return f"this lies {folders} {'deeper' if deep > 0 else 'higher'}"
    for part, text, expression in zip(parts, written, pattern.parts, strict=True):
        if not expression.fullmatch(part):
            return f"{part} is not {text}"
    return "a name in braces stands for two different texts"
