"""The zip for the paper: complete, checked, and with nothing that tells who the patients are."""

import base64
import binascii
import contextlib
import gzip
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

import builder
import nibabel
import pandas
import pytest
import yaml
from described_tables import undescribed
from PIL import Image

from benchmark_runs import run_quickly
from segstudy.errors import InputError
from segstudy.files import write_table, write_text
from segstudy.folds import read_folds
from segstudy.publish.anonymous import numbered, renamed
from segstudy.publish.catalogue import PICTURES, figures
from segstudy.publish.drawing import draw_all
from segstudy.publish.package import _PATH, write_package
from segstudy.publish.package_tables import TABLES, write_tables
from segstudy.publish.redaction import WITHHELD
from segstudy.publish.results import Results
from segstudy.study import check_sources, read_study
from segstudy.study.reporting import WITHHELD as WITHHELD_OF_AUTHORS

NAMES = ["DOE_JANE_1957", "smith-john-0042", "mueller_1933_02"]
SECRETS = ("Jane Doe", "scans 1957", "somebody", "hospital-pacs-7", "dr.whoever.else")
"""What stands in folders, in headers, in logs and in remarks, and in no text that is published."""

LEADING = ("Dr Quixotte", "IRB-77123", "Saint Nowhere", "NCT0771234", "nowhere.example")
"""What the authors state of themselves, which an anonymous zip withholds."""
REPORTING = {
    "authors": [LEADING[0]],
    "ethics": f"Approved as {LEADING[1]}",
    "sources": f"Hospital of {LEADING[2]}",
    "registration": LEADING[3],
    "availability": {"data": f"on request from {LEADING[4]}"},
    "eligibility": "Adults with a contrast-enhanced scan",
}


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Results:
    """A study of a made-up patient: her name in folders, cases, headers, and in every text of a stage."""
    home = tmp_path_factory.mktemp("home") / "somebody" / "Jane Doe"
    path = str(home / "scans 1957" / "table.tsv")
    settings = builder.study(
        models=("enet", "unet_3d"),
        structures=("heart", "aorta"),
        description=f"Hearts and aortas, from {path}.",
        reporting=REPORTING,
    )
    source = settings.datasets["thorax"].source.model_copy(update={"path": path})
    repair = settings.datasets["thorax"].repair.model_copy(update={"reference_case": NAMES[0]})
    update = {"repair": repair, "source": source, "audit_labels": True}
    thorax = settings.datasets["thorax"].model_copy(update=update)
    settings = settings.model_copy(update={"datasets": {"thorax": thorax}})
    root = builder.build(home / "scans 1957" / "results", settings, names=NAMES)
    for file in [*root.glob("download/**/*.nii.gz"), *root.glob("infer/**/*.nii.gz")]:
        image = nibabel.load(file)
        array = image.dataobj.get_unscaled()
        image.header["descrip"] = b"Jane Doe, hospital-pacs-7"
        nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), file)
    write_text(
        root / "logs/train/enet.log",
        f"12:00:00 warning: {NAMES[1]} in {path}\n12:00:01 warning: Jane Doe is small\n",
    )
    _plant(root, path)
    return Results(settings, root)


