"""How long figures and report take, from finished predictions, and how large the report is.

Makes a results folder of a synthetic study (tables as the stages write them, volumes as files) and
runs `segstudy publish figures` and `publish report` on it as the workflow does, with two processes.
There is no peer: no other tool draws these figures.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/unit/publish"))

import builder  # noqa: E402

from segstudy.cases import read_cases, write_cases  # noqa: E402

ASKED_S, ASKED_MB = 90.0, 30.0
FACTORS = (6, 6, 6)  # 40 x 36 x 12 voxels become 240 x 216 x 72


def build(root: Path, cases: int, models: int, structures: int, factors) -> Path:
    """The results folder and, beside it, the study as JSON; returns the latter."""
    names = ("liver", "spleen", "left_kidney", "right_kidney", "pancreas")[:structures]
    study = builder.study(
        models=tuple(f"model_{index}" for index in range(models)), structures=names, repair=False
    )
    builder.build(root, study, cases=cases)
    for path in root.rglob("*.nii.gz"):
        _enlarge(path, factors)
    table = root / "download/thorax/cases.tsv"
    grown = [
        replace(
            case,
            shape=tuple(int(a * b) for a, b in zip(case.shape, factors, strict=True)),
            voxels={name: int(n * np.prod(factors)) for name, n in case.voxels.items()},
        )
        for case in read_cases(table)
    ]
    write_cases(table, grown, study.channels)
    file = root.parent / "study.json"
    file.write_text(study.to_json())
    return file


def _enlarge(path: Path, factors) -> None:
    image = nibabel.load(path)
    array = np.asarray(image.dataobj)
    for axis, factor in enumerate(factors):
        array = array.repeat(factor, axis)
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)


def publish(root: Path, study: Path, processes: int) -> tuple[float, float]:
    """Wall and CPU seconds of figures and report."""
    known = ["--settings", f"@{study}", "--results", str(root)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for step in (
        ["figures", *known, "--output", str(root / "figures"), "--threads", str(processes)],
        [
            "report",
            *known,
            "--figures",
            str(root / "figures"),
            "--output",
            str(root / "report.html"),
        ],
    ):
        subprocess.run(
            [sys.executable, "-m", "segstudy", "publish", *step],
            check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")},
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run on a small study")
    quick = parser.parse_args().quick
    cases, models, structures = (4, 2, 2) if quick else (40, 4, 5)
    factors = (1, 1, 1) if quick else FACTORS
    with tempfile.TemporaryDirectory(prefix="segstudy-") as temporary:
        root = Path(temporary) / "results"
        study = build(root, cases, models, structures, factors)
        wall, cpu = publish(root, study, processes=2)
        megabytes = (root / "report.html").stat().st_size / 1e6
        drawn = len(list((root / "figures").glob("*.png")))
    shape = "x".join(str(a * b) for a, b in zip(builder.SHAPE, factors, strict=True))
    print("| cases | models | structures | volume | figures | wall (s) | CPU (s) | report (MB) |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {cases} | {models} | {structures} | {shape} | {drawn} | {wall:.1f} | {cpu:.1f} "
        f"| {megabytes:.1f} |\n"
    )
    short = False
    for what, figure, asked, unit in (
        ("figures and report on two cores", wall, ASKED_S, "s"),
        ("report", megabytes, ASKED_MB, "MB"),
    ):
        good = figure <= asked
        short |= not good
        print(
            f"target {what}: {figure:.1f} {unit} (asked at most {asked:g} {unit}) "
            f"{'ok' if good else 'short'}"
        )
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
