"""The last look at published files: no name and no folder of the study in any text of any file.

Names and paths are replaced where they are written; this module finds the rest. A name is found in
any case, with and without accents and separators, inside longer words, and inside contents packed
into a file: PNG's texts, PDF's streams, base64 in pages and scripts, gzip, NIfTI headers.
"""

import ast
import base64
import csv
import gzip
import html
import io
import re
import struct
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import segstudy
from segstudy.errors import InputError

TEXTS = (".html", ".js", ".csv", ".tsv", ".md", ".tex", ".bib", ".yaml", ".json", ".txt", ".svg")
TEXTS += (".lock", ".cff", ".py", "")
_SHOWN = 5
_BASE64 = re.compile(r"[A-Za-z0-9+/]{48,}={0,2}")
_DIGEST = re.compile(r"\b[0-9a-f]{32,128}\b")
_RUNS = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z\u00df-\u00ff])(?=[A-Z\u00c0-\u00de])")
_GAP = r"[\W_]{0,3}"
_BETWEEN = r"(?:[\W_]|<[^<>]*>){0,9}"
"""Signs, or the tags of a page, that may stand between two words of a name."""
_NOT_PARTED = str.maketrans(
    {"\u00f8": "o", "\u0142": "l", "\u0111": "d", "\u00e6": "ae", "\u0153": "oe"}
)
_WRITTEN_OUT = {"\u00e4": "ae", "\u00f6": "oe", "\u00fc": "ue", "\u00f8": "oe", "\u00e5": "aa"}
"""Letters that accents are no part of, and how letters with an accent are written without."""


@dataclass(frozen=True)
class Sought:
    """A text that must not be published.

    Attributes
    ----------
    text
        As the study has it.
    what
        The text's owner, for the message.
    whole
        Whether it is looked for as words of their own, not inside longer ones; so are folders,
        whose names are often words.
    """

    text: str
    what: str
    whole: bool = False

    @cached_property
    def runs(self) -> list[str]:
        """Return its words and numbers, plain: `DOE_Jane1957` gives doe, jane, 1957."""
        return _RUNS.findall(plain(_CAMEL.sub(" ", self.text)))

    @cached_property
    def key(self) -> str:
        """Return its words and numbers as one word."""
        return "".join(self.runs)

    @cached_property
    def pattern(self) -> re.Pattern:
        """Return a pattern of the text as it may be written: at the edge of a number where it ends with one, and of a word where it is short."""
        if self.whole:
            return re.compile(r"(?<![^\W_])" + _GAP.join(self.runs) + r"(?![^\W_])")
        # A long one is found however it is parted: `doejane1957` in `Doe, Jane: 1957`.
        body = _BETWEEN.join(self.runs)
        body = f"(?:{_GAP.join(self.key)}|{body})" if len(self.key) > 7 else body
        short = len(self.key) < 6 or re.fullmatch(r"[0-9a-f]{1,8}", self.key)
        edges = [r"[^\W_]" if short else r"\d" if run.isdigit() else "" for run in self._ends]
        before, after = (
            f"(?{kind}{edge})" if edge else ""
            for kind, edge in zip(("<!", "!"), edges, strict=True)
        )
        if self.key.isdigit():  # no part of a decimal number
            edge = r"\d" if len(self.key) > 7 else r"[^\W_]"
            before, after = rf"(?<!{edge})(?<!\d[.,])", rf"(?!{edge})(?![.,]\d)"
        return re.compile(before + body + after)

    @cached_property
    def in_a_word(self) -> re.Pattern:
        """Return a pattern of a number with letters beside it: `MRN4711234`, `4711234_v2`."""
        return re.compile(
            rf"(?<=[^\W\d]){self.key}(?![.,]?\d)|(?<!\d)(?<!\d[.,]){self.key}(?=[^\W\d])"
        )

    @cached_property
    def others(self) -> list["Sought"]:
        """Return other spellings: the words of a name the other way round, letters with and without accents."""
        folded = self.text.casefold()
        spelled = {
            "".join(_WRITTEN_OUT.get(sign, sign) for sign in folded),
            re.sub("([aou])e", r"\1", folded),
        }
        if len(self.runs) > 1 and all(run.isalpha() and len(run) > 2 for run in self.runs):
            spelled.add(" ".join(self.runs[::-1]))
        spellings = [Sought(text, self.what, self.whole) for text in sorted(spelled)]
        return [other for other in spellings if other.key != self.key and len(other.key) > 2]

    @property
    def _ends(self) -> tuple[str, str]:
        return (self.runs[0], self.runs[-1])

    @property
    def is_number(self) -> bool:
        """Tell whether the text looks like a number, or a mark, that a table holds anyway."""
        most = 3 if self.text.startswith("0") else 7
        return len(self.key) < 3 or (self.key.isdigit() and len(self.key) <= most)

    @property
    def is_ordinary(self) -> bool:
        """Tell whether the text is made of words that every report holds, and so tells nothing."""
        return len(self.key) < 3 or all(
            len(run) < 4 if run.isdigit() else run in ordinary_words() for run in self.runs
        )

    @property
    def is_common(self) -> bool:
        """Tell whether the text is one ordinary word, or two of which one is short, so that no search can tell it from these."""
        return (
            self.is_ordinary
            and self.key.isalpha()
            and (len(self.runs) < 2 or min(map(len, self.runs)) < 3)
        )


