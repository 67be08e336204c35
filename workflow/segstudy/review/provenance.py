"""One chain for every label: as delivered, as repaired, as corrected, with checksums and who did it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from segstudy.cases import Case, repaired_labels, uncorrected_labels
from segstudy.correction_records import Correction
from segstudy.files import file_checksum
from segstudy.images.checksum import label_checksum
from segstudy.images.files import read_label
from segstudy.review.differences import in_words

COLUMNS = (
    "dataset",
    "case",
    "step",
    "holds",
    "file",
    "file_sha256",
    "voxels",
    "who",
    "when",
    "why",
    "what",
)


def chain(
    dataset: str,
    cases: Sequence[Case],
    folder: Path | None,
    reviewed: Mapping[str, Correction],
    verdicts: Mapping[str, str],
) -> pd.DataFrame:
    """List what became of each label of a dataset, a row a step.

    Steps are `delivered`, `repaired` where the dataset is repaired, and an entry each of the case's record:
    `corrected`, `unchanged`, `taken back`. Of a dataset that is not repaired, cases that nobody reviewed are left out: their
    labels are those delivered.

    Parameters
    ----------
    dataset
        Name.
    cases
        Of the case table.
    folder
        Of repaired labels, if any.
    reviewed
        What is on record.
    verdicts
        Case -> the repair's verdict.

    Returns
    -------
    pandas.DataFrame
        Columns: `COLUMNS`. `holds`: whether it is the label that the study learns from; `voxels`: the digest
        `label_checksum`, the same for every format.
    """
    rows = []
    delivered = uncorrected_labels(cases, None)
    before = uncorrected_labels(cases, folder)
    now = repaired_labels(cases, folder)
    for case, first, repaired, last in zip(cases, delivered, before, now, strict=True):
        record = reviewed.get(case.case)
        if folder is None and record is None:
            continue
        steps = [("delivered", first.label, {})]
        if folder is not None:
            steps.append(("repaired", repaired.label, {"what": verdicts.get(case.case, "")}))
        corrected = case.delivered_label is not None
        for number, (step, file, more) in enumerate(steps):
            holds = not corrected and number == len(steps) - 1
            rows.append(_row(dataset, case.case, step, holds=holds, file=file, **more))
        rows += _of_record(dataset, case.case, record, last.label if corrected else None)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(dataset: str, case: str, step: str, *, holds: bool, file: Path, what: str = "") -> tuple:
    digests = file_checksum(file), label_checksum(read_label(file))
    return (dataset, case, step, holds, file.name, *digests, "", "", "", what)


def _of_record(
    dataset: str, case: str, record: Correction | None, holding: Path | None
) -> Iterable[tuple]:
    """Yield a row for each entry of a case's record."""
    for number, entry in enumerate(record.entries if record else ()):
        holds = holding is not None and number == len(record.entries) - 1
        what = in_words(entry["changed"]) if "changed" in entry else ""
        yield (
            *(dataset, case, entry["action"], holds, entry.get("file", "")),
            *(entry.get("new_file", ""), entry.get("new_voxels", "")),
            *(entry["who"], entry["when"], entry["why"], what),
        )
