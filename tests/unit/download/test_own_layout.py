"""Layouts of plug-ins: what they list, and how it is checked."""

import json
from pathlib import Path

import pytest
import yaml
from download_builders import decathlon, settings, write_pair

from segstudy import plugins
from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.download.audit import audit
from segstudy.download.layouts import list_cases
from segstudy.errors import InputError
from segstudy.study import read_study

EXAMPLE = str(Path(__file__).resolve().parents[3] / "resources" / "plugins" / "by_site.py")


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


def source(text: str, folder: Path, **options) -> dict:
    return {"layout": text, "path": str(folder)} | ({"options": options} if options else {})


def listing(text: str, folder: Path, **options):
    channels = options.get("channels", ["image"])
    return list_cases(settings("", source=source(text, folder, **options), channels=channels))


def returning(folder: Path, rows: str) -> str:
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "my_layout.py"
    file.write_text(f"def list_cases(folder):\n    return {rows}\n")
    plugins.digest.cache_clear()
    return str(file)


def by_site(folder: Path) -> Path:
    for visit in ("aachen/p1/v1", "aachen/p1/v2", "bonn/p1/v1"):
        for seed, name in enumerate(("t1", "flair")):
            images = folder / visit
            write_pair(images / f"{name}.nii.gz", images / "mask.nii.gz", seed + len(visit))
    (folder / "bonn" / "p2" / "v1").mkdir(parents=True)  # without a label: no case
    return folder


def test_the_example_lists_a_case_a_visit_of_its_patient(tmp_path):
    found = listing(EXAMPLE, by_site(tmp_path), channels=["t1", "flair"])
    assert {case.case: case.subject for case in found.cases} == {
        "aachen_p1_v1": "aachen_p1",
        "aachen_p1_v2": "aachen_p1",
        "bonn_p1_v1": "bonn_p1",
    }
    first = found.cases[0]
    assert first.images == (
        tmp_path / "aachen/p1/v1/t1.nii.gz",
        first.label.with_name("flair.nii.gz"),
    )
    assert found.problems == []


def test_missing_files_and_names_that_stand_twice_are_refused_by_name(tmp_path):
    decathlon(tmp_path / "raw")
    rows = [
        {"case": name, "image": f"imagesTr/{file}.nii.gz", "label": f"labelsTr/{file}.nii.gz"}
        for name, file in (("a", "case_000"), ("a", "case_001"), ("b", "case_002"), ("c", "case_9"))
    ]
    dataset = settings("", source=source(returning(tmp_path, repr(rows)), tmp_path / "raw"))
    cases, problems = audit(list_cases(dataset), dataset)
    assert [case.case for case in cases] == ["b"]
    told = "\n".join(map(str, problems))
    assert "c: imagesTr/case_9.nii.gz: no such file" in told
    assert "a: " in told


def test_it_gives_subjects_folds_and_splits(tmp_path):
    decathlon(tmp_path / "raw")
    rows = (
        "[{'case': str(n), 'subject': 's', 'image': folder / f'imagesTr/case_00{n}.nii.gz', "
        "'label': folder / f'labelsTr/case_00{n}.nii.gz', 'fold': None if n == 2 else n, "
        "'split': 'test' if n == 2 else None} for n in range(3)]"
    )
    found = listing(returning(tmp_path, rows), tmp_path / "raw")
    assert [(case.subject, case.fold, case.split) for case in found.cases] == [
        ("s", 0, None),
        ("s", 1, None),
        ("s", None, "test"),
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("[]", "returned no case of "),
        ("None", "returned None"),
        ("'abc'", "returned 'abc'"),
        ("[1]", "expected a dict a case"),
        ("[{'case': 'a', 'image': 'i'}]", "list_cases: the column 'label' is missing"),
        ("[{'case': 'a', 'label': 'i'}]", "list_cases: image columns none; expected image; found"),
        ("[{'case': 'a', 'image': 'i', 'label': ''}]", "row 1, column label: empty"),
        ("[{'case': 'a', 'image': ['i'], 'label': 'l'}]", r"row 1, image: \['i'\]; expected text"),
        ("[{'case': 'a', 'image': 'i', 'label': 'l', 'fold': 'x'}]", "column fold: found 'x'"),
        ("[{'case': 'a', 'image': 'i', 'label': 'l', 'split': 'x'}]", "expected train or test"),
        ("[{'case': 'a', 'image': 'i', 'label': 'l', 'folds': 1}]", "did you mean fold"),
        ("folder['x']", "TypeError.*my_layout.py, line 2, in list_cases"),
    ],
)
def test_what_it_lists_is_checked(tmp_path, rows, told):
    with pytest.raises(InputError, match=rf"plug-in .*my_layout.py.*{told}"):
        listing(returning(tmp_path, rows), tmp_path)


