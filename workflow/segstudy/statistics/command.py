"""`segstudy statistics`: summarise a table of metrics and compare the models in it."""

import argparse
from pathlib import Path

EXAMPLE = """
The table is that of `segstudy metrics`, or any CSV with the columns model, case, structure,
metric, value (empty: undefined; inf: infinite) and, if there are any, dataset, fold, seed, subject,
n_reference_voxels, n_predicted_voxels; or with a column a metric in place of metric and value:
  segstudy statistics --metrics metrics.csv --output statistics/
With settings other than the defaults:
  segstudy statistics --metrics metrics.csv --output statistics/ \\
    --settings '{"metrics": ["dice", "nsd"], "alpha": 0.01, "correction": "benjamini_hochberg"}'
With a metric that segstudy does not know, of which lower values are better:
  segstudy statistics --metrics metrics.csv --output statistics/ \\
    --settings '{"directions": {"my_error": "lower"}}'
Results of other programs, each with its model's name: summary.json of nnU-Net, or the raw table of
a metric by MONAI (mean_dice_raw.csv):
  segstudy statistics --metrics ours=fold_0/summary.json theirs=other/summary.json \\
    --output statistics/ --settings '{"metrics": ["dice", "iou"]}'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument(
        "--metrics",
        nargs="+",
        required=True,
        help="tables of metrics (.csv), or MODEL=FILE: a summary.json of nnU-Net, a table of MONAI",
    )
    parser.add_argument("--settings", default="{}", help="JSON, or @FILE: `statistics` of a study")
    parser.add_argument(
        "--grid", default=None, help="JSON, or @FILE: the grids of a study; writes grid.csv too"
    )
    parser.add_argument(
        "--train", type=Path, metavar="DIR", help="folder of the trainings, with --grid"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for summary.csv, tests.csv, ranking.csv, places.csv, report.md",
    )


def run(options: argparse.Namespace) -> None:
    from segstudy.errors import InputError
    from segstudy.files import write_table, write_text
    from segstudy.log import log
    from segstudy.statistics.comparisons import compare
    from segstudy.statistics.foreign import read_tables
    from segstudy.statistics.grid import grid_table, read_trainings
    from segstudy.statistics.ranking import rank
    from segstudy.statistics.report import report
    from segstudy.statistics.summary import summarise
    from segstudy.statistics.values import per_case
    from segstudy.statistics.variance import split
    from segstudy.study import GridSettings, Statistics, from_json

    settings = from_json(Statistics, options.settings)
    grid = from_json(GridSettings, options.grid) if options.grid else None
    if grid and not options.train:
        raise InputError("--train is missing; --grid needs the folder of the trainings")
    runs = read_tables(options.metrics, settings.directions)
    values, spread = per_case(runs), split(runs)
    tests, (ranking, places) = compare(values, settings, spread), rank(values, settings)
    write_table(options.output / "summary.csv", summarise(values, settings, spread))
    write_table(options.output / "tests.csv", tests)
    write_table(options.output / "ranking.csv", ranking)
    write_table(options.output / "places.csv", places)
    write_text(options.output / "report.md", report(tests, ranking, settings))
    if grid:
        trainings = read_trainings(options.train, grid)
        write_table(options.output / "grid.csv", grid_table(grid, values, trainings))
    log.info("%d comparisons of %d models", len(tests), values["model"].nunique())
