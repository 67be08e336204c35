"""`quick: true`: every network small and trained briefly, for a first look on a laptop."""

from collections.abc import Mapping
from typing import Any

CHANNELS = (8, 16, 32, 64)
FOLDS, EPOCHS, STEPS, BATCH_3D = 2, 4, 50, 2
PATCH = {2: (96, 96), 3: (64, 64, 32)}
OVERLAP = 0.25
SMALL: dict[str, dict[str, Any]] = {
    "enet": {"channels": 8},
    "unetr": {"feature_size": 8, "hidden_size": 96, "heads": 4},
    "swin_unetr": {"feature_size": 12},
}
"""The size of the networks that are no U-Net, whose channels are `CHANNELS` at most."""


IN_BRIEF = "networks are small and trained briefly"
"""What is to be said of a quick study wherever its results are met, beside its folds."""


def shortened(model: Any) -> Any:
    """Return a model, as a study file has it, small and briefly trained; others than networks as they are.

    What is smaller or shorter already stays. What is no number where one belongs stays too: reading the
    study names it. What a `grid_search` varies is not touched.
    """
    if not isinstance(model, Mapping) or model.get("trainer") in (
        "nnunet",
        "external",
        "predictions",
        "ensemble",
        "plugin",
    ):
        return model
    network = model.get("network", "unet" if model.get("trainer") == "synth" else None)
    dims = model.get("dims", 2 if network == "enet" else 3)
    if network is None or dims not in PATCH:
        return model
    short = {
        **model,
        "epochs": _least(model.get("epochs"), EPOCHS),
        "steps_per_epoch": _least(model.get("steps_per_epoch"), STEPS),
        "patch_size": _each_least(model.get("patch_size"), PATCH[dims]),
        "validate_every_epochs": EPOCHS,
        "optimizer": model.get("optimizer", {"name": "adamw", "lr": 0.004}),
        **SMALL.get(network, {}),
    }
    if dims == 3:
        short["batch_size"] = _least(model.get("batch_size"), BATCH_3D)
    else:
        short["batch_size"] = model.get("batch_size", 8)
    if network in ("unet", "attention_unet"):
        short["channels"] = _each_least(model.get("channels"), CHANNELS)
    infer = model.get("infer", {})
    if isinstance(infer, Mapping):
        short["infer"] = {"overlap": OVERLAP, **infer}
    searched = {str(key).split(".")[0] for key in model.get("grid_search") or ()}
    return {key: model[key] if key in searched and key in model else short[key] for key in short}


def _least(value: Any, most: int) -> Any:
    """Return a number, or `most` where it is larger or not given."""
    if value in (None, "auto"):
        return most
    return min(value, most) if isinstance(value, int) else value


def _each_least(values: Any, most: tuple[int, ...]) -> Any:
    """Return numbers, each as `_least` has it; further ones than `most` has are held to its last."""
    if values in (None, "auto"):
        return list(most)
    if not isinstance(values, (list, tuple)):
        return values
    limits = [*most, *[most[-1]] * len(values)]
    return [_least(value, limit) for value, limit in zip(values, limits, strict=False)]
