"""The look that a study file gives: names, order, colours and sizes wherever a person reads."""

import re
from dataclasses import replace

import builder
import pytest
from matplotlib.text import Text
from test_figures import check_texts

from segstudy.publish import drawing, methods, style, tables
from segstudy.publish.catalogue import figures
from segstudy.publish.draw import parts
from segstudy.publish.drawing import draw, draw_all
from segstudy.publish.report import render
from segstudy.publish.results import Results
from segstudy.publish.svg_fonts import with_fonts
from segstudy.publish.views import ViewCache
from segstudy.study import Study

MODELS, STRUCTURES = ("xqa", "xqb", "xqc"), ("yqa", "yqb")
"""Names that stand in no sentence of ours."""
SHOWN = {
    "models": {
        "order": ["xqc", "xqa"],
        "names": {"xqa": "ENet", "xqb": "2D U-Net", "xqc": "3D U-Net"},
        "colours": {"xqc": "rebeccapurple"},
    },
    "structures": {
        "order": ["yqb"],
        "names": {"yqa": "Heart (with pericardium)", "yqb": "SN"},
        "colours": {"yqb": "#123456"},
    },
}


def with_style(results: Results, **chosen) -> Results:
    """The same results, shown in another style."""
    content = results.study.model_dump(exclude_defaults=True)
    content.setdefault("publish", {})["style"] = chosen
    return Results(Study.model_validate(content), results.root)


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Results:
    settings = builder.study(models=MODELS, structures=STRUCTURES)
    root = builder.build(tmp_path_factory.mktemp("named"), settings, cases=4)
    return with_style(Results(settings, root), **SHOWN)


@pytest.fixture(scope="module")
def named_figures(named, tmp_path_factory):
    folder = tmp_path_factory.mktemp("styled") / "figures"
    draw_all(named, folder)
    return folder


@pytest.fixture(scope="module")
def four_panels(tmp_path_factory) -> Results:
    structures = ("yqa", "yqb", "yqc", "yqd")
    settings = builder.study(models=MODELS, structures=structures, repair=False)
    return Results(settings, builder.build(tmp_path_factory.mktemp("panels"), settings, cases=4))


def own_names(text: str) -> list[str]:
    return re.findall("[xy]q[abc]", text, re.IGNORECASE)


def test_figures_show_the_given_names_and_their_tables_the_studys_own(named):
    viewer, seen = ViewCache(named), ""
    with style.paper(named.study.publish.style):
        for one in figures(named.study):
            drawing = draw(named, one, viewer)
            texts = [text.get_text() for text in drawing.figure.findobj(Text)]
            words = " ".join([*texts, drawing.title, drawing.caption, drawing.alt])
            assert own_names(words) == [], one.name
            seen += words
            if one.kind == "heatmap":
                assert set(drawing.table["model"]) == set(MODELS)
                assert set(drawing.table["structure"]) == set(STRUCTURES)
    for name in ("ENet", "2D U-Net", "3D U-Net", "SN", "pericardium"):
        assert name in seen


def test_the_report_shows_the_given_names(named, named_figures):
    page = render(named, named_figures, named_figures.parent / "report.html")
    body = page[page.index("<body>") :]
    for part in ("script", "pre", "style"):  # data for the page's own use, and the settings
        body = re.sub(f"<{part}.*?</{part}>", "", body, flags=re.DOTALL)
    labels = re.findall(r'(?:aria-label|alt|title)="([^"]*)"', body)
    assert own_names(re.sub("<[^>]+>", " ", body) + " ".join(labels)) == []
    text = " ".join(part for _, part in methods.methods(named))
    assert own_names(text) == []
    assert "SN and Heart (with pericardium)" in text
    assert text.count("a 3D U-Net [[cicek2016]]") == 1  # three networks that are alike
    assert all(one.name in page for one in figures(named.study))


