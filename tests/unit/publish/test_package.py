"""The zip for the paper: complete, checked, and with nothing that tells who the patients are."""

import base64
import gzip
import hashlib
import io
import json
import re
import zipfile

import builder
import nibabel
import pandas
import pytest
from PIL import Image

from benchmark_runs import run_quickly
from segstudy.errors import InputError
from segstudy.files import write_text
from segstudy.publish.anonymous import numbered, renamed
from segstudy.publish.catalogue import PICTURES, figures
from segstudy.publish.drawing import draw_all
from segstudy.publish.package import write_package
from segstudy.publish.results import Results

NAMES = ["DOE_JANE_1957", "smith-john-0042", "mueller_1933_02"]
SECRETS = ("Jane Doe", "/home/somebody", "/data/private", "hospital-pacs-7")


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Results:
    """A study whose cases have patients' names, with secrets in every free field."""
    settings = builder.study(
        models=("enet", "unet_3d"),
        structures=("heart", "aorta"),
        description=f"Images of {NAMES[0]} and others, from /data/private/scans/list.csv.",
    )
    repair = settings.datasets["thorax"].repair.model_copy(update={"reference_case": NAMES[0]})
    thorax = settings.datasets["thorax"].model_copy(update={"repair": repair})
    settings = settings.model_copy(update={"datasets": {"thorax": thorax}})
    root = builder.build(tmp_path_factory.mktemp("private"), settings, names=NAMES)
    for path in [*root.glob("download/**/*.nii.gz"), *root.glob("infer/**/*.nii.gz")]:
        image = nibabel.load(path)
        array = image.dataobj.get_unscaled()
        image.header["descrip"] = b"Jane Doe, hospital-pacs-7"
        nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), path)
    write_text(
        root / "logs/train/enet.log", f"12:00:00 warning: {NAMES[1]} in /home/somebody/x.nii\n"
    )
    return Results(settings, root)


@pytest.fixture(scope="module")
def drawn(private, tmp_path_factory):
    folder = tmp_path_factory.mktemp("private_figures") / "figures"
    draw_all(private, folder)
    return folder


def _content(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def _everything(content: dict[str, bytes]) -> str:
    """All bytes as text, with what is compressed inside PNG and PDF files opened."""
    found = []
    for name, data in content.items():
        found.append(name + " " + data.decode("latin-1"))
        if name.endswith(".png"):
            found.append(str(Image.open(io.BytesIO(data)).info))
    return "\n".join(found)


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
    assert needed | {"README.md", "tables/metrics.csv", "tables/tests.csv"} <= set(content)
    cited = re.findall(r"@(\w+)\]", content["methods.md"].decode())
    known = re.findall(r"@\w+\{(\w+),", content["references.bib"].decode())
    assert set(cited) == set(known)
    assert len(known) == len(set(known))
    for figure in figures(private.study):
        for file in figure.files:
            assert (f"figures/{file}" in content) == (figure.kind not in PICTURES), file


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


def test_anonymous_replaces_every_name(private, drawn, tmp_path):
    write_package(private, drawn, tmp_path / "x.zip", with_images=True, anonymous=True)
    content = _content(tmp_path / "x.zip")
    text = _everything(content)
    assert not [word for word in (*NAMES, *SECRETS) if word in text]
    key = pandas.read_csv(tmp_path / "x.zip.names.csv")
    new = dict(zip(key["name"], key["published_as"], strict=True))
    assert set(NAMES) <= set(new)
    table = pandas.read_csv(io.BytesIO(content["tables/metrics.csv"]))
    names = numbered(private)["cases"]
    assert set(table["case"]) == {names[name] for name in NAMES}
    before = private.metrics.query("metric == 'dice'").set_index(["case", "structure", "model"])
    after = table[table["metric"] == "dice"].set_index(["case", "structure", "model"])
    for (case, structure, model), value in before["value"].items():
        assert after.loc[(names[case], structure, model), "value"] == pytest.approx(value)


def test_a_folder_in_the_open_is_refused(private, drawn, tmp_path, monkeypatch):
    title = f"Study of {private.root.resolve()}"
    study = private.study.model_copy(update={"title": title})
    with pytest.raises(InputError, match="must not be published"):
        write_package(Results(study, private.root), drawn, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_the_same_results_give_the_same_zip(private, drawn, usual, tmp_path):
    write_package(private, drawn, tmp_path / "usual.zip")
    first, again = _content(usual), _content(tmp_path / "usual.zip")
    code = re.compile(rb"<dt>Code</dt><dd>.*?</dd>")
    changing = ("report.html", "SHA256SUMS")  # a checkout that is edited meanwhile
    assert code.sub(b"", first["report.html"]) == code.sub(b"", again["report.html"])
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in again.items() if k not in changing
    }


def test_names_are_replaced_as_whole_words():
    names = {"cases": {"a1": "case_001", "a10": "case_002"}, "subjects": {}}
    assert renamed("a1, a10; a100 and xa1", names) == "case_001, case_002; a100 and xa1"


def test_the_benchmark_runs():
    done = run_quickly("report")
    assert "| 4 | 2 | 2 | 40x36x12 |" in done.stdout, done.stderr
    assert "target report:" in done.stdout
