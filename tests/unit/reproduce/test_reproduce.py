"""`segstudy reproduce` before and after its run: what it refuses, what it shows, and how it tells tables apart."""

import hashlib
import io
import json
import math
import platform
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from segstudy import cli, reproduce_command, start
from segstudy.errors import InputError
from segstudy.reproduce import inputs
from segstudy.reproduce.comparison import compared, table
from segstudy.reproduce.differences import of_code, of_data, of_versions
from segstudy.reproduce.package import opened
from segstudy.study import read_study

STUDY = {
    "schema_version": 2,
    "name": "tiny",
    "datasets": {
        "chest": {
            "source": {"layout": "table", "path": "(the case table of dataset chest)"},
            "modality": "CT",
            "structures": {"heart": 1},
        }
    },
    "models": {
        "theirs": {"trainer": "predictions", "files": "(predictions of theirs)/out/{case}.nii.gz"},
        "program": {
            "trainer": "external",
            "command": ["segment", "(a path)", "{image}", "{output}"],
            "labels": {"heart": 1},
        },
    },
}
LACKING = {
    "datasets.chest.source.path": "is the case table of dataset chest",
    "models.theirs.files": "is (predictions of theirs)/out/{case}.nii.gz",
    "models.program.command": "lacks its paths",
}
PHANTOM = {
    **STUDY,
    "datasets": {"chest": {**STUDY["datasets"]["chest"], "source": {"layout": "phantom", "patients": 4}}},
    "models": {"unet": {"network": "unet"}},
}  # fmt: skip


def content(study: dict = STUDY, lacking: dict = LACKING, **record) -> dict[str, bytes]:
    """The files of a package, but for their checksums."""
    told = {"segstudy": start.running_code(), "versions": {}, "threads": 1, "options": []}
    told |= {"to_fill_in": lacking, "partial": [], **record}
    usage = [
        {"@id": "#run", "endTime": "2026-11-29T10:00:00+00:00"},
        {"@id": "#usage/train/seconds", "value": 90.0},
        {"@id": "#usage/infer/seconds", "value": 10.5},
        {"@id": "#usage/train/memory_mb", "value": 812.0},
        {"@id": "#machine/a", "name": "packed on", "value": "Linux, 2 cores"},
    ]
    lock = f"# Python {platform.python_version()}\nnumpy=={metadata.version('numpy')}\n"
    return {
        "settings.yaml": yaml.safe_dump(study, sort_keys=False).encode(),
        "provenance.json": json.dumps(told).encode(),
        "requirements.lock": lock.encode(),
        "ro-crate-metadata.json": json.dumps({"@graph": usage}).encode(),
        "tables/data.csv": b"dataset,case,file,n_bytes,sha256\nchest,a,image,3,00\n",
    }


def content_of_record(key: str, value: object) -> bytes:
    return json.dumps(json.loads(content()["provenance.json"]) | {key: value}).encode()


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()
    ).encode()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def whole(path: Path, files: dict[str, bytes]) -> Path:
    return packed(path, {**files, "SHA256SUMS": sums(files)})


def refused(path: Path, tmp_path: Path) -> str:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(InputError) as error:
        opened(path, folder)
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_whole_package_is_read(tmp_path):
    (tmp_path / "unpacked").mkdir()
    package = opened(whole(tmp_path / "a.zip", content()), tmp_path / "unpacked")
    assert package.lacking == LACKING and not package.is_anonymous and not package.has_folds
    assert (
        package.cost
        == "2026-11-29; 1 min 40 s of jobs in all; at most 812 MB; packed on Linux, 2 cores"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tables/data.csv": b"dataset,file,sha256\n"}, "changed since it was written: tables/data.csv has another"),
        ({"tables/more.csv": b""}, "tables/more.csv is not in SHA256SUMS"),
        ({"settings.yaml": None}, "no settings.yaml"),
        ({"SHA256SUMS": b"no sums\n"}, "SHA256SUMS, line 1: no checksum"),
        ({"ro-crate-metadata.json": None}, "no ro-crate-metadata.json"),
        ({"../evil.py": b""}, "lies outside the folder"),
        ({"/etc/evil": b""}, "lies outside the folder"),
    ],
)  # fmt: skip
def test_a_package_that_is_not_as_it_was_written_is_refused(change, words, tmp_path):
    files = content()
    files |= {"SHA256SUMS": sums(files), **change}
    path = packed(
        tmp_path / "a.zip", {name: data for name, data in files.items() if data is not None}
    )
    assert words in refused(path, tmp_path)
    assert not [*tmp_path.rglob("evil*")]


