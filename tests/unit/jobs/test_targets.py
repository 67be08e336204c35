"""The runs of a study and the options that choose among them."""

import pytest

from builders import tiny_study
from segstudy.errors import InputError
from segstudy.jobs import options, targets
from segstudy.jobs.results import ResultPaths
from segstudy.publish import catalogue
from segstudy.study import Study


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *[("a100", "a100"), ("'a100'", "a100"), ('"rtx_6000.ada"', "rtx_6000.ada")],
        *[("a100-80g", "a100-80g"), ("'a100", ""), ("'a' if input else 'b'", ""), ("", "")],
    ],
)
def test_a_word_of_a_profile_is_told_from_an_expression(text, word):
    assert options.plain_word(text) == word


@pytest.fixture
def study() -> Study:
    content = tiny_study("table.tsv")
    content["models"]["deep"]["seeds"] = [0, 3]
    content["models"]["other"] = {
        "trainer": "external",
        "command": ["tool", "{image}", "{output}"],
        "labels": {"heart": 1, "aorta": 2},
    }
    return Study.model_validate({"name": "tiny", **content})


def test_runs_are_every_fold_and_seed_of_a_model(study):
    paths = ResultPaths("r")
    assert targets.runs(study, paths.training(), ["deep"]) == [
        f"r/train/deep/fold-{fold}/seed-{seed}" for fold in (0, 1) for seed in (0, 3)
    ]
    assert len(targets.runs(study, paths.predictions())) == 2 + 4 + 2
    assert targets.plans(study, paths) == [
        f"r/preprocess/plans/default/fold-{k}.json" for k in (0, 1)
    ]


def test_programs_of_others_are_not_trained(study):
    assert targets.trained_models(study) == ["flat", "deep"]
    assert targets.trained_models(study, ["deep", "other"]) == ["deep"]
    assert targets.any_of(targets.models_of(study, "synth")) == "(?!)"


@pytest.mark.parametrize("only", ["deep", " deep ,", ["deep"]])
def test_models_are_chosen_by_name(study, only):
    assert options.chosen_models(only, study) == ["deep"]


def test_left_out_all_models_are_chosen(study):
    for only in ("", None, []):
        assert options.chosen_models(only, study) == ["flat", "deep", "other"]


def test_an_unknown_model_is_refused(study):
    with pytest.raises(InputError, match="only: unet9: no such model; the study has flat, deep"):
        options.chosen_models("deep,unet9", study)


def test_statistics_of_some_models_are_refused(study):
    with pytest.raises(InputError, match="flat, other left out; .*snakemake train, infer or metr"):
        options.check_all(["deep"], study)
    options.check_all(list(study.models), study)


@pytest.mark.parametrize("rule", ["train_fit", "preprocess_resample"])
def test_until_a_rule_with_wildcards_names_the_target(rule):
    with pytest.raises(InputError, match=f"--until {rule}: .*: snakemake {rule.split('_')[0]} "):
        options.check_until([rule], ["preprocess", "train"])
    options.check_until(["train", "results/tiny/report.html"], ["preprocess", "train"])


def test_a_profile_with_the_old_name_of_a_rule_is_refused():
    options.check_profile(["train_fit", "publish_figures"])
    with pytest.raises(InputError, match="set-resources: train: this rule is called train_fit now"):
        options.check_profile(["train"])


def test_job_arrays_under_which_shards_are_lost_are_refused():
    options.check_arrays(25, False, 10_000, None)
    options.check_arrays(25, False, 10_000, 10_000)
    for wrong, named in (
        ((60, False, 10_000, None), "slurm-array-limit: 60"),
        ((25, True, 10_000, None), "slurm-pass-command-as-script: True"),
        ((25, False, 100, None), "jobs: 100"),
        ((25, False, 10_000, 10, "10/1s"), "max-jobs-per-timespan: 10/1s"),
    ):
        with pytest.raises(InputError, match=f"slurm-array-jobs with {named}:"):
            options.check_arrays(*wrong)
    with pytest.raises(InputError, match="group-components"):
        options.check_groups({"all": 2})


@pytest.mark.parametrize("wrong", ["few", -1, True, None])
def test_how_much_is_kept_is_a_number(wrong):
    with pytest.raises(InputError, match="keep_finished_gb: .*expected a number, 0 or more"):
        options.finished_gb(wrong)
    assert options.finished_gb(2.5) == "2.5"


def test_a_study_is_a_name_or_a_path(tmp_path):
    (tmp_path / "mine.yaml").touch()
    assert options.study_file("mine", tmp_path) == tmp_path / "mine.yaml"
    assert options.study_file(str(tmp_path / "mine.yaml"), tmp_path / "x").is_file()
    with pytest.raises(InputError, match=r"is one of mine, and a path .* ends in \.yaml"):
        options.study_file("yours", tmp_path)


def test_a_pattern_is_a_path_with_wildcards():
    paths = ResultPaths("results/tiny")
    assert paths.measures("flat", 0, 1, "chest") == paths.measures().format(
        model="flat", fold=0, seed=1, dataset="chest"
    )
    assert (
        paths.tissue_list("a", "p", "1x1x1")
        == "results/tiny/preprocess/a/tissues/p/shards-1x1x1.txt"
    )


def test_predictions_that_are_there_train_and_prepare_nothing_and_need_no_image():
    content = tiny_study("table.tsv", moved=False)
    content["models"] = {
        "there": {"trainer": "predictions", "files": "p/fold_{fold}/{case}.nii.gz"}
    }
    content["datasets"]["chest"]["source"] = {"layout": "label_maps", "path": "labels"}
    study, paths = Study.model_validate({"name": "tiny", **content}), ResultPaths("r")
    assert targets.trainings(study, paths) == targets.plans(study, paths) == []
    assert not study.trains
    assert len(targets.runs(study, paths.predictions())) == len(study.folds) == 2
    figures = {figure.kind for figure in catalogue.figures(study)}
    assert not figures & {"appearance", "architecture", "training"}
    content["models"]["deep"] = tiny_study("table.tsv")["models"]["deep"]
    with pytest.raises(ValueError, match="all are label maps, so nothing can be predicted"):
        Study.model_validate({"name": "tiny", **content})


def test_of_predictions_without_folds_nothing_is_crossed():
    content = tiny_study("table.tsv")
    content["models"] = {"there": {"trainer": "predictions", "files": "p/{case}.nii.gz"}}
    content["datasets"]["chest"]["role"] = "test"
    assert Study.model_validate({"name": "tiny", **content}).folds == [0]


def test_a_training_on_all_cases_is_one_more_a_seed_of_the_models_that_ask_for_it(study):
    paths = ResultPaths("r")
    asked = study.models["deep"].model_copy(update={"train_on_all": True})
    asking = study.model_copy(update={"models": {**study.models, "deep": asked}})
    assert targets.trainings_on_all(study, paths) == []
    found = [f"r/train/deep/all/seed-{seed}/weights.pt" for seed in (0, 3)]
    assert targets.trainings_on_all(asking, paths) == found
    assert targets.trainings_on_all(asking, paths, ["flat"]) == []
    assert targets.trainings(asking, paths)[-2:] == found


def test_a_training_on_all_cases_is_not_one_on_some():
    content = tiny_study("table.tsv")
    content["models"]["deep"] |= {"train_on_all": True, "training_subset": {"subjects": 2}}
    with pytest.raises(ValueError, match="training_subset has it trained on 2 subjects, and not"):
        Study.model_validate({"name": "tiny", **content})
