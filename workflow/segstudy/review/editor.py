"""Commands and start scripts of 3D Slicer, ITK-SNAP and napari, which open a case with the cursor at the place to look at.

The calls were checked against the programs' documentation; none of them is installed where this is tested.

Slicer: script repository (`slicer.util.loadVolume`, `ImportLabelmapToSegmentationNode`, `JumpSlicesToLocation`) and `--python-script`.
ITK-SNAP: `-g`, `-s`, `-o` and `-l` of its command line, which knows no place for the cursor. napari: a script as its argument.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segstudy.errors import InputError
from segstudy.files import write_text

SLICER, ITKSNAP, NAPARI = EDITORS = ("slicer", "itksnap", "napari")
PROGRAMS = {SLICER: ("Slicer",), ITKSNAP: ("itksnap", "ITK-SNAP"), NAPARI: ("napari",)}
"""What they are called on the PATH."""
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
"""Of Okabe and Ito: told apart by readers with any colour vision."""


@dataclass(frozen=True)
class Task:
    """Hold what an editor shows.

    Parameters
    ----------
    name
        The case, for titles.
    images
        One file a channel.
    label
        The label to edit: a copy, so that saving changes no delivered file.
    consensus
        Another layer, not to be edited; None in a blinded review.
    structures
        Name -> value in the label.
    voxel
        Where to look (i, j, k), as stored.
    point_mm
        The same in the patient, right, front and head.
    """

    name: str
    images: Sequence[Path]
    label: Path
    consensus: Path | None
    structures: Mapping[str, int]
    voxel: tuple[int, int, int]
    point_mm: tuple[float, float, float]

    @property
    def slicer_file(self) -> Path:
        """Return the file that Slicer's `save()` writes, in which segments have their names."""
        return slicer_file(self.label)

    @property
    def was_saved_by_slicer(self) -> bool:
        """Tell whether Slicer's `save()` has written its file after the label was last written."""
        file = self.slicer_file
        return file.is_file() and file.stat().st_mtime_ns >= self.label.stat().st_mtime_ns


def slicer_file(label: Path) -> Path:
    """Return the file that Slicer's `save()` writes beside a label."""
    return label.with_name(label.name.removesuffix(".nii.gz") + ".seg.nrrd")


def installed(editor: str) -> str | None:
    """Return the program of an editor on the PATH, or None."""
    found = (shutil.which(program) for program in PROGRAMS[editor])
    return next((path for path in found if path), None)


def choose(wanted: str | None) -> tuple[str, str | None]:
    """Choose an editor and its program: the one that is asked for, else the first that is installed, else Slicer without one.

    Raises InputError for an editor that is asked for and not installed.
    """
    if wanted is not None:
        program = installed(wanted)
        if program is None:
            raise InputError(
                f"--with {wanted}: no {' or '.join(PROGRAMS[wanted])} on the PATH; install it, or leave out --with to have "
                "the command printed"
            )
        return wanted, program
    for editor in EDITORS:
        program = installed(editor)
        if program:
            return editor, program
    return SLICER, None


def command(editor: str, program: str | None, task: Task, folder: Path) -> list[str]:
    """Return the command that opens a task, and write the files that it needs.

    Parameters
    ----------
    editor
        One of `EDITORS`.
    program
        Its file; None: its usual name stands in the command.
    task
        What it shows.
    folder
        Where start scripts and tables of names go.
    """
    program = program or PROGRAMS[editor][0]
    if editor == ITKSNAP:
        names = folder / "labels.txt"
        write_text(names, label_descriptions(task.structures))
        others = [*task.images[1:], *([task.consensus] if task.consensus else [])]
        return [
            program,
            *("-g", str(task.images[0]), "-s", str(task.label), "-l", str(names)),
            *(["-o", *map(str, others)] if others else []),
        ]
    script = folder / f"{editor}.py"
    write_text(script, {SLICER: slicer_script, NAPARI: napari_script}[editor](task))
    return [program, *(["--python-script"] if editor == SLICER else []), str(script)]


def label_descriptions(structures: Mapping[str, int]) -> str:
    """Return ITK-SNAP's table of label names and colours: index, red, green, blue, opacity, visible, in 3D, name."""
    lines = [
        "# ITK-SnAP Label Description File",
        '    0     0    0    0        0  0  0    "Clear Label"',
    ]
    for number, (name, value) in enumerate(structures.items()):
        red, green, blue = COLOURS[number % len(COLOURS)]
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{name}"')
    return "\n".join(lines) + "\n"


