"""Which setting is whose: a job whose slice is the same does not run again."""

import hashlib

import pytest

from builders import tiny_study
from segstudy.jobs import slices
from segstudy.jobs.results import ResultPaths
from segstudy.study import Study


def study(**changes) -> Study:
    """The tiny study; changes: `section__key__...` = value."""
    content = tiny_study("table.tsv")
    for keys, value in changes.items():
        *path, last = keys.split("__")
        part = content
        for key in path:
            part = part.setdefault(key, {})
        part[last] = value
    return Study.model_validate({"name": "tiny", **content})


def jobs(own: Study) -> dict[str, str]:
    """The settings of one job of each kind, as its command line has them."""
    chest = own.datasets["chest"]
    return {
        "audit": chest.delivered(),
        "estimate": chest.repaired_cohort(),
        "fingerprint": chest.cohort(),
        "split": slices.split_settings(own),
        "plan": slices.plan_settings(own, "default"),
        "resample": slices.resample_settings(own, "chest", "default"),
        "train flat": slices.train_settings(own, "flat"),
        "train deep": slices.train_settings(own, "deep"),
        "infer flat": own.models["flat"].infer,
        "infer deep": own.models["deep"].infer,
        "measure": slices.measure_settings(own, "chest"),
        "statistics": slices.statistics_settings(own),
        "quality": slices.quality_settings(own, ResultPaths("results/tiny")),
        "figures": slices.figure_settings(own),
        "viewer": slices.viewer_settings(own),
    }


SHOWN = {"figures", "viewer"}
"""Jobs that tell of all settings."""


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"statistics__alpha": 0.01}, {"statistics", "figures"}),
        ({"statistics__quality": True}, {"figures"}),
        ({"statistics__missing": "exclude"}, {"statistics", *SHOWN}),
        ({"metrics__nsd_tolerance_mm": [1.0]}, {"measure", *SHOWN}),
        ({"models__flat__epochs": 2}, {"train flat", *SHOWN}),
        ({"models__flat__threads": 2, "models__flat__memory_mb": 9000}, set()),
        ({"models__deep__runtime_min": 5, "datasets__chest__cases_per_job": 3}, set()),
        ({"models__flat__infer": {"overlap": 0.25}}, {"infer flat", *SHOWN}),
        ({"splits__run_folds": [0]}, SHOWN),
        ({"splits__seed": 5}, {"split", *SHOWN}),
        ({"preprocess__default": {"crop": "none"}}, {"plan", "resample", *SHOWN}),
        ({"preprocess__default": {"spacing_mm": [2, 2, 5]}}, {"plan", *SHOWN}),
        ({"datasets__chest__on_bad_case": "drop"}, {"audit", *SHOWN}),
        ({"title": "Another"}, SHOWN),
    ],
)
def test_a_setting_reruns_the_jobs_that_it_decides(change, again):
    before, after = jobs(study()), jobs(study(**change))
    changed = {name for name in before if before[name].to_json() != after[name].to_json()}
    assert changed == again


def test_a_changed_default_is_a_change():
    own = study().statistics
    assert own.digest() != own.model_copy(update={"alpha": 0.01}).digest()


def test_what_nnunet_is_trained_on_is_named_by_its_tables():
    own = study(models__nnunet={"trainer": "nnunet"})
    paths = ResultPaths("results/tiny")
    assert slices.training_options(own, paths, "flat", ["list"], ["plan"]) == [
        *("--arrays", "list", "--plan", "plan"),
        *("--cases", "chest=results/tiny/download/chest/cases.tsv"),
    ]
    options = slices.training_options(own, paths, "nnunet", [], [])
    assert options[:4] == [
        *("--cases", "chest=results/tiny/download/chest/cases.tsv"),
        *("--labels", "chest=results/tiny/repair/chest/labels"),
    ]
    assert slices.training_cases(own, paths, "flat") == [
        "chest=results/tiny/download/chest/cases.tsv:results/tiny/repair/chest/labels"
    ]


def test_other_weights_to_start_from_are_another_setting(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"first")
    fresh = study()
    tuned = study(models__flat__initial_weights=str(file))
    assert slices.initial_weights(fresh, "flat") == ""
    assert slices.initial_weights(tuned, "flat") == hashlib.sha256(b"first").hexdigest()
    file.write_bytes(b"second")
    assert slices.initial_weights(tuned, "flat") == hashlib.sha256(b"second").hexdigest()
