"""A fault found from the images alone: when that works, and when it is refused.

SegTHOR's fault is planted in one structure of phantom patients, or of real hippocampus MR, and
looked for without any right label. A refusal is an honest answer; a wrong answer that is not
refused is a miss.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", OMP_WAIT_POLICY="passive")

import numpy as np

from segstudy.download.phantom import STRUCTURES, patient
from segstudy.errors import InputError
from segstudy.images.files import Image, read_image, read_label
from segstudy.images.rigid import move_structure, rotation, segthor_corruption, translation
from segstudy.repair.from_images import find_shared_corruption, in_frame, view_case
from segstudy.repair.sweep import iou

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGSTUDY_DATA", REPOSITORY.parent / "shared" / "data"))
SIZE = (96, 96, 44)
SEED = 31  # not the seed on which the search was made
#: A repair of a lower IoU than this, called determined, is a miss.
RIGHT_IOU = 0.9

Scan = tuple[Image, Image]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few patients: a smoke run")
    quick = parser.parse_args().quick
    scans = phantom(3 if quick else 8)
    fault = segthor_corruption(SIZE)
    affine = scans[0][1].affine
    in_mm = affine @ fault @ np.linalg.inv(affine)
    print(
        "| cohort | structure | cases | planted | found (deg) | shift error (voxels) | t | IoU after | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for structure in ("heart",) if quick else ("heart", "aorta", "esophagus"):
        value = STRUCTURES[structure]
        for cases in (3,) if quick else (2, 3, 4, 8):
            rows.append(row("phantom CT", structure, scans[:cases], value, "voxel", fault))
        rows.append(row("phantom CT", structure, scans, value, "voxel", None))
    if not quick:
        rows.append(row("phantom CT", "heart", scans, STRUCTURES["heart"], "physical", in_mm))
        for start, value, name in (
            (20, 1, "anterior"),
            (120, 1, "anterior"),
            (120, 2, "posterior"),
        ):
            real = hippocampi(start, 12)
            if not real:
                break
            middle = np.mean([label.array.shape for _, label in real], axis=0) / 2
            planted = translation(middle) @ rotation(2, -27) @ translation(-middle)
            planted = planted @ translation((5, -4, 2))
            cohort = f"hippocampus MR from {start}"
            rows.append(row(cohort, name, real, value, "voxel", planted))
            rows.append(row(cohort, name, real, value, "voxel", None))
    wrong = [one for one in rows if one["answer"] == "wrong"]
    asked = [
        one for one in rows if one["structure"] == "heart" and one["cases"] >= 3 and one["planted"]
    ]
    error = max((one["error_deg"] for one in asked), default=np.inf)
    score = min((one["iou"] for one in asked), default=0.0)
    untouched = [one for one in rows if not one["planted"]]
    left = sum(one["answer"] == "nothing to repair" for one in untouched)
    print()
    targets = (
        ("wrong answers that were not refused", len(wrong), "0", not wrong),
        ("heart, 3 cases or more: angle error", f"{error:.2f} deg", "at most 1", error <= 1),
        ("heart, 3 cases or more: IoU after", f"{score:.3f}", "at least 0.95", score >= 0.95),
        (
            "untouched cohorts left alone",
            f"{left} of {len(untouched)}",
            "all",
            left == len(untouched),
        ),
    )
    for what, figure, wanted, reached in targets:
        print(f"target {what}: {figure} (asked {wanted}) {'ok' if reached else 'short'}")
    return 0 if all(reached for *_, reached in targets) else 1


def phantom(patients: int) -> list[Scan]:
    found = []
    for index in range(patients):
        image, label, affine = patient(SEED, index, SIZE)
        found.append((Image(image[None].astype(np.float32), affine), Image(label, affine)))
    return found


def hippocampi(start: int, cases: int) -> list[Scan]:
    folder = DATA / "Task04_Hippocampus"
    files = sorted((folder / "labelsTr").glob("h*.nii.gz"))[start : start + cases]
    return [(read_image(folder / "imagesTr" / file.name), read_label(file)) for file in files]


def row(cohort: str, structure: str, scans: list[Scan], value: int, frame: str, planted) -> dict:
    """One cohort, with a fault in the frame's coordinates or None; printed as a line of the table."""
    began = time.process_time()
    fault = np.eye(4) if planted is None else planted
    on = [
        fault if frame == "voxel" else np.linalg.inv(label.affine) @ fault @ label.affine
        for _, label in scans
    ]
    labels = [
        Image(move_structure(label.array, value, matrix), label.affine)
        for (_, label), matrix in zip(scans, on, strict=True)
    ]
    seen = [view_case(image, label, value) for (image, _), label in zip(scans, labels, strict=True)]
    seen = [in_frame(case, frame) for case in seen if case is not None]
    found = {"structure": structure, "cases": len(scans), "planted": planted is not None}
    found |= {"error_deg": np.inf, "iou": 0.0}
    try:
        agreed = find_shared_corruption(seen, 2)
    except InputError as error:
        reason = next(
            name
            for name in ("nothing to repair", "no clear optimum", "expected")
            if name in str(error)
        )
        found["answer"] = "too few cases" if reason == "expected" else reason
        cells = [f"refused: {found['answer']}", "", "", ""]
    else:
        scores, shifts = [], []
        for (_, right), label, matrix in zip(scans, labels, on, strict=True):
            back = agreed.matrix
            if frame == "physical":
                back = np.linalg.inv(label.affine) @ back @ label.affine
            repaired = move_structure(label.array, value, np.linalg.inv(back))
            scores.append(iou(repaired == value, right.array == value))
            middle = np.append(np.argwhere(label.array == value).mean(axis=0), 1.0)
            shifts.append(np.linalg.norm(((back - matrix) @ middle)[:3]))
        turned = np.degrees(np.arctan2(fault[1, 0], fault[0, 0]))
        found["error_deg"] = abs((agreed.angle_deg - turned + 180) % 360 - 180)
        found["iou"] = float(np.mean(scores))
        sure = agreed.rotation == "determined"
        right = found["iou"] >= RIGHT_IOU or (found["error_deg"] <= 3 and np.mean(shifts) <= 1.5)
        found["answer"] = "right" if right else ("wrong" if sure else "ambiguous")
        cells = [
            f"{agreed.angle_deg:.2f}" + ("" if sure else f", or {agreed.rival_deg:.0f}: ambiguous"),
            f"{np.mean(shifts):.2f}",
            f"{agreed.t:.1f}",
            f"{found['iou']:.3f}",
        ]
    what = "nothing" if planted is None else f"-27 deg, {frame}"
    seconds = time.process_time() - began
    print(
        f"| {cohort} | {structure} | {len(scans)} | {what} | {' | '.join(cells)} | {seconds:.0f} |",
        flush=True,
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
