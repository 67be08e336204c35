"""A proposal of a dataset's settings for a folder: known layouts first, then patterns guessed from the names."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from segstudy.download.bids_proposal import propose_bids
from segstudy.download.label_names import label_names
from segstudy.download.layouts import list_cases
from segstudy.download.name_groups import (
    Group,
    Key,
    aligned,
    by_each,
    groups_by_names,
    groups_of,
    image_paths,
    names_of,
    words_of_times,
)
from segstudy.download.proposal_parts import Proposal, modality_of, name_from, values_of
from segstudy.errors import InputError
from segstudy.file_patterns import Pattern
from segstudy.files import read_json
from segstudy.images import segments
from segstudy.images.files import read_image, read_label
from segstudy.images.names import is_picture
from segstudy.images.value_checks import REFUSED
from segstudy.study import Dataset

_LABELS = re.compile(
    r"(?i)(?<![a-z])(gt|seg|segm|segmentations?|lab|labels?|labelsTr|masks?|msk|dseg|manual|truth|annotations?|ground|roi|wmh|lesions?)(?![a-z])"
)
_RATER = re.compile(
    r"(?i)(?<![a-z])(raters?|readers?|observers?|annotators?|experts?|obs)(?![a-z])"
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
            count = "1 file does" if len(refused) == 1 else f"{len(refused)} files do"
            proposal.unsure.append(f"{count} not pair, such as {refused[0]}")
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
    def names(self) -> list[str]:
        """Return the names of segments that the first file holds; none of other files."""
        try:
            return [name for name, _ in segments.named_segments(self.files[0])]
        except InputError:
            return []

    @cached_property
    def values(self) -> set[int] | None:
        """Return the values of label files, 0 left out; None where they are no label maps."""
        found: set[int] = set()
        for file in self.files[:2]:
            try:
                array = read_label(file).array
            except InputError as error:
                self.why_no_label = str(error)
                return None
            own = np.unique(array)
            found |= set(own[own > 0].tolist())
            if len(own) > 200 and not self.is_named_label:
                return None
        return found

    why_no_label = ""
    """Why `values` are None, where a file cannot be read as a label map."""

    @cached_property
    def is_label(self) -> bool:
        """Tell whether the files are label maps, or masks."""
        if self.names:
            return True
        if self.files[0].is_dir():
            return self.is_named_label
        return self.values is not None and (len(self.values) < 60 or self.is_named_label)

    @property
    def is_named_label(self) -> bool:
        return bool(_LABELS.search(self.group.said))

    @property
    def folder(self) -> str:
        """Return what is written out of the folder."""
        return self.group.said.rpartition("/")[0]

    @property
    def is_of_pictures(self) -> bool:
        first = self.files[0]
        return any(map(is_picture, first.iterdir())) if first.is_dir() else is_picture(first)

    @cached_property
    def lowest(self) -> float:
        """Return the lowest value of the first image; nan where it is none of one channel."""
        try:
            return float(read_image(self.files[0]).array.min())
        except InputError:
            return float("nan")


def _patterns(root: Path) -> Proposal | None:
    """Guess the patterns of images and labels, or masks.

    Raises
    ------
    InputError
        Where the only files that are named as labels cannot be read as such.
    """
    paths = image_paths(root)
    groups = groups_of(paths)
    labels, images = _apart_by_content([_Content(root, group) for group in groups])
    words = words_of_times((one.group for one in images), (one.group for one in labels))
    joined = groups_of(paths, words)
    has_times = len(joined) < len(groups)
    if has_times:
        labels, images = _apart_by_content([_Content(root, group) for group in joined])
    labels, images = (
        _as_many_variables(root, labels, images),
        _as_many_variables(root, images, labels),
    )
    every = [*labels, *images]
    images, pairs, number = _paired(labels, images)
    by_names = groups_by_names(paths)
    if any(len(group.files) > number for group in by_names):
        named = _apart_by_content([_Content(root, group) for group in by_names])
        named_images, named_pairs, named_number = _paired(*named)
        if named_number > number:
            labels, images, pairs, number = named[0], named_images, named_pairs, named_number
            has_times = False
    if not number:
        _say_unreadable(root, [one for one in every if one.is_named_label])
        return None
    best = [pair for pair in pairs if len(pair.keys) == number]
    best.sort(
        key=lambda pair: (bool(_NOT_CHOSEN.search(pair.image.group.said)), _depth(pair.image))
    )
    image, order, keys = best[0].image, best[0].order, best[0].keys
    of_image = [pair for pair in pairs if pair.image is image and pair.keys]
    in_image = [tuple(key[order.index(place)] for place in range(len(order))) for key in keys]
    names = names_of(image.group, in_image)
    unsure: list[str] = []
    entry: dict[str, Any] = {"source": {"layout": "files"}}
    channels = _channels(image, images, in_image)
    _name_images(entry, image, channels, names, unsure)
    _name_labels(entry, of_image, number, names, unsure)
    used = {id(one) for one in (image, *channels.values())}
    rest = [one for one in images if id(one) not in used]
    paired = {id(pair.label) for pair in of_image}
    rest_labels = [one for one in labels if id(one) not in paired]
    patterns = [Pattern(text) for text in _patterns_in(entry["source"])]
    for role, left in (("image", rest), ("label", rest_labels)):
        unsure += [
            f"source.{role}: {one.group.first} is left out"
            for one in left
            if not any(pattern.match(one.group.first) for pattern in patterns)
        ]
    _name_modality(entry, image, unsure)
    if has_times and image.group.variables > 1:  # else the word is the whole name of the case
        unsure.append(
            f"source: {', '.join(sorted(words))} in the names are each taken for a case, as time points of a person are"
        )
    if "{subject}" in names:
        unsure.append(f"source: {{subject}} is the person in {image.group.first}")
    elif len(names) > 1:
        unsure.append("source: no part of the names is known to be the person; write {subject}")
    return Proposal(entry, unsure)


def _apart_by_content(contents: Sequence[_Content]) -> tuple[list[_Content], list[_Content]]:
    """Return the labels and the images among groups; where all might be labels, those that are not named so are images."""
    labels = [one for one in contents if one.is_label]
    images = [one for one in contents if not one.is_label]
    if labels and not images:
        labels = [one for one in contents if one.is_named_label]
        images = [one for one in contents if not one.is_named_label]
    return labels, images


def _paired(
    labels: Sequence[_Content], images: Sequence[_Content]
) -> tuple[list[_Content], list["_Pair"], int]:
    """Return the images, their pairs with labels, and the most cases that a pair has."""
    # A soft mask beside its image is no image, either.
    images = [one for one in images if not one.is_named_label] or list(images)
    pairs = [
        _Pair(one, other, *aligned(one.group, other.group)) for one in images for other in labels
    ]
    return images, pairs, max((len(pair.keys) for pair in pairs), default=0)


def _patterns_in(source: Any) -> list[str]:
    """Return the patterns of a source: those of images, labels and masks."""
    if isinstance(source, str):
        return [source]
    inner = source.values() if isinstance(source, Mapping) else source
    return [text for one in inner for text in _patterns_in(one)]


def _as_many_variables(
    root: Path, contents: Sequence[_Content], others: Sequence[_Content]
) -> list[_Content]:
    """Part groups that have one variable more than the others by it: the number of a channel, or of a rater."""
    counts = {one.group.variables for one in others}
    found = []
    for one in contents:
        keys = list(one.group.files)
        values = [len({key[place] for key in keys}) for place in range(one.group.variables)]
        if one.group.variables in counts or one.group.variables - 1 not in counts:
            found.append(one)
            continue
        # Of equal ones the last: what numbers the files of a case stands behind its name.
        least = min(reversed(range(len(values))), key=lambda place: values[place])
        found += [_Content(root, group) for group in by_each(one.group, least)]
    return found


class _Pair(NamedTuple):
    """A group of images and one of labels, which variables of the one are the other's, and the keys that both have."""

    image: _Content
    label: _Content
    order: tuple[int, ...]
    keys: set[Key]

    def pattern(self, names: Sequence[str]) -> str:
        return self.label.group.pattern([names[place] for place in self.order])


