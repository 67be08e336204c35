"""The whole tiny study on a SLURM cluster: what each job was, and what SLURM says it was given."""

import json
import re
import subprocess
from collections import Counter

import pytest

from builders import tiny_study, write_cohort
from user_profile import edit_profile
from workspace import Workspace


@pytest.fixture(scope="module")
def finished(slurm, slurm_jobs, tmp_path_factory):
    """The study's workspace, Snakemake's run, and SLURM's jobs by rule and model."""
    folder = tmp_path_factory.mktemp("study")
    study = tiny_study(write_cohort(folder / "data", 4))
    study["splits"]["run_folds"] = [0]
    study["models"]["shared"] = study["models"]["deep"] | {"device": "auto", "gpus": 2}
    study["models"]["flat"].update(device="auto", memory_mb=1700, runtime_min=25, threads=2)
    workspace = Workspace(folder, study)
    edit_profile(workspace)
    before = {job["JobId"] for job in slurm_jobs()}
    run = workspace.run("--profile", "slurm", "--cores", "2")
    return workspace, run, [job for job in slurm_jobs() if job["JobId"] not in before]


def of(jobs: list[dict], rule: str, wildcards: str = "") -> dict:
    found = [job for job in jobs if job.get("Comment", "").startswith(f"rule_{rule}")]
    return next(job for job in found if wildcards in job["Comment"])


def test_it_ends_with_a_report(finished):
    workspace, _, _ = finished
    assert (workspace.results / "report.html").stat().st_size > 10_000
    assert not workspace.dry_run().jobs


def test_every_rule_is_a_job_of_its_own_but_the_local_ones(finished):
    _, run, jobs = finished
    submitted = Counter(
        re.sub(r"_wildcards_.*", "", job["Comment"]).removeprefix("rule_") for job in jobs
    )
    local = set(re.findall(r"^local(?:rule|checkpoint) (\w+):", run.text, re.MULTILINE))
    lists = {f"preprocess_list_{what}" for what in ("fingerprints", "arrays", "images", "labels")}
    short = {"download_list", "preprocess_folds", "preprocess_split", "preprocess_plan"}
    short |= {"metrics_collect"}
    assert local - {"default", "all"} == lists | short
    assert submitted == Counter({rule: n for rule, n in run.jobs.items() if rule not in local})
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}


@pytest.mark.parametrize(
    ("rule", "gpu"), [("train_fit", "gres:gpu:fake:1"), ("infer_predict", "gres:gpu:1")]
)
def test_a_gpu_job_is_given_the_gpu_and_what_the_study_says(finished, rule, gpu):
    job = of(finished[2], rule, "_flat_")
    given = dict(part.split("=") for part in job["TRES"].split(","))
    assert job["Partition"] == "gpu"
    assert job["TresPerJob"] == gpu
    assert given["cpu"] == "2"
    assert given["mem"] == "1700M"
    assert job["TimeLimit"] == "00:25:00"


def test_a_training_on_two_gpus_is_given_two_on_one_node(finished):
    workspace, _, jobs = finished
    job = of(jobs, "train_fit", "_shared_")
    given = dict(part.split("=") for part in job["TRES"].split(","))
    assert job["TresPerJob"] == "gres:gpu:fake:2"
    assert (job["NumNodes"], given["cpu"], given["mem"]) == ("1", "2", "3000M")
    trained = workspace.results / "train" / "shared" / "fold-0" / "seed-0" / "settings.json"
    assert json.loads(trained.read_text())["processes"] == 2
    assert of(jobs, "infer_predict", "_shared_")["TresPerJob"] == "gres:gpu:1"


def test_a_model_on_the_cpu_is_given_no_gpu(finished):
    job = of(finished[2], "train_fit", "_deep_")
    assert not {"TresPerJob", "TresPerNode"} & set(job)
    assert "mem=1500M" in job["TRES"]


def test_the_other_jobs_are_in_the_cpu_partition(finished):
    for job in finished[2]:
        if not job["Comment"].startswith(("rule_train", "rule_infer")):
            assert job["Partition"] == "cpu"
            assert not {"TresPerJob", "TresPerNode"} & set(job)


def test_a_gpu_by_gres(finished, slurm_jobs):
    workspace, _, _ = finished
    edit_profile(workspace, gres=True)
    before = {job["JobId"] for job in slurm_jobs()}
    arguments = ("--profile", "slurm", "--cores", "2", "--until", "train")
    workspace.run(*arguments, "--forcerun", "train_fit")
    job = of([job for job in slurm_jobs() if job["JobId"] not in before], "train_fit", "_flat_")
    assert "TresPerJob" not in job
    assert job["TresPerNode"] == "gres:gpu:1"


def test_what_slurm_says_is_what_a_user_is_told(finished):
    """A partition that is not there: SLURM's own words, and no job is lost without a trace."""
    workspace = finished[0]
    file = workspace.folder / "profiles" / "slurm" / "config.yaml"
    file.write_text(file.read_text().replace("slurm_partition=cpu", "slurm_partition=nowhere"))
    arguments = ("--profile", "slurm", "--cores", "2", "--retries", "0")
    run = workspace.run(
        *arguments, "--forcerun", "statistics", "--until", "statistics", check=False
    )
    assert run.returncode == 1
    assert "invalid partition specified: nowhere" in run.text


def test_nothing_is_left_in_the_queue(finished):
    queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    assert queue.stdout == ""
