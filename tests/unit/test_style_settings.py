"""The style in a study file: what is refused, and that it reruns nothing but figures and report."""

import json
import re

import pytest

from segstudy.errors import InputError
from segstudy.jobs import slices
from segstudy.jobs.results import ResultPaths
from segstudy.study import Study, from_json, read_study

STUDY = {
    "name": "small",
    "datasets": {
        "site": {
            "source": {"layout": "table", "path": "table.tsv"},
            "modality": "CT",
            "structures": {"liver": 1, "left_kidney": 2},
        }
    },
    "models": {"enet": {"network": "enet"}, "unet": {"network": "unet"}},
    "metrics": {"composite_regions": {"both": ["liver", "left_kidney"]}},
}


def styled(**style) -> Study:
    return from_json(Study, json.dumps({**STUDY, "publish": {"style": style}}))


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ({"models": {"order": ["enet", "unte"]}}, r"models\.order.*'unte' is none of the models \(enet, unet\)"),
        ({"models": {"names": {"unte": "U"}}}, r"models\.names.*'unte' is none of the models \(enet, unet\)"),
        ({"models": {"colours": {"unte": "red"}}}, r"models\.colours.*'unte' is none of the models"),
        ({"structures": {"names": {"lever": "L"}}}, r"'lever' is none of the structures \(liver, left_kidney, both\)"),
        ({"models": {"order": ["enet", "enet"]}}, r"order.*'enet' stands twice"),
        ({"models": {"names": {"enet": "U", "unet": "u"}}}, r"enet and unet would both be shown as 'u'"),
        ({"models": {"names": {"enet": "U Net", "unet": "U  Net "}}}, "enet and unet would both be shown as 'U  Net '"),
        ({"models": {"names": {"enet": "UNet", "unet": "\uff35\uff2eet"}}}, "enet and unet would both be shown as"),
        ({"structures": {"names": {"liver": "Left kidney"}}}, r"liver and left_kidney would both be shown"),
        ({"models": {"names": {"enet": "E$^2$"}}}, r"names.*enet: found 'E\$\^2\$'; expected text on one line"),
        ({"models": {"names": {"enet": "a\nb"}}}, r"names.*expected text on one line"),
        ({"models": {"colours": {"enet": "greenish"}}}, r"colours.*enet: 'greenish' is no colour that matplotlib knows"),
        ({"models": {"colours": {"enet": "none"}}}, r"enet: 'none' is transparent; expected a colour that covers"),
        ({"models": {"colours": {"enet": "#0072B200"}}}, r"enet: '#0072B200' is transparent"),
        ({"models": {"colours": {"enet": "white"}}}, r"enet: 'white' cannot be seen on white paper \(contrast 1\.00\)"),
        ({"structures": {"colours": {"liver": "#ffff00"}}}, r"liver: '#ffff00' cannot be seen .*contrast 1\.07\)"),
        ({"models": {"colours": {"enet": "red", "unet": "#F00"}}}, r"enet and unet would both be '#F00'"),
        ({"models": {"colours": {"enet": None}}}, r"colours\.enet: found nothing, expected text; .* stands in quotes"),
        ({"size_pt": 4}, r"size_pt.*4"),
        ({"width_mm": 85}, r"width_mm.*85"),
        ({"width_mm": 122, "size_pt": 9}, r"9 pt has no room in figures 122 mm wide; expected width_mm of at least 153"),
        ({"formats": ["eps"]}, r"formats.*eps"),
        ({"colors": {}}, r"colors"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_is_known(style, message):
    with pytest.raises(InputError, match=message):
        styled(**style)


def test_what_the_report_shows_is_always_drawn():
    assert styled(formats=["pdf"]).publish.style.formats == ("png", "svg", "pdf")
    assert styled().publish.style.formats == ("png", "svg", "pdf")


def test_a_font_that_is_missing_here_stops_no_reading_and_figures_say_so():
    style = styled(font="No Such Font").publish.style
    assert style.font == "No Such Font" and style.drawn_font == "DejaVu Sans"
    assert re.fullmatch(
        r"publish\.style\.font: 'No Such Font' is not installed on this machine, .* in DejaVu Sans; .*STIX.*",
        style.font_problem(),
    )
    there = styled(font="STIXGeneral").publish.style
    assert (there.drawn_font, there.font_problem()) == ("STIXGeneral", "")


CHANGES = {
    "models": {"order": ["unet"], "names": {"enet": "ENet"}, "colours": {"unet": "teal"}},
    "structures": {
        "order": ["left_kidney"],
        "names": {"both": "Both"},
        "colours": {"liver": "red"},
    },
    "font": "STIXGeneral",
    "size_pt": 8.0,
    "width_mm": 183.0,
    "formats": ["tiff"],
}


def given(study: Study) -> dict[str, str]:
    """The settings of every job before the figures."""
    paths = ResultPaths("results/small")
    return {
        "split": slices.split_settings(study).to_json(),
        "plan": slices.plan_settings(study, "default").to_json(),
        "resample": slices.resample_settings(study, "site", "default").to_json(),
        "tissue": slices.tissue_settings(study, "site", "default").to_json(),
        "train": slices.train_settings(study, "enet").to_json(),
        "options": str(slices.training_options(study, paths, "enet", ["a"], ["p"])),
        "cases": str(slices.training_cases(study, paths, "enet")),
        "structures": slices.structures_option(study, ["site"]),
        "measure": slices.measure_settings(study, "site").to_json(),
        "columns": slices.measured_columns(study, "enet", "0", "0", "site"),
        "statistics": study.statistics.to_json(),
        "grid": str(slices.grid_options(study, paths)),
    }


@pytest.mark.parametrize("key", CHANGES)
def test_a_change_redraws_and_reruns_nothing_before(key):
    before, after = styled(), styled(**{key: CHANGES[key]})
    assert given(before) == given(after)
    assert slices.figure_settings(before).digest() != slices.figure_settings(after).digest()
    # The viewer shows names and colours, and no figure.
    shown = key in ("models", "structures")
    viewers = (slices.viewer_settings(study).digest() for study in (before, after))
    assert (len(set(viewers)) == 2) == shown


def test_a_font_that_is_not_installed_is_told_of_and_stops_nothing(tmp_path, caplog):
    """Others who read the study, and stages that draw nothing, need no font."""
    path = tmp_path / "small.yaml"
    text = json.dumps({**STUDY, "publish": {"style": {"font": "STIXGenral"}}}, indent=1)
    path.write_text(text)
    chosen = read_study(path).publish.style
    line = next(n for n, one in enumerate(text.splitlines(), 1) if '"font"' in one)
    assert (chosen.font, chosen.drawn_font) == ("STIXGenral", "DejaVu Sans")
    assert re.search(
        rf"small\.yaml, line {line}, .*publish\.style\.font: 'STIXGenral' is not installed on this machine, so that "
        r"figures drawn here are in DejaVu Sans; install it, or choose one of .*STIXGeneral",
        caplog.text,
    )
    caplog.clear()
    assert styled(font="STIXGeneral").publish.style.drawn_font == "STIXGeneral"
    assert not caplog.records
