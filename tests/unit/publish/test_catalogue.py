"""The catalogue promises exactly the files that are drawn."""

import html
import re
import string
import subprocess
import sys

import builder
import jinja2
from described_tables import header_of, undescribed
from docutils.core import publish_parts
from hypothesis import given
from hypothesis import strategies as st

from segstudy.files import read_json
from segstudy.publish.catalogue import CAPTIONS, figures, files
from segstudy.publish.drawing import restructured


def test_every_promised_file_is_written_and_no_other(plain, figures_folder):
    written = sorted(
        path.relative_to(figures_folder).as_posix()
        for path in figures_folder.rglob("*")
        if path.is_file()
    )
    assert written == sorted(files(plain.study))
    assert all((figures_folder / name).stat().st_size > 0 for name in written)


def test_names_are_unique_and_follow_from_the_study_alone():
    settings = builder.study()
    names = [figure.name for figure in figures(settings)]
    assert len(names) == len(set(names))
    assert names == [figure.name for figure in figures(settings)]


def test_figures_of_a_model_each_come_in_the_order_of_the_style():
    order = ["unet_3d", "enet", "unet_2d"]
    settings = builder.study(publish={"style": {"models": {"order": order}}})
    models = {
        name: model.model_copy(update={"trainer": "synth"})
        for name, model in settings.models.items()
    }
    shown = figures(settings.model_copy(update={"models": models}))
    for kind in ("cases", "synthesis"):
        assert [one.model for one in shown if one.kind == kind] == order


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
    drawn = [figure.metric.name for figure in figures(settings) if figure.kind == "results"]
    assert drawn == ["dice", "nsd_1mm", "nsd_2.5mm"]


def shown_by_snakemake(text: str) -> str:
    """The words of a caption file after Jinja and docutils, as Snakemake's report passes it on."""
    body = publish_parts(jinja2.Environment().from_string(text).render(), writer="html")["body"]
    assert "system-message" not in body, body
    return html.unescape(re.sub("<[^>]+>", "", body)).strip()


def test_every_column_of_every_figures_table_is_described(figures_folder):
    """On the page of tables, `docs/tables.md`."""
    tables = {f"figures/{path.name}": header_of(path) for path in figures_folder.glob("*.csv")}
    assert len(tables) > 20
    assert [told for one in tables.items() for told in undescribed(*one)] == []


def test_snakemakes_report_shows_the_captions_of_ours(plain, figures_folder):
    captions = read_json(figures_folder / CAPTIONS)
    assert len(captions) > 10
    for figure in figures(plain.study):
        text = (figures_folder / figure.caption).read_text(encoding="utf-8")
        words = captions[figure.name]
        shown = f"Figure {words['number']}. {words['caption']}"
        assert shown_by_snakemake(text) == shown, figure.name


@given(st.text(string.ascii_letters + string.punctuation + " é∞", min_size=1))
def test_no_caption_is_taken_for_markup(text):
    words = " ".join(text.split())
    assert " ".join(shown_by_snakemake(restructured(words)).split()) == words


def test_importing_the_catalogue_is_light():
    code = "import sys, segstudy.publish.catalogue; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"matplotlib", "pandas", "numpy", "nibabel", "scipy", "torch", "seaborn"}