def _say_unreadable(root: Path, named: Sequence[_Content]) -> None:
    """Raise InputError where files that are named as labels hold something else."""
    why = [one.why_no_label for one in named if one.values is None and one.why_no_label]
    if why:
        raise InputError(
            f"{root}: no labels found; named as one, but not readable as such: {why[0]}. Make label maps of whole "
            "numbers of them"
        )


def _name_images(
    entry: dict[str, Any],
    image: _Content,
    channels: Mapping[str, _Content],
    names: Sequence[str],
    unsure: list[str],
) -> None:
    """Write the patterns of the images, and say which channels some cases lack."""
    if len(channels) < 2:
        entry["source"]["image"] = image.group.pattern(names)
        return
    patterns = entry["source"]["images"] = {}
    numbered = [name for name in channels if name.startswith("part_")]
    if numbered:
        unsure.append(
            f"source.images: a number tells {', '.join(numbered)} apart: taken for channels of a case, as time points are not"
        )
    for name, one in channels.items():
        order, shared = aligned(image.group, one.group)
        patterns[name] = one.group.pattern([names[place] for place in order])
        lacking = len(image.files) - len(shared)
        if lacking:
            unsure.append(
                f"source.images.{name}: {lacking} of {len(image.files)} cases lack it, and are refused as they are"
            )


