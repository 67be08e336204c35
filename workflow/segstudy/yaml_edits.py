"""Edits of a YAML text that leave all else as somebody wrote it: order, layout, aliases, remarks."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from segstudy.yaml_files import part_of, remarks_in, root_of

_ANCHOR = re.compile(r"(?:(?:&\S+|![^\s,\[\]{}]*)\s+)*")


class YamlText:
    """A YAML text, and what is to be written in it in place of what stands there."""

    def __init__(self, text: str, where: str):
        """Read the text.

        Parameters
        ----------
        text
            The YAML.
        where
            Its file, for the error.

        Raises
        ------
        InputError
            Where it cannot be read, as `read_yaml` does.
        """
        self._text, self._root = text, root_of(text, where)
        self._pieces: dict[tuple[int, int], str] = {}

    def _find(self, keys: Sequence[Any]) -> tuple[yaml.Node, yaml.Node] | None:
        found, node = None, self._root
        for key in keys:
            found = part_of(node, key)
            if found is None:
                return None
            node = found[1]
        return found

    def put(self, keys: Sequence[Any], value: Any) -> None:
        """Write a value at a key; of a list with as many items, item by item where they differ.

        Parameters
        ----------
        keys
            From the top down; where there is no such key, nothing is written. What stands in one place
            for several keys, by an alias or a merge, is written once: the first time counts.
        value
            A text, number, list or mapping.
        """
        found = self._find(keys)
        if found is None:
            return
        node = found[1]
        items = node.value if isinstance(node, yaml.SequenceNode) else ()
        if isinstance(value, (list, tuple)) and len(items) == len(value):
            for place, (item, new) in enumerate(zip(items, value, strict=True)):
                if not isinstance(item, yaml.ScalarNode) or item.value != new:
                    self.put((*keys, place), new)
        else:
            self._splice(node, json.dumps(value, ensure_ascii=False))

    def rename(self, keys: Sequence[Any], name: str) -> None:
        """Give a key, named from the top down, another name, where there is one."""
        found = self._find(keys)
        if found is not None:
            self._splice(found[0], name)

    def begin_with(self, values: Mapping[str, Any]) -> None:
        """Write keys before all others of the top; those that are there get the value where they stand."""
        new = {key: value for key, value in values.items() if self._find((key,)) is None}
        for key in values.keys() - new.keys():
            if self._find((key,))[1].value != str(values[key]):
                self.put((key,), values[key])
        if not new or not isinstance(self._root, yaml.MappingNode):
            return
        mark = self._root.start_mark
        if self._root.flow_style:
            pairs = json.dumps(new, ensure_ascii=False)[1:-1]
            place, text = mark.index + 1, f"{pairs}, "
        else:
            lines = yaml.safe_dump(new, sort_keys=False, allow_unicode=True).splitlines()
            place, text = mark.index, "".join(f"{line}\n{' ' * mark.column}" for line in lines)
        self._pieces[place, place] = text

    def _splice(self, node: yaml.Node, new: str) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        old = self._text[start:end]
        anchor = " ".join(re.findall(r"&\S+", _ANCHOR.match(old)[0]))
        after = "\n" if old.endswith("\n") else ""  # of a block of lines
        self._pieces.setdefault((start, end), f"{anchor} {new}{after}".lstrip(" "))

    def text(self, remark: Callable[[str], str]) -> str:
        """Return the text with all that was written into it.

        Parameters
        ----------
        remark
            Remark (`# ...`) -> what stands in its place; nothing takes it out, with its line where it has
            one of its own.
        """
        pieces = dict(self._pieces)
        for start, end in remarks_in(self._text):
            old = self._text[start:end]
            new = remark(old)
            if not new:
                start = len(self._text[:start].rstrip(" \t"))
                alone = start == 0 or self._text[start - 1] == "\n"
                end += alone and self._text[end : end + 1] == "\n"
            if new != old:
                pieces[start, end] = new
        written, at = [], 0
        for (start, end), new in sorted(pieces.items()):
            if start >= at:
                written += [self._text[at:start], new]
                at = end
        return "".join([*written, self._text[at:]])
