"""The look of figures and report: order, names and colours of models and structures, and a journal's sizes."""

import unicodedata
from collections.abc import Collection, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from segstudy.study.settings import Settings

PLAIN_FONT = "DejaVu Sans"
"""The font that comes with matplotlib, so that every machine draws the same."""
NARROWEST_MM_PER_PT = 17.0
"""Width of a page for each point of text, below which labels of a figure would cover one another."""
LEAST_CONTRAST = 1.2
"""Of a colour with white; the palest of Okabe and Ito, a yellow, has 1.3."""
NEEDED_FORMATS = ("png", "svg")
"""Formats that the report shows, and that are written whatever else is."""

ShownName = Annotated[str, Field(min_length=1, max_length=80)]


def _contrast_with_white(shares: Sequence[float]) -> float:
    """Return the contrast of a colour (red, green, blue, 0 to 1) with white, from 1 to 21, by WCAG 2.1."""
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 1.05 / (0.05 + 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


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
            from matplotlib.colors import is_color_like, to_rgba

            first: dict[tuple, str] = {}
            for name, colour in value.items():
                if not is_color_like(colour):
                    raise ValueError(
                        f"{name}: {colour!r} is no colour that matplotlib knows; expected e.g. '#0072B2' (in quotes), "
                        "steelblue or tab:blue"
                    )
                *shares, opacity = to_rgba(colour)
                if opacity < 1:
                    raise ValueError(
                        f"{name}: {colour!r} is transparent; expected a colour that covers, such as '#0072B2'"
                    )
                contrast = _contrast_with_white(shares)
                if contrast < LEAST_CONTRAST:
                    raise ValueError(
                        f"{name}: {colour!r} cannot be seen on white paper (contrast {contrast:.2f}); expected a darker "
                        f"colour, of at least {LEAST_CONTRAST:g}"
                    )
                if tuple(shares) in first:
                    raise ValueError(
                        f"{first[tuple(shares)]} and {name} would both be {colour!r}; expected colours that differ"
                    )
                first[tuple(shares)] = name
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
    font: Annotated[str, Field(min_length=1, max_length=80)] = Field(
        PLAIN_FONT,
        description="font of the figures, as it is called where it is installed; signs that it lacks, and all text "
        f"where it is not installed, are in {PLAIN_FONT}",
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

    @property
    def drawn_font(self) -> str:
        """Return the font that figures are drawn in on this machine."""
        return PLAIN_FONT if self.font_problem() else self.font

    def font_problem(self) -> str:
        """Return what is to be said where the font is not installed on this machine, else nothing.

        It is no mistake of the study file, which other machines read, too.
        """
        if self.font == PLAIN_FONT:
            return ""
        from matplotlib.font_manager import fontManager

        installed = sorted({font.name for font in fontManager.ttflist})
        if self.font in installed:
            return ""
        return (
            f"publish.style.font: {self.font!r} is not installed on this machine, so that figures drawn here are in "
            f"{PLAIN_FONT}; install it, or choose one of {', '.join(installed)}"
        )

    def for_pages(self) -> "Style":
        """Return what matters to a page without figures: order, names and colours."""
        return self.at_default(("font", "size_pt", "width_mm", "formats"))
