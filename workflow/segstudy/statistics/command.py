"""`segstudy statistics`: summarise a table of metrics and compare the models in it."""

import argparse
from dataclasses import fields
from pathlib import Path

EXAMPLE = """
The table is that of `segstudy metrics`, or any CSV with the columns model, case, structure,
metric, value (empty: no prediction; inf: infinite) and, if there are any, subject, dataset, fold,
seed, n_reference_voxels, n_predicted_voxels; or with a column a metric in place of metric and value.
Without subject each case is taken as one:
  segstudy statistics --metrics metrics.csv --output statistics/
With settings other than the defaults:
  segstudy statistics --metrics metrics.csv --output statistics/ \\
    --settings '{"metrics": ["dice", "nsd"], "alpha": 0.01, "correction": "benjamini_hochberg"}'
By subgroups, from a table with a column participant_id, subject or case, and a column each of age and sex:
  segstudy statistics --metrics metrics.csv --output statistics/ --participants participants.tsv \\
    --settings '{"subgroups": {"sex": "values", "age": [40, 65]}}'
With a metric that segstudy does not know, of which lower values are better:
  segstudy statistics --metrics metrics.csv --output statistics/ \\
    --settings '{"directions": {"my_error": "lower"}}'
Results of other programs, each with its model's name: summary.json of nnU-Net, or the raw table of
a metric by MONAI (mean_dice_raw.csv):
  segstudy statistics --metrics ours=fold_0/summary.json theirs=other/summary.json \\
    --output statistics/ --settings '{"metrics": ["dice", "iou"]}'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `segstudy statistics`."""
    parser.epilog = EXAMPLE
    parser.add_argument(
        "--metrics",
        nargs="+",
        required=True,
        help="tables of metrics (.csv), or MODEL=FILE: a summary.json of nnU-Net, a table of MONAI",
    )
    parser.add_argument("--settings", default="{}", help="JSON, or @FILE: `statistics` of a study")
    parser.add_argument(
        "--plugin",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files that describe metrics of your own, as in `segstudy metrics --plugin`",
    )
    parser.add_argument(
        "--participants",
        nargs="+",
        default=[],
        metavar="[DATASET=]FILE",
        help="tables of subjects for `subgroups` of the settings, a row a subject or case (.tsv, .csv); writes subgroups.csv and "
        "subgroup_tests.csv too",
    )
    parser.add_argument(
        "--raters",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models of the tables that are a second reader's labels: in summary.csv and no comparison; cases that they did not draw "
        "are left out",
    )
    parser.add_argument(
        "--grid", default=None, help="JSON, or @FILE: the grids of a study; writes grid.csv too"
    )
    parser.add_argument(
        "--train", type=Path, metavar="DIR", help="folder of the trainings, with --grid"
    )
    parser.add_argument(
        "--quality",
        metavar="JSON",
        help="in place of the comparison: estimate the quality of the predictions without their references, QualitySettings as "
        "JSON; writes cases.csv, summary.csv and, for new scans, MODEL.json",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for values.csv, summary.csv, tests.csv, verdicts.csv, ranking.csv, places.csv, "
        "false_positives.csv, false_positive_tests.csv, report.md",
    )


def run(options: argparse.Namespace) -> None:
    """Read the tables, compare the models, and write tables and report; or estimate the quality of predictions."""
    if options.quality:
        _estimate_quality(options)
    else:
        _compare(options)


def _estimate_quality(options: argparse.Namespace) -> None:
    import importlib

    from segstudy.cases import read_cases, read_splits, repaired_labels
    from segstudy.files import write_json, write_table, writing_folder
    from segstudy.log import log
    from segstudy.quality.calibration import to_record
    from segstudy.study import QualitySettings, from_json

    settings = from_json(QualitySettings, options.quality)
    # By name, so that an edit to it is no change of the comparison.
    quality = importlib.import_module("segstudy.statistics.quality")
    predictions = quality.Predictions(
        settings.predictions,
        settings.models,
        {name: dataset.structures for name, dataset in settings.datasets.items()},
        {
            name: repaired_labels(read_cases(dataset.cases), dataset.labels)
            for name, dataset in settings.datasets.items()
        },
        read_splits(settings.splits),
        {name: dataset.channels for name, dataset in settings.datasets.items()},
    )
    found = quality.estimate(predictions, quality.read_measured(options.metrics))
    with writing_folder(options.output) as folder:
        write_table(folder / "cases.csv", found.cases)
        write_table(folder / "summary.csv", found.summary)
        for model, calibration in found.calibrations.items():
            write_json(folder / f"{model}.json", to_record(calibration))
            if calibration.reason:
                log.warning("%s: no intervals: %s", model, calibration.reason)


def _compare(options: argparse.Namespace) -> None:
    from segstudy import metric_plugins
    from segstudy.errors import InputError
    from segstudy.files import check_folder_name, write_table, write_text
    from segstudy.log import log
    from segstudy.statistics.analysis import analyse
    from segstudy.statistics.completion import unnamed_subjects
    from segstudy.statistics.grid_search import grid_table, read_trainings
    from segstudy.statistics.importers import read_tables
    from segstudy.statistics.report import about_subgroups, about_subjects, report
    from segstudy.statistics.subgroups import participants_of, subgroups
    from segstudy.study import GridSettings, Statistics, from_json
    from segstudy.words import count

    check_folder_name(options.output)
    metric_plugins.register(options.plugin)
    settings = from_json(Statistics, options.settings)
    grid = from_json(GridSettings, options.grid) if options.grid else None
    if grid and not options.train:
        raise InputError("--train is missing; --grid needs the folder of the trainings")
    if bool(settings.subgroups) != bool(options.participants):
        raise InputError(
            "--participants and `subgroups` of --settings need each other: the tables of subjects, and the columns of "
            "them that make groups"
        )
    runs = read_tables(options.metrics, settings.directions)
    analysis = analyse(runs, settings, options.raters)
    groups = None
    if settings.subgroups:
        participants = participants_of(analysis.values, options.participants)
        groups = subgroups(analysis.values, participants, settings)
    unnamed = unnamed_subjects(runs[~runs["model"].isin(options.raters)])
    if unnamed[0]:
        log.warning("%s", about_subjects(*unnamed))
    for table in fields(analysis):
        write_table(options.output / f"{table.name}.csv", getattr(analysis, table.name))
    text = report(analysis, settings, about_subjects(*unnamed))
    if groups:
        for name in ("subgroups", "subgroup_tests"):
            write_table(options.output / f"{name}.csv", getattr(groups, name))
        text += "\n" + about_subgroups(groups, settings)
    write_text(options.output / "report.md", text)
    if grid:
        trainings = read_trainings(options.train, grid)
        write_table(options.output / "grid.csv", grid_table(grid, analysis.values, trainings))
    models = analysis.values["model"].nunique()
    log.info(
        "%s of %s",
        count((analysis.tests["test"] != "").sum(), "comparison"),
        count(models, "model"),
    )
