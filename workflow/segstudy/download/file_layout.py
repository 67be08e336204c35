"""Cases of files as they lie on disk, by a pattern of their paths for each role (`layout: files`)."""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from segstudy.cases import Case
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.file_patterns import FOLD, SPLIT, SUBJECTS, Folder, Pattern, nearest
from segstudy.images.data_files import voxel_files
from segstudy.images.names import is_image, safe_name, stem
from segstudy.images.unreadable import why_unreadable
from segstudy.images.value_checks import WARNING
from segstudy.study import Dataset

_SPLITS = {"train": "train", "training": "train", "tr": "train"}
_SPLITS |= {"test": "test", "testing": "test", "ts": "test"}

MOST_HINTS = 50
"""Cases without a file up to which names that are nearly the same are looked for, and folders that are looked into."""


@dataclass(frozen=True)
class Masks:
    """Hold the masks that a case's label map is to be made of.

    Parameters
    ----------
    structures
        Structure -> files of its masks, in order of precedence; none where it has no file.
    image
        An image of the case, on whose grid the masks lie.
    thresholds
        File of probabilities -> the one above which a voxel is the structure's; other files are masks.
    """

    structures: Mapping[str, tuple[Path, ...]]
    image: Path
    thresholds: Mapping[Path, float] = field(default_factory=dict)


