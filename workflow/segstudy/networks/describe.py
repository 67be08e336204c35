"""What a network is made of, read from the module itself: stages, sizes, channels, parameters."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn


def describe(network: nn.Module, in_channels: int, size: Sequence[int]) -> list[dict[str, Any]]:
    """List the network's stages in the order in which an image passes them.

    size: voxels of the image. A stage is a child of the network, or of a list or sequence in it:
    `name`, `channels` and `size` of what it gives, `parameters`. A stage that prediction does not
    use (a head of deep supervision) comes last, with neither channels nor size. The parameters of
    all stages, and of the row `(own)` where the network has some beside them, add up to its total.
    Neither weights nor random numbers are touched.
    """
    stages = dict(_stages(network))
    passed: dict[str, torch.Size] = {}

    def note(name: str):
        def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            first = outputs[0] if isinstance(outputs, (list, tuple)) and outputs else outputs
            if isinstance(first, torch.Tensor) and first.ndim > 1:
                passed.setdefault(name, first.shape)

        return hook

    handles = [stage.register_forward_hook(note(name)) for name, stage in stages.items()]
    training = network.training
    device = next(network.parameters()).device
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, in_channels, *size, device=device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    rows = [
        _row(name, stages[name], list(shape[2:]), int(shape[1])) for name, shape in passed.items()
    ]
    rows += [_row(name, stage) for name, stage in stages.items() if name not in passed]
    remaining = sum(parameter.numel() for parameter in network.parameters())
    remaining -= sum(row["parameters"] for row in rows)
    if remaining:
        rows.append({"name": "(own)", "channels": None, "size": None, "parameters": remaining})
    return rows


def _row(name: str, stage: nn.Module, size=None, channels=None) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in stage.parameters())
    return {"name": name, "channels": channels, "size": size, "parameters": parameters}


def _stages(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList) or (
            isinstance(child, nn.Sequential)
            and any(any(True for _ in block.children()) for block in child)
        ):
            yield from ((f"{name}.{place}", block) for place, block in enumerate(child))
        else:
            yield name, child
