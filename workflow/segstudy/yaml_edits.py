"""Edits of a YAML text that leave all else as somebody wrote it: order, layout, aliases, remarks."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from segstudy.yaml_files import parse_yaml, part_of, remarks_in, root_of

_ANCHOR = re.compile(r"(?:(?:&\S+|![^\s,\[\]{}]*)\s+)*")


class _Plain(yaml.SafeDumper):
    """Writes mappings as lines and lists on one, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Plain.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True)
)


def _lines(value: Any) -> list[str]:
    """Write a value as lines of YAML, as a person would."""
    text = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=1000)
    return text.removesuffix("...\n").splitlines()


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
        self._text, self._root, self._where = text, root_of(text, where), where
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
            place, text = (
                mark.index,
                "".join(f"{line}\n{' ' * mark.column}" for line in _lines(new)),
            )
        self._pieces[place, place] = text

    def put_section(self, key: str, values: Mapping[str, Any]) -> None:
        """Make the keys of a section of the top those of a mapping; remarks beside those that stay are left.

        Parameters
        ----------
        key
            Of the section; where there is none, nothing is written.
        values
            What it is to hold: keys that are there stay in their places, new ones come last, and its other keys go.
        """
        found = self._find((key,))
        if found is None:
            return
        node = found[1]
        if self._root.flow_style or node.start_mark.index < found[0].end_mark.index:  # an alias
            self.put((key,), dict(values))
        elif not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
            indent = found[0].start_mark.column + 2
            text = "".join(f"\n{' ' * indent}{line}" for line in _lines(dict(values)))
            start, end = node.start_mark.index, self._end(node)
            anchor = "".join(f" {one}" for one in re.findall(r"&\S+", self._anchor(start, end)))
            self._pieces[len(self._text[:start].rstrip(" ")), end] = anchor + text
        else:
            self._put_lines(node, values)

    def _put_lines(self, section: yaml.MappingNode, values: Mapping[str, Any]) -> None:
        """Write a section of lines, key by key."""
        there = {name.value: (name, value) for name, value in section.value}
        column = section.start_mark.column
        for name, (at, value) in there.items():
            if name not in values:
                start = self._text.rfind("\n", 0, at.start_mark.index) + 1
                end = self._text.find("\n", self._end(value)) + 1
                self._pieces[start, end or len(self._text)] = ""
                continue
            if parse_yaml(yaml.serialize(value), self._where) == values[name]:
                continue
            lines = _lines({name: values[name]})
            start = self._text.rfind("\n", 0, at.start_mark.index) + 1
            first = f"{self._text[start : at.start_mark.index]}{lines[0]}"
            text = "\n".join([first, *(f"{' ' * column}{line}" for line in lines[1:])])
            self._pieces[start, self._end(value)] = text
        new = {name: value for name, value in values.items() if name not in there}
        if not new:
            return
        end = self._text.find("\n", self._end(section)) + 1
        break_first = "" if end else "\n"
        end = end or len(self._text)
        lines = [f"{' ' * column}{line}\n" for line in _lines(new)]
        self._pieces[end, end] = break_first + "".join(lines)

    def _end(self, node: yaml.Node) -> int:
        """Return where a node ends, without the remarks and empty lines that follow it."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            return self._end(last[1] if isinstance(last, tuple) else last)
        start, end = node.start_mark.index, node.end_mark.index
        return start + len(self._text[start:end].rstrip())

    def _splice(self, node: yaml.Node, new: str) -> None:
        start, end = node.start_mark.index, node.end_mark.index
        old = self._text[start:end]
        anchor = " ".join(re.findall(r"&\S+", self._anchor(start, end)))
        after = "\n" if old.endswith("\n") else ""  # of a block of lines
        self._pieces.setdefault((start, end), f"{anchor} {new}{after}".lstrip(" "))

    def _anchor(self, start: int, end: int) -> str:
        """Return the anchor and tag that a piece of the text begins with."""
        return _ANCHOR.match(self._text[start:end])[0]

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
