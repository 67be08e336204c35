"""The report's section on ratings: what readers think of predictions, how far they agree, and what Dice says of the same."""

import math
from collections.abc import Mapping
from typing import Any

from segstudy.publish.results import Results
from segstudy.publish.tables import Cell
from segstudy.publish.words import listing
from segstudy.rating_files import ALL, GRADES, MEANING
from segstudy.words import count


def shown(results: Results) -> dict[str, Any]:
    """Return what the report shows of ratings; no lead where nobody has rated."""
    found = results.ratings
    if found is None:
        return {"lead": ""}
    look = results.look
    return {
        "lead": lead(results),
        "about": ABOUT,
        "tables": [
            {
                "name": "ratings-counts",
                "heading": "Grades",
                "about": "Numbers of ratings.",
                "head": ["Dataset", "Model", "Rater", "Ratings", "Cases", *GRADES, "Good or usable"],
                "rows": [_counted(look, row) for row in found["ratings"].to_dict("records")],
            },
            {
                "name": "ratings-agreement",
                "heading": "Agreement of raters",
                "about": "Cohen's kappa with quadratic weights, with a 95 % percentile interval over resamples of the subjects, which "
                "fewer than five subjects do not give; undefined where both raters gave one grade only.",
                "head": ["Dataset", "Raters", "Rated by both", "Subjects", "Same grade", "Kappa", "95 % CI"],
                "rows": [_agreed(row) for row in found["agreement"].to_dict("records")],
            },
            {
                "name": "ratings-dice",
                "heading": "Grade and Dice",
                "about": "Mean Dice over the structures of the predictions of each grade. Rank correlation: Spearman's, above 0 where "
                "better grades have higher Dice.",
                "head": ["Dataset", "Grade", "Ratings", "Median Dice", "Quartiles", "Rank correlation"],
                "rows": [_by_dice(row) for row in found["dice"].to_dict("records")],
            },
        ],
    }  # fmt: skip


ABOUT = (
    "Raters saw image and prediction, no reference and no name of a model: models had letters in an order drawn for each case. "
    + "; ".join(f"{grade}: {MEANING[grade]}" for grade in GRADES).capitalize()
    + "."
)


def lead(results: Results) -> str:
    """Say how many predictions were rated by whom, and how each model fared."""
    table = results.ratings["ratings"]
    whole = table[table["rater"] == ALL]
    sums = whole.groupby("model")[["n_ratings", *GRADES]].sum()
    named = [
        f"{results.look.model(name)} {sums.loc[name, 'good'] + sums.loc[name, 'usable']} of {sums.loc[name, 'n_ratings']}"
        for name in results.look.models
        if name in sums.index
    ]
    return f"{_readers(results)} gave {count(int(whole['n_ratings'].sum()), 'rating')}; good or usable: {listing(named)}."


def _readers(results: Results) -> str:
    """Say how many readers have rated."""
    table = results.ratings["ratings"]
    return count(table.loc[table["rater"] != ALL, "rater"].nunique(), "reader")


def sentences(results: Results) -> str:
    """Return what the methods text says of ratings."""
    study, agreement = results.study, results.ratings["agreement"]
    table = results.ratings["ratings"]
    cases = table[table["rater"] == ALL].groupby("dataset", sort=False)["n_cases"].max()
    drawn = "" if study.ratings.cases == "all" else f" drawn at random (seed {study.ratings.seed})"
    on = listing([f"{number} of {dataset}" for dataset, number in cases.items()])
    told = (
        f"{_readers(results)} rated predictions of cases{drawn} ({on}) as good ({MEANING['good']}), usable ({MEANING['usable']}) or "
        f"bad ({MEANING['bad']}), without the reference and blinded to the model, whose letters were drawn anew for each case."
    )
    known = [row for row in agreement.to_dict("records") if not math.isnan(row["kappa"])]
    if known:
        values = [
            f"{row['kappa']:.2f}{_in_brackets(row)} for {row['rater_a']} and {row['rater_b']} on {row['dataset']} "
            f"({count(int(row['n_ratings']), 'prediction')})"
            for row in known
        ]
        told += f" Cohen's kappa with quadratic weights was {listing(values)}."
    return told


def _interval(row: Mapping[str, Any]) -> str:
    """Write the interval of kappa; empty where there is none."""
    if math.isnan(row["kappa_low"]):
        return ""
    return f"{row['kappa_low']:.2f} to {row['kappa_high']:.2f}".replace("-", "\u2212")


def _in_brackets(row: Mapping[str, Any]) -> str:
    interval = _interval(row)
    return f" (95 % CI {interval})" if interval else ""


def _counted(look, row: Mapping[str, Any]) -> list[Cell]:
    n = row["n_ratings"]
    accepted = (row["good"] + row["usable"]) / n
    return [
        Cell(row["dataset"]),
        Cell(look.model(row["model"])),
        Cell(row["rater"]),
        *(Cell(str(row[name]), row[name]) for name in ("n_ratings", "n_cases", *GRADES)),
        Cell(f"{100 * accepted:.0f} % of {n}", accepted),
    ]


def _agreed(row: Mapping[str, Any]) -> list[Cell]:
    kappa = row["kappa"]
    return [
        Cell(row["dataset"]),
        Cell(f"{row['rater_a']}, {row['rater_b']}"),
        *(Cell(str(row[name]), row[name]) for name in ("n_ratings", "n_subjects")),
        _number(row["same_grade"], "{:.0%}"),
        _number(kappa, "{:.2f}"),
        Cell(_interval(row) or "–"),
    ]


def _by_dice(row: Mapping[str, Any]) -> list[Cell]:
    quartiles = "–" if math.isnan(row["q1"]) else f"{row['q1']:.3f} to {row['q3']:.3f}"
    return [
        Cell(row["dataset"]),
        Cell(row["grade"]),
        Cell(str(row["n_ratings"]), row["n_ratings"]),
        _number(row["median_dice"], "{:.3f}"),
        Cell(quartiles),
        _number(row["spearman"], "{:.2f}"),
    ]


def _number(value: float, text: str) -> Cell:
    shown = (
        "–" if math.isnan(value) else text.format(value).replace("-", "\u2212").replace("%", " %")
    )
    return Cell(shown, value)
