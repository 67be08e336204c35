"""What the report says of the verdicts: the leading ones on the first screen, all in a table."""

from collections import Counter
from collections.abc import Mapping

from segstudy import analysis_plan, metric, verdict_words
from segstudy.publish.results import Results
from segstudy.publish.tables import Cell
from segstudy.publish.words import p_value
from segstudy.words import confidence

MOST_LEADING = 6
"""Sentences on the first screen."""


def shown(results: Results) -> dict:
    """Return what the report shows of the verdicts; nothing where no margin and no primary endpoint is set."""
    settings = results.study.statistics
    if not settings.is_planned or len(results.study.models) < 2:
        return {"leading": [], "rows": []}
    table = results.comparison_verdicts
    primary = table[table["primary"].astype(bool)]
    told = table[table["margin"].notna() | table["primary"].astype(bool)]
    leading = (primary if settings.primary else told).to_dict("records")[:MOST_LEADING]
    others = told.drop(index=told.index[: 0 if settings.primary else len(leading)])
    others = others[~others["primary"].astype(bool)]
    return {
        "title": _title(results),
        "leading": [_sentence(results, row) for row in leading],
        "counts": _counts(others["verdict"]),
        "recorded": analysis_plan.standing(results.root, settings).sentence,
        "about_p": verdict_words.ABOUT_P,
        "head": _head(settings.alpha),
        "rows": [_row(results, row) for row in told.to_dict("records")],
    }


def _title(results: Results) -> str:
    primary = results.study.statistics.primary
    if not primary:
        return "Verdicts"
    title = metric.find(primary.metric).title
    return f"Verdict on the primary endpoint: {title} of {results.look.in_text(primary.structure)}"


def _sentence(results: Results, row: Mapping) -> str:
    look = results.look
    title, alpha = metric.find(row["metric"]).title, results.study.statistics.alpha
    return verdict_words.sentence(row, alpha, title, look.model, look.in_text)


def _counts(verdicts) -> str:
    """Count the verdicts that are not told one by one."""
    counts = Counter(verdicts)
    parts = [
        f"{counts[name]} {words}" for name, words in verdict_words.SHORT.items() if counts[name]
    ]
    return f"Of the other comparisons: {', '.join(parts)}." if parts else ""


def _head(alpha: float) -> list[str]:
    head = ["Structure", "Metric", "A − B", "Subjects", "Verdict", "Difference"]
    head += [f"{confidence(alpha)} CI", "p adjusted", "Margin", f"{confidence(2 * alpha)} CI"]
    return [*head, "p of equivalence, adjusted", "Other order", "p over folds"]


def _row(results: Results, row: Mapping) -> list[Cell]:
    look, shown_metric = results.look, metric.find(row["metric"])
    a, b = look.model(row["model_a"]), look.model(row["model_b"])
    pair = f"{a}\u00a0− {b}"
    if row["dataset"] != row["dataset_b"]:
        pair = f"{a}, {row['dataset']} − {row['dataset_b']}"
    elif len(results.study.tested_datasets) > 1:
        pair += f", {row['dataset']}"
    return [
        Cell(look.structure(row["structure"])),
        Cell(shown_metric.axis),
        Cell(pair),
        Cell(str(int(row["n_subjects"])), float(row["n_subjects"])),
        Cell(verdict_words.short(row)),
        Cell(shown_metric.text(row["estimate"]), row["estimate"]),
        Cell(verdict_words.interval(row, "ci_low", "ci_high")),
        _p(row["p_adjusted"]),
        Cell("–" if row["margin"] != row["margin"] else f"±{row['margin']:g}", row["margin"]),
        Cell(verdict_words.interval(row, "equivalence_low", "equivalence_high")),
        _p(row["p_equivalence_adjusted"]),
        Cell(f"{row['p_other_order']:.2g}", row["p_other_order"]),
        _p(row["p_folds"]),
    ]


def _p(value: float) -> Cell:
    return Cell(p_value(value), value)
