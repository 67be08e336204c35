"""Training for the same time, segstudy's U-Nets and nnU-Net 3d_fullres: Dice on the held-out fold's whole volumes.

All arms are models of one study on real hippocampus cases, run by the workflow itself: the same
fold, the same two cores, one arm after the other. Each arm is first timed for two epochs; then its
epochs are set so that the training takes the minutes asked, and its schedule ends with them.
nnU-Net's planning and preprocessing are not counted, nor is our resampling.

Needs nnunetv2 (`make nnunet`) and the real cases in SEGSTUDY_DATA.
"""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGSTUDY_DATA", REPOSITORY.parent / "shared" / "data"))
STRUCTURES = {"anterior": 1, "posterior": 2}
COMMON = {"threads": 2, "device": "cpu", "validation_fraction": 0}
FAST = {
    **COMMON,
    "network": "unet",
    "optimizer": {"name": "adamw", "lr": 0.004},
    "schedule": {"name": "linear"},
    "foreground_fraction": 0.67,
}
ARMS = {
    "unet3d": {**FAST, "dims": 3, "channels": [16, 32, 64, 128], "batch_size": 2},
    "unet2d": {
        **FAST,
        "dims": 2,
        "planes": ["axial", "coronal", "sagittal"],
        "channels": [32, 64, 128, 256],
        "batch_size": 32,
    },
    # An epoch of five steps, so that it can be timed; how nnU-Net learns does not depend on it.
    "nnunet": {
        **COMMON,
        "trainer": "nnunet",
        "configuration": "3d_fullres",
        "steps_per_epoch": 5,
        "validation_steps_per_epoch": 1,
    },
}
LEAD = 0.05
"""A wide margin: five times what separates good methods on these cases."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: 10 cases, seconds")
    parser.add_argument("--minutes", type=float, default=15.0, help="training time of each arm")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--keep", type=Path, help="folder to work in, kept; else a temporary one")
    options = parser.parse_args()
    arms = {name: ARMS[name] for name in options.arms}
    if "nnunet" in arms and importlib.util.find_spec("nnunetv2") is None:
        print("nnunetv2 is not installed (make nnunet): its arm is left out")
        del arms["nnunet"]
    if not (DATA / "Task04_Hippocampus").is_dir():
        print(f"no Task04_Hippocampus in {DATA}: set SEGSTUDY_DATA; nothing measured")
        return 0
    minutes = 0.1 if options.quick else options.minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        table = write_table(folder, 10 if options.quick else None)
        timed = {name: {**arm, "epochs": 2} for name, arm in arms.items()}
        study = run(folder, "timing", table, timed, "train")
        epochs = {
            name: max(2, int(60 * minutes / history(study, name)["seconds"].iloc[-1]))
            for name in arms
        }
        longer = {name: {**arm, "epochs": epochs[name]} for name, arm in arms.items()}
        study = run(folder, f"minutes{minutes:g}".replace(".", "_"), table, longer, "metrics")
        return report(study, list(arms), minutes)


def write_table(folder: Path, cases: int | None) -> Path:
    """A case table of the real cases, the first `cases` of them."""
    source = DATA / "Task04_Hippocampus"
    rows = ["case\tsubject\timage\tlabel"]
    for label in sorted((source / "labelsTr").glob("hippocampus_*.nii.gz"))[:cases]:
        name = label.name.removesuffix(".nii.gz")
        rows.append(f"{name}\t{name}\t{source / 'imagesTr' / label.name}\t{label}")
    table = folder / "cases.tsv"
    table.write_text("\n".join(rows) + "\n")
    return table


def run(folder: Path, name: str, table: Path, models: dict, stage: str) -> Path:
    """Run a study of these models up to a stage on its first fold; its results."""
    study = {
        "datasets": {
            "task04": {
                "source": {"layout": "table", "path": str(table)},
                "modality": "MR",
                "structures": STRUCTURES,
                "channels": ["t1"],
                "cases_per_job": 32,
            }
        },
        "splits": {"folds": 5, "run_folds": [0], "seed": 20},
        "models": models,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    results = folder / "results"
    targets = (
        [str(results / name / "metrics" / "metrics.csv")]
        if stage == "metrics"
        else [
            str(results / name / "train" / model / "fold-0/seed-0/weights.pt") for model in models
        ]
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete"),
            *("--quiet", "all", "--snakefile", str(REPOSITORY / "Snakefile")),
            *("--directory", str(folder)),
            *("--configfile", str(REPOSITORY / "config" / "config.yaml")),
            *("--config", f"study={file}", f"results={results}"),
            *("--", *targets),
        ],
        stdout=sys.stderr,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the workflow ended with {done.returncode}; its logs: {results / name}")
    return results / name


def history(study: Path, model: str) -> pandas.DataFrame:
    return pandas.read_csv(study / "train" / model / "fold-0/seed-0/history.csv")


def report(study: Path, arms: list[str], minutes: float) -> int:
    with (study / "metrics" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    print(
        "| arm | precision | parameters | patch | batch | steps | training (min) | patches a second "
        "| Dice anterior | Dice posterior | mean | n |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    means: dict[str, dict[str, float]] = {}
    for arm in arms:
        settings = json.loads((study / "train" / arm / "fold-0/seed-0/settings.json").read_text())
        seconds = history(study, arm)["seconds"].sum()
        values = {
            name: [
                float(row["value"])
                for row in rows
                if row["model"] == arm and row["structure"] == name
            ]
            for name in STRUCTURES
        }
        means[arm] = {name: sum(found) / len(found) for name, found in values.items()}
        batch, steps = (
            settings.get("batch_size", settings["model"].get("batch_size")),
            settings["steps"],
        )
        print(
            f"| {arm} | {settings['precision']} | {settings['parameters']:,} "
            f"| {'x'.join(map(str, settings['patch_size']))} | {batch} | {steps} "
            f"| {seconds / 60:.1f} | {batch * steps / seconds:.1f} | {means[arm]['anterior']:.4f} "
            f"| {means[arm]['posterior']:.4f} | {mean(means[arm]):.4f} | {len(values['anterior'])} |"
        )
    targets = []
    if "unet3d" in means:
        found = mean(means["unet3d"])
        targets.append((f"mean Dice of unet3d after {minutes:g} min", found, 0.88))
        if "nnunet" in means:
            lead = found - mean(means["nnunet"])
            targets.append(("lead over nnU-Net in the same time", lead, LEAD))
    if "unet2d" in means:
        for name, asked in (("anterior", 0.83), ("posterior", 0.80)):
            targets.append((f"Dice of unet2d, {name}, in 3D", means["unet2d"][name], asked))
    print()
    for what, found, asked in targets:
        print(
            f"target {what}: {found:.4f} (asked at least {asked:g}) "
            f"{'ok' if found >= asked else 'short'}"
        )
    return 0 if all(found >= asked for _, found, asked in targets) else 1


def mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


if __name__ == "__main__":
    raise SystemExit(main())
