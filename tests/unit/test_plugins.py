"""Plug-ins: found, checked without running them, told apart by their code, and loaded each for itself."""

import re

import pytest

from segstudy import plugins
from segstudy.errors import InputError


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


def written(folder, name, text):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)
    plugins.digest.cache_clear()
    return str(folder / name)


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("./my_net.py", "./my_net.py", ""),
        ("nets/my net.py:Wide", "nets/my net.py", "Wide"),
        ("my_package.nets:Wide", "my_package.nets", "Wide"),
    ],
)
def test_references(text, place, name):
    assert plugins.is_reference(text)
    assert re.match(plugins.REFERENCE, text)
    assert plugins.reference(text) == plugins.Reference(place, name)
    assert str(plugins.reference(text)) == text


@pytest.mark.parametrize("text", ["unet", "", "my_net.py:", "a.b", "a:b:c", "my_net.py:3"])
def test_what_is_no_reference(text):
    assert not plugins.is_reference(text)
    assert not re.match(plugins.REFERENCE, text)
    with pytest.raises(InputError, match="not written as a plug-in"):
        plugins.reference(text)


def test_a_plugin_is_checked_without_running_it(tmp_path):
    file = written(tmp_path, "net.py", "raise SystemExit\nclass Network: ...\n")
    assert plugins.check(file, "Network") == plugins.Reference(file, "Network")
    with pytest.raises(InputError, match=r"net.py: no Wide in it; .* It has: Network"):
        plugins.check(f"{file}:Wide", "Network")
    with pytest.raises(InputError, match="no such plug-in file"):
        plugins.check(str(tmp_path / "none.py"), "Network")
    with pytest.raises(InputError, match=r"odd.py, line 2: not Python"):
        plugins.check(written(tmp_path, "odd.py", "a = 1\nb c\n"), "Network")
    with pytest.raises(InputError, match="no such module is installed"):
        plugins.check("not_a_package.nets:Wide", "Network")


def test_a_file_of_no_text_has_no_line_and_a_star_names_its_module(tmp_path):
    (tmp_path / "odd.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"odd.py: not Python: ") as told:
        plugins.check(str(tmp_path / "odd.py"), "Network")
    assert "None" not in str(told.value)
    file = written(tmp_path, "net.py", "from nets import *\nclass Wide: ...\n")
    with pytest.raises(
        InputError, match=r"It has: Wide, \* \(whatever nets has; import it by name\)"
    ):
        plugins.check(file, "Network")


def test_a_plugin_that_ends_the_process_is_told(tmp_path):
    file = written(tmp_path, "net.py", "import sys\nsys.exit(0)\ndef Network(): ...\n")
    with pytest.raises(
        InputError, match=r"net.py: SystemExit: 0 \(.*net.py, line 2, in <module>\)"
    ):
        plugins.load(file, "Network")


@pytest.mark.parametrize("value", ["3", "'unet'", "[1]", "{}"])
def test_a_value_is_no_class(tmp_path, value):
    file = written(tmp_path, "net.py", f"Network = {value}\n")
    told = rf"net.py, line 1: Network is {re.escape(value)}; expected a class or a function"
    with pytest.raises(InputError, match=told):
        plugins.check(file, "Network")


def test_a_class_inside_a_condition_is_found(tmp_path):
    text = "try:\n    import torch\nexcept ImportError:\n    pass\nelse:\n    class Network: ...\n"
    assert plugins.check(written(tmp_path, "net.py", text), "Network").name == "Network"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("def Network(i, c, p, s, width=3): ...", {"widht", "classes", "c"}),
        ("def Network(i, c, p, s, *, width=3): ...", {"widht", "classes", "c"}),
        ("def Network(*a, width=3): ...", {"widht", "classes", "c"}),
        (
            "class Network:\n    def __init__(self, i, c, p, s, width): ...",
            {"widht", "classes", "c"},
        ),
        ("class Network:\n    def __init__(self, *a, **k): ...", set()),
        ("class Network(Base): ...", set()),
        ("@decorated\ndef Network(i, c, p, s): ...", set()),
    ],
)
def test_options_that_it_does_not_take_are_refused(tmp_path, text, refused):
    file, found = written(tmp_path, "net.py", text + "\n"), set()
    for name in ("width", "widht", "classes", "c"):
        try:
            plugins.check(file, "Network", [name])
        except InputError as error:
            assert f"takes no option {name!r}; its options are: width" in str(error)
            found.add(name)
    assert found == refused


