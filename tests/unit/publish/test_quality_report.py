"""Which predictions not to trust: figures, section of the report, methods and tables of the zip."""

import base64
import gzip
import math
import re
import shutil
import zipfile
from pathlib import Path

import builder
import nibabel
import numpy as np
import pandas
import pytest
from test_figures import check_texts

from segstudy.errors import InputError
from segstudy.files import read_json, write_json
from segstudy.images.files import read_label, write_nifti
from segstudy.jobs.code import prediction_code
from segstudy.publish import quality, style, viewer
from segstudy.publish.anonymous import anonymised, numbered
from segstudy.publish.catalogue import CAPTIONS, QUALITY, figures
from segstudy.publish.draw.quality import draw_predicted_dice, draw_risk_coverage
from segstudy.publish.drawing import _draw_and_save
from segstudy.publish.methods import methods
from segstudy.publish.package import sought, write_package
from segstudy.publish.report import write_report
from segstudy.publish.results import Results
from segstudy.publish.views import ViewCache


@pytest.fixture(scope="module")
def results(scenario) -> Results:
    return scenario("quality")


def without(results: Results) -> Results:
    statistics = results.study.statistics.model_copy(update={"quality": False})
    study = results.study.model_copy(update={"statistics": statistics})
    return Results(study, results.root)


def figure(results: Results, kind: str):
    return next(one for one in figures(results.study) if one.kind == kind)


def test_a_study_that_asks_for_nothing_has_no_such_figure_section_or_sentence(results):
    bare = without(results)
    names = [one.name for one in figures(bare.study)]
    assert not [name for name in names if name.startswith(("risk-coverage", "predicted-dice"))]
    with_quality = [one.name for one in figures(results.study) if one.kind not in QUALITY]
    assert with_quality == names
    assert quality.shown(bare) == {"lead": ""}
    assert "Quality of predictions" not in dict(methods(bare))


def test_the_curve_is_the_mean_risk_of_the_most_trusted(results):
    """Against a plain sort, where no two predictions are trusted alike."""
    shown = figure(results, "risk_coverage")
    with style.paper():
        drawing = draw_risk_coverage(results, shown)
    table = drawing.table[(drawing.table["structure"] == "heart")]
    scans = results.quality_cases
    scans = scans[(scans["model"] == shown.model) & (scans["structure"] == "heart")]
    scans = scans.sort_values("agreement", ascending=False)
    assert scans["agreement"].is_unique
    risk = 1 - scans["dice"].to_numpy()
    expected = np.cumsum(risk) / np.arange(1, len(risk) + 1)
    of_agreement = table[table["order"] == "agreement"]
    assert of_agreement["mean_risk"].to_numpy() == pytest.approx(expected)
    assert of_agreement["coverage"].iloc[-1] == 1
    row = results.quality_summary.set_index(["model", "structure"]).loc[(shown.model, "heart")]
    assert row["aurc_agreement"] == pytest.approx(expected.mean())
    assert f"{expected.mean():.4f}" in drawing.alt
    means = table.groupby("order")["mean_risk"].mean()
    assert means["real Dice"] == pytest.approx(row["aurc_best"])
    assert means["flagged scans last"] == pytest.approx(row["aurc_with_flags"])


def test_predicted_dice_counts_what_lies_within(results):
    shown = figure(results, "predicted_dice")
    with style.paper():
        drawing = draw_predicted_dice(results, shown)
    table = drawing.table[drawing.table["structure"] == "heart"]
    told = table.dropna(subset=["predicted_dice"])
    within = ((told["dice"] >= told["dice_low"]) & (told["dice"] <= told["dice_high"])).sum()
    row = results.quality_summary.set_index(["model", "structure"]).loc[(shown.model, "heart")]
    assert within / len(told) == pytest.approx(row["dice_in_interval"])
    assert len(told) == row["n_dice_intervals"]
    assert f"Heart: {within} of {len(told)} in their interval" in drawing.caption
    assert len(drawing.markers) == len(drawing.table)


