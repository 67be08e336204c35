"""Settings of ratings: what readers think of predictions, blinded to the model."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from segstudy.study.settings import Settings


class Ratings(Settings):
    """Ratings of predictions by readers: good, usable or bad, blinded to the model (docs/review.md)."""

    files: tuple[str, ...] = Field(
        (),
        description="CSV files that `rating/index.html` among the results saved, e.g. `[ratings-reader-1.csv, ratings-reader-2.csv]`; from two "
        "raters on, their agreement is told",
    )
    cases: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        20, description="how many cases of each tested dataset are shown, drawn at random, or `all`"
    )
    seed: int = Field(
        20, description="draws the cases, their order, and the letters that stand for models"
    )

    @field_validator("files")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"files: {name} stands twice; name it once")
        return value