def test_order_and_colours_are_those_given(named):
    look = named.look
    assert look.models == ["xqc", "xqa", "xqb"] and look.structures == ["yqb", "yqa"]
    rows = tables.main_tables(named)[0]["rows"]
    assert [row["model"] for row in rows[:3]] == look.models
    assert [row["structure"] for row in rows[::3]] == look.structures
    assert look.model_colours["xqc"] == "#663399" and look.structure_colours["yqb"] == "#123456"
    # Another order gives no model another colour.
    assert look.model_colours["xqa"] == style.model_colours(MODELS)["xqa"]
    handles = parts.model_handles(named, look.models)
    assert [one.get_label() for one in handles] == ["3D U-Net", "ENet", "2D U-Net"]


def test_a_colour_that_is_given_belongs_to_one_model(plain):
    first, second = style.model_colours(["enet", "unet_3d"]).values()
    look = with_style(plain, models={"colours": {"unet_3d": first}}).look
    assert look.model_colours == {"enet": second, "unet_3d": first.lower()}
    heart, aorta = style.structure_colours(["heart", "aorta"]).values()
    look = with_style(plain, structures={"colours": {"aorta": heart, "heart": aorta}}).look
    assert look.structure_colours == {"heart": aorta.lower(), "aorta": heart.lower()}


def test_figures_in_a_font_that_is_missing_here_are_drawn_in_the_plain_one(
    plain, tmp_path, monkeypatch, caplog
):
    results = with_style(plain, font="No Such Font")
    one = next(one for one in figures(results.study) if one.kind == "heatmap")
    monkeypatch.setattr("segstudy.publish.drawing.figures", lambda study: [one])
    draw_all(results, tmp_path / "figures")
    assert [record.message[:65] for record in caplog.records if record.levelname == "WARNING"] == [
        "publish.style.font: 'No Such Font' is not installed on this machi"
    ]
    svg = (tmp_path / f"figures/{one.name}.svg").read_text(encoding="utf-8")
    assert "No Such Font" not in svg and "DejaVu Sans" in svg


def test_without_a_style_names_order_and_colours_are_the_studys(plain):
    look = plain.look
    assert look.models == list(plain.study.models) == list(look.model_names.values())
    assert look.structures == plain.study.structures
    assert look.structure("heart") == "Heart" and look.in_text("left_lung") == "left lung"
    assert look.model_colours == style.model_colours(look.models)


@pytest.mark.parametrize(
    "chosen", [{"width_mm": 122}, {"width_mm": 183, "size_pt": 9}, {"font": "STIXGeneral"}], ids=str
)
def test_figures_fit_a_journals_width_at_its_size_of_text(plain, chosen):
    check_texts(with_style(plain, **chosen))


def test_a_font_that_is_not_installed_gives_the_figure_in_the_plain_one(plain, tmp_path, caplog):
    files = []
    for name, chosen in {"lacking": {"font": "No Such Font"}, "plain": {}}.items():
        results = with_style(plain, **chosen)
        one = next(one for one in figures(results.study) if one.kind == "heatmap")
        with style.paper(results.study.publish.style):
            style.save(draw(results, one, ViewCache(results)).figure, tmp_path / name, "svg")
        files.append((tmp_path / f"{name}.svg").read_bytes())
    assert files[0] == files[1] and b"@font-face" in files[0]
    assert "findfont" not in caplog.text


