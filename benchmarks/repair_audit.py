"""The audit of labels: precision and recall for each fault, planted in real and phantom cohorts.

One case in four gets a fault, each kind in turn, in structures and directions that go round;
this is repeated until every case has had two. Thresholds and measures were chosen on phantoms of
other seeds and on the first, third, ... of the hippocampus cases; measured are the others. A case counts once for each fault that it is said
to have. What a planted fault brings with it (a moved structure that cuts another in two, a crop that
leaves nothing of one) is true as well and counts for neither side.
"""

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", OMP_WAIT_POLICY="passive")

import numpy as np
from scipy import ndimage

from segstudy.download.phantom import STRUCTURES, patient
from segstudy.images.files import Image, read_image, read_label
from segstudy.images.rigid import move_structure, translation
from segstudy.repair import simulate
from segstudy.repair.audit import audit
from segstudy.repair.case_features import CaseFeatures, extract_features
from segstudy.repair.findings import FAULTS

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGSTUDY_DATA", REPOSITORY.parent / "shared" / "data"))
PLANTED = [fault for fault in FAULTS if fault != "unreadable"]
#: Planted three times as often as the others, and held to a recall of their own.
OF_FORM = ("missing_part", "outline")
ROUND = [*PLANTED, *OF_FORM, *OF_FORM]
ONE_IN = 4
#: Findings in 100 structures of labels as delivered, at most.
MOST_FALSE = 1.0
FAULTS_A_CASE = 2
#: Seed of the phantoms, and of the sides, shares and directions; thresholds were chosen with others.
SEED = 27182

Case = tuple[str, Image, Image]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few cases: a smoke run")
    parser.add_argument("--cohort", default="", help="only cohorts whose name contains this")
    options = parser.parse_args()
    reached = []
    for name, cases, structures in cohorts(options.quick, options.cohort):
        reached += measure(name, cases, structures)
    return 0 if all(reached) else 1


def cohorts(quick: bool, only: str):
    folder = DATA / "Task04_Hippocampus"
    if only not in "hippocampus":
        pass
    elif folder.is_dir():
        files = sorted((folder / "labelsTr").glob("*.nii.gz"))[1::2][: 36 if quick else None]
        cases = [
            (file.name, read_image(folder / "imagesTr" / file.name), read_label(file))
            for file in files
        ]
        yield "hippocampus (real MR, half held out)", cases, {"anterior": 1, "posterior": 2}
    else:
        print(f"no real labels: {folder} is no folder (set SEGSTUDY_DATA)\n")
    if not quick and only in "thorax":
        scans = [patient(SEED, index, (96, 96, 44)) for index in range(64)]
        cases = [
            (f"p{index:02d}", Image(image[None].astype(np.float32), affine), Image(label, affine))
            for index, (image, label, affine) in enumerate(scans)
            if whole(label)
        ]
        print(
            f"thorax: {64 - len(cases)} of 64 phantoms have a structure in two, and are left out\n"
        )
        yield "thorax (phantom CT)", cases, STRUCTURES


def whole(label: np.ndarray) -> bool:
    """Whether each structure is of one piece, gaps of four voxels aside: a phantom's heart can lie
    over its esophagus and cut that in two, which is no sound label to plant faults in."""
    return all(
        ndimage.label(ndimage.distance_transform_edt(label != value) <= 2)[1] == 1
        for value in STRUCTURES.values()
    )


def plant(fault: str, image: Image, label: Image, values: list[int], turn: int):
    """Image and label with a fault; `turn` goes round structures, axes and sizes."""
    array, affine, pixels = label.array, label.affine, image.array
    value, axis, sign = values[turn % len(values)], turn % 3, 1 if turn % 2 else -1
    if fault == "empty":
        array = np.where(array == value, 0, array).astype(array.dtype)
    elif fault == "flipped":
        array = array[::-1]
    elif fault == "rotated":
        quarter = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        quarter[first, first] = quarter[second, second] = 0
        quarter[first, second], quarter[second, first] = -sign, sign
        array = simulate.rotate_label(array, quarter)
    elif fault == "orientation":
        array = [array[:, ::-1], array[:, :, ::-1], array[::-1, ::-1]][axis]
    elif fault == "swapped":
        array = simulate.swap_labels(array, value, values[(turn + 1) % len(values)])
    elif fault == "shifted":  # of one structure, and in every fifth case of all
        shift = np.zeros(3)
        shift[axis] = sign * (5 + turn % 4)
        for moved in values if turn % 5 == 0 else [value]:
            array = move_structure(array, moved, translation(shift))
    elif fault == "stray":
        array = simulate.add_component(array, value, 2)
    elif fault == "holes":  # where there is room for one
        thickest = max(values, key=lambda one: np.count_nonzero(array == one))
        array = simulate.add_hole(array, thickest, 2)
    elif fault == "cut":
        start = int(np.percentile(np.nonzero(array == value)[axis], 35))
        kept = tuple(slice(start if one == axis else 0, None) for one in range(3))
        array, pixels = array[kept], pixels[(slice(None), *kept)]
        moved = affine.copy()
        moved[:3, 3] += affine[:3, axis] * start
        affine = moved
    elif fault == "missing_part":
        array = without_part(array, value, turn)
    elif fault == "outline":
        array = other_outline(array, value, turn)
    elif fault == "size":
        array = with_more(array, value, turn)
    return Image(pixels, affine), Image(np.ascontiguousarray(array), affine)


