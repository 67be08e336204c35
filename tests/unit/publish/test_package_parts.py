"""Parts of the zip by themselves: its words as a reader of Markdown has them, and what a rerun needs of own code."""

import json
import re
import shutil
from pathlib import Path

import pandas
import pytest
import yaml
from markdown_it import MarkdownIt

from segstudy.publish.leaks import Leaks
from segstudy.publish.methods import methods
from segstudy.publish.methods_files import as_markdown
from segstudy.publish.package import add_rerun
from segstudy.publish.rerun import Code
from segstudy.publish.results import SPLIT_COLUMNS, Results
from segstudy.study import read_study

CODE = Code("0.2.0", "d" * 64, "https://example.org/a/segstudy", "c" * 40, "clean")
NOTHING = Leaks(names=[], folders=[], labels=[], new=[], paths=[], published=[])


def shown(markdown: str) -> str:
    """What a reader sees of Markdown that holds plain text and headings alone."""
    lines = [part.children for part in MarkdownIt().parse(markdown) if part.type == "inline"]
    assert {one.type for line in lines for one in line} == {"text"}
    return "\n".join("".join(one.content for one in line) for line in lines)


NAMES = [
    "*3D* U-Net", "_mean_", "left_lung", "<i>best</i>", r"\alpha \_", "`code`", "[a](b)", "&lt;", "p < 0.001",
    "R&D", "~old~", "x^2^",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_in_the_methods_as_they_are(name):
    parts = [("Data", f"Models were {name} and U-Net [[molder2021]].")]
    assert f"Models were {name} and U-Net [@molder2021]." in shown(as_markdown(parts))


def test_formulas_and_citations_of_pandoc_are_only_those_meant():
    """markdown-it knows neither."""
    text = as_markdown([("Data", "Net $mean$ of a@b [@x], as in [[molder2021]].")])
    assert r"\$mean\$ of a\@b \[\@x], as in [@molder2021]." in text


def test_the_methods_of_a_study_are_shown_whole_and_name_segstudy(plain):
    assert any("[[segstudy]]" in text for _, text in methods(plain))
    seen = re.sub(r"\[@(\w+)\]", r"[[\1]]", shown(as_markdown(methods(plain))))
    for _, part in methods(plain):
        assert part in seen


NAMESAKES = """
title: $mean$ of <i>two</i>
datasets:
  chest: {source: {layout: table, path: scans.tsv}, modality: CT, structures: {heart: 1, aorta: 2}}
models:
  narrow: {network: a/net.py}
  wide: {network: b/net.py}
  by_grey_value: {trainer: ./grey_values.py}
"""


def test_a_study_of_own_code_is_packed_with_all_that_a_rerun_needs(tmp_path):
    home, top = tmp_path / "home", tmp_path / "own"
    for folder in "ab":
        (home / folder).mkdir(parents=True)
        (home / folder / "net.py").write_text(f"class Network:\n    {folder} = 1\n")
    parts = Path(__file__).resolve().parents[3] / "resources/plugins"
    shutil.copy(parts / "grey_values.py", home)
    (home / "own.yaml").write_text(NAMESAKES)
    results = Results(read_study(home / "own.yaml"), tmp_path / "results")
    results.trained = lambda *training: {"threads": 2, "versions": {"torch": "2.9.0"}}
    results.splits = pandas.DataFrame([], columns=SPLIT_COLUMNS)
    top.mkdir()
    add_rerun(results, top, home / "own.yaml", [], CODE, NOTHING, None)

    copied = {str(file.relative_to(top)) for file in top.rglob("*.py")}
    assert copied == {"plugins/net.py", "plugins_2/net.py", "plugins_3/grey_values.py"}
    readme = (top / "README.md").read_text()
    assert r"# \$mean\$ of \<i>two\</i>" in readme
    for folder in ("plugins/", "plugins_2/", "plugins_3/"):
        assert f"| `{folder}` | code of the study's own parts" in readme
    record = json.loads((top / "provenance.json").read_text())
    assert record["seeds"]["all trainings"] == "0" and record["threads"] == 2
    resolved = yaml.safe_load((top / "settings.resolved.yaml").read_text())["models"]
    assert [resolved[name]["network"] for name in ("narrow", "wide")] == [
        "plugins/net.py",
        "plugins_2/net.py",
    ]
    assert resolved["by_grey_value"]["trainer"] == "plugins_3/grey_values.py"
