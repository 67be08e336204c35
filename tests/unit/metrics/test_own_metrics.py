"""Metrics of plug-ins: described without running them, tried, measured, and known like any other metric."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from segstudy import metric, metric_plugins, plugins
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import write_label
from segstudy.metrics import own_metrics
from segstudy.study import MeasureSettings, Metrics, Statistics
from segstudy.study.analysis import Publish

EXAMPLE = str(Path(__file__).resolve().parents[3] / "resources" / "plugins" / "surface_bias.py")
FIELDS = (
    'METRIC = {"name": "my_score", "direction": "higher", "range": [0, 1], "definition": "x"}\n'
)
MEASURE = "def measure(reference, prediction, spacing_mm):\n    return "


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(metric, "_OWN", {})
    plugins.digest.cache_clear()
    yield
    plugins.digest.cache_clear()


def written(folder, text, name="my_score.py"):
    (folder / name).write_text(text)
    plugins.digest.cache_clear()
    return str(folder / name)


def box(*sides):
    array = np.zeros((11, 11, 11), np.uint8)
    array[tuple(slice(*side) for side in sides)] = 1
    return array


def test_the_example_measures_how_far_too_large_a_prediction_is(tmp_path):
    """A box of 5 voxels, predicted one voxel larger all around: distances 1, sqrt 2 at edges, sqrt 3 at corners."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    write_label(tmp_path / "r" / "a.nii.gz", box((3, 8), (3, 8), (3, 8)), affine)
    write_label(tmp_path / "p" / "a.nii.gz", box((2, 9), (2, 9), (2, 9)), affine)
    write_label(tmp_path / "r" / "b.nii.gz", box((3, 8), (3, 8), (3, 8)), affine)
    write_label(tmp_path / "p" / "b.nii.gz", box((0, 0), (0, 0), (0, 0)), affine)
    out = tmp_path / "o.csv"
    files = ["--reference", str(tmp_path / "r"), "--prediction", str(tmp_path / "p")]
    assert main(["metrics", *files, "--output", str(out), "--plugin", EXAMPLE]) == 0
    table = pd.read_csv(out)
    value = table[table["metric"] == "surface_bias_mm"].set_index("case")["value"]
    expected = 2 * (6 * 25 + 12 * 5 * math.sqrt(2) + 8 * math.sqrt(3)) / (6 * 25 + 12 * 5 + 8)
    assert value["a"] == pytest.approx(expected)
    assert value["b"] == -math.inf  # nothing was predicted: infinitely too small
    settings = '{"metrics": ["dice", "surface_bias_mm"]}'
    command = ["statistics", "--metrics", str(out), "--output", str(tmp_path / "s")]
    assert main([*command, "--settings", settings, "--plugin", EXAMPLE]) == 0
    summary = pd.read_csv(tmp_path / "s" / "summary.csv").set_index("metric")
    assert summary.loc["surface_bias_mm", "n_infinite"] == 1


def test_what_the_reference_lacks_is_undefined_and_a_missing_file_too(tmp_path):
    empty = box((0, 0), (0, 0), (0, 0))
    write_label(tmp_path / "r" / "a.nii.gz", empty, np.eye(4))
    write_label(tmp_path / "r" / "b.nii.gz", box((3, 8), (3, 8), (3, 8)), np.eye(4))
    write_label(tmp_path / "p" / "a.nii.gz", box((3, 8), (3, 8), (3, 8)), np.eye(4))
    file = written(tmp_path, FIELDS + MEASURE + "0.5")
    out = tmp_path / "o.csv"
    files = ["--reference", str(tmp_path / "r"), "--prediction", str(tmp_path / "p")]
    assert main(["metrics", *files, "--output", str(out), "--plugin", file]) == 0
    table = pd.read_csv(out)
    own = table[table["metric"] == "my_score"].set_index("case")
    assert own["status"].to_dict() == {"a": "ref_empty", "b": "missing_file"}
    assert own["value"].isna().all()


def test_it_is_known_wherever_a_metric_is(tmp_path):
    file = written(tmp_path, FIELDS + MEASURE + "0.5")
    with pytest.raises(ValidationError, match="my_score"):
        Statistics(metrics=("my_score",))
    Metrics(plugins=(file,))
    assert Statistics(metrics=("my_score",)).metrics == ("my_score",)
    assert Publish(metrics=("My Score",)).metrics == ("my_score",)
    known = metric.find("my_score")
    assert (known.title, known.axis, known.direction, known.worst) == (
        *("My score", "My score", "higher", 0.0),
    )
    with pytest.raises(ValidationError, match="higher values are better"):
        Statistics(directions={"my_score": "lower"})


