"""`segstudy new --from`: the study file of predictions that are there already."""

import json
import shutil

import numpy as np
import pytest
import yaml

from segstudy import cli
from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.new_command import new_from
from segstudy.start import check_tables
from segstudy.study import read_study

LABEL = np.zeros((4, 3, 2), np.uint8)
LABEL[1], LABEL[2] = 1, 2


def put(path, array=LABEL):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, array, np.eye(4))


def put_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


DESCRIBED = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "numTraining": 4,
    "file_ending": ".nii.gz",
}
SPLITS = [{"train": ["c", "d"], "val": ["a", "b"]}, {"train": ["a", "b"], "val": ["c", "d"]}]


@pytest.fixture
def tree(tmp_path):
    """A finished tree of two configurations and their ensemble, in nnU-Net's own layout; and raw data with a case more."""
    results = tmp_path / "nnUNet_results" / "Dataset007_Liver"
    gathered = []
    for configuration in ("2d", "3d_fullres"):
        model = results / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        put_json(model / "dataset.json", DESCRIBED)
        for fold, one in enumerate(SPLITS):
            for case in one["val"]:
                put(model / f"fold_{fold}" / "validation" / f"{case}.nii.gz")
        gathered.append(model / "crossval_results_folds_0_1")
    members = "___".join(path.parent.name for path in gathered)
    gathered.append(results / "ensembles" / f"ensemble___{members}___0_1")
    for folder, chosen in zip(gathered, ([], ["keep_largest"], ["keep_largest"]), strict=True):
        put_json(folder / "postprocessing.json", {"postprocessing_fns": chosen})
        for case in "abcd":
            put(folder / f"{case}.nii.gz")
            put(folder / "postprocessed" / f"{case}.nii.gz")
    put_json(tmp_path / "nnUNet_preprocessed" / results.name / "splits_final.json", SPLITS)
    raw = tmp_path / "raw" / results.name
    put_json(raw / "dataset.json", DESCRIBED)
    for case in "abcde":
        put(raw / "labelsTr" / f"{case}.nii.gz")
        (raw / "imagesTr").mkdir(exist_ok=True)
        write_nifti(raw / "imagesTr" / f"{case}_0000.nii.gz", LABEL.astype(np.int16), np.eye(4))
    return results


def test_a_finished_tree_becomes_a_study_of_its_own_folds(tree, tmp_path):
    file = tmp_path / "study.yaml"
    told = new_from(["nnunet", str(tree.parent)], file, raw=tmp_path / "raw")
    study = read_study(file)
    check_tables(study)
    assert (study.folds, study.modality, study.trains) == ([0, 1], "CT", False)
    assert study.structures == ["liver", "tumour"]
    ensemble = "ensemble_nnunet_2d_nnunet_3d_fullres"
    assert list(study.models) == [
        *("nnunet_2d", "nnunet_3d_fullres", ensemble),
        *("nnunet_3d_fullres_postprocessed", f"{ensemble}_postprocessed"),
    ]
    assert [name for name, one in study.models.items() if one.chosen_on_tested] == [
        "nnunet_3d_fullres_postprocessed",
        f"{ensemble}_postprocessed",
    ]
    assert "nnunet_2d: nnU-Net chose no post-processing" in told
    assert all(one.training_splits.endswith("splits_final.json") for one in study.models.values())
    rows = (tmp_path / "study.cases.tsv").read_text().splitlines()
    assert rows[0] == "case\tsubject\timage\tlabel\tfold"
    assert [row.split("\t")[0] + row[-1] for row in rows[1:]] == ["a0", "b0", "c1", "d1"]
    with pytest.raises(InputError, match=r"study\.yaml: is there already"):
        new_from(["nnunet", str(tree)], file)


def test_without_raw_data_the_labels_are_those_nnunet_measured_against(tree, tmp_path):
    measured = {
        "metric_per_case": [
            {"reference_file": str(tmp_path / "raw" / tree.name / "labelsTr" / "a.nii.gz")}
        ]
    }
    with pytest.raises(
        InputError, match=r"are not where nnU-Net had them; name nnUNet_raw by --raw"
    ):
        new_from(["nnunet", str(tree)], tmp_path / "study.yaml")
    model = tree / "nnUNetTrainer__nnUNetPlans__2d"
    put_json(model / "fold_0" / "validation" / "summary.json", measured)
    new_from(["nnunet", str(tree)], tmp_path / "study.yaml")
    study = read_study(tmp_path / "study.yaml")
    check_tables(study)
    assert not study.datasets["Liver"].has_images
    assert study.tested_datasets == ["Liver"]