def test_a_file_that_its_checksums_name_and_that_is_gone_is_told(tmp_path):
    files = content() | {"tables/metrics.csv": b"a\n"}
    files["SHA256SUMS"] = sums(files)
    del files["tables/metrics.csv"]
    assert "tables/metrics.csv is missing" in refused(packed(tmp_path / "a.zip", files), tmp_path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"text")
    assert "neither a tar nor a zip" in refused(tmp_path / "a.zip", tmp_path)


def test_a_zip_that_is_cut_off_is_refused(tmp_path):
    path = whole(tmp_path / "a.zip", content())
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("segstudy", "?"), ("threads", "?"), ("threads", 0), ("to_fill_in", "?"), ("options", "?")],
)
def test_a_record_of_another_kind_is_refused(key, value, tmp_path):
    path = whole(tmp_path / "a.zip", content() | {"provenance.json": content_of_record(key, value)})
    assert f"provenance.json: {key}: missing or of the wrong kind" in refused(path, tmp_path)


@pytest.fixture
def study(tmp_path):
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return read_study(tmp_path / "settings.yaml")


def test_paths_go_to_the_datasets_that_lack_one(study, tmp_path):
    for given in (str(tmp_path), f"chest={tmp_path}"):
        assert inputs.data_folders([given], study, LACKING) == {"chest": str(tmp_path)}
    with pytest.raises(InputError, match=r"--path chest=gone: no such file or folder"):
        inputs.data_folders(["chest=gone"], study, LACKING)
    with pytest.raises(InputError, match=r"no dataset of this package lacks a path"):
        inputs.data_folders([str(tmp_path)], study, {})


def test_only_what_a_package_lacks_can_be_set(study, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    given = inputs.settings(["models.theirs.files=out"], LACKING)
    assert given == {"models.theirs.files": str(Path("out").absolute())}
    with pytest.raises(InputError, match=r"models\.unet\.epochs is not lacking in the package"):
        inputs.settings(["models.unet.epochs=1"], LACKING)
    lines = inputs.still_lacking(LACKING, [], given)
    assert len(lines) == 2 and "--path chest=PATH" in lines[0]
    assert "--set models.program.command='PROGRAM WORDS'" in lines[1]
    program = "/opt/segment --w /opt/w.pt {image} {output}"
    given |= inputs.settings([f"models.program.command={program}"], LACKING)
    assert not inputs.still_lacking(LACKING, ["chest"], given)
    assert (
        inputs.filled_in(tmp_path / "settings.yaml", {}, study)
        == (tmp_path / "settings.yaml").read_text()
    )
    (tmp_path / "filled.yaml").write_text(
        inputs.filled_in(tmp_path / "settings.yaml", given, study)
    )
    filled = read_study(tmp_path / "filled.yaml")
    assert filled.models["theirs"].files == f"{Path('out').absolute()}/out/{{case}}.nii.gz"
    assert filled.models["program"].command == tuple(program.split())


def test_a_pattern_takes_the_place_of_the_whole_one(study, tmp_path):
    given = inputs.settings([f"models.theirs.files={tmp_path}/{{case}}.mha"], LACKING)
    text = inputs.filled_in(tmp_path / "settings.yaml", given, study)
    assert yaml.safe_load(text)["models"]["theirs"]["files"] == f"{tmp_path}/{{case}}.mha"


def test_no_text_of_a_package_gets_into_the_command_of_a_job(tmp_path, monkeypatch, capsys):
    """A rule takes the options of the package unquoted."""
    ran = []
    monkeypatch.setattr(
        reproduce_command, "_segstudy", lambda rerun, target: ran.append((rerun, target))
    )
    monkeypatch.setattr(reproduce_command, "_check_data", lambda rerun: None)
    monkeypatch.setattr(reproduce_command, "_compare", lambda rerun: True)
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}, options=["--anonymous", "; touch evil"]))
    assert cli.main(["reproduce", str(path), "--yes", "--output", str(tmp_path / "out")]) in (
        0,
        None,
    )
    assert [target for _, target in ran] == ["download", "publish_package"]
    words = inputs.config({"chest": "/a b"}, ran[0][0].package.is_anonymous)
    assert words == ["--config", 'path={"chest": "/a b"}', "package=--anonymous"]


