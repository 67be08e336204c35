"""What corrected labels did to the results: the same tables under both labels, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from segstudy.correction_records import CONTROL, CORRECTED, DELIVERED, QUEUE, Correction
from segstudy.review.fault_rate import Stratum, fault_rate
from segstudy.words import confidence, count

ROW = ["dataset", "model", "fold", "seed", "case", "structure", "metric"]
"""Columns that name a measurement."""
LABELS = (DELIVERED, CORRECTED)
SIDE_BY_SIDE = ("dataset", "model", "structure", "metric", "n_subjects")
SIDE_BY_SIDE += tuple(
    f"{what}_{labels}" for labels in LABELS for what in ("mean", "ci_low", "ci_high")
)
SIDE_BY_SIDE += ("difference",)
RANKS = ("dataset", "structure", "metric", "model")
RANKS += tuple(f"{what}_{labels}" for labels in LABELS for what in ("mean_rank", "place")) + (
    "moved",
)
TESTS = ("dataset", "dataset_b", "structure", "metric", "model_a", "model_b")
COMPARED = ("estimate", "ci_low", "ci_high", "p", "p_adjusted", "verdict")
COMPARISONS = (*TESTS, *(f"{what}_{labels}" for labels in LABELS for what in COMPARED))
EFFECTS = ("dataset", "model", "structure", "metric", "n_cases")
EFFECTS += ("old_models_old_labels", "old_models_new_labels", "new_models_old_labels")
EFFECTS += ("new_models_new_labels", "by_test_labels", "by_training_labels")
CHANGES = (
    "dataset",
    "structure",
    "n_cases",
    "n_reviewed",
    "n_corrected",
    "n_changed",
    "share_of_cases",
)
CHANGES += ("voxels_added", "voxels_removed", "voxels_old", "share_of_voxels")
FAULTS = ("dataset", "stratum", "n_cases", "n_reviewed", "n_faulty", "rate", "low", "high")


def with_labels(
    metrics: pd.DataFrame, corrected: pd.DataFrame, labels: Mapping[str, str]
) -> pd.DataFrame:
    """Return a table of measurements in which corrected cases are measured under the labels asked for.

    Parameters
    ----------
    metrics
        All measurements, text but for `value`.
    corrected
        Those of corrected cases: the same columns, and `labels`.
    labels
        Dataset -> `delivered` or `corrected`.

    Returns
    -------
    pandas.DataFrame
        The rows in the order of `metrics`; rows of a corrected case that only the other label has are left
        out, those that it lacks stand at the end.
    """
    is_asked = corrected["labels"] == corrected["dataset"].map(labels)
    own = corrected[is_asked][list(metrics.columns)]
    rows = {tuple(row[key] for key in ROW): row for row in own.to_dict("records")}
    cases = {(row["dataset"], row["case"]) for row in rows.values()}
    found = []
    for row in metrics.to_dict("records"):
        is_corrected = (row["dataset"], row["case"]) in cases
        new = rows.pop(tuple(row[key] for key in ROW), None) if is_corrected else row
        if new is not None:
            found.append(new)
    return pd.DataFrame([*found, *rows.values()], columns=metrics.columns)


def by_labels(
    own: pd.DataFrame, other: pd.DataFrame, headlines: Mapping[str, str]
) -> dict[str, pd.DataFrame]:
    """Sort two tables by labels. own: under the labels that count, by dataset `headlines`; other: under the others."""
    is_old = {name: labels == DELIVERED for name, labels in headlines.items()}
    sorted_tables = {}
    for labels in LABELS:
        from_own = {name for name, old in is_old.items() if old == (labels == DELIVERED)}
        parts = [own[own["dataset"].isin(from_own)], other[~other["dataset"].isin(from_own)]]
        sorted_tables[labels] = pd.concat(parts, ignore_index=True)
    return sorted_tables


def side_by_side(summaries: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the summaries under both labels side by side; `difference`: corrected minus delivered. Columns: `SIDE_BY_SIDE`."""
    keys = ["dataset", "model", "structure", "metric"]
    values = ["mean", "ci_low", "ci_high"]
    old, new = (summaries[labels][[*keys, "n_subjects", *values]] for labels in LABELS)
    both = old.merge(new, on=keys, how="outer", suffixes=("_delivered", "_corrected"), sort=False)
    both["n_subjects"] = both["n_subjects_corrected"].fillna(both["n_subjects_delivered"])
    both["difference"] = both["mean_corrected"] - both["mean_delivered"]
    return both[list(SIDE_BY_SIDE)]


