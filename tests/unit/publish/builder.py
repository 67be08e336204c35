"""Builds a small results folder as the stages write it, for tests of figures and report.

Labels and predictions are real files, and overlaps are measured on them; distances and learning
curves are made up from a seed.
"""

import csv
import itertools
import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas

from segstudy.cases import SEED, Case, Split, read_cases, read_splits, write_cases, write_splits
from segstudy.files import write_json, write_table, write_text
from segstudy.images.files import read_label, write_label, write_nifti
from segstudy.jobs.results import ResultPaths
from segstudy.metrics.measure import LATERALITY_ERROR, opposite_side
from segstudy.metrics.overlap import confusion
from segstudy.metrics.table import confusion_rows, write_confusion
from segstudy.participants import write_participants
from segstudy.publish.results import Results
from segstudy.quality.calibration import to_record
from segstudy.statistics.analysis import analyse
from segstudy.statistics.quality import Predictions, estimate
from segstudy.statistics.subgroups import subgroups
from segstudy.statistics.values import read_values
from segstudy.study import Study

SHAPE = (40, 36, 12)
SPACING_MM = (1.5, 1.5, 3.0)
DISTANCES = ("hd_mm", "hd95_mm", "assd_mm")
SHARES = ("dice", "iou", "precision", "recall")


def study(
    models=("enet", "unet_2d", "unet_3d"),
    structures=("heart", "aorta"),
    repair=True,
    folds=2,
    other_site=False,
    pairs=(),
    raters=(),
    **further,
) -> Study:
    """A study with one CT dataset, `thorax`, and perhaps another site's, `other`, for testing only.

    raters: second readers, each of whom draws every other case, closer to the reference than any model.
    """
    dataset = {
        "source": {"layout": "table", "path": "/home/somebody/secret/table.tsv"},
        "modality": "CT",
        "structures": {name: value for value, name in enumerate(structures, start=1)},
        "cases_per_job": 8,
        "left_right_pairs": pairs,
    }
    if repair:
        asked = {} if repair == "images" else {"reference_case": "case_000"}
        dataset["repair"] = {"structure": structures[0], **asked}
        if repair == "images":
            dataset["repair"]["estimate_from"] = "images"
            dataset["audit_labels"] = True
    datasets = {"thorax": dataset}
    if other_site:
        datasets["other"] = {**dataset, "role": "test"}
        datasets["other"].pop("repair", None)
    return Study.model_validate(
        {
            "name": "tiny",
            "title": "A tiny study",
            "datasets": datasets,
            "splits": {"folds": folds},
            "models": {
                **{
                    name: {
                        "trainer": "predictions",
                        "files": f"{name}/{{case}}.nii.gz",
                        "rater": True,
                    }
                    for name in raters
                },
            }
            | {
                name: {"network": "unet", "dims": 3, "epochs": 12, "validate_every_epochs": 3}
                if name != "nnunet"
                else {"trainer": "nnunet", "epochs": 12}
                for name in models
            },
            **{"statistics": {"metrics": ["dice", "hd95_mm"], "bootstrap_samples": 100}, **further},
        }
    )


