"""A classifier of single voxels by their grey values: an example of a trainer as a plug-in.

A voxel is given the class that is most frequent among the training voxels of its grey value, in bins. A baseline: what
looks alike is not told apart by where it lies.
"""

import json

import nibabel
import numpy as np


class Trainer:
    """Count the classes in each bin of grey values; predict the most frequent one."""

    def __init__(self, bin_width=10.0):
        self.bin_width = bin_width

    def fit(self, cases, validation_cases, folder, settings):
        """Learn from the cases' images and labels, and leave `classes.json` in the folder."""
        names = ["background", *settings["structures"]]
        found = []
        for case in cases:
            image, label = self._bins(case.images[0]), _voxels(case.label)
            values = [0, *(case.structures[name] for name in names[1:])]
            found += [
                (image[label == value], number)
                for number, value in enumerate(values)
                if value not in case.ignore
            ]
        lowest = min(bins.min() for bins, _ in found if bins.size)
        highest = max(bins.max() for bins, _ in found if bins.size)
        counts = np.zeros((len(names), highest - lowest + 1), int)
        for bins, number in found:
            counts[number] += np.bincount(bins - lowest, minlength=counts.shape[1])
        learned = {"names": names, "lowest": int(lowest), "most": counts.argmax(0).tolist()}
        (folder / "classes.json").write_text(json.dumps(learned))

    def predict(self, case, folder):
        """Return the label (i, j, k) on the image's grid, with the values of `case.structures`."""
        learned = json.loads((folder / "classes.json").read_text())
        most = np.array(learned["most"])
        bins = np.clip(self._bins(case.images[0]) - learned["lowest"], 0, len(most) - 1)
        values = np.array([0, *(case.structures[name] for name in learned["names"][1:])])
        return values[most[bins]]

    def _bins(self, path):
        return np.floor(_voxels(path) / self.bin_width).astype(int)


def _voxels(path):
    """Read the voxels (i, j, k) of an image of one channel."""
    return np.asarray(nibabel.load(path).dataobj, dtype=float)
