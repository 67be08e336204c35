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


PLAIN = ["1", "80", "3", "n", "n", "n", "40", "3", "n", "n", "n"]


def answering(*answers):
    left = iter(answers)
    return lambda question: next(left)


OWN = """# mine
datasets:
  mine: {source: {layout: phantom, patients: 4}, modality: CT, structures: {heart: 1, vessel: 2}}
models: {unet: {network: unet}}
# --- metrics
metrics:
  # of the surgeons
  nsd_tolerance_mm: [3.0]  # two
  extra: [boundary_iou]
  # the end of metrics

statistics:
  bootstrap_samples: 500  # quick
  metrics: [dice]
# --- the end
"""


@pytest.mark.parametrize("text", [STUDY, OWN, STUDY.rstrip().removesuffix("# of the surgeons")])
def test_answering_again_leaves_nothing_of_the_first_answers(tmp_path, text):
    """The file is then that of the second answers alone, with what a person wrote, in both."""
    twice, once = tmp_path / "twice.yaml", tmp_path / "once.yaml"
    for file in (twice, once):
        file.write_text(text)
    new_metrics(twice, asked())
    first = yaml.safe_load(twice.read_text())
    assert {"cldice", "betti_error"} < set(first["metrics"]["extra"])
    assert first["metrics"]["lesions"] == {"preset": "panoptica", "structures": ["vessel"]}
    for file in (twice, once):
        new_metrics(file, answering(*PLAIN))
    found = yaml.safe_load(twice.read_text())
    assert found == yaml.safe_load(once.read_text())
    assert "lesions" not in found["metrics"] and "cldice" not in str(found)
    assert found["metrics"].get("extra", []) == (["boundary_iou"] if text is OWN else [])
    assert found["metrics"]["nsd_tolerance_mm"] == [3.0]
    assert read_study(twice).metrics.nsd_tolerance_mm == (3.0,)


def test_what_is_written_is_for_people(tmp_path):
    """Lines a key, without anchors, whether the section was there or not; remarks stay where they were."""
    for text in (STUDY, OWN):
        file = tmp_path / "study.yaml"
        file.write_text(text)
        for answers in (asked(), answering(*PLAIN), asked()):
            new_metrics(file, answers)
            written = file.read_text()
            assert "&id" not in written and "*id" not in written and '{"' not in written
            for remark in (line[line.index("#") :] for line in text.splitlines() if "#" in line):
                assert remark in written
            lines = written.splitlines()
            assert "  reasons:" in lines and lines.count("metrics:") == 1
            assert any(line.startswith("    hd95_mm: errors far") for line in lines)
            read_study(file)
    assert "  bootstrap_samples: 500  # quick" in lines
    # What a remark is about still stands below it, or in its line.
    place = lines.index("  # of the surgeons")
    assert lines[place - 1 : place + 2] == [
        "metrics:",
        "  # of the surgeons",
        "  nsd_tolerance_mm: [3.0]  # two",
    ]


def test_a_file_without_a_last_line_break(tmp_path):
    file = tmp_path / "study.yaml"
    start, _ = OWN.rstrip().split("statistics:")
    file.write_text(f"{start.replace('# --- metrics', 'statistics: {}')}".rstrip())
    new_metrics(file, asked())
    new_metrics(file, answering(*PLAIN))
    assert read_study(file).metrics.extra == ("boundary_iou",)
    assert yaml.safe_load(file.read_text())["statistics"]["metrics"][0] == "dice"


def test_a_persons_own_lesions_stay(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(OWN.replace("  extra: [boundary_iou]", "  lesions: brats2023"))
    new_metrics(file, answering(*PLAIN))
    assert yaml.safe_load(file.read_text())["metrics"]["lesions"] == "brats2023"


@pytest.mark.parametrize("odd", ["1_0", "nan", "inf", "-1", "0", "1e", "٣", "1 0"])
def test_what_is_no_length_is_asked_for_again(odd):
    said = []
    answers = iter([odd, "2.5", *PLAIN[1:6]])

    def ask(question):
        said.append(question)
        return next(answers)

    assert ask_all(["heart"], ask)["heart"].voxel_mm == 2.5
    assert said[1] == f"found {odd!r}; expected a number above 0, in mm: "


def test_nobody_answers(monkeypatch):
    def ends(question):
        raise EOFError

    monkeypatch.setattr("builtins.input", ends)
    with pytest.raises(InputError, match="no answer to 'Largest side"):
        from_terminal("Largest side of a voxel, in mm: ")
