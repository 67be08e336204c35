"""Seeds for each purpose of a training, all derived from the one that a study gives."""

import hashlib

import torch


def seed_of(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, such as `step 12`, that is independent of the other purposes' seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big") >> 1


def generator_of(seed: int, purpose: str) -> torch.Generator:
    """Return a random generator on the CPU, seeded for one purpose."""
    return torch.Generator().manual_seed(seed_of(seed, purpose))
