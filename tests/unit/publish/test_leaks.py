"""The last look at the zip: a planted name is found wherever it can be read, and nothing else is."""

import base64
import gzip
import io
import json
from pathlib import Path

import matplotlib.figure
import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segstudy.errors import InputError
from segstudy.files import write_text
from segstudy.publish.leaks import Leaks, Sought, check
from segstudy.publish.redaction import (
    WITHHELD,
    command,
    redacted,
    role_of_file,
    settings_yaml,
    stage_text,
)
from segstudy.study import read_study

STUDIES = Path(__file__).resolve().parents[3] / "config" / "studies"

NAME = "DOE_Jane_1957"


def names(*texts, published=()) -> Leaks:
    return Leaks(names=[Sought(text, "the name") for text in texts], published=published)


def folders(*texts, published=()) -> Leaks:
    return Leaks(folders=[Sought(text, "the folder") for text in texts], published=published)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "DOE_Jane_1957",
            "doe_jane_1957_T1.nii.gz",
            "xDOEJANE1957y",
            "Doe, Jane 1957",
            "DoeJane1957",
        ),
        *("doe-jane-1957_seg", "a\nDOE JANE: 1957", "the <b>Doe Jané 1957</b>", "DOE__JANE__1957"),
    ],
)
def test_a_name_is_found_however_it_is_written(text):
    assert names(NAME).find(text)
    assert names("doejane1957").find(text)


@pytest.mark.parametrize("text", ["doe 1957", "", "jane", "Jane Roe, Doe street"])
def test_what_is_another_name_is_not_found(text):
    assert not names(NAME).find(text)


@given(
    parts=st.lists(st.from_regex(r"[a-z]{2,6}[0-9]{0,3}", fullmatch=True), min_size=2, max_size=4),
    marks=st.lists(st.sampled_from(["", "_", "-", " ", ".", ", "]), min_size=4, max_size=4),
    upper=st.booleans(),
    around=st.tuples(*[st.sampled_from(["", " ", "/", "(", "_"])] * 2),
)
def test_any_separators_and_any_case(parts, marks, upper, around):
    name = "_".join(["zq", *parts])
    written = "".join(part + mark for part, mark in zip(["zq", *parts], [*marks, ""], strict=False))
    written = written.strip("_-. ,")
    assert names(name).find(around[0] + (written.upper() if upper else written) + around[1])


@pytest.mark.parametrize(
    ("name", "there", "not_there"),
    [
        ("anna", "of Anna, anna_T1 and ANNA2", "a savanna of annals"),
        ("c1a2", "case c1a2.nii", "sha 0c1a2f"),
        ("0042", "case 0042", "0.0042, 00421 and a0042b"),
        ("19570313", "born 19570313.", "0.19570313 and 195703130"),
        ("Müller_33", "mueller is not, MULLER-33 is", "muller 334"),
    ],
)
def test_short_names_and_numbers_are_found_as_words(name, there, not_there):
    assert names(name).find(there)
    assert not names(name).find(not_there)


def test_names_that_are_numbers_are_looked_for_where_cases_are_named(tmp_path):
    """A table is full of numbers; its column `case` is not."""
    leaks = names("12", "1042", published=["case_001"])
    write_text(tmp_path / "a.csv", "case,n_voxels\ncase_001,1042\n")
    write_text(tmp_path / "a.html", '<td>1042</td><td>12</td>{"case_001": [12]}')
    check(tmp_path, leaks)
    write_text(tmp_path / "a.csv", "n_voxels,subject\n12,1042\n")
    with pytest.raises(InputError, match=r"a\.csv: .*'1042'"):
        check(tmp_path, leaks)
    write_text(tmp_path / "a.csv", "x\n")
    write_text(tmp_path / "a.html", '{"12": [0.5]}')
    with pytest.raises(InputError, match=r"a\.html: .*'12'"):
        check(tmp_path, leaks)