def _plant(root, path) -> None:
    """Put names into what the stages say, as they say it: longer words, other case, paths with spaces."""
    rows = [
        ("", f"{path}", f"{path}: no such file; did you mean //server/Jane Doe/x?"),
        (NAMES[0], f"raw/{NAMES[0]}_T1.nii.gz", f"other grid than {NAMES[0]}_T1.nii.gz"),
        (
            NAMES[1],
            "file:///home/dr.whoever.else/x",
            "see http://dr.whoever.else:secret@hospital-pacs-7/Jane Doe",
        ),
        (NAMES[2], "../../Jane Doe/t.tsv", f"segments in the header are '{NAMES[2]}_seg' 1"),
        (NAMES[0], f"raw/{NAMES[0]}_label.nii.gz", f"3 voxels in {NAMES[0]} of an unknown value"),
        (NAMES[0], "", f"segment '{NAMES[0].lower()}' has no structure's name"),
    ]
    problems = pandas.DataFrame(rows, columns=["case", "file", "problem"])
    problems.insert(0, "dataset", "thorax")
    write_table(root / "download/thorax/problems.tsv", problems.assign(verdict="warning"))
    faults = [(NAMES[1], "aorta", "stray", "9 voxels, as in smith_john-0042", 12.5)]
    columns = ["case", "structure", "fault", "evidence", "score"]
    write_table(root / "repair/thorax/audit/faults.csv", pandas.DataFrame(faults, columns=columns))
    for file, column, text in (
        ("labels/S/verdicts.csv", "remark", "as in doe_jane_1957 T1"),
        ("estimate/attempts.csv", "reason", f"{NAMES[2].upper()}x failed"),
    ):
        table = pandas.read_csv(root / "repair/thorax" / file)
        table[column] = text
        write_table(root / "repair/thorax" / file, table)
    (root / "benchmarks/train/a.tsv").rename(root / f"benchmarks/train/{NAMES[2]}.tsv")


@pytest.fixture(scope="module")
def drawn(private, tmp_path_factory):
    folder = tmp_path_factory.mktemp("private_figures") / "figures"
    draw_all(private, folder)
    return folder


def _content(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if not name.endswith("/")]
        return {name: archive.read(name) for name in names}


def _everything(content: dict[str, bytes]) -> str:
    """All that can be read in all bytes, opened by other means than the check itself uses."""
    found = []
    for name, data in content.items():
        found += [name, *_readable(data)]
    return "\n".join(found)


def _readable(data: bytes) -> Iterator[str]:
    if data.startswith(b"\x1f\x8b"):
        yield from _readable(gzip.decompress(data))
        return
    yield data.decode("latin-1")
    yield html.unescape(data.decode("utf-8", "replace"))
    if data.startswith(b"\x89PNG") or data[8:12] == b"WEBP":
        image = Image.open(io.BytesIO(data))
        yield f"{image.info} {dict(image.getexif())}"
    if data.startswith(b"%PDF"):
        for packed in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
            with contextlib.suppress(zlib.error):
                text = zlib.decompress(packed).decode("latin-1")
                yield text
                yield "".join(re.findall(r"\((.*?)\)", text))
    for packed in re.findall(rb"base64,([A-Za-z0-9+/=]+)", data) + re.findall(
        rb'"([A-Za-z0-9+/]{200,}={0,2})"', data
    ):
        with contextlib.suppress(binascii.Error):
            yield from _readable(base64.b64decode(packed + b"=="))


def _pressed(text: str) -> str:
    """Without case and separators: `Doe, JANE` gives `doejane`."""
    return re.sub(r"[\W_]+", "", text.lower())


