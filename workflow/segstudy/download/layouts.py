"""Layouts of datasets on disk: the cases of a folder or a table, and the files that are left over.

Each layout is a function from a folder (or table) and the study's settings of the dataset to a
`Listing`. Only names are looked at here; the audit opens the files.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segstudy.cases import Case
from segstudy.download.file_layout import Masks, PatternedFiles
from segstudy.download.label_names import compare_names, compare_tables, label_names
from segstudy.download.names import one_person_perhaps
from segstudy.download.problems import Problem
from segstudy.download.table import listed_by_plugin, read_table
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.names import NIFTI, OTHER, composed, is_image, stem
from segstudy.images.segments import label_value
from segstudy.images.unreadable import why_unreadable
from segstudy.images.value_checks import WARNING
from segstudy.paths import as_stored
from segstudy.study import Dataset


@dataclass(frozen=True)
class Listing:
    """Hold the cases of a dataset's folder.

    Parameters
    ----------
    root
        The folder that file names of problems are relative to.
    cases
        Those with an image and a label by name, or of label maps alone; a name can stand twice.
    problems
        Unpaired files, and contradictions of the dataset's own description.
    stacks
        Files of cases that are yet to be written, each from slices in their order.
    masks
        Label maps of cases that are yet to be written, each from masks of its structures.
    """

    root: Path
    cases: list[Case]
    problems: list[Problem]
    stacks: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    masks: Mapping[Path, Masks] = field(default_factory=dict)


def list_cases(dataset: Dataset, raw: Path | None = None, derived: Path | None = None) -> Listing:
    """List the cases of a dataset.

    Parameters
    ----------
    dataset
        The dataset's settings.
    raw
        The fetched folder; None: the study's `source.path` is read.
    derived
        Where files belong that have to be made of the dataset's (`Listing.stacks`, `Listing.masks`).

    Raises
    ------
    InputError
        Where the folder or table cannot be read as its layout at all.
    """
    source = dataset.source
    path = raw if raw is not None else getattr(source, "path", None)
    if path is None:
        raise InputError(
            "--raw is missing: the study names no source.path, so the fetched folder is needed"
        )
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {'table' if source.layout == 'table' else 'folder'}")
    if source.layout == "oasis_slices":
        return _oasis_slices(path, dataset, derived or Path("derived"))
    if source.layout == "files":
        listing = _files(path, dataset, derived or Path("derived"))
    else:
        listing = _LAYOUTS[source.layout](path, dataset)
    described = source.layout in ("msd", "nnunet")
    labels = [case.label for case in listing.cases]
    said = compare_tables(labels, listing.root, dataset, described)
    if described:
        said += one_person_perhaps(
            listing.cases, "list the files in a table with a column subject (layout: table)"
        )
    cases = [
        replace(case, case=composed(case.case), subject=composed(case.subject))
        for case in listing.cases
    ]
    return replace(listing, cases=cases, problems=[*listing.problems, *said])


# --- Medical Segmentation Decathlon -------------------------------------------------------------


def _msd(root: Path, dataset: Dataset) -> Listing:
    """List a Decathlon folder, whose `dataset.json` lists pairs; channels are an image's fourth axis."""
    description = _description(root)
    file = root / "dataset.json"
    problems = _compare_description(description, file, dataset, "modality")
    cases = []
    for part in dataset.source.entries:
        cases += _msd_entries(root, description.get(part), f"{file}: {part}")
    for part in ("validation", "test"):
        if part not in dataset.source.entries:
            problems += _labelled_entries(description.get(part), part)
    images, labels = _images(root / "imagesTr"), _images(root / "labelsTr")
    used = {path.resolve() for case in cases for path in case.files}
    unlisted = {path.name for path in images + labels if path.resolve() not in used}
    pairs = {path.name for path in images} & {path.name for path in labels} & unlisted
    for path in (*images, *labels):
        if path.name in pairs and path.parent.name == "imagesTr":
            problems.append(
                Problem(
                    stem(path),
                    _name(path, root),
                    "image and label are there, but dataset.json does not list them: not used",
                    WARNING,
                )
            )
        elif path.name in unlisted - pairs:
            problems.append(_unpaired(path, root))
    return Listing(root, *_present(cases, problems, root))