@dataclass
class Leaks:
    """The texts that must not leave.

    Attributes
    ----------
    names
        Of cases and subjects.
    folders
        Parts of the study's paths.
    paths
        These paths whole.
    published
        Words that are published on purpose: names in the study file, the new names of cases.
    labels
        Names among the published words that the author gave to the study, its datasets and
        models.
    new
        The new names of cases.
    """

    names: list[Sought] = field(default_factory=list)
    folders: list[Sought] = field(default_factory=list)
    paths: list[Sought] = field(default_factory=list)
    published: Iterable[str] = ()
    labels: Iterable[str] = ()
    new: Iterable[str] = ()

    @cached_property
    def _published(self) -> set[str]:
        return {Sought(word, "").key for word in self.published}

    @cached_property
    def texts(self) -> list[Sought]:
        """Return the names and folders that are looked for in every text."""
        names = [
            name
            for name in self.names
            if name.key not in self._published and not name.is_number and not name.is_common
        ]
        # `Jane Doe` of `Jane_Doe_1957`, unless several have it: then it names no one.
        people = [
            Sought(" ".join(words), "a part of the name")
            for name in names
            if len(words := [run for run in name.runs if run.isalpha()]) > 1
            and len(words) < len(name.runs)
            and min(map(len, words)) > 2
        ]
        parts = Counter(name.key for name in people)
        names += [
            name
            for name in people
            if parts[name.key] == 1 and not name.is_ordinary and name.key not in self._published
        ]
        names += [other for name in names for other in name.others]
        folders = [
            name
            for name in self.folders
            if not any(name.key in word for word in self._published)
            and not self._beyond(name).is_ordinary
            and not name.is_number
        ]
        return [*names, *folders]

    def _beyond(self, name: Sought) -> Sought:
        """Return the part of a file's or folder's name beyond published words: `T1` of `<case>_T1`."""
        rest = name.key
        for word in sorted(self._published, key=len, reverse=True):
            rest = rest.replace(word, " ") if len(word) > 2 else rest
        return name if rest == name.key else Sought(rest, name.what)

    @cached_property
    def marks(self) -> set[str]:
        """Return the names that are numbers or marks, looked for where a table or a page names a case."""
        return {
            name.text for name in self.names if name.is_number and name.key not in self._published
        }

    @property
    def too_ordinary(self) -> list[str]:
        """Return the names that are ordinary words, which no search could tell from these."""
        return [name.text for name in self.names if name.is_common]

    @cached_property
    def numbers(self) -> list[Sought]:
        """Return names of five digits and more, which a table may hold by chance and which are looked for inside words."""
        return [
            name
            for name in self.names
            if name.is_number and len(name.key) > 4 and name.key not in self._published
        ]

    def told_by(self, label: str) -> Sought | None:
        """Return the name of a case or subject that a study, dataset or model bears too."""
        key, text = Sought(label, "").key, plain(_CAMEL.sub(" ", label))
        for name in self.names:
            if name.key == key and len(key) > 2:
                return name
            if name.is_number or name.is_ordinary:
                continue
            for way in (name, *name.others):
                if way.pattern.search(text) or way.pattern.search(plain(label)):
                    return name
        return None

    def find_in_words(self, text: str) -> tuple[Sought, str] | None:
        """Find a name or folder in the author's own words, where a number of three digits is a name too."""
        for name in self.names:
            if name.key.isdigit() and len(name.key) > 2 and (match := name.pattern.search(text)):
                return name, _around(text, *match.span())
        return self.find(text)

    @cached_property
    def _new(self) -> re.Pattern | None:
        words = sorted(self.new, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words))) if words else None

    def find(self, text: str) -> tuple[Sought, str] | None:
        """Find a name or folder in a text, and the place with the words around it."""
        if self._new:
            text = self._new.sub(" ", text)
        forms = plain(text), plain(_CAMEL.sub(" ", text))
        squeezed = ["".join(_RUNS.findall(form)) for form in forms]
        for sought in self.paths:
            at = text.find(sought.text)
            if at >= 0:
                return sought, _around(text, at, at + len(sought.text))
        for sought in self.texts:
            for form, pressed in zip(forms, squeezed, strict=True):
                # A page's tags may stand between the words of a name.
                may_match = sought.key in pressed or (
                    len(sought.runs) > 1 and all(run in pressed for run in sought.runs)
                )
                if may_match and (match := sought.pattern.search(form)):
                    return sought, _around(form, *match.span())
        for sought in self.numbers:
            if sought.key in text and (match := sought.in_a_word.search(text)):
                return sought, _around(text, *match.span())
        return None

    def find_mark(self, name: str, text: str) -> tuple[Sought, str] | None:
        """Find a name that is a number, where a table's column or a page's values name a case."""
        marks = self.marks & set(_case_names(name, text))
        return (Sought(marks := min(marks), "a case's or subject's name"), marks) if marks else None


