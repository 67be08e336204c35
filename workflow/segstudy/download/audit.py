"""The audit: cases that cannot be trusted are refused by name, before anything is computed from them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segstudy.cases import Case
from segstudy.correction_records import refuse_other
from segstudy.download import convert
from segstudy.download.label_names import contradictions, has_other_segments, wanted_segments
from segstudy.download.layouts import Listing
from segstudy.download.names import named_safely
from segstudy.download.problems import Problem, in_words
from segstudy.errors import InputError
from segstudy.images import headers
from segstudy.images.checksum import image_checksum, label_checksum
from segstudy.images.duplicates import ImageSignature, duplicate_pairs, signature
from segstudy.images.files import Image, other_numbers, read_image, read_label, within_memory
from segstudy.images.fitting import on_grid, slice_by_slice
from segstudy.images.formats import dicom_series, format_of
from segstudy.images.grids import Grid
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
    used
        The case with the files that later stages read; None: those delivered.
    patient
        What DICOM images tell of who the patient is, as a digest that is written nowhere; or empty.
    """

    case: Case
    problems: list[Problem]
    digest: str = ""
    signature: ImageSignature | None = None
    size: Size | None = None
    used: Case | None = None
    patient: str = ""

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
        Where volumes are written that take the place of delivered files (`convert.derived_files`);
        None: files are only checked.

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
    findings = _of_patients(_in_proportion(findings))
    good = [finding for finding in findings if not finding.refused]
    problems = [*listing.problems, *problems]
    problems += [problem for finding in findings for problem in finding.problems]
    cases, same = _same_images(good)
    problems = _of_the_cohort([*problems, *same, *_same_labels(cases)], good, dataset)
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
    name: str = "<name>",
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
    name
        Of the dataset in the study file.
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
            f"in {table}. Correct or remove the files, or set datasets.{name}.on_bad_case: drop in the study "
            "file to go on without these cases"
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

    A good case's volumes that take the place of delivered files are written to `derived`, so that each
    file is unzipped once.
    """
    seen: list[tuple[Path | str, str, str]] = []
    image = _read(seen, read_image, case.images, len(dataset.channels)) if case.images else None
    image = image and _sized(seen, case.images[0], image, dataset)
    grid = image.grid if image is not None else None
    for path in case.files:
        seen += [(path, text, WARNING) for text in headers.warnings(path)]
    if image is not None:
        ct = dataset.modality == "CT"
        seen += image_problems(image.array, case.images, dataset.channels, ct)
        seen += [(case.images[0], text, WARNING) for text in image.notes]
    read, labels = {}, {}
    for path in (case.label, case.reference_label, case.delivered_label):
        if path is None:
            continue
        read[path] = label_map = _read(
            seen, read_label, path, grid, lambda file: wanted_segments(file, dataset)
        )
        label_map = label_map and _numbered(seen, path, label_map, image)
        label_map = label_map and _as_slices(seen, path, label_map, case.images, grid)
        label_map = label_map and _sized(seen, path, label_map, dataset)
        label_map = label_map and _as_named(seen, path, label_map, dataset)
        # A correction was drawn on this image: it is never resampled.
        is_correction = path == case.label and case.delivered_label is not None
        resample = None if is_correction else dataset.on_other_grid == "resample_label"
        labels[path] = label_map = label_map and _on_grid(seen, path, label_map, grid, resample)
        if label_map is None:
            continue
        seen += [(path, text, WARNING) for text in label_map.notes]
        seen += [(path, text, verdict) for text, verdict in label_problems(label_map, dataset)]
        if label_map.integer_deviation:
            text = f"numbers up to {label_map.integer_deviation:.3g} off whole ones, to which they are rounded"
            seen.append((path, text, WARNING))
    label, reference = labels[case.label], labels.get(case.reference_label)
    delivered = labels.get(case.delivered_label)
    # Where labels are repaired, the repaired one was corrected: the repair looks at that.
    if delivered is not None and dataset.repair is None:
        refuse_other(case, label_checksum(delivered), case.delivered_label)
    if reference is not None and dataset.repair is not None:
        value = dataset.structures[dataset.repair.structure]
        if not (reference.array == value).any():
            text = f"no voxel of {dataset.repair.structure}, which is to be repaired"
            seen.append((case.reference_label, text, REFUSED))
    problems = [Problem(case.case, str(path), text, verdict) for path, text, verdict in seen]
    first = image if case.images else label
    if first is None or label is None:
        return AuditedCase(case, problems)
    counts = _counts(label.array)
    measured = replace(
        case,
        shape=first.grid.shape,
        spacing_mm=first.grid.spacing_mm,
        voxels={name: counts.get(value, 0) for name, value in dataset.structures.items()},
    )
    used = None
    if derived is not None and not any(verdict == REFUSED for *_, verdict in seen):
        pairs = {path: (read[path], label_map) for path, label_map in labels.items()}
        new = convert.derived_files(case, image, pairs)
        used = convert.write_derived(measured, new, derived)
    known = image is not None or len(counts) > 1
    return AuditedCase(
        measured,
        problems,
        image_checksum(first) if known else "",
        signature(image) if image is not None else None,
        image_size(first.grid),
        used,
        format_of(case.images[0]).patient(case.images[0]) if image is not None else "",
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


def _sized(seen: list, path: Path, image: Image, dataset: Dataset) -> Image | None:
    """Give voxels the size that the study says, where the file tells none; None if refused."""
    if dataset.spacing_mm:
        return image.with_spacing(dataset.spacing_mm)
    if not image.has_spacing:
        text = "a picture does not tell how large its voxels are; give spacing_mm: [column, row, slice] in the dataset"
        seen.append((path, text, REFUSED))
    return image if image.has_spacing else None


def _numbered(seen: list, path: Path, label: Image, image: Image | None) -> Image | None:
    """Return a stack of pictures whose slices have the numbers of its image's; None if refused."""
    text = other_numbers(image.slice_numbers if image else (), label.slice_numbers)
    if text:
        seen.append((path, f"{text} of its image", REFUSED))
    return None if text else label


