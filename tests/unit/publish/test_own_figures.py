"""Figures of plug-ins: what they are given, what they must give back, and where they are shown."""

from pathlib import Path

import builder
import numpy as np
import pandas
import pytest

from segstudy import plugins
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.publish import catalogue, own_figures
from segstudy.publish.catalogue import CAPTIONS, figures
from segstudy.publish.drawing import draw, draw_all
from segstudy.publish.own_figures import FigureView
from segstudy.publish.report import render
from segstudy.publish.results import Results
from segstudy.publish.style import paper, save, settle

EXAMPLE = str(Path(__file__).resolve().parents[3] / "resources" / "plugins" / "size_and_dice.py")
GOOD = {
    "figure": "results.canvas(85, 60)", "title": "'T'", "caption": "'C'", "alt": "'A'",
    "table": "results.summary[['mean']]",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _anew():
    plugins.digest.cache_clear()


def returning(folder, name="my_figure.py", **parts):
    parts = {key: value for key, value in {**GOOD, **parts}.items() if value}
    entries = ", ".join(f"{key!r}: {value}" for key, value in parts.items())
    (folder / name).write_text(f"def draw(results):\n    return {{{entries}}}\n")
    plugins.digest.cache_clear()
    return str(folder / name)


def with_figures(results: Results, *texts: str) -> Results:
    publish = results.study.publish.model_copy(update={"figures": texts})
    return Results(results.study.model_copy(update={"publish": publish}), results.root)


def own(results: Results):
    return next(figure for figure in figures(results.study) if figure.kind == "own")


def drawn(results: Results):
    with paper():
        return draw(results, own(results), None)


def test_the_example_draws_a_point_for_each_value(plain):
    results = with_figures(plain, EXAMPLE)
    drawing = drawn(results)
    values = results.all_values
    dice = values[(values["metric"] == "dice") & values["value"].notna()]
    assert (
        len(drawing.table)
        == len(dice)
        == sum(len(points.get_offsets()) for points in drawing.figure.axes[0].collections)
    )
    assert drawing.figure.axes[0].get_ylabel() == "Dice"
    row = drawing.table.iloc[0]
    case = next(case for case in results.cases("thorax") if case.case == row["case"])
    volume_ml = case.voxels[row["structure"]] * np.prod(case.spacing_mm) / 1000
    assert row["volume_ml"] == pytest.approx(volume_ml)


def test_it_is_saved_like_any_other_and_has_a_section_of_the_report(plain, tmp_path, monkeypatch):
    results = with_figures(plain, EXAMPLE, returning(tmp_path))
    listed = [figure for figure in figures(results.study) if figure.kind in ("own", "cohort")]
    everything = catalogue.figures
    for module in ("drawing", "report"):
        monkeypatch.setattr(f"segstudy.publish.{module}.figures", lambda study: listed)
    folder = tmp_path / "figures"
    draw_all(results, folder)
    for name in ("own-size_and_dice", "own-my_figure"):
        for suffix in ("png", "svg", "pdf", "csv"):
            assert (folder / f"{name}.{suffix}").stat().st_size > 0
        assert (folder / "captions" / f"{name}.rst").is_file()
    assert list(pandas.read_csv(folder / "own-my_figure.csv")) == ["mean"]
    assert read_json(folder / CAPTIONS)["own-my_figure"]["title"] == "T"
    assert set(read_json(folder / CAPTIONS)) == {figure.name for figure in listed}
    page = render(results, folder, tmp_path / "report.html")
    section = page.split('<section id="own"')[1].split("</section>")[0]
    assert 'id="figure-own-size_and_dice"' in section
    assert 'id="figure-own-my_figure"' in section
    assert "Dice and the size of a structure" in section
    assert '<a href="#own">' in page
    names = [figure.name for figure in everything(results.study)]
    assert len(set(names)) == len(names)


def test_a_report_without_own_figures_has_no_such_section(plain, figures_folder, tmp_path):
    assert 'id="own"' not in render(plain, figures_folder, tmp_path / "report.html")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"title": ""}, "returned no title; expected a dict of figure, title"),
        ({"title": "' '"}, "title: empty"),
        ({"caption": "3"}, "caption: int; expected builtins.str"),
        ({"figure": "None"}, "figure: NoneType; expected matplotlib.figure.Figure"),
        ({"table": "[1]"}, "table: list"),
        ({"table": "results.summary[[]]"}, "table: no column"),
        ({"colour": "'red'"}, "returned colour; expected nothing but"),
        ({"figure": "results.canvas(200, 60)"}, "200 mm wide; expected 5 to at most 170 mm"),
        ({"figure": "results.canvas(0, 60)"}, "0 mm wide; expected 5 to"),
        ({"figure": "results.canvas(85, 2000)"}, "2000 mm high; expected 5 to at most 250 mm"),
        (
            {
                "table": "results.summary.pivot_table(index='model', aggfunc={'mean': ['min', 'max']})"
            },
            "table: columns of 2 levels",
        ),
        ({"table": "results.summary.set_index('model', drop=False)"}, "table: index: .*model"),
        ({"figure": "results.nothing"}, r"AttributeError.*my_figure.py, line 2, in draw"),
    ],
)
def test_what_it_gives_back_is_checked(plain, tmp_path, parts, told):
    with pytest.raises(InputError, match=rf"plug-in .*my_figure.py.*{told}"):
        drawn(with_figures(plain, returning(tmp_path, **parts)))


