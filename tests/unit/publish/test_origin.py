"""Code, versions and commands that a zip tells, so that others can run its study again."""

import hashlib
import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import segstudy
from segstudy import shipped
from segstudy.publish import provenance, redaction, rerun
from segstudy.publish.rerun import Code
from segstudy.publish.results import Results
from segstudy.study import ExternalModel

REPOSITORY = Path(__file__).resolve().parents[3]
CODE = Code("0.2.0", "d" * 64, "https://example.org/a/segstudy", "c" * 40, "clean")


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:owner/name.git", "https://github.com/owner/name.git"),
        ("https://jane:secret@github.com/owner/name.git", "https://github.com/owner/name.git"),
        ("https://token@example.org:8443/name?key=1", "https://example.org:8443/name"),
        ("ssh://git@example.org:22/owner/name", "https://example.org/owner/name"),
        ("/home/jane/name", ""),
        ("../name", ""),
        ("file:///home/jane/name", ""),
        ("jane@hospital:name", ""),
        ("", ""),
    ],
)
def test_an_address_has_no_login_and_is_no_folder(remote, address):
    assert provenance.public_address(remote) == address


def test_the_digest_of_the_package_is_that_of_names_and_contents(tmp_path, monkeypatch):
    package = tmp_path / "segstudy"
    for name, text in {"__init__.py": "a", "publish/x.html": "b", "__pycache__/x.pyc": "c"}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(segstudy, "__file__", str(package / "__init__.py"))
    # As `sha256sum __init__.py publish/x.html | sha256sum` has it.
    lines = f"{hashlib.sha256(b'a').hexdigest()}  __init__.py\n"
    lines += f"{hashlib.sha256(b'b').hexdigest()}  publish/x.html\n"
    assert provenance.package_digest() == hashlib.sha256(lines.encode()).hexdigest()


