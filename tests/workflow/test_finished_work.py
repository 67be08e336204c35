"""A training or prediction that would end with the same bytes is taken from what was kept; whose results a folder holds."""

import copy
import re
import shutil

import pytest

from builders import tiny_study, write_cohort
from workspace import Workspace

pytestmark = pytest.mark.slow

TAKEN = "made before of the same settings, data and code"


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Workspace:
    """One network, trained on one fold; its study file is read from beside the results."""
    folder = tmp_path_factory.mktemp("finished") / "first"
    study = tiny_study(write_cohort(folder / "data", 4, moved=False), moved=False)
    study["splits"]["run_folds"] = [0]
    study["models"] = {"flat": study["models"]["flat"]}
    workspace = Workspace(folder, study)
    run = workspace.run("--until", "infer")
    assert (run.jobs["train_fit"], run.jobs["infer_predict"]) == (1, 1)
    assert TAKEN not in run.text
    return workspace


def copied(workspace: Workspace, folder, keep_times=True) -> Workspace:
    """The workspace as it is, in another folder; its data stay where they are."""
    copy_function = shutil.copy2 if keep_times else shutil.copyfile
    shutil.copytree(workspace.folder, folder, symlinks=True, copy_function=copy_function)
    other = copy.copy(workspace)
    other.folder, other.data = folder, folder / "data"
    other.study = copy.deepcopy(workspace.study)
    return other


def made(workspace: Workspace) -> dict[str, bytes]:
    """Weights and predictions, by file."""
    results = workspace.results
    files = [*results.glob("train/**/*.pt"), *results.glob("infer/**/*.nii.gz")]
    assert len(files) == 2 + 2
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


def taken(workspace: Workspace) -> dict[str, bool]:
    """Whether the training and the prediction were taken from what was kept, by their logs."""
    logs = {stage: workspace.results.glob(f"logs/{stage}/*.log") for stage in ("train", "infer")}
    return {stage: TAKEN in next(found).read_text() for stage, found in logs.items()}


def test_data_elsewhere_in_longer_jobs_that_lost_the_times_of_their_files(first, tmp_path):
    """None of the three by itself either: tests/unit/train/test_finished_training.py."""
    workspace = copied(first, tmp_path / "moved and copied", keep_times=False)
    workspace.data.rename(workspace.folder / "scans")
    chest = workspace.study["datasets"]["chest"]
    chest["source"]["path"] = str(workspace.folder / "scans" / "cohort.tsv")
    chest["cases_per_job"] = 4
    workspace.write_study(workspace.study)
    jobs = workspace.run("--until", "infer").jobs
    names = ("download_audit", "preprocess_resample", "train_fit", "infer_predict")
    assert [jobs[name] for name in names] == [1, 1, 1, 1]
    assert taken(workspace) == {"train": True, "infer": True}
    assert made(workspace) == made(first)
    assert not workspace.dry_run("--until", "infer").jobs


def test_settings_there_and_back_train_once(first, tmp_path):
    workspace = copied(first, tmp_path / "back")
    workspace.study["models"]["flat"]["epochs"] = 2
    workspace.write_study(workspace.study)
    workspace.run("--until", "infer")
    assert taken(workspace) == {"train": False, "infer": False}
    assert made(workspace) != made(first)
    workspace.write_study(first.study)
    workspace.run("--until", "infer")
    assert taken(workspace) == {"train": True, "infer": True}
    assert made(workspace) == made(first)
    assert not workspace.dry_run("--until", "infer").jobs


def test_nothing_is_kept_where_the_setting_says_so(first, tmp_path):
    workspace = copied(first, tmp_path / "none")
    config = ("--config", "study=tiny", "keep_finished_gb=0")
    workspace.run("--until", "infer", "--forcerun", "train_fit", *config)
    assert taken(workspace) == {"train": False, "infer": False}
    assert made(workspace) == made(first)
    assert not (workspace.results / ".finished").exists()


# --- whose results ------------------------------------------------------------------------------


def second(workspace: Workspace, folder: str, table=None) -> str:
    """The same study file in another folder, for the data of another table where one is given."""
    file = workspace.folder / folder / "tiny.yaml"
    file.parent.mkdir()
    text = (workspace.folder / "config/studies/tiny.yaml").read_text()
    if table:
        text = re.sub(r"path: .*cohort\.tsv", f"path: {table}", text)
    file.write_text(text)
    return f"study={folder}/tiny.yaml"


def test_the_same_study_in_another_place_goes_on_with_a_note(first, tmp_path):
    workspace = copied(first, tmp_path / "adopted")
    study = second(workspace, "my")
    run = workspace.run("--until", "infer", "--config", study)
    assert "has the same name and the same data" in run.text
    # The folds go over into a file beside this study file; what was made for them is taken.
    assert (run.jobs["preprocess_folds"], run.jobs["preprocess_split"]) == (1, 1)
    assert not run.jobs["download_audit"]
    again = run.jobs["train_fit"] + run.jobs["infer_predict"]
    assert run.text.count("made before of the same settings") == again


def test_another_study_of_the_same_name_is_refused(first, tmp_path):
    workspace = copied(first, tmp_path / "refused")
    table = write_cohort(workspace.folder / "other data", 3, moved=False)
    study = second(workspace, "other", table)
    before = made(workspace)
    run = workspace.run("--config", study, check=False)
    assert run.returncode
    assert not run.jobs
    assert "results/tiny: holds the results of" in run.text
    assert "Give it a name of its own (`name: ...`" in run.text
    assert "Traceback" not in run.text
    assert made(workspace) == before
    assert workspace.dry_run("--config", study, "adopt=true").jobs["download_audit"] == 1


def test_other_data_in_the_same_study_file_go_on(first, tmp_path):
    workspace = copied(first, tmp_path / "changed")
    table = write_cohort(workspace.folder / "other data", 3, moved=False)
    workspace.study["datasets"]["chest"]["source"]["path"] = str(table)
    workspace.write_study(workspace.study)
    assert workspace.dry_run("--until", "infer").jobs["download_audit"] == 1
