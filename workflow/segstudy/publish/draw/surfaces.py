"""The surface of each structure in 3D, coloured by how far each prediction lies from it.

Drawn by matplotlib: orthographic projection, back faces left out, far faces first. PyVista would
bring VTK (over 100 MB) and a graphics driver for the same pictures.
"""

import math

import numpy as np
import pandas
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from skimage.measure import marching_cubes

from segstudy.boxes import bounding_box
from segstudy.images.files import Image
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.draw.outcomes import ranked_at
from segstudy.publish.results import Results
from segstudy.publish.views import open_case
from segstudy.words import count

MOST_STRUCTURES = 6
MOST_TRIANGLES = 20_000
MAP = "cividis"
# Seen from the front, a little from the patient's left and from above.
AZIMUTH_DEG, ELEVATION_DEG = 30.0, 15.0


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw the median, worst or best case of each structure in 3D, a row a structure and a column a model.

    The case is chosen by the structure's Dice, averaged over the models.
    """
    study, look, dataset = results.study, results.look, figure.dataset
    models, values_of = look.models, study.datasets[dataset].structures
    structures = [(name, values_of[name]) for name in look.structures[:MOST_STRUCTURES]]
    values = results.values(dataset, "dice")
    dice = values.groupby(["structure", "case"])["value"].mean().dropna()
    cases = {
        name: ranked_at(dice.loc[name], figure.rank)
        for name, _ in structures
        if name in dice.index.get_level_values("structure")
    }
    if not cases:
        text = f"No case of {dataset} has a defined Dice, so no surface is shown."
        return parts.empty_drawing(f"Surfaces, {dataset}", text, pandas.DataFrame({"case": []}))
    structures = [(name, value) for name, value in structures if name in cases]
    opened = {case: open_case(results, dataset, case) for case in set(cases.values())}
    labels = {case: values_mm.label for case, values_mm in opened.items()}
    meshes, rows = {}, []
    for name, value in structures:
        case = cases[name]
        mesh = _mesh(labels[case], value)
        meshes[name] = mesh
        for model in models:
            distances = None
            if mesh is not None:
                prediction = opened[case].prediction(model)
                distances = _signed(labels[case], prediction == value, mesh[0])
            meshes[name, model] = distances
            values_mm = distances if distances is not None else np.full(1, math.nan)
            rows.append(
                (case, name, model, *np.round(np.percentile(values_mm, [5, 50, 95]), 4),
                 round(float(np.abs(values_mm).mean()), 4))
            )  # fmt: skip
    table = pandas.DataFrame(
        rows,
        columns=["case", "structure", "model", "p5_mm", "median_mm", "p95_mm", "mean_absolute_mm"],
    )
    pooled = [
        np.abs(values_mm) for values_mm in meshes.values() if isinstance(values_mm, np.ndarray)
    ]
    limit = float(np.percentile(np.concatenate(pooled), 90)) if pooled else 0.0
    limit = max(limit, *(float(min(label.spacing_mm)) for label in labels.values()))
    limit = float(f"{limit:.1g}") if limit < 1 else math.ceil(limit)
    side = min(34.0, (style.page_mm() - 22) / len(models))
    width = float(np.clip(side * len(models) + 22, style.column_mm(), style.page_mm()))
    names_shown = {
        model: parts.wrap(look.model(model), max(6, int(side / style.text_mm())))
        for model in models
    }
    lines = max(name.count("\n") + 1 for name in names_shown.values())
    drawn = style.canvas(width, len(structures) * max(side, 18) + style.line_mm() * lines + 14)
    axes = drawn.subplots(len(structures), len(models), squeeze=False)
    shades = Normalize(-limit, limit)
    for row, (name, _) in enumerate(structures):
        named = max(8, int(max(side, 18) / style.text_mm()))
        for column, model in enumerate(models):
            panel = axes[row, column]
            panel.set_xticks([])
            panel.set_yticks([])
            panel.set_aspect("equal")
            for spine in panel.spines.values():
                spine.set_visible(False)
            if row == 0:
                panel.set_title(names_shown[model], fontsize="medium", loc="center")
            if column == 0:
                panel.set_ylabel(
                    f"{parts.wrap(look.structure(name), named)}\n{parts.wrap(cases[name], named)}"
                )
            if meshes[name] is None:
                note = "not in\nreference"
            elif meshes[name, model] is None:
                note = "not\npredicted"
            else:
                vertices, faces = meshes[name]
                affine = labels[cases[name]].affine
                if np.linalg.det(affine[:3, :3]) < 0:  # mirrored: triangles would face inwards
                    faces = faces[:, ::-1]
                placed = vertices @ affine[:3, :3].T
                _render(panel, placed, faces, meshes[name, model], shades)
                if column == 0:
                    _scale_bar(panel)
                continue
            panel.text(0.5, 0.5, note, transform=panel.transAxes, ha="center", va="center",
                       color=style.SOFT)  # fmt: skip
    bar = drawn.colorbar(
        ScalarMappable(shades, MAP), ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.02
    )
    told = "Prediction beyond (+) or short of (−) the reference (mm)"
    bar.set_label(parts.wrap(told, int(width / style.text_mm())))
    bar.outline.set_visible(False)
    fewer = len(study.structures) > MOST_STRUCTURES
    n = count(dice.index.get_level_values("case").nunique(), "case")
    return parts.Drawing(
        drawn,
        f"Surfaces of the {figure.rank} cases, {dataset}",
        f"Surface of the reference of each structure's {figure.rank} case by Dice, averaged over the models "
        f"(n = {n} of {dataset}), seen from the front, {AZIMUTH_DEG:.0f}° from "
        "the patient's left and a little from above. Colour: distance in mm to the surface of the "
        "prediction; bright: the prediction reaches beyond the reference, dark: it falls short. "
        "Surfaces are smoothed for display; colours end at the 90th percentile of all distances. "
        "Drawn by matplotlib." + (f" The first {MOST_STRUCTURES} structures." if fewer else ""),
        "Surfaces in 3D. Mean absolute distance: "
        + ", ".join(
            f"{look.structure(row.structure)} {look.model(row.model)} {row.mean_absolute_mm:.2f} mm"
            for row in table.itertuples()
            if row.mean_absolute_mm == row.mean_absolute_mm
        )
        + ".",
        table,
    )


def _mesh(label: Image, value: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return vertices (in voxels of the label) and triangles of a structure; None where it is empty."""
    mask = label.array == value
    box = bounding_box(mask)
    if box is None:
        return None
    solid = np.pad(box.of(mask).astype(np.float32), 3)
    smooth = gaussian_filter(solid, 0.8)
    smooth = smooth if smooth.max() > 0.6 else gaussian_filter(solid, 0.3)
    level = 0.5 if smooth.max() > 0.55 else float(smooth.max()) / 2
    vertices, faces, _, _ = marching_cubes(smooth, level)
    if len(faces) > MOST_TRIANGLES:  # more would be smaller than the print's dots
        step = math.ceil(math.sqrt(len(faces) / MOST_TRIANGLES))
        vertices, faces, _, _ = marching_cubes(smooth, level, step_size=step)
    return vertices - 3 + np.array(box.start), faces


