"""A fold's tested cases: which files are opened, what is chosen on what, and going on after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segstudy.cases import Case, Split, trained
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.files import read_label, write_label
from segstudy.infer import predict
from segstudy.infer.predict import choice_cases, predict_each, predict_fold
from segstudy.networks.weights import load_weights

CPU = torch.device("cpu")
VALUES = {"core": 2, "shell": 7}  # neither the order nor the values of the classes


@pytest.fixture
def study(tmp_path, write_weights, write_image, oblique, ball):
    """Eight cases in two folds, whose images show a stray bright spot that their labels lack.

    The labels of the tested cases are no images: whoever opens one is stopped.
    """
    image, truth, affine = oblique
    stray = 1000 * np.clip(0.5 + ball((20, 12, 40), 4.0) / 1.5, 0, 1)
    splits = [Split("site", f"p{n}", f"p{n}", fold=n % 2) for n in range(8)]
    cases = []
    for split in splits:
        case = Case(
            case=split.case,
            subject=split.subject,
            images=(tmp_path / f"{split.case}.nii.gz",),
            label=tmp_path / f"{split.case}-label.nii.gz",
        )
        write_image(case.images[0], np.maximum(image, stray))
        if split.fold == 0:
            case.label.write_text("not to be opened")
        else:
            write_label(case.label, np.array([0, 7, 2], np.uint8)[truth], affine)
        cases.append(case)
    weights = write_weights(tmp_path / "weights.pt", keep_largest_component="auto")
    return load_weights(weights), splits, cases


def choosing_of(splits, cases, share=0.3):
    return choice_cases(splits, 0, 5, share, {"site": cases}, {"site": VALUES})


def images_of(cases):
    return {case.case: case.images for case in cases[::2]}


def test_post_processing_is_chosen_without_opening_a_tested_label(tmp_path, study, oblique):
    model, splits, cases = study
    choosing = choosing_of(splits, cases)
    assert {labelled.case.case for labelled in choosing} == {
        split.case for split in trained(splits, 0, 0.3, 5)[1]
    }
    output = tmp_path / "predictions"
    predict_fold(model, images_of(cases), VALUES, choosing, CPU, output)
    assert sorted(path.name for path in output.iterdir()) == [
        *(f"p{n}.nii.gz" for n in (0, 2, 4, 6)),
        "postprocessing.json",
    ]
    assert not Path(f"{output}.partial").exists()
    record = read_json(output / "postprocessing.json")
    for name in VALUES:
        assert record[name]["keep_largest"]
        assert record[name]["dice_largest"] > record[name]["dice_all"]
        assert record[name]["cases"] == [labelled.name for labelled in choosing]
    found = read_label(output / "p2.nii.gz")
    assert set(np.unique(found.array)) == {0, 2, 7}
    _, truth, affine = oblique
    assert np.array_equal(found.affine, np.float32(affine))
    assert not found.array[18:23, 8:16, 36:44].any(), "the stray spot is gone"
    assert (found.array > 0).sum() == pytest.approx((truth > 0).sum(), rel=0.03)
    assert (found.array == 2).sum() == pytest.approx((truth == 2).sum(), rel=0.05)


def test_a_tested_label_that_were_opened_would_stop_the_job(study):
    """The trap of the test above works: the label of a tested case cannot be read."""
    _, _, cases = study
    with pytest.raises(InputError, match="p0-label"):
        read_label(cases[0].label)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_no_tested_case_ever_chooses(study, fold, share):
    _, splits, cases = study
    splits = [*splits, Split("other", "x", "x", fold=None)]
    found = choice_cases(splits, fold, 1, share, {"site": cases}, {"site": VALUES})
    tested = {split.case for split in splits if split.fold in (fold, None)}
    assert found
    assert not tested & {labelled.case.case for labelled in found}


def test_without_validation_cases_at_most_five_training_cases_choose():
    splits = [Split("site", f"p{n:02d}", f"p{n:02d}", fold=n % 3) for n in range(30)]
    cases = [Case(split.case, split.subject, (), Path("x")) for split in splits]
    found = choosing_of(splits, cases, share=0)
    assert [labelled.case.case for labelled in found] == ["p01", "p02", "p04", "p05", "p07"]


def test_a_training_dataset_that_is_not_given_is_named(study):
    _, splits, cases = study
    with pytest.raises(InputError, match="--training-cases.*dataset site"):
        choice_cases(splits, 0, 5, 0.3, {}, {"site": VALUES})
    with pytest.raises(InputError, match="--training-structures.*dataset site"):
        choice_cases(splits, 0, 5, 0.3, {"site": cases}, {})


def test_a_killed_job_goes_on(tmp_path, study, monkeypatch, caplog):
    model, splits, cases = study
    choosing, output = choosing_of(splits, cases), tmp_path / "predictions"
    predict_fold(model, images_of(cases), VALUES, choosing, CPU, tmp_path / "whole")
    real, seen = predict.predict_image, []

    def killed_at_the_third(model, paths, *others):
        seen.append(paths[0].name)
        if len(seen) == len(choosing) + 3:
            raise KeyboardInterrupt
        return real(model, paths, *others)

    monkeypatch.setattr(predict, "predict_image", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        predict_fold(model, images_of(cases), VALUES, choosing, CPU, output)
    assert not output.exists()

    # one of the two finished cases gets another image meanwhile: it must be predicted again
    cases[0].images[0].write_bytes(cases[1].images[0].read_bytes() + b"\n")
    seen.clear()

    def counted(model, paths, *others):
        seen.append(paths[0].name)
        return real(model, paths, *others)

    monkeypatch.setattr(predict, "predict_image", counted)
    predict_fold(model, images_of(cases), VALUES, choosing, CPU, output)
    assert seen == ["p0.nii.gz", "p4.nii.gz", "p6.nii.gz"]
    assert not Path(f"{output}.partial").exists()
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (output / path.name).read_bytes(), path.name


def test_what_other_weights_predicted_is_not_reused(tmp_path, study, write_weights, monkeypatch):
    model, splits, cases = study
    choosing, output = choosing_of(splits, cases), tmp_path / "predictions"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict, "writing_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_fold(model, images_of(cases), VALUES, choosing, CPU, output)
    kept = list(Path(f"{output}.partial").iterdir())
    assert len(kept) == 1
    other = load_weights(write_weights(tmp_path / "other.pt", overlap=0.25))
    with monkeypatch.context() as patch:
        patch.setattr(predict, "writing_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_fold(other, images_of(cases), VALUES, choosing, CPU, output)
    left = list(Path(f"{output}.partial").iterdir())
    assert len(left) == 1
    assert left != kept


def test_one_bad_image_stops_no_other_and_is_named(tmp_path, study):
    model, _, cases = study
    images = images_of(cases)
    images["p2"][0].write_bytes(images["p2"][0].read_bytes()[:2000])
    done = []
    with pytest.raises(InputError, match=r"p2\.nii\.gz.*damaged(?s:.*)1 of 4 images"):
        predict_each(model, images, CPU, lambda name, classes: done.append(name))
    assert done == ["p0", "p4", "p6"]


def test_structures_must_be_those_of_the_weights(tmp_path, study):
    model, _, cases = study
    with pytest.raises(InputError, match="expected those of the weights: shell, core"):
        predict_fold(model, images_of(cases), {"core": 2}, [], CPU, tmp_path / "out")
