"""`segstudy serve` as a person starts it: a DICOM series on its page in Chromium, and kill -9 in the middle of a job."""

import base64
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from dicom_series import PATIENT, PATIENT_ID, write_series
from known_network import LEVELS, write_weights
from segstudy.images.files import read_label
from segstudy.serve.problems import RESEARCH_USE

for needed in ("fastapi", "uvicorn", "python_multipart"):
    pytest.importorskip(needed, reason="needs the extra serve: pip install 'segstudy[serve]'")

pytestmark = pytest.mark.slow
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SWITCHES = (
    *("--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-dev-shm-usage"),
    *("--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader"),
)  # fmt: skip
# Axes that run to the left, the back and the head, a little oblique.
AFFINE = np.eye(4)
AFFINE[:3, :3] = np.diag([-0.9, -0.9, 2.5])
_turn = np.deg2rad(7)
AFFINE[:3, :3] = [
    [np.cos(_turn), 0, np.sin(_turn)],
    [0, 1, 0],
    [-np.sin(_turn), 0, np.cos(_turn)],
] @ AFFINE[:3, :3]
AFFINE[:3, 3] = (31.5, 40.25, -27.75)


def wait_for(is_so, seconds=900):
    for _ in range(seconds * 10):
        if found := is_so():
            return found
        time.sleep(0.1)
    raise AssertionError(is_so())


class Served:
    """A service at a free port of this machine, with a network whose answer is known."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.model = write_weights(
            folder / "balls.pt",
            patch_size=(16, 16, 16),
            infer={"overlap": 0.75, "mirror_axes": ()},
        )
        self.start()

    def start(self):
        words = ["serve", str(self.model), "--port", "0", "--threads", "1", "--device", "cpu"]
        words += ["--folder", str(self.folder / "served")]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "segstudy", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()
        assert line, self.log
        self.address = line.split("/  ")[0]

    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.process.pid).children()
        return worker

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, method, path, body=None, kind=""):
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def told(self, name):
        return json.loads(self.ask("GET", f"/predictions/{name}"))

    def send(self, content: bytes) -> str:
        body = b'--a\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        body += content + b"\r\n--a--\r\n"
        answer = self.ask("POST", "/predictions", body, "multipart/form-data; boundary=a")
        return json.loads(answer)["id"]

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.end()
    assert "Traceback" not in served.log
    assert "Mustermann" not in served.log
    assert "image_0000" not in served.log  # nor any place on the disk


def ball(shape, affine, radius_mm=17.0):
    """Signed distance (mm) to a ball's surface in the middle, positive inside, at each voxel."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T
    centre = affine[:3, :3] @ (np.array(shape) / 2)
    return radius_mm - np.linalg.norm(places - centre, axis=-1)


def bright(inside):
    """A shell and a core as the network knows them, with partial volume at their surfaces."""
    return 500 * np.clip(0.5 + inside / 1.5, 0, 1) + 500 * np.clip(0.5 + (inside - 8) / 1.5, 0, 1)


# --- kill -9 --------------------------------------------------------------------------------------


def test_kill_9_of_the_service_in_the_middle_of_a_job(served):
    """Started again, it finishes what it was predicting and what waited, as if nothing had been."""
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    inside = ball((60, 60, 60), affine)
    scan = nibabel.Nifti1Image(bright(inside).astype(np.float32), affine)
    scan.header.set_xyzt_units("mm")
    names = [served.send(scan.to_bytes()) for _ in range(2)]
    wait_for(lambda: (served.told(names[0])["progress"] or {}).get("fraction"))
    assert served.told(names[1])["state"] == "waiting"
    worker = served.worker()
    served.end(signal.SIGKILL)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    served.start()
    told = [wait_for(lambda name=name: _ended(served.told(name))) for name in names]
    assert [one["state"] for one in told] == ["done", "done"]
    assert f"prediction {names[0]} was cut off, and is done again" in served.log
    first, second = (served.ask("GET", one["files"]["segmentation.nii.gz"]) for one in told)
    assert first == second
    label = np.asanyarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(first)).dataobj)
    for value, truth in enumerate(truths(bright(inside)).values(), 1):
        assert alike(label == value, truth) > 0.95
    assert not list((served.folder / "served").rglob("image_0000.nii"))
    assert json.loads(served.ask("GET", "/health"))["status"] == "ok"


def test_kill_9_of_the_process_that_predicts(served):
    """The image tells why it failed; the next has a new process."""
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    scans = [
        nibabel.Nifti1Image(bright(ball((size,) * 3, affine, 0.25 * size)).astype(np.float32), affine)
        for size in (60, 24)
    ]  # fmt: skip
    names = [served.send(scan.to_bytes()) for scan in scans]
    wait_for(lambda: (served.told(names[0])["progress"] or {}).get("fraction"))
    served.worker().kill()
    killed, done = (wait_for(lambda name=name: _ended(served.told(name))) for name in names)
    assert killed["state"] == "failed"
    assert "ended on this image (signal SIGKILL)" in killed["problem"]
    assert done["state"] == "done"
    assert json.loads(served.ask("GET", "/health"))["status"] == "ok"


