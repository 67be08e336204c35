"""A card for each model, in Hugging Face's form, and the metadata of a MONAI bundle for each network.

Nothing stands there that is not on record; what only the authors know is taken from the `reporting` block of the study file, or named
as missing.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas

from segstudy.files import write_json, write_text
from segstudy.metric import Metric
from segstudy.publish import checklists, provenance
from segstudy.publish.facts import FACTS, apart
from segstudy.publish.methods import but_for_stopping, fine_tuned
from segstudy.publish.redaction import redacted, yaml_text
from segstudy.publish.results import Results
from segstudy.publish.words import chosen_metrics, listing, markdown, plain
from segstudy.study import EnsembleModel, Model, NnunetModel, UntrainedModel
from segstudy.words import confidence, count

FOLDER = "model_cards"
CARD, BUNDLE = "README.md", "metadata.json"
VERSION = "1.0.0"
"""Of the models of a study, which has each once."""
TO_FILL = "(author: `{}`)"


def write_model_cards(results: Results, folder: Path) -> None:
    """Write a folder a model: its card and, of a network, the metadata of a MONAI bundle."""
    for name, model in results.study.models.items():
        write_text(folder / name / CARD, card(results, name))
        if isinstance(model, (Model, NnunetModel)):
            write_json(folder / name / BUNDLE, bundle(results, name))


def card(results: Results, name: str) -> str:
    """Write the card of a model: front matter as Hugging Face reads it, then Markdown."""
    head = yaml_text(front_matter(results, name))
    parts = [
        f"# {markdown(results.look.model(name))}",
        _summary(results, name),
        *_section("Intended use", _stated(results, "intended_use")),
        *_section("Not meant for", _stated(results, "out_of_scope")),
        *_section("Data", _data(results)),
        *_section("Training", _training(results, name)),
        *_section("Evaluation", _evaluation(results, name)),
        *_section("By subgroup", _subgroups(results, name)),
        *_section("Limits", _limits(results)),
        *_section("Ethics", _stated(results, "ethics")),
        *_section("Authors and contact", _authors(results)),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _section(heading: str, text: str) -> list[str]:
    return [f"## {heading}", text] if text else []


def _stated(results: Results, *names: str) -> str:
    """Return what the authors state, as Markdown; a field that they leave out is named."""
    parts, reporting = [], checklists.public_reporting(results)
    for name in names:
        text = checklists.stated(reporting, f"reporting.{name}")
        parts.append(markdown(text) if text else TO_FILL.format(f"reporting.{name}"))
    return " ".join(parts)


def front_matter(results: Results, name: str) -> dict[str, Any]:
    """Return the front matter of a card: licence, tags, and the report's metrics as a model index."""
    study, model = results.study, results.study.models[name]
    tags = ["segstudy", "medical-imaging", "image-segmentation", study.modality.lower()]
    tags += [model.network, *(f"{model.dims}d" for _ in [0] if isinstance(model, Model))]
    tags += ["fine-tuned"] if _starts_from_weights(results, name) else []
    metrics = chosen_metrics(study.publish.metrics, study)
    found = [
        {
            "task": {"type": "image-segmentation", "name": _task(results)},
            "dataset": {
                "name": f"{dataset} ({tested_as(results, dataset, name)})",
                "type": dataset,
            },
            "metrics": values,
        }
        for dataset in study.tested_datasets
        if (values := _index_values(results, name, dataset, metrics))
    ]
    content: dict[str, Any] = (
        {"license": study.reporting.licence} if study.reporting.licence else {}
    )
    content |= {
        "library_name": "nnunet" if isinstance(model, NnunetModel) else "segstudy",
        "pipeline_tag": "image-segmentation",
        "tags": list(dict.fromkeys(tags)),
        "metrics": [one.name for one in metrics],
    }
    if found:
        content["model-index"] = [{"name": results.look.model(name), "results": found}]
    return content


def _task(results: Results) -> str:
    structures = listing([results.look.in_text(name) for name in results.look.structures])
    return f"Segmentation of {structures} in {results.study.modality} images"


def tested_as(results: Results, dataset: str, name: str) -> str:
    """Say how a model was tested on a dataset, as far as it was trained here."""
    study = results.study
    if not study.trained_on(name):
        return "tested"
    if dataset not in study.cross_validated_datasets:
        return "test only"
    return "test cases of a fixed split" if study.splits.folds == 1 else "cross-validation"


