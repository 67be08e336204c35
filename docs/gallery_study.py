"""The study behind the pictures of the pages: a phantom cohort with a moved label, and three programs made up for it.

`run` makes what three programs might have predicted, by shaking the right labels, and has segstudy do the rest as in any
study: audit, repair, measurements, statistics, figures. Nothing is trained, so it takes minutes of CPU time, and none once
it is made and no code has changed.
"""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import yaml
from scipy.ndimage import distance_transform_edt, gaussian_filter

from segstudy.download.anatomy import STRUCTURES
from segstudy.download.phantom import case_name, patient, reference_case
from segstudy.files import file_checksum, read_json, write_json
from segstudy.images.files import write_label

REPOSITORY = Path(__file__).resolve().parents[1]

PATIENTS, SEED, SIZE = 9, 11, (64, 64, 28)
NAME = "gallery"
LACKING, EMPTY = (5, 7), 2
"""Patients, from 0: `steady_but` has no prediction of the first two, and finds no esophagus in the third."""
PROGRAMS = {
    # name: (SD of the outline's error in mm, its mean, positive outwards)
    "even": (3.6, 0.0),
    "too_wide": (2.0, 2.8),
    "steady_but": (2.6, 0.0),
}
STUDY = {
    "title": "Three made-up programs on a thorax phantom",
    "datasets": {
        "thorax": {
            "source": {
                "layout": "phantom",
                "patients": PATIENTS,
                "seed": SEED,
                "size_voxels": list(SIZE),
            },
            "modality": "CT",
            "role": "test",
            "structures": {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4},
            "repair": {
                "structure": "heart",
                "reference_case": reference_case(PATIENTS),
                "methods": ["sweep"],
            },
            "cases_per_job": PATIENTS,
        }
    },
    "models": {
        name: {"trainer": "predictions", "files": f"{name}/{{case}}.nii.gz"} for name in PROGRAMS
    },
    "metrics": {"nsd_tolerance_mm": [3.0]},
    "statistics": {"margin": {"dice": 0.02}},
    # The pages show PNG; SVG comes with it.
    "publish": {"metrics": ["dice", "hd95_mm"], "style": {"formats": ["png", "svg"]}},
}


def shaken(
    label: np.ndarray,
    spacing_mm: tuple[float, float, float],
    error: tuple[float, float],
    random: np.random.Generator,
) -> np.ndarray:
    """Return a label map (i, j, k) whose outlines are off by a smooth random field.

    spacing_mm: of the voxels. error: SD and mean of the field in mm, positive outwards.
    """
    best, result = np.zeros(label.shape), np.zeros_like(label)
    half_mm = min(spacing_mm) / 2
    for value in STRUCTURES.values():
        mask = label == value
        inside, outside = (distance_transform_edt(one, spacing_mm) for one in (mask, ~mask))
        # Of voxels' centres, so that the outline lies half a voxel from either.
        depth = np.where(mask, inside - half_mm, half_mm - outside)
        field = gaussian_filter(
            random.standard_normal(label.shape), [6 / size for size in spacing_mm]
        )
        depth += error[1] + error[0] * field / field.std()
        wins = depth > best
        result[wins], best[wins] = value, depth[wins]
    return result


def write_predictions(folder: Path) -> None:
    """Write a folder of label files for each program."""
    random = np.random.default_rng(SEED)
    for index in range(PATIENTS):
        _, truth, affine = patient(SEED, index, SIZE)
        spacing_mm = tuple(np.linalg.norm(affine[:3, :3], axis=0))
        for program, error in PROGRAMS.items():
            predicted = shaken(truth, spacing_mm, error, random)
            if program == "steady_but" and index == EMPTY:
                predicted[predicted == STRUCTURES["esophagus"]] = 0
            if program != "steady_but" or index not in LACKING:
                path = folder / program / f"{case_name(index + 1, PATIENTS)}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_label(path, predicted, affine)


def digests() -> dict[str, str]:
    """Return what the results come of: checksums of this file, and of the workflow's files with the versions that it runs on."""
    workflow = sorted(path for path in (REPOSITORY / "workflow").rglob("*") if path.is_file())
    files = [path for path in workflow if "__pycache__" not in path.parts]
    code = sha256()
    for path in [REPOSITORY / "requirements.lock", *files]:
        code.update(f"{path.relative_to(REPOSITORY)} {file_checksum(path)}\n".encode())
    return {"study": file_checksum(__file__), "code": code.hexdigest()}


def run(folder: Path) -> Path:
    """Run the study in a folder, unless it is made there by the same code, and return its results."""
    study, made_by, now = folder / f"{NAME}.yaml", folder / "made_by.json", digests()
    made = read_json(made_by) if made_by.is_file() else {}
    results = folder / "results" / NAME
    if made == now:
        return results
    if made.get("study") != now["study"]:
        shutil.rmtree(folder, ignore_errors=True)
        write_predictions(folder)
        study.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    write_json(made_by, {"study": now["study"]})
    cores = min(4, os.cpu_count() or 1)
    command = [sys.executable, "-m", "segstudy", "run", study.name, "publish_figures"]
    command += ["--cores", str(cores)]
    # One after another, since what numba compiles in the first the others find in its cache.
    command += ["--set-threads", f"metrics_measure={cores}"]
    done = subprocess.run(
        command,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the pages' study did not run:\n{done.stdout[-4000:]}")
    write_json(made_by, now)
    return results


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