def test_each_structure_is_measured_on_masks_of_its_own(tmp_path):
    """The masks are bool (i, j, k), and the spacing is that of the axes: the volume of each structure in mm3."""
    text = (
        'METRIC = {"name": "volume_gap_ml", "direction": "zero", "range": [None, None], "definition": "x"}\n'
        "def measure(reference, prediction, spacing_mm):\n"
        "    assert reference.dtype == prediction.dtype == bool and reference.ndim == 3\n"
        "    assert not reference.flags.writeable\n"
        "    size = spacing_mm[0] * spacing_mm[1] * spacing_mm[2]\n"
        "    return (prediction.sum() - float(reference.sum())) * size / 1000\n"
    )
    file = written(tmp_path, text)
    reference = box((1, 3), (1, 3), (1, 3)) + 2 * box((5, 9), (5, 9), (5, 9))
    prediction = box((1, 4), (1, 3), (1, 3)) + 2 * box((5, 9), (5, 9), (5, 8))
    write_label(tmp_path / "a.nii.gz", reference, np.diag([-1.0, 2.0, 3.0, 1.0]))
    write_label(tmp_path / "b.nii.gz", prediction, np.diag([-1.0, 2.0, 3.0, 1.0]))
    settings = {"structures": {"small": 1, "large": 2}}
    settings["metrics"] = {"plugins": [file], "composite_regions": {"both": ["small", "large"]}}
    out = tmp_path / "o.csv"
    files = [*("--reference", tmp_path / "a.nii.gz"), *("--prediction", tmp_path / "b.nii.gz")]
    json = MeasureSettings.model_validate(settings).to_json()
    assert main(["metrics", *map(str, files), "--output", str(out), "--settings", json]) == 0
    table = pd.read_csv(out)
    own = table[table["metric"] == "volume_gap_ml"].set_index("structure")["value"]
    assert own.to_dict() == pytest.approx(
        {"small": 4 * 6e-3, "large": -16 * 6e-3, "both": -12 * 6e-3}
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("2", "returned 2; expected a finite number, 0 to 1"),
        ("-0.5", "returned -0.5"),
        ("float('inf')", "returned inf"),
        ("None", "returned NoneType None"),
        ("[1, 2]", "returned list"),
        ("True", "returned bool"),
        ("1 / 0", "ZeroDivisionError: division by zero .*line 3, in measure"),
        ("reference.__setitem__(0, 1)", "read-only"),
    ],
)
def test_it_is_tried_before_any_case_is_read(tmp_path, body, told):
    with pytest.raises(InputError, match=rf"my_score.py.*{told}.*two boxes"):
        own_metrics.load([written(tmp_path, FIELDS + MEASURE + body)])


def test_a_failure_names_case_and_structure(tmp_path, capsys):
    write_label(tmp_path / "a.nii.gz", box((3, 8), (3, 8), (3, 8)), np.eye(4))
    body = "1.5 if reference.shape == (11, 11, 11) else 0.5"
    file = written(tmp_path, FIELDS + MEASURE + body)
    files = [*("--reference", tmp_path / "a.nii.gz"), *("--prediction", tmp_path / "a.nii.gz")]
    out = tmp_path / "o.csv"
    assert main(["metrics", *map(str, files), "--output", str(out), "--plugin", file]) == 1
    assert "case a: structure 1: plug-in" in capsys.readouterr().err
    assert not out.exists()


def test_undefined_is_allowed(tmp_path):
    [own] = own_metrics.load([written(tmp_path, FIELDS + MEASURE + "float('nan')")])
    mask = np.ones((2, 2, 2), bool)
    assert math.isnan(own.measure(mask, mask, (1, 1, 1)))


def test_two_metrics_in_one_file(tmp_path):
    text = "".join(
        f"def {name}_(reference, prediction, spacing_mm):\n    return {value}\n"
        f'{name} = dict(name="{name.lower()}_score", direction="lower", range=[0, float("inf")], '
        f'definition="x", measure={name}_)\n'
        for name, value in (("A", 1.0), ("B", 2.0))
    )
    file = written(tmp_path, text)
    mask = np.ones((2, 2, 2), bool)
    loaded = own_metrics.load([f"{file}:A", f"{file}:B"])
    assert [own.measure(mask, mask, (1, 1, 1)) for own in loaded] == [1, 2]
    assert [own.metric.name for own in loaded] == ["a_score", "b_score"]