def test_no_text_of_the_figures_is_covered(results):
    check_texts(results, set(QUALITY))


def test_the_tables_of_the_report_are_those_of_the_statistics(results):
    shown = quality.shown(results)
    flagged = results.quality_cases
    flagged = flagged[flagged["flagged"] == "yes"].drop_duplicates(["model", "case"])
    assert len(shown["flagged_rows"]) == len(flagged) > 0
    assert shown["lead"].startswith(f"{len(flagged)} of 48 held-out predictions")
    assert len(shown["rows"]) == len(shown["order_rows"]) == len(results.quality_summary)
    reasons = {row[-1].text for row in shown["flagged_rows"]}
    assert reasons == set(flagged["reason"])
    assert shown["alarms"] == "About 5 % of scans like these are flagged for nothing."
    first = results.quality_summary.iloc[0]
    assert shown["order_rows"][0][2].value == first["aurc_agreement"]
    assert shown["order_rows"][0][4].value == pytest.approx(first["aurc_with_flags"] - first["aurc_agreement"])  # fmt: skip


@pytest.fixture(scope="module")
def small(plain, figures_folder, tmp_path_factory) -> tuple[Results, Path]:
    """Results of five cases, too few for intervals, with figures of which those of quality alone are drawn anew."""
    root = tmp_path_factory.mktemp("small") / "results"
    shutil.copytree(plain.root, root)
    statistics = plain.study.statistics.model_copy(update={"quality": True})
    study = plain.study.model_copy(update={"statistics": statistics})
    builder._quality(root, study, pandas.read_csv(root / "metrics/metrics.csv"))
    small = Results(study, root)
    folder = root / "figures"
    shutil.copytree(figures_folder, folder)
    captions = read_json(folder / CAPTIONS)
    for one in figures(study):
        if one.kind in QUALITY:
            captions[one.name], _ = _draw_and_save(small, ViewCache(small), folder, one)
    write_json(folder / CAPTIONS, captions)
    return small, folder


def test_the_report_has_the_section_after_the_results(small, tmp_path):
    results, folder = small
    write_report(results, folder, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'<section id="(\w+)"', page)
    assert ids.index("quality") == ids.index("results") + 1
    section = page.partition('<section id="quality"')[2].partition("</section>")[0]
    assert section.count("<figure ") == 4
    assert section.count("5 subjects; an interval of 90% needs 9") >= 2
    assert "flagged for nothing is not known: a limit for 5 % of false alarms needs 19" in section
    assert "beyond five robust SD" in page.partition('id="methods"')[2]
    assert "The agreement was the mean Dice" in page
    write_report(without(results), folder, tmp_path / "bare.html")
    assert 'id="quality"' not in (tmp_path / "bare.html").read_text(encoding="utf-8")


def test_the_zip_has_the_tables(small, tmp_path):
    results, folder = small
    write_package(results, folder, tmp_path / "package.zip")
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        for name in ("cases", "summary"):
            own = (results.root / f"statistics/quality/{name}.csv").read_bytes()
            assert archive.read(f"tables/quality_{name}.csv") == own


def test_where_nobody_is_named_the_tables_have_numbers(small, tmp_path):
    results, _ = small
    names = numbered(results)
    told = anonymised(results, names, sought(results, names), tmp_path)
    for column, kind in (("case", "cases"), ("subject", "subjects")):
        expected = results.quality_cases[column].map(names[kind]).tolist()
        assert told.quality_cases[column].tolist() == expected
    assert told.calibrations["enet"].subjects == 5
    assert told.quality_summary.equals(results.quality_summary)


def test_a_model_without_agreement_is_told_in_words(results):
    alone = without(results)
    alone.quality_cases = results.quality_cases.assign(agreement=np.nan, agreement_of="", predicted_dice=np.nan)  # fmt: skip
    with style.paper():
        assert "No order of trust" in draw_risk_coverage(alone, figure(results, "risk_coverage")).caption  # fmt: skip
        assert "No Dice is predicted" in draw_predicted_dice(alone, figure(results, "predicted_dice")).caption  # fmt: skip