def test_a_table_that_differs_is_an_exit_status_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce_command, "_run", lambda rerun: False)
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}))
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", str(path), "--yes", "--output", str(tmp_path / "out")])
    assert ended.value.code == 3


def test_versions_that_are_other_or_missing_are_listed(tmp_path):
    lock = tmp_path / "requirements.lock"
    numpy = metadata.version("numpy")
    lock.write_text(f"# Python {platform.python_version()}\nnumpy=={numpy}\n")
    assert of_versions(lock) == []
    lock.write_text("# Python 2.7.18\nnumpy==0.1\nno-such-library==1.0\n")
    assert of_versions(lock) == [
        f"Python: 2.7.18 made it, {platform.python_version()} is here",
        f"numpy: 0.1 made it, {numpy} is here",
        "no-such-library: 1.0 made it, none is here",
    ]


def test_other_code_is_told_by_its_files_alone():
    here = {"version": "2", "package_sha256": "b"}
    assert of_code({"version": "1", "package_sha256": "b"}, here) == []
    told = {"version": "1", "package_sha256": "a", "commit": "c" * 40, "state": "clean"}
    assert "1, commit cccccccccccc (clean) made it, 2 is here" in of_code(told, here)[0]


def test_data_that_are_other_missing_or_new_are_named():
    def row(case, file, sha256):
        return {"dataset": "chest", "case": case, "file": file, "sha256": sha256}

    then = [row("a", "image", "1"), row("a", "label", "2"), row("b", "image", "3")]
    then += [row("a", "prediction of theirs", "9"), row("b", "prediction of theirs", "8")]
    now = [row("a", "image", "1"), row("a", "label", "5"), row("c", "image", "3")]
    now += [row("a", "prediction of theirs", "8"), row("c", "prediction of theirs", "7")]
    assert of_data(then, now) == [
        "image of b (chest) is missing",
        "prediction of theirs of b (chest) is missing",
        "label of a (chest) is another file",
        "prediction of theirs of a (chest) is another file",
        "image of c (chest) is not in the package",
    ]
    of_all = {"dataset": "chest", "file": "all 3 files", "sha256": "x"}
    assert of_data([of_all], [of_all]) == []
    assert of_data([of_all], [of_all | {"sha256": "y"}]) == ["chest: all 3 files is another file"]


def test_tables_are_compared_to_the_byte_and_by_column(tmp_path):
    then, now = tmp_path / "then", tmp_path / "now"
    tables = {
        "same.csv": ("a,b\n1,2\n", "a,b\n1,2\n"),
        "values.csv": ("case,dice,hd\na,0.5,1\nb,0.25,inf\nc,0.1,\n", "case,dice,hd\na,0.75,1\nb,0.125,3\nx,0.1,\n"),
        "rows.csv": ("a\n1\n", "a\n1\n2\n"),
        "columns.csv": ("a\n1\n", "b\n1\n"),
        "spelt.csv": ("a\n1\n", "a\r\n1\r\n"),
        "gone.csv": ("a\n1\n", None),
        "more.csv": (None, "a\n1\n"),
        "other.json": ("{}", "[]"),
    }  # fmt: skip
    for name, texts in tables.items():
        for folder, text in zip((then, now), texts, strict=True):
            folder.mkdir(exist_ok=True)
            if text is not None:
                (folder / name).write_bytes(text.encode())
    found = compared(then, now)
    told = {(one.table, one.column): (one.verdict, one.largest, one.rows) for one in found}
    assert told.pop(("values.csv", "case")) == ("differs", None, 1)
    assert told.pop(("values.csv", "dice")) == ("differs", 0.25, 2)
    assert told.pop(("values.csv", "hd")) == ("differs", math.inf, 1)
    assert {name: verdict for (name, _), (verdict, *_) in told.items()} == {
        "same.csv": "same", "rows.csv": "differs", "columns.csv": "differs", "spelt.csv": "differs",
        "gone.csv": "missing", "more.csv": "new", "other.json": "differs",
    }  # fmt: skip
    sentences = "\n".join(one.sentence for one in found)
    assert "values.csv: dice: differs by at most 0.25, in 2 rows" in sentences
    assert "rows.csv: differs: 1 rows there, 2 here" in sentences
    assert "spelt.csv: differs: written otherwise, with the same values" in sentences
    assert len(table(found)) == len(found)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def no_run(monkeypatch):
    """A command that would run ends the test."""

    def fail(*words, **options):
        raise AssertionError(f"ran {words}")

    monkeypatch.setattr(reproduce_command, "_segstudy", fail)


