"""What `segstudy run`, `new` and `study` say and do before Snakemake starts."""

import os
import sys

import pytest
import yaml

from builders import tiny_study, write_cohort
from segstudy import gpus, results_owner, shipped
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.jobs import machine
from segstudy.jobs.command import FLAGS, config_of, option_values, snakemake_command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, with nothing of the user's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """The commands that took the place of this process, as far as they were asked to."""
    found = []
    monkeypatch.setattr(os, "execv", lambda program, words: found.append((program, words)))
    return found


def write_study(folder, **changes):
    """A study file in `my/`, with a table of two cases beside it."""
    (folder / "my").mkdir()
    write_cohort(folder / "my", 2, moved=False)
    study = tiny_study("cohort.tsv", moved=False)
    file = folder / "my" / "first look.yaml"
    file.write_text(yaml.safe_dump({**study, **changes}))
    return file


SHIPPED = ["snakemake", "--snakefile", str(shipped.SNAKEFILE)]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], ["--cores", "3", "--config", "study=a.yaml"]),
        (["-n"], ["-n", "--cores", "3", "--config", "study=a.yaml"]),
        (["train", "-c4"], ["train", "-c4", "--config", "study=a.yaml"]),
        (["-n", "--cores=all"], ["-n", "--cores=all", "--config", "study=a.yaml"]),
        (
            ["--config", "only=x", "-n"],
            ["--config", "study=a.yaml", "only=x", "-n", "--cores", "3"],
        ),
        (["-j", "2", "--", "train"], ["-j", "2", "--config", "study=a.yaml", "--", "train"]),
        (
            ["--partial", "-n"],
            ["-n", "--cores", "3", "--config", "study=a.yaml", "partial=true"],
        ),
        (["--profile", "theirs"], ["--profile", "theirs", "--config", "study=a.yaml"]),
        (["-nc4", "train"], ["-nc4", "train", "--config", "study=a.yaml"]),
        (["--core=4"], ["--core=4", "--config", "study=a.yaml"]),
        (
            ["-n", "--config=only=x", "train"],
            ["-n", "train", "--cores", "3", "--config", "study=a.yaml", "only=x"],
        ),
        (["-nConly=x"], ["-n", "--cores", "3", "--config", "study=a.yaml", "only=x"]),
    ],
)
def test_the_plain_command_keeps_what_the_user_says(folder, words, command):
    assert snakemake_command("a.yaml", words, 3, 0) == [*SHIPPED, *command]


WAYS = [
    *(
        ["-dX"],
        ["-d=X"],
        ["-d", "X"],
        ["-nd", "X"],
        ["-pndX"],
        ["--directory=X"],
        ["--direct", "X"],
    ),
    *(["-d", "Y", "-dX"], ["-q", "all", "-dX"], ["-n"], ["--", "-dX"]),
    *(["-Ca=b", "train"], ["-nCa=b"], ["--config=a=b", "c=d"], ["-C", "a=b", "c=d", "-n", "train"]),
    *(["--config", "a=b", "--config", "c=d"], ["--configfile", "X", "--config", "c=d"]),
]


@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_options_are_read_as_snakemake_reads_them(folder, words):
    """Its own parser is asked."""
    from snakemake.cli import get_argument_parser

    theirs = get_argument_parser().parse_args(words)
    found = option_values(words, "--directory", "-d")[:1]
    assert found == ([str(theirs.directory)] if theirs.directory else [])
    assert option_values(words, "--config", "-C") == list(theirs.config or [])
    ours = get_argument_parser().parse_args(snakemake_command("s.yaml", words, 1, 0)[3:])
    assert list(ours.config) == ["study=s.yaml", *(theirs.config or [])]
    assert (ours.directory, ours.targets) == (theirs.directory, theirs.targets)


def test_letters_that_take_no_value_are_snakemakes():
    from snakemake.cli import get_argument_parser

    actions = get_argument_parser()._actions
    flags = {name[1] for own in actions if own.nargs == 0 for name in own.option_strings}
    assert set(FLAGS) == flags - {"-"}


