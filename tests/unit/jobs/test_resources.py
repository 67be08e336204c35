"""What jobs ask of a machine."""

from types import SimpleNamespace

import pytest

from builders import tiny_study
from segstudy.cases import Case
from segstudy.jobs.resources import JobResources, grown
from segstudy.study import Study


@pytest.mark.parametrize(
    ("first", "most", "attempt", "asked"),
    [(4000, 16000, 1, 4000), (4000, 16000, 2, 8000), (4000, 10000, 3, 10000), (90, 60, 2, 90)],
)
def test_what_an_attempt_asks_for_grows_up_to_the_limit(first, most, attempt, asked):
    assert grown(first, most, attempt) == asked


CASES = {
    name: Case(name, name, (), "label", shape=shape, spacing_mm=(1.0, 1.0, 2.0))
    for name, shape in {"a": (100, 100, 10), "b": (200, 100, 50)}.items()
}


@pytest.fixture
def study() -> Study:
    content = tiny_study("table.tsv", moved=False)
    content["models"]["deep"].update(device="cuda", gpus=2)
    return Study.model_validate({"name": "tiny", **content})


def resources(study, cases=CASES) -> JobResources:
    inputs = SimpleNamespace(
        study=study,
        known_cases=lambda dataset: cases,
        selected=lambda dataset, shard: ["a"] if shard == "first" else ["b"],
    )

    def training_mb(model, voxels, channels, classes):
        return 1000 * len(voxels) + channels + classes / 10

    return JobResources(inputs, training_mb)


def test_sizes_follow_from_the_audit(study):
    found = resources(study)
    assert found.image_mb("chest") == pytest.approx(4.0)  # 1e6 voxels of 4 bytes
    assert found.image_mb("chest", (2.0, 1.0, 1.0)) == pytest.approx(4.0)
    assert found.image_mb("chest", (2.0, 2.0, 2.0)) == pytest.approx(1.0)
    assert found.shard_mb("chest", "first") == pytest.approx(0.4)
    assert found.all_mb("chest") == pytest.approx(4.4)
    assert found.largest_mb() == pytest.approx(4.0)


def test_nothing_is_known_before_the_audit(study):
    found = resources(study, {})
    assert found.image_mb("chest") == found.all_mb("chest") == 0


def test_memory_is_the_users_or_follows_from_the_images(study):
    found = resources(study)
    assert found.training_mb("flat") == 1500
    assert found.training_mb("deep") == 3000  # of two processes
    auto = study.models["deep"].model_copy(update={"memory_mb": "auto"})
    own = study.model_copy(update={"models": {"deep": auto}})
    assert resources(own).training_mb("deep") == pytest.approx(2000 + 1 + 0.3)
    assert resources(own).prediction_mb("deep", "chest") == pytest.approx(4000 + 8 + 24)
    # With more threads, more volumes are written at a time, four at most.
    for threads, held in ((2, 3), (16, 5)):
        wide = study.model_copy(
            update={"models": {"deep": auto.model_copy(update={"threads": threads})}}
        )
        assert resources(wide).prediction_mb("deep", "chest") == pytest.approx(4008 + 12 * held)


def test_memory_is_that_of_the_device_that_will_be_used(study):
    """`device: auto` is the CPU where there is no GPU: no writers beside the network, and no patches of a GPU's size."""
    by_device = {}
    for device, there in (("cpu", False), ("auto", False), ("auto", True), ("cuda", True)):
        model = study.models["deep"].model_copy(
            update={"device": device, "gpus": 1, "memory_mb": "auto", "threads": 4}
        )
        one = study.model_copy(update={"models": {**study.models, "deep": model}})
        inputs = resources(one).inputs
        trained_on = []
        found = JobResources(
            inputs,
            lambda model, *_, seen=trained_on: seen.append(model.device) or 7.0,
            lambda there=there: there,
        )
        assert found.training_mb("deep") == 7.0
        by_device[device, there] = (found.prediction_mb("deep", "chest"), *trained_on)
    assert by_device["auto", False] == by_device["cpu", False]
    assert by_device["auto", True] == by_device["cuda", True]
    assert by_device["cpu", False][1] == "cpu"
    assert by_device["cuda", True][1] == "cuda"
    assert by_device["cuda", True][0] > by_device["cpu", False][0] + 2500


def test_a_gpu_is_asked_for_where_one_is_used(study):
    found = resources(study)
    assert (found.gpu("flat"), found.gpus("flat"), found.processes("flat")) == (0, 0, 1)
    assert (found.gpu("deep"), found.gpus("deep"), found.processes("deep")) == (1, 2, 2)


@pytest.mark.parametrize(("there", "asked"), [(True, (1, 1, 0)), (False, (0, 1, 0))])
def test_where_there_is_no_gpu_only_who_insists_asks_for_one(study, there, asked):
    inputs = resources(study).inputs
    models = {
        device: study.models["flat"].model_copy(update={"device": device})
        for device in ("auto", "cuda", "cpu")
    }
    inputs.study = study.model_copy(update={"models": models})
    found = JobResources(inputs, lambda *given: 0, gpus_there=lambda: there)
    assert tuple(found.gpu(device) for device in models) == asked
