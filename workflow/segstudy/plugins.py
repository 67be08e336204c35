"""Plug-ins: code of the user's own in a study, by file or from an installed package.

A study file names a plug-in where it would name a part of segstudy: `./my_net.py`, or
`./my_nets.py:Wide` for one of several in a file, or `my_package.nets:Wide` of an installed package.
A job that uses one carries the digest of its code, so that an edit runs again what it can change
and nothing else. A file's plug-in may import files beside it (`own_imports`); these count too.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from segstudy import gpus, own_imports, source_code
from segstudy.errors import InputError
from segstudy.source_code import defined, parse

FILE = re.compile(r"(?P<place>[^:]*\.py)(?::(?P<name>[A-Za-z_]\w*))?")
INSTALLED = re.compile(r"(?P<place>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")
REFERENCE = rf"^(?:{re.sub('[?]P<[a-z]+>', '?:', FILE.pattern)}|{re.sub('[?]P<[a-z]+>', '?:', INSTALLED.pattern)})$"
"""What a plug-in's reference looks like, for the schema."""

CALLED_WITH = {"Network": 4, "list_cases": 1, "Trainer": 0}
"""Number of values that each kind with `options` is called with before these."""


@dataclass(frozen=True)
class Reference:
    """Hold where a plug-in is.

    Attributes
    ----------
    place
        A file, or the dotted name of a module that is installed.
    name
        What in it; empty: what its kind is called by default.
    """

    place: str
    name: str = ""

    @property
    def is_file(self) -> bool:
        """Return whether the plug-in is a file of the user's, in place of an installed module."""
        return self.place.endswith(".py")

    def __str__(self) -> str:
        """Return the reference as it is written in a study file."""
        return f"{self.place}:{self.name}" if self.name else self.place

    @property
    def file(self) -> Path:
        """Return the file that holds it. Raises InputError where there is no such installed module."""
        return Path(self.place) if self.is_file else _module_file(self.place)

    @property
    def label(self) -> str:
        """Return what people are shown: the file's name without its folder, or the module."""
        place = Path(self.place).name if self.is_file else self.place
        return f"{place}:{self.name}" if self.name else place


def short_name(text: str) -> str:
    """Return what the files of a plug-in's results are called: `my_figure`, or `my_figure-Wide` of several in a file."""
    found = reference(text)
    place = Path(found.place).stem if found.is_file else found.place.split(".")[-1]
    words = [re.sub(r"[^A-Za-z0-9_]+", "_", word) for word in (place, found.name) if word]
    return "-".join(words)


def is_reference(text: Any) -> bool:
    """Return whether a value is written as a plug-in is: it ends with `.py`, or has a colon."""
    return isinstance(text, str) and bool(FILE.fullmatch(text) or INSTALLED.fullmatch(text))


def is_same(text: str, other: str, default: str) -> bool:
    """Return whether two references name one thing: the same of the same file, however its path is written."""
    places = [
        (Path(one.place).resolve() if one.is_file else one.place, one.name or default)
        for one in (reference(text), reference(other))
    ]
    return places[0] == places[1]


def reference(text: str) -> Reference:
    """Read a plug-in's reference.

    Parameters
    ----------
    text
        `FILE.py`, `FILE.py:NAME` or `MODULE:NAME`.

    Raises
    ------
    InputError
        For anything else.
    """
    match = FILE.fullmatch(text) or INSTALLED.fullmatch(text)
    if match is None:
        raise InputError(
            f"{text!r}: not written as a plug-in; expected a file (./my_net.py, ./my_nets.py:Wide) or a name in an "
            "installed package (my_package.nets:Wide)"
        )
    return Reference(match["place"], match["name"] or "")


def check(text: str, default: str, options: Iterable[str] = ()) -> Reference:
    """Check that a plug-in is there and defines what it should, without running its code.

    Parameters
    ----------
    text
        The plug-in's reference.
    default
        The name that is looked for where the reference has none, e.g. `Network`.
    options
        Keyword arguments that it will be called with.

    Returns
    -------
    Reference
        The reference, with its name.

    Raises
    ------
    InputError
        With the file, what was found and what was expected.
    """
    found = reference(text)
    named = Reference(found.place, found.name or default)
    file = named.file
    source = _source(file)
    names = defined(source)
    # What an installed module takes over from others by a star is known only once it runs.
    if named.name not in names and (named.is_file or not _is_open(names)):
        stars = sorted(name for name in names if name.startswith("*"))
        known = sorted(name for name in names if not name.startswith(("_", "*")))
        raise InputError(
            f"{named.place}: no {named.name} in it; expected a {default}, or {'FILE.py' if named.is_file else 'MODULE'}:NAME "
            f"for another name. It has: {', '.join(known + stars) or 'nothing'}"
        )
    value = source_code.literal(source, named.name)
    if value is not None and not default.isupper():  # METRIC describes, all others are called
        raise InputError(
            f"{file}, line {value.lineno}: {named.name} is {ast.unparse(value)[:60]}; expected a class or a function"
        )
    taken = source_code.keywords(source, named.name, CALLED_WITH.get(default, 0))
    odd = [name for name in options if taken is not None and name not in taken]
    if odd:
        raise InputError(
            f"{named}: takes no option {odd[0]!r}; its options are: {', '.join(taken) or 'none'}"
        )
    return named


