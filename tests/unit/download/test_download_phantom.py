"""The phantom cohort: what its anatomy, grids and planted fault must be like."""

import functools
import hashlib

import nibabel
import numpy as np
import pytest
from scipy.ndimage import label as components

from segstudy.cli import main
from segstudy.download.anatomy import STRUCTURES, Body
from segstudy.download.canvas import Canvas, curve, smooth_noise
from segstudy.download.phantom import Scan, patient, reference_case, write_cohort
from segstudy.errors import InputError
from segstudy.images.files import read_image, read_label
from segstudy.images.rigid import segthor_corruption
from segstudy.study import PhantomSource

SIZE = (48, 48, 24)
COHORT = 5

made = functools.cache(patient)


@pytest.fixture(scope="module")
def patients():
    return [made(2026, index, SIZE) for index in range(COHORT)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A tampered cohort on disk: its folder and its source."""
    source = PhantomSource(layout="phantom", patients=3, seed=2026, size_voxels=SIZE)
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, source, STRUCTURES)
    return folder, source


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_the_same_seed_gives_the_same_patient_and_another_seed_another(patients):
    for array, again in zip(patients[0], patient(2026, 0, SIZE), strict=True):
        assert np.array_equal(array, again)
    assert not np.array_equal(patients[0][0], patient(2027, 0, SIZE)[0])


def test_types_shapes_and_structures(patients):
    for image, label, affine in patients:
        assert image.dtype == np.int16
        assert label.dtype == np.uint8
        assert image.shape == label.shape
        assert image.shape[:2] == SIZE[:2]
        assert affine.shape == (4, 4)
        assert set(np.unique(label)) == {0, *STRUCTURES.values()}


def test_grids_differ_between_patients_and_are_anisotropic(patients):
    spacings = [np.abs(np.diag(affine))[:3] for _, _, affine in patients]
    assert len({tuple(spacing) for spacing in spacings}) == COHORT
    assert len({image.shape[2] for image, _, _ in patients}) > 2
    for left, back, head in spacings:
        assert left == back
        assert head > 1.2 * left


def test_orientations_are_not_ras_and_not_all_the_same():
    found = []
    for index in range(14):
        rng = np.random.default_rng([2026, index])
        scan = Scan.draw(rng, Body.draw(rng), SIZE)
        found.append("".join(nibabel.aff2axcodes(scan.affine)))
    assert set(found) == {"LPS", "RPS"}
    assert found.count("LPS") > 7


def test_the_heart_lies_in_the_left_front_whatever_the_stored_orientation(patients):
    """In RAS millimetres: the heart's centre left of the spine, the aorta's bottom behind it."""
    for image, label, affine in patients:
        place = {
            value: (np.argwhere(label == value) @ affine[:3, :3].T + affine[:3, 3])
            for value in STRUCTURES.values()
        }
        bone = np.argwhere(image > 250) @ affine[:3, :3].T + affine[:3, 3]
        heart, esophagus = place[2].mean(axis=0), place[1].mean(axis=0)
        assert heart[0] < np.median(bone[np.abs(bone[:, 0]) < 30, 0])
        assert heart[1] > esophagus[1] + 30
        assert place[3][:, 2].mean() > heart[2] + 40


def test_hounsfield_units(patients):
    for image, label, _ in patients:
        assert image.min() >= -1024
        assert image.max() < 1500
        assert image[0, 0].mean() == pytest.approx(-1000, abs=15)
        assert -990 < np.median(image[label == 3]) < -600
        # On this coarse grid much of a thin structure is partial volume.
        assert -10 < np.median(image[label == 1]) < 60
        assert 30 < np.median(image[label == 2]) < 260
        assert 10 < np.median(image[label == 4]) < 240
        assert (image > 300).any()
        lung = (image > -920) & (image < -700)
        assert lung.mean() > 0.05


def test_some_patients_have_contrast_agent_and_some_have_none(patients):
    blood = [np.median(image[label == 4]) for image, label, _ in patients]
    assert min(blood) < 60
    assert max(blood) > 100


def test_every_structure_is_one_piece(patients):
    for _, label, _ in patients:
        for value in (2, 4):
            pieces, count = components(label == value, np.ones((3, 3, 3)))
            sizes = np.bincount(pieces.ravel())[1:]
            assert sizes.max() > 0.98 * sizes.sum(), f"{value} is in {count} pieces"


def test_sizes_are_those_of_organs(patients):
    for _, label, affine in patients:
        millilitres = np.abs(np.linalg.det(affine[:3, :3])) / 1000
        assert 300 < (label == 2).sum() * millilitres < 1000
        assert 8 < (label == 3).sum() * millilitres < 60
        assert 10 < (label == 1).sum() * millilitres < 80
        assert 80 < (label == 4).sum() * millilitres < 320


def test_the_anatomy_does_not_depend_on_the_grid():
    """On a finer grid it is the same patient: the organs keep their volume."""
    volumes = []
    for size in (SIZE, (80, 80, 40)):
        _, label, affine = made(2026, 0, size)
        voxel = np.abs(np.linalg.det(affine[:3, :3]))
        volumes.append([(label == value).sum() * voxel for value in (2, 4)])
    assert np.allclose(volumes[0], volumes[1], rtol=0.1)


def test_partial_volume(patients):
    """At the edge of the lungs there are intensities of neither tissue."""
    image = patients[0][0]
    assert ((image > -600) & (image < -200)).mean() > 0.01


# --- the planted fault --------------------------------------------------------------------------


def test_the_heart_is_moved_in_every_patient_by_the_one_fault(cohort):
    folder, source = cohort
    fault = segthor_corruption(SIZE)
    for index in range(source.patients):
        name = f"Patient_{index + 1:02d}"
        image, right, affine = made(source.seed, index, SIZE)
        label = read_label(folder / "train" / name / "GT.nii.gz")
        assert np.array_equal(
            read_image(folder / "train" / name / f"{name}.nii.gz").array[0], image
        )
        assert np.allclose(label.affine, affine, atol=1e-4)
        assert iou(label.array == 2, right == 2) < 0.5
        # What is labelled heart at o was heart at fault(o): checked here voxel by voxel.
        for voxel in np.argwhere(label.array == 2)[::7]:
            source_voxel = np.floor((fault @ [*voxel, 1])[:3] + 0.5).astype(int)
            assert right[tuple(source_voxel)] == 2
        untouched = label.array != 2
        assert np.array_equal(label.array[untouched], np.where(right == 2, 0, right)[untouched])


def test_nearly_all_of_the_moved_heart_is_still_in_the_volume(cohort):
    folder, source = cohort
    for index in range(source.patients):
        _, right, _ = made(source.seed, index, SIZE)
        label = read_label(folder / "train" / f"Patient_{index + 1:02d}" / "GT.nii.gz").array
        assert (label == 2).sum() > 0.97 * (right == 2).sum()


def test_the_middle_patient_alone_has_the_right_label_too(cohort):
    folder, source = cohort
    assert [path.parent.name for path in folder.rglob("GT2.nii.gz")] == ["Patient_02"]
    assert reference_case(source.patients) == "Patient_02"
    assert reference_case(14) == "Patient_07"
    right = read_label(folder / "train" / "Patient_02" / "GT2.nii.gz").array
    assert np.array_equal(right, made(source.seed, 1, SIZE)[1])


def test_the_same_source_writes_the_same_bytes(cohort, tmp_path):
    folder, source = cohort
    write_cohort(tmp_path, source, STRUCTURES)
    digests = [
        {
            path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*.nii.gz")
        }
        for root in (folder, tmp_path)
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 2 * source.patients + 1


def test_untampered_labels_are_right(tmp_path):
    source = PhantomSource(
        layout="phantom", patients=2, size_voxels=SIZE, simulated_corruption=False
    )
    write_cohort(tmp_path, source, STRUCTURES)
    label = read_label(tmp_path / "train" / "Patient_01" / "GT.nii.gz").array
    assert np.array_equal(label, made(source.seed, 0, SIZE)[1])
    assert not list(tmp_path.rglob("GT2.nii.gz"))


def test_the_study_chooses_structures_and_values(tmp_path):
    source = PhantomSource(
        layout="phantom", patients=2, size_voxels=SIZE, simulated_corruption=False
    )
    write_cohort(tmp_path, source, {"aorta": 300, "heart": 7})
    label = read_label(tmp_path / "train" / "Patient_01" / "GT.nii.gz").array
    right = made(source.seed, 0, SIZE)[1]
    assert np.array_equal(label == 300, right == 4)
    assert np.array_equal(label == 7, right == 2)
    assert set(np.unique(label)) == {0, 7, 300}


@pytest.mark.parametrize(
    ("changes", "structures", "words"),
    [
        ({}, {"liver": 1, "heart": 2}, "no 'liver'; it has esophagus, heart"),
        ({}, {"aorta": 1}, "heart is missing"),
        ({"size_voxels": (96, 96, 6)}, STRUCTURES, r"96x96x6.*at least 24x24x12"),
    ],
)
def test_what_the_phantom_cannot_be(tmp_path, changes, structures, words):
    source = PhantomSource.model_validate({"layout": "phantom"} | changes)
    with pytest.raises(InputError, match=words):
        write_cohort(tmp_path, source, structures)


def test_other_modalities_are_refused(tmp_path, capsys):
    code = main(
        ["download", "fetch", "--dataset", "thorax", "--settings", '{"layout": "phantom"}']
        + ["--modality", "MR", "--structures", '{"heart": 1}', "--output", str(tmp_path / "raw")]
    )
    assert code == 1
    assert "the phantom is CT" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


# --- the canvas ---------------------------------------------------------------------------------


def small_canvas(deformed: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    axes = [np.arange(-60.0, 60.0, 2.0) for _ in range(3)]
    moved = [deformed * smooth_noise(rng, axes, 75.0) for _ in range(3)]
    body = Body.draw(rng)
    return Canvas(axes, body.to_anatomy, moved, {"ball": 1}, -1000.0)


def test_a_ball_is_painted_where_and_as_large_as_asked():
    canvas = small_canvas()
    canvas.ellipsoid((10, -5, 8), (20, 20, 20), 50, "ball")
    inside = (canvas.x - 10) ** 2 + (canvas.y + 5) ** 2 + (canvas.z - 8) ** 2 <= 400
    assert np.array_equal(canvas.label == 1, inside)
    assert np.array_equal(canvas.hu == 50, inside)


@pytest.mark.parametrize("seed", range(6))
def test_whole_balls_are_painted_however_the_anatomy_is_deformed(seed):
    """The box in which a stroke is worked out never cuts it off."""
    rng = np.random.default_rng(100 + seed)
    for radius in (3.0, 12.0, 30.0):
        canvas = small_canvas(4.5, seed)
        centre = rng.uniform(-35, 35, 3)
        canvas.ellipsoid(centre, (radius,) * 3, 50, "ball")
        place = np.stack([canvas.x, canvas.y, canvas.z], axis=-1)
        inside = ((place - centre) ** 2).sum(axis=-1) <= radius**2
        assert np.array_equal(canvas.label == 1, inside)


def test_smooth_noise_has_mean_0_and_sd_1_and_does_not_depend_on_the_grid():
    axes = [np.arange(-200.0, 140.0, step) for step in (5.0, 4.0, 4.0)]
    noise = smooth_noise(np.random.default_rng(1), axes, 20.0)
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1, abs=0.06)
    coarser = smooth_noise(np.random.default_rng(1), [axis[::2] for axis in axes], 20.0)
    assert np.allclose(coarser, noise[::2, ::2, ::2], atol=1e-5)


def test_a_curve_passes_its_points_in_small_steps():
    points = np.array([(0, 0, 0, 1), (10, 5, 0, 2), (20, 0, 8, 3.0)])
    path = curve(points, 0.5)
    steps = np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1)
    assert steps.max() < 0.75
    for point in points:
        assert np.linalg.norm(path - point, axis=1).min() < 0.5


def test_the_affine_places_the_fine_grids_centre():
    """The mean of a voxel's sub-voxels lies where the affine says, in RAS millimetres."""
    rng = np.random.default_rng(3)
    for _ in range(6):
        scan = Scan.draw(rng, Body.draw(rng), (30, 30, 14))
        left, back, head = scan.fine_axes_mm
        i, j, k = 4, 25, 9
        first = i if scan.leftward else scan.shape[0] - 1 - i
        centre = (
            -left[2 * first : 2 * first + 2].mean(),
            -back[2 * j : 2 * j + 2].mean(),
            head[3 * k : 3 * k + 3].mean(),
        )
        assert np.allclose((scan.affine @ [i, j, k, 1])[:3], centre, atol=1e-6)
