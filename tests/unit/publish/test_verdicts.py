"""The verdicts in the report and in their figure, and keys that name nothing of the study."""

import builder
import pytest

from segstudy import analysis_plan
from segstudy.publish import style, verdicts
from segstudy.publish.catalogue import figures
from segstudy.publish.draw.verdicts import draw
from segstudy.publish.methods import methods
from segstudy.publish.results import Results

PLAN = {"margin": {"dice": {"heart": 0.5}}, "primary": {"structure": "heart", "metric": "dice"}}
QUICK = {"metrics": ["dice"], "bootstrap_samples": 100}


def test_the_first_screen_and_the_forest_plot(tmp_path):
    study = builder.study(("enet", "unet"), repair=False, statistics={**QUICK, **PLAN})
    analysis_plan.record(tmp_path, study.statistics)
    results = Results(study, builder.build(tmp_path, study, infinite="none"))
    shown = verdicts.shown(results)
    assert shown["title"] == "Verdict on the primary endpoint: Dice of heart"
    assert shown["leading"][0].startswith("enet and unet are equivalent in Dice of heart on thorax")
    assert "before any metric existed" in shown["recorded"]
    assert (len(shown["rows"]), shown["counts"]) == (1, "")
    (figure,) = (one for one in figures(study) if one.kind == "verdicts")
    with style.paper(study.publish.style):
        drawing = draw(results, figure)
    assert list(drawing.table["structure"]) == ["heart"]
    assert "n = 8 subjects" in drawing.caption
    families = results.tests["n_family"].tolist()
    assert families == [1, 1]  # the primary endpoint, and aorta by itself
    text = dict(methods(results))["Statistics"]
    assert "The primary endpoint, Dice of heart, was tested as a family of its own." in text
    assert "p of the 1 other test was adjusted" in text
    assert "the margin that was set for Dice." in text
    words = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert words[0] == "Heart, primary endpoint"
    assert words[1].startswith("equivalent")


def test_without_a_plan_nothing_is_shown():
    study = builder.study(statistics=QUICK)
    assert not any(figure.kind == "verdicts" for figure in figures(study))
    assert verdicts.shown(Results(study, "nowhere")) == {"leading": [], "rows": []}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"margin": {"iou": 0.1}}, "statistics.margin.iou: iou is not tested"),
        ({"margin": {"dice": {"liver": 0.1}}}, "'liver' is none of the structures"),
        ({"primary": {"structure": "heart", "metric": "nsd"}}, "expected one of them"),
        ({"primary": {"structure": "liver", "metric": "dice"}}, "statistics.primary: 'liver'"),
    ],
)
def test_what_the_study_does_not_have(keys, message):
    with pytest.raises(ValueError, match=message):
        builder.study(statistics={**QUICK, **keys})
