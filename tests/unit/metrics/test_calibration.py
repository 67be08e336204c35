"""Calibration of probabilities: closed forms, nnU-Net's files, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import write_label
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
    with pytest.raises(InputError, match=r"a\.npz: not readable"):
        read_probabilities(path, (2, 3, 4))
    np.savez(path, probabilities=np.zeros((2, 2, 3, 4)))
    with pytest.raises(InputError, match=r"shape \(2, 2, 3, 4\); expected \(classes, 4, 3, 2\)"):
        read_probabilities(path, (2, 3, 4))
    np.savez(path, probabilities=np.full((2, 4, 3, 2), 3.0))
    with pytest.raises(InputError, match="from 3 to 3; expected 0 to 1"):
        read_probabilities(path, (2, 3, 4))
    label = np.ones((2, 3, 4), np.uint8)
    write_label(tmp_path / "b.nii.gz", label, np.eye(4))
    files = ["--reference", str(tmp_path / "b.nii.gz"), "--prediction", str(tmp_path / "b.nii.gz")]
    files += ["--output", str(tmp_path / "m.csv"), "--probabilities", str(tmp_path)]
    assert main(["metrics", *files]) == 1
    assert "no b.npz (1 of 1 predicted cases)" in capsys.readouterr().err
