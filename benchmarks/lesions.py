"""Lesion by lesion beside panoptica: the same scores, and the time of a BraTS-sized scan with 30 lesions.

    python benchmarks/lesions.py [--quick]          times, where panoptica is installed
    python benchmarks/lesions.py --peers FILE       the values of panoptica and gudhi on the pairs of the tests
    python benchmarks/lesions.py --peers FILE --brats DIR    those of BraTS 2023's scorer, added to the file

The peers want environments of their own: the first panoptica and gudhi, the second nibabel, scipy,
connected-components-3d, numpy below 2 and pandas below 2, with the files of rachitsaluja/BraTS-2023-Metrics in DIR and
its commit in DIR/COMMIT. Neither imports segstudy. They wrote tests/unit/metrics/lesion_peers.json.
"""

import argparse
import importlib.metadata
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lesion_pairs import pairs, scan

SHAPE, LESIONS = (240, 240, 155), 30
ROUNDS = 3


def of_panoptica(reference, prediction, spacing_mm):
    """The values of panoptica with connected components and naive threshold matching."""
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )
    from panoptica.metrics import Metric

    def evaluated(*metrics):
        evaluator = Panoptica_Evaluator(
            InputType.SEMANTIC,
            instance_approximator=ConnectedComponentsInstanceApproximator(),
            instance_matcher=NaiveThresholdMatching(),
            instance_metrics=[Metric.IOU, Metric.DSC, *metrics],
            global_metrics=[],
        )
        return evaluator.evaluate(
            prediction, reference, voxelspacing=spacing_mm, verbose=False, log_times=False
        )["ungrouped"].to_dict()

    try:
        found = evaluated(Metric.HD95)
    except NotImplementedError:  # where no lesion is found
        found = evaluated() | {"sq_hd95": math.nan}
    return {
        "lesion_f1": found["rq"],
        "lesion_precision": found["tp"] / max(found["tp"] + found["fp"], 1),
        "lesion_recall": found["tp"] / max(found["tp"] + found["fn"], 1),
        "lesion_false_positives": found["fp"],
        "panoptic_quality": found["pq"],
        "lesionwise_dice": found["sq_dsc"],
        "pooled_hd95_mm": found["sq_hd95"],
    }


def of_brats(folder, reference, prediction, spacing_mm):
    """The values of BraTS 2023's scorer for ET, by the thresholds of BraTS-GLI."""
    import pandas

    sys.path.insert(0, str(folder))
    from metrics import get_LesionWiseResults

    whole = pandas.DataFrame.replace

    def numbers_alone(table, *old_and_new, **more):
        if more:
            return whole(table, *old_and_new, **more)
        return table.assign(**whole(table.select_dtypes("number"), *old_and_new))

    # pandas since 1.4 fails at cells that hold arrays, of which none is infinite.
    pandas.DataFrame.replace = numbers_alone
    try:
        table = brats_table(get_LesionWiseResults, reference, prediction, spacing_mm)
    finally:
        pandas.DataFrame.replace = whole
    found = table.loc["ET"]
    return {
        "found": int(found["Num_TP"]),
        "missed": int(found["Num_FN"]),
        "lesion_false_positives": int(found["Num_FP"]),
        "lesionwise_dice": float(found["LesionWise_Score_Dice"]),
        "lesionwise_hd95_mm": float(found["LesionWise_Score_HD95"]),
    }


def brats_table(scorer, reference, prediction, spacing_mm):
    """The scorer's table of two files, by label; lesions are enhancing tumour."""
    import nibabel

    with tempfile.TemporaryDirectory() as temporary:
        paths = [Path(temporary) / name for name in ("prediction.nii.gz", "reference.nii.gz")]
        for path, label in zip(paths, (prediction, reference), strict=True):
            nibabel.save(nibabel.Nifti1Image(3 * label, np.diag([*spacing_mm, 1.0])), path)
        return scorer(*map(str, paths), "BraTS-GLI").set_index("Labels")


