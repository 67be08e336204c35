"""What a training asks for by `memory_mb: auto`."""

from typing import get_args

import pytest

from segstudy.study import Model, UnetModel
from segstudy.train.memory import LARGEST_HELD_MB, training_memory_mb, width

CASE = 10_000_000


def unet(**settings) -> UnetModel:
    return UnetModel(network="unet", **settings)


def asked(model: Model, cases: int = 20, channels: int = 1) -> float:
    return training_memory_mb(model, [CASE] * cases, channels, classes=5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("channels", [1, 4])
def test_half_of_it_holds_the_cases(device, channels):
    """The training holds cases where half of its memory does."""
    needed = asked(unet(device=device), channels=channels)
    assert needed / 2 > 20 * CASE * (4 * channels + 1) / 1e6


def test_a_cohort_too_large_to_hold_is_read_patch_by_patch():
    cases = int(LARGEST_HELD_MB / (5 * CASE / 1e6)) + 1
    model = unet(device="cuda")
    assert asked(model, cases) < asked(model, cases - 1) < 2 * LARGEST_HELD_MB + 10_000


def test_on_a_cpu_it_grows_with_patch_batch_and_network():
    def on_cpu(**settings):
        return asked(unet(device="cpu", patch_size=(96, 96, 96), **settings)) - asked(
            unet(device="cpu", patch_size=(48, 96, 96), **settings)
        )

    assert on_cpu(batch_size=4) == pytest.approx(2 * on_cpu(batch_size=2))
    assert on_cpu(channels=(64, 128)) == pytest.approx(2 * on_cpu(channels=(32, 64)))


def test_on_a_gpu_the_batch_is_the_gpus_business():
    assert asked(unet(device="cuda", batch_size=2)) == asked(unet(device="cuda", batch_size=8))


def test_of_a_training_on_several_gpus_the_cases_are_held_once():
    one, four = (asked(unet(device="cuda", batch_size=4, gpus=gpus)) for gpus in (1, 4))
    of_a_process = asked(unet(device="cuda"), cases=0)
    followed = one - of_a_process - 2 * 20 * CASE * 5 / 1e6
    assert four - one == pytest.approx(3 * (of_a_process + followed))


def test_following_the_training_predicts_whole_cases():
    followed = asked(unet(device="cuda")) - asked(unet(device="cuda", validation_fraction=0))
    assert followed > 5 * 4 * CASE / 1e6


@pytest.mark.parametrize("kind", Model.__subclasses__())
def test_every_network_has_a_width(kind):
    (name,) = get_args(kind.model_fields["network"].annotation)
    own = {"network_plugin": "./my_net.py"} if name == "plugin" else {}
    assert width(kind(network=name, **own)) >= 4
