"""`segstudy metrics` on files: pairs, folders, a study's cases, and tables put together."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from benchmark_runs import run_quickly
from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.cli import main
from segstudy.images.files import write_label
from segstudy.images.headers import warnings
from segstudy.metrics.table import COLUMNS, check_ranges, read_measures

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


def label(shift=0, value=1):
    array = np.zeros((12, 10, 8), np.uint8)
    array[2 + shift : 7 + shift, 3:7, 2:6] = value
    return array


def folder_of(path: Path, arrays: dict[str, np.ndarray], suffix=".nii.gz") -> Path:
    for name, array in arrays.items():
        write_label(path / f"{name}{suffix}", array, AFFINE)
    return path


def metrics(*arguments) -> int:
    return main(["metrics", *map(str, arguments)])


def read(path):
    return pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})


def test_a_pair_of_files(tmp_path):
    reference = folder_of(tmp_path, {"a": label(), "b": label(1)})
    code = metrics(
        "--reference",
        reference / "a.nii.gz",
        "--prediction",
        reference / "b.nii.gz",
        "--output",
        tmp_path / "out.csv",
    )
    table = read(tmp_path / "out.csv")
    assert code == 0
    assert list(table.columns) == list(COLUMNS)
    assert table["case"].unique().tolist() == ["a"]
    assert table["surface"].unique().tolist() == ["mesh"]
    value = table.set_index("metric")["value"]
    assert value["dice"] == pytest.approx(0.8)
    assert value["hd_mm"] == pytest.approx(1)  # a voxel of 1 mm along i
    assert table["diagonal_mm"].iloc[0] == pytest.approx(np.linalg.norm([12, 20, 24]), abs=1e-3)


def test_folders_keep_every_case_and_structure(tmp_path, capsys):
    """A value that only one case holds is empty in the others; a prediction that is not there shows."""
    reference = folder_of(tmp_path / "r", {"a": label(), "b": label(value=2), "c": label()})
    prediction = folder_of(tmp_path / "p", {"a": label(), "b": label(), "x": label()}, ".nii")
    assert (
        metrics(
            "--reference",
            reference,
            "--prediction",
            prediction,
            "--output",
            tmp_path / "o.csv",
            "--threads",
            2,
        )
        == 0
    )
    table = read(tmp_path / "o.csv")
    status = table.drop_duplicates(["case", "structure"]).set_index(["case", "structure"])["status"]
    assert status.to_dict() == {
        ("a", 1): "ok",
        ("a", 2): "both_empty",
        ("b", 1): "ref_empty",
        ("b", 2): "pred_empty",
        ("c", 1): "missing_file",
        ("c", 2): "both_empty",
    }
    assert table["model"].unique().tolist() == ["p"]


def test_threads_do_not_change_a_byte(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"c{n}": (rng.random((9, 9, 9)) < 0.3).astype(np.uint8) for n in range(8)}
    others = {name: np.roll(array, 1, 0) for name, array in arrays.items()}
    folders = folder_of(tmp_path / "r", arrays), folder_of(tmp_path / "p", others)
    for threads in (1, 3):
        metrics(
            "--reference",
            folders[0],
            "--prediction",
            folders[1],
            "--threads",
            threads,
            "--output",
            tmp_path / f"{threads}.csv",
        )
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()


@pytest.fixture
def study(tmp_path):
    """Four cases in two folds, and one of another site; predictions of fold 0 without case b."""
    labels = folder_of(tmp_path / "labels", {name: label() for name in "abcd"})
    cases = [
        Case(name, f"subject-{name}", (labels / f"{name}.nii.gz",), labels / f"{name}.nii.gz")
        for name in "abcd"
    ]
    write_cases(tmp_path / "cases.tsv", cases, ["image"])
    write_splits(
        tmp_path / "splits.tsv",
        [Split("chest", name, f"subject-{name}", "abcd".index(name) // 2) for name in "abcd"],
    )
    folder_of(tmp_path / "p", {"a": label(1), "c": label(1)})
    settings = {
        "structures": {"heart": 1, "aorta": 2},
        "metrics": {"composite_regions": {"all": ["heart", "aorta"]}},
    }
    return [
        *("--cases", tmp_path / "cases.tsv", "--splits", tmp_path / "splits.tsv"),
        *("--dataset", "chest", "--prediction", tmp_path / "p", "--output", tmp_path / "o.csv"),
        *("--settings", json.dumps(settings), "--fold", 0, "--columns"),
        json.dumps({"study": "s", "dataset": "chest", "model": "unet", "fold": 0, "seed": 7}),
    ]


def test_a_study_has_rows_for_every_tested_case(study, tmp_path):
    assert metrics(*study) == 0
    table = read(tmp_path / "o.csv")
    assert table["case"].unique().tolist() == ["a", "b"]
    assert table["subject"].unique().tolist() == ["subject-a", "subject-b"]
    assert table["structure"].unique().tolist() == ["heart", "aorta", "all"]
    assert set(table[table["case"] == "b"]["status"]) == {"missing_file"}
    assert table[
        ["study", "dataset", "model", "fold", "seed"]
    ].drop_duplicates().values.tolist() == [["s", "chest", "unet", 0, 7]]


def test_cases_that_a_rater_did_not_draw_have_no_row(study, tmp_path):
    assert metrics(*study, "--drawn-only") == 0
    assert read(tmp_path / "o.csv")["case"].unique().tolist() == ["a"]
    (tmp_path / "p/a.nii.gz").unlink()  # of this fold's cases none is left
    assert metrics(*study, "--drawn-only", "--confusion", tmp_path / "c.csv") == 0
    assert read(tmp_path / "o.csv").empty
    assert metrics("--collect", tmp_path / "o.csv", "--output", tmp_path / "all.csv") == 0


def test_repaired_labels_take_the_place_of_delivered_ones(study, tmp_path):
    folder_of(tmp_path / "repaired" / "000-of-001", {"a": label(1), "b": label()})
    assert metrics(*study, "--labels", tmp_path / "repaired") == 0
    table = read(tmp_path / "o.csv")
    heart = table[(table["case"] == "a") & (table["structure"] == "heart")].set_index("metric")
    assert heart["value"]["dice"] == 1


def test_collect(study, tmp_path, capsys):
    metrics(*study)
    other = (tmp_path / "o.csv").read_text().replace("unet", "enet")
    (tmp_path / "other.csv").write_text(other)
    assert (
        metrics(
            "--collect",
            tmp_path / "o.csv",
            tmp_path / "other.csv",
            "--output",
            tmp_path / "all.csv",
        )
        == 0
    )
    assert (tmp_path / "all.csv").read_text() == (
        (tmp_path / "o.csv").read_text() + other.split("\n", 1)[1]
    )
    assert (
        metrics(
            "--collect", tmp_path / "o.csv", tmp_path / "o.csv", "--output", tmp_path / "twice.csv"
        )
        == 1
    )
    assert "stands in two of the tables" in capsys.readouterr().err
    assert not (tmp_path / "twice.csv").exists()


def test_infinite_and_undefined_survive_the_file(tmp_path):
    folder_of(tmp_path / "r", {"a": label(), "b": label() * 0})
    folder_of(tmp_path / "p", {"a": label() * 0, "b": label() * 0})
    metrics(
        "--reference",
        tmp_path / "r",
        "--prediction",
        tmp_path / "p",
        "--output",
        tmp_path / "o.csv",
    )
    text = (tmp_path / "o.csv").read_text()
    assert "hd95_mm,inf,pred_empty" in text
    assert "dice,,both_empty" in text
    value = read_measures(tmp_path / "o.csv").set_index(["case", "metric"])["value"]
    assert value["a", "hd95_mm"] == "inf"
    assert value["b", "dice"] == ""


def test_the_summary_of_nnunet(tmp_path):
    reference = folder_of(tmp_path / "r", {"a": label(), "b": label(), "c": label() * 0})
    prediction = folder_of(tmp_path / "p", {"a": label(1), "c": label() * 0})
    settings = {
        "structures": {"heart": 1, "aorta": 2},
        "metrics": {"composite_regions": {"all": ["heart", "aorta"]}, "nsd_tolerance_mm": [1]},
    }
    arguments = ["--settings", json.dumps(settings), "--summary-json", tmp_path / "summary.json"]
    files = ["--reference", reference, "--prediction", prediction, "--output", tmp_path / "o.csv"]
    assert metrics(*files, *arguments) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    first, last = found["metric_per_case"]
    assert Path(first["prediction_file"]).name == "a.nii.gz"
    assert list(first["metrics"]) == ["1", "2", "(1, 2)"]
    counts = {"TP": 64, "FP": 16, "FN": 16, "n_pred": 80, "n_ref": 80}
    beside = {"hd95_mm", "assd_mm", "nsd_1mm"}
    own = {key: value for key, value in first["metrics"]["1"].items() if key not in beside}
    assert own == pytest.approx({"Dice": 0.8, "IoU": 2 / 3, **counts})
    table = read_measures(tmp_path / "o.csv").set_index(["case", "structure", "metric"])["value"]
    for name in beside:
        assert first["metrics"]["1"][name] == float(table["a", "heart", name])
        assert found["mean"]["1"][name] == first["metrics"]["1"][name]
    assert np.isnan(last["metrics"]["1"]["Dice"])
    assert found["mean"]["1"]["Dice"] == pytest.approx(0.8)
    assert found["foreground_mean"]["Dice"] == pytest.approx(0.8)


def test_the_foreground_of_the_summary_is_structures_alone(tmp_path):
    """As nnU-Net's labels: sides that are merged, and regions, are no further ones."""
    array = label()
    wrong_side = np.select([array == 1, array == 2], [2, 1], 0).astype(array.dtype)
    reference = folder_of(tmp_path / "r", {"a": array})
    prediction = folder_of(tmp_path / "p", {"a": wrong_side})
    settings = {
        "structures": {"left_lung": 1, "right_lung": 2},
        "left_right_pairs": [["left_lung", "right_lung"]],
    }
    arguments = ["--settings", json.dumps(settings), "--summary-json", tmp_path / "summary.json"]
    files = ["--reference", reference, "--prediction", prediction, "--output", tmp_path / "o.csv"]
    assert metrics(*files, *arguments) == 0
    found = json.loads((tmp_path / "summary.json").read_text())
    dice = {key: measures["Dice"] for key, measures in found["mean"].items()}
    assert dice == {"1": 0.0, "2": 0.0, "(1, 2)": 1.0}
    assert found["foreground_mean"]["Dice"] == 0.0


