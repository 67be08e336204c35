"""Source without comments and docstrings: the same code to Python, with no word of its author."""

import ast
import dis
import inspect
import io
import re
import tokenize
from pathlib import Path

import pytest

from segstudy import source_code

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = [
    *sorted((REPOSITORY / "resources/plugins").glob("*.py")),
    *sorted((REPOSITORY / "workflow/segstudy").rglob("*.py"))[::25],
]

TOLD = '''#!/usr/bin/env python
# by Jane Doe, /home/jane/secret
"""Jane's network."""
from __future__ import annotations


class Network:
    """By Jane."""

    strides = 2
    """Jane's choice."""

    def empty(self):
        """Nothing but Jane's words."""

    def forward(self, images):
        try:
            pass  # Jane
        finally:
            "Jane"
        if images:
            "Jane"
        else:
            "Jane"
        match images:
            case 1:
                pass
        where = "/data/kept"
        return f"{images!r:>{self.strides}} of {where}" "\\n# kept"
'''


def test_nothing_but_code_is_left():
    bare = source_code.bare(TOLD.encode())
    assert b"Jane" not in bare and b"jane" not in bare
    assert bare.count(b"kept") == 2
    spaces = {}
    exec(bare, spaces)  # a network of nobody's, which does what it did
    assert spaces["Network"]().forward(3) == " 3 of /data/kept\n# kept"
    assert spaces["Network"]().empty() is None


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_code_without_words_is_the_same_code(path):
    """By Python's own compiler, with its option that leaves docstrings out, and by the digest."""
    source = path.read_bytes()
    bare = source_code.bare(source)
    assert source_code.parse(bare) == source_code.parse(source)
    tokens = list(tokenize.tokenize(io.BytesIO(bare).readline))
    assert not [one for one in tokens if one.type == tokenize.COMMENT]
    docstrings = [
        ast.get_docstring(node)
        for node in ast.walk(ast.parse(bare))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    assert not any(docstrings)
    assert _steps(compile(bare, "", "exec", optimize=2)) == _steps(
        compile(source, "", "exec", optimize=2)
    )


def _steps(code) -> list:
    """What a module's code does and all inside it, but for where each step lies.

    Which of two jumps of the same condition the compiler takes hangs on the lines that they lie on.
    """
    steps = [
        (
            re.sub(
                "JUMP_IF_(FALSE|TRUE)_OR_POP",
                r"POP_JUMP_IF_\1",
                re.sub("(FOR|BACK)WARD_", "", one.opname),
            ),
            "" if one.opcode in dis.hasjrel or inspect.iscode(one.argval) else one.argrepr,
        )
        for one in dis.get_instructions(code)
        if one.opname not in ("NOP", "EXTENDED_ARG")
    ]
    return [*steps, *(_steps(one) for one in code.co_consts if inspect.iscode(one))]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("def f():\n    'a'\n", "def f():\n    pass\n", True),
        ("x = 1\n'what x is'\n", "x = 1\n", True),
        ("x = 1\n", "x = 2\n", False),
        ("x = 'a'\n", "x = 'b'\n", False),
        ("def f():\n    return 'a'\n", "def f():\n    'a'\n", False),
        ("if x:\n    f()\n", "f()\n", False),
    ],
)
def test_the_digest_is_that_of_what_runs(first, second, is_same):
    one, other = (source_code.parse(text.encode())[1] for text in (first, second))
    assert (one == other) == is_same


def test_words_are_listed_with_their_lines():
    source = b'# a\n"""b\nc"""\nx = 1  # d\ny = "e"\n'
    assert source_code.words(source) == [(1, "# a"), (2, "b"), (3, "c"), (4, "# d"), (5, "e")]
    assert source_code.words(source, of_code=True) == [(5, "e")]