def test_what_an_installed_module_lacks_is_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    written(tmp_path / "lacking_nets", "__init__.py", "from .wide import *\n")
    written(tmp_path / "lacking_nets", "wide.py", "class Wide: ...\n")
    told = r"lacking_nets.wide: no Nope in it; expected a Network, or MODULE:NAME.*It has: Wide"
    with pytest.raises(InputError, match=told):
        plugins.check("lacking_nets.wide:Nope", "Network")
    plugins.check("lacking_nets:Wide", "Network")


def test_the_digest_is_that_of_the_code_and_of_the_files_it_imports(tmp_path):
    text = '"""Words."""\nimport helpers\nfrom parts import blocks\nclass Network: ...\n'
    file = written(tmp_path, "net.py", text)
    for name, content in [
        ("helpers.py", "A = 1\n"),
        ("parts/__init__.py", ""),
        ("unused.py", "A = 1\n"),
    ]:
        written((tmp_path / name).parent, (tmp_path / name).name, content)
    written(tmp_path / "parts", "blocks.py", "import deeper\nB = 1\n")
    written(tmp_path, "deeper.py", "C = 1\n")
    first = plugins.digest(file)
    names = {path.relative_to(tmp_path).as_posix() for path in plugins.files(file)}
    assert names == {"net.py", "helpers.py", "parts/__init__.py", "parts/blocks.py", "deeper.py"}
    written(tmp_path, "unused.py", "A = 2\n")
    written(tmp_path, "net.py", text.replace("Words", "Other words") + "# a comment\n")
    assert plugins.digest(file) == first
    assert plugins.digest(f"{file}:Network") != plugins.digest(f"{file}:helpers")
    for name in ("helpers.py", "deeper.py", "parts/blocks.py"):
        before, content = plugins.digest(file), (tmp_path / name).read_text()
        written((tmp_path / name).parent, (tmp_path / name).name, content + "D = 1\n")
        assert plugins.digest(file) != before, name


def test_where_a_plugin_lies_is_no_part_of_its_digest(tmp_path):
    one = written(tmp_path / "one", "net.py", "class Network: ...\n")
    other = written(tmp_path / "other", "net.py", "class Network: ...\n")
    assert plugins.digest(one) == plugins.digest(other)


def test_two_plugins_with_helpers_of_one_name(tmp_path):
    files = []
    for value in (1, 2):
        folder = tmp_path / str(value)
        written(folder, "helpers.py", f"VALUE = {value}\n")
        files.append(written(folder, "net.py", "import helpers\nNetwork = helpers.VALUE\n"))
    assert [plugins.load(file, "Network") for file in files] == [1, 2]
    assert [plugins.load(file, "Network") for file in files] == [1, 2]


def test_a_helper_of_a_name_that_python_uses_hides_nothing(tmp_path):
    import json

    written(tmp_path, "json.py", "VALUE = 3\n")
    file = written(tmp_path, "net.py", "import json\nNetwork = json.VALUE\n")
    assert plugins.load(file, "Network") == 3
    import sys

    assert sys.modules["json"] is json


