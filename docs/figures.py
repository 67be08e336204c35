"""Pictures of the pages, and the gallery: all made when the pages are built, none kept.

The pictures of the gallery and of the repair's story are those of a study that segstudy runs (`gallery_study.py`); the
others are computed here.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import gallery_study
import numpy as np
import pandas
from matplotlib.figure import Figure
from scipy import stats

from segstudy.boxes import bounding_box
from segstudy.download.anatomy import STRUCTURES
from segstudy.download.phantom import patient
from segstudy.metrics.surface import Distances, flat_axes, framed, framed_distances
from segstudy.publish import style
from segstudy.publish.rulegraph import RULES, stage_of, waits
from segstudy.study import Style

FOLDER = Path(__file__).with_name("figures")
BLUE, GREEN, ROSE = "#332288", "#117733", "#CC6677"


def make(build: Path) -> str:
    """Write all pictures into `docs/figures`, and return the gallery's page as Markdown.

    build: folder for the study that is run.
    """
    made = gallery_study.run(build)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for path in (made / "figures").glob("*.png"):
        shutil.copyfile(path, FOLDER / path.name)
    with style.paper(Style()):
        for name, figure in {
            "why-subject": subject_unit(),
            "why-worst": worst_values(pandas.read_csv(made / "statistics" / "values.csv")),
            "tolerance": tolerance(),
            "sides": sides(),
            "chain": chain(),
        }.items():
            style.settle(figure)
            style.save(figure, FOLDER / name, "png")
    return gallery(made)


def gallery(results: Path) -> str:
    """Return the page that shows every figure of a study, with title and caption."""
    captions = json.loads((results / "figures" / "captions.json").read_text(encoding="utf-8"))
    text = [
        "# Gallery\n\nThe figures of a report, as they come. No network made these: predictions are the phantom's right labels with their "
        "outlines shaken (`even`, `too_wide`), or shaken less, but missing in two patients and without the esophagus in one "
        "(`steady_but`). All else ran as in any study, while this page was built (`docs/gallery_study.py`). `make demo` makes the "
        "figures of three networks.\n"
    ]
    for name, told in sorted(captions.items(), key=lambda item: item[1]["number"]):
        alt = told["alt"].replace("\n", " ").replace("[", "(").replace("]", ")")
        caption = told["caption"].replace("\n", " ").replace("_", r"\_").replace("*", r"\*")
        text.append(f"## {told['title']}\n\n![{alt}](figures/{name}.png)\n\n{caption}\n")
    return "\n".join(text)


# --- why the subject is the unit ----------------------------------------------------------------


def subject_unit(subjects: int = 20, icc: float = 0.6, repetitions: int = 4000) -> Figure:
    """Draw how often a paired t test at 0.05 finds a difference that there is not, by scan and by subject."""
    random = np.random.default_rng(5)
    scans = (1, 2, 3, 4, 6, 8)
    shares: dict[str, list[float]] = {"every scan counted": [], "scans averaged by subject": []}
    for number in scans:
        own = random.normal(0, np.sqrt(icc), (repetitions, subjects, 1))
        values = own + random.normal(0, np.sqrt(1 - icc), (repetitions, subjects, number))
        for name, sample in zip(
            shares, (values.reshape(repetitions, -1), values.mean(axis=2)), strict=True
        ):
            shares[name].append(float((stats.ttest_1samp(sample, 0, axis=1).pvalue < 0.05).mean()))
    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axes = figure.subplots()
    for (name, values), colour, marker in zip(shares.items(), (ROSE, BLUE), "os", strict=True):
        axes.plot(scans, values, marker=marker, color=colour, label=name)
    axes.axhline(0.05, color=style.SOFT, linestyle=(0, (4, 2)), linewidth=0.8)
    axes.annotate("asked: 0.05", (5, 0.05), xytext=(0, -4), textcoords="offset points", ha="center", va="top", color=style.SOFT)  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_xticks(scans)
    axes.set_xlabel("Scans a subject")
    axes.set_ylabel("Studies with a false claim (share)")
    axes.set_title(f"n = {subjects} subjects, ICC {icc}; {repetitions} studies a point")
    axes.legend(frameon=False)
    return figure


# --- why worst values ---------------------------------------------------------------------------


def worst_values(table: pandas.DataFrame) -> Figure:
    """Draw the mean Dice of each program and structure, failures left out and as the worst value.

    table: `statistics/values.csv`.
    """
    table = table[table["metric"] == "dice"]
    ran = table[(table["value"] > 0) & ~table["missing"].astype(bool)]
    structures, models = (list(dict.fromkeys(table[name])) for name in ("structure", "model"))
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("a  Failures left out", "b  Failures as the worst value")
    for axes, rows, title in zip(panels, (ran, table), titles, strict=True):
        means = rows.groupby(["model", "structure"])["value"].mean()
        for place, (model, marker) in enumerate(zip(models, style.MARKERS, strict=False)):
            axes.plot(
                np.arange(len(structures)) + (place - 1) * 0.18, means[model][structures], marker,
                color=(BLUE, GREEN, ROSE)[place % 3], label=model,
            )  # fmt: skip
        axes.set_xticks(range(len(structures)), structures)
        axes.set_title(title)
    panels[0].set_ylabel(f"Mean Dice, n = {table['subject'].nunique()} subjects")
    panels[1].legend(frameon=False, loc="lower right")
    return figure


# --- surfaces and tolerances --------------------------------------------------------------------


def distances_of(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]
) -> Distances:
    """Measure the surface distances of two masks (i, j, k), as segstudy does."""
    box = bounding_box(reference | prediction)
    masks = [framed(mask.astype(np.uint8), [1], box) for mask in (reference, prediction)]
    return framed_distances(*masks, spacing_mm, flat_axes(reference.shape), "mesh")


def tolerance() -> Figure:
    """Draw a prediction of a heart, the distribution of its surface distances, and NSD over the tolerance."""
    image, truth, affine = patient(gallery_study.SEED, 0, gallery_study.SIZE)
    spacing_mm = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    predicted = gallery_study.shaken(truth, spacing_mm, (4.0, 1.0), np.random.default_rng(3))
    heart = STRUCTURES["heart"]
    masks = truth == heart, predicted == heart
    found = distances_of(*masks, spacing_mm)
    k = round(float(np.nonzero(masks[0])[2].mean()))

    figure = Figure(figsize=(6.7, 2.4), layout="constrained")
    picture, spread, curve = figure.subplots(1, 3, width_ratios=(1, 1.1, 1.1))
    picture.imshow(image[:, :, k].T, cmap="gray", vmin=-160, vmax=240, aspect=spacing_mm[1] / spacing_mm[0])  # fmt: skip
    for mask, colour, line in zip(
        masks, ("#E69F00", "#56B4E9"), ("solid", (0, (3, 1))), strict=True
    ):
        picture.contour(
            mask[:, :, k].T.astype(float), [0.5], colors=colour, linewidths=1.4, linestyles=[line]
        )
    i, j = np.nonzero(masks[0][:, :, k])
    picture.set_xlim(i.min() - 6, i.max() + 6)
    picture.set_ylim(j.max() + 6, j.min() - 6)
    picture.set_axis_off()
    picture.set_title("a  Heart: reference (solid),\nprediction (dashed)")

    values = np.r_[found.forth, found.back]
    sizes = np.r_[found.forth_sizes, found.back_sizes]
    spread.hist(values, bins=30, weights=sizes / sizes.sum(), color="#A9B0B8")
    top = spread.get_ylim()[1]
    for place, (name, value) in enumerate(
        (("ASSD", found.mean_mm()), ("HD95", found.quantile_mm()), ("HD", found.hausdorff_mm()))
    ):
        spread.axvline(value, color=style.INK, linewidth=0.8)
        spread.annotate(
            f"{name} {value:.1f}", (value, top * (0.98 - 0.13 * place)), xytext=(-3 if place == 2 else 3, 0),
            textcoords="offset points", ha="right" if place == 2 else "left", va="top",
        )  # fmt: skip
    spread.set_xlabel("Distance (mm)")
    spread.set_ylabel("Share of both surfaces")
    spread.set_title("b  All its distances")

    limits = np.linspace(0, max(6.0, found.hausdorff_mm()), 100)
    curve.plot(limits, [found.share_within(limit) for limit in limits], color=BLUE)
    for limit in (1.0, 3.0):
        share = found.share_within(limit)
        curve.plot([limit], [share], "o", color=BLUE)
        curve.annotate(f"{limit:.0f} mm: {share:.2f}", (limit, share), xytext=(6, -9), textcoords="offset points")  # fmt: skip
    curve.set_xlabel("Tolerance (mm)")
    curve.set_ylabel("NSD")
    curve.set_ylim(0, 1.03)
    curve.set_title("c  Within a tolerance")
    return figure


# --- mirrored sides -----------------------------------------------------------------------------


def sides() -> Figure:
    """Draw two kidneys and a liver, mirrored with the labels' names kept, and with them exchanged."""
    x, y = np.meshgrid(np.linspace(-1, 1, 160), np.linspace(-1, 1, 120))
    drawn = np.where((x / 0.95) ** 2 + (y / 0.92) ** 2 < 1, 0.35, 0.0)
    label = np.zeros(drawn.shape, np.uint8)
    for value, (a, b, wide, high) in enumerate(
        ((-0.40, 0.28, 0.16, 0.24), (0.40, 0.34, 0.16, 0.24)), start=1
    ):
        mask = ((x - a) / wide) ** 2 + ((y - b) / high) ** 2 < 1
        drawn[mask], label[mask] = 0.75, value
    liver = ((x + 0.42) / 0.42) ** 2 + ((y + 0.32) / 0.38) ** 2 < 1
    drawn[liver] = 0.55
    shown = (
        ("a  As it is", drawn, label),
        ("b  Mirrored, names kept:\nleft is called right", drawn[:, ::-1], label[:, ::-1]),
        ("c  Mirrored, names exchanged", drawn[:, ::-1], np.array([0, 2, 1])[label[:, ::-1]]),
    )
    figure = Figure(figsize=(6.4, 1.95), layout="constrained")
    for axes, (title, picture, names) in zip(figure.subplots(1, 3), shown, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        for value, colour, letter in ((1, "#E69F00", "R"), (2, "#56B4E9", "L")):
            mask = names == value
            axes.contour(mask.astype(float), [0.5], colors=colour, linewidths=1.8)
            j, i = np.argwhere(mask).mean(axis=0)
            axes.text(i, j, letter, ha="center", va="center", color=style.INK, fontweight="bold")
        axes.set_title(title)
        axes.set_axis_off()
    return figure


# --- the data's way -----------------------------------------------------------------------------

FILES = {
    "download": "images,\ncase table",
    "repair": "labels",
    "preprocess": "folds, plans,\narrays",
    "train": "weights,\nhistory",
    "infer": "label maps,\nnative grid",
    "metrics": "a row a case\nand structure",
    "statistics": "summary, tests,\nverdicts",
    "publish": "figures, report,\nzip",
}
"""What each stage writes, for those that follow."""


def chain() -> Figure:
    """Draw the stages, what each writes, and an arrow wherever a rule of one waits for a rule of another.

    Rules of the review of labels, which is no stage, are looked through.
    """
    stages = list(FILES)
    waiting = {
        (stages.index(stage_of(one)), stages.index(stage_of(rule)))
        for rule, before in waits([rule for rule in RULES if stage_of(rule) in FILES]).items()
        for one in before
    }
    figure = Figure(figsize=(6.7, 2.0), layout="constrained")
    axes = figure.subplots()
    for start, end in sorted(pair for pair in waiting if pair[0] < pair[1]):
        near = end - start == 1
        axes.annotate(
            "", (end - 0.4 if near else end - 0.1, 0 if near else 0.2), (start + 0.4 if near else start + 0.1, 0 if near else 0.2),
            arrowprops={"arrowstyle": "-|>", "color": style.SOFT, "linewidth": 0.8, "mutation_scale": 7,
                        "shrinkA": 0, "shrinkB": 0, "connectionstyle": f"arc3,rad={0 if near else -0.35}"},
        )  # fmt: skip
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": BLUE}
    for place, stage in enumerate(stages):
        axes.text(place, 0, stage, ha="center", va="center", fontweight="bold", bbox=box)
        axes.text(place, -0.35, FILES[stage], ha="center", va="top", color=style.SOFT)
    axes.set_xlim(-0.55, len(stages) - 0.45)
    axes.set_ylim(-1.0, 1.6)
    axes.set_axis_off()
    return figure
