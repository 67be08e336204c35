"""What only the authors of a study know, for checklists and model cards."""

import json
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segstudy.study.settings import Settings

WITHHELD = "given, and withheld here"
"""What stands in an anonymous zip in place of an entry that leads to people."""


def _text(value: Any) -> Any:
    """Refuse what is no text that can be printed, in words that say how to write it."""
    if isinstance(value, bool | int | float | date):
        raise ValueError(f"{value} is no text; write it in quotes: '{value}'")
    if isinstance(value, str):
        odd = next(
            (one for one in value if unicodedata.category(one) == "Cc" and one not in "\n\t"), None
        )
        if odd is not None:
            raise ValueError(f"holds the control character {odd!a}; leave it out")
        if value and not value.strip():
            raise ValueError("holds blanks alone; leave it out, or write a text")
    return value


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"is one text; write a list: [{json.dumps(value, ensure_ascii=False)}]")
    return value


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_texts)]


class Fingerprint(Settings):
    """What Metrics Reloaded (Maier-Hein et al. 2024) asks of a problem, and no file tells."""

    boundaries: bool | None = Field(
        None, description="whether the exact border of a structure matters"
    )
    volumes: bool | None = Field(None, description="whether the volume of a structure matters")
    centres: bool | None = Field(
        None, description="whether the centre or centre line of a structure matters"
    )
    error_costs: Text = Field(
        "", description="which errors cost more, false or missed voxels, and in which structures"
    )
    tubular: bool | None = Field(None, description="whether structures are tubes")
    instances: bool | None = Field(
        None, description="whether objects of one kind are to be found one by one"
    )
    noisy_reference: bool | None = Field(
        None, description="whether annotators differ so much that the reference is uncertain"
    )


class Availability(Settings):
    """Where others find what the study is made of."""

    code: Text = Field("", description="of the code, beside segstudy itself")
    data: Text = Field("", description="of images and labels, and on which terms")
    models: Text = Field("", description="of the trained weights")


class Reporting(Settings):
    """What only the authors know. It is repeated in checklists and model cards, word for word, and changes no result.

    What is left out stands there as `author`: to be filled in by them.
    """

    authors: Texts = Field((), description="of the models, for their cards")
    contact: Text = Field("", description="address for questions")
    licence: Text = Field(
        "", description="of the trained weights, as Hugging Face spells it, such as `cc-by-4.0`"
    )
    copyright: Text = Field("", description="holder of the rights in the weights")
    abstract: Text = Field("", description="the paper's abstract, or a summary of the study")
    background: Text = Field("", description="scientific and clinical background")
    intended_use: Text = Field(
        "", description="what the models are for, by whom they are used, and at which step of care"
    )
    out_of_scope: Text = Field("", description="uses that the models are not meant for")
    goal: Text = Field("", description="kind of study, such as feasibility or model comparison")
    hypothesis: Text = Field("", description="what was expected, before the results")
    design: Literal["prospective", "retrospective", "both"] | None = Field(
        None, description="whether the data were collected for the study"
    )
    sources: Text = Field("", description="institutions and registries that the data come from")
    source_dates: Text = Field("", description="when the images were taken, such as `2015 to 2019`")
    eligibility: Text = Field("", description="who was included and who was not")
    selection: Text = Field(
        "",
        description="how cases were chosen among the eligible: all, consecutive, at random, by convenience",
    )
    acquisition: Text = Field("", description="scanners, protocols, contrast agents")
    deidentification: Text = Field("", description="how names were taken out, and how faces")
    demographics: Text = Field("", description="age, sex, disease and its severity")
    missing_data: Text = Field("", description="data that were missing before the study, and why")
    reference_standard: Text = Field(
        "", description="what the labels stand for, and the protocol by which they were drawn"
    )
    reference_rationale: Text = Field("", description="why this reference and no other")
    annotators: Text = Field("", description="how many, their training and experience")
    annotation_tools: Text = Field(
        "", description="programs, with versions, and models that helped"
    )
    test_annotation: Text = Field(
        "", description="how the labels of tested cases were drawn, if otherwise"
    )
    rater_variability: Text = Field("", description="agreement between and within annotators")
    sample_size: Text = Field("", description="how the number of cases was decided on")
    initialisation: Text = Field(
        "", description="weights that training began from, if not at random"
    )
    robustness: Text = Field("", description="analyses of robustness made beside this study")
    explainability: Text = Field("", description="analyses of what the models look at")
    external_data: Text = Field("", description="why there is no external test, or how it differs")
    limitations: Texts = Field((), description="of the study and the models")
    implications: Text = Field("", description="for practice")
    ethics: Text = Field("", description="approval, with number, and consent")
    registration: Text = Field("", description="registry and number of the trial or study")
    protocol: Text = Field("", description="where the protocol is")
    funding: Text = Field("", description="sources, and what part funders had")
    conflicts: Text = Field("", description="competing interests")
    availability: Availability = Availability()
    fingerprint: Fingerprint = Fingerprint()

    def reworded(self, change: Callable[[str], str]) -> "Reporting":
        """Return a copy in which `change` was applied to each text."""

        def new(value: Any) -> Any:
            if isinstance(value, Settings):
                names = type(value).model_fields
                return value.model_copy(update={name: new(getattr(value, name)) for name in names})
            if isinstance(value, tuple):
                return tuple(map(new, value))
            return change(value) if isinstance(value, str) and value else value

        return new(self)

    def texts(self) -> list[tuple[str, str]]:
        """List the keys of the study file and what the authors wrote there."""
        found = []
        for name, value in (
            *((f"reporting.{name}", getattr(self, name)) for name in type(self).model_fields),
            *((f"reporting.availability.{name}", text) for name, text in self.availability),
            ("reporting.fingerprint.error_costs", self.fingerprint.error_costs),
        ):
            texts = (
                (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
            )
            found += [(name, text) for text in texts if text]
        return found

    def withheld(self) -> "Reporting":
        """Return a copy without what leads to people or to their institutions, which is said to be withheld."""
        hidden: dict[str, object] = {
            name: WITHHELD
            for name in IDENTIFYING
            if isinstance(getattr(self, name), str) and getattr(self, name)
        }
        if self.authors:
            hidden["authors"] = (WITHHELD,)
        places = self.availability
        given = {name: WITHHELD for name in type(places).model_fields if getattr(places, name)}
        return self.model_copy(update={**hidden, "availability": places.model_copy(update=given)})


IDENTIFYING = (
    *("authors", "contact", "copyright", "sources", "annotators", "ethics", "registration"),
    *("protocol", "funding", "conflicts", "availability"),
)
"""Fields that lead to people or to their institutions."""