def _index_values(
    results: Results, name: str, dataset: str, metrics: list[Metric]
) -> list[dict[str, Any]]:
    """Return what stands for each metric of a model on a dataset, as a model index has it."""
    values = []
    for one, structure, row, of, value in _central(results, name, dataset, metrics):
        unit = f", {one.unit}" if one.unit else ""
        infinite = int(row["n_infinite"])
        of += f" of {count(int(row['n_subjects']), 'subject')}"
        of += f", {infinite} infinite" if infinite else ""
        words = f"{one.title}, {results.look.in_text(structure)} ({of}{unit})"
        values.append({"type": one.name, "name": words, "value": value})
    return values


def _central(
    results: Results, name: str, dataset: str, metrics: list[Metric]
) -> Iterator[tuple[Metric, str, dict[str, Any], str, float]]:
    """Yield metric, structure, row of the summary, `mean` or `median`, and its value where that is finite.

    The median stands where a subject's value is infinite, which it ranks as worst: a mean of the finite ones would hide what failed.
    """
    rows = _rows(results.summary, name, dataset)
    for one in metrics:
        for structure in results.look.regions:
            row = rows.get((structure, one.name))
            if row is None:
                continue
            of = "median" if int(row["n_infinite"]) else "mean"
            if math.isfinite(row[of]):
                yield one, structure, row, of, round(float(row[of]), 6)


