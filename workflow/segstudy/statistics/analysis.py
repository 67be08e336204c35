"""All tables of the statistics, from the rows of the tables of metrics."""

from dataclasses import dataclass

import pandas as pd

from segstudy.log import log
from segstudy.metric_questions import OVERLAP, SMALL_VOXELS
from segstudy.statistics.comparisons import compare, judged_families, table
from segstudy.statistics.completion import completed, false_positives
from segstudy.statistics.ranking import rank
from segstudy.statistics.summary import summarise
from segstudy.statistics.values import chosen_metrics
from segstudy.statistics.variance import variance_components
from segstudy.statistics.verdict import verdicts
from segstudy.study import Statistics


@dataclass(frozen=True)
class Analysis:
    """All tables of the statistics; each is written to the file of its name (.csv).

    false_positives and false_positive_tests: as summary and tests, of the cases whose reference
    lacks a structure.

    Attributes
    ----------
    values
        The compared values, a row a model and case (`completion.completed`).
    summary
        Of each model.
    tests
        Every comparison.
    verdicts
        On every comparison.
    ranking, places
        Ranks of the models, and their places in resamples.
    false_positives, false_positive_tests
        As summary and tests, of the cases whose reference lacks a structure.
    """

    values: pd.DataFrame
    summary: pd.DataFrame
    tests: pd.DataFrame
    verdicts: pd.DataFrame
    ranking: pd.DataFrame
    places: pd.DataFrame
    false_positives: pd.DataFrame
    false_positive_tests: pd.DataFrame


def analyse(runs: pd.DataFrame, settings: Statistics) -> Analysis:
    """Summarise and compare a table of `importers.read_tables`."""
    _warn_of_overlap_alone(runs, settings)
    values, spread = completed(runs, settings), variance_components(runs)
    absent = false_positives(runs, settings)
    models_measured = set(absent["model"])
    pairs = settings.compare
    if pairs != "all":
        pairs = tuple(pair for pair in pairs if models_measured.issuperset(pair))
    of_absent = settings.model_copy(
        update={"metrics": "auto", "compare": pairs, "compare_datasets": (), "primary": None}
    )
    families = judged_families(values, settings, spread)
    ranking, places = rank(values, settings)
    return Analysis(
        values,
        summarise(values, settings, spread),
        table(families),
        verdicts(families, settings),
        ranking,
        places,
        summarise(absent, of_absent),
        compare(absent, of_absent),
    )


def _warn_of_overlap_alone(runs: pd.DataFrame, settings: Statistics) -> None:
    """Warn of small structures that are compared by their overlap alone."""
    chosen = chosen_metrics(runs, settings.metrics) if len(runs) else []
    if set(chosen) - OVERLAP:
        return
    held = runs[runs["n_reference_voxels"] > 0].groupby("structure")["n_reference_voxels"].median()
    for structure, voxels in held[held < SMALL_VOXELS**3].items():
        log.warning(
            "%s has %d voxels in the median case: %s alone say little of it, since a voxel along the border changes them "
            "by much; compare a distance or an NSD too (statistics.metrics)",
            structure,
            voxels,
            ", ".join(chosen),
        )
