"""Which files a job reads: of a dataset, of a shard of it, of what a model is trained on."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from segstudy import correction_records
from segstudy.cases import Case, read_cases, shards, uncorrected_labels
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.names import grid_name
from segstudy.jobs.results import ResultPaths
from segstudy.jobs.targets import is_synth, learns_from_files, members_of, seen_datasets
from segstudy.participants import bids_tables, is_of_bids, says_something
from segstudy.paths import delivered_files, followed, state_of
from segstudy.results_owner import data_checksum
from segstudy.study import BidsSource, PhantomSource, Study, TableSource, patterns_of, references


class Inputs:
    """The inputs of a study's jobs.

    Tables are read again only when they have changed, since a plan of thousands of jobs asks for the
    same ones again and again.
    """

    def __init__(
        self,
        study: Study,
        paths: ResultPaths,
        audited: Callable[[str], str],
        fitted: Callable[[str, str], str],
    ):
        """Take the study and two functions that answer once a job has run.

        Parameters
        ----------
        study
            The study.
        paths
            The paths of its results.
        audited
            Dataset -> its case table; raises while the audit has not run, and that passes through.
        fitted
            Plan and fold -> the file of the fold's plan; raises likewise.
        """
        self.study, self.paths = study, paths
        self._audited, self._fitted = audited, fitted
        self._cases: dict[str, tuple[int, dict[str, Case]]] = {}
        self._shards: dict[str, tuple[int, dict[str, list[str]]]] = {}
        self._corrections: dict[str, list[str]] = {}

    # --- files of a dataset ---------------------------------------------------------------------

    def is_fetched(self, dataset: str) -> bool:
        """Return whether the download stage puts the files there; otherwise the user has."""
        source = self.study.datasets[dataset].source
        return isinstance(source, PhantomSource) or not source.path

    def delivered(self, dataset: str) -> list[str]:
        """Return every file that the user delivered."""
        source = self.study.datasets[dataset].source
        try:
            return delivered_files(
                source.path, isinstance(source, TableSource), patterns_of(source)
            )
        except InputError as error:
            raise InputError(f"datasets.{dataset}: {error}") from None

    def listed(self, dataset: str) -> list[str]:
        """Return the files that the audit depends on: all that were delivered, but for BIDS's tables of subjects."""
        files = self.delivered(dataset)
        if isinstance(self.study.datasets[dataset].source, BidsSource):
            return [file for file in files if not is_of_bids(file)]
        return files

    def looked_at(self, dataset: str) -> str:
        """Return the input of an audit: the fetched folder, or the list of the user's files."""
        fetched = self.is_fetched(dataset)
        return self.paths.raw(dataset) if fetched else self.paths.delivered_list(dataset)

    def corrections(self, dataset: str) -> list[str]:
        """Return the corrected labels of a dataset, with their records. Raises InputError where they do not fit together."""
        # Asked by several params of each job, and each label has a checksum; a run goes by what was there when it began.
        if dataset not in self._corrections:
            found = correction_records.input_files(self.study.corrections, dataset)
            self._corrections[dataset] = found
        return self._corrections[dataset]

    def corrections_option(self, dataset: str) -> list[str]:
        """Return the option of the audit for a dataset with corrected labels."""
        return ["--corrections", self.study.corrections] if self.corrections(dataset) else []

    def has_corrections(self) -> bool:
        """Return whether labels of tested datasets were corrected."""
        return any(self.corrections(dataset) for dataset in self.study.tested_datasets)

    def has_label_chain(self, dataset: str) -> bool:
        """Return whether labels of a dataset were reviewed, so that there is more to tell than the repair does."""
        return bool(correction_records.find(self.study.corrections, dataset))

    def records(self, dataset: str) -> list[str]:
        """Return the records of a dataset's reviewed cases, and the table of those up for review."""
        place = Path(self.study.corrections or os.devnull) / dataset
        found = [*place.glob("*.json"), place / correction_records.PICKED]
        return sorted(str(path) for path in found if path.is_file())

    def records_option(self, dataset: str) -> list[str]:
        """Return the option that names the folder of all corrections, where some are on record."""
        return ["--corrections", self.study.corrections] if self.records(dataset) else []

    def headline_option(self, dataset: str) -> list[str]:
        """Return the option by which measurements decide under which labels corrected cases count."""
        return ["--records", self.study.corrections] if self.corrections(dataset) else []

    def reviewed_state(self, datasets: Iterable[str]) -> str:
        """Return a text that changes with what is on record of datasets with corrected labels; empty where none has any."""
        records = [self.records(dataset) for dataset in datasets if self.corrections(dataset)]
        return state_of(*records) if records else ""

    def participant_tables(self, dataset: str) -> dict[str, list[str]]:
        """Return the user's tables of subjects: `found`, of BIDS or the case table itself, and `named` by the study file.

        Those of a fetched dataset are not there before it is fetched: its folder stands for them.
        """
        settings = self.study.datasets[dataset]
        source, found = settings.source, []
        if isinstance(source, TableSource):
            found = [source.path] if says_something(source.path) else []
        elif isinstance(source, BidsSource):
            is_fetched = self.is_fetched(dataset)
            found = [self.paths.raw(dataset)] if is_fetched else bids_tables(source.path)
        named = [settings.participants] if settings.participants else []
        return {"found": list(map(str, found)), "named": named}

    def participants(self, datasets: Iterable[str]) -> dict[str, str]:
        """Return the table of each dataset of whose subjects something is known, or is asked for by subgroups."""
        tables = {name: self.paths.participants(name) for name in datasets}
        return {
            name: table
            for name, table in tables.items()
            if self.study.datasets[name].has_participants
            and (
                self.study.statistics.subgroups
                or any(self.participant_tables(name).values())
                or os.path.exists(table)  # of columns that are gone
            )
        }

    def participants_option(self) -> list[str]:
        """Return the option of `segstudy statistics` for a study with subgroups."""
        if not self.study.statistics.subgroups:
            return []
        tables = self.participants(self.study.tested_datasets)
        return ["--participants", *(f"{name}={table}" for name, table in tables.items())]

    def checksums(self) -> dict[str, str]:
        """Return the checksum of each dataset's data, the same wherever they lie."""
        checksums = {}
        for name, dataset in self.study.datasets.items():
            files = None if self.is_fetched(name) else self.delivered(name)
            if files and isinstance(dataset.source, TableSource):
                files = files[1:]  # A table of other paths may name the same files.
            source = dataset.source.model_dump(mode="json", exclude_defaults=True)
            labelled = references.labelled(source, ("datasets", name, "source"))
            checksums[name] = data_checksum(json.dumps(labelled), files)
        return checksums

    def known_cases(self, dataset: str) -> dict[str, Case]:
        """Return the cases of the table that is there, by name; none before the audit has run."""
        path = self.paths.cases(dataset)
        return self._read_cases(dataset, path)[1] if os.path.exists(path) else {}

    def cases(self, dataset: str) -> dict[str, Case]:
        """Return the cases that passed the audit, by name."""
        return self._read_cases(dataset, self._audited(dataset))[1]

    def shards(self, dataset: str) -> dict[str, list[str]]:
        """Return the names of each shard's cases."""
        modified_ns, cases = self._read_cases(dataset, self._audited(dataset))
        if self._shards.get(dataset, (None,))[0] != modified_ns:
            shards_of_cases = shards(cases, self.study.datasets[dataset].cases_per_job)
            self._shards[dataset] = modified_ns, shards_of_cases
        return self._shards[dataset][1]

    def in_shards(self, dataset: str, folder: str, suffix: str = "") -> list[str]:
        """Return the outputs of each shard of a dataset in a folder: `<folder>/<shard><suffix>`."""
        return [f"{folder}/{shard}{suffix}" for shard in self.shards(dataset)]

    def selected(self, dataset: str, shard: str) -> list[str]:
        """Return the names of a shard's cases."""
        return self.shards(dataset)[shard]

    def _read_cases(self, dataset: str, path: str) -> tuple[int, dict[str, Case]]:
        modified_ns = os.stat(path).st_mtime_ns
        if self._cases.get(dataset, (None,))[0] != modified_ns:
            self._cases[dataset] = modified_ns, {case.case: case for case in read_cases(path)}
        return self._cases[dataset]

    def images(self, dataset: str) -> list[str]:
        """Return all images of a dataset."""
        return followed(file for case in self.cases(dataset).values() for file in case.images)

    def is_repaired(self, dataset: str) -> bool:
        """Return whether later stages see repaired labels in place of the delivered ones."""
        return self.study.datasets[dataset].repair is not None

    def labels(self, dataset: str) -> list[str]:
        """Return the labels of a dataset as later stages see them."""
        if self.is_repaired(dataset):
            return self.in_shards(dataset, self.paths.repaired(dataset))
        return followed(case.label for case in self.cases(dataset).values())

    def labels_option(self, dataset: str) -> list[str]:
        """Return the option that names the folder of repaired labels, where there is one."""
        return ["--labels", self.paths.repaired(dataset)] if self.is_repaired(dataset) else []

    def shards_option(self, dataset: str, folder: str, suffix: str = "") -> list[str]:
        """Return the options of `segstudy preprocess list` for `in_shards`."""
        cases_per_job = str(self.study.datasets[dataset].cases_per_job)
        ending = ["--suffix", suffix] if suffix else []
        return ["--shards", folder, *ending, "--cases-per-job", cases_per_job]

    def files_option(self, dataset: str) -> list[str]:
        """Return the options of `segstudy preprocess list` for `labels`."""
        if self.is_repaired(dataset):
            return self.shards_option(dataset, self.paths.repaired(dataset))
        return ["--files", "labels"]

    # --- files of a shard -----------------------------------------------------------------------

    def shard_images(self, dataset: str, shard: str) -> list[str]:
        """Return the images of a shard's cases."""
        return followed(file for case in self._of_shard(dataset, shard) for file in case.images)

    def shard_files(self, dataset: str, shard: str) -> list[str]:
        """Return the images and delivered labels of a shard's cases."""
        return followed(file for case in self._of_shard(dataset, shard) for file in case.files)

    def shard_labels(self, dataset: str, shard: str) -> list[str]:
        """Return the labels of a shard as later stages see them."""
        if self.is_repaired(dataset):
            return [self.paths.repaired_shard(dataset, shard)]
        return followed(case.label for case in self._of_shard(dataset, shard))

    def _of_shard(self, dataset: str, shard: str) -> Iterable[Case]:
        cases = self.cases(dataset)
        return [cases[name] for name in self.selected(dataset, shard)]

    def estimated_from(self, dataset: str) -> list[str]:
        """Return the files that the estimate of a label's corruption reads.

        They are the files of the reference case; of every case where `frame: auto` or `estimate_from:
        images` compares labels with images; of the first case where the transform is given and there is
        no reference case.
        """
        repair, cases = self.study.datasets[dataset].repair, self.cases(dataset)
        if repair.frame == "auto" or repair.estimate_from == "images":
            asked = list(cases.values())
        else:
            asked = [cases[repair.reference_case or min(cases)]]
        asked = uncorrected_labels(asked, None)
        return followed(file for case in asked for file in case.files)

    # --- what a model is trained on -------------------------------------------------------------

    def grid(self, plan: str, fold: str) -> str:
        """Return the name of the grid that a fold's arrays lie on.

        A spacing that is fitted stands in the fold's plan; folds with the same spacing share their arrays.
        """
        spacing_mm = self.study.preprocess[plan].spacing_mm
        if spacing_mm == "auto":
            spacing_mm = read_json(self._fitted(plan, fold))["spacing_mm"]
        return grid_name(spacing_mm)

    def training_tables(self, model: str) -> list[str]:
        """Return the case tables of what a model learns from."""
        return [self.paths.cases(dataset) for dataset in self.study.trained_on(model)]

    def seen_tables(self, model: str) -> list[str]:
        """Return the case tables that a training is given."""
        return [self.paths.cases(dataset) for dataset in seen_datasets(self.study, model)]

    def training_arrays(self, model: str, fold: str) -> list[str]:
        """Return the lists of prepared cases, or of label maps; others prepare the images themselves."""
        plan = self.study.models[model].plan
        if learns_from_files(self.study, model) or not plan:
            return []
        grid = self.grid(plan, fold)
        lists = self.paths.tissue_list if is_synth(self.study, model) else self.paths.array_list
        return [lists(dataset, plan, grid) for dataset in self.study.trained_on(model)]

    def weights(self, model: str, fold: str, seed: int | str) -> str:
        """Return the weights of a training that a model predicts by: the last, or the best."""
        kind = "best.pt" if self.study.models[model].infer.weights == "best" else "weights.pt"
        return f"{self.paths.training(model, fold, seed)}/{kind}"

    def member_weights(self, model: str, fold: str) -> list[str]:
        """Return the weights of all members of an ensemble, of this fold alone."""
        return [self.weights(member, fold, seed) for member, seed in members_of(self.study, model)]

    def training_plan(self, model: str, fold: str) -> list[str]:
        """Return the fold's plan; what learns from files makes its own."""
        plan = self.study.models[model].plan
        return [self.paths.plan(plan, fold)] if plan else []

    def training_images(self, model: str) -> list[str]:
        """Return the lists of images and labels that a model is trained on as they are; none for other models."""
        if not learns_from_files(self.study, model):
            return []
        return [
            file
            for dataset in self.study.trained_on(model)
            for file in (self.paths.image_list(dataset), self.paths.label_list(dataset))
        ]
