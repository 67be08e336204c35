"""Augmentation alone, samples a second: segstudy's batches beside batchgeneratorsv2, nnU-Net's library.

Both make nnU-Net's training list (rotation and scaling, noise, blur, brightness, contrast, low
resolution, gamma of the patch and of its inverse, mirroring) with nnU-Net's probabilities, on two
cores: two processes of one thread each, spared handing batches over. That is how nnU-Net runs its
library; a training of ours on a CPU does it in its one process, with all its threads, which is
measured too. All take turns, and the medians are compared; beside the rate stands the CPU time,
which other work on the machine disturbs less.

Labels: ours takes the nearest voxel's. The peer's default is the likeliest class after linear
interpolation of each; it is measured with nearest labels too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ.update(OMP_WAIT_POLICY="passive")

CORES = 2
SHAPES = {"hippocampus": (40, 56, 40), "large": (128, 128, 96)}
CLASSES = 3
OURS, ONE = "segstudy", "segstudy, one process of two threads"
PEER, NEAREST = "peer", "peer with nearest labels"
ASKED = {PEER: 2.0, NEAREST: 1.0}
"""How many times the peer's rate: as nnU-Net runs it, and with labels sampled as ours are."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small patch: a smoke run")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for ours")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="a Python that has batchgeneratorsv2"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(**json.loads(options.worker))))
        return 0
    shapes = {"small": (16, 24, 16)} if options.quick else SHAPES
    seconds, rounds = (0.3, 1) if options.quick else (options.seconds, options.rounds)
    source = {name: source_of(shape) for name, shape in shapes.items()}
    # No two processes share a GPU.
    kinds = [OURS, ONE] if options.device == "cpu" else [ONE]
    if has_peer(options.peer_python):
        kinds += [PEER, NEAREST]
    else:
        print(f"{options.peer_python} has no batchgeneratorsv2: the peer is left out")

    rows, targets = [], []
    for name, shape in shapes.items():
        common = {"shape": shape, "source": source[name], "seconds": seconds}
        found: dict[str, list] = {kind: [] for kind in kinds}
        for number in range(rounds):
            for kind in kinds:
                asked = {**common, "kind": kind, "seed": number, "device": options.device}
                found[kind].append(turn(asked, options.peer_python))
        for kind, turns in found.items():
            rate, cpu = (statistics.median(values) for values in zip(*turns, strict=True))
            rows.append((name, "x".join(map(str, shape)), kind, rate, 1000 * cpu))
        rates = {kind: rate for of, _, kind, rate, _ in rows if of == name}
        targets += [
            (f"{name}, times the {kind}", rates[kinds[0]] / rates[kind], asked)
            for kind, asked in ASKED.items()
            if kind in rates
        ]

    device = "two cores" if options.device == "cpu" else options.device
    print(f"{device}; {rounds} turns of {seconds:g} s each, medians\n")
    print("| patch | voxels | program | samples/s | CPU ms a sample |")
    print("|---|---|---|---|---|")
    for name, shape, kind, rate, cpu in rows:
        print(f"| {name} | {shape} | {kind} | {rate:.1f} | {cpu:.1f} |")
    print()
    for what, ratio, asked in targets:
        reached = "ok" if ratio >= asked else "short"
        print(f"target samples/s, {what}: {ratio:.2f} (asked {asked:g}) {reached}")
    return 0 if options.quick or all(ratio >= asked for _, ratio, asked in targets) else 1


def has_peer(python: str) -> bool:
    return (
        subprocess.run([python, "-c", "import batchgeneratorsv2"], capture_output=True).returncode
        == 0
    )


def turn(asked: dict, peer_python: str) -> tuple[float, float]:
    """Samples a second and CPU seconds a sample, in fresh processes."""
    python = sys.executable if asked["kind"] in (OURS, ONE) else peer_python
    threads, count = (CORES, 1) if asked["kind"] == ONE else (1, CORES)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(
            [python, __file__, "--worker", json.dumps({**asked, "seed": 100 * asked["seed"] + n})],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(count)
    ]
    answers = [json.loads(process.communicate()[0]) for process in running]
    samples = sum(answer["samples"] for answer in answers)
    rate = sum(answer["samples"] / answer["wall_s"] for answer in answers)
    return rate, sum(answer["cpu_s"] for answer in answers) / samples


