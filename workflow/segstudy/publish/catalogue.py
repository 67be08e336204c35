"""Which figures a study gets: names and captions, from the study file alone.

Light, since the workflow asks it while it parses its rules.
"""

from dataclasses import dataclass, field

from segstudy.publish.words import expand, metric
from segstudy.study import Study

CAPTIONS = "captions.json"
LAYERS = "layers.json"
FORMATS = ("png", "svg", "pdf")
PICTURES = ("samples", "repair_overlay", "cases", "surfaces")  # these show images of patients


@dataclass(frozen=True)
class Figure:
    """A figure that `segstudy publish figures` draws.

    name: of its files, without suffix. kind: the module of `publish.draw` that draws it.
    category: section of the report. labels: what tells it from others of its kind.
    caption_file: in `workflow/report/`, for Snakemake's report.
    """

    name: str
    kind: str
    category: str
    labels: dict[str, str] = field(default_factory=dict)
    caption_file: str = ""
    dataset: str = ""
    metric: str = ""
    model: str = ""

    @property
    def files(self) -> list[str]:
        """The figure in each format, and the table that it was drawn from."""
        return [*(f"{self.name}.{suffix}" for suffix in FORMATS), f"{self.name}.csv"]


def figures(study: Study) -> list[Figure]:
    """All figures of the study, in the order of the report."""
    found = []
    for dataset in study.datasets:
        found.append(_figure("cohort", "Data", "cohort overview", dataset))
        found.append(_figure("samples", "Data", "sample cases", dataset))
        found.append(_figure("appearance", "Data", "intensities and class imbalance", dataset))
    for dataset, settings in study.datasets.items():
        if settings.repair:
            found.append(_figure("repair_sweep", "Label repair", "rotation sweep", dataset))
            found.append(_figure("repair_overlay", "Label repair", "before and after", dataset))
    found.append(_figure("architecture", "Training", "networks"))
    found.append(_figure("training", "Training", "learning curves"))
    for dataset in study.datasets:
        for name in expand(study.publish.metrics, study):
            title = metric(name).title
            found.append(_figure("results", "Results", title, dataset, metric=name))
        found.append(_figure("heatmap", "Results", "means", dataset))
        if len(study.models) > 1:
            tested = set(expand(study.statistics.metrics, study))
            for name in expand(study.publish.metrics, study):
                if name in tested:
                    title = f"differences in {metric(name).title}"
                    found.append(_figure("differences", "Results", title, dataset, metric=name))
        found.append(_figure("precision_recall", "Results", "precision and recall", dataset))
        found.append(_figure("volumes", "Results", "volume agreement", dataset))
    for dataset in study.datasets:
        found.append(_figure("surfaces", "Cases", "surfaces in 3D", dataset))
        for model in study.models:
            found.append(_figure("cases", "Cases", "best to worst", dataset, model=model))
    return found


def files(study: Study) -> list[str]:
    """Every file of the folder that `segstudy publish figures` writes."""
    return [*(file for figure in figures(study) for file in figure.files), CAPTIONS, LAYERS]


def _figure(
    kind: str, category: str, title: str, dataset: str = "", metric: str = "", model: str = ""
) -> Figure:
    parts = [kind.replace("_", "-"), dataset, metric, model]
    labels = {"figure": title, "dataset": dataset, "model": model}
    return Figure(
        name="-".join(part for part in parts if part),
        kind=kind,
        category=category,
        labels={key: value for key, value in labels.items() if value},
        caption_file=f"{kind}.rst",
        dataset=dataset,
        metric=metric,
        model=model,
    )
