"""Heat map, differences, surfaces, networks: what they show is what was measured."""

import builder
import numpy as np
import pandas
import pytest
from matplotlib.text import Text

from segstudy.images.files import Image
from segstudy.publish import style
from segstudy.publish.catalogue import families, figures
from segstudy.publish.draw import (
    agreement,
    appearance,
    architecture,
    comparison,
    differences,
    heatmap,
    sizes,
    surfaces,
    training,
)
from segstudy.publish.drawing import PLAIN
from segstudy.publish.results import Results
from segstudy.publish.tables import best_models
from segstudy.study import PredictionsModel, Study


def _figure(results, kind, metric=""):
    return next(
        one
        for one in figures(results.study)
        if one.kind == kind and (not metric or one.metric.name == metric)
    )


def test_the_heat_map_holds_the_means_and_marks_the_best(plain):
    with style.paper():
        drawing = heatmap.draw(plain, _figure(plain, "heatmap"))
    summary = plain.summary.set_index(["metric", "structure", "model"])
    names = ["dice", "hd95_mm", "nsd_2mm"]
    for axes, name in zip(drawing.figure.axes, names, strict=True):
        cells = {tuple(int(place) for place in t.get_position()[::-1]): t for t in axes.texts}
        assert len(cells) == 4
        for row, structure in enumerate(("heart", "aorta")):
            best = best_models(plain, "thorax", structure, name)
            for column, model in enumerate(("enet", "unet_3d")):
                cell = cells[row, column]
                mean = summary.loc[(name, structure, model), "mean"]
                assert cell.get_text().startswith(f"{mean:.{2 if name == 'hd95_mm' else 3}f}")
                assert (cell.get_fontweight() == "bold") == (model in best)
    # The last model missed the aorta of one case: its finite mean is the lowest, and not the best.
    assert "1 ∞" in " ".join(text.get_text() for text in drawing.figure.axes[1].texts)


def test_learning_curves_tell_what_a_training_waited_for_and_held(plain):
    figure = _figure(plain, "training")
    with style.paper():
        assert training.draw(plain, figure).caption.endswith("throughput in patches per second.")
    history = plain.history

    def measured(model, fold, seed):
        table = history(model, fold, seed)
        waited = 0.3 if (model, fold) == ("unet_3d", 1) else 0.1
        return table.assign(waited_seconds=waited, gpu_memory_mb=np.where(fold, 2345.0, np.nan))

    with style.paper(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "history", measured)
        caption = training.draw(plain, figure).caption
    assert "Waiting for patches took at most 20% of a training's time." in caption
    assert "A training held at most 2.3 GB of its GPU's memory." in caption


def test_differences_are_those_of_the_tests(plain):
    with style.paper():
        drawing = differences.draw(plain, _figure(plain, "differences", "dice"))
    tests = plain.tests.query("metric == 'dice'").set_index("structure")
    points = [line for line in drawing.figure.axes[0].lines if line.get_marker() == "o"]
    shown = [float(line.get_xdata()[0]) for line in points]
    np.testing.assert_allclose(shown, tests.loc[["heart", "aorta"], "mean_difference"])
    assert "One seed was trained" in drawing.caption


def test_no_seed_is_spoken_of_where_nothing_was_trained(plain):
    files = {"trainer": "predictions", "network": "predictions", "files": "{case}.nii.gz"}
    models = {name: PredictionsModel(**files) for name in plain.study.models}
    results = Results(plain.study.model_copy(update={"models": models}), plain.root)
    with style.paper():
        drawing = differences.draw(results, _figure(plain, "differences", "dice"))
    assert not results.study.trains and "seed" not in drawing.caption


def test_the_caption_on_folds_says_what_the_methods_say(plain):
    """Folds of a table, or of nnU-Net's file of splits, were not stratified here, whatever `stratify_by` says."""
    results = Results(plain.study, plain.root)
    with style.paper():
        by_seed = appearance.draw(results, _figure(plain, "appearance")).caption
        results.splits = plain.splits.assign(origin="table")
        by_table = appearance.draw(results, _figure(plain, "appearance")).caption
    every = f"Of {len(plain.splits)} cases, all were"
    seed = plain.study.splits.seed
    assert (
        f"{every} dealt into folds by seed {seed} (balanced by foreground volume). Points"
        in by_seed
    )
    assert f"{every} put into the fold that the case table gives. Points" in by_table
    assert "foreground" not in by_table and "stratified" not in by_table


