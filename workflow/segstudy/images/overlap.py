"""Overlap of two label maps, counted in one pass."""

import numpy as np


def confusion(reference: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Count the voxels of each pair of classes in reference and prediction.

    Parameters
    ----------
    reference, prediction
        Class indices 0 .. classes-1, of the same shape.
    classes
        The number of classes, the background among them.

    Returns
    -------
    numpy.ndarray
        int64 (classes, classes): row of the reference, column of the prediction.

    Raises
    ------
    ValueError
        For different shapes, and for other class indices.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference has shape {reference.shape}, prediction {prediction.shape}")
    for array in (reference, prediction):
        if array.size and (array.min() < 0 or array.max() >= classes):
            raise ValueError(f"class indices must be within 0..{classes - 1}")
    # The smallest type that holds every pair: the pass is bound by memory.
    kind = np.min_scalar_type(classes * classes - 1)
    pairs = reference.astype(kind).ravel() * kind.type(classes)
    pairs += prediction.astype(kind).ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def dice(reference: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Compute Dice of each class 1 .. classes-1; NaN where the reference lacks the class, as in metrics.

    Parameters
    ----------
    reference, prediction
        Class indices of the same shape.
    classes
        The number of classes, the background among them.

    Returns
    -------
    numpy.ndarray
        float64 (classes - 1,).
    """
    return dice_of(confusion(reference, prediction, classes))


def dice_of(counts: np.ndarray) -> np.ndarray:
    """Compute Dice of each class but the first from a confusion matrix (reference, prediction); NaN where the reference lacks it."""
    both = 2.0 * np.diagonal(counts)[1:]
    reference_size = counts.sum(axis=1)[1:]
    total = counts.sum(axis=0)[1:] + reference_size
    return np.divide(both, total, out=np.full(len(both), np.nan), where=reference_size > 0)
