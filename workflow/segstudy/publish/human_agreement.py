"""A second reader's labels as a reference: how far people agree on the structures that models segment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segstudy.metric import Metric
from segstudy.publish.results import Results
from segstudy.publish.words import listing
from segstudy.words import count

NAMED_STRUCTURES = 6
"""Up to so many structures, a sentence has the numbers of each; of more, those of the least and the best."""


@dataclass(frozen=True)
class Agreement:
    """How a reader's labels of a structure lie to the reference labels, by a metric.

    Attributes
    ----------
    rater
        The model of the study file that has the labels.
    median, q1, q3
        Over the subjects that the reader drew; infinite ranks as worst.
    n
        Number of these subjects.
    place
        Of the rater among the raters, from 0.
    """

    rater: str
    median: float
    q1: float
    q3: float
    n: int
    place: int


def of_figure(results: Results, dataset: str, metric: str) -> dict[str, list[Agreement]]:
    """Return the agreement of each rater with the reference labels: structure -> raters; nothing in a study without raters."""
    table = results.human_agreement
    table = table[(table["dataset"] == dataset) & (table["metric"] == metric)]
    found: dict[str, list[Agreement]] = {}
    for row in table.to_dict("records"):
        if row["n_subjects"] and not math.isnan(row["median"]):
            numbers = (float(row[name]) for name in ("median", "q1", "q3"))
            found.setdefault(row["structure"], []).append(
                Agreement(
                    row["model"],
                    *numbers,
                    int(row["n_subjects"]),
                    results.raters.index(row["model"]),
                )
            )
    return found


def label(rater: str, agreements: Sequence[Agreement], several: bool) -> str:
    """Name a rater's band in a legend, with the number of subjects, a range where structures differ in it."""
    numbers = sorted({one.n for one in agreements if one.rater == rater})
    n = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
    return f"human agreement{f' ({rater})' if several else ''}, n\u00a0=\u00a0{n}"


def caption(agreements: Sequence[Agreement]) -> str:
    """Say in a figure's caption what the bands are; empty where there are none."""
    if not agreements:
        return ""
    several = len({one.rater for one in agreements}) > 1
    whose = "each second reader's labels" if several else "a second reader's labels"
    return (
        f" Grey band and dashed line: quartiles and median of {whose} against the reference labels (human agreement), over the "
        "subjects that the reader drew."
    )


def drawn(results: Results, rater: str) -> dict[str, int]:
    """Count the cases of each tested dataset that a rater drew, in order."""
    table = results.all_metrics
    counts = table[table["model"] == rater].groupby("dataset")["case"].nunique()
    return {name: int(counts.get(name, 0)) for name in results.study.tested_datasets}


def methods(results: Results) -> str:
    """Describe the second readers' labels for the methods text; empty where there are none."""
    sentences = [
        f"A second reader ({rater}) drew {_cases(results, rater)}; these labels were measured against the reference labels as those "
        "of a model are. They stand for human agreement, and are in no test, ranking or verdict."
        for rater in results.raters
    ]
    return " ".join(sentences)


def findings(results: Results, metrics: Sequence[Metric]) -> list[str]:
    """Write a sentence for each second reader and dataset: how many cases, and the agreement by each metric."""
    sentences = []
    for rater in results.raters:
        for dataset, number in drawn(results, rater).items():
            numbers = [
                words
                for one in metrics
                if number and (words := _numbers(results, rater, dataset, one))
            ]
            if numbers:
                sentences.append(
                    f"Human agreement: a second reader ({rater}) drew {number} of {_of(results, dataset)}; "
                    f"{'; '.join(numbers)}."
                )
    return sentences


def _cases(results: Results, rater: str) -> str:
    """Say how many of the tested cases a rater drew, dataset by dataset."""
    return listing(
        [
            f"{number} of {_of(results, dataset)}"
            for dataset, number in drawn(results, rater).items()
        ]
    )


def _of(results: Results, dataset: str) -> str:
    """Count the tested cases of a dataset, with its name where there are several."""
    table = results.metrics
    cases = table.loc[table["dataset"] == dataset, "case"].nunique()
    where = f" of {dataset}" if len(results.study.tested_datasets) > 1 else ""
    return f"{count(cases, 'case')}{where}"


def _numbers(results: Results, rater: str, dataset: str, shown_metric: Metric) -> str:
    """Write the median and quartiles of each structure, or of the least and the best of many."""
    found = {
        structure: one
        for structure, of_structure in of_figure(results, dataset, shown_metric.name).items()
        for one in of_structure
        if one.rater == rater and structure in results.study.structures
    }
    if not found:
        return ""
    text = shown_metric.text

    def told(structure: str) -> str:
        one = found[structure]
        name = results.look.in_text(structure)
        return f"{name} {text(one.median)} (IQR {text(one.q1)}–{text(one.q3)})"

    shown = [name for name in results.look.structures if name in found]
    if len(shown) <= NAMED_STRUCTURES:
        named = listing([told(name) for name in shown])
    else:
        ordered = sorted(shown, key=lambda name: shown_metric.cost(found[name].median))
        named = f"from {told(ordered[-1])} to {told(ordered[0])}"
    return f"{shown_metric.axis} with the reference labels, median: {named}"
