"""The file of folds: subjects stay where they are while the data around them change."""

import errno
import os
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy import folds
from segstudy.cases import Case, Split, read_splits, write_splits
from segstudy.errors import InputError
from segstudy.preprocess.split import split
from segstudy.study import Splits


def cohort(volumes, structures=("heart",)):
    return [
        Case(f"c{n:02d}", f"s{n:02d}", ("i",), "l", spacing_mm=(1.0, 1.0, 1.0), voxels=dict.fromkeys(structures, v))
        for n, v in enumerate(volumes)
    ]  # fmt: skip


def deal(cases, chosen, known=None):
    return folds.of_subjects(split({"a": cases}, {"a": "train"}, chosen, known or {}), chosen)


volumes = st.lists(st.integers(1, 10**6), min_size=10, max_size=50)
kinds = st.sampled_from(["foreground_volume", "volume_and_presence", "none"])


@settings(max_examples=60, deadline=None)
@given(volumes, kinds, st.data())
def test_adding_and_removing_subjects_moves_no_other(sizes, stratify_by, data):
    chosen, everyone = Splits(folds=5, stratify_by=stratify_by), cohort(sizes)
    new = data.draw(st.sets(st.sampled_from(everyone).map(lambda case: case.case), max_size=5))
    first = deal([case for case in everyone if case.case not in new], chosen)
    grown = deal(everyone, chosen, first)
    assert {subject: grown[subject] for subject in first} == first
    assert np.ptp(list(Counter(grown.values()).values())) <= 1
    gone = data.draw(st.sampled_from(everyone))
    rest = [case for case in everyone if case is not gone]
    if Counter(grown.values())[grown[gone.subject]] > 1:
        assert deal(rest, chosen, grown) == {
            subject: fold for subject, fold in grown.items() if subject != gone.subject
        }
    # One that comes back stands where it stood.
    assert deal(everyone, chosen, grown) == grown


def test_a_corrected_label_moves_nobody():
    chosen, cases = Splits(folds=4), cohort(range(100, 150))
    first = deal(cases, chosen)
    corrected = [replace(case, voxels={"heart": 10_000 - 7 * n}) for n, case in enumerate(cases)]
    assert deal(corrected, chosen, first) == first
    assert deal(corrected, chosen) != first


def test_a_first_deal_is_the_one_of_versions_without_the_file():
    # Each block of as many subjects as there are folds, by volume, has one subject of every fold.
    dealt = deal(cohort(range(100, 150)), Splits(folds=5))
    order = [dealt[f"s{n:02d}"] for n in range(50)]
    assert all(sorted(order[start : start + 5]) == [0, 1, 2, 3, 4] for start in range(0, 50, 5))


def test_new_subjects_go_where_their_volume_or_structure_is_missed():
    chosen = Splits(folds=2, stratify_by="volume_and_presence")
    cases = cohort([10, 10, 10, 10, 10, 10])
    known = {"s00": 0, "s01": 0, "s02": 1, "s03": 1}
    heavy = [
        replace(case, voxels={"heart": 1000 if case.case in ("c00", "c04") else 10})
        for case in cases
    ]
    # s00 is heavy and in fold 0, so the heavy newcomer goes to fold 1, the light one to fold 0.
    assert deal(heavy, chosen, known) == known | {"s04": 1, "s05": 0}
    rare = [
        replace(case, voxels={"heart": 10, "tumour": int(case.case in ("c00", "c04"))})
        for case in cases
    ]
    assert deal(rare, chosen, known)["s04"] == 1


def test_a_fold_that_lost_all_its_subjects_is_refused():
    with pytest.raises(InputError, match="fold 1 has no subject"):
        deal(cohort([1, 2, 3]), Splits(folds=2), {"s00": 0, "s01": 0, "s02": 0})


def test_cases_dealt_one_by_one_stay_too():
    chosen, cases = Splits(folds=2, group_by="case_though_it_leaks"), cohort([1, 2, 3, 4])
    first = deal(cases, chosen)
    assert set(first) == {"a/c00", "a/c01", "a/c02", "a/c03"}
    assert deal([*cases, *cohort(range(5))[4:]], chosen, first).items() >= first.items()


# --- the file -----------------------------------------------------------------------------------


