"""nnU-Net as a model: what needs no nnU-Net, and where it is installed a whole training and prediction."""

import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch

from builders import write_cohort
from segstudy.cases import Case, Split, read_cases, read_splits, trained, write_cases, write_splits
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.files import read_grid, read_image, read_label, write_label, write_nifti
from segstudy.images.geometry import reorient
from segstudy.networks import nnunet as networks
from segstudy.networks.weights import load_weights
from segstudy.study import NnunetModel, TrainSettings
from segstudy.train import nnunet as module
from segstudy.train.fold import Fold
from segstudy.train.nnunet import history, planner_class
from segstudy.train.run import Run

installed = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None,
    reason="nnunetv2 is not installed (pip install 'segstudy[nnunet]')",
)


@pytest.fixture
def own_environment(monkeypatch):
    """Put back the variables that `prepare` sets."""
    names = (*networks.FOLDERS, "nnUNet_def_n_proc", "nnUNet_n_proc_DA", "nnUNet_extTrainer")
    for name in (*names, "nnUNet_wandb_enabled"):
        monkeypatch.setenv(name, "the user's")


def test_the_folders_are_the_jobs_and_never_the_users(tmp_path, own_environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "nnunetv2", sys)
    networks.prepare(tmp_path, threads=3)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        assert os.environ[name] == str(tmp_path / name)
    assert {"nnUNet_def_n_proc": "3"}.items() <= os.environ.items()
    assert "nnUNet_extTrainer" not in os.environ
    assert not any(tmp_path.iterdir())


def test_where_nnunet_is_missing_it_is_said_how_to_install_it(
    tmp_path, own_environment, monkeypatch
):
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    with pytest.raises(InputError, match=r"pip install 'segstudy\[nnunet\]'"):
        networks.prepare(tmp_path)


