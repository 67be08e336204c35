"""The study file of the zip: the user's own, read again as it is, by today's names and without paths."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from segstudy import plugins, source_code
from segstudy.errors import InputError
from segstudy.jobs.partial import finished_part
from segstudy.jobs.results import ResultPaths
from segstudy.publish.redaction import settings_yaml
from segstudy.publish.settings_file import REMARK_WITHHELD, write_resolved, write_settings
from segstudy.study import Study, read_study

STUDIES = sorted((Path(__file__).resolve().parents[3] / "config/studies").glob("*.yaml"))
TELLS = re.compile("jane").search


def written(path: Path, folder: Path, names=None) -> tuple[str, Study, list[str]]:
    """The text that is published of a study file, what it reads as, and what is to be filled in."""
    study = read_study(path)
    gaps = write_settings(folder / "settings.yaml", study, path, TELLS, names)
    text = (folder / "settings.yaml").read_text(encoding="utf-8")
    return text, read_study(folder / "settings.yaml"), gaps


def without_paths(study: Study) -> dict:
    content = study.model_dump(exclude={"schema_version"})
    for dataset in content["datasets"].values():
        dataset["source"].pop("path", None)
    return content


def remarks(text: str) -> list[str]:
    """Remarks that have a line of their own, but for the one that only editors read."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line.startswith("#") and "yaml-language-server" not in line]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_come_back_as_they_are(path, tmp_path, caplog):
    text, study, gaps = written(path, tmp_path)
    assert study == read_study(path)
    assert not gaps
    assert remarks(text) == remarks(path.read_text())
    assert study.name == path.stem
    assert not caplog.records


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_resolved_settings_of_shipped_studies_are_a_study_file_too(path, tmp_path):
    study = read_study(path)
    (tmp_path / "settings.yaml").write_text(settings_yaml(study), encoding="utf-8")
    assert read_study(tmp_path / "settings.yaml") == study


