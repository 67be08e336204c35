"""Training size: a metric against the number of subjects that it was trained on."""

import math

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from segstudy.cases import LEFT_OUT
from segstudy.publish import human_agreement, style
from segstudy.publish.catalogue import Figure, families
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.publish.words import listing
from segstudy.words import confidence, count


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the mean of each model over its training subjects, a panel a structure and a line a family.

    A family is the models that differ in nothing but their `training_subset`.
    """
    study, look, shown_metric = results.study, results.look, figure.metric
    kin = families(study)
    models = [model for family in kin for model in family]
    colour, marker = look.model_colours, look.model_markers
    subjects = {model: _subjects(results, model) for model in models}
    summary = results.summary
    summary = summary[
        (summary["dataset"] == figure.dataset)
        & (summary["metric"] == figure.metric.name)
        & summary["model"].isin(models)
    ].assign(subjects=lambda table: table["model"].map(subjects))
    draws = _draws(results, figure)
    panels = [name for name in look.regions if name in set(summary["structure"])]
    layout = parts.panel_layout(len(panels), 4, panel_mm=60.0, sharey=True)
    layout.set_height(44, 6)
    ticks = sorted(set(subjects.values()))
    people = human_agreement.of_figure(results, figure.dataset, shown_metric.name)
    bands = [one for name in panels for one in people.get(name, ())]
    for panel, name in zip(layout.panels, panels, strict=False):
        of_structure = summary[summary["structure"] == name].set_index("model")
        for family in kin:
            line = of_structure.reindex(sorted(family, key=subjects.get))
            panel.plot(line["subjects"], line["mean"], color=style.SOFT, linewidth=0.7, zorder=2)
        for model in models:
            if model not in of_structure.index or not math.isfinite(
                of_structure.loc[model, "mean"]
            ):
                continue
            row = of_structure.loc[model]
            panel.plot([row["subjects"]] * 2, [row["ci_low"], row["ci_high"]],
                       color=colour[model], zorder=3)  # fmt: skip
            panel.plot(row["subjects"], row["mean"], marker=marker[model], color=colour[model],
                       markersize=4, linestyle="none", zorder=4)  # fmt: skip
            draw_means = draws.get((name, model), [])
            panel.plot([row["subjects"]] * len(draw_means), draw_means, marker="_", color=colour[model],
                       markersize=5, linestyle="none", alpha=0.8, zorder=3)  # fmt: skip
            if row["n_infinite"]:
                panel.annotate(
                    f"{row['n_infinite']:.0f} ∞", (row["subjects"], row["ci_high"]), xytext=(0, 2),
                    textcoords="offset points", ha="center", color=style.SOFT,
                )  # fmt: skip
        parts.human_band(panel, people.get(name, ()))
        panel.set_xscale("log")
        panel.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
        panel.xaxis.set_major_locator(FixedLocator(ticks))
        panel.xaxis.set_major_formatter(FixedFormatter([str(tick) for tick in ticks]))
        panel.xaxis.set_minor_locator(NullLocator())
        parts.set_title(panel, look.structure(name), layout.panel_mm - 6)
        panel.set_xlabel("Training subjects")
    layout.label_left(shown_metric.axis)
    handles = parts.model_handles(results, [model for model in look.models if model in models])
    parts.legend(layout.figure, [*handles, *parts.band_handles(bands)], layout.width_mm)
    tested = int(summary["n_subjects"].max()) if len(summary) else 0
    columns_shown = [
        "structure",
        "model",
        "subjects",
        "n_subjects",
        "n_infinite",
        "mean",
        "ci_low",
        "ci_high",
    ]
    return parts.Drawing(
        layout.figure,
        f"{shown_metric.title} and training size, {figure.dataset}",
        f"Mean {shown_metric.title} on {figure.dataset} (n = {count(tested, 'subject')}) over the number of "
        f"subjects that a model was trained on (log scale), with its {confidence(study.statistics.alpha)} confidence interval; "
        "those held out for validation are counted. A line joins models that differ in nothing else."
        + (" Dashes: the mean of each draw of the training subjects." if draws else "")
        + (" ∞: infinite values, which no mean holds." if summary["n_infinite"].any() else "")
        + human_agreement.caption(bands),
        "Lines. "
        + " ".join(
            f"{look.structure(name)}: "
            + listing(
                [
                    f"{look.model(row.model)} ({row.subjects} subjects) {shown_metric.text(row.mean)}"
                    for row in summary[summary["structure"] == name].itertuples()
                ]
            )
            + "."
            for name in panels
        ),
        summary[columns_shown].reset_index(drop=True),
    )


def _subjects(results: Results, model: str) -> int:
    """Count the subjects that a model was trained on; without a subset all of a fold's, on average."""
    subset = results.study.models[model].training_subset
    if subset is not None:
        return subset.subjects
    splits = results.splits.dropna(subset="fold")
    splits = splits[splits["fold"] != LEFT_OUT]
    folds = [splits[splits["fold"] != fold] for fold in results.study.folds]
    return round(np.mean([len(fold[["dataset", "subject"]].drop_duplicates()) for fold in folds]))


def _draws(results: Results, figure: Figure) -> dict[tuple[str, str], list[float]]:
    """Average the finite values of each seed of models with several, by structure and model."""
    table = results.metrics
    table = table[(table["dataset"] == figure.dataset) & (table["metric"] == figure.metric.name)]
    table = table[np.isfinite(table["value"])]
    means = table.groupby(["structure", "model", "seed"])["value"].mean()
    grouped = means.groupby(["structure", "model"])
    return {key: list(means) for key, means in grouped if len(means) > 1}