def test_ordinary_words_and_what_is_published_are_no_leak():
    usual = ["data", "images", "imagesTr", "labels", "home", "results", "fold-0", "v2", "Table", ""]
    assert not folders(*usual).texts
    assert not folders("thorax", "Thorax_T1", published=["thorax"]).texts
    assert [one.text for one in folders("thorax_jane", published=["thorax"]).texts] == [
        "thorax_jane"
    ]
    assert [one.text for one in folders("Jane Doe", "scans 1957", "pacs7x").texts] == [
        *("Jane Doe", "scans 1957", "pacs7x"),
    ]
    assert names("heart", "case_007").too_ordinary == ["heart"]
    assert names("case001", published=["case_001"]).texts == []
    assert names("patient_01").find("sub patient-01 of")


# --- files --------------------------------------------------------------------------------------


def _png(text: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    info.add_text("Comment", text, zip=True)
    Image.new("L", (2, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _png_international(text: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    info.add_itxt("Title", text, zip=True)
    Image.new("L", (2, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _webp(text: str) -> bytes:
    file, tags = io.BytesIO(), Image.Exif()
    tags[0x010E] = text
    Image.new("RGB", (2, 2)).save(file, "WEBP", exif=tags)
    return file.getvalue()


def _drawn(text: str, suffix: str) -> bytes:
    figure, file = matplotlib.figure.Figure(), io.BytesIO()
    figure.text(0.1, 0.5, text)
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path"}):
        figure.savefig(file, format=suffix)
    return file.getvalue()


def _volume(text: str) -> bytes:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = text.encode()
    return gzip.compress(image.to_bytes())


def _address(data: bytes, kind: str) -> bytes:
    return f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}">'.encode()


HIDDEN = {
    "text.md": lambda text: f"a {text} b".encode(),
    "entity.html": lambda text: "".join(f"&#{ord(sign)};" for sign in text).encode(),
    "escaped.json": lambda text: json.dumps({text.replace("e", "é"): 1}).encode(),
    "percent.svg": lambda text: "".join(f"%{ord(sign):02X}" for sign in text).encode(),
    "latin.csv": lambda text: f"\xfc,{text}".encode("latin-1"),
    "chunk.png": _png,
    "international.png": _png_international,
    "trailing.png": lambda text: _png("x") + text.encode(),
    "words.pdf": lambda text: _drawn(text, "pdf"),
    "words.svg": lambda text: _drawn(text, "svg"),
    "picture.html": lambda text: _address(_png(text), "image/png"),
    "photo.html": lambda text: _address(_webp(text), "image/webp"),
    "drawing.html": lambda text: _address(f"<svg>{'x' * 60}{text}</svg>".encode(), "image/svg+xml"),
    "volume.js": lambda text: json.dumps(
        {"image": base64.b64encode(_volume(text)).decode()}
    ).encode(),
    "path.txt": lambda text: f"/mnt/{'data/' * 12}{text}/{'x' * 20}".encode(),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize(
    ("leaks", "text"),
    [
        (names(NAME), "doeJANE1957"),
        (folders("Jane Doe"), "Jane Doe"),
        (names("pfiffer"), "Pfiffer"),  # a ligature in a PDF
    ],
)
def test_a_planted_name_is_found_in_every_kind_of_file(tmp_path, name, leaks, text):
    if name == "path.txt" and " " in text:
        text = text.replace(" ", "")
    (tmp_path / name).write_bytes(HIDDEN[name]("nothing to tell of it"))
    check(tmp_path, leaks)
    (tmp_path / name).write_bytes(HIDDEN[name](text))
    with pytest.raises(InputError, match=rf"not published, .*\n{name}.*{leaks.texts[0].text}"):
        check(tmp_path, leaks)


def test_names_of_files_are_looked_at(tmp_path):
    (tmp_path / f"{NAME}-1.csv").touch()
    with pytest.raises(InputError, match="its name"):
        check(tmp_path, names(NAME))


def test_the_message_has_the_place_with_what_is_around_it(tmp_path):
    write_text(tmp_path / "sub/report.html", "<td>a repair like that of doe-jane-1957, again</td>")
    with pytest.raises(InputError) as refused:
        check(tmp_path, names(NAME))
    assert str(refused.value).splitlines()[1] == (
        "sub/report.html: the name 'DOE_Jane_1957': “<td>a repair like that of doe-jane-1957, again</td>”"
    )


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dcm", "a.pt", "a.log", "a.zip", "a.exe"])
def test_only_known_kinds_of_files_are_let_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"\1\2\3")
    with pytest.raises(InputError, match="is not to be published"):
        check(tmp_path, names(NAME))


def test_references_and_files_of_others_may_hold_what_they_hold(tmp_path):
    reference = "Zyxw A (2020). On zyxw."
    write_text(tmp_path / "references.bib", f"{reference}\n")
    (tmp_path / "theirs.js").write_bytes(b"zyxw")
    check(tmp_path, names("zyxw"), constant=[reference], known=[b"zyxw"])
    write_text(tmp_path / "references.bib", f"{reference} And Zyxw.\n")
    with pytest.raises(InputError, match="references.bib"):
        check(tmp_path, names("zyxw"), constant=[reference], known=[b"zyxw"])


def test_pixels_and_digests_are_no_text(tmp_path):
    """Random bytes hold every short name somewhere."""
    pixels = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    volume = nibabel.Nifti1Image(pixels, np.eye(4)).to_bytes()
    packed = base64.b64encode(gzip.compress(volume)).decode()
    write_text(tmp_path / "a.js", f'cases["x"] = {{"image": "{packed}"}};')
    write_text(tmp_path / "SHA256SUMS", "ab12cd34" * 8 + "  a.png\n")
    check(tmp_path, names("zq7", "xk", "ab12cd", "qxz", "b4k9"))


# --- roles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("/opt/Jane Doe/bin/mri_synthseg|--i|{image}", "mri_synthseg|--i|{image}"),
        ("C:\\Jane\\seg.exe|--o={output}", "seg.exe|--o={output}"),
        ("python|/home/jane/p.py|--w=/x/y|-n|2", "python|(a path)|(a path)|-n|2"),
        (
            "docker|run|host:port/x|~/a|Jane Doe|$HOME",
            "docker|run|(a path)|(a path)|(a path)|(a path)",
        ),
        ("/opt/my seg|{image}", "program|{image}"),
    ],
)
def test_a_command_keeps_its_options_and_no_path(words, told):
    assert command(words.split("|")) == tuple(told.split("|"))


@pytest.mark.parametrize(
    "text",
    [
        *("/data/Jane Doe/scans 1957/table.tsv: no such file", "in //server/share/x", "file:///x"),
        *(
            "http://user:password@host/x",
            "../../name/t.tsv",
            "C:\\Users\\x",
            "~/x",
            "name_T1.nii.gz",
        ),
    ],
)
def test_a_stage_s_text_that_can_name_a_file_is_withheld(text):
    assert stage_text(text) == WITHHELD
    assert stage_text("no voxel of heart, 3.5 mm; n = 2") == "no voxel of heart, 3.5 mm; n = 2"
    assert stage_text(None) == stage_text(float("nan")) == ""


def test_a_file_has_its_role():
    files = ["/a b/c.nii.gz", "x/labels.tsv", "../../x.raw", ""]
    assert [role_of_file(file) for file in files] == ["image file", "table", "file", ""]


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_settings_that_are_published_are_a_study_file(file, tmp_path):
    """It says the same as the study file, but for where the data are."""
    study = read_study(file, "/mnt/Jane Doe/scans 1957" if file.stem == "oasis_slices" else None)
    text = settings_yaml(study)
    assert "Jane" not in text and "1957" not in text
    write_text(tmp_path / "settings.yaml", text)
    again = read_study(tmp_path / "settings.yaml")
    before, after = (one.model_dump(mode="json", exclude={"grids"}) for one in (study, again))
    for content in (before, after):
        for dataset in content["datasets"].values():
            dataset["source"].pop("path", None)
    assert after == before


def test_roles_stand_where_paths_were_written(tmp_path):
    text = """
datasets:
  a: {source: {layout: table, path: "/mnt/Jane Doe/scans 1957/t.tsv"}, modality: MR, structures: {heart: 1}}
  b: {source: {layout: msd, url: "http://me:pw@pacs/Jane Doe.tar", md5: 0123456789abcdef0123456789abcdef},
      modality: MR, structures: {heart: 1}}
models:
  x: {trainer: external, labels: {heart: 1}, command: "/home/jane/seg --i {image} --o {output} -w '/x y/w.pt'"}
description: Of /mnt/Jane Doe/scans 1957/t.tsv.
"""
    write_text(tmp_path / "s.yaml", text)
    told = redacted(read_study(tmp_path / "s.yaml"))
    sources = [dataset.source for dataset in told.datasets.values()]
    assert sources[0].path == "the case table of dataset a"
    assert (sources[1].url, sources[1].md5[:4]) == ("the archive of dataset b", "0123")
    assert told.models["x"].command == (
        *("seg", "--i", "{image}", "--o", "{output}", "-w", "(a path)"),
    )
    assert told.description == "Of the case table of dataset a."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Jane Doe", "Doe, Jane"),
        ("Jane Doe", "<b>Jane</b> <b>Doe</b>"),
        ("Jane Doe", "JANE  DOE -- 1957"),
        ("Jane_Doe_1957", "Jane Doe, born in spring"),
        ("Müller", "of Mueller"),
        ("Mueller-12", "of Müller 12"),
        ("Sørensen", "of Sorensen"),
        ("Łukasz", "of Lukasz"),
        ("Grace Young", "GRACE YOUNG"),
        ("4711234", "Patient MRN4711234"),
        ("4711234", "id 4711234_v2"),
    ],
)
def test_other_ways_to_write_a_name_are_found(name, text):
    assert names(name).find(text)


def test_a_number_is_a_name_in_the_authors_own_words():
    assert names("4711").find_in_words("of patient 4711, in spring")
    assert not names("4711").find_in_words("of 47110 and 0.4711")


@pytest.mark.parametrize("name", ["001", "002", "000", "007"])
def test_short_numbers_and_the_new_names_trip_nothing(name):
    leaks = Leaks(names=[Sought(name, "the name")], new=["case_001", "case_002"])
    for text in ("case,structure\ncase_001,liver", "color: #000", "p < .001", "case_002.nii.gz"):
        assert not leaks.find(text)


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("thesis", "gamma of the synthesis"),
        ("research", "https://doi.org/10.12688/f1000research.1"),
        ("students", "a student's t test"),
    ],
)
def test_a_folder_is_no_part_of_a_word(folder, text):
    leaks = Leaks(folders=[Sought(folder, "a part of the study's paths,", True)])
    assert not leaks.find(text)


def test_a_name_that_the_study_bears_is_told():
    for label in ("Jane_Doe", "scans_of_JaneDoe", "DoeJane"):
        assert names("Jane Doe").told_by(label)
    assert not names("Jane Doe").told_by("thorax")
    assert not names("001").told_by("site_a")


def test_public_addresses_are_no_paths():
    from segstudy.publish.package import _PATH

    for text in ("see https://doi.org/10.1038/s41592-020", "https://github.com/me/x", "and/or"):
        assert not _PATH.search(text)
    for text in ("/data/anna/x", "at //server/share/x", "file:///home/x", "http://me:pw@host/x"):
        assert _PATH.search(text)