def of_masks(reference, prediction, spacing_mm):
    """Values of whole masks: MASD and clDice by panoptica, Betti numbers by gudhi's cubical complex."""
    from gudhi import CubicalComplex
    from panoptica.metrics.assd import _average_symmetric_surface_distance
    from panoptica.metrics.cldice import _compute_centerline_dice_coefficient

    betti = []
    for mask in (reference, prediction):
        cells = CubicalComplex(top_dimensional_cells=1.0 - mask)
        cells.compute_persistence()
        betti.append([int(number) for number in cells.persistent_betti_numbers(0, 0)])
    masks = (reference > 0, prediction > 0)
    return {
        "masd_mm": float(_average_symmetric_surface_distance(*masks, voxelspacing=spacing_mm)),
        "cldice": float(_compute_centerline_dice_coefficient(*masks)),
        "betti_numbers": betti,
    }


def write_peers(file, brats):
    """Write values of the peers on the pairs of the tests beside those that the file holds."""
    written = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"values": {}}
    if brats:
        commit = (brats / "COMMIT").read_text(encoding="utf-8").strip()
        written["brats2023"] = f"rachitsaluja/BraTS-2023-Metrics {commit}"
    else:
        written |= {name: importlib.metadata.version(name) for name in ("panoptica", "gudhi")}
    for name, pair in pairs().items():
        values = written["values"].setdefault(name, {})
        if brats:
            values["brats2023"] = of_brats(brats, *pair)
        else:
            values |= {"panoptica": of_panoptica(*pair), "masks": of_masks(*pair)}
    file.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def of_segstudy(reference, prediction, spacing_mm):
    """segstudy's values, by the same rules."""
    from segstudy.boxes import bounding_box
    from segstudy.metrics.lesions import LesionRules, find_lesions, scores
    from segstudy.study import Lesions

    rules = LesionRules(Lesions(), "voxel", spacing_mm)
    box = bounding_box((reference > 0) | (prediction > 0))
    return scores(find_lesions((reference, prediction), (1,), box, rules), rules.settings)


def seconds(run, pair):
    """The least time of a call."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(*pair)
        taken.append(time.perf_counter() - start)
    return min(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small scan: a smoke run")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="write the peers' values there")
    parser.add_argument("--brats", type=Path, metavar="DIR", help="clone of BraTS-2023-Metrics")
    options = parser.parse_args()
    if options.peers:
        write_peers(options.peers, options.brats)
        return 0
    shape, number = ((60, 60, 40), 8) if options.quick else (SHAPE, LESIONS)
    pair = (*scan(shape, number, 7), (1.0, 1.0, 1.0))
    of_segstudy(*pair)  # compiles
    ours = seconds(of_segstudy, pair)
    print(f"| {'x'.join(map(str, shape))}, {number} balls | seconds | F1 | PQ | Dice by lesion |")
    print("|---|---|---|---|---|")
    found = of_segstudy(*pair)
    names = ("lesion_f1", "panoptic_quality", "lesionwise_dice")
    print("| segstudy |", f"{ours:.3f} |", " | ".join(f"{found[name]:.4f}" for name in names), "|")
    try:
        of_panoptica(*pair)
    except ImportError:
        print("\npanoptica is not installed: left out")
        return 0
    theirs, peer = seconds(of_panoptica, pair), of_panoptica(*pair)
    version = importlib.metadata.version("panoptica")
    shown = " | ".join(f"{peer[name]:.4f}" for name in names)
    print(f"| panoptica {version} | {theirs:.3f} | {shown} |\n")
    apart = max(abs(found[name] - peer[name]) for name in names)
    reached = (apart <= 1e-9, theirs >= ours)
    print(f"target the same scores: {apart:.1g} (asked 1e-9) {'ok' if reached[0] else 'short'}")
    print(
        f"target against panoptica: {theirs / ours:.1f} times (asked 1 times) "
        f"{'ok' if reached[1] else 'short'}"
    )
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
