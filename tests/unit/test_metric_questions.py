"""Metrics Reloaded's questions, and the metrics that follow from the answers."""

import pytest
import yaml

from segstudy.errors import InputError
from segstudy.metric_questions import Traits, ask_all, from_terminal, recommend, warnings
from segstudy.new_command import new_metrics
from segstudy.study import read_study

STUDY = """# mine
datasets:
  mine: {source: {layout: phantom, patients: 4}, modality: CT, structures: {heart: 1, vessel: 2}}
models: {unet: {network: unet}}
metrics: {nsd_tolerance_mm: [3.0]}  # of the surgeons
"""
ANSWERS = ["2,5", "80", "3", "n", "n", "n", "x", "4", "1", "yes", "y", "y"]


def asked():
    answers = iter(ANSWERS)
    return lambda question: next(answers)


def test_answers():
    found = ask_all(["heart", "vessel"], asked())
    assert found["heart"] == Traits(80, 2.5, 3)
    assert found["vessel"] == Traits(4, 2.5, 1, tubular=True, instances=True, empties=True)
    assert (found["heart"].small, found["vessel"].small) == (False, True)


def test_what_follows():
    found = recommend(ask_all(["heart", "vessel"], asked()))
    metrics = found.sections["metrics"]
    # No prediction is nearer than a voxel.
    assert metrics["nsd_tolerance_of"] == {"heart": 3, "vessel": 2.5}
    assert metrics["extra"] == ["masd_mm", "cldice", "betti_error"]
    assert metrics["lesions"] == {"preset": "panoptica", "structures": ["vessel"]}
    compared = found.sections["statistics"]["metrics"]
    assert compared == [name for name in metrics["reasons"] if name != "false_positive_cases"]
    assert "not to be read alone for vessel" in metrics["reasons"]["dice"]
    (warning,) = found.warnings
    assert warning.startswith("vessel: annotators differ by 1 mm, less than a voxel (2.5 mm)")


def test_dice_alone_for_a_small_structure_is_warned_of():
    tiny = {"lens": Traits(3, 1, 2)}
    (warning,) = warnings(tiny, ["dice", "iou"])
    assert warning.startswith("lens: 3 mm are 3 voxels: overlap alone says little of it")
    assert warnings(tiny, ["dice", "hd95_mm"]) == []


def test_the_study_file_gets_them_and_keeps_the_rest(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    told = new_metrics(file, asked())
    assert "cldice: vessel: tubes" in told and "warning: vessel" in told
    text = file.read_text()
    assert "# mine" in text and "# of the surgeons" in text
    study = read_study(file)
    assert study.metrics.nsd_tolerance_mm == (3.0,)
    assert study.metrics.own_tolerance_mm("vessel") == 2.5
    assert "cldice" in study.statistics.metrics
    assert study.metrics.reasons == yaml.safe_load(text)["metrics"]["reasons"]


def test_nobody_answers(monkeypatch):
    def ends(question):
        raise EOFError

    monkeypatch.setattr("builtins.input", ends)
    with pytest.raises(InputError, match="no answer to 'Largest side"):
        from_terminal("Largest side of a voxel, in mm: ")
