"""The stage by its commands: files in, files out, the same bytes again."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from orientations import TURNS, affine_of
from segstudy.cases import Case, read_splits, shards, write_cases
from segstudy.cli import main
from segstudy.files import listed
from segstudy.images.arrays import open_arrays
from segstudy.images.files import write_label, write_nifti
from segstudy.images.plan import Plan

DATASET = {
    "modality": "CT",
    "structures": {"heart": 2, "aorta": 5},
}
NAMES = [f"p{n}" for n in range(6)]


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Six CT-like cases, each stored in another orientation and spacing."""
    draw = np.random.default_rng(0)
    cases = []
    for index, name in enumerate(NAMES):
        shape = (24, 26, 22)
        affine = affine_of(TURNS[index * 7], (2.0 + index / 10,) * 3)
        label = np.zeros(shape, np.uint8)
        label[8:14, 8:16, 7:15] = 2
        label[14:17, 9:13, 6:16] = 5
        image = np.full(shape, -1000.0)
        image[3:-3, 3:-3, 2:-2] = 0
        image[label == 2], image[label == 5] = 50, 150
        image += draw.normal(0, 10, shape)
        write_nifti(tmp_path / f"{name}.nii.gz", image.astype(np.int16), affine)
        write_label(tmp_path / f"{name}-label.nii.gz", label, affine)
        voxels = {"heart": int((label == 2).sum()), "aorta": int((label == 5).sum())}
        cases.append(
            Case(
                name,
                name,
                (tmp_path / f"{name}.nii.gz",),
                tmp_path / f"{name}-label.nii.gz",
                shape=shape,
                spacing_mm=(2.0,) * 3,
                voxels=voxels,
            )
        )
    write_cases(tmp_path / "cases.tsv", cases, ("image",))
    return tmp_path


def call(step, folder, output, settings, **options):
    words = [
        "preprocess",
        step,
        "--settings",
        json.dumps(settings),
        "--output",
        str(folder / output),
    ]
    for key, value in options.items():
        words += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return main(words)


def run_all(folder, output):
    """Every step; the folder's files by name."""
    cases = folder / "cases.tsv"
    splits = {"splits": {"folds": 3}, "roles": {"thorax": "train"}}
    assert call("split", output, "splits.tsv", splits, cases=f"thorax={cases}") == 0
    for shard in (NAMES[:2], NAMES[2:]):
        options = {"dataset": "thorax", "cases": cases, "select": shard}
        assert call("fingerprint", output, f"{shard[0]}.json", DATASET, **options) == 0
    fit = {"plan": {}, "modality": "CT", "channels": ["image"]}
    options = {"splits": output / "splits.tsv", "fold": 1}
    fingerprints = [output / "p0.json", output / "p2.json"]
    assert call("plan", output, "fold-1.json", fit, fingerprints=fingerprints, **options) == 0
    settings = {"plan": {}, "dataset": DATASET, "structures": ["aorta", "heart"]}
    options = {"dataset": "thorax", "cases": cases, "grid": "2x2x2.5", "select": NAMES[1:3]}
    assert call("resample", output, "arrays", settings, **options) == 0
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file()
    }


def test_the_steps_fit_together_and_give_the_same_bytes_twice(cohort, tmp_path):
    files = run_all(cohort, tmp_path / "one")
    assert files == run_all(cohort, tmp_path / "two")
    assert not [name for name in files if ".writing" in name]
    assert str(cohort).encode() not in b"".join(files.values())

    splits = read_splits(tmp_path / "one" / "splits.tsv")
    assert sorted(split.fold for split in splits) == [0, 0, 1, 1, 2, 2]
    plan = Plan.from_dict(json.loads(files["fold-1.json"]))
    trained = [int(split.case[1]) for split in splits if split.fold != 1]
    spacing = round(float(np.median([2 + index / 10 for index in trained])), 3)
    assert plan.spacing_mm == pytest.approx((spacing,) * 3)
    # Heart 6x8x8 voxels at 50 HU, aorta 3x4x10 at 150 HU, noise of SD 10.
    assert plan.intensities[0]["mean"] == pytest.approx((384 * 50 + 120 * 150) / 504, abs=2)
    assert 15 < plan.intensities[0]["low"] < 35
    assert 160 < plan.intensities[0]["high"] < 185

    arrays = open_arrays([tmp_path / "one" / "arrays"])
    assert list(arrays) == [("thorax", "p1"), ("thorax", "p2")]
    for index, case in zip((1, 2), arrays.values(), strict=True):
        image, label = case.image[...], case.label[...]
        assert image.shape == (1, *label.shape) == (1, *case.shape)
        assert case.spacing_mm == pytest.approx((2, 2, 2.5), rel=0.06)
        voxel = np.prod(case.spacing_mm) / (2 + index / 10) ** 3
        # Classes in the order asked; interpolation rounds the corners of such small boxes.
        for value, stored, hu in ((1, 120, 150), (2, 384, 50)):
            assert (label == value).sum() * voxel == pytest.approx(stored, rel=0.35)
            # With all of its volume a box three voxels wide holds its blurred border too.
            assert np.median(image[0, label == value]) == pytest.approx(hu, abs=30)


