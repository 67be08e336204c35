"""The methods text of a paper, written from the settings and from the records of the runs.

Citations stand as `[[key]]`, keys of `citations.REFERENCES`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import jinja2
import numpy as np
import pandas

from segstudy import analysis_plan, metric, metric_plugins, subgroup_words
from segstudy.groups import FEWEST_TESTED
from segstudy.mirroring import averages_mirrored, mirrored_axes
from segstudy.plugins import label_and_code
from segstudy.publish import human_agreement, provenance, ratings, redaction
from segstudy.publish.dealing import dealing
from segstudy.publish.look import Look
from segstudy.publish.results import Results
from segstudy.publish.subjects import without_subjects
from segstudy.publish.words import listing, percent, plain
from segstudy.quality.calibration import KINDS
from segstudy.study import (
    Augmentation,
    Dataset,
    EnsembleModel,
    ExternalModel,
    Loss,
    Model,
    NnunetModel,
    PluginModel,
    PluginTrainerModel,
    PredictionsModel,
    StudyModel,
    Synthesis,
    UntrainedModel,
)
from segstudy.study.references import described
from segstudy.tolerances import source
from segstudy.words import confidence, count


def methods(results: Results) -> list[tuple[str, str]]:
    """Write the methods text: (heading, text) of each part."""
    parts = [("Data", _data(results))]
    for dataset, settings in results.study.datasets.items():
        if settings.repair:
            parts.append(("Label repair", _repair(results, dataset, settings)))
    if results.corrections:
        parts.append(("Corrected labels", " ".join(results.corrections["sentences"])))
    trains = results.study.trains
    parts += [
        *([("Preprocessing", _preprocessing(results))] if trains else []),
        ("Networks and training" if trains else "Models", _training(results)),
        *([("Prediction", _prediction(results))] if trains else []),
        ("Evaluation", _evaluation(results)),
        ("Statistics", _statistics(results)),
        *(
            [("Quality of predictions", _quality(results))]
            if results.study.statistics.quality
            else []
        ),
        *([("Ratings by readers", ratings.sentences(results))] if results.ratings else []),
        ("Software", _software(results)),
    ]
    return parts


@cache
def _template():
    """Return the macros of `methods.j2`, one a part of the text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segstudy.publish", "."), undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "listing": listing,
        "count": count,
        "plain": plain,
        "extract": lambda key, values: values[key],
    }
    return environment.get_template("methods.j2").module


def _filled(part: str, *values) -> str:
    """Fill a part of the template with its values, as one paragraph."""
    return re.sub("[ \n]+", " ", getattr(_template(), part)(*values)).strip()


def _data(results: Results) -> str:
    study, look, datasets = results.study, results.look, []
    unnamed = without_subjects(results)
    for dataset, settings in study.datasets.items():
        cases, problems = results.cases(dataset), results.problems(dataset)
        subjects = len({case.subject for case in cases})
        datasets.append(
            {
                "name": dataset,
                "settings": settings,
                "is_tested": dataset in study.tested_datasets,
                "cases": len(cases),
                "whole": "" if subjects == len(cases) else f" of {count(subjects, 'subject')}",
                "kind": "simulated " if settings.source.layout == "phantom" else "",
                "named": [look.in_text(name) for name in look.structures],
                "refused": len(set(problems.loc[problems["verdict"] == "refused", "case"]) - {""}),
                "unnamed": dataset in unnamed and len(cases) > 1,
                "same_image": sum(case.same_image_as is not None for case in cases),
            }
        )
    trained_on_part = {
        look.model(name): study.trained_on(name)
        for name in look.models
        if study.models[name].train_on is not None and len(study.training_datasets) > 1
    }
    return _filled("data", study, datasets, trained_on_part, dealing(results), look)


def _repair(results: Results, dataset: str, settings: Dataset) -> str:
    verdicts = results.verdicts(dataset)["verdict"].value_counts()
    words = {"review": "for review", "left": "left as delivered"}
    outcome = [
        f"{count(int(number), 'case')} {words.get(verdict, verdict)}"
        for verdict, number in verdicts.items()
    ]
    structure = results.look.in_text(settings.repair.structure)
    found = results.transform(dataset)
    return _minus(_filled("repair", dataset, settings.repair, structure, found, outcome))