def _rows(
    table: pandas.DataFrame, model: str, dataset: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of a model on a dataset, by structure and metric."""
    chosen = table[(table["model"] == model) & (table["dataset"] == dataset)]
    return {(row["structure"], row["metric"]): row for row in chosen.to_dict("records")}


def _summary(results: Results, name: str) -> str:
    """Say what a model is, with what is to be said before all else."""
    study, model = results.study, results.study.models[name]
    title = redacted(study).title or plain(study.name)
    words = [
        f"{_task(results)}. One of {count(len(study.models), 'model')} of the study “{title}”."
    ]
    if isinstance(model, EnsembleModel):
        members = listing(list(map(results.look.model, model.members)))
        words.append(
            f"It is the ensemble of {members}, which were trained in this study: in each fold, the class probabilities of "
            f"{count(_networks(results, model), 'network')} are averaged with equal weights."
        )
    elif isinstance(model, UntrainedModel):
        words.append("It was not trained in this study.")
    elif len(study.folds) * len(model.seeds) == 1:
        words.append("It stands for one training: figures are of its one set of weights.")
    else:
        trainings = len(study.folds) * len(model.seeds)
        words.append(
            f"It stands for {count(trainings, 'training')}, {count(len(study.folds), 'fold')} by {count(len(model.seeds), 'seed')}: "
            "figures are of all of them together, and there is no single set of weights behind them."
        )
    if _starts_from_weights(results, name):
        words.append("It was fine-tuned from weights that were trained before (see Training).")
    if tells := _shipped(results, name):
        words.append(tells)
    return markdown(" ".join(words))


def _starts_from_weights(results: Results, name: str) -> bool:
    return bool(getattr(results.study.models[name], "initial_weights", None))


def _networks(results: Results, model: EnsembleModel) -> int:
    """Count the networks of an ensemble in a fold."""
    return sum(len(results.study.models[member].seeds) for member in model.members)


def _shipped(results: Results, name: str) -> str:
    """Say what the weights that were trained on every case are, and that none of the figures is theirs; empty where there are none."""
    model, study = results.study.models[name], results.study
    if not getattr(model, "train_on_all", False):
        return ""
    among = "the fixed split" if study.splits.folds == 1 else "the folds"
    return (
        f"For use outside the study it was trained once more with each seed ({count(len(model.seeds), 'set')} of weights), on every "
        f"case but those that were only for testing{but_for_stopping(results.look, {name: model})}. These weights "
        f"have no held-out result of their own: all figures here are of the weights of {among}."
    )


def _data(results: Results) -> str:
    facts = [FACTS[name].tell(results) for name in ("included", "sources", "images")]
    told = markdown(" ".join(filter(None, facts)))
    fields = ("sources", "eligibility", "reference_standard", "annotators", "demographics")
    lines = [f"- {plain(field)}: {_stated(results, field)}" for field in fields]
    return "\n".join([told, "", *lines])


def _training(results: Results, name: str) -> str:
    """Tell how a model came about, by settings and records."""
    model = results.study.models[name]
    if isinstance(model, EnsembleModel):
        members = listing(list(map(results.look.model, model.members)))
        return markdown(
            f"Nothing was trained for it beyond {members}, whose cards tell of their trainings. {apart(results, name)}".strip()
        )
    if isinstance(model, UntrainedModel):
        return markdown(apart(results, name))
    ran = _trained(results, name) if isinstance(model, (Model, NnunetModel)) else []
    rows = [("Network", model.network), ("Seeds", ", ".join(map(str, model.seeds)))]
    if isinstance(model, (Model, NnunetModel)):
        rows += [
            ("Parameters", _same(f"{one['parameters']:,}" for one in ran if "parameters" in one)),
            (
                "Patch (voxels)",
                _same("×".join(map(str, one["patch_size"])) for one in ran if "patch_size" in one),
            ),
            ("Epochs", str(model.epochs)),
            ("Devices", _same(str(one.get("device", "")) for one in ran)),
            ("Weights used", f"`{model.infer.weights}`"),
        ]
    if isinstance(model, Model):
        rows += [
            ("Optimiser", f"{model.optimizer.name}, learning rate {model.optimizer.lr:g}"),
            ("Batch", f"{model.batch_size} patches"),
            (
                "Layer-wise learning rates",
                ", ".join(
                    f"{layer} × {factor:g}" for layer, factor in model.optimizer.lr_factors.items()
                ),
            ),
        ]
    lines = [f"| {what} | {text} |" for what, text in rows if text]
    tuned = (
        fine_tuned(results.look.model(name), model, ran)
        if _starts_from_weights(results, name)
        else ""
    )
    told = (tuned, FACTS["partitions"].tell(results), apart(results, name))
    split = markdown(" ".join(filter(None, told)))
    return "\n".join(
        ["| | |", "|---|---|", *lines, "", f"{split} The methods text has all settings."]
    )


def _trained(results: Results, name: str) -> list[dict]:
    """Return the settings that each training of a model resolved."""
    model = results.study.models[name]
    return [
        results.trained(name, fold, seed) for fold in results.study.folds for seed in model.seeds
    ]


def _same(texts: Any) -> str:
    return " or ".join(text for text in dict.fromkeys(texts) if text)


def _evaluation(results: Results, name: str) -> str:
    """Write a table for each dataset: mean, SD, median, quartiles and counts of the report's metrics."""
    study, look = results.study, results.look
    level = confidence(study.statistics.alpha)
    parts = [markdown(FACTS["aggregation"].tell(results))]
    for dataset in study.tested_datasets:
        rows = _rows(results.summary, name, dataset)
        lines = []
        for structure in look.regions:
            for one in chosen_metrics(study.publish.metrics, study):
                if row := rows.get((structure, one.name)):
                    lines.append(_line(one, markdown(look.structure(structure)), row))
        if lines:
            head = f"| structure | metric | mean ± SD | {level} CI of the mean | median [Q1, Q3] | n | failed |"
            table = "\n".join([head, "|---|---|---|---|---|---|---|", *lines])
            parts.append(f"### {markdown(dataset)}, {tested_as(results, dataset, name)}\n\n{table}")
    parts.append(
        "n: subjects with a value. Mean and SD are those of the finite values, median and quartiles rank infinite as worst. Failed: "
        "scans with the worst value, or without a prediction."
    )
    return "\n\n".join(parts)


def _line(one: Metric, first: str, row: dict[str, Any]) -> str:
    interval = (
        f"{one.text(row['ci_low'])} to {one.text(row['ci_high'])}"
        if row["ci_low"] == row["ci_low"]
        else "–"
    )
    quartiles = f"{one.text(row['median'])} [{one.text(row['q1'])}, {one.text(row['q3'])}]"
    return (
        f"| {first} | {one.axis} | {_mean_sd(one, row)} | {interval} | {quartiles} | "
        f"{int(row['n_subjects'])} | {int(row['n_failed'])} |"
    )


def _mean_sd(one: Metric, row: dict[str, Any]) -> str:
    """Write mean and SD of the finite values, with the number of infinite ones."""
    infinite = f" ({int(row['n_infinite'])} ∞)" if int(row["n_infinite"]) else ""
    return f"{one.text(row['mean'])} ± {one.text(row['sd'])}{infinite}"


def _subgroups(results: Results, name: str) -> str:
    """Write a table of the first metric of the report by subgroups, where there are such."""
    table = results.subgroups
    if table.empty:
        return ""
    study, look = results.study, results.look
    first = chosen_metrics(study.publish.metrics, study)[0]
    chosen = table[(table["model"] == name) & (table["metric"] == first.name)]
    lines = [
        f"| {markdown(plain(row['column']))}: {markdown(str(row['group']))} | {markdown(look.structure(row['structure']))} | "
        f"{_mean_sd(first, row)} | {int(row['n_subjects'])} | {markdown(str(row.get('remark') or ''))} |"
        for row in chosen.to_dict("records")
    ]
    if not lines:
        return ""
    head = f"| group | structure | {first.axis}, mean ± SD | n | remark |"
    return "\n".join([head, "|---|---|---|---|---|", *lines])


def _limits(results: Results) -> str:
    return f"{markdown(FACTS['caveats'].tell(results))} {_stated(results, 'limitations')}".strip()


def _authors(results: Results) -> str:
    licence = results.study.reporting.licence
    words = (
        f"Licence: {markdown(licence)}."
        if licence
        else f"Licence: {TO_FILL.format('reporting.licence')}."
    )
    return (
        f"{_stated(results, 'authors')} {_stated(results, 'contact')} {words} "
        f"{markdown(FACTS['reproduction'].tell(results))}"
    )


# --- MONAI bundle -------------------------------------------------------------------------------


def bundle(results: Results, name: str) -> dict[str, Any]:
    """Return the metadata of a MONAI bundle for a network; keys are those of MONAI's bundle specification.

    A field that the authors leave out says so. The patch, and the channels in and out, are those that the trainings resolved.
    """
    study, model, look = results.study, results.study.models[name], results.look
    reporting, ran = checklists.public_reporting(results), _trained(results, name)
    here = dict(provenance.library_versions())
    versions = {
        key: _recorded(ran, key) or here.get(key, "") for key in ("monai", "torch", "numpy")
    }
    others = {key: here[key] for key in ("nibabel", "segstudy", "nnunetv2") if key in here}
    if not isinstance(model, NnunetModel):
        others.pop("nnunetv2", None)
    authors = "; ".join(reporting.authors) or _left_out("authors")
    classes = {str(place): look.in_text(one) for place, one in enumerate(study.structures, start=1)}
    shape = _shape(ran)
    tensor = {
        "type": "image",
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
    }
    return {
        "version": VERSION,
        "changelog": {VERSION: f"as trained in the study {study.name}"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "optional_packages_version": others,
        "required_packages_version": others,
        "name": look.model(name),
        "task": _task(results),
        "description": f"{model.network} for the segmentation of {listing(list(classes.values()))}, trained in "
        f"{count(len(study.folds), 'fold')}{', fine-tuned from weights that were trained before' * _starts_from_weights(results, name)}. "
        "Images are prepared by segstudy before the network sees them.",
        "authors": authors,
        "copyright": reporting.copyright or _left_out("copyright"),
        "data_source": " ".join(filter(None, (FACTS["sources"].tell(results), reporting.sources)))
        or _left_out("sources"),
        "data_type": study.modality,
        "intended_use": reporting.intended_use or _left_out("intended_use"),
        "eval_metrics": _eval_metrics(results, name),
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "modality": "n/a" if study.modality == "other" else study.modality,
                    "num_channels": len(_channels(results, name)),
                    "channel_def": {str(place): one for place, one in enumerate(_channels(results, name))},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "labels",
                    "num_channels": len(classes) + 1,
                    "channel_def": {"0": "background", **classes},
                }
            },
        },
    }  # fmt: skip