def test_the_file_reads_back_and_is_left_alone_where_nothing_changed(tmp_path):
    file, chosen = tmp_path / "study.splits.tsv", Splits(folds=3)
    folds.write_folds(file, {"b": 2, "a, b": 0, "#c": 1}, chosen)
    os.utime(file, (1, 1))
    folds.write_folds(file, {"a, b": 0, "#c": 1, "b": 2}, chosen)
    assert file.stat().st_mtime == 1
    assert folds.read_folds(file, chosen) == {"b": 2, "a, b": 0, "#c": 1}


@pytest.mark.parametrize(
    "change", [{"folds": 4}, {"seed": 1}, {"stratify_by": "none"}, {"group_by": "case_though_it_leaks"}]
)  # fmt: skip
def test_other_settings_deal_afresh(tmp_path, change):
    file, chosen = tmp_path / "study.splits.tsv", Splits(folds=3)
    folds.write_folds(file, {"a": 0}, chosen)
    assert folds.read_folds(file, Splits(**{"folds": 3} | change)) == {}
    assert folds.read_folds(file, Splits(folds=3, run_folds=(1,))) == {"a": 0}


def test_a_file_written_by_hand_holds_for_any_settings(tmp_path):
    file = tmp_path / "study.splits.tsv"
    file.write_text("\ufeffsubject\tfold \nanna\t1\n\nbert \t0\n", encoding="utf-8")
    assert folds.read_folds(file, Splits(seed=7)) == {"anna": 1, "bert": 0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subject\tfold\nanna\t5\n", "row 2: subject 'anna' has fold '5'; expected 0 to 4"),
        ("subject\tfold\nanna\n", "row 2: subject 'anna' has fold ''"),
        ("subject\tfold\nanna\t1\nanna\t2\n", "row 3: subject 'anna' is in fold 2 and in fold 1"),
        ("case\tfold\nanna\t1\n", "expected the columns subject and fold"),
        ("", "empty; expected the columns subject and fold"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, text, told):
    file = tmp_path / "study.splits.tsv"
    file.write_text(text)
    with pytest.raises(InputError, match=told):
        folds.read_folds(file, Splits())


def run_split(tmp_path, names, **settings):
    """Run `segstudy preprocess split` on subjects of these names; return what the file of folds then says."""
    from segstudy.cases import write_cases
    from segstudy.cli import main
    from segstudy.study import SplitSettings

    cases = [
        replace(case, case=name, subject=name)
        for case, name in zip(cohort(range(1, 1 + len(names))), names, strict=True)
    ]
    write_cases(tmp_path / "cases.tsv", cases, ["image"])
    wanted = SplitSettings(splits=Splits(folds=2, **settings), roles={"a": "train"}).to_json()
    words = [
        "--cases",
        f"a={tmp_path}/cases.tsv",
        "--settings",
        wanted,
        "--folds",
        str(tmp_path / "s.splits.tsv"),
    ]
    code = main(["preprocess", "split", *words, "--output", str(tmp_path / "splits.tsv")])
    return code, (tmp_path / "s.splits.tsv").read_text()


def test_the_file_says_how_it_was_dealt_only_where_that_is_so(tmp_path):
    code, text = run_split(tmp_path, ["a", "b", "c"], seed=7)
    assert code == 0 and text.startswith("# dealt by folds: 2, seed: 7,")
    assert run_split(tmp_path, ["a", "b", "c", "d"], seed=7)[1].startswith(
        "# dealt by folds: 2, seed: 7,"
    )
    (tmp_path / "s.splits.tsv").write_text(text.split("\n", 1)[1])
    by_hand = "".join("\t".join(line.split("\t")[:2]) + "\n" for line in text.splitlines()[1:])
    assert run_split(tmp_path, ["a", "b", "c"], seed=99) == (0, by_hand)


def test_a_read_only_file_of_folds_is_used_as_it_is_and_refused_where_it_had_to_change(
    tmp_path, monkeypatch, capsys
):
    kept = tmp_path / "s.splits.tsv"
    kept.write_text("subject\tfold\nb\t1\na\t0\n")

    def refuse(path, text):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(folds, "write_text", refuse)
    assert run_split(tmp_path, ["a", "b"])[0] == 0
    assert run_split(tmp_path, ["a", "b", "c"])[0] == 1
    said = capsys.readouterr().err
    assert "s.splits.tsv: cannot be written (Permission denied)" in said
    assert (
        "other folds of 1 subject belong into it: c. Copy it beside a study file of your own"
        in said
    )


def origins(tmp_path):
    return {split.subject: split.origin for split in read_splits(tmp_path / "splits.tsv")}


def test_how_each_subject_got_its_fold_is_on_record_from_run_to_run(tmp_path):
    kept = tmp_path / "s.splits.tsv"
    run_split(tmp_path, ["a", "b", "c", "d"])
    assert origins(tmp_path) == dict.fromkeys("abcd", "seed")
    for _ in range(2):
        run_split(tmp_path, ["a", "b", "c", "d", "e"])
        assert origins(tmp_path) == dict.fromkeys("abcd", "seed") | {"e": "joined"}
    text = kept.read_text()
    fold = int(re.search(r"^b\t(\d)", text, re.MULTILINE)[1])
    kept.write_text(text.replace(f"b\t{fold}\t", f"b\t{1 - fold}\t"))
    for _ in range(2):
        run_split(tmp_path, ["a", "b", "c", "d", "e"])
        assert origins(tmp_path) == dict.fromkeys("acd", "seed") | {"b": "file", "e": "joined"}
    # Dealt afresh by another seed, all are the seed's; by hand, none is.
    run_split(tmp_path, ["a", "b", "c", "d", "e"], seed=5)
    assert set(origins(tmp_path).values()) == {"seed"}
    kept.write_text("subject\tfold\na\t0\nb\t1\n")
    run_split(tmp_path, ["a", "b", "c"])
    assert origins(tmp_path) == {"a": "file", "b": "file", "c": "joined"}


def test_a_subject_written_with_letters_of_two_signs_stays_in_its_fold(tmp_path):
    kept = tmp_path / "s.splits.tsv"
    kept.write_text("subject\tfold\nMu\u0308ller\t1\nb\t0\n", encoding="utf-8")
    run_split(tmp_path, ["M\u00fcller", "b"])
    assert {s.subject: s.fold for s in read_splits(tmp_path / "splits.tsv")} == {
        "M\u00fcller": 1,
        "b": 0,
    }


def test_subjects_of_the_file_that_no_case_has_are_told(tmp_path, capsys, caplog):
    run_split(tmp_path, ["001", "002", "003"])
    kept = tmp_path / "s.splits.tsv"
    kept.write_text(kept.read_text() + "004\t1\n")
    assert run_split(tmp_path, ["001", "002", "003"])[0] == 0
    assert (
        "1 subject without a case (taken out, or misspelt), whose line is kept: 004" in caplog.text
    )
    kept.write_text(kept.read_text().replace("00", ""))
    before = kept.read_text()
    assert run_split(tmp_path, ["001", "002", "003"]) == (1, before)
    assert "none of its 4 subjects is one of the study's: found 1, 2, 3" in capsys.readouterr().err


def test_results_of_older_versions_hand_their_folds_on(tmp_path):
    file, splits = tmp_path / "study.splits.tsv", tmp_path / "splits.tsv"
    write_splits(
        splits,
        [Split("a", "x", "anna", 1), Split("a", "y", "bert", 0), Split("a", "z", "carl", None)],
    )
    folds.begin(file, splits, Splits(folds=2))
    assert folds.read_folds(file, Splits(folds=2)) == {"anna": 1, "bert": 0}
    file.unlink()
    folds.begin(file, splits, Splits(folds=3))
    assert folds.read_folds(file, Splits(folds=3)) == {}
    file.unlink()
    apart = Splits(folds=2, group_by="case_though_it_leaks")
    folds.begin(file, splits, apart)
    assert folds.read_folds(file, apart) == {"a/x": 1, "a/y": 0}


def test_the_file_lies_beside_the_study_file_or_with_the_results(tmp_path, monkeypatch):
    shipped, results = tmp_path / "studies", tmp_path / "results" / "liver"
    mine = tmp_path / "my" / "liver.yaml"
    assert folds.folds_file(shipped / "demo.yaml", shipped, results) == results / "demo.splits.tsv"
    mine.parent.mkdir()
    assert folds.folds_file(mine, shipped, results) == mine.parent / "liver.splits.tsv"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert folds.folds_file(mine, shipped, results) == results / "liver.splits.tsv"
    (mine.parent / "liver.splits.tsv").touch()
    assert folds.folds_file(mine, shipped, results) == mine.parent / "liver.splits.tsv"
