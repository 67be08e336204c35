"""A fold's tested cases: which files are opened, what is chosen on what, and going on after a kill."""

import argparse
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segstudy.cases import Case, Labelled, Split, write_cases, write_splits
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.finished import Finished
from segstudy.images.files import read_label, write_label
from segstudy.infer import command, image, predict
from segstudy.infer.predict import choice_names, predict_fold, refuse_leaks
from segstudy.networks.weights import load_weights

CPU = torch.device("cpu")
VALUES = {"core": 2, "shell": 7}  # neither the order nor the values of the classes
TRAINING, VALIDATION = ("site/p1", "site/p3"), ("site/p5", "site/p7")


@pytest.fixture
def study(tmp_path, write_weights, write_image, oblique, ball):
    """Weights, four tested cases and two to choose on, whose images show a stray bright spot.

    The labels lack that spot. Those of the tested cases are no images: whoever opens one is stopped.
    """
    body, truth, affine = oblique
    stray = 1000 * np.clip(0.5 + ball((20, 12, 40), 4.0) / 1.5, 0, 1)
    cases = {}
    for number in (0, 2, 4, 6, 5, 7):
        name = f"p{number}"
        path = write_image(tmp_path / f"{name}.nii.gz", np.maximum(body, stray))
        cases[name] = Case(name, name, (path,), tmp_path / f"{name}-label.nii.gz")
        if number % 2:
            write_label(cases[name].label, np.array([0, 7, 2], np.uint8)[truth], affine)
        else:
            cases[name].label.write_text("not to be opened")
    model = load_weights(
        write_weights(
            tmp_path / "weights.pt",
            infer={"keep_largest_component": "auto"},
            seen=(TRAINING, VALIDATION),
        )
    )
    tested = {name: cases[name].images for name in ("p0", "p2", "p4", "p6")}
    choosing = [
        Labelled("site", cases[name.removeprefix("site/")], VALUES) for name in choice_names(model)
    ]
    return model, tested, choosing


def test_post_processing_is_chosen_without_opening_a_tested_label(tmp_path, study, oblique):
    model, tested, choosing = study
    for name in tested:
        with pytest.raises(InputError, match=f"{name}-label"):
            read_label(tmp_path / f"{name}-label.nii.gz")
    output = tmp_path / "predictions"
    predict_fold(model, tested, VALUES, choosing, CPU, output)
    assert sorted(path.name for path in output.iterdir()) == [
        *(f"p{number}.nii.gz" for number in (0, 2, 4, 6)),
        "postprocessing.json",
    ]
    assert not Path(f"{output}.partial").exists()
    record = read_json(output / "postprocessing.json")
    for name in VALUES:
        assert record[name]["keep_largest"]
        assert record[name]["dice_largest"] > record[name]["dice_all"]
        assert record[name]["cases"] == ["site/p5", "site/p7"]
    found = read_label(output / "p2.nii.gz")
    assert set(np.unique(found.array)) == {0, 2, 7}
    _, truth, affine = oblique
    assert np.array_equal(found.affine, np.float32(affine))
    assert not found.array[18:23, 8:16, 36:44].any(), "the stray spot is gone"
    assert (found.array > 0).sum() == pytest.approx((truth > 0).sum(), rel=0.03)
    assert (found.array == 2).sum() == pytest.approx((truth == 2).sum(), rel=0.05)


@pytest.mark.parametrize(("setting", "kept"), [("never", False), ("always", True)])
def test_a_setting_that_leaves_no_choice_looks_at_no_case(
    tmp_path, study, write_weights, setting, kept
):
    _, tested, _ = study
    model = load_weights(
        write_weights(
            tmp_path / "w.pt",
            infer={"keep_largest_component": setting},
            seen=(TRAINING, VALIDATION),
        )
    )
    assert choice_names(model) == []
    predict_fold(model, tested, VALUES, [], CPU, tmp_path / "out")
    record = read_json(tmp_path / "out" / "postprocessing.json")
    for name in VALUES:
        assert record[name] == {
            "keep_largest": kept, "dice_all": None, "dice_largest": None, "cases": []
        }  # fmt: skip
    stray = read_label(tmp_path / "out" / "p0.nii.gz").array[18:23, 8:16, 36:44]
    assert stray.any() != kept


