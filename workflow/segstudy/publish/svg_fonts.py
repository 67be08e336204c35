"""Fonts inside an SVG: its text stays text, and looks the same where the font is not installed."""

import base64
import html
import io
import re
from functools import cache

_TEXT = re.compile(r'<(text|tspan)\b[^>]*? style="([^"]*)"[^>]*>(.*?)</\1>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def with_fonts(svg: str) -> str:
    """Put the glyphs that an SVG's text needs into the SVG, as fonts in WOFF.

    The same text gives the same bytes. A sign that a font lacks is taken from the next of its families.

    Parameters
    ----------
    svg
        As matplotlib writes it with `svg.fonttype: none`.
    """
    used: dict[tuple[str, str], set[str]] = {}
    for match in _TEXT.finditer(svg):
        weight = "bold" if "font-weight: 700" in match[2] else "normal"
        signs = set(html.unescape(_TAG.sub("", match[3]))) - {"\n"}
        for family in re.findall(r"'([^']+)'", match[2]):
            used.setdefault((family, weight), set()).update(signs)
    faces = [
        f"@font-face{{font-family:'{family}';font-weight:{weight};"
        f"src:url(data:font/woff;base64,{packed}) format('woff')}}"
        for (family, weight), signs in sorted(used.items())
        if (packed := _packed(family, weight, "".join(sorted(signs))))
    ]
    if not faces:
        return svg
    head = svg.index("<defs>") + len("<defs>")
    style = f'\n  <style type="text/css">text{{white-space:pre}}{"".join(faces)}</style>'
    return svg[:head] + style + svg[head:]


@cache
def _packed(family: str, weight: str, signs: str) -> str:
    """Return the part of a font that these characters need, as WOFF in base64; empty for a family unknown here."""
    from fontTools import subset
    from fontTools.ttLib import TTFont
    from matplotlib.font_manager import FontProperties, findfont

    try:
        path = findfont(FontProperties(family=[family], weight=weight), fallback_to_default=False)
    except ValueError:
        return ""
    # A collection holds several fonts; matplotlib takes the first.
    font = TTFont(path, fontNumber=0, recalcTimestamp=False)
    options = subset.Options(
        notdef_outline=True, layout_features=["kern"], hinting=False, bidi_closure=False
    )
    options.drop_tables += ["FFTM"]
    chosen = subset.Subsetter(options)
    chosen.populate(text=signs)
    chosen.subset(font)
    font.flavor = "woff"
    file = io.BytesIO()
    font.save(file, reorderTables=False)
    return base64.b64encode(file.getvalue()).decode()
