"""What the report says of predictions that are not to be trusted: how often intervals held, order of trust, flagged scans."""

import math
from collections.abc import Mapping

from segstudy.publish.results import Results
from segstudy.publish.tables import Cell
from segstudy.publish.words import listing, percent
from segstudy.quality.calibration import FALSE_ALARMS, KINDS, gaps
from segstudy.quality.conformal import ALPHA, fewest_subjects
from segstudy.words import confidence, count

LEVEL = confidence(ALPHA)


def shown(results: Results) -> dict:
    """Return what the report shows of the estimates of quality; no lead where the study makes none."""
    if not results.study.statistics.quality:
        return {"lead": ""}
    cases, summary = results.quality_cases, results.quality_summary
    several = [*(["Dataset"] if len(results.study.cross_validated_datasets) > 1 else [])]
    scans = cases.drop_duplicates(["model", "dataset", "case"])
    flagged = scans[scans["flagged"] == "yes"]
    head = [*several, "Model", "Structure"]
    return {
        "lead": _lead(results, len(scans), flagged),
        "without": [
            f"{results.look.model(name)} has no intervals: {reason}."
            for name in results.look.models
            if (reason := results.calibrations[name].reason)
        ],
        "gaps": [
            f"{results.look.model(name)}: {gap}."
            for name in results.look.models
            for gap in gaps(results.calibrations[name])
        ],
        "alarms": _alarms(results),
        "agreement": _agreement(results),
        "level": LEVEL,
        "head": [
            *head,
            *(
                "Subjects",
                "Scans",
                "Flagged",
                "Dice in its interval",
                "Its median width",
                "Volume in its interval",
            ),
        ],
        "rows": [
            _coverage(results, row, cases, bool(several)) for row in summary.to_dict("records")
        ],
        "order_head": [
            *head,
            *("By agreement (baseline)", "Flagged scans last", "Difference", "Best possible"),
        ],
        "order_rows": [_order(results, row, bool(several)) for row in summary.to_dict("records")],
        "flagged_head": [*several, "Model", "Case", "Mean Dice", "Lowest Dice", "Reason"],
        "flagged_rows": [
            _flagged(results, row, cases, bool(several)) for row in flagged.to_dict("records")
        ],
    }


def _agreement(results: Results) -> str:
    """Say what the agreement is of."""
    kinds: dict[str, list[str]] = {}
    for name in results.look.models:
        kind = results.calibrations[name].kind
        if kind:
            kinds.setdefault(KINDS[kind], []).append(results.look.model(name))
    if len(kinds) == 1:
        return f"Agreement is the {next(iter(kinds))}."
    told = [f"the {words}, of {listing(names)}" for words, names in kinds.items()]
    return f"Agreement is {'; '.join(told)}." if told else ""


def _alarms(results: Results) -> str:
    """Say how many scans are flagged for nothing: a share where subjects suffice for one."""
    share, needed = percent(FALSE_ALARMS), fewest_subjects(FALSE_ALARMS)
    look = results.look
    few = [look.model(name) for name in look.models if results.calibrations[name].limit is None]
    if not few:
        return f"About {share} of scans like these are flagged for nothing."
    told = f"a limit for {share} of false alarms needs {needed} subjects with all structures: beyond five robust SD a scan is flagged"
    if len(few) == len(look.models):
        return f"How many scans like these are flagged for nothing is not known: {told}."
    return f"About {share} of scans like these are flagged for nothing, but of {listing(few)} it is not known how many: {told}."


def _lead(results: Results, scans: int, flagged) -> str:
    """Say how many scans are flagged, and whose."""
    if not scans:
        return "Nothing is known of the quality of any prediction: no case was held out."
    named = [
        f"{results.look.model(name)} {(flagged['model'] == name).sum()}"
        for name in results.look.models
        if (flagged["model"] == name).any()
    ]
    told = f"{len(flagged)} of {count(scans, 'held-out prediction')} {'is' if len(flagged) == 1 else 'are'} flagged"
    return f"{told} ({listing(named)})." if named and len(results.look.models) > 1 else f"{told}."


def _first(results: Results, row: Mapping, several: bool) -> list[Cell]:
    return [
        *([Cell(row["dataset"])] if several else []),
        Cell(results.look.model(row["model"])),
        Cell(results.look.structure(row["structure"])),
    ]


def _coverage(results: Results, row: Mapping, cases, several: bool) -> list[Cell]:
    """Return how often a model's intervals held for a structure, and how wide those of Dice are."""
    same = cases[["model", "dataset", "structure"]].eq(
        [row["model"], row["dataset"], row["structure"]]
    )
    own = cases[same.all(axis=1)]
    width = float((own["dice_high"] - own["dice_low"]).median())
    return [
        *_first(results, row, several),
        *(
            Cell(str(int(row[name])), float(row[name]))
            for name in ("n_subjects", "n_scans", "n_flagged")
        ),
        _share(row["dice_in_interval"], row["n_dice_intervals"]),
        Cell("–" if math.isnan(width) else f"{width:.3f}", width),
        _share(row["volume_in_interval"], row["n_volume_intervals"]),
    ]


def _share(share: float, number: int) -> Cell:
    if math.isnan(share):
        return Cell("–", math.nan)
    return Cell(f"{100 * share:.1f} % of {int(number)}", share)


def _order(results: Results, row: Mapping, several: bool) -> list[Cell]:
    baseline, ours, best = (row[f"aurc_{name}"] for name in ("agreement", "with_flags", "best"))
    cells = [_area(baseline), _area(ours), _area(ours - baseline, sign="+"), _area(best)]
    return [*_first(results, row, several), *cells]


def _area(value: float, sign: str = "") -> Cell:
    text = "–" if math.isnan(value) else f"{value:{sign}z.4f}".replace("-", "\u2212")
    return Cell(text, value)


def _flagged(results: Results, row: Mapping, cases, several: bool) -> list[Cell]:
    """Return the row of a flagged scan, with its real Dice over the structures."""
    same = cases[["model", "dataset", "case"]].eq([row["model"], row["dataset"], row["case"]])
    dice = cases.loc[same.all(axis=1), "dice"]
    return [
        *([Cell(row["dataset"])] if several else []),
        Cell(results.look.model(row["model"])),
        Cell(row["case"]),
        *(
            Cell("–" if math.isnan(value) else f"{value:.3f}", value)
            for value in (dice.mean(), dice.min())
        ),
        Cell(row["reason"]),
    ]