def build(root: Path, settings: Study, cases=8, seed=1, infinite="one", names=None) -> Path:
    """Write the folder `root` and return it.

    infinite: `one` (the first case of the last model misses the last structure), `all` (every
    prediction is empty) or `none`.
    """
    random = np.random.default_rng(seed)
    names = names or [f"case_{index:03d}" for index in range(cases)]
    rows = []
    for dataset in settings.datasets:
        table = []
        for index, name in enumerate(names):
            table.append(_case(root, settings, dataset, name, index, random))
        write_cases(root / f"download/{dataset}/cases.tsv", table, settings.channels)
        problems = pandas.DataFrame(
            [(dataset, "case_099", "/data/private/case_099.nii.gz", "empty label", "refused"),
             (dataset, names[0], "labels/case_000.nii.gz", "3 voxels of an unknown value", "warning")],
            columns=["dataset", "case", "file", "problem", "verdict"],
        )  # fmt: skip
        write_table(root / f"download/{dataset}/problems.tsv", problems)
        if settings.datasets[dataset].repair:
            _repair(root, settings, dataset, names)
        if settings.datasets[dataset].audit_labels:
            faults = [
                (names[0], "aorta", "stray", "9 voxels in pieces apart, of 300", 12.5),
                (names[1], "aorta", "missing_part", "0.52 times the usual volume", 9.1),
            ]
            columns = ["case", "structure", "fault", "evidence", "score"]
            write_table(
                root / f"repair/{dataset}/audit/faults.csv",
                pandas.DataFrame(faults, columns=columns),
            )
        rows += _predict(root, settings, dataset, table, random, infinite)
    write_splits(
        root / "preprocess/splits.tsv",
        [
            Split(
                dataset,
                name,
                name,
                index % settings.splits.folds if cohort.role == "train" else None,
                SEED if cohort.role == "train" else "",
            )
            for dataset, cohort in settings.datasets.items()
            for index, name in enumerate(names)
        ],
    )
    for fold in settings.folds:
        for plan in settings.preprocess:
            write_json(root / f"preprocess/plans/{plan}/fold-{fold}.json", _plan())
    _train(root, settings, random)
    metrics = pandas.DataFrame(rows)
    write_table(root / "metrics/metrics.csv", metrics)
    # The real statistics, so that the columns are those that the report will meet.
    values = read_values(root / "metrics/metrics.csv")
    found = analyse(values, settings.statistics, settings.raters)
    for table in fields(found):
        write_table(root / f"statistics/{table.name}.csv", getattr(found, table.name))
    if settings.statistics.subgroups:
        _subgroups(root, settings, names, found.values)
    if settings.statistics.quality:
        _quality(root, settings, metrics)
    for stage, job, seconds in (("train", "a", 90.5), ("train", "b", 30.0), ("metrics", "c", 2.0)):
        write_text(
            root / f"benchmarks/{stage}/{job}.tsv",
            "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
            f"{seconds}\t0:01:30\t512.25\t900\t400\t410\t0\t0\t99\t80\n",
        )
    return root


def _ball(centre, radii) -> np.ndarray:
    grid = np.meshgrid(*[np.arange(size) for size in SHAPE], indexing="ij")
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) <= 1


def _subgroups(root: Path, settings: Study, names: list[str], values) -> None:
    """Write a table of participants, with the names of the study's columns, and the statistics by them."""
    known = {
        name: {
            "sex": "FM"[index % 2],
            "age": "" if index == 3 else str(30 + 4 * index),
            "scanner": "Siemens Magnetom Prisma, head coil of 64 channels" if index < 2 * len(names) / 3 else "GE",
            "site": "small" if index < 2 else "large",
        }
        for index, name in enumerate(names)
    }  # fmt: skip
    subjects = {name: name for name in names}
    for dataset in settings.datasets:
        write_participants(root / f"download/{dataset}/participants.tsv", subjects, known)
    of_all = {(dataset, name): known[name] for dataset in settings.datasets for name in names}
    found = subgroups(values, of_all, settings.statistics)
    write_table(root / "statistics/subgroups.csv", found.subgroups)
    write_table(root / "statistics/subgroup_tests.csv", found.subgroup_tests)


def _quality(root: Path, settings: Study, metrics: pandas.DataFrame) -> None:
    """Write the estimates of quality as `segstudy statistics --quality` does."""
    datasets = settings.cross_validated_datasets
    predictions = Predictions(
        ResultPaths(root).predictions(),
        {name: model.seeds for name, model in settings.models.items()},
        {name: settings.datasets[name].structures for name in datasets},
        {name: read_cases(root / f"download/{name}/cases.tsv") for name in datasets},
        read_splits(root / "preprocess/splits.tsv"),
    )
    found = estimate(predictions, metrics)
    write_table(root / "statistics/quality/cases.csv", found.cases)
    write_table(root / "statistics/quality/summary.csv", found.summary)
    for name, calibration in found.calibrations.items():
        write_json(root / f"statistics/quality/{name}.json", to_record(calibration))


