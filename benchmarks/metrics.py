"""Surface metrics beside other programs: time, memory, and what each says of the same pairs.

One process, one thread, the tools in turn on each pair, so that a busy machine slows all of them.
Every tool gives Dice, HD, HD95, ASSD and NSD at 2 mm of every structure from two label maps in
memory. Time is that of the processor; the least of the rounds counts. Peak memory is what the
process grows by. A peer that is not installed is left out with a line that says so.
"""

import argparse
import os

# One thread each: read when the libraries are imported.
for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "ITK_GLOBAL_DEFAULT", "EXACTA"):
    os.environ[f"{name}_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import ctypes  # noqa: E402
import gc  # noqa: E402
import importlib.metadata  # noqa: E402
import logging  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from segstudy.metrics.measure import measure  # noqa: E402
from segstudy.study import Metrics  # noqa: E402

TOLERANCE_MM = 2.0
ROUNDS = 3
SLOW_S = 5.0
"""A tool that takes longer for a pair runs on it once."""

Found = list[tuple[float, float, float]]
"""HD95, ASSD (mm) and NSD of every structure."""


# --- pairs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    name: str
    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: tuple[float, float, float]
    structures: dict[str, tuple[int, ...]]


def body(
    label: np.ndarray,
    value: int,
    spacing_mm: Iterable[float],
    centre: Iterable[float],
    radius_mm: Iterable[float],
    seed: int,
) -> None:
    """Write a lumpy ellipsoid into a label map. centre: shares of the grid."""
    rng = np.random.default_rng(seed)
    places = [
        (np.arange(size) - share * (size - 1)) * step / radius
        for size, share, step, radius in zip(
            label.shape, centre, spacing_mm, radius_mm, strict=True
        )
    ]
    near = [np.flatnonzero(np.abs(place) < 1.3) for place in places]
    x, y, z = np.meshgrid(
        *(place[index] for place, index in zip(places, near, strict=True)),
        indexing="ij",
        sparse=True,
    )
    phases = rng.uniform(0, 2 * np.pi, 6)
    lumps = 0.05 * sum(
        np.sin(frequency * axis + phase)
        for frequency, axis, phase in zip((4, 4, 4, 9, 9, 9), (x, y, z) * 2, phases, strict=True)
    )
    part = label[np.ix_(*near)]
    part[x**2 + y**2 + z**2 < (1 + lumps) ** 2] = value
    label[np.ix_(*near)] = part


def tube(
    label: np.ndarray, value: int, spacing_mm: Iterable[float], centre, radius_mm: float, seed: int
) -> None:
    """Write a winding vessel along k. centre: shares of the grid along i and j."""
    rng = np.random.default_rng(seed)
    step_i, step_j, _ = spacing_mm
    size_i, size_j, size_k = label.shape
    rough = rng.normal(0, 0.05, size_k)
    for k in range(size_k // 18, size_k - size_k // 18):
        turn = 6 * k / size_k
        x = (np.arange(size_i) - centre[0] * size_i) * step_i - radius_mm * np.sin(turn)
        y = (np.arange(size_j) - centre[1] * size_j) * step_j - radius_mm * np.cos(turn)
        near = np.flatnonzero(np.abs(x) < 2 * radius_mm), np.flatnonzero(np.abs(y) < 2 * radius_mm)
        apart = np.hypot(x[near[0], None], y[None, near[1]])
        part = label[:, :, k][np.ix_(*near)]
        part[apart < radius_mm * (1 + rough[k])] = value
        label[:, :, k][np.ix_(*near)] = part


def hippocampus() -> Pair:
    maps = []
    for seed in (0, 1):
        label = np.zeros((35, 51, 35), np.uint8)
        body(label, 1, (1, 1, 1), (0.5, 0.3 + 0.02 * seed, 0.5), (7, 11, 8), seed)
        body(label, 2, (1, 1, 1), (0.5, 0.68, 0.5), (6, 13, 6), seed + 2)
        maps.append(label)
    return Pair("35x51x35", *maps, (1.0, 1.0, 1.0), {"anterior": (1,), "posterior": (2,)})


def tumour() -> Pair:
    maps = []
    for seed in (0, 1):
        label = np.zeros((240, 240, 155), np.uint8)
        centre = (0.6, 0.45 + 0.004 * seed, 0.55)
        for value, radius in ((2, 38), (1, 24), (3, 14)):
            body(
                label, value, (1, 1, 1), centre, (radius, radius * 0.8, radius * 0.7), seed + value
            )
        maps.append(label)
    names = {"core": (1,), "edema": (2,), "enhancing": (3,)}
    return Pair("240x240x155", *maps, (1.0, 1.0, 1.0), names)


CHEST = {"esophagus": (1,), "heart": (2,), "trachea": (3,), "aorta": (4,)}
CT_MM = (0.98, 0.98, 2.5)


def chest(shape: tuple[int, int, int]) -> Pair:
    maps = []
    for seed in (0, 1):
        label = np.zeros(shape, np.uint8)
        off = 0.004 * seed
        body(label, 2, CT_MM, (0.53 + off, 0.43, 0.39), np.multiply(shape, (0.12, 0.1, 0.36)), seed)
        tube(label, 1, CT_MM, (0.5 + off, 0.64), shape[0] / 57, seed)
        tube(label, 3, CT_MM, (0.49, 0.59 + off), shape[0] / 46, seed + 2)
        tube(label, 4, CT_MM, (0.57 + off, 0.68), shape[0] / 36, seed + 4)
        maps.append(label)
    return Pair("x".join(map(str, shape)), *maps, CT_MM, CHEST)


def very_poor(shape: tuple[int, int, int]) -> Pair:
    """Structures on the wrong side, and specks of each all over the volume."""
    pair = chest(shape)
    prediction = np.ascontiguousarray(pair.prediction[:, ::-1])
    rng = np.random.default_rng(9)
    for value in (1, 2, 3, 4):
        specks = tuple(rng.integers(size, size=300) for size in shape)
        prediction[specks] = value
    return Pair(f"{pair.name}, very poor", pair.reference, prediction, CT_MM, CHEST)


# --- tools ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tool:
    """A program: the package whose version is printed, the surface it measures, how it is called."""

    package: str
    surface: str
    run: Callable[[Pair], Found]

    @property
    def name(self) -> str:
        return f"{self.package} {self.surface}".strip()


def ours(surface: str) -> Tool:
    settings = Metrics(surface=surface, nsd_tolerance_mm=(TOLERANCE_MM,))

    def run(pair: Pair) -> Found:
        found = measure(pair.reference, pair.prediction, pair.spacing_mm, pair.structures, settings)
        return [
            (one.values["hd95_mm"], one.values["assd_mm"], one.values["nsd_2mm"]) for one in found
        ]

    return Tool("segstudy", surface, run)


def masks(pair: Pair) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for (value,) in pair.structures.values():
        yield pair.reference == value, pair.prediction == value


def surface_distance() -> Tool:
    import surface_distance as library

    def run(pair: Pair) -> Found:
        results = []
        for reference, prediction in masks(pair):
            found = library.compute_surface_distances(reference, prediction, pair.spacing_mm)
            library.compute_dice_coefficient(reference, prediction)
            library.compute_robust_hausdorff(found, 100)
            # ASSD over both surfaces, as the others give it, from the tool's own distances.
            sides = [
                (found["distances_gt_to_pred"], found["surfel_areas_gt"]),
                (found["distances_pred_to_gt"], found["surfel_areas_pred"]),
            ]
            mean = sum(d @ a for d, a in sides) / sum(a.sum() for _, a in sides)
            results.append(
                (
                    library.compute_robust_hausdorff(found, 95),
                    mean,
                    library.compute_surface_dice_at_tolerance(found, TOLERANCE_MM),
                )
            )
        return results

    return Tool("surface-distance", "surfel", run)


def monai() -> Tool:
    import torch
    from monai import metrics as library

    torch.set_num_threads(1)

    def run(pair: Pair) -> Found:
        classes = list(masks(pair))
        both = [
            torch.from_numpy(np.stack(side)[None]).float() for side in zip(*classes, strict=True)
        ]
        tensors = {"y": both[0], "y_pred": both[1], "include_background": True}
        spaced = tensors | {"spacing": list(pair.spacing_mm)}
        library.compute_dice(**tensors)
        library.compute_hausdorff_distance(**spaced)
        hd95 = library.compute_hausdorff_distance(**spaced, percentile=95)
        assd = library.compute_average_surface_distance(**spaced, symmetric=True)
        nsd = library.compute_surface_dice(**spaced, class_thresholds=[TOLERANCE_MM] * len(classes))
        return [tuple(map(float, row)) for row in torch.cat([hd95, assd, nsd]).T]

    return Tool("monai", "voxel", run)


def simpleitk() -> Tool:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def contour(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
        distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        edge = sitk.LabelContour(image)
        return np.abs(sitk.GetArrayFromImage(distance)), sitk.GetArrayFromImage(edge).astype(bool)

    def run(pair: Pair) -> Found:
        images = []
        for array in (pair.reference, pair.prediction):
            image = sitk.GetImageFromArray(array.T)
            image.SetSpacing(pair.spacing_mm)
            images.append(image)
        results = []
        for (value,) in pair.structures.values():
            one, other = (image == value for image in images)
            overlap = sitk.LabelOverlapMeasuresImageFilter()
            overlap.Execute(one, other)
            overlap.GetDiceCoefficient()
            (one_map, one_edge), (other_map, other_edge) = contour(one), contour(other)
            forth, back = other_map[one_edge], one_map[other_edge]
            both = np.concatenate([forth, back])
            hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
            results.append((hd95, both.mean(), (both <= TOLERANCE_MM).mean()))
        return results

    return Tool("SimpleITK", "voxel", run)


def panoptica() -> Tool:
    from panoptica import InputType, Metric, Panoptica_Evaluator
    from panoptica.metrics import MetricMode

    wanted = [Metric.DSC, Metric.HD, Metric.HD95, Metric.ASSD, Metric.NSD]
    logging.disable(logging.WARNING)
    evaluator = Panoptica_Evaluator(
        InputType.MATCHED_INSTANCE, instance_metrics=wanted, global_metrics=[]
    )

    def run(pair: Pair) -> Found:
        found = evaluator.evaluate(
            pair.prediction, pair.reference, voxelspacing=pair.spacing_mm, result_all=False
        )["ungrouped"]
        lists = [
            found.get_list_metric(metric, MetricMode.ALL)
            for metric in (Metric.HD95, Metric.ASSD, Metric.NSD)
        ]
        return list(zip(*lists, strict=True))

    return Tool("panoptica", "voxel, pooled", run)


def exacta(surface: str) -> Callable[[], Tool]:
    def tool() -> Tool:
        import torch
        from exacta import functional as library

        torch.set_num_threads(1)
        kind = {"mesh": "mesh", "surfel": "surfels", "voxel": "voxels"}[surface]
        wanted = {
            "dice": {},
            "hausdorff_distance": {"surface": kind},
            "hd95": {"surface": kind},
            "assd": {"surface": kind},
            "nsd": {"surface": kind, "tolerance": TOLERANCE_MM},
        }

        def run(pair: Pair) -> Found:
            found = library.evaluate(
                pair.prediction[None],
                pair.reference[None],
                metrics=wanted,
                spacing=pair.spacing_mm,
                num_classes=len(pair.structures) + 1,
                include_background=False,
            )
            lists = [np.asarray(found[name])[0] for name in ("hd95", "assd", "nsd")]
            return [tuple(map(float, row)) for row in zip(*lists, strict=True)]

        return Tool("exacta", surface, run)

    return tool


PEERS = (
    surface_distance,
    # What follows takes seconds to import, too long for a smoke run.
    monai,
    simpleitk,
    panoptica,
    *(exacta(surface) for surface in ("mesh", "surfel", "voxel")),
)


def installed(quick: bool) -> list[Tool]:
    tools = [ours(surface) for surface in ("mesh", "surfel", "voxel")]
    missing = set()
    for make in PEERS[:1] if quick else PEERS:
        try:
            tools.append(make())
        except ImportError as error:
            missing.add(f"not installed, left out: {error.name}")
    print("\n".join(sorted(missing)))
    return tools


# --- measuring ------------------------------------------------------------------------------------


@dataclass
class Measured:
    cpu_s: float
    wall_s: float
    peak_mb: float
    found: Found


def peak_mb(run: Callable[[], object]) -> float:
    """What a call grows the process by at its height, in MB."""
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would hide what is taken
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    except OSError:
        # Not Linux: what numpy and Python allocate is counted, what C++ libraries do is not.
        tracemalloc.start()
        run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / 2**20
    before = memory("VmRSS")
    run()
    return (memory("VmHWM") - before) / 1024


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def compared(pair: Pair, tools: list[Tool], rounds: int) -> dict[str, Measured]:
    """The least time of every tool over the rounds, in which they take turns."""
    results: dict[str, Measured] = {}
    for _ in range(rounds):
        for tool in tools:
            before = results.get(tool.name)
            if before and before.cpu_s > SLOW_S:
                continue
            one = Measured(0.0, 0.0, 0.0, [])

            def run(tool: Tool = tool, one: Measured = one) -> None:
                wall, cpu = time.perf_counter(), time.process_time()
                one.found = tool.run(pair)
                one.cpu_s, one.wall_s = time.process_time() - cpu, time.perf_counter() - wall

            if before is None:
                one.peak_mb = peak_mb(run)
                results[tool.name] = one
            else:
                run()
                if one.cpu_s < before.cpu_s:
                    before.cpu_s, before.wall_s = one.cpu_s, one.wall_s
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the smallest pair, beside surface-distance alone: a smoke run",
    )
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    small = hippocampus()
    pairs = [small]
    if not quick:
        pairs += [tumour(), chest((512, 512, 180)), very_poor((256, 256, 90))]
    tools = installed(quick)
    packages = dict.fromkeys(tool.package for tool in tools[3:])
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {', '.join(versions)}")
    for tool in tools:
        tool.run(small)  # compiles, and loads what is loaded at the first use

    print(
        "\n| pair | tool and surface | CPU (s) | wall (s) | peak memory (MB) | HD95 (mm) | ASSD (mm) | NSD |"
    )
    print("|---|---|---|---|---|---|---|---|")
    results = {}
    for pair in pairs:
        results[pair.name] = compared(pair, tools, 1 if quick else ROUNDS)
        for name, one in results[pair.name].items():
            means = [np.mean(column) for column in zip(*one.found, strict=True)]
            print(
                f"| {pair.name} | {name} | {one.cpu_s:.4f} | {one.wall_s:.4f} | {one.peak_mb:.0f} "
                f"| {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} |"
            )
    print(
        "\nHD95, ASSD and NSD are means over the structures of the pair; NSD at 2 mm, "
        "that of panoptica at its own tolerance.\n"
    )
    reached = [*targets(results, quick)]
    return 0 if all(reached) else 1


def targets(results: dict[str, dict[str, Measured]], quick: bool) -> Iterable[bool]:
    """Prints a line a target and says whether it was reached."""

    def target(what: str, figure: str, asked: str, reached: bool) -> bool:
        print(f"target {what}: {figure} (asked {asked}) {'ok' if reached else 'short'}")
        return reached

    for name, found in results.items():
        peer = found.get("surface-distance surfel")
        if peer:
            apart = np.abs(np.subtract(found["segstudy surfel"].found, peer.found)).max()
            yield target(
                f"{name}: surfel as surface-distance", f"{apart:.1g}", "1e-9", apart <= 1e-9
            )
        if quick:
            continue
        if peer and name != "35x51x35":
            for surface, asked in (("surfel", 10), ("mesh", 2)):
                one = found[f"segstudy {surface}"]
                ratio = peer.cpu_s / one.cpu_s
                what = f"{name}: {surface} against surface-distance"
                yield target(what, f"{ratio:.1f} times", f"{asked} times", ratio >= asked)
                share = one.peak_mb / peer.peak_mb
                what = f"{name}: peak memory of {surface}"
                yield target(what, f"{share:.2f} of its", "at most 1", share <= 1)
        for surface in ("mesh", "surfel", "voxel"):
            peers = {
                other: one.cpu_s
                for other, one in found.items()
                if other.split()[1].startswith(surface) and not other.startswith("segstudy")
            }
            if peers:
                best = min(peers, key=peers.__getitem__)
                ratio = peers[best] / found[f"segstudy {surface}"].cpu_s
                what = f"{name}: {surface} against the quickest peer ({best.split()[0]})"
                yield target(what, f"{ratio:.1f} times", "1 times", ratio >= 1)


if __name__ == "__main__":
    sys.exit(main())