POOLS = """
import multiprocessing, os, signal, sys
from segstudy.train.nnunet import _stopping
with _stopping():
    for _ in range(20):
        with multiprocessing.get_context("fork").Pool(2):
            pass
    print("pools ended", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_processes_that_nnunet_ends_do_end_and_so_does_the_job():
    """A pool is ended by SIGTERM; workers that took the job's handler along hung in one of five."""
    run = subprocess.run(
        [sys.executable, "-c", POOLS], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout == "pools ended\n"
    assert run.returncode == 128 + signal.SIGTERM


LOGGED = {
    "lrs": [0.01, 0.005],
    "train_losses": [np.float32(1.5), np.float32(0.5)],
    "val_losses": [1.25, 0.75],
    "dice_per_class_or_region": [[np.float32(0.5), np.nan], [0.75, 0.25]],
    "mean_fg_dice": [0.5, 0.5],
    "epoch_start_timestamps": [100.0, 103.0],
    "epoch_end_timestamps": [102.5, 104.0],
}


def test_the_history_says_whether_dice_is_of_cases_kept_apart():
    apart = history(LOGGED, ["heart", "aorta"], validated=True)
    assert list(apart) == [
        *("epoch", "lr", "train_loss", "validation_loss", "validation_dice_heart"),
        *("validation_dice_aorta", "validation_dice_mean", "seconds"),
    ]
    assert apart["epoch"].tolist() == [1, 2]
    assert apart["seconds"].tolist() == [2.5, 1.0]
    assert np.isnan(apart["validation_dice_aorta"][0])
    assert apart["validation_dice_aorta"][1] == 0.25
    seen = history(LOGGED, ["heart", "aorta"], validated=False)
    assert not any(name.startswith("validation") for name in seen)
    assert seen["training_dice_heart"].tolist() == [0.5, 0.75]


def test_weights_do_not_depend_on_where_nnunet_runs():
    one = NnunetModel(network="nnunet", threads=3, device="cpu", infer={"mirroring": False})
    assert one.learning() == NnunetModel(network="nnunet").learning()
    assert one.learning() != NnunetModel(network="nnunet", epochs=3).learning()


def test_by_default_it_is_trained_as_nnunet_is():
    model = NnunetModel(network="nnunet")
    assert (model.epochs, model.steps_per_epoch, model.validation_steps_per_epoch) == (1000, 250, 50)  # fmt: skip
    assert (model.configuration, model.infer.overlap, model.infer.mirroring) == ("3d_fullres", 0.5, True)  # fmt: skip


@pytest.mark.parametrize(
    ("planner", "network", "memory_gb"),
    [
        ("default", "PlainConvUNet", 8),
        ("resenc_m", "ResidualEncoderUNet", 8),
        ("resenc_l", "ResidualEncoderUNet", 24),
        ("resenc_xl", "ResidualEncoderUNet", 40),
    ],
)
def test_a_planner_is_nnunets_of_that_network_and_size(planner, network, memory_gb):
    """Sizes as Isensee et al. (2024) give them: the GPU memory that a network is planned for."""
    pytest.importorskip("nnunetv2")
    found = planner_class(NnunetModel(network="nnunet", planner=planner).planner)
    assert inspect.signature(found).parameters["gpu_memory_target_in_gb"].default == memory_gb
    assert f"self.UNet_class = {network}\n" in inspect.getsource(found.__init__)


OWN_TRAINER = """
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class Mine(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(plans, configuration, inputs, outputs, enable_deep_supervision=True):
        return torch.nn.Conv3d(inputs, outputs, 1)

class Other:
    pass
"""


def test_any_trainer_class_of_nnunets_or_an_own_one_is_found(
    tmp_path, own_environment, monkeypatch
):
    """Without importing all that nnU-Net has, of which some needs libraries that are not here."""
    pytest.importorskip("nnunetv2")
    assert networks.trainer_of("nnUNetTrainer_5epochs").__name__ == "nnUNetTrainer_5epochs"
    file = tmp_path / "own.py"
    file.write_text(OWN_TRAINER)
    model = NnunetModel(network="nnunet", trainer_class=f"{file}:Mine")
    assert model.plugins() == {"trainer_class": f"{file}:Mine"}
    own = networks.trainer_of(model.trainer_class)
    trainers = importlib.import_module("segstudy.train.nnunet_trainer")
    assert trainers.following(own).__mro__[1:3] == (trainers.Following, own)
    monkeypatch.setattr(networks, "managers", lambda plan: (None, None))
    built = networks.build_from_plan({}, 2, 3, f"{file}:Mine")
    assert (built.in_channels, built.out_channels) == (2, 3)
    with pytest.raises(InputError, match="nnUNetTrainerX: no such class in nnU-Net's training"):
        networks.trainer_of("nnUNetTrainerX")
    with pytest.raises(
        InputError, match="Other: expected a class derived from nnU-Net's nnUNetTrainer"
    ):
        networks.trainer_of(f"{file}:Other")


@pytest.mark.parametrize(("asked", "given"), [("auto", None), (3.5, 3.5)])
def test_nnunet_plans_for_the_memory_asked_for(tmp_path, monkeypatch, asked, given):
    """None is the planner's own."""
    api = pytest.importorskip("nnunetv2.experiment_planning.plan_and_preprocess_api")
    seen = []

    def plan(*planner, gpu_memory_target_in_gb):
        seen.append((planner[1], gpu_memory_target_in_gb))
        raise InterruptedError

    monkeypatch.setattr(module, "write_raw", lambda *_: {"linked": 0, "written": 0})
    monkeypatch.setattr(api, "extract_fingerprint_dataset", lambda *_, **__: None)
    monkeypatch.setattr(api, "plan_experiment_dataset", plan)
    model = NnunetModel(network="nnunet", planner="resenc_l", gpu_memory_gb=asked)
    settings = TrainSettings(model=model, structures=("a",), channels=("b",), modality="CT")
    with pytest.raises(InterruptedError):
        module._plan(SimpleNamespace(settings=settings, model=model, cases=[]), tmp_path, 1)
    assert seen == [(planner_class("resenc_l"), given)]


@pytest.mark.parametrize("asked", [True, False])
def test_nnunet_compiles_on_a_gpu_unless_told_not_to(tmp_path, monkeypatch, asked):
    trainers = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    monkeypatch.setenv("nnUNet_compile", "")
    monkeypatch.setenv("nnUNet_n_proc_DA", "")
    found = []

    class Trainer:
        output_folder = tmp_path

        def __init__(self, *_):
            self.device = torch.device("cuda")

        def follow(self, *_):
            pass

        def initialize(self):
            found.append(trainers.nnUNetTrainer._do_i_compile(self))

    monkeypatch.setattr("segstudy.train.nnunet_trainer.following", lambda _: Trainer)
    model = NnunetModel(network="nnunet", mirror="all", compile=asked)
    settings = TrainSettings(model=model, structures=("a",), channels=("b",), modality="CT")
    fold = Fold(settings, [], [], 0, 0)
    run = SimpleNamespace(device=torch.device("cpu"), threads=3)
    module._trainer(fold, {"plans": {}, "dataset": {}}, tmp_path, run)
    assert found == [asked]
    assert os.environ.get("nnUNet_n_proc_DA") == "2"  # noqa: SIM112


@pytest.mark.parametrize("where", ["initialize", "load_checkpoint", "run_training"])
def test_a_gpu_too_small_for_nnunet_is_told_wherever_it_shows(tmp_path, monkeypatch, where):
    monkeypatch.setenv("nnUNet_compile", "")
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    (tmp_path / "checkpoint_latest.pth").touch()
    calls = []

    class Trainer:
        output_folder = tmp_path

        def __init__(self, *_):
            self.num_epochs = self.current_epoch = 1

        def follow(self, *_):
            pass

    def planted(name):
        def call(*_):
            calls.append(name)
            if name == where:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return call

    for name in ("initialize", "load_checkpoint", "run_training"):
        setattr(Trainer, name, planted(name))
    stand_in = SimpleNamespace(following=lambda _: Trainer)  # which imports no nnU-Net
    monkeypatch.setitem(sys.modules, "segstudy.train.nnunet_trainer", stand_in)
    configuration = SimpleNamespace(batch_size=2, patch_size=(28, 256, 256))
    for name, value in {
        "prepare": None,
        "_key": "key",
        "_plan": {"plans": {}, "dataset": {}},
        "managers": (None, configuration),
        "trainer_of": None,
        "_described": {},
    }.items():
        monkeypatch.setattr(module, name, lambda *_, value=value: value)
    model = NnunetModel(network="nnunet", mirror="all")
    settings = TrainSettings(model=model, structures=("a",), channels=("b",), modality="CT")
    fold = SimpleNamespace(
        settings=settings, model=model, check=lambda: None, cases=[], validation=[], seed=0
    )
    told = (
        "GPU's memory is too small; a batch is 2 patches of 28x256x256 voxels: lower gpu_memory_gb"
    )
    run = Run(tmp_path / "out", torch.device("cpu"), 1, "code")
    with pytest.raises(InputError, match=told):
        module.fit(fold, run)
    assert calls[-1] == where
    with pytest.raises(InputError, match=f"as in the attempt before: the {told}"):
        module.fit(fold, replace(run, attempt=2))


def test_as_many_processes_make_batches_as_nnunet_starts_for_a_gpu(monkeypatch, caplog):
    """On a machine of 64 cores whose name nnU-Net doesn't know."""
    own = pytest.importorskip("nnunetv2.utilities.default_n_proc_DA")
    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(own.subprocess, "getoutput", lambda _: "node-7")
    wanted = own.get_allowed_n_proc_DA()
    gpu = torch.device("cuda")
    assert module.workers(NnunetModel(network="nnunet").threads, gpu) == wanted
    assert module.workers(1, torch.device("cpu")) == 0
    assert not caplog.records
    assert module.workers(8, gpu) == 7
    assert f"nnU-Net by itself starts {wanted}; " in caplog.text
    assert f"raise threads to {wanted + 1}" in caplog.text


def segstudy(*words, check=True) -> subprocess.CompletedProcess:
    run = subprocess.run(
        [sys.executable, "-m", "segstudy", *map(str, words)], capture_output=True, text=True
    )
    assert not check or run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run


def training(
    tmp_path: Path, channels=("image",), modality="CT", seed=3, pairs=(), ignores=False, **model
) -> list:
    """Words of a training of fold 0 on the cases of tables in `tmp_path`."""
    small = {"validation_steps_per_epoch": 1, "steps_per_epoch": 1, **model}
    settings = TrainSettings(
        model=NnunetModel(network="nnunet", **small),
        structures=("aorta", "heart"),
        channels=channels,
        modality=modality,
        left_right_pairs=pairs,
        ignores=ignores,
    )
    return [
        *("train", "--splits", tmp_path / "splits.tsv", "--fold", 0, "--seed", seed),
        *("--settings", settings.to_json(), "--device", "cpu", "--threads", 1),
        *("--cases", f"chest={tmp_path / 'cases.tsv'}", "--output", tmp_path / "train"),
        *("--structures", json.dumps({"chest": {"heart": 1, "aorta": 2}})),
    ]


def prediction(tmp_path: Path, settings: dict) -> list:
    return [
        *("infer", "--weights", tmp_path / "train" / "weights.pt", "--fold", 0),
        *("--splits", tmp_path / "splits.tsv", "--dataset", "chest"),
        *("--cases", tmp_path / "cases.tsv", "--structures", '{"aorta": 20, "heart": 300}'),
        *("--training-cases", f"chest={tmp_path / 'cases.tsv'}", "--settings"),
        *(json.dumps(settings), "--device", "cpu", "--threads", 1),
        *("--output", tmp_path / "infer"),
    ]


def write_tables(tmp_path: Path, channels: int = 1) -> None:
    """Four cases, of which fold 0 tests p0 and p2; with several channels in one 4D file."""
    write_cohort(tmp_path, 4, moved=False)
    cases = []
    for index in range(4):
        image = tmp_path / f"p{index}.nii.gz"
        if channels > 1:
            found = read_image(image)
            stacked = np.stack([found.array[0] * (n + 1) for n in range(channels)], -1)
            write_nifti(image, stacked, found.affine)
        label = tmp_path / f"p{index}_label.nii.gz"
        cases.append(Case(f"p{index}", f"s{index}", (image,), label))
    write_cases(tmp_path / "cases.tsv", cases, [f"c{n}" for n in range(channels)])
    splits = [Split("chest", f"p{n}", f"s{n}", n % 2) for n in range(4)]
    write_splits(tmp_path / "splits.tsv", splits)


@pytest.mark.usefixtures("own_environment")
def test_what_is_missing_on_the_command_line_is_named(tmp_path, capsys):
    words = [str(word) for word in training(tmp_path)]
    at = words.index("--cases")
    assert main(words[:at] + words[at + 2 :]) == 1
    assert "--cases is missing; nnunet needs it" in capsys.readouterr().err


# nnU-Net's own reading, predictor and export, told of the weights file only.
PEER = """
import sys
import torch
from segstudy.networks.weights import load_weights
trained = load_weights(sys.argv[1])
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from segstudy.networks.nnunet import managers
plans, configuration = managers(trained.plan)
predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
predictor.manual_initialization(
    trained.network, plans, configuration, [trained.network.state_dict()], trained.plan["dataset"],
    "nnUNetTrainer", trained.plan["mirroring_axes"],
)
image, properties = SimpleITKIO().read_images([sys.argv[2]])
found = predictor.predict_single_npy_array(image, properties)
SimpleITKIO().write_seg(found, sys.argv[3], properties)
"""


def emptied(tmp_path: Path, *names: str) -> None:
    """Cases whose label holds nothing, as the audit leaves them."""
    cases = []
    for case in read_cases(tmp_path / "cases.tsv"):
        label = read_label(case.label)
        if case.case in names:
            label = replace(label, array=np.zeros_like(label.array))
            write_label(case.label, label.array, label.affine)
        voxels = {name: int((label.array == n).sum()) for name, n in (("heart", 1), ("aorta", 2))}
        cases.append(replace(case, voxels=voxels))
    write_cases(tmp_path / "cases.tsv", cases, ["image"])


@pytest.mark.usefixtures("own_environment")
def test_training_cases_without_any_structure_teach_nothing(tmp_path, capsys):
    write_tables(tmp_path)
    emptied(tmp_path, "p1", "p3")
    assert main([str(word) for word in training(tmp_path, epochs=1, validation_fraction=0)]) == 1
    told = "fold 0: none of the 2 training cases has a voxel of aorta or heart"
    assert told in capsys.readouterr().err


@installed
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("share", [0, 0.4])
def test_a_healthy_control_is_trained_on_or_validated_on(tmp_path, share):
    write_tables(tmp_path)
    words = training(tmp_path, epochs=1, validation_fraction=share)
    plan = TrainSettings.model_validate_json(words[words.index("--settings") + 1]).model
    splits = read_splits(tmp_path / "splits.tsv")
    _, apart = trained(splits, 0, plan.validation_fraction, 3)
    emptied(tmp_path, apart[0].case if apart else "p3")
    segstudy(*words)
    assert load_weights(tmp_path / "train" / "weights.pt").structures == ("aorta", "heart")


@installed
@pytest.mark.slow
@pytest.mark.long
def test_a_training_that_is_killed_goes_on_and_predicts_as_nnunet_does(tmp_path):
    write_tables(tmp_path)
    words = training(tmp_path, epochs=3, steps_per_epoch=2)
    output = tmp_path / "train"
    job = subprocess.Popen(
        [sys.executable, "-m", "segstudy", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    results = output / "nnunet" / "nnUNet_results"
    while not list(results.rglob("checkpoint_latest.pth")):
        assert job.poll() is None, "ended before it could be killed"
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    # Nothing that a rule declares: Snakemake would call it incomplete.
    assert [path.name for path in output.iterdir()] == ["nnunet"]
    raw = output / "nnunet" / "nnUNet_raw" / "Dataset001_segstudy"
    assert {path.name for path in (raw / "imagesTr").iterdir()} == {
        *("chest-p1_0000.nii.gz", "chest-p3_0000.nii.gz")
    }
    assert (raw / "imagesTr" / "chest-p1_0000.nii.gz").samefile(tmp_path / "p1.nii.gz")

    run = segstudy(*words)
    assert "going on after epoch" in run.stderr
    assert "for nnU-Net" not in run.stderr  # plans and preprocessed cases were used again
    assert {path.name for path in output.iterdir()} == {
        *("weights.pt", "best.pt", "history.csv", "settings.json")
    }
    rows = pandas.read_csv(output / "history.csv")
    assert rows["epoch"].tolist() == [1, 2, 3]
    assert np.allclose(rows["lr"], 0.01 * (1 - np.arange(3) / 3) ** 0.9, rtol=1e-5)
    told = read_json(output / "settings.json")
    assert (told["steps_per_epoch"], told["steps"], told["device"]) == (2, 6, "cpu")
    assert told["training"] == ["chest/p1", "chest/p3"]
    assert told["plans"]["configurations"]["3d_fullres"]["patch_size"] == told["patch_size"]
    assert "nnunetv2" in told["versions"]
    assert told["parameters"] > 1e5

    segstudy(*prediction(tmp_path, {"keep_largest_component": "auto"}))
    record = read_json(tmp_path / "infer" / "postprocessing.json")
    # No label file holds 300, the heart's value here, so that there is no reference to choose by.
    assert record["heart"]["cases"] == []
    segstudy(*prediction(tmp_path, {"keep_largest_component": "never"}))
    assert {path.name for path in (tmp_path / "infer").iterdir()} == {
        *("p0.nii.gz", "p2.nii.gz", "postprocessing.json")
    }
    for case in ("p0", "p2"):
        image, peer = tmp_path / f"{case}.nii.gz", tmp_path / f"{case}-peer.nii.gz"
        subprocess.run(
            [sys.executable, "-c", PEER, output / "weights.pt", image, peer],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        found, expected = read_label(tmp_path / "infer" / f"{case}.nii.gz"), read_label(peer)
        assert len(np.unique(expected.array)) > 1
        assert np.array_equal(found.array, np.array([0, 20, 300])[expected.array])
        assert np.allclose(found.affine, read_image(image).affine)


@installed
@pytest.mark.slow
@pytest.mark.long
def test_two_channels_in_2d_with_a_case_kept_apart(tmp_path):
    """Of structures that are left and right of a pair, so that sides are not mirrored; see `mirror: auto`."""
    write_tables(tmp_path, channels=2)
    words = training(
        *(tmp_path, ("c0", "c1"), "MR"),
        epochs=1,
        configuration="2d",
        validation_fraction=0.4,
        pairs=(("aorta", "heart"),),
    )
    segstudy(*words)
    told = read_json(tmp_path / "train" / "settings.json")
    assert sorted(told["training"] + told["validation"]) == ["chest/p1", "chest/p3"]
    assert len(told["validation"]) == 1
    assert told["plans"]["configurations"]["2d"]["normalization_schemes"] == ["ZScoreNormalization"] * 2  # fmt: skip
    assert "validation_dice_heart" in pandas.read_csv(tmp_path / "train" / "history.csv")
    trained = load_weights(tmp_path / "train" / "weights.pt")
    assert len(trained.patch_size) == 2
    orientation = read_grid(tmp_path / "p1.nii.gz").orientation
    shown = list(reversed([letter in "RL" for letter in orientation]))
    shown = [shown[axis] for axis in told["plans"]["transpose_forward"]][1:]
    assert trained.plan["mirroring_axes"] == [n for n, lateral in enumerate(shown) if not lateral]
    assert trained.plan["orientations"] == [orientation]
    # The same image, stored along other axes, is given the same label.
    other = reorient(read_image(tmp_path / "p2.nii.gz", 2), "PIR")
    write_nifti(tmp_path / "p2.nii.gz", np.moveaxis(other.array, 0, -1), other.affine)
    write_nifti(tmp_path / "p0.nii.gz", np.moveaxis(reorient(other, orientation).array, 0, -1),
                reorient(other, orientation).affine)  # fmt: skip
    segstudy(*prediction(tmp_path, {"keep_largest_component": "never"}))
    one, two = (read_label(tmp_path / "infer" / f"{name}.nii.gz") for name in ("p0", "p2"))
    assert (two.grid.orientation, two.grid.shape) == ("PIR", other.grid.shape)
    assert one.array.any()
    np.testing.assert_array_equal(reorient(two, orientation).array, one.array)


@installed
@pytest.mark.slow
@pytest.mark.long
def test_the_same_data_elsewhere_are_taken_from_what_was_kept(tmp_path):
    left = {}
    for place in ("one", "two"):
        folder = tmp_path / place
        write_tables(folder)
        kept = ("--finished", tmp_path / "kept")
        trained = segstudy(*training(folder, epochs=1, configuration="2d"), *kept)
        said = [trained.stderr]
        said.append(segstudy(*prediction(folder, {"mirroring": False}), *kept).stderr)
        taken = ["made before of the same settings, data and code" in text for text in said]
        assert taken == [place == "two"] * 2
        files = [path for name in ("train", "infer") for path in (folder / name).iterdir()]
        left[place] = {path.name: path.read_bytes() for path in files}
    assert {"weights.pt", "best.pt", "p0.nii.gz", "p2.nii.gz"} < set(left["one"])
    assert left["one"] == left["two"]
    changed = segstudy(*training(tmp_path / "two", epochs=1, configuration="2d", seed=4), *kept)
    assert "made before" not in changed.stderr


@installed
def test_a_weights_file_that_names_other_code_is_refused(own_environment):
    plan = {
        "plans": {
            "configurations": {
                "2d": {
                    "architecture": {
                        "network_class_name": "os.system",
                        "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv2d"},
                        "_kw_requires_import": ["conv_op"],
                    }
                }
            }
        },
        "configuration": "2d",
    }
    with pytest.raises(InputError, match=r"names 'os\.system', which is no network"):
        networks.build_from_plan(plan, 1, 3)
    architecture = plan["plans"]["configurations"]["2d"]["architecture"]
    architecture["network_class_name"] = (
        "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    )
    architecture["arch_kwargs"]["conv_op"] = "torch.nn.modules.module.torch.load"
    with pytest.raises(InputError, match=r"names 'torch\.nn\.modules\.module\.torch\.load'"):
        networks.build_from_plan(plan, 1, 3)


@installed
@pytest.mark.slow
@pytest.mark.long
def test_what_nobody_has_labelled_is_given_to_nnunet_as_its_ignore(tmp_path):
    """It trains by the labelled slices alone, predicts everywhere, and never predicts `ignore`."""
    write_tables(tmp_path)
    for index in range(4):
        path = tmp_path / f"p{index}_label.nii.gz"
        label = read_label(path)
        sparse = label.array.copy()
        sparse[..., 1::2] = 255
        write_label(path, sparse, label.affine)
    words = training(tmp_path, epochs=1, ignores=True)
    segstudy(*words, "--ignore", '{"chest": [255]}')
    told = read_json(tmp_path / "train" / "settings.json")
    assert told["dataset"]["labels"] == {"background": 0, "aorta": 1, "heart": 2, "ignore": 3}
    assert "takes them for foreground in the intensities" in told["remark"]
    assert np.isfinite(pandas.read_csv(tmp_path / "train" / "history.csv")["train_loss"]).all()
    words = prediction(tmp_path, {"keep_largest_component": "auto"})
    segstudy(*words, "--ignore", '{"chest": [255]}')
    for case in ("p0", "p2"):
        assert set(np.unique(read_label(tmp_path / "infer" / f"{case}.nii.gz").array)) <= {
            0,
            20,
            300,
        }
    refused = segstudy(*words, "--ignore", '{"chest": 255}', check=False)
    assert '--ignore {"chest": 255}: expected JSON, {"DATASET": [VALUE, ...]}' in refused.stderr


@installed
@pytest.mark.slow
@pytest.mark.long
def test_fine_tuning_takes_all_of_a_checkpoint_but_its_last_layers(tmp_path):
    """From weights of its own kind: all but `seg_layers`; what is frozen ends as it began."""
    write_tables(tmp_path)
    segstudy(*training(tmp_path, epochs=1))
    state = torch.load(tmp_path / "train" / "weights.pt", weights_only=True)["state"]
    checkpoint = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": state, "_best_ema": np.float64(0.1)}, checkpoint)
    segstudy(*training(tmp_path, epochs=1, initial_weights=str(checkpoint), freeze=("encoder",)))
    told = read_json(tmp_path / "train" / "settings.json")["initial_weights"]
    assert told["file"] == "checkpoint_final.pth" and told["network"] == "nnunet"
    assert told["taken"] and told["anew"]
    assert all("seg_layers" in layer for layer in told["anew"])
    last = torch.load(tmp_path / "train" / "weights.pt", weights_only=True)["state"]
    same = {name for name in last if torch.equal(last[name], state[name])}
    assert {name for name in last if name.startswith("encoder.")} <= same
    assert set(last) - same
