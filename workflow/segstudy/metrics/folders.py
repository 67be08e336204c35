"""Folders of label maps: a file a case. The layouts of other programs are recognised and named."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.names import NIFTI, OTHER, composed, is_image, is_picture, stem
from segstudy.images.unreadable import cases_in, is_dicom

NOT_READ = (
    *(".img.gz", ".mnc", ".gipl", ".gipl.gz", ".vti"),
    *(".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".npy"),
)
"""Endings of volumes that other programs write."""


def label_files(folder: Path) -> dict[str, Path]:
    """List the label maps right in a folder, of which a folder may be a DICOM-SEG: name without suffix -> file, sorted."""
    if not folder.is_dir():
        problem = (
            "a file; expected a folder of label maps" if folder.is_file() else "no such folder"
        )
        raise InputError(f"{folder}: {problem}")
    files: dict[str, Path] = {}
    for name, paths in cases_in(folder).items():
        if len(paths) > 1:
            raise InputError(f"{folder}: {paths[0].name} and {paths[1].name} have one name")
        files[name] = paths[0]
    return files


def is_one_image(folder: Path, other: str) -> bool:
    """Tell whether a folder holds one label map: a DICOM object alone, or a stack of pictures.

    other: name of the label map that it is compared with; a picture of this name is a case of its own. Tables beside, such as
    `segstudy infer` writes, do not count.
    """
    inside = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.suffix.lower() not in (".csv", ".json", ".tsv")
    ]
    if len(inside) == 1 and is_dicom(inside[0]):
        return True
    return bool(inside) and all(is_picture(path) and stem(path) != other for path in inside)


def check_layout(folder: Path, present: Collection[str], lacking: Collection[str] = ()) -> None:
    """Refuse a folder without label maps, or with label maps of missing cases in folders or files that are not read.

    Such label maps lie in folders of their own, or in files whose ending is not read.

    Parameters
    ----------
    folder
        Of label maps, one file a case.
    present
        The cases that have a file right in the folder.
    lacking
        The cases that should have one and have none.
    """
    inside = {}
    for path in _folders(folder) if lacking or not present else ():
        if not present or path.name in lacking:
            files = _images(path) or [file for sub in _folders(path) for file in _images(sub)]
            if files:
                inside[path.name] = files
    if inside:
        raise InputError(f"{folder}: {_described(inside)}")
    check_endings(folder, lacking if present else unread(folder))
    if not present:
        raise InputError(
            f"{folder}: no label maps; expected files such as case.nii.gz{_others(folder)}"
        )


def _others(folder: Path) -> str:
    """Say which files lie in a folder in place of label maps."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return f"; found {names[0]}{', ...' if len(names) > 1 else ''}" if names else ""


def check_endings(folder: Path, lacking: Collection[str]) -> None:
    """Refuse files of missing cases whose ending is not read.

    Parameters
    ----------
    folder
        Of label maps.
    lacking
        The cases without a label map.
    """
    files = [path for case, path in unread(folder).items() if case in lacking]
    if not files:
        return
    if files[0].is_dir():
        raise InputError(
            f"{files[0]}: a folder, though it is named as a file; expected a label map"
        )
    raise InputError(
        f"{folder}: {_some(files)}: the ending is not read; expected one of "
        f"{', '.join(NIFTI + OTHER)}. Convert these files, or take "
        "them away"
    )


def unread(folder: Path) -> dict[str, Path]:
    """List the files that look like a case's volume and are not read: name without ending -> file, sorted."""
    unread_files = {}
    endings = sorted((*NIFTI, *OTHER, *NOT_READ), key=len, reverse=True)
    for path in sorted(folder.iterdir()):
        ending = next((known for known in endings if path.name.lower().endswith(known)), "")
        read = is_image(path) and not path.is_dir()
        if ending and not read and not path.name.startswith("."):
            unread_files.setdefault(composed(path.name[: -len(ending)]), path)
    return unread_files


def one_file_per_structure(files: Iterable[Path]) -> str:
    """Describe files that each hold one structure of a case, and say how to convert them."""
    return (
        f"one file per structure ({_some(list(files))}), as TotalSegmentator writes them: expected "
        "one label map per case, named as its reference; have it write that (TotalSegmentator --ml), "
        'and give its values in the settings, "prediction_labels"'
    )


def _described(inside: Mapping[str, Sequence[Path]]) -> str:
    """Say whether the files in folders of cases are a case's one label map or its structures."""
    case, files = next(iter(inside.items()))
    named_by_case = [file for file in files if stem(file).startswith(composed(case))]
    if len(files) > 1 and not named_by_case:
        return f"one folder per case ({case}/, ...) with {one_file_per_structure(files)}"
    file = (named_by_case or files)[0]
    suffix = composed(file.name)[len(stem(file)) :]
    return (
        f"one folder per case ({case}/{file.name}, ...), as MONAI's SaveImage writes them: expected "
        f"one folder of label maps with the names of the references, such as {case}{suffix}; write "
        'them with SaveImage(separate_folder=False, output_postfix=""), or copy the files there'
    )


def _images(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if is_image(path) and not path.name.startswith(".") and not path.is_dir()
    ]


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]


def _some(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
