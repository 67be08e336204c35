"""Python source as far as it matters to a result: what it imports, and its code without comments and docstrings."""

import ast
import hashlib
import io
import math
import tokenize
from typing import Any


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
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
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
    for node in reversed(ast.parse(source).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return {
                key: _plain(value, f"{name}, {key}")
                for key, value in _entries(node, name)
                if key != but
            }
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