def _preprocessing(results: Results) -> str:
    study, plans = results.study, []
    for name, plan in study.preprocess.items():
        users = [
            results.look.model(model)
            for model in results.look.models
            if study.models[model].plan == name
        ]
        if not users:
            continue
        fitted = [results.plan(name, fold) for fold in study.folds]
        values = [fit["intensities"][0] for fit in fitted if fit["intensities"]]
        clip = _same([f"{fit['low']:.0f} to {fit['high']:.0f} HU" for fit in values])
        plans.append(
            {
                "plan": plan,
                "who": "Images"
                if len(users) == len(study.models)
                else f"For {listing(users)}, images",
                "crop": fitted[0]["crop"],
                "spacing": _same([_mm(fit["spacing_mm"]) for fit in fitted]),
                "clip": clip if fitted[0]["normalise"] == "ct" else "",
            }
        )
    return _minus(_filled("preprocessing", plans))


def _training(results: Results) -> str:
    """Describe each network, then the trainings, those that were alike in one sentence."""
    study, look = results.study, results.look
    models = {name: study.models[name] for name in look.models}
    runs = {
        name: [results.trained(name, fold, seed) for fold in study.folds for seed in model.seeds]
        for name, model in models.items()
        if not isinstance(model, (UntrainedModel, PluginTrainerModel))
    }
    networks = {name: model for name, model in models.items() if isinstance(model, Model)}
    text = []
    for part in (_architecture, partial(_learning, look), _patches, _augmented, _validation):
        groups: dict[str, list[str]] = {}
        for name, model in networks.items():
            groups.setdefault(part(model, runs[name]), []).append(look.model(name))
        for sentence, names in groups.items():
            everyone = len(names) == len(study.models) > 1
            who = "All networks" if everyone else listing(names)
            are = ("is", "are") if part is _architecture else ("was", "were")
            if sentence:
                text.append(f"{who} {are[len(names) > 1]} {sentence}.")
    for name, model in models.items():
        if getattr(model, "initial_weights", None):
            text.append(fine_tuned(look.model(name), model, runs[name]))
        if isinstance(model, NnunetModel):
            text.append(_nnunet(results, name, model, runs[name]))
        if isinstance(model, ExternalModel):
            text.append(_external(look, name, model))
        if isinstance(model, EnsembleModel):
            text.append(_ensemble(results, name, model))
        if isinstance(model, PredictionsModel):
            text.append(_predictions(results, name, model))
        if isinstance(model, PluginTrainerModel):
            text.append(_own_trainer(look, name, model))
    shipped = [
        look.model(name) for name, model in models.items() if getattr(model, "train_on_all", False)
    ]
    if shipped:
        text.append(
            f"For use outside this study, {listing(shipped)} {'was' if len(shipped) == 1 else 'were'} trained once more on every "
            f"case but those that were only for testing{but_for_stopping(look, models)}. These weights were not evaluated: the results are "
            "those of the folds'."
        )
    return " ".join(text)


def but_for_stopping(look: Look, models: Mapping[str, StudyModel]) -> str:
    """Say of which models a training on every case held out some of them, since it ends by their validation; nothing of others."""
    early = {
        name: model
        for name, model in models.items()
        if getattr(model, "train_on_all", False) and getattr(model, "stop_when_flat", None)
    }
    told = [
        f"{100 * model.validation_fraction:g} % of the subjects for {look.model(name)}"
        for name, model in early.items()
    ]
    return f" and those held out to tell when to stop ({listing(told)})" if told else ""


