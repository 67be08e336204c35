"""A classifier of single voxels by their grey values: an example of a trainer as a plug-in.

Each structure, and the background, has a normal distribution of grey values (naive Bayes). A baseline: what looks
alike is not told apart by where it lies.
"""

import json

import nibabel
import numpy as np


class Trainer:
    """Learn mean, SD and frequency of each class; predict the most probable class of each voxel."""

    def __init__(self, least_sd=1.0):
        self.least_sd = least_sd

    def fit(self, cases, validation_cases, folder, settings):
        """Learn from the cases' images and labels, and leave `classes.json` in the folder."""
        values = {name: [] for name in ("background", *settings["structures"])}
        for case in cases:
            image, label = _voxels(case.images[0]), _voxels(case.label)
            known = ~np.isin(label, case.ignore)
            meaning = {"background": 0, **case.structures}
            for name in values:
                values[name].append(image[known & (label == meaning[name])])
        total = sum(part.size for parts in values.values() for part in parts)
        classes = {}
        for name, parts in values.items():
            grey = np.concatenate(parts)
            sd = max(float(grey.std()), self.least_sd)
            classes[name] = {"mean": float(grey.mean()), "sd": sd, "share": grey.size / total}
        (folder / "classes.json").write_text(json.dumps(classes, indent=1))

    def predict(self, case, folder):
        """Return the label (i, j, k) on the image's grid, with the values of `case.structures`."""
        classes = json.loads((folder / "classes.json").read_text())
        image = _voxels(case.images[0])
        scores = [
            np.log(one["share"])
            - np.log(one["sd"])
            - 0.5 * ((image - one["mean"]) / one["sd"]) ** 2
            for one in classes.values()
        ]
        meaning = {"background": 0, **case.structures}
        return np.array([meaning[name] for name in classes])[np.argmax(scores, axis=0)]


def _voxels(path):
    """Read the voxels (i, j, k) of an image of one channel."""
    return np.asarray(nibabel.load(path).dataobj, dtype=float)
