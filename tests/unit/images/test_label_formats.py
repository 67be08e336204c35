"""Label maps as DICOM-SEG: names of any script and any number of structures come back as they were."""

import highdicom
import numpy as np
import pydicom
import pytest

from dicom_series import write_series
from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images.files import Image, read_label
from segstudy.images.fitting import fitted
from segstudy.images.label_formats import LABEL_FORMATS
from segstudy.images.segments import named_segments

DICOM_SEG = LABEL_FORMATS["dicom-seg"]
AFFINE = affine_of(TURNS[0] @ np.diag([-1, -1, 1]), (0.7, 0.9, 2.5))
VOLUME = np.zeros((7, 6, 5), np.int16)


@pytest.mark.parametrize(
    ("sets", "patient"),
    [
        (None, "Mustermann^Erika"),
        ("ISO_IR 100", "Müller^Änne"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
)
def test_names_of_structures_and_patients_are_of_any_script(tmp_path, sets, patient):
    """PS3.5 6.1.2: what is no ASCII needs a character set that the file names."""
    fields = {"SpecificCharacterSet": sets} if sets else {}
    series = write_series(tmp_path / "ct", VOLUME, AFFINE, PatientName=patient, **fields)
    label = np.zeros(VOLUME.shape, np.uint8)
    label[1:3], label[4:6] = 2, 7
    DICOM_SEG.check(series)
    DICOM_SEG.write(tmp_path / "seg.dcm", Image(label, AFFINE), {"Nöte": 2, "肝臓": 7}, series)
    found = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (found.SpecificCharacterSet, str(found.PatientName)) == ("ISO_IR 192", patient)
    assert [one.SegmentLabel for one in found.SegmentSequence] == ["Nöte", "肝臓"]
    assert named_segments(tmp_path / "seg.dcm") == [("Nöte", 1), ("肝臓", 2)]


def test_more_structures_than_a_byte_counts_keep_their_voxels(tmp_path):
    series = write_series(tmp_path / "ct", VOLUME, AFFINE)
    label = np.zeros(VOLUME.shape, np.uint16)
    label[1, 1, 1], label[2, 2, 2], label[3, 3, 3] = 1000, 1255, 1259
    names = {f"s{n}": 1000 + n for n in range(260)}
    DICOM_SEG.write(tmp_path / "seg.dcm", Image(label, AFFINE), names, series)
    found = fitted(read_label(tmp_path / "seg.dcm"), Image(label, AFFINE).grid).array
    assert [found[n, n, n] for n in (1, 2, 3)] == [1, 256, 260] and (found > 0).sum() == 3


def test_a_segmentation_without_a_voxel_has_all_its_segments(tmp_path):
    series = write_series(tmp_path / "ct", VOLUME, AFFINE)
    empty = Image(np.zeros(VOLUME.shape, np.uint8), AFFINE)
    DICOM_SEG.write(tmp_path / "seg.dcm", empty, {"liver": 1, "tumour": 2}, series)
    assert list(highdicom.seg.segread(tmp_path / "seg.dcm").segment_numbers) == [1, 2]
    label = read_label(tmp_path / "seg.dcm")
    assert label.array.size == VOLUME.size and not label.array.any()


@pytest.mark.parametrize("name", ["x" * 65, "left\\right", "two\nlines", " "])
def test_a_name_that_no_segment_can_have_is_refused(name):
    with pytest.raises(InputError, match="--format dicom-seg: structure .* expected 1 to 64"):
        DICOM_SEG.check_names(["liver", name])
    LABEL_FORMATS["seg.nrrd"].check_names(["liver", name])
