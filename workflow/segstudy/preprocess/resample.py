"""Preparation of the cases of a shard."""

from collections.abc import Sequence
from pathlib import Path

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import writing_folder
from segstudy.images.arrays import write_arrays
from segstudy.images.crop import MOST_CUT, cut_off
from segstudy.images.files import Image, read_image, read_label, within_memory
from segstudy.images.geometry import to_ras
from segstudy.images.plan import Restore
from segstudy.images.prepare import prepare, prepare_label
from segstudy.log import log, progress
from segstudy.preprocess.plan_geometry import plan_geometry
from segstudy.study import ResampleSettings


def resample_shard(
    name: str,
    cases: Sequence[Case],
    spacing_mm: tuple[float, float, float],
    settings: ResampleSettings,
    output: Path | str,
) -> None:
    """Prepare a dataset's cases into the folder `output`, which appears when all are done.

    Parameters
    ----------
    name
        The dataset's name.
    cases
        The cases of the shard.
    spacing_mm
        Target spacing along right, front, head.
    settings
        Plan, dataset and structures.
    output
        The folder.

    Raises
    ------
    InputError
        For a label of another shape than its image's, and where the crop takes more than 0.1 % of a
        structure's voxels.
    """
    dataset = settings.dataset
    way = plan_geometry(settings.plan, dataset.modality, spacing_mm, dataset.channels)
    values = [dataset.structures[structure] for structure in settings.structures]
    with writing_folder(output) as folder:
        for case in progress(cases, f"resample {name}"):
            with within_memory(case.case, case.images[0]):
                image = read_image(case.images, len(dataset.channels))
                array, restore = prepare(image, way, f"{case.images[0]} (case {case.case})")
                del image  # hundreds of MB for CT
                label = read_label(case.label)
                if label.grid.shape != restore.native.shape:
                    raise InputError(
                        f"{case.label}: shape {label.grid.shape}, its image has {restore.native.shape} "
                        f"(case {case.case}); expected the same"
                    )
                _check_crop(case, label, restore, values, way.crop)
                classes = prepare_label(label, restore, values, dataset.ignore)
                write_arrays(folder, name, case.case, array, classes, restore)
                _say_what_was_lost(case, label.array, classes, values)


def _check_crop(
    case: Case, label: Image, restore: Restore, values: Sequence[int], crop: str
) -> None:
    """Log the voxels of structures that the crop takes; InputError where they are over 0.1 % of one."""
    reoriented = to_ras(Image(label.array, restore.native.affine)).array
    for value, (lost, voxels) in cut_off(reoriented, restore.box, values).items():
        text = (
            f"case {case.case}: {lost} of {voxels} voxels ({lost / voxels:.2%}) of the structure of "
            f"value {value} lie outside what `crop: {crop}` keeps of {case.images[0]}"
        )
        if lost > MOST_CUT * voxels:
            raise InputError(
                f"{case.label}: {text}; expected at most {MOST_CUT:.1%}. Check that the label belongs "
                "to the image; if it does, set `crop: none` or a larger margin_mm in preprocess"
            )
        log.warning("%s", text)


def _say_what_was_lost(case: Case, stored, prepared, values: Sequence[int]) -> None:
    """Log a structure that the label file has and the array lacks: no training will see it."""
    for index, value in enumerate(values, start=1):
        if (stored == value).any() and not (prepared == index).any():
            log.warning(
                "case %s: the structure of value %d vanishes on this grid; choose a finer spacing_mm",
                case.case,
                value,
            )