def test_the_methods_say_how(results):
    text = dict(methods(results))["Quality of predictions"]
    assert "the mean Dice with the predictions of the study's other models [[zenk2025]]" in text
    assert "calibrated on 24 subjects" in text


@pytest.fixture
def with_maps(results) -> Results:
    """Results whose first model has maps of uncertainty of the best case, random in nats."""
    name = next(iter(results.study.models))
    infer = {"mirror_axes": ("right_left",), "uncertainty": True}
    model = results.study.models[name]
    model = model.model_copy(update={"infer": model.infer.model_copy(update=infer)})
    study = results.study.model_copy(update={"models": {**results.study.models, name: model}})
    asked = Results(study, results.root)
    (_, case), *_ = viewer.chosen(asked, "thorax")
    file = asked.first_prediction("thorax", name, case)
    label = read_label(file)
    random = np.random.default_rng(3)
    for kind in viewer.MAPS:
        values = random.uniform(0, np.log(3), label.array.shape).astype(np.float32)
        (file.parent / kind).mkdir(exist_ok=True)
        write_nifti(file.parent / kind / file.name, values, label.affine)
    return asked


def decoded(text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@pytest.mark.parametrize("most", [3_000_000, 4000])
def test_the_viewer_has_maps_in_nats_where_they_lie_and_no_larger_than_allowed(with_maps, monkeypatch, most):  # fmt: skip
    monkeypatch.setattr(viewer, "MOST_VOXELS", most)
    [name] = viewer.with_maps(with_maps.study)
    (_, case), *_ = viewer.chosen(with_maps, "thorax")
    shown = viewer.volumes(with_maps, "thorax", case)
    assert set(shown["maps"]) == {f"entropy:{name}", f"mutual_information:{name}"}
    assert sum(math.prod(decoded(one["volume"]).shape) for one in shown["maps"].values()) <= most
    file = with_maps.first_prediction("thorax", name, case)
    for kind in viewer.MAPS:
        one = shown["maps"][f"{kind}:{name}"]
        image, whole = decoded(one["volume"]), nibabel.load(file.parent / kind / file.name)
        places = np.argwhere(np.ones(image.shape))
        world = nibabel.affines.apply_affine(image.affine, places)
        own = nibabel.affines.apply_affine(np.linalg.inv(whole.affine), world).round().astype(int)
        expected = np.asarray(whole.dataobj)[tuple(own.T)]
        found = image.get_fdata()[tuple(places.T)]
        assert found == pytest.approx(expected, abs=one["highest_nats"] / 255 / 2 + 1e-6)
    assert "maps" not in viewer.volumes(with_maps_off(with_maps), "thorax", case)


def with_maps_off(results: Results) -> Results:
    models = {
        name: model.model_copy(update={"infer": type(model.infer)()})
        for name, model in results.study.models.items()
    }
    return Results(results.study.model_copy(update={"models": models}), results.root)


def test_a_map_that_is_missing_is_told(with_maps):
    [name] = viewer.with_maps(with_maps.study)
    (_, case), *_ = viewer.chosen(with_maps, "thorax")
    file = with_maps.first_prediction("thorax", name, case)
    (file.parent / "entropy" / file.name).unlink()
    with pytest.raises(InputError, match="entropy.*no such file; the infer stage makes it"):
        viewer.volumes(with_maps, "thorax", case)


@pytest.mark.parametrize(
    ("models", "asked", "expected"),
    [(("unet",), True, True), (("unet",), False, False), (("unet", "enet"), True, False)],
)
def test_the_only_model_of_a_study_agrees_with_itself(models, asked, expected):
    """Where others are there they agree with it, and nothing is predicted five times."""
    study = builder.study(models=models, repair=False, statistics={"quality": asked})
    assert {model.infer.agreement for model in study.models.values()} == {expected}
    assert type(study).model_validate_json(study.to_json()) == study
    code = prediction_code(study.models["unet"])
    plain = builder.study(models=models, repair=False).models["unet"]
    assert (code != prediction_code(plain)) == expected