def test_helpers_are_found_wherever_they_are_imported(tmp_path, monkeypatch):
    """Inside a function too, relative or not, by helpers of helpers, from any working directory; an edit to any counts."""
    written(tmp_path, "one.py", "import two\nVALUE = two.VALUE + 1\n")
    written(
        tmp_path,
        "two.py",
        "def __getattr__(name):\n    from parts import deep\n    return deep.VALUE\n",
    )
    written(tmp_path / "parts", "__init__.py", "")
    written(tmp_path / "parts", "deep.py", "from .deeper import VALUE\n")
    written(tmp_path / "parts", "deeper.py", "VALUE = 40\n")
    text = (
        "def Network():\n"
        "    from .one import VALUE\n"
        "    import one, parts.deep as deep\n"
        "    import parts.deeper, math\n"
        "    return VALUE, one.VALUE, deep.VALUE, parts.deeper.VALUE, math.floor(1.5)\n"
    )
    file = written(tmp_path, "net.py", text)
    monkeypatch.chdir("/")
    assert plugins.load(file, "Network")() == (41, 41, 40, 40, 1)
    names = {path.relative_to(tmp_path).as_posix() for path in plugins.files(file)}
    assert names == {"net.py", "one.py", "two.py"} | {
        f"parts/{name}.py" for name in ("__init__", "deep", "deeper")
    }
    first = plugins.digest(file)
    written(tmp_path / "parts", "deeper.py", "VALUE = 41\n")
    assert plugins.digest(file) != first
    import sys

    assert not {"one", "two", "parts"} & set(sys.modules)


def test_a_folder_of_data_hides_no_installed_module(tmp_path):
    (tmp_path / "numpy").mkdir()
    file = written(tmp_path, "net.py", "import numpy\nNetwork = numpy.float64\n")
    import numpy

    assert plugins.load(file, "Network") is numpy.float64


def test_a_file_runs_once_whatever_is_taken_of_it(tmp_path):
    count = tmp_path / "count.txt"
    file = written(
        tmp_path,
        "net.py",
        f"with open({str(count)!r}, 'a') as file:\n    file.write('run ')\nOne, Other = 1, 2\n",
    )
    assert [plugins.load(file, "One"), plugins.load(f"{file}:Other", "One")] == [1, 2]
    assert count.read_text() == "run "


def test_code_that_fails_is_told_with_its_line(tmp_path):
    file = written(tmp_path, "net.py", "import math\nNetwork = math.sqrt(-1)\n")
    with pytest.raises(InputError, match=r"net.py: ValueError: .*, line 2, in <module>\); mend"):
        plugins.load(file, "Network")
    file = written(tmp_path, "late.py", "def Network(size):\n    return 1 / size\n")
    network = plugins.load(file, "Network")
    with (
        pytest.raises(InputError, match=r"late.py: ZeroDivisionError: .*, line 2, in Network"),
        plugins.telling(file),
    ):
        network(0)


def test_too_little_memory_is_left_to_the_caller(tmp_path):
    class OutOfMemoryError(RuntimeError):
        pass

    file = written(tmp_path, "net.py", "Network = 1\n")
    for error in (OutOfMemoryError, MemoryError):
        with pytest.raises(error), plugins.telling(file):
            raise error


def test_an_installed_package_counts_by_version_and_record(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    written(tmp_path / "my_nets", "__init__.py", "")
    written(tmp_path / "my_nets", "wide.py", "class Wide: ...\n")
    by_code = plugins.digest("my_nets.wide:Wide")
    information = tmp_path / "my_nets-1.0.dist-info"
    written(information, "METADATA", "Metadata-Version: 2.1\nName: my-nets\nVersion: 1.0\n")
    written(information, "top_level.txt", "my_nets\n")
    record = "my_nets/__init__.py,,\nmy_nets/wide.py,,\nmy_nets-1.0.dist-info/METADATA,,\n"
    written(information, "RECORD", record)
    by_record = plugins.digest("my_nets.wide:Wide")
    assert by_record != by_code
    written(tmp_path / "my_nets", "wide.py", "class Wide:\n    A = 1\n")
    assert plugins.digest("my_nets.wide:Wide") == by_record
    written(information, "RECORD", record.replace("wide.py,,", "wide.py,sha256=x,1"))
    assert plugins.digest("my_nets.wide:Wide") != by_record
    assert plugins.load("my_nets.wide:Wide", "Network").A == 1
    assert plugins.files("my_nets.wide:Wide") == []
