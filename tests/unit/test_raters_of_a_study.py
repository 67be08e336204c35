"""Second readers of a study: measured like models, and compared with none."""

import pytest

from builders import tiny_study
from segstudy.errors import InputError
from segstudy.jobs import slices, targets
from segstudy.jobs.partial import finished_part
from segstudy.jobs.results import ResultPaths
from segstudy.publish import catalogue
from segstudy.study import Study


def _read_twice(**further) -> dict:
    content = tiny_study("table.tsv", moved=False)
    content["models"]["reader"] = {
        "trainer": "predictions",
        "files": "reader/{case}.nii.gz",
        "rater": True,
    }
    return {"name": "tiny", **content, **further}


def test_a_rater_is_no_model_that_is_compared():
    study = Study.model_validate(_read_twice())
    assert study.raters == ["reader"]
    assert list(study.compared().models) == ["flat", "deep"]
    assert study.compared().raters == []
    assert Study.model_validate_json(study.to_json()) == study
    plain = Study.model_validate({"name": "tiny", **tiny_study("table.tsv", moved=False)})
    assert plain.compared() is plain


def test_what_a_rater_runs_is_its_labels_and_their_measurement():
    study, paths = Study.model_validate(_read_twice()), ResultPaths("r")
    plain = study.compared()
    assert targets.trainings(study, paths) == targets.trainings(plain, paths)
    more = set(targets.runs(study, paths.measures())) - set(targets.runs(plain, paths.measures()))
    assert more == set(targets.runs(study, paths.measures(), ["reader"]))
    assert slices.rater_options(study) == ["--raters", "reader"]
    assert slices.rater_options(plain) == []
    assert list(slices.quality_settings(study, paths).models) == ["flat", "deep"]
    assert catalogue.figures(study.compared()) == catalogue.figures(plain)


@pytest.mark.parametrize(
    ("further", "told"),
    [
        ({"ensembles": {"both": ["flat", "reader"]}}, "ensembles.both: reader: is a rater"),
        (
            {"statistics": {"compare": [["flat", "reader"]]}},
            "statistics.compare: reader is a rater",
        ),
        (
            {"publish": {"style": {"models": {"order": ["reader"]}}}},
            "publish.style.models.order: reader is a rater",
        ),
    ],
)
def test_a_rater_is_refused_where_models_are_named(further, told):
    with pytest.raises(ValueError, match=told):
        Study.model_validate(_read_twice(**further))


def test_a_rater_alone_is_nothing_to_compare_with():
    content = _read_twice()
    content["models"] = {"reader": content["models"]["reader"]}
    content["datasets"]["chest"]["role"] = "test"
    with pytest.raises(ValueError, match="models: reader: rater: true .* there is no other model"):
        Study.model_validate(content)


def test_a_report_of_what_is_done_needs_more_than_a_rater(tmp_path):
    study, paths = Study.model_validate(_read_twice()), ResultPaths(str(tmp_path))
    for fold in study.folds:
        (tmp_path / f"infer/reader/fold-{fold}/seed-0/chest").mkdir(parents=True)
    with pytest.raises(InputError, match="partial: none of flat, deep is trained in any fold"):
        finished_part(study, paths, list(study.models))
