"""The mean signed distance of the predicted surface: above 0 where predictions are too large."""

from scipy.ndimage import binary_erosion, distance_transform_edt

METRIC = {
    "name": "surface_bias_mm",
    "title": "Surface bias",
    "unit": "mm",
    "direction": "zero",
    "range": [None, None],
    "digits": 2,
    "definition": "the mean signed distance of the predicted surface from the reference, positive outside",
}


def measure(reference, prediction, spacing_mm):
    """Return the bias in mm of one structure; masks are bool (i, j, k), none of them empty."""
    outside = distance_transform_edt(~reference, sampling=spacing_mm)
    inside = distance_transform_edt(reference, sampling=spacing_mm)
    surface = prediction & ~binary_erosion(prediction)
    return (outside - inside)[surface].mean()
