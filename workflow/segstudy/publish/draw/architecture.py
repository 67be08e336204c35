"""Each network as it was built: its stages with channels, size and parameters."""

import itertools

import numpy as np
import pandas
from matplotlib.patches import FancyBboxPatch

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.publish.words import listing
from segstudy.words import count

BOX_MM, LEVEL_MM = 7.5, 11.5


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw each network, a panel a network: stages from left to right, one level lower where the resolution is halved."""
    study, look = results.study, results.look
    runs = {model for model, _, _ in results.trainings()}
    trained = [model for model in look.models if model in runs]
    networks = {name: _stages(results, name) for name in trained}
    shown: dict[str, list[dict]] = {}
    alike: dict[str, list[str]] = {}
    for name, rows in networks.items():
        twin = next((other for other, drawn in shown.items() if drawn == rows), None)
        if twin:
            alike[twin].append(name)
        elif rows:
            shown[name], alike[name] = rows, [name]
    colours = look.model_colours
    levels = {name: max(row["level"] for row in rows) + 1 for name, rows in shown.items()}
    heights = [levels[name] * LEVEL_MM + 9 + 3 * (len(alike[name]) // 6) for name in shown] or [20]
    drawn = style.canvas(style.page_mm(), sum(heights) + 4)
    panels = drawn.subplots(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    for panel in panels:
        panel.set_axis_off()
    if not shown:
        panels[0].text(0.5, 0.5, "No training recorded its network.", ha="center")
    for panel, (name, rows) in zip(panels, shown.items(), strict=False):
        _panel(panel, rows, levels[name], colours[name], skips=study.models[name].network == "unet")
        total = sum(row["parameters"] for row in networks[name])
        size = "×".join(map(str, rows[0]["input"]))
        parts.set_title(
            panel,
            f"{', '.join(look.model(other) for other in alike[name])}: {_short(total)} parameters, patch {size}",
            style.page_mm(),
        )
    missing = [look.model(name) for name, rows in networks.items() if not rows]
    table = pandas.DataFrame(
        [
            {
                "model": name, "stage": row["name"], "blocks": row["blocks"],
                "channels": row["channels"], "size": "x".join(map(str, row["size"] or [])),
                "parameters": row["parameters"],
            }
            for name, rows in networks.items()
            for row in rows
        ],
        columns=["model", "stage", "blocks", "channels", "size", "parameters"],
    )  # fmt: skip
    return parts.Drawing(
        drawn,
        "Networks",
        f"{count(len(shown), 'network')} as built for the first fold, read from the modules. A box is a "
        "stage (× n: that many blocks in a row with the same output), with its channels; below it "
        "the voxels along each axis and its parameters. One level down: the resolution is halved. "
        "Dotted: skip connections of U-Nets."
        + (f" Not recorded: {listing(missing)}." if missing else ""),
        "Block diagrams. "
        + " ".join(
            f"{look.model(name)}: {', '.join(str(row['channels']) for row in rows)} channels."
            for name, rows in shown.items()
        ),
        table,
    )


def _stages(results: Results, model: str) -> list[dict]:
    """List the stages of a network; neighbours that give the same channels and size are one stage."""
    _, fold, seed = next(run for run in results.trainings() if run[0] == model)
    trained = results.trained(model, fold, seed)
    stages: list[dict] = []
    for row in trained.get("architecture", []):
        group = row["name"].split(".")[0]
        last = stages[-1] if stages else None
        if last and all(last[key] == row[key] for key in ("size", "channels")) and (
            last["group"] == group and row["size"]
        ):  # fmt: skip
            last["parameters"] += row["parameters"]
            last["blocks"] += 1
            continue
        stages.append({**row, "group": group, "blocks": 1, "input": trained["patch_size"]})
    if not stages:
        return []
    volume = float(np.prod(stages[0]["input"]))
    dims = len(stages[0]["input"])
    kept: list[dict] = []
    for row in stages:
        if row["size"] is None:  # not used in prediction: counted with the stage before
            kept[-1]["parameters"] += row["parameters"]
            continue
        shrunk = volume / max(float(np.prod(row["size"])), 1.0)
        kept.append({**row, "level": round(np.log2(shrunk) / dims)})
    ranks = {level: place for place, level in enumerate(sorted({row["level"] for row in kept}))}
    return [{**row, "level": ranks[row["level"]]} for row in kept]


def _panel(axes, rows: list[dict], levels: int, colour: str, skips: bool) -> None:
    slot = (style.page_mm() - 4) / len(rows)
    box = min(13.0, 0.8 * slot)
    axes.set_xlim(0, style.page_mm() - 4)
    axes.set_ylim(levels * LEVEL_MM, -1)
    centres = [
        (slot * (place + 0.5), row["level"] * LEVEL_MM + 2.6) for place, row in enumerate(rows)
    ]
    for (x, y), (after_x, after_y) in itertools.pairwise(centres):
        axes.annotate(
            "", (after_x - box / 2, after_y), (x + box / 2, y),
            arrowprops={"arrowstyle": "-|>", "color": style.SOFT, "linewidth": 0.6,
                        "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5},
        )  # fmt: skip
    bottom = max(range(len(rows)), key=lambda place: rows[place]["level"])
    for place in range(bottom if skips else 0):
        last = place + 1 == len(rows) or rows[place + 1]["level"] > rows[place]["level"]
        partner = [
            other for other in range(bottom + 1, len(rows))
            if rows[other]["level"] == rows[place]["level"]
        ]  # fmt: skip
        if last and partner and rows[place]["level"] < rows[bottom]["level"]:
            (x, y), (other, _) = centres[place], centres[partner[0]]
            axes.plot(
                [x + box / 2, other - box / 2], [y, y], color=style.SOFT, lw=0.6, ls=(0, (1, 2))
            )  # fmt: skip
    most = max(row["channels"] for row in rows)
    for (x, y), row in zip(centres, rows, strict=True):
        share = 0.12 + 0.5 * np.log1p(row["channels"]) / np.log1p(most)
        axes.add_patch(
            FancyBboxPatch(
                (x - box / 2, y - 2.2), box, 4.4, boxstyle="round,pad=0,rounding_size=0.7",
                facecolor=style.lighter(colour, share), edgecolor=style.darker(colour, 0.8), lw=0.6,
            )
        )  # fmt: skip
        blocks = f" ×{row['blocks']}" if row["blocks"] > 1 else ""
        axes.text(x, y, f"{row['channels']}{blocks}", ha="center", va="center",
                  fontweight="bold")  # fmt: skip
        size = "×".join(map(str, row["size"]))
        if len(set(row["size"])) == 1:
            size = f"{row['size'][0]}{'²³'[len(row['size']) - 2]}" if len(row["size"]) > 1 else size
        axes.text(
            x, y + 2.9, f"{parts.wrap(size, max(3, int(slot / (0.93 * style.text_mm()))))}\n{_short(row['parameters'])}",
            ha="center", va="top", color=style.SOFT, linespacing=1.0,
        )  # fmt: skip


def _short(number: int) -> str:
    """`1.96 M`, `24.1 k`, `812`."""
    if number >= 1e6:
        return f"{number / 1e6:.3g} M"
    return f"{number / 1e3:.3g} k" if number >= 1e3 else str(number)