def test_nnunets_own_reader_takes_the_summary(tmp_path):
    """What `nnUNetv2_find_best_configuration` reads of it: the mean Dice of all structures, and that of each."""
    evaluation = pytest.importorskip(
        "nnunetv2.evaluation.evaluate_predictions",
        reason="nnU-Net is not installed (make nnunet)",
    )
    reference = folder_of(tmp_path / "r", {"a": label(), "b": label()})
    prediction = folder_of(tmp_path / "p", {"a": label(1), "b": label() * 0})
    settings = {"structures": {"heart": 1, "aorta": 2}}
    summary = tmp_path / "p" / "summary.json"
    files = ["--reference", reference, "--prediction", prediction, "--output", tmp_path / "o.csv"]
    assert metrics(*files, "--settings", json.dumps(settings), "--summary-json", summary) == 0
    read = evaluation.load_summary_json(str(summary))
    assert list(read["mean"]) == [1, 2]
    table = read_measures(tmp_path / "o.csv").query("metric == 'dice' and structure == 'heart'")
    dice = table["value"].astype(float).mean()
    assert read["foreground_mean"]["Dice"] == pytest.approx(dice)
    assert read["mean"][1]["Dice"] == pytest.approx(dice)
    assert read["mean"][1]["hd95_mm"] == np.inf
    reader = pytest.importorskip("nnunetv2.imageio.nibabel_reader_writer").NibabelIO()
    files = (str(folder / "a.nii.gz") for folder in (reference, prediction))
    theirs = evaluation.compute_metrics(*files, reader, [1, 2])["metrics"]
    ours = read["metric_per_case"][0]["metrics"]
    for value in (1, 2):
        shared = {key: ours[value][key] for key in theirs[value] if key != "TN"}
        expected = {key: theirs[value][key] for key in shared}
        assert shared == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.long
