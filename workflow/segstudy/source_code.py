"""Python source as far as it matters to a result: what it imports, and its code without comments and docstrings."""

import ast
import hashlib


def parse(source: bytes) -> tuple[list[str], str]:
    """Parse a module's source.

    Parameters
    ----------
    source
        The file's content.

    Returns
    -------
    The names that it imports (of `from a import b` both `a` and `a.b`), sorted, and a digest of its
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
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            del body[0]
    return sorted(names), hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def defined(source: bytes) -> set[str]:
    """Return the names that a module's source defines at its top level: functions, classes, values, imports."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        else:
            names.update(
                inner.id
                for inner in ast.walk(node)
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            )
    return names


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