@cache
def digest(text: str) -> str:
    """Return the digest of a plug-in's code.

    Of a file: its code without comments and docstrings, and that of the files beside it that it imports, directly or not.
    Of an installed package: its version and the checksums of its files (RECORD), or its code where it is installed
    for editing.

    Parameters
    ----------
    text
        The plug-in's reference.

    Returns
    -------
    str
        16 hexadecimal digits. Where the file lies makes no difference.

    Raises
    ------
    InputError
        Where it can't be found or read.
    """
    found = reference(text)
    content = ("" if found.is_file else _record(found)) or _code(found.file)
    return hashlib.sha256(f"{found.name}\n{content}".encode()).hexdigest()[:16]


def recognised(text: str | None, told: str, default: str, source: str) -> str:
    """Return the reference of a plug-in, once it is known to be of the code that a file was made with.

    Parameters
    ----------
    text
        The reference that was given; a name that it lacks is the one told of.
    told
        Label and digest of the plug-in then, such as `my_net.py 4c5fa117d1973731`.
    default
        What its kind is called by default.
    source
        The file that was made with it, for the message.

    Raises
    ------
    InputError
        Where none is given, where it can't be found, or where its code is other.
    """
    label, code = label_and_code(told)
    if text is None:
        raise InputError(
            f"{source}: made with the plug-in {label} (code {code}), and holds no code itself; name the plug-in's file "
            "or module: --plugin FILE"
        )
    found = reference(text)
    named = found if found.name else Reference(found.place, reference(label).name)
    check(str(named), default)
    other = digest(str(named))
    if other != code:
        raise InputError(
            f"--plugin {text}: other code ({named.label} {other}) than {source} was made with ({label} {code}); give it "
            "as it was then, by the same file name, or train again"
        )
    return str(named)


def label_and_code(told: str) -> tuple[str, str]:
    """Split what `my_net.py 4c5fa117d1973731` tells of a plug-in: its label, and the digest of its code."""
    label, _, code = told.rpartition(" ")
    return label, code


def files(text: str) -> list[Path]:
    """Return a plug-in's file and the files beside it that it imports; none of an installed package.

    Raises
    ------
    InputError
        Where one can't be read.
    """
    found = reference(text)
    return _reached(found.file) if found.is_file else []


def stated(text: str, default: str, but: str = "") -> dict[str, Any]:
    """Return the plain values by which a plug-in describes itself, without running its code.

    Parameters
    ----------
    text
        The plug-in's reference.
    default
        The name that holds them where the reference has none, e.g. `METRIC`.
    but
        An entry that is left out, whatever it is.

    Raises
    ------
    InputError
        Where it can't be found, or its values are known only once its code runs: with file and line.
    """
    found = check(text, default)
    file = found.file
    try:
        return source_code.stated(_source(file), found.name, but)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None


def check_function(text: str, default: str, key: str, usual: str) -> None:
    """Check that a plug-in that describes itself names, under a key, a function that it has.

    Parameters
    ----------
    text, default
        As `stated` has them.
    key
        The entry that names the function, e.g. `measure`.
    usual
        The function that is taken where there is no such entry.

    Raises
    ------
    InputError
        With the file, what was found and what was expected.
    """
    found = check(text, default)
    file = found.file
    source = _source(file)
    names = defined(source)
    value = source_code.entry(source, found.name, key)
    if value is None:
        name, what = usual, f"no function {usual}"
    elif isinstance(value, ast.Name):
        name, what = value.id, f"{found.name}, {key}: no function {value.id}"
    else:
        name, what = "", f"{found.name}, {key}: {ast.unparse(value)[:60]}"
    literal = source_code.literal(source, name)
    if literal is not None:
        what = f"{name} is {ast.unparse(literal)[:60]}"
    missing = bool(name) and name not in names and not _is_open(names)
    if missing or literal is not None or isinstance(value, source_code.LITERALS):
        raise InputError(f"{file}: {what}; expected a function of the file, by its name")


