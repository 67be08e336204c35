"""What fine-tuning gains on few cases: pretrained on 100 hippocampi, fine-tuned on 10 others, against the same training from scratch.

Two studies, run as any user runs them. The first trains a small 3D U-Net on 100 cases. The second trains the same network on
10 others, once from scratch and once with `initial_weights`, with three seeds, and tests all on held-out cases that neither
study has trained on. The study itself refuses a tested case that the first weights have seen; this is tried too, by naming
weights that were trained on one of them.

Needs `SEGSTUDY_DATA` with Task04_Hippocampus; `--quick`: fewer cases and steps, on phantoms' scale of time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
STRUCTURES = {"anterior": 1, "posterior": 2}
SEEDS = (0, 1, 2)
GAIN = 0.0
"""Mean Dice that fine-tuning is asked to gain, at least."""

Size = dict[str, int]
FULL: Size = {"pretraining": 100, "training": 10, "tested": 24, "epochs": 8, "tuning_epochs": 60}
QUICK: Size = {"pretraining": 6, "training": 3, "tested": 3, "epochs": 1, "tuning_epochs": 1}


def network(epochs: int, steps: int, seeds: tuple[int, ...] = (0,), **further) -> dict:
    """The settings of a small 3D U-Net on a CPU."""
    return {
        "network": "unet",
        "channels": [8, 16, 32],
        "patch_size": [32, 32, 32],
        "epochs": epochs,
        "steps_per_epoch": steps,
        "optimizer": {"lr": 0.002},
        "validation_fraction": 0.0,
        "device": "cpu",
        "threads": 1,
        "seeds": list(seeds),
        **further,
    }


def table(folder: Path, data: Path, name: str, training: list[str], tested: list[str]) -> Path:
    """Write a case table: fold 0 tests one case and all with `split: test`, and trains on the others."""
    rows = ["case\tsubject\timage\tlabel\tfold\tsplit"]
    for case in [*training, *tested]:
        files = [data / part / f"{case}.nii.gz" for part in ("imagesTr", "labelsTr")]
        # Two folds, of which one is run: the first tested case stands for the fold that it leaves out.
        fold = "1\t" if case in training else "0\t" if case == tested[0] else "\ttest"
        rows.append("\t".join([case, case, *map(str, files), fold]))
    file = folder / f"{name}.tsv"
    file.write_text("\n".join(rows) + "\n")
    return file


def study(folder: Path, name: str, cases: Path, models: dict) -> Path:
    """Write a study file."""
    content = {
        "datasets": {
            "hippocampus": {
                "source": {"layout": "table", "path": str(cases)},
                "modality": "MR",
                "structures": STRUCTURES,
                "cases_per_job": 32,
            }
        },
        "splits": {"folds": 2, "run_folds": [0]},
        "preprocess": {"default": {"spacing_mm": [1.0, 1.0, 1.0]}},
        "models": models,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def run(folder: Path, file: Path, target: str, fails: bool = False) -> str:
    """Run a target of a study in the folder; return what was said."""
    command = [
        *(sys.executable, "-m", "snakemake", target, "--cores", "1"),
        *("--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)),
        *("--configfile", str(REPOSITORY / "config" / "config.yaml")),
        *("--config", f"study={file}", f"results={folder}/results"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    text = done.stdout + done.stderr
    if bool(done.returncode) != fails:
        raise SystemExit(text[-6000:])
    return text


def dice(folder: Path, name: str) -> pandas.Series:
    """Mean Dice over structures and tested cases, by model and seed."""
    measured = pandas.read_csv(folder / "results" / name / "metrics" / "metrics.csv")
    measured = measured[
        (measured["metric"] == "dice") & measured["structure"].isin(list(STRUCTURES))
    ]
    return measured.groupby(["model", "seed"])["value"].mean()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--folder", type=Path, help="work here, and leave it")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    data = Path(os.environ.get("SEGSTUDY_DATA", "data")) / "Task04_Hippocampus"
    names = sorted(
        path.name.removesuffix(".nii.gz") for path in (data / "labelsTr").glob("h*.nii.gz")
    )
    wanted = size["pretraining"] + size["training"] + size["tested"]
    if len(names) < wanted:
        raise SystemExit(f"{data}: {len(names)} cases; expected {wanted}: set SEGSTUDY_DATA")
    first, second = size["pretraining"], size["pretraining"] + size["training"]
    pretraining, training = names[:first], names[first:second]
    tested = names[second:wanted]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        before = study(
            folder,
            "before",
            table(folder, data, "before", pretraining, tested[:2]),
            {"unet3d": network(size["epochs"], max(1, len(pretraining) // 2))},
        )
        run(folder, before, "train")
        weights = folder / "results/before/train/unet3d/fold-0/seed-0/weights.pt"
        pretrained_s = time.perf_counter() - began
        steps = max(1, len(training) // 2)
        models = {
            "scratch": network(size["tuning_epochs"], steps, SEEDS),
            "tuned": network(size["tuning_epochs"], steps, SEEDS, initial_weights=str(weights)),
        }
        after = study(folder, "after", table(folder, data, "after", training, tested), models)
        run(folder, after, "metrics")
        found = dice(folder, "after").unstack("model")
        leaking = table(folder, data, "leaking", training, [*tested[:2], pretraining[3]])
        told = run(
            folder,
            study(folder, "leaking", leaking, {"tuned": models["tuned"]}),
            "train",
            fails=True,
        )
        refused = f"was trained on the image of hippocampus/{pretraining[3]}" in " ".join(
            told.split()
        )
        total_s = time.perf_counter() - began
    print(
        f"{len(pretraining)} cases to pretrain on ({pretrained_s:.0f} s), {len(training)} to fine-tune on, {len(tested)} tested; "
        f"{total_s:.0f} s in all\n"
    )
    print("| seed | from scratch: Dice | fine-tuned: Dice | gain |\n|---|---|---|---|")
    for seed, row in found.iterrows():
        print(f"| {seed} | {row.scratch:.3f} | {row.tuned:.3f} | {row.tuned - row.scratch:+.3f} |")
    mean = found.mean()
    gain = mean.tuned - mean.scratch
    print(f"| mean | {mean.scratch:.3f} | {mean.tuned:.3f} | {gain:+.3f} |\n")
    gained, kept = gain > GAIN or options.quick, refused
    print(
        f"target gain in mean Dice: {gain:+.3f} (asked above {GAIN:g}) {'ok' if gained else 'short'}"
    )
    print(
        f"target a tested case of the first weights: {'refused' if kept else 'not refused'} (asked refused) {'ok' if kept else 'short'}"
    )
    return int(not (gained and kept))


if __name__ == "__main__":
    sys.exit(main())