def _msd_entries(root: Path, entries: Any, where: str) -> list[Case]:
    """Read the cases of a list of pairs; an image may be a list of files, one a channel (MONAI)."""
    if not isinstance(entries, list):
        raise InputError(f"{where}: expected a list of image and label files")
    cases = []
    for number, entry in enumerate(entries, start=1):
        image, label = (
            (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        )
        images = [image] if isinstance(image, str) else image
        named = isinstance(images, list) and all(isinstance(file, str) for file in images)
        if not (named and images and isinstance(label, str)):
            raise InputError(
                f"{where}, entry {number}: found {json.dumps(entry)[:80]}; expected an image and a label"
            )
        *images, label = (_plain_path(root, text) for text in (*images, label))
        if not images[0].name.startswith("."):
            name = stem(images[0])
            cases.append(Case(name, name, tuple(images), label))
    return cases


def _plain_path(root: Path, text: str) -> Path:
    """Return the path of a listed file, below the root; Windows writes backslashes."""
    return as_stored(root / text.replace("\\", "/"))


def _labelled_entries(entries: Any, part: str) -> list[Problem]:
    """Warn where a part of dataset.json that is not read has labels."""
    listed = entries if isinstance(entries, list) else []
    count = sum(isinstance(entry, dict) and bool(entry.get("label")) for entry in listed)
    if not count:
        return []
    text = (
        f"{part}: {count} cases with a label, which are not used; source.entries: [training, {part}] "
        "takes them as further cases"
    )
    return [Problem("", "dataset.json", text, WARNING)]


# --- nnU-Net ------------------------------------------------------------------------------------


def _nnunet(root: Path, dataset: Dataset) -> Listing:
    """List `imagesTr/<case>_0000<ending>`, one file a channel, and `labelsTr/<case><ending>`.

    Where dataset.json has an entry `dataset`, that lists the files, as nnU-Net reads it.
    """
    description = _description(root)
    file = root / "dataset.json"
    key = "channel_names" if "channel_names" in description else "modality"
    problems = _compare_description(description, file, dataset, key)
    problems += _compare_ignore(description.get("labels"), file.name, dataset)
    if "dataset" in description:
        return _nnunet_listed(root, description["dataset"], problems)
    ending = _ending(root, description.get("file_ending", ".nii.gz"))
    images: dict[str, dict[int, Path]] = {}
    for path in _images(root / "imagesTr"):
        match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", path.name)
        if match:
            images.setdefault(composed(match[1]), {})[int(match[2])] = path
        else:
            problems.append(
                Problem(
                    stem(path),
                    _name(path, root),
                    f"the name does not end in a channel (_0000{ending}): not used",
                )
            )
    labels: dict[str, Path] = {}
    for path in _images(root / "labelsTr"):
        if path.name.endswith(ending):
            labels[composed(path.name.removesuffix(ending))] = path
        else:
            problems.append(
                Problem(
                    stem(path), _name(path, root), f"the name does not end in {ending}: not used"
                )
            )
    cases = []
    for name in sorted(images.keys() | labels.keys()):
        channels = images.get(name, {})
        if name not in labels:
            problems += [_unpaired(path, root) for path in channels.values()]
        elif not channels:
            problems.append(_unpaired(labels[name], root))
        elif sorted(channels) != list(range(len(dataset.channels))):
            match = ", ".join(f"{number:04d}" for number in sorted(channels))
            expected = ", ".join(f"{number:04d}" for number in range(len(dataset.channels)))
            problems.append(
                Problem(
                    name,
                    f"imagesTr/{name}_*{ending}",
                    f"found channels {match}; expected {expected}",
                )
            )
        else:
            paths = tuple(channels[number] for number in sorted(channels))
            cases.append(Case(name, name, paths, labels[name]))
    return Listing(root, cases, problems)


def _ending(root: Path, ending: Any) -> str:
    """Return the ending of all files of an nnU-Net folder, whose two folders must be there."""
    file = root / "dataset.json"
    if not isinstance(ending, str) or not is_image(f"case{ending}"):
        raise InputError(
            f"{file}: file_ending: found {ending!r}; expected {', '.join(NIFTI + OTHER)}: convert images "
            "and labels to .nii.gz, with the voxel size in the header, and write that ending here"
        )
    for name in ("imagesTr", "labelsTr"):
        if not (root / name).is_dir():
            near = difflib.get_close_matches(
                name, [path.name for path in root.iterdir() if path.is_dir()], n=1, cutoff=0.8
            )
            hint = f"; did you mean {near[0]}? Rename it" if near else _elsewhere(root, name)
            raise InputError(f"{root}: no folder {name} in it{hint}")
    return ending


def _nnunet_listed(root: Path, entries: Any, problems: list[Problem]) -> Listing:
    file = root / "dataset.json"
    if not isinstance(entries, dict):
        raise InputError(f"{file}: dataset: expected case: {{images: [...], label: ...}}")
    cases = []
    for name, entry in entries.items():
        try:
            images = tuple(as_stored(root / image) for image in entry["images"])
            cases.append(Case(name, name, images, as_stored(root / entry["label"])))
        except (KeyError, TypeError):
            raise InputError(f"{file}: dataset.{name}: expected images: [...] and label") from None
    return Listing(root, *_present(cases, problems, root))


# --- SegTHOR and the phantom --------------------------------------------------------------------


def _segthor(root: Path, dataset: Dataset) -> Listing:
    """List `train/Patient_NN/{Patient_NN.nii.gz, GT.nii.gz}`, and `GT2.nii.gz`, a right label."""
    folder = root / "train"
    if not folder.is_dir():
        raise InputError(
            f"{root}: no folder train in it; expected train/<patient>/GT.nii.gz"
            + _elsewhere(root, "train/*/GT.nii.gz")
        )
    cases, problems = [], []
    for patient in sorted(folder.iterdir()):
        if patient.name.startswith("."):
            continue
        if not patient.is_dir():
            problems.append(
                Problem("", _name(patient, root), "not a patient's folder: not used", WARNING)
            )
            continue
        name = patient.name
        image, label, right = (
            as_stored(patient / f"{file}.nii.gz") for file in (name, "GT", "GT2")
        )
        reference = right if right.exists() else None
        cases.append(Case(name, name, (image,), label, reference))
        for path in _images(patient):
            if path not in (image, label, right):
                problems.append(
                    Problem(
                        name,
                        _name(path, root),
                        f"unexpected image; expected {name}.nii.gz, GT.nii.gz and GT2.nii.gz: not used",
                        WARNING,
                    )
                )
    return Listing(root, *_present(cases, problems, root))


# --- OASIS slices -------------------------------------------------------------------------------

_PART = re.compile(r"keras_(?:png_)?slices_(seg_)?(train|validate|test)")
_SLICE = re.compile(r"(case|seg)_(\d+)_slice_(\d+)\.(?:nii\.png|png|nii|nii\.gz)")


def _oasis_slices(root: Path, dataset: Dataset, derived: Path) -> Listing:
    """List slices by subject, each subject's in the order of their numbers; volumes are to be stacked."""
    source = dataset.source
    folders = _slice_folders(root, source.parts)
    slice_files: dict[str, dict[str, dict[int, Path]]] = {"case": {}, "seg": {}}
    part_of: dict[str, str] = {}
    problems = []
    for part, folder in folders:
        for path in sorted(folder.iterdir()):
            name = _SLICE.fullmatch(path.name)
            if path.name.startswith("."):
                continue
            if not name:
                text = "not named as a slice (case_NNN_slice_S or seg_NNN_slice_S): not used"
                problems.append(Problem("", _name(path, root), text, WARNING))
                continue
            kind, subject, number = name[1], name[2], int(name[3])
            slices = slice_files[kind].setdefault(subject, {})
            if part_of.setdefault(subject, part) != part or number in slices:
                other = f" and in {part_of[subject]}" if part_of[subject] != part else ""
                text = f"slice {number} stands twice, or its subject is in {part}{other}"
                problems.append(Problem(f"case_{subject}", _name(path, root), text))
            slices[number] = path
    refused = {problem.case for problem in problems}
    cases, stacks = [], {}
    for subject in sorted(slice_files["case"].keys() | slice_files["seg"].keys()):
        images, labels = (slice_files[kind].get(subject, {}) for kind in ("case", "seg"))
        name = f"case_{subject}"
        wrong = _slice_problems(name, images, labels, root)
        problems += wrong
        if wrong or name in refused:
            continue
        groups = {name: sorted(images)}
        if source.case_unit == "slices":
            groups = {f"{name}_slice_{number:02d}": [number] for number in sorted(images)}
        for case, numbers in groups.items():
            image, label = (
                derived / kind / f"{case}.nii.gz" for kind in ("stacked_images", "stacked_labels")
            )
            stacks[image] = tuple(images[number] for number in numbers)
            stacks[label] = tuple(labels[number] for number in numbers)
            cases.append(Case(case, subject, (image,), label))
    problems += _odd_counts(slice_files["case"])
    return Listing(root, cases, problems, stacks)


def _odd_counts(images: Mapping[str, Mapping[int, Path]]) -> list[Problem]:
    """Warn of each subject that has more or fewer slices than most."""
    counts = {subject: len(slices) for subject, slices in images.items()}
    usual = max(counts.values(), key=list(counts.values()).count, default=0)
    return [
        Problem(
            f"case_{subject}", "", f"{number} slices, where most subjects have {usual}", WARNING
        )
        for subject, number in sorted(counts.items())
        if number != usual
    ]


def _slice_folders(root: Path, parts: Iterable[str]) -> list[tuple[str, Path]]:
    """Find the folders of the parts, images and labels, wherever below the root they lie."""
    folders = [
        (match[2], bool(match[1]), path)
        for path in sorted(root.rglob("*slices_*"))
        if path.is_dir() and (match := _PART.fullmatch(path.name))
    ]
    for part in parts:
        for is_label, name in (
            (False, f"keras_png_slices_{part}"),
            (True, f"keras_png_slices_seg_{part}"),
        ):
            if (part, is_label) not in {entry[:2] for entry in folders}:
                raise InputError(
                    f"{root}: no folder {name} in it (or {name.replace('_png', '')}); expected images "
                    f"in keras_png_slices_<part>/case_NNN_slice_S.nii.png and labels in "
                    "keras_png_slices_seg_<part>/seg_NNN_slice_S.nii.png"
                    + ("" if folders else _elsewhere(root, "keras_*slices_*"))
                )
    return [(part, path) for part, _, path in folders if part in set(parts)]


def _slice_problems(
    name: str, images: dict[int, Path], labels: dict[int, Path], root: Path
) -> list[Problem]:
    """List the reasons why a subject's slices are no volume."""
    problems = [
        Problem(
            name,
            _name(path, root),
            f"slice {number}: {has} without {lacks}, the subject is left out",
        )
        for numbers, other, has, lacks in (
            (images, labels, "image", "label"),
            (labels, images, "label", "image"),
        )
        for number, path in sorted(numbers.items())
        if number not in other
    ]
    gaps = sorted(set(range(min(images, default=0), max(images, default=0))) - images.keys())
    if gaps and not problems:
        first = images[min(images)]
        text = f"no slice {', '.join(map(str, gaps[:5]))}; expected {min(images)} to {max(images)}"
        problems.append(Problem(name, _name(first.parent, root), text))
    return problems


# --- neurite-OASIS ------------------------------------------------------------------------------


def _neurite_oasis(root: Path, dataset: Dataset) -> Listing:
    """List a folder a subject; `seg35_labels.txt`, FreeSurfer's colour table, names the values."""
    segmentation = dataset.source.segmentation
    folders = sorted(path for path in root.glob("OASIS_OAS1_*") if path.is_dir())
    if not folders:
        raise InputError(
            f"{root}: no folder OASIS_OAS1_NNNN_MR1 in it; expected aligned_norm.nii.gz and "
            f"aligned_{segmentation}.nii.gz in one such folder a subject"
            + _elsewhere(root, "OASIS_OAS1_*")
        )
    problems = []
    names = _colour_table(root / f"{segmentation}_labels.txt")
    if names:
        problems = compare_names(names, f"{segmentation}_labels.txt", dataset)
    cases = []
    for folder in folders:
        # OAS1_0061_MR2 is the same person as OAS1_0061_MR1, scanned again.
        match = re.fullmatch(r"OASIS_(OAS1_\d+)_(MR\d+)", folder.name)
        if not match:
            text = "not named as a scan (OASIS_OAS1_NNNN_MR1): not used"
            problems.append(Problem("", _name(folder, root), text, WARNING))
            continue
        image, label = folder / "aligned_norm.nii.gz", folder / f"aligned_{segmentation}.nii.gz"
        cases.append(Case(f"{match[1]}_{match[2]}", match[1], (image,), label))
    return Listing(root, *_present(cases, problems, root))


def _colour_table(file: Path) -> dict[int, str]:
    """Read value -> name of FreeSurfer's text format (value, name, red, ...); empty if absent."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    rows = [line.split() for line in lines]
    values = [(label_value(row[0]), row[1]) for row in rows if len(row) > 1]
    return {value: name for value, name in values if value is not None}


# --- BIDS ---------------------------------------------------------------------------------------


def _bids(root: Path, dataset: Dataset) -> Listing:
    """List raw images beside a pipeline's `dseg` files, paired by subject and session."""
    source = dataset.source
    if len(source.suffixes) != len(dataset.channels):
        raise InputError(
            f"source.suffixes: {len(source.suffixes)} ({', '.join(source.suffixes)}); expected one for "
            f"each of the {len(dataset.channels)} channels ({', '.join(dataset.channels)})"
        )
    pipeline = _pipeline(root, source.pipeline)
    ending = (f"_desc-{source.label_desc}" if source.label_desc else "") + "_dseg.nii.gz"
    sessions = _bids_files(pipeline, ending)
    image_root = pipeline if source.image_desc else root
    desc = f"_desc-{source.image_desc}" if source.image_desc else ""
    channels = [_bids_files(image_root, f"{desc}_{suffix}.nii.gz") for suffix in source.suffixes]
    problems, cases = [], []
    for key in sorted(sessions.keys() | channels[0].keys()):
        case, files = "_".join(key), [sessions.get(key, [])] + [c.get(key, []) for c in channels]
        wanted = [f"*{ending}", *(f"*{desc}_{suffix}.nii.gz" for suffix in source.suffixes)]
        for matches, pattern in zip(files, wanted, strict=True):
            if len(matches) != 1:
                which = f" ({', '.join(path.name for path in matches)})" if matches else ""
                hint = "; set source.label_desc or source.image_desc" if matches else ""
                text = f"{len(matches)} files {pattern}{which}; expected one{hint}"
                problems.append(Problem(case, "/".join((*key, "anat")), text))
        if all(len(matches) == 1 for matches in files):
            label, *images = (matches[0] for matches in files)
            cases.append(Case(case, key[0], tuple(images), label))
    return Listing(root, cases, problems)


def _pipeline(root: Path, name: str | None) -> Path:
    """Return the folder of `derivatives` that holds the labels."""
    folder = root / "derivatives"
    able = sorted(
        path for path in folder.glob("*") if path.is_dir() and any(path.rglob("sub-*_dseg.nii.gz"))
    )
    known = ", ".join(path.name for path in able) or "none"
    if name is not None:
        if folder / name not in able:
            raise InputError(
                f"{folder / name}: source.pipeline: no sub-*_dseg.nii.gz in it; those with labels: {known}"
            )
        return folder / name
    if len(able) != 1:
        raise InputError(
            f"{folder}: expected one folder with sub-*_dseg.nii.gz files, found {len(able)} ({known})"
            + ("; set source.pipeline" if able else "; labels belong there in a BIDS dataset")
            + ("" if able else _elsewhere(root, "derivatives/*/sub-*"))
        )
    return able[0]


def _bids_files(root: Path, ending: str) -> dict[tuple[str, ...], list[Path]]:
    """Return files of that ending by subject, or subject and session: ("sub-01", "ses-1")."""
    files: dict[tuple[str, ...], list[Path]] = {}
    for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*"):
        for path in sorted(root.glob(pattern)):
            if path.name.endswith(ending) and not path.name.startswith("."):
                key = tuple(map(composed, path.relative_to(root).parts[:-2]))
                files.setdefault(key, []).append(path)
    return files


# --- label maps alone ---------------------------------------------------------------------------


def _label_maps(root: Path, dataset: Dataset) -> Listing:
    """List each image file of a folder as a case without image, and a subject unless named `sub-<id>`."""
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; expected one with a label map a subject in it")
    maps = _images(root)
    if not maps:
        inner = sorted({path.parent.name for path in root.glob("*/*") if is_image(path)})
        hint = f"; did you mean {root / inner[0]}?" if inner else ""
        raise InputError(
            f"{root}: no label map in it; expected files such as sub-01_seg.nii.gz right in this folder{hint}"
        )
    cases = []
    for path in maps:
        name = stem(path)
        subject = re.match(r"sub-[A-Za-z0-9]+(?=_)", name)
        cases.append(Case(name, subject[0] if subject else name, (), path))
    return Listing(root, cases, [])


# --- patterns of files --------------------------------------------------------------------------


def _files(root: Path, dataset: Dataset, derived: Path) -> Listing:
    """List files by the pattern of each role; label maps of masks are to be written."""
    files = PatternedFiles(root, dataset)
    cases, problems, masks = files.cases(derived)
    if files.person is None:
        problems += one_person_perhaps(
            cases, "write {subject} in the patterns for what names the person"
        )
    return Listing(root, cases, problems, masks=masks)


# --- a table ------------------------------------------------------------------------------------


def _table(table: Path, dataset: Dataset) -> Listing:
    """List the rows of a TSV, a case each; file names are relative to the table's folder."""
    return Listing(table.parent, *_present(read_table(table, dataset), [], table.parent))


# --- a plug-in ----------------------------------------------------------------------------------


def _plugin(root: Path, dataset: Dataset) -> Listing:
    """List the cases that a function of the user's lists; file names are relative to the folder."""
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; expected the one that the plug-in lists")
    return Listing(root, *_present(listed_by_plugin(root, dataset), [], root))


# --- shared -------------------------------------------------------------------------------------


def _description(root: Path) -> dict:
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; expected one with dataset.json in it")
    file = root / "dataset.json"
    if not file.exists():
        inner = sorted(path.parent.name for path in root.glob("*/dataset.json"))
        hint = f"; did you mean {root / inner[0]}?" if inner else _elsewhere(root, "dataset.json")
        raise InputError(f"{root}: no dataset.json in it{hint}")
    description = read_json(file)
    if not isinstance(description, dict):
        raise InputError(f"{file}: expected keys and values at the top")
    return description


def _compare_description(
    description: dict, file: Path, dataset: Dataset, channels_key: str
) -> list[Problem]:
    """Compare the channels (an error) and structures (a warning) of dataset.json with the study's."""
    channels = description.get(channels_key)
    if isinstance(channels, dict) and len(channels) != len(dataset.channels):
        raise InputError(
            f"{file}: {channels_key}: {len(channels)} channels "
            f"({', '.join(map(str, channels.values()))}); the study file has "
            f"{len(dataset.channels)} ({', '.join(dataset.channels)}): set channels to the names "
            "of all, in this order"
        )
    names = label_names(description.get("labels"))
    regions = _regions(description.get("labels"))
    parts = {value for values in regions.values() for value in values}
    inside = {value: name for name, value in dataset.structures.items() if value in parts}
    return [
        *compare_names({**inside, **names}, file.name, dataset),
        *(
            Problem("", "dataset.json", text, WARNING)
            for name, values in regions.items()
            if (text := _region_text(name, values, dataset))
        ),
    ]


def _regions(labels: Any) -> dict[str, list[int]]:
    """Return nnU-Net's regions, structures that overlap: name -> values, from `{"tumour": [1, 2]}`."""
    named = labels.items() if isinstance(labels, dict) else ()
    return {str(name): values for name, values in named if isinstance(values, list)}


def _region_text(region: str, values: list[int], dataset: Dataset) -> str:
    """Describe the remedy for a region; empty where the study learns just this as one structure."""
    merged = dataset.merged_labels.items()
    values_of = {
        name: {value, *(one for one, into in merged if into == value)}
        for name, value in dataset.structures.items()
    }
    if values_of.get(region) == set(values):
        return ""
    listed = ", ".join(map(str, values))
    inside = [name for name, held in values_of.items() if held & set(values) and name != region]
    named = set().union(*(values_of[name] for name in inside))
    others = [f"NAME OF {value}" for value in values if value not in named]
    one = f", or learns it as one, structures: {{{region}: [{listed}]}}" if others else ""
    return (
        f"labels: {region} is a region of the values {listed}; a study learns the values' structures, and "
        f"measures the region by metrics.composite_regions: {{{region}: [{', '.join([*inside, *others])}]}}{one}"
    )


def _compare_ignore(labels: Any, file: str, dataset: Dataset) -> list[Problem]:
    """Warn where nnU-Net's `ignore` of `dataset.json` has another meaning in the study."""
    value = labels.get("ignore") if isinstance(labels, dict) else None
    if not isinstance(value, int) or value in dataset.ignore:
        return []
    named = [
        name for name, structure_value in dataset.structures.items() if structure_value == value
    ]
    if value in dataset.background_labels:
        named = ["background (background_labels)"]
    instead = f", and not {named[0]}, as the study file calls it" if named else ""
    text = (
        f"labels: value {value} is ignore, voxels that nobody has labelled{instead}: set ignore: {value} "
        "in the study file's dataset"
    )
    return [Problem("", file, text, WARNING)]


def _images(folder: Path) -> list[Path]:
    """List the image files of a folder, but for hidden ones (macOS leaves `._*` in archives)."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if is_image(path) and not path.name.startswith(".")
    )


def _present(
    cases: list[Case], problems: list[Problem], root: Path
) -> tuple[list[Case], list[Problem]]:
    """Select the cases whose files all exist; add the problems of the others."""
    present = []
    for case in cases:
        missing = [path for path in case.files if not path.is_file()]
        problems = problems + [
            Problem(case.case, _name(path, root), why_unreadable(path)) for path in missing
        ]
        if not missing:
            present.append(case)
    return present, problems


def _elsewhere(root: Path, pattern: str) -> str:
    """Hint at the folder that was meant, where one above or below has the files."""
    near = (
        *root.resolve().parents[:2],
        *(path for path in sorted(root.glob("*")) if path.is_dir()),
    )
    likely = next((folder for folder in near if any(folder.glob(pattern))), None)
    return f"; did you mean {likely}?" if likely else ""


def _unpaired(path: Path, root: Path) -> Problem:
    what, other = ("image", "label") if path.parent.name == "imagesTr" else ("label", "image")
    return Problem(stem(path), _name(path, root), f"{what} without {other}")


def _name(path: Path, root: Path) -> str:
    """Name a file as problems give it: below the root, else as it is."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


_LAYOUTS = {
    "msd": _msd,
    "nnunet": _nnunet,
    "segthor": _segthor,
    "phantom": _segthor,
    "neurite_oasis": _neurite_oasis,
    "bids": _bids,
    "label_maps": _label_maps,
    "plugin": _plugin,
    "table": _table,
}
