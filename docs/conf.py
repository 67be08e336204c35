"""Sphinx's settings: pages in Markdown, docstrings in numpydoc; `make docs` builds them, warnings are errors."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "docs")]

import figures  # noqa: E402
import licences  # noqa: E402
import reference_pages  # noqa: E402

import segstudy  # noqa: E402

project = "segstudy"
author = "The segstudy authors"
copyright = author
version = release = segstudy.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
autodoc_mock_imports = ["torch", "monai", "SimpleITK", "itk", "numba", "nnunetv2"]
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_static_path = ["site.js", "site.css"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme = "furo"
html_title = f"segstudy {version}"
# Written anew from what is locked, from the code and from a study that runs, so that they cannot drift.
for name, text in {
    "licences.md": licences.page(REPOSITORY / "requirements.lock"),
    "tables.md": reference_pages.tables_page(),
    "command_line.md": reference_pages.command_page(),
    "formulas.md": reference_pages.formulas_page(),
    "contributing.md": reference_pages.contributing_page(),
    "gallery.md": figures.make(REPOSITORY / "results" / "pages"),
}.items():
    (REPOSITORY / "docs" / name).write_text(text, encoding="utf-8")
