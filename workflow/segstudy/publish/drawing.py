"""Drawing all figures of a study into a folder."""

from collections.abc import Callable
from pathlib import Path

from segstudy.files import write_json, write_table, writing_folder
from segstudy.log import progress
from segstudy.publish import style
from segstudy.publish.catalogue import CAPTIONS, FORMATS, LAYERS, Figure, figures
from segstudy.publish.draw import (
    agreement,
    cohort,
    comparison,
    confusion,
    grid,
    outcomes,
    ranking,
    repair,
    samples,
    symmetry,
    training,
)
from segstudy.publish.draw.parts import Drawing
from segstudy.publish.layers import layers
from segstudy.publish.results import Results
from segstudy.publish.views import Viewer

PLAIN: dict[str, Callable[[Results, Figure], Drawing]] = {
    "cohort": cohort.draw,
    "repair_sweep": repair.draw_sweep,
    "repair_overlay": repair.draw_overlay,
    "repair_cases": repair.draw_cases,
    "repair_evidence": repair.draw_evidence,
    "repair_methods": repair.draw_methods,
    "training": training.draw,
    "results": comparison.draw,
    "ranking": ranking.draw,
    "precision_recall": agreement.draw_precision_recall,
    "volumes": agreement.draw_volumes,
    "confusion": confusion.draw,
    "symmetry": symmetry.draw_merged,
    "side_swapped": symmetry.draw_shares,
    "swapped_cases": symmetry.draw_cases,
    "grid": grid.draw,
}
PICTURES: dict[str, Callable[[Results, Figure, Viewer], Drawing]] = {
    "samples": samples.draw,
    "cases": outcomes.draw,
}


def draw(results: Results, figure: Figure, viewer: Viewer) -> Drawing:
    """One figure. Call it, and save what it gives, within `style.paper()`."""
    if figure.kind in PICTURES:
        return PICTURES[figure.kind](results, figure, viewer)
    return PLAIN[figure.kind](results, figure)


def draw_all(results: Results, folder: Path) -> None:
    """Draw every figure of the catalogue as PNG, SVG, PDF and CSV, and write their captions.

    The folder appears complete or not at all; what another version left in it is gone.
    """
    captions = {}
    viewer = Viewer(results)
    with writing_folder(folder) as temporary, style.paper():
        for figure in progress(figures(results.study), "figures"):
            drawing = draw(results, figure, viewer)
            style.settle(drawing.figure)
            for suffix in FORMATS:
                style.save(drawing.figure, temporary / figure.name, suffix)
            write_table(temporary / f"{figure.name}.csv", drawing.table)
            captions[figure.name] = {
                "title": drawing.title,
                "caption": drawing.caption,
                "alt": drawing.alt,
                "width_mm": round(drawing.figure.get_figwidth() * 25.4, 1),
            }
        write_json(temporary / CAPTIONS, captions)
        write_json(temporary / LAYERS, layers(results, viewer))
