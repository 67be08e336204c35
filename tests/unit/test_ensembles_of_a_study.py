"""Ensembles of a study: which models may predict together, and by which files of a fold."""

import pytest

from builders import tiny_study
from segstudy.jobs import code, slices, targets
from segstudy.jobs.inputs import Inputs
from segstudy.jobs.results import ResultPaths
from segstudy.study import EnsembleModel, Study

EXTERNAL = {
    "trainer": "external",
    "command": ["tool", "{image}", "{output}"],
    "labels": {"heart": 1, "aorta": 2},
}


def study(ensembles, **models) -> Study:
    content = tiny_study("table.tsv", moved=False)
    content["models"]["deep"] |= {"seeds": [0, 3], "infer": {"weights": "best", "overlap": 0.25}}
    content["models"] |= models
    return Study.model_validate({"name": "tiny", **content, "ensembles": ensembles})


def test_an_ensemble_is_one_more_model_of_each_fold():
    own, paths = study({"both": ["flat", "deep"]}), ResultPaths("r")
    assert own.models["both"] == EnsembleModel(network="ensemble", members=("flat", "deep"))
    assert own.trained_on("both") == ["chest"]
    # Its members' own: a fold each, of the deep one with two seeds.
    assert len(targets.trainings(own, paths, ["both"])) == 2 * (1 + 2)
    assert targets.runs(own, paths.predictions(), ["both"]) == [
        f"r/infer/both/fold-{fold}/seed-0/chest" for fold in (0, 1)
    ]


def test_it_predicts_by_the_weights_of_its_fold_alone_all_seeds_of_them():
    own, paths = study({"both": ["deep", "flat"]}), ResultPaths("r")
    for fold in ("0", "1"):
        assert Inputs(own, paths, str, str).member_weights("both", fold) == [
            f"r/train/deep/fold-{fold}/seed-0/best.pt",
            f"r/train/deep/fold-{fold}/seed-3/best.pt",
            f"r/train/flat/fold-{fold}/seed-0/weights.pt",
        ]
    settings = slices.member_settings(own, "both")
    assert [one.overlap for one in settings] == [0.25, 0.25, 0.5]


def test_what_the_study_says_is_read_again_from_its_own_settings():
    own = study({"both": ["flat", "deep"]})
    assert Study.model_validate(own.model_dump(mode="json")) == own


def test_an_edit_to_a_members_code_is_one_to_the_ensembles(monkeypatch):
    own = study({"both": ["flat", "deep"], "seeds": ["deep"]})
    assert code.ensemble_code(own, "both") != code.ensemble_code(own, "seeds")
    before = code.ensemble_code(own, "seeds")
    monkeypatch.setattr(code, "prediction_code", lambda model: "edited")
    assert code.ensemble_code(own, "seeds") != before


@pytest.mark.parametrize(
    ("ensembles", "told"),
    [
        ({"one": ["flat"]}, "ensembles.one: flat: one network is no ensemble"),
        (
            {"both": ["flat", "dep"]},
            "ensembles.both: dep: no such model; expected some of flat, deep",
        ),
        (
            {"both": ["flat", "tool"]},
            "ensembles.both: tool: trainer: external gives labels, and no probabilities",
        ),
        ({"both": ["flat", "flat"]}, "ensembles.both: flat: stands twice"),
        ({"flat": ["deep"]}, "ensembles.flat: a model has this name, too"),
        ({"a": ["deep"], "b": ["a", "flat"]}, "ensembles.b: a: trainer: ensemble gives labels"),
    ],
)
def test_what_cannot_predict_together_is_refused(ensembles, told):
    with pytest.raises(ValueError, match=told):
        study(ensembles, tool=EXTERNAL)


@pytest.mark.parametrize("members", [["flat", "drops"], ["drops", "flat"]], ids=str)
def test_members_that_differ_in_mc_dropout_are_refused_in_any_order(members):
    """Not by the first member alone, and not once all is trained."""
    drops = {**study({}).models["flat"].model_dump(mode="json"), "dropout": 0.2}
    drops = {"drops": drops | {"infer": {"mc_dropout": 5}}}
    with pytest.raises(ValueError, match=r"ensembles.e: infer.mc_dropout is .*drops 5"):
        study({"e": members}, **drops)
    again = {"again": drops["drops"], **drops}
    assert study({"e": ["drops", "again"]}, **again).models["e"].members == ("drops", "again")
