"""A verdict in words, the same in `report.md` and in the report."""

from collections.abc import Callable, Mapping

from segstudy.words import confidence, minus

SHORT = {
    "a_better": "A better",
    "equivalent": "equivalent",
    "b_better": "B better",
    "cannot_be_told": "cannot be told",
}
ABOUT_P = (
    "Models of a cross-validation share training data: p compares these trained models on these subjects, not the "
    "learning algorithms; the t test of the folds' means that allows for it (Nadeau and Bengio 2003) stands beside it."
)


def short(row: Mapping) -> str:
    """Say a verdict in a word or two, with the model that is slightly better of equivalent ones."""
    slight = {"a": " (A slightly better)", "b": " (B slightly better)"}
    return SHORT[row["verdict"]] + slight.get(row["slightly_better"], "")


def sentence(
    row: Mapping,
    alpha: float,
    metric: str,
    name: Callable[[str], str] = str,
    structure: Callable[[str], str] = str,
) -> str:
    """Write a verdict as a sentence for a paper.

    Parameters
    ----------
    row
        Of `verdicts.csv`.
    alpha
        Level of significance.
    metric
        The metric as it is called in text.
    name, structure
        Return the name of a model, and of a structure, as it is shown.
    """
    a, b = name(row["model_a"]), name(row["model_b"])
    within = row["dataset"] == row["dataset_b"]
    if not within:
        a, b = f"{a} on {row['dataset']}", f"{b} on {row['dataset_b']}"
    on = f" on {row['dataset']}" if within and row["dataset"] else ""
    what = f"in {metric} of {structure(row['structure'])}{on}"
    margin = f"±{row['margin']:g}"
    if row["verdict"] == "equivalent":
        head = f"{a} and {b} are equivalent {what} within {margin}"
        slight = {"a": a, "b": b}.get(row["slightly_better"])
        head += f", {slight} being slightly better" if slight else ""
    else:
        head = {
            "a_better": f"{a} is better than {b} {what}",
            "b_better": f"{b} is better than {a} {what}",
            "cannot_be_told": f"Whether {a} or {b} is better {what} cannot be told",
        }[row["verdict"]]
    return f"{head}: {numbers(row, alpha)}."


def numbers(row: Mapping, alpha: float) -> str:
    """List the numbers behind a verdict."""
    if row["p"] != row["p"]:
        return f"not tested ({row['remark']})" if row["remark"] else "not tested"
    estimate = {"mean_difference": "mean difference"}.get(
        row["estimate_name"], "Hodges-Lehmann shift"
    )
    parts = [
        f"{estimate} (A − B) {minus(format(row['estimate'], '+.3g'))}",
        f"{confidence(alpha)} CI {interval(row, 'ci_low', 'ci_high')}",
        f"{p_text(row['p_adjusted'], row['n_family'])}",
    ]
    if row["equivalence_low"] == row["equivalence_low"]:
        parts += [
            f"{confidence(2 * alpha)} CI {interval(row, 'equivalence_low', 'equivalence_high')} against a margin of "
            f"±{row['margin']:g}",
            f"{p_text(row['p_equivalence_adjusted'], row['n_equivalence'])} for equivalence",
        ]
    parts.append(f"n = {int(row['n_subjects'])} subjects")
    if row["p_other_order"] == row["p_other_order"]:
        parts.append(
            f"probability of the other order {row['p_other_order']:.2g} under a flat prior"
        )
    if row["p_folds"] == row["p_folds"]:
        parts.append(
            f"over {int(row['folds'])} folds, corrected t({row['folds_df']:g}) = {minus(format(row['folds_t'], '.2f'))}, "
            f"{p_text(row['p_folds'], 1)}"
        )
    return "; ".join(parts)


def interval(row: Mapping, low: str, high: str) -> str:
    """Write an interval of a row by the names of its ends."""
    if row[low] != row[low]:
        return "–"
    # An end that was moved away from 0 by rounding is 0 to a reader.
    ends = (0.0 if abs(row[end]) < 1e-9 else row[end] for end in (low, high))
    return minus(f"[{', '.join(f'{end:.3g}' for end in ends)}]")


def p_text(p: float, number: int) -> str:
    """Write p, adjusted over a number of tests."""
    if p != p:
        return "p not told"
    return f"{'adjusted ' if number > 1 else ''}p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
