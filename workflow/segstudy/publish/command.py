"""`segstudy publish`: draw the figures, write the report, pack the files that go beside the paper."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `segstudy publish`."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    figures = steps.add_parser("figures", help="draw every figure (PNG, SVG, PDF, and its numbers)")
    report = steps.add_parser("report", help="write report.html, one file that needs no network")
    package = steps.add_parser("package", help="zip report, figures, tables and methods to publish")
    viewer = steps.add_parser("viewer", help="write a page that shows chosen cases in 3D")
    rating = steps.add_parser(
        "rating", help="write a page on which readers rate predictions, blinded to the model"
    )
    for step in (figures, report, viewer, rating, package):
        step.add_argument("--settings", required=True, help="the study, as JSON or @FILE")
        step.add_argument(
            "--results", required=True, type=Path, help="folder of the study's results"
        )
    figures.add_argument("--output", required=True, type=Path, help="folder of the figures")
    for step in (viewer, rating):
        step.add_argument("--output", required=True, type=Path, help="folder of the page")
    rating.add_argument(
        "--key", required=True, type=Path, help="table of whose predictions these are"
    )
    figures.add_argument("--threads", type=int, default=1, help="processes that cut slices")
    for step in (report, package):
        step.add_argument("--figures", required=True, type=Path, help="folder that `figures` wrote")
    report.add_argument("--output", required=True, type=Path, help="report.html")
    report.add_argument(
        "--reporting", type=Path, help="folder of checklists, model cards, methods and tables"
    )
    package.add_argument("--output", required=True, type=Path, help="the zip")
    package.add_argument(
        "--study-file", type=Path, help="study file that the user wrote, for the zip"
    )
    package.add_argument(
        "--with-images", action="store_true", help="keep what shows images of patients"
    )
    package.add_argument(
        "--anonymous", action="store_true", help="numbers for the names of cases and subjects"
    )


def run(options: argparse.Namespace) -> None:
    """Draw figures, or write report, package or viewer, as the arguments say."""
    from segstudy.publish.results import Results
    from segstudy.study import Study, from_json

    results = Results(from_json(Study, options.settings), options.results)
    if options.step == "figures":
        from segstudy.publish.drawing import draw_all

        draw_all(results, options.output, options.threads)
    elif options.step == "viewer":
        from segstudy.publish.viewer import write_viewer

        write_viewer(results, options.output)
    elif options.step == "rating":
        from segstudy.publish.rating import write_rating_page

        write_rating_page(results, options.output, options.key)
    elif options.step == "package":
        from segstudy.publish.package import write_package

        write_package(
            results,
            options.figures,
            options.output,
            options.with_images,
            options.anonymous,
            options.study_file,
        )
    else:
        from segstudy.publish.report import write_report
        from segstudy.publish.reporting import write_reporting

        if options.reporting:
            write_reporting(results, options.reporting)
        write_report(results, options.figures, options.output)
