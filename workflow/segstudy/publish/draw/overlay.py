"""Drawing labels on an image: contours, letters of direction, a scale bar; all in millimetres."""

from collections.abc import Mapping

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from segstudy.publish import style
from segstudy.publish.slices import EDGES

RADIOLOGICAL = "radiological convention: the patient's right is on the left of the picture"
_CASING = "#000000"
DASHES = (2.6, 1.4)
"""Lengths of a dash and of the gap behind it, in line widths."""


def show(axes: Axes, image: np.ndarray, pixel_mm: tuple[float, float]) -> None:
    """Show a grey image with square millimetres and no axes.

    Parameters
    ----------
    axes
        To draw on.
    image
        Brightness in [0, 1], (row, column).
    pixel_mm
        Height and width of a pixel.
    """
    height, width = image.shape[0] * pixel_mm[0], image.shape[1] * pixel_mm[1]
    axes.imshow(
        image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="bicubic",
        aspect="equal",
    )  # fmt: skip
    axes.set_axis_off()
    axes.set_autoscale_on(False)


def contour(
    axes: Axes,
    mask: np.ndarray,
    pixel_mm: tuple[float, float],
    colour: str,
    dashed: bool | tuple = False,
    width_pt: float = 0.9,
) -> None:
    """Draw the outline of a mask (row, column); nothing for an empty one. dashed: whether, or a pattern of dashes."""
    if not mask.any():
        return
    # A rim of background closes outlines that end at the picture's edge.
    padded = np.pad(mask.astype(float), 1)
    rows = (np.arange(padded.shape[0]) - 0.5) * pixel_mm[0]
    columns = (np.arange(padded.shape[1]) - 0.5) * pixel_mm[1]
    drawn = axes.contour(
        columns, rows, padded, levels=[0.5], colors=[colour], linewidths=width_pt,
        linestyles=[(0, dashed) if isinstance(dashed, tuple) else (0, DASHES) if dashed else "solid"],
    )  # fmt: skip
    drawn.set_path_effects(
        [
            patheffects.Stroke(linewidth=width_pt + 0.6, foreground=_CASING, alpha=0.55),
            patheffects.Normal(),
        ]
    )


def fill(
    axes: Axes, mask: np.ndarray, pixel_mm: tuple[float, float], colour: str, alpha: float = 0.35
) -> None:
    """Draw a mask (row, column) as a translucent area."""
    if not mask.any():
        return
    layer = np.zeros((*mask.shape, 4))
    layer[..., :3] = to_rgb(colour)
    layer[..., 3] = mask * alpha
    height, width = mask.shape[0] * pixel_mm[0], mask.shape[1] * pixel_mm[1]
    axes.imshow(layer, extent=(0, width, height, 0), interpolation="nearest", aspect="equal")


def labels(
    axes: Axes,
    label: np.ndarray,
    values: Mapping[str, int],
    colours: Mapping[str, str],
    pixel_mm: tuple[float, float],
    dashed: bool = False,
    width_pt: float = 0.9,
) -> None:
    """Draw the outline of each structure of a label (row, column)."""
    for name, value in values.items():
        contour(axes, label == value, pixel_mm, colours[name], dashed, width_pt)


def letters(axes: Axes, plane: str, all_sides: bool = False) -> None:
    """Write the directions at the picture's edges, such as R and L."""
    left, right, top, bottom = EDGES[plane]
    places = [(0.02, 0.5, left, "left", "center"), (0.98, 0.5, right, "right", "center")]
    if all_sides:
        places += [(0.5, 0.985, top, "center", "top"), (0.5, 0.015, bottom, "center", "bottom")]
    for x, y, text, horizontal, vertical in places:
        axes.text(
            x, y, text, transform=axes.transAxes, ha=horizontal, va=vertical,
            color="white", path_effects=_OUTLINE,
        )  # fmt: skip


def scale_bar(axes: Axes, width_mm: float) -> None:
    """Draw a bar of a round length, at most a third of the picture's width."""
    lengths = [length for length in (1, 2, 5, 10, 20, 50, 100, 200) if length <= width_mm / 3]
    if not lengths:
        return
    length, height = lengths[-1], axes.get_ylim()[0]
    x, y = 0.04 * width_mm, height - 0.05 * width_mm
    axes.plot([x, x + length], [y, y], color="white", linewidth=1.4, solid_capstyle="butt",
              path_effects=_OUTLINE)  # fmt: skip
    axes.text(
        x, y - 0.015 * width_mm, f"{length} mm", color="white", ha="left",
        va="bottom", path_effects=_OUTLINE,
    )  # fmt: skip


def note(axes: Axes, text: str) -> None:
    """Write a remark in the upper left corner of the picture."""
    axes.text(
        0.025, 0.975, text, transform=axes.transAxes, ha="left", va="top",
        color="white", linespacing=1.15, path_effects=_OUTLINE,
    )  # fmt: skip


def line_handles() -> list[Line2D]:
    """Return legend entries for solid and dashed lines."""
    return [
        Line2D([], [], color=style.INK, linewidth=1.0, label="reference"),
        Line2D([], [], color=style.INK, linewidth=1.0, linestyle=(0, DASHES),
               label="prediction"),
    ]  # fmt: skip


_OUTLINE = [patheffects.withStroke(linewidth=1.3, foreground="black", alpha=0.7)]
