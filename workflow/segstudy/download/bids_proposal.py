"""A proposal of settings for a BIDS dataset: labels by what their names say, images on the labels' grid."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from segstudy import bids
from segstudy.bids import NONE, BidsFile
from segstudy.download.proposal_parts import Proposal, name_from, values_of
from segstudy.errors import InputError
from segstudy.images.files import compare_grids, read_grid

_LABELS = ("dseg", "mask", "msk", "seg")
_IMAGES = ("T1w", "T2w", "FLAIR", "T2starw", "PDw", "dwi", "adc", "cbf", "ct", "CT")
_WANTED = ("aseg", "manual", "seg", "lesion", "tumor")
"""Words of labels that people mean, the likeliest first."""

Kind = tuple[str, str, str, str]
"""Pipeline, suffix, `desc` and `label` of files of labels."""


def propose_bids(root: Path) -> Proposal | None:
    """Propose the settings of a BIDS dataset; None for a folder without `sub-*` that hold labels."""
    kinds = _labels(root)
    if not kinds:
        return None
    chosen, *others = sorted(kinds, key=lambda kind: _rank(kind, len(kinds[kind])))
    pipeline, suffix, desc, label = chosen
    files = kinds[chosen]
    entry: dict[str, Any] = {"source": {"layout": "bids"}}
    source, unsure = entry["source"], []
    if pipeline and {kind[0] for kind in others} - {pipeline}:
        source["pipeline"] = pipeline
    if not _images(root, pipeline, files[0], entry, unsure):
        return None
    if set(bids.differences(files)) & set(bids.REPEATS):
        source["several"] = "first"
        unsure.append("source.several: the first of several scans of a session is taken")
    wanted = {entity: own for entity, own in (("desc", desc), ("label", label)) if own != NONE}
    values, said = values_of([file.path for file in files])
    table = bids.nearest_table(files[0].path, root)
    if suffix != "dseg" and len(values) == 1:
        name = name_from(label if label != NONE else desc if desc != NONE else "lesion")
        own = {"suffix": suffix, **wanted} if suffix != "mask" else wanted
        source["masks"], entry["structures"] = {name: own}, {name: 1}
        if not wanted:
            unsure.append(f"structures: {name} is a guess; no name of a file says it")
    else:
        own = {"suffix": suffix, **wanted} if suffix != "dseg" else wanted
        if own or any(other[1] == suffix for other in others):
            source["label"] = own or {"desc": NONE}
        entry["structures"] = values
        if table is None:
            unsure += said
        else:
            _name_values(entry, bids.read_table(table))
    unsure += [
        f"source.label: {'_'.join(part for part in other if part not in ('', NONE))} is there too"
        for other in others
    ]
    return Proposal(entry, unsure)


def _labels(root: Path) -> dict[Kind, list[BidsFile]]:
    """Find the kinds of labels on the scans' own grid; masks of the brain are none."""
    derivatives = root / "derivatives"
    places = sorted(one for one in derivatives.glob("*") if one.name[0] != "." and one.is_dir())
    found: dict[Kind, list[BidsFile]] = defaultdict(list)
    for place in (*places, derivatives, root):
        if not any(place.glob("sub-*")):
            continue
        pipeline = place.name if place.parent == derivatives else ""
        for _, file in bids.files_below(place):
            suffix, desc = file.get("suffix"), file.get("desc")
            brain = suffix == "mask" and desc == "brain"
            if suffix in _LABELS and file.get("space") == NONE and not brain:
                found[pipeline, suffix, desc, file.get("label")].append(file)
    return found


def _rank(kind: Kind, number: int) -> tuple:
    said = next((place for place, word in enumerate(_WANTED) if word in kind[2:]), len(_WANTED))
    return said, kind[1] != "dseg", -number, kind


def _images(
    root: Path, pipeline: str, label: BidsFile, entry: dict[str, Any], unsure: list[str]
) -> bool:
    """Choose the images: those of the pipeline before raw ones, all of one folder on the label's grid."""
    source = entry["source"]
    places = [root / "derivatives" / pipeline] if pipeline else []
    for place in (*places, bids.raw_root(root), root):
        if not place.is_dir():
            continue
        own = [file for key, file in bids.files_below(place) if key[0] in label.path.parts]
        own = [file for file in own if file.get("suffix") in _IMAGES and file.get("space") == NONE]
        if not own:
            continue
        folders: dict[str, dict[str, BidsFile]] = defaultdict(dict)
        for file in own:
            if _on_grid(file.path, label.path):
                folders[file.get("datatype")].setdefault(file.get("suffix"), file)
        if not folders:
            continue
        folder = max(folders, key=lambda name: (len(folders[name]), name == "anat"))
        chosen = folders[folder]
        desc = next(iter(chosen.values())).get("desc")
        if desc != NONE:
            source["image"] = {"desc": desc}
        if len(chosen) > 1:
            source["images"] = {name_from(suffix): {"suffix": suffix} for suffix in chosen}
        elif "T1w" not in chosen:
            source["suffixes"] = list(chosen)
        entry["modality"] = "CT" if chosen.keys() & {"ct", "CT"} else "MR"
        left = sorted({file.get("suffix") for file in own} - chosen.keys())
        unsure += [f"source: images are {', '.join(chosen)}; {one} is there too" for one in left]
        return True
    return False


def _on_grid(image: Path, label: Path) -> bool:
    try:
        return not compare_grids(read_grid(image), read_grid(label))
    except InputError:
        return False


def _name_values(entry: dict[str, Any], names: dict[int, str]) -> None:
    """Name the values that the labels hold by the dataset's table; those that it lacks are background."""
    held = set(entry["structures"].values())
    entry["structures"] = {name_from(names[v]): v for v in sorted(held) if v in names}
    rest = sorted(held - names.keys())
    if rest:
        entry["background_labels"] = rest
