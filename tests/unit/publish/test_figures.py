"""Figures: readable in every case, honest, and the same byte for byte."""

import hashlib
import itertools
import re
from collections.abc import Collection

import numpy as np
import pandas
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from segstudy import metric
from segstudy.errors import InputError
from segstudy.files import write_table
from segstudy.publish import style, views
from segstudy.publish.catalogue import figures
from segstudy.publish.draw import comparison, outcomes, parts, samples
from segstudy.publish.drawing import draw
from segstudy.publish.results import Results
from segstudy.publish.views import ViewCache
from segstudy.statistics.analysis import analyse
from segstudy.statistics.values import read_values

SCENARIOS = (
    "one_case",
    "all_infinite",
    "twelve_models",
    "long_names",
    "one_model",
    "two_sites",
    "two_sides",
    "nnunet_alone",
)


def _one_a_kind(results: Results):
    found = {}
    for figure in figures(results.study):
        found.setdefault((figure.kind, figure.metric), figure)
    return found.values()


def _texts(figure) -> list[Text]:
    """The texts that are really drawn: no tick labels outside the axis, nothing of hidden axes."""
    hidden = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            drawn = set(map(id, axis._update_ticks())) if axes.axison else set()
            for tick in [*axis.majorTicks, *axis.minorTicks]:
                if id(tick) not in drawn:
                    hidden |= {id(tick.label1), id(tick.label2)}
            if not axes.axison:
                hidden |= {id(axis.label), id(axis.offsetText)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden
    ]


def check_texts(results: Results, kinds: Collection[str] = ()) -> None:
    """Draw a figure of each kind, or of those given: no text is cut off, covered or smaller than the style says."""
    viewer = ViewCache(results)
    chosen = results.study.publish.style
    with style.paper(chosen):
        for one in _one_a_kind(results):
            if kinds and one.kind not in kinds:
                continue
            drawn = draw(results, one, viewer).figure
            style.settle(drawn)
            assert drawn.get_figwidth() * 25.4 <= chosen.width_mm + 1e-6, one.name
            width, height = drawn.get_size_inches() * drawn.dpi
            texts = _texts(drawn)
            assert texts, one.name
            boxes = [(text, text.get_window_extent()) for text in texts]
            for text, box in boxes:
                assert text.get_fontsize() >= chosen.size_pt, (one.name, text.get_text())
                inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1
                assert inside and box.y1 <= height + 1, (one.name, text.get_text(), box)
            level = [(text, box) for text, box in boxes if text.get_rotation() % 90 == 0]
            for (text, box), (other, second) in itertools.combinations(level, 2):
                overlap = min(box.x1, second.x1) - max(box.x0, second.x0)
                above = min(box.y1, second.y1) - max(box.y0, second.y0)
                assert overlap <= 1 or above <= 1, (one.name, text.get_text(), other.get_text())


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_text_is_cut_off_or_covered_or_smaller_than_7_pt(scenario, name):
    results = scenario(name)
    assert results.study.publish.style.size_pt == 7.0
    check_texts(results)


@pytest.mark.parametrize("name", SCENARIOS)
def test_figures_fit_a_journals_page(scenario, name):
    results = scenario(name)
    viewer = ViewCache(results)
    with style.paper():
        for one in _one_a_kind(results):
            width = draw(results, one, viewer).figure.get_figwidth() * 25.4
            assert 85 - 1e-6 <= width <= 170 + 1e-6, one.name


def test_png_has_300_dots_an_inch(figures_folder):
    from PIL import Image

    image = Image.open(figures_folder / "training.png")
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert image.width == pytest.approx(170 / 25.4 * 300, abs=1)


def test_the_same_results_give_the_same_bytes(plain, figures_folder, tmp_path):
    viewer = ViewCache(plain)
    with style.paper():
        for one in figures(plain.study):
            if one.name not in ("results-thorax-hd95_mm", "cases-thorax-enet"):
                continue
            drawing = draw(plain, one, viewer)
            style.settle(drawing.figure)
            for suffix in ("png", "svg", "pdf"):
                style.save(drawing.figure, tmp_path / one.name, suffix)
                name = f"{one.name}.{suffix}"
                first, again = (
                    hashlib.sha256((folder / name).read_bytes()).hexdigest()
                    for folder in (figures_folder, tmp_path)
                )
                assert first == again, name


def test_no_date_in_any_file(figures_folder):
    year = re.compile(rb"dc:date|CreationDate|<dc:creator>|Software")
    for path in figures_folder.iterdir():
        if path.suffix in (".svg", ".pdf", ".png"):
            assert not year.search(path.read_bytes()), path.name


def test_a_users_own_matplotlib_settings_change_nothing():
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}), style.paper():
        assert matplotlib.rcParams["font.size"] == 7
        assert matplotlib.rcParams["axes.facecolor"] == "white"


