"""Our U-Net, loss and sliding window beside MONAI's DynUNet, DiceCELoss and SlidingWindowInferer.

Both networks have the same levels, kernels, strides and normalisation, and so the same parameters; the
losses are the same formula, and their values are compared; both windows run the same network over the
same volume, and the classes that they choose are compared. All take turns in one process, and each is
measured as it is called in a training or a prediction. MONAI's network runs in both memory layouts,
since torch's convolutions are faster with channels last; its better one counts. On a CPU the CPU's seconds count; on
a GPU (`gpu.py` runs this there) those on the wall, with mixed precision.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.update(OMP_WAIT_POLICY="passive")

import monai
import torch
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from segstudy.networks import unet
from segstudy.networks.device import half_precision
from segstudy.networks.topology import topology
from segstudy.networks.window import SlidingWindow, predict_volume
from segstudy.study import UnetModel
from segstudy.study.training import Loss
from segstudy.train.loss import SegmentationLoss

CHANNELS, CLASSES = (32, 64, 128, 256), 5
SPACING_MM = (1.0, 1.0, 1.0)
OURS, PEER = "segstudy", "MONAI"


def networks(patch: tuple[int, ...]) -> dict[str, nn.Module]:
    """Build our U-Net and MONAI's in both memory layouts, of the same size."""
    model = UnetModel(network="unet", channels=CHANNELS, deep_supervision=False)
    steps, kernels = topology(len(CHANNELS), patch, SPACING_MM)
    torch.manual_seed(0)
    found = {OURS: unet.build(model, 1, CLASSES, patch, SPACING_MM)}
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        name = PEER + (", channels last" if layout is torch.channels_last_3d else "")
        peer = DynUNet(3, 1, CLASSES, kernels, steps, steps[1:], filters=CHANNELS, trans_bias=True)
        found[name] = peer.to(memory_format=layout)
    return found


def step(network: nn.Module, images: Tensor, labels: Tensor, loss: Callable) -> None:
    """Run a network forth and back once, in mixed precision on a GPU."""
    network.zero_grad(set_to_none=True)
    with half_on(images.device):
        logits = network(images)
    loss(logits.float(), labels).backward()


def half_on(device: torch.device) -> torch.autocast:
    """Return mixed precision as our trainings have it on a GPU."""
    half = half_precision(device) if device.type == "cuda" else None
    return torch.autocast(device.type, half, enabled=half is not None)


def turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each call, on the wall and of the CPU; all take turns after one to warm up."""
    for call in calls.values():
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: tuple(statistics.median(part) for part in zip(*times, strict=True))
        for name, times in took.items()
    }


def main() -> int:
    """Print the table; return 1 where results differ, or a target is short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small patches: a smoke run")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    options = parser.parse_args()
    return compare(torch.device("cpu"), options.quick, options.rounds)


def compare(device: torch.device, quick: bool, rounds: int) -> int:
    """Print the table of what is measured on a device; return 1 where results differ, or a target is short."""
    patch = (32, 32, 32) if quick else (64, 64, 64) if device.type == "cpu" else (128, 128, 128)
    volume = (48, 48, 48) if quick else (128, 128, 96) if device.type == "cpu" else (160, 160, 96)
    rounds = 1 if quick else rounds
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((2, 1, *patch), generator=generator).to(device)
    labels = torch.randint(0, CLASSES, (2, *patch), generator=generator).to(device)
    logits = torch.randn((2, CLASSES, *patch), generator=generator).to(device)

    losses = {
        OURS: SegmentationLoss(Loss(), [f"structure{n}" for n in range(1, CLASSES)], device),
        PEER: lambda given, truth: peer_loss(given, truth[:, None]),
    }
    peer_loss = DiceCELoss(False, True, softmax=True, batch=True, lambda_dice=0.5, lambda_ce=0.5)
    values = {name: float(loss(logits, labels)) for name, loss in losses.items()}

    nets = {name: net.to(device) for name, net in networks(patch).items()}
    parameters = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    rows = [("step of the network", name, *took) for name, took in turns(
        {name: lambda net=net: step(net, images, labels, losses[OURS]) for name, net in nets.items()}, rounds
    ).items()]  # fmt: skip

    def loss_step(loss: Callable) -> None:
        given = logits.clone().requires_grad_()
        loss(given, labels).backward()

    rows += [("loss, forth and back", name, *took) for name, took in turns(
        {name: lambda loss=loss: loss_step(loss) for name, loss in losses.items()}, rounds
    ).items()]  # fmt: skip

    scan = torch.randn((1, *volume), generator=generator)
    net = nets[OURS].eval()
    ours = SlidingWindow(patch, 3)
    batch = ours.windows_per_batch(device)
    peer = SlidingWindowInferer(patch, batch, overlap=0.5, mode="gaussian")

    def peer_window() -> Tensor:
        with torch.inference_mode(), half_on(device):
            return peer(scan[None].to(device), lambda part: net(part).float().softmax(1))[0].cpu()

    windows = {
        OURS: lambda: torch.from_numpy(
            predict_volume(net, scan.numpy(), CLASSES, ours, device, amp=device.type == "cuda")
        ),
        PEER: peer_window,
    }
    alike = float((windows[OURS]().argmax(0) == windows[PEER]().argmax(0)).float().mean())
    rows += [("sliding window", name, *took) for name, took in turns(windows, rounds).items()]

    print(
        f"monai {monai.__version__}, torch {torch.__version__}, {device}, {torch.get_num_threads()} threads;"
    )
    print(f"patch {patch}, batch 2, {CHANNELS} channels, {CLASSES} classes; window over {volume}\n")
    print("| part | program | seconds (wall) | seconds (CPU) |\n|---|---|---|---|")
    for part, name, wall, cpu in rows:
        print(f"| {part} | {name} | {wall:.3f} | {cpu:.3f} |")
    print(f"\nparameters: {', '.join(f'{name} {count:,}' for name, count in parameters.items())}")
    print(f"loss of the same logits: {', '.join(f'{name} {v:.6f}' for name, v in values.items())}")
    print(f"voxels given the same class by both windows: {alike:.5f}")
    fine = abs(values[OURS] - values[PEER]) < 1e-5 and len(set(parameters.values())) == 1
    print()
    for part in dict.fromkeys(row[0] for row in rows):
        on_cpu = device.type == "cpu"
        times = {name: cpu if on_cpu else wall for of, name, wall, cpu in rows if of == part}
        ratio = min(took for name, took in times.items() if name != OURS) / times[OURS]
        told = f"{part}: times as fast as MONAI ({'CPU time' if on_cpu else 'time'}): {ratio:.2f}"
        if quick:
            print(told)
            continue
        print(f"target {told} (asked at least 1) {'ok' if ratio >= 1 else 'short'}")
        fine = fine and ratio >= 1
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
