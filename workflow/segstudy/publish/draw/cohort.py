"""The cohort: volumes, voxel sizes, grid sizes, and their balance over the folds."""

import numpy as np
import pandas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from segstudy.cases import LEFT_OUT, UNTESTED
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.words import count


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the overview of one dataset, from its case table and the splits."""
    study, look, dataset = results.study, results.look, figure.dataset
    cases = results.cases(dataset)
    colour = results.look.structure_inks
    splits = results.splits[results.splits["dataset"] == dataset].set_index("case")["fold"]
    rows = []
    for case in cases:
        voxel_ml = float(np.prod(case.spacing_mm)) / 1000
        row = {"case": case.case, "fold": splits.get(case.case)}
        row |= {f"spacing_{axis}_mm": size for axis, size in zip("ijk", case.spacing_mm)}  # noqa: B905
        row |= {f"size_{axis}_voxels": size for axis, size in zip("ijk", case.shape)}  # noqa: B905
        row |= {f"{name}_ml": case.voxels[name] * voxel_ml for name in study.structures}
        row["labelled_ml"] = sum(case.voxels[name] for name in study.structures) * voxel_ml
        rows.append(row)
    table = pandas.DataFrame(rows)

    structures = len(study.structures)
    height = 92 + (8 if structures > 8 else 0)
    drawn = style.canvas(style.page_mm(), height)
    top, bottom = drawn.subfigures(2, 1, height_ratios=[1.1, 1], hspace=0.03)
    wide = min(0.75, max(0.5, 0.26 + 0.06 * structures))
    volumes, folds = top.subplots(1, 2, width_ratios=[wide, 1 - wide])
    spacing, size = bottom.subplots(1, 2)

    for x, name in enumerate(look.structures):
        values = table[f"{name}_ml"].to_numpy(float)
        parts.strip_plot(volumes, x, values[values > 0], colour[name])
    volumes.set_title(f"a  Volume per structure (n = {count(len(cases), 'case')})")
    volumes.set_ylabel("Volume (mL)")
    _log_if_wide(volumes, [table[f"{name}_ml"] for name in study.structures])
    slot = 0.85 * wide * style.page_mm() / structures
    parts.label_models(volumes, [look.structure(name) for name in look.structures], slot)
    volumes.set_xlim(-0.6, structures - 0.4)

    groups = [(f"Fold {fold}", fold) for fold in range(study.splits.folds)]
    members = [table.loc[table["fold"] == fold, "labelled_ml"] for _, fold in groups]
    for name, chosen in (
        ("All folds", table["fold"].isna()),
        ("No fold", table["fold"] == UNTESTED),
        ("Left out", table["fold"] == LEFT_OUT),
    ):
        if chosen.any():
            groups.append((name, None))
            members.append(table.loc[chosen, "labelled_ml"])
    shown = [(name, part) for (name, _), part in zip(groups, members, strict=True) if len(part)]
    for x, (_, part) in enumerate(shown):
        parts.strip_plot(folds, x, part.to_numpy(float), style.SOFT)
    folds.set_title("b  Labelled volume by test fold")
    folds.set_ylabel("Volume (mL)")
    folds.set_xlim(-0.6, max(len(shown), 1) - 0.4)
    names = [f"{name} (n = {len(part)})" for name, part in shown]
    parts.label_models(folds, names, 0.8 * (1 - wide) * style.page_mm() / max(len(shown), 1))

    for axes, prefix, unit, title in (
        (spacing, "spacing", "mm", "c  Voxel size along the stored axes"),
        (size, "size", "voxels", "d  Grid size along the stored axes"),
    ):
        for x, axis in enumerate("ijk"):
            values = table[f"{prefix}_{axis}_{unit}"].to_numpy(float)
            parts.strip_plot(axes, x, values, style.SOFT)
        axes.set_title(title)
        axes.set_ylabel(f"{'Voxel' if prefix == 'spacing' else 'Grid'} size ({unit})")
        axes.set_xticks(range(3), ["i", "j", "k"])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, 2.6)
        low, high = axes.get_ylim()
        axes.set_ylim(max(0, low - 0.1 * (high - low)), high + 0.1 * (high - low))

    empty = {name: int((table[f"{name}_ml"] == 0).sum()) for name in study.structures}
    without = [
        f"{look.in_text(name)} in {count(number, 'case')}"
        for name, number in empty.items()
        if number
    ]
    medians = [
        f"{look.in_text(name)} {table[f'{name}_ml'].median():.3g} mL" for name in look.structures
    ]
    untested = "" if dataset in study.tested_datasets else " (label maps only: no fold tests them)"
    return parts.Drawing(
        drawn,
        f"Cohort {dataset}",
        f"Cohort {dataset}, n = {results.count_cases(dataset)}{untested}. (a) Volume of each structure in the "
        "labels as delivered; (b) labelled volume of the cases that each fold tests; (c) voxel "
        "size and (d) grid size along the stored axes i, j, k. Each point is a case; box: median "
        "and quartiles, whiskers to the last value within 1.5 quartile ranges."
        + (f" Not labelled: {', '.join(without)}." if without else ""),
        f"Strip plots of {count(len(cases), 'case')}. Median volumes: {', '.join(medians)}.",
        table,
    )


def _log_if_wide(axes, columns: list[pandas.Series]) -> None:
    """Set a logarithmic axis where volumes differ more than twentyfold."""
    values = np.concatenate([column[column > 0].to_numpy(float) for column in columns])
    if len(values) and values.max() > 20 * values.min():
        axes.set_yscale("log")
        many = values.max() > 300 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if many else (1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
