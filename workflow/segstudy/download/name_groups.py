"""Groups of files whose names differ in numbers alone, and the patterns that they have in common."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.formats.dicom_files import CONTOURS, SEGMENTATION, object_class
from segstudy.images.names import composed, ending, is_image, is_picture
from segstudy.images.unreadable import is_dicom, is_series

_KEPT = r"(?i:(?<![a-z0-9])t[12][a-z]{0,4}(?![a-z0-9])|(?<![a-z0-9])[1-4]d(?![a-z0-9]))"
_SLOT = r"\d+|(?<=images)(?:Tr|Va|Ts)|(?<=labels)(?:Tr|Va|Ts)"
_PARTS = re.compile(f"({_KEPT})|({_SLOT})")
_PERSON = re.compile(
    r"(?i)(?:^|[^a-z])(?:sub|subject|pat|patient|pt|participant|person)[-_]?[a-z]*$"
)
_SEQUENCE = re.compile(r"(?i)flair|adc|dwi|pd|swi|cbf|ct|mri?|gd|nii|gz|mha|nrrd|dcm")
"""Words that tell of a sequence or a file, never of a time."""
_WHOLE_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]+\d*(?![A-Za-z0-9])")
_WORD = re.compile(r"([A-Za-z]+)[-_ ]?$")

_SIDES = re.compile(r"(?i)(?<![a-z])(train|training|tr|test|testing|ts|val|va|validation)(?![a-z])")

Key = tuple[str, ...]
"""What the slots of a group stand for in a case."""


@dataclass(frozen=True)
class Group:
    """Hold files whose paths are alike but for what stands in their slots.

    Parameters
    ----------
    texts
        What is written out before, between and behind the slots.
    slots
        For each slot, the variable that stands in it: slots that always hold the same are one.
    files
        Value of each variable -> path below the root.
    """

    texts: tuple[str, ...]
    slots: tuple[int, ...]
    files: Mapping[Key, str]

    @property
    def first(self) -> str:
        """Return the first of the paths."""
        return min(self.files.values())

    @property
    def variables(self) -> int:
        """Return how many variables its names have."""
        return len(next(iter(self.files)))

    @property
    def said(self) -> str:
        """Return what is written out, in small letters."""
        return "#".join(self.texts).lower()

    def pattern(self, names: Sequence[str]) -> str:
        """Return the pattern of the paths.

        names: for each variable, a name in braces, or text that is written out.
        """
        parts = [self.texts[0]]
        for variable, text in zip(self.slots, self.texts[1:], strict=True):
            parts += [names[variable], text]
        return "".join(parts)


def image_paths(root: Path) -> list[str]:
    """Return what stands for an image below a folder, sorted; hidden files do not count.

    That is each volume, each folder of a DICOM series, each other DICOM object, and each folder of pictures that is a
    stack. Where nothing else is there and one folder alone has the pictures of a role, each picture is an image.
    """
    volumes, stacks = [], []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name[0] != "."]
        seen = sorted(name for name in names if name[0] != ".")
        relative, here = Path(folder).relative_to(root), Path(folder)
        dicom = [name for name in seen if name.lower().endswith((".dcm", ".ima"))]
        images = [name for name in seen if is_image(name) and name not in dicom]
        if not images and not dicom and is_series(here):
            dicom = [name for name in seen if is_dicom(here / name)]
        pictures = [name for name in seen if is_picture(name)]
        volumes += [(relative / name).as_posix() for name in images]
        if len(dicom) > 1 and not all(_is_label_object(here / dicom[end]) for end in (0, -1)):
            volumes.append(relative.as_posix())
        elif dicom:
            volumes += [(relative / name).as_posix() for name in dicom]
        elif pictures and not images:
            stacks.append(relative.as_posix())
    return sorted([*volumes, *_pictured(root, stacks, beside=bool(volumes))])


def _is_label_object(file: Path) -> bool:
    """Tell whether a file is a DICOM-SEG or an RTSTRUCT; of one that cannot be read, whoever reads it says why."""
    with suppress(InputError):
        return object_class(file) in (*SEGMENTATION, CONTOURS)
    return False


def _pictured(root: Path, folders: Sequence[str], beside: bool) -> list[str]:
    """Return folders of pictures that are stacks, and the pictures in others, which are a case of one slice each.

    beside: whether volumes are there, too; single pictures are previews of them then.
    """
    groups = groups_of(folders)
    alone = {group.first for group in groups if len(group.files) == 1}
    found = []
    for folder in folders:
        inside = [
            (Path(folder) / one.name).as_posix()
            for one in (root / folder).iterdir()
            if is_picture(one) and one.name[0] != "."
        ]
        if not beside and (folder in alone or _SIDES.search(folder)):
            found += inside
        elif len(inside) > 1:
            found.append(folder)
    return found


def groups_of(paths: Iterable[str], words: Iterable[str] = ()) -> list[Group]:
    """Group paths that differ in numbers alone, in the folder of a person or site, and in words that are given."""
    paths, varying = list(paths), _varying(words)
    top, folders = _folders_alike(paths)
    alike: dict[tuple[str, ...], list[tuple[str, list[str]]]] = {}
    for path in paths:
        folder, _, inside = path.removeprefix(top).partition("/")
        if folder in folders:
            (start, *texts), values = _parted(inside, varying)
            parted = (top, f"/{start}", *texts), [folder, *values]
        else:
            parted = _parted(path, varying)
        alike.setdefault(parted[0], []).append((path, parted[1]))
    return [_group(texts, own) for texts, own in sorted(alike.items())]


_BREAK = re.compile(r"[-_. ]+")
LEAST_SHARE = 8
"""A folder, or an affix of the names in it, counts that has one in so many of the files."""


def groups_by_names(paths: Sequence[str]) -> list[Group]:
    """Group paths by a whole name, as that of a person is, and what stands before or behind it: `Anna Maier`, `Anna Maier_seg`.

    The names are those that most files of two kinds have in common. A kind is a folder, an ending, and what all its names
    begin or end with. An accent counts as the same letter, composed or not.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(os.path.dirname(path), []).append(path)
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    for folder, own in folders.items():
        if len(own) * LEAST_SHARE >= len(paths):
            kinds |= _kinds(f"{folder}/" if folder else "", own)
    pairs = itertools.combinations(kinds, 2)
    shared = [kinds[one].keys() & kinds[other].keys() for one, other in pairs]
    names = max(shared, key=lambda own: (len(own), sum(map(len, own))), default=set())
    found: list[Group] = []
    used: set[str] = set()
    for texts, own in sorted(
        kinds.items(), key=lambda kind: (-len(kind[1].keys() & names), kind[0])
    ):
        files = {(name,): path for name, path in own.items() if name in names and path not in used}
        used |= set(files.values())
        if 2 * len(files) > len(names):
            found.append(Group(texts, (0,), files))
    return found


