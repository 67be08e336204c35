"""The report in a real browser: what moves, moves; nothing is loaded; a phone needs no sideways scrolling."""

import html
import json
import re
import shutil
import subprocess

import pytest

from segstudy.publish.report import render

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--virtual-time-budget=8000"),
)

# Loads the report into a frame of a phone's width and writes what it finds into the page.
WRAPPER = """<!doctype html><pre id="found"></pre>
<iframe id="frame" style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe>
<script>
frame.onload = () => {{
  const found = {{}};
  const view = frame.contentWindow, page = frame.contentDocument;
  try {{ ({probe})(found, view, page); }} catch (error) {{ found.failed = String(error.stack); }}
  found.errors = view.errors;
  found.loaded = view.performance.getEntriesByType("resource").map((one) => one.name)
    .filter((name) => !name.startsWith("data:") && !name.startsWith("about:"));
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>"""

WATCH = """<head><script>window.errors = [];
addEventListener("error", (event) => errors.push(String(event.message ?? event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", (event) => errors.push(event.blockedURI));
</script>"""


@pytest.fixture(scope="module")
def look(plain, figures_folder, tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no browser: install chromium (Debian: apt-get install chromium)")
    page = render(plain, figures_folder, figures_folder.parent / "report.html")
    page = page.replace("<head>", WATCH, 1)

    def look(probe: str, width: int = 1280) -> dict:
        folder = tmp_path_factory.mktemp("browser")
        text = WRAPPER.format(width=width, page=html.escape(page), probe=probe)
        (folder / "page.html").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000",
             "--dump-dom", (folder / "page.html").as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        content = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]
        assert content, done.stderr[-2000:]
        found = json.loads(html.unescape(content))
        assert "failed" not in found, found["failed"]
        assert found["errors"] == []
        assert found["loaded"] == []
        return found

    return look


@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scrolling(look, width):
    found = look(
        """(found, view, page) => {
          page.querySelectorAll("details").forEach((one) => { one.open = true; });
          const limit = page.documentElement.clientWidth;
          found.limit = limit;
          found.wide = page.documentElement.scrollWidth;
          found.beyond = [...page.querySelectorAll("main *")]
            .filter((one) => !one.closest(".scroll, pre, svg, nav, .skip") && !one.closest("thead"))
            .filter((one) => one.getBoundingClientRect().right > limit + 1)
            .map((one) => one.outerHTML.slice(0, 120));
          found.cut = [...page.querySelectorAll(".scroll:has(> table)")]
            .filter((one) => one.scrollWidth > one.clientWidth + 1)
            .map((one) => one.getAttribute("aria-label"));
          found.broken = [];
          for (const cell of page.querySelectorAll("td, th")) {
            const nodes = page.createTreeWalker(cell, NodeFilter.SHOW_TEXT), text = page.createRange();
            while (nodes.nextNode()) {
              for (const word of nodes.currentNode.data.matchAll(/[A-Za-z]{5,}/g)) {
                text.setStart(nodes.currentNode, word.index);
                text.setEnd(nodes.currentNode, word.index + word[0].length);
                const lines = [...text.getClientRects()].filter((one) => one.width > 1);
                if (new Set(lines.map((one) => Math.round(one.top))).size > 1) found.broken.push(word[0]);
              }
            }
          }
        }""",
        width,
    )
    assert found["broken"] == []  # a structure's name, a metric's, a verdict stays whole
    assert width - 20 <= found["limit"] <= width  # a scroll bar takes some
    assert found["wide"] <= found["limit"]
    assert found["beyond"] == []
    if width == 1280:
        assert found["cut"] == []