def test_one_training_a_gpu_at_a_time_where_jobs_run_here(folder):
    assert snakemake_command("a.yaml", [], 3, 2)[3:7] == ["--cores", "3", "--resources", "gpu=2"]
    assert "gpu=2" not in snakemake_command("a.yaml", ["--profile", "slurm"], 3, 2)
    own = snakemake_command("a.yaml", ["--resources", "gpu=1"], 3, 2)
    assert own[3:5] == ["--resources", "gpu=1"] and "gpu=2" not in own


def test_a_profile_of_the_environment_is_one_too(folder, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "cluster")
    assert snakemake_command("a.yaml", [], 3, 2) == [*SHIPPED, "--config", "study=a.yaml"]


def test_in_the_repository_itself_snakemake_finds_the_workflow(monkeypatch):
    monkeypatch.chdir(shipped.ROOT)
    assert snakemake_command("demo", [], 1, 0)[:2] == ["snakemake", "--cores"]


@pytest.mark.parametrize("words", [["--profile", "slurm"], ["--profile=slurm"]])
def test_the_profile_slurm_is_ours_unless_the_user_has_one(folder, words):
    ours = str(shipped.PROFILES / "slurm")
    assert ours in " ".join(snakemake_command("a.yaml", words, 1, 0))
    (folder / "slurm").mkdir()  # a folder of logs, say, and no profile
    assert ours in " ".join(snakemake_command("a.yaml", words, 1, 0))
    assert main(["new", "--profile", "slurm"]) == 0
    assert ours not in " ".join(snakemake_command("a.yaml", words, 1, 0))
    (folder / "slurm/config.yaml").unlink()
    at_home = folder / "home" / "snakemake" / "slurm"
    at_home.mkdir(parents=True)
    (at_home / "config.v9+.yaml").write_text("jobs: 1\n")
    assert ours not in " ".join(snakemake_command("a.yaml", words, 1, 0))


@pytest.mark.parametrize(
    "name",
    ["a b/s.yaml", "[x].yaml", "Müller^A (1).yaml", "a=b.yaml", "a #1/s.yaml", "a: b.yaml", "{x}"],
)
def test_snakemake_reads_the_name_of_the_study_back(folder, name):
    """Its own parser is asked; it takes values of --config for YAML."""
    from snakemake.cli import parse_config

    try:
        setting = snakemake_command(name, [], 1, 0)[-1]
    except InputError as error:
        assert f"{name}: Snakemake would read this path as" in str(error)
        assert parse_config([f"study={name}"]) != {"study": name}
    else:
        assert parse_config([setting]) == {"study": name}


def test_config_is_what_the_workflow_will_see(folder):
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text("results: here\nlimits: {memory_mb: 7}\n")
    (folder / "more.yaml").write_text("keep_finished_gb: 3\nresults: there\n")
    words = [
        "-n",
        "--configfile",
        "more.yaml",
        "--config",
        "adopt=true",
        "path={a: b}",
        "--forceall",
    ]
    found = config_of("a.yaml", words)
    assert (found["results"], found["keep_finished_gb"], found["adopt"]) == ("there", 3, True)
    assert found["path"] == {"a": "b"} and found["only"] == ""
    assert found["limits"] == {"memory_mb": 7, "runtime_min": 2880}


def test_a_run_becomes_snakemake_and_prints_its_command(folder, started, capsys):
    write_study(folder)
    assert main(["run", "my/first look.yaml", "-n", "train"]) == 0
    [(program, words)] = started
    assert program == sys.executable and words[:3] == [sys.executable, "-m", "snakemake"]
    assert words[-1] == "study=my/first look.yaml" and {"-n", "train"} <= set(words)
    assert capsys.readouterr().err.startswith(f"snakemake --snakefile {shipped.SNAKEFILE} -n train")