def test_what_shows_when_it_is_laid_out_is_told_too(plain, tmp_path, monkeypatch):
    (tmp_path / "my_figure.py").write_text(
        "def draw(results):\n"
        "    figure = results.canvas(85, 60)\n"
        "    figure.subplots().set_title(r'$\\frac{a$')\n"
        "    return {'figure': figure, 'title': 'T', 'caption': 'C', 'alt': 'A', 'table': results.summary}\n"
    )
    plugins.digest.cache_clear()
    results = with_figures(plain, str(tmp_path / "my_figure.py"))
    monkeypatch.setattr("segstudy.publish.drawing.figures", lambda study: [own(results)])
    with pytest.raises(InputError, match=r"plug-in .*my_figure.py: ValueError: .*frac"):
        draw_all(results, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_names_of_a_tables_rows_are_columns(plain, tmp_path):
    grouped = "results.summary.groupby(['model', 'structure'])[['mean']].max()"
    table = drawn(with_figures(plain, returning(tmp_path, table=grouped))).table
    assert list(table) == ["model", "structure", "mean"]
    row = table.iloc[0]
    summary = plain.summary
    same = (summary["model"] == row["model"]) & (summary["structure"] == row["structure"])
    assert row["mean"] == summary[same]["mean"].max()
    filtered = returning(tmp_path, table="results.summary[['mean']].iloc[[3, 1]]")
    assert list(drawn(with_figures(plain, filtered)).table) == ["mean"]


def test_what_can_not_be_drawn_stops_before_the_others_are(plain, tmp_path, monkeypatch):
    file = returning(tmp_path, figure="None")
    # Any other figure would be a KeyError.
    monkeypatch.setattr("segstudy.publish.drawing.PLAIN", {"own": own_figures.draw})
    with pytest.raises(InputError, match="figure: NoneType"):
        draw_all(with_figures(plain, file), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_view_is_of_copies(plain):
    view = FigureView(plain)
    for name in ("metrics", "values", "summary", "comparisons", "cases"):
        before, changed = getattr(view, name), getattr(view, name)
        changed.loc[:, changed.columns[0]] = "changed"
        pandas.testing.assert_frame_equal(getattr(view, name), before)
    view.study["models"].clear()
    assert view.models == list(view.study["models"]) == ["enet", "unet_3d"]
    assert set(view.colours) == set(view.names) == {"enet", "unet_3d", "heart", "aorta"}
    assert view.axis("hd95_mm") == "HD95 (mm)"
    cases = view.cases
    assert len(cases) == 5
    assert cases[["size_i", "spacing_k_mm", "voxels_heart"]].notna().all(axis=None)
    splits = plain.splits.set_index("case")["fold"]
    assert cases.set_index("case")["fold"].to_dict() == splits.to_dict()


def test_two_figures_of_one_name_are_refused(tmp_path):
    (tmp_path / "b").mkdir()
    files = [returning(tmp_path), returning(tmp_path / "b")]
    with pytest.raises(ValueError, match="two figures called my_figure; rename"):
        builder.study(publish={"figures": files})
    with pytest.raises(ValueError, match=r"my_figure.py: stands twice; name it once"):
        builder.study(publish={"figures": [files[0], files[0]]})
    study = builder.study(publish={"figures": [files[0], f"{files[0]}:other"]})
    assert [figure.name for figure in figures(study) if figure.kind == "own"] == [
        *("own-my_figure", "own-my_figure-other"),
    ]


def test_pyplot_may_be_used_and_opens_no_window(plain, tmp_path):
    """The figures' own look holds for it too: fonts of 7 pt, no frame above and to the right."""
    (tmp_path / "my_figure.py").write_text(
        "import matplotlib.pyplot as plt\n"
        "def draw(results):\n"
        "    figure, axes = plt.subplots(figsize=(3, 2))\n"
        "    axes.plot(results.values['value'])\n"
        "    plt.close(figure)\n"
        "    return {'figure': figure, 'title': 'T', 'caption': 'C', 'alt': 'A', 'table': results.summary}\n"
    )
    plugins.digest.cache_clear()
    results = with_figures(plain, str(tmp_path / "my_figure.py"))
    with paper():
        drawing = draw(results, own(results), None)
        settle(drawing.figure)
        save(drawing.figure, tmp_path / "drawn", "png")
    assert (tmp_path / "drawn.png").stat().st_size > 0
    assert not drawing.figure.axes[0].spines["top"].get_visible()
