"""Folds: no subject is ever on both sides, sizes and volumes are balanced, the user's folds are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.cases import (
    LEFT_OUT,
    UNTESTED,
    Case,
    leaks_on_request,
    read_splits,
    tested,
    trained,
    write_splits,
)
from segstudy.errors import InputError
from segstudy.preprocess.split import split
from segstudy.study import Splits
from segstudy.words import count


def case(name, subject=None, voxels=100, spacing=(1.0, 1.0, 1.0), **more):
    return Case(
        name,
        subject or name,
        (Path("i.nii.gz"),),
        Path("l.nii.gz"),
        spacing_mm=spacing,
        voxels={"heart": voxels},
        **more,
    )


def fold_of(splits):
    return {(found.dataset, found.case): found.fold for found in splits}


cohort = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 10**6)), min_size=3, max_size=40
).map(
    lambda rows: [
        case(f"c{index:02d}", f"s{subject}", voxels) for index, (subject, voxels) in enumerate(rows)
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    cohort,
    cohort,
    st.integers(2, 6),
    st.integers(0, 9),
    st.sampled_from(["foreground_volume", "volume_and_presence", "none"]),
)
def test_no_subject_is_in_two_folds(one, other, folds, seed, stratify_by):
    subjects = {found.subject for found in one + other}
    chosen = Splits(folds=folds, seed=seed, stratify_by=stratify_by)
    roles = {"a": "train", "b": "train"}
    if len(subjects) < folds:
        with pytest.raises(
            InputError, match=f"{folds} folds for {count(len(subjects), 'subject')} to"
        ):
            split({"a": one, "b": other}, roles, chosen)
        return
    splits = split({"a": one, "b": other}, roles, chosen)
    assert [(found.dataset, found.case) for found in splits] == [
        (name, found.case) for name, cases in (("a", one), ("b", other)) for found in cases
    ]
    of_subject = {}
    for found in splits:
        of_subject.setdefault(found.subject, set()).add(found.fold)
    assert all(len(found) == 1 for found in of_subject.values())
    sizes = np.bincount([next(iter(found)) for found in of_subject.values()], minlength=folds)
    assert len(sizes) == folds
    assert np.ptp(sizes) <= 1
    for fold in range(folds):
        train, validate = trained(splits, fold, 0.2, 0)
        tested = {found.subject for found in splits if found.fold == fold}
        assert not tested & {found.subject for found in train + validate}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=4, max_size=60, unique=True), st.integers(0, 99))
def test_each_fold_gets_one_of_each_size(volumes, seed):
    cases = [case(f"c{index:03d}", voxels=volume) for index, volume in enumerate(volumes)]
    splits = split({"a": cases}, {"a": "train"}, Splits(folds=4, seed=seed))
    by_volume = [fold for _, fold in sorted(zip(volumes, fold_of(splits).values(), strict=True))]
    for start in range(0, len(cases), 4):
        block = by_volume[start : start + 4]
        assert len(set(block)) == len(block)


def test_volumes_count_millimetres_not_voxels():
    # 10 subjects have many tiny voxels, 10 few big ones: sorted by mm³ the two kinds separate.
    cases = [case(f"fine{n}", voxels=1000 + n, spacing=(0.1, 0.1, 0.1)) for n in range(10)]
    cases += [case(f"coarse{n}", voxels=100 + n, spacing=(2, 2, 2)) for n in range(10)]
    for seed in range(5):
        splits = fold_of(split({"a": cases}, {"a": "train"}, Splits(folds=2, seed=seed)))
        first = [name for (_, name), fold in splits.items() if fold == 0]
        assert sum(name.startswith("fine") for name in first) == 5


def test_the_seed_alone_decides_and_the_order_of_the_rows_does_not():
    cases = [case(f"c{n:02d}", voxels=n * 37 % 101) for n in range(30)]
    first = fold_of(split({"a": cases}, {"a": "train"}, Splits()))
    assert first == fold_of(split({"a": cases[::-1]}, {"a": "train"}, Splits()))
    assert first != fold_of(split({"a": cases}, {"a": "train"}, Splits(seed=21)))
    assert first == fold_of(split({"a": cases}, {"a": "train"}, Splits(run_folds=(1,))))


def test_test_cases_and_test_datasets_are_in_no_fold():
    cases = [case(f"c{n}") for n in range(6)] + [case("held", split="test")]
    splits = fold_of(
        split(
            {"a": cases, "site2": [case("c0"), case("x")]},
            {"a": "train", "site2": "test"},
            Splits(folds=3),
        )
    )
    assert {key for key, fold in splits.items() if fold is None} == {
        ("a", "held"),
        ("site2", "c0"),
        ("site2", "x"),
    }


def test_the_same_person_in_two_datasets_is_in_one_fold():
    one = [case(f"t1_{n}", f"s{n}") for n in range(8)]
    other = [case(f"t2_{n}", f"s{n}") for n in range(8)]
    splits = fold_of(split({"a": one, "b": other}, {"a": "train", "b": "train"}, Splits(folds=4)))
    assert all(splits["a", f"t1_{n}"] == splits["b", f"t2_{n}"] for n in range(8))


def test_given_folds_are_kept():
    cases = [case(f"c{n}", fold=n % 3) for n in range(7)] + [case("t", split="test")]
    splits = fold_of(split({"a": cases}, {"a": "train"}, Splits(folds=3)))
    assert splits == {**{("a", f"c{n}"): n % 3 for n in range(7)}, ("a", "t"): None}


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([case("a", fold=0), case("b", fold=1), case("c")], "case c has no fold, but 2 of 3"),
        ([case("a", fold=0), case("b", fold=2)], "case b has fold 2; expected 0 to 1"),
        ([case("a", fold=0), case("b", fold=-1)], "case b has fold -1"),
        ([case("a", fold=1), case("b", fold=1)], "fold 0 has no case"),
        (
            [case("a", "s", fold=0), case("b", "s", fold=1)],
            r"subject s is in fold 0 \(case a\) and in fold 1 \(case b\)",
        ),
        (
            [case("a", "s"), case("b", "s", split="test"), case("c"), case("d")],
            r"subject s is trained on \(case a\) and kept for testing \(case b\)",
        ),
        (
            [case("a"), case("b"), case("c", split="test", fold=0)],
            "case c has split test and fold 0",
        ),
        ([case("a")], "2 folds for 1 subject to"),
        ([case("a", split="test")], "2 folds for 0 subjects"),
    ],
)
def test_what_would_leak_or_leave_a_fold_empty_is_refused(cases, message):
    with pytest.raises(InputError, match=message):
        split({"d": cases}, {"d": "train"}, Splits(folds=2))


# --- by presence, and the leak on request -------------------------------------------------------


@given(st.integers(2, 5), st.integers(2, 12), st.integers(0, 12), st.integers(0, 9))
def test_cases_without_any_structure_are_dealt_out_evenly(folds, patients, controls, seed):
    patients = max(patients, 2 * folds)
    cases = [case(f"p{n:02d}", voxels=100 + n) for n in range(patients)]
    cases += [case(f"c{n:02d}", voxels=0) for n in range(controls)]
    chosen = fold_of(split({"a": cases}, {"a": "train"}, Splits(folds=folds, seed=seed)))
    own = [fold for (_, name), fold in chosen.items() if name.startswith("c")]
    assert np.ptp(np.bincount(own, minlength=folds)) <= 1


def with_voxels(*voxels):
    return [
        replace(case(f"c{n}", fold=n % 2), voxels=dict(zip(("heart", "lesion"), own, strict=True)))
        for n, own in enumerate(voxels)
    ]


def test_a_structure_that_no_training_case_of_a_fold_has_is_said_once(caplog):
    rare = with_voxels((9, 0), (8, 5), (7, 0), (6, 0))
    split({"a": rare}, {"a": "train"}, Splits(folds=2))
    (record,) = caplog.records
    assert record.getMessage().startswith("lesion: no case that fold 1 trains on has a voxel of it")
    caplog.clear()
    split({"a": with_voxels((9, 0), (8, 0))}, {"a": "train"}, Splits(folds=2))
    assert [record.getMessage()[:35] for record in caplog.records] == [
        "lesion: no case that any fold trains"[:35]
    ]


def test_a_fold_that_could_learn_nothing_is_refused():
    with pytest.raises(
        InputError, match="fold 1: none of the 2 cases to train on has a voxel of hea"
    ):
        split({"a": with_voxels((0, 0), (8, 0), (0, 0), (9, 9))}, {"a": "train"}, Splits(folds=2))


def test_what_the_audit_took_for_one_subject_is_said(caplog):
    cases = [case("a"), case("b", "a", same_image_as="a"), case("c"), case("d")]
    folds = fold_of(split({"x": cases}, {"x": "train"}, Splits(folds=2)))
    assert folds["x", "a"] == folds["x", "b"]
    assert "1 cases have the same image as a case of another subject, e.g. b and a" in caplog.text
    fixed = [replace(one, fold=number % 2) for number, one in enumerate(cases)]
    with pytest.raises(InputError, match="one fold a subject, .*; b has the same image as a$"):
        split({"x": fixed}, {"x": "train"}, Splits(folds=2))


def test_folds_share_out_the_rare_structure():
    """A third of 30 subjects lacks one structure and one in ten another; volumes say nothing of it."""
    draw = np.random.default_rng(3)
    cases = [
        replace(
            case(f"c{n:02d}"),
            voxels={
                "edema": int(draw.integers(1, 10**5)),
                "core": 0 if n % 3 == 0 else int(draw.integers(1, 10**5)),
                "ring": 0 if n % 10 == 1 else int(draw.integers(1, 10**5)),
            },
        )
        for n in range(30)
    ]
    by = Splits(folds=5, stratify_by="volume_and_presence")
    folds = fold_of(split({"d": cases}, {"d": "train"}, by))
    for structure, most in (("core", 1), ("ring", 1)):
        lacking = [
            sum(folds["d", one.case] == fold for one in cases if one.voxels[structure] == 0)
            for fold in range(5)
        ]
        assert max(lacking) - min(lacking) <= most + 1 - (structure == "ring")
    sizes = np.bincount(list(folds.values()))
    assert sizes.tolist() == [6] * 5


def test_slices_dealt_out_one_by_one_leak_and_say_so(caplog):
    cases = [case(f"c{n}_{k}", f"s{n}", voxels=100 + k) for n in range(6) for k in range(8)]
    leaky = Splits(folds=4, group_by="case_though_it_leaks")
    splits = split({"d": cases}, {"d": "train"}, leaky)
    assert np.bincount([found.fold for found in splits]).tolist() == [12] * 4
    tested_subjects = {found.subject for found in splits if found.fold == 0}
    training, _ = trained(splits, 0, 0.0, 0)
    assert tested_subjects & {found.subject for found in training}
    assert leaks_on_request(splits)
    assert "LEAK" in caplog.text and "6 of 6 subjects" in caplog.text
    caplog.clear()
    assert not leaks_on_request(split({"d": cases}, {"d": "train"}, Splits(folds=4)))
    assert "LEAK" not in caplog.text


def map_of(name, subject=None):
    return replace(case(name, subject), images=())


def test_label_maps_are_tested_by_no_fold():
    maps = [map_of(f"m{n}") for n in range(3)]
    roles = {"maps": "train", "site": "test"}
    found = fold_of(split({"maps": maps, "site": [case("a")]}, roles, Splits(folds=5)))
    assert found == {("site", "a"): None} | {("maps", f"m{n}"): UNTESTED for n in range(3)}


def test_a_label_map_of_a_tested_subject_is_left_out_by_the_fold_that_tests_it(caplog):
    """Else a model would be tested on the very label that its training images were drawn from."""
    images = [case(f"c{n}", f"s{n}", n + 1) for n in range(6)] + [case("t", "held", split="test")]
    maps = [map_of("m0", "s0"), map_of("m1", "new"), map_of("m2", "held"), map_of("m3", "far")]
    roles = {"images": "train", "maps": "train", "other": "test"}
    cohorts = {"images": images, "maps": maps, "other": [case("x", "far")]}
    splits = split(cohorts, roles, Splits(folds=3))
    found = fold_of(splits)
    assert found["maps", "m0"] == found["images", "c0"] in (0, 1, 2)
    assert (found["maps", "m1"], found["maps", "m2"]) == (UNTESTED, LEFT_OUT)
    for fold in range(3):
        training, apart = trained(splits, fold, 0.2, 0)
        tested = {s.subject for s in splits if s.dataset == "images" and s.fold in (fold, None)}
        assert not tested & {s.subject for s in training + apart}
    assert "1 subject of label maps, e.g. far, by the name of one that is kept" in caplog.text


def test_a_fixed_split_trains_on_every_case_but_those_for_testing():
    cases = [case("a", split="train"), case("b"), case("c", split="test")]
    further, site = [case("d")], [case("e"), case("f")]
    roles = {"main": "train", "more": "train_only", "site": "test"}
    splits = split({"main": cases, "more": further, "site": site}, roles, Splits(folds=1))
    assert fold_of(splits) == {
        ("main", "a"): UNTESTED,
        ("main", "b"): UNTESTED,
        ("main", "c"): None,
        ("more", "d"): UNTESTED,
        ("site", "e"): None,
        ("site", "f"): None,
    }
    learned, apart = trained(splits, 0, 0.0, 0)
    assert [found.case for found in learned] == ["a", "b", "d"] and not apart


def test_what_is_for_training_only_is_left_out_where_a_fold_tests_its_subject():
    cases = [case(name) for name in "abcd"]
    more = [case("x"), case("again", "a")]
    splits = split(
        {"main": cases, "more": more}, {"main": "train", "more": "train_only"}, Splits(folds=2)
    )
    folds = fold_of(splits)
    assert folds["more", "x"] == UNTESTED
    assert folds["more", "again"] == folds["main", "a"] in (0, 1)


@pytest.mark.parametrize(
    ("cases", "role", "told"),
    [
        (
            [case("a"), case("b")],
            "train",
            "none of its 2 cases has split test, and splits.folds is 1",
        ),
        (
            [case("a", fold=0), case("b", split="test")],
            "train",
            "case a has fold 0, but splits.folds is 1",
        ),
        (
            [case("a"), case("b", split="test")],
            "train_only",
            "case b has split test, but role: train_only",
        ),
        ([case("a", "s"), case("b", "s", split="test")], "train", "subject s is trained on"),
    ],
)
def test_a_fixed_split_that_tests_nothing_or_leaks_is_refused(cases, role, told):
    with pytest.raises(InputError, match=told):
        split({"main": cases, "site": [case("z")]}, {"main": role, "site": "test"}, Splits(folds=1))


@pytest.mark.parametrize(("role", "folds"), [("train_only", 2), ("train_only", 1), ("train", 1)])
def test_a_training_case_whose_subject_another_dataset_tests_is_left_out(role, folds, caplog):
    own = [case("a1", "P1"), case("a2", "P2")]
    own += [case("a3", "P3", split="test")] if role == "train" else []
    cohorts = {"A": own, "T": [case("t1", "P1"), case("t2", "P9")]}
    splits = split(cohorts, {"A": role, "T": "test"}, Splits(folds=folds))
    for fold in range(folds):
        learned, apart = trained(splits, fold, 0.0, 0)
        assert [found.case for found in learned + apart] == ["a2"]
        assert "a1" not in tested(splits, fold, "A")
        assert tested(splits, fold, "T") == ["t1", "t2"]
    assert "1 subject to train on, e.g. P1, by the name" in caplog.text
    assert "label maps" not in caplog.text


@pytest.mark.parametrize("given", [False, True])
def test_a_subject_that_another_dataset_keeps_for_testing_is_in_no_fold(given):
    """Else all folds but one would train on the person that every fold's model is tested on."""
    one = [case(f"a{n}", fold=n % 2 if given else None) for n in range(4)]
    one += [case("t1", "X", split="test")]
    other = [case(f"b{n}", fold=n if given else None) for n in range(2)]
    leak = [replace(other[0], subject="X"), other[1]]
    roles = {"A": "train", "B": "train"}
    told = (
        r"datasets B and A: subject X is trained on \(case B/b0\) and kept for testing \(case A/t1"
    )
    with pytest.raises(InputError, match=told):
        split({"A": one, "B": leak}, roles, Splits(folds=2))
    alike = [replace(leak[0], split="test", fold=None), other[1]]
    found = fold_of(split({"A": one, "B": alike}, roles, Splits(folds=2)))
    assert (found["A", "t1"], found["B", "b0"]) == (None, None)
    on_request = Splits(folds=2, group_by="case_though_it_leaks")
    if not given:
        assert fold_of(split({"A": one, "B": leak}, roles, on_request))["B", "b0"] in (0, 1)


