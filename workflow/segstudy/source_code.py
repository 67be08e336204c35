"""Python source as far as it matters to a result: what it imports, and its code without comments and docstrings."""

import ast
import hashlib
import io
import math
import tokenize
from typing import Any

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
LITERALS = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.JoinedStr)


def parse(source: bytes) -> tuple[list[str], str]:
    """Parse a module's source.

    Parameters
    ----------
    source
        The file's content.

    Returns
    -------
    The names that it imports (of `from a import b` both `a` and `a.b`, of `from .a import b` both `.a` and `.a.b`), sorted, and a digest of its
    code, which comments, docstrings and formatting do not change.

    Raises
    ------
    SyntaxError, ValueError
        For what is no Python source.
    """
    tree = ast.parse(source)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots, module = "." * node.level, node.module or ""
            names.update({dots + module} if module else ())
            before = f"{dots}{module}." if module else dots
            names.update(f"{before}{alias.name}" for alias in node.names)
    code = ast.dump(_WithoutWords().visit(tree))
    return sorted(names), hashlib.sha256(code.encode()).hexdigest()


class _WithoutWords(ast.NodeTransformer):
    """Take out what no result depends on: docstrings, other texts that stand alone, and `pass`."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None


def bare(source: bytes) -> bytes:
    """Return a module's source without comments, docstrings and its layout; its digest, of `parse`, stays.

    Raises
    ------
    SyntaxError, ValueError
        For what is no Python source.
    """
    tree = _WithoutWords().visit(ast.parse(source))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        if isinstance(node, ast.Try | ast.TryStar) and not (node.handlers or node.finalbody):
            node.finalbody = [ast.Pass()]
    return f"{ast.unparse(tree)}\n".encode()


def words(source: bytes, of_code: bool = False) -> list[tuple[int, str]]:
    """List the comments and texts of a module's source, a line each with its number.

    Parameters
    ----------
    source
        The file's content.
    of_code
        Whether to leave out what `bare` does.

    Raises
    ------
    SyntaxError, ValueError
        For what is no Python source.
    """
    tree, found = ast.parse(source), []
    if of_code:
        tree = _WithoutWords().visit(tree)
    else:
        tokens = tokenize.tokenize(io.BytesIO(source).readline)
        found = [(one.start[0], one.string) for one in tokens if one.type == tokenize.COMMENT]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for number, text in enumerate(node.value.splitlines(), node.lineno):
                found.append((min(number, node.end_lineno), text))
    return sorted(found)


def defined(source: bytes) -> set[str]:
    """Return the names that a module's source defines at its top level: functions, classes, values, imports.

    What `from a import *` defines is known only once code runs: it stands as `* (...)`, which names a.
    """
    names: set[str] = set()
    for node in _top_level(source):
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = "." * getattr(node, "level", 0) + (getattr(node, "module", None) or "")
            names.update(
                f"* (whatever {module} has; import it by name)"
                if alias.name == "*"
                else (alias.asname or alias.name).split(".")[0]
                for alias in node.names
            )
        else:
            names.update(
                inner.id
                for inner in ast.walk(node)
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            )
    return names


def literal(source: bytes, name: str) -> ast.expr | None:
    """Return the text, number, list or dict that a module gives a name at its top level; None for anything else."""
    value = None
    for node in _top_level(source):
        if isinstance(node, DEFINITIONS) and node.name == name:
            value = None
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = getattr(node, "value", None)
    return value if isinstance(value, LITERALS) else None


def keywords(source: bytes, name: str, called_with: int) -> list[str] | None:
    """Return the keyword arguments of a function, or of a class's `__init__`, that a module defines.

    Parameters
    ----------
    source
        The file's content, which is not run.
    name
        Of the function or class.
    called_with
        Number of values before them.

    Returns
    -------
    Their names; None where only its code tells: `**options`, a decorator, an `__init__` that is inherited.
    """
    found = [node for node in _top_level(source) if getattr(node, "name", None) == name]
    if len(found) != 1 or not isinstance(found[0], DEFINITIONS) or found[0].decorator_list:
        return None
    function, bound = found[0], 0
    if isinstance(function, ast.ClassDef):
        methods = {node.name: node for node in function.body if isinstance(node, DEFINITIONS)}
        if "__init__" not in methods or "__new__" in methods or function.keywords:
            return None
        function, bound = methods["__init__"], 1
    arguments = function.args
    if arguments.kwarg or function.decorator_list:
        return None
    positional = [*arguments.posonlyargs, *arguments.args][bound + called_with :]
    return [one.arg for one in (*positional, *arguments.kwonlyargs)]


def _top_level(source: bytes) -> list[ast.stmt]:
    """Return a module's statements, and those inside its `if`, `try`, `with` and loops."""
    found, waiting = [], list(ast.parse(source).body)
    while waiting:
        node = waiting.pop(0)
        found.append(node)
        if not isinstance(node, DEFINITIONS):
            inner = [*getattr(node, "handlers", []), *getattr(node, "cases", [])]
            for part in (node, *inner):
                for field in ("body", "orelse", "finalbody"):
                    waiting += getattr(part, field, [])
    return found


def stated(source: bytes, name: str, but: str = "") -> dict[str, Any]:
    """Return the plain values of a dict, or of a call's keywords, that a module gives a name at its top level.

    Parameters
    ----------
    source
        The file's content, which is not run.
    name
        What it is given to: `NAME = {"a": 1}`, `NAME = dict(a=1)` or `NAME = Kind(a=1)`.
    but
        An entry that is left out, whatever it is.

    Raises
    ------
    ValueError
        Where there is no such name, and for a value that is known only once the code runs.
    """
    return {
        key: _plain(value, f"{name}, {key}")
        for key, value in _entries(_given(source, name), name)
        if key != but
    }


def entry(source: bytes, name: str, key: str) -> ast.expr | None:
    """Return what stands under a key of what `stated` reads; None where the key is missing.

    Raises ValueError as `stated` does.
    """
    return dict(_entries(_given(source, name), name)).get(key)


def _given(source: bytes, name: str) -> ast.Assign | ast.AnnAssign:
    for node in reversed(ast.parse(source).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
    raise ValueError(f"no {name} = {{...}} at the top level")


def _entries(node: ast.Assign | ast.AnnAssign, name: str) -> list[tuple[str, ast.expr]]:
    value = node.value
    if isinstance(value, ast.Call) and not value.args:
        entries = [(keyword.arg, keyword.value) for keyword in value.keywords]
    elif isinstance(value, ast.Dict):
        entries = [
            (getattr(key, "value", None), item)
            for key, item in zip(value.keys, value.values, strict=True)
        ]
    else:
        entries = [(None, None)]
    if not all(isinstance(key, str) for key, _ in entries):
        raise ValueError(f"line {node.lineno}: {name}: expected names with their values, in braces")
    return entries


_NUMBERS = {
    ast.dump(ast.parse(text, mode="eval").body): value
    for text, value in {
        "inf": math.inf, "math.inf": math.inf, "np.inf": math.inf, "numpy.inf": math.inf,
        "float('inf')": math.inf,
    }.items()
}  # fmt: skip
"""How infinity is written, beside plain values."""


def _plain(node: ast.expr, what: str) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _plain(node.operand, what)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item, what) for item in node.elts]
    if ast.dump(node) in _NUMBERS:
        return _NUMBERS[ast.dump(node)]
    if isinstance(node, ast.Constant):
        return node.value
    raise ValueError(
        f"line {node.lineno}: {what}: {ast.unparse(node)}; expected a plain value (text, a number, a list), since it "
        "is read without running the code"
    )
