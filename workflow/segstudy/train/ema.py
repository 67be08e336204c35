"""The exponential moving average of a network's weights, step by step (Polyak and Juditsky 1992)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def weight_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network whose weights follow the network's slowly.

    After update n, counted from 0, the copy `module` has moved by 1 - d towards the network, where
    d = min(decay, (1 + n) / (10 + n)): a short training's average does not hang on to its first
    weights. Statistics of batch normalisation follow alike; whole numbers are copied.
    """

    def move(means: Sequence[Tensor], new: Sequence[Tensor], averaged: Tensor) -> None:
        if not means[0].is_floating_point():
            torch._foreach_copy_(means, new)
            return
        count = int(averaged)
        get_ema_multi_avg_fn(min(decay, count / (9 + count)))(means, new, averaged)

    average = AveragedModel(network, multi_avg_fn=move, use_buffers=True)
    average.requires_grad_(False).eval()
    # The first update of torch's copies the weights, whatever the decay: these are the ones before step 0.
    average.update_parameters(network)
    return average
