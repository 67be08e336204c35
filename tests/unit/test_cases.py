"""Case table, shards and splits."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy.cases import (
    UNTESTED,
    Case,
    Split,
    read_cases,
    read_splits,
    repaired_labels,
    shards,
    tested,
    trained,
    write_cases,
    write_splits,
)
from segstudy.errors import InputError

NAMES = st.lists(
    st.text("abcdefghij0123456789_", min_size=1, max_size=8), min_size=1, max_size=80, unique=True
)


def case(folder: Path, name: str = "case_1", **values) -> Case:
    defaults = {
        "case": name,
        "subject": name,
        "images": (folder / "raw" / f"{name}.nii.gz",),
        "label": folder / "raw" / f"{name}_label.nii.gz",
        "shape": (10, 20, 30),
        "spacing_mm": (1.0, 1.5, 2.25),
        "voxels": {"heart": 12, "aorta": 0},
    }
    return Case(**(defaults | values))


def test_a_table_comes_back_as_it_was(tmp_path):
    written = [
        case(tmp_path, "b", fold=1, reference_label=tmp_path / "r.nii.gz", same_image_as="a"),
        case(tmp_path, "a", images=(Path("/elsewhere/t1.nii"), Path("/elsewhere/t2.nii"))),
    ]
    write_cases(tmp_path / "cases.tsv", written[:1], ["image"])
    assert read_cases(tmp_path / "cases.tsv") == written[:1]
    write_cases(tmp_path / "cases.tsv", [written[1]], ["t1", "t2"])
    assert read_cases(tmp_path / "cases.tsv") == [written[1]]


def test_a_table_of_label_maps_names_no_images(tmp_path):
    written = [case(tmp_path, name, images=()) for name in ("a", "b")]
    write_cases(tmp_path / "cases.tsv", written, ["t1", "t2"])
    assert read_cases(tmp_path / "cases.tsv") == written
    assert written[0].files == [written[0].label]


def test_files_below_the_table_are_named_relative_to_it(tmp_path):
    write_cases(tmp_path / "cases.tsv", [case(tmp_path)], ["image"])
    assert str(tmp_path) not in (tmp_path / "cases.tsv").read_text()


def test_an_unknown_case_is_named(tmp_path):
    write_cases(tmp_path / "cases.tsv", [case(tmp_path)], ["image"])
    with pytest.raises(InputError, match="no case 'nobody'"):
        read_cases(tmp_path / "cases.tsv", ["case_1", "nobody"])


def test_repaired_labels_must_be_there(tmp_path):
    cases = [case(tmp_path, "a"), case(tmp_path, "b")]
    assert repaired_labels(cases, None) == cases
    (tmp_path / "labels" / "000-of-001").mkdir(parents=True)
    (tmp_path / "labels" / "000-of-001" / "a.nii.gz").touch()
    with pytest.raises(InputError, match="no repaired label of case b"):
        repaired_labels(cases, tmp_path / "labels")
    found = repaired_labels(cases[:1], tmp_path / "labels")
    assert found[0].label == tmp_path / "labels" / "000-of-001" / "a.nii.gz"


@given(NAMES, st.integers(1, 40))
def test_every_case_is_in_one_shard(names, cases_per_job):
    found = shards(names, cases_per_job)
    assert sorted(name for shard in found.values() for name in shard) == sorted(names)


@given(NAMES, st.integers(1, 40))
def test_one_more_case_touches_one_shard_until_the_number_doubles(names, cases_per_job):
    *old, new = names
    before, after = shards(old, cases_per_job), shards([*old, new], cases_per_job)
    changed = [shard for shard in after if after[shard] != before.get(shard)]
    number = 1
    while number * cases_per_job < len(names):
        number *= 2
    if cases_per_job == 1 or len(old) > number * cases_per_job // 2 or number == 1:
        assert len(changed) == 1


def splits(subjects: int, folds: int, cases_each: int = 2) -> list[Split]:
    return [
        Split("d", f"s{subject}_{index}", f"s{subject}", subject % folds)
        for subject in range(subjects)
        for index in range(cases_each)
    ]


def test_splits_come_back_as_they_were(tmp_path):
    written = [*splits(4, 2), Split("other", "x", "x", None), Split("maps", "m", "m", UNTESTED)]
    write_splits(tmp_path / "splits.tsv", written)
    assert read_splits(tmp_path / "splits.tsv") == written


@given(st.integers(2, 20), st.integers(2, 4), st.floats(0, 0.45), st.integers(0, 5))
def test_training_validation_and_test_share_no_subject(subjects, folds, share, seed):
    rows = [*splits(subjects, folds), Split("site2", "x", "x", None)]
    for fold in range(min(folds, subjects)):
        training, validation = trained(rows, fold, share, seed)
        parts = [
            {split.subject for split in training},
            {split.subject for split in validation},
            {split.subject for split in rows if split.fold in (fold, None)},
        ]
        assert parts[0]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert set(tested(rows, fold, "d")) == {
            split.case for split in rows if split.dataset == "d" and split.fold == fold
        }
        assert tested(rows, fold, "site2") == ["x"]
        if share > 0 and subjects - len({s.subject for s in rows if s.fold == fold}) > 1:
            assert validation


def cohort(subjects=40, folds=5):
    return [Split("d", f"s{n}_{k}", f"s{n}", n % folds) for n in range(subjects) for k in (0, 1)]


def subjects_of(*parts):
    return {split.subject for part in parts for split in part}


def test_label_maps_are_trained_on_by_every_fold_and_tested_by_none():
    rows = [*splits(6, 2), *(Split("maps", f"m{n}", f"m{n}", UNTESTED) for n in range(4))]
    for fold in (0, 1):
        training, validation = trained(rows, fold, 0.2, 0)
        seen = {(split.dataset, split.case) for split in training + validation}
        assert {("maps", f"m{n}") for n in range(4)} < seen
        assert tested(rows, fold, "maps") == []
        alone, apart = trained(rows, fold, 0.2, 0, datasets=["maps"])
        assert {split.dataset for split in alone + apart} == {"maps"}
        assert (len(alone), len(apart)) == (3, 1)
        drawn, _ = trained(rows, fold, 0, 0, subset=(2, 1), datasets=["maps"])
        assert [split.dataset for split in drawn] == ["maps", "maps"]


@pytest.mark.parametrize("fold", [0, 3])
def test_a_smaller_subset_lies_in_the_larger_of_the_same_seeds(fold):
    draws = []
    for seed in range(4):
        five, thirty = (trained(cohort(), fold, 0.0, seed, (n, 1)) for n in (5, 30))
        assert len(subjects_of(*five)) == 5 and len(subjects_of(*thirty)) == 30
        assert len(five[0]) == 10 and five[1] == []  # both scans of each subject
        assert subjects_of(*five) < subjects_of(*thirty)
        assert not any(split.fold == fold for split in thirty[0])
        draws.append(frozenset(subjects_of(*five)))
    assert len(set(draws)) == 4
    assert subjects_of(*trained(cohort(), fold, 0.0, 0, (5, 2))) != draws[0]


def test_those_that_follow_the_training_are_part_of_the_subset():
    training, validation = trained(cohort(), 0, 0.2, 0, (5, 1))
    assert len(subjects_of(training)) == 4 and len(subjects_of(validation)) == 1
    assert subjects_of(training, validation) == subjects_of(*trained(cohort(), 0, 0.0, 0, (5, 1)))


def test_one_more_subject_changes_a_subset_by_one_at_most():
    before, after = (subjects_of(*trained(cohort(n), 0, 0.0, 0, (10, 1))) for n in (40, 42))
    assert len(before - after) <= 1


def test_a_subset_larger_than_the_fold_is_refused():
    with pytest.raises(
        InputError, match="training_subset.subjects: 33, but fold 0 has 32 subjects"
    ):
        trained(cohort(), 0, 0.0, 0, (33, 1))
