"""A results folder in which cases and subjects have numbers for names, for publishing.

Figures and report are drawn anew from it, so that no name can be left in a picture.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas

from segstudy.cases import read_cases, write_cases
from segstudy.files import read_json, write_json, write_table
from segstudy.groups import FEWEST_TESTED
from segstudy.participants import write_participants
from segstudy.publish.leaks import Leaks
from segstudy.publish.redaction import WITHHELD, role_of_file, stage_text
from segstudy.publish.results import Results
from segstudy.study import Study
from segstudy.training_splits import LEAK_CHECK


def numbered(results: Results) -> dict[str, dict[str, str]]:
    """Give cases and subjects numbers for names, in an order drawn from the study's seed: `cases` and `subjects`, old name -> `case_001`.

    The order is not that of the old names, which often follows dates of admission. A subject with the name of a case keeps that case's
    number, so that it can be seen that no subject is named apart from its case.
    """
    cases, subjects = set(), set()
    for dataset in results.study.datasets:
        for case in results.cases(dataset):
            cases.add(case.case)
            subjects.add(case.subject)
        cases |= set(results.problems(dataset)["case"]) - {""}
    random = np.random.default_rng(results.study.splits.seed)
    of_cases = _numbers(cases, "case", random)
    of_subjects = _numbers(subjects, "subject", random)
    return {
        "cases": of_cases,
        "subjects": {name: of_cases.get(name, number) for name, number in of_subjects.items()},
    }


def _numbers(names: Iterable[str], word: str, random: np.random.Generator) -> dict[str, str]:
    ordered = [str(name) for name in random.permutation(sorted(names))]
    digits = max(3, len(str(len(ordered))))
    return {name: f"{word}_{place:0{digits}d}" for place, name in enumerate(ordered, start=1)}


def anonymised(
    results: Results, names: Mapping[str, Mapping[str, str]], leaks: Leaks, folder: Path
) -> Results:
    """Copy results under new names into a folder: tables written anew, images and predictions linked.

    Parameters
    ----------
    results
        The results of the study.
    names
        Of `numbered`.
    leaks
        Texts of the stages in which it finds a name or a folder are withheld.
    folder
        To write to.
    """

    def withheld_if_named(text: str) -> str:
        text = stage_text(renamed(text, names))
        return WITHHELD if leaks.find(text) else text

    study, root = results.study, results.root.resolve()
    cases, subjects = names["cases"], names["subjects"]
    if results.corrections:  # Its tables and sentences name no case.
        accounting = Path(results.paths.accounting).relative_to(results.paths.root)
        _link(root / accounting, folder / accounting)
    for name, ratings in (results.ratings or {}).items():  # They number raters and name no case.
        place = Path(results.paths.ratings).relative_to(results.paths.root)
        write_table(folder / place / f"{name}.csv", ratings)
    for dataset, settings in study.datasets.items():
        new_folder = folder / "download" / dataset
        table = [
            replace(
                case,
                case=cases[case.case],
                subject=subjects[case.subject],
                same_image_as=case.same_image_as and cases[case.same_image_as],
                checksum="",
            )
            for case in read_cases(root / "download" / dataset / "cases.tsv")
        ]
        write_cases(new_folder / "cases.tsv", table, study.channels)
        _participants(results, dataset, names, new_folder)
        problems = results.problems(dataset).copy()
        problems["case"] = problems["case"].map(lambda name: cases.get(name, name))
        roles = {case.case: case for case in results.cases(dataset)}
        problems["file"] = [
            role_of_file(file, roles.get(case))
            for case, file in zip(results.problems(dataset)["case"], problems["file"], strict=True)
        ]
        problems["problem"] = problems["problem"].map(withheld_if_named)
        write_table(new_folder / "problems.tsv", problems)
        if settings.repair:
            _repair(results, dataset, cases, withheld_if_named, folder)
        if settings.audit_labels:
            _faults(results, dataset, cases, withheld_if_named, folder)
    plan = Path(results.paths.analysis_plan)
    if plan.is_file():  # dates, margins and columns alone
        _link(root / plan.name, folder / plan.name)
    splits = results.splits.copy()
    splits["case"], splits["subject"] = splits["case"].map(cases), splits["subject"].map(subjects)
    write_table(folder / "preprocess/splits.tsv", splits)
    _link(root / "preprocess/plans", folder / "preprocess/plans")
    if (root / "train").is_dir():
        _link(root / "train", folder / "train")
    for path in sorted((root / "benchmarks").glob("**/*.tsv")):
        # A job of one case bears its name.
        parts = path.relative_to(root).with_suffix("").parts
        place = Path(*(cases.get(part, part) for part in parts))
        _link(path, folder / place.with_name(f"{place.name}.tsv"))
    for path in [*root.glob("statistics/*.csv"), *root.glob("metrics/*/**/*.csv")]:
        _rename_table(path, folder / path.relative_to(root), names)
    for name in ("subgroups", "subgroup_tests") if study.statistics.subgroups else ():
        path = folder / "statistics" / f"{name}.csv"
        _without_small_groups(path, results.subgroups)
    if study.statistics.quality:
        for path in Path(results.paths.quality).glob("*.csv"):
            _rename_table(path, folder / "statistics/quality" / path.name, names)
        for name in study.models:  # calibrations name nobody
            path = Path(results.paths.quality).resolve() / f"{name}.json"
            _link(path, folder / "statistics/quality" / path.name)
    if study.metrics.lesions:
        _rename_table(results.instances, folder / "metrics/instances.csv", names)
    metrics = results.all_metrics.copy()
    metrics["case"] = metrics["case"].map(cases)
    if "subject" in metrics:
        metrics["subject"] = metrics["subject"].map(subjects)
    write_table(folder / "metrics/metrics.csv", metrics)
    maps = (root / "infer").glob("*/*/*/*/*/*.nii.gz")  # of uncertainty
    for path in sorted([*(root / "infer").glob("*/*/*/*/*.nii.gz"), *maps]):
        name = path.name.removesuffix(".nii.gz")
        if name in cases:
            _link(path, folder / path.relative_to(root).with_name(f"{cases[name]}.nii.gz"))
    for path in (root / "infer").glob(f"*/*/*/*/{LEAK_CHECK}"):  # numbers alone
        _link(path, folder / path.relative_to(root))
    return Results(renamed_study(results.whole_study, names), folder)


def renamed(text: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """Replace each old name that stands in a text as a word of its own."""
    new = {**names["subjects"], **names["cases"]}
    if not new:
        return text
    known = "|".join(re.escape(name) for name in sorted(new, key=len, reverse=True))
    return re.sub(rf"(?<![\w-])({known})(?![\w-])", lambda match: new[match[1]], str(text))


def renamed_study(study: Study, names: Mapping[str, Mapping[str, str]]) -> Study:
    """Replace names in the study's settings and free texts, and withhold what leads to its authors."""
    datasets = {}
    for name, settings in study.datasets.items():
        if settings.repair:
            reference = settings.repair.reference_case
            reference = names["cases"].get(reference, reference)
            repair = settings.repair.model_copy(update={"reference_case": reference})
            settings = settings.model_copy(update={"repair": repair})
        datasets[name] = settings
    words = {
        "title": renamed(study.title, names) if study.title else study.title,
        "description": renamed(study.description, names) if study.description else "",
    }
    reporting = study.reporting.withheld().reworded(lambda text: renamed(text, names))
    return study.model_copy(update={"datasets": datasets, "reporting": reporting, **words})


