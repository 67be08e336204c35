"""Reading YAML that others may have written: no key twice, and no alias that grows without end."""

import typing
from collections.abc import Iterator
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
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *other`: keys written here override those
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, typing.Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


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
        With the line, for text that is no YAML, for a key that stands twice, for a tag that asks
        for more than plain values, and for aliases (`*a`, `<<: *a`) that stand for very many
        values.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not readable as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


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
