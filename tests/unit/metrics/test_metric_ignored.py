"""Voxels that nobody has labelled: nothing is measured in them, and no surface that touches them."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mask_surfaces import surface_distances
from scipy import ndimage
from scipy.spatial.distance import cdist
from test_surface import samples, spacings, to_all

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import write_label
from segstudy.metrics import measure as measuring
from segstudy.metrics.cells import EDGES, polygons, shapes, surfel_areas
from segstudy.metrics.column_search import codes_of
from segstudy.metrics.label_values import without_ignored
from segstudy.metrics.measure import measure
from segstudy.metrics.overlap import confusion
from segstudy.metrics.surface import Distances
from segstudy.metrics.table import check_ranges
from segstudy.study import MeasureSettings, Metrics, from_json

IGNORED = 255
CORNERS = np.array(np.meshgrid(*[[0, 1]] * 3, indexing="ij")).reshape(3, -1).T


@st.composite
def triples(draw, most=6):
    """Two masks with a voxel outside the ignored ones, those, and the spacing."""
    shape = draw(st.tuples(*[st.integers(1, most)] * 3))
    ignored = draw(hnp.arrays(bool, shape, elements=st.sampled_from([False, False, False, True])))
    masks = hnp.arrays(bool, shape).filter(lambda mask: (mask & ~ignored).any())
    return draw(masks), draw(masks), ignored, draw(spacings)


def cells_left(mask, ignored):
    """Codes of the cells about a mask, 0 where any of their eight voxels is ignored."""
    codes = codes_of(np.pad((mask & ~ignored).astype(np.uint8), 1))
    near = np.pad(ignored, 1)
    for cell in np.argwhere(codes):
        if any(near[tuple(cell + corner)] for corner in CORNERS):
            codes[tuple(cell)] = 0
    return codes


def surface_of(mask, ignored, spacing_mm, definition):
    """By brute force: places (n, 3) in mm, their sizes, and triangles, None where places are all."""
    spacing_mm = np.asarray(spacing_mm)
    if definition == "voxel":
        known = np.pad(mask & ~ignored, 1)
        edge = known & ~ndimage.binary_erosion(known)
        edge &= ~ndimage.binary_dilation(np.pad(ignored, 1))
        places = np.argwhere(edge) * spacing_mm
        return places, np.ones(len(places)), None
    codes = cells_left(mask, ignored)
    crossed = np.argwhere((codes > 0) & (codes < 255))
    if definition == "surfel":
        sizes = surfel_areas(tuple(spacing_mm))[codes[tuple(crossed.T)]]
        return crossed * spacing_mm, sizes, None
    if not len(crossed):
        return np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3, 3))
    table = shapes()
    areas = table.areas(spacing_mm)
    sizes = [
        areas[slice(*table.polygon_begin[c : c + 2])] for c in codes[tuple(crossed.T)].tolist()
    ]
    places, triangles = samples(codes, spacing_mm)
    return places, np.concatenate(sizes), triangles


def vertices_of(codes, spacing_mm):
    """The middles of all edges that the surface crosses in the cells that are left, in mm."""
    found = {
        tuple(cell * 2 + CORNERS[one] + CORNERS[other])
        for cell in np.argwhere((codes > 0) & (codes < 255))
        for polygon in polygons(int(codes[tuple(cell)]))
        for one, other in (EDGES[edge] for edge in polygon)
    }
    return np.array(sorted(found)) / 2 * np.asarray(spacing_mm)


@pytest.mark.parametrize("definition", ["mesh", "surfel", "voxel"])
@given(case=triples(5))
@settings(max_examples=40, deadline=None)
def test_distances_are_those_of_the_surfaces_that_touch_no_ignored_voxel(definition, case):
    *masks, ignored, spacing_mm = case
    found = surface_distances(*masks, spacing_mm, definition, ignored)
    # A single slice is measured in its plane, which the brute force knows nothing of.
    if 1 in ignored.shape:
        return
    (one, forth_sizes, one_mesh), (other, back_sizes, other_mesh) = (
        surface_of(mask, ignored, spacing_mm, definition) for mask in masks
    )
    if not len(one):
        assert np.isnan(found)
        return
    if not len(other):
        assert found == np.inf
        return
    if definition == "mesh":
        forth, back = to_all(one, other_mesh), to_all(other, one_mesh)
        corners = [vertices_of(cells_left(mask, ignored), spacing_mm) for mask in masks]
        far = max(to_all(corners[0], other_mesh).max(), to_all(corners[1], one_mesh).max())
        far = max(far, forth.max(), back.max())
    else:
        apart = cdist(one, other)
        forth, back = apart.min(axis=1), apart.min(axis=0)
        far = max(forth.max(), back.max())
    assert found.hausdorff_mm() == pytest.approx(far, abs=1e-6)
    assert np.sort(found.forth) == pytest.approx(np.sort(forth), abs=1e-6)
    assert np.sort(found.back) == pytest.approx(np.sort(back), abs=1e-6)
    total = forth_sizes.sum() + back_sizes.sum()
    mean = (forth @ forth_sizes + back @ back_sizes) / total
    assert found.mean_mm() == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("definition", ["mesh", "surfel", "voxel"])
@given(case=triples(), axes=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
@settings(max_examples=20, deadline=None)
def test_the_order_and_direction_of_the_axes_change_nothing(definition, case, axes, flips):
    *arrays, spacing_mm = case
    turned = [
        array.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        for array in arrays
    ]
    results = [
        surface_distances(one, other, spacing, definition, ignored)
        for (one, other, ignored), spacing in (
            (arrays, spacing_mm),
            (turned, [spacing_mm[axis] for axis in axes]),
        )
    ]
    if not isinstance(results[0], Distances):
        assert results[0] == results[1] or np.isnan(results).all()
        return
    values = [(one.hausdorff_mm(), one.quantile_mm(), one.mean_mm()) for one in results]
    assert values[0] == pytest.approx(values[1], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("definition", ["mesh", "surfel", "voxel"])
@pytest.mark.parametrize("shape", [(20, 16, 12), (20, 16, 1)], ids=["3D", "2D"])
def test_a_shifted_box_that_runs_into_what_is_ignored(shape, definition):
    """Faces 3 mm apart along i; the ends along j lie in the ignored part, and are not measured.

    Cut off without a word, they would be surfaces of their own, 0 mm apart, and halve the mean.
    """
    reference, prediction, ignored = (np.zeros(shape, bool) for _ in range(3))
    reference[2:12], prediction[5:15] = True, True
    ignored[:, :4] = ignored[:, 12:] = True
    if shape[2] > 1:
        reference[..., 10:] = prediction[..., 10:] = False
        ignored[..., :2] = ignored[..., 8:] = True
    found = surface_distances(reference, prediction, (1.0, 2.0, 1.5), definition, ignored)
    for distances in (found.forth, found.back):
        assert distances == pytest.approx(np.full(len(distances), 3.0))
    assert found.hausdorff_mm() == found.quantile_mm() == pytest.approx(3.0)


@given(
    arrays=hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6).flatmap(
        lambda shape: st.tuples(
            *[hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 2]))] * 2,
            hnp.arrays(bool, shape),
        )
    )
)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_the_labelled_voxels_alone(arrays):
    """Against the list of labelled voxels, of which nothing else is known."""
    reference, prediction, ignored = arrays
    one, other = reference[~ignored], prediction[~ignored]
    emptied = [without_ignored(array, ignored) for array in (reference, prediction)]
    counted = confusion(*emptied, [1, 2], ignored)
    expected = [[((one == r) & (other == p)).sum() for p in range(3)] for r in range(3)]
    assert counted.counts.tolist() == expected
    found = measure(*emptied, (1, 1, 1), {"a": (1,), "b": (2,), "both": (1, 2)}, Metrics(), counted)
    for row, values in zip(found, [(1,), (2,), (1, 2)], strict=True):
        mine, theirs = np.isin(one, values), np.isin(other, values)
        assert (row.n_reference_voxels, row.n_predicted_voxels) == (mine.sum(), theirs.sum())
        if mine.any():
            both, either = (mine & theirs).sum(), (mine | theirs).sum()
            assert row.values["dice"] == pytest.approx(2 * both / (mine.sum() + theirs.sum()))
            assert row.values["iou"] == pytest.approx(both / either)
            assert row.values["recall"] == pytest.approx(both / mine.sum())


def test_without_ignored_values_nothing_is_looked_for(monkeypatch):
    def never(*_):
        raise AssertionError("looked for")

    monkeypatch.setattr(measuring, "surroundings", never)
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    (row,) = measure(mask, mask, (1, 1, 1), {"a": (1,)}, Metrics())
    assert row.values["hd_mm"] == 0


# --- files ----------------------------------------------------------------------------------------


def lesions():
    """Two lesions of 4 x 4 x 4 and 3 x 3 x 3 voxels, far apart."""
    label = np.zeros((30, 14, 12), np.uint16)
    label[3:7, 4:8, 3:7], label[20:23, 5:8, 4:7] = 1, 1
    return label


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """Measure a reference against a prediction: the table, the confusion, summary.json; or the error."""
    monkeypatch.chdir(tmp_path)

    def run(reference, prediction, **settings):
        for folder, array in (("labels", reference), ("predicted", prediction)):
            if array is not None:
                write_label(tmp_path / folder / "a.nii.gz", array, np.diag([1.0, 1.5, 2.0, 1.0]))
        code = main(
            [
                *("metrics", "--reference", "labels", "--prediction", "predicted"),
                *("--output", "metrics.csv", "--settings", json.dumps(settings)),
                *("--confusion", "confusion.csv", "--summary-json", "summary.json"),
            ]
        )
        if code:
            return capsys.readouterr().err
        summary = json.loads((tmp_path / "summary.json").read_text())
        return pd.read_csv("metrics.csv"), pd.read_csv("confusion.csv"), summary

    return run


ASKED = {"structures": {"lesion": 1}, "metrics": {"slice_axis": "axial"}}


def test_an_ignored_lesion_is_as_if_it_were_not_there(measured):
    """Every metric and count is that of files in which the second lesion's part holds nothing."""
    reference, prediction = lesions(), np.roll(lesions(), 1, axis=1)
    emptied = [array.copy() for array in (reference, prediction)]
    for array in emptied:
        array[16:] = 0
    expected, confused, summary = measured(*emptied, **ASKED)
    for garbage in ([254], [1, 254, 255]):
        marked, wild = reference.copy(), prediction.copy()
        marked[16:] = np.random.default_rng(1).choice([254, 255], marked[16:].shape)
        # Of what is predicted there nothing may tell, a value without any meaning neither.
        wild[16:] = np.random.default_rng(2).choice(garbage, wild[16:].shape)
        table, found, own = measured(marked, wild, **ASKED, ignore=[254, 255])
        pd.testing.assert_frame_equal(table, expected)
        assert own["mean"] == summary["mean"]
        both = confused.merge(found, on=["reference", "prediction"])
        fewer = (both["n_voxels_x"] - both["n_voxels_y"]).where(
            both["prediction"] == "background", 0
        )
        assert len(both) == len(found) == len(confused)
        assert fewer.max() == reference[16:].size == reference.size - found["n_voxels"].sum()


