"""Many images: order, errors kept to the end, and overlap of reading, network and writing."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pretended_gpu import pretended_gpu
from segstudy.errors import InputError
from segstudy.infer import image
from segstudy.infer.batch import predict_each
from segstudy.infer.outside import predict_images
from segstudy.infer.postprocess import Choice
from segstudy.networks.weights import load_weights

NAMES = ["a", "b", "c", "d"]
IMAGES = {name: (name,) for name in NAMES}
OURS = SimpleNamespace(model=SimpleNamespace(network="unet"), patch_size=(8, 8, 8))


def test_one_bad_image_stops_no_other_and_is_named(tmp_path, write_weights, write_image, oblique):
    trained = load_weights(write_weights(tmp_path / "weights.pt"))
    images = {name: (write_image(tmp_path / f"{name}.nii.gz", oblique[0]),) for name in NAMES}
    images["b"][0].write_bytes(images["b"][0].read_bytes()[:2000])
    done = []
    with pytest.raises(InputError, match=r"b\.nii\.gz.*damaged(?s:.*)1 of 4 images"):
        predict_each(trained, images, torch.device("cpu"), lambda name, _: done.append(name))
    assert done == ["a", "c", "d"]


def test_logits_that_are_not_finite_are_told_with_case_and_network(
    tmp_path, write_weights, write_image, oblique
):
    """A bias of NaN makes each logit NaN, and argmax would take them for a class."""
    trained = load_weights(write_weights(tmp_path / "weights.pt"))
    with torch.no_grad():
        trained.network.heads[0].bias[2] = torch.nan
    images = {name: (write_image(tmp_path / f"{name}.nii.gz", oblique[0]),) for name in "ab"}
    done = []
    with pytest.raises(InputError) as told:
        predict_each(trained, images, torch.device("cpu"), lambda name, _: done.append(name))
    assert done == []
    for name in "ab":
        assert f"case {name}: network unet: gives logits that are not finite" in str(told.value)


@pytest.fixture
def steps(monkeypatch):
    """Reading, network and export put in place by ones that write down their turn."""
    log: list[str] = []

    def step(kind):
        def act(*arguments):
            name = next(part for part in arguments if isinstance(part, str | tuple))
            name = name[0] if isinstance(name, tuple) else name
            log.append(f"{kind} {name}")
            return (name, name) if kind == "read" else name

        return act

    monkeypatch.setattr(image, "read", step("read"))
    monkeypatch.setattr(image, "probabilities", step("network"))
    monkeypatch.setattr(image, "restore", step("export"))
    monkeypatch.setattr("segstudy.infer.batch.peak_memory", lambda device: "?")
    return log


def test_on_a_cpu_images_take_turns(steps):
    found = predict_each(OURS, IMAGES, torch.device("cpu"), lambda name, _: name.upper())
    assert found == {name: name.upper() for name in NAMES}
    assert steps == [f"{kind} {name}" for name in NAMES for kind in ("read", "network", "export")]


def test_on_a_gpu_the_neighbours_are_read_and_written_meanwhile(steps, monkeypatch):
    """While b is in the network, a must be exported and c read: each waits for the other."""
    inside = threading.Event()
    met = {"a exported": threading.Event(), "c read": threading.Event()}
    read, network = image.read, image.probabilities

    def reading(trained, paths, spacing_mm):
        if paths == ("c",):
            assert inside.wait(10)
            met["c read"].set()
        return read(trained, paths)

    def in_network(trained, array, device):
        if array == "b":
            inside.set()
            assert all(event.wait(10) for event in met.values())
        return network(trained, array, device)

    def finish(name, _):
        if name == "a":
            assert inside.wait(10)
            met["a exported"].set()
        return name

    monkeypatch.setattr(image, "read", reading)
    monkeypatch.setattr(image, "probabilities", in_network)
    assert list(predict_each(OURS, IMAGES, torch.device("cuda"), finish)) == NAMES


def test_on_a_gpu_several_are_written_at_a_time_and_no_more_are_held(steps, monkeypatch):
    """Three writers: each waits until all are at work; the network is never more than one image ahead of them."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    names = [str(number) for number in range(9)]
    together, lock = threading.Barrier(3), threading.Lock()
    network, held = image.probabilities, [0]
    most = []

    def in_network(trained, array, device):
        with lock:
            held[0] += 1
            most.append(held[0])
        return network(trained, array, device)

    def finish(name, _):
        together.wait(300)
        with lock:
            held[0] -= 1
        return name

    monkeypatch.setattr(image, "probabilities", in_network)
    images = {name: (name,) for name in names}
    assert list(predict_each(OURS, images, torch.device("cuda"), finish)) == names
    assert max(most) <= 4


def test_a_disk_that_is_full_stops_the_network(steps, monkeypatch):
    """What no image is to blame for is raised at once, and not after all others."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)

    def finish(name, _):
        raise OSError(28, "No space left on device", name)

    with pytest.raises(OSError, match="No space left on device: 'a'"):
        predict_each(OURS, IMAGES, torch.device("cuda"), finish)
    assert "network b" in steps
    assert "network c" not in steps


def test_several_writers_write_the_same_bytes(tmp_path, write_weights, write_image, oblique):
    trained = load_weights(write_weights(tmp_path / "weights.pt"))
    images = {}
    for number in range(4):
        turned = np.roll(oblique[0], number, axis=number % 3)
        images[f"scan_{number}"] = (write_image(tmp_path / f"scan_{number}.nii.gz", turned),)
    structures = {"shell": 1, "core": 2}
    choices = dict.fromkeys(structures, Choice(False))
    written = {}
    with pytest.MonkeyPatch.context() as patch, pretended_gpu():
        trained.network.to("cuda")
        for threads in (1, 3):
            folder = tmp_path / f"{threads}"
            patch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            predict_images(trained, images, structures, choices, torch.device("cuda"), folder)
            files = sorted(folder.glob("*.nii.gz"))
            written[threads] = {file.name: file.read_bytes() for file in files}
    assert len(written[1]) == 4
    assert written[1] == written[3]


def test_an_error_in_writing_is_named_too(steps):
    def finish(name, _):
        if name == "c":
            raise InputError("c.nii.gz: planted")
        return name

    for device in ("cpu", "cuda"):
        with pytest.raises(InputError, match=r"c\.nii\.gz: planted\n1 of 4 images"):
            predict_each(OURS, IMAGES, torch.device(device), finish)


def test_a_fault_of_the_program_is_not_hidden(steps):
    def finish(name, _):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        predict_each(OURS, IMAGES, torch.device("cpu"), finish)


def test_a_gpu_that_is_too_small_is_told(steps, monkeypatch):
    def too_small(*_):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(image, "probabilities", too_small)
    trained = SimpleNamespace(model=OURS.model, patch_size=(64, 64, 32))
    with pytest.raises(InputError, match="case a: the GPU's memory.*window of 64x64x32"):
        predict_each(trained, IMAGES, torch.device("cuda"), np.copy)
