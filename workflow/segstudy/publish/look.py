"""How models and structures are shown: in which order, by which names, in which colours and markers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.colors import to_hex

from segstudy.publish import style
from segstudy.publish.words import plain
from segstudy.study import Study

CHOSEN_ON_TESTED = " (chosen on tested cases)"
"""Behind the name of a model about which something was chosen on the cases that it is tested on."""

HUMAN_AGREEMENT = " (human agreement)"
"""Behind the name of a second reader."""


@dataclass(frozen=True)
class Look:
    """The study's names as a reader meets them, by `publish.style`.

    Files, tables of numbers and addresses inside the report keep the study's own names.

    Attributes
    ----------
    study
        The study, of the models that are compared.
    raters
        Second readers' labels, which have a name and no place among the models.
    """

    study: Study
    raters: tuple[str, ...] = ()

    @cached_property
    def models(self) -> list[str]:
        """Return the models in the order in which they are shown."""
        return self.study.publish.style.models.ordered(list(self.study.models))

    @cached_property
    def structures(self) -> list[str]:
        """Return the structures in the order in which they are shown."""
        return self.study.publish.style.structures.ordered(self.study.structures)

    @cached_property
    def regions(self) -> list[str]:
        """Return the measured structures, then the composite regions."""
        composite = list(self.study.metrics.composite_regions)
        return [*self.structures, *self.study.publish.style.structures.ordered(composite)]

    @cached_property
    def model_names(self) -> dict[str, str]:
        """Return the name of each model as it is shown."""
        given = self.study.publish.style.models.names
        return {
            name: given.get(name, name)
            + (CHOSEN_ON_TESTED if getattr(model, "chosen_on_tested", False) else "")
            for name, model in self.study.models.items()
        }

    def model(self, name: str) -> str:
        """Return a model's name as it is shown, a rater's marked as such; a name that is none of the study's stays as it is."""
        if name in self.raters:
            return f"{name}{HUMAN_AGREEMENT}"
        return self.model_names.get(name, name)

    def structure(self, name: str) -> str:
        """Return a structure's name as a label: `left_lung` is `Left lung` unless the style names it."""
        return self.study.publish.style.structures.names.get(name) or plain(name)

    def in_text(self, name: str) -> str:
        """Return a structure's name inside a sentence: `left_lung` is `left lung` unless the style names it."""
        return self.study.publish.style.structures.names.get(name) or name.replace("_", " ")

    @cached_property
    def model_colours(self) -> dict[str, str]:
        """Return a colour for each model, which its place in the study file decides where none is given."""
        return _with(
            style.model_colours(list(self.study.models)), self.study.publish.style.models.colours
        )

    @cached_property
    def model_markers(self) -> dict[str, str]:
        """Return a marker for each model, by its place in the study file."""
        return style.markers(list(self.study.models))

    @cached_property
    def model_lines(self) -> dict[str, Any]:
        """Return a style of line for each model, by its place in the study file."""
        return style.lines(list(self.study.models))

    @cached_property
    def structure_markers(self) -> dict[str, str]:
        """Return a marker for each structure and composite region."""
        return style.markers([*self.study.structures, *self.study.metrics.composite_regions])

    @cached_property
    def structure_lines(self) -> dict[str, Any]:
        """Return a style of line for each structure and composite region."""
        return style.lines([*self.study.structures, *self.study.metrics.composite_regions])

    @cached_property
    def structure_inks(self) -> dict[str, str]:
        """Return the colour of each structure for lines and points on paper, where a pale one would be lost."""
        return {name: style.on_paper(colour) for name, colour in self.structure_colours.items()}

    @cached_property
    def structure_colours(self) -> dict[str, str]:
        """Return a colour for each structure and composite region."""
        study = self.study
        chosen = style.structure_colours(study.structures, list(study.metrics.composite_regions))
        return _with(chosen, study.publish.style.structures.colours)


def _with(colours: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Put the given colours, as hexadecimal numbers, in place of the chosen ones.

    A name whose chosen colour is given to another takes one that a name with a given colour leaves.
    """
    asked = {name: to_hex(colour) for name, colour in given.items()}
    taken = set(asked.values())
    left = [colours[name] for name in asked if colours[name].lower() not in taken]
    kept = {
        name: left.pop(0) if colour.lower() in taken and name not in asked else colour
        for name, colour in colours.items()
    }
    return {**kept, **asked}
