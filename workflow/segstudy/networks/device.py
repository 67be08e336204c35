"""Where networks run."""

import torch

from segstudy.errors import InputError


def choose_device(asked: str) -> torch.device:
    """`auto` is a CUDA GPU where there is one. Raises InputError for `cuda` where there is none."""
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise InputError(
            "device: cuda is asked for, but torch finds no CUDA GPU here; give the job a GPU, or "
            "set device: auto or cpu"
        )
    return torch.device("cuda" if asked != "cpu" and available else "cpu")
