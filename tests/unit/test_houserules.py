"""The rules of the house that a reader relies on: who imports whom, one word a stage, no drift."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from segstudy import study_command
from segstudy.cli import STAGES, TOOLS
from segstudy.study import Study

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "workflow" / "segstudy"
MODULES = sorted(PACKAGE.rglob("*.py"))
FEW_PARAMETERS = {
    *("download", "images", "infer", "metrics", "networks", "preprocess", "publish", "repair"),
    *("statistics", "train"),
}
"""Packages whose functions take no more than `MOST_PARAMETERS`, as do the shared modules."""
HEAVY = {"torch", "monai", "SimpleITK", "itk", "matplotlib", "seaborn", "numba", "scipy", "skimage"}


def imported(path: Path) -> set[str]:
    """All modules that a file names in import statements, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_may_import_whom(path):
    inside = path.relative_to(PACKAGE).parts
    names = imported(path)
    assert not any(name.split(".")[0] == "snakemake" for name in names)
    if inside[0] not in {"networks", "train", "infer"}:
        assert not any(name.split(".")[0] in {"torch", "monai", "nnunetv2"} for name in names)
    if path.stem not in {"nnunet", "nnunet_trainer"}:
        assert not any(name.split(".")[0] == "nnunetv2" for name in names)
    if inside[0] in STAGES:
        others = {f"segstudy.{stage}" for stage in STAGES if stage != inside[0]}
    elif inside[0] in {"cli.py", "start.py"}:
        others = set()
    else:
        others = {f"segstudy.{stage}" for stage in STAGES}
    for name in names:
        assert ".".join(name.split(".")[:2]) not in others, f"{path} imports {name}"


HELD = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in FEW_PARAMETERS]
HELD += sorted(PACKAGE.glob("*.py"))
MOST_PARAMETERS = 7


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """All parameters of a function, by name, but for the object that a method is called on."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [one for one in (arguments.vararg, arguments.kwarg) if one]
    names = [argument.arg for argument in (*named, *starred)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


@pytest.mark.parametrize("path", HELD, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_belongs_together_is_passed_together(path):
    """No function takes more than seven parameters: state that belongs together is an object."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert len(parameters(node)) <= MOST_PARAMETERS, f"{node.name}, line {node.lineno}"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def f(a, b, /, c, *d, e, **g): ...", ["a", "b", "c", "e", "d", "g"]),
        ("def f(self, a): ...", ["a"]),
    ],
)
def test_parameters_of_all_kinds_are_counted(code, names):
    assert parameters(ast.parse(code).body[0]) == names


READERS = {"json": "files.py", "yaml": "yaml_files.py", "tarfile": "unpack.py"}
"""Libraries that read what others wrote, and the one module that bounds what they may do."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_others_wrote_is_read_in_one_place(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        library = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        if library in READERS and re.match("load|safe_load|open|extract", node.func.attr):
            assert str(path.relative_to(PACKAGE)) == READERS[library], f"line {node.lineno}"


COMMAND = re.compile(
    r"(?:segstudy (?!has|which|with)[a-z]+|snakemake|git)(?: (?:accept|undo|open|queue|clone|checkout|-[\w-]+|[A-Z]\S*|segstudy))* $"
)
"""What is printed of a command up to a value."""
QUOTED = ("shlex.quote(", "shlex.join(")
NO_WORDS_OF_A_USER = {
    "rerun.py": {"cores", "rules", "theirs"},
    "arrays.py": {"step"},
    "options.py": {"stage"},
    "cases.py": {"name"},  # of a digest
}
"""Parts of commands of which nothing is a name: numbers, words of our own, and what is quoted where it is made."""


def unquoted(code: str) -> list[str]:
    """Values that stand in a printed command as they are."""
    found = []
    for node in ast.walk(ast.parse(code)):
        before = ""
        for part in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(part, ast.Constant):
                before += part.value
                continue
            value = ast.unparse(part.value)
            if COMMAND.search(before) and not value.startswith(QUOTED) and not value.isupper():
                found.append(value)
            before += "X"
    return found


def test_printed_commands_can_be_pasted():
    """Whatever blanks and quotes the names of files have."""
    found = {path: set(unquoted(path.read_text())) for path in MODULES}
    bare = {path: names - NO_WORDS_OF_A_USER.get(path.name, set()) for path, names in found.items()}
    assert [(path.name, names) for path, names in bare.items() if names] == []


def test_a_printed_command_with_a_bare_value_is_found():
    code = 'f"{file}: first: segstudy run {study} --cores {shlex.quote(n)} -- {last}"'
    assert unquoted(code) == ["study", "last"]
    assert unquoted('f"segstudy run {shlex.quote(study)} {SETTINGS}; then {other}"') == []


TESTS = sorted((REPOSITORY / "tests").rglob("test_*.py"))
CLOCKS = {f"time.{name}" for name in ("time", "monotonic", "perf_counter", "process_time")}


def test_no_two_files_of_tests_have_one_name():
    """pytest reads them into one namespace, and leaves the second out."""
    names = [path.name for path in TESTS]
    assert not [name for name in set(names) if names.count(name) > 1]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_reads_the_clock(path):
    """A busy machine would decide: a test counts, or spoils what must not be touched."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node).removesuffix("_ns") not in CLOCKS, f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            assert {alias.name for alias in node.names} <= {"sleep"}, f"line {node.lineno}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_one_word_everywhere(stage):
    assert (PACKAGE / stage / "command.py").is_file()
    assert (REPOSITORY / "workflow" / "rules" / f"{stage}.smk").is_file()
    assert any((REPOSITORY / "tests" / "unit" / stage).glob("test_*.py"))


