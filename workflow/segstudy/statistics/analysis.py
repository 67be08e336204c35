"""All tables of the statistics, from the rows of the tables of metrics."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from segstudy.errors import InputError
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
        Of each model, then of each rater.
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


def analyse(runs: pd.DataFrame, settings: Statistics, raters: Collection[str] = ()) -> Analysis:
    """Summarise and compare a table of `importers.read_tables`.

    Parameters
    ----------
    runs
        The table.
    settings
        Settings of the statistics.
    raters
        Models that are a second reader's labels. They are summarised, each over the cases that it drew, and in no other table:
        the models are compared as if the raters were not there.
    """
    drawn = [_drawn(runs, rater) for rater in raters]
    if raters:
        runs = runs[~runs["model"].isin(raters)].reset_index(drop=True)
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
        pd.concat(
            [
                summarise(values, settings, spread),
                *(
                    summarise(completed(rows, settings), settings, variance_components(rows))
                    for rows in drawn
                ),
            ],
            ignore_index=True,
        )
        if drawn
        else summarise(values, settings, spread),
        table(families),
        verdicts(families, settings),
        ranking,
        places,
        summarise(absent, of_absent),
        compare(absent, of_absent),
    )


def _drawn(runs: pd.DataFrame, rater: str) -> pd.DataFrame:
    """Return the rows of the cases that a rater drew; raise InputError where there is none."""
    rows = runs[(runs["model"] == rater) & (runs["status"] != "missing_file")]
    if rows.empty:
        raise InputError(
            f"rater {rater}: none of the measured cases has labels of this rater; expected rows of model {rater} in the tables of "
            f"metrics (in a study: files that models.{rater}.files finds, called as the cases are)"
        )
    return rows.reset_index(drop=True)


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
