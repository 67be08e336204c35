"""`segstudy metrics`: compare predictions with references."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segstudy.errors import InputError
from segstudy.files import parse_json

if TYPE_CHECKING:
    from segstudy.study import MeasureSettings

EXAMPLE = """
A pair of files, or two folders whose files have the same names; every label value is measured:
  segstudy metrics --reference labels/ --prediction predictions/ --output metrics.csv
With named structures, another tolerance and another definition of the surface:
  segstudy metrics --reference a.nii.gz --prediction b.nii.gz --output metrics.csv \\
    --settings '{"structures": {"heart": 2, "aorta": 4}, "metrics": {"nsd_tolerance_mm": [1, 3], "surface": "surfel"}}'
Predictions in a label scheme of their own, and what of it is not to be measured:
  segstudy metrics --reference labels/ --prediction predictions/ --output metrics.csv \\
    --settings '{"structures": {"liver": 1}, "prediction_labels": {"liver": [5, 6]}, "background_labels": "all"}'
References with voxels that nobody has labelled, which count as nothing:
  segstudy metrics --reference labels/ --prediction predictions/ --output metrics.csv \\
    --settings '{"structures": {"liver": 1}, "ignore": 255}'
Left and right structures apart and merged, what has the wrong side, and what was taken for what:
  segstudy metrics --reference labels/ --prediction predictions/ --output metrics.csv \\
    --confusion confusion.csv --settings '{"structures": {"left_putamen": 12, "right_putamen": 51},
    "left_right_pairs": [["left_putamen", "right_putamen"]]}'
With the counts, Dice and IoU as nnU-Net's summary.json, for programs that read that:
  segstudy metrics --reference labels/ --prediction predictions/ --output metrics.csv \\
    --summary-json predictions/summary.json
Lesion by lesion, by the rules of BraTS 2023, with a row a lesion; and further metrics:
  segstudy metrics --reference labels/ --prediction predictions/ --output metrics.csv --instances instances.csv \\
    --settings '{"structures": {"tumour": 1}, "metrics": {"lesions": "brats2023", "extra": ["volume_difference_ml"]}}'
With a metric of your own, which a file describes and measures:
  segstudy metrics --reference labels/ --prediction predictions/ --output own_metrics.csv \\
    --plugin surface_bias.py