def test_repaired_labels_take_the_place_of_delivered_ones(cohort, tmp_path):
    repaired = np.zeros((24, 26, 22), np.uint8)
    repaired[2:5, 2:5, 2:5] = 2
    write_label(cohort / "labels" / "s" / "p0.nii.gz", repaired, affine_of(TURNS[0], (2.0,) * 3))
    options = {
        "dataset": "thorax",
        "cases": cohort / "cases.tsv",
        "select": "p0",
        "labels": cohort / "labels",
    }
    assert call("fingerprint", tmp_path, "f.json", DATASET, **options) == 0
    assert json.loads((tmp_path / "f.json").read_text())[0]["channels"][0]["voxels"] == 27
    settings = {"plan": {"crop": "none"}, "dataset": DATASET, "structures": ["heart", "aorta"]}
    assert call("resample", tmp_path, "arrays", settings, grid="2x2x2", **options) == 0
    label = open_arrays([tmp_path / "arrays"])["thorax", "p0"].label[...]
    assert np.bincount(label.ravel()).tolist() == [24 * 26 * 22 - 27, 27]


def test_a_bad_case_stops_the_shard_and_leaves_no_folder(cohort, tmp_path, capsys):
    (cohort / "p3.nii.gz").write_bytes((cohort / "p3.nii.gz").read_bytes()[:-20])
    settings = {"plan": {}, "dataset": DATASET, "structures": ["heart", "aorta"]}
    options = {"dataset": "thorax", "cases": cohort / "cases.tsv", "grid": "2x2x2"}
    assert call("resample", tmp_path / "out", "arrays", settings, **options) == 1
    assert "p3.nii.gz: the file ends early or is damaged" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_too_little_memory_for_a_case_is_said_in_a_line(cohort, tmp_path, capsys, monkeypatch):
    from segstudy.images import resample

    def fail(*_, **__):
        raise MemoryError(
            "Unable to allocate 119. GiB for an array with shape (1, 4000, 4000, 2000)"
        )

    monkeypatch.setattr(resample, "resample", fail)
    settings = {"plan": {}, "dataset": DATASET, "structures": ["heart", "aorta"]}
    options = {"dataset": "thorax", "cases": cohort / "cases.tsv", "grid": "1x1x1"}
    assert call("resample", tmp_path / "out", "arrays", settings, **options) == 1
    error = capsys.readouterr().err
    assert "p0.nii.gz: case p0: not enough memory for 24x26x22 voxels (Unable to allocate" in error
    assert "Traceback" not in error
    assert not list((tmp_path / "out").iterdir())


def test_a_structure_that_vanishes_is_said(cohort, tmp_path, caplog):
    settings = {"plan": {}, "dataset": DATASET, "structures": ["heart", "aorta"]}
    options = {
        "dataset": "thorax",
        "cases": cohort / "cases.tsv",
        "grid": "30x30x30",
        "select": "p0",
    }
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        assert call("resample", tmp_path, "arrays", settings, **options) == 0
    assert "case p0: the structure of value 5 vanishes" in caplog.text