def test_the_benchmark_runs():
    run = run_quickly("metrics")
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [
        line.split("|")[2].strip() for line in run.stdout.splitlines() if line.startswith("| 35x51")
    ]
    assert rows == ["segstudy mesh", "segstudy surfel", "segstudy voxel", "surface-distance surfel"]
    assert "surfel as surface-distance" in run.stdout


# --- headers --------------------------------------------------------------------------------------


def with_header(path: Path, affine, change=lambda header: None) -> Path:
    """A label with a header as it is given: an sform, and what `change` makes of it."""
    array = label()
    header = nibabel.Nifti1Image(array, np.eye(4)).header
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["qform_code"], header["sform_code"], header["vox_offset"] = 0, 1, 352
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    change(header)
    path.write_bytes(header.binaryblock + bytes(4) + array.tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.__setitem__("sform_code", 0),
        lambda header: header.set_xyzt_units("micron"),
        lambda header: header["pixdim"].__setitem__(slice(1, 4), (0.866, 1.5, 2)),
    ],
    ids=["neither form", "micron", "pixdim"],
)
def test_a_doubtful_header_is_said_in_the_words_of_the_audit(tmp_path, caplog, change):
    path = with_header(tmp_path / "a.nii", AFFINE, change)
    (text,) = warnings(path)
    assert metrics("--reference", path, "--prediction", path, "--output", tmp_path / "o.csv") == 0
    assert f"case a: {path}: {text}" in caplog.text