def measure(kind, shape, source, seconds, seed, device) -> dict[str, float]:
    """Samples made in about that many seconds, after one that is not counted."""
    import numpy as np
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(seed)
    np.random.seed(seed)
    image = torch.randn(1, *source)
    coarse = torch.rand(1, CLASSES, *[max(2, size // 8) for size in source])
    label = torch.nn.functional.interpolate(coarse, source, mode="trilinear").argmax(1)
    make, count = (
        ours(image, label, shape, device)
        if kind in (OURS, ONE)
        else peer(image, label, shape, kind)
    )
    make(-1)
    made, began, cpu = 0, time.perf_counter(), cpu_seconds()
    while time.perf_counter() - began < seconds:
        make(made + 1000 * seed)
        made += 1
    if device != "cpu" and kind in (OURS, ONE):
        torch.cuda.synchronize()
    wall = time.perf_counter() - began
    return {"samples": made * count, "wall_s": wall, "cpu_s": cpu_seconds() - cpu}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- segstudy -----------------------------------------------------------------------------------


def settings():
    """nnU-Net's list. A patch is rotated or scaled with 1 - 0.8 * 0.8; each of one channel."""
    from segstudy.study import Augmentation

    return Augmentation(
        affine_probability=0.36,
        rotation_deg=30,
        scale=(1 / 1.4, 1 / 0.7),
        flip_axes=("right_left", "back_front", "foot_head"),
        noise_probability=0.1,
        noise_sd=0.1**0.5,
        blur_probability=0.1,
        blur_sigma_voxels=(0.5, 1.0),
        brightness_probability=0.15,
        brightness=(0.75, 1.25),
        contrast_probability=0.15,
        contrast=(0.75, 1.25),
        low_resolution_probability=0.125,
        low_resolution_scale=(0.5, 1.0),
        gamma_probability=0.3,
        gamma=(0.7, 1.5),
        inverted_gamma_probability=0.1,
    )


def source_of(shape) -> tuple[int, ...]:
    """What is read for a patch that may be turned, the same for both."""
    from segstudy.train.spatial import source_size

    return source_size(shape, settings(), (1.0, 1.0, 1.0), 3.0)


def ours(image, label, shape, device, batch=CORES):
    import torch

    from segstudy.train.augment import augment
    from segstudy.train.draw import Draw
    from segstudy.train.spatial import PatchGeometry

    images = image[None].repeat(batch, 1, 1, 1, 1).to(device)
    labels = label.to(torch.uint8).repeat(batch, 1, 1, 1).to(device)
    geometry = PatchGeometry(shape, torch.ones(batch, 3), torch.arange(3).repeat(batch, 1), 3.0)
    asked = settings()

    def make(number: int):
        draw = Draw(torch.Generator().manual_seed(number + 1), batch)
        return augment(images, labels, asked, geometry, draw)

    return make, batch


# --- the peer -----------------------------------------------------------------------------------


def peer(image, label, shape, kind):
    """As nnunetv2 2.8.1's `nnUNetTrainer.get_training_transforms` for an isotropic 3D patch."""
    import numpy as np
    import torch
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    angle = 30 / 360 * 2 * np.pi
    apart = {"synchronize_channels": False, "p_per_channel": 1}
    bent = {**apart, "gamma": BGContrast((0.7, 1.5)), "p_retain_stats": 1}
    spatial = SpatialTransform(
        shape,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=0,
        p_rotation=0.2,
        rotation=(-angle, angle),
        p_scaling=0.2,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        mode_seg="nearest" if kind == NEAREST else "bilinear",
    )
    some = [
        (
            0.1,
            GaussianNoiseTransform(
                noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True
            ),
        ),
        (
            0.2,
            GaussianBlurTransform(
                blur_sigma=(0.5, 1.0),
                synchronize_channels=False,
                synchronize_axes=False,
                p_per_channel=0.5,
                benchmark=True,
            ),
        ),
        (
            0.15,
            MultiplicativeBrightnessTransform(multiplier_range=BGContrast((0.75, 1.25)), **apart),
        ),
        (
            0.15,
            ContrastTransform(
                contrast_range=BGContrast((0.75, 1.25)), preserve_range=True, **apart
            ),
        ),
        (
            0.25,
            SimulateLowResolutionTransform(
                scale=(0.5, 1),
                synchronize_channels=False,
                synchronize_axes=True,
                ignore_axes=None,
                allowed_channels=None,
                p_per_channel=0.5,
            ),
        ),
        (0.1, GammaTransform(p_invert_image=1, **bent)),
        (0.3, GammaTransform(p_invert_image=0, **bent)),
    ]
    steps = [RandomTransform(one, apply_probability=share) for share, one in some]
    all_steps = ComposeTransforms([spatial, *steps, MirrorTransform(allowed_axes=(0, 1, 2))])
    label = label.to(torch.int16)

    def make(number: int):
        return all_steps(image=image.clone(), segmentation=label.clone())

    return make, 1


if __name__ == "__main__":
    sys.exit(main())
