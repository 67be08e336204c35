"""The two sources of patches, held against what a training asks of one."""

import inspect

import pytest

from segstudy.jobs.code import PATCH_SOURCES
from segstudy.study import UnetModel
from segstudy.train import from_images, from_label_maps
from segstudy.train.source import PatchSource

SOURCES = [from_images, from_label_maps]
CALLS = [name for name, _ in inspect.getmembers(PatchSource, inspect.isfunction) if name[0] != "_"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CALLS)
def test_a_source_is_called_as_the_protocol_says(source, name):
    asked = inspect.signature(getattr(PatchSource, name))
    assert list(inspect.signature(getattr(source.Patches, name)).parameters) == list(
        asked.parameters
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_holds_what_the_protocol_says(source):
    patches = source.Patches(["case"], [])
    for name in PatchSource.__annotations__:
        assert hasattr(patches, name), name
    assert (patches.training, patches.validation) == (["case"], [])
    assert source.OPTION.startswith("--") and callable(source.open_cases)


def test_every_trainer_of_prepared_cases_has_a_source():
    trainers = {UnetModel(network="unet", trainer=name).trainer for name in PATCH_SOURCES}
    assert trainers == {"images", "synth"}
    assert {f"train.{source.__name__.rsplit('.', 1)[1]}" for source in SOURCES} == set(
        PATCH_SOURCES.values()
    )
