"""A training that was finished before is taken from where it was kept, and only where nothing has changed."""

import json
import logging
import shutil

import pytest
import torch
from toy_cohort import SHAPE, Cohort, write_case

from segstudy.cli import main

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 1,
    "steps_per_epoch": 2,
    "device": "cpu",
}
TAKEN = "made before of the same settings, data and code"

pytestmark = pytest.mark.usefixtures("own_torch")


def outputs(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def train(tmp_path, caplog):
    """Trains into a new folder; returns what that left, and whether it was taken from what was kept."""
    caplog.set_level(logging.INFO)

    def run(cohort, model=MODEL, further=(), **options):
        caplog.clear()
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        words = [*cohort.words(output, model, **options), "--finished", str(tmp_path / "kept")]
        assert main([*words, *further]) == 0
        return outputs(output), TAKEN in caplog.text

    return run


def moved(cohort, folder, shards):
    """The cohort in another folder, its cases in so many shards."""
    for path in cohort.shards:
        for file in path.iterdir():
            number = int(file.name.split(".")[0].removeprefix("case_"))
            to = folder / "arrays" / f"{number % shards:03d}"
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    for name in ("splits.tsv", "plan.json"):
        shutil.copy(cohort.folder / name, folder)
    return Cohort(folder, cohort.plan)


def test_data_elsewhere_in_other_shards_are_the_same_data(cohort, tmp_path, train, monkeypatch):
    first, taken = train(cohort)
    assert not taken
    again, taken = train(moved(cohort, tmp_path / "elsewhere", shards=3))
    assert taken
    assert again == first, "history with its seconds too: it is the very training"
    # Truth: a training anew, without what was kept, ends with the same bytes.
    shutil.rmtree(tmp_path / "kept")
    anew, taken = train(moved(cohort, tmp_path / "third", shards=1))
    assert not taken
    for name in ("weights.pt", "best.pt"):
        assert anew[name] == first[name]


@pytest.mark.parametrize("change", [
    "settings", "seed", "fold", "data", "spacing", "code", "threads", "torch", "processor", "plan",
])  # fmt: skip
def test_what_shapes_the_weights_is_trained_anew(cohort, train, monkeypatch, change):
    train(cohort)
    model, options, further = MODEL, {}, []
    if change == "settings":
        model = MODEL | {"gradient_clip_norm": 3.0}
    elif change in ("seed", "fold"):
        options = {change: 1}
    elif change == "data":
        write_case(cohort.folder, 3, SHAPE, look=99)
    elif change == "spacing":
        file = next(cohort.folder.glob("arrays/*/case_3.json"))
        file.write_text(json.dumps(json.loads(file.read_text()) | {"spacing_mm": [1, 1, 2.5]}))
    elif change == "plan":
        file = cohort.folder / "plan.json"
        file.write_text(file.read_text().replace("250.0", "251.0"))
    elif change == "code":
        monkeypatch.setattr("segstudy.jobs.code.digest", lambda *modules: "another")
    elif change == "threads":
        further = ["--threads", "2"]
    elif change == "torch":
        version = {"torch": "another"}
        monkeypatch.setattr("segstudy.finished.versions_of", lambda *_: version)
    else:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    _, taken = train(cohort, model, further, **options)
    assert not taken
    assert train(cohort, model, further, **options)[1], "and kept in its turn"


@pytest.mark.parametrize("change", ["infer", "memory", "elsewhere tested"])
def test_what_does_not_is_not(cohort, train, change):
    train(cohort)
    model, further = MODEL, []
    if change == "infer":
        model = MODEL | {"infer": {"overlap": 0.25}}
    elif change == "memory":
        further = ["--memory-mb", "900"]
    else:
        write_case(cohort.folder, 2, SHAPE, look=99)  # of the fold that is left out
    assert train(cohort, model, further)[1]


def test_damaged_it_is_trained_anew(cohort, tmp_path, train):
    first, _ = train(cohort)
    (weights,) = tmp_path.glob("kept/*/weights.pt")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    again, taken = train(cohort)
    assert not taken
    assert again["weights.pt"] == first["weights.pt"]
    assert train(cohort)[1]


def test_nothing_is_kept_without_room(cohort, tmp_path, train):
    for _ in range(2):
        assert not train(cohort, MODEL, ["--finished-gb", "0"])[1]
    assert not (tmp_path / "kept").exists()


def test_a_negative_room_is_refused(cohort, tmp_path, capsys):
    words = cohort.words(tmp_path / "out", MODEL)
    assert main([*words, "--finished", "x", "--finished-gb", "-1"]) == 1
    assert "--finished-gb -1: expected 0 or more" in capsys.readouterr().err