def _signed(label: Image, prediction: np.ndarray, vertices: np.ndarray) -> np.ndarray | None:
    """Measure the distance in mm from each vertex to the prediction's surface, positive inside the prediction."""
    if not prediction.any():
        return None
    inside = np.argwhere(prediction)
    low = np.minimum(inside.min(axis=0), np.floor(vertices.min(axis=0)).astype(int)) - 1
    high = np.maximum(inside.max(axis=0), np.ceil(vertices.max(axis=0)).astype(int)) + 2
    grown = np.zeros(high - low, bool)
    grown[tuple((inside - low).T)] = True
    spacing = label.spacing_mm
    distance = distance_transform_edt(grown, spacing) - distance_transform_edt(~grown, spacing)
    # Both transforms measure to voxel centres: the surface lies half a voxel before them.
    distance = distance - np.sign(distance) * 0.5 * min(spacing)
    return map_coordinates(distance.astype(np.float32), (vertices - low).T, order=1, mode="nearest")


def _render(axes, vertices, faces, distances, shades: Normalize) -> None:
    """Draw a mesh (vertices in RAS mm) with a colour a triangle, lit from the viewer's upper left."""
    turned = vertices @ _view().T  # columns: to the right, upwards, towards the viewer
    corners = turned[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    middles = corners.mean(axis=1)
    front_faces = np.flatnonzero(normals[:, 2] > 0)
    front_faces = front_faces[np.argsort(middles[front_faces, 2], kind="stable")]
    light = np.array([-0.35, 0.45, 0.82])
    lit = 0.45 + 0.55 * np.clip(normals[front_faces] @ light, 0, 1)
    colours = colormaps[MAP](shades(distances[faces].mean(axis=1)))[front_faces]
    colours[:, :3] *= lit[:, None]
    axes.add_collection(
        PolyCollection(
            corners[front_faces][:, :, :2], facecolors=colours, edgecolors=colours, linewidths=0.15,
            rasterized=True,
        )
    )  # fmt: skip
    low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
    room = 0.04 * float((high - low).max())
    axes.set_xlim(low[0] - room, high[0] + room)
    axes.set_ylim(low[1] - room, high[1] + room)


def _scale_bar(axes) -> None:
    """Draw a bar of a round length below the surface, in its lower left corner."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    longest = max(right - left, top - bottom) / 3
    length = max(
        (length_mm for length_mm in (2, 5, 10, 20, 50, 100) if length_mm <= longest), default=1
    )
    height = bottom - 0.02 * (top - bottom)
    axes.plot([left, left + length], [height] * 2, color=style.INK, linewidth=1.2,
              solid_capstyle="butt", clip_on=False)  # fmt: skip
    axes.annotate(
        f"{length} mm", (left, height), xytext=(0, -2), textcoords="offset points", va="top",
        annotation_clip=False,
    )  # fmt: skip


def _view() -> np.ndarray:
    """Rows: RAS directions shown to the right, upwards and towards the viewer."""
    azimuth, elevation = np.radians([AZIMUTH_DEG, ELEVATION_DEG])
    # Towards the viewer: the patient's front (+y), turned to the patient's left (-x) and up (+z).
    towards = np.array(
        [
            -np.sin(azimuth) * np.cos(elevation),
            np.cos(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])