def _case(root, settings, dataset, name, index, random) -> Case:
    """An image and its label; for the reference case of a repair also a label that was moved."""
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    label = np.zeros(SHAPE, np.uint8)
    values = settings.datasets[dataset].structures
    for place, value in enumerate(values.values()):
        turn = 2 * np.pi * place / len(values)
        centre = (20 + 9 * np.cos(turn) + random.normal(), 18 + 8 * np.sin(turn), 6)
        radii = (5.5 + random.normal() * 0.5 - 0.3 * place, 4.5 + random.normal() * 0.4, 4)
        label[_ball(centre, np.maximum(radii, 1.8))] = value
    image = np.where(_ball((20, 18, 6), (19, 17, 9)), 30.0, -900.0)
    image = image + 70.0 * (label > 0) + random.normal(0, 15, SHAPE)
    folder = root / f"download/{dataset}/raw"
    write_nifti(folder / f"{name}.nii.gz", image.astype(np.int16), affine)
    repair = settings.datasets[dataset].repair
    reference = None
    write_label(folder / f"{name}_label.nii.gz", label, affine)
    if repair:
        moved = label.copy()
        value = values[repair.structure]
        moved[label == value] = 0
        moved[np.roll(label == value, (4, 3, 1), (0, 1, 2))] = value
        write_label(folder / f"{name}_label.nii.gz", moved, affine)
        write_label(root / f"repair/{dataset}/labels/S/{name}.nii.gz", label, affine)
        if index == 0:
            reference = folder / f"{name}_right.nii.gz"
            write_label(reference, label, affine)
            back = np.roll(label == value, (0, 1, 0), (0, 1, 2)).astype(np.uint8)
            write_label(root / f"repair/{dataset}/estimate/repaired.nii.gz", back, affine)
    return Case(
        case=name,
        subject=name,
        images=(folder / f"{name}.nii.gz",),
        label=folder / f"{name}_label.nii.gz",
        reference_label=reference,
        shape=SHAPE,
        spacing_mm=SPACING_MM,
        voxels={key: int((label == value).sum()) for key, value in values.items()},
    )


def _repair(root, settings, dataset, names) -> None:
    repair = settings.datasets[dataset].repair
    angles = np.unique(np.r_[np.arange(-180.0, 180.0), -26.6 + np.arange(-100, 101) * 0.02])
    ious = 0.2 + 0.79 * np.exp(-np.abs(angles + 26.6) / 25)
    folder = root / f"repair/{dataset}/estimate"
    asked = repair.estimate_from == "images"
    curve = {
        "angle_deg": angles,
        "iou": None if asked else ious,
        "evidence": ious - 1 if asked else None,
    }
    write_table(folder / "sweep.csv", pandas.DataFrame(curve, dtype=float).round(6))
    attempts = pandas.DataFrame(
        [("images", None, None, None, -26.6, True, "")] if asked else
        [("sweep", 0.27, 0.985, 0.99, -26.6, True, ""),
         ("elastix rigid, mask", 0.27, 0.81, 0.8, -24.0, False, ""),
         ("elastix affine, mask", 0.27, None, None, None, False, "too few samples")],
        columns=["method", "iou_before", "iou_after", "iou_replayed", "angle_deg", "chosen", "reason"],
    )  # fmt: skip
    attempts.insert(1, "frame", "voxel")
    write_table(folder / "attempts.csv", attempts)
    seconds = attempts[["method", "frame"]].assign(seconds=[1.2, 3.4, 8.9][: len(attempts)])
    write_table(folder / "seconds.csv", seconds)
    write_json(
        folder / "transform.json",
        {
            "structure": repair.structure, "method": "images" if asked else "sweep", "frame": "voxel",
            "reference_case": repair.reference_case,
            "iou_before": None if asked else 0.27, "iou_after": None if asked else 0.985,
            "iou_replayed": None if asked else 0.99,
            "angle_deg": -26.6, "translation_voxels": [4.0, 3.0, 1.0],
            "image_evidence": {"cases": len(names), "gain": 1.2, "t": 14.0} if asked else None,
            "matrix_voxel": np.eye(4).tolist(), "matrix_mm": np.eye(4).tolist(),
            "peak_deg": None if asked else [-26.92, -26.28], "rotation": "determined", "rival_deg": None,
        },
    )  # fmt: skip
    verdicts = pandas.DataFrame(
        [
            {
                "case": name, "verdict": "review" if index == 3 else "repaired", "label": "moved",
                "voxels_moved": 420, "voxels_lost_outside": 12 if index == 3 else 0,
                "voxels_overwritten": 0, "voxels_at_border": 0, "gradient_before": 5.0,
                "gradient_after": 9.5 + index, "spread_before": 30.0, "spread_after": 12.0,
                "smoothness_before": 0.81, "smoothness_after": 0.82,
                "remark": "would leave the grid" if index == 3 else "",
            }
            for index, name in enumerate(names)
        ]
    )  # fmt: skip
    write_table(root / f"repair/{dataset}/labels/S/verdicts.csv", verdicts)


