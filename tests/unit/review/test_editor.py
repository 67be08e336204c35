"""Commands and start scripts of editors, as text: each call stands in the program's documentation."""

import ast
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from segstudy.errors import InputError
from segstudy.review import editor

TASK = editor.Task(
    name="chest/p'3",
    images=(Path("/data/ct one.nii.gz"), Path("/data/pet.nii.gz")),
    label=Path("/out/p3.nii.gz"),
    consensus=None,
    structures={"heart": 7, "aorta": 3},
    voxel=(4, 5, 6),
    point_mm=(-12.0, 15.0, 30.5),
)


def calls(script: str) -> set[str]:
    """Every function that a script calls, as it is written."""
    tree = ast.parse(script)
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def values(script: str) -> dict:
    """What a script is told: the JSON of its `TASK`."""
    for node in ast.parse(script).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TASK":
            return json.loads(ast.literal_eval(node.value.args[0]))
    raise AssertionError("no TASK")


def test_slicer_is_given_volumes_a_named_segmentation_and_the_place(tmp_path):
    words = editor.command(editor.SLICER, "/opt/Slicer/Slicer", TASK, tmp_path)
    assert words == ["/opt/Slicer/Slicer", "--python-script", str(tmp_path / "slicer.py")]
    script = (tmp_path / "slicer.py").read_text()
    assert {
        "slicer.util.loadVolume",
        "slicer.util.loadLabelVolume",
        "slicer.util.saveNode",
        "slicer.util.setSliceViewerLayers",
        "slicer.modules.markups.logic().JumpSlicesToLocation",
        "slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode",
    } <= calls(script)
    told = values(script)
    assert told["point_mm"] == [-12, 15, 30.5]
    assert told["images"] == ["/data/ct one.nii.gz", "/data/pet.nii.gz"]
    assert told["consensus"] is None
    assert {name: one["value"] for name, one in told["structures"].items()} == {
        "heart": 7,
        "aorta": 3,
    }
    assert told["saved"] == "/out/p3.seg.nrrd"


def test_slicer_goes_on_with_what_it_saved_until_the_label_is_copied_anew(tmp_path, monkeypatch):
    task = replace(TASK, label=tmp_path / "p3.nii.gz")
    task.label.write_text("the study's label")
    assert opened_in_slicer(task, monkeypatch) == [str(task.label)]
    task.slicer_file.write_text("what save() writes")
    os.utime(task.label, (1000, 1000))
    assert opened_in_slicer(task, monkeypatch) == [str(task.slicer_file)]
    os.utime(task.slicer_file, (999, 999))  # another editor went on with the label
    assert opened_in_slicer(task, monkeypatch) == [str(task.label)]


def opened_in_slicer(task: editor.Task, monkeypatch) -> list[str]:
    """Run Slicer's start script with a stand-in for its module; return which labels it loads."""
    slicer = MagicMock()
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    exec(compile(editor.slicer_script(task), "slicer.py", "exec"), {})
    loads = (slicer.util.loadLabelVolume, slicer.util.loadSegmentation)
    return [call.args[0] for load in loads for call in load.call_args_list]


def test_itksnap_is_given_a_table_of_names(tmp_path):
    words = editor.command(editor.ITKSNAP, None, TASK, tmp_path)
    assert words[:5] == ["itksnap", "-g", "/data/ct one.nii.gz", "-s", "/out/p3.nii.gz"]
    assert words[5:] == ["-l", str(tmp_path / "labels.txt"), "-o", "/data/pet.nii.gz"]
    rows = [line.split() for line in (tmp_path / "labels.txt").read_text().splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [
        ("0", 'Label"'),
        ("7", '"heart"'),
        ("3", '"aorta"'),
    ]
    assert all(len(row) >= 8 for row in rows)


def test_napari_is_given_a_script_that_saves_on_the_label_s_grid(tmp_path):
    words = editor.command(editor.NAPARI, None, TASK, tmp_path)
    assert words == ["napari", str(tmp_path / "napari.py")]
    script = (tmp_path / "napari.py").read_text()
    assert {"viewer.add_image", "viewer.add_labels", "viewer.dims.set_point"} <= calls(script)
    assert values(script)["voxel"] == [4, 5, 6]


@pytest.mark.parametrize("name", editor.EDITORS)
def test_a_blinded_task_names_no_consensus_and_an_unblinded_one_does(tmp_path, name):
    shown = editor.Task(**{**vars(TASK), "consensus": Path("/out/consensus.nii.gz")})
    for task, expected in ((TASK, False), (shown, True)):
        words = editor.command(name, None, task, tmp_path)
        texts = [file.read_text() for file in tmp_path.iterdir()]
        assert (
            any("/out/consensus.nii.gz" in text for text in [*texts, " ".join(words)]) == expected
        )


def test_the_first_editor_on_the_path_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert editor.choose(None) == (editor.SLICER, None)
    with pytest.raises(InputError, match="--with napari: no napari on the PATH"):
        editor.choose("napari")
    for program in ("napari", "itksnap"):
        file = tmp_path / program
        file.write_text(f"#!{sys.executable}\n")
        file.chmod(0o755)
    assert editor.choose(None) == (editor.ITKSNAP, str(tmp_path / "itksnap"))
    assert editor.choose("napari") == (editor.NAPARI, str(tmp_path / "napari"))
