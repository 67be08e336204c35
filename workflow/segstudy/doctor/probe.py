"""Import the compiled libraries, and print as JSON what they say: `python -m segstudy.doctor.probe`.

A process of its own, since a library that is broken may end the process that imports it.
"""

import importlib
import json
import os
import sys

COMPILED = ("torch", "SimpleITK", "itk", "numba", "scipy", "skimage", "matplotlib", "snakemake")
"""Modules whose compiled parts, or those of what they import, may not fit the system or each other."""


def probed() -> dict[str, object]:
    """Return `failed`, module -> what its import raised; and of torch `cuda`, `least_driver` and `reason`.

    cuda: the version that torch was built with, None for a build for CPUs. least_driver: of NVIDIA's that it needs, as far
    as that is known. reason: why torch can use no GPU, empty where it can.
    """
    failed = {}
    for name in COMPILED:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken library raises
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    found: dict[str, object] = {"failed": failed}
    if "torch" not in failed:
        from segstudy.networks import device

        torch = importlib.import_module("torch")
        cuda = torch.version.cuda
        found["cuda"] = cuda
        found["least_driver"] = device.LEAST_DRIVER.get(int(cuda.split(".")[0])) if cuda else None
        found["reason"] = "" if torch.cuda.is_available() else device.missing_gpu()
    return found


if __name__ == "__main__":
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no part of the answer
    with open(answer, "w", encoding="utf-8") as file:
        json.dump(probed(), file)
    sys.stdout.flush()