DATA = """
datasets:
  chest: {source: {layout: table, path: cohort.tsv}, modality: CT, structures: {heart: 1, aorta: 2}}
"""
MODELS = "models: {flat: {network: unet, dims: 2}}\n"
WRITTEN = {
    "a grid search": DATA
    + """
models:
  flat: {network: unet, dims: 2}
  deep:
    network: unet
    grid_search: {channels: [[8, 16], [16, 32]], head.hidden: [16, 32], optimizer.lr: [0.1, 1.0e-3]}
statistics: {compare: [[flat, deep_c8_h16_lr0p1]]}
""",
    "quick": DATA + MODELS + "quick: true\n",
    "quick with a grid search": DATA
    + "quick: true\nmodels: {deep: {network: unet, grid_search: {channels: [[8, 16], [16, 99]]}}}\n",
    "merged keys": DATA
    + """
models:
  flat: &flat {network: unet, dims: 2, optimizer: &slow {name: adamw, lr: 0.001}}
  again: {<<: *flat, epochs: 3}  # shorter
  deep:
    <<: *flat
    dims: 3
    optimizer: {<<: *slow, lr: 0.01}
""",
    "merged datasets": """
datasets:
  a: &a
    source: &s {layout: bids, path: &p ../scans}
    modality: MR
    structures: &names {heart: 1}
  b: {<<: *a, role: test}
  c: {source: {<<: *s, suffixes: [T2w]}, modality: MR, structures: *names, role: test}
  d: {source: {layout: bids, path: *p}, modality: MR, structures: *names, role: test}
"""
    + MODELS,
    "fetched": """
datasets:
  far:
    source:
      layout: msd
      url: https://example.org/jane/x.tar   # ours
      sha256: %s
    modality: MR
    structures: {heart: 1}
"""
    % ("a1" * 32)
    + MODELS,
    "registered": """
datasets:
  t: {source: {layout: msd, registered: Task04_Hippocampus}, modality: MR, structures: {anterior: 1, posterior: 2}}
"""
    + MODELS,
    "registered, and on disk": """
datasets:
  t:
    source: {layout: msd, registered: Task04_Hippocampus, path: /data/jane}
    modality: MR
    structures: {anterior: 1, posterior: 2}
"""
    + MODELS,
    "programs": DATA
    + """
models:
  words: {trainer: external, command: [/home/jane/run, --in, "{image}", --to, "{output}"], labels: {heart: 1, aorta: 2}}
  line:
    trainer: external
    command: >-
      /home/jane/run.sh "{image}" {output}
    labels: {heart: [1, 3], aorta: 2}
  lines:
    trainer: external
    command:
    # what it is
    - /home/jane/run
    - "{image}"   # in
    - "{output}"  # out
    labels: {heart: 1, aorta: 2}
  nnunet: {trainer: nnunet, configuration: 2d}
""",
    "in braces": '{"name": "n1", "datasets": {"chest": {"source": {"layout": "table", "path": "x.tsv"}, "modality": '
    '"CT", "structures": {"heart": 1}}}, "models": {"flat": {"network": "unet", "dims": 2}}}',
    "set in": "  # head\n  title: |\n    Hearts\n  description: 'It''s #1'\n"
    + "".join(f"  {line}\n" for line in (DATA + MODELS).splitlines()),
    "words with signs": 'title: "a: b # c \\" \u00fc"\ndescription: >+\n  one\n\n  two\n\n'
    + DATA
    + MODELS,
    "a name that is no text": "name: 'on'\n" + DATA + MODELS,
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_people_write_comes_back_as_it_is(what, tmp_path, caplog):
    path = tmp_path / "my study.yaml"
    path.write_text(WRITTEN[what], encoding="utf-8")
    text, study, _ = written(path, tmp_path)
    before = read_study(path)
    assert study.name == before.name
    commands = {
        name: model.command for name, model in study.models.items() if hasattr(model, "command")
    }
    told, kept = without_paths(study), without_paths(before)
    for content in (told, kept):
        for dataset in content["datasets"].values():
            dataset["source"].pop("url", None)
        for name in commands:
            content["models"][name].pop("command")
    assert told == kept
    assert "jane" not in text and "scans" not in text
    assert not caplog.records  # edited, not written anew
    assert yaml.safe_load(text)["schema_version"] == 2
    # A rerun's zip has the same file: nothing is left to be changed.
    (tmp_path / "again").mkdir()
    assert written(tmp_path / "settings.yaml", tmp_path / "again")[0] == text


@pytest.mark.parametrize("what", WRITTEN)
def test_resolved_settings_are_a_study_file_too(what, tmp_path):
    path = tmp_path / "my study.yaml"
    path.write_text(WRITTEN[what], encoding="utf-8")
    study = read_study(path)
    write_settings(tmp_path / "settings.yaml", study, path, TELLS)
    resolved = tmp_path / "settings.resolved.yaml"
    write_resolved(resolved, study, tmp_path / "settings.yaml")
    again = read_study(resolved)
    for name, model in study.models.items():
        if not hasattr(model, "command"):
            assert again.models[name] == model
    assert again.grids == study.grids
    assert (again.splits, again.metrics, again.statistics) == (
        study.splits, study.metrics, study.statistics
    )  # fmt: skip


def test_resolved_settings_of_a_part_name_what_is_done_alone(tmp_path):
    """One model of a grid search is not done: the others stand by themselves."""
    path = tmp_path / "x.yaml"
    path.write_text(WRITTEN["quick with a grid search"])
    study = read_study(path)
    results = ResultPaths(tmp_path / "results")
    weights = Path(results.training("deep_c16", 0, 0)) / "weights.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    part = finished_part(study, results, list(study.models))
    write_settings(tmp_path / "settings.yaml", part, path, TELLS)
    write_resolved(tmp_path / "settings.resolved.yaml", part, tmp_path / "settings.yaml")
    again = read_study(tmp_path / "settings.resolved.yaml")
    assert list(again.models) == ["deep_c16"] and again.folds == [0]
    assert list(read_study(tmp_path / "settings.yaml").models) == ["deep_c8", "deep_c16"]


def test_what_is_to_be_filled_in_is_listed(tmp_path):
    path = tmp_path / "x.yaml"
    for what, gaps in {
        "merged datasets": [
            "`datasets.a.source.path` is the folder of dataset a",
            "`datasets.b.source.path` is the folder of dataset a",
            "`datasets.c.source.path` is the folder of dataset a",
            "`datasets.d.source.path` is the folder of dataset a",
        ],
        "fetched": ["`datasets.far.source.url` is the archive of dataset far"],
        "registered": [],
        "registered, and on disk": ["`datasets.t.source.path` is the folder of dataset t"],
        "quick": ["`datasets.chest.source.path` is the case table of dataset chest"],
    }.items():
        path.write_text(WRITTEN[what], encoding="utf-8")
        assert written(path, tmp_path)[2] == gaps, what
    path.write_text(WRITTEN["programs"], encoding="utf-8")
    commands = yaml.safe_load(written(path, tmp_path)[0])["models"]
    assert commands["words"]["command"] == ["run", "--in", "{image}", "--to", "{output}"]
    assert commands["line"]["command"] == ["run.sh", "{image}", "{output}"]
    assert commands["lines"]["command"] == ["run", "{image}", "{output}"]


def test_data_given_on_the_command_line_leave_no_gap(tmp_path):
    """`--config path=DIR` is no part of the study file: what it says, the registry, is what others use."""
    (tmp_path / "x.yaml").write_text(WRITTEN["registered"])
    study = read_study(tmp_path / "x.yaml", source_path="/data/jane")
    gaps = write_settings(tmp_path / "settings.yaml", study, tmp_path / "x.yaml", TELLS)
    assert not gaps and "jane" not in (tmp_path / "settings.yaml").read_text()


OLD = (
    DATA.replace("structures:", "ignore_labels: [9], structures:")
    + """
models:
  base: &base
    network: unet
    foreground_share: 0.5          # of patches
    augmentation: {noise_share: 0.9, preset: strong}
  more: {<<: *base, epochs: 3}
  search:
    network: unet
    grid: {augmentation.noise_share: [0.1, 0.2], foreground_share: [0.3]}
  values:
    network: unet
    grid: {augmentation: [{noise_share: 0.1}, {preset: strong, noise_share: 0.2}]}
"""
)


def test_old_names_come_out_as_todays(tmp_path, caplog):
    path = tmp_path / "old.yaml"
    path.write_text(OLD)
    before = read_study(path)
    assert len(caplog.records) == 4
    caplog.clear()
    text, study, _ = written(path, tmp_path)
    assert len(caplog.records) == 4  # of reading `old.yaml` here
    assert without_paths(study) == without_paths(before)
    assert not re.search("share|ignore_labels|grid:", text)
    assert "foreground_fraction: 0.5          # of patches" in text
    assert (
        "grid_search: {augmentation.noise_probability: [0.1, 0.2], foreground_fraction: [0.3]}"
        in text
    )
    caplog.clear()
    read_study(tmp_path / "settings.yaml")
    assert not caplog.records


def test_remarks_that_tell_something_are_left_out(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "# yaml-language-server: $schema=x\n# of jane\n# kept\n"
        + DATA
        + MODELS
        + "# jane # again\n"
        "statistics: {alpha: 0.1}  # jane\ndescription: | # jane\n  words\n"
    )
    text = written(path, tmp_path)[0]
    assert text.startswith(f"{REMARK_WITHHELD}\n# kept\n")
    assert "jane" not in text and "yaml-language-server" not in text
    assert f"statistics: {{alpha: 0.1}}  {REMARK_WITHHELD}" in text
    assert text.count(REMARK_WITHHELD) == 4


OWN = """
datasets:
  chest: {source: {layout: parts/by_site.py, path: scans}, modality: CT, structures: {heart: 1, aorta: 2}}
models:
  own: &own
    network: parts/residual_net.py   # ours
    options: {width: 16}
    loss: {dice: 0.5, cross_entropy: 0, plugins: {./other/tversky_loss.py: 0.5}}
    augmentation: {plugins: [parts/cutout.py]}
  again: {<<: *own, epochs: 3}
  searched: {network: parts/residual_net.py:Network, grid_search: {options.width: [8, 16]}}
metrics: {plugins: [./parts/surface_bias.py]}
publish: {figures: [./parts/size_and_dice.py]}
"""


@pytest.mark.parametrize("names", [None, {"cases": {}, "subjects": {}}])
def test_own_parts_go_along_and_are_named_where_they_lie_then(names, tmp_path, caplog):
    parts = Path(__file__).resolve().parents[3] / "resources/plugins"
    home = tmp_path / "home"
    shutil.copytree(parts, home / "parts")
    (home / "other").mkdir()
    (home / "parts/tversky_loss.py").rename(home / "other/tversky_loss.py")
    path = home / "own.yaml"
    path.write_text(OWN)
    before = read_study(path)
    (tmp_path / "zip").mkdir()
    write_settings(tmp_path / "zip/settings.yaml", before, path, TELLS, names)
    write_resolved(tmp_path / "zip/settings.resolved.yaml", before, tmp_path / "zip/settings.yaml")
    text = (tmp_path / "zip/settings.yaml").read_text()
    assert ('network: "plugins/residual_net.py"   # ours' in text) == (names is None)
    assert "parts" not in text and "other" not in text
    shutil.rmtree(home)
    for name in ("settings.yaml", "settings.resolved.yaml"):
        after = read_study((tmp_path / "zip") / name)
        assert after.plugin_provenance() == before.plugin_provenance()
        assert len(set(after.plugin_provenance().values())) == 7
        assert list(after.models) == list(before.models)
        assert after.models["own"].loss.dice == 0.5
        assert list(after.models["own"].loss.plugins.values()) == [0.5]
    copied = {str(file.relative_to(tmp_path / "zip")) for file in tmp_path.rglob("*.py")}
    folders = sorted(file.split("/")[0] for file in copied)
    assert folders == ["plugins"] * 5 + ["plugins_2"] and "plugins_2/tversky_loss.py" in copied
    for file in copied:
        source = (parts / Path(file).name).read_bytes()
        published = source_code.bare(source) if names else source
        assert (tmp_path / "zip" / file).read_bytes() == published
    assert not caplog.records


TELLING = """# by jane
class Network:
    '''A network
    of jane.'''

    width = 8  # jane again, and nobody
"""


def test_code_that_tells_something_is_warned_of_or_goes_bare(tmp_path, caplog):
    """Its author named herself in remarks; in a text of the code itself, nothing can be left out."""
    (tmp_path / "net.py").write_text(TELLING)
    path = tmp_path / "x.yaml"
    path.write_text(DATA + "models: {own: {network: net.py}}\n")
    names = {"cases": {}, "subjects": {}}
    told = {name: tmp_path / name for name in ("plain", "anonymous", "refused")}
    for folder in told.values():
        folder.mkdir()
    write_settings(told["plain"] / "settings.yaml", read_study(path), path, TELLS)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split("net.py, ")[1].split(": ")[0] for line in lines] == [
        "line 1", "line 4", "line 6",
    ]  # fmt: skip
    assert "goes into the zip as it is" in lines[0]
    assert (told["plain"] / "plugins/net.py").read_text() == TELLING

    caplog.clear()
    write_settings(told["anonymous"] / "settings.yaml", read_study(path), path, TELLS, names)
    code = (told["anonymous"] / "plugins/net.py").read_text()
    assert "jane" not in code and "width = 8" in code
    assert not caplog.records

    (tmp_path / "net.py").write_text(TELLING + "    place = '/data/jane'\n")
    plugins.digest.cache_clear()
    with pytest.raises(InputError, match=r"net\.py, line 7: tells a path or a name: '/data/jane'"):
        write_settings(told["refused"] / "settings.yaml", read_study(path), path, TELLS, names)


