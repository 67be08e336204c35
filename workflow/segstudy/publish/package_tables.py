"""The tables of the zip: every measurement, and what each stage found, without paths and without times.

The same study gives the same tables, so that those of a rerun can be compared byte by byte.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas

from segstudy import prediction_files
from segstudy.files import write_json, write_table
from segstudy.images.data_files import voxel_files
from segstudy.log import log
from segstudy.package_files import DATA
from segstudy.participants import bids_tables, is_of_sessions
from segstudy.publish import redaction
from segstudy.publish.cohort import cohort_rows
from segstudy.publish.results import Results
from segstudy.study import BidsSource, PredictionsModel, TableSource
from segstudy.tables import MEASURED

INSTANCES = "instances.csv"
TABLES = {
    "metrics.csv": "every measurement: a row a case, structure and metric",
    INSTANCES: "lesion by lesion: found, missed or false, with volume, overlap and place",
    "confusion.csv": "voxels of each structure by the structure predicted, a case",
    "values.csv": "the values that are compared, one a case, structure and model",
    "summary.csv": "means, medians and their intervals",
    "tests.csv": "comparisons of models, and of datasets",
    "verdicts.csv": "the verdict on each comparison, with intervals and margin",
    "subgroups.csv": "each model by groups of subjects",
    "subgroup_tests.csv": "comparisons of these groups",
    "quality_cases.csv": "how good each held-out prediction looks without its reference, and how good it is",
    "quality_summary.csv": "how often these estimates held, and whether they put the worst predictions last",
    "cohort.csv": "who was studied: Table 1",
    "ranking.csv": "mean ranks",
    "places.csv": "how often a model comes in at a place when subjects are resampled",
    "false_positives.csv": "how often a structure is found that the reference lacks",
    "false_positive_tests.csv": "comparisons of these",
    "grid.csv": "the models of each grid search, and which was chosen",
    "splits.csv": "the fold of each case",
    "cases.csv": "the cases that passed the audit: size, voxel size, voxels of each structure",
    "audit.csv": "what the audit found in the files",
    "label_faults.csv": "labels that do not fit their cohort",
    "repair_transforms.json": "the transform that put labels back, and its evidence",
    "repair_attempts.csv": "the methods that looked for it",
    "repair_sweep.csv": "agreement by angle",
    "repair_verdicts.csv": "the verdict on each case's label",
    "label_chain.csv": "each label of a dataset that was reviewed as delivered, as repaired and as corrected: checksums, who, when, why",
    "corrections_means.csv": "means under delivered and under corrected labels, side by side",
    "corrections_comparisons.csv": "comparisons of models under both",
    "corrections_ranks.csv": "ranks under both",
    "corrections_effects.csv": "what corrected test labels did, and what corrected training labels did",
    "corrections_changes.csv": "cases and voxels that corrections changed, by structure",
    "corrections_faults.csv": "the share of faulty labels, by strata, with exact intervals",
    "ratings.csv": "grades that readers gave predictions, by model and rater",
    "ratings_agreement.csv": "how far raters agree",
    "ratings_dice.csv": "Dice of the predictions of each grade",
    "training.csv": "loss and Dice of each epoch of each training",
    DATA: "SHA-256 and size of each file of the data, and of predictions that were there already",
}
"""File -> what it holds. `statistics/` may have further ones."""
RUN = ("model", "fold", "seed")
"""Columns of `training.csv` before those of a history."""
CONFUSION = ("dataset", *RUN, "case", "reference", "prediction", "n_voxels")
AUDIT = ("case", "file", "problem", "verdict")
CHECKSUMS = ("case", "file", "n_bytes", "sha256")
"""Columns of `data.csv` after `dataset`; summed up, it has no `case`."""


def write_tables(results: Results, folder: Path, anonymous: bool) -> None:
    """Write the tables of a study.

    Parameters
    ----------
    results
        Of the study.
    folder
        To write to.
    anonymous
        Whether cases have numbers for names: the checksums of their files, which would tell them to all who
        have the data, are then summed up for each dataset.

    Raises
    ------
    InputError
        With the table of the results that is missing, and the stage that makes it.
    """
    study = results.study
    write_table(folder / "metrics.csv", results.all_metrics)
    if study.metrics.lesions:
        (folder / INSTANCES).write_bytes(results.instances.read_bytes())
    for path in sorted(Path(results.paths.statistics).glob("*.csv")):
        (folder / path.name).write_bytes(path.read_bytes())
    if study.statistics.quality:
        for name in ("cases", "summary"):
            content = Path(results.paths.quality, f"{name}.csv").read_bytes()
            (folder / f"quality_{name}.csv").write_bytes(content)
    write_table(folder / "cohort.csv", cohort_rows(results, anonymous))
    write_table(folder / "splits.csv", results.splits)
    write_table(folder / "confusion.csv", _confusion(results))
    trained = [
        results.history(*training)
        .drop(columns=[*MEASURED], errors="ignore")
        .assign(model=training[0], fold=training[1], seed=training[2])
        for training in results.trainings()
    ]
    if trained:
        table = pandas.concat(trained)
        write_table(
            folder / "training.csv", table[[*RUN, *table.columns.difference(RUN, sort=False)]]
        )
    repaired = [name for name, settings in study.datasets.items() if settings.repair]
    audited = [name for name, settings in study.datasets.items() if settings.audit_labels]
    _write(folder / "cases.csv", {name: _cases(results, name) for name in study.datasets})
    _write(
        folder / "audit.csv",
        {name: _audit(results, name) for name in study.datasets},
    )
    _write(folder / "label_faults.csv", {name: results.faults(name) for name in audited})
    _write(folder / "repair_verdicts.csv", {name: results.verdicts(name) for name in repaired})
    _write(folder / "repair_attempts.csv", {name: results.attempts(name) for name in repaired})
    _write(folder / "repair_sweep.csv", {name: results.sweep(name) for name in repaired})
    if results.corrections:
        for name, table in results.corrections["tables"].items():
            write_table(folder / f"corrections_{name}.csv", table)
    for name, table in (results.ratings or {}).items():
        file = "ratings.csv" if name == "ratings" else f"ratings_{name}.csv"
        write_table(folder / file, table)
    # It names cases, and who reviewed them.
    chains = {} if anonymous else results.label_chains()
    if chains:
        write_table(folder / "label_chain.csv", pandas.concat(chains.values()))
    if repaired:
        transforms = {name: results.transform(name) for name in repaired}
        write_json(folder / "repair_transforms.json", transforms)
    files = {
        name: pandas.DataFrame(
            _checksums(name, (*_data_files(results, name), *_delivered(results, name)))
        )
        for name in study.datasets
    }
    _write(
        folder / DATA,
        {name: _whole(table) if anonymous else table for name, table in files.items()},
    )


def data_checksums(results: Results, anonymous: bool) -> list[dict[str, object]]:
    """Return the rows of `data.csv` once the audit is done: those of the data, and of predictions that were there already.

    Which of these are tested is not known before they are read; they are there for any case. Where checksums are
    summed up, predictions are left out.

    Parameters
    ----------
    results, anonymous
        As `write_tables` has them.
    """
    rows = []
    for name in results.study.datasets:
        cases = {case.case: case.case for case in results.cases(name)}
        there = () if anonymous else _predicted(results, name, lambda *_, of=cases: of)
        table = pandas.DataFrame(_checksums(name, (*_data_files(results, name), *there)))
        for row in (_whole(table) if anonymous else table).to_dict("records"):
            rows.append({"dataset": name, **row})
    return rows


def input_tables(results: Results) -> dict[str, list[dict[str, object]]]:
    """Return what each table of cases and of subjects that the study was given is, with size and SHA-256, by dataset.

    Not in `data.csv`, by which a rerun elsewhere is compared: there the paths in a table of cases are others.
    """
    found: dict[str, list[dict[str, object]]] = {}
    for name in results.study.datasets:
        for role, path in _given_tables(results, name):
            size, digest = _digest(path)
            if not digest:
                log.warning(
                    "%s: %s: cannot be read any more, so its checksum is missing in the zip",
                    name,
                    role,
                )
                continue
            row = {"file": role, "n_bytes": size, "sha256": digest}
            found.setdefault(name, []).append(row)
    return found


def _given_tables(results: Results, dataset: str) -> Iterator[tuple[str, Path]]:
    """Yield role and path of each table of cases and of subjects that the user gave, or that came with the data."""
    settings = results.study.datasets[dataset]
    source = settings.source
    if isinstance(source, TableSource):
        yield "table of cases", Path(source.path)
    elif isinstance(source, BidsSource):
        for path in bids_tables(source.path or results.paths.raw(dataset)):
            yield f"table of {'sessions' if is_of_sessions(path) else 'participants'}", path
    if settings.participants:
        yield "table of participants", Path(settings.participants)


def _write(path: Path, of_datasets: dict[str, pandas.DataFrame]) -> None:
    """Write tables of datasets as one, the dataset first; texts that name a file are withheld. None is no file."""
    tables = []
    for name, table in of_datasets.items():
        if table.empty:
            continue
        told = table.drop(columns="dataset", errors="ignore").copy()
        for column in ("remark", "reason", "evidence"):
            if column in told and not pandas.api.types.is_numeric_dtype(told[column]):
                told[column] = told[column].map(redaction.stage_text)
        told.insert(0, "dataset", name)
        tables.append(told)
    if tables:
        write_table(path, pandas.concat(tables))


def _confusion(results: Results) -> pandas.DataFrame:
    """Return all tables of confusion as one, in the order of the study."""
    study = results.whole_study
    tables = [
        results.confusion_of(model, fold, seed, dataset).assign(
            dataset=dataset, model=model, fold=fold, seed=seed
        )
        for model, settings in study.models.items()
        for fold in study.folds
        for seed in settings.seeds
        for dataset in study.tested_datasets
    ]
    return pandas.concat(tables)[list(CONFUSION)]


def _audit(results: Results, dataset: str) -> pandas.DataFrame:
    return pandas.DataFrame(redaction.problems(results, dataset), columns=list(AUDIT))


def _cases(results: Results, dataset: str) -> pandas.DataFrame:
    rows = [
        {
            "case": case.case,
            "subject": case.subject,
            "same_image_as": case.same_image_as or "",
            "shape": "x".join(map(str, case.shape)),
            "spacing_mm": "x".join(f"{size:.6g}" for size in case.spacing_mm),
            **{f"voxels_{name}": voxels for name, voxels in case.voxels.items()},
        }
        for case in results.cases(dataset)
    ]
    return pandas.DataFrame(rows)


def _checksums(dataset: str, files: Iterable[tuple[str, str, Path]]) -> Iterator[dict[str, object]]:
    """Yield case, role, size and SHA-256 of each file as delivered, those that headers name too. files: case, role, path."""
    missing = 0
    for case, role, path in files:
        for part in (path, *voxel_files(path)):
            size, digest = _digest(part)
            missing += not digest
            what = role if part == path else f"{role}, voxels"
            yield dict(zip(CHECKSUMS, (case, what, size, digest), strict=True))
    if missing:
        log.warning(
            "%s: %d of its files cannot be read any more; their checksums are missing in the zip",
            dataset,
            missing,
        )


def _data_files(results: Results, dataset: str) -> Iterator[tuple[str, str, Path]]:
    """Yield case, role and path of each image and label."""
    for case in results.cases(dataset):
        several = len(case.images) > 1
        for channel, path in zip(results.study.channels, case.images, strict=False):
            yield case.case, f"image {channel}" if several else "image", path
        yield case.case, "label", case.label
        if case.delivered_label:
            yield case.case, "label before its correction", case.delivered_label
        if case.reference_label:
            yield case.case, "second label", case.reference_label


def _delivered(results: Results, dataset: str) -> Iterator[tuple[str, str, Path]]:
    """Yield case, role and path of each prediction that was there already, once where folds share it."""

    def read(model: str, fold: int, seed: int) -> dict[str, str]:
        files = Path(results.paths.predictions(model, fold, seed, dataset)).glob("*.nii.gz")
        # Under new names it links to the file with the case's own.
        return {
            name.removesuffix(".nii.gz"): own.removesuffix(".nii.gz")
            for name, own in ((path.name, path.resolve().name) for path in sorted(files))
        }

    return _predicted(results, dataset, read)


def _predicted(
    results: Results, dataset: str, cases: Callable[[str, int, int], Mapping[str, str]]
) -> Iterator[tuple[str, str, Path]]:
    """Yield case, role and path of predictions that were there already.

    cases: of a model, fold and seed: the case as it is told -> its own name.
    """
    study, told = results.whole_study, set()
    for name, model in study.models.items():
        if not isinstance(model, PredictionsModel):
            continue
        for fold, seed in itertools.product(study.folds, model.seeds):
            structures = study.datasets[dataset].structures
            found = prediction_files.found(model, structures, fold, seed)
            for case, own in cases(name, fold, seed).items():
                for structure, file in sorted(found.get(own, {}).items()):
                    parts = [f"prediction of {name}", structure]
                    parts += [f"fold {fold}"] * ("{fold}" in model.files)
                    parts += [f"seed {seed}"] * ("{seed}" in model.files)
                    if (name, file) not in told:
                        told.add((name, file))
                        yield case, ", ".join(filter(None, parts)), file


def _digest(path: Path) -> tuple[int | None, str]:
    """Return size and SHA-256 of a file; None and nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return path.stat().st_size, digest
    except OSError:
        return None, ""


def _whole(table: pandas.DataFrame) -> pandas.DataFrame:
    """Sum up a dataset's checksums: the SHA-256 of those of its files, sorted, a line each."""
    if table.empty:
        return table
    lines = "".join(f"{digest}\n" for digest in sorted(table["sha256"]))
    return pandas.DataFrame(
        {
            "file": [f"all {len(table)} files"],
            "n_bytes": [table["n_bytes"].sum()],
            "sha256": [hashlib.sha256(lines.encode()).hexdigest()],
        }
    )