def test_a_generator_that_fails_is_told_too(tmp_path):
    (tmp_path / "my_layout.py").write_text("def list_cases(folder):\n    yield 1 / 0\n")
    with pytest.raises(InputError, match=r"ZeroDivisionError.*line 2, in list_cases"):
        listing(str(tmp_path / "my_layout.py"), tmp_path)


def test_options_that_it_does_not_take_are_told(tmp_path):
    with pytest.raises(InputError, match="unexpected keyword argument 'colour'"):
        listing(returning(tmp_path, "[]"), tmp_path, colour="red")


def test_a_study_names_it_and_its_audit_runs_by_command(tmp_path):
    """The reference is taken from the study file's folder, and travels to the job as JSON."""
    by_site(tmp_path / "raw")
    (tmp_path / "by_site.py").write_text(Path(EXAMPLE).read_text())
    dataset = {
        "source": {"layout": "./by_site.py", "path": "raw", "options": {"channels": ["t1"]}},
        "modality": "MR",
        "channels": ["t1"],
        "structures": {"heart": 1, "aorta": 2},
    }
    content = {"datasets": {"sites": dataset}, "models": {"net": {"network": "unet"}}}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(content))
    study = read_study(file)
    reference = str(tmp_path / "by_site.py")
    assert study.plugins() == {"datasets.sites.source.layout": reference}
    settings_text = study.datasets["sites"].delivered().to_json()
    assert json.loads(settings_text)["source"]["layout"] == "plugin"
    tables = [*("--cases", tmp_path / "cases.tsv"), *("--problems", tmp_path / "problems.tsv")]
    command = ["download", "audit", "--dataset", "sites", "--settings", settings_text]
    assert main([*command, *map(str, tables)]) == 0
    assert [case.case for case in read_cases(tmp_path / "cases.tsv")] == [
        *("aachen_p1_v1", "aachen_p1_v2", "bonn_p1_v1"),
    ]
    source_text = study.datasets["sites"].source.to_json()
    listed = tmp_path / "list.txt"
    command = ["download", "list", "--settings", source_text, "--output", str(listed)]
    assert main(command) == 0
    assert str(tmp_path / "raw/aachen/p1/v1/mask.nii.gz") in listed.read_text()


def test_a_layout_that_is_none_names_those_there_are_and_how_to_bring_one(tmp_path):
    content = {
        "datasets": {
            "a": {"source": {"layout": "nnunnet"}, "modality": "MR", "structures": {"x": 1}}
        },
        "models": {"net": {"network": "unet"}},
    }
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"did you mean nnunet.*or a plug-in \(./my_layout.py\)"):
        read_study(file)
    content["datasets"]["a"]["source"]["layout"] = "./none.py"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"line \d+.*datasets.a.source.layout: .*no such plug-in"):
        read_study(file)


@pytest.mark.parametrize(
    ("key", "told"),
    [("subjet", "did you mean subject"), ("patient", "expected case, image, label, subject")],
)
def test_a_key_of_no_use_is_refused(tmp_path, key, told):
    """A misspelt subject would make each case its own, and put scans of one patient on both sides of a split."""
    rows = [{"case": "a", "image": "a.nii.gz", "label": "b.nii.gz", key: "p1"}]
    with pytest.raises(InputError, match=f"unknown .* '{key}'; {told}"):
        listing(returning(tmp_path, repr(rows)), tmp_path)
