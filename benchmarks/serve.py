"""Serving a trained model: how long requests take, 50 uploads by 8 clients, and uploads that must be refused.

A service is started as a person starts it, with a small network whose weights are random or known: what counts is the way of a
request. A hippocampus-size image has 35 x 51 x 35 voxels of 1 mm; the CT 256 x 256 x 150 of 1.4 x 1.4 x 2 mm. A request's time is
from the first byte sent until the label map has been fetched, asked for its state every 50 ms. Needs the extra `serve`.
"""

import argparse
import contextlib
import gzip
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import nibabel
import numpy as np
import psutil

from segstudy.images.plan import Plan
from segstudy.networks import build
from segstudy.networks.weights import Trained, save_weights
from segstudy.study import UnetModel

REPOSITORY = Path(__file__).resolve().parents[1]


def write_model(path: Path, spacing_mm: float) -> None:
    """A 3D U-Net of 16-32-64-128 channels with random weights; two structures."""
    model = UnetModel(
        network="unet",
        dims=3,
        channels=(16, 32, 64, 128),
        patch_size=(64, 64, 64),
        device="cpu",
        infer={},
    )
    plan = Plan(
        spacing_mm=(spacing_mm,) * 3, crop="none", margin_mm=0, normalise="zscore", anisotropy_threshold=3, median_shape=(64, 64, 64)
    )  # fmt: skip
    network = build(model, 1, 3, model.patch_size, plan.spacing_mm)
    known = {"fold": 0, "training": [], "validation": []}
    save_weights(
        path,
        Trained(
            network, model, ("first", "second"), ("image",), plan.to_dict(), model.patch_size, known
        ),
    )


def image(shape, spacing_mm) -> bytes:
    """A noisy image as .nii.gz."""
    values = np.random.default_rng(0).normal(100, 30, shape).astype(np.int16)
    scan = nibabel.Nifti1Image(values, np.diag([*spacing_mm, 1.0]))
    scan.header.set_xyzt_units("mm")
    return gzip.compress(scan.to_bytes(), 1)


class Client:
    """Asks a service."""

    def __init__(self, address: str):
        self.address = address

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = ""
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def send(self, content: bytes, model: str) -> tuple[int, dict]:
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--{mark}\r\n'
        head += 'Content-Disposition: form-data; name="image"; filename="scan"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        status, told = self.ask(
            "POST", "/predictions", body, f"multipart/form-data; boundary={mark}"
        )
        return status, json.loads(told)

    def whole(self, content: bytes, model: str) -> tuple[float, str]:
        """Seconds until the label map is here, and how the prediction ended."""
        began = time.perf_counter()
        status, told = self.send(content, model)
        if status != 202:
            return time.perf_counter() - began, f"refused: {status}"
        while told["state"] in ("waiting", "running"):
            time.sleep(0.05)
            told = json.loads(self.ask("GET", f"/predictions/{told['id']}")[1])
        if told["state"] == "done":
            self.ask("GET", told["files"]["segmentation.nii.gz"])
        return time.perf_counter() - began, told["state"]


@contextlib.contextmanager
def service(folder: Path, models: list[Path], threads: int):
    """A service at a free port; yields a client and its process."""
    words = [sys.executable, "-m", "segstudy", "serve", *map(str, models), "--port", "0", "--folder", str(folder / "served"),
             "--threads", str(threads)]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline()
        found = re.match(r"http://\S+?/(?= )", line)
        if not found:
            raise SystemExit(f"the service did not start: {(folder / 'log').read_text()[-2000:]}")
        client = Client(found[0].rstrip("/"))
        yield client, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def memory_mb(process: psutil.Process) -> tuple[float, float]:
    """Resident memory of the service itself, and of the process that predicts."""
    children = process.children()
    return process.memory_info().rss / 2**20, sum(one.memory_info().rss for one in children) / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller images")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY / "tests"))
    faults = importlib.import_module("upload_faults").faults
    shapes = {"hippocampus": ((35, 51, 35), (1, 1, 1), 1 if options.quick else 5)}
    shapes["ct"] = (
        (64, 64, 40) if options.quick else (256, 256, 150),
        (1.4, 1.4, 2),
        1 if options.quick else 2,
    )
    short = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [folder / "hippocampus.pt", folder / "ct.pt"]
        write_model(models[0], 1.0)
        write_model(models[1], 2.0)
        with service(folder, models, options.threads) as (client, process):
            small, states = image((35, 51, 35), (1, 1, 1)), []
            number, clients = (10, 4) if options.quick else (50, 8)
            turns = iter(range(number))
            lock = threading.Lock()

            def work() -> None:
                while True:
                    with lock:
                        if next(turns, None) is None:
                            return
                    states.append(client.whole(small, "hippocampus"))

            before = memory_mb(process)
            began = time.perf_counter()
            print(f"{number} uploads by {clients} clients: ", end="", flush=True)
            threads = [threading.Thread(target=work) for _ in range(clients)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            took = time.perf_counter() - began
            after = memory_mb(process)
            done = sum(state == "done" for _, state in states)
            print(f"{done} done in {took:.1f} s, longest {max(one for one, _ in states):.1f} s; "
                  f"memory of the service {before[0]:.0f} to {after[0]:.0f} MB, of the process that predicts {before[1]:.0f} to {after[1]:.0f} MB\n")  # fmt: skip

            print("| upload | status | answer |\n|---|---|---|")
            wrong = 0
            for fault in faults():
                status, told = client.send(fault.content, "hippocampus")
                wrong += status != fault.status or fault.told not in told.get("detail", "")
                more = " ".join(
                    f"{key.capitalize()}: {told[key]}."
                    for key in ("found", "expected")
                    if told.get(key)
                )
                print(
                    f"| {fault.name} | {status} | {told.get('detail', '')} {more} |".replace(
                        "\\", "\\\\"
                    )
                )
            print()
            print("| request | voxels | n | median (s) | all (s) |\n|---|---|---|---|---|")
            for model, (shape, spacing, times) in shapes.items():
                content = image(shape, spacing)
                found = [client.whole(content, model) for _ in range(times)]
                seconds = [one for one, _ in found]
                short += any(state != "done" for _, state in found)
                print(f"| {model} | {'x'.join(map(str, shape))} | {times} | {statistics.median(seconds):.2f} | "
                      f"{', '.join(f'{one:.2f}' for one in seconds)} |", flush=True)  # fmt: skip
            text = client.ask("GET", "/metrics")[1].decode()
            failed = sum(
                int(n)
                for n in re.findall(
                    r'http_requests_total\{method="\w+",status="5\d\d"\} (\d+)', text
                )
            )
    for what, value, asked, good in [
        ("uploads by many clients that were answered", done, f"{number}", done == number),
        ("refused uploads with another answer than expected", wrong, "0", wrong == 0),
        ("answers 5xx", failed, "0", failed == 0),
    ]:
        short += not good
        print(f"target {what}: {value} (asked {asked}) {'ok' if good else 'short'}")
    return int(short > 0)


if __name__ == "__main__":
    raise SystemExit(main())