def _plan() -> dict:
    return {
        "spacing_mm": [1.5, 1.5, 3.0], "crop": "body", "margin_mm": 5.0, "normalise": "ct",
        "anisotropy_threshold": 3.0, "median_shape": list(SHAPE),
        "intensities": [{"low": -50.0, "high": 180.0, "mean": 92.5, "sd": 31.0}],
    }  # fmt: skip


def _predict(root, settings, dataset, table, random, infinite) -> list[dict]:
    rows, confused = [], {}
    values = settings.datasets[dataset].structures
    pairs = settings.datasets[dataset].left_right_pairs
    names_of = {value: name for name, value in values.items()} | {0: "background"}
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    other = settings.datasets[dataset].role == "test"
    for (index, case), model_fold in itertools.product(
        enumerate(table), settings.folds if other else [None]
    ):
        fold = index % settings.splits.folds if model_fold is None else model_fold
        path = root / f"repair/{dataset}/labels/S/{case.case}.nii.gz"
        reference = read_label(path if path.is_file() else case.label).array
        for place, model in enumerate(settings.models):
            if model in settings.raters and index % 2:
                continue
            last = place == len(settings.models) - 1
            prediction = np.zeros_like(reference)
            for structure, value in values.items():
                missed = infinite == "all" or (
                    infinite == "one" and last and index == 0 and structure == list(values)[-1]
                )
                mask = reference == value
                if not missed:
                    step = (len(settings.models) - place) * 0.5 + random.normal(0, 0.4)
                    step = 0 if model in settings.raters else step
                    mask = np.roll(mask, round(step), axis=int(random.integers(2)))
                    prediction[mask & (random.random(SHAPE) > 0.03)] = value
            for left, right in pairs if last and index == 1 else ():
                sides = [prediction == values[name] for name in (left, right)]
                prediction[sides[0]], prediction[sides[1]] = values[right], values[left]
            write_label(
                root / f"infer/{model}/fold-{fold}/seed-0/{dataset}/{case.case}.nii.gz",
                prediction, affine,
            )  # fmt: skip
            counted = confusion(reference, prediction, list(values.values()))
            confused.setdefault((model, fold), []).extend(
                confusion_rows({}, case.case, counted, names_of)
            )
            groups = {name: (value,) for name, value in values.items()}
            groups |= {
                name: tuple(values[one] for one in members)
                for name, members in settings.composite_regions.items()
            }
            for structure, chosen in groups.items():
                measured = _measure(
                    np.isin(reference, chosen), np.isin(prediction, chosen), random, settings
                )
                other_side = opposite_side(pairs).get(structure)
                if other_side:
                    predicted = measured["voxels"]["n_predicted_voxels"]
                    wrong = counted.voxels(values[other_side], values[structure])
                    measured["values"][LATERALITY_ERROR] = (
                        wrong / predicted if predicted else np.nan
                    )
                for metric, value in measured["values"].items():
                    rows.append(
                        {
                            "study": settings.name, "dataset": dataset, "model": model,
                            "fold": fold, "seed": 0, "case": case.case, "subject": case.subject,
                            "structure": structure, "metric": metric, "value": value,
                            "status": measured["status"], **measured["voxels"],
                            "surface": "mesh", "diagonal_mm": 88.6,
                        }
                    )  # fmt: skip
    for model in settings.models:
        for fold in settings.folds:
            write_confusion(
                root / f"metrics/{model}/fold-{fold}/seed-0/confusion/{dataset}.csv",
                confused.get((model, fold), []),
            )
    return rows


