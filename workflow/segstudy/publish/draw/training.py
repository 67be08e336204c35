"""Learning curves: loss, Dice on the validation cases and learning rate, epoch by epoch."""

from collections.abc import Mapping

import numpy as np
import pandas
import seaborn
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw import parts
from segstudy.publish.results import Results
from segstudy.words import count

MOST_STRUCTURES = 6
DICE = "validation_dice_"


def draw(results: Results, figure: Figure) -> parts.Drawing:
    """Draw loss, validation Dice, learning rate and throughput of every fold and seed, a column a model."""
    study, look = results.study, results.look
    trained = {model for model, _, _ in results.trainings()}
    models = [model for model in look.models if model in trained]
    colour, structure_colour = look.model_colours, look.structure_inks
    tables = []
    for model, fold, seed in results.trainings():
        history = results.history(model, fold, seed)
        history.insert(0, "model", model)
        history.insert(1, "fold", fold)
        history.insert(2, "seed", seed)
        history["patches_per_s"] = _throughput(results, history, model, fold, seed)
        tables.append(history)
    table = pandas.concat(tables, ignore_index=True)
    structures = [name for name in look.structures if f"{DICE}{name}" in table.columns]
    by_structure = 0 < len(structures) <= MOST_STRUCTURES

    blocks, columns = style.rows_and_columns(len(models), 4)
    width = style.page_mm() if len(models) > 1 else style.column_mm()
    drawn = style.canvas(width, blocks * 108 + 8)
    kinds = 4
    axes = drawn.subplots(
        blocks * kinds, columns, squeeze=False, height_ratios=[1, 1, 0.42, 0.42] * blocks
    )
    dice_low = 1.0
    for index, model in enumerate(models):
        block, column = divmod(index, columns)
        loss, dice, rate, speed = axes[block * kinds : block * kinds + kinds, column]
        of_model = table[table["model"] == model]
        runs = [run for _, run in of_model.groupby(["fold", "seed"], sort=True)]
        for run in runs:
            dot = {"marker": "o", "markersize": 2} if len(run) < 3 else {}
            loss.plot(
                run["epoch"], run["train_loss"], color=colour[model], lw=0.6, alpha=0.7, **dot
            )
            if "validation_loss" in run and run["validation_loss"].notna().any():
                validated = run.dropna(subset="validation_loss")
                loss.plot(
                    validated["epoch"], validated["validation_loss"], color=style.SOFT, lw=0.6, ls=(0, (3, 1.5))
                )  # fmt: skip
            if "lr" in run:
                rate.plot(run["epoch"], run["lr"], color=colour[model], lw=0.7, **dot)
            speed.plot(run["epoch"], run["patches_per_s"], color=colour[model], lw=0.7, **dot)
        if by_structure:
            for name in structures:
                signs = {
                    "linestyle": look.structure_lines[name],
                    "marker": look.structure_markers[name],
                }
                _mean(dice, of_model, f"{DICE}{name}", structure_colour[name], signs=signs)
        if f"{DICE}mean" in of_model:
            for run in runs:
                validated = run.dropna(subset=f"{DICE}mean")
                dice.plot(
                    validated["epoch"], validated[f"{DICE}mean"], color=style.INK, lw=0.4, alpha=0.45,
                    marker="." if len(validated) < 3 else None,
                )  # fmt: skip
            _mean(dice, of_model, f"{DICE}mean", style.INK, 1.4)
        shown = of_model[[name for name in of_model.columns if name.startswith(DICE)]].to_numpy(
            float
        )
        if np.isfinite(shown).any():
            dice_low = min(dice_low, float(np.nanmin(shown)))
        loss.set_title(parts.wrap(look.model(model), max(12, int((width / columns - 7) / (1.6 * style.text_mm())))),
                       color=style.darker(colour[model], 0.85))  # fmt: skip
        speed.set_xlabel("Epoch")
        for place in (loss, dice, rate, speed):
            place.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            place.set_xlim(0, max(of_model["epoch"].max(), 1) * 1.03)
        rate.set_ylim(bottom=0)
        speed.set_ylim(
            0, max(1e-3, 1.15 * float(np.nanmax(of_model["patches_per_s"], initial=0.0)))
        )
        if "lr" in of_model and of_model["lr"].max() < 0.01:
            rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        for place in (loss, dice, rate):
            place.tick_params(labelbottom=False)
        if column == 0:
            loss.set_ylabel("Training loss")
            dice.set_ylabel("Validation Dice")
            rate.set_ylabel("Learning\nrate")
            speed.set_ylabel("Patches\nper s")
    for index in range(len(models), blocks * columns):
        block, column = divmod(index, columns)
        for place in axes[block * kinds : block * kinds + kinds, column]:
            style.hide(place)
    for index in range(len(models)):
        block, column = divmod(index, columns)
        axes[block * kinds + 1, column].set_ylim(max(0, dice_low - 0.03), 1)
    handles = [Line2D([], [], color=style.INK, lw=1.4, label="mean of the structures")]
    if by_structure:
        handles = [*parts.charted_handles(results, structures), *handles]
    if "validation_loss" in table and table["validation_loss"].notna().any():
        handles.append(
            Line2D([], [], color=style.SOFT, lw=0.8, ls=(0, (3, 1.5)), label="validation loss")
        )
    parts.legend(drawn, handles, width)
    runs = len(results.trainings())
    pseudo = any(
        model.network == "nnunet" and model.validation_fraction for model in study.models.values()
    )
    last = _last(table)
    return parts.Drawing(
        drawn,
        "Learning curves",
        f"{count(runs, 'training')} ({count(len(models), 'model')}, "
        f"{count(len(study.folds), 'fold')}): training loss (thin: one fold; losses of different "
        "models are not comparable), Dice on the held-out validation cases "
        + ("(nnU-Net's: on random patches of them) " if pseudo else "")
        + "(lines: mean over folds"
        + ("; band: smallest to largest fold" if by_structure else "")
        + "; thin: one fold), learning rate, and throughput in patches per second."
        + _machine(table),
        "Learning curves. Last validation Dice: "
        + (
            ", ".join(f"{look.model(model)} {value:.3f}" for model, value in last.items())
            or "none recorded"
        )
        + ".",
        table,
    )


