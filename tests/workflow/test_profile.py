"""What a cluster would be asked for."""

import re
import shutil
import subprocess
import sys

import pytest

from builders import tiny_study, write_cohort
from user_profile import edit_profile
from workspace import REPOSITORY, Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("profile")
    study = tiny_study(write_cohort(folder / "data", 2, moved=False), moved=False)
    study["models"]["deep"].update(device="auto", threads=3, memory_mb=7000, runtime_min=90)
    study["models"]["shared"] = study["models"]["deep"] | {"gpus": 2}
    workspace = Workspace(folder, study)
    return workspace.run("--dry-run", "--profile", "slurm", "--cores", "8").text


def resources(text: str, rule: str, model: str = "") -> dict[str, str]:
    """Resources and threads of a rule's job, for a model, as the dry run prints them."""
    for block in re.split(r"\n(?=(?:local)?(?:rule|checkpoint) )", text):
        if block.startswith(f"rule {rule}:") and (not model or f"model={model}" in block):
            found = dict(re.findall(r"(\w+)=([^,\s]*)", re.search(r"resources: (.*)", block)[1]))
            threads = re.search(r"threads: (\d+)", block)
            return {**found, "threads": threads[1] if threads else "1"}
    raise AssertionError(f"no job {rule} of {model} in:\n{text[-3000:]}")


def test_a_training_job_asks_for_gpu_memory_time_and_cpus(dry_run):
    asked = resources(dry_run, "train_fit", "deep")
    assert asked["gpu"] == "1"
    assert asked["mem_mb"] == "7000"
    assert asked["runtime"] == "90"
    assert asked["threads"] == "3"


def test_a_training_on_two_gpus_asks_for_twice_as_much_of_one_node(dry_run):
    asked = resources(dry_run, "train_fit", "shared")
    names = ("gpu", "processes", "nodes", "mem_mb", "threads", "runtime")
    assert [asked[name] for name in names] == ["2", "2", "1", "14000", "6", "90"]
    assert resources(dry_run, "infer_predict", "shared")["gpu"] == "1"


def test_a_job_on_the_cpu_asks_for_no_gpu(dry_run):
    assert resources(dry_run, "train_fit", "flat")["gpu"] == "0"


@pytest.fixture(scope="module")
def edited_dry_run(tmp_path_factory) -> str:
    """A model of each kind with a GPU and on the CPU, and a profile in which partitions and a type of GPU are named."""
    folder = tmp_path_factory.mktemp("edited")
    study = tiny_study(write_cohort(folder / "data", 2, moved=False), moved=False)
    labels = {"heart": 10, "aorta": 20}
    on_cpu = {
        "fit": study["models"]["deep"],
        "synth": study["models"]["deep"] | {"trainer": "synth"},
        "plugin": {"trainer": "./grey_values.py", "device": "cpu"},
        "external": {"trainer": "external", "command": "cp {image} {output}", "labels": labels},
    }
    study["datasets"]["chest"]["modality"] = "MR"
    study["models"] = {
        f"{kind}_{device}": model | {"device": device}
        for kind, model in on_cpu.items()
        for device in ("cpu", "cuda")
    }
    workspace = Workspace(folder, study)
    studies = workspace.folder / "config" / "studies"
    shutil.copy(REPOSITORY / "resources" / "plugins" / "grey_values.py", studies)
    edit_profile(workspace, every_gpu_model=True)
    return workspace.run("--dry-run", "--profile", "slurm", "--cores", "8").text


@pytest.mark.parametrize(
    ("rule", "kind"),
    [(f"train_{kind}", kind) for kind in ("fit", "synth", "plugin")]
    + [("infer_predict", "synth"), ("infer_plugin", "plugin"), ("infer_external", "external")],
)
def test_a_type_of_gpu_is_asked_for_by_jobs_of_each_rule_that_use_one(edited_dry_run, rule, kind):
    with_gpu, on_cpu = (
        resources(edited_dry_run, rule, f"{kind}_{device}") for device in ("cuda", "cpu")
    )
    assert (with_gpu["gpu"], with_gpu["gpu_model"]) == ("1", "fake")
    assert on_cpu["gpu"] == "0"
    assert not on_cpu["gpu_model"]
    assert with_gpu["slurm_partition"] == on_cpu["slurm_partition"] == "gpu"
    assert ("slurm_extra" in with_gpu) == rule.startswith("train")