def _kinds(top: str, paths: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    """Return what stands before and behind the names of a folder's files -> name -> path; the same file may be of several kinds."""
    least = max(2, len(paths) / LEAST_SHARE)
    parted = [_without_ending(path.removeprefix(top)) for path in paths]
    begins = Counter(name[: cut.end()] for name, _ in parted for cut in _BREAK.finditer(name))
    ends = Counter(name[cut.start() :] for name, _ in parted for cut in _BREAK.finditer(name))
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    for path, (name, end) in zip(paths, parted, strict=True):
        cuts = [("", "")]
        cuts += [(name[: cut.end()], "") for cut in _BREAK.finditer(name)]
        cuts += [("", name[cut.start() :]) for cut in _BREAK.finditer(name)]
        for before, behind in cuts:
            inner = name[len(before) : len(name) - len(behind)]
            often = (not before or begins[before] >= least) and (
                not behind or ends[behind] >= least
            )
            if inner and often:
                kinds.setdefault((top + before, behind + end), {})[composed(inner)] = path
    return kinds


def _without_ending(name: str) -> tuple[str, str]:
    """Return a name without the ending of an image or picture, and that ending as it is written."""
    end = ending(name) or (os.path.splitext(name)[1] if is_picture(name) else "")
    return name[: len(name) - len(end)], name[len(name) - len(end) :]


def _varying(words: Iterable[str]) -> re.Pattern:
    """Return the expression of what may vary between the files of a group, and of what is kept."""
    alone = "".join(rf"|(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])" for word in sorted(words))
    return re.compile(f"({_KEPT})|({_SLOT}{alone})") if alone else _PARTS


def words_of_times(images: Iterable[Group], labels: Iterable[Group]) -> set[str]:
    """Find words that tell apart images and, in the same way, their labels: `base` and `fu`, as time points have.

    A word that only images differ in tells channels apart, one that only labels differ in structures.
    """
    of_images, of_labels = (_by_word(groups) for groups in (images, labels))
    return {word for words in of_images & of_labels for word in words}


def _by_word(groups: Iterable[Group]) -> set[frozenset[str]]:
    """Return the sets of words in which paths differ that are alike otherwise, but for numbers: `base`, `fu1`, `fu2`."""
    alike: dict[str, set[str]] = {}
    for path in (path for group in groups for path in group.files.values()):
        for word in set(_WHOLE_WORD.findall(path)):
            if not _SEQUENCE.fullmatch(word) and not re.fullmatch(_KEPT, word):
                around = _WHOLE_WORD.sub(
                    lambda found, word=word: "\n" if found[0] == word else found[0], path
                )
                alike.setdefault(re.sub(r"\d+", "#", around), set()).add(word)
    # Words that numbers alone tell apart need no list.
    return {
        frozenset(words)
        for words in alike.values()
        if len({word.rstrip("0123456789") for word in words}) > 1
    }


def _parted(path: str, varying: re.Pattern = _PARTS) -> tuple[tuple[str, ...], list[str]]:
    """Part a path into what is written out and what stands in its slots."""
    texts, values, at = [""], [], 0
    for match in varying.finditer(path):
        texts[-1] += path[at : match.start()]
        at = match.end()
        if match[1]:
            texts[-1] += match[1]
        else:
            values.append(match[2])
            texts.append("")
    texts[-1] += path[at:]
    return tuple(texts), values


def _folders_alike(paths: list[str]) -> tuple[str, set[str]]:
    """Find folders without numbers, most of them, that hold the same kinds of files each, several kinds: `anna`, `bert`, or `Utrecht`.

    Returns
    -------
    top : str
        What all paths begin with, up to these folders.
    folders : set of str
        Their names.
    """
    top = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    top = f"{top}/" if top else ""
    inside: dict[str, set[tuple[str, ...]]] = {}
    for path in paths:
        folder, slash, rest = path.removeprefix(top).partition("/")
        if slash:
            inside.setdefault(folder, set()).add(_parted(rest)[0])
    kinds = [own for name, own in inside.items() if not _PARTS.search(name)]
    alike = {name for name, own in inside.items() if len(own) > 1 and kinds.count(own) > 1}
    # `Anna Maier (2)` is a name among names; `p1`, `p2` and a `mean` are numbers.
    plain = {name for name in alike if not _PARTS.search(name)}
    return top, alike if 2 * len(plain) > len(alike) else plain


def by_each(group: Group, variable: int) -> list[Group]:
    """Return a group for each value of a variable, which is written out there."""
    parted: dict[str, list[tuple[str, list[str]]]] = {}
    for key, path in group.files.items():
        values = [key[number] for number in group.slots]
        parted.setdefault(key[variable], []).append((path, values))
    return [_group(group.texts, own) for _, own in sorted(parted.items())]


def _group(texts: tuple[str, ...], own: list[tuple[str, list[str]]]) -> Group:
    """Make slots that always hold the same one variable, and write out those that hold one text."""
    columns = list(zip(*(values for _, values in own), strict=True))
    kept, written, slots = {}, [texts[0]], []
    for column, text in zip(columns, texts[1:], strict=True):
        if len(set(column)) == 1:
            written[-1] += column[0] + text
            continue
        slots.append(kept.setdefault(column, len(kept)))
        written.append(text)
    keys = list(zip(*kept, strict=True)) if kept else [() for _ in own]
    return Group(tuple(written), tuple(slots), dict(zip(keys, (p for p, _ in own), strict=True)))


def aligned(group: Group, other: Group) -> tuple[tuple[int, ...], set[Key]]:
    """Find which variables of a group are those of another one, by what they stand for.

    Returns
    -------
    order : tuple of int
        For each variable of `other`, the one of `group`.
    shared : set
        The keys of `other` that both have; none where they have other numbers of variables.
    """
    count = len(next(iter(other.files)))
    if len(next(iter(group.files))) != count:
        return (), set()

    def shared(order: Sequence[int]) -> set[Key]:
        return {tuple(key[place] for place in order) for key in group.files} & other.files.keys()

    best = max(itertools.permutations(range(count)), key=lambda order: len(shared(order)))
    return best, shared(best)


def names_of(group: Group, keys: Iterable[Key]) -> list[str]:
    """Name the variables of a group, in braces; what is the same in all keys is written out.

    The subject is what stands behind `sub-` or `patient`, or what several cases share, few of many each, where
    no other variable tells the cases apart.
    """
    keys = list(keys)
    columns = list(zip(*keys, strict=True))
    alone = [len(set(column)) == len(keys) for column in columns]
    names: list[str] = []
    for variable, column in enumerate(columns):
        number = len(set(column))
        if number == 1:
            names.append(column[0])
            continue
        before = group.texts[group.slots.index(variable)].rpartition("/")[2]
        word = _WORD.search(before)
        shared = number < len(keys) <= number**2 and not any(alone)
        if "{subject}" not in names and (_PERSON.search(before) or shared):
            name = "{subject}"
        elif alone[variable] and "{case}" not in names:
            name = "{case}"
        else:
            name = f"{{{word[1].lower()}}}" if word else "{time}" if variable else "{group}"
        names.append(name if name not in names else f"{{part{variable}}}")
    return names