def test_no_dot_covers_a_name(look):
    """In tables of a few metrics, and of more than three, whose cells stand closer."""
    found = look(
        """(found, view, page) => {
          const text = page.createRange();
          const covered = () => [...page.querySelectorAll(".name .dot")].filter((one) => {
            text.selectNode(one.nextSibling);
            const dot = one.getBoundingClientRect();
            return [...text.getClientRects()].some((line) => line.width && dot.right > line.left + 1
              && dot.left < line.right && dot.bottom > line.top && dot.top < line.bottom);
          }).map((one) => one.parentElement.outerHTML.slice(0, 120));
          found.dots = page.querySelectorAll(".stack .name .dot").length;
          found.few = covered();
          page.querySelectorAll(".stack").forEach((table) => { table.classList.add("many"); });
          found.many = covered();
        }"""
    )
    assert found["dots"] > 5
    assert found["few"] == found["many"] == []


def test_it_prints_on_a4(plain, figures_folder, tmp_path):
    if BROWSER is None:
        pytest.skip("no browser: install chromium (Debian: apt-get install chromium)")
    page = render(plain, figures_folder, figures_folder.parent / "report.html")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer",
         f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri()],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    content = (tmp_path / "page.pdf").read_bytes()
    sizes = re.findall(rb"/MediaBox\s*\[0 0 (\S+) (\S+)\]", content)
    assert {(round(float(width)), round(float(height))) for width, height in sizes} == {(595, 842)}
    # What is beside the point in print leaves no page to a figure or a section alone.
    assert len(sizes) <= 14


def test_tables_sort_filter_and_layers_switch(look):
    found = look(
        """(found, view, page) => {
          const table = page.getElementById("tests");
          const column = [...table.tHead.rows[0].cells].findIndex((one) => one.textContent === "p");
          const values = () => [...table.tBodies[0].rows]
            .map((row) => row.cells[column].dataset.value).filter(Boolean).map(Number);
          const press = table.tHead.rows[0].cells[column].querySelector("button");
          press.click();
          found.up = values();
          found.sorted = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
          press.click();
          found.down = values();

          const input = page.querySelector('input[data-filter="tests"]');
          input.value = "aorta hd95";
          input.dispatchEvent(new view.Event("input"));
          found.left = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;

          const svg = page.querySelector("#cases svg.flicker");
          const seen = (kind) => view.getComputedStyle(svg.querySelector(`g.${kind}`)).visibility;
          const both = () => [seen("reference"), seen("prediction")].join(" ");
          found.steps = [both()];
          for (let step = 0; step < 4; step += 1) {
            svg.dispatchEvent(new view.KeyboardEvent("keydown", { key: "Enter" }));
            found.steps.push(both());
          }
          page.querySelector('#cases button[data-layer="prediction"]').click();
          found.steps.push(both());
          found.outline = view.getComputedStyle(page.querySelector("path.line")).fill;

          page.querySelector("button.zoom").click();
          found.open = page.querySelector("dialog").open;
          page.querySelector("dialog").click();
          found.closed = !page.querySelector("dialog").open;
        }"""
    )
    assert found["up"] == sorted(found["up"])
    assert len(found["up"]) >= 2
    assert found["sorted"] == "ascending"
    assert found["down"] == sorted(found["up"], reverse=True)
    assert found["left"] == 1
    assert found["steps"] == [
        "visible visible", "hidden hidden", "visible hidden", "hidden visible",
        "visible visible", "visible hidden",
    ]  # fmt: skip
    assert found["outline"] == "none"
    assert found["open"]
    assert found["closed"]


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(look):
    found = look(
        """(found, view, page) => {
          const named = (one) => one.getAttribute("aria-label") || one.textContent.trim()
            || one.labels?.[0]?.textContent.trim();
          found.nameless = [...page.querySelectorAll("a, button, input, summary, svg.flicker")]
            .filter((one) => !named(one)).map((one) => one.outerHTML.slice(0, 100));
          found.unreachable = [...page.querySelectorAll("button, a[href], summary, .flicker, .scroll")]
            .filter((one) => one.tabIndex < 0).map((one) => one.outerHTML.slice(0, 100));
        }"""
    )
    assert found["nameless"] == []
    assert found["unreachable"] == []
