"""A second reader's labels in figures, report and methods: a band of human agreement, and no competitor."""

import builder
import numpy as np
import pandas
import pytest
from matplotlib.patches import Rectangle

from segstudy.publish import report, tables
from segstudy.publish.catalogue import figures
from segstudy.publish.draw import comparison
from segstudy.publish.methods import methods
from segstudy.publish.results import Results

READER = "second_reader"


@pytest.fixture(scope="module")
def read_twice(tmp_path_factory) -> Results:
    """Two models on eight cases, of which a second reader drew four."""
    settings = builder.study(models=("enet", "unet_3d"), repair=False, raters=(READER,))
    return Results(settings, builder.build(tmp_path_factory.mktemp("raters"), settings))


@pytest.fixture(scope="module")
def dice_figure(read_twice):
    return next(
        one
        for one in figures(read_twice.study)
        if one.kind == "results" and one.metric.name == "dice"
    )


def _quartiles(results, structure):
    """Median and quartiles of the reader's Dice, by numpy on the measurements."""
    table = pandas.read_csv(results.paths.metrics)
    rows = table[
        (table["model"] == READER) & (table["metric"] == "dice") & (table["structure"] == structure)
    ]
    assert len(rows) == 4
    return np.percentile(rows["value"], (25, 50, 75))


def test_the_band_is_the_quartiles_of_the_reader(read_twice, dice_figure):
    drawing = comparison.draw(read_twice, dice_figure)
    for axes, structure in zip(drawing.figure.axes, ("heart", "aorta"), strict=True):
        low, median, high = _quartiles(read_twice, structure)
        [band] = [
            patch
            for patch in axes.patches
            if isinstance(patch, Rectangle) and patch.get_zorder() == 0.3
        ]
        assert band.get_y() == pytest.approx(low)
        assert band.get_y() + band.get_height() == pytest.approx(high)
        [line] = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert line.get_ydata()[0] == pytest.approx(median)
        bottom, top = axes.get_ylim()
        assert bottom <= low and high <= top
        assert [text.get_text() for text in axes.get_xticklabels()] == ["enet", "unet_3d"]
    [legend] = drawing.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["human agreement, n\u00a0=\u00a04"]
    assert "(human agreement), over the subjects that the reader drew" in drawing.caption
    assert set(drawing.table["model"]) == {"enet", "unet_3d"}


def test_without_a_reader_there_is_no_band(plain):
    figure = next(one for one in figures(plain.study) if one.kind == "results")
    drawing = comparison.draw(plain, figure)
    assert not drawing.figure.legends
    assert "human agreement" not in drawing.caption + drawing.alt


def test_the_reader_is_nowhere_compared(read_twice):
    assert read_twice.look.models == ["enet", "unet_3d"]
    assert [one.name for one in figures(read_twice.study)] == [
        one.name for one in figures(read_twice.whole_study.compared())
    ]
    for table in (read_twice.all_values, read_twice.ranking, read_twice.places, read_twice.summary):
        assert set(table["model"]) == {"enet", "unet_3d"}
    assert READER not in {*read_twice.all_tests["model_a"], *read_twice.all_tests["model_b"]}


def test_a_row_of_the_table_is_marked_and_never_best(read_twice):
    [main] = tables.main_tables(read_twice)
    rows = [row for row in main["rows"] if row["model"] == READER]
    assert [row["structure"] for row in rows] == ["heart", "aorta"]
    assert all(row["n"] == 4 for row in rows)
    assert not any(cell.best or cell.against for row in rows for cell in row["cells"])
    assert read_twice.look.model(READER) == f"{READER} (human agreement)"
    # Its labels lie closest to the reference: it would be best, were it a model.
    dice = read_twice.all_summary[read_twice.all_summary["metric"] == "dice"]
    assert dice.groupby("model")["mean"].mean().idxmax() == READER
    for table in tables.metric_tables(read_twice):
        own = [row for row in table["rows"] if row[1].text.startswith(READER)]
        assert own and not any(cell.best for row in own for cell in row)


def test_report_and_methods_say_how_many_cases_were_drawn(read_twice):
    low, median, high = (f"{value:.3f}" for value in _quartiles(read_twice, "heart"))
    told = " ".join(report._findings(read_twice))
    assert f"a second reader ({READER}) drew 4 of 8 cases; Dice with the reference labels" in told
    assert f"heart {median} (IQR {low}–{high})" in told
    assert f"{READER} in" not in told
    text = dict(methods(read_twice))["Evaluation"]
    assert f"A second reader ({READER}) drew 4 of 8 cases" in text
