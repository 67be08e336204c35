"""The thorax of the phantom: one patient's proportions, and the strokes that paint them.

Coordinates are millimetres of a patient of average size: x to the left, y to the back, z to the
head, with the tracheal bifurcation at z = 0. Nothing is taken from a real patient.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from segstudy.download.canvas import Canvas, Part, curve, smooth_noise

STRUCTURES = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}

# Hounsfield units
AIR, LUNG, FAT, SKIN, MUSCLE, LIVER = -1000.0, -860.0, -105.0, 10.0, 52.0, 60.0
SPONGY_BONE, CORTICAL_BONE, CARTILAGE, DISC, CORD, COUCH = 170.0, 480.0, 110.0, 85.0, 28.0, -250.0
WALL, ESOPHAGUS, GLAND = 25.0, 42.0, 40.0

EVERYWHERE: Part = (slice(None), slice(None), slice(None))


@dataclass(frozen=True)
class Body:
    """Hold the proportions of a patient. Lengths are in mm at average size.

    Parameters
    ----------
    scale
        Factor from average size to the patient's own.
    fat
        Thickness of the fat under the skin, in mm.
    cavity
        Half axes of the chest's inside (left-right, front-back), in mm.
    heart_size
        Factor.
    heart_turn
        3x3 rotation of the heart.
    diaphragm
        Height of the diaphragm above the average, in mm.
    blood_hu
        Of the left and of the right side of the heart.
    tilt
        3x3 rotation of the patient on the couch.
    shift
        (3,) mm, of the patient on the couch.
    """

    scale: float
    fat: float
    cavity: tuple[float, float]
    heart_size: float
    heart_turn: np.ndarray
    diaphragm: float
    blood_hu: tuple[float, float]
    tilt: np.ndarray
    shift: np.ndarray

    @staticmethod
    def draw(rng: np.random.Generator) -> "Body":
        """Draw a patient."""
        # A third of the patients gets no contrast agent: blood is then as dark as muscle.
        if rng.random() < 1 / 3:
            left = right = rng.uniform(36, 48)
        else:
            left, right = rng.uniform(100, 210), rng.uniform(80, 240)
        return Body(
            scale=float(np.clip(rng.normal(1, 0.05), 0.88, 1.12)),
            fat=rng.uniform(7, 24),
            cavity=(128 * rng.normal(1, 0.03), 86 * rng.normal(1, 0.035)),
            heart_size=float(np.clip(rng.normal(1, 0.07), 0.86, 1.15)),
            heart_turn=Rotation.from_rotvec(rng.normal(0, 7, 3), degrees=True).as_matrix(),
            diaphragm=rng.normal(0, 6),
            blood_hu=(left, right),
            tilt=Rotation.from_rotvec(rng.normal(0, (2, 2, 3)), degrees=True).as_matrix(),
            shift=np.array([*rng.normal(0, 4, 2), 0.0]),
        )

    @property
    def outline(self) -> tuple[float, float]:
        """Return the half axes of the skin (left-right, front-back), in mm."""
        return self.cavity[0] + 19 + self.fat, self.cavity[1] + 17 + 0.8 * self.fat

    @property
    def to_anatomy(self) -> np.ndarray:
        """Return the 4x4 matrix from scanner millimetres to those of the average patient."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.tilt / self.scale
        matrix[:3, 3] = matrix[:3, :3] @ -self.shift
        return matrix


def paint_thorax(axes_mm: list[np.ndarray], body: Body, rng: np.random.Generator) -> Canvas:
    """Paint a patient on a grid.

    Parameters
    ----------
    axes_mm
        Positions of the grid's planes along left, back and head, in scanner millimetres.
    body
        The patient's proportions.
    rng
        Draws the details.
    """
    deformation = [amount * smooth_noise(rng, axes_mm, 75.0) for amount in (4.0, 4.0, 4.5)]
    canvas = Canvas(axes_mm, body.to_anatomy, deformation, STRUCTURES, AIR)
    _trunk(canvas, body, rng)
    _skeleton(canvas, body, rng)
    _lung_vessels(canvas, body, rng)
    heart = Heart.place(body, rng)
    _great_vessels(canvas, body, heart, rng)
    _airways(canvas, rng)
    _esophagus(canvas, rng)
    return canvas


# --- trunk --------------------------------------------------------------------------------------


