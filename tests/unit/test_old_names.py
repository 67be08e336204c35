"""Keys of the version before: read as today's, told of once, and refused beside their new names."""

import json
import logging
import re
from pathlib import Path

import pytest
import yaml

from segstudy.errors import InputError
from segstudy.study import Study, TrainSettings, from_json, read_study
from segstudy.study_command import schema, settings_of

REPOSITORY = Path(__file__).resolve().parents[2]


RENAMED = sorted(
    {
        (kind.__name__, old, new)
        for kind in settings_of(Study)
        for old, new in kind.old_names.items()
    }
)
OLD = """
datasets:
  brain:
    source: {layout: oasis_slices, path: slices, cases_are: slices}
    modality: MR
    structures: {csf: 1, grey: 2}
    ignore_labels: [9]
    repair: {structure: csf, reference_case: a, sweep_also: [tilt]}
  chest:
    source: {layout: phantom, tampered: false}
    role: test
    modality: MR
    structures: {csf: 1, grey: 2}
preprocess: {default: {}, maps: {}}
models:
  enet: &enet
    network: enet
    foreground_share: 0.75
    validation_share: 0.2
    augmentation: {preset: strong, noise_share: 0.9}
  again: {<<: *enet, epochs: 3}
  drawn:
    trainer: synth
    plan: maps
    synthesis: {left_right_share: 0, isotropic_mm: 3, slice_spacing_mm: 7}
  nnunet: {trainer: nnunet, validation_share: 0.3}
  search:
    network: unet
    grid: {augmentation.noise_share: [0.1, 0.2], foreground_share: [0.3]}
  program: {trainer: external, command: "a {image} {output}", labels: {csf: 1, grey: 2}, ignore_labels: [7]}
metrics:
  groups: {groups: [csf, grey]}
"""
PLACES = {
    "datasets.brain.source.cases_are": "case_unit",
    "datasets.brain.ignore_labels": "background_labels",
    "datasets.brain.repair.sweep_also": "additional_degrees_of_freedom",
    "datasets.chest.source.tampered": "simulated_corruption",
    "models.enet.foreground_share": "foreground_fraction",
    "models.enet.validation_share": "validation_fraction",
    "models.enet.augmentation.noise_share": "noise_probability",
    "models.drawn.synthesis.left_right_share": "left_right_probability",
    "models.drawn.synthesis.isotropic_mm": "max_isotropic_spacing_mm",
    "models.drawn.synthesis.slice_spacing_mm": "max_slice_spacing_mm",
    "models.search.grid": "grid_search",
    "metrics.groups": "composite_regions",
}
"""First place of each old name in `OLD`, and the name of today."""


@pytest.fixture
def told(tmp_path, caplog):
    """A function: the study of a text, and what was told of it."""

    def read(text: str) -> tuple[Study, list[str]]:
        caplog.clear()
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        with caplog.at_level(logging.WARNING):
            study = read_study(file)
        return study, caplog.messages

    return read


def test_a_study_by_old_names_is_that_by_todays(told):
    text = OLD.replace("{groups: [csf", "{both: [csf")
    new = text
    for place, today in PLACES.items():
        new = re.sub(rf"\b{place.rsplit('.', 1)[1]}:", f"{today}:", new)
    new = new.replace("augmentation.noise_share", "augmentation.noise_probability")
    assert "_share" not in new
    (old_study, notes), (new_study, silence) = told(text), told(new)
    assert old_study == new_study
    assert notes and not silence
    assert old_study.models["enet"].augmentation.noise_probability == 0.9
    assert old_study.models["enet"].augmentation.affine_probability == 0.8  # of the preset
    assert old_study.models["search_np0p2_ff0p3"].augmentation.noise_probability == 0.2