def test_folds_that_only_some_models_have_are_left_out_and_told(tree, tmp_path):
    for path in (tree / "nnUNetTrainer__nnUNetPlans__2d" / "fold_1" / "validation").iterdir():
        path.unlink()
    told = new_from(["nnunet", str(tree)], tmp_path / "study.yaml", raw=tmp_path / "raw")
    assert "compared in folds [0] alone: nnUNetTrainer__nnUNetPlans__2d lacks [1]" in told
    assert read_study(tmp_path / "study.yaml").folds == [0]


def test_regions_and_ignored_values_of_nnunet_are_the_studys(tree, tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    for file in tree.glob("*/dataset.json"):
        put_json(file, DESCRIBED | {"labels": labels})
    new_from(["nnunet", str(tree)], tmp_path / "study.yaml", raw=tmp_path / "raw")
    study = read_study(tmp_path / "study.yaml")
    assert study.datasets["Liver"].structures == {"label_1": 1, "core": 2}
    assert study.datasets["Liver"].ignore == (3,)
    assert study.composite_regions == {"whole": ("label_1", "core")}


def rows_of(tmp_path):
    """Case -> fold, or None, by the table that was written."""
    lines = (tmp_path / "study.cases.tsv").read_text().splitlines()
    has_fold = lines[0].endswith("\tfold")
    cells = [line.split("\t") for line in lines[1:]]
    return {row[0]: int(row[-1]) if has_fold else None for row in cells}


def put_splits(tree, val, names="abcd"):
    """Write splits with these validation cases, and predictions of the 2d model by them."""
    splits = [{"train": sorted(set(names) - set(one)), "val": list(one)} for one in val]
    put_json(tree.parents[1] / "nnUNet_preprocessed" / tree.name / "splits_final.json", splits)
    for model in tree.glob("nnUNetTrainer*"):
        for old in model.glob("fold_*/validation/*"):
            old.unlink()
        for fold, one in enumerate(val):
            for case in one:
                put(model / f"fold_{fold}" / "validation" / f"{case}.nii.gz")


def test_of_repeated_hold_outs_each_case_is_of_the_first_fold_that_validates_it(tree, tmp_path):
    put_splits(tree, ["ab", "bc", "ac"])
    told = new_from(["nnunet", str(tree)], tmp_path / "study.yaml", raw=tmp_path / "raw")
    assert rows_of(tmp_path) == {"a": 0, "b": 0, "c": 1}
    study = read_study(tmp_path / "study.yaml")
    check_tables(study)
    assert study.folds == [0, 1]  # the third has no case that the others do not test
    assert "3 cases of 3 validated by several folds, e.g. a by [0, 2]" in told
    assert "folds [2] are left out" in told
    assert "1 case of 4 validated by no fold, e.g. d: not tested here" in told


def test_a_case_that_only_one_trained_fold_validates_is_tested_by_that(tree, tmp_path):
    put_splits(tree, ["ab", "bc", "ad"])
    for file in tree.glob("nnUNetTrainer*/fold_2/validation/*"):
        file.unlink()
    told = new_from(["nnunet", str(tree)], tmp_path / "study.yaml", raw=tmp_path / "raw")
    assert rows_of(tmp_path) == {"a": 0, "b": 0, "c": 1, "d": 2}
    assert read_study(tmp_path / "study.yaml").folds == [0, 1]
    assert "1 case of 4 validated by several folds, e.g. b by [0, 1]" in told
    assert "1 case of 4 validated by folds that are not compared, e.g. d by 2: not tested" in told


@pytest.mark.parametrize("known", [True, False], ids=["splits", "no splits"])
def test_a_tree_with_gathered_predictions_alone_is_read(tree, tmp_path, known):
    for file in tree.glob("nnUNetTrainer*/fold_*/validation/*"):
        file.unlink()
    if not known:
        (tmp_path / "nnUNet_preprocessed" / tree.name / "splits_final.json").unlink()
    told = new_from(["nnunet", str(tree)], tmp_path / "study.yaml", raw=tmp_path / "raw")
    study = read_study(tmp_path / "study.yaml")
    check_tables(study)
    folds = {"a": 0, "b": 0, "c": 1, "d": 1}
    assert rows_of(tmp_path) == (folds if known else dict.fromkeys("abcd"))
    assert study.folds == ([0, 1] if known else [0])
    assert study.models["nnunet_2d"].files.endswith("2d/crossval_results_folds_0_1/{case}.nii.gz")
    assert ("which fold predicted a case is not known" in told) != known


def test_the_same_trainer_in_two_trees_is_two_models(tree, tmp_path):
    """Such as one tuned twice: neither takes the other's place."""
    shutil.copytree(tree, tmp_path / "tuned" / tree.name)
    new_from(
        ["nnunet", str(tree.parent), str(tmp_path / "tuned")],
        tmp_path / "study.yaml",
        raw=tmp_path / "raw",
    )
    study = read_study(tmp_path / "study.yaml")
    files = {name: model.files for name, model in study.models.items()}
    assert len(files) == len(set(files.values())) == 10
    assert "/tuned/Dataset007_Liver/nnUNetTrainer__nnUNetPlans__2d/" in files["tuned_nnunet_2d"]
    assert "nnUNet_results_nnunet_2d" in files
    ensemble = "ensemble_tuned_nnunet_2d_tuned_nnunet_3d_fullres"
    assert f"{tmp_path}/tuned/Dataset007_Liver/ensembles/" in files[ensemble]


def test_ensembles_of_fewer_folds_are_left_out_or_give_way(tree, tmp_path):
    """Their other cases would count as missing, the worst value."""
    (whole,) = (tree / "ensembles").iterdir()
    shutil.copytree(whole, whole.with_name(whole.name.removesuffix("_1")))
    name = "ensemble_nnunet_2d_nnunet_3d_fullres"
    told = new_from(["nnunet", str(tree)], tmp_path / "study.yaml", raw=tmp_path / "raw")
    models = read_study(tmp_path / "study.yaml").models
    assert models[name].files == f"{whole}/{{case}}.nii.gz"
    assert "lacks folds" not in told
    shutil.rmtree(whole)
    gathered = tree / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "crossval_results_folds_0_1"
    gathered.rename(gathered.with_name("crossval_results_folds_1"))
    told = new_from(["nnunet", str(tree)], tmp_path / "other.yaml", raw=tmp_path / "raw")
    assert list(read_study(tmp_path / "other.yaml").models) == ["nnunet_2d", "nnunet_3d_fullres"]
    assert f"{name}: {whole.name.removesuffix('_1')} lacks folds [1] of those compared" in told
    assert "nnunet_3d_fullres_postprocessed: crossval_results_folds_1 lacks folds [0]" in told


SPLITS_FILE = "../../../nnUNet_preprocessed/Dataset007_Liver/splits_final.json"
MODEL = "nnUNetTrainer__nnUNetPlans__2d"


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("dataset.json", DESCRIBED | {"channel_names": ["T1"]}, r"channel_names: found \['T1'\]; expected numbers and"),
        ("dataset.json", DESCRIBED | {"labels": {"liver": []}}, r"labels\.liver: found \[\]; expected a whole number"),
        ("dataset.json", DESCRIBED | {"labels": {"liver": 1, "cyst": 1}}, r"labels\.cyst: found 1, which liver has too"),
        ("dataset.json", DESCRIBED | {"labels": {"1": "liver", "2": "liver"}}, "several values are called 'liver'"),
        ("dataset.json", DESCRIBED | {"file_ending": 3}, "file_ending: found 3; expected an ending"),
        ("dataset.json", [], "found a list; expected names and values"),
        (SPLITS_FILE, [{"train": ["a"], "val": 3}], "fold 0: val: found 3; expected a list of cases' names"),
        (SPLITS_FILE, [{"train": "abc", "val": []}], "fold 0: train: found 'abc'; expected a list"),
        (SPLITS_FILE, [{"train": []}], "fold 0: val: found nothing; expected a list"),
        (SPLITS_FILE, {"train": []}, r"found \{'train': \[\]\}; expected a list of \{train"),
        (SPLITS_FILE, SPLITS[:1], "has 1 fold, and fold 1 was predicted"),
        ("fold_0/validation/summary.json", [], "found a list; expected names and values"),
        ("fold_0/validation/summary.json", {"metric_per_case": {"a": 1}}, "metric_per_case: found {'a': 1}; expected a list"),
        ("fold_0/validation/summary.json", {"metric_per_case": [{}]}, "expected a list of cases, each with reference_file"),
        ("fold_0/debug.json", [], "found a list; expected names and values"),
        ("crossval_results_folds_0_1/postprocessing.json", [], "found a list; expected names and values"),
    ],
)  # fmt: skip
def test_malformed_files_of_a_tree_are_told_in_a_sentence(tree, tmp_path, file, content, told):
    path = tree / MODEL / file
    put_json(tree / MODEL / "fold_0" / "validation" / "summary.json", {"metric_per_case": [
        {"reference_file": str(tmp_path / "raw" / tree.name / "labelsTr" / "a.nii.gz")}
    ]})  # fmt: skip
    put_json(path, content)
    with pytest.raises(InputError, match=told) as error:
        new_from(["nnunet", str(tree)], tmp_path / "study.yaml")
    assert path.name in str(error.value)


