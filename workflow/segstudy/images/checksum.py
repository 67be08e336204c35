"""The checksum by which an image is known, whatever its file is called and whichever way its axes point."""

import hashlib
from dataclasses import replace

import numpy as np

from segstudy.images.files import Image
from segstudy.images.geometry import to_ras


def image_checksum(image: Image) -> str:
    """Compute a digest of shape and voxels of an image, or of a label map, once its axes point right, front and head.

    Parameters
    ----------
    image
        (channel, i, j, k), or a label map (i, j, k).

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    array = to_ras(image).array
    digest = hashlib.blake2b(np.array(array.shape).tobytes(), digest_size=16)
    digest.update(array)
    return digest.hexdigest()


def label_checksum(label: Image) -> str:
    """Compute `image_checksum` of a label map (i, j, k), the same whatever type of integers it is kept in."""
    return image_checksum(replace(label, array=label.array.astype(np.uint16)))
