"""The report used as a reader uses it, in Chromium driven by Playwright: points, cases, slices, keys."""

import base64
import csv
import gzip
import io
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from segstudy.publish import viewer
from segstudy.publish.report import write_report
from segstudy.publish.viewer import write_viewer

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
AXE = Path(__file__).resolve().parents[3] / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def driver():
    if BROWSER is None:
        pytest.skip("no browser: install chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(driver):
    browser = driver.chromium.launch(executable_path=BROWSER, args=list(SWITCHES))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(plain, figures_folder) -> Path:
    path = figures_folder.parent / "report.html"
    write_report(plain, figures_folder, path)
    return path


@pytest.fixture
def page(browser, report):
    """The report, opened; afterwards nothing may have been said on the console or asked of a network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(600_000)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    outside = [url for url in asked if not url.startswith(("data:", "blob:", report.as_uri()))]
    context.close()
    assert said == []
    assert outside == []


def test_slices_of_a_large_report_are_fetched_when_their_case_is_shown(
    browser, plain, figures_folder
):
    path = figures_folder.parent / "fetching" / "report.html"
    write_report(plain, figures_folder, path, most_bytes=1000)
    page = browser.new_page()
    page.set_default_timeout(600_000)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    scripts = lambda: [url for url in asked if url.endswith(".js")]  # noqa: E731
    _wait(page, "document.querySelectorAll('#explorer svg.flicker').length === 2")
    assert len(scripts()) == 1
    page.locator("#explorer button[data-go=next]").click()
    _wait(page, "document.querySelectorAll('#explorer path.line').length > 0")
    assert len(scripts()) == len(set(scripts())) == 2
    page.locator("#explorer button[data-go=previous]").click()
    assert page.locator("#explorer svg.flicker").count() == 2
    assert len(scripts()) == 2
    folder = figures_folder.parent.as_uri()
    assert all(url.startswith((folder, "data:")) for url in asked)
    page.close()
    assert said == []


def _chosen(page) -> dict:
    return page.evaluate(
        "() => Object.fromEntries(['case', 'structure', 'model', 'metric'].map("
        "(name) => [name, document.querySelector(`#explorer select[name=${name}]`).value]))"
    )


def _wait(page, condition: str, times: int = 100) -> None:
    """Until the condition holds; Playwright's own waiting needs eval, which the page forbids."""
    for _ in range(times):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def test_a_click_on_a_point_opens_its_case(page, plain, figures_folder):
    name = "results-thorax-hd95_mm"
    markers = json.loads((figures_folder / "layers.json").read_text())["markers"][name]
    values = plain.values("thorax", "hd95_mm")
    assert len(markers) == len(values)  # infinite cases too
    svg = page.locator(f"#figure-{name} svg.markers")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    at = np.array([marker[:2] for marker in markers])
    # The point that is farthest from all others, so that there is no doubt which one is meant.
    far = [np.sort(np.linalg.norm(at - one, axis=1))[1] for one in at]
    x, y, case, structure, model, text = markers[int(np.argmax(far))]
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    tip = page.locator(".tip").inner_text()
    assert case in tip
    assert model in tip
    assert text in tip
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    assert _chosen(page) == {
        "case": case, "structure": structure, "model": model, "metric": "hd95_mm",
    }  # fmt: skip
    assert f"#case/thorax/{case}/{structure}/{model}" in page.url
    _wait(page, "document.getElementById('cases').getBoundingClientRect().top < 60")
    shown = page.locator("#explorer .shot")
    assert shown.count() == len(plain.study.models)
    row = values.set_index(["case", "structure", "model"]).loc[(case, structure, model), "value"]
    place = list(plain.study.models).index(model)
    cells = shown.nth(place).locator("tr.chosen td").all_inner_texts()
    assert ("∞" if np.isinf(row) else f"{row:.2f}") in cells
    page.go_back()
    assert "#case" not in page.url


def test_points_can_be_reached_by_keyboard(page):
    svg = page.locator("#figure-results-thorax-dice svg.markers")
    svg.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.locator(".tip").inner_text()
    page.keyboard.press("Enter")
    # The page follows its address, which takes a moment.
    case = json.dumps(said.split(" ")[0])
    _wait(page, f"document.querySelector('#explorer select[name=case]').value === {case}")
    _wait(page, "document.activeElement.id === 'explorer'")
    assert said.startswith(_chosen(page)["case"])
    assert page.evaluate("document.activeElement.id") == "explorer"


def test_the_slider_shows_another_slice_of_every_model(page, plain):
    slider = page.locator("#explorer input[name=slice]")
    images = "() => [...document.querySelectorAll('#explorer svg image')].map((one) => one.getAttribute('href'))"
    first = page.evaluate(images)
    assert len(first) == len(plain.study.models)
    assert len(set(first)) == 1  # the same slice for all
    place = int(slider.input_value())
    slider.focus()
    page.keyboard.press("ArrowRight" if place < int(slider.get_attribute("max")) else "ArrowLeft")
    second = page.evaluate(images)
    assert len(set(second)) == 1
    assert second[0] != first[0]
    assert "axial slice" in page.locator("#explorer output").inner_text()


def test_keys_walk_from_case_to_case_and_flicker(page, plain):
    explorer = page.locator("#explorer")
    worst = plain.values("thorax", "dice").query("model == 'enet'").groupby("case")["value"].mean()
    assert _chosen(page)["case"] == worst.idxmin()
    explorer.focus()
    page.keyboard.press("]")
    assert _chosen(page)["case"] == worst.sort_values().index[1]
    page.keyboard.press("[")
    assert _chosen(page)["case"] == worst.idxmin()
    page.locator("button[data-go=best]").click()
    assert _chosen(page)["case"] == worst.idxmax()
    explorer.focus()
    page.keyboard.press("f")
    classes = page.evaluate(
        "() => [...document.querySelectorAll('#explorer svg')].map((one) => one.getAttribute('class'))"
    )
    assert all("image" in one for one in classes)


def test_the_main_table_sorts_filters_and_downloads(page, plain):
    table = page.locator("#main-thorax")
    assert "grouped" in table.get_attribute("class")
    table.locator("thead button", has_text="Dice").click()
    values = table.locator("td[data-metric=dice]").evaluate_all(
        "(cells) => cells.map((cell) => Number(cell.dataset.value))"
    )
    assert values == sorted(values)
    assert "grouped" not in table.get_attribute("class")
    page.locator("input[data-filter=main-thorax]").fill("aorta")
    assert table.locator("tbody tr:visible").count() == len(plain.study.models)
    with page.expect_download() as waiting:
        page.locator("button[data-csv=main-thorax]").click()
    rows = list(csv.reader(Path(waiting.value.path()).read_text().splitlines()))
    saved = sorted(float(row[2]) for row in rows[1:])
    means = plain.summary.query("metric == 'dice'")["mean"]
    assert saved == sorted(means)


def test_a_phone_needs_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.evaluate(
        "() => [...document.querySelectorAll('#explorer *')].filter((one) => !one.closest('svg'))"
        ".filter((one) => one.getBoundingClientRect().right > 391).map((one) => one.outerHTML.slice(0, 90))"
    )
    assert wide == []


def test_it_prints(page, tmp_path):
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    data = (tmp_path / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") > 5 or len(data) > 100_000


def test_axe_finds_nothing_serious(browser, report):
    if not AXE.is_file():
        pytest.skip("no axe-core: npm install --no-save axe-core@4.11.0")
    # axe is injected, which the page's own policy rightly forbids.
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(600_000)
    page = context.new_page()
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    page.add_script_tag(path=AXE)
    found = page.evaluate("async () => (await axe.run()).violations")
    context.close()
    serious = [
        (one["id"], one["nodes"][0]["html"][:200], len(one["nodes"]))
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_without_images_the_values_are_still_there(browser, plain, figures_folder, tmp_path):
    write_report(plain, figures_folder, tmp_path / "report.html", images=False)
    context = browser.new_context()
    context.set_default_timeout(600_000)
    page = context.new_page()
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("#explorer svg").count() == 0
    assert page.locator("#explorer table.values").count() == len(plain.study.models)
    page.locator("#explorer").focus()
    page.keyboard.press("]")
    page.keyboard.press(".")
    context.close()
    assert said == []


def test_the_viewer_shows_a_case_in_webgl_from_the_disk(driver, plain, tmp_path):
    """NiiVue with software WebGL: it loads, it draws, and it asks for files of its folder alone."""
    write_viewer(plain, tmp_path / "viewer")
    switches = [one for one in SWITCHES if one != "--disable-gpu"]
    switches += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    browser = driver.chromium.launch(executable_path=BROWSER, args=switches)
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.set_default_timeout(600_000)
    said, asked = [], []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "viewer/index.html").as_uri())
    if not page.evaluate("!!document.createElement('canvas').getContext('webgl2')"):
        pytest.skip("this browser has no WebGL 2")
    _wait(page, "document.getElementById('state').textContent !== 'Loading'", 400)
    state = page.locator("#state").inner_text()
    page.locator("#label").select_option("enet")
    _wait(page, "document.getElementById('state').textContent.endsWith('enet')", 400)
    page.wait_for_timeout(500)
    picture = page.locator("canvas").screenshot()
    browser.close()
    assert state.startswith("thorax/")
    assert said == []
    folder = (tmp_path / "viewer").as_uri()
    assert not [url for url in asked if not url.startswith((folder, "data:", "blob:"))]
    colours = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 100  # an image, not an empty canvas


def test_volumes_of_the_viewer_lie_where_the_files_lie(plain):
    case = viewer.chosen(plain, "thorax")[0][1]
    held = viewer.volumes(plain, "thorax", case)
    found = nibabel.Nifti1Image.from_bytes(
        gzip.decompress(base64.b64decode(held["labels"]["reference"]))
    )
    label = nibabel.load(plain.references("thorax")[case].label)
    for value in (1, 2):
        centres = [
            nibabel.affines.apply_affine(
                one.affine, np.argwhere(np.asarray(one.dataobj) == value).mean(axis=0)
            )
            for one in (found, label)
        ]
        np.testing.assert_allclose(*centres, atol=1e-4)
