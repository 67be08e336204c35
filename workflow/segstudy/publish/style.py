"""The look of every figure: sizes for print, colours, and files that are the same byte for byte.

Inside `paper` matplotlib's own settings hold the study's font, size of text and page width, so that
what draws asks them for its sizes.

Structures have the colours of Okabe and Ito (2008), models those of Paul Tol's `muted` scheme
(2021): both are told apart with the common kinds of colour blindness, and from one another. In charts each has a
marker or a style of line besides, and what lies on images differs in brightness, so that a figure survives print in grey.
"""

import colorsys
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segstudy.files import writing
from segstudy.publish.svg_fonts import with_fonts
from segstudy.study import Style
from segstudy.study.style import PLAIN_FONT

DPI = 300

INK = "#1b1f24"
SOFT = "#5b6570"
BAND = "#dfe2e6"
"""The colour of human agreement behind the values of models."""
FAINT = "#d5dae0"

_STRUCTURES = (
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#F0E442",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
)
"""In an order in which the first four differ in brightness, too, each from each by a contrast of 1.5."""
_GROUPS = ("#7A828C", "#A9B0B8", "#50575F")
_MODELS = (
    "#CC6677",
    "#332288",
    "#117733",
    "#DDAA33",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
)
MARKERS = "osD^vPX<>ph*"
LINES = (
    "solid",
    (0, (4, 1.2)),
    (0, (1, 1)),
    (0, (5, 1.2, 1, 1.2)),
    (0, (7, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
"""Styles of lines, the first for the first of what is drawn."""
BRIGHTEST = 0.45
"""Relative luminance (WCAG 2) of the brightest line on paper."""

_SETTINGS = {
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.unicode_minus": True,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "text.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "patch.linewidth": 0.6,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "svg.fonttype": "none",  # text stays text, which an editor can change
    "svg.hashsalt": "segstudy",
    "pdf.fonttype": 42,
    "path.simplify": True,
}


def _settings(chosen: Style) -> dict[str, object]:
    """Return matplotlib's settings of a style: no text is smaller than its size."""
    sizes = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    return {
        **_SETTINGS,
        **dict.fromkeys(sizes, chosen.size_pt),
        "axes.titlesize": chosen.size_pt + 0.5,
        # Signs that the chosen font lacks are drawn in the second.
        "font.family": list(dict.fromkeys((chosen.drawn_font, PLAIN_FONT))),
        "figure.figsize": (chosen.width_mm / 25.4, chosen.width_mm / 25.4),
    }


@contextmanager
def paper(chosen: Style | None = None) -> Iterator[None]:
    """Draw in a study's style, whatever the user's own matplotlib settings are."""
    # Both tell at length which glyphs they put into a PDF.
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_settings(chosen or Style()))
        yield


def page_mm() -> float:
    """Return the width of a page's text in mm, the most that a figure takes."""
    return round(matplotlib.rcParams["figure.figsize"][0] * 25.4, 6)


def column_mm() -> float:
    """Return the width of a column in mm, the least that a figure takes."""
    return page_mm() / 2


def text_mm() -> float:
    """Return how wide a sign of a figure's text is on average, in mm; its lines are 2.2 times as far apart."""
    return 0.2077 * matplotlib.rcParams["font.size"]


def line_mm() -> float:
    """Return how far apart lines of a figure's text are, in mm."""
    return 0.47 * matplotlib.rcParams["font.size"]


def abreast(most: int) -> int:
    """Return how many panels stand side by side at most, where a page of 170 mm has room for `most`."""
    return max(1, round(most * page_mm() / 170 - 0.2))


def settle(figure: Figure) -> None:
    """Lay the figure out once, so that every format has the same layout and none computes it again."""
    for _ in range(2):  # pictures of fixed shape need a second pass to find their place
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def canvas(width_mm: float, height_mm: float) -> Figure:
    """Return an empty figure of this size in print, which belongs to no window and no global state.

    Of text above 7 points it is higher by as much.
    """
    figure = Figure(layout="constrained")
    set_size(figure, width_mm, height_mm)
    return figure


def set_size(figure: Figure, width_mm: float, height_mm: float) -> None:
    """Give a figure its width, and its height at text of 7 points; of larger text it is higher by as much."""
    higher = max(1.0, matplotlib.rcParams["font.size"] / 7)
    figure.set_size_inches(width_mm / 25.4, higher * height_mm / 25.4)


def save(figure: Figure, path: Path, suffix: str) -> None:
    """Write a figure as `path.suffix`; the same figure gives the same bytes (no date, no version)."""
    further: dict[str, dict] = {
        "png": {"metadata": {"Software": None}},
        "svg": {"metadata": {"Date": None, "Creator": None}},
        "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
        "tiff": {"pil_kwargs": {"compression": "tiff_lzw"}},
    }
    with writing(path.with_name(f"{path.name}.{suffix}")) as temporary:
        figure.savefig(temporary, format=suffix, **further[suffix])
        if suffix == "svg":
            temporary.write_text(with_fonts(temporary.read_text(encoding="utf-8")), "utf-8")


def structure_colours(structures: Sequence[str], groups: Sequence[str] = ()) -> dict[str, str]:
    """Choose a colour for each structure, and a grey for each composite region."""
    colours = {
        name: _STRUCTURES[index] if index < len(_STRUCTURES) else _further(index)
        for index, name in enumerate(structures)
    }
    for index, name in enumerate(groups):
        colours[name] = _GROUPS[index % len(_GROUPS)]
    return colours


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each model."""
    return {
        name: _MODELS[index] if index < len(_MODELS) else _further(index + 3)
        for index, name in enumerate(models)
    }


def markers(names: Sequence[str]) -> dict[str, str]:
    """Choose a marker for each model or structure, so that colour is never the only sign."""
    return {name: MARKERS[index % len(MARKERS)] for index, name in enumerate(names)}


def lines(names: Sequence[str]) -> dict[str, Any]:
    """Choose a style of line for each model or structure, likewise."""
    return {name: LINES[index % len(LINES)] for index, name in enumerate(names)}


def luminance(colour: Any) -> float:
    """Compute the relative luminance of a colour, 0 to 1, by WCAG 2."""
    parts = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def on_paper(colour: str) -> str:
    """Return a colour, darker where a line in it would be too pale on white."""
    while luminance(colour) > BRIGHTEST:
        colour = darker(colour, 0.93)
    return colour


def _further(index: int) -> str:
    """Return a colour beyond the published ones: hues a golden angle apart, at changing lightness."""
    hue = (index * 0.61803398875) % 1
    return to_hex(colorsys.hls_to_rgb(hue, (0.45, 0.62, 0.34)[index % 3], 0.6))


def darker(colour: str, share: float = 0.65) -> str:
    """Mix a colour with black; `share` of the colour stays."""
    return to_hex([part * share for part in to_rgb(colour)])


def lighter(colour: str, share: float = 0.35) -> str:
    """Mix a colour with white; `share` of the colour stays."""
    return to_hex([1 - (1 - part) * share for part in to_rgb(colour)])


def ticks(most: int) -> MaxNLocator:
    """Return a locator of round ticks, at most so many steps."""
    return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])


def rows_and_columns(count: int, widest: int) -> tuple[int, int]:
    """Return rows and columns for `count` panels of which at most `widest` stand side by side, evenly filled."""
    rows = -(-count // widest)
    return rows, -(-count // rows)


def hide(axes: Axes) -> None:
    """Leave the place of a panel empty."""
    axes.set_axis_off()
    axes.set_in_layout(False)
