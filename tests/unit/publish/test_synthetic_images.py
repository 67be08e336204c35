"""The figure of synthetic training images, and what the methods text says of models without training images."""

import numpy as np
import pytest

from segstudy.errors import InputError
from segstudy.publish import catalogue, methods, style
from segstudy.publish.draw import synthesis
from segstudy.publish.look import Look
from segstudy.publish.results import Results
from segstudy.study import ExternalModel, Study, Synthesis


def study() -> Study:
    dataset = {
        "source": {"layout": "table", "path": "table.tsv"},
        "modality": "MR",
        "structures": {"left": 3, "right": 9},
    }
    program = {
        "trainer": "external",
        "command": "tools/label {image} {output}",
        "labels": {"left": 1, "right": [2, 3]},
    }
    models = {"drawn": {"trainer": "synth"}, "program": program}
    return Study.model_validate({"name": "s", "datasets": {"brains": dataset}, "models": models})


@pytest.fixture
def results(tmp_path) -> Results:
    folder = tmp_path / "train/drawn/fold-0/seed-0"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, (5, 30, 24)).astype(np.uint8)
    np.savez(
        folder / "samples.npz",
        map=labels[0],
        images=draw.normal(size=labels.shape).astype(np.float32),
        labels=labels,
        pixel_mm=np.array([1.0, 2.0]),
        axes=np.array([0, 2]),
    )
    return Results(study(), tmp_path)


def test_only_a_synthetic_arm_has_the_figure():
    kinds = [(figure.kind, figure.model) for figure in catalogue.figures(study())]
    assert [model for kind, model in kinds if kind == "synthesis"] == ["drawn"]
    alone = study().model_copy(update={"models": {"program": study().models["program"]}})
    assert not {"training", "synthesis"} & {found.kind for found in catalogue.figures(alone)}


def test_map_and_images_with_what_was_learned_from_each(results):
    (figure,) = [found for found in catalogue.figures(results.study) if found.kind == "synthesis"]
    with style.paper():
        drawing = synthesis.draw(results, figure)
    labels = results.samples("drawn", 0, 0)["labels"]
    for structure, value in (("left", 1), ("right", 2)):
        counted = [int((label == value).sum()) for label in labels]
        assert drawing.table[f"voxels_{structure}"].tolist() == counted
    pictures = [axes for axes in drawing.figure.axes if axes.images]
    assert len(pictures) == 1 + 2 * 5
    # Of a coronal slice of 30 x 24 pixels of 1 x 2 mm: 30 mm wide and 48 mm high.
    assert pictures[1].images[0].get_extent() == [0, 30, 48, 0]
    assert "Coronal slices" in drawing.caption and "5 images" in drawing.caption


def test_right_is_on_the_left_and_the_front_at_the_top():
    picture = np.zeros((4, 3))
    picture[3, 2] = 1  # right and front
    assert synthesis.upright(picture)[0, 0] == 1


def test_missing_samples_name_the_stage_that_makes_them(tmp_path):
    with pytest.raises(InputError, match=r"samples\.npz: no such file; the train stage makes it"):
        Results(study(), tmp_path).samples("drawn", 0, 0)


def test_the_methods_text_tells_what_both_are():
    text = methods._external(Look(study()), "program", study().models["program"])
    assert "program is the program label, which was not trained here" in text
    assert "merged into right (2 and 3)" in text
    assert isinstance(study().models["program"], ExternalModel)
    drawn = methods._synthesis(Synthesis(rotation_deg=7))
    assert "[[billot2023]]" in drawn and "±7°" in drawn
