"""The style in a study file: what is refused, and that it reruns nothing but figures and report."""

import json

import pytest

from segstudy.errors import InputError
from segstudy.jobs import slices
from segstudy.jobs.results import ResultPaths
from segstudy.study import Study, from_json

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
        ({"font": "No Such Font"}, r"font.*'No Such Font' is not installed here; expected one of .*DejaVu Sans.*STIX"),
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
