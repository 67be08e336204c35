"""DICOM made for tests: series of a known volume, segmentations, contours."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENT = "Mustermann^Erika"
PATIENT_ID = "HOSP-4711"


def slice_of(stored, place, affine, fields):
    """A slice as pydicom has it. stored: int16 (i, j); place: its index; affine: to RAS mm."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CT
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.PatientName, one.PatientID = PATIENT, PATIENT_ID
    one.PatientBirthDate, one.PatientSex, one.AccessionNumber = "19500101", "F", "A-99"
    one.StudyID, one.StudyDate, one.StudyTime, one.ReferringPhysicianName = (
        "7",
        "20200101",
        "1200",
        "",
    )
    one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 3, place + 1
    one.Manufacturer = one.ManufacturerModelName = one.PositionReferenceIndicator = ""
    one.Rows, one.Columns = stored.shape[1], stored.shape[0]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
    one.PixelSpacing = [float(f"{sizes[1]:.10g}"), float(f"{sizes[0]:.10g}")]
    one.SliceThickness = float(f"{sizes[2]:.10g}")
    one.ImageOrientationPatient = [f"{x:.10g}" for x in (lps[:3, :2] / sizes[:2]).T.ravel()]
    one.ImagePositionPatient = [f"{x:.10g}" for x in lps[:3, 3] + place * lps[:3, 2]]
    one.PixelData = np.ascontiguousarray(stored.T.astype("<i2")).tobytes()
    for name, value in fields.items():
        setattr(one, name, value)
    return one


def write_series(folder: Path, volume, affine, change=None, **fields):
    """A volume in HU (i, j, k) as a series; `change(slice, place)` plants a fault. Names of files sort otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
        **fields,
    }
    for place in range(volume.shape[2]):
        one = slice_of(volume[:, :, place] + 1024, place, affine, shared)
        if change is not None:
            change(one, place)
        pydicom.dcmwrite(folder / f"{(place * 389) % 9973:04d}.dcm", one, enforce_file_format=True)
    return folder


def shifted(axis, mm):
    """A change for `write_series`: each slice moved along an axis (LPS) by `mm(place)`."""

    def change(one, place):
        position = np.array(one.ImagePositionPatient, float)
        position[axis] += mm(place)
        one.ImagePositionPatient = position.tolist()

    return change


def contours(path, structures, affine, kind="CLOSED_PLANAR"):
    """An RTSTRUCT. structures: name -> contours, points in voxels of the image (point, 3); kind: their type."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    content = Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.SOPClassUID = content.file_meta.MediaStorageSOPClassUID = CONTOURS
    content.SOPInstanceUID = content.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    content.Modality, content.PatientID = "RTSTRUCT", PATIENT_ID
    content.StructureSetROISequence, content.ROIContourSequence = [], []
    for number, (name, curves) in enumerate(structures.items(), start=11):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in curves:
            curve = Dataset()
            curve.ContourGeometricType = kind
            places = np.asarray(points, float) @ lps[:3, :3].T + lps[:3, 3]
            curve.ContourData = [f"{x:.8g}" for x in places.ravel()]
            curve.NumberOfContourPoints = len(points)
            drawn.ContourSequence.append(curve)
        content.StructureSetROISequence.append(roi)
        content.ROIContourSequence.append(drawn)
    pydicom.dcmwrite(path, content, enforce_file_format=True)
    return path