@pytest.mark.usefixtures("no_run")
def test_what_a_package_lacks_is_listed_with_the_option_that_gives_it(
    tmp_path, capsys, monkeypatch
):
    path = whole(tmp_path / "a.zip", content())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", str(path), "--yes", "--trust"]) == 1
    told = capsys.readouterr()
    assert "chest: not given" in told.out and "1 min 40 s of jobs in all" in told.out
    assert "program of program: segment '(a path)'" in told.out
    for words in (
        "--path chest=PATH",
        "--set models.theirs.files=PATH",
        "--set models.program.command",
    ):
        assert words in told.err
    assert cli.main(["reproduce", str(path), "-n"]) == 0
    assert "to do:" in capsys.readouterr().out
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zip"]


OWN_CODE = "class Network:\n    pass\n"


@pytest.mark.usefixtures("no_run")
def test_code_of_others_runs_only_with_trust(tmp_path, capsys, monkeypatch):
    models = {"own": {"network": "plugins/net.py"}}
    files = content({**PHANTOM, "models": models}, {}) | {"plugins/net.py": OWN_CODE.encode()}
    path = whole(tmp_path / "a.zip", files)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", str(path), "--yes"]) == 1
    told = capsys.readouterr()
    digest = read_digest(tmp_path, models)
    assert f"plug-in net.py (code {digest})" in told.out
    assert "run with your rights; read it, then add --trust" in told.err
    with pytest.raises(AssertionError, match="ran"):
        cli.main(["reproduce", str(path), "--yes", "--trust"])
    assert (tmp_path / "reproduced-tiny/plugins/net.py").read_text() == OWN_CODE


def read_digest(folder: Path, models: dict) -> str:
    """The digest as `segstudy study` takes it, of the same code elsewhere."""
    place = folder / "elsewhere"
    (place / "plugins").mkdir(parents=True)
    (place / "plugins/net.py").write_text("# a remark\n" + OWN_CODE)
    (place / "s.yaml").write_text(yaml.safe_dump({**PHANTOM, "models": models}))
    [told] = set(read_study(place / "s.yaml").plugin_provenance().values())
    return told.rpartition(" ")[2]


@pytest.mark.usefixtures("no_run")
def test_nothing_runs_without_a_yes(tmp_path, capsys, monkeypatch):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}))
    monkeypatch.chdir(tmp_path)
    for answer in ("", "n\n", "perhaps\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert cli.main(["reproduce", str(path)]) == 1
        told = capsys.readouterr()
        assert "chest: made anew from seed 2026" in told.out and told.out.endswith("Run it? [y/N] ")
        assert "nothing was run" in told.err
    assert not (tmp_path / "reproduced-tiny").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(AssertionError, match="ran"):
        cli.main(["reproduce", str(path)])


@pytest.mark.usefixtures("no_run")
def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    assert cli.main(["reproduce", str(path), "--yes", "--output", str(tmp_path / "out")]) == 1
    assert "has other files in it" in capsys.readouterr().err
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_unpacked_package_that_was_edited_since_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce_command, "_run", lambda rerun: True)
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}))
    words = ["reproduce", str(path), "--yes", "--output", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert cli.main(words) == 0  # goes on
    with (tmp_path / "out/published/tables/data.csv").open("a") as file:
        file.write("\n")
    assert cli.main(words) == 1
    assert "changed since it was unpacked: tables/data.csv has another" in capsys.readouterr().err


@pytest.mark.usefixtures("no_run")
def test_an_anonymous_package_says_what_cannot_be_told(tmp_path, capsys):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}, options=["--anonymous"]))
    assert cli.main(["reproduce", str(path), "-n"]) == 0
    told = capsys.readouterr().out
    for words in ("cases have numbers for names", "folds are dealt anew", "no commit is told"):
        assert words in told


@pytest.mark.usefixtures("no_run")
def test_a_study_that_was_not_done_is_refused(tmp_path, capsys):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}, partial=["fold 1 of unet"]))
    assert cli.main(["reproduce", str(path), "-n"]) == 1
    assert "made before all of the study was done (fold 1 of unet)" in capsys.readouterr().err


