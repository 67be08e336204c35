"""How much a service takes: bytes, files, voxels, time, memory, requests that wait."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Set what a service takes.

    Parameters
    ----------
    upload_bytes
        Of a request's body.
    unpacked_bytes
        Of the files that a request stands for, once they are unpacked.
    voxels
        Of an image, its channels counted; looked at before any voxel is read.
    files
        In a zip.
    waiting
        Predictions that are not finished yet.
    seconds
        For which a prediction may run.
    memory_bytes
        Resident memory of the process that predicts.
    keep_seconds
        For which a finished prediction is kept.
    attempts
        How often a prediction is begun that was cut off by a restart.
    stall_seconds
        Within which a request's head must be whole, and after which a client is cut off that sends no byte of a body, or reads none of
        an answer.
    """

    upload_bytes: int = 1 << 30
    unpacked_bytes: int = 4 << 30
    voxels: int = 512_000_000
    files: int = 5_000
    waiting: int = 100
    seconds: float = 1800
    memory_bytes: int = 16 << 30
    keep_seconds: float = 24 * 3600
    attempts: int = 3
    stall_seconds: float = 60
