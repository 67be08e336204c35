"""The paths of all results under `results/<study>/`; no other module knows them."""

from pathlib import Path

Number = int | str
"""A fold or a seed; a rule's pattern has a wildcard in its place."""


class ResultPaths:
    """Return the paths of one study's results, as text.

    A method's arguments default to Snakemake's wildcards of their names, so that a rule says
    `PATHS.cases()` for the pattern and `PATHS.cases("chest")` for one dataset's file.
    """

    def __init__(self, root: Path | str):
        """Take the folder of a study's results, `<results>/<study>`."""
        self.root = str(root)

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}"

    def log(self, stage: str, job: str) -> str:
        """Return the log of a job. job: its name, with wildcards."""
        return self._path(f"logs/{stage}/{job}.log")

    def benchmark(self, stage: str, job: str) -> str:
        """Return Snakemake's benchmark of a job: seconds and memory."""
        return self._path(f"benchmarks/{stage}/{job}.tsv")

    @property
    def logs(self) -> str:
        """The folder of all logs."""
        return self._path("logs")

    @property
    def benchmarks(self) -> str:
        """The folder of all benchmarks."""
        return self._path("benchmarks")

    @property
    def jobs(self) -> str:
        """The record of what ran, a line an event."""
        return self._path(".jobs.jsonl")

    @property
    def finished(self) -> str:
        """The store of finished work, which no rule declares, so that Snakemake leaves it alone."""
        return self._path(".finished")

    # --- download -------------------------------------------------------------------------------

    def raw(self, dataset: str = "{dataset}") -> str:
        """Return the folder of a fetched dataset."""
        return self._path(f"download/{dataset}/raw")

    def delivered_list(self, dataset: str = "{dataset}") -> str:
        """Return the list of the files that the user delivered; as old as the newest."""
        return self._path(f"download/{dataset}/files.txt")

    def cases(self, dataset: str = "{dataset}") -> str:
        """Return the table of the cases that passed the audit."""
        return self._path(f"download/{dataset}/cases.tsv")

    def participants(self, dataset: str = "{dataset}") -> str:
        """Return the table of what is known of each case's subject, where the user has such tables."""
        return self._path(f"download/{dataset}/participants.tsv")

    def problems(self, dataset: str = "{dataset}") -> str:
        """Return the table of the audit's findings."""
        return self._path(f"download/{dataset}/problems.tsv")

    # --- repair ---------------------------------------------------------------------------------

    def estimate(self, dataset: str = "{dataset}") -> str:
        """Return the folder of the transform that repairs a dataset's labels, and its evidence."""
        return self._path(f"repair/{dataset}/estimate")

    def repaired(self, dataset: str = "{dataset}") -> str:
        """Return the folder of a dataset's repaired labels, a folder a shard."""
        return self._path(f"repair/{dataset}/labels")

    def repaired_shard(self, dataset: str = "{dataset}", shard: str = "{shard}") -> str:
        """Return the folder of a shard's repaired labels."""
        return f"{self.repaired(dataset)}/{shard}"

    def label_audit(self, dataset: str = "{dataset}") -> str:
        """Return the folder of the audit of labels that do not fit their cohort."""
        return self._path(f"repair/{dataset}/audit")

    # --- preprocess -----------------------------------------------------------------------------

    @property
    def splits(self) -> str:
        """The table of folds."""
        return self._path("preprocess/splits.tsv")

    def fingerprints(self, dataset: str = "{dataset}") -> str:
        """Return the folder of a dataset's fingerprints, a file a shard."""
        return self._path(f"preprocess/{dataset}/fingerprints")

    def fingerprint(self, dataset: str = "{dataset}", shard: str = "{shard}") -> str:
        """Return the fingerprints of a shard's cases: their grids and intensities."""
        return f"{self.fingerprints(dataset)}/{shard}.json"

    def fingerprint_list(self, dataset: str = "{dataset}") -> str:
        """Return the list of a dataset's fingerprints."""
        return f"{self.fingerprints(dataset)}.txt"

    def image_list(self, dataset: str = "{dataset}") -> str:
        """Return the list of a dataset's images; as old as the newest."""
        return self._path(f"preprocess/{dataset}/images.txt")

    def label_list(self, dataset: str = "{dataset}") -> str:
        """Return the list of a dataset's labels, repaired where repair runs; as old as the newest."""
        return self._path(f"preprocess/{dataset}/labels.txt")

    def plan(self, plan: str = "{plan}", fold: Number = "{fold}") -> str:
        """Return a fold's plan: grid and intensities, fitted on its training cases."""
        return self._path(f"preprocess/plans/{plan}/fold-{fold}.json")

    def arrays(self, dataset: str = "{dataset}", plan: str = "{plan}", grid: str = "{grid}") -> str:
        """Return the folder of prepared cases on a grid, a folder a shard."""
        return self._path(f"preprocess/{dataset}/{plan}/{grid}")

    def array_list(
        self, dataset: str = "{dataset}", plan: str = "{plan}", grid: str = "{grid}"
    ) -> str:
        """Return the list of the shards of prepared cases."""
        return self._path(f"preprocess/{dataset}/{plan}/shards-{grid}.txt")

    def tissues(
        self, dataset: str = "{dataset}", plan: str = "{plan}", grid: str = "{grid}"
    ) -> str:
        """Return the folder of label maps to draw images from, a folder a shard."""
        return self.arrays(dataset, f"tissues/{plan}", grid)

    def tissue_list(
        self, dataset: str = "{dataset}", plan: str = "{plan}", grid: str = "{grid}"
    ) -> str:
        """Return the list of the shards of label maps."""
        return self.array_list(dataset, f"tissues/{plan}", grid)

    # --- train, infer ---------------------------------------------------------------------------

    @property
    def trainings(self) -> str:
        """The folder of all trainings, a folder a model."""
        return self._path("train")

    def training(
        self, model: str = "{model}", fold: Number = "{fold}", seed: Number = "{seed}"
    ) -> str:
        """Return the folder of a training: weights.pt, best.pt, history.csv, settings.json."""
        return f"{self.trainings}/{model}/fold-{fold}/seed-{seed}"

    def training_on_all(self, model: str = "{model}", seed: Number = "{seed}") -> str:
        """Return the folder of a training on every case, for use outside the study."""
        return f"{self.trainings}/{model}/all/seed-{seed}"

    def predictions(
        self,
        model: str = "{model}",
        fold: Number = "{fold}",
        seed: Number = "{seed}",
        dataset: str = "{dataset}",
    ) -> str:
        """Return the folder of a dataset's predictions, one `<case>.nii.gz` a case."""
        return self._path(f"infer/{model}/fold-{fold}/seed-{seed}/{dataset}")

    # --- metrics, statistics, publish -----------------------------------------------------------

    def measures(
        self,
        model: str = "{model}",
        fold: Number = "{fold}",
        seed: Number = "{seed}",
        dataset: str = "{dataset}",
    ) -> str:
        """Return the table of a folder of predictions, measured."""
        return self._path(f"metrics/{model}/fold-{fold}/seed-{seed}/{dataset}.csv")

    def confusion(
        self,
        model: str = "{model}",
        fold: Number = "{fold}",
        seed: Number = "{seed}",
        dataset: str = "{dataset}",
    ) -> str:
        """Return the confusion table of a folder of predictions: voxels of each structure by predicted structure."""
        return self._path(f"metrics/{model}/fold-{fold}/seed-{seed}/confusion/{dataset}.csv")

    def instances(
        self,
        model: str = "{model}",
        fold: Number = "{fold}",
        seed: Number = "{seed}",
        dataset: str = "{dataset}",
    ) -> str:
        """Return the table of the lesions of a folder of predictions, where they are measured."""
        return self._path(f"metrics/{model}/fold-{fold}/seed-{seed}/instances/{dataset}.csv")

    @property
    def all_instances(self) -> str:
        """The table of all lesions."""
        return self._path("metrics/instances.csv")

    @property
    def metrics(self) -> str:
        """The table of all measurements."""
        return self._path("metrics/metrics.csv")

    @property
    def statistics(self) -> str:
        """The folder of the statistics."""
        return self._path("statistics")

    def statistic(self, table: str) -> str:
        """Return a table of the statistics. table: its name, e.g. `summary`."""
        return f"{self.statistics}/{table}.csv"

    @property
    def quality(self) -> str:
        """The folder of the estimates of quality."""
        return f"{self.statistics}/quality"

    @property
    def analysis_plan(self) -> str:
        """The record of margin, level and primary endpoint, which no rule declares."""
        return self._path("analysis_plan.json")

    # --- review ---------------------------------------------------------------------------------

    @property
    def review(self) -> str:
        """The folder of what a review of labels found, and of what corrections did."""
        return self._path("review")

    @property
    def before(self) -> str:
        """The folder of metrics and predictions from before the first correction, which no rule declares."""
        return f"{self.review}/before"

    def corrected_measures(
        self,
        model: str = "{model}",
        fold: Number = "{fold}",
        seed: Number = "{seed}",
        dataset: str = "{dataset}",
    ) -> str:
        """Return the table of a folder's corrected cases, measured under both labels."""
        return f"{self.review}/measures/{model}/fold-{fold}/seed-{seed}/{dataset}.csv"

    @property
    def other_metrics(self) -> str:
        """The table of all measurements under those labels that the headline is not measured under."""
        return f"{self.review}/metrics.csv"

    def other_statistic(self, table: str) -> str:
        """Return a table of the statistics of `other_metrics`."""
        return f"{self.review}/statistics/{table}.csv"

    @property
    def accounting(self) -> str:
        """The folder of what corrections did to the results."""
        return f"{self.review}/corrections"

    def provenance(self, dataset: str = "{dataset}") -> str:
        """Return the table of a dataset's labels: as delivered, as repaired, as corrected."""
        return f"{self.review}/{dataset}/labels.csv"

    @property
    def rating_page(self) -> str:
        """The folder of the page on which readers rate predictions, blinded to the model."""
        return self._path("rating")

    @property
    def rating_key(self) -> str:
        """The table that tells whose predictions readers rate, apart from their page."""
        return f"{self.review}/rating_key.csv"

    @property
    def ratings(self) -> str:
        """The folder of what readers think of predictions."""
        return f"{self.review}/ratings"

    @property
    def figures(self) -> str:
        """The folder of the figures."""
        return self._path("figures")

    @property
    def viewer(self) -> str:
        """The folder of the viewer of predictions."""
        return self._path("viewer")

    @property
    def report(self) -> str:
        """The report."""
        return self._path("report.html")

    @property
    def reporting(self) -> str:
        """The folder of what reviewers ask for: checklists, model cards, methods text and tables."""
        return self._path("reporting")

    def package(self, study: str) -> str:
        """Return the zip of a finished study."""
        return self._path(f"{study}.zip")
