"""The exponential moving average of a network's weights, step by step (Polyak and Juditsky 1992)."""

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of a network whose weights follow the other's slowly.

    After step n, counted from 0, the copy moves by 1 - d towards the network, where
    d = min(decay, (1 + n) / (10 + n)): a short training's average does not hang on to its first
    weights. Statistics of batch normalisation follow alike; what is no number with a fraction is copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights of `network` after step `step`."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        new = network.state_dict()
        for name, mean in self.network.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(new[name], share)
            else:
                mean.copy_(new[name])