def test_values_without_names(measured):
    reference, prediction = lesions(), lesions()
    reference[16:] = IGNORED
    table, _, _ = measured(reference, prediction, ignore=IGNORED)
    assert table["structure"].unique().tolist() == [1]
    assert table.loc[table["metric"] == "dice", "value"].tolist() == [1]


def test_an_ignored_value_that_is_predicted_has_no_meaning(measured):
    reference, prediction = lesions(), lesions()
    reference[16:] = IGNORED
    assert isinstance(measured(reference, reference, **ASKED, ignore=IGNORED), tuple)
    prediction[10, :2, 0] = IGNORED
    error = measured(reference, prediction, **ASKED, ignore=IGNORED)
    assert "values 255 (2 voxels), which no structure has (lesion 1)" in error


def test_a_case_without_prediction_counts_labelled_voxels(measured, tmp_path):
    reference = lesions()
    reference[16:] = IGNORED
    write_label(tmp_path / "labels" / "b.nii.gz", reference, np.eye(4))
    write_label(tmp_path / "predicted" / "c.nii.gz", reference, np.eye(4))
    table, _, _ = measured(lesions(), lesions(), **ASKED, ignore=IGNORED)
    rows = table[table["case"] == "b"]
    assert set(rows["status"]) == {"missing_file"} and set(rows["n_reference_voxels"]) == {64}


