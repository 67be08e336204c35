"""The grid search in figure and report, from the table that statistics writes."""

import builder
import pytest

from segstudy.files import write_table
from segstudy.publish import style, tables
from segstudy.publish.catalogue import figures
from segstudy.publish.drawing import draw
from segstudy.publish.results import Results
from segstudy.publish.views import ViewCache
from segstudy.statistics.completion import completed
from segstudy.statistics.grid_search import grid_table, read_trainings
from segstudy.statistics.values import read_values
from segstudy.study import GridSettings

ARMS = {
    f"unet_c{width}_h{hidden}": {"channels": [width, 2 * width], "head.hidden": hidden}
    for width in (32, 48)
    for hidden in (32, 64)
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Results:
    root = tmp_path_factory.mktemp("searched")
    settings = builder.study(models=("enet", *ARMS), grids={"unet": ARMS}, repair=False)
    builder.build(root, settings, cases=4)
    grid = GridSettings(grids=settings.grids, weights=dict.fromkeys(ARMS, "last"))
    trainings = read_trainings(root / "train", grid)
    values = completed(read_values(root / "metrics/metrics.csv"), settings.statistics)
    write_table(root / "statistics/grid.csv", grid_table(grid, values, trainings))
    return Results(settings, root)


def test_the_report_lists_the_models_and_marks_one(searched):
    (table,) = tables.grid_tables(searched)
    assert table["head"][:4] == ["model", "channels", "head.hidden", "validation Dice"]
    assert [row[0].text for row in table["rows"]] == list(ARMS)
    assert [row[1].text for row in table["rows"]] == ["32-64", "32-64", "48-96", "48-96"]
    best = [row[3].best for row in table["rows"]]
    assert sum(best) == 1
    assert table["rows"][best.index(True)][3].value == max(row[3].value for row in table["rows"])


def test_the_figure_says_how_the_arm_was_chosen(searched):
    (figure,) = [one for one in figures(searched.study) if one.kind == "grid"]
    with style.paper():
        drawing = draw(searched, figure, ViewCache(searched))
    best = searched.grid("unet", "thorax").query("best")["model"].item()
    assert f"{best} has the highest validation Dice" in drawing.caption
    assert "4 tested subjects" in drawing.caption
    style.settle(drawing.figure)
    left, right = drawing.figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == [
        name.removeprefix("unet_") for name in ARMS
    ]
    assert right.get_xlabel() == "Parameters"
