"""The power curve of a plan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.errors import InputError
from segstudy.files import writing
from segstudy.level import fewest_subjects
from segstudy.power.planning import Goal, power_at

FORMATS = (".png", ".svg", ".pdf")
MOST_CURVES = 6


def draw_curves(rows: Sequence[Mapping[str, Any]], goal: Goal, path: Path) -> None:
    """Draw power over subjects: solid at the pilot's SD, dashed at its upper limit; a column (85 mm) wide.

    Parameters
    ----------
    rows
        Plans, with `name`, `subject_sd`, `subjects` and, where known, `upper_sd`, `subjects_at_upper_sd`.
    goal
        What is to be told.
    path
        PNG, SVG or PDF.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if path.suffix not in FORMATS:
        raise InputError(f"--figure {path}: expected a name that ends in {', '.join(FORMATS)}")
    if len(rows) > MOST_CURVES:
        raise InputError(
            f"--figure {path}: {len(rows)} curves; expected at most {MOST_CURVES}: name one by --structure"
        )
    most = max(row.get("subjects_at_upper_sd", row["subjects"]) for row in rows)
    subjects = np.unique(np.linspace(fewest_subjects(goal.alpha), 1.3 * most + 4, 60).astype(int))
    with rc_context({"font.size": 8, "svg.hashsalt": "segstudy"}):
        figure = Figure((85 / 25.4, (64 + 5 * len(rows)) / 25.4), layout="constrained")
        axes = figure.subplots()
        for row, grey, marker in zip(rows, np.linspace(0, 0.6, len(rows)), "osD^vP", strict=False):
            name = row["name"] or "planned"
            curves = [("subject_sd", "subjects", "-", name)]
            if "upper_sd" in row:
                curves.append(
                    ("upper_sd", "subjects_at_upper_sd", "--", f"{name}, upper limit of the SD")
                )
            for sd, needed, style, label in curves:
                power = [power_at(int(number), row[sd], goal) for number in subjects]
                axes.plot(
                    subjects, power, style, color=str(grey), label=f"{label} (n = {row[needed]})"
                )
                at = power_at(row[needed], row[sd], goal)
                axes.plot([row[needed]], [at], marker, color=str(grey), markersize=4)
        axes.axhline(goal.power, color="0.5", lw=0.7, ls=":")
        axes.set(xlabel="Subjects", ylabel="Power", ylim=(0, 1.02))
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", frameon=False, fontsize=7)
        with writing(path) as temporary:
            kind = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
            figure.savefig(temporary, format=path.suffix[1:], dpi=300, **kind)