def test_the_name_of_a_subject_at_a_site_for_testing_is_warned_of(caplog):
    cohorts = {"A": [case("1"), case("2")], "T": [case("1"), case("7")]}
    found = fold_of(split(cohorts, {"A": "train", "T": "test"}, Splits(folds=2)))
    assert {found["A", "1"], found["A", "2"]} == {0, 1} and found["T", "1"] is None
    assert "1 subject that folds train on and test, e.g. 1, by the name of one of" in caplog.text


@pytest.mark.parametrize("kept", [False, True])
def test_label_maps_for_training_only_leave_out_subjects_whose_maps_are_tested(kept):
    """In a study of label maps alone, maps are what is tested."""
    maps = [map_of(f"m{n}", f"s{n}") for n in range(4)]
    maps += [replace(map_of("t", "X"), split="test")]
    more = [map_of("again", "X" if kept else "s0"), map_of("new")]
    roles = {"A": "train", "B": "train_only"}
    found = fold_of(
        split({"A": maps, "B": more}, roles, Splits(folds=2), label_maps_are_tested=True)
    )
    assert found["B", "new"] == UNTESTED
    assert found["B", "again"] == (LEFT_OUT if kept else found["A", "m0"])


def test_a_label_map_that_is_kept_for_testing_is_not_trained_on(caplog):
    maps = [map_of("m0"), replace(map_of("m1"), split="test")]
    cohorts = {"A": [case(f"c{n}") for n in range(4)], "maps": maps}
    found = fold_of(split(cohorts, {"A": "train", "maps": "train"}, Splits(folds=2)))
    assert (found["maps", "m0"], found["maps", "m1"]) == (UNTESTED, LEFT_OUT)
    assert "1 label map with split test, e.g. maps/m1, and no image" in caplog.text