def _left_out(field: str) -> str:
    return f"(author: reporting.{field})"


def _recorded(ran: list[dict], library: str) -> str:
    """Return the version of a library that the trainings recorded."""
    return _same(str((one.get("versions") or {}).get(library, "")) for one in ran)


def _channels(results: Results, name: str) -> list[str]:
    """Return the channels that a network is given: those that its plan keeps."""
    model = results.study.models[name]
    plan = (
        results.study.preprocess.get(getattr(model, "plan", ""))
        if isinstance(model, Model)
        else None
    )
    return list((plan.channels if plan else None) or results.study.channels)


def _shape(ran: list[dict]) -> list[int | str]:
    """Return the patch in voxels; `*` along each axis where trainings differ, or none has it on record."""
    sizes = {tuple(one["patch_size"]) for one in ran if "patch_size" in one}
    if len(sizes) == 1:
        return [int(size) for size in sizes.pop()]
    return ["*"] * (len(next(iter(sizes))) if sizes else 3)


def _eval_metrics(results: Results, name: str) -> dict[str, float]:
    """Return the values of `_central` by dataset, metric and structure, with the number of infinite ones where there are any."""
    study, found = results.study, {}
    metrics = chosen_metrics(study.publish.metrics, study)
    for dataset in study.tested_datasets:
        for one, structure, row, of, value in _central(results, name, dataset, metrics):
            key = f"{dataset}_{one.name}_{structure}"
            found[f"{key}_{of}"] = value
            if of == "median":
                found[f"{key}_n_infinite"] = int(row["n_infinite"])
    return found
