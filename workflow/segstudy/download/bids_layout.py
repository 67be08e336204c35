"""Cases of a BIDS dataset: images paired with labels, or masks, by subject, session and entities (`layout: bids`)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from segstudy import bids
from segstudy.bids import BidsFile, Key
from segstudy.cases import Case
from segstudy.download.file_layout import Masks
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.images.names import safe_name
from segstudy.study import Dataset

Found = Mapping[str, list[BidsFile]]
"""Role, such as `label` or `masks.liver` -> its files, of which there should be one."""


class BidsFiles:
    """The files of a BIDS dataset that the entities of `source` mean.

    Parameters
    ----------
    root
        The dataset's folder.
    dataset
        The dataset's settings.

    Raises
    ------
    InputError
        Where no folder, or several, hold labels, and for another number of suffixes than channels.
    """

    def __init__(self, root: Path, dataset: Dataset):
        self.root, self.dataset, self.source = root, dataset, dataset.source
        if len(self.source.wanted_images) != len(dataset.channels):
            raise InputError(
                f"source.suffixes: {len(self.source.suffixes)} ({', '.join(self.source.suffixes)}); expected one for "
                f"each of the {len(dataset.channels)} channels ({', '.join(dataset.channels)})"
            )
        wanted = self.source.wanted_labels
        self.label_root = bids.label_root(root, self.source.pipeline, wanted.values())
        self.image_root = self._image_root()

    def _image_root(self) -> Path:
        """Return the folder of the images."""
        root, pipeline = self.root, self.source.image_pipeline
        if pipeline is not None:
            folder = root / "derivatives" / pipeline
            if not folder.is_dir():
                raise InputError(f"{folder}: source.image_pipeline: no such folder")
            return folder
        derived = {
            entity
            for wanted in self.source.wanted_images.values()
            for entity, values in wanted.items()
            if tuple(values) != (bids.NONE,)
        } & {"desc", *bids.GRIDS}
        raw = bids.raw_root(root)
        has_raw = raw.is_dir() and any(raw.glob("sub-*"))
        return self.label_root if derived or not has_raw else raw

    def cases(self, derived: Path) -> tuple[list[Case], list[Problem], dict[Path, Masks]]:
        """Pair the files.

        Parameters
        ----------
        derived
            Where label maps belong that are to be made of masks.

        Returns
        -------
        As `PatternedFiles.cases`.

        Raises
        ------
        InputError
            Where no image of a channel is anywhere.
        """
        labels = _by_session(self.label_root)
        images = labels if self.image_root == self.label_root else _by_session(self.image_root)
        for wanted in self.source.wanted_images.values():
            if not any(bids.matching(files, wanted) for files in images.values()):
                raise InputError(
                    f"{self.image_root}: no sub-*/{bids.described(wanted)} in it{bids.elsewhere(self.root)}"
                )
        cases, problems, masks = [], [], {}
        for key in sorted({*labels, *images}):
            for name, found in self._of_session(key, labels.get(key, []), images.get(key, [])):
                wrong = self._wrong(name, key, found)
                problems += wrong
                if wrong:
                    continue
                one = {role: files[0].path for role, files in found.items() if files}
                case = self._case(name, key, one, derived)
                cases.append(case)
                if self.source.masks:
                    masks[case.label] = self._masks(one, case)
        return cases, problems, masks

    def _of_session(
        self, key: Key, labels: list[BidsFile], images: list[BidsFile]
    ) -> Iterator[tuple[str, Found]]:
        """Find the files of a session's case, or of each where it has several; nothing where it has none of any role."""
        wanted = self.source.wanted_labels
        folder = next(iter(self.source.wanted_images.values())).get("datatype", ())
        candidates = {
            role: bids.preferred(self._near(bids.matching(labels, own), folder, own), own, None)
            for role, own in wanted.items()
        }
        if self.source.several == "each":
            repeats = {file.repeat: None for files in candidates.values() for file in files}
            groups = {
                "_".join((*key, *repeat)): {
                    role: [file for file in files if file.repeat == repeat]
                    for role, files in candidates.items()
                }
                for repeat in repeats or {(): None}
            }
        else:
            groups = {"_".join(key): candidates}
        for name, group in groups.items():
            found = {
                role: bids.one_by_rule(files, self.source.several) for role, files in group.items()
            }
            label = next((files[0] for files in found.values() if files), None)
            for role, own in self.source.wanted_images.items():
                files = bids.preferred(bids.matching(images, own), own, label)
                found[role] = bids.one_by_rule(files, self.source.several)
            if any(found.values()):
                yield name, found

    @staticmethod
    def _near(files: list[BidsFile], folders: tuple[str, ...], wanted: bids.Wanted):
        """Select labels in the folder that the images are in, where there are any and nothing else was asked for."""
        if "datatype" in wanted:
            return files
        return [file for file in files if file.get("datatype") in folders] or files

    def _wrong(self, name: str, key: Key, found: Found) -> list[Problem]:
        """List the roles of a case that do not have one file."""
        problems = []
        wanted = {**self.source.wanted_labels, **self.source.wanted_images}
        for role, files in found.items():
            if len(files) == 1 or (
                not files and role.startswith("masks.") and self.source.missing_masks == "empty"
            ):
                continue
            names = ", ".join(file.path.name for file in files)
            text = f"{len(files)} files {bids.described(wanted[role])}{f' ({names})' if files else ''}; expected one"
            problems.append(Problem(name, "/".join(key), text + self._advice(role, files)))
        return problems

    def _advice(self, role: str, files: list[BidsFile]) -> str:
        """Say what tells the files of a role apart, or where they were looked for."""
        own = "image" if role not in self.source.wanted_labels and "." not in role else role
        if not files:
            hint = ""
            if role.startswith("masks."):
                hint = "; where the structure is not in the image, set source.missing_masks: empty"
            return f", in {self.label_root if role in self.source.wanted_labels else self.image_root}{hint}"
        differing = bids.differences(files)
        if not differing:
            return ": they have the same name but for the ending; keep one"
        entity, values = next(iter(differing.items()))
        rule = (
            "" if set(differing) - set(bids.REPEATS) else ", or source.several: first, last or each"
        )
        return f": set source.{own}: {{{entity}: {' or '.join(values)}}}{rule}"

    def _case(self, name: str, key: Key, files: Mapping[str, Path], derived: Path) -> Case:
        images = tuple(files[role] for role in self.source.wanted_images)
        label = files.get("label", derived / "masks" / f"{safe_name(name)}.nii.gz")
        return Case(name, key[0], images, label)

    def _masks(self, files: Mapping[str, Path], case: Case) -> Masks:
        wanted = self.source.wanted_labels
        return Masks(
            {
                structure: tuple(filter(None, [files.get(f"masks.{structure}")]))
                for structure in self.source.masks
            },
            case.images[0],
            {
                path: self.source.threshold
                for role, path in files.items()
                if role in wanted and tuple(wanted[role]["suffix"]) == ("probseg",)
            },
        )


def _by_session(root: Path) -> dict[Key, list[BidsFile]]:
    found = defaultdict(list)
    for key, file in bids.files_below(root):
        found[key].append(file)
    return found