def test_the_csv_holds_every_value_of_the_metrics_table(plain, figures_folder):
    drawn = pandas.read_csv(figures_folder / "results-thorax-hd95_mm.csv")
    table = plain.metrics[plain.metrics["metric"] == "hd95_mm"]
    assert len(drawn) == len(table)
    assert drawn["value"].sum() == np.inf
    finite = drawn["value"].replace(np.inf, np.nan).dropna()
    measured = table["value"].replace(np.inf, np.nan).dropna()
    np.testing.assert_allclose(sorted(finite), sorted(measured))


def test_infinite_cases_stand_in_their_own_lane(plain):
    one = next(f for f in figures(plain.study) if f.metric and f.metric.name == "hd95_mm")
    with style.paper():
        drawing = comparison.draw(plain, one)
    aorta = drawing.figure.axes[1]
    lane = [c for c in aorta.collections if len(c.get_offsets()) and c.get_sizes()[0] == 13]
    heights = [float(y) for c in lane for y in c.get_offsets()[:, 1]]
    finite = plain.values("thorax", "hd95_mm")["value"].replace(np.inf, np.nan).max()
    assert len(heights) == 1
    assert heights[0] > finite
    assert "∞" in [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    assert "infinite distance" in drawing.caption


def _with_tests(plain: Results, tmp_path, rows) -> Results:
    """The results with another table of tests."""
    import shutil

    shutil.copytree(plain.root, tmp_path / "results")
    table = plain.tests.iloc[[0] * len(rows)].reset_index(drop=True)
    for index, row in enumerate(rows):
        for key, value in row.items():
            table[key] = table[key].astype(object)
            table.loc[index, key] = value
    write_table(tmp_path / "results/statistics/tests.csv", table)
    return Results(plain.study, tmp_path / "results")


def test_brackets_only_for_adjusted_significance(plain, tmp_path):
    pair = {"dataset": "thorax", "metric": "dice", "model_a": "enet", "model_b": "unet_3d"}
    results = _with_tests(
        plain,
        tmp_path,
        [
            {**pair, "structure": "heart", "p": 0.001, "p_adjusted": 0.2, "significant": False},
            {**pair, "structure": "aorta", "p": 0.001, "p_adjusted": 0.012, "significant": True},
        ],
    )
    one = next(f for f in figures(results.study) if f.metric and f.metric.name == "dice")
    with style.paper():
        axes = comparison.draw(results, one).figure.axes
    labels = [[text.get_text() for text in panel.texts] for panel in axes]
    assert not any("p=" in text for text in labels[0])
    assert "p=0.012" in labels[1]


def test_no_bracket_without_any_significant_test(scenario):
    results = scenario("one_model")
    one = next(f for f in figures(results.study) if f.metric and f.metric.name == "dice")
    with style.paper():
        drawing = comparison.draw(results, one)
    assert "Brackets" not in drawing.caption


def test_best_median_and_worst_by_mean_dice(plain):
    dice = outcomes.mean_dice(plain, "thorax")["enet"]
    chosen = dict(outcomes.ranked(dice))
    assert dice[chosen["Best"]] == dice.max()
    assert dice[chosen["Worst"]] == dice.min()
    assert dice[chosen["Median"]] == dice.median()


def test_case_figures_show_best_median_and_worst_of_each_structure(plain):
    one = next(f for f in figures(plain.study) if f.kind == "cases" and f.model == "enet")
    with style.paper():
        drawing = outcomes.draw(plain, one, ViewCache(plain))
    table = drawing.table[drawing.table["model"] == "enet"].set_index(["structure", "rank"])
    values = plain.values("thorax", "dice").query("model == 'enet'")
    for structure in ("heart", "aorta"):
        own = values[values["structure"] == structure].set_index("case")["value"]
        assert table.loc[(structure, "Best"), "case"] == own.idxmax()
        assert table.loc[(structure, "Worst"), "case"] == own.idxmin()
        assert table.loc[(structure, "Median"), "dice"] == own.median()
    notes = [text.get_text() for axes in drawing.figure.axes for text in axes.texts]
    for (_, rank), row in table.iterrows():
        assert f"{rank}: {row['case']}\nDice {row['dice']:.3f}" in notes
    # On each picture: the reference and both models.
    assert all(
        len([one for one in axes.collections if one.get_paths()]) >= 2
        for axes in drawing.figure.axes
    )


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([], []),
        ([0.5], ["Only"]),
        ([0.5, 0.6], ["Best", "Worst"]),
        ([0.5, 0.6, np.nan, 0.7], ["Best", "Median", "Worst"]),
    ],
)
def test_ranks_with_few_cases(values, ranks):
    series = pandas.Series(values, index=[f"c{i}" for i in range(len(values))], dtype=float)
    assert [rank for rank, _ in outcomes.ranked(series)] == ranks