Tables of several models, one below the other, for `segstudy statistics`:
  segstudy metrics --collect a.csv b.csv --output metrics.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `segstudy metrics`."""
    parser.epilog = EXAMPLE
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--reference", type=Path, help="label map, or folder of label maps")
    source.add_argument("--cases", type=Path, help="case table of a study's dataset")
    source.add_argument("--collect", type=Path, nargs="+", help="tables to join")
    parser.add_argument("--prediction", type=Path, help="label map, or folder of label maps")
    parser.add_argument("--output", type=Path, required=True, help="table to write (.csv)")
    parser.add_argument("--summary-json", type=Path, help="also write nnU-Net's summary.json there")
    parser.add_argument(
        "--confusion",
        type=Path,
        help="also write which structure was predicted as which, in voxels",
    )
    parser.add_argument(
        "--probabilities",
        type=Path,
        metavar="FOLDER",
        help="class probabilities, CASE.npz as nnU-Net writes them: Brier score and calibration error are measured too",
    )
    parser.add_argument(
        "--instances",
        type=Path,
        help="also write a row a lesion there; needs lesions in the metrics of --settings",
    )
    parser.add_argument(
        "--collect-instances",
        type=Path,
        nargs="+",
        default=[],
        help="with --collect: tables of lesions to join into --instances",
    )
    parser.add_argument(
        "--settings",
        default="{}",
        help="JSON, or @FILE: structures, left_right_pairs, metrics, prediction_labels, background_labels, ignore",
    )
    parser.add_argument(
        "--plugin",
        nargs="+",
        default=[],
        metavar="FILE",
        help="metrics of your own (docs/plugins.md): FILE.py, FILE.py:NAME or MODULE:NAME",
    )
    parser.add_argument("--columns", default="{}", help="JSON: study, dataset, model, fold, seed")
    parser.add_argument("--labels", type=Path, help="folder of repaired labels")
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help="of all corrections: corrected cases are measured under the label before, unless all cases were reviewed, or all of "
        "a random sample",
    )
    parser.add_argument(
        "--corrections",
        type=Path,
        metavar="FILE.csv",
        help="also measure corrected cases there, under both labels",
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="FOLDER",
        help="with --corrections: predictions of the models from before the first correction",
    )
    parser.add_argument(
        "--drawn-only",
        action="store_true",
        help="with --cases: leave out cases without a prediction, which are no missing predictions where a second reader drew some cases",
    )
    parser.add_argument("--splits", type=Path, help="table of splits")
    parser.add_argument("--fold", type=int, help="the fold whose cases are measured")
    parser.add_argument("--dataset", help="the dataset whose cases are measured")
    parser.add_argument("--threads", type=int, default=1, help="cases measured at the same time")


def run(options: argparse.Namespace) -> None:
    """Measure predictions, or join tables, as the arguments say."""
    from segstudy.files import check_file_name
    from segstudy.metrics import pairs, table
    from segstudy.metrics.nnunet import write_summary
    from segstudy.study import MeasureSettings, from_json

    for path in (options.output, options.confusion, options.summary_json, options.instances):
        if path:
            check_file_name(path)  # now, not after hours
    if options.collect:
        table.collect(options.collect, options.output)
        if options.collect_instances and options.instances:
            table.collect_instances(options.collect_instances, options.instances)
        return
    if options.prediction is None:
        raise InputError("--prediction is missing: the label map or the folder to measure")
    settings = with_plugins(from_json(MeasureSettings, options.settings), options.plugin)
    if options.instances and not settings.metrics.lesions:
        raise InputError(
            '--instances: no lesions are measured; ask for them: --settings \'{"metrics": {"lesions": "panoptica"}}\''
        )
    if options.cases:
        for name in ("splits", "fold", "dataset"):
            if getattr(options, name) is None:
                raise InputError(f"--{name} is missing; --cases needs it")
        case_pairs = pairs.of_study(
            options.cases,
            options.labels,
            options.prediction,
            options.splits,
            options.fold,
            options.dataset,
            options.drawn_only,
        )
        are_old_counted = bool(options.records) and _are_old_labels_counted(options)
        if are_old_counted:
            case_pairs = pairs.uncorrected(case_pairs, options.cases, options.labels)
        labels = {}
    else:
        case_pairs = pairs.of_files(options.reference, options.prediction, settings.structures)
        labels = {
            "model": options.prediction.resolve().name
            if options.prediction.is_dir()
            else options.prediction.resolve().parent.name
        }
    if options.probabilities:
        case_pairs = pairs.with_probabilities(case_pairs, options.probabilities)
    labels |= _columns(options.columns)
    rows, confused, instances = pairs.measure_pairs(
        case_pairs, settings, labels, options.threads, audited=bool(options.cases)
    )
    table.write_measures(options.output, rows, bool(settings.ignore))
    if options.confusion:
        table.write_confusion(options.confusion, confused)
    if options.instances:
        table.write_instances(options.instances, instances)
    if options.corrections:
        _measure_corrected(options, settings, labels, rows, are_old_counted)
    if options.summary_json:
        structures = pairs.measured_structures(settings)
        write_summary(options.summary_json, case_pairs, rows, structures)


def _are_old_labels_counted(options: argparse.Namespace) -> bool:
    from segstudy import correction_records
    from segstudy.cases import read_cases

    cases = read_cases(options.cases)
    labels, _ = correction_records.headline_of(options.records, options.dataset, cases)
    return labels == correction_records.DELIVERED


def _measure_corrected(
    options: argparse.Namespace,
    settings: "MeasureSettings",
    labels: dict[str, object],
    measured: "list[dict[str, object]]",
    are_old_counted: bool,
) -> None:
    """Write the measurements of corrected cases under both labels; `measured` has those of the run under the labels that count."""
    from segstudy.metrics import corrected

    counted = corrected.DELIVERED if are_old_counted else corrected.CORRECTED
    tables = options.splits, options.cases, options.labels
    folders = {corrected.NOW: options.prediction, corrected.BEFORE: options.before}
    found = {
        (models, under): corrected.corrected_pairs(
            tables, options.fold, options.dataset, folder, under
        )
        for models, folder in folders.items()
        if folder is not None
        for under in corrected.LABELS
    }
    names = {pair.case for pair in found.pop((corrected.NOW, counted))}
    known = {(corrected.NOW, counted): [row for row in measured if row["case"] in names]}
    rows = corrected.measure_corrected(found, known, settings, labels, options.threads)
    corrected.write_corrected(options.corrections, rows, bool(settings.ignore))


def with_plugins(settings: "MeasureSettings", texts: list[str]) -> "MeasureSettings":
    """Return the settings with further metrics of plug-ins. Raises InputError for one that can't be read."""
    from segstudy import metric_plugins

    own = tuple(dict.fromkeys((*settings.metrics.plugins, *texts)))
    metric_plugins.register(own)
    metrics = settings.metrics.model_copy(update={"plugins": own})
    return settings.model_copy(update={"metrics": metrics})


def _columns(text: str) -> dict[str, object]:
    columns = parse_json(text, "--columns")
    known = ("study", "dataset", "model", "fold", "seed")
    if not isinstance(columns, dict) or set(columns) - set(known):
        raise InputError(f"--columns: found {text}; expected an object of {', '.join(known)}")
    return columns