def _cavity_shrink(z):
    """Return the share of the chest's width at a height: a dome towards the apex of the lungs."""
    return np.sqrt(np.clip(1 - (np.clip(z + 25, 0, None) / 128) ** 2, 0.05, 1))


def _trunk(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Paint skin, fat, muscle, mediastinum, abdomen, lungs, and the couch."""
    x, y, z = canvas.x, canvas.y, canvas.z
    coarse, fine = (smooth_noise(rng, canvas.axes_mm, mm) for mm in (30.0, 9.0))

    half_x, half_y = body.outline
    half_x = half_x * (1 - 0.0006 * np.clip(z, 0, None))
    radius = (np.abs(x / half_x) ** 2.6 + np.abs(y / half_y) ** 2.4) ** np.float32(0.4)
    depth = (1 - radius) * half_y
    canvas.paint(EVERYWHERE, depth > 0, SKIN)
    canvas.paint(EVERYWHERE, depth > 2.5, FAT + 6 * fine)
    muscle = depth > body.fat * (1 + 0.15 * coarse)
    canvas.paint(EVERYWHERE, muscle, MUSCLE + 5 * fine)
    canvas.paint(EVERYWHERE, muscle & (fine > 1.3) & (depth < body.fat + 14), FAT)

    shrink = _cavity_shrink(z)
    inside = (x / (body.cavity[0] * shrink)) ** 2 + (
        y / (body.cavity[1] * (0.25 + 0.75 * shrink))
    ) ** 2
    cavity = inside < 1
    base = -166 + body.diaphragm
    domes = (
        72 * np.exp(-(((x + 66) / 62) ** 2) - ((y + 8) / 66) ** 2)
        + 56 * np.exp(-(((x - 72) / 58) ** 2) - ((y + 4) / 64) ** 2)
        + 40 * np.exp(-(((x - 6) / 46) ** 2) - ((y + 34) / 46) ** 2)
    )
    above = z > base + domes
    # The mediastinum: thin behind the breastbone, wide at the great vessels, and between them fat
    # with strands of soft tissue, which is what makes the esophagus hard to see.
    half = 7 + 21 * np.exp(-(((y - 18) / 42) ** 2)) + 14 * np.clip((z - 55) / 40, 0, 1) + 2 * coarse
    middle = np.abs(x) < half
    strands = np.clip(-78 + 36 * fine + 20 * coarse, FAT, 40)
    lungs = cavity & above & ~middle
    canvas.paint(EVERYWHERE, cavity & above & middle, strands)
    canvas.paint(EVERYWHERE, lungs, LUNG + 0.45 * (y + 20) + 22 * fine + 18 * coarse)

    below = cavity & ~above
    liver = below & (x < 26 + 8 * coarse)
    fluid = below & ~liver & (x < 62)
    canvas.paint(EVERYWHERE, below, np.where(coarse > 0.35, 48 + 4 * fine, FAT + 5 * fine))
    canvas.paint(EVERYWHERE, liver, LIVER + 0.12 * body.blood_hu[1] + 5 * fine)
    canvas.paint(EVERYWHERE, fluid, 36 + 6 * fine)

    if rng.random() < 0.3:  # fluid behind a lung
        side = rng.choice([-1, 1])
        canvas.paint(EVERYWHERE, lungs & (side * x > 0) & (y > 48 + 6 * coarse), 12 + 4 * fine)

    left, back = canvas.axes_mm[0][:, None, None], canvas.axes_mm[1][None, :, None]
    under = body.scale * body.outline[1] + 9 - 0.0011 * left**2
    couch = (np.abs(back - under) < 2.5) & (np.abs(left) < 200) & (canvas.hu == AIR)
    canvas.paint(EVERYWHERE, couch, COUCH)


# --- skeleton -----------------------------------------------------------------------------------


def _skeleton(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    _ribs(canvas, body)
    chest = body.cavity[1]
    canvas.ellipsoid((0, -chest - 4, 18), (19, 6, 74), CORTICAL_BONE * 0.6)
    canvas.ellipsoid((0, -chest - 4, 18), (15, 3.5, 70), SPONGY_BONE * 0.6)
    for side in (-1, 1):
        blade = Rotation.from_euler("zx", [side * 32, -8], degrees=True).as_matrix().T
        canvas.ellipsoid((side * 92, chest - 16, 58), (38, 4, 58), CORTICAL_BONE * 0.7, turn=blade)
        collar = [
            (side * 22, -chest + 24, 84),
            (side * 75, -chest + 36, 92),
            (side * 125, -chest + 62, 104),
        ]
        canvas.tube(curve(collar, 3), 6, CORTICAL_BONE * 0.8)
        canvas.tube(curve(collar, 3), 3.5, SPONGY_BONE)
    _spine(canvas, rng)


def _ribs(canvas: Canvas, body: Body) -> None:
    for number in range(11):
        for side in (-1, 1):
            turn = np.radians(np.linspace(14, 152, 70))
            z = 112 - 24 * number - 88 * (turn / turn[-1]) ** 1.2
            shrink = _cavity_shrink(z)
            rib = np.stack(
                [
                    side * (body.cavity[0] * shrink + 6) * np.sin(turn),
                    (body.cavity[1] * (0.25 + 0.75 * shrink) + 6) * np.cos(turn),
                    z,
                ],
                axis=1,
            )
            bony = turn < np.radians(128)
            canvas.tube(rib[bony], (3.6, 3.6, 5.0) * np.ones((bony.sum(), 1)), CORTICAL_BONE)
            canvas.tube(rib[bony], (2.0, 2.0, 3.2) * np.ones((bony.sum(), 1)), SPONGY_BONE)
            canvas.tube(rib[~bony], 4.0, CARTILAGE)


def _spine(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint vertebrae with discs, canal and processes, as one column."""
    column = canvas.around(np.array([[0.0, 80.0, z] for z in (-150.0, 110.0)]), 55.0)
    part: Part = (column[0][0], column[0][1], slice(None))
    x, y, z = canvas.x[part], canvas.y[part], canvas.z[part]
    phase = rng.uniform(0, 24)
    height = np.mod(z + phase, 24)
    disc = height < 4.5
    bone = np.where(disc, DISC, SPONGY_BONE * rng.uniform(0.7, 1.2))
    bone = bone.astype(np.float32)
    waist = 1 - 0.08 * np.sin(np.pi * height / 24)
    vertebra = np.sqrt((x / (18 * waist)) ** 2 + ((y - 62) / (15 * waist)) ** 2)
    arch = np.sqrt((x / 17) ** 2 + ((y - 84) / 15) ** 2)
    canvas.paint(part, (arch < 1) & (height > 7), CORTICAL_BONE * 0.8)
    canvas.paint(part, vertebra < 1, np.where(disc, DISC, CORTICAL_BONE))
    canvas.paint(part, vertebra < 0.86, bone)
    canvas.paint(part, np.sqrt((x / 9) ** 2 + ((y - 84) / 8) ** 2) < 1, CORD)
    for top in np.arange(-220 - phase, 140, 24):
        spinous = curve([(0, 97, top + 14), (0, 107, top - 4)], 3)
        canvas.tube(spinous, (3.5, 4, 6) * np.ones((len(spinous), 1)), CORTICAL_BONE * 0.8)
        for side in (-1, 1):
            process = curve([(side * 14, 84, top + 14), (side * 33, 92, top + 16)], 3)
            canvas.tube(process, 4.5, CORTICAL_BONE * 0.75)


# --- heart and vessels --------------------------------------------------------------------------


@dataclass(frozen=True)
class Heart:
    """Hold position and axes of the heart.

    Parameters
    ----------
    centre
        (3,) mm.
    axes
        3x3, rows pointing to the apex, to the left back, upward.
    size
        Factor from average size.
    """

    centre: np.ndarray
    axes: np.ndarray
    size: float

    @staticmethod
    def place(body: Body, rng: np.random.Generator) -> "Heart":
        """Draw position and axes of a patient's heart."""
        apex = np.array([0.66, -0.52, -0.54])
        across = np.cross(apex, [0.0, 0.0, 1.0])
        axes = np.stack([apex, across, np.cross(across, apex)])
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        centre = np.array([16.0, -24.0, -56.0]) + rng.normal(0, (5, 4, 4))
        return Heart(centre, axes @ body.heart_turn.T, body.heart_size)

    def at(self, apex: float, across: float, up: float) -> np.ndarray:
        """Return the position of a point given along the heart's own axes, in mm of an average heart."""
        return self.centre + self.size * (np.array([apex, across, up]) @ self.axes)


def _great_vessels(canvas: Canvas, body: Body, heart: Heart, rng: np.random.Generator) -> None:
    """Paint heart, aorta, pulmonary artery, caval and azygos veins, and vessels of the arch."""
    left, right = body.blood_hu

    def jitter(points, sd=2.5):
        points = np.asarray(points, float)
        points[:, :3] += rng.normal(0, sd, (len(points), 3))
        return points

    def part(place, radii, hu, structure="heart"):
        canvas.ellipsoid(
            heart.at(*place), np.multiply(radii, heart.size), hu, structure, heart.axes
        )

    lung_artery = curve(jitter([(20, -44, -34, 14), (17, -36, -14, 14), (16, -16, 1, 12)]), 3)
    branches = [
        curve(jitter([(14, -18, 0, 10), (-14, -6, -12, 9.5), (-48, 6, -14, 8)]), 3),
        curve(jitter([(18, -12, 2, 10), (34, 10, 4, 9), (54, 20, -4, 7)]), 3),
    ]
    upper_cava = curve(
        jitter([(-26, -26, 112, 7), (-27, -20, 50, 9), (-28, -14, -6, 10), (-26, -14, -40, 11)]), 3
    )
    azygos = curve(
        jitter(
            [
                (-9, 44, -175, 4),
                (-10, 43, -60, 4),
                (-11, 42, 6, 4.5),
                (-26, 24, 20, 5),
                (-28, -10, 16, 5),
            ]
        ),
        2.5,
    )
    for vessel in (azygos, upper_cava, *branches, lung_artery):
        canvas.tube(vessel[:, :3], vessel[:, 3] + 1.5, WALL)
        canvas.tube(vessel[:, :3], vessel[:, 3], right)
    pad = FAT + rng.normal(0, 5)
    outer, upper = (58, 47, 45), (37, 45, 40)
    part((3, 0, 0), np.add(outer, 5), pad, None)
    part((-30, -2, 6), np.add(upper, 3), pad, None)
    # The muscle of the heart takes up contrast too, a third as much as the blood.
    muscle = MUSCLE + 0.3 * max(left - MUSCLE, 0)
    part((0, 0, 0), outer, muscle)
    part((-30, -2, 6), upper, muscle)
    part((10, 14, 4), (38, 19, 20), left)  # left ventricle
    part((4, -20, -2), (42, 13, 27), right)  # right ventricle
    part((-34, 18, 12), (20, 24, 20), left)  # left atrium
    part((-34, -24, 2), (24, 18, 26), right)  # right atrium

    lift = rng.normal(0, 4)
    points = [
        (2, -16, -34, 14.5),
        (-11, -27, -14, 16),
        (-19, -28, 8, 16),
        (-14, -20, 28 + lift, 15),
        (4, -6, 42 + lift, 14),
        (22, 15, 39 + lift, 13.5),
        (29, 38, 20 + lift, 13),
        (30, 46, 0, 12.5),
        (27, 45, -55, 12),
        (19, 43, -110, 11.5),
        (12, 42, -180, 11),
    ]
    aorta = curve(jitter(points), 3)
    aorta[:, 3] *= rng.normal(1, 0.08)
    for root, end in (((-10, -12), (-16, 0)), ((4, -4), (8, 2)), ((16, 8), (22, 10))):
        branch = curve(
            jitter([(*root, 46 + lift), (*np.mean([root, end], axis=0), 75), (*end, 118)], 1.5), 2.5
        )
        canvas.tube(branch, 5.8, WALL)
        canvas.tube(branch, 4.6, left)
    canvas.tube(aorta[:, :3], aorta[:, 3] + 1.0, WALL, over=(-2000, 200))
    canvas.tube(aorta[:, :3], aorta[:, 3], left, "aorta")


def _lung_vessels(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Paint vessels that leave the hilum, thin out and end in the lung; in some patients a nodule."""
    hu = 30 + 0.5 * np.mean(body.blood_hu)
    for side in (-1, 1):
        for _ in range(46):
            position = np.array([side * 38.0, 16.0, -12.0]) + rng.normal(0, 7, 3)
            aim = rng.normal(0, 1, 3) * (0.8, 0.9, 1.1)
            aim[0] = side * (0.25 + abs(aim[0]))
            aim /= np.linalg.norm(aim)
            length, points = rng.uniform(45, 105), [position]
            for _ in range(4):
                aim = aim + rng.normal(0, 0.25, 3)
                aim /= np.linalg.norm(aim)
                points.append(points[-1] + aim * length / 4)
            vessel = curve(points, 3)
            radii = np.linspace(rng.uniform(2.6, 4.2), 1.1, len(vessel))
            canvas.tube(vessel, radii, hu, over=(-1000, -500))
        if rng.random() < 0.25:
            position = (side * rng.uniform(55, 90), rng.uniform(-30, 35), rng.uniform(-50, 50))
            canvas.ellipsoid(position, rng.uniform(5, 13, 3), 35, over=(-1000, -500))


# --- airways and esophagus ----------------------------------------------------------------------


def _airways(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint trachea and main bronchi; the label ends a little behind the bifurcation, as experts' do."""
    carina = np.array([1.0, 19.0, 0.0]) + rng.normal(0, 2, 3)
    size = rng.normal(1, 0.08)
    trunk = curve(
        [
            (*(carina + (-1, -20, 118)), 8.2),
            (*(carina + (-4, -10, 62) + rng.normal(0, 2.5, 3)), 8.4),
            (*(carina + (-5, -3, 26)), 8.6),
            (*carina, 8.8),
        ],
        2.0,
    )
    bronchi = [
        curve(
            [(*carina, 7.4), (*(carina + (-21, 3, -21)), 6.6), (*(carina + (-42, 5, -36)), 5)], 2.0
        ),
        curve(
            [(*carina, 7.2), (*(carina + (26, 5, -20)), 6), (*(carina + (50, 10, -31)), 4.5)], 2.0
        ),
    ]
    reach = rng.uniform(16, 26)
    for tube in (trunk, *bronchi):
        canvas.tube(tube[:, :3], size * tube[:, 3] + 1.8, WALL)
    for tube in bronchi:
        canvas.tube(tube[:, :3], size * tube[:, 3], AIR + 15)
        near = np.linalg.norm(tube[:, :3] - carina, axis=1) <= reach
        canvas.tube(tube[near, :3], size * tube[near, 3], AIR + 15, "trachea")
    canvas.tube(trunk[:, :3], size * trunk[:, 3], AIR + 15, "trachea")


def _esophagus(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a flat, thin tube behind trachea and heart, hardly brighter than its surroundings."""
    points = np.array(
        [
            (3, 16, 118),
            (4, 24, 62),
            (5, 31, 24),
            (5, 35, -8),
            (7, 36, -46),
            (11, 35, -82),
            (20, 28, -112),
            (34, 18, -142),
            (44, 10, -170),
        ],
        float,
    )
    points += rng.normal(0, (2.5, 1.5, 2.5), points.shape)
    path = curve(points, 2.0)
    width = 11.5 * rng.normal(1, 0.08) * np.exp(_wander(rng, len(path), 12, 0.16))
    depth = 7.8 * rng.normal(1, 0.08) * np.exp(_wander(rng, len(path), 12, 0.16))
    radii = np.stack([width, depth, np.full(len(path), 4.0)], axis=1)
    hu = ESOPHAGUS + rng.normal(0, 4)
    for _ in range(7):  # lymph nodes and vessels, of the same brightness
        position = path[rng.integers(len(path)), :3] + rng.normal(0, (13, 8, 8))
        canvas.ellipsoid(
            position, rng.uniform(3, 6.5, 3), GLAND + rng.normal(0, 5), over=(-200, 30)
        )
    canvas.tube(path, radii, hu, "esophagus", over=(-400, 70))
    gas = _wander(rng, len(path), 10, 1.0) > 1.1
    canvas.tube(
        path[gas], (4.0, 2.8, 3.0) * np.ones((gas.sum(), 1)), -650, "esophagus", over=(-400, 70)
    )


def _wander(rng: np.random.Generator, count: int, step: int, sd: float) -> np.ndarray:
    """Draw a smooth random course of `count` values with about the given SD."""
    knots = rng.normal(0, sd, count // step + 4)
    return curve(np.stack([np.arange(len(knots)), 0 * knots, 0 * knots, knots], axis=1), 1 / step)[
        :count, 3
    ]