@pytest.mark.parametrize("stage", [None, *STAGES, *TOOLS])
def test_help_imports_nothing_heavy(stage):
    words = [stage] if stage else []
    code = (
        "import sys\nfrom segstudy.cli import main\n"
        f"try: main({[*words, '--help']!r})\nexcept SystemExit: pass\n"
        f"print('heavy:', sorted({HEAVY!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in run.stdout
    assert "usage: segstudy" in run.stdout


def test_reference_and_schema_are_those_of_the_types():
    config = REPOSITORY / "config"
    assert (config / "README.md").read_text(encoding="utf-8") == study_command.reference()
    assert (config / "study.schema.json").read_text(encoding="utf-8") == study_command.schema()


ABOUT_NAMES = {"test_old_names.py"}
"""Tests that name keys for their names alone, and show no effect of them."""


def test_each_key_of_a_study_file_is_tested_or_used():
    """A key that no test and no shipped study names is tested, or goes."""
    files = [*REPOSITORY.glob("tests/**/*.py"), *REPOSITORY.glob("config/studies/*.yaml")]
    # What the tests of the checklists have stand in every item that names a field.
    files += REPOSITORY.glob("resources/checklists/*.tsv")
    named = set()
    for path in files:
        if path.name not in ABOUT_NAMES:
            named.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    kinds = study_command.settings_of(Study)
    untested = [
        f"{kind.__name__}.{key}" for kind in kinds for key in kind.model_fields.keys() - named
    ]
    assert not untested


def locked(file: str = "requirements.lock") -> dict[str, str]:
    lines = (REPOSITORY / file).read_text().split()
    return {normal(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


NNUNET = "requirements-nnunet.lock"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "envs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_environments_agree_with_the_lock(path):
    environment = yaml.safe_load(path.read_text())
    pinned = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    versions = locked() | (locked(NNUNET) if path.stem == "nnunet" else {})
    for line in pinned:
        name, version = line.split("==")
        assert versions[normal(name)] == version, f"{path.name}: {name}"


def test_every_environment_is_named_by_a_rule():
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow/rules").glob("*.smk"))
    for path in (REPOSITORY / "envs").glob("*.yaml"):
        assert f"envs/{path.name}" in rules


def test_requirements_are_locked():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    versions = locked() | locked("requirements-extras.lock")
    further = [line for name in ("dicom", "onnx", "serve", "tensorboard") for line in extras[name]]
    assert not locked().keys() & locked("requirements-extras.lock").keys()
    for line in [*project["dependencies"], *extras["dev"], *further]:
        assert normal(re.split(r"[=<>]", line)[0]) in versions, line


NOT_IMPORTED = {"snakemake", "snakemake-executor-plugin-slurm", "einops"}
"""Requirements that are run, and einops, which networks of MONAI import."""
OF_AN_EXTRA = {"fastapi", "h11", "uvicorn"}
"""Imported at the head of modules that are themselves imported by name."""


def test_requirements_are_what_is_imported():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["nnunet"]]
    declared = {normal(re.split(r"[=<>]", line)[0]) for line in wanted}
    names = {name.split(".")[0] for path in MODULES for name in imported(path)}
    provided = packages_distributions()
    used = set()
    for name in (
        names - sys.stdlib_module_names - {"segstudy", "pydantic_core"}
    ):  # pinned by pydantic
        found = {normal(one) for one in provided.get(name, [name])}
        used.add(min(found & declared or found))
    assert used - OF_AN_EXTRA == declared - NOT_IMPORTED


def test_the_lock_of_nnunet_adds_to_the_other_and_changes_none():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    added = locked(NNUNET)
    for line in project["optional-dependencies"]["nnunet"]:
        assert normal(re.split(r"[=<>]", line)[0]) in added, line
    assert not set(added) & set(locked())


def test_hooks_have_the_locked_versions():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    versions = locked()
    revisions = {repo["repo"].rsplit("/", 1)[1]: repo["rev"].lstrip("v") for repo in hooks}
    assert revisions == {"ruff-pre-commit": versions["ruff"], "snakefmt": versions["snakefmt"]}


def test_every_rule_states_log_benchmark_threads_and_resources():
    for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"):
        rules = re.split(r"^(?:rule|checkpoint) ", path.read_text(), flags=re.MULTILINE)[1:]
        for rule in rules:
            name = rule.split(":")[0]
            if "    shell:" not in rule:  # a target, which runs nothing
                assert "    localrule: True" in rule, f"{path.name}: {name}"
                continue
            for word in ("log:", "benchmark:", "threads:", "resources:", "conda:", "shell:"):
                assert f"    {word}" in rule, f"{path.name}: {name} has no {word}"
            assert "mem_mb=" in rule
            assert "runtime=" in rule


def test_imports_run_one_way():
    """No modules import each other in a circle, at whatever place in the file."""
    names = {
        ".".join(("segstudy", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in MODULES
        if path.name != "__init__.py"
    }
    reached = {name: imported(path) & names.keys() for name, path in names.items()}
    for name in names:
        waiting, seen = list(reached[name]), set()
        while waiting:
            other = waiting.pop()
            assert other != name, f"{name} is imported by what it imports: {sorted(seen)}"
            if other not in seen:
                seen.add(other)
                waiting.extend(reached[other])
