"""Intensities of each structure, its share of the voxels, and its balance over the folds."""

from collections.abc import Sequence

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from segstudy.publish import slices, style
from segstudy.publish.catalogue import Figure
from segstudy.publish.dealing import dealing
from segstudy.publish.draw import parts
from segstudy.publish.draw.samples import spread_over
from segstudy.publish.look import Look
from segstudy.publish.results import Results
from segstudy.publish.views import open_case
from segstudy.words import count

MOST_CASES = 12
MOST_VOXELS = 4000  # of a structure and case, evenly spaced


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw intensity density, class imbalance by case and by slice, and the folds against the cohort."""
    study, look, dataset = results.study, results.look, figure.dataset
    structures, colour = look.structures, look.structure_inks
    cases = results.cases(dataset)
    folds = results.splits[results.splits["dataset"] == dataset].set_index("case")["fold"]
    rows, intensities = _read(results, dataset, spread_over(results, dataset, MOST_CASES))
    shares = pandas.DataFrame(
        [
            {"case": case.case, "fold": folds.get(case.case)}
            | {name: case.voxels[name] / float(np.prod(case.shape)) for name in structures}
            | {f"{name}_ml": case.voxels[name] * float(np.prod(case.spacing_mm)) / 1000
               for name in structures}
            for case in cases
        ]
    )  # fmt: skip
    drawn = style.canvas(style.page_mm(), 104 + (8 if len(structures) > 8 else 0))
    titled_mm = style.page_mm() / 2 - 12
    density, by_case, by_slice, by_fold = drawn.subplots(2, 2).ravel()
    slot = 0.85 * style.page_mm() / 2 / len(structures)
    labels = [look.structure(name) for name in structures]

    finite = np.concatenate([*intensities.values(), np.zeros(0)])
    unit = "HU" if study.modality == "CT" else "SD of the image"
    if finite.size:
        low, high = np.percentile(finite, [0.5, 99.5])
        at = np.linspace(low, max(high, low + 1e-6), 200)
        for name in structures:
            if intensities[name].size > 1:
                values = parts.density(intensities[name], at)
                density.plot(at, values, color=colour[name], lw=1.1, ls=look.structure_lines[name])
                density.fill_between(at, values, color=colour[name], alpha=0.12, linewidth=0)
    density.set_ylim(0, 1.05)
    density.set_xlabel(f"Intensity ({unit})")
    density.set_ylabel("Density (highest = 1)")
    parts.set_title(
        density, f"a  Intensities ({count(len(rows['case'].unique()), 'case')})", titled_mm
    )

    for x, name in enumerate(structures):
        values = 100 * shares[name].to_numpy(float)
        marker = look.structure_markers[name]
        parts.strip_plot(by_case, x, values[values > 0], colour[name], marker)
        held = rows.loc[rows["structure"] == name, "slices_share"].to_numpy(float)
        parts.strip_plot(by_slice, x, 100 * held, colour[name], marker)
    by_case.set_yscale("log")
    by_case.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    by_case.yaxis.set_minor_formatter(NullFormatter())
    by_case.set_ylabel("Share of the voxels (%)")
    parts.set_title(by_case, f"b  Class imbalance by case (n = {len(cases)})", titled_mm)
    by_slice.set_ylim(0, 103)
    by_slice.set_ylabel("Slices that hold it (%)")
    parts.set_title(
        by_slice,
        f"c  Class imbalance by slice ({count(len(rows['case'].unique()), 'case')})",
        titled_mm,
    )
    for axes in (by_case, by_slice):
        parts.label_models(axes, labels, slot)
        axes.set_xlim(-0.6, len(structures) - 0.4)

    numbers = [fold for fold in range(study.splits.folds) if (shares["fold"] == fold).any()]
    if numbers:
        _draw_balance(by_fold, shares, numbers, look)
        parts.set_title(by_fold, "d  Balance of the folds", titled_mm)
    else:  # no folds: a cohort that is tested alone
        by_fold.remove()
    handles = parts.charted_handles(results, structures)
    parts.legend(drawn, handles, style.page_mm())
    dealt = dealing(results)
    medians = [f"{look.in_text(name)} {100 * shares[name].median():.2g} %" for name in structures]
    table = shares.rename(columns={name: f"{name}_voxels_share" for name in structures}).merge(
        rows.pivot(index="case", columns="structure", values=["median_intensity", "slices_share"])
        .pipe(lambda wide: wide.set_axis([f"{b}_{a}" for a, b in wide.columns], axis=1))
        .reset_index(),
        on="case",
        how="left",
    )
    return parts.Drawing(
        drawn,
        f"Intensities and class imbalance, {dataset}",
        f"{dataset}, n = {results.count_cases(dataset)}: (a) intensities inside each structure, "
        f"{count(len(rows['case'].unique()), 'case')} from the smallest to the largest labelled volume"
        + ("" if study.modality == "CT" else ", each image standardised by its mean and SD")
        + "; (b) share of a case's voxels that are the structure; (c) share of a case's slices, along "
        "the axis of the shown plane, that hold it"
        + (
            "; (d) median volume of the cases that each fold tests, over that of the cohort"
            if numbers
            else ""
        )
        + ". "
        + (f"{dealt} " if dealt else "")
        + "Points are cases in (b) and (c); "
        "box: median and quartiles, whiskers to the last value within 1.5 quartile ranges.",
        f"{'Four' if numbers else 'Three'} panels. Median share of the voxels: {', '.join(medians)}.",
        table,
    )


def _draw_balance(axes: Axes, shares: pandas.DataFrame, folds: Sequence[int], look: Look) -> None:
    """Draw the median volume of each structure in the cases that a fold tests, over that of the cohort."""
    for place, name in enumerate(look.structures):
        whole = shares[f"{name}_ml"].median()
        if not whole:
            continue
        medians = [shares.loc[shares["fold"] == fold, f"{name}_ml"].median() for fold in folds]
        offset = (place - (len(look.structures) - 1) / 2) * min(0.12, 0.7 / len(look.structures))
        axes.plot(
            np.arange(len(folds)) + offset, np.array(medians) / whole, color=look.structure_inks[name],
            marker=look.structure_markers[name], ls=look.structure_lines[name], lw=0.6, markersize=3.2,
        )  # fmt: skip
    axes.axhline(1, color=style.SOFT, lw=0.7, zorder=1)
    axes.set_ylabel("Median volume / cohort's")
    names = [f"Fold {fold} (n = {int((shares['fold'] == fold).sum())})" for fold in folds]
    parts.label_models(axes, names, 0.85 * style.page_mm() / 2 / len(names))
    axes.set_xlim(-0.6, len(folds) - 0.4)


def _read(results: Results, dataset: str, chosen: list[str]):
    """Return a row a case and structure (median intensity, share of the slices), and the pooled intensities."""
    study = results.study
    rows: list[dict] = []
    pooled: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in study.structures}
    for case in chosen:
        opened = open_case(results, dataset, case)
        image = opened.volume()
        mean, sd = (0.0, 1.0)
        if study.modality != "CT":
            mean, sd = float(np.mean(image)), float(np.std(image)) or 1.0
        for name, value in study.datasets[dataset].structures.items():
            mask = opened.label.array == value
            inside = np.asarray(image[mask], float)
            inside = (inside[np.isfinite(inside)] - mean) / sd
            step = max(1, inside.size // MOST_VOXELS)
            pooled[name].append(inside[::step])
            rows.append(
                {
                    "case": case,
                    "structure": name,
                    "median_intensity": float(np.median(inside)) if inside.size else np.nan,
                    "slices_share": float(
                        (slices.per_slice(mask, opened.label.grid, opened.plane) > 0).mean()
                    ),
                }
            )
    table = pandas.DataFrame(
        rows, columns=["case", "structure", "median_intensity", "slices_share"]
    )
    return table, {name: np.concatenate(opened) for name, opened in pooled.items()}
