"""Reading the tables of a results folder; a missing file is named with the stage that makes it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from segstudy.cases import Case, Split, read_cases, read_splits, repaired_labels
from segstudy.correction_records import corrected, find
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.jobs.results import ResultPaths
from segstudy.named_tables import read_named
from segstudy.participants import of_cases, read_participants
from segstudy.publish.look import Look
from segstudy.quality.calibration import Calibration, from_record
from segstudy.study import PluginTrainerModel, Study, UntrainedModel
from segstudy.training_splits import LEAK_CHECK
from segstudy.words import count

SPLIT_COLUMNS = [field.name for field in fields(Split)]


@dataclass
class Results:
    """The results folder of one study. Tables are read when they are first asked for.

    Attributes
    ----------
    study
        The study; once read, without the raters, which are compared with no model.
    root
        `results/<study>`.
    whole_study
        The study as it ran, with the raters.
    """

    study: Study
    root: Path
    whole_study: Study = field(init=False)

    def __post_init__(self) -> None:
        """Keep the raters apart from the models that are compared."""
        self.whole_study, self.study = self.study, self.study.compared()

    @property
    def raters(self) -> list[str]:
        """Return the models that are second readers' labels; see `human_agreement`."""
        return self.whole_study.raters

    @cached_property
    def paths(self) -> ResultPaths:
        """Return the paths of everything in the results folder."""
        return ResultPaths(self.root)

    @cached_property
    def look(self) -> Look:
        """Return how models and structures are shown."""
        return Look(self.study, tuple(self.raters))

    # --- data -----------------------------------------------------------------------------------

    def cases(self, dataset: str) -> list[Case]:
        """Return the cases of the dataset that passed the audit, with the labels as delivered."""
        path = self._needed(self.paths.cases(dataset), "download", f"audit of {dataset}")
        return read_cases(path)

    def count_cases(self, dataset: str, cases: Iterable[str] | None = None) -> str:
        """Return how many cases these are, or all, and of how many subjects where somebody has several: `3 cases of 2 subjects`."""
        subject_of = {case.case: case.subject for case in self.cases(dataset)}
        chosen = set(subject_of if cases is None else cases)
        subjects = {subject_of.get(case, case) for case in chosen}
        of = f" of {count(len(subjects), 'subject')}" if len(subjects) < len(chosen) else ""
        return count(len(chosen), "case") + of

    def participants(self, dataset: str) -> dict[str, dict[str, str]]:
        """Return what is known of the subjects: case -> column -> cell; nothing where no table says anything."""
        path = Path(self.paths.participants(dataset))
        if not self.study.datasets[dataset].has_participants or not path.is_file():
            return {}
        cases = {case.case: case.subject for case in self.cases(dataset)}
        return of_cases(cases, [read_participants(path)])

    def problems(self, dataset: str) -> pandas.DataFrame:
        """Return the audit's findings; columns dataset, case, file, problem, verdict."""
        return self._table(
            self.paths.problems(dataset),
            "download",
            f"audit of {dataset}",
            ("case", "file", "problem", "verdict"),
        )

    def references(self, dataset: str) -> dict[str, Case]:
        """Return the cases by name with the label that models are measured against: repaired where repair ran."""
        cases = self.cases(dataset)
        if self.study.datasets[dataset].repair:
            cases = repaired_labels(cases, self.repaired(dataset))
        return {case.case: case for case in cases}

    @cached_property
    def splits(self) -> pandas.DataFrame:
        """Return the splits: columns dataset, case, subject, fold, origin.

        The fold is None for cases that every fold's model is tested on, and -1 for label maps,
        which no fold tests, and -2 for cases that are left out.
        """
        path = self._needed(self.paths.splits, "preprocess", "split")
        rows = [vars(split) for split in read_splits(path)]
        return pandas.DataFrame(rows, columns=SPLIT_COLUMNS, dtype=object)

    # --- repair ---------------------------------------------------------------------------------

    def transform(self, dataset: str) -> dict:
        """Return the transform that repair found, with IoU before and after on the reference case."""
        path = f"{self.paths.estimate(dataset)}/transform.json"
        return read_json(self._needed(path, "repair", f"estimate of {dataset}"))

    def sweep(self, dataset: str) -> pandas.DataFrame:
        """Return IoU, or evidence of the images, over angle; columns angle_deg, iou, evidence."""
        return self._table(
            f"{self.paths.estimate(dataset)}/sweep.csv",
            "repair",
            f"estimate of {dataset}",
            ("angle_deg", "iou", "evidence"),
        )

    def attempts(self, dataset: str) -> pandas.DataFrame:
        """Return the attempts of repair, a row a method."""
        return self._table(
            f"{self.paths.estimate(dataset)}/attempts.csv", "repair", f"estimate of {dataset}", ()
        )

    def attempt_seconds(self, dataset: str) -> pandas.DataFrame:
        """Return the time of each attempt of a repair; columns method, frame, seconds."""
        return self._table(
            f"{self.paths.estimate(dataset)}/seconds.csv",
            "repair",
            f"estimate of {dataset}",
            ("method", "frame", "seconds"),
        )

    def moved_back(self, dataset: str) -> Path:
        """Return the file of the moved structure (value 1) of the reference case as the repair put it back."""
        path = f"{self.paths.estimate(dataset)}/repaired.nii.gz"
        return self._needed(path, "repair", f"estimate of {dataset}")

    def faults(self, dataset: str) -> pandas.DataFrame:
        """Return the labels that do not fit their cohort; columns case, structure, fault, evidence, score."""
        columns = ("case", "structure", "fault", "evidence", "score")
        path = f"{self.paths.label_audit(dataset)}/faults.csv"
        return self._table(path, "repair", f"audit of {dataset}", columns)

    @cached_property
    def corrections(self) -> dict[str, Any] | None:
        """Return what corrected labels did to the results: `sentences`, and tables by name; None where none was corrected."""
        own = self.study.corrections
        if not any(corrected(own, dataset) for dataset in self.study.tested_datasets):
            return None
        found = read_json(
            self._needed(f"{self.paths.accounting}/accounting.json", "review", "account")
        )
        names = ("means", "comparisons", "ranks", "effects", "changes", "faults")
        tables = {name: _read(Path(self.paths.accounting, f"{name}.csv"), ()) for name in names}
        return {**found, "tables": tables}

    @cached_property
    def ratings(self) -> dict[str, pandas.DataFrame] | None:
        """Return what readers think of predictions: tables by name; None where nobody has rated."""
        if not (self.study.ratings and self.study.ratings.files):
            return None
        return {
            name: self._table(f"{self.paths.ratings}/{name}.csv", "review", "ratings", ("dataset",))
            for name in ("ratings", "agreement", "dice")
        }

    def label_chains(self) -> dict[str, pandas.DataFrame]:
        """Return what became of the labels of each dataset in which some were reviewed, a row a step."""
        reviewed = [name for name in self.study.datasets if find(self.study.corrections, name)]
        return {
            name: self._table(self.paths.provenance(name), "review", f"labels of {name}", ("step",))
            for name in reviewed
        }

    def repaired(self, dataset: str) -> Path:
        """Return the folder of the repaired labels."""
        folder = Path(self.paths.repaired(dataset))
        if not folder.is_dir():
            raise _missing(folder, "repair", f"apply of {dataset}")
        return folder

    def verdicts(self, dataset: str) -> pandas.DataFrame:
        """Return the verdicts of repair, a row a case; columns case, verdict and the evidence."""
        paths = sorted(self.repaired(dataset).glob("*/verdicts.csv"))
        if not paths:
            raise _missing(
                self.repaired(dataset) / "*/verdicts.csv", "repair", f"apply of {dataset}"
            )
        tables = [_read(path, ("case", "verdict")) for path in paths]
        return pandas.concat(tables, ignore_index=True).sort_values("case", ignore_index=True)

    # --- preprocessing and training -------------------------------------------------------------

    def plan(self, plan: str, fold: int) -> dict:
        """Return a plan fitted on a fold's training cases."""
        path = self.paths.plan(plan, fold)
        return read_json(self._needed(path, "preprocess", f"plan {plan}, fold {fold}"))

    def trainings(self) -> list[tuple[str, int, int]]:
        """List (model, fold, seed) of every training of the study that leaves weights and a history."""
        return [
            (name, fold, seed)
            for name, model in self.study.models.items()
            if not isinstance(model, (UntrainedModel, PluginTrainerModel))
            for fold in self.study.folds
            for seed in model.seeds
        ]

    def history(self, model: str, fold: int, seed: int) -> pandas.DataFrame:
        """Return the history of a training, a row an epoch; columns epoch, lr, train_loss, seconds, and validation_* where validated."""
        return self._table(
            f"{self.paths.training(model, fold, seed)}/history.csv",
            "train",
            f"{model}, fold {fold}, seed {seed}",
            ("epoch", "train_loss"),
        )

    def trained(self, model: str, fold: int, seed: int) -> dict:
        """Return the settings that a training resolved."""
        path = f"{self.paths.training(model, fold, seed)}/settings.json"
        return read_json(self._needed(path, "train", f"{model}, fold {fold}, seed {seed}"))

    def samples(self, model: str, fold: int, seed: int) -> dict[str, np.ndarray]:
        """Return the images that a training with `trainer: synth` drew; see `train.synth.samples`."""
        path = self._needed(
            f"{self.paths.training(model, fold, seed)}/samples.npz",
            "train",
            f"{model}, fold {fold}, seed {seed}",
        )
        with np.load(path) as file:
            return dict(file)

    def prediction(self, model: str, fold: int, seed: int, dataset: str, case: str) -> Path:
        """Return the file of a predicted label map."""
        path = f"{self.paths.predictions(model, fold, seed, dataset)}/{case}.nii.gz"
        return self._needed(path, "infer", f"{model}, fold {fold}, seed {seed}, {dataset}")

    def leak_checks(self, model: str) -> list[dict[str, int]]:
        """Return what the check by `training_splits` matched, of each fold and dataset, for the first seed; see `infer.predictions`."""
        seed = self.study.models[model].seeds[0]
        files = (
            Path(self.paths.predictions(model, fold, seed, dataset)) / LEAK_CHECK
            for fold in self.study.folds
            for dataset in self.study.tested_datasets
        )
        return [read_json(file) for file in files if file.is_file()]

    # --- measured -------------------------------------------------------------------------------

    @cached_property
    def metrics(self) -> pandas.DataFrame:
        """Return every measurement of the models that are compared, a row a metric."""
        return self._without_raters(self.all_metrics)

    @cached_property
    def all_metrics(self) -> pandas.DataFrame:
        """Return every measurement, a row a metric, raters' too."""
        columns = ("dataset", "model", "fold", "seed", "case", "structure", "metric", "value")
        columns += ("status", "n_reference_voxels", "n_predicted_voxels")
        return self._table(self.paths.metrics, "metrics", "collect", columns)

    @property
    def instances(self) -> Path:
        """Return the file with a row a lesion, of a study that measures lesions."""
        return self._needed(self.paths.all_instances, "metrics", "collect")

    def confusion(self, dataset: str, model: str) -> pandas.DataFrame:
        """Count the voxels of each reference structure (rows) that were predicted as each (columns), over all runs.

        The last row and column are the background.
        """
        tables = [
            self.confusion_of(model, fold, seed, dataset)
            for fold in self.study.folds
            for seed in self.study.models[model].seeds
        ]
        names = [*self.study.structures, "background"]
        counts = pandas.concat(tables).groupby(["reference", "prediction"])["n_voxels"].sum()
        return counts.unstack(fill_value=0).reindex(index=names, columns=names, fill_value=0)

    def confusion_of(self, model: str, fold: int, seed: int, dataset: str) -> pandas.DataFrame:
        """Return the voxels of one run; columns case, reference, prediction, n_voxels."""
        return self._table(
            self.paths.confusion(model, fold, seed, dataset),
            "metrics",
            f"{model}, fold {fold}, seed {seed}, {dataset}",
            ("case", "reference", "prediction", "n_voxels"),
        )

    @cached_property
    def summary(self) -> pandas.DataFrame:
        """Return the summary of the models that are compared: a row a dataset, model, structure and metric."""
        return self._without_raters(self.all_summary)

    @cached_property
    def human_agreement(self) -> pandas.DataFrame:
        """Return the summary of second readers' labels against the reference labels; empty in a study without any."""
        return self.all_summary[self.all_summary["model"].isin(self.raters)]

    def _without_raters(self, table: pandas.DataFrame) -> pandas.DataFrame:
        """Return the rows of the models that are compared."""
        if not self.raters:
            return table
        return table[~table["model"].isin(self.raters)].reset_index(drop=True)

    @cached_property
    def all_summary(self) -> pandas.DataFrame:
        """Return `statistics/summary.csv`, with raters' rows."""
        columns = ("dataset", "model", "structure", "metric", "n_subjects", "n_cases")
        columns += (
            "n_absent",
            "n_undefined",
            "n_missing",
            "n_failed",
            "n_infinite",
            "mean",
            "sd",
            "median",
            "q1",
            "q3",
            "ci_low",
            "ci_high",
        )
        return self._table(self.paths.statistic("summary"), "statistics", "statistics", columns)

    @cached_property
    def all_tests(self) -> pandas.DataFrame:
        """Return every comparison: of models on a dataset, and of a model on two datasets."""
        columns = (
            "dataset",
            "dataset_b",
            "structure",
            "metric",
            "model_a",
            "model_b",
            "n_subjects",
        )
        columns += ("test", "estimate", "ci_low", "ci_high", "statistic", "df", "p", "p_adjusted")
        columns += ("ci_low_adjusted", "ci_high_adjusted", "significant", "verdict", "design")
        return self._table(self.paths.statistic("tests"), "statistics", "statistics", columns)

    @cached_property
    def comparison_verdicts(self) -> pandas.DataFrame:
        """Return the verdict on every comparison."""
        columns = ("dataset", "dataset_b", "structure", "metric", "model_a", "model_b", "primary")
        columns += ("margin", "equivalence_low", "equivalence_high", "verdict", "slightly_better")
        return self._table(self.paths.statistic("verdicts"), "statistics", "statistics", columns)

    def grid(self, grid: str, dataset: str) -> pandas.DataFrame:
        """Return the models of a grid search, tested on a dataset, as `statistics/grid.csv` has them."""
        columns = (
            "grid",
            "model",
            "dataset",
            "validation_dice",
            "best",
            "parameters",
            "n_subjects",
        )
        table = self._table(self.paths.statistic("grid"), "statistics", "statistics", columns)
        of_grid = table[(table["grid"] == grid) & (table["dataset"] == dataset)]
        # Other grids' settings are columns too.
        kept = [name for name in table if name in columns or of_grid[name].notna().any()]
        return of_grid[kept].reset_index(drop=True)

    @property
    def tests(self) -> pandas.DataFrame:
        """Return the comparisons of models on one dataset."""
        return self.all_tests[self.all_tests["dataset"] == self.all_tests["dataset_b"]]

    @property
    def dataset_tests(self) -> pandas.DataFrame:
        """Return the comparisons of a model on two datasets, which are not paired."""
        return self.all_tests[self.all_tests["dataset"] != self.all_tests["dataset_b"]]

    @cached_property
    def ranking(self) -> pandas.DataFrame:
        """Return the mean ranks of the models in each dataset, structure and metric."""
        columns = ("dataset", "structure", "metric", "model", "n_subjects", "mean_rank", "rank_low")
        columns += ("rank_high", "friedman_statistic", "friedman_df", "friedman_p", "kendall_tau")
        return self._table(self.paths.statistic("ranking"), "statistics", "statistics", columns)

    @cached_property
    def places(self) -> pandas.DataFrame:
        """Return the share of the resamples in which a model comes in at a place."""
        columns = ("dataset", "structure", "metric", "model", "place", "share")
        return self._table(self.paths.statistic("places"), "statistics", "statistics", columns)

    @cached_property
    def subgroups(self) -> pandas.DataFrame:
        """Return the summary of each model in each group of subjects; empty for a study without subgroups."""
        columns = ("dataset", "column", "group", "model", "structure", "metric", "n_subjects")
        columns += ("n_cases", "n_infinite", "mean", "sd", "ci_low", "ci_high", "median", "remark")
        if not self.study.statistics.subgroups:
            return pandas.DataFrame(columns=list(columns))
        return self._table(self.paths.statistic("subgroups"), "statistics", "statistics", columns)

    @cached_property
    def subgroup_tests(self) -> pandas.DataFrame:
        """Return the comparisons of groups of subjects, of a study with subgroups."""
        columns = ("dataset", "column", "comparison", "group_a", "group_b", "model", "structure")
        columns += ("metric", "test", "estimate", "ci_low", "ci_high", "p", "p_adjusted", "remark")
        return self._table(
            self.paths.statistic("subgroup_tests"), "statistics", "statistics", columns
        )

    @cached_property
    def quality_cases(self) -> pandas.DataFrame:
        """Return the estimate of quality of each held-out prediction, a row a structure; of a study that makes them."""
        columns = ("model", "dataset", "fold", "subject", "case", "structure", "agreement")
        columns += ("agreement_of", "predicted_dice", "dice_low", "dice_high", "dice", "distance")
        return self._quality("cases", (*columns, "flagged", "reason"))

    @cached_property
    def quality_summary(self) -> pandas.DataFrame:
        """Return how often the intervals of Dice and volume held, and the areas under risk-coverage curves."""
        columns = ("model", "dataset", "structure", "n_subjects", "n_scans", "n_flagged")
        columns += ("n_dice_intervals", "dice_in_interval", "n_volume_intervals")
        columns += ("volume_in_interval", "aurc_agreement", "aurc_with_flags", "aurc_best")
        return self._quality("summary", columns)

    @cached_property
    def calibrations(self) -> dict[str, Calibration]:
        """Return the calibration of each model's estimates of quality, in the order shown."""
        found = {}
        for model in self.look.models:
            path = self._needed(f"{self.paths.quality}/{model}.json", "statistics", "quality")
            found[model] = from_record(read_json(path), str(path))
        return found

    def _quality(self, name: str, columns: Sequence[str]) -> pandas.DataFrame:
        table = self._table(f"{self.paths.quality}/{name}.csv", "statistics", "quality", columns)
        words = [column for column in ("agreement_of", "flagged", "reason") if column in table]
        return table.assign(**{column: table[column].fillna("").astype(str) for column in words})

    @cached_property
    def all_values(self) -> pandas.DataFrame:
        """Return the compared values: one a dataset, structure, metric, model and case."""
        columns = ("dataset", "structure", "metric", "model", "case", "subject", "value", "missing")
        return self._table(self.paths.statistic("values"), "statistics", "statistics", columns)

    @cached_property
    def false_positives(self) -> pandas.DataFrame:
        """Return how often each model found a structure that the reference lacks, as `summary`."""
        columns = ("dataset", "model", "structure", "metric", "n_cases", "n_missing", "mean")
        return self._table(
            self.paths.statistic("false_positives"), "statistics", "statistics", columns
        )

    def values(self, dataset: str, metric: str) -> pandas.DataFrame:
        """Return one value a case, structure and model: the mean over folds and seeds that predicted the case.

        Columns case, subject, structure, model, value (NaN undefined, inf infinite; a missing
        prediction as `statistics.missing` says), and missing.
        """
        table = self.all_values
        table = table[(table["dataset"] == dataset) & (table["metric"] == metric)]
        keys = ["case", "structure", "model"]
        return table[[*keys, "subject", "value", "missing"]].sort_values(keys, ignore_index=True)

    def first_prediction(self, dataset: str, model: str, case: str) -> Path | None:
        """Return the prediction that is shown of a case: that of the first fold and seed that predicted it, if any did."""
        run = self.first_run(dataset, model, case)
        return run and self.prediction(model, *run, dataset, case)

    def first_run(self, dataset: str, model: str, case: str) -> tuple[int, int] | None:
        """Return the first fold and seed of a model that predicted a case; None where none did."""
        table = self.metrics
        rows = table[
            (table["dataset"] == dataset) & (table["model"] == model) & (table["case"] == case)
        ]
        if rows.empty:
            raise InputError(
                f"{self.paths.metrics}: no row of model {model}, case {case} of "
                f"{dataset}; run the metrics stage again"
            )
        rows = rows[rows["status"] != "missing_file"]
        if rows.empty:
            return None
        first = rows.sort_values(["fold", "seed"], kind="stable").iloc[0]
        return int(first["fold"]), int(first["seed"])

    def uncertainty_map(self, dataset: str, model: str, case: str, kind: str) -> Path | None:
        """Return the file of a map of uncertainty of the first prediction of a case; None where no fold predicted it."""
        predicted = self.first_prediction(dataset, model, case)
        if predicted is None:
            return None
        return self._needed(str(predicted.parent / kind / predicted.name), "infer", model)

    # --- reading --------------------------------------------------------------------------------

    def benchmarks(self) -> pandas.DataFrame:
        """Read Snakemake's benchmark files, a row a file: stage, job, s, max_rss (MB).

        Empty without Snakemake; without that of the zip, since a second one would tell of the first.
        """
        rows = []
        for path in sorted(Path(self.paths.benchmarks).glob("**/*.tsv")):
            parts = path.relative_to(self.paths.benchmarks).parts
            if len(parts) < 2 or str(path) == self.paths.benchmark("publish", "package"):
                continue
            table = _read(path, ("s",))
            for _, row in table.iterrows():
                memory = pandas.to_numeric(row.get("max_rss", np.nan), errors="coerce")
                job = "/".join([*parts[1:-1], Path(parts[-1]).stem])
                rows.append((parts[0], job, float(row["s"]), float(memory)))
        return pandas.DataFrame(rows, columns=["stage", "job", "s", "max_rss"])

    def warnings(self) -> pandas.DataFrame:
        """Read the lines of the logs, but for the zip's, that warn or tell an error: stage, job, line (without its time)."""
        rows = []
        for path in sorted(Path(self.paths.logs).glob("*/*.log")):
            if str(path) == self.paths.log("publish", "package"):
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = (re.sub(r"^\d\d:\d\d:\d\d ", "", line.strip()) for line in text.splitlines())
            distinct = dict.fromkeys(line for line in lines if _WARNS.search(line))
            rows += [(path.parent.name, path.stem, line) for line in distinct]
        return pandas.DataFrame(rows, columns=["stage", "job", "line"])

    def _needed(self, path: str, stage: str, job: str) -> Path:
        if not Path(path).is_file():
            raise _missing(Path(path), stage, job)
        return Path(path)

    def _table(self, path: str, stage: str, job: str, columns: Sequence[str]) -> pandas.DataFrame:
        return _read(self._needed(path, stage, job), columns)