def load(text: str, default: str) -> Any:
    """Run a plug-in's code and return what it defines.

    Parameters
    ----------
    text
        The plug-in's reference.
    default
        The name that is looked for where the reference has none.

    Raises
    ------
    InputError
        Where it can't be found, or its code fails: with the file, the line and Python's words.
    """
    found = check(text, default)
    with telling(text):
        if found.is_file:
            # Under a name of its own, once a process however much of it is used.
            file = found.file.resolve()
            name = f"{own_imports.PREFIX}{file.stem}_{digest(str(file))}"
            module = own_imports.imported(name, file)
        else:
            module = importlib.import_module(found.place)
    try:
        return getattr(module, found.name)
    except AttributeError:
        raise InputError(f"{found.place}: no {found.name} in it; expected a {default}") from None


def misfit(
    function: Any, values: Sequence[Any], options: Mapping[str, Any] = MappingProxyType({})
) -> tuple[inspect.Signature, TypeError] | None:
    """Return what a plug-in's function takes, and Python's words, where it does not take what it is to be called with.

    Parameters
    ----------
    function
        Of the plug-in; a class, too.
    values, options
        What it is to be called with, by place and by name.

    Returns
    -------
    None where it takes them, and of compiled code that does not tell: the call itself will.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*values, **options)
    except TypeError as error:
        return signature, error
    return None


@contextmanager
def telling(text: str) -> Iterator[None]:
    """Turn an error of a plug-in's code into a sentence with its file, line and function.

    Parameters
    ----------
    text
        The plug-in's reference.

    Raises
    ------
    InputError
        In place of any other exception but one of too little memory.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever code of others may raise, sys.exit(0) too
        if isinstance(error, MemoryError) or gpus.out_of_memory(error):
            raise  # of a GPU: a smaller batch may do, and the caller tries
        found = reference(text)
        place = found.file.resolve()
        steps = [
            step
            for step in traceback.extract_tb(error.__traceback__)
            if Path(step.filename).resolve().is_relative_to(place.parent)
            # An environment may lie in the plug-in's folder; the plug-in's own line is the one to look at.
            and "site-packages" not in Path(step.filename).resolve().relative_to(place.parent).parts
        ]
        where = (
            f"{steps[-1].filename}, line {steps[-1].lineno}, in {steps[-1].name}"
            if steps
            else str(place)
        )
        words = " ".join(str(error).split()) or "no message"
        raise InputError(
            f"plug-in {found}: {type(error).__name__}: {words} ({where}); mend the plug-in"
        ) from error


def _is_open(names: set[str]) -> bool:
    return "__getattr__" in names or any(name.startswith("*") for name in names)


def _source(file: Path) -> bytes:
    """Return a file's content. Raises InputError where it is missing or is no Python."""
    try:
        source = file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{file}: no such plug-in file ({file.absolute()})") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        parse(source)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise InputError(f"{file}{line}: not Python: {error.msg}") from None
    except ValueError as error:
        raise InputError(f"{file}: not Python: {error}") from None
    return source


def _reached(file: Path) -> list[Path]:
    """Return a file and those beside it that it imports, directly or not, in a fixed order."""
    folder, waiting, reached = file.parent, [file], []
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        reached.append(current)
        for name in parse(_source(current))[0]:
            below = name.lstrip(".")
            dots = len(name) - len(below)
            base = current.parents[min(dots, len(current.parents)) - 1] if dots else folder
            path = base.joinpath(*below.split("."))
            # Python imports `a/__init__.py` before `a/b.py`, and `from a import b` names both.
            for candidate in (
                path.with_suffix(".py"),
                path / "__init__.py",
                path.parent / "__init__.py",
            ):
                if candidate.is_file() and candidate.is_relative_to(folder):
                    waiting.append(candidate)
    return sorted(reached)


def _code(file: Path) -> str:
    """Return a line for each file that counts: its place below the plug-in's folder, and its code's digest."""
    return "\n".join(
        f"{path.relative_to(file.parent)} {parse(_source(path))[1]}" for path in _reached(file)
    )


def _module_file(module: str) -> Path:
    """Return the file of an installed module. Raises InputError where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        top = module.split(".")[0]
        raise InputError(
            f"plug-in {module}: no such module is installed; install the package that holds {top}, or name a file "
            "(./my_net.py)"
        )
    return Path(spec.origin)


def _record(installed: Reference) -> str:
    """Return version and RECORD of the package that a module is of; nothing where RECORD does not list the module's file."""
    file = installed.file.resolve()
    for name in metadata.packages_distributions().get(installed.place.split(".")[0], ()):
        distribution = metadata.distribution(name)
        listed = {Path(str(path.locate())).resolve() for path in distribution.files or ()}
        record = distribution.read_text("RECORD")
        if record and file in listed:
            return f"{name} {distribution.version} {hashlib.sha256(record.encode()).hexdigest()}"
    return ""
