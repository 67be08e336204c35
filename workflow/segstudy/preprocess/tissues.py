"""Whole label maps on a plan's grid, for training on images that are synthesised from them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import writing_folder
from segstudy.images.arrays import write_tissues
from segstudy.images.files import Image, read_label, within_memory
from segstudy.images.geometry import to_ras
from segstudy.images.prepare import IGNORED, prepare_label, target_grid
from segstudy.labels import read_table
from segstudy.log import progress
from segstudy.preprocess.plan_geometry import plan_geometry
from segstudy.study import TissueSettings

MOST = IGNORED - 1


def tissues_shard(
    name: str,
    cases: Sequence[Case],
    spacing_mm: tuple[float, float, float],
    settings: TissueSettings,
    output: Path | str,
) -> None:
    """Write the label maps of a dataset's cases into the folder `output`, which appears when all are done.

    No image is read: where the plan crops, a map is cropped to its labelled voxels.

    Parameters
    ----------
    name
        The dataset's name.
    cases
        The cases of the shard.
    spacing_mm
        Target spacing along right, front, head.
    settings
        Plan, dataset, structures, and label values that share a tissue.
    output
        The folder.

    Raises
    ------
    InputError
        For a map of more than 254 values.
    """
    dataset = settings.dataset
    way = plan_geometry(settings.plan, dataset.modality, spacing_mm, dataset.channels)
    if way.crop != "none":
        way = replace(way, crop="nonzero")
    values = [dataset.structures[structure] for structure in settings.structures]
    pairs = [[dataset.structures[side] for side in pair] for pair in settings.left_right_pairs]
    table = read_table(dataset.label_table) if dataset.label_table else {}
    sides = [[row.value, row.partner] for row in table.values() if row.partner]
    groups = [*settings.tissues.values(), *pairs, *sides]
    with writing_folder(output) as folder:
        for case in progress(cases, f"tissues {name}"):
            with within_memory(case.case, case.label):
                label = read_label(case.label)
                restore = target_grid(
                    to_ras(Image(label.array[None], label.affine)),
                    label.grid,
                    way,
                    f"{case.label} (case {case.case})",
                )
                others = {*np.unique(label.array).tolist()} - {0, *values, *dataset.ignore}
                label_values = [*values, *sorted(others)]
                if len(label_values) > MOST:
                    raise InputError(
                        f"{case.label}: {len(label_values)} label values (case {case.case}); expected at most "
                        f"{MOST}, as many as a byte tells apart"
                    )
                parts = prepare_label(label, restore, label_values, dataset.ignore)
                spacing = restore.grid.spacing_mm
                alike = tissues_of(label_values, groups)
                write_tissues(folder, name, case.case, spacing, parts, len(values), alike)


def tissues_of(values: Sequence[int], groups: Iterable[Sequence[int]]) -> list[int]:
    """Assign each label value the number of its tissue, from 1 on: values of a group share one.

    Parameters
    ----------
    values
        Label values.
    groups
        Values that look alike; groups that overlap are one.
    """
    above: dict[int, int] = {}

    def first(value: int) -> int:
        while value in above:
            value = above[value]
        return value

    for group in groups:
        for value in group[1:]:
            one, other = first(group[0]), first(value)
            if one != other:
                above[other] = one
    numbers: dict[int, int] = {}
    return [numbers.setdefault(first(value), len(numbers) + 1) for value in values]