def test_where_nothing_is_left_to_train_on_the_names_are_told():
    cohorts = {"A": [case("1"), case("2")], "T": [case("1"), case("2")]}
    with pytest.raises(InputError, match="the subject of each of the 2 training cases is tested"):
        split(cohorts, {"A": "train_only", "T": "test"}, Splits(folds=2))


def test_a_fixed_split_never_tests_what_another_dataset_keeps_from_training(tmp_path):
    one = [case("a1", "P1"), case("a2", "P2"), case("a3", "P3", split="test")]
    other = [case("b1", "P1", split="test"), case("b2", "P6")]
    roles = {"A": "train", "B": "train"}
    splits = split({"A": one, "B": other}, roles, Splits(folds=1))
    write_splits(tmp_path / "splits.tsv", splits)
    assert read_splits(tmp_path / "splits.tsv") == splits
    assert fold_of(splits)["A", "a1"] == LEFT_OUT
    assert (tested(splits, 0, "A"), tested(splits, 0, "B")) == (["a3"], ["b1"])
    learned, _ = trained(splits, 0, 0.0, 0)
    assert [found.case for found in learned] == ["a2", "b2"]


def test_an_image_of_two_datasets_is_not_trained_on_where_its_copy_is_tested():
    one = [case("a1", checksum="x"), case("a2", checksum="y"), case("a3", checksum="z")]
    roles = {"A": "train", "T": "test"}
    with pytest.raises(InputError, match="tested as T/t1 and trained on as A/a1"):
        split({"A": one, "T": [case("t1", checksum="x")]}, roles, Splits(folds=2))
    split({"A": one, "T": [case("t1", checksum="w"), case("t2")]}, roles, Splits(folds=2))
    both = {"A": "train", "B": "train"}
    same = [case("b1", "a1", checksum="x"), case("b2", checksum="v")]
    split({"A": one, "B": same}, both, Splits(folds=2))  # one subject is in one fold
    # Neither is trained on, and of a dataset that only trains nothing is tested.
    split({"T": [case("t", checksum="x")], "S": [case("s", checksum="x")], "A": one[1:]},
          {"T": "test", "S": "test", "A": "train"}, Splits(folds=2))  # fmt: skip
    with pytest.raises(InputError, match="tested as A/a1 and trained on as M/m1"):
        split(
            {"A": one, "M": [case("m1", checksum="x")]},
            {"A": "train", "M": "train_only"},
            Splits(folds=2),
        )