def _as_slices(
    seen: list, path: Path, label: Image, images: Sequence[Path], grid: Grid | None
) -> Image | None:
    """Pair pictures with the slices of a DICOM series; other labels stay as they are. None if refused."""
    if label.has_spacing or grid is None or format_of(images[0]).read is not dicom_series.read:
        return label
    try:
        return slice_by_slice(label, images[0], grid)
    except InputError as error:
        seen.append((path, str(error), REFUSED))
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
    if has_other_segments(path, dataset):
        array = (
            array.copy()
        )  # changed against the file, which later stages would read with all its segments
    return replace(label, array=array)


def _on_grid(
    seen: list, path: Path, label: Image, grid: Grid | None, resample: bool | None
) -> Image | None:
    """Bring a label to the grid of its image, by resampling where that is asked for; None if refused."""
    if grid is None:
        return label
    try:
        return on_grid(label, grid, resample)
    except InputError as error:
        seen.append((path, str(error), REFUSED))
        return None


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
    kept = "tested on" if dataset.role == "test" else "trained on"
    return f"{text}; taken for a case without it, and {kept} as such", WARNING


def _counts(array: np.ndarray) -> dict[int, int]:
    """Count the voxels of each value that occurs."""
    counts = np.bincount(array.ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


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


def _of_patients(findings: Sequence[AuditedCase]) -> list[AuditedCase]:
    """Make the DICOM cases of a patient one subject, where none is named: it is called as its first case."""
    first: dict[str, str] = {}
    out = []
    for finding in sorted(findings, key=lambda finding: finding.case.case):
        case = finding.case
        if finding.patient and case.subject == case.case and not finding.refused:
            subject = first.setdefault(finding.patient, case.case)
            if subject != case.case:
                text = f"of the same patient as case {subject} (PatientID): the two are one subject"
                problem = Problem(case.case, str(case.images[0]), text, WARNING)
                finding = replace(
                    finding,
                    case=replace(case, subject=subject),
                    problems=[*finding.problems, problem],
                )
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
        + ("measured of it" if dataset.role == "test" else "learned of it")
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
        replace(
            finding.used or finding.case,
            checksum=finding.digest,
            subject=merged[finding.case.subject],
            same_image_as=of.get(finding.case.case),
        )
        for finding in findings
    ], problems


def _same_labels(cases: Sequence[Case]) -> list[Problem]:
    """Warn of a label file that stands for two subjects, as where a row of a table names the one above."""
    first: dict[Path, Case] = {}
    problems = []
    for case in cases:
        other = first.setdefault(case.label.absolute(), case)
        if case.images and other.subject != case.subject:
            text = (
                f"the label of case {other.case} too, of another subject; see whether the table names the right file, or give "
                "both one subject"
            )
            problems.append(Problem(case.case, str(case.label), text, WARNING))
    return problems


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
