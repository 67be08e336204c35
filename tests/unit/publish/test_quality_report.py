"""Which predictions not to trust: figures, section of the report, methods and tables of the zip."""

import base64
import gzip
import re
import zipfile

import builder
import nibabel
import numpy as np
import pandas
import pytest
from test_figures import check_texts

from segstudy.errors import InputError
from segstudy.images.files import read_label, write_nifti
from segstudy.jobs.code import prediction_code
from segstudy.publish import quality, style, viewer
from segstudy.publish.catalogue import QUALITY, figures
from segstudy.publish.draw.quality import draw_predicted_dice, draw_risk_coverage
from segstudy.publish.drawing import draw_all
from segstudy.publish.methods import methods
from segstudy.publish.package import write_package
from segstudy.publish.report import write_report
from segstudy.publish.results import Results


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
    first = results.quality_summary.iloc[0]
    assert shown["order_rows"][0][2].value == first["aurc_agreement"]
    assert shown["order_rows"][0][4].value == pytest.approx(first["aurc_with_flags"] - first["aurc_agreement"])  # fmt: skip


@pytest.fixture(scope="module")
def drawn(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality") / "figures"
    draw_all(results, folder)
    return folder


def test_the_report_has_the_section_after_the_results(results, drawn, tmp_path):
    write_report(results, drawn, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'<section id="(\w+)"', page)
    assert ids.index("quality") == ids.index("results") + 1
    section = page.partition('<section id="quality"')[2].partition("</section>")[0]
    assert section.count("<figure ") == 4
    for row in results.quality_cases.query("flagged == 'yes'").itertuples():
        assert row.case in section
    assert "barber2021" in page
    write_report(without(results), drawn, tmp_path / "bare.html")
    assert 'id="quality"' not in (tmp_path / "bare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("anonymous", [False, True])
def test_the_zip_has_the_tables_and_no_name_where_none_is_to_be(results, drawn, tmp_path, anonymous):  # fmt: skip
    path = tmp_path / "package.zip"
    write_package(results, drawn, path, anonymous=anonymous)
    with zipfile.ZipFile(path) as archive:
        with archive.open("tables/quality_cases.csv") as file:
            table = pandas.read_csv(file)
        summary = archive.read("tables/quality_summary.csv")
    assert summary == (results.root / "statistics/quality/summary.csv").read_bytes()
    own = pandas.read_csv(results.root / "statistics/quality/cases.csv")
    assert (set(table["case"]) == set(own["case"])) != anonymous or set(own["case"]) - set(table["case"])  # fmt: skip
    assert table["agreement"].to_numpy() == pytest.approx(own["agreement"].to_numpy(), nan_ok=True)
    if anonymous:
        assert table["case"].tolist() != own["case"].tolist()


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
    assert sum(decoded(one["volume"]).size for one in shown["maps"].values()) <= most
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
