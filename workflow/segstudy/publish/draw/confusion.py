"""Confusion of structures: voxels of the one that were predicted as the other."""

import numpy as np
import pandas

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results

MOST_NUMBERS = 8
"""Structures up to which the cells hold their number."""


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw a matrix a model: rows are reference structures, columns the structures that their voxels were predicted as."""
    look = results.look
    models, structures = look.models, look.structures
    order = [*structures, "background"]
    tables = {
        model: results.confusion(figure.dataset, model).reindex(index=order, columns=order)
        for model in models
    }
    shares = {model: shared(table) for model, table in tables.items()}
    side = float(np.clip(7.0 * (len(structures) + 1), 30, style.page_mm() - 40))
    longest = max(len(look.structure(name)) for name in structures)
    names_mm = style.text_mm() * min(longest, 24) + 3
    widest = max(1, int((style.page_mm() - names_mm) / (side + 4)))
    layout = parts.panel_layout(len(models), widest, side + 4, names_mm)
    layout.set_height(side * 0.85 + names_mm * 0.8 + 14)
    names = [parts.wrap(look.structure(name), 24) for name in structures]
    for index, (panel, model) in enumerate(zip(layout.panels, models, strict=True)):
        share = shares[model].to_numpy()
        words = np.vectorize(_percent, otypes=[object])(share)
        if len(structures) > MOST_NUMBERS:
            words[:] = ""
        parts.heat_map(panel, np.sqrt(share), words, "Blues", 0, 1.15)
        panel.set_xticks(
            np.arange(len(names) + 1) + 0.5, [*names, "Background"], rotation=50, ha="right", va="top",
            rotation_mode="anchor", linespacing=0.95,
        )  # fmt: skip
        panel.set_yticks(
            np.arange(len(names)) + 0.5, [""] * len(names) if index % layout.columns else names
        )
        panel.set_xlabel("Predicted as")
        parts.set_title(panel, look.model(model), side)
    layout.label_left("Reference")
    long = [
        frame.stack().rename("share").rename_axis(["reference", "prediction"]).reset_index()
        .assign(model=model)
        for model, frame in shares.items()
    ]  # fmt: skip
    return parts.Drawing(
        layout.figure,
        f"Confusion of structures, {figure.dataset}",
        f"Which structure was taken for which on {figure.dataset}, n = {results.count_cases(figure.dataset)}: of all voxels of a "
        "reference structure (row), over all cases and runs, the percentage that was predicted as each structure "
        "(column). The colour goes with the square root, so that small shares show.",
        "Confusion matrices. " + " ".join(_worst(results, *one) for one in shares.items()),
        pandas.concat(long, ignore_index=True)[["model", "reference", "prediction", "share"]],
    )


def shared(table):
    """Divide rows of voxel counts by their sum, without the row of the background; 0 for an empty row."""
    rows = table.drop(index="background").astype(float)
    return rows.div(rows.sum(axis=1).where(lambda total: total > 0, 1.0), axis=0)


def _percent(share: float) -> str:
    """Write a share as whole per cent; nothing where it is 0."""
    return "" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"


def _worst(results: Results, model: str, share: pandas.DataFrame) -> str:
    """Write the largest confusion of two structures in words."""
    look = results.look
    others = share.drop(columns="background").copy()
    for name in others.index:
        others.loc[name, name] = 0.0
    row, column = np.unravel_index(others.to_numpy().argmax(), others.shape)
    most = others.to_numpy()[row, column]
    if most == 0:
        return f"{look.model(model)}: no structure taken for another."
    return (
        f"{look.model(model)}: most, {100 * most:.1f} % of {look.in_text(others.index[row])} taken for "
        f"{look.in_text(others.columns[column])}."
    )
