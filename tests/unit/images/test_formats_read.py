"""Formats beside NIfTI, NRRD and MetaImage: MGH, pairs, capitals, layers of 3D Slicer, by what other libraries write."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images.files import read_grid, read_image, read_label, write_label
from segstudy.images.formats.segment_masks import SegmentMask, combine
from segstudy.images.headers import warnings
from segstudy.images.names import stem
from segstudy.images.segments import named_segments, value_map

SHAPE = (4, 5, 6)
RAMP = np.arange(120, dtype=np.int16).reshape(SHAPE)
AFFINE = affine_of(TURNS[13], (0.8, 1.2, 3.0), (5, -8, 12))


@pytest.mark.parametrize(
    "name", ["a.mgz", "a.mgh", "a.MGZ", "a.hdr", "A.HDR", "a.NII.GZ", "a.NII.gz"]
)
def test_what_nibabel_writes_is_read_where_it_lies(tmp_path, name):
    kind = nibabel.MGHImage if ".mg" in name.lower() else nibabel.Nifti1Image
    if name.lower().endswith(".hdr"):
        kind = nibabel.Nifti1Pair
    nibabel.save(kind(RAMP, AFFINE.astype(np.float32)), tmp_path / name)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.array[0], RAMP)
    np.testing.assert_array_equal(read_label(tmp_path / name).array, RAMP)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-4)
    np.testing.assert_array_equal(read_grid(tmp_path / name).affine, image.affine)
    assert warnings(tmp_path / name) == []
    assert stem(tmp_path / name).lower() == "a"


def test_a_pair_without_its_voxels_and_the_voxels_without_their_header(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(RAMP, AFFINE), tmp_path / "a.hdr")
    with pytest.raises(InputError, match=r"a\.img: the voxels of a pair; name its header, a\.hdr"):
        read_image(tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match=r"a\.hdr: its voxels are expected in a\.img beside it"):
        read_image(tmp_path / "a.hdr")


def test_an_mgh_file_without_a_place_is_warned_of_and_a_damaged_one_refused(tmp_path):
    image = nibabel.MGHImage(RAMP, AFFINE)
    nibabel.save(image, tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "b.mgh").write_bytes(content)
    assert "FreeSurfer's default" in warnings(tmp_path / "b.mgh")[0]
    (tmp_path / "c.mgh").write_bytes(content[:300])
    with pytest.raises(InputError, match=r"c\.mgh: the file ends early or is damaged"):
        read_image(tmp_path / "c.mgh")


def test_a_detached_nrrd_header(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(RAMP), str(tmp_path / "a.nhdr"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.nhdr").array, RAMP.transpose(2, 1, 0))
    assert warnings(tmp_path / "a.nhdr") == []


# --- segmentations of 3D Slicer -----------------------------------------------------------------


def slicer(path, layers, segments):
    """A .seg.nrrd. layers: (i, j, k) each; segments: fields of each, without the number."""
    vector = SimpleITK.GetImageFromArray(np.stack(layers, -1).transpose(2, 1, 0, 3), isVector=True)
    image = vector if len(layers) > 1 else SimpleITK.VectorIndexSelectionCast(vector, 0)
    for number, fields in enumerate(segments):
        for key, value in fields.items():
            image.SetMetaData(f"Segment{number}_{key}", str(value))
    SimpleITK.WriteImage(image, str(path))


def boxes():
    organ, tumour = np.zeros((2, 8, 7, 6), np.uint8)
    organ[1:6, 1:6, 1:5] = 1
    tumour[2:4, 2:4, 2:6] = 1
    return organ, tumour


@pytest.mark.parametrize("order", [1, -1])
def test_layers_become_one_label_map_in_which_the_smaller_segment_is_seen(tmp_path, order):
    layers = boxes()[::order]
    fields = [
        {"Name": name, "Layer": layer, "LabelValue": 1}
        for layer, name in enumerate(["liver", "tumour"][::order])
    ]
    slicer(tmp_path / "a.seg.nrrd", layers, fields)
    label = read_label(tmp_path / "a.seg.nrrd")
    moved, _ = value_map(tmp_path / "a.seg.nrrd", {"liver": [7], "tumour": [9]})
    organ, tumour = (one.astype(bool) for one in boxes())
    values = dict(named_segments(tmp_path / "a.seg.nrrd"))
    assert {values["liver"]: 7, values["tumour"]: 9} == moved
    np.testing.assert_array_equal(label.array == values["tumour"], tumour)
    np.testing.assert_array_equal(label.array == values["liver"], organ & ~tumour)
    assert label.notes == (
        "12 voxels are of 'liver' and of 'tumour': they count as the latter, the smaller segment",
    )


def test_older_versions_have_a_layer_of_ones_a_segment(tmp_path):
    slicer(tmp_path / "a.seg.nrrd", boxes(), [{"Name": "liver"}, {"Name": "tumour"}])
    assert named_segments(tmp_path / "a.seg.nrrd") == [("liver", 1), ("tumour", 2)]
    assert set(np.unique(read_label(tmp_path / "a.seg.nrrd").array)) == {0, 1, 2}


def test_a_value_in_a_layer_that_no_segment_has_is_refused(tmp_path):
    organ, tumour = boxes()
    tumour[0, 0, 0] = 5
    fields = [{"Name": n, "Layer": k, "LabelValue": 1} for k, n in enumerate(("liver", "tumour"))]
    slicer(tmp_path / "a.seg.nrrd", (organ, tumour), fields)
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: layer 1 holds values that no segment"):
        read_label(tmp_path / "a.seg.nrrd")
    fields[1]["Layer"] = 4
    slicer(tmp_path / "a.seg.nrrd", (organ, tumour), fields)
    with pytest.raises(InputError, match="puts a segment into layer 4"):
        read_label(tmp_path / "a.seg.nrrd")


def test_segments_are_painted_by_size_whatever_their_order():
    masks = np.zeros((3, 4, 4, 4), bool)
    masks[0], masks[1, :2], masks[2, 1, 1, 1] = True, True, True
    segments = [SegmentMask(f"s{n}", n + 1, mask) for n, mask in enumerate(masks)]
    label, notes = combine(segments[::-1], (4, 4, 4))
    assert np.bincount(label.ravel()).tolist() == [0, 32, 31, 1]
    assert len(notes) == 2
    write = combine([SegmentMask("far", 300, masks[2])], (4, 4, 4))[0]
    assert write.dtype == np.uint16 and write.max() == 300


def test_slicers_ending_is_one(tmp_path):
    assert stem("x/case_1.seg.nrrd") == "case_1"
    write_label(tmp_path / "a.nii.gz", RAMP % 3, AFFINE)
    assert named_segments(tmp_path / "a.nii.gz") == []
