"""The lines of the profile that a user edits, edited for the test's cluster."""

from workspace import Workspace


def edit_profile(
    workspace: Workspace, *, gres: bool = False, every_gpu_model: bool = False
) -> None:
    """Uncomment partitions and a type of GPU, and with `gres` the lines that ask for a GPU that way; look at jobs sooner.

    The type is that of trainings, and with `every_gpu_model` that of predictions too.

    No GPU stands behind the partition, so that the job itself is told to use the CPU.
    """
    file = workspace.folder / "profiles" / "slurm" / "config.yaml"
    text = file.read_text()
    lines = ["- slurm_partition=cpu", "infer_predict: &prediction", "slurm_partition: gpu"]
    lines += ["infer_external: *prediction", "infer_plugin: *prediction"]
    lines += ["gpu: 0", "gres: \"'gpu:1'\""] if gres else []
    for line in lines:
        assert f"{line}\n" in text
        text = text.replace(f"# {line}\n", f"{line}\n")
    if not gres:
        count = -1 if every_gpu_model else 1
        text = text.replace("    # gpu_model: a100\n", "    gpu_model: fake\n", count)
    for rule in ("train_fit: &training", "infer_predict: &prediction"):
        text = text.replace(f"  {rule}\n", f"  {rule}\n    device: \"'cpu'\"\n")
    for told, sooner in (
        ("checks: 10", "checks: 6"),
        ("wait: 60", "wait: 10"),
        ("jobs: 100", "jobs: 4"),
    ):
        text = text.replace(f"{told}\n", f"{sooner}\n")
    file.write_text(text)