@pytest.mark.parametrize(("outside", "refused"), [(1, False), (2, True)])
def test_what_the_crop_takes_from_a_label_is_told_or_refused(
    tmp_path, caplog, capsys, outside, refused
):
    image = np.full((40, 40, 40), -1000, np.int16)
    image[5:35, 5:35, 8:20] = 40
    label = np.zeros(image.shape, np.uint8)
    label[10:20, 10:20, 9:19] = 2
    label[10 : 10 + outside, 10, 35] = 2  # beyond the margin: 1 of 1001, 2 of 1002 voxels
    affine = affine_of(TURNS[5], (2.0,) * 3)
    write_nifti(tmp_path / "p.nii.gz", image, affine)
    write_label(tmp_path / "p-label.nii.gz", label, affine)
    case = Case("p", "p", (tmp_path / "p.nii.gz",), tmp_path / "p-label.nii.gz")
    write_cases(tmp_path / "cases.tsv", [case], ("image",))
    settings = {"plan": {}, "dataset": DATASET, "structures": ["heart"]}
    options = {"dataset": "thorax", "cases": tmp_path / "cases.tsv", "grid": "2x2x2"}
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        status = call("resample", tmp_path / "out", "arrays", settings, **options)
    text = f"case p: {outside} of {1000 + outside} voxels"
    assert status == refused
    if refused:
        error = capsys.readouterr().err
        assert f"p-label.nii.gz: {text} (0.20%) of the structure of value 2" in error
        assert "`crop: none` or a larger margin_mm" in error
        assert not list((tmp_path / "out").iterdir())
    else:
        assert text in caplog.text


@pytest.mark.parametrize(
    ("argument", "message"),
    [("thorax", "expected DATASET=cases.tsv"), ("other=x.tsv", "DATASET one of thorax")],
)
def test_wrong_arguments_are_explained(tmp_path, capsys, argument, message):
    settings = {"splits": {}, "roles": {"thorax": "train"}}
    assert call("split", tmp_path, "splits.tsv", settings, cases=argument) == 1
    assert message in capsys.readouterr().err


def test_real_hippocampus_cases(real_data, tmp_path):
    folder = real_data / "Task04_Hippocampus"
    names = [path.name for path in sorted((folder / "labelsTr").glob("hippocampus_*.nii.gz"))[:4]]
    cases = [
        Case(
            name[:-7],
            name[:-7],
            (folder / "imagesTr" / name,),
            folder / "labelsTr" / name,
            shape=(1, 1, 1),
            spacing_mm=(1.0, 1.0, 1.0),
            voxels={"anterior": 1, "posterior": 1},
        )
        for name in names
    ]
    write_cases(tmp_path / "cases.tsv", cases, ("image",))
    dataset = {**DATASET, "modality": "MR", "structures": {"anterior": 1, "posterior": 2}}
    settings = {"plan": {}, "dataset": dataset, "structures": ["anterior", "posterior"]}
    options = {"dataset": "h", "cases": tmp_path / "cases.tsv", "grid": "1x1x1"}
    assert call("resample", tmp_path, "arrays", settings, **options) == 0
    arrays = open_arrays([tmp_path / "arrays"])
    assert [case for _, case in arrays] == [name[:-7] for name in names]
    for case in arrays.values():
        assert set(case.foreground) == {1, 2}
        assert case.restore.unchanged


def test_a_list_names_every_shard_and_stands_for_them(cohort, tmp_path):
    folder, output = tmp_path / "shards", tmp_path / "shards.txt"
    names = list(shards(NAMES, 2))
    for name in names:
        (folder / name).mkdir(parents=True)
    (folder / "000-of-064").mkdir()  # of an older, larger cohort
    table = str(cohort / "cases.tsv")
    arguments = ["preprocess", "list", "--cases", table, "--cases-per-job", "2"]
    arguments += ["--shards", str(folder), "--output", str(output)]
    assert main(arguments) == 0
    assert listed([output]) == [folder / name for name in names]
    before = output.read_bytes()
    (folder / "000-of-064" / "older").touch()
    assert main(arguments) == 0
    assert output.read_bytes() == before
    (folder / names[0] / "p.json").write_text("made anew")
    assert main(arguments) == 0
    assert output.read_bytes() != before
    assert listed([output]) == [folder / name for name in names]
    (folder / names[-1]).rmdir()
    output.unlink()
    assert main(arguments) == 1
    assert not output.exists()
