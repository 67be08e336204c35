"""`segstudy publish`: draw the figures, write the report."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    figures = steps.add_parser("figures", help="draw every figure (PNG, SVG, PDF, and its numbers)")
    report = steps.add_parser("report", help="write report.html, one file that needs no network")
    for step in (figures, report):
        step.add_argument("--settings", required=True, help="the study, as JSON or @FILE")
        step.add_argument(
            "--results", required=True, type=Path, help="folder of the study's results"
        )
    figures.add_argument("--output", required=True, type=Path, help="folder of the figures")
    report.add_argument("--figures", required=True, type=Path, help="folder that `figures` wrote")
    report.add_argument("--output", required=True, type=Path, help="report.html")


def run(options: argparse.Namespace) -> None:
    from segstudy.publish.results import Results
    from segstudy.study import Study, from_json

    results = Results(from_json(Study, options.settings), options.results)
    if options.step == "figures":
        from segstudy.publish.drawing import draw_all

        draw_all(results, options.output)
    else:
        from segstudy.publish.report import write_report

        write_report(results, options.figures, options.output)
