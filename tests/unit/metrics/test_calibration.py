"""Calibration of probabilities: closed forms, nnU-Net's files, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import Image, write_label
from segstudy.images.geometry import reorient
from segstudy.metrics.calibration import calibration, read_probabilities


def test_counted_by_hand():
    """Of 10 voxels at 0.85 six are held, of 10 at 0.05 none: errors of 0.25 and 0.05."""
    probability = np.repeat([0.85, 0.05], 10)
    mask = np.arange(20) < 6
    found = calibration(probability, mask)
    assert found["ece"] == pytest.approx((0.25 + 0.05) / 2)
    assert found["brier"] == pytest.approx((6 * 0.15**2 + 4 * 0.85**2 + 10 * 0.05**2) / 20)
    assert calibration(mask.astype(float), mask) == {"brier": 0, "ece": 0}


def test_as_nnunet_writes_them(tmp_path):
    """Classes and axes where they belong; voxels that nobody has labelled are left out."""
    label = np.zeros((6, 5, 4), np.uint8)
    label[1:4, 1:4, 1:3], label[4:6] = 2, 9
    classes = np.stack([(label == 0) * 0.75, np.zeros(label.shape), (label == 2) * 0.75 + 0.25])
    classes[0] += 1 - classes.sum(axis=0)
    np.savez(tmp_path / "a.npz", probabilities=classes.transpose(0, 3, 2, 1).astype(np.float32))
    paths = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
    write_label(paths[0], label, np.eye(4))
    (tmp_path / "p").mkdir()
    write_label(tmp_path / "p" / "a.nii.gz", label * (label == 2), np.eye(4))
    files = ["--reference", str(paths[0]), "--prediction", str(tmp_path / "p" / "a.nii.gz")]
    files += ["--output", str(tmp_path / "m.csv"), "--settings"]
    files.append('{"structures": {"organ": 2}, "ignore": 9}')
    assert main(["metrics", *files, "--probabilities", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "m.csv").set_index("metric")["value"]
    share = 1 - 18 / 80  # background, at 0.25
    assert found["ece"] == pytest.approx(0.25 * share)
    assert found["brier"] == pytest.approx(0.25**2 * share)


def test_what_is_refused(tmp_path, capsys):
    path = tmp_path / "a.npz"
    label = np.ones((2, 3, 4), np.uint8)
    with pytest.raises(InputError, match=r"a\.npz: not readable"):
        read_probabilities(path, label)
    np.savez(path, probabilities=np.zeros((2, 2, 3, 4)))
    with pytest.raises(InputError, match=r"shape \(2, 2, 3, 4\); expected \(classes, 4, 3, 2\)"):
        read_probabilities(path, label)
    np.savez(path, probabilities=np.full((2, 4, 3, 2), 3.0))
    with pytest.raises(InputError, match="from 3 to 3; expected 0 to 1"):
        read_probabilities(path, label)
    write_label(tmp_path / "b.nii.gz", label, np.eye(4))
    files = ["--reference", str(tmp_path / "b.nii.gz"), "--prediction", str(tmp_path / "b.nii.gz")]
    files += ["--output", str(tmp_path / "m.csv"), "--probabilities", str(tmp_path)]
    assert main(["metrics", *files]) == 1
    assert "no b.npz (1 of 1 predicted cases)" in capsys.readouterr().err


def measured(tmp_path, label, predicted, probabilities, settings):
    """Exit code and metrics of one case with probabilities (class, i, j, k)."""
    for folder, array in (("ref", label), ("pred", predicted)):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_label(tmp_path / folder / "a.nii.gz", array, np.eye(4))
    np.savez(tmp_path / "a.npz", probabilities=probabilities.transpose(0, 3, 2, 1))
    files = ["--reference", str(tmp_path / "ref"), "--prediction", str(tmp_path / "pred")]
    files += ["--output", str(tmp_path / "m.csv"), "--probabilities", str(tmp_path)]
    code = main(["metrics", *files, "--settings", json.dumps(settings)])
    table = pd.read_csv(tmp_path / "m.csv") if code == 0 else None
    return code, table


def hard(label, classes):
    """Probabilities of 0 and 1 that give a label map."""
    return np.stack([label == number for number in range(classes)]).astype(np.float32)


def test_classes_are_the_predictions_own_values(tmp_path):
    """A perfect prediction in values of its own (liver 3 and 4, spleen 1) has no error, a region neither."""
    label = np.zeros((6, 5, 4), np.uint8)
    label[1:3, 1:4, 1:3], label[4:5, 2:4] = 1, 2
    own = np.zeros_like(label)
    own[label == 1], own[1, 1, 1], own[label == 2] = 3, 4, 1
    settings = {"structures": {"liver": 1, "spleen": 2}}
    settings["prediction_labels"] = {"liver": [3, 4], "spleen": 1}
    settings["metrics"] = {"composite_regions": {"both": ["liver", "spleen"]}}
    code, table = measured(tmp_path, label, own, hard(own, 5), settings)
    assert code == 0
    found = table[table["metric"].isin(["brier", "ece"])]
    assert sorted(found["structure"].unique()) == ["both", "liver", "spleen"]
    assert (found["value"] == 0).all() and len(found) == 6


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        # Region-based: whole, core and core again, a sigmoid each and no background.
        (lambda label: np.stack([label > 0, label > 1, label > 1]) * 0.9, "add up to 2.7"),
        (lambda label: hard(label, 3) * 0.9, "add up to 0.9"),
        (lambda label: np.full((3, *label.shape), 0.9), "add up to 2.7"),
        (lambda label: hard(label, 3)[:2] + 0.5 * (label == 2), "2 classes, numbers 0 to 1"),
    ],
)
def test_what_is_no_softmax_is_refused_in_a_sentence(tmp_path, capsys, probabilities, said):
    label = np.zeros((4, 4, 4), np.uint8)
    label[1:3, 1:3, 1:3], label[3, 3, 3] = 1, 2
    code, _ = measured(tmp_path, label, label, probabilities(label), {})
    told = capsys.readouterr().err
    assert code == 1 and "case a" in told and "a.npz" in told and said in told
    assert "Traceback" not in told and not (tmp_path / "m.csv").exists()


def test_half_precision_is_no_reason_to_refuse(tmp_path):
    random = np.random.default_rng(0).random((7, 4, 4, 4))
    half = (random / random.sum(axis=0)).astype(np.float16)
    label = half.argmax(axis=0).astype(np.uint8)
    assert measured(tmp_path, label, label, half, {})[0] == 0


def on_other_grid(tmp_path, reference, predicted, affine, soft, **settings):
    """Exit code and metrics of a reference on the unit grid, and a prediction with its probabilities on another."""
    write_label(tmp_path / "a.nii.gz", reference, np.eye(4))
    (tmp_path / "p").mkdir()
    write_label(tmp_path / "p" / "a.nii.gz", predicted, affine)
    np.savez(tmp_path / "a.npz", probabilities=soft.transpose(0, 3, 2, 1))
    files = ["--reference", str(tmp_path / "a.nii.gz")]
    files += ["--prediction", str(tmp_path / "p" / "a.nii.gz")]
    files += ["--output", str(tmp_path / "m.csv"), "--probabilities", str(tmp_path)]
    code = main(["metrics", *files, "--settings", json.dumps({"structures": {"a": 1}} | settings)])
    if code:
        return code, None
    table = pd.read_csv(tmp_path / "m.csv").set_index("metric")["value"]
    return code, table


@pytest.mark.parametrize("codes", ["LPI", "PIR", "SLA"])
def test_probabilities_go_with_a_label_map_that_is_turned(tmp_path, codes):
    """They lie voxel by voxel as their label map does, in whatever order its axes are."""
    random = np.random.default_rng(1)
    soft = random.random((2, 4, 5, 6)).astype(np.float32)
    soft /= soft.sum(axis=0)
    label = soft.argmax(axis=0).astype(np.uint8)
    reference = (random.random(label.shape) < 0.4).astype(np.uint8)
    turned = reorient(Image(label, np.eye(4)), codes)
    classes = np.stack([reorient(Image(one, np.eye(4)), codes).array for one in soft])
    code, found = on_other_grid(tmp_path, reference, turned.array, turned.affine, classes)
    assert code == 0
    assert found["brier"] == pytest.approx(np.mean((soft[1] - reference) ** 2), abs=1e-6)


def test_probabilities_of_a_crop_are_background_beyond_it(tmp_path):
    label = np.zeros((6, 5, 4), np.uint8)
    label[2:5, 1:4, 1:3] = 1
    soft = np.zeros((2, 3, 3, 2), np.float32)
    soft[1] = 0.8
    soft[0] = 0.2
    affine = np.eye(4)
    affine[:3, 3] = (2, 1, 1)
    code, found = on_other_grid(tmp_path, label, np.ones((3, 3, 2), np.uint8), affine, soft)
    assert code == 0
    assert found["brier"] == pytest.approx(0.2**2 * 18 / label.size, abs=1e-6)


def test_probabilities_of_a_rounded_origin_are_taken(tmp_path):
    label = np.zeros((4, 4, 4), np.uint8)
    label[1:3, 1:3, 1:3] = 1
    affine = np.eye(4)
    affine[0, 3] = 0.009
    affine[1, 3] = 0.0095
    code, found = on_other_grid(tmp_path, label, label, affine, hard(label, 2))
    assert code == 0 and found["brier"] == 0


def test_probabilities_of_a_resampled_prediction_are_refused(tmp_path, capsys):
    label = np.zeros((4, 4, 4), np.uint8)
    label[1:3, 1:3, 1:3] = 1
    affine = np.eye(4)
    affine[0, 3] = 0.4
    code, _ = on_other_grid(
        tmp_path, label, label, affine, hard(label, 2), on_other_grid="resample_prediction"
    )
    assert code == 1 and not (tmp_path / "m.csv").exists()
    assert "which was resampled to that of" in capsys.readouterr().err
