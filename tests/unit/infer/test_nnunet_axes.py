"""nnU-Net never looks at directions: an image of another orientation is shown as it was trained, and back."""

import numpy as np

from segstudy.images.files import Image
from segstudy.infer.nnunet import as_stored, as_trained

LPS = np.array([[-2.0, 0, 0, 30], [0, -1, 0, 20], [0, 0, 3, -10], [0, 0, 0, 1]])
PIR = np.array([[0.0, 0, 2, -30], [-1, 0, 0, 20], [0, -3, 0, 10], [0, 0, 0, 1]])


def test_an_image_of_another_site_is_turned_and_its_labels_turned_back():
    assert Image(np.zeros((1, 2, 2, 2)), PIR).grid.orientation == "PIR"
    array = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    stored = Image(array, PIR)
    seen = as_trained(stored, ["LPS", "LAS"])
    assert seen.grid.orientation == "LPS" and seen.array.shape == (1, 6, 4, 5)
    # A network that labels what is bright labels the same voxels of the file.
    classes = as_stored((seen.array[0] > 1).astype(np.uint8), seen.grid, stored.grid)
    np.testing.assert_array_equal(classes.array, array[0] > 1)
    np.testing.assert_array_equal(classes.affine, PIR)


def test_what_lies_as_in_training_is_left_alone():
    stored = Image(np.zeros((1, 4, 5, 6), np.float32), LPS)
    assert as_trained(stored, ["PIR", "LPS"]) is stored
    assert as_trained(stored, []) is stored  # weights that do not tell
    classes = np.arange(120).reshape(4, 5, 6)
    np.testing.assert_array_equal(as_stored(classes, stored.grid, stored.grid).array, classes)