def test_lengths_in_microns_are_measured_in_millimetres(tmp_path):
    for name, shift in (("r", 0), ("p", 1)):
        array = label(shift)
        image = nibabel.Nifti1Image(array, np.diag([1000.0, 2000, 3000, 1]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    pair = ["--reference", tmp_path / "r.nii.gz", "--prediction", tmp_path / "p.nii.gz"]
    assert metrics(*pair, "--output", tmp_path / "o.csv") == 0
    assert read(tmp_path / "o.csv").set_index("metric")["value"]["hd_mm"] == pytest.approx(1)


def test_a_sheared_header_is_refused(tmp_path, capsys):
    affine = AFFINE.copy()
    affine[1, 2] = 1.0
    path = with_header(tmp_path / "a.nii", affine)
    assert metrics("--reference", path, "--prediction", path, "--output", tmp_path / "o.csv") == 1
    assert f"{path}: case a: the axes j and k meet at 71.57 degrees" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_too_little_memory_is_said_in_a_line(tmp_path, capsys, monkeypatch):
    from segstudy.metrics import pairs

    def fail(*_):
        raise MemoryError("Unable to allocate 119. GiB")

    monkeypatch.setattr(pairs, "confusion", fail)
    path = with_header(tmp_path / "a.nii", AFFINE)
    assert metrics("--reference", path, "--prediction", path, "--output", tmp_path / "o.csv") == 1
    error = capsys.readouterr().err
    assert "case a: not enough memory for 12x10x8 voxels (Unable to allocate 119. GiB)" in error
    assert "Traceback" not in error


# --- what is refused ------------------------------------------------------------------------------


def test_another_grid(tmp_path, capsys):
    write_label(tmp_path / "r.nii.gz", label(), AFFINE)
    write_label(tmp_path / "p.nii.gz", label(), np.diag([-1.0, 2.0, 3.5, 1.0]))
    assert (
        metrics(
            "--reference",
            tmp_path / "r.nii.gz",
            "--prediction",
            tmp_path / "p.nii.gz",
            "--output",
            tmp_path / "o.csv",
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "case r: other grid" in error
    assert "1x2x3.5" in error
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "r", "--prediction", "nowhere"], "nowhere: no such file or folder"),
        (
            ["--reference", "nothing.nii.gz", "--prediction", "r/a.nii.gz"],
            "nothing.nii.gz: no such file",
        ),
        (["--reference", "r", "--prediction", "r/a.nii.gz"], "two files or two folders"),
        (["--reference", "r", "--prediction", "other"], "none of its files has the name"),
        (["--reference", "empty", "--prediction", "r"], "no label maps"),
        (["--reference", "r"], "--prediction is missing"),
        (["--reference", "r", "--prediction", "r", "--columns", "[1]"], "--columns"),
        (
            [
                "--reference",
                "r",
                "--prediction",
                "r",
                "--settings",
                '{"metrics": {"surface": "cube"}}',
            ],
            "mesh",
        ),
        (["--cases", "cases.tsv", "--prediction", "r"], "--splits is missing"),
        (
            [
                "--reference",
                "r",
                "--prediction",
                "r",
                "--settings",
                '{"structures": {"a": 1}, "metrics": {"composite_regions": {"g": ["b"]}}}',
            ],
            "'b' is none of the structures",
        ),
    ],
)
def test_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "r", {"a": label()})
    folder_of(tmp_path / "other", {"b": label()})
    (tmp_path / "empty").mkdir()
    assert metrics(*arguments, "--output", "o.csv") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("metric", "value", "status"),
    [
        ("dice", 1.01, "ok"),
        ("nsd_2mm", -0.1, "ok"),
        ("hd95_mm", -1.0, "ok"),
        ("dice", float("nan"), "ok"),
        ("hd_mm", float("inf"), "ok"),
        ("dice", 0.5, "fine"),
    ],
)
def test_what_cannot_be_is_not_written(metric, value, status):
    row = dict.fromkeys(COLUMNS, "") | {"metric": metric, "value": value, "status": status}
    with pytest.raises(AssertionError, match="out of range"):
        check_ranges(pd.DataFrame([row]))