NAMESAKES = """
datasets:
  chest: {source: {layout: table, path: scans.tsv}, modality: CT, structures: {heart: 1, aorta: 2}}
models:
  narrow: {network: a/net.py, loss: {dice: 1, cross_entropy: 0, plugins: {b/net.py:loss: 0.5}}}
  wide: {network: b/net.py, grid_search: {options.width: [8, 16]}}
  same: {network: c/net.py}
  by_grey_value: {trainer: ./grey_values.py, options: {bin_width: 20.0}}
"""
_NET = "WIDTH = %d\nclass Network:\n    pass\ndef loss(logits, labels):\n    return logits.sum()\n"


@pytest.mark.parametrize("is_known", [True, False], ids=["study file", "settings alone"])
def test_code_of_one_file_name_in_two_folders_is_told_apart(is_known, tmp_path, monkeypatch):
    """Of three `net.py` two are alike; a trainer of one's own, which has no network, goes along."""
    home, top = tmp_path / "home", tmp_path / "zip"
    for folder, width in {"a": 1, "b": 2, "c": 1}.items():
        (home / folder).mkdir(parents=True)
        (home / folder / "net.py").write_text(_NET % width)
    parts = Path(__file__).resolve().parents[3] / "resources/plugins"
    shutil.copy(parts / "grey_values.py", home)
    (home / "own.yaml").write_text(NAMESAKES)
    before = read_study(home / "own.yaml")
    top.mkdir()
    monkeypatch.chdir(home)
    write_settings(top / "settings.yaml", before, home / "own.yaml" if is_known else None, TELLS)
    write_resolved(top / "settings.resolved.yaml", before, top / "settings.yaml")
    shutil.rmtree(home / "a")
    monkeypatch.chdir(tmp_path)
    for name in ("settings.yaml", "settings.resolved.yaml"):
        models = read_study(top / name).models
        code = {key: Path(models[key].network_plugin).read_text() for key in ("narrow", "same")}
        assert code == {"narrow": _NET % 1, "same": _NET % 1}
        for key in ("wide_w8", "wide_w16"):
            assert Path(models[key].network_plugin).read_text() == _NET % 2
        loss = next(iter(models["narrow"].loss.plugins)).removesuffix(":loss")
        assert Path(loss).read_text() == _NET % 2
        trainer = models["by_grey_value"]
        assert Path(trainer.trainer_plugin).read_bytes() == (home / "grey_values.py").read_bytes()
        assert trainer.options == {"bin_width": 20.0}
        assert "network" not in yaml.safe_load((top / name).read_text())["models"]["by_grey_value"]


