"""The catalogue promises exactly the files that are drawn."""

import subprocess
import sys
from pathlib import Path

import builder

from segstudy.publish.catalogue import FORMATS, figures, files

REPOSITORY = Path(__file__).resolve().parents[3]


def test_every_promised_file_is_written_and_no_other(plain, figures_folder):
    written = sorted(path.name for path in figures_folder.iterdir())
    assert written == sorted(files(plain.study))
    assert all((figures_folder / name).stat().st_size > 0 for name in written)


def test_names_are_unique_and_follow_from_the_study_alone():
    settings = builder.study()
    names = [figure.name for figure in figures(settings)]
    assert len(names) == len(set(names))
    assert names == [figure.name for figure in figures(settings)]


def repair_kinds(**asked) -> set[str]:
    kinds = {figure.kind for figure in figures(builder.study(**asked))}
    return {kind.removeprefix("repair_") for kind in kinds if kind.startswith("repair_")}


def test_repair_figures_are_those_of_what_was_done():
    assert repair_kinds(repair=False) == set()
    assert repair_kinds() == {"overlay", "cases", "evidence", "sweep", "methods"}
    assert repair_kinds(repair="images") == {"cases", "evidence", "sweep"}


def test_a_metric_with_several_tolerances_gives_a_figure_each():
    settings = builder.study(
        metrics={"nsd_tolerance_mm": [1, 2.5]}, publish={"metrics": ["dice", "nsd"]}
    )
    drawn = [figure.metric for figure in figures(settings) if figure.kind == "results"]
    assert drawn == ["dice", "nsd_1mm", "nsd_2.5mm"]


def test_each_figure_has_a_caption_for_snakemakes_report():
    for figure in figures(builder.study()):
        caption = REPOSITORY / "workflow/report" / figure.caption_file
        assert caption.read_text(encoding="utf-8").strip(), caption
    assert (REPOSITORY / "workflow/report/workflow.rst").is_file()


def test_importing_the_catalogue_is_light():
    code = "import sys, segstudy.publish.catalogue; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"matplotlib", "pandas", "numpy", "nibabel", "scipy", "torch", "seaborn"}


def test_formats_are_those_that_journals_take():
    assert FORMATS == ("png", "svg", "pdf")
