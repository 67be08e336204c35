"""A study that learns from label maps alone and is tested on another site's images, from data to report."""

import csv
import json

import pytest

import reference_cohorts as cohorts
from segstudy.cases import UNTESTED, read_cases, read_splits
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

SIDES = ["left_hippocampus", "right_hippocampus"]
DRAWN = {
    "trainer": "synth",
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 16],
    "epochs": 1,
    "steps_per_epoch": 2,
    "threads": 1,
    "device": "cpu",
    "memory_mb": 1500,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("maps")
    site = cohorts.two_sites(folder / "sites")["adni"]
    common = {"modality": "MR", "label_table": "freesurfer", "structures": SIDES}
    study = {
        "datasets": {
            "maps": {
                "source": {
                    "layout": "label_maps",
                    "path": str(cohorts.label_maps(folder / "maps")),
                },
                "background_labels": [506],
                **common,
            },
            "site": {
                "source": {"layout": "bids", "path": site},
                "role": "test",
                "channels": ["t1"],
                **common,
            },
        },
        "models": {"drawn": DRAWN},
        "publish": {"metrics": ["dice"]},
    }
    workspace = Workspace(folder, study)
    workspace.ran = workspace.run()
    return workspace


def test_one_training_and_no_prediction_of_maps(finished):
    jobs = finished.ran.jobs
    assert (jobs["train_synth"], jobs["infer_predict"], jobs["metrics_measure"]) == (1, 1, 1)
    assert jobs["preprocess_resample"] == 0
    assert not finished.dry_run().jobs


def test_maps_are_trained_on_and_the_site_is_tested(finished):
    maps = read_cases(finished.results / "download" / "maps" / "cases.tsv")
    assert len(maps) == 4 and not any(case.images for case in maps)
    splits = read_splits(finished.results / "preprocess" / "splits.tsv")
    assert {(s.dataset, s.fold) for s in splits} == {("maps", UNTESTED), ("site", None)}
    told = json.loads((finished.results / "train/drawn/fold-0/seed-0/settings.json").read_text())
    assert sorted(told["training"] + told["validation"]) == [f"maps/{case.case}" for case in maps]
    assert len(told["validation"]) == 1
    with (finished.results / "metrics" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["dataset"] for row in rows} == {"site"}
    assert {*SIDES, "hippocampus"} <= {row["structure"] for row in rows}


def test_sides_of_the_table_swap_in_the_maps(finished):
    """Left and right are one tissue, so that an image gives no side away, and classes of their own."""
    plan = finished.results / "preprocess" / "maps" / "tissues" / "default"
    (described,) = plan.rglob("training_seg_01.json")
    told = json.loads(described.read_text())
    assert told["structures"] == 2 and told["tissues"][0] == told["tissues"][1]
    told = json.loads((finished.results / "train/drawn/fold-0/seed-0/settings.json").read_text())
    assert told["left_right_pairs"] == [SIDES]


def test_no_training_case_chose_the_post_processing(finished):
    folder = finished.results / "infer/drawn/fold-0/seed-0/site"
    record = json.loads((folder / "postprocessing.json").read_text())
    assert all(not entry["keep_largest"] and not entry["cases"] for entry in record.values())


def test_the_report_says_what_has_no_image(finished):
    report = (finished.results / "report.html").read_text()
    for words in (
        "label map only",
        "after training on 4 label maps of maps, without an image",
        "Nothing was cross-validated",
        "holds 4 label maps of left hippocampus and right hippocampus, without images",
        "No component was removed",
        "Nothing: every label map passed",
    ):
        assert words in report, words
    figures = {path.stem for path in (finished.results / "figures").glob("*.png")}
    assert {"cohort-maps", "cohort-site", "samples-site", "synthesis-drawn"} <= figures
    assert not {name for name in figures if name.endswith("-maps")} - {"cohort-maps"}


def test_a_new_map_is_looked_at(finished):
    source = finished.folder / "maps"
    new = source / "training_seg_05.nii.gz"
    new.write_bytes((source / "training_seg_01.nii.gz").read_bytes())
    jobs = finished.dry_run().jobs
    new.unlink()
    assert jobs["download_audit"] == 1


def test_beside_images_each_model_learns_from_its_own_data(finished, tmp_path):
    """The same site cross-validated too: one network sees its images, the other only the maps."""
    study = json.loads(json.dumps(finished.study))
    del study["datasets"]["site"]["role"]
    study["splits"] = {"folds": 2, "run_folds": [0]}
    study["preprocess"] = {"default": {}, "real": {}}
    study["models"]["drawn"]["train_on"] = ["maps"]
    own = {key: value for key, value in DRAWN.items() if key != "trainer"}
    study["models"]["unet"] = own | {"plan": "real"}
    workspace = Workspace(tmp_path, study)
    refused = workspace.run("--dry-run", check=False)
    assert refused.returncode == 1 and "say train_on: [site], or trainer: synth" in refused.text
    assert "Traceback" not in refused.text
    study["models"]["unet"]["train_on"] = ["site"]
    workspace.write_study(study)
    workspace.run("results/tiny/metrics/metrics.csv")
    seen = {
        model: json.loads(
            (workspace.results / f"train/{model}/fold-0/seed-0/settings.json").read_text()
        )
        for model in ("drawn", "unet")
    }
    assert {name.split("/")[0] for name in seen["drawn"]["training"]} == {"maps"}
    assert {name.split("/")[0] for name in seen["unet"]["training"]} == {"site"}
    with (workspace.results / "metrics" / "metrics.csv").open() as file:
        tested = {(row["model"], row["dataset"], row["case"]) for row in csv.DictReader(file)}
    assert {model for model, _, _ in tested} == {"drawn", "unet"}
    assert len({case for _, _, case in tested}) == 1  # the same case: fold 0 tests one of two
