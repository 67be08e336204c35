"""Ratings by readers: the share of each grade, a bar a model and rater."""

from matplotlib.patches import Patch

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.rating_files import ALL, GRADES, MEANING
from segstudy.words import count

TONES = {"good": "#1f5f8b", "usable": "#9cc3dc", "bad": "#f1efe9"}
"""From dark to pale, which print in grey keeps apart; each share has its number in it."""
HATCH = {"good": "", "usable": "", "bad": "////"}
BAR_MM = 5.4
NARROWEST = 0.05
"""Share of a bar below which a number has no room."""


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a stacked bar a model, and of several raters one each and one of all."""
    look = results.look
    table = results.ratings["ratings"]
    table = table[table["dataset"] == figure.dataset]
    raters = [name for name in dict.fromkeys(table["rater"]) if name != ALL]
    shown = table if len(raters) > 1 else table[table["rater"] == ALL]
    title = f"Ratings, {figure.dataset}"
    if shown.empty:
        return parts.empty_drawing(title, f"No prediction on {figure.dataset} was rated.", shown)
    models = [name for name in look.models if name in set(shown["model"])]
    rows, place, ticks = [], 0.0, []
    for model in models:
        for row in shown[shown["model"] == model].to_dict("records"):
            who = "" if len(raters) < 2 else f", {row['rater']}"
            ticks.append((place, parts.wrap(f"{look.model(model)}{who}", 30)))
            rows.append((place, row))
            place += 1
        place += 0.5 if len(raters) > 1 else 0
    width = style.page_mm()
    drawn = style.canvas(width, BAR_MM * place + 20)
    axes = drawn.subplots()
    for y, row in rows:
        start = 0.0
        for grade in GRADES:
            share = row[grade] / row["n_ratings"]
            axes.barh(
                y, share, left=start, height=0.78, color=TONES[grade], edgecolor=style.INK, linewidth=0.5,
                hatch=HATCH[grade],
            )  # fmt: skip
            if share >= NARROWEST:
                dark = style.luminance(TONES[grade]) < 0.18
                box = {"facecolor": TONES[grade], "edgecolor": "none", "pad": 0.8}
                axes.text(start + share / 2, y, str(row[grade]), ha="center", va="center",
                          color="white" if dark else style.INK, bbox=box)  # fmt: skip
            start += share
        axes.annotate(
            f"n\u00a0=\u00a0{row['n_ratings']}", (1.0, y), xytext=(4, 0), textcoords="offset points",
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(rows[-1][0] + 0.6, -0.6)
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks])
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    axes.set_xlabel("Share of ratings (%)")
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    handles = [
        Patch(facecolor=TONES[grade], edgecolor=style.INK, linewidth=0.5, hatch=HATCH[grade],
              label=f"{grade}: {MEANING[grade]}")
        for grade in GRADES
    ]  # fmt: skip
    parts.legend(drawn, handles, width)
    whole = table[table["rater"] == ALL]
    by_model = ", ".join(
        f"{look.model(row.model)} {row.good} good, {row.usable} usable, {row.bad} bad of {row.n_ratings}"
        for row in whole.set_index("model", drop=False).loc[models].itertuples()
    )
    number = count(int(whole["n_cases"].max()), "case")
    return parts.Drawing(
        drawn,
        title,
        f"What {count(len(raters), 'reader')} think{'s' if len(raters) == 1 else ''} of predictions on {figure.dataset}, blinded to the "
        f"model and without the reference; n: ratings, of up to {number} a model. In the bars: numbers of ratings.",
        f"Stacked bars. {by_model}.",
        shown.reset_index(drop=True),
    )  # fmt: skip