def test_figures_drawn_in_another_font_are_told_of(plain, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(drawing, "figures", lambda study: [])
    for chosen in ({}, {"font": "No Such Font"}):
        assert "No Such Font" not in caplog.text
        drawing.draw_all(with_style(plain, **chosen), tmp_path / f"{len(chosen)}")
    assert caplog.text.count("'No Such Font' is not installed on this machine") == 1


LONG_NAMES = {
    "words": (
        "Attention U-Net, deep supervision 1",
        "Residual encoder U-Net, full res. 2",
        "SwinUNETR with self-distillation, 3",
    ),
    "unbreakable": ("a" * 63 + "1", "8_" + "c" * 62, "D3kU" * 16),
}


@pytest.mark.parametrize("long", LONG_NAMES)
@pytest.mark.parametrize("chosen", [{"width_mm": 183, "size_pt": 8}, {"width_mm": 122}], ids=str)
def test_long_names_of_models_are_wrapped_and_leave_figures_readable(four_panels, long, chosen):
    names = dict(zip(MODELS, LONG_NAMES[long], strict=True))
    results = with_style(four_panels, models={"names": names}, **chosen)
    check_texts(results, {"ranking", "results", "training", "differences", "heatmap"})
    with style.paper(results.study.publish.style):
        for one in figures(results.study):
            if one.name in ("ranking-thorax-dice", "results-thorax-dice"):
                drawn = draw(results, one, ViewCache(results)).figure
                style.settle(drawn)
                # Names leave most of the width to what is plotted.
                shares = {}
                for panel in drawn.axes:
                    box = panel.get_position()
                    shares[round(box.y0, 3)] = shares.get(round(box.y0, 3), 0) + box.width
                assert min(shares.values()) > 0.5, one.name


def test_text_of_an_svg_is_text_with_its_font(named, named_figures):
    svg = (named_figures / "results-thorax-dice.svg").read_text(encoding="utf-8")
    words = [re.sub("<[^>]+>", "", text) for text in re.findall("<text.*?</text>", svg, re.DOTALL)]
    assert {"3D U-Net", "ENet", "2D U-Net", "Dice"} <= set(words)
    assert "SN (n\u00a0=\u00a04)" in words or "SN (n differs)" in words
    assert svg.count("@font-face") == 2  # plain and bold
    assert len(svg) < 200_000


def test_a_font_in_an_svg_holds_the_signs_that_it_needs():
    import base64
    import io

    from fontTools.ttLib import TTFont

    text = "<defs></defs><text style=\"font-size: 7px; font-family: 'DejaVu Sans'\">a∞&lt;</text>"
    packed = with_fonts(text)
    assert packed == with_fonts(text)
    font = TTFont(io.BytesIO(base64.b64decode(re.search(r"base64,([^)]*)\)", packed)[1])))
    assert set(map(chr, font.getBestCmap())) == {"a", "∞", "<"}


def test_formats_are_those_asked_for(plain, tmp_path):
    from PIL import Image

    results = with_style(plain, formats=["tiff"])
    one = next(one for one in figures(results.study) if one.kind == "heatmap")
    assert [name.rsplit(".", 1)[-1] for name in one.files] == ["png", "svg", "tiff", "csv"]
    with style.paper(results.study.publish.style):
        drawn = draw(results, one, ViewCache(results)).figure
        style.save(drawn, tmp_path / "figure", "tiff")
    with Image.open(tmp_path / "figure.tiff") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_figure_has_one_number_on_screen_in_print_and_in_the_zip(named, named_figures):
    output = named_figures.parent / "report.html"
    numbers = {}
    for images in (True, False):
        page = render(named, named_figures, output, images=images)
        found = re.findall(r'<figure id="figure-([^"]+)".*?<b>Figure (\d+)\.</b>', page, re.DOTALL)
        numbers[images] = {name: int(number) for name, number in found}
    everything = {one.name: one.number for one in figures(named.study)}
    assert list(numbers[True].items()) == list(everything.items())
    assert list(everything.values()) == list(range(1, len(everything) + 1))
    assert numbers[False].items() < numbers[True].items()


def test_the_first_figure_is_the_one_on_the_first_screen_and_medians_come_before_extremes():
    listed = figures(builder.study(other_site=True, pairs=[], repair=False))
    assert (listed[0].kind, listed[0].dataset) == ("results", "thorax")
    ranks = [one.rank for one in listed if one.kind == "surfaces" and one.dataset == "thorax"]
    assert ranks[0] == "median"
    assert replace(listed[0], number=7).files == listed[0].files