def fine_tuned(name: str, model: Model | NnunetModel, runs: list[dict]) -> str:
    """Say what weights a model started from, which of its layers took them, and what was frozen."""
    started = [
        run["initial_weights"] for run in runs if "taken" in (run.get("initial_weights") or {})
    ]
    if not started:
        return f"{name} was fine-tuned from weights that were trained before."
    first = started[0]
    taken, anew, frozen = first["taken"], first["anew"], first["frozen"]
    shown = listing(list(anew)[:6]) + (f" and {len(anew) - 6} more" if len(anew) > 6 else "")
    text = (
        f"{name} was fine-tuned: it started from {first['file']} (sha256 {first['sha256'][:16]}; network {first['network']}, "
        f"trained on {count(first['known_cases'], 'case')} as far as it knows), of which "
        f"{count(len(taken), 'layer')} of {len(taken) + len(anew)} were taken"
    )
    text += f"; {shown} started anew" if anew else ""
    if frozen:
        text += (
            f"; {count(len(frozen), 'layer')} ({listing(list(model.freeze))}) kept their weights"
        )
    if first["knows_all"]:
        return f"{text}. None of the tested cases has an image that these weights were trained on, by the images' checksums."
    return (
        f"{text}. WARNING: these weights do not tell by checksums which images they were trained on, so whether tested cases are "
        "among them is not known here."
    )


def _ensemble(results: Results, name: str, model: EnsembleModel) -> str:
    """Describe models that predict together."""
    look, study = results.look, results.study
    networks = sum(len(study.models[member].seeds) for member in model.members)
    return (
        f"{look.model(name)} is the ensemble of {listing([look.model(member) for member in model.members])} "
        f"[[lakshminarayanan2017]]: in each fold, the class probabilities of its {count(networks, 'network')}"
        f"{', all seeds among them,' if networks > len(model.members) else ''} were averaged with equal weights."
    )


def _own_trainer(look: Look, name: str, model: PluginTrainerModel) -> str:
    """Describe a model that code of the authors' own trained."""
    apart = (
        f"{percent(model.validation_fraction)} of them were held out to follow it"
        if model.validation_fraction
        else "none of them was held out"
    )
    return (
        f"{look.model(name)} was trained and predicted by code of the authors' own ({_code(model, 'trainer')}"
        f"{_options(model.options)}), which was given the images and labels of the training cases of each fold as they are; "
        f"{apart}."
    )


def _code(model: StudyModel, key: str) -> str:
    """Name a plug-in: its file or module, and the digest of its code."""
    return _told(model.plugin_provenance()[key])


def _class(model: NnunetModel, key: str) -> str:
    """Name a class of nnU-Net's, or one of the authors' own with the digest of its code."""
    return (
        f"{_code(model, key)}, of the authors' own"
        if key in model.plugins()
        else getattr(model, key)
    )


def _told(told: str) -> str:
    """Word the label and the digest of a plug-in."""
    label, code = label_and_code(told)
    return f"{label}, code {code}"


def _options(options: dict) -> str:
    """Word the options of a plug-in."""
    return "".join(f"; {name} {value}" for name, value in options.items())


def _external(look: Look, name: str, model: ExternalModel) -> str:
    """Describe a program that others have trained."""
    merged = [
        f"{look.in_text(structure)} ({' and '.join(map(str, values))})"
        for structure, values in model.labels.items()
        if len(values) > 1
    ]
    return (
        f"{look.model(name)} is the program {redaction.command(model.command)[0]}, which was not trained here; it was given "
        "the images as they are, and its labels are used as it wrote them"
        + (f", merged into {listing(merged)}." if merged else ".")
    )


def _predictions(results: Results, name: str, model: PredictionsModel) -> str:
    """Describe predictions that were there before the study."""
    look = results.look
    merged = [
        f"{look.in_text(structure)} ({' and '.join(map(str, held))})"
        for structure, held in model.labels.items()
        if len(held) > 1
    ]
    apart = (
        leak_check(results.leak_checks(name))
        if model.training_splits
        else "What it was trained on is not known here."
    )
    chosen = (
        " WARNING: something about it was chosen on the very cases that it is tested on, so its figures are better than "
        "those of new cases would be."
        if model.chosen_on_tested
        else ""
    )
    return (
        f"{look.model(name)} is a set of label maps that was made before this study, and was used as delivered"
        + (f", merged into {listing(merged)}." if merged else ".")
        + f" {apart}"
        + chosen
    )


