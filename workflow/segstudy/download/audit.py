"""The audit: cases that cannot be trusted are refused by name, before anything is computed from them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segstudy.cases import Case
from segstudy.download import convert
from segstudy.download.label_names import contradictions
from segstudy.download.layouts import Listing
from segstudy.download.names import named_safely
from segstudy.download.problems import Problem, in_words
from segstudy.errors import InputError
from segstudy.images import headers
from segstudy.images.duplicates import ImageSignature, duplicate_pairs, signature
from segstudy.images.files import Image, compare_grids, read_image, read_label, within_memory
from segstudy.images.geometry import to_ras
from segstudy.images.segments import nifti_names
from segstudy.images.size_outliers import Size, find_size_outliers, image_size
from segstudy.images.value_checks import REFUSED, WARNING, image_problems
from segstudy.labels import read_table
from segstudy.log import progress
from segstudy.study import Dataset

SHOWN = 20  # refused cases that the final message lists


@dataclass(frozen=True)
class AuditedCase:
    """Hold the audit of one case: the case with its measures, and its problems.

    Parameters
    ----------
    case
        With shape, voxel size and voxels of each structure, as far as they could be read.
    problems
        The problems of its files.
    digest
        Of the image's voxels, or of a label map's without image, to find the same under two names;
        empty for a label map that holds nothing.
    signature
        Of the image, to find it where it was saved anew.
    size
        Of its voxels and of the image.
    """

    case: Case
    problems: list[Problem]
    digest: str = ""
    signature: ImageSignature | None = None
    size: Size | None = None

    @property
    def refused(self) -> bool:
        """Tell whether a problem refuses the case."""
        return any(problem.verdict == REFUSED for problem in self.problems)


def audit(
    listing: Listing, dataset: Dataset, threads: int = 1, derived: Path | None = None
) -> tuple[list[Case], list[Problem]]:
    """Check every pair of a dataset, or every label map of one that has no images.

    Parameters
    ----------
    listing
        The cases and problems by name.
    dataset
        The dataset's settings.
    threads
        Cases that are read at a time.
    derived
        Where labels are written that have to be converted to the study's values
        (`convert.write_converted`); None: they are only checked.

    Returns
    -------
    cases : list of Case
        Those that can be trusted, with shape, spacing in mm and voxels of each structure.
    problems : list of Problem
        Sorted; those whose verdict is `refused` concern cases that are not returned.
    """
    named, problems = named_safely(listing.cases)
    with ThreadPoolExecutor(max_workers=max(threads, 1)) as pool:
        running = [pool.submit(_within_memory, case, dataset, derived) for case in named]
        findings = [task.result() for task in progress(running, "audit")]
    findings = _in_proportion(findings)
    good = [finding for finding in findings if not finding.refused]
    problems = [*listing.problems, *problems]
    problems += [problem for finding in findings for problem in finding.problems]
    cases, same = _same_images(good)
    problems = _of_the_cohort([*problems, *same], good, dataset)
    return (
        cases,
        sorted(_relative(problem, listing.root) for problem in set(problems)),
    )


def refused_in_words(listing: Listing) -> list[str]:
    """Return in lines what is to be refused by the names of cases and files alone, before any is opened."""
    found = {*listing.problems, *named_safely(listing.cases)[1]}
    refused = [_relative(one, listing.root) for one in found if one.verdict == REFUSED]
    return in_words(sorted(refused), listing.root)


def stop_if_unusable(
    cases: Sequence[Case],
    problems: Iterable[Problem],
    dataset: Dataset,
    table: Path,
    root: Path = Path(),
) -> None:
    """Raise InputError where the study cannot go on with the cases that the audit left.

    Such are refused cases under `on_bad_case: fail`, no case at all, and a missing reference case of
    the label repair.

    Parameters
    ----------
    cases
        Those that can be trusted.
    problems
        Of all cases.
    dataset
        The dataset's settings.
    table
        The table of problems, for the error.
    root
        The folder that the problems' files are relative to.
    """
    refused = [problem for problem in problems if problem.verdict == REFUSED]
    if refused and dataset.on_bad_case == "fail":
        told = in_words(refused, root)
        lines = told[:SHOWN]
        if len(told) > SHOWN:
            lines.append(f"... and {len(told) - SHOWN} more")
        count = len({problem.case or problem.file for problem in refused})
        lines.append(
            f"{count} case{'s' if count > 1 else ''} refused, {len(cases)} good; all problems are "
            f"in {table}. Correct or remove the files, or set on_bad_case: drop to go on "
            "without these cases"
        )
        raise InputError("\n".join(lines))
    if not cases:
        raise InputError(
            f"no case is left of {len({problem.case for problem in refused})} refused; see {table}"
            if refused
            else "the dataset holds no case"
        )
    if dataset.repair is not None and dataset.repair.reference_case is not None:
        _check_reference(cases, dataset, table)


def _check_reference(cases: Sequence[Case], dataset: Dataset, table: Path) -> None:
    wanted = dataset.repair.reference_case
    reference = {case.case: case for case in cases}.get(wanted)
    able = [case.case for case in cases if case.reference_label]
    hint = f" (it is there for {', '.join(able[:5])})" if able else ""
    if reference is None:
        raise InputError(
            f"repair.reference_case: {wanted!r} is none of the {len(cases)} good cases{hint}; "
            f"problems are in {table}"
        )
    if reference.reference_label is None:
        raise InputError(
            f"repair.reference_case: {wanted} has no reference_label, a second, right label{hint}; "
            "GT2.nii.gz beside GT.nii.gz, or a column reference_label in the table"
        )


# --- one case -----------------------------------------------------------------------------------


def _within_memory(case: Case, dataset: Dataset, derived: Path | None) -> AuditedCase:
    with within_memory(case.case, case.files[0]):
        return examine(case, dataset, derived)


def examine(case: Case, dataset: Dataset, derived: Path | None = None) -> AuditedCase:
    """Read a case's files; check each by itself, against the others and against the study file.

    A good case's labels in the study's values are written to `derived`, so that each file is
    unzipped once.
    """
    seen: list[tuple[Path | str, str, str]] = []
    image, label, reference = (
        _read(seen, read_image, case.images, len(dataset.channels)) if case.images else None,
        _read(seen, read_label, case.label),
        _read(seen, read_label, case.reference_label) if case.reference_label else None,
    )
    for path in case.files:
        seen += [(path, text, WARNING) for text in headers.warnings(path)]
    if image is not None:
        ct = dataset.modality == "CT"
        seen += image_problems(image.array, case.images, dataset.channels, ct)
    label = label and _as_named(seen, case.label, label, dataset)
    reference = reference and _as_named(seen, case.reference_label, reference, dataset)
    for path, label_map in ((case.label, label), (case.reference_label, reference)):
        if label_map is None:
            continue
        seen += [(path, text, verdict) for text, verdict in label_problems(label_map, dataset)]
        if label_map.integer_deviation:
            text = f"numbers up to {label_map.integer_deviation:.3g} off whole ones, to which they are rounded"
            seen.append((path, text, WARNING))
        difference = compare_grids(image.grid, label_map.grid) if image is not None else ""
        if difference:
            seen.append((path, f"other grid than its image (named first): {difference}", REFUSED))
    if reference is not None and dataset.repair is not None:
        value = dataset.structures[dataset.repair.structure]
        if not (reference.array == value).any():
            text = f"no voxel of {dataset.repair.structure}, which is to be repaired"
            seen.append((case.reference_label, text, REFUSED))
    problems = [Problem(case.case, str(path), text, verdict) for path, text, verdict in seen]
    first = image if case.images else label
    if first is None or label is None:
        return AuditedCase(case, problems)
    if derived is not None and not any(verdict == REFUSED for *_, verdict in seen):
        labels = {case.label: label, case.reference_label: reference}
        convert.write_converted(case, labels, dataset, derived)
    counts = _counts(label.array)
    measured = replace(
        case,
        shape=first.grid.shape,
        spacing_mm=first.grid.spacing_mm,
        voxels={name: counts.get(value, 0) for name, value in dataset.structures.items()},
    )
    known = image is not None or len(counts) > 1
    return AuditedCase(
        measured,
        problems,
        _digest(to_ras(first)) if known else "",
        signature(image) if image is not None else None,
        image_size(first.grid),
    )


def _read(seen: list, reader: Callable[..., Image], paths, *arguments) -> Image | None:
    """Read an image, or note why it cannot be read."""
    try:
        return reader(paths, *arguments)
    except InputError as error:
        files = [paths] if isinstance(paths, Path) else paths
        for file in files:
            if str(error).startswith(f"{file}: "):
                seen.append((file, str(error).removeprefix(f"{file}: "), REFUSED))
                break
        else:
            seen.append((files[0], str(error), REFUSED))
        return None


def _as_named(seen: list, path: Path, label: Image, dataset: Dataset) -> Image | None:
    """Convert a label to the values of the study: by names in its header, then merged; None if refused."""
    texts = contradictions(nifti_names(path), dataset)
    try:
        array, doubts = convert.in_study_values(label.array, path, dataset)
    except InputError as error:
        seen.append((path, str(error).removeprefix(f"{path}: "), REFUSED))
        return None
    seen += [(path, text, WARNING) for text in (*texts, *doubts)]
    return replace(label, array=array)


def label_problems(label: Image, dataset: Dataset) -> list[tuple[str, str]]:
    """List the problems of a label map (i, j, k), each with its verdict."""
    counts = _counts(label.array)
    table = read_table(dataset.label_table) if dataset.label_table else ()
    known = {0, *dataset.structures.values(), *dataset.background_labels, *dataset.ignore, *table}
    odd = [value for value in counts if value not in known]
    if odd:
        shown = ", ".join(f"{value} ({counts[value]} voxels)" for value in odd[:5])
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        listed = ", ".join(f"{value} {name}" for name, value in dataset.structures.items())
        text = (
            f"unknown label values {shown}{more}; known: {listed}. What is background goes in "
            "background_labels; voxels that nobody has labelled are marked by `ignore`"
        )
        return [(text, REFUSED)]
    if set(counts) <= set(dataset.ignore):
        return [("every voxel is ignored: nothing is left to learn or to measure", REFUSED)]
    missing = [name for name, value in dataset.structures.items() if value not in counts]
    if len(missing) == len(dataset.structures):
        return [_empty(dataset)]
    return [(_without(name), WARNING) for name in missing]


def _without(structure: str) -> str:
    return f"no voxel of {structure}"


def _empty(dataset: Dataset) -> tuple[str, str]:
    """Return the problem and the verdict of a label map without any structure."""
    text = "empty: no voxel of any structure"
    if dataset.empty_labels == "refuse":
        return f"{text}, and empty_labels is refuse", REFUSED
    kept = "trained on" if dataset.role == "train" else "tested on"
    return f"{text}; taken for a case without it, and {kept} as such", WARNING


def _counts(array: np.ndarray) -> dict[int, int]:
    """Count the voxels of each value that occurs."""
    counts = np.bincount(array.ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def _digest(image: Image) -> str:
    shape = np.array(image.array.shape)
    return hashlib.blake2b(shape.tobytes() + image.array.tobytes(), digest_size=16).hexdigest()


# --- between cases ------------------------------------------------------------------------------


def _in_proportion(findings: Sequence[AuditedCase]) -> list[AuditedCase]:
    """Refuse cases whose voxel and image are out of all proportion to the other good ones."""
    texts = find_size_outliers(
        {
            audited.case.case: audited.size
            for audited in findings
            if audited.size and not audited.refused
        }
    )
    out = []
    for finding in findings:
        text = texts.get(finding.case.case, "")
        if text:
            problem = Problem(finding.case.case, str(finding.case.files[0]), text)
            finding = replace(finding, problems=[*finding.problems, problem])
        out.append(finding)
    return out


def _of_the_cohort(
    problems: Sequence[Problem], findings: Sequence[AuditedCase], dataset: Dataset
) -> list[Problem]:
    """Join the warnings about a structure that no case has into one."""
    cases = [finding.case for finding in findings if finding.case.voxels]
    absent = [name for name in dataset.structures if not any(case.voxels[name] for case in cases)]
    if len(cases) < 2 or not absent:
        return list(problems)
    said = {_without(name) for name in absent}
    kept = [problem for problem in problems if problem.problem not in said]
    none = len(absent) == len(dataset.structures)
    what = "any structure" if none else " or ".join(absent)
    values = ", ".join(f"{name} {dataset.structures[name]}" for name in absent)
    text = (
        f"none of the {len(cases)} cases has a voxel of {what} ({values}): nothing can be "
        + ("learned of it" if dataset.role == "train" else "measured of it")
        + "; see whether the values in the study file are those of the labels"
    )
    return [*kept, Problem("", "", text, WARNING)]


def _same_images(findings: Sequence[AuditedCase]) -> tuple[list[Case], list[Problem]]:
    """Merge the subjects of cases with the same image, with a warning for each.

    Both subjects become one, that of the case that comes first: otherwise one would be trained on,
    and the other tested. Images are the same where only type, orientation, format or scale differs.
    """
    cases = {finding.case.case: finding.case for finding in findings}
    pairs = _same_bytes(findings)
    signatures = {finding.case.case: finding.signature for finding in findings if finding.signature}
    pairs += [pair for pair in duplicate_pairs(signatures) if pair not in set(pairs)]
    order = {name: number for number, name in enumerate(cases)}
    merged = {case.subject: case.subject for case in cases.values()}
    of, problems = {}, []
    for first, second in sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]])):
        one, other = cases[first], cases[second]
        if one.subject == other.subject or second in of:
            continue
        of[second] = first
        kept, gone = merged[one.subject], merged[other.subject]
        merged = {name: kept if now == gone else now for name, now in merged.items()}
        what = "image" if other.images else "label map"
        text = (
            f"the same {what} as case {first}, though of another subject: the two are taken for one "
            "subject, and none is tested by a model that saw the other"
        )
        problems.append(Problem(second, str(other.files[0]), text, WARNING))
    return [
        replace(case, subject=merged[case.subject], same_image_as=of.get(name))
        for name, case in cases.items()
    ], problems


def _same_bytes(findings: Sequence[AuditedCase]) -> list[tuple[str, str]]:
    """Pairs of cases with the same numbers in RAS."""
    first: dict[str, str] = {}
    return [
        (same, finding.case.case)
        for finding in findings
        if finding.digest
        and (same := first.setdefault(finding.digest, finding.case.case)) != finding.case.case
    ]


def _relative(problem: Problem, root: Path) -> Problem:
    """Name a problem's file from the dataset's root, so that tables do not name the machine."""
    if root == Path("."):
        return problem
    inside = f"{root}/"
    return replace(
        problem,
        file=problem.file.removeprefix(inside),
        problem=problem.problem.replace(inside, ""),
    )