def test_with_a_directory_the_study_is_still_found(folder, started):
    file = write_study(folder)
    (folder / "scratch").mkdir()
    for words in (["-d", "scratch"], ["-dscratch"], ["--directory=scratch"], ["-ndscratch"]):
        assert main(["run", "my/first look.yaml", *words]) == 0
        assert started.pop()[1][-1] == f"study={file}"
    assert main(["run", "my/first look.yaml", "-d", "none"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["my/none.yaml"], "my/none.yaml: no such study file"),
        (["my/first look.yaml", "--config", "only=deeper"], "only: deeper: no such model"),
        (["my/first look.yaml", "--config", "study=demo"], "the study is named already"),
        (["my/first look.yaml", "--config", "adopt=maybe"], "adopt: 'maybe'; expected true or"),
        (["my/first look.yaml", "--config", "keep_finished_gb=much"], "keep_finished_gb: 'much'"),
    ],
)
def test_a_mistake_is_one_sentence_and_starts_nothing(folder, started, capsys, words, message):
    write_study(folder)
    assert main(["run", *words]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("segstudy: error: ") and message in told[0]
    assert started == []


def test_results_of_another_study_are_refused_before_the_start(folder, started, capsys):
    write_study(folder, name="same")
    (folder / "results/same").mkdir(parents=True)
    (folder / "results/same/study.json").write_text(
        '{"file": "/other.yaml", "from_results": "x", "data": {"chest": "0"}}'
    )
    assert main(["run", "my/first look.yaml"]) == 1
    assert main(["run", "my/first look.yaml", "--config", "adopt=false"]) == 1
    told = capsys.readouterr().err
    assert told.count("holds the results of /other.yaml") == 2 and started == []
    assert main(["run", "my/first look.yaml", "--config", "adopt=true"]) == 0


@pytest.mark.parametrize("command", ["run", "study"])
def test_all_mistakes_of_a_table_are_told_at_once_and_grouped(folder, started, capsys, command):
    write_study(folder)
    rows = "".join(f"c{n}\ts\tgone/{n}.nii.gz\tp0_label.nii.gz\n" for n in range(24))
    twice = "p0\ts\tp0.nii.gz\tp0_label.nii.gz\n" * 2
    (folder / "my/cohort.tsv").write_text("case\tsubject\timage\tlabel\n" + rows + twice)
    assert main([command, "my/first look.yaml"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and started == []
    assert (
        f"24 files in {os.path.join('my', 'gone')}: no such file: 0.nii.gz, 1.nii.gz, 10.nii.gz and 21 more; its folder"
        in told[0]
    )
    assert "the name stands 2 times" in told[1]


def test_where_bad_cases_are_dropped_a_missing_file_stops_nothing(folder, started):
    file = write_study(folder)
    write_cohort(folder / "my", 3, moved=False)
    study = yaml.safe_load(file.read_text())
    study["datasets"]["chest"]["on_bad_case"] = "drop"
    file.write_text(yaml.safe_dump(study))
    (folder / "my/p1.nii.gz").unlink()
    assert main(["run", str(file)]) == 0 and len(started) == 1


def test_a_missing_table_is_told(folder, capsys):
    write_study(folder)
    (folder / "my/cohort.tsv").unlink()
    for command in ("study", "run"):
        assert main([command, "my/first look.yaml"]) == 1
        assert "datasets.chest.source.path: my/cohort.tsv: no such table" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "preview"])
@pytest.mark.parametrize("lacks", ["permission", "programs"])
def test_a_place_where_snakemake_cannot_start_is_told_in_a_sentence(
    folder, started, monkeypatch, capsys, command, lacks
):
    write_study(folder)
    if lacks == "programs":
        monkeypatch.setenv("PATH", "")
        expected = "bash and which: not on the PATH ()"
    else:
        access = os.access
        may_not = {folder, folder / ".snakemake"}
        monkeypatch.setattr(
            os, "access", lambda path, how: path not in may_not and access(path, how)
        )
        expected = f"{folder}: no file can be written there"
    assert main([command, "my/first look.yaml"]) == 1 and started == []
    assert f"segstudy: error: {expected}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run", "demo", "-n"], ["status", "demo"], ["new"]])
def test_a_working_directory_that_is_gone_is_told_in_a_sentence(folder, monkeypatch, capsys, words):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert main(words) == 1
    assert "the working directory is not there any more" in capsys.readouterr().err