def leak_check(checks: Sequence[dict[str, int]]) -> str:
    """Say of which cases it was checked that the fold which predicted them was not trained on their subject."""
    tested, named, trained_on, known = (
        sum(check[what] for check in checks) for what in ("tested", "named", "trained_on", "known")
    )
    by_file = "the file of the splits that it was trained by"
    if not named:
        return (
            f"{by_file.capitalize()} names none of the tested cases, so whether it was trained on their subjects is not "
            "known here."
        )
    if knows_all(checks):
        return f"By {by_file}, no subject is predicted by a fold that was trained on it."
    return (
        f"By {by_file}, none of the tested cases that it names ({named} of {tested}, over all folds) is predicted by a fold that "
        f"was trained on it, or on another case of its subject as far as subjects of training cases are known ({known} of "
        f"{trained_on}); of the others nothing can be told."
    )


def knows_all(checks: Sequence[dict[str, int]]) -> bool:
    """Tell whether it was checked of every tested case that its subject was not trained on."""
    return any(check["tested"] for check in checks) and all(
        check["named"] == check["tested"] and check["known"] == check["trained_on"]
        for check in checks
    )


def _nnunet(results: Results, name: str, model: NnunetModel, runs: list[dict]) -> str:
    """Describe a model that nnU-Net trained by its own rules."""
    version = _same([run["versions"]["nnunetv2"] for run in runs])
    parameters = _same([f"{run['parameters']:,}" for run in runs])
    sizes = _same(["×".join(map(str, run["patch_size"])) for run in runs])
    batch = _same([str(run["batch_size"]) for run in runs])
    devices = sorted({str(run["device"]).replace("cpu", "CPU") for run in runs})
    planner = f"planner {_class(model, 'planner')}; " if model.planner != "default" else ""
    if model.trainer_class != "nnUNetTrainer":
        planner += f"trainer class {_class(model, 'trainer_class')}; "
    used = "best by its pseudo Dice" if model.infer.weights == "best" else "last"
    apart = (
        f"{percent(model.validation_fraction)} of training cases were held out to follow it"
        if model.validation_fraction
        else "no training case was held out"
    )
    return (
        f"{results.look.model(name)} is nnU-Net [[isensee2021]] (version {version}; {planner}configuration "
        f"{model.configuration}; {parameters} parameters). It fitted its own preprocessing, network and "
        f"patches to the training cases of each fold, and was trained by its own rules for "
        f"{count(model.epochs, 'epoch')} of {count(model.steps_per_epoch, 'step')} on {listing(devices)}"
        f"{_seeds(model)}, with {batch} patches of {sizes} voxels a step. {_mirrored(results, name, model)}Images stored in "
        f"another orientation than those that it was trained on were turned to theirs. Its {used} weights "
        f"were used, and {apart}."
    )


def _mirrored(results: Results, name: str, model: NnunetModel) -> str:
    """Describe the mirroring, where it matters: nnU-Net knows no sides."""
    look, pairs = results.look, results.study.left_right_pairs
    if name in results.study.side_blind_models:
        both = [" and ".join(map(look.in_text, pair)) for pair in pairs]
        return (
            "WARNING: images were mirrored along all axes, from right to left too, while the labels of "
            f"{listing(both)} stayed as they were (mirror: all): it was taught that "
            "these may be on either side, and its figures for single sides are here to show that mistake. "
        )
    return {
        "all": "",
        "not_right_left": "Images were not mirrored from right to left, in training and prediction, since it knows "
        "no sides. ",
        "none": "Images were not mirrored. ",
    }[mirrored_axes(model, pairs)]


