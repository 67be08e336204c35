"""The process that predicts for a service: the labels of `segstudy infer`, what it tells, and what it tells nobody."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dicom_series import PATIENT, write_series
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import read_image, read_label
from segstudy.infer import worker
from segstudy.networks import bundle

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path, write_weights):
    write_weights(tmp_path / "balls.pt")
    return worker.load(str(tmp_path / "balls.pt"), [], None, False, CPU)


@pytest.fixture
def scan(tmp_path, write_image, oblique):
    return write_image(tmp_path / "image_0000.nii", oblique[0][::2, ::2, ::2])


def asked(tmp_path, *images, quality=False, dicom=False):
    return {"id": "0", "model": "balls", "images": [str(one) for one in images],
            "output": str(tmp_path / "output"), "quality": quality, "dicom": dicom}  # fmt: skip


def test_a_bundle_is_read_and_summed_up_once(tmp_path, write_weights, monkeypatch):
    summed, read = [], []
    content = bundle.bundle_content([write_weights(tmp_path / "balls.pt")], card="# Ours\n")
    bundle.write_bundle(tmp_path / "balls.bundle", content)
    real_sum, real_read = bundle.checksum, bundle.read_content
    monkeypatch.setattr(bundle, "checksum", lambda value: summed.append(1) or real_sum(value))
    for module in (bundle, worker):
        if hasattr(module, "read_content"):
            monkeypatch.setattr(
                module, "read_content", lambda path: read.append(path) or real_read(path)
            )
    told = worker.load(str(tmp_path / "balls.bundle"), [], None, False, CPU).told
    assert (told["checksum"], told["card"]) == (content["checksum"], "# Ours\n")
    assert (len(summed), len(read)) == (1, 1)


def test_a_weights_file_tells_its_own_checksum_and_what_it_records(tmp_path, model):
    digest = hashlib.sha256((tmp_path / "balls.pt").read_bytes()).hexdigest()
    assert model.told["checksum"] == digest
    assert "Segments: shell, core." in model.told["card"]
    assert "- unet, fold 0" in model.told["card"]


def test_a_gpu_that_is_too_small_for_the_models_is_told(tmp_path, write_weights, monkeypatch):
    move, gpu = torch.nn.Module.to, torch.device("cuda")

    def full(network, *where, **how):
        if where == (gpu,):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return move(network, *where, **how)

    monkeypatch.setattr(torch.nn.Module, "to", full)
    file = str(write_weights(tmp_path / "balls.pt"))
    with pytest.raises(InputError, match="memory is too small.*serve fewer or smaller models"):
        worker.load(file, [], None, False, gpu)


def test_too_little_memory_is_told_wherever_it_runs_out(tmp_path, model, scan, monkeypatch):
    for place in ("read_image", "_written", "_doubts", "_shown"):
        events = []

        def fail(*_, **__):
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(worker, place, fail)
            worker.answer(model, asked(tmp_path, scan), CPU, events.append)
        told = events[-1]["problem"]
        assert told.startswith("the image: ") and "memory" in told, place
        assert str(tmp_path) not in told


def test_the_labels_of_segstudy_infer(tmp_path, model, scan):
    events = []
    result = worker.predict(model, asked(tmp_path, scan), CPU, events.append)
    words = [
        "--weights",
        str(tmp_path / "balls.pt"),
        "--output",
        str(tmp_path / "direct"),
        str(scan),
    ]
    assert main(["infer", *words]) == 0
    same = (tmp_path / "direct/image_0000.nii.gz").read_bytes()
    assert (tmp_path / "output/segmentation.nii.gz").read_bytes() == same
    label = read_label(tmp_path / "output/segmentation.nii.gz")
    for one in result["structures"]:
        assert one["n_voxels"] == (label.array == one["label"]).sum() > 0
        assert one["volume_ml"] == pytest.approx(one["n_voxels"] * 2.5 * 0.9 * 1.3 / 1000, rel=1e-5)
        assert one["quality"] is None
    assert result["files"] == ["segmentation.nii.gz", "segmentation.seg.nrrd", "image.nii.gz"]
    other = read_label(tmp_path / "output/segmentation.seg.nrrd")
    np.testing.assert_array_equal(other.array, label.array)
    shown = read_image(tmp_path / "output/image.nii.gz")
    np.testing.assert_allclose(shown.array, read_image(scan).array)
    assert [one["step"] for one in events if len(one) == 1] == ["reading", "predicting", "writing"]


@pytest.mark.parametrize(
    "settings",
    [{}, {"dims": 2, "planes": ["axial", "coronal"]}, {"infer": {"mirror_axes": ["right_left"]}}],
)
def test_passes_are_counted_as_they_are_made(tmp_path, write_weights, scan, settings, monkeypatch):
    monkeypatch.setattr(worker, "EVERY_S", 0)
    write_weights(tmp_path / "w.pt", **settings)
    model = worker.load(str(tmp_path / "w.pt"), [], None, False, CPU)
    events, made = [], []
    model.trained.network.register_forward_hook(lambda *_: made.append(1))
    array, _ = worker.steps_of(model.trained).read(model.trained, [scan])
    expected = worker.passes(model.trained, array, CPU)
    worker.predict(model, asked(tmp_path, scan), CPU, events.append)
    assert len(made) == expected > 0
    fractions = [one["fraction"] for one in events if "fraction" in one]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.99


def test_quality_of_several_predictions(tmp_path, model, scan):
    result = worker.predict(model, asked(tmp_path, scan, quality=True), CPU, lambda _: None)
    for one in result["structures"]:
        assert 0.5 < one["quality"]["agreement"] <= 1
        assert one["quality"]["agreement_of"] == "perturbed"
        assert one["quality"]["flagged"] is None  # not calibrated


def test_a_series_gets_a_dicom_seg(tmp_path, model, oblique):
    pytest.importorskip("highdicom", reason="needs the extra dicom")
    volume = np.rint(oblique[0][::2, ::2, ::2]).astype(np.int16)
    series = write_series(tmp_path / "image_0000", volume, np.diag([3.0, 3.0, 3.0, 1.0]))
    result = worker.predict(model, asked(tmp_path, series, dicom=True), CPU, lambda _: None)
    assert "segmentation.dcm" in result["files"]
    assert PATIENT not in json.dumps(result)


def test_errors_tell_no_place(tmp_path, model, write_image, monkeypatch):
    odd = write_image(tmp_path / "image_0000.nii", np.full((8, 8, 8), np.nan))
    events = []
    worker.answer(model, asked(tmp_path, odd), CPU, events.append)
    assert events[-1]["problem"].startswith("the image: ")
    assert str(tmp_path) not in json.dumps(events)

    def fail(*_):
        raise RuntimeError("Mustermann^Erika")

    monkeypatch.setattr(worker, "predict", fail)
    worker.answer(model, asked(tmp_path, odd), CPU, events.append)
    assert "RuntimeError" in events[-1]["problem"]
    assert "Mustermann" not in json.dumps(events)


def test_the_process_speaks_json_and_ends_with_its_input(tmp_path, model, scan):
    one = {
        "file": str(tmp_path / "balls.pt"),
        "plugins": [],
        "calibration": None,
        "trained_on_too": False,
    }
    settings = json.dumps({"models": {"balls": one}, "device": "cpu"})
    run = subprocess.run(
        [sys.executable, "-m", "segstudy.infer.worker", settings],
        input=json.dumps(asked(tmp_path, scan)) + "\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert events[0]["models"]["balls"]["structures"] == ["shell", "core"]
    assert "result" in events[-1]
    refused = json.dumps(
        {"models": {"x": one | {"file": str(tmp_path / "none.pt")}}, "device": "cpu"}
    )
    run = subprocess.run(
        [sys.executable, "-m", "segstudy.infer.worker", refused],
        input="",
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "none.pt" in json.loads(run.stdout)["refused"]