def _name_labels(
    entry: dict[str, Any],
    pairs: Sequence[_Pair],
    number: int,
    names: Sequence[str],
    unsure: list[str],
) -> None:
    """Write the pattern of the labels, or of the masks of each structure; say what else may be one.

    Parameters
    ----------
    entry
        The dataset's settings.
    pairs
        The labels that go with the image.
    number
        Of cases; a mask may be there in fewer.
    names
        Of the variables of the image.
    unsure
        What is unsure, for more.
    """
    source = entry["source"]
    whole = [pair for pair in pairs if len(pair.keys) == number]
    folders = {pair.label.folder for pair in whole}
    near = [pair for pair in pairs if pair in whole or pair.label.folder in folders]
    raters = [pair for pair in near if _RATER.search(pair.label.group.said)]
    near = near if _are_masks([pair.label for pair in near]) else whole
    if len(near) > 1 and len(raters) < 2 and _are_masks([pair.label for pair in near]):
        words = _apart([pair.label.group for pair in near])
        source["masks"] = {
            name: pair.pattern(names) for name, pair in zip(words, near, strict=True)
        }
        entry["structures"] = {name: value for value, name in enumerate(words, start=1)}
        unsure.append("source.masks: the first named has the voxels where masks overlap")
        for name, pair in zip(words, near, strict=True):
            if len(pair.keys) < number:
                source["missing_masks"] = "empty"
                unsure.append(
                    f"source.missing_masks: {number - len(pair.keys)} of {number} cases have no mask of {name}: taken as not in "
                    "the image; where it was not looked for, write refuse"
                )
        return
    chosen = max(whole, key=lambda pair: (len(pair.label.values or ()), -_depth(pair.label)))
    source["label"] = chosen.pattern(names)
    entry["structures"], said = values_of(chosen.label.files)
    unsure += said
    for pair in pairs:
        if pair is not chosen:
            some = f", of {len(pair.keys)} of {number} cases," if len(pair.keys) < number else ""
            rater = " of another rater: one is taken" if pair in raters else " too"
            unsure.append(f"source.label: {pair.label.group.first}{some} may be labels{rater}")


def _name_modality(entry: dict[str, Any], image: _Content, unsure: list[str]) -> None:
    """Write the modality, and the size of the voxels of pictures."""
    said = modality_of(image.group.said)
    if image.is_of_pictures:
        entry["modality"] = said or "other"
        entry["spacing_mm"] = [1, 1, 1]
        unsure.append(
            "spacing_mm: pictures do not tell how large a pixel is; write [column, row, slice] in mm"
        )
    else:
        entry["modality"] = said or ("CT" if image.lowest < -500 else "MR")
    if said is None:
        by = (
            ", as no name says one"
            if image.is_of_pictures
            else f" by the values of {image.group.first}"
        )
        unsure.append(f"modality: {entry['modality']}{by}")


def _depth(content: _Content) -> int:
    return content.group.first.count("/")


def _channels(image: _Content, images: list[_Content], keys: Sequence) -> dict[str, _Content]:
    """Find the images of one folder that are there for most of the same cases, by what tells them apart."""
    folder = image.folder
    if np.isnan(image.lowest):
        return {"image": image}
    beside = [
        one
        for one in images
        if one.folder == folder
        and len(aligned(image.group, one.group)[1]) > len(set(keys)) / 2
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
    names = [name_from(one) or str(number) for number, one in enumerate(names, start=1)]
    return [f"part_{name}" if name[0].isdigit() else name for name in names]
