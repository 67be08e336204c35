"""`segstudy power`: how many subjects a study needs to tell a difference, or equivalence, and what that costs."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of `segstudy power`."""
    parser.description = (
        "How many subjects tell two models apart, at a pilot's SD of the differences and at its upper 80 % limit. "
        "The effect, or the margin, is the one that matters, never the pilot's own."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--from", dest="pilot", metavar="STUDY", help="a finished or running study: its SD and ICC"
    )
    source.add_argument(
        "--sd", type=float, help="SD of the differences of two models, scan by scan"
    )
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="as for snakemake: results=DIR"
    )
    parser.add_argument("--metric", default="dice", help="with --from: which metric (dice)")
    parser.add_argument("--structure", help="with --from: this one alone")
    parser.add_argument("--scans-per-subject", type=float, default=None, metavar="M")
    parser.add_argument(
        "--icc", type=float, default=None, help="share of the variance that a subject's scans share"
    )
    parser.add_argument(
        "--pilot-subjects", type=int, metavar="N", help="with --sd: subjects that it was taken from"
    )
    parser.add_argument("--effect", type=float, default=0.0, help="the true difference")
    parser.add_argument(
        "--margin", type=float, help="tell equivalence: the largest difference that does not matter"
    )
    parser.add_argument("--power", type=float, default=0.8, help="0.8")
    parser.add_argument("--alpha", type=float, default=0.05, help="0.05, two-sided")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="power curve: .png, .svg, .pdf")
    parser.add_argument("--json", action="store_true", help="as plain values")
    parser.epilog = (
        "examples: segstudy power --from my/study.yaml --effect 0.01\n"
        "  segstudy power --sd 0.04 --scans-per-subject 2 --icc 0.6 --effect 0.01 --power 0.8"
    )


def run(options: Namespace) -> None:
    """Print how many subjects are needed."""
    from segstudy.power.planning import Goal, subject_sd, subjects_needed, upper_sd

    goal = Goal(options.power, options.alpha, options.effect, options.margin)
    designs, costs = _designs(options)
    rows = []
    for design in designs:
        sd = subject_sd(design["scan_sd"], design["scans_per_subject"], design["icc"])
        row = design | {"subject_sd": sd, "subjects": subjects_needed(sd, goal)}
        if design["pilot_subjects"]:
            upper = upper_sd(sd, design["pilot_subjects"])
            row |= {"upper_sd": upper, "subjects_at_upper_sd": subjects_needed(upper, goal)}
        rows.append(row | {"hours": _hours(costs, row)})
    if options.figure:
        from segstudy.power.figure import draw_curves

        draw_curves(rows, goal, options.figure)
    if options.json:
        print(json.dumps({"goal": vars(goal), "plans": rows}, indent=1))
    else:
        print(_text(rows, goal), end="")


def _designs(options: Namespace) -> tuple[list[dict[str, Any]], list]:
    """Return SD, scans a subject and ICC to plan with, and what models cost, from the options or a study."""
    from segstudy.errors import InputError

    if options.pilot is None:
        scans = 1.0 if options.scans_per_subject is None else options.scans_per_subject
        if not options.sd > 0 or not scans >= 1:
            raise InputError(
                f"--sd {options.sd:g} --scans-per-subject {scans:g}: expected an SD above 0 and 1 scan or more"
            )
        if scans > 1 and options.icc is None:
            raise InputError("--icc is missing: how alike are scans of a subject, from 0 to 1?")
        if options.pilot_subjects is not None and options.pilot_subjects < 3:
            raise InputError(f"--pilot-subjects {options.pilot_subjects}: expected 3 or more")
        icc = options.icc or 0.0
        if not 0 <= icc <= 1:
            raise InputError(f"--icc {icc:g}: expected 0 to 1")
        design = {"scan_sd": options.sd, "scans_per_subject": scans, "icc": icc}
        return [{"name": "", **design, "pilot_subjects": options.pilot_subjects}], []
    from segstudy.power.pilot import costs, pilots
    from segstudy.preview_command import config_of, results_folder
    from segstudy.status_command import chosen_name

    options.study = options.pilot
    root = results_folder(config_of(options), chosen_name(options.pilot))
    found = pilots(root, options.metric)
    structures = list(dict.fromkeys(one.structure for one in found))
    if options.structure is not None and options.structure not in structures:
        raise InputError(
            f"--structure {options.structure}: not measured; expected one of {', '.join(structures)}"
        )
    designs = [
        {
            "name": f"{one.dataset}, {one.structure}: {one.model_a} - {one.model_b}",
            "scan_sd": one.scan_sd,
            "scans_per_subject": options.scans_per_subject or one.scans,
            "icc": one.icc if options.icc is None else options.icc,
            "pilot_subjects": one.subjects,
            "left_out": one.left_out,
        }
        for one in found
        if options.structure in (None, one.structure)
    ]
    return designs, costs(root)


def _hours(costs: list, row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return hours by device and model, for the subjects needed at the upper limit where it is known."""
    cases = row.get("subjects_at_upper_sd", row["subjects"]) * row["scans_per_subject"]
    hours: dict[str, dict[str, float]] = {}
    for cost in costs:
        hours.setdefault(cost.device, {})[cost.model] = round(cost.hours(cases), 2)
    return hours


def _text(rows: list[dict[str, Any]], goal) -> str:
    """Write the plans for a reader."""
    level = f"power {goal.power:g} at alpha {goal.alpha:g}"
    what = f"a difference of {goal.effect:g}"
    if goal.margin is not None:
        what = f"equivalence within {goal.margin:g}" + (
            f" at a true difference of {goal.effect:g}" if goal.effect else ""
        )
    lines = [f"Subjects that tell {what} with {level}, by the paired t test:"]
    for row in rows:
        head = f"{row['name']}: " if row["name"] else ""
        text = f"  {head}{row['subjects']} at an SD of subjects of {row['subject_sd']:.4g}"
        if row["scans_per_subject"] > 1:
            text += f" ({row['scans_per_subject']:.3g} scans each, ICC {row['icc']:.2f})"
        if "upper_sd" in row:
            text += (
                f"; {row['subjects_at_upper_sd']} at its upper 80 % limit of {row['upper_sd']:.4g} "
                f"(a pilot of {row['pilot_subjects']} subjects)"
            )
        else:
            text += "; its upper limit is not known without --pilot-subjects"
        if row.get("left_out"):
            text += f"; {row['left_out']} scans without a finite value of both were left out"
        lines.append(text)
        for device, models in row["hours"].items():
            each = ", ".join(f"{name} {hours:.1f}" for name, hours in models.items())
            lines.append(f"    about {sum(models.values()):.1f} {device} hours ({each})")
    if any(row["hours"] for row in rows):
        lines.append("Hours: minutes measured a case and run, times cases, folds and seeds.")
    return "\n".join(lines) + "\n"
