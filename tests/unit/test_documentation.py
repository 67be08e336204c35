"""The documentation tells of what there is: its YAML is read, its commands are known, its links lead somewhere."""

import argparse
import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

import documents
from documents import REPOSITORY, Block
from segstudy import cli
from segstudy.errors import InputError
from segstudy.study import Dataset, Study, UnetModel, read_study

PAGES = documents.pages()
WRITTEN = [path for path in PAGES if path.name != "CHANGELOG.md"]
"""Pages about what there is; the changelog tells of what there was, too."""
YAML_BLOCKS = [block for path in PAGES for block in documents.blocks(path, "yaml")]
KEYS = {
    "study": set(Study.model_fields),
    "dataset": set(Dataset.model_fields),
    "model": set(UnetModel.model_fields),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# --- YAML ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the files beside the study file that blocks name and that are read with it."""
    for plugin in (REPOSITORY / "resources" / "plugins").glob("*.py"):
        shutil.copy(plugin, tmp_path)
    labels = tmp_path / "study/derivatives/fmriprep/sub-01/anat/sub-01_desc-aseg_dseg.nii.gz"
    labels.parent.mkdir(parents=True)
    labels.touch()
    rows = ["index\tname", "17\tLeft-Hippocampus", "53\tRight-Hippocampus"]
    (labels.parents[2] / "desc-aseg_dseg.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=str)
def test_yaml_is_what_the_study_reader_reads(block, folder):
    for text in documents.alternatives(block.text):
        if yaml.safe_load(text).keys() <= documents.PROFILE_KEYS:
            rules = "".join(path.read_text() for path in REPOSITORY.glob("workflow/rules/*.smk"))
            for rule in yaml.safe_load(text).get("set-resources", {}):
                assert re.search(rf"^(rule|checkpoint) {rule}:", rules, re.MULTILINE), rule
            continue
        study = documents.study_of(block, text, KEYS)
        (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        read_study(folder / "study.yaml")


def test_what_is_no_study_file_is_not_read(folder):
    """A planted fault: a key that there is not, in each place to which a fragment may belong."""
    for text in (
        "metrics: {extra: [dise]}",
        "loss: {dise: 1}",
        "repair: {structure: lung}",
        "b: {source: {layout: msd, path: b}, modality: CTT}",
    ):
        study = documents.study_of(Block("x.md", 1, "yaml", text), text, KEYS)
        (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        with pytest.raises(InputError):
            read_study(folder / "study.yaml")


# --- commands -----------------------------------------------------------------------------------

OTHERS = {
    *("apt-get", "cd", "curl", "docker", "export", "firefox", "git", "mkdir", "nvidia-smi", "open"),
    *("pip", "pytest", "rocrate-validator", "scancel", "sinfo", "source", "squeue", "tmux"),
    *("xdg-open", "$EDITOR"),
}
"""Programs of others that pages name."""
MAKE = set(re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"segstudy {name}")
    module = f"segstudy.{name}" + (".command" if name in cli.STAGES else "_command")
    importlib.import_module(module).add_arguments(parser)
    return parser


@pytest.fixture(scope="module")
def snakemake() -> argparse.ArgumentParser:
    from snakemake.cli import get_argument_parser

    parser = get_argument_parser()
    parser.prog = "snakemake"
    return parser


def faults(parser: argparse.ArgumentParser, words: list[str], rest=None) -> list[str]:
    """What a parser does not know of the options among words; those after a REMAINDER are the parser's `rest`."""
    options = parser._option_string_actions
    positional = [one for one in parser._actions if not one.option_strings]
    found, given = [], None
    for place, word in enumerate(words):
        if word == "--":
            break
        if re.match(r"--?[a-zA-Z]", word):
            name, _, value = word.partition("=")
            short = word[:2] if not word.startswith("--") else name
            given = options.get(name) or options.get(short)
            if given is None:
                return [*found, f"{parser.prog}: no option {name}"]
            if value and given.choices and value not in given.choices:
                found.append(f"{parser.prog}: {name}: no choice {value}")
            continue
        if given is not None and given.nargs != 0:
            if given.choices and word not in given.choices:
                found.append(f"{parser.prog}: {given.option_strings[0]}: no choice {word}")
            given = given if given.nargs in ("+", "*") else None
            continue
        if not positional:
            found.append(f"{parser.prog}: takes no {word}")
            continue
        own = positional[0]
        if isinstance(own, argparse._SubParsersAction):
            inner = own.choices.get(word)
            if inner is None:
                return [*found, f"{parser.prog}: no {word}"]
            return found + faults(inner, words[place + 1 :])
        if own.nargs not in ("+", "*"):
            positional = positional[1:]
        if positional and positional[0].nargs == argparse.REMAINDER:
            return found + faults(rest, words[place + 1 :])
    return found


def unknown(command: str, snakemake: argparse.ArgumentParser) -> list[str]:
    """What is not known of a command line: programs, subcommands, options, targets of make, files of Python."""
    found = []
    command = re.sub(r"<[\w ]+>|\.\.\.", "PLACEHOLDER", command.replace("\\\n", " "))
    lexer = shlex.shlex(command, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            parts.append([])
        else:
            parts[-1].append(word)
    for words in filter(None, parts):
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        while words and words[0] == "nohup":
            words = words[1:]
        if not words or words[0] == "PLACEHOLDER":
            continue
        program, *words = words
        program = program.removeprefix(".venv/bin/")
        if program in ("python", "python3") and words[:1] == ["-m"]:
            program, *words = words[1:]
        if program == "segstudy":
            name = next((word for word in words if not word.startswith("-")), None)
            if name == "PLACEHOLDER":
                continue
            if name is None:
                found += [
                    f"segstudy: no {word}" for word in words if word not in ("--help", "--version")
                ]
            elif name not in cli.STAGES | cli.TOOLS:
                found.append(f"segstudy: no {name}")
            else:
                after = words[words.index(name) + 1 :]
                own = [word for word in after if word != "--partial"] if name == "run" else after
                found += faults(parser_of(name), own, snakemake)
        elif program == "snakemake":
            found += faults(snakemake, words)
        elif program == "make":
            targets = [word for word in words if "=" not in word and not word.startswith("-")]
            found += [f"make: no {word}" for word in targets if word not in MAKE]
        elif program in ("python", "python3"):
            file = next((word for word in words if word.endswith(".py")), None)
            if file and not (REPOSITORY / file).is_file():
                found.append(f"no file {file}")
        elif program not in OTHERS and program not in ("pytest", "venv"):
            found.append(f"no program {program}")
    return found


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_commands_are_those_that_there_are(path, snakemake):
    shown = documents.shown_commands(path)
    told = {command: unknown(command, snakemake) for command in shown}
    assert [f"{why}: {command}" for command, found in told.items() for why in found] == []


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("segstudy studdy my.yaml", ["segstudy: no studdy"]),
        ("segstudy study my.yaml --case", ["segstudy study: no option --case"]),
        ("segstudy study my.yaml --cases", []),
        ("segstudy download audits", ["segstudy download: no audits"]),
        ("segstudy run s.yaml -n --coores 2", ["snakemake: no option --coores"]),
        ("segstudy run s.yaml --partial -n --cores 2 train", []),
        (
            "cd x && OMP_NUM_THREADS=1 segstudy infer --format jpeg",
            ["segstudy infer: --format: no choice jpeg"],
        ),
        ("segstudy infer --format seg.nrrd a.nii.gz b.nii.gz", []),
        ("make demmo STUDY=demo", ["make: no demmo"]),
        ("python tests/slurm/clusters.py start FOLDER", ["no file tests/slurm/clusters.py"]),
        ("segstdy run", ["no program segstdy"]),
    ],
)
def test_a_fault_in_a_command_is_found(command, told, snakemake):
    assert unknown(command, snakemake) == told


# --- links and paths ----------------------------------------------------------------------------


def lost(path: Path, target: str) -> str:
    """Why a link of a page leads nowhere; nothing where it leads somewhere, or to another site."""
    if re.match(r"[a-z]+:", target):
        return ""
    file, _, anchor = target.partition("#")
    there = (path.parent / file).resolve() if file else path
    docs = documents.REPOSITORY / "docs"
    if there.is_relative_to(docs) and there.relative_to(docs).parts[0] in documents.BUILT:
        return ""  # the build writes it, and checks what leads into it
    if not there.exists():
        return "no such file"
    if anchor and there.suffix == ".md" and anchor not in documents.anchors(there):
        return "no such heading"
    return ""


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    found = {f"line {line}: {target}": lost(path, target) for line, target in documents.links(path)}
    assert not {target: why for target, why in found.items() if why}


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n\n# One thing\n\n```sh\n# no heading\n```\n\n[a](b.md) `[c](d)` [e](#one-thing-1)"
    )
    assert documents.anchors(page) == {"one-thing", "one-thing-1"}
    assert list(documents.links(page)) == [(9, "b.md"), (9, "#one-thing-1")]
    assert lost(page, "b.md") == "no such file"
    assert lost(page, "#no-heading") == "no such heading"
    assert lost(page, "#one-thing-1") == lost(page, "https://example.org/x") == ""


def test_public_data_sets_are_as_many_as_pages_say():
    text = (REPOSITORY / "docs/your_data.md").read_text(encoding="utf-8")
    below = text.partition("## Public data sets")[2].partition("\n## ")[0]
    programs = {"fMRIPrep", "3D Slicer"}
    sets = set(re.findall(r"^### (.+)$", below, re.MULTILINE)) - programs
    for page, words in (("README.md", "public sets"), ("docs/layouts.md", "public ones")):
        told = re.search(rf"(\d+) {words}", (REPOSITORY / page).read_text(encoding="utf-8"))
        assert int(told[1]) == len(sets), page


def rows_without_targets(path: Path) -> list[str]:
    """Rows of a page's table of mistakes, links without their targets, which hang on the page's folder."""
    table = path.read_text(encoding="utf-8").partition("| mistake that gets published | here |\n")[
        2
    ]
    rows = table.partition("\n\n")[0].splitlines()
    return [re.sub(r"\]\([^)]*\)", "]", row) for row in rows]


def test_mistakes_are_told_in_the_same_words_where_they_are_told_twice():
    short = rows_without_targets(REPOSITORY / "README.md")
    whole = rows_without_targets(REPOSITORY / "docs/mistakes.md")
    assert 5 < len(short) < len(whole)
    assert [row for row in whole if row in short] == short  # in their order, too


def test_words_stand_once_and_in_alphabetical_order():
    text = (REPOSITORY / "docs/glossary.md").read_text(encoding="utf-8")
    words = [word.casefold() for word in re.findall(r"^(\S.*)\n: ", text, re.MULTILINE)]
    assert len(words) > 80
    assert words == sorted(set(words))


def opening(path: Path) -> str:
    """The first line below a page's title, of the page that it includes where it is no more than that."""
    text = path.read_text(encoding="utf-8")
    included = re.match(r"```\{include\} (\S+)", text)
    if included:
        return opening((path.parent / included[1]).resolve())
    return next(line for line in text.splitlines()[1:] if line.strip())


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").glob("*.md")), ids=name_of)
def test_a_page_begins_with_what_it_is_for(path):
    """In a sentence, before any heading, block, table or list."""
    assert re.match(r"[A-Za-z]|`[a-z]+ [^:]|`results/", opening(path)), opening(path)


def test_a_page_without_a_sentence_at_its_top_is_found(tmp_path):
    page = tmp_path / "page.md"
    for line in ("## A part", "| a | b |", "```sh", "- one", "`source: {layout: NAME}`, or"):
        page.write_text(f"# Title\n\n{line}\n\nA sentence.\n")
        with pytest.raises(AssertionError):
            test_a_page_begins_with_what_it_is_for(page)


FOLDERS = "benchmarks|config|docs|envs|profiles|resources|tests|workflow"


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_files_that_a_page_names_are_there(path):
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", documents.prose(path))
    assert not [name for name in named if not (REPOSITORY / name).exists()]


def test_files_that_contributing_names_within_the_package_are_there():
    text = documents.prose(REPOSITORY / "CONTRIBUTING.md")
    told = text.partition("\n## Where each kind")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w/.]+/[\w.]*)`", told))
    assert len(named) > 20
    folders = (REPOSITORY, REPOSITORY / "workflow/segstudy")
    assert [name for name in named if not any((one / name).exists() for one in folders)] == []


def test_the_plan_of_the_house_names_every_command_for_people():
    page = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.search(r"commands for people: (.+?) \|", page)[1]
    assert sorted(re.findall(r"`(\w+)`", named)) == sorted(cli.TOOLS)


def test_pages_that_messages_name_are_there():
    """Messages and docstrings send readers to pages."""
    for path in REPOSITORY.glob("workflow/**/*.*"):
        if path.suffix in (".py", ".smk", ".j2"):
            for name in re.findall(r"docs/\w+\.md", path.read_text(encoding="utf-8")):
                assert (REPOSITORY / name).is_file(), f"{path}: {name}"


def test_messages_that_a_page_explains_are_those_of_the_code():
    page = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    code = "".join(path.read_text("utf-8") for path in REPOSITORY.glob("workflow/segstudy/**/*.py"))
    code = re.sub(r"\"\n\s*f?\"", "", code)  # a message that goes on in the next line
    told = [
        cell
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for cell in re.findall(r"`(.+?)`", row)
    ]
    parts = [part.strip() for cell in told for part in cell.split("...")]
    assert len(parts) > 20
    assert [part for part in parts if part not in code] == []


# --- how to contribute --------------------------------------------------------------------------


def test_the_worked_example_is_what_stands_in_the_files():
    page = REPOSITORY / "CONTRIBUTING.md"
    file, tried = None, 0
    for block in documents.blocks(page):
        if block.language == "sh":
            continue
        named = re.findall(r"`([\w/.]+\.(?:py|md|tsv))`", block.above)
        file = named[-1] if named else file
        assert block.text in (REPOSITORY / file).read_text(encoding="utf-8"), f"{block}: {file}"
        tried += 1
    assert tried > 5


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=name_of
)
def test_forms_of_issues_ask_for_the_doctor(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        return
    assert form.keys() == {"name", "description", "labels", "body"}
    pages = re.findall(r"`(docs/[\w.]+)`", path.read_text(encoding="utf-8"))
    assert all((REPOSITORY / page).is_file() for page in pages)
    names = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert "doctor" in names
    assert "SECURITY.md" in form["body"][0]["attributes"]["value"]
    assert len(set(names)) == len(names)
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea")
        assert part["attributes"].keys() <= {"label", "description", "render", "value"}
