"""Labels that do not fit the rest of their cohort, found without any reference.

Three kinds of finding, a module each: labels that lie elsewhere (`misplacement`), empty
structures, stray components, holes and cuts (`topology`), and structures of another form: a part
missing, outline or size (`shape_outliers`).

An error that most of the cohort shares is the cohort's norm and is not found here.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.cases import read_cases, repaired_labels
from segstudy.errors import InputError
from segstudy.files import parse_json
from segstudy.images.files import compare_grids, read_image, read_label
from segstudy.images.names import is_image, stem
from segstudy.log import log, progress
from segstudy.repair.case_features import CaseFeatures, extract_features
from segstudy.repair.findings import FAULTS, SMALLEST_COHORT, LabelFinding
from segstudy.repair.misplacement import cohort_norms, explain_misplacement
from segstudy.repair.shape_outliers import CLEAR_ODDS, find_shape_outliers
from segstudy.repair.shape_outliers import SMALLEST_COHORT as FORM_COHORT
from segstudy.repair.topology import topology_findings
from segstudy.study import Cohort, from_json

#: Cases, spread over the cohort, in which errors of form are simulated to be learnt from, at most.
SIMULATED_CASES = 150
#: Voxels on the border, relative to the usual number, from which a field of view cuts more than elsewhere.
MORE_OF_BORDER = 1.3
#: Robust z-score below which a grid is short, and the least spread of its sizes, as a share.
SHORT_Z = 3.0
LEAST_SPREAD = 0.05


def audit(cases: Iterable[CaseFeatures]) -> list[LabelFinding]:
    """Find label errors in a cohort: sorted by case, the clearest first within a case.

    Consequences of an error that explains the case are not listed again: a structure moved to the
    border is cut there, and one under another's number has the other's components, holes and form.
    """
    cases = list(cases)
    if not cases:
        return []
    usual = cohort_norms(cases)
    explained = {case.case: explain_misplacement(case, usual) for case in cases}
    follows = {
        (case, name, fault)
        for case, there in explained.items()
        for finding in there
        for name in finding.structure.split("+")
        for fault in (("cut", "stray", "holes") if finding.fault == "swapped" else ("cut",))
    }
    findings = [
        finding
        for finding in topology_findings(cases)
        if (finding.case, finding.structure, finding.fault) not in follows
    ]
    findings += [finding for there in explained.values() for finding in there]
    left_out = _by_structure(findings, set(FAULTS) - {"shifted", "stray", "holes", "cut"})
    formed = find_shape_outliers(
        cases, left_out, _by_structure(findings, {"shifted"}), _cropped(cases, findings)
    )
    # One structure's form, unless clear by itself, is no reason for all of them to lie elsewhere.
    together = {
        finding.case
        for finding in findings
        if finding.fault == "shifted" and "+" in finding.structure
    }
    formed = [
        finding for finding in formed if finding.case not in together or finding.score >= CLEAR_ODDS
    ]
    # A lost or gained part moves the middle of a structure, and a wide outline has more of a border;
    # neither structure can tell where its neighbours lie.
    of_form = _by_structure(formed, set(FAULTS))
    known = [
        replace(
            case,
            shapes={
                name: None if case.case in of_form.get(name, ()) else shape
                for name, shape in case.shapes.items()
            },
        )
        for case in cases
        if any(finding.case == case.case for finding in formed)
    ]
    again = {case.case for case in known}
    findings = [
        finding
        for finding in findings
        if (finding.fault != "shifted" or finding.case not in again)
        and (finding.fault != "cut" or finding.case not in of_form.get(finding.structure, ()))
    ]
    findings += [
        finding
        for case in known
        for finding in explain_misplacement(case, usual)
        if finding.fault == "shifted"
    ] + formed
    return sorted(
        findings,
        key=lambda finding: (finding.case, -finding.score, finding.structure, finding.fault),
    )


def _cropped(
    cases: Sequence[CaseFeatures], findings: Iterable[LabelFinding]
) -> dict[str, frozenset[str]]:
    """Find, by structure, the cases in which the field of view cuts more of it than is usual.

    Signs are a cut structure with more voxels on the border than is usual, not just more for its
    size, and a structure that ends with a grid that is shorter in this direction than is usual.
    """
    sizes = np.array([case.image.size_mm for case in cases])
    usual = np.median(sizes, axis=0)
    spread = 1.4826 * np.median(np.abs(sizes - usual), axis=0)
    short = sizes < usual - SHORT_Z * np.maximum(spread, LEAST_SPREAD * usual)
    cropped = {}
    for name in cases[0].shapes:
        borders = {case.case: case.shapes[name].border for case in cases if case.shapes[name]}
        most = MORE_OF_BORDER * np.median(list(borders.values()) or 0)
        cut = {
            finding.case
            for finding in findings
            if finding.fault == "cut" and finding.structure == name
        }
        cropped[name] = frozenset(
            case.case
            for case, axes in zip(cases, short, strict=True)
            if (case.case in cut and borders[case.case] > most)
            or (case.morphologies[name] and case.morphologies[name].delivered.open[axes].any())
        )
    return cropped


def _by_structure(findings: Iterable[LabelFinding], faults: set[str]) -> dict[str, frozenset[str]]:
    """Return the cases that have one of some faults, by structure."""
    cases = defaultdict(set)
    for finding in findings:
        if finding.fault in faults:
            for name in finding.structure.split("+"):
                cases[name].add(finding.case)
    return {name: frozenset(there) for name, there in cases.items()}


# --- files --------------------------------------------------------------------------------------------

Pairs = dict[str, tuple[tuple[Path, ...], Path]]


def table_pairs(
    cases: Path, labels: Path | None, settings: str
) -> tuple[Pairs, dict[str, int], int]:
    """Read the files of a case table: pairs, structures and the number of channels.

    Parameters
    ----------
    cases
        Case table of the dataset.
    labels
        Folder of repaired labels, in place of those delivered; None where there are none.
    settings
        The cohort's settings, as JSON.

    Returns
    -------
    pairs : dict
        Case -> (image files, label file).
    structures : dict
        Name -> label value.
    channels : int
        Channels of an image.
    """
    cohort = from_json(Cohort, settings)
    chosen = repaired_labels(read_cases(cases), labels)
    pairs = {case.case: (case.images, case.label) for case in chosen}
    return pairs, dict(cohort.structures), len(cohort.channels)


def folder_pairs(images: Path, labels: Path, structures: str) -> tuple[Pairs, dict[str, int], int]:
    """Pair a folder of images of one channel with a folder of labels of the same names.

    Parameters
    ----------
    images, labels
        The folders.
    structures
        JSON {name: value}.

    Returns
    -------
    pairs : dict
        Case -> (image files, label file).
    structures : dict
        Name -> label value.
    channels : int
        1.

    Raises
    ------
    InputError
        For unusable `structures`, and for a file without its other half.
    """
    try:
        given = parse_json(structures, "--structures")
        values = {str(name): int(value) for name, value in given.items()}
    except (ValueError, OverflowError, TypeError, AttributeError):
        values = {}
    if not values or min(values.values()) < 1:
        raise InputError(
            f"--structures: found {structures!r}; expected JSON {{name: value}}, values above 0"
        )
    files = {}
    for folder in (images, labels):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        inside = [path for path in sorted(folder.iterdir()) if path.is_file() and is_image(path)]
        files[folder] = {stem(path): path for path in inside}
    alone = sorted(files[images].keys() ^ files[labels].keys())
    if alone:
        missing = labels if alone[0] in files[images] else images
        raise InputError(
            f"{missing}: no file {alone[0]}; expected images and labels of equal names"
        )
    if not files[images]:
        raise InputError(f"{images}: no image file in this folder")
    return (
        {name: ((files[images][name],), files[labels][name]) for name in files[images]},
        values,
        1,
    )


def audit_files(
    pairs: Pairs,
    structures: Mapping[str, int],
    channels: int,
    ignore: Collection[int] = (),
    controls: bool = False,
) -> list[LabelFinding]:
    """Audit files; a file that cannot be read, or that lies on another grid, is a finding too.

    Parameters
    ----------
    pairs
        Case -> (image files, label file).
    structures
        Name -> label value.
    channels
        Channels of an image.
    ignore
        Values of voxels that nobody has labelled. A case with some is not judged, since the form of
        its structures is unknown.
    controls
        Whether a label without any structure is a healthy control, and no error.
    """
    described, unreadable, unknown, healthy = [], [], 0, 0
    apart = -(-len(pairs) // SIMULATED_CASES)
    for index, (case, (images, label_file)) in enumerate(
        progress(sorted(pairs.items()), "cases described")
    ):
        try:
            label, image = read_label(label_file), read_image(images, channels)
            difference = compare_grids(image.grid, label.grid)
            if difference:
                raise InputError(
                    f"{label_file.name}: other grid than {images[0].name}: {difference}"
                )
            if not np.isfinite(image.array).all():
                raise InputError(f"{images[0].name}: voxels that are not finite")
        except InputError as error:
            unreadable.append(
                LabelFinding(
                    case, "", "unreadable", _without_folder(str(error), *images, label_file), 1.0
                )
            )
        else:
            if ignore and np.isin(label.array, list(ignore)).any():
                unknown += 1
                continue
            if controls and not np.isin(label.array, list(structures.values())).any():
                healthy += 1
                continue
            described.append(extract_features(case, image, label, structures, index % apart == 0))
    if unknown:
        log.warning("%d cases hold voxels that nobody has labelled: not judged", unknown)
    if healthy:
        log.info("%d cases hold no structure: taken for healthy controls", healthy)
    if len(described) < SMALLEST_COHORT:
        log.warning(
            "%d cases: too few to say what is usual (%d are needed); only empty structures, pieces, "
            "holes and cuts are looked for",
            len(described),
            SMALLEST_COHORT,
        )
    elif len(described) < FORM_COHORT:
        log.warning(
            "%d cases: too few to say which form is usual (%d are needed); missing parts, outlines and "
            "sizes are not looked for",
            len(described),
            FORM_COHORT,
        )
    findings = sorted(
        unreadable + audit(described), key=lambda finding: (finding.case, -finding.score)
    )
    for finding in findings:
        log.info("%s: %s %s: %s", finding.case, finding.structure, finding.fault, finding.evidence)
    cases = len({finding.case for finding in findings})
    log.info("%d of %d cases have findings, %d in all", cases, len(pairs), len(findings))
    return findings


def _without_folder(text: str, *files: Path) -> str:
    """Shorten the files in a message to their names: a result names no folder of this machine."""
    for file in files:
        text = text.replace(str(file), file.name)
    return text