def _architecture(model: Model, runs: list[dict]) -> str:
    architecture = {
        "enet": "an ENet [[paszke2016]]",
        "unet": f"a {model.dims}D U-Net [[{'cicek2016' if model.dims == 3 else 'ronneberger2015'}]]",
        "attention_unet": f"a {model.dims}D attention U-Net [[oktay2018]]",
        "unetr": f"a {model.dims}D UNETR [[hatamizadeh2022]]",
        "swin_unetr": f"a {model.dims}D SwinUNETR [[hatamizadeh2022b]]",
        "plugin": f"a {model.dims}D network of the authors' own",
    }.get(model.network, f"a {model.network}")
    details = []
    if model.network == "unet":
        norm = {
            "instance": "instance normalisation [[ulyanov2016]]",
            "batch": "batch normalisation [[ioffe2015]]",
            "none": "no normalisation",
        }[model.normalisation]
        activation = {"leaky_relu": "leaky ReLU", "relu": "ReLU"}[model.activation]
        details.append(f"{'-'.join(map(str, model.channels))} channels, {norm}, {activation}")
        if model.downsampling == "max_pool":
            details.append("max pooling")
        if model.attention != "none":
            attention = {
                "se": "squeeze-and-excitation [[hu2018]]",
                "cbam": "convolutional block attention [[woo2018]]",
            }
            details.append(attention[model.attention])
        if model.dims == 3 and model.deep_supervision:
            details.append("deep supervision")
    if isinstance(model, PluginModel):
        details.append(_code(model, "network") + _options(model.options))
    if model.head:
        details.append(f"a sine coordinate head of width {model.head.hidden} [[sitzmann2020]]")
    parameters = _same([f"{run['parameters']:,}" for run in runs if "parameters" in run])
    if parameters:
        details.append(f"{parameters} parameters")
    return architecture + (f" ({'; '.join(details)})" if details else "")


def _seeds(model: StudyModel) -> str:
    """Name the seeds of the trainings where there are several; all seeds stand with the software."""
    if len(model.seeds) == 1:
        return ""
    return f" from each of the seeds {listing([str(seed) for seed in model.seeds])} a fold"


def _patches(model: Model, runs: list[dict]) -> str:
    sizes = _same(["×".join(map(str, run["patch_size"])) for run in runs if "patch_size" in run])
    steps = _same([str(run["steps_per_epoch"]) for run in runs if "steps_per_epoch" in run])
    planes = f" of {listing(model.planes)} slices" if model.dims == 2 else ""
    if model.slices.keep == "foreground":
        planes += " that hold a structure"
    if model.slices.most_per_plane:
        planes += f" (at most {model.slices.most_per_plane} of a plane and case)"
    return (
        f"shown patches{planes}{f' of {sizes} voxels' if sizes else ''}, {model.batch_size} a step"
        f"{f' and {steps} steps an epoch' if steps else ''}, {percent(model.foreground_fraction)} of "
        "them centred on a structure"
    )


def _augmented(model: Model, runs: list[dict]) -> str:
    """Describe what was done to the patches; the same for most networks of a study, and then told once."""
    if model.trainer == "synth":
        return f"trained on {_synthesis(model.synthesis)}"
    return f"trained with {_augmentation(model.augmentation)}"


def _learning(look: Look, model: Model, runs: list[dict]) -> str:
    optimizer = {
        "adamw": "AdamW [[loshchilov2017]]",
        "adam": "Adam [[kingma2014]]",
        "sgd": "SGD with Nesterov momentum",
    }[model.optimizer.name]
    schedule = {
        "cosine": "decayed by a cosine",
        "poly": "decayed polynomially",
        "linear": "decayed linearly",
        "constant": "constant",
    }[model.schedule.name]
    warm = model.schedule.warmup_epochs
    devices = sorted({str(run["device"]).replace("cpu", "CPU") for run in runs if "device" in run})
    where = f" on {listing(devices)}" if devices else ""
    return (
        f"trained for {_epochs(model, runs)}{where}{_seeds(model)}, with {_loss(look, model.loss)}, by {optimizer} "
        f"(learning rate {model.optimizer.lr:g}, {schedule}"
        f"{f' after {warm:g} epochs of warm-up' if warm else ''}{_factors(model)}; weight decay "
        f"{model.optimizer.weight_decay:g}; gradients clipped at norm {model.gradient_clip_norm:g}"
        f"{f'; weights averaged with decay {model.ema:g} a step' if model.ema else ''})"
    )


def _factors(model: Model) -> str:
    """Word the factors of the learning rate of single layers."""
    factors = [
        f"{factor:g} of it for {name}" for name, factor in model.optimizer.lr_factors.items()
    ]
    return f", {listing(factors)} [[howard2018]]" if factors else ""