@pytest.mark.parametrize(
    ("shown", "predicted", "distance", "within"),
    [(slice(4, 6), slice(4, 6), np.nan, np.nan), (slice(0, 8), slice(4, 6), np.inf, 0.0)],
)
def test_a_structure_of_which_no_surface_is_left(measured, shown, predicted, distance, within):
    """A lesion that is known only beside ignored voxels, in the reference, or in the prediction alone."""
    reference, prediction = (np.zeros((12, 10, 10), np.uint16) for _ in range(2))
    reference[shown, 4:6, 4], prediction[predicted, 4:6, 4] = 1, 1
    reference[3:7, 3:7, 3:7][reference[3:7, 3:7, 3:7] == 0] = IGNORED
    table, _, _ = measured(reference, prediction, structures={"lesion": 1}, ignore=IGNORED)
    value = table.set_index("metric")["value"]
    assert set(table["status"]) == {"ok"}
    assert value["dice"] == pytest.approx(2 * 4 / (2 * (shown.stop - shown.start) + 4))
    np.testing.assert_equal(
        value[["hd_mm", "hd95_mm", "assd_mm", "nsd_2mm"]].to_list(), [distance] * 3 + [within]
    )
    with pytest.raises(AssertionError, match="is out of range"):
        check_ranges(table)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"structures": {"lesion": 1}, "ignore": 1}, "ignore: value 1 is a structure's value"),
        ({"ignore": 0}, "ignore"),
        (
            {"ignore": 3, "ignore_labels": [4], "background_labels": [5]},
            "ignore_labels: is the old name",
        ),
    ],
)
def test_settings_that_are_refused(measured, asked, message):
    assert message in measured(lesions(), lesions(), **asked)


@pytest.mark.parametrize("value", ["x", True, 2.5, [3, "x"], None, {"a": 3}])
def test_what_is_no_value_to_ignore_is_said_in_plain_words(value):
    with pytest.raises(InputError) as refused:
        from_json(MeasureSettings, json.dumps({"structures": {"liver": 1}, "ignore": value}))
    told = (
        f"--settings: ignore: found {value!r}; expected a whole number from 1 to 65535, or several"
    )
    assert str(refused.value) == told


def test_the_old_name_of_background_labels_is_taken_with_a_note(measured, caplog):
    prediction = lesions()
    prediction[16:] = 7
    found = [
        measured(lesions(), prediction, **ASKED, **{name: [7]})[0]
        for name in ("background_labels", "ignore_labels")
    ]
    pd.testing.assert_frame_equal(*found)
    assert "--settings: ignore_labels is called background_labels now" in caplog.text
