"""Quality of predictions in files: maps, quality.csv with flags, agreement of a fold's cases, what is refused."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from segstudy import cli
from segstudy.errors import InputError
from segstudy.files import read_json, write_json
from segstudy.images.files import Image, read_image
from segstudy.infer import quality
from segstudy.infer.postprocess import Choice
from segstudy.infer.predict import predict_fold
from segstudy.networks.weights import load_weights, save_weights
from segstudy.quality import shape
from segstudy.quality.calibration import (
    Described,
    HeldOut,
    calibrate,
    to_record,
    training_ranges,
)

CPU = torch.device("cpu")
NAMES = ("shell", "core")
VALUES = {"shell": 1, "core": 2}


@pytest.fixture
def seeds(tmp_path, write_weights):
    """Two networks that differ a little in where the shell begins."""
    files = [write_weights(tmp_path / f"seed-{seed}.pt") for seed in (0, 1)]
    other = load_weights(files[1])
    with torch.no_grad():
        other.network.heads[0].bias[1] += 3
    save_weights(files[1], other)
    return files


@pytest.fixture
def scan(tmp_path, write_image, oblique):
    return write_image(tmp_path / "scan.nii.gz", oblique[0])


def calibration_of(oblique, shift=0.0):
    """Of 30 made scans whose structures are those of the image, all but `shift` of their log volume."""
    image, truth, affine = oblique
    features = shape.describe(Image(truth, affine), Image(image[None], affine), 3)
    random = np.random.default_rng(0)

    def varied(one):
        found = {
            name: value * float(np.exp(random.normal(0, 0.2) * shape.FEATURES[name].ratio))
            for name, value in one.items()
        }
        found["volume_ml"] *= float(np.exp(shift))
        return found

    ranges = training_ranges(
        {n: [varied(f) for _ in range(30)] for n, f in zip(NAMES, features, strict=True)}
    )
    scans = []
    for number in range(30):
        agreement = random.uniform(0.85, 1)
        scans.append(
            HeldOut(
                f"c{number}",
                f"s{number}",
                {n: Described(agreement, varied(f)) for n, f in zip(NAMES, features, strict=True)},
                dict.fromkeys(NAMES, agreement - 0.05),
                dict.fromkeys(NAMES, 1.02),
            )
        )
    return calibrate("unet", "seeds", ranges, scans)


def rows_of(folder):
    with (folder / "quality.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(*arguments):
    return cli.main(["infer", *map(str, arguments)])


def test_a_new_scan_gets_maps_and_a_judgement(tmp_path, seeds, scan, oblique):
    write_json(tmp_path / "quality.json", to_record(calibration_of(oblique)))
    out = tmp_path / "out"
    arguments = (
        *("--weights", *seeds, "--output", out, "--uncertainty"),
        *("--calibration", tmp_path / "quality.json", scan),
    )
    assert run(*arguments) == 0
    for name in ("entropy", "mutual_information"):
        values = read_image([out / name / "scan.nii.gz"]).array[0]
        assert values.shape == oblique[0].shape
        assert 0 < values.max() <= np.log(3) + 1e-5
        assert values.min() >= 0
    shell, core = rows_of(out)
    assert (shell["case"], shell["structure"], shell["agreement_of"]) == ("scan", "shell", "seeds")
    assert shell["flagged"] == core["flagged"] == "no"
    assert float(core["agreement"]) > 0.9
    assert float(core["dice_low"]) <= float(core["dice"]) <= float(core["dice_high"])
    assert float(core["volume_low_ml"]) < float(core["volume_ml"]) < float(core["volume_high_ml"])
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    (out / "quality.csv").unlink()
    assert run(*arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")} == before
    assert rows_of(out) == [shell, core]


def test_a_scan_apart_is_flagged_and_nothing_is_promised(tmp_path, seeds, scan, oblique):
    """Its structures have a fifth of the volume that those of the study have."""
    write_json(tmp_path / "quality.json", to_record(calibration_of(oblique, shift=np.log(5))))
    assert run("--weights", *seeds, "--output", tmp_path / "out", "--calibration",
               tmp_path / "quality.json", scan) == 0  # fmt: skip
    for row in rows_of(tmp_path / "out"):
        assert row["flagged"] == "yes"
        assert " volume " in row["reason"]
        assert row["dice"] == row["dice_low"] == row["volume_low_ml"] == ""


def test_a_single_network_is_judged_by_perturbed_images(tmp_path, seeds, scan, oblique, caplog):
    write_json(tmp_path / "quality.json", to_record(calibration_of(oblique)))
    assert run("--weights", seeds[0], "--output", tmp_path / "out", "--calibration",
               tmp_path / "quality.json", scan) == 0  # fmt: skip
    assert "calibrated on the agreement of seeds, and here it is of perturbed" in caplog.text
    for row in rows_of(tmp_path / "out"):
        assert row["agreement_of"] == "perturbed"
        assert 0.5 < float(row["agreement"]) < 1
        assert row["dice"] == ""
        assert row["flagged"] == "no"


def test_a_bundle_brings_its_calibration(tmp_path, seeds, scan, oblique, capsys):
    """As given by --calibration, to the byte; of a bundle beside other weights none is taken."""
    write_json(tmp_path / "unet.json", to_record(calibration_of(oblique)))
    write_json(tmp_path / "other.json", to_record(calibration_of(oblique)) | {"structures": {}})
    made = ("bundle", "--weights", *map(str, seeds), "--output", str(tmp_path / "model.bundle"))
    assert cli.main([*made, "--calibration", str(tmp_path / "other.json")]) == 1
    assert "give the calibration of the study" in capsys.readouterr().err
    assert not (tmp_path / "model.bundle").exists()
    assert cli.main([*made, "--calibration", str(tmp_path / "unet.json")]) == 0
    again = str(tmp_path / "again.bundle")
    assert cli.main(["bundle", "--weights", made[-1], "--output", again]) == 0
    assert cli.main(["bundle", "--show", again]) == 0
    assert "30 subjects, agreement of seeds" in capsys.readouterr().out
    assert run("--weights", again, "--output", tmp_path / "of_bundle", "--quality", scan) == 0
    assert run("--weights", *seeds, "--output", tmp_path / "given", "--calibration",
               tmp_path / "unet.json", scan) == 0  # fmt: skip
    assert rows_of(tmp_path / "of_bundle") == rows_of(tmp_path / "given")
    assert rows_of(tmp_path / "given")[0]["dice"] != ""
    assert run("--weights", again, "--output", tmp_path / "plain", scan) == 0
    assert not (tmp_path / "plain" / "quality.csv").exists()


def test_tables_of_earlier_predictions_do_not_outlive_them(tmp_path, seeds, scan):
    """Predicted anew without --quality, a scan has no row, and a table without rows is none."""
    assert run("--weights", *seeds, "--output", tmp_path / "out", "--quality", scan) == 0
    assert (tmp_path / "out" / "quality.csv").is_file()
    assert run("--weights", seeds[1], "--output", tmp_path / "out", scan) == 0
    assert not (tmp_path / "out" / "quality.csv").exists()


def test_maps_of_others_are_not_overwritten(tmp_path, seeds, scan, capsys):
    own = tmp_path / "out" / "entropy" / "scan.nii.gz"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert run("--weights", *seeds, "--output", tmp_path / "out", "--uncertainty", scan) == 1
    assert "entropy/scan.nii.gz: is there" in capsys.readouterr().err
    assert own.read_text() == "mine"


def test_what_a_calibration_cannot_tell_is_told(tmp_path, seeds, scan, oblique, caplog):
    """A structure without intervals of its own; networks of several folds, whose intervals are approximate."""
    calibration = calibration_of(oblique)
    structures = dict(calibration.structures)
    structures["core"] = replace(structures["core"], dice=None)
    write_json(tmp_path / "unet.json", to_record(replace(calibration, structures=structures)))
    other = load_weights(seeds[1])
    save_weights(seeds[1], replace(other, provenance=other.provenance | {"fold": "all"}))
    assert run("--weights", *seeds, "--output", tmp_path / "out", "--calibration",
               tmp_path / "unet.json", scan) == 0  # fmt: skip
    assert "no Dice is predicted of core" in caplog.text
    assert "intervals are approximate: these networks have seen more cases" in caplog.text
    assert [row["dice"] != "" for row in rows_of(tmp_path / "out")] == [True, False]


def test_a_job_that_is_killed_at_its_end_keeps_its_maps(tmp_path):
    """Maps are copied, so that they are there when they are gathered again."""
    label = tmp_path / "case.nii.gz"
    (tmp_path / "entropy").mkdir()
    (tmp_path / "entropy" / "case.nii.gz").write_text("map")
    write_json(tmp_path / "case.nii.gz.json", {"shell": 1.0})
    for attempt in ("killed", "again"):
        (tmp_path / attempt).mkdir()
        quality.gather_spread({"case": label}, "mirrored", tmp_path / attempt)
        assert (tmp_path / attempt / "entropy" / "case.nii.gz").read_text() == "map"


def test_without_calibration_no_flag_is_given(tmp_path, seeds, scan):
    assert run("--weights", *seeds, "--output", tmp_path / "out", "--quality", scan) == 0
    assert {row["flagged"] for row in rows_of(tmp_path / "out")} == {""}


def test_what_is_asked_of_networks_that_cannot_is_refused(tmp_path, seeds, scan, capsys):
    for option, words in (
        (("--uncertainty",), "one prediction an image disagrees with nothing"),
        (("--mc-dropout", 10), "has no dropout"),
        (("--mc-dropout", 1), "--mc-dropout 1: expected 2 or more"),
    ):
        assert run("--weights", seeds[0], "--output", tmp_path / "out", *option, scan) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_calibration_of_other_structures_is_refused(tmp_path, oblique):
    write_json(tmp_path / "quality.json", to_record(calibration_of(oblique)))
    with pytest.raises(InputError, match="of the structures core, shell; the weights have liver"):
        quality.calibration_of(read_json(tmp_path / "quality.json"), ["liver"], "quality.json")


def test_agreement_is_taken_after_post_processing(tmp_path):
    """A stray voxel of one member goes with its largest component, and with it the disagreement."""
    one = np.zeros((6, 6, 6), np.uint8)
    one[:3, :3, :3] = 1
    other = one.copy()
    other[5, 5, 5] = 1
    spread = quality.Spread(Image(one, np.eye(4)), None, None, None, (one, other))
    for largest, expected in ((True, 1.0), (False, 2 * 27 / 55)):
        found = quality.agreement(spread, "members", {"shell": Choice(largest)}, ["shell"])
        assert found == pytest.approx({"shell": expected})


def test_a_fold_keeps_agreement_and_maps(tmp_path, write_weights, write_image, oblique):
    """A network that mirrors, as settings of the study have it."""
    settings = {"mirror_axes": ["right_left"], "uncertainty": True}
    trained = load_weights(write_weights(tmp_path / "weights.pt", infer=settings))
    tested = {name: [write_image(tmp_path / f"{name}.nii.gz", oblique[0])] for name in ("a", "b")}
    predict_fold(trained, tested, VALUES, [], CPU, tmp_path / "out")
    found = read_json(tmp_path / "out" / "agreement.json")
    assert found["of"] == "mirrored"
    assert set(found["cases"]) == {"a", "b"}
    assert found["cases"]["a"] == found["cases"]["b"]
    assert 0.9 < found["cases"]["a"]["shell"] <= 1
    for name in ("entropy", "mutual_information"):
        assert sorted(path.name for path in (tmp_path / "out" / name).iterdir()) == [
            "a.nii.gz",
            "b.nii.gz",
        ]
    assert not (tmp_path / "out.partial").exists()


def test_a_fold_of_one_network_agrees_with_perturbed_images(
    tmp_path, write_weights, write_image, oblique
):
    """The label is that of the image as it is; the agreement that of new scans, the same each time."""
    paths = [write_image(tmp_path / "a.nii.gz", oblique[0])]
    asked = load_weights(write_weights(tmp_path / "asked.pt", infer={"agreement": True}))
    plain = load_weights(write_weights(tmp_path / "plain.pt"))
    for name, trained in {"one": asked, "two": asked, "plain": plain}.items():
        predict_fold(trained, {"a": paths}, VALUES, [], CPU, tmp_path / name)
    found = read_json(tmp_path / "one" / "agreement.json")
    assert found == read_json(tmp_path / "two" / "agreement.json")
    assert found["of"] == "perturbed"
    assert (
        run("--weights", tmp_path / "plain.pt", "--output", tmp_path / "new", "--quality", *paths)
        == 0
    )
    for row in rows_of(tmp_path / "new"):
        told = found["cases"]["a"][row["structure"]]
        assert 0 < told < 1
        assert float(row["agreement"]) == pytest.approx(told, abs=1e-6)
    one, other = (read_image([tmp_path / name / "a.nii.gz"]).array for name in ("one", "plain"))
    assert (one != other).mean() < 0.01


def test_a_fold_without_such_settings_is_as_it_was(tmp_path, write_weights, write_image, oblique):
    trained = load_weights(write_weights(tmp_path / "weights.pt"))
    tested = {"a": [write_image(tmp_path / "a.nii.gz", oblique[0])]}
    predict_fold(trained, tested, VALUES, [], CPU, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.nii.gz",
        "postprocessing.json",
    ]


def test_mc_dropout_of_the_settings_predicts_as_often(
    tmp_path, write_weights, write_image, oblique
):
    """Equal bytes of two runs, and another answer than without dropout."""
    trained = load_weights(write_weights(tmp_path / "weights.pt"))
    tested = {"a": [write_image(tmp_path / "a.nii.gz", oblique[0])]}
    dropping = torch.nn.Sequential(torch.nn.Dropout3d(0.5), trained.network).eval()
    infer = trained.model.infer.model_copy(update={"mc_dropout": 3})
    model = trained.model.model_copy(update={"infer": infer})
    for name in ("one", "two"):
        predict_fold(
            replace(trained, network=dropping, model=model),
            tested,
            VALUES,
            [],
            CPU,
            tmp_path / name,
        )
    files = [(tmp_path / name / "a.nii.gz").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    assert read_json(tmp_path / "one" / "agreement.json")["of"] == "mc_dropout"
    predict_fold(trained, tested, VALUES, [], CPU, tmp_path / "none")
    assert (tmp_path / "none" / "a.nii.gz").read_bytes() != files[0]