def _epochs(model: Model, runs: list[dict]) -> str:
    """Say how long the trainings took: the epochs asked for, or those after which each was stopped."""
    if not model.stop_when_flat:
        return count(model.epochs, "epoch")
    stopped = [run["stopped_at_epoch"] for run in runs if "stopped_at_epoch" in run]
    after = " to ".join(dict.fromkeys(map(str, (min(stopped), max(stopped))))) if stopped else ""
    ended = (
        f"as {len(stopped)} of {len(runs)} did, after {after} epochs" if stopped else "as none did"
    )
    return (
        f"at most {count(model.epochs, 'epoch')} (early stopping: a training ended at the first validation "
        f"{count(model.stop_when_flat, 'epoch')} or more after the one with the best mean Dice, {ended})"
    )


def _validation(model: Model, runs: list[dict]) -> str:
    if not model.validation_fraction:
        return "used with their last weights, and no training case was held out"
    chosen = (
        "used with the weights that did best on"
        if model.infer.weights == "best"
        else "used with the last weights, and followed by their Dice on"
    )
    return f"{chosen} the {percent(model.validation_fraction)} of training cases that were held out"


def _loss(look: Look, loss: Loss) -> str:
    names = {
        "Dice loss [[milletari2016]]": loss.dice,
        "cross-entropy": loss.cross_entropy,
        f"focal loss (γ = {loss.focal_gamma:g}) [[lin2017]]": loss.focal,
        f"Tversky loss (false voxels weighed {loss.tversky_false:g}, missed ones "
        f"{loss.tversky_missed:g}) [[salehi2017]]": loss.tversky,
    }
    for text, share in loss.plugins.items():
        names[f"a loss of the authors' own ({_told(described(text))})"] = share
    shares = [f"{share:g} × {name}" for name, share in names.items() if share > 0]
    weights = ""
    if loss.class_weights:
        weights = " (class weights inside Dice: " + ", ".join(
            f"{look.in_text(name)} {weight:g}" for name, weight in loss.class_weights.items()
        ) + ")"  # fmt: skip
    return " + ".join(shares) + weights


def _augmentation(settings: Augmentation) -> str:
    steps = []
    if settings.affine_probability:
        steps.append(
            f"rotation up to ±{settings.rotation_deg:g}° and scaling by {settings.scale[0]:g} to "
            f"{settings.scale[1]:g}{', shear up to ±' + format(settings.shear, 'g') if settings.shear else ''} "
            f"({percent(settings.affine_probability)} of patches)"
        )
    if settings.flip_axes:
        axes = [axis.replace("_", "-") for axis in settings.flip_axes]
        steps.append(f"flips along {listing(axes)}")
    for share, name in (
        (settings.elastic_probability, "elastic deformation"),
        (settings.noise_probability, "Gaussian noise"),
        (settings.blur_probability, "blur"),
        (settings.bias_probability, "bias field"),
        (settings.brightness_probability, "brightness"),
        (settings.contrast_probability, "contrast"),
        (settings.low_resolution_probability, "lower resolution"),
        (settings.gamma_probability, "gamma"),
        (settings.inverted_gamma_probability, "gamma of the inverted patch"),
    ):
        if share:
            steps.append(f"{name} ({percent(share)})")
    steps += [
        f"changes of the authors' own ({_told(described(text))})" for text in settings.plugins
    ]
    return f"augmentation by {listing(steps)}" if steps else "no augmentation"


def _synthesis(settings: Synthesis) -> str:
    return (
        "images drawn from the label maps alone, as in SynthSeg [[billot2023]]: rotation up to "
        f"±{settings.rotation_deg:g}°, scaling by {settings.scale[0]:g} to {settings.scale[1]:g}, elastic "
        f"shifts of control points {settings.elastic_spacing_mm:g} mm apart (SD {settings.elastic_sd_mm:g} mm), "
        "a Gaussian of random mean and SD for each tissue, a bias field, gamma, and voxels up to "
        f"{settings.max_isotropic_spacing_mm:g} mm or slices up to {settings.max_slice_spacing_mm:g} mm apart"
    )