def test_each_old_name_is_told_of_once_with_file_key_and_new_name(told, tmp_path):
    _, notes = told(OLD)
    assert len(notes) == len(PLACES)
    for place, today in PLACES.items():
        (note,) = [note for note in notes if f" {place} is called {today} now" in note]
        line = next(n for n, text in enumerate(OLD.splitlines(), 1) if place.split(".")[-1] in text)
        assert note.startswith(f"{tmp_path / 'mine.yaml'}, line {line}, column ")
    (fraction,) = [note for note in notes if "foreground_share" in note]
    assert "here and in 2 more places" in fraction  # the alias, and the grid search


def test_keys_in_the_values_of_a_grid_search_are_told_of_too(told):
    """Its models are named by them, so that the note says that these have other names now."""
    data = "datasets: {d: {source: {layout: phantom}, modality: CT, structures: {a: 1}}}\n"
    text = data + (
        "models:\n  m:\n    network: unet\n"
        "    grid_search: {augmentation: [{noise_share: 0.1}, {preset: strong, noise_share: 0.2}]}\n"
    )
    study, notes = told(text)
    assert study == told(text.replace("noise_share", "noise_probability"))[0]
    assert list(study.models) == ["m_anoise_probability0p1", "m_apresetstrong_noise_probability0p2"]
    (note,) = notes
    assert ", line 5, column 35: models.m.grid_search.augmentation.0.noise_share is called" in note
    assert "here and in 1 more place" in note
    assert note.endswith("the models of the grid search are named by it")


def test_a_name_that_a_person_chose_is_no_key(told):
    """The region is called `groups`, and stays so."""
    study, _ = told(OLD)
    assert list(study.metrics.composite_regions) == ["groups"]


@pytest.mark.parametrize(("kind", "old", "new"), RENAMED)
def test_a_key_by_both_names_is_refused(kind, old, new):
    (settings,) = [found for found in settings_of(Study) if found.__name__ == kind]
    assert new in settings.model_fields and old not in settings.model_fields
    with pytest.raises(ValueError, match=f"{old}: is the old name of {new}, which stands here too"):
        settings.model_validate({old: 0, new: 0})


def test_a_key_by_both_names_is_refused_with_its_place(told):
    with pytest.raises(InputError, match=r"models\.small: .*validation_share: is the old name of"):
        told(
            "datasets: {d: {source: {layout: phantom}, modality: CT, structures: {a: 1}}}\n"
            "models: {small: {network: unet, validation_share: 0.1, validation_fraction: 0.2}}\n"
        )


def test_settings_of_a_command_line_are_taken_by_old_names_too(caplog):
    model = {"network": "unet", "foreground_share": 0.75}
    settings = {"model": model, "structures": ["a"], "channels": ["b"], "modality": "CT"}
    assert from_json(TrainSettings, json.dumps(settings)).model.foreground_fraction == 0.75
    (note,) = caplog.messages
    assert note.startswith("--settings: model.foreground_share is called foreground_fraction now")


def test_the_schema_shows_todays_names_alone():
    keys = set()

    def collect(part):
        for inner in part.values() if isinstance(part, dict) else part:
            if isinstance(inner, dict | list):
                collect(inner)
        if isinstance(part, dict):
            keys.update(part.get("properties", {}))

    collect(json.loads(schema()))
    assert keys.isdisjoint(old for _, old, _ in RENAMED if old != "groups")
    assert keys >= {new for _, _, new in RENAMED}


def test_the_page_of_versions_names_every_old_key():
    page = (REPOSITORY / "docs" / "versions.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    listed = {
        pair
        for old, new in rows
        for pair in zip(re.findall(r"`([^`]+)`", old), re.findall(r"`([^`]+)`", new), strict=False)
    }
    assert {(old, new) for _, old, new in RENAMED} <= listed


def test_studies_that_come_along_have_todays_names():
    for path in (REPOSITORY / "config" / "studies").glob("*.yaml"):
        words = set(re.findall(r"\w+(?=:)", yaml.safe_dump(yaml.safe_load(path.read_text()))))
        assert words.isdisjoint(old for _, old, _ in RENAMED), path
