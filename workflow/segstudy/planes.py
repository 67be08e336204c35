"""Planes of slices by their anatomical names."""

NORMAL_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The RAS axis across the slices of a plane; the slice's own axes are the other two, in order."""

PLANE_ACROSS = {axis: plane for plane, axis in NORMAL_AXIS.items()}
"""The plane of slices across a RAS axis."""
