"""Facts of a study that checklists and model cards repeat: each is told from settings or tables, and is empty where nothing is on record.

A fact never says more than what ran: what only the authors know stands in the `reporting` block of the study file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

import segstudy
from segstudy import analysis_plan, metric
from segstudy.publish import provenance, redaction
from segstudy.publish.citations import CITED
from segstudy.publish.cohort import cohort_columns
from segstudy.publish.dealing import dealing
from segstudy.publish.methods import fine_tuned, knows_all, leak_check, methods
from segstudy.publish.results import Results
from segstudy.publish.subjects import without_subjects
from segstudy.publish.tables import learnt_nothing, role
from segstudy.publish.words import chosen_metrics, listing, plain
from segstudy.study import EnsembleModel, Model, NnunetModel, PredictionsModel, UntrainedModel
from segstudy.words import confidence, count

FEW_SUBJECTS = 20
"""Subjects below which a cohort is called small."""


@dataclass(frozen=True)
class Fact:
    """A question that results answer.

    Attributes
    ----------
    tell
        Results -> a sentence or several; empty where nothing is on record.
    places
        Where it stands: a section of the report by its anchor (`#data`), or a file of the zip.
    lacks
        Results -> what of the answer is not on record, so that the authors have to say it; empty where all is.
    """

    tell: Callable[[Results], str]
    places: tuple[str, ...]
    lacks: Callable[[Results], str]


FACTS: dict[str, Fact] = {}
"""Name, as the tables of the checklists have it -> fact."""


def _nothing(_: Results) -> str:
    return ""


def _fact(
    *places: str, lacks: Callable[[Results], str] = _nothing
) -> Callable[[Callable[[Results], str]], Callable[[Results], str]]:
    """Enter a function into `FACTS` by its name."""

    def enter(tell: Callable[[Results], str]) -> Callable[[Results], str]:
        FACTS[tell.__name__] = Fact(tell, places, lacks)
        return tell

    return enter


def there(results: Results) -> set[str]:
    """Return the anchors of the sections that the report of a study has."""
    study = results.study
    always = (
        "overview",
        "data",
        "results",
        "results-metrics",
        "cases",
        "methods",
        "provenance",
        "settings",
        "warnings",
    )
    some = {
        "repair": any(dataset.repair for dataset in study.datasets.values()),
        "training": study.trains,
        "results-verdicts": study.statistics.is_planned and len(study.models) > 1,
        "tests": len(results.all_tests) > 0,
    }
    return {
        f"#{name}" for name in (*always, *(name for name, is_there in some.items() if is_there))
    }


def _methods(results: Results, heading: str) -> str:
    """Return a part of the methods text, without its citations; empty where it has none of this heading."""
    text = dict(methods(results)).get(heading, "")
    return re.sub(f" ?{CITED.pattern}", "", text)


def _trained(results: Results) -> list[str]:
    """Return the models that were trained here."""
    models = results.study.models
    return [name for name in results.look.models if not isinstance(models[name], UntrainedModel)]


def _elsewhere(results: Results) -> list[str]:
    """Return the models that came about outside this study: programs, and predictions that were there."""
    models = results.study.models
    return [
        name
        for name in results.look.models
        if isinstance(models[name], UntrainedModel) and not isinstance(models[name], EnsembleModel)
    ]


def _of_elsewhere(what: str) -> Callable[[Results], str]:
    """Return what is not on record of models that came about outside this study."""

    def lacks(results: Results) -> str:
        names = _elsewhere(results)
        return f"{what} {listing(list(map(results.look.model, names)))}" if names else ""

    return lacks


def _joined(*parts: Callable[[Results], str]) -> Callable[[Results], str]:
    """Join what is lacking."""
    return lambda results: ", and ".join(filter(None, (part(results) for part in parts)))


def _subjects(results: Results) -> str:
    """Say of which datasets it is not on record whether cases share a subject."""
    names = without_subjects(results)
    return f"whether cases of {listing(names)} share a subject" if names else ""


def _is_apart(results: Results, name: str) -> bool:
    """Tell whether it is on record that a model was not trained on the subjects that it is tested on."""
    study = results.study
    model = study.models[name]
    if isinstance(model, EnsembleModel):
        return all(_is_apart(results, member) for member in model.members)
    if isinstance(model, PredictionsModel):
        return bool(model.training_splits) and knows_all(results.leak_checks(name))
    if isinstance(model, UntrainedModel):
        return False
    if not getattr(model, "initial_weights", None):
        return True
    runs = (results.trained(name, fold, seed) for fold in study.folds for seed in model.seeds)
    return all((run.get("initial_weights") or {}).get("knows_all") for run in runs)


def _training_data(results: Results) -> str:
    """Say of which models it is not on record what they were trained on."""
    names = [results.look.model(one) for one in results.look.models if not _is_apart(results, one)]
    return (
        f"what {listing(names)} {'was' if len(names) == 1 else 'were'} trained on" if names else ""
    )


def _here(results: Results) -> list[str]:
    """Return the models, as they are shown, of which all that was learnt was learnt here."""
    models = results.study.models
    return [
        results.look.model(name)
        for name in results.look.models
        if not isinstance(models[name], PredictionsModel) and _is_apart(results, name)
    ]


# --- the study ----------------------------------------------------------------------------------


@_fact("#overview")
def title(results: Results) -> str:
    """Return the title that the study file gives."""
    text = redaction.redacted(results.study).title
    return f"Title: {text}." if text else ""


@_fact("#methods")
def category(results: Results) -> str:
    """Say what is judged."""
    objects = ", and connected components one by one" if results.study.metrics.lesions else ""
    return f"Segmentation of images: voxels and surfaces of structures are judged{objects}."


@_fact("#methods", lacks=_of_elsewhere("the kind of method behind"))
def technology(results: Results) -> str:
    """Name the kind of method of each model."""
    study, look = results.study, results.look
    kinds: dict[str, list[str]] = {}
    for name in look.models:
        model = study.models[name]
        kind = (
            f"deep learning, network {model.network}"
            if isinstance(model, (Model, NnunetModel))
            else "label maps made before the study"
            if isinstance(model, PredictionsModel)
            else f"ensemble of {listing(list(map(look.model, model.members)))}"
            if isinstance(model, EnsembleModel)
            else "a program, not trained here"
            if isinstance(model, UntrainedModel)
            else "code of the authors' own, trained here"
        )
        kinds.setdefault(kind, []).append(look.model(name))
    parts = [f"{listing(names)}: {kind}" for kind, names in kinds.items()]
    return f"Segmentation of images. {'; '.join(parts)}."


@_fact("#overview")
def comparison(results: Results) -> str:
    """Say what is compared."""
    study, look = results.study, results.look
    structures = listing(list(map(look.in_text, look.structures)))
    names = listing(list(map(look.model, look.models)))
    if len(study.models) == 1:
        return f"Performance of {names} in segmenting {structures}."
    return f"Comparison of {names} in segmenting {structures}."


@_fact("#overview", lacks=_of_elsewhere("the conditions behind"))
def baselines(results: Results) -> str:
    """Say what models are compared with."""
    return comparison(results) if len(results.study.models) > 1 else ""


@_fact("#results-verdicts")
def plan(results: Results) -> str:
    """Say what was planned, and when that was recorded."""
    settings = results.study.statistics
    if not settings.is_planned:
        return ""
    said = []
    if settings.primary:
        title = metric.find(settings.primary.metric, settings.directions).title
        said.append(
            f"Primary endpoint: {title} of {results.look.in_text(settings.primary.structure)}."
        )
    if settings.margin:
        titles = [metric.find(name, settings.directions).title for name in settings.margin]
        said.append(f"A margin of equivalence was set for {listing(titles)}.")
    said.append(analysis_plan.standing(results.root, settings).sentence)
    return " ".join(said)


# --- data ---------------------------------------------------------------------------------------


@_fact("#data", "LICENCE.md")
def sources(results: Results) -> str:
    """Name datasets that anybody can fetch, and those that are simulated."""
    known, said = redaction.registry(), []
    for name, dataset in results.study.datasets.items():
        entry = known.get(redaction.registered_name(dataset.source, known) or "")
        if dataset.source.layout == "phantom":
            said.append(f"{name}: simulated, no patient.")
        elif entry:
            said.append(
                f"{name}: {entry['title']} ({entry['reference']}; licence {entry['licence']})."
            )
    return " ".join(said)


@_fact("#data", "tables/cases.csv", "tables/audit.csv", lacks=_subjects)
def included(results: Results) -> str:
    """Count cases and subjects, and those that the audit refused."""
    said = []
    for name in results.study.datasets:
        cases, problems = results.cases(name), results.problems(name)
        refused = len(set(problems.loc[problems["verdict"] == "refused", "case"]) - {""})
        of = _of_subjects(results, name, {case.subject for case in cases})
        said.append(
            f"{name} ({role(results.study, name)}): {count(len(cases), 'case')}{of}; "
            f"{refused} refused by the audit of files."
        )
    return " ".join(said)


def _of_subjects(results: Results, dataset: str, subjects: set[str]) -> str:
    """Say of how many subjects cases are, or that each is taken for one."""
    if dataset in without_subjects(results):
        return (
            ", each taken for a subject of its own, since no subject is named apart from the case"
        )
    return f" of {count(len(subjects), 'subject')}"


@_fact("#data", "tables/cases.csv")
def images(results: Results) -> str:
    """Describe modality, channels, grids and voxel sizes."""
    said = []
    for name, dataset in results.study.datasets.items():
        cases = results.cases(name)
        if not cases:
            continue
        sizes = np.array([case.spacing_mm for case in cases], float)
        shapes = np.array([case.shape for case in cases], float)
        kind = f"{dataset.modality}, {count(len(dataset.channels), 'channel')}"
        said.append(
            f"{name}: {kind if dataset.has_images else 'label maps'}; voxels of {_range(sizes)} mm, grids of "
            f"{_range(shapes)} voxels."
        )
    return " ".join(said)


def _range(values: np.ndarray) -> str:
    """Write the range along each axis."""
    ends = zip(values.min(axis=0), values.max(axis=0), strict=True)
    return " × ".join("–".join(dict.fromkeys((f"{low:.3g}", f"{high:.3g}"))) for low, high in ends)


@_fact("#data", "tables/audit.csv")
def audit(results: Results) -> str:
    """Say what was checked of each file."""
    return "Each file was checked for shape, spacing, origin, direction, finite values and label values before use."


@_fact("#methods")
def subsets(results: Results) -> str:
    """Say which models learned from a part of the data."""
    study, look, said = results.study, results.look, []
    for name in _trained(results):
        model = study.models[name]
        subset = getattr(model, "training_subset", None)
        if subset:
            said.append(
                f"{look.model(name)} was trained on {count(subset.subjects, 'subject')} of a fold's, drawn at random."
            )
        if getattr(model, "train_on", None) is not None and len(study.training_datasets) > 1:
            said.append(f"{look.model(name)} learned from {listing(study.trained_on(name))} alone.")
    for name, dataset in study.datasets.items():
        if dataset.on_bad_case == "drop":
            said.append(f"Cases of {name} that the audit refused were dropped.")
    return " ".join(said) or "All cases that passed the audit were used."


@_fact("#results-metrics", "tables/summary.csv")
def missing(results: Results) -> str:
    """Count predictions and structures that are missing, and say how they count."""
    taken = {
        "worst": "A missing prediction counts as the worst value",
        "exclude": "Cases without a prediction are left out of comparisons with that model",
    }
    summary = results.summary
    lacking = int(summary.groupby(["dataset", "model"])["n_missing"].max().sum())
    absent = int(summary.groupby(["dataset", "structure"])["n_absent"].max().sum())
    return (
        f"{taken[results.study.statistics.missing]}; {count(lacking, 'prediction')} {_verb(lacking)} missing. A structure "
        f"that the reference lacks is undefined for every model ({count(absent, 'such case')}, over all structures)."
    )


def _verb(number: int) -> str:
    return "is" if number == 1 else "are"


@_fact("#methods", lacks=_of_elsewhere("preprocessing of images for"))
def preprocessing(results: Results) -> str:
    """Return the methods text on preprocessing."""
    return _methods(results, "Preprocessing")


# --- reference ----------------------------------------------------------------------------------


@_fact("#repair", "#data")
def label_repair(results: Results) -> str:
    """Say which labels were changed before use."""
    said = []
    for name, dataset in results.study.datasets.items():
        if dataset.repair:
            verdicts = results.verdicts(name)["verdict"]
            repaired = int((verdicts == "repaired").sum())
            structure = results.look.in_text(dataset.repair.structure)
            said.append(
                f"In {name}, the label of the {structure} had been moved; it was put back in {repaired} of {len(verdicts)} cases."
            )
    return " ".join(said) or "Labels were used as delivered."


@_fact("#data", "tables/label_faults.csv")
def label_faults(results: Results) -> str:
    """Count labels that do not fit their cohort."""
    said = []
    for name, dataset in results.study.datasets.items():
        if dataset.audit_labels:
            number = len(results.faults(name))
            said.append(f"Labels of {name} were compared with one another: {number} suspected.")
    return " ".join(said)


# --- partitions ---------------------------------------------------------------------------------


@_fact("#methods", "tables/splits.csv")
def partitions(results: Results) -> str:
    """Say how cases came into folds and what is held out."""
    study, said = results.study, []
    if study.cross_validated_datasets and study.splits.folds == 1:
        learned = "models learned from all cases but those for testing"
        what = learned if study.trains else "cases for testing were told apart"
        said.append(f"A fixed split, as the case table has it: {what}.")
    elif study.cross_validated_datasets:
        run = len(study.folds)
        some = (
            f", of which {run} {'was' if run == 1 else 'were'} run"
            if run < study.splits.folds
            else ""
        )
        what = "Cross-validation" if study.trains else "Cases were divided"
        into = "into" if not study.trains else "in"
        said.append(f"{what} {into} {study.splits.folds} folds{some}. {dealing(results)}")
    for name, dataset in study.datasets.items():
        if dataset.role == "test" and study.trains:
            said.append(f"{name} was used for testing only.")
        if dataset.role == "train_only" and study.trains:
            said.append(f"{name} was used for training only.")
    shares = {
        results.look.model(name): study.models[name].validation_fraction
        for name in _trained(results)
        if getattr(study.models[name], "validation_fraction", 0)
    }
    if shares:
        whose = "the" if study.splits.folds == 1 else "a fold's"
        told = [f"{name} {share * 100:.3g} %" for name, share in shares.items()]
        said.append(
            f"Of {whose} training cases, some were held out to follow the training: {listing(told)}."
        )
    return " ".join(said)


@_fact("#methods", "tables/splits.csv", lacks=_joined(_training_data, _subjects))
def disjointness(results: Results) -> str:
    """Say at which level training and tested cases are apart, as far as it is on record."""
    trained = [results.look.model(name) for name in _trained(results)]
    said = [_level(results)] if trained else []
    if said != [""] and said and _elsewhere(results):
        said = [f"{listing(trained)}: {said[0][:1].lower()}{said[0][1:]}"]
    said += [
        apart(results, name)
        for name in results.look.models
        if isinstance(results.study.models[name], PredictionsModel)
        and results.study.models[name].training_splits
    ]
    return " ".join(filter(None, said))


def apart(results: Results, name: str) -> str:
    """Say of a model at which level what it was trained on and what it is tested on are apart, and what is not known of that."""
    model, shown = results.study.models[name], results.look.model(name)
    if isinstance(model, EnsembleModel):
        parts = dict.fromkeys(apart(results, member) for member in model.members)
        return " ".join(filter(None, parts))
    if isinstance(model, PredictionsModel) and model.training_splits:
        return f"{shown}: {leak_check(results.leak_checks(name))}"
    if isinstance(model, UntrainedModel):
        return f"What {shown} was trained on: not known here."
    if _is_apart(results, name):
        return _level(results)
    return f"{_level(results)} What its initial weights were trained on: not known here.".strip()


def _level(results: Results) -> str:
    """Say at which level cases of trainings and tested cases are apart; empty where no case of a training dataset is tested."""
    study = results.study
    if study.splits.group_by == "case_though_it_leaks" and study.trains:
        return "By case: subjects stand on both sides of the split, so the results leak."
    if not study.cross_validated_datasets:
        return ""
    unnamed = [name for name in study.training_datasets if name in without_subjects(results)]
    fixed = study.splits.folds == 1
    if unnamed:
        return (
            f"By case: each {'is trained on or tested' if fixed else 'stays in one fold'}. No subject of {listing(unnamed)} is named apart from the case, so each case is "
            "taken for a subject."
        )
    if fixed:
        return "By subject: no case of a subject that is tested is trained on."
    return "By subject: all cases of a subject stay in one fold."


@_fact("#results-metrics", "tables/summary.csv", lacks=_subjects)
def tested(results: Results) -> str:
    """Count the tested subjects and cases."""
    table, said = results.metrics, []
    for name in results.study.tested_datasets:
        subjects = {case.case: case.subject for case in results.cases(name)}
        cases = set(table.loc[table["dataset"] == name, "case"])
        of = _of_subjects(results, name, {subjects.get(case, case) for case in cases})
        said.append(f"{name}: {count(len(cases), 'case')} tested{of}.")
    return " ".join(said)


# --- models -------------------------------------------------------------------------------------


@_fact("#training", "#methods", lacks=_of_elsewhere("network and size of"))
def architectures(results: Results) -> str:
    """Name network, dimensions and parameters of each model."""
    study, said = results.study, []
    for name in results.look.models:
        model = study.models[name]
        if isinstance(model, (Model, NnunetModel)):
            parameters = {
                results.trained(name, fold, seed).get("parameters")
                for fold in study.folds
                for seed in model.seeds
            } - {None}
            dims = f"{model.dims}D " if isinstance(model, Model) else ""
            sizes = " or ".join(f"{number:,}" for number in sorted(parameters))
            told = f", {sizes} parameters" if sizes else ""
            said.append(f"{results.look.model(name)}: {dims}{model.network}{told}.")
    return " ".join(said)


@_fact("#methods")
def models(results: Results) -> str:
    """Return the methods text on networks and training, or on models that were not trained here."""
    return _methods(results, "Networks and training") or _methods(results, "Models")


@_fact("#training", "#methods", "tables/training.csv", lacks=_of_elsewhere("training of"))
def training(results: Results) -> str:
    """Sum up how each model was trained."""
    study, said = results.study, []
    for name in _trained(results):
        model = study.models[name]
        words = [count(model.epochs, "epoch")] if hasattr(model, "epochs") else []
        if isinstance(model, Model):
            words += [
                f"{model.optimizer.name} at {model.optimizer.lr:g}",
                f"batches of {model.batch_size}",
            ]
        words.append(f"seeds {', '.join(map(str, model.seeds))}")
        said.append(f"{results.look.model(name)}: {', '.join(words)}.")
    if not said:
        return ""
    return f"{' '.join(said)} Loss, schedule and augmentation stand in the methods text."


@_fact("#methods", lacks=_of_elsewhere("initialisation of"))
def initialisation(results: Results) -> str:
    """Say from which weights trainings began: random ones, or those of a training before."""
    study = results.study
    networks = {name: study.models[name] for name in _trained(results)}
    tuned = [name for name, model in networks.items() if getattr(model, "initial_weights", None)]
    names = [
        results.look.model(name)
        for name, model in networks.items()
        if isinstance(model, Model) and name not in tuned
    ]
    said = [f"{listing(names)}: at random, by the seeds given."] if names else []
    for name in tuned:
        model = networks[name]
        runs = [results.trained(name, fold, seed) for fold in study.folds for seed in model.seeds]
        said.append(fine_tuned(results.look.model(name), model, runs))
    return " ".join(said)


@_fact("#methods", lacks=_of_elsewhere("choice of the final weights of"))
def selection(results: Results) -> str:
    """Say which weights were used, and how a grid search chose."""
    study, said = results.study, []
    kinds: dict[str, list[str]] = {}
    for name in _trained(results):
        kept = getattr(getattr(study.models[name], "infer", None), "weights", None)
        if kept:
            kinds.setdefault(kept, []).append(results.look.model(name))
    words = {
        "last": "the last weights, none chosen by their results",
        "best": "the weights that did best on held-out training cases",
    }
    said += [f"{listing(names)}: {words[kept]}." for kept, names in kinds.items()]
    if study.grids:
        said.append("Of a grid search, the best model was chosen on held-out validation cases.")
    chosen = [
        results.look.model(name)
        for name in results.look.models
        if getattr(study.models[name], "chosen_on_tested", False)
    ]
    if chosen:
        said.append(f"Of {listing(chosen)}, something was chosen on the tested cases.")
    return " ".join(said)


@_fact("#methods", lacks=_of_elsewhere("prediction and post-processing by"))
def prediction(results: Results) -> str:
    """Return the methods text on prediction and post-processing."""
    return _methods(results, "Prediction")


@_fact("#methods", "tables/values.csv", lacks=_of_elsewhere("whether an ensemble is behind"))
def ensembling(results: Results) -> str:
    """Say which models are ensembles, and how several predictions of a case count, of models that predicted here."""
    study, look = results.study, results.look
    names = _trained(results)
    ensembles = {
        name: study.models[name].members
        for name in look.models
        if isinstance(study.models[name], EnsembleModel)
    }
    by_folds = len(study.folds) > 1 and any(
        study.datasets[name].role == "test" for name in study.tested_datasets
    )
    over = "; measurements are averaged over the folds that predicted a case" if by_folds else ""
    said = [
        f"{look.model(name)} is an ensemble of {listing(list(map(look.model, members)))}: in each fold, the class probabilities of "
        f"its {count(sum(len(study.models[member].seeds) for member in members), 'network')} are averaged{over}."
        for name, members in ensembles.items()
    ]
    if not names:
        return " ".join(said)
    who = f"{listing(list(map(look.model, names)))}: n" if len(names) < len(look.models) else "N"
    several = any(len(study.models[name].seeds) > 1 for name in names)
    if not several and not by_folds:
        told = "o ensemble of folds or seeds: each tested case is predicted by one training of a model."
    else:
        what = listing([*(["seeds"] if several else []), *(["folds"] if by_folds else [])])
        told = f"o ensemble of {what}: a case's measurements are averaged over the {what} that predicted it."
    return " ".join([*said, f"{who}{told}"])


@_fact(
    *("#methods", "#provenance", "requirements.lock", "provenance.json"),
    lacks=_of_elsewhere("software of"),
)
def software(results: Results) -> str:
    """Return the methods text on software, versions, devices and seeds."""
    return _methods(results, "Software")


@_fact("#provenance", lacks=_of_elsewhere("time and memory of"))
def cost(results: Results) -> str:
    """Say of which stages time and memory were measured, without figures and counts of jobs: checklists are the same bytes in every run."""
    table = results.benchmarks()
    stages = [row["stage"] for row in provenance.run_times(table)] if len(table) else []
    return f"Time and peak memory of every job of {listing(stages)} are measured." if stages else ""


# --- evaluation ---------------------------------------------------------------------------------


@_fact("#methods", "tables/metrics.csv")
def metrics(results: Results) -> str:
    """Name the metrics that were measured, and on which grid."""
    measured = [metric.find(name).axis for name in dict.fromkeys(results.metrics["metric"])]
    return f"On the image's own grid, in millimetres: {listing(measured)}."


def _reasons(results: Results) -> str:
    """Name the metrics that are tested or lead the report, and of which no reason is on record."""
    study = results.study
    chosen = [
        *chosen_metrics(study.statistics.metrics, study),
        *chosen_metrics(study.publish.metrics, study),
    ]
    bare = {one.name: one.axis for one in chosen if not _has_reason(results, one.name)}
    return f"why {listing(list(bare.values()))}" if bare else ""


def _has_reason(results: Results, name: str) -> bool:
    """Tell whether a reason is given for a metric, by its name or, of surface distances at a tolerance, by that of all."""
    return any(
        name == known or (known == "nsd" and name.startswith("nsd_"))
        for known in results.study.metrics.reasons
    )


@_fact("#methods", lacks=_reasons)
def metric_reasons(results: Results) -> str:
    """Repeat the reasons by which metrics were chosen."""
    reasons = results.study.metrics.reasons
    return " ".join(f"{metric.find(name).title}: {reason}." for name, reason in reasons.items())


@_fact("#methods")
def tolerances(results: Results) -> str:
    """Name the tolerances of the normalised surface distance."""
    settings = results.study.metrics
    own = {name: settings.own_tolerance_mm(name) for name in results.look.regions}
    told = [f"{results.look.in_text(name)} {size:g} mm" for name, size in own.items() if size]
    words = f"{listing([f'{size:g}' for size in settings.nsd_tolerance_mm])} mm for all structures"
    return f"Tolerances of the surface distance: {words}{f'; {listing(told)}' if told else ''}."


@_fact("#methods")
def statistics(results: Results) -> str:
    """Return the methods text on statistics."""
    return _methods(results, "Statistics")


@_fact("#results-metrics", "tables/summary.csv")
def aggregation(results: Results) -> str:
    """Say over what means are taken."""
    return (
        "Metrics are taken case by case, averaged over a subject's cases, and summarised over subjects, structure by "
        f"structure, with {confidence(results.study.statistics.alpha)} intervals."
    )


@_fact("#results-metrics", "tables/summary.csv", "figures/")
def performance(results: Results) -> str:
    """Give the mean of the first metric of the report, by structure and model; the median where a value is infinite."""
    study, look = results.study, results.look
    first = chosen_metrics(study.publish.metrics, study)[0]
    table = results.summary[results.summary["metric"] == first.name].set_index(
        ["dataset", "structure", "model"]
    )
    ranked = bool((table["n_infinite"] > 0).any())
    level, said = confidence(study.statistics.alpha), []
    for dataset in study.tested_datasets:
        for structure in look.structures:
            values = [
                f"{look.model(model)} {_central(first, table.loc[(dataset, structure, model)], ranked, level)}"
                for model in look.models
                if (dataset, structure, model) in table.index
            ]
            where = f" on {dataset}" if len(study.tested_datasets) > 1 else ""
            if values:
                said.append(f"{plain(look.in_text(structure))}{where}: {'; '.join(values)}.")
    of = (
        "median [quartiles], in which an infinite value counts as the worst"
        if ranked
        else "mean ± SD"
    )
    return f"{first.axis}, {of}, over subjects. {' '.join(said)}" if said else ""


def _central(one: metric.Metric, row: Mapping, ranked: bool, level: str) -> str:
    """Write the median with quartiles, or mean and SD, with n and the interval of it."""
    of = "median_" if ranked else "ci_"
    low, high = row[f"{of}low"], row[f"{of}high"]
    interval = f", {level} CI {one.text(low)} to {one.text(high)}" if low == low else ""
    infinite = f", {int(row['n_infinite'])} infinite" if row["n_infinite"] else ""
    value = (
        f"{one.text(row['median'])} [{one.text(row['q1'])}, {one.text(row['q3'])}]"
        if ranked
        else f"{one.text(row['mean'])} ± {one.text(row['sd'])}"
    )
    return f"{value} (n = {int(row['n_subjects'])}{infinite}{interval})"


@_fact("#tests", "tables/tests.csv")
def comparisons(results: Results) -> str:
    """Count the comparisons and those that are significant."""
    table = results.all_tests
    if table.empty:
        return ""
    significant = int((table["significant"].astype(str).str.lower() == "true").sum())
    return f"{count(len(table), 'comparison')}, {significant} significant after correction."


@_fact("#data", "tables/cohort.csv")
def characteristics(results: Results) -> str:
    """Name what Table 1 tells of the subjects; values stand there, where few subjects with one are withheld."""
    columns = cohort_columns(results)
    if not columns:
        return ""
    return f"Table 1 describes the subjects of each dataset by {listing(columns)}."


@_fact("#results-metrics", "tables/subgroups.csv")
def subgroups(results: Results) -> str:
    """Name the columns by which results were split."""
    table = results.subgroups
    if table.empty:
        return ""
    return f"Results by {listing(list(map(plain, dict.fromkeys(table['column'].astype(str)))))}."


@_fact("#results-metrics", "tables/summary.csv", "tables/metrics.csv")
def failures(results: Results) -> str:
    """Count the cases that failed altogether."""
    look, said = results.look, []
    for model in look.models:
        rows = results.summary[
            (results.summary["model"] == model) & (results.summary["metric"] == "dice")
        ]
        rows = rows[rows["structure"].isin(results.study.structures)]
        if len(rows):
            failed, whole = int(rows["n_failed"].sum()), int(rows["n_cases"].sum())
            said.append(f"{look.model(model)} {failed} of {whole}")
    if not said:
        return ""
    return f"Structures without any overlap, or without a prediction, over all cases: {'; '.join(said)}."


@_fact("figures/", "tables/confusion.csv")
def confusion(results: Results) -> str:
    """Say that confusions between structures are counted."""
    return "Voxels of each structure are counted by the structure that was predicted, case by case."


@_fact("#results-metrics", "tables/false_positives.csv")
def empty_references(results: Results) -> str:
    """Say how cases without a structure count."""
    absent = int(results.summary.groupby(["dataset", "structure"])["n_absent"].max().sum())
    return (
        f"{count(absent, 'reference')}, over all structures, {'lacks' if absent == 1 else 'lack'} the structure: metrics are "
        "undefined there for every model, and false positives are counted apart."
    )


@_fact("#results-metrics", "tables/summary.csv")
def empty_predictions(results: Results) -> str:
    """Say how predictions without a structure count."""
    table = results.metrics
    empty = table[(table["metric"] == "hd95_mm") & (table["status"] == "pred_empty")]
    told = (
        f" ({count(len(empty), 'such value')} of HD95)" if "hd95_mm" in set(table["metric"]) else ""
    )
    return (
        "Where a structure is there and none of it is predicted, overlap is 0 and a distance is infinite: it is counted apart and "
        f"ranked worst{told}."
    )


@_fact("#results", "tables/places.csv")
def ranking(results: Results) -> str:
    """Say how firm the order of the models is looked at."""
    if len(results.study.models) < 3 or results.places.empty:
        return ""
    return f"The order of the models was looked at in {results.study.statistics.bootstrap_samples} resamples of the subjects."


@_fact("#training", "tables/summary.csv")
def seeds(results: Results) -> str:
    """Say how many trainings with other seeds there are."""
    several = {
        results.look.model(name): len(results.study.models[name].seeds)
        for name in _trained(results)
        if len(results.study.models[name].seeds) > 1
    }
    told = [f"{name} with {number} seeds" for name, number in several.items()]
    return (
        f"Trained several times: {listing(told)}; the spread over seeds stands in the summary."
        if told
        else ""
    )


@_fact("#results", lacks=_joined(_training_data, _subjects))
def internal_test(results: Results) -> str:
    """Name the datasets that are tested by cross-validation or a fixed split, and the models of which that is said."""
    study = results.study
    names, models = study.cross_validated_datasets, _here(results)
    if not (names and models):
        return ""
    where = f"{listing(names)}, {listing(models)}"
    if study.splits.group_by == "case_though_it_leaks":
        return f"{where}: cases are predicted by folds that were trained on other cases, perhaps of the same subject."
    unnamed = set(names) & set(without_subjects(results))
    what = "it" if unnamed else "its subject"
    if study.splits.folds == 1:
        return f"{where}: each test case of a fixed split is predicted by models that were not trained on {what}."
    return f"{where}: each tested case is predicted by the fold that was not trained on {what}."


@_fact("#results", lacks=_training_data)
def separate_test(results: Results) -> str:
    """Name the datasets that are for testing only, and the models that were not trained on them."""
    study, models = results.study, _here(results)
    names = [name for name in study.tested_datasets if study.datasets[name].role == "test"]
    if not (names and models and study.trains):
        return ""
    was = "was" if len(models) == 1 else "were"
    return (
        f"{listing(names)}: for testing only; {listing(models)} {was} not trained on it. That does not make it external: whether it "
        "is, the authors say."
    )


@_fact("#data", "tables/cases.csv")
def sizes_in_voxels(results: Results) -> str:
    """Give the median size of each structure in voxels across: of the ball of its volume, by the largest side of a voxel."""
    said = []
    for name in results.study.datasets:
        for structure in results.look.structures:
            across = [
                _diameter_mm(case.voxels[structure] * float(np.prod(case.spacing_mm)))
                / max(case.spacing_mm)
                for case in results.cases(name)
                if case.voxels.get(structure)
            ]
            if across:
                said.append(f"{results.look.in_text(structure)} of {name} {np.median(across):.0f}")
    words = (
        "Voxels across, of a ball of the structure's median volume by the largest side of a voxel"
    )
    return f"{words}: {'; '.join(said)}." if said else ""


def _diameter_mm(volume_mm3: float) -> float:
    """Return the diameter of the ball of a volume."""
    return (6 * volume_mm3 / np.pi) ** (1 / 3)


@_fact("#data", "tables/cases.csv")
def size_range(results: Results) -> str:
    """Give the volumes of the structures, as delivered, and how far they range."""
    said = []
    for name in results.study.datasets:
        for structure in results.look.structures:
            volumes = [
                case.voxels[structure] * float(np.prod(case.spacing_mm)) / 1000
                for case in results.cases(name)
                if case.voxels.get(structure)
            ]
            if volumes:
                low, high = min(volumes), max(volumes)
                said.append(
                    f"{results.look.in_text(structure)} of {name} {low:.3g} to {high:.3g} mL"
                )
    return f"Volumes as delivered: {'; '.join(said)}." if said else ""


@_fact("#methods")
def lesions(results: Results) -> str:
    """Say whether lesions were measured one by one."""
    if not results.study.metrics.lesions:
        return ""
    return "Connected components were measured one by one, as the methods text tells."


@_fact("#data", "tables/cases.csv", lacks=_subjects)
def dependence(results: Results) -> str:
    """Say whether subjects have several cases, and what is the unit."""
    several, unnamed = 0, without_subjects(results)
    known = [name for name in results.study.tested_datasets if name not in unnamed]
    for name in known:
        subjects = [case.subject for case in results.cases(name)]
        several += sum(subjects.count(subject) > 1 for subject in set(subjects))
    said = [
        f"{name}: no subject is named apart from the case, so each case is taken for a subject."
        for name in results.study.tested_datasets
        if name in unnamed
    ]
    if known:
        said.append(
            f"{count(several, 'subject')} {'has' if several == 1 else 'have'} several cases."
        )
    return f"{' '.join(said)} The unit of all tests and intervals is the subject."


@_fact("figures/", "tables/metrics.csv")
def single_values(results: Results) -> str:
    """Say that single values are shown."""
    return "Figures show each subject's value, and the table of measurements has every case."


@_fact("#methods")
def implementation(results: Results) -> str:
    """Name the program that measured, and how surfaces are taken."""
    return f"segstudy {segstudy.__version__}; surfaces: {results.study.metrics.surface}."


# --- what is to be said against it --------------------------------------------------------------


@_fact("#overview", "#warnings")
def caveats(results: Results) -> str:
    """List what the records say against the results."""
    study, look, said = results.study, results.look, []
    if study.quick:
        folds = f"; {study.folds_run}" if study.folds_run else ""
        said.append(f"This is a first look: networks are small and were trained briefly{folds}.")
    if study.partial:
        said.append(f"Not all is done: {'; '.join(study.partial)}.")
    if study.splits.group_by == "case_though_it_leaks":
        said.append("The split leaks: models are tested on subjects that they were trained on.")
    if unknown := _training_data(results):
        said.append(f"It is not known here {unknown}, so tested cases may be among it.")
    if unnamed := without_subjects(results):
        said.append(
            f"No subject of {listing(unnamed)} is named apart from the case: cases of one subject would be counted as several."
        )
    if study.side_blind_models:
        names = listing([look.model(name) for name in study.side_blind_models])
        said.append(f"{names} was taught to mix up left and right.")
    said += [
        f"{look.model(name)} has learnt next to nothing (mean Dice {dice:.3f})."
        for name, dice in learnt_nothing(results).items()
    ]
    for name in study.tested_datasets:
        subjects = len({case.subject for case in results.cases(name)})
        if subjects < FEW_SUBJECTS:
            said.append(f"{name} has {count(subjects, 'subject')}: intervals are wide.")
    if study.trains and not any(
        study.datasets[name].role == "test" for name in study.tested_datasets
    ):
        said.append("No dataset apart from those that were trained on is tested.")
    return " ".join(said)


@_fact("provenance.json", "settings.yaml", "README.md")
def reproduction(results: Results) -> str:
    """Say what is needed for a rerun, and that it is there."""
    return f"Made with segstudy {segstudy.__version__} (MIT). Settings, seeds, versions and commands of a rerun are in the zip."