def _prediction(results: Results) -> str:
    study = results.study
    unseen = [  # models that no training case could choose for
        name
        for name in study.models
        if not set(study.trained_on(name)) & set(study.tested_datasets)
    ]

    def kept(name: str, model: StudyModel) -> str:
        choice = model.infer.keep_largest_component
        return "never" if name in unseen and choice == "auto" else choice

    def named(setting: Callable[[str, StudyModel], object]) -> list[tuple[list[str], object]]:
        """Return the shown names of the models of each value; none are named where all have the same."""
        return [
            ([] if len(names) == len(study.models) else names, value)
            for names, value in _grouped(results, setting)
        ]

    return _filled(
        "prediction",
        named(lambda name, model: percent(model.infer.overlap)),
        [
            names
            for names, does in _grouped(results, lambda name, model: averages_mirrored(model))
            if does
        ],
        named(kept),
        [
            (names, samples)
            for names, samples in _grouped(
                results, lambda _, model: getattr(model.infer, "mc_dropout", 0)
            )
            if samples
        ],
    )


def _grouped(
    results: Results, setting: Callable[[str, StudyModel], object]
) -> list[tuple[list[str], object]]:
    groups: dict = {}
    for name in results.look.models:
        model = results.study.models[name]
        if not isinstance(model, (UntrainedModel, PluginTrainerModel)):
            groups.setdefault(setting(name, model), []).append(results.look.model(name))
    return [(names, value) for value, names in groups.items()]


def _evaluation(results: Results) -> str:
    study, look = results.study, results.look
    measured = [metric.find(name) for name in dict.fromkeys(results.metrics["metric"])]
    by_own_code = {
        known.name: _told(described(text))
        for text, known in metric_plugins.register(study.metrics.plugins).items()
    }
    defined = [
        replace(known, definition=f"{known.definition} (code of the authors' own: {told})")
        if (told := by_own_code.get(known.name))
        else known
        for known in measured
        if known.definition
    ]
    ignored = [name for name, dataset in study.datasets.items() if dataset.ignore]
    groups = [
        f"{look.in_text(name)} ({', '.join(map(look.in_text, members))})"
        for name, members in study.metrics.composite_regions.items()
    ]
    settings = study.metrics
    tolerances = {name: settings.own_tolerance_mm(name) for name in look.regions}
    named = {look.in_text(name): size for name, size in tolerances.items() if size}
    table = settings.nsd_tolerance_of
    asked = {
        "tolerances": [f"{name} {size:.3g} mm" for name, size in named.items()],
        "table": source(table) if isinstance(table, str) else "",
        "lesions": settings.lesions,
        "reasons": [
            f"{metric.find(name).title} ({reason})" for name, reason in settings.reasons.items()
        ],
    }
    text = _filled("evaluation", study, defined, ignored, groups, asked)
    return " ".join(filter(None, (text, human_agreement.methods(results))))


SUBGROUP_SOURCES = {
    "Welch's t": "welch1947",
    "a Wald-type statistic": "pauly2015",
    "Holm's method": "holm1979",
}
"""Words of the text on subgroups, and the work that each is from."""


def _statistics(results: Results) -> str:
    """Describe the tests of the paired and of the unpaired comparisons, each where there are any."""
    study, settings, tests = results.study, results.study.statistics, results.all_tests
    within, across = results.tests, results.dataset_tests
    paired, unpaired = (within[within["design"] == design] for design in ("paired", "unpaired"))
    of_primary, primary = pandas.Series(False, index=tests.index), {}
    if settings.primary and len(tests):
        of_primary = tests["structure"].eq(settings.primary.structure)
        of_primary &= tests["metric"].eq(settings.primary.metric)
        title = metric.find(settings.primary.metric, settings.directions).title
        primary = {
            "name": f"{title} of {results.look.in_text(settings.primary.structure)}",
            "tests": int(tests.loc[of_primary, "n_family"].max()) if of_primary.any() else 0,
        }
    text = _filled(
        "statistics",
        settings,
        [metric.find(name).title for name in dict.fromkeys(tests["metric"])],
        len(study.models),
        len(study.folds),
        _range(paired, "n_subjects") if len(paired) else "",
        [
            (what, _range(rows, "n_a", "n_b"))
            for rows, what in (
                (unpaired, "Models that were measured on different cases"),
                (across, _datasets(results)),
            )
            if len(rows)
        ],
        tests.groupby(["dataset", "dataset_b"]).ngroups,
        len(across),
        {
            "rows": len(tests),
            "finite": int(np.isfinite(tests["p"].astype(float))[~of_primary].sum()),
        },
        confidence(settings.alpha),
        primary,
        [metric.find(name, settings.directions).title for name in settings.margin],
    )
    if not settings.subgroups:
        return text
    groups = subgroup_words.methods(settings.subgroups, settings.alpha, FEWEST_TESTED)
    for words, key in SUBGROUP_SOURCES.items():
        groups = groups.replace(words, f"{words} [[{key}]]", 1)
    return f"{text} {groups} {analysis_plan.about_subgroups(results.root, settings)}"