def test_a_cohort_without_folds_has_no_balance_of_folds(plain):
    results = Results(plain.study, plain.root)
    with style.paper():
        with_folds = appearance.draw(plain, _figure(plain, "appearance"))
        results.splits = plain.splits.assign(fold=np.nan)
        without = appearance.draw(results, _figure(plain, "appearance"))
    assert (len(with_folds.figure.axes), len(without.figure.axes)) == (4, 3)
    assert "(d)" in with_folds.caption and "(d)" not in without.caption


def test_a_missing_prediction_counts_once_whatever_it_lacks(plain):
    """One case of one model, in two panels; and with a second model, two."""
    results = Results(plain.study, plain.root)
    values = plain.all_values.copy()
    lacks = (values["case"] == "case_001") & (values["model"] == "enet")
    results.all_values = values.assign(missing=lacks)
    figure = _figure(plain, "results", "dice")
    with style.paper():
        assert " 1 missing prediction, shown as" in comparison.draw(results, figure).caption
        results.all_values = values.assign(missing=values["case"] == "case_001")
        assert " 2 missing predictions, shown as" in comparison.draw(results, figure).caption


def test_each_point_of_a_volume_figure_opens_its_case(plain):
    with style.paper():
        drawing = agreement.draw_volumes(plain, _figure(plain, "volumes"))
    table = drawing.table.set_index(["case", "structure", "model"])
    assert len(drawing.markers) == len(table) == 5 * 2 * 2
    for marker in drawing.markers:
        row = table.loc[(marker.case, marker.structure, marker.model)]
        assert (marker.x, marker.y) == (row["mean_ml"], row["difference_ml"])


def test_noise_of_the_seeds_is_drawn_where_it_is_known(plain):
    from segstudy.publish.results import Results

    results = Results(plain.study, plain.root)
    results.all_tests = plain.all_tests.assign(seed_spread=0.01)
    with style.paper():
        drawing = differences.draw(results, _figure(results, "differences", "dice"))
    widths = [patch.get_width() for patch in drawing.figure.axes[0].patches]
    assert widths == pytest.approx([0.04] * 2)
    assert "from seed to seed" in drawing.caption


UNET = {"network": "unet", "dims": 3, "epochs": 12, "validate_every_epochs": 3}


def _of_sizes(sizes) -> Study:
    """A study of U-Nets trained on so many subjects (None: on all), and an ENet."""
    models = {
        f"unet_{size}": UNET | ({"training_subset": {"subjects": size}} if size else {})
        for size in sizes
    }
    content = builder.study(repair=False).model_dump(mode="json")
    return Study.model_validate(content | {"models": {**models, "enet": {"network": "enet"}}})


def test_models_that_differ_in_training_size_alone_are_a_family():
    assert families(_of_sizes([2, 3, None])) == [["unet_2", "unet_3", "unet_None"]]
    assert families(_of_sizes([2])) == []
    assert "sizes" not in {one.kind for one in figures(_of_sizes([2]))}


def test_the_curve_over_training_size_shows_means_intervals_and_draws(tmp_path):
    settings = _of_sizes([2, None])
    results = Results(settings, builder.build(tmp_path, settings, cases=6))
    # A second draw of the two subjects, 0.1 worse throughout.
    again = results.metrics[results.metrics["model"] == "unet_2"]
    results.metrics = pandas.concat(
        [results.metrics, again.assign(seed=1, value=again["value"] - 0.1)]
    )
    with style.paper():
        drawing = sizes.draw(results, _figure(results, "sizes", "dice"))
    rows = results.summary.query("metric == 'dice' and model != 'enet'").set_index(
        ["structure", "model"]
    )
    table = drawing.table.set_index(["structure", "model"])
    assert table["subjects"].xs("unet_2", level="model").eq(2).all()
    assert table["subjects"].xs("unet_None", level="model").eq(3).all()  # 6 subjects, 2 folds
    for axes, structure in zip(drawing.figure.axes, ("heart", "aorta"), strict=True):
        line = axes.lines[0]
        assert line.get_xdata().tolist() == [2, 3]
        np.testing.assert_allclose(
            line.get_ydata(), rows.loc[structure].loc[["unet_2", "unet_None"], "mean"]
        )
        dashes = [one for one in axes.lines if one.get_marker() == "_" and len(one.get_xdata())]
        mean = again[(again["metric"] == "dice") & (again["structure"] == structure)][
            "value"
        ].mean()
        np.testing.assert_allclose(dashes[0].get_ydata(), [mean, mean - 0.1])
        assert len(dashes) == 1
    assert "draw of the training subjects" in drawing.caption