def test_without_validation_cases_at_most_five_training_cases_choose(tmp_path, write_weights):
    seen = [f"site/p{number:02d}" for number in range(20)]
    weights = write_weights(
        tmp_path / "w.pt", infer={"keep_largest_component": "auto"}, seen=(seen[::-1], ())
    )
    assert choice_names(load_weights(weights)) == seen[:5]


def test_label_maps_choose_no_post_processing(tmp_path, write_weights):
    seen = [f"maps/m{number}" for number in range(3)]
    auto = {"keep_largest_component": "auto"}
    alone = load_weights(write_weights(tmp_path / "w.pt", infer=auto, seen=(seen, ("maps/v",))))
    assert choice_names(alone, ["maps"]) == []
    both = load_weights(
        write_weights(tmp_path / "b.pt", infer=auto, seen=([*seen, "site/a"], ("maps/v",)))
    )
    assert choice_names(both, ["maps"]) == ["site/a"]


def test_a_case_that_the_weights_saw_is_not_tested(study):
    model, tested, _ = study
    refuse_leaks(model, 0, "site", tested)
    refuse_leaks(model, 0, "elsewhere", ["p1", "p5"])  # other cases of the same name
    with pytest.raises(InputError, match="trained for fold 0, but --fold is 1"):
        refuse_leaks(model, 1, "site", tested)
    for name in ("p3", "p7"):
        with pytest.raises(InputError, match=f"site/{name}, which the weights were trained on"):
            refuse_leaks(model, 0, "site", [*tested, name])


def test_an_image_that_the_weights_saw_is_not_tested_whatever_its_name(study):
    model, tested, _ = study
    seen = {
        **model.provenance,
        "images": {"site/p3": "same", "site/p7": "other"},
        "initial_weights": {
            "file": "first.pt",
            "images": {"older": "centre/c1"},
            "knows_all": True,
        },
    }
    model = replace(model, provenance=seen)
    refuse_leaks(model, 0, "site", tested, {"site/p1": "new"})
    with pytest.raises(
        InputError, match=r"--weights: was trained on the image of site/p1 \(there site/p3\)"
    ):
        refuse_leaks(model, 0, "site", tested, {"site/p1": "same"})
    with pytest.raises(InputError, match=r"site/p1 \(there centre/c1 \(of first.pt\)\)"):
        refuse_leaks(model, 0, "site", tested, {"site/p1": "older"}, training=["site/p3"])
    # The splits have the fold learn from a case with this image, as a study asks for that shows the leak.
    refuse_leaks(model, 0, "site", tested, {"site/p1": "same"}, training=["site/p3"])
    # Not of all that were trained on with this image.
    seen["images"] = {"elsewhere/q": "same", "site/p3": "same"}
    with pytest.raises(InputError, match=r"site/p1 \(there elsewhere/q\)"):
        refuse_leaks(model, 0, "site", tested, {"site/p1": "same"}, training=["site/p3"])


@pytest.mark.parametrize("asked", [False, True])
def test_a_training_image_is_tested_on_request_alone(tmp_path, monkeypatch, asked):
    """A subject in two folds is what a study asks for; the images of other studies' training cases are refused."""
    rows = [("s", "t", "S", 0), ("s", "a", "A", 1), ("r", "b", "A" if asked else "B", 0)]
    write_splits(tmp_path / "splits.tsv", [Split(*row) for row in rows])
    write_cases(
        tmp_path / "cases.tsv", [Case("t", "S", (tmp_path / "i",), tmp_path / "l")], ["image"]
    )
    given = {}
    monkeypatch.setattr(
        command, "_predict_by_weights", lambda cases, training, *more: given.update(told=training)
    )
    told = {"splits": tmp_path / "splits.tsv", "cases": tmp_path / "cases.tsv"}
    told |= {"fold": 0, "dataset": "s", "structures": '{"heart": 1}', "output": tmp_path / "out"}
    told |= dict.fromkeys(("predictions", "external", "trained"))
    command._predict_fold(argparse.Namespace(**told, attempt=1, device="cpu"))
    assert given["told"] == ({"s/a"} if asked else set())


