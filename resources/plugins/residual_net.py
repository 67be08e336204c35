"""A small encoder and decoder with residual blocks: an example of a network as a plug-in."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, convolution, inputs, outputs, stride=1):
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride, padding=1)
        self.second = convolution(outputs, outputs, 3, padding=1)
        self.way_past = convolution(inputs, outputs, 1, stride)

    def forward(self, features):
        """Return features (batch, outputs, *size / stride)."""
        inner = self.second(functional.leaky_relu(self.first(features), 0.01))
        return functional.leaky_relu(inner + self.way_past(features), 0.01)


class Network(nn.Module):
    """Map images (batch, channel, *patch) to logits (batch, class, *patch), class 0 being the background.

    In training: a list of logits, full resolution first, then half of it (deep supervision).
    """

    strides = 2
    """By how much the network shrinks a patch along each axis: patches are multiples of it."""

    def __init__(self, in_channels, classes, patch_size, spacing_mm, width=8):
        super().__init__()
        convolution = nn.Conv2d if len(patch_size) == 2 else nn.Conv3d
        self.above = Block(convolution, in_channels, width)
        self.below = Block(convolution, width, 2 * width, stride=2)
        self.join = Block(convolution, 3 * width, width)
        self.out = convolution(width, classes, 1)
        self.out_below = convolution(2 * width, classes, 1)

    def forward(self, images):
        """Return the logits."""
        above = self.above(images)
        below = self.below(above)
        raised = functional.interpolate(below, size=images.shape[2:], mode="nearest")
        logits = self.out(self.join(torch.cat([above, raised], dim=1)))
        return [logits, self.out_below(below)] if self.training else logits
