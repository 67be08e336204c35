"""YAML that others may have written: no key twice, no alias that grows without end, and the line of each key."""

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from segstudy.errors import InputError
from segstudy.files import DEEPEST, LONGEST_NUMBER

MOST_VALUES = 100_000
"""Values that a file may stand for once its aliases are written out; a study has some hundred."""


class _Loader(yaml.SafeLoader):
    """Plain values alone. A key that stands twice is an error, not a silent overwrite."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem="nested too deeply", problem_mark=self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _check_size(node)
            self.check_keys(node)
        return node

    def check_keys(self, root: yaml.Node) -> None:
        """Raise MarkedYAMLError for a key that stands twice in a mapping.

        That is before any merge (`<<: *other`) is written out: a key beside it overrides the merged one. Two merges
        in one mapping are refused, since readers differ in which of them counts.
        """
        nodes, known = [root], {id(root)}
        for node in nodes:
            for part in _inside(node):
                if id(part) not in known:
                    known.add(id(part))
                    nodes.append(part)
            if isinstance(node, yaml.MappingNode):
                self._check_keys_of(node)

    def _check_keys_of(self, mapping: yaml.MappingNode) -> None:
        seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in mapping.value:
            merges = key_node.tag == "tag:yaml.org,2002:merge"
            key = "<<" if merges else self.construct_object(key_node, deep=True)
            if not isinstance(key, typing.Hashable):
                continue  # refused when it is constructed
            mark = key_node.start_mark
            if seen.setdefault((merges, key), mark) is not mark:
                places = f"on {_at(seen[merges, key])} and on {_at(mark)}"
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice, {places}; "
                    + ("write one with a list, `<<: [*a, *b]`, of which the first counts most"
                       if merges else "leave one of them out"),
                    problem_mark=mark,
                )  # fmt: skip


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) <= LONGEST_NUMBER:
        return loader.construct_yaml_int(node)
    raise yaml.MarkedYAMLError(
        problem=f"a whole number of {len(node.value):,} digits", problem_mark=node.start_mark
    )


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def read_yaml(path: Path | str, what: str = "file") -> Any:
    """Read a YAML file that others may have written.

    Parameters
    ----------
    path
        The file.
    what
        Its kind, for the message where it is missing.

    Raises
    ------
    InputError
        With line and column, for text that is no YAML, for a key that stands twice, for a tag that
        asks for more than plain values, and for aliases (`*a`, `<<: *a`) that stand for very many
        values.
    """
    return _read(path, what)[0]


def _read(path: Path | str, what: str) -> tuple[Any, yaml.Node | None]:
    """Return the values of a file and its root node, in which keys that are merged (`<<`) are written out."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return _parsed(text, str(path))


def root_of(text: str, where: str) -> yaml.Node | None:
    """Return the root node of a YAML text, merged keys (`<<`) written out. Raises InputError as `parse_yaml` does."""
    return _parsed(text, where)[1]


def remarks_in(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each remark (`# ...`) in a YAML text that can be read."""
    loader, at = _Loader(text), 0
    try:
        while loader.check_token():
            token = loader.get_token()
            start, end = token.start_mark.index, token.end_mark.index
            for found in re.finditer(r"#.*", text[at:start]):
                yield at + found.start(), at + found.end()
            if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
                head = re.match(r"[|>][^\n#]*(#.*)", text[start:end])
                if head:
                    yield start + head.start(1), start + head.end(1)
            at = max(at, end)
    finally:
        loader.dispose()


def parse_yaml(text: str, where: str) -> Any:
    """Return what a YAML text says. Raises InputError, begun with `where`, as `read_yaml` does."""
    return _parsed(text, where)[0]


def _parsed(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            return None if root is None else loader.construct_document(root), root
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", {_at(mark)}" if mark else ""
        advice = (
            "; a tab stands there: use blanks in its place" if "'\\t'" in str(error.problem) else ""
        )
        raise InputError(f"{where}{place}: not readable as YAML: {error.problem}{advice}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: not readable as YAML: {' '.join(str(error).split())}") from None


def _at(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


class KeyPlaces:
    """Tell where the keys of a YAML file stand."""

    def __init__(self, path: Path | str, aliases: Mapping[str, str] | None = None):
        """Read the file again, as `read_yaml` does; that is done only where there is something to tell.

        Parameters
        ----------
        path
            The file.
        aliases
            Key -> the name that it may have in the file instead.
        """
        self.root, self.aliases = _read(path, "file")[1], aliases or {}

    def __call__(self, *paths: Sequence[Any]) -> str:
        """Return `, line 3, column 5` of a key, or of the nearest above it that is there; else nothing.

        Parameters
        ----------
        paths
            Keys from the top of the file down; numbers are items of a list. Of several such paths the one
            counts that leads deepest, the first of equals.
        """
        deepest: list[yaml.Mark] = []
        for path in paths:
            marks = self._marks(path)
            if len(marks) > len(deepest):
                deepest = marks
        return f", {_at(deepest[-1])}" if deepest else ""

    def _marks(self, path: Sequence[Any]) -> list[yaml.Mark]:
        marks, node = [], self.root
        for key in path:
            step = part_of(node, key) or part_of(node, self.aliases.get(str(key)))
            if step is None:
                break
            name, node = step
            marks.append(name.start_mark)
        return marks


def part_of(node: yaml.Node | None, key: Any) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the node of a key and that of its value; of a list's item, its own twice. None where there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    if not isinstance(node, yaml.MappingNode):
        return None
    # The last of equal keys counts: merged ones come first.
    inside = {
        name.value: (name, value) for name, value in node.value if isinstance(name, yaml.ScalarNode)
    }
    return inside.get(str(key))


def _check_size(root: yaml.Node) -> None:
    """Raise MarkedYAMLError where aliases stand for too many values, or for what they lie in.

    Sizes are added up without writing anything out: each node once, after those inside it.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, Iterator[yaml.Node]]] = [(root, _inside(root))]
    while stack:
        node, rest = stack[-1]
        open_nodes.add(id(node))
        part = next(rest, None)
        if part is None:
            sizes[id(node)] = 1 + sum(sizes[id(inner)] for inner in _inside(node))
            if sizes[id(node)] > MOST_VALUES:
                raise yaml.MarkedYAMLError(
                    problem=f"what begins here stands for more than {MOST_VALUES:,} values, its aliases "
                    "written out; write it without so many aliases",
                    problem_mark=node.start_mark,
                )
            open_nodes.discard(id(node))
            stack.pop()
        elif id(part) in open_nodes:
            raise yaml.MarkedYAMLError(
                problem="an alias stands inside what it names", problem_mark=part.start_mark
            )
        elif id(part) not in sizes:
            stack.append((part, _inside(part)))


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
