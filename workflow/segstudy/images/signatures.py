"""First bytes that tell formats apart, whatever a file is called; light, since the service reads uploads by them."""

GZIP = b"\x1f\x8b"
DICOM = b"DICM"
DICOM_PLACE = 128
"""Bytes before the mark of DICOM."""
NIFTI_SIZES = (348, 540)
"""Of a header of NIfTI-1 and NIfTI-2, which begins with its own size, in either byte order."""
AFTER_VOXELS = 1_000_000
"""Bytes after the voxels of a NIfTI file that are let pass."""
_NIFTI = tuple(size.to_bytes(4, order) for size in NIFTI_SIZES for order in ("little", "big"))


def is_nifti(head: bytes) -> bool:
    """Tell whether first bytes are those of a NIfTI file that is not compressed."""
    return head.startswith(_NIFTI)


def is_dicom(head: bytes) -> bool:
    """Tell whether first bytes, 132 or more, are those of a DICOM file."""
    return head[DICOM_PLACE : DICOM_PLACE + len(DICOM)] == DICOM
