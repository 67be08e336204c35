"""The RO-Crate by itself: what it makes of files, of settings and of the record of jobs."""

import hashlib
import json
from dataclasses import replace
from urllib.parse import unquote

import pytest

from segstudy import shipped
from segstudy.publish.crate import Run, copy_workflow, crate, recorded_times
from segstudy.publish.package_tables import input_tables
from segstudy.publish.results import Results
from segstudy.study import BidsSource, TableSource

RUN = Run(
    title="A study",
    description="Of hearts.",
    version="0.2.0",
    address="",
    identifiers={"commit": "c" * 40},
    versions={"segstudy": "0.2.0", "Python": "3.11.7", "snakemake": "9.27.1", "torch": "2.13.0+cpu"},
    seeds={"folds": "7"},
    times=("2026-11-29T10:00:00+00:00", "2026-11-29T11:00:00+00:00"),
    plugins={"net.py": "0123456789abcdef"},
    machine={"machine": "Linux, 2 cores"},
    stages=[{"stage": "train", "seconds": 9.5, "memory_mb": float("nan")}],
    data={"chest": {"licence": "CC-BY 4.0", "reference": "Doe 2020", "url": "https://example.org/a.tar", "title": "Chests"}},
    partial=("fold 1 of unet",),
)  # fmt: skip
A, B = "a" * 64, "b" * 64


@pytest.fixture
def top(tmp_path):
    files = {
        "README.md": "", "LICENCE.md": "", "report.html": "", "requirements.lock": "", "SHA": "",
        "figures/Größe & Ort.csv": "x", "plugins/net.py": "", "plugins_2/net.py": "", "settings.splits.tsv": "",
        "settings.yaml": "title: secret\ndatasets: {chest: {structures: {heart: 1}}}\nquick: true\nlist: [1, a]\nnone: null\nlr: 0.5\n",
        "tables/data.csv": f"dataset,case,file,n_bytes,sha256\nchest,p1,image,3,{A}\nchest,p2,image,3,{A}\nchest,p2,label,4,{B}\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    copy_workflow(tmp_path)
    return tmp_path


def entities(top, run=RUN, holds=None) -> dict[str, dict]:
    graph = crate(top, run, holds or {})["@graph"]
    json.dumps(graph, allow_nan=False)
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def test_names_with_spaces_and_letters_with_accents_are_addresses(top):
    name = "figures/Gr%C3%B6%C3%9Fe%20%26%20Ort.csv"
    assert unquote(name) == "figures/Größe & Ort.csv"
    found = entities(top, holds={"figures/": "each figure"})
    assert found[name]["contentSize"] == "1" and found[name]["encodingFormat"] == "text/csv"
    assert found["figures/"]["hasPart"] == [{"@id": name}]
    assert found["figures/"]["description"] == "each figure"


def test_a_file_that_is_twice_in_the_data_is_one(top):
    found = entities(top)
    assert found[f"nih:sha-256;{A}"]["name"] == "p1: image; p2: image"
    chest = found["#data/chest"]
    assert [one["@id"] for one in chest["hasPart"]] == [f"nih:sha-256;{A}", f"nih:sha-256;{B}"]
    assert (chest["license"], chest["citation"]) == ("CC-BY 4.0", "Doe 2020")
    assert chest["alternateName"] == "Chests" and chest["url"] == "https://example.org/a.tar"


def test_of_a_dataset_that_is_summed_up_no_file_is_told(top):
    (top / "tables/data.csv").write_text(f"dataset,file,n_bytes,sha256\nchest,all 3 files,10,{B}\n")
    found = entities(top)
    assert not [name for name in found if name.startswith("nih:")]
    chest = found["#data/chest"]
    assert (chest["sha256"], chest["contentSize"], chest["description"]) == (B, "10", "all 3 files")


def test_tables_that_the_study_was_given_are_inputs_by_checksum(plain, top, tmp_path, caplog):
    """Of cases, of participants, and of BIDS's sessions; one that is gone is told of."""
    bids = tmp_path / "bids"
    (bids / "sub-01").mkdir(parents=True)
    given = {"cases.tsv": "case\timage\n", "ages.csv": "subject,age\na,70\n", "gone.csv": ""}
    given |= {"bids/participants.tsv": "participant_id\n", "bids/sub-01/sub-01_sessions.tsv": "session_id\n"}  # fmt: skip
    for name, text in given.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "gone.csv").unlink()
    [first] = plain.study.datasets.values()
    table = TableSource(layout="table", path=str(tmp_path / "cases.tsv"))
    sets = {"chest": (table, "ages.csv"), "head": (BidsSource(layout="bids", path=str(bids)), "gone.csv")}  # fmt: skip
    datasets = {
        name: first.model_copy(update={"source": source, "participants": str(tmp_path / file)})
        for name, (source, file) in sets.items()
    }
    results = Results(plain.study.model_copy(update={"datasets": datasets}), plain.root)
    run = replace(RUN, data={**RUN.data, "head": {}}, tables=input_tables(results))
    found = entities(top, run)
    assert "head: table of participants: cannot be read any more" in caplog.text

    def parts(dataset):
        return [found[one["@id"]] for one in found[f"#data/{dataset}"]["hasPart"]]

    digests = {one["sha256"]: one for one in (*parts("chest"), *parts("head"))}
    for name, text in given.items():
        if name != "gone.csv":
            entity = digests[hashlib.sha256(text.encode()).hexdigest()]
            assert entity["@type"] == "File" and entity["contentSize"] == str(len(text))
    names = [one["name"] for one in (*parts("chest"), *parts("head"))]
    assert names[-4:] == [
        *("chest: table of cases", "chest: table of participants"),
        *("head: table of participants", "head: table of sessions"),
    ]
    root = {one["@id"] for one in found["./"]["hasPart"]}
    assert {f"nih:sha-256;{digest}" for digest in digests} <= root