def test_surfaces_are_of_each_structures_own_case(plain):
    values = plain.values("thorax", "dice").groupby(["structure", "case"])["value"].mean()
    found = {}
    for one in figures(plain.study):
        if one.kind == "surfaces":
            with style.paper():
                table = surfaces.draw(plain, one).table
            found[one.rank] = table.groupby("structure")["case"].unique().map(list).to_dict()
    for structure in ("heart", "aorta"):
        own = values.loc[structure]
        assert found["best"][structure] == [own.idxmax()]
        assert found["worst"][structure] == [own.idxmin()]
        assert own[found["median"][structure][0]] == own.median()


def test_few_triangles_are_drawn_of_a_large_surface():
    label = Image(
        _ball(50.0, (55, 55, 37), (110, 110, 75)).astype(np.uint8), np.diag([1, 1, 1.5, 1])
    )
    vertices, faces = surfaces._mesh(label, 1)
    assert 0.3 * surfaces.MOST_TRIANGLES < len(faces) < 1.3 * surfaces.MOST_TRIANGLES
    placed = vertices * label.spacing_mm - np.multiply((55, 55, 37), label.spacing_mm)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), 50.0, atol=1.5)


def _ball(radius, centre, shape=(60, 60, 40), spacing=(1.0, 1.0, 1.5)):
    grid = np.indices(shape) * np.reshape(spacing, (3, 1, 1, 1))
    away = np.linalg.norm(grid - np.reshape(np.multiply(centre, spacing), (3, 1, 1, 1)), axis=0)
    return away <= radius


@pytest.mark.parametrize("grown", [-4.0, 3.0, 5.0])
def test_signed_distances_of_balls_of_other_radius(grown):
    label = Image(_ball(15.0, (30, 30, 20)).astype(np.int32), np.diag([1.0, 1.0, 1.5, 1.0]))
    vertices, faces = surfaces._mesh(label, 1)
    found = surfaces._signed(label, _ball(15.0 + grown, (30, 30, 20)), vertices)
    assert len(faces) > 1000
    assert np.median(found) == pytest.approx(grown, abs=0.5)


def test_a_shifted_ball_reaches_beyond_on_one_side_and_falls_short_on_the_other():
    label = Image(_ball(15.0, (30, 30, 20)).astype(np.int32), np.diag([1.0, 1.0, 1.5, 1.0]))
    vertices, _ = surfaces._mesh(label, 1)
    found = surfaces._signed(label, _ball(15.0, (34, 30, 20)), vertices)
    ahead = found[vertices[:, 0] > 43]
    behind = found[vertices[:, 0] < 17]
    assert np.median(ahead) == pytest.approx(4, abs=1)
    assert np.median(behind) == pytest.approx(-4, abs=1)


def test_what_is_not_there_has_no_surface():
    label = Image(np.zeros((5, 5, 5), np.int32), np.eye(4))
    assert surfaces._mesh(label, 1) is None
    assert surfaces._signed(label, label.array == 1, np.zeros((1, 3))) is None


def test_the_view_is_a_rotation_with_the_head_up():
    view = surfaces._view()
    np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view) == pytest.approx(1)
    assert view[1, 2] > 0.9  # upwards is the patient's head
    assert view[2, 1] > 0.5  # the viewer looks from the front
    assert view[0, 0] < 0  # as in radiology, the patient's right is on the left


def test_a_diagram_has_every_stage_and_all_parameters(plain):
    with style.paper():
        drawing = architecture.draw(plain, _figure(plain, "architecture"))
    table = drawing.table[drawing.table["model"] == "enet"]
    assert table["parameters"].sum() == 962_000 + 500_000 + 500_000 + 400 + 132
    said = " ".join(text.get_text() for text in drawing.figure.findobj(Text))
    assert "enet, unet_3d: 1.96 M parameters" in said  # the builder gives both the same network


def test_n_counts_subjects_where_somebody_has_several_scans(plain, tmp_path):
    named = builder.with_subjects(plain, tmp_path / "named", 2)
    told = {one.name: one for one in figures(named.study)}

    def drawn(results, name):
        return PLAIN[told[name].kind](results, told[name])

    drawing = drawn(named, "results-thorax-dice")
    titles = [panel.get_title() for panel in drawing.figure.axes if panel.get_title()]
    assert titles and all("(n\u00a0=\u00a03)" in title for title in titles)
    for name in ("results-thorax-dice", "volumes-thorax", "confusion-thorax", "cohort-thorax"):
        assert "n = 5 cases of 3 subjects" in drawn(named, name).caption, name
    assert "n = 5 cases (" in drawn(plain, "results-thorax-dice").caption