def pinned(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_versions_are_those_installed_of_all_that_is_required():
    import tomllib

    found = pinned(provenance.lock((), {}))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {normal(re.split(r"[=<>]", line)[0]) for line in project["dependencies"]}
    assert wanted <= set(found)
    assert {"pyparsing", "sympy"} <= set(found)  # which matplotlib and torch require
    assert not {"pytest", "ruff", "nnunetv2", "segstudy"} & set(found)
    for name, version in found.items():
        assert metadata.version(name).split("+")[0] == version
    locked = pinned((REPOSITORY / "requirements.lock").read_text())
    assert set(found) - {"setuptools"} <= set(map(normal, locked))  # which pip freeze leaves out


def test_what_a_training_recorded_counts_more():
    ran = {"torch": {"2.9.0+cpu"}, "numpy": {"2.1.0", "2.2.0"}, "python": {"3.11.2"}}
    text = provenance.lock((), ran)
    assert pinned(text)["torch"] == "2.9.0"
    assert pinned(text)["numpy"] == metadata.version("numpy")
    assert "# numpy: trainings ran with 2.1.0, 2.2.0\n" in text
    assert "python" not in pinned(text)


def test_the_digest_of_an_archive_is_the_one_that_pip_recorded(monkeypatch):
    class Installed:
        def __init__(self, text):
            self.text = text

        def read_text(self, name):
            return self.text if name == "direct_url.json" else None

    archive = '{"archive_info": {"hashes": {"sha256": "ab12"}}, "url": "file:///home/jane/x.whl"}'
    for text, digest in (
        (archive, "ab12"),
        ('{"dir_info": {"editable": true}, "url": "file:///x"}', ""),
        (None, ""),
    ):
        monkeypatch.setattr(provenance.metadata, "distribution", lambda _, t=text: Installed(t))
        assert provenance.wheel_digest() == digest


def test_the_citation_has_title_version_and_address():
    cited = yaml.safe_load(rerun.citation(CODE))
    own = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert cited["repository-code"] == CODE.address and cited["commit"] == CODE.commit
    for key in ("cff-version", "title", "type", "authors", "license"):
        assert cited[key] == own[key], key
    assert own["version"] == segstudy.__version__


def test_segstudy_is_an_entry_with_version_and_address(plain):
    text = rerun.bibliography(["dice1945"], plain.study, CODE)
    entry = text[text.index("@misc{segstudy,") :]
    assert "author = {{The segstudy authors}}," in entry
    assert "howpublished = {Version 0.2.0}," in entry
    assert "url = {https://example.org/a/segstudy}," in entry
    assert text.startswith("@article{dice1945,") and text.count("@") == 2


@pytest.mark.parametrize("name", sorted(redaction.registry()))
def test_registered_data_are_entries_too(name):
    entry = redaction.registry()[name]
    reference = rerun._of_data(name, entry)
    first, year = re.match(r"(\w+) et al\. (\d{4}),", entry["reference"]).groups()
    assert reference.authors == f"{first} et al." and reference.year == int(year)
    assert reference.title in entry["reference"] and len(reference.title) > 8
    if "doi:" in entry["reference"]:
        doi = reference.doi
        assert re.fullmatch(r"10\.\d+/\S+\w", doi) and doi in entry["reference"]


def test_commands_give_the_paths_that_are_lacking_and_the_threads_that_ran(plain):
    gaps = [
        "`datasets.a.source.path` is the folder of dataset a",
        "`datasets.b.source.url` is the archive of dataset b",
        "`models.x.command` lacks its paths",
    ]
    told = rerun.commands(plain, CODE, gaps)
    assert told["segstudy"] == (
        "segstudy run settings.yaml --cores 2 --config path='{a: PATH, b: PATH}'"
    )
    assert told["snakemake"] == (
        "snakemake --snakefile segstudy/Snakefile --cores 2 --config study=settings.yaml "
        "path='{a: PATH, b: PATH}'"
    )
    words = rerun.in_words(CODE, told, gaps, ["--anonymous"])
    assert "`models.x.command` lacks its paths" in words
    assert f"git clone {CODE.address} segstudy\n   git -C segstudy checkout {CODE.commit}" in words
    assert "package='--anonymous' -- publish_package" in words
    assert "ADDRESS" not in words


def test_an_edited_clone_and_a_wheel_are_told_as_such(plain):
    edited = Code("0.2.0", "d" * 64, "", "c" * 40, "2 tracked files changed since")
    words = rerun.in_words(edited, rerun.commands(plain, edited, []), [], [])
    assert "(2 tracked files changed since: what was changed is not in this zip)" in words
    assert "git clone ADDRESS segstudy" in words and "`ADDRESS` is that of segstudy's" in words
    assert "Nothing is to be filled in." in words
    wheel = Code("0.2.0", "d" * 64, wheel_sha256="e" * 64)
    told = rerun.commands(plain, wheel, [])
    words = rerun.in_words(wheel, told, [], [])
    assert f"installed from an archive of SHA-256 `{'e' * 64}`" in words
    assert "git clone" not in words and "pip install --no-deps segstudy-0.2.0-py3-" in words
    assert "shipped.SNAKEFILE" in told["snakemake"]
    assert shipped.SNAKEFILE.is_file()


def test_where_names_are_replaced_nothing_leads_to_who_changed_the_code(monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: {"commit": "c" * 40, "state": "clean"})
    monkeypatch.setattr(provenance, "address", lambda: "https://example.org/jane")
    monkeypatch.setattr(provenance, "wheel_digest", lambda: "e" * 64)
    told = vars(rerun.code(anonymous=True))
    assert {key for key, value in told.items() if value} == {"version", "package_sha256"}
    assert rerun.code(anonymous=False).address == "https://example.org/jane"


def test_a_study_without_trainings_has_one_thread(plain):
    program = ExternalModel(
        command=["a", "{image}", "{output}"], network="external", labels={"heart": 1}
    )
    study = plain.study.model_copy(update={"models": {"program": program}})
    assert "--cores 1" in rerun.commands(Results(study, plain.root), CODE, [])["segstudy"]


def test_the_record_has_the_seeds_by_the_study_s_own_names(plain):
    """Programs find a model of `settings.yaml` in it, whatever name the report shows."""
    first, second, *_ = plain.study.models
    models = dict(plain.study.models)
    models[second] = models[second].model_copy(update={"seeds": (7, 8)})
    style = plain.study.publish.style
    shown = style.models.model_copy(update={"names": {second: "Ours"}, "order": (second, first)})
    publish = plain.study.publish.model_copy(
        update={"style": style.model_copy(update={"models": shown})}
    )
    study = plain.study.model_copy(update={"models": models, "publish": publish})
    results = Results(study, plain.root)
    results.trained = lambda *training: {"threads": 3}
    held = rerun.record(results, CODE, {"segstudy": "segstudy run x.yaml"}, [], [])
    assert held["seeds"][f"trainings of {second}"] == "7, 8"
    assert held["seeds"]["folds"] == str(study.splits.seed)
    assert (held["threads"], held["commands"]) == (3, {"segstudy": "segstudy run x.yaml"})
    told = provenance.seeds(study, results.look)
    assert ("trainings of Ours", "7, 8") in told
    assert next(what for what, _ in told if what.startswith("trainings")) == "trainings of Ours"
