"""Drawing all figures of a study into a folder."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from segstudy import metric_plugins
from segstudy.files import write_json, write_table, write_text, writing_folder
from segstudy.log import log, progress
from segstudy.publish import own_figures, style
from segstudy.publish.catalogue import CAPTIONS, LAYERS, Figure, figures
from segstudy.publish.draw import (
    agreement,
    appearance,
    architecture,
    cohort,
    comparison,
    confusion,
    differences,
    grid_search,
    heatmap,
    outcomes,
    parts,
    quality,
    rank_changes,
    ranking,
    ratings,
    repair,
    samples,
    sizes,
    subgroups,
    surfaces,
    symmetry,
    synthesis,
    training,
    verdicts,
)
from segstudy.publish.draw.parts import Drawing
from segstudy.publish.layers import layers
from segstudy.publish.results import Results
from segstudy.publish.views import ViewCache

PLAIN: dict[str, Callable[[Results, Figure], Drawing]] = {
    "cohort": cohort.draw,
    "appearance": appearance.draw,
    "architecture": architecture.draw,
    "repair_sweep": repair.draw_sweep,
    "repair_overlay": repair.draw_overlay,
    "repair_cases": repair.draw_cases,
    "repair_evidence": repair.draw_evidence,
    "repair_methods": repair.draw_methods,
    "training": training.draw,
    "synthesis": synthesis.draw,
    "results": comparison.draw,
    "verdicts": verdicts.draw,
    "heatmap": heatmap.draw,
    "differences": differences.draw,
    "subgroups": subgroups.draw,
    "surfaces": surfaces.draw,
    "ranking": ranking.draw,
    "sizes": sizes.draw,
    "precision_recall": agreement.draw_precision_recall,
    "volumes": agreement.draw_volumes,
    "confusion": confusion.draw,
    "symmetry": symmetry.draw_merged,
    "side_swapped": symmetry.draw_shares,
    "swapped_cases": symmetry.draw_cases,
    "grid": grid_search.draw,
    "risk_coverage": quality.draw_risk_coverage,
    "predicted_dice": quality.draw_predicted_dice,
    "ratings": ratings.draw,
    "rank_changes": rank_changes.draw,
    "own": own_figures.draw,
}
PICTURES: dict[str, Callable[[Results, Figure, ViewCache], Drawing]] = {
    "samples": samples.draw,
    "cases": outcomes.draw,
}


def draw(results: Results, figure: Figure, viewer: ViewCache) -> Drawing:
    """Draw one figure; call it, and save its result, within `style.paper` of the study's style."""
    if figure.kind in PICTURES:
        return PICTURES[figure.kind](results, figure, viewer)
    return PLAIN[figure.kind](results, figure)


def draw_all(results: Results, folder: Path, workers: int = 1) -> None:
    """Draw every figure of the catalogue in the study's formats and as CSV, and write their captions.

    The folder appears complete or not at all; files of another version in it are gone. The files
    are the same however many processes draw them.
    """
    if problem := results.study.publish.style.font_problem():
        log.warning("%s", problem)
    # What a plug-in draws comes first: it may fail, and all others would be drawn for nothing.
    wanted = sorted(figures(results.study), key=lambda figure: not figure.plugin)
    with writing_folder(folder) as temporary:
        with_progress = progress(wanted, "figures")
        if workers < 2:
            viewer = ViewCache(results)
            saved = [_draw_and_save(results, viewer, temporary, figure) for figure in with_progress]
        else:
            with ProcessPoolExecutor(workers, initializer=_start, initargs=(results,)) as pool:
                drawn = pool.map(_draw_and_save_here, [temporary] * len(wanted), wanted)
                saved = [files for _, files in zip(with_progress, drawn, strict=True)]
        names = [figure.name for figure in wanted]
        captions = {name: caption for name, (caption, _) in zip(names, saved, strict=True)}
        markers = {
            name: positions for name, (_, positions) in zip(names, saved, strict=True) if positions
        }
        write_json(temporary / CAPTIONS, captions)
        write_json(temporary / LAYERS, layers(results, workers) | {"markers": markers})


def restructured(text: str) -> str:
    """Escape plain text for reStructuredText and for Jinja, through which Snakemake passes it first."""
    escaped = re.sub(r"(^.|[\\*_`|<:\[\]]|(?<=\{)%)", r"\\\1", text)
    return "{% raw %}" + escaped + "{% endraw %}"


_here: dict[
    str, ViewCache
] = {}  # of a process that draws: its viewer, which keeps what it has read


def _start(results: Results) -> None:
    metric_plugins.register(results.study.metrics.plugins)
    _here["viewer"] = ViewCache(results)


def _draw_and_save_here(folder: Path, figure: Figure) -> tuple[dict, list]:
    return _draw_and_save(_here["viewer"].results, _here["viewer"], folder, figure)


def _draw_and_save(
    results: Results, viewer: ViewCache, folder: Path, figure: Figure
) -> tuple[dict, list]:
    """Write a figure's files, and return its caption and its markers."""
    chosen = results.study.publish.style
    with style.paper(chosen):
        drawing = draw(results, figure, viewer)
        with own_figures.telling(figure):
            style.settle(drawing.figure)
            for suffix in chosen.formats:
                style.save(drawing.figure, folder / figure.name, suffix)
        write_table(folder / f"{figure.name}.csv", drawing.table)
        write_text(
            folder / figure.caption,
            restructured(f"Figure {figure.number}. {drawing.caption}") + "\n",
        )
        caption = {
            "number": figure.number,
            "title": drawing.title,
            "caption": drawing.caption,
            "alt": drawing.alt,
            "width_mm": round(drawing.figure.get_figwidth() * 25.4, 1),
            "height_mm": round(drawing.figure.get_figheight() * 25.4, 1),
        }
        return caption, parts.marker_positions(drawing)
