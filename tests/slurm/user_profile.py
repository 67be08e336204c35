"""The lines of the profile that a user edits, edited for the test's cluster."""

from workspace import Workspace


def edit_profile(workspace: Workspace, *, gres: bool = False) -> None:
    """Uncomment partitions, and with `gres` the lines that ask for a GPU that way; look at jobs sooner."""
    file = workspace.folder / "profiles" / "slurm" / "config.yaml"
    text = file.read_text()
    lines = ["- slurm_partition=cpu", "infer_predict:", "slurm_partition: gpu"]
    lines += ["gpu: 0", "gres: \"'gpu:1'\""] if gres else []
    for line in lines:
        assert f"{line}\n" in text
        text = text.replace(f"# {line}\n", f"{line}\n")
    for told, sooner in (
        ("checks: 10", "checks: 6"),
        ("wait: 60", "wait: 10"),
        ("jobs: 100", "jobs: 4"),
    ):
        text = text.replace(f"{told}\n", f"{sooner}\n")
    file.write_text(text)
