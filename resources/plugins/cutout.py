"""Cutout (DeVries and Taylor 2017): a box of each image is set to its mean: an example of an augmentation as a plug-in."""

import torch

SIDE = 0.25
"""Side of the box, as a fraction of the patch's."""


def augment(images, labels, generator):
    """Return the images (batch, channel, *patch) with a box cut out of each; labels stay.

    Every random number comes from `generator`, which is on the images' device.
    """
    changed = images.clone()
    for image in changed:
        box = [slice(None)]
        for size in image.shape[1:]:
            side = max(1, round(SIDE * size))
            start = torch.randint(
                size - side + 1, (1,), generator=generator, device=image.device
            ).item()
            box.append(slice(start, start + side))
        image[tuple(box)] = image.mean()
    return changed, labels
