"""Label files of 3D Slicer: the names in their headers decide what a value is, in reference and prediction."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK

from segstudy.cli import main
from segstudy.images.files import write_nifti

NAMED = {"anterior": 1, "posterior": 2}


def segmentation(path, segments):
    """A file of two structures as 3D Slicer saves it. segments: (name, value), in the order of their places."""
    array = np.zeros((6, 7, 8), np.uint8)
    for place, (_, value) in enumerate(segments):
        array[1:5, 1:6, 1 + 2 * place : 3 + 2 * place] = value
    image = SimpleITK.GetImageFromArray(array)
    for number, (name, value) in enumerate(segments):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    path.parent.mkdir(exist_ok=True)
    SimpleITK.WriteImage(image, str(path), True)


def measured(folder, settings):
    """The exit code, and Dice by structure."""
    code = main(
        [
            *("metrics", "--reference", str(folder / "r"), "--prediction", str(folder / "p")),
            *("--output", str(folder / "m.csv"), "--settings", json.dumps(settings)),
        ]
    )
    if code:
        return code, {}
    table = pd.read_csv(folder / "m.csv")
    return code, table[table["metric"] == "dice"].set_index("structure")["value"].to_dict()


ONE = [("anterior", 1), ("posterior", 2)]
OTHER = [("Anterior", 2), ("Posterior", 1)]
FAR = [("anterior", 7), ("posterior", 9)]


@pytest.mark.parametrize(
    ("reference", "prediction"), [(ONE, OTHER), (OTHER, ONE), (FAR, OTHER), (OTHER, OTHER)]
)
@pytest.mark.parametrize(
    "further",
    [{}, {"prediction_labels": {"anterior": [4, 5], "posterior": 6}}, {"background_labels": "all"}],
)
def test_exchanged_values_of_right_names_agree_wholly(tmp_path, reference, prediction, further):
    segmentation(tmp_path / "r" / "a.seg.nrrd", reference)
    segmentation(tmp_path / "p" / "a.seg.nrrd", prediction)
    code, dice = measured(tmp_path, {"structures": NAMED, **further})
    assert code == 0
    assert dice == {"anterior": 1.0, "posterior": 1.0}


def test_without_structures_files_that_contradict_each_other_are_refused(tmp_path, capsys):
    segmentation(tmp_path / "r" / "a.seg.nrrd", ONE)
    segmentation(tmp_path / "p" / "a.seg.nrrd", ONE)
    segmentation(tmp_path / "r" / "b.seg.nrrd", [("Segment_1", 1), ("Segment_2", 2)])
    segmentation(tmp_path / "p" / "b.seg.nrrd", [("Segment_1", 2), ("Segment_2", 1)])
    assert measured(tmp_path, {})[0] == 0
    segmentation(tmp_path / "p" / "a.seg.nrrd", OTHER)
    assert measured(tmp_path, {})[0] == 1
    said = capsys.readouterr().err
    assert "a.seg.nrrd: value 2 is called 'Anterior' in the header" in said
    assert '"structures": {"NAME": VALUE}: then the names decide' in said


def test_a_segment_of_another_name_is_refused_or_background(tmp_path, capsys):
    segmentation(tmp_path / "r" / "a.seg.nrrd", ONE)
    segmentation(tmp_path / "p" / "a.seg.nrrd", [("anterior", 1), ("liver", 2)])
    code, _ = measured(tmp_path, {"structures": NAMED})
    assert code == 1
    assert "case a: " in (said := capsys.readouterr().err)
    assert "value 2 is 'liver', expected posterior" in said
    code, dice = measured(tmp_path, {"structures": NAMED, "background_labels": "all"})
    assert (code, dice) == (0, {"anterior": 1.0, "posterior": 0.0})


def test_a_table_in_a_nifti_header_that_says_otherwise_is_told(tmp_path, caplog):
    for folder, names in (("r", "anterior posterior"), ("p", "posterior anterior")):
        segmentation(tmp_path / folder / "a.seg.nrrd", ONE)
        array = SimpleITK.GetArrayFromImage(
            SimpleITK.ReadImage(str(tmp_path / folder / "a.seg.nrrd"))
        )
        (tmp_path / folder / "a.seg.nrrd").unlink()
        file = tmp_path / folder / "a.nii.gz"
        write_nifti(file, array, np.eye(4))
        rows = "".join(f'<Label Key="{v}">{n}</Label>' for v, n in enumerate(names.split(), 1))
        image = nibabel.load(file)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
        text = f"<X><LabelTable>{rows}</LabelTable></X>".encode()
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, text))
        nibabel.save(image, file)
    assert measured(tmp_path, {"structures": NAMED})[0] == 0
    told = [text for text in caplog.messages if "the table in the header" in text]
    assert len(told) == 2
    assert all("p/a.nii.gz: case a" in text for text in told)
    assert "calls value 1 'posterior', but it is taken for anterior" in told[0]