# --- new ----------------------------------------------------------------------------------------


def test_a_new_study_runs_once_the_table_has_rows(folder, started, capsys, caplog):
    assert main(["new", "mine/study.yaml"]) == 0
    assert main(["run", "mine/study.yaml"]) == 1
    assert "cases.tsv: no row below the header" in capsys.readouterr().err
    write_cohort(folder / "mine", 2, moved=False).replace(folder / "mine/cases.tsv")
    for command in ("study", "run", "preview"):
        assert main([command, "mine/study.yaml"]) == 1
        told = capsys.readouterr().err
        assert "datasets mine: 5 folds for 2 subjects to train on" in told and not started
        assert "set splits.folds to 2 or less" in told
    write_cohort(folder / "mine", 5, moved=False).replace(folder / "mine/cases.tsv")
    assert main(["study", "mine/study.yaml"]) == 0
    assert "2 of 5 folds are run, so that about 2/5 of" in caplog.text
    assert main(["run", "mine/study.yaml"]) == 0
    assert len(started) == 1


def test_nothing_is_written_over(folder, capsys):
    (folder / "cases.tsv").write_text("case\tmine\n")
    assert main(["new"]) == 0
    for words in (["new"], ["new", "study"], ["new", "a.yaml", "--profile", "slurm"]):
        assert main(words) == 1
    assert (folder / "cases.tsv").read_text() == "case\tmine\n"
    assert main(["new", "--profile", "slurm"]) == 0 and main(["new", "--profile", "slurm"]) == 1
    assert main(["new", "--profile", "slum"]) == 1
    assert "segstudy has slurm" in capsys.readouterr().err
    ours = shipped.PROFILES / "slurm/config.yaml"
    assert (folder / "slurm/config.yaml").read_bytes() == ours.read_bytes()


def test_two_studies_that_would_share_a_file_of_folds_are_refused(folder, started, capsys):
    file = write_study(folder)
    twin = file.with_suffix(".yml")
    twin.symlink_to(file)
    assert main(["run", str(file), "-n"]) == 0
    twin.unlink()
    twin.write_text(file.read_text())
    started.clear()
    for words in (
        ["run", str(file)],
        ["run", str(twin)],
        ["study", str(twin)],
        ["preview", str(file)],
    ):
        assert main(words) == 1
        assert "both would keep their folds in first look.splits.tsv" in capsys.readouterr().err
    assert not started
    assert main(["new", str(folder / "my/other.yml")]) == 0
    assert main(["new", str(folder / "my/other.yaml")]) == 1


@pytest.mark.parametrize("second", ["first_look.yaml", "other.yaml"])
def test_two_studies_of_one_folder_with_the_same_name_are_told_apart(
    folder, started, capsys, second
):
    """The second would overwrite the first one's results."""
    first = write_study(folder, **({} if second == "first_look.yaml" else {"name": "first_look"}))
    results_owner.record("results/first_look", first, {"chest": "0"})
    study = {**yaml.safe_load(first.read_text()), "name": "first_look"}
    other = first.with_name(second)
    other.write_text(yaml.safe_dump({**study, "splits": {"folds": 2, "seed": 3}}))
    assert main(["run", str(other)]) == 1
    assert "has the same name and other" in capsys.readouterr().err and not started
    assert main(["run", str(first)]) == 0


def test_folds_are_dealt_afresh_where_that_is_asked(folder, capsys):
    file, kept = write_study(folder), folder / "my" / "first look.splits.tsv"
    kept.write_text("subject\tfold\np0\t1\n")
    assert main(["new", "--splits", str(file)]) == 0
    assert kept.read_text() == "subject\tfold\n"
    assert main(["new", "--splits", "demo"]) == 0
    assert (folder / "results/demo/demo.splits.tsv").read_text() == "subject\tfold\n"
    assert main(["new", "a.yaml", "--splits", str(file)]) == 1
    assert "a study file (a.yaml) and --splits" in capsys.readouterr().err


