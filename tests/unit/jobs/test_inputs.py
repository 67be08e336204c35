"""Which files a job reads."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from builders import tiny_study, write_cohort
from segstudy.cases import Case, write_cases
from segstudy.errors import InputError
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.results import ResultPaths
from segstudy.study import Dataset, RepairedCohort, Statistics, Study

EVERY = {"p0", "p1", "p2"}
KNOWN = [[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


class NotYet(Exception):
    """What Snakemake raises where a checkpoint has not run."""


def not_yet(*_):
    raise NotYet


def cohort(folder: Path) -> list[Case]:
    """Three cases with empty files; the first has a right label too."""
    folder.mkdir(exist_ok=True)
    cases = []
    for name in sorted(EVERY):
        files = [folder / f"{name}{kind}.nii.gz" for kind in ("", "_label", "_right")]
        for file in files:
            file.touch()
        right = files[2] if name == "p0" else None
        cases.append(Case(name, name, (files[0],), files[1], right, voxels={"organ": 5}))
    return cases


def settings(**repair) -> RepairedCohort:
    asked = {"structure": "organ", "reference_case": "p0", "methods": ["sweep"], **repair}
    return RepairedCohort.model_validate(
        {"modality": "CT", "structures": {"organ": 1}, "repair": asked}
    )


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({"frame": "voxel"}, {"p0"}),
        ({"frame": "physical"}, {"p0"}),
        ({"frame": "auto"}, EVERY),
        ({"estimate_from": "images"}, EVERY),
        ({"estimate_from": "images", "reference_case": None}, EVERY),
        ({"transform": KNOWN, "reference_case": None}, {"p0"}),
    ],
)
def test_the_estimate_reads_every_case_only_where_the_images_are_asked(tmp_path, asked, read):
    cases = cohort(tmp_path)
    write_cases(tmp_path / "cases.tsv", cases, ("image",))
    study = SimpleNamespace(datasets={"chest": settings(**asked)})
    inputs = Inputs(
        study, ResultPaths("results"), lambda dataset: str(tmp_path / "cases.tsv"), not_yet
    )
    assert inputs.estimated_from("chest") == [
        str(file) for case in cases if case.case in read for file in case.files
    ]


@pytest.fixture
def study(tmp_path) -> Study:
    table = write_cohort(tmp_path / "data", 3, moved=False)
    return Study.model_validate({"name": "tiny", **tiny_study(table, moved=False)})


@pytest.fixture
def inputs(study, tmp_path) -> Inputs:
    """Inputs after the audit, with a plan of 2 mm."""
    paths = ResultPaths(tmp_path / "results")
    table = tmp_path / "results/download/chest/cases.tsv"
    table.parent.mkdir(parents=True)
    write_cases(table, cohort(tmp_path / "audited"), ("image",))
    plan = tmp_path / "plan.json"
    plan.write_text('{"spacing_mm": [2.0, 2.0, 2.5]}')
    return Inputs(study, paths, paths.cases, lambda plan_name, fold: str(plan))


def test_a_shard_reads_its_own_cases(inputs):
    assert sorted(name for names in inputs.shards("chest").values() for name in names) == [
        *("p0", "p1", "p2")
    ]
    for shard, names in inputs.shards("chest").items():
        assert inputs.selected("chest", shard) == names
        images = inputs.shard_images("chest", shard)
        assert [os.path.basename(file) for file in images] == [f"{name}.nii.gz" for name in names]
        assert set(images) < set(inputs.shard_files("chest", shard))
        assert set(inputs.shard_labels("chest", shard)) < set(inputs.labels("chest"))


def test_labels_are_the_repaired_ones_where_there_is_a_repair(inputs):
    study = inputs.study
    chest = study.datasets["chest"].model_copy(update={"repair": settings().repair})
    inputs.study = study.model_copy(update={"datasets": {"chest": chest}})
    folder = inputs.paths.repaired("chest")
    assert inputs.labels("chest") == [f"{folder}/{shard}" for shard in inputs.shards("chest")]
    shard = next(iter(inputs.shards("chest")))
    assert inputs.shard_labels("chest", shard) == [f"{folder}/{shard}"]
    assert inputs.labels_option("chest") == ["--labels", folder]


def test_a_table_that_changed_is_read_again(inputs):
    before, path = inputs.cases("chest"), inputs.paths.cases("chest")
    assert inputs.cases("chest") is before
    write_cases(path, list(before.values())[:2], ("image",))
    os.utime(path, ns=(0, 1))
    assert list(inputs.cases("chest")) == ["p0", "p1"]
    assert sorted(name for names in inputs.shards("chest").values() for name in names) == [
        *("p0", "p1")
    ]


def test_what_is_not_there_yet_is_asked_of_snakemake(study):
    inputs = Inputs(study, ResultPaths("nowhere"), not_yet, not_yet)
    with pytest.raises(NotYet):
        inputs.cases("chest")
    with pytest.raises(NotYet):
        inputs.training_arrays("flat", "0")
    assert inputs.known_cases("chest") == {}


def test_arrays_lie_on_the_grid_of_the_folds_plan(inputs):
    root = inputs.paths.root
    expected = [f"{root}/preprocess/chest/default/shards-2x2x2.5.txt"]
    assert inputs.training_arrays("flat", "1") == expected
    assert inputs.training_plan("flat", "1") == [f"{root}/preprocess/plans/default/fold-1.json"]
    assert inputs.training_images("flat") == []


def test_a_users_files_are_all_followed(inputs, tmp_path):
    found = inputs.delivered("chest")
    assert found[0] == str(tmp_path / "data" / "cohort.tsv")
    assert {os.path.basename(file) for file in found[1:]} == {
        path.name for path in (tmp_path / "data").glob("*.nii.gz")
    }
    before = inputs.checksums()
    (tmp_path / "data" / "p0.nii.gz").write_bytes(b"another")
    assert inputs.checksums() != before


def test_a_folder_that_snakemake_would_take_for_a_wildcard_is_refused(inputs, tmp_path):
    (tmp_path / "scans{1}").mkdir()
    (tmp_path / "scans{1}" / "a.nii.gz").touch()
    source = SimpleNamespace(path=str(tmp_path / "scans{1}"))
    chest = inputs.study.datasets["chest"].model_copy(update={"source": source})
    inputs.study = inputs.study.model_copy(update={"datasets": {"chest": chest}})
    with pytest.raises(InputError, match=r"datasets\.chest: .*braces stand for wildcards"):
        inputs.delivered("chest")


def test_of_a_folder_with_patterns_only_their_files_are_inputs(tmp_path):
    for name in ("a_ct.nii", "a_heart.nii", "a_lung.nii", "{left}_over.nii", "dataset.json"):
        (tmp_path / name).touch()
    patterns = {"image": "{case}_ct.nii", "masks": {"organ": "{case}_heart.nii"}}
    content = tiny_study("cohort.tsv", moved=False)
    (name,) = content["datasets"]
    content["datasets"][name]["source"] = {"layout": "files", "path": str(tmp_path), **patterns}
    content["datasets"][name]["structures"] = {"organ": 1}
    study = Study.model_validate({"name": "tiny", **content})
    inputs = Inputs(study, ResultPaths(tmp_path / "results"), not_yet, not_yet)
    assert [Path(file).name for file in inputs.delivered(name)] == [
        "a_ct.nii",
        "a_heart.nii",
        "dataset.json",
    ]


def described(source: dict, subgroups=(), **further) -> Inputs:
    study = SimpleNamespace(
        datasets={
            "chest": Dataset.model_validate(
                {"source": source, "modality": "CT", "structures": {"organ": 1}, **further}
            )
        },
        statistics=Statistics(subgroups=list(subgroups)),
        tested_datasets=["chest"],
    )
    return Inputs(study, ResultPaths("results"), not_yet, not_yet)


def test_tables_of_subjects_are_made_where_something_is_known_or_asked_for(tmp_path):
    table, people = tmp_path / "cases.tsv", tmp_path / "people.csv"
    table.write_text("case\timage\tlabel\na\ta.nii\tb.nii\n")
    source = {"layout": "table", "path": str(table)}
    made = {"chest": "results/download/chest/participants.tsv"}
    assert described(source).participants(["chest"]) == {}
    assert described(source).participants_option() == []
    assert described(source, ["sex"]).participants(["chest"]) == made
    assert described(source, ["sex"]).participants_option() == [
        "--participants",
        f"chest={made['chest']}",
    ]
    inputs = described(source, participants=str(people))
    assert inputs.participants(["chest"]) == made
    assert inputs.participant_tables("chest") == {"found": [], "named": [str(people)]}
    table.write_text("case\timage\tlabel\tsex\na\ta.nii\tb.nii\tF\n")
    assert described(source).participant_tables("chest") == {"found": [str(table)], "named": []}
    bids = {"layout": "bids", "path": str(tmp_path)}
    assert described(bids).participants(["chest"]) == {}
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\n")
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01/sub-01_T1w.nii.gz").touch()
    table.unlink()
    assert described(bids).listed("chest") == [str(tmp_path / "sub-01/sub-01_T1w.nii.gz")]
    assert described(bids).participant_tables("chest")["found"] == [
        str(tmp_path / "participants.tsv")
    ]
    fetched = {"layout": "bids", "url": "https://a.b/c.zip", "md5": "0" * 32}
    assert described(fetched).participant_tables("chest")["found"] == ["results/download/chest/raw"]
