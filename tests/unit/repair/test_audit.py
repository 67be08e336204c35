"""The audit: each fault planted in cohorts where nothing else is wrong, and clean cohorts left alone."""

import itertools

import numpy as np
import pandas as pd
import pytest
from repair_shapes import AFFINE, cohort, ellipsoid, settings
from scipy import ndimage

from segstudy.cli import main
from segstudy.images.files import Image, read_image, read_label, write_label, write_nifti
from segstudy.images.rigid import move_structure, translation
from segstudy.repair import simulate
from segstudy.repair.audit import audit
from segstudy.repair.case_features import extract_features
from segstudy.repair.findings import FAULTS
from segstudy.repair.misplacement import cohort_norms, explain_misplacement, misorientations
from segstudy.repair.points import evidence, sample, scene

SHAPE = (44, 40, 36)
LIVER, SPLEEN = 1, 2
STRUCTURES = {"liver": LIVER, "spleen": SPLEEN}


def belly(seed: int) -> tuple[Image, Image]:
    """A trunk with a large organ on the right and a small one on the left, a little different each time."""
    draw = np.random.default_rng(seed)
    centre = np.array([22, 20, 18]) + draw.uniform(-1, 1, 3)
    liver = ellipsoid(SHAPE, centre + (7, 2, 3), np.array([8, 6, 5]) * draw.uniform(0.94, 1.06))
    spleen = ellipsoid(SHAPE, centre - (9, 6, 2), np.array([4, 5, 7]) * draw.uniform(0.94, 1.06))
    label = np.zeros(SHAPE, np.uint8)
    label[liver], label[spleen] = LIVER, SPLEEN
    image = np.where(ellipsoid(SHAPE, (22, 20, 18), (20, 18, 60)), 20.0, -900.0)
    image[liver], image[spleen] = 110, 160
    image += draw.normal(0, 12, SHAPE)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return Image(image[None].astype(np.float32), affine), Image(label, affine)


def cut(image: Image, label: Image) -> tuple[Image, Image]:
    return Image(image.array[:, :-10], image.affine), Image(label.array[:-10], label.affine)


def relabel(change):
    return lambda image, label: (image, Image(change(label.array), label.affine))


def without_half(label, value):
    """The half of a structure that lies to the left of its median column is lost."""
    columns = np.nonzero(label == value)[0]
    kept = label.copy()
    kept[: int(np.median(columns))][kept[: int(np.median(columns))] == value] = 0
    return kept


def widened(label, value):
    wide = ndimage.distance_transform_edt(label != value) <= 2
    return np.where(wide & (label == 0), value, label).astype(np.uint8)


def run_out(label, value):
    """A structure runs out to the back, as far again as it is thick."""
    mask = label == value
    more = [np.roll(mask, -step, axis=1) for step in range(8)]
    return np.where(np.any(more, axis=0) & (label == 0), value, label).astype(np.uint8)


QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
PLANTED = {
    "empty": relabel(lambda label: np.where(label == SPLEEN, 0, label).astype(np.uint8)),
    "flipped": relabel(lambda label: np.ascontiguousarray(label[::-1])),
    "rotated": relabel(lambda label: simulate.rotate_label(label, QUARTER)),
    "orientation": relabel(lambda label: np.ascontiguousarray(label[:, ::-1, ::-1])),
    "swapped": relabel(lambda label: simulate.swap_labels(label, LIVER, SPLEEN)),
    "shifted": relabel(lambda label: move_structure(label, SPLEEN, translation((0, -5, 3)))),
    "stray": relabel(lambda label: simulate.add_component(label, LIVER, 2)),
    "holes": relabel(lambda label: simulate.add_hole(label, LIVER, 2)),
    "cut": cut,
    "missing_part": relabel(lambda label: without_half(label, LIVER)),
    "outline": relabel(lambda label: widened(label, SPLEEN)),
    "size": relabel(lambda label: run_out(label, SPLEEN)),
}


@pytest.fixture(scope="module")
def clean():
    return [extract_features(f"p{seed:02d}", *belly(seed), STRUCTURES) for seed in range(12)]