# --- the machine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "visible", "count"),
    [
        (["nvidia0", "nvidia1"], "1,5,0", 1),
        (["nvidia0"], "MIG-a,MIG-b", 2),
        ([], None, 0),
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], None, 2),
        (["nvidia0", "nvidia1"], "1", 1),
        (["nvidia0"], "", 0),
        (["nvidia0"], "-1", 0),
        (["kfd"], None, 0),
        (["kfd", "nvidia0"], None, 1),
        (["dxg"], None, 0),
    ],
)
def test_gpus_are_counted_by_their_device_files(tmp_path, monkeypatch, devices, visible, count):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in devices:
        (tmp_path / name).touch()
    assert len(gpus.visible(tmp_path)) == count


def test_caches_go_elsewhere_where_the_home_takes_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert machine.cache_variables(tmp_path / "instead") == {}
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert machine.cache_variables(tmp_path / "instead") == {
        "XDG_CACHE_HOME": str(tmp_path / "instead")
    }


def test_a_run_without_a_home_says_where_caches_go(folder, started, monkeypatch, capsys):
    (folder / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    assert main(["run", str(write_study(folder)), "-n"]) == 0
    assert capsys.readouterr().err.startswith(f"XDG_CACHE_HOME={folder}/.snakemake/cache snakemake")


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (
            "resutls=/tmp",
            "config: resutls: unknown key; did you mean results? there are study, results",
        ),
        ("results=", "config: results: None; expected a folder"),
        ("results=[1]", "config: results: [1]; expected a folder"),
        ("limits=3", "config: limits: 3; expected keys and values"),
        ("partial=ja", "config: partial: 'ja'; expected true or false"),
        ("partial=true", "partial: none of deep, flat is trained in any fold"),
    ],
)
def test_wrong_settings_of_a_run_are_one_sentence(folder, started, capsys, pair, told):
    assert main(["run", str(write_study(folder)), "-n", "--config", pair]) == 1
    assert told in capsys.readouterr().err
    assert not started


def test_a_file_of_settings_that_holds_none_is_told(folder, started, capsys):
    file = write_study(folder)
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text("- a\n")
    assert main(["run", str(file), "-n"]) == 1
    assert "config/config.yaml: a list or a word; expected keys" in capsys.readouterr().err
    (folder / "config/config.yaml").write_text("")
    assert main(["run", str(file), "-n"]) == 0


def test_a_wrong_file_of_folds_is_told_before_anything_runs(folder, started, capsys):
    file = write_study(folder)
    (folder / "my/first look.splits.tsv").write_text("subject\tfold\np0\t7\n")
    assert main(["run", str(file), "-n"]) == 1
    assert "first look.splits.tsv: row 2: subject 'p0' has fold '7'" in capsys.readouterr().err


def test_folds_are_dealt_afresh_where_the_results_lie(folder, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["new", "--splits", str(write_study(folder)), "--config", "results=other"]) == 0
    told = capsys.readouterr().out
    assert (folder / "other/first_look/first look.splits.tsv").is_file()
    assert told.endswith(f"then: segstudy preview '{folder}/my/first look.yaml'\n")