def _quality(results: Results) -> str:
    """Describe how the quality of predictions was estimated without their references."""
    calibrations = results.calibrations
    kinds: dict[str, list[str]] = {}
    for name, one in calibrations.items():
        if one.kind:
            kinds.setdefault(KINDS[one.kind], []).append(results.look.model(name))
    without = [
        (results.look.model(name), one.reason) for name, one in calibrations.items() if one.reason
    ]
    subjects = [one.subjects for one in calibrations.values() if not one.reason]
    few = [results.look.model(name) for name, one in calibrations.items() if one.limit is None]
    return _filled(
        "quality",
        list(kinds.items()),
        without,
        sorted({min(subjects), max(subjects)}) if subjects else [],
        "all" if len(few) == len(calibrations) else listing(few),
    )


def _datasets(results: Results) -> str:
    pairs = results.dataset_tests[["dataset", "dataset_b"]].drop_duplicates()
    named = [f"{first} and {second}" for first, second in pairs.itertuples(index=False)]
    return f"The results of a model on {listing(named)}"


def _range(rows: pandas.DataFrame, *columns: str) -> str:
    """Write the least and the most of some counts."""
    low, high = (int(end(rows[list(columns)].to_numpy(float))) for end in (np.min, np.max))
    return str(low) if low == high else f"{low} to {high}"


def _software(results: Results) -> str:
    versions: dict[str, set[str]] = {}
    for model, fold, seed in results.trainings():
        for name, version in (results.trained(model, fold, seed).get("versions") or {}).items():
            versions.setdefault(name, set()).add(str(version))
    monai = " and MONAI [[cardoso2022]]" if "monai" in versions else ""
    here = dict(provenance.library_versions())
    own = f"segstudy {here['segstudy']} [[segstudy]]"
    snakemake = f" (Snakemake {here['snakemake']})" if "snakemake" in here else ""
    torch = f" with PyTorch [[paszke2019]]{monai}" if versions else ""
    text = [f"{own} ran the study as a Snakemake workflow [[molder2021]]{snakemake}{torch}."]
    shown = [f"{name} {'/'.join(sorted(numbers))}" for name, numbers in sorted(versions.items())]
    if shown:
        text.append(f"Training used {listing(shown)}, on {devices(results)}.")
    text.append(
        f"Figures and report were made with matplotlib {here['matplotlib']} on {provenance.machine()}."
    )
    seeds = [f"{what} {seed}" for what, seed in provenance.seeds(results.study, results.look)]
    text.append(f"Seeds: {listing(seeds)}.")
    return " ".join(text)


def devices(results: Results) -> str:
    """List the devices that the networks were trained on, as their settings tell."""
    found: dict[str, None] = {}
    for model, fold, seed in results.trainings():
        trained = results.trained(model, fold, seed)
        device = str(trained.get("device", "")).replace("cpu", "CPU")
        threads = f", {count(trained['threads'], 'thread')}" if "threads" in trained else ""
        precision = f", {trained['precision']}" if "precision" in trained else ""
        found[f"{device}{threads}{precision}"] = None
    return "; ".join(text for text in found if text)


def _same(texts: Sequence[str]) -> str:
    """Write the text that all agree on, or the range of them."""
    distinct = list(dict.fromkeys(texts))
    return distinct[0] if len(distinct) == 1 else " or ".join(distinct)


def _mm(sizes: Sequence[float]) -> str:
    return " × ".join(f"{size:.3g}" for size in sizes)


def _minus(text: str) -> str:
    """Write a hyphen before a digit that follows a space or bracket as a minus."""
    for before in (" ", "("):
        for digit in "0123456789":
            text = text.replace(f"{before}-{digit}", f"{before}−{digit}")
    return text
