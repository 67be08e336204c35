"""A coordinate head: sine layers that see a network's features and where in the patch they lie.

SIREN (Sitzmann et al. 2020, arXiv:2006.09661). The coordinates are distances from the middle of
the patch, in mm, divided by half the longest side of a training patch: the same millimetres are
the same coordinate along all axes. They mean the same in prediction as in training, since windows
have the size of training patches, and images smaller than a patch lie in its middle in both.
Where a patch holds the whole image, as in cropped cohorts, they are places in the image; where it
does not, they only tell how near its border a voxel is. No augmentation moves them: they belong
to the grid, not to the anatomy.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from segstudy.study import SirenHead


class CoordinateHead(nn.Module):
    """Join a network that gives features (batch, `head.hidden`, *size), and the head that makes logits of them.

    The features and a voxel's coordinates go through `head.layers` sine layers and a linear one.
    Outputs on lower resolutions (deep supervision) get a linear layer each.
    """

    def __init__(
        self,
        network: nn.Module,
        head: SirenHead,
        classes: int,
        patch_size: Sequence[int],
        spacing_mm: Sequence[float],
    ) -> None:
        super().__init__()
        dims = len(patch_size)
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.network = network
        widths = [head.hidden + dims] + [head.hidden] * head.layers
        self.sines = nn.ModuleList(
            convolution(inputs, head.hidden, 1) for inputs in widths[: head.layers]
        )
        self.out = convolution(head.hidden, classes, 1)
        lower = len(getattr(network, "heads", [None])) - 1
        self.lower = nn.ModuleList(convolution(head.hidden, classes, 1) for _ in range(lower))
        self.omega = head.omega
        self.spacing_mm = tuple(spacing_mm)
        sides = zip(patch_size, spacing_mm, strict=True)
        self.half_side_mm = max((size - 1) / 2 * spacing for size, spacing in sides)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Initialise as in the paper, 3.2: uniform in +-1/n for the first layer, else in +-sqrt(6/n)/omega."""
        for number, layer in enumerate([*self.sines, self.out]):
            inputs = layer.in_channels
            bound = math.sqrt(6 / inputs) / self.omega if number else 1 / inputs
            layer.weight.uniform_(-bound, bound)

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return logits (batch, class, *size) of images (batch, channel, *size)."""
        outputs = self.network(images)
        if isinstance(outputs, torch.Tensor):
            return self._logits(outputs)
        lower = [layer(features) for layer, features in zip(self.lower, outputs[1:], strict=True)]
        return [self._logits(outputs[0]), *lower]

    def _logits(self, features: torch.Tensor) -> torch.Tensor:
        # In half precision, omega times a coordinate is off by a good part of a period.
        with torch.autocast(features.device.type, enabled=False):
            values = torch.cat([features.float(), self.coordinates(features)], dim=1)
            for layer in self.sines:
                values = torch.sin(self.omega * layer(values))
            return self.out(values)

    def coordinates(self, features: torch.Tensor) -> torch.Tensor:
        """Return the coordinates (batch, axis, *size) of the voxels of features (batch, channel, *size)."""
        axes = [
            (torch.arange(size, device=features.device) - (size - 1) / 2)
            * (spacing / self.half_side_mm)
            for size, spacing in zip(features.shape[2:], self.spacing_mm, strict=True)
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        return grid.expand(len(features), *grid.shape)
