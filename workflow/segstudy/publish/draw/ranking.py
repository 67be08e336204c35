"""Ranks of three or more models: how far apart they are, and how firm their order is."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas

from segstudy.metric import number
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.draw.comparison import CORRECTIONS, significant
from segstudy.publish.look import Look
from segstudy.publish.results import Results
from segstudy.publish.words import p_value
from segstudy.words import confidence, count

ROW_MM = 5.0
WIDEST_NAME = 22
"""Signs of a model's name on one line."""


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a critical-difference diagram and the places in resamples, a pair of panels a structure.

    Critical-difference diagram: Demšar (2006), turned, with pairwise tests in place of a critical
    distance. Places in resamples: Wiesenfarth et al. (2021).
    """
    study, look, shown_metric = results.study, results.look, figure.metric
    ranking, places = (_of(table, figure) for table in (results.ranking, results.places))
    panels = [name for name in look.regions if name in set(ranking["structure"])]
    models = look.models
    places_mm = max(30.0, 3.1 * style.text_mm() * len(models))
    names = {model: parts.wrap(look.model(model), WIDEST_NAME) for model in models}
    lines = [line for name in names.values() for line in name.split("\n")]
    names_mm = style.text_mm() * max(map(len, lines)) + 2
    # Side by side, the names of both axes of a pair take 45 signs.
    crowded = 2 * (names_mm + 45 * style.text_mm()) > style.page_mm()
    abreast = 1 if crowded or len(panels) < 4 or len(models) > 8 else style.abreast(2)
    rows = -(-max(len(panels), 1) // abreast)
    width = (
        style.page_mm()
        if abreast == 2
        else min(style.page_mm(), 43 * style.text_mm() + places_mm + names_mm)
    )
    row_mm = max(ROW_MM, 3.5 * max(name.count("\n") + 1 for name in names.values()))
    height = row_mm * len(models) + 15
    title_mm = (width / abreast - names_mm) * 45 / (45 + places_mm)
    drawn = style.canvas(width, rows * height + 2)
    axes = drawn.subplots(rows, 2 * abreast, squeeze=False, width_ratios=[45, places_mm] * abreast)
    pairs = axes.reshape(-1, 2)
    shown, texts = [], []
    for (left, right), name in zip(pairs, panels, strict=False):
        of_structure = ranking[ranking["structure"] == name].sort_values("mean_rank", kind="stable")
        order = of_structure["model"].tolist()
        tests = _of(results.tests, figure)
        groups = alike(tests[tests["structure"] == name], order)
        _ranks(left, of_structure, groups, names, look)
        share = (
            places[places["structure"] == name]
            .pivot(index="model", columns="place", values="share")
            .reindex(order)
        )
        _places(right, share, look)
        n = int(of_structure["n_subjects"].iloc[0])
        parts.set_title(left, f"{look.structure(name)} (n\u00a0=\u00a0{n})", title_mm)
        tau = float(of_structure["kendall_tau"].iloc[0])
        right.set_title(f"Kendall's τ {number(tau, 2)}", fontweight="normal")
        texts.append(f"{look.structure(name)}: {_said(of_structure, groups, look)}.")
        shown.append(of_structure.merge(_wide(share), on="model"))
    for left, right in pairs[len(panels) :]:
        style.hide(left)
        style.hide(right)
    alpha, correction = study.statistics.alpha, CORRECTIONS[study.statistics.correction]
    subjects = int(ranking["n_subjects"].max()) if len(ranking) else 0
    level = confidence(study.statistics.alpha)
    return parts.Drawing(
        drawn,
        f"Ranks by {shown_metric.title}, {figure.dataset}",
        f"Ranks of the models by {shown_metric.title} for each subject of {figure.dataset}, n = "
        f"{count(subjects, 'subject')} with a value of every model; 1 is best, ties share ranks. Left: mean rank with its "
        f"{level} bootstrap interval; bars on the right join models that were tested and do not differ "
        f"({correction} > {alpha:g}). Friedman's test: {_friedman(ranking, panels, look)}. Right: share of "
        f"{study.statistics.bootstrap_samples} resamples of the subjects in which a model comes in at a "
        "place; Kendall's τ-b is the mean agreement of the resamples' order with that shown.",
        "Mean ranks. " + " ".join(texts),
        pandas.concat(shown, ignore_index=True) if shown else ranking,
    )


def _of(table: pandas.DataFrame, figure: Figure) -> pandas.DataFrame:
    return table[(table["dataset"] == figure.dataset) & (table["metric"] == figure.metric.name)]


def _ranks(
    axes,
    ranks: pandas.DataFrame,
    groups: list[tuple[int, int]],
    names: Mapping[str, str],
    look: Look,
) -> None:
    """Draw mean ranks with intervals, best on top, and the bars that join models which do not differ."""
    colour, marker = look.model_colours, look.model_markers
    most = len(ranks)
    for y, row in enumerate(ranks.itertuples()):
        axes.plot([row.rank_low, row.rank_high], [y, y], color=colour[row.model], linewidth=1.6,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
        axes.scatter([row.mean_rank], [y], s=20, marker=marker[row.model], zorder=4,
                     color=colour[row.model], edgecolors="white", linewidths=0.4)  # fmt: skip
    ends: list[int] = []  # of the last bar in each column of bars
    for first, last in groups:
        column = next((place for place, end in enumerate(ends) if end < first), len(ends))
        ends[column:] = [last, *ends[column + 1 :]]
        x = most + 0.35 + 0.06 * most * column
        axes.plot([x, x], [first - 0.22, last + 0.22], color=style.INK, linewidth=2.2,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
    axes.set_xlim(0.8, most + 0.5 + 0.06 * most * max(len(ends), 2))
    axes.set_xticks(range(1, most + 1))
    axes.set_xlabel("Mean rank (1 is best)")
    axes.grid(True, axis="x")
    _names(axes, [names[model] for model in ranks["model"]])


def _places(axes, share: pandas.DataFrame, look: Look) -> None:
    """Draw a cell a model and place, the darker the more often."""
    colour = look.model_colours
    for y, (model, row) in enumerate(share.iterrows()):
        for place, value in row.items():
            if not np.isfinite(value) or value == 0:
                continue
            axes.fill(
                np.add(place, [-0.48, 0.48, 0.48, -0.48]), np.add(y, [-0.44, -0.44, 0.44, 0.44]),
                color=colour[model], alpha=0.12 + 0.6 * value, linewidth=0,
            )  # fmt: skip
            text = "<1" if value < 0.01 else f"{100 * value:.0f}"
            axes.text(place, y, text, ha="center", va="center")
    axes.set_xlim(0.5, share.shape[1] + 0.5)
    axes.set_xticks(range(1, share.shape[1] + 1))
    axes.set_xlabel("Place (% of resamples)")
    axes.grid(False)
    _names(axes, [""] * len(share))


def _names(axes, names: Sequence[str]) -> None:
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelleft=any(names))
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def alike(tests: pandas.DataFrame, order: list[str]) -> list[tuple[int, int]]:
    """Return first and last position of each longest run of models in which no tested pair differs.

    A pair that was not tested, as `statistics.compare` may leave some out, joins nothing; two
    models that are equal for every subject need no test.

    Parameters
    ----------
    tests
        Of one structure and metric.
    order
        The models by mean rank.
    """
    equal = tests["share_tied"].astype(float) == 1
    differs = significant(tests) | ((tests["test"] == "") & ~equal)
    joined = {
        frozenset(pair)
        for pair in zip(tests.loc[~differs, "model_a"], tests.loc[~differs, "model_b"], strict=True)
    }
    runs = [
        (first, last)
        for first, last in combinations(range(len(order)), 2)
        if all(frozenset(pair) in joined for pair in combinations(order[first : last + 1], 2))
    ]
    return [
        run
        for run in runs
        if not any(other != run and other[0] <= run[0] and run[1] <= other[1] for other in runs)
    ]


def _wide(share: pandas.DataFrame) -> pandas.DataFrame:
    return share.add_prefix("share_place_").reset_index().rename_axis(columns=None)


def _friedman(ranking: pandas.DataFrame, panels: list[str], look: Look) -> str:
    results_of_tests = []
    for name in panels:
        row = ranking[ranking["structure"] == name].iloc[0]
        if np.isfinite(row["friedman_p"]):
            results_of_tests.append(
                f"{look.structure(name)} χ²({row['friedman_df']:g}) = {row['friedman_statistic']:.2f}, p "
                + (p_value(row["friedman_p"]) if row["friedman_p"] < 0.001
                   else f"= {p_value(row['friedman_p'])}")
            )  # fmt: skip
    return "; ".join(results_of_tests) or "not possible"


def _said(ranking: pandas.DataFrame, groups: list[tuple[int, int]], look: Look) -> str:
    order = [look.model(model) for model in ranking["model"]]
    ranks = ", ".join(
        f"{look.model(row.model)} {row.mean_rank:.2f}" for row in ranking.itertuples()
    )
    runs = [" and ".join(order[first : last + 1]) for first, last in groups]
    return ranks + (f"; no difference among {'; '.join(runs)}" if runs else "")
