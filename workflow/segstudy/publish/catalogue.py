"""The figures of a study, and their files, from the study file and the records of corrected labels alone.

Light, since the workflow asks it while it parses its rules.
"""

from dataclasses import dataclass, field, replace

from segstudy import correction_records, plugins
from segstudy.metric import Metric
from segstudy.publish.words import chosen_metrics
from segstudy.study import Repair, Study, UntrainedModel

CAPTIONS = "captions.json"
LAYERS = "layers.json"
RANKS = ("median", "worst", "best")
ORDER = (
    *("cohort", "samples", "appearance"),
    *("repair_overlay", "repair_cases", "repair_evidence", "repair_sweep", "repair_methods"),
    "rank_changes",
    *("architecture", "training", "synthesis"),
    *(
        "verdicts",
        "results",
        "heatmap",
        "differences",
        "ranking",
        "subgroups",
        "sizes",
        "precision_recall",
        "volumes",
    ),
    *("confusion", "symmetry", "side_swapped", "swapped_cases", "grid"),
    *("predicted_dice", "risk_coverage", "ratings", "own", "surfaces", "cases"),
)
"""Kinds in the order of the report; those of data and of label repair dataset by dataset."""
PICTURES = (  # these show images or the anatomy of a patient
    *("samples", "repair_overlay", "repair_cases", "cases", "swapped_cases", "surfaces"),
)


QUALITY = {"risk_coverage": "risk and coverage", "predicted_dice": "predicted and real Dice"}
"""Kinds of figures of the estimates of quality."""


@dataclass(frozen=True)
class Figure:
    """A figure that `segstudy publish figures` draws.

    Attributes
    ----------
    name
        Of its files, without suffix.
    kind
        The module of `publish.draw` that draws it.
    category
        Section of the report.
    labels
        Words that tell it from others of its kind.
    dataset
        Whose cases it shows, if any.
    metric
        That it shows, if any.
    model
        That it shows, if any.
    rank
        Of `RANKS`, if any.
    plugin
        Reference to the plug-in that draws it, if any.
    number
        Of the figure in report, print and zip.
    formats
        Of its files.
    """

    name: str
    kind: str
    category: str
    labels: dict[str, str] = field(default_factory=dict)
    dataset: str = ""
    metric: Metric | None = None
    model: str = ""
    rank: str = ""
    plugin: str = ""
    number: int = 0
    formats: tuple[str, ...] = ("png", "svg", "pdf")

    @property
    def files(self) -> list[str]:
        """Return the names of the figure's file in each format, and of the table that it was drawn from."""
        return [*(f"{self.name}.{suffix}" for suffix in self.formats), f"{self.name}.csv"]

    @property
    def caption(self) -> str:
        """Return the name of the caption's file as reStructuredText, which Snakemake's report shows."""
        return f"captions/{self.name}.rst"


def figures(study: Study) -> list[Figure]:
    """List all figures of the study, in the order of the report, numbered from 1."""
    found = _figures(study)
    datasets = list(study.datasets)
    first = next((figure for figure in found if figure.kind == "results"), None)

    def place(figure: Figure) -> tuple:
        kind = ORDER.index(figure.kind)
        if figure is first:  # on the first screen
            return (-1,)
        if kind <= ORDER.index("repair_methods"):
            return (figure.category != "Data", datasets.index(figure.dataset), kind)
        return (2, kind, figure.kind == "surfaces" and figure.rank != "median")

    return [
        replace(figure, number=number, formats=study.publish.style.formats)
        for number, figure in enumerate(sorted(found, key=place), start=1)
    ]