def test_case_figures_read_no_more_files_than_they_show(plain, monkeypatch):
    read = []
    original = views.slices.read_slice

    def counted(paths, *rest):
        read.append(paths[0])
        return original(paths, *rest)

    monkeypatch.setattr(views.slices, "read_slice", counted)
    viewer = ViewCache(plain)
    cases = [f for f in figures(plain.study) if f.kind == "cases"]
    with style.paper():
        shown = [draw(plain, one, viewer).table for one in cases]
    table = pandas.concat(shown)
    images = [path for path in read if "raw" in path.parts]
    predictions = [path for path in read if "infer" in path.parts]
    shown = table[["structure", "case"]].drop_duplicates()
    assert len(images) == len(shown)
    assert len(predictions) == len(shown) * len(plain.study.models)


def test_samples_span_the_cohort(plain):
    chosen = samples.spread_over(plain, "thorax", most=3)
    volumes = {
        case.case: sum(case.voxels.values()) * np.prod(case.spacing_mm)
        for case in plain.cases("thorax")
    }
    assert volumes[chosen[0]] == min(volumes.values())
    assert volumes[chosen[-1]] == max(volumes.values())
    assert len(chosen) == 3


def test_values_average_the_runs_of_a_case(plain, tmp_path):
    table = plain.metrics.copy()
    again = table.copy()
    again["seed"] = 1
    dice = again["metric"] == "dice"
    again.loc[dice, "value"] = again.loc[dice, "value"] / 2
    results = Results(plain.study, tmp_path)
    write_table(tmp_path / "metrics/metrics.csv", pandas.concat([table, again]))
    found = analyse(read_values(tmp_path / "metrics/metrics.csv"), plain.study.statistics)
    write_table(tmp_path / "statistics/values.csv", found.values)
    mean = results.values("thorax", "dice")["value"].to_numpy()
    np.testing.assert_allclose(mean, plain.values("thorax", "dice")["value"] * 0.75)
    assert np.isinf(results.values("thorax", "hd95_mm")["value"]).sum() == 1


def test_colours_of_structures_and_models_differ():
    structures = [f"s{i}" for i in range(7)]
    models = [f"m{i}" for i in range(9)]
    colours = [*style.structure_colours(structures).values(), *style.model_colours(models).values()]
    assert len(set(colours)) == 16
    assert len(set(style.structure_colours([f"s{i}" for i in range(40)]).values())) == 40
    # Adding a structure at the end leaves the others' colours as they are.
    assert style.structure_colours(["a", "b"])["a"] == style.structure_colours(["a", "b", "c"])["a"]


@pytest.mark.parametrize("width", [4, 8, 15, 40])
def test_wrapped_names_keep_every_letter(width):
    name = "left_inferior_longitudinal_fasciculus and more"
    lines = parts.wrap(name, width).split("\n")
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")
    assert max(map(len, lines)) <= width


def test_points_are_spread_the_same_way_each_time():
    values = np.array([1.0, 1.0, 1.0, 2.0, 3.0])
    offsets = parts.jitter(values, 0.2)
    assert np.array_equal(offsets, parts.jitter(values, 0.2))
    assert np.abs(offsets).max() <= 0.2
    assert len(set(offsets[:3])) == 3


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("download/thorax/cases.tsv", "download"),
        ("preprocess/splits.tsv", "preprocess"),
        ("repair/thorax/estimate/transform.json", "repair"),
        ("repair/thorax/estimate/sweep.csv", "repair"),
        ("train/enet/fold-0/seed-0/history.csv", "train"),
        ("metrics/metrics.csv", "metrics"),
        ("statistics/tests.csv", "statistics"),
    ],
)
def test_a_missing_input_is_named_with_its_stage(plain, tmp_path, path, stage):
    import shutil

    shutil.copytree(plain.root, tmp_path / "results")
    (tmp_path / "results" / path).unlink()
    results = Results(plain.study, tmp_path / "results")
    with style.paper(), pytest.raises(InputError) as caught:
        for one in figures(results.study):
            draw(results, one, ViewCache(results))
    assert path in str(caught.value)
    assert f"the {stage} stage makes it" in str(caught.value)


def test_a_missing_prediction_is_named(plain, tmp_path):
    import shutil

    shutil.copytree(plain.root, tmp_path / "results")
    for path in (tmp_path / "results/infer/unet_3d").rglob("*.nii.gz"):
        path.unlink()
    results = Results(plain.study, tmp_path / "results")
    one = next(f for f in figures(results.study) if f.kind == "cases")
    with style.paper(), pytest.raises(InputError, match=r"infer/unet_3d.*infer stage"):
        draw(results, one, ViewCache(results))


def test_a_table_of_another_version_is_refused(plain, tmp_path):
    results = Results(plain.study, tmp_path)
    write_table(tmp_path / "metrics/metrics.csv", plain.metrics.drop(columns="status"))
    with pytest.raises(InputError, match=r"metrics\.csv: no column 'status'"):
        results.metrics  # noqa: B018


def test_metric_names_say_unit_and_direction():
    assert metric.find("hd95_mm").axis == "HD95 (mm)"
    assert metric.find("nsd_2.5mm").title == "NSD at 2.5 mm"
    assert metric.find("nsd_1mm").direction == "higher"
    assert metric.find("hd_mm").direction == "lower"
    assert metric.find("relative_volume_error").cost(-0.2) == 0.2