# --- what cannot be measured, all of it -----------------------------------------------------------


def test_all_pairs_that_cannot_be_measured_are_named_with_their_case(tmp_path, capsys):
    reference = folder_of(tmp_path / "r", {name: label() for name in "abcd"})
    prediction = folder_of(tmp_path / "p", {name: label() for name in "abcd"})
    write_label(prediction / "a.nii.gz", label()[1:], AFFINE)
    odd = nibabel.Nifti1Image(label() * np.float32(1000.0625), AFFINE)
    nibabel.save(odd, prediction / "b.nii.gz")
    (reference / "d.nii.gz").write_bytes(b"no image")
    out = tmp_path / "o.csv"
    assert metrics("--reference", reference, "--prediction", prediction, "--output", out) == 1
    error = capsys.readouterr().err
    assert f"{prediction}/a.nii.gz: case a: other grid than its reference" in error
    assert f"{prediction}/b.nii.gz: case b: value 1000.0625" in error
    assert f"{reference}/d.nii.gz: case d: not readable as an image" in error
    assert "3 of 4 cases cannot be measured" in error
    assert "case c" not in error
    assert not out.exists()


@pytest.mark.parametrize(("wrong", "refused"), [("d", "d"), ("cd", "abcd")])
def test_cases_out_of_proportion_to_the_run_are_refused(tmp_path, capsys, wrong, refused):
    """Their distances would be a thousand times too large, in the mean of the others."""
    for folder in "rp":
        for name in "abcd":
            factor = 100 if name in wrong else 1
            write_label(tmp_path / folder / f"{name}.nii.gz", label(), AFFINE * factor)
    folders = ("--reference", tmp_path / "r", "--prediction", tmp_path / "p")
    assert metrics(*folders, "--output", tmp_path / "o.csv") == 1
    error = capsys.readouterr().err
    for name in "abcd":
        assert (f"r/{name}.nii.gz: case {name}: " in error) == (name in refused)
    assert "voxels of 100x200x300 mm" in error
    assert "voxels of 1x2x3 mm" in error
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("option", ["--output", "--confusion", "--summary-json"])
def test_a_folder_in_the_place_of_an_output_is_said(tmp_path, capsys, option):
    path = folder_of(tmp_path, {"a": label()}) / "a.nii.gz"
    (tmp_path / "there").mkdir()
    out = () if option == "--output" else ("--output", tmp_path / "o.csv")
    arguments = ("--reference", path, "--prediction", path, *out, option, tmp_path / "there")
    assert metrics(*arguments) == 1
    assert f"{tmp_path}/there: a folder; expected the name of a file" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("threads", [0, -2])
def test_no_threads_are_refused(tmp_path, capsys, threads):
    arguments = ("--reference", tmp_path, "--prediction", tmp_path, "--output", tmp_path / "o.csv")
    assert metrics(*arguments, "--threads", threads) == 1
    assert f"--threads: {threads}; expected 1 or more" in capsys.readouterr().err


def test_a_stack_of_pictures_is_one_image_beside_a_file(tmp_path, capsys):
    """Dice by hand: boxes of 5x4x4 voxels that share 4x4x4."""
    write_label(tmp_path / "a.nii.gz", label(), AFFINE)
    (tmp_path / "stack").mkdir()
    for place, plane in enumerate(np.moveaxis(label(1), 2, 0)):
        PIL.Image.fromarray(plane.T).save(tmp_path / f"stack/slice_{place}.png")
    files = ("--reference", tmp_path / "a.nii.gz", "--prediction", tmp_path / "stack")
    assert metrics(*files, "--output", tmp_path / "out.csv") == 0
    table = read(tmp_path / "out.csv").set_index("metric")
    assert table["case"].unique().tolist() == ["a"]
    assert table["value"]["dice"] == pytest.approx(0.8)
    assert table["value"]["hd_mm"] == pytest.approx(1)
    # A picture of the reference's name is a case, and its folder a folder of cases.
    (tmp_path / "stack/slice_0.png").rename(tmp_path / "stack/a.png")
    assert metrics(*files, "--output", tmp_path / "none.csv") == 1
    assert "expected two files or two folders" in capsys.readouterr().err
