"""Label tables, and what a study file may say of structures by them."""

import pytest

from segstudy.labels import pairs_of, read_table, values_named
from segstudy.study import Cohort


def cohort(structures, **more):
    return Cohort.model_validate({"modality": "MR", "structures": structures, **more})


@pytest.mark.parametrize("name", ["freesurfer", "neurite_seg35"])
def test_partners_are_mutual_and_named_alike(name):
    table = read_table(name)
    sided = [row for row in table.values() if row.side]
    for row in sided:
        other = table[row.partner]
        assert other.partner == row.value
        assert {row.side, other.side} == {"left", "right"}
        assert row.plain == other.plain
    assert len({row.name for row in table.values()}) == len(table)
    assert all(row.partner is None for row in table.values() if not row.side)


def test_freesurfer_numbers_that_every_brain_has():
    table = read_table("freesurfer")
    known = {
        2: "left_cerebral_white_matter", 17: "left_hippocampus", 53: "right_hippocampus",
        10: "left_thalamus", 49: "right_thalamus", 16: "brain_stem", 58: "right_accumbens",
        1035: "left_ctx_insula", 2024: "right_ctx_precentral", 12175: "right_ctx_a2009s_s_temporal_transverse",
    }  # fmt: skip
    assert {value: table[value].name for value in known} == known
    assert table[26].partner == 58 and table[1001].partner == 2001 and table[11175].partner == 12175
    assert max(table) == 12175


def test_names_become_values_and_pairs():
    names = ["left_hippocampus", "right_hippocampus", "brain_stem", "left_amygdala"]
    found = cohort(names, label_table="freesurfer")
    assert found.structures == dict(zip(names, (17, 53, 16, 18), strict=True))
    assert found.left_right_pairs == (("left_hippocampus", "right_hippocampus"),)
    assert found.merged_labels == {}
    # What rules pass on the command line reads as the same.
    assert Cohort.model_validate_json(found.to_json()) == found


def test_a_name_without_a_side_merges_both():
    found = cohort(["hippocampus", "left_thalamus", "right_thalamus"], label_table="freesurfer")
    assert found.structures["hippocampus"] == 17
    assert found.merged_labels == {53: 17}
    assert found.left_right_pairs == (("left_thalamus", "right_thalamus"),)
    assert Cohort.model_validate_json(found.to_json()) == found


def test_lists_of_values_merge_without_a_table():
    found = cohort({"ventricles": [4, 43, 14], "stem": 16})
    assert found.structures == {"ventricles": 4, "stem": 16}
    assert found.merged_labels == {43: 4, 14: 4}
    assert found.left_right_pairs == ()


def test_pairs_that_are_written_stay():
    found = cohort({"l": 17, "r": 53}, label_table="freesurfer", left_right_pairs=[])
    assert found.left_right_pairs == ()
    assert cohort({"l": 17, "r": 53}, label_table="freesurfer").left_right_pairs == (("l", "r"),)


@pytest.mark.parametrize(
    ("structures", "more", "words"),
    [
        (["left_hippocampus"], {}, "a list of names needs label_table"),
        (["left_hipocampus"], {"label_table": "freesurfer"}, "did you mean left_hippocampus?"),
        (["insula", "insula"], {"label_table": "freesurfer"}, "'insula' stands twice"),
        ({"a": [4, 43], "b": 43}, {}, "value 43 stands for two structures"),
        ({"a": [4, 4]}, {}, "value 4 stands twice"),
        ({"a": []}, {}, "structures.a: no value"),
        (
            {"a": [4, 43]},
            {"background_labels": [43]},
            "background_labels: value 43 is a structure's value",
        ),
        ({"a": [4, 43]}, {"ignore": 43}, "ignore: value 43 is a structure's value"),
        (
            {"a": 4},
            {"ignore": 9, "background_labels": [9]},
            "ignore: value 9 is in background_labels",
        ),
        ({"a": 4, "ignore": 9}, {}, "beside structures, by ignore: 9"),
        ({"a": 4}, {"ignore": True}, "ignore"),
        ({"a": [4, []]}, {}, "valid integer"),
        (
            {"a": 4},
            {"ignore_labels": [9], "background_labels": [9]},
            "is the old name of background",
        ),
        (
            {"a": 1},
            {"label_table": "aal"},
            "'aal' is none of the tables .freesurfer, neurite_seg35",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(structures, more, words):
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        cohort(structures, **more)


def test_ignore_is_a_value_or_several():
    assert cohort({"a": 1}, ignore=255).ignore == cohort({"a": 1}, ignore=[255]).ignore == (255,)
    assert cohort({"a": 1}, ignore=[254, 255]).ignore == (254, 255)


def test_background_labels_are_taken_by_their_old_name():
    assert cohort({"a": 1}, ignore_labels=[5]) == cohort({"a": 1}, background_labels=[5])


def test_a_table_lists_a_pair_once():
    assert pairs_of({"r": 53, "l": 17, "stem": 16}, "freesurfer") == [("l", "r")]
    assert values_named("corpus_callosum", "freesurfer") == [192]