_WARNS = re.compile(r"^(warning|error|critical): |^segstudy: error|\w*(Warning|Error): ")


def _missing(path: Path, stage: str, job: str) -> InputError:
    return InputError(f"{path}: no such file; the {stage} stage makes it ({job}): run it first")


_TEXT = dict.fromkeys(
    (
        *(
            "study",
            "dataset",
            "dataset_b",
            "design",
            "model",
            "case",
            "subject",
            "structure",
            "metric",
            "status",
        ),
        *(
            "reference",
            "prediction",
            "model_a",
            "model_b",
            "test",
            "effect_name",
            "estimate_name",
            "remark",
            "column",
            "comparison",
            "group",
            "group_a",
            "group_b",
            "rater",
            "rater_a",
            "rater_b",
            "grade",
            "unit",
            "verdict",
            "slightly_better",
            "problem",
            "file",
        ),
    ),
    str,
)


def _read(path: Path, columns: Sequence[str]) -> pandas.DataFrame:
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        table = read_named(path, _TEXT, separator)
    except pandas.errors.EmptyDataError:
        raise InputError(f"{path}: empty; expected a table") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}; found {', '.join(map(str, table.columns))}; "
            "the file was written by another version: remove it and run the workflow again"
        )
    for column in table.columns:
        if column in _TEXT:
            table[column] = table[column].fillna("")
    return table