class PatternedFiles:
    """The files of a folder that the patterns of `source` match.

    Parameters
    ----------
    root
        The folder.
    dataset
        The dataset's settings.

    Attributes
    ----------
    patterns
        Role, such as `image` or `masks.liver[2]`, -> its pattern.
    matches
        Role -> paths below the root, and what the names of the pattern stand for in each. A path is
        of one role only: of the one whose pattern has most written out, first of all of the file's name, and
        of a label before an image.
    """

    def __init__(self, root: Path, dataset: Dataset):
        if not root.is_dir():
            raise InputError(f"{root}: not a folder; expected one with the files of the patterns")
        self.root, self.dataset = root, dataset
        self.patterns = {role: Pattern(text) for role, text in dataset.source.roles.items()}
        self._folder = Folder(root)
        self.matches = _of_one_role(
            {role: self._folder.found(pattern) for role, pattern in self.patterns.items()},
            self.patterns,
        )
        self._mask_roles = {
            structure: [role for role in self.patterns if _one_of(role) == f"masks.{structure}"]
            for structure in dataset.source.masks
        }
        self._used = {path for paths in self.matches.values() for path in paths}
        self._paired: set[str] = set()
        self._looks_near = True
        first = next(iter(self.patterns.values()))
        self.names = tuple(name for name in first.names if name not in (SPLIT, FOLD))
        self.person = next((name for name in SUBJECTS if name in self.names), None)

    def cases(self, derived: Path) -> tuple[list[Case], list[Problem], dict[Path, Masks]]:
        """Pair the files.

        Parameters
        ----------
        derived
            Where label maps belong that are to be made of masks.

        Returns
        -------
        cases : list of Case
            Those that are complete.
        problems : list of Problem
            Files that could not be paired, and why.
        masks : dict
            Label map that is yet to be written -> its masks.

        Raises
        ------
        InputError
            Where a pattern matches nothing, and where `{split}` or `{fold}` stands for no split or fold.
        """
        cases, problems, masks = [], self._without_files(), {}
        by_key: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(dict)
        for role, paths in self.matches.items():
            for path, values in paths.items():
                key = tuple(values[name] for name in self.names)
                by_key[key].setdefault(role, []).append(path)
        whole = [files for files in by_key.values() if files.keys() == self.patterns.keys()]
        self._paired = {path for files in whole for paths in files.values() for path in paths}
        self._looks_near = len(by_key) - len(whole) <= MOST_HINTS
        for key, files in sorted(by_key.items()):
            values = dict(zip(self.names, key, strict=True))
            wrong = self._wrong(values, files)
            problems += wrong
            if wrong:
                continue
            one = {role: paths[0] for role, paths in files.items()}
            case = self._case(values, one, derived)
            cases.append(case)
            if self.dataset.source.masks:
                masks[case.label] = Masks(self._masks_of(one), case.images[0])
        return cases, problems, masks

    def left_over(self) -> tuple[list[str], list[str]]:
        """Return the paths below the root that no pattern matches, sorted: of image files, and of others."""
        images, others = [], []
        voxels = {file for path in self._used for file in _voxel_files(self.root / path)}
        for folder, folders, names in os.walk(self.root):
            below = Path(folder).relative_to(self.root)
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and (below / name).as_posix() not in self._used
            ]
            for name in names:
                path = (Path(folder) / name).relative_to(self.root).as_posix()
                if name.startswith(".") or path in self._used or Path(folder) / name in voxels:
                    continue
                (images if is_image(name) else others).append(path)
        return sorted(images), sorted(others)

    def nearest(self, path: str) -> str:
        """Say which pattern comes nearest to a path that none matches, and where the two part."""
        return nearest(path, self.patterns)

    # --- one case -------------------------------------------------------------------------------

    def _case(self, values: Mapping[str, str], files: Mapping[str, str], derived: Path) -> Case:
        name = "_".join(values.values())
        paths = {role: self.root / path for role, path in files.items()}
        source = self.dataset.source
        roles = (
            [f"images.{channel}" for channel in self.dataset.channels]
            if source.images
            else ["image"]
        )
        label = paths.get("label", derived / "masks" / f"{safe_name(name)}.nii.gz")
        said = {
            what: {
                text for role, path in files.items() if (text := self.matches[role][path].get(what))
            }
            for what in (SPLIT, FOLD)
        }
        return Case(
            name,
            values[self.person] if self.person else name,
            tuple(paths[role] for role in roles),
            label,
            fold=_fold(said[FOLD], name),
            split=_split(said[SPLIT], name),
        )

    def _masks_of(self, files: Mapping[str, str]) -> dict[str, tuple[Path, ...]]:
        return {
            structure: tuple(self.root / files[role] for role in roles if role in files)
            for structure, roles in self._mask_roles.items()
        }

    def _wrong(self, values: Mapping[str, str], files: Mapping[str, list[str]]) -> list[Problem]:
        """List what keeps the files of a case from being one."""
        name = "_".join(values.values())
        problems = []
        for role, paths in files.items():
            if len(paths) > 1:
                text = (
                    f"{len(paths)} files of {role} for one case ({', '.join(paths)}); expected one: "
                    f"{self._way_apart(role, paths)}"
                )
                problems.append(Problem(name, paths[0], text))
            # What is in a file, the audit looks at.
            why = "" if (self.root / paths[0]).is_file() else why_unreadable(self.root / paths[0])
            problems += [Problem(name, paths[0], why)] if why else []
        may_lack = self.dataset.source.missing_masks == "empty"
        lacking = [
            role
            for role in self.patterns
            if role not in files and not (may_lack and role.startswith("masks."))
        ]
        if lacking:
            problems.append(self._lacking(name, values, files, lacking))
        return problems

    def _way_apart(self, role: str, paths: list[str]) -> str:
        """Say how the files of a role become those of several cases."""
        text, values = self.patterns[role].text, [self.matches[role][path] for path in paths]
        for name in (SPLIT, FOLD):
            if len({own.get(name) for own in values}) > 1:
                return (
                    f"{{{name}}} in {text} is no part of a case's name: give each case one {name}, or write another "
                    f"name in its place, such as {{part}}, and the column {name} into a table (layout: table)"
                )
        return f"write out what tells them apart in {text}, or name it in braces"

    def _lacking(
        self,
        name: str,
        values: Mapping[str, str],
        files: Mapping[str, list[str]],
        lacking: list[str],
    ) -> Problem:
        """Say which files of a case are not there, by what names they were looked for, and what comes near."""
        there = next(iter(files))
        own = {path for paths in files.values() for path in paths}
        known = {**self.matches[there][files[there][0]], **values}
        wanted = [self.patterns[role].filled(known) for role in lacking]
        hint = next((hint for text in wanted if (hint := self._near(text, values, own))), "")
        if not hint and all(role.startswith("masks.") for role in lacking):
            hint = "; where the structure is not in the image, set source.missing_masks: empty"
        more = f" and {len(wanted) - 3} more" if len(wanted) > 3 else ""
        what = _words(lacking)
        text = f"{_words([there])} without {what}; expected {', '.join(wanted[:3])}{more}{hint}"
        return Problem(name, files[there][0], text)

    def _near(self, wanted: str, values: Mapping[str, str], own: set[str]) -> str:
        """Say what is there in place of a file: taken for another role, or under a name that is nearly the same.

        A name that is nearly the same holds what the case's names stand for: another case's does not.
        own: the files that the case has.
        """
        for role, paths in self.matches.items():
            if wanted in paths:
                return f"; it is there, and taken for {role}, whose pattern has more written out"
        if not self._looks_near:
            return ""
        above, _, name = wanted.rpartition("/")
        held = [text for text in values.values() if _holds(name, text)]
        paths = {
            stem(entry.lower()): path
            for entry in self._folder.entries(above)
            if is_image(entry.lower())
            and (path := f"{above}/{entry}".lstrip("/")) not in self._paired
            and path not in own
            and all(_holds(entry, text) for text in held)
        }
        near = difflib.get_close_matches(stem(name.lower()), paths, n=1, cutoff=0.7)
        return f"; did you mean {paths[near[0]]}?" if near else ""

    # --- all cases ------------------------------------------------------------------------------

    def _without_files(self) -> list[Problem]:
        """Warn of each pattern of masks that matches nothing where masks may lack; raise InputError for others."""
        empty = [role for role, paths in self.matches.items() if not paths]
        may_lack = self.dataset.source.missing_masks == "empty"
        lines, problems = [], []
        for role in empty:
            text = f"no file matches {role}: {self.patterns[role].text}"
            if may_lack and role.startswith("masks."):
                problems.append(Problem("", "", f"{text}; the structure is in no image", WARNING))
            else:
                lines.append(f"{self.root}: {text}{self._where_it_ends(self.patterns[role])}")
        if lines:
            raise InputError("\n".join(lines))
        return problems

    def _where_it_ends(self, pattern: Pattern) -> str:
        """Say which part of a pattern is the first that matches nothing, what is there instead, or which folder has it."""
        inner = [self.root / name for name in sorted(self._folder.entries(""))[:MOST_HINTS]]
        for other in (*inner, self.root.absolute().parent):
            if Folder(other).found(pattern):
                return f"; did you mean source.path: {other}?"
        parts = pattern.text.split("/")
        above: Iterable[str] = ("",)
        for number, part in enumerate(parts, start=1):
            further = list(self._folder.found(Pattern("/".join(parts[:number]))))
            if not further:
                inside = sorted({own for one in above for own in self._folder.entries(one)})
                shown = [own for own in inside if not own.startswith(".")][:3]
                place = f" in {next(iter(above))}" if number > 1 else ""
                near = difflib.get_close_matches(part, inside, n=1, cutoff=0.8)
                hint = f"; did you mean {near[0]}?" if near and "{" not in part else ""
                return f"; nothing{place} is {part}; found {', '.join(shown) or 'nothing'}{hint}"
            above = further
        return "; each file that it matches is one of another pattern, which has more written out"


