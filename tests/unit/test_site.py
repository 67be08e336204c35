"""The pages as `make docs` has built them, in a real browser: nothing serious for axe, no sideways scrolling on a phone."""

import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = REPOSITORY / "docs/_build"
AXE = REPOSITORY / "node_modules/axe-core/axe.min.js"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PAGES = ("index", "first_report", "moved_label", "howto", "gallery", "formulas", "glossary")
"""One of each kind: the entry, pictures, wide tables, code, definitions."""


@pytest.fixture(scope="module")
def browser():
    if not (SITE / "index.html").is_file():
        pytest.skip("no pages: make docs")
    if BROWSER is None:
        pytest.skip("no browser: install chromium (Debian: apt-get install chromium)")
    switches = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=switches)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_for_everybody(browser, name, width):
    if not AXE.is_file():
        pytest.skip("no axe-core: npm install --no-save axe-core@4.11.0")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(600_000)
    page.goto((SITE / f"{name}.html").as_uri())
    page.add_script_tag(path=AXE)
    found = page.evaluate("async () => (await axe.run()).violations")
    wide = page.evaluate("document.documentElement.scrollWidth")
    broken = page.evaluate(
        "[...document.images].filter((one) => !one.naturalWidth).map((one) => one.src)"
    )
    cut = page.evaluate(
        "[...document.querySelectorAll('.table-wrapper')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    )
    page.close()
    serious = [
        (one["id"], one["nodes"][0]["html"][:200], len(one["nodes"]))
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert wide <= width
    assert broken == []
    assert not cut or width < 1000  # a wide screen shows tables whole
