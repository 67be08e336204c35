"""Text as LaTeX: what is a command there is escaped, and signs beyond ASCII are written so that any engine sets them."""

import re

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}",
    "\u00a0": "~", "–": "--", "—": "---", "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\ldots{}",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$",
    "∞": r"$\infty$", "→": r"$\rightarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "°": r"$^{\circ}$",
    "²": "$^{2}$", "³": "$^{3}$", "½": "1/2", "µ": r"$\mu$", "√": r"$\surd$",
    **{sign: f"$\\{name}$" for sign, name in zip(
        "αβγδεηθκλμπρστφχψωΔΩΣ",
        ("alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "pi", "rho", "sigma", "tau",
         "phi", "chi", "psi", "omega", "Delta", "Omega", "Sigma"), strict=True)},
}  # fmt: skip
_PATTERN = re.compile("[" + "".join(map(re.escape, _SPECIAL)) + "]")


def escaped(text: str) -> str:
    """Write a text so that LaTeX prints it as it is.

    Letters beyond Latin scripts stay as they are: they need LuaLaTeX or XeLaTeX, and a font that has them.
    """
    return _PATTERN.sub(lambda match: _SPECIAL[match[0]], text)