def test_the_cases_of_a_table_are_told_before_a_run(folder, capsys):
    file = write_study(folder)
    assert not main(["study", str(file), "--cases"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith(": 2 cases of 2 subjects")
    assert told[1].split("\t")[:2] == ["case", "subject"]
    assert len(told) == 4


def test_initial_weights_that_have_seen_a_tested_case_are_refused_before_a_run(
    folder, capsys, monkeypatch
):
    """As far as audit and splits have run; in a study that has done nothing yet, each training refuses them."""
    import torch

    from segstudy.cases import Case, Split, write_cases, write_splits
    from segstudy.networks import initial_weights
    from segstudy.networks.weights import FORMAT

    read, files = initial_weights.read_initial, []
    monkeypatch.setattr(
        initial_weights, "read_initial", lambda file: files.append(file) or read(file)
    )

    weights = {
        "format": FORMAT,
        "model": {"network": "unet"},
        "provenance": {"training": ["old/a"], "validation": [], "images": {"old/a": "seen"}},
        "state": {"w": torch.ones(1)},
    }
    file = write_study(folder)
    torch.save(weights, folder / "my" / "first.pt")
    content = yaml.safe_load(file.read_text())
    content["models"]["deep"]["initial_weights"] = "first.pt"
    content["models"]["twin"] = content["models"]["deep"]
    file.write_text(yaml.safe_dump(content))
    assert main(["study", str(file)]) == 0
    results = folder / "results" / "first_look"
    cases = [
        Case(f"p{n}", f"p{n}", (folder / "a.nii.gz",), folder / "b.nii.gz", checksum=checksum)
        for n, checksum in enumerate(["new", "seen"])
    ]
    dataset = next(iter(content["datasets"]))
    write_cases(results / "download" / dataset / "cases.tsv", cases, ["image"])
    write_splits(
        results / "preprocess" / "splits.tsv",
        [Split(dataset, c.case, c.subject, n) for n, c in enumerate(cases)],
    )
    capsys.readouterr()
    assert main(["run", str(file), "-n"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"was trained on the image of {dataset}/p1 (there old/a)" in told
    assert "models.deep.initial_weights: my/first.pt" in told
    assert len(files) == 1  # of two models


def test_what_initial_weights_cannot_give_is_told_before_a_run(folder, capsys):
    import torch

    from segstudy.networks.weights import FORMAT

    weights = {"format": FORMAT, "model": {"network": "unet"}, "provenance": {}}
    weights["state"] = {"encoder.0.0.weight": torch.ones(1), "heads.0.bias": torch.ones(1)}
    file = write_study(folder)
    content = yaml.safe_load(file.read_text())
    content["models"]["deep"] |= {"initial_weights": "first.pt", "freeze": ["encoder.0", "encodr"]}
    file.write_text(yaml.safe_dump(content))
    (folder / "my" / "first.pt").write_bytes(b"no weights")
    assert main(["run", str(file), "-n"]) == 1
    assert "my/first.pt: not readable as weights" in " ".join(capsys.readouterr().err.split())
    torch.save(weights, folder / "my" / "first.pt")
    assert main(["run", str(file), "-n"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "models.deep.freeze: encodr: no layer in first.pt has that name" in told
    assert "expected one of encoder, heads, or more of a name, e.g. encoder.0.0" in told


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"optimizer": {"lr_factors": {"encoder.0": 0.1, "encodr": 0.1}}}, "optimizer.lr_factors: encodr"),
        ({"initial_weights": "first.pt", "freeze": ["bottleneck"]}, "freeze: bottleneck"),
    ],
)  # fmt: skip
def test_layers_that_the_network_lacks_are_told_before_a_run(folder, capsys, changed, told):
    """With the names there are; the weights may be those of a network that has them."""
    import torch

    from segstudy.networks.weights import FORMAT

    weights = {"format": FORMAT, "model": {"network": "other"}, "provenance": {}}
    weights["state"] = {"bottleneck.weight": torch.ones(1), "encoder.0.0.weight": torch.ones(1)}
    file = write_study(folder)
    torch.save(weights, folder / "my" / "first.pt")
    content = yaml.safe_load(file.read_text())
    content["models"]["deep"] |= changed
    file.write_text(yaml.safe_dump(content))
    assert main(["run", str(file), "-n"]) == 1
    found = " ".join(capsys.readouterr().err.split())
    assert f"models.deep.{told}: no layer of this network has that name" in found
    assert "expected one of encoder, up, decoder, heads" in found


def test_initial_weights_that_are_not_there_are_named_with_their_place(folder, capsys):
    file = write_study(folder)
    content = yaml.safe_load(file.read_text())
    content["models"]["deep"]["initial_weights"] = "frist.pt"
    file.write_text(yaml.safe_dump(content))
    (folder / "my" / "first.pt").touch()
    assert main(["study", str(file)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "models.deep.initial_weights: my/frist.pt: no such file" in told
    assert "did you mean my/first.pt?" in told