def test_a_metric_of_the_registry_describes_as_well(tmp_path):
    text = (
        "from segstudy.metric import Metric\n"
        'METRIC = Metric(name="my_score", title="S", unit="", direction="lower", low=0.0, high=1.0, digits=2, '
        'definition="x")\n'
    )
    [own] = own_metrics.load([written(tmp_path, text + MEASURE + "0.5")])
    assert (own.metric.high, own.metric.digits) == (1.0, 2)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"my_score"', '"dice"', "'dice': known already"),
        ('"my_score"', '"sensitivity"', "known as recall already"),
        ('"my_score"', '"My Score"', "small letters"),
        ('"my_score"', "NAME", "line 1: METRIC, name: NAME; expected a plain value"),
        ('"higher"', '"up"', "direction: 'up'; expected higher, lower, or zero"),
        ("[0, 1]", "[1, 0]", "expected the lowest and the highest"),
        ("[0, 1]", "[None, 1]", "a missing prediction"),
        ("[0, 1]", "1", "expected the lowest and the highest"),
        (', "definition": "x"', "", "no definition"),
        ('"x"', '" "', "definition: empty"),
        ('"x"', '"x", "colour": "red"', "colour: unknown"),
        ('"x"', '"x", "digits": 1.5', "digits: 1.5"),
        ('"x"', '"x", "unit": 1', "unit: 1; expected text"),
        ('"x"', '"x", "unit": "mm"', "ends in its unit: my_score_mm"),
        ("METRIC = {", "METRICS = {", "no METRIC in it"),
        ("METRIC = {", "METRIC = 1 #", "expected names with their values"),
    ],
)
def test_a_description_that_says_nothing_clear_is_refused(tmp_path, old, new, told):
    with pytest.raises(InputError, match=told):
        metric_plugins.register([written(tmp_path, FIELDS.replace(old, new) + MEASURE + "0.5")])


@pytest.mark.parametrize(
    ("entry", "rest", "told"),
    [
        (', "measure": "nope"', "", "METRIC, measure: 'nope'; expected a function of the file"),
        (', "measure": nope', "", "METRIC, measure: no function nope"),
        ("", "", "no function measure"),
        ("", "measure = 3\n", "measure is 3"),
        (', "measure": own', "def own(reference, prediction, spacing_mm): ...\n", ""),
    ],
)
def test_what_measures_is_looked_for_when_settings_are_read(tmp_path, entry, rest, told):
    file = written(tmp_path, FIELDS.replace('"x"', f'"x"{entry}') + rest)
    if told:
        with pytest.raises(InputError, match=rf"my_score.py.*{told}"):
            metric_plugins.register([file])
    else:
        metric_plugins.register([file])


def test_one_plugin_that_stands_twice_is_told_as_that(tmp_path):
    file = written(tmp_path, FIELDS + MEASURE + "0.5")
    for other in (file, f"{file}:METRIC", f"{tmp_path}/../{tmp_path.name}/my_score.py"):
        with pytest.raises(InputError, match=r"my_score.py.*: stands twice; name it once"):
            metric_plugins.register([file, other])


def test_two_plugins_of_one_metric_are_refused(tmp_path):
    files = [written(tmp_path, FIELDS + MEASURE + "0.5", name) for name in ("a.py", "b.py")]
    with pytest.raises(InputError, match=r"b.py: measures 'my_score', as .*a.py does"):
        metric_plugins.register(files)


def test_describing_runs_no_code(tmp_path):
    file = written(tmp_path, "raise SystemExit\n" + FIELDS)
    assert metric_plugins.described(file).name == "my_score"


@pytest.mark.parametrize(("low", "high"), [(-2, 1), (-2, 3), (0, 1)])
def test_the_worst_value_is_an_end_of_the_range(tmp_path, low, high):
    worst = {"higher": low, "lower": high, "zero": max(-low, high)}
    for direction, value in worst.items():
        fields = FIELDS.replace("[0, 1]", f"[{low}, {high}]").replace("higher", direction)
        assert metric_plugins.described(written(tmp_path, fields)).worst == value


def test_a_metric_of_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "scores.py").write_text(FIELDS + MEASURE + "0.25")
    monkeypatch.syspath_prepend(str(tmp_path))
    [own] = own_metrics.load(["own_package.scores:METRIC"])
    mask = np.ones((2, 2, 2), bool)
    assert (own.metric.name, own.measure(mask, mask, (1, 1, 1))) == ("my_score", 0.25)


def test_a_table_of_it_says_how_to_bring_it_along(tmp_path, capsys):
    table = tmp_path / "metrics.csv"
    table.write_text("model,case,structure,metric,value\na,c,s,my_score,0.5\n")
    command = ["statistics", "--metrics", str(table), "--output", str(tmp_path / "s")]
    assert main(command) == 1
    assert "--plugin FILE" in capsys.readouterr().err