def _of_one_role(
    matches: Mapping[str, Mapping[str, dict[str, str]]], patterns: Mapping[str, Pattern]
) -> dict[str, dict[str, dict[str, str]]]:
    """Leave each path to the role whose pattern says most of it; of two that say as much, to a label before an image."""
    order = sorted(
        patterns,
        key=lambda role: (patterns[role].written_out, not role.startswith("image")),
        reverse=True,
    )
    owner: dict[str, str] = {}
    for role in order:
        for path in matches[role]:
            owner.setdefault(path, role)
    return {
        role: {path: values for path, values in paths.items() if owner[path] == role}
        for role, paths in matches.items()
    }


def _voxel_files(path: Path) -> list[Path]:
    """Return the files with the voxels of a detached header; none where it cannot be read, as the audit says."""
    with suppress(InputError):
        return voxel_files(path)
    return []


def _holds(name: str, text: str) -> bool:
    """Tell whether a name has a text in it that is no part of a longer number or word there."""
    before, after = (
        r"\d" if end.isdigit() else "[a-z]" if end.isalpha() else "$."
        for end in (text[0], text[-1])
    )
    alone = rf"(?<!{before}){re.escape(text.lower())}(?!{after})"
    return re.search(alone, name.lower()) is not None


def _one_of(role: str) -> str:
    """Return the role without its number, where a structure has several masks."""
    return re.sub(r"\[\d+\]$", "", role)


def _words(roles: list[str]) -> str:
    """Name roles as people do: `image`, `label`, `image of t1`, `mask of spleen, liver`."""
    kinds: dict[str, list[str]] = {}
    for role in roles:
        kind, _, of = _one_of(role).partition(".")
        word = {"images": "image", "masks": "mask"}.get(kind, kind)
        own = kinds.setdefault(word, [])
        if of and of not in own:
            own.append(of)
    return " and ".join(f"{word} of {', '.join(of)}" if of else word for word, of in kinds.items())


def _split(texts: set[str], case: str) -> str | None:
    """Return the split that `{split}` stands for in the files of a case; None where it is in no pattern."""
    if not texts:
        return None
    splits = {_SPLITS.get(text.lower()) for text in texts}
    if len(splits) > 1 or None in splits:
        raise InputError(
            f"case {case}: {{split}} stands for {', '.join(sorted(texts))}; expected train, training or Tr, or test, testing or Ts "
            "in all of its files. Where the text says no split, write * or another name"
        )
    return splits.pop()


def _fold(texts: set[str], case: str) -> int | None:
    """Return the fold that `{fold}` stands for in the files of a case; None where it is in no pattern."""
    if not texts:
        return None
    if len(texts) > 1 or not re.fullmatch(r"\d{1,3}", min(texts), re.ASCII):
        raise InputError(
            f"case {case}: {{fold}} stands for {', '.join(sorted(texts))}; expected one whole number from 0 in all of its files, "
            "such as fold{fold}/{case}.nii.gz has it"
        )
    return int(texts.pop())
