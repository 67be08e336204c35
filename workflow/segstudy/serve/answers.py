"""The answers of the service, as its OpenAPI describes them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from segstudy.serve.job_queue import DONE, RUNNING, Job
from segstudy.serve.problems import RESEARCH_USE

FILES = {
    "segmentation.nii.gz": "application/gzip",
    "segmentation.seg.nrrd": "application/octet-stream",
    "segmentation.dcm": "application/dicom",
    "image.nii.gz": "application/gzip",
}
"""What can be downloaded of a prediction, with its type."""
EXAMPLE_ID = "0f8fad5bd9cb469fa165708867289500"


class Problem(BaseModel):
    """What is wrong with a request (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "The file ends early: send it again.",
                "found": "1,048,576 bytes",
                "expected": "19,661,152 bytes by the header",
            }
        }
    )
    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do.")
    found: str | None = None
    expected: str | None = None


class Quality(BaseModel):
    """How far a segmentation is to be trusted; intervals and flags are of calibrated models alone."""

    agreement: float | None = Field(description="Mean Dice of several predictions of the image.")
    agreement_of: str = Field(description="What differs between them.")
    dice: float | None = Field(description="Predicted Dice with a reference.")
    dice_low: float | None = Field(description="Lower end of its 90 % interval.")
    dice_high: float | None = None
    volume_low_ml: float | None = Field(description="Lower end of the volume's 90 % interval.")
    volume_high_ml: float | None = None
    flagged: bool | None = Field(
        description="Whether to look at it; null: the model is not calibrated."
    )
    reason: str


class StructureAnswer(BaseModel):
    """A structure that was segmented."""

    structure: str
    label: int = Field(description="Value in the label files.")
    n_voxels: int
    volume_ml: float
    quality: Quality | None = None


class Progress(BaseModel):
    """How far a running prediction is."""

    step: str
    fraction: float | None = Field(
        description="Share of the network's passes that is done, where it is known."
    )


class PredictionAnswer(BaseModel):
    """A prediction, in whatever state."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_ID,
                "state": "done",
                "model": "hippocampus",
                "created": "2026-01-01T09:00:00Z",
                "finished": "2026-01-01T09:00:02Z",
                "structures": [
                    {"structure": "anterior", "label": 1, "n_voxels": 1520, "volume_ml": 1.52}
                ],
                "files": {
                    "segmentation.nii.gz": f"/predictions/{EXAMPLE_ID}/files/segmentation.nii.gz"
                },
                "notes": [],
                "shape": [35, 51, 35],
                "spacing_mm": [1, 1, 1],
                "research_use_only": RESEARCH_USE,
            }
        }
    )
    id: str
    state: Literal["waiting", "running", "done", "failed"]
    model: str
    created: datetime
    finished: datetime | None = None
    before: int | None = Field(None, description="How many are predicted first.")
    progress: Progress | None = None
    structures: list[StructureAnswer] = Field([], description="Once it is done.")
    files: dict[str, str] = Field(
        {}, description="Name -> where to get it; `image.nii.gz` is a copy to be shown."
    )
    notes: list[str] = Field([], description="What a person should know of the image.")
    shape: list[int] | None = None
    spacing_mm: list[float] | None = None
    problem: str | None = Field(None, description="Why it failed.")
    research_use_only: str = RESEARCH_USE


class ModelAnswer(BaseModel):
    """A model that predicts."""

    name: str
    structures: list[str]
    channels: list[str] = Field(
        description="An upload has a file for each, in this order, or one with all."
    )
    colours: dict[str, list[int]] = Field(
        description="Structure -> red, green, blue, from 0 to 255."
    )
    networks: int = Field(description="How many are averaged.")
    ct: bool = Field(description="Whether images are in Hounsfield units.")
    calibrated: bool = Field(description="Whether predictions are flagged.")
    checksum: str = Field(description="SHA-256 of the content.")
    card: str = Field(description="The model card, Markdown.")


class ModelsAnswer(BaseModel):
    """The models, and what an upload may be."""

    models: list[ModelAnswer]
    upload_bytes: int
    keep_hours: float
    research_use_only: str = RESEARCH_USE


class HealthAnswer(BaseModel):
    """Whether the service predicts."""

    status: Literal["ok", "failing", "stopped"] = Field(
        description="`failing`: it goes on trying, and nothing is lost meanwhile."
    )
    problem: str | None = Field(None, description="Why it does not predict.")
    waiting: int | None = Field(description="null: the queue cannot be read.")
    running: int | None
    version: str
    research_use_only: str = RESEARCH_USE


def prediction_answer(
    job: Job, progress: tuple[str, float | None], output_files: set[str]
) -> PredictionAnswer:
    """Return the answer for a prediction.

    Parameters
    ----------
    job
        The prediction.
    progress
        Step, and share that is done.
    output_files
        Names of the files that are there.
    """
    result: Mapping[str, Any] = job.result or {}
    return PredictionAnswer(
        id=job.id,
        state=job.state,
        model=job.model,
        created=_time(job.created),
        finished=_time(job.finished) if job.finished else None,
        before=job.before,
        progress=Progress(step=progress[0], fraction=progress[1]) if job.state == RUNNING else None,
        structures=[StructureAnswer(**one) for one in result.get("structures", ())],
        files={
            name: f"/predictions/{job.id}/files/{name}"
            for name in result.get("files", ())
            if job.state == DONE and name in output_files
        },
        notes=[*job.request.get("notes", ()), *result.get("notes", ())],
        shape=result.get("shape"),
        spacing_mm=result.get("spacing_mm"),
        problem=job.problem,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds), UTC)