@pytest.fixture(scope="module")
def usual(private, drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "usual.zip"
    write_package(private, drawn, path)
    return path


def test_checksums_hold_and_name_every_file(usual):
    content = _content(usual)
    lines = [line.split("  ") for line in content["SHA256SUMS"].decode().splitlines()]
    assert {name for _, name in lines} == set(content) - {"SHA256SUMS"}
    for digest, name in lines:
        assert hashlib.sha256(content[name]).hexdigest() == digest


def test_what_a_paper_needs_is_in_it(usual, private):
    content = _content(usual)
    needed = {"report.html", "methods.md", "references.bib", "settings.yaml", "LICENCE.md"}
    needed |= {"README.md", "CITATION.cff", "requirements.lock", "settings.resolved.yaml"}
    assert needed | {"provenance.json", "settings.splits.tsv"} <= set(content)
    held = {name.removeprefix("tables/") for name in content if name.startswith("tables/")}
    absent = {"grid.csv", "instances.csv", "subgroups.csv", "subgroup_tests.csv"}
    absent |= {"quality_cases.csv", "quality_summary.csv", "label_chain.csv"}
    absent |= {name for name in TABLES if name.startswith(("corrections_", "ratings"))}
    # The study has no grid search, asks for no lesions, and nobody has reviewed its labels or rated its predictions.
    assert held == set(TABLES) - absent
    readme = content["README.md"].decode()
    for name in set(content) - {"README.md"}:
        assert any(f"`{part}`" in readme for part in (name, f"{name.split('/')[0]}/")), name
    cited = re.findall(r"@(\w+)\]", content["methods.md"].decode())
    known = re.findall(r"@\w+\{(\w+),", content["references.bib"].decode())
    assert set(cited) == set(known)
    assert len(known) == len(set(known))
    for figure in figures(private.study):
        for file in figure.files:
            assert (f"figures/{file}" in content) == (figure.kind not in PICTURES), file


@pytest.mark.parametrize("kind", ["usual", "anonymous_zip"])
def test_every_column_of_every_table_is_described(kind, request):
    """On the page of tables, `docs/tables.md`."""
    content = _content(request.getfixturevalue(kind))
    tables = [name for name in content if name.endswith(".csv")]
    assert {name.partition("/")[0] for name in tables} == {"tables", "figures", "reporting"}
    headers = {name: content[name].decode().partition("\n")[0] for name in tables}
    assert [told for one in headers.items() for told in undescribed(*one)] == []


def _entities(content: dict[str, bytes]) -> dict[str, dict]:
    graph = json.loads(content["ro-crate-metadata.json"])["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph)
    return entities


def _kinds(entity: dict) -> list[str]:
    return [entity["@type"]] if isinstance(entity["@type"], str) else entity["@type"]


def _referred(value) -> Iterator[str]:
    """All identifiers that stand as references, `{"@id": ...}`, at any depth."""
    if isinstance(value, list):
        for one in value:
            yield from _referred(one)
    elif isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        for one in value.values():
            yield from _referred(one)


@pytest.fixture(scope="module", params=["usual", "anonymous"])
def crated(request) -> dict[str, bytes]:
    """A zip with names and one without; the second has images too."""
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, dict) else _content(found)


def test_the_crate_has_every_file_with_size_and_checksum(crated):
    entities = _entities(crated)
    local = {
        urllib.parse.unquote(name): entity
        for name, entity in entities.items()
        if "File" in _kinds(entity) and ":" not in name
    }
    assert set(local) == set(crated) - {"ro-crate-metadata.json", "SHA256SUMS"}
    for name, entity in local.items():
        assert entity["sha256"] == hashlib.sha256(crated[name]).hexdigest(), name
        assert entity["contentSize"] == str(len(crated[name])), name
    folders = {name for name, entity in entities.items() if entity["@type"] == "Dataset"}
    assert folders - {"./"} == {
        f"{parent.as_posix()}/" for name in local for parent in PurePosixPath(name).parents if parent.name
    }  # fmt: skip


def test_the_crate_refers_to_nothing_that_it_lacks(crated):
    entities = _entities(crated)
    for name, entity in entities.items():
        lacking = [other for other in _referred(list(entity.values())) if other not in entities]
        assert not lacking, name
    reached, waiting = set(), ["./"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += [
            one for one in _referred(entities[name].get("hasPart", [])) if one not in reached
        ]
    data = {name for name, one in entities.items() if {"File", "Dataset"} & set(_kinds(one))}
    assert data <= reached


def test_the_crate_tells_which_run_made_what_of_what(crated, private):
    entities = _entities(crated)
    about = entities["ro-crate-metadata.json"]
    assert about["about"] == {"@id": "./"}
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in about["conformsTo"]
    root = entities["./"]
    assert {"@id": "https://w3id.org/ro/wfrun/workflow/0.5"} in root["conformsTo"]
    workflow = entities[root["mainEntity"]["@id"]]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(workflow["@type"])
    assert entities[workflow["programmingLanguage"]["@id"]]["name"] == "Snakemake"
    needed = {entities[name]["name"] for name in _referred(workflow["softwareRequirements"])}
    assert {"segstudy", "Python", "torch", "requirements.lock"} <= needed
    run = entities["#run"]
    assert run["instrument"] == root["mainEntity"]
    taken, made = set(_referred(run["object"])), set(_referred(run["result"]))
    assert "settings.yaml" in taken and {"report.html", "tables/", "figures/"} <= made
    assert not made & {"README.md", "workflow/", "settings.yaml", "settings.splits.tsv"}
    values = {one["name"]: one["value"] for one in entities.values() if "value" in one}
    assert (
        values["datasets.thorax.structures.heart"]
        == private.study.datasets["thorax"].structures["heart"]
    )
    assert values["seed of folds"] == str(private.study.splits.seed)
    table = pandas.read_csv(io.BytesIO(crated["tables/data.csv"]))
    digests = {name.removeprefix("nih:sha-256;") for name in entities if name.startswith("nih:")}
    if "case" in table:
        assert digests == set(table["sha256"])
    else:  # where names are replaced, of all files together
        assert not digests
        assert entities["#data/thorax"]["sha256"] == table["sha256"].item()


def _validator() -> list[str]:
    """The words that run roc-validator; skips where there is none.

    `ROCRATE_VALIDATOR` names the program, if it is not on the path, and `ROCRATE_CACHE` the addresses that it has fetched,
    for machines without a network.
    """
    program = shutil.which(os.environ.get("ROCRATE_VALIDATOR", "rocrate-validator"))
    if not program:
        pytest.skip(
            "no rocrate-validator: install roc-validator in an environment of its own, and set ROCRATE_VALIDATOR"
        )
    cache = os.environ.get("ROCRATE_CACHE")
    return [
        program,
        "-y",
        "validate",
        "--no-paging",
        *(["--offline", "--cache-path", cache] if cache else []),
    ]


@pytest.mark.parametrize("kind", ["usual", "anonymous_zip"])
def test_the_crate_has_no_required_failure(kind, request):
    """By the reference validator, against Workflow Run Crate and the profiles that it builds on."""
    words = [*_validator(), "-l", "required", "-p", "workflow-run-crate-0.5"]
    words.append(str(request.getfixturevalue(kind)))
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    told = run.stdout + run.stderr
    if "URLError" in told:
        pytest.skip("no network: the terms of RO-Crate cannot be fetched; set ROCRATE_CACHE")
    assert run.returncode == 0 and "is a valid" in told, told[-3000:]


def test_folds_of_the_zip_are_those_of_the_study(usual, anonymous, private, tmp_path):
    """A rerun takes them from beside its study file."""
    (tmp_path / "settings.splits.tsv").write_bytes(_content(usual)["settings.splits.tsv"])
    rows = private.splits[private.splits["fold"].isin(range(private.study.splits.folds))]
    folds = read_folds(tmp_path / "settings.splits.tsv", private.study.splits)
    assert folds == dict(zip(rows["subject"], rows["fold"], strict=True))
    assert "settings.splits.tsv" not in anonymous


def test_tables_of_the_zip_hold_what_the_stages_wrote(usual, private):
    """Counted from the files of the results, by other means than the zip is made with."""
    content, root = _content(usual), private.root

    def table(name: str) -> pandas.DataFrame:
        return pandas.read_csv(io.BytesIO(content[f"tables/{name}"]), keep_default_na=False)

    confused = [pandas.read_csv(path) for path in root.glob("metrics/*/*/*/confusion/*.csv")]
    assert table("confusion.csv")["n_voxels"].sum() == sum(
        one["n_voxels"].sum() for one in confused
    )
    assert len(table("confusion.csv")) == sum(map(len, confused)) > 0
    histories = [pandas.read_csv(path) for path in root.glob("train/*/*/*/history.csv")]
    assert len(table("training.csv")) == sum(map(len, histories)) > 0
    assert "seconds" not in table("training.csv")
    assert list(table("cases.csv")["case"]) == sorted(NAMES)
    assert list(table("audit.csv")["verdict"]) == ["warning"] * 6
    assert set(table("audit.csv")["file"]) <= {"", "image", "label", "image file", "table", "file"}
    assert list(table("label_faults.csv")["score"]) == [12.5]
    assert set(table("repair_verdicts.csv")["case"]) == set(NAMES)
    transform = json.loads(content["tables/repair_transforms.json"])["thorax"]
    assert transform == json.loads((root / "repair/thorax/estimate/transform.json").read_text())
    for path in root.glob("statistics/*.csv"):
        assert content[f"tables/{path.name}"] == path.read_bytes()
    data = table("data.csv")
    files = [*root.glob("download/thorax/raw/*.nii.gz")]
    assert sorted(data["sha256"]) == sorted(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    )
    label = data[(data["case"] == NAMES[1]) & (data["file"] == "label")]["sha256"].item()
    path = root / f"download/thorax/raw/{NAMES[1]}_label.nii.gz"
    assert label == hashlib.sha256(path.read_bytes()).hexdigest()


def test_checksums_tell_no_name_of_those_who_have_the_data(anonymous, private):
    """By one of a file everybody who has it knows its case; that of all files together stays."""
    table = pandas.read_csv(io.BytesIO(anonymous["tables/data.csv"]))
    paths = [*private.root.glob("download/thorax/raw/*.nii.gz")]
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    whole = hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
    assert list(table["sha256"]) == [whole]
    assert table["n_bytes"].item() == sum(path.stat().st_size for path in paths)
    text = _everything(anonymous)
    assert not [digest for digest in digests if digest in text]


def test_anonymous_withholds_what_leads_to_the_authors(anonymous, usual):
    usual = _content(usual)
    for content in (usual, anonymous):
        names = {
            name.split("/")[-1] for name in content if name.startswith("reporting/checklists/")
        }
        assert {"claim.html", "ridge.md", "metrics_reloaded.csv"} <= names and len(names) == 9
        claim = content["reporting/checklists/claim.csv"].decode()
        assert REPORTING["eligibility"] in claim
        assert 'href="reporting/checklists/claim.html"' in content["report.html"].decode()
    told, hidden = _everything(usual), _everything(anonymous)
    assert [word for word in LEADING if word in told] == list(LEADING)
    assert not [word for word in LEADING if word in hidden or _pressed(word) in _pressed(hidden)]
    settings = yaml.safe_load(anonymous["settings.yaml"])["reporting"]
    assert settings["eligibility"] == REPORTING["eligibility"]
    assert settings["ethics"] == WITHHELD_OF_AUTHORS


def test_anonymous_tells_neither_commit_nor_address(anonymous, usual):
    known = json.loads(_content(usual)["provenance.json"])["segstudy"]
    told = json.loads(anonymous["provenance.json"])["segstudy"]
    assert set(told) == {"version", "package_sha256"}
    text = _everything(anonymous)
    for secret in (known.get("commit"), known.get("address")):
        assert not secret or secret not in text
    assert "commit withheld" in anonymous["report.html"].decode()


def test_data_that_are_gone_are_told_of(private, tmp_path, caplog):
    """Tables are written all the same, with no checksum where none can be taken."""
    cases = [replace(case, label=tmp_path / "gone.nii.gz") for case in private.cases("thorax")]
    gone = Results(private.study, private.root)
    gone.cases = lambda dataset: cases
    write_tables(gone, tmp_path / "tables", anonymous=False)
    data = pandas.read_csv(tmp_path / "tables/data.csv")
    assert data[data["file"] == "label"]["sha256"].isna().all()
    assert data[data["file"] == "image"]["sha256"].notna().all()
    assert "thorax: 3 of its files cannot be read any more" in caplog.text


def test_links_of_the_zipped_report_resolve(usual):
    content = _content(usual)
    page = content["report.html"].decode()
    links = [link for link in re.findall(r'href="([^"#]+)"', page) if ":" not in link]
    assert len(links) > 20
    assert not [link for link in links if link not in content]


def test_no_image_and_no_secret_unless_asked(usual):
    content = _content(usual)
    text = _everything(content)
    assert not [secret for secret in SECRETS if secret in text]
    assert "data:image/webp" not in content["report.html"].decode()
    assert '"images":' not in content["report.html"].decode()
    assert not [name for name in content if name.endswith((".nii.gz", ".log", "layers.json"))]


def test_images_when_asked(private, drawn, tmp_path):
    write_package(private, drawn, tmp_path / "x.zip", with_images=True)
    content = _content(tmp_path / "x.zip")
    assert "data:image/webp" in content["report.html"].decode()
    assert "figures/samples-thorax.png" in content
    assert 'href="viewer/index.html"' in content["report.html"].decode()
    scripts = [name for name in content if name.startswith("viewer/thorax-")]
    assert scripts
    for name in scripts:
        held = json.loads(content[name].decode().split(" = ", 1)[1].rstrip(";\n"))
        for packed in (held["image"], *held["labels"].values()):
            raw = gzip.decompress(base64.b64decode(packed))
            assert not raw[148:252].strip(b"\0")  # NIfTI's fields descrip and aux_file
            assert b"Jane" not in raw
    assert not [secret for secret in SECRETS if secret in _everything(content)]


@pytest.fixture(scope="module")
def anonymous_zip(private, drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    write_package(private, drawn, path, with_images=True, anonymous=True)
    return path


@pytest.fixture(scope="module")
def anonymous(anonymous_zip) -> dict[str, bytes]:
    return _content(anonymous_zip)


def test_anonymous_replaces_every_name(private, anonymous_zip, anonymous):
    content = anonymous
    text = _everything(content)
    pressed = _pressed(text)
    assert not [word for word in (*NAMES, *SECRETS) if word in text or _pressed(word) in pressed]
    words = "\n".join(
        re.sub(r"[A-Za-z0-9+/]{200,}", " ", data.decode())
        for name, data in content.items()
        if not name.endswith((".png", ".pdf", "niivue.umd.js"))
    ).lower()
    assert not [word for word in ("jane", "smith", "mueller", "somebody") if word in words]
    key = pandas.read_csv(f"{anonymous_zip}.names.csv")
    new = dict(zip(key["name"], key["published_as"], strict=True))
    assert set(NAMES) <= set(new)
    table = pandas.read_csv(io.BytesIO(content["tables/metrics.csv"]))
    names = numbered(private)["cases"]
    assert set(table["case"]) == {names[name] for name in NAMES}
    before = private.metrics.query("metric == 'dice'").set_index(["case", "structure", "model"])
    after = table[table["metric"] == "dice"].set_index(["case", "structure", "model"])
    for (case, structure, model), value in before["value"].items():
        assert after.loc[(names[case], structure, model), "value"] == pytest.approx(value)


def test_the_zip_is_still_of_use(anonymous, private):
    """What may be read stays: verdicts, problems in plain words, and settings that are a study file."""
    page = html.unescape(anonymous["report.html"].decode())
    names = numbered(private)["cases"]
    for text, role in (
        (f"3 voxels in {names[NAMES[0]]} of an unknown value", "label"),
        (WITHHELD, "image file"),
    ):
        assert f"<td>{names[NAMES[0]]}</td><td>{text}</td><td>{role}</td>" in page
    assert "Hearts and aortas, from the case table of dataset thorax." in page
    assert f"train/{names[NAMES[2]]}" not in page and f"<td>{names[NAMES[2]]}</td>" in page


def test_the_settings_of_the_zip_are_a_study_file_that_runs_again(anonymous, private, tmp_path):
    """As the README says: with the path and the name of the reference case put in, it is the study."""
    readme = anonymous["README.md"].decode()
    assert "`datasets.thorax.source.path` is the case table of dataset thorax" in readme
    assert "`datasets.thorax.repair.reference_case` is the name of a case" in readme
    content = yaml.safe_load(anonymous["settings.yaml"])
    (tmp_path / "settings.yaml").write_bytes(anonymous["settings.yaml"])
    with pytest.raises(InputError, match="the case table of dataset thorax: no such table"):
        check_sources(read_study(tmp_path / "settings.yaml"), "settings.yaml")
    thorax = private.study.datasets["thorax"]
    content["datasets"]["thorax"]["source"]["path"] = thorax.source.path
    content["datasets"]["thorax"]["repair"]["reference_case"] = NAMES[0]
    content["description"] = private.study.description
    content["reporting"] = REPORTING
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    assert read_study(tmp_path / "settings.yaml") == private.study


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("title", "Study of {root}", "a part of the study's paths, 'somebody'|the path"),
        ("description", "For Jane-Doe.", "'(?i:jane doe)': \u201cfor jane-doe.\u201d"),
        (
            "description",
            "See /data/private/list.csv.",
            "a path or an address .*'/data/private/list",
        ),
        ("description", "From file:///x", "a path or an address"),
        ("description", "From http://me:pass@here/x", "a path or an address"),
        ("description", "Like doe jane 1957", "the name 'DOE_JANE_1957'"),
        ("reporting.eligibility", "For Jane-Doe.", "'(?i:jane doe)'"),
        ("description", "Like xsmithjohn0042y", "the name 'smith-john-0042'"),
    ],
)
def test_the_authors_own_words_are_refused_where_they_tell(
    private, drawn, tmp_path, key, text, told
):
    text = text.format(root=private.root.resolve())
    study = private.study.model_copy(update={key: text})
    if key.startswith("reporting."):
        stated = private.study.reporting.model_copy(update={key.partition(".")[2]: text})
        study = private.study.model_copy(update={"reporting": stated})
    with pytest.raises(InputError, match=f"^{key} of the study file: .*({told})"):
        write_package(Results(study, private.root), drawn, tmp_path / "x.zip", anonymous=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("Adults </script><b>of</b> 18 and/or more </p> or/and less", False),
        ("a </x-bad > b/c", False),
        ("Listed in </home/jane/list.csv>", True),
        ("Listed in <b>/home/jane/list.csv</b>", True),
        ("Listed in </home /jane/list.csv>", True),
    ],
)
def test_the_end_of_an_element_is_no_path(text, is_path):
    assert bool(_PATH.search(text)) is is_path


def test_the_same_results_give_the_same_zip(private, drawn, usual, tmp_path):
    write_package(private, drawn, tmp_path / "usual.zip")
    first, again = _content(usual), _content(tmp_path / "usual.zip")
    code = re.compile(rb"<dt>Code</dt><dd>.*?</dd>")
    # A checkout that is edited meanwhile.
    changing = ("report.html", "SHA256SUMS", "provenance.json", "README.md", "CITATION.cff")
    assert code.sub(b"", first["report.html"]) == code.sub(b"", again["report.html"])
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in again.items() if k not in changing
    }


def test_names_are_replaced_as_whole_words():
    names = {"cases": {"a1": "case_001", "a10": "case_002"}, "subjects": {}}
    assert renamed("a1, a10; a100 and xa1", names) == "case_001, case_002; a100 and xa1"


@pytest.mark.long
def test_the_benchmark_runs():
    done = run_quickly("report")
    assert "| 4 | 2 | 2 | 40x36x12 |" in done.stdout, done.stderr
    assert "target report:" in done.stdout