def _figures(study: Study) -> list[Figure]:
    """List all figures of the study, a section after another."""
    figures_of_study = []
    for dataset in study.datasets:
        figures_of_study.append(_figure("cohort", "Data", "cohort overview", dataset))
        if dataset not in study.tested_datasets:
            continue
        figures_of_study.append(_figure("samples", "Data", "sample cases", dataset))
        if study.datasets[dataset].has_images:
            figures_of_study.append(
                _figure("appearance", "Data", "intensities and class imbalance", dataset)
            )
    for dataset, settings in study.datasets.items():
        if settings.repair:
            figures_of_study += _repair_figures(settings.repair, dataset)
    figures_of_study += _rank_changes(study)
    if any(
        not isinstance(model, UntrainedModel) and model.trainer != "plugin"
        for model in study.models.values()
    ):
        figures_of_study.append(_figure("architecture", "Training", "networks"))
        figures_of_study.append(_figure("training", "Training", "learning curves"))
    shown_models = study.publish.style.models.ordered(list(study.models))
    for name in shown_models:
        if study.models[name].trainer == "synth":
            figures_of_study.append(
                _figure("synthesis", "Training", "synthetic images", model=name)
            )
    tested = {shown_metric.name for shown_metric in chosen_metrics(study.statistics.metrics, study)}
    for dataset in study.tested_datasets:
        for shown_metric in chosen_metrics(study.publish.metrics, study):
            title = shown_metric.title
            figures_of_study.append(
                _figure("results", "Results", title, dataset, metric=shown_metric)
            )
            if len(study.models) > 2 and shown_metric.name in tested:
                figures_of_study.append(
                    _figure("ranking", "Results", f"ranks by {title}", dataset, shown_metric)
                )
            if len(study.models) > 1 and shown_metric.name in tested:
                title = f"differences in {title}"
                figures_of_study.append(
                    _figure("differences", "Results", title, dataset, shown_metric)
                )
            if study.statistics.subgroups:
                title = f"subgroups by {shown_metric.title}"
                figures_of_study.append(
                    _figure("subgroups", "Results", title, dataset, shown_metric)
                )
            if families(study):
                title = f"{shown_metric.title} and training size"
                figures_of_study.append(_figure("sizes", "Results", title, dataset, shown_metric))
        if len(study.models) > 1:
            figures_of_study += [
                _figure("verdicts", "Results", f"verdicts by {margin.title}", dataset, margin)
                for margin in chosen_metrics(tuple(study.statistics.margin), study)
                if margin.name in tested
            ]
        figures_of_study.append(_figure("heatmap", "Results", "means", dataset))
        figures_of_study.append(
            _figure("precision_recall", "Results", "precision and recall", dataset)
        )
        figures_of_study.append(_figure("volumes", "Results", "volume agreement", dataset))
        if len(study.structures) > 1:
            figures_of_study.append(
                _figure("confusion", "Results", "confusion of structures", dataset)
            )
    for dataset in study.tested_datasets if study.left_right_pairs else ():
        figures_of_study.append(_figure("symmetry", "Symmetry", "sides apart and merged", dataset))
        figures_of_study.append(_figure("side_swapped", "Symmetry", "swapped sides", dataset))
        figures_of_study.append(_figure("swapped_cases", "Symmetry", "most swapped cases", dataset))
    for dataset in study.tested_datasets:
        for grid in study.grids:
            figures_of_study.append(_figure("grid", "Results", "grid search", dataset, model=grid))
    if study.statistics.quality:
        figures_of_study += [
            _figure(kind, "Quality", title, dataset, model=name)
            for dataset in study.cross_validated_datasets
            for name in shown_models
            for kind, title in QUALITY.items()
        ]
    if study.ratings and study.ratings.files:
        figures_of_study += [
            _figure("ratings", "Ratings", "grades by readers", dataset)
            for dataset in study.tested_datasets
        ]
    figures_of_study += [_own(text) for text in study.publish.figures]
    for dataset in study.tested_datasets:
        for rank in RANKS:
            title = f"surfaces in 3D, {rank} cases"
            figures_of_study.append(_figure("surfaces", "Cases", title, dataset, rank=rank))
        for model in shown_models:
            figures_of_study.append(
                _figure("cases", "Cases", "best to worst", dataset, model=model)
            )
    return figures_of_study


def _rank_changes(study: Study) -> list[Figure]:
    """List the figures of places under both labels, of datasets with corrected labels and several models."""
    tested = {one.name for one in chosen_metrics(study.statistics.metrics, study)}
    return [
        _figure("rank_changes", "Corrected labels", f"places by {one.title}", dataset, one)
        for dataset in (study.tested_datasets if len(study.models) > 1 else ())
        if correction_records.has_corrected(study.corrections, dataset)
        for one in chosen_metrics(study.publish.metrics, study)
        if one.name in tested
    ]


def families(study: Study) -> list[list[str]]:
    """Group the models that differ in nothing but how many subjects they are trained on."""
    kin: dict[str, list[str]] = {}
    for name in study.publish.style.models.ordered(list(study.models)):
        model = study.models[name]
        if not isinstance(model, UntrainedModel):
            alike = model.learning().model_copy(update={"training_subset": None})
            kin.setdefault(alike.to_json(), []).append(name)
    sizes = {name: model.training_subset for name, model in study.models.items()}
    return [family for family in kin.values() if len({sizes[name] for name in family}) > 1]


def _repair_figures(repair: Repair, dataset: str) -> list[Figure]:
    """List the figures of a repair: a sweep and methods only where a transform was sought."""
    kinds = {"repair_cases": "before and after", "repair_evidence": "evidence of the images"}
    if repair.reference_case is not None:
        kinds = {"repair_overlay": "reference case", **kinds}
    if repair.transform is None:
        kinds["repair_sweep"] = "rotation sweep"
        if repair.estimate_from == "pair":
            kinds["repair_methods"] = "methods"
    return [_figure(kind, "Label repair", title, dataset) for kind, title in kinds.items()]


def _own(text: str) -> Figure:
    """Return the figure that a plug-in draws."""
    name = plugins.short_name(text)
    labels = {"figure": name.replace("_", " ").replace("-", " ")}
    return Figure(f"own-{name}", "own", "Own figures", labels, plugin=text)


def files(study: Study) -> list[str]:
    """List every file of the folder that `segstudy publish figures` writes."""
    names = [file for figure in figures(study) for file in (*figure.files, figure.caption)]
    return [*names, CAPTIONS, LAYERS]


def _figure(
    kind: str,
    category: str,
    title: str,
    dataset: str = "",
    metric: Metric | None = None,
    model: str = "",
    rank: str = "",
) -> Figure:
    parts = [kind.replace("_", "-"), dataset, metric.name if metric else "", model, rank]
    labels = {"figure": title, "dataset": dataset, "model": model}
    return Figure(
        name="-".join(part for part in parts if part),
        kind=kind,
        category=category,
        labels={key: value for key, value in labels.items() if value},
        dataset=dataset,
        metric=metric,
        model=model,
        rank=rank,
    )
