"""Where rules, profiles and tables are found, and what of the package jobs get to see."""

from segstudy import shipped
from segstudy.jobs.options import fill_in


def test_all_that_is_named_is_there():
    for path in (shipped.SNAKEFILE, shipped.CONFIG, shipped.LOCK, shipped.PROFILES / "slurm"):
        assert path.exists(), path
    assert (shipped.STUDIES / "demo.yaml").is_file()
    assert (shipped.RESOURCES / "labels" / "freesurfer.tsv").is_file()


def test_jobs_see_the_package_and_nothing_beside_it(tmp_path, monkeypatch):
    assert shipped.alone(tmp_path) == shipped.PACKAGE.parent, "a clone's workflow/ holds no library"
    installed = tmp_path / "site-packages" / "segstudy"
    (installed / "_shipped").mkdir(parents=True)
    (tmp_path / "site-packages" / "numpy").mkdir()
    monkeypatch.setattr(shipped, "PACKAGE", installed)
    for _ in range(2):
        place = shipped.alone(tmp_path / "work")
        assert [path.name for path in place.iterdir()] == ["segstudy"]
        assert (place / "segstudy").resolve() == installed
    (tmp_path / "other" / "segstudy" / "_shipped").mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "other" / "segstudy")
    assert (shipped.alone(tmp_path / "work") / "segstudy").resolve() == tmp_path / "other/segstudy"


def test_defaults_fill_in_what_is_not_said(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "study: demo\npath: null\nlimits: {memory_mb: 1, runtime_min: 2}\n"
    )
    config = {"path": "here", "limits": {"memory_mb": 5}, "only": ""}
    fill_in(config, tmp_path / "a.yaml")
    limits = {"memory_mb": 5, "runtime_min": 2}
    assert config == {"study": "demo", "path": "here", "limits": limits, "only": ""}