def _measure(reference, prediction, random, settings) -> dict:
    both, one, other = (reference & prediction).sum(), reference.sum(), prediction.sum()
    values = {
        "dice": 2 * both / (one + other),
        "iou": both / (one + other - both),
        "precision": both / other if other else np.nan,
        "recall": both / one,
    }
    far = (1 - values["dice"]) * 12 + abs(random.normal(0, 0.3)) + 0.2
    for metric, share in zip(DISTANCES, (1.6, 1.0, 0.35), strict=True):
        values[metric] = far * share if other else np.inf
    for tolerance in settings.metrics.nsd_tolerance_mm:
        values[f"nsd_{tolerance:g}mm"] = float(np.exp(-far / 6)) if other else 0.0
    return {
        "values": values,
        "status": "ok" if other else "pred_empty",
        "voxels": {"n_reference_voxels": int(one), "n_predicted_voxels": int(other)},
    }


def _train(root, settings, random) -> None:
    for place, (model, trained) in enumerate(settings.compared().models.items()):
        for fold in settings.folds:
            for seed in trained.seeds:
                epochs = np.arange(1, trained.epochs + 1)
                table = pandas.DataFrame({"epoch": epochs})
                table["lr"] = 1e-3 * (1 + np.cos(np.pi * epochs / trained.epochs)) / 2
                fall = np.exp(-epochs / (2 + place))
                table["train_loss"] = 0.1 + fall + random.normal(0, 0.01, len(epochs))
                nnunet = trained.network == "nnunet"
                asked = getattr(trained, "validate_every_epochs", 1)
                every = nnunet | (epochs % (2 if asked == "auto" else asked) == 0)
                columns = [*settings.structures, "mean"]
                for name in columns:
                    dice = 0.9 - 0.5 * fall + random.normal(0, 0.01, len(epochs))
                    where = "training" if nnunet else "validation"
                    table[f"{where}_dice_{name}"] = np.where(every, dice, np.nan)
                table["seconds"] = 1.5
                folder = root / f"train/{model}/fold-{fold}/seed-{seed}"
                write_table(folder / "history.csv", table)
                write_json(
                    folder / "settings.json",
                    {
                        "model": json.loads(trained.model_dump_json()),
                        "parameters": 1_962_532,
                        **({} if nnunet else {"architecture": _architecture(3)}),
                        "patch_size": [32, 32, 12],
                        "steps_per_epoch": 9,
                        "device": "cpu",
                        "precision": "float32",
                        "threads": 2,
                        "fold": fold,
                        "seed": seed,
                        "versions": {"torch": "2.13.0", "numpy": "2.4.6"}
                        | ({"nnunetv2": "2.8.1"} if nnunet else {}),
                        **({"batch_size": 2} if nnunet else {}),
                    },
                )


def _architecture(classes: int) -> list[dict]:
    """A U-Net of two levels, as `networks.describe` tells it."""
    rows = [
        ("encoder.0", 16, [32, 32, 12], 962_000),
        ("encoder.1", 32, [16, 16, 6], 500_000),
        ("up.0", 16, [32, 32, 12], 500_000),
        ("decoder.0", 16, [32, 32, 12], 400),
        ("heads.0", classes, [32, 32, 12], 132),
    ]
    return [dict(zip(("name", "channels", "size", "parameters"), row, strict=True)) for row in rows]


def with_subjects(results: Results, root, per_subject: int) -> Results:
    """The same results with a case table that names subjects of several cases each."""
    shutil.copytree(results.root, root)
    for dataset in results.study.datasets:
        path = root / f"download/{dataset}/cases.tsv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        for number, row in enumerate(rows):
            row["subject"] = f"P{number // per_subject}"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return Results(results.study, root)