def test_a_killed_job_goes_on(tmp_path, study, monkeypatch):
    model, tested, choosing = study
    output = tmp_path / "predictions"
    predict_fold(model, tested, VALUES, choosing, CPU, tmp_path / "whole")
    real, seen = image.read, []

    def killed_at_the_third(model, paths, spacing_mm):
        seen.append(paths[0].name)
        if len(seen) == len(choosing) + 3:
            raise KeyboardInterrupt
        return real(model, paths, spacing_mm)

    monkeypatch.setattr(image, "read", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        predict_fold(model, tested, VALUES, choosing, CPU, output)
    assert not output.exists()

    # one of the two finished cases gets another file meanwhile: it must be predicted again
    path = tested["p0"][0]
    path.write_bytes(path.read_bytes() + b"\0")
    seen.clear()

    def counted(model, paths, spacing_mm):
        seen.append(paths[0].name)
        return real(model, paths, spacing_mm)

    monkeypatch.setattr(image, "read", counted)
    predict_fold(model, tested, VALUES, choosing, CPU, output)
    assert seen == ["p0.nii.gz", "p4.nii.gz", "p6.nii.gz"]
    assert not Path(f"{output}.partial").exists()
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (output / path.name).read_bytes(), path.name


def test_what_other_weights_predicted_is_not_reused(tmp_path, study, write_weights, monkeypatch):
    _, tested, _ = study
    waiting = tmp_path / "predictions.partial"

    def predicted_then_killed(model) -> list[Path]:
        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(predict, "writing_folder", killed)
            with pytest.raises(KeyboardInterrupt):
                predict_fold(model, tested, VALUES, [], CPU, tmp_path / "predictions")
        return list(waiting.iterdir())

    settings = {"seen": (TRAINING, VALIDATION)}
    one = load_weights(write_weights(tmp_path / "one.pt", **settings))
    other = load_weights(
        write_weights(tmp_path / "other.pt", **settings | {"infer": {"overlap": 0.25}})
    )
    kept = predicted_then_killed(one)
    assert len(kept) == 1
    assert len(list(kept[0].iterdir())) == len(tested) + 1
    assert predicted_then_killed(one) == kept
    left = predicted_then_killed(other)
    assert len(left) == 1
    assert left != kept


def test_structures_must_be_those_of_the_weights(tmp_path, study):
    model, tested, _ = study
    with pytest.raises(InputError, match="expected those of the weights: shell, core"):
        predict_fold(model, tested, {"core": 2}, [], CPU, tmp_path / "out")


def test_a_label_on_another_grid_than_its_image_is_refused(tmp_path, study, oblique):
    model, tested, choosing = study
    _, truth, affine = oblique
    moved = affine.copy()
    moved[0, 3] += 5
    write_label(choosing[0].case.label, truth, moved)
    with pytest.raises(InputError, match=r"p5-label.*case site/p5: other grid.*origin"):
        predict_fold(model, tested, VALUES, choosing, CPU, tmp_path / "out")


# --- predictions that were finished before --------------------------------------------------------


@pytest.fixture
def predicted(tmp_path, monkeypatch):
    """Predicts a fold into a new folder; returns its bytes by name, and the images that were read."""
    seen, real = [], image.read

    def counted(model, paths, spacing_mm):
        seen.append(paths[0].name)
        return real(model, paths, spacing_mm)

    monkeypatch.setattr(image, "read", counted)

    def run(model, tested, choosing, values=VALUES):
        seen.clear()
        output = tmp_path / "predictions"
        shutil.rmtree(output, ignore_errors=True)
        kept = Finished(tmp_path / "kept")
        predict_fold(model, tested, values, choosing, CPU, output, kept)
        assert not Path(f"{output}.partial").exists()
        return {path.name: path.read_bytes() for path in output.iterdir()}, list(seen)

    return run


def elsewhere(folder: Path, tested, choosing):
    """The same files in another folder."""
    folder.mkdir()

    def copied(path: Path) -> Path:
        return Path(shutil.copyfile(path, folder / path.name))

    cases = [replace(one.case, images=tuple(map(copied, one.case.images))) for one in choosing]
    cases = [replace(case, label=copied(case.label)) for case in cases]
    return (
        {name: tuple(map(copied, paths)) for name, paths in tested.items()},
        [replace(one, case=case) for one, case in zip(choosing, cases, strict=True)],
    )


def test_a_fold_that_was_predicted_before_is_taken_wherever_its_images_lie(
    tmp_path, study, predicted
):
    model, tested, choosing = study
    first, seen = predicted(model, tested, choosing)
    assert len(seen) == len(choosing) + len(tested)
    again, seen = predicted(model, *elsewhere(tmp_path / "moved", tested, choosing))
    assert not seen
    assert again == first
    shutil.rmtree(tmp_path / "kept")
    anew, seen = predicted(model, *elsewhere(tmp_path / "third", tested, choosing))
    assert len(seen) == len(choosing) + len(tested)
    assert anew == first


@pytest.mark.parametrize("change", [
    "image", "case", "label to choose on", "weights", "settings", "values", "code", "threads",
])  # fmt: skip
def test_whatever_decides_a_prediction_predicts_anew(study, predicted, monkeypatch, change):
    model, tested, choosing = study
    predicted(model, tested, choosing)
    values = VALUES
    if change == "image":
        tested["p0"][0].write_bytes(tested["p0"][0].read_bytes() + b"\0")
    elif change == "case":
        tested = {name: paths for name, paths in tested.items() if name != "p0"}
    elif change == "label to choose on":
        label = read_label(choosing[0].case.label)
        write_label(choosing[0].case.label, np.roll(label.array, 1, axis=0), label.affine)
    elif change == "weights":
        with torch.no_grad():
            model.network.heads[0].bias[1] += 1e-3
    elif change == "settings":
        infer = model.model.infer.model_copy(update={"overlap": 0.25})
        model = replace(model, model=model.model.model_copy(update={"infer": infer}))
    elif change == "values":
        values = {"core": 3, "shell": 7}
        choosing = [replace(one, structures=VALUES) for one in choosing]
    elif change == "code":
        monkeypatch.setattr("segstudy.jobs.code.digest", lambda *modules: "another")
    else:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    _, seen = predicted(model, tested, choosing, values)
    assert len(seen) == len(choosing) + len(tested)


def test_a_kept_prediction_that_was_damaged_is_made_anew(tmp_path, study, predicted):
    model, tested, choosing = study
    first, _ = predicted(model, tested, choosing)
    (label,) = tmp_path.glob("kept/*/p4.nii.gz")
    label.write_bytes(label.read_bytes()[:-1] + b"\1")
    again, seen = predicted(model, tested, choosing)
    assert seen and again == first


def test_what_was_chosen_or_named_otherwise_is_not_taken(tmp_path, study):
    """The same weights and files, but classes of other names, or training labels of other values."""
    model, tested, choosing = study

    def predicted(model, choosing, kept) -> dict[str, bytes]:
        output = tmp_path / "out"
        predict_fold(model, tested, VALUES, choosing, CPU, output, kept)
        found = {path.name: path.read_bytes() for path in output.iterdir()}
        shutil.rmtree(output)
        return found

    kept = Finished(tmp_path / "kept")
    exchanged = {"core": 7, "shell": 2}
    variants = [
        (model, choosing),
        (replace(model, structures=model.structures[::-1]), choosing),
        (model, [replace(labelled, structures=exchanged) for labelled in choosing]),
    ]
    taken = [predicted(*variant, kept) for variant in variants]
    assert taken[0] != taken[1] != taken[2] != taken[0]
    # Truth: predicted with nothing kept.
    for variant, found in zip(variants, taken, strict=True):
        assert predicted(*variant, Finished()) == found


def test_every_field_of_the_weights_decides_what_is_taken(study):
    model, _, choosing = study
    changed = {
        "structures": ("core", "shell"),
        "channels": ("other",),
        "model": model.model.model_copy(update={"planes": ("coronal",)}),
        "plan": model.plan | {"margin_mm": 3},
        "patch_size": (16, 16, 16),
        "left_right_pairs": (("shell", "core"),),
        "plugins": {"network": "my_net.py 4c5fa117d1973731"},
    }
    # What a training saw decides no more than whose cases choose.
    assert {*changed, "network", "provenance"} == {field.name for field in fields(model)}
    keys = {
        predict._key(replace(model, **{name: value}), VALUES, choosing)
        for name, value in changed.items()
    }
    assert len(keys | {predict._key(model, VALUES, choosing)}) == 1 + len(changed)
