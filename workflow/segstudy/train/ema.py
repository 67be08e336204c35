"""The exponential moving average of a network's weights, step by step (Polyak and Juditsky 1992)."""

import itertools
from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage(AveragedModel):
    """Hold a copy of a network, `module`, whose weights follow the network's slowly; see `weight_average`."""

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network, use_buffers=True)
        self.decay = decay
        self.requires_grad_(False).eval()

    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the network by a step.

        torch's own copies the count of steps to the GPU, where reading it waits; it stays on the CPU here.
        """
        count = int(self.n_averaged)
        pairs = [
            (mean, new.detach())
            for mean, new in zip(_values(self.module), _values(model), strict=True)
        ]
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        decay = min(self.decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(decay)(*map(list, zip(*floating, strict=True)), count)
        for mean, new in pairs:
            if not mean.is_floating_point():
                mean.copy_(new)
        self.n_averaged += 1


def _values(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())


def weight_average(network: nn.Module, decay: float) -> WeightAverage:
    """Return a copy of a network whose weights follow the network's slowly.

    After update n, counted from 0, the copy `module` has moved by 1 - d towards the network, where
    d = min(decay, (1 + n) / (10 + n)): a short training's average does not hang on to its first
    weights. Statistics of batch normalisation follow alike; whole numbers are copied.
    """
    return WeightAverage(network, decay)
