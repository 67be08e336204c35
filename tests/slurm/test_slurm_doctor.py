"""`segstudy doctor` beside a cluster that answers."""

from segstudy.doctor import checks, facts


def test_partitions_are_those_of_the_cluster(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = facts.slurm(None)
    assert found.failed == ""
    assert found.partitions["cpu"][0]
    assert found.partitions["gpu"] == (True, True)
    assert checks.check_slurm(found).level == checks.OK


def test_a_partition_that_the_profile_names_and_the_cluster_lacks(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    profile = "set-resources:\n  train_fit: {slurm_partition: gpus}\n"
    (tmp_path / "mine" / "config.yaml").write_text(profile)
    found = checks.check_slurm(facts.slurm("mine"))
    assert found.level == checks.STOP
    assert "names gpus, and there are cpu, gpu" in found.line()