def _throughput(results: Results, history: pandas.DataFrame, model: str, fold: int, seed: int):
    """Return the patches a second of each epoch, validation counted; undefined where it was not recorded."""
    trained = results.trained(model, fold, seed)
    settings = results.study.models[model]
    batch = trained.get("batch_size", getattr(settings, "batch_size", np.nan))
    steps = trained.get("steps_per_epoch", getattr(settings, "steps_per_epoch", np.nan))
    seconds = history.get("seconds", np.nan)
    return pandas.to_numeric(batch, errors="coerce") * steps / seconds


def _machine(table: pandas.DataFrame) -> str:
    """Tell the largest share of a training that went into waiting for patches, and the most memory of a GPU, where recorded."""
    told = ""
    if {"waited_seconds", "seconds"} <= set(table.columns):
        recorded = table.dropna(subset=["waited_seconds", "seconds"])
        sums = recorded.groupby(["model", "fold", "seed"])[["waited_seconds", "seconds"]].sum()
        share = (sums["waited_seconds"] / sums["seconds"].where(sums["seconds"] > 0)).max()
        if not np.isnan(share):
            told += f" Waiting for patches took at most {share:.0%} of a training's time."
    memory_mb = table["gpu_memory_mb"].max() if "gpu_memory_mb" in table else np.nan
    if not np.isnan(memory_mb):
        told += f" A training held at most {memory_mb / 1e3:.1f} GB of its GPU's memory."
    return told


def _mean(
    axes,
    table: pandas.DataFrame,
    column: str,
    colour: str,
    width: float = 0.9,
    signs: Mapping | None = None,
) -> None:
    """Draw the mean over the runs at each epoch; with signs, those of a structure, also the range as a band."""
    recorded = table.dropna(subset=column)
    epochs = recorded["epoch"].nunique()
    # Of many epochs, some have a marker.
    spaced = {"markevery": max(1, epochs // 8), "markersize": 2.6 if signs else 2}
    marker = {"marker": "o"} if epochs < 25 else {}
    seaborn.lineplot(
        recorded, x="epoch", y=column, color=colour, linewidth=width, zorder=3, markeredgewidth=0,
        errorbar=("pi", 100) if signs else None, ax=axes,
        err_kws={"alpha": 0.18, "linewidth": 0}, **(signs or marker), **(spaced if signs or marker else {}),
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")


def _last(table: pandas.DataFrame) -> dict[str, float]:
    """Average each model's last validation Dice over the folds."""
    if f"{DICE}mean" not in table:
        return {}
    recorded = table.dropna(subset=f"{DICE}mean")
    last = recorded.groupby(["model", "fold", "seed"], sort=False)[f"{DICE}mean"].last()
    return last.groupby("model", sort=False).mean().to_dict()
