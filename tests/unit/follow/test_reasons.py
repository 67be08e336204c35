"""Why a job would run, in the study's words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy.follow.reasons import LEFT_OUT, Files, changed, own_reasons, sentence
from segstudy.jobs import slices
from segstudy.study import read_study


def job(rule, settings=None, wildcards=None, **more):
    options = {"": rule, **({"--settings": json.dumps(settings)} if settings is not None else {})}
    options |= more.pop("options", {})
    empty = {"files": {}, "inputs": [], "code": "a", "defaults": "b"}
    return {"rule": rule, "wildcards": wildcards or {}, "options": options, **empty, **more}


FILES = Files({}, {})
UNET = {"network": "unet", "channels": [4, 8]}
LEARNING = {"structures": ["heart"], "channels": ["image"], "modality": "CT"}
RUN = {"model": "flat", "fold": "0", "seed": "0"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            job("metrics_measure", {"metrics": {"nsd_tolerance_mm": [2.0]}}, {"dataset": "chest"}),
            job("metrics_measure", {"metrics": {"nsd_tolerance_mm": [3.0]}}, {"dataset": "chest"}),
            "metrics: nsd_tolerance_mm 2 -> 3",
        ),
        (
            job("train_fit", {"model": UNET, **LEARNING}, RUN),
            job("train_fit", {"model": {**UNET, "epochs": 20}, **LEARNING}, RUN),
            "models.flat: epochs 100 -> 20",
        ),
        (
            job("statistics", {}),
            job("statistics", {"alpha": 0.01}),
            "statistics: alpha 0.05 -> 0.01",
        ),
        (
            job("preprocess_split", {"splits": {"folds": 5}, "roles": {"a": "train"}}),
            job("preprocess_split", {"splits": {"folds": 4}, "roles": {"a": "train"}}),
            "splits: folds 5 -> 4",
        ),
        (
            job("infer_predict", {}, {**RUN, "dataset": "a"}),
            job("infer_predict", {"weights": "best"}, {**RUN, "dataset": "a"}),
            "models.flat: infer.weights (left out) -> best",
        ),
        (
            job("preprocess_list_arrays", None, {"dataset": "a"}, options={"--cases-per-job": "2"}),
            job("preprocess_list_arrays", None, {"dataset": "a"}, options={"--cases-per-job": "3"}),
            "datasets.a: cases_per_job 2 -> 3",
        ),
        (job("train_fit", {}, RUN), job("train_fit", {}, RUN, code="c"), "code: train changed"),
        (
            job("train_fit", {}, RUN),
            job("train_fit", {}, RUN, defaults="c"),
            "code: defaults of train changed",
        ),
        (
            job("publish_report", {}, files={"report.css": [1, 1]}),
            job("publish_report", {}, files={"report.css": [2, 2]}),
            "code: publish changed",
        ),
        (
            job("infer_external", {}, RUN, named="1"),
            job("infer_external", {}, RUN, named="2"),
            "models.flat: a file that its command names changed",
        ),
    ],
)
def test_a_change_is_named(old, new, said):
    assert own_reasons(old, new, FILES) == [said]
    assert own_reasons(new, new, FILES) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((("models", "deep"), LEFT_OUT, {"network": "unet"}), "new model deep"),
        ((("models", "deep"), {"network": "unet"}, LEFT_OUT), "model deep removed"),
        ((("datasets", "a", "repair"), None, {"b": 1}), 'datasets.a: repair null -> {"b": 1}'),
        ((("name",), "one", "two"), "study: name one -> two"),
    ],
)
def test_a_change_of_the_study_in_words(change, said):
    assert sentence(*change) == said


THEN = {"/d/p1.nii": ("p1", "image"), "/d/p1_l.nii": ("p1", "label"), "/d/p2.nii": ("p2", "image")}
STATE = {"/d/cohort.tsv": [9, 9], "/d/p1.nii": [1, 1], "/d/p1_l.nii": [2, 2], "/d/p2.nii": [3, 3]}


def test_a_corrected_label_is_named():
    files = Files(THEN, THEN)
    assert files.changed(STATE, {**STATE, "/d/p1_l.nii": [2, 7]}) == ["data: p1 label changed"]
    assert files.changed(STATE, STATE) == []


def test_a_new_and_a_removed_case_are_named_and_not_the_table():
    now = {**THEN, "/d/p3.nii": ("p3", "image")}
    table = {"/d/cohort.tsv": [12, 12]}
    assert Files(THEN, now).changed(STATE, {**STATE, **table, "/d/p3.nii": [4, 4]}) == [
        "data: new case p3"
    ]
    without = {path: state for path, state in STATE.items() if path != "/d/p2.nii"}
    assert Files(THEN, THEN).changed(STATE, {**without, **table}) == ["data: removed case p2"]
    assert Files(THEN, THEN).changed(STATE, {**STATE, **table}) == ["data: cohort.tsv changed"]


def test_many_changes_are_one_reason():
    then = {f"/d/c{n:02d}": (f"c{n:02d}", "label") for n in range(40)}
    old, new = ({path: [1, time] for path in then} for time in (1, 2))
    [said] = Files(then, then).changed(old, new)
    assert said == "data: 40 labels changed (c00, c01, c02, ...)"


QUICK_STUDY = {
    "quick": True,
    "datasets": {
        "chest": {
            "source": {"layout": "phantom"},
            "modality": "CT",
            "structures": {"heart": 1},
        }
    },
    "models": {"flat": {"network": "unet", "dims": 2}, "deep": {"network": "swin_unetr"}},
}
BUT_QUICK = {key: value for key, value in QUICK_STUDY.items() if key != "quick"}


def jobs_of(content, folder):
    """Trainings, predictions and report of a study file, as its rules ask for them."""
    file = folder / "tiny.yaml"
    file.write_text(json.dumps(content))
    study = read_study(file)
    asked = [job("publish_report", json.loads(study.to_json()))]
    for name, model in study.models.items():
        run = {"model": name, "fold": "0", "seed": "0", "dataset": "chest"}
        asked.append(
            job("train_fit", json.loads(slices.train_settings(study, name).to_json()), run)
        )
        asked.append(job("infer_predict", json.loads(model.infer.to_json()), run))
    return asked


@pytest.mark.parametrize("is_quick", [True, False])
def test_quick_is_one_reason_for_all_that_it_changes(tmp_path, is_quick):
    pair = [jobs_of(content, tmp_path) for content in (BUT_QUICK, QUICK_STUDY)]
    for old, new in zip(*(pair if is_quick else pair[::-1]), strict=True):
        found = own_reasons(old, new, FILES, is_quick, follows_quick=old["rule"] == "infer_predict")
        words = ("false", "true") if is_quick else ("true", "false")
        assert found == [f"study: quick {words[0]} -> {words[1]}"]


def test_what_the_user_changed_beside_quick_is_said_too(tmp_path):
    models = {**QUICK_STUDY["models"], "deep": {"network": "unet", "amp": False}}
    old = {**QUICK_STUDY, "models": {**models, "deep": {"network": "unet", "amp": True}}}
    pairs = zip(
        jobs_of(old, tmp_path), jobs_of({**BUT_QUICK, "models": models}, tmp_path), strict=True
    )
    [deep] = [
        pair
        for pair in pairs
        if pair[0]["rule"] == "train_fit" and pair[0]["wildcards"]["model"] == "deep"
    ]
    said = own_reasons(*deep, FILES, False)
    assert said == ["study: quick true -> false", "models.deep: amp true -> false"]


def test_one_setting_alone_is_the_users_own(tmp_path):
    old = {**BUT_QUICK, "models": {"flat": {"network": "unet", "dims": 2, "epochs": 4}}}
    pair = (jobs_of(old, tmp_path)[1], jobs_of(BUT_QUICK, tmp_path)[1])
    assert own_reasons(*pair, FILES, False) == ["models.flat: epochs 4 -> 100"]


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values, values)
def test_what_differs_is_found_and_nothing_else(old, new):
    assert changed(old, old) == []
    found = changed(old, new)
    assert bool(found) == (old != new)
    for path, was, now in found:
        for value, tree in ((was, old), (now, new)):
            for key in path[:-1]:
                tree = tree[key]
            if path:
                tree = tree.get(path[-1], LEFT_OUT)
            assert tree is value or tree == value


PLUGINS = {
    "datasets.a.source.layout": "by_site.py 1",
    "metrics.plugins.0": "bias.py 1",
    "models.flat.network": "net.py 1",
    "models.deep.network": "net.py:Wide 1",
    "publish.figures.0": "figure.py 1",
}


@pytest.mark.parametrize(
    ("rule", "wildcards", "edited", "said"),
    [
        ("download_audit", {"dataset": "a"}, "datasets.a.source.layout", "plug-in by_site.py"),
        ("metrics_measure", {"dataset": "a"}, "metrics.plugins.0", "plug-in bias.py"),
        ("train_fit", RUN, "models.flat.network", "plug-in net.py"),
        ("train_fit", RUN, "models.deep.network", "train"),
        ("metrics_measure", {"dataset": "a"}, "publish.figures.0", "metrics"),
        ("publish_figures", {}, "publish.figures.0", "plug-in figure.py"),
        ("publish_report", {}, "models.deep.network", "plug-in net.py:Wide"),
    ],
)
def test_an_edited_plugin_is_named_where_the_job_calls_it(rule, wildcards, edited, said):
    old = job(rule, None, wildcards, plugins=PLUGINS)
    plugins = {**PLUGINS, edited: PLUGINS[edited].replace(" 1", " 2")}
    assert own_reasons(old, {**old, "plugins": plugins}, FILES) == []
    new = {**old, "plugins": plugins, "code": "c"}
    assert own_reasons(old, new, FILES) == [f"code: {said} changed"]