def test_a_clean_cohort_has_no_findings(clean):
    assert audit(clean) == []


def test_a_shift_that_leaves_a_structure_unusual_explains_nothing(clean):
    """The spleen five voxels to the back, and the same with all of it grown threefold."""
    image, label = belly(5)
    moved = move_structure(label.array, SPLEEN, translation((0, -5, 0)))
    far = ndimage.distance_transform_edt(moved != SPLEEN)
    grown = np.where((far <= 3) & (moved == 0), SPLEEN, moved).astype(np.uint8)
    for array, faults in ((moved, ["shifted"]), (grown, [])):
        case = extract_features(
            "p05", image, Image(array, label.affine), STRUCTURES, simulate=False
        )
        cohort = [*clean[:5], case, *clean[6:]]
        assert [one.fault for one in explain_misplacement(case, cohort_norms(cohort))] == faults


@pytest.mark.parametrize("fault", sorted(PLANTED))
def test_a_planted_fault_is_named_and_nobody_else_blamed(clean, fault):
    planted = extract_features("p03", *PLANTED[fault](*belly(3)), STRUCTURES)
    cases = [planted if case.case == "p03" else case for case in clean]
    assert {(one.case, one.fault) for one in audit(cases)} == {("p03", fault)}


def test_every_fault_is_planted():
    assert set(PLANTED) == set(FAULTS) - {"unreadable"}


def test_a_shift_is_told_in_millimetres(clean):
    # Output to input: the spleen lands 5 voxels further along j and 3 lower along k.
    planted = extract_features("p03", *PLANTED["shifted"](*belly(3)), STRUCTURES)
    cases = [planted if case.case == "p03" else case for case in clean]
    [found] = audit(cases)
    assert found.structure == "spleen"
    parts = found.evidence.split("(")[1].split(")")[0].split(", ")
    assert np.abs(np.array([float(part) for part in parts]) - (0, 10, -9)).max() <= 2.5


def test_a_fault_that_all_share_is_not_seen():
    flipped = PLANTED["flipped"]
    cases = [extract_features(f"p{seed}", *flipped(*belly(seed)), STRUCTURES) for seed in range(7)]
    assert not [one for one in audit(cases) if one.fault == "flipped"]


def test_pieces_that_are_usual_are_no_fault():
    def broken(image, label):
        array = label.array.copy()
        array[array == SPLEEN] = 0
        array[2:5, 2:5, 2:5] = array[2:5, 2:5, 20:23] = SPLEEN
        return image, Image(array, label.affine)

    cases = [extract_features(f"p{seed}", *broken(*belly(seed)), STRUCTURES) for seed in range(6)]
    assert not [one for one in audit(cases) if one.fault == "stray"]


def test_a_structure_that_few_have_may_be_absent():
    cases = []
    for seed in range(8):
        image, label = belly(seed)
        if seed > 2:
            image, label = PLANTED["empty"](image, label)
        cases.append(extract_features(f"p{seed}", image, label, STRUCTURES))
    assert not [one for one in audit(cases) if one.fault == "empty"]


def test_47_turns_each_of_one_kind():
    found = misorientations()
    kinds = [fault for fault, _ in found.values()]
    assert (len(found), kinds.count("flipped"), kinds.count("rotated")) == (47, 1, 6)
    for fault, turn in found.values():
        assert np.array_equal(turn @ turn.T, np.eye(3))
        quarter = np.linalg.matrix_power(turn.astype(int), 4)
        assert fault != "rotated" or np.array_equal(quarter, np.eye(3))
    for (_, one), (_, other) in itertools.combinations(found.values(), 2):
        assert not np.array_equal(one, other)


def test_stored_orientation_does_not_matter(clean):
    image, label = belly(3)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = SHAPE[0] - 1
    stored = [
        Image(np.ascontiguousarray(image.array[:, ::-1]), image.affine @ flip),
        Image(np.ascontiguousarray(label.array[::-1]), label.affine @ flip),
    ]
    cases = [*clean[:3], extract_features("p03", *stored, STRUCTURES), *clean[4:]]
    assert audit(cases) == []


