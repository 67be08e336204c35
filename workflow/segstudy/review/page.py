"""The page of the queue, `queue.html`, with a picture a case."""

import html
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segstudy.files import make_folder, write_text, writing
from segstudy.images.files import Image, read_image
from segstudy.images.geometry import to_ras
from segstudy.review.held_out import HeldOut
from segstudy.review.queue import FINDINGS, KNOWN_DICE, usual_dice
from segstudy.review.scores import consensus
from segstudy.review.study_queue import FEWEST, Entry

PICTURES = "pictures"
PLANES = (("from below", 0, 1), ("from the front", 0, 2), ("from the right", 1, 2))
"""A plane's words, and the axes of RAS that run across and up."""
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Of Okabe and Ito: told apart by readers with any colour vision."""
SHARED = (
    "A fault that all labels of a structure share, as a heart that lies in the wrong place in every case, is learnt by the models and "
    "so is seen by no consensus: nothing here speaks against it. It is looked for in the images and put back by "
    "<code>repair</code> of a dataset. Look at a few cases that are not suspicious, too; <code>--control N</code> draws them."
)
BLINDED = (
    "Pictures have the label's outline alone. To draw what models see would have labels corrected towards the models, and the results "
    "favour them."
)


def write_page(folder: Path, held_out: HeldOut, entries: Sequence[Entry], shown: bool) -> None:
    """Write the page of the cases up for review, in their order, and their pictures.

    Parameters
    ----------
    folder
        Where `queue.html` and `pictures/` go.
    held_out
        The study.
    entries
        All judged cases.
    shown
        Whether pictures have the consensus in them.
    """
    picked = sorted((one for one in entries if one.order), key=lambda one: one.order)
    pictures = folder / PICTURES
    make_folder(pictures)
    for old in pictures.glob("*.png"):
        old.unlink()
    for one in picked:
        draw(pictures / f"{_file(one)}.png", held_out, one, shown)
    rows = "\n".join(_row(held_out, one) for one in picked)
    write_text(folder / "queue.html", _PAGE.format(**_words(held_out, entries, shown), rows=rows))


def draw(path: Path, held_out: HeldOut, entry: Entry, shown: bool) -> None:
    """Draw three planes through the place of a finding, with the label's outlines; 170 mm wide.

    Parameters
    ----------
    path
        PNG.
    held_out
        The study.
    entry
        The case.
    shown
        Whether the consensus is drawn, dashed.
    """
    from matplotlib.figure import Figure

    label, votes = held_out.read(entry.judged)
    names = list(entry.scores.structures)
    maps = [to_ras(label)]
    if shown:
        maps.append(to_ras(Image(consensus(votes, len(names) + 1), label.affine)))
    grey = _grey(held_out, entry, label)
    point = np.linalg.inv(maps[0].affine) @ [
        *(label.affine[:3, :3] @ entry.suspicion.voxel + label.affine[:3, 3]), 1.0
    ]  # fmt: skip
    place = np.clip(np.rint(point[:3]).astype(int), 0, np.array(maps[0].array.shape) - 1)
    figure = Figure(figsize=(170 / 25.4, 62 / 25.4), layout="constrained")
    for axes, (words, across, up) in zip(figure.subplots(1, 3), PLANES, strict=True):
        depth = 3 - across - up
        cut = tuple(int(place[depth]) if axis == depth else slice(None) for axis in range(3))
        size = [maps[0].array.shape[one] * maps[0].spacing_mm[one] for one in (across, up)]
        extent = (0, size[0], 0, size[1])
        if grey is not None:
            axes.imshow(grey[cut].T, cmap="gray", vmin=0, vmax=1, origin="lower", extent=extent)
        for number, _ in enumerate(names, 1):
            for one, style in zip(maps, ("solid", "dashed"), strict=False):
                mask = (one.array[cut] == number).T
                _outline(axes, mask, extent, COLOURS[(number - 1) % 7], style)
        spot = [(place[one] + 0.5) * maps[0].spacing_mm[one] for one in (across, up)]
        axes.plot(*spot, marker="+", color="white", markersize=9, markeredgewidth=1.2)
        # The patient's right is on the left of the picture, as radiologists look.
        axes.set_xlim((size[0], 0) if across == 0 else (0, size[0]))
        axes.set_ylim(0, size[1])
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor("black")
        axes.set_title(words, fontsize=7)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _outline(axes, mask: np.ndarray, extent: Sequence[float], colour: str, style: str) -> None:
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    steps = [extent[1] / mask.shape[1], extent[3] / mask.shape[0]]
    columns = (np.arange(padded.shape[1]) - 0.5) * steps[0]
    rows = (np.arange(padded.shape[0]) - 0.5) * steps[1]
    axes.contour(
        columns, rows, padded, levels=[0.5], colors=[colour], linewidths=1.1, linestyles=[style]
    )


def _grey(held_out: HeldOut, entry: Entry, label: Image) -> np.ndarray | None:
    """Return the first channel in RAS, from 0 to 1 between its 1 % and 99 % quantile; None where the case has no image."""
    case = entry.judged.case
    dataset = held_out.study.datasets[entry.judged.dataset]
    if not case.images:
        return None
    image = read_image(case.images, channels=len(dataset.channels) or 1)
    array = to_ras(Image(image.array[0], label.affine)).array
    low, high = np.quantile(array, [0.01, 0.99])
    return np.clip((array - low) / max(high - low, 1e-9), 0, 1)


def _file(entry: Entry) -> str:
    return f"{entry.judged.dataset}-{entry.judged.case.case}"


def command(held_out: HeldOut, entry: Entry) -> str:
    """Return the command that opens a case in an editor."""
    return f"segstudy review open {shlex.quote(entry.judged.name)} --study {shlex.quote(held_out.called)}"


def _row(held_out: HeldOut, entry: Entry) -> str:
    suspicion = entry.suspicion
    voxel = ", ".join(map(str, suspicion.voxel))
    told = html.escape(suspicion.reason)
    if entry.audit:
        told += f"<br><small>audit: {html.escape(entry.audit)}</small>"
    name, asked = html.escape(entry.judged.name), html.escape(command(held_out, entry))
    return (
        f'<tr id="{html.escape(_file(entry))}"><td>{entry.order}</td>'
        f"<td><b>{name}</b><br>{html.escape(', '.join(suspicion.structures))}: {FINDINGS[suspicion.finding]}<br>{told}"
        f"<br>voxel {voxel}, slice {suspicion.voxel[2]}"
        f'<br><button data-command="{asked}">copy command</button> <code>{asked}</code></td>'
        f'<td><img loading="lazy" src="{PICTURES}/{html.escape(_file(entry))}.png" '
        f'alt="{name}: three planes through voxel {voxel}"></td></tr>'
    )


def _words(held_out: HeldOut, entries: Sequence[Entry], shown: bool) -> dict[str, str]:
    """Return the page's sentences, as HTML."""
    picked = sum(bool(one.order) for one in entries)
    votes = sorted({one.scores.votes for one in entries})
    number = f"{votes[0]}" if len(votes) == 1 else f"{votes[0]} to {votes[-1]}"
    models = ", ".join(
        f"{name} ({len(seeds)} seeds)" if len(seeds) > 1 else name
        for name, seeds in held_out.voters.items()
    )
    notes = []
    if votes[0] == 1:
        notes.append(
            "Some cases have one vote: where models are unsure cannot be told for them, and a hard case may stand high for this alone. "
            "Several seeds, or models, help."
        )
    for dataset in dict.fromkeys(one.judged.dataset for one in entries):
        own = [one.scores for one in entries if one.judged.dataset == dataset]
        if len(own) < FEWEST:
            notes.append(
                f"{dataset} has {len(own)} cases: too few to say what is usual, so that the order tells little."
            )
        for name in own[0].structures:
            usual = usual_dice(own, name)
            if usual < KNOWN_DICE:
                notes.append(
                    f"Models hardly know {name} of {dataset} (median Dice of label and consensus {usual:.2f}): what they "
                    "say of it counts less, and its labels are judged by how their volume and extent lie in the cohort."
                )
    if held_out.outside:
        notes.append(
            f"What {', '.join(held_out.outside)} learnt from is not known here: if it was these labels, it agrees with their faults."
        )
    notes.append(
        BLINDED
        if not shown
        else "Dashed: the consensus of the models. This is on record in openings.tsv."
    )
    return {
        "title": html.escape(f"{held_out.study.name}: labels to look at"),
        "intro": html.escape(
            f"{picked} of {len(entries)} judged cases, each with {number} votes of models that have not seen its subject: {models}. "
            "A label is suspicious as far as it differs from their consensus more than is usual for its structure, and less so where "
            "models differ from each other. queue.csv has all cases in their rank, scores.csv every score."
        ),
        "shared": SHARED,
        "notes": " ".join(html.escape(note) for note in notes),
    }


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1a1a1a; }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ border-top: 1px solid #ccc; padding: .6rem .5rem; vertical-align: top; }}
td:first-child {{ font-size: 1.3rem; width: 2.5rem; }}
img {{ width: 34rem; max-width: 100%; background: #000; }}
@media (max-width: 700px) {{ body {{ margin: 1rem auto; }} td, tr {{ display: block; width: auto; }} td + td {{ border-top: 0; }} }}
code {{ font-size: .85em; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{intro}</p>
<p>{notes}</p>
<p>{shared}</p>
<table>
{rows}
</table>
<script>
document.addEventListener("click", (event) => {{
  const text = event.target.dataset && event.target.dataset.command;
  if (text) navigator.clipboard.writeText(text).then(() => {{ event.target.textContent = "copied"; }});
}});
</script>
</body>
</html>
"""
