"""What only the authors of a study know, for checklists and model cards."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from segstudy.study.settings import Settings

WITHHELD = "given, and withheld here"
"""What stands in an anonymous zip in place of an entry that leads to people."""


class Fingerprint(Settings):
    """What Metrics Reloaded (Maier-Hein et al. 2024) asks of a problem, and no file tells."""

    boundaries: bool | None = Field(
        None, description="whether the exact border of a structure matters"
    )
    volumes: bool | None = Field(None, description="whether the volume of a structure matters")
    centres: bool | None = Field(
        None, description="whether the centre or centre line of a structure matters"
    )
    error_costs: str = Field(
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

    code: str = Field("", description="of the code, beside segstudy itself")
    data: str = Field("", description="of images and labels, and on which terms")
    models: str = Field("", description="of the trained weights")


class Reporting(Settings):
    """What only the authors know. It is repeated in checklists and model cards, word for word, and changes no result.

    What is left out stands there as `author`: to be filled in by them.
    """

    authors: tuple[str, ...] = Field((), description="of the models, for their cards")
    contact: str = Field("", description="address for questions")
    licence: str = Field(
        "", description="of the trained weights, as Hugging Face spells it, such as `cc-by-4.0`"
    )
    copyright: str = Field("", description="holder of the rights in the weights")
    abstract: str = Field("", description="the paper's abstract, or a summary of the study")
    background: str = Field("", description="scientific and clinical background")
    intended_use: str = Field(
        "", description="what the models are for, by whom they are used, and at which step of care"
    )
    out_of_scope: str = Field("", description="uses that the models are not meant for")
    goal: str = Field("", description="kind of study, such as feasibility or model comparison")
    hypothesis: str = Field("", description="what was expected, before the results")
    design: Literal["prospective", "retrospective", "both"] | None = Field(
        None, description="whether the data were collected for the study"
    )
    sources: str = Field("", description="institutions and registries that the data come from")
    source_dates: str = Field("", description="when the images were taken, such as `2015 to 2019`")
    eligibility: str = Field("", description="who was included and who was not")
    selection: str = Field(
        "",
        description="how cases were chosen among the eligible: all, consecutive, at random, by convenience",
    )
    acquisition: str = Field("", description="scanners, protocols, contrast agents")
    deidentification: str = Field("", description="how names were taken out, and how faces")
    demographics: str = Field("", description="age, sex, disease and its severity")
    missing_data: str = Field("", description="data that were missing before the study, and why")
    reference_standard: str = Field(
        "", description="what the labels stand for, and the protocol by which they were drawn"
    )
    reference_rationale: str = Field("", description="why this reference and no other")
    annotators: str = Field("", description="how many, their training and experience")
    annotation_tools: str = Field("", description="programs, with versions, and models that helped")
    test_annotation: str = Field(
        "", description="how the labels of tested cases were drawn, if otherwise"
    )
    rater_variability: str = Field("", description="agreement between and within annotators")
    sample_size: str = Field("", description="how the number of cases was decided on")
    initialisation: str = Field(
        "", description="weights that training began from, if not at random"
    )
    robustness: str = Field("", description="analyses of robustness made beside this study")
    explainability: str = Field("", description="analyses of what the models look at")
    external_data: str = Field("", description="why there is no external test, or how it differs")
    limitations: tuple[str, ...] = Field((), description="of the study and the models")
    implications: str = Field("", description="for practice")
    ethics: str = Field("", description="approval, with number, and consent")
    registration: str = Field("", description="registry and number of the trial or study")
    protocol: str = Field("", description="where the protocol is")
    funding: str = Field("", description="sources, and what part funders had")
    conflicts: str = Field("", description="competing interests")
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