def tests_side_by_side(tests: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the comparisons of models under both labels side by side, as far as tables have these columns."""
    columns = [name for name in COMPARED if all(name in table for table in tests.values())]
    keys = [name for name in TESTS if all(name in table for table in tests.values())]
    old, new = (tests[labels][[*keys, *columns]] for labels in LABELS)
    return old.merge(new, on=keys, how="outer", suffixes=("_delivered", "_corrected"), sort=False)


def rank_changes(rankings: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return each model's mean rank and place under both labels. `moved`: places won (+) or lost (-). Columns: `RANKS`."""
    keys = ["dataset", "structure", "metric", "model"]
    tables = []
    for labels in LABELS:
        own = rankings[labels][[*keys, "mean_rank"]].copy()
        own["place"] = own.groupby(keys[:3])["mean_rank"].rank(method="min")
        tables.append(own)
    both = tables[0].merge(tables[1], on=keys, suffixes=("_delivered", "_corrected"), sort=False)
    both["moved"] = both["place_delivered"] - both["place_corrected"]
    whole = dict.fromkeys(("place_delivered", "place_corrected", "moved"), "Int64")
    return both.astype(whole)[list(RANKS)]


def effects(
    before: Mapping[str, pd.DataFrame] | None, now: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Tell apart what corrected test labels did and what corrected training labels did.

    Parameters
    ----------
    before, now
        The measurements by the models from before the first correction, and by those of now, under
        `delivered` and under `corrected` labels.

    Returns
    -------
    pandas.DataFrame
        Means over the measurements that all four have, with finite values. `by_test_labels`: the same, old models,
        corrected minus delivered labels; `by_training_labels`: new minus old models, under corrected labels. The
        two add up to all that changed. Columns: `EFFECTS`; empty where nothing is known of before.
    """
    if before is None:
        return pd.DataFrame(columns=list(EFFECTS))
    parts = {
        f"{age}_models_{kind}_labels": tables[labels].set_index(ROW)["value"]
        for age, tables in (("old", before), ("new", now))
        for kind, labels in (("old", DELIVERED), ("new", CORRECTED))
    }
    four = pd.concat(parts, axis=1, join="inner").astype(float)
    four = four[~four.isin([float("inf")]).any(axis=1)].dropna()
    keys = ["dataset", "model", "structure", "metric"]
    found = four.groupby(keys, sort=False).mean()
    found["n_cases"] = four.reset_index().groupby(keys, sort=False)["case"].nunique()
    found["by_test_labels"] = found["old_models_new_labels"] - found["old_models_old_labels"]
    found["by_training_labels"] = found["new_models_new_labels"] - found["old_models_new_labels"]
    return found.reset_index()[list(EFFECTS)]


def changes(
    sizes: Mapping[str, Mapping[str, int]], reviewed: Mapping[str, Mapping[str, Correction]]
) -> pd.DataFrame:
    """Count the cases and voxels that corrections changed, by structure.

    Parameters
    ----------
    sizes
        Dataset -> structure -> voxels in the old labels of all its cases; and `""` -> its number of cases.
    reviewed
        What is on record of each dataset's cases.

    Returns
    -------
    pandas.DataFrame
        Columns: `CHANGES`. `share_of_voxels`: voxels added and removed, of those in the old labels.
    """
    rows = []
    for dataset, voxels in sizes.items():
        done = [one for one in reviewed[dataset].values() if one.is_reviewed]
        corrected = [one for one in done if one.is_corrected]
        for structure, old in voxels.items():
            if not structure:
                continue
            own = [
                one.last["changed"][structure]
                for one in corrected
                if structure in one.last["changed"]
            ]
            added, removed = (sum(one[key] for one in own) for key in ("added", "removed"))
            n = voxels[""]
            rows.append(
                (
                    dataset,
                    structure,
                    n,
                    len(done),
                    len(corrected),
                    len(own),
                    len(own) / n,
                    added,
                    removed,
                    old,
                )
                + ((added + removed) / old if old else None,)
            )
    return pd.DataFrame(rows, columns=list(CHANGES))


def strata(
    cases: Sequence[str], reviewed: Mapping[str, Correction], up_for_review: Mapping[str, str]
) -> list[Stratum]:
    """Divide a dataset by how its cases came to be reviewed.

    Parameters
    ----------
    cases
        All cases of the dataset.
    reviewed
        What is on record of them. Cases that are on record for another reason than the random sample count
        as picked.
    up_for_review
        Case -> `queue` or `control`, as far as it is known. It goes before the record: a case of the first queue that a later
        sample draws has been picked, and the sample of all others is random without it.

    Returns
    -------
    list of Stratum
        Picked cases that were reviewed; picked cases that wait, of which nothing is known; all others, of
        which a random sample was reviewed. Empty ones are left out.
    """
    names = set(cases)
    done = {name: one for name, one in reviewed.items() if one.is_reviewed and name in names}
    drawn = {
        name
        for name, one in done.items()
        if (up_for_review.get(name) or one.last.get("picked_by")) == CONTROL
    }
    picked = set(done) - drawn
    waiting = {name for name, why in up_for_review.items() if why == QUEUE} & names - set(done)
    faulty = {name for name, one in done.items() if one.is_corrected}
    others = len(names) - len(picked) - len(waiting)
    parts = [
        Stratum("picked, reviewed", len(picked), len(picked), len(picked & faulty)),
        Stratum("picked, not reviewed yet", len(waiting), 0, 0),
        Stratum("all others, by random sample", others, len(drawn), len(drawn & faulty)),
    ]
    return [one for one in parts if one.size]


def faults(
    cases: Mapping[str, Sequence[str]],
    reviewed: Mapping[str, Mapping[str, Correction]],
    up_for_review: Mapping[str, Mapping[str, str]],
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Estimate each dataset's share of faulty labels, by strata and as a whole (`stratum` all). Columns: `FAULTS`."""
    rows = []
    for dataset, names in cases.items():
        if not any(one.is_reviewed for one in reviewed[dataset].values()):
            continue
        parts = strata(names, reviewed[dataset], up_for_review[dataset])
        open_ones = max(1, sum(one.reviewed < one.size for one in parts))
        for own, level in [*(([one], alpha / open_ones) for one in parts), (parts, alpha)]:
            rate = fault_rate(own, level)
            name = own[0].name if own is not parts else "all"
            sums = [sum(getattr(one, key) for one in own) for key in ("size", "reviewed", "faulty")]
            rows.append((dataset, name, *sums, rate.estimate, rate.low, rate.high))
    return pd.DataFrame(rows, columns=list(FAULTS))


# --- in words -------------------------------------------------------------------------------------


def sentences(
    changed: pd.DataFrame,
    found: pd.DataFrame,
    ranks: pd.DataFrame,
    headlines: Mapping[str, tuple[str, str]],
    alpha: float,
) -> list[str]:
    """Return what the methods text says of corrections, a sentence each.

    Parameters
    ----------
    changed, found, ranks
        As `changes`, `faults` and `rank_changes` return them.
    headlines
        Dataset -> under which labels the study's own results are measured, and why.
    alpha
        One minus the level of the intervals.
    """
    told = []
    for dataset, own in changed.groupby("dataset", sort=False):
        n, done, corrected = (
            int(own[key].iloc[0]) for key in ("n_cases", "n_reviewed", "n_corrected")
        )
        if not corrected:
            continue
        by = ", ".join(
            f"{row.structure} in {count(int(row.n_changed), 'case')} ({row.share_of_voxels:.1%} of its voxels)"
            for row in own.itertuples()
            if row.n_changed
        )
        labels, reason = headlines[dataset]
        other = CORRECTED if labels == DELIVERED else DELIVERED
        told.append(
            f"Of {count(n, 'label')} of {dataset}, {done} {'was' if done == 1 else 'were'} reviewed by hand and {corrected} corrected"
            + (f": {by}." if by else ".")
        )
        told.append(
            f"Results on {dataset} are those under the labels as {labels}, since {reason}; the same statistics under the labels as "
            f"{other} stand beside them."
        )
    moved = int((ranks["moved"] != 0).sum())
    told.append(
        f"Between the two, {moved} of {len(ranks)} places in the rankings differ."
        if moved
        else "No place in a ranking hangs on which of the two is taken."
    )
    for row in found[found["stratum"] == "all"].itertuples():
        interval = f"between {row.low:.1%} and {row.high:.1%} ({confidence(alpha)} exact intervals by strata)"
        if pd.isna(row.rate):
            told.append(
                f"Of the {row.n_cases} labels of {row.dataset}, {interval} are faulty; since not all that were picked, or no random sample "
                "of the others, were reviewed, only these bounds are known."
            )
        else:
            told.append(
                f"An estimated {row.rate:.1%} of the {row.n_cases} labels of {row.dataset} are faulty, {interval}."
            )
    return told


def as_json(
    told: Sequence[str], headlines: Mapping[str, tuple[str, str]], source: str
) -> dict[str, Any]:
    """Return the record of the accounting in plain values."""
    labels = {name: {"labels": one, "reason": why} for name, (one, why) in headlines.items()}
    return {"headline": labels, "sentences": list(told), "source": source}
