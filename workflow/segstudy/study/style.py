"""The look of figures and report: order, names and colours of models and structures, and a journal's sizes."""

import unicodedata
from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from segstudy.study.settings import Settings

PLAIN_FONT = "DejaVu Sans"
"""The font that comes with matplotlib, so that every machine draws the same."""
NARROWEST_MM_PER_PT = 17.0
"""Width of a page for each point of text, below which labels of a figure would cover one another."""
NEEDED_FORMATS = ("png", "svg")
"""Formats that the report shows, and that are written whatever else is."""

ShownName = Annotated[str, Field(min_length=1, max_length=80)]


class Shown(Settings):
    """How some names of the study are shown; files and tables of numbers keep the study's own names."""

    order: tuple[str, ...] = Field(
        (), description="first to last; those left out follow in the order of the study file"
    )
    names: dict[str, ShownName] = Field(
        {}, description="name in figures, report and methods: name in the study file: shown name"
    )
    colours: dict[str, str] = Field(
        {},
        description="name in the study file: a colour as matplotlib knows it, e.g. `#0072B2`, `steelblue` or `tab:blue`",
    )

    @field_validator("order")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name in value if value.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands twice; expected each name once")
        return value

    @field_validator("names")
    @classmethod
    def _can_be_printed(cls, value: dict[str, str]) -> dict[str, str]:
        for name, shown in value.items():
            if "$" in shown or not shown.isprintable() or not shown.strip():
                raise ValueError(
                    f"{name}: found {shown!r}; expected text on one line, without $, which figures would read as a "
                    "formula; signs such as ² or α may be written as they are"
                )
        return value

    @field_validator("colours")
    @classmethod
    def _are_known(cls, value: dict[str, str]) -> dict[str, str]:
        if value:
            from matplotlib.colors import is_color_like

            for name, colour in value.items():
                if not is_color_like(colour):
                    raise ValueError(
                        f"{name}: {colour!r} is no colour that matplotlib knows; expected e.g. '#0072B2' (in quotes), "
                        "steelblue or tab:blue"
                    )
        return value

    def check(self, key: str, known: Collection[str]) -> None:
        """Refuse names that the study does not have, and two that would be shown alike.

        Parameters
        ----------
        key
            Of these settings, for the message.
        known
            The study's names.

        Raises
        ------
        ValueError
            With the first such name, and the known ones.
        """
        for part in ("order", "names", "colours"):
            for name in getattr(self, part):
                if name not in known:
                    kind = key.rsplit(".", 1)[-1]
                    raise ValueError(
                        f"{key}.{part}: {name!r} is none of the {kind} ({', '.join(known)})"
                    )
        first: dict[str, str] = {}
        for name in known:
            text = self.names.get(name, name)
            # Full-width letters and spaces at an end or doubled tell no reader two names apart.
            plain = unicodedata.normalize("NFKC", text).replace("_", " ")
            alike = " ".join(plain.split()).casefold()
            if alike in first:
                raise ValueError(
                    f"{key}.names: {first[alike]} and {name} would both be shown as {text!r}; expected names that differ"
                )
            first[alike] = name

    def ordered(self, names: Collection[str]) -> list[str]:
        """Return the names in the order in which they are shown."""
        first = [name for name in self.order if name in names]
        return [*first, *(name for name in names if name not in first)]


class Style(Settings):
    """The look of figures and report. A change draws them anew and reruns nothing before them."""

    models: Shown = Field(Shown(), description="order, names and colours of the models")
    structures: Shown = Field(
        Shown(), description="likewise of the structures and `metrics.composite_regions`"
    )
    font: str = Field(
        PLAIN_FONT,
        description="font of the figures, as it is called where it is installed; signs that it lacks are taken from "
        f"{PLAIN_FONT}",
    )
    size_pt: Annotated[float, Field(ge=5, le=9)] = Field(
        7.0, description="size of the smallest text of a figure in print, in points, from 5 to 9"
    )
    width_mm: Annotated[float, Field(ge=120, le=250)] = Field(
        170.0,
        description="width of a page's text, in mm, from 120 to 250, which the widest figures take; the narrowest take half of it",
    )
    formats: tuple[Literal["png", "svg", "pdf", "tiff"], ...] = Field(
        ("png", "svg", "pdf"),
        description="files of each figure (PNG and TIFF at 300 dpi); `png` and `svg`, which the report shows, are written anyway",
    )

    @field_validator("font")
    @classmethod
    def _is_installed(cls, value: str) -> str:
        if value == PLAIN_FONT:
            return value
        from matplotlib.font_manager import fontManager

        installed = sorted({font.name for font in fontManager.ttflist})
        if value not in installed:
            raise ValueError(
                f"{value!r} is not installed here; expected one of {', '.join(installed)}"
            )
        return value

    @field_validator("formats")
    @classmethod
    def _with_needed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*NEEDED_FORMATS, *value)))

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.width_mm < NARROWEST_MM_PER_PT * self.size_pt:
            raise ValueError(
                f"size_pt: text of {self.size_pt:g} pt has no room in figures {self.width_mm:g} mm wide; expected width_mm "
                f"of at least {NARROWEST_MM_PER_PT * self.size_pt:g}, or smaller text"
            )
        return self

    def for_pages(self) -> "Style":
        """Return what matters to a page without figures: order, names and colours."""
        return self.at_default(("font", "size_pt", "width_mm", "formats"))