def _faults(
    results: Results,
    dataset: str,
    cases: Mapping[str, str],
    withheld_if_named: Callable[[str], str],
    folder: Path,
) -> None:
    faults = results.faults(dataset).copy()
    faults["case"], faults["evidence"] = (
        faults["case"].map(cases),
        faults["evidence"].map(withheld_if_named),
    )
    write_table(folder / "repair" / dataset / "audit/faults.csv", faults)


def _repair(
    results: Results,
    dataset: str,
    cases: Mapping[str, str],
    withheld_if_named: Callable[[str], str],
    folder: Path,
) -> None:
    old_folder, new_folder = (
        results.root.resolve() / "repair" / dataset,
        folder / "repair" / dataset,
    )
    for path in old_folder.glob("estimate/*.csv"):
        _rename_table(path, new_folder / path.relative_to(old_folder), {"cases": cases})
    attempts = results.attempts(dataset).copy()
    if "reason" in attempts:
        attempts["reason"] = attempts["reason"].map(withheld_if_named)
        write_table(new_folder / "estimate/attempts.csv", attempts)
    for path in old_folder.glob("estimate/*.nii.gz"):
        _link(path, new_folder / "estimate" / path.name)
    transform = read_json(old_folder / "estimate/transform.json")
    reference = transform.get("reference_case")
    transform["reference_case"] = cases.get(reference, reference)
    write_json(new_folder / "estimate/transform.json", transform)
    for path in sorted((old_folder / "labels").glob("*/*.nii.gz")):
        name = cases.get(path.name.removesuffix(".nii.gz"))
        if name:
            _link(path, new_folder / "labels/all" / f"{name}.nii.gz")
    verdicts: pandas.DataFrame = results.verdicts(dataset).copy()
    verdicts["case"] = verdicts["case"].map(cases)
    if "remark" in verdicts:
        verdicts["remark"] = verdicts["remark"].map(withheld_if_named)
    write_table(new_folder / "labels/all/verdicts.csv", verdicts)


def _participants(
    results: Results, dataset: str, names: Mapping[str, Mapping[str, str]], folder: Path
) -> None:
    """Write what is known of the subjects under new names; it is shown as a table of the cohort alone."""
    known = results.participants(dataset)
    if known:
        of_cases = {case.case: case.subject for case in results.cases(dataset)}
        write_participants(
            folder / "participants.tsv",
            {
                names["cases"][case]: names["subjects"][subject]
                for case, subject in of_cases.items()
            },
            {names["cases"][case]: cells for case, cells in known.items()},
        )


def _without_small_groups(path: Path, groups: pandas.DataFrame) -> None:
    """Leave out of a table the columns that make a group of so few subjects that they might be known by it.

    All groups of such a column go: the smallest would follow from the others and the whole.
    """
    sizes = groups.groupby(["dataset", "column", "group"])["n_subjects"].max()
    small = sizes[sizes < FEWEST_TESTED].reset_index()[["dataset", "column"]]
    table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    told = ~pandas.MultiIndex.from_frame(table[["dataset", "column"]]).isin(
        pandas.MultiIndex.from_frame(small)
    )
    write_table(path, table[told])


def _rename_table(old: Path, new: Path, names: Mapping[str, Mapping[str, str]]) -> None:
    """Copy a table; columns `case` and `subject` get the new names."""
    table = pandas.read_csv(old, dtype=str, keep_default_na=False)
    for column, kind in (("case", "cases"), ("subject", "subjects")):
        if column in table and kind in names:
            table[column] = table[column].replace(names[kind])
    write_table(new, table)


def _link(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    new.symlink_to(old)