def test_folders_of_each_layout_become_patterns(tmp_path):
    for case in ("p_1", "p_11"):
        put(tmp_path / "ref" / f"{case}.nii.gz")
        put(tmp_path / "plain" / f"{case}.nii.gz", 3 * LABEL)
        put(tmp_path / "monai" / case / f"{case}_trans.nii.gz")
        for value, structure in enumerate(("liver", "spleen"), 1):
            put(tmp_path / "total" / case / f"{structure}.nii.gz", value == LABEL)
    folders = [str(tmp_path / name) for name in ("ref", "plain", "monai", "total")]
    told = new_from(["predictions", *folders], tmp_path / "study.yaml")
    content = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert {name: one["files"] for name, one in content["models"].items()} == {
        "plain": "plain/{case}.nii.gz",
        "monai": "monai/{case}/{case}_trans.nii.gz",
        "total": "total/{case}/{structure}.nii.gz",
    }
    study = read_study(tmp_path / "study.yaml")
    check_tables(study)
    assert (study.folds, study.structures) == ([0], ["label_1", "label_2"])
    assert "models.plain: " in told
    assert "has the values 3, 6, which the references have not" in told
    assert "has the structures liver, spleen, which" in told


def test_folders_of_one_name_are_models_of_their_own(tmp_path):
    for folder in ("a/pred", "b/pred", "c/pred", "ref"):
        put(tmp_path / folder / "p_1.nii.gz")
    folders = [str(tmp_path / name) for name in ("ref", "a/pred", "b/pred", "c/pred")]
    new_from(["predictions", *folders], tmp_path / "study.yaml")
    content = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert {name: one["files"] for name, one in content["models"].items()} == {
        f"{name}_pred": f"{name}/pred/{{case}}.nii.gz" for name in "abc"
    }


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (["pred", "pred"], "pred: stands twice, as pred too"),
        (["pred", "other/../pred"], r"other/\.\./pred: stands twice, as pred too"),
        (["pred", "ref"], "ref: is the folder of references too"),
        (["x-1/pred", "x_1/pred"], "would be models of one name, pred"),
    ],
)
def test_a_folder_that_stands_twice_is_refused(tmp_path, monkeypatch, folders, told):
    for folder in ("pred", "ref", "x-1/pred", "x_1/pred", "other"):
        put(tmp_path / folder / "p_1.nii.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        new_from(["predictions", "ref", *folders], tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "elsewhere", "x"], "expected one folder, `nnunet RESULTS_DIR...` or"),
        (["--from", "predictions", "x"], "expected `nnunet RESULTS_DIR...` or `predictions"),
        (["--from", "nnunet", "absent"], "absent: no such folder"),
        (["--from", "nnunet", "."], "no predictions of nnU-Net's validation"),
        (["--from", "predictions", ".", ".", "--raw", "x"], "--raw x: goes with --from nnunet"),
    ],
)
def test_what_cannot_be_read_is_told_without_a_trace(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "study.yaml", *words]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "study.yaml").exists()


def test_cases_named_as_several_of_one_person_are_told(tmp_path):
    for case in ("P01_early", "P01_late", "P02_early", "P02_late"):
        put(tmp_path / "ref" / f"{case}.nii.gz")
        put(tmp_path / "pred" / f"{case}.nii.gz")
    told = new_from(
        ["predictions", str(tmp_path / "ref"), str(tmp_path / "pred")], tmp_path / "study.yaml"
    )
    assert "4 cases are named as several of one person are, such as P01_early and P01_late" in told
    assert "write one subject for a person's scans" in told
