"""Reading a DICOM series: segstudy's reader beside dcm2niix and a read of the NIfTI file that it writes.

A CT series of 512 x 512 slices of noise on a gradient, uncompressed, 16 bits, is written to a temporary folder. Each way
ends with the same float32 array, in a process of its own, whose peak memory is that of the reading alone. They take turns,
three times; the fastest counts.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUNDS = 3
MOST_TIME, MOST_MEMORY = 1.5, 2.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run on few small slices")
    parser.add_argument("--slices", type=int, default=900)
    parser.add_argument("--read", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(measured(*options.read)))
        return 0
    size, slices, rounds = (32, 12, 1) if options.quick else (512, options.slices, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "ct", size, slices)
        ways = ("segstudy", "dcm2niix")
        runs = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                command = [sys.executable, __file__, "--read", way, folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    return report(runs, size * size * slices * 4 / 2**20, options.quick)


def write(folder, size, slices):
    """Write the series, with names of files that do not sort as the slices lie."""
    from highdicom import UID
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir()
    draw = np.random.default_rng(0)
    base = np.add.outer(np.arange(size), np.arange(size)).astype(np.int16)
    study, series, frame = UID(), UID(), UID()
    for place in range(slices):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientID, one.PatientName = "phantom", "phantom"
        one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 1, place + 1
        one.ImageType, one.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "phantom"
        one.Rows = one.Columns = size
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelSpacing, one.SliceThickness = [0.75, 0.75], 1
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-190, -190, place]
        pixels = base + draw.integers(0, 200, (size, size), np.int16) + place % 7
        one.PixelData = pixels.tobytes()
        one.save_as(folder / f"{(place * 389) % 9973:05d}.dcm", enforce_file_format=True)


def measured(way, folder):
    """Read once; return seconds, peak memory in MiB and a sum of the voxels."""
    from segstudy.images.files import read_image

    folder = Path(folder)
    began = time.perf_counter()
    if way == "dcm2niix":
        out = folder / "out"
        out.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "dcm2niix", "-z", "n", "-b", "n", "-f", "ct", "-w", "1"]
        subprocess.run([*command, "-o", out, folder / "ct"], check=True, stdout=subprocess.DEVNULL)
        image = read_image(out / "ct.nii")
    else:
        image = read_image(folder / "ct")
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"seconds": seconds, "mb": peak, "sum": float(image.array.sum(dtype=np.float64))}


def report(runs, volume_mb, quick):
    """Print the table and the targets; return the exit code."""
    best = {way: min(run["seconds"] for run in found) for way, found in runs.items()}
    peak = {way: max(run["mb"] for run in found) for way, found in runs.items()}
    print("| way | seconds | peak memory (MiB) | volumes in float32 |\n|---|---|---|---|")
    for way in runs:
        print(f"| {way} | {best[way]:.2f} | {peak[way]:.0f} | {peak[way] / volume_mb:.2f} |")
    sums = {run["sum"] for found in runs.values() for run in found}
    same = "the same" if len(sums) == 1 else "DIFFERENT"
    print(f"\nsums of the voxels are {same}\n")
    time_ratio, memory = best["segstudy"] / best["dcm2niix"], peak["segstudy"] / volume_mb
    short = [time_ratio > MOST_TIME, memory > MOST_MEMORY, len(sums) > 1]
    for what, figure, asked, is_short in (
        ("time beside dcm2niix and reading NIfTI", time_ratio, MOST_TIME, short[0]),
        ("peak memory in volumes of float32", memory, MOST_MEMORY, short[1]),
    ):
        print(
            f"target {what}: {figure:.2f} (asked at most {asked}) {'short' if is_short else 'ok'}"
        )
    return int(any(short) and not quick)


if __name__ == "__main__":
    sys.exit(main())
