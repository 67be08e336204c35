"""A process that predicts for a service, pretended: what it is asked, and what it answers, is a test's to say."""

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segstudy.serve.predictor import StoppedError
from upload_faults import nifti

MODEL = {
    "structures": ["shell", "core"],
    "channels": ["ct"],
    "colours": {"shell": [230, 159, 0], "core": [86, 180, 233]},
    "networks": 1,
    "ct": True,
    "checksum": "0" * 64,
    "card": "# Model card\n\nBalls.",
    "calibrated": False,
}
FLAGGED = {
    **{"agreement": 0.91, "agreement_of": "seeds", "dice": 0.8, "dice_low": 0.7, "dice_high": 0.9},
    **{
        "volume_low_ml": 1.0,
        "volume_high_ml": 2.0,
        "flagged": True,
        "reason": "smaller than any of the study",
    },
}


class Pretended:
    """Stands for `predictor.Worker`. do: given a request and `check`, yields events."""

    lives = True
    memory_bytes = 1000
    models = {"balls": MODEL}

    def __init__(self, do):
        self._do = do
        self.ended = False

    def ask(self, request: Mapping[str, Any], check) -> Iterator[dict[str, Any]]:
        check()
        yield from self._do(request, check)

    def end(self) -> str:
        self.ended, self.lives = True, False
        return "signal SIGKILL"


def predict(request: Mapping[str, Any], check) -> Iterator[dict[str, Any]]:
    """Answer as `infer.worker` does, with files that hold little."""
    output = Path(request["output"])
    output.mkdir(exist_ok=True)
    yield {"step": "predicting", "fraction": 0.5}
    for name in ("segmentation.nii.gz", "segmentation.seg.nrrd", "image.nii.gz"):
        (output / name).write_bytes(gzip.compress(nifti(), mtime=0))
    rows = [
        {"structure": name, "label": number, "n_voxels": 10, "volume_ml": 1.5,
         "quality": FLAGGED if request["quality"] else None}
        for number, name in enumerate(MODEL["structures"], 1)
    ]  # fmt: skip
    files = ["segmentation.nii.gz", "segmentation.seg.nrrd", "image.nii.gz"]
    yield {
        "result": {
            "structures": rows,
            "files": files,
            "notes": [],
            "shape": [12, 10, 8],
            "spacing_mm": [1, 1, 1],
        }
    }


def crash(request: Mapping[str, Any], check) -> Iterator[dict[str, Any]]:
    """End as a process does that a reader of images crashes."""
    yield {"step": "reading"}
    raise StoppedError(
        "The process that predicts ended on this image (signal SIGSEGV); the image is not tried again."
    )