def _ended(told):
    return told if told["state"] in ("done", "failed") else None


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A DICOM series of a shell and a core, and the truth (i, j, k)."""
    inside = ball((48, 44, 16), AFFINE)
    values = np.rint(bright(inside)).astype(np.int16)
    folder = write_series(tmp_path_factory.mktemp("dicom") / "series", values, AFFINE)
    return folder, values


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if BROWSER is None:
        pytest.skip("no browser: install chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=list(SWITCHES))
        yield browser
        browser.close()


def zip_of(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{PATIENT}/{path.name}")
    return content.getvalue()


DROP = """([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def test_a_zipped_series_dropped_on_the_page(served, series, browser, tmp_path):
    """Dropped, sent by the keyboard, shown; on 390 px, too; what is downloaded has the series' geometry and the structures' names."""
    pytest.importorskip("highdicom", reason="needs the extra dicom")
    folder, values = series
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(900_000)
    page = context.new_page()
    said, asked = [], []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda one: one.type == "error" and said.append(one.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.address)
    page.locator("#go").wait_for()
    assert RESEARCH_USE in page.inner_text("body")
    page.evaluate(DROP, [base64.b64encode(zip_of(folder)).decode(), f"{PATIENT}.zip"])
    page.locator("#go").focus()
    page.keyboard.press("Enter")
    page.locator("#result").wait_for()
    rows = page.locator("#volumes tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["shell", "core"]
    # The result has the focus, and each control is reached by the keyboard.
    assert page.evaluate("document.activeElement.id") == "result"
    page.locator("#shown").filter(has_text=re.compile("patient's right|Not shown")).wait_for()
    assert "patient's right" in page.inner_text("#shown")
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {"volumes", "Download DICOM-SEG", "view", "opacity", "canvas"} <= {*reached}
    files = {}
    for name in ("NIfTI", "3D Slicer (.seg.nrrd)", "DICOM-SEG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {name}").click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if os.environ.get("SEGSTUDY_SHOTS"):
        page.screenshot(path=f"{os.environ['SEGSTUDY_SHOTS']}/page_390.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.screenshot(path=f"{os.environ['SEGSTUDY_SHOTS']}/page_1280.png", full_page=True)
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((served.address, "blob:", "data:"))] == []
    assert "Mustermann" not in " ".join(map(str, asked))
    volumes = {row.split()[0]: float(row.split()[1]) for row in rows}
    check_slicer(files["3D Slicer (.seg.nrrd)"], folder, values, volumes)
    check_dicom(files["DICOM-SEG"], folder, values, volumes)
    assert set(np.unique(read_label(files["NIfTI"]).array)) == {0, 1, 2}


def truths(values):
    """Structure -> its voxels (i, j, k), by the levels that the network compares with."""
    core = values >= 1000 * LEVELS[1]
    return {"shell": (values >= 1000 * LEVELS[0]) & ~core, "core": core}


def alike(found, truth) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def check_slicer(path, folder, values, volumes):
    """Placed and named as SimpleITK reads it, beside the series as SimpleITK reads that."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    scan, label = sitk.ReadImage(names), sitk.ReadImage(str(path))
    np.testing.assert_allclose(sorted(label.GetSpacing()), sorted(scan.GetSpacing()), atol=1e-4)
    corners = [
        [one.TransformIndexToPhysicalPoint([x, y, z]) for x in (0, one.GetWidth() - 1)
         for y in (0, one.GetHeight() - 1) for z in (0, one.GetDepth() - 1)]
        for one in (scan, label)
    ]  # fmt: skip
    np.testing.assert_allclose(*(np.sort(np.array(one), axis=0) for one in corners), atol=1e-3)
    same = sitk.Resample(label, scan, sitk.Transform(), sitk.sitkNearestNeighbor)
    array = sitk.GetArrayFromImage(same)
    intensities = sitk.GetArrayFromImage(scan)
    for number, name in enumerate(truths(values)):
        assert label.GetMetaData(f"Segment{number}_Name") == name
        value = int(label.GetMetaData(f"Segment{number}_LabelValue"))
        assert alike(array == value, truths(intensities)[name]) > 0.85
        volume = (array == value).sum() * np.prod(scan.GetSpacing()) / 1000
        assert volume == pytest.approx(volumes[name], rel=2e-3)


def check_dicom(path, folder, values, volumes):
    """Placed, named and referring as highdicom reads it, beside the series as highdicom reads that."""
    import highdicom
    import pydicom

    slices = [pydicom.dcmread(one) for one in sorted(folder.iterdir())]
    scan = highdicom.get_volume_from_series(slices)
    read = highdicom.seg.segread(path)
    assert read.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (read.PatientID, read.StudyInstanceUID) == (PATIENT_ID, slices[0].StudyInstanceUID)
    assert read.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    referred = {
        str(one.ReferencedSOPInstanceUID)
        for one in read.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referred <= {str(one.SOPInstanceUID) for one in slices}
    labels = {one.SegmentLabel: one.SegmentNumber for one in read.SegmentSequence}
    assert list(labels) == ["shell", "core"]
    found = read.get_volume(combine_segments=True).match_geometry(scan)
    assert found.geometry_equal(scan, tol=1e-3)
    for name, number in labels.items():
        assert alike(found.array == number, truths(scan.array)[name]) > 0.85
        volume = (found.array == number).sum() * np.prod(scan.spacing) / 1000
        assert volume == pytest.approx(volumes[name], rel=2e-3)
