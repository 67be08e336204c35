"""YAML of others: plain values, within bounds, or one line that says where it is not."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.errors import InputError
from segstudy.study.reading import read_study
from segstudy.yaml_files import MOST_VALUES, KeyPlaces, read_yaml

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)
"""A billion laughs: ten values, ten times over, nine times: 11 GB as text."""
MERGES = "\n".join(
    ["a0: &a0 {k0: x}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: x}}" for n in range(1, 10)]
)
DEEP = "a: " + "[" * 50_000 + "]" * 50_000


@pytest.fixture
def file(tmp_path):
    return tmp_path / "study.yaml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{BOMB}\ntitle: *a9", "line 5, column \\d+: .*stands for more than 100,000 values"),
        (f"{MERGES}\ntitle: x", "stands for more than 100,000 values"),
        (f"{BOMB}\n*a9 : x", "stands for more than 100,000 values"),
        ("a: &a [*a]", "line 1, column \\d+: .*inside what it names"),
        ("a: &a {<<: *a, b: 1}", "inside what it names"),
        (DEEP, "line 1, column \\d+: .*nested too deeply"),
        ("a: " + "9" * 5000, "line 1, column \\d+: .*a whole number of 5,000 digits"),
        ("b: 1\na: 0x" + "f" * 5000, "line 2, column \\d+: .*a whole number of 5,002 digits"),
        ("a: " + "1:" * 3000 + "1", "a whole number of 6,001 digits"),
        ("a: 2001-99-99", "month must be in 1..12"),
        (
            "a: !!python/object/apply:os.system [id]",
            "line 1, column \\d+: .*could not determine a constructor",
        ),
        ("a:\n\tb: 1", "line 2, column 1: .*a tab stands there: use blanks"),
        ("a: 1\na: 2", "line 2, column \\d+: .*the key 'a' stands twice"),
    ],
)
def test_what_grows_without_end_is_one_line(file, text, words):
    file.write_text(text)
    for read in (read_yaml, read_study):
        with pytest.raises(InputError, match=words) as refused:
            read(file)
        assert "\n" not in str(refused.value)


def test_aliases_within_bounds_are_what_they_stand_for(file):
    file.write_text("a: &a {lr: 0.1, steps: [1, 2]}\nb: {<<: *a, lr: 0.2}\nc: [*a, *a]\n")
    a = {"lr": 0.1, "steps": [1, 2]}
    assert read_yaml(file) == {"a": a, "b": {**a, "lr": 0.2}, "c": [a, a]}


@settings(deadline=None)
@given(repeats=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_the_bound_is_that_of_the_values_written_out(tmp_path_factory, repeats):
    """Counted on the values themselves, where there are few enough to write them out."""
    lines, size, total = ["a0: &a0 [x]"], 2, 3
    for number, times in enumerate(repeats, 1):
        lines.append(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * times)}]")
        size = 1 + times * size
        total += 1 + size
    file = tmp_path_factory.mktemp("yaml") / "a.yaml"
    file.write_text("\n".join(lines))
    if total + 1 <= MOST_VALUES:
        assert _count(read_yaml(file)) == total + 1
    else:
        with pytest.raises(InputError, match="stands for more"):
            read_yaml(file)


def _count(value) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + _count(own) for own in value.values())
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


@given(st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=5), st.lists, max_leaves=20))
def test_plain_values_come_back(tmp_path_factory, value):
    file = tmp_path_factory.mktemp("yaml") / "a.yaml"
    file.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert read_yaml(file) == value


@given(
    st.recursive(
        st.integers(-9, 9), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=20
    ),
    st.data(),
)
def test_a_key_is_told_with_its_line_and_column(tmp_path_factory, shape, data):
    """Keys of one name each, so that a search of the text tells where they stand."""
    paths = {}

    def keyed(part, above):
        if not isinstance(part, list):
            return part
        mapping = {}
        for inner in part:
            name = f"key{len(paths):03d}"
            paths[(*above, name)] = name
            mapping[name] = keyed(inner, (*above, name))
        return mapping

    text = yaml.safe_dump(
        keyed(shape, ()) if isinstance(shape, list) else {},
        default_flow_style=data.draw(st.sampled_from([True, False, None])),
        sort_keys=False,
        width=30,
    )
    file = tmp_path_factory.mktemp("yaml") / "a.yaml"
    file.write_text(text)
    place = KeyPlaces(file)
    for path, name in paths.items():
        start = text.index(f"{name}:")
        line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        assert place(path) == f", line {line}, column {column}"
        assert place((*path, "not there", 3)) == place(path)
    assert place(("not there",)) == place(()) == ""


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ([("b", "lr")], ", line 3, column 3"),
        ([("b", "steps")], ", line 1, column 17"),  # merged in
        ([("b", "steps", 1)], ", line 1, column 28"),
        ([("c", "d", "lr")], ", line 1, column 8"),  # by alias
        ([("b", "rate")], ", line 3, column 3"),  # the name that it has in the file
        ([("c", "x"), ("b", "lr")], ", line 3, column 3"),
        ([("b", 3)], ", line 2, column 1"),
    ],
)
def test_the_place_of_a_key_that_is_written_elsewhere(file, paths, told):
    file.write_text("a: &a {lr: 0.1, steps: [1, 20]}\nb:\n  lr: 0.2\n  <<: *a\nc: {d: *a}\n")
    assert KeyPlaces(file, {"rate": "lr"})(*paths) == told


def test_a_merge_may_be_overridden_wherever_it_is_merged_again(file):
    """By the YAML merge key's own rule: a key beside `<<` counts, also where that mapping is merged in turn."""
    file.write_text(
        "p: &p {lr: 1, k: 2}\na: {x: &x {<<: *p, lr: 3}}\nb: {<<: *x}\nc: {<<: [*x, *p]}\n"
    )
    both = {"lr": 3, "k": 2}
    assert read_yaml(file) == {"p": {"lr": 1, "k": 2}, "a": {"x": both}, "b": both, "c": both}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("p: &p {lr: 1}\nb: {<<: *p, <<: *p}\n", "line 2, column 5 and on line 2, column 13"),
        (
            "p: &p {lr: 1}\nb: {x: &x {<<: *p, <<: {k: 1}}}\nc: {<<: *x}\n",
            "line 2, column 12 and on",
        ),
    ],
)
def test_two_merges_in_one_mapping_are_refused(file, text, places):
    file.write_text(text)
    with pytest.raises(InputError, match=f"'<<' stands twice, on {places}.*write one with a list"):
        read_yaml(file)