def test_settings_and_seeds_are_values_with_their_kinds(top):
    found = entities(top)
    values = {
        one["name"]: one["value"]
        for name, one in found.items()
        if name.startswith(("#setting", "#seed"))
    }
    assert values == {
        "datasets.chest.structures.heart": 1, "quick": True, "list": '[1, "a"]', "none": "null", "lr": 0.5, "seed of folds": "7",
    }  # fmt: skip
    kinds = {
        one["name"]: one["additionalType"]
        for one in found.values()
        if one["@type"] == "FormalParameter"
    }
    assert (kinds["quick"], kinds["lr"], kinds["list"]) == ("Boolean", "Float", "Text")
    assert kinds["datasets.chest.structures.heart"] == "Integer"
    assert (kinds["tables"], kinds["settings.yaml"], kinds["chest"]) == (
        "Dataset",
        "File",
        "Collection",
    )


def test_what_the_run_took_is_told_apart_from_what_it_made(top):
    found = entities(top)
    run = found["#run"]
    taken, made = ({one["@id"] for one in run[key]} for key in ("object", "result"))
    assert {
        "settings.yaml",
        "settings.splits.tsv",
        "plugins/",
        "plugins_2/",
        "#data/chest",
    } <= taken
    assert made == {"report.html", "figures/", "tables/", "SHA"}
    assert (run["startTime"], run["endTime"]) == RUN.times
    assert "Not all of the study is done: fold 1 of unet." in run["description"]
    assert found["./"]["datePublished"] == "2026-11-29"
    assert [one["@id"] for one in run["resourceUsage"]] == [
        "#machine/machine",
        "#usage/train/seconds",
    ]


def test_the_rules_are_those_that_ran(top):
    rules = {path.name for path in (shipped.ROOT / "workflow/rules").glob("*.smk")}
    found = entities(top)
    parts = {one["@id"] for one in found["workflow/Snakefile"]["hasPart"]}
    assert parts == {f"workflow/rules/{name}" for name in rules} and len(rules) > 8
    included = [line.split('"')[1] for line in (top / "workflow/Snakefile").read_text().splitlines() if line.startswith("include:")]  # fmt: skip
    assert {f"workflow/{name}" for name in included} <= parts


def test_the_same_files_give_the_same_crate(top):
    assert crate(top, RUN, {}) == crate(top, RUN, {})


def event(what: str, number: int, time: float, rule: str = "") -> dict:
    start = {"rule": rule, "wildcards": {}, "output": [], "inputs": [], "files": {}, "options": {}}
    return {
        "event": what,
        "by": 1,
        "id": number,
        "time": time,
        **(start if what == "start" else {}),
    }


def test_times_are_those_of_the_jobs_that_made_the_results(plain, tmp_path):
    """A job that failed, and the package itself, do not count; hours are left out where only the day may be told."""
    root = tmp_path / "results"
    (root / "metrics").mkdir(parents=True)
    day = 1_796_000_000
    events = [
        event("start", 1, day - 5000, "train_fit"), event("fail", 1, day - 4000),
        event("start", 2, day, "train_fit"), event("end", 2, day + 60),
        event("start", 3, day + 60, "statistics"), event("end", 3, day + 90.7),
        event("start", 4, day + 900, "publish_package"), event("end", 4, day + 950),
    ]  # fmt: skip
    (root / ".jobs.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in events))
    results = Results(plain.study, root)
    assert recorded_times(results, False) == (
        "2026-11-30T00:53:20+00:00",
        "2026-11-30T00:54:50+00:00",
    )
    assert recorded_times(results, True) == ("2026-11-30", "2026-11-30")
