"""Whole trainings of small networks: what they learn, what they leave, what they never touch."""

import csv
import json
import logging

import numpy as np
import pytest
import torch
from toy_cohort import SHAPE, write_cohort

from segstudy.cli import main
from segstudy.images.arrays import open_arrays
from segstudy.images.normalise import normalise
from segstudy.images.overlap import dice
from segstudy.networks.weights import load_weights
from segstudy.networks.window import SlidingWindow, predict_volume
from segstudy.study import Augmentation, Optimizer
from segstudy.train import fit as module
from segstudy.train import from_images, trainer

QUICK = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 2,
    "steps_per_epoch": 2,
    "optimizer": {"lr": 0.01},
}
FLAT = {"network": "enet", "channels": 4, "patch_size": [16, 16], "batch_size": 2, "epochs": 2}

STEP = module.Trainer.step

pytestmark = pytest.mark.usefixtures("own_torch")


def train(cohort, output, model, **further):
    assert main(cohort.words(output, model, **further)) == 0
    return output


@pytest.mark.parametrize("model", [QUICK, FLAT], ids=["unet", "enet"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(cohort, tmp_path, model):
    first = train(cohort, tmp_path / "first", model)
    again = train(cohort, tmp_path / "again", model)
    other = train(cohort, tmp_path / "other", model, seed=1)
    for name in ("weights.pt", "best.pt"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    assert (first / "weights.pt").read_bytes() != (other / "weights.pt").read_bytes()


def test_what_is_left_behind(cohort, tmp_path):
    output = train(cohort, tmp_path / "out", QUICK | {"validate_every_epochs": 2})
    assert sorted(path.name for path in output.iterdir()) == [
        "best.pt",
        "history.csv",
        "settings.json",
        "weights.pt",
    ]
    with (output / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch",
        "lr",
        "train_loss",
        "validation_loss",
        "validation_dice_ball",
        "validation_dice_rod",
        "validation_dice_mean",
        "seconds",
        "waited_seconds",
        "patches_per_second",
        "gpu_memory_mb",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["validation_dice_mean"] == ""
    structures = [float(rows[1][f"validation_dice_{name}"]) for name in ("ball", "rod")]
    assert float(rows[1]["validation_dice_mean"]) == pytest.approx(np.mean(structures), abs=1e-5)
    described = json.loads((output / "settings.json").read_text())
    assert described["patch_size"] == [16, 16, 8]
    assert described["steps_per_epoch"] == 2
    assert described["device"] == "cpu"
    assert described["threads"] == 1
    assert described["seed"] == 0
    assert described["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    trained = load_weights(output / "weights.pt")
    assert described["parameters"] == sum(p.numel() for p in trained.network.parameters())
    assert trained.structures == ("ball", "rod")
    assert trained.plan == cohort.plan.to_dict()
    apart = trained.provenance["validation"]
    assert len(apart) == 1
    assert sorted(trained.provenance["training"] + apart) == [f"toy/case_{n}" for n in (1, 3, 5)]


def test_cases_that_the_fold_tests_are_never_opened(cohort, tmp_path):
    """Their arrays are gone: only the small description that lists a folder's cases is there."""
    whole = train(cohort, tmp_path / "whole", QUICK)
    gone = [path for path in cohort.shards[0].iterdir() if path.suffix == ".b2nd"]
    assert len(gone) == 9
    for path in gone:
        path.unlink()
    without = train(cohort, tmp_path / "without", QUICK)
    assert (whole / "weights.pt").read_bytes() == (without / "weights.pt").read_bytes()
    assert main(cohort.words(tmp_path / "other", QUICK, fold=1)) == 1


def test_a_prepared_case_that_is_missing_is_named(cohort, tmp_path, capsys):
    for path in cohort.shards[1].glob("case_3.*"):
        path.unlink()
    assert main(cohort.words(tmp_path / "out", QUICK)) == 1
    assert "no prepared case case_3 of toy" in capsys.readouterr().err


def test_reading_patch_by_patch_trains_the_same_network(cohort, tmp_path, monkeypatch, caplog):
    held = train(cohort, tmp_path / "held", QUICK)
    monkeypatch.setattr(from_images, "MEMORY_SHARE", 0.0)
    with caplog.at_level(logging.INFO):
        read = train(cohort, tmp_path / "read", QUICK)
    assert "read patch by patch" in caplog.text
    assert (held / "weights.pt").read_bytes() == (read / "weights.pt").read_bytes()


UNCHANGED = {name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")}


@pytest.mark.parametrize(
    ("device", "asked", "workers", "threads"),
    [
        ("cuda", "auto", 5, 1),
        ("cuda", "2", 2, 4),
        ("cpu", "auto", 0, 6),
        ("cpu", "2", 2, 4),
    ],
)
def test_on_a_gpu_all_threads_but_one_cut_patches(
    cohort, tmp_path, monkeypatch, device, asked, workers, threads
):
    runs, trains = [], []
    monkeypatch.setattr(
        "segstudy.train.fit.fit", lambda resolved, source, run, initial: runs.append(run)
    )
    monkeypatch.setattr(
        "segstudy.networks.device.choose_device", lambda *_, **__: torch.device(device)
    )
    monkeypatch.setattr(
        "segstudy.train.trainer.prepare_torch", lambda device, threads: trains.append(threads)
    )
    words = [*cohort.words(tmp_path / "out", QUICK), "--workers", asked]
    words[words.index("--threads") + 1] = "6"
    assert main(words) == 0
    assert (runs[0].workers, trains) == (workers, [threads])


def test_workers_that_are_no_number_are_refused(cohort, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*cohort.words(tmp_path / "out", QUICK), "--workers", "-1"])
    assert "expected auto, or a whole number from 0" in capsys.readouterr().err


@pytest.mark.parametrize("held", [True, False])
def test_processes_that_cut_patches_train_the_same_network(cohort, tmp_path, monkeypatch, held):
    if not held:
        monkeypatch.setattr(from_images, "MEMORY_SHARE", 0.0)
    found = set()
    for workers in (0, 1, 2):
        output = tmp_path / str(workers)
        assert main([*cohort.words(output, QUICK), "--workers", str(workers)]) == 0
        found.add((output / "weights.pt").read_bytes())
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {
            "network": "unet",
            "channels": [8, 16, 16],
            "epochs": 5,
            "steps_per_epoch": 10,
            "optimizer": {"lr": 0.02},
        },
        {
            "network": "unet",
            "dims": 2,
            "channels": [8, 16, 16],
            "batch_size": 4,
            "epochs": 8,
            "steps_per_epoch": 12,
            "optimizer": {"lr": 0.02},
            "planes": ["axial", "sagittal"],
        },
        {
            "network": "enet",
            "dropout": 0.0,
            "augmentation": UNCHANGED,
            "batch_size": 8,
            "epochs": 8,
            "steps_per_epoch": 15,
            "optimizer": {"lr": 0.01},
        },
    ],
    ids=["unet3d", "unet2d", "enet"],
)
def test_a_case_is_learned(tmp_path, model):
    """Trained on one case, each network finds its structures, from the weights file alone."""
    shape = (48, 44, 8) if model["network"] == "enet" else SHAPE
    cohort = write_cohort(tmp_path / "cohort", count=2, shape=shape)
    output = train(cohort, tmp_path / "out", model | {"validation_fraction": 0.0})
    trained = load_weights(output / "weights.pt")
    case = open_arrays(cohort.shards)["toy", "case_1"]
    probabilities = predict_volume(
        trained.network,
        normalise(case.image[...], cohort.plan, case.moments),
        3,
        SlidingWindow(trained.patch_size, trained.model.dims, trained.model.planes),
    )
    found = dice(case.label[...], probabilities.argmax(0).astype(np.uint8), 3)
    assert found.min() > 0.9
    assert (output / "best.pt").read_bytes() == (output / "weights.pt").read_bytes()


def test_the_best_weights_are_those_of_the_best_validation(cohort, tmp_path, monkeypatch):
    """The third of four epochs scores highest: best.pt is what a training of three epochs ends with."""
    scores = iter([0.2, 0.5, 0.9, 0.9])
    original = module.Trainer.validate
    states = []

    def validate(self, cases):
        states.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return original(self, cases) | {"validation_dice_mean": next(scores)}

    monkeypatch.setattr(module.Trainer, "validate", validate)
    output = train(cohort, tmp_path / "out", QUICK | {"epochs": 4, "validate_every_epochs": 1})
    best = load_weights(output / "best.pt").network.state_dict()
    last = load_weights(output / "weights.pt").network.state_dict()
    assert all(torch.equal(best[key], states[2][key]) for key in best)
    assert all(torch.equal(last[key], states[3][key]) for key in last)
    assert not all(torch.equal(best[key], last[key]) for key in best)


def test_a_loss_that_is_not_finite_names_epoch_step_and_cases(cohort, tmp_path, capsys):
    case = open_arrays(cohort.shards)["toy", "case_5"]
    original = from_images._load_case

    def load(arrays, plan, held):
        loaded = original(arrays, plan, held)
        if arrays.case == case.case:
            loaded.image[:] = np.nan
        return loaded

    from_images._load_case = load
    try:
        code = main(cohort.words(tmp_path / "out", QUICK | {"validation_fraction": 0.0}))
    finally:
        from_images._load_case = original
    assert code == 1
    message = capsys.readouterr().err
    assert "epoch 1, step " in message
    assert "the loss is nan" in message
    assert "toy/case_5" in message
    assert not (tmp_path / "out" / "weights.pt").exists()


def test_a_patch_that_shrinks_to_a_single_voxel_says_so(cohort, tmp_path, capsys):
    """torch cannot normalise one value by itself."""
    model = FLAT | {"patch_size": [8, 8], "batch_size": 1}
    assert main(cohort.words(tmp_path / "out", model)) == 1
    said = capsys.readouterr().err
    assert "shrinks to one voxel in this" in said and "Traceback" not in said


def test_out_of_memory_says_what_was_tried_and_what_to_lower(cohort, tmp_path, capsys, monkeypatch):
    def full(self, number, batch):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as planted:
        planted.setattr(module.Trainer, "step", full)
        assert main(cohort.words(tmp_path / "out", QUICK)) == 1
    told = "GPU's memory is too small; lower batch_size (2), patch_size (16x16x8 voxels) or the network's width"
    assert told in capsys.readouterr().err
    # The next attempt of a job is given more of the machine's memory, which is no help.
    assert main([*cohort.words(tmp_path / "out", QUICK), "--attempt", "2"]) == 1
    assert f"as in the attempt before: the {told}" in capsys.readouterr().err
    # A person who starts it again may have made room.
    assert main(cohort.words(tmp_path / "out", QUICK)) == 0


@pytest.mark.parametrize("where", ["describe", "to", "cudnn"])
def test_a_gpu_that_is_too_small_is_told_wherever_it_shows(
    cohort, tmp_path, capsys, monkeypatch, where
):
    error = torch.OutOfMemoryError("CUDA out of memory")
    if where == "cudnn":
        error = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    def full(*_, **__):
        raise error

    if where == "describe":
        monkeypatch.setattr(module, "describe", full)
    elif where == "to":
        monkeypatch.setattr(torch.nn.Module, "to", full)
    else:
        monkeypatch.setattr(module.Trainer, "_forward", full)
    assert main(cohort.words(tmp_path / "out", QUICK)) == 1
    assert "the GPU's memory is too small" in capsys.readouterr().err


def test_a_cpu_trains_in_single_precision_whatever_it_can(cohort, tmp_path, monkeypatch, caplog):
    """Its weight gradients in bfloat16 are wrong where a network's bottom has few voxels."""
    monkeypatch.setattr(trainer, "half_precision", lambda _: torch.bfloat16)
    caplog.set_level(logging.INFO)
    output = train(cohort, tmp_path / "out", QUICK | {"amp": True})
    assert json.loads((output / "settings.json").read_text())["precision"] == "float32"
    assert "on cpu in float32 with 1 threads" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("model", [QUICK, FLAT], ids=["unet", "enet"])
def test_training_on_a_gpu(cohort, tmp_path, model):
    output = train(cohort, tmp_path / "out", model | {"device": "cuda"})
    assert json.loads((output / "settings.json").read_text())["precision"] != "float32"
    assert load_weights(output / "weights.pt", "cuda").network is not None


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"name": "adamw", "betas": (0.8, 0.9)}, torch.optim.AdamW),
        ({"name": "adam"}, torch.optim.Adam),
        ({"name": "sgd", "momentum": 0.95}, torch.optim.SGD),
        ({"name": "sgd", "momentum": 0.0}, torch.optim.SGD),
    ],
)
def test_optimizers_are_as_asked(settings, kind):
    network = torch.nn.Linear(3, 2)
    optimizer = trainer.build_optimizer(Optimizer(lr=0.1, weight_decay=0.01, **settings), network)
    group = optimizer.param_groups[0]
    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.01)
    if kind is torch.optim.SGD:
        assert group["momentum"] == settings["momentum"]
        assert group["nesterov"] == (settings["momentum"] > 0)
    else:
        assert group["betas"] == settings.get("betas", (0.9, 0.999))
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("largest", [0.01, 1e6])
def test_a_step_is_as_long_as_the_gradients_largest_norm(cohort, tmp_path, monkeypatch, largest):
    """Plain SGD moves the weights by rate times gradient: by rate times `gradient_clip_norm` where that is less."""
    moved = []

    def step(self, number, batch):
        before = torch.cat([p.detach().flatten().clone() for p in self.network.parameters()])
        loss, norm = STEP(self, number, batch)
        after = torch.cat([p.detach().flatten() for p in self.network.parameters()])
        moved.append((float((after - before).norm()), norm))
        return loss, norm

    monkeypatch.setattr(module.Trainer, "step", step)
    sgd = {"name": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
    changes = {"optimizer": sgd, "schedule": {"name": "constant"}, "gradient_clip_norm": largest}
    train(cohort, tmp_path, QUICK | {"epochs": 1, "validation_fraction": 0.0} | changes)
    assert len(moved) == 2
    for length, norm in moved:
        assert norm > 0.01
        assert length == pytest.approx(0.5 * min(norm, largest), rel=1e-3)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weight_decay_takes_normalisations_and_biases_in(name):
    """As nnU-Net's SGD: without a gradient, every parameter shrinks."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    settings = Optimizer(name=name, lr=0.1, weight_decay=0.5, momentum=0.0)
    trainer.build_optimizer(settings, network).step()
    # Adam's first step has the size of its rate.
    expected = 0.9 if name == "adam" else 0.95
    for parameter in network.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_a_structure_that_is_nowhere_is_left_out_of_the_mean():
    values = np.array([[0.5, np.nan, np.nan], [0.7, 0.2, np.nan]])
    found = trainer.mean_known(values)
    assert found[:2].tolist() == pytest.approx([0.6, 0.2])
    assert np.isnan(found[2])
    assert float(trainer.mean_known(found)) == pytest.approx(0.4)
