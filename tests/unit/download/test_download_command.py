"""`segstudy download` as a rule calls it, in a process of its own."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from download_builders import decathlon, tar_of
from download_server import serve

from segstudy.cases import read_cases

STRUCTURES = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}


def segstudy(*arguments, folder):
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "segstudy", "download", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def fetch(source, folder, *more):
    return segstudy(
        *("fetch", "--dataset", "set", "--settings", json.dumps(source), "--output", "raw"),
        *more,
        folder=folder,
    )


def test_phantom_then_audit(tmp_path):
    source = {"layout": "phantom", "patients": 3, "size_voxels": [40, 40, 20]}
    structures = json.dumps(STRUCTURES)
    done = fetch(source, tmp_path, "--modality", "CT", "--structures", structures)
    assert done.returncode == 0, done.stderr
    dataset = {
        "source": source,
        "modality": "CT",
        "structures": STRUCTURES,
        "repair": {"structure": "heart", "reference_case": "Patient_02"},
    }
    done = segstudy(
        *("audit", "--dataset", "set", "--settings", json.dumps(dataset), "--raw", "raw"),
        *("--cases", "cases.tsv", "--problems", "problems.tsv", "--threads", 2),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    cases = read_cases(tmp_path / "cases.tsv")
    assert [case.case for case in cases] == ["Patient_01", "Patient_02", "Patient_03"]
    assert [bool(case.reference_label) for case in cases] == [False, True, False]
    assert all(min(case.voxels.values()) > 0 for case in cases)
    assert str(tmp_path) not in (tmp_path / "cases.tsv").read_text()
    assert (tmp_path / "problems.tsv").read_text() == "dataset\tcase\tfile\tproblem\tverdict\n"


def test_an_archive_with_its_licence_and_citation(tmp_path):
    content = tar_of(decathlon(tmp_path / "made"))
    with serve(content) as server:
        source = {
            "layout": "msd",
            "url": server.url,
            "md5": hashlib.md5(content).hexdigest(),
            "registered": "Task04_Hippocampus",
        }
        done = fetch(source, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "raw" / "dataset.json").exists()
    assert "CC-BY-SA 4.0" in done.stderr
    assert "Antonelli" in done.stderr


def test_a_wrong_checksum_is_one_clear_line_and_no_trace(tmp_path):
    with serve(tar_of(decathlon(tmp_path / "made"))) as server:
        done = fetch({"layout": "msd", "url": server.url, "md5": "0" * 32}, tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [text for text in done.stderr.splitlines() if "error" in text]
    assert "wrong MD5" in line
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"layout": "msd", "path": "here"}, "there is nothing to fetch"),
        ({"layout": "table", "path": "cases.tsv"}, "there is nothing to fetch"),
        ({"layout": "msd", "registered": "Task99"}, "unknown name 'Task99'"),
        ({"layout": "msd", "url": "http://127.0.0.1/a.tar"}, "a url needs its checksum"),
        ({"layout": "phantom", "patient": 3}, "did you mean patients?"),
        ([], "--settings"),
    ],
)
def test_wrong_settings_are_errors_in_words(tmp_path, source, words):
    done = fetch(source, tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_is_instant_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from segstudy.cli import main\n"
        "try: main(['download', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'nibabel', 'scipy', 'requests', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip().endswith("[]")