# --- points -----------------------------------------------------------------------------------------


def test_points_of_a_ball_lie_on_it_and_point_inwards():
    spacing = (1.0, 1.0, 2.0)
    grid = np.ogrid[0:31, 0:31, 0:17]
    ball = sum(((x - c) * s) ** 2 for x, c, s in zip(grid, (15, 15, 8), spacing, strict=True)) < 100
    points = sample(ball, spacing)
    radius = np.linalg.norm(points.surface, axis=1)
    assert np.abs(radius - 10).max() <= 2  # one slice
    assert np.linalg.norm(points.inside, axis=1).max() < 10
    inwards = -(points.surface / radius[:, None] * points.normal).sum(axis=1)
    assert inwards.min() > 0.8


def test_evidence_is_looked_up_where_the_structure_is_put():
    image = np.zeros((1, 40, 40, 40), np.float32)
    image[0, 20:30, 10:20, 15:25] = 1
    mask = np.zeros(image.shape[1:], bool)
    mask[10:20, 20:30, 15:25] = True
    looked_up, points = scene(Image(image, np.eye(4))), sample(mask, (1, 1, 1))
    here = evidence(points, looked_up)
    there = evidence(points, looked_up, shift=(10, -10, 0))
    turned = evidence(points, looked_up, rotation=np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    assert there[0] > 5 * here[0]
    assert (here[1], there[1], turned[1]) == (0, 1, 1)
    assert turned[0] == pytest.approx(there[0], rel=0.05)
    nowhere = evidence(points, looked_up, shift=(500, 0, 0))
    assert [float(part[0]) for part in nowhere] == [0, 0, 0]


def test_a_large_image_is_averaged(monkeypatch):
    monkeypatch.setattr("segstudy.repair.points.SCENE_VOXELS", 3000)
    draw = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(draw.normal(size=(40, 40, 20)), 3)
    whole = scene(Image(smooth[None].astype(np.float32), np.diag([1.0, 1.0, 2.0, 1.0])))
    assert whole.intensity[0].size <= 3000
    assert np.array_equal(whole.size_mm, (40, 40, 40))
    assert whole.spacing_mm.max() <= 1.6 * whole.spacing_mm.min()


# --- the command ------------------------------------------------------------------------------------


def write_belly(folder, names, planted=()):
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed, name in enumerate(names):
        image, label = belly(seed)
        if name in planted:
            image, label = PLANTED["flipped"](image, label)
        write_nifti(folder / "images" / f"{name}.nii.gz", image.array[0], image.affine)
        write_label(folder / "labels" / f"{name}.nii.gz", label.array, label.affine)
    structures = '{"liver": 1, "spleen": 2}'
    folders = ["--images", str(folder / "images"), "--labels", str(folder / "labels")]
    return ["repair", "audit", *folders, "--structures", structures]


def test_audit_of_two_folders(tmp_path):
    command = write_belly(tmp_path, "abcdefgh", planted="e")
    image = read_image(tmp_path / "images" / "b.nii.gz").array[0]
    image[1, 2, 3] = np.nan
    write_nifti(tmp_path / "images" / "b.nii.gz", image, AFFINE)
    for name in ("one", "two"):
        assert main([*command, "--output", str(tmp_path / name)]) == 0
    table = pd.read_csv(tmp_path / "one" / "faults.csv")
    assert list(zip(table["case"], table["fault"], strict=True)) == [
        ("b", "unreadable"),
        ("e", "flipped"),
    ]
    assert str(tmp_path) not in table["evidence"].str.cat()
    files = [(tmp_path / name / "faults.csv").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_audit_of_a_case_table(tmp_path):
    cohort(tmp_path, faulty=[index == 4 for index in range(7)])
    cohort_settings = settings().cohort().to_json()
    table = ["--cases", str(tmp_path / "cases.tsv"), "--settings", cohort_settings]
    assert main(["repair", "audit", *table, "--output", str(tmp_path / "audit")]) == 0
    found = pd.read_csv(tmp_path / "audit" / "faults.csv")
    assert found[["case", "structure", "fault"]].values.tolist() == [["p4", "organ", "shifted"]]


def test_healthy_controls_and_what_nobody_labelled_are_no_faults(tmp_path, caplog):
    cohort(tmp_path, faulty=[index == 4 for index in range(9)])
    for name, value in (("p7", 0), ("p8", 255)):  # a control; the upper half not labelled
        path = tmp_path / f"{name}_label.nii.gz"
        label = read_label(path)
        array = label.array.copy()
        array[..., 0 if value == 0 else array.shape[2] // 2 :] = value
        write_label(path, array, label.affine)
    cohort_settings = settings().cohort().model_copy(update={"ignore": (255,)}).to_json()
    table = ["--cases", str(tmp_path / "cases.tsv"), "--settings", cohort_settings]
    assert main(["repair", "audit", *table, "--output", str(tmp_path / "audit")]) == 0
    found = pd.read_csv(tmp_path / "audit" / "faults.csv")
    assert found[["case", "structure", "fault"]].values.tolist() == [["p4", "organ", "shifted"]]
    assert "1 cases hold voxels that nobody has labelled: not judged" in caplog.text


def test_few_cases_tell_what_can_be_counted(tmp_path, caplog):
    command = write_belly(tmp_path, "ab", planted="b")
    path = tmp_path / "labels" / "a.nii.gz"
    label = read_label(path)
    write_label(path, simulate.add_hole(label.array, LIVER, 2), label.affine)
    assert main([*command, "--output", str(tmp_path / "audit")]) == 0
    found = pd.read_csv(tmp_path / "audit" / "faults.csv")
    assert found[["case", "fault"]].values.tolist() == [["a", "holes"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder, command: (folder / "labels" / "a.nii.gz").unlink(), "no file a"),
        (lambda folder, command: command.__setitem__(-1, "nonsense"), "--structures"),
        (lambda folder, command: command.__delitem__(slice(-2, None)), "expected --cases"),
        (lambda folder, command: command.__setitem__(3, str(folder / "no")), "no such folder"),
    ],
)
def test_audit_refuses_what_it_cannot_pair(tmp_path, capsys, change, words):
    command = write_belly(tmp_path, "ab")
    change(tmp_path, command)
    assert main([*command, "--output", str(tmp_path / "audit")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()


# --- real labels ------------------------------------------------------------------------------------


HIPPOCAMPUS = {"anterior": LIVER, "posterior": SPLEEN}


def hippocampi(real_data, number):
    """Name, image and label of so many real cases."""
    folder = real_data / "Task04_Hippocampus"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    for path in sorted((folder / "labelsTr").glob("*.nii.gz"))[:number]:
        yield path.name, read_image(folder / "imagesTr" / path.name), read_label(path)


def test_faults_planted_in_real_labels(real_data):
    cases, truth = [], set()
    kinds = sorted(PLANTED)
    for index, (name, image, label) in enumerate(hippocampi(real_data, 48)):
        if index % 4 == 0:
            fault = kinds[index // 4]
            truth.add((name, fault))
            image, label = PLANTED[fault](image, label)
        cases.append(extract_features(name, image, label, HIPPOCAMPUS))
    found = {(one.case, one.fault) for one in audit(cases)}
    assert truth <= found
    assert {case for case, _ in found} == {case for case, _ in truth}


def test_half_of_a_real_structure_missing_and_an_outline_two_voxels_too_wide(real_data):
    def without_front(label):
        kept = label.copy()
        middle = int(np.median(np.nonzero(label == LIVER)[1]))
        kept[:, middle:][kept[:, middle:] == LIVER] = 0
        return kept

    cases, truth = [], set()
    for index, (name, image, label) in enumerate(hippocampi(real_data, 50)):
        change, fault = ((without_front, "missing_part"), (lambda a: widened(a, LIVER), "outline"))[
            index % 2
        ]
        if index % 5 == 0:
            truth.add((name, "anterior", fault))
            label = Image(change(label.array), label.affine)
        cases.append(extract_features(name, image, label, HIPPOCAMPUS))
    assert {(one.case, one.structure, one.fault) for one in audit(cases)} == truth
    assert len(truth) == 10