def test_memory_and_time_follow_from_the_images(tmp_path):
    """The audit's table says how large they are, here larger than they are."""
    study = tiny_study(write_cohort(tmp_path / "data", 2, moved=False), moved=False)
    for model in study["models"].values():
        model.pop("memory_mb")
    workspace = Workspace(tmp_path, study)
    workspace.run("download")
    table = workspace.results / "download" / "chest" / "cases.tsv"
    asked = {}
    for shape in ("64x64x32", "512x512x200"):
        table.write_text(re.sub(r"\d+x\d+x\d+", shape, table.read_text()))
        text = workspace.run("--dry-run").text
        asked[shape] = {
            rule: {key: int(resources(text, rule)[key]) for key in ("mem_mb", "runtime")}
            for rule in ("preprocess_fingerprint", "train_fit", "infer_predict")
        }
    small, large = asked.values()
    image_mb = 4e-6 * 512 * 512 * 200
    assert large["preprocess_fingerprint"] == {
        "mem_mb": round(500 + 5 * image_mb),
        "runtime": round(10 + 0.02 * 2 * image_mb),
    }
    assert small["preprocess_fingerprint"]["mem_mb"] < 510
    for rule in ("train_fit", "infer_predict"):
        assert large[rule]["mem_mb"] > small[rule]["mem_mb"] + image_mb


def test_what_needs_a_network_can_be_run_by_itself():
    """`make fetch` asks for it where there is a network. That it is never a job of SLURM is shown on SLURM."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "download_all", "--dry-run", "--nocolor"),
            *("--profile", "slurm", "--config", "study=hippocampus", "results=nowhere"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    jobs = re.findall(r"^(?:rule|checkpoint) (\w+):$", run.stdout + run.stderr, re.MULTILINE)
    assert jobs == ["download_fetch", "download_all"]


def test_the_profile_has_no_key_that_snakemake_does_not_know():
    """A misspelt key is an error of Snakemake's; a misspelt nested key vanishes, hence the tests above."""
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "slurm", "--dry-run", "--quiet", "all"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_job_arrays_that_would_lose_shards_are_refused(tmp_path):
    """All that is wrong is told at once; each by itself: tests/unit/jobs/test_targets.py."""
    workspace = Workspace(tmp_path, tiny_study(write_cohort(tmp_path / "data", 2)))
    arrays = ("--slurm-array-jobs", "repair_apply", "--slurm-pass-command-as-script")
    run = workspace.run("--profile", "slurm", *arrays, check=False)
    assert run.returncode == 1
    wrong = (
        "slurm-array-limit: 1000, slurm-pass-command-as-script: True, jobs: 100, "
        "max-jobs-per-timespan: 10/1.0s"
    )
    assert f"slurm-array-jobs with {wrong}: shards would be lost" in run.text
    assert not workspace.results.exists()


def test_groups_that_snakemake_submits_again_and_again_are_refused(tmp_path):
    workspace = Workspace(tmp_path, tiny_study(write_cohort(tmp_path / "data", 2)))
    groups = ("--groups", "repair_apply=all", "--group-components", "all=2")
    run = workspace.run("--profile", "slurm", *groups, check=False)
    assert run.returncode == 1
    assert "group-components: Snakemake would submit the same shards again" in run.text
    assert not workspace.results.exists()


CHAIN = """
rule end:
    input: "middle"
    output: "end"
    shell: "cat {input} > {output}"
rule middle:
    input: "begin"
    output: "middle"
    shell: "test ! -e fail; cat {input} > {output}"
rule begin:
    output: "begin"
    params: config["value"]
    shell: "echo {params} > {output}"
"""


def test_what_failed_in_the_middle_is_made_by_the_next_run(tmp_path):
    """Snakemake remembers the inputs of a job that failed, and by itself has nothing to do then."""
    (tmp_path / "Snakefile").write_text(CHAIN)
    profile = str(REPOSITORY / "profiles" / "default")

    def run(value):
        words = ["--cores", "1", "--workflow-profile", profile, "end", "--config", f"value={value}"]
        command = [sys.executable, "-m", "snakemake", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert run(1) == 0
    (tmp_path / "fail").touch()
    assert run(2) == 1
    (tmp_path / "fail").unlink()
    assert run(2) == 0
    assert (tmp_path / "end").read_text() == "2\n"
