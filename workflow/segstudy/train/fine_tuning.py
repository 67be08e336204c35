"""Fine-tuning: weights to start from, layers that keep them, and the leak that a tested case among their own would be."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from segstudy.errors import InputError
from segstudy.log import log
from segstudy.networks.initial_weights import InitialWeights, layers_of, read_initial, take
from segstudy.seen_cases import refuse_seen
from segstudy.study import AnyModel


def initial_of(model: AnyModel, tested: Mapping[str, str]) -> InitialWeights | None:
    """Read the weights that a model starts from, once no case that they know is tested.

    Parameters
    ----------
    model
        The settings.
    tested
        Each tested case, as `dataset/case` -> the checksum of its image.

    Raises
    ------
    InputError
        With the tested case, and its name where the weights were trained.
    """
    if not model.initial_weights:
        return None
    initial = read_initial(model.initial_weights)
    refuse_seen(initial.cases, tested, f"initial_weights: {model.initial_weights}")
    if not initial.knows_all:
        log.warning(
            "initial_weights: %s does not know all cases that it was trained on by their checksums, so that whether tested cases are "
            "among them cannot be told: see to it yourself",
            initial.file,
        )
    return initial


def start(
    network: nn.Module, initial: InitialWeights, head: Collection[str], freeze: Sequence[str]
) -> dict[str, Any]:
    """Put the initial weights into a network, and freeze layers.

    Parameters
    ----------
    network
        With fresh weights; changed in place.
    initial
        The weights.
    head
        Layers that start anew in any case.
    freeze
        Names of layers that are not trained, or the beginnings of these.

    Returns
    -------
    dict
        What is to be said of it: file, checksum, layers taken, anew, frozen, and how many cases the weights know.

    Raises
    ------
    InputError
        For a name that no layer has, for a frozen layer that starts anew, and where nothing is left to train.
    """
    taken, anew = take(network, initial, head)
    frozen = frozen_layers(network, freeze)
    for layer in frozen:
        if layer in anew:
            raise InputError(
                f"freeze: {layer} would keep random weights, as none were taken from {initial.file} ({anew[layer]}); leave it out"
            )
    if frozen and len(frozen) == len(layers_of(network)):
        raise InputError(f"freeze: {', '.join(freeze)}: nothing is left to train")
    for name, parameter in network.named_parameters():
        if (name.rpartition(".")[0] or name) in frozen:
            parameter.requires_grad_(False)
    log.info(
        "fine-tuning from %s (sha256 %s...): %d layers taken, %d anew, %d frozen",
        *(initial.file, initial.checksum[:12], len(taken), len(anew), len(frozen)),
    )
    log.info("taken: %s", ", ".join(taken))
    log.info("anew: %s", "; ".join(f"{layer} ({why})" for layer, why in anew.items()) or "none")
    if frozen:
        log.info("frozen: %s", ", ".join(frozen))
    return {
        "file": initial.file,
        "sha256": initial.checksum,
        "network": initial.network,
        "known_cases": len(initial.cases),
        "knows_all": initial.knows_all,
        "taken": taken,
        "anew": anew,
        "frozen": frozen,
    }


def frozen_layers(network: nn.Module, freeze: Sequence[str]) -> list[str]:
    """Return the layers that bear one of these names, or begin by it; InputError for a name that none has."""
    layers = list(layers_of(network))
    for name in freeze:
        check_name(name, layers, "freeze")
    return [layer for layer in layers if any(begins(layer, name) for name in freeze)]


def check_name(name: str, layers: Collection[str], key: str) -> None:
    """Raise InputError for a name that is neither a layer's nor the beginning of one."""
    if not any(begins(layer, name) for layer in layers):
        tops = dict.fromkeys(layer.partition(".")[0] for layer in layers)
        raise InputError(
            f"{key}: {name}: no layer of this network has that name, or begins by it; expected one of {', '.join(tops)}, or more "
            f"of a name, e.g. {next(iter(layers))}"
        )


def begins(layer: str, name: str) -> bool:
    """Tell whether a layer, or a parameter, has a name, or a name that begins by it."""
    return f"{layer}.".startswith(f"{name}.")


def keep_statistics(network: nn.Module) -> None:
    """Let modules whose weights are all frozen run as in prediction: no dropout, and no new statistics of a batch."""
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def learning_groups(
    network: nn.Module, factors: Mapping[str, float]
) -> dict[float, list[nn.Parameter]]:
    """Return the parameters that learn, by the factor of their learning rate; of several names that fit, the longest counts.

    Raises InputError for a name that no layer has.
    """
    for name in factors:
        check_name(name, list(layers_of(network)), "optimizer.lr_factors")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            fitting = [key for key in factors if begins(name, key)]
            factor = factors[max(fitting, key=len)] if fitting else 1.0
            groups.setdefault(factor, []).append(parameter)
    return groups
