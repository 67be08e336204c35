"""Training images of a network that saw no real image: a label map and images synthesised from it."""

import numpy as np
import pandas

from segstudy.planes import PLANE_ACROSS
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import overlay, parts
from segstudy.publish.results import Results
from segstudy.publish.words import plain
from segstudy.words import count


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a label map beside images synthesised from it; below, each image with its labels."""
    study = results.study
    fold, seed = study.folds[0], study.models[figure.model].seeds[0]
    samples = results.samples(figure.model, fold, seed)
    colours, shown_name = parts.colours(results), results.look.model(figure.model)
    classes = {name: number for number, name in enumerate(study.structures, start=1)}
    plane = PLANE_ACROSS[({0, 1, 2} - set(samples["axes"].tolist())).pop()]
    pixel_mm = tuple(float(size) for size in samples["pixel_mm"][::-1])
    images = [upright(image) for image in samples["images"]]
    labels = [upright(label) for label in samples["labels"]]
    number = len(images)
    height = images[0].shape[0] * pixel_mm[0] / (images[0].shape[1] * pixel_mm[1])
    panel = (style.page_mm() - 4) / (number + 1)
    drawn = style.canvas(style.page_mm(), 2 * panel * height + 14)
    axes = drawn.subplots(2, number + 1, squeeze=False)
    plainly = upright(samples["map"])
    overlay.show(axes[0, 0], np.zeros(plainly.shape), pixel_mm)
    overlay.letters(axes[0, 0], plane)
    overlay.scale_bar(axes[0, 0], plainly.shape[1] * pixel_mm[1])
    axes[0, 0].set_title("label map")
    style.hide(axes[1, 0])
    for index, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
        low, high = np.percentile(image, (0.5, 99.5))
        grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
        for place in axes[:, index]:
            overlay.show(place, grey, pixel_mm)
        axes[0, index].set_title(f"image {index}")
        for name, value in classes.items():
            overlay.fill(axes[1, index], label == value, pixel_mm, colours[name], alpha=0.5)
    for name, value in classes.items():
        overlay.fill(axes[0, 0], plainly == value, pixel_mm, colours[name], alpha=1)
    handles = parts.structure_handles(results, results.look.structures)
    parts.legend(drawn, handles, style.page_mm())
    table = pandas.DataFrame(
        {
            "image": range(1, number + 1),
            "mean": [float(image.mean()) for image in images],
            "sd": [float(image.std()) for image in images],
            **{
                f"voxels_{name}": [int((label == value).sum()) for label in labels]
                for name, value in classes.items()
            },
        }
    )
    return parts.Drawing(
        drawn,
        f"Synthetic training images, {shown_name}",
        f"What {shown_name} was trained on (fold {fold}, seed {seed}): the label map of one patch "
        f"and {count(number, 'image')} drawn from it, each with a deformation, contrast, bias field "
        f"and resolution of its own. Below, the same with the labels that were learned from them. "
        f"{plain(plane)} slices, the one that shows the most structures; {overlay.RADIOLOGICAL}. "
        "Grey values run from the 0.5th to the 99.5th percentile of each picture.",
        f"A label map and {count(number, 'image')} drawn from it.",
        table,
    )


def upright(picture: np.ndarray) -> np.ndarray:
    """Turn a slice along two RAS axes into a picture: front or head at the top, the patient's right on the left."""
    return picture[::-1, ::-1].T
