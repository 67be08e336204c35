"""Figures survive print in grey: what a legend tells apart by colour, it tells apart without colour, too."""

import itertools
from collections.abc import Collection

import builder
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import same_color, to_rgb
from matplotlib.lines import Line2D
from test_grid_search_figures import searched  # noqa: F401

from segstudy.publish import style
from segstudy.publish.catalogue import figures
from segstudy.publish.draw import heatmap, surfaces
from segstudy.publish.drawing import draw
from segstudy.publish.results import Results
from segstudy.publish.views import ViewCache

CONTRAST = 1.5
"""Least ratio of brightness, (L1 + 0.05) / (L2 + 0.05) by WCAG 2, by which two areas or lines differ in grey."""


def brightness(colour) -> float:
    """Relative luminance by the formula of WCAG 2.1, on arrays, apart from the package's own."""
    linear = np.array(to_rgb(colour))
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


def signs(handle) -> tuple:
    """What a legend's entry shows beside its colour."""
    if isinstance(handle, Line2D):
        marker = None if handle.get_marker() in ("None", "none", None, "") else handle.get_marker()
        dashes = handle._dash_pattern[1]
        line = None if handle.get_linestyle() == "None" else tuple(dashes or ("solid",))
        is_open = marker is not None and same_color(handle.get_markerfacecolor(), "white")
        return ("line", marker, line, is_open or handle.get_markerfacecolor() == "none")
    return ("area", handle.get_hatch(), handle.get_linestyle())


def colour_of(handle):
    return handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()


def told_apart(one, other) -> bool:
    wider = max(one.get_linewidth(), other.get_linewidth()) >= 1.7 * min(
        one.get_linewidth(), other.get_linewidth()
    )
    return (
        signs(one) != signs(other)
        or wider
        or contrast(colour_of(one), colour_of(other)) >= CONTRAST
    )


def legends(figure) -> list:
    return [
        legend
        for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
        if legend is not None
    ]


def _scenario(name: str, scenario, plain, tmp_path) -> Results:
    if name == "plain":
        return plain
    if name == "planned":
        planned = {"metrics": ["dice"], "bootstrap_samples": 100, "margin": {"dice": 0.05}}
        names = ("heart", "aorta", "trachea", "esophagus")
        models = ("enet", "unet_2d", "unet_3d", "other")
        settings = builder.study(models=models, structures=names, repair=False, statistics=planned)
        return Results(settings, builder.build(tmp_path / "planned", settings, cases=6))
    return scenario(name)


SCENARIOS = ("plain", "planned", "two_sides", "images", "twelve_models", "long_names")
WITHOUT = ("cohort", "architecture", "results", "ranking", "heatmap", "confusion", "surfaces")
"""Kinds without a legend, as the first scenario shows; drawn once."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_legends_tell_without_colour_what_they_tell_with_it(name, scenario, plain, tmp_path):
    results = _scenario(name, scenario, plain, tmp_path)
    with_legend = check_legends(results, () if name == "plain" else WITHOUT)
    assert not with_legend & set(WITHOUT)


def check_legends(results: Results, but: Collection[str] = WITHOUT) -> set[str]:
    """Draw a figure of each kind, and look at each two entries of its legends; return the kinds that have one."""
    viewer, seen, with_legend = ViewCache(results), set(but), set()
    with style.paper(results.study.publish.style):
        for one in figures(results.study):
            if one.kind in seen:
                continue
            seen.add(one.kind)
            drawn = draw(results, one, viewer).figure
            for legend in legends(drawn):
                with_legend.add(one.kind)
                names = [text.get_text() for text in legend.get_texts()]
                entries = list(zip(names, legend.legend_handles, strict=True))
                for (first, a), (second, b) in itertools.combinations(entries, 2):
                    assert told_apart(a, b), (one.name, first, second)
    return with_legend


def test_legends_of_a_grid_search(searched):  # noqa: F811
    assert "grid" in check_legends(searched)


@pytest.mark.parametrize("kind", ["training", "appearance"])
def test_lines_of_a_chart_have_the_signs_of_its_legend(plain, kind):
    """Each structure's line in a panel has the dashes and the marker that the legend says."""
    one = next(figure for figure in figures(plain.study) if figure.kind == kind)
    with style.paper(plain.study.publish.style):
        drawn = draw(plain, one, ViewCache(plain)).figure
        (legend,) = legends(drawn)
        found = 0
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if text.get_text() not in ("Heart", "Aorta"):
                continue
            lines = [
                line
                for axes in drawn.axes
                for line in axes.get_lines()
                if same_color(line.get_color(), handle.get_color()) and len(line.get_xdata()) > 1
            ]
            patterns = {line.get_linestyle() for line in lines}
            assert patterns == {handle.get_linestyle()}, text.get_text()
            assert handle.get_marker() in {line.get_marker() for line in lines}
            found += len(lines)
    assert found >= 3


def test_the_first_structures_differ_in_brightness():
    names = ["a", "b", "c", "d"]
    for one, other in itertools.combinations(style.structure_colours(names).values(), 2):
        assert contrast(one, other) >= CONTRAST, (one, other)


def test_no_line_of_a_structure_is_lost_on_paper():
    many = [f"s{number}" for number in range(20)]
    for colour in [*style.structure_colours(many).values(), "#ffff00", "white", "#F0E442"]:
        assert contrast(style.on_paper(colour), "white") >= 1.9
    assert style.on_paper("#0072B2") == "#0072B2"
    assert style.luminance("#777777") == pytest.approx(brightness("#777777"), rel=1e-3)


def test_models_have_each_a_sign_of_their_own():
    many = [f"m{number}" for number in range(12)]
    assert len(set(style.markers(many).values())) == 12
    assert len(set(style.lines(many[:6]).values())) == 6


@pytest.mark.parametrize("palette", [heatmap.MAP, surfaces.MAP, "Blues", "Oranges"])
def test_maps_of_values_only_brighten_or_only_darken(palette):
    """So that a value can be read from its grey."""
    steps = np.diff([brightness(colour) for colour in colormaps[palette](np.linspace(0, 1, 64))])
    assert (steps >= -1e-3).all() or (steps <= 1e-3).all()