def plain(text: str) -> str:
    """Write a text without case and accents."""
    if text.isascii():
        return text.casefold()
    apart = unicodedata.normalize("NFKD", text)
    letters = "".join(sign for sign in apart if not unicodedata.combining(sign))
    return letters.casefold().translate(_NOT_PARTED)


def _around(text: str, start: int, stop: int, more: int = 40) -> str:
    return " ".join(text[max(0, start - more) : stop + more].split())


@cache
def ordinary_words() -> frozenset[str]:
    """Collect the words that this program itself writes, which stand in every report; not those of the works it cites."""
    folder = Path(segstudy.__file__).parent
    written = [
        path.read_text(encoding="utf-8")
        for suffix in ("html", "css", "js")
        for path in folder.glob(f"publish/*.{suffix}")
    ]
    for path in folder.rglob("*.py"):
        if path.stem != "citations":
            written += _written(ast.parse(path.read_text(encoding="utf-8")))
    text = "\n".join(written)
    return frozenset(_RUNS.findall(plain(text)) + _RUNS.findall(plain(_CAMEL.sub(" ", text))))


def _written(module: ast.Module) -> Iterator[str]:
    """Yield texts and names of a module, which may be columns and keys; neither remarks nor docstrings."""
    remarks = {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield "" if id(node) in remarks else node.value
        elif isinstance(node, ast.Name | ast.Attribute | ast.arg | ast.keyword):
            yield (
                getattr(node, {ast.Name: "id", ast.Attribute: "attr"}.get(type(node), "arg")) or ""
            )


def check(
    folder: Path, leaks: Leaks, constant: Iterable[str] = (), known: Iterable[bytes] = ()
) -> None:
    """Look through every file of a folder for names and folders.

    Parameters
    ----------
    folder
        To look through.
    leaks
        Names and folders to look for.
    constant
        Texts that may stand in the files as they are, such as references.
    known
        Contents of files by others, which are let out by their bytes.

    Raises
    ------
    InputError
        With the files and the texts found.
    """
    known, leaking = set(known), []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes()
        if content in known:
            continue
        for where, text in (("its name", name), *texts(path.name, content)):
            for allowed in constant:
                text = text.replace(allowed, " ")
            hit = leaks.find(text) or leaks.find_mark(name, text)
            if hit:
                leaking.append(
                    f"{name}{where and f' ({where})'}: {hit[0].what} {hit[0].text!r}: \u201c{hit[1]}\u201d"
                )
                break
    if leaking:
        more = f"\n... and {len(leaking) - _SHOWN} files more" if len(leaking) > _SHOWN else ""
        raise InputError(
            "not published, since it would tell:\n" + "\n".join(leaking[:_SHOWN]) + more
        )


def texts(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield (where, text) of all that can be read in a file: its own text, and that of packed parts.

    Raises
    ------
    InputError
        For a kind of file that is not published.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        yield from _png(content)
    elif content.startswith(b"%PDF-"):
        yield from _pdf(content)
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        yield from _webp(content)
    elif content.startswith(b"\x1f\x8b"):
        yield from texts("", gzip.decompress(content))
    elif content[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and content[344:347] in (b"n+1", b"ni1"):
        start = int(struct.unpack("<f" if content[0] else ">f", content[108:112])[0])
        yield "header", content[: max(352, start)].decode("latin-1")
    elif Path(name).suffix in TEXTS:
        yield from _text(content)
    else:
        raise InputError(f"{name}: a {Path(name).suffix} file is not to be published")


def _text(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield a text with its escapes undone, without digests; then the contents packed in it as base64."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    packed = []

    def taken_out(match: re.Match) -> str:
        inside = _unpacked(match[0])
        packed.append(inside)
        return match[0] if inside is None else " "

    text = _DIGEST.sub(" ", _BASE64.sub(taken_out, text))
    text = html.unescape(text)
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    yield "", re.sub(r"(?:%[0-9a-fA-F]{2})+", _percent, text)
    for inside in filter(None, packed):
        yield from (("packed in it", text) for _, text in texts("", inside))


def _unpacked(word: str) -> bytes | None:
    """Decode a long word as base64; None where it only looks like that, as a path may."""
    try:
        inside = base64.b64decode(word + "=" * (-len(word) % 4))
        if not inside.startswith((b"\x89PNG", b"RIFF", b"\x1f\x8b")):
            inside.decode("utf-8")
    except ValueError:
        return None
    return inside


def _percent(match: re.Match) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")


def _png(content: bytes) -> Iterator[tuple[str, str]]:
    """All of a PNG but its pixels."""
    at = 8
    while at + 8 <= len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        data = content[at + 8 : at + 8 + length]
        if kind not in (b"IDAT", b"fdAT", b"PLTE", b"tRNS"):
            yield kind.decode("latin-1"), _inflated(data)
        at += 12 + length
        if kind == b"IEND":
            break
    yield "after its end", content[at:].decode("latin-1")


def _inflated(data: bytes) -> str:
    """Text of a chunk; where a part after its key is deflated (zTXt, iTXt, iCCP), that too."""
    text = data.decode("utf-8", "replace")
    for start in [at for at in range(len(data) - 1) if data[at] == 0x78][:20]:
        try:
            text += " " + zlib.decompressobj().decompress(data[start:]).decode("utf-8", "replace")
        except zlib.error:
            continue
    return text


def _webp(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield all of a WebP but its pixels."""
    at = 12
    while at + 8 <= len(content):
        kind, (length,) = content[at : at + 4], struct.unpack("<I", content[at + 4 : at + 8])
        if kind not in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
            yield (
                kind.decode("latin-1"),
                content[at + 8 : at + 8 + length].decode("utf-8", "replace"),
            )
        at += 8 + length + length % 2


def _pdf(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield a PDF's objects, and the words drawn on its pages, put together from their pieces."""
    yield (
        "objects",
        re.sub(rb"stream\r?\n.*?endstream", b" ", content, flags=re.DOTALL).decode("latin-1"),
    )
    streams = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        with suppress(zlib.error):
            streams.append(zlib.decompressobj().decompress(stream))
    special = _ligatures(streams)
    for stream in streams:
        drawn = []
        for block in re.findall(rb"\bBT\b(.*?)\bET\b", stream, re.DOTALL):
            pieces = re.findall(rb"\(((?:\\.|[^()\\])*)\)", block, re.DOTALL)
            letters = re.sub(rb"\\(.)", rb"\1", b"".join(pieces), flags=re.DOTALL)
            text = letters.decode("utf-16-be" if b"\0" in letters else "latin-1", "replace")
            drawn.append("".join(special.get(ord(sign), sign) for sign in text))
        yield "words drawn", "\n".join(drawn)


def _ligatures(streams: Iterable[bytes]) -> dict[int, str]:
    """Map low codes that a font's table (ToUnicode) gives to ligatures and rare signs to their texts."""
    signs_of_code: dict[int, str] = {}
    for stream in streams:
        if b"begincmap" not in stream:
            continue
        for first, signs in re.findall(rb"<(00[01][0-9a-f])> <[0-9a-f]{4}> \[(.*?)\]", stream):
            for place, sign in enumerate(re.findall(rb"<([0-9a-f]+)>", signs)):
                text = bytes.fromhex(sign.decode()).decode("utf-16-be", "replace")
                signs_of_code.setdefault(int(first, 16) + place, text)
    return {code: text for code, text in signs_of_code.items() if code < 32}


def _case_names(name: str, text: str) -> Iterator[str]:
    """Yield the names of cases and subjects: columns of a table, keys of values in a page."""
    yield Path(name).stem
    if name.endswith((".csv", ".tsv")):
        rows = csv.DictReader(io.StringIO(text), delimiter="\t" if name.endswith(".tsv") else ",")
        for row in rows:
            for column in ("case", "subject", "same_image_as", "reference_case"):
                if row.get(column):
                    yield row[column]
    elif name.endswith((".html", ".js", ".json")):
        for key in re.findall(r'"((?:\\.|[^"\\]){1,200})":', text):
            yield re.sub(r"\\(.)", r"\1", key)