def test_resolved_settings_that_say_something_else_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    path.write_text(DATA + MODELS)
    study = read_study(path)
    write_settings(tmp_path / "settings.yaml", study, path, TELLS)
    faulty = settings_yaml(study).replace("folds: 5", "folds: 4")
    assert faulty != settings_yaml(study)
    monkeypatch.setattr("segstudy.publish.settings_file.settings_yaml", lambda *given: faulty)
    with pytest.raises(InputError, match="reads as the study that ran: splits would be other"):
        write_resolved(tmp_path / "settings.resolved.yaml", study, tmp_path / "settings.yaml")


def test_under_other_names_no_remark_is_kept(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "# by A. Author\n"
        + DATA.replace("modality", "repair: {structure: heart, reference_case: p1}, modality")
        + MODELS
    )
    names = {"cases": {"p1": "case_002"}, "subjects": {}}
    study = read_study(path)
    repair = study.datasets["chest"].repair.model_copy(update={"reference_case": "case_002"})
    chest = study.datasets["chest"].model_copy(update={"repair": repair})
    renamed = study.model_copy(update={"datasets": {"chest": chest}})
    gaps = write_settings(tmp_path / "settings.yaml", renamed, path, TELLS, names)
    text = (tmp_path / "settings.yaml").read_text()
    assert "#" not in text and "p1" not in text
    assert gaps[1] == "`datasets.chest.repair.reference_case` is the name of a case"
    assert read_study(tmp_path / "settings.yaml").datasets["chest"].repair == repair


def test_a_study_file_that_was_changed_since_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(DATA + MODELS)
    study = read_study(path)
    path.write_text(DATA + MODELS + "statistics: {alpha: 0.01}\n")
    with pytest.raises(InputError, match=r"x\.yaml: statistics: says something else than the"):
        write_settings(tmp_path / "settings.yaml", study, path, TELLS)


def test_a_text_that_cannot_be_edited_is_written_anew(tmp_path, caplog):
    """One word stands for a path and, by its alias, for something else, which must stay."""
    path = tmp_path / "x.yaml"
    path.write_text(
        "# head\ndatasets:\n  chest: {source: {layout: bids, path: &x scans, pipeline: *x}, modality: MR, "
        "structures: {a: 1}}\n" + MODELS
    )
    text, study, _ = written(path, tmp_path)
    assert study.datasets["chest"].source.pipeline == "scans"
    source = yaml.safe_load(text)["datasets"]["chest"]["source"]
    assert source["path"] == "the folder of dataset chest"
    assert "layout and remarks are not kept" in caplog.text and "#" not in text
