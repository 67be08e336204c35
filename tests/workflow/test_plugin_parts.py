"""A layout, a metric and a figure by plug-ins in a whole study: what ran, and what an edit of each runs again."""

import csv
import shutil

import pytest

from builders import AFFINE, chest, tiny_study
from segstudy.images.files import write_label, write_nifti
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

EXAMPLES = REPOSITORY / "resources" / "plugins"
MEASURED = {
    *("metrics_measure", "metrics_collect", "statistics"),
    *("publish_figures", "publish_viewer", "publish_report"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    """Four patients at two sites, listed, measured and drawn by plug-ins; the tests build on each other."""
    folder = tmp_path_factory.mktemp("parts")
    for index in range(4):
        visit = folder / "data" / f"site{index % 2}" / f"p{index}" / "v1"
        visit.mkdir(parents=True)
        image, label = chest(index)
        write_nifti(visit / "ct.nii.gz", image, AFFINE)
        write_label(visit / "mask.nii.gz", label, AFFINE)
    study = tiny_study(folder, moved=False)
    study["datasets"]["chest"]["source"] = {
        "layout": "./by_site.py",
        "path": str(folder / "data"),
        "options": {"channels": ["ct"]},
    }
    study["datasets"]["chest"]["channels"] = ["ct"]
    study["metrics"] = {"plugins": ["./surface_bias.py"]}
    study["statistics"] = {"metrics": ["dice", "surface_bias_mm"]}
    study["publish"] = {
        "metrics": ["dice", "surface_bias_mm"],
        "figures": ["./size_and_dice.py"],
    }
    workspace = Workspace(folder, study)
    for name in ("by_site.py", "surface_bias.py", "size_and_dice.py"):
        shutil.copy(EXAMPLES / name, workspace.folder / "config" / "studies" / name)
    workspace.run()
    return workspace


def edit(workspace, name: str, old: str, new: str) -> None:
    path = workspace.folder / "config" / "studies" / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def rows(path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_metric_is_measured_tested_and_shown(finished):
    results = finished.results
    measured = [
        row for row in rows(results / "metrics/metrics.csv") if row["metric"] == "surface_bias_mm"
    ]
    assert {(row["model"], row["case"]) for row in measured} == {
        (model, f"site{index % 2}_p{index}_v1") for model in ("flat", "deep") for index in range(4)
    }
    tested = {row["metric"] for row in rows(results / "statistics/tests.csv")}
    assert tested == {"dice", "surface_bias_mm"}
    ranked = {row["metric"] for row in rows(results / "statistics/ranking.csv")}
    assert "surface_bias_mm" in ranked
    assert (results / "figures/results-chest-surface_bias_mm.svg").is_file()
    page = (results / "report.html").read_text()
    assert "Surface bias (mm)" in page
    assert "The mean signed distance of the predicted surface" in page


def test_the_figure_has_its_files_and_its_section(finished):
    figures = finished.results / "figures"
    for suffix in ("png", "svg", "pdf", "csv"):
        assert (figures / f"own-size_and_dice.{suffix}").stat().st_size > 0
    assert {row["case"] for row in rows(figures / "own-size_and_dice.csv")} == {
        f"site{index % 2}_p{index}_v1" for index in range(4)
    }
    page = (finished.results / "report.html").read_text()
    assert (
        'id="figure-own-size_and_dice"' in page.split('<section id="own"')[1].split("</section>")[0]
    )


def test_nothing_changed_nothing_runs(finished):
    assert not finished.dry_run().jobs


@pytest.mark.parametrize("name", ["by_site.py", "surface_bias.py", "size_and_dice.py"])
def test_a_comment_runs_nothing_again(finished, name):
    path = finished.folder / "config" / "studies" / name
    path.write_text(path.read_text() + "\n# a remark\n")
    assert not finished.dry_run().jobs


def test_an_edit_of_the_figure_redraws_and_no_more(finished):
    edit(finished, "size_and_dice.py", '"Volume of the reference (ml)"', '"Reference (ml)"')
    assert set(finished.dry_run().jobs) == {"publish_figures", "publish_report"}
    assert finished.run().jobs == {"publish_figures": 1, "publish_report": 1}
    assert not finished.dry_run().jobs


def test_an_edit_of_the_metric_measures_anew_and_trains_nothing(finished):
    edit(finished, "surface_bias.py", "[surface].mean()", "[surface].mean() / 2")
    assert set(finished.dry_run().jobs) == MEASURED
    before = rows(finished.results / "metrics/metrics.csv")
    ran = finished.run().jobs
    assert set(ran) == MEASURED
    after = rows(finished.results / "metrics/metrics.csv")
    for old, new in zip(before, after, strict=True):
        if old["metric"] == "surface_bias_mm" and old["status"] == "ok":
            assert float(new["value"]) == pytest.approx(float(old["value"]) / 2)
        else:
            assert new == old
    assert not finished.dry_run().jobs


def test_an_edit_of_the_layout_audits_anew(finished):
    """It lists the same cases, so that trainings and predictions are taken from the finished ones."""
    table = (finished.results / "metrics/metrics.csv").read_bytes()
    edit(finished, "by_site.py", "sorted(folder", "sorted(p for p in folder")
    edit(finished, "by_site.py", 'mask.nii.gz"))', 'mask.nii.gz") if p.is_file())')
    ran = finished.run().jobs
    assert ran["download_audit"] == 1
    for stage, count in (("train", 4), ("infer", 4)):
        logs = list((finished.results / "logs" / stage).glob("*.log"))
        assert len(logs) == count
        for log in logs:
            assert "made before of the same settings, data and code" in log.read_text(), log
    assert (finished.results / "metrics/metrics.csv").read_bytes() == table
    assert not finished.dry_run().jobs