def without_part(array: np.ndarray, value: int, turn: int) -> np.ndarray:
    """Take 40 to 60 % of a structure away, by a plane across an axis, an oblique one, or a ball."""
    draw = np.random.default_rng([SEED, 1, turn])
    share, places = draw.uniform(0.4, 0.6), np.argwhere(array == value)
    way = turn % 5
    if way < 3:
        depth = places[:, way] * draw.choice((-1, 1))
    elif way == 3:
        depth = places @ draw.normal(size=3)
    else:  # about one of its outermost voxels
        far = places[np.argmax(places @ draw.normal(size=3))]
        depth = np.linalg.norm(places - far, axis=1)
    lost = np.sort(depth)[int(np.ceil(share * len(places))) - 1]
    kept = array.copy()
    kept[tuple(places[depth <= lost].T)] = 0
    return kept


def other_outline(array: np.ndarray, value: int, turn: int) -> np.ndarray:
    """Draw the outline two or three voxels wider, or two narrower where that leaves something."""
    mask = array == value
    if turn % 2:
        narrow = ndimage.distance_transform_edt(mask) > 2
        if np.count_nonzero(narrow) >= 20:
            return np.where(mask & ~narrow, 0, array).astype(array.dtype)
    wide = ndimage.distance_transform_edt(~mask) <= 2 + (turn // 2) % 2
    return np.where(wide & (array == 0), value, array).astype(array.dtype)


def with_more(array: np.ndarray, value: int, turn: int) -> np.ndarray:
    """Let a structure run out into the background on one side, until it is 1.6 to 2 times as large."""
    draw = np.random.default_rng([SEED, 2, turn])
    mask = array == value
    shift = np.eye(3, dtype=int)[turn % 3] * draw.choice((-1, 1))
    room = np.zeros(mask.shape, bool)
    room[1:-1, 1:-1, 1:-1] = array[1:-1, 1:-1, 1:-1] == 0
    more, target = mask.copy(), draw.uniform(1.6, 2.0) * np.count_nonzero(mask)
    for _ in range(max(array.shape)):
        if np.count_nonzero(more) >= target:
            break
        more |= ndimage.shift(more.astype(np.uint8), shift, order=0).astype(bool) & room
    return np.where(more, value, array).astype(array.dtype)


def countable(case: CaseFeatures) -> dict[str, list]:
    """What can be counted, by fault: the part of the truth that a planted fault may change too."""
    shapes = list(case.shapes.values())
    return {
        "empty": [shape is None for shape in shapes],
        "stray": [shape and shape.stray for shape in shapes],
        "holes": [shape and shape.holes for shape in shapes],
    }


def measure(name: str, cases: list[Case], structures: dict[str, int]) -> list[bool]:
    values = list(structures.values())
    began = time.process_time()
    clean = [extract_features(case, image, label, structures) for case, image, label in cases]
    natural = audit(clean)
    per_100 = 100 * len(natural) / (len(cases) * len(structures))
    seconds = time.process_time() - began
    print(f"{name}: {len(cases)} cases, {seconds / len(cases):.2f} s a case; as delivered:")
    for one in natural:
        print(f"- {one.case} {one.structure} {one.fault}: {one.evidence}")
    if not natural:
        print("- no findings")
    planted, right, wrong, missed, blamed = Counter(), Counter(), Counter(), Counter(), 0
    number, kinds, misnamed = 0, [], []
    for offset in [*range(ONE_IN)] * FAULTS_A_CASE:
        cohort, truth = list(clean), {}
        for index in range(offset, len(cases), ONE_IN):
            fault, turn = ROUND[number % len(ROUND)], number // len(ROUND)
            if fault in OF_FORM:
                turn = sum(planted_already == fault for planted_already in kinds)
            kinds.append(fault)
            case, image, label = cases[index]
            faulty = plant(fault, image, label, values, turn)
            cohort[index] = extract_features(case, *faulty, structures, simulate=False)
            truth[case] = fault
            number += 1
        before = {case.case: countable(case) for case in clean}
        after = {case.case: countable(case) for case in cohort}
        found = {(one.case, one.fault) for one in audit(cohort)}
        for case, fault in found:
            if truth.get(case) == fault:
                right[fault] += 1
            elif fault not in before[case] or before[case][fault] == after[case][fault]:
                wrong[fault] += 1
                blamed += case not in truth
                misnamed.append(f"- {case}: {truth.get(case, 'nothing')} planted, {fault} named")
        for case, fault in truth.items():
            planted[fault] += 1
            missed[fault] += (case, fault) not in found
    print("\n| fault | planted | named | precision | recall |\n|---|---|---|---|---|")
    for fault in PLANTED:
        named = right[fault] + wrong[fault]
        precision = f"{right[fault] / named:.3f}" if named else ""
        recall = f"{right[fault] / planted[fault]:.3f}" if planted[fault] else ""
        print(f"| {fault} | {planted[fault]} | {named} | {precision} | {recall} |")
    total, all_right = sum(planted.values()), sum(right.values())
    precision = all_right / (all_right + sum(wrong.values()))
    recall = all_right / total
    untouched = FAULTS_A_CASE * ONE_IN * len(cases) - total
    print(f"\nUntouched cases with a finding: {blamed} of {untouched}. Wrongly named:")
    print("\n".join(sorted(misnamed)) or "- none", end="\n\n")
    asked = [("precision", precision, 0.95), ("recall", recall, 0.95)]
    asked += [(f"recall of {one}", right[one] / max(planted[one], 1), 0.9) for one in OF_FORM]
    for what, figure, least in asked:
        verdict = "ok" if figure >= least else "short"
        print(f"target audit {what}, {name}: {figure:.3f} (asked at least {least}) {verdict}")
    verdict = "ok" if per_100 <= MOST_FALSE else "short"
    what = "findings in 100 labels as delivered"
    print(f"target {what}, {name}: {per_100:.2f} (asked at most {MOST_FALSE}) {verdict}\n")
    return [*(figure >= least for _, figure, least in asked), per_100 <= MOST_FALSE]


if __name__ == "__main__":
    sys.exit(main())
