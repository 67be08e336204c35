"""A proposal of a dataset's settings for a folder: known layouts first, then patterns guessed from the names."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from segstudy.download.bids_proposal import propose_bids
from segstudy.download.label_names import label_names
from segstudy.download.layouts import list_cases
from segstudy.download.name_groups import Group, aligned, groups_of, image_paths, names_of
from segstudy.download.proposal_parts import Proposal, modality_of, name_from, values_of
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.files import read_image, read_label
from segstudy.images.value_checks import REFUSED
from segstudy.study import Dataset

_LABELS = re.compile(
    r"(?i)(?<![a-z])(gt|seg|segm|segmentations?|labels?|labelsTr|masks?|msk|dseg|manual|truth|annotations?|ground|roi|wmh|lesions?)(?![a-z])"
)
_NOT_CHOSEN = re.compile(r"(?i)(?<![a-z])(orig|raw|native|backup|old|derivatives)(?![a-z])")


def propose(root: Path) -> Proposal:
    """Propose the settings of a dataset by what is in its folder.

    Raises
    ------
    InputError
        Where no images and labels that belong together are found.
    """
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; expected one with images and labels")
    unread = None
    for known in (_described, _fixed_names, propose_bids, _patterns):
        proposal = known(root)
        if proposal is None:
            continue
        source = proposal.entry["source"]
        proposal.entry["source"] = {"layout": source["layout"], "path": str(root), **source}
        try:
            listing = list_cases(Dataset.model_validate(proposal.entry))
        except (InputError, ValidationError):
            continue  # another layout may fit
        proposal.cases = len(listing.cases)
        proposal.subjects = len({case.subject for case in listing.cases})
        refused = [one for one in listing.problems if one.verdict == REFUSED]
        if refused:
            proposal.unsure.append(f"{len(refused)} files do not pair, such as {refused[0]}")
        if proposal.cases:
            return proposal
        unread = unread or proposal
    if unread is not None and unread.entry["source"]["layout"] == "files":
        return unread
    raise InputError(
        f"{root}: no images found whose names go with those of labels or masks; write the patterns "
        "(source: layout files), or a case table (layout: table)"
    )


# --- known layouts ------------------------------------------------------------------------------


def _described(root: Path) -> Proposal | None:
    """Read the `dataset.json` of the Decathlon or of nnU-Net."""
    try:
        content = read_json(root / "dataset.json")
    except InputError:
        return None
    if not isinstance(content, dict):
        return None
    names = {value: name for value, name in label_names(content.get("labels")).items() if value}
    channels = content.get("channel_names", content.get("modality"))
    channels = channels if isinstance(channels, dict) else {}
    source: dict[str, Any] = {"layout": "nnunet"}
    if isinstance(content.get("training"), list):
        source = {"layout": "msd"}
        more = [
            part
            for part in ("validation", "test")
            if isinstance(entries := content.get(part), list)
            and any(isinstance(one, dict) and one.get("label") for one in entries)
        ]
        if more:
            source["entries"] = ["training", *more]
    ignore = next((value for value, name in names.items() if name == "ignore"), None)
    entry = {"source": source, "modality": modality_of(" ".join(map(str, channels.values())))}
    entry["structures"] = {name_from(names[v]): v for v in sorted(names) if v != ignore}
    if len(channels) > 1:
        entry["channels"] = [name_from(str(one)) for one in channels.values()]
    if ignore:
        entry["ignore"] = ignore
    unsure = []
    if entry["modality"] is None:
        entry["modality"] = "MR"
        unsure.append("modality: dataset.json does not say CT or MR")
    if more_parts := source.get("entries"):
        unsure.append(f"source.entries: {', '.join(more_parts)} are read as cases alike")
    return Proposal(entry, unsure)


def _fixed_names(root: Path) -> Proposal | None:
    """Tell SegTHOR and neurite-OASIS by the names of their files."""
    segthor = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
    if any(root.glob("train/*/GT.nii.gz")):
        entry = {"source": {"layout": "segthor"}, "modality": "CT", "structures": segthor}
        return Proposal(entry, ["structures: SegTHOR's own four are taken"])
    if any(root.glob("OASIS_OAS1_*/aligned_seg35.nii.gz")):
        names = {"label_table": "neurite_seg35", "structures": ["hippocampus", "thalamus"]}
        entry = {"source": {"layout": "neurite_oasis"}, "modality": "MR", **names}
        return Proposal(entry, ["structures: write those that you want of neurite_seg35"])
    return None


# --- patterns -----------------------------------------------------------------------------------


class _Content:
    """What the first files of a group hold."""

    def __init__(self, root: Path, group: Group):
        self.files = [root / path for path in sorted(group.files.values())]
        self.group = group

    @cached_property
    def values(self) -> set[int] | None:
        """Return the values of label files, 0 left out; None where they are no label maps."""
        found: set[int] = set()
        for file in self.files[:2]:
            try:
                array = read_label(file).array
            except InputError:
                return None
            own = np.unique(array)
            found |= set(own[own > 0].tolist())
            if len(own) > 200:
                return None
        return found

    @cached_property
    def is_label(self) -> bool:
        """Tell whether the files are label maps, or masks."""
        if self.files[0].is_dir():
            return bool(_LABELS.search(self.group.said))
        return self.values is not None and (len(self.values) < 60 or self.is_named_label)

    @property
    def is_named_label(self) -> bool:
        return bool(_LABELS.search(self.group.said))

    @cached_property
    def lowest(self) -> float:
        """Return the lowest value of the first image; nan where it is none of one channel."""
        try:
            return float(read_image(self.files[0]).array.min())
        except InputError:
            return float("nan")


def _patterns(root: Path) -> Proposal | None:
    """Guess the patterns of images and labels, or masks."""
    contents = [_Content(root, group) for group in groups_of(image_paths(root))]
    labels = [one for one in contents if one.is_label]
    images = [one for one in contents if not one.is_label]
    pairs = [
        (len(keys), one, other, order, keys)
        for one in images
        for other in labels
        for order, keys in [aligned(one.group, other.group)]
        if keys
    ]
    if not pairs:
        return None
    number = max(pair[0] for pair in pairs)
    best = [pair for pair in pairs if pair[0] == number]
    best.sort(key=lambda pair: (bool(_NOT_CHOSEN.search(pair[1].group.said)), _depth(pair[1])))
    _, image, label, order, keys = best[0]
    goes = {id(other): order for _, one, other, order, _ in best if one is image}
    labels = [one for one in labels if id(one) in goes]
    in_image = [tuple(key[order.index(place)] for place in range(len(order))) for key in keys]
    names = names_of(image.group, in_image)
    channels = _channels(image, images, in_image)
    unsure: list[str] = []

    def pattern(content: _Content, places: Sequence[int]) -> str:
        return content.group.pattern([names[place] for place in places])

    same = tuple(range(len(names)))
    source: dict[str, Any] = {"layout": "files"}
    if len(channels) > 1:
        patterns = {}
        for name, one in channels.items():
            places, _ = aligned(image.group, one.group)
            patterns[name] = pattern(one, places)
        source["images"] = patterns
    else:
        source["image"] = pattern(image, same)
    entry = {"source": source}
    if len(labels) > 1 and _are_masks(labels):
        words = _apart([one.group for one in labels])
        source["masks"] = {
            name: pattern(one, goes[id(one)]) for name, one in zip(words, labels, strict=True)
        }
        entry["structures"] = {name: value for value, name in enumerate(words, start=1)}
        unsure.append("source.masks: the first named has the voxels where masks overlap")
    else:
        label = max(labels, key=lambda one: (len(one.values or ()), -_depth(one)))
        source["label"] = pattern(label, goes[id(label)])
        entry["structures"], said = values_of(label.files)
        unsure += said
        labels.remove(label)
        unsure += [f"source.label: {one.group.first} may be labels too" for one in labels]
    used = {id(one) for one in (image, label, *channels.values())}
    rest = [one for one in images if id(one) not in used]
    unsure += [f"source.image: {one.group.first} is left out" for one in rest]
    said = modality_of(image.group.said)
    entry["modality"] = said or ("CT" if image.lowest < -500 else "MR")
    if said is None:
        unsure.append(f"modality: {entry['modality']} by the values of {image.group.first}")
    if "{subject}" in names:
        unsure.append(f"source: {{subject}} is the person in {image.group.first}")
    elif len(names) > 1:
        unsure.append("source: no part of the names is known to be the person; write {subject}")
    return Proposal(entry, unsure)


def _depth(content: _Content) -> int:
    return content.group.first.count("/")


def _channels(image: _Content, images: list[_Content], keys: Sequence) -> dict[str, _Content]:
    """Find the images of one folder that are there for the same cases, by what tells them apart."""
    folder = image.group.said.rpartition("/")[0]
    if np.isnan(image.lowest):
        return {"image": image}
    beside = [
        one
        for one in images
        if one.group.said.rpartition("/")[0] == folder
        and len(aligned(image.group, one.group)[1]) >= len(set(keys))
        and not np.isnan(one.lowest)
    ]
    return dict(zip(_apart([one.group for one in beside]), beside, strict=True))


def _are_masks(labels: list[_Content]) -> bool:
    """Tell whether label files are masks of a structure each, and no other versions of one label map."""
    words = "#".join(one.group.said for one in labels)
    binary = sum(len(one.values or ()) <= 1 for one in labels)
    return binary == len(labels) or "mask" in words or "segmentations/" in words


def _apart(groups: Sequence[Group]) -> list[str]:
    """Name groups by what tells their names apart."""
    parts = [re.findall(r"[A-Za-z0-9]+", group.said.split(".")[0]) for group in groups]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    found = [
        "_".join(w for w in own if w not in shared and not _LABELS.fullmatch(w)) for own in parts
    ]
    short = [one.rsplit("_", 1)[-1] if one.rsplit("_", 1)[-1].isalpha() else one for one in found]
    names = found if len(set(short)) < len(short) or max(map(len, found)) < 24 else short
    return [name_from(one) or f"part_{number}" for number, one in enumerate(names, start=1)]