def _values(task: Task, **further: object) -> str:
    """Return a task as a Python literal of JSON, for a start script."""
    values = {
        "name": task.name,
        "images": [str(path) for path in task.images],
        "label": str(task.label),
        "consensus": str(task.consensus) if task.consensus else None,
        "structures": {
            name: {
                "value": value,
                "colour": [part / 255 for part in COLOURS[number % len(COLOURS)]],
            }
            for number, (name, value) in enumerate(task.structures.items())
        },
        **further,
    }
    return repr(json.dumps(values))


def slicer_script(task: Task) -> str:
    """Return the script that Slicer runs at its start.

    It loads the images as volumes, the label as a segmentation with the study's names, or what `save()` wrote before
    (`slicer.util.loadSegmentation`), turns all slices to the place, and
    defines `save()` for Slicer's Python console.
    """
    values = _values(
        task,
        point_mm=list(task.point_mm),
        saved=str(task.slicer_file),
        goes_on=task.was_saved_by_slicer,
    )
    return _SLICER.replace("@VALUES@", values)


def napari_script(task: Task) -> str:
    """Return the script that napari runs: images, label, the slice of the place, and Shift-S to save the label."""
    return _NAPARI.replace("@VALUES@", _values(task, voxel=list(task.voxel)))


_SLICER = '''"""Opens a case in 3D Slicer. In the Python console, save() writes what was edited."""

import json

import slicer

TASK = json.loads(@VALUES@)


def as_segmentation(path, name):
    """Load a label map as a segmentation with the study's names and colours."""
    labelmap = slicer.util.loadLabelVolume(path)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(labelmap)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node)
    slicer.mrmlScene.RemoveNode(labelmap)
    segments = node.GetSegmentation()
    found = {segments.GetSegment(one).GetLabelValue(): segments.GetSegment(one) for one in segments.GetSegmentIDs()}
    for structure, known in TASK["structures"].items():
        if known["value"] in found:
            found[known["value"]].SetName(structure)
            found[known["value"]].SetColor(*known["colour"])
        else:
            segments.AddEmptySegment(structure, structure, known["colour"])
    return node


volumes = [slicer.util.loadVolume(path) for path in TASK["images"]]
if TASK["goes_on"]:
    segmentation = slicer.util.loadSegmentation(TASK["saved"])
    segmentation.SetName(TASK["name"])
    if volumes:
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volumes[0])
else:
    segmentation = as_segmentation(TASK["label"], TASK["name"])
if TASK["consensus"]:
    consensus = as_segmentation(TASK["consensus"], "consensus of the models")
    consensus.GetDisplayNode().SetVisibility2DFill(False)
if volumes:
    slicer.util.setSliceViewerLayers(background=volumes[0], fit=True)
slicer.util.selectModule("SegmentEditor")
slicer.modules.markups.logic().JumpSlicesToLocation(*TASK["point_mm"], True)


def save():
    """Write the segmentation, with the names of its segments, to the file that segstudy review accept takes."""
    if not slicer.util.saveNode(segmentation, TASK["saved"]):
        raise RuntimeError("not saved: " + TASK["saved"])
    print("saved: " + TASK["saved"])
'''

_NAPARI = '''"""Opens a case in napari. Shift-S saves the label."""

import json

import napari
import numpy as np

try:
    import nibabel
except ImportError:
    raise SystemExit("nibabel is missing beside napari: pip install nibabel") from None

TASK = json.loads(@VALUES@)
stored = nibabel.load(TASK["label"])
size = [float(one) for one in stored.header.get_zooms()[:3]]
viewer = napari.current_viewer() or napari.Viewer()
for path in TASK["images"]:
    viewer.add_image(np.asanyarray(nibabel.load(path).dataobj), name=path.rsplit("/", 1)[-1], scale=size)
if TASK["consensus"]:
    agreed = np.asarray(nibabel.load(TASK["consensus"]).dataobj).astype(np.int32)
    viewer.add_labels(agreed, name="consensus of the models", scale=size).contour = 1
label = viewer.add_labels(np.asarray(stored.dataobj).astype(np.int32), name=TASK["name"], scale=size)
# Rows and columns are the second and the first stored axis; the slider is the third.
viewer.dims.order = (2, 1, 0)
for axis, (index, step) in enumerate(zip(TASK["voxel"], size)):
    viewer.dims.set_point(axis, index * step)
print("values: " + ", ".join(f"{one['value']} {name}" for name, one in TASK["structures"].items()))


@viewer.bind_key("Shift-S")
def save(viewer):
    """Write the label, on its grid, to the file that segstudy review accept takes."""
    nibabel.save(nibabel.Nifti1Image(label.data.astype(np.uint16), stored.affine), TASK["label"])
    viewer.status = "saved: " + TASK["label"]


if __name__ == "__main__":
    napari.run()
'''