@pytest.mark.usefixtures("no_run")
def test_no_text_of_a_package_can_forge_or_hide_a_line(tmp_path, capsys):
    """Escape codes, line ends, and marks that turn the direction of writing stand there as codes."""
    study = {**PHANTOM, "title": "A\x1b[2J\x1b[31m\n\nruns code: none \u202eevil\x9b2J"}
    told = start.running_code() | {"commit": "c\x1b[2J", "version": "1\rruns code: none"}
    path = whole(tmp_path / "a.zip", content(study, {}, segstudy=told))
    assert cli.main(["reproduce", str(path), "-n"]) == 0
    text = capsys.readouterr().out
    assert all(one.isprintable() for one in text.replace("\n", ""))
    assert [line for line in text.splitlines() if line.startswith("runs code")] == [
        "runs code: none but segstudy's"
    ]
    assert "A\\x1b[2J\\x1b[31m\\n\\nruns code: none \\u202eevil\\x9b2J" in text
    path = whole(tmp_path / "b.zip", content(PHANTOM, {}, partial=["\x1b[2Jfold"]))
    assert cli.main(["reproduce", str(path), "-n"]) == 1
    assert "\\x1b[2Jfold" in capsys.readouterr().err
    path = whole(tmp_path / "c.zip", content(STUDY, {"datasets.chest.source.path": "\x1b[2J"}))
    assert cli.main(["reproduce", str(path), "--yes"]) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.usefixtures("no_run")
def test_a_lock_file_that_names_nothing_is_no_proof_of_the_same_versions(tmp_path, capsys):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}) | {"requirements.lock": b""})
    assert cli.main(["reproduce", str(path), "-n"]) == 0
    told = capsys.readouterr().out
    assert "differs:   nothing" not in told
    assert "libraries: requirements.lock of the package names none" in told
    assert "Python: requirements.lock of the package names no version" in told


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("name", ["settings.yaml", "provenance.json"])
def test_a_fault_inside_a_package_is_told_of_the_zip(name, tmp_path, capsys):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}) | {name: b"{"})
    assert cli.main(["reproduce", str(path), "-n"]) == 1
    told = capsys.readouterr().err
    assert f"{path}: {name}" in told and "segstudy-" not in told


@pytest.mark.usefixtures("no_run")
def test_a_closed_input_is_no_yes(tmp_path, capsys, monkeypatch):
    path = whole(tmp_path / "a.zip", content(PHANTOM, {}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    assert cli.main(["reproduce", str(path)]) == 1
    assert "nothing was run; --yes runs it without asking" in capsys.readouterr().err


def test_a_set_path_that_is_not_there_is_refused_before_the_yes(tmp_path):
    for value in (f"{tmp_path}/gone", f"{tmp_path}/gone/{{case}}/a.nii.gz"):
        with pytest.raises(
            InputError, match=r"--set models\.theirs\.files=.*no such file or folder"
        ):
            inputs.settings([f"models.theirs.files={value}"], LACKING)
    assert inputs.settings([f"models.theirs.files={tmp_path}/{{case}}_a/b.nii.gz"], LACKING)


def test_numbers_that_are_only_written_otherwise_do_not_differ_by_0(tmp_path):
    for folder, number in (("then", "0.10"), ("now", "0.1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tests.csv").write_text(f"p,estimate\n1,{number}\n")
    [found] = compared(tmp_path / "then", tmp_path / "now")
    assert found.sentence == (
        "tests.csv: estimate: differs as it is written, with the same numbers, in 1 row"
    )


@pytest.mark.parametrize(
    ("asked", "then", "here", "cores"),
    [(1, 1, 8, 8), (4, 4, 8, 8), (4, 4, 2, 4), (13, 2, 8, 2)],
    ids=["more cores", "enough", "fewer cores", "fewer threads than asked for"],
)
def test_trainings_get_the_threads_that_they_had(monkeypatch, asked, then, here, cores):
    monkeypatch.setattr(reproduce_command.machine, "cores", lambda: here)
    study = SimpleNamespace(models={"a": SimpleNamespace(threads=asked), "b": SimpleNamespace()})
    assert reproduce_command._cores(study, then) == cores
    assert min(asked, cores) == then
